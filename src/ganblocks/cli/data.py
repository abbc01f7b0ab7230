"""``ganblocks data``: look through a folder or an archive of images before training on it."""

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import get_args

from ganblocks.cli.arguments import Commands, add_command, add_group, at_least
from ganblocks.cli.output import readable_size, say, show, table
from ganblocks.data.decode import Crop
from ganblocks.data.report import DatasetReport, check_images

__all__ = ["add_data"]

_COMMONEST = 8  # sizes and classes in the table
_GROUPS = 10  # groups of duplicates in the table


def add_data(commands: Commands) -> None:
    """Add ``data`` and the command behind it."""
    group = add_group(commands, "data", "look through images before training on them")
    text = "read every image once: kinds, sizes, duplicates and bad files; exit code 1 if there are bad files"
    add = add_command(group, "check", _check, text).add_argument
    add("source", type=Path, metavar="DIR_OR_ZIP", help="folder or zip archive of images; only read")
    add("--crop", choices=get_args(Crop), default="center", help="how training makes them square (default: center)")
    add("--max-pixels", type=at_least(1), default=64_000_000, metavar="N", help="largest width * height (64,000,000)")
    add("--cache", type=Path, metavar="FILE", help="keep what was found, so that unchanged files are not read again")
    add("--workers", type=at_least(1), default=1, metavar="N", help="threads that read (default: 1)")
    add("--json", action="store_true", help="print JSON")


def _check(options: argparse.Namespace) -> int:
    report = check_images(
        options.source,
        crop=options.crop,
        max_pixels=options.max_pixels,
        cache=options.cache,
        workers=options.workers,
    )
    show(report.to_dict(), _rows(report), as_json=options.json)
    if not options.json:
        for groups, text in (
            (report.duplicates, "the same bytes"),
            (report.same_pixels, "the same pixels in different bytes"),
        ):
            for names in groups[:_GROUPS]:
                say(f"{text}: {', '.join(names)}")
            if len(groups) > _GROUPS:
                say(f"{text}: {len(groups) - _GROUPS:,} more groups (--json lists all)")
        if report.bad:
            print(table([("bad file", "error", "why"), *((file.name, file.error, file.reason) for file in report.bad)]))
    return int(bool(report.bad))


def _rows(report: DatasetReport) -> list[tuple[str, str]]:
    rows = [
        ("images", f"{report.images:,} ({readable_size(report.bytes)})"),
        ("formats", _listed(report.formats)),
        ("modes", _listed(report.modes)),
        ("sizes", _listed(report.sizes)),
    ]
    if report.classes:
        rows.append(("classes", _listed(report.classes)))
    for name, groups in (("duplicates", report.duplicates), ("same pixels", report.same_pixels)):
        rows.append((name, f"{sum(map(len, groups)):,} files in {len(groups):,} groups"))
    return [*rows, ("bad files", f"{len(report.bad):,}")]


def _listed(counts: Mapping[str, int]) -> str:
    shown = [f"{name} {count:,}" for name, count in list(counts.items())[:_COMMONEST]]
    more = f"{len(counts) - _COMMONEST:,} more" if len(counts) > _COMMONEST else ""
    return ", ".join([*shown, more] if more else shown) or "none"
