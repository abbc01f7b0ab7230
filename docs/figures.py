"""Draws the pictures of the pages on theory: ``python docs/figures.py`` writes docs/images/theory_*.png.

Needs: pip install "ganblocks[train]". No data and no chance: the same bytes with the same versions of the libraries.
"""

import io
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from ganblocks.data.synthetic import Faces
from ganblocks.functional import downsample_box, fade_in, upsample_nearest
from ganblocks.losses import gradient_penalty, kl_divergence, wasserstein
from ganblocks.training import ProgressiveSchedule, recipes
from ganblocks.visualization.canvas import COLORS, DPI, FAINT, FRAME, INK, MUTED, empty_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["activations", "fade", "kl", "main", "penalty", "reach", "schedule"]

IMAGES = Path(__file__).parent / "images"
WIDTH = 7.2  # inches, 1080 pixels


def main() -> None:
    """Draw all pictures."""
    for draw in (activations, fade, kl, penalty, reach, schedule):
        draw(IMAGES)


def activations(folder: Path) -> None:
    """Four activations and their slopes, which are what back-propagation multiplies by."""
    x = torch.linspace(-3, 3, 601, requires_grad=True)
    functions: dict[str, Callable[[Tensor], Tensor]] = {
        "ReLU": torch.relu,
        "leaky ReLU, 0.2": lambda x: torch.nn.functional.leaky_relu(x, 0.2),
        "tanh": torch.tanh,
        "sigmoid": torch.sigmoid,
    }
    figure = empty_figure(WIDTH, 3.1, constrained=True)
    values, slopes = figure.subplots(1, 2)
    for (name, function), color in zip(functions.items(), COLORS, strict=False):
        y = function(x)
        (slope,) = torch.autograd.grad(y.sum(), x)
        shown = slope.numpy().copy()
        if "ReLU" in name:
            shown[300] = np.nan  # the slope jumps here: no line across
        dashes, order = ((0, (5, 2.5)), 4) if name == "ReLU" else ("-", 3)  # on top, where it covers the leaky one
        values.plot(x.detach(), y.detach(), color=color, linewidth=1.8, linestyle=dashes, label=name, zorder=order)
        slopes.plot(x.detach(), shown, color=color, linewidth=1.8, linestyle=dashes, zorder=order)
    _dress(values, "the activation", "x", "")
    _dress(slopes, "its slope", "x", "")
    values.set_ylim(-1.3, 3)
    slopes.set_ylim(-0.06, 1.1)
    values.legend(frameon=False, fontsize=8, loc="upper left")
    _write(figure, folder / "theory_activations.png")


def fade(folder: Path) -> None:
    """A face of 32 pixels fades in over one of 16, and one of 8 over one of 4."""
    face = torch.from_numpy(np.array(Faces(8).read(3, 32))).float()[None] / 255
    figure = empty_figure(WIDTH, 3.5)
    alphas = (0.0, 0.25, 0.5, 0.75, 1.0)
    for row, side in enumerate((8, 32)):
        new = face
        while new.shape[-1] > side:
            new = downsample_box(new)
        old = upsample_nearest(downsample_box(new))
        for column, alpha in enumerate(alphas):
            axes = figure.add_axes((0.085 + 0.184 * column, 0.5 - 0.46 * row, 0.165, 0.41))
            axes.imshow(fade_in(old, new, alpha)[0].permute(1, 2, 0).numpy(), interpolation="nearest")
            axes.set_axis_off()
            if row == 0:
                axes.set_title(f"alpha {alpha:g}", fontsize=9, color=INK)
        figure.text(0.012, 0.7 - 0.46 * row, f"{side // 2} to {side}\npixels", fontsize=8.5, color=INK, va="center")
    _write(figure, folder / "theory_fade_in.png")


def kl(folder: Path) -> None:
    """The divergence from N(0, 1) over the mean, and over the standard deviation."""
    figure = empty_figure(WIDTH, 2.9, constrained=True)
    left, right = figure.subplots(1, 2, sharey=True)
    means, deviations = torch.linspace(-3, 3, 301), torch.linspace(0.05, 3, 301)
    for index, deviation in enumerate((1.0, 0.5, 0.1)):
        log_var = torch.full_like(means, deviation).square().log()
        values = kl_divergence(means[:, None], log_var[:, None], reduction="none")
        left.plot(
            means, values, color=COLORS[index], linewidth=1.8, label=f"standard deviation {deviation:g}", zorder=3
        )
    for index, mean in enumerate((0.0, 1.0, 2.0)):
        values = kl_divergence(
            torch.full_like(deviations, mean)[:, None], deviations.square().log()[:, None], reduction="none"
        )
        right.plot(deviations, values, color=COLORS[index], linewidth=1.8, label=f"mean {mean:g}", zorder=3)
    _dress(left, "over the mean", "mean", "nats")
    _dress(right, "over the standard deviation", "standard deviation", "")
    left.set_ylim(0, 7)
    for axes in (left, right):
        axes.legend(frameon=False, fontsize=8, loc="upper center")
    _write(figure, folder / "theory_kl.png")


def penalty(folder: Path) -> None:
    """Linear critics of several slopes on reals at 0 and fakes at 5, and what their loss is."""
    figure = empty_figure(WIDTH, 3.1, constrained=True)
    left, right = figure.subplots(1, 2)
    x = torch.linspace(-1, 6, 2)
    real, fake = torch.zeros(1, 1), torch.full((1, 1), 5.0)
    for index, slope in enumerate((0.5, 1.0, 3.0)):
        found = gradient_penalty(_linear(slope), real, fake).item()
        label = f"slope {slope:g}: penalty {found:g}"
        left.plot(x, -slope * x, color=COLORS[index], linewidth=1.8, label=label, zorder=3)
    for place, name in ((0.0, "real"), (5.0, "fake")):
        left.axvline(place, color=FRAME, linewidth=1, zorder=1)
        left.text(place + 0.1, 5.2, name, fontsize=8.5, color=MUTED, va="top")
    left.set_ylim(-20, 6)
    _dress(left, "scores D(x) of linear critics", "x", "")
    left.legend(frameon=False, fontsize=8, loc="lower left")

    slopes = torch.linspace(0, 2.2, 221)
    losses: dict[str, list[float]] = {"estimate": [], "10 * penalty": [], "sum": []}
    for slope in slopes.tolist():
        scores = -slope * real[:, 0], -slope * fake[:, 0]
        first = wasserstein.discriminator_loss(*scores).item()
        second = 10 * gradient_penalty(_linear(slope), real, fake).item()
        for name, value in zip(losses, (first, second, first + second), strict=True):
            losses[name].append(value)
    labels = ("E D(fake) - E D(real)", "10 * penalty", "their sum")
    for (name, values), label, color in zip(losses.items(), labels, (COLORS[4], COLORS[5], INK), strict=True):
        right.plot(slopes, values, color=color, linewidth=2.2 if name == "sum" else 1.6, label=label, zorder=3)
    lowest = int(np.argmin(losses["sum"]))
    right.plot(slopes[lowest], losses["sum"][lowest], "o", color=COLORS[1], zorder=4)
    right.annotate(
        f"smallest at slope {slopes[lowest]:.2f}", (float(slopes[lowest]), losses["sum"][lowest]), (0.62, -9.4),
        fontsize=8.5, color=COLORS[1],
    )  # fmt: skip
    right.set_ylim(-11, 14)
    _dress(right, "loss over the slope, distance 5", "slope", "")
    right.legend(frameon=False, fontsize=8, loc="upper center")
    _write(figure, folder / "theory_penalty.png")


def reach(folder: Path) -> None:
    """Pixels of the image that one value sees, over the layers."""
    figure = empty_figure(WIDTH * 0.72, 3.1, constrained=True)
    axes = figure.subplots()
    for index, (kernel, stride) in enumerate(((3, 1), (4, 2), (5, 2))):
        size, step, seen = 1, 1, [1]
        for _ in range(5):
            size, step = size + (kernel - 1) * step, step * stride
            seen.append(size)
        name = f"{kernel}x{kernel}, stride {stride}"
        axes.plot(range(6), seen, "o-", color=COLORS[index], linewidth=1.8, markersize=4, label=name, zorder=3)
        above = stride == 1 or kernel == 5
        axes.annotate(
            str(seen[-1]), (5, seen[-1]), (7, 4 if above else -5), textcoords="offset points", fontsize=8.5,
            color=COLORS[index], va="center",
        )  # fmt: skip
    axes.set_yscale("log", base=2)
    axes.set_yticks([1, 2, 4, 8, 16, 32, 64, 128], labels=["1", "2", "4", "8", "16", "32", "64", "128"])
    axes.minorticks_off()
    axes.set_xlim(-0.2, 5.5)
    _dress(axes, "reach of a value behind some layers", "layers", "pixels a side")
    axes.legend(frameon=False, fontsize=8, loc="upper left")
    _write(figure, folder / "theory_reach.png")


def schedule(folder: Path) -> None:
    """Resolution and alpha of both recipes over the images seen."""
    plans = {
        "karras2018, from 4": recipes.karras2018().schedule(1024),
        "document, from 128": recipes.document().schedule(1024),
    }
    figure = empty_figure(WIDTH, 3.9, constrained=True)
    widths = [plan.total_images for plan in plans.values()]
    panels = figure.subplots(2, 2, sharex="col", sharey="row", width_ratios=[max(width, 4_000_000) for width in widths])
    for column, (name, plan) in enumerate(plans.items()):
        top, bottom = panels[0][column], panels[1][column]
        seen = _moments(plan)
        phases = [plan.phase(images) for images in seen]
        millions = [images / 1e6 for images in seen]
        top.plot(millions, [phase.resolution for phase in phases], color=COLORS[0], linewidth=1.8, zorder=3)
        bottom.plot(millions, [phase.alpha for phase in phases], color=COLORS[1], linewidth=1.8, zorder=3)
        top.set_yscale("log", base=2)
        top.set_yticks([4, 16, 64, 256, 1024], labels=["4", "16", "64", "256", "1024"])
        top.minorticks_off()
        _dress(top, name, "", "" if column else "pixels a side")
        _dress(bottom, "", "million images seen", "" if column else "alpha")
    _write(figure, folder / "theory_schedule.png")


def _linear(slope: float) -> Callable[[Tensor], Tensor]:
    return lambda images: -slope * images[:, 0]


def _write(figure: "Figure", path: Path) -> None:
    """As a picture of 128 colours, which has half the bytes."""
    drawn = io.BytesIO()
    figure.savefig(drawn, format="png", dpi=DPI, facecolor="white")
    Image.open(drawn).convert("RGB").quantize(128, dither=Image.Dither.NONE).save(path, optimize=True)


def _moments(plan: ProgressiveSchedule) -> list[int]:
    """Where something changes, one image before, and some places between."""
    between = np.linspace(0, plan.total_images - 1, 400).astype(int).tolist()
    corners = []
    for start, fade_images in zip(plan.stage_starts, plan.fade_images, strict=True):
        corners += [start - 1, start, start + fade_images]
    return sorted({images for images in (*between, *corners) if 0 <= images < plan.total_images})


def _dress(axes: "Axes", title: str, across: str, up: str) -> None:
    axes.set_title(title, fontsize=9.5, color=INK, loc="left")
    axes.set_xlabel(across, fontsize=8.5, color=MUTED)
    axes.set_ylabel(up, fontsize=8.5, color=MUTED)
    axes.tick_params(labelsize=8, colors=MUTED, length=2)
    axes.grid(color=FAINT, linewidth=0.6, zorder=0)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    for side in ("left", "bottom"):
        axes.spines[side].set_color(FRAME)


if __name__ == "__main__":
    main()
