"""Tables keep what they are told: which file, which class, real or generated."""

import io
import os
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from ganblocks.data.image_folder import ImageFolder
from ganblocks.data.image_table import ImageTable
from ganblocks.data.in_memory import read_images
from ganblocks.data.provenance import write_generated
from ganblocks.data.source import ImageSource
from ganblocks.data.stratified import stratified_split
from ganblocks.data.synthetic import Shapes
from ganblocks.errors import DataError, ImageDecodeError, ImageTooLargeError

SHAPES = Shapes(12, seed=1)


@pytest.fixture
def real(tmp_path: Path) -> Path:
    """Five images of class "no" and seven of class "yes"."""
    for index in range(12):
        path = tmp_path / "real" / ("no" if index < 5 else "yes") / f"image {index:02d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(SHAPES.read(index, 20 + index).transpose(1, 2, 0)).save(path)
    return tmp_path / "real"


@pytest.fixture
def generated(tmp_path: Path) -> Path:
    for index in range(3):
        write_generated(torch.zeros(3, 16, 16), tmp_path / "fake" / "yes" / f"{index}.png", {"seed": index})
    return tmp_path / "fake"


def table(*rows: tuple[str, str, str], classes: tuple[str, ...] | None = None, **options) -> ImageTable:
    columns = tuple(zip(*rows, strict=True)) if rows else ((), (), ())
    known = tuple(sorted(set(columns[1]))) if classes is None else classes
    return ImageTable(tuple(map(Path, columns[0])), columns[1], columns[2], known, **options)


def test_a_table_of_a_folder_is_the_folder(real: Path) -> None:
    folder, made = ImageFolder(real), ImageTable.from_folder(real)
    assert made == ImageTable.from_folder(folder)
    assert made.names == tuple((real / name).as_posix() for name in folder.names)
    assert made.classes == folder.classes == ("no", "yes")
    np.testing.assert_array_equal(made.labels, folder.labels)
    assert len(made) == 12
    for index in range(12):
        np.testing.assert_array_equal(made.read(index, 16), folder.read(index, 16))
        assert made.size(index) == folder.size(index) == (20 + index, 20 + index)
    assert isinstance(made, ImageSource)


def test_a_table_can_be_read_as_any_source_of_images(real: Path) -> None:
    images, labels = read_images(ImageTable.from_folder(real, image_channels=1, crop="squash").only("yes"), 8)
    assert images.shape == (7, 1, 8, 8)
    assert labels is not None
    assert labels.tolist() == [1] * 7


def test_files_tell_their_provenance(real: Path, generated: Path) -> None:
    assert ImageTable.from_folder(real).provenance == ("real",) * 12
    assert ImageTable.from_folder(generated, class_name="yes").provenance == ("generated",) * 3
    assert ImageTable.from_folder(real, provenance="generated").provenance == ("generated",) * 12
    with pytest.raises(DataError, match=r"0.png' says that it is generated, but `provenance` is 'real'"):
        ImageTable.from_folder(generated, class_name="yes", provenance="real")


def test_all_images_of_a_folder_can_be_of_one_class(real: Path) -> None:
    one = ImageTable.from_folder(real, class_name="scan")
    assert one.classes == ("scan",)
    assert one.counts() == {"scan": {"real": 12, "generated": 0}}
    assert one.paths == ImageTable.from_folder(real).paths


def test_merged_tables_keep_provenance_and_join_classes(real: Path, generated: Path) -> None:
    mixed = ImageTable.from_folder(real).merged(ImageTable.from_folder(generated, class_name="yes"))
    assert mixed.counts() == {"no": {"real": 5, "generated": 0}, "yes": {"real": 7, "generated": 3}}
    assert mixed.labels.tolist() == [0] * 5 + [1] * 7 + [1] * 3  # "yes" is class 0 of the generated ones alone
    assert repr(mixed) == "ImageTable(12 real and 3 generated images, 2 classes)"
    assert mixed.only(provenance="generated").names == ImageTable.from_folder(generated, class_name="yes").names
    assert mixed.only("yes", provenance="real").counts()["yes"] == {"real": 7, "generated": 0}
    assert len(mixed.only("no", provenance="generated")) == 0
    assert mixed.only("yes").classes == ("no", "yes")
    assert mixed.only("yes").labels.tolist() == [1] * 10


def test_parts_of_a_split_are_the_table(real: Path) -> None:
    whole = ImageTable.from_folder(real)
    train, held_out = (whole.rows(part) for part in stratified_split(whole.labels, [0.75, 0.25], seed=2))
    assert (len(train), len(held_out)) == (9, 3)
    assert sorted(train.paths + held_out.paths) == list(whole.paths)
    assert set(map(tuple, zip(train.paths, train.class_of, strict=True))) <= set(
        zip(whole.paths, whole.class_of, strict=True)
    )


def test_fast_jpeg_is_that_of_the_folder(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    wave = np.rint(127.5 + 100 * np.sin(np.linspace(0, 6, 128))).astype(np.uint8)
    Image.fromarray(np.tile(wave, (96, 1))).save(tmp_path / "a" / "wave.jpg", quality=95)
    exact, fast = (ImageFolder(tmp_path / "a", fast_jpeg=chosen) for chosen in (False, True))
    made = ImageTable.from_folder(fast, class_name="wave")
    assert made == ImageTable.from_folder(tmp_path / "a", class_name="wave", fast_jpeg=True)
    np.testing.assert_array_equal(made.read(0, 16), fast.read(0, 16))
    plain = ImageTable.from_folder(exact, class_name="wave")
    np.testing.assert_array_equal(plain.read(0, 16), exact.read(0, 16))
    assert not np.array_equal(made.read(0, 16), plain.read(0, 16))
    made.write_csv(tmp_path / "t.csv")
    assert ImageTable.read_csv(tmp_path / "t.csv", fast_jpeg=True) == made
    with pytest.raises(ValueError, match=r"`other\.fast_jpeg` is False, but must be True"):
        made.merged(plain)


NAMES = st.text(st.characters(exclude_characters="\0/\\"), min_size=1).filter(lambda name: name not in (".", ".."))


@given(
    rows=st.lists(
        st.tuples(NAMES, st.text(), st.sampled_from(["real", "generated"])), max_size=6, unique_by=lambda row: row[0]
    )
)
def test_a_table_survives_a_file(rows, tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.getbasetemp() / "table.csv"
    before = table(*rows)
    before.write_csv(path)
    assert ImageTable.read_csv(path) == before


def test_difficult_names_survive_a_file(tmp_path: Path) -> None:
    names = [
        "a,b.png",
        'quo"te.png',
        "two\nlines.png",
        "two\r\nlines.png",
        "\r",
        "Größe 図.png",
        " spaces ",
        "=1+1.png",
    ]
    if sys.platform == "linux":
        names.append(os.fsdecode(b"not-utf8-\xff.png"))
    before = table(*((name, name, "real") for name in names))
    before.write_csv(tmp_path / "new" / "table.csv")
    assert ImageTable.read_csv(tmp_path / "new" / "table.csv") == before


def test_the_file_is_what_a_spreadsheet_expects(tmp_path: Path) -> None:
    table(("x/a,b.png", "no", "real"), ("x/c.png", "yes", "generated")).write_csv(tmp_path / "t.csv")
    expected = '"path","class","provenance"\r\n"x/a,b.png","no","real"\r\n"x/c.png","yes","generated"\r\n'
    assert (tmp_path / "t.csv").read_bytes() == expected.encode()


def test_a_spreadsheets_own_file_can_be_read(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_bytes(b"\xef\xbb\xbfpath,class,provenance\na.png,no,real\n/b.png,yes,generated\n")
    read = ImageTable.read_csv(tmp_path / "t.csv", root="/data", classes=["yes", "no", "maybe"], crop="squash")
    assert read.names == ("/data/a.png", "/b.png")
    assert read.classes == ("maybe", "no", "yes")
    assert read.labels.tolist() == [1, 2]
    assert read.crop == "squash"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "begins with"),
        ("path,label\n", "begins with"),
        ("path,class,provenance\na.png,no\n", "row 1 of"),
        ("path,class,provenance\na.png,no,real\nb.png,no,maybe\n", "row 2 of"),
        ("path,class,provenance\na.png,no,real\na.png,no,real\n", "contradicts itself: `paths` is 'a.png'"),
        ('path,class,provenance\n"a.png,no,real\n', "could not be read as a table"),
        ("path,class,provenance\n" + "a" * 200_000 + ",no,real\n", "could not be read as a table"),
    ],
)
def test_a_file_that_is_no_table_raises(text: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text(text)
    with pytest.raises(DataError, match=message):
        ImageTable.read_csv(tmp_path / "t.csv")


def test_what_is_not_there_raises(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="could not be read as a table"):
        ImageTable.read_csv(tmp_path / "none.csv")
    missing = table((str(tmp_path / "none.png"), "a", "real"))
    for use in (lambda: missing.read(0, 8), lambda: missing.size(0), lambda: missing.fingerprint):
        with pytest.raises(DataError, match=r"none\.png' could not be"):
            use()
    with pytest.raises(IndexError):
        missing.read(1, 8)


def test_bad_images_raise_their_own_errors(real: Path) -> None:
    whole = ImageTable.from_folder(real, max_pixels=20 * 20)
    assert whole.read(0, 8).shape == (3, 8, 8)
    with pytest.raises(ImageTooLargeError):
        whole.read(1, 8)
    whole.paths[0].write_bytes(b"no image")
    with pytest.raises(ImageDecodeError):
        whole.read(0, 8)
    with pytest.raises(ValueError, match="`resolution` is 0"):
        whole.read(0, 0)


def test_the_fingerprint_changes_with_everything(real: Path, generated: Path) -> None:
    whole = ImageTable.from_folder(real)
    others = [
        ImageTable.from_folder(real, provenance="generated"),
        ImageTable.from_folder(real, image_channels=1),
        ImageTable.from_folder(real, crop="squash"),
        ImageTable.from_folder(real, max_pixels=9),
        ImageTable.from_folder(real, fast_jpeg=True),
        whole.only("yes"),
        whole.rows(range(11, -1, -1)),
        whole.merged(ImageTable.from_folder(generated, class_name="yes")),
    ]
    assert len({made.fingerprint for made in [whole, *others]}) == 9
    before = whole.fingerprint
    assert ImageTable.from_folder(real).fingerprint == before
    with io.BytesIO() as file:
        Image.new("L", (9, 9)).save(file, "PNG")
        whole.paths[3].write_bytes(file.getvalue())
    assert whole.fingerprint != before


def test_an_empty_table_is_a_table(tmp_path: Path) -> None:
    empty = table()
    assert (len(empty), empty.labels.tolist(), empty.counts()) == (0, [], {})
    assert empty.labels.dtype == np.int64
    empty.write_csv(tmp_path / "t.csv")
    assert ImageTable.read_csv(tmp_path / "t.csv") == empty


def test_folders_without_classes_and_archives_raise(real: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="has no two folders of classes; give `class_name`"):
        ImageTable.from_folder(real / "no")
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.write(real / "no" / "image 00.png", "no/a.png")
        archive.write(real / "yes" / "image 05.png", "yes/a.png")
    with pytest.raises(ValueError, match="as an archive holds no files"):
        ImageTable.from_folder(tmp_path / "a.zip")
    with pytest.raises(ValueError, match=r"`source.background` is \(0, 0, 0\)"):
        ImageTable.from_folder(ImageFolder(real, background=(0, 0, 0)))


def test_wrong_columns_raise() -> None:
    paths = (Path("a"), Path("b"))
    with pytest.raises(ValueError, match="`class_of` is 'of 1 rows', but must be of 2, as `paths`"):
        ImageTable(paths, ("no",), ("real", "real"), ("no",))
    with pytest.raises(ValueError, match="`provenance` is 'of 0 rows'"):
        ImageTable(paths, ("no", "no"), (), ("no",))
    with pytest.raises(ValueError, match="`paths` is 'a', but must be there once"):
        table(("a", "no", "real"), ("a", "yes", "real"))
    with pytest.raises(ValueError, match="`class_of` is 'yes', but must be one of the classes"):
        table(("a", "yes", "real"), classes=("no",))
    with pytest.raises(ValueError, match=r"`classes` is \('yes', 'no'\)"):
        table(("a", "yes", "real"), classes=("yes", "no"))
    with pytest.raises(ValueError, match="`provenance` is 'fake'"):
        table(("a", "yes", "fake"))
    for name, value in (("image_channels", 2), ("crop", "tile"), ("max_pixels", 0)):
        with pytest.raises(ValueError, match=f"`{name}` is"):
            table(("a", "yes", "real"), **{name: value})


def test_wrong_choices_raise() -> None:
    whole = table(("a", "no", "real"), ("b", "yes", "generated"))
    with pytest.raises(ValueError, match="`class_name` is 'maybe'"):
        whole.only("maybe")
    with pytest.raises(ValueError, match="`provenance` is 'fake'"):
        whole.only(provenance="fake")  # type: ignore[arg-type]
    with pytest.raises(IndexError):
        whole.rows([2])
    with pytest.raises(ValueError, match="`paths` is 'a'"):
        whole.rows([0, 0])
    with pytest.raises(ValueError, match="`paths` is 'b'"):
        whole.merged(whole.only("yes"))
    with pytest.raises(ValueError, match=r"`other\.crop` is 'squash', but must be 'center', as in this table"):
        whole.merged(table(("c", "no", "real"), crop="squash"))
