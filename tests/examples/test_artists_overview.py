"""Who is in a collection: every number is counted anew, every split is whole, and chance hangs on the seed alone."""

import csv
import json
from collections import Counter
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pytest
from example_runs import Outcome, call, load
from PIL import Image

SMALL = ["--workers", "1", "--sheet-side", "8"]
TABLE = "id,name,years,genre,nationality,bio,wikipedia,paintings\n"
ROWS = {
    "Albrecht Dürer": '0,Albrecht Dürer,1471 - 1528,"Northern Renaissance",German,,,9\n',
    "El Greco": '1,El Greco,1541 - 1614,"Mannerism,Baroque",Greek,,,2\n',
    "Titian": '2,Titian,1488 - 1576,"High Renaissance,Mannerism",Italian,,,15\n',
    "Raphael": "3,Raphael,1483 - 1520,High Renaissance,Italian,,,20\n",
}
FIGURES = ("count_bars", "draw_movements", "sample_panel", "finished", "save_image_grid", "write_report")

example = load("examples/artists_overview.py")


def run(out: Path, *arguments: object) -> Outcome:
    return call(example, *SMALL, "--out", out, *arguments)


@pytest.fixture
def bare(monkeypatch: pytest.MonkeyPatch) -> dict[str, mock.Mock]:
    """Runs without figures, which cost more than all else; what they were asked for."""
    drawn = {name: mock.Mock() for name in FIGURES}
    for name, stand_in in drawn.items():
        monkeypatch.setattr(example, name, stand_in)
    monkeypatch.setattr(example.shutil, "copy", mock.Mock())
    return drawn


def collection(root: Path, *, rows: tuple[str, ...] = tuple(ROWS), **counts: int) -> Path:
    """Folders of painters with noise of their own, and a table; the last picture of each painter is wide and grey."""
    for number, (painter, count) in enumerate(counts.items()):
        (root / "images" / painter).mkdir(parents=True)
        for index in range(count):
            pixels = np.random.default_rng([number, index]).integers(0, 256, (10, 12, 3), dtype=np.uint8)
            picture = Image.fromarray(pixels)
            if index == count - 1:
                picture = picture.convert("L").resize((30, 10))
            picture.save(root / "images" / painter / f"{painter}_{index:02d}.png")
    (root / "artists.csv").write_text(TABLE + "".join(ROWS[row] for row in rows), encoding="utf-8")
    return root / "images"


def three(root: Path) -> Path:
    return collection(root, Albrecht_Durer=9, El_Greco=14, Titian=25)


def table(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


# --- a trial


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Outcome]:
    out = tmp_path_factory.mktemp("trial")
    return out, run(out, "--smoke", "--top", 2)


def test_a_trial_leaves_everything_that_is_promised(finished: tuple[Path, Outcome]) -> None:
    out, outcome = finished
    assert outcome.code == 0, outcome.err
    assert "84 drawn pictures" in outcome.out
    assert (out / "overview.md").read_text(encoding="utf-8") in outcome.out
    figures = {path.name for path in (out / "figures").iterdir()}
    assert figures == {
        *("counts_2.png", "counts_all.png", "movements.png", "panel.png", "random_picture.png"),
        *("sheet_Doris_Disc.png", "sheet_Ringo_Ring.png"),
    }
    sheets = {path.stem for path in (out / "contact_sheets").iterdir()}
    assert sheets == {"Doris_Disc", "Ringo_Ring", "Sara_Square", "Zoë_Triangle"}
    assert (out / "report.html").read_text(encoding="utf-8").count("data:image/png") >= len(figures)
    assert [row["other"] for row in table(out / "movements.csv")] == ["Ringo Ring", "Zoë Triangle"]
    assert json.loads((out / "config.json").read_text())["top"] == [2]


def test_the_same_command_ends_the_same(
    finished: tuple[Path, Outcome], bare: dict[str, mock.Mock], monkeypatch: pytest.MonkeyPatch
) -> None:
    out, outcome = finished
    splits = {path: path.read_bytes() for path in out.glob("split_*.csv")}
    monkeypatch.setattr(example.ImageFolder, "encoded", None)  # what was found is not read again
    monkeypatch.setattr(example.Collection, "images", mock.Mock())
    monkeypatch.setattr(example, "draw_pictures_by_chance", mock.Mock())
    again = run(out, "--smoke", "--top", 2)
    assert again.code == 0, again.err
    assert again.out == outcome.out
    assert {path: path.read_bytes() for path in splits} == splits


def test_other_settings_are_refused(finished: tuple[Path, Outcome]) -> None:
    outcome = run(finished[0], "--smoke", "--top", 2, "--seed", 1)
    assert outcome.code == 2
    assert "seed: 0 there, 1 now" in outcome.err


# --- numbers


def test_counts_stand_beside_the_tables(tmp_path: Path, bare: dict[str, mock.Mock]) -> None:
    outcome = run(tmp_path / "run", "--data", three(tmp_path), "--top", 2, 3, 5)
    assert outcome.code == 0, outcome.err
    split = table(tmp_path / "run" / "split_all.csv")
    of_part = Counter(row["part"] for row in split)
    titians = sum(row["part"] == "test" and row["painter"] == "Titian" for row in split)
    sizes = f"{of_part['training']} / {of_part['validation']} / {of_part['test']}"
    lines = outcome.out.splitlines()
    rows = [line for line in lines if line.startswith(("| Titian", "| El Greco", "| Albrecht", "| Raphael", "| all"))]
    assert rows == [
        "| Titian | 25 | 15 | High Renaissance, Mannerism |  |",
        "| El Greco | 14 | 2 | Baroque, Mannerism |  |",
        "| Albrecht Dürer | 9 | 9 | Northern Renaissance |  |",
        "| Raphael | 0 | 20 | High Renaissance |  |",
        "| all | 48 | 46 | 4 movements of those found |  |",
        f"| all | 48 | Titian (25) | 52.1 % | 2.8 | {sizes} | {100 * titians / of_part['test']:.1f} % | 0 |",
    ]
    assert "\nThe 2: Titian 25, El Greco 14.\n" in outcome.out
    assert "the 2 would be 35 pictures, majority rate 57.1 %: Raphael 20, Titian 15.\n" in outcome.out
    assert "4 painters of the table, 2 pairs share a movement; 1 share none: Albrecht Dürer." in outcome.out
    bars = {call.kwargs["path"].name: call for call in bare["count_bars"].call_args_list}
    assert set(bars) == {"counts_2.png", "counts_all.png"}  # three are all, five more than there are
    assert bars["counts_2.png"].args == (["El Greco", "Titian"], [14, 25])
    assert bars["counts_2.png"].kwargs["expected"] == [2, 15]


def test_sizes_and_kinds_are_those_of_the_files(tmp_path: Path, bare: dict[str, mock.Mock]) -> None:
    outcome = run(tmp_path / "run", "--data", three(tmp_path))
    assert "| width | 12 | 12 | 12 | 12 | 30 |" in outcome.out
    assert "| height | 10 | 10 | 10 | 10 | 10 |" in outcome.out
    assert "| width / height | 1.20 | 1.20 | 1.20 | 1.20 | 3.00 |" in outcome.out
    assert "2 sizes, the commonest: 12x10 (45), 30x10 (3)." in outcome.out
    assert "Modes: RGB (45), L (3).\nFormats: PNG (48)." in outcome.out


@pytest.mark.parametrize("name", ["2", "all"])
def test_a_split_is_whole_stratified_and_seeded(tmp_path: Path, bare: dict[str, mock.Mock], name: str) -> None:
    data = three(tmp_path)
    for out, seed in (("run", 0), ("again", 0), ("other", 1)):
        assert run(tmp_path / out, "--data", data, "--top", 2, "--seed", seed).code == 0
    rows = table(tmp_path / "run" / f"split_{name}.csv")
    found = {path.relative_to(data).as_posix() for path in data.rglob("*.png")}
    assert {row["image"] for row in rows} == {n for n in found if name == "all" or "Albrecht" not in n}
    assert len({row["image"] for row in rows}) == len(rows)
    painters = ["Albrecht Dürer", "El Greco", "Titian"][0 if name == "all" else 1 :]
    for row in rows:
        assert row["painter"] == painters[int(row["label"])]
        assert row["image"].startswith(row["painter"].replace(" ", "_").replace("ü", "u"))
    counts = Counter((row["painter"], row["part"]) for row in rows)
    for painter in painters:
        total = sum(counts[painter, part] for part in example.PARTS)
        for part, share in {"training": 0.64, "validation": 0.16, "test": 0.2}.items():
            assert abs(counts[painter, part] - share * total) < 1
    again, other = ((tmp_path / out / f"split_{name}.csv").read_bytes() for out in ("again", "other"))
    assert again == (tmp_path / "run" / f"split_{name}.csv").read_bytes() != other


# --- figures


def test_pictures_by_chance_have_their_painters(tmp_path: Path, bare: dict[str, mock.Mock]) -> None:
    data = three(tmp_path)
    assert run(tmp_path / "run", "--data", data).code == 0
    images, labels = bare["sample_panel"].call_args.args
    assert images.shape == (25, 3, 168, 168)
    classes = bare["sample_panel"].call_args.kwargs["classes"]
    paintings = example.open_data(example.parse(["--data", str(data)]), tmp_path / "elsewhere")
    pictures = {paintings.read(row, 168).tobytes(): paintings.classes[paintings.labels[row]] for row in range(48)}
    shown = [image.numpy().tobytes() for image in images]
    assert len(set(shown)) == 25
    assert [pictures[image] for image in shown] == [classes[label] for label in labels]
    sheets = {call.args[1].name: len(call.args[0]) for call in bare["save_image_grid"].call_args_list}
    assert sheets == {"Albrecht_Dürer.png": 9, "El_Greco.png": 14, "Titian.png": 25}


def test_the_one_picture_keeps_its_shape(tmp_path: Path, bare: dict[str, mock.Mock]) -> None:
    data = collection(tmp_path, El_Greco=10)
    for path in sorted((data / "El_Greco").iterdir()):
        Image.new("RGB", (40, 20), (200, 0, 0)).save(path)
    drawn: list[Any] = []
    original = example.Canvas.place
    with mock.patch.object(example.Canvas, "place", lambda *args: (drawn.append(args), original(*args))[1]):
        outcome = run(tmp_path / "run", "--data", data)
    assert outcome.code == 0, outcome.err
    _, pixels, _, _, width, height = drawn[-1]
    assert pixels.shape == (20, 40, 3)
    assert (width, height) == (200, 100)
    figure = bare["finished"].call_args.args[0]
    assert "El Greco, 40 x 20 pixels" in [text.get_text() for text in figure.axes[0].texts]


# --- what a collection may hold


def test_a_broken_file_ends_the_run_or_is_left_out(tmp_path: Path, bare: dict[str, mock.Mock]) -> None:
    data = three(tmp_path)
    broken = data / "Titian" / "Titian_00.png"
    broken.write_bytes(broken.read_bytes()[:-60])
    outcome = run(tmp_path / "run", "--data", data)
    assert outcome.code == 2
    assert "ImageDecodeError: 1 pictures cannot be read, such as 'Titian/Titian_00.png'" in outcome.err
    outcome = run(tmp_path / "run", "--data", data, "--on-error", "skip")
    assert outcome.code == 0, outcome.err
    assert "\n- Titian/Titian_00.png, left out of all but the numbers found: " in outcome.out
    rows = table(tmp_path / "run" / "split_all.csv")
    assert len(rows) == 47
    assert "Titian/Titian_00.png" not in {row["image"] for row in rows}
    assert max(len(call.args[0]) for call in bare["save_image_grid"].call_args_list) == 24


def test_nothing_but_broken_files_is_an_error(tmp_path: Path, bare: dict[str, mock.Mock]) -> None:
    data = collection(tmp_path, El_Greco=1)
    (data / "El_Greco" / "El_Greco_00.png").write_bytes(b"none")
    outcome = run(tmp_path / "run", "--data", data, "--on-error", "skip")
    assert outcome.code == 2
    assert "EmptyDatasetError: none of the 1 pictures" in outcome.err


def test_a_folder_without_a_row_is_refused_unless_allowed(tmp_path: Path, bare: dict[str, mock.Mock]) -> None:
    data = collection(tmp_path, rows=("Titian",), Titian=10, Banksy=10)
    outcome = run(tmp_path / "run", "--data", data)
    assert outcome.code == 2
    assert "Banksy" in outcome.err
    outcome = run(tmp_path / "run", "--data", data, "--allow-unknown")
    assert outcome.code == 0, outcome.err
    assert "| Banksy | 10 | - | - |  |" in outcome.out


def test_two_spellings_are_one_painter_unless_kept_apart(tmp_path: Path, bare: dict[str, mock.Mock]) -> None:
    data = collection(tmp_path, Albrecht_Durer=10)
    (data / "Albrecht_DuΓòá├¬rer").mkdir()
    for number in range(3):
        Image.new("RGB", (9, 9), (number, 0, 0)).save(data / "Albrecht_DuΓòá├¬rer" / f"{number}.png")
    outcome = run(tmp_path / "run", "--data", data)
    assert "| Albrecht Dürer | 13 | 9 | Northern Renaissance | Albrecht_Durer, Albrecht_DuΓòá├¬rer |" in outcome.out
    outcome = run(tmp_path / "apart", "--data", data, "--keep-aliases")
    assert "| Albrecht_DuΓòá├¬rer | 3 | 9 | Northern Renaissance |  |" in outcome.out


def test_a_table_is_needed(tmp_path: Path) -> None:
    data = collection(tmp_path, Titian=1)
    (tmp_path / "artists.csv").rename(tmp_path / "painters.csv")
    outcome = run(tmp_path / "run", "--data", data)
    assert outcome.code == 2
    assert "there is no artists.csv" in outcome.err


def test_too_few_pictures_to_split_are_told(tmp_path: Path, bare: dict[str, mock.Mock]) -> None:
    outcome = run(tmp_path / "run", "--data", collection(tmp_path, Titian=2))
    assert outcome.code == 2
    assert "would stay empty" in outcome.err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--top", "5", "0"), "--top is 0"),
        (("--workers", "0"), "--workers is 0"),
        (("--sheet-side", "3"), "--sheet-side is 3"),
        (("--seed", "-1"), "--seed is -1"),
        (("--smoke", "--artists", "here"), "a trial has drawn pictures"),
        (("--data", "nowhere"), "nowhere"),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, arguments: tuple[str, ...], message: str) -> None:
    outcome = run(tmp_path / "run", *arguments)
    assert outcome.code == 2
    assert message in outcome.err


def test_the_real_collection_has_the_documents_numbers(
    tmp_path: Path, bare: dict[str, mock.Mock], real_data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(example.Collection, "images", lambda self, rows, side: np.zeros(len(rows)))
    monkeypatch.setattr(example, "draw_pictures_by_chance", mock.Mock())
    data = real_data / "best_artworks" / "images_256px_10painters.zip"
    outcome = run(tmp_path / "run", "--data", data)
    assert outcome.code == 0, outcome.err
    assert "the 5 would be 2,682 pictures, majority rate 32.7 %: Vincent van Gogh 877, Edgar Degas 702" in outcome.out
    assert "the 10 would be 4,060 pictures, majority rate 21.6 %" in outcome.out
    assert "| all | 880 | 8,446 |" in outcome.out
    assert len(table(tmp_path / "run" / "split_all.csv")) == 880
