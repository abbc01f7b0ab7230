"""Painters: one by any spelling, joined to their row, counted, chosen, and written down."""

import csv
import io
import json
import unicodedata
import zipfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from ganblocks.data.image_folder import ImageFolder
from ganblocks.data.paintings import Artist, PainterCount, Paintings, painter_key, read_artists, write_label_table
from ganblocks.data.source import ImageSource
from ganblocks.data.stratified import stratified_split
from ganblocks.errors import DataError

HEADER = "id,name,years,genre,nationality,bio,wikipedia,paintings\n"
TABLE = (
    HEADER
    + '0,Albrecht Dürer,1471 - 1528,Northern Renaissance,German,"Born, it seems,\nin Nuremberg.",http://a,3\n'
    + '1,El Greco,1541 \u2013 1614,"Mannerism, Baroque,,Mannerism","Spanish,Greek",,,2\n'
    + "2,Jan van Eyck,c. 1390 - 1441,,Flemish,,,7\n"
)


@pytest.fixture
def table(tmp_path: Path) -> Path:
    path = tmp_path / "artists.csv"
    path.write_text(TABLE, encoding="utf-8")
    return path


def picture(path: Path, level: int = 128, *, mode: str = "RGB", size: tuple[int, int] = (8, 8)) -> None:
    """One even picture; a name ending in .jpg that asks for mode "PNG" holds a PNG."""
    path.parent.mkdir(parents=True, exist_ok=True)
    kind = "PNG" if path.suffix == ".png" or mode in ("PNG", "RGBA") else "JPEG"
    mode = "RGB" if mode == "PNG" else mode
    Image.new("RGB", size, (level,) * 3).convert(mode).save(path, kind)


def tree(root: Path, **counts: int) -> Path:
    """A folder for each painter with pictures that all differ."""
    for number, (folder, count) in enumerate(counts.items()):
        for index in range(count):
            picture(root / folder / f"{folder}_{index}.png", 20 * number + index)
    return root


# --- names

DUERER = "Albrecht Dürer"


def garbled(name: str, times: int) -> str:
    """What an unpacker that takes UTF-8 for code page 437 makes of a decomposed name."""
    text = unicodedata.normalize("NFD", name)
    for _ in range(times):
        text = text.encode("utf-8").decode("cp437")
    return text


def test_the_spelling_of_the_public_archive_is_twice_garbled() -> None:
    assert garbled("Albrecht_Dürer", 2) == "Albrecht_DuΓòá├¬rer"


@pytest.mark.parametrize(
    "spelling",
    [
        DUERER,
        "Albrecht_Dürer",
        "albrecht  durer",
        "ALBRECHT DÜRER",
        unicodedata.normalize("NFD", DUERER),
        garbled(DUERER, 1),
        garbled(DUERER, 2),
        garbled("Albrecht_Dürer", 3),
        DUERER.encode("utf-8").decode("cp437"),
    ],
)
def test_all_spellings_of_a_painter_have_one_key(spelling: str) -> None:
    assert painter_key(spelling) == "albrecht durer"


@given(st.text(max_size=20))
def test_a_key_has_no_underscore_accent_or_double_space(name: str) -> None:
    key = painter_key(name)
    assert "_" not in key
    assert "  " not in key
    assert key == key.strip()
    assert painter_key(name.replace("_", " ")) == painter_key(name)


@given(st.text("abcdeéüñçøß -'", min_size=1, max_size=12), st.integers(0, 2))
def test_a_garbled_name_has_the_key_of_the_name(name: str, times: int) -> None:
    assert painter_key(garbled(name, times)) == painter_key(name)


# --- the table


def test_rows_are_read_with_their_movements_apart(table: Path) -> None:
    assert read_artists(table) == (
        Artist(DUERER, "Albrecht_Dürer", (1471, 1528), ("Northern Renaissance",), "German", 3),
        Artist("El Greco", "El_Greco", (1541, 1614), ("Baroque", "Mannerism"), "Spanish,Greek", 2),
        Artist("Jan van Eyck", "Jan_van_Eyck", (1390, 1441), (), "Flemish", 7),
    )


def test_a_byte_order_mark_and_another_order_of_columns_do_not_matter(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text("paintings,nationality,genre,years,name\n3,German,,unknown,A B\n\n", encoding="utf-8-sig")
    assert read_artists(path) == (Artist("A B", "A_B", None, (), "German", 3),)


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("", r"lacks the columns \['name', 'years', 'genre', 'nationality', 'paintings'\]"),
        ("name,years,nationality\nA,,\n", r"lacks the columns \['genre', 'paintings'\]"),
        (HEADER, "has no row"),
        (HEADER + "0,A,,,,,,\n", "row 1 .*`paintings` is ''"),
        (HEADER + "0,A,,,,,,-1\n", "row 1 .*`paintings` is '-1'"),
        (HEADER + "0, ,,,,,,1\n", "row 1 .*`name` is ' '"),
        (HEADER + "0,A,,,,,1\n", "row 1 .* has 7 cells, but the first line 8"),
        (HEADER + "0,A b,,,,,,1\n1,a_B,,,,,,1\n", "row 2 .* names 'a_B', as does that of 'A b'"),
        (HEADER + '0,"A,,,,,,1\n', "could not be read as a table"),
        (HEADER.encode() + b"0,D\xfcrer,,,,,,1\n", "could not be read as a table"),
    ],
)
def test_a_table_with_a_fault_is_refused_with_its_place(tmp_path: Path, content: str | bytes, told: str) -> None:
    path = tmp_path / "t.csv"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(DataError, match=told):
        read_artists(path)


def test_a_table_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"nowhere\.csv"):
        read_artists(tmp_path / "nowhere.csv")


# --- the join


def test_folders_take_the_name_of_their_row(tmp_path: Path, table: Path) -> None:
    paintings = Paintings(tree(tmp_path / "a", Albrecht_Durer=2, el_greco=3), table)
    assert isinstance(paintings, ImageSource)
    assert paintings.classes == (DUERER, "El Greco")
    assert paintings.labels.tolist() == [0, 0, 1, 1, 1]
    assert [artist.paintings for artist in paintings.painters] == [3, 2]
    assert paintings.names[0] == "Albrecht_Durer/Albrecht_Durer_0.png"
    assert paintings.counts() == (
        PainterCount(DUERER, ("Albrecht_Durer",), 2, 3),
        PainterCount("El Greco", ("el_greco",), 3, 2),
        PainterCount("Jan van Eyck", (), 0, 7),
    )
    assert repr(paintings).endswith("5 images of 2 painters)")


def test_labels_follow_the_names_of_the_painters_not_of_the_folders(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text(HEADER + "0,Zoe,,,,,,1\n1,Adam,,,,,,1\n", encoding="utf-8")
    paintings = Paintings(tree(tmp_path / "a", adam=1, Zoe=2), path)  # "Zoe" before "adam" as folders
    assert paintings.classes == ("Adam", "Zoe")
    assert [
        (name.split("/")[0], int(label)) for name, label in zip(paintings.names, paintings.labels, strict=True)
    ] == [
        ("Zoe", 1),
        ("Zoe", 1),
        ("adam", 0),
    ]


def two_spellings(root: Path) -> Path:
    """Two folders of one painter: of three and two pictures, one of which is in both."""
    tree(root, Albrecht_Dürer=3, El_Greco=1)
    folder = root / garbled("Albrecht_Dürer", 2)
    picture(folder / "copy.png", 1)
    picture(folder / "another.png", 200)
    return root


def test_two_spellings_are_one_painter_and_copies_count_once(tmp_path: Path, table: Path) -> None:
    paintings = Paintings(two_spellings(tmp_path / "a"), table)
    assert paintings.classes == (DUERER, "El Greco")
    assert np.bincount(paintings.labels).tolist() == [4, 1]
    assert len(paintings) == len(paintings.names) == 5
    assert len(paintings.copies) == 1
    assert not set(paintings.copies) & set(paintings.names)
    levels = [int(paintings.read(index, 8)[0, 0, 0]) for index in range(5)]
    assert sorted(levels) == [0, 1, 2, 20, 200]
    assert paintings.counts()[0].folders == tuple(sorted(["Albrecht_Dürer", garbled("Albrecht_Dürer", 2)]))


def test_copies_within_one_folder_stay(tmp_path: Path, table: Path) -> None:
    picture(tmp_path / "a/El_Greco/1.png")
    picture(tmp_path / "a/El_Greco/2.png")
    picture(tmp_path / "a/Jan_van_Eyck/1.png")
    paintings = Paintings(tmp_path / "a", table)
    assert len(paintings) == 3
    assert paintings.copies == ()


def test_spellings_can_be_kept_apart(tmp_path: Path, table: Path) -> None:
    paintings = Paintings(two_spellings(tmp_path / "a"), table, merge_aliases=False)
    folders = sorted(["Albrecht_Dürer", garbled("Albrecht_Dürer", 2), "El_Greco"])
    assert list(paintings.classes) == folders
    assert len(paintings) == 6
    assert paintings.copies == ()
    assert [artist.name for artist in paintings.painters] == [DUERER, DUERER, "El Greco"]


def test_an_unknown_folder_is_refused_or_a_class_without_a_row(tmp_path: Path, table: Path) -> None:
    root = tree(tmp_path / "a", El_Greco=1, Nobody_Knows=2)
    picture(root / "nobody knows" / "1.png", 250)
    with pytest.raises(DataError, match=r"no row of the table .*'Nobody_Knows', 'nobody knows'"):
        Paintings(root, table)
    paintings = Paintings(root, table, strict=False)
    assert paintings.classes == ("El Greco", "Nobody Knows")
    assert paintings.painters[1] is None
    assert paintings.counts()[-1] == PainterCount("Nobody Knows", ("Nobody_Knows", "nobody knows"), 3, None)
    assert paintings.movement_table().tolist() == [[True, True], [False, False]]


def test_pictures_without_a_folder_of_their_painter_are_refused(tmp_path: Path, table: Path) -> None:
    picture(tmp_path / "a" / "1.png")
    with pytest.raises(DataError, match="no folders of painters"):
        Paintings(tmp_path / "a", table)


def test_one_painter_alone_keeps_the_name(tmp_path: Path, table: Path) -> None:
    paintings = Paintings(tree(tmp_path / "a" / "all", El_Greco=2), table)
    assert paintings.classes == ("El Greco",)
    assert paintings.labels.tolist() == [0, 0]


def test_two_rows_of_one_painter_are_refused(tmp_path: Path) -> None:
    rows = [Artist(name, name, None, (), "", 1) for name in ("El Greco", "el_greco")]
    with pytest.raises(ValueError, match=r"`artists` is .* different painters"):
        Paintings(tree(tmp_path / "a", El_Greco=1), rows)


def test_an_archive_reads_like_the_folder(tmp_path: Path, table: Path) -> None:
    root = two_spellings(tmp_path / "a")
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        for file in sorted(root.rglob("*.png")):
            archive.write(file, "wrapped/" + file.relative_to(root).as_posix())
    folder, packed = Paintings(root, table), Paintings(tmp_path / "a.zip", table)
    assert packed.classes == folder.classes
    assert packed.labels.tolist() == folder.labels.tolist()
    assert packed.names == tuple("wrapped/" + name for name in folder.names)
    for index in range(len(folder)):
        np.testing.assert_array_equal(packed.read(index, 4), folder.read(index, 4))


@pytest.mark.parametrize(
    ("name", "mode"),
    [("1.JPG", "RGB"), ("1.jpg", "PNG"), ("1.jpg", "L"), ("1.jpg", "CMYK"), ("1.jpg", "RGBA"), ("é.Jpeg", "RGB")],
)
def test_odd_files_are_pictures_too(tmp_path: Path, table: Path, name: str, mode: str) -> None:
    picture(tmp_path / "a/El_Greco" / name, 100, mode=mode, size=(9, 5))
    picture(tmp_path / "a/Jan_van_Eyck/1.png")
    paintings = Paintings(tmp_path / "a", table)
    assert paintings.size(0) == (9, 5)
    pixels = paintings.read(0, 6)
    assert pixels.shape == (3, 6, 6)
    assert np.abs(pixels.astype(int) - 100).max() <= 2  # JPEG
    grey = Paintings(ImageFolder(tmp_path / "a", image_channels=1), table)
    assert grey.image_channels == 1
    assert grey.read(0, 6).shape == (1, 6, 6)


# --- choosing


def test_the_top_painters_have_most_images_and_ties_go_by_name(tmp_path: Path, table: Path) -> None:
    paintings = Paintings(tree(tmp_path / "a", Jan_van_Eyck=4, El_Greco=2, Albrecht_Durer=2), table)
    assert paintings.top(1).classes == ("Jan van Eyck",)
    assert paintings.top(2).classes == (DUERER, "Jan van Eyck")
    assert paintings.top(3).classes == paintings.classes
    two = paintings.top(2)
    assert two.labels.tolist() == [0, 0, 1, 1, 1, 1]
    assert [two.classes[label] for label in two.labels] == [DUERER] * 2 + ["Jan van Eyck"] * 4
    assert [name.split("/")[0] for name in two.names] == ["Albrecht_Durer"] * 2 + ["Jan_van_Eyck"] * 4
    assert [count.painter for count in two.counts()] == [DUERER, "Jan van Eyck"]
    assert two.movements == ("Northern Renaissance",)
    for index, name in enumerate(two.names):
        np.testing.assert_array_equal(two.read(index, 8), paintings.read(paintings.names.index(name), 8))
    assert len(paintings) == 8  # as before
    assert two.top(1).classes == ("Jan van Eyck",)


def test_the_fingerprint_knows_what_is_in_it(tmp_path: Path, table: Path) -> None:
    root = tree(tmp_path / "a", Jan_van_Eyck=2, El_Greco=2)
    one, again = Paintings(root, table), Paintings(root, table)
    assert one.fingerprint == again.fingerprint
    assert len({one.fingerprint, one.top(1).fingerprint, one.only(["Jan van Eyck"]).fingerprint}) == 3
    apart = Paintings(root, table, merge_aliases=False)
    assert apart.fingerprint != one.fingerprint  # other names of the classes
    picture(root / "El_Greco/El_Greco_0.png", 255)
    assert Paintings(root, table).fingerprint != one.fingerprint


@pytest.mark.parametrize("k", [0, 3, -1])
def test_more_painters_than_there_are_cannot_be_chosen(tmp_path: Path, table: Path, k: int) -> None:
    with pytest.raises(ValueError, match=f"`k` is {k}, but must be 1 to 2"):
        Paintings(tree(tmp_path / "a", Jan_van_Eyck=1, El_Greco=1), table).top(k)


def test_unknown_painters_cannot_be_chosen(tmp_path: Path, table: Path) -> None:
    paintings = Paintings(tree(tmp_path / "a", Jan_van_Eyck=1, El_Greco=1), table)
    with pytest.raises(ValueError, match="`classes` is 'Nobody'"):
        paintings.only(["El Greco", "Nobody"])
    with pytest.raises(ValueError, match="at least one"):
        paintings.only([])
    with pytest.raises(IndexError):
        paintings.read(2, 4)


# --- tables


def test_one_hot_rows_add_up_to_one_and_name_the_label(tmp_path: Path, table: Path) -> None:
    paintings = Paintings(tree(tmp_path / "a", Jan_van_Eyck=2, El_Greco=1), table)
    assert paintings.one_hot().tolist() == [[1, 0], [0, 1], [0, 1]]


def test_movements_are_several_for_some_painters(tmp_path: Path, table: Path) -> None:
    paintings = Paintings(tree(tmp_path / "a", Albrecht_Durer=1, El_Greco=1, Jan_van_Eyck=1), table)
    assert paintings.movements == ("Baroque", "Mannerism", "Northern Renaissance")
    expected = [[False, False, True], [True, True, False], [False, False, False]]
    assert paintings.movement_table().tolist() == expected
    assert paintings.only(["Jan van Eyck"]).movement_table().shape == (1, 0)


def test_the_label_table_can_be_read_back(tmp_path: Path) -> None:
    path = tmp_path / "labels.csv"
    names = ["a/1, the first.jpg", 'b/"2".jpg', "b/D\u00fcrer.jpg"]
    write_label_table(path, names, np.array([0, 1, 1]), ["A", "B"])
    rows = list(csv.DictReader(io.StringIO(path.read_bytes().decode("utf-8"), newline="")))
    assert [row["image"] for row in rows] == names
    assert [row["painter"] for row in rows] == ["A", "B", "B"]
    assert [int(row["label"]) for row in rows] == [0, 1, 1]
    assert [json.loads(row["one_hot"]) for row in rows] == [[1, 0], [0, 1], [0, 1]]


@pytest.mark.parametrize(
    ("names", "labels", "told"),
    [
        (["a", "a"], [0, 0], "`names`"),
        (["a"], [0, 1], "`labels.shape`"),
        (["a"], [2], "`labels`"),
        (["a"], [-1], "0 to 1"),
    ],
)
def test_a_label_table_that_contradicts_itself_is_refused(
    tmp_path: Path, names: list[str], labels: list[int], told: str
) -> None:
    with pytest.raises(ValueError, match=told):
        write_label_table(tmp_path / "t.csv", names, labels, ["A", "B"])
    assert not (tmp_path / "t.csv").exists()


# --- the real ones


def test_the_real_table_holds_fifty_painters(real_data: Path) -> None:
    artists = read_artists(real_data / "best_artworks/artists.csv")
    assert len(artists) == 50
    assert sum(artist.paintings for artist in artists) == 8_446
    assert all(artist.years for artist in artists)
    largest = sorted(artists, key=lambda artist: -artist.paintings)
    assert [artist.paintings for artist in largest[:5]] == [877, 702, 439, 336, 328]
    assert sum(artist.paintings for artist in largest[:10]) == 4_060
    by_name = {artist.name: artist.movements for artist in artists}
    assert by_name["Paul Klee"] == ("Abstractionism", "Expressionism", "Surrealism")


def test_the_real_archives_join_the_real_table(real_data: Path) -> None:
    root = real_data / "best_artworks"
    ten = Paintings(root / "images_256px_10painters.zip", root / "artists.csv")
    assert len(ten) == 880
    assert np.bincount(ten.labels).tolist() == [88] * 10
    assert ten.classes[0] == DUERER
    many = Paintings(root / "images_64px_42painters.zip", root / "artists.csv")
    assert (len(many), len(many.classes), len(many.counts()), many.copies) == (6_967, 42, 50, ())
    counts = {count.painter: count for count in many.counts()}
    assert (counts["Diego Velazquez"].found, counts["Diego Velazquez"].expected) == (37, 128)
    differing = {name for name, count in counts.items() if count.found not in (0, count.expected)}
    assert differing == {"Diego Velazquez"}
    assert len(many.top(10)) == 3_814
    train, test = stratified_split(many.top(10).labels, [0.8, 0.2])
    assert len(train) + len(test) == 3_814
    assert many.read(0, 64).shape == (3, 64, 64)
