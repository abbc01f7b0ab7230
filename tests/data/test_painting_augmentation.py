"""Both policies: each effect alone, against NumPy and Pillow, and how often and how strongly they are applied."""

import importlib
import sys
from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageEnhance
from torch import Tensor

from ganblocks.data.painting_augmentation import (
    adjust_channel_contrast,
    adjust_contrast,
    flip,
    painting_augmentation,
    rotate,
    translate,
    warp,
    zoom_in,
)
from tolerances import named

module = importlib.import_module("ganblocks.data.painting_augmentation")  # the package has its function

pytest.importorskip("torchvision")


def noise(C: int = 3, H: int = 12, W: int = 9) -> Tensor:
    return torch.randint(0, 256, (C, H, W), dtype=torch.uint8)


def pillow(image: Tensor) -> Image.Image:
    return Image.fromarray(image.permute(1, 2, 0).numpy())


def pixels(picture: Image.Image) -> Tensor:
    return torch.from_numpy(np.array(picture)).permute(2, 0, 1)


# --- each effect alone

IDENTITIES: dict[str, Callable[[Tensor], Tensor]] = {
    "flip": lambda image: flip(image, horizontal=False, vertical=False),
    "rotate": lambda image: rotate(image, 0.0),
    "zoom_in": lambda image: zoom_in(image, 0, 0, factor=0.0),
    "translate": lambda image: translate(image, right=0.0, down=0.0),
    "adjust_contrast": lambda image: adjust_contrast(image, 1.0),
    "adjust_channel_contrast": lambda image: adjust_channel_contrast(image, 1.0),
    "warp": warp,
}


@pytest.mark.parametrize("name", IDENTITIES)
@given(C=st.sampled_from([1, 3]), H=st.integers(1, 40), W=st.integers(1, 40))
def test_an_effect_that_asks_for_nothing_returns_the_image(name: str, C: int, H: int, W: int) -> None:
    image = noise(C, H, W)
    result = IDENTITIES[name](image)
    assert result.dtype == torch.uint8
    assert torch.equal(result, image)


@pytest.mark.parametrize(
    ("horizontal", "vertical", "dims"), [(True, False, [2]), (False, True, [1]), (True, True, [1, 2])]
)
def test_a_flip_mirrors_and_undoes_itself(horizontal: bool, vertical: bool, dims: list[int]) -> None:
    image = noise()
    flipped = flip(image, horizontal=horizontal, vertical=vertical)
    assert torch.equal(flipped, image.flip(dims))
    assert torch.equal(flip(flipped, horizontal=horizontal, vertical=vertical), image)
    assert torch.equal(warp(image, flip_horizontal=horizontal, flip_vertical=vertical), flipped)


@pytest.mark.parametrize("degrees", [25.0, -13.0, 7.5])
def test_a_rotation_is_that_of_pillow(degrees: float) -> None:
    image = noise(3, 41, 41)
    expected = pixels(pillow(image).rotate(degrees))
    assert (rotate(image, degrees) == expected).double().mean() > 0.99  # nearest pixels, but for ties of rounding


def test_corners_are_black_where_a_rotation_vacates_them() -> None:
    turned = rotate(torch.full((3, 40, 40), 200, dtype=torch.uint8), 25.0)
    assert not turned[:, 0, 0].any()
    assert (turned[:, 20, 20] == 200).all()
    assert set(turned.unique().tolist()) == {0, 200}  # nothing in between


def test_a_quarter_turn_is_counter_clockwise() -> None:
    image = noise(3, 10, 10)
    assert torch.equal(rotate(image, 90.0), image.rot90(1, (1, 2)))
    assert torch.equal(warp(image, degrees=90.0), image.rot90(1, (1, 2)))
    assert torch.equal(warp(image, degrees=-90.0), image.rot90(-1, (1, 2)))


@pytest.mark.parametrize(("top", "left"), [(0, 0), (60, 60), (17, 42)])
def test_a_zoom_shows_240_of_300_pixels(top: int, left: int) -> None:
    ramp = (torch.arange(300) // 2).to(torch.uint8)
    across, down = ramp.expand(1, 300, 300), ramp[:, None].expand(1, 300, 300)
    for image, first in ((across, left), (down, top)):
        zoomed = zoom_in(image, top, left)
        assert zoomed.shape == (1, 300, 300)
        assert abs(int(zoomed.min()) - first / 2) <= 1
        assert abs(int(zoomed.max()) - (first + 239) / 2) <= 1


def test_a_zoom_is_pillows_crop_and_resize() -> None:
    image = noise(3, 50, 30)
    expected = pixels(pillow(image).crop((4, 7, 4 + 24, 7 + 40)).resize((30, 50)))
    assert (zoom_in(image, 7, 4).int() - expected.int()).abs().max() <= 1
    with pytest.raises(ValueError, match="`top` is 11, but must be 0 to 10"):
        zoom_in(image, 11, 0)
    with pytest.raises(ValueError, match="`left` is -1"):
        zoom_in(image, 0, -1)


def test_a_translation_by_whole_pixels_leaves_black_behind() -> None:
    image = noise(3, 10, 20) | 1
    expected = torch.zeros_like(image)
    expected[:, 3:, : 20 - 4] = image[:, : 10 - 3, 4:]
    assert torch.equal(translate(image, right=-0.2, down=0.3), expected)
    assert not translate(image, right=1.0, down=0.0).any()
    assert translate(image[:1], right=0.1, down=0.0).shape == (1, 10, 20)


@pytest.mark.parametrize("factor", [0.8, 1.0, 1.2])
def test_contrast_is_that_of_pillow(factor: float) -> None:
    image = noise(3, 20, 20)
    expected = pixels(ImageEnhance.Contrast(pillow(image)).enhance(factor))
    assert (adjust_contrast(image, factor).int() - expected.int()).abs().max() <= 1


@pytest.mark.parametrize("factor", [0.0, 0.8, 1.2])
def test_contrast_of_each_channel_written_out(factor: float) -> None:
    image = noise(3, 7, 5)
    image[0] = 9
    expected = image.double().numpy()
    for channel in expected:
        mean = channel.mean()
        channel[:] = (channel - mean) * factor + mean
    result = adjust_channel_contrast(image, factor).double().numpy()
    np.testing.assert_allclose(result, expected.clip(0, 255), **named("one_level"))
    assert (result[0] == 9).all()


def reflected(position: int, side: int) -> int:
    """d c b a | a b c d | d c b a."""
    position %= 2 * side
    return position if position < side else 2 * side - 1 - position


@given(H=st.integers(1, 9), W=st.integers(1, 9), down=st.integers(-12, 12), right=st.integers(-12, 12))
def test_a_map_reflects_at_the_edges(H: int, W: int, down: int, right: int) -> None:
    image = noise(1, H, W)
    expected = [[int(image[0, reflected(y - down, H), reflected(x - right, W)]) for x in range(W)] for y in range(H)]
    assert warp(image, down=down / H, right=right / W)[0].tolist() == expected


def test_the_map_written_out_with_all_its_parts() -> None:
    image, H, W = noise(3, 11, 8), 11, 8
    result = warp(image, flip_horizontal=True, degrees=30.0, scale=0.9, down=0.1, right=-0.05)
    expected = np.zeros((3, H, W))
    source, angle = image.double().numpy(), np.pi / 6
    for y in range(H):
        for x in range(W):
            p = np.array([x - (W - 1) / 2, y - (H - 1) / 2])
            p = p - (-0.05 * W, 0.1 * H)  # moved last, so undone first
            p = p * 0.9
            p = np.array([np.cos(angle) * p[0] - np.sin(angle) * p[1], np.sin(angle) * p[0] + np.cos(angle) * p[1]])
            p = p * (-1, 1) + ((W - 1) / 2, (H - 1) / 2)
            left, top = np.floor(p).astype(int)
            for dx, dy in ((0, 0), (1, 0), (0, 1), (1, 1)):
                share = (1 - abs(p[0] - left - dx)) * (1 - abs(p[1] - top - dy))
                expected[:, y, x] += share * source[:, reflected(top + dy, H), reflected(left + dx, W)]
    np.testing.assert_allclose(result.double().numpy(), expected, **named("one_level"))


# --- the policies


@pytest.mark.parametrize("policy", ["pil", "keras"])
@given(C=st.sampled_from([1, 3]), H=st.integers(1, 20), W=st.integers(1, 20))
def test_any_shape_is_kept_and_the_image_is_not_touched(policy, C: int, H: int, W: int) -> None:
    image = noise(C, H, W)
    before, result = image.clone(), painting_augmentation(policy)(image)
    assert result.shape == image.shape
    assert result.dtype == torch.uint8
    assert torch.equal(image, before)


@pytest.mark.parametrize("policy", ["pil", "keras"])
def test_the_global_generator_decides(policy) -> None:
    image, augment = noise(), painting_augmentation(policy)
    torch.manual_seed(5)
    first, second = augment(image), augment(image)
    torch.manual_seed(5)
    assert torch.equal(augment(image), first)
    assert torch.equal(augment(image), second)
    assert not torch.equal(first, second)


def test_pil_applies_each_effect_to_half_of_the_images_in_its_order(monkeypatch: pytest.MonkeyPatch) -> None:
    names = ("flip", "rotate", "zoom_in", "translate", "adjust_contrast")
    calls: list[tuple[str, tuple[float, ...]]] = []
    for name in names:

        def note(image: Tensor, *values: float, name: str = name, **named_values: float) -> Tensor:
            calls.append((name, (*values, *named_values.values())))
            return image

        monkeypatch.setattr(module, name, note)
    augment, image, seen = painting_augmentation("pil"), noise(1, 300, 200), []
    for _ in range(800):
        calls.clear()
        augment(image)
        order = [names.index(name) for name, _ in calls]
        assert order == sorted(set(order))
        seen += calls
    drawn = {name: np.array([values for called, values in seen if called == name], dtype=float) for name in names}
    for values in drawn.values():
        assert 330 < len(values) < 470  # 400 expected, standard deviation 14
    assert (abs(drawn["flip"].mean(axis=0) - 0.5) < 0.13).all()
    bounds = {"rotate": (-25, 25), "translate": (-0.3, 0.3), "adjust_contrast": (0.8, 1.2)}
    for name, (low, high) in bounds.items():
        assert (low <= drawn[name]).all()
        assert (drawn[name] <= high).all()
        assert ((drawn[name].max(axis=0) - drawn[name].min(axis=0)) > 0.95 * (high - low)).all()
    tops, lefts = drawn["zoom_in"].T
    assert tops.min() <= 2
    assert 58 <= tops.max() <= 60
    assert lefts.min() <= 1
    assert 39 <= lefts.max() <= 40


def test_keras_draws_everything_for_every_image(monkeypatch: pytest.MonkeyPatch) -> None:
    maps: list[dict[str, float]] = []
    factors: list[float] = []
    monkeypatch.setattr(module, "warp", lambda image, **values: (maps.append(values), image)[1])
    monkeypatch.setattr(module, "adjust_channel_contrast", lambda image, factor: (factors.append(factor), image)[1])
    augment = painting_augmentation("keras")
    for _ in range(600):
        augment(noise(1, 2, 2))
    bounds = {"degrees": (-90, 90), "scale": (0.8, 1.2), "down": (-0.3, 0.3), "right": (-0.2, 0.2)}
    drawn = {name: [values[name] for values in maps] for name in bounds} | {"contrast": factors}
    for name, (low, high) in (bounds | {"contrast": (0.8, 1.2)}).items():
        assert len(drawn[name]) == 600
        assert low <= min(drawn[name])
        assert max(drawn[name]) <= high
        assert max(drawn[name]) - min(drawn[name]) > 0.95 * (high - low)
    for name in ("flip_horizontal", "flip_vertical"):
        assert 240 < sum(values[name] for values in maps) < 360


# --- what is refused


def test_an_unknown_policy_is_refused() -> None:
    with pytest.raises(ValueError, match="`policy` is 'torch'"):
        painting_augmentation("torch")  # type: ignore[arg-type]


@pytest.mark.parametrize("policy", ["pil", "keras"])
def test_other_images_are_refused(policy) -> None:
    augment = painting_augmentation(policy)
    with pytest.raises(TypeError, match=r"`image.dtype` is torch.float32"):
        augment(torch.zeros(3, 4, 4))
    for shape in ((2, 4, 4), (3, 0, 4), (4, 4), (1, 3, 4, 4)):
        with pytest.raises(ValueError, match="`image"):
            augment(torch.zeros(shape, dtype=torch.uint8))


@pytest.mark.parametrize("effect", [adjust_contrast, adjust_channel_contrast])
def test_a_negative_contrast_is_refused(effect: Callable[[Tensor, float], Tensor]) -> None:
    with pytest.raises(ValueError, match="`factor`"):
        effect(noise(), -0.1)


def test_a_scale_of_zero_is_refused() -> None:
    with pytest.raises(ValueError, match="`scale`"):
        warp(noise(), scale=0.0)
    with pytest.raises(ValueError, match="`factor`"):
        zoom_in(noise(), 0, 0, factor=1.0)


def test_missing_torchvision_is_named_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torchvision.transforms.v2.functional", None)
    with pytest.raises(ImportError, match=r"ganblocks\[vision\]"):
        painting_augmentation("pil")
    assert painting_augmentation("keras")(noise()).shape == (3, 12, 9)
