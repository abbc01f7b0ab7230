"""Several processes do what one does: the same updates to rounding, and whatever befalls one of them reaches all."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
import replica_runs
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from ganblocks.errors import DistributedError, RunMismatchError
from ganblocks.training import ConstantSchedule, Replicas, Trainer, current_replicas, joined_processes
from ganblocks.training.distributed import ALONE, _checksum
from tolerances import named

float64 = torch.float64
TESTS = Path(__file__).resolve().parent.parent


def launch(job: str, out: Path, count: int = 2) -> list[tuple[int, str, str]]:
    """Exit code, output and errors of each process."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    shared = {
        **os.environ, "WORLD_SIZE": str(count), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port),
        "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join([str(TESTS), *sys.path]),
    }  # fmt: skip
    processes = [
        subprocess.Popen(
            [sys.executable, "-W", "ignore", str(TESTS / "replica_runs.py"), job, str(out)],
            env={**shared, "RANK": str(rank), "LOCAL_RANK": str(rank)},
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )
        for rank in range(count)
    ]  # fmt: skip
    try:
        ends = [process.communicate(timeout=240) for process in processes]
    finally:
        for process in processes:
            process.kill()
    return [(process.returncode, *end) for process, end in zip(processes, ends, strict=True)]


@pytest.fixture(scope="module")
def together(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[tuple[int, str, str]]]:
    out = tmp_path_factory.mktemp("together")
    ends = launch("together", out)
    assert [code for code, _, _ in ends] == [0, 0], ends
    return out, ends


def alone(name: str, dtype: torch.dtype) -> dict[str, Tensor]:
    trainer = replica_runs.trainer_of(name, dtype)
    trainer.fit()
    return replica_runs.tensors_of(trainer)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
@pytest.mark.parametrize("name", replica_runs.STEPS_BY_NAME)
def test_two_processes_make_the_updates_of_one(
    name: str, dtype: torch.dtype, together: tuple[Path, list[tuple[int, str, str]]]
) -> None:
    shared = load_file(together[0] / f"{name} {str(dtype)[-2:]}.safetensors")
    single = alone(name, dtype)
    assert shared.keys() == single.keys()
    moved = [key for key in single if key.startswith("state/") and "weight" in key]
    begun = replica_runs.tensors_of(replica_runs.trainer_of(name, dtype))
    assert any(key in begun and not torch.equal(begun[key], single[key]) for key in moved)
    tolerance = named("replicas_float64" if dtype == torch.float64 else "replicas_float32")
    weights = {key: value for key, value in single.items() if key.startswith("state/")}
    torch.testing.assert_close({key: shared[key] for key in weights}, weights, **tolerance)


@pytest.mark.parametrize("name", replica_runs.ACROSS_IMAGES)
def test_layers_that_compare_images_see_those_of_their_process(
    name: str, together: tuple[Path, list[tuple[int, str, str]]]
) -> None:
    """So two processes do what one does that takes its batch in halves. Running statistics are the first one's."""
    shared = load_file(together[0] / f"{name} 64.safetensors")
    half = replica_runs.BATCH // 2
    halves, whole = (
        replica_runs.trainer_of(name, float64, replica_runs.ACROSS_IMAGES[name](float64, micro_batch=size))
        for size in (half, None)
    )
    halves.fit()
    whole.fit()
    expected, at_once = (
        {key: value for key, value in replica_runs.tensors_of(trainer).items() if is_weight(key)}
        for trainer in (halves, whole)
    )
    torch.testing.assert_close({key: shared[key] for key in expected}, expected, **named("replicas_float64"))
    differs = [key for key in expected if not torch.allclose(at_once[key], expected[key])]
    assert differs


def is_weight(key: str) -> bool:
    return key.startswith("state/") and "running_" not in key and "num_batches" not in key


def test_running_statistics_are_those_of_the_images_of_the_first_process(
    together: tuple[Path, list[tuple[int, str, str]]],
) -> None:
    shared = load_file(together[0] / "batch normalisation 64.safetensors")
    whole = alone("batch normalisation", float64)
    means = [key for key in whole if key.endswith("running_mean") and "generator" in key]
    assert means
    assert all(shared[key].isfinite().all() and not torch.equal(shared[key], whole[key]) for key in means)


def test_a_signal_to_one_process_stops_all_after_the_same_step(
    together: tuple[Path, list[tuple[int, str, str]]],
) -> None:
    told = [json.loads((together[0] / f"told-{rank}.json").read_text()) for rank in range(2)]
    images = 3 * replica_runs.BATCH
    assert told[0]["signalled"] == [128 + signal.SIGTERM, images, True]
    assert told[1]["signalled"] == [128 + signal.SIGTERM, images, False]  # only the first one writes
    assert [path.name for path in (together[0] / "signalled" / "checkpoints").iterdir()] == [f"{images:012d}"]


def test_what_the_callbacks_of_the_first_process_decide_all_follow(
    together: tuple[Path, list[tuple[int, str, str]]],
) -> None:
    told = [json.loads((together[0] / f"told-{rank}.json").read_text()) for rank in range(2)]
    assert told[0]["rate"] == told[1]["rate"] == 0.25 * 1e-2


def test_weights_that_drift_apart_are_told_in_every_process(together: tuple[Path, list[tuple[int, str, str]]]) -> None:
    for rank in range(2):
        told = json.loads((together[0] / f"told-{rank}.json").read_text())["drift"]
        assert "DistributedError: the state of the step is no longer the same in all 2 processes" in told
        assert "discriminator" in told


def test_a_batch_that_cannot_be_shared_is_refused_at_the_start(
    together: tuple[Path, list[tuple[int, str, str]]],
) -> None:
    for rank in range(2):
        told = json.loads((together[0] / f"told-{rank}.json").read_text())["uneven"]
        assert told == "ValueError: `batch_size` is 7, but must be divisible by the number of processes, 2"


def test_only_the_first_process_prints(together: tuple[Path, list[tuple[int, str, str]]]) -> None:
    outputs = [output for _, output, _ in together[1]]
    assert json.loads(outputs[0])
    assert outputs[1] == ""


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Tensor]:
    """The end of a run of two processes that nothing befell."""
    out = tmp_path_factory.mktemp("whole")
    assert [end[0] for end in launch("whole", out)] == [0, 0]
    return load_file(out / "end.safetensors")


@pytest.mark.parametrize(
    ("job", "code"), [("killed", -signal.SIGKILL), pytest.param("failing", 2, marks=pytest.mark.slow)]
)
def test_one_that_dies_or_fails_ends_all_and_the_run_goes_on_exactly(
    job: str, code: int, whole: dict[str, Tensor], tmp_path: Path
) -> None:
    started = time.monotonic()
    ends = launch(job, tmp_path)
    assert [end[0] for end in ends] == [2, code]
    assert "DistributedError: process 0 of 2 cannot reach the others any more" in ends[0][2]
    if job == "failing":
        assert "ValueError: a picture is broken" in ends[1][2]
    assert time.monotonic() - started < 200  # the exchange itself would wait for a minute
    saved = sorted(path.name for path in (tmp_path / "run" / "checkpoints").iterdir())
    assert saved[-1] == f"{4 * replica_runs.BATCH:012d}"
    assert [end[0] for end in launch("whole", tmp_path)] == [0, 0]
    resumed = load_file(tmp_path / "end.safetensors")
    assert resumed.keys() == whole.keys()
    assert all(torch.equal(resumed[key], whole[key]) for key in whole)


def test_a_run_of_two_processes_goes_on_in_one_under_lenient_only(
    together: tuple[Path, list[tuple[int, str, str]]],
) -> None:
    run_dir = together[0] / "signalled"
    step = replica_runs.adversarial(torch.float64)
    exact = replica_runs.trainer_of("wgan_gp", torch.float64, step, run_dir=run_dir)
    with pytest.raises(RunMismatchError, match="processes: 2 there, 1 now"):
        exact.fit()
    lenient = replica_runs.trainer_of("wgan_gp", torch.float64, step, run_dir=run_dir, resume="lenient")
    with pytest.warns(RuntimeWarning, match="processes: 2 there, 1 now"):
        result = lenient.fit()
    assert result.finished
    single = alone_like(replica_runs.adversarial(torch.float64))
    torch.testing.assert_close(replica_runs.tensors_of(lenient), single, **named("replicas_float64"))


def alone_like(step: replica_runs.AdversarialStep) -> dict[str, Tensor]:
    trainer = replica_runs.trainer_of("wgan_gp", torch.float64, step)
    trainer.fit()
    return replica_runs.tensors_of(trainer)


# --- in this process, alone ---


def test_alone_every_method_gives_back_what_it_got() -> None:
    parameter = nn.Parameter(torch.ones(3))
    parameter.grad = torch.arange(3.0)
    loss = (parameter * 2).sum()
    assert ALONE.average_gradients([parameter], loss).item() == 6.0
    assert parameter.grad.tolist() == [0.0, 1.0, 2.0]
    values = {"a": torch.tensor(1.0)}
    assert ALONE.mean(values) is values
    assert ALONE.agree(3, 0.5) == (3, 0.5)
    state = {"weights": torch.ones(2)}
    assert ALONE.share(state) is state
    ALONE.require_equal(state, "the state")
    assert torch.equal(ALONE.gather(parameter), parameter)
    assert not ALONE.gather(parameter).requires_grad


def test_a_rank_out_of_range_is_refused() -> None:
    with pytest.raises(ValueError, match="`rank` is 2"):
        Replicas(2, 2)


def test_processes_that_were_not_joined_are_an_error_and_no_silent_copies(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("WORLD_SIZE", "4")
    with pytest.raises(DistributedError, match="started 4 processes that know nothing of each other"):
        current_replicas()
    with pytest.raises(DistributedError, match="joined_processes"):
        Trainer(replica_runs.classifier(torch.float32), replica_runs.Pictures(), ConstantSchedule(8, 8, 1e-3))


def test_without_torchrun_nothing_is_joined(capsys: pytest.CaptureFixture[str]) -> None:
    with joined_processes() as replicas:
        print("to be seen")
        assert replicas is ALONE
        assert current_replicas() is ALONE
    assert capsys.readouterr().out == "to be seen\n"


def test_a_time_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="timeout_minutes"), joined_processes(timeout_minutes=0):
        pass


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.int64, torch.bool], ids=str)
def test_a_checksum_tells_any_single_change_and_any_exchange_of_two(dtype: torch.dtype) -> None:
    values = (torch.arange(37) % 2 if dtype == torch.bool else torch.arange(1, 38)).to(dtype)
    same = _checksum(values)
    assert same == _checksum(values.clone())
    for index in range(36):
        other = values.clone()
        other[index] = ~other[index] if dtype == torch.bool else other[index] + 1
        assert _checksum(other) != same
        swapped = values.clone()
        swapped[[index, index + 1]] = values[[index + 1, index]]
        assert _checksum(swapped) != same
