"""Penalties on the gradient of a critic with respect to its images, and on the size of its scores.

`input_gradients` is the one place that knows about compilation, autocast and float16; each penalty is a line over it.
All penalties are unweighted: the training step multiplies by lambda (gradient penalty, drift) or gamma / 2 (R1, R2).
"""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import Any, Literal

import torch
from torch import Tensor, nn

from ganblocks._checks import require, require_rank, require_same_shape
from ganblocks.functional.draws import draw
from ganblocks.losses.adversarial import check_logits

__all__ = ["drift_penalty", "gradient_penalty", "input_gradients", "r1_penalty", "r2_penalty"]

Critic = Callable[[Tensor], Tensor]

# Sixteen-bit floats end at 6e-8; a gradient of norm 1 over three megapixels has elements of 6e-4 and its hidden layers
# smaller ones. A power of two costs no rounding; gradients above 65504 / 256 overflow, and show as infinity.
_FLOAT16_SCALE = 256.0

# The double backward of a low-precision convolution is wrong on CPUs with matrix tiles. `ops.conv2d` avoids it, except
# in a traced graph, where no custom Function may stand.
_CPU_HAS_MATRIX_TILES = bool(torch.cpu._is_amx_tile_supported())


def input_gradients(critic: Critic, images: Tensor, *, create_graph: bool = True) -> Tensor:
    """The gradient of every image's score with respect to that image.

    The gradient is that of the sum of the scores: a critic that mixes samples (minibatch standard deviation) is
    differentiated as it is used. The critic runs in the ambient autocast; with float16 the scores are scaled by 256
    before and the gradients divided after. Works under ``torch.no_grad``. Touches no ``.grad``.

    Inside ``torch.compile`` of the *whole loss* (the call that returns the loss compiled with ``fullgraph=True``, its
    ``.backward()`` outside) the gradient is taken with ``torch.func.grad``. That is right for critics made of native
    operations; one with a custom ``autograd.Function`` or a checkpoint is refused there. Only there, and on CPUs whose
    low-precision double backward is wrong (AMX), autocast is switched off.

    Args:
        critic: Any callable, images [N, ...] -> scores [N]. Labels are bound by the caller:
            ``lambda images: critic(images, labels)``.
        images: [N, ...] floating point, N >= 1. Detached: no gradient reaches what made them.
        create_graph: Whether the result can be differentiated again, which a penalty needs to train the critic.

    Returns:
        [N, ...] like the images, in at least float32.

    Raises:
        ValueError: If the scores are not [N], or do not depend on the images.
        TypeError: If the images are not a floating point tensor.
        RuntimeError: If the critic, or a part of it, is compiled by itself, or its graph was lost; while tracing, if
            it contains what a compiled penalty cannot differentiate.
    """
    _check_images(images, "images")
    if torch.compiler.is_compiling():
        return _traced_gradients(critic, images, create_graph)
    _refuse_compiled(critic)
    with torch.enable_grad():
        inputs = (images.clone() if images.is_inference() else images).detach().requires_grad_(True)
        scores = _scores(critic, inputs)
        scale = _scale(inputs)
        gradients = None
        if scores.requires_grad:
            (gradients,) = torch.autograd.grad(
                scores.sum() * scale, inputs, create_graph=create_graph, allow_unused=True
            )
    if gradients is None:
        raise ValueError("the scores of `critic` do not depend on the images: is something detached on the way?")
    if create_graph and not gradients.requires_grad and _depends_on_others(scores, inputs):
        raise RuntimeError(
            "the gradient of `critic` lost its graph, so a penalty would train nothing. A part of the critic is "
            "compiled by itself (compile the whole loss instead), or its gradient does not depend on its weights "
            "(then pass create_graph=False)"
        )
    return _unscaled(gradients, scale)


def gradient_penalty(
    critic: Critic,
    real_images: Tensor,
    fake_images: Tensor,
    *,
    target_norm: float = 1.0,
    mixing: Literal["uniform", "normal"] | Tensor = "uniform",
    one_sided: bool = False,
    reduction: Literal["mean", "sum", "none"] = "mean",
    autocast: Literal[False] | None = None,
    generator: torch.Generator | None = None,
) -> Tensor:
    """WGAN-GP's penalty (||grad D(x)||_2 - target_norm)^2 at points between real and fake images.

    Source: Gulrajani et al. 2017, equation 3 and algorithm 1. x = real + w * (fake - real), one weight w an image;
    the norm is taken over all elements of an image. A zero gradient has norm 0 and contributes no gradient, so value
    and both gradients are finite there.

    Args:
        critic: Any callable, images [N, ...] -> scores [N]; see
            `input_gradients`.
        real_images: [N, ...], detached.
        fake_images: [N, ...] of the same shape, detached: the generator gets no gradient. Dtypes may differ (fakes
            made under autocast); the wider one is used.
        target_norm: The norm asked for, 1 in the paper, 0 for a critic that should be flat.
        mixing: The weights w: ``"uniform"`` on [0, 1), ``"normal"`` N(0, 1) about the real image, or a tensor [N].
        one_sided: Whether only norms above the target count: max(0, norm - target)^2.
        reduction: ``"mean"`` or ``"sum"`` over the batch, or ``"none"`` for [N].
        autocast: None runs the critic in the ambient autocast, False in at least float32, autocast off. Norm, target
            and mean are in at least float32 either way. Call ``backward()`` outside autocast, else the second
            derivative runs in low precision all the same.
        generator: Draws the weights, on its own device; None uses the global generator of the images' device. Leave
            it None, or give the weights, inside ``torch.compile``.

    Returns:
        A scalar, or [N] for ``reduction="none"``, in at least float32, unweighted (no lambda).

    Raises:
        ValueError: If the shapes differ, the batch is empty, or an option is unknown.
        TypeError: If the images are not floating point tensors.
        RuntimeError: If the critic is compiled by itself.
    """
    _check_images(real_images, "real_images")
    _check_images(fake_images, "fake_images")
    require_same_shape(real_images, fake_images, "real_images", "fake_images")
    require(reduction in ("mean", "sum", "none"), "reduction", reduction, "mean, sum or none")
    real, fake = _at_least_float32(real_images.detach()), _at_least_float32(fake_images.detach())
    mixed = real + _mixing_weights(mixing, real, generator) * (fake - real)
    mixed = mixed.to(torch.promote_types(real_images.dtype, fake_images.dtype))
    norms = _safe_sqrt(_squared_norms(critic, mixed, autocast))
    excess = norms - target_norm
    if one_sided:
        excess = excess.clamp(min=0)
    penalties = excess.square()
    if reduction == "none":
        return penalties
    return penalties.mean() if reduction == "mean" else penalties.sum()


def r1_penalty(discriminator: Critic, real_images: Tensor, *, autocast: Literal[False] | None = None) -> Tensor:
    """R1: the mean squared gradient norm on real images, E[||grad D(x)||_2^2].

    Source: Mescheder et al. 2018, equation 9, without its gamma / 2: the training step multiplies.

    Args:
        discriminator: Any callable, images [N, ...] -> logits [N].
        real_images: [N, ...], detached.
        autocast: None runs the discriminator in the ambient autocast, False in at least float32, autocast off.

    Returns:
        A scalar in at least float32.

    Raises:
        ValueError: If the logits are not [N], do not depend on the images, or the batch is empty.
        TypeError: If the images are not a floating point tensor.
        RuntimeError: If the discriminator is compiled by itself.
    """
    return _squared_norms(discriminator, real_images, autocast).mean()


def r2_penalty(discriminator: Critic, fake_images: Tensor, *, autocast: Literal[False] | None = None) -> Tensor:
    """R2: the mean squared gradient norm on generated images, E[||grad D(G(z))||_2^2].

    Source: Mescheder et al. 2018, equation 10, without its gamma / 2: the training step multiplies. Arguments, result
    and errors as in `r1_penalty`; the generator gets no gradient.
    """
    return _squared_norms(discriminator, fake_images, autocast).mean()


def drift_penalty(real_logits: Tensor) -> Tensor:
    """The mean squared score of real images, which keeps a Wasserstein critic from drifting off.

    Source: Karras et al. 2018, appendix A.1 (there weighted by 0.001; here unweighted).

    Args:
        real_logits: [N] raw scores of real images.

    Returns:
        A scalar in at least float32.

    Raises:
        ValueError: If the logits are not [N] or the batch is empty.
        TypeError: If the logits are not a floating point tensor.
    """
    return check_logits(real_logits, "real_logits").square().mean()


def _squared_norms(critic: Critic, images: Tensor, autocast: Literal[False] | None) -> Tensor:
    """The squared L2 norm of each image's gradient, [N]; differentiable unless gradients are switched off."""
    require(autocast is None or autocast is False, "autocast", autocast, "None (ambient) or False (float32)")
    _check_images(images, "images")
    with _no_autocast(images) if autocast is False else nullcontext():
        inputs = _at_least_float32(images) if autocast is False else images
        gradients = input_gradients(critic, inputs, create_graph=torch.is_grad_enabled())
    return gradients.square().sum(dim=tuple(range(1, gradients.dim())))


def _safe_sqrt(squares: Tensor) -> Tensor:
    """The square root, with 0 and derivatives 0 where the root has none."""
    positive = squares > torch.finfo(squares.dtype).tiny
    return torch.where(positive, torch.where(positive, squares, 1.0).sqrt(), 0.0)


def _mixing_weights(mixing: str | Tensor, images: Tensor, generator: torch.Generator | None) -> Tensor:
    """One weight an image, shaped [N, 1, ...], in the images' dtype; drawn in float32, so the same for every dtype."""
    count = images.shape[0]
    device = images.device if generator is None else generator.device
    if isinstance(mixing, Tensor):
        require(
            tuple(mixing.shape) == (count,), "mixing.shape", tuple(mixing.shape), f"({count},), one weight an image"
        )
        weights = mixing.detach()
    elif mixing == "uniform":
        weights = draw(torch.rand, (count,), generator, device=device)
    elif mixing == "normal":
        weights = draw(torch.randn, (count,), generator, device=device)
    else:
        raise ValueError(f"`mixing` is {mixing!r}, but must be uniform, normal or a tensor [N]")
    return weights.to(images).view(count, *[1] * (images.dim() - 1))


def _traced_gradients(critic: Critic, images: Tensor, create_graph: bool) -> Tensor:
    """`input_gradients` for a loss that is being compiled as a whole."""
    forced = _CPU_HAS_MATRIX_TILES and images.device.type == "cpu"
    with _no_autocast(images) if forced else nullcontext():
        inputs = (_at_least_float32(images) if forced else images).detach()
        scale = _scale(inputs)
        gradients = torch.func.grad(lambda inputs: _traced_scores(critic, inputs).sum() * scale)(inputs)
    gradients = _unscaled(gradients, scale)
    return gradients if create_graph else gradients.detach()


def _traced_scores(critic: Critic, images: Tensor) -> Tensor:
    from torch._dynamo.comptime import comptime  # loads the compiler, which is running here anyway

    scores = _scores(critic, images)
    comptime(_refuse_opaque_calls)  # runs while the graph is built, not when it is executed
    return scores


def _refuse_opaque_calls(context: Any) -> None:
    """Raise if the graph holds an autograd.Function since `torch.func.grad` began: its second derivative would be 0."""
    depth = 0
    for node in reversed(list(context.graph().nodes)):
        name = getattr(node.target, "__name__", str(node.target))
        depth += {"_grad_decrement_nesting": 1, "_grad_increment_nesting": -1}.get(name, 0)
        if depth < 0:
            return
        if isinstance(node.target, torch._ops.HigherOrderOperator):
            raise RuntimeError(
                f"the critic calls {name} (an autograd.Function, a checkpoint, ...), through which torch.compile "
                "fails, or loses the gradient of a penalty without a word. Leave the penalty uncompiled, or write the "
                "critic in native operations"
            )


def _scores(critic: Critic, images: Tensor) -> Tensor:
    """The critic's scores [N] in at least float32, checked."""
    scores = critic(images)
    if not isinstance(scores, Tensor):
        raise TypeError(f"`critic` returned a {type(scores).__name__}, but must return a tensor of scores [N]")
    if scores.dim() != 1 or scores.shape[0] != images.shape[0]:
        raise ValueError(
            f"`critic` returned scores of shape {tuple(scores.shape)} for {images.shape[0]} images, but must return "
            "[N], one score an image"
        )
    return _at_least_float32(scores)


def _check_images(images: Tensor, argument: str) -> None:
    require_rank(images, argument, 2)
    if not images.is_floating_point():
        raise TypeError(f"`{argument}` has dtype {images.dtype}, but must be floating point")
    if images.shape[0] == 0:
        raise ValueError(f"`{argument}` has shape {tuple(images.shape)}, but must hold at least one image")


def _at_least_float32(tensor: Tensor) -> Tensor:
    return tensor.to(torch.promote_types(tensor.dtype, torch.float32))


def _no_autocast(images: Tensor) -> AbstractContextManager[None]:
    return torch.autocast(images.device.type, enabled=False)


def _scale(images: Tensor) -> float:
    """What the scores are multiplied by before the gradient is taken: 1 unless float16 is at work."""
    device_type = images.device.type
    autocast = torch.is_autocast_enabled(device_type) and torch.get_autocast_dtype(device_type) == torch.float16
    return _FLOAT16_SCALE if autocast or images.dtype == torch.float16 else 1.0


def _unscaled(gradients: Tensor, scale: float) -> Tensor:
    gradients = _at_least_float32(gradients)
    return gradients if scale == 1 else gradients / scale


def _refuse_compiled(critic: Critic) -> None:
    """Raise if the critic, or a module in it, went through `torch.compile` by itself."""
    while isinstance(critic, partial):
        critic = critic.func
    remedy = "the function that was compiled" if _is_compiled(critic) and not isinstance(critic, nn.Module) else None
    owner = getattr(critic, "__self__", critic)  # a bound method is judged by its module
    for name, module in owner.named_modules() if isinstance(owner, nn.Module) else ():
        path = f"critic.{name}" if name else "critic"
        if "_orig_mod" in module._modules and not getattr(module.forward, "_torchdynamo_disable", False):
            remedy = f"`{path}._orig_mod`, which shares its weights"
        elif module._compiled_call_impl is not None:
            remedy = f"`{path}` without `.compile()`"
        elif _is_compiled(module.forward):
            remedy = f"`{path}` with a `forward` that is not compiled"
        else:
            continue
        break
    if remedy is not None:
        raise RuntimeError(
            "`critic` is compiled by itself, and torch.compile has no double backward: a penalty would fail or train "
            f"nothing. Give {remedy}, or compile the whole loss instead (fullgraph=True, backward() outside)"
        )


def _is_compiled(function: object) -> bool:
    """Whether a function came out of `torch.compile` (one from `torch.compiler.disable` bears both marks)."""
    return hasattr(function, "_torchdynamo_orig_callable") and not getattr(function, "_torchdynamo_disable", False)


def _depends_on_others(scores: Tensor, inputs: Tensor) -> bool:
    """Whether a leaf other than the inputs, a weight that is, stands in the graph of the scores."""
    nodes, seen = [scores.grad_fn], set()
    while nodes:
        node = nodes.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        variable = getattr(node, "variable", None)
        if variable is not None and variable is not inputs:
            return True
        nodes.extend(parent for parent, _ in node.next_functions)
    return False
