"""The one way this library complains about an argument: its name, its value, what was expected."""

from typing import Any

from torch import Tensor

__all__ = ["require", "require_rank", "require_same_shape"]


def require(condition: bool, argument: str, value: object, expected: str, error: type[Exception] = ValueError) -> None:
    """Raise ``error`` with "`argument` is value, but must be expected" unless ``condition`` holds."""
    if not condition:
        raise error(f"`{argument}` is {value!r}, but must be {expected}")


def require_rank(tensor: Tensor, argument: str, minimum: int, maximum: int | None = None) -> None:
    """Raise unless ``tensor`` has between ``minimum`` and ``maximum`` dimensions (no upper bound for None)."""
    if not isinstance(tensor, Tensor):
        raise TypeError(f"`{argument}` is a {type(tensor).__name__}, but must be a tensor")
    if tensor.dim() < minimum or (maximum is not None and tensor.dim() > maximum):
        bound = f"{minimum}" if maximum == minimum else f"{minimum} to {'any' if maximum is None else maximum}"
        raise ValueError(f"`{argument}` has shape {tuple(tensor.shape)}, but must have {bound} dimensions")


def require_same_shape(first: Tensor, second: Tensor, first_name: str, second_name: str) -> None:
    """Raise unless both tensors have one shape; broadcasting would hide the mistake."""
    first_shape: tuple[Any, ...] = tuple(first.shape)
    second_shape: tuple[Any, ...] = tuple(second.shape)
    if first_shape != second_shape:
        raise ValueError(
            f"`{first_name}` has shape {first_shape} and `{second_name}` has shape {second_shape}; they must be equal"
        )
