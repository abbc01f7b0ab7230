"""Runs for the tests of the command line: made, damaged, compared, and read by the long way."""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import torch
from PIL import Image
from safetensors import safe_open
from torch import Tensor

from ganblocks.models.progan import Discriminator, Generator, ProGANConfig
from ganblocks.training import CheckpointStore, recipes
from ganblocks.training.checkpoint_format import encode_checkpoint

CONFIG = ProGANConfig.karras2018(16, latent_dim=5, base_channels=32, max_channels=4)
METADATA = {"model": "progan", "phase": {"resolution": 8, "alpha": 0.5}, "truncation": None}


@dataclasses.dataclass(frozen=True)
class Outcome:
    """Exit code and what was printed."""

    code: int
    out: str
    err: str


Call: TypeAlias = Callable[..., Outcome]


def networks(config: ProGANConfig, **changes: Any) -> dict[str, Any]:
    """The state of a step whose three networks all differ."""
    torch.manual_seed(1)
    recipe = recipes.karras2018(**changes)
    step = recipe.build_step(Generator(config), Discriminator(config), latent_dim=config.latent_dim)
    with torch.no_grad():
        for parameter in step.generator.parameters():
            parameter.add_(0.1)
    return step.state_dict()


def newest(run: Path) -> Path:
    return run / "checkpoints" / "000000002000"


def replace_newest(run: Path, state: dict[str, Any], metadata: dict[str, Any]) -> None:
    for name, content in encode_checkpoint(state, 2000, metadata).items():
        (newest(run) / name).write_bytes(content)


def damage(checkpoint: Path, name: str = "tensors.safetensors") -> None:
    content = bytearray((checkpoint / name).read_bytes())
    content[len(content) // 2] ^= 1
    (checkpoint / name).write_bytes(content)


def snapshot(folder: Path) -> dict[str, tuple[int, bytes]]:
    return {
        str(path.relative_to(folder)): (path.stat().st_mtime_ns, path.read_bytes() if path.is_file() else b"")
        for path in [folder, *folder.rglob("*")]
    }


def average(run: Path) -> Generator:
    """The averaged generator of the newest checkpoint, by the long way."""
    checkpoint = CheckpointStore(run / "checkpoints").load(newest(run))
    generator = Generator(ProGANConfig.from_dict(checkpoint.metadata["config"]))
    generator.load_state_dict(checkpoint.state["step"]["ema"]["module"])
    return generator


def pixels(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        return np.asarray(image)


def tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    with safe_open(path, "pt") as file:
        return {name: file.get_tensor(name) for name in file.keys()}, file.metadata()  # noqa: SIM118


def equal(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)
