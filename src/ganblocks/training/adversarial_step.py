"""The science of one batch of a generative adversarial network."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ganblocks._checks import require
from ganblocks._modes import frozen
from ganblocks.functional.image_range import from_uint8
from ganblocks.losses import adversarial
from ganblocks.losses.penalties import drift_penalty
from ganblocks.losses.regularization import consistency
from ganblocks.training.ema import ExponentialMovingAverage
from ganblocks.training.guard import FiniteGuard, applied_norm, finite_buffers
from ganblocks.training.micro_batches import Part, mean_of, parts_of
from ganblocks.training.precision import Precision, set_memory_format
from ganblocks.training.randomness import StepContext, own_randomness
from ganblocks.training.steps import Augmentation, LatentSampler, Penalty, ScoreRegularizer, two_sided_penalty
from ganblocks.training.weights import load_weights, plain_weights

__all__ = ["AdversarialStep"]


class AdversarialStep:
    """One update of a discriminator and, every ``n_critic`` calls, one of a generator.

    Goodfellow et al. 2014, algorithm 1; with the defaults Gulrajani et al. 2017, algorithm 1, one critic step each.

    Args:
        generator: Latents ``[N, Z]`` to images. Called ``generator(latents)``, or ``generator(latents, labels)`` where
            the data has labels and ``conditional`` is set.
        discriminator: Images to scores ``[N]``; called in the same way.
        generator_optimizer: Over the generator's parameters. The learning rate of both optimizers is the phase's, times
            the ``lr_factor`` of a parameter group that has one.
        discriminator_optimizer: Over the discriminator's parameters.
        sampler: Draws latents; see `latent_sampler`.
        loss: A pair of losses of `ganblocks.losses`.
        penalty: Added to the discriminator's loss with ``penalty_weight``; ``None`` for no penalty.
        penalty_weight: Lambda of the gradient penalty; gamma / 2 for R1 and R2.
        drift_weight: Weight of the mean squared score of the reals, 0 for none.
        n_critic: Discriminator updates for each generator update, each on a fresh batch.
        reuse_real_batch: Whether the ``n_critic`` updates of the discriminator, and that of the generator, are all made
            in one call on one batch of reals, with new latents each; the values returned are those of the last.
        reuse_fakes: Whether the generator is updated on the images that the discriminator was just trained on (one
            generator pass less) instead of fresh ones.
        clip_weights: The discriminator's parameters are clamped to this distance from 0 after each of its updates
            (Arjovsky et al. 2017, algorithm 1: 0.01); ``None`` = not.
        log_probabilities: Whether the mean of ``sigmoid(logit)`` is logged too: ``real_probability``,
            ``fake_probability``, and ``fake_probability_after`` in the generator's update.
        log_gradient_norms: Whether the norms of all gradients of each network together are logged too:
            ``discriminator_gradient_norm``, ``generator_gradient_norm``; 0 where float16's scaler left an update out.
        conditional: Whether labels are handed to both networks.
        augment: Every image on its way to the discriminator passes it, in the updates of both networks (Zhao et al.
            2020, section 3); penalties are taken at augmented images. ``None`` = none.
        consistency_weight: Weight of the squared change of the scores of reals and of fakes by ``augment``, added to
            the discriminator's loss (Zhao et al. 2021, algorithm 1; there 10); where it is above 0, the losses see
            images as they are.
        regularizer: Another term of the discriminator's loss, made of the scores; ``None`` = none.
        regularizer_weight: Its weight.
        ema: Moving average of the generator, or ``None``.
        precision: Of the forward passes; ``None`` = float32 on the CPU.
        max_skipped_updates: Updates of each network that may be left out because the loss or a gradient is not finite,
            before the trainer raises `NonFiniteError`; see `ganblocks.training.guard`.
        micro_batch: Images that pass through the networks at once, at most; a larger batch does so in equal parts.
            Statistics of a batch (`MinibatchStd`) are then those of a part. ``None`` = all at once.

    Raises:
        ValueError: If a number is out of range.
    """

    def __init__(
        self,
        generator: nn.Module,
        discriminator: nn.Module,
        *,
        generator_optimizer: torch.optim.Optimizer,
        discriminator_optimizer: torch.optim.Optimizer,
        sampler: LatentSampler,
        loss: adversarial.AdversarialLoss = adversarial.wasserstein,
        penalty: Penalty | None = two_sided_penalty,
        penalty_weight: float = 10.0,
        drift_weight: float = 0.0,
        n_critic: int = 1,
        reuse_real_batch: bool = False,
        reuse_fakes: bool = False,
        clip_weights: float | None = None,
        log_probabilities: bool = False,
        log_gradient_norms: bool = False,
        conditional: bool = False,
        augment: Augmentation | None = None,
        consistency_weight: float = 0.0,
        regularizer: ScoreRegularizer | None = None,
        regularizer_weight: float = 1.0,
        ema: ExponentialMovingAverage | None = None,
        precision: Precision | None = None,
        max_skipped_updates: int = 0,
        micro_batch: int | None = None,
    ) -> None:
        require(n_critic >= 1, "n_critic", n_critic, "at least 1")
        weights = {"penalty_weight": penalty_weight, "drift_weight": drift_weight}
        weights |= {"consistency_weight": consistency_weight, "regularizer_weight": regularizer_weight}
        for name, weight in weights.items():
            require(weight >= 0, name, weight, "0 or more")
        needs = augment is not None or not consistency_weight
        require(needs, "consistency_weight", consistency_weight, "0 without an augmentation to be consistent under")
        require(clip_weights is None or clip_weights > 0, "clip_weights", clip_weights, "above 0, or None")
        require(micro_batch is None or micro_batch >= 1, "micro_batch", micro_batch, "at least 1, or None")
        alone = micro_batch is None or not (reuse_fakes or regularizer)
        require(alone, "micro_batch", micro_batch, "None with reuse_fakes or a regularizer: both need the whole batch")
        self.generator = generator
        self.discriminator = discriminator
        self.generator_optimizer = generator_optimizer
        self.discriminator_optimizer = discriminator_optimizer
        self.sampler = sampler
        self.loss = loss
        self.penalty = penalty
        self.penalty_weight = penalty_weight
        self.drift_weight = drift_weight
        self.n_critic = n_critic
        self.reuse_real_batch = reuse_real_batch
        self.reuse_fakes = reuse_fakes
        self.clip_weights = clip_weights
        self.log_probabilities = log_probabilities
        self.log_gradient_norms = log_gradient_norms
        self.conditional = conditional
        self.augment = augment
        self.consistency_weight = consistency_weight
        self.regularizer = regularizer
        self.regularizer_weight = regularizer_weight
        self.ema = ema
        self.precision: Precision = precision or Precision("fp32", torch.device("cpu"))
        self.calls: int = 0
        self.guard: FiniteGuard = FiniteGuard(("discriminator", "generator"), max_skipped=max_skipped_updates)
        scaling = self.precision.name == "fp16"
        device = self.precision.device.type
        self.generator_scaler: torch.amp.GradScaler = torch.amp.GradScaler(device, enabled=scaling)
        self.discriminator_scaler: torch.amp.GradScaler = torch.amp.GradScaler(device, enabled=scaling)
        self.micro_batch = micro_batch
        self._memory_format: torch.memory_format | None = None

    def __call__(self, images: Tensor, labels: Tensor | None, context: StepContext) -> dict[str, Tensor]:
        """Train on one batch of real images, uint8 or float in [-1, 1].

        Returns:
            ``discriminator_loss``, ``real_score``, ``fake_score``, ``penalty`` (if there is one, without its weight),
            and ``generator_loss`` in the calls that update the generator: 0-d tensors without graph.
        """
        self._prepare(context)
        real = self._real_images(images, context)
        labels = labels.to(real.device) if labels is not None and self.conditional else None
        parts = parts_of(real, labels, context, self.micro_batch)
        updates_generator = self.reuse_real_batch or (self.calls + 1) % self.n_critic == 0
        rounds = self.n_critic if self.reuse_real_batch else 1
        with finite_buffers(self.generator, self.discriminator):
            for round_ in range(rounds):
                kept = self.reuse_fakes and updates_generator and round_ == rounds - 1
                log, fake = self._train_discriminator(parts, context, f"-{round_}" if round_ else "", with_graph=kept)
            if updates_generator:
                log |= self._train_generator(parts, fake if self.reuse_fakes else None, context)
        if updates_generator and self.ema is not None:
            seen = len(real) * context.replicas.count * (1 if self.reuse_real_batch else self.n_critic)
            self.ema.update(self.generator, images=seen)
        self.calls += 1
        return log

    def _train_discriminator(
        self, parts: Sequence[Part], context: StepContext, suffix: str, *, with_graph: bool
    ) -> tuple[dict[str, Tensor], Tensor]:
        """One update; what to log of it, and the fakes of the last part, with their graph on request."""
        logs, seen, fakes = [], [], list[Tensor]()

        def loss_of(number: int) -> Tensor:
            real, labels, context = parts[number]
            with own_randomness(context, self.precision.device, f"networks{suffix}"):
                with torch.set_grad_enabled(with_graph), self.precision.autocast(context.phase.resolution):
                    fake = self._generate(self._latents(len(real), context, f"latents{suffix}"), labels, context)
                loss, log, real_logits = self._discriminator_loss(real, fake.detach(), labels, context, suffix)
            logs.append(log)
            seen.append(real_logits)
            fakes[:] = [fake]
            return loss

        optimizer, scaler = self.discriminator_optimizer, self.discriminator_scaler
        loss = self.guard.update(
            "discriminator", map(loss_of, range(len(parts))), optimizer, scaler,
            call=self.calls + 1, parts=len(parts), replicas=context.replicas,
        )  # fmt: skip
        if self.augment is not None:
            self.augment.observe(context.replicas.gather(torch.cat(seen)))
        if self.clip_weights is not None:
            with torch.no_grad():
                for parameter in self.discriminator.parameters():
                    parameter.clamp_(-self.clip_weights, self.clip_weights)
        log = {"discriminator_loss": loss, **mean_of(logs)}
        if self.log_gradient_norms:
            log["discriminator_gradient_norm"] = applied_norm(optimizer, scaler)
        return log, fakes[0]

    def _discriminator_loss(
        self, real: Tensor, fake: Tensor, labels: Tensor | None, context: StepContext, suffix: str
    ) -> tuple[Tensor, dict[str, Tensor], Tensor]:
        """The loss of some images, what to log of it, and the scores of the reals as they were shown."""
        shown = self._augmented(real, fake, context, suffix)
        if not self.consistency_weight:
            real, fake = shown
        with self.precision.autocast(context.phase.resolution):
            real_logits, fake_logits, extra = self._score_both(real, fake, labels, context)
            loss = self.loss.discriminator_loss(real_logits, fake_logits)
            log = {"real_score": real_logits.detach().float().mean(), "fake_score": fake_logits.detach().float().mean()}
            if self.log_probabilities:
                log |= {"real_probability": _probability(real_logits), "fake_probability": _probability(fake_logits)}
            further, seen = self._regularization(real_logits, fake_logits, shown, labels, context)
            for key, value in (extra | further).items():
                loss = loss + value
                log[f"discriminator_{key}"] = value.detach()
            if self.drift_weight:
                loss = loss + self.drift_weight * drift_penalty(real_logits)
            if self.penalty is not None:
                mixing = context.generator(f"mixing{suffix}")
                penalty = self.penalty(lambda images: self._score(images, labels, context), real, fake, mixing)
                loss = loss + self.penalty_weight * penalty
                log["penalty"] = penalty.detach()
        return loss, log, seen.detach()

    def _train_generator(self, parts: Sequence[Part], fakes: Tensor | None, context: StepContext) -> dict[str, Tensor]:
        """One update, on fakes with a graph if there are some (of the only part), else on new ones."""
        logs = []

        def loss_of(number: int) -> Tensor:
            real, labels, context = parts[number]
            with own_randomness(context, self.precision.device, "generator"):
                fake = fakes
                if fake is None:
                    with self.precision.autocast(context.phase.resolution):
                        fake = self._generate(self._latents(len(real), context, "generator_latents"), labels, context)
                loss, log = self._generator_loss(real, fake, labels, context)
            logs.append(log)
            return loss

        optimizer, scaler = self.generator_optimizer, self.generator_scaler
        with frozen(self.discriminator):
            loss = self.guard.update(
                "generator", map(loss_of, range(len(parts))), optimizer, scaler,
                call=self.calls + 1, parts=len(parts), replicas=context.replicas,
            )  # fmt: skip
        log = {"generator_loss": loss, **mean_of(logs)}
        if self.log_gradient_norms:
            log["generator_gradient_norm"] = applied_norm(optimizer, scaler)
        return log

    def _generator_loss(
        self, real: Tensor, fake: Tensor, labels: Tensor | None, context: StepContext
    ) -> tuple[Tensor, dict[str, Tensor]]:
        with self.precision.autocast(context.phase.resolution):
            if not self.consistency_weight:
                real, fake = self._augmented(real, fake, context, "-generator")
            fake_logits, extra = self._score_fake(fake, labels, context)
            real_logits = None
            if self.loss.generator_needs_real:
                with torch.no_grad():
                    real_logits = self._score(real, labels, context)
            loss = self.loss.generator_loss(real_logits, fake_logits)
            for value in extra.values():
                loss = loss + value
        log = {f"generator_{key}": value.detach() for key, value in extra.items()}
        if self.log_probabilities:
            log["fake_probability_after"] = _probability(fake_logits)
        return loss, log

    def _augmented(self, real: Tensor, fake: Tensor, context: StepContext, suffix: str) -> tuple[Tensor, Tensor]:
        """Both augmented, each in its own way."""
        if self.augment is None:
            return real, fake
        generators = (context.generator(f"augment_{side}{suffix}") for side in ("real", "fake"))
        return self.augment(real, next(generators)), self.augment(fake, next(generators))

    def _regularization(
        self,
        real_logits: Tensor,
        fake_logits: Tensor,
        augmented: tuple[Tensor, Tensor],
        labels: Tensor | None,
        context: StepContext,
    ) -> tuple[dict[str, Tensor], Tensor]:
        """Further terms of the discriminator's loss by name, and the scores of the reals as they were shown."""
        terms: dict[str, Tensor] = {}
        seen = real_logits
        if self.consistency_weight:
            seen, others, _ = self._score_both(*augmented, labels, context)
            change = consistency(real_logits, seen) + consistency(fake_logits, others)
            terms["consistency"] = self.consistency_weight * change
        if self.regularizer is not None:
            gather = context.replicas.gather
            self.regularizer.update(gather(real_logits), gather(fake_logits))
            terms["regularizer"] = self.regularizer_weight * self.regularizer.penalty(real_logits, fake_logits)
        return terms, seen

    # What a network is called with. `ProgressiveStep` overrides these four and `_prepare`.

    def _generate(self, latents: Tensor, labels: Tensor | None, context: StepContext) -> Tensor:
        images: Tensor = self.generator(latents) if labels is None else self.generator(latents, labels)
        return images

    def _score(self, images: Tensor, labels: Tensor | None, context: StepContext) -> Tensor:
        scores: Tensor = self.discriminator(images) if labels is None else self.discriminator(images, labels)
        return scores

    def _score_both(
        self, real: Tensor, fake: Tensor, labels: Tensor | None, context: StepContext
    ) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
        """Scores of reals and fakes, and further terms of the discriminator's loss by name."""
        return self._score(real, labels, context), self._score(fake, labels, context), {}

    def _score_fake(
        self, fake: Tensor, labels: Tensor | None, context: StepContext
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Scores of fakes, and further terms of the generator's loss by name."""
        return self._score(fake, labels, context), {}

    def _prepare(self, context: StepContext) -> None:
        """Bring learning rates and memory format to what the phase says."""
        for optimizer in (self.generator_optimizer, self.discriminator_optimizer):
            for group in optimizer.param_groups:
                group["lr"] = context.phase.learning_rate * group.get("lr_factor", 1.0)
        memory_format = self.precision.memory_format(context.phase.resolution)
        if memory_format != self._memory_format:
            self._memory_format = memory_format
            modules = [self.generator, self.discriminator]
            modules += [] if self.ema is None else [self.ema.module]
            set_memory_format(memory_format, modules, [self.generator_optimizer, self.discriminator_optimizer])

    def _real_images(self, images: Tensor, context: StepContext) -> Tensor:
        images = images.to(self.precision.device, non_blocking=True)
        real = from_uint8(images) if images.dtype == torch.uint8 else images
        if real.dim() == 4 and self._memory_format is not None:
            real = real.contiguous(memory_format=self._memory_format)
        return real

    def _latents(self, count: int, context: StepContext, purpose: str) -> Tensor:
        return context.drawn(purpose, lambda generator: self.sampler(count, generator), self.precision.device)

    def skipped_updates(self) -> int:
        """Updates left out so far because a loss or a gradient was not finite.

        Raises:
            NonFiniteError: If they are more than ``max_skipped_updates`` of one network.
        """
        return self.guard.skipped_updates()

    def state_dict(self) -> dict[str, Any]:
        """Both networks, their optimizers and scalers, the moving average and the number of calls."""
        return {
            "calls": self.calls,
            "guard": self.guard.state_dict(),
            "generator": plain_weights(self.generator),
            "discriminator": plain_weights(self.discriminator),
            "generator_optimizer": self.generator_optimizer.state_dict(),
            "discriminator_optimizer": self.discriminator_optimizer.state_dict(),
            "generator_scaler": self.generator_scaler.state_dict(),
            "discriminator_scaler": self.discriminator_scaler.state_dict(),
            "ema": None if self.ema is None else self.ema.state_dict(),
            "augment": None if self.augment is None else self.augment.state_dict(),
            "regularizer": None if self.regularizer is None else self.regularizer.state_dict(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what `state_dict` gave.

        Raises:
            CheckpointError: If names or shapes of the weights differ.
            ValueError: If one side has a moving average, an augmentation or a regularizer and the other has none.
        """
        parts = {"ema": state["ema"], "augment": state.get("augment"), "regularizer": state.get("regularizer")}
        for name, part in parts.items():
            mine, had = getattr(self, name), part is not None
            require(had == (mine is not None), name, mine, "given if and only if the saved run had one")
        self.calls = int(state["calls"])
        self.guard.load_state_dict(state["guard"])
        load_weights(self.generator, state["generator"])
        load_weights(self.discriminator, state["discriminator"])
        self.generator_optimizer.load_state_dict(state["generator_optimizer"])
        self.discriminator_optimizer.load_state_dict(state["discriminator_optimizer"])
        self.generator_scaler.load_state_dict(state["generator_scaler"])
        self.discriminator_scaler.load_state_dict(state["discriminator_scaler"])
        if self.ema is not None:
            self.ema.load_state_dict(state["ema"])
        if self.augment is not None:
            self.augment.load_state_dict(state["augment"])
        if self.regularizer is not None:
            self.regularizer.load_state_dict(state["regularizer"])
        self._memory_format = None  # the optimizer's state came in the order of the file


def _probability(logits: Tensor) -> Tensor:
    return logits.detach().float().sigmoid().mean()
