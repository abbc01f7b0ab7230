"""Perceptual path length: how much images change on a small step between two latents.

Karras, Laine and Aila 2019, "A style-based generator architecture for generative adversarial networks", section 4.1.
Lower is smoother. The distance between images is the caller's: the paper's is LPIPS on VGG-16.
"""

from collections.abc import Callable, Iterator
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ganblocks._checks import require
from ganblocks.functional.latent import lerp, normal_latents, slerp
from ganblocks.metrics.features import full_float32
from ganblocks.metrics.rows import require_finite
from ganblocks.metrics.score import Score

__all__ = ["perceptual_path_length"]

_DRAWN_AT_ONCE = 1024  # paths; part of what the seed means


@torch.no_grad()
def perceptual_path_length(
    generate: Callable[[Tensor], Tensor],
    distance: Callable[[Tensor, Tensor], Tensor],
    *,
    latent_dim: int,
    mapping: Callable[[Tensor], Tensor] | None = None,
    num_samples: int = 100_000,
    sampling: Literal["full", "end"] = "full",
    interpolation: Literal["slerp", "lerp"] | None = None,
    epsilon: float = 1e-4,
    drop_quantiles: tuple[float, float] = (0.01, 0.99),
    batch_size: int = 16,
    seed: int = 0,
    device: torch.device | str = "cpu",
    dtype: torch.dtype = torch.float32,
    extractor: str | None = None,
) -> Score:
    """Average ``distance(G(path(t)), G(path(t + epsilon))) / epsilon^2`` over random paths between two latents.

    Without ``mapping`` the paths run in Z (the paper's first equation): arcs between normal latents that were scaled to
    length sqrt(Z), the sphere of a generator that normalises its input, as ProGAN and StyleGAN do. With it they run in
    W (the second equation): straight lines between two mapped latents. Ends and paths are computed in float64.

    ``generate`` must be a function of the latents alone: evaluation mode, noise inputs fixed, nothing cut to bytes and
    nothing computed in low precision. A step of 1e-4 moves a pixel by about 1e-4, while bytes are 8e-3 apart and
    bfloat16 numbers 4e-3: the score would measure the rounding (bfloat16 images inflate a linear case 23 times). So
    images must be float32 or float64, and autocast and TF32 are switched off within this function; a generator that
    rounds inside and returns float32 goes unnoticed.

    Args:
        generate: Called with latents (both ends of n steps in one batch), or with mapped ones; returns images [2n, ...]
            in [-1, 1], float32 or float64.
        distance: Called with two batches of n images; returns n distances, quadratic in small differences like LPIPS or
            the squared L2 distance, otherwise the score depends on ``epsilon``. The paper crops to the face and shrinks
            to 256 pixels first.
        latent_dim: Z.
        mapping: From latents [n, Z] to [n, ...] in W; ``None`` = paths in Z.
        num_samples: Paths; the paper draws 100,000. Fewer make the score noisier, not larger.
        sampling: "full": the step is at a uniform random t in [0, 1); "end": at t = 0.
        interpolation: "slerp": arcs (see above); "lerp": straight lines between the latents as drawn. ``None`` =
            "slerp" without ``mapping`` and "lerp" with it, where nothing else is allowed.
        epsilon: The step.
        drop_quantiles: Distances below the first and above the second quantile do not count; (0, 1) keeps all.
        batch_size: Steps at a time, which is twice as many images; above 1024 as 1024.
        seed: Of the latents and of t. Draws depend on nothing but the seed and ``latent_dim``; more samples begin
            with the same ones. The global random state is neither used nor changed by this function.
        device: Where the latents are handed over.
        dtype: Of the latents handed over, float32 or float64.
        extractor: The fingerprint of the network in ``distance``; ``None`` = unknown.

    Returns:
        "path_length", with the standard deviation over the paths that count as spread. Details: ``standard_error`` of
        the mean, ``median``, ``kept`` (paths that count), and the ``lowest`` and ``highest`` that count.

    Raises:
        TypeError: Images that are not float32 or float64, or another ``dtype``.
        ValueError: An option out of range, or what a callable returned has a wrong count.
        MetricError: Images or distances that are NaN or infinite.

    Source:
        Karras et al. 2019, section 4.1; trimming at the 1 % and 99 % quantiles as in the authors' published code.
    """
    space = "z" if mapping is None else "w"
    interpolation = interpolation or ("slerp" if mapping is None else "lerp")
    low, high = drop_quantiles
    require(latent_dim >= 1, "latent_dim", latent_dim, "at least 1")
    require(num_samples >= 2, "num_samples", num_samples, "at least 2")
    require(sampling in ("full", "end"), "sampling", sampling, '"full" or "end"')
    allowed = ("slerp", "lerp") if mapping is None else ("lerp",)
    require(interpolation in allowed, "interpolation", interpolation, f"one of {allowed} in {space.upper()}")
    require(0 < epsilon < 1, "epsilon", epsilon, "between 0 and 1")
    require(0 <= low < high <= 1, "drop_quantiles", drop_quantiles, "two ascending numbers from 0 to 1")
    require(batch_size >= 1, "batch_size", batch_size, "at least 1")
    require(dtype in (torch.float32, torch.float64), "dtype", dtype, "float32 or float64", TypeError)

    found = []
    with full_float32(torch.device(device)):
        for first, second, t in _draws(num_samples, latent_dim, batch_size, seed):
            if sampling == "end":
                t = torch.zeros_like(t)
            ends = _ends(first, second, mapping, interpolation == "slerp", device, dtype)
            path = torch.vmap(slerp if interpolation == "slerp" else lerp)
            latents = torch.cat([path(*ends, position) for position in (t.to(ends[0]), t.to(ends[0]) + epsilon)])
            images = generate(latents.to(device, dtype))
            _require_images(images, len(latents))
            distances = distance(*torch.split(images, len(t)))
            count = f"{len(t)} distances, one a pair"
            require(distances.numel() == len(t), "distance(...)", tuple(distances.shape), count)
            require_finite(distances, "distance(...)")
            found.append(distances.detach().reshape(-1).cpu().double() / epsilon**2)
    values = torch.cat(found).numpy()
    lowest, highest = np.quantile(values, low, method="lower"), np.quantile(values, high, method="higher")
    kept = values[(values >= lowest) & (values <= highest)]
    spread = float(kept.std(ddof=1)) if len(kept) > 1 else 0.0
    return Score(
        "path_length",
        float(kept.mean()),
        spread,
        counts={"fake": num_samples},
        settings={
            "space": space,
            "latent_dim": latent_dim,
            "sampling": sampling,
            "interpolation": interpolation,
            "epsilon": epsilon,
            "drop_quantiles": [low, high],
            "seed": seed,
            "dtype": str(dtype).removeprefix("torch."),
            "extractor": extractor,
        },
        details={
            "standard_error": spread / len(kept) ** 0.5,
            "median": float(np.median(values)),
            "kept": len(kept),
            "lowest": float(lowest),
            "highest": float(highest),
        },
    )


def _draws(count: int, latent_dim: int, batch_size: int, seed: int) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Two ends [n, Z] and the position [n] on the path between them, in float64 on the CPU, batch by batch.

    Always drawn in whole blocks, so that neither the batch size nor the count changes a draw.
    """
    generator = torch.Generator().manual_seed(seed)
    for start in range(0, count, _DRAWN_AT_ONCE):
        length = min(_DRAWN_AT_ONCE, count - start)
        ends = [
            normal_latents(_DRAWN_AT_ONCE, latent_dim, generator=generator, device="cpu", dtype=torch.float64)
            for _ in range(2)
        ]
        t = torch.rand(_DRAWN_AT_ONCE, generator=generator, dtype=torch.float64)
        yield from zip(*(torch.split(part[:length], batch_size) for part in (*ends, t)), strict=True)


def _ends(
    first: Tensor,
    second: Tensor,
    mapping: Callable[[Tensor], Tensor] | None,
    on_sphere: bool,
    device: torch.device | str,
    dtype: torch.dtype,
) -> tuple[Tensor, Tensor]:
    """Both ends of the paths in float64: on the sphere of radius sqrt(Z), mapped to W, or as drawn."""
    if on_sphere:
        radius = first.shape[1] ** 0.5
        return F.normalize(first) * radius, F.normalize(second) * radius
    if mapping is None:
        return first, second
    mapped = mapping(torch.cat([first, second]).to(device, dtype))
    both = 2 * len(first)
    require(len(mapped) == both, "mapping(...)", tuple(mapped.shape), f"of {both} rows, as the latents")
    require_finite(mapped, "mapping(...)")
    start, end = torch.split(mapped.detach().double(), len(first))
    return start, end


def _require_images(images: Tensor, count: int) -> None:
    reason = (
        "float32 or float64: a step of epsilon is lost in the rounding of anything coarser, which inflates the score"
    )
    require(images.dtype in (torch.float32, torch.float64), "generate(...).dtype", images.dtype, reason, TypeError)
    require(len(images) == count, "generate(...)", tuple(images.shape), f"{count} images, one a latent")
    require_finite(images, "generate(...)")
