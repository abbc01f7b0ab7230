"""The science of one batch for a classifier that also tells the attributes of an image."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ganblocks._checks import require, require_rank
from ganblocks.training.classifier_step import ClassifierStep
from ganblocks.training.randomness import StepContext

__all__ = ["TwoHeadStep"]


class TwoHeadStep(ClassifierStep):
    """One update by a weighted sum of two losses: cross-entropy of the classes, binary cross-entropy of the attributes.

    ``loss = cross_entropy + attribute_weight * attribute_loss``, where the second is the mean over images and
    attributes (Caruana 1997, section 2: one network, a weighted error a task).

    Args:
        classifier: Has ``both(images)``, logits of the classes ``[N, K]`` and of the attributes ``[N, A]``; see
            `ganblocks.models.two_head_classifier`.
        attributes: Bool ``[K, A]``: which class has which attribute. Labels stay class indices.
        attribute_weight: 0 or above; with 0 nothing of the attributes reaches the shared layers.
        **options: Of `ClassifierStep`, such as ``optimizer`` and ``class_weights``, which count for the first loss.

    Raises:
        TypeError: If the classifier has no ``both``, or ``attributes`` are not bool.
        ValueError: If they are no table, or a number is out of range; in a step, if they do not fit the logits.
    """

    def __init__(
        self, classifier: nn.Module, *, attributes: Tensor, attribute_weight: float = 1.0, **options: Any
    ) -> None:
        if not callable(getattr(classifier, "both", None)):
            raise TypeError(f"{type(classifier).__name__} has no method `both`, which gives the logits of both heads")
        require_rank(attributes, "attributes", 2, 2)
        require(attributes.dtype == torch.bool, "attributes.dtype", attributes.dtype, "bool", TypeError)
        require(attribute_weight >= 0, "attribute_weight", attribute_weight, "0 or above")
        super().__init__(classifier, **options)
        self.attributes: Tensor = attributes.to(self.precision.device)
        self.attribute_weight = attribute_weight

    def _loss(self, images: Tensor, labels: Tensor | None, context: StepContext) -> tuple[Tensor, dict[str, Tensor]]:
        assert labels is not None
        classifier: Any = self.classifier
        with self.precision.autocast():
            logits, attribute_logits = classifier.both(images)
        shape = [logits.shape[1], attribute_logits.shape[1]]
        require(list(self.attributes.shape) == shape, "attributes", tuple(self.attributes.shape), f"{shape}, [K, A]")
        cross_entropy, log = self._loss_of(logits, labels)
        truth = self.attributes[labels.to(self.attributes.device, torch.int64)]
        exact = attribute_logits.float() if attribute_logits.dtype.itemsize < 4 else attribute_logits
        attribute_loss = F.binary_cross_entropy_with_logits(exact, truth.to(exact.dtype))
        log = {
            "cross_entropy": cross_entropy.detach(),
            **log,
            "attribute_loss": attribute_loss.detach(),
            "attribute_accuracy": ((exact.detach() > 0) == truth).float().mean(),
        }
        return cross_entropy + self.attribute_weight * attribute_loss, log
