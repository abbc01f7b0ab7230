"""No file makes a reader raise an error of another type, take much memory, hang, or run what it holds."""

import io
import json
import os
import pickle
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from hostile_readers import Canary, readers

from ganblocks.data import read_idx
from ganblocks.errors import CheckpointError, DataError, GanblocksError, MetricError
from ganblocks.metrics import Statistics
from ganblocks.metrics.extractors import inception_extractor
from ganblocks.models.registry import load_classifier

SCRIPT = Path(__file__).with_name("hostile_readers.py")
SOURCE = Path(__file__).resolve().parents[1] / "src"


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the limit of memory is that of Linux")
@pytest.mark.parametrize("count", [100, pytest.param(10_000, marks=[pytest.mark.slow, pytest.mark.timeout(7200)])])
def test_mutated_files_are_read_or_refused_with_typed_errors_in_little_memory_and_never_run(
    tmp_path: Path, count: int
) -> None:
    environment = {**os.environ, "PYTHONPATH": str(SOURCE), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, str(SCRIPT), str(count), str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=7000, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    found = json.loads(done.stdout)
    assert len(found) >= 12
    print({name: {key: value for key, value in result.items() if key != "wrong"} for name, result in found.items()})
    wrong = {name: result["wrong"][:5] for name, result in found.items() if result["wrong"]}
    assert wrong == {}
    for name, result in found.items():
        assert result["read"] > 0, f"{name}: not even the file as it was written is read"
        assert result["refused"] > 0 or name in ("log", "model config"), f"{name}: nothing is ever refused"


def test_the_canary_sings_where_it_is_unpickled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    pickle.loads(pickle.dumps(Canary()))
    assert (tmp_path / Canary.place).is_dir()


def test_no_reader_runs_a_pickle_in_any_of_its_disguises(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As it is, as NumPy's array of objects, in a .npz, and as torch saves, in both of its formats."""
    monkeypatch.chdir(tmp_path)
    disguises = [pickle.dumps(Canary())]
    objects = np.array([Canary()], dtype=object)
    for save in (
        lambda stream: np.save(stream, objects, allow_pickle=True),
        lambda stream: np.savez(stream, mu=objects, sigma=objects, count=objects),
        lambda stream: torch.save({"weight": Canary()}, stream),
        lambda stream: torch.save({"weight": Canary()}, stream, _use_new_zipfile_serialization=False),
    ):
        stream = io.BytesIO()
        save(stream)  # type: ignore[no-untyped-call]
        disguises.append(stream.getvalue())
    for name, reader in readers(tmp_path):
        for content in disguises:
            try:
                found = reader.read(content)
            except (GanblocksError, ValueError, TypeError):
                found = None
            assert name in ("log", "model config") or found is None
            assert not (tmp_path / Canary.place).exists(), name


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs pipes")
def test_no_reader_waits_for_a_pipe(tmp_path: Path) -> None:
    pipe = tmp_path / "a.safetensors"
    os.mkfifo(pipe)
    with pytest.raises(DataError, match="no regular file"):
        read_idx(pipe)
    with pytest.raises(MetricError, match="no regular file"):
        Statistics.load(pipe, count=9)
    with pytest.raises(MetricError, match="no file of weights"):
        inception_extractor(pipe)


def tensors(header: str | bytes, length: int | None = None, content: bytes = bytes(16)) -> bytes:
    """A file of safetensors with this header."""
    header = header if isinstance(header, bytes) else header.encode()
    return struct.pack("<Q", len(header) if length is None else length) + header + content


def entry(name: str, start: int, end: int, shape: str = "[2]", dtype: str = "F32") -> str:
    return f'"{name}": {{"dtype": "{dtype}", "shape": {shape}, "data_offsets": [{start}, {end}]}}'


@pytest.mark.parametrize(
    "content",
    [
        tensors("{}", 2**63),
        tensors("{}", 2**40),
        tensors("{}", 10**8 + 1),
        tensors("{", content=b""),
        tensors(b"\xff\xfe{}", content=b""),
        tensors('{"a":' * 5000, content=b""),
        tensors("[" * 5000, content=b""),
        tensors(f"{{{entry('a', 0, 8)}, {entry('a', 8, 16)}}}"),
        tensors(f"{{{entry('a', 0, 8)}, {entry('b', 4, 12)}}}", content=bytes(12)),
        tensors(f"{{{entry('a', 0, 8)}, {entry('b', 0, 8)}}}", content=bytes(8)),
        tensors(f"{{{entry('a', 0, 8)}}}"),
        tensors(f"{{{entry('a', 8, 0)}}}"),
        tensors(f"{{{entry('a', 0, 16, '[4]', 'F99')}}}"),
        tensors(f"{{{entry('a', 0, 16, '[4]', 'O')}}}"),
        tensors(f"{{{entry('a', 0, 16, f'[{2**62}, {2**62}]')}}}"),
        tensors(f"{{{entry('a', 0, 16, '[-4]')}}}"),
        tensors(f"{{{entry('a', 0, 16, '[NaN]')}}}"),
        tensors(f"{{{entry('a', 0, 2**63, '[4]')}}}"),
        tensors('{"a": 3}'),
        tensors('{"__metadata__": {"config": 3}, ' + entry("a", 0, 16, "[4]") + "}"),
    ],
)
def test_a_forged_header_of_tensors_is_refused_by_every_reader_of_them(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "a.safetensors"
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match=r"a\.safetensors"):
        load_classifier(path)
    with pytest.raises(MetricError, match=r"a\.safetensors"):
        inception_extractor(path)
