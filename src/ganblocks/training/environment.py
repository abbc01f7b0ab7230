"""What a run was computed with, and whether going on elsewhere would still be the same run to the last bit."""

import contextlib
import os
import platform
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ganblocks._version import __version__
from ganblocks.errors import RunMismatchError

__all__ = [
    "accepted_differences",
    "describe_environment",
    "deterministic_algorithms",
    "device_of",
    "environment_differences",
    "flushed_denormals",
    "settled_arithmetic",
]

_COMPARED = (  # a change of one of these can change the last bit of a sum
    "torch", "threads", "machine", "cpu", "amx", "gpus", "deterministic", "float32_matmul", "tf32", "processes",
    "device", "batch_size", "denormals",
)  # fmt: skip


def describe_environment() -> dict[str, Any]:
    """Versions, processor, threads and flags, as JSON. The first ones below change results; the rest is for the record.

    ``torch``, ``threads``, ``machine``, ``cpu`` (the instruction set in use), ``amx``, ``gpus``, ``deterministic``,
    ``float32_matmul``, ``tf32``, ``processes``, ``denormals``; ``ganblocks``, ``python``, ``numpy``, ``cuda``,
    ``system``, ``cores``.
    """
    gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
    return {
        "torch": str(torch.__version__),
        "threads": torch.get_num_threads(),
        "machine": platform.machine(),
        "cpu": torch.backends.cpu.get_cpu_capability(),
        "amx": bool(torch.cpu._is_amx_tile_supported()),
        "gpus": [torch.cuda.get_device_name(index) for index in range(gpus)],
        "deterministic": torch.are_deterministic_algorithms_enabled(),
        "float32_matmul": torch.get_float32_matmul_precision(),
        "tf32": bool(torch.backends.cudnn.allow_tf32) if gpus else False,
        "processes": 1,
        "denormals": _denormals(),
        "ganblocks": __version__,
        "python": platform.python_version(),
        "numpy": np.__version__,
        "cuda": torch.version.cuda if gpus else None,
        "system": platform.system(),
        "cores": os.cpu_count() or 1,
    }


def environment_differences(saved: Mapping[str, Any] | None, now: Mapping[str, Any]) -> list[str]:
    """What differs among the things that can change the last bit, one sentence each; empty if nothing does.

    Args:
        saved: What the checkpoint says, or ``None`` if it says nothing.
        now: `describe_environment`, with ``device`` and ``batch_size`` where the caller knows them.
    """
    if saved is None:
        return ["the checkpoint does not say what it was computed with"]
    on_gpu = now.get("device") not in (None, "cpu")
    compared = [key for key in _COMPARED if not (on_gpu and key == "denormals")]  # those of a GPU are another matter
    return [
        f"{key}: {saved.get(key)!r} there, {now.get(key)!r} now" for key in compared if saved.get(key) != now.get(key)
    ]


def accepted_differences(state: Mapping[str, Any], now: Mapping[str, Any], path: Path, *, exact: bool) -> list[str]:
    """How a run that goes on from a checkpoint may differ in the last bits from one without interruption.

    Args:
        state: Of the checkpoint.
        now: `describe_environment`, with ``device`` and ``batch_size``.
        path: Of the checkpoint, for messages.
        exact: Whether a difference is an error.

    Raises:
        RunMismatchError: There is a difference, and ``exact`` is set; the message lists all.
    """
    differences = environment_differences(state.get("environment"), now)
    if "random" not in state:
        differences.append("the checkpoint holds no random state")
    if differences and exact:
        raise RunMismatchError(
            f"going on from {path} would not give the same bits:\n"
            + "".join(f"  {difference}\n" for difference in differences)
            + 'Set these back, or accept it with resume="lenient" (--resume lenient)'
        )
    return differences


def device_of(step: object) -> str | None:
    """Kind of the device that a training step says it computes on, such as ``"cuda"``; ``None`` if it says nothing."""
    precision = getattr(step, "precision", None)
    return None if precision is None else str(precision.device.type)


@contextlib.contextmanager
def settled_arithmetic(*, deterministic: bool) -> Iterator[None]:
    """What a run computes in: `flushed_denormals`, and `deterministic_algorithms` where wanted."""
    with flushed_denormals(), deterministic_algorithms(deterministic):
        yield


@contextlib.contextmanager
def deterministic_algorithms(enabled: bool) -> Iterator[None]:
    """While active, an operation that has no deterministic form raises instead of running; flags are put back after.

    Args:
        enabled: ``False`` changes nothing.
    """
    if not enabled:
        yield
        return
    before = torch.are_deterministic_algorithms_enabled()
    warn_only = torch.is_deterministic_algorithms_warn_only_enabled()
    benchmark = torch.backends.cudnn.benchmark
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # cuBLAS reads it when it is first used
    torch.use_deterministic_algorithms(True)
    torch.backends.cudnn.benchmark = False
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before, warn_only=warn_only)
        torch.backends.cudnn.benchmark = benchmark


@contextlib.contextmanager
def flushed_denormals() -> Iterator[None]:
    """While active, this CPU thread takes numbers too small for full precision (below 1.2e-38 in float32) for 0.

    Moments of Adam decay into that range wherever a gradient stays 0 (dead units, pixels that are always black) and
    never leave it; arithmetic on them is ten to a hundred times slower. Threads that PyTorch starts while this is
    active do the same, those that it has started before do not; `describe_environment` tells which. So with several
    threads it should be entered before any other work, as the examples do.
    """
    before = _left(1) == 0  # of this thread: so small a tensor starts no others
    for kind in (np.float32, np.float64):
        np.finfo(kind)  # older NumPy measures it when first asked, and would warn that there are no denormals
    torch.set_flush_denormal(True)
    try:
        yield
    finally:
        torch.set_flush_denormal(before)


def _denormals() -> str:
    """``"flushed"`` to 0, ``"kept"``, or ``"mixed"`` where PyTorch's threads on this CPU do not agree."""
    elements = 65_536 * torch.get_num_threads()  # enough for each thread to get some
    left = _left(elements)
    return "flushed" if left == 0 else "kept" if left == elements else "mixed"


def _left(elements: int) -> int:
    """How many of so many denormals are left by a multiplication."""
    bits = torch.full((elements,), 1 << 16, dtype=torch.int32, device="cpu")  # 9.2e-41 as float32
    return int((bits.view(torch.float32) * 1.0).view(torch.int32).count_nonzero())
