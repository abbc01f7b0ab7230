"""A list of images with their classes that knows which are real and which are generated.

It is an :class:`~ganblocks.data.source.ImageSource`, so that what reads a folder of images reads a table as well; and
it is what experiments with generated images need: take one class, mix, count, split, and write down what was used.
"""

import csv
import hashlib
import io
import json
import operator
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self, get_args

import numpy as np
from numpy.typing import NDArray

from ganblocks._checks import require
from ganblocks._files import written_atomically
from ganblocks.data.decode import RULES_VERSION, Crop, decode_image, image_size, square_pixels
from ganblocks.data.image_folder import ImageFolder
from ganblocks.data.provenance import Provenance, read_generated
from ganblocks.errors import DataError

__all__ = ["ImageTable"]

_COLUMNS = ["path", "class", "provenance"]
_BACKGROUND = (255, 255, 255)  # behind transparent pixels


@dataclass(frozen=True)
class ImageTable:
    """Images in files, one a row. Nothing of a file is read before it is asked for.

    Attributes:
        paths: [N], the files, none twice.
        class_of: [N], the name of the class of each.
        provenance: [N], "real" or "generated".
        classes: The names that labels count, sorted; may hold classes without a row.
        image_channels: 3 to read the images in RGB, 1 in grey.
        crop: "center" cuts the centred square, "squash" squeezes the whole image into a square.
        max_pixels: Largest width * height of an image, checked by its header before it is decoded.
        fast_jpeg: Whether large JPEGs may be decoded smaller, as for ``ImageFolder``.

    Raises:
        ValueError: Columns of different lengths, a path twice, an unknown class or provenance, classes that repeat or
            are not sorted, or an option out of range.
    """

    paths: tuple[Path, ...]
    class_of: tuple[str, ...]
    provenance: tuple[Provenance, ...]
    classes: tuple[str, ...]
    image_channels: int = 3
    crop: Crop = "center"
    max_pixels: int = 64_000_000
    fast_jpeg: bool = False

    def __post_init__(self) -> None:
        for name in ("class_of", "provenance"):
            rows = len(getattr(self, name))
            require(rows == len(self.paths), name, f"of {rows} rows", f"of {len(self.paths)}, as `paths`")
        seen: set[Path] = set()
        for path in self.paths:
            require(path not in seen, "paths", str(path), "there once")
            seen.add(path)
        require(list(self.classes) == sorted(set(self.classes)), "classes", self.classes, "sorted, and each there once")
        for unknown in sorted(set(self.class_of) - set(self.classes)):
            require(False, "class_of", unknown, f"one of the classes {self.classes}")
        for origin in sorted(set(self.provenance) - set(get_args(Provenance))):
            require(False, "provenance", origin, 'one of "real", "generated"')
        require(self.image_channels in (1, 3), "image_channels", self.image_channels, "1 (grey) or 3 (RGB)")
        require(self.crop in get_args(Crop), "crop", self.crop, 'one of "center", "squash"')
        require(self.max_pixels >= 1, "max_pixels", self.max_pixels, "at least 1")

    @classmethod
    def from_folder(
        cls,
        source: str | os.PathLike[str] | ImageFolder,
        *,
        class_name: str | None = None,
        provenance: Provenance | None = None,
        image_channels: int = 3,
        crop: Crop = "center",
        max_pixels: int = 64_000_000,
        fast_jpeg: bool = False,
    ) -> Self:
        """List the images of a folder of class folders, or of one class.

        Args:
            source: The folder; or an ``ImageFolder`` of one, whose own options then count instead of those below.
            class_name: The class of all of them, as where a generator of one class wrote them; folders inside do not
                matter then. None = the name of the folder that each is in; there must be two of them at least.
            provenance: What all of them are. None = "generated" for those that say so themselves, see
                :func:`~ganblocks.data.provenance.write_generated`, and "real" for the others.
            image_channels: As for the table.
            crop: As for the table.
            max_pixels: As for the table.
            fast_jpeg: As for the table.

        Raises:
            DataError: The folder cannot be read, or has no two classes and ``class_name`` is None; or ``provenance`` is
                "real" and a file says that it is generated.
            ValueError: The source is an archive, whose images are no files; or an option is out of range.
        """
        require(provenance in (None, *get_args(Provenance)), "provenance", provenance, '"real", "generated" or None')
        folder = (
            source
            if isinstance(source, ImageFolder)
            else ImageFolder(
                source, image_channels=image_channels, crop=crop, max_pixels=max_pixels, fast_jpeg=fast_jpeg
            )
        )
        require(folder.source.is_dir(), "source", str(folder.source), "a folder, as an archive holds no files")
        require(folder.background == _BACKGROUND, "source.background", folder.background, f"{_BACKGROUND}")
        if folder.labels is None and class_name is None:
            raise DataError(f"{str(folder.source)!r} has no two folders of classes; give `class_name` for one class")
        paths = tuple(folder.source / name for name in folder.names)
        origins: list[Provenance] = []
        for path in paths:
            marked = provenance != "generated" and read_generated(path) is not None
            if marked and provenance == "real":
                raise DataError(f"{str(path)!r} says that it is generated, but `provenance` is 'real'")
            origins.append("generated" if marked or provenance == "generated" else "real")
        class_of, classes = (class_name or "",) * len(paths), folder.classes
        if class_name is not None:
            classes = (class_name,)
        elif folder.labels is not None:
            class_of = tuple(folder.classes[label] for label in folder.labels)
        return cls(
            paths,
            class_of,
            tuple(origins),
            classes,
            folder.image_channels,
            folder.crop,
            folder.max_pixels,
            folder.fast_jpeg,
        )

    def __len__(self) -> int:
        return len(self.paths)

    def __repr__(self) -> str:
        real = self.provenance.count("real")
        return f"ImageTable({real} real and {len(self) - real} generated images, {len(self.classes)} classes)"

    @property
    def names(self) -> tuple[str, ...]:
        """The paths as texts, with forward slashes."""
        return tuple(path.as_posix() for path in self.paths)

    @property
    def labels(self) -> NDArray[np.int64]:
        """The number of the class of each row, [N], such that ``classes[label]`` names it."""
        position = {name: index for index, name in enumerate(self.classes)}
        return np.array([position[name] for name in self.class_of], dtype=np.int64)

    @property
    def fingerprint(self) -> str:
        """SHA-256 in hex over all columns, the classes and options, and sizes and times of change of the files.

        Raises:
            DataError: A file is missing.
        """
        options: list[object] = [RULES_VERSION, self.image_channels, self.crop, self.max_pixels]
        options += ["fast_jpeg"] if self.fast_jpeg else []  # nothing for the default: caches made before it was there
        content: list[Any] = [options, self.classes, self.names, self.class_of, self.provenance]
        try:
            for path in self.paths:
                status = path.stat()
                content.append([status.st_size, status.st_mtime_ns])
        except OSError as error:
            raise DataError(f"{str(path)!r} could not be found ({error})") from error
        return hashlib.sha256(json.dumps(content).encode()).hexdigest()

    def counts(self) -> dict[str, dict[str, int]]:
        """How many rows there are, as in ``{"no": {"real": 98, "generated": 108}, ...}``; every class is there."""
        result = {name: dict.fromkeys(get_args(Provenance), 0) for name in self.classes}
        for name, origin in zip(self.class_of, self.provenance, strict=True):
            result[name][origin] += 1
        return result

    def rows(self, indices: Iterable[int]) -> Self:
        """The table of these rows, in this order, such as a part of `stratified_split`; the classes stay.

        Raises:
            IndexError: An index is out of range.
            ValueError: An index is there twice.
        """
        chosen = [range(len(self))[operator.index(index)] for index in indices]
        return replace(
            self,
            paths=tuple(self.paths[index] for index in chosen),
            class_of=tuple(self.class_of[index] for index in chosen),
            provenance=tuple(self.provenance[index] for index in chosen),
        )

    def only(self, class_name: str | None = None, *, provenance: Provenance | None = None) -> Self:
        """The table of the rows of one class, of one provenance, or both; None = any. The classes and labels stay.

        Raises:
            ValueError: There is no such class or provenance; having no row is no error.
        """
        require(class_name in (None, *self.classes), "class_name", class_name, f"one of the classes {self.classes}")
        require(provenance in (None, *get_args(Provenance)), "provenance", provenance, '"real", "generated" or None')
        return self.rows(
            index
            for index, (name, origin) in enumerate(zip(self.class_of, self.provenance, strict=True))
            if class_name in (None, name) and provenance in (None, origin)
        )

    def merged(self, other: "ImageTable") -> Self:
        """The rows of this table, then those of the other; classes of one name are one class.

        Split the real images first and merge generated ones into the train part only: in a test part they would be
        asked about themselves.

        Raises:
            ValueError: A file is in both, or the two are to be read in different ways.
        """
        for name in ("image_channels", "crop", "max_pixels", "fast_jpeg"):
            mine = getattr(self, name)
            require(getattr(other, name) == mine, f"other.{name}", getattr(other, name), f"{mine!r}, as in this table")
        return replace(
            self,
            paths=self.paths + other.paths,
            class_of=self.class_of + other.class_of,
            provenance=self.provenance + other.provenance,
            classes=tuple(sorted({*self.classes, *other.classes})),
        )

    def size(self, index: int) -> tuple[int, int]:
        """Width and height of the upright image, from its header alone.

        Raises:
            DataError: The file is missing, no image or too large; the subclass tells which.
            IndexError: ``index`` is out of range.
        """
        name, encoded = self._encoded(index)
        return image_size(io.BytesIO(encoded), name, max_pixels=self.max_pixels)

    def read(self, index: int, resolution: int) -> NDArray[np.uint8]:
        """Read an image as a square, uint8 [C, resolution, resolution], by the rules of ``ImageFolder.read``.

        Raises:
            DataError: The file is missing, no image, damaged or too large; the subclass tells which.
            IndexError: ``index`` is out of range.
            ValueError: ``resolution`` is below 1.
        """
        require(resolution >= 1, "resolution", resolution, "at least 1")
        name, encoded = self._encoded(index)
        image = decode_image(
            io.BytesIO(encoded),
            name,
            image_channels=self.image_channels,
            background=_BACKGROUND,
            max_pixels=self.max_pixels,
            fast_jpeg_for=resolution if self.fast_jpeg else None,
        )
        return square_pixels(image, resolution, self.crop, name)

    def write_csv(self, path: str | os.PathLike[str]) -> None:
        """Write the columns path, class and provenance, with a line of these names, as RFC 4180 has it, in UTF-8.

        Names with commas, quotes, line breaks or any other character survive. What is not in a row is not written:
        classes without a row, and the options.

        Raises:
            OSError: The file could not be written; an older one is then untouched.
        """
        text = io.StringIO(newline="")
        writer = csv.writer(text, lineterminator="\r\n", quoting=csv.QUOTE_ALL)
        writer.writerow(_COLUMNS)
        writer.writerows(zip(self.names, self.class_of, self.provenance, strict=True))
        with written_atomically(path) as file:
            file.write(text.getvalue().encode("utf-8", "surrogateescape"))  # names that are no text in UTF-8

    @classmethod
    def read_csv(
        cls,
        path: str | os.PathLike[str],
        *,
        root: str | os.PathLike[str] | None = None,
        classes: Sequence[str] | None = None,
        image_channels: int = 3,
        crop: Crop = "center",
        max_pixels: int = 64_000_000,
        fast_jpeg: bool = False,
    ) -> Self:
        """The opposite of `write_csv`.

        Args:
            path: The file.
            root: A folder that relative paths begin in; None = the working folder.
            classes: All classes, in any order; None = those that have a row.
            image_channels: As for the table.
            crop: As for the table.
            max_pixels: As for the table.
            fast_jpeg: As for the table.

        Raises:
            DataError: The file cannot be read, is no such table, or contradicts itself.
            ValueError: An option is out of range.
        """
        try:
            text = Path(path).read_bytes().decode("utf-8-sig", "surrogateescape")
            header, *rows = list(csv.reader(io.StringIO(text, newline=""), strict=True)) or [[]]
        except (OSError, csv.Error) as error:
            raise DataError(f"{str(path)!r} could not be read as a table ({error})") from error
        if header != _COLUMNS:
            raise DataError(f"{str(path)!r} begins with {header[:4]}, but its columns must be {_COLUMNS}")
        for number, row in enumerate(rows, start=1):
            if len(row) != len(_COLUMNS) or row[2] not in get_args(Provenance):
                raise DataError(
                    f'row {number} of {str(path)!r} is {row[:4]}, but must be a path, a class, "real" or ...'
                )
        known = sorted({row[1] for row in rows} if classes is None else set(classes))
        paths = [Path(row[0]) if root is None else Path(root) / row[0] for row in rows]
        options = cls((), (), (), (), image_channels, crop, max_pixels, fast_jpeg)  # their mistakes are the caller's
        try:
            return replace(
                options,
                paths=tuple(paths),
                class_of=tuple(row[1] for row in rows),
                provenance=tuple("real" if row[2] == "real" else "generated" for row in rows),
                classes=tuple(known),
            )
        except ValueError as error:
            raise DataError(f"{str(path)!r} contradicts itself: {error}") from error

    def _encoded(self, index: int) -> tuple[str, bytes]:
        """Name and bytes of a file."""
        path = self.paths[range(len(self))[operator.index(index)]]
        limit = 16 * self.max_pixels + 64 * 2**20  # uncompressed 128-bit pixels and 64 MiB of metadata
        try:
            with path.open("rb") as file:
                encoded = file.read(limit + 1)
        except OSError as error:
            raise DataError(f"{str(path)!r} could not be read ({error})") from error
        if len(encoded) > limit:
            raise DataError(f"{str(path)!r} has more than {limit} bytes, more than {self.max_pixels} pixels can need")
        return str(path), encoded
