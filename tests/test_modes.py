"""Evaluation mode holds inside, and every layer has its own mode afterwards, whatever happens."""

import pytest
from torch import nn

from ganblocks._modes import evaluation_mode


def networks() -> list[nn.Sequential]:
    """Nested, mixed in their modes, and sharing a layer."""
    shared = nn.Dropout()
    first = nn.Sequential(nn.Dropout().eval(), nn.Sequential(nn.Dropout(), shared))
    second = nn.Sequential(shared, nn.Dropout()).eval()
    second[1].train()
    return [first, second, nn.Sequential(nn.Dropout()).eval()]


def test_all_layers_are_in_evaluation_mode_and_get_their_own_modes_back_even_after_an_exception() -> None:
    several = networks()
    layers = [layer for network in several for layer in network.modules()]
    before = [layer.training for layer in layers]
    assert len(set(before)) == 2

    def fail() -> None:
        with evaluation_mode(*several):
            assert not any(layer.training for layer in layers)
            raise RuntimeError("stop")

    with pytest.raises(RuntimeError, match="stop"):
        fail()
    assert [layer.training for layer in layers] == before
    with evaluation_mode(several[0]):
        assert several[1][1].training
    with evaluation_mode():
        assert [layer.training for layer in layers] == before


def test_modules_that_do_more_than_set_a_flag_are_told() -> None:
    class Counting(nn.Module):
        asked = ""

        def train(self, mode: bool = True) -> "Counting":
            self.asked = self.asked + str(mode)[0]
            return super().train(mode)

    network = Counting()
    with evaluation_mode(network):
        assert network.asked == "F"
    assert network.asked == "FT"
    network.eval()
    with evaluation_mode(network):
        pass
    assert network.asked == "FTF"
