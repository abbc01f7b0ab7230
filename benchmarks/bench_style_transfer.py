"""Style transfer by changing pixels: ours against the tutorial's loop, interleaved, at equal iterations.

    python benchmarks/bench_style_transfer.py                                  # 512 px, 5 iterations a turn
    python benchmarks/bench_style_transfer.py --content photo.jpg --style painting.jpg --side 512 --threads 2

"Plain" is the loop of the tutorial in PyTorch: torchvision's VGG19 up to its last style layer in float32 and plain
memory order, Gram matrices by einsum, `loss.backward()`, `torch.optim.Adam` as it comes, clipping, the loss read in
every step. "Ours" is `stylize` with the recipe `document`, the precision that suits the machine (`--precision auto`:
bfloat16 where it is fast), and the same random weights. Both make the same layers; times include the targets.

Turns are timed one after the other, plain, ours, plain, ours ...; the table gives medians of an iteration and the ratio
of medians. Nothing else should run on the machine.
"""

import argparse
import platform
import statistics
import time
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ganblocks.data import ImageTable
from ganblocks.models.feature_maps import VGG19Features
from ganblocks.training import Precision, stylize
from ganblocks.training.environment import flushed_denormals
from ganblocks.training.pixel_optimization import document

STYLE = ["block1_conv1", "block2_conv1", "block3_conv1", "block4_conv1", "block5_conv1"]
CONTENT = ["block5_conv2"]
WIDTHS, COUNTS = (64, 128, 256, 512, 512), (2, 2, 4, 4, 2)  # convolutions that the last layer needs


def plain_layers(ours: VGG19Features) -> nn.ModuleList:
    """The same convolutions in plain order, a pooling in front of each block but the first."""
    layers = nn.ModuleList()
    convolutions = [layer for layer in ours.modules() if isinstance(layer, nn.Conv2d)]
    taken = iter(convolutions)
    for block, count in enumerate(COUNTS):
        if block:
            layers.append(nn.MaxPool2d(2))
        for _ in range(count):
            theirs = next(taken)
            mine = nn.Conv2d(theirs.in_channels, theirs.out_channels, 3, padding=1)
            mine.load_state_dict({"weight": theirs.weight.contiguous(), "bias": theirs.bias})
            layers += [mine, nn.ReLU()]
    return layers.requires_grad_(False)


def plain_maps(layers: nn.ModuleList, image: Tensor) -> dict[str, Tensor]:
    """Maps of all style layers and the content layer."""
    mean = torch.tensor([103.939, 116.779, 123.68])[:, None, None]
    x, found, block, number = 255 * image.flip(1) - mean, {}, 1, 0
    for layer in layers:
        x = layer(x)
        if isinstance(layer, nn.MaxPool2d):
            block, number = block + 1, 0
        if isinstance(layer, nn.ReLU):
            number += 1
            found[f"block{block}_conv{number}"] = x
    return {name: found[name] for name in [*STYLE, *CONTENT]}


def gram(maps: Tensor) -> Tensor:
    """As the tutorial has it."""
    return torch.einsum("nchw,ndhw->ncd", maps, maps) / (maps.shape[2] * maps.shape[3])


def plain_loop(layers: nn.ModuleList, content: Tensor, style: Tensor, steps: int) -> Tensor:
    """The tutorial's training loop."""
    looks = {name: gram(plain_maps(layers, style)[name]) for name in STYLE}
    wanted = {name: plain_maps(layers, content)[name] for name in CONTENT}
    pixels = content.clone().requires_grad_()
    optimizer = torch.optim.Adam([pixels], lr=0.02, betas=(0.99, 0.999), eps=0.1)
    for _ in range(steps):
        optimizer.zero_grad()
        maps = plain_maps(layers, pixels)
        of_style = torch.stack([F.mse_loss(gram(maps[name]), looks[name]) for name in STYLE]).sum() * 1e-2 / len(STYLE)
        of_content = F.mse_loss(maps[CONTENT[0]], wanted[CONTENT[0]]) * 1e4
        rough = (pixels[..., 1:] - pixels[..., :-1]).abs().sum() + (
            pixels[..., 1:, :] - pixels[..., :-1, :]
        ).abs().sum()
        loss = of_style + of_content + 30 * rough
        loss.backward()
        optimizer.step()
        with torch.no_grad():
            pixels.clamp_(0, 1)
        loss.item()
    return pixels.detach()


def picture(path: Path | None, side: int, seed: int) -> Tensor:
    """A file as a square, or smooth noise."""
    if path is None:
        small = torch.rand(1, 3, 16, 16, generator=torch.Generator().manual_seed(seed))
        return F.interpolate(small, size=(side, side), mode="bilinear", align_corners=False)
    table = ImageTable((path,), ("picture",), ("real",), ("picture",), crop="center")
    return torch.from_numpy(table.read(0, side))[None] / 255


def main() -> None:
    """Time both and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    add = parser.add_argument
    add("--content", type=Path, help="a picture (default: smooth noise)")
    add("--style", type=Path, help="a picture (default: smooth noise)")
    add("--side", type=int, default=512, help="pixels (default: %(default)s)")
    add("--steps", type=int, default=5, help="iterations of a turn (default: %(default)s)")
    add("--repeats", type=int, default=5, help="turns of each (default: %(default)s)")
    add("--threads", type=int, help="default: torch's own choice")
    add("--precision", choices=("auto", "fp32", "bf16"), default="auto")
    add("--out", type=Path, help="where the table is written as Markdown")
    options = parser.parse_args()
    if options.threads:
        torch.set_num_threads(options.threads)
    precision = Precision.resolve(options.precision, torch.device("cpu"))
    content, style = picture(options.content, options.side, 0), picture(options.style, options.side, 1)
    generator = torch.Generator().manual_seed(0)
    features = VGG19Features([*STYLE, *CONTENT], preprocessing="caffe", generator=generator)
    layers = plain_layers(features)
    features.to(memory_format=precision.memory_format(options.side))
    times: dict[str, list[float]] = {"plain": [], "ours": []}
    results = {}
    for turn in range(options.repeats + 1):
        for name in times:
            started = time.perf_counter()
            if name == "plain":
                results[name] = plain_loop(layers, content, style, options.steps)
            else:
                recipe = document(steps=options.steps)
                results[name] = stylize(
                    content, style, features, content_layers=CONTENT, style_layers=STYLE, recipe=recipe,
                    precision=precision,
                ).image  # fmt: skip
            if turn:  # the first one of each warms up
                times[name].append((time.perf_counter() - started) / options.steps)
    plain, mine = (statistics.median(times[name]) for name in times)
    difference = float((results["plain"] - results["ours"]).abs().mean())
    lines = [
        "# Style transfer by changing pixels: ours against the tutorial's loop",
        "",
        f"`python benchmarks/bench_style_transfer.py`, {time.strftime('%Y-%m-%d')}: {options.side} px, "
        f"{torch.get_num_threads()} thread(s), {platform.processor() or platform.machine()}, torch "
        f"{torch.__version__}, ours in {precision.name}; medians of {options.repeats} turns of {options.steps} "
        f"iterations, interleaved. Mean difference of the two results: {difference:.4f} of 1.",
        "",
        "| plain, ms an iteration | ours, ms | ratio |\n|---|---|---|",
        f"| {1000 * plain:.0f} | {1000 * mine:.0f} | {plain / mine:.2f} |",
    ]
    print("\n".join(lines))
    if options.out is not None:
        options.out.write_text("\n".join([*lines, ""]), encoding="utf-8")


if __name__ == "__main__":
    with flushed_denormals():
        main()
