"""Random numbers as pure functions of the seed, the images seen and a purpose.

Nothing is drawn from a state that must be carried along: a resumed run asks for the same numbers again and gets them.
"""

import contextlib
import dataclasses
import hashlib
from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from ganblocks.functional.draws import PartGenerator
from ganblocks.training.distributed import ALONE, Replicas
from ganblocks.training.schedule import Phase

__all__ = ["StepContext", "derived_seed", "own_randomness"]


def derived_seed(*parts: object) -> int:
    """A 63-bit seed from any printable parts: the same for the same parts, unrelated for others."""
    digest = hashlib.blake2b("/".join(map(str, parts)).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1


@dataclasses.dataclass(frozen=True)
class StepContext:
    """What a training step may know besides its batch.

    Attributes:
        seed: Seed of the run.
        images_seen: Real images seen before this batch.
        phase: What the schedule says for this batch.
        replicas: The processes that share the batch; a step averages its gradients over them.
        part: Which part of the batch this step has, 0 to ``parts - 1``.
        parts: In how many equal parts the batch is dealt with, in all processes together.
    """

    seed: int
    images_seen: int
    phase: Phase
    replicas: Replicas = ALONE
    part: int = 0
    parts: int = 1

    def generator(self, purpose: str) -> torch.Generator:
        """A fresh CPU generator for one purpose in this step, e.g. ``"latents"``.

        Where the batch has parts it is a `ganblocks.functional.PartGenerator`: what our functions draw with it are the
        numbers that this part of the whole batch gets, what others draw is unrelated between the parts.
        """
        seed = derived_seed(self.seed, self.images_seen, purpose)
        if self.parts == 1:
            return torch.Generator().manual_seed(seed)
        return PartGenerator(seed, self.part, self.parts)

    def drawn(self, purpose: str, make: Callable[[torch.Generator], Tensor], device: torch.device) -> Tensor:
        """What ``make`` draws with the generator of a purpose, on a device."""
        return make(self.generator(purpose)).to(device, non_blocking=True)

    def seeded(self, seed: int, device: torch.device) -> contextlib.AbstractContextManager[None]:
        """Global generators of torch, on the CPU and a device, start from a seed inside and are put back after."""
        return _seeded(seed, device)

    def divided(self, part: int, parts: int) -> "StepContext":
        """The context of one of ``parts`` equal parts of what this one stands for."""
        return dataclasses.replace(self, part=self.part * parts + part, parts=self.parts * parts)


def own_randomness(
    context: StepContext, device: torch.device, purpose: str = "network"
) -> contextlib.AbstractContextManager[None]:
    """What networks draw while they run (dropout) becomes a pure function of the seed, the images seen and a purpose.

    torch's global generators start from there, and go on afterwards as if nothing had been drawn. Where a batch has
    parts, each draws its own numbers: how many a network takes nobody knows, so these are not those of the whole batch.

    Args:
        context: Of the step.
        device: Where the networks run; its generator is set besides that of the CPU.
        purpose: Tells the passes of one step apart.
    """
    of_part = (f"part {context.part}",) if context.part else ()
    return context.seeded(derived_seed(context.seed, context.images_seen, purpose, *of_part), device)


@contextlib.contextmanager
def _seeded(seed: int, device: torch.device) -> Iterator[None]:
    on_gpu = device.type == "cuda"
    index = torch.cuda.current_device() if on_gpu and device.index is None else device.index
    with torch.random.fork_rng(devices=[index] if on_gpu else []):
        torch.default_generator.manual_seed(seed)
        if on_gpu:
            torch.cuda.default_generators[index].manual_seed(seed)
        yield
