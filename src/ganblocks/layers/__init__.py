"""Layers: the formulas of `ganblocks.functional` with their parameters."""

from ganblocks.functional.fade import fade_in
from ganblocks.layers.bias_act import BiasAct
from ganblocks.layers.minibatch_std import MinibatchStd
from ganblocks.layers.pixel_norm import PixelNorm
from ganblocks.layers.weight_scale import WSConv2d, WSConvTranspose2d, WSLinear

__all__ = ["BiasAct", "MinibatchStd", "PixelNorm", "WSConv2d", "WSConvTranspose2d", "WSLinear", "fade_in"]
