"""Trained models for others: a directory with the weights, what they belong to, and a card that says what they are.

``model.safetensors``  the weights; its metadata name the model and its configuration, as files of this library do
``config.json``        format, versions, model, configuration, dtype, size and SHA-256 of the weights, metadata
``README.md``          the model card: `ganblocks.models.model_card`

Nothing in them is code, and nothing they claim is believed before it has been compared: a file chooses a model of
`ganblocks.models.registry` by its name, the model is built without memory, and only weights of exactly its names,
shapes and dtype are read. A hub's repository is such a directory: ``huggingface_hub.upload_folder`` publishes it, and
`from_hub` fetches it, by the hash of its weights.
"""

import hashlib
import importlib
import json
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
from torch import Tensor, nn

from ganblocks._checks import require
from ganblocks._files import written_atomically
from ganblocks._json import read_json
from ganblocks._version import __version__
from ganblocks.errors import CheckpointCorruptError, CheckpointError, NonFiniteError
from ganblocks.models.model_card import ModelCard
from ganblocks.models.registry import model_from_metadata, name_in_files

__all__ = ["ModelCard", "from_hub", "from_pretrained", "read_description", "save_pretrained"]

WEIGHTS, CONFIG, CARD = "model.safetensors", "config.json", "README.md"
FORMAT, SCHEMA = "ganblocks.model", 1
_FIELDS: dict[str, type] = {
    **dict.fromkeys(("format", "ganblocks", "torch", "model", "dtype"), str),
    **dict.fromkeys(("schema", "parameters"), int),
    **dict.fromkeys(("config", "weights", "metadata"), dict),
}
_LARGEST_CONFIG = 2**18  # bytes of config.json
_SHORT = 16  # numbers in a list that may be no layers, but the shape of an input
_CODES = {  # what safetensors calls the dtypes of our weights
    torch.float16: "F16",
    torch.bfloat16: "BF16",
    torch.float32: "F32",
    torch.float64: "F64",
    torch.int64: "I64",
}
_DTYPES = {str(dtype).removeprefix("torch."): dtype for dtype in _CODES if dtype.is_floating_point}
_NAMED = 3  # weights named in a message

Layout = dict[str, tuple[tuple[int, ...], str]]
"""Shape and dtype of each weight, the latter as safetensors calls it."""


def save_pretrained(
    model: nn.Module,
    directory: str | os.PathLike[str],
    *,
    card: ModelCard | Mapping[str, Any] | None = None,
    metadata: Mapping[str, Any] | None = None,
) -> Path:
    """Write a model so that `from_pretrained` finds it again, with a card for its readers.

    All three files are written before the first of them takes its place: an error on the way leaves an older model as
    it was. If the machine stops between the moves, the hash in ``config.json`` tells the mixture.

    Args:
        model: One of `ganblocks.models.registry`, as its configuration makes it, without wrappers. All its floating
            weights have one dtype. Mode, device and which parameters take gradients are not saved.
        directory: Missing folders are made. A model of the same name in it is replaced, its card too.
        card: What only you know of it: a `ModelCard` or its fields. What is missing stands as "Not stated." there.
        metadata: Anything JSON for programs, such as the names of the classes.

    Returns:
        The directory.

    Raises:
        CheckpointError: If the directory holds anything else, another model among it. Nothing is written.
        NonFiniteError: If a weight is NaN or infinite. Nothing is written.
        OSError: If the files cannot be written; older ones are then untouched.
        TypeError: If the model is none of this library, or card or metadata are of another kind.
        ValueError: If the model is not what its configuration makes, or the card has an unknown field.
    """
    directory = Path(directory)
    name, about = name_in_files(model), ModelCard.of(card)
    config: Any = model.config
    described = {"model": name, "config": read_json(json.dumps(config.to_dict()))}
    extra = _plain_json(metadata)
    weights, dtype = _savable(model, described)
    _require_free(directory, name)
    texts = {"format": "pt", "ganblocks": __version__, "model": name, "config": json.dumps(described["config"])}
    content = safetensors.torch.save(weights, texts)
    description = {
        "format": FORMAT,
        "schema": SCHEMA,
        "ganblocks": __version__,
        "torch": str(torch.__version__),
        **described,
        "dtype": str(dtype).removeprefix("torch."),
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "weights": {"file": WEIGHTS, "size": len(content), "sha256": hashlib.sha256(content).hexdigest()},
        "metadata": extra,
    }
    text = json.dumps(description, indent=2) + "\n"
    require(len(text) <= _LARGEST_CONFIG, "metadata", f"{len(text):,} bytes", f"{_LARGEST_CONFIG:,} with all the rest")
    page = about.render(model, description, directory.resolve().name)
    _write(directory, {CONFIG: text.encode(), WEIGHTS: content, CARD: page.encode()})
    return directory


def from_pretrained(path: str | os.PathLike[str], *, name: str | None = None) -> nn.Module:
    """The model that `save_pretrained` has written, bit for bit.

    Args:
        path: Its directory. Nothing is ever downloaded: see `from_hub`.
        name: Which model it has to be, by its name in `ganblocks.models.registry`; ``None`` = any.

    Returns:
        The model in evaluation mode, on the CPU, in the dtype it was saved in; its parameters take gradients.

    Raises:
        CheckpointCorruptError: If the weights are not those that were saved.
        CheckpointError: If there is no such directory, a file is missing, damaged, of another kind or a newer version,
            the weights do not fit the configuration, or the model is another one.
        ImportError: If its backbone is of torchvision or timm, and that is missing.
    """
    path = Path(path)
    if not path.is_dir():
        hint = f"; models of a hub are fetched by from_hub({str(path)!r}, revision=..., sha256=...)"
        looks_like_one = re.fullmatch(r"[\w.-]+/[\w.-]+", str(path)) is not None
        raise CheckpointError(f"there is no directory {path}{hint if looks_like_one else ''}")
    return _loaded(path / CONFIG, _description(path / CONFIG, name), path / WEIGHTS)


def from_hub(
    repo_id: str,
    *,
    revision: str,
    sha256: str,
    name: str | None = None,
    cache_dir: str | os.PathLike[str] | None = None,
) -> nn.Module:
    """A model from a repository of the Hugging Face Hub, if its weights have the hash that you were told.

    The hash covers model and configuration too, which the file of the weights repeats.

    Args:
        repo_id: ``owner/name``.
        revision: A commit, a tag or a branch.
        sha256: Of ``model.safetensors``, 64 hexadecimal digits; the model card tells it. There is no way without.
        name: As for `from_pretrained`.
        cache_dir: Where downloads are kept; ``None`` = the hub's own place.

    Returns:
        As `from_pretrained`.

    Raises:
        CheckpointError: If it cannot be fetched, has another hash, or as `from_pretrained`.
        ImportError: If huggingface_hub is missing, or as `from_pretrained`.
        ValueError: If an argument is out of range.
    """
    hexadecimal = isinstance(sha256, str) and re.fullmatch("[0-9a-fA-F]{64}", sha256) is not None
    require(hexadecimal, "sha256", sha256, "64 hexadecimal digits")
    require(isinstance(revision, str) and revision != "", "revision", revision, "a commit, a tag or a branch")
    try:
        hub: Any = importlib.import_module("huggingface_hub")
    except ImportError as error:
        raise ImportError('huggingface_hub is needed for this, but missing: pip install "ganblocks[hub]"') from error

    def fetched(file: str) -> Path:
        try:
            return Path(hub.hf_hub_download(repo_id, file, revision=revision, cache_dir=cache_dir))
        except Exception as error:  # its client has many of its own
            text = f"{file} of {repo_id} at {revision} could not be fetched ({type(error).__name__}: {error})"
            raise CheckpointError(text) from error

    config = fetched(CONFIG)
    description = _description(config, name)
    told = description["weights"]["sha256"]
    if told != sha256.lower():
        raise CheckpointError(f"{repo_id} at {revision} has weights of the SHA-256 {told}, but wanted is {sha256}")
    return _loaded(config, description, fetched(WEIGHTS))


def read_description(path: str | os.PathLike[str]) -> dict[str, Any]:
    """What ``config.json`` says of a saved model; the weights are not looked at.

    Args:
        path: Its directory.

    Returns:
        ``model``, ``config``, ``dtype``, ``parameters``, ``weights`` (``file``, ``size``, ``sha256``), ``metadata`` as
        given to `save_pretrained`, and ``format``, ``schema``, ``ganblocks``, ``torch``: the versions.

    Raises:
        CheckpointError: If the file is missing, damaged, of another kind or a newer version.
    """
    return _description(Path(path) / CONFIG)


def _description(path: Path, name: str | None = None) -> dict[str, Any]:
    """What the file says, of a model of that name."""
    with _blamed(path), _open_regular(path) as file:
        text = file.read(_LARGEST_CONFIG + 1)
        if len(text) > _LARGEST_CONFIG:
            raise ValueError(f"it has more than {_LARGEST_CONFIG:,} bytes")
        document = read_json(text)
    if not isinstance(document, dict) or document.get("format") != FORMAT:
        raise CheckpointError(f"{path} does not describe a model of this library: its format is not {FORMAT!r}")
    schema = document.get("schema")
    if type(schema) is not int or schema < 1:
        raise CheckpointError(f"{path}: the schema is {schema!r}, but must be a whole number from 1")
    if schema > SCHEMA:
        raise CheckpointError(
            f"{path} was written by a newer ganblocks ({document.get('ganblocks')}, schema {schema}); this one "
            f"({__version__}) reads up to schema {SCHEMA}: upgrade ganblocks"
        )
    missing, unknown = sorted(_FIELDS.keys() - document.keys()), sorted(document.keys() - _FIELDS.keys())
    if missing or unknown:
        raise CheckpointError(f"{path}: missing are {missing}, unknown are {unknown}")
    for field, kind in _FIELDS.items():
        if type(document[field]) is not kind:
            raise CheckpointError(f"{path}: {field!r} is {document[field]!r:.80}, but must be of type {kind.__name__}")
    weights, dtype = document["weights"], document["dtype"]
    if dtype not in _DTYPES:
        raise CheckpointError(f"{path}: the dtype is {dtype!r}, but must be one of {', '.join(_DTYPES)}")
    hashed = re.fullmatch("[0-9a-f]{64}", str(weights.get("sha256")))
    if weights.keys() != {"file", "size", "sha256"} or weights["file"] != WEIGHTS or not hashed:
        raise CheckpointError(f"{path}: the weights are {weights}, but must be `file` {WEIGHTS}, `size` and `sha256`")
    if name is not None and document["model"] != name:
        raise CheckpointError(f"{path} describes the model {document['model']!r}, but wanted is {name!r}")
    return document


def _loaded(config: Path, description: Mapping[str, Any], path: Path) -> nn.Module:
    """The described model with the weights of a file, after every check."""
    told = description["weights"]
    found, texts = _header(path, told["size"])
    if _longest_list(description["config"]) > max(len(found), _SHORT):  # each of its numbers stands for a layer
        raise CheckpointError(f"{config}: the configuration has more layers than {path} has weights, {len(found):,}")
    try:
        model = _empty(description, _DTYPES[description["dtype"]])
    except CheckpointError as error:
        raise CheckpointError(f"{config}: {error}") from error
    wanted = _layout(model.state_dict())
    _require_fit(path, wanted, found)
    with _blamed(path), _open_regular(path) as file:
        content = file.read(told["size"])
        if hashlib.sha256(content).hexdigest() != told["sha256"]:
            raise CheckpointCorruptError(f"{path} has other content than was saved (SHA-256)")
        if texts.get("model") != description["model"] or read_json(texts.get("config", "")) != description["config"]:
            raise CheckpointError(f"{path} belongs to another model or configuration than {CONFIG} beside it tells")
        weights = safetensors.torch.load(content)
    _require_fit(path, wanted, _layout(weights))
    for key, bad in _not_finite(weights):
        raise CheckpointError(f"{path}: {key} holds {bad} values that are NaN or infinite")
    model.load_state_dict(weights, assign=True)
    return model.eval()


def _header(path: Path, size: int) -> tuple[Layout, dict[str, str]]:
    """Names and kinds of the weights in a file of that many bytes, and its metadata; no weight is read."""
    with _blamed(path), _open_regular(path) as file:
        there = os.fstat(file.fileno()).st_size
        if there != size:
            raise CheckpointCorruptError(f"{path} has {there:,} bytes, but {size!r:.20} were saved")
        with safetensors.safe_open(path, framework="pt") as header:
            slices = {key: header.get_slice(key) for key in header.keys()}  # noqa: SIM118
            found = {key: (tuple(part.get_shape()), str(part.get_dtype())) for key, part in slices.items()}
            return found, header.metadata() or {}


def _longest_list(value: object) -> int:
    if isinstance(value, dict):
        return max(map(_longest_list, value.values()), default=0)
    return max(len(value), *map(_longest_list, value)) if isinstance(value, list) and value else 0


def _empty(described: Mapping[str, Any], dtype: torch.dtype) -> nn.Module:
    """The model on the meta device, where its claims cost no memory; constants that no file holds are real."""
    with torch.device("meta"):
        return model_from_metadata(described).to(dtype)


def _layout(weights: Mapping[str, Tensor]) -> Layout:
    codes = {key: _CODES.get(tensor.dtype, str(tensor.dtype)) for key, tensor in weights.items()}
    return {key: (tuple(tensor.shape), codes[key]) for key, tensor in weights.items()}


def _difference(wanted: Layout, found: Layout) -> str:
    """Half a sentence on what does not fit; empty where all does."""
    other = [f"{key} {found[key]} for {wanted[key]}" for key in wanted if key in found and found[key] != wanted[key]]
    faults = {"missing": sorted(wanted.keys() - found.keys()), "unexpected": sorted(found.keys() - wanted.keys())}
    faults["of another kind"] = other
    named = {what: ", ".join(keys[:_NAMED]) + (", ..." if len(keys) > _NAMED else "") for what, keys in faults.items()}
    return "; ".join(f"{len(keys)} {what}: {named[what]}" for what, keys in faults.items() if keys)


def _require_fit(path: Path, wanted: Layout, found: Layout) -> None:
    if difference := _difference(wanted, found):
        raise CheckpointError(f"{path}: the weights do not fit the configuration: {difference}")


def _not_finite(weights: Mapping[str, Tensor]) -> Iterator[tuple[str, int]]:
    for key, tensor in weights.items():
        if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
            yield key, int((~torch.isfinite(tensor)).sum())


def _savable(model: nn.Module, described: Mapping[str, Any]) -> tuple[dict[str, Tensor], torch.dtype]:
    """Copies of all weights, and their dtype, if the description alone would make a place for each of them."""
    weights = {
        key: tensor.detach().to("cpu", copy=True, memory_format=torch.contiguous_format)
        for key, tensor in model.state_dict().items()
    }
    dtype = next((tensor.dtype for tensor in weights.values() if tensor.is_floating_point()), torch.float32)
    require(dtype in _DTYPES.values(), "model", dtype, f"of a dtype of {', '.join(_DTYPES)}")
    try:
        misfit = _difference(_layout(_empty(described, dtype).state_dict()), _layout(weights))
    except CheckpointError as error:
        raise ValueError(f"`model` cannot be built by its configuration: {error}") from error
    require(not misfit, "model", type(model).__name__, f"as its configuration makes it, but {misfit}")
    for key, bad in _not_finite(weights):
        raise NonFiniteError(f"{key} holds {bad} values that are NaN or infinite; nothing was saved")
    return weights, dtype


def _plain_json(metadata: Mapping[str, Any] | None) -> dict[str, Any]:
    values = dict(metadata or {})
    try:
        same = read_json(json.dumps(values, allow_nan=False)) == values
    except (TypeError, ValueError) as error:
        raise TypeError(f"`metadata` must be plain JSON, but: {error}") from error
    if not same:
        raise TypeError("`metadata` must be plain JSON: str keys, and lists rather than tuples")
    return values


def _require_free(directory: Path, name: str) -> None:
    """Raise unless there is nothing in this place but a model of that name; what begins with a dot does not count."""
    if not os.path.lexists(directory):
        return
    if not directory.is_dir():
        raise CheckpointError(f"{directory} is there, but is no directory; nothing was saved")
    found = sorted(entry for entry in os.listdir(directory) if not entry.startswith("."))
    other = [entry for entry in found if entry not in (WEIGHTS, CONFIG, CARD) or not (directory / entry).is_file()]
    if other:
        names = ", ".join(other[:_NAMED])
        raise CheckpointError(f"{directory} holds something else ({names}); nothing was saved: choose another one")
    if not found:
        return
    try:
        there = _description(directory / CONFIG)["model"]
    except CheckpointError as error:
        raise CheckpointError(f"{directory} holds something else; nothing was saved: {error}") from error
    if there != name:
        raise CheckpointError(f"{directory} holds the model {there!r}, and this one is {name!r}; nothing was saved")


def _write(directory: Path, contents: Mapping[str, bytes]) -> None:
    """All files, or none of them."""
    with ExitStack() as moves:
        files = {name: moves.enter_context(written_atomically(directory / name)) for name in contents}
        for name, file in files.items():
            file.write(contents[name])
            file.flush()
            os.fsync(file.fileno())


def _open_regular(path: Path) -> Any:
    if not path.is_file():  # opening a FIFO would wait for ever
        raise CheckpointError(f"{path} is no regular file" if os.path.lexists(path) else f"there is no file {path}")
    return path.open("rb")


@contextmanager
def _blamed(path: Path) -> Iterator[None]:
    """Whatever the readers throw at bad bytes becomes a ``CheckpointError`` that names the file."""
    try:
        yield
    except (CheckpointError, MemoryError):
        raise
    except BaseException as error:
        # A panic in the Rust part of safetensors is a BaseException of this name; an interrupt is none of our business.
        if not isinstance(error, Exception) and type(error).__name__ != "PanicException":
            raise
        raise CheckpointError(f"{path} cannot be read ({type(error).__name__}: {error})") from error
