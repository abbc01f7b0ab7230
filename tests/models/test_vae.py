"""The variational autoencoder: parameters to the last one, its formula, its distributions, its conditions."""

import dataclasses
import math

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.autograd import gradcheck, gradgradcheck
from torch.distributions import Bernoulli, Normal

from ganblocks.losses.divergence import kl_divergence
from ganblocks.losses.reconstruction import bernoulli, gaussian
from ganblocks.models.vae import VAE, Posterior
from ganblocks.models.vae_config import VAEConfig
from tolerances import for_dtype, named

SMALL = VAEConfig(resolution=4, image_channels=2, latent_dim=3, hidden_dims=(6, 5), activation="tanh")
CONV = VAEConfig(resolution=8, image_channels=3, latent_dim=4, hidden_dims=(7,), channels=(2, 5), activation="elu")


def model_of(config: VAEConfig = SMALL, *, seed: int = 0, dtype: torch.dtype = torch.float64, **changes: object) -> VAE:
    torch.manual_seed(seed)
    return VAE(dataclasses.replace(config, **changes)).to(dtype)  # type: ignore[arg-type]


def images_of(config: VAEConfig = SMALL, count: int = 4, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.rand((count, *config.image_shape), generator=torch.Generator().manual_seed(9), dtype=dtype)


def parameters(module: torch.nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


def test_number_of_parameters_of_784_64_2() -> None:
    encoder = (784 * 64 + 64) + 2 * (64 * 2 + 2)
    decoder = (2 * 64 + 64) + (64 * 784 + 784)
    assert (encoder, decoder, encoder + decoder) == (50_500, 51_152, 101_652)
    model = VAE(VAEConfig())
    assert (parameters(model.encoder), parameters(model.decoder), parameters(model)) == (encoder, decoder, 101_652)


def test_number_of_parameters_of_784_200_200_50() -> None:
    encoder = (784 * 200 + 200) + (200 * 200 + 200) + 2 * (200 * 50 + 50)
    decoder = (50 * 200 + 200) + (200 * 200 + 200) + (200 * 784 + 784)
    assert parameters(VAE(VAEConfig.burda2016())) == encoder + decoder


def test_names_of_the_weights_are_those_of_the_first_release() -> None:
    layers = ["encoder.dense.0", "encoder.mean", "encoder.log_var", "decoder.dense.0", "decoder.flat"]
    names = {f"{layer}.{kind}" for layer in layers for kind in ("weight", "bias")}
    assert VAE(VAEConfig()).state_dict().keys() == names
    learnt = VAE(VAEConfig(likelihood="gaussian")).state_dict().keys()
    assert learnt == names | {"log_noise_std"}


def test_the_dense_network_written_out() -> None:
    """In NumPy, from the weights: encoder, both heads, draw, decoder."""
    model, images = model_of(), images_of()
    state = {name: value.numpy() for name, value in model.state_dict().items()}

    def dense(x: np.ndarray, name: str) -> np.ndarray:
        return x @ state[f"{name}.weight"].T + state[f"{name}.bias"]

    hidden = images.numpy().reshape(4, -1)
    for index in (0, 2):
        hidden = np.tanh(dense(hidden, f"encoder.dense.{index}"))
    mean, log_var = dense(hidden, "encoder.mean"), dense(hidden, "encoder.log_var")
    noise = np.random.default_rng(0).normal(size=mean.shape)
    latents = mean + np.exp(log_var) ** 0.5 * noise
    hidden = latents
    for index in (0, 2):
        hidden = np.tanh(dense(hidden, f"decoder.dense.{index}"))
    logits = dense(hidden, "decoder.flat").reshape(4, 2, 4, 4)

    result = model(images, noise=torch.from_numpy(noise))
    expected = (logits, latents, mean, log_var)
    for mine, theirs in zip(result, expected, strict=True):
        np.testing.assert_allclose(mine.detach().numpy(), theirs, **for_dtype(torch.float64))
    decoded = model.decode(torch.from_numpy(latents)).detach().numpy()
    np.testing.assert_allclose(decoded, 1 / (1 + np.exp(-logits)), **for_dtype(torch.float64))
    np.testing.assert_allclose(model.encode(images).detach().numpy(), mean, **for_dtype(torch.float64))


def test_the_convolutional_network_goes_down_and_up_again() -> None:
    model, images = model_of(CONV), images_of(CONV)
    sizes = []
    for block in (*model.encoder.blocks, *model.decoder.blocks):
        block.register_forward_hook(lambda module, given, result: sizes.append(tuple(result.shape[1:])))
    result = model(images)
    assert sizes == [(2, 4, 4), (2, 4, 4), (5, 2, 2), (5, 2, 2), (5, 2, 2), (2, 4, 4), (2, 4, 4), (3, 8, 8)]
    assert result.logits.shape == images.shape
    assert result.latents.shape == (4, 4)


def test_weights_are_glorot_uniform_and_biases_zero() -> None:
    model = VAE(VAEConfig())
    weight = model.decoder.flat.weight
    bound = math.sqrt(6 / (64 + 784))
    assert weight.abs().max() <= bound
    torch.testing.assert_close(weight.std(), torch.tensor(bound / math.sqrt(3)), **named("std_of_20000"))
    assert not any(bias.any() for name, bias in model.named_parameters() if name.endswith("bias"))


def test_encode_and_decode_are_deterministic_and_the_pass_samples_in_evaluation_mode_too() -> None:
    model, images = model_of().eval(), images_of()
    assert torch.equal(model.encode(images), model.encode(images))
    assert not torch.equal(model(images).latents, model(images).latents)
    generators = [torch.Generator().manual_seed(3) for _ in range(2)]
    a, b = (model(images, generator=generator).latents for generator in generators)
    assert torch.equal(a, b)
    decoded = model.decode(a)
    assert ((decoded > 0) & (decoded < 1)).all()


@pytest.mark.parametrize(("sampling", "epsilon_std"), [("log_var", 1.0), ("log_sigma", 0.1), ("log_var", 0.5)])
def test_moments_of_the_latents(sampling: str, epsilon_std: float) -> None:
    model = model_of(sampling=sampling, epsilon_std=epsilon_std)
    mean, output = torch.tensor([[0.5, -1.0, 2.0]]).double(), torch.tensor([[-2.0, 0.0, 1.0]]).double()
    std = epsilon_std * (output.exp() if sampling == "log_sigma" else (output / 2).exp())
    many = Posterior(mean.expand(20_000, 3), output.expand(20_000, 3))
    latents = model.draw_latents(many, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(latents.std(0), std[0], **named("std_of_20000"))
    standard_error = std[0] / len(latents) ** 0.5
    assert ((latents.mean(0) - mean[0]).abs() < 4 * standard_error).all()
    torch.testing.assert_close((model.drawn_log_var(output) / 2).exp(), std, **for_dtype(torch.float64))


def test_the_form_of_the_tutorial_differs_in_the_draw_and_not_in_the_divergence() -> None:
    """Mean plus exp(s) times noise of 0.1, with the same outputs of the encoder, and so the same divergence."""
    usual, tutorial = model_of(), model_of(sampling="log_sigma", epsilon_std=0.1)
    images, noise = images_of(), torch.randn(4, 3, dtype=torch.float64)
    a, b = usual(images, noise=noise), tutorial(images, noise=noise)
    torch.testing.assert_close(b.latents, a.mean + a.log_var.exp() * 0.1 * noise, **for_dtype(torch.float64))
    assert torch.equal(kl_divergence(a.mean, a.log_var), kl_divergence(b.mean, b.log_var))


def test_no_noise_at_all_is_the_mean() -> None:
    model = model_of(epsilon_std=0.0)
    result = model(images_of())
    assert torch.equal(result.latents, result.mean)
    assert (model.drawn_log_var(result.log_var) == -math.inf).all()


def test_gradients_through_the_draw_are_the_analytic_ones() -> None:
    """d/dmean of E[sum z^2] is 2 mean, d/dlog_var is variance; both within the error of 20,000 draws."""
    model = model_of()
    mean = torch.tensor([[0.5, -1.0, 2.0]], dtype=torch.float64, requires_grad=True)
    log_var = torch.tensor([[-2.0, 0.0, 1.0]], dtype=torch.float64, requires_grad=True)
    noise = torch.randn(20_000, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    noise = torch.cat([noise, -noise])
    many = Posterior(mean.expand(40_000, 3), log_var.expand(40_000, 3))
    square = model.draw_latents(many, noise=noise).square().sum(1).mean()
    by_mean, by_log_var = torch.autograd.grad(square, (mean, log_var))
    torch.testing.assert_close(by_mean, 2 * mean.detach(), **for_dtype(torch.float64))  # exact by antithetic draws
    variance = log_var.detach().exp()
    standard_error = variance * (2 / 20_000) ** 0.5  # of a mean of squares of normal draws
    assert ((by_log_var - variance).abs() < 4 * standard_error).all()


@pytest.mark.parametrize("config", [SMALL, CONV.replace(activation="tanh")])
def test_the_bound_is_differentiable_twice_in_the_images(config: VAEConfig) -> None:
    model, images = model_of(config), images_of(config, 2).requires_grad_()
    noise = torch.randn(2, config.latent_dim, dtype=torch.float64)

    def bound(x: Tensor) -> Tensor:
        result = model(x, noise=noise)
        return model.log_likelihood(x, result.logits) - kl_divergence(result.mean, result.log_var, reduction="none")

    assert gradcheck(bound, (images,), fast_mode=True)
    assert gradgradcheck(bound, (images,), fast_mode=True)


@pytest.mark.parametrize("noise_std", [None, 0.3])
def test_likelihoods_are_those_of_torch_distributions(noise_std: float | None) -> None:
    logits = torch.randn(4, 2, 4, 4, dtype=torch.float64)
    images = (images_of() > 0.5).double()
    expected = Bernoulli(logits=logits).log_prob(images).sum((1, 2, 3))
    torch.testing.assert_close(model_of().log_likelihood(images, logits), expected, **for_dtype(torch.float64))
    model, images = model_of(likelihood="gaussian", noise_std=noise_std), images_of()
    if noise_std is None:
        assert model.log_noise_std is not None
        torch.nn.init.constant_(model.log_noise_std, -0.7)
    std = math.exp(-0.7) if noise_std is None else noise_std
    expected = Normal(logits.sigmoid(), std).log_prob(images).sum((1, 2, 3))
    torch.testing.assert_close(model.log_likelihood(images, logits), expected, **for_dtype(torch.float64))


def test_likelihoods_are_the_reconstruction_losses_of_this_library_with_a_minus() -> None:
    logits, images = torch.randn(4, 2, 4, 4, dtype=torch.float64), images_of()
    double = for_dtype(torch.float64)
    losses = {
        "bernoulli": bernoulli(logits, images, logits=True, reduction="none"),
        "gaussian": gaussian(logits.sigmoid(), images, reduction="none"),
    }
    for name, loss in losses.items():
        model = model_of(likelihood=name)  # the learnt deviation begins at 1
        torch.testing.assert_close(model.log_likelihood(images, logits), -loss, **double)


def test_the_learnt_deviation_has_a_gradient_that_vanishes_at_the_root_of_the_mean_square() -> None:
    model, logits, images = model_of(likelihood="gaussian"), torch.zeros(4, 2, 4, 4).double(), images_of()
    assert model.log_noise_std is not None
    best = (images - 0.5).square().mean().sqrt().log().item()
    for offset, sign in ((-0.1, 1), (0.1, -1)):
        torch.nn.init.constant_(model.log_noise_std, best + offset)
        (slope,) = torch.autograd.grad(model.log_likelihood(images, logits).mean(), model.log_noise_std)
        assert slope.sign() == sign


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_likelihood_of_logits_in_low_precision_is_float32(dtype: torch.dtype) -> None:
    logits = torch.randn(4, 2, 4, 4).to(dtype)
    result = model_of(dtype=torch.float32).log_likelihood(images_of(dtype=torch.float32), logits)
    assert result.dtype == torch.float32
    expected = model_of().log_likelihood(images_of(dtype=torch.float32).double(), logits.double())
    torch.testing.assert_close(result.double(), expected, **for_dtype(torch.float32))


@pytest.mark.parametrize("config", [SMALL, CONV])
def test_a_conditional_model_hears_the_labels_on_both_sides(config: VAEConfig) -> None:
    model, images = model_of(config, num_classes=3), images_of(config)
    labels = torch.tensor([0, 1, 2, 1])
    for heard in (model.encode(images, labels), model.decode(torch.zeros(4, config.latent_dim).double(), labels)):
        assert heard.shape[0] == 4
    one_image, one_latent = images[:1].expand(3, -1, -1, -1), torch.zeros(3, config.latent_dim).double()
    codes, decoded = model.encode(one_image, torch.arange(3)), model.decode(one_latent, torch.arange(3))
    for index, other in ((0, 1), (0, 2), (1, 2)):
        assert not torch.allclose(codes[index], codes[other])
        assert not torch.allclose(decoded[index], decoded[other])
    assert model.sample(3, torch.arange(3), seed=0).shape == one_image.shape
    assert model(images, labels.to(torch.uint8)).logits.shape == images.shape


def test_samples_are_decoded_draws_from_the_prior_and_a_function_of_the_seed() -> None:
    model = model_of(dtype=torch.float32)
    samples = model.sample(5, seed=1)
    latents = torch.randn(5, 3, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(samples, model.decode(latents).detach(), **named("exact"))
    assert not samples.requires_grad
    assert not torch.equal(samples, model.sample(5, seed=2))
    assert model.sample(0, seed=0).shape == (0, 2, 4, 4)
    torch.manual_seed(1)
    assert torch.equal(model.sample(5), samples)


@pytest.mark.parametrize("config", [SMALL, CONV])
def test_a_decoder_that_starts_at_an_image_decodes_nearly_that(config: VAEConfig) -> None:
    model = model_of(config)
    with torch.no_grad():
        for weight in model.decoder.parameters():
            weight.zero_()
    mean = images_of(config, 1)[0]
    mean[0, 0, 0] = 0.0 if not config.channels else mean[0, 0, 0]
    model.start_at(mean)
    decoded = model.decode(torch.zeros(1, config.latent_dim).double())[0]
    expected = mean.mean((1, 2), keepdim=True).expand_as(mean) if config.channels else mean.clamp(1e-3, 1 - 1e-3)
    torch.testing.assert_close(decoded, expected, **for_dtype(torch.float64))
    with pytest.raises(ValueError, match="`mean_image` is"):
        model.start_at(mean[:, :1])


def test_what_does_not_fit_is_told() -> None:
    model, images = model_of(), images_of()
    with pytest.raises(ValueError, match=r"`images` is \(4, 2, 4, 3\), but must be \[N, 2, 4, 4\]"):
        model(images[..., :3])
    with pytest.raises(ValueError, match=r"`latents` is \(4, 2\), but must be \[N, 3\]"):
        model.decode(torch.zeros(4, 2).double())
    with pytest.raises(ValueError, match="None: the configuration has no classes"):
        model.encode(images, torch.zeros(4, dtype=torch.int64))
    with pytest.raises(ValueError, match="`logits` is"):
        model.log_likelihood(images, torch.zeros(4, 2, 4, 1))
    conditional = model_of(num_classes=3)
    with pytest.raises(ValueError, match=r"class indices \[N\] from 0 to 2"):
        conditional.encode(images)
    with pytest.raises(ValueError, match=r"`labels` is \(3,\), but must be \[4\]"):
        conditional.encode(images, torch.zeros(3, dtype=torch.int64))
