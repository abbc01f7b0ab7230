"""The command line: what it prints and writes, what it leaves alone, and one line for everything that is wrong."""

import dataclasses
import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors import safe_open
from torch import Tensor

from ganblocks import __version__, cli
from ganblocks.functional import to_uint8
from ganblocks.models.progan import Discriminator, Generator, ProGANConfig
from ganblocks.models.registry import generator_from_metadata
from ganblocks.training import CheckpointStore, recipes
from ganblocks.training.checkpoint_format import encode_checkpoint
from ganblocks.visualization import image_grid

ROOT = Path(__file__).resolve().parents[1]
CONFIG = ProGANConfig.karras2018(16, latent_dim=5, base_channels=32, max_channels=4)
METADATA = {"model": "progan", "phase": {"resolution": 8, "alpha": 0.5}, "truncation": None}


@dataclasses.dataclass(frozen=True)
class Outcome:
    code: int
    out: str
    err: str


@pytest.fixture
def call(capsys: pytest.CaptureFixture[str]) -> Callable[..., Outcome]:
    def run(*arguments: object) -> Outcome:
        try:
            code = cli.main([str(argument) for argument in arguments])
        except SystemExit as error:  # argparse
            code = int(error.code or 0)
        captured = capsys.readouterr()
        return Outcome(code, captured.out, captured.err)

    return run


def networks(config: ProGANConfig, **changes: Any) -> dict[str, Any]:
    """The state of a step whose three networks all differ."""
    torch.manual_seed(1)
    recipe = recipes.karras2018(**changes)
    step = recipe.build_step(Generator(config), Discriminator(config), latent_dim=config.latent_dim)
    with torch.no_grad():
        for parameter in step.generator.parameters():
            parameter.add_(0.1)
    return step.state_dict()


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run directory with two checkpoints, and with what a crash leaves, which the owner's store would clear."""
    directory = tmp_path_factory.mktemp("original") / "run"
    store = CheckpointStore(directory / "checkpoints")
    store.save({"step": networks(CONFIG)}, 1000, {"config": CONFIG.to_dict(), **METADATA})
    store.save({"step": networks(CONFIG)}, 2000, {"config": CONFIG.to_dict(), **METADATA})
    (directory / "checkpoints" / ".tmp-1234567-000000003000").mkdir()
    return directory


@pytest.fixture
def run(original: Path, tmp_path: Path) -> Path:
    """A copy of it for each test."""
    return Path(shutil.copytree(original, tmp_path / "run"))


def newest(run: Path) -> Path:
    return run / "checkpoints" / "000000002000"


def replace_newest(run: Path, state: dict[str, Any], metadata: dict[str, Any]) -> None:
    for name, content in encode_checkpoint(state, 2000, metadata).items():
        (newest(run) / name).write_bytes(content)


def damage(checkpoint: Path, name: str = "tensors.safetensors") -> None:
    content = bytearray((checkpoint / name).read_bytes())
    content[len(content) // 2] ^= 1
    (checkpoint / name).write_bytes(content)


def snapshot(folder: Path) -> dict[str, tuple[int, bytes]]:
    return {
        str(path.relative_to(folder)): (path.stat().st_mtime_ns, path.read_bytes() if path.is_file() else b"")
        for path in [folder, *folder.rglob("*")]
    }


def average(run: Path) -> Generator:
    """The averaged generator of the newest checkpoint, by the long way."""
    checkpoint = CheckpointStore(run / "checkpoints").load(newest(run))
    generator = Generator(ProGANConfig.from_dict(checkpoint.metadata["config"]))
    generator.load_state_dict(checkpoint.state["step"]["ema"]["module"])
    return generator


def pixels(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        return np.asarray(image)


def tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    with safe_open(path, "pt") as file:
        return {name: file.get_tensor(name) for name in file.keys()}, file.metadata()  # noqa: SIM118


def equal(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


class TestCheckpoints:
    def test_list_tells_numbers_sizes_writers_and_state(self, run: Path, call: Callable[..., Outcome]) -> None:
        outcome = call("checkpoint", "list", run)
        assert (outcome.code, outcome.err) == (0, "")
        header, *lines = outcome.out.splitlines()
        assert header.split() == ["checkpoint", "images", "size", "written", "by", "state"]
        writer = f"ganblocks {__version__}, torch {torch.__version__}"
        size = sum(file.stat().st_size for file in newest(run).iterdir())
        assert [re.split(" {2,}", line) for line in lines] == [
            ["000000001000", "1,000", f"{size / 1000:.3g} kB", writer, "valid"],
            ["000000002000", "2,000", f"{size / 1000:.3g} kB", writer, "valid"],
        ]
        assert {line.index("ganblocks") for line in lines} == {header.index("written by")}
        entries = json.loads(call("checkpoint", "list", run, "--json").out)
        assert entries[1] == {
            "checkpoint": "000000002000",
            "images_seen": 2000,
            "ganblocks": __version__,
            "torch": torch.__version__,
            "bytes": size,
            "problem": None,
        }

    @pytest.mark.parametrize("command", ["list", "verify"])
    @pytest.mark.parametrize("name", ["tensors.safetensors", "state.json", "manifest.json"])
    def test_one_changed_bit_is_found_and_only_where_it_is(
        self, name: str, command: str, run: Path, call: Callable[..., Outcome]
    ) -> None:
        damage(newest(run), name)
        outcome = call("checkpoint", command, run)
        assert (outcome.code, outcome.err) == (1, "")
        first, last = outcome.out.splitlines()[-2:]
        assert first.startswith("000000001000 ")
        assert first.endswith("  valid")
        assert last.startswith("000000002000 ")
        assert name in last
        problems = [entry["problem"] for entry in json.loads(call("checkpoint", command, run, "--json").out)]
        assert problems[0] is None
        assert name in problems[1]
        assert call("checkpoint", command, run / "checkpoints" / "000000001000").code == 0
        assert call("checkpoint", command, newest(run)).code == 1

    def test_a_link_a_missing_file_and_a_newer_format_are_told(self, run: Path, call: Callable[..., Outcome]) -> None:
        folder = run / "checkpoints"
        os.symlink(newest(run), folder / "000000003000")
        (folder / "000000004000").mkdir()
        (folder / "000000005000").write_text("a file")
        outcome = call("checkpoint", "verify", run)
        assert outcome.code == 1
        problems = dict(line.split("  ", 1) for line in outcome.out.splitlines())
        assert problems["000000002000"] == "valid"
        assert "symbolic link" in problems["000000003000"]
        assert "manifest.json" in problems["000000004000"]
        assert "cannot be read" in problems["000000005000"]
        listed = call("checkpoint", "list", run)
        assert listed.code == 1
        assert len(listed.out.splitlines()) == 6

    def test_one_that_training_deletes_meanwhile_is_no_damage(
        self, run: Path, call: Callable[..., Outcome], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        gone = run / "checkpoints" / "000000001000"
        found = cli.find_checkpoints(run)
        gone.rename(run / "elsewhere")
        monkeypatch.setattr(cli, "find_checkpoints", lambda path: found)
        assert call("checkpoint", "verify", run) == Outcome(0, "000000002000  valid\n", "")

    def test_nothing_in_a_file_reaches_the_terminal_as_a_command(
        self, run: Path, call: Callable[..., Outcome], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("ganblocks.training.checkpoint_format.__version__", "1.0\x1b[2J\nfake line")
        replace_newest(run, {}, {})
        out = call("checkpoint", "list", run).out
        assert "\x1b" not in out
        assert "ganblocks 1.0\\x1b[2J fake line, torch" in out
        assert len(out.splitlines()) == 3

    def test_no_command_changes_the_run(
        self, run: Path, tmp_path: Path, call: Callable[..., Outcome], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        damage(newest(run))
        before = snapshot(run)
        assert call("checkpoint", "list", run).code == 1
        assert call("checkpoint", "verify", run).code == 1
        assert call("checkpoint", "export", run, "--out", tmp_path / "w.safetensors").code == 0
        assert call("sample", "--run", run, "--count", 1, "--out", tmp_path / "s.png").code == 0
        assert snapshot(run) == before

    @pytest.mark.parametrize(
        "command",
        [
            ("checkpoint", "list"),
            ("checkpoint", "verify"),
            ("checkpoint", "export", "--out", "w.safetensors"),
            ("sample", "--count", "1", "--out", "s.png", "--run"),
        ],
    )
    def test_a_place_without_checkpoints_is_one_line(
        self, command: tuple[str, ...], tmp_path: Path, call: Callable[..., Outcome], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir(tmp_path)
        (tmp_path / "empty").mkdir()
        for name, words in (("missing", "does not exist"), ("empty", "holds no checkpoint")):
            path = tmp_path / name
            assert call(*command, path) == Outcome(2, "", f"CheckpointError: {path} {words}\n")
        assert [path.name for path in tmp_path.rglob("*")] == ["empty"]

    @pytest.mark.parametrize(
        "command", [("checkpoint", "export", "--out", "w.safetensors"), ("sample", "--count", 1, "--out", "o", "--run")]
    )
    def test_damage_is_gone_round_and_told_and_when_all_is_damaged_nothing_is_written(
        self, command: tuple[str, ...], run: Path, call: Callable[..., Outcome], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir(run.parent)
        damage(newest(run))
        outcome = call(*command, run)
        assert outcome.code == 0
        assert re.fullmatch(r"warning: .*000000002000.*going back to .*000000001000\n", outcome.err)
        assert "1,000 images" in outcome.out
        damage(run / "checkpoints" / "000000001000")
        outcome = call(*command, run, "--force")
        assert (outcome.code, outcome.out) == (2, "")
        assert outcome.err.startswith("CheckpointCorruptError: all 2 checkpoints")
        assert outcome.err.count("\n") == 1


class TestExport:
    @pytest.mark.parametrize(("part", "model"), [(None, Generator), ("generator", Generator), ("discriminator", None)])
    def test_the_file_holds_weights_and_how_to_build_their_network(
        self, part: str | None, model: type | None, run: Path, tmp_path: Path, call: Callable[..., Outcome]
    ) -> None:
        out = tmp_path / "w.safetensors"
        outcome = call("checkpoint", "export", run, "--out", out, *(["--part", part] if part else []))
        assert (outcome.code, outcome.err) == (0, "")
        step = CheckpointStore(run / "checkpoints").load(newest(run)).state["step"]
        weights, about = tensors(out)
        assert equal(weights, step["ema"]["module"] if part is None else step[part])
        assert about["part"] == (part or "ema")
        assert (about["format"], about["model"], about["images_seen"]) == ("pt", "progan", "2000")
        assert json.loads(about["phase"]) == METADATA["phase"]
        if model is not None:
            again = generator_from_metadata({"model": about["model"], "config": json.loads(about["config"])})
            again.load_state_dict(weights)
            assert again.config == CONFIG

    def test_without_an_average_the_generator_is_taken(self, run: Path, call: Callable[..., Outcome]) -> None:
        step = {**networks(CONFIG), "ema": None}
        replace_newest(run, {"step": step}, {})
        out = run.parent / "w.safetensors"
        assert call("checkpoint", "export", run, "--out", out).code == 0
        assert equal(tensors(out)[0], step["generator"])
        outcome = call("checkpoint", "export", run, "--out", out, "--force", "--part", "ema")
        assert outcome.code == 2
        assert "holds no weights of ema, but of: generator, discriminator" in outcome.err

    def test_a_file_that_is_there_stays_unless_forced(
        self, run: Path, tmp_path: Path, call: Callable[..., Outcome]
    ) -> None:
        out, other = tmp_path / "w.safetensors", tmp_path / "other"
        other.write_bytes(b"old")
        os.symlink(other, out)
        outcome = call("checkpoint", "export", run, "--out", out)
        assert (outcome.code, outcome.out) == (2, "")
        assert "exists (--force replaces it)" in outcome.err
        assert call("checkpoint", "export", run, "--out", out, "--force").code == 0
        assert other.read_bytes() == b"old"  # the link was replaced, not followed
        assert tensors(out)[0]
        folder = tmp_path / "folder.safetensors"
        folder.mkdir()
        assert "that is a folder" in call("checkpoint", "export", run, "--out", folder, "--force").err


class TestImport:
    def test_a_foreign_state_dict_becomes_a_plain_file(self, tmp_path: Path, call: Callable[..., Outcome]) -> None:
        weights = {"w": torch.randn(3, 2).t(), "b": torch.zeros(2)}
        torch.save({"model": weights, "ema": weights, "epoch": 3}, tmp_path / "x.pt")
        arguments = ("checkpoint", "import", tmp_path / "x.pt", "--out", tmp_path / "w.safetensors")
        assert "choose one by its key: ema, model" in call(*arguments).err
        assert not (tmp_path / "w.safetensors").exists()
        outcome = call(*arguments, "--key", "ema")
        assert (outcome.code, outcome.err) == (0, "")
        assert outcome.out.startswith("2 tensors, 8 numbers of the key 'ema' in ")
        loaded, about = tensors(tmp_path / "w.safetensors")
        assert equal(loaded, weights)
        assert about == {"format": "pt"}
        assert call(*arguments, "--key", "model").code == 2  # it is there now

    def test_a_stranger_s_code_is_named_and_not_run(self, tmp_path: Path, call: Callable[..., Outcome]) -> None:
        class Canary:
            def __reduce__(self) -> tuple[Any, ...]:
                return os.mkdir, (str(tmp_path / "canary"),)

        torch.save({"w": torch.zeros(2), "x": Canary()}, tmp_path / "x.pt")
        outcome = call("checkpoint", "import", tmp_path / "x.pt", "--out", tmp_path / "w.safetensors")
        assert (outcome.code, outcome.out) == (2, "")
        assert re.fullmatch(r"SecurityError: .*x\.pt is refused: it asks for \w+\.mkdir, but .*\n", outcome.err)
        assert [path.name for path in tmp_path.iterdir()] == ["x.pt"]


class TestSample:
    @pytest.mark.parametrize("truncation", [None, 0.5])
    def test_pictures_are_those_of_the_averaged_generator_at_its_stage(
        self, truncation: float | None, run: Path, tmp_path: Path, call: Callable[..., Outcome]
    ) -> None:
        options = [] if truncation is None else ["--truncation", truncation]
        outcome = call("sample", "--run", run, "--count", 5, "--seed", 3, "--out", tmp_path / "new" / "o", *options)
        assert (outcome.code, outcome.err) == (0, "")
        assert "5 images of 8x8 px after 2,000 images" in outcome.out
        images = average(run).sample(5, seed=3, resolution=8, alpha=0.5, truncation=truncation)
        names = sorted(path.name for path in (tmp_path / "new" / "o").iterdir())
        assert names == [f"{index:05d}.png" for index in range(5)]
        for name, image in zip(names, to_uint8(images), strict=True):
            assert np.array_equal(pixels(tmp_path / "new" / "o" / name), image.permute(1, 2, 0).numpy())

    def test_a_name_in_png_gets_one_sheet_of_them(
        self, run: Path, tmp_path: Path, call: Callable[..., Outcome]
    ) -> None:
        arguments = ("sample", "--run", run, "--count", 6, "--seed", 3, "--out", tmp_path / "o.png")
        assert call(*arguments).code == 0
        images = average(run).sample(6, seed=3, resolution=8, alpha=0.5)
        assert np.array_equal(pixels(tmp_path / "o.png"), np.asarray(image_grid(images, scale=8)))
        assert "exists (--force replaces it)" in call(*arguments).err
        assert call(*arguments, "--force").code == 0

    def test_the_size_of_batches_changes_no_picture(
        self, run: Path, tmp_path: Path, call: Callable[..., Outcome], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        sizes: list[int] = []
        forward = Generator.forward

        def counted(self: Generator, latents: Tensor, *rest: Any, **options: Any) -> Tensor:
            sizes.append(len(latents))
            return forward(self, latents, *rest, **options)

        monkeypatch.setattr(Generator, "forward", counted)
        results = []
        for largest in (64, 7):
            monkeypatch.setattr(cli, "LARGEST_BATCH", largest)
            assert call("sample", "--run", run, "--count", 70, "--out", tmp_path / f"{largest}.png").code == 0
            results.append(pixels(tmp_path / f"{largest}.png"))
        assert np.array_equal(*results)
        assert sizes == [64, 6, *[7] * 10]
        monkeypatch.setattr(cli, "BATCH_PIXELS", 3 * 64)
        assert call("sample", "--run", run, "--count", 4, "--out", tmp_path / "few.png").code == 0
        assert sizes[-2:] == [3, 1]

    def test_other_seeds_give_other_pictures(self, run: Path, tmp_path: Path, call: Callable[..., Outcome]) -> None:
        for seed in (0, 1):
            call("sample", "--run", run, "--count", 2, "--seed", seed, "--out", tmp_path / f"{seed}.png")
        assert not np.array_equal(pixels(tmp_path / "0.png"), pixels(tmp_path / "1.png"))

    def test_the_run_s_own_truncation_is_kept_unless_told_otherwise(
        self, run: Path, tmp_path: Path, call: Callable[..., Outcome]
    ) -> None:
        metadata = {"config": CONFIG.to_dict(), **METADATA, "truncation": 0.5}
        replace_newest(run, {"step": networks(CONFIG)}, metadata)
        for name, truncation in (("kept", 0.5), ("told", 0.1)):
            options = ["--truncation", "0.1"] if name == "told" else []
            call("sample", "--run", run, "--count", 4, "--out", tmp_path / f"{name}.png", *options)
            images = average(run).sample(4, seed=0, resolution=8, alpha=0.5, truncation=truncation)
            assert np.array_equal(pixels(tmp_path / f"{name}.png"), np.asarray(image_grid(images, scale=8)))

    def test_old_runs_without_a_model_s_name_with_classes_and_without_an_average(
        self, run: Path, tmp_path: Path, call: Callable[..., Outcome]
    ) -> None:
        config = CONFIG.replace(num_classes=3, image_channels=1)
        step = {**networks(config), "ema": None}
        replace_newest(run, {"step": step}, {"config": config.to_dict()})
        assert call("sample", "--run", run, "--count", 5, "--out", tmp_path / "o.png").code == 0
        generator = Generator(config)
        generator.load_state_dict(step["generator"])
        assert np.array_equal(pixels(tmp_path / "o.png"), np.asarray(image_grid(generator.sample(5, seed=0), scale=4)))

    def test_a_folder_with_other_things_is_left_alone(
        self, run: Path, tmp_path: Path, call: Callable[..., Outcome]
    ) -> None:
        (tmp_path / "o").mkdir()
        (tmp_path / "o" / "notes").write_text("mine")
        outcome = call("sample", "--run", run, "--count", 1, "--out", tmp_path / "o")
        assert outcome.code == 2
        assert "must be a new or an empty folder" in outcome.err
        assert [path.name for path in (tmp_path / "o").iterdir()] == ["notes"]
        assert call("sample", "--run", run, "--count", 1, "--out", tmp_path / "o", "--force").code == 0
        assert sorted(path.name for path in (tmp_path / "o").iterdir()) == ["00000.png", "notes"]

    @pytest.mark.parametrize(
        ("change", "words"),
        [
            ({"model": "biggan"}, "CheckpointError: the model is 'biggan', but this ganblocks knows: progan"),
            ({"config": None}, "CheckpointError: nothing tells how the generator was built"),
            ({"config": {**CONFIG.to_dict(), "max_channels": 10**6, "base_channels": 10**7}}, "the weights do not fit"),
            ({"phase": [8]}, "CheckpointError: "),
            ({"phase": {"resolution": "8"}}, "CheckpointError: "),
            ({"phase": {"resolution": 8, "alpha": "1"}}, "CheckpointError: "),
            ({"phase": {"resolution": 32}}, "ValueError: `resolution` is 32"),
            ({"truncation": "0.7"}, "CheckpointError: "),
            ({"truncation": -1.0}, "ValueError: `truncation` is -1.0"),
        ],
    )
    def test_metadata_that_do_not_fit_are_one_line(
        self, change: dict[str, Any], words: str, run: Path, tmp_path: Path, call: Callable[..., Outcome]
    ) -> None:
        metadata = {"config": CONFIG.to_dict(), **METADATA, **change}
        replace_newest(run, {"step": networks(CONFIG)}, metadata)
        outcome = call("sample", "--run", run, "--count", 1, "--out", tmp_path / "o.png")
        assert (outcome.code, outcome.out) == (2, "")
        assert words in outcome.err
        assert outcome.err.count("\n") == 1
        assert not (tmp_path / "o.png").exists()

    def test_nan_is_no_picture(self, run: Path, tmp_path: Path, call: Callable[..., Outcome]) -> None:
        step = networks(CONFIG)
        step["ema"]["module"]["initial.conv.bias"][0] = torch.nan
        state = encode_checkpoint({"step": step}, 2000, {"config": CONFIG.to_dict()}, check_finite=False)
        for name, content in state.items():
            (newest(run) / name).write_bytes(content)
        assert call("sample", "--run", run, "--count", 1, "--out", tmp_path / "o.png").err.startswith("NonFiniteError:")

    @pytest.mark.parametrize(
        ("arguments", "words"),
        [
            ("--count 0", "argument --count: '0', but must be a whole number, at least 1"),
            ("--count many", "argument --count: 'many'"),
            ("--count 1 --seed -1", "argument --seed: '-1', but must be a whole number, at least 0"),
            ("--count 1 --truncation 0", "argument --truncation: '0', but must be a positive number"),
            ("--count 1 --truncation nan", "argument --truncation: 'nan'"),
            ("--count 1 --device gpu", "--device is gpu, but must be one that PyTorch finds here"),
            ("--count 1 --device meta", "--device is meta, but"),
            ("--count 9999999", "--count is 9999999, but so many do not fit one sheet"),
        ],
    )
    def test_wrong_numbers_and_devices_are_named(
        self, arguments: str, words: str, run: Path, tmp_path: Path, call: Callable[..., Outcome]
    ) -> None:
        outcome = call("sample", "--run", run, "--out", tmp_path / "o.png", *arguments.split())
        assert (outcome.code, outcome.out) == (2, "")
        assert words in outcome.err.splitlines()[-1]
        assert "Traceback" not in outcome.err


class TestReport:
    def test_the_run_is_handed_on_and_the_path_printed(
        self, tmp_path: Path, call: Callable[..., Outcome], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        calls: list[tuple[Any, ...]] = []

        def write_report(run_dir: Path, path: Path | None = None, *, title: str | None = None) -> Path:
            calls.append((run_dir, path, title))
            return path or run_dir / "report.html"

        name = "ganblocks.visualization.report"
        module = types.ModuleType(name)
        module.write_report = write_report  # type: ignore[attr-defined]
        monkeypatch.setitem(sys.modules, name, module)
        assert call("report", tmp_path) == Outcome(0, f"{tmp_path / 'report.html'}\n", "")
        assert call("report", tmp_path, "--out", tmp_path / "r.html") == Outcome(0, f"{tmp_path / 'r.html'}\n", "")
        assert calls == [(tmp_path, None, None), (tmp_path, tmp_path / "r.html", None)]

    def test_a_missing_extra_is_one_line(
        self, tmp_path: Path, call: Callable[..., Outcome], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setitem(sys.modules, "ganblocks.visualization.report", None)
        outcome = call("report", tmp_path)
        assert outcome.code == 2
        assert re.fullmatch(r"(ImportError|ModuleNotFoundError): .*\n", outcome.err)


class TestInfo:
    def test_json_tells_versions_processor_threads_and_precision(self, call: Callable[..., Outcome]) -> None:
        found = json.loads(call("info", "--json").out)
        assert (found["ganblocks"], found["torch"], found["threads"]) == (__version__, torch.__version__, 1)
        assert found["packages"]["numpy"] == np.__version__
        assert found["cpu"] == torch.backends.cpu.get_cpu_capability()
        assert found["precision_auto"]["cpu"] == ("bf16" if found["amx"] else "fp32")
        assert len(found["gpus"]) == len(found["gpu_memory"]) == len(found["precision_auto"]) - 1

    def test_extras_are_those_of_the_project(self) -> None:
        project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
        declared = {
            extra: tuple(re.split("[>=<]", need)[0] for need in needs if not need.startswith("ganblocks["))
            for extra, needs in project["optional-dependencies"].items()
            if extra not in ("all", "dev")
        }
        assert declared == cli.EXTRAS
        assert project["scripts"] == {"ganblocks": "ganblocks.cli:main"}

    def test_a_missing_package_comes_with_the_command_that_brings_it(
        self, call: Callable[..., Outcome], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        versions = {"matplotlib": None, "onnx": None, "onnxscript": None}
        monkeypatch.setattr(cli, "_version", lambda package: versions.get(package, "1.2"))
        monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
        lines = dict(re.split(" {2,}", line, maxsplit=1) for line in call("info").out.splitlines())
        assert lines["extra train"] == 'tensorboard 1.2; matplotlib missing: pip install "ganblocks[train]"'
        assert lines["extra export"] == 'onnx, onnxscript missing: pip install "ganblocks[export]"'
        assert lines["extra vision"] == "torchvision 1.2, timm 1.2"
        assert lines["GPU"] == "none that PyTorch finds"
        assert lines["threads"] == "1"

    def test_gpus_are_listed_with_memory_and_precision(
        self, call: Callable[..., Outcome], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        gpu = types.SimpleNamespace(name="A GPU", total_memory=24_000_000_000)
        monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
        monkeypatch.setattr(torch.cuda, "get_device_properties", lambda index: gpu)
        monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: True)
        lines = call("info").out.splitlines()
        assert "GPU             A GPU, 24 GB" in lines
        assert lines[-1].endswith("bf16 on cuda:0")


class TestCall:
    @pytest.mark.parametrize("arguments", ["", "checkpoint", "fly", "checkpoint list", "checkpoint export x", "sample"])
    def test_a_wrong_call_is_code_2_with_the_usage(self, arguments: str, call: Callable[..., Outcome]) -> None:
        outcome = call(*arguments.split())
        assert (outcome.code, outcome.out) == (2, "")
        assert outcome.err.startswith("usage: ganblocks")

    def test_a_file_of_weights_has_its_suffix(self, call: Callable[..., Outcome]) -> None:
        assert 'must end in ".safetensors"' in call("checkpoint", "import", "x.pt", "--out", "w.bin").err

    def test_version_and_help(self, call: Callable[..., Outcome]) -> None:
        assert call("--version") == Outcome(0, f"ganblocks {__version__}\n", "")
        text = call("--help").out
        assert all(word in text for word in ("checkpoint", "sample", "report", "info"))

    @pytest.mark.parametrize(
        ("error", "code", "line"),
        [
            (MemoryError("too much"), 2, "MemoryError: too much\n"),
            (torch.OutOfMemoryError("GPU full"), 2, "OutOfMemoryError: GPU full\n"),
            (RuntimeError("DefaultCPUAllocator: can't allocate memory"), 2, "RuntimeError: DefaultCPUAllocator"),
            (OSError(28, "No space left on device"), 2, "OSError: [Errno 28] No space left on device\n"),
            (ValueError("two\nlines"), 2, "ValueError: two lines\n"),
            (KeyboardInterrupt(), 130, ""),
        ],
    )
    def test_what_goes_wrong_is_one_line(
        self,
        error: BaseException,
        code: int,
        line: str,
        tmp_path: Path,
        call: Callable[..., Outcome],
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        def fail(path: Path) -> None:
            raise error

        monkeypatch.setattr(cli, "find_checkpoints", fail)
        outcome = call("checkpoint", "list", tmp_path)
        assert (outcome.code, outcome.out) == (code, "")
        assert outcome.err.startswith(line)
        assert outcome.err.count("\n") == (1 if line else 0)

    def test_an_error_of_ours_keeps_its_traceback(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        def fail(path: Path) -> None:
            raise RuntimeError("a fault of the program")

        monkeypatch.setattr(cli, "find_checkpoints", fail)
        with pytest.raises(RuntimeError, match="a fault"):
            cli.main(["checkpoint", "list", str(tmp_path)])


def process(*command: str, **options: Any) -> subprocess.Popen[str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src"), "OMP_NUM_THREADS": "1"}
    pipe = subprocess.PIPE
    return subprocess.Popen([sys.executable, *command], stdout=pipe, stderr=pipe, text=True, env=environment, **options)


class TestProcess:
    def test_the_module_is_the_command(self, run: Path) -> None:
        damage(newest(run))
        out, err = (done := process("-m", "ganblocks", "checkpoint", "verify", str(run))).communicate(timeout=200)
        assert (done.returncode, err) == (1, "")
        assert out.startswith("000000001000  valid\n000000002000  checkpoint ")

    def test_no_extra_is_imported_and_a_reader_that_has_seen_enough_is_no_error(self) -> None:
        extras = ("matplotlib", "tensorboard", "torchvision", "timm", "sklearn", "skimage", "pooch", "onnx")
        code = f"""
import sys
from ganblocks.cli import main
code = main(["info"])
print([name for name in {extras} if name in sys.modules], file=sys.stderr)
sys.exit(code)
"""
        done = process("-c", code)
        assert done.stdout is not None
        assert done.stderr is not None
        done.stdout.close()
        assert done.stderr.read() == "[]\n"
        done.stderr.close()
        assert done.wait(timeout=200) == 141
