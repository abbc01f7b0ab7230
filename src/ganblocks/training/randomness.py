"""Random numbers as pure functions of the seed, the images seen and a purpose.

Nothing is drawn from a state that must be carried along: a resumed run asks for the same numbers again and gets them.
"""

import dataclasses
import hashlib

import torch

from ganblocks.training.schedule import Phase

__all__ = ["StepContext", "derived_seed"]


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
    """

    seed: int
    images_seen: int
    phase: Phase

    def generator(self, purpose: str) -> torch.Generator:
        """A fresh CPU generator for one purpose in this step, e.g. ``"latents"``."""
        return torch.Generator().manual_seed(derived_seed(self.seed, self.images_seen, purpose))
