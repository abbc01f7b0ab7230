"""The page of a run: read back with a parser, not with patterns, and compared with the files it was made of."""

import base64
import hashlib
import json
import re
import sys
from html.parser import HTMLParser

import numpy as np
import pytest
from PIL import Image

from ganblocks.visualization import report
from ganblocks.visualization.report import write_report

TIMES, DASH = "\N{MULTIPLICATION SIGN}", "\N{EN DASH}"
VOID = {"meta", "link", "img", "input", "br"}
LOADING = {"src", "href", "srcset", "data", "action", "poster", "background", "xlink:href", "formaction", "style"}


class Element:
    def __init__(self, tag, attributes, parent):
        self.tag, self.attributes, self.parent, self.children = tag, attributes, parent, []

    def all(self, tag, **wanted):
        found = []
        for child in self.children:
            if isinstance(child, Element):
                if child.tag == tag and all(
                    child.attributes.get(key.rstrip("_")) == value for key, value in wanted.items()
                ):
                    found.append(child)
                found += child.all(tag, **wanted)
        return found

    def one(self, tag, **wanted):
        (found,) = self.all(tag, **wanted)
        return found

    @property
    def text(self):
        return "".join(child if isinstance(child, str) else child.text for child in self.children)


class Tree(HTMLParser):
    """A tree of elements; a tag that is closed out of turn, or never, is an error."""

    def __init__(self, source):
        super().__init__()
        self.root = self.here = Element("", {}, None)
        self.feed(source)
        self.close()
        assert self.here is self.root, f"<{self.here.tag}> is never closed"

    def handle_starttag(self, tag, attributes):
        assert len({name for name, _ in attributes}) == len(attributes), f"<{tag}> has an attribute twice"
        element = Element(tag, dict(attributes), self.here)
        self.here.children.append(element)
        if tag not in VOID:
            self.here = element

    def handle_endtag(self, tag):
        assert tag == self.here.tag, f"</{tag}> closes <{self.here.tag}>"
        self.here = self.here.parent

    def handle_data(self, data):
        self.here.children.append(data)

    def handle_comment(self, data):
        raise AssertionError(f"a comment: {data}")

    def every(self):
        return [element for tag in {match.tag for match in self.walk(self.root)} for element in self.root.all(tag)]

    def walk(self, element):
        for child in element.children:
            if isinstance(child, Element):
                yield child
                yield from self.walk(child)


def page(path):
    return Tree(path.read_text(encoding="utf-8"))


def draw(path, value=90, size=(12, 8)):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("L", size, value).save(path, format="PNG")


def write_log(run, records, ending="\n"):
    (run / "log.jsonl").write_text("\n".join(json.dumps(record) for record in records) + ending, encoding="utf-8")


def start(**more):
    return {"event": "start", "images_seen": 0, "time": "2026-01-02T03:04:05+0000", "torch": "2.15.0", **more}


def losses(images_seen, resolution, value):
    return {"images_seen": images_seen, "step": 1, "resolution": resolution, "alpha": 1.0, "generator_loss": value}


@pytest.fixture
def run(tmp_path):
    """A small run of two stages: 5 sheets, 4 measurements, one resume."""
    run = tmp_path / "the run"
    for index, name in enumerate(("010_4px", "020_4px", "030_8px", "040_8px", "050_8px")):
        draw(run / "samples" / f"000000000{name}.png", value=40 * index)
    (run / "config.json").write_text(
        json.dumps({"seed": 3, "stage_images": [20, 40], "recipe": {"betas": [0.0, 0.99]}})
    )
    records = [start(threads=1), *(losses(n, 4 if n <= 20 else 8, 1.0 / n) for n in range(1, 51))]
    measured = [(10, 4, 0.5), (20, 4, 0.123456789012), (30, 8, 0.7), (50, 8, 0.9)]
    records += [
        {"images_seen": n, "resolution": size, "a_distance": value, "fid": 2 * value} for n, size, value in measured
    ]
    records = sorted(records, key=lambda record: record["images_seen"])
    write_log(run, [*records, start(event="resume", images_seen=50, threads=2)])
    return run


@pytest.fixture(autouse=True)
def quick_curves(request, monkeypatch):
    """Drawing takes most of the time; a stand-in does where a test does not ask for the real curves."""
    if "real_curves" not in request.fixturenames:
        monkeypatch.setattr(report, "save_curves", lambda records, path: path.write_bytes(b"<svg/>"))


@pytest.fixture
def real_curves():
    """Asks for the real curves."""


def data_of(element):
    kind, _, data = element.attributes["src"].partition(";base64,")
    return kind, base64.b64decode(data, validate=True)


def rows_of(section):
    """Cells of a table: [first column, ...] as elements."""
    return [[cell for cell in row.children if isinstance(cell, Element)] for row in section.one("tbody").all("tr")]


def number(cell):
    return float(cell.one("data").attributes["value"])


def test_the_page_is_well_formed_and_complete(run):
    target = write_report(run)
    assert target == run / "report.html"
    tree = page(target)
    root = tree.root
    assert target.read_text(encoding="utf-8").startswith("<!DOCTYPE html>\n<html lang=")
    assert root.one("title").text == root.one("h1").text == "the run"
    ids = [element.attributes["id"] for element in tree.every() if "id" in element.attributes]
    assert len(ids) == len(set(ids))
    headings = [heading.text for heading in root.all("h2")]
    assert headings == ["Samples", "Curves", "Measurements", "Last losses", "Configuration", "Environment", "History"]
    assert "$" not in re.sub(r"data:[^\"]*", "", target.read_text(encoding="utf-8"))


def test_nothing_is_loaded_from_anywhere(run):
    tree = page(write_report(run))
    assert {element.tag for element in tree.every()}.isdisjoint(
        {"iframe", "object", "embed", "base", "audio", "video", "form"}
    )
    for element in tree.every():
        for name, value in element.attributes.items():
            assert not name.startswith("on"), f"<{element.tag} {name}>"
            assert name not in LOADING or value.startswith(("data:", "#")), f"<{element.tag} {name}={value[:50]}>"
    own = "".join(element.text for tag in ("style", "script") for element in tree.root.all(tag))
    assert not re.search(r"url\(|@import|https?:|file:|//[a-z]|fetch|XMLHttp|import\(|WebSocket|sendBeacon", own)


def test_the_policy_forbids_all_but_the_own_style_script_and_images(run):
    root = page(write_report(run)).root
    content = root.one("meta", **{"http-equiv": "Content-Security-Policy"}).attributes["content"]
    policy = {part.split()[0]: part.split()[1:] for part in content.split(";")}
    assert policy.keys() == {"default-src", "img-src", "style-src", "script-src", "base-uri", "form-action"}
    assert policy["default-src"] == policy["base-uri"] == policy["form-action"] == ["'none'"]
    assert policy["img-src"] == ["data:"]
    for tag in ("style", "script"):
        digest = base64.b64encode(hashlib.sha256(root.one(tag).text.encode()).digest()).decode()
        assert policy[f"{tag}-src"] == [f"'sha256-{digest}'"]
    metas = root.one("head").all("meta")
    assert ["http-equiv" in meta.attributes for meta in metas[:2]] == [False, True]  # before anything could be loaded


HOSTILE = "</script></title><img src=x onerror=alert(1)> & \"quoted\" 'single' ${title} <!-- \x00\x1b\ud800 ünï"
SHOWN = HOSTILE.replace("\x00", "\ufffd").replace("\x1b", "\ufffd").replace("\ud800", "\ufffd")


def test_text_of_the_run_stays_text(run):
    evil = {HOSTILE: HOSTILE, "list": [HOSTILE, 1], "nested": {HOSTILE: {HOSTILE: HOSTILE}}, "deep": [[HOSTILE]]}
    (run / "config.json").write_text(json.dumps(evil))
    records = [
        start(**{HOSTILE: HOSTILE}),
        {"event": HOSTILE + "divergence", "images_seen": 1, "time": HOSTILE, HOSTILE: HOSTILE},
        {"images_seen": 2, "resolution": HOSTILE, HOSTILE: 1.0, f"fid {HOSTILE}": 2.0, "fid": HOSTILE, "loss": HOSTILE},
    ]
    write_log(run, records)
    tree = page(write_report(run, title=HOSTILE))
    assert tree.root.one("h1").text == tree.root.one("title").text == SHOWN
    assert len(tree.root.all("script")) == 1
    assert len(tree.root.all("img")) == 6
    assert all("onerror" not in element.attributes for element in tree.every())
    for section in ("configuration", "environment", "history", "measurements", "last-losses"):
        assert SHOWN in tree.root.one("section", id=section).text.replace(" fid", ""), section


def test_the_slider_has_a_position_for_each_sheet(run):
    root = page(write_report(run)).root
    sheets, slider = root.all("figure"), root.one("input", type="range")
    assert (slider.attributes["min"], slider.attributes["max"], slider.attributes["value"]) == ("0", "4", "4")
    assert len(sheets) == len(root.one("ol").all("li")) == 5
    names = [path.name for path in sorted((run / "samples").iterdir())]
    for sheet, name in zip(sheets, names, strict=True):
        assert data_of(sheet.one("img")) == ("data:image/png", (run / "samples" / name).read_bytes())
        assert (sheet.one("img").attributes["width"], sheet.one("img").attributes["height"]) == ("12", "8")
    captions = [sheet.one("figcaption").text for sheet in sheets]
    assert captions == [
        f"{10 * n} images seen · {4 if n < 3 else 8} {TIMES} {4 if n < 3 else 8} pixels" for n in range(1, 6)
    ]
    assert [mark.text for mark in root.one("ol").all("li")] == [f"4 {TIMES} 4", "", f"8 {TIMES} 8", "", ""]


def test_without_scripts_the_last_sheet_alone_is_seen(run):
    root = page(write_report(run)).root
    assert ["hidden" in sheet.attributes for sheet in root.all("figure")] == [True] * 4 + [False]
    assert "hidden" in root.one("div", class_="control").attributes


def test_a_single_sheet_needs_no_slider(run):
    for path in sorted((run / "samples").iterdir())[1:]:
        path.unlink()
    root = page(write_report(run)).root
    assert len(root.all("figure")) == 1
    assert root.all("input") == []


def test_of_many_sheets_some_are_shown_evenly(tmp_path):
    for moment in range(1, 240):
        draw(tmp_path / "samples" / f"{moment:012d}_4px.png")
    root = page(write_report(tmp_path)).root
    moments = [int(sheet.one("b").text) for sheet in root.all("figure")]
    assert len(moments) == 60
    assert (moments[0], moments[-1]) == (1, 239)
    assert set(np.diff(moments)) == {4, 5} or set(np.diff(moments)) == {4}
    assert root.one("input").attributes["max"] == "59"
    assert "60 of 239 sheets are shown" in root.one("section", id="samples").text


def test_the_bytes_of_all_sheets_are_bounded(run, monkeypatch):
    size = (run / "samples" / "000000000050_8px.png").stat().st_size
    for limit, moments in (
        (5 * size + 9, [10, 20, 30, 40, 50]),
        (3 * size, [10, 30, 50]),
        (2 * size, [10, 50]),
        (size, [50]),
    ):
        monkeypatch.setattr(report, "_MOST_SHEET_BYTES", limit)
        assert [int(b.text) for sheet in page(write_report(run)).root.all("figure") for b in sheet.all("b")] == moments


def test_a_sheet_from_outside_the_run_is_not_embedded(run):
    secret = run.parent / "secret.png"
    draw(secret, value=201)
    (run / "samples" / "000000000060_8px.png").symlink_to(secret)
    (run / "samples" / "000000000070_8px.png").write_bytes(b"no picture" * 20)
    root = page(write_report(run)).root
    assert secret.read_bytes() not in [data_of(image)[1] for image in root.all("img")]
    assert len(root.all("figure")) == 5
    assert "Passed over: 2" in root.one("section", id="samples").text


def test_the_measurements_are_those_of_the_log(run):
    section = page(write_report(run)).root.one("section", id="measurements")
    assert [cell.text for cell in section.one("thead").all("th")] == ["Images seen", "Resolution", "a distance", "fid"]
    rows = rows_of(section)
    logged = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    expected = [(r["images_seen"], r["a_distance"], r["fid"]) for r in logged if "fid" in r]
    assert [(number(row[0]), number(row[2]), number(row[3])) for row in rows] == expected
    assert [row[1].text for row in rows] == [f"4 {TIMES} 4", f"4 {TIMES} 4", f"8 {TIMES} 8", f"8 {TIMES} 8"]
    assert [row[2].text for row in rows] == ["0.5", "0.1235", "0.7", "0.9"]
    assert [[cell.attributes.get("class") for cell in row[2:]] for row in rows] == [
        [None, None],
        ["best", "best"],
        ["best", "best"],
        [None, None],
    ]


def scores(images_seen, *values):
    names = ("frechet_distance", "precision", "<script>")
    listed = [
        {
            "name": name,
            "value": value,
            "spread": 0.25 if name == "precision" else None,
            "counts": {"real": 2000, "fake": 500 + place},
            "settings": {"extractor": "a network", "ddof": 1},
            "details": {"bias": 0.5},
            "fingerprint": f"0123456789abcde{place}",
        }
        for place, (name, value) in enumerate(zip(names, values, strict=True))
    ]
    return {"event": "scores", "images_seen": images_seen, "scores": listed}


def test_the_newest_scores_stand_with_counts_and_fingerprints(run):
    write_log(run, [losses(50, 8, 1.0), scores(20, 9.0, 0.1, 0.2), scores(50, 1.5, 0.75, 0.5)])
    root = page(write_report(run)).root
    section = root.one("section", id="scores")
    assert "after 50 images" in section.text
    head = ["Score", "Value", "Spread", "real", "fake", "Fingerprint"]
    assert [cell.text for cell in section.one("thead").all("th")] == head
    rows = rows_of(section)
    assert [row[0].text for row in rows] == ["frechet distance", "precision", "<script>"]
    assert [number(row[1]) for row in rows] == [1.5, 0.75, 0.5]
    assert [row[2].text for row in rows] == ["", "\N{PLUS-MINUS SIGN} 0.25", ""]
    assert [[number(cell) for cell in row[3:5]] for row in rows] == [[2000, 500], [2000, 501], [2000, 502]]
    assert [row[5].text for row in rows] == [f"0123456789abcde{place}" for place in range(3)]
    assert section.text.count("a network") >= 3
    assert "a network" not in root.one("section", id="history").text


@pytest.mark.parametrize("odd", [None, 3, [], [3, None], [{}], [{"name": 3, "counts": 3, "settings": [1]}]])
def test_odd_scores_do_not_cost_the_page(run, odd):
    write_log(run, [losses(50, 8, 1.0), {"event": "scores", "images_seen": "x", "scores": odd}])
    root = page(write_report(run)).root
    assert bool(root.all("section", id="scores")) == bool(odd and isinstance(odd, list) and isinstance(odd[0], dict))


def test_the_best_of_a_score_that_should_be_high_is_the_highest(run):
    values = [{"images_seen": n, "recall": float(n), "memorisation": 1.0, "ms_ssim": n} for n in (1, 2)]
    write_log(run, values)
    rows = rows_of(page(write_report(run)).root.one("section", id="measurements"))
    assert [[cell.attributes.get("class") for cell in row[2:]] for row in rows] == [
        [None, None, "best"],
        ["best", None, None],
    ]


def test_of_many_measurements_the_ends_and_the_best_are_shown(run):
    values = np.random.default_rng(0).random(3001).tolist()
    values[1234] = -1.0
    write_log(run, [{"images_seen": n, "val_swd": value} for n, value in enumerate(values)])
    section = page(write_report(run)).root.one("section", id="measurements")
    shown = [int(number(row[0])) for row in rows_of(section)]
    assert {0, 1234, 3000} <= set(shown)
    assert 400 <= len(shown) <= 401
    assert f"{len(shown)} of 3,001 rows are shown" in section.text
    assert all(number(row[2]) == values[int(number(row[0]))] for row in rows_of(section))


def test_what_a_resumed_run_measured_again_stands_once(run):
    write_log(run, [{"images_seen": n, "fid": float(k)} for k, n in enumerate((10, 20, 30, 20, 40))])
    rows = rows_of(page(write_report(run)).root.one("section", id="measurements"))
    assert [(number(row[0]), number(row[2])) for row in rows] == [(10, 0), (20, 3), (40, 4)]


def test_the_last_losses_are_the_last_ones_and_their_recent_mean(run):
    section = page(write_report(run)).root.one("section", id="last-losses")
    ((name, last, mean, moment),) = rows_of(section)
    assert (name.text, number(last), number(moment)) == ("generator loss", 1 / 50, 50)
    assert number(mean) == pytest.approx(sum(1 / n for n in range(31, 51)) / 20)


def test_numbers_that_are_none_are_shown_as_they_stand(run):
    write_log(run, [{"images_seen": 1, "loss": 2.0, "fid": "nan"}, {"images_seen": 2, "loss": "inf", "fid": None}])
    root = page(write_report(run)).root
    assert [row[2].text for row in rows_of(root.one("section", id="measurements"))] == ["nan", DASH]
    ((_, last, mean, _),) = rows_of(root.one("section", id="last-losses"))
    assert (last.text, number(mean)) == ("inf", 2.0)


def test_the_curves_are_an_image_within_the_page(run, real_curves, monkeypatch):
    write_log(run, [{"images_seen": n, "loss": 1.0} for n in range(3)])
    kind, data = data_of(page(write_report(run)).root.one("img", class_="curves"))
    assert kind == "data:image/svg+xml"
    assert b"<svg" in data
    monkeypatch.setattr(report, "_MOST_SVG_BYTES", 100)
    kind, data = data_of(page(write_report(run)).root.one("img", class_="curves"))
    assert kind == "data:image/png"
    assert data.startswith(b"\x89PNG")


def test_without_matplotlib_the_page_says_how_to_get_it(run, real_curves, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    section = page(write_report(run)).root.one("section", id="curves")
    assert section.all("img") == []
    assert 'pip install "ganblocks[train]"' in section.text


def test_curves_that_cannot_be_drawn_do_not_cost_the_page(run, real_curves):
    write_log(run, [{"images_seen": 1, r"$\frac$_loss": 1.0}])
    assert "could not be drawn" in page(write_report(run)).root.one("section", id="curves").text
    write_log(run, [{"images_seen": 1, "note": "text"}])
    assert "could not be drawn" in page(write_report(run)).root.one("section", id="curves").text


@pytest.mark.parametrize(
    ("last", "stages", "told"),
    [
        (50, [20, 40], "Not finished: 50 of 60 images seen, 83 %."),
        (60, [20, 40], "Finished after 60 images."),
        (64, [20, 40], "Finished after 64 images."),
        (1234567, None, "1,234,567 images seen; how many are planned is not recorded."),
    ],
)
def test_the_headline_tells_how_far_the_run_is(run, last, stages, told):
    (run / "config.json").write_text(json.dumps({"stage_images": stages}))
    write_log(run, [start(), losses(last, 8, 0.1)])
    root = page(write_report(run)).root
    assert root.one("p", class_="lead").text == told
    bars = [bar.attributes for bar in root.all("progress")]
    assert [(bar["max"], bar["value"]) for bar in bars] == ([("60", "50")] if "Not" in told else [])


def test_settings_are_all_there_however_deep(run):
    deep = {"a": {"b": {"c": {"d": {"e": {"f": {"g": "bottom"}}}}}}}
    (run / "config.json").write_text(
        json.dumps({"seed": 3, "sizes": {"4": 16, "8": 16}, "x": [1, 2.5, "z"], "no": None, **deep})
    )
    section = page(write_report(run)).root.one("section", id="configuration")
    settings = {entry.one("dt").text: entry.one("dd").text for entry in section.all("div") if len(entry.all("dt")) == 1}
    assert (settings["seed"], settings["x"], settings["no"]) == ("3", "1, 2.5, z", "null")
    assert settings["4"] == settings["8"] == "16"
    assert "2 entries, all 16" in section.text
    assert "bottom" in section.text


def test_the_environment_is_the_newest_and_tells_what_changed(run):
    section = page(write_report(run)).root.one("section", id="environment")
    told = {entry.one("dt").text: entry.one("dd").text for entry in section.all("div") if len(entry.all("dt")) == 1}
    assert told == {"torch": "2.15.0", "threads": "2 earlier: 1"}


def test_the_history_has_every_event_and_marks_trouble(run):
    trouble = [
        {"event": "skipped_update", "images_seen": 7, "time": "2026-01-02T03:05:00+0000", "total": 1},
        {"event": "skipped_update", "images_seen": 8, "time": "?", "total": 2},
        {"event": "environment_changed", "images_seen": 9, "differences": ["threads 1, now 2", "other"]},
        {"event": "note", "images_seen": 9},
        {"event": 5},
    ]
    write_log(run, [start(threads=1), *trouble, {"event": "save_failed", "images_seen": 9, "message": "disk full"}])
    root = page(write_report(run)).root
    rows = root.one("section", id="history").one("tbody").all("tr")
    assert [[cell.text for cell in row.all("td")] for row in rows] == [
        ["start", "0", "2026-01-02 03:04:05 +0000", ""],
        ["skipped update", "7", "2026-01-02 03:05:00 +0000", "total: 1"],
        ["skipped update", "8", "?", "total: 2"],
        ["environment changed", "9", DASH, "differences: threads 1, now 2, other"],
        ["note", "9", DASH, ""],
        ["5", DASH, DASH, ""],
        ["save failed", "9", DASH, "message: disk full"],
    ]
    alarming = [row.attributes.get("class") == "alarming" for row in rows]
    assert alarming == [False, True, True, True, False, False, True]
    alarm = root.one("p", class_="alarm")
    assert [told.text for told in alarm.all("strong")] == [
        f"2\xa0{TIMES} skipped update",
        f"1\xa0{TIMES} environment changed",
        f"1\xa0{TIMES} save failed",
    ]
    assert alarm.one("a").attributes["href"] == "#history"


def test_a_calm_run_has_no_warning(run):
    assert page(write_report(run)).root.all("p", class_="alarm") == []


def test_of_very_many_events_both_ends_are_shown(run):
    write_log(run, [{"event": "skipped_update", "images_seen": n} for n in range(1000)])
    root = page(write_report(run)).root
    section = root.one("section", id="history")
    shown = [int(number(row[1])) for row in rows_of(section)]
    assert shown == [*range(200), *range(800, 1000)]
    assert "the last 200 of 1,000 events" in section.text
    assert root.one("p", class_="alarm").one("strong").text == f"1,000\xa0{TIMES} skipped update"


@pytest.mark.parametrize("kept", ["log.jsonl", "config.json", "samples"])
def test_any_part_alone_makes_a_page(run, kept):
    for path in run.iterdir():
        if path.name != kept:
            path.rename(run.parent / path.name)
    page(write_report(run))


def test_a_run_that_just_began_makes_a_page(tmp_path, real_curves):
    (tmp_path / "log.jsonl").touch()
    root = page(write_report(tmp_path)).root
    assert root.one("p", class_="lead").text == "Nothing is logged yet."
    for section, told in (
        ("samples", "no sheets"),
        ("curves", "Nothing is logged"),
        ("measurements", "Nothing was measured"),
    ):
        assert told in root.one("section", id=section).text


def test_a_torn_last_line_is_passed_over(run):
    whole = (run / "log.jsonl").read_text()
    (run / "log.jsonl").write_text(whole + '{"images_seen": 60, "fid": 0.0')
    assert len(rows_of(page(write_report(run)).root.one("section", id="measurements"))) == 4


def test_the_page_replaces_an_older_one_in_one_step(run, monkeypatch):
    target = write_report(run, run.parent / "new folder" / "page.HTML", title="first")
    first = target.read_bytes()
    link = target.with_name("link")
    link.hardlink_to(target)
    assert page(write_report(run, str(target), title="second")).root.one("h1").text == "second"
    assert link.read_bytes() == first  # another file was put in its place, the old one not written into

    def fail(*arguments):
        raise OSError("disk full")

    monkeypatch.setattr("ganblocks._files.os.replace", fail)
    with pytest.raises(OSError, match="disk full"):
        write_report(run, target, title="third")
    assert page(target).root.one("h1").text == "second"
    assert sorted(path.name for path in target.parent.iterdir()) == ["link", "page.HTML"]


def test_the_run_is_only_read(run):
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    write_report(run, run.parent / "elsewhere.html")
    assert {path: path.read_bytes() for path in run.rglob("*") if path.is_file()} == before


def test_the_page_does_not_tell_where_the_run_lies(run):
    assert str(run.parent) not in write_report(run).read_text(encoding="utf-8")


def test_mistakes_are_named(run, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"`run_dir` is .*missing"):
        write_report(tmp_path / "missing")
    with pytest.raises(ValueError, match=r"`run_dir` is .*config.json.* must be a directory"):
        write_report(run / "config.json")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match=r"`run_dir` is .*must be the directory of a run"):
        write_report(tmp_path / "empty")
    with pytest.raises(ValueError, match=r"`path` is .*page\.txt"):
        write_report(run, run / "page.txt")
    with pytest.raises(TypeError, match="`title` is 5"):
        write_report(run, title=5)
    assert not (run / "report.html").exists()
