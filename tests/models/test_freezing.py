"""Freezing up to a stage: what is before it rests, what is behind it learns, whatever mode is asked for."""

import copy

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from ganblocks.models.freezing import FreezableBackbone, document_stage


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(2, 2, 1)
        self.norm = nn.BatchNorm2d(2)
        self.scale = nn.Parameter(torch.ones(()))

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(self.conv(x)) * self.scale


class Network(FreezableBackbone):
    """Two stages of two blocks each, and a norm behind them."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        stages = {name: nn.Sequential(Block(), Block()) for name in ("first", "second")}
        self.backbone = nn.Sequential()
        for name, stage in stages.items():
            self.backbone.add_module(name, stage)
        self.backbone.add_module("last", nn.BatchNorm2d(2))
        self.head = nn.Linear(2, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.backbone(x).mean((2, 3)))


BLOCKS = ["first.0", "first.1", "second.0", "second.1"]


@given(count=st.integers(1, 4), mode=st.booleans())
def test_what_comes_before_the_end_of_a_stage_rests_and_no_more(count: int, mode: bool) -> None:
    model = Network().train(mode).freeze_through(BLOCKS[count - 1])
    for number, name in enumerate(BLOCKS):
        block = model.backbone.get_submodule(name)
        assert all(parameter.requires_grad is (number >= count) for parameter in block.parameters())
        assert {module.training for module in block.modules()} == {mode and number >= count}
    assert model.backbone.get_submodule("last").training is mode
    assert all(parameter.requires_grad for parameter in model.head.parameters())


def test_a_stage_stands_for_all_its_parts() -> None:
    whole, parts = Network().freeze_through("first"), Network().freeze_through("first.1.norm")
    frozen = [{name for name, p in model.named_parameters() if not p.requires_grad} for model in (whole, parts)]
    assert frozen[0] == frozen[1]  # its own `scale` is no module
    assert whole.backbone.get_submodule("first").training is False
    assert parts.frozen_through == "first.1.norm"


def test_a_frozen_part_does_not_move_by_a_bit_while_the_rest_learns() -> None:
    model = Network().freeze_through("second.0").train()
    before = copy.deepcopy(model.state_dict())
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.1)
    for _ in range(2):
        optimizer.zero_grad()
        model(torch.randn(4, 2, 3, 3)).square().sum().backward()
        optimizer.step()
        model.eval().train()
    moved = {name for name, tensor in model.state_dict().items() if not torch.equal(tensor, before[name])}
    rests = ("backbone.first", "backbone.second.0")
    assert not {name for name in moved if name.startswith(rests)}
    assert {"backbone.second.1.norm.running_mean", "backbone.last.running_var", "head.weight"} <= moved


def test_freezing_less_or_nothing_forgets_what_was_frozen() -> None:
    model = Network().freeze_through("second").freeze_through("first.0")
    assert model.backbone.get_submodule("first.1").training
    assert all(p.requires_grad for p in model.backbone.get_submodule("second").parameters())
    model.freeze_through(None)
    assert model.frozen_through is None
    assert all(parameter.requires_grad for parameter in model.parameters())
    assert all(module.training for module in model.modules())


def test_an_unknown_stage_is_told_with_the_known_ones_and_nothing_is_frozen() -> None:
    model = Network()
    for stage in ("third", "", "first.2"):
        with pytest.raises(ValueError, match=f"`stage` is '{stage}', .* first, second, last"):
            model.freeze_through(stage)
    assert model.frozen_through is None
    assert all(parameter.requires_grad for parameter in model.parameters())
    assert model.stages()[:3] == ("first", "first.0", "first.0.conv")


@pytest.mark.parametrize(
    ("layers", "name", "keras"),
    [
        (275, "mixed_6a", "mixed_6a"),
        (594, "mixed_6a", "mixed_6a"),
        (595, "repeat_1", "block17_20"),
        (600, "repeat_1", "block17_20"),
        (618, "mixed_7a", "mixed_7a"),
        (700, "repeat_2.4", "block8_5"),
        (778, "conv2d_7b", "conv_7b"),
        (780, "conv2d_7b", "conv_7b"),
    ],
)
def test_the_documents_numbers_of_layers_are_whole_stages(layers: int, name: str, keras: str) -> None:
    stage = document_stage(layers)
    assert (stage.name, stage.keras_name) == (name, keras)
    assert stage.last_index < layers


@pytest.mark.parametrize("layers", [-1, 0, 274, 781])
def test_numbers_outside_the_table_are_refused(layers: int) -> None:
    with pytest.raises(ValueError, match=f"`layers` is {layers}, but must be 275 to 780"):
        document_stage(layers)
