"""``ganblocks checkpoint``: list, verify, export or import weights."""

import argparse
import contextlib
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from ganblocks._version import __version__
from ganblocks.cli.arguments import (
    WHERE,
    Commands,
    add_command,
    add_group,
    newest_checkpoint,
    require_free,
    safetensors_file,
)
from ganblocks.cli.output import readable_size, say, show
from ganblocks.errors import CheckpointError
from ganblocks.training.checkpoint_directory import find_checkpoints
from ganblocks.training.checkpoint_format import read_checkpoint, read_manifest, verify_hashes
from ganblocks.training.saved_weights import PARTS, read_foreign_weights, weights_of, write_weights

__all__ = ["add_checkpoint"]


def add_checkpoint(commands: Commands) -> None:
    """Add ``checkpoint`` and the commands behind it."""
    group = add_group(commands, "checkpoint", "list, verify, export or import weights")
    for name, run, text in (
        ("list", _list, "what checkpoints there are, who wrote them, and whether their bytes are those written"),
        ("verify", _verify, "read every byte of every checkpoint; exit code 1 if one is damaged"),
    ):
        add = add_command(group, name, run, text).add_argument
        add("dir", type=Path, help=WHERE)
        add("--json", action="store_true", help="print JSON")

    text = "write the newest intact checkpoint's weights as a safetensors file"
    add = add_command(group, "export", _export, text).add_argument
    add("dir", type=Path, help=WHERE)
    add("--out", type=safetensors_file, required=True, metavar="FILE.safetensors")
    add("--part", choices=PARTS, help="which network (default: ema, or generator where there is no moving average)")
    add("--force", action="store_true", help="replace FILE if it is there")

    text = "turn a foreign .pt file into safetensors; nothing in it is run"
    add = add_command(group, "import", _import, text).add_argument
    add("file", type=Path, help="a file that torch.save wrote: a state dict, or a dict that holds some")
    add("--out", type=safetensors_file, required=True, metavar="FILE.safetensors")
    add("--key", help="which of the state dicts in the file (needed if it holds more than one)")
    add("--force", action="store_true", help="replace FILE if it is there")


def _list(options: argparse.Namespace) -> int:
    found = _inspect(options.dir, verify_hashes)
    rows = [("checkpoint", "images", "size", "written by", "state")]
    for entry in found:
        images = f"{entry['images_seen']:,}" if isinstance(entry["images_seen"], int) else "?"
        size = "?" if entry["bytes"] is None else readable_size(entry["bytes"])
        writer = f"ganblocks {entry['ganblocks'] or '?'}, torch {entry['torch'] or '?'}"
        rows.append((entry["checkpoint"], images, size, writer, entry["problem"] or "valid"))
    show(found, rows, as_json=options.json)
    return int(any(entry["problem"] for entry in found))


def _verify(options: argparse.Namespace) -> int:
    found = _inspect(options.dir, read_checkpoint)
    rows = [(entry["checkpoint"], entry["problem"] or "valid") for entry in found]
    show(found, rows, as_json=options.json)
    return int(any(entry["problem"] for entry in found))


def _export(options: argparse.Namespace) -> int:
    require_free(options.out, options.force)
    checkpoint = newest_checkpoint(options.dir)
    part, weights = weights_of(checkpoint, options.part)
    about = {"format": "pt", "ganblocks": __version__, "part": part, "images_seen": checkpoint.images_seen}
    write_weights(options.out, weights, {**checkpoint.metadata, **about})
    say(f"{part} after {checkpoint.images_seen:,} images: {_amount(weights)} in {options.out}")
    return 0


def _import(options: argparse.Namespace) -> int:
    require_free(options.out, options.force)
    key, weights = read_foreign_weights(options.file, options.key)
    write_weights(options.out, weights, {"format": "pt"})
    say(f"{_amount(weights)}{'' if key is None else f' of the key {key!r}'} in {options.out}")
    return 0


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


def _amount(weights: Mapping[str, Tensor]) -> str:
    return f"{len(weights)} tensors, {sum(tensor.numel() for tensor in weights.values()):,} numbers"
