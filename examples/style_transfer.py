"""Paint a photograph in the manner of a painting: by its pixels, or by a network that does it in one pass.

    python examples/style_transfer.py --content photo.jpg --style painting.jpg --weights vgg19.safetensors
    python examples/style_transfer.py --content photo.jpg --style painting.jpg --recipe document   # the text's settings
    python examples/style_transfer.py --method feedforward --data paintings.zip --content photo.jpg --style painting.jpg
    python examples/style_transfer.py --method adain --data paintings.zip --content photo.jpg --style painting.jpg
    python examples/style_transfer.py --smoke                                  # a trial of seconds on drawn pictures

Needs: pip install "ganblocks[train]". Runs on a CPU or a GPU.

--method optimise changes the pixels of the content until its features fit (Gatys, Ecker and Bethge 2016): no training,
minutes a picture on a CPU. feedforward trains a network for one style (Johnson, Alahi and Fei-Fei 2016), adain a
decoder for any (Huang and Belongie 2017), on --data, a folder or zip of pictures; once trained, the same command with
another --content (adain: another --style too) takes a second.

What is seen as style depends on the network that looks. With the weights of torchvision's VGG19 (--weights; convert
them once with `safetensors.torch.save_file(torchvision.models.vgg19(weights="DEFAULT").state_dict(), "vgg19.
safetensors")`) it is the known effect. Without them VGG19 has random numbers: colours and the grain of brush strokes
come over, shapes of the painting do not. --extractor painting --weights RUN takes a PaintingCNN that artist_classifier.
py has trained: more than random, far from VGG19.

The run directory (--out) ends up with
    results/<content>.png       the picture
    figures/                    content, style, early and late steps, high frequencies beside Sobel's filter
    progress.gif                how it came about; samples/ has its frames
    log.jsonl, report.html      the loss and its parts; all of it on one page
    network.safetensors         of feedforward and adain; checkpoints/ has the newest two

Stopping (Ctrl-C, SIGTERM) a training loses nothing: the same command goes on. An optimisation begins anew.
"""

import argparse
import dataclasses
import math
import os
import sys
import time
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from tqdm import tqdm

from ganblocks._version import __version__
from ganblocks.data import ImageFolder, TensorBatches, read_images
from ganblocks.data.pictures import read_picture, write_picture
from ganblocks.data.synthetic import Faces, Shapes
from ganblocks.errors import GanblocksError
from ganblocks.functional.edges import neighbor_differences, sobel
from ganblocks.functional.tiles import in_tiles
from ganblocks.models.feature_maps import FeatureMaps, PaintingFeatures, VGG19Features
from ganblocks.models.painting_classifier import PaintingCNN
from ganblocks.models.registry import load_classifier, name_in_files
from ganblocks.models.style_transfer import (
    StyleDecoder,
    StyleDecoderConfig,
    TransformConfig,
    TransformNetwork,
    stylized_features,
)
from ganblocks.training import (
    Precision,
    ProgressBar,
    Report,
    SampleSheets,
    StyleRecipe,
    StyleStep,
    Summary,
    TensorBoard,
    Trainer,
    new_run_directory,
    plain_weights,
    stylize,
)
from ganblocks.training.environment import flushed_denormals
from ganblocks.training.interrupt import GracefulStop
from ganblocks.training.logging import RunLog
from ganblocks.training.pixel_optimization import document
from ganblocks.training.run_directory import claim_run_directory, require_own_run_directory
from ganblocks.training.saved_weights import write_weights
from ganblocks.training.steps import Step
from ganblocks.training.style_recipes import StyleTrainingRecipe, any_style, one_style
from ganblocks.visualization.animation import save_animation
from ganblocks.visualization.panel import sample_panel
from ganblocks.visualization.report import write_report

LAYERS = {  # content, style; the last layer of adain
    "vgg19": (["block5_conv2"], [f"block{number}_conv1" for number in range(1, 6)], "block4_conv1"),
    "painting": (["block3"], ["block1", "block2", "block3", "block4"], "block3"),
}
SMALLEST = 16  # side of pictures for a network of one pass
EARLY = 3  # steps, of the short optimisation
FRAMES = 40
RECORDS = 200  # lines of the log
LEAST = {"side": 16, "steps": 1, "tile": 64, "overlap": 0, "training_side": 16, "images": 1, "batch_size": 1}


class StoppedError(Exception):
    """The user asked for it."""


@dataclasses.dataclass(frozen=True)
class Pictures:
    """What is to be painted, and how: ``[1, 3, H, W]`` in [0, 1]."""

    content: Tensor
    style: Tensor
    name: str


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line and fill in what depends on other choices."""
    parser = argparse.ArgumentParser(description="Give a picture the look of another.")
    add = parser.add_argument
    add("--content", type=Path, help="the picture to be painted")
    add("--style", type=Path, help="the picture that shows how")
    add("--method", choices=("optimise", "feedforward", "adain"), default="optimise")
    add("--side", type=int, default=512, help="longer side of the result in pixels, at most (default: %(default)s)")
    add("--extractor", choices=tuple(LAYERS), default="vgg19", help="what looks at the pictures (default: %(default)s)")
    add("--weights", type=Path, help="of VGG19, .safetensors; or a run directory of artist_classifier.py")
    add("--pooling", choices=("max", "average"), default="max", help="of VGG19 (default: %(default)s)")
    add("--preprocessing", choices=("torchvision", "caffe"), default="torchvision", help="what VGG19 was trained with")
    add("--content-layers", nargs="+", help="(default: those of the text)")
    add("--style-layers", nargs="+", help="(default: those of the text)")
    add("--recipe", choices=("library", "document"), default="library", help="of optimise (default: %(default)s)")
    add("--content-weight", type=float)
    add("--style-weight", type=float)
    add("--variation-weight", type=float)
    add("--steps", type=int, help="of optimise, at each scale (default: 200; document 1000)")
    add("--scales", type=float, nargs="+", help="of optimise: shares of the side, rising to 1 (default: 0.5 1)")
    add("--start", choices=("content", "noise", "style"), help="of optimise (default: content)")
    add("--optimizer", choices=("adam", "lbfgs"), help="of optimise (default: adam)")
    add("--color", choices=("free", "matched", "luminance"), help="of optimise: whose colours the result has")
    add("--mask", type=Path, help="of optimise: a grey picture, black where the content stays as it is")
    add("--no-comparison", action="store_true", help="of optimise: leave out the run without variation, half the time")
    add("--strength", type=float, default=1.0, help="of adain: 0 = the content as it is, to 1 (default: %(default)s)")
    add("--tile", type=int, help="of optimise and feedforward: pixels at once, for pictures too large for the memory")
    add("--overlap", type=int, default=64, help="of tiles, in pixels (default: %(default)s)")
    add("--recompute", action="store_true", help="less memory, half as much more time")
    add("--data", type=Path, help="folder or zip of pictures to train on (default: $GANBLOCKS_DATA/best_artworks)")
    add("--training-side", type=int, default=128, help="of these, in pixels (default: %(default)s)")
    add("--images", type=int, help="to see in training (default: 16000)")
    add("--batch-size", type=int, help="of training (default: 4; adain 8)")
    add("--learning-rate", type=float, help="of training (default: 0.001; adain 0.0001)")
    add("--out", type=Path, help="run directory (default: runs/style_<method>)")
    add("--fresh", action="store_true", help="start anew in a new directory, OUT-2 and so on")
    add("--smoke", action="store_true", help="a trial of seconds")
    add("--seed", type=int, default=0)
    add("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    add("--precision", choices=("auto", "fp32", "bf16", "fp16"), default="auto")
    add("--threads", type=int, help="CPU threads (default: torch's own choice)")
    options = parser.parse_args(arguments)
    for name, least in LEAST.items():
        value = getattr(options, name)
        if value is not None and value < least:
            parser.error(f"--{name.replace('_', '-')} is {value}, but must be at least {least}")
    if options.extractor == "painting" and options.weights is None and not options.smoke:
        parser.error("--extractor painting needs --weights: a run directory of artist_classifier.py")
    missing = [name for name in ("content", "style") if getattr(options, name) is None]
    if missing and not options.smoke:
        parser.error(f"--{missing[0]} is missing: a picture file, or --smoke for a trial")
    if not 0 <= options.strength <= 1:
        parser.error(f"--strength is {options.strength}, but must be from 0 to 1")
    try:
        device = torch.device(options.device)
    except RuntimeError:
        parser.error(f"--device is {options.device}, but must be cpu, cuda or cuda:0 and so on")
    if device.type == "cuda" and not torch.cuda.is_available():
        parser.error(f"--device is {options.device}, but PyTorch finds no GPU here")
    if options.smoke:
        options.side, options.training_side = min(options.side, 64), min(options.training_side, 32)
        options.steps, options.images = options.steps or 4, options.images or 16
        options.batch_size = options.batch_size or 2
    options.out = options.out or Path("runs") / f"style_{options.method}"
    return options


def open_pictures(options: argparse.Namespace) -> Pictures:
    """Both pictures; drawn ones in a trial."""
    if options.content is not None:
        content, name = read_picture(options.content, options.side), options.content.stem
    else:
        content, name = _drawn(Faces(1, seed=1), options.side), "drawn"
    if options.style is not None:
        style = read_picture(options.style, 2 * options.side)
    else:
        style = _drawn(Shapes(1, seed=2), options.side)
    return Pictures(content, style, name)


def require_large_enough(options: argparse.Namespace, pictures: Pictures, smallest: int, why: str) -> None:
    """Both pictures must have so many pixels a side.

    Raises:
        ValueError: If one has fewer.
    """
    for path, picture in ((options.content, pictures.content), (options.style, pictures.style)):
        if min(picture.shape[2:]) < smallest:
            size = f"{picture.shape[3]} x {picture.shape[2]}"
            raise ValueError(f"{path} is of {size} pixels here, but each side must have at least {smallest} {why}")


def _drawn(source: Faces | Shapes, side: int) -> Tensor:
    return torch.from_numpy(source.read(0, side))[None] / 255


def open_features(options: argparse.Namespace, layers: Sequence[str], precision: Precision) -> FeatureMaps:
    """The network that looks at pictures, with the layers wanted."""
    features: FeatureMaps
    if options.extractor == "painting" and options.weights is not None:
        classifier = load_classifier(options.weights)
        if not isinstance(classifier, PaintingCNN):
            raise ValueError(f"{options.weights} holds a {type(classifier).__name__}, but must hold a PaintingCNN")
        features = PaintingFeatures(classifier, layers, recompute=options.recompute)
    else:
        if options.weights is None:
            print("No --weights: the features are random. Colours and grain come over, the painting's shapes do not.")
        features = VGG19Features(
            layers,
            options.weights,
            pooling=options.pooling,
            preprocessing=options.preprocessing,
            recompute=options.recompute,
            generator=torch.Generator().manual_seed(0),
        )
    features.to(memory_format=precision.memory_format(options.side))
    return features.to(precision.device)


def chosen_layers(options: argparse.Namespace) -> tuple[list[str], list[str]]:
    """Of content and style."""
    content, style, _ = LAYERS["vgg19" if options.smoke else options.extractor]
    return options.content_layers or content, options.style_layers or style


def tiled(function: Callable[[Tensor], Tensor], options: argparse.Namespace) -> Callable[[Tensor], Tensor]:
    """The function in tiles, if they are asked for."""
    if options.tile is None:
        return function
    return lambda image: in_tiles(function, image, tile=options.tile, overlap=options.overlap)


class Watch:
    """Progress, log and frames of one optimisation."""

    def __init__(self, run_dir: Path, log: RunLog, stop: GracefulStop, done: int, frames: bool) -> None:
        self.run_dir, self.log, self.stop, self.done, self.frames = run_dir, log, stop, done, frames
        self.early: Tensor | None = None
        self._bar: Any = None

    def __call__(self, now: StyleStep) -> None:
        """After each step."""
        if self._bar is None:
            self._bar = tqdm(total=now.steps, unit="step", dynamic_ncols=True, disable=not sys.stderr.isatty())
        self._bar.update()
        last = now.step == now.steps
        if now.step == EARLY:
            self.early = now.image.cpu().clone()
        if now.step % max(1, now.steps // RECORDS) == 0 or last:
            values = {name: float(loss) for name, loss in now.losses.items()}
            self._bar.set_postfix({name: f"{value:.3g}" for name, value in values.items()}, refresh=False)
            self.log.append({"images_seen": self.done + now.step, "scale": now.scale, **values})
        if self.frames and (now.step % max(1, now.steps // FRAMES) == 0 or last):
            height, width = now.image.shape[2:]
            write_picture(self.run_dir / "samples" / f"{now.step:012d}_{max(height, width)}px.png", now.image.cpu())
        if last:
            self._bar.close()
            self._bar = None
        if self.stop.requested:
            raise StoppedError


def optimise(options: argparse.Namespace, pictures: Pictures, run_dir: Path, precision: Precision) -> None:
    """Change pixels; twice, without and with the variation's term, unless told otherwise."""
    names = ("content_weight", "style_weight", "variation_weight", "steps", "scales", "start", "optimizer", "color")
    changes = {name: value for name in names if (value := getattr(options, name)) is not None}
    recipe = document(**changes) if options.recipe == "document" else StyleRecipe(**changes)
    content_layers, style_layers = chosen_layers(options)
    pictures_from = [str(options.content), str(options.style), str(options.mask)]
    looking = [options.extractor, str(options.weights), options.pooling, options.preprocessing]
    settings = {
        "method": "optimise",
        "recipe": dataclasses.asdict(recipe),
        "layers": [content_layers, style_layers],
        "pictures": [*pictures_from, options.side],
        "extractor": looking,
        "tiles": [options.tile, options.overlap],
        "seed": options.seed,
        "precision": precision.name,
    }
    require_own_run_directory(run_dir, settings)
    features = open_features(options, sorted({*content_layers, *style_layers}), precision)
    smallest = math.ceil((features.smallest_side + 0.5) / min(recipe.scales))
    require_large_enough(options, pictures, smallest, f"with --scales {' '.join(map(str, recipe.scales))}")
    mask = None
    if options.mask is not None:
        mask = read_picture(options.mask, options.side, image_channels=1)
        if mask.shape[2:] != pictures.content.shape[2:]:
            sizes = " and ".join(f"{x.shape[3]} x {x.shape[2]}" for x in (mask, pictures.content))
            raise ValueError(f"{options.mask} and the content are of {sizes} pixels, but must be of one size")
        if options.tile is not None:
            raise ValueError("--mask goes through in one piece, without --tile")
    claim_run_directory(run_dir, settings)
    log = RunLog(run_dir / "log.jsonl")
    log.rewind(0)  # of a run that was stopped
    log.append({"event": "start", "images_seen": 0})
    runs = [recipe] if options.no_comparison or recipe.variation_weight == 0 else [
        recipe.replace(variation_weight=0.0), recipe
    ]  # fmt: skip
    figures, done = run_dir / "figures", 0
    with GracefulStop() as stop:
        for number, chosen in enumerate(runs):
            last = number == len(runs) - 1
            watch = Watch(run_dir, log, stop, done, frames=last and options.tile is None)
            started = time.perf_counter()

            def painted(part: Tensor, chosen: StyleRecipe = chosen, watch: Watch = watch) -> Tensor:
                return stylize(
                    part, pictures.style, features, content_layers=content_layers, style_layers=style_layers,
                    recipe=chosen, mask=mask, seed=options.seed, precision=precision, on_step=watch,
                ).image  # fmt: skip

            image = tiled(painted, options)(pictures.content)
            done += chosen.steps * len(chosen.scales)
            seconds = time.perf_counter() - started
            print(f"{chosen.steps} steps at {len(chosen.scales)} sizes in {seconds:.0f} s", flush=True)
            if not last or len(runs) == 1:
                if watch.early is not None:
                    write_picture(figures / "12_short.png", watch.early)
                write_picture(figures / "13_long.png", image)
                high_frequencies(pictures.content, image, figures / "14_high_frequency.png")
            if last and recipe.variation_weight > 0:
                write_picture(figures / "15_variation.png", image)
    write_picture(run_dir / "results" / f"{pictures.name}.png", image)
    frames = sorted((run_dir / "samples").glob("*.png"))
    if frames:
        save_animation(frames, run_dir / "progress.gif")


def high_frequencies(content: Tensor, result: Tensor, path: Path) -> None:
    """Differences of neighbours of both pictures, and what Sobel's filter makes of the content; grey is none."""
    parts = [*neighbor_differences(content), *neighbor_differences(result), *(4 * part for part in sobel(content))]
    names = ["content, right", "content, down", "result, right", "result, down", "Sobel, right", "Sobel, down"]
    panels = (0.5 + torch.cat(parts)).clamp(0, 1)
    sample_panel(panels, torch.arange(6), classes=names, columns=2, rows=3, title="High frequencies", path=path)


def training_images(options: argparse.Namespace) -> tuple[Tensor, str]:
    """uint8 ``[N, 3, R, R]``, and the fingerprint of their source."""
    source: Any
    root = os.environ.get("GANBLOCKS_DATA")
    if options.data is None and root and (Path(root) / "best_artworks").exists():
        options.data = Path(root) / "best_artworks"
    if options.data is not None:
        source = ImageFolder(options.data)
    elif options.smoke:
        source = Shapes(16)
    else:
        raise ValueError("--data is missing: a folder or zip of pictures to train on")
    print(f"Reading {len(source):,} pictures ...", flush=True)
    return read_images(source, options.training_side)[0], source.fingerprint


@dataclasses.dataclass(frozen=True)
class OnePass:
    """A network that paints in one pass: how it is trained, and how it is used."""

    network: TransformNetwork | StyleDecoder
    step: Step
    recipe: StyleTrainingRecipe
    paint: Callable[[Tensor], Tensor]
    settings: dict[str, Any]


def one_pass(options: argparse.Namespace, pictures: Pictures, precision: Precision) -> OnePass:
    """Network, step and recipe of feedforward or adain."""
    names = ("images", "batch_size", "learning_rate", "content_weight", "style_weight", "variation_weight")
    changes = {name: value for name in names if (value := getattr(options, name)) is not None}
    content_layers, style_layers = chosen_layers(options)
    torch.manual_seed(options.seed)
    if options.method == "feedforward":
        features = open_features(options, sorted({*content_layers, *style_layers}), precision)
        network = TransformNetwork(TransformConfig(base_channels=8 if options.smoke else 32)).to(precision.device)
        recipe = one_style(**changes)
        style = read_picture(options.style, 2 * options.training_side) if options.style else pictures.style
        step = recipe.build_transform_step(
            network, features, style, content_layers=content_layers, style_layers=style_layers, precision=precision
        )
        layers: list[Any] = [content_layers, style_layers]
        return OnePass(network, step, recipe, network, {"layers": layers, "style": str(options.style)})
    last = LAYERS["vgg19" if options.smoke else options.extractor][2]
    until = [*style_layers[: style_layers.index(last)], last] if last in style_layers else [last]
    features = open_features(options, until, precision)
    widths: tuple[int, ...] = (512, 256, 128, 64)
    if isinstance(features, PaintingFeatures):
        of_blocks = [block.weight.shape[0] for block in features.modules() if isinstance(block, nn.Conv2d)]
        widths = (*of_blocks[::-1], of_blocks[0])
    decoder = StyleDecoder(StyleDecoderConfig(widths=widths)).to(precision.device)
    recipe = any_style(**changes)
    decoder_step = recipe.build_decoder_step(decoder, features, until, precision=precision)

    def paint(content: Tensor) -> Tensor:
        style = pictures.style.to(content.device)
        made: Tensor = decoder(stylized_features(features, content, style, strength=options.strength).float())
        return made[:, :, : content.shape[2], : content.shape[3]]

    return OnePass(decoder, decoder_step, recipe, paint, {"layers": until})


def train(options: argparse.Namespace, pictures: Pictures, run_dir: Path, precision: Precision) -> int:
    """Train a network that paints in one pass, unless that is done, and paint."""
    require_large_enough(options, pictures, SMALLEST, "for a network of one pass")
    images, fingerprint = training_images(options)
    parts = one_pass(options, pictures, precision)
    height, width = pictures.content.shape[2:]
    whole = pictures.content[:, :, : height - height % 8, : width - width % 8]  # what a decoder can give back
    content = (whole if options.method == "adain" else pictures.content).to(precision.device)

    @torch.no_grad()
    def painted() -> Tensor:
        with precision.autocast():
            return tiled(lambda part: parts.paint(part).float(), options)(content).cpu()

    name = "feedforward" if options.method == "feedforward" else "adain"
    title = f"Style transfer in one pass ({name}), {len(images):,} pictures of {options.training_side} px"
    trainer = Trainer(
        parts.step,
        TensorBatches(images, seed=options.seed, mirror=True),
        parts.recipe.schedule(),
        run_dir=run_dir,
        seed=options.seed,
        settings={
            "method": name,
            "recipe": dataclasses.asdict(parts.recipe),
            "data": fingerprint,
            "extractor": [options.extractor, str(options.weights)],
            "precision": precision.name,
            "training_side": options.training_side,
            **parts.settings,
        },
        callbacks=[
            ProgressBar(),
            SampleSheets(
                lambda trainer: painted(), fractions=[(n + 1) / 20 for n in range(20)], animation=("progress.gif",)
            ),
            TensorBoard(),
            Summary(title=title),
            Report(title=title, fractions=(0.5,)),
        ],
        log_images=max(1, parts.recipe.images // 400),
        save_images=max(1, parts.recipe.images // 10),
    )
    parameters = sum(p.numel() for p in parts.network.parameters())
    print(f"{parameters:,} parameters; {precision.name} on {precision.device}, {torch.get_num_threads()} threads")
    trainer.dry_run()
    result = trainer.fit()
    if not result.finished:
        print(f"Stopped after {result.images_seen:,} images; the same command goes on from here. See {run_dir}")
        return result.exit_code
    print(f"{result.images_seen:,} images in {result.seconds:.0f} s")
    about = {"format": "pt", "ganblocks": __version__, "model": name_in_files(parts.network)}
    weights = {name: tensor.cpu().contiguous() for name, tensor in plain_weights(parts.network).items()}
    write_weights(run_dir / "network.safetensors", weights, {**about, "config": parts.network.config.to_dict()})
    painted()  # the first call prepares kernels
    started = time.perf_counter()
    image = painted()
    print(f"{image.shape[3]} x {image.shape[2]} pixels in one pass of {1000 * (time.perf_counter() - started):.0f} ms")
    write_picture(run_dir / "results" / f"{pictures.name}.png", image)
    return 0


def run(options: argparse.Namespace) -> int:
    """Open, paint, and put everything on one page."""
    if options.threads:
        torch.set_num_threads(options.threads)
    pictures = open_pictures(options)
    precision = Precision.resolve(options.precision, torch.device(options.device))
    run_dir = new_run_directory(options.out) if options.fresh else options.out
    sizes = [f"{x.shape[3]} x {x.shape[2]}" for x in (pictures.content, pictures.style)]
    print(f"Content of {sizes[0]} pixels, style of {sizes[1]}; {precision.name} on {precision.device}", flush=True)
    code = 0
    if options.method == "optimise":
        optimise(options, pictures, run_dir, precision)
    else:
        code = train(options, pictures, run_dir, precision)
    if code == 0:
        for number, picture in ((10, pictures.content), (11, pictures.style)):
            write_picture(run_dir / "figures" / f"{number}_{'content' if number == 10 else 'style'}.png", picture)
        write_report(run_dir, title=f"{pictures.name}, {options.method}")
        print(f"See {run_dir}")
    return code


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the example; returns the exit code."""
    options = parse(arguments)
    warnings.simplefilter("default")
    try:
        with flushed_denormals():  # before PyTorch starts its threads
            return run(options)
    except StoppedError:
        print("Stopped. An optimisation begins anew with the same command.")
        return 130
    except (GanblocksError, ValueError, OSError, ImportError) as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
