"""Pictures in folders of painters, joined to a table of the painters: who painted what, and in which movements.

Made for "Best Artworks of All Time" and its relatives: an ``artists.csv`` with a row a painter, and a folder or archive
with a sub-folder a painter. The two do not spell names alike (``Albrecht Dürer``, ``Albrecht_Durer``), and the public
archive has one of them garbled by a wrong code page; `painter_key` is what all spellings of a painter have in common.

Seeded divisions with the same mix of painters are those of :mod:`ganblocks.data.stratified`.
"""

import copy
import csv
import hashlib
import io
import json
import operator
import os
import re
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ganblocks._checks import require
from ganblocks._files import written_atomically
from ganblocks.data.image_folder import ImageFolder
from ganblocks.errors import DataError

__all__ = ["Artist", "PainterCount", "Paintings", "painter_key", "read_artists", "write_label_table"]

_COLUMNS = ("name", "years", "genre", "nationality", "paintings")
_MOST_ROUNDS = 4  # of decoding a garbled name; the public archive needs two


@dataclass(frozen=True)
class Artist:
    """A row of the table of painters.

    Attributes:
        name: As it is written there, such as "Albrecht Dürer".
        folder: The name with underscores, as folders have it.
        years: Of birth and death, such as (1471, 1528); None where the cell holds no two numbers of 3 or 4 digits.
        movements: Sorted, each there once; empty where the cell is.
        nationality: As it is written there; may name several.
        paintings: How many pictures there should be.
    """

    name: str
    folder: str
    years: tuple[int, int] | None
    movements: tuple[str, ...]
    nationality: str
    paintings: int


@dataclass(frozen=True)
class PainterCount:
    """What is there of one painter.

    Attributes:
        painter: The name of the class; that of the table for a painter without images.
        folders: The folders that hold the images, sorted; empty without images.
        found: Images found.
        expected: What the table says; None for a folder without a row.
    """

    painter: str
    folders: tuple[str, ...]
    found: int
    expected: int | None


def painter_key(name: str) -> str:
    """What all spellings of a name have in common.

    Underscores are spaces, accents and upper case do not matter (NFKD without combining marks, case-folded). Text that
    was UTF-8 and has been read as code page 437, as unpackers do with the names in an archive, is set right first, also
    where it happened twice: ``Albrecht_DuΓòá├¬rer`` is ``albrecht durer``.
    """
    text = unicodedata.normalize("NFC", name)
    for _ in range(_MOST_ROUNDS):
        try:
            decoded = text.encode("cp437").decode("utf-8")
        except UnicodeError:  # not garbled, or no longer
            break
        text = unicodedata.normalize("NFC", decoded)
    text = unicodedata.normalize("NFKD", text.replace("_", " "))
    text = "".join(character for character in text if not unicodedata.combining(character))
    return " ".join(text.casefold().split())


def read_artists(path: str | os.PathLike[str]) -> tuple[Artist, ...]:
    """Read the table of painters, in the order of its rows.

    Args:
        path: A comma-separated file in UTF-8 with a line of column names, among them name, years, genre, nationality
            and paintings, in any order. A genre cell may name several movements with commas between them.

    Raises:
        DataError: The file cannot be read, lacks a column or any row, or has a row without a name, with a number of
            paintings that is none, or with a painter that another row has.
    """
    try:
        text = Path(path).read_bytes().decode("utf-8-sig")
        header, *rows = [row for row in csv.reader(io.StringIO(text, newline=""), strict=True) if row] or [[]]
    except (OSError, UnicodeError, csv.Error) as error:
        raise DataError(f"{str(path)!r} could not be read as a table of painters ({error})") from error
    if missing := [column for column in _COLUMNS if column not in header]:
        raise DataError(f"{str(path)!r} lacks the columns {missing}; its first line is {header[:10]}")
    if not rows:
        raise DataError(f"{str(path)!r} has no row")
    artists: dict[str, Artist] = {}
    for number, cells in enumerate(rows, start=1):
        if len(cells) != len(header):
            raise DataError(f"row {number} of {str(path)!r} has {len(cells)} cells, but the first line {len(header)}")
        try:
            artist = _artist(dict(zip(header, cells, strict=True)))
        except ValueError as error:
            raise DataError(f"row {number} of {str(path)!r}: {error}") from error
        key = painter_key(artist.name)
        if key in artists:
            raise DataError(
                f"row {number} of {str(path)!r} names {artist.name!r}, as does that of {artists[key].name!r}"
            )
        artists[key] = artist
    return tuple(artists.values())


def _artist(row: dict[str, str]) -> Artist:
    name = row["name"].strip()
    require(painter_key(name) != "", "name", row["name"], "a name")
    count = row["paintings"].strip()
    require(re.fullmatch("[0-9]{1,9}", count) is not None, "paintings", count, "a whole number, 0 or above")
    years = [int(year) for year in re.findall("[0-9]+", row["years"]) if 3 <= len(year) <= 4]
    return Artist(
        name=name,
        folder="_".join(name.split()),
        years=(years[0], years[1]) if len(years) == 2 else None,
        movements=tuple(sorted({part.strip() for part in row["genre"].split(",")} - {""})),
        nationality=row["nationality"].strip(),
        paintings=int(count),
    )


class Paintings:
    """An ``ImageSource`` whose classes are painters. The images stay where they are and are read when asked for.

    Args:
        source: A folder or zip archive with a sub-folder a painter; or an ``ImageFolder`` of one, whose options count.
        artists: What `read_artists` gives, or the path of the table.
        merge_aliases: True: folders with the same `painter_key` are one painter, under the name of the table; a file
            that is, to the byte, one of the same painter in another folder is left out, as it would be in the train and
            the test part. False: every folder is a class of its own, under its own name.
        strict: True refuses a folder without a row; False makes it a class, with underscores as spaces.

    Attributes:
        classes: The painters with images, sorted.
        labels: [N] int64, indices into ``classes``.
        names: [N], relative names of the files.
        painters: For each class its row of the table; None without one.
        artists: The rows of the table, also of painters without images.
        copies: Names of the files that were left out as copies.

    Raises:
        DataError: The images or the table cannot be read, there are no folders of painters, or ``strict`` and a folder
            has no row.
        ValueError: Two of ``artists`` are one painter.
    """

    def __init__(
        self,
        source: str | os.PathLike[str] | ImageFolder,
        artists: str | os.PathLike[str] | Sequence[Artist],
        *,
        merge_aliases: bool = True,
        strict: bool = True,
    ) -> None:
        self.artists: tuple[Artist, ...] = (
            read_artists(artists) if isinstance(artists, (str, os.PathLike)) else tuple(artists)
        )
        rows = {painter_key(artist.name): artist for artist in self.artists}
        require(
            len(rows) == len(self.artists), "artists", [artist.name for artist in self.artists], "different painters"
        )
        self.source: ImageFolder = source if isinstance(source, ImageFolder) else ImageFolder(source)
        folders, folder_of = _folders(self.source)
        unknown = [folder for folder in folders if painter_key(folder) not in rows]
        if strict and unknown:
            raise DataError(f"no row of the table names the painters of the folders {unknown[:10]}")

        members: dict[str, list[str]] = {}  # folders of each class
        for folder in folders:
            artist = rows.get(painter_key(folder))
            name = folder if not merge_aliases else folder.replace("_", " ") if artist is None else artist.name
            if merge_aliases and artist is None:  # the first spelling names them all
                name = next((other for other in members if painter_key(other) == painter_key(folder)), name)
            members.setdefault(name, []).append(folder)
        self.classes: tuple[str, ...] = tuple(sorted(members))
        self.painters: tuple[Artist | None, ...] = tuple(
            rows.get(painter_key(members[name][0])) for name in self.classes
        )
        self._folders: tuple[tuple[str, ...], ...] = tuple(tuple(members[name]) for name in self.classes)
        number_of = {folder: number for number, group in enumerate(self._folders) for folder in group}
        labels = np.array([number_of[folders[number]] for number in folder_of], dtype=np.int64)
        spellings = np.flatnonzero([len(group) > 1 for group in self._folders])
        copies = [
            row for number in spellings for row in _copies(self.source, np.flatnonzero(labels == number), folder_of)
        ]
        self.copies: tuple[str, ...] = tuple(self.source.names[row] for row in sorted(copies))
        self._rows = np.setdiff1d(np.arange(len(labels)), copies)
        self.labels: NDArray[np.int64] = labels[self._rows]
        self.labels.flags.writeable = False

    def __len__(self) -> int:
        return len(self._rows)

    def __repr__(self) -> str:
        return f"Paintings({str(self.source.source)!r}, {len(self)} images of {len(self.classes)} painters)"

    @property
    def names(self) -> tuple[str, ...]:
        """Relative names of the files, with forward slashes."""
        return tuple(self.source.names[row] for row in self._rows)

    @property
    def image_channels(self) -> int:
        """3 for RGB, 1 for grey, as the ``ImageFolder`` says."""
        return self.source.image_channels

    @property
    def fingerprint(self) -> str:
        """SHA-256 in hex over the files, the way of reading them, the painters and the labels."""
        content = [self.source.fingerprint_of(self._rows.tolist()), self.classes, self.labels.tolist()]
        return hashlib.sha256(json.dumps(content).encode()).hexdigest()

    def size(self, index: int) -> tuple[int, int]:
        """Width and height of the upright image, see ``ImageFolder.size``."""
        return self.source.size(self._row(index))

    def read(self, index: int, resolution: int) -> NDArray[np.uint8]:
        """Read an image as a square, uint8 [C, resolution, resolution], see ``ImageFolder.read``."""
        return self.source.read(self._row(index), resolution)

    def counts(self) -> tuple[PainterCount, ...]:
        """Images found beside what the table says, by name: of all classes, and of painters without images."""
        found = np.bincount(self.labels, minlength=len(self.classes)).tolist()
        result = [
            PainterCount(name, folders, number, None if artist is None else artist.paintings)
            for name, folders, number, artist in zip(self.classes, self._folders, found, self.painters, strict=True)
        ]
        absent = [artist for artist in self.artists if artist not in self.painters]
        result += [PainterCount(artist.name, (), 0, artist.paintings) for artist in absent]
        return tuple(sorted(result, key=lambda count: count.painter))

    def top(self, k: int) -> Self:
        """The k painters with most images; of equal numbers, those whose name comes first.

        The classes are sorted by name again, and `counts` and ``artists`` hold these painters alone.

        Raises:
            ValueError: k is below 1 or above the number of classes.
        """
        require(1 <= k <= len(self.classes), "k", k, f"1 to {len(self.classes)}, the number of painters")
        found = np.bincount(self.labels, minlength=len(self.classes))
        return self.only(self.classes[number] for number in np.argsort(-found, kind="stable")[:k])

    def only(self, classes: Iterable[str]) -> Self:
        """These painters, by the names of their classes, as `top` does it.

        Raises:
            ValueError: No class is named, or one that is not there.
        """
        wanted = sorted(set(classes))
        require(len(wanted) > 0, "classes", wanted, "at least one")
        for name in wanted:
            require(name in self.classes, "classes", name, f"one of {self.classes}")
        numbers = [self.classes.index(name) for name in wanted]
        kept = np.isin(self.labels, numbers)
        result = copy.copy(self)
        result.classes = tuple(wanted)
        result.painters = tuple(self.painters[number] for number in numbers)
        result.artists = tuple(artist for artist in self.artists if artist in result.painters)
        result._folders = tuple(self._folders[number] for number in numbers)
        result._rows = self._rows[kept]
        result.labels = np.searchsorted(numbers, self.labels[kept]).astype(np.int64)
        result.labels.flags.writeable = False
        return result

    def one_hot(self) -> NDArray[np.uint8]:
        """[N, K]: a 1 in the column of the painter of each row."""
        return np.eye(len(self.classes), dtype=np.uint8)[self.labels]

    @property
    def movements(self) -> tuple[str, ...]:
        """The M movements of the painters with images, sorted."""
        return tuple(sorted({movement for artist in self.painters if artist for movement in artist.movements}))

    def movement_table(self) -> NDArray[np.bool_]:
        """[K, M]: which painter belongs to which of `movements`; to none without a row.

        ``movement_table()[labels]`` is that of the images, [N, M]; a painter may have several, so that these are
        targets of M decisions rather than of one.
        """
        of_painter = [artist.movements if artist else () for artist in self.painters]
        table = [[name in own for name in self.movements] for own in of_painter]
        return np.array(table, dtype=np.bool_).reshape(len(self.classes), len(self.movements))

    def _row(self, index: int) -> int:
        return int(self._rows[range(len(self))[operator.index(index)]])


def write_label_table(
    path: str | os.PathLike[str], names: Sequence[str], labels: ArrayLike, classes: Sequence[str]
) -> None:
    """Write a row a file: its name, its painter, the label, and the label as a list of zeros and a one.

    Columns image, painter, label and one_hot (a JSON list), as RFC 4180 has it, in UTF-8.

    Args:
        path: The file; an older one is replaced in a single step.
        names: [N], the names of the files, with their folders, so that files of one name stay apart.
        labels: [N], integers from 0.
        classes: [K], what labels name.

    Raises:
        ValueError: A name twice, lengths that differ, or a label without a class.
        OSError: The file could not be written.
    """
    numbers = np.asarray(labels)
    require(numbers.shape == (len(names),), "labels.shape", numbers.shape, f"[{len(names)}], as `names`")
    require(len(set(names)) == len(names), "names", f"of {len(names)} rows", "there once each")
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\r\n", quoting=csv.QUOTE_ALL)
    writer.writerow(["image", "painter", "label", "one_hot"])
    for name, label in zip(names, numbers.tolist(), strict=True):
        require(label in range(len(classes)), "labels", label, f"0 to {len(classes) - 1}")
        one_hot = json.dumps([int(label == number) for number in range(len(classes))])
        writer.writerow([name, classes[label], label, one_hot])
    with written_atomically(path) as file:
        file.write(text.getvalue().encode("utf-8", "surrogateescape"))  # names that are no text in UTF-8


def _folders(source: ImageFolder) -> tuple[tuple[str, ...], NDArray[np.int64]]:
    """The names of the folders of painters, sorted, and the number of that of each file."""
    if source.labels is not None:
        return source.classes, source.labels
    parts = source.names[0].split("/")
    if len(parts) < 2 or any(name.split("/")[:-1] != parts[:-1] for name in source.names):
        raise DataError(f"{str(source.source)!r} has no folders of painters, such as 'Albrecht_Durer/1.jpg'")
    return (parts[-2],), np.zeros(len(source), dtype=np.int64)  # one painter alone


def _copies(source: ImageFolder, rows: NDArray[np.int64], folder_of: NDArray[np.int64]) -> list[int]:
    """Those of the files that equal an earlier one in another folder, byte for byte."""
    folders_of_size: dict[int, set[int]] = {}
    for row in rows.tolist():
        folders_of_size.setdefault(source.stamps[row][0], set()).add(int(folder_of[row]))
    seen: dict[bytes, int] = {}
    copies = []
    for row in rows.tolist():
        if len(folders_of_size[source.stamps[row][0]]) > 1:
            first = seen.setdefault(hashlib.sha256(source.encoded(row)).digest(), int(folder_of[row]))
            if first != folder_of[row]:
                copies.append(row)
    return copies
