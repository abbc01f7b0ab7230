"""Fast steps are right: over twenty steps each has the losses of the same step as one writes it first.

The plain steps (`plain_steps`) are ordinary PyTorch in the plain memory format: one pass of the critic for each kind of
images, losses and penalties by their formulas, gradients by everything, unfused Adam. They start from the same weights
and get the same images, latents, noise and mixing weights, drawn from the same generators. Errors are measured against
the largest loss of the run, since losses of critics cross zero.

Then every switch between two ways to the same numbers: each way has the same losses as the other. The last tests break
our steps, a factor or a term at a time, and see the comparison fail.
"""

import contextlib
import dataclasses
import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any
from unittest import mock

import pytest
import torch
from plain_steps import (
    LATENTS,
    Critic,
    PlainVAE,
    plain_cross_entropy,
    plain_dcgan,
    plain_grown_critic,
    plain_grown_generator,
    plain_r3gan,
    plain_relativistic,
    plain_wasserstein,
    plain_wgan_gp,
    squared_norms,
)
from torch import Tensor, nn
from torch.nn import functional as F

from ganblocks import losses, ops
from ganblocks.layers import WSConv2d, WSConvTranspose2d
from ganblocks.models import autoencoder, dcgan, painting_classifier, progan, r3gan, vae, wgan_gp
from ganblocks.training import (
    Phase,
    Precision,
    StepContext,
    adversarial_step,
    autoencoder_recipes,
    gan_recipes,
    painting_recipes,
    recipes,
    vae_recipes,
)
from tolerances import named

STEPS = 20
Losses = dict[str, list[float]]
Optimizer = Callable[[Iterable[Tensor]], torch.optim.Optimizer]


# Runs


@dataclasses.dataclass
class Ours:
    """A step of the library, with what it is called with."""

    step: Any
    phase: Phase
    images: Callable[[int], Tensor]  # of the step of this number
    labels: Tensor | None = None

    def run(self, steps: int = STEPS) -> Losses:
        kept: Losses = {}
        for number in range(steps):
            context = StepContext(0, number, self.phase)
            for key, value in self.step(self.images(number), self.labels, context).items():
                if key.endswith("loss"):
                    kept.setdefault(key, []).append(value.item())
        return kept


Plain = Callable[[int], dict[str, Tensor]]  # losses of the step of this number


@dataclasses.dataclass
class Pair:
    """The same training twice."""

    ours: Ours
    plain: Plain

    def plain_run(self, steps: int = STEPS) -> Losses:
        kept: Losses = {}
        for number in range(steps):
            for key, value in self.plain(number).items():
                kept.setdefault(key, []).append(value.item())
        return kept


def require_equal(found: Losses, expected: Losses, tolerance: str) -> None:
    """Raises AssertionError with the largest error of each loss that is too large."""
    assert found.keys() == expected.keys()
    for key, right in expected.items():
        one, other = (torch.tensor(values, dtype=torch.float64) for values in (found[key], right))
        scale = other.abs().max()
        torch.testing.assert_close(
            one / scale, other / scale, **named(tolerance), msg=lambda text, k=key: f"{k}: {text}"
        )


def drawn(number: int, purpose: str, phase: Phase) -> torch.Generator:
    return StepContext(0, number, phase).generator(purpose)


def drawn_images(count: int, channels: int, side: int) -> Callable[[int], Tensor]:
    """Other bytes in each step."""

    def images(number: int) -> Tensor:
        generator = torch.Generator().manual_seed(number)
        return torch.randint(0, 256, (count, channels, side, side), dtype=torch.uint8, generator=generator)

    return images


def disturb(*networks: nn.Module) -> None:
    """Leave no weight at zero or one, where an error in a factor would not show."""
    with torch.no_grad():
        for network in networks:
            for weight in network.parameters():
                if weight.unique().numel() == 1:
                    weight += 0.1 * torch.randn(weight.shape)


def adam(lr: float, betas: tuple[float, float], eps: float = 1e-8) -> Optimizer:
    return lambda weights: torch.optim.Adam(weights, lr=lr, betas=betas, eps=eps, foreach=False)


def update(loss: Tensor, optimizer: torch.optim.Optimizer) -> Tensor:
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    return loss.detach()


# Adversarial steps


@dataclasses.dataclass
class PlainGAN:
    """Algorithm 1 of Gulrajani et al. 2017; `weights` are those of the generator and those of the critic."""

    generator: Callable[[Tensor], Tensor]
    critic: Critic
    weights: tuple[Sequence[Tensor], Sequence[Tensor]]
    optimizer: Optimizer
    images: Callable[[int], Tensor]
    phase: Phase
    losses: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]
    penalty: Callable[[Critic, Tensor, Tensor, torch.Generator], Tensor] | None = None
    drift: float = 0.0
    updates: int = 1
    reuse_fakes: bool = False
    decay: float | None = None

    def __post_init__(self) -> None:
        self.optimizers = [self.optimizer(weights) for weights in self.weights]
        self.average = [weight.detach().clone() for weight in self.weights[0]]

    def real(self, number: int) -> Tensor:
        return self.images(number) / 127.5 - 1

    def latents(self, number: int, purpose: str) -> Tensor:
        return torch.randn(len(self.images(number)), LATENTS, generator=drawn(number, purpose, self.phase))

    def __call__(self, number: int) -> dict[str, Tensor]:
        real, fake = self.real(number), self.generator(self.latents(number, "latents"))
        scores = self.critic(real)
        loss, _ = self.losses(scores, self.critic(fake.detach()))
        loss = loss + self.drift * scores.square().mean()
        if self.penalty is not None:
            loss = loss + self.penalty(self.critic, real, fake.detach(), drawn(number, "mixing", self.phase))
        log = {"discriminator_loss": update(loss, self.optimizers[1])}
        if (number + 1) % self.updates:
            return log
        if not self.reuse_fakes:
            fake = self.generator(self.latents(number, "generator_latents"))
        _, loss = self.losses(self.critic(real), self.critic(fake))
        log["generator_loss"] = update(loss, self.optimizers[0])
        if self.decay is not None:
            for old, weight in zip(self.average, self.weights[0], strict=True):
                old.copy_(self.decay * old + (1 - self.decay) * weight.detach())
        return log


def penalty_at_mixed(critic: Critic, real: Tensor, fake: Tensor, generator: torch.Generator) -> Tensor:
    weight = torch.rand(len(real), generator=generator).view(-1, 1, 1, 1)
    return 10 * (squared_norms(critic, (1 - weight) * real + weight * fake).sqrt() - 1).square().mean()


def penalty_at_both(critic: Critic, real: Tensor, fake: Tensor, generator: torch.Generator) -> Tensor:
    return 0.5 * (squared_norms(critic, real).mean() + squared_norms(critic, fake).mean())


def blended(real: Tensor, alpha: float) -> Tensor:
    coarse = F.interpolate(F.avg_pool2d(real, 2), scale_factor=2.0)
    return (1 - alpha) * coarse + alpha * real


def trained_copy(network: nn.Module) -> dict[str, Tensor]:
    return {name: weight.detach().clone().requires_grad_() for name, weight in network.named_parameters()}


def progan_pair(preset: str, resolution: int, alpha: float, precision: Precision | None = None) -> Pair:
    """A stage in the middle of its fade, or the first one; 8 images, so that there are two groups.

    The gradient penalty jumps where rounding moves a feature across the bend of a leaky ReLU. At 16 pixels there are
    so many that it happens, and in float32 it is seen; so weights move in smaller steps there than the recipes' 0.001.
    """
    rate = 1e-3 if resolution == 4 or torch.get_default_dtype() == torch.float64 else 5e-5
    paper = preset == "karras2018"
    config = getattr(progan.ProGANConfig, preset)(
        resolution, latent_dim=LATENTS, max_channels=8, base_channels=4 * resolution
    )
    generator, critic = progan.Generator(config), progan.Discriminator(config)
    disturb(generator, critic)
    weights = trained_copy(generator), trained_copy(critic)
    recipe = recipes.karras2018() if paper else recipes.document(start_resolution=4)
    step = recipe.build_step(generator, critic, latent_dim=LATENTS, precision=precision)
    stage = resolution.bit_length() - 3
    phase = Phase(8, rate, resolution=resolution, alpha=alpha, stage=stage, fading=alpha < 1)
    images = drawn_images(8, 3, resolution)
    plain = PlainGAN(
        lambda latents: plain_grown_generator(weights[0], latents, resolution, alpha, paper=paper),
        lambda images: plain_grown_critic(weights[1], images, alpha, paper=paper),
        (list(weights[0].values()), list(weights[1].values())),
        adam(rate, (0.0, 0.99)),
        images,
        phase,
        plain_wasserstein,
        penalty_at_mixed,
        drift=1e-3,
        reuse_fakes=not paper,
        decay=0.999 if paper else None,
    )
    if paper and alpha < 1:
        real = plain.real
        plain.real = lambda number: blended(real(number), alpha)  # type: ignore[method-assign]
    return Pair(Ours(step, phase, images), plain)


def with_weights_of(networks: Sequence[nn.Module], plain: Sequence[nn.Module]) -> None:
    """Give plain networks the weights of ours in their order, but a lone parameter of a generator as the second."""
    for network, other in zip(networks, plain, strict=True):
        given, wanted = list(network.parameters()), list(other.parameters())
        if given[0].shape != wanted[0].shape:
            given[:2] = reversed(given[:2])
        assert [weight.shape for weight in given] == [weight.shape for weight in wanted]
        with torch.no_grad():
            for weight, value in zip(wanted, given, strict=True):
                weight.copy_(value)


def classic_pair(
    networks: tuple[nn.Module, nn.Module],
    plain: tuple[nn.Module, nn.Module],
    recipe: gan_recipes.GANRecipe,
    precision: Precision | None,
    images: Callable[[int], Tensor],
    optimizer: Optimizer,
    losses: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]],
    penalty: Callable[[Critic, Tensor, Tensor, torch.Generator], Tensor] | None = None,
    **options: Any,
) -> Pair:
    disturb(*networks)
    with_weights_of(networks, plain)
    step = recipe.build_step(*networks, latent_dim=LATENTS, precision=precision)
    N, _, _, side = images(0).shape
    phase = Phase(N, recipe.learning_rate, resolution=side)
    weights = list(plain[0].parameters()), list(plain[1].parameters())
    return Pair(
        Ours(step, phase, images), PlainGAN(*plain, weights, optimizer, images, phase, losses, penalty, **options)
    )


def dcgan_pair(precision: Precision | None = None) -> Pair:
    config = dcgan.DCGANConfig.radford2016(latent_dim=LATENTS, base_channels=4)
    return classic_pair(
        (dcgan.Generator(config), dcgan.Discriminator(config)), plain_dcgan(4), gan_recipes.dcgan_document(), precision,
        drawn_images(8, 1, 28), adam(2e-4, (0.5, 0.999)), plain_cross_entropy, reuse_fakes=True,
    )  # fmt: skip


def wgan_gp_pair(precision: Precision | None = None) -> Pair:
    config = wgan_gp.WGANGPConfig(resolution=16, latent_dim=LATENTS, base_channels=4)
    return classic_pair(
        (wgan_gp.Generator(config), wgan_gp.Critic(config)), plain_wgan_gp(4), gan_recipes.gulrajani2017(n_critic=2),
        precision, drawn_images(8, 3, 16), adam(1e-4, (0.0, 0.9)), plain_wasserstein, penalty_at_mixed, updates=2,
    )  # fmt: skip


def r3gan_pair(precision: Precision | None = None) -> Pair:
    config = r3gan.R3GANConfig(8, LATENTS, widths=(16, 8), blocks_per_stage=1, group_size=8)
    return classic_pair(
        (r3gan.Generator(config), r3gan.Discriminator(config)), plain_r3gan(16, 8), gan_recipes.huang2024(), precision,
        drawn_images(8, 3, 8), adam(2e-4, (0.0, 0.99)), plain_relativistic, penalty_at_both,
    )  # fmt: skip


# Steps of a single network


def single_pair(
    step: Any,
    images: Callable[[int], Tensor],
    plain: nn.Module,
    loss: Callable[[int, Phase], Tensor],
    optimizer: Optimizer,
    lr: float,
    labels: Tensor | None = None,
) -> Pair:
    """The loss is asked for by the number of the step and the phase."""
    phase = Phase(len(images(0)), lr)
    made = optimizer(plain.parameters())
    return Pair(Ours(step, phase, images, labels), lambda number: {"loss": update(loss(number, phase), made)})


def autoencoder_pair(precision: Precision | None = None) -> Pair:
    network = autoencoder.DenseAutoencoder(autoencoder.AutoencoderConfig((1, 12, 12), (16, 8)))
    disturb(network)
    step = autoencoder_recipes.document().build_step(network, precision=precision)
    layers: list[nn.Module] = [nn.Flatten(), nn.Linear(144, 16), nn.ReLU(), nn.Linear(16, 8), nn.ReLU()]
    layers += [nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 144), nn.Sigmoid(), nn.Unflatten(1, (1, 12, 12))]
    plain, images = nn.Sequential(*layers), drawn_images(8, 1, 12)
    with_weights_of([network], [plain])

    def loss(number: int, phase: Phase) -> Tensor:
        wanted = images(number) / 255
        return (plain(wanted) - wanted).square().sum((1, 2, 3)).mean()

    return single_pair(step, images, plain, loss, adam(1e-3, (0.9, 0.999), 1e-7), 1e-3)


class PlainDenoiser(nn.Module):
    """Keras's "same": the odd row and column of padding stand at the end, and are cut off there."""

    def __init__(self, first: int, second: int) -> None:
        super().__init__()
        self.down = nn.ModuleList([nn.Conv2d(1, first, 3, 2), nn.Conv2d(first, second, 3, 2)])
        self.up = nn.ModuleList([nn.ConvTranspose2d(second, second, 3, 2), nn.ConvTranspose2d(second, first, 3, 2)])
        self.last = nn.Conv2d(first, 1, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.down:
            x = layer(F.pad(x, (0, 1, 0, 1))).relu()
        for layer in self.up:
            x = layer(x)[:, :, :-1, :-1].relu()
        images: Tensor = self.last(x).sigmoid()
        return images


def denoiser_pair(precision: Precision | None = None) -> Pair:
    network = autoencoder.ConvDenoiser(autoencoder.ConvDenoiserConfig(resolution=16, channels=(8, 4)))
    disturb(network)
    recipe = autoencoder_recipes.denoising_autoencoder()
    plain, images = PlainDenoiser(8, 4), drawn_images(8, 1, 16)

    with_weights_of([network], [plain])
    with torch.no_grad():
        for weight in plain.parameters():
            if weight.dim() == 4:  # ours are turned by 180 degrees, as the images are that they see
                weight.copy_(weight.flip(2, 3))

    def loss(number: int, phase: Phase) -> Tensor:
        wanted = images(number) / 255
        noise = torch.randn(wanted.shape, generator=drawn(number, "corruption", phase))
        return (plain((wanted + 0.2 * noise).clamp(0, 1)) - wanted).square().sum((1, 2, 3)).mean()

    step = recipe.build_step(network, precision=precision)
    return single_pair(step, images, plain, loss, adam(1e-3, (0.9, 0.999), 1e-7), 1e-3)


def vae_pair(precision: Precision | None = None) -> Pair:
    network = vae.VAE(vae.VAEConfig(resolution=12, latent_dim=2, hidden_dims=(16,)))
    disturb(network)
    step = vae_recipes.latent_plane().build_step(network, dataset_images=100, precision=precision)
    plain, images = PlainVAE(144, 16), drawn_images(4, 1, 12)
    with_weights_of([network], [plain])

    def loss(number: int, phase: Phase) -> Tensor:
        plain.generator = drawn(number, "latents", phase)
        value: Tensor = plain(images(number) / 255)
        return value

    return single_pair(step, images, plain, loss, adam(1e-3, (0.9, 0.999), 1e-7), 1e-3)


def painting_pair(precision: Precision | None = None) -> Pair:
    K, widths = 3, (3, 8, 12)
    config = painting_classifier.PaintingCNNConfig(16, 3, K, widths[1:], 10, norm=True, pooling="average", dropout=0.0)
    network = painting_classifier.PaintingCNN(config)
    disturb(network)
    step = painting_recipes.library().build_step(network, precision=precision)
    layers: list[nn.Module] = []
    for inputs, outputs in itertools.pairwise(widths):
        layers += [nn.Conv2d(inputs, outputs, 3, padding=1, bias=False), nn.MaxPool2d(2)]
        layers += [nn.BatchNorm2d(outputs), nn.ReLU()]
    layers += [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(12, 10, bias=False), nn.BatchNorm1d(10), nn.ReLU()]
    plain, images, labels = nn.Sequential(*layers, nn.Linear(10, K)), drawn_images(8, 3, 16), torch.arange(8) % K
    with_weights_of([network], [plain])

    def loss(number: int, phase: Phase) -> Tensor:
        logs = plain(images(number) / 255).log_softmax(1)
        targets = 0.9 * F.one_hot(labels, K) + 0.1 / K
        return -(targets * logs).sum(1).mean()

    def adamw(weights: Iterable[Tensor]) -> torch.optim.Optimizer:
        return torch.optim.AdamW(weights, lr=2e-3, eps=1e-7, weight_decay=0.05, foreach=False)

    return single_pair(step, images, plain, loss, adamw, 2e-3, labels)


PAIRS: dict[str, Callable[..., Pair]] = {
    "progan document 4": lambda precision=None: progan_pair("document", 4, 1.0, precision),
    "progan document 16": lambda precision=None: progan_pair("document", 16, 0.5, precision),
    "progan karras2018 4": lambda precision=None: progan_pair("karras2018", 4, 1.0, precision),
    "progan karras2018 16": lambda precision=None: progan_pair("karras2018", 16, 0.5, precision),
    "dcgan": dcgan_pair,
    "wgan-gp": wgan_gp_pair,
    "r3gan": r3gan_pair,
    "autoencoder": autoencoder_pair,
    "denoising autoencoder": denoiser_pair,
    "vae": vae_pair,
    "painting cnn": painting_pair,
}


@pytest.mark.parametrize("name", PAIRS)
def test_twenty_steps_have_the_losses_of_the_plain_step(name: str) -> None:
    pair = PAIRS[name]()
    require_equal(pair.ours.run(), pair.plain_run(), "twenty_steps_float32")


@pytest.mark.parametrize("name", PAIRS)
def test_in_float64_they_have_its_precision(name: str) -> None:
    """No rounding hides a factor that is nearly right."""
    with default_dtype(torch.float64):
        pair = with_floats(PAIRS[name]())
        require_equal(pair.ours.run(), pair.plain_run(), "twenty_steps_float64")


def with_floats(pair: Pair) -> Pair:
    """Bytes would become images in float32."""
    pixels = pair.ours.images
    pair.ours.images = lambda number: pixels(number) / 127.5 - 1
    return pair


@contextlib.contextmanager
def default_dtype(dtype: torch.dtype) -> Iterator[None]:
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


COARSE_IN_BFLOAT16 = ("progan document 16", "progan karras2018 16", "wgan-gp", "painting cnn")
"""A penalty beside leaky ReLUs that bend, or a batch normalisation over few numbers."""


@pytest.mark.parametrize("name", PAIRS)
def test_in_bfloat16_the_losses_are_those_of_float32_to_its_rounding(name: str) -> None:
    pair = PAIRS[name](Precision("bf16", torch.device("cpu")))
    tolerance = "twenty_steps_coarse_bfloat16" if name in COARSE_IN_BFLOAT16 else "twenty_steps_bfloat16"
    require_equal(pair.ours.run(), pair.plain_run(), tolerance)


def test_the_average_of_the_generator_is_that_of_the_plain_step() -> None:
    with default_dtype(torch.float64):
        pair = with_floats(progan_pair("karras2018", 4, 1.0))
        step, plain = pair.ours.step, pair.plain
        assert isinstance(plain, PlainGAN)
        pair.ours.run(3)
        pair.plain_run(3)
        found = list(step.ema.module.parameters())
        torch.testing.assert_close(found, plain.average, **named("transformed"))


# Switches


def run_with(
    name: str, change: Callable[[Ours], contextlib.AbstractContextManager[Any] | None], steps: int = STEPS
) -> Losses:
    """Losses of our step of that name after a change, or inside of it."""
    torch.manual_seed(0)
    ours = PAIRS[name]().ours
    with change(ours) or contextlib.nullcontext():
        return ours.run(steps)


def as_it_is(ours: Ours) -> None:
    pass


def in_format(memory_format: torch.memory_format) -> Callable[[Ours], contextlib.AbstractContextManager[Any]]:
    return lambda ours: mock.patch.object(Precision, "memory_format", return_value=memory_format)


@pytest.mark.parametrize("name", ["progan document 16", "dcgan", "wgan-gp", "r3gan", "painting cnn"])
def test_both_memory_formats_have_the_same_losses(name: str) -> None:
    last, first = (run_with(name, in_format(layout)) for layout in (torch.channels_last, torch.contiguous_format))
    require_equal(last, first, "twenty_steps_float32")


@pytest.mark.parametrize("name", ["progan karras2018 4", "wgan-gp", "r3gan", "denoising autoencoder"])
def test_convolutions_of_pytorch_have_the_same_losses(name: str) -> None:
    theirs = run_with(name, lambda ours: mock.patch("ganblocks.ops.conv._is_recorded", return_value=False))
    require_equal(run_with(name, as_it_is), theirs, "twenty_steps_float32")


def test_kernels_and_formulas_have_the_same_losses() -> None:
    """Kernels run in Triton's interpreter, which takes its time: three updates of each network."""
    if torch.cuda.is_available():
        pytest.skip("Triton's interpreter is for CPUs")
    pytest.importorskip("triton")
    kernels = run_with("progan karras2018 4", lambda ours: ops.backend("triton"), 3)
    formulas = run_with("progan karras2018 4", lambda ours: ops.backend("reference"), 3)
    require_equal(kernels, formulas, "twenty_steps_float32")


def one_latent_for_both(ours: Ours) -> None:
    """The critic and the generator are trained on images of the same latents."""
    fixed = torch.Generator()
    ours.step.sampler = lambda count, generator: torch.randn(count, LATENTS, generator=fixed.manual_seed(0))


@pytest.mark.parametrize("name", ["progan document 4", "progan document 16"])
def test_fakes_made_anew_from_the_same_latents_have_the_losses_of_those_used_twice(name: str) -> None:
    def made_anew(ours: Ours) -> None:
        one_latent_for_both(ours)
        ours.step.reuse_fakes = False

    require_equal(run_with(name, one_latent_for_both), run_with(name, made_anew), "exact")


@pytest.mark.parametrize("name", ["progan karras2018 16", "dcgan", "wgan-gp", "r3gan"])
def test_a_critic_that_is_not_frozen_and_gradients_by_all_leaves_change_no_loss(name: str) -> None:
    backward = torch.autograd.backward

    @contextlib.contextmanager
    def wasteful(ours: Ours) -> Iterator[None]:
        with (
            mock.patch.object(adversarial_step, "frozen", return_value=contextlib.nullcontext()),
            mock.patch.object(torch.autograd, "backward", lambda loss, inputs=None: backward(loss)),
        ):
            yield

    require_equal(run_with(name, as_it_is), run_with(name, wasteful), "exact")


@pytest.mark.parametrize("name", ["progan document 16", "progan karras2018 16"])
def test_reals_and_fakes_in_one_pass_have_the_losses_of_two(name: str) -> None:
    def apart(ours: Ours) -> None:
        ours.step._one_pass = False

    require_equal(run_with(name, as_it_is), run_with(name, apart), "twenty_steps_float32")


@pytest.mark.parametrize("name", ["progan document 16", "progan karras2018 16"])
def test_features_that_are_computed_again_have_the_losses_of_those_kept(name: str) -> None:
    def anew(ours: Ours) -> None:
        ours.step.generator.recompute_from = ours.step.discriminator.recompute_from = 8

    require_equal(run_with(name, as_it_is), run_with(name, anew), "exact")


# What is broken is noticed


def set_to(**values: Any) -> Callable[[Ours], None]:
    def change(ours: Ours) -> None:
        for name, value in values.items():
            assert getattr(ours.step, name) != value
            setattr(ours.step, name, value)

    return change


def with_option(optimizer: str, **values: Any) -> Callable[[Ours], None]:
    def change(ours: Ours) -> None:
        getattr(ours.step, optimizer).param_groups[0].update(values)

    return change


def with_features_scaled(network: str, factor: float = 1.001) -> Callable[[Ours], None]:
    """The first convolution or dense layer gives a little more than it should."""

    def change(ours: Ours) -> None:
        layers = getattr(ours.step, network).modules()
        first = next(layer for layer in layers if isinstance(layer, LAYERS))
        first.register_forward_hook(lambda layer, given, result: factor * result)

    return change


def r1_alone(ours: Ours) -> None:
    ours.step.penalty = lambda critic, real, fake, generator: 2 * losses.r1_penalty(critic, real)


def at_fakes_mixed_the_other_way(ours: Ours) -> None:
    ours.step.penalty = lambda critic, real, fake, generator: losses.gradient_penalty(
        critic, fake, real, generator=generator
    )


LAYERS = (nn.Conv2d, nn.ConvTranspose2d, nn.Linear, WSConv2d, WSConvTranspose2d)
BROKEN: list[tuple[str, Callable[[Ours], None]]] = [
    ("progan document 4", set_to(drift_weight=0.0)),
    ("progan document 4", with_features_scaled("generator")),
    ("progan document 16", set_to(penalty_weight=9.99)),
    ("progan document 16", set_to(reuse_fakes=False)),
    ("progan karras2018 4", at_fakes_mixed_the_other_way),
    ("progan karras2018 4", with_features_scaled("discriminator")),
    ("progan karras2018 16", set_to(blend_reals=False)),
    ("progan karras2018 16", with_option("generator_optimizer", betas=(0.0, 0.95))),
    ("dcgan", with_option("discriminator_optimizer", betas=(0.4, 0.999))),
    ("dcgan", with_features_scaled("discriminator")),
    ("wgan-gp", set_to(penalty_weight=10.01)),
    ("wgan-gp", set_to(n_critic=1)),
    ("r3gan", r1_alone),
    ("r3gan", with_features_scaled("generator")),
    ("autoencoder", set_to(loss=lambda output, images: 1.001 * losses.squared_error(output, images))),
    ("autoencoder", with_option("optimizer", eps=1e-4)),
    ("denoising autoencoder", set_to(corruption=None)),
    ("vae", set_to(beta=1.001)),
    ("painting cnn", set_to(label_smoothing=0.0)),
    ("painting cnn", with_option("optimizer", weight_decay=0.0)),
]


@pytest.mark.parametrize(("name", "broken"), BROKEN)
def test_a_step_that_is_wrong_is_noticed(name: str, broken: Callable[[Ours], None]) -> None:
    pair = PAIRS[name]()
    broken(pair.ours)
    with pytest.raises(AssertionError):
        require_equal(pair.ours.run(4), pair.plain_run(4), "twenty_steps_float32")
