"""The science of one batch for variational autoencoders: what is minimised, what is logged, what is never applied."""

import copy
import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from ganblocks.data import TensorBatches
from ganblocks.errors import CheckpointError, EmptyDatasetError, NonFiniteError
from ganblocks.losses.divergence import free_bits, kl_divergence
from ganblocks.losses.reconstruction import bernoulli
from ganblocks.models.vae import VAE
from ganblocks.models.vae_config import VAEConfig
from ganblocks.training import ConstantSchedule, GuardedStep, Measurements, Phase, Precision, StepContext, Trainer
from ganblocks.training.vae_step import VAEStep, binarized, evaluate_vae
from tolerances import for_dtype, named

CONFIG = VAEConfig(resolution=8, latent_dim=2, hidden_dims=(12,), activation="tanh")


def context(images_seen: int = 0, *, seed: int = 0, **phase: object) -> StepContext:
    return StepContext(seed, images_seen, dataclasses.replace(Phase(8, 1e-2), **phase))  # type: ignore[arg-type]


def batch(count: int = 8, *, seed: int = 0) -> Tensor:
    """Bright on the left or on the right."""
    rng = torch.Generator().manual_seed(seed)
    images = torch.randint(0, 60, (count, 1, 8, 8), generator=rng)
    side = torch.randint(0, 2, (count,), generator=rng).bool()
    images[side, :, :, :4] += 180
    images[~side, :, :, 4:] += 180
    return images.to(torch.uint8)


def step_of(config: VAEConfig = CONFIG, *, adam: bool = True, **options: object) -> VAEStep:
    torch.manual_seed(0)
    model = VAE(config)
    kinds = torch.optim.Adam(model.parameters(), fused=True), torch.optim.SGD(model.parameters(), lr=1.0)
    return VAEStep(model, optimizer=kinds[0] if adam else kinds[1], **options)  # type: ignore[arg-type]


def test_the_loss_is_the_negative_bound_with_the_draws_of_the_context() -> None:
    step = step_of(adam=False)
    before = copy.deepcopy(step.model)
    log = step(batch(), None, context(24, seed=5, learning_rate=0.01))
    x = batch().float() / 255
    noise = torch.randn(8, 2, generator=context(24, seed=5).generator("latents"))
    result = before(x, noise=noise)
    reconstruction = bernoulli(result.logits, x, logits=True)
    kl = kl_divergence(result.mean, result.log_var)
    assert log.keys() == {"loss", "reconstruction", "kl"}
    single = for_dtype(torch.float32)
    torch.testing.assert_close(log["reconstruction"], reconstruction.detach(), **single)
    torch.testing.assert_close(log["kl"], kl.detach(), **single)
    torch.testing.assert_close(log["loss"], (reconstruction + kl).detach(), **single)
    gradients = torch.autograd.grad(reconstruction + kl, list(before.parameters()))
    for mine, old, gradient in zip(step.model.parameters(), before.parameters(), gradients, strict=True):
        torch.testing.assert_close(mine.detach(), old.detach() - 0.01 * gradient, **single)


def test_the_log_is_of_tensors_without_graph() -> None:
    assert all(value.dim() == 0 and not value.requires_grad for value in step_of()(batch(), None, context()).values())


def test_learning_rate_comes_from_the_phase() -> None:
    step = step_of()
    step(batch(), None, context(learning_rate=0.25))
    assert step.optimizer.param_groups[0]["lr"] == 0.25


def test_bytes_and_floats_are_the_same_images() -> None:
    logs = [step_of()(images, None, context()) for images in (batch(), batch().float() / 127.5 - 1)]
    torch.testing.assert_close(logs[0], logs[1], **for_dtype(torch.float32))


def test_the_weight_of_the_divergence_is_a_function_of_images_seen() -> None:
    step = step_of(beta=4.0, annealing_images=100)
    assert [step.kl_weight(seen) for seen in (0, 25, 100, 10**9)] == [0.0, 1.0, 4.0, 4.0]
    assert step_of(beta=2.0).kl_weight(0) == 2.0
    for seen, weight in ((0, 0.0), (25, 1.0), (200, 4.0)):
        log = step_of(beta=4.0, annealing_images=100)(batch(), None, context(seen))
        expected = log["reconstruction"] + weight * log["kl"]
        torch.testing.assert_close(log["loss"], expected, **for_dtype(torch.float32))


def test_without_divergence_the_encoder_is_only_asked_to_rebuild() -> None:
    """The text's loss of cross-entropy alone: an infinite divergence would not even matter."""
    log = step_of(beta=0.0)(batch(), None, context())
    assert torch.equal(log["loss"], log["reconstruction"])
    assert log["kl"] > 0


def test_free_nats_change_the_loss_and_not_what_is_logged_as_kl() -> None:
    plain, free = step_of(), step_of(free_nats=3.0)
    result = copy.deepcopy(plain.model)(batch().float() / 255, generator=context().generator("latents"))
    logs = [step(batch(), None, context()) for step in (plain, free)]
    assert torch.equal(logs[0]["kl"], logs[1]["kl"])
    charged = free_bits(result.mean, result.log_var, nats=3.0).detach()
    torch.testing.assert_close(logs[1]["loss"] - logs[1]["reconstruction"], charged, **named("two routes in float32"))


def test_binarised_images_are_zeros_and_ones_of_the_right_mean() -> None:
    images = torch.tensor([0.0, 0.25, 0.5, 1.0]).expand(20_000, 4)
    drawn = binarized(images, torch.Generator().manual_seed(0))
    assert set(drawn.unique().tolist()) == {0.0, 1.0}
    assert drawn[:, 0].sum() == 0
    assert drawn[:, 3].sum() == len(drawn)
    standard_error = (images[0] * (1 - images[0]) / len(images)).sqrt()
    assert ((drawn.mean(0) - images[0]).abs() <= 4 * standard_error).all()


class Spy(nn.Module):
    """Keeps what it is shown."""

    def __init__(self) -> None:
        super().__init__()
        self.model = VAE(CONFIG)
        self.seen: list[Tensor] = []

    def forward(self, images: Tensor, labels: Tensor | None = None, *, generator: torch.Generator) -> object:
        self.seen.append(images.clone())
        return self.model(images, labels, generator=generator)

    def log_likelihood(self, images: Tensor, logits: Tensor) -> Tensor:
        self.seen.append(images.clone())
        return self.model.log_likelihood(images, logits)


def test_images_are_binarised_anew_each_time_and_alike_for_encoder_and_likelihood() -> None:
    spy = Spy()
    step = VAEStep(spy, optimizer=torch.optim.SGD(spy.parameters(), lr=0.0), binarize=True)
    for seen, seed in ((0, 0), (8, 0), (0, 0), (0, 1)):
        step(batch(), None, context(seen, seed=seed))
    shown, scored = spy.seen[::2], spy.seen[1::2]
    assert all(map(torch.equal, shown, scored))
    assert set(torch.cat(shown).unique().tolist()) == {0.0, 1.0}
    assert torch.equal(shown[0], shown[2])
    assert not torch.equal(shown[0], shown[1])
    assert not torch.equal(shown[0], shown[3])


def test_all_draws_are_functions_of_seed_and_position_and_leave_no_trace() -> None:
    losses = []
    for seed, images_seen, spent in ((0, 0, 0), (0, 0, 5), (0, 8, 0), (1, 0, 0)):
        step = step_of(binarize=True)
        torch.rand(spent)
        before = torch.get_rng_state()
        losses.append(step(batch(), None, context(images_seen, seed=seed))["loss"].item())
        assert torch.equal(torch.get_rng_state(), before)
    assert losses[0] == losses[1]
    assert len(set(losses)) == 3


def test_it_learns() -> None:
    step = step_of()
    before = evaluate_vae(step.model, batch(200, seed=99))["val_loss"]
    for index in range(150):
        step(batch(32, seed=index), None, context(32 * index, learning_rate=1e-2))
    after = evaluate_vae(step.model, batch(200, seed=99))
    assert after["val_loss"] < 0.75 * before
    codes = step.model.encode(batch(200, seed=99).float() / 255)
    assert codes.std(0).max() > 0.5  # which side is bright has become a latent


def test_conditional_models_get_the_labels_and_others_do_not() -> None:
    labels = torch.arange(8, dtype=torch.uint8) % 3
    conditional = step_of(CONFIG.replace(num_classes=3), conditional=True)
    conditional(batch(), labels, context())
    step_of()(batch(), labels, context())
    with pytest.raises(ValueError, match="`labels` is None"):
        conditional(batch(), None, context())
    assert evaluate_vae(conditional.model, batch(), labels)["val_loss"] > 0


def test_state_goes_over_to_a_new_step_bit_for_bit() -> None:
    first, second = step_of(binarize=True), step_of(binarize=True)
    nn.init.normal_(second.model.encoder.mean.weight)
    for index in range(3):
        first(batch(seed=index), None, context(8 * index))
    second.load_state_dict(copy.deepcopy(first.state_dict()))
    for index in range(3, 6):
        logs = [step(batch(seed=index), None, context(8 * index)) for step in (first, second)]
        assert torch.equal(logs[0]["loss"], logs[1]["loss"])
    a, b = first.state_dict(), second.state_dict()
    assert all(torch.equal(a["model"][key], b["model"][key]) for key in a["model"])
    assert a["calls"] == b["calls"] == 6
    with pytest.raises(CheckpointError, match="do not fit this VAE"):
        step_of().load_state_dict(step_of(CONFIG.replace(latent_dim=3)).state_dict())


@pytest.mark.parametrize("name", ["bf16", "fp16"])
def test_low_precision_keeps_weights_and_losses_in_float32(name: str) -> None:
    config = VAEConfig(resolution=16, hidden_dims=(8,), channels=(4, 4))
    step = step_of(config, precision=Precision.resolve(name, "cpu"))  # type: ignore[arg-type]
    images = torch.randint(0, 256, (8, 1, 16, 16), dtype=torch.uint8)
    log = step(images, None, context())
    assert all(value.isfinite() and value.dtype == torch.float32 for value in log.values())
    assert all(parameter.dtype == torch.float32 for parameter in step.model.parameters())
    exact = step_of(config)(images, None, context())
    assert abs(log["loss"] / exact["loss"] - 1) < named("mse_bf16")["rtol"]


@pytest.mark.parametrize("bad", [torch.nan, torch.inf])
def test_images_that_are_no_numbers_change_nothing(bad: float) -> None:
    step = step_of(max_skipped_updates=1)
    step(batch(), None, context())
    before = {name: value.clone() for name, value in step.model.state_dict().items()}
    broken = batch().float() / 127.5 - 1
    broken[0, 0, 0, 0] = bad
    step(broken, None, context(8))
    assert all(torch.equal(value, before[name]) for name, value in step.model.state_dict().items())
    assert step.skipped_updates() == 1
    step(broken, None, context(16))
    with pytest.raises(NonFiniteError, match="of the model was not finite at step 3"):
        step.skipped_updates()
    assert isinstance(step, GuardedStep)


def trainer(folder: Path, total_images: int | None = None) -> Trainer:
    step = step_of(binarize=True, annealing_images=80)
    return Trainer(
        step,
        TensorBatches(batch(30), seed=4),
        ConstantSchedule(160, 8, 1e-2),
        run_dir=folder,
        seed=4,
        total_images=total_images,
        callbacks=[Measurements(lambda trainer: evaluate_vae(step.model, batch(9, seed=7), binarize=True))],
        log_images=8,
        save_images=24,
    )


def test_a_run_in_two_parts_equals_one_in_one_piece(tmp_path: Path) -> None:
    whole = trainer(tmp_path / "whole")
    assert whole.fit().finished
    assert trainer(tmp_path / "parts", total_images=56).fit().images_seen == 56
    rest = trainer(tmp_path / "parts")
    assert rest.fit().finished
    a, b = whole.step.state_dict(), rest.step.state_dict()
    assert all(torch.equal(a["model"][key], b["model"][key]) for key in a["model"])
    assert whole.log is not None
    assert {"val_loss", "val_reconstruction", "val_kl"} <= whole.log.read()[-1].keys()


def test_the_bound_on_other_images_is_a_mean_over_all_of_them_whatever_the_batches() -> None:
    """With latents that are their mean the draws play no part, and one pass over all images says it."""
    model = VAE(CONFIG.replace(epsilon_std=0.0))
    images = batch(11)
    x = images.float() / 255
    result = model(x)
    reconstruction = bernoulli(result.logits, x, logits=True).item()
    kl = kl_divergence(result.mean, result.log_var).item()
    for size in (1, 4, 100):
        measured = evaluate_vae(model, images, batch_size=size)
        assert measured.keys() == {"val_loss", "val_reconstruction", "val_kl"}
        values = [measured[name] for name in ("val_loss", "val_reconstruction", "val_kl")]
        np.testing.assert_allclose(values, [reconstruction + kl, reconstruction, kl], **for_dtype(torch.float32))


def test_measuring_leaves_modes_and_global_randomness_alone_and_gives_the_same_number() -> None:
    model = VAE(CONFIG)
    model.encoder.eval()
    modes, before = [part.training for part in model.modules()], torch.get_rng_state()
    first, second = (evaluate_vae(model, batch(), binarize=True) for _ in range(2))
    assert first == second != evaluate_vae(model, batch(), binarize=True, seed=1)
    assert [part.training for part in model.modules()] == modes
    assert torch.equal(torch.get_rng_state(), before)


def test_what_does_not_fit_is_told() -> None:
    for name in ("beta", "annealing_images", "free_nats"):
        with pytest.raises(ValueError, match=f"`{name}` is -1"):
            step_of(**{name: -1})
    with pytest.raises(EmptyDatasetError):
        evaluate_vae(VAE(CONFIG), batch()[:0])
    with pytest.raises(ValueError, match="`batch_size` is 0"):
        evaluate_vae(VAE(CONFIG), batch(), batch_size=0)
