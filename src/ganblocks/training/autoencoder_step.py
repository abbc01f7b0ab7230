"""The science of one batch for autoencoders, and how well they rebuild images kept from training."""

from collections.abc import Callable
from typing import Protocol, cast

import torch
from torch import Tensor, nn

from ganblocks._checks import require, require_same_shape
from ganblocks._modes import evaluation_mode
from ganblocks.errors import EmptyDatasetError
from ganblocks.functional.image_range import intensities
from ganblocks.losses.reconstruction import squared_error
from ganblocks.training.network_step import NetworkStep
from ganblocks.training.precision import Precision, plain_precision
from ganblocks.training.randomness import StepContext

__all__ = ["AutoencoderStep", "Corruption", "ReconstructionLoss", "evaluate_autoencoder", "reconstruct"]

ReconstructionLoss = Callable[[Tensor, Tensor], Tensor]
"""Maps (reconstructed, images) to a scalar, the mean over the batch; see `ganblocks.losses.reconstruction`."""


class Corruption(Protocol):
    """Noise that the network has to remove; see `ganblocks.functional.corruption`.

    ``functools.partial(gaussian_noise, std=0.2)`` is one.
    """

    def __call__(self, images: Tensor, /, *, generator: torch.Generator) -> Tensor:
        """A noisy copy of ``images``, of the same shape, drawn from ``generator``."""
        ...


class AutoencoderStep(NetworkStep):
    """One update of an autoencoder by the distance between what it rebuilds and the image.

    With a corruption this is a denoising autoencoder (Vincent et al. 2008): it is given the noisy image and compared
    with the clean one. The noise, and what the network draws while it runs (dropout), are pure functions of the run's
    seed and the images seen.

    Args:
        model: Intensities in [0, 1] to intensities, or whatever ``prepare`` makes of a batch to the same. Its mode is
            left as it is.
        optimizer: Over the model's parameters.
        loss: See `ganblocks.losses.reconstruction`.
        logits: Whether the loss is of the model's method ``logits(images)`` rather than of its images, as in
            ``functools.partial(bernoulli, logits=True)``.
        corruption: What the images suffer on their way into the model; ``None`` = nothing.
        prepare: What makes the model's inputs of a batch; `intensities` takes uint8 and images in [-1, 1]. ``None`` =
            batches are inputs already, such as the codes of another network.
        precision: Of the forward pass; ``None`` = float32 on the CPU. The loss is computed in at least float32.
        max_skipped_updates: Updates that may be left out because the loss or a gradient is not finite, before the
            trainer raises `NonFiniteError`; see `ganblocks.training.guard`.
        micro_batch: Images that pass through the network at once, at most; ``None`` = all of a batch.

    Raises:
        TypeError: If ``logits`` is set, but the model has no such method.
        ValueError: If ``max_skipped_updates`` is negative.
    """

    def __init__(
        self,
        model: nn.Module,
        *,
        optimizer: torch.optim.Optimizer,
        loss: ReconstructionLoss = squared_error,
        logits: bool = False,
        corruption: Corruption | None = None,
        prepare: Callable[[Tensor], Tensor] | None = intensities,
        precision: Precision | None = None,
        max_skipped_updates: int = 0,
        micro_batch: int | None = None,
    ) -> None:
        _forward(model, logits)
        super().__init__(
            "model",
            optimizer=optimizer,
            precision=precision,
            max_skipped_updates=max_skipped_updates,
            called="autoencoder",
            micro_batch=micro_batch,
        )
        self.model = model
        self.loss = loss
        self.logits = logits
        self.corruption = corruption
        self.prepare = prepare

    def __call__(self, images: Tensor, labels: Tensor | None, context: StepContext) -> dict[str, Tensor]:
        """Train on one batch; labels are not looked at.

        Returns:
            ``loss`` of this batch before its update, a 0-d tensor without graph.

        Raises:
            ValueError: If what the model or the corruption returns does not have the shape of what it was given.
        """
        return super().__call__(images, None, context)

    def _inputs(self, images: Tensor, labels: Tensor | None) -> tuple[Tensor, Tensor | None]:
        return _as_input(images, self.prepare, self.precision), labels

    def _loss(self, images: Tensor, labels: Tensor | None, context: StepContext) -> tuple[Tensor, dict[str, Tensor]]:
        given = images
        if self.corruption is not None:
            given = self.corruption(images, generator=context.generator("corruption"))
            require_same_shape(given, images, "corruption(images)", "images")
        with self.precision.autocast():
            output = _forward(self.model, self.logits)(given)
        require_same_shape(output, images, "model(images)", "images")
        return self.loss(_at_least_float32(output), images), {}


@torch.no_grad()
def reconstruct(
    model: nn.Module,
    images: Tensor,
    *,
    prepare: Callable[[Tensor], Tensor] | None = intensities,
    batch_size: int = 512,
    precision: Precision | None = None,
) -> Tensor:
    """What a model makes of many images, in evaluation mode; every submodule gets its own mode back.

    Args:
        model: As for `AutoencoderStep`.
        images: ``[N, ...]``, as ``prepare`` takes them, at least one.
        prepare: As for `AutoencoderStep`; ``None`` = the images are the model's inputs already, such as noisy ones.
        batch_size: Images rebuilt at a time.
        precision: Of the forward pass and where it runs; ``None`` = float32, where the model's parameters are.

    Returns:
        float32 (float64 stays float64) ``[N, ...]`` on the CPU.

    Raises:
        EmptyDatasetError: If there is no image.
        ValueError: If ``batch_size`` is below 1.
    """
    require(batch_size >= 1, "batch_size", batch_size, "at least 1")
    if len(images) == 0:
        raise EmptyDatasetError("`images` has none")
    precision = precision or plain_precision(model)
    with evaluation_mode(model), precision.autocast():
        parts = [model(_as_input(part, prepare, precision)) for part in torch.split(images, batch_size)]
    return _at_least_float32(torch.cat([part.cpu() for part in parts]))


@torch.no_grad()
def evaluate_autoencoder(
    model: nn.Module,
    images: Tensor,
    *,
    inputs: Tensor | None = None,
    loss: ReconstructionLoss = squared_error,
    logits: bool = False,
    prepare: Callable[[Tensor], Tensor] | None = intensities,
    batch_size: int = 512,
    precision: Precision | None = None,
) -> dict[str, float]:
    """Loss and mean squared error on images kept from training, as `Measurements` writes them into the log.

    Args:
        model: As for `AutoencoderStep`; used in evaluation mode.
        images: ``[N, ...]``, as ``prepare`` takes them: what should come out.
        inputs: What goes in, as the model takes it, such as noisy intensities; ``None`` = the images.
        loss: As for `AutoencoderStep`.
        logits: As for `AutoencoderStep`.
        prepare: As for `AutoencoderStep`.
        batch_size: Images rebuilt at a time.
        precision: Of the forward pass and where it runs; ``None`` = float32, where the model's parameters are.

    Returns:
        ``val_loss``, the mean loss of an image, and ``val_mse``, the mean squared error of a pixel of what the model
        rebuilds.

    Raises:
        EmptyDatasetError: If there is no image.
        TypeError: If ``logits`` is set, but the model has no such method.
        ValueError: If ``batch_size`` is below 1, or there is not one input for each image.
    """
    require(batch_size >= 1, "batch_size", batch_size, "at least 1")
    if len(images) == 0:
        raise EmptyDatasetError("`images` has none")
    if inputs is not None:
        require(len(inputs) == len(images), "inputs", tuple(inputs.shape), f"[{len(images)}, ...], one an image")
    precision = precision or plain_precision(model)
    total, squared, values = 0.0, 0.0, 0
    with evaluation_mode(model):
        for start in range(0, len(images), batch_size):
            clean = _as_input(images[start : start + batch_size], prepare, precision)
            given = clean if inputs is None else _as_input(inputs[start : start + batch_size], None, precision)
            with precision.autocast():
                rebuilt = model(given)
                compared = _forward(model, logits)(given) if logits else rebuilt
            require_same_shape(rebuilt, clean, "model(images)", "images")
            total += loss(_at_least_float32(compared), clean).item() * len(clean)
            squared += (rebuilt.double() - clean.double()).square().sum().item()
            values += clean.numel()
    return {"val_loss": total / len(images), "val_mse": squared / values}


def _forward(model: nn.Module, logits: bool) -> Callable[[Tensor], Tensor]:
    """The model, or its method ``logits``."""
    if not logits:
        return model
    method = getattr(model, "logits", None)
    require(callable(method), "model", type(model).__name__, "a module with a method `logits`", TypeError)
    return cast(Callable[[Tensor], Tensor], method)


def _as_input(images: Tensor, prepare: Callable[[Tensor], Tensor] | None, precision: Precision) -> Tensor:
    """Inputs of the model on its device, in the memory format that is fast for their size."""
    images = images.to(precision.device, non_blocking=True)
    inputs = images if prepare is None else prepare(images)
    return inputs.to(memory_format=precision.memory_format(inputs.shape[-1])) if inputs.dim() == 4 else inputs


def _at_least_float32(output: Tensor) -> Tensor:
    return output.float() if output.dtype.itemsize < 4 else output
