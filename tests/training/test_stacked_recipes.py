"""Recipes of stacked autoencoders: the numbers reach schedules, steps and losses."""

import pytest
import torch
from torch import Tensor

from ganblocks.losses.reconstruction import bernoulli, squared_error
from ganblocks.models.autoencoder import AutoencoderConfig, DenseAutoencoder
from ganblocks.models.stacked import StackedClassifier, StackedClassifierConfig, autoencoder_configs
from ganblocks.training import ConstantSchedule, CosineSchedule, Phase, StepContext
from ganblocks.training.stacked_recipes import StackedRecipe, stacked_autoencoder, stacked_document
from tolerances import for_dtype

CONFIG = StackedClassifierConfig(resolution=4, num_classes=3, widths=(8, 6))


def batch() -> tuple[Tensor, Tensor]:
    return torch.randint(0, 256, (12, 1, 4, 4), dtype=torch.uint8), torch.arange(12) % 3


def context(images_seen: int = 0) -> StepContext:
    return StepContext(0, images_seen, Phase(12, 1e-2))


def test_the_document_reuses_the_codes_of_separate_autoencoders() -> None:
    recipe = stacked_document()
    assert (recipe.stacking, recipe.freeze, recipe.masking, recipe.loss) == (
        "latent_reuse",
        False,
        0.0,
        "squared_error",
    )
    assert (recipe.pretrain_epochs, recipe.epochs, recipe.batch_size) == (10, 10, 128)
    assert recipe.pretraining_schedule(60_000) == ConstantSchedule(600_000, 128, 1e-3)
    assert recipe.schedule(60_000) == ConstantSchedule(600_000, 128, 1e-3)
    assert recipe.unrolled_schedule(60_000) is None
    assert stacked_document(epochs=3).epochs == 3


def test_the_default_is_greedy_with_rates_that_rise_and_fall() -> None:
    recipe = stacked_autoencoder(pretrain_epochs=2, unrolled_epochs=3, epochs=4, pretrain_learning_rate=2e-3)
    assert (recipe.stacking, recipe.freeze) == ("greedy", False)
    assert recipe.pretraining_schedule(1000) == CosineSchedule(2000, 128, 2e-3, warmup_images=200)
    assert recipe.unrolled_schedule(1000) == CosineSchedule(3000, 128, 2e-3, warmup_images=300)
    assert recipe.schedule(1000) == CosineSchedule(4000, 128, 5e-3, warmup_images=400)


def test_numbers_reach_the_steps() -> None:
    recipe = stacked_autoencoder(betas=(0.8, 0.9), adam_eps=1e-6, label_smoothing=0.1, masking=0.0)
    network = DenseAutoencoder(AutoencoderConfig(input_shape=(4,), widths=(2,)))
    step = recipe.build_autoencoder_step(network, prepare=None)
    (group,) = step.optimizer.param_groups
    assert (group["betas"], group["eps"], group["lr"], group["fused"]) == ((0.8, 0.9), 1e-6, 1e-3, True)
    (group,) = recipe.build_step(StackedClassifier(CONFIG)).optimizer.param_groups
    assert (group["betas"], group["eps"], group["lr"], group["fused"]) == ((0.8, 0.9), 1e-6, 5e-3, True)
    assert step.corruption is None
    assert step.prepare is None
    assert step.loss is squared_error
    assert recipe.build_step(StackedClassifier(CONFIG)).label_smoothing == 0.1


def test_masked_inputs_are_compared_with_whole_ones() -> None:
    step = stacked_autoencoder(masking=0.5).build_autoencoder_step(DenseAutoencoder(AutoencoderConfig()))
    assert step.corruption is not None
    noisy = step.corruption(torch.ones(100, 100), generator=torch.Generator().manual_seed(0))
    assert set(noisy.unique().tolist()) == {0.0, 1.0}
    assert 0.48 < noisy.mean() < 0.52


def test_the_bernoulli_loss_is_of_logits() -> None:
    network = DenseAutoencoder(autoencoder_configs(CONFIG)[0])
    step = stacked_autoencoder(loss="bernoulli", masking=0.0).build_autoencoder_step(network)
    images, _ = batch()
    expected = bernoulli(network.logits(images / 255), images / 255, logits=True)
    assert torch.equal(step(images, None, context())["loss"], expected.detach())


def test_codes_are_compared_by_squared_error_whatever_the_loss_of_images() -> None:
    network = DenseAutoencoder(autoencoder_configs(CONFIG)[1])
    step = stacked_autoencoder(loss="bernoulli", masking=0.0).build_autoencoder_step(network, prepare=None)
    codes = 3 * torch.rand(12, 8)
    expected = (network(codes) - codes).square().sum(1).mean()
    torch.testing.assert_close(step(codes, None, context())["loss"], expected.detach(), **for_dtype(torch.float32))


def test_frozen_layers_stay_bit_for_bit_and_the_rest_learns() -> None:
    stack = [DenseAutoencoder(config) for config in autoencoder_configs(CONFIG)]
    for freeze in (True, False):
        model = StackedClassifier.assemble(CONFIG, stack, freeze=freeze)
        step = stacked_autoencoder().build_step(model)
        head = model.head.weight.detach().clone()
        for index in range(3):
            step(*batch(), context(12 * index))
        assert not torch.equal(model.head.weight, head)
        for own, part in zip(model.encoders, stack, strict=True):
            assert torch.equal(own.weight, part.encoder[1].weight) == freeze
            assert torch.equal(own.bias, part.encoder[1].bias) == freeze


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"stacking": "tower"}, "stacking"),
        ({"decay": "linear"}, "decay"),
        ({"loss": "l1"}, "loss"),
        ({"epochs": 0}, "epochs"),
        ({"pretrain_epochs": 0}, "pretrain_epochs"),
        ({"unrolled_epochs": -1}, "unrolled_epochs"),
        ({"masking": 1.0}, "masking"),
        ({"stacking": "latent_reuse", "unrolled_epochs": 1}, "unrolled_epochs"),
    ],
)
def test_fields_out_of_range_are_named(changes: dict[str, object], field: str) -> None:
    with pytest.raises(ValueError, match=f"`{field}`"):
        StackedRecipe().replace(**changes)
