"""Weights come out of a run's checkpoints untouched and unchanged, and out of a foreign file without running it."""

import os
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from torch import Tensor, nn

from ganblocks.errors import CheckpointError, SecurityError
from ganblocks.training import Checkpoint
from ganblocks.training.saved_weights import (
    read_foreign_weights,
    weights_of,
    write_weights,
)


def equal(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


class TestParts:
    def parts(self, **step: Any) -> Checkpoint:
        return Checkpoint(Path("here"), 8, {"step": step}, {})

    def test_the_average_comes_first_then_the_generator(self) -> None:
        ema, generator, discriminator = ({"w": torch.full((2, 2), float(n))} for n in range(3))
        both = self.parts(ema={"updates": 1, "module": ema}, generator=generator, discriminator=discriminator)
        assert weights_of(both)[0] == "ema"
        assert equal(weights_of(both)[1], ema)
        assert equal(weights_of(both, "generator")[1], generator)
        assert equal(weights_of(both, "discriminator")[1], discriminator)
        chosen, weights = weights_of(self.parts(ema=None, generator=generator))
        assert chosen == "generator"
        assert equal(weights, generator)

    def test_channels_last_weights_come_contiguous(self) -> None:
        weight = torch.randn(2, 3, 4, 4).contiguous(memory_format=torch.channels_last)
        _, weights = weights_of(self.parts(generator={"w": weight}))
        assert weights["w"].is_contiguous()
        assert torch.equal(weights["w"], weight)

    def test_what_is_missing_is_named_with_what_is_there(self) -> None:
        with pytest.raises(CheckpointError, match="no weights of ema, but of: generator"):
            weights_of(self.parts(ema=None, generator={"w": torch.ones(1)}), "ema")
        with pytest.raises(ValueError, match="`part` is 'critic'"):
            weights_of(self.parts(), "critic")  # type: ignore[arg-type]

    @pytest.mark.parametrize("state", [{}, {"step": None}, {"step": {"generator": {}}}, {"step": {"generator": [1]}}])
    def test_a_state_of_another_kind_holds_nothing(self, state: dict[str, Any]) -> None:
        with pytest.raises(CheckpointError, match="no weights of generator, but of: nothing"):
            weights_of(Checkpoint(Path("here"), 8, state, {}))


class Canary:
    """A pickle of this makes a folder when it is loaded, unless the reader refuses."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.path),)


class TestForeign:
    @pytest.fixture(params=[True, False], ids=["zip", "legacy"])
    def saved(self, request: pytest.FixtureRequest, tmp_path: Path) -> Any:
        """Saves something in either format of torch.save; gives the path."""

        def save(value: object) -> Path:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                torch.save(value, tmp_path / "x.pt", _use_new_zipfile_serialization=request.param)
            return tmp_path / "x.pt"

        return save

    def test_a_state_dict_comes_as_it_is(self, saved: Any) -> None:
        module = nn.Sequential(nn.Conv2d(2, 3, 3), nn.BatchNorm2d(3))
        key, weights = read_foreign_weights(saved(module.state_dict()))
        assert key is None
        assert equal(weights, dict(module.state_dict()))

    def test_the_only_state_dict_inside_is_taken_and_named(self, saved: Any) -> None:
        module = nn.Linear(2, 3)
        optimizer = torch.optim.Adam(module.parameters()).state_dict()
        key, weights = read_foreign_weights(saved({"epoch": 3, "model": module.state_dict(), "optimizer": optimizer}))
        assert key == "model"
        assert equal(weights, dict(module.state_dict()))

    def test_among_several_the_key_chooses(self, saved: Any) -> None:
        path = saved({"g": {"w": torch.zeros(2)}, "d": {"w": torch.ones(3)}, "lr": 0.1})
        assert torch.equal(read_foreign_weights(path, "d")[1]["w"], torch.ones(3))
        with pytest.raises(CheckpointError, match="2 state dicts: choose one by its key: d, g"):
            read_foreign_weights(path)
        for key in ("lr", "e"):
            with pytest.raises(CheckpointError, match=rf"no state dict with the key '{key}', but: d, g"):
                read_foreign_weights(path, key)

    def test_every_tensor_has_dense_memory_of_its_own_and_no_gradient(self, saved: Any) -> None:
        shared = torch.arange(6.0)
        _, weights = read_foreign_weights(
            saved({"a": shared, "b": shared.view(2, 3).t(), "c": shared[1:3], "d": nn.Parameter(torch.ones(2))})
        )
        assert equal(weights, {"a": shared, "b": shared.view(2, 3).t(), "c": shared[1:3], "d": torch.ones(2)})
        assert len({tensor.data_ptr() for tensor in weights.values()}) == 4
        assert all(type(w) is Tensor and w.is_contiguous() and not w.requires_grad for w in weights.values())

    @pytest.mark.parametrize("forced", ["", "1"])
    def test_code_in_the_file_does_not_run(
        self, forced: str, saved: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        canary = tmp_path / "canary"
        path = saved({"w": torch.zeros(2), "x": Canary(canary)})
        if forced:  # the variable that turns PyTorch's protection off for callers that leave the choice to it
            monkeypatch.setenv("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", forced)
        with pytest.raises(SecurityError, match=r"is refused: it asks for \w+\.mkdir, but may hold tensors only"):
            read_foreign_weights(path)
        assert not canary.exists()
        torch.load(path, weights_only=False)
        assert canary.is_dir()  # the canary was alive

    def test_a_whole_module_is_refused(self, saved: Any) -> None:
        with pytest.raises(SecurityError, match=r"asks for torch\.nn\.modules\.linear\.Linear"):
            read_foreign_weights(saved(nn.Linear(2, 2)))

    def test_a_number_that_poses_as_a_thousand_million_is_refused(self, saved: Any) -> None:
        with pytest.raises(SecurityError, match="claim far more memory"):
            read_foreign_weights(saved({"w": torch.zeros(1).expand(10**9)}))

    @pytest.mark.parametrize(
        ("value", "words"),
        [
            (torch.zeros(2), "holds a Tensor, but must hold a state dict"),
            ([torch.zeros(2)], "holds a list"),
            ({}, "holds a dict, but"),
            ({"w": torch.zeros(2), "epoch": 3}, "holds a dict of Tensor, int"),
            ({1: torch.zeros(2)}, "holds a dict of Tensor"),
            ({"a": {"b": {"w": torch.zeros(2)}}}, "holds a dict of dict"),
            ({"w": torch.eye(2).to_sparse()}, "'w' is no dense tensor, but torch.sparse_coo"),
            ({"w": torch.zeros(2, device="meta")}, "'w' is no dense tensor, but .* on meta"),
        ],
    )
    def test_what_is_no_state_dict_is_told(self, value: Any, words: str, saved: Any) -> None:
        with pytest.raises(CheckpointError, match=words):
            read_foreign_weights(saved(value))

    @pytest.mark.parametrize("content", [b"", b"not a pickle", b"PK\x03\x04 no zip", b"\x80\x02}q\x00."])
    def test_what_is_no_such_file_is_told(self, content: bytes, tmp_path: Path) -> None:
        (tmp_path / "x.pt").write_bytes(content)
        with pytest.raises(CheckpointError, match=r"x\.pt"):
            read_foreign_weights(tmp_path / "x.pt")

    def test_every_truncation_is_refused(self, saved: Any) -> None:
        path = saved({"w": torch.zeros(2)})
        content = path.read_bytes()
        for end in range(0, len(content) - 1, 37):
            path.write_bytes(content[:end])
            with pytest.raises((CheckpointError, SecurityError)):
                read_foreign_weights(path)

    def test_pipes_and_folders_are_not_opened(self, tmp_path: Path) -> None:
        os.mkfifo(tmp_path / "pipe")
        for name, words in (("pipe", "no regular file"), (".", "no regular file"), ("missing", "does not exist")):
            with pytest.raises(CheckpointError, match=words):
                read_foreign_weights(tmp_path / name)


class TestWrite:
    def test_tensors_and_texts_come_back(self, tmp_path: Path) -> None:
        weights = {"a": torch.randn(2, 3), "b.c": torch.arange(4)}
        write_weights(
            tmp_path / "new" / "w.safetensors", weights, {"text": "ä", "number": 3, "config": {"x": [1, None]}}
        )
        with safe_open(tmp_path / "new" / "w.safetensors", "pt") as file:
            assert equal({name: file.get_tensor(name) for name in file.keys()}, weights)  # noqa: SIM118
            assert file.metadata() == {"text": "ä", "number": "3", "config": '{"x": [1, null]}'}

    @pytest.mark.parametrize(
        "weights",
        [
            {"__metadata__": torch.zeros(1)},
            {"w": torch.zeros(1, dtype=torch.complex128)},
            {"\udc80": torch.zeros(1)},
        ],
    )
    def test_what_safetensors_cannot_hold_is_told_and_leaves_the_old_file(
        self, weights: dict[str, Tensor], tmp_path: Path
    ) -> None:
        path = tmp_path / "w.safetensors"
        path.write_bytes(b"old")
        with pytest.raises(CheckpointError, match="safetensors cannot hold"):
            write_weights(path, weights)
        assert path.read_bytes() == b"old"
        assert list(tmp_path.iterdir()) == [path]
