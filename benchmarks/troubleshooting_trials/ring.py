"""Games on eight spots on a circle: lost modes, vanishing gradients, runaway scores."""

import math
import warnings
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from ganblocks.data import TensorBatches
from ganblocks.errors import NonFiniteError
from ganblocks.layers import MinibatchStd, spectral_norm
from ganblocks.metrics import sliced_wasserstein_distance
from ganblocks.training import DivergenceWatch, Trainer
from ganblocks.training.callbacks import Callback
from ganblocks.training.gan_recipes import GANRecipe
from troubleshooting_trials.record import Scale, Symptom, Trial
from troubleshooting_trials.runs import clip_gradients, to_the_end

__all__ = ["mode_collapse", "runaway_scores", "spots", "spots_covered", "vanishing_gradient"]

LATENTS, WIDTH, RADIUS, SPREAD = 16, 64, 0.8, 0.02


class Points(nn.Sequential):
    """Latents ``[N, Z]`` to points ``[N, 2]``."""

    def __init__(self) -> None:
        super().__init__(nn.Linear(LATENTS, WIDTH), nn.ReLU(), nn.Linear(WIDTH, WIDTH), nn.ReLU(), nn.Linear(WIDTH, 2))


class Judge(nn.Module):
    """Points ``[N, 2]`` to scores ``[N]``."""

    def __init__(self, *, minibatch_std: bool = False) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Linear(2, WIDTH), nn.LeakyReLU(0.2), nn.Linear(WIDTH, WIDTH), nn.LeakyReLU(0.2)
        )
        self.std = MinibatchStd(group_size=None) if minibatch_std else None
        self.score = nn.Linear(WIDTH + minibatch_std, 1)

    def forward(self, points: Tensor) -> Tensor:
        features = self.features(points)
        if self.std is not None:
            features = self.std(features[:, :, None, None]).flatten(1)
        scores: Tensor = self.score(features).squeeze(1)
        return scores


def spots(count: int, seed: int, *, spread: float = SPREAD) -> Tensor:
    """Points ``[count, 2]`` around eight places on a circle of radius 0.8, in turn."""
    angles = torch.arange(count) % 8 * (math.pi / 4)
    centres = RADIUS * torch.stack([angles.cos(), angles.sin()], 1)
    return centres + spread * torch.randn(count, 2, generator=torch.Generator().manual_seed(seed))


def spots_covered(points: Tensor) -> tuple[int, float]:
    """How many of the eight have at least 1 % of the points nearer than 0.1, and the share of points near to any."""
    distances, nearest = torch.cdist(points, spots(8, 0, spread=0.0)).min(1)
    near = distances < 0.1
    counts = torch.bincount(nearest[near], minlength=8)
    return int((counts >= 0.01 * len(points)).sum()), near.float().mean().item()


class Watched(Callback):
    """Keeps the log."""

    def __init__(self) -> None:
        self.records: list[Mapping[str, Any]] = []

    def on_record(self, trainer: Trainer, record: Mapping[str, Any]) -> None:
        """Keep it."""
        self.records.append(record)


@torch.no_grad()
def sampled(generator: nn.Module) -> Tensor:
    """2048 points, always of the same latents."""
    points: Tensor = generator(torch.randn(2048, LATENTS, generator=torch.Generator().manual_seed(1)))
    return points


def play(
    seed: int,
    steps: int,
    *,
    minibatch_std: bool = False,
    spectral: bool = False,
    slower: float | None = None,
    slower_generator: float | None = None,
    clip_norm: float | None = None,
    ahead: int = 0,
    step_options: Mapping[str, Any] | None = None,
    **fields: Any,
) -> tuple[dict[str, float | None], Watched, str]:
    """Train a pair on the spots for so many updates of the generator.

    Args:
        seed: Of everything.
        steps: Updates of the generator.
        minibatch_std: Whether the discriminator has a `MinibatchStd`.
        spectral: Whether it is spectrally normalised.
        slower: ``lr_factor`` of the discriminator.
        slower_generator: The same of the generator.
        clip_norm: Norm to which the gradients of both are clipped before each update.
        ahead: Updates that the discriminator makes before the generator makes its first.
        step_options: Of `AdversarialStep`.
        **fields: Of `GANRecipe`.

    Returns:
        What was measured at the end, what was seen on the way, and what the library said.
    """
    torch.manual_seed(seed)
    generator, judge = Points(), Judge(minibatch_std=minibatch_std)
    if spectral:
        spectral_norm(judge)
    recipe = GANRecipe(generator_steps=steps, **{"batch_size": 64, "learning_rate": 1e-3, **fields})
    step = recipe.build_step(
        generator,
        judge,
        latent_dim=LATENTS,
        log_probabilities=True,
        log_gradient_norms=True,
        **(step_options or {}),
    )
    for optimizer, factor in (
        (step.discriminator_optimizer, slower),
        (step.generator_optimizer, slower_generator),
    ):
        for group in optimizer.param_groups:
            group["lr_factor"] = 1.0 if factor is None else factor
    if clip_norm is not None:
        for optimizer in (step.generator_optimizer, step.discriminator_optimizer):
            optimizer.register_step_pre_hook(lambda one, *_: clip_gradients(one, clip_norm))
    data = TensorBatches(spots(4096, seed), seed=seed)
    run_ahead(judge, generator, recipe, data, ahead)
    shown = generator if step.ema is None else step.ema.module
    watched = Watched()
    schedule = recipe.schedule(4096)
    separation = None if recipe.loss == "wasserstein" else 5.0
    watch = DivergenceWatch(loss_factor=1e3, separation=separation, patience=3)
    said = ""
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always", RuntimeWarning)
        log_images = max(64, schedule.total_images // 25)
        try:
            to_the_end(Trainer(step, data, schedule, seed=seed, callbacks=[watched, watch], log_images=log_images))
        except NonFiniteError:
            said = "`NonFiniteError`"
    if not said and any("images: " in str(warning.message) for warning in told):
        said = "`DivergenceWatch`"
    points = sampled(shown)
    covered, near = spots_covered(points)
    last = watched.records[-1] if watched.records else {}
    variety = float((points - points.mean(0)).norm(dim=1).mean() / RADIUS)
    found: dict[str, float | None] = {"spots": float(covered), "near": near, "variety": variety}
    found["distance"] = sliced_wasserstein_distance(points, spots(2048, 1), num_directions=64)
    if last:
        found["size"] = max(abs(last["real_score"]), abs(last["fake_score"]))
    return found, watched, said


def run_ahead(judge: nn.Module, generator: nn.Module, recipe: GANRecipe, data: TensorBatches, updates: int) -> None:
    """Let the discriminator learn alone, as happens where a generator is slow or begins anew."""
    optimizer = torch.optim.Adam(judge.parameters(), lr=1e-3)
    for number in range(updates):
        real, _ = data.batch(64 * number, 64, None)
        with torch.no_grad():
            fake = generator(torch.randn(64, LATENTS))
        loss = torch.nn.functional.softplus(-judge(real)).mean() + torch.nn.functional.softplus(judge(fake)).mean()
        optimizer.zero_grad()
        torch.autograd.backward(loss)
        optimizer.step()


def tried(
    scale: Scale, steps: int, trials: Mapping[str, dict[str, Any]], names: tuple[str, ...], **common: Any
) -> list[Trial]:
    """Each trial with each seed."""
    found = []
    for name, options in trials.items():
        values: dict[str, list[float | None]] = {key: [] for key in names}
        words: list[str] = []
        for seed in scale.seeds:
            measured, watched, said = play(seed, scale.steps(steps), **{**common, **options})
            measured |= first_line(watched)
            for key in names:
                values[key].append(measured.get(key))
            words.append(said)
        found.append(Trial(name, values, said=", ".join(sorted({word for word in words if word}))))
    return found


def first_line(watched: Watched) -> dict[str, float | None]:
    """What the log says of the generator's gradients at the beginning."""
    names = {"gradient": "generator_gradient_norm", "fake_probability": "fake_probability"}
    return {key: watched.records[0][name] for key, name in names.items()} if watched.records else {}


SETTING = "Eight spots on a circle as images of two pixels, dense networks of two hidden layers of 64, batches of 64, "


def mode_collapse(scale: Scale) -> Symptom:
    """A common game with a common momentum, which is too much of it."""
    steps = 700
    trials: dict[str, dict[str, Any]] = {
        "as it is: `non_saturating`, rate 0.001, betas (0.9, 0.999)": {},
        "betas (0.5, 0.999)": {"betas": (0.5, 0.999)},
        "betas (0, 0.99)": {"betas": (0.0, 0.99)},
        "`MinibatchStd` in the discriminator": {"minibatch_std": True},
        "R1 and R2, weight 0.05": {"penalty": "r1_r2", "penalty_weight": 0.05},
        "`relativistic`, R1 and R2, betas (0, 0.99)": {
            "loss": "relativistic",
            "penalty": "r1_r2",
            "penalty_weight": 0.05,
            "betas": (0.0, 0.99),
        },
        "`MinibatchStd`, betas (0, 0.99)": {"minibatch_std": True, "betas": (0.0, 0.99)},
    }
    return Symptom(
        "mode_collapse",
        "All samples look alike: mode collapse",
        f"{SETTING}{scale.steps(steps)} updates of each; a spot counts as covered if 1 % of 2048 samples lie there. "
        "Variety is the mean distance of samples from their centre, 1 for the spots themselves.",
        "spots",
        "higher",
        {"variety": "variety", "spots": "spots covered of 8", "near": "samples on a spot"},
        {"variety": ".2f", "spots": ".1f", "near": ".0%"},
        tried(scale, steps, trials, ("variety", "spots", "near"), loss="non_saturating", betas=(0.9, 0.999)),
    )


def vanishing_gradient(scale: Scale) -> Symptom:
    """A discriminator that has learned for a while before the generator begins."""
    steps, ahead = 150, scale.steps(400)
    trials: dict[str, dict[str, Any]] = {
        "as it is: `minimax`": {},
        "`non_saturating`": {"loss": "non_saturating"},
        "`least_squares`": {"loss": "least_squares"},
        "a discriminator ten times slower, `lr_factor`": {"slower": 0.1},
        "R1 and R2, weight 0.05": {"penalty": "r1_r2", "penalty_weight": 0.05},
        "`gradient_penalty`, weight 1": {"penalty_weight": 1.0},
    }
    return Symptom(
        "vanishing_gradient",
        "The discriminator is always right: the generator gets no gradient",
        f"{SETTING}rate 0.001, betas (0.5, 0.999); the discriminator makes {ahead} updates alone, then both make "
        f"{scale.steps(steps)}. Gradient and probability are those of the first line of the log, the distance (sliced "
        "Wasserstein) is that of 2048 samples to the spots at the end.",
        "distance",
        "lower",
        {
            "fake_probability": "`fake_probability`",
            "gradient": "`generator_gradient_norm`",
            "distance": "distance",
        },
        {"fake_probability": ".3f", "gradient": ".2g", "distance": ".3f"},
        tried(
            scale,
            steps,
            trials,
            ("fake_probability", "gradient", "distance"),
            loss="minimax",
            betas=(0.5, 0.999),
            ahead=ahead,
        ),
    )


def runaway_scores(scale: Scale) -> Symptom:
    """A Wasserstein critic that nothing holds, and a generator that cannot follow."""
    steps = 150
    trials: dict[str, dict[str, Any]] = {
        "as it is: `wasserstein` alone": {},
        "`gradient_penalty`, weight 10": {"penalty_weight": 10.0},
        "`spectral_norm`": {"spectral": True},
        "`clip_weights=0.01`": {"clip_weights": 0.01},
        "`drift_weight=0.001`": {"step_options": {"drift_weight": 1e-3}},
        "gradients clipped to norm 1, by a hook": {"clip_norm": 1.0},
    }
    return Symptom(
        "runaway_scores",
        "Scores and losses run away",
        f"{SETTING}betas (0.5, 0.999), {scale.steps(steps)} updates at a rate of 0.005, of the generator at a "
        "thousandth of it; the larger of both mean scores at the end. `DivergenceWatch(loss_factor=1000, "
        "separation=None)`.",
        "size",
        "lower",
        {"size": "size of the scores"},
        {"size": ".2g"},
        tried(
            scale,
            steps,
            trials,
            ("size",),
            loss="wasserstein",
            betas=(0.5, 0.999),
            learning_rate=5e-3,
            slower_generator=1e-3,
        ),
    )
