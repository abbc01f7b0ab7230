"""Files from the network, taken for what they are only after their hash has been compared.

A file appears under its name whole and with the right SHA-256, or not at all. What is already there is hashed again
each time, and used only if nobody else may write where it lies.
"""

import hashlib
import os
import re
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any
from urllib.parse import unquote, urljoin, urlsplit

import filelock

from ganblocks._checks import require
from ganblocks._files import written_atomically
from ganblocks.errors import DataError, SecurityError

__all__ = ["fetch"]

_BLOCK = 2**16  # bytes taken from the network at a time
_LOOPBACK = ("127.0.0.1", "::1", "localhost")


def fetch(
    url: str,
    *,
    sha256: str,
    path: str | os.PathLike[str] | None = None,
    max_bytes: int = 2**33,
    timeout: float = 30.0,
    allow_loopback: bool = False,
) -> Path:
    """Download a file, or find it where an earlier call has put it.

    Two processes that fetch one file at a time download it once. What an interrupted transfer has left is written over
    by the next one.

    Args:
        url: Where it is; ``https`` only, also where a redirect leads.
        sha256: Of its bytes, 64 hexadecimal digits. There is no way without: who publishes a file tells it.
        path: Its name on this machine; missing folders are made, with mode 0700. A file of other content is not
            touched. ``None`` = a folder of this library in the user's cache, which nobody else may enter; a file there
            that does not have the hash any more is downloaded again.
        max_bytes: Largest size; no more is written.
        timeout: Seconds to wait for an answer, and for each further part of it.
        allow_loopback: Whether ``http`` will do for a server on this machine, as for tests.

    Returns:
        The path of the file.

    Raises:
        DataError: There is no such file, the transfer ended early, it is too large, or has another hash; the disk
            refuses; a file of other content is in the way. Nothing is left under the name.
        ImportError: Pooch is not installed.
        SecurityError: The address or a redirect is not ``https``, or others may write in the folder.
        ValueError: An argument is out of range.
    """
    require(re.fullmatch("[0-9a-fA-F]{64}", sha256) is not None, "sha256", sha256, "64 hexadecimal digits")
    require(max_bytes >= 1, "max_bytes", max_bytes, "at least 1")
    require(timeout > 0, "timeout", timeout, "above 0")
    _require_safe_address(url, allow_loopback)
    pooch = _pooch()
    target = _in_cache(pooch, url, sha256) if path is None else Path(path)
    try:
        _make_private(target.parent, is_cache=path is None)
        with filelock.FileLock(target.with_name(f".{target.name}.lock"), fallback_to_soft=False):
            if _is_there(target, sha256, may_be_replaced=path is None):
                return target
            with written_atomically(target, sole_writer=True) as file, _explained(url):
                _transfer(pooch, url, _Capped(file, url, max_bytes), timeout, allow_loopback)
                file.flush()
                os.fsync(file.fileno())
                _require_hash(Path(file.name), url, sha256)
    except OSError as error:
        raise DataError(f"{target} cannot be written: {error}") from error
    return target


class _Capped:
    """A file that takes so many bytes and no more."""

    def __init__(self, file: IO[bytes], url: str, max_bytes: int) -> None:
        self._file, self._url, self._max_bytes = file, url, max_bytes
        self._written = 0

    def require_room(self, size: int) -> None:
        """Refuse what would be too much in the end."""
        if self._written + size > self._max_bytes:
            raise DataError(f"{self._url} is larger than `max_bytes`, which is {self._max_bytes}; nothing is kept")

    def write(self, content: bytes) -> int:
        self.require_room(len(content))
        self._written += len(content)
        return self._file.write(content)

    def flush(self) -> None:
        self._file.flush()


def _transfer(pooch: Any, url: str, file: _Capped, timeout: float, allow_loopback: bool) -> None:
    """Let Pooch bring the bytes, with an eye on each answer before it is followed or read."""
    answers: list[Any] = []

    def look(answer: Any, *args: object, **options: object) -> None:
        answers.append(answer)
        if answer.is_redirect:
            _require_safe_address(urljoin(answer.url, answer.headers["location"]), allow_loopback)
        elif answer.ok:
            packing = answer.headers.get("content-encoding", "identity")
            if packing != "identity":  # it would be unpacked on the way, and it is not what was asked for
                raise DataError(f"{url} is sent as {packing}, but its bytes are wanted as they are")
            length = answer.headers.get("content-length", "")
            if length.isdecimal():
                file.require_room(int(length))

    download: Callable[..., None] = pooch.HTTPDownloader(
        chunk_size=_BLOCK, timeout=timeout, hooks={"response": look}, headers={"Accept-Encoding": "identity"}
    )
    try:
        download(url, file, None)
    finally:
        for answer in answers:
            answer.close()


@contextmanager
def _explained(url: str) -> Iterator[None]:
    """Whatever goes wrong on the way becomes a ``DataError`` that says from where."""
    try:
        yield
    except (
        OSError,
        ValueError,
    ) as error:  # the errors of requests are OSErrors; a length that is no number, a ValueError
        raise DataError(f"{url} could not be downloaded ({type(error).__name__}: {error})") from error


def _require_safe_address(url: str, allow_loopback: bool) -> None:
    try:
        parts = urlsplit(url)
        scheme, host = parts.scheme, parts.hostname
    except ValueError as error:
        raise SecurityError(f"{url!r} is no address: {error}") from error
    if not host or not (scheme == "https" or (allow_loopback and scheme == "http" and host in _LOOPBACK)):
        raise SecurityError(f"{url!r} is refused: only https is used")


def _in_cache(pooch: Any, url: str, sha256: str) -> Path:
    """A name that no other file has: by the hash, and readable."""
    last = unquote(urlsplit(url).path).rsplit("/", 1)[-1]
    readable = re.sub("[^A-Za-z0-9._-]", "_", last)[-80:].lstrip(".") or "file"
    return Path(pooch.os_cache("ganblocks")) / "downloads" / f"{sha256.lower()[:16]}-{readable}"


def _make_private(folder: Path, *, is_cache: bool) -> None:
    """Make the folder, and make sure that nobody else can put something into it."""
    missing = [parent for parent in (folder, *folder.parents) if not parent.exists()]
    for parent in reversed(missing):
        parent.mkdir(mode=0o700, exist_ok=True)
    if os.name == "nt":  # access is not told by modes there
        return
    status = folder.stat()
    if is_cache:
        if status.st_uid != os.geteuid():
            raise SecurityError(f"{folder} belongs to another user; set XDG_CACHE_HOME, or give a path")
        if stat.S_IMODE(status.st_mode) & 0o077:
            folder.chmod(0o700)
    elif status.st_mode & stat.S_IWOTH:
        raise SecurityError(f"every user may write in {folder}; choose a folder of your own, or chmod o-w {folder}")


def _is_there(target: Path, sha256: str, *, may_be_replaced: bool) -> bool:
    """Whether the file is there with these bytes. Another file is an error, unless it may be replaced."""
    if not os.path.lexists(target):
        return False
    if target.is_file() and _hash(target) == sha256.lower():
        return True
    if may_be_replaced:
        return False
    raise DataError(f"{target} is there, but is not the file with the SHA-256 {sha256}; remove it or choose another")


def _require_hash(path: Path, url: str, sha256: str) -> None:
    found = _hash(path)
    if found != sha256.lower():
        raise DataError(f"{url} has the SHA-256 {found}, but must have {sha256}; nothing is kept")


def _hash(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _pooch() -> Any:
    try:
        import pooch  # type: ignore[import-untyped, unused-ignore]
    except ImportError as error:
        raise ImportError(
            'pooch is needed to download files, but missing: pip install "ganblocks[examples]"'
        ) from error
    return pooch
