"""The checkpoints in a directory: which there are, and the newest that is intact. Nothing is written.

So a directory may be looked at while a run uses it. `ganblocks.training.checkpoint.CheckpointStore` is for the run that
owns it.
"""

import os
import re
import warnings
from collections.abc import Sequence
from pathlib import Path

from ganblocks.errors import CheckpointCorruptError, CheckpointError
from ganblocks.training.checkpoint_format import Checkpoint, read_checkpoint

__all__ = ["find_checkpoints", "list_checkpoints", "newest_intact", "read_newest_checkpoint"]

_NAME = re.compile(r"[0-9]{12,}")  # images seen


def list_checkpoints(folder: Path) -> list[Path]:
    """What has the name of a checkpoint in this very folder, oldest first, whether valid or not; maybe nothing.

    Raises:
        CheckpointError: The folder cannot be read.
    """
    try:
        found = [path for path in folder.iterdir() if _NAME.fullmatch(path.name)]
    except OSError as error:
        raise CheckpointError(f"the checkpoints in {folder} cannot be listed: {error}") from error
    return sorted(found, key=lambda path: int(path.name))


def find_checkpoints(path: str | os.PathLike[str]) -> list[Path]:
    """The checkpoints of a run, oldest first, whether valid or not.

    Args:
        path: A run directory, the folder of its checkpoints, or one checkpoint.

    Returns:
        Their directories, at least one.

    Raises:
        CheckpointError: There is none, or the path is no directory or cannot be read.
    """
    path = Path(path)
    if not path.is_dir():
        raise CheckpointError(f"{path} is no directory" if os.path.lexists(path) else f"{path} does not exist")
    folder = path / "checkpoints" if (path / "checkpoints").is_dir() else path
    if found := list_checkpoints(folder):
        return found
    if _NAME.fullmatch(path.name) or os.path.lexists(path / "manifest.json"):
        return [path]
    raise CheckpointError(f"{path} holds no checkpoint")


def newest_intact(checkpoints: Sequence[Path], *, damaged: set[Path] | None = None) -> Checkpoint:
    """The last of these checkpoints that is intact. Each damaged one after it gives a ``RuntimeWarning``.

    Args:
        checkpoints: Their directories, oldest first, at least one.
        damaged: Those found damaged are added to it; ``None`` keeps no account.

    Raises:
        CheckpointCorruptError: All are damaged; names each and why.
        CheckpointError: The newest was written by a newer ganblocks or is a symbolic link: not for us to skip.
    """
    damage: list[str] = []
    for path in reversed(checkpoints):
        try:
            checkpoint = read_checkpoint(path)
        except CheckpointCorruptError as error:
            damage.append(str(error))
            if damaged is not None:
                damaged.add(path)
            continue
        for reason in damage:
            # The caller of `latest_valid` or `read_newest_checkpoint` is who should be told.
            warnings.warn(f"{reason}; going back to {path}", RuntimeWarning, stacklevel=3)
        return checkpoint
    raise CheckpointCorruptError(
        f"all {len(damage)} checkpoints in {checkpoints[0].parent} are damaged: {'; '.join(damage)}"
    )


def read_newest_checkpoint(path: str | os.PathLike[str]) -> Checkpoint:
    """The newest checkpoint that is intact. A damaged one that is newer gives a ``RuntimeWarning``.

    Args:
        path: As for `find_checkpoints`.

    Raises:
        CheckpointCorruptError: All are damaged; names each and why.
        CheckpointError: There is none, or the newest is a symbolic link or was written by a newer ganblocks.
    """
    return newest_intact(find_checkpoints(path))
