"""The last layer of a conditional discriminator."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ganblocks._checks import require

__all__ = ["ProjectionHead"]

_INDICES = (torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64)


class ProjectionHead(nn.Module):
    """Features and labels to scores: ``score = w . h + b + V[label] . h``.

    Miyato & Koyama 2018, equation 3, ``f(x, y) = y^T V phi(x) + psi(phi(x))`` with a linear psi: the label's vector is
    projected on the features instead of being one more input. Without classes it is a linear layer.

    V is the weight ``[num_classes, features]`` of a linear layer without bias rather than an embedding table, so
    whatever treats linear layers (`spectral_norm`, `initialize`) treats it as well; its initial values are those of
    ``nn.Linear``.

    Args:
        features: F, at least 1.
        num_classes: K; 0 for a head without labels.
        device: Where the parameters live.
        dtype: Type of the parameters.

    Shape:
        Features ``[N, F]`` and labels ``[N]`` to scores ``[N]``.

    Raises:
        ValueError: A size is too small; in the call, see `forward`.

    Twice differentiable in the features and the parameters.
    """

    def __init__(
        self,
        features: int,
        num_classes: int = 0,
        *,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        require(features >= 1, "features", features, "at least 1")
        require(num_classes >= 0, "num_classes", num_classes, "at least 0")
        self.features = features
        self.num_classes = num_classes
        self.linear: nn.Linear = nn.Linear(features, 1, device=device, dtype=dtype)
        self.classes: nn.Linear | None = (
            nn.Linear(features, num_classes, bias=False, device=device, dtype=dtype) if num_classes else None
        )

    def forward(self, features: Tensor, labels: Tensor | None = None) -> Tensor:
        """Score features.

        Args:
            features: ``[N, F]``.
            labels: Class indices ``[N]``, integers from 0 to K - 1, required if and only if there are classes. They are
                looked at on a CPU only; elsewhere it would make the host wait.

        Returns:
            Scores ``[N]``.

        Raises:
            ValueError: A shape, the presence of labels or a label does not fit.
            TypeError: The labels are not integers.
        """
        shape, width, K = tuple(features.shape), self.features, self.num_classes
        require(features.dim() == 2 and shape[1] == width, "features", shape, f"of shape [N, {width}]")
        scores: Tensor = self.linear(features)[:, 0]
        if self.classes is None:
            require(labels is None, "labels", labels, "None, as the head has no classes (num_classes=0)")
            return scores
        if labels is None:
            raise ValueError(f"`labels` is None, but must be class indices [N] from 0 to {K - 1}")
        vectors = F.embedding(_checked(labels, features.shape[0], K).to(features.device), self.classes.weight)  # [N, F]
        return scores + (vectors * features).sum(1)

    def extra_repr(self) -> str:
        """Both sizes."""
        return f"{self.features}, num_classes={self.num_classes}"


def _checked(labels: Tensor, count: int, num_classes: int) -> Tensor:
    """The labels as int64."""
    require(labels.dtype in _INDICES, "labels", labels.dtype, "integers", TypeError)
    require(labels.shape == (count,), "labels", tuple(labels.shape), f"[{count}], one an image")
    if labels.device.type == "cpu" and not torch.compiler.is_compiling() and count:
        lowest, highest = int(labels.min()), int(labels.max())
        wrong = lowest if lowest < 0 else highest
        require(0 <= wrong < num_classes, "labels", wrong, f"from 0 to {num_classes - 1}")
    return labels.long()
