"""Recipes of networks that paint in one pass: their numbers, what they build, and what they refuse."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from ganblocks.training import Phase
from ganblocks.training.style_recipes import StyleTrainingRecipe, any_style, one_style


class Plain(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 3, padding=1)

    def forward(self, images: Tensor) -> Tensor:
        return self.conv(images).sigmoid()


def features(images: Tensor) -> dict[str, Tensor]:
    return {"a": images}


def test_the_numbers_of_the_papers() -> None:
    one, every = one_style(), any_style()
    assert (one.batch_size, one.learning_rate, one.relative) == (4, 1e-3, True)
    assert (every.batch_size, every.learning_rate, every.style_weight) == (8, 1e-4, 10.0)
    assert any_style(style_weight=2.0, images=8).replace(batch_size=3) == StyleTrainingRecipe(
        style_weight=2.0, images=8, batch_size=3, learning_rate=1e-4
    )


def test_the_rate_falls_in_half_a_cosine_over_the_images() -> None:
    schedule = one_style(images=100, batch_size=5).schedule()
    assert schedule.total_images == 100
    first, half = schedule.phase(0), schedule.phase(50)
    assert isinstance(first, Phase)
    assert (first.batch_size, first.learning_rate) == (5, 1e-3)
    assert half.learning_rate == pytest.approx(5e-4)


def test_both_steps_have_the_weights_and_a_fused_adam() -> None:
    recipe = one_style(style_weight=3.0, content_weight=2.0)
    transform = recipe.build_transform_step(
        Plain(), features, torch.rand(1, 3, 8, 8), content_layers=["a"], style_layers=["a"]
    )
    decoder = recipe.build_decoder_step(Plain(), features, ["a"])
    assert (transform.weights.style_weight, transform.weights.content_weight, decoder.style_weight) == (3.0, 2.0, 3.0)
    for step in (transform, decoder):
        assert isinstance(step.optimizer, torch.optim.Adam)
        assert step.optimizer.defaults["fused"]
        assert step.optimizer.defaults["lr"] == 1e-3


@pytest.mark.parametrize(
    ("options", "named"),
    [({"images": 0}, "images"), ({"batch_size": 0}, "batch_size"), ({"learning_rate": 0.0}, "learning_rate"),
     ({"style_weight": -1.0}, "style_weight")],
)  # fmt: skip
def test_numbers_out_of_range_are_refused(options: dict[str, Any], named: str) -> None:
    with pytest.raises(ValueError, match=named):
        StyleTrainingRecipe(**options)
