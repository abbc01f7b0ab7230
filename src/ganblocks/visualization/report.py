"""A whole run on one page that opens anywhere: samples, curves, measurements, settings and history.

The page is a single HTML file. It loads nothing, and says so to the browser in a content security policy that admits
its own style and script by their SHA-256 alone. All that comes from the run is untrusted text and is escaped.
"""

import base64
import hashlib
import html
import json
import math
import os
import re
import statistics
import string
import tempfile
import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any

from ganblocks._checks import require
from ganblocks.visualization.curves import save_curves
from ganblocks.visualization.grid import written_atomically
from ganblocks.visualization.run_reader import (
    Record,
    Run,
    Sheet,
    best_rows,
    find_sheets,
    finite,
    measurements,
    moment,
    read_run,
    spread,
)

__all__ = ["write_report"]

_MOST_SHEETS, _MOST_SHEET_BYTES = 60, 64 * 2**20  # a page beyond that is slow to open
_MOST_ROWS = 400  # of a table
_MOST_SVG_BYTES = 2 * 2**20  # larger curves are inlined as pixels
_DEEPEST, _LONGEST = 6, 2000  # levels of tables in tables; characters of one text
_RECENT = 20  # records that the last losses are averaged over
_SMALL = 800  # pixels: a sheet up to this width is enlarged without blur
_ALARMING = re.compile(r"diverg|skip|fail|error|warn|non_?finite|corrupt|invalid|abort|changed", re.IGNORECASE)
_NOT_LOSSES = {"images_seen", "step", "resolution", "alpha", "learning_rate", "time"}
_WHEN = {"event", "images_seen", "time"}
_UNPRINTABLE = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff]")  # not allowed in HTML, or not in UTF-8


def write_report(
    run_dir: str | os.PathLike[str],
    path: str | os.PathLike[str] | None = None,
    *,
    title: str | None = None,
) -> Path:
    """Write one HTML page about a run, finished or not, replacing an older one in a single step.

    The page holds sheets of samples with a slider over time (at most 60, at most 64 MiB), the curves of
    :func:`save_curves`, every measurement (log keys of distances, swd, fid, kid and accuracies), the last losses,
    settings, environment and history. It needs no network. What is missing or torn is left out or said; files that lead
    out of the run directory, through a link, are not shown. Without matplotlib there are no curves.

    Args:
        run_dir: directory with ``log.jsonl``, ``config.json`` and ``samples/<images seen>_<resolution>px.png``; some of
            them may be missing, as early in a run.
        path: ends in ".html". None writes ``report.html`` into the run directory.
        title: headline. None takes the name of the run directory.

    Returns:
        Where the page is.

    Raises:
        FileNotFoundError: there is no ``run_dir``.
        TypeError: ``title`` is no text.
        ValueError: ``run_dir`` is no directory or holds no run, or ``path`` has another suffix.
        OSError: the log could not be read or the page not be written.
    """
    root = Path(run_dir).resolve()
    if not root.exists():
        raise FileNotFoundError(f"`run_dir` is {str(run_dir)!r}, but there is nothing of this name")
    require(root.is_dir(), "run_dir", str(run_dir), "a directory")
    holds_run = any((root / name).exists() for name in ("log.jsonl", "config.json", "samples"))
    require(holds_run, "run_dir", str(run_dir), "the directory of a run, with a log.jsonl, a config.json or samples")
    require(title is None or isinstance(title, str), "title", title, "text or None", TypeError)
    target = Path(run_dir, "report.html") if path is None else Path(path)
    require(target.suffix.lower() == ".html", "path", str(path), 'a name that ends in ".html"')

    run = read_run(root)
    sections = (
        _samples_section(root),
        _curves_section(run),
        _measurements_section(run),
        _losses_section(run),
        _settings_section(run),
        _environment_section(run),
        _history_section(run),
    )
    text = resources.files("ganblocks.visualization").joinpath("report_template.html").read_text(encoding="utf-8")
    page = string.Template(text).substitute(
        policy=_policy(text),
        title=_escape(root.name if title is None else title),
        headline=_headline(run),
        sections="\n".join(section for section in sections if section),
        footer=f"Written {time.strftime('%Y-%m-%d %H:%M %z')}. This page is one file and loads nothing from elsewhere.",
    )
    with written_atomically(target) as file:
        file.write(page.encode("utf-8"))
    return target


def _policy(template: str) -> str:
    """Admit the style and the script of the template, by their hashes, and images within the page."""

    def hashed(tag: str) -> str:
        (content,) = re.findall(rf"<{tag}>(.*?)</{tag}>", template, re.DOTALL)
        return f"'sha256-{base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()}'"

    own = f"style-src {hashed('style')}; script-src {hashed('script')}"
    return f"default-src 'none'; img-src data:; {own}; base-uri 'none'; form-action 'none'"


# Parts of a page; whatever comes from the run passes through _escape.


def _escape(value: Any) -> str:
    """Text that a browser shows as it is; cut if it is very long."""
    text = value if isinstance(value, str) else json.dumps(value)
    text = text if len(text) <= _LONGEST else f"{text[:_LONGEST]} ... ({len(text):,} characters)"
    return html.escape(_UNPRINTABLE.sub("\ufffd", text))


def _listed(value: Any) -> str:
    """Text of a setting; the brackets of a plain list are left out."""
    if not isinstance(value, list) or not value or any(isinstance(item, (list, dict)) for item in value):
        return _escape(value)
    return ", ".join(map(_escape, value[:_LONGEST])) + (" ..." if len(value) > _LONGEST else "")


def _name(key: str) -> str:
    return _escape(key.replace("_", " "))


def _count(number: float) -> str:
    return f'<data value="{number:.0f}">{number:,.0f}</data>'


def _size(resolution: Any) -> str:
    number = finite(resolution)
    return "" if number is None else f"{number:.0f} &times; {number:.0f}"


def _value(value: Any) -> str:
    """A number, rounded for the eye and whole for programs, or whatever else stands there."""
    if (number := finite(value)) is None:
        return "&ndash;" if value is None else _escape(value)
    return f'<data value="{_escape(repr(value))}">{number:.4g}</data>'


def _table(kind: str, head: Sequence[str], rows: Iterable[str]) -> str:
    """A table; each row is one text of cells."""
    names = "".join(f'<th scope="col">{name}</th>' for name in head)
    body = "\n".join(rows)
    return f'<table class="{kind}"><thead><tr>{names}</tr></thead><tbody>\n{body}\n</tbody></table>'


def _row(first: str, *cells: str) -> str:
    return f'<tr><th scope="row">{first}</th>{"".join(f"<td>{cell}</td>" for cell in cells)}</tr>'


def _entry(key: str, shown: str) -> str:
    return f"<div><dt>{_escape(key)}</dt><dd>{shown}</dd></div>"


def _entries(entries: Sequence[str]) -> str:
    return f'<div class="entries">{"".join(entries)}</div>'


def _note(text: str) -> str:
    return f'<p class="note">{text}</p>\n' if text else ""


def _scroll(label: str, content: str, *, tall: bool = False) -> str:
    kind = "scroll tall" if tall else "scroll"
    return f'<div class="{kind}" tabindex="0" role="region" aria-label="{label}">{content}</div>'


def _section(heading: str, content: str) -> str:
    return f'<section id="{heading.lower().replace(" ", "-")}">\n<h2>{heading}</h2>\n{content}\n</section>'


# The page from top to bottom


def _headline(run: Run) -> str:
    """How far the run is, four facts, and a warning if the log tells of trouble."""
    seen, planned, bar = run.images_seen or 0, run.planned, ""
    if run.images_seen is None:
        state = "Nothing is logged yet."
    elif planned is None:
        state = f"<strong>{_count(seen)}</strong> images seen; how many are planned is not recorded."
    elif seen >= planned:
        state = f'<strong class="done">Finished</strong> after {_count(seen)} images.'
    else:
        share = f"{math.floor(100 * seen / planned)} %"
        state = f"<strong>Not finished</strong>: {_count(seen)} of {_count(planned)} images seen, {share}."
        bar = f'<progress max="{planned:.0f}" value="{seen:.0f}" aria-label="Images seen"></progress>\n'
    facts = [("Images seen", _count(seen), "" if planned is None else f"of {_count(planned)} planned")]
    if size := _size(run.records[-1].get("resolution")) if run.records else "":
        facts.append(("Resolution", size, "pixels"))
    if run.seconds is not None:
        facts.append(("Wall time", _duration(run.seconds), "first start to last line of the log, pauses included"))
    keys, rows, _ = measurements(run.records)
    for key in keys[:1]:
        last = [row for row in rows if key in row][-1]
        facts.append((_name(key), _value(last[key]), f"last, after {_count(last['images_seen'])} images"))
    listed = "".join(f"<div><dt>{name}</dt><dd>{value}<small>{note}</small></dd></div>" for name, value, note in facts)
    trouble = Counter(str(event["event"]) for event in run.events if _alarming(event))
    told = ", ".join(f"<strong>{count:,}&nbsp;&times; {_name(kind)}</strong>" for kind, count in trouble.items())
    alarm = f'\n<p class="alarm" role="note">The log tells of {told}. See <a href="#history">History</a>.</p>'
    return f'<p class="lead">{state}</p>\n{bar}<dl class="facts">{listed}</dl>{alarm if trouble else ""}'


def _alarming(event: Record) -> bool:
    return _ALARMING.search(str(event["event"])) is not None


def _duration(seconds: float) -> str:
    minutes, hours = round(seconds / 60), round(seconds / 3600)
    if seconds < 90:
        return f"{seconds:.0f} s"
    if hours >= 48:
        return f"{hours // 24} d {hours % 24} h"
    return f"{minutes // 60} h {minutes % 60:02d} min" if minutes >= 60 else f"{minutes} min"


def _samples_section(root: Path) -> str:
    found, refused = find_sheets(root)
    most = _MOST_SHEETS
    while sum(found[place].bytes for place in spread(len(found), most)) > _MOST_SHEET_BYTES:
        most = min(most, len(found)) - 1
    shown = [found[place] for place in spread(len(found), most)]
    notes = [] if found else ["There are no sheets of samples yet."]
    if len(shown) < len(found):
        notes.append(f"{len(shown)} of {len(found):,} sheets are shown, evenly spread over the run.")
    if refused:
        notes.append(f"Passed over: {refused:,} not whole, too large, or linked from outside the run.")
    content = _note(" ".join(notes))
    if shown:
        figures = "\n".join(_figure(sheet, sheet is shown[-1]) for sheet in shown)
        content += f'<div class="frame">\n{figures}\n</div>\n'
    if len(shown) > 1:
        last = len(shown) - 1
        slider = f'<input type="range" id="slider" aria-label="Moment of the run" min="0" max="{last}" value="{last}">'
        hint = _note("Left and right arrow keys move through the run.")
        stages = f'<ol class="stages" aria-hidden="true">{_stages(shown)}</ol>'
        content += f'<div class="control" hidden>{slider}\n{stages}\n{hint}</div>'
    return _section("Samples", content)


def _figure(sheet: Sheet, visible: bool) -> str:
    size = f" · {_size(sheet.resolution)} pixels" if sheet.resolution else ""
    data = base64.b64encode(sheet.path.read_bytes()).decode()
    return (
        f'<figure class="sheet"{"" if visible else " hidden"}>'
        f'<img class="{"small" if sheet.width <= _SMALL else "large"}" width="{sheet.width}" height="{sheet.height}" '
        f'alt="Samples after {sheet.images_seen:,} images" decoding="sync" src="data:image/png;base64,{data}">'
        f"<figcaption><b>{sheet.images_seen:,}</b> images seen{size}</figcaption></figure>"
    )


def _stages(sheets: Sequence[Sheet]) -> str:
    """A mark for each position of the slider; the first of each resolution is named."""
    sizes = [_size(sheet.resolution) for sheet in sheets]
    new = [bool(size) and (place == 0 or size != sizes[place - 1]) for place, size in enumerate(sizes)]
    return "".join(
        f'<li class="first">{size}</li>' if first else "<li></li>" for size, first in zip(sizes, new, strict=True)
    )


def _curves_section(run: Run) -> str:
    try:
        with tempfile.TemporaryDirectory() as folder:
            path, kind = Path(folder, "curves.svg"), "svg+xml"
            save_curves(run.records, path)
            if path.stat().st_size > _MOST_SVG_BYTES:
                path, kind = path.with_suffix(".png"), "png"
                save_curves(run.records, path)
            data = base64.b64encode(path.read_bytes()).decode()
    except ImportError:
        return _section("Curves", _note('Curves need matplotlib: <code>pip install "ganblocks[train]"</code>'))
    except (ValueError, TypeError, ArithmeticError, RuntimeError) as error:  # an odd log must not cost the page
        reason = f"The curves could not be drawn: {_escape(str(error))}" if run.records else "Nothing is logged yet."
        return _section("Curves", _note(reason))
    image = f'<img class="curves" alt="Curves of all logged values" src="data:image/{kind};base64,{data}">'
    return _section("Curves", _scroll("Curves", image))


def _measurements_section(run: Run) -> str:
    keys, rows, _ = measurements(run.records)
    marked = best_rows(keys, rows)
    shown = sorted({*spread(len(rows), _MOST_ROWS), *(index for _, index in marked)})

    def cells(index: int) -> str:
        row = rows[index]
        opening = {key: '<td class="best">' if (key, index) in marked else "<td>" for key in keys}
        values = (f"{opening[key]}{_value(row[key]) if key in row else ''}</td>" for key in keys)
        first = _count(row["images_seen"])
        return f'<tr><th scope="row">{first}</th><td>{_size(row["resolution"])}</td>{"".join(values)}</tr>'

    if not rows:
        return _section("Measurements", _note("Nothing was measured yet."))
    several = len({_size(row["resolution"]) for row in rows}) > 1
    note = "The best of each column" + (" and resolution is marked" if several else " is marked")
    note += ": the highest accuracy, of all else the lowest value."
    note += " Values at different resolutions do not compare." if several else ""
    note += f" {len(shown)} of {len(rows):,} rows are shown." if len(shown) < len(rows) else ""
    table = _table("wide numbers", ["Images seen", "Resolution", *map(_name, keys)], map(cells, shown))
    return _section("Measurements", _note(note) + _scroll("Measurements", table, tall=len(shown) > 25))


def _losses_section(run: Run) -> str:
    rows = []
    for key in measurements(run.records)[2]:
        logged = [record for record in run.records if key in record]
        if key not in _NOT_LOSSES:
            recent = [number for record in logged[-_RECENT:] if (number := finite(record[key])) is not None]
            mean = _value(statistics.fmean(recent)) if recent else "&ndash;"
            rows.append(_row(_name(key), _value(logged[-1][key]), mean, _count(logged[-1]["images_seen"])))
    head = ["Quantity", "Last", f"Mean of last {_RECENT}", "At image"]
    return _section("Last losses", _scroll("Last losses", _table("wide numbers", head, rows))) if rows else ""


def _settings_section(run: Run) -> str:
    if run.config is None:
        return _section("Configuration", _note("There is no config.json that can be read."))
    settings = run.config if isinstance(run.config, dict) else {"config": run.config}
    return _section("Configuration", _settings(settings))


def _settings(settings: Mapping[str, Any], depth: int = 1) -> str:
    """Lists in lists, deep inside JSON; groups at the top stand open, after the single values."""
    entries, groups = [], []
    for key, value in settings.items():
        if isinstance(value, dict) and value and depth < _DEEPEST:
            inner = {_escape(part) for part in value.values()}
            told = f"{len(value)} entries" + (f", all {inner.pop()}" if len(inner) == 1 < len(value) else "")
            summary = f"<summary><b>{_escape(key)}</b> {told}</summary>" if depth == 1 else f"<summary>{told}</summary>"
            nested = f"{summary}{_settings(value, depth + 1)}</details>"
            if depth == 1:
                groups.append(f'<div class="group"><details open>{nested}</div>')
            else:
                entries.append(_entry(key, f"<details>{nested}"))
        else:
            entries.append(_entry(key, _listed(value)))
    return _entries(entries + groups)


def _environment_section(run: Run) -> str:
    """What the newest start says, and what earlier ones said instead."""
    starts = [event for event in run.events if event["event"] in ("start", "resume")]
    entries = []
    for key in dict.fromkeys(key for event in reversed(starts) for key in event):
        told = list(dict.fromkeys(_escape(event[key]) for event in reversed(starts) if key in event))
        if key not in _WHEN:
            before = f" <small>earlier: {', '.join(told[1:])}</small>" if len(told) > 1 else ""
            entries.append(_entry(key, told[0] + before))
    return _section("Environment", _entries(entries)) if entries else ""


def _history_section(run: Run) -> str:
    rows = []
    for event in run.events:
        when, seen = moment(event), finite(event.get("images_seen"))
        told = {} if event["event"] in ("start", "resume") else event  # their rest is the environment
        details = "; ".join(f"{_name(key)}: {_listed(value)}" for key, value in told.items() if key not in _WHEN)
        cells = (
            _name(str(event["event"])),
            "&ndash;" if seen is None else _count(seen),
            when.strftime("%Y-%m-%d %H:%M:%S %z") if when else _value(event.get("time")),
            details,
        )
        opening = '<tr class="alarming">' if _alarming(event) else "<tr>"
        rows.append(opening + "".join(f"<td>{cell}</td>" for cell in cells) + "</tr>")
    if not rows:
        return ""
    half = _MOST_ROWS // 2
    note = _note(f"The first and the last {half} of {len(rows):,} events are shown.") if len(rows) > 2 * half else ""
    rows = rows if len(rows) <= 2 * half else rows[:half] + rows[-half:]
    table = _table("wide history", ["Event", "Images seen", "Time", "Details"], rows)
    return _section("History", note + _scroll("History", table, tall=len(rows) > 25))
