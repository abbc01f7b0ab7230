"""The command ``ganblocks``: look after checkpoints, sample from a run, report on it, and tell what is installed.

The exit code is 0 if all is well, 1 if checked data is not, and 2 for a wrong call or anything that could not be done,
with one line on stderr that says why; 130 after Ctrl-C and 141 after a closed pipe, as in a shell. Runs are only read:
what is written goes where ``--out`` says, and the page of ``report`` beside them unless it says otherwise.
"""

import argparse
import contextlib
import importlib.metadata
import json
import math
import os
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ganblocks._version import __version__
from ganblocks.errors import CheckpointError, GanblocksError, NonFiniteError
from ganblocks.functional.image_range import to_uint8
from ganblocks.functional.latent import normal_latents, truncated_normal_latents
from ganblocks.models.registry import generator_from_metadata
from ganblocks.training.checkpoint_format import Checkpoint, read_checkpoint, read_manifest, verify_hashes
from ganblocks.training.environment import describe_environment
from ganblocks.training.precision import Precision
from ganblocks.training.saved_weights import (
    PARTS,
    find_checkpoints,
    read_foreign_weights,
    read_newest_checkpoint,
    weights_of,
    write_weights,
)
from ganblocks.visualization import save_image_grid

__all__ = ["main"]

EXTRAS = {  # extra -> the packages that it adds itself, by the names under which they are installed
    "train": ("tensorboard", "matplotlib"),
    "vision": ("torchvision", "timm"),
    "metrics": ("scikit-learn", "torch-fidelity"),
    "examples": ("scikit-image", "networkx", "pooch"),
    "hub": ("huggingface-hub",),
    "export": ("onnx", "onnxscript"),
}
PACKAGES = ("numpy", "pillow", "scipy", "safetensors", "tqdm", "triton")
BATCH_PIXELS = 2**20  # of one batch of samples: 64 of 128 x 128, 1 of 1024 x 1024 ...
LARGEST_BATCH = 64  # ... and never more than these
LARGEST_SHEET = 80_000_000  # pixels; image viewers begin to refuse above


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code: 0, 1 (checked data is wrong) or 2 (it could not be done).

    Args:
        arguments: What follows the name of the command; ``None`` = those of this process.

    Raises:
        SystemExit: As argparse does, for a wrong call (code 2), ``--help`` and ``--version`` (code 0).
    """
    options = _parser().parse_args(arguments)
    try:
        code: int = options.run(options)
        sys.stdout.flush()
        return code
    except BrokenPipeError:  # the reader, `head` for one, has seen enough; nothing more goes into the pipe, at exit too
        with contextlib.suppress(OSError, ValueError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except KeyboardInterrupt:
        return 130
    except (GanblocksError, ValueError, OSError, ImportError, MemoryError) as error:
        failure: Exception = error
    except RuntimeError as error:  # torch reports a full memory as RuntimeError on the CPU
        if not isinstance(error, torch.OutOfMemoryError) and "can't allocate memory" not in str(error):
            raise
        failure = error
    print(_printable(f"{type(failure).__name__}: {failure}"), file=sys.stderr)
    return 2


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="ganblocks", description="Look after the runs of ganblocks.")
    parser.add_argument("--version", action="version", version=f"ganblocks {__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)

    def command(group: Any, name: str, run: Callable[[argparse.Namespace], int], text: str) -> Any:
        added = group.add_parser(name, help=text, description=text[0].upper() + text[1:] + ".")
        added.set_defaults(run=run)
        return added.add_argument

    text = "list, verify, export or import weights"
    checkpoint = commands.add_parser("checkpoint", help=text, description=text[0].upper() + text[1:] + ".")
    group = checkpoint.add_subparsers(title="commands", metavar="COMMAND", required=True)
    where = "run directory, its folder of checkpoints, or one checkpoint"
    for name, run, text in (
        ("list", _list, "what checkpoints there are, who wrote them, and whether their bytes are those written"),
        ("verify", _verify, "read every byte of every checkpoint; exit code 1 if one is damaged"),
    ):
        add = command(group, name, run, text)
        add("dir", type=Path, help=where)
        add("--json", action="store_true", help="print JSON")

    add = command(group, "export", _export, "write the newest intact checkpoint's weights as a safetensors file")
    add("dir", type=Path, help=where)
    add("--out", type=_safetensors, required=True, metavar="FILE.safetensors")
    add("--part", choices=PARTS, help="which network (default: ema, or generator where there is no moving average)")
    add("--force", action="store_true", help="replace FILE if it is there")

    add = command(group, "import", _import, "turn a foreign .pt file into safetensors; nothing in it is run")
    add("file", type=Path, help="a file that torch.save wrote: a state dict, or a dict that holds some")
    add("--out", type=_safetensors, required=True, metavar="FILE.safetensors")
    add("--key", help="which of the state dicts in the file (needed if it holds more than one)")
    add("--force", action="store_true", help="replace FILE if it is there")

    add = command(commands, "sample", _sample, "new images from the newest intact checkpoint of a run")
    add("--run", dest="dir", type=Path, required=True, metavar="DIR", help=where)
    add("--count", type=_at_least(1), required=True, metavar="N", help="how many")
    add("--seed", type=_at_least(0), default=0, metavar="S", help="of the latents (default: 0)")
    add("--out", type=Path, required=True, help="a .png file for one sheet, or a new folder for 00000.png and so on")
    add("--truncation", type=_positive, metavar="T", help="bound of the latents (default: as the run drew them)")
    add("--device", default="cuda" if torch.cuda.is_available() else "cpu", help="(default: %(default)s)")
    add("--force", action="store_true", help="write even if OUT is there")

    add = command(commands, "report", _report, "one page with settings, curves and samples of a run")
    add("dir", type=Path, metavar="RUN", help="run directory")
    add("--out", type=Path, metavar="FILE", help="where to (default: RUN/report.html)")

    add = command(commands, "info", _info, "versions, extras, processor and GPUs")
    add("--json", action="store_true", help="print JSON")
    return parser


def _list(options: argparse.Namespace) -> int:
    found = _inspect(options.dir, verify_hashes)
    rows = [("checkpoint", "images", "size", "written by", "state")]
    for entry in found:
        images = f"{entry['images_seen']:,}" if isinstance(entry["images_seen"], int) else "?"
        size = "?" if entry["bytes"] is None else _size(entry["bytes"])
        writer = f"ganblocks {entry['ganblocks'] or '?'}, torch {entry['torch'] or '?'}"
        rows.append((entry["checkpoint"], images, size, writer, entry["problem"] or "valid"))
    print(json.dumps(found, indent=1) if options.json else _table(rows))
    return int(any(entry["problem"] for entry in found))


def _verify(options: argparse.Namespace) -> int:
    found = _inspect(options.dir, read_checkpoint)
    rows = [(entry["checkpoint"], entry["problem"] or "valid") for entry in found]
    print(json.dumps(found, indent=1) if options.json else _table(rows))
    return int(any(entry["problem"] for entry in found))


def _export(options: argparse.Namespace) -> int:
    _require_free(options.out, options.force)
    checkpoint = _newest(options.dir)
    part, weights = weights_of(checkpoint, options.part)
    about = {"format": "pt", "ganblocks": __version__, "part": part, "images_seen": checkpoint.images_seen}
    write_weights(options.out, weights, {**checkpoint.metadata, **about})
    print(_printable(f"{part} after {checkpoint.images_seen:,} images: {_amount(weights)} in {options.out}"))
    return 0


def _import(options: argparse.Namespace) -> int:
    _require_free(options.out, options.force)
    key, weights = read_foreign_weights(options.file, options.key)
    write_weights(options.out, weights, {"format": "pt"})
    print(_printable(f"{_amount(weights)}{'' if key is None else f' of the key {key!r}'} in {options.out}"))
    return 0


def _sample(options: argparse.Namespace) -> int:
    device = _device(options.device)
    out: Path = options.out
    sheet = out.suffix.lower() == ".png"
    if sheet:
        _require_free(out, options.force)
    elif out.is_dir() and any(out.iterdir()) and not options.force:
        raise ValueError(f"--out is {out}, but must be a new or an empty folder (or say --force)")
    checkpoint = _newest(options.dir)
    generator = _generator(checkpoint).to(device)
    resolution, alpha, truncation = _state_of_growth(checkpoint)
    truncation = truncation if options.truncation is None else options.truncation
    config: Any = generator.config
    side = config.resolution if resolution is None else resolution
    enlarge = max(1, 64 // side)
    if sheet and options.count * (side * enlarge + 2) ** 2 > LARGEST_SHEET:
        raise ValueError(f"--count is {options.count}, but so many do not fit one sheet: give a folder as --out")
    pictures = _pictures(generator, options.count, options.seed, resolution, alpha, truncation)
    if sheet:
        save_image_grid(torch.cat(list(pictures)), out, scale=enlarge)
    else:
        out.mkdir(parents=True, exist_ok=True)
        for index, image in enumerate(image for batch in pictures for image in batch):
            save_image_grid(image[None], out / f"{index:05d}.png", padding=0)
    print(
        _printable(
            f"{options.count} images of {side}x{side} px after {checkpoint.images_seen:,} images of training in {out}"
        )
    )
    return 0


def _report(options: argparse.Namespace) -> int:
    from ganblocks.visualization.report import write_report

    print(_printable(str(write_report(options.dir, options.out))))
    return 0


def _info(options: argparse.Namespace) -> int:
    gpus = [torch.cuda.get_device_properties(index) for index in range(torch.cuda.device_count())]
    devices = ["cpu", *(f"cuda:{index}" for index in range(len(gpus)))]
    found: dict[str, Any] = {
        **describe_environment(),
        "gpu_memory": [gpu.total_memory for gpu in gpus],
        "precision_auto": {device: Precision.resolve("auto", device).name for device in devices},
        "packages": {package: _version(package) for package in PACKAGES},
        "extras": {extra: {package: _version(package) for package in own} for extra, own in EXTRAS.items()},
        "install": {extra: f'pip install "ganblocks[{extra}]"' for extra in EXTRAS},
    }
    rows = [(name, found[name]) for name in ("ganblocks", "python", "torch")]
    rows += [(package, version or "missing") for package, version in found["packages"].items()]
    for extra, own in found["extras"].items():
        there = [f"{package} {version}" for package, version in own.items() if version]
        missing = [package for package, version in own.items() if not version]
        advice = [f"{', '.join(missing)} missing: {found['install'][extra]}"] if missing else []
        rows.append((f"extra {extra}", "; ".join([*([", ".join(there)] if there else []), *advice])))
    amx = "AMX" if found["amx"] else "no AMX"
    rows.append(("CPU", f"{found['machine']}, {found['cores']} cores, {found['cpu']}, {amx}"))
    rows.append(("threads", str(found["threads"])))
    rows += [("GPU", f"{gpu.name}, {_size(gpu.total_memory)}") for gpu in gpus] or [("GPU", "none that PyTorch finds")]
    rows.append(
        ("precision auto", ", ".join(f"{name} on {device}" for device, name in found["precision_auto"].items()))
    )
    print(json.dumps(found, indent=1) if options.json else _table(rows))
    return 0


def _generator(checkpoint: Checkpoint) -> nn.Module:
    """The generator of a checkpoint, on the CPU: the moving average where there is one."""
    with torch.device("meta"):  # the file's claims cost no memory before its weights have confirmed them
        generator = generator_from_metadata(checkpoint.metadata)
    try:
        generator.load_state_dict(weights_of(checkpoint)[1], assign=True)
    except RuntimeError as error:
        raise CheckpointError(f"{checkpoint.path}: the weights do not fit the configuration: {error}") from error
    return generator.eval()


@torch.inference_mode()
def _pictures(
    generator: nn.Module, count: int, seed: int, resolution: int | None, alpha: float, truncation: float | None
) -> Iterator[Tensor]:
    """Images as bytes on the CPU, batch by batch, those of ``generator.sample``: all latents come from one draw."""
    config: Any = generator.config
    if truncation is None:
        latents = normal_latents(count, config.latent_dim, seed=seed)
    else:
        latents = truncated_normal_latents(count, config.latent_dim, truncation=truncation, seed=seed)
    labels = torch.arange(count) % config.num_classes if config.num_classes else None
    weight = next(generator.parameters())
    size = max(1, min(LARGEST_BATCH, BATCH_PIXELS // (resolution or config.resolution) ** 2))
    for start in range(0, count, size):
        code = latents[start : start + size].to(weight)
        classes = None if labels is None else labels[start : start + size].to(weight.device)
        images = generator(code, classes, resolution=resolution, alpha=alpha)
        if images.isnan().any():
            raise NonFiniteError("the generator gives NaN: its weights, or what it was trained to, are broken")
        yield to_uint8(images).cpu()


def _state_of_growth(checkpoint: Checkpoint) -> tuple[int | None, float, float | None]:
    """Resolution, alpha and truncation that the metadata give."""
    phase, truncation = checkpoint.metadata.get("phase", {}), checkpoint.metadata.get("truncation")
    if isinstance(phase, dict):
        resolution, alpha = phase.get("resolution"), phase.get("alpha", 1.0)
        numbers = isinstance(alpha, int | float) and (truncation is None or isinstance(truncation, int | float))
        if numbers and (resolution is None or type(resolution) is int):
            return resolution, alpha, truncation
    raise CheckpointError(f"{checkpoint.path}: the metadata's phase {phase!r} or truncation {truncation!r} is no such")


def _inspect(path: Path, check: Callable[[Path], object]) -> list[dict[str, Any]]:
    """What can be told of each checkpoint; ``problem`` is None for a valid one."""
    entries = []
    for checkpoint in find_checkpoints(path):
        manifest: dict[str, Any] = {}
        problem = None
        try:
            manifest = read_manifest(checkpoint)
            check(checkpoint)
        except CheckpointError as error:
            if not os.path.lexists(checkpoint):  # a training run has deleted it meanwhile
                continue
            problem = str(error)
        size = None
        with contextlib.suppress(OSError):
            if not checkpoint.is_symlink():
                size = sum(file.lstat().st_size for file in checkpoint.iterdir())
        versions = {name: manifest.get(name) for name in ("images_seen", "ganblocks", "torch")}
        entries.append({"checkpoint": checkpoint.name, **versions, "bytes": size, "problem": problem})
    return entries


def _newest(path: Path) -> Checkpoint:
    """The newest intact checkpoint; damaged newer ones are told of on stderr."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        checkpoint = read_newest_checkpoint(path)
    for warning in caught:
        print(_printable(f"warning: {warning.message}"), file=sys.stderr)
    return checkpoint


def _require_free(path: Path, force: bool) -> None:
    """Raise unless nothing is there, not even a dangling link, or it is no folder and may be replaced."""
    if path.is_dir():
        raise ValueError(f"--out is {path}, but that is a folder")
    if os.path.lexists(path) and not force:
        raise ValueError(f"--out is {path}, but that exists (--force replaces it)")


def _amount(weights: Mapping[str, Tensor]) -> str:
    return f"{len(weights)} tensors, {sum(tensor.numel() for tensor in weights.values()):,} numbers"


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _size(count: int) -> str:
    """Bytes in decimal units, three digits."""
    value, unit = float(count), "B"
    for larger in ("kB", "MB", "GB", "TB"):
        if value < 999.5:
            break
        value, unit = value / 1000, larger
    return f"{value:.3g} {unit}"


def _table(rows: Sequence[Sequence[str]]) -> str:
    """Aligned columns."""
    rows = [list(map(_printable, row)) for row in rows]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]) - 1)]
    return "\n".join("  ".join([*map(str.ljust, row, widths), row[-1]]) for row in rows)


def _printable(text: str) -> str:
    """One line that can do nothing to a terminal: names and numbers may come from a stranger's file."""
    return "".join(c if c.isprintable() else " " if c.isspace() else ascii(c)[1:-1] for c in text)


def _device(name: str) -> torch.device:
    try:
        device = torch.device(name)
        torch.zeros(1, device=device).item()
    except (AssertionError, ImportError, RuntimeError) as error:
        raise ValueError(
            f"--device is {name}, but must be one that PyTorch finds here: cpu, cuda, cuda:1 ..."
        ) from error
    return device


def _at_least(minimum: int) -> Callable[[str], int]:
    def number(text: str) -> int:
        if not (text.isascii() and text.isdigit() and minimum <= int(text) < 2**63):
            raise argparse.ArgumentTypeError(f"{text!r}, but must be a whole number, at least {minimum}")
        return int(text)

    return number


def _positive(text: str) -> float:
    with contextlib.suppress(ValueError):
        if 0 < float(text) < math.inf:
            return float(text)
    raise argparse.ArgumentTypeError(f"{text!r}, but must be a positive number")


def _safetensors(text: str) -> Path:
    if not text.endswith(".safetensors"):
        raise argparse.ArgumentTypeError(f'{text!r}, but must end in ".safetensors"')
    return Path(text)
