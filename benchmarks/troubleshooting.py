"""Brings about what goes wrong in training, tries every remedy of docs/guide/troubleshooting.md, and measures it.

    python benchmarks/troubleshooting.py                  # everything, minutes on one core of a CPU
    python benchmarks/troubleshooting.py --only memory    # one symptom; the others stay as they were in the file
    python benchmarks/troubleshooting.py --page           # trains nothing: the tables of the guide, from the file

Prints a table for each symptom, and writes benchmarks/results/troubleshooting_cpu.md and .json and the tables in the
guide. The first row of a table is the symptom, every other a remedy that was tried; whether it helped is decided by
one rule (`troubleshooting_trials.record.verdict`). Everything but seconds follows from the seeds.
"""

import argparse
import dataclasses
import json
import platform
import re
import statistics
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from troubleshooting_trials import drawings, machine, numbers, ring
from troubleshooting_trials.record import Scale, Symptom, Trial, verdict

from ganblocks import __version__
from ganblocks.training.environment import flushed_denormals

ROOT = Path(__file__).resolve().parents[1]
RESULT = ROOT / "benchmarks" / "results" / "troubleshooting_cpu.json"
PAGE = ROOT / "docs" / "guide" / "troubleshooting.md"
SYMPTOMS: Mapping[str, Callable[[Scale], Symptom]] = {
    "mode_collapse": ring.mode_collapse,
    "vanishing_gradient": ring.vanishing_gradient,
    "copies": drawings.copies,
    "runaway_scores": ring.runaway_scores,
    "learning_rate": numbers.learning_rate,
    "spoilt_image": numbers.spoilt_image,
    "formulas": numbers.formulas,
    "float16": numbers.float16,
    "second_order": numbers.second_order,
    "memory": machine.memory,
    "style_memory": machine.style_memory,
    "slow_input": machine.slow_input,
    "wrong_range": drawings.wrong_range,
    "chequered": drawings.chequered,
    "blurred": drawings.blurred,
}
HELPED = {"yes": "yes", "on average": "on average", "no": "**no**", "worse": "**worse**"}


def cell(values: list[float | None], form: str) -> str:
    """One measure of one row: its mean, and the smallest and largest where there are several."""
    known = [value for value in values if value is not None]
    if not known:
        return "none"
    large = max(map(abs, known)) >= 1e6
    mean, low, high = (
        f"{value:{'.0e' if large else form}}" for value in (statistics.fmean(known), min(known), max(known))
    )
    missing = f", {len(values) - len(known)} without" if len(known) < len(values) else ""
    return f"{mean}{missing}" if low == high else f"{mean} ({low} to {high}{missing})"


def table(symptom: Symptom) -> str:
    """The trials of a symptom as Markdown, without its title and setting."""
    if symptom.left_out:
        return f"Not tried on this machine: {symptom.left_out}"
    said = any(trial.said for trial in symptom.trials)
    judged = bool(symptom.judged_by)
    titles = ["tried", *symptom.units.values(), *(["the library said"] * said), *(["helped"] * judged)]
    lines = [f"| {' | '.join(titles)} |", "|---" * len(titles) + "|"]
    for number, trial in enumerate(symptom.trials):
        cells = [trial.name, *(cell(trial.values[key], symptom.digits[key]) for key in symptom.units)]
        cells += [trial.said or ""] * said
        if judged:
            cells.append("the symptom" if number == 0 else HELPED[verdict(symptom, trial)])
        lines.append(f"| {' | '.join(cells)} |".replace("|  |", "| |"))
    return "\n".join(lines)


def report(found: Mapping[str, Any]) -> str:
    """Everything as Markdown."""
    machine_ = found["machine"]
    seeds = ", ".join(map(str, machine_["seeds"]))
    lines = [
        "# What goes wrong, and what helped",
        "",
        f"`python benchmarks/troubleshooting.py`, {machine_['date']}: ganblocks {machine_['ganblocks']}, PyTorch "
        f"{machine_['torch']}, Python {machine_['python']}, {machine_['cpu']}, one thread, float32 where nothing else "
        f"is said, seeds {seeds}, {machine_['cpu_seconds']:.0f} s of CPU time. A cell is the mean over "
        "seeds, with the smallest and the largest. Helped: yes = better with every seed than the symptom with any, by "
        "5 % at least; on average = better in the mean only; worse = the opposite of yes.",
    ]
    for symptom in symptoms(found):
        lines += ["", f"## {symptom.title}", "", symptom.setting, "", table(symptom)]
    return "\n".join([*lines, ""])


def symptoms(found: Mapping[str, Any]) -> list[Symptom]:
    """Those of a file, in the order of this one."""
    names = [field.name for field in dataclasses.fields(Symptom)]
    listed = (found["symptoms"][key] for key in SYMPTOMS if key in found["symptoms"])
    return [
        Symptom(**{name: one[name] for name in names} | {"trials": [Trial(**trial) for trial in one["trials"]]})
        for one in listed
    ]


def filled(page: str, found: Mapping[str, Any]) -> str:
    """The page with every table between its marks made anew, and the sentence that says where they come from.

    Raises:
        ValueError: If the page has no place for a symptom, or one for a symptom that is not in the file.
    """
    texts = {one.key: f"{one.setting}\n\n{table(one)}" for one in symptoms(found)}
    machine_ = found["machine"]
    texts["machine"] = (
        f"ganblocks {machine_['ganblocks']}, PyTorch {machine_['torch']}, {machine_['cpu']}, one thread, seeds "
        f"{', '.join(map(str, machine_['seeds']))}, {machine_['date']}."
    )
    places = re.findall(r"<!-- table: (\w+) -->", page)
    if sorted(places) != sorted(texts):
        raise ValueError(f"places for {sorted(set(places) ^ set(texts))} are missing, too many, or there twice")
    return re.sub(
        r"<!-- table: (\w+) -->\n.*?<!-- end -->",
        lambda match: f"<!-- table: {match[1]} -->\n{texts[match[1]]}\n\n<!-- end -->",
        page,
        flags=re.DOTALL,
    )


def processor() -> str:
    """What the CPU calls itself, and whether it has matrix tiles."""
    names = [platform.processor() or platform.machine()]
    info = Path("/proc/cpuinfo")
    if info.is_file():
        names = re.findall(r"^model name\s*: (.*)$", info.read_text(encoding="utf-8"), re.MULTILINE) or names
    return names[0] + (" with AMX" if torch.cpu._is_amx_tile_supported() else "")


def environment(scale: Scale) -> dict[str, Any]:
    """What the figures depend on, and how long they took."""
    return {
        "date": time.strftime("%Y-%m-%d"),
        "ganblocks": __version__,
        "torch": torch.__version__.partition("+")[0],
        "python": platform.python_version(),
        "cpu": processor(),
        "seeds": list(scale.seeds),
        "share": scale.share,
        "cpu_seconds": 0.0,
    }


def measure(names: list[str], scale: Scale, path: Path) -> None:
    """Run the trials of these symptoms, and write the files after each; the others stay as they are there."""
    earlier = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {"symptoms": {}}
    found = {"machine": environment(scale), "symptoms": earlier["symptoms"]}
    for name in names:
        before = time.process_time()
        symptom = SYMPTOMS[name](scale)
        seconds = round(time.process_time() - before, 1)
        found["symptoms"][name] = {**dataclasses.asdict(symptom), "cpu_seconds": seconds}
        found["symptoms"] = {key: found["symptoms"][key] for key in SYMPTOMS if key in found["symptoms"]}
        found["machine"]["cpu_seconds"] = round(sum(one["cpu_seconds"] for one in found["symptoms"].values()), 1)
        print(f"## {symptom.title} ({seconds:.0f} s)\n\n{symptom.setting}\n\n{table(symptom)}\n", flush=True)
        path.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
        path.with_suffix(".md").write_text(report(found), encoding="utf-8")


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--only", nargs="+", choices=tuple(SYMPTOMS), default=list(SYMPTOMS), metavar="SYMPTOM")
    add("--seeds", type=int, default=3, help="how many (default: %(default)s)")
    add("--small", action="store_true", help="a fiftieth of everything, one seed: whether it runs, not what it says")
    add("--json", type=Path, default=RESULT, help="file to write, and beside it one with .md (default: %(default)s)")
    add("--page", action="store_true", help="measure nothing, write the tables of the guide")
    options = parser.parse_args()
    if not options.page:
        torch.set_num_threads(1)
        scale = Scale((0,), 0.02) if options.small else Scale(tuple(range(options.seeds)))
        measure(options.only, scale, options.json)
    if options.json == RESULT and PAGE.is_file():
        found = json.loads(options.json.read_text(encoding="utf-8"))
        PAGE.write_text(filled(PAGE.read_text(encoding="utf-8"), found), encoding="utf-8")


if __name__ == "__main__":
    with flushed_denormals():
        main()
