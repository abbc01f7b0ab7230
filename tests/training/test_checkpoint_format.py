"""One checkpoint: what is read is what was written, or a typed error; nothing read is ever executed."""

import hashlib
import json
import os
import pickle
import random
import shutil
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from ganblocks.errors import CheckpointCorruptError, CheckpointError, NonFiniteError
from ganblocks.training.checkpoint_format import (
    encode_checkpoint,
    read_checkpoint,
    read_score,
    verify_hashes,
    write_files,
)

STATE = {"weight": torch.tensor([1.0, 2.0]), "epoch": 3}
FILES = ["tensors.safetensors", "state.json", "manifest.json"]


def write(directory: Path, state: dict[str, Any] = STATE, images_seen: int = 7, **metadata: Any) -> Path:
    path = directory / f"{images_seen:012d}"
    write_files(path, encode_checkpoint(state, images_seen, metadata))
    return path


def seal(path: Path, **changes: Any) -> None:
    """Make hashes and sizes agree with the files again, as an attacker would; written from the description alone."""
    manifest = json.loads((path / "manifest.json").read_bytes())
    for name in FILES[:2]:
        content = (path / name).read_bytes()
        manifest["files"][name] = {"size": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    manifest.update(changes)
    del manifest["sha256"]
    digest = hashlib.sha256((json.dumps(manifest, indent=1) + "\n").encode()).hexdigest()
    (path / "manifest.json").write_text(json.dumps({**manifest, "sha256": digest}, indent=1) + "\n")


JSON = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False, allow_infinity=False), st.text()),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(), inner, max_size=3)),
    max_leaves=8,
)


@given(metadata=st.dictionaries(st.text(), JSON, max_size=3), images_seen=st.integers(0, 10**15))
def test_checkpoint_comes_back(
    tmp_path_factory: pytest.TempPathFactory, metadata: dict[str, Any], images_seen: int
) -> None:
    path = tmp_path_factory.mktemp("run") / str(images_seen)
    write_files(path, encode_checkpoint(STATE, images_seen, metadata))
    verify_hashes(path)
    checkpoint = read_checkpoint(path)
    assert (checkpoint.path, checkpoint.images_seen, checkpoint.metadata) == (path, images_seen, metadata)
    assert checkpoint.state["epoch"] == 3
    assert torch.equal(checkpoint.state["weight"], STATE["weight"])


def test_schema_1_written_by_hand_can_be_read_for_ever(tmp_path: Path) -> None:
    path = tmp_path / "000000000042"
    path.mkdir()
    header = json.dumps({"g/w": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}}).encode()
    tensors = struct.pack("<Q", len(header)) + header + struct.pack("<2f", 1.5, -2.0)
    state = b'{"g":{"w":{"$tensor":"g/w"}},"betas":{"$tuple":[0.0,0.99]},"best":{"$float":"7ff0000000000000"}}'
    (path / "tensors.safetensors").write_bytes(tensors)
    (path / "state.json").write_bytes(state)
    entries = {"tensors.safetensors": tensors, "state.json": state}
    manifest: dict[str, Any] = {
        "format": "ganblocks-checkpoint",
        "schema": 1,
        "ganblocks": "0.1.0",
        "torch": "2.11.0",
        "images_seen": 42,
        "files": {n: {"size": len(c), "sha256": hashlib.sha256(c).hexdigest()} for n, c in entries.items()},
        "metadata": {"note": "é"},
    }
    digest = hashlib.sha256((json.dumps(manifest, indent=1) + "\n").encode()).hexdigest()
    (path / "manifest.json").write_text(json.dumps({**manifest, "sha256": digest}, indent=1) + "\n")
    checkpoint = read_checkpoint(path)
    assert checkpoint.images_seen == 42
    assert checkpoint.metadata == {"note": "é"}
    assert checkpoint.state["g"]["w"].tolist() == [1.5, -2.0]
    assert checkpoint.state["betas"] == (0.0, 0.99)
    assert checkpoint.state["best"] == float("inf")


def test_golden_checkpoint_of_schema_1_can_be_read_for_ever() -> None:
    """Written once by the store, kept as it is: what a release could write, every later one reads."""
    checkpoint = read_checkpoint(Path(__file__).parents[1] / "golden" / "checkpoint_schema_1" / "000000000042")
    state = checkpoint.state
    assert (checkpoint.images_seen, state["images_seen"], checkpoint.metadata) == (42, 42, {"note": "é"})
    assert state["step"]["generator"]["weight"].tolist() == [[1.5, -2.0]]
    assert state["step"]["generator"]["bias"].dtype == torch.bfloat16
    optimizer = state["step"]["optimizer"]
    assert optimizer["state"][0]["exp_avg"].tolist() == [[[[0.0, 1.0], [2.0, 3.0]]]]
    assert optimizer["param_groups"] == [{"betas": (0.0, 0.99), "lr": 1e-3}]
    assert (state["best"], state["random"]["big"]) == (float("inf"), 2**80)
    assert state["random"]["numpy"].dtype == np.uint32
    assert read_score(checkpoint.path) == 0.5


def test_optimizer_continues_with_the_identical_step(tmp_path: Path) -> None:
    def train(network: nn.Module, optimizer: torch.optim.Optimizer, steps: int) -> None:
        for _ in range(steps):
            optimizer.zero_grad()
            network(torch.randn(4, 3, 5, 5)).square().mean().backward()
            optimizer.step()

    def build() -> tuple[nn.Module, torch.optim.Optimizer]:
        network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Conv2d(4, 2, 1))
        network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        return network, torch.optim.Adam(network.parameters(), lr=0.01, betas=(0.0, 0.99), amsgrad=True)

    network, optimizer = build()
    train(network, optimizer, 3)
    path = write(tmp_path, {"network": network.state_dict(), "optimizer": optimizer.state_dict()})
    torch.manual_seed(5)
    train(network, optimizer, 2)

    state = read_checkpoint(path).state
    resumed, resumed_optimizer = build()
    resumed.load_state_dict(state["network"])
    resumed_optimizer.load_state_dict(state["optimizer"])
    torch.manual_seed(5)
    train(resumed, resumed_optimizer, 2)
    for name, value in network.state_dict().items():
        assert torch.equal(value, resumed.state_dict()[name]), name
    for key, moments in optimizer.state_dict()["state"].items():
        for name, value in moments.items():
            assert torch.equal(value, resumed_optimizer.state_dict()["state"][key][name]), (key, name)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64, torch.complex64])
def test_first_tensor_that_is_not_finite_is_named(value: float, dtype: torch.dtype) -> None:
    bad = torch.ones(3).to(dtype)
    bad[1] = value
    state = {"fine": torch.ones(1), "generator": {"weight": bad, "later": bad}}
    with pytest.raises(NonFiniteError, match=r"^generator/weight, shape .* holds 1 values"):
        encode_checkpoint(state, 0)
    assert encode_checkpoint(state, 0, check_finite=False)


def test_nan_in_float8_is_found() -> None:
    with pytest.raises(NonFiniteError, match="w"):
        encode_checkpoint({"w": torch.tensor([float("nan")]).to(torch.float8_e4m3fn)}, 0)


@pytest.mark.parametrize("metadata", [{"a": {1}}, {"a": (1, 2)}, {"a": float("nan")}, {1: 2}])
def test_metadata_that_json_would_change_is_refused(metadata: dict[str, Any]) -> None:
    with pytest.raises(TypeError, match="`metadata` must be plain JSON"):
        encode_checkpoint({}, 0, metadata)


def test_a_flipped_bit_in_any_byte_of_any_file_is_detected(tmp_path: Path) -> None:
    path = write(tmp_path, note="a \u00e9 b")
    generator = random.Random(0)
    for name in FILES:
        content = (path / name).read_bytes()
        for position in range(len(content)):
            flipped = bytearray(content)
            flipped[position] ^= 1 << generator.randrange(8)
            (path / name).write_bytes(flipped)
            with pytest.raises(CheckpointCorruptError, match=path.name):
                (verify_hashes if position % 4 == 0 else read_checkpoint)(path)
        (path / name).write_bytes(content)
    verify_hashes(path)
    read_checkpoint(path)


@pytest.mark.parametrize(
    ("old", "new"), [(rb"\u00e9", rb"\u00E9"), (b"\n", b"\r\n"), (b"\n", b""), (b'"note"', b'"not\\u0065"')]
)
def test_manifest_that_says_the_same_in_other_bytes_is_detected(tmp_path: Path, old: bytes, new: bytes) -> None:
    path = write(tmp_path, note="a \u00e9 b")
    original = (path / "manifest.json").read_bytes()
    changed = original.replace(old, new)
    assert changed != original
    assert json.loads(changed) == json.loads(original)
    (path / "manifest.json").write_bytes(changed)
    with pytest.raises(CheckpointCorruptError, match=r"manifest\.json is not what was written"):
        read_checkpoint(path)


@pytest.mark.parametrize("name", FILES)
def test_missing_and_empty_files_are_detected(tmp_path: Path, name: str) -> None:
    path = write(tmp_path)
    (path / name).write_bytes(b"")
    with pytest.raises(CheckpointCorruptError, match=path.name):
        read_checkpoint(path)
    (path / name).unlink()
    with pytest.raises(CheckpointCorruptError, match=name):
        read_checkpoint(path)


def test_extra_file_is_detected(tmp_path: Path) -> None:
    path = write(tmp_path)
    (path / "payload.pkl").touch()
    with pytest.raises(CheckpointCorruptError, match=r"files too many: \['payload.pkl'\]"):
        read_checkpoint(path)


@pytest.mark.parametrize("name", FILES)
def test_file_swapped_with_another_checkpoint_is_detected(tmp_path: Path, name: str) -> None:
    first = write(tmp_path, {"w": torch.zeros(2), "e": 1}, 1)
    second = write(tmp_path, {"w": torch.ones(2), "e": 2}, 2)
    shutil.copy(first / name, second / name)
    with pytest.raises(CheckpointCorruptError, match=second.name):
        read_checkpoint(second)


def test_whole_checkpoint_under_a_wrong_number_is_detected_but_another_name_is_fine(tmp_path: Path) -> None:
    path = write(tmp_path, images_seen=7)
    path = path.rename(tmp_path / "best")
    assert read_checkpoint(path).images_seen == 7
    path = path.rename(tmp_path / "000000000008")
    with pytest.raises(CheckpointCorruptError, match="manifest is that of 7 images"):
        read_checkpoint(path)


def test_newer_schema_is_no_damage(tmp_path: Path) -> None:
    path = write(tmp_path)
    seal(path, schema=2, ganblocks="9.9")
    (path / "extra.bin").touch()  # a newer layout may have other files
    with pytest.raises(CheckpointError, match=r"newer ganblocks \(9.9, schema 2\)") as caught:
        read_checkpoint(path)
    assert not isinstance(caught.value, CheckpointCorruptError)


@pytest.mark.parametrize(
    "changes",
    [
        *({"schema": 0}, {"schema": "1"}, {"schema": True}, {"format": "other"}, {"files": []}, {"files": 3}),
        *({"files": {"../x": {}}}, {"metadata": []}, {"images_seen": "7"}, {"files": {n: {} for n in FILES[:2]}}),
    ],
)
def test_forged_manifest_gives_a_typed_error(tmp_path: Path, changes: dict[str, Any]) -> None:
    path = write(tmp_path)
    seal(path, **changes)
    with pytest.raises(CheckpointCorruptError, match=path.name):
        read_checkpoint(path)


@pytest.mark.parametrize("content", [b"[]", b"3", b"\xff", b"{", b"null", b"[" * 100_000, b'{"schema": NaN}'])
def test_manifest_and_state_of_another_kind_give_a_typed_error(tmp_path: Path, content: bytes) -> None:
    for name in FILES[1:]:
        path = write(tmp_path)
        (path / name).write_bytes(content)
        if name == "state.json":
            seal(path)
        with pytest.raises(CheckpointCorruptError, match=path.name):
            read_checkpoint(path)
        shutil.rmtree(path)


def header(entries: Any, data: bytes = b"\0" * 8) -> bytes:
    encoded = json.dumps(entries).encode()
    return struct.pack("<Q", len(encoded)) + encoded + data


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\0" * 7,
        struct.pack("<Q", 2**63) + b"{}",
        struct.pack("<Q", 100_000_001) + b"{}",
        header([]),
        header({"weight": {"dtype": "F99", "shape": [2], "data_offsets": [0, 8]}}),
        header({"weight": {"dtype": "F32", "shape": [2**62, 2**62], "data_offsets": [0, 8]}}),
        header({"weight": {"dtype": "F32", "shape": [2], "data_offsets": [8, 0]}}),
        header({"weight": {"dtype": "F32", "shape": [2], "data_offsets": [0, 2**40]}}),
        header({n: {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]} for n in ("weight", "overlap")}),
        header({"other": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}}),
    ],
)
def test_hostile_tensor_file_with_right_hashes_gives_a_typed_error(tmp_path: Path, content: bytes) -> None:
    path = write(tmp_path)
    (path / "tensors.safetensors").write_bytes(content)
    seal(path)
    with pytest.raises(CheckpointCorruptError, match=path.name):
        read_checkpoint(path)


def test_mutated_tensor_file_with_right_hashes_is_read_or_refused_never_worse(tmp_path: Path) -> None:
    path = write(tmp_path)
    original = (path / "tensors.safetensors").read_bytes()
    generator = random.Random(0)
    refused = 0
    for _ in range(300):
        mutant = bytearray(original)
        for _ in range(generator.randint(1, 4)):
            mutant[generator.randrange(len(mutant))] = generator.randrange(256)
        (path / "tensors.safetensors").write_bytes(mutant)
        seal(path)
        try:
            assert read_checkpoint(path).state["weight"].numel() <= 8
        except CheckpointCorruptError:
            refused += 1
    assert refused > 100


class Canary:
    executed = False

    def __reduce__(self) -> Any:
        return setattr, (Canary, "executed", True)


@pytest.mark.parametrize("name", FILES)
def test_pickle_is_never_executed(tmp_path: Path, name: str) -> None:
    path = write(tmp_path)
    (path / name).write_bytes(pickle.dumps(Canary()))
    if name != "manifest.json":
        seal(path)
    with pytest.raises(CheckpointCorruptError, match=path.name):
        read_checkpoint(path)
    torch.save(Canary(), path / name)
    with pytest.raises(CheckpointCorruptError, match=path.name):
        read_checkpoint(path)
    assert not Canary.executed
    pickle.loads(pickle.dumps(Canary()))
    assert Canary.executed, "the canary does not sing"
    Canary.executed = False


def test_symbolic_links_are_not_followed(tmp_path: Path) -> None:
    path = write(tmp_path)
    link = tmp_path / "link"
    link.symlink_to(path, target_is_directory=True)
    with pytest.raises(CheckpointError, match=f"{link} is a symbolic link"):
        read_checkpoint(link)
    for name in FILES:
        (path / name).rename(tmp_path / name)
        (path / name).symlink_to(tmp_path / name)
        with pytest.raises(CheckpointError, match=f"{name} is a symbolic link"):
            read_checkpoint(path)
        (path / name).unlink()
        (tmp_path / name).rename(path / name)
    assert read_checkpoint(path).images_seen == 7


@pytest.mark.parametrize("name", FILES)
def test_pipe_or_directory_in_place_of_a_file_does_not_hang(tmp_path: Path, name: str) -> None:
    path = write(tmp_path)
    (path / name).unlink()
    os.mkfifo(path / name)
    with pytest.raises(CheckpointCorruptError, match=f"{name} is not a regular file"):
        read_checkpoint(path)
    (path / name).unlink()
    (path / name).mkdir()
    with pytest.raises(CheckpointCorruptError, match=f"{name} is not a regular file"):
        read_checkpoint(path)


def test_absent_checkpoint_is_an_error_of_its_own(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="there is no checkpoint at") as caught:
        read_checkpoint(tmp_path / "000000000001")
    assert not isinstance(caught.value, CheckpointCorruptError)


class PanicException(BaseException):
    """What a panic in Rust looks like from Python."""


@pytest.mark.parametrize("error", [PanicException, KeyError, RecursionError, OSError])
def test_whatever_the_parser_throws_is_damage(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: type[BaseException]
) -> None:
    def fail(data: bytes) -> None:
        raise error("oops")

    path = write(tmp_path)
    monkeypatch.setattr("safetensors.torch.load", fail)
    with pytest.raises(CheckpointCorruptError, match=f"{path} cannot be read: {error.__name__}: .*oops"):
        read_checkpoint(path)


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit, MemoryError])
def test_interrupts_and_exhausted_memory_are_no_damage(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: type[BaseException]
) -> None:
    def fail(data: bytes) -> None:
        raise error("oops")

    path = write(tmp_path)
    monkeypatch.setattr("safetensors.torch.load", fail)
    with pytest.raises(error):
        read_checkpoint(path)
