"""Where the command line begins and ends: the list of commands, exit codes, and one line for what goes wrong.

The exit code is 0 if all is well, 1 if checked data is not, and 2 for a wrong call or anything that could not be done,
with one line on stderr that says why; 130 after Ctrl-C and 141 after a closed pipe, as in a shell. Runs are only read:
what is written goes where ``--out`` says, and the page of ``report`` beside them unless it says otherwise.
"""

import argparse
import contextlib
import os
import sys
from collections.abc import Callable, Sequence

import torch

from ganblocks._version import __version__
from ganblocks.cli.arguments import Commands
from ganblocks.cli.checkpoint import add_checkpoint
from ganblocks.cli.data import add_data
from ganblocks.cli.evaluate import add_evaluate
from ganblocks.cli.info import add_info
from ganblocks.cli.output import printable
from ganblocks.cli.report import add_report
from ganblocks.cli.sample import add_sample
from ganblocks.errors import GanblocksError

__all__ = ["COMMANDS", "main"]

COMMANDS: tuple[Callable[[Commands], None], ...] = (  # in the order of the help
    add_checkpoint,
    add_sample,
    add_evaluate,
    add_report,
    add_data,
    add_info,
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code: 0, 1 (checked data is wrong) or 2 (it could not be done).

    Args:
        arguments: What follows the name of the command; ``None`` = those of this process.

    Raises:
        SystemExit: As argparse does, for a wrong call (code 2), ``--help`` and ``--version`` (code 0).
    """
    options = _parser().parse_args(arguments)
    try:
        code: int = options.run(options)
        sys.stdout.flush()
        return code
    except BrokenPipeError:  # the reader, `head` for one, has seen enough; nothing more goes into the pipe, at exit too
        with contextlib.suppress(OSError, ValueError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except KeyboardInterrupt:
        return 130
    except (GanblocksError, ValueError, OSError, ImportError, MemoryError) as error:
        failure: Exception = error
    except RuntimeError as error:  # torch reports a full memory as RuntimeError on the CPU
        if not isinstance(error, torch.OutOfMemoryError) and "can't allocate memory" not in str(error):
            raise
        failure = error
    print(printable(f"{type(failure).__name__}: {failure}"), file=sys.stderr)
    return 2


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="ganblocks", description="Look after the runs of ganblocks.")
    parser.add_argument("--version", action="version", version=f"ganblocks {__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for add in COMMANDS:
        add(commands)
    return parser
