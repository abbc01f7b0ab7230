"""Updates of networks that paint in one pass: losses written out, what is learnt, what stays, and every refusal."""

import dataclasses
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ganblocks.data import TensorBatches
from ganblocks.functional.adaptive_norm import adaptive_instance_norm
from ganblocks.functional.gram import gram_matrix
from ganblocks.functional.image_range import intensities
from ganblocks.losses.perceptual import content_loss, moment_loss, style_loss, total_variation
from ganblocks.models.style_transfer import StyleDecoder, StyleDecoderConfig, TransformConfig, TransformNetwork
from ganblocks.training import Phase, Precision, StepContext, Trainer
from ganblocks.training.style_recipes import StyleTrainingRecipe
from ganblocks.training.style_step import StyleDecoderStep, TransformStep
from ganblocks.training.style_terms import StyleWeights
from tolerances import for_dtype

LAYERS: dict[str, Any] = {"content_layers": ["b"], "style_layers": ["a", "b"]}


class Small(nn.Module):
    """Two layers of maps, of which the second has half the side."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first, self.second = nn.Conv2d(3, 5, 3, padding=1), nn.Conv2d(5, 4, 3, 2, padding=1)
        self.requires_grad_(False)

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        a = F.softplus(self.first(images))
        return {"a": a, "b": F.softplus(self.second(a))}


def context(images_seen: int = 0, **phase: Any) -> StepContext:
    return StepContext(0, images_seen, dataclasses.replace(Phase(2, 1e-3), **phase))


def batch(count: int = 2, seed: int = 0) -> Tensor:
    return torch.randint(0, 256, (count, 3, 8, 8), generator=torch.Generator().manual_seed(seed), dtype=torch.uint8)


def style() -> Tensor:
    return torch.rand(1, 3, 12, 9, generator=torch.Generator().manual_seed(5))


def transform_step(**options: Any) -> TransformStep:
    torch.manual_seed(1)
    network = TransformNetwork(TransformConfig(base_channels=4, blocks=1))
    optimizer = torch.optim.Adam(network.parameters(), fused=True)
    return TransformStep(network, Small(), style(), optimizer=optimizer, **{**LAYERS, **options})


def decoder_step(**options: Any) -> StyleDecoderStep:
    torch.manual_seed(1)
    decoder = StyleDecoder(StyleDecoderConfig(widths=(4, 4), depths=(1, 1)))
    optimizer = torch.optim.Adam(decoder.parameters(), fused=True)
    return StyleDecoderStep(decoder, Small(), ["a", "b"], optimizer=optimizer, **options)


def test_the_loss_of_one_style_written_out() -> None:
    weights = StyleWeights(content_weight=2.0, style_weight=3.0, variation_weight=0.5, relative=False)
    step = transform_step(weights=weights)
    images = intensities(batch())
    with torch.no_grad():
        made = step.network(images)
    features = Small()
    maps, wanted, look = features(made), features(images), features(style())
    content = content_loss({"b": maps["b"]}, {"b": wanted["b"]})
    looks = {name: gram_matrix(part) for name, part in look.items()}
    of_style = style_loss(maps, looks)
    variation = total_variation(made)
    log = step(batch(), None, context())
    expected = {"content": content, "style": of_style, "variation": variation}
    expected["loss"] = 2 * content + 3 * of_style + 0.5 * variation
    assert log.keys() == expected.keys()
    for name, value in expected.items():
        torch.testing.assert_close(log[name], value, **for_dtype(torch.float32))


def test_the_loss_of_any_style_written_out() -> None:
    step = decoder_step(style_weight=4.0)
    images, features = intensities(batch()), Small()
    seen = features(images)
    looks = {name: part.flip(0) for name, part in seen.items()}  # of two images each has the style of the other
    wanted = adaptive_instance_norm(seen["b"], looks["b"])
    with torch.no_grad():
        maps = features(step.decoder(wanted))
    content, of_style = (maps["b"] - wanted).square().mean(), moment_loss(maps, looks)
    log = step(batch(), None, context())
    expected = {"loss": content + 4 * of_style, "content": content, "style": of_style}
    assert log.keys() == expected.keys()
    for name, value in expected.items():
        torch.testing.assert_close(log[name], value, **for_dtype(torch.float32))


@pytest.mark.parametrize(("build", "share"), [(transform_step, 0.5), (decoder_step, 0.95)])  # found: 0.32, 0.88
def test_the_loss_falls_and_only_the_network_learns(build: Any, share: float) -> None:
    step = build()
    before = {name: value.clone() for name, value in step.features.state_dict().items()}
    first = step(batch(), None, context())["loss"]
    for seen in range(2, 60, 2):
        last = step(batch(), None, context(seen, learning_rate=1e-2))["loss"]
    assert last < share * first
    for name, value in step.features.state_dict().items():
        assert torch.equal(value, before[name])


@pytest.mark.parametrize("build", [transform_step, decoder_step])
def test_bfloat16_gives_nearly_the_same_loss(build: Any) -> None:
    losses = [
        float(build(precision=Precision(name, torch.device("cpu")))(batch(), None, context())["loss"])
        for name in ("fp32", "bf16")
    ]
    assert losses[1] == pytest.approx(losses[0], rel=0.05)


def test_a_stopped_run_goes_on_bit_for_bit(tmp_path) -> None:
    recipe = StyleTrainingRecipe(images=16, batch_size=2)

    def run(name: str, until: int | None) -> dict[str, Tensor]:
        torch.manual_seed(3)
        decoder = StyleDecoder(StyleDecoderConfig(widths=(4, 4), depths=(1, 1)))
        step = recipe.build_decoder_step(decoder, Small(), ["a", "b"])
        Trainer(
            step, TensorBatches(batch(8), seed=0), recipe.schedule(), run_dir=tmp_path / name, total_images=until
        ).fit()
        return decoder.state_dict()

    straight = run("straight", None)
    run("stopped", 6)
    for name, value in run("stopped", None).items():
        assert torch.equal(value, straight[name]), name


def test_one_image_has_its_own_style_and_an_odd_batch_those_of_others() -> None:
    step = decoder_step()
    assert torch.isfinite(step(batch(1), None, context())["loss"])
    assert torch.isfinite(step(batch(3), None, context(2))["loss"])


def test_a_network_that_changes_the_size_is_refused() -> None:
    step = decoder_step()
    step.decoder = StyleDecoder(StyleDecoderConfig(widths=(4, 4, 4), depths=(1, 1, 1)))
    with pytest.raises(ValueError, match="what the network makes"):
        step(batch(), None, context())


@pytest.mark.parametrize(
    ("options", "error", "named"),
    [
        ({"content_layers": []}, ValueError, "content_layers"),
        ({"content_layers": ["c"]}, ValueError, "content_layers"),
        ({"style_layers": ["c"]}, ValueError, "style_layers"),
    ],
)
def test_unknown_layers_of_one_style_are_refused(options: dict[str, Any], error: type[Exception], named: str) -> None:
    with pytest.raises(error, match=named):
        transform_step(**options)


def test_other_bad_arguments_are_refused() -> None:
    network = TransformNetwork(TransformConfig(base_channels=4, blocks=1))
    optimizer = torch.optim.Adam(network.parameters())
    for wrong, error in ((style()[0], ValueError), (style().expand(2, -1, -1, -1), ValueError)):
        with pytest.raises(error, match="style"):
            TransformStep(network, Small(), wrong, optimizer=optimizer, **LAYERS)
    with pytest.raises(TypeError, match="style"):
        TransformStep(network, Small(), style().to(torch.uint8), optimizer=optimizer, **LAYERS)
    with pytest.raises(ValueError, match="style_weight"):
        decoder_step(style_weight=-1.0)
    with pytest.raises(ValueError, match="images"):
        decoder_step()(torch.zeros(2, 3, 8), None, context())
    unknown = decoder_step()
    unknown.layers = ("a", "c")
    with pytest.raises(ValueError, match="layers"):
        unknown(batch(), None, context())
    with pytest.raises(ValueError, match="layers"):
        StyleDecoderStep(network, Small(), [], optimizer=optimizer)
