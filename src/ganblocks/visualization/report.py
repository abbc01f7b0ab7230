"""A whole run on one page that opens anywhere: samples, curves, measurements, settings and history.

The page is a single HTML file. It loads nothing, and says so to the browser in a content security policy that admits
its own style and script by their SHA-256 alone. All that comes from the run is untrusted text and is escaped
(:mod:`ganblocks.visualization.markup`).
"""

import base64
import hashlib
import math
import os
import re
import statistics
import string
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from importlib import resources
from pathlib import Path

from ganblocks._checks import require
from ganblocks._files import written_atomically
from ganblocks.visualization import markup
from ganblocks.visualization.curves import save_curves
from ganblocks.visualization.report_figures import figures_section
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
_RECENT = 20  # records that the last losses are averaged over
_SMALL = 800  # pixels: a sheet up to this width is enlarged without blur
_ALARMING = re.compile(r"diverg|skip|fail|error|warn|non_?finite|corrupt|invalid|abort|changed", re.IGNORECASE)
_NOT_LOSSES = {"images_seen", "step", "resolution", "alpha", "learning_rate", "time"}
_ELSEWHERE = {"start", "resume", "scores"}  # events whose rest stands under Environment and Scores
_WHEN = {"event", "images_seen", "time"}


def write_report(
    run_dir: str | os.PathLike[str],
    path: str | os.PathLike[str] | None = None,
    *,
    title: str | None = None,
) -> Path:
    """Write one HTML page about a run, finished or not, replacing an older one in a single step.

    The page holds sheets of samples with a slider over time (at most 60, at most 64 MiB), the curves of
    :func:`save_curves`, the pictures of ``figures/*.png`` under their names (at most 40, at most 32 MiB), the newest
    scores with their fingerprints, every measurement (log keys of distances, swd, fid, kid, accuracies and what else is
    a metric), the last losses, settings, environment and history. It needs no network. What is missing or torn is left
    out or said; files that lead out of the run directory, through a link, are not shown. Without matplotlib there are
    no curves.

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
        figures_section(root),
        _scores_section(run),
        _measurements_section(run),
        _losses_section(run),
        _settings_section(run),
        _environment_section(run),
        _history_section(run),
    )
    text = resources.files("ganblocks.visualization").joinpath("report_template.html").read_text(encoding="utf-8")
    page = string.Template(text).substitute(
        policy=_policy(text),
        title=markup.escape(root.name if title is None else title),
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


# The page from top to bottom


def _headline(run: Run) -> str:
    """How far the run is, four facts, and a warning if the log tells of trouble."""
    seen, planned, bar = run.images_seen or 0, run.planned, ""
    if run.images_seen is None:
        state = "Nothing is logged yet."
    elif planned is None:
        state = f"<strong>{markup.amount(seen)}</strong> images seen; how many are planned is not recorded."
    elif seen >= planned:
        state = f'<strong class="done">Finished</strong> after {markup.amount(seen)} images.'
    else:
        share = f"{math.floor(100 * seen / planned)} %"
        state = (
            f"<strong>Not finished</strong>: {markup.amount(seen)} of {markup.amount(planned)} images seen, {share}."
        )
        bar = f'<progress max="{planned:.0f}" value="{seen:.0f}" aria-label="Images seen"></progress>\n'
    facts = [("Images seen", markup.amount(seen), "" if planned is None else f"of {markup.amount(planned)} planned")]
    if size := markup.pixels(run.records[-1].get("resolution")) if run.records else "":
        facts.append(("Resolution", size, "pixels"))
    if run.seconds is not None:
        facts.append(("Wall time", _duration(run.seconds), "first start to last line of the log, pauses included"))
    keys, rows, _ = measurements(run.records)
    for key in keys[:1]:
        last = [row for row in rows if key in row][-1]
        facts.append(
            (
                markup.readable(key),
                markup.shown_value(last[key]),
                f"last, after {markup.amount(last['images_seen'])} images",
            )
        )
    listed = "".join(f"<div><dt>{name}</dt><dd>{value}<small>{note}</small></dd></div>" for name, value, note in facts)
    trouble = Counter(str(event["event"]) for event in run.events if _alarming(event))
    told = ", ".join(
        f"<strong>{count:,}&nbsp;&times; {markup.readable(kind)}</strong>" for kind, count in trouble.items()
    )
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
    content = markup.note(" ".join(notes))
    if shown:
        figures = "\n".join(_figure(sheet, sheet is shown[-1]) for sheet in shown)
        content += f'<div class="frame">\n{figures}\n</div>\n'
    if len(shown) > 1:
        last = len(shown) - 1
        slider = f'<input type="range" id="slider" aria-label="Moment of the run" min="0" max="{last}" value="{last}">'
        hint = markup.note("Left and right arrow keys move through the run.")
        stages = f'<ol class="stages" aria-hidden="true">{_stages(shown)}</ol>'
        content += f'<div class="control" hidden>{slider}\n{stages}\n{hint}</div>'
    return markup.section("Samples", content)


def _figure(sheet: Sheet, visible: bool) -> str:
    size = f" · {markup.pixels(sheet.resolution)} pixels" if sheet.resolution else ""
    data = base64.b64encode(sheet.path.read_bytes()).decode()
    return (
        f'<figure class="sheet"{"" if visible else " hidden"}>'
        f'<img class="{"small" if sheet.width <= _SMALL else "large"}" width="{sheet.width}" height="{sheet.height}" '
        f'alt="Samples after {sheet.images_seen:,} images" decoding="sync" src="data:image/png;base64,{data}">'
        f"<figcaption><b>{sheet.images_seen:,}</b> images seen{size}</figcaption></figure>"
    )


def _stages(sheets: Sequence[Sheet]) -> str:
    """A mark for each position of the slider; the first of each resolution is named."""
    sizes = [markup.pixels(sheet.resolution) for sheet in sheets]
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
        return markup.section(
            "Curves", markup.note('Curves need matplotlib: <code>pip install "ganblocks[train]"</code>')
        )
    except (ValueError, TypeError, ArithmeticError, RuntimeError) as error:  # an odd log must not cost the page
        reason = (
            f"The curves could not be drawn: {markup.escape(str(error))}" if run.records else "Nothing is logged yet."
        )
        return markup.section("Curves", markup.note(reason))
    image = f'<img class="curves" alt="Curves of all logged values" src="data:image/{kind};base64,{data}">'
    return markup.section("Curves", markup.scroll("Curves", image))


def _scores_section(run: Run) -> str:
    """The newest scores of :mod:`ganblocks.metrics`, each with the fingerprint that says what it compares with."""
    measured = [event for event in run.events if event["event"] == "scores" and isinstance(event.get("scores"), list)]
    scores = [score for score in measured[-1]["scores"] if isinstance(score, dict)] if measured else []
    if not scores:
        return ""
    counted = list(dict.fromkeys(kind for score in scores for kind in _numbers(score, "counts")))
    rows, settings = [], {}
    for score in scores:
        name, spread = str(score.get("name")), finite(score.get("spread"))
        counts = (finite(_numbers(score, "counts").get(kind)) for kind in counted)
        rows.append(
            markup.row(
                markup.readable(name),
                markup.shown_value(score.get("value")),
                "" if spread is None else f"&plusmn; {markup.shown_value(spread)}",
                *("" if count is None else markup.amount(count) for count in counts),
                f"<code>{markup.escape(score.get('fingerprint'))}</code>",
            )
        )
        settings[name] = {**_numbers(score, "details"), **_numbers(score, "settings")}
    head = ["Score", "Value", "Spread", *map(markup.readable, counted), "Fingerprint"]
    seen = finite(measured[-1].get("images_seen"))
    when = "" if seen is None else f"Measured after {markup.amount(seen)} images. "
    note = markup.note(f"{when}Scores compare only with those of the same fingerprint: made in the same way.")
    table = markup.scroll("Scores", markup.table("wide numbers", head, rows))
    return markup.section("Scores", f"{note}{table}\n{markup.settings_tree({'settings and details': settings})}")


def _numbers(score: Record, name: str) -> Record:
    found = score.get(name)
    return found if isinstance(found, dict) else {}


def _measurements_section(run: Run) -> str:
    keys, rows, _ = measurements(run.records)
    marked = best_rows(keys, rows)
    shown = sorted({*spread(len(rows), _MOST_ROWS), *(index for _, index in marked)})

    def cells(index: int) -> str:
        row = rows[index]
        opening = {key: '<td class="best">' if (key, index) in marked else "<td>" for key in keys}
        values = (f"{opening[key]}{markup.shown_value(row[key]) if key in row else ''}</td>" for key in keys)
        first = markup.amount(row["images_seen"])
        return f'<tr><th scope="row">{first}</th><td>{markup.pixels(row["resolution"])}</td>{"".join(values)}</tr>'

    if not rows:
        return markup.section("Measurements", markup.note("Nothing was measured yet."))
    several = len({markup.pixels(row["resolution"]) for row in rows}) > 1
    note = "The best of each column" + (" and resolution is marked" if several else " is marked")
    note += ": the highest accuracy, precision, recall, density, coverage and inception score, else the lowest value."
    note += " Values at different resolutions do not compare." if several else ""
    note += f" {len(shown)} of {len(rows):,} rows are shown." if len(shown) < len(rows) else ""
    table = markup.table("wide numbers", ["Images seen", "Resolution", *map(markup.readable, keys)], map(cells, shown))
    return markup.section(
        "Measurements", markup.note(note) + markup.scroll("Measurements", table, tall=len(shown) > 25)
    )


def _losses_section(run: Run) -> str:
    rows = []
    for key in measurements(run.records)[2]:
        logged = [record for record in run.records if key in record]
        if key not in _NOT_LOSSES:
            recent = [number for record in logged[-_RECENT:] if (number := finite(record[key])) is not None]
            mean = markup.shown_value(statistics.fmean(recent)) if recent else "&ndash;"
            rows.append(
                markup.row(
                    markup.readable(key),
                    markup.shown_value(logged[-1][key]),
                    mean,
                    markup.amount(logged[-1]["images_seen"]),
                )
            )
    head = ["Quantity", "Last", f"Mean of last {_RECENT}", "At image"]
    return (
        markup.section("Last losses", markup.scroll("Last losses", markup.table("wide numbers", head, rows)))
        if rows
        else ""
    )


def _settings_section(run: Run) -> str:
    if run.config is None:
        return markup.section("Configuration", markup.note("There is no config.json that can be read."))
    settings = run.config if isinstance(run.config, dict) else {"config": run.config}
    return markup.section("Configuration", markup.settings_tree(settings))


def _environment_section(run: Run) -> str:
    """What the newest start says, and what earlier ones said instead."""
    starts = [event for event in run.events if event["event"] in ("start", "resume")]
    entries = []
    for key in dict.fromkeys(key for event in reversed(starts) for key in event):
        told = list(dict.fromkeys(markup.escape(event[key]) for event in reversed(starts) if key in event))
        if key not in _WHEN:
            before = f" <small>earlier: {', '.join(told[1:])}</small>" if len(told) > 1 else ""
            entries.append(markup.entry(key, told[0] + before))
    return markup.section("Environment", markup.entry_list(entries)) if entries else ""


def _history_section(run: Run) -> str:
    rows = []
    for event in run.events:
        when, seen = moment(event), finite(event.get("images_seen"))
        told = {} if event["event"] in _ELSEWHERE else event
        details = "; ".join(
            f"{markup.readable(key)}: {markup.listed(value)}" for key, value in told.items() if key not in _WHEN
        )
        cells = (
            markup.readable(str(event["event"])),
            "&ndash;" if seen is None else markup.amount(seen),
            when.strftime("%Y-%m-%d %H:%M:%S %z") if when else markup.shown_value(event.get("time")),
            details,
        )
        opening = '<tr class="alarming">' if _alarming(event) else "<tr>"
        rows.append(opening + "".join(f"<td>{cell}</td>" for cell in cells) + "</tr>")
    if not rows:
        return ""
    half = _MOST_ROWS // 2
    note = (
        markup.note(f"The first and the last {half} of {len(rows):,} events are shown.") if len(rows) > 2 * half else ""
    )
    rows = rows if len(rows) <= 2 * half else rows[:half] + rows[-half:]
    table = markup.table("wide history", ["Event", "Images seen", "Time", "Details"], rows)
    return markup.section("History", note + markup.scroll("History", table, tall=len(rows) > 25))
