"""Whole steps as graphs: the bits of the step itself, whatever changes between two calls, and no graph that is wrong.

There is a stand-in for the graph, which obeys its rules (`fake_capture`); the last tests take a real one.
"""

import copy
import dataclasses
import gc
import random
import warnings
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from fake_capture import FakeCapture
from torch import Tensor, nn

from ganblocks.errors import NonFiniteError
from ganblocks.losses import LeCam
from ganblocks.models import wgan_gp
from ganblocks.models.progan import Discriminator, Generator, ProGANConfig
from ganblocks.training import (
    AdaptiveAugmentation,
    Phase,
    Precision,
    ProgressiveSchedule,
    ProgressiveStep,
    StepContext,
    Trainer,
    gan_recipes,
    recipes,
)
from ganblocks.training.distributed import Replicas
from ganblocks.training.graph_state import difference
from ganblocks.training.graphed_step import GraphedStep
from ganblocks.training.state import flatten, unflatten
from tolerances import named

RATE = 2.0**-10
N = 4


@pytest.fixture(autouse=True)
def no_graphs_yet() -> Iterator[None]:
    FakeCapture.made, FakeCapture.allowed = [], ()
    yield
    FakeCapture.made, FakeCapture.allowed = [], ()


def progan_step(
    kind: type[ProgressiveStep] = ProgressiveStep,
    *,
    num_classes: int = 0,
    device: str = "cpu",
    recipe: recipes.ProGANRecipe | None = None,
    **options: Any,
) -> ProgressiveStep:
    torch.manual_seed(0)
    config = ProGANConfig.karras2018(8, latent_dim=6, max_channels=8, num_classes=num_classes)
    networks = Generator(config).to(device), Discriminator(config).to(device)
    step = (recipe or recipes.karras2018(ema_half_life_images=16)).build_step(
        *networks, latent_dim=6, conditional=num_classes > 0, **options
    )
    step.__class__ = kind
    return step


def graphed(step: ProgressiveStep) -> GraphedStep:
    return GraphedStep(step, capture=FakeCapture)


def never_recorded(step: ProgressiveStep, **options: Any) -> GraphedStep:
    eager = GraphedStep(step, **(options or {"capture": FakeCapture}))
    vars(eager)["_switch_on"] = lambda *_: None
    return eager


def phases(slow: int = 1) -> list[Phase]:
    """Some at 4 pixels, a fade that begins at alpha 0, and a hold at 8; alphas and rates are exact in float32."""
    found = []
    for step in range(20 * slow):
        index, rate = step / slow, RATE * 2.0 ** -(step % 3)
        if index < 6:
            found.append(Phase(N, rate, resolution=4))
        elif index < 14:
            alpha = (index - 6) / 8
            found.append(Phase(N, rate, resolution=8, alpha=alpha, stage=1, fading=True))
        else:
            found.append(Phase(N, rate, resolution=8, stage=1))
    return found


def batch(index: int, resolution: int, classes: int = 0) -> tuple[Tensor, Tensor | None]:
    generator = torch.Generator().manual_seed(index)
    images = torch.randint(0, 256, (N, 3, resolution, resolution), dtype=torch.uint8, generator=generator)
    return images, torch.randint(classes, (N,), generator=generator) if classes else None


def run(
    step: Any, start: int = 0, stop: int | None = None, *, classes: int = 0, device: str = "cpu", slow: int = 1
) -> list[dict[str, Tensor]]:
    logs = []
    for index, phase in enumerate(phases(slow)[:stop]):
        if index >= start:
            images, labels = batch(index, phase.resolution or 0, classes)
            logs.append(step(images.to(device), labels, StepContext(7, N * index, phase)))
    return logs


def bits(step: Any, logs: list[dict[str, Tensor]]) -> Any:
    return flatten([step.state_dict(), logs])


def holding(step: Any, count: int, start: int = 0, **phase: Any) -> list[dict[str, Tensor]]:
    """Steps of one kind, at 4 pixels."""
    now = dataclasses.replace(Phase(N, RATE, resolution=4), **phase)
    return [step(*batch(i, now.resolution or 0), StepContext(7, N * i, now)) for i in range(start, start + count)]


FORMS: dict[str, dict[str, Any]] = {
    "as published": {},
    "course text": {"recipe": recipes.document(start_resolution=4, first_alpha=0.0)},
    "two critic updates": {"recipe": recipes.karras2018(n_critic=2, ema_decay=0.9), "log_gradient_norms": True},
    "reused reals": {
        "reuse_real_batch": True,
        "recipe": recipes.karras2018(n_critic=2),
        "log_probabilities": True,
        "clip_weights": 0.5,
    },
    "parts": {"micro_batch": 2},
    "labels": {"num_classes": 3},
    "computed again": {"recipe": recipes.karras2018(recompute_from=8)},
}


@pytest.mark.parametrize("form", FORMS)
def test_twenty_steps_through_a_fade_have_the_bits_of_the_step_itself(form: str) -> None:
    options = FORMS[form]
    shape = {"classes": options.get("num_classes", 0), "slow": 2 if form == "two critic updates" else 1}
    if shape["classes"]:
        FakeCapture.allowed = ("_local_scalar_dense",)  # one_hot looks at labels on CPUs only
    plain, step = progan_step(**options), graphed(progan_step(**options))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        expected, found = run(plain, **shape), run(step, **shape)
    assert difference(bits(plain, expected), bits(step, found)) is None
    used = {(row["resolution"], row["kind"]): row["why"] for row in step.report()}
    assert sum(capture.replays - 3 for capture in FakeCapture.made) >= 9
    assert all(capture.warm_ups == 3 for capture in FakeCapture.made)
    fine = ("three steps agreed with eager in every bit", "its graph was given back", "fewer than 4 calls in a phase")
    assert set(used.values()) <= set(fine)


def test_bfloat16_has_the_bits_of_eager_steps_with_the_same_tensors() -> None:
    """A fade with a number for alpha rounds to bfloat16 once more, so this is not compared with the plain step."""
    precision = Precision("bf16", torch.device("cpu"))
    step, eager = graphed(progan_step(precision=precision)), never_recorded(progan_step(precision=precision))
    assert difference(bits(eager, run(eager)), bits(step, run(step))) is None
    assert len(FakeCapture.made) == 3


def test_a_wasserstein_gan_with_a_generator_every_second_step_has_the_bits_of_the_step_itself() -> None:
    def build() -> Any:
        torch.manual_seed(0)
        config = wgan_gp.WGANGPConfig(16, latent_dim=4, base_channels=4)
        networks = wgan_gp.Generator(config), wgan_gp.Critic(config)
        recipe = gan_recipes.gulrajani2017(n_critic=2, learning_rate=RATE)
        return recipe.build_step(*networks, latent_dim=4)

    FakeCapture.allowed = ("_local_scalar_dense",)  # running statistics are looked at on the host on CPUs only
    plain, step = build(), GraphedStep(build(), capture=FakeCapture)
    logs = [holding(each, 14, resolution=16, learning_rate=RATE) for each in (plain, step)]
    assert difference(bits(plain, logs[0]), bits(step, logs[1])) is None
    assert [row["route"] for row in step.report()] == ["graphed", "graphed"]


def test_numbers_that_float32_rounds_differ_by_that_rounding_only() -> None:
    plain, step = progan_step(), graphed(progan_step())
    logs = []
    for each in (plain, step):
        each_logs = holding(each, 3, learning_rate=0.001)
        each_logs += holding(each, 6, 3, learning_rate=0.001, resolution=8, stage=1, fading=True, alpha=0.3)
        logs.append([float(log["discriminator_loss"]) for log in each_logs])
    assert step.report()[-1]["route"] == "graphed"
    largest = max(map(abs, logs[0]))
    torch.testing.assert_close(
        torch.tensor(logs[1]) / largest, torch.tensor(logs[0]) / largest, **named("twenty_steps_float32")
    )


def test_what_was_returned_stays_when_the_graph_runs_again() -> None:
    step = graphed(progan_step())
    logs = holding(step, 6)
    kept = copy.deepcopy(logs[-1])
    holding(step, 2, 6)
    assert all(torch.equal(kept[key], value) for key, value in logs[-1].items())
    assert len({float(log["discriminator_loss"]) for log in logs}) == 6


# What a graph would have built in


class Baked(ProgressiveStep):
    """Goes on, in a replay, with what it saw while it was recorded."""

    what = ""
    seen: Any = None

    def _kept(self, what: str, value: Any) -> Any:
        if what != self.what:
            return value
        if FakeCapture.now == "recording":
            self.__dict__["_seen"] = value.detach().clone() if isinstance(value, Tensor) else value
        return self.__dict__["_seen"] if FakeCapture.now == "replaying" else value

    def _prepare(self, context: StepContext) -> None:
        rate: Any = context.phase.learning_rate
        phase = dataclasses.replace(context.phase, learning_rate=self._kept("rate", rate))
        super()._prepare(dataclasses.replace(context, phase=phase))

    def _real_images(self, images: Tensor, context: StepContext) -> Tensor:
        return self._kept("images", super()._real_images(images, context))

    def _latents(self, count: int, context: StepContext, purpose: str) -> Tensor:
        return self._kept("latents", super()._latents(count, context, purpose))

    def _generate(self, latents: Tensor, labels: Tensor | None, context: StepContext) -> Tensor:
        alpha: Any = self._kept("alpha", context.phase.alpha)
        return super()._generate(
            latents, labels, dataclasses.replace(context, phase=dataclasses.replace(context.phase, alpha=alpha))
        )

    def _score(self, images: Tensor, labels: Tensor | None, context: StepContext) -> Tensor:
        return super()._score(images, labels, context) * self._kept("position", 1.0 + context.images_seen)


@pytest.mark.parametrize("what", ["alpha", "rate", "images", "latents", "position"])
def test_a_graph_that_has_a_number_built_in_is_never_used(what: str) -> None:
    kind = type("Baked", (Baked,), {"what": what})
    plain, step = progan_step(kind), graphed(progan_step(kind))
    fading = {"resolution": 8, "stage": 1, "fading": True, "alpha": 0.25}
    expected = holding(plain, 7, **fading)
    with pytest.warns(RuntimeWarning, match="without a CUDA graph, since replays differ from eager steps in") as caught:
        found = holding(step, 7, **fading)
    assert len(caught) == 1
    assert difference(bits(plain, expected), bits(step, found)) is None
    (row,) = step.report()
    assert row["route"] == "eager"
    assert "replays differ from eager steps in" in row["why"]
    assert FakeCapture.made[0].released


class Reading(ProgressiveStep):
    def _score(self, images: Tensor, labels: Tensor | None, context: StepContext) -> Tensor:
        scores = super()._score(images, labels, context)
        return scores * (1.0 if scores[0].item() > 0 else 2.0)


class Drawing(ProgressiveStep):
    def _latents(self, count: int, context: StepContext, purpose: str) -> Tensor:
        return super()._latents(count, context, purpose) + torch.rand(count, 6, generator=context.generator("own"))


class Unsteady(ProgressiveStep):
    def _latents(self, count: int, context: StepContext, purpose: str) -> Tensor:
        return super()._latents(count, context, purpose) * random.random()


class Remaking(ProgressiveStep):
    def _prepare(self, context: StepContext) -> None:
        super()._prepare(context)
        for state in self.generator_optimizer.state.values():
            state["exp_avg"] = state["exp_avg"].clone()


class Counting(ProgressiveStep):
    """Has state of its own."""

    def _prepare(self, context: StepContext) -> None:
        super()._prepare(context)
        self.__dict__["_seen"] = self.__dict__.get("_seen", 0) + 1

    def state_dict(self) -> dict[str, Any]:
        return {**super().state_dict(), "seen": self.__dict__.get("_seen", 0)}

    def load_state_dict(self, state: Any) -> None:
        super().load_state_dict(state)
        self.__dict__["_seen"] = state["seen"]


@pytest.mark.parametrize(
    ("kind", "why"),
    [
        (Reading, r"recording failed \(RuntimeError: operation not permitted when stream is capturing: aten._local"),
        (Drawing, r"recording failed \(RuntimeError: operation not permitted when stream is capturing: aten.rand"),
        (Remaking, "the step makes some of its state anew"),
        (Counting, "belongs to the state of the step, but changes in a way that is not known here"),
    ],
)
def test_what_cannot_be_recorded_goes_on_as_it_was_with_one_warning(kind: type[ProgressiveStep], why: str) -> None:
    plain, step = progan_step(kind), graphed(progan_step(kind))
    expected = holding(plain, 7)
    with pytest.warns(RuntimeWarning, match=why) as caught:
        found = holding(step, 7)
    assert len(caught) == 1
    assert difference(bits(plain, expected), bits(step, found)) is None
    assert step.report()[0]["route"] == "eager"
    assert all(capture.released for capture in FakeCapture.made)


def test_steps_that_do_not_repeat_themselves_are_named_as_that() -> None:
    step = graphed(progan_step(Unsteady))
    with pytest.warns(RuntimeWarning, match="eager steps do not repeat themselves"):
        holding(step, 4)


def test_networks_that_draw_are_refused() -> None:
    class Dropping(nn.Module):
        def __init__(self, inner: nn.Module) -> None:
            super().__init__()
            self.inner = inner

        def forward(self, latents: Tensor, labels: Tensor | None, *, resolution: int, alpha: float) -> Tensor:
            return nn.functional.dropout(self.inner(latents, labels, resolution=resolution, alpha=alpha), 0.5)

    inner = progan_step()
    inner.generator = Dropping(inner.generator)
    inner.ema = None
    with pytest.warns(RuntimeWarning, match="draw random numbers of their own"):
        holding(graphed(inner), 4)


def test_several_processes_are_refused() -> None:
    step = graphed(progan_step())

    class Two(Replicas):
        count = 2

    context = StepContext(0, 0, Phase(N, RATE, resolution=4), replicas=Two.__new__(Two))
    holding(step, 3)
    kind = step._kind(batch(0, 4)[0], None, context)
    route = next(iter(step._routes.values()))
    with pytest.warns(RuntimeWarning, match="averaged over several processes"):
        step._switch_on(kind, route, batch(0, 4)[0], None, context)
    assert route.graph is None


# What moves, and what ends


def test_changes_from_outside_are_followed() -> None:
    """New moments, weights that moved, a weight of the loss: the next steps are those of the plain step."""

    def clear(step: Any) -> None:
        step.generator_optimizer.state.clear()

    def move(step: Any) -> None:
        for parameter in step.discriminator.parameters():
            parameter.data = parameter.data.clone()

    def exchange(step: Any) -> None:
        weights = {name: 0.5 * value for name, value in step.ema.module.state_dict().items()}
        step.ema.module.load_state_dict(weights, assign=True)
        step.ema.module.requires_grad_(False)

    def weigh(step: Any) -> None:
        (step.step if isinstance(step, GraphedStep) else step).penalty_weight = 5.0

    def freeze(step: Any) -> None:
        step.generator.initial.conv.weight.requires_grad_(False)

    changes: list[Callable[[Any], None]] = [clear, move, exchange, weigh, freeze]
    plain, step = progan_step(), graphed(progan_step())
    expected, found = holding(plain, 5), holding(step, 5)
    for number, change in enumerate(changes):
        assert step.report()[-1]["route"] == "graphed", change
        for each, logs in ((plain, expected), (step, found)):
            change(each)
            logs += holding(each, 5, 5 * (number + 1))
        assert difference(bits(plain, expected), bits(step, found)) is None, change


def test_a_kind_that_is_rare_is_never_recorded() -> None:
    step = graphed(progan_step())
    holding(step, 3)
    assert FakeCapture.made == []
    assert step.report()[0]["why"].startswith("fewer than 4 calls")


def test_graphs_of_an_old_phase_are_released_with_their_buffers() -> None:
    step = graphed(progan_step())
    run(step, stop=6)
    route = next(iter(step._routes.values()))
    buffers = [weakref.ref(route.images), *(weakref.ref(value) for value in route.outputs.values())]
    assert not FakeCapture.made[0].released
    run(step, 6, 7)
    del route
    gc.collect()
    assert FakeCapture.made[0].released
    assert all(buffer() is None for buffer in buffers)


def test_a_run_that_is_resumed_has_the_bits_of_one_that_is_not() -> None:
    whole, first, second = (graphed(progan_step()) for _ in range(3))
    logs = run(whole)
    run(first, stop=11)
    second.load_state_dict(unflatten(*flatten(first.state_dict())))
    assert difference(bits(whole, logs[11:]), bits(second, run(second, 11))) is None
    plain = progan_step()
    plain.load_state_dict(unflatten(*flatten(first.state_dict())))
    assert difference(bits(whole, logs[11:]), bits(plain, run(plain, 11))) is None
    before = list(FakeCapture.made)
    whole.load_state_dict(unflatten(*flatten(first.state_dict())))
    assert all(capture.released for capture in before[:3])
    assert difference(bits(second, logs[11:]), bits(whole, run(whole, 11))) is None


def test_the_trainer_takes_it_like_any_step() -> None:
    schedule = ProgressiveSchedule.build(
        [4, 8], phase_images=6 * N, batch_sizes=dict.fromkeys((4, 8), N), learning_rates=dict.fromkeys((4, 8), RATE)
    )

    class Noise:
        def batch(self, images_seen: int, count: int, resolution: int | None) -> tuple[Tensor, None]:
            return batch(images_seen, resolution or 0)[0], None

    def trained(step: Any) -> Any:
        trainer = Trainer(step, Noise(), schedule, log_images=N)
        trainer.dry_run()
        assert trainer.fit().finished
        return step

    plain, step = trained(progan_step()), trained(graphed(progan_step()))
    assert len(FakeCapture.made) >= 2
    names = flatten(plain.state_dict())[0].keys()
    assert names == flatten(step.state_dict())[0].keys()
    assert step.ema.updates == plain.ema.updates


def test_updates_that_are_not_finite_are_left_out_and_counted_on_the_device() -> None:
    step = graphed(progan_step(max_skipped_updates=1))
    holding(step, 5)
    before = flatten(step.state_dict())
    images = torch.full((N, 3, 4, 4), torch.nan)
    phase = Phase(N, RATE, resolution=4)
    for index in range(4):  # of another kind, float images
        step(batch(index, 4)[0] / 128.0 - 1, None, StepContext(7, N * index, phase))
    assert [row["route"] for row in step.report()] == ["graphed", "graphed"]
    before = flatten(step.state_dict())
    step(images, None, StepContext(7, 36, phase))
    after = flatten(step.state_dict())
    changed = {name for name, value in after[0].items() if not torch.equal(value, before[0][name])}
    assert not any("discriminator" in name for name in changed)
    assert step.skipped_updates() == 1
    assert step.state_dict()["guard"]["last"]["discriminator"] == 10
    step(images, None, StepContext(7, 40, phase))
    with pytest.raises(NonFiniteError, match="the discriminator was not finite at step 11"):
        step.skipped_updates()


# What is refused at once


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"precision": Precision("fp16", torch.device("cpu"))}, "`precision` is 'fp16'"),
        ({"augment": AdaptiveAugmentation()}, "`augment` is"),
        ({"regularizer": LeCam()}, "`regularizer` is"),
    ],
)
def test_what_reads_numbers_on_the_host_is_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        graphed(progan_step(**change))


def test_optimizers_that_ask_the_host_are_refused() -> None:
    step = progan_step()
    step.generator_optimizer = torch.optim.RMSprop(step.generator.parameters())
    with pytest.raises(ValueError, match="`optimizer` is 'RMSprop', but must be fused"):
        graphed(step)


def test_there_is_no_graph_on_a_cpu_and_none_of_other_steps() -> None:
    with pytest.raises(ValueError, match="`device` is 'cpu', but must be a CUDA device"):
        GraphedStep(progan_step())
    with pytest.raises(TypeError, match="`step` is 'Linear', but must be an AdversarialStep"):
        GraphedStep(nn.Linear(1, 1))  # type: ignore[arg-type]


def test_it_gives_what_the_step_has_and_is_copied_without_graphs() -> None:
    step = graphed(progan_step())
    assert step.generator is step.step.generator
    with pytest.raises(AttributeError, match="nothing_of_that_name"):
        _ = step.nothing_of_that_name
    holding(step, 5)
    twin = copy.deepcopy(step)
    assert twin.report() == []
    assert difference(bits(step, holding(step, 4, 5)), bits(twin, holding(twin, 4, 5))) is None


# With a GPU


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("name", ["fp32", "bf16"])
@pytest.mark.parametrize("form", ["as published", "course text", "two critic updates", "labels"])
def test_a_real_graph_has_the_bits_of_eager_steps(form: str, name: Any) -> None:
    device = torch.device("cuda")
    torch.backends.cudnn.deterministic = True
    try:
        options = {**FORMS[form], "device": "cuda", "precision": Precision(name, device)}
        classes = options.get("num_classes", 0)
        step = GraphedStep(progan_step(**options))
        eager = never_recorded(progan_step(**options), capture=None)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            found = run(step, classes=classes, device="cuda", slow=2)
        expected = run(eager, classes=classes, device="cuda", slow=2)
    finally:
        torch.backends.cudnn.deterministic = False
    assert difference(bits(eager, expected), bits(step, found)) is None
    assert "graphed" in {row["route"] for row in step.report()}
    assert sum(row["replays"] for row in step.report()) >= 9


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_real_recording_that_fails_names_the_cause_and_training_goes_on() -> None:
    step = GraphedStep(progan_step(Reading, device="cuda", precision=Precision("fp32", torch.device("cuda"))))
    with pytest.warns(RuntimeWarning, match="recording failed"):
        logs = holding(step, 8)
    assert step.report()[0]["route"] == "eager"
    assert all(torch.isfinite(log["discriminator_loss"]) for log in logs)
