"""Recipes of classifiers over a backbone: their numbers, equal updates, and a backbone at rest while a head learns."""

import copy

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from ganblocks.models.backbone_classifier import BackboneClassifier, BackboneClassifierConfig
from ganblocks.training import Phase, StepContext, predict_logits
from ganblocks.training.backbone_recipes import BackboneRecipe, backbone_document
from ganblocks.training.schedule import Schedule

CONFIG = BackboneClassifierConfig.document(backbone="mobilenet_v3_small", hidden_dim=6)


def batch(seed: int, count: int = 4) -> tuple[Tensor, Tensor]:
    rng = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (count, 3, 32, 32), generator=rng, dtype=torch.uint8), torch.arange(
        count
    ) // 3  # unequal classes


def classifier() -> BackboneClassifier:
    torch.manual_seed(0)
    return BackboneClassifier(CONFIG)


def batches(schedule: Schedule) -> list[int]:
    sizes: list[int] = []
    while (seen := sum(sizes)) < schedule.total_images:
        sizes.append(schedule.phase(seen).batch_size)
    return sizes


def test_the_document_is_adamax_with_the_numbers_of_keras() -> None:
    recipe = backbone_document()
    step = recipe.build_step(classifier())
    (group,) = step.optimizer.param_groups
    assert type(step.optimizer) is torch.optim.Adamax
    assert (group["lr"], group["eps"], group["betas"]) == (1e-3, 1e-7, (0.9, 0.999))
    assert (recipe.epochs, recipe.batch_size, step.penalty, step.label_smoothing) == (30, 8, True, 0.0)
    assert len(batches(recipe.schedule(202))) == 780
    assert len(batches(recipe.schedule(375))) == 1410
    assert batches(recipe.schedule(202))[:26] == [8] * 25 + [2]


def test_numbers_reach_the_step() -> None:
    recipe = backbone_document(optimizer="adam", learning_rate=0.5, betas=(0.8, 0.9), eps=1e-6, penalty=False)
    step = recipe.replace(label_smoothing=0.1).build_step(nn.Linear(2, 2))
    (group,) = step.optimizer.param_groups
    assert type(step.optimizer) is torch.optim.Adam
    assert (group["lr"], group["eps"], group["betas"], group["fused"]) == (0.5, 1e-6, (0.8, 0.9), True)
    assert (step.penalty, step.label_smoothing) == (False, 0.1)


@given(images=st.integers(1, 60), size=st.integers(1, 9), updates=st.integers(1, 40))
def test_two_data_sets_of_any_size_get_equal_updates(images: int, size: int, updates: int) -> None:
    recipe = BackboneRecipe(batch_size=size, epochs=2)
    assert len(batches(recipe.schedule(images, updates=updates))) == updates
    assert len(batches(recipe.schedule(images))) == 2 * recipe.updates_per_epoch(images)
    assert sum(batches(recipe.schedule(images))) == 2 * images


def test_a_frozen_backbone_does_not_move_by_a_bit_while_the_head_learns() -> None:
    model = classifier()
    model.freeze_backbone()
    step = backbone_document().build_step(model)
    assert sum(len(group["params"]) for group in step.optimizer.param_groups) == 6
    before = copy.deepcopy(model.state_dict())
    for index in range(3):
        step(*batch(index), StepContext(0, 4 * index, Phase(4, 1e-3)))
        predict_logits(model, batch(9)[0])
    after = copy.deepcopy(model.state_dict())
    moved = {name for name in before if not torch.equal(before[name], after[name])}
    norm = {f"norm.{name}" for name in ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")}
    assert moved == norm | {"dense.weight", "dense.bias", "head.weight", "head.bias"}
    model.unfreeze_backbone()
    backbone_document().build_step(model)(*batch(3), StepContext(0, 12, Phase(4, 1e-3)))
    last = model.state_dict()
    assert not torch.equal(last["backbone.features.0.1.running_mean"], after["backbone.features.0.1.running_mean"])
    assert not torch.equal(last["backbone.features.0.0.weight"], before["backbone.features.0.0.weight"])


@pytest.mark.parametrize(("field", "value"), [("epochs", 0), ("optimizer", "sgd")])
def test_numbers_out_of_range_are_named(field: str, value: object) -> None:
    with pytest.raises(ValueError, match=f"`{field}` is {value!r}"):
        backbone_document(**{field: value})
    with pytest.raises(ValueError, match="`updates` is 0"):
        backbone_document().schedule(10, updates=0)
