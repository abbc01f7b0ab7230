"""The science of one batch for classifiers, and how well they do on images kept from training."""

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ganblocks._checks import require, require_rank
from ganblocks._modes import evaluation_mode
from ganblocks.errors import EmptyDatasetError
from ganblocks.functional.image_range import from_uint8
from ganblocks.training.network_step import NetworkStep
from ganblocks.training.precision import Precision, plain_precision
from ganblocks.training.randomness import StepContext

__all__ = ["ClassifierStep", "balanced_class_weights", "evaluate_classifier", "predict_features", "predict_logits"]


class ClassifierStep(NetworkStep):
    """One update of a classifier by the cross-entropy of its logits.

    What the network draws while it runs (dropout) is a pure function of the run's seed and the images seen. Statistics
    that it keeps (batch normalisation) stay as they were where a batch would make them NaN or infinite.

    Args:
        classifier: Images to logits ``[N, K]``. Its mode is left as it is: in evaluation mode, dropout and batch
            normalisation do not train.
        optimizer: Over the classifier's parameters.
        label_smoothing: Share of each target that is spread evenly over all classes, 0 to 1 (Szegedy et al. 2016,
            section 7).
        class_weights: ``[K]``, finite and above 0, or ``None`` for equal ones. The loss of each image is multiplied by
            the weight of its class, and their sum divided by the sum of these weights instead of N, as
            ``torch.nn.functional.cross_entropy`` does it: weights that are all alike change nothing, whatever they are.
            With label smoothing the share of each class counts by the weight of that class, and the divisor stays. The
            sum of weights is that of the whole batch, also where it passes in parts or in several processes. Accuracy
            and `evaluate_classifier` know no weights. `balanced_class_weights` makes them from labels.
        penalty: Whether the loss is the cross-entropy plus ``classifier.penalty()``, a 0-d tensor that is asked for
            after each forward pass; see `ganblocks.models.backbone_classifier`.
        precision: Of the forward pass; ``None`` = float32 on the CPU.
        max_skipped_updates: Updates that may be left out because the loss or a gradient is not finite, before the
            trainer raises `NonFiniteError`; see `ganblocks.training.guard`.
        micro_batch: Images that pass through the network at once, at most; ``None`` = all of a batch.

    Raises:
        TypeError: If a penalty is asked for and the classifier has none.
        ValueError: If a number is out of range.
    """

    def __init__(
        self,
        classifier: nn.Module,
        *,
        optimizer: torch.optim.Optimizer,
        label_smoothing: float = 0.0,
        class_weights: Tensor | None = None,
        penalty: bool = False,
        precision: Precision | None = None,
        max_skipped_updates: int = 0,
        micro_batch: int | None = None,
    ) -> None:
        require(0 <= label_smoothing <= 1, "label_smoothing", label_smoothing, "between 0 and 1")
        if penalty and not callable(getattr(classifier, "penalty", None)):
            raise TypeError(f"`penalty` is True, but {type(classifier).__name__} has no method of that name")
        super().__init__(
            "classifier",
            optimizer=optimizer,
            precision=precision,
            max_skipped_updates=max_skipped_updates,
            micro_batch=micro_batch,
        )
        self.classifier = classifier
        self.label_smoothing = label_smoothing
        self.class_weights: Tensor | None = (
            None if class_weights is None else _checked_weights(class_weights, self.precision.device)
        )
        self.penalty = penalty
        self._mean_weight: Tensor | None = None  # of the labels of the batch in hand

    def __call__(self, images: Tensor, labels: Tensor | None, context: StepContext) -> dict[str, Tensor]:
        """Train on one batch of images, uint8 or float in [-1, 1], with class indices ``[N]``.

        Returns:
            ``loss``, with the smoothed labels, and ``accuracy``, both of this batch before its update: 0-d tensors
            without graph. With a penalty ``cross_entropy`` and ``penalty`` too, whose sum is the loss.

        Raises:
            TypeError: If the labels are no whole numbers.
            ValueError: If there are no labels, or they are no classes of these logits (told for labels on the CPU).
        """
        if labels is None:
            raise ValueError("`labels` is None, but a classifier is trained on images with labels")
        if self.class_weights is not None:
            self._mean_weight = self._mean_weight_of(labels, self.class_weights, context)
        return super().__call__(images, labels, context)

    def _inputs(self, images: Tensor, labels: Tensor | None) -> tuple[Tensor, Tensor | None]:
        return _as_input(images, self.precision), labels

    def _loss(self, images: Tensor, labels: Tensor | None, context: StepContext) -> tuple[Tensor, dict[str, Tensor]]:
        assert labels is not None
        with self.precision.autocast():
            logits: Tensor = self.classifier(images)
        return self._loss_of(logits, labels)

    def _loss_of(self, logits: Tensor, labels: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss of these logits ``[N, K]``, and what else to log of them."""
        _require_classes(labels, logits)  # before they are moved, where to look at them costs nothing
        labels = labels.to(self.precision.device, torch.int64, non_blocking=True)
        exact = logits.float() if logits.dtype.itemsize < 4 else logits
        loss = self._cross_entropy(exact, labels)
        log = {"accuracy": (logits.detach().argmax(1) == labels).float().mean()}
        if self.penalty:
            classifier: Any = self.classifier
            penalty: Tensor = classifier.penalty()
            log = {"cross_entropy": loss.detach(), "penalty": penalty.detach(), **log}
            loss = loss + penalty
        return loss, log

    def _cross_entropy(self, logits: Tensor, labels: Tensor) -> Tensor:
        if self.class_weights is None:
            return F.cross_entropy(logits, labels, label_smoothing=self.label_smoothing)
        assert self._mean_weight is not None
        weights, K = self.class_weights.to(logits.dtype), logits.shape[1]
        require(len(weights) == K, "class_weights", f"of {len(weights)} classes", f"of {K}, as the logits")
        total = F.cross_entropy(logits, labels, weights, reduction="sum", label_smoothing=self.label_smoothing)
        return total / (len(labels) * self._mean_weight.to(logits))

    def _mean_weight_of(self, labels: Tensor, weights: Tensor, context: StepContext) -> Tensor:
        """Of all labels of the batch, 0-d."""
        _require_whole(labels)
        _require_below(labels, len(weights))
        mean = weights[labels.to(weights.device, torch.int64)].mean()
        return mean if context.replicas.count == 1 else context.replicas.mean({"weight": mean})["weight"]


def balanced_class_weights(labels: Tensor, num_classes: int) -> Tensor:
    """Weights with which each class counts as much as any other: ``N / (K * images of the class)``.

    Args:
        labels: Class indices ``[N]``, those that are trained on.
        num_classes: K.

    Returns:
        float32 ``[K]``; over the labels their mean is 1.

    Raises:
        TypeError: If the labels are no whole numbers.
        ValueError: If a class has no image, or a label is none of 0 to K - 1.
    """
    require_rank(labels, "labels", 1, 1)
    _require_whole(labels)
    _require_below(labels.cpu(), num_classes)
    counts = torch.bincount(labels.cpu(), minlength=num_classes)
    absent = (counts == 0).nonzero().flatten().tolist()
    require(not absent, "labels", f"without the classes {absent}", f"labels of all {num_classes} classes")
    return (len(labels) / (num_classes * counts.double())).float()


@torch.no_grad()
def predict_logits(
    classifier: nn.Module, images: Tensor, *, batch_size: int = 512, precision: Precision | None = None
) -> Tensor:
    """Logits of many images, in evaluation mode; every submodule gets its own mode back.

    Args:
        classifier: Images to logits ``[N, K]``.
        images: ``[N, C, H, W]``, uint8 or float in [-1, 1], at least one.
        batch_size: Images classified at a time.
        precision: Of the forward pass and where it runs; ``None`` = float32, where the classifier's parameters are.

    Returns:
        float32 (float64 stays float64) ``[N, K]`` on the CPU. ``softmax(dim=1)`` makes probabilities of them.

    Raises:
        EmptyDatasetError: If there is no image.
        ValueError: If ``batch_size`` is below 1.
    """
    return _answers(classifier, classifier, images, batch_size, precision)


@torch.no_grad()
def predict_features(
    classifier: nn.Module, images: Tensor, *, batch_size: int = 512, precision: Precision | None = None
) -> Tensor:
    """What the last layer of a classifier sees of many images, as `predict_logits` gives its answers.

    Args:
        classifier: Has ``features(images)``, ``[N, D]``, as all classifiers of `ganblocks.models` have.
        images: As for `predict_logits`.
        batch_size: As there.
        precision: As there.

    Returns:
        float32 (float64 stays float64) ``[N, D]`` on the CPU.

    Raises:
        EmptyDatasetError: If there is no image.
        TypeError: If the classifier has no ``features``.
        ValueError: If ``batch_size`` is below 1.
    """
    features = getattr(classifier, "features", None)
    if not callable(features):
        raise TypeError(f"{type(classifier).__name__} has no method `features`")
    return _answers(classifier, features, images, batch_size, precision)


def evaluate_classifier(
    classifier: nn.Module,
    images: Tensor | Iterable[tuple[Tensor, Tensor]],
    labels: Tensor | None = None,
    *,
    batch_size: int = 512,
    precision: Precision | None = None,
) -> dict[str, float]:
    """Loss and accuracy on images kept from training, as `Measurements` writes them into the log.

    Args:
        classifier: Images to logits ``[N, K]``; used in evaluation mode.
        images: ``[N, C, H, W]``, uint8 or float in [-1, 1]; or batches of pairs of images and labels, a ``DataLoader``
            for one.
        labels: Class indices ``[N]``; ``None`` if and only if ``images`` are batches of pairs.
        batch_size: Images classified at a time, where they are one tensor.
        precision: As for `predict_logits`.

    Returns:
        ``val_loss``, the mean cross-entropy, and ``val_accuracy``, the share whose largest logit is that of its class.

    Raises:
        EmptyDatasetError: If there is no image.
        TypeError: If labels are no whole numbers.
        ValueError: If images and labels do not fit each other, or labels are no classes of the logits.
    """
    pairs: Iterable[tuple[Tensor, Tensor]]
    if isinstance(images, Tensor):
        if labels is None:
            raise ValueError("`labels` is None, but must be class indices [N], one an image")
        require_rank(labels, "labels", 1, 1)
        require(len(labels) == len(images), "labels", tuple(labels.shape), f"[{len(images)}], one an image")
        pairs = zip(torch.split(images, batch_size), torch.split(labels, batch_size), strict=True)
    else:
        require(labels is None, "labels", labels, "None where `images` are batches of pairs")
        pairs = images
    loss, right, count = 0.0, 0, 0
    for part, truth in pairs:
        if len(part) == 0:
            continue
        logits = predict_logits(classifier, part, batch_size=len(part), precision=precision)
        _require_classes(truth, logits)
        truth = truth.to("cpu", torch.int64)
        loss += F.cross_entropy(logits.double(), truth, reduction="sum").item()
        right += int((logits.argmax(1) == truth).sum())
        count += len(part)
    if count == 0:
        raise EmptyDatasetError("`images` has none")
    return {"val_loss": loss / count, "val_accuracy": right / count}


def _answers(
    network: nn.Module,
    function: Callable[[Tensor], Tensor],
    images: Tensor,
    batch_size: int,
    precision: Precision | None,
) -> Tensor:
    """What a function of the network gives for all images, in evaluation mode."""
    require(batch_size >= 1, "batch_size", batch_size, "at least 1")
    if len(images) == 0:
        raise EmptyDatasetError("`images` has none")
    precision = precision or plain_precision(network)
    with evaluation_mode(network), precision.autocast():
        parts = [function(_as_input(part, precision)) for part in torch.split(images, batch_size)]
    answers = torch.cat([part.cpu() for part in parts])
    return answers.float() if answers.dtype.itemsize < 4 else answers


def _as_input(images: Tensor, precision: Precision) -> Tensor:
    """Float images on the device, in the memory format that is fast for their size."""
    images = images.to(precision.device, non_blocking=True)
    images = from_uint8(images) if images.dtype == torch.uint8 else images
    # Not `contiguous`, which leaves grey images as they are: their strides then turn the whole network to plain order.
    return images.to(memory_format=precision.memory_format(images.shape[-1])) if images.dim() == 4 else images


def _checked_weights(weights: Tensor, device: torch.device) -> Tensor:
    require_rank(weights, "class_weights", 1, 1)
    require(weights.is_floating_point(), "class_weights.dtype", weights.dtype, "floating point", TypeError)
    valid = bool((weights > 0).all() and weights.isfinite().all())
    require(valid, "class_weights", weights.tolist()[:10], "finite and above 0")
    return weights.detach().to(device)


def _require_classes(labels: Tensor, logits: Tensor) -> None:
    """Raise unless there is one label a row and, where that can be seen without waiting, each is a column."""
    _require_whole(labels)
    fits = logits.dim() == 2 and labels.shape == logits.shape[:1]
    require(fits, "labels", tuple(labels.shape), f"[N], for logits [N, K] of shape {tuple(logits.shape)}")
    _require_below(labels, logits.shape[1])


def _require_whole(labels: Tensor) -> None:
    whole = not (labels.is_floating_point() or labels.is_complex() or labels.dtype == torch.bool)
    require(whole, "labels", labels.dtype, "whole numbers", TypeError)


def _require_below(labels: Tensor, K: int) -> None:
    """Raise unless all are from 0 to K - 1; on a GPU nothing is looked at, which would mean to wait for it."""
    if labels.device.type == "cpu" and len(labels):
        lowest, highest = (int(bound) for bound in labels.aminmax())
        require(lowest >= 0 and highest < K, "labels", f"from {lowest} to {highest}", f"from 0 to {K - 1}")
