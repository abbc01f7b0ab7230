"""The order of images is a pure function of (seed, images seen)."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ganblocks.data.sampler import ITEM, ResumableSampler, random_words, split


@given(
    size=st.integers(1, 40),
    seed=st.integers(0, 2**70),
    start=st.integers(0, 10_000),
    cuts=st.lists(st.integers(0, 60), max_size=12),
)
def test_any_cutting_into_batches_gives_the_same_stream(size: int, seed: int, start: int, cuts: list[int]) -> None:
    whole = ResumableSampler(size, seed=seed)
    expected_indices, expected_mirror = whole.indices(start, sum(cuts)), whole.mirror(start, sum(cuts))
    running = ResumableSampler(size, seed=seed)
    position, indices, mirror = start, [np.zeros(0, np.int64)], [np.zeros(0, np.bool_)]
    for count in cuts:
        indices.append(running.indices(position, count))
        mirror.append(running.mirror(position, count))
        position += count
    np.testing.assert_array_equal(np.concatenate(indices), expected_indices)
    np.testing.assert_array_equal(np.concatenate(mirror), expected_mirror)
    assert expected_indices.dtype == np.int64
    assert expected_mirror.dtype == np.bool_


@given(start=st.integers(0, 20_000), count=st.integers(0, 9000))
def test_mirror_does_not_depend_on_where_reading_begins_across_blocks(start: int, count: int) -> None:
    sampler = ResumableSampler(3, seed=1)
    np.testing.assert_array_equal(sampler.mirror(start, count), sampler.mirror(0, start + count)[start:])


@given(size=st.integers(1, 300), seed=st.integers(0, 1000), epoch=st.integers(0, 10**9))
def test_every_epoch_is_a_permutation(size: int, seed: int, epoch: int) -> None:
    drawn = ResumableSampler(size, seed=seed).indices(epoch * size, size)
    np.testing.assert_array_equal(np.sort(drawn), np.arange(size))


def test_epochs_and_seeds_differ() -> None:
    stream = ResumableSampler(100, seed=0).indices(0, 1000).reshape(10, 100)
    assert len({tuple(epoch) for epoch in stream}) == 10
    other = ResumableSampler(100, seed=1)
    assert (other.indices(0, 100) != stream[0]).any()
    assert (other.mirror(0, 100) != ResumableSampler(100, seed=0).mirror(0, 100)).any()


def test_visiting_epochs_out_of_order_changes_nothing() -> None:
    sampler = ResumableSampler(10, seed=3)
    expected = ResumableSampler(10, seed=3).indices(0, 50)
    for epoch in (4, 0, 3, 1, 0, 2, 4):
        np.testing.assert_array_equal(sampler.indices(10 * epoch, 10), expected[10 * epoch : 10 * epoch + 10])


def test_every_image_comes_first_equally_often() -> None:
    firsts = [ResumableSampler(5, seed=seed).indices(0, 1)[0] for seed in range(2000)]
    counts = np.bincount(firsts, minlength=5)
    assert ((counts > 300) & (counts < 500)).all()  # expected 400, standard deviation 18


def test_half_of_the_images_are_mirrored_independently_of_the_last_time() -> None:
    bits = ResumableSampler(7, seed=5).mirror(0, 100_000)
    assert 49_000 < bits.sum() < 51_000  # standard deviation 158
    for lag in (1, 7, 64, 4096):
        assert 0.49 < (bits[lag:] == bits[:-lag]).mean() < 0.51


def test_indices_of_a_part_stay_in_that_part() -> None:
    part = [5, 9, 2, 40]
    drawn = ResumableSampler(part, seed=0).indices(0, 8)
    assert sorted(drawn[:4]) == sorted(drawn[4:]) == sorted(part)
    np.testing.assert_array_equal(drawn, ResumableSampler(np.array(part), seed=0).indices(0, 8))


def test_returned_arrays_can_be_written_without_harm() -> None:
    sampler = ResumableSampler(10, seed=0)
    first, bits = sampler.indices(0, 10), sampler.mirror(0, 10)
    kept, kept_bits = first.copy(), bits.copy()
    first[:], bits[:] = 0, True
    np.testing.assert_array_equal(sampler.indices(0, 10), kept)
    np.testing.assert_array_equal(sampler.mirror(0, 10), kept_bits)


def test_the_stream_is_the_documented_one() -> None:
    words = np.random.Philox(np.random.SeedSequence(7, spawn_key=(1, 2))).random_raw(6)
    expected = sorted(range(6), key=lambda position: words[position])
    assert ResumableSampler(6, seed=7).indices(12, 6).tolist() == expected
    word = int(np.random.Philox(np.random.SeedSequence(7, spawn_key=(2, 0))).random_raw(1)[0])
    assert ResumableSampler(6, seed=7).mirror(0, 64).tolist() == [bool(word >> bit & 1) for bit in range(64)]


@given(count=st.integers(1, 200), seed=st.integers(0, 5), data=st.data())
def test_split_is_disjoint_complete_sorted_and_repeatable(count: int, seed: int, data: st.DataObject) -> None:
    held_out = data.draw(st.integers(0, count - 1))
    train, held = split(count, held_out, seed=seed)
    assert len(train) == count - held_out
    assert len(held) == held_out
    assert sorted([*train, *held]) == list(range(count))
    assert (np.diff(train) > 0).all()
    assert (np.diff(held) > 0).all()
    again = split(count, held_out, seed=seed)
    np.testing.assert_array_equal(again[0], train)
    np.testing.assert_array_equal(again[1], held)


def test_split_is_random_and_follows_the_seed() -> None:
    held = split(1000, 100)[1]
    assert 400 < held.mean() < 600
    assert (held != split(1000, 100, seed=1)[1]).any()


@pytest.mark.parametrize("held_out", [-1, 10, 11])
def test_split_refuses_to_leave_nothing(held_out: int) -> None:
    with pytest.raises(
        ValueError, match=rf"`held_out` is {held_out}, but must be from 0 to below `count`, which is 10"
    ):
        split(10, held_out)


def test_wrong_arguments_are_named() -> None:
    with pytest.raises(ValueError, match="`size` is 0"):
        ResumableSampler(0, seed=0)
    with pytest.raises(ValueError, match="`seed` is -1"):
        ResumableSampler(3, seed=-1)
    with pytest.raises(ValueError, match="`seed` is -1"):
        split(3, 1, seed=-1)
    with pytest.raises(ValueError, match="non-empty"):
        ResumableSampler([], seed=0)
    with pytest.raises(ValueError, match="index -2"):
        ResumableSampler([1, -2], seed=0)
    with pytest.raises(TypeError, match="float64"):
        ResumableSampler(np.array([0.5]), seed=0)
    sampler = ResumableSampler(3, seed=0)
    for method in (sampler.indices, sampler.mirror):
        with pytest.raises(ValueError, match="`images_seen` is -1"):
            method(-1, 1)
        with pytest.raises(ValueError, match="`count` is -1"):
            method(0, -1)


@given(seed=st.integers(0, 2**70), block=st.integers(0, 2**40), count=st.integers(0, 50), more=st.integers(0, 50))
def test_fewer_random_words_are_the_first_of_more(seed: int, block: int, count: int, more: int) -> None:
    words = random_words(seed, ITEM, block, count + more)
    assert (words.dtype, words.shape) == (np.uint64, (count + more,))
    np.testing.assert_array_equal(random_words(seed, ITEM, block, count), words[:count])


def test_every_seed_purpose_and_block_has_random_words_of_its_own() -> None:
    places = [(seed, purpose, block) for seed in (0, 1) for purpose in range(1, 5) for block in (0, 1)]
    words = {random_words(*place, 4).tobytes() for place in places}
    assert len(words) == len(places)
