"""The store: whatever is killed, full, damaged or in the way, an older checkpoint is there and nothing is silent."""

import errno
import math
import os
import random
import shutil
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from ganblocks.errors import CheckpointCorruptError, CheckpointError, NonFiniteError
from ganblocks.training import checkpoint_format
from ganblocks.training.checkpoint import CheckpointStore

FILES = ["tensors.safetensors", "state.json", "manifest.json"]


def state(value: float) -> dict[str, Any]:
    return {"weight": torch.full((2,), value), "value": value}


def names(directory: Path) -> set[str]:
    return {path.name for path in directory.iterdir()}


def value_of(store: CheckpointStore) -> float:
    checkpoint = store.latest_valid()
    assert checkpoint is not None
    assert checkpoint.state["weight"].tolist() == [checkpoint.state["value"]] * 2
    return float(checkpoint.state["value"])


def open_store(directory: Path, **options: Any) -> CheckpointStore:
    return CheckpointStore(directory, **{"backoff_seconds": 0.0, **options})


def test_empty_store_has_no_checkpoint(tmp_path: Path) -> None:
    store = open_store(tmp_path / "run" / "checkpoints")
    assert store.latest_valid() is None
    assert store.list() == []
    assert names(store.directory) == set()


def test_saved_checkpoint_is_found_by_another_store(tmp_path: Path) -> None:
    path = open_store(tmp_path).save(state(1), 12_345_678, {"loss": 0.5})
    assert path == tmp_path / "000012345678"
    assert names(path) == set(FILES)
    store = open_store(tmp_path)
    checkpoint = store.latest_valid()
    assert checkpoint is not None
    assert (checkpoint.path, checkpoint.images_seen, checkpoint.metadata) == (path, 12_345_678, {"loss": 0.5})
    assert value_of(store) == 1
    store.verify(path)


def test_newest_is_by_number_beyond_twelve_digits_too(tmp_path: Path) -> None:
    store = open_store(tmp_path)
    for images_seen in (10**13, 0, 999_999_999_999):
        store.save(state(len(str(images_seen))), images_seen)
    assert [int(path.name) for path in store.list()] == [0, 999_999_999_999, 10**13]
    assert value_of(store) == 14


@pytest.mark.parametrize("keep_last", [1, 2, 3])
def test_rotation_keeps_the_last(tmp_path: Path, keep_last: int) -> None:
    store = open_store(tmp_path, keep_last=keep_last)
    for images_seen in range(0, 60, 10):
        store.save(state(images_seen), images_seen)
    assert [int(path.name) for path in store.list()] == [0, 10, 20, 30, 40, 50][-keep_last:]
    assert names(tmp_path) == {path.name for path in store.list()}


def test_rotation_never_deletes_what_is_pinned(tmp_path: Path) -> None:
    store = open_store(tmp_path, keep_last=2, pinned=lambda path: int(path.name) % 20 == 0)
    for images_seen in range(0, 500, 10):
        store.save(state(images_seen), images_seen)
    assert [int(path.name) for path in store.list()] == [*range(0, 480, 20), 480, 490]


def test_rotation_spares_foreign_things_and_links(tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    open_store(elsewhere).save(state(1), 1)
    store = open_store(tmp_path / "run", keep_last=1)
    (store.directory / "notes.txt").touch()
    (store.directory / "best").mkdir()
    (store.directory / "000000000001").symlink_to(elsewhere / "000000000001")
    (store.directory / "000000000002").touch()
    store.save(state(3), 3)
    assert names(store.directory) == {"notes.txt", "best", "000000000001", "000000000002", "000000000003"}
    open_store(elsewhere).verify(elsewhere / "000000000001")


def test_run_that_went_back_keeps_its_new_checkpoint(tmp_path: Path) -> None:
    store = open_store(tmp_path, keep_last=1)
    store.save(state(3), 30)
    store.save(state(2), 20)
    assert [int(path.name) for path in store.list()] == [20, 30]


def test_damaged_newest_is_announced_and_the_previous_one_used(tmp_path: Path) -> None:
    store = open_store(tmp_path)
    for value in (1, 2, 3):
        store.save(state(value), value)
    newest, generator = store.list()[-1], random.Random(0)
    contents = {name: (newest / name).read_bytes() for name in FILES}
    for round_number in range(800):
        name = generator.choice(FILES)
        damaged = bytearray(contents[name])
        if round_number < 300:
            del damaged[generator.randrange(len(damaged)) :]
        else:
            damaged[generator.randrange(len(damaged))] ^= 1 << generator.randrange(8)
        (newest / name).write_bytes(damaged)
        with pytest.warns(RuntimeWarning, match=f"{newest.name}.*going back to .*000000000002"):
            assert value_of(store) == 2
        (newest / name).write_bytes(contents[name])
    assert value_of(store) == 3


def test_every_damaged_checkpoint_is_announced(tmp_path: Path) -> None:
    store = open_store(tmp_path)
    for value in (1, 2, 3):
        store.save(state(value), value)
    for path in store.list()[1:]:
        (path / "state.json").unlink()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        assert value_of(store) == 1
    assert [warning.category for warning in caught] == [RuntimeWarning, RuntimeWarning]
    assert "000000000003" in str(caught[0].message)
    assert "000000000002" in str(caught[1].message)
    assert caught[0].filename == __file__


def test_if_all_are_damaged_training_does_not_start_anew(tmp_path: Path) -> None:
    store = open_store(tmp_path)
    for value in (1, 2):
        store.save(state(value), value)
    (tmp_path / "000000000001" / "state.json").write_bytes(b"")
    (tmp_path / "000000000002" / "manifest.json").write_bytes(b"")
    with pytest.raises(
        CheckpointCorruptError, match=r"all 2 .*000000000002.*manifest.*000000000001.*state\.json"
    ) as error:
        store.latest_valid()
    assert "has 0 bytes" in str(error.value)
    with pytest.raises(CheckpointCorruptError, match="000000000002"):
        store.verify(tmp_path / "000000000002")


def test_newest_of_a_newer_ganblocks_is_not_skipped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = open_store(tmp_path)
    store.save(state(1), 1)
    with monkeypatch.context() as patch:
        patch.setattr(checkpoint_format, "SCHEMA", 2)
        store.save(state(2), 2)
    with pytest.raises(CheckpointError, match="newer ganblocks"):
        store.latest_valid()


def test_link_in_place_of_a_checkpoint_is_refused(tmp_path: Path) -> None:
    other = open_store(tmp_path / "other").save(state(1), 5)
    store = open_store(tmp_path / "run")
    (store.directory / other.name).symlink_to(other, target_is_directory=True)
    with pytest.raises(CheckpointError, match="symbolic link"):
        store.latest_valid()
    with pytest.raises(CheckpointError, match="symbolic link"):
        store.save(state(2), 5)
    assert value_of(open_store(tmp_path / "other")) == 1


def test_store_itself_may_be_reached_through_a_link(tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    (tmp_path / "run").symlink_to(tmp_path / "disk", target_is_directory=True)
    open_store(tmp_path / "run").save(state(4), 4)
    assert value_of(open_store(tmp_path / "disk")) == 4


def test_nothing_is_written_for_what_cannot_be_saved(tmp_path: Path) -> None:
    store = open_store(tmp_path)
    with pytest.raises(NonFiniteError, match="weight"):
        store.save(state(float("nan")), 1)
    with pytest.raises(TypeError, match="a is a set"):
        store.save({"a": {1}}, 1)
    with pytest.raises(TypeError, match="`metadata`"):
        store.save({}, 1, {"a": {1}})
    assert names(tmp_path) == set()
    store.save(state(float("nan")), 1, check_finite=False)
    assert names(tmp_path) == {"000000000001"}


@pytest.mark.parametrize("images_seen", [-1, 1.0, True, "1"])
def test_images_seen_must_be_a_count(tmp_path: Path, images_seen: Any) -> None:
    with pytest.raises(ValueError, match="`images_seen` is"):
        open_store(tmp_path).save({}, images_seen)


@pytest.mark.parametrize("option", [{"keep_last": 0}, {"attempts": 0}, {"backoff_seconds": -1.0}])
def test_options_out_of_range_are_named(tmp_path: Path, option: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=f"`{next(iter(option))}` is"):
        CheckpointStore(tmp_path, **option)


# --- order of the system calls, and a death at each of them -----------------------------------------------------------


class Recorder:
    """Stands before the calls that change the disk: notes them, and may die or fail at the k-th one."""

    CALLS = ("mkdir", "open", "fsync", "replace", "unlink", "rmdir")

    def __init__(self, patch: pytest.MonkeyPatch, action: Callable[[int, str], None] | None = None) -> None:
        self.log: list[tuple[str, str]] = []
        self._action = action
        for name in self.CALLS:
            patch.setattr(os, name, self._wrap(name, getattr(os, name)))
        patch.setattr("builtins.open", self._wrap("open", open))

    def _wrap(self, name: str, original: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            target = os.readlink(f"/proc/self/fd/{args[0]}") if isinstance(args[0], int) else os.fspath(args[0])
            self.log.append((name, os.path.basename(target)))
            if self._action is not None:
                self._action(len(self.log), name)
            return original(*args, **kwargs)

        return call


def test_data_reaches_the_disk_before_the_name_and_the_name_before_deletion(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = open_store(tmp_path, keep_last=1)
    store.save(state(1), 1)
    temporary = f".tmp-{os.getpid()}-000000000002"
    with monkeypatch.context() as patch:
        log = Recorder(patch).log
        store.save(state(2), 2)
    syncs = [log.index(("fsync", name)) for name in [*FILES, temporary]]
    publish, parent = log.index(("replace", temporary)), log.index(("fsync", tmp_path.name))
    reread = [max(i for i, entry in enumerate(log) if entry == ("open", name)) for name in FILES]
    delete = log.index(("replace", "000000000001"))
    assert syncs == sorted(syncs)
    assert max(syncs) < publish < parent < delete
    assert max(syncs) < min(reread)
    assert max(reread) < delete
    assert all(i > delete for i, (name, _) in enumerate(log) if name in ("unlink", "rmdir"))


def count_calls(directory: Path, images_seen: int, patch: pytest.MonkeyPatch) -> int:
    store = open_store(directory, keep_last=1)
    with patch.context() as inner:
        log = Recorder(inner).log
        store.save(state(2), images_seen)
    return len(log)


def die_at(k: int, directory: Path, images_seen: int, patch: pytest.MonkeyPatch) -> int:
    """Save in a child that vanishes right before its k-th call; returns its exit status."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # fork beside threads that torch may keep
        pid = os.fork()
    if pid == 0:  # pragma: no cover - the child
        try:
            store = open_store(directory, keep_last=1)
            Recorder(patch, lambda number, name: os._exit(9) if number == k else None)
            store.save(state(2), images_seen)
            os._exit(0)
        finally:
            os._exit(1)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


@pytest.mark.parametrize("images_seen", [10, 20], ids=["same number again", "next number"])
def test_death_at_any_system_call_leaves_the_old_or_the_new_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, images_seen: int
) -> None:
    open_store(tmp_path / "template").save(state(1), 10)
    shutil.copytree(tmp_path / "template", tmp_path / "count")
    calls = count_calls(tmp_path / "count", images_seen, monkeypatch)
    assert calls > 15
    found = []
    for k in range(1, calls + 2):
        directory = tmp_path / str(k)
        shutil.copytree(tmp_path / "template", directory)
        status = die_at(k, directory, images_seen, monkeypatch)
        assert status == (9 if k <= calls else 0)
        store = open_store(directory)
        found.append(value_of(store))
        assert names(directory) == {path.name for path in store.list()}, "a temporary was left"
        for path in store.list():
            store.verify(path)
    assert found == sorted(found), "the change from old to new happens once"
    assert set(found) == {1.0, 2.0}


@pytest.mark.parametrize("images_seen", [10, 20], ids=["same number again", "next number"])
def test_failure_of_any_system_call_leaves_the_old_or_the_new_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, images_seen: int
) -> None:
    open_store(tmp_path / "template").save(state(1), 10)
    shutil.copytree(tmp_path / "template", tmp_path / "count")
    calls = count_calls(tmp_path / "count", images_seen, monkeypatch)
    for forever in (False, True):
        for k in range(1, calls + 1):
            directory = tmp_path / f"{k}-{forever}"
            shutil.copytree(tmp_path / "template", directory)
            store = open_store(directory, keep_last=1)

            def fail(number: int, name: str, k: int = k, forever: bool = forever) -> None:
                if number == k or (forever and number > k):
                    raise OSError(errno.EIO, "Input/output error")

            failure: CheckpointError | None = None
            with monkeypatch.context() as patch, warnings.catch_warnings():
                warnings.simplefilter("ignore", RuntimeWarning)  # an old one that could not be deleted
                Recorder(patch, fail)
                try:
                    store.save(state(2), images_seen)
                except CheckpointError as error:
                    failure = error
            if failure is not None:
                assert forever, "one failing call is retried"
                assert "Input/output error" in str(failure)
            reopened = open_store(directory)
            assert value_of(reopened) in ([1.0, 2.0] if failure else [2.0])
            assert not [name for name in names(directory) if name.startswith(".")]


def test_full_disk_is_retried_then_explained_and_leaves_no_trace(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = CheckpointStore(tmp_path, attempts=4, backoff_seconds=0.25)
    store.save(state(1), 1)
    pauses: list[float] = []
    monkeypatch.setattr("time.sleep", pauses.append)

    def fail(number: int, name: str) -> None:
        if name == "fsync":
            raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        Recorder(patch, fail)
        with pytest.raises(
            CheckpointError, match=r"4 attempts.*No space left.*needs [\d,]+ bytes, [\d,]+ are free.*Free"
        ):
            store.save(state(2), 2)
    assert pauses == [0.25, 0.5, 1.0]
    assert names(tmp_path) == {"000000000001"}
    assert value_of(store) == 1
    store.save(state(3), 3)
    assert value_of(store) == 3


def test_transient_failure_is_retried_with_success(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = open_store(tmp_path, attempts=3)
    failures = [OSError(errno.EIO, "first"), OSError(errno.EIO, "second")]

    def fail(number: int, name: str) -> None:
        if name == "fsync" and failures:
            raise failures.pop()

    with monkeypatch.context() as patch:
        Recorder(patch, fail)
        store.save(state(2), 2)
    assert value_of(store) == 2
    assert names(tmp_path) == {"000000000002"}


def test_disk_that_stores_other_bytes_is_noticed_before_anything_is_deleted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = open_store(tmp_path, keep_last=1)
    store.save(state(1), 1)
    original = checkpoint_format.write_files

    def corrupting(directory: Path, files: Any) -> None:
        original(directory, {**files, "state.json": files["state.json"].replace(b"2", b"3")})

    monkeypatch.setattr("ganblocks.training.checkpoint.write_files", corrupting)
    with pytest.raises(CheckpointError, match="older checkpoints are intact"):
        store.save(state(2), 2)
    assert names(tmp_path) == {"000000000001"}
    assert value_of(store) == 1


def test_interrupt_during_save_cleans_up_and_passes_through(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = open_store(tmp_path)
    store.save(state(1), 1)

    def interrupt(number: int, name: str) -> None:
        if name == "fsync":
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        Recorder(patch, interrupt)
        with pytest.raises(KeyboardInterrupt):
            store.save(state(2), 2)
    assert names(tmp_path) == {"000000000001"}


def test_same_number_is_replaced(tmp_path: Path) -> None:
    store = open_store(tmp_path, keep_last=1)
    store.save(state(1), 5)
    store.save(state(2), 5)
    assert value_of(store) == 2
    assert names(tmp_path) == {"000000000005"}


def test_replacement_that_fails_puts_the_old_one_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = open_store(tmp_path)
    store.save(state(1), 5)
    original = os.replace

    def refuse(source: Any, target: Any) -> None:
        if Path(source).name.startswith(".tmp-"):
            raise OSError(errno.EIO, "Input/output error")
        original(source, target)

    monkeypatch.setattr(os, "replace", refuse)
    with pytest.raises(CheckpointError, match="3 attempts"):
        store.save(state(2), 5)
    assert value_of(store) == 1
    assert names(tmp_path) == {"000000000005"}


# --- opening ----------------------------------------------------------------------------------------------------------


def dead_pid() -> int:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        pid = os.fork()
    if pid == 0:  # pragma: no cover - the child
        os._exit(0)
    os.waitpid(pid, 0)
    return pid


def test_stale_temporaries_are_swept_and_nothing_else(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "precious").touch()
    run = tmp_path / "run"
    open_store(run).save(state(1), 1)
    dead = dead_pid()
    for pid in (dead, os.getpid(), 10**30):
        (run / f".tmp-{pid}-000000000002").mkdir()
        (run / f".tmp-{pid}-000000000002" / "state.json").touch()
        (run / f".tmp-{pid}-old-000000000001").mkdir()
    (run / f".tmp-{dead}-000000000003").symlink_to(outside, target_is_directory=True)
    (run / f".tmp-{dead}-probe").touch()
    alive = f".tmp-{os.getppid()}-000000000002"
    (run / alive).mkdir()
    (run / ".tmp-mine").touch()
    store = open_store(run)
    assert names(run) == {"000000000001", alive, ".tmp-mine"}
    assert names(outside) == {"precious"}
    assert value_of(store) == 1


def test_checkpoint_set_aside_comes_back_if_it_was_not_replaced(tmp_path: Path) -> None:
    dead = dead_pid()
    path = open_store(tmp_path).save(state(1), 1)
    path.rename(tmp_path / f".old-{dead}-{path.name}")
    assert value_of(open_store(tmp_path)) == 1
    shutil.copytree(path, tmp_path / f".old-{dead}-{path.name}")
    assert value_of(open_store(tmp_path)) == 1
    assert names(tmp_path) == {path.name}


def test_file_in_place_of_the_directory_is_an_error_at_once(tmp_path: Path) -> None:
    (tmp_path / "run").touch()
    for directory in (tmp_path / "run", tmp_path / "run" / "checkpoints"):
        with pytest.raises(CheckpointError, match=f"cannot be written to {directory}"):
            CheckpointStore(directory)


@pytest.mark.parametrize("call", ["mkdir", "fsync"])
def test_directory_that_cannot_be_written_is_an_error_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    def fail(number: int, name: str) -> None:
        if name == call:
            raise OSError(errno.EROFS, "Read-only file system")

    with monkeypatch.context() as patch:
        Recorder(patch, fail)
        with pytest.raises(CheckpointError, match=f"cannot be written to {tmp_path}: .*Read-only"):
            CheckpointStore(tmp_path)
    assert names(tmp_path) == set()


def test_vanished_directory_is_a_typed_error(tmp_path: Path) -> None:
    store = open_store(tmp_path / "run")
    store.save(state(1), 1)
    shutil.rmtree(tmp_path / "run")
    with pytest.raises(CheckpointError, match="could not be written in 3 attempts"):
        store.save(state(2), 2)
    with pytest.raises(CheckpointError, match="cannot be listed"):
        store.latest_valid()


def test_old_checkpoint_that_cannot_be_deleted_is_announced_and_the_new_one_stands(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = open_store(tmp_path, keep_last=1)
    store.save(state(1), 1)
    original = os.replace

    def refuse(source: Any, target: Any) -> None:
        if Path(source).name == "000000000001":
            raise PermissionError(errno.EACCES, "Permission denied")
        original(source, target)

    monkeypatch.setattr(os, "replace", refuse)
    with pytest.warns(RuntimeWarning, match="000000000001 cannot be deleted: .*Permission denied"):
        store.save(state(2), 2)
    assert value_of(store) == 2


STATE = {"weight": torch.zeros(2)}


def test_rotation_keeps_the_best_besides_the_last(tmp_path: Path) -> None:
    store = CheckpointStore(tmp_path, keep_last=1, keep_best=2)
    scores = {1: 5.0, 2: 1.0, 3: None, 4: 9.0, 5: 2.0, 6: 8.0, 7: None}
    for images_seen, score in scores.items():
        store.save(STATE, images_seen, score=score)
    assert [int(path.name) for path in store.list()] == [2, 5, 7]
    store.save(STATE, 8, score=0.5)
    assert [int(path.name) for path in store.list()] == [2, 8]


def test_a_damaged_checkpoint_is_nobody_s_best(tmp_path: Path) -> None:
    store = CheckpointStore(tmp_path, keep_last=1, keep_best=1)
    store.save(STATE, 1, score=1.0)
    (tmp_path / f"{1:012d}" / "manifest.json").write_text("{}")
    store.save(STATE, 2, score=3.0)
    store.save(STATE, 3)
    assert [int(path.name) for path in store.list()] == [2, 3]


def test_the_best_is_the_one_of_the_lowest_score_and_the_oldest_of_equals(tmp_path: Path) -> None:
    store = CheckpointStore(tmp_path, keep_last=9)
    assert store.best_valid() is None
    for images_seen, score in {1: None, 2: 3.0, 3: 1.0, 4: 1.0, 5: 2.0}.items():
        store.save(state(images_seen), images_seen, score=score)
        if images_seen == 1:
            assert store.best_valid() is None
    best = store.best_valid()
    assert best is not None
    assert best.images_seen == 3
    few = CheckpointStore(tmp_path, keep_last=1, keep_best=1)
    few.save(state(6), 6)
    assert few.best_valid().images_seen == 3  # what rotation has kept is the same one


def test_a_damaged_best_is_told_and_the_next_best_read(tmp_path: Path) -> None:
    store = CheckpointStore(tmp_path, keep_last=9)
    for images_seen, score in {1: 2.0, 2: 1.0, 3: 3.0}.items():
        store.save(state(images_seen), images_seen, score=score)
    (tmp_path / f"{2:012d}" / "state.json").write_text("{}")
    with pytest.warns(RuntimeWarning, match="going back to .*000000000001"):
        best = store.best_valid()
    assert best is not None
    assert best.images_seen == 1


@pytest.mark.parametrize("score", [math.nan, math.inf])
def test_a_score_must_be_a_number(tmp_path: Path, score: float) -> None:
    with pytest.raises(ValueError, match="`score` is"):
        CheckpointStore(tmp_path).save(STATE, 1, score=score)


def test_space_is_asked_for_by_what_is_still_to_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = CheckpointStore(tmp_path, keep_last=2, keep_best=1)
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=4_000_000))
    store.require_space(1_000_000)  # two, the best, and one more while saving
    with pytest.raises(CheckpointError, match="about 4,000,004 bytes for checkpoints, but 4,000,000 are free"):
        store.require_space(1_000_001)
    store.save({"weight": torch.zeros(250_000)}, 1)  # a million bytes that need not be found again
    store.require_space(1_200_000)


def test_a_damaged_checkpoint_does_not_count_as_kept(tmp_path: Path) -> None:
    """Else the intact one would be deleted in its favour, and a single intact one be left."""
    store = CheckpointStore(tmp_path, keep_last=2)
    store.save(STATE, 8)
    store.save(STATE, 12)
    (tmp_path / f"{12:012d}" / "state.json").write_text("{}")
    again = CheckpointStore(tmp_path, keep_last=2)
    with pytest.warns(RuntimeWarning, match="going back to"):
        assert again.latest_valid().images_seen == 8
    again.save(STATE, 16)
    assert [int(path.name) for path in again.list()] == [8, 12, 16]
    again.save(STATE, 12)  # made anew, it counts again
    again.save(STATE, 20)
    assert [int(path.name) for path in again.list()] == [16, 20]
