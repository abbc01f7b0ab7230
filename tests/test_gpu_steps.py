"""Whole steps side by side: every route trains, by a stand-in for the graph; times mean nothing here."""

import subprocess
import sys
from types import ModuleType

import pytest
import torch
from example_runs import ROOT, load
from fake_capture import FakeCapture

SCRIPT = ROOT / "benchmarks" / "gpu_steps.py"


@pytest.fixture(scope="module")
def steps() -> ModuleType:
    return load(SCRIPT)


def test_routes_take_turns_and_fill_one_table(steps: ModuleType) -> None:
    options = {"graphed": {"capture": FakeCapture}}
    shape = {"device": torch.device("cpu"), "channels": 8, "batch": 4, "rounds": 2, "calls": 1}
    routes = ("document", "eager", "graphed")
    rows = [row for resolution in (8, 16) for row in steps.side_by_side(resolution, routes, options=options, **shape)]
    assert [(row["resolution"], row["route"]) for row in rows] == [(r, route) for r in (8, 16) for route in routes]
    assert all(row["milliseconds"] > 0 for row in rows)
    assert all(row["graphed"] and row["replays"] == 4 for row in rows if row["route"] == "graphed")
    lines = steps.table(rows).splitlines()
    assert lines[0].startswith("| px | batch | document ms | eager ms | compiled ms | graphed ms |")
    assert [line.split(" | ")[4] for line in lines[2:]] == ["-", "-"]  # compiled was not asked for
    assert len(steps.ratios(rows, "eager", "graphed")) == 2


def test_a_route_that_fails_says_why_and_the_others_go_on(steps: ModuleType) -> None:
    shape = {"device": torch.device("cpu"), "channels": 8, "batch": 2, "rounds": 1, "calls": 1}
    rows = steps.side_by_side(8, ("eager", "graphed"), **shape)
    assert "milliseconds" in rows[0]
    assert rows[1]["error"].startswith("ValueError: `device` is 'cpu', but must be a CUDA device")
    assert "8 px, graphed: ValueError" in steps.table(rows)
    assert steps.ratios(rows, "eager", "graphed") == []


def test_the_compiled_route_changes_both_networks(steps: ModuleType) -> None:
    real = torch.rand(2, 3, 8, 8)
    seen = []
    original = steps.networks_of

    def kept(*arguments: object) -> object:
        seen.extend(original(*arguments))
        return tuple(seen)

    steps.networks_of = kept
    try:
        run, _ = steps.build("compiled", steps.config_of(8, 8), real, backend="eager")
    finally:
        steps.networks_of = original
    before = [parameter.detach().clone() for network in seen for parameter in network.parameters()]
    run()
    after = [parameter for network in seen for parameter in network.parameters()]
    changed = [not torch.equal(a, b) for a, b in zip(before, after, strict=True)]
    assert sum(changed) >= len(changed) - 4  # but for biases of layers of other resolutions, and of the score
    torch._dynamo.reset()


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_it_says_so() -> None:
    done = subprocess.run([sys.executable, str(SCRIPT)], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "no CUDA device: whole steps were not measured\n"
