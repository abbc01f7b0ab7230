"""Reference models, one paper a file. They hold no loss and no optimizer."""

from ganblocks.models import (
    autoencoder,
    backbone_classifier,
    backbones,
    classifier,
    dcgan,
    feature_maps,
    freezing,
    infogan,
    painting_classifier,
    progan,
    r3gan,
    stacked,
    style_transfer,
    two_head_classifier,
    vae,
    wgan_gp,
)

__all__ = [
    "autoencoder",
    "backbone_classifier",
    "backbones",
    "classifier",
    "dcgan",
    "feature_maps",
    "freezing",
    "infogan",
    "painting_classifier",
    "progan",
    "r3gan",
    "stacked",
    "style_transfer",
    "two_head_classifier",
    "vae",
    "wgan_gp",
]
