"""Values that are no numbers, and precisions that lose what a gradient needs."""

import math
import warnings
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from ganblocks import ops
from ganblocks.data import TensorBatches
from ganblocks.errors import NonFiniteError
from ganblocks.functional import from_uint8, minibatch_std, to_uint8
from ganblocks.losses import gradient_penalty, kl_divergence, minimax, non_saturating
from ganblocks.models.dcgan import DCGANConfig, Discriminator, Generator
from ganblocks.models.vae import VAE, VAEConfig
from ganblocks.training import Trainer, evaluate_vae
from ganblocks.training.vae_recipes import VAERecipe
from troubleshooting_trials.drawings import shapes
from troubleshooting_trials.record import Scale, Symptom, Trial
from troubleshooting_trials.runs import clip_gradients, to_the_end

__all__ = ["float16", "formulas", "learning_rate", "second_order", "spoilt_image"]


def finite(value: Tensor, *inputs: Tensor) -> float:
    """1 where a value and its gradients by the inputs are all finite, else 0."""
    gradients = torch.autograd.grad(value, inputs, allow_unused=True)
    return float(all(bool(found.isfinite().all()) for found in (value, *gradients) if found is not None))


def formulas(scale: Scale) -> Symptom:
    """Four formulas as they are often written, where they break, and the library's form of each."""
    del scale
    score = torch.tensor([-200.0, -1.0], requires_grad=True)
    weight = torch.zeros(4, requires_grad=True)  # a critic that is flat, as at the start or with dead units
    real, fake = torch.zeros(2, 4), torch.ones(2, 4)
    alone = torch.randn(1, 3, 4, 4, generator=torch.Generator().manual_seed(0)).requires_grad_()
    half = torch.full((1, 4096), 10.0)
    log_var = torch.full((1, 2), 100.0, requires_grad=True)

    def flat(points: Tensor) -> Tensor:
        return F.relu(points @ weight)

    def by_hand_penalty() -> float:
        points = fake.clone().requires_grad_()
        (slope,) = torch.autograd.grad(flat(points).sum(), points, create_graph=True)
        return finite((slope.square().sum(1).sqrt() - 1).square().mean(), weight)

    def spread_of_one() -> float:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # PyTorch says it, too
            return finite(alone.std(0).mean(), alone)

    def norm_in_half() -> float:
        return float(bool(half.half().square().sum().sqrt().isfinite()))

    def penalty_in_half() -> float:
        slope = half[0, :1].expand(4096).contiguous().requires_grad_()
        with torch.autocast("cpu", torch.float16):
            value = gradient_penalty(
                lambda images: images.flatten(1) @ slope, torch.zeros(1, 4096), torch.ones(1, 4096)
            )
        return finite(value, slope)

    cases: list[tuple[str, Callable[[], float], Callable[[], float]]] = [
        (
            "`log(sigmoid(score))` of -200; `losses.non_saturating`",
            lambda: finite(-score.sigmoid().log().mean(), score),
            lambda: finite(non_saturating.generator_loss(None, score), score),
        ),
        (
            "`sqrt(sum(g * g))` of a gradient of 0; `losses.gradient_penalty`",
            by_hand_penalty,
            lambda: finite(gradient_penalty(flat, real, fake), weight),
        ),
        (
            "`x.std(0)` of a batch of one; `layers.MinibatchStd`",
            spread_of_one,
            lambda: finite(minibatch_std(alone).sum(), alone),
        ),
        ("norm of 4096 slopes of 10 in float16; `losses.gradient_penalty` there", norm_in_half, penalty_in_half),
        (
            "`exp(log_var)` of 100; `losses.kl_divergence`",
            lambda: finite((log_var.exp() - log_var).sum(), log_var),
            lambda: finite(kl_divergence(torch.zeros(1, 2), log_var), log_var),
        ),
    ]
    trials = [Trial(name, {"by_hand": [hand()], "library": [ours()]}) for name, hand, ours in cases]
    return Symptom(
        "formulas",
        "A formula of one's own gives NaN",
        "Value and gradient where the formula is hard; 1 = both finite, 0 = one is not.",
        "",
        "higher",
        {"by_hand": "written by hand", "library": "ours"},
        {"by_hand": ".0f", "library": ".0f"},
        trials,
    )


def learning_rate(scale: Scale) -> Symptom:
    """A variational autoencoder whose steps are too large."""
    count = 512 if scale.share == 1 else 64
    images, held_out = shapes(count), shapes(256, start=4096)
    epochs = scale.steps(12)
    gaussian: dict[str, Any] = {"likelihood": "gaussian", "noise_std": 0.1}

    def run(
        seed: int, *, rate: float = 1.0, clip: float | None = None, tolerate: int = 0, **fields: Any
    ) -> tuple[dict[str, float | None], str]:
        torch.manual_seed(seed)
        model = VAE(VAEConfig(resolution=16, latent_dim=8, hidden_dims=(128,), **gaussian))
        recipe = VAERecipe(epochs=epochs, batch_size=32, learning_rate=rate, **fields)
        step = recipe.build_step(model, dataset_images=count)
        step.guard.max_skipped = tolerate
        before = evaluate_vae(model, held_out)["val_loss"]
        if clip is not None:
            step.optimizer.register_step_pre_hook(lambda one, *_: clip_gradients(one, clip))
        try:
            to_the_end(
                Trainer(step, TensorBatches(images, seed=seed), recipe.schedule(count), seed=seed, log_images=64)
            )
            said, ended = "", 1.0
        except NonFiniteError:
            said, ended = "`NonFiniteError`", 0.0
        loss = evaluate_vae(model, held_out)["val_loss"]
        learned = float(ended and loss < before)
        skipped = sum(int(number) for number in step.guard.state_dict()["skipped"].values())
        return {"learned": learned, "skipped": float(skipped), "loss": loss if math.isfinite(loss) else None}, said

    tried: dict[str, dict[str, Any]] = {
        "as it is, rate 1": {},
        "`max_skipped_updates=1000`": {"tolerate": 1000},
        "gradients clipped to norm 1, by a hook": {"clip": 1.0},
        "rate 0.03": {"rate": 0.03},
        "rate 0.003": {"rate": 0.003},
        "rate 1 after a warm-up, falling": {"decay": "cosine", "warmup": 0.3},
    }
    trials = []
    for name, options in tried.items():
        results = [run(seed, **options) for seed in scale.seeds]
        values = {key: [measured[key] for measured, _ in results] for key in ("learned", "skipped", "loss")}
        trials.append(Trial(name, values, said=", ".join(sorted({said for _, said in results if said}))))
    return Symptom(
        "learning_rate",
        "NaN or infinity: the steps are too large",
        f"A VAE (Gaussian, standard deviation 0.1) on {count} drawn shapes of 16x16, {epochs} epochs, Adam.",
        "loss",
        "lower",
        {
            "learned": "ended better than it began",
            "skipped": "updates left out",
            "loss": "bound, unseen images, nats",
        },
        {"learned": ".2f", "skipped": ".0f", "loss": ",.0f"},
        trials,
    )


def spoilt_image(scale: Scale) -> Symptom:
    """One image of a data set in floats holds a NaN."""
    images = from_uint8(shapes(256 if scale.share == 1 else 64))
    images[5, 0, 3, 3] = math.nan
    epochs = 4

    def run(name: str, data: Tensor, tolerate: int = 0) -> Trial:
        torch.manual_seed(0)
        model = VAE(VAEConfig(resolution=16, latent_dim=4, hidden_dims=(32,)))
        recipe = VAERecipe(epochs=epochs, batch_size=32)
        step = recipe.build_step(model, dataset_images=len(data))
        step.guard.max_skipped = tolerate
        said = ""
        try:
            to_the_end(Trainer(step, TensorBatches(data), recipe.schedule(len(data)), log_images=32))
        except NonFiniteError:
            said = "`NonFiniteError`"
        intact = all(bool(parameter.isfinite().all()) for parameter in model.parameters())
        return Trial(name, {"ended": [float(not said)], "intact": [float(intact)]}, said)

    trials = [
        run("as it is", images),
        run("`max_skipped_updates` of an update an epoch", images, epochs),
        run("the images as bytes, by `to_uint8`", to_uint8(images)),
        run("the image left out", torch.cat([images[:5], images[6:]])),
    ]
    return Symptom(
        "spoilt_image",
        "NaN: one image is spoilt",
        f"One NaN in one of {len(images)} images in floats, {epochs} epochs of a VAE.",
        "ended",
        "higher",
        {"ended": "ran to its end", "intact": "weights finite"},
        {"ended": ".0f", "intact": ".0f"},
        trials,
    )


def error(found: list[Tensor], truth: list[Tensor]) -> float:
    """Distance of gradients to the true ones, as a share of their size."""
    flat, exact = (torch.cat([one.double().flatten() for one in several]) for several in (found, truth))
    return float((flat - exact).norm() / exact.norm())


def float16(scale: Scale) -> Symptom:
    """The generator's gradient in float16, where the discriminator is sure of the fakes."""
    config = DCGANConfig.radford2016(28, base_channels=16 if scale.share == 1 else 8)

    def gradients(seed: int, dtype: torch.dtype | None, scaled: float = 1.0, wide: bool = False) -> list[Tensor]:
        torch.manual_seed(seed)
        generator, judge = Generator(config), Discriminator(config)
        latents = torch.randn(16, config.latent_dim)
        if wide:
            generator, judge, latents = generator.double(), judge.double(), latents.double()
        with torch.autocast("cpu", dtype, enabled=dtype is not None):
            scores = judge(generator(latents)) - 10.0  # a probability of 0.00005
            loss = minimax.generator_loss(None, scores)
        found = torch.autograd.grad(loss * scaled, list(generator.parameters()))
        return [gradient / scaled for gradient in found]

    tried: dict[str, dict[str, Any]] = {
        "float16, by autocast alone": {"dtype": torch.float16},
        "float16 with a scale of 65536, as `Precision` fp16 begins": {"dtype": torch.float16, "scaled": 65536.0},
        "bfloat16": {"dtype": torch.bfloat16},
        "float32": {"dtype": None},
    }
    trials = []
    for name, options in tried.items():
        values: dict[str, list[float | None]] = {"zero": [], "error": []}
        for seed in scale.seeds:
            exact = gradients(seed, None, wide=True)
            found = gradients(seed, **options)
            there = torch.cat([one.flatten() for one in exact]) != 0
            lost = torch.cat([one.flatten() for one in found])[there] == 0
            values["zero"].append(lost.float().mean().item())
            values["error"].append(error(found, exact))
        trials.append(Trial(name, values))
    return Symptom(
        "float16",
        "Precision: float16 learns nothing",
        "The generator's gradient of a DCGAN at 28x28, minimax, with fakes that are given a probability of 0.00005, "
        "against the same in float64.",
        "error",
        "lower",
        {"zero": "gradients lost to 0", "error": "error of the gradient"},
        {"zero": ".1%", "error": ".2g"},
        trials,
    )


def second_order(scale: Scale) -> Symptom:
    """The gradient of a gradient penalty by the weights of two convolutions in bfloat16."""
    fields: dict[str, Any] = {
        "key": "second_order",
        "title": "Precision: a penalty trains with wrong gradients in bfloat16",
        "setting": "The gradient of WGAN-GP's penalty by the weights of two 3x3 convolutions of 32 channels, 8 images "
        "of 16x16, under autocast to bfloat16, against float64.",
        "judged_by": "error",
        "better": "lower",
        "units": {"error": "error of the gradient"},
        "digits": {"error": ".2g"},
    }
    if not torch.cpu._is_amx_tile_supported():
        return Symptom(
            **fields, trials=[], left_out="PyTorch is wrong on CPUs with matrix tiles (AMX) only, and this has none."
        )

    def gradients(seed: int, convolve: Callable[..., Tensor], *, low: bool, wide: bool = False) -> list[Tensor]:
        torch.manual_seed(seed)
        dtype = torch.float64 if wide else torch.float32
        first, second = (torch.randn(32, channels, 3, 3).to(dtype) / 12 for channels in (3, 32))
        real, fake = (torch.randn(8, 3, 16, 16).to(dtype) for _ in range(2))
        weights = [first.requires_grad_(), second.requires_grad_()]

        def critic(images: Tensor) -> Tensor:
            hidden = F.leaky_relu(convolve(images, weights[0], padding=1), 0.2)
            return convolve(hidden, weights[1], padding=1).square().mean((1, 2, 3)) * 100

        with torch.autocast("cpu", torch.bfloat16, enabled=low):
            penalty = gradient_penalty(critic, real, fake, mixing=torch.full((8,), 0.5, dtype=dtype))
        return list(torch.autograd.grad(penalty, weights))

    forms: list[tuple[str, Callable[..., Tensor], bool]] = [
        ("`torch.nn.functional.conv2d`, bfloat16", F.conv2d, True),
        ("`ganblocks.ops.conv2d` (all layers here), bfloat16", ops.conv2d, True),
        ("`torch.nn.functional.conv2d`, float32", F.conv2d, False),
    ]
    trials = []
    for name, convolve, low in forms:
        found: list[float | None] = [
            error(gradients(seed, convolve, low=low), gradients(seed, F.conv2d, low=False, wide=True))
            for seed in scale.seeds
        ]
        trials.append(Trial(name, {"error": found}))
    return Symptom(**fields, trials=trials)
