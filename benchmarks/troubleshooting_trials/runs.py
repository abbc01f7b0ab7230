"""Runs that end of themselves, and gradients of bounded length, for which the library has no option."""

import torch

from ganblocks.training import Trainer

__all__ = ["clip_gradients", "to_the_end"]


def to_the_end(trainer: Trainer) -> None:
    """Train; a signal, after which a run ends early and well, ends the program here, as it would spoil the figures.

    Raises:
        SystemExit: If the run was stopped.
    """
    result = trainer.fit()
    if not result.finished:
        raise SystemExit(result.exit_code)


def clip_gradients(optimizer: torch.optim.Optimizer, norm: float) -> None:
    """Scale all gradients of an optimizer to this norm together where they are longer; as a hook before its steps."""
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    torch.nn.utils.clip_grad_norm_(parameters, norm)
