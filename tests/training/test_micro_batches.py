"""A batch in equal parts: all of it, in order, with the random numbers of its rows; and the same update in the end."""

import copy

import pytest
import replica_runs
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from ganblocks.training import AdversarialStep, Phase, StepContext
from ganblocks.training.micro_batches import mean_of, parts_of
from ganblocks.training.state import flatten
from tolerances import named

float64 = torch.float64
CONTEXT = StepContext(3, 40, Phase(8, 1e-2))


@given(count=st.integers(1, 40), largest=st.none() | st.integers(1, 50))
def test_parts_are_equal_few_and_everything_in_order(count: int, largest: int | None) -> None:
    images, labels = torch.arange(count)[:, None], torch.arange(count)
    parts = parts_of(images, labels, CONTEXT, largest)
    assert torch.equal(torch.cat([part.images for part in parts]), images)
    assert torch.equal(torch.cat([part.labels for part in parts]), labels)
    size = len(parts[0].images)
    assert all(len(part.images) == size for part in parts)
    assert largest is None or size <= largest
    divisors = [d for d in range(1, count + 1) if count % d == 0 and (largest is None or d <= largest)]
    assert size == max(divisors)


def test_each_part_draws_the_numbers_of_its_rows_within_those_of_its_process() -> None:
    of_process = CONTEXT.divided(1, 2)
    whole = replica_runs.latent_sampler(5)(16, CONTEXT.generator("latents"))
    parts = parts_of(torch.zeros(8, 1), None, of_process, 2)
    drawn = [replica_runs.latent_sampler(5)(2, part.context.generator("latents")) for part in parts]
    assert torch.equal(torch.cat(drawn), whole[8:])


def test_means_are_taken_key_by_key() -> None:
    logs = [{"a": torch.tensor(1.0), "b": torch.tensor(4.0)}, {"a": torch.tensor(2.0), "b": torch.tensor(0.0)}]
    assert {key: value.item() for key, value in mean_of(logs).items()} == {"a": 1.5, "b": 2.0}
    assert mean_of(logs[:1]) is logs[0]


@pytest.mark.parametrize("micro_batch", [4, 3, 1])
@pytest.mark.parametrize("n_critic", [1, 2])
def test_a_gan_trained_in_parts_is_the_one_trained_at_once(micro_batch: int, n_critic: int) -> None:
    """The critic has no layer that sees two images."""
    at_once = replica_runs.adversarial(float64, n_critic=n_critic, drift_weight=1e-3)
    in_parts = replica_runs.adversarial(float64, n_critic=n_critic, drift_weight=1e-3, micro_batch=micro_batch)
    images = torch.randn(8, 3, 8, 8, dtype=float64)
    before = copy.deepcopy(flatten(at_once.state_dict())[0])
    for call in range(3):
        context = StepContext(0, 8 * call, Phase(8, 1e-2))
        logs = [step(images, None, context) for step in (at_once, in_parts)]
        assert logs[1].keys() == logs[0].keys()
        losses = [{key: value for key, value in log.items() if value.dtype == float64} for log in logs]
        assert {"discriminator_loss", "penalty"} <= losses[0].keys()  # mean scores are float32
        torch.testing.assert_close(losses[1], losses[0], **named("replicas_float64"))
    found, expected = (flatten(step.state_dict())[0] for step in (in_parts, at_once))
    torch.testing.assert_close(found, expected, **named("replicas_float64"))
    assert not torch.equal(before["generator/0.weight"], expected["generator/0.weight"])


def test_what_an_augmentation_observes_is_the_whole_batch() -> None:
    seen: list[Tensor] = []

    class Watching:
        def __call__(self, images: Tensor, generator: torch.Generator) -> Tensor:
            return images

        def observe(self, real_logits: Tensor) -> None:
            seen.append(real_logits)

    step: AdversarialStep = replica_runs.adversarial(float64, micro_batch=2, augment=Watching())
    step(torch.randn(8, 3, 8, 8, dtype=float64), None, StepContext(0, 0, Phase(8, 1e-2)))
    assert [tuple(logits.shape) for logits in seen] == [(8,)]


@pytest.mark.parametrize(
    "options",
    [{"micro_batch": 0}, {"micro_batch": 2, "reuse_fakes": True}, {"micro_batch": 2, "regularizer": object()}],
)
def test_what_needs_the_whole_batch_is_refused_in_parts(options: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="`micro_batch` is"):
        replica_runs.adversarial(float64, **options)
