"""``ganblocks info``: versions, extras, processor and GPUs."""

import argparse
import importlib.metadata
from typing import Any

import torch

from ganblocks.cli.arguments import Commands, add_command
from ganblocks.cli.output import readable_size, show
from ganblocks.training.environment import describe_environment
from ganblocks.training.precision import Precision

__all__ = ["EXTRAS", "add_info"]

EXTRAS: dict[
    str, tuple[str, ...]
] = {  # extra -> the packages that it adds itself, by the names under which they are installed
    "train": ("tensorboard", "matplotlib"),
    "vision": ("torchvision", "timm"),
    "metrics": ("scikit-learn", "torch-fidelity"),
    "examples": ("scikit-image", "networkx", "pooch"),
    "hub": ("huggingface-hub",),
    "export": ("onnx", "onnxscript"),
}
PACKAGES = ("numpy", "pillow", "scipy", "safetensors", "tqdm", "triton")


def add_info(commands: Commands) -> None:
    """Add ``info``."""
    add = add_command(commands, "info", _info, "versions, extras, processor and GPUs").add_argument
    add("--json", action="store_true", help="print JSON")


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
    rows += [("GPU", f"{gpu.name}, {readable_size(gpu.total_memory)}") for gpu in gpus]
    if not gpus:
        rows.append(("GPU", "none that PyTorch finds"))
    rows.append(
        ("precision auto", ", ".join(f"{name} on {device}" for device, name in found["precision_auto"].items()))
    )
    show(found, rows, as_json=options.json)
    return 0


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None
