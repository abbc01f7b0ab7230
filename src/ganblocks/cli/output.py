"""What commands print: one line, a table or JSON, and nothing that a terminal would obey."""

import json
from collections.abc import Sequence

__all__ = ["printable", "readable_size", "say", "show", "table"]


def printable(text: str) -> str:
    """One line that can do nothing to a terminal: names and numbers may come from a stranger's file."""
    return "".join(c if c.isprintable() else " " if c.isspace() else ascii(c)[1:-1] for c in text)


def say(text: str) -> None:
    """Print one line."""
    print(printable(text))


def table(rows: Sequence[Sequence[str]]) -> str:
    """Aligned columns, two spaces apart; every row has as many entries as the first."""
    rows = [list(map(printable, row)) for row in rows]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]) - 1)]
    return "\n".join("  ".join([*map(str.ljust, row, widths), row[-1]]) for row in rows)


def show(found: object, rows: Sequence[Sequence[str]], *, as_json: bool) -> None:
    """Print what was found: ``found`` as JSON for programs, or ``rows`` as a table for people."""
    print(json.dumps(found, indent=1) if as_json else table(rows))


def readable_size(count: int) -> str:
    """Bytes in decimal units, three digits."""
    value, unit = float(count), "B"
    for larger in ("kB", "MB", "GB", "TB"):
        if value < 999.5:
            break
        value, unit = value / 1000, larger
    return f"{value:.3g} {unit}"
