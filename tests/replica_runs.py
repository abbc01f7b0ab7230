"""Training runs that one process makes alone, or several together; and one of these processes.

    python replica_runs.py JOB OUT      # under RANK, WORLD_SIZE, MASTER_ADDR and MASTER_PORT, as torchrun sets them

Networks are small, and no layer sees more than one image, so that several processes must give what one gives.
"""

import contextlib
import json
import os
import signal
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from ganblocks.data import DatasetBatches
from ganblocks.errors import DistributedError
from ganblocks.functional import gaussian_noise
from ganblocks.layers import Conv2d
from ganblocks.losses import LeCam, gradient_penalty, non_saturating, r1_penalty
from ganblocks.models import dcgan, progan
from ganblocks.models.painting_classifier import PaintingMLP, PaintingMLPConfig
from ganblocks.models.two_head_classifier import TwoHeadClassifier
from ganblocks.models.vae import VAE, VAEConfig
from ganblocks.training import (
    AdaptiveAugmentation,
    AdversarialStep,
    AutoencoderStep,
    ClassifierStep,
    ConstantSchedule,
    ExponentialMovingAverage,
    ProgressiveSchedule,
    StepContext,
    Trainer,
    TwoHeadStep,
    VAEStep,
    joined_processes,
    latent_sampler,
    recipes,
)
from ganblocks.training.guard import FiniteGuard
from ganblocks.training.state import flatten
from ganblocks.training.steps import Step

BATCH, STEPS, SIDE = 8, 5, 8


class Pictures:
    """Sixty-four pictures in float64 with classes; each item moves a little, by Python's and torch's random numbers."""

    def __len__(self) -> int:
        return 64

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        rows = torch.arange(3 * SIDE * SIDE, dtype=torch.float64).view(3, SIDE, SIDE)
        return torch.sin(rows * (index + 1) / 50) + 0.1 * torch.randn((), dtype=torch.float64), index % 4


def networks() -> tuple[nn.Module, nn.Module]:
    """Latents [N, 5] to images, and a critic of the kind that penalties are made for."""
    torch.manual_seed(0)
    generator = nn.Sequential(nn.Linear(5, 3 * SIDE * SIDE), nn.Tanh(), nn.Unflatten(1, (3, SIDE, SIDE)))
    critic = nn.Sequential(
        Conv2d(3, 6, 4, stride=2, padding=1), nn.Softplus(), Conv2d(6, 1, 4), nn.Flatten(0)  # [N]
    )  # fmt: skip
    return generator, critic


def adversarial(dtype: torch.dtype, **options: Any) -> AdversarialStep:
    """A step with Adam, whose eps is so large that it does not blow rounding up, and a moving average."""
    generator, critic = (network.to(dtype) for network in networks())
    settings = {
        "sampler": lambda count, rng: latent_sampler(5)(count, rng).to(dtype),
        "ema": ExponentialMovingAverage(generator, half_life_images=30),
        **options,
    }
    return AdversarialStep(
        generator,
        critic,
        generator_optimizer=torch.optim.Adam(generator.parameters(), betas=(0.0, 0.9), eps=1e-4),
        discriminator_optimizer=torch.optim.Adam(critic.parameters(), betas=(0.0, 0.9), eps=1e-4),
        **settings,
    )


class PenaltyAlone:
    """R1 and nothing else: the last layer's bias gets no gradient."""

    def __init__(self, dtype: torch.dtype) -> None:
        self.critic = networks()[1].to(dtype)
        self.optimizer = torch.optim.Adam(self.critic.parameters())
        self.guard = FiniteGuard(("critic",))
        self.scaler = torch.amp.GradScaler("cpu", enabled=False)

    def __call__(self, images: Tensor, labels: Tensor | None, context: StepContext) -> dict[str, Tensor]:
        penalty = r1_penalty(self.critic, images.to(next(self.critic.parameters()).dtype))
        replicas = context.replicas
        loss = self.guard.update("critic", penalty, self.optimizer, self.scaler, call=1, replicas=replicas)
        return {"penalty": loss}

    def state_dict(self) -> dict[str, Any]:
        """As the protocol wants it."""
        return {"critic": self.critic.state_dict(), "optimizer": self.optimizer.state_dict()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """As the protocol wants it."""
        self.critic.load_state_dict(state["critic"])
        self.optimizer.load_state_dict(state["optimizer"])


def growing(dtype: torch.dtype) -> Step:
    """ProGAN with its average; groups of one image, so that the minibatch statistic crosses none."""
    torch.manual_seed(0)
    config = progan.ProGANConfig.karras2018(8, latent_dim=5, max_channels=4, group_size=1)
    generator, discriminator = progan.Generator(config).to(dtype), progan.Discriminator(config).to(dtype)
    step = recipes.karras2018(start_resolution=4).build_step(generator, discriminator, latent_dim=5)
    sampler = step.sampler
    step.sampler = lambda count, rng: sampler(count, rng).to(dtype)
    return step


def crossing(dtype: torch.dtype, **options: Any) -> Step:
    """ProGAN whose minibatch statistic is taken over groups of four."""
    torch.manual_seed(0)
    config = progan.ProGANConfig.karras2018(8, latent_dim=5, max_channels=4, group_size=4)
    generator, discriminator = progan.Generator(config).to(dtype), progan.Discriminator(config).to(dtype)
    step = recipes.karras2018(start_resolution=4).build_step(generator, discriminator, latent_dim=5, **options)
    sampler = step.sampler
    step.sampler = lambda count, rng: sampler(count, rng).to(dtype)
    return step


def normalizing(dtype: torch.dtype, **options: Any) -> Step:
    """DCGAN: batch normalisation in both networks, and two passes of the discriminator in one update."""
    torch.manual_seed(0)
    config = dcgan.DCGANConfig(resolution=8, image_channels=3, latent_dim=5, base_channels=4)
    generator, discriminator = dcgan.Generator(config).to(dtype), dcgan.Discriminator(config).to(dtype)
    return AdversarialStep(
        generator,
        discriminator,
        generator_optimizer=torch.optim.Adam(generator.parameters(), eps=1e-4),
        discriminator_optimizer=torch.optim.Adam(discriminator.parameters(), eps=1e-4),
        sampler=lambda count, rng: latent_sampler(5)(count, rng).to(dtype),
        loss=non_saturating,
        penalty=None,
        **options,
    )


def autoencoder(dtype: torch.dtype) -> Step:
    """A denoiser, whose noise belongs to its images."""
    torch.manual_seed(0)
    model = nn.Sequential(Conv2d(3, 4, 3, padding=1), nn.Softplus(), Conv2d(4, 3, 3, padding=1)).to(dtype)
    return AutoencoderStep(model, optimizer=torch.optim.Adam(model.parameters()), corruption=gaussian_noise)


def variational(dtype: torch.dtype) -> Step:
    """A VAE with dynamic binarisation."""
    torch.manual_seed(0)
    model = VAE(VAEConfig(resolution=SIDE, image_channels=3, hidden_dims=(7,))).to(dtype)
    return VAEStep(model, optimizer=torch.optim.Adam(model.parameters()), binarize=True)


def classifier(dtype: torch.dtype, **options: Any) -> Step:
    """A classifier of four classes."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(3 * SIDE * SIDE, 4)).to(dtype)
    return ClassifierStep(model, optimizer=torch.optim.Adam(model.parameters()), **options)


def weighted(dtype: torch.dtype) -> Step:
    """Classes of different weight, of which the processes see different shares."""
    weights = torch.tensor([1.0, 5.0, 0.2, 2.0], dtype=dtype)
    return classifier(dtype, class_weights=weights, label_smoothing=0.1)


def two_heads(dtype: torch.dtype) -> Step:
    """Classes and attributes from shared features."""
    torch.manual_seed(0)
    config = PaintingMLPConfig(SIDE, 3, 4, 6)
    model = TwoHeadClassifier(PaintingMLP(config), 2, name="painting_mlp").to(dtype)
    attributes = torch.tensor([[True, False], [True, True], [False, True], [False, False]])
    return TwoHeadStep(model, attributes=attributes, optimizer=torch.optim.Adam(model.parameters()))


def normal_mixing(critic: Any, real: Tensor, fake: Tensor, generator: torch.Generator) -> Tensor:
    return gradient_penalty(critic, real, fake, mixing="normal", generator=generator)


STEPS_BY_NAME: dict[str, Callable[[torch.dtype], Step]] = {
    "wgan_gp": lambda dtype: adversarial(dtype, n_critic=2, drift_weight=1e-3),
    "normal mixing": lambda dtype: adversarial(dtype, penalty=normal_mixing, reuse_fakes=True),
    "augmented": lambda dtype: adversarial(
        dtype,
        loss=non_saturating,
        penalty=None,
        augment=AdaptiveAugmentation(probability=0.5, ramp_images=100, interval=2),
        regularizer=LeCam(),
        consistency_weight=0.0,
    ),
    "penalty alone": PenaltyAlone,
    "progan": growing,
    "autoencoder": autoencoder,
    "vae": variational,
    "classifier": classifier,
    "weighted": weighted,
    "two heads": two_heads,
}


ACROSS_IMAGES: dict[str, Callable[..., Step]] = {"minibatch statistic": crossing, "batch normalisation": normalizing}
"""Steps of networks that compare images with each other: each process sees its own part of them only."""


def schedule_of(name: str) -> Any:
    """Five batches; a growing network is in the middle of its fade at the end."""
    if name not in ("progan", "minibatch statistic"):
        return ConstantSchedule(BATCH * STEPS, BATCH, 1e-2)
    return ProgressiveSchedule.build([4, 8], phase_images=3 * BATCH, batch_sizes=BATCH, learning_rates=1e-2)


def trainer_of(name: str, dtype: torch.dtype, step: Step | None = None, **options: Any) -> Trainer:
    """A run of five batches, ended in the middle of a fade where there is one."""
    batches: Any = DatasetBatches(Pictures())
    if name in ("progan", "minibatch statistic"):
        batches = Resized(batches)
    settings = {"log_images": 2 * BATCH, "total_images": STEPS * BATCH, **options}
    return Trainer(
        step or (STEPS_BY_NAME | ACROSS_IMAGES)[name](dtype), Typed(batches, dtype), schedule_of(name), **settings
    )


class Typed:
    """Batches in another dtype."""

    def __init__(self, batches: Any, dtype: torch.dtype) -> None:
        self.batches, self.dtype = batches, dtype

    def batch(self, images_seen: int, count: int, resolution: int | None) -> tuple[Tensor, Tensor | None]:
        """As `Batches.batch`."""
        images, labels = self.batches.batch(images_seen, count, resolution)
        return images.to(self.dtype), labels


class Resized:
    """Batches at the resolution that is asked for."""

    def __init__(self, batches: Any) -> None:
        self.batches = batches

    def batch(self, images_seen: int, count: int, resolution: int | None) -> tuple[Tensor, Tensor | None]:
        """As `Batches.batch`."""
        images, labels = self.batches.batch(images_seen, count, resolution)
        return images[:, :, :resolution, :resolution], labels


def tensors_of(trainer: Trainer) -> dict[str, Tensor]:
    """Everything that the step would save, by name, and the last values."""
    tensors, _ = flatten({"state": trainer.step.state_dict(), "values": dict(trainer.values)})
    return {name: tensor for name, tensor in tensors.items() if tensor.dtype != torch.uint8}


class At:
    """A callback that does something after so many steps. Callbacks run in the first process only."""

    def __init__(self, steps: int, action: Callable[[Trainer], None]) -> None:
        self.steps, self.action = steps, action

    def on_step(self, trainer: Trainer, previous: int) -> None:
        """Act once."""
        if trainer.steps == self.steps:
            self.action(trainer)

    def __getattr__(self, name: str) -> Any:
        return (lambda *_: {}) if name == "state_dict" else (lambda *_: None)


class Acting:
    """A step that does something of its own at one call, in one process."""

    def __init__(self, step: Any, call: int, rank: int, action: Callable[[Any], None]) -> None:
        self.step, self.call, self.rank, self.action = step, call, rank, action
        self.calls = 0

    def __call__(self, images: Tensor, labels: Tensor | None, context: StepContext) -> dict[str, Tensor]:
        self.calls += 1
        if self.calls == self.call and context.replicas.rank == self.rank:
            self.action(self.step)
        values: dict[str, Tensor] = self.step(images, labels, context)
        return values

    def __getattr__(self, name: str) -> Any:
        return getattr(self.step, name)


def drift(step: Any) -> None:
    with torch.no_grad():
        next(iter(step.discriminator.parameters())).view(-1)[0] += 1e-3


def fail(step: Any) -> None:
    raise ValueError("a picture is broken")


def together(out: Path, rank: int) -> None:
    """What several processes do that must equal one, and what must be refused."""
    for name in STEPS_BY_NAME | ACROSS_IMAGES:
        for dtype in (torch.float64, torch.float32)[: 1 if name in ACROSS_IMAGES else 2]:
            trainer = trainer_of(name, dtype)
            trainer.fit()
            if rank == 0:
                save_file(tensors_of(trainer), out / f"{name} {str(dtype)[-2:]}.safetensors")
    told: dict[str, Any] = {}

    def hurt(step: Any) -> None:
        os.kill(os.getpid(), signal.SIGTERM)

    with contextlib.suppress(DistributedError):
        step = Acting(adversarial(torch.float64), 3, 1, hurt)
        trainer = trainer_of("wgan_gp", torch.float64, step, run_dir=out / "signalled")
        result = trainer.fit()
        told["signalled"] = [result.exit_code, result.images_seen, trainer.run_dir is not None]
    scaled = trainer_of("wgan_gp", torch.float64, callbacks=[At(2, lambda t: setattr(t, "learning_rate_scale", 0.25))])
    scaled.fit()
    told["rate"] = scaled.phase.learning_rate
    for key, make in {
        "drift": lambda: trainer_of("wgan_gp", torch.float64, Acting(adversarial(torch.float64), 2, 1, drift)).fit(),
        "uneven": lambda: Trainer(classifier(torch.float64), Pictures(), ConstantSchedule(14, 7, 1e-3)),
    }.items():
        try:
            make()
        except (DistributedError, ValueError) as error:
            told[key] = f"{type(error).__name__}: {error}"
    print(json.dumps(told))  # only that of the first process is to be seen
    (out / f"told-{rank}.json").write_text(json.dumps(told))


def long_run(out: Path, action: Callable[[Any], None] | None) -> None:
    """A run with checkpoints after each second batch, in which something befalls process 1 before the fifth."""
    step: Any = adversarial(torch.float32, n_critic=2)
    if action is not None:
        step = Acting(step, 5, 1, action)
    trainer = trainer_of("wgan_gp", torch.float32, step, run_dir=out / "run", save_images=2 * BATCH)
    trainer.fit()
    if trainer.run_dir is not None:
        save_file(tensors_of(trainer), out / "end.safetensors")


def main(job: str, out: Path) -> int:
    """Join the others and do the job."""
    torch.set_num_threads(1)
    actions: dict[str, Callable[[Any], None] | None] = {
        "whole": None,
        "killed": lambda step: os.kill(os.getpid(), signal.SIGKILL),
        "failing": fail,
    }
    try:
        with joined_processes(timeout_minutes=1) as replicas:
            if job == "together":
                together(out, replicas.rank)
            else:
                long_run(out, actions[job])
    except (DistributedError, ValueError) as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], Path(sys.argv[2])))
