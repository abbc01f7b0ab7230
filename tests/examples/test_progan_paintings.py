"""The example of the paintings: it augments what it says, finds the pictures that are meant, and measures copying."""

import json
import re
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from example_runs import Outcome, call, load, plain_callback
from PIL import Image
from safetensors.torch import load_file
from torch import Tensor

from ganblocks.cli import main as ganblocks
from ganblocks.errors import SmallSampleWarning
from ganblocks.losses import non_saturating, wasserstein
from ganblocks.training import ProgressBar, Trainer
from tolerances import for_dtype

COMMON = ["--device", "cpu", "--threads", "1", "--workers", "1"]
SMALL = ["--resolution", "8", "--max-channels", "4", "--batch-size", "4", "--images-per-stage", "16"]
PAINTERS = {"Ada": (5, (250, 20, 20)), "Bo_Li": (4, (20, 250, 20)), "Cy": (3, (20, 20, 250))}

example = load("examples/progan_paintings.py")


def run(out: Path, *arguments: object, **environment: str) -> Outcome:
    # So few pictures are few for a Frechet distance, which each run that measures one says.
    return call(example, *COMMON, "--out", out, *arguments, environment=environment, expected=SmallSampleWarning)


@pytest.fixture
def bare(monkeypatch: pytest.MonkeyPatch) -> list[Trainer]:
    """Trains without pictures, events and scores, which cost more than tiny networks do; gives the trainers."""
    for name in ("SampleSheets", "Scores", "NearestInReport", "TensorBoard", "Summary", "Report"):
        monkeypatch.setattr(example, name, plain_callback)
    trainers: list[Trainer] = []

    class Kept(Trainer):
        def fit(self) -> object:  # type: ignore[override]
            trainers.append(self)
            return super().fit()

    monkeypatch.setattr(example, "Trainer", Kept)
    return trainers


def records(run_dir: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in (run_dir / "log.jsonl").read_text().splitlines()]


def final_weights(run_dir: Path) -> dict[str, Tensor]:
    """All of the newest checkpoint, without the global random state, which no draw uses."""
    tensors = load_file(max((run_dir / "checkpoints").iterdir()) / "tensors.safetensors")
    return {name: value for name, value in tensors.items() if not name.startswith("random/")}


def equal(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def write_paintings(folder: Path, names: tuple[str, ...] = tuple(PAINTERS)) -> Path:
    """A sub-folder for each painter, whose every picture has the painter's colour and a little noise."""
    draws = np.random.default_rng(0)
    for name in names:
        count, colour = PAINTERS[name]
        (folder / name).mkdir(parents=True)
        for index in range(count):
            pixels = np.array(colour) + draws.integers(-20, 6, (8, 8, 3))
            Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(folder / name / f"{name}_{index}.png")
    return folder


def write_zip(path: Path, folder: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w") as archive:
        for file in sorted(folder.rglob("*.png")):
            archive.write(file, file.relative_to(folder))
    return path


@pytest.fixture(scope="module")
def smoke(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Outcome]:
    folder = tmp_path_factory.mktemp("paintings") / "run"
    return folder, run(folder, "--smoke")


class TestTrial:
    def test_it_leaves_what_it_promises(self, smoke: tuple[Path, Outcome]) -> None:
        folder, outcome = smoke
        assert (outcome.code, outcome.err, outcome.warnings) == (0, "", [])
        assert "No files: using 500 drawn shapes." in outcome.out
        assert "450 images to train on, 50 held out" in outcome.out
        assert "288 images in" in outcome.out
        promised = {"samples", "progress.gif", "nearest.png", "figures", "curves.png", "report.html", "log.jsonl"}
        assert promised | {"tensorboard", "checkpoints", "config.json", "cache"} <= {p.name for p in folder.iterdir()}

    def test_copying_is_measured_against_held_out_pictures(self, smoke: tuple[Path, Outcome]) -> None:
        (event,) = (record for record in records(smoke[0]) if record.get("event") == "scores")
        found = {score["name"]: score for score in event["scores"]}  # type: ignore[attr-defined]
        assert {"frechet_distance", "precision", "recall"} < found.keys()
        for name in ("memorisation_pixels", "memorisation_features"):
            assert found[name]["counts"] == {"train": 450, "held_out": 50, "fake": 450}
        report = (smoke[0] / "report.html").read_text()
        assert all(score["fingerprint"] in report for score in found.values())

    def test_the_report_shows_the_nearest_pictures(self, smoke: tuple[Path, Outcome]) -> None:
        folder, _ = smoke
        assert (folder / "figures" / "nearest.png").read_bytes() == (folder / "nearest.png").read_bytes()
        assert "<figcaption>nearest</figcaption>" in (folder / "report.html").read_text()

    def test_its_checkpoint_is_sampled_by_the_command(
        self, smoke: tuple[Path, Outcome], tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert ganblocks(["sample", "--run", str(smoke[0]), "--count", "4", "--out", str(tmp_path / "four.png")]) == 0
        assert "4 images of 16x16 px" in capsys.readouterr().out

    def test_settings_are_written_down(self, smoke: tuple[Path, Outcome]) -> None:
        settings = json.loads((smoke[0] / "config.json").read_text())
        assert settings["augment"] == ["color", "translation", "cutout"]
        assert (settings["adaptive"], settings["painters"], settings["held_out"]) == (False, None, 50)
        assert settings["stage_images"] == [96, 96, 96]


class TestAugmentation:
    def test_every_image_is_augmented_unless_told_otherwise(self, bare: list[Trainer], tmp_path: Path) -> None:
        data = write_paintings(tmp_path / "data")
        for name, arguments in {"default": (), "color": ("--augment", "color"), "none": ("--augment", "none")}.items():
            outcome = run(tmp_path / name, *SMALL, "--data", data, *arguments)
            assert (outcome.code, outcome.err) == (0, "")
        steps = [trainer.step for trainer in bare]
        assert [step.augment and step.augment.policy for step in steps] == [  # type: ignore[attr-defined]
            ("color", "translation", "cutout"), ("color",), None,
        ]  # fmt: skip
        for step in steps[:2]:
            assert step.augment.state_dict()["probability"] == 1  # type: ignore[attr-defined]
            assert step.augment.ramp_images is None  # type: ignore[attr-defined]
        assert all(step.loss is wasserstein for step in steps)  # type: ignore[attr-defined]
        one, other = (
            {k: v for k, v in final_weights(tmp_path / n).items() if "generator/" in k} for n in ("color", "none")
        )
        assert one
        assert not equal(one, other)

    def test_adaptive_means_scores_whose_sign_says_something(self, bare: list[Trainer], tmp_path: Path) -> None:
        outcome = run(tmp_path / "run", *SMALL, "--data", write_paintings(tmp_path / "data"), "--adaptive")
        assert (outcome.code, outcome.err) == (0, "")
        step = bare[0].step
        assert step.loss is non_saturating  # type: ignore[attr-defined]
        assert (step.penalty_weight, step.drift_weight) == (5, 0)  # type: ignore[attr-defined]
        slopes, real = torch.arange(12.0).reshape(3, 2, 2), torch.rand(2, 3, 2, 2)
        penalty = step.penalty(lambda x: (x * slopes).sum((1, 2, 3)), real, None, None)  # type: ignore[attr-defined]
        torch.testing.assert_close(penalty, torch.tensor(506.0), **for_dtype(torch.float32))  # 1 + 4 + ... + 121
        assert step.augment.ramp_images == 6  # type: ignore[attr-defined]  # a fifth of 32
        measured = [record for record in records(tmp_path / "run") if "overfitting" in record]
        assert measured
        assert all(0 <= record["augment_probability"] <= 1 for record in measured)  # type: ignore[operator]

    @pytest.mark.parametrize("arguments", [(), ("--adaptive",)])
    def test_a_stopped_run_ends_with_the_same_bits(
        self, arguments: tuple[str, ...], bare: list[Trainer], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        class Stop(ProgressBar):
            def on_step(self, trainer: Trainer, previous: int) -> None:
                if trainer.images_seen == 20:
                    trainer.request_stop()

        command = [*SMALL, "--data", write_paintings(tmp_path / "data"), *arguments]
        assert run(tmp_path / "whole", *command).code == 0
        with monkeypatch.context() as patch:
            patch.setattr(example, "ProgressBar", Stop)
            stopped = run(tmp_path / "parts", *command)
        assert "20 images in" in stopped.out
        assert "the same command goes on from here" in stopped.out
        assert run(tmp_path / "parts", *command).code == 0
        assert equal(final_weights(tmp_path / "whole"), final_weights(tmp_path / "parts"))
        other = run(tmp_path / "parts", *command, "--augment", "cutout")
        assert other.code == 2
        assert "augment" in other.err
        assert len(bare) == 3


class TestData:
    def test_only_the_painters_named_are_trained_on_and_held_out(self, tmp_path: Path) -> None:
        data = write_paintings(tmp_path / "data")
        options = example.parse([*COMMON, "--data", str(data), "--painters", "Cy", "Ada"])
        source, wanted = example.open_data(options)
        colours = {name: np.array(colour) for name, (_, colour) in PAINTERS.items()}
        seen = [
            min(colours, key=lambda name: np.abs(colours[name] - source.read(index, 4).mean(axis=(1, 2))).sum())
            for index in wanted
        ]
        assert sorted(seen) == ["Ada"] * 5 + ["Cy"] * 3
        outcome = run(tmp_path / "run", *SMALL, "--dry-run", "--data", data, "--painters", "Bo_Li", "--held-out", 1)
        assert "3 images to train on, 1 held out" in outcome.out
        assert "Nothing was trained" in outcome.out

    @pytest.mark.parametrize("largest", ["a", "b", "c"])
    def test_of_several_archives_the_one_with_most_pictures_is_read(self, largest: str, tmp_path: Path) -> None:
        for name in ("a", "b", "c"):
            pictures = write_paintings(tmp_path / name, tuple(PAINTERS) if name == largest else ("Ada",))
            write_zip(tmp_path / "best_artworks" / f"{name}.zip", pictures)
        (tmp_path / "best_artworks" / "artists.csv").write_text("id,name\n")
        outcome = run(tmp_path / "run", *SMALL, "--dry-run", GANBLOCKS_DATA=str(tmp_path))
        assert (outcome.code, outcome.err) == (0, "")
        assert "3 archives in" in outcome.out
        assert f"using {largest}.zip" in outcome.out
        assert "11 images to train on, 1 held out" in outcome.out

    def test_a_folder_of_pictures_is_read_itself(self, tmp_path: Path) -> None:
        data = write_paintings(tmp_path / "data")
        write_zip(data / "more.zip", data)
        source, wanted = example.open_data(example.parse([*COMMON, "--data", str(data)]))
        assert source.source == data
        assert wanted.tolist() == list(range(12))

    def test_a_trial_looks_at_no_files(self, tmp_path: Path) -> None:
        write_paintings(tmp_path / "best_artworks")
        outcome = run(tmp_path / "run", "--smoke", "--dry-run", GANBLOCKS_DATA=str(tmp_path))
        assert "No files: using 500 drawn shapes." in outcome.out
        assert not (tmp_path / "run" / "config.json").exists()

    def test_the_real_paintings_are_those_of_42_painters(self, real_data: Path) -> None:
        if not (real_data / "best_artworks").exists():
            pytest.skip("GANBLOCKS_DATA holds no best_artworks")
        source, wanted = example.open_data(example.parse([*COMMON, "--data", str(real_data / "best_artworks")]))
        assert (len(wanted), len(source.classes)) == (6967, 42)


class TestDefaults:
    @pytest.mark.parametrize(
        ("device", "width", "batch", "total"), [("cpu", 64, 16, 230_000), ("cuda", 256, None, 2_000_000)]
    )
    def test_they_depend_on_the_device(
        self, device: str, width: int, batch: int | None, total: int, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
        options = example.parse(["--data", "paintings", "--device", device])
        assert (options.resolution, options.max_channels, options.batch_size) == (64, width, batch)
        recipe, images = example.build_recipe(options, 5)
        assert sum(images) == total
        assert recipe.ema_half_life_images == min(11_000, max(images) / 16)
        assert recipe.penalty_weight == 10

    def test_the_last_number_of_images_repeats(self) -> None:
        options = example.parse([*COMMON, "--images-per-stage", "10", "20"])
        assert example.build_recipe(options, 4)[1] == [10, 20, 20, 20]
        assert example.build_recipe(options, 1)[1] == [10]

    def test_very_few_pictures_train_without_held_out_ones(self, tmp_path: Path) -> None:
        data = write_paintings(tmp_path / "data", ("Ada",))
        outcome = run(tmp_path / "run", *SMALL, "--data", data, "--total-images", 4)
        assert (outcome.code, outcome.err) == (0, "")
        assert "5 images to train on, 0 held out" in outcome.out
        (event,) = (record for record in records(tmp_path / "run") if record.get("event") == "scores")
        assert [score["name"] for score in event["scores"]] == ["frechet_distance"]  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ("--painters Ada Eve", "DataError: no sub-folder is called Eve, only Ada, Bo_Li, Cy"),
        ("--augment blur", "ValueError: .*blur"),
        ("--augment none --adaptive", "--adaptive is given, but --augment is none"),
        ("--held-out 12", "ValueError: `held_out`"),
        ("--resolution 12", "ValueError: `resolution`"),
        ("--images-per-stage 8 0", "--images-per-stage is 0, but must be at least 1"),
        ("--batch-size 0", "--batch-size is 0, but must be at least 1"),
        ("--device abacus", "invalid choice: 'abacus'"),
        ("--smoke", "--data and --smoke are given"),
        ("--data nowhere", "DataError: .* does not exist"),
    ],
)
def test_what_is_wrong_is_told_in_one_line_and_nothing_is_begun(arguments: str, words: str, tmp_path: Path) -> None:
    data = write_paintings(tmp_path / "data")
    outcome = run(tmp_path / "run", "--data", data, *arguments.split())
    assert outcome.code == 2
    line = outcome.err.strip().splitlines()[-1]
    assert re.search(words, line), line
    assert not (tmp_path / "run").exists()


def test_a_folder_without_pictures_is_refused(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    outcome = run(tmp_path / "run", "--data", tmp_path / "empty")
    assert outcome.code == 2
    assert outcome.err.startswith("EmptyDatasetError")
