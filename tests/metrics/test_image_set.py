"""One pass keeps what is asked for and nothing else."""

import pytest
import torch
from torch import nn

from ganblocks.errors import EmptyDatasetError
from ganblocks.functional import from_uint8
from ganblocks.metrics.features import FeatureExtractor
from ganblocks.metrics.image_set import collect_images
from ganblocks.metrics.input_spec import InputSpec

IMAGES = torch.randint(0, 256, (11, 3, 4, 5), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
EXTRACTOR = FeatureExtractor(nn.Flatten(), InputSpec(), name="pixels")


@pytest.mark.parametrize("most", [0, 1, 4, 5, 11, 100])
@pytest.mark.parametrize("cut", [1, 4, 11])
def test_the_first_images_are_kept_as_bytes_and_no_more(most: int, cut: int) -> None:
    for images in (IMAGES, from_uint8(IMAGES)):
        found = collect_images("real", images.split(cut), most_images=most)
        assert torch.equal(found.images.reshape(-1, 3, 4, 5), IMAGES[:most])
        assert (found.count, found.shape, found.fingerprint) == (11, (3, 4, 5), None)


@pytest.mark.parametrize("wanted", [{"rows"}, {"statistics"}, {"rows", "statistics"}])
def test_only_the_features_asked_for_are_kept(wanted: set[str]) -> None:
    found = collect_images("real", IMAGES.split(3), extractor=EXTRACTOR, features=frozenset(wanted))
    assert (found.statistics is not None) == ("statistics" in wanted)
    assert torch.equal(found.rows, EXTRACTOR(IMAGES).features if "rows" in wanted else torch.empty(0))
    assert len(found.images) == len(found.logits) == 0
    assert found.fingerprint == f"{EXTRACTOR.fingerprint} of 3x4x5 images"


def test_preparation_is_part_of_the_fingerprint() -> None:
    found = collect_images(
        "real", [IMAGES], extractor=EXTRACTOR, features=frozenset({"statistics"}), preparation="squashed"
    )
    assert found.fingerprint == f"{EXTRACTOR.fingerprint} of 3x4x5 images, squashed"
    assert found.statistics is not None
    assert found.statistics.compute().fingerprint == found.fingerprint


def test_empty_batches_count_as_nothing_and_an_empty_set_is_an_error() -> None:
    told: list[int] = []
    parts = [IMAGES[:0], IMAGES[:3], IMAGES[:0], IMAGES[3:]]
    assert collect_images("real", parts, progress=told.append).count == 11
    assert told == [3, 11]
    with pytest.raises(EmptyDatasetError, match="`fake` has no image"):
        collect_images("fake", [IMAGES[:0]])


def test_several_sizes_are_refused() -> None:
    with pytest.raises(ValueError, match="`real` has images of 3x4x5 and of 3x4x4; all must have one size"):
        collect_images("real", [IMAGES, IMAGES[..., :4]])
