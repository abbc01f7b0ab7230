"""Randomness without state."""

import torch

from ganblocks.training.randomness import StepContext, derived_seed, own_randomness
from ganblocks.training.schedule import Phase


def test_seeds_depend_on_every_part_and_on_nothing_else() -> None:
    assert derived_seed(1, 23) == derived_seed(1, 23)
    assert derived_seed(1, 23) != derived_seed(12, 3)
    assert len({derived_seed(seed, n) for seed in range(20) for n in range(20)}) == 400
    assert 0 <= derived_seed("x") < 2**63


def test_known_value_is_the_same_on_every_machine() -> None:
    """A change here would silently change every run: a checkpoint would continue with other numbers."""
    assert derived_seed(0, 0, "latents") == 2229902703335885037


def test_generators_of_one_step_differ_by_purpose_and_repeat() -> None:
    context = StepContext(3, 640, Phase(8, 1e-3))

    def draw(purpose: str) -> torch.Tensor:
        return torch.rand(4, generator=context.generator(purpose))

    assert torch.equal(draw("latents"), draw("latents"))
    assert not torch.equal(draw("latents"), draw("mixing"))
    later = StepContext(3, 648, context.phase).generator("latents")
    assert not torch.equal(draw("latents"), torch.rand(4, generator=later))


def test_what_networks_draw_is_their_own_and_the_program_goes_on_undisturbed() -> None:
    context, cpu = StepContext(3, 640, Phase(8, 1e-3)), torch.device("cpu")

    def draw(purpose: str, before: int) -> tuple[torch.Tensor, torch.Tensor]:
        torch.manual_seed(before)
        with own_randomness(context, cpu, purpose):
            inside = torch.rand(4)
        return inside, torch.rand(4)

    (first, after), (again, other) = draw("network", 1), draw("network", 2)
    assert torch.equal(first, again)
    assert not torch.equal(first, draw("generator", 1)[0])
    torch.manual_seed(1)
    assert torch.equal(after, torch.rand(4))
    assert not torch.equal(after, other)
