"""A directory of checkpoints that survives crashes, full disks and flipped bits.

How a checkpoint is written: all files into ``.tmp-<pid>-<name>``, each fsynced, then that directory; read back and
compared with the hashes; renamed to its final name (images seen, 12 digits); the parent fsynced; only then are older
ones deleted. A crash at any instant leaves the older checkpoints as they were, and at most a temporary that the next
opening sweeps away.

Saving again at the same number of images renames the old one to ``.old-<pid>-<name>`` first. A crash between the two
renames leaves it there, whole; opening the store renames it back.
"""

import contextlib
import os
import re
import shutil
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from ganblocks._checks import require
from ganblocks.errors import CheckpointCorruptError, CheckpointError
from ganblocks.training.checkpoint_directory import list_checkpoints, newest_intact
from ganblocks.training.checkpoint_format import (
    Checkpoint,
    encode_checkpoint,
    fsync_directory,
    read_checkpoint,
    read_score,
    verify_hashes,
    write_files,
)

__all__ = ["Checkpoint", "CheckpointStore", "complete"]

_LEFTOVER = re.compile(r"\.(tmp|old)-([0-9]+)-(probe|(?:old-)?[0-9]{12,})")


class CheckpointStore:
    """The checkpoints of one run, named by the number of images seen. One process at a time may save.

    Opening creates the directory, proves that it can be written to, and clears what a crash has left.

    Args:
        directory: Where the checkpoints live.
        keep_last: How many to keep, the newest, at least 1. Those with more images seen than the one just saved
            (left behind by a run that went back), and those that `latest_valid` found damaged, are neither counted
            nor deleted.
        keep_best: How many to keep besides, those saved with the lowest ``score``.
        pinned: Called with the path of a checkpoint about to be deleted; True keeps it. None pins nothing.
        attempts: How often ``save`` tries before it gives up, at least 1.
        backoff_seconds: Pause before the second attempt; it doubles with each further one.

    Raises:
        CheckpointError: The directory cannot be created or written to.
        ValueError: ``keep_last`` or ``attempts`` is below 1, or ``keep_best`` or ``backoff_seconds`` below 0.
    """

    def __init__(
        self,
        directory: str | os.PathLike[str],
        *,
        keep_last: int = 3,
        keep_best: int = 0,
        pinned: Callable[[Path], bool] | None = None,
        attempts: int = 3,
        backoff_seconds: float = 0.5,
    ) -> None:
        require(keep_last >= 1, "keep_last", keep_last, "at least 1")
        require(keep_best >= 0, "keep_best", keep_best, "at least 0")
        require(attempts >= 1, "attempts", attempts, "at least 1")
        require(backoff_seconds >= 0, "backoff_seconds", backoff_seconds, "at least 0")
        self.directory: Path = Path(directory).absolute()
        self.keep_last = keep_last
        self.keep_best = keep_best
        self._damaged: set[Path] = set()  # as far as `latest_valid` has come upon them
        self._pinned = pinned
        self._attempts = attempts
        self._backoff_seconds = backoff_seconds
        try:
            self.directory.mkdir(parents=True, exist_ok=True)
            self._sweep()
            probe = self._leftover("tmp", "probe")
            try:
                write_files(probe, {"probe": b"can this be written?"})
            finally:
                _delete(probe)
        except OSError as error:
            raise CheckpointError(f"checkpoints cannot be written to {self.directory}: {error}") from error

    def __repr__(self) -> str:
        return f"CheckpointStore({str(self.directory)!r}, keep_last={self.keep_last})"

    def save(
        self,
        state: Mapping[str, Any],
        images_seen: int,
        metadata: Mapping[str, Any] | None = None,
        *,
        score: float | None = None,
        check_finite: bool = True,
    ) -> Path:
        """Write a checkpoint, durably and verified, then delete the oldest beyond ``keep_last`` and ``keep_best``.

        Args:
            state: What to save; see ``ganblocks.training.state.flatten`` for the types it may hold.
            images_seen: Number of real images the run has seen, not negative. A checkpoint of that number is replaced.
            metadata: Anything JSON, stored in the manifest; None is an empty object.
            score: A finite number, lower is better, by which ``keep_best`` chooses; None never is among the best.
            check_finite: Whether to refuse tensors that hold NaN or infinity.

        Returns:
            The directory of the new checkpoint.

        Raises:
            NonFiniteError: A tensor holds NaN or infinity; names it. Nothing was written.
            TypeError, ValueError: The state or the metadata cannot be saved; names the place. Nothing was written.
            CheckpointError: Every attempt failed, a full disk for example. The older checkpoints are intact.
        """
        require(type(images_seen) is int and images_seen >= 0, "images_seen", images_seen, "an int, not negative")
        files = encode_checkpoint(state, images_seen, metadata, score=score, check_finite=check_finite)
        final = self.directory / f"{images_seen:012d}"
        if final.is_symlink():
            raise CheckpointError(f"{final} is a symbolic link; remove it, checkpoints are not written through links")
        failure: Exception | None = None
        for attempt in range(self._attempts):
            if attempt:
                time.sleep(self._backoff_seconds * 2 ** (attempt - 1))
            try:
                self._write(files, final)
                break
            except (OSError, CheckpointCorruptError) as error:
                failure = error
        else:
            raise CheckpointError(
                f"checkpoint {final} could not be written in {self._attempts} attempts: {failure}. It needs "
                f"{sum(map(len, files.values())):,} bytes{_free_space(self.directory)}. Free some space or repair the "
                "directory, then resume; the older checkpoints are intact"
            ) from failure
        self._rotate(final)
        return final

    def require_space(self, size: int) -> None:
        """Make sure, before a long run, that the disk can hold what will be written.

        Args:
            size: Bytes of one checkpoint. The store needs ``keep_last + keep_best`` of them, and one more while saving,
                less what it already holds.

        Raises:
            CheckpointError: There is less; names both numbers.
        """
        try:
            held = sum(file.stat().st_size for path in self.list() for file in path.glob("*"))
            free = shutil.disk_usage(self.directory).free
        except OSError:
            return  # some network drives do not say
        needed = max(size, (self.keep_last + self.keep_best + 1) * size - held)
        if free < needed:
            raise CheckpointError(
                f"{self.directory} needs about {needed:,} bytes for checkpoints, but {free:,} are free. Free some "
                "space, keep fewer checkpoints, or choose a directory on another disk"
            )

    def list(self) -> list[Path]:
        """The checkpoints, oldest first, whether valid or not.

        Raises:
            CheckpointError: The directory cannot be read.
        """
        return list_checkpoints(self.directory)

    def latest_valid(self) -> Checkpoint | None:
        """The newest checkpoint that is intact, or None if there is no checkpoint at all.

        A damaged one that is newer gives a ``RuntimeWarning`` with its path and what is wrong.

        Raises:
            CheckpointCorruptError: There are checkpoints, and all are damaged; names each and why.
            CheckpointError: The newest was written by a newer ganblocks or is a symbolic link: not for us to skip.
        """
        there = self.list()
        return newest_intact(there, damaged=self._damaged) if there else None

    def best_valid(self) -> Checkpoint | None:
        """The checkpoint saved with the lowest score, the oldest of equal ones; None if none was saved with a score.

        A damaged one gives a ``RuntimeWarning``, and the next best is read.

        Raises:
            CheckpointCorruptError: There are some with a score, and all are damaged; names each and why.
            CheckpointError: The best was written by a newer ganblocks or is a symbolic link: not for us to skip.
        """
        scores = {path: score for path in self.list() if (score := read_score(path)) is not None}
        worst_first = sorted(scores, key=lambda path: (scores[path], int(path.name)), reverse=True)
        return newest_intact(worst_first, damaged=self._damaged) if scores else None

    def load(self, path: str | os.PathLike[str]) -> Checkpoint:
        """Read one checkpoint and verify every byte of it; see ``read_checkpoint`` for the errors.

        Args:
            path: Its directory; it need not lie in this store.
        """
        return read_checkpoint(path)

    def verify(self, path: str | os.PathLike[str]) -> None:
        """Raise CheckpointCorruptError unless the checkpoint is intact and can be read; see ``read_checkpoint``."""
        read_checkpoint(path)

    def _write(self, files: Mapping[str, bytes], final: Path) -> None:
        """One attempt: temporary, verify, publish. Leaves no temporary behind, whatever happens."""
        self._sweep()
        temporary = self._leftover("tmp", final.name)
        try:
            write_files(temporary, files)
            verify_hashes(temporary)
            self._publish(temporary, final)
        finally:
            _delete(temporary)

    def _publish(self, temporary: Path, final: Path) -> None:
        if not os.path.lexists(final):
            os.replace(temporary, final)
            fsync_directory(self.directory)
            return
        aside = self._leftover("old", final.name)
        os.replace(final, aside)
        try:
            os.replace(temporary, final)
        except BaseException:
            os.replace(aside, final)
            raise
        fsync_directory(self.directory)
        self._discard(aside, final.name)

    def _rotate(self, newest: Path) -> None:
        self._damaged.discard(newest)
        whole = [path for path in self.list() if path not in self._damaged]  # what is damaged must not count as kept
        upto = [path for path in whole if int(path.name) <= int(newest.name)]
        scores = {path: score for path in upto if self.keep_best and (score := read_score(path)) is not None}
        best = sorted(scores, key=lambda path: scores[path])[: self.keep_best]
        for path in upto[: -self.keep_last]:
            if (
                path in best
                or path.is_symlink()
                or not path.is_dir()
                or (self._pinned is not None and self._pinned(path))
            ):
                continue
            self._discard(path, path.name)

    def _discard(self, path: Path, name: str) -> None:
        """Rename before deleting, so that a crash halfway leaves no half checkpoint under a checkpoint's name."""
        doomed = self._leftover("tmp", f"old-{name}")
        try:
            os.replace(path, doomed)
        except OSError as error:
            warnings.warn(f"the old checkpoint {path} cannot be deleted: {error}", RuntimeWarning, stacklevel=2)
        else:
            _delete(doomed)

    def _leftover(self, kind: str, name: str) -> Path:
        return self.directory / f".{kind}-{os.getpid()}-{name}"

    def _sweep(self) -> None:
        """Undo what a process that is gone, or an earlier attempt of this one, has left half done."""
        for path in sorted(self.directory.iterdir()):
            match = _LEFTOVER.fullmatch(path.name)
            if match is None or _is_another_living_process(int(match[2])):
                continue
            final = self.directory / match[3]
            if match[1] == "old" and not os.path.lexists(final):
                os.replace(path, final)
                fsync_directory(self.directory)
            else:
                _delete(path)


def _is_another_living_process(pid: int) -> bool:
    if pid == os.getpid() or os.name == "nt":  # on Windows os.kill(pid, 0) would end that process
        return False
    try:
        os.kill(pid, 0)
    except PermissionError:
        return True
    except (OverflowError, ProcessLookupError):
        return False
    return True


def _delete(path: Path) -> None:
    """Remove a leftover, never through a link; what cannot be removed now is swept later."""
    try:
        if path.is_symlink() or path.is_file():
            path.unlink(missing_ok=True)
        else:
            shutil.rmtree(path, ignore_errors=True)
    except OSError as error:
        warnings.warn(f"the leftover {path} cannot be deleted: {error}", RuntimeWarning, stacklevel=2)


def _free_space(directory: Path) -> str:
    try:
        return f", {shutil.disk_usage(directory).free:,} are free"
    except OSError:
        return ""


@contextlib.contextmanager
def complete(checkpoint: Checkpoint, what: str) -> Iterator[None]:
    """A key that is looked for in vain inside becomes a CheckpointError that names it.

    Args:
        checkpoint: Whose state is read.
        what: The part that is read, for the message.
    """
    try:
        yield
    except KeyError as error:
        raise CheckpointError(
            f"{checkpoint.path} lacks {error} in {what}: it is not of this kind of run, or of another ganblocks"
        ) from error
