"""Every source of images keeps the same promises."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ganblocks.data import ArrayImages, ImageFolder, ImageSource
from ganblocks.data.synthetic import Faces, Shapes


@pytest.fixture(params=["folder", "array", "faces", "shapes"])
def source(request: pytest.FixtureRequest, tmp_path: Path) -> ImageSource:
    if request.param == "array":
        return ArrayImages(np.arange(3 * 8 * 6, dtype=np.uint8).reshape(3, 8, 6), layout="NHW")
    if request.param == "folder":
        for index in range(3):
            Image.new("RGB", (6, 8), (index, 2, 3)).save(tmp_path / f"{index}.png")
        return ImageFolder(tmp_path)
    return Faces(3) if request.param == "faces" else Shapes(3)


def test_promises_of_a_source(source: ImageSource) -> None:
    assert len(source) == 3
    assert isinstance(source.fingerprint, str)
    assert source.labels is None or (source.labels.dtype == np.int64 and len(source.labels) == 3)
    assert source.labels is None or max(source.labels) < len(source.classes)
    for index in range(3):
        width, height = source.size(index)
        assert width > 0
        assert height > 0
        for resolution in (4, 16):
            image = source.read(index, resolution)
            assert image.shape == (source.image_channels, resolution, resolution)
            assert image.dtype == np.uint8
            assert np.array_equal(image, source.read(index, resolution))
