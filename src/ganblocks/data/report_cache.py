"""What a check of images has found, kept in a JSON file, so that the next one reads only what has changed."""

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from ganblocks._files import written_atomically
from ganblocks._json import read_json
from ganblocks.data.decode import RULES_VERSION
from ganblocks.errors import DataError

__all__ = ["FileFacts", "ReportCache"]

_FORMAT = 1


@dataclass(frozen=True)
class FileFacts:
    """What is known of one file.

    Attributes:
        format: As Pillow names it; empty for a file that cannot be read, as the next four.
        mode: As Pillow names it.
        size: "200x150" for 200 pixels in width.
        digest: SHA-256 of its bytes, in hex.
        pixels: SHA-256 of its size and RGB pixels, in hex.
        error: Why it cannot be read: the kind of error; ``None`` = it can.
        reason: The message of that error.
        lasting: Whether this holds as long as the file does not change.
    """

    format: str = ""
    mode: str = ""
    size: str = ""
    digest: str = ""
    pixels: str = ""
    error: str | None = None
    reason: str = ""
    lasting: bool = True


class ReportCache:
    """Facts by name and stamp of the file: (size in bytes, time of change or checksum).

    Args:
        path: Of the JSON file. Where it is missing, damaged, or was written for another source, other options or other
            decoding rules, nothing is known. ``None`` = nothing is known and nothing is kept.
        source: The folder or archive.
        options: Of the check, as JSON can hold them.
    """

    def __init__(self, path: str | os.PathLike[str] | None, source: Path, options: Mapping[str, object]) -> None:
        self.path: Path | None = None if path is None else Path(path)
        self._about = {
            "format": _FORMAT,
            "rules": RULES_VERSION,
            "source": str(source.resolve()),
            "options": dict(options),
        }
        self._known: dict[str, tuple[list[int], FileFacts]] = {}
        if self.path is not None and self.path.is_file():  # reading a pipe would wait for ever
            try:
                self._known = self._read(read_json(self.path.read_bytes()))
            except (OSError, ValueError, TypeError, KeyError, AttributeError):
                self._known = {}

    def get(self, name: str, stamp: tuple[int, int]) -> FileFacts | None:
        """What is known of the file of this name, if it still has this stamp; ``None`` = nothing."""
        stored, facts = self._known.get(name, ([], FileFacts()))
        return facts if stored == list(stamp) else None

    def save(self, names: Sequence[str], stamps: Sequence[tuple[int, int]], found: Sequence[FileFacts]) -> None:
        """Keep what was found of the first ``len(found)`` files, and what was known of the others.

        Raises:
            DataError: The file cannot be written.
        """
        if self.path is None:
            return
        files: dict[str, Any] = {}
        for position, (name, stamp) in enumerate(zip(names, stamps, strict=True)):
            facts = found[position] if position < len(found) else self.get(name, stamp)
            if facts is not None and facts.lasting:
                files[name] = [list(stamp), [getattr(facts, field) for field in _STORED]]
        try:
            with written_atomically(self.path) as file:
                file.write(json.dumps({**self._about, "files": files}).encode())
        except OSError as error:
            raise DataError(f"the cache of checks {str(self.path)!r} cannot be written: {error}") from error

    def _read(self, document: Any) -> dict[str, tuple[list[int], FileFacts]]:
        files = document.pop("files")
        if document != self._about:
            raise ValueError("of another check")
        known = {}
        for name, (stamp, values) in files.items():
            facts = FileFacts(**dict(zip(_STORED, values, strict=True)))
            texts = [value for field, value in zip(_STORED, values, strict=True) if (field, value) != ("error", None)]
            if not all(isinstance(text, str) for text in texts) or [type(number) for number in stamp] != [int, int]:
                raise ValueError(f"{name!r} has facts of wrong types")
            known[name] = (stamp, facts)
        return known


_STORED = [field.name for field in fields(FileFacts) if field.name != "lasting"]
