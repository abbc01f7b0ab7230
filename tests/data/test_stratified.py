"""Every part has its share of every class, no group is cut, and the same seed says the same for ever."""

from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ganblocks.data.stratified import balanced_rows, cross_validation_folds, stratified_split

LABELS = st.lists(st.integers(0, 4), min_size=1, max_size=120)
SHARES = st.sampled_from([[0.8, 0.2], [0.7, 0.2, 0.1], [1 / 3, 1 / 3, 1 / 3], [0.25] * 4, [0.29, 0.71], [1.0]])


def split_or_none(labels, fractions, **options):
    """None where a part would stay empty."""
    try:
        return stratified_split(labels, fractions, **options)
    except ValueError as error:
        assert "would stay empty" in str(error)  # noqa: PT017 - any other is a failure
        return None


@pytest.mark.parametrize(("no", "yes", "sizes"), [(98, 155, [202, 51]), (206, 263, [375, 94])])
@pytest.mark.parametrize("seed", [0, 123])
def test_the_sizes_of_the_published_protocol(no: int, yes: int, sizes: list[int], seed: int) -> None:
    labels = np.array([0] * no + [1] * yes)
    parts = stratified_split(labels, [0.8, 0.2], seed=seed)
    assert [len(part) for part in parts] == sizes
    assert [int(labels[part].sum()) for part in parts] == ([124, 31] if yes == 155 else [210, 53])


@given(labels=LABELS, fractions=SHARES, seed=st.integers(0, 2**70))
def test_parts_are_a_partition_with_rounded_shares_of_every_class(labels, fractions, seed) -> None:
    parts = split_or_none(labels, fractions, seed=seed)
    if parts is None:
        return
    assert sorted(np.concatenate(parts).tolist()) == list(range(len(labels)))
    for part, fraction in zip(parts, fractions, strict=True):
        assert part.dtype == np.int64
        assert part.tolist() == sorted(part.tolist())
        share = Fraction(repr(fraction)).limit_denominator(1000)
        for number in set(labels):
            exact = share * labels.count(number)
            got = sum(labels[row] == number for row in part)
            assert int(exact) <= got <= -int(-exact // 1)
    if len(fractions) == 2:  # whole parts are rounded too
        assert abs(len(parts[0]) - Fraction(repr(fractions[0])) * len(labels)) <= Fraction(1, 2)


def test_small_classes_do_not_all_round_the_same_way() -> None:
    labels = np.repeat(np.arange(10), 3)  # 2.4 and 0.6 of each
    assert [len(part) for part in stratified_split(labels, [0.8, 0.2])] == [24, 6]
    assert [len(held) for _, held in cross_validation_folds(labels, 5)] == [6] * 5


def test_the_division_is_the_same_for_ever() -> None:
    first, second = stratified_split([0, 1] * 6, [0.5, 0.5], seed=0)
    assert first.tolist() == [0, 1, 2, 3, 4, 9]
    assert second.tolist() == [5, 6, 7, 8, 10, 11]


def test_another_seed_divides_otherwise_and_evenly() -> None:
    labels, hits = [0] * 5 + [1] * 5, np.zeros(10)
    for seed in range(300):
        hits[stratified_split(labels, [0.6, 0.4], seed=seed)[1]] += 1
    assert hits.sum() == 1200
    assert abs(hits - 120).max() < 43  # five standard deviations of sqrt(300 * 0.4 * 0.6)


@given(data=st.data(), fractions=SHARES, seed=st.integers(0, 100))
def test_no_group_is_cut(data: st.DataObject, fractions: list[float], seed: int) -> None:
    labels = data.draw(LABELS)
    groups = data.draw(st.lists(st.integers(-3, 20), min_size=len(labels), max_size=len(labels)))
    parts = split_or_none(labels, fractions, seed=seed, groups=groups)
    if parts is None:
        return
    assert sorted(np.concatenate(parts).tolist()) == list(range(len(labels)))
    members = [{groups[row] for row in part} for part in parts]
    assert sum(map(len, members)) == len(set(groups))


@given(labels=LABELS, fractions=SHARES, seed=st.integers(0, 100))
def test_groups_of_one_are_no_groups(labels, fractions, seed) -> None:
    plain = split_or_none(labels, fractions, seed=seed)
    grouped = split_or_none(labels, fractions, seed=seed, groups=np.arange(len(labels))[::-1] * 3)
    assert (plain is None) == (grouped is None)
    if plain is not None:
        assert [part.tolist() for part in plain] == [part.tolist() for part in grouped]


def test_pairs_leave_the_sizes_as_they_are() -> None:
    labels = np.array([0] * 98 + [1] * 155)
    groups = np.arange(253)
    groups[1:60:2] = groups[0:60:2]  # 30 pairs among the first class
    groups[100:104] = 100
    parts = stratified_split(labels, [0.8, 0.2], groups=groups)
    assert [len(part) for part in parts] == [202, 51]
    assert [int(labels[part].sum()) for part in parts] == [124, 31]


def test_a_group_too_large_for_its_part_leaves_the_rest_to_the_others() -> None:
    labels, groups = [0] * 10, [1] * 7 + [2, 3, 4]
    parts = stratified_split(labels, [0.4, 0.3, 0.3], groups=groups)
    assert parts[0].tolist() == list(range(7))
    assert sorted(map(len, parts[1:])) == [1, 2]


@given(labels=LABELS, k=st.integers(2, 6), seed=st.integers(0, 100))
def test_every_row_is_held_out_once_and_folds_are_alike(labels: list[int], k: int, seed: int) -> None:
    if len(labels) < k:
        with pytest.raises(ValueError, match=f"`k` is {k}, but must be at most {len(labels)}"):
            cross_validation_folds(labels, k, seed=seed)
        return
    folds = cross_validation_folds(labels, k, seed=seed)
    held = [held_out.tolist() for _, held_out in folds]
    assert sorted(np.concatenate(held).tolist()) == list(range(len(labels)))
    for train, held_out in folds:
        assert sorted([*train.tolist(), *held_out.tolist()]) == list(range(len(labels)))
    sizes = [len(fold) for fold in held]
    assert max(sizes) - min(sizes) <= 1
    for number in set(labels):
        counts = [sum(labels[row] == number for row in fold) for fold in held]
        assert max(counts) - min(counts) <= 1


def test_folds_keep_groups_whole() -> None:
    groups = np.repeat(np.arange(20), 5)
    for train, held_out in cross_validation_folds([0, 1] * 50, 4, groups=groups):
        assert not set(groups[train]) & set(groups[held_out])
        assert len(held_out) == 25


def test_lists_arrays_and_tensors_say_the_same() -> None:
    labels = [0, 1, 1, 0, 2, 2, 1, 0]
    expected = [part.tolist() for part in stratified_split(labels, [0.5, 0.5], seed=1)]
    for same in (np.array(labels, dtype=np.int8), torch.tensor(labels), tuple(labels)):
        assert [part.tolist() for part in stratified_split(same, [0.5, 0.5], seed=1)] == expected


@pytest.mark.parametrize("fractions", [[], [0.5, 0.4], [0.8, 0.3], [1.2, -0.2], [0.0, 1.0], [float("nan"), 1.0]])
def test_fractions_that_are_no_shares_raise(fractions: list[float]) -> None:
    with pytest.raises(ValueError, match="`fractions` is"):
        stratified_split([0, 1, 0, 1], fractions)


def test_wrong_arguments_raise() -> None:
    with pytest.raises(ValueError, match=r"`fractions\[1\]` is 0.1, but must be larger: of 3 rows, part 1 would"):
        stratified_split([0, 0, 0], [0.9, 0.1])
    with pytest.raises(ValueError, match=r"`fractions\[0\]` is 1.0, but must be larger: of 0 rows"):
        stratified_split([], [1.0])
    with pytest.raises(TypeError, match=r"`labels.dtype` is 'float64'"):
        stratified_split([0.0, 1.0], [0.5, 0.5])
    with pytest.raises(ValueError, match=r"`labels.shape` is \(1, 2\)"):
        stratified_split([[0, 1]], [0.5, 0.5])
    with pytest.raises(ValueError, match="`groups` is 'of 1 rows', but must be of 2, as `labels`"):
        stratified_split([0, 1], [0.5, 0.5], groups=[1])
    with pytest.raises(ValueError, match="`seed` is -1"):
        stratified_split([0, 1], [0.5, 0.5], seed=-1)
    with pytest.raises(ValueError, match="`seed` is -1"):
        cross_validation_folds([0, 1], 2, seed=-1)
    with pytest.raises(ValueError, match="`k` is 1"):
        cross_validation_folds([0, 1], 1)
    with pytest.raises(ValueError, match="`k` is 3, but must be at most 2"):
        cross_validation_folds([0, 1, 1, 0], 3, groups=[5, 5, 6, 6])


@given(labels=st.lists(st.integers(-2, 3), max_size=40))
def test_balanced_rows_hold_every_class_as_often_as_the_largest(labels: list[int]) -> None:
    rows = balanced_rows(labels)
    assert rows.dtype == np.int64
    assert rows.tolist() == sorted(rows.tolist())
    assert set(rows.tolist()) == set(range(len(labels)))
    most = max((labels.count(label) for label in labels), default=0)
    chosen = [labels[row] for row in rows]
    assert all(chosen.count(label) == most for label in set(labels))
    times = {row: rows.tolist().count(row) for row in rows.tolist()}
    for label in set(labels):
        of_class = [times[row] for row in times if labels[row] == label]
        assert max(of_class) - min(of_class) <= 1


def test_balanced_rows_of_something_else_are_refused() -> None:
    with pytest.raises(TypeError, match=r"labels\.dtype"):
        balanced_rows([0.5])
    with pytest.raises(ValueError, match=r"labels\.shape"):
        balanced_rows([[1]])
