"""What two samples of one law are told to be apart, against simulation and the first-order formula."""

import math

import pytest
import torch

from ganblocks.errors import MetricError
from ganblocks.metrics.frechet import expected_bias, frechet_distance_from_features
from ganblocks.metrics.frechet_bias import estimated_bias
from ganblocks.metrics.statistics import RunningStatistics, Statistics
from tolerances import for_dtype, named

EXACT64 = for_dtype(torch.float64)
SIZE = 64
PLACES = torch.arange(SIZE, dtype=torch.float64)
SPECTRA = {
    "one scale": torch.ones(SIZE, dtype=torch.float64),
    "geometric": 0.85**PLACES,
    "power": 30 / (1 + PLACES),
    "two scales": torch.where(PLACES < 3, 40.0, 1.0).double(),
    "low rank": torch.where(PLACES < 12, 2.0, 0.0).double(),
}


def gathered(rows, **options):
    return RunningStatistics(rows.shape[1]).update(rows).compute(**options)


def simulated(spectrum, n, m, draws, *, asked=None, ddof=1, seed=0):
    """Mean distance of samples of one normal law, and the mean of what each of the ``asked`` first pairs is told."""
    generator = torch.Generator().manual_seed(seed)
    found, told = [], []
    for _ in range(draws):
        real, fake = (
            torch.randn(count, len(spectrum), generator=generator, dtype=torch.float64) * spectrum.sqrt()
            for count in (n, m)
        )
        found.append(frechet_distance_from_features(real, fake, ddof=ddof))
        if asked is None or len(told) < asked:
            told.append(estimated_bias(gathered(real, ddof=ddof), gathered(fake, ddof=ddof)))
    return torch.tensor(found).double().mean(), torch.tensor(told).double().mean()


@pytest.mark.parametrize(("n", "m"), [(8, 8), (32, 32), (60, 60), (10, 300), (128, 40), (200, 150), (640, 640)])
@pytest.mark.parametrize("name", SPECTRA)
def test_two_samples_of_one_law_are_as_far_apart_as_they_say(name, n, m):
    found, told = simulated(SPECTRA[name], n, m, draws=6)
    torch.testing.assert_close(told, found, **named("frechet_few_rows"))


@pytest.mark.parametrize("size", [1, 2, 5])
def test_few_dimensions_are_no_exception(size):
    found, told = simulated(torch.ones(size, dtype=torch.float64), size + 5, size + 8, draws=1000, asked=40)
    torch.testing.assert_close(told, found, **named("frechet_few_dimensions"))


def test_the_divisor_of_the_covariances_counts():
    biased, told = simulated(SPECTRA["geometric"], 8, 40, draws=20, ddof=0)
    torch.testing.assert_close(told, biased, **named("frechet_few_rows"))
    assert biased < 0.97 * simulated(SPECTRA["geometric"], 8, 40, draws=20)[0]


def test_many_rows_have_the_bias_of_first_order():
    for spectrum in (SPECTRA["one scale"], SPECTRA["geometric"]):
        law = Statistics(torch.zeros(SIZE), torch.diag(spectrum), 5000)
        first = torch.tensor(expected_bias(spectrum, 5000, 5000)).double()
        torch.testing.assert_close(torch.tensor(estimated_bias(law, law)).double(), first, **named("frechet_many_rows"))


def test_scale_rotation_and_roles_do_not_matter():
    generator = torch.Generator().manual_seed(1)
    real, fake = (torch.randn(count, 20, generator=generator, dtype=torch.float64) for count in (7, 30))
    turn = torch.linalg.qr(torch.randn(20, 20, generator=generator, dtype=torch.float64)).Q
    expected = estimated_bias(gathered(real), gathered(fake))
    for factor in (1e-100, 3.0, 1e100):
        found = estimated_bias(gathered(factor * fake @ turn), gathered(factor * real @ turn))
        assert found / factor**2 == pytest.approx(expected, **for_pytest(EXACT64))
    before = torch.get_rng_state()
    assert estimated_bias(gathered(real), gathered(fake)) == expected
    assert torch.equal(torch.get_rng_state(), before)


def for_pytest(tolerance):
    return {"rel": tolerance["rtol"], "abs": tolerance["atol"]}


def test_sets_without_spread_are_expected_at_no_distance():
    same = Statistics(torch.ones(4), torch.zeros(4, 4), 3)
    assert estimated_bias(same, same) == 0


@pytest.mark.parametrize(("n", "m"), [(2, 2), (3, 900)])
def test_counts_that_contradict_the_covariance_give_a_number(n, m):
    """A covariance of full rank beside a count of 2, as after shrinkage."""
    sides = [Statistics(torch.zeros(9), torch.diag(torch.arange(1.0, 10)), count) for count in (n, m)]
    found = estimated_bias(*sides)
    assert math.isfinite(found)
    assert found >= (1 / n + 1 / m) * 45


def test_what_cannot_be_told_is_named():
    three, four = (Statistics(torch.zeros(size), torch.eye(size), 9) for size in (3, 4))
    with pytest.raises(ValueError, match=r"`b` is Statistics\(dimension=4.*of 3 dimensions"):
        estimated_bias(three, four)
    largest = torch.finfo(torch.float64).max
    huge = Statistics(torch.zeros(3), largest * torch.eye(3, dtype=torch.float64), 2, ddof=0)
    with pytest.raises(MetricError, match="too large"):
        estimated_bias(huge, huge)
