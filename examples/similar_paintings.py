r"""Which works are like this one? Painter, movements and the most similar pictures, from one network with two heads.

    python examples/similar_paintings.py                                          # drawn pictures: no data needed
    python examples/similar_paintings.py --data paintings.zip --table artists.csv --artists 10
    python examples/similar_paintings.py --data paintings/ --query mine.jpg other.png   # afterwards: ask about pictures
    python examples/similar_paintings.py --smoke                                  # a trial of some seconds

Needs: pip install "ganblocks[train,vision,metrics]". Runs on a CPU or a GPU; all pictures are held in memory.

The painting CNN of artist_classifier.py beside this file gets a second head for the movements of each picture, of which
a painter may have several, and learns both by a weighted sum of two losses (E21). What its last layers see is what
pictures are compared by: the angle between two such vectors. The pictures that it has not learned from are the queries,
all others the collection, and the share of the k nearest that are of the same painter, or share a movement, is set
beside that of other ways to compare:
    one head          the same network, taught the painters alone
    autoencoder       codes of a convolutional autoencoder that was told nothing
    components        the first principal components of the pixels
    pixels            the pixels themselves
    untrained         the network as it begins
    chance            neighbours drawn by lot

The run directory (--out) ends up with
    results.md, results.json    precision at k, and how often painter and movements are told right
    movements.md                precision, recall and support of each movement
    figures/similar.png         some queries with their nearest pictures; similar_components.png the same by components
    figures/, report.html       precision of every seed; all of it on one page
    figures/query_NAME.png      what --query found; it is printed too, with the names of the files
    classifier.safetensors      with two heads, of the first seed, for load_classifier
    two-heads-0/ and so on      one run a seed; autoencoder/

Stopping (Ctrl-C, SIGTERM, a crash) loses nothing: the same command goes on where it was. Before you publish figures:
the painter, the photograph or the collection may have rights in them.
"""

import argparse
import dataclasses
import json
import re
import shutil
import statistics
import sys
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import artist_classifier as single
import safetensors.torch
import torch
from torch import Tensor, nn

from ganblocks._files import written_atomically
from ganblocks._version import __version__
from ganblocks.data import AugmentedImages, ImageTable, TensorBatches
from ganblocks.errors import DataError, GanblocksError
from ganblocks.functional.image_range import intensities
from ganblocks.metrics import most_similar, precision_at_k
from ganblocks.models.autoencoder import ConvDenoiser, ConvDenoiserConfig
from ganblocks.models.painting_classifier import PaintingCNN
from ganblocks.models.registry import CLASSIFIER_FILE, load_classifier
from ganblocks.models.two_head_classifier import TwoHeadClassifier
from ganblocks.training import (
    Precision,
    ProgressBar,
    Trainer,
    autoencoder_recipes,
    new_run_directory,
    plain_weights,
    predict_features,
)
from ganblocks.training.autoencoder_step import evaluate_autoencoder
from ganblocks.training.environment import flushed_denormals
from ganblocks.training.logging import RunLog
from ganblocks.training.run_directory import claim_run_directory, require_own_run_directory
from ganblocks.training.saved_weights import write_weights
from ganblocks.visualization.arms import arms_figure
from ganblocks.visualization.neighbors import neighbor_rows
from ganblocks.visualization.report import write_report

HEADS = {"two heads": True, "one head": False}
AUTOENCODER_FILE = "autoencoder.safetensors"
AUTOENCODER_CHANNELS = (16, 32, 64)
SHOWN = 8  # queries on a sheet


@dataclasses.dataclass(frozen=True)
class Collection:
    """Pictures to search among, and those to search for; all of them in the order of `single.Data`."""

    pictures: single.Part
    queries: single.Part

    @classmethod
    def of(cls, data: single.Data) -> "Collection":
        """Training and validation together, and the test part."""
        parts = [part for part in (data.training, data.validation) if part is not None]
        images, labels = (torch.cat([getattr(part, name) for part in parts]) for name in ("images", "labels"))
        return cls(single.Part(images, labels, tuple(name for part in parts for name in part.names)), data.test)


class Study:
    """The networks, and what pictures are compared by.

    Args:
        options: The command line.
        data: The pictures.
        out: The run directory.
    """

    def __init__(self, options: argparse.Namespace, data: single.Data, out: Path) -> None:
        if not data.movements:
            raise DataError("no painter has a movement: name the table of painters as --table")
        self.options, self.data, self.out = options, data, out
        self.collection = Collection.of(data)
        self.device = torch.device(options.device)
        self.precision = Precision.resolve(options.precision, self.device)
        self.recipe = single.make_recipe(options)
        self.config = single.make_config(options, len(data.classes), data.test.images.shape[1])
        names = ("size", "augment", "balance", "updates", "shares", "movement_weight", "autoencoder_epochs")
        self.settings = {
            "config": self.config.to_dict(),
            "recipe": dataclasses.asdict(self.recipe),
            "data": data.fingerprint,
            "precision": self.precision.name,
            **{name: getattr(options, name) for name in names},
            "split_seed": options.seed,
        }

    def network(self, seed: int) -> TwoHeadClassifier:
        """A new one."""
        torch.manual_seed(seed)
        return TwoHeadClassifier(PaintingCNN(self.config), len(self.data.movements), name="painting_cnn")

    def trained(self, arm: str, seed: int) -> TwoHeadClassifier:
        """With one seed, or as the same run has left it before.

        Raises:
            StoppedError: The user asked for it.
        """
        folder = self.out / f"{arm.replace(' ', '-')}-{seed}"
        settings = {**self.settings, "arm": arm, "seed": seed}
        if (folder / CLASSIFIER_FILE).is_file():
            require_own_run_directory(folder, settings)
            found = load_classifier(folder)
            assert isinstance(found, TwoHeadClassifier)
            return found.to(self.device)
        options, part, classifier = self.options, self.data.training, self.network(seed).to(self.device)
        step = self.recipe.build_step(
            classifier,
            attributes=self.data.painter_movements,
            attribute_weight=options.movement_weight if HEADS[arm] else 0.0,
            precision=self.precision,
        )
        transform = single.augmentation(options.augment)
        batches: Any = TensorBatches(part.images, part.labels, seed=seed)
        if transform is not None:
            batches = AugmentedImages(part.images, part.labels, transform)
        config = {"model": "two_head_classifier", "config": classifier.config.to_dict()}
        print(f"{arm}, seed {seed}:", flush=True)
        self._fit(
            step, batches, self.recipe.schedule(len(part), updates=options.updates), folder, seed, settings, config,
            workers=options.workers if transform is not None else 0,
        )  # fmt: skip
        about = {"classes": self.data.classes, "attributes": self.data.movements, **config}
        self._write(folder / CLASSIFIER_FILE, classifier, about)
        return classifier.eval().requires_grad_(False)

    def autoencoder(self) -> ConvDenoiser:
        """Trained on the same pictures as the networks, or as the same run has left it before.

        Raises:
            StoppedError: The user asked for it.
        """
        folder, settings = self.out / "autoencoder", {**self.settings, "arm": "autoencoder", "seed": 0}
        part = self.data.training
        fold = 2 ** len(AUTOENCODER_CHANNELS)
        if self.options.size % fold:
            raise DataError(f"--size is {self.options.size}, but must be a multiple of {fold} for the autoencoder")
        config = ConvDenoiserConfig(self.options.size, part.images.shape[1], AUTOENCODER_CHANNELS)
        torch.manual_seed(0)
        model = ConvDenoiser(config).to(self.device)
        file = folder / AUTOENCODER_FILE
        if file.is_file():
            require_own_run_directory(folder, settings)
            model.load_state_dict(safetensors.torch.load_file(file))
            return model.eval()
        recipe = autoencoder_recipes.dense_autoencoder(epochs=self.options.autoencoder_epochs)
        step = recipe.build_step(model, precision=self.precision)
        schedule = recipe.schedule(len(part))
        print("autoencoder:", flush=True)
        self._fit(step, TensorBatches(part.images, seed=0), schedule, folder, 0, settings, {"config": config.to_dict()})
        error = evaluate_autoencoder(model, self.data.test.images, precision=self.precision)["val_mse"]
        print(f"autoencoder: mean squared error of a pixel of the test pictures {error:.4f}", flush=True)
        self._write(file, model, {"config": config.to_dict(), "test_mse": error})
        return model.eval()

    def _fit(
        self, step: Any, batches: Any, schedule: Any, folder: Path, seed: int, settings: dict[str, Any],
        metadata: dict[str, Any], workers: int = 0,
    ) -> None:  # fmt: skip
        trainer = Trainer(
            step,
            batches,
            schedule,
            run_dir=folder,
            seed=seed,
            settings=settings,
            workers=workers,
            callbacks=[ProgressBar()],
            log_images=max(1, schedule.total_images // 100),
            save_images=max(1, schedule.total_images // 10),
            keep_last=1,
            resume=self.options.resume,
            metadata=lambda _: metadata,
        )
        if not trainer.fit().finished:
            raise single.StoppedError

    def _write(self, path: Path, model: nn.Module, about: Mapping[str, Any]) -> None:
        weights = {name: tensor.cpu().contiguous() for name, tensor in plain_weights(model).items()}
        write_weights(path, weights, {"format": "pt", "ganblocks": __version__, **about})
        shutil.rmtree(path.parent / "checkpoints", ignore_errors=True)  # they only serve to go on

    def components(self) -> Callable[[Tensor], Tensor]:
        """The first principal components of the pixels of the training part."""
        from sklearn.decomposition import PCA

        rows = intensities(self.data.training.images).flatten(1).numpy()
        pca = PCA(min(self.options.components, *rows.shape), svd_solver="randomized", random_state=0).fit(rows)
        return lambda images: torch.from_numpy(pca.transform(intensities(images).flatten(1).numpy()))

    def centred_pixels(self) -> Callable[[Tensor], Tensor]:
        """The pixels less the mean picture, without which all of them point in nearly the same direction."""
        mean = intensities(self.data.training.images).mean(0)
        return lambda images: (intensities(images) - mean).flatten(1)

    def codes(self, model: ConvDenoiser) -> Callable[[Tensor], Tensor]:
        """The autoencoder's, less their mean over the training part."""

        @torch.no_grad()
        def encode(images: Tensor) -> Tensor:
            parts = [model.encode(intensities(part).to(self.device)).cpu() for part in torch.split(images, 256)]
            return torch.cat(parts).flatten(1)

        mean = encode(self.data.training.images).mean(0)
        return lambda images: encode(images) - mean

    def of_network(self, network: nn.Module) -> Callable[[Tensor], Tensor]:
        """What the heads see."""
        return lambda images: predict_features(network, images, precision=self.precision)

    def search(self, features: Callable[[Tensor], Tensor], queries: Tensor) -> tuple[Tensor, Tensor]:
        """Cosines and rows of the collection, the nearest first."""
        return most_similar(features(queries), features(self.collection.pictures.images), count=self.options.count)

    def precisions(self, rows: Tensor) -> dict[str, Any]:
        """How many of the pictures found for the test part fit, by painter and by movement."""
        truth, labels = self.collection.queries.labels, self.collection.pictures.labels
        found = labels[rows]
        movements = self.data.painter_movements
        painter, movement = precision_at_k(truth, found), precision_at_k(movements[truth], movements[found])
        return {"painter": painter.value, "nearest": painter.details["at_1"], "movement": movement.value}

    def chance(self) -> dict[str, float]:
        """What neighbours drawn by lot would reach, exactly."""
        truth, labels = self.collection.queries.labels, self.collection.pictures.labels
        shares = torch.bincount(labels, minlength=len(self.data.classes)).double() / len(labels)
        movements = self.data.painter_movements
        shared = (movements[:, None] & movements[None]).any(2).double()  # [K, K]
        painter = float(shares[truth].mean())
        return {"painter": painter, "nearest": painter, "movement": float((shared[truth] @ shares).mean())}

    def told(self, network: TwoHeadClassifier) -> dict[str, Any]:
        """How well the two heads do on the test part."""
        queries, table = self.collection.queries, self.data.painter_movements
        features = predict_features(network, queries.images, precision=self.precision).to(self.device)
        with torch.no_grad():
            painters = network.head(features).argmax(1).cpu()
            movements = (network.attribute_head(features) > 0).cpu()
        truth = table[queries.labels]
        by_name = table[painters]  # the movements of the painter who was named
        return {
            "accuracy": float((painters == queries.labels).double().mean()),
            "majority": self.data.majority,
            "movements": _counts(movements, truth),
            "movements_by_name": _counts(by_name, truth),
        }


def _counts(found: Tensor, truth: Tensor) -> dict[str, Any]:
    """Of decisions bool [N, M]: right ones, false alarms and misses of each movement, and F1 over all of them."""
    right, false, missed = (
        (one & other).sum(0).tolist() for one, other in ((found, truth), (found, ~truth), (~found, truth))
    )
    total = 2 * sum(right) + sum(false) + sum(missed)
    return {"right": right, "false": false, "missed": missed, "f1": 2 * sum(right) / total if total else 0.0}


def run_study(study: Study) -> dict[str, Any]:
    """Train what is not there yet, compare, and write everything.

    Raises:
        StoppedError: The user asked for it.
    """
    out, options, data = study.out, study.options, study.data
    require_own_run_directory(out, study.settings)
    claim_run_directory(out, study.settings)
    (out / "figures").mkdir(parents=True, exist_ok=True)
    started = {"event": "start", "images_seen": 0, **json.loads(json.dumps(study.settings, default=str))}
    RunLog(out / "log.jsonl").append(started)
    queries = study.collection.queries.images
    ways: dict[str, list[dict[str, Any]]] = {}
    told: dict[str, list[dict[str, Any]]] = {}
    sheets: dict[str, Callable[[Tensor], Tensor]] = {}

    def compare(name: str, features: Callable[[Tensor], Tensor]) -> None:
        ways.setdefault(name, []).append(study.precisions(study.search(features, queries)[1]))
        sheets.setdefault(name, features)

    for arm in HEADS:
        for seed in range(options.seeds):
            network = study.trained(arm, seed)
            compare(arm, study.of_network(network))
            told.setdefault(arm, []).append(study.told(network))
            print(f"{arm}, seed {seed}: {told[arm][-1]['accuracy']:.3f} of the painters named", flush=True)
    compare("autoencoder", study.codes(study.autoencoder()))
    compare("components", study.components())
    compare("pixels", study.centred_pixels())
    for seed in range(options.seeds):
        compare("untrained", study.of_network(study.network(seed).to(study.device)))
    ways["chance"] = [study.chance()]
    shutil.copyfile(out / "two-heads-0" / CLASSIFIER_FILE, out / CLASSIFIER_FILE)

    result = {
        **json.loads(json.dumps(study.settings, default=str)),
        "classes": data.classes,
        "movements": data.movements,
        "images": {"collection": len(study.collection.pictures), "queries": len(study.collection.queries)},
        "count": options.count,
        "precision": ways,
        "told": told,
    }
    with written_atomically(out / "results.json") as file:
        file.write((json.dumps(result, indent=1) + "\n").encode())
    write_tables(study, ways, told)
    shown = torch.randperm(len(queries), generator=torch.Generator().manual_seed(options.seed))[:SHOWN]
    for name, path in (("two heads", "similar.png"), ("components", "similar_components.png")):
        draw_sheet(study, sheets[name], shown, f"Most similar by {name}", out / "figures" / path)
    arms = {name: [run["painter"] for run in runs] for name, runs in ways.items() if name != "chance"}
    title = f"Share of the {options.count} nearest that are of the same painter"
    arms_figure(arms, chance=ways["chance"][0]["painter"], title=title, path=out / "figures" / "precision.png")
    write_report(out, title="Similar paintings")
    return result


def share(values: Sequence[float]) -> str:
    """Mean and spread over the seeds, in percent."""
    return single.percent(statistics.fmean(values), statistics.stdev(values) if len(values) > 1 else None)


def write_tables(
    study: Study, ways: Mapping[str, list[dict[str, Any]]], told: Mapping[str, list[dict[str, Any]]]
) -> None:
    """results.md and movements.md."""
    options, data, k = study.options, study.data, study.options.count
    lines = [
        "# Similar paintings",
        "",
        f"{len(study.collection.queries):,} queries, {len(study.collection.pictures):,} pictures to search among, "
        f"{len(data.classes)} painters, {len(data.movements)} movements; {options.seeds} seeds of each network, weight "
        f"of the second loss {options.movement_weight:g}. Share of the {k} nearest, and of the nearest one.",
        "",
        f"| compared by | same painter, {k} nearest | nearest one | a movement in common, {k} nearest |",
        "|---|---|---|---|",
    ]
    for name, runs in ways.items():
        cells = [share([run[key] for run in runs]) for key in ("painter", "nearest", "movement")]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    lines += [
        "",
        "What the heads say of the queries. F1 is over all movements; one head has learned no movements, so that they "
        "are those of the painter it names.",
        "",
        "| network | painter | F1 of movements | F1, movements of the painter named |",
        "|---|---|---|---|",
    ]
    for arm, runs in told.items():
        own = share([run["movements"]["f1"] for run in runs]) if HEADS[arm] else ""
        named = share([run["movements_by_name"]["f1"] for run in runs])
        lines.append(f"| {arm} | {share([run['accuracy'] for run in runs])} | {own} | {named} |")
    lines += ["", f"Always naming the painter with most pictures: {100 * data.majority:.1f} %.", ""]
    (study.out / "results.md").write_text("\n".join(lines), encoding="utf-8")

    first = told["two heads"][0]["movements"]
    lines = ["# Movements, first seed", "", "| movement | precision | recall | pictures |", "|---|---|---|---|"]
    for number, name in enumerate(data.movements):
        right, false, missed = (first[key][number] for key in ("right", "false", "missed"))
        precision = f"{100 * right / (right + false):.0f} %" if right + false else ""
        recall = f"{100 * right / (right + missed):.0f} %" if right + missed else ""
        lines.append(f"| {name} | {precision} | {recall} | {right + missed} |")
    (study.out / "movements.md").write_text("\n".join([*lines, ""]), encoding="utf-8")


def draw_sheet(study: Study, features: Callable[[Tensor], Tensor], shown: Tensor, title: str, path: Path) -> None:
    """Some queries with what is found for them."""
    queries, pictures, classes = study.collection.queries, study.collection.pictures, study.data.classes
    cosines, rows = study.search(features, queries.images[shown])
    truth, found = queries.labels[shown], pictures.labels[rows]
    neighbor_rows(
        queries.images[shown],
        pictures.images[rows],
        query_captions=[classes[label] for label in truth.tolist()],
        captions=[
            [f"{classes[label]}\n{cosine:.2f}" for label, cosine in zip(*pair, strict=True)]
            for pair in zip(found.tolist(), cosines.tolist(), strict=True)
        ],
        fits=found == truth[:, None],
        title=title,
        path=path,
    )


def answer_queries(study: Study, files: Sequence[Path]) -> None:
    """Painter, movements and the most similar works of pictures in files; printed, and a figure of each."""
    network = study.trained("two heads", 0)
    pictures, data, k = study.collection.pictures, study.data, study.options.count
    known = study.of_network(network)(pictures.images)
    for file in files:
        channels = pictures.images.shape[1]
        source = ImageTable((file,), ("query",), ("real",), ("query",), image_channels=channels, crop="squash")
        image = torch.from_numpy(source.read(0, study.options.size))[None]
        same = (pictures.images == image).flatten(1).all(1)  # the picture itself is no answer
        features = study.of_network(network)(image)
        cosines, rows = most_similar(features, known[~same], count=k)
        kept = (~same).nonzero().flatten()[rows[0]].tolist()
        with torch.no_grad():
            seen = features.to(study.device)
            painters = network.head(seen).softmax(1)[0].cpu()
            movements = network.attribute_head(seen).sigmoid()[0].cpu()
        best = int(painters.argmax())
        order = movements.argsort(descending=True).tolist()
        likely = [number for number in order if movements[number] > 0.5] or order[:1]
        described = ", ".join(f"{data.movements[number]} ({100 * float(movements[number]):.0f} %)" for number in likely)
        print(f"\n{file}: {data.classes[best]} ({100 * float(painters[best]):.0f} %); {described}")
        names = []
        for place, row in enumerate(kept):
            painter = data.classes[int(pictures.labels[row])]
            print(f"  {float(cosines[0, place]):.3f}  {painter}  {pictures.names[row]}")
            names.append(f"{painter}\n{float(cosines[0, place]):.2f}")
        safe = re.sub(r"[^\w-]+", "_", file.stem)
        neighbor_rows(
            image, pictures.images[kept][None],
            query_captions=[f"{file.stem}\n{data.classes[best]}?"], captions=[names],
            title=described, path=study.out / "figures" / f"query_{safe}.png",
        )  # fmt: skip


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line and fill in what depends on other choices."""
    parser = argparse.ArgumentParser(
        description="Which works are like this one?", epilog="The same command again goes on where the run was stopped."
    )
    single.add_options(parser, out="runs/similar_paintings")
    add = parser.add_argument
    add("--count", type=int, default=5, help="pictures found for each (default: %(default)s)")
    add("--movement-weight", type=float, default=1.0, help="of the second loss (default: %(default)s)")
    add("--components", type=int, default=64, help="principal components (default: %(default)s)")
    add("--autoencoder-epochs", type=int, help="(default: 20)")
    add("--query", type=Path, nargs="+", default=[], help="picture files to ask about, after training")
    options = parser.parse_args(arguments)
    options.model, options.weights, options.start = "painting_cnn", None, None
    options.freeze = options.backbone_factor = None
    for name, only in (
        ("preset", "library"), ("balance", "none"), ("early_stopping", None), ("test_with", None),
        ("orientation", "true_on_y"),
    ):  # fmt: skip
        value = getattr(options, name)
        if value != only:
            parser.error(f"--{name.replace('_', '-')} is {value}, but this study has no such choice")
    options.autoencoder_epochs = options.autoencoder_epochs or (2 if options.smoke else 20)
    for name in ("count", "components", "autoencoder_epochs"):
        if getattr(options, name) < 1:
            parser.error(f"--{name.replace('_', '-')} is {getattr(options, name)}, but must be at least 1")
    if options.movement_weight < 0:
        parser.error(f"--movement-weight is {options.movement_weight}, but must be 0 or above")
    for file in options.query:
        if not file.is_file():
            parser.error(f"--query is {file}, but there is no such file")
    single.complete(parser, options)
    return options


def train(options: argparse.Namespace) -> int:
    """Prepare the pictures, train, compare and answer."""
    if options.threads:
        torch.set_num_threads(options.threads)
    out = new_run_directory(options.out) if options.fresh else options.out
    study = Study(options, single.open_data(options), out)
    try:
        run_study(study)
    except single.StoppedError:
        print(f"Stopped; the same command goes on from here. See {out}")
        return 130
    print(f"\n{(out / 'results.md').read_text(encoding='utf-8')}")
    if options.query:
        answer_queries(study, options.query)
    print(f"\nSee {out}")
    return 0


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the example; returns the exit code."""
    options = parse(arguments)
    warnings.simplefilter("default")
    try:
        with flushed_denormals():  # before PyTorch starts its threads
            return train(options)
    except (GanblocksError, ValueError, OSError, ImportError) as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
