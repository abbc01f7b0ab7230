"""A directory of checkpoints is understood however it is named, only read, and damage is gone round and told."""

import os
import warnings
from pathlib import Path

import pytest
import torch

from ganblocks.errors import CheckpointCorruptError, CheckpointError
from ganblocks.training import CheckpointStore
from ganblocks.training.checkpoint_directory import (
    find_checkpoints,
    list_checkpoints,
    newest_intact,
    read_newest_checkpoint,
)


def damage(checkpoint: Path) -> None:
    file = checkpoint / "tensors.safetensors"
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run directory with checkpoints of 8, 16 and 24 images; each holds its number."""
    store = CheckpointStore(tmp_path / "run" / "checkpoints")
    for images_seen in (8, 16, 24):
        store.save({"step": {"generator": {"w": torch.full((2,), float(images_seen))}}}, images_seen)
    return tmp_path / "run"


class TestFind:
    def test_a_run_its_folder_and_one_checkpoint_are_understood(self, run: Path) -> None:
        folder = run / "checkpoints"
        wanted = [folder / f"{number:012d}" for number in (8, 16, 24)]
        assert find_checkpoints(run) == wanted
        assert find_checkpoints(str(folder)) == wanted
        assert find_checkpoints(wanted[1]) == [wanted[1]]

    def test_order_is_that_of_numbers_and_other_names_do_not_count(self, run: Path) -> None:
        folder = run / "checkpoints"
        for name in ("1000000000000", ".tmp-1-000000000032", ".old-1-000000000040", "notes", "123"):
            (folder / name).mkdir()
        assert [int(path.name) for path in find_checkpoints(run)] == [8, 16, 24, 10**12]

    def test_a_run_may_be_called_by_a_date_and_a_checkpoint_by_any_name(self, run: Path) -> None:
        dated = run.rename(run.with_name("202607311200"))
        assert len(find_checkpoints(dated)) == 3
        kept = (dated / "checkpoints" / "000000000008").rename(dated.with_name("the_good_one"))
        assert find_checkpoints(kept) == [kept]
        assert read_newest_checkpoint(kept).images_seen == 8

    def test_one_that_has_lost_its_manifest_is_still_one(self, run: Path) -> None:
        checkpoint = run / "checkpoints" / "000000000024"
        (checkpoint / "manifest.json").unlink()
        assert find_checkpoints(checkpoint) == [checkpoint]

    def test_where_there_is_none_it_says_so(self, tmp_path: Path) -> None:
        (tmp_path / "file").write_text("x")
        (tmp_path / "empty" / "checkpoints").mkdir(parents=True)
        for path, words in (("missing", "does not exist"), ("file", "is no directory"), ("empty", "holds no check")):
            with pytest.raises(CheckpointError, match=words):
                find_checkpoints(tmp_path / path)


class TestNewest:
    def test_it_is_the_one_with_most_images(self, run: Path) -> None:
        assert read_newest_checkpoint(run).images_seen == 24

    def test_it_goes_back_past_damage_and_tells(self, run: Path) -> None:
        damage(run / "checkpoints" / "000000000024")
        with pytest.warns(RuntimeWarning, match=r"000000000024: .*SHA-256.*going back to .*000000000016"):
            assert read_newest_checkpoint(run).images_seen == 16

    def test_all_damaged_are_all_named(self, run: Path) -> None:
        for path in find_checkpoints(run):
            damage(path)
        with pytest.raises(CheckpointCorruptError, match=r"all 3 .*000000000024: .*000000000016: .*000000000008: "):
            read_newest_checkpoint(run)

    def test_a_link_is_not_skipped_over(self, run: Path) -> None:
        os.symlink(run / "checkpoints" / "000000000008", run / "checkpoints" / "000000000032")
        with pytest.raises(CheckpointError, match="symbolic link"):
            read_newest_checkpoint(run)

    def test_what_was_damaged_is_kept_account_of_and_the_warning_names_the_caller(self, run: Path) -> None:
        there = find_checkpoints(run)
        damage(there[2])
        damage(there[0])
        damaged: set[Path] = set()

        def caller() -> int:
            return newest_intact(there, damaged=damaged).images_seen

        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            assert caller() == 16
            assert read_newest_checkpoint(run).images_seen == 16
        assert damaged == {there[2]}  # the oldest was not looked at
        assert [warning.category for warning in caught] == [RuntimeWarning, RuntimeWarning]
        assert caught[1].filename == __file__


def test_the_directory_is_only_read(run: Path) -> None:
    leftover = run / "checkpoints" / ".tmp-1234567-000000000032"  # which the owner's store would sweep away
    leftover.mkdir()
    before = {path: path.stat().st_mtime_ns for path in [run, *run.rglob("*")]}
    list_checkpoints(run / "checkpoints")
    read_newest_checkpoint(run)
    assert {path: path.stat().st_mtime_ns for path in [run, *run.rglob("*")]} == before
