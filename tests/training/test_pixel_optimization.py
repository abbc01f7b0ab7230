"""Pixels that are changed until their features fit: losses written out, what falls, what stays, and every refusal."""

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ganblocks.errors import NonFiniteError
from ganblocks.models.feature_maps import VGG19Features
from ganblocks.training.pixel_optimization import StyleRecipe, StyleStep, document, stylize
from ganblocks.training.precision import Precision
from tolerances import for_dtype

LAYERS: dict[str, Any] = {"content_layers": ["b"], "style_layers": ["a", "b"]}
PLAIN = StyleRecipe(relative=False, scales=(1.0,), steps=3)


class Small(nn.Module):
    """Two layers of maps, smooth, so that plain Adam beside ours meets no kink."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first, self.second = nn.Conv2d(3, 5, 3, padding=1), nn.Conv2d(5, 4, 3, padding=1)
        self.requires_grad_(False)

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        a = F.softplus(self.first(images))
        return {"a": a, "b": F.softplus(self.second(a))}


def pictures(side: int = 16) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    ramp = torch.linspace(0, 1, side).expand(1, 3, side, side).clone()
    return ramp, torch.rand(1, 3, side, side, generator=generator)


def gram(maps: Tensor) -> Tensor:
    return torch.einsum("nchw,ndhw->ncd", maps, maps) / (maps.shape[2] * maps.shape[3])


@pytest.mark.parametrize("relative", [False, True])
def test_a_run_written_out_in_plain_pytorch(relative: bool) -> None:
    content, style = pictures()
    network = Small()
    recipe = PLAIN.replace(relative=relative, content_weight=2.0, style_weight=3.0, variation_weight=0.01, eps=0.1)
    found = stylize(content, style, network, recipe=recipe, **LAYERS)

    pixels = content.clone().requires_grad_()
    adam = torch.optim.Adam([pixels], lr=0.02, eps=0.1)  # so large that no gradient near 0 counts by its sign alone
    want, look = network(content)["b"], {name: gram(maps) for name, maps in network(style).items()}
    for step in range(3):
        maps = network(pixels)
        scale = want.square().mean() if relative else 1.0
        of_content = (maps["b"] - want).square().mean() / scale
        parts = [
            (gram(maps[name]) - look[name]).square().mean() / (look[name].square().mean() if relative else 1.0)
            for name in "ab"
        ]
        of_style = sum(parts) / 2
        rough = (pixels[..., 1:] - pixels[..., :-1]).abs().sum() + (
            pixels[..., 1:, :] - pixels[..., :-1, :]
        ).abs().sum()
        rough = rough / pixels.numel() if relative else rough
        loss = 2 * of_content + 3 * of_style + 0.01 * rough
        adam.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call, union-attr, unused-ignore]
        adam.step()
        with torch.no_grad():
            pixels.clamp_(0, 1)
        record = found.history[step]
        assert record["loss"] == pytest.approx(float(loss.detach()), rel=1e-5)  # type: ignore[union-attr, unused-ignore]
        assert record["variation"] == pytest.approx(float(rough.detach()), rel=1e-5)
        assert record["content"] == pytest.approx(float(of_content.detach()), rel=1e-3, abs=1e-9)
    torch.testing.assert_close(found.image, pixels.detach(), **for_dtype(torch.float32))


@pytest.mark.parametrize("optimizer", ["adam", "lbfgs"])
@pytest.mark.parametrize("start", ["content", "noise", "style"])
def test_the_loss_falls_at_each_scale_and_pixels_stay_in_range(optimizer: str, start: str) -> None:
    content, style = pictures()
    recipe = StyleRecipe(steps=12, scales=(0.5, 1.0), optimizer=optimizer, start=start)  # type: ignore[arg-type]
    found = stylize(content, style, Small(), recipe=recipe, **LAYERS)
    for scale in (0, 1):
        losses = [record["loss"] for record in found.history if record["scale"] == scale]
        assert len(losses) == 12
        assert losses[-1] < losses[0]
    assert found.image.shape == content.shape
    assert float(found.image.min()) >= 0
    assert float(found.image.max()) <= 1


def test_a_term_for_the_variation_makes_the_result_smoother() -> None:
    content, style = pictures()
    rough, smooth = (
        stylize(content, style, Small(), recipe=StyleRecipe(steps=25, variation_weight=weight), **LAYERS)
        for weight in (0.0, 3.0)
    )
    assert smooth.history[-1]["variation"] < 0.8 * rough.history[-1]["variation"]


def test_equal_seeds_give_equal_pictures_and_others_do_not() -> None:
    content, style = pictures()
    recipe = StyleRecipe(steps=3, start="noise")
    a, b, c = (stylize(content, style, Small(), recipe=recipe, seed=seed, **LAYERS).image for seed in (0, 0, 1))
    assert torch.equal(a, b)
    assert not torch.equal(a, c)


def test_what_the_mask_leaves_out_does_not_move_by_a_bit() -> None:
    content, style = pictures()
    mask = torch.zeros(1, 1, 16, 16)
    mask[..., 8:] = 1
    found = stylize(content, style, Small(), recipe=StyleRecipe(steps=5), mask=mask, **LAYERS).image
    assert torch.equal(found[..., :8], content[..., :8])
    assert not torch.equal(found[..., 8:], content[..., 8:])


def test_colours_of_the_content_may_stay() -> None:
    content, style = pictures()
    content = content * torch.tensor([0.6, 0.3, 0.1])[:, None, None] + 0.1
    free, matched, luminance = (
        stylize(content, style, Small(), recipe=StyleRecipe(steps=10, color=color), **LAYERS).image  # type: ignore[arg-type]
        for color in ("free", "matched", "luminance")
    )
    delta = luminance - content  # nothing was clamped here: the same for all three channels
    inside = ((luminance > 0) & (luminance < 1)).all(1, keepdim=True).expand_as(delta)
    spread = (delta - delta.mean(1, keepdim=True))[inside].abs().max()
    assert float(spread) < 1e-5

    def off(image: Tensor) -> float:
        return float((image.mean((2, 3)) - content.mean((2, 3))).abs().sum())

    assert off(matched) < off(free)


def test_every_step_is_told_with_its_picture() -> None:
    seen: list[StyleStep] = []
    content, style = pictures()
    recipe = StyleRecipe(steps=2, scales=(0.5, 1.0))
    found = stylize(content, style, Small(), recipe=recipe, on_step=seen.append, **LAYERS)
    assert [(step.step, step.steps, step.scale) for step in seen] == [(1, 4, 0), (2, 4, 0), (3, 4, 1), (4, 4, 1)]
    assert [tuple(step.image.shape) for step in seen] == [(1, 3, 8, 8)] * 2 + [(1, 3, 16, 16)] * 2
    assert torch.equal(seen[-1].image, found.image)
    assert seen[1].losses.keys() == {"loss", "content", "style", "variation"}


def test_a_style_of_another_size_and_low_precision() -> None:
    content, _ = pictures()
    style = torch.rand(1, 3, 40, 23, generator=torch.Generator().manual_seed(2))
    network = VGG19Features(["block1_conv2", "block2_conv1"], generator=torch.Generator().manual_seed(0))
    found = stylize(
        content, style, network, content_layers=["block2_conv1"], style_layers=["block1_conv2"],
        recipe=StyleRecipe(steps=6), precision=Precision("bf16", torch.device("cpu")),
    )  # fmt: skip
    assert found.image.dtype == torch.float32
    losses = [record["loss"] for record in found.history if record["scale"] == 1]
    assert losses[-1] < losses[0]


def test_the_document_s_recipe() -> None:
    recipe = document()
    assert (recipe.content_weight, recipe.style_weight, recipe.variation_weight) == (1e4, 1e-2, 30)
    assert (recipe.learning_rate, recipe.betas, recipe.eps, recipe.steps) == (0.02, (0.99, 0.999), 0.1, 1000)
    assert document(steps=3).steps == 3


def test_losses_that_are_no_numbers_end_the_run() -> None:
    class Broken(Small):
        def forward(self, images: Tensor) -> dict[str, Tensor]:
            maps = super().forward(images)
            return {**maps, "a": maps["a"] * (math.inf if images.requires_grad else 1.0)}

    with pytest.raises(NonFiniteError, match="step 1 of scale 1"):
        stylize(*pictures(), Broken(), recipe=PLAIN, **LAYERS)


def test_what_does_not_fit_is_told() -> None:
    content, style = pictures()
    network = Small()
    with pytest.raises(ValueError, match="content"):
        stylize(content[0], style, network, **LAYERS)
    with pytest.raises(ValueError, match="style"):
        stylize(content, style[:, :1], network, **LAYERS)
    with pytest.raises(ValueError, match="from 0 to 1"):
        stylize(content, 2 * style, network, **LAYERS)
    with pytest.raises(TypeError, match="content"):
        stylize((255 * content).byte(), style, network, **LAYERS)
    with pytest.raises(ValueError, match="mask"):
        stylize(content, style, network, mask=torch.ones(1, 1, 8, 8), **LAYERS)
    with pytest.raises(ValueError, match="style_layers"):
        stylize(content, style, network, content_layers=["a"], style_layers=["c"])
    with pytest.raises(ValueError, match="content_layers"):
        stylize(content, style, network, content_layers=[], style_layers=["a"])
    with pytest.raises(ValueError, match="images of 1 channels"):
        stylize(content[:, :1], style[:, :1], network, recipe=StyleRecipe(color="luminance"), **LAYERS)
    for changes in (
        {"steps": 0}, {"scales": ()}, {"scales": (1.0, 0.5)}, {"scales": (0.5,)}, {"style_weight": -1.0},
        {"content_weight": math.nan}, {"start": "white"}, {"optimizer": "sgd"}, {"color": "grey"},
        {"variation": "round"}, {"learning_rate": 0.0},
    ):  # fmt: skip
        with pytest.raises(ValueError, match=next(iter(changes))):
            StyleRecipe(**changes)  # type: ignore[arg-type]
