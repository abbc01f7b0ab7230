"""The classification report against NumPy loops, scikit-learn's own report and published intervals."""

import json
import math
import sys

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ganblocks.errors import MetricError
from ganblocks.metrics.classification import ClassificationReport, classification_report
from tolerances import for_dtype, named

sklearn_metrics = pytest.importorskip("sklearn.metrics", reason="the report is built on scikit-learn")
EXACT64 = for_dtype(torch.float64)


def close(found, expected):
    found, expected = (torch.as_tensor(np.asarray(x, dtype=np.float64)) for x in (found, expected))
    torch.testing.assert_close(found, expected, **EXACT64)


def drawn(N, K, seed, *, soft=True):
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(0, K, (N,), generator=generator)
    logits = torch.randn(N, K, generator=generator, dtype=torch.float64)
    return labels, logits.softmax(1) if soft else logits.argmax(1)


def wilson(successes, count, z=1.959963984540054):
    share = successes / count
    centre = (share + z * z / (2 * count)) / (1 + z * z / count)
    half = z / (1 + z * z / count) * math.sqrt(share * (1 - share) / count + z * z / (4 * count * count))
    return centre - half, centre + half


@pytest.mark.parametrize(("right", "count", "low", "high"), [(45, 51, 0.766, 0.945), (88, 94, 0.868, 0.970)])
def test_the_interval_is_wilsons(right, count, low, high):
    labels = torch.ones(count, dtype=torch.long)
    report = classification_report(labels, (torch.arange(count) < right).long())
    assert report.accuracy == right / count
    assert report.accuracy_interval == pytest.approx((low, high), abs=named("three_digits")["atol"])
    close(report.accuracy_interval, wilson(right, count))
    assert report.recall_intervals[1] == report.accuracy_interval


@given(N=st.integers(1, 40), K=st.integers(1, 5), soft=st.booleans(), seed=st.integers(0, 999))
def test_every_number_agrees_with_loops(N, K, soft, seed):
    labels, predictions = drawn(N, K, seed, soft=soft)
    report = classification_report(labels, predictions, num_classes=K)
    true, taken = labels.tolist(), (predictions.argmax(1) if soft else predictions).tolist()
    confusion = [[sum(t == i and p == j for t, p in zip(true, taken, strict=True)) for j in range(K)] for i in range(K)]
    assert [list(row) for row in report.confusion] == confusion
    support = [sum(row) for row in confusion]
    called = [sum(row[k] for row in confusion) for k in range(K)]
    recall = [confusion[k][k] / support[k] if support[k] else 0 for k in range(K)]
    precision = [confusion[k][k] / called[k] if called[k] else 0 for k in range(K)]
    f1 = [2 * confusion[k][k] / (support[k] + called[k]) if support[k] + called[k] else 0 for k in range(K)]
    assert report.support == tuple(support)
    for found, values in ((report.precision, precision), (report.recall, recall), (report.f1, f1)):
        close(found, values)
    for k in range(K):
        close(report.recall_intervals[k], wilson(confusion[k][k], support[k]) if support[k] else (0, 1))
    close(report.macro, [sum(values) / K for values in (precision, recall, f1)])
    weighted = [sum(s * v for s, v in zip(support, values, strict=True)) / N for values in (precision, recall, f1)]
    close(report.weighted, weighted)
    close(report.weighted.recall, report.accuracy)
    close(report.accuracy, sum(confusion[k][k] for k in range(K)) / N)
    if not soft:
        assert report.mse is None
        assert report.roc_auc is None
        return
    table = predictions.tolist()
    squares = [((true[n] == k) - table[n][k]) ** 2 for n in range(N) for k in range(K)]
    close(report.mse, sum(squares) / len(squares))
    areas = []
    for k in range(K):  # the share of (member, other) pairs in the right order
        members = [table[n][k] for n in range(N) if true[n] == k]
        others = [table[n][k] for n in range(N) if true[n] != k]
        if members and others:
            pairs = [(m > o) + (m == o) / 2 for m in members for o in others]
            areas.append(sum(pairs) / len(pairs))
    if areas:
        close(report.roc_auc, sum(areas) / len(areas))
    else:
        assert report.roc_auc is None


def test_scikit_learn_reports_the_same():
    labels, probabilities = drawn(60, 4, 1)
    names = ["a", "b", "c", "d"]
    report = classification_report(labels, probabilities, class_names=names)
    expected = sklearn_metrics.classification_report(
        labels.numpy(), probabilities.argmax(1).numpy(), target_names=names, output_dict=True
    )
    for k, name in enumerate(names):
        close([report.precision[k], report.recall[k], report.f1[k]], list(expected[name].values())[:3])
    close(report.macro, list(expected["macro avg"].values())[:3])
    close(report.weighted, list(expected["weighted avg"].values())[:3])
    area = sklearn_metrics.roc_auc_score(labels.numpy(), probabilities.numpy(), multi_class="ovr", average="macro")
    close(report.roc_auc, area)


def test_classes_that_never_occur_or_are_never_predicted_are_zero():
    probabilities = torch.tensor([[0.2, 0.8, 0.0, 0.0], [0.1, 0.9, 0.0, 0.0], [0.0, 0.6, 0.4, 0.0]])
    report = classification_report(torch.tensor([0, 1, 1]), probabilities)
    assert report.precision == pytest.approx((0, 2 / 3, 0, 0))
    assert report.recall == (0, 1, 0, 0)
    assert report.recall_intervals[2] == (0, 1)
    assert report.recall_intervals[0] == pytest.approx(wilson(0, 1))
    assert report.macro.recall == 0.25
    assert report.roc_auc == pytest.approx(
        0.75
    )  # class 0 is ordered rightly at 1, class 1 at 1/2; 2 and 3 are left out
    assert report.confusion == ((0, 1, 0, 0), (0, 2, 0, 0), (0, 0, 0, 0), (0, 0, 0, 0))


def test_one_class_alone_has_no_curve():
    report = classification_report(torch.zeros(3, dtype=torch.uint8), torch.ones(3, 1))
    assert report.roc_auc is None
    assert report.mse == 0
    assert report.accuracy == 1
    assert classification_report(torch.zeros(3, dtype=torch.uint8), torch.tensor([[0.6, 0.4]] * 3)).roc_auc is None


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_a_softmax_in_any_precision_is_taken(dtype):
    logits = torch.randn(50, 100) * 5
    report = classification_report(torch.arange(50), logits.to(dtype).softmax(1))
    assert report.mse == pytest.approx(
        classification_report(torch.arange(50), logits.to(dtype).double().softmax(1)).mse, rel=named("mse_bf16")["rtol"]
    )


def test_the_first_of_equal_probabilities_is_predicted():
    probabilities = torch.full((4, 3), 1 / 3)
    assert classification_report(torch.zeros(4, dtype=torch.int32), probabilities).accuracy == 1


def test_the_number_of_classes_comes_from_what_is_given():
    labels = torch.tensor([0, 1])
    assert classification_report(labels, torch.tensor([2, 0])).class_names == ("0", "1", "2")
    assert classification_report(labels, labels, num_classes=4).support == (1, 1, 0, 0)
    assert classification_report(labels, labels, class_names=["no", "yes"]).class_names == ("no", "yes")


def test_the_confidence_widens_the_interval():
    labels, predictions = drawn(30, 3, 0, soft=False)
    narrow, wide = (classification_report(labels, predictions, confidence=c).accuracy_interval for c in (0.5, 0.99))
    assert wide[0] < narrow[0] < narrow[1] < wide[1]
    close(narrow, wilson(int((labels == predictions).sum()), 30, z=0.6744897501960817))


def test_json_holds_everything():
    labels, probabilities = drawn(20, 3, 0)
    report = classification_report(labels, probabilities, class_names=["x", "y", "z"])
    document = json.loads(json.dumps(report.to_dict(), allow_nan=False))
    assert document["classes"]["y"] == {
        "precision": report.precision[1],
        "recall": report.recall[1],
        "recall_interval": list(report.recall_intervals[1]),
        "f1": report.f1[1],
        "support": report.support[1],
    }
    assert list(document["classes"]) == ["x", "y", "z"]
    assert document["macro"] == report.macro._asdict()
    assert document["weighted"] == report.weighted._asdict()
    assert document["confusion"] == [list(row) for row in report.confusion]
    for name in ("accuracy", "confidence", "mse", "roc_auc"):
        assert document[name] == getattr(report, name)
    assert document["accuracy_interval"] == list(report.accuracy_interval)
    assert report == classification_report(labels, probabilities, class_names=["x", "y", "z"])
    assert isinstance(hash(report), int)


def test_the_table_shows_every_class_in_aligned_columns():
    labels = torch.tensor([1] * 45 + [0] * 6)
    report = classification_report(labels, torch.ones(51, dtype=torch.long), class_names=["no tumour", "tumour"])
    lines = str(report).splitlines()
    assert [line[:16].strip() for line in lines] == [
        "",
        "no tumour",
        "tumour",
        "macro average",
        "weighted average",
        "accuracy",
    ]
    assert lines[0].split() == ["precision", "recall", "95", "%", "interval", "f1", "support"]
    assert lines[1].split()[2:] == ["0.000", "0.000", "0.000", "to", "0.390", "0.000", "6"]
    assert lines[5].split() == ["accuracy", "0.882", "0.766", "to", "0.945", "51"]
    assert len({len(line) for line in lines}) == 1
    with_probabilities = classification_report(torch.tensor([0, 1]), torch.eye(2))
    assert str(with_probabilities).splitlines()[-2:] == ["mse 0.0000", "ROC AUC 1.0000"]


L = torch.tensor([0, 1, 1])
P = torch.tensor([[0.5, 0.5], [1.0, 0.0], [0.0, 1.0]])


@pytest.mark.parametrize(
    ("labels", "predictions", "options", "error", "match"),
    [
        (L[:0], L[:0], {}, ValueError, "at least one sample"),
        (L[:, None], L, {}, ValueError, "`labels`"),
        (L, L[:2], {}, ValueError, "of 3 samples"),
        (L.float(), L, {}, TypeError, r"labels\.dtype"),
        (L.bool(), L, {}, TypeError, r"labels\.dtype"),
        (L, torch.rand(3), {}, TypeError, "stack 1 - p and p"),
        (L, P.long(), {}, TypeError, r"predictions\.dtype"),
        (L, P[:, :0], {}, ValueError, "at least one class"),
        (L, torch.randn(3, 2) * 9, {}, ValueError, "take the softmax first"),
        (L, P * 0.9, {}, ValueError, "adds up to 0.9"),
        (L, P * math.nan, {}, MetricError, "`predictions` holds 6 of 6"),
        (L, P, {"num_classes": 3}, ValueError, "`num_classes` is 3, but must be 2 classes"),
        (L, P, {"class_names": ["a", "b", "c"]}, ValueError, "`class_names` is 3"),
        (L, L, {"class_names": ["a", "b"], "num_classes": 3}, ValueError, "`num_classes` is 3"),
        (L, P, {"class_names": ["a", "a"]}, ValueError, "all different"),
        (L, L, {"num_classes": 1}, ValueError, r"`labels` is \[1\].*from 0 to 0"),
        (L, L - 1, {}, ValueError, r"`predictions` is \[-1\]"),
        (L * 2, P, {}, ValueError, r"`labels` is \[2\]"),
        (L, L, {"confidence": 1.0}, ValueError, "confidence"),
        (L, L, {"confidence": 0.0}, ValueError, "confidence"),
    ],
)
def test_wrong_arguments_are_named(labels, predictions, options, error, match):
    with pytest.raises(error, match=match):
        classification_report(labels, predictions, **options)


def test_without_scikit_learn_the_command_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn", None)
    monkeypatch.setitem(sys.modules, "sklearn.metrics", None)
    with pytest.raises(ImportError, match=r'pip install "ganblocks\[metrics\]"'):
        classification_report(L, L)


def test_gradients_and_the_input_are_left_alone():
    probabilities = P.clone().requires_grad_()
    report = classification_report(L, probabilities)
    assert isinstance(report, ClassificationReport)
    assert torch.equal(probabilities.detach(), P)
