"""A damaged checkpoint is always noticed: announced, passed over, and never taken for what was written."""

import random
import shutil
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from reliability_runs import lost, newest, parts, progan_images, progan_trainer, seed_everything

from ganblocks.errors import CheckpointCorruptError
from ganblocks.training import CheckpointStore

FILES = ("tensors.safetensors", "state.json", "manifest.json")


def state(epoch: int) -> dict[str, Any]:
    """A small state of every kind: tensors, counters, nesting, a generator's words."""
    generator = torch.Generator().manual_seed(epoch)
    weight = torch.randn(3, 5, generator=generator)
    return {
        "generator": {"weight": weight, "bias": torch.randn(4, generator=generator).to(torch.bfloat16)},
        "optimizer": {"state": {0: {"step": torch.tensor(float(epoch)), "exp_avg": weight.square()}}, "lr": 1e-3},
        "random": (3, (epoch, 2**63, 7), None),
        "done": False,
    }


class Pair:
    """A store of two checkpoints, the newest of which is damaged again and again."""

    def __init__(self, directory: Path) -> None:
        self.store = CheckpointStore(directory, keep_last=2)
        self.old = self.store.save(state(1), 100, {"phase": {"alpha": 0.25, "note": "caf\u00e9"}})
        self.new = self.store.save(state(2), 200, {"phase": {"alpha": 0.50, "note": "caf\u00e9"}})
        self.content = {name: (self.new / name).read_bytes() for name in FILES}
        self.expected = parts(state(1))
        self.silent: list[str] = []

    def damage(self, name: str, content: bytes, what: str) -> None:
        """Note it unless this damage is announced and the older checkpoint is given, untouched."""
        (self.new / name).write_bytes(content)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            try:
                found = self.store.latest_valid()
            except Exception as error:  # it would end a run that could go on from the older one
                self.silent.append(f"{what}: {type(error).__name__}: {error}")
                return
            finally:
                (self.new / name).write_bytes(self.content[name])
        if found is None or found.path != self.old:
            self.silent.append(f"{what}: {found and found.path} was taken, {found and lost(state(2), found.state)}")
        elif parts(found.state) != self.expected:
            self.silent.append(f"{what}: the older one is not what was written: {lost(state(1), found.state)}")
        told = [str(warning.message) for warning in caught if warning.category is RuntimeWarning]
        if len(told) != 1 or self.new.name not in told[0] or str(self.old) not in told[0]:
            self.silent.append(f"{what}: the warnings do not say what is damaged and what is used: {told}")


@pytest.fixture
def pair(tmp_path: Path) -> Pair:
    pair = Pair(tmp_path / "checkpoints")
    found = pair.store.latest_valid()
    assert found is not None
    assert found.path == pair.new
    return pair


@pytest.mark.parametrize("count", [3000, pytest.param(100_000, marks=[pytest.mark.slow, pytest.mark.timeout(3600)])])
def test_no_flipped_bit_is_ever_silent(pair: Pair, count: int) -> None:
    generator = random.Random(count)
    for number in range(count):
        name = FILES[number % 3]
        position = generator.randrange(8 * len(pair.content[name]))
        flipped = bytearray(pair.content[name])
        flipped[position // 8] ^= 1 << position % 8
        pair.damage(name, flipped, f"bit {position % 8} of byte {position // 8} of {name}")
    print({"flips": count, "bits": {name: 8 * len(pair.content[name]) for name in FILES}, "silent": len(pair.silent)})
    assert not pair.silent, f"{len(pair.silent)} of {count} flips went wrong:\n" + "\n".join(pair.silent[:10])


def test_no_truncated_file_is_ever_silent(pair: Pair) -> None:
    generator = random.Random(1)
    for number in range(300):
        name = FILES[number % 3]
        whole = pair.content[name]
        length = {0: 0, 1: len(whole) - 1}.get(number // 3, generator.randrange(len(whole)))
        pair.damage(name, whole[:length], f"{name} cut to {length} of {len(whole)} bytes")
    assert not pair.silent, f"{len(pair.silent)} of 300 truncations went wrong:\n" + "\n".join(pair.silent[:10])


def zeros(content: bytes, start: int, end: int) -> bytes:
    """As a disk leaves blocks whose data never arrived."""
    return content[:start] + bytes(end - start) + content[end:]


def repeated(content: bytes, start: int, end: int) -> bytes:
    return content[:end] + content[start:]


def missing(content: bytes, start: int, end: int) -> bytes:
    return content[:start] + content[end:]


def moved(content: bytes, start: int, end: int) -> bytes:
    return content[:start] + content[end:] + content[start:end]


@pytest.mark.parametrize("break_it", [zeros, repeated, missing, moved])
def test_no_lost_or_moved_block_is_ever_silent(pair: Pair, break_it: Callable[[bytes, int, int], bytes]) -> None:
    generator = random.Random(2)
    for number in range(60):
        name = FILES[number % 3]
        start, end = sorted(generator.sample(range(len(pair.content[name]) + 1), 2))
        broken = break_it(pair.content[name], start, end)
        if broken != pair.content[name]:
            pair.damage(name, broken, f"bytes {start} to {end} of {name} {break_it.__name__}")
    assert not pair.silent, "\n".join(pair.silent[:10])


@pytest.mark.parametrize("name", FILES)
def test_a_run_whose_newest_checkpoint_is_damaged_goes_on_from_the_one_before_to_the_same_bits(
    name: str, tmp_path: Path
) -> None:
    images = progan_images()
    seed_everything(0)
    progan_trainer(images, tmp_path / "whole").fit()
    seed_everything(0)
    progan_trainer(images, tmp_path / "cut", total_images=32).fit()
    newest_path = max((tmp_path / "cut" / "checkpoints").iterdir())
    content = bytearray((newest_path / name).read_bytes())
    content[len(content) // 2] ^= 4
    (newest_path / name).write_bytes(content)
    seed_everything(7)
    with pytest.warns(RuntimeWarning, match=rf"{newest_path.name}.*going back to .*0*24"):
        result = progan_trainer(images, tmp_path / "cut").fit()
    assert result.finished
    whole, cut = newest(tmp_path / "whole"), newest(tmp_path / "cut")
    assert whole is not None
    assert cut is not None
    assert not (difference := lost(whole.state, cut.state)), difference


def test_a_run_all_of_whose_checkpoints_are_damaged_neither_starts_anew_nor_touches_them(tmp_path: Path) -> None:
    images = progan_images()
    progan_trainer(images, tmp_path, total_images=16).fit()
    for path in (tmp_path / "checkpoints").glob("*/tensors.safetensors"):
        content = bytearray(path.read_bytes())
        content[-1] ^= 128
        path.write_bytes(content)
    before = shutil.copytree(tmp_path / "checkpoints", tmp_path / "before")
    with pytest.raises(CheckpointCorruptError, match=r"all 2 checkpoints in .* are damaged"):
        progan_trainer(images, tmp_path).fit()
    for path in before.rglob("*.*"):
        same = tmp_path / "checkpoints" / path.relative_to(before)
        assert same.read_bytes() == path.read_bytes(), f"{same} has changed: nobody can repair it any more"
