"""The example of WGAN-GP: it leaves what it promises, tells its losses truly, goes on after a stop."""

import contextlib
import dataclasses
import io
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

from ganblocks import cli
from ganblocks.cli.trained_generator import TrainedGenerator
from ganblocks.errors import SmallSampleWarning
from ganblocks.training import ProgressBar, Trainer
from ganblocks.visualization import image_grid
from tolerances import for_dtype

SMALL = ["--device", "cpu", "--threads", "1", "--resolution", "16", "--base-channels", "2", "--latent-dim", "4"]

example = load("examples/wgan_gp_brain_mri.py")


def run(out: Path, *arguments: object, **environment: str) -> Outcome:
    """Call the example as its command line would, with tiny networks."""
    # So few scans are few for a Frechet distance, which each run that measures one says.
    return call(example, *SMALL, "--out", out, *arguments, environment=environment, expected=SmallSampleWarning)


PICTURES = ("SampleSheets", "NumberedImages", "RealBesideFake", "NearestSheet", "TensorBoard", "Summary", "Report")


@pytest.fixture
def bare(monkeypatch: pytest.MonkeyPatch) -> None:
    """Trains without pictures, events and scores, which cost more than tiny networks do."""
    for name in (*PICTURES, "scores"):
        monkeypatch.setattr(example, name, plain_callback)


def records(run_dir: Path) -> list[dict[str, float]]:
    lines = [json.loads(line) for line in (run_dir / "log.jsonl").read_text().splitlines()]
    return [record for record in lines if "event" not in record]


def steps_and_means(run_dir: Path) -> tuple[list[dict[str, float]], list[dict[str, float]]]:
    lines = records(run_dir)
    return [line for line in lines if "penalty" in line], [line for line in lines if "c_loss" in line]


def final_weights(run_dir: Path) -> dict[str, Tensor]:
    """Networks and moments of the newest checkpoint, without the global random state, which no draw uses."""
    tensors = load_file(max((run_dir / "checkpoints").iterdir()) / "tensors.safetensors")
    return {name: value for name, value in tensors.items() if not name.startswith("random/")}


def equal(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def write_scans(folder: Path) -> Path:
    """Six files of "no", all different, and of "yes" five, two of which show what two others do."""
    pixels = np.random.default_rng(0).integers(0, 256, (10, 20, 40), dtype=np.uint8)  # twice as wide as high
    names = [f"no/{index}.png" for index in range(6)] + ["yes/a.png", "yes/c.png", "yes/e.png"]
    for name, image in zip(names, pixels, strict=False):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(folder / name)
    (folder / "yes" / "b.png").write_bytes((folder / "yes" / "a.png").read_bytes())  # the same file
    Image.open(folder / "yes" / "c.png").convert("RGB").save(folder / "yes" / "d.bmp")  # another file, the same pixels
    return folder


def write_zip(path: Path, folder: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w") as archive:
        for file in sorted(folder.rglob("*.*")):
            archive.write(file, f"wrapped/{file.relative_to(folder)}")
    return path


def parsed(*arguments: object) -> tuple[object, object]:
    options = example.parse([str(argument) for argument in arguments])
    return example.build(options)


@pytest.fixture(scope="module")
def smoke(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Outcome]:
    """A whole trial run, with all that it draws and measures."""
    out = tmp_path_factory.mktemp("runs") / "smoke"
    return out, run(out, "--smoke", "--n-critic", 2)


class TestSmoke:
    def test_it_finishes_without_a_warning(self, smoke: tuple[Path, Outcome]) -> None:
        _, outcome = smoke
        assert (outcome.code, outcome.err, outcome.warnings) == (0, "", [])
        assert "No files: using 200 drawn scans, with a bright spot." in outcome.out
        assert "180 images to train on, 20 held out" in outcome.out
        assert outcome.out.splitlines()[-1].startswith(
            "320 images in"
        )  # 20 updates, 2 of the critic each, batches of 8
        assert "finished" in outcome.out

    def test_it_leaves_what_it_promises(self, smoke: tuple[Path, Outcome]) -> None:
        out, _ = smoke
        promised = {"samples", "progress.gif", "progress.webp", "generated", "real_beside_fake.png", "nearest.png"}
        promised |= {"curves.png", "report.html", "log.jsonl", "tensorboard", "checkpoints", "config.json"}
        assert {path.name for path in out.iterdir()} == promised | {".lock"}
        for name in ("progress.gif", "real_beside_fake.png", "nearest.png", "curves.png"):
            with Image.open(out / name) as image:
                image.load()
        with Image.open(out / "progress.gif") as image:
            assert getattr(image, "n_frames", 1) == 20
        assert [int(path.name) for path in sorted((out / "checkpoints").iterdir())] == [304, 320]

    def test_108_pictures_of_the_last_six_epochs_all_different(self, smoke: tuple[Path, Outcome]) -> None:
        folder = smoke[0] / "generated"
        wanted = {f"epoch_{n}_image_{k}.png" for n in range(15, 21) for k in range(1, 19)}
        assert {path.name for path in folder.iterdir()} == wanted
        assert len({path.read_bytes() for path in folder.iterdir()}) == 108
        with Image.open(folder / "epoch_15_image_1.png") as image:
            assert (image.size, image.mode) == ((16, 16), "RGB")

    def test_each_epoch_has_latents_of_its_own(self, smoke: tuple[Path, Outcome]) -> None:
        out, _ = smoke
        for epoch, checkpoint in ((19, "000000000304"), (20, "000000000320")):
            generator = TrainedGenerator(out / "checkpoints" / checkpoint, torch.device("cpu"))
            (images,) = generator.pictures(18, seed=epoch)
            for number, image in enumerate(images, start=1):
                with Image.open(out / "generated" / f"epoch_{epoch}_image_{number}.png") as picture:
                    assert np.array_equal(np.asarray(picture), image.permute(1, 2, 0).numpy())

    def test_a_sheet_an_epoch(self, smoke: tuple[Path, Outcome]) -> None:
        names = {path.name for path in (smoke[0] / "samples").iterdir()}
        assert names == {f"{seen:012d}.png" for seen in range(16, 321, 16)}

    def test_the_log_has_a_line_for_each_update_of_the_generator(self, smoke: tuple[Path, Outcome]) -> None:
        steps, _ = steps_and_means(smoke[0])
        assert [line["images_seen"] for line in steps] == list(range(16, 321, 16))
        losses = {"discriminator_loss", "real_score", "fake_score", "penalty", "generator_loss"}
        assert all(losses <= line.keys() for line in steps)

    def test_the_table_is_the_log(self, smoke: tuple[Path, Outcome]) -> None:
        out, outcome = smoke
        table = [line for line in outcome.out.splitlines() if line.startswith("epoch ")]
        _, means = steps_and_means(out)
        assert [line["epoch"] for line in means] == list(range(1, 21))
        names = ("c_loss", "c_wass_loss", "c_gp", "g_loss")
        for epoch, (row, line) in enumerate(zip(table, means, strict=True), start=1):
            assert row == f"epoch {epoch}/20  " + "  ".join(f"{name} {line[name]:.4f}" for name in names)

    def test_memorisation_is_measured_against_the_training_images(self, smoke: tuple[Path, Outcome]) -> None:
        lines = (smoke[0] / "log.jsonl").read_text().splitlines()
        (event,) = (record for record in map(json.loads, lines) if record.get("event") == "scores")
        found = {score["name"]: score for score in event["scores"]}
        kinds = {"frechet_distance", "ms_ssim", "swd_16", "precision", "recall", "density", "coverage"}
        assert found.keys() == kinds | {"memorisation_pixels", "memorisation_features"}
        for name in ("memorisation_pixels", "memorisation_features"):
            assert found[name]["counts"] == {"train": 180, "held_out": 20, "fake": 180}

    def test_the_command_line_tool_draws_the_same_sheet_from_the_checkpoint(
        self, smoke: tuple[Path, Outcome], tmp_path: Path
    ) -> None:
        out, _ = smoke
        with contextlib.redirect_stdout(io.StringIO()):
            target = tmp_path / "images"
            target.mkdir()
            code = cli.main(["sample", "--run", str(out), "--count", "16", "--seed", "1234", "--out", str(target)])
        assert code == 0
        images = [np.asarray(Image.open(path)) for path in sorted(target.glob("*.png"))]
        assert len(images) == 16
        pixels = torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2)
        with Image.open(out / "samples" / "000000000320.png") as sheet:
            assert np.array_equal(np.asarray(sheet), np.asarray(image_grid(pixels, columns=4, scale=4)))

    @pytest.mark.usefixtures("bare")
    def test_the_finished_run_only_says_so_again(self, smoke: tuple[Path, Outcome]) -> None:
        out, first = smoke
        before = final_weights(out)
        again = run(out, "--smoke", "--n-critic", 2)
        assert (again.code, again.err) == (0, "")
        assert re.sub(r"in \d+ s", "", again.out.splitlines()[-1]) == re.sub(
            r"in \d+ s", "", first.out.splitlines()[-1]
        )
        assert equal(final_weights(out), before)


SHORT = ("--generator-steps", 8, "--epochs-shown", 4, "--batch-size", 4, "--n-critic", 2)


@pytest.mark.usefixtures("bare")
class TestMeans:
    @pytest.mark.parametrize(
        "arguments", [(), ("--preset", "document"), ("--preset", "document", "--no-reuse-real-batch")]
    )
    def test_each_epoch_tells_the_means_of_its_lines(self, arguments: tuple[object, ...], tmp_path: Path) -> None:
        outcome = run(tmp_path / "run", *SHORT, *arguments)
        assert (outcome.code, outcome.err) == (0, "")
        steps, means = steps_and_means(tmp_path / "run")
        assert [line["epoch"] for line in means] == [1, 2, 3, 4]
        assert sum("generator_loss" in line for line in steps) == 8
        begin = 0.0
        for line in means:
            part = [step for step in steps if begin < step["images_seen"] <= line["images_seen"]]
            updates = [step["generator_loss"] for step in part if "generator_loss" in step]
            assert len(updates) == 2
            expected = {
                "c_loss": np.mean([step["discriminator_loss"] for step in part]),
                "c_wass_loss": np.mean([step["fake_score"] - step["real_score"] for step in part]),
                "c_gp": np.mean([step["penalty"] for step in part]),
                "g_loss": np.mean(updates),
            }
            assert {name: line[name] for name in expected} == pytest.approx(expected, **_approx(torch.float64))
            assert line["c_loss"] == pytest.approx(line["c_wass_loss"] + 10 * line["c_gp"], **_approx(torch.float32))
            begin = line["images_seen"]

    def test_more_epochs_than_updates_are_refused(self, tmp_path: Path) -> None:
        outcome = run(tmp_path / "run", *SHORT, "--epochs-shown", 9)
        assert outcome.code == 2
        assert "--epochs-shown is 9, but must be at most --generator-steps, 8" in outcome.err


def _approx(dtype: torch.dtype) -> dict[str, float]:
    tolerance = for_dtype(dtype)
    return {"rel": tolerance["rtol"], "abs": tolerance["atol"]}


class TestSettings:
    def test_the_papers_way_is_the_default(self) -> None:
        config, recipe = parsed("--device", "cpu", "--data", "scans")
        assert dataclasses.asdict(config) == dataclasses.asdict(example.WGANGPConfig())  # 128 px, no dropout
        wanted = example.gan_recipes.gulrajani2017(generator_steps=500, batch_size=8)
        assert recipe == wanted
        assert (recipe.mixing, recipe.reuse_real_batch, recipe.n_critic) == ("uniform", False, 5)

    def test_a_gpu_has_larger_batches_and_more_updates(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
        _, recipe = parsed("--device", "cuda", "--data", "scans")
        assert (recipe.generator_steps, recipe.batch_size) == (8000, 64)

    def test_the_course_texts_is_a_preset(self) -> None:
        config, recipe = parsed("--device", "cpu", "--data", "scans", "--preset", "document")
        assert config == example.WGANGPConfig.document(128)
        assert recipe == example.gan_recipes.wgan_gp_document()
        assert (config.dropout, recipe.generator_steps, recipe.batch_size) == (0.3, 8000, 128)
        assert (recipe.mixing, recipe.reuse_real_batch) == ("normal", True)

    def test_each_of_its_differences_can_be_taken_back_or_alone(self) -> None:
        back = ("--dropout", 0, "--no-reuse-real-batch", "--mixing", "uniform", "--learning-rate", 1e-4)
        config, recipe = parsed("--device", "cpu", "--preset", "document", *back)
        assert (config.dropout, config.norm_momentum) == (0, 0.2)
        assert (recipe.reuse_real_batch, recipe.mixing, recipe.learning_rate) == (False, "uniform", 1e-4)
        assert recipe.penalty_weight == 10
        config, recipe = parsed("--device", "cpu", "--dropout", 0.3, "--reuse-real-batch", "--mixing", "normal")
        assert (config.dropout, config.norm_momentum) == (0.3, 0.1)
        assert (recipe.reuse_real_batch, recipe.mixing, recipe.n_critic) == (True, "normal", 5)
        assert parsed("--device", "cpu", "--penalty-weight", 50)[1].penalty_weight == 50

    @pytest.mark.usefixtures("bare")
    def test_they_are_written_down(self, tmp_path: Path) -> None:
        data = write_scans(tmp_path / "data")
        arguments = ("--data", data, "--label", "no", "--preset", "document", "--total-images", 4)
        assert run(tmp_path / "run", *arguments, "--held-out", 2, "--seed", 3).code == 0
        settings = json.loads((tmp_path / "run" / "config.json").read_text())
        assert (settings["label"], settings["held_out"], settings["seed"]) == ("no", 2, 3)
        assert (settings["config"]["dropout"], settings["recipe"]["mixing"]) == (0.3, "normal")


class TestData:
    def test_duplicates_are_left_out_and_the_order_stays(self, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
        data = write_scans(tmp_path / "data")
        images, _ = example.open_data(example.parse([*SMALL, "--data", str(data)]))
        assert "5 images of the class 'yes', 2 duplicates left out" in capsys.readouterr().out
        stretched = []
        for name in ("a", "c", "e"):
            with Image.open(data / "yes" / f"{name}.png") as image:  # the whole image, not its middle
                grey = np.asarray(image.resize((16, 16), Image.Resampling.LANCZOS))
            stretched.append(np.stack([grey] * 3))
        assert np.array_equal(images.numpy(), np.stack(stretched))

    @pytest.mark.parametrize("kind", ["folder", "zip", "zip in a folder"])
    def test_a_folder_and_a_zip_are_the_same(
        self, kind: str, tmp_path: Path, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        data = write_scans(tmp_path / "made")
        if kind != "folder":
            data = write_zip(tmp_path / "root" / "brain_mri" / "scans.zip", data)
        images, _ = example.open_data(example.parse([*SMALL, "--label", "no", "--data", str(tmp_path / "made")]))
        if kind == "zip in a folder":  # which the variable names
            monkeypatch.setenv("GANBLOCKS_DATA", str(tmp_path / "root"))
            options = example.parse([*SMALL, "--label", "no"])
        else:
            options = example.parse([*SMALL, "--label", "no", "--data", str(data)])
        capsys.readouterr()
        again, _ = example.open_data(options)
        assert "6 images of the class 'no', 0 duplicates left out" in capsys.readouterr().out
        assert torch.equal(images, again)

    def test_a_trial_run_looks_at_no_files(self, tmp_path: Path) -> None:
        write_scans(tmp_path / "brain_mri")
        outcome = run(tmp_path / "run", "--smoke", "--dry-run", "--label", "no", GANBLOCKS_DATA=str(tmp_path))
        assert outcome.code == 0
        assert "No files: using 200 drawn scans, without a bright spot." in outcome.out
        assert "Nothing was trained" in outcome.out
        assert not (tmp_path / "run").exists()

    def test_the_real_scans_have_11_duplicates_without_a_tumour(
        self, real_data: Path, capsys: pytest.CaptureFixture
    ) -> None:
        if not (real_data / "brain_mri").exists():
            pytest.skip("GANBLOCKS_DATA holds no brain_mri")
        images, _ = example.open_data(example.parse([*SMALL, "--label", "no", "--data", str(real_data / "brain_mri")]))
        assert "98 images of the class 'no', 11 duplicates left out" in capsys.readouterr().out
        assert images.shape == (87, 3, 16, 16)


@pytest.mark.usefixtures("bare")
class TestStop:
    @pytest.mark.parametrize("preset", ["gulrajani2017", "document"])
    def test_a_run_stopped_within_an_epoch_goes_on_to_the_same_weights_and_means(
        self, preset: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        class Stop(ProgressBar):
            def on_step(self, trainer: Trainer, previous: int) -> None:
                if trainer.steps == 7:
                    trainer.request_stop()

        arguments = (*SHORT, "--preset", preset, "--learning-rate", 0.01)
        assert run(tmp_path / "whole", *arguments).code == 0
        with monkeypatch.context() as patch:
            patch.setattr(example, "ProgressBar", Stop)
            stopped = run(tmp_path / "parts", *arguments)
        assert "the same command goes on from here" in stopped.out
        steps, means = steps_and_means(tmp_path / "parts")
        # Within an epoch: of fresh reals it has four steps and two lines, else two of both.
        assert (len(steps), len(means)) == ((3, 1) if preset == "gulrajani2017" else (7, 3))
        assert run(tmp_path / "parts", *arguments).code == 0
        assert equal(final_weights(tmp_path / "whole"), final_weights(tmp_path / "parts"))
        assert records(tmp_path / "whole") == records(tmp_path / "parts")

    def test_a_run_cut_short_on_purpose_goes_on_to_the_same_weights(self, tmp_path: Path) -> None:
        assert run(tmp_path / "whole", *SHORT).code == 0
        assert "28 images in" in run(tmp_path / "parts", *SHORT, "--total-images", 28).out
        assert not equal(final_weights(tmp_path / "whole"), final_weights(tmp_path / "parts"))
        assert run(tmp_path / "parts", *SHORT).code == 0
        assert equal(final_weights(tmp_path / "whole"), final_weights(tmp_path / "parts"))

    def test_other_settings_need_another_directory(self, tmp_path: Path) -> None:
        assert run(tmp_path / "run", *SHORT, "--total-images", 4).code == 0
        outcome = run(tmp_path / "run", *SHORT, "--total-images", 4, "--label", "no")
        assert outcome.code == 2
        assert "RunMismatchError" in outcome.err
        assert "label" in outcome.err
        assert run(tmp_path / "run", *SHORT, "--total-images", 4, "--label", "no", "--fresh").code == 0
        assert json.loads((tmp_path / "run-2" / "config.json").read_text())["label"] == "no"


def test_without_held_out_images_memorisation_is_not_measured() -> None:
    generator = example.Generator(example.WGANGPConfig(resolution=16, base_channels=2, latent_dim=4))
    real = torch.zeros(8, 3, 16, 16, dtype=torch.uint8)
    assert "memorisation" in example.scores(real, real[:2], generator).metrics
    without = example.scores(real, real[:0], generator)
    assert "memorisation" not in without.metrics
    assert without.held_out is None
    assert "prdc" not in example.scores(real[:5], real[:0], generator).metrics  # which looks at five neighbours


def nothing(folder: Path) -> None:
    pass


def one_kind(folder: Path) -> None:
    folder.mkdir()
    Image.new("L", (9, 9)).save(folder / "scan.png")


def other_classes(folder: Path) -> None:
    for name in ("cats", "dogs"):
        (folder / name).mkdir(parents=True)
        Image.new("L", (9, 9)).save(folder / name / "1.png")


def damaged(folder: Path) -> None:
    (write_scans(folder) / "yes" / "c.png").write_text("no image")


@pytest.mark.parametrize(
    ("prepare", "arguments", "words"),
    [
        (nothing, "", "DataError: .* does not exist"),
        (one_kind, "", "DataError: .* holds images of one kind, but must hold the folders yes/ and no/"),
        (other_classes, "", "DataError: .* holds only cats, dogs, but must hold the folders yes/ and no/"),
        (damaged, "", "ImageDecodeError: .*c.png"),
        (write_scans, "--held-out 3", "ValueError: `held_out`"),
        (write_scans, "--resolution 48", "ValueError: `resolution`"),
        (write_scans, "--dropout 1", "ValueError: `dropout`"),
        (write_scans, "--label maybe", "invalid choice: 'maybe'"),
        (write_scans, "--mixing neither", "invalid choice: 'neither'"),
        (write_scans, "--penalty-weight -1", "`penalty_weight` is -1.0, but must be 0 or more"),
        (write_scans, "--n-critic 0", "--n-critic is 0, but must be at least 1"),
        (write_scans, "--epochs-shown 0", "--epochs-shown is 0, but must be at least 1"),
        (write_scans, "--device abacus", "--device is abacus"),
        (write_scans, "--smoke", "--data and --smoke are given"),
    ],
)
def test_what_is_wrong_is_told_in_one_line_and_nothing_is_begun(
    prepare: object, arguments: str, words: str, tmp_path: Path
) -> None:
    prepare(tmp_path / "data")  # type: ignore[operator]
    outcome = run(tmp_path / "run", "--data", tmp_path / "data", *arguments.split())
    assert outcome.code == 2
    line = outcome.err.strip().splitlines()[-1]
    assert re.search(words, line), line
    assert not (tmp_path / "run").exists()
