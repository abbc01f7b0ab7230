"""Pieces of an HTML page: text that a browser shows as it is, numbers, tables, lists of settings.

Whatever comes from a run is untrusted and passes through `escape`; the arguments called ``cells``, ``first``, ``shown``
and ``content`` are HTML already.
"""

import html
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ganblocks.visualization.run_reader import finite

__all__ = [
    "amount",
    "entry",
    "entry_list",
    "escape",
    "listed",
    "note",
    "pixels",
    "readable",
    "row",
    "scroll",
    "section",
    "settings_tree",
    "shown_value",
    "table",
]

_DEEPEST, _LONGEST = 6, 2000  # levels of tables in tables; characters of one text
_UNPRINTABLE = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff]")  # not allowed in HTML, or not in UTF-8


def escape(value: Any) -> str:
    """Text that a browser shows as it is; cut if it is very long."""
    text = value if isinstance(value, str) else json.dumps(value)
    text = text if len(text) <= _LONGEST else f"{text[:_LONGEST]} ... ({len(text):,} characters)"
    return html.escape(_UNPRINTABLE.sub("\ufffd", text))


def listed(value: Any) -> str:
    """Text of a setting; the brackets of a plain list are left out."""
    if not isinstance(value, list) or not value or any(isinstance(item, (list, dict)) for item in value):
        return escape(value)
    return ", ".join(map(escape, value[:_LONGEST])) + (" ..." if len(value) > _LONGEST else "")


def readable(key: str) -> str:
    """The name of a log key, with blanks for underscores."""
    return escape(key.replace("_", " "))


def amount(number: float) -> str:
    """A whole number, grouped for the eye and plain for programs."""
    return f'<data value="{number:.0f}">{number:,.0f}</data>'


def pixels(resolution: Any) -> str:
    """A side in pixels as width times height; empty for what is no number."""
    number = finite(resolution)
    return "" if number is None else f"{number:.0f} &times; {number:.0f}"


def shown_value(value: Any) -> str:
    """A number, rounded for the eye and whole for programs, or whatever else stands there."""
    if (number := finite(value)) is None:
        return "&ndash;" if value is None else escape(value)
    return f'<data value="{escape(repr(value))}">{number:.4g}</data>'


def table(kind: str, head: Sequence[str], rows: Iterable[str]) -> str:
    """A table of the class ``kind``; each row is HTML, as `row` makes it."""
    names = "".join(f'<th scope="col">{name}</th>' for name in head)
    body = "\n".join(rows)
    return f'<table class="{kind}"><thead><tr>{names}</tr></thead><tbody>\n{body}\n</tbody></table>'


def row(first: str, *cells: str) -> str:
    """A row of a table, with its name in front."""
    return f'<tr><th scope="row">{first}</th>{"".join(f"<td>{cell}</td>" for cell in cells)}</tr>'


def entry(key: str, shown: str) -> str:
    """A key and what belongs to it."""
    return f"<div><dt>{escape(key)}</dt><dd>{shown}</dd></div>"


def entry_list(entries: Sequence[str]) -> str:
    """Entries in columns."""
    return f'<div class="entries">{"".join(entries)}</div>'


def note(text: str) -> str:
    """A remark in small print; nothing for no text."""
    return f'<p class="note">{text}</p>\n' if text else ""


def scroll(label: str, content: str, *, tall: bool = False) -> str:
    """What may be wider than the page, and with ``tall`` also higher than is pleasant."""
    kind = "scroll tall" if tall else "scroll"
    return f'<div class="{kind}" tabindex="0" role="region" aria-label="{label}">{content}</div>'


def section(heading: str, content: str) -> str:
    """A part of the page, with a heading that links can lead to."""
    return f'<section id="{heading.lower().replace(" ", "-")}">\n<h2>{heading}</h2>\n{content}\n</section>'


def settings_tree(settings: Mapping[str, Any], depth: int = 1) -> str:
    """Lists in lists, deep inside JSON; groups at the top stand open, after the single values."""
    entries, groups = [], []
    for key, value in settings.items():
        if isinstance(value, dict) and value and depth < _DEEPEST:
            inner = {escape(part) for part in value.values()}
            told = f"{len(value)} entries" + (f", all {inner.pop()}" if len(inner) == 1 < len(value) else "")
            summary = f"<summary><b>{escape(key)}</b> {told}</summary>" if depth == 1 else f"<summary>{told}</summary>"
            nested = f"{summary}{settings_tree(value, depth + 1)}</details>"
            if depth == 1:
                groups.append(f'<div class="group"><details open>{nested}</div>')
            else:
                entries.append(entry(key, f"<details>{nested}"))
        else:
            entries.append(entry(key, listed(value)))
    return entry_list(entries + groups)
