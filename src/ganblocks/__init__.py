"""Building blocks for generative adversarial networks and autoencoders in PyTorch."""

from ganblocks._version import __version__

__all__ = ["__version__"]
