"""A run whose measured values are written down beforehand, for callbacks that decide by them."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ganblocks.data import TensorBatches
from ganblocks.training import Callback, ConstantSchedule, StepContext, Trainer, Validation
from ganblocks.training.schedule import Schedule

EPOCH_IMAGES = 8


class ScriptedStep:
    """Its one weight is the sum of the learning rates so far, its loss the number of images seen before the batch."""

    def __init__(self) -> None:
        self.weight = torch.zeros((), dtype=torch.float64)
        self.rates: list[float] = []

    def __call__(self, images: Tensor, labels: Tensor | None, context: StepContext) -> dict[str, Tensor]:
        self.weight = self.weight + context.phase.learning_rate
        self.rates.append(context.phase.learning_rate)
        return {"loss": torch.tensor(float(context.images_seen))}

    def state_dict(self) -> dict[str, Any]:
        return {"weight": self.weight}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.weight = state["weight"]


class StopAt(Callback):
    """Interrupts the run once so many images were seen; 0 never does."""

    def __init__(self, images_seen: int) -> None:
        self.images_seen = images_seen

    def on_step(self, trainer: Trainer, previous: int) -> None:
        if trainer.images_seen == self.images_seen:
            trainer.request_stop()


def scripted_run(
    run_dir: Path | None,
    values: Sequence[float],
    *callbacks: Callback,
    stop: int = 0,
    schedule: Schedule | None = None,
    **options: Any,
) -> Trainer:
    """An epoch is two batches of four images; ``val_loss`` after the first epoch is the first of ``values``."""
    epochs = len(values)

    def measure(trainer: Trainer) -> dict[str, float]:
        return {"val_loss": values[trainer.images_seen // EPOCH_IMAGES - 1]}

    return Trainer(
        ScriptedStep(),
        TensorBatches(torch.zeros(EPOCH_IMAGES, 1, 2, 2), seed=0),
        schedule or ConstantSchedule(EPOCH_IMAGES * epochs, 4, 1.0),
        run_dir=run_dir,
        callbacks=[Validation(measure, EPOCH_IMAGES), *callbacks, StopAt(stop)],
        **{"log_images": 4, "save_images": 4, **options},
    )


def rates(trainer: Trainer) -> list[float]:
    """The learning rate of each epoch, which is the same for both of its batches."""
    step = trainer.step
    assert isinstance(step, ScriptedStep)
    assert step.rates[::2] == step.rates[1::2]
    return step.rates[::2]
