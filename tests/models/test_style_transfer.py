"""Networks that stylise in one pass: parameters, sizes, gradients, and the moments that a decoder is handed."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from ganblocks.functional.adaptive_norm import adaptive_instance_norm
from ganblocks.models.feature_maps import VGG19Features
from ganblocks.models.style_transfer import (
    StyleDecoder,
    StyleDecoderConfig,
    TransformConfig,
    TransformNetwork,
    stylized_features,
)
from tolerances import for_dtype

TINY = TransformConfig(3, 4, 1)


def random_images(*shape: int) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(0))


def test_parameters_by_hand() -> None:
    def convolution(ins: int, outs: int, side: int, norm: bool = True) -> int:
        return ins * outs * side**2 + outs + 2 * outs * norm

    down = convolution(3, 32, 9) + convolution(32, 64, 3) + convolution(64, 128, 3)
    up = convolution(128, 64, 3) + convolution(64, 32, 3) + convolution(32, 3, 9, norm=False)
    expected = down + 10 * convolution(128, 128, 3) + up
    assert sum(p.numel() for p in TransformNetwork(TransformConfig()).parameters()) == expected == 1_679_235
    pairs = [(512, 256), (256, 256), (256, 256), (256, 256), (256, 128), (128, 128), (128, 64), (64, 64), (64, 3)]
    expected = sum(9 * ins * outs + outs for ins, outs in pairs)
    assert sum(p.numel() for p in StyleDecoder(StyleDecoderConfig()).parameters()) == expected == 3_505_219


@given(N=st.integers(1, 2), H=st.integers(5, 14), W=st.integers(5, 14))
def test_any_size_comes_back_in_range(N: int, H: int, W: int) -> None:
    torch.manual_seed(0)
    made = TransformNetwork(TINY)(random_images(N, 3, H, W))
    assert made.shape == (N, 3, H, W)
    assert float(made.detach().min()) >= 0
    assert float(made.detach().max()) <= 1


def test_contrast_and_brightness_of_a_channel_do_not_pass_the_first_normalisation() -> None:
    """Why it is there: the style's contrast is wanted, not the content's (Ulyanov et al. 2016, section 2)."""
    torch.manual_seed(0)
    network = TransformNetwork(TINY).double().eval()
    images = random_images(1, 3, 12, 12).double()
    a, b = network(images), network(0.5 * images + 0.2)
    torch.testing.assert_close(a, b, rtol=0, atol=for_dtype(torch.float16)["atol"])  # but for eps beside a variance


def test_gradients_reach_images_and_weights() -> None:
    torch.manual_seed(0)
    network = TransformNetwork(TransformConfig(1, 2, 1)).double()
    images = random_images(1, 1, 8, 8).double().requires_grad_()
    assert torch.autograd.gradcheck(lambda x: network(x).sum((2, 3)), (images,))
    network(images).sum().backward()
    assert all(p.grad is not None for p in network.parameters())


def test_a_decoder_doubles_the_side_at_each_width() -> None:
    torch.manual_seed(0)
    decoder = StyleDecoder(StyleDecoderConfig(2, (5, 4, 3), (1, 2, 1)))
    assert decoder(torch.randn(2, 5, 3, 2)).shape == (2, 2, 12, 8)
    config = StyleDecoderConfig.from_json(decoder.config.to_json())
    assert config == decoder.config
    assert TransformConfig.from_json(TINY.to_json()) == TINY


def test_features_get_the_moments_of_the_style_as_far_as_wanted() -> None:
    extractor = VGG19Features(["block1_conv1", "block2_conv1"], generator=torch.Generator().manual_seed(0))
    content, style = random_images(2, 3, 8, 8), random_images(1, 3, 6, 10) ** 2
    seen, wanted = (extractor(images)["block2_conv1"] for images in (content, style))
    full = stylized_features(extractor, content, style)
    torch.testing.assert_close(full, adaptive_instance_norm(seen, wanted), **for_dtype(torch.float32))
    assert torch.equal(stylized_features(extractor, content, style, strength=0.0), seen)
    half = stylized_features(extractor, content, style, strength=0.5)
    torch.testing.assert_close(half, (seen + full) / 2, **for_dtype(torch.float32))


def test_what_does_not_fit_is_told() -> None:
    for changes in ({"image_channels": 0}, {"base_channels": 1.5}, {"blocks": -1}):
        with pytest.raises(ValueError, match=next(iter(changes))):
            TransformConfig(**changes)  # type: ignore[arg-type]
    for fields in ({"widths": ()}, {"depths": (1, 2)}, {"widths": (4, 0), "depths": (1, 1)}, {"image_channels": 0}):
        with pytest.raises(ValueError, match=r"widths|depths|image_channels"):
            StyleDecoderConfig(**fields)  # type: ignore[arg-type]
    network = TransformNetwork(TINY)
    for images in (random_images(1, 1, 8, 8), random_images(1, 3, 4, 8), random_images(3, 8, 8)):
        with pytest.raises(ValueError, match="at least 5 pixels"):
            network(images)
    decoder = StyleDecoder(StyleDecoderConfig(1, (2,), (1,)))
    for features in (torch.rand(1, 3, 4, 4), torch.rand(1, 2, 1, 4)):
        with pytest.raises(ValueError, match="at least 2 places"):
            decoder(features)
    extractor = VGG19Features(["block1_conv1"])
    with pytest.raises(ValueError, match="strength"):
        stylized_features(extractor, random_images(1, 3, 4, 4), random_images(1, 3, 4, 4), strength=2.0)
