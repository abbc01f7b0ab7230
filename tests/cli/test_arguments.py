"""What is written on the command line means what it says, or one line tells what it should have been."""

import argparse
import re
from pathlib import Path

import pytest
import torch
from cli_runs import Call, Outcome, damage, newest

from ganblocks.cli.arguments import at_least, positive, require_free, safetensors_file, usable_device


@pytest.mark.parametrize(("text", "number"), [("3", 3), ("007", 7), (str(2**63 - 1), 2**63 - 1)])
def test_whole_numbers_are_read(text: str, number: int) -> None:
    assert at_least(3)(text) == number


@pytest.mark.parametrize("text", ["2", "-3", "+3", "3.0", "1e3", "", " 3", "3_0", "\u0663", str(2**63)])
def test_what_is_no_such_number_is_told(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match="must be a whole number, at least 3"):
        at_least(3)(text)


@pytest.mark.parametrize("text", ["0", "-1", "nan", "inf", "", "x", "1e999"])
def test_positive_numbers_are_finite_and_above_zero(text: str) -> None:
    assert positive("1e-3") == 0.001
    with pytest.raises(argparse.ArgumentTypeError, match="must be a positive number"):
        positive(text)


def test_a_file_of_weights_has_its_suffix() -> None:
    assert safetensors_file("a/b.safetensors") == Path("a/b.safetensors")
    with pytest.raises(argparse.ArgumentTypeError, match=r'must end in "\.safetensors"'):
        safetensors_file("b.pt")


def test_a_device_is_tried() -> None:
    assert usable_device("cpu") == torch.device("cpu")
    for name in ("gpu", "meta", "cuda:99"):
        with pytest.raises(ValueError, match=f"--device is {name}, but must be one that PyTorch finds here"):
            usable_device(name)


def test_what_is_there_is_replaced_by_force_only_and_a_folder_never(tmp_path: Path) -> None:
    file, dangling = tmp_path / "file", tmp_path / "dangling"
    file.write_text("mine")
    dangling.symlink_to(tmp_path / "nowhere")
    require_free(tmp_path / "new", False)
    for path in (file, dangling):
        require_free(path, True)
        with pytest.raises(ValueError, match=r"exists \(--force replaces it\)"):
            require_free(path, False)
    with pytest.raises(ValueError, match="that is a folder"):
        require_free(tmp_path, True)


@pytest.mark.parametrize(
    "command",
    [
        ("checkpoint", "list"),
        ("checkpoint", "verify"),
        ("checkpoint", "export", "--out", "w.safetensors"),
        ("sample", "--count", "1", "--out", "s.png", "--run"),
    ],
)
def test_a_place_without_checkpoints_is_one_line(
    command: tuple[str, ...], tmp_path: Path, call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    for name, words in (("missing", "does not exist"), ("empty", "holds no checkpoint")):
        path = tmp_path / name
        assert call(*command, path) == Outcome(2, "", f"CheckpointError: {path} {words}\n")
    assert [path.name for path in tmp_path.rglob("*")] == ["empty"]


@pytest.mark.parametrize(
    "command", [("checkpoint", "export", "--out", "w.safetensors"), ("sample", "--count", 1, "--out", "o", "--run")]
)
def test_damage_is_gone_round_and_told_and_when_all_is_damaged_nothing_is_written(
    command: tuple[str, ...], run: Path, call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(run.parent)
    damage(newest(run))
    outcome = call(*command, run)
    assert outcome.code == 0
    assert re.fullmatch(r"warning: .*000000002000.*going back to .*000000001000\n", outcome.err)
    assert "1,000 images" in outcome.out
    damage(run / "checkpoints" / "000000001000")
    outcome = call(*command, run, "--force")
    assert (outcome.code, outcome.out) == (2, "")
    assert outcome.err.startswith("CheckpointCorruptError: all 2 checkpoints")
    assert outcome.err.count("\n") == 1
