"""The main command: it starts at once, leaves what it promises, goes on after any stop, and refuses what is wrong."""

import json
import os
import shutil
import signal
import struct
import subprocess
import sys
import time
import zipfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from example_runs import ROOT, Outcome, call, load, plain_callback
from PIL import Image
from safetensors.torch import load_file
from torch import Tensor

from ganblocks.errors import SmallSampleWarning
from ganblocks.metrics import Score
from ganblocks.models.progan import Generator, ProGANConfig
from ganblocks.training import CheckpointStore, ProgressBar, Trainer
from ganblocks.visualization import image_grid

PATH = ROOT / "examples" / "progan_celeba.py"
SMALL = ["--device", "cpu", "--workers", "1", "--max-channels", "4", "--batch-size", "8", "--resolution", "8"]

example = load(PATH)


def run(out: Path, *arguments: object, **environment: str) -> Outcome:
    """Call the example as its command line would, with the smallest networks unless told otherwise."""
    # So few faces are few for a Frechet distance, which each run that measures one says.
    return call(example, *SMALL, "--out", out, *arguments, environment=environment, expected=SmallSampleWarning)


@pytest.fixture
def bare(monkeypatch: pytest.MonkeyPatch) -> None:
    """Trains without pictures and events, which cost more than tiny networks do."""
    for name in ("SampleSheets", "TensorBoard", "Summary"):
        monkeypatch.setattr(example, name, plain_callback)


def files(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def records(run_dir: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in (run_dir / "log.jsonl").read_text().splitlines()]


def final_weights(run_dir: Path) -> dict[str, Tensor]:
    """Networks, average and moments of the newest checkpoint, without the global random state, which no draw uses."""
    tensors = load_file(max((run_dir / "checkpoints").iterdir()) / "tensors.safetensors")
    return {name: value for name, value in tensors.items() if not name.startswith("random/")}


def equal(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def write_images(folder: Path, count: int = 12, side: int = 8) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(0).integers(0, 256, (count, side, side, 3), dtype=np.uint8)
    for index, image in enumerate(pixels):
        Image.fromarray(image).save(folder / f"{index:02d}.png")
    return folder


def write_zip(path: Path, folder: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w") as archive:
        for file in sorted(folder.iterdir()):
            archive.write(file, file.name)
    return path


@pytest.fixture(scope="module")
def faces(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Outcome]:
    """A whole run on the built-in faces."""
    out = tmp_path_factory.mktemp("runs") / "faces"
    return out, run(out, "--images-per-stage", 32, "--resolution", 16)


class TestRun:
    def test_finishes_without_a_warning(self, faces: tuple[Path, Outcome]) -> None:
        _, outcome = faces
        assert (outcome.code, outcome.err, outcome.warnings) == (0, "", [])
        assert "96 images in" in outcome.out
        assert "finished" in outcome.out

    def test_says_that_so_few_faces_will_be_memorised(self, faces: tuple[Path, Outcome]) -> None:
        assert "100 grey faces" in faces[1].out
        assert "memorised" in faces[1].out
        assert "90 images to train on, 10 held out" in faces[1].out

    def test_leaves_what_it_promises(self, faces: tuple[Path, Outcome]) -> None:
        out, _ = faces
        names = {path.name for path in out.iterdir()}
        promised = {"samples", "progress.gif", "progress.webp", "curves.png", "report.html", "log.jsonl", "tensorboard"}
        promised |= {"nearest.png"}
        assert promised | {"checkpoints", "config.json", "cache", ".lock"} == names
        assert [path.name for path in sorted((out / "checkpoints").iterdir())] == ["000000000088", "000000000096"]
        for picture in ("progress.gif", "progress.webp", "curves.png"):
            with Image.open(out / picture) as image:
                image.load()

    def test_samples_come_at_the_quarters_of_each_stage(self, faces: tuple[Path, Outcome]) -> None:
        wanted = {f"{seen:012d}_{4 * 2 ** ((seen - 1) // 32)}px.png" for seen in range(8, 97, 8)}
        assert {path.name for path in (faces[0] / "samples").iterdir()} == wanted

    def test_log_has_losses_and_distances_at_each_resolution(self, faces: tuple[Path, Outcome]) -> None:
        lines = [record for record in records(faces[0]) if "event" not in record]
        losses = {"discriminator_loss", "generator_loss", "penalty", "real_score", "fake_score"}
        assert {record["resolution"] for record in lines if losses <= record.keys()} == {4, 8, 16}
        measured = {record["resolution"]: record for record in lines if "sliced_wasserstein_distance" in record}
        assert measured.keys() == {4, 8, 16}
        assert all(0 < record["sliced_wasserstein_distance"] < 4 for record in measured.values())
        assert [size for size, record in measured.items() if record.get("patch_swd_16", 0) > 0] == [16]

    def test_ends_with_scores_and_their_fingerprints_in_log_and_report(self, faces: tuple[Path, Outcome]) -> None:
        out, outcome = faces
        (event,) = (record for record in records(out) if record.get("event") == "scores")
        found = {score["name"]: Score.from_dict(score) for score in event["scores"]}
        assert event["images_seen"] == 96
        names = {"frechet_distance", "ms_ssim", "swd_16", "precision", "recall", "density", "coverage"}
        assert found.keys() == names | {"memorisation_pixels", "memorisation_features"}
        assert found["frechet_distance"].counts == {"real": 90, "fake": 90}
        assert found["memorisation_pixels"].counts == {"train": 90, "held_out": 10, "fake": 90}
        report = (out / "report.html").read_text()
        for score in found.values():
            assert score.fingerprint in report
            assert score.fingerprint in outcome.out

    def test_sheets_show_the_same_latents_through_the_averaged_generator(self, faces: tuple[Path, Outcome]) -> None:
        out, _ = faces
        store = CheckpointStore(out / "checkpoints")
        for path in store.list():
            checkpoint = store.load(path)
            generator = Generator(ProGANConfig.from_dict(checkpoint.metadata["config"]))
            generator.load_state_dict(checkpoint.state["step"]["ema"]["module"])
            phase = checkpoint.metadata["phase"]
            images = generator.sample(32, seed=1234, resolution=phase["resolution"], alpha=phase["alpha"])
            with Image.open(out / "samples" / f"{path.name}_16px.png") as sheet:
                assert np.array_equal(np.asarray(sheet), np.asarray(image_grid(images, columns=8, scale=4)))

    def test_settings_are_written_down(self, faces: tuple[Path, Outcome]) -> None:
        settings = json.loads((faces[0] / "config.json").read_text())
        assert settings["config"]["max_channels"] == 4
        assert settings["config"]["image_channels"] == 1
        assert settings["stage_images"] == [32, 32, 32]
        assert set(settings["recipe"]["batch_sizes"].values()) == {8}


class TestSample:
    def test_makes_as_many_images_as_asked_for_and_the_same_again(self, faces: tuple[Path, Outcome]) -> None:
        out, _ = faces
        folder = out / "generated_seed3"
        outcome = run(out, "--sample", 5, "--seed", 3)
        assert outcome.code == 0, outcome.err
        assert files(folder) == {"00000.png", "00001.png", "00002.png", "00003.png", "00004.png", "sheet.png"}
        first = {path.name: path.read_bytes() for path in folder.iterdir()}
        shutil.rmtree(folder)
        assert run(out, "--sample", 5, "--seed", 3).code == 0
        assert {path.name: path.read_bytes() for path in folder.iterdir()} == first
        with Image.open(folder / "00000.png") as image:
            assert (image.size, image.mode) == ((16, 16), "L")
        assert run(out, "--sample", 5, "--seed", 4).code == 0
        assert (out / "generated_seed4" / "00000.png").read_bytes() != first["00000.png"]

    def test_checkpoints_are_only_read_also_while_a_run_writes_them(self, faces: tuple[Path, Outcome]) -> None:
        out, _ = faces
        leftover = out / "checkpoints" / ".tmp-1234567-000000099999"  # which the owner's store would sweep away
        leftover.mkdir()
        before = {path: path.stat().st_mtime_ns for path in (out / "checkpoints").rglob("*")}
        outcome = run(out, "--sample", 1, "--seed", 5)
        assert (outcome.code, outcome.err) == (0, "")
        assert {path: path.stat().st_mtime_ns for path in (out / "checkpoints").rglob("*")} == before
        leftover.rmdir()

    @pytest.mark.parametrize("there", [False, True])
    def test_without_a_run_there_is_nothing_to_sample_from(self, there: bool, tmp_path: Path) -> None:
        if there:
            (tmp_path / "photos").mkdir()
        outcome = run(tmp_path / "photos", "--sample", 2)
        assert outcome.code == 2
        assert "holds no checkpoint: train first" in outcome.err
        assert list(tmp_path.rglob("*")) == ([tmp_path / "photos"] if there else [])


STOPPED = ("--images-per-stage", 32)  # 4x4 and 8x8 in eight steps


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Tensor]:
    """Weights of a run that nothing interrupted."""
    out = tmp_path_factory.mktemp("runs") / "whole"
    with pytest.MonkeyPatch.context() as patch:
        for name in ("SampleSheets", "TensorBoard", "Summary"):
            patch.setattr(example, name, plain_callback)
        assert run(out, *STOPPED).code == 0
    return final_weights(out)


class TestStop:
    @pytest.mark.slow
    @pytest.mark.usefixtures("bare")
    def test_after_ctrl_c_the_same_command_goes_on_to_the_same_weights(
        self, whole: dict[str, Tensor], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        class CtrlC(ProgressBar):
            def on_step(self, trainer: Trainer, previous: int) -> None:
                super().on_step(trainer, previous)
                if trainer.images_seen == 40:
                    os.kill(os.getpid(), signal.SIGINT)

        out = tmp_path / "run"
        with monkeypatch.context() as patch:
            patch.setattr(example, "ProgressBar", CtrlC)
            stopped = run(out, *STOPPED)
        assert stopped.code == 130
        assert "40 images in" in stopped.out
        assert "the same command goes on from here" in stopped.out
        done = run(out, *STOPPED)
        assert (done.code, done.err) == (0, "")
        assert [(r["event"], r["images_seen"]) for r in records(out) if "event" in r] == [
            ("start", 0),
            ("resume", 40),
            ("scores", 64),
        ]
        assert equal(final_weights(out), whole)

    @pytest.mark.slow
    @pytest.mark.usefixtures("bare")
    def test_a_run_cut_short_on_purpose_goes_on_to_the_same_weights(
        self, whole: dict[str, Tensor], tmp_path: Path
    ) -> None:
        out = tmp_path / "run"
        assert run(out, *STOPPED, "--total-images", 24).code == 0
        assert sorted(path.name for path in (out / "checkpoints").iterdir())[-1] == "000000000024"
        assert run(out, *STOPPED).code == 0
        assert equal(final_weights(out), whole)

    @pytest.mark.usefixtures("bare")
    def test_after_a_kill_the_same_command_goes_on_to_the_same_weights(
        self, whole: dict[str, Tensor], tmp_path: Path
    ) -> None:
        out = tmp_path / "run"
        arguments = [*SMALL, "--out", str(out), *map(str, STOPPED)]
        environment = {**os.environ, "PYTHONPATH": str(PATH.parents[1] / "src")}
        environment.pop("GANBLOCKS_DATA", None)
        process = subprocess.Popen(
            [sys.executable, "-c", WAITS_TO_BE_KILLED, str(PATH), *arguments],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        try:
            deadline = time.monotonic() + 240
            while not (out / "samples" / "000000000048_8px.png").exists():
                assert process.poll() is None, process.communicate()[0].decode()
                assert time.monotonic() < deadline, "the example has not come to its 48th image"
                time.sleep(0.05)
        finally:
            process.kill()
            process.communicate()
        assert process.returncode == -signal.SIGKILL
        assert max(int(path.name) for path in (out / "checkpoints").iterdir() if path.name.isdigit()) == 40
        assert run(out, *STOPPED).code == 0
        assert [(r["event"], r["images_seen"]) for r in records(out) if "event" in r] == [
            ("start", 0),
            ("resume", 40),
            ("scores", 64),
        ]
        logged = [r["images_seen"] for r in records(out) if "discriminator_loss" in r]
        assert logged == list(range(8, 65, 8))
        assert equal(final_weights(out), whole)


# The example as a program of its own, which stands still once it has logged and drawn its 48th image, but not saved it.
WAITS_TO_BE_KILLED = """
import runpy, sys, time
import ganblocks.training as training

class Summary(training.Callback):
    def __init__(self, **_): pass
    def on_step(self, trainer, previous):
        if trainer.images_seen == 48:
            time.sleep(280)

training.Summary = Summary
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


def png_header(width: int, height: int) -> bytes:
    """A PNG that claims a size and holds no pixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


def nothing(data: Path) -> None:
    pass


def empty(data: Path) -> None:
    data.mkdir()


def no_zip(data: Path) -> None:
    data.write_text("not a zip")


def text(data: Path) -> None:
    (write_images(data) / "05.png").write_text("not an image")


def truncated(data: Path) -> None:
    content = (write_images(data, side=32) / "05.png").read_bytes()
    (data / "05.png").write_bytes(content[: len(content) // 2])


def enormous(data: Path) -> None:
    (write_images(data) / "05.png").write_bytes(png_header(20_000, 20_000))


def thin(data: Path) -> None:
    Image.new("RGB", (1, 4096)).save(write_images(data) / "05.png")


class TestBadInput:
    @pytest.mark.parametrize(
        ("prepare", "error", "words"),
        [
            (nothing, "DataError", "does not exist"),
            (empty, "EmptyDatasetError", "holds no image"),
            (no_zip, "DataError", "neither a folder nor a zip archive"),
            (text, "ImageDecodeError", "'05.png' is no BMP, GIF, JPEG"),
            (truncated, "ImageDecodeError", "'05.png' could not be decoded"),
            (enormous, "ImageTooLargeError", "'05.png' claims 20000 x 20000 pixels"),
            (thin, "DataError", "'05.png' is 1 x 4096 pixels"),
        ],
    )
    def test_bad_images_are_one_line_and_leave_nothing(
        self, prepare: Callable[[Path], None], error: str, words: str, tmp_path: Path
    ) -> None:
        prepare(tmp_path / "data")
        outcome = run(tmp_path / "run", "--data", tmp_path / "data")
        assert outcome.code == 2
        assert outcome.err.startswith(f"{error}: ")
        assert words in outcome.err
        assert outcome.err.count("\n") == 1
        assert outcome.out == ""
        assert not (tmp_path / "run").exists() or files(tmp_path / "run") == set()

    @pytest.mark.parametrize(
        ("arguments", "words"),
        [
            ("--resolution 48", "ValueError: `resolution` is 48, but must be a power of two"),
            ("--resolution 2048", "ValueError: `resolution` is 2048"),
            ("--resolution 256 --base-channels 8", "ValueError: `base_channels` is 8"),
            ("--images-per-stage 8 8 8", "ValueError: --images-per-stage has 3 numbers, but there are 2 stages"),
            ("--held-out 100", "ValueError: `held_out` is 100"),
            ("--seed -1", "ValueError: `seed` is -1"),
            ("--total-images 0", "--total-images is 0, but must be at least 1"),
            ("--images-per-stage 8 0", "--images-per-stage is 0, but must be at least 1"),
            ("--batch-size 0", "--batch-size is 0, but must be at least 1"),
            ("--resolution 0", "--resolution is 0, but must be at least 1"),
            ("--max-channels -4", "--max-channels is -4, but must be at least 1"),
            ("--workers 0", "--workers is 0, but must be at least 1"),
            ("--drawn 0", "--drawn is 0, but must be at least 1"),
            ("--drawn 9 --data photos", "--data and --drawn are given, but only one of them can be trained on"),
            ("--sample 0", "--sample is 0, but must be at least 1"),
            ("--resolution eight", "invalid int value: 'eight'"),
            ("--preset biggan", "invalid choice: 'biggan'"),
            ("--device gpu", "--device is gpu, but must be cpu, cuda or cuda:0"),
        ],
    )
    def test_bad_settings_are_named_and_nothing_is_trained(self, arguments: str, words: str, tmp_path: Path) -> None:
        outcome = run(tmp_path / "run", *arguments.split())
        assert outcome.code == 2
        assert words in outcome.err.splitlines()[-1]
        assert "Traceback" not in outcome.err
        assert not {"config.json", "log.jsonl"} & files(tmp_path)

    def test_a_device_that_is_not_there_is_named(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
        outcome = run(tmp_path / "run", "--device", "cuda")
        assert outcome.code == 2
        assert "--device is cuda, but PyTorch finds no GPU here" in outcome.err

    def test_a_missing_extra_is_named_with_its_command(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(sys.modules, "skimage", None)
        outcome = run(tmp_path / "run")
        assert outcome.code == 2
        assert outcome.err.startswith("ImportError: ")
        assert 'pip install "ganblocks[examples]"' in outcome.err

    def test_a_directory_of_a_run_with_other_settings_is_left_alone(
        self, faces: tuple[Path, Outcome], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        out = tmp_path / "run"
        shutil.copytree(faces[0], out)
        before = {name: (out / name).read_bytes() for name in files(out)}
        arguments = ("--images-per-stage", 32, "--resolution", 16, "--max-channels", 8)
        outcome = run(out, *arguments)
        assert outcome.code == 2
        assert outcome.err.startswith(f"RunMismatchError: {out} holds a run with other settings:\n  config: ")
        assert "'max_channels': 4" in outcome.err
        assert "--fresh" in outcome.err
        assert {name: (out / name).read_bytes() for name in files(out)} == before
        for name in ("SampleSheets", "TensorBoard", "Summary"):
            monkeypatch.setattr(example, name, plain_callback)
        assert run(out, *arguments, "--fresh", "--total-images", 8).code == 0
        assert {name: (out / name).read_bytes() for name in files(out)} == before
        settings = json.loads((tmp_path / "run-2" / "config.json").read_text())
        assert settings["config"]["max_channels"] == 8


class TestDryRun:
    def test_trains_nothing_and_does_not_claim_the_directory(self, tmp_path: Path) -> None:
        data = write_images(tmp_path / "data")
        outcome = run(tmp_path / "run", "--data", data, "--dry-run")
        assert outcome.code == 0
        assert "Nothing was trained" in outcome.out
        left = files(tmp_path / "run")
        assert left
        assert all(name.startswith("cache") for name in left)
        other = run(tmp_path / "run", "--data", data, "--dry-run", "--max-channels", 8)
        assert other.code == 0, other.err

    @pytest.mark.parametrize(("resolution", "enlarged"), [(8, False), (16, True)])
    def test_images_that_must_be_enlarged_are_warned_about(
        self, resolution: int, enlarged: bool, tmp_path: Path
    ) -> None:
        data = write_images(tmp_path / "data")
        outcome = run(tmp_path / "run", "--data", data, "--dry-run", "--resolution", resolution)
        assert outcome.code == 0
        wanted = ["`resolution` is 16, but the median shorter side of the images is 8 pixels"] if enlarged else []
        assert [message.split(":")[0] for message in outcome.warnings] == wanted

    @pytest.mark.parametrize("stages", [1, 3, 4, 5])
    def test_every_resolution_has_its_length_of_stages(self, stages: int, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.delenv("GANBLOCKS_DATA", raising=False)
        arguments = ["--device", "cpu", "--resolution", str(2 ** (stages + 1))]
        lengths = [
            example.build_recipe(example.parse([*arguments, *source]), stages)[1]
            for source in ([], ["--drawn", "100"], ["--data", "photos"])
        ]
        assert lengths == [
            [2000, 4000, 6000, 9000, 9000][:stages],
            [12_000, 16_000, 20_000, 24_000, 24_000][:stages],
            [600_000] * stages,
        ]


class TestData:
    def test_a_zip_and_a_folder_give_the_same_pixels(self, tmp_path: Path) -> None:
        folder = write_images(tmp_path / "data", side=12)
        sources = {"folder": folder, "zip": write_zip(tmp_path / "faces.zip", folder)}
        arrays: dict[str, dict[str, bytes]] = {}
        for name, source in sources.items():
            outcome = run(tmp_path / name, "--data", source, "--cache", tmp_path / f"{name}_cache", "--dry-run")
            assert outcome.code == 0, outcome.err
            assert "11 images to train on, 1 held out" in outcome.out
            assert not (tmp_path / name).exists()
            arrays[name] = {path.name: path.read_bytes() for path in (tmp_path / f"{name}_cache").rglob("*.npy")}
        assert arrays["folder"].keys() == {"4.npy", "8.npy"}
        assert arrays["folder"] == arrays["zip"]

    @pytest.mark.parametrize("kind", ["folder", "a zip in a folder"])
    def test_the_environment_names_the_data(self, kind: str, tmp_path: Path) -> None:
        folder = write_images(tmp_path / "root" / "utkface" if kind == "folder" else tmp_path / "made", count=7)
        if kind != "folder":
            write_zip(tmp_path / "root" / "utkface" / "faces.zip", folder)
        outcome = run(tmp_path / "run", "--dry-run", GANBLOCKS_DATA=str(tmp_path / "root"))
        assert outcome.code == 0, outcome.err
        assert "7 images to train on, 0 held out" in outcome.out
        assert "memorised" not in outcome.out

    def test_drawn_faces_need_no_data_at_all(self, tmp_path: Path) -> None:
        write_images(tmp_path / "root" / "utkface", count=7)
        outcome = run(tmp_path / "run", "--dry-run", "--drawn", 12, GANBLOCKS_DATA=str(tmp_path / "root"))
        assert (outcome.code, outcome.err, outcome.warnings) == (0, "", [])
        assert "11 images to train on, 1 held out" in outcome.out
        assert "memorised" not in outcome.out

    def test_an_environment_without_faces_means_the_built_in_ones(self, tmp_path: Path) -> None:
        outcome = run(tmp_path / "run", "--dry-run", GANBLOCKS_DATA=str(tmp_path))
        assert outcome.code == 0
        assert "100 grey faces" in outcome.out

    def test_the_command_line_comes_before_the_environment(self, tmp_path: Path) -> None:
        write_images(tmp_path / "root" / "utkface", count=7)
        data = write_images(tmp_path / "data", count=5)
        outcome = run(tmp_path / "run", "--dry-run", "--data", data, GANBLOCKS_DATA=str(tmp_path / "root"))
        assert "5 images to train on" in outcome.out


@pytest.fixture
def finite(tmp_path: Path) -> Iterator[Path]:
    """A run directory whose last checkpoint must hold finite weights."""
    yield tmp_path / "run"
    assert all(value.isfinite().all() for value in final_weights(tmp_path / "run").values())


@pytest.mark.usefixtures("bare")
class TestPresets:
    def test_the_taught_variant_trains_and_samples(self, finite: Path) -> None:
        outcome = run(finite, "--preset", "document", "--images-per-stage", 16)
        assert (outcome.code, outcome.err, outcome.warnings) == (0, "", [])
        settings = json.loads((finite / "config.json").read_text())
        assert settings["config"]["block_order"] == "document"
        assert settings["recipe"]["ema_decay"] is None
        assert run(finite, "--sample", 2).code == 0
        assert files(finite / "generated_seed0") == {"00000.png", "00001.png", "sheet.png"}

    def test_a_batch_of_one_trains(self, finite: Path) -> None:
        outcome = run(finite, "--images-per-stage", 4, "--batch-size", 1)
        assert (outcome.code, outcome.err, outcome.warnings) == (0, "", [])
        assert [r["images_seen"] for r in records(finite) if "discriminator_loss" in r] == list(range(1, 9))

    def test_very_few_images_train_without_held_out_ones(self, finite: Path, tmp_path: Path) -> None:
        data = write_images(tmp_path / "data", count=3)
        outcome = run(finite, "--data", data, "--images-per-stage", 8)
        assert (outcome.code, outcome.err) == (0, "")
        assert "3 images to train on, 0 held out" in outcome.out
        assert not any("sliced_wasserstein_distance" in record for record in records(finite))
