"""The modules hand over to the functions with their settings."""

import pytest
import torch

from ganblocks.functional.resample import blur, downsample_box, upsample_nearest
from ganblocks.layers.resample import Blur, DownsampleBox, UpsampleNearest
from tolerances import for_dtype


def test_modules_equal_their_functions():
    x = torch.randn(2, 3, 6, 6)
    matrix = torch.tensor([[1.0, 2.0], [3.0, 4.0]])
    assert torch.equal(UpsampleNearest()(x), upsample_nearest(x))
    assert torch.equal(UpsampleNearest(3)(x), upsample_nearest(x, 3))
    assert torch.equal(DownsampleBox()(x), downsample_box(x))
    assert torch.equal(DownsampleBox(3)(x), downsample_box(x, 3))
    for kernel in ((1, 2, 1), (1, 3, 3, 1), matrix):
        for padding in ("zeros", "reflect"):
            for normalize in (True, False):
                expected = blur(x, kernel, padding=padding, normalize=normalize)
                actual = Blur(kernel, padding=padding, normalize=normalize)(x)
                torch.testing.assert_close(actual, expected, **for_dtype(torch.float32))


def test_the_kernel_moves_with_the_module_but_is_not_saved():
    module = Blur()
    assert module.state_dict() == {}
    assert list(module.parameters()) == []
    assert module.double().kernel.dtype == torch.float64
    assert module.to("meta").kernel.device.type == "meta"


def test_a_blur_owns_its_kernel():
    kernel = torch.tensor([1.0, 2.0, 1.0], dtype=torch.float64)
    module = Blur(kernel)
    assert kernel.tolist() == [1.0, 2.0, 1.0]
    kernel.zero_()
    assert module.kernel.tolist() == [0.25, 0.5, 0.25]


def test_a_blur_in_bfloat16_is_the_rounded_one():
    x = torch.randn(1, 2, 5, 5).bfloat16()
    assert torch.equal(Blur().bfloat16()(x), blur(x))


def test_printouts_show_every_number():
    assert repr(UpsampleNearest(3)) == "UpsampleNearest(factor=3)"
    assert repr(DownsampleBox()) == "DownsampleBox(factor=2)"
    assert repr(Blur(padding="reflect")) == "Blur(kernel_size=(3,), padding='reflect')"


def test_wrong_settings_are_refused_at_construction():
    for module in (UpsampleNearest, DownsampleBox):
        with pytest.raises(ValueError, match="`factor` is 0"):
            module(0)
    for kernel in ((), torch.ones(1, 1, 1)):
        with pytest.raises(ValueError, match="`kernel` is"):
            Blur(kernel)
    with pytest.raises(ValueError, match="sum other than 0"):
        Blur((1, -1))
    with pytest.raises(ValueError, match="`padding` is 'same'"):
        Blur(padding="same")
    assert Blur((1, -1), normalize=False).kernel.tolist() == [1.0, -1.0]
