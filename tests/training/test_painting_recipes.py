"""Recipes of classifiers of paintings: their numbers, groups with rates of their own, equal updates, ends that act."""

from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from ganblocks.data import TensorBatches
from ganblocks.training import (
    EarlyStopping,
    KerasRMSprop,
    Phase,
    ReduceOnPlateau,
    Schedule,
    StepContext,
    Trainer,
    Validation,
)
from ganblocks.training.painting_recipes import PaintingRecipe, document_cnn, document_comparison, library
from tolerances import for_dtype


class Network(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.backbone = nn.Linear(4, 3)
        self.head = nn.Linear(3, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.backbone(x.flatten(1)))


def batches(schedule: Schedule) -> list[int]:
    sizes: list[int] = []
    while (seen := sum(sizes)) < schedule.total_images:
        sizes.append(schedule.phase(seen).batch_size)
    return sizes


def test_the_document_of_the_cnn_is_kerass_rmsprop() -> None:
    recipe = document_cnn()
    step = recipe.build_step(Network())
    (group,) = step.optimizer.param_groups
    assert type(step.optimizer) is KerasRMSprop
    assert (group["lr"], group["momentum"], group["rho"], group["eps"]) == (1e-3, 0.1, 0.9, 1e-7)
    assert (recipe.epochs, recipe.callbacks(), step.label_smoothing) == (20, [], 0.0)
    assert batches(recipe.schedule(70)) == [32, 32, 6] * 20
    assert {recipe.schedule(70).phase(seen).learning_rate for seen in (0, 700, 1399)} == {1e-3}


def test_the_document_of_the_comparison_ends_and_slows_down_by_the_validation_loss() -> None:
    recipe = document_comparison()
    step = recipe.build_step(Network())
    plateau, stop = recipe.callbacks()
    assert type(step.optimizer) is torch.optim.Adam
    assert step.optimizer.param_groups[0]["eps"] == 1e-7
    assert isinstance(plateau, ReduceOnPlateau)
    assert isinstance(stop, EarlyStopping)
    assert (recipe.epochs, stop.key, stop.patience) == (100, "val_loss", 5)
    assert (plateau.key, plateau.factor, plateau.patience) == ("val_loss", 0.2, 3)


def test_numbers_of_the_librarys_own_reach_the_step() -> None:
    recipe = library(betas=(0.8, 0.9), weight_decay=0.25, eps=1e-6)
    weights = torch.tensor([1.0, 2.0])
    step = recipe.build_step(Network(), class_weights=weights)
    (group,) = step.optimizer.param_groups
    assert type(step.optimizer) is torch.optim.AdamW
    assert (group["betas"], group["weight_decay"], group["eps"]) == ((0.8, 0.9), 0.25, 1e-6)
    assert step.label_smoothing == recipe.label_smoothing > 0
    assert step.class_weights is not None
    assert step.class_weights.tolist() == weights.tolist()
    schedule = recipe.schedule(100)
    rates = [schedule.phase(seen).learning_rate for seen in (0, schedule.total_images // 10, schedule.total_images - 1)]
    assert rates[0] < rates[1] == recipe.learning_rate
    assert rates[2] < 1e-3 * recipe.learning_rate


def test_a_backbone_moves_by_its_own_factor() -> None:
    """The first step of Adam is the rate times the gradient's sign, far above eps."""
    model = Network()
    before = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    step = document_comparison(backbone_factor=0.125, eps=1e-12).build_step(model)
    x = torch.randn(8, 1, 2, 2, generator=torch.Generator().manual_seed(0))
    step(x, torch.arange(8) % 2, StepContext(0, 0, Phase(8, 0.5)))
    for name, parameter in model.named_parameters():
        expected = torch.full_like(parameter, 0.0625 if name.startswith("backbone") else 0.5)
        moved = (parameter.detach() - before[name]).abs()
        torch.testing.assert_close(moved, expected, **for_dtype(torch.float32))
    assert [group.get("lr_factor") for group in step.optimizer.param_groups] == [None, 0.125]


def test_a_frozen_backbone_is_in_no_group() -> None:
    model = Network()
    model.backbone.requires_grad_(False)
    (group,) = document_comparison(backbone_factor=0.1).build_step(model).optimizer.param_groups
    assert [id(parameter) for parameter in group["params"]] == [id(p) for p in model.head.parameters()]
    with pytest.raises(ValueError, match=r"`backbone_factor` is 0.1, but must be 1 for Linear"):
        document_comparison(backbone_factor=0.1).build_step(nn.Linear(2, 2))


@given(images=st.integers(1, 60), size=st.integers(1, 9), updates=st.integers(1, 40))
def test_all_recipes_make_equally_many_full_updates(images: int, size: int, updates: int) -> None:
    for recipe in (library(batch_size=size), document_cnn(batch_size=size)):
        assert batches(recipe.schedule(images, updates=updates)) == [size] * updates
    assert sum(batches(document_cnn(batch_size=size).schedule(images))) == 20 * images


def test_a_loss_that_only_rises_ends_the_run_after_a_slower_rate(tmp_path: Path) -> None:
    images, labels = torch.zeros(6, 1, 2, 2), torch.arange(6) % 2
    recipe = document_comparison(batch_size=3)
    losses = iter(range(1, 100))
    trainer = Trainer(
        recipe.build_step(Network()),
        TensorBatches(images, labels),
        recipe.schedule(6),
        run_dir=tmp_path,
        callbacks=[Validation(lambda _: {"val_loss": float(next(losses))}, 6), *recipe.callbacks()],
        log_images=3,
        save_images=1000,
    )
    assert trainer.fit().finished
    assert trainer.images_seen == 6 * (1 + 5)
    assert trainer.learning_rate_scale == pytest.approx(0.2)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("epochs", 0),
        ("batch_size", 0),
        ("optimizer", "sgd"),
        ("schedule_form", "step"),
        ("backbone_factor", 0.0),
        ("warmup", 1.0),
        ("early_stopping", 0),
        ("plateau", 0),
        ("plateau_factor", 1.0),
        ("weight_decay", -1.0),
    ],
)
def test_numbers_out_of_range_are_named(field: str, value: object) -> None:
    with pytest.raises(ValueError, match=f"`{field}` is {value!r}"):
        PaintingRecipe(**{field: value})  # type: ignore[arg-type]


def test_what_a_recipe_refuses_elsewhere() -> None:
    with pytest.raises(ValueError, match=r"`weight_decay` is 0.1, but must be 0 for RMSprop"):
        document_cnn(weight_decay=0.1)
    with pytest.raises(ValueError, match="`updates` is 0"):
        library().schedule(10, updates=0)
    assert document_cnn().replace(epochs=3).epochs == 3
