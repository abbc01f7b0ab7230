"""Every model of the registry, as small as it gets, with weights like those of a trained one."""

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from ganblocks.models.autoencoder import AutoencoderConfig, ConvDenoiserConfig
from ganblocks.models.backbone_classifier import BackboneClassifierConfig
from ganblocks.models.backbones import PooledClassifierConfig, VGGClassifierConfig
from ganblocks.models.classifier import ClassifierConfig
from ganblocks.models.config import ModelConfig
from ganblocks.models.dcgan import DCGANConfig
from ganblocks.models.infogan import InfoGANConfig
from ganblocks.models.painting_classifier import PaintingCNNConfig, PaintingMLPConfig, TwoLayerPaintingCNNConfig
from ganblocks.models.progan import ProGANConfig
from ganblocks.models.r3gan import R3GANConfig
from ganblocks.models.registry import model_from_metadata
from ganblocks.models.stacked import StackedClassifierConfig
from ganblocks.models.style_transfer import StyleDecoderConfig, TransformConfig
from ganblocks.models.two_head_classifier import TwoHeadClassifierConfig
from ganblocks.models.vae import VAEConfig
from ganblocks.models.wgan_gp import WGANGPConfig

__all__ = ["CASES", "LARGE_CASES", "Case", "arguments", "tiny_model"]

Shape = tuple[int, ...]


class Case(NamedTuple):
    """A name of the registry, a configuration, and for each method of interest what it is called with.

    Shapes are those of one input, without N; ``num_classes`` in their place stands for labels.
    """

    name: str
    config: ModelConfig
    calls: dict[str, tuple[Shape | int, ...]]


GREY, RGB = (1, 8, 8), (3, 8, 8)
PROGAN = ProGANConfig.karras2018(8, latent_dim=4, base_channels=16, max_channels=4, image_channels=1)
TAUGHT_PROGAN = ProGANConfig.document(
    8, latent_dim=4, base_channels=16, max_channels=4, image_channels=1, num_classes=3
)
DCGAN = DCGANConfig(resolution=8, latent_dim=4, base_channels=4, num_classes=3)
TAUGHT_DCGAN = DCGANConfig.document_tutorial(8, latent_dim=4, base_channels=4)
INFOGAN = InfoGANConfig(resolution=8, noise_dim=4, categories=3, base_channels=2, dense_width=8, code_width=4)
R3GAN = R3GANConfig(
    resolution=8, latent_dim=4, image_channels=1, num_classes=3, widths=(8, 4), blocks_per_stage=1, group_size=4
)
WGAN_GP = WGANGPConfig(resolution=16, latent_dim=4, image_channels=1, num_classes=3, base_channels=2, max_channels=4)
DENSE = AutoencoderConfig(input_shape=GREY, widths=(6, 3))
VAE = VAEConfig(resolution=8, hidden_dims=(5,), channels=(2,), num_classes=3, likelihood="gaussian")
SMALL = ClassifierConfig(resolution=8, num_classes=3, channels=(2, 3), feature_dim=4)
BACKBONE = BackboneClassifierConfig(backbone="mobilenet_v3_small", num_classes=3, hidden_dim=4)

CASES: dict[str, Case] = {
    "progan": Case("progan", PROGAN, {"forward": ((4,),)}),
    "taught progan": Case("progan", TAUGHT_PROGAN, {"forward": ((4,), 3)}),
    "progan_discriminator": Case("progan_discriminator", PROGAN, {"forward": (GREY,)}),
    "dcgan": Case("dcgan", DCGAN, {"forward": ((4,), 3)}),
    "taught dcgan": Case("dcgan", TAUGHT_DCGAN, {"forward": ((4,),)}),
    "dcgan_discriminator": Case("dcgan_discriminator", DCGAN, {"forward": (GREY, 3)}),
    "infogan": Case("infogan", INFOGAN, {"forward": ((9,),)}),
    "infogan_discriminator": Case("infogan_discriminator", INFOGAN, {"forward": (GREY,)}),
    "r3gan": Case("r3gan", R3GAN, {"forward": ((4,), 3)}),
    "r3gan_discriminator": Case("r3gan_discriminator", R3GAN, {"forward": (GREY, 3)}),
    "wgan_gp": Case("wgan_gp", WGAN_GP, {"forward": ((4,), 3)}),
    "wgan_gp_critic": Case("wgan_gp_critic", WGAN_GP, {"forward": ((1, 16, 16), 3)}),
    "dense_autoencoder": Case("dense_autoencoder", DENSE, {"encode": (GREY,), "decode": ((3,),)}),
    "tied autoencoder": Case("dense_autoencoder", DENSE.replace(tied=True), {"encode": (GREY,), "decode": ((3,),)}),
    "conv_denoiser": Case(
        "conv_denoiser",
        ConvDenoiserConfig(resolution=8, channels=(3, 2)),
        {"forward": (GREY,), "decode": ((2, 2, 2),)},
    ),
    "vae": Case("vae", VAE, {"encode": (GREY, 3), "decode": ((2,), 3)}),
    "plain vae": Case("vae", VAEConfig(resolution=8, hidden_dims=(5,)), {"decode": ((2,),)}),
    "transform_network": Case("transform_network", TransformConfig(3, 2, 1), {"forward": ((3, 10, 9),)}),
    "style_decoder": Case("style_decoder", StyleDecoderConfig(3, (4, 2), (1, 2)), {"forward": ((4, 3, 3),)}),
    "classifier": Case("classifier", SMALL, {"forward": (GREY,), "features": (GREY,)}),
    "stacked": Case("stacked", StackedClassifierConfig(8, 1, 3, (5, 4)), {"forward": (GREY,)}),
    "painting_cnn": Case(
        "painting_cnn", PaintingCNNConfig(8, num_classes=3, channels=(2, 3), norm=True), {"forward": (RGB,)}
    ),
    "painting_mlp": Case("painting_mlp", PaintingMLPConfig(8, num_classes=3, feature_dim=4), {"forward": (RGB,)}),
    "two_layer_painting_cnn": Case(
        "two_layer_painting_cnn",
        TwoLayerPaintingCNNConfig(8, num_classes=3, channels=(2, 3), feature_dim=4),
        {"forward": (RGB,)},
    ),
    "two_head_classifier": Case(
        "two_head_classifier", TwoHeadClassifierConfig("classifier", SMALL.to_dict(), 2), {"both": (GREY,)}
    ),
    "backbone_classifier": Case("backbone_classifier", BACKBONE, {"forward": ((3, 32, 32),)}),
    "vgg_classifier": Case(
        "vgg_classifier", VGGClassifierConfig(resolution=32, num_classes=3, hidden_dim=4), {"forward": ((3, 32, 32),)}
    ),
    "pooled_classifier": Case("pooled_classifier", PooledClassifierConfig(num_classes=3), {"forward": ((3, 32, 32),)}),
}
LARGE_CASES = ("backbone_classifier", "pooled_classifier", "vgg_classifier")
"""Those whose backbones have no small form: 1 to 15 million parameters."""


def tiny_model(case: str) -> nn.Module:
    """The model in evaluation mode; no weight, bias or running statistic is 0 or 1 as in a new one."""
    name, config, _ = CASES[case]
    model = model_from_metadata({"model": name, "config": config.to_dict()})
    with torch.no_grad():
        for tensor in model.state_dict().values():
            if not tensor.is_floating_point():
                tensor.fill_(7)
            elif case in LARGE_CASES:
                tensor.add_(0.01)
            elif tensor.dim() > 1:
                tensor.normal_(std=0.5)
            else:
                tensor.uniform_(0.25, 0.75)
        if case in LARGE_CASES:  # otherwise nothing is left of an image a hundred layers on
            norms = [layer for layer in model.modules() if isinstance(layer, nn.BatchNorm1d | nn.BatchNorm2d)]
            momenta = [layer.momentum for layer in norms]
            for layer in norms:
                layer.momentum = 1.0
            model.train()(*arguments(case, count=8))
            for layer, momentum in zip(norms, momenta, strict=True):
                layer.momentum = momentum
    return model.eval()


def arguments(case: str, method: str = "", count: int = 3) -> tuple[Tensor, ...]:
    """What the method is called with, N = ``count``; without a name, the first method."""
    calls = CASES[case].calls
    made: list[Any] = []
    for shape in calls[method or next(iter(calls))]:
        made.append(torch.arange(count) % shape if isinstance(shape, int) else torch.rand(count, *shape))
    return tuple(made)
