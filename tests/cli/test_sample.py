"""``ganblocks sample``: the pictures that the run's own generator gives, and nothing written over."""

import functools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from cli_runs import CONFIG, METADATA, Call, average, networks, newest, pixels, replace_newest
from torch import Tensor

from ganblocks.cli import trained_generator
from ganblocks.functional import to_uint8
from ganblocks.models.progan import Generator
from ganblocks.training.checkpoint_format import encode_checkpoint
from ganblocks.visualization import image_grid


@pytest.mark.parametrize("truncation", [None, 0.5])
def test_pictures_are_those_of_the_averaged_generator_at_its_stage(
    truncation: float | None, run: Path, tmp_path: Path, call: Call
) -> None:
    options = [] if truncation is None else ["--truncation", truncation]
    outcome = call("sample", "--run", run, "--count", 5, "--seed", 3, "--out", tmp_path / "new" / "o", *options)
    assert (outcome.code, outcome.err) == (0, "")
    assert "5 images of 8x8 px after 2,000 images" in outcome.out
    images = average(run).sample(5, seed=3, resolution=8, alpha=0.5, truncation=truncation)
    names = sorted(path.name for path in (tmp_path / "new" / "o").iterdir())
    assert names == [f"{index:05d}.png" for index in range(5)]
    for name, image in zip(names, to_uint8(images), strict=True):
        assert np.array_equal(pixels(tmp_path / "new" / "o" / name), image.permute(1, 2, 0).numpy())


def test_a_name_in_png_gets_one_sheet_of_them(run: Path, tmp_path: Path, call: Call) -> None:
    arguments = ("sample", "--run", run, "--count", 6, "--seed", 3, "--out", tmp_path / "o.png")
    assert call(*arguments).code == 0
    images = average(run).sample(6, seed=3, resolution=8, alpha=0.5)
    assert np.array_equal(pixels(tmp_path / "o.png"), np.asarray(image_grid(images, scale=8)))
    assert "exists (--force replaces it)" in call(*arguments).err
    assert call(*arguments, "--force").code == 0


def test_the_size_of_batches_changes_no_picture(
    run: Path, tmp_path: Path, call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes: list[int] = []
    forward = Generator.forward

    @functools.wraps(forward)
    def counted(self: Generator, latents: Tensor, *rest: Any, **options: Any) -> Tensor:
        sizes.append(len(latents))
        return forward(self, latents, *rest, **options)

    monkeypatch.setattr(Generator, "forward", counted)
    results = []
    for largest in (64, 7):
        monkeypatch.setattr(trained_generator, "LARGEST_BATCH", largest)
        assert call("sample", "--run", run, "--count", 70, "--out", tmp_path / f"{largest}.png").code == 0
        results.append(pixels(tmp_path / f"{largest}.png"))
    assert np.array_equal(*results)
    assert sizes == [64, 6, *[7] * 10]
    monkeypatch.setattr(trained_generator, "BATCH_PIXELS", 3 * 64)
    assert call("sample", "--run", run, "--count", 4, "--out", tmp_path / "few.png").code == 0
    assert sizes[-2:] == [3, 1]


def test_other_seeds_give_other_pictures(run: Path, tmp_path: Path, call: Call) -> None:
    for seed in (0, 1):
        call("sample", "--run", run, "--count", 2, "--seed", seed, "--out", tmp_path / f"{seed}.png")
    assert not np.array_equal(pixels(tmp_path / "0.png"), pixels(tmp_path / "1.png"))


def test_the_run_s_own_truncation_is_kept_unless_told_otherwise(run: Path, tmp_path: Path, call: Call) -> None:
    metadata = {"config": CONFIG.to_dict(), **METADATA, "truncation": 0.5}
    replace_newest(run, {"step": networks(CONFIG)}, metadata)
    for name, truncation in (("kept", 0.5), ("told", 0.1)):
        options = ["--truncation", "0.1"] if name == "told" else []
        call("sample", "--run", run, "--count", 4, "--out", tmp_path / f"{name}.png", *options)
        images = average(run).sample(4, seed=0, resolution=8, alpha=0.5, truncation=truncation)
        assert np.array_equal(pixels(tmp_path / f"{name}.png"), np.asarray(image_grid(images, scale=8)))


def test_old_runs_without_a_model_s_name_with_classes_and_without_an_average(
    run: Path, tmp_path: Path, call: Call
) -> None:
    config = CONFIG.replace(num_classes=3, image_channels=1)
    step = {**networks(config), "ema": None}
    replace_newest(run, {"step": step}, {"config": config.to_dict()})
    assert call("sample", "--run", run, "--count", 5, "--out", tmp_path / "o.png").code == 0
    generator = Generator(config)
    generator.load_state_dict(step["generator"])
    assert np.array_equal(pixels(tmp_path / "o.png"), np.asarray(image_grid(generator.sample(5, seed=0), scale=4)))


def test_a_folder_with_other_things_is_left_alone(run: Path, tmp_path: Path, call: Call) -> None:
    (tmp_path / "o").mkdir()
    (tmp_path / "o" / "notes").write_text("mine")
    outcome = call("sample", "--run", run, "--count", 1, "--out", tmp_path / "o")
    assert outcome.code == 2
    assert "must be a new or an empty folder" in outcome.err
    assert [path.name for path in (tmp_path / "o").iterdir()] == ["notes"]
    assert call("sample", "--run", run, "--count", 1, "--out", tmp_path / "o", "--force").code == 0
    assert sorted(path.name for path in (tmp_path / "o").iterdir()) == ["00000.png", "notes"]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"model": "biggan"}, "CheckpointError: the model is 'biggan', but this ganblocks knows: dcgan, infogan"),
        ({"config": None}, "CheckpointError: nothing tells how the generator was built"),
        ({"config": {**CONFIG.to_dict(), "max_channels": 10**6, "base_channels": 10**7}}, "the weights do not fit"),
        ({"phase": [8]}, "CheckpointError: "),
        ({"phase": {"resolution": "8"}}, "CheckpointError: "),
        ({"phase": {"resolution": 8, "alpha": "1"}}, "CheckpointError: "),
        ({"phase": {"resolution": 32}}, "ValueError: `resolution` is 32"),
        ({"truncation": "0.7"}, "CheckpointError: "),
        ({"truncation": -1.0}, "ValueError: `truncation` is -1.0"),
    ],
)
def test_metadata_that_do_not_fit_are_one_line(
    change: dict[str, Any], words: str, run: Path, tmp_path: Path, call: Call
) -> None:
    metadata = {"config": CONFIG.to_dict(), **METADATA, **change}
    replace_newest(run, {"step": networks(CONFIG)}, metadata)
    outcome = call("sample", "--run", run, "--count", 1, "--out", tmp_path / "o.png")
    assert (outcome.code, outcome.out) == (2, "")
    assert words in outcome.err
    assert outcome.err.count("\n") == 1
    assert not (tmp_path / "o.png").exists()


def test_nan_is_no_picture(run: Path, tmp_path: Path, call: Call) -> None:
    step = networks(CONFIG)
    step["ema"]["module"]["initial.conv.bias"][0] = torch.nan
    state = encode_checkpoint({"step": step}, 2000, {"config": CONFIG.to_dict()}, check_finite=False)
    for name, content in state.items():
        (newest(run) / name).write_bytes(content)
    assert call("sample", "--run", run, "--count", 1, "--out", tmp_path / "o.png").err.startswith("NonFiniteError:")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ("--count 0", "argument --count: '0', but must be a whole number, at least 1"),
        ("--count many", "argument --count: 'many'"),
        ("--count 1 --seed -1", "argument --seed: '-1', but must be a whole number, at least 0"),
        ("--count 1 --truncation 0", "argument --truncation: '0', but must be a positive number"),
        ("--count 1 --truncation nan", "argument --truncation: 'nan'"),
        ("--count 1 --device gpu", "--device is gpu, but must be one that PyTorch finds here"),
        ("--count 1 --device meta", "--device is meta, but"),
        ("--count 9999999", "--count is 9999999, but so many do not fit one sheet"),
    ],
)
def test_wrong_numbers_and_devices_are_named(arguments: str, words: str, run: Path, tmp_path: Path, call: Call) -> None:
    outcome = call("sample", "--run", run, "--out", tmp_path / "o.png", *arguments.split())
    assert (outcome.code, outcome.out) == (2, "")
    assert words in outcome.err.splitlines()[-1]
    assert "Traceback" not in outcome.err
