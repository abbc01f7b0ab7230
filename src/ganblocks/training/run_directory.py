"""A directory belongs to one run, with one set of settings, and to one process at a time."""

import json
import os
import platform
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import filelock

from ganblocks._files import written_atomically
from ganblocks.errors import CheckpointError, RunMismatchError
from ganblocks.training.distributed import current_replicas

__all__ = ["RunLock", "claim_run_directory", "new_run_directory", "require_own_run_directory"]


class RunLock:
    """Keeps a second process out of a run directory, while active.

    The operating system holds the lock (``.lock``) and drops it when the process ends, however it ends: there are
    no stale locks. ``.lock.json`` beside it only tells who holds it.

    Args:
        run_dir: An existing directory.
    """

    def __init__(self, run_dir: Path) -> None:
        self._lock = filelock.FileLock(run_dir / ".lock", timeout=0, fallback_to_soft=False)
        self._owner = run_dir / ".lock.json"

    def __enter__(self) -> Self:
        """Take the lock.

        Raises:
            CheckpointError: If another process (or another trainer in this one) trains in the directory, or the file
                system has no locks.
        """
        try:
            self._lock.acquire()
        except filelock.Timeout:
            raise CheckpointError(
                f"{self._owner.parent} is in use by another run{self._describe_owner()}. Wait for it, stop it, or "
                "choose another directory"
            ) from None
        except OSError as error:
            raise CheckpointError(f"{self._owner.parent} cannot be locked against a second run: {error}") from error
        owner = {"pid": os.getpid(), "host": platform.node()}
        try:
            self._owner.write_text(json.dumps(owner) + "\n", encoding="utf-8")
        except OSError as error:
            self._lock.release()
            raise CheckpointError(f"the run directory {self._owner.parent} cannot be used: {error}") from error
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Give the lock back."""
        self._owner.unlink(missing_ok=True)
        self._lock.release()

    def _describe_owner(self) -> str:
        try:
            owner = json.loads(self._owner.read_text(encoding="utf-8"))
            return f" (process {owner['pid']} on {owner['host']})"
        except (OSError, ValueError, LookupError, TypeError):
            return ""


def new_run_directory(path: str | os.PathLike[str]) -> Path:
    """The path itself if nothing is there yet, else the first free one of ``path-2``, ``path-3`` and so on.

    Several processes of one run (`joined_processes`) all get what the first one finds.
    """
    replicas = current_replicas()
    return Path(replicas.share(str(_free_path(path)) if replicas.rank == 0 else None))


def _free_path(path: str | os.PathLike[str]) -> Path:
    wanted = Path(path)
    candidate, number = wanted, 1
    while candidate.exists() and (not candidate.is_dir() or any(candidate.iterdir())):
        number += 1
        candidate = wanted.with_name(f"{wanted.name}-{number}")
    return candidate


def require_own_run_directory(run_dir: Path, settings: Mapping[str, Any]) -> None:
    """Make sure that the directory can be made, or belongs to a run with these settings. Writes no settings.

    Raises:
        CheckpointError: If the directory cannot be used.
        RunMismatchError: If it belongs to a run with other settings; lists them.
    """
    path = run_dir / "config.json"
    try:
        run_dir.mkdir(parents=True, exist_ok=True)
        if path.exists():
            old = json.loads(path.read_text(encoding="utf-8"))
            if not isinstance(old, dict):
                raise ValueError("it holds no settings")
            _require_same_settings(old, json.loads(_as_json(settings)), run_dir)
    except OSError as error:
        raise CheckpointError(f"the run directory {run_dir} cannot be used: {error}") from error
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{path} is not valid JSON ({error}); remove it or choose another directory") from error


def claim_run_directory(run_dir: Path, settings: Mapping[str, Any]) -> None:
    """Write the settings, once, when training begins: what was only tried leaves the directory free.

    Raises:
        CheckpointError: If they cannot be written.
    """
    path = run_dir / "config.json"
    if path.exists():
        return
    try:
        with written_atomically(path, sole_writer=True) as file:
            file.write((_as_json(settings) + "\n").encode())
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise CheckpointError(f"the run directory {run_dir} cannot be used: {error}") from error


def _as_json(settings: Mapping[str, Any]) -> str:
    return json.dumps(settings, indent=2, sort_keys=True, default=str)


def _require_same_settings(old: Mapping[str, Any], new: Mapping[str, Any], run_dir: Path) -> None:
    differing = sorted(key for key in {*old, *new} if old.get(key) != new.get(key))
    if differing:
        lines = [f"  {key}: {old.get(key)!r} there, {new.get(key)!r} now" for key in differing]
        raise RunMismatchError(
            f"{run_dir} holds a run with other settings:\n" + "\n".join(lines) + "\n"
            "Use its settings to go on with it, another directory for a new run, or --fresh"
        )
