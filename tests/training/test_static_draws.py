"""The numbers of a step lie in buffers, and are those that the step would have drawn."""

import dataclasses

import pytest
import torch
from torch import Tensor

from ganblocks.functional.draws import draw
from ganblocks.training import Phase, StepContext
from ganblocks.training.randomness import own_randomness
from ganblocks.training.static_draws import DrawTape, TapedContext, copy_to

CPU = torch.device("cpu")


def at(images_seen: int) -> StepContext:
    return StepContext(3, images_seen, Phase(4, 1e-3))


def taped(context: StepContext, tape: DrawTape) -> TapedContext:
    tape.rewind()
    return TapedContext(context.seed, context.images_seen, context.phase, tape=tape)


def draws(context: StepContext) -> list[Tensor]:
    """Two purposes, one of them twice from one generator, one asked for anew, and those of two parts."""
    latents = context.drawn("latents", lambda generator: torch.randn(4, 3, generator=generator).exp(), CPU)
    mixing = context.generator("mixing")
    found = [latents, draw(torch.rand, (4,), mixing), draw(torch.randn, (4, 2), mixing, dtype=torch.float64)]
    found.append(draw(torch.rand, (4,), context.generator("mixing")))
    for part in range(2):
        divided = context.divided(part, 2)
        found.append(divided.drawn("latents", lambda generator: draw(torch.randn, (2, 3), generator), CPU))
        found.append(draw(torch.rand, (2,), divided.generator("mixing")))
    return found


def test_refilled_buffers_hold_what_the_step_would_draw_there() -> None:
    tape = DrawTape(CPU)
    recorded = draws(taped(at(0), tape))
    assert all(torch.equal(a, b) for a, b in zip(recorded, draws(at(0)), strict=True))
    tape.recording = False
    places = [tensor.data_ptr() for tensor in recorded]
    for images_seen in (4, 8):
        tape.refill(at(images_seen))
        found = draws(taped(at(0), tape))  # the context of the recording, as in a replay
        assert all(torch.equal(a, b) for a, b in zip(found, draws(at(images_seen)), strict=True))
        assert [tensor.data_ptr() for tensor in found] == places
    other = dataclasses.replace(at(8), seed=4)
    tape.refill(other)
    assert all(torch.equal(a, b) for a, b in zip(draws(taped(at(0), tape)), draws(other), strict=True))


def test_other_draws_than_those_written_down_are_an_error() -> None:
    tape = DrawTape(CPU)
    taped(at(0), tape).drawn("latents", lambda generator: torch.rand(2, generator=generator), CPU)
    tape.recording = False
    context = taped(at(0), tape)
    with pytest.raises(RuntimeError, match="the step draws 'mixing' now"):
        draw(torch.rand, (2,), context.generator("mixing"))
    context = taped(at(0), tape)
    context.drawn("latents", lambda generator: torch.rand(2, generator=generator), CPU)
    with pytest.raises(RuntimeError, match="the step draws 'latents' now"):
        context.drawn("latents", lambda generator: torch.rand(2, generator=generator), CPU)


def test_what_networks_draw_is_noticed_while_recording() -> None:
    tape = DrawTape(CPU)
    with own_randomness(taped(at(0), tape), CPU):
        torch.zeros(3).add_(1)
    assert not tape.networks_draw
    with own_randomness(at(0), CPU):
        expected = torch.rand(3)
    with own_randomness(taped(at(0), tape), CPU):
        assert torch.equal(torch.rand(3), expected)
    assert tape.networks_draw


def test_no_seed_is_set_where_nothing_is_written_down() -> None:
    tape = DrawTape(CPU)
    tape.recording = False
    before = torch.get_rng_state()
    with own_randomness(taped(at(0), tape), CPU):
        assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_numbers_reach_buffers_on_a_gpu_unchanged() -> None:
    value = torch.randn(1000)
    buffer = torch.zeros(1000, device="cuda")
    copy_to(buffer, value)
    assert torch.equal(buffer.cpu(), value)
