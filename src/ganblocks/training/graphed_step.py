"""A whole adversarial training step as one CUDA graph: both updates, penalties, moments and the moving average.

Small images leave a GPU idle while Python launches hundreds of kernels a step; a graph launches them all at once.
"""

import contextlib
import copy
import dataclasses
import warnings
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ganblocks._checks import require
from ganblocks.training.adversarial_step import AdversarialStep
from ganblocks.training.graph_capture import Capture, CudaCapture, Outputs, first_error
from ganblocks.training.graph_state import StepState, difference
from ganblocks.training.guard import decides_itself
from ganblocks.training.randomness import StepContext, derived_seed
from ganblocks.training.schedule import Phase
from ganblocks.training.state import unflatten
from ganblocks.training.static_draws import DrawTape, TapedContext, copy_to

__all__ = ["GraphedStep"]

_EAGER_CALLS = (
    3  # of each kind come first: moments are made, kernels compiled, and a kind that is rare is never captured
)
_WARM_UPS = 3
_TRIALS = 3
_TARGET = "a CUDA device: a graph is nothing elsewhere, use the step as it is"


class _Kind(NamedTuple):
    """All that decides which kernels a step launches and which numbers are built into them."""

    stage: int
    resolution: int | None
    fading: bool
    alpha: float | None  # exactly 0 and 1 are other networks; None = read from the device
    images: tuple[torch.Size, torch.dtype]
    labels: tuple[torch.Size, torch.dtype] | None
    updates_generator: bool
    replicas: int
    training: tuple[bool, bool]
    settings: tuple[object, ...]

    def __str__(self) -> str:
        fading = ", fading" if self.fading else ""
        alone = "" if self.updates_generator else ", discriminator only"
        return f"batches of {tuple(self.images[0])} in stage {self.stage}{fading}{alone}"


class _Route:
    """How steps of one kind run: eagerly, or by a graph with the tensors that it reads and writes."""

    def __init__(self) -> None:
        self.calls = 0
        self.replays = 0
        self.refusal: str | None = None
        self.graph: Capture | None = None
        self.images: Tensor | None = None
        self.labels: Tensor | None = None
        self.tape: DrawTape | None = None
        self.outputs: Outputs = {}
        self.places: tuple[list[int], list[bool]] = ([], [])
        self.advance = (0, 0)

    def release(self) -> None:
        """Forget the graph, and count from the start."""
        if self.graph is not None:
            self.graph.release()
        self.calls = 0
        self.graph = self.images = self.labels = self.tape = None
        self.outputs = {}
        self.places = ([], [])

    def why(self) -> str:
        """Why it runs as it does."""
        if self.graph is not None:
            return "three steps agreed with eager in every bit"
        if self.refusal is not None:
            return self.refusal
        return "its graph was given back" if self.replays else f"fewer than {_EAGER_CALLS + 1} calls in a phase"


class _RefusalError(Exception):
    """A graph of this step would be wrong."""


class GraphedStep:
    """Runs an `AdversarialStep` on a GPU as CUDA graphs, one for each kind of step, with the bits of the step itself.

    The first three calls of a kind (stage, fade or hold, shape of the batch, with or without update of the generator)
    run as ever. Then the whole step is recorded, after three more on a side stream that leave no trace. Before a graph
    is used, three steps run both ways from one state, with three alphas, learning rates and seeds: unless weights,
    moments, averages and logged values agree in every bit, that kind goes on without a graph, as it does if recording
    fails. Each refusal is a `RuntimeWarning` that names the reason, once; `report` lists what became of each kind.

    Alpha and learning rate are tensors on the device, with and without graph, so they are rounded to float32. Where
    they are exact in it (0.001 is not) all results are those of the step without this class; else they differ by that
    rounding. Random numbers are those of the step in any case, see `ganblocks.training.static_draws`. A run may be
    resumed with or without graphs; with them it has the same bits as without interruption.

    Graphs hold memory of their own, about as much as a step takes. It is given back when a stage or a fade ends. What
    a graph cannot follow is noticed before it is used: new moments, weights that moved, loaded states, and other values
    of a number that the step, its average or an optimizer holds as an attribute.

    Args:
        step: The step. It may be asked for anything through this object (``graphed.generator``).
        capture: Makes what records and replays, for tests; ``None`` = `CudaCapture`.

    Attributes:
        step: As given.

    Raises:
        TypeError: If the step is no `AdversarialStep`.
        ValueError: If it does not run on a CUDA device; if it must read numbers on the host: with precision fp16 (its
            scaler does), optimizers that are not fused, an augmentation or a regularizer.
    """

    def __init__(self, step: AdversarialStep, *, capture: Callable[[torch.device], Capture] | None = None) -> None:
        require(isinstance(step, AdversarialStep), "step", type(step).__name__, "an AdversarialStep", TypeError)
        device = step.precision.device
        require(capture is not None or device.type == "cuda", "device", str(device), _TARGET)
        require(step.precision.name != "fp16", "precision", "fp16", "bf16 or fp32: its gradient scaler reads numbers")
        for name in ("augment", "regularizer"):
            value = getattr(step, name)
            require(value is None, name, value, "None: what it learns from scores is not part of a graph")
        for optimizer in (step.generator_optimizer, step.discriminator_optimizer):
            fused, name = decides_itself(optimizer), type(optimizer).__name__
            require(fused, "optimizer", name, "fused: another one asks the host whether to leave an update out")
        self.step = step
        self._device = device
        self._capture: Callable[[torch.device], Capture] = capture or CudaCapture
        self._alpha = torch.zeros((), device=device)
        self._rate = torch.zeros((), device=device)
        self._clock = torch.zeros((), dtype=torch.int64, device=device)
        step.guard.follow(self._clock)
        self._state = StepState(step)
        self._routes: dict[_Kind, _Route] = {}
        self._phase: tuple[int, bool] | None = None

    def __call__(self, images: Tensor, labels: Tensor | None, context: StepContext) -> dict[str, Tensor]:
        """As the step; the values returned are copies, which later calls leave alone."""
        phase = (context.phase.stage, context.phase.fading)
        if phase != self._phase:
            self._release()
        self._phase = phase
        labels = labels if self.step.conditional else None
        kind = self._kind(images, labels, context)
        route = self._routes.setdefault(kind, _Route())
        if route.graph is not None and route.places != self._state.places():
            route.release()
        if route.graph is None and route.refusal is None and route.calls >= _EAGER_CALLS:
            self._switch_on(kind, route, images, labels, context)
        route.calls += 1
        if route.graph is None:
            return self._eagerly(images, labels, context)
        route.replays += 1
        return self._replayed(route, images, labels, context)

    def __getattr__(self, name: str) -> Any:
        """What this class has not, the step has."""
        if name == "step":  # not there yet
            raise AttributeError(name)
        return getattr(self.step, name)

    def __deepcopy__(self, memo: dict[int, Any]) -> "GraphedStep":
        """A copy of the step, without graphs yet."""
        step = copy.deepcopy(self.step, memo)
        for optimizer in (step.generator_optimizer, step.discriminator_optimizer):
            vars(optimizer)["_step_supports_amp_scaling"] = True  # optimizers lose it when they are copied
        return GraphedStep(step, capture=self._capture)

    def report(self) -> list[dict[str, Any]]:
        """What became of each kind of step, in the order in which they came.

        Returns:
            For each ``kind`` (in words), ``stage``, ``resolution``, ``batch``, ``replays`` so far, ``route`` of the
            next call (``"graphed"`` or ``"eager"``), and ``why``.
        """
        return [
            {
                "kind": str(kind),
                "stage": kind.stage,
                "resolution": kind.resolution,
                "batch": kind.images[0][0],
                "replays": route.replays,
                "route": "eager" if route.graph is None else "graphed",
                "why": route.why(),
            }
            for kind, route in self._routes.items()
        ]

    def skipped_updates(self) -> int:
        """As `AdversarialStep.skipped_updates`."""
        return self.step.skipped_updates()

    def state_dict(self) -> dict[str, Any]:
        """That of the step: graphs are no part of it."""
        return self.step.state_dict()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """As `AdversarialStep.load_state_dict`. Graphs are made anew."""
        self._release()
        self.step.load_state_dict(state)

    def _release(self) -> None:
        for route in self._routes.values():
            route.release()

    def _kind(self, images: Tensor, labels: Tensor | None, context: StepContext) -> _Kind:
        step, phase = self.step, context.phase
        return _Kind(
            phase.stage,
            phase.resolution,
            phase.fading,
            phase.alpha if phase.alpha in (0, 1) else None,
            (images.shape, images.dtype),
            None if labels is None else (labels.shape, labels.dtype),
            step.reuse_real_batch or (step.calls + 1) % step.n_critic == 0,
            context.replicas.count,
            (step.generator.training, step.discriminator.training),
            self._state.settings(),
        )

    # Ways to run a step. All read alpha, learning rate and the number of the call from the same tensors.

    def _eagerly(self, images: Tensor, labels: Tensor | None, context: StepContext) -> Outputs:
        with self._scalars(context.phase) as phase:
            return self.step(images, labels, dataclasses.replace(context, phase=phase))

    def _replayed(self, route: _Route, images: Tensor, labels: Tensor | None, context: StepContext) -> Outputs:
        assert route.graph is not None
        self._fill(route, images, labels, context)
        with self._scalars(context.phase):
            route.graph.replay()
        self._state.advance(*route.advance)
        values = torch.stack(list(route.outputs.values()))  # one launch copies them all
        return dict(zip(route.outputs, values.unbind(), strict=True))

    def _fill(self, route: _Route, images: Tensor, labels: Tensor | None, context: StepContext) -> None:
        assert route.images is not None
        assert route.tape is not None
        copy_to(route.images, images)
        if labels is not None and route.labels is not None:
            copy_to(route.labels, labels)
        route.tape.refill(context)

    @contextlib.contextmanager
    def _scalars(self, phase: Phase) -> Iterator[Phase]:
        """The phase with tensors for alpha and learning rate; the optimizers keep the number, for checkpoints."""
        self._alpha.fill_(phase.alpha)
        self._rate.fill_(phase.learning_rate)
        self._clock.fill_(self.step.calls + 1)
        try:
            yield self._on_device(phase)
        finally:
            for optimizer in self._state.optimizers:
                for group in optimizer.param_groups:
                    group["lr"] = phase.learning_rate * group.get("lr_factor", 1.0)

    def _on_device(self, phase: Phase) -> Phase:
        tensors: dict[str, Any] = {"learning_rate": self._rate}
        if phase.alpha not in (0, 1):
            tensors["alpha"] = self._alpha
        return dataclasses.replace(phase, **tensors)

    # Switching on

    def _switch_on(
        self, kind: _Kind, route: _Route, images: Tensor, labels: Tensor | None, context: StepContext
    ) -> None:
        """Record a step and compare, or say why not. Leaves no trace but the graph."""
        self._state = StepState(self.step)
        truth, before = self._state.of([]), self._state.snapshot()
        try:
            if context.replicas.count > 1:
                raise _RefusalError("gradients are averaged over several processes, which a graph here does not hold")
            self._record(route, images, labels, context)
            before.restore()
            if (apart := self._difference(route, images, labels, context, before.restore)) is not None:
                raise _RefusalError(apart)
        except Exception as error:
            route.refusal = (
                str(error) if isinstance(error, _RefusalError) else f"recording failed ({first_error(error)})"
            )
        before.restore()
        self._state.drop_gradients()  # those of a recording lie in the memory of its graph
        if (left := difference(truth, self._state.of([]))) is not None:
            route.refusal = f"{left} belongs to the state of the step, but changes in a way that is not known here"
            self.load_state_dict(unflatten(*truth)["state"])
        route.places = self._state.places()
        if route.refusal is not None:
            route.release()
            message = f"{kind}: training goes on without a CUDA graph, since {route.refusal}"
            warnings.warn(message, RuntimeWarning, stacklevel=3)

    def _record(self, route: _Route, images: Tensor, labels: Tensor | None, context: StepContext) -> None:
        route.images = torch.empty(images.shape, dtype=images.dtype, device=self._device)
        route.labels = None if labels is None else torch.empty(labels.shape, dtype=labels.dtype, device=self._device)
        route.tape = tape = DrawTape(self._device)
        self._fill(route, images, labels, context)
        with self._scalars(context.phase) as phase:
            taped = TapedContext(context.seed, context.images_seen, phase, tape=tape)

            def whole_step() -> Outputs:
                tape.rewind()
                with self._state.counted() as counted:
                    outputs = self.step(route.images, route.labels, taped)  # type: ignore[arg-type]
                route.advance = counted()
                return outputs

            graph = self._capture(self._device)
            graph.warm_up(whole_step)
            tape.recording = False
            if tape.networks_draw:
                raise _RefusalError("the networks draw random numbers of their own, as dropout does")
            for _ in range(_WARM_UPS - 1):
                graph.warm_up(whole_step)
            self._state.drop_gradients()
            places = self._state.places()
            with self._capturable():
                route.graph = graph  # so that it is released if recording fails
                route.outputs = graph.record(whole_step)
        if places != self._state.places():
            raise _RefusalError("the step makes some of its state anew")

    @contextlib.contextmanager
    def _capturable(self) -> Iterator[None]:
        """What optimizers want to hear while they are recorded; it changes nothing in fused ones."""
        groups = [group for optimizer in self._state.optimizers for group in optimizer.param_groups]
        groups = [group for group in groups if "capturable" in group]
        before = [group["capturable"] for group in groups]
        for group in groups:
            group["capturable"] = True
        try:
            yield
        finally:
            for group, value in zip(groups, before, strict=True):
                group["capturable"] = value

    def _difference(
        self,
        route: _Route,
        images: Tensor,
        labels: Tensor | None,
        context: StepContext,
        restore: Callable[[], None],
    ) -> str | None:
        """Where three replays differ from three eager steps, in words; ``None`` if nowhere."""

        def replayed(*batch: Any) -> Outputs:
            return self._replayed(route, *batch)

        found, calls = [], self.step.calls
        for run in (self._eagerly, replayed, self._eagerly):
            restore()
            logs = []
            for number in range(_TRIALS):
                self.step.calls = calls + number * self.step.n_critic  # steps of the same kind
                logs.append(run(*_trial(number, images, labels, context)))
            found.append(self._state.of(logs))
            if len(found) == 2 and (apart := difference(*found)) is None:
                return None
        if (noise := difference(found[0], found[2])) is not None:
            return f"eager steps do not repeat themselves: {noise} differs (Trainer(deterministic=True) may help)"
        return f"replays differ from eager steps in {apart}"


def _trial(
    number: int, images: Tensor, labels: Tensor | None, context: StepContext
) -> tuple[Tensor, Tensor | None, StepContext]:
    """A step of a comparison: everything that may change between two steps of a kind differs from the other trials."""
    share = 0.5**number
    phase = dataclasses.replace(
        context.phase,
        alpha=context.phase.alpha if context.phase.alpha in (0, 1) else context.phase.alpha * share,
        learning_rate=context.phase.learning_rate * share,
        stage_images=context.phase.stage_images + number,
    )
    seed = derived_seed(context.seed, "trial", number)
    context = dataclasses.replace(context, seed=seed, images_seen=context.images_seen + number, phase=phase)
    return images.roll((number, number), (0, -1)), None if labels is None else labels.roll(number), context
