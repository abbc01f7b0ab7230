"""Every reader of a file, fed with damaged and forged ones: run as a program, in little memory, under an alarm.

``python hostile_readers.py COUNT SCRATCH`` prints what came of COUNT mutations for each reader as JSON. A case goes
wrong if it ends in anything but the typed errors of that reader, takes more memory than `MEMORY` or more time than
`SECONDS`, or runs what a file holds.
"""

import contextlib
import gzip
import hashlib
import io
import json
import os
import pickle
import random
import re
import signal
import struct
import sys
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.torch
import torch

from ganblocks.data import read_idx
from ganblocks.data.array_cache import ArrayCache
from ganblocks.errors import (
    CheckpointError,
    DataError,
    EmptyDatasetError,
    GanblocksError,
    MetricError,
    SecurityError,
)
from ganblocks.metrics import RunningStatistics, Statistics
from ganblocks.metrics.extractors import _read as read_extractor_weights
from ganblocks.metrics.input_spec import InputSpec
from ganblocks.models.classifier import ClassifierConfig, SmallClassifier
from ganblocks.models.progan import ProGANConfig
from ganblocks.models.registry import classifier_from_metadata, generator_from_metadata, load_classifier
from ganblocks.training.checkpoint_format import encode_checkpoint, read_checkpoint, read_score, verify_hashes
from ganblocks.training.saved_weights import read_foreign_weights, weights_of, write_weights
from ganblocks.visualization.run_reader import read_records

MEMORY = 256 * 2**20
SECONDS = 10.0
FILES = ("tensors.safetensors", "state.json", "manifest.json")

Read = Callable[[bytes], object]


class Hang(BaseException):
    """A reader did not come back."""


class Canary:
    """Makes a folder if it is ever unpickled."""

    place = "canary-sang"

    def __reduce__(self) -> Any:
        return os.makedirs, (self.place, 0o777, True)


# How files become worse.

NUMBERS = (
    *("NaN", "Infinity", "-Infinity", "1e999", "-1", "0", "-0.0", "1.5", "1e-320", "2147483648", "9223372036854775808"),
    *("18446744073709551615", "18446744073709551616", "9" * 400, "9" * 5000, "null", "true", '"x"', "[]", "{}", '""'),
    *("[" * 1500 + "]" * 1500, '{"a":' * 1500 + "1" + "}" * 1500, '"\\ud800"', '"../../etc/passwd"', "[[1]]"),
)
TOKEN = re.compile(r'-?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?|"(?:[^"\\]|\\.)*"|true|false|null')


def bytes_mutated(content: bytes, generator: random.Random) -> bytes:
    """Some bytes other, missing, doubled or moved."""
    damaged = bytearray(content)
    for _ in range(generator.choice((1, 1, 1, 2, 4, 16))):
        start = generator.randrange(len(damaged) + 1)
        end = min(len(damaged), start + generator.choice((1, 1, 2, 4, 8, 100)))
        match generator.randrange(7):
            case 0 if start < len(damaged):
                damaged[start] ^= 1 << generator.randrange(8)
            case 1:
                damaged[start:end] = generator.choice((b"\0", b"\xff", b"\x7f", b"\x80")) * (end - start)
            case 2:
                damaged[start:end] = generator.randbytes(end - start)
            case 3:
                del damaged[start:end]
            case 4:
                damaged[start:start] = damaged[start:end]
            case 5:
                number = generator.choice((0, 1, 2**31, 2**32 - 1, 2**62, 2**63, 2**64 - 1))
                damaged[start : start + 8] = struct.pack(generator.choice(("<Q", ">Q")), number)
            case 6:
                del damaged[start:]
    return bytes(damaged)


def text_mutated(content: bytes, generator: random.Random) -> bytes:
    """Numbers and words replaced, or keys doubled."""
    text = content.decode("utf-8", "replace")
    for _ in range(generator.choice((1, 1, 2, 4))):
        tokens = list(TOKEN.finditer(text))
        if not tokens:
            break
        token = generator.choice(tokens)
        new = generator.choice((*NUMBERS, generator.choice(tokens).group()))
        text = text[: token.start()] + new + text[token.end() :]
    return text.encode("utf-8", "replace")


def header_mutated(content: bytes, generator: random.Random) -> bytes:
    """A file of safetensors whose header says something else, and has the length that it says."""
    length = int.from_bytes(content[:8], "little")
    header = text_mutated(content[8 : 8 + length], generator)
    return struct.pack("<Q", len(header)) + header + content[8 + length :]


def array_header_mutated(content: bytes, generator: random.Random) -> bytes:
    """An .npy file whose header says something else."""
    length = int.from_bytes(content[8:10], "little")
    header = content[10 : 10 + length].decode("latin-1")
    words = ("'|O'", "'O'", "'<U100000000'", "'|V8'", "(2, 2)", "(-1,)", "(10**9,)", "(4611686018427387904,)", "True",
             "__import__('os').mkdir('canary-sang')", "[" * 500, "None", "(", "'''", "\\", "1e999")  # fmt: skip
    tokens = list(re.finditer(r"'[^']*'|\([^)]*\)|False|\d+", header))
    token = generator.choice(tokens)
    header = header[: token.start()] + generator.choice(words) + header[token.end() :]
    return content[:8] + struct.pack("<H", len(header)) + header.encode("latin-1") + content[10 + length :]


# The readers: what they are given, and the errors they may raise.


class Reader:
    """A reader with files that it likes."""

    def __init__(
        self,
        read: Read,
        seeds: list[bytes],
        errors: tuple[type[Exception], ...],
        *mutators: Callable[[bytes, random.Random], bytes],
    ) -> None:
        self.read, self.seeds, self.errors = read, seeds, errors
        self.mutators = (bytes_mutated, *mutators)


def readers(scratch: Path) -> Iterator[tuple[str, Reader]]:
    """All of them, by name."""
    yield "statistics", statistics(scratch / "a.npz")
    yield "classifier", classifier(scratch / "classifier.safetensors")
    yield "extractor weights", extractor(scratch / "weights.safetensors")
    yield "foreign weights", foreign(scratch / "weights.pth")
    yield "model config", model_config()
    yield "input spec", input_spec()
    yield "model metadata", metadata()
    yield "idx", idx(scratch / "images")
    for name in FILES:
        yield f"checkpoint {name}", checkpoint(scratch / "run", name)
    yield "log", log(scratch / "log.jsonl")
    for name in ("manifest.json", "4.npy"):
        yield f"array cache {name}", array_cache(scratch / "cache", name)


def through(path: Path, read: Callable[[Path], object]) -> Read:
    """A reader of paths as one of bytes."""

    def read_bytes(content: bytes) -> object:
        path.write_bytes(content)
        return read(path)

    return read_bytes


def statistics(path: Path) -> Reader:
    rows = torch.randn(9, 3, generator=torch.Generator().manual_seed(0))
    RunningStatistics(3, fingerprint="net").update(rows).compute().save(path)
    packed = io.BytesIO()
    np.savez_compressed(packed, mu=np.zeros(3), sigma=np.eye(3), other=np.array([Canary()], dtype=object))
    hostile = io.BytesIO()
    np.savez(hostile, mu=np.array([Canary()] * 3, dtype=object), sigma=np.eye(3))
    bomb = io.BytesIO()
    np.savez_compressed(bomb, mu=np.zeros(10**7), sigma=np.eye(3))
    read = through(path, lambda file: Statistics.load(file, count=10 if b"count" not in file.read_bytes() else None))
    return Reader(
        read, [path.read_bytes(), packed.getvalue(), hostile.getvalue(), bomb.getvalue()], (MetricError, ValueError)
    )


def classifier(path: Path) -> Reader:
    model = SmallClassifier(ClassifierConfig(resolution=8, channels=(2, 3), feature_dim=4))
    write_weights(path, model.state_dict(), {"model": "classifier", "config": model.config.to_dict()})
    return Reader(through(path, load_classifier), [path.read_bytes()], (CheckpointError,), header_mutated)


def extractor(path: Path) -> Reader:
    seeds = [safetensors.torch.save({"a": torch.ones(2, 3), "b": torch.zeros(0), "c": torch.tensor(3)}, {"x": "y"})]
    read = through(path, lambda file: read_extractor_weights(file, "a network", "somewhere"))
    return Reader(read, seeds, (MetricError,), header_mutated)


def foreign(path: Path) -> Reader:
    seeds = []
    for value, options in (
        ({"a": torch.ones(2, 3), "b": torch.zeros(4)}, {}),
        ({"ema": {"a": torch.ones(2)}, "step": 3}, {}),
        ({"a": torch.ones(2, 3)}, {"_use_new_zipfile_serialization": False}),
        ({"a": Canary()}, {}),
        (Canary(), {"_use_new_zipfile_serialization": False}),
    ):
        stream = io.BytesIO()
        torch.save(value, stream, **options)  # type: ignore[arg-type]
        seeds.append(stream.getvalue())
    # Torch's reader reserves what a pickle claims for a string, up to 4 GiB, before it looks for it.
    return Reader(through(path, read_foreign_weights), seeds, (CheckpointError, SecurityError, MemoryError))


def model_config() -> Reader:
    seeds = [
        config.to_json().encode()
        for config in (ProGANConfig.karras2018(64), ClassifierConfig(), ProGANConfig.document(8))
    ]

    def read(content: bytes) -> object:
        text = content.decode("utf-8", "replace")
        kinds = (ProGANConfig, ClassifierConfig)
        return [outcome(kind.from_json, text) for kind in kinds]  # type: ignore[attr-defined]

    return Reader(read, seeds, (), text_mutated)


def outcome(read: Callable[[str], object], text: str) -> object:
    """What is read, or None; only a mistake of the caller may come out of it."""
    try:
        return read(text)
    except (ValueError, TypeError):
        return None


def input_spec() -> Reader:
    seed = InputSpec((299, 299), mean=(0.5, 0.5, 0.5), std=(1, 1, 1)).to_json().encode()
    read: Read = lambda content: InputSpec.from_json(content.decode("utf-8", "replace"))  # noqa: E731
    return Reader(read, [seed], (ValueError, TypeError), text_mutated)


def metadata() -> Reader:
    seeds = [
        {"model": "progan", "config": ProGANConfig.karras2018(8, base_channels=64, max_channels=8).to_dict()},
        {"model": "classifier", "config": ClassifierConfig(resolution=8, channels=(2, 3), feature_dim=4).to_dict()},
    ]

    def read(content: bytes) -> object:
        try:
            values = json.loads(content)
        except (ValueError, RecursionError):
            raise CheckpointError("no metadata") from None
        if not isinstance(values, dict):
            raise CheckpointError("no metadata")
        with torch.device("meta"):
            if values.get("model") == "classifier":
                return classifier_from_metadata(values)
            return generator_from_metadata(values)

    return Reader(read, [json.dumps(seed).encode() for seed in seeds], (CheckpointError,), text_mutated)


def idx(path: Path) -> Reader:
    plain = b"\0\0\x08\x03" + struct.pack(">3I", 2, 3, 4) + bytes(24)
    floats = b"\0\0\x0d\x01" + struct.pack(">I", 5) + bytes(20)
    bomb = gzip.compress(b"\0\0\x08\x03" + struct.pack(">3I", 2**10, 2**10, 2**10) + bytes(2**24))
    return Reader(through(path, read_idx), [plain, floats, gzip.compress(plain), bomb], (DataError, EmptyDatasetError))


def checkpoint(folder: Path, name: str) -> Reader:
    """A checkpoint one file of which is forged, with all hashes right, as by somebody who knows the format."""
    state = {
        "step": {"generator": {"weight": torch.ones(2, 3), "bias": torch.zeros(3, dtype=torch.bfloat16)}},
        "random": (3, (1, 2**63, 7), None, np.arange(4, dtype=np.uint32), np.float64(2)),
        "layout": torch.ones(1, 2, 2, 2).contiguous(memory_format=torch.channels_last),
        "complex": torch.ones(2, dtype=torch.complex64),
        0: float("inf"),
    }
    files = encode_checkpoint(state, 7, {"model": "progan", "config": {}, "note": "é"}, score=0.5)
    path = folder / "000000000007"
    path.mkdir(parents=True, exist_ok=True)

    def read(content: bytes) -> object:
        for other, whole in files.items():
            (path / other).write_bytes(whole)
        (path / name).write_bytes(content)
        seal(path, content if name == "manifest.json" else files["manifest.json"])
        read_score(path)
        with contextlib.suppress(CheckpointError):
            verify_hashes(path)
        found = read_checkpoint(path)
        with contextlib.suppress(CheckpointError):
            weights_of(found)
        return found

    mutator = header_mutated if name.endswith("safetensors") else text_mutated
    return Reader(read, [files[name], pickle.dumps(Canary())], (CheckpointError,), mutator)


def seal(path: Path, manifest: bytes) -> None:
    """Make sizes and hashes agree again, where the manifest can be understood at all."""
    try:
        document = json.loads(manifest)
        for name in FILES[:2]:
            content = (path / name).read_bytes()
            if isinstance(document["files"][name], dict):
                document["files"][name] = {"size": len(content), "sha256": hashlib.sha256(content).hexdigest()}
        document.pop("sha256", None)
        whole = (json.dumps(document, indent=1) + "\n").encode()
        document["sha256"] = hashlib.sha256(whole).hexdigest()
        manifest = (json.dumps(document, indent=1) + "\n").encode()
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
        pass
    (path / FILES[2]).write_bytes(manifest)


def log(path: Path) -> Reader:
    lines = [{"images_seen": 8 * number, "loss": 0.5, "fid": None} for number in range(5)] + [{"event": "resumed"}]
    seed = "".join(json.dumps(line) + "\n" for line in lines).encode()
    read = through(path, read_records)
    return Reader(read, [seed], (), text_mutated)


def array_cache(folder: Path, name: str) -> Reader:
    shapes = {4: (3, 1, 4, 4), 8: (3, 1, 8, 8)}
    cache = ArrayCache(folder, "a", shapes)
    chunk = {size: np.ones(shape, np.uint8) for size, shape in shapes.items()}
    cache.open_or_build(iter([(chunk, [9, 9, 9])]))
    path = cache.folder / name
    whole = {file.name: file.read_bytes() for file in cache.folder.iterdir()}
    objects = io.BytesIO()
    np.save(objects, np.array([Canary()], dtype=object), allow_pickle=True)

    def read(content: bytes) -> object:
        for other, right in whole.items():
            (cache.folder / other).write_bytes(right)
        path.write_bytes(content)
        opened = cache.open()
        if opened is None:
            raise DataError("it would be built anew")
        for size, array in opened[0].items():
            assert array.shape == shapes[size]
            assert array.dtype == np.uint8
        return opened

    mutator = text_mutated if name.endswith("json") else array_header_mutated
    return Reader(
        read, [whole[name]] if name.endswith("json") else [whole[name], objects.getvalue()], (DataError,), mutator
    )


# The campaign.


def out_of_memory(error: BaseException | None) -> bool:
    """Whether memory was the reason, also of an error that says otherwise."""
    while error is not None:
        if isinstance(error, MemoryError) or "allocate memory" in str(error):
            return True
        error = error.__cause__ or error.__context__
    return False


def attacked(reader: Reader, count: int, seed: int) -> dict[str, Any]:
    """What became of ``count`` mutations."""
    generator = random.Random(seed)
    found: dict[str, Any] = {"read": 0, "refused": 0, "wrong": []}
    pickles = [pickle.dumps(Canary(), protocol) for protocol in range(6)]
    for number in range(count):
        if number < len(reader.seeds):
            content = reader.seeds[number]
        elif number < len(reader.seeds) + len(pickles):
            content = pickles[number - len(reader.seeds)]
        else:
            whole = generator.choice(reader.seeds)
            mutator = generator.choice(reader.mutators)
            try:
                content = mutator(whole, generator)
            except (struct.error, IndexError):
                content = bytes_mutated(whole, generator)
        signal.setitimer(signal.ITIMER_REAL, SECONDS)
        try:
            reader.read(content)
            found["read"] += 1
        except reader.errors as error:
            found["refused"] += 1
            if out_of_memory(error) and MemoryError not in reader.errors:
                found["wrong"].append(f"memory: {error!r:.300} {content[:300]!r}")
        except BaseException as error:
            found["wrong"].append(f"{type(error).__name__}: {str(error)[:300]} {content[:300]!r}")
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
        if os.path.exists(Canary.place):
            os.rmdir(Canary.place)
            found["wrong"].append(f"executed: {content[:300]!r}")
    return found


def hung(*args: object) -> None:
    raise Hang


def main(count: int, scratch: Path) -> None:
    import resource  # there is none on Windows

    os.chdir(scratch)
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    signal.signal(signal.SIGALRM, hung)
    everything = dict(readers(scratch))
    for reader in everything.values():  # what is imported late is not counted
        with contextlib.suppress(GanblocksError, ValueError):
            reader.read(reader.seeds[0])
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + MEMORY, resource.RLIM_INFINITY))
    print(
        json.dumps({name: attacked(reader, count, number) for number, (name, reader) in enumerate(everything.items())})
    )


if __name__ == "__main__":
    main(int(sys.argv[1]), Path(sys.argv[2]))
