"""What the steps of a single network share: names in checkpoints and messages, rates, updates left out."""

import math

import pytest
import torch
from torch import Tensor, nn

from ganblocks.errors import NonFiniteError
from ganblocks.training import Phase, StepContext
from ganblocks.training.network_step import NetworkStep


class Scaled(NetworkStep):
    """Its loss is the weight's sum times a factor."""

    def __init__(self, **options: int | str) -> None:
        self.seen: list[int] = []
        self.critic = nn.Linear(2, 1, bias=False)
        nn.init.ones_(self.critic.weight)
        optimizer = torch.optim.SGD(self.critic.parameters(), lr=9.0)
        settings = {"max_skipped_updates": 0, **options}
        super().__init__("critic", optimizer=optimizer, precision=None, **settings)  # type: ignore[arg-type]

    def step(self, factor: float, rate: float) -> dict[str, Tensor]:
        return self(torch.full((4, 2), factor), None, StepContext(0, 0, Phase(4, rate)))

    def _inputs(self, images: Tensor, labels: Tensor | None) -> tuple[Tensor, Tensor | None]:
        return images, labels

    def _loss(self, images: Tensor, labels: Tensor | None, context: StepContext) -> tuple[Tensor, dict[str, Tensor]]:
        self.seen.append(len(images))
        return images.mean() * self.critic.weight.sum(), {"part": torch.tensor(float(context.part))}


def test_an_update_has_the_rate_of_the_phase_and_is_counted() -> None:
    step = Scaled()
    step.step(2.0, 0.25)
    assert step.critic.weight.tolist() == [[0.5, 0.5]]
    assert step.calls == 1


def test_a_group_has_its_own_factor_of_the_rate() -> None:
    step = Scaled()
    step.optimizer.param_groups[0]["lr_factor"] = 0.5
    step.step(2.0, 0.25)
    assert step.critic.weight.tolist() == [[0.75, 0.75]]


def test_the_state_has_the_network_under_its_attribute_and_goes_on_in_another() -> None:
    first, second = Scaled(), Scaled()
    first.step(2.0, 0.25)
    state = first.state_dict()
    assert state.keys() == {"calls", "guard", "critic", "optimizer", "scaler"}
    second.load_state_dict(state)
    for step in (first, second):
        step.step(1.0, 0.125)
    assert second.critic.weight.tolist() == first.critic.weight.tolist() == [[0.375, 0.375]]
    assert second.calls == 2


@pytest.mark.parametrize(("options", "name"), [({}, "the critic"), ({"called": "judge"}, "the judge")])
def test_an_update_that_is_not_finite_is_left_out_and_told_by_name(options: dict[str, str], name: str) -> None:
    step = Scaled(**options)
    step.step(math.nan, 0.25)
    assert step.critic.weight.tolist() == [[1.0, 1.0]]
    with pytest.raises(NonFiniteError, match=f"{name} was not finite at step 1"):
        step.skipped_updates()
    tolerant = Scaled(max_skipped_updates=1, **options)
    tolerant.step(math.inf, 0.25)
    assert tolerant.skipped_updates() == 1


def test_a_negative_number_of_updates_is_refused() -> None:
    with pytest.raises(ValueError, match="max_skipped"):
        Scaled(max_skipped_updates=-1)


@pytest.mark.parametrize(("micro_batch", "parts"), [(None, [4]), (4, [4]), (3, [2, 2]), (1, [1, 1, 1, 1])])
def test_parts_of_a_batch_add_up_to_the_same_update(micro_batch: int | None, parts: list[int]) -> None:
    step = Scaled(micro_batch=micro_batch)
    log = step(torch.tensor([[1.0, 1.0], [2.0, 2.0], [3.0, 3.0], [6.0, 6.0]]), None, StepContext(0, 0, Phase(4, 0.25)))
    assert step.seen == parts
    assert step.critic.weight.tolist() == [[1 - 0.25 * 3, 1 - 0.25 * 3]]
    assert log["loss"].item() == 6.0
    assert log["part"].item() == (len(parts) - 1) / 2  # the mean over parts
    assert step.calls == 1


def test_a_part_of_no_image_is_refused() -> None:
    with pytest.raises(ValueError, match="`micro_batch` is 0"):
        Scaled(micro_batch=0)
