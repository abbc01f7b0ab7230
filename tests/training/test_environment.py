"""What could change the last bit is described, compared, and put back."""

import json

import pytest
import torch

from ganblocks.training.environment import describe_environment, deterministic_algorithms, environment_differences


def test_the_description_is_json_and_true() -> None:
    environment = describe_environment()
    assert json.loads(json.dumps(environment)) == environment
    assert environment["torch"] == torch.__version__
    assert environment["threads"] == torch.get_num_threads()
    assert environment_differences(environment, environment) == []


@pytest.mark.parametrize(
    "key", ["torch", "threads", "machine", "cpu", "amx", "gpus", "deterministic", "float32_matmul", "tf32", "processes"]
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
