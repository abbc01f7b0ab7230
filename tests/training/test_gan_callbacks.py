"""The line, the numbered pictures and the sheet of the classic adversarial experiments."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from ganblocks.data import TensorBatches
from ganblocks.training import Callback, ConstantSchedule, StepContext, Trainer
from ganblocks.training.gan_callbacks import ConsoleLine, NumberedImages, RealBesideFake

REALS = torch.arange(11, dtype=torch.uint8).reshape(11, 1, 1, 1).expand(11, 1, 4, 4).contiguous() * 23
KEYS = ("discriminator_loss", "generator_loss", "real_probability", "fake_probability", "fake_probability_after")


class FixedStep:
    """Its values are the number of images seen, plus one tenth for each key."""

    def __call__(self, images: Tensor, labels: Tensor | None, context: StepContext) -> dict[str, Tensor]:
        return {key: torch.tensor(context.images_seen + index / 10) for index, key in enumerate(KEYS)}

    def state_dict(self) -> dict[str, Any]:
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        pass


class StopAt(Callback):
    def __init__(self, images_seen: int) -> None:
        self.images_seen = images_seen

    def on_step(self, trainer: Trainer, previous: int) -> None:
        if trainer.images_seen == self.images_seen:
            trainer.request_stop()


def run(run_dir: Path | None, *callbacks: Callback, epochs: int = 2) -> Trainer:
    """Epochs of eleven images in batches of 3, 3, 3 and 2; the log itself writes nothing."""
    schedule = ConstantSchedule(11 * epochs, 3, 1.0, epoch_images=11)
    return Trainer(
        FixedStep(),
        TensorBatches(REALS),
        schedule,
        run_dir=run_dir,
        callbacks=callbacks,
        log_images=10**6,
        save_images=1,
    )


def test_the_line_of_the_first_batch_of_each_epoch_and_of_every_second(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run(tmp_path, ConsoleLine(11, 3, every=2)).fit()
    assert capsys.readouterr().out.splitlines() == [
        "[0/2][0/4] Loss_D: 0.0000 Loss_G: 0.1000 D(x): 0.2000 D(G(z)): 0.3000 / 0.4000",
        "[0/2][2/4] Loss_D: 6.0000 Loss_G: 6.1000 D(x): 6.2000 D(G(z)): 6.3000 / 6.4000",
        "[1/2][0/4] Loss_D: 11.0000 Loss_G: 11.1000 D(x): 11.2000 D(G(z)): 11.3000 / 11.4000",
        "[1/2][2/4] Loss_D: 17.0000 Loss_G: 17.1000 D(x): 17.2000 D(G(z)): 17.3000 / 17.4000",
    ]
    records = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert [record["images_seen"] for record in records if "event" not in record] == [3, 9, 14, 20]


def test_mnist_has_250_lines_in_50_epochs(capsys: pytest.CaptureFixture[str]) -> None:
    """Batches 0, 100, 200, 300 and 400 of 469; the steps are walked through without a network."""
    schedule = ConstantSchedule(50 * 60_000, 128, 2e-4, epoch_images=60_000)
    line, recorded = ConsoleLine(60_000, 128), []

    class Walk:
        def __init__(self) -> None:
            self.total_images, self.images_seen = schedule.total_images, 0
            self.values = {key: torch.zeros(()) for key in KEYS}

        def record(self, values: object) -> None:
            recorded.append(self.images_seen)

    walk: Any = Walk()
    while walk.images_seen < walk.total_images:
        previous = walk.images_seen
        walk.images_seen += schedule.phase(previous).batch_size
        line.on_step(walk, previous)
    assert len(recorded) == 250
    lines = capsys.readouterr().out.splitlines()
    assert lines[4].startswith("[0/50][400/469] Loss_D")
    assert lines[-1].startswith("[49/50][400/469] Loss_D")


def test_a_step_without_probabilities_is_told_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    trainer = run(None, ConsoleLine(11, 3))
    losses = {key: torch.zeros(()) for key in KEYS[:2]}
    monkeypatch.setattr(FixedStep, "__call__", lambda self, *given: losses)
    with pytest.raises(ValueError, match=r"real_probability.*log_probabilities=True"):
        trainer.fit()


@pytest.mark.parametrize("name", ["epoch_images", "batch_size", "every"])
def test_a_line_of_nothing_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match=name):
        ConsoleLine(**{"epoch_images": 10, "batch_size": 3, "every": 1, name: 0})


def generate(trainer: Trainer, seed: int) -> Tensor:
    images = torch.randn(3, 3, 4, 4, generator=torch.Generator().manual_seed(seed)).clamp(-1, 1)
    torch.rand(1)  # the global state is put back
    return images


def test_pictures_are_numbered_by_epoch_and_image_and_those_of_a_resumed_run_are_the_same(tmp_path: Path) -> None:
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    before = torch.get_rng_state()
    run(whole, NumberedImages(generate, epochs=4, first_epoch=3), epochs=4).fit()
    assert torch.equal(torch.get_rng_state(), before)
    names = [f"epoch_{epoch}_image_{number}.png" for epoch in (3, 4) for number in (1, 2, 3)]
    assert sorted(path.name for path in (whole / "generated").iterdir()) == names
    run(parts, NumberedImages(generate, epochs=4, first_epoch=3), StopAt(33), epochs=4).fit()
    run(parts, NumberedImages(generate, epochs=4, first_epoch=3), Callback(), epochs=4).fit()
    for name in names:
        assert (parts / "generated" / name).read_bytes() == (whole / "generated" / name).read_bytes()
    with Image.open(whole / "generated" / names[1]) as picture:
        pixels = torch.from_numpy(np.asarray(picture).copy()).permute(2, 0, 1)
    expected = ((generate(run(None), 3)[1] + 1) * 127.5).round()
    assert torch.equal(pixels.float(), expected)


def test_grey_pictures_stay_grey(tmp_path: Path) -> None:
    run(tmp_path, NumberedImages(lambda trainer, seed: torch.zeros(1, 1, 4, 4), epochs=2)).fit()
    with Image.open(tmp_path / "generated" / "epoch_2_image_1.png") as picture:
        assert picture.mode == "L"


def test_epochs_out_of_range_are_refused() -> None:
    with pytest.raises(ValueError, match="first_epoch"):
        NumberedImages(generate, epochs=2, first_epoch=3)
    with pytest.raises(ValueError, match="epochs"):
        NumberedImages(generate, epochs=0)


def test_reals_stand_on_the_left_and_fakes_on_the_right(tmp_path: Path) -> None:
    reals, fakes = torch.zeros(5, 1, 4, 4, dtype=torch.uint8), torch.zeros(5, 1, 4, 4)
    run(tmp_path, RealBesideFake(reals, lambda trainer: fakes, columns=2, size=4)).fit()
    with Image.open(tmp_path / "real_beside_fake.png") as picture:
        sheet = picture.convert("L")
    width = 4 * 4 + 5 * 2  # four columns with borders of two pixels; the fifth image has no full row
    assert sheet.size == (width, 2 * 4 + 3 * 2)
    dark = [sheet.getpixel((x, 3)) for x in (3, 9, 15, 21)]
    assert dark[:2] == [0, 0]
    assert all(127 <= value <= 128 for value in dark[2:])  # type: ignore[operator]


def test_fewer_images_than_columns_make_one_row(tmp_path: Path) -> None:
    reals, fakes = torch.zeros(3, 1, 4, 4, dtype=torch.uint8), torch.zeros(3, 1, 4, 4)
    run(tmp_path, RealBesideFake(reals, lambda trainer: fakes, columns=8, size=4)).fit()
    with Image.open(tmp_path / "real_beside_fake.png") as sheet:
        assert sheet.size == (6 * 4 + 7 * 2, 4 + 2 * 2)


def test_nothing_is_written_without_a_run_directory() -> None:
    run(None, NumberedImages(generate, epochs=2), RealBesideFake(REALS, lambda trainer: REALS.float())).fit()
