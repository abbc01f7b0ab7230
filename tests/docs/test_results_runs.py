"""Records of the results page are made from run directories, and only from those that are what they are said to be."""

import json
import math
import shlex
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from PIL import Image

from ganblocks.training import RunLog
from ganblocks.training.run_directory import RunLock
from ganblocks.training.saved_weights import write_weights

DOCS = Path(__file__).resolve().parents[2] / "docs"
E01_COMMAND = ["examples/autoencoder_fashion_mnist.py", "--data", "/somewhere/fashion_mnist", "--recipe", "document"]


def make_run(
    path: Path, *, seed: int = 0, error: float = 0.25, command: list[str] | None = None, total_images: int = 100
) -> Path:
    """A run directory as examples/autoencoder_fashion_mnist.py leaves one, without its training."""
    path.mkdir(parents=True)
    config = {"seed": seed, "precision": "fp32", "data": ["ab" * 32, "cd" * 32]}
    (path / "config.json").write_text(json.dumps(config))
    start: dict[str, Any] = {"event": "start", "images_seen": 0, "device": "cpu", "total_images": total_images}
    if command is None:
        command = [*E01_COMMAND, "--seed", str(seed), "--out", str(path)]
    log = RunLog(path / "log.jsonl")
    log.append({**start, "command": command} if command else start)
    for step in range(1, 101):
        log.append({"images_seen": step, "loss": 1 / step})
    errors = {"autoencoder": error, "principal components": 0.5, "mean image": 1}
    write_weights(path / "autoencoder.safetensors", {"weight": torch.zeros(1)}, {"mse": errors, "model": "dense"})
    Image.new("RGB", (1200, 30), "teal").save(path / "curves.png")
    return path


def collect(results: ModuleType, tmp_path: Path, *paths: Path, name: str = "E01", **more: Any) -> dict[str, Any]:
    """The record of some run directories."""
    entry = results.experiment(name)
    folders = {"records": tmp_path / "records", "pictures": tmp_path / "pictures"}
    target = results.collect(paths, entry, more.get("run"), command=more.get("command"), **folders)
    record: dict[str, Any] = json.loads(target.read_text("utf-8"))[entry.run(more.get("run")).name]
    return record


# --- records


def test_a_record_has_all_that_the_page_tells(results: ModuleType, tmp_path: Path) -> None:
    record = collect(results, tmp_path, make_run(tmp_path / "run"))
    assert record["command"] == shlex.join(
        ["python", *E01_COMMAND[:2], "fashion_mnist", *E01_COMMAND[3:], "--seed", "0"]
    )
    assert (record["command_from"], record["seeds"], record["precision"]) == ("log", [0], "fp32")
    assert (record["parts"], record["data"]) == (1, ["abababababab", "cdcdcdcdcdcd"])
    assert record["environment"].items() >= {"device": "cpu", "torch": str(torch.__version__)}.items()
    assert record["figures"] == {"mse": [0.25], "components": [0.5], "mean": [1.0]}
    assert 0 <= record["seconds"][0] < 60
    assert record["pictures"] == {"curves.png": "e01_document_0.webp"}
    assert (tmp_path / "pictures" / "e01_document_0.webp").is_file()
    page = results.render(results.read_records(tmp_path / "records"))
    assert "| test error of a pixel, mean square | 0.25000 | *nothing* |" in page
    assert "![Curves of the training](../images/results/e01_document_0.webp)" in page


def test_several_seeds_become_a_mean_with_its_deviation(results: ModuleType, tmp_path: Path) -> None:
    paths = [make_run(tmp_path / f"run{seed}", seed=seed, error=error) for seed, error in enumerate((0.2, 0.3, 0.7))]
    record = collect(results, tmp_path, *paths)
    assert (record["seeds"], record["figures"]["mse"]) == ([0, 1, 2], [0.2, 0.3, 0.7])
    assert len(record["seconds"]) == 3
    deviation = math.sqrt(((0.2 - 0.4) ** 2 + (0.3 - 0.4) ** 2 + (0.7 - 0.4) ** 2) / 2)
    page = results.render(results.read_records(tmp_path / "records"))
    assert f"| 0.40000 ± {deviation:.5f} |" in page
    assert "seeds 0, 1, 2" in page


def test_runs_that_differ_in_more_than_the_seed_are_not_one(results: ModuleType, tmp_path: Path) -> None:
    first = make_run(tmp_path / "first")
    longer = make_run(tmp_path / "longer", seed=1, command=[*E01_COMMAND, "--seed", "1", "--epochs", "20"])
    with pytest.raises(ValueError, match="more than the seed: command"):
        collect(results, tmp_path, first, longer)
    with pytest.raises(ValueError, match="not even in that"):
        collect(results, tmp_path, first, first)
    assert not (tmp_path / "records").exists()


def test_another_run_of_the_experiment_stays_in_the_record(results: ModuleType, tmp_path: Path) -> None:
    collect(results, tmp_path, make_run(tmp_path / "library", command=E01_COMMAND[:3]), run="library")
    collect(results, tmp_path, make_run(tmp_path / "document"))
    assert list(json.loads((tmp_path / "records" / "E01.json").read_text("utf-8"))) == ["document", "library"]


def test_a_log_without_a_command_needs_one_and_the_page_says_so(results: ModuleType, tmp_path: Path) -> None:
    path = make_run(tmp_path / "run")
    lines = (path / "log.jsonl").read_text().splitlines()
    start = json.loads(lines[0])
    del start["command"]
    (path / "log.jsonl").write_text("\n".join([json.dumps(start), *lines[1:]]) + "\n")
    with pytest.raises(ValueError, match="no command"):
        collect(results, tmp_path, path)
    record = collect(results, tmp_path, path, command=f"OMP_NUM_THREADS=1 python3 {shlex.join(E01_COMMAND)}")
    assert record["command"] == "python examples/autoencoder_fashion_mnist.py --data fashion_mnist --recipe document"
    page = results.render(results.read_records(tmp_path / "records"))
    assert "the command was given when the run was collected" in page


@pytest.mark.parametrize(
    ("command", "message"),
    [
        ([*E01_COMMAND, "--dry-run"], "is a trial"),
        (["examples/vae_fashion_mnist.py", *E01_COMMAND[1:]], "must be by autoencoder_fashion_mnist"),
        ([*E01_COMMAND[:3]], "--recipe None, but must have"),
        ([*E01_COMMAND, "--tied"], "has --tied"),
        ([E01_COMMAND[0], *E01_COMMAND[3:]], "no --data"),
        ([*E01_COMMAND[:2], "/somewhere/mnist", *E01_COMMAND[3:]], "trained on mnist"),
    ],
)
def test_a_run_that_is_something_else_is_refused(
    command: list[str], message: str, results: ModuleType, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match=message):
        collect(results, tmp_path, make_run(tmp_path / "run", command=command))
    assert not (tmp_path / "records").exists()


def test_faces_are_not_taken_for_drawn_ones_and_may_be_of_another_number(runs: ModuleType, table: ModuleType) -> None:
    faces, drawn = (table.experiment("E10").run(name) for name in ("library", "drawn faces"))
    runs.require_command(["examples/progan_celeba.py", "--drawn", "6000", "--resolution", "32"], drawn)
    runs.require_command(["examples/progan_celeba.py", "--data", "faces.zip"], faces)
    with pytest.raises(runs.RunError, match="--drawn None"):
        runs.require_command(["examples/progan_celeba.py", "--data", "faces.zip"], drawn)
    with pytest.raises(runs.RunError, match="must have None"):
        runs.require_command(["examples/progan_celeba.py", "--drawn", "6000"], faces)


def test_a_run_without_any_figure_is_refused(results: ModuleType, tmp_path: Path) -> None:
    path = make_run(tmp_path / "run")
    (path / "autoencoder.safetensors").unlink()
    with pytest.raises(ValueError, match="is the run finished"):
        collect(results, tmp_path, path)


@pytest.mark.parametrize(
    ("seen", "event", "checkpoint", "finished"),
    [(100, None, None, True), (101, None, None, False), (101, None, 104, True), (200, "early_stopping", None, True)],
)
def test_a_run_that_was_stopped_is_refused(
    seen: int, event: str | None, checkpoint: int | None, finished: bool, results: ModuleType, tmp_path: Path
) -> None:
    """Images seen are those of the log or of the last checkpoint, whichever is later."""
    path = make_run(tmp_path / "run", total_images=seen)
    if event:
        RunLog(path / "log.jsonl").append({"event": event, "images_seen": 100})
    if checkpoint:
        (path / "checkpoints" / f"{checkpoint:012d}").mkdir(parents=True)
    if finished:
        assert collect(results, tmp_path, path)["figures"]["mse"] == [0.25]
    else:
        with pytest.raises(ValueError, match="is not finished"):
            collect(results, tmp_path, path)


def test_a_run_that_still_goes_on_is_refused(results: ModuleType, tmp_path: Path) -> None:
    path = make_run(tmp_path / "run")
    with RunLock(path), pytest.raises(ValueError, match="in use"):
        collect(results, tmp_path, path)
    collect(results, tmp_path, path)


def test_a_run_without_what_it_leaves_at_its_end_is_refused(
    runs: ModuleType, table: ModuleType, tmp_path: Path
) -> None:
    run = table.experiment("E12").run()
    figures = table.experiment("E12").figures
    RunLog(tmp_path / "log.jsonl").append({"event": "start", "command": shlex.split(run.command), "pictures": 3})
    with pytest.raises(runs.RunError, match="is not finished"):
        runs.read_run(tmp_path, run, figures)
    (tmp_path / "summary.md").touch()
    assert runs.read_run(tmp_path, run, figures)["figures"] == {"pictures": [3.0]}


def test_a_shorter_run_is_told_to_be_one(runs: ModuleType, table: ModuleType) -> None:
    run = table.experiment("E03").run()
    command = "python examples/dcgan_mnist.py --data mnist --form tutorial --epochs 15"
    assert runs.differing(command, run) == ["`--epochs 15` instead of 50"]
    assert runs.differing(f"python {run.command} --seed 3 --precision bf16 --threads 2", run) == []
    tuned = table.experiment("E19").run("100 px, 5 painters")
    assert runs.differing(
        f"python {tuned.command.replace('--weights inception_resnet_v2.safetensors ', '')}", tuned
    ) == ["without pretrained weights"]


def test_a_run_that_went_on_is_told_with_its_pauses(results: ModuleType, tmp_path: Path) -> None:
    path = make_run(tmp_path / "run")
    RunLog(path / "log.jsonl").append({"event": "resume", "images_seen": 50})
    assert collect(results, tmp_path, path)["parts"] == 2
    assert "in 2 parts, pauses included" in results.render(results.read_records(tmp_path / "records"))


def test_seeds_of_runs_within_count(runs: ModuleType, table: ModuleType, tmp_path: Path) -> None:
    path = make_run(tmp_path / "run")
    for seed in (0, 1, 2):
        (path / f"seed-{seed}").mkdir()
        (path / f"seed-{seed}" / "config.json").write_text(json.dumps({"seed": seed}))
    entry = table.experiment("E01")
    assert runs.read_run(path, entry.run(), entry.figures)["seeds"] == [0, 1, 2]


# --- sources of figures


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("log loss", [0.01]),
        ("log other", []),
        ("tail 0.1 loss", [1 / 100, 1 / 91]),
        ("event selection pictures", [7.0]),
        ("event start pictures", []),
        ("score swd_16", [1.5]),
        ("json results.json seeds.*.accuracy", [0.5, 0.75]),
        ("json results.json seeds.1.accuracy", [0.75]),
        ("json missing.json seeds", []),
        ("meta autoencoder.safetensors mse.principal components", [0.5]),
        ("meta autoencoder.safetensors mse.principal *", [0.5]),
        ("meta autoencoder.safetensors model", []),
        ("cell table.md | real | accuracy", "50 %"),
        ("cell table.md | real + both | accuracy", "75 %"),
        ("cell table.md | 5 | pictures", "2,554"),
        ("cell table.md | 5 | accuracy", ""),
        ("count images/**/*.jpg", [2.0]),
        ("count images/*.png", []),
    ],
)
def test_a_source_names_a_number(source: str, found: list[float] | str, runs: ModuleType, tmp_path: Path) -> None:
    path = make_run(tmp_path / "run")
    log = RunLog(path / "log.jsonl")
    log.append({"event": "selection", "images_seen": 0, "pictures": 7})
    log.append({"event": "scores", "images_seen": 100, "scores": [{"name": "swd_16", "value": 1.5}]})
    (path / "results.json").write_text(json.dumps({"seeds": [{"accuracy": 0.5}, {"accuracy": 0.75}]}))
    (path / "table.md").write_text(
        "# Title\n\n| arm | accuracy |\n|---|---|\n| real | 50 % |\n| real + both | 75 % |\n\ntext\n\n"
        "| painters | pictures |\n| --- | --- |\n| 5 | 2,554 |\n"
    )
    for name in ("a/1.jpg", "b/2.jpg"):
        (path / "images" / name).parent.mkdir(parents=True)
        (path / "images" / name).touch()
    assert runs.values(path, source) == found


def test_an_unknown_source_is_an_error(runs: ModuleType, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no source 'sum'"):
        runs.values(tmp_path, "sum loss")


def test_the_programs_tell_errors_in_a_line(
    results: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert results.main(["collect", str(tmp_path), "--experiment", "E99"]) == 2
    assert "they are E01 to E21" in capsys.readouterr().err
    assert results.main(["collect", str(tmp_path), "--experiment", "E01", "--run", "other"]) == 2
    assert "document, library" in capsys.readouterr().err
