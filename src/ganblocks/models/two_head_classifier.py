"""A classifier with a second output: the class of an image, and which attributes it has, from the same features.

Learning several tasks at once from shared layers is multi-task learning (Caruana 1997, Machine Learning 28); describing
classes by attributes that several of them share is that of Lampert, Nickisch and Harmeling (CVPR 2009). In the
experiment E21 the classes are painters and the attributes the movements they belong to.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any, Protocol, cast

from torch import Tensor, nn

from ganblocks._checks import require
from ganblocks.layers.initialization import initialize
from ganblocks.models.config import ModelConfig

__all__ = ["TwoHeadClassifier", "TwoHeadClassifierConfig"]


class _WithFeatures(Protocol):
    """What all classifiers of the registry have."""

    config: Any
    head: nn.Linear

    def features(self, images: Tensor) -> Tensor: ...


@dataclasses.dataclass(frozen=True)
class TwoHeadClassifierConfig(ModelConfig):
    """What a `TwoHeadClassifier` is made of.

    Attributes:
        classifier: Name of the classifier it is built on, as `ganblocks.models.registry` has it.
        classifier_config: The fields of that classifier's configuration.
        num_attributes: A, at least 1.
    """

    classifier: str = "painting_cnn"
    classifier_config: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    num_attributes: int = 1

    def __post_init__(self) -> None:
        for name, kind, expected in (("classifier", str, "a name"), ("classifier_config", Mapping, "fields")):
            value = getattr(self, name)
            require(isinstance(value, kind), name, value, expected)
        object.__setattr__(self, "classifier_config", dict(self.classifier_config))
        whole = type(self.num_attributes) is int and self.num_attributes >= 1
        require(whole, "num_attributes", self.num_attributes, "a whole number, at least 1")

    @property
    def num_classes(self) -> int | None:
        """K; ``None`` where ``classifier_config`` leaves it to the default."""
        return self.classifier_config.get("num_classes")


class TwoHeadClassifier(nn.Module):
    """A classifier, and beside its last layer another one for attributes.

    Called, it gives the logits of the classes alone, so that whatever takes a classifier takes this one.

    Args:
        classifier: Has ``features(images)`` ``[N, D]`` and ``head``, a linear layer from them to the logits; any of
            `ganblocks.models.registry`. It is held, not copied.
        num_attributes: A, at least 1.
        name: Of the classifier in the registry, for the configuration.

    Shape:
        Images ``[N, C, R, R]`` in [-1, 1] to logits ``[N, K]``, and `both` to those and ``[N, A]``.

    Raises:
        TypeError: If the classifier has no ``features`` or no linear ``head``.
        ValueError: If ``num_attributes`` is below 1.
    """

    def __init__(self, classifier: nn.Module, num_attributes: int, *, name: str = "painting_cnn") -> None:
        super().__init__()
        head = getattr(classifier, "head", None)
        if not isinstance(head, nn.Linear) or not callable(getattr(classifier, "features", None)):
            raise TypeError(f"{type(classifier).__name__} needs `features(images)` and `head`, a linear layer")
        base = cast("_WithFeatures", classifier)
        self.config: TwoHeadClassifierConfig = TwoHeadClassifierConfig(name, base.config.to_dict(), num_attributes)
        self.classifier = classifier
        self.attribute_head: nn.Linear = nn.Linear(head.in_features, num_attributes)
        initialize(self.attribute_head, "glorot_uniform")

    @property
    def head(self) -> nn.Linear:
        """The layer behind `features` that makes the logits of the classes."""
        return cast("_WithFeatures", self.classifier).head

    def features(self, images: Tensor) -> Tensor:
        """What both heads see, ``[N, D]``, as the classifier inside has it."""
        return cast("_WithFeatures", self.classifier).features(images)

    def both(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Classify and describe.

        Args:
            images: ``[N, C, R, R]`` in [-1, 1].

        Returns:
            Logits of the classes ``[N, K]`` and of the attributes ``[N, A]``: the former compete, ``softmax(dim=1)``,
            the latter do not, ``sigmoid()``.

        Raises:
            ValueError: If the shape does not fit the configuration.
        """
        features = self.features(images)
        return self.head(features), self.attribute_head(features)

    def forward(self, images: Tensor) -> Tensor:
        """Logits of the classes ``[N, K]``; see `both`."""
        logits: Tensor = self.head(self.features(images))
        return logits
