"""Several processes, one run: equal networks everywhere, and each process with its part of every batch.

Networks stay plain modules, without a wrapper: after a backward pass the gradients are averaged over the processes, all
of them in one exchange. That is the gradient of the whole batch, whatever the loss is made of, penalties on gradients
included, as long as it is a mean over images. Wrappers that exchange gradients while they arise count on each backward
pass to reach every parameter in the same way, which a penalty alone does not.

Random numbers are those of one process: each draws for the whole batch and keeps its own rows; see
`ganblocks.functional.draw`.
"""

import contextlib
import datetime
import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from ganblocks._checks import require
from ganblocks.errors import DistributedError
from ganblocks.training.state import flatten, unflatten

__all__ = ["ALONE", "Replicas", "current_replicas", "joined_processes"]

_CPU = torch.device("cpu")
_OWN_STATISTICS = (".running_mean", ".running_var")  # each process sees its own part of the batch


class Replicas:
    """The processes that train one set of networks, as one of them sees them. Alone, every method is free.

    A step gets it as ``context.replicas``. Each method is called by all processes, at the same place.

    Args:
        rank: Number of this process, 0 to ``count - 1``; 0 writes.
        count: How many there are.
        group: Of ``torch.distributed``; ``None`` = the default one.
    """

    def __init__(self, rank: int = 0, count: int = 1, group: dist.ProcessGroup | None = None) -> None:
        require(0 <= rank < count, "rank", rank, f"between 0 and `count` - 1, which is {count - 1}")
        self.rank = rank
        self.count = count
        self.group = group

    def __repr__(self) -> str:
        return f"Replicas(rank={self.rank}, count={self.count})"

    def __deepcopy__(self, memo: dict[int, Any]) -> "Replicas":
        return self  # a handle on processes, of which there are no copies

    def average_gradients(self, parameters: Sequence[Tensor], loss: Tensor) -> Tensor:
        """Replace each gradient by its mean over the processes, in one exchange for each dtype (one, as a rule).

        A gradient that a process lacks counts as zeros; one that all lack stays ``None``. What is not finite anywhere
        is not finite everywhere afterwards, so all processes leave out the same updates.

        Args:
            parameters: The same ones in every process, in the same order.
            loss: Of this process, a scalar.

        Returns:
            Its mean over the processes, without graph.
        """
        loss = loss.detach()
        if self.count == 1:
            return loss
        there = torch.tensor([parameter.grad is not None for parameter in parameters], dtype=torch.uint8)
        with self._others():
            dist.all_reduce(there, dist.ReduceOp.MAX, group=self.group)
        used = [parameter for parameter, anywhere in zip(parameters, there.tolist(), strict=True) if anywhere]
        for parameter in used:
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
        gradients = [parameter.grad for parameter in used if parameter.grad is not None]
        by_kind: dict[tuple[torch.dtype, torch.device], list[Tensor]] = {(loss.dtype, loss.device): [loss.clone()]}
        for gradient in gradients:
            by_kind.setdefault((gradient.dtype, gradient.device), []).append(gradient)
        for tensors in by_kind.values():
            flat = torch.cat([tensor.reshape(-1) for tensor in tensors])
            self._sum(flat)
            flat.div_(self.count)
            means = torch.split(flat, [tensor.numel() for tensor in tensors])
            views = [mean.view(tensor.shape) for mean, tensor in zip(means, tensors, strict=True)]
            torch._foreach_copy_(tensors, views)
        return by_kind[loss.dtype, loss.device][0]

    def mean(self, values: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        """The means of some 0-d tensors over the processes, as float64 on the CPU; alone, the values themselves."""
        if self.count == 1:
            return values
        stacked = torch.stack([torch.as_tensor(value).detach().to(_CPU, torch.float64) for value in values.values()])
        self._sum(stacked)
        return dict(zip(values, stacked.div_(self.count).unbind(), strict=True))

    def gather(self, rows: Tensor) -> Tensor:
        """The rows ``[n, ...]`` of all processes in their order, ``[n * count, ...]``, without graph.

        Shape and dtype are the same in every process.
        """
        if self.count == 1:
            return rows.detach()
        whole = torch.empty((self.count * len(rows), *rows.shape[1:]), dtype=rows.dtype, device=rows.device)
        with self._others():
            dist.all_gather(list(torch.split(whole, len(rows))), rows.detach().contiguous(), group=self.group)
        return whole

    def agree(self, number: int, told: float = 0.0) -> tuple[int, float]:
        """The largest ``number`` of all processes, and what the first one ``told``."""
        if self.count == 1:
            return number, told
        with self._others():
            numbers = torch.tensor([number], dtype=torch.int64)
            dist.all_reduce(numbers, dist.ReduceOp.MAX, group=self.group)
            value = torch.tensor([told], dtype=torch.float64)
            dist.broadcast(value, dist.get_global_rank(self.group, 0) if self.group else 0, group=self.group)
        return int(numbers), float(value)

    @contextlib.contextmanager
    def in_turn(self) -> Iterator[None]:
        """What stands inside is done by the first process, then by the others: they find what it has left on a disk."""
        if self.rank:
            self.agree(0)
        yield
        if not self.rank:
            self.agree(0)

    def share(self, state: Any) -> Any:
        """What the first process has, in all of them; see `ganblocks.training.state` for what it may hold.

        Args:
            state: Nested state with tensors; what the other processes give is not looked at.

        Returns:
            ``state`` itself in the first process, an equal one on the CPU in the others.
        """
        if self.count == 1:
            return state
        tensors, document = flatten(state) if self.rank == 0 else ({}, None)
        kinds = {name: (str(t.dtype).removeprefix("torch."), list(t.shape)) for name, t in tensors.items()}
        text = self._share_text(json.dumps([document, kinds], allow_nan=False) if self.rank == 0 else "")
        document, kinds = json.loads(text)
        for name, (dtype, shape) in kinds.items():
            if self.rank:
                tensors[name] = torch.empty(shape, dtype=getattr(torch, dtype))
            if tensors[name].numel():
                self._broadcast(tensors[name].view(-1).view(torch.uint8))
        return state if self.rank == 0 else unflatten(tensors, document)

    def require_equal(self, state: Any, what: str) -> None:
        """Raise in every process if a tensor of a nested state differs between them by a bit.

        Running means and variances of batch normalisation are left out: each process has those of its own images.

        Args:
            state: As `share` takes it.
            what: What it is, for the message.

        Raises:
            DistributedError: A tensor differs; the message names some.
        """
        if self.count == 1:
            return
        tensors, _ = flatten(state)
        sums = {name: _checksum(t) for name, t in tensors.items() if not name.endswith(_OWN_STATISTICS)}
        most, fewest = self._extremes([len(sums)])
        if most != fewest:
            raise DistributedError(
                f"{what} holds {fewest[0]} to {most[0]} tensors, but must hold the same in each process"
            )
        differing = [name for name, high, low in zip(sums, *self._extremes(sums.values()), strict=True) if high != low]
        if differing:
            more = f" and {len(differing) - 3} more" if len(differing) > 3 else ""
            raise DistributedError(
                f"{what} is no longer the same in all {self.count} processes: {', '.join(differing[:3])}{more}. "
                "Every process must make the same updates: a step hands its gradients to "
                "`context.replicas.average_gradients`, and what else changes weights must do so everywhere"
            )

    def _extremes(self, numbers: Iterable[int]) -> tuple[list[int], list[int]]:
        """The largest and the smallest of each number over the processes."""
        mine = torch.tensor(list(numbers), dtype=torch.int64)
        both = torch.stack([mine, ~mine])  # not the negative, which the smallest number lacks
        with self._others():
            dist.all_reduce(both, dist.ReduceOp.MAX, group=self.group)
        return both[0].tolist(), both[1].bitwise_not().tolist()

    def _share_text(self, text: str) -> str:
        data = torch.tensor(list(text.encode()), dtype=torch.uint8)
        length, _ = self.agree(len(data))
        data = data if self.rank == 0 else torch.empty(length, dtype=torch.uint8)
        self._broadcast(data)
        return bytes(data.tolist()).decode()

    def _broadcast(self, tensor: Tensor) -> None:
        with self._others():
            dist.broadcast(tensor, dist.get_global_rank(self.group, 0) if self.group else 0, group=self.group)

    def _sum(self, tensor: Tensor) -> None:
        with self._others():
            dist.all_reduce(tensor, group=self.group)

    @contextlib.contextmanager
    def _others(self) -> Iterator[None]:
        """Whatever goes wrong in an exchange becomes a DistributedError."""
        try:
            yield
        except RuntimeError as error:
            first = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
            raise DistributedError(
                f"process {self.rank} of {self.count} cannot reach the others any more: one has ended, failed or "
                f"hangs, and its own message says why ({first})"
            ) from error


ALONE = Replicas()
"""One process."""


def current_replicas() -> Replicas:
    """The processes of this run: those of ``torch.distributed`` where it was initialised, else this one alone.

    Raises:
        DistributedError: ``torchrun`` has started several processes, but they were not joined, or by a backend for
            GPUs only.
    """
    if dist.is_available() and dist.is_initialized():
        backends = dist.distributed_c10d.get_backend_config()
        if "cpu" not in backends:
            raise DistributedError(
                f"the processes were joined with the backend {backends}, but the hosts must be able to talk, too: use "
                '`ganblocks.training.joined_processes()`, or init_process_group("cpu:gloo,cuda:nccl")'
            )
        return Replicas(dist.get_rank(), dist.get_world_size())
    if _world_size() > 1:
        raise DistributedError(
            f"torchrun has started {_world_size()} processes that know nothing of each other: do the work inside "
            "`with ganblocks.training.joined_processes():`"
        )
    return ALONE


@contextlib.contextmanager
def joined_processes(*, timeout_minutes: float = 30.0) -> Iterator[Replicas]:
    """Join the processes that ``torchrun`` has started; what stands inside runs in each of them.

    Without ``torchrun`` nothing happens. With it each process takes the GPU of its number on its machine, if there are
    any, so that ``"cuda"`` means that one; and only the first process prints to standard output.

    Args:
        timeout_minutes: Longest wait of one process for the others, above 0: the longest pause in which only the first
            one works (measurements, samples, checkpoints) must fit.

    Raises:
        DistributedError: The processes do not find each other, or a machine has fewer GPUs than processes.
    """
    require(timeout_minutes > 0, "timeout_minutes", timeout_minutes, "above 0")
    if "RANK" not in os.environ or "WORLD_SIZE" not in os.environ or dist.is_initialized():
        yield current_replicas()
        return
    gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
    local = int(os.environ.get("LOCAL_RANK", "0"))
    if gpus and local >= gpus:
        raise DistributedError(f"this machine has {gpus} GPUs, too few for process {local} (numbered from 0) on it")
    if gpus:
        torch.cuda.set_device(local)
    try:
        # Gradients on GPUs go through NCCL; what the hosts tell each other goes through Gloo and makes no GPU wait.
        backend = "cpu:gloo,cuda:nccl" if gpus else "gloo"
        dist.init_process_group(backend, timeout=datetime.timedelta(minutes=timeout_minutes))
    except (RuntimeError, ValueError) as error:
        raise DistributedError(f"the processes of torchrun do not find each other: {error}") from error
    try:
        replicas = current_replicas()
        with contextlib.ExitStack() as quiet:
            if replicas.rank:
                quiet.enter_context(contextlib.redirect_stdout(quiet.enter_context(open(os.devnull, "w"))))
            yield replicas
    finally:
        dist.destroy_process_group()


def _world_size() -> int:
    text = os.environ.get("WORLD_SIZE", "1")
    return int(text) if text.isdigit() and "RANK" in os.environ else 1


def _checksum(tensor: Tensor) -> int:
    """Of the bits and their places: the sum of a bijective hash of each word, so that one that differs always shows."""
    data = tensor.reshape(-1).view(torch.uint8)
    words = torch.nn.functional.pad(data, (0, -len(data) % 8)).view(torch.int64)
    words = words + torch.arange(1, len(words) + 1, dtype=torch.int64).mul_(-0x61C8864680B583EB)
    for shift, factor in ((30, -0x40A7B892E31B1A47), (27, -0x6B2FB644ECCEEE15)):  # Steele et al. 2014, SplitMix64
        words = words.bitwise_xor_((words >> shift) & (1 << 64 - shift) - 1).mul_(factor)
    return int(words.sum())
