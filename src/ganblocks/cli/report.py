"""``ganblocks report``: one page with settings, curves and samples of a run."""

import argparse
from pathlib import Path

from ganblocks.cli.arguments import Commands, add_command
from ganblocks.cli.output import say

__all__ = ["add_report"]


def add_report(commands: Commands) -> None:
    """Add ``report``."""
    add = add_command(commands, "report", _report, "one page with settings, curves and samples of a run").add_argument
    add("dir", type=Path, metavar="RUN", help="run directory")
    add("--out", type=Path, metavar="FILE", help="where to (default: RUN/report.html)")


def _report(options: argparse.Namespace) -> int:
    from ganblocks.visualization.report import write_report  # it draws, which needs an extra

    say(str(write_report(options.dir, options.out)))
    return 0
