"""The state of a step: put back to the bit and into the same memory, compared by bits."""

import pytest
import torch
from torch import nn

from ganblocks.training import AdversarialStep, ExponentialMovingAverage, Phase, StepContext, latent_sampler
from ganblocks.training.graph_state import StepState, difference
from ganblocks.training.state import flatten


class Critic(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.dense = nn.Linear(12, 1)
        self.register_buffer("seen", torch.zeros(()))
        self.register_buffer("nothing", None)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        self.seen.add_(1)
        return self.dense(images.flatten(1))[:, 0]


def a_step() -> AdversarialStep:
    torch.manual_seed(0)
    generator = nn.Sequential(nn.Linear(5, 12), nn.Unflatten(1, (3, 2, 2)))
    critic = Critic()
    step = AdversarialStep(
        generator,
        critic,
        generator_optimizer=torch.optim.Adam(generator.parameters(), fused=True),
        discriminator_optimizer=torch.optim.Adam(critic.parameters(), fused=True),
        sampler=latent_sampler(5),
        ema=ExponentialMovingAverage(generator, decay=0.5),
    )
    step.guard.follow(torch.zeros((), dtype=torch.int64))
    return step


def train(step: AdversarialStep, count: int = 1) -> None:
    for _ in range(count):
        images = torch.randint(0, 256, (4, 3, 2, 2), dtype=torch.uint8)
        step(images, None, StepContext(0, 4 * step.calls, Phase(4, 1e-3)))


def test_a_snapshot_puts_everything_back_where_it_was() -> None:
    step = a_step()
    train(step, 2)
    state = StepState(step)
    before, places, snapshot = flatten(step.state_dict()), state.places(), state.snapshot()
    train(step, 3)
    step.generator_optimizer.state[step.generator[0].weight]["exp_avg"] = torch.ones(12, 5)
    step.discriminator.seen = torch.tensor(7.0)
    step.discriminator_optimizer.param_groups[0]["lr"] = 0.5
    assert state.places() != places
    assert difference(before, flatten(step.state_dict())) is not None
    snapshot.restore()
    assert difference(before, flatten(step.state_dict())) is None
    assert state.places() == places
    assert state.counts() == (2, 2)


def test_moments_that_were_not_there_are_forgotten() -> None:
    step = a_step()
    state = StepState(step)
    snapshot = state.snapshot()
    train(step)
    assert len(step.generator_optimizer.state) == 2
    snapshot.restore()
    assert len(step.generator_optimizer.state) == 0
    assert step.calls == 0


def test_every_tensor_of_the_state_has_its_place() -> None:
    """Weights 2 + 2, a buffer, an average of 2; three tensors of Adam for each of 4 weights; two counters of each."""
    step = a_step()
    train(step)
    places, trained = StepState(step).places()
    assert trained == [True, True, False, True, True, False, False]  # the buffer comes before the layer
    assert len(places) == 2 + 2 + 1 + 2 + 3 * 4 + 2 * 2


def test_steps_that_are_counted_for_a_graph_can_be_counted_later() -> None:
    step = a_step()
    state = StepState(step)
    with state.counted() as counted:
        train(step, 2)
    assert counted() == (2, 2)
    assert state.counts() == (0, 0)
    state.advance(*counted())
    assert state.counts() == (2, 2)
    state.drop_gradients()
    assert all(parameter.grad is None for parameter in step.generator.parameters())


def test_settings_change_with_every_number_and_every_part() -> None:
    step = a_step()
    state = StepState(step)
    before = state.settings()
    train(step, 2)
    assert state.settings() == before
    seen = {before}
    step.penalty_weight = 3.0
    seen.add(state.settings())
    step.ema.decay = 0.25
    seen.add(state.settings())
    step.generator_optimizer.param_groups[0]["betas"] = (0.5, 0.9)
    seen.add(state.settings())
    step.sampler = latent_sampler(5, "truncnorm")
    seen.add(state.settings())
    assert len(seen) == 5


@pytest.mark.parametrize(
    ("one", "other", "found"),
    [
        ([1.0, torch.nan], [1.0, torch.nan], None),
        ([0.0], [-0.0], "a"),
        ([1.0], [1.0 + 2**-23], "a"),
        ([1.0], [[1.0]], "a"),
    ],
)
def test_two_states_are_compared_by_bits(one: list[float], other: list[float], found: str | None) -> None:
    assert difference(flatten({"a": torch.tensor(one)}), flatten({"a": torch.tensor(other)})) == found
    assert difference(flatten({"a": torch.tensor(one)}), flatten({"b": torch.tensor(one)})) is not None
    assert difference(flatten({"a": 1}), flatten({"a": 2})) == "numbers that are no tensors"
    assert difference(flatten({"a": torch.ones(2)}), flatten({"a": torch.ones(2).double()})) == "a"
