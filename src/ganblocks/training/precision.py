"""Which numbers a run computes with, and in which memory format."""

import dataclasses
from typing import Any, Literal

import torch
from torch import nn

from ganblocks._checks import require

__all__ = ["Precision", "PrecisionName", "has_fast_bfloat16", "plain_precision", "set_memory_format"]

PrecisionName = Literal["auto", "fp32", "bf16", "fp16"]


def has_fast_bfloat16(device: torch.device) -> bool:
    """Whether bfloat16 products are faster than float32 ones: a GPU that has them, or a CPU with AMX."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    if device.type == "cpu":
        return bool(torch.cpu._is_amx_tile_supported())
    return False


@dataclasses.dataclass(frozen=True)
class Precision:
    """The precision of the networks' forward passes; weights, optimizer state, statistics and norms stay float32.

    Attributes:
        name: ``"fp32"``, ``"bf16"`` or ``"fp16"``.
        device: Where the networks run.
    """

    name: Literal["fp32", "bf16", "fp16"]
    device: torch.device

    @classmethod
    def resolve(cls, name: PrecisionName, device: torch.device | str) -> "Precision":
        """Choose: ``"auto"`` is bf16 where the device is fast at it, fp32 elsewhere.

        Raises:
            ValueError: If the name is unknown.
        """
        device = torch.device(device)
        names = ("auto", "fp32", "bf16", "fp16")
        require(name in names, "precision", name, f"one of {', '.join(names)}")
        if name == "auto":
            return cls("bf16" if has_fast_bfloat16(device) else "fp32", device)
        return cls(name, device)

    @property
    def dtype(self) -> torch.dtype:
        """The dtype of the convolutions."""
        return {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}[self.name]

    @property
    def low(self) -> bool:
        """Whether this is less than float32."""
        return self.name != "fp32"

    def autocast(self, resolution: int | None = None) -> torch.autocast:
        """The context in which the networks run on images of this side, if that is known.

        Below 8 pixels bfloat16 on a CPU gives way to float32: there it takes longer to cast the weights than the
        products gain.
        """
        low = self._low_at(resolution)
        return torch.autocast(self.device.type, dtype=self.dtype if low else None, enabled=low)

    def memory_format(self, resolution: int | None) -> torch.memory_format:
        """Channels last in low precision, and in float32 from 16 pixels up; below that the plain order is faster."""
        if self._low_at(resolution) or (resolution is not None and resolution >= 16):
            return torch.channels_last
        return torch.contiguous_format

    def _low_at(self, resolution: int | None) -> bool:
        tiny = resolution is not None and resolution < 8
        return self.low and not (tiny and self.name == "bf16" and self.device.type == "cpu")


@torch.no_grad()
def set_memory_format(
    memory_format: torch.memory_format, modules: list[nn.Module], optimizers: list[torch.optim.Optimizer]
) -> None:
    """Bring every 4-D weight, its gradient and its optimizer state into one memory format.

    All three must agree: a fused optimizer walks through their memory side by side.
    """
    for module in modules:
        for parameter in module.parameters():
            if parameter.dim() == 4:
                parameter.data = _laid_out(parameter.data, memory_format)
                if parameter.grad is not None:
                    parameter.grad = _laid_out(parameter.grad, memory_format)
    for optimizer in optimizers:
        for state in optimizer.state.values():
            entries: dict[str, Any] = state
            for key, value in entries.items():
                if isinstance(value, torch.Tensor) and value.dim() == 4:
                    entries[key] = _laid_out(value, memory_format)


def _laid_out(tensor: torch.Tensor, memory_format: torch.memory_format) -> torch.Tensor:
    """The tensor in this format, by its strides too.

    ``contiguous`` leaves the strides of a tensor with one channel alone, because all formats are the same memory then.
    But it is the strides by which a convolution chooses the format of its result.
    """
    strides = torch.empty(tensor.shape, memory_format=memory_format, device="meta").stride()
    return tensor if tensor.stride() == strides else torch.empty_like(tensor, memory_format=memory_format).copy_(tensor)


def plain_precision(module: nn.Module) -> Precision:
    """float32 where the module's parameters are; on the CPU where it has none."""
    parameter = next(module.parameters(), None)
    return Precision("fp32", torch.device("cpu") if parameter is None else parameter.device)
