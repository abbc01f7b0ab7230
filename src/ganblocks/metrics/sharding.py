"""Rows that lie in several processes, put together again in the order of one process."""

import hashlib

import torch
import torch.distributed as dist
from torch import Tensor

from ganblocks._checks import require
from ganblocks.errors import DistributedError

__all__ = ["exchange_device", "gather_rows", "largest_of_all", "require_same_text"]

_MOST_DIMENSIONS = 8


def gather_rows(rows: Tensor, group: dist.ProcessGroup | None = None) -> Tensor:
    """All rows of all processes, where rank r has the rows r, r + world size, r + 2 * world size and so on.

    Every process must call it. Nothing is padded with copies, so counts and scores are those of one process.

    Args:
        rows: ``[n, ...]``, with one shape of a row and one dtype in all processes; n may be 0 (the rest of the shape
            does not matter then).
        group: Of processes; ``None`` = the default one.

    Returns:
        ``[N, ...]`` in every process, on the device of ``rows``; ``rows`` itself where there is no process group.

    Raises:
        DistributedError: The processes have rows of different shapes, or their numbers are not those of such parts.
        ValueError: More than 8 dimensions.
    """
    if not dist.is_initialized():
        return rows
    require(1 <= rows.dim() <= _MOST_DIMENSIONS, "rows", tuple(rows.shape), f"of 1 to {_MOST_DIMENSIONS} dimensions")
    world = dist.get_world_size(group)
    device = exchange_device(group, rows.device)
    mine = torch.zeros(1 + _MOST_DIMENSIONS, dtype=torch.int64, device=device)
    mine[: 1 + rows.dim()] = torch.tensor([rows.dim(), *rows.shape])
    all_shapes = [torch.empty_like(mine) for _ in range(world)]
    dist.all_gather(all_shapes, mine, group=group)
    shapes = [tuple(found[1 : 1 + found[0]]) for found in (one.tolist() for one in all_shapes)]
    counts = [shape[0] for shape in shapes]
    total, largest = sum(counts), max(counts)
    if total == 0:
        return rows
    kinds = {shape[1:] for shape in shapes if shape[0]}
    expected = [(total - rank + world - 1) // world for rank in range(world)]
    if len(kinds) > 1 or counts != expected:
        raise DistributedError(
            f"the processes hold {counts} rows of shapes {sorted(kinds)}, but must hold {expected} rows of one shape, "
            "rank r the images r, r + world size and so on"
        )
    row = kinds.pop()
    padded = torch.zeros((largest, *row), dtype=rows.dtype, device=device)
    if len(rows):
        padded[: len(rows)] = rows
    parts = [torch.empty_like(padded) for _ in range(world)]
    dist.all_gather(parts, padded, group=group)
    in_order = torch.stack(parts, dim=1).reshape(largest * world, *row)  # row j of rank r is number j * world + r
    return in_order[:total].to(rows.device)


def largest_of_all(number: int, group: dist.ProcessGroup | None = None) -> int:
    """The largest of one number a process; the number itself where there is no process group."""
    if not dist.is_initialized():
        return number
    value = torch.tensor(number, device=exchange_device(group, torch.device("cpu")))
    dist.all_reduce(value, dist.ReduceOp.MAX, group=group)
    return int(value)


def require_same_text(text: str, what: str, group: dist.ProcessGroup | None = None) -> None:
    """Raise in all processes unless all have the same text.

    Args:
        text: Any.
        what: What it describes, for the message.
        group: Of processes; ``None`` = the default one.

    Raises:
        DistributedError: They differ.
    """
    number = int.from_bytes(hashlib.sha256(text.encode()).digest()[:7], "big")
    if largest_of_all(number, group) != -largest_of_all(-number, group):
        raise DistributedError(f"{what} differ between the processes; here: {text}")


def exchange_device(group: dist.ProcessGroup | None, preferred: torch.device) -> torch.device:
    """Where tensors must lie to be exchanged: NCCL takes those on a GPU only, Gloo is safe with those on the CPU."""
    if dist.get_backend(group) == "nccl":
        return preferred if preferred.type == "cuda" else torch.device("cuda", torch.cuda.current_device())
    return torch.device("cpu")
