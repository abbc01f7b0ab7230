"""Kernel or formula: the one place that decides.

The mode is the variable ``GANBLOCKS_BACKEND``, read at each decision, or inside :func:`backend` what that says:

- ``auto``: the kernel where it can run on a GPU, the formula elsewhere.
- ``reference``: the formula everywhere.
- ``triton``: as ``auto``, but on CPU tensors too, where Triton's interpreter is switched on (``TRITON_INTERPRET=1``),
  and a missing Triton is an error.

In mode ``auto`` a few operations on a CPU call what PyTorch has ready where that is faster than the formula; see
:func:`is_open_to_cpu`.

Whatever a kernel cannot take, float64 and empty tensors among it, goes to the formula without a word in every mode;
:func:`explain` tells why, and each reason is logged once at DEBUG under "ganblocks.ops". An operation decides when it
is called; its gradients of every order follow that decision.
"""

import functools
import logging
import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from contextvars import ContextVar
from typing import NamedTuple

import torch
from torch import Tensor, nn

from ganblocks._checks import require, require_rank
from ganblocks.ops.kernels import is_interpreted, why_missing

__all__ = ["Decision", "backend", "decide", "explain", "is_open_to_cpu", "uses_kernel"]

VARIABLE = "GANBLOCKS_BACKEND"
MODES = ("auto", "reference", "triton")
DTYPES = frozenset({torch.float16, torch.bfloat16, torch.float32})
OLDEST = (7, 0)  # compute capability that Triton compiles for ...
OLDEST_WITH_BFLOAT16 = (8, 0)  # ... and that has instructions for bfloat16

_logger = logging.getLogger("ganblocks.ops")
_mode: ContextVar[str | None] = ContextVar("ganblocks_backend", default=None)


class Decision(NamedTuple):
    """Whether the kernel runs, and why or why not.

    Attributes:
        kernel: True for the kernel, False for the formula.
        reason: Half a sentence.
    """

    kernel: bool
    reason: str


def backend(name: str) -> AbstractContextManager[None]:
    """Choose between kernels and formulas inside a ``with`` block, whatever ``GANBLOCKS_BACKEND`` says.

    Blocks nest; each thread and each asynchronous task has its own choice.

    Args:
        name: "auto", "reference" or "triton"; see the module.

    Raises:
        ValueError: For another name.
    """
    require(name in MODES, "name", name, f"one of {', '.join(MODES)}")
    return _chosen(name)


@contextmanager
def _chosen(name: str) -> Iterator[None]:
    token = _mode.set(name)
    try:
        yield
    finally:
        _mode.reset(token)


def uses_kernel(x: Tensor, *others: Tensor | None) -> bool:
    """Whether the kernel runs on these tensors; also under a compiler, which sees False.

    Raises:
        ValueError: If ``GANBLOCKS_BACKEND`` holds another name.
        ImportError: In mode "triton" without Triton.
        RuntimeError: In mode "triton" for tensors that are not on a GPU, without the interpreter.
    """
    if torch.compiler.is_compiling():  # what follows is not to be traced
        return False
    return decide(x, *others).kernel


def is_open_to_cpu(x: Tensor, *others: Tensor) -> bool:
    """Whether an operation may take another way than the formula on a CPU: mode ``auto``, and tensors for a kernel.

    Modes that look at every operation are no obstacle, since that way is made of PyTorch's own operations.

    Raises:
        ValueError: If ``GANBLOCKS_BACKEND`` holds another name.
    """
    if torch.compiler.is_compiling() or torch._C._is_tracing() or _current_mode() != "auto":
        return False
    return all(tensor.device.type == "cpu" and _obstacle(tensor) is None for tensor in (x, *others))


def explain(x: Tensor, *others: Tensor) -> str:
    """Say which path an operation takes for these tensors, and why.

    Args:
        x: The main argument of the operation, of two dimensions or more.
        others: Its other tensors, such as a bias.

    Returns:
        One sentence, such as "The formula runs: the tensor is on cpu.". Where the call would raise, it says so.
    """
    require_rank(x, "x", 0)
    try:
        decision = decide(x, *others)
    except (ImportError, RuntimeError, ValueError) as error:
        return f"The call raises {type(error).__name__}: {error}."
    return f"The {'kernel' if decision.kernel else 'formula'} runs: {decision.reason}."


def decide(x: Tensor, *others: Tensor | None) -> Decision:
    """Kernel or formula, for these tensors in the mode of this moment; raises as :func:`uses_kernel`."""
    mode = _current_mode()
    if mode == "reference":
        return _formula("mode reference asks for it")
    if mode == "auto" and not x.is_cuda:
        return _elsewhere(x.device)
    if torch.compiler.is_compiling() or torch._C._is_tracing() or torch._C._len_torch_dispatch_stack() > 0:
        return _formula("a compiler, an exporter or a mode that looks at every operation is at work")
    obstacle = _obstacle(x)
    for other in others:
        if other is None or obstacle is not None:
            continue
        obstacle = _obstacle(other)
        if obstacle is None and other.device != x.device:
            obstacle = f"the tensors are on {x.device} and {other.device}"
    return _formula(obstacle) if obstacle is not None else _on_triton(x, mode)


def _current_mode() -> str:
    mode = _mode.get()
    if mode is None:
        mode = os.environ.get(VARIABLE, "auto")
        if mode not in MODES:
            require(False, VARIABLE, mode, f"one of {', '.join(MODES)}")
    return mode


def _obstacle(x: Tensor) -> str | None:
    """What keeps a kernel from reading this tensor; None if nothing does. The tensor may be wrapped by torch.func."""
    if type(x) is not Tensor and type(x) is not nn.Parameter:
        return f"the tensor is a {type(x).__name__}"
    if x.dtype not in DTYPES:
        return f"the tensor is {x.dtype}"
    if x.layout != torch.strided or x.is_neg() or x._is_zerotensor():
        return "the tensor does not hold its values as they are"
    if x.numel() == 0:
        return "the tensor is empty"
    if x.is_cuda:
        return _too_old(x.device, x.dtype == torch.bfloat16)
    return None


@functools.cache
def _too_old(device: torch.device, bfloat16: bool) -> str | None:
    capability = torch.cuda.get_device_capability(device)
    if torch.version.hip is None and capability < (OLDEST_WITH_BFLOAT16 if bfloat16 else OLDEST):
        kind = "bfloat16 on " if bfloat16 else ""
        return f"Triton has no {kind}GPUs of compute capability {capability[0]}.{capability[1]}"
    return None


def _on_triton(x: Tensor, mode: str) -> Decision:
    """The kernel, if Triton is there and can run on this device."""
    missing = why_missing()
    if missing is not None:
        if mode == "triton":
            raise ImportError(f"mode triton needs Triton, which cannot be imported ({missing}): pip install triton")
        return _formula(f"Triton cannot be imported ({missing})")
    if x.is_cuda:
        return _kernel("interpreted by Triton" if is_interpreted() else "the tensor is on a GPU")
    if not is_interpreted():
        raise RuntimeError(
            f"mode triton runs on tensors on {x.device.type} in Triton's interpreter only: set TRITON_INTERPRET=1 in "
            "the environment before Python starts, or choose mode auto"
        )
    return _kernel("interpreted by Triton")


@functools.cache  # so that each reason is logged once
def _formula(reason: str) -> Decision:
    _logger.debug("the formula runs: %s", reason)
    return Decision(False, reason)


@functools.cache
def _kernel(reason: str) -> Decision:
    _logger.debug("the kernel runs: %s", reason)
    return Decision(True, reason)


@functools.cache
def _elsewhere(device: torch.device) -> Decision:
    return _formula(f"the tensor is on {device.type}")
