"""Reference models, one paper a file. They hold no loss and no optimizer."""

from ganblocks.models import classifier, progan

__all__ = ["classifier", "progan"]
