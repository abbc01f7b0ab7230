"""The command ``ganblocks``: look after checkpoints, sample from a run, report on it, and tell what is installed.

A module a command: its ``add_<name>(commands)`` gives the command its options and says what runs. A new one is such a
module and a line in ``COMMANDS`` of `ganblocks.cli.entry`.
"""

from ganblocks.cli.entry import main

__all__ = ["main"]
