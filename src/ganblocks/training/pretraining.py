"""A stack of autoencoders, trained one after the other without labels: each in a run directory of its own.

Greedy layer-wise pretraining (Bengio, Lamblin, Popovici, Larochelle 2007, section 4; Vincent et al. 2010, section 3.4):
the first autoencoder learns to rebuild the images, the next one the codes of the first, and so on; what was trained
before stays as it is. At the end, if wanted, all of them are trained together as one deep autoencoder (Hinton and
Salakhutdinov 2006).
"""

import dataclasses
import hashlib
import math
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, Protocol

import torch
from torch import Tensor, nn

from ganblocks._checks import require
from ganblocks._modes import evaluation_mode
from ganblocks.data.in_memory import TensorBatches
from ganblocks.errors import EmptyDatasetError, GanblocksError
from ganblocks.functional.image_range import intensities
from ganblocks.training.callbacks import Callback
from ganblocks.training.randomness import derived_seed
from ganblocks.training.schedule import Schedule
from ganblocks.training.steps import Step
from ganblocks.training.trainer import FitResult, Trainer
from ganblocks.training.weights import plain_weights

__all__ = ["Prepare", "PretrainedStack", "StageStep", "encode_images", "pretrain_stack"]

Prepare = Callable[[Tensor], Tensor] | None
"""What makes inputs in [0, 1] of a batch, such as `intensities`; ``None`` = the batch is that already."""


class StageStep(Protocol):
    """Makes the step of one autoencoder, as ``StackedRecipe.build_autoencoder_step`` does."""

    def __call__(self, autoencoder: nn.Module, /, *, prepare: Prepare) -> Step:
        """A step over the autoencoder's parameters that calls ``prepare`` on each batch."""
        ...


@dataclasses.dataclass(frozen=True)
class PretrainedStack:
    """What `pretrain_stack` has trained.

    Attributes:
        autoencoders: In the order of the stack; all of them if ``finished``, else the last one is half trained, or one
            is missing.
        normalizations: For each, the mean ``[D]`` that its codes were reduced by and the number that they were then
            divided by, before the next one was trained on them; ``None`` where nothing was done. Those of the last
            codes are there too, for what is put on top.
        results: Of the trainer, one a stage; with the one of unrolled training last, where there was any.
        unrolled: The deep autoencoder, whose parts ``autoencoders`` are then; ``None`` without unrolled training.
    """

    autoencoders: tuple[nn.Module, ...]
    normalizations: tuple[tuple[Tensor, float] | None, ...]
    results: tuple[FitResult, ...]
    unrolled: nn.Module | None = None

    @property
    def finished(self) -> bool:
        """Whether every stage came to its end; the same call goes on where it did not."""
        return all(result.finished for result in self.results)

    @property
    def exit_code(self) -> int:
        """0, or 130 / 143 after SIGINT / SIGTERM."""
        return self.results[-1].exit_code

    @property
    def seconds(self) -> float:
        """Spent in training by this call."""
        return sum(result.seconds for result in self.results)


def pretrain_stack(
    images: Tensor,
    stages: Sequence[Callable[[], nn.Module]],
    build_step: StageStep,
    schedule: Schedule,
    *,
    stacking: Literal["greedy", "latent_reuse"] = "greedy",
    normalize_codes: bool = True,
    unroll: Callable[[Sequence[Any], Sequence[tuple[Tensor, float] | None]], nn.Module] | None = None,
    unrolled_schedule: Schedule | None = None,
    run_dir: str | os.PathLike[str] | None = None,
    seed: int = 0,
    settings: Mapping[str, Any] | None = None,
    callbacks: Callable[[str], Sequence[Callback]] | None = None,
    **options: Any,
) -> PretrainedStack:
    """Train autoencoders one after the other; the same call goes on where it was stopped.

    Stage i trains in ``<run_dir>/autoencoder-<i>`` (from 1), unrolled training in ``<run_dir>/unrolled``. A stage that
    is done is read from its checkpoint. The initial weights of a stage are a function of seed and stage alone.

    Args:
        images: ``[N, C, H, W]``, uint8 or float in [-1, 1]; all of them in memory.
        stages: Builds each autoencoder, with methods ``encode`` and ``decode``, on its device, such as
            ``functools.partial(DenseAutoencoder, config)``. In the greedy form, those behind the first take the codes
            of the one before, ``[N, D]``.
        build_step: Makes the step of a stage, and of unrolled training.
        schedule: Of every stage.
        stacking: ``"greedy"``: each is trained on the codes of the one before, which no longer changes.
            ``"latent_reuse"``: each is trained on the images.
        normalize_codes: Whether the next autoencoder has to rebuild codes less their mean, over the root mean square
            of what is left (one number for all of them). Codes behind a ReLU are never negative: on codes as they are,
            many units of the next layer are 0 for every image and stay so.
        unroll: Makes one deep autoencoder of all, with ``autoencoders`` that are copies of the given ones, such as
            ``models.stacked.UnrolledAutoencoder``; ``None`` = no unrolled training. For greedy stacks only.
        unrolled_schedule: Of unrolled training; ``None`` = ``schedule``.
        run_dir: Holds the run directories of the stages; ``None`` keeps nothing.
        seed: Of everything random.
        settings: Whatever changes the science; see `Trainer`. Stacking, schedule and what a stage was trained on are
            written without being asked for.
        callbacks: Makes the callbacks of a stage from its name, such as ``"autoencoder-1"`` or ``"unrolled"``.
        **options: Of every `Trainer`, such as ``save_images``.

    Returns:
        The autoencoders. Where training was stopped, ``finished`` is false and later stages are missing.

    Raises:
        EmptyDatasetError: If there is no image.
        GanblocksError: If a stage gives all images one code, or one that is not finite.
        RunMismatchError: If a directory holds a stage of other settings, or one trained on other codes.
        ValueError: If the stacking is unknown, there is no stage, or unrolled training is wanted of separate stages.
    """
    require(stacking in ("greedy", "latent_reuse"), "stacking", stacking, "'greedy' or 'latent_reuse'")
    require(len(stages) >= 1, "stages", list(stages), "at least one")
    together = unroll is None or stacking == "greedy"
    require(together, "unroll", unroll, "None for latent_reuse: its autoencoders share no codes")
    if len(images) == 0:
        raise EmptyDatasetError("`images` has none")

    def train(name: str, module: nn.Module, inputs: Tensor, prepare: Prepare, plan: Schedule, origin: str) -> FitResult:
        about = {"stage": name, "stacking": stacking, "normalize_codes": normalize_codes, "inputs": origin}
        return Trainer(
            build_step(module, prepare=prepare),
            TensorBatches(inputs, seed=seed),
            plan,
            run_dir=None if run_dir is None else Path(run_dir) / name,
            seed=seed,
            settings={**(settings or {}), **about, "schedule": repr(plan)},
            callbacks=[] if callbacks is None else callbacks(name),
            **options,
        ).fit()

    autoencoders: list[nn.Module] = []
    normalizations: list[tuple[Tensor, float] | None] = []
    results: list[FitResult] = []
    inputs, origin = images, _digest(images)
    prepare: Prepare = intensities
    for index, build in enumerate(stages, start=1):
        autoencoder = _built(build, derived_seed(seed, "autoencoder", index))
        result = train(f"autoencoder-{index}", autoencoder, inputs, prepare, schedule, origin)
        autoencoders.append(autoencoder)
        results.append(result)
        if stacking == "greedy" and result.finished:
            codes = encode_images(autoencoder, inputs, prepare=prepare)
            normalization = _normalization(codes) if normalize_codes else None
            inputs = codes if normalization is None else (codes - normalization[0]) / normalization[1]
            prepare, origin = None, _digest(*plain_weights(autoencoder).values(), start=origin)
        else:
            normalization = None
        normalizations.append(normalization)
        if not result.finished:
            break
    stack = PretrainedStack(tuple(autoencoders), tuple(normalizations), tuple(results))
    if unroll is None or not stack.finished:
        return stack
    deep: Any = unroll(autoencoders, normalizations)
    origin = _digest(*plain_weights(deep).values(), start=_digest(images))
    results.append(train("unrolled", deep, images, intensities, unrolled_schedule or schedule, origin))
    if normalize_codes and results[-1].finished:
        normalizations[-1] = _normalization(encode_images(deep, images))
    return PretrainedStack(tuple(deep.autoencoders), tuple(normalizations), tuple(results), deep)


@torch.no_grad()
def encode_images(
    autoencoder: nn.Module, images: Tensor, *, prepare: Prepare = intensities, batch_size: int = 1024
) -> Tensor:
    """Codes of many images, in evaluation mode; every submodule gets its own mode back.

    Args:
        autoencoder: Has a method ``encode``.
        images: ``[N, ...]``, as ``prepare`` takes them, at least one.
        prepare: What makes the autoencoder's inputs of them; ``None`` = they are that already, such as codes.
        batch_size: Images encoded at a time.

    Returns:
        ``[N, ...]``, where the images are.

    Raises:
        EmptyDatasetError: If there is no image.
        ValueError: If ``batch_size`` is below 1.
    """
    require(batch_size >= 1, "batch_size", batch_size, "at least 1")
    if len(images) == 0:
        raise EmptyDatasetError("`images` has none")
    encoder: Any = autoencoder
    device = next(autoencoder.parameters()).device
    with evaluation_mode(autoencoder):
        parts = []
        for part in torch.split(images, batch_size):
            batch = part.to(device, non_blocking=True)
            parts.append(encoder.encode(batch if prepare is None else prepare(batch)).to(images.device))
    return torch.cat(parts)


def _normalization(codes: Tensor) -> tuple[Tensor, float]:
    """Mean of each value of the codes, and root mean square of what is left, both as the codes' dtype has them."""
    exact = codes.double()
    mean = exact.mean(dim=0)
    spread = float((exact - mean).square().mean().sqrt())
    if not 0 < spread < math.inf:
        raise GanblocksError(
            f"the spread of the codes of {len(codes):,} images is {spread}: there is nothing to train further layers "
            "on. Lower the learning rate, or use another activation than ReLU"
        )
    return mean.to(codes.dtype), float(torch.tensor(spread, dtype=codes.dtype))


def _built(build: Callable[[], nn.Module], seed: int) -> nn.Module:
    """A new network, drawn from ``seed``; torch's global generator of the CPU goes on as if it had not been used."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        return build()


def _digest(*tensors: Tensor, start: str = "") -> str:
    """A short hash of the bits of tensors, and of ``start``."""
    digest = hashlib.blake2b(start.encode(), digest_size=8)
    for tensor in tensors:
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
