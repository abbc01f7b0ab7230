"""What becomes of images that cannot be read, where a source is turned into arrays: an error, or left out and told.

Only what a source reports as ``DataError`` can be left out: a damaged, oversized, vanished or forbidden file. A fault
of the machine, such as a full memory or too many open files, is no fault of the image and always raises; otherwise good
images would be lost. Nothing of the user's is moved or changed.
"""

import errno
import hashlib
import json
import os
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal, Self, TypeVar, get_args

from ganblocks._checks import require
from ganblocks._files import written_atomically
from ganblocks.data.source import ImageSource
from ganblocks.errors import DataError, EmptyDatasetError

__all__ = ["ErrorPolicy", "LeftOut", "OnError", "fingerprint_of", "is_fault_of_the_machine"]

OnError = Literal["raise", "skip", "quarantine"]
"""What to do with an image that cannot be read: raise; leave it out; leave it out and write a list."""

T = TypeVar("T")

_SHOWN = 3  # names in the warning
_MACHINE = (errno.EMFILE, errno.ENFILE, errno.ENOMEM)


@dataclass(frozen=True)
class LeftOut:
    """An image that could not be read.

    Attributes:
        index: Of the image in its source.
        name: Of the file; ``None`` where the source has no names.
        error: The kind of error, such as ``"ImageDecodeError"``.
        reason: Its message.
    """

    index: int
    name: str | None
    error: str
    reason: str

    def to_dict(self) -> dict[str, Any]:
        """The attributes, as JSON can hold them."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """The opposite of `to_dict`.

        Raises:
            ValueError: A value is missing, unknown, or of another type.
        """
        kinds = {"index": int, "name": str, "error": str, "reason": str}
        fits = isinstance(values, Mapping) and set(values) == set(kinds)
        if not fits or not all(_is(values[key], kind, key == "name") for key, kind in kinds.items()):
            raise ValueError(f"`values` is {values!r}, but must hold {', '.join(kinds)}")
        return cls(**values)


class ErrorPolicy:
    """What to do with images that cannot be read.

    Args:
        on_error: "raise" = the error reaches the caller; "skip" = the image is left out, and a warning tells how many
            were; "quarantine" = as "skip", and the list is written to ``quarantine`` in addition.
        quarantine: File for that list, JSON, replaced if it is there; given for "quarantine" and for nothing else.

    Raises:
        ValueError: ``on_error`` is none of the three, or ``quarantine`` is missing or not asked for.
    """

    def __init__(self, on_error: OnError, quarantine: str | os.PathLike[str] | None) -> None:
        require(on_error in get_args(OnError), "on_error", on_error, f"one of {', '.join(get_args(OnError))}")
        wanted = on_error == "quarantine"
        expected = 'the file to write for `on_error="quarantine"`' if wanted else f'None for `on_error="{on_error}"`'
        require((quarantine is not None) == wanted, "quarantine", quarantine, expected)
        self.leaves_out: bool = on_error != "raise"
        self.quarantine = quarantine

    def attempt(self, source: ImageSource, index: int, read: Callable[[], T]) -> T | LeftOut:
        """What ``read`` returns, or why the image ``index`` is left out.

        Raises:
            DataError: What ``read`` raised, if the policy is to raise, or if it is a fault of the machine.
        """
        try:
            return read()
        except DataError as error:
            if not self.leaves_out or is_fault_of_the_machine(error):
                raise
            names = getattr(source, "names", None)
            name = None if names is None else str(names[index])
            return LeftOut(int(index), name, type(error).__name__, str(error))

    def conclude(self, left_out: Sequence[LeftOut], total: int, *, stacklevel: int = 1) -> None:
        """Write the list and warn, after all of ``total`` images have been tried.

        Args:
            left_out: In order.
            total: Images of the source that were asked for.
            stacklevel: 1 = the warning points at the caller, 2 = at its caller, ...

        Raises:
            EmptyDatasetError: All were left out.
            DataError: The list cannot be written.
        """
        if self.quarantine is not None:
            _write(self.quarantine, left_out)
        if not left_out:
            return
        reasons = "; ".join(entry.reason for entry in left_out[:_SHOWN])
        if len(left_out) == total:
            raise EmptyDatasetError(f"none of the {total} images could be read: {reasons}")
        more = f"; and {len(left_out) - _SHOWN} more" if len(left_out) > _SHOWN else ""
        listed = "" if self.quarantine is None else f" (all of them: {os.fspath(self.quarantine)})"
        warnings.warn(
            f"{len(left_out)} of {total} images could not be read and are left out: {reasons}{more}{listed}",
            UserWarning,
            stacklevel=stacklevel + 1,
        )


def is_fault_of_the_machine(error: BaseException) -> bool:
    """Whether an error was caused by a full memory or too many open files, and so says nothing about the image."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, MemoryError) or (isinstance(cause, OSError) and cause.errno in _MACHINE):
            return True
        cause = cause.__cause__
    return False


def fingerprint_of(source: ImageSource, indices: Sequence[int]) -> str:
    """The fingerprint of the chosen images of a source, a function of what was chosen alone.

    A source that can tell is asked (``source.fingerprint_of(indices)``, as `ImageFolder` has); for others it is SHA-256
    over the source's own fingerprint and the indices.
    """
    own = getattr(source, "fingerprint_of", None)
    if own is not None:
        return str(own(indices))
    content = json.dumps([source.fingerprint, [int(index) for index in indices]])
    return hashlib.sha256(content.encode()).hexdigest()


def _is(value: object, kind: type, or_none: bool) -> bool:
    return type(value) is kind or (or_none and value is None)


def _write(path: str | os.PathLike[str], left_out: Sequence[LeftOut]) -> None:
    try:
        with written_atomically(path) as file:
            file.write(json.dumps([entry.to_dict() for entry in left_out], indent=1).encode() + b"\n")
    except OSError as error:
        raise DataError(f"the list of unreadable images {os.fspath(path)!r} cannot be written: {error}") from error
