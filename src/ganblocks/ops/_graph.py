"""What a Function of ours asks about the tensors it is given and the engine that runs it."""

from typing import Any

import torch
from torch import Tensor
from torch.autograd import forward_ad

__all__ = ["are_wanted", "is_followed", "is_plain", "is_transformed", "is_wanted", "is_wrapped"]


def is_transformed() -> bool:
    """Whether a transform of ``torch.func`` or vmap is running; tensors may then be wrapped."""
    return torch._C._are_functorch_transforms_active()


def is_wrapped(*tensors: Tensor | None) -> bool:
    """Whether one of the tensors stands for several, of ``autograd.grad(..., is_grads_batched=True)``.

    Those are seen neither by :func:`is_transformed` nor by a Function's vmap rule.
    """
    return any(tensor is not None and torch._C._functorch.is_legacy_batchedtensor(tensor) for tensor in tensors)


def is_plain(*tensors: Tensor | None) -> bool:
    """Whether a gradient is left to plain PyTorch: it is transformed or mapped, or forward mode is on."""
    return is_transformed() or forward_ad._current_level >= 0 or is_wrapped(*tensors)


def is_followed() -> bool:
    """Whether what is computed now may itself be differentiated, in whatever mode, or is transformed."""
    return torch.is_grad_enabled() or is_transformed() or forward_ad._current_level >= 0


def is_wanted(ctx: Any, index: int) -> bool:
    """Whether this backward pass goes on to the tensor argument of this number.

    ``needs_input_grad`` alone says whether it *could* be asked for: where ``autograd.grad`` names the images only, the
    gradient of every bias would be computed for nobody.
    """
    return ctx.needs_input_grad[index] and _is_reached(getattr(ctx, "next_functions", None), index)


def are_wanted(ctx: Any, count: int) -> tuple[bool, ...]:
    """`is_wanted` of the first arguments, so many of them."""
    edges = getattr(ctx, "next_functions", None)  # made anew each time it is asked for
    return tuple(needed and _is_reached(edges, index) for index, needed in enumerate(ctx.needs_input_grad[:count]))


def _is_reached(edges: Any, index: int) -> bool:
    """Whether the engine goes along this edge."""
    if edges is None or is_transformed():  # there are none inside torch.func
        return True
    try:
        reached: bool = torch._C._will_engine_execute_node(edges[index][0])
    except (AttributeError, RuntimeError):  # the question is refused for a leaf named in autograd.grad: it is wanted
        return True
    return reached
