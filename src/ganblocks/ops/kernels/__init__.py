"""The Triton kernels, and the only place that imports Triton; loaded when the first of them is launched."""

from ganblocks.ops.kernels._runtime import device_guard, is_interpreted, why_missing

__all__ = ["device_guard", "is_interpreted", "why_missing"]
