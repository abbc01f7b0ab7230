"""A process that builds a cache at the same time as another; a module, since a process finds the function by name."""

import hashlib
import json
import time
import warnings
from pathlib import Path

import numpy as np

from ganblocks.data import ImageFolder, MultiResolutionImages, multi_resolution


class Meeting(ImageFolder):
    """Waits at the third image for the other process, so that both have written something and none has finished."""

    own: Path
    other: Path

    def read(self, index: int, resolution: int) -> np.ndarray:
        if index == 2:
            self.own.touch()
            end = time.monotonic() + 60
            while not self.other.exists() and time.monotonic() < end:
                time.sleep(0.005)
        return super().read(index, resolution)


def build(root: Path, place: Path, own: Path, other: Path, on_error: str) -> None:
    """Build, and write what came of it to a file beside the mark ``own``."""
    warnings.simplefilter("ignore")
    multi_resolution._CHUNK_BYTES = 1  # one image a chunk
    source = Meeting(root)
    source.own, source.other = own, other
    images = MultiResolutionImages(source, resolution=8, cache_dir=place, on_error=on_error)  # type: ignore[arg-type]
    base = images.at(8).base
    result = {
        "digest": digest_of(images),
        "fingerprint": images.fingerprint,
        "left_out": [entry.name for entry in images.left_out],
        "file": str(base.filename) if isinstance(base, np.memmap) else str(type(base)),
    }
    own.with_suffix(".json").write_text(json.dumps(result))


def digest_of(images: MultiResolutionImages) -> str:
    """Of the pixels at all resolutions."""
    return hashlib.sha256(b"".join(images.at(size).tobytes() for size in images.resolutions)).hexdigest()
