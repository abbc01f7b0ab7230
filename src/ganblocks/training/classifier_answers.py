"""A classifier's answers for a test set, at the end of a training that can be interrupted: a run among many of a study.

Studies compare dozens of small trainings. Each of them is a run of its own here, with a directory of its own, and what
it leaves there is what comparisons are made of: the logits of every test image.
"""

import dataclasses
import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import safetensors
import safetensors.torch
import torch
from torch import Tensor
from torch.nn import functional as F

from ganblocks._checks import require
from ganblocks.errors import CheckpointError
from ganblocks.training.callbacks import Callback, Measurements
from ganblocks.training.classifier_step import ClassifierStep, evaluate_classifier, predict_logits
from ganblocks.training.run_directory import require_own_run_directory
from ganblocks.training.saved_weights import write_weights
from ganblocks.training.schedule import Schedule
from ganblocks.training.trainer import Trainer

__all__ = ["ClassifierAnswers", "train_for_answers"]

_FILE = "answers.safetensors"


@dataclasses.dataclass(frozen=True)
class ClassifierAnswers:
    """What a trained classifier says to the images of a test set.

    Attributes:
        logits: ``[N, K]``, float32, on the CPU, of the last weights in evaluation mode.
        penalty: What the classifier's own penalty adds to its loss on the test images, 0 where it has none. It is no
            measure of how good the classifier is; the cross-entropy is.
    """

    logits: Tensor
    penalty: float

    def right(self, labels: Tensor) -> Tensor:
        """Whether the largest logit is that of the label, booleans ``[N]``.

        Args:
            labels: Class indices ``[N]``.

        Raises:
            ValueError: If there is not one label an image.
        """
        self._require_labels(labels)
        return self.logits.argmax(dim=1) == labels.cpu()

    def accuracy(self, labels: Tensor) -> float:
        """Share of the images that are classified as their label, 0 to 1; arguments as for `right`."""
        return float(self.right(labels).double().mean())

    def cross_entropy(self, labels: Tensor) -> float:
        """Mean of -log p(label) in nats, without any penalty; arguments as for `right`."""
        self._require_labels(labels)
        return float(F.cross_entropy(self.logits.double(), labels.cpu().long()))

    def confusion(self, labels: Tensor) -> Tensor:
        """Counts ``[K, K]``, the true class in rows; arguments as for `right`."""
        self._require_labels(labels)
        K = self.logits.shape[1]
        return torch.bincount(K * labels.cpu() + self.logits.argmax(dim=1), minlength=K * K).reshape(K, K)

    def _require_labels(self, labels: Tensor) -> None:
        count = len(self.logits)
        require(labels.shape == (count,), "labels", tuple(labels.shape), f"[{count}], one an image")


def train_for_answers(
    step: ClassifierStep,
    data: Any,
    schedule: Schedule,
    test_images: Tensor,
    *,
    run_dir: str | os.PathLike[str],
    seed: int = 0,
    settings: Mapping[str, Any] | None = None,
    validation: tuple[Tensor, Tensor] | None = None,
    measurements: int = 20,
    callbacks: Sequence[Callback] = (),
    resume: Literal["exact", "lenient"] = "exact",
    keep_checkpoints: bool = False,
) -> ClassifierAnswers | None:
    """Train a classifier and let it answer, or read the answers that the same run has left before.

    Args:
        step: Holds the classifier.
        data: As `Trainer` takes it.
        schedule: Arms of a study that are to be compared have the same number of updates of the same size.
        test_images: ``[N, C, H, W]``, uint8 or float in [-1, 1]. Nothing of the training looks at them.
        run_dir: Of this run. It ends up with ``answers.safetensors``, ``log.jsonl`` and ``config.json``.
        seed: Of everything random in the run, but for the weights at its start.
        settings: As for `Trainer`: a directory with other settings is refused, with answers or without.
        validation: Images and labels that loss and accuracy are measured on in between, for the log.
        measurements: How often.
        callbacks: More of them.
        resume: As for `Trainer`.
        keep_checkpoints: Whether they stay once there are answers; they only serve to go on.

    Returns:
        The answers; ``None`` where the training was stopped, and the same call goes on with it.

    Raises:
        CheckpointError: The answers there are damaged, or for another number of images.
        RunMismatchError: The directory belongs to a run with other settings.
    """
    require(measurements >= 1, "measurements", measurements, "at least 1")
    folder = Path(run_dir)
    path = folder / _FILE
    described = {**(settings or {}), "test_images": len(test_images)}
    if path.is_file():
        require_own_run_directory(folder, {"seed": seed, **described})
        return _read(path, len(test_images))
    measured: list[Callback] = []
    if validation is not None:
        images, labels = validation
        fractions = [(point + 1) / measurements for point in range(measurements)]
        measured = [Measurements(lambda _: evaluate_classifier(step.classifier, images, labels), fractions=fractions)]
    trainer = Trainer(
        step,
        data,
        schedule,
        run_dir=folder,
        seed=seed,
        settings=described,
        callbacks=[*measured, *callbacks],
        log_images=max(1, schedule.total_images // 100),
        save_images=max(1, schedule.total_images // 4),
        keep_last=1,
        resume=resume,
    )
    if not trainer.fit().finished:
        return None
    penalty = 0.0
    if step.penalty:
        classifier: Any = step.classifier
        with torch.no_grad():
            penalty = float(classifier.penalty(_features(classifier, test_images)))
    answers = ClassifierAnswers(predict_logits(step.classifier, test_images), penalty)
    if trainer.replicas.rank == 0:
        write_weights(path, {"logits": answers.logits.contiguous()}, {"penalty": repr(penalty)})
        if not keep_checkpoints:
            shutil.rmtree(folder / "checkpoints", ignore_errors=True)
    return answers


def _features(classifier: Any, images: Tensor) -> Tensor:
    """Of all images, in evaluation mode, a part at a time."""

    class Features(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.classifier = classifier

        def forward(self, part: Tensor) -> Tensor:
            features: Tensor = self.classifier.features(part)
            return features

    return predict_logits(Features(), images)


def _read(path: Path, count: int) -> ClassifierAnswers:
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            logits, penalty = file.get_tensor("logits"), float((file.metadata() or {})["penalty"])
    except (OSError, ValueError, LookupError, safetensors.SafetensorError) as error:
        raise CheckpointError(f"{path} cannot be read as answers ({error}); remove it to train anew") from error
    if logits.dim() != 2 or len(logits) != count:
        raise CheckpointError(f"{path} holds answers of shape {tuple(logits.shape)}, but there are {count} test images")
    return ClassifierAnswers(logits, penalty)
