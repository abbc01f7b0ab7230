"""The science of one batch for autoencoders: what is learnt, what is logged, and what noise is drawn from."""

import copy
import dataclasses
import functools
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from ganblocks.data import TensorBatches
from ganblocks.errors import CheckpointError, EmptyDatasetError, NonFiniteError
from ganblocks.functional.corruption import gaussian_noise, masking_noise
from ganblocks.functional.image_range import intensities
from ganblocks.losses.reconstruction import bernoulli, squared_error
from ganblocks.models.autoencoder import AutoencoderConfig, ConvDenoiser, ConvDenoiserConfig, DenseAutoencoder
from ganblocks.training import CosineSchedule, GuardedStep, Measurements, Phase, Precision, StepContext, Trainer
from ganblocks.training.autoencoder_step import AutoencoderStep, evaluate_autoencoder, reconstruct
from tolerances import for_dtype, named

CONFIG = AutoencoderConfig(input_shape=(1, 8, 8), widths=(6,), code_activation="linear")
DENOISER = ConvDenoiserConfig(resolution=16, channels=(4, 3))


def context(images_seen: int = 0, *, seed: int = 0, **phase: object) -> StepContext:
    return StepContext(seed, images_seen, dataclasses.replace(Phase(8, 1e-2), **phase))  # type: ignore[arg-type]


def batch(count: int = 8, *, side: int = 8, seed: int = 0) -> Tensor:
    """A bright bar at one of the rows: two numbers say all about an image."""
    rng = torch.Generator().manual_seed(seed)
    images = torch.zeros(count, 1, side, side, dtype=torch.uint8)
    rows = torch.randint(0, side, (count,), generator=rng)
    images[torch.arange(count), 0, rows] = torch.randint(100, 255, (count, 1), generator=rng, dtype=torch.uint8)
    return images


def small_step(config: AutoencoderConfig | ConvDenoiserConfig = CONFIG, **options: object) -> AutoencoderStep:
    torch.manual_seed(0)
    model = DenseAutoencoder(config) if isinstance(config, AutoencoderConfig) else ConvDenoiser(config)
    optimizer = torch.optim.Adam(model.parameters(), fused=True)
    return AutoencoderStep(model, optimizer=optimizer, **options)  # type: ignore[arg-type]


class Linear(nn.Module):
    """Vectors to vectors; enough of a network to check arithmetic by hand."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(4, 4, bias=False).double()

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(x)

    def logits(self, x: Tensor) -> Tensor:
        return 2 * self.linear(x)


class Fixed(nn.Module):
    """Gives half of its input."""

    def forward(self, x: Tensor) -> Tensor:
        return x / 2

    def logits(self, x: Tensor) -> Tensor:
        return x - 1


class Noisy(nn.Module):
    """Drops values out, and keeps statistics."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Flatten(), nn.Linear(64, 64), nn.BatchNorm1d(64), nn.Dropout(0.5))

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x).reshape(x.shape)


def linear_step(**options: object) -> AutoencoderStep:
    torch.manual_seed(0)
    model = Linear()
    return AutoencoderStep(model, optimizer=torch.optim.SGD(model.parameters(), lr=1.0), **options)  # type: ignore[arg-type]


@pytest.mark.parametrize("noisy", [False, True])
def test_step_written_out(noisy: bool) -> None:
    """The gradient of the squared error in NumPy; the noise goes in, and the clean image is what should come out."""
    step = linear_step(corruption=functools.partial(gaussian_noise, std=0.5, clip=None) if noisy else None)
    W = step.model.linear.weight.detach().numpy().copy()
    x = np.random.default_rng(0).uniform(-1, 1, size=(6, 4))
    clean = (x + 1) / 2
    draw = torch.randn(6, 4, generator=context(40, seed=3).generator("corruption"), dtype=torch.float64).numpy()
    given = clean + 0.5 * draw if noisy else clean
    log = step(torch.from_numpy(x), None, context(40, seed=3, learning_rate=0.1))
    error = given @ W.T - clean
    double = for_dtype(torch.float64)
    expected = W - 0.1 * 2 * error.T @ given / 6
    np.testing.assert_allclose(step.model.linear.weight.detach().numpy(), expected, **double)
    assert log.keys() == {"loss"}
    np.testing.assert_allclose(log["loss"].item(), (error**2).sum(1).mean(), **double)


def test_loss_of_logits_is_of_the_method_of_that_name() -> None:
    step = linear_step(loss=functools.partial(bernoulli, logits=True), logits=True)
    W = step.model.linear.weight.detach().clone()
    x = torch.rand(6, 4, dtype=torch.float64) * 2 - 1
    clean = (x + 1) / 2
    expected = nn.functional.binary_cross_entropy_with_logits(2 * clean @ W.T, clean, reduction="sum") / 6
    torch.testing.assert_close(step(x, None, context())["loss"], expected, **for_dtype(torch.float64))


def test_codes_of_another_network_are_taken_as_they_are() -> None:
    step = linear_step(prepare=None)
    W = step.model.linear.weight.detach().clone()
    codes = torch.randn(6, 4, dtype=torch.float64) * 9
    expected = (codes @ W.T - codes).square().sum(1).mean()
    torch.testing.assert_close(step(codes, None, context())["loss"], expected, **for_dtype(torch.float64))


def test_the_log_is_of_tensors_without_graph_and_labels_do_not_matter() -> None:
    logs = [small_step()(batch(), labels, context()) for labels in (None, torch.arange(8))]
    assert all(value.dim() == 0 and not value.requires_grad for log in logs for value in log.values())
    assert torch.equal(logs[0]["loss"], logs[1]["loss"])


def test_learning_rate_comes_from_the_phase() -> None:
    step = small_step()
    step(batch(), None, context(learning_rate=0.25))
    assert step.optimizer.param_groups[0]["lr"] == 0.25


def test_bytes_and_floats_are_the_same_images() -> None:
    losses = [small_step()(images, None, context())["loss"] for images in (batch(), batch().float() / 127.5 - 1)]
    torch.testing.assert_close(*losses, **for_dtype(torch.float32))


def test_noise_is_a_function_of_seed_and_position_and_leaves_no_trace() -> None:
    losses = []
    for seed, images_seen, spent in ((0, 0, 0), (0, 0, 5), (0, 8, 0), (1, 0, 0)):
        step = small_step(corruption=functools.partial(masking_noise, p=0.3))
        torch.manual_seed(3)
        torch.rand(spent)
        before = torch.get_rng_state()
        losses.append(step(batch(), None, context(images_seen, seed=seed))["loss"].item())
        assert torch.equal(torch.get_rng_state(), before)
    assert losses[0] == losses[1]
    assert len(set(losses)) == 3


def test_dropout_is_a_function_of_seed_and_position_too() -> None:
    losses = []
    for seed, spent in ((0, 0), (0, 5), (1, 0)):
        torch.manual_seed(0)
        model = Noisy()
        step = AutoencoderStep(model, optimizer=torch.optim.SGD(model.parameters(), lr=0.1))
        torch.rand(spent)
        losses.append(step(batch(), None, context(seed=seed))["loss"].item())
    assert losses[0] == losses[1] != losses[2]


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"loss": functools.partial(bernoulli, logits=True), "logits": True},
        {"corruption": functools.partial(gaussian_noise, std=0.3)},
    ],
    ids=["squared error", "bernoulli", "denoising"],
)
def test_it_learns(options: dict[str, object]) -> None:
    """From a handful of numbers it rebuilds better than the mean image does."""
    step = small_step(**options)
    rate = 1e-2
    for index in range(200):
        step(batch(32, seed=index), None, context(32 * index, learning_rate=rate))
    images = batch(60, seed=999)
    clean = intensities(images)
    mean = (clean - clean.mean(0)).square().mean().item()
    assert evaluate_autoencoder(step.model, images)["val_mse"] < 0.7 * mean


def blocks(count: int, seed: int) -> Tensor:
    """Four even squares, each with a level of its own."""
    levels = torch.randint(0, 256, (count, 1, 2, 2), generator=torch.Generator().manual_seed(seed), dtype=torch.uint8)
    return levels.repeat_interleave(4, dim=2).repeat_interleave(4, dim=3)


def test_a_denoiser_gives_back_less_noise_than_it_was_given() -> None:
    noise = functools.partial(gaussian_noise, std=0.3)
    step = small_step(ConvDenoiserConfig(resolution=8, channels=(8,)), corruption=noise)
    for index in range(60):
        step(blocks(32, index), None, context(32 * index, learning_rate=2e-2))
    clean = intensities(images := blocks(40, 999))
    noisy = noise(clean, generator=torch.Generator().manual_seed(5))
    before = (noisy - clean).square().mean().item()
    assert evaluate_autoencoder(step.model, images, inputs=noisy)["val_mse"] < 0.5 * before


def test_state_goes_over_to_a_new_step_bit_for_bit() -> None:
    noise = functools.partial(gaussian_noise, std=0.1)
    first, second = (small_step(DENOISER, corruption=noise) for _ in range(2))
    nn.init.normal_(second.model.encoder[0].weight)
    for index in range(3):
        first(batch(side=16, seed=index), None, context(8 * index))
    second.load_state_dict(copy.deepcopy(first.state_dict()))
    for index in range(3, 6):
        logs = [step(batch(side=16, seed=index), None, context(8 * index)) for step in (first, second)]
        assert torch.equal(logs[0]["loss"], logs[1]["loss"])
    a, b = first.state_dict(), second.state_dict()
    assert all(torch.equal(a["model"][key], b["model"][key]) for key in a["model"])
    assert a["calls"] == b["calls"] == 6


def test_a_state_of_another_architecture_is_refused() -> None:
    with pytest.raises(CheckpointError, match="do not fit this DenseAutoencoder"):
        small_step().load_state_dict(small_step(CONFIG.replace(widths=(7,))).state_dict())


class PlainOrder(Precision):
    def memory_format(self, resolution: int | None) -> torch.memory_format:
        return torch.contiguous_format


def test_memory_format_of_large_images_changes_nothing_but_speed() -> None:
    steps = [small_step(DENOISER), small_step(DENOISER, precision=PlainOrder("fp32", torch.device("cpu")))]
    for index in range(3):
        for step in steps:
            step(batch(side=16, seed=index), None, context(index))
    weights = [step.model.encoder[2].weight for step in steps]
    assert [w.is_contiguous(memory_format=torch.channels_last) for w in weights] == [True, False]
    torch.testing.assert_close(*weights, **named("two routes in float32"))


@pytest.mark.parametrize("name", ["bf16", "fp16"])
@pytest.mark.parametrize("config", [CONFIG, DENOISER])
def test_low_precision_keeps_weights_and_loss_in_float32(
    name: str, config: AutoencoderConfig | ConvDenoiserConfig
) -> None:
    images = batch(side=16 if config is DENOISER else 8)
    for options in ({}, {"loss": functools.partial(bernoulli, logits=True), "logits": True}):
        step = small_step(config, precision=Precision.resolve(name, "cpu"), **options)  # type: ignore[arg-type]
        loss = step(images, None, context())["loss"]
        assert loss.isfinite()
        assert loss.dtype == torch.float32
        torch.testing.assert_close(
            loss, small_step(config, **options)(images, None, context())["loss"], **for_dtype(torch.bfloat16)
        )
        assert all(parameter.dtype == torch.float32 for parameter in step.model.parameters())
        assert step.scaler.is_enabled() == (name == "fp16")
        assert reconstruct(step.model, images, precision=step.precision).dtype == torch.float32


@pytest.mark.parametrize("bad", [torch.nan, torch.inf])
@pytest.mark.parametrize("fused", [True, False])
def test_images_that_are_no_numbers_change_neither_weights_nor_statistics(fused: bool, bad: float) -> None:
    torch.manual_seed(0)
    model = Noisy()
    adam = torch.optim.Adam(model.parameters(), fused=fused)
    step = AutoencoderStep(model, optimizer=adam, max_skipped_updates=1)
    step(batch(), None, context())
    before = {name: value.clone() for name, value in model.state_dict().items()}
    broken = batch().float() / 127.5 - 1
    broken[0, 0, 0, 0] = bad
    assert not step(broken, None, context(8))["loss"].isfinite()
    for name, value in model.state_dict().items():
        assert value.dtype == torch.int64 or torch.equal(value, before[name]), name
    assert step.skipped_updates() == 1
    step(broken, None, context(16))
    with pytest.raises(NonFiniteError, match="of the autoencoder was not finite at step 3"):
        step.skipped_updates()
    assert isinstance(step, GuardedStep)


def test_what_does_not_fit_is_told_before_anything_changes() -> None:
    with pytest.raises(TypeError, match="`model` is 'Identity', but must be a module with a method `logits`"):
        AutoencoderStep(nn.Identity(), optimizer=small_step().optimizer, logits=True)
    with pytest.raises(TypeError, match="method `logits`"):
        evaluate_autoencoder(nn.Identity(), batch(), logits=True)
    step = linear_step(corruption=lambda images, *, generator: images[:1])
    before = copy.deepcopy(step.model.state_dict())
    x = torch.zeros(6, 4, dtype=torch.float64)
    with pytest.raises(ValueError, match=r"`corruption\(images\)` has shape \(1, 4\)"):
        step(x, None, context())
    step = linear_step(prepare=lambda images: images[:, :, None])
    with pytest.raises(RuntimeError, match="mat1 and mat2"):  # the model's own words
        step(x, None, context())
    step = AutoencoderStep(nn.Flatten(), optimizer=small_step().optimizer)
    with pytest.raises(ValueError, match=r"`model\(images\)` has shape \(8, 64\)"):
        step(batch(), None, context())
    assert all(torch.equal(before[name], value) for name, value in linear_step().model.state_dict().items())


def trainer(folder: Path, total_images: int | None = None) -> Trainer:
    step = small_step(DENOISER, corruption=functools.partial(gaussian_noise, std=0.2))
    images = batch(9, side=16, seed=7)
    return Trainer(
        step,
        TensorBatches(batch(30, side=16), seed=4),
        CosineSchedule(160, 8, 1e-2),
        run_dir=folder,
        seed=4,
        total_images=total_images,
        callbacks=[Measurements(lambda trainer: evaluate_autoencoder(step.model, images))],
        log_images=8,
        save_images=24,
    )


def test_a_run_in_two_parts_equals_one_in_one_piece(tmp_path: Path) -> None:
    whole = trainer(tmp_path / "whole")
    assert whole.fit().finished
    assert trainer(tmp_path / "parts", total_images=56).fit().images_seen == 56
    torch.manual_seed(99)  # another process would have another global state
    rest = trainer(tmp_path / "parts")
    assert rest.fit().finished
    a, b = whole.step.state_dict(), rest.step.state_dict()
    assert all(torch.equal(a["model"][key], b["model"][key]) for key in a["model"])
    moments = [[value for state in part["optimizer"]["state"].values() for value in state.values()] for part in (a, b)]
    assert all(map(torch.equal, *moments))
    assert whole.log is not None
    assert rest.log is not None
    logged = [[r for r in part.log.read() if "loss" in r] for part in (whole, rest)]  # type: ignore[union-attr]
    assert logged[0] == logged[1]
    assert {"val_loss", "val_mse"} <= whole.log.read()[-1].keys()


def test_reconstructions_come_from_evaluation_mode_whatever_the_batches_and_modes_come_back() -> None:
    model = Noisy()
    model(torch.rand(8, 1, 8, 8))  # running statistics
    model.layers[3].eval()
    images = batch(11)
    modes = [module.training for module in model.modules()]
    before = copy.deepcopy(model.state_dict())
    parts = [reconstruct(model, images, batch_size=size) for size in (1, 4, 512)]
    given = reconstruct(model, intensities(images), prepare=None)
    assert [module.training for module in model.modules()] == modes
    assert all(torch.equal(before[key], value) for key, value in model.state_dict().items())
    expected = copy.deepcopy(model).eval()(images.float() / 255).detach()
    for part in (*parts, given):
        assert (part.dtype, part.requires_grad) == (torch.float32, False)
        torch.testing.assert_close(part, expected, **for_dtype(torch.float32))
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
        reconstruct(model, torch.zeros(2, 1, 9, 9))
    assert [module.training for module in model.modules()] == modes


@pytest.mark.parametrize("size", [1, 3, 100])
def test_validation_written_out(size: int) -> None:
    rng = np.random.default_rng(0)
    x, noisy = rng.uniform(size=(2, 7, 1, 3, 3))
    images = torch.from_numpy(2 * x - 1)
    evaluate = functools.partial(evaluate_autoencoder, Fixed(), images, batch_size=size)
    double = for_dtype(torch.float64)
    result = evaluate()
    assert result.keys() == {"val_loss", "val_mse"}
    np.testing.assert_allclose(result["val_loss"], ((x / 2) ** 2).sum((1, 2, 3)).mean(), **double)
    np.testing.assert_allclose(result["val_mse"], ((x / 2) ** 2).mean(), **double)
    result = evaluate(inputs=torch.from_numpy(noisy), loss=functools.partial(bernoulli, logits=True), logits=True)
    z = noisy - 1
    entropy = (np.logaddexp(0, z) - x * z).sum((1, 2, 3)).mean()
    np.testing.assert_allclose(result["val_loss"], entropy, **double)
    np.testing.assert_allclose(result["val_mse"], ((noisy / 2 - x) ** 2).mean(), **double)
    codes = evaluate_autoencoder(Fixed(), torch.from_numpy(x), prepare=None, loss=squared_error, batch_size=size)
    np.testing.assert_allclose(codes["val_mse"], ((x / 2) ** 2).mean(), **double)


def test_validation_refuses_what_does_not_fit() -> None:
    images = batch()
    for call in (reconstruct, evaluate_autoencoder):
        with pytest.raises(EmptyDatasetError, match="`images` has none"):
            call(Fixed(), images[:0])
        with pytest.raises(ValueError, match="`batch_size` is 0"):
            call(Fixed(), images, batch_size=0)
    with pytest.raises(ValueError, match=r"`inputs` is \(3, 1, 8, 8\), but must be \[8, ...\]"):
        evaluate_autoencoder(Fixed(), images, inputs=intensities(images[:3]))
    with pytest.raises(ValueError, match=r"`model\(images\)` has shape"):
        evaluate_autoencoder(nn.Flatten(), images)
