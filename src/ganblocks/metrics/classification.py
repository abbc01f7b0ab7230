"""How well a classifier does: accuracy and recall with intervals, per class and on average.

A test set of a few dozen images decides little, so proportions come with Wilson intervals (Wilson 1927).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from ganblocks._checks import require, require_rank
from ganblocks.metrics.proportions import wilson_interval
from ganblocks.metrics.rows import require_finite

__all__ = ["Averages", "ClassificationReport", "classification_report"]

_ROW_SUM_TOLERANCE = 0.02  # a softmax in bfloat16 adds up to 1 within a few roundings of 2^-8


class Averages(NamedTuple):
    """Means over the classes."""

    precision: float
    recall: float
    f1: float


@dataclass(frozen=True)
class ClassificationReport:
    """What `classification_report` found. ``str(report)`` is a table.

    Attributes:
        class_names: [K].
        accuracy: Share of the samples whose class was predicted.
        accuracy_interval: Wilson interval of it.
        precision: [K], share of right ones among the predictions of a class; 0 for a class that is never predicted.
        recall: [K], share of the samples of a class that were found; 0 for a class that never occurs.
        recall_intervals: [K] Wilson intervals; (0, 1) for a class that never occurs.
        f1: [K], harmonic mean of precision and recall; 0 where both are.
        support: [K], how often a class occurs.
        macro: Plain means over all K classes, those that never occur included.
        weighted: Means weighted by ``support``; its recall is the accuracy.
        confusion: [K][K], how often row i was taken for column j.
        confidence: Of the intervals.
        mse: Mean over samples and classes of (one-hot - probability)^2; ``None`` without probabilities.
        roc_auc: Mean over the classes of the area under the curve of one class against the rest, leaving out a class
            that never occurs or that every sample is of; ``None`` without probabilities or if no class is left.
    """

    class_names: tuple[str, ...]
    accuracy: float
    accuracy_interval: tuple[float, float]
    precision: tuple[float, ...]
    recall: tuple[float, ...]
    recall_intervals: tuple[tuple[float, float], ...]
    f1: tuple[float, ...]
    support: tuple[int, ...]
    macro: Averages
    weighted: Averages
    confusion: tuple[tuple[int, ...], ...]
    confidence: float
    mse: float | None = None
    roc_auc: float | None = None

    def to_dict(self) -> dict[str, Any]:
        """All fields as JSON can hold them; the numbers of a class under ``"classes"`` and its name."""
        return {
            "accuracy": self.accuracy,
            "accuracy_interval": list(self.accuracy_interval),
            "classes": {
                name: {
                    "precision": self.precision[k],
                    "recall": self.recall[k],
                    "recall_interval": list(self.recall_intervals[k]),
                    "f1": self.f1[k],
                    "support": self.support[k],
                }
                for k, name in enumerate(self.class_names)
            },
            "macro": self.macro._asdict(),
            "weighted": self.weighted._asdict(),
            "confusion": [list(row) for row in self.confusion],
            "confidence": self.confidence,
            "mse": self.mse,
            "roc_auc": self.roc_auc,
        }

    def __str__(self) -> str:
        total = sum(self.support)
        rows = [["", "precision", "recall", f"{100 * self.confidence:.4g} % interval", "f1", "support"]]
        for k, name in enumerate(self.class_names):
            rows.append(
                _row(name, self.precision[k], self.recall[k], self.recall_intervals[k], self.f1[k], self.support[k])
            )
        for name, means in (("macro average", self.macro), ("weighted average", self.weighted)):
            rows.append(_row(name, means.precision, means.recall, None, means.f1, total))
        rows.append(_row("accuracy", None, self.accuracy, self.accuracy_interval, None, total))
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        lines = []
        for name, *cells in rows:
            numbers = [cell.rjust(width) for cell, width in zip(cells, widths[1:], strict=True)]
            lines.append("  ".join([name.ljust(widths[0]), *numbers]))
        for name, value in (("mse", self.mse), ("ROC AUC", self.roc_auc)):
            if value is not None:
                lines.append(f"{name} {value:.4f}")
        return "\n".join(lines)


def classification_report(
    labels: Tensor,
    predictions: Tensor,
    *,
    num_classes: int | None = None,
    class_names: Sequence[str] | None = None,
    confidence: float = 0.95,
) -> ClassificationReport:
    """Compare predicted classes with the true ones.

    Needs scikit-learn (``pip install "ganblocks[metrics]"``), which computes precision, recall, F1 and ROC AUC.

    Args:
        labels: [N] with N >= 1, whole numbers from 0 to K - 1.
        predictions: Either the predicted classes [N], whole numbers, or probabilities [N, K], floating point, each row
            adding up to 1 (within 0.02); the class with the largest one is predicted, the first of equals.
        num_classes: K; ``None`` takes the columns of the probabilities, the number of ``class_names``, or 1 more than
            the largest number that occurs, whichever is given first.
        class_names: [K] different names; ``None`` = "0", "1", ...
        confidence: Of the Wilson intervals, between 0 and 1. An interval covers the true proportion about this often if
            samples are independent; it does not include the luck of training.

    Returns:
        The report. Classes that never occur or are never predicted have zeros, as said at `ClassificationReport`.

    Raises:
        ImportError: scikit-learn is not installed.
        TypeError: Labels or predictions of a wrong kind.
        ValueError: Shapes that are wrong or do not fit, no sample, a class out of range, numbers that are no
            probabilities (logits, say), repeated names, or a confidence outside (0, 1).
        MetricError: A probability is NaN or infinite.
    """
    try:
        import sklearn.metrics as sklearn_metrics
    except ImportError as error:
        raise ImportError('a classification report needs scikit-learn: pip install "ganblocks[metrics]"') from error
    require(0 < confidence < 1, "confidence", confidence, "between 0 and 1")
    require_rank(labels, "labels", 1, 1)
    require(len(labels) >= 1, "labels.shape", tuple(labels.shape), "of at least one sample")
    require(_is_whole(labels), "labels.dtype", labels.dtype, "whole numbers", TypeError)
    require_rank(predictions, "predictions", 1, 2)
    fits = len(predictions) == len(labels)
    require(fits, "predictions.shape", tuple(predictions.shape), f"of {len(labels)} samples, as `labels`")

    true = labels.detach().cpu().long().numpy()
    probabilities = _as_probabilities(predictions) if predictions.dim() == 2 else None
    if probabilities is None:
        expected = "whole numbers, or probabilities of shape [N, K]: for one probability p a sample, stack 1 - p and p"
        require(_is_whole(predictions), "predictions.dtype", predictions.dtype, expected, TypeError)
        predicted = predictions.detach().cpu().long().numpy()
    else:
        predicted = probabilities.argmax(1)
    columns = None if probabilities is None else probabilities.shape[1]
    names = _class_names(columns, class_names, num_classes, 1 + max(int(true.max()), int(predicted.max())))
    K = len(names)
    for name, values in (("labels", true), ("predictions", predicted)):
        outside = values[(values < 0) | (values >= K)]
        require(not len(outside), name, outside[:1].tolist(), f"from 0 to {K - 1}, for {K} classes")

    classes = np.arange(K)
    confusion = np.bincount(true * K + predicted, minlength=K * K).reshape(K, K)
    precision, recall, f1, support = sklearn_metrics.precision_recall_fscore_support(
        true, predicted, labels=classes, zero_division=0
    )
    macro, weighted = (
        Averages(*(float(np.average(values, weights=weights)) for values in (precision, recall, f1)))
        for weights in (None, support)
    )
    right = int(confusion.trace())
    areas = []
    if probabilities is not None:
        areas = [
            sklearn_metrics.roc_auc_score(true == k, probabilities[:, k]) for k in classes if 0 < support[k] < len(true)
        ]
    return ClassificationReport(
        class_names=names,
        accuracy=right / len(true),
        accuracy_interval=wilson_interval(right, len(true), confidence=confidence),
        precision=tuple(precision.tolist()),
        recall=tuple(recall.tolist()),
        recall_intervals=tuple(
            wilson_interval(int(confusion[k, k]), int(support[k]), confidence=confidence) for k in classes
        ),
        f1=tuple(f1.tolist()),
        support=tuple(support.tolist()),
        macro=macro,
        weighted=weighted,
        confusion=tuple(map(tuple, confusion.tolist())),
        confidence=confidence,
        mse=None if probabilities is None else float(np.mean((np.eye(K)[true] - probabilities) ** 2)),
        roc_auc=float(np.mean(areas)) if areas else None,
    )


def _as_probabilities(predictions: Tensor) -> np.ndarray:
    """Check [N, K] probabilities; in float64."""
    expected = "floating point where `predictions` has two dimensions"
    require(predictions.is_floating_point(), "predictions.dtype", predictions.dtype, expected, TypeError)
    require(predictions.shape[1] >= 1, "predictions.shape", tuple(predictions.shape), "of at least one class")
    require_finite(predictions, "predictions")
    probabilities: np.ndarray = predictions.detach().cpu().to(torch.float64).numpy()
    low, high = float(probabilities.min()), float(probabilities.max())
    expected = "probabilities from 0 to 1; of logits, take the softmax first"
    require(low >= 0 and high <= 1 + _ROW_SUM_TOLERANCE, "predictions", f"from {low:g} to {high:g}", expected)
    sums = probabilities.sum(1)
    worst = float(sums[abs(sums - 1).argmax()])
    expected = "probabilities that add up to 1 in each row"
    require(abs(worst - 1) <= _ROW_SUM_TOLERANCE, "predictions", f"a row that adds up to {worst:g}", expected)
    return probabilities


def _class_names(
    columns: int | None, class_names: Sequence[str] | None, num_classes: int | None, occurring: int
) -> tuple[str, ...]:
    """The names of the K classes, after a check that all that is said about K agrees."""
    given = {
        "predictions": columns,
        "class_names": None if class_names is None else len(class_names),
        "num_classes": num_classes,
    }
    K = next((number for number in given.values() if number is not None), occurring)
    for name, number in given.items():
        require(number is None or number == K, name, number, f"{K} classes, as the other arguments say")
    require(K >= 1, "num_classes", K, "at least 1")
    names = tuple(map(str, range(K))) if class_names is None else tuple(class_names)
    require(len(set(names)) == K, "class_names", names, "all different")
    return names


def _is_whole(tensor: Tensor) -> bool:
    return not (tensor.is_floating_point() or tensor.is_complex() or tensor.dtype == torch.bool)


def _row(
    name: str,
    precision: float | None,
    recall: float,
    interval: tuple[float, float] | None,
    f1: float | None,
    support: int,
) -> list[str]:
    """Cells of one line of the table."""
    between = "" if interval is None else f"{interval[0]:.3f} to {interval[1]:.3f}"
    shown = ["" if number is None else f"{number:.3f}" for number in (precision, recall, f1)]
    return [name, shown[0], shown[1], between, shown[2], f"{support:,}"]
