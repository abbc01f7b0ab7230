"""Arms with several runs: numbers worked out by hand, every resample listed, and how often the interval is right."""

import dataclasses
import itertools
import math
from typing import Any

import numpy as np
import pytest
import scipy.stats
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from ganblocks.metrics.arms import compare_arms
from ganblocks.metrics.proportions import mcnemar_test, wilson_interval
from tolerances import for_dtype, named

CLOSE = {"rel": for_dtype(torch.float64)["rtol"], "abs": for_dtype(torch.float64)["atol"]}

REAL = [[True, True, False, False], [True, False, False, False]]  # accuracies 2/4 and 1/4; votes for 0, a tie for 1
MIXED = [[True, True, True, False], [True, True, False, True], [False, True, True, True]]  # 3/4 each; votes for all


def table(runs: int, images: int, share: float = 0.7, seed: int = 0) -> NDArray[np.bool_]:
    return np.random.default_rng(seed).random((runs, images)) < share


def test_the_numbers_are_those_worked_out_by_hand() -> None:
    found = compare_arms({"real": REAL, "mixed": MIXED}, clusters={"real": [0, 1], "mixed": ["a", "b", "a"]})
    real, mixed = found.arms
    assert (real.name, real.runs, real.clusters, real.images) == ("real", 2, 2, 4)
    assert (mixed.name, mixed.runs, mixed.clusters, mixed.images) == ("mixed", 3, 2, 4)
    assert real.accuracy == pytest.approx(3 / 8, **CLOSE)
    assert real.standard_deviation == pytest.approx(math.sqrt(2 * (1 / 8) ** 2), **CLOSE)
    assert mixed.accuracy == pytest.approx(9 / 12, **CLOSE)
    assert mixed.standard_deviation == 0
    assert real.vote_right == 2  # image 1 is the first tie, which counts as right
    assert mixed.vote_right == 4
    assert real.vote_interval == wilson_interval(2, 4)
    assert real.difference is None
    assert real.mcnemar is None
    assert mixed.difference is not None
    assert mixed.difference.difference == pytest.approx(3 / 8, **CLOSE)
    assert mixed.mcnemar == mcnemar_test([True, True, False, False], [True] * 4)
    assert mixed.mcnemar.p_value == 0.5  # two images, both one way: 2 / 2^2


def test_of_ties_every_second_one_counts_so_that_an_even_number_of_runs_is_no_disadvantage() -> None:
    (arm,) = compare_arms({"two": np.array([[True] * 1001, [False] * 1001])}).arms
    assert arm.vote_right == 501
    rng = np.random.default_rng(0)
    odd, even = (rng.random((runs, 40_000)) < 0.5 for runs in (3, 4))
    votes = [arm.vote_right / arm.images for arm in compare_arms({"odd": odd, "even": even}, resamples=100).arms]
    assert votes == pytest.approx([0.5, 0.5], rel=named("interval_width")["rtol"])


def test_one_run_has_no_deviation() -> None:
    (only,) = compare_arms({"only": [[True, False]]}).arms
    assert only.standard_deviation is None
    assert only.vote_right == 1


def all_resampled_means(runs: NDArray[np.bool_], clusters: list[list[int]], images: tuple[int, ...]) -> list[float]:
    """Mean accuracy of every equally probable draw, where clusters are of one size."""
    means = []
    for chosen in itertools.product(clusters, repeat=len(clusters)):
        for drawn in itertools.product(*(itertools.product(cluster, repeat=len(cluster)) for cluster in chosen)):
            rows = [run for cluster in drawn for run in cluster]
            means.append(float(np.mean([[runs[row, image] for image in images] for row in rows])))
    return means


@pytest.mark.parametrize("clusters", [[[0], [1], [2], [3]], [[0, 1], [2, 3]], [[0, 1, 2, 3]]])
def test_the_interval_is_that_of_all_possible_resamples(clusters: list[list[int]]) -> None:
    baseline, other = np.array([[True, True, False]]), table(4, 3, 0.5, seed=3)
    differences = []
    for images in itertools.product(range(3), repeat=3):
        own = float(np.mean([baseline[0, image] for image in images]))
        differences += [mean - own for mean in all_resampled_means(other, clusters, images)]
    numbers = {run: number for number, cluster in enumerate(clusters) for run in cluster}
    belongs = {"a": [0], "b": [numbers[run] for run in range(4)]}
    # What share of all resamples lies below each end, or at it, must enclose the share that was asked for.
    found = compare_arms({"a": baseline, "b": other}, clusters=belongs, resamples=20_000, confidence=0.6).arms[1]
    assert found.difference is not None
    for end, share in ((found.difference.low, 0.2), (found.difference.high, 0.8)):
        near = for_dtype(torch.float64)["rtol"]
        spread = 4 * math.sqrt(0.2 * 0.8 / 20_000)  # four standard errors of a quantile's rank
        assert np.mean(np.array(differences) < end - near) <= share + spread
        assert np.mean(np.array(differences) <= end + near) >= share - spread


def test_an_arm_that_equals_the_baseline_differs_by_nothing() -> None:
    runs = table(6, 40)
    other = compare_arms({"a": runs, "b": runs.copy()}).arms[1]
    assert other.difference is not None
    assert other.mcnemar is not None
    assert other.difference.difference == 0
    assert other.difference.low < 0 < other.difference.high
    assert other.mcnemar.p_value == 1


def test_one_run_each_leaves_the_luck_of_the_images() -> None:
    a, b = table(1, 400, 0.6, 1), table(1, 400, 0.7, 2)
    found = compare_arms({"a": a, "b": b}, resamples=4000).arms[1].difference
    assert found is not None
    normal = scipy.stats.norm.ppf(0.975) * np.std(b[0].astype(float) - a[0]) / math.sqrt(400)
    assert found.high - found.low == pytest.approx(2 * normal, rel=named("interval_width")["rtol"])


def test_an_arm_of_constant_answers_has_no_interval_at_all() -> None:
    found = compare_arms({"all": np.ones((3, 5), bool), "none": np.zeros((2, 5), bool)}).arms[1].difference
    assert found == (-1.0, -1.0, -1.0)


def draw_arms(
    random: np.random.Generator, difference: float, cluster_luck: float, images: int
) -> dict[str, NDArray[np.bool_]]:
    """Two arms, of 12 runs by themselves and of 8 GANs with 4 runs each: shares that images and luck shift evenly."""
    difficulty = random.uniform(-0.15, 0.15, images)
    gans = random.uniform(-cluster_luck, cluster_luck, 8).repeat(4)
    shares = {
        "real": 0.65 + difficulty + random.uniform(-0.03, 0.03, (12, 1)),
        "mixed": 0.65 + difference + difficulty + gans[:, None] + random.uniform(-0.03, 0.03, (32, 1)),
    }
    return {name: random.random((len(share), images)) < share for name, share in shares.items()}


def coverage(clusters: dict[str, list[int]] | None, cluster_luck: float, images: int, count: int = 200) -> float:
    random = np.random.default_rng(5)
    held = 0
    for seed in range(count):
        right = draw_arms(random, 0.05, cluster_luck, images)
        found = compare_arms(right, clusters=clusters, resamples=200, seed=seed).arms[1].difference
        assert found is not None
        held += found.low <= 0.05 <= found.high
    return held / count


GANS = {"real": list(range(12)), "mixed": [run // 4 for run in range(32)]}


def test_the_interval_holds_the_true_difference_about_as_often_as_it_says() -> None:
    assert 0.90 <= coverage(GANS, 0.13, images=300) <= 0.99


def test_runs_of_one_gan_that_pass_for_independent_make_the_interval_too_narrow() -> None:
    assert coverage(None, 0.13, images=300) < 0.90


@given(data=st.data(), runs=st.integers(1, 5), images=st.integers(1, 6))
def test_neither_the_order_of_the_runs_nor_the_names_of_clusters_matter(
    data: st.DataObject, runs: int, images: int
) -> None:
    values = np.array(data.draw(st.lists(st.booleans(), min_size=runs * images, max_size=runs * images)))
    values = values.reshape(runs, images)
    belongs = data.draw(st.lists(st.integers(0, 2), min_size=runs, max_size=runs))
    order = data.draw(st.permutations(range(runs)))
    baseline = table(2, images, 0.5)
    first = compare_arms({"a": baseline, "b": values}, clusters={"a": [0, 1], "b": belongs}, resamples=100)
    renamed = [f"gan {7 - belongs[run]}" for run in order]
    again = compare_arms(
        {"a": baseline[::-1], "b": torch.from_numpy(values[order])},
        clusters={"a": ["x", "y"], "b": renamed},
        resamples=100,
    )
    assert first == again


def test_the_seed_decides_and_the_global_state_stays() -> None:
    right = {"a": table(3, 50, seed=1), "b": table(3, 50, seed=2), "c": table(2, 50, seed=3)}
    state = torch.get_rng_state()
    first = compare_arms(right, seed=1)
    assert torch.equal(torch.get_rng_state(), state)
    assert compare_arms(right, seed=1) == first
    assert compare_arms(right, seed=2).arms[1].difference != first.arms[1].difference
    del right["c"]
    assert compare_arms(right, seed=1).arms == first.arms[:2]


def test_portions_of_the_images_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    right = {"a": table(3, 50, seed=1), "b": table(4, 50, seed=2)}
    first = compare_arms(right, resamples=130)
    monkeypatch.setattr("ganblocks.metrics.arms._DRAWN_AT_ONCE", 7 * 50)
    assert compare_arms(right, resamples=130) == first


def test_the_table_shows_every_arm_and_the_columns_asked_for() -> None:
    found = compare_arms({"real": REAL, "a|b": MIXED}, clusters={"real": [0, 1], "a|b": [0, 0, 1]})
    head, rule, real, mixed = found.markdown(
        {"cross-entropy": {"real": [1.0, 3.0], "a|b": [0.5]}, "penalty": {"a|b": []}}
    ).splitlines()
    assert head == (
        "| arm | runs | accuracy | vote (95 % interval) | difference (95 % interval) | McNemar p | cross-entropy "
        "| penalty |"
    )
    assert rule == "|" + " --- |" * 8
    assert real == "| real | 2 | 37.5 +- 17.7 % | 2/4 (15.0 to 85.0 %) | - | - | 2 +- 1.4 | - |"
    assert mixed.startswith("| a\\|b | 3 in 2 groups | 75.0 +- 0.0 % | 4/4 (51.0 to 100.0 %) | +37.5 (")
    assert mixed.endswith(") | 0.5 | 0.5 | - |")
    assert len(found.markdown().splitlines()[0].split("|")) == 8


@pytest.mark.parametrize(
    ("low", "high", "verdict"),
    [
        (-0.02, 0.041, "-2.0 to +4.1): no evidence of a difference"),
        (0.0, 0.041, "+0.0 to +4.1): no evidence of a difference"),
        (0.003, 0.041, "+0.3 to +4.1): evidence that it is better"),
        (-0.02, -0.0001, "-2.0 to +0.0): evidence that it is worse"),
    ],
)
def test_the_sentence_says_whether_the_interval_holds_nothing(low: float, high: float, verdict: str) -> None:
    found = compare_arms({"real": table(2, 9), "generated": table(2, 9, seed=1)})
    difference = found.arms[1].difference
    assert difference is not None
    shown = dataclasses.replace(
        found.arms[1], difference=difference._replace(difference=0.012 if high > 0 else -0.012, low=low, high=high)
    )
    sentence = dataclasses.replace(found, arms=(found.arms[0], shown)).sentence()
    sign = "+" if high > 0 else "-"
    assert sentence == f"generated: {sign}1.2 points over real (95 % interval {verdict}"


def test_a_baseline_alone_has_nothing_to_be_said() -> None:
    assert compare_arms({"a": table(2, 3)}).sentence() == ""


@pytest.mark.parametrize(
    ("right", "options", "error", "words"),
    [
        ({}, {}, ValueError, "at least one arm"),
        ({"a": np.zeros((0, 3), bool)}, {}, ValueError, r"right\['a'\].shape.*at least one run and one image"),
        ({"a": np.zeros((2, 0), bool)}, {}, ValueError, "at least one run and one image"),
        ({"a": [True, False]}, {}, ValueError, r"\[R, N\]"),
        ({"a": REAL, "b": table(2, 5)}, {}, ValueError, r"right\['b'\].shape.*\[R, 4\], for the same images as 'a'"),
        ({"a": [[0, 1]]}, {}, TypeError, "booleans"),
        ({"a": torch.rand(2, 3)}, {}, TypeError, "booleans"),
        ({"a": REAL, "b": REAL}, {"clusters": {"b": [0, 0]}}, ValueError, r"for every arm, also for \['a'\]"),
        ({"a": REAL}, {"clusters": {"a": [0, 0], "c": [1]}}, ValueError, r"for the arms \['a'\] alone"),
        ({"a": REAL}, {"clusters": {"a": [0]}}, ValueError, r"clusters\['a'\].*one for each run"),
        ({"a": REAL}, {"resamples": 99}, ValueError, "`resamples` is 99"),
        ({"a": REAL}, {"resamples": 200.0}, TypeError, "whole number"),
        ({"a": REAL}, {"confidence": 1.0}, ValueError, "between 0 and 1"),
        ({"a": REAL}, {"seed": -1}, ValueError, "`seed` is -1"),
        ({"a": REAL}, {"seed": 0.5}, TypeError, "`seed` is 0.5"),
    ],
)
def test_what_does_not_fit_is_told(right: Any, options: Any, error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        compare_arms(right, **options)


def test_a_column_of_an_unknown_arm_is_refused() -> None:
    with pytest.raises(ValueError, match=r"extra\['loss'\].*\['b'\].*of the arms a"):
        compare_arms({"a": REAL}).markdown({"loss": {"b": [1.0]}})
