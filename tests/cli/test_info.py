"""``ganblocks info``: what is installed, what is missing and how to get it, processor and GPUs."""

import json
import re
import tomllib
import types
from pathlib import Path

import numpy as np
import pytest
import torch
from cli_runs import Call

from ganblocks import __version__
from ganblocks.cli import info

ROOT = Path(__file__).resolve().parents[2]


def test_json_tells_versions_processor_threads_and_precision(call: Call) -> None:
    found = json.loads(call("info", "--json").out)
    assert (found["ganblocks"], found["torch"], found["threads"]) == (__version__, torch.__version__, 1)
    assert found["packages"]["numpy"] == np.__version__
    assert found["cpu"] == torch.backends.cpu.get_cpu_capability()
    assert found["precision_auto"]["cpu"] == ("bf16" if found["amx"] else "fp32")
    assert len(found["gpus"]) == len(found["gpu_memory"]) == len(found["precision_auto"]) - 1


def test_extras_are_those_of_the_project() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    declared = {
        extra: tuple(re.split("[>=<]", need)[0] for need in needs if not need.startswith("ganblocks["))
        for extra, needs in project["optional-dependencies"].items()
        if extra not in ("all", "dev")
    }
    assert declared == info.EXTRAS
    assert project["scripts"] == {"ganblocks": "ganblocks.cli:main"}


def test_a_missing_package_comes_with_the_command_that_brings_it(call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    versions = {"matplotlib": None, "onnx": None, "onnxscript": None}
    monkeypatch.setattr(info, "_version", lambda package: versions.get(package, "1.2"))
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    lines = dict(re.split(" {2,}", line, maxsplit=1) for line in call("info").out.splitlines())
    assert lines["extra train"] == 'tensorboard 1.2; matplotlib missing: pip install "ganblocks[train]"'
    assert lines["extra export"] == 'onnx, onnxscript missing: pip install "ganblocks[export]"'
    assert lines["extra vision"] == "torchvision 1.2, timm 1.2"
    assert lines["GPU"] == "none that PyTorch finds"
    assert lines["threads"] == "1"


def test_gpus_are_listed_with_memory_and_precision(call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    gpu = types.SimpleNamespace(name="A GPU", total_memory=24_000_000_000)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda index: gpu)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: True)
    lines = call("info").out.splitlines()
    assert "GPU             A GPU, 24 GB" in lines
    assert lines[-1].endswith("bf16 on cuda:0")
