"""``ganblocks checkpoint``: what it tells of checkpoints, and weights out of a run or a foreign file."""

import json
import os
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from cli_runs import CONFIG, METADATA, Call, Outcome, damage, equal, networks, newest, replace_newest, tensors

from ganblocks import __version__
from ganblocks.models.progan import Generator
from ganblocks.models.registry import generator_from_metadata
from ganblocks.training import CheckpointStore
from ganblocks.training.checkpoint_directory import find_checkpoints


class TestCheckpoints:
    def test_list_tells_numbers_sizes_writers_and_state(self, run: Path, call: Call) -> None:
        outcome = call("checkpoint", "list", run)
        assert (outcome.code, outcome.err) == (0, "")
        header, *lines = outcome.out.splitlines()
        assert header.split() == ["checkpoint", "images", "size", "written", "by", "state"]
        writer = f"ganblocks {__version__}, torch {torch.__version__}"
        size = sum(file.stat().st_size for file in newest(run).iterdir())
        assert [re.split(" {2,}", line) for line in lines] == [
            ["000000001000", "1,000", f"{size / 1000:.3g} kB", writer, "valid"],
            ["000000002000", "2,000", f"{size / 1000:.3g} kB", writer, "valid"],
        ]
        assert {line.index("ganblocks") for line in lines} == {header.index("written by")}
        entries = json.loads(call("checkpoint", "list", run, "--json").out)
        assert entries[1] == {
            "checkpoint": "000000002000",
            "images_seen": 2000,
            "ganblocks": __version__,
            "torch": torch.__version__,
            "bytes": size,
            "problem": None,
        }

    @pytest.mark.parametrize("command", ["list", "verify"])
    @pytest.mark.parametrize("name", ["tensors.safetensors", "state.json", "manifest.json"])
    def test_one_changed_bit_is_found_and_only_where_it_is(
        self, name: str, command: str, run: Path, call: Call
    ) -> None:
        damage(newest(run), name)
        outcome = call("checkpoint", command, run)
        assert (outcome.code, outcome.err) == (1, "")
        first, last = outcome.out.splitlines()[-2:]
        assert first.startswith("000000001000 ")
        assert first.endswith("  valid")
        assert last.startswith("000000002000 ")
        assert name in last
        problems = [entry["problem"] for entry in json.loads(call("checkpoint", command, run, "--json").out)]
        assert problems[0] is None
        assert name in problems[1]
        assert call("checkpoint", command, run / "checkpoints" / "000000001000").code == 0
        assert call("checkpoint", command, newest(run)).code == 1

    def test_a_link_a_missing_file_and_a_newer_format_are_told(self, run: Path, call: Call) -> None:
        folder = run / "checkpoints"
        os.symlink(newest(run), folder / "000000003000")
        (folder / "000000004000").mkdir()
        (folder / "000000005000").write_text("a file")
        outcome = call("checkpoint", "verify", run)
        assert outcome.code == 1
        problems = dict(line.split("  ", 1) for line in outcome.out.splitlines())
        assert problems["000000002000"] == "valid"
        assert "symbolic link" in problems["000000003000"]
        assert "manifest.json" in problems["000000004000"]
        assert "cannot be read" in problems["000000005000"]
        listed = call("checkpoint", "list", run)
        assert listed.code == 1
        assert len(listed.out.splitlines()) == 6

    def test_one_that_training_deletes_meanwhile_is_no_damage(
        self, run: Path, call: Call, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        gone = run / "checkpoints" / "000000001000"
        found = find_checkpoints(run)
        gone.rename(run / "elsewhere")
        monkeypatch.setattr("ganblocks.cli.checkpoint.find_checkpoints", lambda path: found)
        assert call("checkpoint", "verify", run) == Outcome(0, "000000002000  valid\n", "")

    def test_nothing_in_a_file_reaches_the_terminal_as_a_command(
        self, run: Path, call: Call, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("ganblocks.training.checkpoint_format.__version__", "1.0\x1b[2J\nfake line")
        replace_newest(run, {}, {})
        out = call("checkpoint", "list", run).out
        assert "\x1b" not in out
        assert "ganblocks 1.0\\x1b[2J fake line, torch" in out
        assert len(out.splitlines()) == 3


class TestExport:
    @pytest.mark.parametrize(("part", "model"), [(None, Generator), ("generator", Generator), ("discriminator", None)])
    def test_the_file_holds_weights_and_how_to_build_their_network(
        self, part: str | None, model: type | None, run: Path, tmp_path: Path, call: Call
    ) -> None:
        out = tmp_path / "w.safetensors"
        outcome = call("checkpoint", "export", run, "--out", out, *(["--part", part] if part else []))
        assert (outcome.code, outcome.err) == (0, "")
        step = CheckpointStore(run / "checkpoints").load(newest(run)).state["step"]
        weights, about = tensors(out)
        assert equal(weights, step["ema"]["module"] if part is None else step[part])
        assert about["part"] == (part or "ema")
        assert (about["format"], about["model"], about["images_seen"]) == ("pt", "progan", "2000")
        assert json.loads(about["phase"]) == METADATA["phase"]
        if model is not None:
            again = generator_from_metadata({"model": about["model"], "config": json.loads(about["config"])})
            again.load_state_dict(weights)
            assert again.config == CONFIG

    def test_without_an_average_the_generator_is_taken(self, run: Path, call: Call) -> None:
        step = {**networks(CONFIG), "ema": None}
        replace_newest(run, {"step": step}, {})
        out = run.parent / "w.safetensors"
        assert call("checkpoint", "export", run, "--out", out).code == 0
        assert equal(tensors(out)[0], step["generator"])
        outcome = call("checkpoint", "export", run, "--out", out, "--force", "--part", "ema")
        assert outcome.code == 2
        assert "holds no weights of ema, but of: generator, discriminator" in outcome.err

    def test_a_file_that_is_there_stays_unless_forced(self, run: Path, tmp_path: Path, call: Call) -> None:
        out, other = tmp_path / "w.safetensors", tmp_path / "other"
        other.write_bytes(b"old")
        os.symlink(other, out)
        outcome = call("checkpoint", "export", run, "--out", out)
        assert (outcome.code, outcome.out) == (2, "")
        assert "exists (--force replaces it)" in outcome.err
        assert call("checkpoint", "export", run, "--out", out, "--force").code == 0
        assert other.read_bytes() == b"old"  # the link was replaced, not followed
        assert tensors(out)[0]
        folder = tmp_path / "folder.safetensors"
        folder.mkdir()
        assert "that is a folder" in call("checkpoint", "export", run, "--out", folder, "--force").err

    def test_a_file_of_weights_has_its_suffix(self, call: Call) -> None:
        assert 'must end in ".safetensors"' in call("checkpoint", "import", "x.pt", "--out", "w.bin").err


class TestImport:
    def test_a_foreign_state_dict_becomes_a_plain_file(self, tmp_path: Path, call: Call) -> None:
        weights = {"w": torch.randn(3, 2).t(), "b": torch.zeros(2)}
        torch.save({"model": weights, "ema": weights, "epoch": 3}, tmp_path / "x.pt")
        arguments = ("checkpoint", "import", tmp_path / "x.pt", "--out", tmp_path / "w.safetensors")
        assert "choose one by its key: ema, model" in call(*arguments).err
        assert not (tmp_path / "w.safetensors").exists()
        outcome = call(*arguments, "--key", "ema")
        assert (outcome.code, outcome.err) == (0, "")
        assert outcome.out.startswith("2 tensors, 8 numbers of the key 'ema' in ")
        loaded, about = tensors(tmp_path / "w.safetensors")
        assert equal(loaded, weights)
        assert about == {"format": "pt"}
        assert call(*arguments, "--key", "model").code == 2  # it is there now

    def test_a_stranger_s_code_is_named_and_not_run(self, tmp_path: Path, call: Call) -> None:
        class Canary:
            def __reduce__(self) -> tuple[Any, ...]:
                return os.mkdir, (str(tmp_path / "canary"),)

        torch.save({"w": torch.zeros(2), "x": Canary()}, tmp_path / "x.pt")
        outcome = call("checkpoint", "import", tmp_path / "x.pt", "--out", tmp_path / "w.safetensors")
        assert (outcome.code, outcome.out) == (2, "")
        assert re.fullmatch(r"SecurityError: .*x\.pt is refused: it asks for \w+\.mkdir, but .*\n", outcome.err)
        assert [path.name for path in tmp_path.iterdir()] == ["x.pt"]
