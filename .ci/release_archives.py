"""What is inside an sdist or a wheel, and how two of them differ."""

import io
import tarfile
import zipfile
from pathlib import Path

__all__ = ["ReleaseError", "differences", "listing"]


class ReleaseError(Exception):
    """A release may not be made like this; the message says why."""


def listing(archive: Path) -> dict[str, tuple[str, bytes]]:
    """The files of an sdist (below its top folder) or a wheel: what is told of each, and its content.

    Raises:
        ReleaseError: It holds something that is no file, or one name twice.
    """
    found: dict[str, tuple[str, bytes]] = {}
    for name, told, content in _zipped(archive) if archive.suffix == ".whl" else _packed(archive):
        if name in found:
            raise ReleaseError(f"{archive.name} holds {name} twice")
        found[name] = (told, content)
    return found


def _zipped(archive: Path) -> list[tuple[str, str, bytes]]:
    with zipfile.ZipFile(archive) as file:
        return [(i.filename, f"{i.date_time} {i.external_attr >> 16:o}", file.read(i)) for i in file.infolist()]


def _packed(archive: Path) -> list[tuple[str, str, bytes]]:
    rows = []
    with tarfile.open(fileobj=io.BytesIO(archive.read_bytes())) as file:
        for member in file.getmembers():
            content = file.extractfile(member) if member.isreg() else None
            if content is None:
                raise ReleaseError(f"{archive.name}: {member.name} is no regular file")
            told = f"{member.mtime} {member.mode:o} {member.uid} {member.gid} {member.uname!r} {member.gname!r}"
            rows.append((member.name.partition("/")[2], told, content.read()))
    return rows


def differences(first: Path, second: Path) -> list[str]:
    """How two archives differ, bit by bit: one line for each file in them; none if they are the same."""
    if first.name == second.name and first.read_bytes() == second.read_bytes():
        return []
    one, two = listing(first), listing(second)
    lines = [f"only in the first: {name}" for name in one.keys() - two.keys()]
    lines += [f"only in the second: {name}" for name in two.keys() - one.keys()]
    for name in one.keys() & two.keys():
        if one[name][0] != two[name][0]:
            lines.append(f"{name}: {one[name][0]} and {two[name][0]}")
        if one[name][1] != two[name][1]:
            lines.append(f"{name}: other content")
    return sorted(lines) or [f"{first.name} and {second.name}: same files, but packed in another way"]
