"""What a folder or an archive of images holds, before anything is trained on it: `check_images`.

Every file is read and decoded once, by the rules that training uses. What was found can be kept in a file, so that a
second check reads no file again that has the size and the time of change (folder) or checksum (archive) it had before.
"""

import hashlib
import io
import json
import os
import sys
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, fields
from typing import Any, Self

from tqdm import tqdm

from ganblocks._checks import require
from ganblocks._json import read_json
from ganblocks.data.decode import MINIMUM_SIDE, Crop, decode_image, image_header, square_pixels
from ganblocks.data.image_folder import ImageFolder
from ganblocks.data.report_cache import FileFacts, ReportCache
from ganblocks.data.unreadable import is_fault_of_the_machine
from ganblocks.errors import DataError

__all__ = ["BadFile", "DatasetReport", "check_images"]


@dataclass(frozen=True)
class BadFile:
    """A file that training could not use.

    Attributes:
        name: Relative, as `ImageFolder` has it.
        error: The kind of error, such as ``"ImageDecodeError"``.
        reason: Its message.
    """

    name: str
    error: str
    reason: str


@dataclass(frozen=True)
class DatasetReport:
    """What was found. All counts are of files that can be read; names are sorted.

    Attributes:
        source: The folder or archive.
        images: Files that can be read.
        bytes: Their sizes together.
        formats: Count by format, such as "PNG"; the commonest first, as below.
        modes: Count by Pillow's name of the mode, such as "RGB".
        sizes: Count by size of the upright image, such as "200x150".
        classes: Count by class; empty without classes.
        duplicates: Groups of files with the same bytes.
        same_pixels: Groups of files that show the same pixels, after decoding to RGB, with different bytes among them.
        bad: Files that cannot be read.
    """

    source: str
    images: int
    bytes: int
    formats: Mapping[str, int]
    modes: Mapping[str, int]
    sizes: Mapping[str, int]
    classes: Mapping[str, int]
    duplicates: tuple[tuple[str, ...], ...]
    same_pixels: tuple[tuple[str, ...], ...]
    bad: tuple[BadFile, ...]

    def to_dict(self) -> dict[str, Any]:
        """The attributes, as JSON can hold them."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        values |= {name: dict(values[name]) for name in _COUNTS}
        values |= {name: [list(group) for group in values[name]] for name in _GROUPS}
        return {**values, "bad": [dict(vars(file)) for file in self.bad]}

    def to_json(self) -> str:
        """`to_dict` as text, ASCII: names of files may hold anything."""
        return json.dumps(self.to_dict(), indent=1)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """The opposite of `to_dict`.

        Raises:
            ValueError: A value is missing, unknown, or of another type.
        """
        known = [field.name for field in fields(cls)]
        if not isinstance(values, Mapping) or set(values) != set(known):
            raise ValueError(f"`values` must hold {', '.join(known)}, and nothing else")
        wrong = [name for name in known if not _fits(name, values[name])]
        require(not wrong, "values", ", ".join(wrong), "of the types that `to_dict` gives")
        groups = {name: tuple(tuple(group) for group in values[name]) for name in _GROUPS}
        return cls(**{**values, **groups, "bad": tuple(BadFile(**file) for file in values["bad"])})

    @classmethod
    def from_json(cls, text: str) -> Self:
        """The opposite of `to_json`.

        Raises:
            ValueError: The text is no JSON, or `from_dict` refuses it.
        """
        return cls.from_dict(read_json(text))


_COUNTS = ("formats", "modes", "sizes", "classes")
_GROUPS = ("duplicates", "same_pixels")


def check_images(
    source: str | os.PathLike[str],
    *,
    crop: Crop = "center",
    max_pixels: int = 64_000_000,
    cache: str | os.PathLike[str] | None = None,
    workers: int = 1,
    progress: bool | None = None,
) -> DatasetReport:
    """Read every image of a folder or a zip archive once, and tell what was found.

    Args:
        source: The folder or the .zip file.
        crop: As training will use; "center" cannot use an image with a side below 4 pixels.
        max_pixels: Largest width * height of an image.
        cache: JSON file in which to keep what was found, so that files which did not change are not read again; one
            that is damaged, or of another source or other options, is begun anew. Files that could not be opened are
            tried again each time. ``None`` = nothing is kept.
        workers: Threads that read; the report does not depend on it.
        progress: Whether to show a progress bar; ``None`` = only if the standard error is a terminal.

    Raises:
        DataError: ``source`` is missing, unreadable, or a file that is no zip; images beside class folders; the memory
            or the number of open files does not suffice; ``cache`` cannot be written.
        EmptyDatasetError: There is no image.
        ValueError: An option is out of its range.
    """
    require(workers >= 1, "workers", workers, "at least 1")
    folder = ImageFolder(source, crop=crop, max_pixels=max_pixels)
    kept = ReportCache(cache, folder.source, {"crop": crop, "max_pixels": max_pixels})
    show = sys.stderr.isatty() if progress is None else progress
    found: list[FileFacts] = []
    try:
        with tqdm(total=len(folder), desc="checking images", unit=" images", disable=not show) as bar:
            for facts in _all_facts(folder, kept, workers):
                found.append(facts)
                bar.update()
    finally:  # what was read until Ctrl-C need not be read again
        kept.save(folder.names, folder.stamps, found)
    return _summary(folder, found)


def _all_facts(folder: ImageFolder, kept: ReportCache, workers: int) -> Iterator[FileFacts]:
    """Of every file, in order."""

    def facts_of(index: int) -> FileFacts:
        known = kept.get(folder.names[index], folder.stamps[index])
        return _read(folder, index) if known is None else known

    with ThreadPoolExecutor(workers) as pool:
        for start in range(0, len(folder), 4 * workers):  # so that few are under way when one raises
            yield from pool.map(facts_of, range(start, min(start + 4 * workers, len(folder))))


def _read(folder: ImageFolder, index: int) -> FileFacts:
    """Read and decode one file."""
    name, opened = folder.names[index], False
    try:
        encoded = folder.encoded(index)
        opened = True
        header = image_header(io.BytesIO(encoded), name, max_pixels=folder.max_pixels)
        pixels = decode_image(
            io.BytesIO(encoded), name, image_channels=3, background=folder.background, max_pixels=folder.max_pixels
        )
        if min(pixels.size) < MINIMUM_SIDE:  # too little for a crop?
            square_pixels(pixels, MINIMUM_SIDE, folder.crop, name)
    except DataError as error:
        if is_fault_of_the_machine(error):
            raise
        # A file that could not be opened may be well the next time, without a change of its time.
        return FileFacts(error=type(error).__name__, reason=str(error), lasting=opened)
    shown = hashlib.sha256(f"{pixels.size}".encode())
    shown.update(pixels.tobytes())
    return FileFacts(
        format=header.format,
        mode=header.mode,
        size=f"{header.width}x{header.height}",
        digest=hashlib.sha256(encoded).hexdigest(),
        pixels=shown.hexdigest(),
    )


def _summary(folder: ImageFolder, found: list[FileFacts]) -> DatasetReport:
    good = [index for index, facts in enumerate(found) if facts.error is None]
    by_bytes: dict[str, list[str]] = defaultdict(list)
    by_pixels: dict[str, list[str]] = defaultdict(list)
    digests: dict[str, set[str]] = defaultdict(set)
    for index in good:
        facts = found[index]
        by_bytes[facts.digest].append(folder.names[index])
        by_pixels[facts.pixels].append(folder.names[index])
        digests[facts.pixels].add(facts.digest)
    labels = folder.labels
    return DatasetReport(
        source=str(folder.source),
        images=len(good),
        bytes=sum(folder.stamps[index][0] for index in good),
        formats=_counts(found[index].format for index in good),
        modes=_counts(found[index].mode for index in good),
        sizes=_counts(found[index].size for index in good),
        classes={} if labels is None else _counts(folder.classes[labels[index]] for index in good),
        duplicates=tuple(tuple(names) for names in by_bytes.values() if len(names) > 1),
        same_pixels=tuple(tuple(names) for key, names in by_pixels.items() if len(digests[key]) > 1),
        bad=tuple(
            BadFile(name, facts.error, facts.reason)
            for name, facts in zip(folder.names, found, strict=True)
            if facts.error is not None
        ),
    )


def _counts(values: Iterable[str]) -> dict[str, int]:
    """The commonest first, and those of equal number by name."""
    return dict(sorted(Counter(values).items(), key=lambda item: (-item[1], item[0])))


def _fits(name: str, value: Any) -> bool:
    """Whether JSON holds what the attribute of that name needs."""
    if name == "source":
        return isinstance(value, str)
    if name in ("images", "bytes"):
        return type(value) is int and value >= 0
    if name in _COUNTS:
        return isinstance(value, Mapping) and all(
            isinstance(key, str) and type(count) is int and count >= 0 for key, count in value.items()
        )
    if not isinstance(value, (list, tuple)):
        return False
    if name in _GROUPS:
        return all(isinstance(group, (list, tuple)) and all(isinstance(n, str) for n in group) for group in value)
    wanted = [field.name for field in fields(BadFile)]
    return all(
        isinstance(file, Mapping) and sorted(file) == sorted(wanted) and all(isinstance(v, str) for v in file.values())
        for file in value
    )
