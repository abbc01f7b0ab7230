"""Weights by their own names: without the prefixes that wrappers add, and with an error that says what does not fit."""

from collections import OrderedDict
from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from ganblocks.errors import CheckpointError

__all__ = ["load_weights", "plain_name", "plain_weights"]

_LEADING = {"module", "_orig_mod"}  # DistributedDataParallel and DataParallel; torch.compile
_NAMED = 5  # names listed in a message before "and N more"


def plain_name(name: str) -> str:
    """The name of a weight without wrappers: leading ``module.`` in any number, ``_orig_mod.`` anywhere."""
    parts = name.split(".")
    while len(parts) > 1 and parts[0] in _LEADING:
        parts.pop(0)
    return ".".join(part for part in parts if part != "_orig_mod")


def plain_weights(module: nn.Module) -> dict[str, Any]:
    """The module's ``state_dict`` as it would be without wrappers around it or inside it.

    Raises:
        CheckpointError: If two weights would have one name.
    """
    state = module.state_dict()
    plain: dict[str, Any] = OrderedDict((plain_name(name), value) for name, value in state.items())
    if len(plain) != len(state):
        raise CheckpointError(f"{type(module).__name__} has weights whose names differ only by a wrapper's prefix")
    return plain


def load_weights(
    module: nn.Module, weights: Mapping[str, Any], *, strict: bool = True, assign: bool = False
) -> list[str]:
    """Load weights into a module, whatever wrappers there are around it or were around the one that saved them.

    Args:
        module: The target.
        weights: A state dict.
        strict: Whether names must agree; where not, those on both sides are loaded. Shapes must agree in any case.
        assign: Whether the module takes the given tensors as its own, with their dtype and device, instead of copying
            their values. A module on the meta device needs it.

    Returns:
        Names that exist on one side only, sorted; empty if ``strict``.

    Raises:
        CheckpointError: If they do not fit; lists what is missing, what is unexpected and which shapes differ. The
            module is unchanged.
    """
    wanted = {plain_name(name): name for name in module.state_dict()}
    given = {plain_name(name): value for name, value in weights.items()}
    shapes = {name: tuple(value.shape) for name, value in module.state_dict().items() if isinstance(value, Tensor)}
    missing, unexpected = sorted(wanted.keys() - given.keys()), sorted(given.keys() - wanted.keys())
    differing = [
        f"{name} {tuple(value.shape)} for {shapes[wanted[name]]}"
        for name, value in given.items()
        if isinstance(value, Tensor) and name in wanted and tuple(value.shape) != shapes.get(wanted[name])
    ]
    faults = [("of another shape", differing)]
    if strict:
        faults += [("missing", missing), ("unexpected", unexpected)]
    found = [f"{what}: {_listed(names)}" for what, names in faults if names]
    if found:
        raise CheckpointError(f"the weights do not fit this {type(module).__name__}; " + "; ".join(found))
    fitting = {wanted[name]: value for name, value in given.items() if name in wanted}
    module.load_state_dict(fitting, strict=strict, assign=assign)
    return sorted({*missing, *unexpected})


def _listed(names: list[str]) -> str:
    more = len(names) - _NAMED
    return ", ".join(names[:_NAMED]) + (f" and {more} more" if more > 0 else "")
