"""What could change the last bit is described, compared, and put back."""

import json
import subprocess
import sys

import pytest
import torch

from ganblocks.data import TensorBatches
from ganblocks.models.autoencoder import AutoencoderConfig, DenseAutoencoder
from ganblocks.training import Trainer, autoencoder_recipes
from ganblocks.training.environment import (
    describe_environment,
    deterministic_algorithms,
    environment_differences,
    flushed_denormals,
    settled_arithmetic,
)


def test_the_description_is_json_and_true() -> None:
    environment = describe_environment()
    assert json.loads(json.dumps(environment)) == environment
    assert environment["torch"] == torch.__version__
    assert environment["threads"] == torch.get_num_threads()
    assert environment_differences(environment, environment) == []


@pytest.mark.parametrize(
    "key",
    [
        "torch",
        "threads",
        "machine",
        "cpu",
        "amx",
        "gpus",
        "deterministic",
        "float32_matmul",
        "tf32",
        "processes",
        "denormals",
    ],
)
def test_each_change_of_what_counts_is_told(key: str) -> None:
    now = describe_environment()
    (told,) = environment_differences({**now, key: "something else"}, now)
    assert told == f"{key}: 'something else' there, {now[key]!r} now"


@pytest.mark.parametrize("key", ["ganblocks", "python", "numpy", "cuda", "system", "cores"])
def test_what_changes_no_bit_is_only_recorded(key: str) -> None:
    now = describe_environment()
    assert environment_differences({**now, key: "something else"}, now) == []


def test_silence_is_a_difference() -> None:
    assert environment_differences(None, describe_environment()) == [
        "the checkpoint does not say what it was computed with"
    ]


def test_flags_are_put_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG", raising=False)
    benchmark = torch.backends.cudnn.benchmark

    def fail() -> None:
        with deterministic_algorithms(True):
            assert torch.are_deterministic_algorithms_enabled()
            assert not torch.backends.cudnn.benchmark
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert not torch.are_deterministic_algorithms_enabled()
    assert torch.backends.cudnn.benchmark == benchmark
    with deterministic_algorithms(False):
        assert not torch.are_deterministic_algorithms_enabled()


def denormals(values: torch.Tensor) -> int:
    """How many are neither 0 nor of full precision; counted in their bits, whatever this thread makes of them."""
    bits = values.detach().contiguous().view(torch.int32) & 0x7FFFFFFF
    return int(((bits > 0) & (bits < 0x00800000)).sum())


def smaller(count: int = 4) -> torch.Tensor:
    """A thousandth of the smallest number of full precision."""
    return torch.full((count,), torch.finfo(torch.float32).tiny) / 1000


def test_denormals_are_flushed_inside_and_kept_outside() -> None:
    assert denormals(smaller()) == 4
    with flushed_denormals():
        assert denormals(smaller()) == 0
        with flushed_denormals():
            assert describe_environment()["denormals"] == "flushed"
        assert denormals(smaller()) == 0  # the inner one has left things as they were
    assert denormals(smaller()) == 4
    assert describe_environment()["denormals"] == "kept"


def test_an_error_puts_the_arithmetic_back() -> None:
    def fail() -> None:
        with settled_arithmetic(deterministic=True):
            assert describe_environment()["denormals"] == "flushed"
            assert torch.are_deterministic_algorithms_enabled()
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert denormals(smaller()) == 4
    assert not torch.are_deterministic_algorithms_enabled()


def test_threads_that_do_not_agree_are_told_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    original = torch.full

    def half(size: tuple[int, ...], *arguments: object, **options: object) -> torch.Tensor:
        bits = original(size, *arguments, **options)  # type: ignore[call-overload]
        bits[: len(bits) // 2] = 0
        return bits  # type: ignore[no-any-return]

    monkeypatch.setattr(torch, "full", half)
    assert describe_environment()["denormals"] == "mixed"


def test_threads_started_inside_flush_too() -> None:
    """In a process of its own, as PyTorch starts its threads but once."""
    program = (
        "import torch; torch.set_num_threads(2)\n"
        "from ganblocks.training.environment import describe_environment, flushed_denormals\n"
        "with flushed_denormals():\n"
        "    print(describe_environment()['denormals'])\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "flushed"


def test_on_a_gpu_denormals_of_the_cpu_do_not_matter() -> None:
    now = {**describe_environment(), "device": "cuda"}
    assert environment_differences({**now, "denormals": "mixed"}, now) == []


def test_moments_of_pixels_that_are_always_black_do_not_become_denormal() -> None:
    """Their gradient is noise for a while, then 0: 0.9**1000 is 1.7e-46, and without flushing they stop at 1e-45."""
    torch.manual_seed(0)
    images = torch.zeros(1200 * 4, 1, 4, 4, dtype=torch.uint8)
    images[:40] = 255
    model = DenseAutoencoder(AutoencoderConfig(input_shape=(1, 4, 4), widths=(8,)))
    recipe = autoencoder_recipes.document(epochs=1, batch_size=4)
    step = recipe.build_step(model)

    class InOrder(TensorBatches):
        def batch(
            self, images_seen: int, count: int, resolution: int | None
        ) -> tuple[torch.Tensor, torch.Tensor | None]:
            return self.images[images_seen : images_seen + count], None

    Trainer(step, InOrder(images), recipe.schedule(len(images))).fit()
    moments = [state[key] for state in step.optimizer.state.values() for key in ("exp_avg", "exp_avg_sq")]
    assert sum(int((moment == 0).sum()) for moment in moments) > 0  # some have come all the way down
    assert sum(denormals(moment) for moment in moments) == 0
