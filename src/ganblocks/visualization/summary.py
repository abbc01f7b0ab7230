"""A network as a table: its layers in the order of the call, what they put out, how many parameters they have."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from ganblocks._checks import require
from ganblocks._modes import evaluation_mode

__all__ = ["model_summary"]

_BATCH = 2


@dataclass(frozen=True)
class _Row:
    layer: str
    shape: str
    parameters: int
    note: str = ""


def model_summary(
    module: nn.Module,
    input_shape: Sequence[int] | Sequence[Sequence[int]],
    *,
    dtype: torch.dtype | None = None,
) -> str:
    """List the layers of a network as Keras does, by calling it once with zeros.

    Layers are modules without modules of their own, and any with parameters of their own; each stands there as often
    as it is called. The call runs in evaluation mode without gradients and leaves modes, statistics and the state of
    random generators as they were.

    Args:
        module: Any module whose ``forward`` takes tensors.
        input_shape: Of one example, without the batch: (1, 28, 28). For several inputs one shape each.
        dtype: Of the inputs; ``None`` = that of the first floating-point parameter.

    Returns:
        A table of name and type, output shape with N for the batch, and number of parameters. Parameters that were
        counted above, as those of a layer that is called again or of tied weights, count as 0 and the row says
        "shared"; layers with parameters that the call does not reach stand at the end. Below are the totals:
        parameters, how many of them are trained, and the total as Keras counts it, which includes the running
        statistics of batch normalisation.

    Raises:
        ValueError: A size below 1, or a layer that does not know its size before the first call.
        Exception: Whatever ``module`` raises for these inputs.
    """
    shapes = _checked_shapes(input_shape)
    lazy = [name for name, value in [*module.named_parameters(), *module.named_buffers()] if is_lazy(value)]
    require(not lazy, "module", lazy, "without lazy parameters: call it once before")
    floating = [p for p in module.parameters() if p.is_floating_point()]
    example = floating[0] if floating else torch.empty(0)
    inputs = [
        torch.zeros(_BATCH, *shape, device=example.device, dtype=dtype if dtype is not None else example.dtype)
        for shape in shapes
    ]
    rows = _called_rows(module, inputs)
    trained = sum(p.numel() for p in module.parameters() if p.requires_grad)
    total = sum(p.numel() for p in module.parameters())
    statistics = sum(b.numel() for name, b in module.named_buffers() if _is_running_statistic(name))
    totals = [("Parameters", total), ("  trained", trained), ("  not trained", total - trained)]
    if statistics:
        totals += [("Running statistics", statistics), ("Total as Keras counts", total + statistics)]
    return _table(type(module).__name__, rows, totals)


def _checked_shapes(input_shape: Sequence[int] | Sequence[Sequence[int]]) -> list[tuple[int, ...]]:
    several = len(input_shape) > 0 and all(isinstance(part, Sequence) for part in input_shape)
    parts: Sequence[Any] = input_shape if several else [input_shape]
    shapes = [tuple(shape) for shape in parts]
    valid = all(isinstance(size, int) and size >= 1 for shape in shapes for size in shape)
    require(valid, "input_shape", input_shape, "sizes of at least 1, or one shape for each input")
    return shapes


def _called_rows(module: nn.Module, inputs: Sequence[Tensor]) -> list[_Row]:
    """A row for each call of a layer, then for each layer that was not called."""
    layers = {
        layer: name for name, layer in module.named_modules() if not [*layer.children()] or [*layer.parameters(False)]
    }
    rows: list[_Row] = []
    counted: set[int] = set()
    reached: set[nn.Module] = set()

    def fresh(layer: nn.Module) -> tuple[int, str]:
        own = [*layer.parameters(recurse=False)]
        new = [p for p in own if id(p) not in counted]
        counted.update(map(id, own))
        return sum(p.numel() for p in new), "shared" if len(new) < len(own) else ""

    def told(layer: nn.Module) -> str:
        return f"{layers[layer] or 'self'} ({type(layer).__name__})"

    def note(layer: nn.Module, arguments: Any, output: Any) -> None:
        reached.add(layer)
        rows.append(_Row(told(layer), _shape(output), *fresh(layer)))

    devices = sorted({p.device.index or 0 for p in module.parameters() if p.device.type == "cuda"})
    handles = [layer.register_forward_hook(note) for layer in layers]
    try:
        with evaluation_mode(module), torch.no_grad(), torch.random.fork_rng(devices=devices):
            module(*inputs)
    finally:
        for handle in handles:
            handle.remove()
    for layer in layers:
        if layer not in reached and [*layer.parameters(recurse=False)]:
            number, shared = fresh(layer)
            rows.append(_Row(told(layer), "not reached", number, shared))
    return rows


def _is_running_statistic(name: str) -> bool:
    return name.rpartition(".")[2] in ("running_mean", "running_var")


def _shape(output: Any) -> str:
    if isinstance(output, Tensor):
        sizes = [str(size) for size in output.shape]
        if output.dim() and output.shape[0] == _BATCH:
            sizes[0] = "N"
        return f"[{', '.join(sizes)}]"
    parts = output.values() if isinstance(output, dict) else output if isinstance(output, (tuple, list)) else ()
    return ", ".join(_shape(part) for part in parts if isinstance(part, Tensor)) or "-"


def _table(name: str, rows: Sequence[_Row], totals: Sequence[tuple[str, int]]) -> str:
    cells = [("Layer (type)", "Output shape", "Parameters", "")]
    cells += [(row.layer, row.shape, f"{row.parameters:,}", row.note) for row in rows]
    layer, shape = (max(len(line[column]) for line in cells) for column in (0, 1))
    number = max(len(f"{count:,}") for _, count in totals)
    number = max(number, *(len(line[2]) for line in cells))
    lines = [f"{a:<{layer}}  {b:<{shape}}  {c:>{number}}  {d}".rstrip() for a, b, c, d in cells]
    rule = "-" * max(map(len, lines))
    width = layer + 2 + shape
    told = [f"{label:<{width}}  {count:>{number},}" for label, count in totals]
    width = max(len(rule), max(map(len, told)))
    rule = "-" * width
    return "\n".join([name, rule, lines[0], rule, *lines[1:], rule, *told])
