"""Streams of batches that can be entered at any position."""

from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, Dataset, TensorDataset
from worker_items import Drawn

from ganblocks.data import (
    ArrayImages,
    DatasetBatches,
    IterableBatches,
    MultiResolutionImages,
    ProgressiveBatches,
    as_batches,
)
from ganblocks.data.batches import Batches, part_of_batch
from ganblocks.errors import DataError, EmptyDatasetError


@pytest.fixture
def images() -> MultiResolutionImages:
    """Image i is filled with 10 i, its left half brightened by 5; its label is i % 3."""
    pixels = np.zeros((12, 8, 8), np.uint8) + 10 * np.arange(12, dtype=np.uint8)[:, None, None]
    pixels[:, :, :4] += 5
    return MultiResolutionImages(ArrayImages(pixels, labels=np.arange(12) % 3, layout="NHW"), resolution=8)


def test_any_cutting_gives_the_same_stream(images: MultiResolutionImages) -> None:
    stream = ProgressiveBatches(images, seed=1)
    whole, labels = stream.batch(0, 30, 8)
    assert labels is not None
    parts = [stream.batch(position, 5, 8) for position in range(0, 30, 5)]
    assert torch.equal(whole, torch.cat([part for part, _ in parts]))
    assert torch.equal(labels, torch.cat([label for _, label in parts if label is not None]))
    numbers = whole[:, 0].flatten(1).min(1).values // 10
    assert torch.equal(numbers % 3, labels)
    assert sorted(numbers[:12].tolist()) == list(range(12))


def test_mirroring_flips_about_half_and_can_be_switched_off(images: MultiResolutionImages) -> None:
    mirrored = ProgressiveBatches(images, seed=1).batch(0, 600, 8)[0]
    share = (mirrored[:, 0, 0, 0] < mirrored[:, 0, 0, 7]).float().mean().item()
    assert 0.4 < share < 0.6
    plain = ProgressiveBatches(images, seed=1, mirror=False).batch(0, 60, 8)[0]
    assert (plain[:, 0, 0, 0] > plain[:, 0, 0, 7]).all()


def test_resolution_chooses_the_level_and_none_the_largest(images: MultiResolutionImages) -> None:
    stream = ProgressiveBatches(images)
    assert stream.batch(0, 2, 4)[0].shape == (2, 1, 4, 4)
    assert stream.batch(0, 2, None)[0].shape == (2, 1, 8, 8)


def test_indices_restrict_the_stream(images: MultiResolutionImages) -> None:
    batch, _ = ProgressiveBatches(images, indices=np.array([2, 5])).batch(0, 20, 8)
    assert set((batch[:, 0].flatten(1).min(1).values // 10).tolist()) == {2, 5}


def test_map_style_data_sets() -> None:
    with_labels = as_batches(TensorDataset(torch.arange(6.0)[:, None], torch.arange(6)), seed=3)
    images, labels = with_labels.batch(2, 6, None)
    assert labels is not None
    assert torch.equal(images[:, 0].long(), labels)
    assert isinstance(with_labels, DatasetBatches)

    class Bare(Dataset[torch.Tensor]):
        def __len__(self) -> int:
            return 4

        def __getitem__(self, index: int) -> torch.Tensor:
            return torch.full((1, 2, 2), float(index))

    images, labels = as_batches(Bare()).batch(0, 4, None)
    assert labels is None
    assert sorted(images[:, 0, 0, 0].tolist()) == [0, 1, 2, 3]


def test_items_are_functions_of_seed_and_position_in_any_cutting() -> None:
    whole, labels = DatasetBatches(Drawn(7), seed=2).batch(0, 21, None)
    assert labels is not None
    assert torch.equal(labels, whole[:, 0].long())
    stream = DatasetBatches(Drawn(7), seed=2)
    for position, count in [(0, 5), (5, 5), (10, 11), (3, 1), (13, 8)]:
        torch.rand(3)
        assert torch.equal(stream.batch(position, count, None)[0], whole[position : position + count])
    assert len(set(whole[:, 1:].flatten().tolist())) == 21 * 6
    assert not torch.equal(DatasetBatches(Drawn(7), seed=3).batch(0, 21, None)[0], whole)


def test_loading_leaves_the_global_generators_as_they_were() -> None:
    torch.manual_seed(4)
    expected = torch.rand(2)
    torch.manual_seed(4)
    first = torch.rand(1)
    DatasetBatches(Drawn(7)).batch(0, 3, None)
    assert torch.equal(torch.cat([first, torch.rand(1)]), expected)


def test_workers_are_for_map_style_data_sets(images: MultiResolutionImages) -> None:
    data = TensorDataset(torch.arange(6.0)[:, None])
    stream = as_batches(data, seed=1, workers=1)
    assert torch.equal(stream.batch(2, 3, None)[0], as_batches(data, seed=1).batch(2, 3, None)[0])
    for other in (images, [torch.zeros(1)], stream):
        with pytest.raises(ValueError, match="`workers` is 1, but must be 0 for a "):
            as_batches(other, workers=1)
    for settings, name in (({"workers": -1}, "workers"), ({"timeout_seconds": 0.0}, "timeout_seconds")):
        with pytest.raises(ValueError, match=f"`{name}` is "):
            DatasetBatches(data, **settings)
    with pytest.raises(ValueError, match="`count` is 0"):
        as_batches(data).batch(0, 0, None)


def test_iterables_begin_anew_and_can_be_entered_anywhere() -> None:
    batches = [torch.zeros(3), torch.ones(2)]
    stream = as_batches(batches)
    values = []
    position = 0
    for _ in range(5):
        batch, _ = stream.batch(position, 99, None)
        values.append(batch.tolist())
        position += len(batch)
    assert values == [[0, 0, 0], [1, 1], [0, 0, 0], [1, 1], [0, 0, 0]]
    assert IterableBatches(batches).batch(8, 99, None)[0].tolist() == [1, 1]
    assert stream.batch(3, 99, None)[0].tolist() == [1, 1]  # going back starts over
    with pytest.raises(DataError, match="after 4 images"):
        IterableBatches(batches).batch(4, 99, None)


def test_a_data_loader_is_an_iterable_of_batches() -> None:
    loader = DataLoader(TensorDataset(torch.arange(4.0), torch.arange(4)), batch_size=2)
    images, labels = as_batches(loader).batch(2, 2, None)
    assert labels is not None
    assert images.tolist() == labels.tolist() == [2, 3]


@pytest.mark.parametrize("seed", [0, 1])
def test_a_shuffled_data_loader_is_entered_anywhere_in_the_same_order_and_disturbs_nothing(seed: int) -> None:
    """Its shuffling draws from the global generator: here a function of seed and position, another one each epoch."""

    def draw() -> Any:
        return as_batches(DataLoader(torch.arange(6.0), batch_size=2, shuffle=True), seed=seed)

    torch.manual_seed(3)
    whole, state = draw(), torch.get_rng_state()
    stream = [whole.batch(position, 2, None)[0].tolist() for position in range(0, 24, 2)]
    assert torch.equal(torch.get_rng_state(), state)
    epochs = [[value for batch in stream[start : start + 3] for value in batch] for start in range(0, 12, 3)]
    assert all(sorted(epoch) == [0, 1, 2, 3, 4, 5] for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) > 1
    torch.manual_seed(4)  # a resumed run has another state
    assert [draw().batch(position, 2, None)[0].tolist() for position in (0, 10, 22)] == [
        stream[0],
        stream[5],
        stream[11],
    ]
    assert stream != [as_batches(whole.batches, seed=seed + 5).batch(p, 2, None)[0].tolist() for p in range(0, 24, 2)]


def test_recognises_a_cache_and_keeps_a_stream(images: MultiResolutionImages) -> None:
    stream = as_batches(images)
    assert isinstance(stream, ProgressiveBatches)
    assert as_batches(stream) is stream


def test_empty_or_unusable_data_is_named() -> None:
    with pytest.raises(EmptyDatasetError, match="no images"):
        IterableBatches([]).batch(0, 1, None)
    with pytest.raises(EmptyDatasetError, match="no items"):
        DatasetBatches(TensorDataset(torch.zeros(0, 1)))
    with pytest.raises(TypeError, match="`data` is 'int'"):
        as_batches(3)
    with pytest.raises(TypeError, match="`images`"):
        IterableBatches([["no", "tensor"]]).batch(0, 1, None)


def stream_of(kind: str, images: MultiResolutionImages) -> Batches:
    if kind == "progressive":
        return ProgressiveBatches(images, seed=1)
    if kind == "data set":
        return DatasetBatches(Drawn(12), seed=1)
    return IterableBatches(DataLoader(TensorDataset(torch.arange(36.0)[:, None], torch.arange(36)), batch_size=6))


@pytest.mark.parametrize("parts", [1, 2, 3, 6])
@pytest.mark.parametrize("kind", ["progressive", "data set", "iterable"])
def test_parts_of_a_batch_are_the_batch(kind: str, parts: int, images: MultiResolutionImages) -> None:
    whole = stream_of(kind, images)
    shares = [stream_of(kind, images) for _ in range(parts)]
    for position in range(0, 30, 6):
        expected, labels = whole.batch(position, 6, 8)
        found = [part_of_batch(share, position, 6, 8, part=part, parts=parts) for part, share in enumerate(shares)]
        assert torch.equal(torch.cat([part for part, _ in found]), expected)
        assert labels is not None
        assert torch.equal(torch.cat([part for _, part in found if part is not None]), labels)


def test_a_batch_that_has_no_such_parts_is_refused(images: MultiResolutionImages) -> None:
    with pytest.raises(ValueError, match="`count` is 5, but must be divisible by the number of processes, 2"):
        part_of_batch(stream_of("progressive", images), 0, 5, 8, part=0, parts=2)
    with pytest.raises(DataError, match="a batch of 6 images cannot be divided among 4 processes"):
        part_of_batch(stream_of("iterable", images), 0, 8, None, part=0, parts=4)


def test_a_tensor_alone_is_refused_with_what_to_do() -> None:
    """Its rows would be taken for batches."""
    with pytest.raises(TypeError, match=r"TensorBatches\(images\)"):
        as_batches(torch.zeros(8, 3, 4, 4))
