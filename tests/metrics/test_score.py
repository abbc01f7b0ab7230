"""A score is a record that tells how it was made, and compares only with scores made in the same way."""

import json

import pytest

from ganblocks.errors import FingerprintMismatchError, MetricError
from ganblocks.metrics.score import Score, require_same_fingerprint


def score(value: float = 12.5, **changes: object) -> Score:
    fields = {"counts": {"real": 10_000, "fake": 5000}, "settings": {"ddof": 1, "extractor": "net abc"}, **changes}
    return Score("frechet_distance", value, **fields)  # type: ignore[arg-type]


def test_it_prints_value_spread_counts_and_fingerprint() -> None:
    text = str(score(spread=0.25))
    assert text == f"frechet_distance 12.5 ± 0.25 (10,000 real, 5,000 fake; fingerprint {score().fingerprint})"
    assert str(Score("x", 1.0)).startswith("x 1 (fingerprint ")
    assert float(score()) == 12.5


def test_json_and_back_is_the_same_score() -> None:
    first = score(spread=0.25, details={"bias": 0.5})
    assert Score.from_dict(json.loads(json.dumps(first.to_dict()))) == first


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"value": 3}, None),  # the value is not part of the fingerprint
        ({"counts": {"real": 1}}, "`fingerprint`"),
        ({"value": "3"}, "`value` is '3'"),
        ({"value": True}, "`value` is True"),
        ({"value": None}, "`value` is None"),
        ({"spread": "wide"}, "`spread`"),
        ({"name": 3}, "`name` is 3"),
        ({"settings": [1]}, "`settings`"),
        ({"surprise": 1}, "surprise"),
    ],
)
def test_a_document_that_is_no_score_is_refused(changes: dict[str, object], message: str | None) -> None:
    document = {**score().to_dict(), **changes}
    if message is None:
        assert Score.from_dict(document).value == 3
    else:
        with pytest.raises(ValueError, match=message):
            Score.from_dict(document)


def test_the_fingerprint_is_that_of_name_counts_and_settings() -> None:
    same = score(settings={"extractor": "net abc", "ddof": 1}, value=3.0, spread=1.0, details={"bias": 2.0})
    assert same.fingerprint == score().fingerprint
    others = [
        score(counts={"real": 10_000, "fake": 5001}),
        score(settings={"ddof": 0, "extractor": "net abc"}),
        score(settings={"ddof": 1, "extractor": "net abd"}),
        Score("kid", 12.5, counts=score().counts, settings=score().settings),
    ]
    assert len({score().fingerprint, *(other.fingerprint for other in others)}) == 5


def test_numbers_of_one_value_are_one_setting() -> None:
    assert score(settings={"a": 2, "b": [0, 1]}).fingerprint == score(settings={"a": 2.0, "b": (0.0, 1.0)}).fingerprint
    assert score(settings={"a": 1}).fingerprint != score(settings={"a": True}).fingerprint
    with pytest.raises(FingerprintMismatchError, match=r"settings\.a 1 against True"):
        score(settings={"a": 1}).difference(score(settings={"a": True}))


def test_the_fingerprint_stays_what_it_was_in_the_first_release() -> None:
    assert score().fingerprint == "de4ec142debe35e8"


def test_equal_fingerprints_compare() -> None:
    low, high = score(1.0), score(3.0)
    assert low < high
    assert high > low
    assert low <= score(1.0) <= high
    assert high >= score(3.0) >= low
    assert not low > high
    assert not high < low
    assert not low >= high
    assert not high <= low
    assert high.difference(low) == 2.0


@pytest.mark.parametrize("operator", ["__lt__", "__gt__", "__le__", "__ge__", "difference"])
def test_different_fingerprints_raise_and_say_what_differs(operator: str) -> None:
    other = score(3.0, counts={"real": 10_000, "fake": 50}, settings={"ddof": 1, "extractor": "net xyz"})
    with pytest.raises(FingerprintMismatchError, match=r"counts\.fake 5000 against 50; settings\.extractor 'net abc'"):
        getattr(score(), operator)(other)


def test_different_fingerprints_compare_if_told_so() -> None:
    assert score(3.0).difference(score(1.0, settings={}), allow_mismatch=True) == 2.0


def test_a_number_is_no_score() -> None:
    with pytest.raises(TypeError):
        assert score() < 3.0  # type: ignore[operator]


@pytest.mark.parametrize(("value", "spread"), [(float("nan"), None), (float("inf"), None), (1.0, float("nan"))])
def test_what_is_not_finite_is_no_score(value: float, spread: float | None) -> None:
    with pytest.raises(MetricError, match="no finite number"):
        score(value, spread=spread)


@pytest.mark.parametrize("setting", [object(), {1, 2}, float("nan")])
def test_settings_that_json_cannot_hold_are_refused(setting: object) -> None:
    with pytest.raises(TypeError, match="settings"):
        score(settings={"odd": setting})


def test_changing_a_mapping_later_does_not_change_the_score() -> None:
    counts = {"real": 5}
    made = Score("x", 1.0, counts=counts)
    counts["real"] = 6
    assert made.counts == {"real": 5}


def test_a_missing_setting_differs_from_one_that_is_there() -> None:
    with pytest.raises(FingerprintMismatchError, match="b None against 1"):
        require_same_fingerprint({"a": 1}, {"a": 1, "b": 1}, "two things")
