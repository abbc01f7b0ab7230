"""``ganblocks evaluate``: compare generated images, of a folder or from a run, with real ones."""

import argparse
import json
import sys
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from tqdm import tqdm

from ganblocks._files import written_atomically
from ganblocks._version import __version__
from ganblocks.cli.arguments import WHERE, Commands, add_command, at_least, usable_device
from ganblocks.cli.extractors import EXTRACTOR_HELP, open_extractor
from ganblocks.cli.output import printable
from ganblocks.cli.trained_generator import TrainedGenerator
from ganblocks.data.idx import idx_images
from ganblocks.data.image_folder import ImageFolder
from ganblocks.data.image_stream import ImageStream, chosen_indices, common_side, warn_of_compression
from ganblocks.data.source import ImageSource
from ganblocks.errors import ImageDecodeError, ImageTooLargeError
from ganblocks.metrics.evaluation import METRICS, Evaluation, evaluate
from ganblocks.metrics.statistics import Statistics

__all__ = ["add_evaluate"]

DEFAULT_METRICS = ("fd", "kid", "prdc", "swd")
MOST_SAMPLES = 10_000  # from a run, unless told otherwise
PREPARATIONS = {"center": "center crop", "squash": "squashed"}  # as fingerprints call --crop
WITHOUT_FEATURES = {"swd", "ms_ssim"}


@dataclass
class _Images:
    """One set: where it comes from, how many images, what yields them, and what was left out."""

    path: Path
    count: int
    batches: ImageStream | Iterator[Tensor] | Statistics

    def described(self) -> dict[str, Any]:
        """For the JSON document."""
        skipped: dict[str, str] = {}
        if isinstance(self.batches, ImageStream):
            names = getattr(self.batches.source, "names", ())
            skipped = {names[index]: reason for index, reason in self.batches.skipped.items()}
        return {"path": str(self.path), "images": self.count - len(skipped), "skipped": skipped}


def add_evaluate(commands: Commands) -> None:
    """Add ``evaluate``."""
    text = "compare generated images with real ones: Frechet and kernel distance, precision, recall and others"
    add = add_command(commands, "evaluate", _evaluate, text).add_argument
    what = "folder, zip or folder of IDX files"
    add("--real", type=Path, required=True, metavar="PATH", help=f"real images: {what}; for fd also an .npz file")
    add("--fake", type=Path, metavar="PATH", help=f"generated images: {what}")
    add("--run", dest="dir", type=Path, metavar="DIR", help=f"or sample them: {WHERE}")
    add("--held-out", type=Path, metavar="PATH", help="real images not trained on, for memorisation")
    add("--metrics", type=_metrics, default=DEFAULT_METRICS, help=f"of {', '.join(METRICS)} (default: fd,kid,prdc,swd)")
    add("--extractor", default="random", metavar="KIND", help=f"{EXTRACTOR_HELP} (default: %(default)s)")
    add(
        "--resolution", type=at_least(4), metavar="R", help="side to which all images are brought (default: the fakes')"
    )
    add("--crop", choices=("center", "squash"), default="center", help="how images become square")
    add("--channels", type=int, choices=(1, 3), help="1 grey, 3 colour (default: the run's or the IDX file's, else 3)")
    add("--split", choices=("train", "test"), default="train", help="part of an IDX folder of --real (fakes: test)")
    add("--count", type=at_least(2), metavar="N", help="samples of --run (default: as many as reals, 10,000 at most)")
    add("--most", type=at_least(2), metavar="N", help="of a larger set, take N images at random")
    add("--skip-damaged", action="store_true", help="leave out files that cannot be read, and list them")
    add("--real-count", type=at_least(2), metavar="N", help="images behind an .npz that does not say how it was made; "
        "it is then taken to be of this --extractor and size")  # fmt: skip
    add("--seed", type=at_least(0), default=0, metavar="S", help="of samples, choices and subsets (default: 0)")
    add("--batch-size", type=at_least(1), default=64, metavar="B", help="images at a time (default: 64)")
    add("--device", default="cuda" if torch.cuda.is_available() else "cpu", help="(default: %(default)s)")
    add("--json", type=Path, metavar="FILE", help="write all scores, settings and counts ('-': print them instead)")


def _metrics(text: str) -> tuple[str, ...]:
    """The type of --metrics."""
    names = tuple(name.strip().replace("-", "_") for name in text.split(",") if name.strip())
    unknown = [name for name in names if name not in METRICS]
    if unknown or not names:
        raise argparse.ArgumentTypeError(f"{text!r}, but must be some of {','.join(METRICS)}, with commas between")
    return names


def _evaluate(options: argparse.Namespace) -> int:
    if (options.fake is None) == (options.dir is None):
        raise ValueError("give the generated images: either --fake PATH or --run DIR")
    if "memorisation" in options.metrics and options.held_out is None:
        raise ValueError("memorisation needs --held-out PATH, real images that were not trained on")
    if options.real_count is not None and options.real.suffix != ".npz":
        raise ValueError("--real-count is for statistics in an .npz file; images are counted")
    device = usable_device(options.device)
    told: list[str] = []
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            document, evaluation = _measure(options, device)
        except (ImageDecodeError, ImageTooLargeError) as error:
            raise type(error)(f"{error}; --skip-damaged leaves such files out and lists them") from error
        finally:
            told += dict.fromkeys(str(warning.message) for warning in caught)
            for message in told:
                print(printable(f"warning: {message}"), file=sys.stderr)
    document["warnings"] = told
    for kind in ("real", "fake", "held_out"):
        for name, reason in document.get(kind, {}).get("skipped", {}).items():
            print(printable(f"left out of {kind}: {name} ({reason})"), file=sys.stderr)
    text = json.dumps(document, indent=1)
    if str(options.json) == "-":
        print(text)
        return 0
    if options.json is not None:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        with written_atomically(options.json) as file:
            file.write(text.encode() + b"\n")
    for line in str(evaluation).splitlines():
        print(printable(line))
    return 0


def _measure(options: argparse.Namespace, device: torch.device) -> tuple[dict[str, Any], Evaluation]:
    """Open everything, compare, and tell what was compared."""
    generator = None if options.dir is None else TrainedGenerator(options.dir, device)
    source = None if options.fake is None else _open(options.fake, options, "test")
    channels = generator.image_channels if generator else options.channels or (source.image_channels if source else 3)
    resolution = options.resolution or _side(generator, source, options)
    if generator is not None and resolution != generator.side:
        raise ValueError(f"--resolution is {resolution}, but the run makes {generator.side}x{generator.side} px")
    if options.channels not in (None, channels):
        raise ValueError(f"--channels is {options.channels}, but the run makes images of {channels}")
    options.channels = channels
    preparation = PREPARATIONS[options.crop]
    extractor = None
    if set(options.metrics) - WITHOUT_FEATURES:
        extractor = open_extractor(options.extractor, image_channels=channels, device=device)

    shape = (channels, resolution, resolution)
    real = _real(options, resolution, None if extractor is None else extractor.fingerprint_of(shape, preparation))
    if generator is not None:
        count = options.count or min(real.count, MOST_SAMPLES)
        fake = _Images(options.dir, count, generator.pictures(count, seed=options.seed))
    else:
        assert source is not None
        fake = _stream(options.fake, source, resolution, options)
    sets = {"real": real, "fake": fake}
    if options.held_out is not None:
        sets["held_out"] = _stream(options.held_out, _open(options.held_out, options, "test"), resolution, options)

    with _Progress(sets) as progress:
        evaluation = evaluate(
            real.batches,
            fake.batches,  # type: ignore[arg-type]  # statistics stand for real images only
            options.metrics,
            extractor=extractor,
            held_out=sets["held_out"].batches if "held_out" in sets else None,  # type: ignore[arg-type]
            seed=options.seed,
            preparation=preparation,
            progress=progress,
        )
    about = {
        "ganblocks": __version__,
        "resolution": resolution,
        "channels": channels,
        "crop": options.crop,
        "seed": options.seed,
        "extractor": None if extractor is None else extractor.fingerprint,
    }
    described = {kind: images.described() for kind, images in sets.items()}
    return {**about, **described, "scores": evaluation.to_dict()}, evaluation


def _open(path: Path, options: argparse.Namespace, split: Any) -> ImageSource:
    """Images of a folder, a zip, or IDX files."""
    if path.is_dir() and any("-ubyte" in entry.name for entry in path.iterdir()):
        return idx_images(path, split)
    source = ImageFolder(path, image_channels=options.channels or 3, crop=options.crop)
    warn_of_compression(source.names, str(path))
    return source


def _side(generator: TrainedGenerator | None, source: ImageSource | None, options: argparse.Namespace) -> int:
    """What all images are brought to, unless the user says otherwise: the size of the generated ones."""
    if generator is not None:
        return generator.side
    assert source is not None
    return common_side(source, skip_damaged=options.skip_damaged, option="--resolution")


def _real(options: argparse.Namespace, resolution: int, fingerprint: str | None) -> _Images:
    path: Path = options.real
    if path.suffix == ".npz":
        told = {} if options.real_count is None else {"count": options.real_count, "fingerprint": fingerprint}
        statistics = Statistics.load(path, **told)
        return _Images(path, statistics.count, statistics)
    return _stream(path, _open(path, options, options.split), resolution, options)


def _stream(path: Path, source: ImageSource, resolution: int, options: argparse.Namespace) -> _Images:
    indices = chosen_indices(len(source), options.most, seed=options.seed)
    stream = ImageStream(
        source, resolution, indices=indices, batch_size=options.batch_size, skip_damaged=options.skip_damaged
    )
    return _Images(path, len(indices), stream)


class _Progress:
    """One bar a set, on standard error where that is a terminal."""

    def __init__(self, sets: dict[str, _Images]) -> None:
        self._totals = {kind: images.count for kind, images in sets.items()}
        self._kind, self._bar = "", tqdm(disable=True)

    def __enter__(self) -> "_Progress":
        return self

    def __exit__(self, *failure: object) -> None:
        self._bar.close()

    def __call__(self, kind: str, done: int) -> None:
        """Show that so many images of this kind were read."""
        if kind != self._kind:
            self._bar.close()
            hidden = not sys.stderr.isatty()
            self._kind, self._bar = kind, tqdm(total=self._totals[kind], desc=kind, unit="img", disable=hidden)
        self._bar.update(done - self._bar.n)
