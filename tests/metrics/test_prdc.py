"""Precision, recall, density and coverage against loops in exact arithmetic, laws of chance and torch-fidelity."""

import importlib
import math
from fractions import Fraction
from unittest import mock

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ganblocks.errors import FingerprintMismatchError, MetricError
from ganblocks.metrics.prdc import prdc

module = importlib.import_module("ganblocks.metrics.prdc")  # as an attribute, the function hides the module
NAMES = ("precision", "recall", "density", "coverage")


def normal(*shape, seed=0, dtype=torch.float64):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def values(*arguments, **options):
    return {name: score.value for name, score in prdc(*arguments, **options).items()}


def oracle(real, fake, nearest_k, ties):
    """The definitions, in loops over fractions: no rounding anywhere."""
    real, fake = ([[Fraction(value) for value in row] for row in rows.double().tolist()] for rows in (real, fake))

    def squared(a, b):
        return sum(((x - y) ** 2 for x, y in zip(a, b, strict=True)), Fraction(0))

    def radius(rows, i):
        return sorted(squared(rows[i], other) for j, other in enumerate(rows) if j != i)[nearest_k - 1]

    def holds(centre, limit, point):
        distance = squared(centre, point)
        return distance <= limit if ties == "inclusive" else distance < limit

    real_radii = [radius(real, i) for i in range(len(real))]
    fake_radii = [radius(fake, j) for j in range(len(fake))]
    in_real = [[holds(r, limit, f) for f in fake] for r, limit in zip(real, real_radii, strict=True)]
    in_fake = [[holds(f, limit, r) for f, limit in zip(fake, fake_radii, strict=True)] for r in real]
    return {
        "precision": sum(any(column) for column in zip(*in_real, strict=True)) / len(fake),
        "recall": sum(any(row) for row in in_fake) / len(real),
        "density": sum(map(sum, in_real)) / (nearest_k * len(fake)),
        "coverage": sum(any(row) for row in in_real) / len(real),
    }


@st.composite
def lattice_sets(draw):
    """Two sets of few different values, so that ties and repeated rows are the rule, exact in the dtype drawn."""
    dimension = draw(st.integers(1, 4))
    width = draw(st.integers(0, 3))
    real, fake = (
        torch.tensor(
            draw(st.lists(st.lists(st.integers(-width, width), min_size=dimension, max_size=dimension), **sizes))
        )
        for sizes in [{"min_size": 2, "max_size": 12}] * 2
    )
    dtype = draw(st.sampled_from([torch.float32, torch.float64]))
    offset = draw(st.sampled_from([0, 1000, 2**20]))
    scale = 2.0 ** draw(st.integers(-27, 27))
    return (real + offset).to(dtype) * scale, (fake + offset).to(dtype) * scale


@given(sets=lattice_sets(), ties=st.sampled_from(["strict", "inclusive"]), data=st.data())
def test_ties_are_decided_exactly_whatever_the_block(sets, ties, data):
    real, fake = sets
    nearest_k = data.draw(st.integers(1, min(len(real), len(fake)) - 1))
    expected = oracle(real, fake, nearest_k, ties)
    for block in (1, 7, 2**23):
        with mock.patch.object(module, "_BLOCK_ELEMENTS", block):
            assert values(real, fake, nearest_k=nearest_k, ties=ties) == expected


@given(
    count_real=st.integers(2, 15),
    count_fake=st.integers(2, 15),
    dimension=st.integers(1, 6),
    exponent=st.integers(-8, 8),
    dtype=st.sampled_from([torch.float32, torch.float64]),
    seed=st.integers(0, 1000),
)
def test_any_sizes_and_scales_agree_with_exact_arithmetic(count_real, count_fake, dimension, exponent, dtype, seed):
    real = normal(count_real, dimension, seed=seed, dtype=dtype) * 10.0**exponent
    fake = normal(count_fake, dimension, seed=seed + 1, dtype=dtype) * 10.0**exponent
    fake[0] = real[0]  # and so a tie with the radius of each real that it is the neighbour of
    nearest_k = min(count_real, count_fake) // 2
    for ties in ("strict", "inclusive"):
        assert values(real, fake, nearest_k=nearest_k, ties=ties) == oracle(real, fake, nearest_k, ties)


@pytest.mark.parametrize("offset", [0.0, 1e3, 1e6])
def test_a_fake_equal_to_the_neighbour_that_makes_the_radius_lies_on_the_surface(offset):
    real = normal(60, 300, dtype=torch.float64) + offset
    distances = torch.tensor([[(a - b).square().sum() for b in real] for a in real], dtype=torch.float64)
    nearest = distances.argsort(dim=1)[:, 3]  # the third beside the row itself
    fake = torch.cat([real[nearest[:1]], normal(9, 300, seed=1) + offset + 1000])
    strict, inclusive = (values(real, fake, nearest_k=3, ties=ties) for ties in ("strict", "inclusive"))
    on_surface = int((distances == distances.gather(1, nearest[:, None]))[:, nearest[0]].sum())
    assert on_surface > 0
    assert round(inclusive["density"] * 30) - round(strict["density"] * 30) == on_surface


def test_blocks_of_any_size_give_one_result_in_many_dimensions():
    real, fake = normal(24, 35, dtype=torch.float32), 1.05 * normal(18, 35, seed=1, dtype=torch.float32)
    real[10:17], fake[5:9], fake[10:13] = real[0], fake[0], real[0]
    found = []
    for block in (1, 37, 1000, 2**23):
        with mock.patch.object(module, "_BLOCK_ELEMENTS", block):
            found.append(prdc(real, fake))
    assert found[0] == found[1] == found[2] == found[3]
    assert {name: score.value for name, score in found[0].items()} == oracle(real, fake, 5, "strict")


@pytest.mark.parametrize("size", [0.01, 0.3, 3.0, 1e3])
def test_the_matrix_product_is_trusted_within_its_bound_and_no_further(size):
    real, fake = normal(25, 4, dtype=torch.float32), normal(20, 4, seed=1, dtype=torch.float32)
    real[5:9], fake[3] = real[0], real[1]

    def off_by_almost_the_bound(a, b):
        squares = (a[:, None] - b[None]).square().sum(dim=2)
        error = size * torch.rand(squares.shape, dtype=torch.float64)
        return squares + error * torch.empty_like(error).uniform_(-1, 1).sign() * 0.99, error

    for ties in ("strict", "inclusive"):
        with mock.patch.object(module, "_approximate_squares", off_by_almost_the_bound):
            assert values(real, fake, nearest_k=3, ties=ties) == oracle(real, fake, 3, ties)


@given(
    count=st.integers(1, 6),
    dimension=st.integers(1, 40),
    exponent=st.integers(0, 12),
    seed=st.integers(0, 1000),
)
def test_the_bound_on_the_error_of_the_matrix_product_holds(count, dimension, exponent, seed):
    a, b = (normal(count, dimension, seed=seed + i) for i in range(2))
    a, b = a / 3, b / 3 + torch.linspace(0, 10.0**-exponent, count, dtype=torch.float64)[:, None]
    centre = torch.cat([a, b]).mean(dim=0) + 1
    squares, error = module._approximate_squares(a - centre, b - centre)
    for i in range(count):
        for j in range(count):
            pairs = zip(a[i].tolist(), b[j].tolist(), strict=True)
            true = sum((Fraction(x) - Fraction(y)) ** 2 for x, y in pairs)
            assert abs(Fraction(float(squares[i, j])) - true) <= Fraction(float(error[i, j]))


@pytest.mark.parametrize("dimension", [1, 2, 3, 5, 64, 77, 2048])
def test_a_distance_has_the_same_bits_whichever_others_are_asked_for(dimension):
    a, b = normal(6, dimension), normal(6, dimension, seed=1)
    i, j = (index.flatten() for index in torch.meshgrid(torch.arange(6), torch.arange(6), indexing="ij"))
    found = module._exact_squares(a, b, i, j)
    assert torch.equal(module._exact_squares(b, a, j, i), found)
    for n in range(36):
        assert module._exact_squares(a[i[n] :], b, torch.tensor([0]), j[n : n + 1]) == found[n]
        terms = [(x - y) ** 2 for x, y in zip(a[i[n]].tolist(), b[j[n]].tolist(), strict=True)]
        while len(terms) > 1:  # the order that is promised
            half = (len(terms) + 1) // 2
            terms = [sum(terms[m::half]) for m in range(half)]
        assert found[n] == terms[0]


def test_tight_clusters_far_apart_are_resolved():
    # the product of rows loses all digits of the distances within a cluster; the differences keep them
    cluster = torch.tensor([0, 1, 2, 4, 8, 16, 32, 33], dtype=torch.float64)[:, None].repeat(1, 3) * 2.0**-20
    real = torch.cat([cluster - 2.0**20, cluster + 2.0**20])
    fake = torch.cat([cluster - 2.0**20 + 2.0**-21, cluster + 2.0**20 + 2.0**-18])
    for ties in ("strict", "inclusive"):
        for nearest_k in (1, 2, 5):
            assert values(real, fake, nearest_k=nearest_k, ties=ties) == oracle(real, fake, nearest_k, ties)


def test_a_set_with_itself():
    # a strict ball of nearest_k neighbours holds nearest_k samples of its own set, an inclusive one a further one
    rows = normal(100, 7)
    assert values(rows, rows) == {"precision": 1.0, "recall": 1.0, "density": 1.0, "coverage": 1.0}
    inclusive = values(rows, rows, ties="inclusive")
    assert inclusive == {"precision": 1.0, "recall": 1.0, "density": 6 / 5, "coverage": 1.0}


def test_a_set_that_is_half_copies_of_one_row():
    copies, others = torch.full((252, 4), 1e6), normal(252, 4, dtype=torch.float32)
    rows = torch.cat([copies, others])
    scores = prdc(rows, rows)
    # strict balls of radius 0 are empty; in the other half each ball holds its own sample and four more
    assert {name: score.value for name, score in scores.items()} == dict.fromkeys(NAMES, 0.5)
    # inclusive: 252 balls of 252 samples and 252 balls of 6, over 5 * 504
    inclusive = values(rows, rows, ties="inclusive")
    assert inclusive == {"precision": 1.0, "recall": 1.0, "density": 25.8, "coverage": 1.0}
    assert scores["recall"].details == {"duplicates_real": 251, "duplicates_fake": 251}


def test_repeated_rows_are_counted_whatever_the_sign_of_zero():
    real = torch.tensor([[0.0, 1.0], [-0.0, 1.0], [0.0, 1.0], [2.0, 2.0], [2.0, 2.0], [3.0, 3.0]])
    fake = torch.tensor([[0.0, 1.0], [5.0, 5.0], [6.0, 6.0]])
    for score in prdc(real, fake, nearest_k=2).values():
        assert score.details == {"duplicates_real": 3, "duplicates_fake": 0}


def test_a_generator_that_makes_one_image():
    real, fake = normal(50, 5), torch.zeros(40, 5)
    strict, inclusive = (values(real, fake, ties=ties) for ties in ("strict", "inclusive"))
    assert strict["precision"] == inclusive["precision"] == 1.0
    assert strict["recall"] == inclusive["recall"] == 0.0
    assert strict == oracle(real, fake, 5, "strict")


def test_the_means_over_sets_of_one_law():
    # coverage: the fakes all miss a ball exactly if the nearest_k nearest of all others are reals, whatever the law;
    # density is 1 on average (Naeem et al. 2020)
    draws = [values(normal(200, 3, seed=2 * i), normal(300, 3, seed=2 * i + 1)) for i in range(40)]
    coverage, density = (torch.tensor([draw[name] for draw in draws]) for name in ("coverage", "density"))
    expected = 1 - math.prod((200 - i) / (500 - i) for i in range(1, 6))
    assert abs(float(coverage.mean()) - expected) < 3 * float(coverage.std()) / math.sqrt(40) < 0.01
    assert abs(float(density.mean()) - 1) < 3 * float(density.std()) / math.sqrt(40) < 0.1


def test_tight_fakes_in_wide_reals_are_precise_and_recall_little():
    # collapse keeps precision and costs recall, and the roles are symmetric
    wide, tight = normal(300, 4), 0.1 * normal(300, 4, seed=1)
    collapsed, scattered = values(wide, tight), values(tight, wide)
    assert collapsed["precision"] > 0.8
    assert collapsed["recall"] < 0.3
    assert (scattered["precision"], scattered["recall"]) == (collapsed["recall"], collapsed["precision"])


def test_order_shape_and_position_do_not_matter():
    real, fake = normal(40, 6), normal(30, 6, seed=1) + 0.5
    expected = values(real, fake, nearest_k=3)
    assert values(real.flip(0), fake[torch.randperm(30)], nearest_k=3) == expected
    assert values(real.reshape(40, 2, 3), fake.reshape(30, 3, 2), nearest_k=3) == expected
    assert values(real + 1e6, fake + 1e6, nearest_k=3) == expected
    assert values(-3 * real, -3 * fake, nearest_k=3) == expected


@pytest.mark.parametrize("scale", [1e-300, 1e-200, 1e200, 1e307])
def test_no_square_over_or_underflows(scale):
    real, fake = normal(40, 6), normal(30, 6, seed=1) + 0.5
    assert values(real * scale, fake * scale) == values(real, fake)
    assert values(torch.zeros(9, 2), torch.zeros(9, 2), ties="inclusive")["precision"] == 1.0


def test_the_smallest_numbers_there_are_keep_their_distances():
    real, fake = torch.randint(0, 9, (20, 3)), torch.randint(0, 9, (15, 3))
    assert values(5e-324 * real.double(), 5e-324 * fake.double()) == values(real, fake)


@pytest.mark.parametrize("dtype", [torch.int64, torch.uint8, torch.float16, torch.bfloat16])
def test_any_real_dtype_is_compared_exactly(dtype):
    real, fake = torch.randint(0, 12, (20, 3)).to(dtype), torch.randint(0, 12, (25, 3)).to(dtype)
    assert values(real, fake, nearest_k=3, ties="inclusive") == oracle(real, fake, 3, "inclusive")


def test_autocast_gradients_and_the_input_are_left_alone():
    real, fake = normal(40, 6).requires_grad_(), normal(30, 6, seed=1)
    kept = real.detach().clone(), fake.clone()
    expected = values(real, fake)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert values(real, fake) == expected
    assert torch.equal(real, kept[0])
    assert torch.equal(fake, kept[1])


@pytest.mark.parametrize("nearest_k", [1, 3, 10])
def test_it_agrees_with_torch_fidelity(nearest_k):
    from torch_fidelity.metric_prc import KEY_METRIC_PRECISION, KEY_METRIC_RECALL, prc_features_to_metric

    real, fake = normal(150, 8), 1.2 * normal(120, 8, seed=1) + 0.3
    reference = prc_features_to_metric(
        fake, real, prc_neighborhood=nearest_k, prc_batch_size=100, save_cpu_ram=False, verbose=False
    )
    found = values(real, fake, nearest_k=nearest_k, ties="inclusive")
    assert round(found["precision"] * 120) == round(reference[KEY_METRIC_PRECISION] * 120)  # its means are float32
    assert round(found["recall"] * 150) == round(reference[KEY_METRIC_RECALL] * 150)
    assert 0 < found["recall"] != found["precision"] < 1


def test_the_scores_carry_what_decides_them():
    scores = prdc(normal(20, 3), normal(30, 3, seed=1), nearest_k=2, ties="inclusive", extractor="abc")
    assert tuple(scores) == NAMES
    for name, score in scores.items():
        assert (score.name, score.spread, score.counts) == (name, None, {"real": 20, "fake": 30})
        assert score.settings == {"nearest_k": 2, "ties": "inclusive", "extractor": "abc"}
    with pytest.raises(FingerprintMismatchError, match="nearest_k"):
        scores["recall"].difference(prdc(normal(20, 3), normal(30, 3, seed=1), nearest_k=3)["recall"])


def test_sets_on_two_devices_are_refused():
    with (
        mock.patch("ganblocks.metrics.rows.as_rows", lambda rows, _: rows),  # cannot look into a meta tensor
        pytest.raises(ValueError, match=r"`fake.device` is 'meta', but must be cpu"),
    ):
        prdc(normal(9, 4), torch.empty(9, 4, device="meta"))


@pytest.mark.parametrize(
    ("real", "fake", "options", "error", "message"),
    [
        (normal(9, 4), normal(9, 5), {}, ValueError, "`fake` is .*rows of 4 values"),
        (normal(9, 4), normal(5, 4), {}, ValueError, "`nearest_k` is 5, .*number of rows, 9 real and 5 fake"),
        (normal(1, 4), normal(9, 4), {"nearest_k": 1}, ValueError, "`nearest_k` is 1, .*1 real and 9 fake"),
        (normal(9, 4), normal(9, 4), {"nearest_k": 0}, ValueError, "`nearest_k` is 0"),
        (normal(9, 4), normal(9, 4), {"ties": "loose"}, ValueError, "`ties` is 'loose'"),
        (normal(9, 4), torch.full((9, 4), math.inf), {}, MetricError, "`fake` holds 36 of 36"),
        (torch.ones(9, 4, dtype=torch.complex64), normal(9, 4), {}, TypeError, "`real.dtype`"),
        (normal(0, 4), normal(9, 4), {}, ValueError, "`real.shape`"),
    ],
)
def test_wrong_input_is_refused(real, fake, options, error, message):
    with pytest.raises(error, match=message):
        prdc(real, fake, **options)
