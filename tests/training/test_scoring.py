"""Scores during a run: written with their fingerprints, and the run is the same to the bit as without them."""

import json
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from reliability_runs import lost, progan_images, progan_trainer
from torch import Tensor, nn

from ganblocks._modes import evaluation_mode
from ganblocks.data import TensorBatches
from ganblocks.metrics.extractors import random_extractor
from ganblocks.metrics.score import Score
from ganblocks.training import AdversarialStep, Callback, ConstantSchedule, Trainer, latent_sampler
from ganblocks.training.ema import ExponentialMovingAverage
from ganblocks.training.scoring import NearestSheet, Scores, networks_of
from ganblocks.visualization import save_image_grid

pytestmark = pytest.mark.filterwarnings("ignore::ganblocks.errors.SmallSampleWarning")

REALS = torch.rand(12, 1, 8, 8, generator=torch.Generator().manual_seed(1)) * 2 - 1


def trainer(run_dir: Path | None, **options: Any) -> Trainer:
    """Six steps of four images with batch normalisation and dropout: whoever touches a mode or a draw shows."""
    torch.manual_seed(0)
    generator = nn.Sequential(
        nn.Linear(4, 64), nn.BatchNorm1d(64), nn.Dropout(0.3), nn.Unflatten(1, (1, 8, 8)), nn.Tanh()
    )
    critic = nn.Sequential(nn.Flatten(), nn.Linear(64, 8), nn.Dropout(0.3), nn.Linear(8, 1), nn.Flatten(0))
    step = AdversarialStep(
        generator,
        critic,
        generator_optimizer=torch.optim.Adam(generator.parameters()),
        discriminator_optimizer=torch.optim.Adam(critic.parameters()),
        sampler=latent_sampler(4),
        ema=ExponentialMovingAverage(generator, decay=0.9),
    )
    schedule = ConstantSchedule(24, batch_size=4, learning_rate=1e-3)
    return Trainer(step, TensorBatches(REALS), schedule, run_dir=run_dir, log_images=8, save_images=8, **options)


def drawn(run: Trainer) -> Tensor:
    """Images from the raw generator, by a function that neither sets its mode nor minds the random state."""
    return run.step.generator(torch.randn(9, 4))  # type: ignore[attr-defined]


def scores(**options: Any) -> Scores:
    chosen = {"metrics": ("fd", "prdc", "ms_ssim", "memorisation"), "held_out": REALS[8:], **options}
    return Scores(REALS[:8], drawn, extractor=random_extractor(1, dimension=16, size=8), **chosen)


def events(run_dir: Path) -> list[dict[str, Any]]:
    records = [json.loads(line) for line in (run_dir / "log.jsonl").read_text().splitlines()]
    return [record for record in records if record.get("event") == "scores"]


def test_the_run_is_bitwise_the_same_with_and_without(tmp_path: Path) -> None:
    states = []
    for run_dir, callbacks in ((None, []), (tmp_path, [scores(fractions=(0.3, 0.6))])):
        run = trainer(run_dir, callbacks=callbacks)
        run.fit()
        states.append({"step": run.step.state_dict(), "torch": torch.get_rng_state()})
    assert lost(*states) == ""
    assert len(events(tmp_path)) == 3


def test_scores_are_logged_as_numbers_and_with_fingerprints(tmp_path: Path) -> None:
    run = trainer(tmp_path, callbacks=[scores()])
    run.fit()
    (event,) = events(tmp_path)
    found = [Score.from_dict(score) for score in event["scores"]]
    names = ["frechet_distance", "precision", "recall", "density", "coverage", "ms_ssim"]
    assert [score.name for score in found] == [*names, "memorisation_pixels", "memorisation_features"]
    assert found[0].counts == {"real": 8, "fake": 9}
    assert event["images_seen"] == 24
    records = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    (record,) = (record for record in records if "recall" in record)
    assert {name: record[name] for name in names} == {score.name: score.value for score in found[:6]}


def test_they_come_at_the_end_and_where_asked_and_only_once(tmp_path: Path) -> None:
    trainer(tmp_path, callbacks=[scores(fractions=(0.5, 1.0))]).fit()
    assert [event["images_seen"] for event in events(tmp_path)] == [12, 24]
    assert trainer(tmp_path, callbacks=[scores(fractions=(0.5, 1.0))]).fit().finished
    assert [event["images_seen"] for event in events(tmp_path)] == [12, 24]


def test_a_run_that_is_cut_short_by_its_length_ends_with_scores(tmp_path: Path) -> None:
    trainer(tmp_path, callbacks=[scores()], total_images=8).fit()
    assert [event["images_seen"] for event in events(tmp_path)] == [8]


@pytest.mark.parametrize(("every_stage", "expected"), [(False, [48]), (True, [16, 48])])
def test_of_a_growing_run_the_last_stage_counts_or_every_one(
    tmp_path: Path, every_stage: bool, expected: list[int]
) -> None:
    def reals(run: Trainer) -> Iterator[Tensor]:
        yield progan_images().batch(list(range(10)), run.phase.resolution)

    def fakes(run: Trainer) -> Tensor:
        return run.step.ema.module.sample(10, seed=1, resolution=run.phase.resolution)  # type: ignore[attr-defined]

    extractor = random_extractor(1, dimension=16, size=8)
    callback = Scores(reals, fakes, ["fd"], extractor=extractor, fractions=(1.0,), every_stage=every_stage)
    progan_trainer(progan_images(), tmp_path, callbacks=[callback]).fit()
    assert [event["images_seen"] for event in events(tmp_path)] == expected


def test_scores_that_cannot_be_computed_are_told_and_do_not_end_the_run(tmp_path: Path) -> None:
    callback = Scores(REALS[:8], lambda run: REALS[:8] / torch.nan, ["ms_ssim"])
    with pytest.warns(RuntimeWarning, match="cannot be computed"):
        result = trainer(tmp_path, callbacks=[callback]).fit()
    assert result.finished
    assert "scores_failed" in (tmp_path / "log.jsonl").read_text()


def test_values_outside_the_range_are_clamped_as_in_a_file(tmp_path: Path) -> None:
    for name, fakes in (("inside", REALS.mul(3).clamp(-1, 1)), ("outside", REALS * 3)):
        trainer(tmp_path / name, callbacks=[Scores(REALS, lambda run, made=fakes: made, ["ms_ssim"])]).fit()
    assert events(tmp_path / "inside")[0]["scores"] == events(tmp_path / "outside")[0]["scores"]


def test_what_can_be_read_only_once_is_refused() -> None:
    with pytest.raises(TypeError, match="`real`"):
        Scores(iter([REALS]), drawn)
    with pytest.raises(TypeError, match="`held_out`"):
        Scores(REALS, drawn, held_out=(batch for batch in [REALS]))


def test_they_are_printed_where_asked(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    trainer(tmp_path, callbacks=[scores(show=True)]).fit()
    printed = capsys.readouterr().out
    assert "24 images" in printed
    assert events(tmp_path)[0]["scores"][0]["fingerprint"] in printed
    trainer(None, callbacks=[scores()]).fit()
    assert capsys.readouterr().out == ""


def test_modes_are_put_back_layer_by_layer_whatever_happens() -> None:
    one, other, third = nn.Sequential(nn.Dropout(), nn.Dropout()), nn.Dropout().eval(), nn.Dropout()
    one[0].eval()
    holder = SimpleNamespace(
        one=one, many=[other, {"x": third}], average=SimpleNamespace(module=nn.Dropout()), number=3
    )
    networks = [one, *one, other, third, holder.average.module]
    before = [network.training for network in networks]

    def fail() -> None:
        with evaluation_mode(*networks_of(holder)):
            assert not any(network.training for network in networks)
            raise RuntimeError("stop")

    with pytest.raises(RuntimeError, match="stop"):
        fail()
    assert [network.training for network in networks] == before
    assert networks_of(3) == []


def test_the_sheet_shows_each_sample_beside_its_nearest_real_image(tmp_path: Path) -> None:
    reals = torch.rand(9, 1, 8, 8, generator=torch.Generator().manual_seed(2)) * 2 - 1
    shifted = (reals[[5, 0, 7, 2, 5]] + 0.02).clamp(-1, 1)
    trainer(tmp_path, callbacks=[NearestSheet(lambda run: shifted, reals.split(2), pairs=4, size=8)]).fit()
    with Image.open(tmp_path / "nearest.png") as picture:
        drawn_pairs = np.asarray(picture)
    pairs = torch.stack([shifted[:4], reals[[5, 0, 7, 2]]], dim=1).flatten(0, 1)
    save_image_grid(pairs, tmp_path / "expected.png", columns=8)
    with Image.open(tmp_path / "expected.png") as picture:
        assert np.array_equal(drawn_pairs, np.asarray(picture))


def test_a_run_that_was_stopped_has_no_sheet_of_neighbours(tmp_path: Path) -> None:
    class Stop(Callback):
        def on_step(self, trainer: Trainer, previous: int) -> None:
            trainer.request_stop()

    trainer(tmp_path, callbacks=[Stop(), NearestSheet(drawn, REALS)]).fit()
    assert not (tmp_path / "nearest.png").exists()
