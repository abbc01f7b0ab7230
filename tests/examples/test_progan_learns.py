"""The example does not only run: it learns. Minutes long, so marked slow."""

import json
from itertools import groupby
from pathlib import Path

import pytest
from example_runs import load


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_each_stage_ends_closer_to_held_out_images_than_it_began(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("GANBLOCKS_DATA", raising=False)
    run = tmp_path / "run"
    options = ["--drawn", "8000", "--resolution", "16"]  # 48,000 images: shorter stages end before they have caught up
    example = load("examples/progan_celeba.py", "progan_celeba_slow")
    assert example.main([*options, "--out", str(run), "--threads", "1"]) == 0
    records = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    key = "sliced_wasserstein_distance"
    distances = [(record["resolution"], record[key]) for record in records if key in record]
    assert [resolution for resolution, _ in groupby(distances, key=lambda pair: pair[0])] == [4, 8, 16]
    for _, group in groupby(distances, key=lambda pair: pair[0]):
        first, *_, last = (distance for _, distance in group)
        assert last < 0.7 * first
