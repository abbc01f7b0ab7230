"""Distances between sets of images. The maths is ours; lower is better where the name says distance."""

from ganblocks.metrics.swd import (
    laplacian_pyramid,
    patch_descriptors,
    progan_swd,
    reconstruct,
    sliced_wasserstein_distance,
)

__all__ = ["laplacian_pyramid", "patch_descriptors", "progan_swd", "reconstruct", "sliced_wasserstein_distance"]
