"""The one way this library writes a file: whole, or not at all."""

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

__all__ = ["written_atomically"]


@contextmanager
def written_atomically(path: str | os.PathLike[str], *, sole_writer: bool = False) -> Iterator[IO[bytes]]:
    """Open a temporary file beside ``path`` and rename it to ``path`` at the end; on an error remove it instead.

    A reader never sees half a file. Whether it outlives a power cut is the caller's choice: an ``os.fsync`` inside.

    Args:
        path: The file; an older one is replaced. Missing folders are made.
        sole_writer: Whether nobody else can be writing the same file, as under a lock. The temporary then has one
            fixed name, so that the one a killed process has left is written over rather than kept for ever.

    Yields:
        The temporary file, open for writing bytes.

    Raises:
        OSError: The file could not be written; an older one is then untouched.
    """
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    mark = "" if sole_writer else f".{secrets.token_hex(4)}"
    temporary = target.with_name(f".{target.name}{mark}.tmp")
    try:
        with temporary.open("wb" if sole_writer else "xb") as file:
            yield file
        os.replace(temporary, target)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
