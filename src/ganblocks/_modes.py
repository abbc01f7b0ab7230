"""Networks in evaluation mode, or without gradients, for a while; after it each part is as it was."""

import contextlib
from collections.abc import Iterator

from torch import nn

__all__ = ["evaluation_mode", "frozen"]


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


@contextlib.contextmanager
def frozen(module: nn.Module) -> Iterator[None]:
    """Spend no work on gradients of these weights, then put everything back.

    Args:
        module: A network; weights that need no gradient as it is stay so.
    """
    trained = [parameter for parameter in module.parameters() if parameter.requires_grad]
    for parameter in trained:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in trained:
            parameter.requires_grad_(True)
