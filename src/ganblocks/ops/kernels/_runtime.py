"""Whether Triton is there, how it runs, and on which device a kernel is launched."""

import functools
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor

__all__ = ["device_guard", "is_interpreted", "why_missing"]


@functools.cache
def why_missing() -> str | None:
    """Why Triton cannot be imported, or None where it can; the first call imports it."""
    try:
        import triton  # noqa: F401
    except Exception as error:  # a broken installation raises all kinds of things
        return f"{type(error).__name__}: {error}"
    return None


@functools.cache
def is_interpreted() -> bool:
    """Whether Triton runs kernels in its interpreter, which takes tensors of any device.

    Triton settles this while it is imported, from the variable ``TRITON_INTERPRET``: its own functions, which our
    kernels call, are then of one kind or the other.
    """
    import triton
    import triton.language

    return not isinstance(triton.language.cdiv, triton.runtime.JITFunction) and bool(triton.knobs.runtime.interpret)


def device_guard(x: Tensor) -> AbstractContextManager[Any]:
    """Make the device of ``x`` the current one: Triton launches there, and nowhere else."""
    if x.is_cuda and x.device.index != torch.cuda.current_device():
        return torch.cuda.device(x.device)
    return nullcontext()
