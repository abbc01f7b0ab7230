"""Weights for those who do not train: out of a run's checkpoint or a foreign file, into a plain file."""

import json
import os
import re
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import safetensors.torch
import torch
from torch import Tensor

from ganblocks._checks import require
from ganblocks._files import written_atomically
from ganblocks.errors import CheckpointError, SecurityError
from ganblocks.training.checkpoint_format import Checkpoint

__all__ = [
    "PARTS",
    "Part",
    "read_foreign_weights",
    "weights_of",
    "write_weights",
]

Part = Literal["ema", "generator", "discriminator"]
PARTS: tuple[Part, ...] = ("ema", "generator", "discriminator")


def weights_of(checkpoint: Checkpoint, part: Part | None = None) -> tuple[Part, dict[str, Tensor]]:
    """The state dict of one network of an adversarial step.

    Args:
        checkpoint: The checkpoint.
        part: Which network; ``None`` = the generator's moving average, or the generator where there is none.

    Returns:
        The part that was taken, and its tensors, contiguous, on the CPU.

    Raises:
        CheckpointError: It does not hold that network.
        ValueError: There is no such part.
    """
    require(part is None or part in PARTS, "part", part, f"one of {', '.join(PARTS)}")
    step = checkpoint.state.get("step")
    networks = dict(step) if isinstance(step, dict) else {}
    average = networks.get("ema")
    networks["ema"] = average.get("module") if isinstance(average, dict) else None
    there = [name for name in PARTS if _is_state_dict(networks.get(name))]
    chosen = part or ("ema" if "ema" in there else "generator")
    if chosen not in there:
        raise CheckpointError(
            f"{checkpoint.path} holds no weights of {chosen}, but of: {', '.join(there) or 'nothing'}"
        )
    return chosen, {name: tensor.contiguous() for name, tensor in networks[chosen].items()}


def read_foreign_weights(path: str | os.PathLike[str], key: str | None = None) -> tuple[str | None, dict[str, Tensor]]:
    """The weights in a file that ``torch.save`` wrote elsewhere: the one door for a pickle, and a narrow one.

    PyTorch's restricted reader (``weights_only=True``) builds tensors and plain containers and calls nothing that the
    file names; whatever else the file asks for is refused.

    Args:
        path: The file. It holds a state dict, or a dict with state dicts among its values.
        key: Which of them; ``None`` = the file itself, or the only one in it.

    Returns:
        The key that was taken (``None`` for the file itself), and dense tensors on the CPU, each with its own memory.

    Raises:
        SecurityError: The file asks for more than tensors, or claims far more memory than it has bytes.
        CheckpointError: It cannot be read, or holds no such state dict.
    """
    path = Path(path)
    if not path.is_file():  # opening a FIFO would wait for ever
        raise CheckpointError(f"{path} is no regular file" if os.path.lexists(path) else f"{path} does not exist")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about forms of tensors that are refused below
            document = torch.load(path, map_location="cpu", weights_only=True)
    except (MemoryError, OSError):
        raise
    except Exception as error:  # the reader throws whatever the bytes make it stumble over
        asked = re.search(r"GLOBAL (\S+)", str(error))
        if asked:
            raise SecurityError(f"{path} is refused: it asks for {asked[1]}, but may hold tensors only") from error
        raise CheckpointError(
            f"{path} cannot be read as tensors ({type(error).__name__}): damaged, or no file of torch.save"
        ) from error
    key, weights = _choose(document, key, path)
    for name, tensor in weights.items():
        if tensor.layout != torch.strided or tensor.is_quantized or tensor.device.type != "cpu":
            raise CheckpointError(
                f"{path}: {name!r} is no dense tensor, but {tensor.layout}, {tensor.dtype}, on {tensor.device}"
            )
    size = path.stat().st_size
    if sum(tensor.nbytes for tensor in weights.values()) > 16 * size:  # one number, shown as a thousand million
        raise SecurityError(f"{path} is refused: its tensors claim far more memory than its {size:,} bytes")
    return key, {name: tensor.detach().clone(memory_format=torch.contiguous_format) for name, tensor in weights.items()}


def write_weights(
    path: str | os.PathLike[str], weights: Mapping[str, Tensor], about: Mapping[str, object] | None = None
) -> None:
    """Write a state dict as a safetensors file, replacing an older one in a single step.

    Args:
        path: The file; missing folders are made.
        weights: Names and tensors, each contiguous and with its own memory.
        about: Goes into the file's metadata. They are text; what is none becomes JSON. ``None`` writes none.

    Raises:
        CheckpointError: If safetensors cannot hold a name or a dtype.
        OSError: The file could not be written; an older one is then untouched.
    """
    texts = {key: value if isinstance(value, str) else json.dumps(value) for key, value in (about or {}).items()}
    if "__metadata__" in weights:
        raise CheckpointError("safetensors cannot hold a tensor of the name '__metadata__', which it uses itself")
    try:
        content = safetensors.torch.save(dict(weights), texts)
    except (LookupError, ValueError, safetensors.SafetensorError) as error:
        raise CheckpointError(f"safetensors cannot hold these tensors: {error}") from error
    with written_atomically(path) as file:
        file.write(content)


def _choose(document: Any, key: str | None, path: Path) -> tuple[str | None, dict[str, Tensor]]:
    if key is None and _is_state_dict(document):
        return None, document
    values = document if isinstance(document, dict) else {}
    nested = {name: value for name, value in values.items() if isinstance(name, str) and _is_state_dict(value)}
    if key is None and len(nested) == 1:
        return next(iter(nested.items()))
    if key in nested:
        return key, nested[key]
    keys = ", ".join(sorted(nested)[:20])
    if key is not None:
        raise CheckpointError(f"{path} has no state dict with the key {key!r}, but: {keys or 'none'}")
    if nested:
        raise CheckpointError(f"{path} holds {len(nested)} state dicts: choose one by its key: {keys}")
    what = type(document).__name__
    if values:
        what = "dict of " + ", ".join(sorted({type(value).__name__ for value in values.values()}))
    raise CheckpointError(f"{path} holds a {what}, but must hold a state dict: names, and a tensor for each")


def _is_state_dict(value: object) -> bool:
    return (
        isinstance(value, dict)
        and len(value) > 0
        and all(isinstance(name, str) and isinstance(tensor, Tensor) for name, tensor in value.items())
    )
