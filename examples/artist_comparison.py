r"""Which network names painters best? All of them on the same pictures, with equally many updates of one size.

    python examples/artist_comparison.py                                        # drawn pictures: no data needed
    python examples/artist_comparison.py --data paintings.zip --table artists.csv --artists 5 --updates 1500
    python examples/artist_comparison.py --data paintings/ --models simple cnn painting_cnn densenet121 \
        --weights densenet121=densenet121.safetensors
    python examples/artist_comparison.py --smoke                                # a trial of some seconds

Needs: pip install "ganblocks[train,vision,metrics]". Runs on a CPU or a GPU. The models and most options are those of
artist_classifier.py beside this file; nothing ends a training early, so that all make --updates updates. A model whose
library is missing is left out and said so, never replaced by another.

The run directory (--out) ends up with
    comparison.md, comparison.json    test accuracy of each model beside that of always naming the painter with most
                                      pictures, parameters, seconds of an epoch
    figures/curves.png                accuracy on the validation part over the epochs, all models in one plot
    figures/accuracy.png              every seed a dot; report.html has all of it on one page
    MODEL/                            what artist_classifier.py leaves, of each model

More parameters do not mean better answers, and a network from random weights says nothing of what a pretrained one can
do: the table tells which is which. Stopping loses nothing: the same command goes on where it was.
"""

import argparse
import copy
import json
import statistics
import sys
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import artist_classifier as single
import torch

from ganblocks._files import written_atomically
from ganblocks.errors import GanblocksError
from ganblocks.training import new_run_directory
from ganblocks.training.environment import flushed_denormals
from ganblocks.training.logging import RunLog
from ganblocks.training.run_directory import claim_run_directory, require_own_run_directory
from ganblocks.visualization.arms import arms_figure
from ganblocks.visualization.canvas import COLORS, FAINT, FRAME, INK, MUTED, empty_figure, finished
from ganblocks.visualization.report import write_report

UPDATES = 1000


def parse(arguments: Sequence[str] | None) -> tuple[argparse.Namespace, dict[str, argparse.Namespace]]:
    """Read the command line: what holds for all, and for each model its own options."""
    parser = argparse.ArgumentParser(
        description="Which network names painters best?",
        epilog="The same command again goes on where the run was stopped.",
    )
    single.add_options(parser, out="runs/artist_comparison")
    parser.add_argument(
        "--models", nargs="+", choices=tuple(single.MODELS), help="(default: all; in a trial the three small ones)"
    )
    parser.add_argument(
        "--weights", nargs="+", default=[], metavar="MODEL=FILE", help="of backbones (default: random numbers)"
    )
    options = parser.parse_args(arguments)
    options.models = options.models or [
        model for model in single.MODELS if not (options.smoke and model in single.BACKBONES)
    ]
    weights: dict[str, Path] = {}
    for text in options.weights:
        model, separator, file = text.partition("=")
        if not separator or model not in options.models or model not in single.BACKBONES or not file:
            parser.error(f"--weights is {text}, but must be MODEL=FILE with one of {', '.join(single.BACKBONES)}")
        weights[model] = Path(file)
    if options.updates is None:
        options.updates = 6 if options.smoke else UPDATES
    own = {}
    for model in dict.fromkeys(options.models):
        of_model = copy.copy(options)
        of_model.model, of_model.weights = model, weights.get(model)
        of_model.start = of_model.freeze = of_model.backbone_factor = None
        single.complete(parser, of_model)
        of_model.out = options.out / model
        own[model] = of_model
    return options, own


def compare(options: argparse.Namespace, own: Mapping[str, argparse.Namespace], out: Path) -> dict[str, Any]:
    """Train every model, from where it was stopped; those that cannot be built are there with the reason.

    Raises:
        StoppedError: The user asked for it.
    """
    data: dict[int, single.Data] = {}
    found: dict[str, Any] = {}
    for model, of_model in own.items():
        if of_model.size not in data:
            data[of_model.size] = single.open_data(of_model)
        study = single.Study(of_model, data[of_model.size], out / model)
        print(f"{model}: {of_model.updates:,} updates of {study.recipe.batch_size} pictures at {of_model.size} px")
        try:
            single.run_study(study)
        except ImportError as error:
            print(f"{model} is left out: {error}")
            found[model] = {"left_out": str(error)}
            continue
        summary: dict[str, Any] = json.loads((out / model / "results.json").read_text(encoding="utf-8"))
        found[model] = summary
    return found


def curves_figure(found: Mapping[str, Any], path: Path) -> None:
    """The validation accuracy of all models over the epochs: each seed thin, their mean strong, majority broken."""
    figure = empty_figure(8.4, 5.0, constrained=True)
    axes = figure.add_subplot()
    for (model, summary), color in zip(found.items(), COLORS, strict=False):
        of_epoch: dict[float, list[float]] = {}
        for run in summary["seeds"]:
            points = [(row["epoch"], 100 * row["val_accuracy"]) for row in run["history"] if "val_accuracy" in row]
            for epoch, value in points:
                of_epoch.setdefault(epoch, []).append(value)
            axes.plot(*zip(*points, strict=True), color=color, linewidth=0.7, alpha=0.35)
        epochs = sorted(of_epoch)
        means = [statistics.fmean(of_epoch[epoch]) for epoch in epochs]
        marker = "o" if len(epochs) <= 30 else ""
        axes.plot(epochs, means, color=color, linewidth=2, marker=marker, ms=3.5, label=model)
    majority = 100 * max(summary["majority"] for summary in found.values())
    axes.axhline(majority, color=MUTED, linestyle=(0, (4, 3)), linewidth=1.2, label="always the painter with most")
    axes.set_xlabel("epoch", color=INK)
    axes.set_ylabel("validation accuracy, %", color=INK)
    axes.set_ylim(0, 100)
    axes.set_xlim(left=0)
    axes.grid(axis="y", color=FAINT, linewidth=0.8)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(FRAME)
    axes.tick_params(colors=MUTED)
    axes.legend(frameon=False, labelcolor=INK, fontsize=9)
    finished(figure, path)


def table(found: Mapping[str, Any]) -> list[str]:
    """The rows of the comparison, in Markdown."""
    lines = [
        "| model | start | size | parameters | updates | s an epoch | validation | test | macro F1 | majority |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for model, summary in found.items():
        if "left_out" in summary:
            lines.append(f"| {model} | left out | | | | | | {summary['left_out']} | | |")
            continue
        runs = summary["seeds"]
        last = [run["history"][-1].get("val_accuracy") for run in runs if run["history"]]
        validation = "" if not last or None in last else f"{100 * statistics.fmean(last):.1f} %"
        seconds = [run["seconds_per_epoch"] for run in runs if run["seconds_per_epoch"] is not None]
        start = "pretrained" if summary["weights"] else "random"
        told = [model, start, summary["size"], f"{summary['parameters']:,}", f"{runs[0]['updates']:,}"]
        told += [f"{statistics.fmean(seconds):.1f}" if seconds else "", validation]
        test = single.percent(summary["accuracy_mean"], summary["accuracy_deviation"])
        told += [test, f"{summary['macro_f1_mean']:.3f}", f"{100 * summary['majority']:.1f} %"]
        lines.append(f"| {' | '.join(map(str, told))} |")
    return lines


def train(options: argparse.Namespace, own: Mapping[str, argparse.Namespace]) -> int:
    """Train all models and write the comparison."""
    threads = next(iter(own.values())).threads
    if threads:
        torch.set_num_threads(threads)
    out = new_run_directory(options.out) if options.fresh else options.out
    first = next(iter(own.values()))
    shared = ("preset", "artists", "updates", "batch_size", "shares", "seed", "balance")
    settings = {name: getattr(first, name) for name in shared} | {
        "data": None if first.data is None else str(first.data)
    }
    require_own_run_directory(out, settings)
    claim_run_directory(out, settings)
    RunLog(out / "log.jsonl").append({"event": "start", "images_seen": 0, "models": list(own)})
    try:
        found = compare(options, own, out)
    except single.StoppedError:
        print(f"Stopped; the same command goes on from here. See {out}")
        return 130
    with written_atomically(out / "comparison.json") as file:
        file.write((json.dumps(found, indent=1) + "\n").encode())
    trained = {model: summary for model, summary in found.items() if "left_out" not in summary}
    lines = table(found)
    title = "Networks that name painters"
    if trained:
        some = next(iter(trained.values()))
        counts = some["images"]
        lines = [
            f"{len(some['classes'])} painters, {counts['training']:,} pictures to train on, {counts['validation']:,} "
            f"for validation, {counts['test']:,} for the test; {len(some['seeds'])} seeds; preset {first.preset}.",
            "",
            *lines,
        ]
        (out / "figures").mkdir(exist_ok=True)
        if all("val_accuracy" in run["history"][-1] for summary in trained.values() for run in summary["seeds"]):
            curves_figure(trained, out / "figures" / "curves.png")
        accuracies = {model: [run["accuracy"] for run in summary["seeds"]] for model, summary in trained.items()}
        arms_figure(accuracies, chance=some["majority"], title=title, path=out / "figures" / "accuracy.png")
    text = "\n".join([f"# {title}", "", *lines, ""])
    (out / "comparison.md").write_text(text, encoding="utf-8")
    write_report(out, title=title)
    print(f"\n{text}\nSee {out}")
    return 0 if trained else 2


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the example; returns the exit code."""
    options, own = parse(arguments)
    warnings.simplefilter("default")
    try:
        with flushed_denormals():  # before PyTorch starts its threads
            return train(options, own)
    except (GanblocksError, ValueError, OSError, ImportError) as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
