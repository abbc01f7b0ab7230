"""``python -m ganblocks`` is the command ``ganblocks``."""

import sys

from ganblocks.cli import main

if __name__ == "__main__":
    sys.exit(main())
