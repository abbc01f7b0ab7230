"""Training steps as they are written first: what `test_step_costs.py` counts and `test_step_equality.py` compares.

Plain layers of PyTorch, one loss after the other, losses by their formulas. What is counted is no worse than it must
be: Adam is fused, and no gradients by the critic's weights are taken in the update of the generator. At the end stand
the networks that grow to any size, as functions of their weights by name.
"""

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

Round = Callable[[], None]  # every critic update of a recipe and one update of the generator; or one update

Critic = Callable[[Tensor], Tensor]
N, LATENTS, CLASSES = 4, 6, 3


def bytes_of_images(channels: int, side: int) -> Tensor:
    return torch.randint(0, 256, (N, channels, side, side), dtype=torch.uint8)


def plain_adam(network: nn.Module) -> torch.optim.Adam:
    return torch.optim.Adam(network.parameters(), fused=True)


def plain_update(loss: Tensor, network: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    optimizer.zero_grad()
    torch.autograd.backward(loss, inputs=list(network.parameters()))
    optimizer.step()


def no_penalty(critic: Critic, real: Tensor, fake: Tensor) -> Tensor:
    return torch.zeros(())


def squared_norms(critic: Critic, images: Tensor) -> Tensor:
    images = images.detach().requires_grad_()
    (gradient,) = torch.autograd.grad(critic(images).sum(), images, create_graph=True)
    return gradient.square().sum((1, 2, 3))


def plain_gradient_penalty(critic: Critic, real: Tensor, fake: Tensor) -> Tensor:
    weight = torch.rand(N, 1, 1, 1)
    return 10 * (squared_norms(critic, real + weight * (fake - real)).sqrt() - 1).square().mean()


def plain_r1_r2(critic: Critic, real: Tensor, fake: Tensor) -> Tensor:
    return squared_norms(critic, real).mean() + squared_norms(critic, fake).mean()


def plain_wasserstein(real: Tensor, fake: Tensor) -> tuple[Tensor, Tensor]:
    """The losses of the critic and of the generator."""
    return fake.mean() - real.mean(), -fake.mean()


def plain_cross_entropy(real: Tensor, fake: Tensor) -> tuple[Tensor, Tensor]:
    return F.softplus(-real).mean() + F.softplus(fake).mean(), F.softplus(-fake).mean()


def plain_relativistic(real: Tensor, fake: Tensor) -> tuple[Tensor, Tensor]:
    return F.softplus(fake - real).mean(), F.softplus(real - fake).mean()


def plain_gan(
    generator: nn.Module,
    critic: nn.Module,
    images: Tensor,
    losses: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]],
    penalty: Callable[[Critic, Tensor, Tensor], Tensor] = no_penalty,
    *,
    updates: int = 1,
    reuse_fakes: bool = False,
    needs_real: bool = False,
    averages: bool = False,
) -> Round:
    """Algorithm 1 of Gulrajani et al. 2017, one pass of the critic for each kind of images."""
    optimizers = plain_adam(generator), plain_adam(critic)
    average = [weight.detach().clone() for weight in generator.parameters()] if averages else []

    def round_() -> None:
        for _ in range(updates):
            real = images.float() / 127.5 - 1
            fake = generator(torch.randn(N, LATENTS))
            loss, _ = losses(critic(real), critic(fake.detach()))
            plain_update(loss + penalty(critic, real, fake.detach()), critic, optimizers[1])
        fake = fake if reuse_fakes else generator(torch.randn(N, LATENTS))
        scores = critic(fake)
        with torch.no_grad():
            real_scores = critic(real) if needs_real else scores
        plain_update(losses(real_scores, scores)[1], generator, optimizers[0])
        for old, weight in zip(average, generator.parameters(), strict=False):
            old.lerp_(weight.detach(), 0.001)

    return round_


def plain_training(network: nn.Module, loss: Callable[[nn.Module], Tensor]) -> Round:
    optimizer = plain_adam(network)
    return lambda: plain_update(loss(network), network, optimizer)


class Equalised(nn.Module):
    """A layer whose weight is multiplied at every use."""

    def __init__(self, convolve: Callable[..., Tensor], shape: Sequence[int], outputs: int, **options: int) -> None:
        super().__init__()
        self.convolve, self.options, self.scale = convolve, options, 0.2
        self.weight, self.bias = nn.Parameter(torch.randn(*shape)), nn.Parameter(torch.zeros(outputs))

    def forward(self, x: Tensor) -> Tensor:
        return self.convolve(x, self.weight * self.scale, self.bias, **self.options)


def equalised(inputs: int, outputs: int, kernel: int = 3, padding: int = 1) -> Equalised:
    return Equalised(F.conv2d, (outputs, inputs, kernel, kernel), outputs, padding=padding)


class PixelNorm(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x / torch.sqrt(torch.mean(x**2, dim=1, keepdim=True) + 1e-8)


class PlainProGenerator(nn.Module):
    """4 and 8 pixels."""

    def __init__(self, width: int, alpha: float) -> None:
        super().__init__()
        self.alpha = alpha
        project = Equalised(F.conv_transpose2d, (LATENTS, width, 4, 4), width)
        layers: list[nn.Module] = [PixelNorm(), nn.Unflatten(1, (LATENTS, 1, 1)), project]
        layers += [nn.LeakyReLU(0.2), PixelNorm(), equalised(width, width), nn.LeakyReLU(0.2), PixelNorm()]
        self.initial = nn.Sequential(*layers)
        layers = [part for _ in range(2) for part in (equalised(width, width), nn.LeakyReLU(0.2), PixelNorm())]
        self.block = nn.Sequential(*layers)
        self.old, self.new = equalised(width, 3, 1, 0), equalised(width, 3, 1, 0)

    def forward(self, latents: Tensor) -> Tensor:
        features = self.initial(latents)
        images: Tensor = self.new(self.block(F.interpolate(features, scale_factor=2.0)))
        if self.alpha == 1:
            return images
        return self.alpha * images + (1 - self.alpha) * F.interpolate(self.old(features), scale_factor=2.0)


class PlainProCritic(nn.Module):
    def __init__(self, width: int, alpha: float) -> None:
        super().__init__()
        self.alpha = alpha
        self.old, self.new = (nn.Sequential(equalised(3, width, 1, 0), nn.LeakyReLU(0.2)) for _ in range(2))
        layers = [part for _ in range(2) for part in (equalised(width, width), nn.LeakyReLU(0.2))]
        self.block = nn.Sequential(*layers, nn.AvgPool2d(2))
        layers = [equalised(width + 1, width), nn.LeakyReLU(0.2), equalised(width, width, 4, 0), nn.LeakyReLU(0.2)]
        self.final = nn.Sequential(*layers, nn.Flatten(), Equalised(F.linear, (1, width), 1), nn.Flatten(0))

    def forward(self, images: Tensor) -> Tensor:
        features = self.block(self.new(images))
        if self.alpha < 1:
            features = self.alpha * features + (1 - self.alpha) * self.old(F.avg_pool2d(images, 2))
        statistic = (features.var(0, unbiased=False) + 1e-8).sqrt().mean().expand(N, 1, 4, 4)
        scores: Tensor = self.final(torch.cat([features, statistic], dim=1))
        return scores


class Residual(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        layers: list[nn.Module] = [nn.Conv2d(width, 2 * width, 1), nn.LeakyReLU(0.2)]
        layers += [nn.Conv2d(2 * width, 2 * width, 3, padding=1, groups=width // 4), nn.LeakyReLU(0.2)]
        self.branch = nn.Sequential(*layers, nn.Conv2d(2 * width, width, 1, bias=False))

    def forward(self, x: Tensor) -> Tensor:
        return x + self.branch(x)


class Blur(nn.Module):
    """[1, 2, 1] / 4 along both axes."""

    def forward(self, x: Tensor) -> Tensor:
        wide = F.pad(x, (1, 1, 1, 1))
        wide = wide[..., :-2] * 0.25 + wide[..., 1:-1] * 0.5 + wide[..., 2:] * 0.25
        return wide[:, :, :-2] * 0.25 + wide[:, :, 1:-1] * 0.5 + wide[:, :, 2:] * 0.25


class Basis(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.map = nn.Parameter(torch.randn(width, 4, 4))

    def forward(self, scales: Tensor) -> Tensor:
        return scales[:, :, None, None] * self.map


def plain_r3gan(wide: int, narrow: int) -> tuple[nn.Module, nn.Module]:
    up = [nn.Conv2d(wide, narrow, 1, bias=False), nn.Upsample(scale_factor=2), Blur()]
    down = [Blur(), nn.AvgPool2d(2), nn.Conv2d(narrow, wide, 1, bias=False)]
    start = [nn.Linear(LATENTS, wide, bias=False), Basis(wide), Residual(wide)]
    generator = nn.Sequential(*start, *up, Residual(narrow), nn.Conv2d(narrow, 3, 1, bias=False))
    end = [nn.Conv2d(wide, wide, 4, groups=wide, bias=False), nn.Flatten(), nn.Linear(wide, 1, bias=False)]
    first = [nn.Conv2d(3, narrow, 1, bias=False), Residual(narrow)]
    return generator, nn.Sequential(*first, *down, Residual(wide), *end, nn.Flatten(0))


def plain_dcgan(width: int) -> tuple[nn.Module, nn.Module]:
    layers: list[nn.Module] = [nn.Unflatten(1, (LATENTS, 1, 1)), nn.ConvTranspose2d(LATENTS, 2 * width, 7, bias=False)]
    layers += [nn.BatchNorm2d(2 * width), nn.ReLU(True), nn.ConvTranspose2d(2 * width, width, 4, 2, 1, bias=False)]
    layers += [nn.BatchNorm2d(width), nn.ReLU(True), nn.ConvTranspose2d(width, 1, 4, 2, 1, bias=False), nn.Tanh()]
    generator = nn.Sequential(*layers)
    layers = [nn.Conv2d(1, width, 4, 2, 1, bias=False), nn.LeakyReLU(0.2, True)]
    layers += [nn.Conv2d(width, 2 * width, 4, 2, 1, bias=False), nn.BatchNorm2d(2 * width), nn.LeakyReLU(0.2, True)]
    return generator, nn.Sequential(*layers, nn.Conv2d(2 * width, 1, 7, bias=False), nn.Flatten(0))


def plain_wgan_gp(width: int) -> tuple[nn.Module, nn.Module]:
    layers: list[nn.Module] = [nn.Linear(LATENTS, 2 * width * 64), nn.LeakyReLU(0.2, True)]
    layers += [nn.Unflatten(1, (2 * width, 8, 8)), nn.ConvTranspose2d(2 * width, width, 4, 2, 1)]
    layers += [nn.BatchNorm2d(width), nn.LeakyReLU(0.2, True), nn.ConvTranspose2d(width, 3, 3, 1, 1), nn.Tanh()]
    generator = nn.Sequential(*layers)
    layers = [nn.Conv2d(3, width, 4, 2, 1), nn.LeakyReLU(0.2, True), nn.Conv2d(width, 2 * width, 4, 2, 1)]
    end = [nn.LeakyReLU(0.2, True), nn.Flatten(), nn.Linear(32 * width, 1), nn.Flatten(0)]
    return generator, nn.Sequential(*layers, *end)


class PlainVAE(nn.Module):
    generator: torch.Generator | None = None  # of the noise

    def __init__(self, inputs: int, hidden: int) -> None:
        super().__init__()
        self.hidden, self.mean, self.log_var = nn.Linear(inputs, hidden), nn.Linear(hidden, 2), nn.Linear(hidden, 2)
        self.decoder = nn.Sequential(nn.Linear(2, hidden), nn.ReLU(), nn.Linear(hidden, inputs))

    def forward(self, images: Tensor) -> Tensor:
        images = images.flatten(1)
        hidden = self.hidden(images).relu()
        mean, log_var = self.mean(hidden), self.log_var(hidden)
        noise = torch.randn(mean.shape, generator=self.generator)
        logits = self.decoder(mean + torch.exp(0.5 * log_var) * noise)
        kl = -0.5 * (1 + log_var - mean.square() - log_var.exp()).sum()
        loss: Tensor = (F.binary_cross_entropy_with_logits(logits, images, reduction="sum") + kl) / N
        return loss


def plain_classifier(width: int, features: int) -> nn.Module:
    layers: list[nn.Module] = []
    for inputs in (1, width):
        layers += [nn.Conv2d(inputs, width, 3, padding=1, bias=False), nn.MaxPool2d(2), nn.BatchNorm2d(width)]
        layers += [nn.ReLU()]
    layers += [nn.Flatten(), nn.Linear(4 * width, features, bias=False), nn.BatchNorm1d(features), nn.ReLU()]
    return nn.Sequential(*layers, nn.Dropout(0.25), nn.Linear(features, CLASSES))


# Networks that grow (Karras et al. 2018, table 2, and the course text's variant of them)

Weights = dict[str, Tensor]


def scaled_conv(weights: Weights, name: str, x: Tensor, gain: float, padding: int = 1) -> Tensor:
    """Scale the images, convolve, add the bias."""
    weight = weights[f"{name}.weight"]
    scale = gain / math.sqrt(weight[0].numel())
    return F.conv2d(x * scale, weight, padding=padding) + weights[f"{name}.bias"].view(1, -1, 1, 1)


def pixel_norm(x: Tensor) -> Tensor:
    return x / torch.sqrt(torch.mean(x**2, dim=1, keepdim=True) + 1e-8)


def plain_grown_generator(weights: Weights, latents: Tensor, resolution: int, alpha: float, *, paper: bool) -> Tensor:
    gain, linear_gain = math.sqrt(2), 1.0 if paper else math.sqrt(2)
    weight = weights["initial.project.weight"]
    scale = gain / math.sqrt(16 * len(weight)) if paper else 1.0
    x = F.conv_transpose2d(pixel_norm(latents)[:, :, None, None], weight * scale, weights["initial.project.bias"])
    x = F.leaky_relu(x, 0.2)
    x = pixel_norm(x) if paper else x
    x = pixel_norm(F.leaky_relu(scaled_conv(weights, "initial.conv", x, gain), 0.2))
    previous, side = x, 4
    while side < resolution:
        side *= 2
        previous = x = F.interpolate(x, scale_factor=2.0)
        for name in ("conv1", "conv2"):
            x = pixel_norm(F.leaky_relu(scaled_conv(weights, f"blocks.{side}.{name}", x, gain), 0.2))
    images = scaled_conv(weights, f"to_rgb.{side}", x, linear_gain, 0)
    if side > 4 and alpha < 1:
        old = scaled_conv(weights, f"to_rgb.{side // 2}", previous, linear_gain, 0)
        images = alpha * images + (1 - alpha) * old
    return images if paper or side == 4 else torch.tanh(images)


def plain_grown_critic(weights: Weights, images: Tensor, alpha: float, *, paper: bool) -> Tensor:
    gain, side = math.sqrt(2), images.shape[-1]
    x = F.leaky_relu(scaled_conv(weights, f"from_rgb.{side}", images, gain, 0), 0.2)
    fading = side > 4 and alpha < 1
    while side > 4:
        for name in ("conv1", "conv2"):
            x = F.leaky_relu(scaled_conv(weights, f"blocks.{side}.{name}", x, gain), 0.2)
        x = F.avg_pool2d(x, 2)
        side //= 2
        if fading:
            old = scaled_conv(weights, f"from_rgb.{side}", F.avg_pool2d(images, 2), gain, 0)
            x, fading = alpha * x + (1 - alpha) * F.leaky_relu(old, 0.2), False
    x = torch.cat([x, plain_statistic(x, paper=paper)], dim=1)
    x = F.leaky_relu(scaled_conv(weights, "final.conv", x, gain), 0.2)
    x = F.leaky_relu(scaled_conv(weights, "final.dense", x, gain, 0), 0.2).flatten(1)
    weight = weights["final.output.weight"]
    scale = (1.0 if paper else gain) / math.sqrt(weight.shape[1])
    return F.linear(x * scale, weight, weights["final.output.bias"])[:, 0]


def plain_statistic(x: Tensor, *, paper: bool) -> Tensor:
    """A map of the standard deviation: over groups of four, every (N / 4)-th image, or over the whole batch."""
    if not paper:
        return x.std(dim=0).mean().expand(len(x), 1, *x.shape[2:])
    count = len(x) // 4
    groups = [x[first::count] for first in range(count)]
    deviations = [(group.var(dim=0, unbiased=False) + 1e-8).sqrt().mean() for group in groups]
    return torch.stack([deviations[n % count] for n in range(len(x))]).view(-1, 1, 1, 1).expand(-1, 1, *x.shape[2:])
