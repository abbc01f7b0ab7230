"""The generator that a run has left, as commands use it: how far it has grown, and pictures from seeds."""

import inspect
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ganblocks.cli.arguments import newest_checkpoint
from ganblocks.errors import CheckpointError, NonFiniteError
from ganblocks.functional.image_range import to_uint8
from ganblocks.models.registry import generator_from_metadata
from ganblocks.training.checkpoint_format import Checkpoint
from ganblocks.training.saved_weights import weights_of
from ganblocks.training.weights import load_weights

__all__ = ["TrainedGenerator"]

BATCH_PIXELS = 2**20  # of one batch of samples: 64 of 128 x 128, 1 of 1024 x 1024 ...
LARGEST_BATCH = 64  # ... and never more than these


class TrainedGenerator:
    """The generator of a run's newest intact checkpoint: the moving average where there is one.

    Args:
        path: As `newest_checkpoint` takes it.
        device: Where it runs.

    Attributes:
        images_seen: Real images seen when the checkpoint was written.
        side: Of its pictures, in pixels.
        image_channels: Of its pictures.

    Raises:
        CheckpointError: There is no intact checkpoint, or it is not that of a known generator.
    """

    def __init__(self, path: Path, device: torch.device) -> None:
        checkpoint = newest_checkpoint(path)
        with torch.device("meta"):  # the file's claims cost no memory before its weights have confirmed them
            generator = generator_from_metadata(checkpoint.metadata)
        dtypes = {name: tensor.dtype for name, tensor in generator.state_dict().items()}
        weights = weights_of(checkpoint)[1]
        if other := [name for name, tensor in weights.items() if dtypes.get(name, tensor.dtype) != tensor.dtype]:
            name = other[0]
            raise CheckpointError(f"{checkpoint.path}: {name!r} is {weights[name].dtype}, but must be {dtypes[name]}")
        load_weights(generator, weights, assign=True)
        resolution, self._alpha, self._truncation = _state_of_growth(checkpoint)
        config: Any = generator.config
        self._generator: Any = generator.eval().to(device)
        self._grows = "resolution" in inspect.signature(generator.forward).parameters
        self.images_seen: int = checkpoint.images_seen
        self.side: int = resolution if self._grows and resolution is not None else config.resolution
        self.image_channels: int = config.image_channels

    @torch.inference_mode()
    def pictures(self, count: int, *, seed: int, truncation: float | None = None) -> Iterator[Tensor]:
        """Images as bytes on the CPU, batch by batch, those of ``generator.sample``: all latents come from one draw.

        Args:
            count: How many.
            seed: Of the latents.
            truncation: Bound of the latents; ``None`` = as the run drew them.

        Raises:
            NonFiniteError: The generator gives NaN.
        """
        generator, config = self._generator, self._generator.config
        truncation = self._truncation if truncation is None else truncation
        grown = {"resolution": self.side, "alpha": self._alpha} if self._grows else {}
        latents: Tensor = generator.sample_latents(count, seed=seed, truncation=truncation)
        labels = torch.arange(count, device=latents.device) % config.num_classes if config.num_classes else None
        size = max(1, min(LARGEST_BATCH, BATCH_PIXELS // self.side**2))
        for start in range(0, count, size):
            classes = None if labels is None else labels[start : start + size]
            images = generator(latents[start : start + size], classes, **grown)
            if images.isnan().any():
                raise NonFiniteError("the generator gives NaN: its weights, or what it was trained to, are broken")
            yield to_uint8(images).cpu()


def _state_of_growth(checkpoint: Checkpoint) -> tuple[int | None, float, float | None]:
    """Resolution, alpha and truncation that the metadata give."""
    phase, truncation = checkpoint.metadata.get("phase", {}), checkpoint.metadata.get("truncation")
    if isinstance(phase, dict):
        resolution, alpha = phase.get("resolution"), phase.get("alpha", 1.0)
        numbers = isinstance(alpha, int | float) and (truncation is None or isinstance(truncation, int | float))
        if numbers and (resolution is None or type(resolution) is int):
            return resolution, alpha, truncation
    raise CheckpointError(f"{checkpoint.path}: the metadata's phase {phase!r} or truncation {truncation!r} is no such")
