"""Reference models, one paper a file. They hold no loss and no optimizer."""

from ganblocks.models import autoencoder, classifier, progan, stacked, vae

__all__ = [
    "autoencoder",
    "classifier",
    "progan",
    "stacked",
    "vae",
]
