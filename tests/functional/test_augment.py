"""Augmentation: each transform against a loop over samples and pixels, its draws, and both orders of gradient."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from ganblocks.functional.augment import color, cutout, diff_augment, translation
from oracles import Array, assert_matches, largest, to_array
from strategies import image_shapes, lay_out, tensors
from tolerances import for_dtype, named

TRANSFORMS: dict[str, Callable[..., Tensor]] = {"color": color, "translation": translation, "cutout": cutout}
NEUTRAL = {"color": (3, 0.5), "translation": (2, 0.5), "cutout": (2, 2.0)}
EVERYTHING: dict[str, Callable[..., Tensor]] = {**TRANSFORMS, "all": diff_augment}
each_transform = pytest.mark.parametrize("name", TRANSFORMS)
each = pytest.mark.parametrize("augment", EVERYTHING.values(), ids=EVERYTHING.keys())
sizes = st.integers(0, 9)
pictures = tensors(shape=image_shapes(size=sizes), values=("normal", "zeros", "constant", "large", "mixed", "offset"))
shares = st.sampled_from([0.0, 0.125, 0.29, 0.5, 1.0])


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def floor_of_share(share: float, side: int) -> int:
    return math.floor(share * side + 1e-9)


def middles(chosen: list[tuple[int, int]], places: tuple[int, int]) -> Tensor:
    """Draws [N, 2] in the middle of what selects these of so many places: no rounding decides."""
    return torch.tensor([[(k + 0.5) / n for k, n in zip(pair, places, strict=True)] for pair in chosen]).reshape(-1, 2)


def recolored_by_loops(images: Array, draws: Array, brightness: float, saturation: float, contrast: float) -> Array:
    result = np.zeros_like(images)
    N, _, H, W = images.shape
    for n in range(N):
        image = images[n] + brightness * (2 * draws[n, 0] - 1)
        for i in range(H):
            for j in range(W):
                grey = image[:, i, j].mean() if image.size else 0.0
                image[:, i, j] = grey + (1 + saturation * (2 * draws[n, 1] - 1)) * (image[:, i, j] - grey)
        middle = image.mean() if image.size else 0.0
        result[n] = middle + (1 + contrast * (2 * draws[n, 2] - 1)) * (image - middle)
    return result


# -- what each transform does ---------------------------------------------------------------------


@given(pictures, st.floats(0, 1), st.floats(0, 1), st.floats(0, 1), st.integers(0, 99))
def test_color_is_the_loop_over_samples_and_pixels(
    images: Tensor, brightness: float, saturation: float, contrast: float, seed: int
) -> None:
    draws = torch.rand(len(images), 3, generator=seeded(seed))
    strengths = {"brightness": brightness, "saturation": saturation, "contrast": contrast}
    expected = recolored_by_loops(to_array(images), to_array(draws), **strengths)
    actual = color(images, draws, **strengths)
    assert actual.dtype == images.dtype
    assert_matches(actual, expected, magnitude=3 * largest(images))


@given(pictures, shares, st.data())
def test_translation_moves_every_pixel_and_leaves_exact_zeros(
    images: Tensor, share: float, data: st.DataObject
) -> None:
    N, _, H, W = images.shape
    reach = floor_of_share(share, H), floor_of_share(share, W)
    shift = st.tuples(*(st.integers(-r, r) for r in reach))
    shifts = data.draw(st.lists(shift, min_size=N, max_size=N))
    expected = torch.zeros(images.shape, dtype=images.dtype)
    for n, (down, right) in enumerate(shifts):
        for i in range(H):
            for j in range(W):
                if 0 <= i - down < H and 0 <= j - right < W:
                    expected[n, :, i, j] = images[n, :, i - down, j - right]
    chosen = [(down + reach[0], right + reach[1]) for down, right in shifts]
    draws = middles(chosen, (2 * reach[0] + 1, 2 * reach[1] + 1))
    assert torch.equal(translation(images, draws, share=share), expected)


@given(pictures, shares, st.data())
def test_cutout_sets_a_rectangle_about_the_centre_to_zero(images: Tensor, share: float, data: st.DataObject) -> None:
    N, _, H, W = images.shape
    sides = floor_of_share(share, H), floor_of_share(share, W)
    # Twice the centre: even for an edge between pixels (0 is the image's own), odd for the middle of a pixel.
    places = tuple(range(side % 2, 2 * whole + 1, 2) for side, whole in zip(sides, (H, W), strict=True))
    if not all(places):  # no pixel, no centre
        assert images.numel() == 0
        return
    index = st.tuples(*(st.integers(0, len(place) - 1) for place in places))
    chosen = data.draw(st.lists(index, min_size=N, max_size=N))
    expected = images.clone()
    for n, pair in enumerate(chosen):
        centre = [place[k] for place, k in zip(places, pair, strict=True)]
        for i in range(H):
            for j in range(W):
                near = [abs(2 * p + 1 - c) < side for p, c, side in zip((i, j), centre, sides, strict=True)]
                if all(near):
                    expected[n, :, i, j] = 0
    draws = middles(chosen, (len(places[0]), len(places[1])))
    assert torch.equal(cutout(images, draws, share=share), expected)


def test_translation_by_hand() -> None:
    image = torch.arange(1.0, 9.0).expand(1, 1, 8, 8)  # R = 1
    right = translation(image, torch.tensor([[0.5, 0.9]]))
    assert torch.equal(right[0, 0, 3], torch.tensor([0.0, 1, 2, 3, 4, 5, 6, 7]))
    up = translation(image.mT, torch.tensor([[0.0, 0.5]]))
    assert torch.equal(up[0, 0, :, 3], torch.tensor([2.0, 3, 4, 5, 6, 7, 8, 0]))


def test_29_hundredths_of_100_pixels_are_29_although_their_product_in_floats_is_less() -> None:
    image = torch.arange(100.0).expand(1, 1, 100, 100)
    assert 0.29 * 100 < 29
    assert translation(image, torch.zeros(1, 2), share=0.29)[0, 0, 0, 0] == 29
    assert (cutout(image + 1, torch.full((1, 2), 0.5), share=0.29) == 0).sum() == 29 * 29


def test_cutout_by_hand() -> None:
    corner = cutout(torch.ones(1, 1, 4, 4), torch.tensor([[0.0, 0.99]]))  # centred on the upper right corner
    assert torch.equal(corner[0, 0] == 0, torch.tensor([[0, 0, 0, 1], [0, 0, 0, 0], [0, 0, 0, 0], [0, 0, 0, 0]]).bool())
    middle = cutout(torch.ones(1, 1, 4, 4), torch.tensor([[0.5, 0.5]]))
    assert torch.equal(middle[0, 0] == 0, torch.tensor([[0, 0, 0, 0], [0, 1, 1, 0], [0, 1, 1, 0], [0, 0, 0, 0]]).bool())


def test_what_is_set_to_zero_is_zero_even_over_values_that_are_no_numbers() -> None:
    images = torch.full((1, 1, 8, 8), math.nan)
    assert torch.equal(translation(images, torch.tensor([[0.0, 0.5]]))[0, 0, 7], torch.zeros(8))
    assert torch.equal(cutout(images, torch.tensor([[0.5, 0.5]]))[0, 0, 2:6, 2:6], torch.zeros(4, 4))


@given(pictures.filter(lambda images: images.shape[1] == 1))
def test_a_grey_image_has_no_saturation(images: Tensor) -> None:
    draws = torch.rand(len(images), 3, generator=seeded())
    assert torch.equal(color(images, draws, saturation=1.0), color(images, draws, saturation=0.0))


@each_transform
@given(images=pictures)
def test_neutral_draws_leave_every_bit(name: str, images: Tensor) -> None:
    count, neutral = NEUTRAL[name]
    assert torch.equal(TRANSFORMS[name](images, torch.full((len(images), count), neutral)), images)


@each_transform
@given(images=tensors(shape=image_shapes(size=sizes), dtypes=[torch.float64], layouts=("contiguous",)), seed=sizes)
def test_each_sample_has_its_own_draws_and_nothing_else(name: str, images: Tensor, seed: int) -> None:
    draws = torch.rand(len(images), NEUTRAL[name][0], generator=seeded(seed))
    whole = TRANSFORMS[name](images, draws)
    for n in range(len(images)):
        assert torch.equal(TRANSFORMS[name](images[n : n + 1], draws[n : n + 1]), whole[n : n + 1])


# -- what is drawn --------------------------------------------------------------------------------


def test_shifts_are_equally_likely_up_to_an_eighth_of_the_side() -> None:
    points = torch.zeros(4000, 1, 17, 32)  # R = 2 and 4
    points[:, :, 8, 16] = 1
    seen = translation(points, generator=seeded()).sum((0, 1)) / 4000
    expected = torch.zeros(17, 32)
    expected[6:11, 12:21] = 1 / 45
    torch.testing.assert_close(seen, expected, **named("random_moments"))
    assert torch.equal(seen > 0, expected > 0)
    torch.testing.assert_close(seen.sum(1), expected.sum(1), **named("random_moments"))
    torch.testing.assert_close(seen.sum(0), expected.sum(0), **named("random_moments"))


@pytest.mark.parametrize(
    ("side", "covered"),
    [
        (8, [3 / 9, 4 / 9, 4 / 9, 4 / 9, 4 / 9, 4 / 9, 4 / 9, 3 / 9]),  # 4 of 8 pixels, centred on one of 9 edges
        (7, [2 / 7, 3 / 7, 3 / 7, 3 / 7, 3 / 7, 3 / 7, 2 / 7]),  # 3 of 7 pixels, centred on one of 7
        (3, [1 / 3, 1 / 3, 1 / 3]),
        (1, [0.0]),
    ],
)
def test_cutout_treats_both_borders_alike(side: int, covered: list[float]) -> None:
    zeros = (cutout(torch.ones(4000, 1, side, side), generator=seeded()) == 0).float().mean((0, 1))
    expected = torch.tensor(covered)
    torch.testing.assert_close(zeros, expected.outer(expected), **named("random_moments"))


def test_strengths_of_color_are_uniform_over_what_the_paper_says() -> None:
    off = {"brightness": 0.0, "saturation": 0.0, "contrast": 0.0}
    grey, colored = torch.zeros(4000, 3, 1, 1), torch.tensor([1.0, 0.0, -1.0]).view(1, 3, 1, 1).repeat(4000, 1, 1, 1)
    two = torch.tensor([-1.0, 1.0]).view(1, 1, 1, 2).repeat(4000, 1, 1, 1)
    change = color(grey, **off | {"brightness": 0.5}, generator=seeded())[:, 0, 0, 0]
    saturation = color(colored, **off | {"saturation": 1.0}, generator=seeded())[:, 0, 0, 0]
    contrast = color(two, **off | {"contrast": 0.5}, generator=seeded())[:, 0, 0, 1]
    for drawn, low, high in ((change, -0.5, 0.5), (saturation, 0.0, 2.0), (contrast, 0.5, 1.5)):
        assert drawn.min() >= low
        assert drawn.max() <= high
        quarters = [low + share * (high - low) for share in (0.0, 0.25, 0.5, 0.75, 1.0)]
        seen = np.quantile(drawn.numpy(), [0.0, 0.25, 0.5, 0.75, 1.0])
        np.testing.assert_allclose(seen, quarters, **named("random_moments"))
    defaults = color(colored, generator=seeded(1))
    assert torch.equal(defaults, color(colored, brightness=0.5, saturation=1.0, contrast=0.5, generator=seeded(1)))


@each
def test_the_same_state_gives_the_same_augmentation_and_the_global_state_is_not_touched(
    augment: Callable[..., Tensor],
) -> None:
    images = torch.randn(1, 3, 16, 16).expand(5, -1, -1, -1)
    before, state = images.clone(), torch.get_rng_state()
    first, again, other = (augment(images, generator=seeded(seed)) for seed in (1, 1, 2))
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert torch.equal(images, before)
    assert not any(torch.equal(first[0], first[n]) for n in range(1, 5))
    torch.manual_seed(3)
    drawn = augment(images)
    torch.manual_seed(3)
    assert torch.equal(augment(images), drawn)
    assert not torch.equal(augment(images), drawn)


@each
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_augmented_in_float32_and_rounded_once(
    augment: Callable[..., Tensor], dtype: torch.dtype
) -> None:
    images = torch.rand(6, 3, 16, 16).to(dtype)
    wide = augment(images.float(), generator=seeded())
    assert torch.equal(augment(images, generator=seeded()), wide.to(dtype))


@each
def test_memory_format_is_kept_and_changes_nothing(augment: Callable[..., Tensor]) -> None:
    images = torch.randn(3, 2, 16, 12)
    plain = augment(images, generator=seeded())
    assert plain.is_contiguous()
    for layout in ("channels_last", "sliced"):
        again = augment(lay_out(images, layout), generator=seeded())
        torch.testing.assert_close(again, plain, **for_dtype(torch.float32))
        assert again.is_contiguous(memory_format=torch.channels_last) == (layout == "channels_last")


@each
@given(shape=image_shapes())
def test_empty_batches_and_empty_images_keep_their_shape(
    augment: Callable[..., Tensor], shape: tuple[int, ...]
) -> None:
    for empty in ((0, *shape[1:]), (*shape[:3], 0)):
        assert augment(torch.ones(empty), generator=seeded()).shape == empty


@each
def test_no_value_is_looked_at(augment: Callable[..., Tensor]) -> None:
    with torch.device("meta"):  # tensors without values: asking for one raises
        images = torch.ones(4, 3, 8, 8)
        options = {"probability": torch.tensor(0.5)} if augment is diff_augment else {}
    augmented = augment(images, generator=seeded(), **options)
    assert augmented.device.type == "meta"
    assert augmented.shape == images.shape


# -- gradients ------------------------------------------------------------------------------------


@each
@pytest.mark.parametrize("layout", ["contiguous", "channels_last"])
def test_gradients_of_both_orders(augment: Callable[..., Tensor], layout: str) -> None:
    images = lay_out(torch.randn(2, 2, 5, 4, dtype=torch.float64), layout).requires_grad_()
    assert images.is_contiguous() == (layout == "contiguous")  # the two ways through `translation`

    def curved(images: Tensor) -> Tensor:
        options = {"probability": 0.7} if augment is diff_augment else {"share": 0.5}
        options = {} if augment is color else options
        return augment(images, generator=seeded(5), **options).square() * images

    assert torch.autograd.gradcheck(curved, (images,))
    assert torch.autograd.gradgradcheck(curved, (images,))


def test_pixels_that_leave_the_image_or_are_cut_out_get_no_gradient() -> None:
    images = torch.randn(1, 1, 8, 8, requires_grad=True)
    (gradient,) = torch.autograd.grad(translation(images, torch.tensor([[0.9, 0.5]])).sum(), images)
    assert torch.equal(gradient[0, 0], torch.ones(8, 8).index_fill(0, torch.tensor(7), 0.0))
    kept = cutout(images, torch.tensor([[0.5, 0.5]]))
    (gradient,) = torch.autograd.grad(kept.sum(), images)
    assert torch.equal(gradient, (kept != 0).float())


# -- the policy -----------------------------------------------------------------------------------


@pytest.mark.parametrize("policy", [("color",), ("cutout", "color"), ("color", "translation", "cutout"), ()])
def test_a_policy_is_its_transforms_one_after_the_other(policy: tuple[str, ...]) -> None:
    images = torch.randn(5, 3, 16, 16)
    draws = torch.rand(5, sum(NEUTRAL[name][0] for name in policy), generator=seeded())
    expected = images
    for name in policy:
        expected = TRANSFORMS[name](expected, draws[:, : NEUTRAL[name][0]])
        draws = draws[:, NEUTRAL[name][0] :]
    assert torch.equal(diff_augment(images, policy, generator=seeded()), expected)
    if len(policy) == 3:
        assert torch.equal(diff_augment(images, generator=seeded()), expected)


@pytest.mark.parametrize("probability", [0, 0.0, torch.tensor(0.0), torch.tensor(0.0, dtype=torch.float64)])
def test_probability_zero_leaves_every_bit(probability: float | Tensor) -> None:
    images = torch.randn(50, 3, 9, 8)
    assert torch.equal(diff_augment(images, probability=probability, generator=seeded()), images)


def test_probability_one_is_the_same_as_a_number_and_as_a_tensor_and_a_number_draws_no_coin() -> None:
    images, generator = torch.randn(50, 3, 9, 8), seeded()
    whole = diff_augment(images, generator=generator)
    assert torch.equal(diff_augment(images, probability=torch.tensor(1.0), generator=seeded()), whole)
    reference = seeded()
    torch.rand(50, 7, generator=reference)
    assert torch.equal(generator.get_state(), reference.get_state())


@pytest.mark.parametrize("probability", [0.25, 0.5, 0.75])
def test_each_transform_is_applied_to_each_sample_by_a_coin_of_its_own(probability: float) -> None:
    images = torch.rand(4000, 1, 8, 8, generator=seeded(1)) / 2 + 0.25
    augmented = diff_augment(images, ("color", "cutout"), probability=probability, generator=seeded())
    zeros = augmented == 0
    cut = zeros.any((1, 2, 3))
    recolored = ((augmented != images) & ~zeros).any((1, 2, 3))
    shares = [event.float().mean().item() for event in (cut, recolored, cut & recolored)]
    np.testing.assert_allclose(shares, [probability, probability, probability**2], **named("random_moments"))
    untouched = ~cut & ~recolored
    assert torch.equal(augmented[untouched], images[untouched])
    as_tensor = diff_augment(images, ("color", "cutout"), probability=torch.tensor(probability), generator=seeded())
    assert torch.equal(as_tensor, augmented)
    whole = diff_augment(images, ("color", "cutout"), generator=seeded())
    assert torch.equal(augmented[cut & recolored], whole[cut & recolored])


# -- mistakes -------------------------------------------------------------------------------------


@each
def test_images_of_another_rank_or_type_are_refused(augment: Callable[..., Tensor]) -> None:
    with pytest.raises(ValueError, match=r"`images` has shape \(3, 4, 4\), but must have 4 dimensions"):
        augment(torch.zeros(3, 4, 4))
    with pytest.raises(TypeError, match=r"`images` is torch.uint8, but must be a floating-point tensor"):
        augment(torch.zeros(1, 3, 4, 4, dtype=torch.uint8))


@each_transform
def test_draws_of_another_shape_or_type_or_besides_a_generator_are_refused(name: str) -> None:
    images, (count, _) = torch.zeros(2, 3, 4, 4), NEUTRAL[name]
    with pytest.raises(ValueError, match=rf"`draws` is \(2, {count + 1}\), but must be of shape \(2, {count}\)"):
        TRANSFORMS[name](images, torch.rand(2, count + 1))
    with pytest.raises(TypeError, match=r"`draws` is torch\.int64"):
        TRANSFORMS[name](images, torch.zeros(2, count, dtype=torch.int64))
    with pytest.raises(ValueError, match=r"`generator` is .* None when `draws` are given"):
        TRANSFORMS[name](images, torch.rand(2, count), generator=seeded())


@pytest.mark.parametrize("value", [-0.1, 1.1, math.nan, math.inf])
@pytest.mark.parametrize(
    ("augment", "argument"),
    [
        (color, "brightness"),
        (color, "saturation"),
        (color, "contrast"),
        (translation, "share"),
        (cutout, "share"),
        (diff_augment, "probability"),
    ],
)
def test_numbers_out_of_range_are_named(augment: Callable[..., Tensor], argument: str, value: float) -> None:
    if (argument, value) == ("brightness", 1.1):
        return
    options: dict[str, Any] = {argument: value}
    with pytest.raises(ValueError, match=f"`{argument}` is {value}"):
        augment(torch.zeros(1, 3, 4, 4), **options)


def test_policies_and_probabilities_that_are_none_are_refused() -> None:
    images = torch.zeros(1, 3, 4, 4)
    with pytest.raises(ValueError, match=r"`policy` is \('color', 'rotation'\), .* 'color', 'translation', 'cutout'"):
        diff_augment(images, ["color", "rotation"])
    with pytest.raises(TypeError, match="`policy` is 'color', but must be a sequence"):
        diff_augment(images, "color")
    with pytest.raises(ValueError, match=r"`probability` is \(1,\)"):
        diff_augment(images, probability=torch.ones(1))
