"""Summaries: totals counted by hand, shapes as they come out, and a network that is left as it was."""

import re

import pytest
import torch
from torch import nn

from ganblocks.visualization.summary import model_summary


def rows(summary):
    """[(layer, shape, parameters, note)] and {total: number}."""
    _, _, _, _, *lines = summary.splitlines()
    rule = next(index for index, line in enumerate(lines) if set(line) == {"-"})
    table = [re.match(r"(.*?)  +(\[.*\]|not reached|-)  +([\d,]+) *(.*)$", line).groups() for line in lines[:rule]]
    totals = [re.match(r" *(.*?)  +([\d,]+)$", line).groups() for line in lines[rule + 1 :]]
    number = {name: int(count.replace(",", "")) for name, count in totals}
    return [(layer, shape, int(count.replace(",", "")), note) for layer, shape, count, note in table], number


def test_a_dense_autoencoder_is_listed_to_the_last_parameter():
    network = nn.Sequential(nn.Flatten(), nn.Linear(784, 64), nn.ReLU(), nn.Linear(64, 784), nn.Sigmoid())
    summary = model_summary(network, (1, 28, 28))
    table, totals = rows(summary)
    assert table == [
        ("0 (Flatten)", "[N, 784]", 0, ""),
        ("1 (Linear)", "[N, 64]", 50_240, ""),
        ("2 (ReLU)", "[N, 64]", 0, ""),
        ("3 (Linear)", "[N, 784]", 50_960, ""),
        ("4 (Sigmoid)", "[N, 784]", 0, ""),
    ]
    assert totals == {"Parameters": 101_200, "trained": 101_200, "not trained": 0}
    assert summary.splitlines()[0] == "Sequential"
    assert len({len(line) for line in summary.splitlines() if set(line) == {"-"}}) == 1


def test_running_statistics_count_as_keras_counts_them():
    network = nn.Sequential(nn.Conv2d(1, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8), nn.MaxPool2d(2))
    for parameter in network[0].parameters():
        parameter.requires_grad_(False)
    table, totals = rows(model_summary(network, (1, 6, 6)))
    assert [row[1] for row in table] == ["[N, 8, 6, 6]", "[N, 8, 6, 6]", "[N, 8, 3, 3]"]
    assert totals == {
        "Parameters": 72 + 16,
        "trained": 16,
        "not trained": 72,
        "Running statistics": 16,
        "Total as Keras counts": 104,
    }


class Odd(nn.Module):
    """A layer called twice, tied weights, a parameter of its own, a layer never called, two inputs, several outputs."""

    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.ones(5))
        self.layer = nn.Linear(4, 4)
        self.tied = nn.Linear(4, 4, bias=False)
        self.tied.weight = self.layer.weight
        self.unused = nn.Linear(3, 1)
        self.pair = Pair()

    def forward(self, x, y):
        x = self.tied(self.layer(self.layer(x + y)))
        self.pair(x)
        return {"x": x, "none": None}


class Pair(nn.Module):
    def forward(self, x):
        return x, x.sum(1), 3


def test_shared_unused_and_own_parameters_are_told():
    table, totals = rows(model_summary(Odd(), [(4,), (1,)]))
    assert table == [
        ("layer (Linear)", "[N, 4]", 20, ""),
        ("layer (Linear)", "[N, 4]", 0, "shared"),
        ("tied (Linear)", "[N, 4]", 0, "shared"),
        ("pair (Pair)", "[N, 4], [N]", 0, ""),
        ("self (Odd)", "[N, 4]", 5, ""),
        ("unused (Linear)", "not reached", 4, ""),
    ]
    assert totals["Parameters"] == sum(row[2] for row in table) == 29


class Disturbed(nn.Module):
    def __init__(self, fails=False):
        super().__init__()
        self.norm, self.dropout, self.fails = nn.BatchNorm1d(3), nn.Dropout(0.5), fails

    def forward(self, x):
        assert not self.training
        assert not torch.is_grad_enabled()
        y = self.dropout(self.norm(x)) + torch.randn_like(x)
        if self.fails:
            raise RuntimeError("on purpose")
        return y


@pytest.mark.parametrize("fails", [False, True])
def test_the_network_and_the_random_state_are_left_as_they_were(fails):
    network = Disturbed(fails)
    network.dropout.eval()
    state = {name: value.clone() for name, value in network.state_dict().items()}
    before = torch.get_rng_state()
    if fails:
        with pytest.raises(RuntimeError, match="on purpose"):
            model_summary(network, (3,))
    else:
        model_summary(network, (3,))
    assert torch.equal(torch.get_rng_state(), before)
    assert (network.training, network.norm.training, network.dropout.training) == (True, True, False)
    assert all(torch.equal(value, state[name]) for name, value in network.state_dict().items())
    assert not any(module._forward_hooks for module in network.modules())


def test_inputs_are_of_the_type_of_the_parameters_or_as_told():
    model_summary(nn.Linear(3, 2).double(), (3,))
    assert "[N, 7, 5]" in model_summary(nn.Embedding(4, 5), (7,), dtype=torch.long)


def test_a_single_layer_and_one_without_parameters_are_networks():
    assert rows(model_summary(nn.Linear(3, 2), (3,)))[0] == [("self (Linear)", "[N, 2]", 8, "")]
    assert rows(model_summary(nn.ReLU(), (3,)))[1] == {"Parameters": 0, "trained": 0, "not trained": 0}


def test_mistakes_are_named():
    with pytest.raises(ValueError, match="`input_shape`"):
        model_summary(nn.Linear(3, 2), (0,))
    with pytest.raises(ValueError, match="`input_shape`"):
        model_summary(nn.Linear(3, 2), [(3,), (2.5,)])
    with pytest.raises(ValueError, match="lazy"):
        model_summary(nn.LazyLinear(3), (3,))
