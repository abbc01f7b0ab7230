r"""How much of a backbone to train, and at which size? A sweep over both as one table, or a path from step to step.

    python examples/artist_fine_tuning.py --data paintings.zip --table artists.csv --artists 5 \
        --weights inception_resnet_v2.safetensors --steps 250:700 300:700 300:600
    python examples/artist_fine_tuning.py --data paintings/ --model densenet121 --weights densenet121.safetensors \
        --path --steps 100:features.denseblock4 100:features.denseblock3
    python examples/artist_fine_tuning.py --smoke                              # a trial of half a minute on a CPU

Needs: pip install "ganblocks[train,vision,metrics]". Runs on a CPU or a GPU. Most options are those of
artist_classifier.py beside this file. A step is the side of the pictures in pixels and the last stage of the backbone
that stays as it is, or "none": 250:mixed_7a. InceptionResNetV2 also takes the source's numbers of layers (E19): 700 of
them are frozen through repeat_2.4, 600 through repeat_1.

Without --path each step begins from --weights, so that the table tells what size and freezing are worth. With --path
each goes on from the step before it, seed by seed: with fewer stages frozen that is gradual unfreezing, with larger
pictures the tuning of resolution that E19 ends with. --backbone-factor lets the backbone learn more slowly than the new
layer. Without --weights the backbone starts from random numbers, and freezing it keeps random numbers.

The run directory (--out) ends up with
    fine_tuning.md, fine_tuning.json    a row a step: parameters that are trained, seconds of an epoch, accuracies
    figures/accuracy.png                every seed a dot; report.html has all of it on one page
    1-250-700/ and so on                what artist_classifier.py leaves, of each step

Stopping (Ctrl-C, SIGTERM, a crash) loses nothing: the same command goes on where it was.
"""

import argparse
import copy
import json
import statistics
import sys
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import artist_classifier as single
import torch

from ganblocks._files import written_atomically
from ganblocks.errors import DataError, GanblocksError
from ganblocks.training import new_run_directory
from ganblocks.training.environment import flushed_denormals
from ganblocks.training.logging import RunLog
from ganblocks.training.run_directory import claim_run_directory, require_own_run_directory
from ganblocks.visualization.arms import arms_figure
from ganblocks.visualization.report import write_report

DOCUMENT = ["250:700", "300:700", "300:600"]  # of E19, for InceptionResNetV2
TRIAL = ["32:features.denseblock4", "32:none"]


class Step(NamedTuple):
    """One row of the table."""

    name: str
    size: int
    freeze: str | None
    options: argparse.Namespace


def parse(arguments: Sequence[str] | None) -> tuple[argparse.Namespace, list[Step]]:
    """Read the command line: what holds for all, and the steps."""
    parser = argparse.ArgumentParser(
        description="How much of a backbone to train, and at which size?",
        epilog="The same command again goes on where the run was stopped.",
    )
    single.add_options(parser, out="runs/artist_fine_tuning")
    add = parser.add_argument
    add("--model", choices=single.BACKBONES, help="(default: inception_resnet_v2; in a trial densenet121)")
    add("--weights", type=Path, help="of the backbone, .safetensors (default: it starts from random numbers)")
    add(
        "--backbone-factor", type=float, help="of the learning rate of the backbone (default: 1; library, weights: 0.1)"
    )
    add("--steps", nargs="+", metavar="SIZE:STAGE", help=f"(default: those of E19, {' '.join(DOCUMENT)})")
    add("--path", action="store_true", help="each step goes on from the one before it")
    options = parser.parse_args(arguments)
    options.model = options.model or ("densenet121" if options.smoke else "inception_resnet_v2")
    if options.steps is None and not options.smoke and options.model != "inception_resnet_v2":
        parser.error(f"--steps is missing: its default has numbers of layers, which {options.model} has not")
    texts = options.steps or (TRIAL if options.smoke else DOCUMENT)
    if options.size is not None:
        parser.error(f"--size is {options.size}, but each of --steps has its own")
    steps: list[Step] = []
    for number, text in enumerate(texts, start=1):
        size, separator, stage = text.partition(":")
        if not separator or not size.isdecimal() or int(size) < 1 or not stage:
            parser.error(f"--steps is {text}, but must be SIZE:STAGE, such as 250:mixed_7a or 250:none")
        own = copy.copy(options)
        own.size, own.freeze = int(size), None if stage == "none" else stage
        name = f"{number}-{size}-{stage}"
        own.out = options.out / name
        own.start = options.out / steps[-1].name if options.path and steps else None
        own.weights = None if own.start is not None else options.weights
        single.complete(parser, own)
        if options.smoke:
            own.seeds, own.updates = 1, 2
        steps.append(Step(name, own.size, own.freeze, own))
    return options, steps


def sweep(steps: Sequence[Step], out: Path) -> list[dict[str, Any]]:
    """Train every step, from where it was stopped.

    Raises:
        DataError: Sizes have different pictures, as of two zips in one folder.
        StoppedError: The user asked for it.
    """
    data = {size: single.open_data(step.options) for size, step in {step.size: step for step in steps}.items()}
    if len({part.fingerprint for part in data.values()}) > 1:
        raise DataError(f"{steps[0].options.data} has other pictures for other sizes: name one of its zips as --data")
    rows = []
    for step in steps:
        if step.options.start is not None:
            step.options.start = out / step.options.start.name
        study = single.Study(step.options, data[step.size], out / step.name)
        print(f"{step.name}:", flush=True)
        single.run_study(study)
        summary: dict[str, Any] = json.loads((out / step.name / "results.json").read_text(encoding="utf-8"))
        trained = sum(p.numel() for p in study.classifier().parameters() if p.requires_grad)
        rows.append({"step": step.name, "frozen_through": step.freeze, "trained_parameters": trained, **summary})
    return rows


def table(rows: Sequence[Mapping[str, Any]], path: bool) -> list[str]:
    """The sweep in Markdown."""
    lines = [
        "| step | size | frozen through | start | trained parameters | updates | s an epoch | validation | test |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for number, row in enumerate(rows):
        runs = row["seeds"]
        last = [run["history"][-1].get("val_accuracy") for run in runs if run["history"]]
        seconds = [run["seconds_per_epoch"] for run in runs if run["seconds_per_epoch"] is not None]
        start = "the step before" if path and number else "pretrained" if row["weights"] else "random"
        cells = [number + 1, row["size"], row["frozen_through"] or "nothing", start, f"{row['trained_parameters']:,}"]
        cells += [f"{statistics.fmean(run['updates'] for run in runs):,.0f}"]
        cells += [f"{statistics.fmean(seconds):.1f}" if seconds else ""]
        cells += ["" if not last or None in last else f"{100 * statistics.fmean(last):.1f} %"]
        cells += [single.percent(row["accuracy_mean"], row["accuracy_deviation"])]
        lines.append(f"| {' | '.join(map(str, cells))} |")
    return lines


def train(options: argparse.Namespace, steps: Sequence[Step]) -> int:
    """Train all steps and write the table."""
    if steps[0].options.threads:
        torch.set_num_threads(steps[0].options.threads)
    out = new_run_directory(options.out) if options.fresh else options.out
    settings = {"model": options.model, "path": options.path, "steps": [step.name for step in steps]}
    require_own_run_directory(out, settings)
    claim_run_directory(out, settings)
    RunLog(out / "log.jsonl").append({"event": "start", "images_seen": 0, **settings})
    try:
        rows = sweep(steps, out)
    except single.StoppedError:
        print(f"Stopped; the same command goes on from here. See {out}")
        return 130
    with written_atomically(out / "fine_tuning.json") as file:
        file.write((json.dumps(rows, indent=1) + "\n").encode())
    title = f"{options.model}: sizes and frozen stages"
    counts, seeds = rows[0]["images"], len(rows[0]["seeds"])
    text = [
        f"# {title}",
        "",
        f"{len(rows[0]['classes'])} painters, {counts['training']:,} pictures to train on, {counts['validation']:,} "
        f"for validation, {counts['test']:,} for the test; {seeds} {'seeds' if seeds > 1 else 'seed'}. Always naming "
        f"the painter with most pictures: {100 * rows[0]['majority']:.1f} %.",
        "",
        *table(rows, options.path),
        "",
    ]
    (out / "fine_tuning.md").write_text("\n".join(text), encoding="utf-8")
    (out / "figures").mkdir(exist_ok=True)
    accuracies = {row["step"]: [run["accuracy"] for run in row["seeds"]] for row in rows}
    arms_figure(accuracies, chance=rows[0]["majority"], title=title, path=out / "figures" / "accuracy.png")
    write_report(out, title=title)
    print("\n".join(["", *text, f"See {out}"]))
    return 0


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the example; returns the exit code."""
    options, steps = parse(arguments)
    warnings.simplefilter("default")
    try:
        with flushed_denormals():  # before PyTorch starts its threads
            return train(options, steps)
    except (GanblocksError, ValueError, OSError, ImportError) as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
