"""Images that are there twice: the same pixels, or the same picture at another size, brightness or compression.

A picture in the train part and again in the test part makes a test of memory. Find the groups here, and keep each in
one part with the ``groups`` of :func:`ganblocks.data.stratified.stratified_split`.

The two hashes have 64 bits, of which two pictures that have nothing in common share about a half:

- the cosine hash, N. Krawetz 2011, "Looks like it", after C. Zauner 2010, "Implementation and benchmarking of
  perceptual image hash functions", section 3.2.1;
- the difference hash, N. Krawetz 2013, "Kind of like that".
"""

import hashlib
import math
import operator
from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Literal, get_args

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from ganblocks._checks import require, require_rank

__all__ = [
    "Hash",
    "cosine_hash",
    "difference_hash",
    "exact_duplicates",
    "group_numbers",
    "groups_across",
    "hash_distances",
    "near_duplicates",
]

Hash = Literal["cosine", "difference"]
"""Which perceptual hash: :func:`cosine_hash` or :func:`difference_hash`."""

Groups = list[tuple[int, ...]]

_BITS = 64
_BT601 = (0.299, 0.587, 0.114)
_PIXELS_AT_ONCE = 2**22  # of the images that are shrunk together
_PAIRS_AT_ONCE = 2**20
_FLAT = 1e-3  # a coefficient below it is rounding; one grey level in one of 1,024 pixels makes about 1e-3 or more
_ONES = np.array([number.bit_count() for number in range(2**16)], dtype=np.uint8)


def exact_duplicates(images: Tensor) -> Groups:
    """Find the images whose pixels are equal, every one.

    Args:
        images: [N, C, H, W], uint8; N may be 0.

    Returns:
        Groups of two or more indices, ascending; the groups in the order of their first.

    Raises:
        TypeError: Not a uint8 tensor.
        ValueError: Another number of dimensions.
    """
    require_rank(images, "images", 4, 4)
    require(images.dtype == torch.uint8, "images.dtype", images.dtype, "uint8", TypeError)
    found: defaultdict[bytes, list[int]] = defaultdict(list)
    for index, image in enumerate(images.detach()):
        found[hashlib.sha256(image.cpu().contiguous().numpy().tobytes()).digest()].append(index)
    return [tuple(group) for group in found.values() if len(group) > 1]


def near_duplicates(images: Tensor, threshold: int = 4, *, kind: Hash = "cosine") -> Groups:
    """Find the images that show nearly the same picture, by the distance of their perceptual hashes.

    Each image is joined with all whose hash differs in at most ``threshold`` bits, so that a chain of small steps is
    one group. Images of different sizes: bring them to one size first, or hash each size by itself and compare with
    :func:`hash_distances`. Whoever deletes what is found looks at it first: images that were taken alike, such as
    slices of one scan, may have one hash.

    A mirrored copy is another picture, unless the picture is nearly symmetrical. Images of one colour all have one
    hash.

    Args:
        images: [N, C, H, W] with C = 1 or 3 and H, W >= 1, uint8; N may be 0.
        threshold: Bits that may differ, 0 to 63. Cosine hashes differ in even numbers of bits, except of pictures with
            large plain areas. The larger it is, the more different pictures count as one.
        kind: Which hash.

    Returns:
        Groups of two or more indices, ascending; the groups in the order of their first.

    Raises:
        TypeError: Not a uint8 tensor.
        ValueError: Another shape, or an option out of range.
    """
    threshold = operator.index(threshold)
    require(0 <= threshold < _BITS, "threshold", threshold, "from 0 to 63 bits")
    require(kind in get_args(Hash), "kind", kind, 'one of "cosine", "difference"')
    hashes = cosine_hash(images) if kind == "cosine" else difference_hash(images)
    different, positions = np.unique(hashes, return_inverse=True)
    component = np.arange(len(different))
    rows = max(1, _PAIRS_AT_ONCE // max(1, len(different)))
    for start in range(0, len(different), rows):
        near = hash_distances(different[start : start + rows], different[start:]) <= threshold  # itself among them
        for offset in np.flatnonzero(near.sum(1) > 1):
            joined = np.unique(component[start:][near[offset]])
            if len(joined) > 1:
                component[np.isin(component, joined)] = joined[0]
    found: defaultdict[int, list[int]] = defaultdict(list)
    for index, position in enumerate(positions.reshape(-1)):
        found[int(component[position])].append(index)
    return [tuple(group) for group in found.values() if len(group) > 1]


def cosine_hash(images: Tensor) -> NDArray[np.uint64]:
    """The 64 signs of the coarsest waves in an image: the hash that is often called pHash.

    The image in grey, shrunk to 32 x 32, is taken apart by the two-dimensional discrete cosine transform (DCT-II). Of
    the 8 x 8 coefficients of the lowest frequencies, each gives a one if it is above their median. Coefficients of
    no more than rounding count as 0.

    Another brightness changes the first coefficient only, and another contrast scales all of them: neither changes a
    bit, as long as no pixel is cut at black or white.

    Args:
        images: [N, C, H, W] with C = 1 or 3 and H, W >= 1, uint8; N may be 0.

    Returns:
        [N], the first coefficient in the highest bit, row by row.

    Raises:
        TypeError: Not a uint8 tensor.
        ValueError: Another shape.
    """
    n, k = torch.arange(32, dtype=torch.float64), torch.arange(8, dtype=torch.float64)
    waves = torch.cos(math.pi / 64 * (2 * n + 1) * k[:, None])  # [8, 32]
    waves *= math.sqrt(2 / 32)
    waves[0] /= math.sqrt(2)
    coefficients = (waves @ _shrunk(images, 32, 32) @ waves.T).flatten(1).numpy()  # [N, 64]
    coefficients[np.abs(coefficients) < _FLAT] = 0
    if len(coefficients) == 0:
        return np.zeros(0, dtype=np.uint64)
    return _packed(coefficients > np.median(coefficients, axis=1, keepdims=True))


def difference_hash(images: Tensor) -> NDArray[np.uint64]:
    """Where an image grows brighter from left to right: the hash that is often called dHash.

    The image in grey, shrunk to 9 pixels wide and 8 high, gives a one for each pixel that is darker than its right
    neighbour. In a plain area the noise of a compression decides; there the cosine hash is steadier.

    Args:
        images: [N, C, H, W] with C = 1 or 3 and H, W >= 1, uint8; N may be 0.

    Returns:
        [N], the pair at the top left in the highest bit, row by row.

    Raises:
        TypeError: Not a uint8 tensor.
        ValueError: Another shape.
    """
    small = _shrunk(images, 8, 9).numpy()
    return _packed((small[:, :, 1:] - small[:, :, :-1] > _FLAT).reshape(len(small), _BITS))


def hash_distances(first: NDArray[np.uint64], second: NDArray[np.uint64]) -> NDArray[np.uint8]:
    """In how many bits each of the first hashes differs from each of the second ones.

    Args:
        first: [N] hashes.
        second: [M] hashes of the same kind.

    Returns:
        [N, M], from 0 to 64.

    Raises:
        TypeError: Not uint64.
        ValueError: Not one dimension.
    """
    for name, hashes in (("first", first), ("second", second)):
        require(hashes.dtype == np.uint64, f"{name}.dtype", str(hashes.dtype), "uint64", TypeError)
        require(hashes.ndim == 1, f"{name}.shape", hashes.shape, "[N]")
    differing = first[:, None] ^ second[None]  # [N, M]
    if count_ones := getattr(np, "bitwise_count", None):  # from NumPy 2.0 on
        return np.asarray(count_ones(differing), dtype=np.uint8)
    return _count_ones(differing)


def _count_ones(differing: NDArray[np.uint64]) -> NDArray[np.uint8]:
    """The ones of each number, 16 bits at a time from a table."""
    distances = np.zeros(differing.shape, dtype=np.uint8)
    for shift in (0, 16, 32, 48):
        distances += _ONES[(differing >> np.uint64(shift)) & np.uint64(0xFFFF)]
    return distances


def group_numbers(groups: Iterable[Sequence[int]], count: int) -> NDArray[np.int64]:
    """Give each image the number of its group, as `stratified_split` takes it; an image in no group is one by itself.

    Args:
        groups: Indices from 0 to ``count - 1``, none in two groups. Lists of different kinds of duplicates that share
            images cannot be put one behind the other; those of `near_duplicates` hold those of `exact_duplicates`.
        count: The number of images N.

    Returns:
        [N], the lowest index of the group.

    Raises:
        ValueError: An index is out of range or in two groups.
    """
    require(count >= 0, "count", count, "0 or above")
    numbers = np.arange(count, dtype=np.int64)
    seen: set[int] = set()
    for group in groups:
        for index in group:
            require(0 <= index < count, "groups", index, f"of indices from 0 to {count - 1}")
            require(index not in seen, "groups", index, "of indices that are in one group each")
            seen.add(index)
        numbers[list(group)] = min(group, default=0)
    return numbers


def groups_across(groups: Iterable[Sequence[int]], parts: Sequence[Sequence[int] | NDArray[np.int64]]) -> Groups:
    """Find the groups that have images in more than one part, such as a test image that is also trained on.

    Args:
        groups: Groups of indices, as from `near_duplicates`.
        parts: The indices of each part, as from `stratified_split`.

    Returns:
        These groups, as they are; empty for parts that share nothing.
    """
    members = [{int(index) for index in part} for part in parts]
    return [tuple(group) for group in groups if sum(not part.isdisjoint(group) for part in members) > 1]


def _shrunk(images: Tensor, height: int, width: int) -> Tensor:
    """In grey by the weights of ITU-R BT.601 and at this size, averaged over all pixels: [N, height, width], float64.

    Smaller images are enlarged; between pixels it is linear.
    """
    require_rank(images, "images", 4, 4)
    require(images.dtype == torch.uint8, "images.dtype", images.dtype, "uint8", TypeError)
    shape = tuple(images.shape)
    require(shape[1] in (1, 3) and min(shape[2:]) >= 1, "images.shape", shape, "[N, 1 or 3, H, W] with pixels")
    weights = torch.tensor(_BT601 if shape[1] == 3 else (1.0,), dtype=torch.float64)
    small = torch.empty((shape[0], height, width), dtype=torch.float64)
    step = max(1, _PIXELS_AT_ONCE // (shape[2] * shape[3]))
    for start in range(0, shape[0], step):
        block = images[start : start + step].detach().cpu().to(torch.float64)
        grey = torch.einsum("nchw,c->nhw", block, weights)[:, None]
        resized = F.interpolate(grey, (height, width), mode="bilinear", antialias=True, align_corners=False)
        small[start : start + step] = resized[:, 0]
    return small


def _packed(bits: NDArray[np.bool_]) -> NDArray[np.uint64]:
    """Bits [N, 64] as one number each, the first bit the highest."""
    return np.packbits(bits, axis=1).view(">u8").astype(np.uint64).reshape(len(bits))
