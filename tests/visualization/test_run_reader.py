"""Reading a run: one line of time whatever the log went through, and nothing from outside the directory."""

import itertools
import json
import os

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from ganblocks.visualization.run_reader import (
    best_rows,
    find_figures,
    find_sheets,
    finite,
    measurements,
    moment,
    read_records,
    read_run,
    spread,
)


@pytest.fixture
def root(tmp_path):
    run = tmp_path.resolve() / "run"
    (run / "samples").mkdir(parents=True)
    return run


def write_log(root, *records):
    lines = (record if isinstance(record, str) else json.dumps(record) for record in records)
    (root / "log.jsonl").write_text("\n".join(lines), encoding="utf-8")


def draw(path, size=(6, 4)):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, (9, 8, 7)).save(path, format="PNG")


def seen(run):
    return [record["images_seen"] for record in run.records]


def test_an_empty_directory_says_nothing(root):
    run = read_run(root)
    assert (run.records, run.events, run.config, run.images_seen, run.planned, run.seconds) == (
        [],
        [],
        None,
        None,
        None,
        None,
    )
    assert find_sheets(root) == ([], 0)


def test_what_is_no_record_is_passed_over(root):
    bad = ["", "[1]", "null", '{"images_seen": "7"}', '{"images_seen": NaN}', '{"loss": 1}', "[" * 100_000]
    bad += ['{"images_seen": ' + "9" * 5000 + "}", '{"images_seen": 1' + "0" * 400 + "}", '{"images_seen": 30, "lo']
    write_log(root, {"images_seen": 10}, *bad[:-1], {"images_seen": 20}, bad[-1])
    assert seen(read_run(root)) == [10, 20]


def test_bytes_that_are_no_text_do_not_matter(root):
    (root / "log.jsonl").write_bytes(b'\xff\xfe\n{"images_seen": 5}\n')
    assert seen(read_run(root)) == [5]


def test_records_are_the_objects_of_whole_lines_in_their_order(root):
    write_log(root, {"event": "start"}, "[1]", {"loss": 1}, "", {"loss": 2}, '{"loss": 3')
    assert read_records(str(root / "log.jsonl")) == [{"event": "start"}, {"loss": 1}, {"loss": 2}]
    with pytest.raises(FileNotFoundError):
        read_records(root / "missing.jsonl")


def test_a_later_attempt_replaces_what_an_earlier_one_logged(root):
    write_log(
        root, *({"images_seen": n, "try": 1} for n in (1, 2, 3, 3, 4)), *({"images_seen": n, "try": 2} for n in (3, 5))
    )
    assert [(r["images_seen"], r["try"]) for r in read_run(root).records] == [(1, 1), (2, 1), (3, 2), (5, 2)]


def test_a_resume_keeps_its_own_moment_and_drops_what_lay_beyond(root):
    write_log(root, *({"images_seen": n} for n in (1, 2, 3, 4)), {"event": "resume", "images_seen": 3})
    run = read_run(root)
    assert seen(run) == [1, 2, 3]
    assert run.images_seen == 3


def test_other_events_drop_nothing_and_stay_in_order(root):
    write_log(root, {"images_seen": 5}, {"event": "divergence", "images_seen": 4}, {"event": "b"}, {"images_seen": 6})
    run = read_run(root)
    assert seen(run) == [5, 6]
    assert [event["event"] for event in run.events] == ["divergence", "b"]


@given(st.lists(st.integers(0, 9)))
def test_the_line_of_time_never_falls_back_and_ends_where_the_log_ends(tmp_path_factory, positions):
    root = tmp_path_factory.mktemp("run").resolve()
    write_log(root, *({"images_seen": n} for n in positions))
    line = seen(read_run(root))
    assert line == sorted(line)
    assert line[-1:] == positions[-1:]
    assert all(
        min(positions[index:]) == n for n, index in ((n, len(positions) - 1 - positions[::-1].index(n)) for n in line)
    )


def test_the_newest_checkpoint_may_be_past_the_log(root):
    write_log(root, {"images_seen": 90})
    for name in ("000000000080", "000000000100", "000000000999.tmp", ".x", "best"):
        (root / "checkpoints" / name).mkdir(parents=True)
        (root / "checkpoints" / name / "manifest.json").touch()
    (root / "checkpoints" / "000000000500").mkdir()  # not whole: without a manifest
    assert read_run(root).images_seen == 100


@pytest.mark.parametrize(
    ("event", "config", "planned"),
    [
        ({}, {"stage_images": [200, 300]}, 500),
        ({}, {"stage_images": [200, 300], "total_images": 450}, 450),
        ({"total_images": 70}, {"total_images": 450}, 70),
        ({"total_images": "many"}, {"stage_images": None}, None),
        ({}, {"stage_images": [200, "x"]}, None),
        ({}, {"stage_images": []}, None),
        ({}, [1, 2], None),
        ({}, {"total_images": True}, None),
    ],
)
def test_the_planned_length_is_read_where_it_stands(root, event, config, planned):
    write_log(root, {"event": "start", "images_seen": 0, **event})
    (root / "config.json").write_text(json.dumps(config))
    assert read_run(root).planned == planned


@pytest.mark.parametrize("text", ["", "{", "[" * 100_000, "9" * 5000])
def test_a_config_that_is_torn_is_none(root, text):
    (root / "config.json").write_text(text)
    assert read_run(root).config is None


def test_wall_time_runs_from_the_first_start_to_the_last_line(root):
    write_log(
        root,
        {"event": "start", "images_seen": 0, "time": "2026-01-01T01:00:00+0100"},
        {"event": "resume", "images_seen": 0, "time": "2026-01-01T05:00:00+0000"},
    )
    midnight = 1767225600  # 2026-01-01 in UTC
    os.utime(root / "log.jsonl", (midnight + 5000, midnight + 5000))
    assert read_run(root).seconds == 5000
    os.utime(root / "log.jsonl", (midnight - 9, midnight - 9))
    assert read_run(root).seconds is None


@pytest.mark.parametrize("time", [None, 5, "noon", [], "2026-13-01T00:00:00"])
def test_a_time_that_cannot_be_read_is_none(time):
    assert moment({"time": time}) is None
    assert moment({}) is None


def test_finite_takes_numbers_only():
    assert [finite(value) for value in (1, 2.5, True, "3", None, float("nan"), float("inf"), 10**400, [1])] == [
        1.0, 2.5, None, None, None, None, None, None, None,
    ]  # fmt: skip


def test_measurements_of_one_moment_share_a_row():
    records = [
        {"images_seen": 10, "resolution": 8, "loss": 1.0, "confidence": 2.0},
        {"images_seen": 10, "resolution": 8, "swd_16": 3.0},
        {"images_seen": 10, "resolution": 8, "FID": 4.0, "kid_mean": "nan"},
        {"images_seen": 20, "resolution": 16, "fid50k": 5.0, "top_accuracy": 0.5, "kidney": 0, "a_distance": 6.0},
    ]
    keys, rows, others = measurements(records)
    assert keys == ["swd_16", "FID", "kid_mean", "fid50k", "top_accuracy", "a_distance"]
    assert rows == [
        {"images_seen": 10, "resolution": 8, "swd_16": 3.0, "FID": 4.0, "kid_mean": "nan"},
        {"images_seen": 20, "resolution": 16, "fid50k": 5.0, "top_accuracy": 0.5, "a_distance": 6.0},
    ]
    assert others == ["images_seen", "resolution", "loss", "confidence", "kidney"]


def test_the_best_is_told_for_each_resolution():
    distances, accuracies = [3.0, 2.0, 2.0, 1.0, float("nan"), "nan"], [0.5, 0.5, 0.9, 0.1, 0.2, None]
    rows = [
        {"resolution": 4 if n < 3 else 8, "swd": distance, "val_accuracy": accuracy}
        for n, (distance, accuracy) in enumerate(zip(distances, accuracies, strict=True))
    ]
    found = best_rows(["swd", "val_accuracy", "fid"], rows)
    assert found == {("swd", 1), ("swd", 3), ("val_accuracy", 2), ("val_accuracy", 4)}


def test_sheets_come_in_the_order_of_time_with_their_sizes(root):
    for name, size in (
        ("000000000020_8px.png", (6, 4)),
        ("7_4px.png", (2, 3)),
        ("100.png", (5, 5)),
        ("a_4px.png", (1, 1)),
    ):
        draw(root / "samples" / name, size)
    sheets, refused = find_sheets(root)
    found = [(sheet.images_seen, sheet.resolution, sheet.width, sheet.height) for sheet in sheets]
    assert found == [(7, 4, 2, 3), (20, 8, 6, 4), (100, None, 5, 5)]
    assert [sheet.bytes for sheet in sheets] == [sheet.path.stat().st_size for sheet in sheets]
    assert refused == 0


def test_files_that_are_no_whole_png_are_refused(root):
    draw(root / "samples" / "1.png")
    whole = (root / "samples" / "1.png").read_bytes()
    for number, data in enumerate((whole[:-1], b"", b"GIF89a" + whole[6:], b"<svg onload='x'/>" * 9), start=2):
        (root / "samples" / f"{number}.png").write_bytes(data)
    (root / "samples" / "9.png").mkdir()
    sheets, refused = find_sheets(root)
    assert ([sheet.images_seen for sheet in sheets], refused) == ([1], 5)


def test_links_out_of_the_run_are_not_followed(root):
    outside = root.parent / "outside"
    draw(outside / "5_4px.png")
    (outside / "config.json").write_text('{"secret": 1}')
    (outside / "log.jsonl").write_text('{"images_seen": 1}')
    (root / "samples" / "5_4px.png").symlink_to(outside / "5_4px.png")
    (root / "samples" / "6_4px.png").symlink_to(root / "samples" / "6_4px.png")
    (root / "samples" / "7_4px.png").symlink_to("../../outside/5_4px.png")
    for name in ("config.json", "log.jsonl"):
        (root / name).symlink_to(outside / name)
    run = read_run(root)
    assert (run.config, run.records) == (None, [])
    assert find_sheets(root) == ([], 3)
    other = root.parent / "other"
    other.mkdir()
    (other / "samples").symlink_to(outside)
    assert find_sheets(other) == ([], 0)


def test_a_run_behind_a_link_is_read(root, tmp_path):
    write_log(root, {"images_seen": 5})
    (tmp_path / "link").symlink_to(root.parent, target_is_directory=True)
    run = read_run(tmp_path / "link" / "run")
    assert (seen(run), run.root) == ([5], root)


def test_a_link_within_the_run_is_followed(root):
    draw(root / "elsewhere.png")
    (root / "samples" / "5_4px.png").symlink_to(root / "elsewhere.png")
    sheets, refused = find_sheets(root)
    assert ([sheet.images_seen for sheet in sheets], refused) == ([5], 0)


def test_figures_come_by_name_and_numbers_by_size(root):
    for name in ("latent_10.png", "latent_9.PNG", "Confusion.png", "rows.jpg", ".hidden.png", "notes.txt"):
        draw(root / "figures" / name, (7, 3))
    figures, refused = find_figures(root)
    assert [figure.name for figure in figures] == ["Confusion", "latent_9", "latent_10"]
    assert {(figure.width, figure.height) for figure in figures} == {(7, 3)}
    assert [figure.bytes for figure in figures] == [figure.path.stat().st_size for figure in figures]
    assert refused == 0
    assert find_figures(root / "samples") == ([], 0)


def test_figures_from_outside_and_damaged_ones_are_refused(root):
    draw(root / "figures" / "own.png")
    whole = (root / "figures" / "own.png").read_bytes()
    draw(root.parent / "outside.png")
    (root / "figures" / "linked.png").symlink_to(root.parent / "outside.png")
    (root / "figures" / "dangling.png").symlink_to(root / "nothing.png")
    (root / "figures" / "folder.png").mkdir()
    (root / "figures" / "half.png").write_bytes(whole[: len(whole) // 2])
    (root / "figures" / "page.png").write_bytes(b"<svg onload='x'/>" * 9)
    figures, refused = find_figures(root)
    assert ([figure.name for figure in figures], refused) == (["own"], 5)
    other = root.parent / "other"
    other.mkdir()
    (other / "figures").symlink_to(root / "figures")
    assert find_figures(other) == ([], 0)


@given(st.integers(0, 300), st.integers(1, 70))
def test_a_spread_is_even_and_has_both_ends(count, most):
    places = spread(count, most)
    assert len(places) == min(count, most)
    assert places == sorted(set(places))
    assert places[-1:] == list(range(count))[-1:]
    if most > 1:
        assert places[:1] == list(range(count))[:1]
        steps = [later - earlier for earlier, later in itertools.pairwise(places)]
        assert not steps or max(steps) - min(steps) <= 1
