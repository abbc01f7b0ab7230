"""Layers: the formulas of `ganblocks.functional` with their parameters."""

from ganblocks.functional.fade import fade_in
from ganblocks.layers.attention import SelfAttention
from ganblocks.layers.bias_act import BiasAct
from ganblocks.layers.blocks import activated
from ganblocks.layers.conv import Conv2d, ConvTranspose2d, swap_convolutions
from ganblocks.layers.initialization import initialize
from ganblocks.layers.minibatch_std import MinibatchStd
from ganblocks.layers.pixel_norm import PixelNorm
from ganblocks.layers.projection import ProjectionHead
from ganblocks.layers.resample import Blur, DownsampleBox, UpsampleNearest
from ganblocks.layers.same_padding import SameConv2d, SameConvTranspose2d, same_padding
from ganblocks.layers.sampling import Reparameterize
from ganblocks.layers.spectral_norm import SpectralNorm, spectral_norm
from ganblocks.layers.weight_scale import WSConv2d, WSConvTranspose2d, WSLinear

__all__ = [
    "BiasAct",
    "Blur",
    "Conv2d",
    "ConvTranspose2d",
    "DownsampleBox",
    "MinibatchStd",
    "PixelNorm",
    "ProjectionHead",
    "Reparameterize",
    "SameConv2d",
    "SameConvTranspose2d",
    "SelfAttention",
    "SpectralNorm",
    "UpsampleNearest",
    "WSConv2d",
    "WSConvTranspose2d",
    "WSLinear",
    "activated",
    "fade_in",
    "initialize",
    "same_padding",
    "spectral_norm",
    "swap_convolutions",
]
