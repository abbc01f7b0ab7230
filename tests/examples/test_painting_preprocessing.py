"""The files of the painting pipeline: names, numbers, sizes and ranges, whatever stopped it and whoever made them."""

import csv
import io
import json
import os
import shutil
import signal
import sys
from concurrent.futures import Future
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pytest
import torch
from example_runs import ROOT, Outcome, call, load
from PIL import Image

from ganblocks.data import painting_augmentation

PATH = ROOT / "examples" / "painting_preprocessing.py"
SIDE = 40
SMALL = ["--size", str(SIDE), "--workers", "1"]
TABLE = "id,name,years,genre,nationality,bio,wikipedia,paintings\n"
ROWS = {
    "Albrecht Dürer": "0,Albrecht Dürer,1471 - 1528,Northern Renaissance,German,,,3\n",
    "El Greco": "1,El Greco,1541 - 1614,Mannerism,Greek,,,2\n",
    "Titian": "2,Titian,1488 - 1576,Mannerism,Italian,,,7\n",
}
GARBLED = "Albrecht_DuΓòá├¬rer"  # as in the public archive

example = load(PATH)


def run(out: Path, *arguments: object) -> Outcome:
    return call(example, *SMALL, "--out", out, *arguments)


@pytest.fixture(autouse=True)
def no_figure(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> None:
    """Figures cost more than pictures of this size."""
    if "trial" not in request.fixturenames:
        monkeypatch.setattr(example, "sample_panel", lambda *_, **__: None)


def paint(path: Path, seed: int, *, mode: str = "RGB", kind: str = "JPEG", size: tuple[int, int] = (60, 45)) -> None:
    """A smooth picture of its own."""
    path.parent.mkdir(parents=True, exist_ok=True)
    coarse = np.random.default_rng(seed).integers(0, 256, (5, 4, 3), dtype=np.uint8)
    Image.fromarray(coarse).resize(size).convert(mode).save(path, kind)


def collection(root: Path, *painters: str, each: int = 2, rows: tuple[str, ...] = tuple(ROWS)) -> Path:
    """Folders of painters with a table."""
    for number, painter in enumerate(painters):
        for index in range(each):
            paint(root / "images" / painter / f"{painter}_{index}.jpg", 10 * number + index)
    (root / "artists.csv").write_text(TABLE + "".join(ROWS[row] for row in rows), encoding="utf-8")
    return root / "images"


def table(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def levels_of(path: Path) -> np.ndarray:
    with Image.open(path) as picture:
        return np.asarray(picture)


def files(out: Path) -> dict[str, bytes]:
    """All results, without the log and the settings."""
    kept = [path for path in out.rglob("*") if path.is_file()]
    ours = ("resized_images", "generated_images", "normalized_images", "one_hot.csv", "normalized_one_hot.csv")
    named = {path.relative_to(out).as_posix(): path for path in kept}
    return {name: path.read_bytes() for name, path in named.items() if name.startswith((*ours, "summary.md"))}


def times(out: Path) -> dict[Path, int]:
    return {path: path.stat().st_mtime_ns for path in out.rglob("*") if path.suffix in (".jpg", ".npy")}


# --- what comes out


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, Outcome]:
    """(pictures, results, outcome) of two painters with two pictures each."""
    root = tmp_path_factory.mktemp("finished")
    data = collection(root, "Albrecht_Durer", "El_Greco")
    with mock.patch.object(example, "sample_panel"):
        return data, root / "run", run(root / "run", "--data", data)


def test_every_picture_becomes_eleven_files_of_the_documents_names(finished: tuple[Path, Path, Outcome]) -> None:
    _, out, outcome = finished
    assert outcome.code == 0, outcome.err
    stems = ["Albrecht_Dürer/Albrecht_Durer_0", "Albrecht_Dürer/Albrecht_Durer_1"]
    stems += ["El_Greco/El_Greco_0", "El_Greco/El_Greco_1"]
    expected = {f"resized_images/{stem} resized.jpg" for stem in stems}
    for stem in stems:
        for number in range(5):
            expected.add(f"generated_images/{stem} resized {number} generated.jpg")
            expected.add(f"normalized_images/{stem} resized {number} generated normalized.npy")
    assert {name for name in files(out) if not name.endswith((".csv", ".md"))} == expected
    assert "44 files written" in outcome.out


def test_resizing_is_pillows_own_at_quality_90(finished: tuple[Path, Path, Outcome]) -> None:
    data, out, _ = finished
    expected = io.BytesIO()
    with Image.open(data / "El_Greco" / "El_Greco_0.jpg") as picture:
        picture.resize((SIDE, SIDE)).save(expected, "JPEG", quality=90)
    resized = out / "resized_images" / "El_Greco" / "El_Greco_0 resized.jpg"
    assert resized.read_bytes() == expected.getvalue()
    unmodified = out / "generated_images" / "El_Greco" / "El_Greco_0 resized 0 generated.jpg"
    assert unmodified.read_bytes() == expected.getvalue()


def test_arrays_are_the_variants_from_0_to_1(finished: tuple[Path, Path, Outcome]) -> None:
    _, out, _ = finished
    arrays = sorted((out / "normalized_images").rglob("*.npy"))
    assert len(arrays) == 20
    for path in arrays:
        array = np.load(path)
        assert array.dtype == np.float32
        assert array.shape == (SIDE, SIDE, 3)
        picture = Path(str(path).replace("normalized_images", "generated_images").replace(" normalized.npy", ".jpg"))
        levels = levels_of(picture)
        assert np.array_equal(array, (levels.astype(np.float64) / 255).astype(np.float32))
        assert 0 <= array.min() < array.max() <= 1


def test_variants_are_the_policys_and_differ(tmp_path: Path) -> None:
    data = collection(tmp_path, "El_Greco", each=1)
    for policy in ("pil", "keras"):
        out = tmp_path / policy
        assert run(out, "--data", data, "--policy", policy, "--no-arrays", "--seed", 3).code == 0
        levels = [levels_of(path) for path in sorted((out / "generated_images").rglob("*.jpg"))]
        assert all(picture.shape == (SIDE, SIDE, 3) for picture in levels)
        assert len({picture.tobytes() for picture in levels}) >= 4  # "pil" may change nothing, rarely
        pixels = torch.from_numpy(levels[0].copy()).permute(2, 0, 1)
        with mock.patch.object(example, "painting_augmentation", lambda name: lambda image: (name, image)):
            assert example.variant(policy, pixels, 3, "El_Greco/El_Greco_0", 1) == (policy, pixels)
        state = torch.get_rng_state()
        changed = example.variant(policy, pixels, 3, "El_Greco/El_Greco_0", 2)
        assert torch.equal(torch.get_rng_state(), state)  # the program's own numbers stay
        written = io.BytesIO()
        Image.fromarray(changed.permute(1, 2, 0).numpy()).save(written, "JPEG", quality=90)
        assert np.array_equal(np.asarray(Image.open(written)), levels[2])
        assert painting_augmentation(policy)(pixels).shape == changed.shape
        for other in ((4, "El_Greco/El_Greco_0", 2), (3, "El_Greco/El_Greco_1", 2), (3, "El_Greco/El_Greco_0", 3)):
            assert not torch.equal(changed, example.variant(policy, pixels, *other))


def test_float64_is_the_documents_division(tmp_path: Path) -> None:
    data = collection(tmp_path, "El_Greco", each=1)
    assert run(tmp_path / "run", "--data", data, "--float64").code == 0
    path = next((tmp_path / "run" / "normalized_images").rglob("*resized 0*.npy"))
    levels = levels_of(next((tmp_path / "run" / "resized_images").rglob("*.jpg")))
    assert np.array_equal(np.load(path), levels / 255.0)
    assert np.load(path).dtype == np.float64


def test_one_hot_tables_name_every_file_and_every_array(finished: tuple[Path, Path, Outcome]) -> None:
    _, out, _ = finished
    rows = table(out / "one_hot.csv")
    assert [row["image"] for row in rows] == [
        f"{name}/{name}_{index}.jpg" for name in ("Albrecht_Durer", "El_Greco") for index in (0, 1)
    ]
    arrays = table(out / "normalized_one_hot.csv")
    assert len(arrays) == 20
    assert all((out / row["image"]).is_file() for row in arrays)
    for row in rows + arrays:
        one_hot = json.loads(row["one_hot"])
        assert sum(one_hot) == 1
        assert one_hot.index(1) == int(row["label"]) == ["Albrecht Dürer", "El Greco"].index(row["painter"])
        assert row["painter"].split()[-1][0] == row["image"].split("/")[-1].split("_")[1][0]


@pytest.fixture
def trial(tmp_path: Path) -> tuple[Path, Outcome]:
    with mock.patch.object(sys.modules[__name__], "SMALL", []):
        return tmp_path / "trial", run(tmp_path / "trial", "--smoke")


def test_a_trial_draws_its_pictures_at_300_pixels(trial: tuple[Path, Outcome]) -> None:
    out, outcome = trial
    assert outcome.code == 0, outcome.err
    assert "12 drawn pictures" in outcome.out
    resized = list((out / "resized_images").rglob("*.jpg"))
    assert [path.parent.name for path in sorted(resized)] == ["Doris_Disc", "Ringo_Ring", "Sara_Square", "Zoë_Triangle"]
    assert {levels_of(path).shape for path in resized} == {(300, 300, 3)}
    assert levels_of(out / "figures" / "variants.png").shape[1] > 800
    text = (out / "preprocessing.log").read_text(encoding="utf-8")
    assert "start: 4 of 12 pictures" in text
    assert "Zoë_Triangle/Zoë_Triangle_1.jpg: 11 files written" in text
    assert "end: 4 pictures, 0 unreadable, 44 files written" in text


# --- the same, however it was made


def test_processes_stops_and_company_change_nothing(
    tmp_path: Path, finished: tuple[Path, Path, Outcome], monkeypatch: pytest.MonkeyPatch
) -> None:
    data, whole, _ = finished
    monkeypatch.syspath_prepend(PATH.parent)  # where other processes find the example
    assert run(tmp_path / "two", "--data", data, "--workers", 2).code == 0
    assert files(tmp_path / "two") == files(whole)

    original, seen = example.Plan.process, []

    def interrupted(self: Any, task: Any) -> Any:
        seen.append(task)
        if len(seen) == 2:
            signal.raise_signal(signal.SIGINT)
        return original(self, task)

    parts = tmp_path / "parts"
    with mock.patch.object(example.Plan, "process", interrupted):
        stopped = run(parts, "--data", data)
    assert stopped.code == 130
    assert "the same command goes on" in stopped.out
    assert not (parts / "summary.md").exists()
    before = times(parts)
    assert len(before) == 22
    assert run(parts, "--data", data).code == 0
    assert files(parts) == files(whole)
    assert {path: time for path, time in times(parts).items() if path in before} == before

    subset = tmp_path / "subset"  # what is random hangs on the picture's own name alone
    shutil.copytree(data / "El_Greco", subset / "El_Greco")
    assert run(tmp_path / "alone", "--data", subset, "--artists", data.parent / "artists.csv").code == 0
    alone = {name: content for name, content in files(tmp_path / "alone").items() if "images" in name}
    assert len(alone) == 22
    assert alone.items() <= files(whole).items()


def test_a_limit_takes_the_first_of_each_painter_and_may_grow(
    tmp_path: Path, finished: tuple[Path, Path, Outcome]
) -> None:
    data, whole, _ = finished
    out = tmp_path / "run"
    assert run(out, "--data", data, "--limit-per-class", 1).code == 0
    assert [path.name for path in sorted(out.rglob("* resized.jpg"))] == [
        "Albrecht_Durer_0 resized.jpg",
        "El_Greco_0 resized.jpg",
    ]
    assert len(table(out / "one_hot.csv")) == 4  # every original file
    assert len(table(out / "normalized_one_hot.csv")) == 10
    before = times(out)
    assert run(out, "--data", data).code == 0
    assert files(out) == files(whole)
    assert before.items() <= times(out).items()


def test_what_is_not_whole_is_made_again_and_nothing_else(tmp_path: Path, finished: tuple[Path, Path, Outcome]) -> None:
    data, whole, _ = finished
    out = tmp_path / "run"
    shutil.copytree(whole, out)
    resized = out / "resized_images" / "El_Greco" / "El_Greco_0 resized.jpg"
    generated = sorted((out / "generated_images" / "El_Greco").iterdir())
    arrays = sorted((out / "normalized_images" / "El_Greco").iterdir())
    resized.write_bytes(resized.read_bytes()[:-40])
    generated[0].write_bytes(b"")
    generated[1].unlink()
    Image.new("RGB", (SIDE + 1, SIDE)).save(generated[2], "JPEG")
    generated[3].write_bytes(generated[3].read_bytes() + b"more")
    arrays[0].write_bytes(arrays[0].read_bytes()[:-1])
    np.save(arrays[1], np.zeros((SIDE, SIDE, 3)))
    arrays[2].with_name(f".{arrays[2].name}.tmp").write_bytes(b"half")  # what a killed process leaves
    arrays[2].unlink()
    spoilt = {resized, *generated[:4], *arrays[:3]}
    before = times(out)
    outcome = run(out, "--data", data)
    assert "8 files written" in outcome.out
    assert files(out) == files(whole)
    assert {path for path, time in times(out).items() if before.get(path) != time} == spoilt


def test_other_settings_are_refused(tmp_path: Path) -> None:
    data = collection(tmp_path, "El_Greco", each=1)
    assert run(tmp_path / "run", "--data", data, "--no-arrays").code == 0
    outcome = run(tmp_path / "run", "--data", data, "--policy", "keras")
    assert outcome.code == 2
    assert "policy: 'pil' there, 'keras' now" in outcome.err
    paint(data / "El_Greco" / "another.jpg", 9)
    assert "holds a run with other settings" in run(tmp_path / "run", "--data", data).err


def test_two_runs_do_not_share_a_directory(tmp_path: Path) -> None:
    data = collection(tmp_path, "El_Greco", each=1)
    (tmp_path / "run").mkdir()
    with example.RunLock(tmp_path / "run"):
        outcome = run(tmp_path / "run", "--data", data)
    assert outcome.code == 2
    assert "in use by another run" in outcome.err


def test_a_process_that_dies_is_an_error_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Dying:
        def __init__(self, *_: Any, **__: Any) -> None: ...
        def __enter__(self) -> "Dying":
            return self

        def __exit__(self, *_: object) -> None: ...
        def submit(self, *_: Any) -> "Future[Any]":
            future: Future[Any] = Future()
            future.set_exception(BrokenProcessPool("gone"))
            return future

    monkeypatch.setattr(example, "ProcessPoolExecutor", Dying)
    outcome = run(tmp_path / "run", "--data", collection(tmp_path, "El_Greco"), "--workers", 2)
    assert outcome.code == 2
    assert "WorkerDiedError: a process has died" in outcome.err
    assert "WorkerDiedError" in (tmp_path / "run" / "preprocessing.log").read_text()


def test_a_process_that_dies_of_the_stop_is_a_stop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Dying:
        def __init__(self, *_: Any, **__: Any) -> None: ...
        def __enter__(self) -> "Dying":
            return self

        def __exit__(self, *_: object) -> None: ...
        def submit(self, *_: Any) -> None:
            signal.raise_signal(signal.SIGTERM)
            raise BrokenPipeError

    monkeypatch.setattr(example, "ProcessPoolExecutor", Dying)
    outcome = run(tmp_path / "run", "--data", collection(tmp_path, "El_Greco"), "--workers", 2)
    assert outcome.code == 143
    assert "the same command goes on" in outcome.out


# --- what a collection may hold


def test_odd_files_are_taken_and_told(tmp_path: Path) -> None:
    data = collection(tmp_path, "El_Greco", each=1)
    paint(data / "El_Greco" / "cmyk.jpg", 1, mode="CMYK")
    paint(data / "El_Greco" / "grey.jpg", 2, mode="L")
    paint(data / "El_Greco" / "clear.png", 3, mode="RGBA", kind="PNG")
    paint(data / "El_Greco" / "wrong.jpg", 4, kind="PNG")
    paint(data / "El_Greco" / "UPPER.JPG", 5)
    paint(data / "El_Greco" / "Bäuerin ñ.jpeg", 6)
    assert run(tmp_path / "run", "--data", data).code == 0
    names = {path.name for path in (tmp_path / "run" / "resized_images" / "El_Greco").iterdir()}
    stems = {"El_Greco_0", "cmyk", "grey", "clear", "wrong", "UPPER", "Bäuerin ñ"}
    assert names == {f"{stem} resized.jpg" for stem in stems}
    for path in (tmp_path / "run").rglob("*.npy"):
        assert np.load(path).shape == (SIDE, SIDE, 3)
    grey = levels_of(tmp_path / "run" / "resized_images" / "El_Greco" / "grey resized.jpg")
    assert np.array_equal(grey[..., 0], grey[..., 2])
    text = (tmp_path / "run" / "summary.md").read_text(encoding="utf-8")
    told = [line for line in text.splitlines() if line.startswith("- ")]
    assert told == [
        "- El_Greco/clear.png: mode RGBA",
        "- El_Greco/cmyk.jpg: mode CMYK",
        "- El_Greco/grey.jpg: mode L",
        "- El_Greco/wrong.jpg: PNG inside",
    ]


def test_a_broken_file_ends_the_run_or_is_left_out(tmp_path: Path) -> None:
    data = collection(tmp_path, "Albrecht_Durer", "El_Greco")
    broken = data / "Albrecht_Durer" / "Albrecht_Durer_0.jpg"
    broken.write_bytes(broken.read_bytes()[:-200])
    outcome = run(tmp_path / "run", "--data", data)
    assert outcome.code == 2
    assert "ImageDecodeError: 'Albrecht_Durer/Albrecht_Durer_0.jpg'" in outcome.err
    outcome = run(tmp_path / "run", "--data", data, "--on-error", "skip")
    assert outcome.code == 0, outcome.err
    assert "| Albrecht Dürer | 2 | 3 | 1 | 1 |" in outcome.out
    assert "- 'Albrecht_Durer/Albrecht_Durer_0.jpg' could not be decoded" in outcome.out
    assert len(list((tmp_path / "run").rglob("*.npy"))) == 15
    assert len(table(tmp_path / "run" / "normalized_one_hot.csv")) == 15
    assert len(table(tmp_path / "run" / "one_hot.csv")) == 4


def test_nothing_but_broken_files_is_an_error(tmp_path: Path) -> None:
    data = collection(tmp_path, "El_Greco", each=1)
    (data / "El_Greco" / "El_Greco_0.jpg").write_bytes(b"no picture")
    outcome = run(tmp_path / "run", "--data", data, "--on-error", "skip")
    assert outcome.code == 2
    assert "EmptyDatasetError: none of the 1 pictures" in outcome.err


def test_a_folder_without_a_row_is_refused_unless_allowed(tmp_path: Path) -> None:
    data = collection(tmp_path, "El_Greco", "Banksy", each=1, rows=("El Greco",))
    outcome = run(tmp_path / "run", "--data", data)
    assert outcome.code == 2
    assert "Banksy" in outcome.err
    assert not (tmp_path / "run" / "resized_images").exists()
    outcome = run(tmp_path / "run", "--data", data, "--allow-unknown")
    assert outcome.code == 0, outcome.err
    assert "| Banksy | 1 | - | 1 | 0 |" in outcome.out


def test_a_row_without_a_folder_is_told(tmp_path: Path) -> None:
    outcome = run(tmp_path / "run", "--data", collection(tmp_path, "El_Greco", each=1), "--no-arrays")
    assert "| Titian | 0 | 7 | 0 | 0 |" in outcome.out
    assert len(json.loads(table(tmp_path / "run" / "one_hot.csv")[0]["one_hot"])) == 1  # a class has pictures
    assert not (tmp_path / "run" / "normalized_one_hot.csv").exists()


def test_a_table_that_is_none_is_refused_and_none_is_needed(tmp_path: Path) -> None:
    data = collection(tmp_path, "El_Greco", each=1)
    (tmp_path / "artists.csv").write_text("name,years\nEl Greco,1\n")
    outcome = run(tmp_path / "run", "--data", data)
    assert outcome.code == 2
    assert "lacks the columns" in outcome.err
    (tmp_path / "artists.csv").unlink()
    outcome = run(tmp_path / "run", "--data", data)
    assert outcome.code == 0, outcome.err
    assert "they are called like their folders" in outcome.out


def test_two_spellings_are_one_painter_and_no_file_is_overwritten(tmp_path: Path) -> None:
    data = collection(tmp_path, "Albrecht_Durer", each=1)
    paint(data / GARBLED / "Albrecht_Durer_0.png", 7, kind="PNG")  # another picture of the same stem
    paint(data / GARBLED / "ALBRECHT_Durer_0.jpg", 8)
    shutil.copy(data / "Albrecht_Durer" / "Albrecht_Durer_0.jpg", data / GARBLED / "copy.jpg")
    outcome = run(tmp_path / "run", "--data", data, "--no-arrays")
    assert outcome.code == 0, outcome.err
    names = sorted(path.name for path in (tmp_path / "run" / "resized_images" / "Albrecht_Dürer").iterdir())
    assert names == [
        "ALBRECHT_Durer_0 2 resized.jpg",
        "Albrecht_Durer_0 3 resized.jpg",
        "Albrecht_Durer_0 resized.jpg",
    ]
    assert f"- {GARBLED}/copy.jpg" in outcome.out
    assert f"- Albrecht Dürer: Albrecht_Durer, {GARBLED}\n" in outcome.out
    outcome = run(tmp_path / "apart", "--data", data, "--no-arrays", "--keep-aliases")
    assert outcome.code == 0, outcome.err
    counts = {path.name: len(list(path.iterdir())) for path in (tmp_path / "apart" / "resized_images").iterdir()}
    assert counts == {"Albrecht_Durer": 1, GARBLED: 3}


def test_document_names_have_no_folder_and_must_differ(tmp_path: Path) -> None:
    data = collection(tmp_path, "El_Greco", "Titian", each=1)
    assert run(tmp_path / "run", "--data", data, "--no-arrays", "--document-names").code == 0
    assert [row["image"] for row in table(tmp_path / "run" / "one_hot.csv")] == ["El_Greco_0.jpg", "Titian_0.jpg"]
    paint(data / "Titian" / "El_Greco_0.jpg", 5)
    outcome = run(tmp_path / "again", "--data", data, "--document-names")
    assert outcome.code == 2
    assert "several files are called El_Greco_0.jpg" in outcome.err


def test_archives_in_a_folder_and_the_variable(tmp_path: Path) -> None:
    root = tmp_path / "best_artworks"
    data = collection(root, "El_Greco", each=1)
    shutil.make_archive(str(root / "small"), "zip", data)
    paint(data / "El_Greco" / "El_Greco_0.jpg", 0, size=(90, 70))
    shutil.make_archive(str(root / "large"), "zip", data)
    shutil.rmtree(data)
    with mock.patch.dict(os.environ, {"GANBLOCKS_DATA": str(tmp_path)}):
        assert example.parse([]).data == root
        assert example.parse(["--smoke"]).data is None
    outcome = run(tmp_path / "run", "--data", root)
    assert outcome.code == 0, outcome.err
    assert "using large.zip" in outcome.out


def test_a_full_disk_is_told_before_any_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(example.shutil, "disk_usage", lambda _: mock.Mock(free=90_000))
    data = collection(tmp_path, "El_Greco", each=1)
    outcome = run(tmp_path / "run", "--data", data)  # 5 x 40 x 40 x 3 x 4 bytes
    assert outcome.code == 2
    assert "the arrays need 0.0 GB" in outcome.err
    assert not (tmp_path / "run" / "resized_images").exists()
    monkeypatch.setattr(example.shutil, "disk_usage", lambda _: mock.Mock(free=96_000))
    assert run(tmp_path / "run", "--data", data).code == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--size", "7"), "--size is 7"),
        (("--workers", "0"), "--workers is 0"),
        (("--limit-per-class", "0"), "--limit-per-class is 0"),
        (("--policy", "none"), "invalid choice: 'none'"),
        (("--smoke", "--data", "here"), "a trial has drawn pictures"),
        (("--data", "nowhere"), "nowhere"),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, arguments: tuple[str, ...], message: str) -> None:
    outcome = run(tmp_path / "run", *arguments)
    assert outcome.code == 2
    assert message in outcome.err


def test_results_among_the_paintings_are_refused(tmp_path: Path) -> None:
    data = collection(tmp_path, "El_Greco", each=1)
    outcome = run(data / "run", "--data", data)
    assert outcome.code == 2
    assert "lies within --data" in outcome.err
