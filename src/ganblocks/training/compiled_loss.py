"""A whole loss, gradient penalty included, through ``torch.compile``, and the guards that keep its gradients right.

Compiling a critic by itself is of no use to a penalty: the gradient of a gradient is not supported there. What works is
one graph from the images to the loss, in which the penalty takes its inner gradient with ``torch.func.grad``, as the
penalties in `ganblocks.losses` do by themselves while the compiler is tracing. ``loss.backward()`` stays outside.
"""

import functools
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, ParamSpec, TypeVar

import torch
from torch import Tensor, nn

from ganblocks._checks import require

__all__ = ["compile_loss"]

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")

_CPU_HAS_MATRIX_TILES = bool(torch.cpu._is_amx_tile_supported())
_LOW_PRECISION = (torch.bfloat16, torch.float16)
_TINY = 1e-300
_SMALL_SHARE = 1e-3  # of the norm of all gradients: what every gradient may be off by, times the tolerance


def compile_loss(
    function: Callable[Arguments, Result],
    *,
    verify: bool = False,
    tolerance: float = 1e-3,
    modules: Iterable[nn.Module] = (),
    **options: Any,
) -> Callable[Arguments, Result]:
    """Compile a function that computes a loss, so that its gradients are those of the function as it stands.

    The function may contain `gradient_penalty`, `r1_penalty` and every other penalty of `ganblocks.losses`, and
    ``torch.func.grad`` of its own. It is compiled at the first call, as one graph; what cannot be compiled whole is an
    error and never runs half compiled. Give numbers that change from call to call (the fade's alpha) as 0-d tensors,
    since a Python number may be compiled in. Random numbers drawn inside are not those of the uncompiled function.

    Two things that torch.compile gets wrong without a word are refused: an ``autograd.Function`` (or a checkpoint)
    inside an inner gradient, whose second derivative is lost; and, on CPUs with AMX, a low-precision convolution there
    (the penalties of `ganblocks.losses` switch autocast off by themselves). An autocast around the call is entered
    inside the graph, so it does not reach the backward pass.

    One more is left to ``verify``: the compiler may read a buffer that the function changes in place and then uses once
    more in the backward pass, where it holds the value of the next call.

    Args:
        function: Returns the loss, a scalar tensor, or a tuple that begins with it; the rest is for the log.
        verify: Whether the first call also runs uncompiled, compares results and the gradients of parameters and
            arguments, and raises if they differ. It costs two more evaluations. The function must not draw random
            numbers (give penalties their ``mixing``), and tensors with a graph must reach it as arguments.
        tolerance: How far the check lets results and gradients be apart, as norm of the difference over the norm. The
            default is for float32; 0.05 suits bfloat16.
        modules: Networks whose buffers change in a call (batch norm, spectral norm); the check puts them back between
            its runs, and names gradients after their parameters.
        options: What `torch.compile` takes: ``backend``, ``mode``, ``dynamic``, ``options``.

    Returns:
        A function of the same arguments. Call ``backward()`` on its result outside of it.

    Raises:
        ValueError: If ``fullgraph`` is given, ``tolerance`` is not positive, or the loss is not a scalar.
        TypeError: If the result is neither a tensor nor a tuple that begins with one.
        RuntimeError: At a call: if the function cannot be compiled whole, or if the check finds a difference.
    """
    require("fullgraph" not in options, "fullgraph", options.get("fullgraph"), "left out: a loss is compiled whole")
    require(tolerance > 0, "tolerance", tolerance, "a positive number")
    from torch._dynamo.comptime import comptime
    from torch._dynamo.exc import TorchDynamoException

    def whole(ambient: tuple[tuple[str, torch.dtype], ...], *args: Any, **kwargs: Any) -> Result:
        result = _within(ambient, function, args, kwargs)
        comptime(_refuse_wrong_gradients)  # runs while the graph is built, not when it is executed
        return result

    compiled = torch.compile(whole, fullgraph=True, **options)
    networks = tuple(modules)
    checked = not verify

    def call(args: Any, kwargs: Any) -> Result:
        ambient = _ambient_autocast()
        try:
            with _autocast_off():
                return compiled(ambient, *args, **kwargs)
        except TorchDynamoException as error:
            raise RuntimeError(
                f"`function` cannot be compiled as a whole: {_reason(error)}. Call it uncompiled (the penalties work "
                "there with any critic), or take that part out of it"
            ) from error

    @functools.wraps(function)
    def loss(*args: Arguments.args, **kwargs: Arguments.kwargs) -> Result:
        nonlocal checked
        if not checked:
            _verify(function, call, args, kwargs, networks, tolerance)
            checked = True
        result = call(args, kwargs)
        _loss_of(result)
        return result

    return loss


def _within(
    ambient: tuple[tuple[str, torch.dtype], ...], function: Callable[..., Result], args: Any, kwargs: Any
) -> Result:
    """The call, inside the autocasts listed."""
    if not ambient:
        return function(*args, **kwargs)
    (device_type, dtype), *others = ambient
    with torch.autocast(device_type, dtype):
        return _within(tuple(others), function, args, kwargs)


def _device_types() -> list[str]:
    accelerator = torch.accelerator.current_accelerator()
    return ["cpu"] if accelerator is None else ["cpu", accelerator.type]


def _ambient_autocast() -> tuple[tuple[str, torch.dtype], ...]:
    """The autocasts that are on, device by device."""
    return tuple((name, torch.get_autocast_dtype(name)) for name in _device_types() if torch.is_autocast_enabled(name))


@contextmanager
def _autocast_off() -> Iterator[None]:
    with ExitStack() as stack:
        for name, _ in _ambient_autocast():
            stack.enter_context(torch.autocast(name, enabled=False))
        yield


def _refuse_wrong_gradients(context: Any) -> None:
    """Raise if an inner gradient of the graph holds what would come out wrong when it is differentiated again."""
    depth = 0
    for node in context.graph().nodes:
        name = getattr(node.target, "__name__", str(node.target))
        depth += {
            "_grad_increment_nesting": 1,
            "_grad_decrement_nesting": -1,
            "_jvp_increment_nesting": 1,
            "_jvp_decrement_nesting": -1,
        }.get(name, 0)
        if depth == 0:
            continue
        if isinstance(node.target, torch._ops.HigherOrderOperator):
            raise RuntimeError(
                f"an inner gradient passes through {name} (an autograd.Function, a checkpoint, ...), whose second "
                "derivative torch.compile loses without a word"
            )
        value = node.meta.get("example_value")
        if (
            _CPU_HAS_MATRIX_TILES
            and "conv" in name
            and isinstance(value, Tensor)
            and value.device.type == "cpu"
            and value.dtype in _LOW_PRECISION
        ):
            raise RuntimeError(
                f"an inner gradient passes through {name} in {value.dtype}, whose double backward is wrong on this CPU "
                "(AMX). Take it with ganblocks.losses.input_gradients, or switch autocast off around it"
            )


def _reason(error: BaseException) -> str:
    """The first line of what was raised while tracing, in its own words where it is an exception of the function."""
    origin = error if error.__cause__ is None else error.__cause__
    lines = [line.strip() for line in str(origin).splitlines() if line.strip()]
    return lines[0].rstrip(".") if lines else type(origin).__name__


def _loss_of(result: Any) -> Tensor:
    loss = result[0] if isinstance(result, tuple) and result else result
    if not isinstance(loss, Tensor):
        raise TypeError(
            f"`function` returned a {type(result).__name__}, but must return a scalar tensor, or a tuple that begins "
            "with one"
        )
    if loss.dim() != 0:
        raise ValueError(f"`function` returned a loss of shape {tuple(loss.shape)}, but must return a scalar")
    return loss


def _verify(
    function: Callable[..., Any],
    call: Callable[[Any, Any], Any],
    args: Any,
    kwargs: Any,
    modules: tuple[nn.Module, ...],
    tolerance: float,
) -> None:
    """Raise unless the function and its compiled form give the same results and gradients; leaves no trace."""
    state = _State(modules)
    args, kwargs = _cut_off(args), _cut_off(kwargs)
    expected, truth = _evaluated(function(*args, **kwargs))
    state.restore()
    found, gradients = _evaluated(call(args, kwargs))
    state.restore()
    norm = sum(float(gradient.double().norm()) ** 2 for gradient in truth.values()) ** 0.5
    names: dict[Tensor, str] = {p: name for module in modules for name, p in module.named_parameters()}
    apart = [(f"result {number}", _distance(b, a)) for number, (a, b) in enumerate(zip(expected, found, strict=True))]
    lasting = {leaf for leaf in truth if isinstance(leaf, nn.Parameter)}.union(gradients, _tensors_in((args, kwargs)))
    for leaf in lasting & (truth.keys() | gradients.keys()):  # without what the function made for itself
        a, b = (by_leaf.get(leaf, torch.zeros_like(leaf)) for by_leaf in (truth, gradients))
        name = names.get(leaf, f"a leaf of shape {tuple(leaf.shape)}")
        apart.append((f"the gradient of {name}", _distance(b, a, norm * _SMALL_SHARE)))
    wrong = [(what, distance) for what, distance in apart if not distance <= tolerance]
    if wrong:
        what, distance = max(wrong, key=lambda pair: (pair[1] != pair[1], pair[1]))
        raise RuntimeError(
            f"the compiled loss is not the loss: {what} is off by {distance:.1e} of its norm (`tolerance` is "
            f"{tolerance:.1e}; {len(wrong)} of {len(apart)} comparisons fail). A function that draws random numbers "
            "cannot be compared, and one that changes buffers needs its networks in `modules`; otherwise do not use it"
        )


class _State:
    """Random generators and buffers, as they were."""

    def __init__(self, modules: tuple[nn.Module, ...]) -> None:
        self.cpu = torch.get_rng_state()
        self.cuda = torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else None  # type: ignore[no-untyped-call]
        self.buffers = [(buffer, buffer.clone()) for module in modules for buffer in module.buffers()]

    def restore(self) -> None:
        torch.set_rng_state(self.cpu)
        if self.cuda is not None:
            torch.cuda.set_rng_state_all(self.cuda)
        with torch.no_grad():
            for buffer, saved in self.buffers:
                buffer.copy_(saved)


def _cut_off(value: Any) -> Any:
    """The arguments with tensors that have a graph made leaves, so that the check does not use up their graph."""
    if isinstance(value, Tensor) and value.grad_fn is not None:
        return value.detach().requires_grad_(True)
    if isinstance(value, dict):
        return {name: _cut_off(item) for name, item in value.items()}
    if type(value) in (list, tuple):
        return type(value)(_cut_off(item) for item in value)
    return value


def _tensors_in(value: Any) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, dict | list | tuple):
        for item in value.values() if isinstance(value, dict) else value:
            yield from _tensors_in(item)


def _evaluated(result: Any) -> tuple[list[Tensor], dict[Tensor, Tensor]]:
    """The results and the gradient of every leaf that the loss depends on."""
    loss, items = _loss_of(result), result if isinstance(result, tuple) else (result,)
    leaves = _leaves(loss)
    with _autocast_off():
        found = torch.autograd.grad(loss, leaves, allow_unused=True) if leaves else ()
    gradients = {leaf: gradient for leaf, gradient in zip(leaves, found, strict=True) if gradient is not None}
    return [item.detach() for item in items if isinstance(item, Tensor)], gradients


def _leaves(loss: Tensor) -> list[Tensor]:
    """The tensors that the loss has gradients for."""
    nodes, seen, leaves = [loss.grad_fn], set(), []
    while nodes:
        node = nodes.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        if isinstance(variable := getattr(node, "variable", None), Tensor):
            leaves.append(variable)
        nodes.extend(parent for parent, _ in node.next_functions)
    return leaves


def _distance(found: Tensor, truth: Tensor, margin: float = 0.0) -> float:
    """The norm of the difference over that of the truth plus a margin; NaN where a number is none."""
    difference = float((found.double() - truth.double()).norm())
    return 0.0 if difference == 0 else difference / max(float(truth.double().norm()) + margin, _TINY)
