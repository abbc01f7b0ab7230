"""The moving average against its closed form."""

import pytest
import torch
from torch import nn

from ganblocks.training.ema import ExponentialMovingAverage
from tolerances import for_dtype


def network(value: float) -> nn.Module:
    module = nn.BatchNorm1d(3).double()
    with torch.no_grad():
        module.weight.fill_(value)
    module.running_mean.fill_(value)
    return module


def test_follows_the_closed_form() -> None:
    """After n updates towards a constant 1 from 0, the average is 1 - decay^n."""
    average = ExponentialMovingAverage(network(0.0), decay=0.999)
    for _ in range(50):
        average.update(network(1.0))
    expected = torch.full((3,), 1 - 0.999**50, dtype=torch.float64)
    torch.testing.assert_close(average.module.weight, expected, **for_dtype(torch.float64))
    assert average.updates == 50


def test_a_half_life_is_a_half_life_for_every_batch_size() -> None:
    for batch in (1, 10, 100):
        average = ExponentialMovingAverage(network(0.0), half_life_images=1000)
        for _ in range(1000 // batch):
            average.update(network(1.0), images=batch)
        expected = torch.full((3,), 0.5, dtype=torch.float64)
        torch.testing.assert_close(average.module.weight, expected, **for_dtype(torch.float64))


@pytest.mark.parametrize(("decay", "expected"), [(0.0, 1.0), (1.0, 0.0)])
def test_extreme_decays(decay: float, expected: float) -> None:
    average = ExponentialMovingAverage(network(0.0), decay=decay)
    average.update(network(1.0))
    assert (average.module.weight == expected).all()


def test_buffers_are_copied_and_the_copy_is_apart() -> None:
    source = network(0.0)
    average = ExponentialMovingAverage(source, decay=0.5)
    trained = network(3.0)
    average.update(trained)
    assert (average.module.running_mean == 3.0).all()
    assert not average.module.training
    assert not any(parameter.requires_grad for parameter in average.module.parameters())
    with torch.no_grad():
        source.weight.fill_(9.0)
    assert (average.module.weight == 1.5).all()


def test_state_round_trip() -> None:
    average = ExponentialMovingAverage(network(0.0), decay=0.9)
    average.update(network(1.0))
    other = ExponentialMovingAverage(network(5.0), decay=0.9)
    other.load_state_dict(average.state_dict())
    assert torch.equal(other.module.weight, average.module.weight)
    assert other.updates == 1


@pytest.mark.parametrize(
    "arguments", [{}, {"decay": 0.9, "half_life_images": 10}, {"decay": 1.1}, {"half_life_images": 0}]
)
def test_wrong_arguments_are_refused(arguments: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="must be"):
        ExponentialMovingAverage(nn.Linear(1, 1), **arguments)
