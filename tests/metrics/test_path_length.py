"""Perceptual path length against closed forms for linear generators, and the traps that inflate it."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ganblocks.errors import MetricError
from ganblocks.metrics.path_length import perceptual_path_length
from tolerances import for_dtype, named

EXACT64 = for_dtype(torch.float64)


def squared_distance(a, b):
    return (a - b).square().flatten(1).sum(1)


def weight(rows, latent_dim, seed=0):
    return torch.randn(rows, latent_dim, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def linear(matrix):
    return lambda latents: (latents.double() @ matrix.T).reshape(-1, 1, 1, len(matrix)).to(latents)


def path_length(generate, distance=squared_distance, **options):
    defaults = {"latent_dim": 4, "num_samples": 200, "batch_size": 256, "drop_quantiles": (0, 1)}
    return perceptual_path_length(generate, distance, **{**defaults, **options})


def within_three_errors(score, expected):
    assert abs(score.value - expected) < 3 * score.details["standard_error"]


@pytest.mark.parametrize("sampling", ["full", "end"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("latent_dim", [1, 5, 32])
def test_straight_paths_through_a_linear_generator_have_the_closed_form(sampling, dtype, latent_dim):
    matrix = weight(7, latent_dim)
    options = {"latent_dim": latent_dim, "num_samples": 4000, "interpolation": "lerp", "dtype": dtype}
    score = path_length(linear(matrix), sampling=sampling, **options)
    within_three_errors(score, 2 * float(matrix.square().sum()))  # E|W (z2 - z1)|^2
    assert score.name == "path_length"
    assert score.counts == {"fake": 4000}


@pytest.mark.parametrize(
    ("latent_dim", "squared_angle"),
    # E[omega^2] of two uniform directions, whose angle has density sin(omega)^(Z - 2) up to a factor
    [(2, math.pi**2 / 3), (3, (math.pi**2 - 4) / 2), (4, math.pi**2 / 3 - 1 / 2)],
)
def test_arcs_through_a_linear_generator_have_the_closed_form(latent_dim, squared_angle):
    matrix = weight(7, latent_dim)
    score = path_length(linear(matrix), latent_dim=latent_dim, num_samples=4000)
    # constant speed omega sqrt(Z) in a direction that is uniform on the sphere
    within_three_errors(score, squared_angle * float(matrix.square().sum()))


def test_arcs_run_on_the_sphere_and_normalising_generators_see_the_papers_path():
    lengths = []

    def generate(latents):
        lengths.append(latents.norm(dim=1))
        return latents / latents.norm(dim=1, keepdim=True)

    score = path_length(generate, latent_dim=6, num_samples=300, dtype=torch.float64)
    torch.testing.assert_close(torch.cat(lengths), torch.full((600,), 6.0, dtype=torch.float64).sqrt(), **EXACT64)
    # the chord of a step is that of the angle between the ends, whatever the position
    generator = torch.Generator().manual_seed(0)
    first, second = (torch.randn(1024, 6, generator=generator, dtype=torch.float64)[:300].numpy() for _ in range(2))
    cosines = (first * second).sum(1) / np.linalg.norm(first, axis=1) / np.linalg.norm(second, axis=1)
    chords = 2 * np.sin(np.arccos(cosines) * 1e-4 / 2)
    assert score.value == pytest.approx(float((chords**2).mean()) / 1e-8, rel=named("finite_difference")["rtol"])


def test_paths_in_w_are_straight_between_mapped_latents():
    mapping, matrix = weight(3, 5), weight(6, 3, seed=1)
    score = path_length(linear(matrix), latent_dim=5, num_samples=4000, mapping=lambda z: z @ mapping.to(z).T)
    within_three_errors(score, 2 * float((matrix @ mapping).square().sum()))
    assert score.settings["space"] == "w"
    assert score.settings["interpolation"] == "lerp"
    # G(w) = w^2 between 0 and 1 has the squared slope 4 w^2; a quarter of the paths runs up and one runs down
    options = {"latent_dim": 1, "num_samples": 2000, "mapping": lambda z: (z > 0).to(z)}
    for sampling, expected in (("end", 4 / 4), ("full", 4 / 3 / 2)):
        within_three_errors(path_length(lambda w: w.square(), sampling=sampling, **options), expected)


def test_w_may_have_any_shape():
    score = path_length(lambda w: w.flatten(1), latent_dim=3, mapping=lambda z: z[:, None].repeat(1, 4, 1))
    expected = path_length(lambda w: w * 2, latent_dim=3, interpolation="lerp")
    # |4 copies|^2 = |2 x|^2; the draws are the same ones
    assert score.value == pytest.approx(expected.value, rel=named("steps_float32")["rtol"])


def test_the_position_is_uniform_or_at_the_end():
    # G(z) = |z|^2 along lines from z1 to z2 in one dimension, against the formula at the same draws
    generator = torch.Generator().manual_seed(5)
    first, second = (torch.randn(1024, 1, generator=generator, dtype=torch.float64)[:50] for _ in range(2))
    t = torch.rand(1024, generator=generator, dtype=torch.float64)[:50, None]
    options = {"latent_dim": 1, "num_samples": 50, "interpolation": "lerp", "seed": 5, "dtype": torch.float64}
    for sampling, position in (("full", t), ("end", 0 * t)):
        low, high = ((first + (second - first) * p) ** 2 for p in (position, position + 1e-4))
        expected = float((high - low).square().mean()) / 1e-8
        found = path_length(lambda z: z.square(), sampling=sampling, **options).value
        assert found == pytest.approx(expected, rel=named("finite_difference")["rtol"])


@given(batch_size=st.integers(1, 5000), count=st.sampled_from([2, 3, 17, 1024, 1100]))
def test_neither_batch_size_nor_count_changes_a_draw(batch_size, count):
    seen = {}
    for size in (batch_size if count < 100 else max(batch_size, 100), 1024):
        drawn = []

        def generate(latents, drawn=drawn):
            drawn.append(latents[: len(latents) // 2])
            return latents

        score = path_length(generate, num_samples=count, batch_size=size)
        seen[size] = torch.cat(drawn)
        assert len(seen[size]) == count
        assert score.details["kept"] == count
        assert max(map(len, drawn)) <= min(size, 1024)
    one, other = seen[min(seen)], seen[max(seen)]
    torch.testing.assert_close(one, other, **for_dtype(torch.float32))
    path_length(generate, num_samples=1500, batch_size=1024)
    torch.testing.assert_close(torch.cat(drawn)[-1500:][:count], one, **for_dtype(torch.float32))


def test_the_seed_alone_decides_and_the_global_state_is_left_alone():
    before = torch.get_rng_state()
    first = path_length(lambda z: z, seed=1)
    assert torch.equal(torch.get_rng_state(), before)
    assert path_length(lambda z: z, seed=1) == first
    assert path_length(lambda z: z, seed=2).value != first.value


def test_quantiles_cut_both_tails_at_an_observed_value():
    drawn = iter(range(1000))

    def ranks(a, b):
        return torch.tensor([float(next(drawn)) for _ in a]) * 1e-8  # 0, 1, 2, ... after division by epsilon^2

    score = path_length(lambda z: z, ranks, num_samples=200, drop_quantiles=(0.1, 0.8), batch_size=33)
    # positions 0.1 * 199 = 19.9 rounded down and 0.8 * 199 = 159.2 rounded up
    assert score.details["lowest"] == pytest.approx(19)
    assert score.details["highest"] == pytest.approx(160)
    assert score.details["kept"] == 142
    assert score.value == pytest.approx(np.arange(19, 161).mean())
    assert score.spread == pytest.approx(np.arange(19, 161).std(ddof=1))
    assert score.details["median"] == pytest.approx(99.5)
    assert score.details["standard_error"] == pytest.approx(score.spread / math.sqrt(142))


def test_a_step_of_any_size_gives_the_same_for_a_linear_generator():
    scores = [path_length(linear(weight(3, 4)), interpolation="lerp", epsilon=epsilon) for epsilon in (1e-4, 1e-2)]
    assert scores[0].value == pytest.approx(scores[1].value, rel=named("steps_float32")["rtol"])
    assert scores[0].fingerprint != scores[1].fingerprint


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.uint8])
def test_coarse_images_are_refused_because_they_inflate_the_score(dtype):
    with pytest.raises(TypeError, match=r"generate\(\.\.\.\)\.dtype.*inflates"):
        path_length(lambda z: z.to(dtype))
    if dtype == torch.bfloat16:  # the reason, seen through a generator that hides its rounding
        hidden = path_length(lambda z: z.to(dtype).float(), interpolation="lerp").value
        assert hidden > 10 * path_length(lambda z: z, interpolation="lerp").value


def test_autocast_and_lowered_precision_are_off_inside_and_back_afterwards():
    layer = torch.nn.Linear(4, 6)
    expected = path_length(layer)
    seen = []

    def generate(latents):
        seen.append(
            (torch.is_autocast_enabled("cpu"), torch.backends.mkldnn.matmul.fp32_precision, torch.is_grad_enabled())
        )
        return layer(latents)

    torch.set_float32_matmul_precision("medium")
    try:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            assert path_length(generate) == expected
            assert torch.is_autocast_enabled("cpu")
        assert torch.backends.mkldnn.matmul.fp32_precision == "bf16"
    finally:
        torch.set_float32_matmul_precision("highest")
    assert set(seen) == {(False, "ieee", False)}


def test_distances_may_have_trailing_dimensions_of_one():
    expected = path_length(lambda z: z)
    assert path_length(lambda z: z, lambda a, b: squared_distance(a, b).view(-1, 1, 1, 1)) == expected


def test_settings_hold_what_decides_the_number():
    score = path_length(lambda z: z, extractor="lpips", sampling="end", drop_quantiles=(0.01, 0.99), seed=3)
    assert score.settings == {
        "space": "z",
        "latent_dim": 4,
        "sampling": "end",
        "interpolation": "slerp",
        "epsilon": 1e-4,
        "drop_quantiles": [0.01, 0.99],
        "seed": 3,
        "dtype": "float32",
        "extractor": "lpips",
    }


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"latent_dim": 0}, "latent_dim"),
        ({"num_samples": 1}, "num_samples"),
        ({"sampling": "middle"}, "sampling"),
        ({"interpolation": "cubic"}, "interpolation"),
        ({"interpolation": "slerp", "mapping": lambda z: z}, "in W"),
        ({"epsilon": 0.0}, "epsilon"),
        ({"epsilon": math.nan}, "epsilon"),
        ({"drop_quantiles": (0.5, 0.5)}, "drop_quantiles"),
        ({"drop_quantiles": (-0.1, 1)}, "drop_quantiles"),
        ({"batch_size": 0}, "batch_size"),
        ({"mapping": lambda z: z[:3]}, r"mapping\(\.\.\.\).*400 rows"),
    ],
)
def test_wrong_options_are_named(options, match):
    with pytest.raises(ValueError, match=match):
        path_length(lambda z: z, **options)


def test_wrong_results_of_the_callables_are_named():
    with pytest.raises(TypeError, match="`dtype`"):
        path_length(lambda z: z, dtype=torch.bfloat16)
    with pytest.raises(ValueError, match="400 images"):
        path_length(lambda z: z[1:])
    with pytest.raises(ValueError, match="200 distances"):
        path_length(lambda z: z, lambda a, b: squared_distance(a, b).mean())
    with pytest.raises(MetricError, match=r"`generate\(\.\.\.\)` holds 1600 of 1600"):
        path_length(lambda z: z * math.nan)
    with pytest.raises(MetricError, match=r"`distance\(\.\.\.\)` holds 200 of 200"):
        path_length(lambda z: z, lambda a, b: squared_distance(a, b) / 0)
    with pytest.raises(MetricError, match=r"`mapping\(\.\.\.\)` holds"):
        path_length(lambda z: z, mapping=lambda z: z / 0)
