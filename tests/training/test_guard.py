"""What is not finite is never applied: not to weights, not to moments, not to step counts; and it is told."""

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from ganblocks.errors import NonFiniteError
from ganblocks.training import FiniteGuard
from ganblocks.training.guard import finite_buffers, gradient_norm

OPTIMIZERS: dict[str, Callable[[Any], torch.optim.Optimizer]] = {
    "fused Adam": lambda parameters: torch.optim.Adam(parameters, lr=0.1, fused=True),
    "Adam": lambda parameters: torch.optim.Adam(parameters, lr=0.1),
    "fused SGD": lambda parameters: torch.optim.SGD(parameters, lr=0.1, momentum=0.9, fused=True),
    "fused AdamW": lambda parameters: torch.optim.AdamW(parameters, lr=0.1, fused=True),
    "fused Adagrad": lambda parameters: torch.optim.Adagrad(parameters, lr=0.1, fused=True),
    "RMSprop": lambda parameters: torch.optim.RMSprop(parameters, lr=0.1),
}
OFF = torch.amp.GradScaler("cpu", enabled=False)


def everything(module: nn.Module, optimizer: torch.optim.Optimizer) -> list[Tensor]:
    moments = [value for state in optimizer.state.values() for value in state.values() if isinstance(value, Tensor)]
    return [tensor.detach().clone() for tensor in [*module.parameters(), *moments]]


def step(guard: FiniteGuard, module: nn.Linear, optimizer: torch.optim.Optimizer, factor: float, call: int) -> None:
    guard.update("net", factor * module(torch.ones(2, 3)).sum(), optimizer, OFF, call=call)


@pytest.mark.parametrize("bad", [torch.nan, torch.inf, -torch.inf])
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_an_update_that_is_not_finite_changes_nothing_and_the_next_one_is_as_if_it_had_not_been(
    name: str, bad: float
) -> None:
    def run(factors: list[float]) -> list[Tensor]:
        torch.manual_seed(0)
        module = nn.Linear(3, 2)
        optimizer = OPTIMIZERS[name](module.parameters())
        guard = FiniteGuard(("net",), max_skipped=5)
        for call, factor in enumerate(factors, start=1):
            before = everything(module, optimizer)
            step(guard, module, optimizer, factor, call)
            assert (not math.isfinite(factor)) == all(map(torch.equal, before, everything(module, optimizer)))
        assert guard.skipped_updates() == sum(not math.isfinite(factor) for factor in factors)
        return everything(module, optimizer)

    poisoned, clean = run([1.0, bad, 2.0, bad, bad, 3.0]), run([1.0, 2.0, 3.0])
    assert all(map(torch.equal, poisoned, clean))


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_guarded_steps_are_those_of_the_optimizer(name: str) -> None:
    results = []
    for guarded in (True, False):
        torch.manual_seed(0)
        module = nn.Linear(3, 2)
        optimizer = OPTIMIZERS[name](module.parameters())
        for call in range(1, 4):
            loss = (module(torch.ones(2, 3)) ** 2).sum()
            if guarded:
                FiniteGuard(("net",)).update("net", loss, optimizer, OFF, call=call)
            else:
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
        results.append(everything(module, optimizer))
    assert all(map(torch.equal, *results))


def test_a_gradient_that_is_not_finite_under_a_finite_loss_is_seen() -> None:
    """sqrt at 0: the loss is 0, its gradient infinite."""
    weight = nn.Parameter(torch.zeros(1))
    guard = FiniteGuard(("net",))
    optimizer = torch.optim.Adam([weight], fused=True)
    guard.update("net", weight.sqrt().sum(), optimizer, OFF, call=7)
    assert weight.item() == 0
    with pytest.raises(NonFiniteError, match="gradient of the net was not finite at step 7; 1 of its updates"):
        guard.skipped_updates()


def test_a_loss_that_is_not_finite_under_finite_gradients_is_seen() -> None:
    weight = nn.Parameter(torch.ones(1))
    guard = FiniteGuard(("net",))
    guard.update("net", (weight + torch.inf).sum(), torch.optim.SGD([weight], lr=1.0), OFF, call=1)
    assert weight.item() == 1
    with pytest.raises(NonFiniteError, match="step 1"):
        guard.skipped_updates()


def test_a_fused_optimizer_that_does_not_read_found_inf_is_not_called_either() -> None:
    class Own(torch.optim.SGD):
        """A user's own fused one: it steps whatever ``found_inf`` says."""

        def __init__(self, parameters: Any) -> None:
            super().__init__(parameters, lr=0.5)
            self.param_groups[0]["fused"] = True

        def step(self, closure: Any = None) -> None:
            with torch.no_grad():
                for parameter in self.param_groups[0]["params"]:
                    parameter -= 0.5 * parameter.grad

    weight = nn.Parameter(torch.ones(1))
    guard, optimizer = FiniteGuard(("net",), max_skipped=1), Own([weight])
    guard.update("net", weight.sum() * torch.nan, optimizer, OFF, call=1)
    assert (weight.item(), guard.skipped_updates()) == (1.0, 1)
    guard.update("net", weight.sum(), optimizer, OFF, call=2)
    assert (weight.item(), guard.skipped_updates()) == (0.5, 1)


def test_parameters_without_gradient_are_no_concern() -> None:
    used, unused = nn.Parameter(torch.ones(1)), nn.Parameter(torch.ones(1))
    guard = FiniteGuard(("net",))
    guard.update("net", used.sum(), torch.optim.SGD([used, unused], lr=1.0), OFF, call=1)
    assert (used.item(), unused.item(), guard.skipped_updates()) == (0, 1, 0)


def test_a_leaf_that_the_optimizer_does_not_hold_gets_no_gradient() -> None:
    weight, other = nn.Parameter(torch.ones(1)), nn.Parameter(torch.ones(1))
    fixed = nn.Parameter(torch.ones(1), requires_grad=False)
    optimizer = torch.optim.SGD([weight, fixed], lr=1.0)
    FiniteGuard(("net",)).update("net", (3 * weight * other * fixed).sum(), optimizer, OFF, call=1)
    assert (weight.item(), fixed.item(), other.grad) == (-2, 1, None)


def test_each_update_is_counted_apart_and_the_last_step_is_named() -> None:
    guard = FiniteGuard(("d", "g"), max_skipped=1)
    weight = nn.Parameter(torch.ones(1))
    optimizer = torch.optim.SGD([weight], lr=1.0)
    guard.update("d", weight.sum() * torch.nan, optimizer, OFF, call=3)
    guard.update("g", weight.sum() * torch.nan, optimizer, OFF, call=4)
    assert guard.skipped_updates() == 2
    guard.update("g", weight.sum() * torch.nan, optimizer, OFF, call=9)
    with pytest.raises(NonFiniteError, match=r"of the g was not finite at step 9; 2 of .* left out, 1 are allowed"):
        guard.skipped_updates()


def test_counts_survive_a_round_trip() -> None:
    guard = FiniteGuard(("net",), max_skipped=1)
    weight = nn.Parameter(torch.ones(1))
    guard.update("net", weight.sum() * torch.nan, torch.optim.SGD([weight], lr=1.0), OFF, call=3)
    again = FiniteGuard(("net",), max_skipped=1)
    again.load_state_dict(guard.state_dict())
    assert again.skipped_updates() == 1
    assert again.state_dict() == guard.state_dict() == {"skipped": {"net": 1}, "last": {"net": 3}}


def test_a_gradient_scaler_leaves_out_the_steps_of_its_own_optimizer_only() -> None:
    """F22: of two optimizers with a scaler each, one meets infinity; the other goes on, and only one scale falls."""
    weights = {name: nn.Parameter(torch.ones(1)) for name in ("d", "g")}
    optimizers = {name: torch.optim.SGD([weight], lr=0.5) for name, weight in weights.items()}
    scalers = {name: torch.amp.GradScaler("cpu", init_scale=8.0) for name in weights}
    guard = FiniteGuard(("d", "g"))
    guard.update("d", weights["d"].sum() * torch.inf, optimizers["d"], scalers["d"], call=1)
    guard.update("g", weights["g"].sum(), optimizers["g"], scalers["g"], call=1)
    assert (weights["d"].item(), scalers["d"].get_scale()) == (1.0, 4.0)
    assert (weights["g"].item(), scalers["g"].get_scale()) == (0.5, 8.0)
    assert guard.skipped_updates() == 0


def test_a_negative_number_is_refused() -> None:
    with pytest.raises(ValueError, match="`max_skipped` is -1"):
        FiniteGuard(("net",), max_skipped=-1)


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_statistics_that_are_no_numbers_go_back_and_others_move(bad: float) -> None:
    norms = nn.ModuleList([nn.BatchNorm1d(2), nn.BatchNorm1d(2)])
    with finite_buffers(*norms):
        norms[0](torch.tensor([[bad, 1.0], [1.0, 2.0]]))
        norms[1](torch.tensor([[3.0, 1.0], [1.0, 2.0]]))
    assert torch.equal(norms[0].running_mean, torch.zeros(2))
    assert torch.equal(norms[0].running_var, torch.ones(2))
    assert norms[1].running_mean[0] == pytest.approx(0.2)
    with finite_buffers(nn.Linear(2, 2)):  # nothing to look after
        pass


def test_the_norm_of_all_gradients_is_that_of_one_long_vector() -> None:
    first, second, third = (nn.Parameter(torch.zeros(count)) for count in (2, 1, 3))
    first.grad, second.grad = torch.tensor([2.0, 3.0]), torch.tensor([6.0])
    assert gradient_norm(torch.optim.SGD([{"params": [first, third]}, {"params": [second]}], lr=1.0)) == 7
    assert gradient_norm(torch.optim.SGD([third], lr=1.0)) == 0
    fourth = nn.Parameter(torch.zeros(1, dtype=torch.float64))
    fourth.grad = torch.tensor([24.0], dtype=torch.float64)
    assert gradient_norm(torch.optim.SGD([first, second, fourth], lr=1.0)) == 25


@pytest.mark.parametrize("name", [name for name in OPTIMIZERS if name.startswith("fused")])
def test_a_guard_that_follows_a_clock_counts_in_place_and_makes_the_same_updates(name: str) -> None:
    """As a CUDA graph needs it: nothing is decided on the host, and no counter is a new tensor."""
    found = []
    for follows in (False, True):
        torch.manual_seed(0)
        module = nn.Linear(3, 2)
        optimizer = OPTIMIZERS[name](module.parameters())
        guard, clock = FiniteGuard(("net",), max_skipped=5), torch.zeros((), dtype=torch.int64)
        if follows:
            guard.follow(clock)
        counters = [counter["net"] for counter in guard.counters()]
        for call, factor in enumerate([1.0, torch.nan, 2.0, torch.inf, 3.0], start=1):
            clock.fill_(call)
            step(guard, module, optimizer, factor, call)
        assert guard.state_dict() == {"skipped": {"net": 2}, "last": {"net": 4}}
        if follows:
            assert all(counter["net"] is kept for counter, kept in zip(guard.counters(), counters, strict=True))
            guard.load_state_dict({"skipped": {"net": 1}, "last": {"net": 9}})
            step(guard, module, optimizer, torch.nan, 0)
            assert guard.state_dict() == {"skipped": {"net": 2}, "last": {"net": 5}}
        found.append(everything(module, optimizer))
    assert all(map(torch.equal, *found))
