"""Which path runs: every mode, every obstacle, every way to choose, and the sentence that says so."""

import asyncio
import logging
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from ganblocks.ops import _switch
from ganblocks.ops._switch import backend, decide, explain, is_open_to_cpu, uses_kernel
from ganblocks.ops.kernels import is_interpreted, why_missing

SOURCE = Path(__file__).resolve().parents[2] / "src"
interpreted = pytest.mark.skipif(
    why_missing() is not None or not is_interpreted(), reason="Triton's interpreter is not switched on"
)


@pytest.fixture(autouse=True)
def plain_environment(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.delenv("GANBLOCKS_BACKEND", raising=False)
    _switch._formula.cache_clear()
    _switch._kernel.cache_clear()
    _switch._elsewhere.cache_clear()
    yield
    _switch._elsewhere.cache_clear()


class OnGPU:
    """What the switch reads of a tensor on a GPU, where there is none."""

    __class__ = Tensor
    is_cuda = True
    device = torch.device("cuda", 0)
    layout = torch.strided
    dtype = torch.float32

    def dim(self) -> int:
        return 2

    def is_neg(self) -> bool:
        return False

    def _is_zerotensor(self) -> bool:
        return False

    def numel(self) -> int:
        return 6


@pytest.fixture
def on_gpu(monkeypatch: pytest.MonkeyPatch) -> OnGPU:
    monkeypatch.setattr(_switch, "_too_old", lambda device, bfloat16: None)
    monkeypatch.setattr(_switch, "Tensor", OnGPU)
    monkeypatch.setattr(_switch, "why_missing", lambda: None)
    monkeypatch.setattr(_switch, "is_interpreted", lambda: False)
    return OnGPU()


def test_a_cpu_tensor_takes_the_formula() -> None:
    x = torch.zeros(2, 3)
    assert decide(x) == (False, "the tensor is on cpu")
    assert not uses_kernel(x, None, x)
    assert explain(x) == "The formula runs: the tensor is on cpu."


def test_a_gpu_tensor_takes_the_kernel_in_auto_and_triton_and_the_formula_in_reference(on_gpu: OnGPU) -> None:
    assert decide(on_gpu) == (True, "the tensor is on a GPU")  # type: ignore[arg-type]
    with backend("triton"):
        assert uses_kernel(on_gpu)  # type: ignore[arg-type]
    with backend("reference"):
        assert decide(on_gpu) == (False, "mode reference asks for it")  # type: ignore[arg-type]


@pytest.mark.parametrize("dtype", [torch.float64, torch.int32, torch.complex64, torch.bool])
def test_other_dtypes_on_a_gpu_take_the_formula(on_gpu: OnGPU, dtype: torch.dtype) -> None:
    on_gpu.dtype = dtype
    assert decide(on_gpu) == (False, f"the tensor is {dtype}")  # type: ignore[arg-type]


def test_a_bias_elsewhere_takes_the_formula_which_says_what_is_wrong(on_gpu: OnGPU) -> None:
    bias = OnGPU()
    bias.device = torch.device("cpu")
    assert decide(on_gpu, bias) == (False, "the tensors are on cuda:0 and cpu")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("capability", "bfloat16", "takes"),
    [((6, 1), False, False), ((7, 0), False, True), ((7, 5), True, False), ((8, 0), True, True)],
)
def test_old_gpus_take_the_formula(
    monkeypatch: pytest.MonkeyPatch, capability: tuple[int, int], bfloat16: bool, takes: bool
) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    monkeypatch.setattr(torch.version, "hip", None)
    reason = _switch._too_old.__wrapped__(torch.device("cuda", 0), bfloat16)
    assert (reason is None) == takes
    assert takes or f"{capability[0]}.{capability[1]}" in str(reason)


def test_a_missing_triton_is_silent_in_auto_and_an_error_in_triton(
    on_gpu: OnGPU, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_switch, "why_missing", lambda: "ModuleNotFoundError: No module named 'triton'")
    kernel, reason = decide(on_gpu)  # type: ignore[arg-type]
    assert not kernel
    assert "No module named 'triton'" in reason
    with backend("triton"):
        with pytest.raises(ImportError, match="pip install triton"):
            uses_kernel(on_gpu)  # type: ignore[arg-type]
        assert explain(on_gpu).startswith("The call raises ImportError")  # type: ignore[arg-type]
        on_gpu.dtype = torch.float64
        assert explain(on_gpu) == "The formula runs: the tensor is torch.float64."  # type: ignore[arg-type]


def test_mode_triton_without_the_interpreter_says_how_to_switch_it_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_switch, "why_missing", lambda: None)
    monkeypatch.setattr(_switch, "is_interpreted", lambda: False)
    with backend("triton"), pytest.raises(RuntimeError, match=r"TRITON_INTERPRET=1 .* or choose mode auto"):
        uses_kernel(torch.zeros(2, 3))


@interpreted
def test_the_interpreter_takes_cpu_tensors_in_mode_triton_only() -> None:
    x = torch.zeros(2, 3)
    assert not uses_kernel(x)
    with backend("triton"):
        assert explain(x) == "The kernel runs: interpreted by Triton."
        assert uses_kernel(nn.Parameter(x), x.half(), x.bfloat16())


class Subclass(Tensor):
    pass


class Watching(TorchDispatchMode):
    def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
        return func(*args, **(kwargs or {}))


@interpreted
@pytest.mark.parametrize(
    ("x", "reason"),
    [
        (torch.zeros(2, 3, dtype=torch.float64), "torch.float64"),
        (torch.zeros(0, 3), "empty"),
        (torch.zeros(2, 3).as_subclass(Subclass), "a Subclass"),
        (torch.zeros(2, 3).to_sparse(), "does not hold"),
        (torch.zeros(2, 3, dtype=torch.complex64).conj().imag, "does not hold"),
        (torch._efficientzerotensor((2, 3)), "does not hold"),
    ],
)
def test_what_a_kernel_cannot_read_takes_the_formula_in_every_mode(x: Tensor, reason: str) -> None:
    for mode in ("auto", "triton", "reference"):
        with backend(mode):
            assert not uses_kernel(x)
            assert not uses_kernel(torch.zeros(2, 3), x)
    with backend("triton"):
        assert reason in decide(x).reason
        assert reason in decide(torch.zeros(2, 3), None, x).reason


@interpreted
@pytest.mark.filterwarnings("ignore:.torch.jit.trace. is deprecated:FutureWarning")
def test_whoever_looks_at_every_operation_sees_the_formula() -> None:
    x = torch.zeros(2, 3)
    with backend("triton"), Watching():
        assert not uses_kernel(x)
    seen: list[bool] = []

    def observed(x: Tensor) -> Tensor:
        seen.append(uses_kernel(x))
        return x * 1

    with backend("triton"):
        torch.jit.trace(observed, (x,), check_trace=False)
        torch.func.vmap(observed)(x)
        torch.func.grad(lambda x: observed(x).sum())(x)
    assert seen == [False, True, True]


@pytest.mark.parametrize("mode", ["auto", "triton"])
def test_a_compiler_sees_the_formula_and_no_break(mode: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GANBLOCKS_BACKEND", mode)
    torch._dynamo.reset()
    compiled = torch.compile(
        lambda x: x * 2 if uses_kernel(x) else x * 3, backend="aot_eager", fullgraph=True, dynamic=False
    )
    assert torch.equal(compiled(torch.ones(2)), torch.full((2,), 3.0))


def test_another_way_on_a_cpu_is_open_in_mode_auto_only(monkeypatch: pytest.MonkeyPatch) -> None:
    x = torch.zeros(2, 3)
    assert is_open_to_cpu(x, x.half(), x.bfloat16())
    with Watching():
        assert is_open_to_cpu(x)
    for closed in (x.double(), x[:0], x.as_subclass(Subclass), x.to("meta")):
        assert not is_open_to_cpu(x, closed)
    for mode in ("reference", "triton"):
        with backend(mode):
            assert not is_open_to_cpu(x)
    compiled = torch.compile(
        lambda x: x * 2 if is_open_to_cpu(x) else x * 3, backend="aot_eager", fullgraph=True, dynamic=False
    )
    assert torch.equal(compiled(torch.ones(2)), torch.full((2,), 3.0))
    monkeypatch.setenv("GANBLOCKS_BACKEND", "Triton")
    with pytest.raises(ValueError, match=r"`GANBLOCKS_BACKEND` is 'Triton', but must be one of auto"):
        is_open_to_cpu(x)


def test_blocks_nest_and_end_with_an_exception_too() -> None:
    x = torch.zeros(2, 3)

    def interrupted() -> None:
        with backend("reference"):
            with backend("auto"):
                assert "cpu" in decide(x).reason
            assert "reference" in decide(x).reason
            raise KeyError

    with pytest.raises(KeyError):
        interrupted()
    assert "cpu" in decide(x).reason


def test_a_block_is_stronger_than_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GANBLOCKS_BACKEND", "reference")
    assert "reference" in decide(torch.zeros(1)).reason
    with backend("auto"):
        assert "cpu" in decide(torch.zeros(1)).reason
    monkeypatch.setenv("GANBLOCKS_BACKEND", "auto")  # read at each decision
    assert "cpu" in decide(torch.zeros(1)).reason


def test_each_task_has_its_own_choice() -> None:
    async def reason(mode: str) -> str:
        with backend(mode):
            await asyncio.sleep(0)
            return decide(torch.zeros(1)).reason

    async def both() -> list[str]:
        return list(await asyncio.gather(reason("reference"), reason("auto")))

    assert asyncio.run(both()) == ["mode reference asks for it", "the tensor is on cpu"]


def test_unknown_names_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match=r"`name` is 'cuda', but must be one of auto, reference, triton"):
        backend("cuda")
    monkeypatch.setenv("GANBLOCKS_BACKEND", "Triton")
    with pytest.raises(ValueError, match=r"`GANBLOCKS_BACKEND` is 'Triton', but must be one of auto"):
        uses_kernel(torch.zeros(1))
    assert explain(torch.zeros(1)).startswith("The call raises ValueError")
    with pytest.raises(TypeError, match="`x` is a list"):
        explain([1.0])  # type: ignore[arg-type]


def test_each_reason_is_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    x = torch.zeros(2, 3)
    with caplog.at_level(logging.DEBUG, logger="ganblocks.ops"):
        for _ in range(3):
            uses_kernel(x)
            with backend("reference"):
                uses_kernel(x)
    assert [record.getMessage() for record in caplog.records] == [
        "the formula runs: the tensor is on cpu",
        "the formula runs: mode reference asks for it",
    ]


LAZY = """
import sys, torch, ganblocks, ganblocks.ops, ganblocks.ops.kernels
from ganblocks.ops._switch import uses_kernel
assert not uses_kernel(torch.zeros(2, 3))
assert "triton" not in sys.modules and not torch.cuda.is_initialized()
"""


def test_neither_import_nor_a_decision_on_a_cpu_loads_triton() -> None:
    environment = {**os.environ, "PYTHONPATH": str(SOURCE)}
    done = subprocess.run([sys.executable, "-c", LAZY], env=environment, capture_output=True, text=True, timeout=280)
    assert done.returncode == 0, done.stderr
