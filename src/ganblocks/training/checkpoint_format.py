"""One checkpoint on disk: a directory of three files, written durably and read with suspicion.

====================  ==================================================================
tensors.safetensors   every tensor, by its path in the state
state.json            the rest of the state, see ``ganblocks.training.state``
manifest.json         schema, versions, images seen, size and SHA-256 of the two, metadata
====================  ==================================================================

The manifest ends with the SHA-256 of itself without that line, and its bytes must equal the one way of writing it, so
no bit of it can change unseen. Every schema to come keeps these two rules and the fields ``format`` and ``schema``;
thus "newer" can be told from "damaged".
"""

import errno
import hashlib
import json
import math
import os
import stat
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from io import BufferedReader
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import Tensor

from ganblocks._checks import require
from ganblocks._version import __version__
from ganblocks.errors import CheckpointCorruptError, CheckpointError, NonFiniteError
from ganblocks.training.state import flatten, unflatten

__all__ = [
    "Checkpoint",
    "encode_checkpoint",
    "fsync_directory",
    "read_checkpoint",
    "read_manifest",
    "read_score",
    "verify_hashes",
    "write_files",
]

FORMAT = "ganblocks-checkpoint"
SCHEMA = 1
TENSORS, STATE, MANIFEST = "tensors.safetensors", "state.json", "manifest.json"


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint as read from disk.

    Args:
        path: Its directory.
        images_seen: Number of real images that the run had seen when it was written.
        state: The saved state, tensors on the CPU.
        metadata: The JSON object given to ``save``.
    """

    path: Path
    images_seen: int
    state: dict[str, Any]
    metadata: dict[str, Any]


def encode_checkpoint(
    state: Mapping[str, Any],
    images_seen: int,
    metadata: Mapping[str, Any] | None = None,
    *,
    score: float | None = None,
    check_finite: bool = True,
) -> dict[str, bytes]:
    """The files of a checkpoint by name, in the order of writing; nothing is written.

    Args:
        state: The state; see ``flatten`` for what it may hold.
        images_seen: Number of real images seen.
        metadata: Anything JSON for humans and tools; None is an empty object.
        score: How good it is, lower is better; None says nothing.
        check_finite: Whether to refuse tensors with NaN or infinity.

    Raises:
        NonFiniteError: A tensor (or NumPy array) holds NaN or infinity; names the first.
        TypeError: The state or the metadata holds something that cannot be saved, NaN in the metadata for one.
        ValueError: The state is nested too deeply, or the score is not finite.
    """
    require(score is None or math.isfinite(score), "score", score, "finite, or None")
    tensors, document = flatten(dict(state))
    if check_finite:
        _require_finite(tensors)
    files = {
        TENSORS: safetensors.torch.save(tensors),
        STATE: json.dumps(document, allow_nan=False, separators=(",", ":")).encode(),
    }
    description = _require_json(dict(metadata or {}))
    manifest = {
        "format": FORMAT,
        "schema": SCHEMA,
        "ganblocks": __version__,
        "torch": torch.__version__,
        "images_seen": images_seen,
        "files": {
            name: {"size": len(content), "sha256": hashlib.sha256(content).hexdigest()}
            for name, content in files.items()
        },
        "metadata": description,
        **({} if score is None else {"score": float(score)}),
    }
    return {**files, MANIFEST: _render({**manifest, "sha256": hashlib.sha256(_render(manifest)).hexdigest()})}


def write_files(directory: Path, files: Mapping[str, bytes]) -> None:
    """Create ``directory`` with these files and return when the disk has them.

    Raises:
        OSError: The directory exists, or the system refuses.
    """
    os.mkdir(directory)
    for name, content in files.items():
        with open(directory / name, "xb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
    fsync_directory(directory)


def fsync_directory(directory: Path) -> None:
    """Make the names in ``directory`` durable, where the system can (Windows and some network drives cannot)."""
    if not hasattr(os, "O_DIRECTORY"):
        return
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):
            raise
    finally:
        os.close(descriptor)


def verify_hashes(path: Path) -> None:
    """Read every byte of the checkpoint and compare with its manifest, in constant memory.

    Raises:
        CheckpointCorruptError: A bit differs, or a file is missing or too many.
        CheckpointError: As ``read_checkpoint``.
    """
    with _blame(path):
        for name, entry in _read_manifest(path)["files"].items():
            with _open(path / name) as file:
                size = os.fstat(file.fileno()).st_size
                digest = hashlib.file_digest(file, "sha256").hexdigest()
            _compare(path, name, size, digest, entry)


def read_checkpoint(path: str | os.PathLike[str]) -> Checkpoint:
    """Read and verify one checkpoint. The bytes that are hashed are the bytes that are parsed.

    Args:
        path: The directory of the checkpoint. If its name is a number, it must be that of the images seen.

    Returns:
        The checkpoint.

    Raises:
        CheckpointCorruptError: It is not what was written: a bit, a name, a size, or it cannot be read.
        CheckpointError: There is none, a symbolic link is in the way, or a newer ganblocks has written it.
    """
    path = Path(path)
    with _blame(path):
        manifest = _read_manifest(path)
        contents = {}
        for name, entry in manifest["files"].items():
            with _open(path / name) as file:
                contents[name] = file.read()
            digest = hashlib.sha256(contents[name]).hexdigest()
            _compare(path, name, len(contents[name]), digest, entry)
        tensors = safetensors.torch.load(contents.pop(TENSORS))
        document = json.loads(contents.pop(STATE), parse_constant=_refuse_constant)
        state = unflatten(tensors, document)
        images_seen, metadata = manifest["images_seen"], manifest["metadata"]
        if not (isinstance(state, dict) and isinstance(metadata, dict) and type(images_seen) is int):
            raise ValueError("the state is no object")
        return Checkpoint(path, images_seen, state, metadata)


def read_manifest(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Read the manifest of one checkpoint and verify it; the files that it names are not read, only listed.

    Args:
        path: The directory of the checkpoint.

    Returns:
        The manifest as in ``encode_checkpoint``: versions, images seen, sizes and hashes of the files, metadata.

    Raises:
        CheckpointCorruptError: It is not what was written, or a file is missing or too many.
        CheckpointError: As ``read_checkpoint``.
    """
    path = Path(path)
    with _blame(path):
        return _read_manifest(path)


def read_score(path: Path) -> float | None:
    """The score of a checkpoint whose manifest is intact, None for any other; its tensors are not read."""
    try:
        with _blame(path):
            score = _read_manifest(path).get("score")
            return None if score is None else float(score)
    except CheckpointError:
        return None


def _read_manifest(path: Path) -> dict[str, Any]:
    """The manifest, after every check that needs no other file to be read."""
    if path.is_symlink():
        raise CheckpointError(f"{path} is a symbolic link; checkpoints are not read through links")
    if not os.path.lexists(path):
        raise CheckpointError(f"there is no checkpoint at {path}")
    with _open(path / MANIFEST) as file:
        content = file.read()
    try:
        manifest = json.loads(content, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise CheckpointCorruptError(f"checkpoint {path}: {MANIFEST} is not JSON: {error}") from error
    without_hash = {key: value for key, value in manifest.items() if key != "sha256"}
    if content != _render(manifest) or manifest["sha256"] != hashlib.sha256(_render(without_hash)).hexdigest():
        raise CheckpointCorruptError(f"checkpoint {path}: {MANIFEST} is not what was written")
    if manifest["format"] != FORMAT or type(manifest["schema"]) is not int or manifest["schema"] < 1:
        raise CheckpointCorruptError(f"checkpoint {path}: {MANIFEST} is not of the format {FORMAT}")
    if manifest["schema"] > SCHEMA:
        raise CheckpointError(
            f"checkpoint {path} was written by a newer ganblocks ({manifest.get('ganblocks')}, schema "
            f"{manifest['schema']}); this one ({__version__}) reads up to schema {SCHEMA}: upgrade ganblocks"
        )
    expected, found = {TENSORS, STATE, MANIFEST}, set(os.listdir(path))
    if found != expected or set(manifest["files"]) != expected - {MANIFEST}:
        missing, extra = sorted(expected - found), sorted(found - expected)
        raise CheckpointCorruptError(f"checkpoint {path}: files missing: {missing}, files too many: {extra}")
    if path.name.isdecimal() and int(path.name) != manifest["images_seen"]:
        raise CheckpointCorruptError(f"checkpoint {path}: the manifest is that of {manifest['images_seen']} images")
    return manifest


def _open(path: Path) -> BufferedReader:
    mode = os.lstat(path).st_mode
    if stat.S_ISLNK(mode):
        raise CheckpointError(f"{path} is a symbolic link; checkpoints are not read through links")
    if not stat.S_ISREG(mode):  # opening a FIFO would wait for ever
        raise CheckpointCorruptError(f"{path} is not a regular file")
    return open(path, "rb", opener=lambda name, flags: os.open(name, flags | getattr(os, "O_NOFOLLOW", 0)))


def _compare(path: Path, name: str, size: int, digest: str, entry: dict[str, Any]) -> None:
    if size != entry["size"]:
        raise CheckpointCorruptError(f"checkpoint {path}: {name} has {size} bytes, but {entry['size']} were written")
    if digest != entry["sha256"]:
        raise CheckpointCorruptError(f"checkpoint {path}: {name} has other content than was written (SHA-256)")


@contextmanager
def _blame(path: Path) -> Iterator[None]:
    """Turn whatever the parsers throw at damaged bytes into CheckpointCorruptError."""
    try:
        yield
    except (CheckpointError, MemoryError):
        raise
    except BaseException as error:
        # A panic in the Rust part of safetensors is a BaseException of this name; an interrupt is none of our business.
        if not isinstance(error, Exception) and type(error).__name__ != "PanicException":
            raise
        raise CheckpointCorruptError(f"checkpoint {path} cannot be read: {type(error).__name__}: {error}") from error


def _require_finite(tensors: Mapping[str, Tensor]) -> None:
    for name, tensor in tensors.items():
        if not tensor.is_floating_point():
            continue
        checkable = tensor.float() if tensor.dtype.itemsize == 1 else tensor
        bad = int((~torch.isfinite(checkable)).sum())
        if bad:
            raise NonFiniteError(
                f"{name}, shape {tuple(tensor.shape)}, holds {bad} values that are NaN or infinite; nothing was saved"
            )


def _require_json(metadata: dict[str, Any]) -> dict[str, Any]:
    try:
        same = json.loads(json.dumps(metadata, allow_nan=False)) == metadata
    except (TypeError, ValueError) as error:
        raise TypeError(f"`metadata` must be plain JSON, but: {error}") from error
    if not same:
        raise TypeError("`metadata` must be plain JSON: str keys, and lists rather than tuples")
    return metadata


def _render(document: dict[str, Any]) -> bytes:
    return (json.dumps(document, allow_nan=False, indent=1) + "\n").encode()


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")
