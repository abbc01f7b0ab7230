"""minibatch_std: the spread inside groups of samples, appended as constant channels."""

import itertools

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

import oracles
from ganblocks.functional.minibatch_std import group_size_for, minibatch_std
from strategies import fill, image_shapes, lay_out, tensors
from tolerances import for_dtype, named

float64 = torch.float64
DTYPES = [torch.float64, torch.float32, torch.bfloat16, torch.float16]


def column(*values: float, dtype: torch.dtype = float64) -> Tensor:
    """One value per sample, as images [N, 1, 1, 1]."""
    return torch.tensor(values, dtype=dtype).view(-1, 1, 1, 1)


def statistic(x: Tensor, **options: object) -> Tensor:
    """The appended channels of [N, C, 1, 1] or larger images, one value per sample and channel: [N, F]."""
    y = minibatch_std(x, **options)  # type: ignore[arg-type]
    added = y[:, x.shape[1] :]
    assert torch.equal(added, added[:, :, :1, :1].expand_as(added)), "the new channel must be constant over the image"
    return added[:, :, 0, 0]


# -- the size of a group --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("batch", "group_size", "expected"),
    [
        (8, 4, 4),
        (4, 4, 4),
        (2, 4, 2),  # fewer samples than a group
        (3, 4, 3),
        (1, 4, 1),
        (6, 4, 3),  # the largest divisor not above 4
        (9, 4, 3),
        (10, 4, 2),
        (5, 4, 5),  # only 1 divides: the whole batch
        (7, 4, 7),
        (25, 4, 25),
        (16, 16, 16),
        (12, 5, 4),
        (8, 1, 1),  # what is asked for divides the batch
        (7, 1, 1),
        (8, None, 8),
        (7, None, 7),
        (1, None, 1),
    ],
)
def test_group_size_by_hand(batch: int, group_size: int | None, expected: int) -> None:
    assert group_size_for(batch, group_size) == expected


@given(batch=st.integers(1, 200), group_size=st.integers(1, 40))
def test_group_size_divides_the_batch_and_is_the_largest_such(batch: int, group_size: int) -> None:
    size = group_size_for(batch, group_size)
    assert size == oracles.group_size_for(batch, group_size)
    assert batch % size == 0
    assert size > 1 or batch == 1 or group_size == 1


@pytest.mark.parametrize("group_size", [0, -4])
def test_refuses_a_group_size_below_one(group_size: int) -> None:
    with pytest.raises(ValueError, match="group_size"):
        group_size_for(8, group_size)
    with pytest.raises(ValueError, match="group_size"):
        minibatch_std(torch.zeros(8, 1, 1, 1), group_size=group_size)


# -- values ---------------------------------------------------------------------------------------


@given(
    x=tensors(shape=image_shapes(batch=st.integers(0, 9), channels=st.integers(1, 4), size=st.integers(0, 3))),
    group_size=st.sampled_from([4, 2, 3, 1, None]),
    unbiased=st.booleans(),
)
def test_equals_the_loop(x: Tensor, group_size: int | None, unbiased: bool) -> None:
    y = minibatch_std(x, group_size=group_size, unbiased=unbiased)
    assert y.dtype == x.dtype
    expected = oracles.minibatch_std(oracles.to_array(x), group_size, unbiased=unbiased)
    oracles.assert_matches(y, expected, magnitude=oracles.largest(x))


@given(
    x=tensors(
        shape=st.tuples(st.sampled_from([0, 2, 4, 6, 8]), st.just(6), st.integers(0, 2), st.integers(0, 2)),
        dtypes=[float64],
    ),
    num_channels=st.sampled_from([1, 2, 3, 6]),
    group_size=st.sampled_from([4, 2, None]),
    chunks=st.sampled_from([1, 2]),
    eps=st.sampled_from([1e-8, 0.25]),
)
def test_equals_the_loop_with_several_channels_and_chunks(
    x: Tensor, num_channels: int, group_size: int | None, chunks: int, eps: float
) -> None:
    y = minibatch_std(x, group_size=group_size, num_channels=num_channels, eps=eps, chunks=chunks)
    expected = oracles.minibatch_std(oracles.to_array(x), group_size, num_channels, eps=eps, chunks=chunks)
    oracles.assert_matches(y, expected, magnitude=oracles.largest(x))


@given(x=tensors(shape=image_shapes(batch=st.integers(0, 9), channels=st.integers(1, 4))))
def test_the_image_passes_through_bit_by_bit(x: Tensor) -> None:
    y = minibatch_std(x)
    assert y.shape == (x.shape[0], x.shape[1] + 1, *x.shape[2:])
    assert torch.equal(y[:, :-1], x)


def test_groups_are_strided() -> None:
    # Four samples in two groups of two: samples 0 and 2, samples 1 and 3.
    found = statistic(column(0, 10, 2, 20), group_size=2, eps=0.0)
    torch.testing.assert_close(found, torch.tensor([[1.0], [5.0], [1.0], [5.0]], dtype=float64), **named("exact"))


def test_a_group_is_every_mth_sample() -> None:
    # Eight samples in groups of four: the even ones agree, the odd ones do not.
    found = statistic(column(7, 0, 7, 2, 7, 0, 7, 2), eps=0.0)
    torch.testing.assert_close(found[:, 0], torch.tensor([0.0, 1.0] * 4, dtype=float64), **named("exact"))


def test_the_variance_is_divided_by_the_group_size_unless_unbiased() -> None:
    x = column(0, 2)
    torch.testing.assert_close(statistic(x, eps=0.0), torch.full((2, 1), 1.0, dtype=float64), **for_dtype(float64))
    expected = torch.full((2, 1), 2**0.5, dtype=float64)
    torch.testing.assert_close(statistic(x, eps=0.0, unbiased=True), expected, **for_dtype(float64))


def test_defaults_are_groups_of_four_one_channel_biased_and_1e_minus_8() -> None:
    x = torch.randn(8, 6, 2, 2, dtype=float64)
    expected = minibatch_std(x, group_size=4, num_channels=1, unbiased=False, eps=1e-8, chunks=1)
    assert torch.equal(minibatch_std(x), expected)
    torch.testing.assert_close(statistic(torch.zeros_like(x))[0, 0].item(), 1e-4, **for_dtype(float64))


def test_eps_stands_inside_the_root() -> None:
    # Variance 1 with eps 3: the root is 2; eps added outside would give 4.
    torch.testing.assert_close(statistic(column(0, 2), eps=3.0)[0, 0].item(), 2.0, **for_dtype(float64))


def test_the_root_is_taken_before_the_mean_over_the_image() -> None:
    # Pixels with deviation 1 and 3: mean 2; the root of the mean variance would be sqrt(5).
    x = torch.tensor([[0.0, 0.0], [2.0, 6.0]], dtype=float64).view(2, 1, 1, 2)
    torch.testing.assert_close(statistic(x, eps=0.0)[0, 0].item(), 2.0, **for_dtype(float64))


def test_each_new_channel_belongs_to_a_run_of_consecutive_channels() -> None:
    x = torch.zeros(2, 4, 1, 1, dtype=float64)
    x[1, :, 0, 0] = torch.tensor([2.0, 6.0, 20.0, 40.0])  # deviations 1, 3, 10, 20
    found = statistic(x, num_channels=2, eps=0.0)
    torch.testing.assert_close(found, torch.tensor([[2.0, 15.0]] * 2, dtype=float64), **for_dtype(float64))


@given(batch=st.integers(2, 9))
def test_the_tutorial_form_is_an_option(batch: int) -> None:
    # Whole batch, unbiased, no eps: torch.std over the batch, averaged over everything else.
    x = fill((batch, 3, 2, 2), "normal", seed=batch)
    expected = torch.std(x, dim=0).mean().expand(batch, 1)
    found = statistic(x, group_size=None, unbiased=True, eps=0.0)
    torch.testing.assert_close(found, expected, **for_dtype(float64))


# -- chunks ---------------------------------------------------------------------------------------


@given(batch=st.integers(0, 5), num_channels=st.sampled_from([1, 2]))
def test_two_chunks_are_two_batches(batch: int, num_channels: int) -> None:
    real = fill((batch, 2, 2, 3), "normal", seed=1)
    fake = fill((batch, 2, 2, 3), "large", seed=2)
    together = minibatch_std(torch.cat([real, fake]), num_channels=num_channels, chunks=2)
    apart = [minibatch_std(half, num_channels=num_channels) for half in (real, fake)]
    torch.testing.assert_close(together, torch.cat(apart), **for_dtype(float64))


def test_three_chunks_by_hand() -> None:
    found = statistic(column(0, 2, 5, 5, 0, 8), chunks=3, eps=0.0)[:, 0]
    torch.testing.assert_close(found, torch.tensor([1.0, 1, 0, 0, 4, 4], dtype=float64), **named("exact"))


@pytest.mark.parametrize(("batch", "chunks"), [(3, 2), (1, 2), (4, 3), (4, 0), (4, -1)])
def test_refuses_chunks_that_do_not_divide_the_batch(batch: int, chunks: int) -> None:
    with pytest.raises(ValueError, match="chunks"):
        minibatch_std(torch.zeros(batch, 1, 2, 2), chunks=chunks)


# -- invariances ----------------------------------------------------------------------------------


def test_permuting_samples_inside_a_group_changes_no_statistic() -> None:
    x = torch.randn(8, 3, 2, 2, dtype=float64)  # groups: even and odd samples
    before = statistic(x)
    for order in itertools.islice(itertools.permutations([0, 2, 4, 6]), 0, 24, 5):
        full = [order[i // 2] if i % 2 == 0 else i for i in range(8)]
        torch.testing.assert_close(statistic(x[full]), before, **for_dtype(float64))


def test_exchanging_samples_between_groups_changes_it() -> None:
    found = statistic(column(0, 10, 0, 10), group_size=2, eps=0.0)
    exchanged = statistic(column(0, 0, 10, 10), group_size=2, eps=0.0)
    torch.testing.assert_close(found, torch.zeros_like(found), **named("exact"))
    torch.testing.assert_close(exchanged, torch.full_like(exchanged, 5.0), **named("exact"))


@given(shift=st.floats(-10, 10), factor=st.floats(-10, 10))
def test_ignores_a_shift_and_scales_with_the_input(shift: float, factor: float) -> None:
    x = fill((6, 3, 2, 2), "normal", seed=3)
    expected = abs(factor) * statistic(x, eps=0.0)
    torch.testing.assert_close(statistic(factor * x + shift, eps=0.0), expected, **for_dtype(float64))


def test_eps_bounds_the_statistic_from_below() -> None:
    for eps in (1e-8, 1e-2):
        assert statistic(torch.randn(8, 2, 2, 2, dtype=float64) * 1e-9, eps=eps).min().item() >= eps**0.5


# -- layout and precision -------------------------------------------------------------------------


@pytest.mark.parametrize("layout", ["contiguous", "channels_last"])
@pytest.mark.parametrize("dtype", DTYPES)
def test_keeps_memory_format_and_dtype(layout: str, dtype: torch.dtype) -> None:
    formats = {"contiguous": torch.contiguous_format, "channels_last": torch.channels_last}
    for batch, chunks in ((4, 1), (4, 2), (1, 1)):
        x = lay_out(fill((batch, 3, 4, 5), "normal", seed=0, dtype=dtype), layout)
        y = minibatch_std(x, chunks=chunks)
        assert y.is_contiguous(memory_format=formats[layout])
        assert y.dtype == dtype


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_finite_where_the_square_overflows_half_precision(dtype: torch.dtype) -> None:
    x = column(-300, 300, -300, 300, dtype=dtype).expand(4, 2, 3, 3).clone().requires_grad_()
    found = minibatch_std(x)
    torch.testing.assert_close(found[:, -1], torch.full_like(found[:, -1], 300.0), **for_dtype(dtype))
    (gradient,) = torch.autograd.grad(found[:, -1].float().sum(), x)
    assert gradient.isfinite().all()


def test_half_precision_does_not_lose_eps() -> None:
    found = statistic(torch.ones(4, 2, 2, 2, dtype=torch.float16)).double()
    torch.testing.assert_close(found, torch.full_like(found, 1e-4), **named("half_rounding"))


def test_a_large_common_value_does_not_drown_the_spread() -> None:
    # The mean of the squares minus the square of the mean would be off by several percent.
    found = statistic(1000 + column(-1, 1, -1, 1, dtype=torch.float32))
    torch.testing.assert_close(found, torch.ones_like(found), **for_dtype(torch.float32))


def test_float64_is_not_reduced_to_float32() -> None:
    found = statistic(1e6 + column(-1e-3, 1e-3), eps=0.0)
    torch.testing.assert_close(found, torch.full_like(found, 1e-3), **named("float64_eps"))


def test_autocast_changes_nothing() -> None:
    x = torch.randn(4, 8, 4, 4)
    plain = minibatch_std(x)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        cast = minibatch_std(x)
    torch.testing.assert_close(cast, plain, **for_dtype(torch.float32))


# -- degenerate points ----------------------------------------------------------------------------


@pytest.mark.parametrize("unbiased", [False, True])
@pytest.mark.parametrize("eps", [1e-8, 1e-2])
@pytest.mark.parametrize("batch", [1, 2, 4, 5])
def test_identical_samples_give_the_root_of_eps(batch: int, eps: float, unbiased: bool) -> None:
    x = fill((1, 3, 2, 2), "normal", seed=4).expand(batch, 3, 2, 2)
    found = statistic(x, eps=eps, unbiased=unbiased)
    torch.testing.assert_close(found, torch.full_like(found, eps**0.5), **for_dtype(float64))


def test_a_single_image_is_nan_in_the_tutorial_form_and_finite_here() -> None:
    x = torch.randn(1, 3, 2, 2, dtype=float64)
    with pytest.warns(UserWarning, match="degrees of freedom"):
        assert torch.std(x, dim=0).mean().isnan()
    found = statistic(x, group_size=None, unbiased=True)
    torch.testing.assert_close(found, torch.full_like(found, 1e-4), **for_dtype(float64))
    assert statistic(x, group_size=None, unbiased=True, eps=0.0).item() == 0.0


@pytest.mark.parametrize("unbiased", [False, True])
def test_groups_of_one_give_the_root_of_eps(unbiased: bool) -> None:
    found = statistic(fill((3, 2, 2, 2), "large", seed=5), group_size=1, unbiased=unbiased)
    torch.testing.assert_close(found, torch.full_like(found, 1e-4), **for_dtype(float64))


@pytest.mark.parametrize("chunks", [1, 2])
@pytest.mark.parametrize("num_channels", [1, 3])
def test_an_empty_batch_stays_empty(num_channels: int, chunks: int) -> None:
    x = torch.zeros(0, 3, 2, 5, dtype=torch.bfloat16, requires_grad=True)
    y = minibatch_std(x, num_channels=num_channels, chunks=chunks)
    assert y.shape == (0, 3 + num_channels, 2, 5)
    assert y.dtype == torch.bfloat16


POINTS = {
    "two groups": (fill((4, 2, 2, 1), "normal", seed=5), {"group_size": 2}),
    "two channels": (fill((3, 2, 1, 2), "normal", seed=6), {"num_channels": 2}),
    "chunks": (fill((4, 1, 2, 1), "normal", seed=7), {"chunks": 2}),
    "unbiased": (fill((3, 2, 1, 1), "normal", seed=8), {"unbiased": True, "group_size": None}),
    "channels last": (lay_out(fill((2, 2, 2, 1), "normal", seed=9), "channels_last"), {}),
    "single image": (fill((1, 2, 2, 1), "normal", seed=10), {}),
    "single image, unbiased": (fill((1, 2, 2, 1), "normal", seed=10), {"unbiased": True, "group_size": None}),
    "identical samples": (fill((1, 2, 1, 2), "normal", seed=11).repeat(2, 1, 1, 1), {}),
    "identical samples, unbiased": (fill((1, 2, 1, 2), "normal", seed=11).repeat(3, 1, 1, 1), {"unbiased": True}),
    "zeros": (torch.zeros(4, 1, 2, 1, dtype=float64), {}),
    "one group identical": (column(1, 0, 1, 2), {"group_size": 2}),
    "groups of one": (fill((2, 1, 2, 1), "normal", seed=13), {"group_size": 1}),
    "empty": (fill((0, 2, 2, 2), "normal", seed=12), {}),
}


@pytest.mark.parametrize("name", list(POINTS))
def test_first_and_second_gradients(name: str) -> None:
    point, options = POINTS[name]
    x = point.clone().requires_grad_()

    def function(images: Tensor) -> Tensor:
        return minibatch_std(images, **options)  # type: ignore[arg-type]

    assert torch.autograd.gradcheck(function, (x,))
    assert torch.autograd.gradgradcheck(function, (x,))


@pytest.mark.parametrize("unbiased", [False, True])
@pytest.mark.parametrize("batch", [1, 4])
def test_gradients_at_identical_samples_are_those_of_the_image_alone(batch: int, unbiased: bool) -> None:
    x = torch.ones(batch, 2, 2, 2, dtype=float64, requires_grad=True)
    y = minibatch_std(x, unbiased=unbiased)
    (gradient,) = torch.autograd.grad(y.square().sum(), x, create_graph=True)
    torch.testing.assert_close(gradient, 2 * x, **for_dtype(float64))
    # A penalty on this gradient, as WGAN-GP has it, must not bring a NaN.
    (gradient.flatten(1).norm(dim=1) - 1).square().mean().backward()
    assert x.grad is not None
    assert x.grad.isfinite().all()


# -- refusals -------------------------------------------------------------------------------------


@pytest.mark.parametrize(("channels", "num_channels"), [(3, 2), (1, 2), (4, 3), (4, 0), (4, -1)])
def test_refuses_channels_that_do_not_split(channels: int, num_channels: int) -> None:
    with pytest.raises(ValueError, match="num_channels"):
        minibatch_std(torch.zeros(2, channels, 2, 2), num_channels=num_channels)


@pytest.mark.parametrize("shape", [(4,), (4, 3), (4, 3, 2)])
def test_refuses_what_is_not_a_batch_of_images(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="dimensions"):
        minibatch_std(torch.zeros(shape))


def test_options_are_keyword_only() -> None:
    with pytest.raises(TypeError):
        minibatch_std(torch.zeros(4, 1, 1, 1), 4)  # type: ignore[misc]
