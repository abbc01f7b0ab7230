"""LeCam and consistency: against loops over numbers, and what happens to the anchors over time."""

import json
import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.autograd import gradcheck, gradgradcheck

from ganblocks.losses.regularization import LeCam, consistency
from ganblocks.training.state import flatten, unflatten
from tolerances import for_dtype, named

FLOAT64 = for_dtype(torch.float64)
numbers = st.lists(st.floats(-1e3, 1e3, width=32), min_size=1, max_size=6)


def batches(count: int, size: int = 4, dtype: torch.dtype = torch.float64) -> list[tuple[Tensor, Tensor]]:
    rng = torch.Generator().manual_seed(0)
    drawn = torch.randn(count, 2, size, generator=rng, dtype=torch.float64).to(dtype)
    return [(real + 1, fake - 1) for real, fake in drawn]


# --- LeCam ---


@given(real=numbers, fake=numbers, decay=st.floats(0, 0.999), anchors=st.tuples(*[st.floats(-100, 100)] * 2))
def test_the_penalty_is_the_formula_in_a_loop(
    real: list[float], fake: list[float], decay: float, anchors: tuple[float, float]
) -> None:
    lecam = LeCam(decay=decay)
    lecam.load_state_dict(dict(zip(("real_anchor", "fake_anchor"), torch.tensor(anchors).double(), strict=True)))
    real_anchor, fake_anchor = torch.tensor(anchors).double().tolist()
    expected = sum((value - fake_anchor) ** 2 for value in real) / len(real)
    expected += sum((value - real_anchor) ** 2 for value in fake) / len(fake)
    penalty = lecam.penalty(torch.tensor(real).double(), torch.tensor(fake).double())
    np.testing.assert_allclose(penalty.item(), expected, **FLOAT64)


def test_each_side_is_pulled_towards_the_anchor_of_the_other() -> None:
    lecam = LeCam()
    lecam.load_state_dict({"real_anchor": torch.tensor(2.0), "fake_anchor": torch.tensor(-1.0)})
    real, fake = torch.tensor([-1.0, -1.0]), torch.tensor([2.0])
    assert lecam.penalty(real, fake).item() == 0.0
    assert lecam.penalty(real + 1, fake).item() == 1.0
    assert lecam.penalty(real, fake - 3).item() == 9.0


def test_the_anchors_are_moving_averages_from_zero() -> None:
    lecam = LeCam(decay=0.75)
    expected = {"real_anchor": 0.0, "fake_anchor": 0.0}
    for real, fake in batches(5):
        lecam.update(real, fake)
        for name, logits in (("real_anchor", real), ("fake_anchor", fake)):
            expected[name] = 0.75 * expected[name] + 0.25 * float(np.mean(logits.numpy()))
            np.testing.assert_allclose(lecam.state_dict()[name].item(), expected[name], **FLOAT64)
    assert expected["real_anchor"] > 0 > expected["fake_anchor"]


def test_they_reach_scores_that_stay_and_the_default_is_the_paper_s() -> None:
    lecam = LeCam()
    assert lecam.decay == 0.99
    for _ in range(100):
        lecam.update(torch.full((3,), 2.0, dtype=torch.float64), torch.full((3,), -5.0, dtype=torch.float64))
    share = 1 - 0.99**100
    torch.testing.assert_close(lecam.real_anchor.item(), 2 * share, **FLOAT64)
    torch.testing.assert_close(lecam.fake_anchor.item(), -5 * share, **FLOAT64)


def test_the_penalty_moves_no_anchor_and_the_update_keeps_no_graph() -> None:
    lecam = LeCam()
    ((real, fake),) = batches(1)
    real.requires_grad_()
    lecam.update(real, fake)
    assert not lecam.real_anchor.requires_grad
    before = lecam.state_dict()
    lecam.penalty(real, fake).backward()
    assert all(torch.equal(before[name], value) for name, value in lecam.state_dict().items())
    expected = 2 * (real.detach() - lecam.fake_anchor) / len(real)  # the anchor is a constant
    torch.testing.assert_close(real.grad, expected, **FLOAT64)


def test_an_update_between_penalty_and_backward_does_no_harm() -> None:
    lecam = LeCam()
    ((real, fake),) = batches(1)
    real.requires_grad_()
    penalty = lecam.penalty(real, fake)
    lecam.update(real, fake)
    penalty.backward()
    torch.testing.assert_close(real.grad, 2 * real.detach() / len(real), **FLOAT64)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_scores_that_are_not_finite_do_not_stay_in_the_anchors(bad: float) -> None:
    lecam = LeCam(decay=0.5)
    lecam.update(torch.tensor([2.0]), torch.tensor([4.0]))
    lecam.update(torch.tensor([1.0, bad]), torch.tensor([6.0]))
    assert lecam.real_anchor.item() == 1.0
    assert lecam.fake_anchor.item() == 4.0


def test_a_restored_state_goes_on_bit_for_bit() -> None:
    data = batches(6, dtype=torch.float32)
    lecam, other = LeCam(), LeCam()
    for real, fake in data[:3]:
        lecam.update(real, fake)
    tensors, document = flatten(lecam.state_dict())  # through what a checkpoint does with it
    other.load_state_dict(unflatten(tensors, json.loads(json.dumps(document))))
    for real, fake in data[3:]:
        for each in (lecam, other):
            each.update(real, fake)
        assert torch.equal(lecam.penalty(real, fake), other.penalty(real, fake))
    assert all(torch.equal(lecam.state_dict()[name], value) for name, value in other.state_dict().items())


def test_a_saved_state_does_not_change_later() -> None:
    lecam, other = LeCam(), LeCam()
    lecam.update(torch.ones(2), torch.ones(2))
    saved = lecam.state_dict()
    other.load_state_dict(saved)
    kept = saved["real_anchor"].item()
    for each in (lecam, other):
        each.update(torch.full((2,), 9.0), torch.ones(2))
    assert saved["real_anchor"].item() == kept


def test_half_precision_scores_are_taken_in_float32() -> None:
    lecam, wide = LeCam(), LeCam()
    ((real, fake),) = batches(1, dtype=torch.bfloat16)
    lecam.update(real, fake)
    wide.update(real.float(), fake.float())
    assert lecam.real_anchor.dtype == torch.float32
    penalty = lecam.penalty(real, fake)
    assert penalty.dtype == torch.float32
    torch.testing.assert_close(penalty, wide.penalty(real.float(), fake.float()), **named("exact"))


def test_nothing_is_read_on_the_host() -> None:
    logits = torch.zeros(3, device="meta")  # which has no numbers to read
    lecam = LeCam()
    lecam.update(logits, logits)
    assert lecam.penalty(logits, logits).is_meta


def test_wrong_arguments_of_lecam_are_told() -> None:
    for decay in (-0.1, 1.0, math.nan):
        with pytest.raises(ValueError, match="`decay` is"):
            LeCam(decay=decay)
    lecam, good = LeCam(), torch.zeros(3)
    for call in (lecam.update, lecam.penalty):
        with pytest.raises(ValueError, match=r"`real_logits` has shape \(3, 1\)"):
            call(good[:, None], good)
        with pytest.raises(ValueError, match=r"`fake_logits` has shape \(0,\)"):
            call(good, good[:0])
        with pytest.raises(TypeError, match=r"`fake_logits` has dtype torch.int64"):
            call(good, good.long())
    assert lecam.penalty(good, good[:1]).item() == 0.0  # batches of two sizes are fine
    with pytest.raises(KeyError, match="fake_anchor"):
        lecam.load_state_dict({"real_anchor": torch.zeros(())})
    for bad in (torch.zeros(1), 0.5):
        with pytest.raises(ValueError, match="`fake_anchor` is"):
            lecam.load_state_dict({"real_anchor": torch.zeros(()), "fake_anchor": bad})


# --- consistency ---


@given(pairs=st.lists(st.tuples(*[st.floats(-1e3, 1e3, width=32)] * 2), min_size=1, max_size=6))
def test_consistency_is_the_mean_squared_difference_in_a_loop(pairs: list[tuple[float, float]]) -> None:
    logits, augmented = torch.tensor(pairs).double().T
    expected = sum((a - b) ** 2 for a, b in pairs) / len(pairs)
    np.testing.assert_allclose(consistency(logits, augmented).item(), expected, **FLOAT64)
    np.testing.assert_allclose(consistency(augmented, logits).item(), expected, **FLOAT64)


def test_consistency_trains_through_both_sides() -> None:
    logits = torch.tensor([1.0, 2.0], requires_grad=True)
    augmented = torch.tensor([0.0, 4.0], requires_grad=True)
    consistency(logits, augmented).backward()
    assert logits.grad is not None
    assert augmented.grad is not None
    assert logits.grad.tolist() == [1.0, -2.0]
    assert augmented.grad.tolist() == [-1.0, 2.0]


def test_half_precision_logits_are_compared_in_float32() -> None:
    logits, augmented = (x.to(torch.bfloat16) for x in batches(1)[0])
    result = consistency(logits, augmented)
    assert result.dtype == torch.float32
    torch.testing.assert_close(result, consistency(logits.float(), augmented.float()), **named("exact"))


def test_wrong_arguments_of_consistency_are_told() -> None:
    good = torch.zeros(3)
    with pytest.raises(ValueError, match=r"`logits` has shape \(3,\) and `augmented_logits` has shape \(1,\)"):
        consistency(good, good[:1])
    with pytest.raises(ValueError, match=r"`augmented_logits` has shape \(3, 1\)"):
        consistency(good, good[:, None])
    with pytest.raises(ValueError, match=r"`logits` has shape \(0,\)"):
        consistency(good[:0], good[:0])


def test_both_are_differentiable_twice() -> None:
    lecam = LeCam()
    for real, fake in batches(3):
        lecam.update(real, fake)
    inputs = tuple(x.requires_grad_() for x in batches(1, size=3)[0])
    for formula in (lecam.penalty, consistency):
        assert gradcheck(formula, inputs)
        assert gradgradcheck(formula, inputs)
