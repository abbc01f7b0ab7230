"""Several processes, each with a part of the images, get the scores that one process gets from all of them."""

import json
import os
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import pytest
import sharded_processes
import torch

from ganblocks.metrics.sharding import gather_rows, largest_of_all
from tolerances import named

WORLD = 2  # of 7, 6 and 5 images: shares of unequal sizes


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """What each of the processes wrote."""
    folder = tmp_path_factory.mktemp("processes")
    script = str(Path(sharded_processes.__file__))
    source = Path(__file__).parents[2] / "src"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(source), str(Path(script).parent)])}
    processes = [
        subprocess.Popen(
            [sys.executable, script, str(rank), str(WORLD), str(folder / "store"), str(folder)],
            env=environment,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(WORLD)
    ]
    errors = [process.communicate(timeout=120)[1] for process in processes]
    assert [process.returncode for process in processes] == [0] * WORLD, errors
    return [json.loads((folder / f"{rank}.json").read_text()) for rank in range(WORLD)]


def test_the_scores_of_uneven_shares_are_those_of_one_process(found: list[dict[str, Any]]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # so few images are biased; here that does not matter
        expected = sharded_processes.scores(sharded_processes.image_sets(), sharded=False).to_dict()
    assert len(expected) == 11
    for process in found:
        assert [score["name"] for score in process["scores"]] == [score["name"] for score in expected]
        for score, alone in zip(process["scores"], expected, strict=True):
            assert {**score, "value": 0, "spread": 0, "details": 0} == {**alone, "value": 0, "spread": 0, "details": 0}
            close = {"rel": named("sharded")["rtol"], "abs": named("sharded")["atol"]}
            assert score["value"] == pytest.approx(alone["value"], **close)
            assert (score["spread"] is None) == (alone["spread"] is None)
            assert score["spread"] is None or score["spread"] == pytest.approx(alone["spread"], **close)


def test_all_processes_get_the_same_bits(found: list[dict[str, Any]]) -> None:
    assert all(process == found[0] for process in found)


def test_rows_come_in_the_order_of_one_process(found: list[dict[str, Any]]) -> None:
    assert found[0]["pairs"] == [[number, number] for number in range(2 * WORLD + 1)]
    assert found[0]["one"] == [5]
    assert found[0]["nothing"] == [0, 3]
    assert found[0]["largest"] == 10 * (WORLD - 1)


def test_parts_that_are_not_those_of_a_whole_are_refused(found: list[dict[str, Any]]) -> None:
    assert "hold [0, 1] rows" in found[0]["refused"]
    assert "must hold [1, 0]" in found[0]["refused"]
    assert "[(2,), (3,)]" in found[0]["refused shape"]


def test_one_process_alone_keeps_its_rows() -> None:
    rows = torch.arange(6).reshape(3, 2)
    assert gather_rows(rows) is rows
    assert largest_of_all(4) == 4
