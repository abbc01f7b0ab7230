"""A compiled loss has the gradients of the loss as it stands, or says that it cannot."""

import math
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from ganblocks import functional, losses, ops
from ganblocks.training import compiled_loss as module
from ganblocks.training.compiled_loss import compile_loss
from tolerances import for_dtype, named

compiled = partial(compile_loss, backend="aot_eager")
NOT_OPERATIONS = {"Decision", "backend", "decide", "explain", "uses_kernel"}


def operation(name: str) -> Callable[..., Tensor]:
    """The fast form, or the formula where there is none yet."""
    return getattr(ops, name) if hasattr(ops, name) else getattr(functional, name)


class OneOperation(nn.Module):
    """Features by a plain linear map, one operation, a bend that has a second derivative, a score."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self.name = name
        self.mix = nn.Parameter(torch.randn(2, 2) / 2)
        self.weight = nn.Parameter(torch.randn(2, 2, 3, 3) / 4)
        self.bias = nn.Parameter(torch.randn(2) / 4)

    def forward(self, images: Tensor) -> Tensor:
        x = torch.einsum("oc,nchw->nohw", self.mix, images)
        apply = operation(self.name)
        arguments: dict[str, Callable[[], Tensor]] = {
            "conv2d": lambda: apply(x, self.weight, self.bias, padding=1),
            "conv_transpose2d": lambda: apply(x, self.weight, self.bias, stride=2, padding=1),
            "leaky_relu": lambda: apply(x, 0.2) * x,
            "bias_act": lambda: apply(x, self.bias, slope=0.2, scale=0.7) * x,
            "pixel_norm": lambda: apply(x),
            "bias_act_pixel_norm": lambda: apply(x, self.bias, slope=0.2, scale=0.7),
            "blur": lambda: apply(x, (1.0, 2.0, 1.0)),
            "upfirdn2d": lambda: apply(x, (1.0, 3.0, 3.0, 1.0), up=2, padding=(2, 1)),
            "upsample_nearest": lambda: apply(x),
            "downsample_box": lambda: apply(x),
            "minibatch_std": lambda: apply(x, group_size=2),
            "fade_in": lambda: apply(x, x.square(), 0.3),
        }
        return torch.tanh(arguments[self.name]()).square().flatten(1).sum(dim=1)


class Score(nn.Module):
    """A small critic around one function of the features."""

    def __init__(self, bend: Callable[[Tensor], Tensor] = torch.tanh) -> None:
        super().__init__()
        self.inner, self.head = nn.Linear(3, 4), nn.Linear(4, 1)
        self.bend = bend

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.bend(self.inner(images)))[:, 0]


class Cube(torch.autograd.Function):
    """A foreign operation, twice differentiable as it stands."""

    @staticmethod
    def forward(x: Tensor) -> Tensor:
        return x**3

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor], output: Tensor) -> None:
        ctx.save_for_backward(*inputs)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:  # type: ignore[override]
        (x,) = ctx.saved_tensors
        return 3 * x * x * gradient


def mean_and_penalties(critic: nn.Module, real: Tensor, fake: Tensor, weights: Tensor) -> Tensor:
    penalty = losses.gradient_penalty(critic, real, fake, mixing=weights)
    return critic(fake).mean() - critic(real).mean() + 10 * penalty + losses.r1_penalty(critic, real) / 2


def weight_gradients(critic: nn.Module, loss: Tensor) -> list[Tensor | None]:
    return list(torch.autograd.grad(loss, list(critic.parameters()), allow_unused=True))


@pytest.fixture(autouse=True)
def no_compiled_code() -> None:
    torch._dynamo.reset()


@pytest.mark.parametrize("name", sorted(set(ops.__all__) - NOT_OPERATIONS))
def test_a_critic_of_every_operation_has_the_gradients_of_eager(name: str) -> None:
    critic = OneOperation(name).double()
    real, fake = torch.randn(2, 4, 2, 6, 6, dtype=torch.float64)
    arguments = critic, real, fake, torch.rand(4, dtype=torch.float64)
    expected, found = mean_and_penalties(*arguments), compiled(mean_and_penalties)(*arguments)
    torch.testing.assert_close(found, expected, **for_dtype(torch.float64))
    truth, other = weight_gradients(critic, expected), weight_gradients(critic, found)
    assert truth[0] is not None
    for a, b in zip(truth, other, strict=True):
        if a is None:
            assert b is None or not b.any()
        else:
            torch.testing.assert_close(b, a, **for_dtype(torch.float64))


def by_hand(critic: nn.Module, images: Tensor) -> Tensor:
    gradient = torch.func.grad(lambda x: critic(x).sum())(images)
    return critic(images).mean() + gradient.square().sum()


def test_a_foreign_function_is_refused_inside_an_inner_gradient_however_it_is_taken() -> None:
    critic, images = Score(Cube.apply), torch.randn(4, 3)
    with pytest.raises(RuntimeError, match=r"cannot be compiled as a whole.*autograd_function_apply.*without a word"):
        compiled(mean_and_penalties)(critic, images, images, torch.rand(4))
    with pytest.raises(RuntimeError, match=r"cannot be compiled as a whole.*autograd_function_apply.*without a word"):
        compiled(by_hand)(critic, images)


def test_the_refusal_is_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Should this fail, the compiler has learned it: the refusal can go."""
    monkeypatch.setattr(module, "_refuse_wrong_gradients", lambda context: None)
    critic, images = Score(Cube.apply), torch.randn(4, 3)
    truth, wrong = (weight_gradients(critic, loss(critic, images)) for loss in (by_hand, compiled(by_hand)))
    assert not torch.allclose(wrong[0], truth[0], **named("penalty_low_precision"))  # type: ignore[arg-type]


def test_a_foreign_function_outside_an_inner_gradient_is_compiled_and_right() -> None:
    critic, images = Score(), torch.randn(4, 3)

    def loss(x: Tensor) -> Tensor:
        return Cube.apply(critic.head.weight).mean() + losses.r1_penalty(critic, x)

    for a, b in zip(
        weight_gradients(critic, loss(images)), weight_gradients(critic, compiled(loss)(images)), strict=True
    ):
        torch.testing.assert_close(b, a, **for_dtype(torch.float32))


@pytest.mark.parametrize("has_matrix_tiles", [True, False])
def test_a_low_precision_convolution_in_an_inner_gradient_is_refused_on_cpus_that_get_it_wrong(
    monkeypatch: pytest.MonkeyPatch, has_matrix_tiles: bool
) -> None:
    monkeypatch.setattr(module, "_CPU_HAS_MATRIX_TILES", has_matrix_tiles)
    critic = nn.Sequential(nn.Conv2d(2, 2, 3), nn.Tanh(), nn.Flatten(), nn.Linear(8, 1), nn.Flatten(0))
    images = torch.randn(2, 2, 4, 4)

    def loss(x: Tensor) -> Tensor:
        with torch.autocast("cpu", torch.bfloat16):
            return by_hand(critic, x).float()

    if has_matrix_tiles:
        with pytest.raises(
            RuntimeError, match=r"conv2d in torch\.bfloat16, whose double backward is wrong on this CPU"
        ):
            compiled(loss)(images)
    else:
        assert compiled(loss)(images).isfinite()


def test_an_autocast_around_the_call_works_inside_and_spares_the_backward_pass() -> None:
    critic, images = Score().to(torch.float32), torch.randn(4, 3)
    seen: list[tuple[str, torch.dtype]] = []

    def backend(graph: torch.fx.GraphModule, inputs: list[Tensor]) -> Any:
        from functorch.compile import make_boxed_func
        from torch._dynamo.backends.common import aot_autograd

        def watch(side: str) -> Callable[..., Any]:
            def take(part: torch.fx.GraphModule, inputs: list[Tensor]) -> Any:
                values = [(node.target, node.meta.get("val")) for node in part.graph.nodes]
                seen.extend((side, v.dtype) for t, v in values if "mm" in str(t) and isinstance(v, Tensor))
                return make_boxed_func(part.forward)

            return take

        return aot_autograd(fw_compiler=watch("forward"), bw_compiler=watch("backward"))(graph, inputs)

    def loss(x: Tensor) -> Tensor:
        return losses.r1_penalty(critic, x, autocast=False) + critic(x).float().mean()

    with torch.autocast("cpu", torch.bfloat16):
        value = compile_loss(loss, backend=backend)(images)
        expected = loss(images)
    value.backward()
    torch.testing.assert_close(value, expected, **for_dtype(torch.bfloat16))
    assert ("forward", torch.bfloat16) in seen
    assert ("forward", torch.float32) in seen
    inner, head = critic.inner.weight, critic.head.weight
    truth = torch.autograd.grad(losses.r1_penalty(critic, images, autocast=False), (inner, head))
    seen.clear()
    torch._dynamo.reset()
    with torch.autocast("cpu", torch.bfloat16):
        value = compile_loss(lambda x: losses.r1_penalty(critic, x, autocast=False), backend=backend)(images)
    torch.testing.assert_close(torch.autograd.grad(value, (inner, head)), truth, **for_dtype(torch.float32))
    assert {dtype for _, dtype in seen} == {torch.float32}


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        (lambda critic, x: (critic(x).mean(), print("here"))[0], "builtin"),
        (lambda critic, x: losses.r1_penalty(critic.inner, x), r"scores of shape \(4, 4\)"),
        (lambda critic, x: critic(x).mean() * time.sleep(0), "sleep"),
    ],
    ids=["print", "own error", "sleep"],
)
def test_what_cannot_be_compiled_whole_is_an_error_that_says_so(fault: Callable[..., Tensor], words: str) -> None:
    with pytest.raises(RuntimeError, match=rf"cannot be compiled as a whole: .*{words}(.|\n)*Call it uncompiled"):
        compiled(fault)(Score(), torch.randn(4, 3))


def test_arguments_and_results_are_checked() -> None:
    x = torch.ones(3)
    with pytest.raises(ValueError, match="`fullgraph` is False, but must be left out"):
        compile_loss(torch.sum, fullgraph=False)
    with pytest.raises(ValueError, match="`tolerance` is 0"):
        compile_loss(torch.sum, tolerance=0)
    with pytest.raises(ValueError, match=r"a loss of shape \(3,\), but must return a scalar"):
        compiled(lambda x: 2 * x)(x)
    with pytest.raises(TypeError, match="returned a dict, but must return a scalar tensor, or a tuple"):
        compiled(lambda x: {"loss": x.sum()})(x)
    loss, term = compiled(lambda x, *, factor: (factor * x.sum(), x.mean()))(x, factor=torch.tensor(2.0))
    assert (loss.item(), term.item()) == (6.0, 1.0)


# --- verify ---


class Counting(Score):
    """A critic that counts its calls in a buffer, and may score by the count."""

    count: Tensor

    def __init__(self, *, used: bool) -> None:
        super().__init__()
        self.used = used
        self.register_buffer("count", torch.zeros(()))

    def forward(self, images: Tensor) -> Tensor:
        self.count += 1
        scores = super().forward(images)
        return scores * self.count if self.used else scores


def test_a_right_loss_is_verified_and_the_check_leaves_no_trace() -> None:
    critic, images, weights = Counting(used=False), torch.randn(2, 4, 3), torch.rand(4)
    fakes = nn.Linear(3, 3)(images[1])

    eager: list[bool] = []

    def loss(real: Tensor, fakes: Tensor) -> tuple[Tensor, Tensor]:
        if not torch.compiler.is_compiling():
            eager.append(True)
        penalty = losses.gradient_penalty(lambda x: Score.forward(critic, x), real, fakes, mixing=weights)
        return critic(fakes).mean() + penalty, penalty.detach()

    state = torch.get_rng_state()
    checked = compiled(loss, verify=True, modules=[critic])
    value, _ = checked(images[0], fakes)
    assert torch.equal(torch.get_rng_state(), state)
    assert critic.count == 1
    value.backward()  # through the generator too: its graph is still there
    assert all(p.grad is not None for p in critic.parameters())
    checked(images[0], fakes.detach())
    assert critic.count == 2
    assert len(eager) == 1  # the second call is not checked


def test_a_check_without_the_modules_that_change_says_what_to_do() -> None:
    critic = Counting(used=True)
    loss = compile_loss(lambda x: critic(x).mean(), verify=True, backend="aot_eager_decomp_partition")
    with pytest.raises(RuntimeError, match=r"is not the loss: .* of its norm .*needs its networks in `modules`"):
        loss(torch.randn(4, 3))


def test_a_buffer_changed_and_then_used_is_right_or_found_out() -> None:
    """torch.compile may read the buffer again in the backward pass, when it has changed."""
    critic, images = Counting(used=True), torch.randn(4, 3)
    loss = compiled(lambda x: critic(x).mean(), verify=True, modules=[critic])
    try:
        (gradient,) = torch.autograd.grad(loss(images), critic.head.bias)
    except RuntimeError as error:
        assert "the compiled loss is not the loss: the gradient of" in str(error)  # noqa: PT017
    else:
        assert gradient.item() == 1


def loses_gradients(graph: torch.fx.GraphModule, inputs: list[Tensor]) -> Callable[..., Any]:
    """A compiler that computes the right values and forgets the first weight's part of the gradient."""

    def run(*values: Any) -> Any:
        weights = [v for v in values if isinstance(v, Tensor) and v.shape == (4, 3)]
        return graph(*(v.detach() if any(v is w for w in weights) else v for v in values))

    return run


@pytest.mark.parametrize("named_by_module", [True, False])
def test_a_compiler_that_loses_a_gradient_is_found_out(named_by_module: bool) -> None:
    critic, images = Score(), torch.randn(5, 3)

    def loss(x: Tensor) -> Tensor:
        return critic(x).square().mean()

    options: dict[str, Any] = {"modules": [critic]} if named_by_module else {}
    what = "inner.weight" if named_by_module else r"a leaf of shape \(4, 3\)"
    checked = compile_loss(loss, verify=True, backend=loses_gradients, **options)
    for _ in range(2):  # the second call does not pass for checked
        with pytest.raises(RuntimeError, match=rf"the gradient of {what} is off by 1\.0e\+00"):
            checked(images)


def test_results_that_are_no_numbers_fail_the_check() -> None:
    with pytest.raises(RuntimeError, match="result 0 is off by nan"):
        compiled(lambda x: x.sum() * math.nan, verify=True)(torch.ones(2))


def test_a_loss_without_gradients_is_verified_by_its_value() -> None:
    critic, images = Score(), torch.randn(4, 3)
    with torch.no_grad():
        assert not compiled(lambda x: critic(x).mean(), verify=True)(images).requires_grad


@pytest.mark.slow
def test_inductor_has_the_gradients_of_eager_for_a_whole_critic() -> None:
    from ganblocks.models.progan import Discriminator, ProGANConfig

    critic = Discriminator(ProGANConfig.karras2018(16, max_channels=8))
    real, fake = torch.randn(2, 4, 3, 16, 16)
    loss = compile_loss(mean_and_penalties, verify=True, modules=[critic])
    value = loss(critic, real, fake, torch.rand(4))
    value.backward()
    assert value.isfinite()
    weights = [p for name, p in critic.named_parameters() if name.endswith("weight")]
    assert sum(p.grad is not None for p in weights) >= 4
