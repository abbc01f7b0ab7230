"""What is written on the command line, turned into what it means: commands, numbers, devices, files, checkpoints.

What cannot be meant raises ``argparse.ArgumentTypeError`` where it alone shows the mistake, and ``ValueError`` where it
depends on the machine or the disk.
"""

import argparse
import contextlib
import math
import os
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import TypeAlias

import torch

from ganblocks.cli.output import printable
from ganblocks.training.checkpoint_directory import read_newest_checkpoint
from ganblocks.training.checkpoint_format import Checkpoint

__all__ = [
    "WHERE",
    "Commands",
    "add_command",
    "add_group",
    "at_least",
    "newest_checkpoint",
    "positive",
    "require_free",
    "safetensors_file",
    "usable_device",
]

Commands: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"

WHERE = "run directory, its folder of checkpoints, or one checkpoint"  # help of what `newest_checkpoint` takes


def add_command(
    commands: Commands, name: str, run: Callable[[argparse.Namespace], int], text: str
) -> argparse.ArgumentParser:
    """Add a command.

    Args:
        commands: Where to: the whole command line, or a group of `add_group`.
        name: Of the command.
        run: Called with the options; returns the exit code.
        text: One line of help, without a capital or a full stop.

    Returns:
        The command's parser, for its options.
    """
    parser = commands.add_parser(name, help=text, description=_sentence(text))
    parser.set_defaults(run=run)
    return parser


def add_group(commands: Commands, name: str, text: str) -> Commands:
    """Add a name that further commands stand behind, as in ``checkpoint list``; returns the place to add them to."""
    group = commands.add_parser(name, help=text, description=_sentence(text))
    return group.add_subparsers(title="commands", metavar="COMMAND", required=True)


def _sentence(text: str) -> str:
    return text[0].upper() + text[1:] + "."


def at_least(minimum: int) -> Callable[[str], int]:
    """A type of option: a whole number from ``minimum`` to 2^63 - 1."""

    def number(text: str) -> int:
        if not (text.isascii() and text.isdigit() and minimum <= int(text) < 2**63):
            raise argparse.ArgumentTypeError(f"{text!r}, but must be a whole number, at least {minimum}")
        return int(text)

    return number


def positive(text: str) -> float:
    """A type of option: a finite number above 0."""
    with contextlib.suppress(ValueError):
        if 0 < float(text) < math.inf:
            return float(text)
    raise argparse.ArgumentTypeError(f"{text!r}, but must be a positive number")


def safetensors_file(text: str) -> Path:
    """A type of option: the name of a file of weights to write."""
    if not text.endswith(".safetensors"):
        raise argparse.ArgumentTypeError(f'{text!r}, but must end in ".safetensors"')
    return Path(text)


def usable_device(name: str) -> torch.device:
    """The device of that name, after a trial.

    Raises:
        ValueError: PyTorch knows no such device, or finds none here.
    """
    try:
        device = torch.device(name)
        torch.zeros(1, device=device).item()
    except (AssertionError, ImportError, RuntimeError) as error:
        raise ValueError(
            f"--device is {name}, but must be one that PyTorch finds here: cpu, cuda, cuda:1 ..."
        ) from error
    return device


def require_free(path: Path, force: bool) -> None:
    """Raise ValueError unless nothing is there, not even a dangling link, or it is no folder and may be replaced."""
    if path.is_dir():
        raise ValueError(f"--out is {path}, but that is a folder")
    if os.path.lexists(path) and not force:
        raise ValueError(f"--out is {path}, but that exists (--force replaces it)")


def newest_checkpoint(path: Path) -> Checkpoint:
    """The newest intact checkpoint; damaged newer ones are told of on stderr. Errors: `read_newest_checkpoint`."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        checkpoint = read_newest_checkpoint(path)
    for warning in caught:
        print(printable(f"warning: {warning.message}"), file=sys.stderr)
    return checkpoint
