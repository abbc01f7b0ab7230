"""RMSprop in Keras's form against a loop in NumPy, and against torch's where the two are one."""

import copy
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F

from ganblocks.training.guard import FiniteGuard
from ganblocks.training.optimizers import KerasRMSprop
from tolerances import for_dtype

STEPS = 5
SCALES = np.array([1e-6, 1e-3, 0.1, 1.0, 30.0, 0.0])  # the first makes eps matter, the last must not divide by zero


def by_numpy(weights: np.ndarray, gradients: np.ndarray, **options: Any) -> np.ndarray:
    values = {"lr": 1e-3, "rho": 0.9, "momentum": 0.0, "eps": 1e-7, "eps_inside_sqrt": True, **options}
    rates = np.broadcast_to(values["lr"], len(gradients))
    weights, square, last = weights.copy(), np.zeros_like(weights), np.zeros_like(weights)
    for gradient, rate in zip(gradients, rates, strict=True):
        for i, g in enumerate(gradient):
            square[i] = values["rho"] * square[i] + (1 - values["rho"]) * g * g
            if values["eps_inside_sqrt"]:
                divisor = np.sqrt(square[i] + values["eps"])
            else:
                divisor = np.sqrt(square[i]) + values["eps"]
            last[i] = values["momentum"] * last[i] + rate * g / divisor
            weights[i] -= last[i]
    return weights


def run(make: Any, weights: Tensor, gradients: Tensor, rates: Any = None) -> tuple[Tensor, torch.optim.Optimizer]:
    parameter = nn.Parameter(weights.clone())
    optimizer = make([parameter])
    for number, gradient in enumerate(gradients):
        if rates is not None:
            optimizer.param_groups[0]["lr"] = rates[number]
        parameter.grad = gradient.clone()
        optimizer.step()
    return parameter.detach(), optimizer


def drawn(dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor]:
    return torch.randn(6, dtype=dtype), torch.randn(STEPS, 6, dtype=dtype) * torch.from_numpy(SCALES).to(dtype)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("momentum", [0.0, 0.1, 0.9])
@pytest.mark.parametrize("eps_inside_sqrt", [True, False])
def test_five_steps_written_out(dtype: torch.dtype, momentum: float, eps_inside_sqrt: bool) -> None:
    options = {"momentum": momentum, "eps_inside_sqrt": eps_inside_sqrt}
    weights, gradients = drawn(dtype)
    result, _ = run(lambda p: KerasRMSprop(p, **options), weights, gradients)
    expected = by_numpy(weights.double().numpy(), gradients.double().numpy(), **options)
    torch.testing.assert_close(result.double(), torch.from_numpy(expected), **for_dtype(dtype))
    assert not torch.equal(result[:5], weights[:5])
    assert result[5] == weights[5]


@given(
    lr=st.floats(0, 1),
    rho=st.floats(0, 0.99),
    momentum=st.floats(0, 0.99),
    eps=st.floats(1e-10, 1),
    inside=st.booleans(),
)
def test_any_values_written_out(lr: float, rho: float, momentum: float, eps: float, inside: bool) -> None:
    options: dict[str, Any] = {"lr": lr, "rho": rho, "momentum": momentum, "eps": eps, "eps_inside_sqrt": inside}
    weights, gradients = drawn()
    result, _ = run(lambda p: KerasRMSprop(p, **options), weights, gradients)
    expected = by_numpy(weights.numpy(), gradients.numpy(), **options)
    torch.testing.assert_close(result, torch.from_numpy(expected), **for_dtype(torch.float64))


@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_with_eps_outside_it_is_the_rmsprop_of_torch(momentum: float) -> None:
    weights, gradients = drawn()
    ours, _ = run(lambda p: KerasRMSprop(p, momentum=momentum, eps_inside_sqrt=False), weights, gradients)
    theirs, _ = run(lambda p: torch.optim.RMSprop(p, 1e-3, alpha=0.9, eps=1e-7, momentum=momentum), weights, gradients)
    torch.testing.assert_close(ours, theirs, **for_dtype(torch.float64))
    inside, _ = run(lambda p: KerasRMSprop(p, momentum=momentum), weights, gradients)
    assert (inside - theirs).abs().max() > 1e-4  # a gradient of 1e-6 beside an eps of 1e-7


def test_a_new_learning_rate_does_not_act_on_earlier_steps() -> None:
    weights, gradients = drawn()
    rates = [1e-2, 1e-2, 1e-4, 1e-4, 1e-4]
    ours, _ = run(lambda p: KerasRMSprop(p, momentum=0.9), weights, gradients, rates)
    expected = by_numpy(weights.numpy(), gradients.numpy(), momentum=0.9, lr=np.array(rates))
    torch.testing.assert_close(ours, torch.from_numpy(expected), **for_dtype(torch.float64))


@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_a_saved_state_goes_on_bit_for_bit(momentum: float) -> None:
    weights, gradients = drawn(torch.float32)
    whole, _ = run(lambda p: KerasRMSprop(p, momentum=momentum), weights, gradients)
    half, optimizer = run(lambda p: KerasRMSprop(p, momentum=momentum), weights, gradients[:2])
    state = copy.deepcopy(optimizer.state_dict())

    def resumed(parameters: list[nn.Parameter]) -> KerasRMSprop:
        fresh = KerasRMSprop(parameters, lr=0.5)  # replaced by what was saved
        fresh.load_state_dict(state)
        return fresh

    rest, _ = run(resumed, half, gradients[2:])
    assert torch.equal(rest, whole)


def test_groups_have_values_of_their_own_and_missing_gradients_change_nothing() -> None:
    a, b, c = (nn.Parameter(torch.ones(2)) for _ in range(3))
    optimizer = KerasRMSprop([{"params": [a, c]}, {"params": [b], "lr": 0.1}], lr=0.01, rho=0.0, eps=0.0)
    a.grad, b.grad = torch.full((2,), 3.0), torch.full((2,), -5.0)
    optimizer.step()
    torch.testing.assert_close(a.detach(), torch.full((2,), 0.99), **for_dtype(torch.float32))
    torch.testing.assert_close(b.detach(), torch.full((2,), 1.1), **for_dtype(torch.float32))
    assert torch.equal(c.detach(), torch.ones(2))
    assert c not in optimizer.state


def test_a_closure_gives_the_loss_and_the_gradients() -> None:
    weight = nn.Parameter(torch.tensor(2.0))
    optimizer = KerasRMSprop([weight], lr=0.1, rho=0.0, eps=0.0)

    def closure() -> float:
        optimizer.zero_grad()
        loss = weight**2
        loss.backward()
        return loss.item()

    assert optimizer.step(closure) == 4.0
    torch.testing.assert_close(weight.detach(), torch.tensor(1.9), **for_dtype(torch.float32))
    assert optimizer.step() is None


def test_it_trains_behind_the_guard_which_leaves_a_step_with_nan_out() -> None:
    network, guard = nn.Linear(3, 2), FiniteGuard(("network",), max_skipped=1)
    optimizer, scaler = KerasRMSprop(network.parameters(), momentum=0.1), torch.amp.GradScaler(enabled=False)
    x, y = torch.randn(16, 3), torch.randint(2, (16,))
    losses = [
        float(guard.update("network", F.cross_entropy(network(x), y), optimizer, scaler, call=call))
        for call in range(1, 60)
    ]
    assert losses[-1] < losses[0]
    before = copy.deepcopy((network.state_dict(), optimizer.state_dict()["state"]))
    guard.update("network", network(x).sum() * float("nan"), optimizer, scaler, call=60)
    for name, tensor in network.state_dict().items():
        assert torch.equal(tensor, before[0][name])
    assert torch.equal(optimizer.state_dict()["state"][0]["last_change"], before[1][0]["last_change"])


@pytest.mark.parametrize(
    ("field", "value"), [("lr", -1e-3), ("rho", 1.0), ("rho", -0.1), ("momentum", 1.0), ("eps", -1e-8), ("lr", np.nan)]
)
def test_values_out_of_range_are_named(field: str, value: float) -> None:
    parameter = nn.Parameter(torch.ones(1))
    with pytest.raises(ValueError, match=f"`{field}`"):
        KerasRMSprop([parameter], **{field: value})
    with pytest.raises(ValueError, match=f"`{field}`"):
        KerasRMSprop([{"params": [parameter], field: value}])


def test_sparse_gradients_are_refused() -> None:
    parameter = nn.Parameter(torch.ones(2))
    parameter.grad = torch.ones(2).to_sparse()
    with pytest.raises(RuntimeError, match="sparse"):
        KerasRMSprop([parameter]).step()
