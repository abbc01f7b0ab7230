"""The gallery: every example is in it, with what its docstring says, a picture that may be shown, and a time."""

import ast
import doctest
import json
import os
import re
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from PIL import Image

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
STEMS = sorted(path.stem for path in (ROOT / "examples").glob("*.py"))
LARGEST_PICTURE = 400_000  # bytes


@pytest.fixture
def gallery(docs_program: Callable[[str], ModuleType]) -> ModuleType:
    return docs_program("gallery")


@pytest.fixture
def entries(docs_program: Callable[[str], ModuleType]) -> ModuleType:
    return docs_program("gallery_entries")


@pytest.fixture
def runs(docs_program: Callable[[str], ModuleType]) -> ModuleType:
    return docs_program("gallery_runs")


def test_every_example_is_in_the_gallery_once(gallery: ModuleType, entries: ModuleType) -> None:
    assert sorted(entry.stem for entry in entries.ENTRIES) == STEMS
    text = gallery.page(gallery.read_runs(), {"dcgan_mnist"})
    for stem in STEMS:
        assert text.count(f"\n`{stem}.py`: ") == 1
        assert f"```bash\npython examples/{stem}.py" in text
    assert text.count("[notebook](notebooks/dcgan_mnist.ipynb)") == text.count("[notebook]") == 1


def test_a_new_example_without_an_entry_stops_the_build(
    gallery: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for stem in (*STEMS[1:], "new_example"):
        (tmp_path / f"{stem}.py").write_text('"""Text."""\n', "utf-8")
    monkeypatch.setattr(gallery, "EXAMPLES", tmp_path)
    with pytest.raises(ValueError, match=f"not in both: {STEMS[0]}, new_example"):
        gallery.page(gallery.read_runs(), set())


def test_every_example_says_what_it_does_how_it_is_called_what_it_needs_and_what_it_leaves(gallery: ModuleType) -> None:
    for stem in STEMS:
        said = gallery.about(ROOT / "examples" / f"{stem}.py")
        docstring = ast.get_docstring(ast.parse((ROOT / "examples" / f"{stem}.py").read_text("utf-8")))
        assert docstring is not None
        assert said.summary == " ".join(docstring.split("\n\n")[0].split())
        assert said.usage.startswith(f"python examples/{stem}.py")
        assert all(line in docstring for line in (*said.usage.splitlines(), *said.leaves.splitlines()))
        assert said.needs.startswith("Needs: pip install")


def test_a_docstring_is_taken_apart(gallery: ModuleType, tmp_path: Path) -> None:
    parts = [
        "Do a\nthing.",
        "    python a.py\n    python a.py --b \\\n        --c",
        "Needs: this.\nTakes long.",
        "Other words.",
        "The run directory (--out, always) ends up with\n    a/     things\n           and more\n    b.txt  one",
        "The end.",
    ]
    path = tmp_path / "a.py"
    path.write_text('r"""' + "\n\n".join(parts) + '\n"""\n', "utf-8")
    said = gallery.about(path)
    assert said.summary == "Do a thing."
    assert said.usage == "python a.py\npython a.py --b \\\n    --c"
    assert said.needs == "Needs: this. Takes long."
    assert said.leaves == "a/     things\n       and more\nb.txt  one"
    path.write_text('"""' + "\n\n".join(parts[:2]).replace("\\", "") + '\n"""\n', "utf-8")
    with pytest.raises(ValueError, match=r"a\.py: its docstring has no needs, no leaves"):
        gallery.about(path)


def test_every_picture_is_there_small_and_in_the_list_of_where_pictures_come_from(entries: ModuleType) -> None:
    origins = (DOCS / "images" / "README.md").read_text("utf-8")
    for entry in entries.ENTRIES:
        path = DOCS / "images" / entry.image
        assert path.stat().st_size < LARGEST_PICTURE
        with Image.open(path) as picture:
            assert picture.width >= 100
        own = bool(entry.figures)
        assert own == entry.image.startswith("gallery_") == (not entry.caption)
        assert f"`{'gallery_*.png' if own else entry.image}`" in origins
        assert len(entry.alt) > 20
    shown = {entry.image for entry in entries.ENTRIES}
    assert {path.name for path in (DOCS / "images").glob("gallery_*")} == {
        name for name in shown if name.startswith("gallery_")
    }


def test_no_picture_is_of_a_run_on_somebody_elses_pictures(entries: ModuleType) -> None:
    for entry in entries.ENTRIES:
        assert re.findall(r"--(?:data|content|style|query) (\S+)", entry.trial) in ([], [entries.DRAWN.strip()])
    assert "--drawn" in {entry.stem: entry for entry in entries.ENTRIES}["progan_celeba"].trial  # else real faces


def test_every_time_is_that_of_the_trial_that_is_shown(gallery: ModuleType, entries: ModuleType) -> None:
    trials = gallery.read_runs()["trials"]
    assert sorted(trials) == STEMS
    for entry in entries.ENTRIES:
        assert trials[entry.stem]["arguments"] == entry.trial
        assert 0 < trials[entry.stem]["seconds"] < 600


def test_guides_that_entries_lead_to_are_there(entries: ModuleType) -> None:
    for entry in entries.ENTRIES:
        path, _, anchor = entry.guide.partition("#")
        headings = re.findall(r"^#+ (.*)$", (DOCS / path).read_text("utf-8"), re.M) if path else []
        slugs = {re.sub(r"[-\s]+", "-", re.sub(r"[^\w\s-]", "", heading).strip().lower()) for heading in headings}
        assert not anchor or anchor in slugs
        assert entry.section in entries.SECTIONS


def test_times_are_said_in_round_numbers(gallery: ModuleType) -> None:
    found = doctest.testmod(gallery)
    assert (found.attempted > 0, found.failed) == (True, 0)
    assert [gallery.duration(seconds) for seconds in (0.2, 9.4, 12, 89, 91, 400)] == [
        "a second", "9 seconds", "10 seconds", "90 seconds", "2 minutes", "7 minutes",
    ]  # fmt: skip


# --- pictures of trials ---


def test_figures_stand_side_by_side_equally_high(runs: ModuleType) -> None:
    red, blue = Image.new("RGB", (200, 200), (255, 0, 0)), Image.new("RGB", (50, 100), (0, 0, 255))
    pixels = np.asarray(runs.picture([red, blue]).convert("RGB"))
    assert pixels.shape == (200, 200 + 8 + 100, 3)
    assert (pixels[:, :200] == (255, 0, 0)).all()
    assert (pixels[:, 200:208] == 255).all()
    assert (pixels[:, 208:] == (0, 0, 255)).all()


@pytest.mark.parametrize(
    ("size", "top", "shown"),
    [
        ((1440, 900), 1.0, (720, 450)),
        ((400, 300), 0.6, (400, 180)),
        ((64, 64), 1.0, (192, 192)),
        ((72, 80), 1.0, (144, 160)),
    ],
)
def test_a_picture_is_cut_reduced_or_enlarged(
    runs: ModuleType, size: tuple[int, int], top: float, shown: tuple[int, int]
) -> None:
    assert runs.picture([Image.new("L", size)], top).size == shown


def test_the_last_file_of_a_pattern_is_taken_and_a_missing_one_told(
    runs: ModuleType, entries: ModuleType, tmp_path: Path
) -> None:
    for name in ("samples/001.png", "samples/010.png", "curves.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    entry = entries.Entry("x", "Paintings", "X", "x", figures=("samples/*.png", "curves.png"))
    assert runs.find_figures(entry, tmp_path) == [tmp_path / "samples/010.png", tmp_path / "curves.png"]
    other = entries.Entry("x", "Paintings", "X", "x", figures=("curves.png", "nearest.png"))
    with pytest.raises(FileNotFoundError, match=r"nearest\.png"):
        runs.find_figures(other, tmp_path)


def test_a_trial_runs_without_the_data_of_the_machine(
    runs: ModuleType, entries: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "examples").mkdir()
    (tmp_path / "work").mkdir()
    program = "import os, pathlib, sys\nprint('seen')\npathlib.Path('told').write_text(repr(sys.argv[1:]))\n"
    program += "sys.exit('GANBLOCKS_DATA' in os.environ or 'fail' in sys.argv)\n"
    (tmp_path / "examples" / "x.py").write_text(program, "utf-8")
    monkeypatch.setattr(runs, "ROOT", tmp_path)
    monkeypatch.setitem(os.environ, "GANBLOCKS_DATA", "somewhere")
    assert runs.run_trial(entries.Entry("x", "Paintings", "X", "x", trial="--a 1"), tmp_path / "work") > 0
    assert (tmp_path / "work" / "told").read_text() == "['--a', '1', '--out', 'run']"
    with pytest.raises(RuntimeError, match=r"x: exit code 1\nseen"):
        runs.run_trial(entries.Entry("x", "Paintings", "X", "x", trial="fail"), tmp_path / "work")


def test_a_time_is_noted_beside_those_of_other_trials(
    runs: ModuleType, entries: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runs, "RUNS", tmp_path / "runs.json")
    for stem, seconds in (("b", 2.04), ("a", 3.0), ("b", 5.26)):
        runs.note(entries.Entry(stem, "Paintings", "X", "x", trial=f"--{stem}"), seconds)
    found = json.loads((tmp_path / "runs.json").read_text("utf-8"))
    assert list(found["trials"]) == ["a", "b"]
    assert found["trials"] == {
        "a": {"arguments": "--a", "seconds": 3.0},
        "b": {"arguments": "--b", "seconds": 5.3},
    }
    assert {"drawn", "machine"} < set(found)
