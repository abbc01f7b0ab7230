"""The results page: made from records, complete, true to the sources, and without pictures that must not be shown."""

import ast
import re
import shlex
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest
from PIL import Image

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
NAMES = [f"E{number:02d}" for number in range(1, 22)]
E08_EPOCHS_47_TO_49 = """0.4604 2.3620 0.7945 0.1432
0.3125 2.5407 0.8089 0.0665
0.4733 2.6422 0.8115 0.1735
0.3927 2.6463 0.8730 0.1817
0.3536 2.9303 0.8973 0.1784
0.4652 1.6171 0.7730 0.1454
0.5535 3.4565 0.9384 0.2973
0.5457 1.4674 0.7238 0.1270
0.5487 3.2298 0.9660 0.3314"""  # Loss_D, Loss_G, D(x) and D(G(z)) before the update, as the source printed them


@pytest.fixture
def entries(docs_program: Callable[[str], ModuleType]) -> ModuleType:
    return docs_program("results_entries")


def published(table: ModuleType, name: str, run: str | None = None) -> dict[str, str]:
    """What the source printed, by the figure's key."""
    entry = table.experiment(name)
    return {figure.key: figure.document for figure in entry.figures_of(entry.run(run)) if figure.document}


# --- the page in the repository


def test_the_page_is_what_render_makes_of_the_records(results: ModuleType) -> None:
    assert results.PAGE.read_text("utf-8") == results.render(results.read_records())


def test_every_experiment_has_its_section_with_each_of_its_commands(results: ModuleType, table: ModuleType) -> None:
    assert [entry.name for entry in table.EXPERIMENTS] == NAMES
    page = results.PAGE.read_text("utf-8")
    assert re.findall(r"^## (.*)$", page, re.MULTILINE) == NAMES
    for name, section in zip(NAMES, re.split(r"^## E\d\d$", page, flags=re.MULTILINE)[1:], strict=True):
        entry = table.experiment(name)
        assert re.findall(rf"^### {name} (.*)$", section, re.MULTILINE) == [run.name for run in entry.runs]
        assert section.count("```sh\npython examples/") == len(entry.runs)


def test_without_records_all_is_listed_as_not_run(results: ModuleType, table: ModuleType) -> None:
    page = results.render({})
    for entry in table.EXPERIMENTS:
        assert f"| [{entry.name}](#{entry.name.lower()}) | {entry.title} | not run yet |" in page
        for run in entry.runs:
            assert f"### {entry.name} {run.name}\n\nNot run yet.\n\n```sh\npython {run.command}\n```" in page


def test_pictures_of_the_page_are_there_allowed_and_small(
    results: ModuleType, table: ModuleType, entries: ModuleType
) -> None:
    shown = set()
    for name, record in results.read_records().items():
        entry = table.experiment(name)
        for run_name, record_of_run in record.items():
            run = entry.run(run_name)
            allowed = {picture.path for picture in run.pictures if entries.may_be_shown(picture, run.subject)}
            assert record_of_run["pictures"].keys() <= allowed
            shown |= set(record_of_run["pictures"].values())
    kept = {path.name: path.stat().st_size for path in results.PICTURES.glob("*")}
    assert kept.keys() == shown
    assert max(kept.values(), default=0) < 200_000


def test_records_tell_no_folder_of_a_machine_and_no_unknown_figure(results: ModuleType, table: ModuleType) -> None:
    for name, record in results.read_records().items():
        assert not re.search(r'[" ]([A-Za-z]:\\\\|~?/)', (results.RECORDS / f"{name}.json").read_text("utf-8"))
        for run_name, record_of_run in record.items():
            entry = table.experiment(name)
            figures = entry.figures_of(entry.run(run_name))
            assert record_of_run["figures"].keys() <= {figure.key for figure in figures}


# --- the table


def options_of(example: str) -> set[str]:
    """Options that a program in examples/ defines, or takes over from another one."""
    text = (ROOT / "examples" / example).read_text("utf-8")
    options = set(re.findall(r"\"(--[a-z0-9-]+)\"", text))
    others = {node.names[0].name for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Import)}
    for other in others:
        if (ROOT / "examples" / f"{other}.py").is_file():
            options |= options_of(f"{other}.py")
    return options


def test_every_command_and_mark_is_of_a_program_that_knows_it(table: ModuleType) -> None:
    for entry in table.EXPERIMENTS:
        for run in entry.runs:
            program, *arguments = shlex.split(run.command)
            known = options_of(Path(program).name)
            given = {word for word in arguments if word.startswith("--")}
            assert given | {mark for mark in run.marks if mark != "--dataset"} <= known, f"{entry.name} {run.name}"


def test_keys_and_runs_are_not_given_twice(table: ModuleType) -> None:
    for entry in table.EXPERIMENTS:
        assert len({run.name for run in entry.runs}) == len(entry.runs)
        for run in entry.runs:
            keys = [figure.key for figure in entry.figures_of(run)]
            assert keys
            assert len(set(keys)) == len(keys)


def test_what_sources_printed_has_a_place_and_nothing_else_has(table: ModuleType, entries: ModuleType) -> None:
    for entry in table.EXPERIMENTS:
        assert entry.place[:2] in entries.SOURCES
        for run in entry.runs:
            for figure in entry.figures_of(run):
                assert bool(figure.document) == bool(figure.place), f"{entry.name} {figure.key}"
                named = re.search(r"D[0-4]\b", figure.place)
                assert not figure.place or (named and named[0] in entries.SOURCES) or figure.place == "the same"


def test_shares_of_sources_are_those_of_their_counts(table: ModuleType) -> None:
    """Known counts: E05's legible cells, E11's test sets, E14's list of painters."""
    right, of_classes = [972, 1011, 993, 965, 872, 936, 1005, 982], [980, 1032, 1010, 982, 892, 958, 1028, 1009]
    assert published(table, "E05")["accuracy"] == f"{100 * sum(right) / sum(of_classes):.2f} %"
    assert f"{sum(right):,} of {sum(of_classes):,} right" in table.experiment("E05").finding
    told = published(table, "E11")
    assert told["real"] == f"{100 * 45 / 51:.2f} % (45 of 51)"
    assert told["mixed"] == f"{100 * 88 / 94:.2f} % (88 of 94)"
    five, ten = [877, 702, 439, 336, 328], [877, 702, 439, 336, 328, 311, 291, 262, 259, 255]
    for count, works in (("5", five), ("10", ten)):
        told = published(table, "E14")
        assert told[f"pictures_{count}"] == f"{sum(works):,}"
        assert told[f"majority_{count}"] == f"{100 * max(works) / sum(works):.1f} %"


def test_ranges_of_e08_are_those_of_the_printed_log(table: ModuleType) -> None:
    columns = zip(*([float(cell) for cell in line.split()] for line in E08_EPOCHS_47_TO_49.splitlines()), strict=True)
    for key, digits, column in zip(
        ("discriminator_loss", "generator_loss", "real", "fake"), (2, 2, 2, 3), columns, strict=True
    ):
        low, high = (float(text) for text in published(table, "E08")[key].split(" to "))
        assert low == pytest.approx(min(column), abs=0.5 * 10**-digits + 1e-9)
        assert high == pytest.approx(max(column), abs=0.5 * 10**-digits + 1e-9)


def test_the_last_line_of_e09_adds_up(table: ModuleType) -> None:
    told = {key: float(text) for key, text in published(table, "E09").items()}
    rounding = 0.5e-4 * 12  # of each of the three, the penalty ten times
    assert told["c_loss"] == pytest.approx(told["c_wass_loss"] + 10 * told["c_gp"], abs=rounding)
    assert (told["c_loss"], told["g_loss"]) == (8.7772, -1468.3656)


@pytest.mark.parametrize(
    ("name", "run", "key", "text"),
    [
        ("E15", None, "accuracy", "53 %"),
        ("E17", None, "accuracy", "18 %"),
        ("E19", "100 px, 5 painters", "accuracy", "76 %"),
        ("E19", "250 px, 700 layers frozen, 5 painters", "accuracy", "90 %"),
        ("E19", "300 px, 700 layers frozen, 10 painters", "accuracy", "88 %"),
        ("E19", "300 px, 600 layers frozen, 50 painters", "accuracy", "79 %"),
        ("E20", None, "accuracy", "71 % in validation"),
        ("E21", "comparison", "simple", "55 %"),
        ("E21", "comparison", "vgg16", "33 %"),
    ],
)
def test_accuracies_of_painters_are_those_of_the_specification(
    table: ModuleType, name: str, run: str | None, key: str, text: str
) -> None:
    assert published(table, name, run)[key] == text


def test_experiments_without_a_printed_number_claim_none(table: ModuleType) -> None:
    silent = [name for name in NAMES if not published(table, name)]
    assert silent == ["E01", "E02", "E03", "E04", "E06", "E07", "E10", "E13", "E18"]


# --- pictures


@pytest.mark.parametrize("subject", ["faces", "scans", "photographs"])
def test_generated_pictures_of_faces_scans_and_photographs_are_refused(
    subject: str, entries: ModuleType, runs: ModuleType, tmp_path: Path
) -> None:
    picture = entries.Picture("samples/*.png", "generated", "samples")
    (tmp_path / "samples").mkdir()
    Image.new("RGB", (8, 8)).save(tmp_path / "samples" / "1.png")
    assert not entries.may_be_shown(picture, subject)
    run = entries.Run("library", "examples/a.py", subject=subject)
    with pytest.raises(runs.RunError, match="must not be shown"):
        runs.save_picture(tmp_path, picture, run, tmp_path / "shown.webp")
    assert not (tmp_path / "shown.webp").exists()
    assert entries.may_be_shown(entries.Picture("curves.png", "curves", "curves"), subject)


@pytest.mark.parametrize(
    "path",
    [
        "nearest.png",
        "real_beside_fake.png",
        "figures/nearest.png",
        "figures/reconstruction.png",
        "figures/denoising.png",
        "figures/panel.png",
        "figures/random_picture.png",
        "figures/sheet_Edgar_Degas.png",
        "figures/similar.png",
        "figures/misclassified.png",
        "figures/10_content.png",
        "classifier/figures/samples.png",
        "classifier/figures/answers.png",
        "figures/samples.png",
        "figures/variants.png",
        "results/photo.png",
        "progress.gif",
    ],
)
@pytest.mark.parametrize("kind", ["curves", "generated"])
def test_files_that_hold_images_of_a_data_set_are_refused_whatever_they_are_called(
    path: str, kind: str, entries: ModuleType
) -> None:
    assert not entries.may_be_shown(entries.Picture(path, kind, "a picture"), "digits")


def test_the_table_lists_no_picture_that_may_not_be_shown(table: ModuleType, entries: ModuleType) -> None:
    for entry in table.EXPERIMENTS:
        for run in entry.runs:
            assert all(entries.may_be_shown(picture, run.subject) for picture in run.pictures)
    subjects = {name: {run.subject for run in table.experiment(name).runs} for name in NAMES}
    assert (subjects["E09"], subjects["E11"]) == ({"scans"}, {"scans"})
    assert subjects["E10"] == {"faces", "drawn"}
    assert all(subjects[name] == {"photographs"} for name in ["E04", *NAMES[11:]])


def test_the_last_picture_by_number_is_taken_and_made_small(
    entries: ModuleType, runs: ModuleType, tmp_path: Path
) -> None:
    (tmp_path / "samples").mkdir()
    for number, color in ((900, "red"), (1000, "blue")):
        Image.new("RGB", (1800, 40), color).save(tmp_path / "samples" / f"{number}.png")
    picture = entries.Picture("samples/*.png", "generated", "samples")
    run = entries.Run("library", "examples/a.py")
    assert runs.save_picture(tmp_path, picture, run, tmp_path / "new" / "shown.webp")
    with Image.open(tmp_path / "new" / "shown.webp") as shown:
        assert shown.size == (900, 20)
        red, _, blue = shown.convert("RGB").resize((1, 1)).getpixel((0, 0))  # type: ignore[misc]
    assert blue > 200 > red
    assert not runs.save_picture(tmp_path / "new", picture, run, tmp_path / "none.webp")
