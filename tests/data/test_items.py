"""Items as functions of (seed, position)."""

import contextlib
import random

import numpy as np
import pytest
import torch
from torch.utils.data import TensorDataset
from worker_items import Drawn, Faulty

from ganblocks.data.items import as_pair, kept_generators, load_batch, seed_generators
from ganblocks.errors import DataError, ImageDecodeError


def drawn() -> list[float]:
    return Drawn(1)[0][0].tolist()


def test_what_is_drawn_depends_on_seed_and_position_alone() -> None:
    values = {}
    for seed in (0, 1):
        for position in (0, 1, 2**40):
            seed_generators(seed, position)
            values[seed, position] = drawn()
            drawn()
            seed_generators(seed, position)
            assert drawn() == values[seed, position]
    numbers = [number for row in values.values() for number in row[1:]]
    assert len(set(numbers)) == 6 * 6


def test_seeds_are_the_same_in_every_version() -> None:
    seed_generators(5, 7)
    first = drawn()[1:]
    words = np.random.Philox(np.random.SeedSequence(5, spawn_key=(4, 7))).random_raw(9)
    number = sum(int(word) << (64 * place) for place, word in enumerate(words[:4]))
    halves = [int(word) >> shift & 0xFFFFFFFF for word in words[4:8] for shift in (0, 32)]
    python, numpy = random.Random(number), np.random.RandomState(np.array(halves, np.uint32))
    generator = torch.Generator().manual_seed(int(words[8]) >> 1)
    expected = [python.random(), python.gauss(0, 1), numpy.random_sample(), numpy.standard_normal()]
    expected += [torch.rand((), dtype=torch.float64, generator=generator).item()]
    expected += [torch.randn((), dtype=torch.float64, generator=generator).item()]
    assert first == expected


@pytest.mark.parametrize("fails", [False, True])
def test_kept_generators_go_on_as_if_nothing_had_been_drawn(fails: bool) -> None:
    seed_generators(0, 0)
    expected = [drawn(), drawn()]
    seed_generators(0, 0)
    assert drawn() == expected[0]  # leaves half of a pair of normal numbers in each generator
    with contextlib.suppress(KeyError), kept_generators():
        seed_generators(1, 1)
        drawn()
        if fails:
            raise KeyError
    assert drawn() == expected[1]


def test_each_item_of_a_batch_has_its_own_position() -> None:
    whole, labels = load_batch(Drawn(9), [4, 4, 2], seed=1, position=10)
    assert labels is not None
    assert labels.tolist() == [4, 4, 2]
    for offset, index in enumerate([4, 4, 2]):
        assert torch.equal(whole[offset], load_batch(Drawn(9), [index], seed=1, position=10 + offset)[0][0])
    assert not torch.equal(whole[0], whole[1])


def test_batches_have_no_history_of_gradients() -> None:
    data = TensorDataset(torch.ones(2, 1, requires_grad=True))
    assert not load_batch([data[0][0], data[1][0]], [0, 1], seed=0, position=0)[0].requires_grad


def test_before_item_sees_each_position() -> None:
    seen: list[int] = []
    load_batch(Drawn(9), [4, 3], seed=1, position=10, before_item=seen.append)
    assert seen == [10, 11]


def test_faults_of_items_name_the_item() -> None:
    with pytest.raises(DataError, match=r"item 2 .*\(position 9 of.*ValueError: bad pixel") as caught:
        load_batch(Faulty(4, {2: "value error"}), [1, 2], seed=0, position=8)
    assert isinstance(caught.value.__cause__, ValueError)
    with pytest.raises(ImageDecodeError, match=r"broken.png") as own:
        load_batch(Faulty(4, {2: "own error"}), [1, 2], seed=0, position=8)
    assert own.value.__notes__ == ["This was item 2 of the data set, at position 9 of the stream."]
    with pytest.raises(DataError, match="positions 8 to 9 do not make one batch"):
        load_batch(Faulty(4, {2: "other shape"}), [1, 2], seed=0, position=8)
    with pytest.raises(TypeError, match="`images` is 'str'"):
        load_batch(Faulty(4, {2: "no tensor"}), [2], seed=0, position=0)


@pytest.mark.parametrize("indices", [[1], [1, 1, 1]])
def test_a_batch_that_does_not_fit_in_memory_is_told_with_its_shape(indices: list[int]) -> None:
    shape = rf"\[{len(indices)}, {2**46}\]"
    with pytest.raises(DataError, match=f"positions 8 to .*, a batch of shape {shape}, do not fit .*smaller batch"):
        load_batch(Faulty(4, {1: "giant"}), indices, seed=0, position=8)


def test_a_full_memory_in_an_item_names_the_item() -> None:
    with pytest.raises(DataError, match=r"item 2 of the data set \(position 9 .*MemoryError") as caught:
        load_batch(Faulty(4, {2: "memory"}), [1, 2], seed=0, position=8)
    assert isinstance(caught.value.__cause__, MemoryError)


def test_pairs() -> None:
    image = torch.zeros(1)
    assert as_pair(image) == (image, None)
    assert as_pair((image,)) == (image, None)
    assert as_pair((image, None)) == (image, None)
    assert as_pair([image, 3, "rest"]) == (image, torch.tensor(3))
    with pytest.raises(TypeError, match="`images` is 'NoneType'"):
        as_pair(())
