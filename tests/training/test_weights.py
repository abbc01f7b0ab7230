"""Weights load across wrappers, in any nesting, and never half."""

import itertools
from collections.abc import Callable

import pytest
import torch
from torch import nn

from ganblocks.errors import CheckpointError
from ganblocks.training import load_weights, plain_weights
from ganblocks.training.weights import plain_name


class Parallel(nn.Module):
    """Keeps a network as `module`, as DataParallel and DistributedDataParallel do, without needing processes."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module


def net(width: int = 3, seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Conv2d(3, width, 3), nn.BatchNorm2d(width))


def compiled_inside(module: nn.Module) -> nn.Module:
    module[0] = torch.compile(module[0])
    return module


WRAPPERS: dict[str, Callable[[nn.Module], nn.Module]] = {
    "plain": lambda module: module,
    "parallel": Parallel,
    "DataParallel": nn.DataParallel,
    "compiled": torch.compile,
    "compiled inside": compiled_inside,
    "parallel, compiled": lambda module: Parallel(torch.compile(module)),
    "compiled, parallel": lambda module: torch.compile(Parallel(module)),
    "parallel twice": lambda module: Parallel(Parallel(module)),
}


@pytest.mark.parametrize(("saved", "loaded"), list(itertools.product(WRAPPERS, WRAPPERS)))
def test_every_nesting_loads_into_every_other(saved: str, loaded: str) -> None:
    source, target = WRAPPERS[saved](net(seed=1)), WRAPPERS[loaded](net(seed=2))
    assert plain_weights(source).keys() == net().state_dict().keys()
    assert load_weights(target, plain_weights(source)) == []
    assert all(map(torch.equal, plain_weights(target).values(), plain_weights(net(seed=1)).values()))
    target = WRAPPERS[loaded](net(seed=2))
    load_weights(target, source.state_dict())  # a file of another maker, prefixes and all
    assert all(map(torch.equal, plain_weights(target).values(), plain_weights(net(seed=1)).values()))


@pytest.mark.parametrize(
    ("name", "plain"),
    [
        ("module.a.weight", "a.weight"),
        ("module.module._orig_mod.a", "a"),
        ("net._orig_mod.a", "net.a"),
        ("net.module.a", "net.module.a"),  # an attribute of that name is nobody's prefix
        ("module", "module"),
    ],
)
def test_names(name: str, plain: str) -> None:
    assert plain_name(name) == plain


def test_what_does_not_fit_is_listed_and_nothing_is_loaded() -> None:
    target = net(width=4)
    before = {name: value.clone() for name, value in target.state_dict().items()}
    weights = plain_weights(net(width=3))
    del weights["1.running_mean"]
    weights["head.weight"] = torch.zeros(1)
    with pytest.raises(CheckpointError) as told:
        load_weights(target, weights)
    message = str(told.value)
    assert "do not fit this Sequential" in message
    assert "0.weight (3, 3, 3, 3) for (4, 3, 3, 3)" in message
    assert "missing: 1.running_mean" in message
    assert "unexpected: head.weight" in message
    assert all(torch.equal(before[name], value) for name, value in target.state_dict().items())


def test_long_lists_are_cut() -> None:
    with pytest.raises(CheckpointError, match=r"missing: .* and 2 more"):
        load_weights(net(), {})


def test_not_strict_loads_what_is_on_both_sides_and_names_the_rest() -> None:
    target, weights = net(seed=2), plain_weights(net(seed=1))
    del weights["1.bias"]
    weights["head.weight"] = torch.zeros(1)
    assert load_weights(target, weights, strict=False) == ["1.bias", "head.weight"]
    assert torch.equal(target[0].weight, weights["0.weight"])


def test_other_shapes_are_never_passed_over() -> None:
    with pytest.raises(CheckpointError, match="another shape"):
        load_weights(net(width=4), plain_weights(net(width=3)), strict=False)


def test_assigned_tensors_become_the_module_s_own_also_on_no_device_at_all() -> None:
    weights = plain_weights(net(seed=1).double())
    with torch.device("meta"):
        target = net()
    assert load_weights(target, {f"module.{name}": value for name, value in weights.items()}, assign=True) == []
    assert all(value.data_ptr() == weights[name].data_ptr() for name, value in target.state_dict().items())
    assert target[0].weight.dtype == torch.float64
    copied = net()
    load_weights(copied, weights)
    assert copied[0].weight.dtype == torch.float32
    assert copied[0].weight.data_ptr() != weights["0.weight"].data_ptr()


def test_what_does_not_fit_is_not_assigned_either() -> None:
    with torch.device("meta"):
        target = net(width=4)
    with pytest.raises(CheckpointError, match=r"0\.weight \(3, 3, 3, 3\) for \(4, 3, 3, 3\)"):
        load_weights(target, plain_weights(net(width=3)), assign=True)
    assert all(value.is_meta for value in target.state_dict().values())


def test_names_that_would_fall_together_are_refused() -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.module = nn.Linear(1, 1)
            self.weight = nn.Parameter(torch.zeros(1))

    with pytest.raises(CheckpointError, match="differ only by a wrapper's prefix"):
        plain_weights(Twice())
