"""The results page, from run directories to Markdown; nothing on it is typed by hand.

    python docs/results.py collect RUN_DIR --experiment E02     # writes docs/results/E02.json, and pictures
    python docs/results.py collect RUN_DIR ... --experiment E05 --run library    # one of several ways; several seeds
    python docs/results.py render                               # writes docs/guide/results.md from all records

What is taken from which experiment, the commands, and what the sources printed stand in :mod:`results_table`.
"""

import argparse
import json
import statistics
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from results_entries import SOURCES, Experiment, Figure, Run
from results_runs import RunError, differing, read_run, save_picture
from results_table import EXPERIMENTS, experiment

__all__ = ["collect", "main", "read_records", "render"]

DOCS = Path(__file__).resolve().parent
RECORDS = DOCS / "results"
PICTURES = DOCS / "images" / "results"
PAGE = DOCS / "guide" / "results.md"
SAME = ("command", "command_from", "data", "precision", "environment")  # for run directories that are shown as one

Record = Mapping[str, Any]

HEAD = """# Results

All experiments of the sources, as far as they were run here: the command, what came out, and what the source printed.
The sources are five reports of students, D0 to D4:

{sources}

Their numbers stand in a column of their own and are never ours; *nothing* there means that they printed none. What is
wrong in them is listed in [mistakes.md](mistakes.md), under the numbers X01 to X71.

`python docs/results.py render` writes this page from the records in `docs/results/`, and `collect` writes those from
run directories; nothing is typed by hand. Wall time is that of the whole program, data and figures included, and the
machines did other work beside it. What stands after *data* is the beginning of the fingerprint of the images read. A
mean stands with the standard deviation between seeds. *document* is the form of the source with its mistakes,
*library* the library's own.

No picture shows a face, a scan, a painting or an image of a data set.
"""


# --- collecting


def collect(
    paths: Sequence[Path], entry: Experiment, name: str | None, *, command: str | None, records: Path, pictures: Path
) -> Path:
    """Write what run directories hold into the experiment's record; other runs in the record stay.

    Args:
        paths: Finished run directories that differ in nothing but the seed.
        entry: The experiment.
        name: One of its runs; ``None`` = the first.
        command: For logs that have none.
        records: Folder of the records.
        pictures: Folder of the pictures.

    Raises:
        RunError: If a directory is no such run, or they differ.
    """
    run = entry.run(name)
    found = [read_run(path, run, entry.figures_of(run), command) for path in paths]
    record = dict(found[0])
    for other in found[1:]:
        told = [key for key in SAME if _without_seed(other[key]) != _without_seed(record[key])]
        if told or set(other["seeds"]) & set(record["seeds"]):
            raise RunError(f"the run directories differ in more than the seed: {', '.join(told) or 'not even in that'}")
        record["seeds"] = [*record["seeds"], *other["seeds"]]
        record["seconds"] = [*record["seconds"], *other["seconds"]]
        record["parts"] = max(record["parts"], other["parts"])
        record["figures"] = {
            key: [*value, *other["figures"][key]] if isinstance(value, list) else value
            for key, value in record["figures"].items()
            if key in other["figures"]
        }
    stem = f"{entry.name}_{run.name.replace(', ', '_').replace(' ', '_')}".lower()
    names = {picture.path: f"{stem}_{number}.webp" for number, picture in enumerate(run.pictures)}
    record["pictures"] = {
        picture.path: names[picture.path]
        for picture in run.pictures
        if save_picture(paths[0], picture, run, pictures / names[picture.path])
    }
    target = records / f"{entry.name}.json"
    before = json.loads(target.read_text("utf-8")) if target.is_file() else {}
    runs = {known.name: {**before, run.name: record}.get(known.name) for known in entry.runs}
    records.mkdir(parents=True, exist_ok=True)
    kept = {name: record for name, record in runs.items() if record is not None}
    target.write_text(json.dumps(kept, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    return target


def _without_seed(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    words = value.split()
    return [word for before, word in zip(["", *words], words, strict=False) if "--seed" not in (before, word)]


def read_records(folder: Path = RECORDS) -> dict[str, dict[str, Record]]:
    """All records: of each experiment that has been run, of each of its runs."""
    return {path.stem: json.loads(path.read_text("utf-8")) for path in sorted(folder.glob("E*.json"))}


# --- the page


def render(records: Mapping[str, Mapping[str, Record]]) -> str:
    """The page in Markdown."""
    sources = "\n".join(f"- {key}: {value}" for key, value in SOURCES.items())
    parts = [HEAD.format(sources=sources), _overview(records)]
    parts += [_section(entry, records.get(entry.name, {})) for entry in EXPERIMENTS]
    return "\n".join(parts)


def _overview(records: Mapping[str, Mapping[str, Record]]) -> str:
    lines = ["| | experiment | run here |", "|---|---|---|"]
    for entry in EXPERIMENTS:
        told = "; ".join(run.name for run in entry.runs if run.name in records.get(entry.name, {})) or "not run yet"
        lines.append(f"| [{entry.name}](#{entry.name.lower()}) | {entry.title} | {told} |")
    return "\n".join([*lines, ""])


def _section(entry: Experiment, found: Mapping[str, Record]) -> str:
    lines = [f"## {entry.name}", "", f"**{entry.title}**", ""]
    lines += [f"Source: {entry.place}. Its data: {entry.data}. Its result: {entry.finding}.", ""]
    for run in entry.runs:
        record = found.get(run.name)
        lines += _ran(entry, run, record) if record else _not_run(entry, run)
    return "\n".join(lines)


def _not_run(entry: Experiment, run: Run) -> list[str]:
    return [f"### {entry.name} {run.name}", "", "Not run yet.", "", "```sh", f"python {run.command}", "```", ""]


def _ran(entry: Experiment, run: Run, record: Record) -> list[str]:
    lines = [f"### {entry.name} {run.name}", "", "```sh", record["command"], "```", ""]
    if told := differing(record["command"], run):
        lines += [f"Differs from `python {run.command}`: {'; '.join(told)}.", ""]
    seeds = record["seeds"]
    of_seeds = f"seed{'s' if len(seeds) > 1 else ''} {', '.join(map(str, seeds))}; " if seeds else ""
    given = "" if record["command_from"] == "log" else "; the command was given when the run was collected"
    data = f"; data {', '.join(record['data'])}" if record["data"] else ""
    lines += [f"{record['date']}, {of_seeds}{_time(record)}; {_hardware(record)}{data}{given}.", ""]
    lines += ["| figure | ours | source | where |", "|---|---|---|---|"]
    lines += [_row(figure, record["figures"].get(figure.key)) for figure in entry.figures_of(run)]
    lines.append("")
    for picture in run.pictures:
        if picture.path in record["pictures"]:
            lines += [f"![{picture.alt}](../images/results/{record['pictures'][picture.path]})", ""]
    return lines


def _row(figure: Figure, value: Any) -> str:
    return f"| {figure.label} | {_shown(figure, value)} | {figure.document or '*nothing*'} | {figure.place} |"


def _shown(figure: Figure, value: Any) -> str:
    if value is None:
        return "not measured"
    if isinstance(value, str):
        return value
    if figure.source.startswith("tail "):
        return f"{_number(min(value), figure.form)} to {_number(max(value), figure.form)}"
    if len(value) == 1:
        return _number(value[0], figure.form)
    mean = _number(statistics.fmean(value), figure.form)
    deviation = _number(statistics.stdev(value), figure.form)
    return f"{mean.removesuffix(' %')} ± {deviation}"


def _number(value: float, form: str) -> str:
    return format(value, form).replace("%", " %")


def _time(record: Record) -> str:
    told = [_duration(seconds) for seconds in record["seconds"]]
    pauses = f" in {record['parts']} parts, pauses included" if record["parts"] > 1 else ""
    return f"wall time {', '.join(told)}{pauses}"


def _duration(seconds: float) -> str:
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def _hardware(record: Record) -> str:
    about = record["environment"]
    if about.get("device", "cpu") == "cpu":
        kind = f"{about['cpu']} with AMX" if about.get("amx") else about["cpu"]
        told = f"CPU ({about['machine']}, {kind}, {about['cores']} cores), {about['threads']} thread"
        told += "s" if about["threads"] > 1 else ""
    else:
        told = " and ".join(about["gpus"])
    precision = f", {record['precision']}" if record["precision"] else ""
    return f"{told}{precision}; PyTorch {about['torch']}, ganblocks {about['ganblocks']}"


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description="Records of experiments, and the page that shows them.")
    commands = parser.add_subparsers(dest="do", required=True)
    taking = commands.add_parser("collect", help="read finished run directories, write the record")
    taking.add_argument("run_dirs", type=Path, nargs="+", help="of one command with different seeds")
    taking.add_argument("--experiment", required=True, help="E01 to E21")
    taking.add_argument("--run", help="which of its runs (default: the first)")
    taking.add_argument("--command", help="by which the run was made, for a log that does not say it")
    commands.add_parser("render", help="write the page from the records")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> int:
    """Collect or render; returns the exit code."""
    options = parse(arguments)
    if options.do == "render":
        PAGE.write_text(render(read_records()), encoding="utf-8")
        print(PAGE)
        return 0
    try:
        target = collect(
            options.run_dirs, experiment(options.experiment), options.run, command=options.command, records=RECORDS,
            pictures=PICTURES,
        )  # fmt: skip
    except (ValueError, OSError) as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        return 2
    print(target)
    return 0


if __name__ == "__main__":
    sys.exit(main())
