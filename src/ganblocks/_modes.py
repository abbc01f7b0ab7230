"""Evaluation mode for a while, after which every layer has its own mode again."""

import contextlib
from collections.abc import Iterator

from torch import nn

__all__ = ["evaluation_mode"]


@contextlib.contextmanager
def evaluation_mode(*networks: nn.Module) -> Iterator[None]:
    """Put networks into evaluation mode, and at the end each of their submodules back into its own mode.

    The modes come back after an exception too. Networks that are in evaluation mode already are not touched.

    Args:
        networks: Any number; they may share layers.
    """
    modes = {part: part.training for network in networks for part in network.modules()}
    changed = [network for network in networks if any(modes[part] for part in network.modules())]
    try:
        for network in changed:
            network.eval()
        yield
    finally:
        for network in changed:
            network.train(modes[network])  # some modules do more than set a flag, traced ones exchange their graph
        if changed:
            for part, training in modes.items():
                part.training = training
