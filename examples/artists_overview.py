"""Who is in a collection of paintings: numbers, sizes, sheets, movements in common, and seeded splits. Trains nothing.

    python examples/artists_overview.py --data paintings/           # a folder or a zip, a sub-folder for each painter
    python examples/artists_overview.py --data paintings.zip --artists artists.csv --top 5 10 20
    python examples/artists_overview.py --data paintings.zip --on-error skip      # leave out what cannot be read
    python examples/artists_overview.py                             # drawn pictures: no data needed
    python examples/artists_overview.py --smoke                     # the same, without a look at $GANBLOCKS_DATA

Needs: pip install "ganblocks[examples]" (matplotlib and networkx). No GPU. Every picture is read once, in full; what
was found is kept, so that the same command is quick the next time.

The table of painters has the columns name, years, genre, nationality and paintings; artists.csv beside the pictures is
found. Painters are joined to folders by name, however the folder spells it.

The run directory (--out) ends up with
    overview.md              all numbers: of each painter, of the pictures, of each selection and its parts
    report.html              these pictures on one page
    figures/counts_*.png     pictures of each painter, of all and of the --top, beside what the table says
    figures/panel.png        25 pictures by chance, with their painters; random_picture.png one of them, whole
    figures/movements.png    the painters of the table, linked where they share a movement; movements.csv the links
    contact_sheets/          a sheet for each painter; figures/ has those of the smallest selection
    split_*.csv              image, painter, label, part: 64 % training, 16 % validation, 20 % test, each painter alike
    log.jsonl, config.json   what was done; check.json what every file was found to be

All that is chosen by chance hangs on --seed alone. Before you publish the figures: the painter, the photograph or the
collection may have rights in them.
"""

import argparse
import csv
import io
import os
import re
import shutil
import sys
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from ganblocks._files import written_atomically
from ganblocks.data import (
    DatasetReport,
    ImageFolder,
    Paintings,
    Shapes,
    check_images,
    stratified_split,
)
from ganblocks.errors import DataError, EmptyDatasetError, GanblocksError, ImageDecodeError
from ganblocks.training import new_run_directory
from ganblocks.training.logging import RunLog
from ganblocks.training.run_directory import RunLock, claim_run_directory, require_own_run_directory
from ganblocks.visualization.canvas import Canvas, finished
from ganblocks.visualization.grid import save_image_grid
from ganblocks.visualization.movements import count_bars, draw_movements, movement_graph
from ganblocks.visualization.panel import sample_panel
from ganblocks.visualization.report import write_report

PARTS = {"training": 0.64, "validation": 0.16, "test": 0.2}
PANEL = 25  # pictures
SHOWN_SIDE, MOST_ENLARGED = 900, 5  # pixels of the one picture, and times its own, at most
DRAWN = {
    "Doris Disc": "Roundism",
    "Ringo Ring": "Roundism,Hollowism",
    "Sara Square": "Edgism",
    "Zoë Triangle": "Edgism",
}
DRAWN_COUNTS = (30, 24, 18, 12)


class Collection:
    """The pictures that can be read, and chance.

    Args:
        paintings: All of them.
        report: What a check has found.
        seed: Of every choice.
    """

    def __init__(self, paintings: Paintings, report: DatasetReport, seed: int) -> None:
        self.paintings = paintings
        self.report = report
        self.seed = seed
        names = set(paintings.names)
        self.bad = {file.name: file.reason for file in report.bad if file.name in names}
        self.readable = self.rows(paintings)

    def rows(self, paintings: Paintings) -> NDArray[np.int64]:
        """Those of a selection that can be read."""
        return np.array([row for row, name in enumerate(paintings.names) if name not in self.bad], dtype=np.int64)

    def some(self, count: int, *, painter: int | None = None, stream: int = 0) -> list[int]:
        """Up to so many rows by chance, in a chance order; of one painter, or of all."""
        rows = self.readable
        if painter is not None:
            rows = rows[self.paintings.labels[rows] == painter]
        return np.random.default_rng([self.seed, stream]).permutation(rows)[:count].tolist()

    def images(self, rows: Sequence[int], resolution: int) -> torch.Tensor:
        """Pictures as squares, uint8 [N, 3, resolution, resolution]."""
        return torch.from_numpy(np.stack([self.paintings.read(row, resolution) for row in rows]))


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line and fill in what depends on other choices."""
    parser = argparse.ArgumentParser(description="Tables and figures of a collection of paintings, and seeded splits.")
    add = parser.add_argument
    add("--data", type=Path, help="folder or zip (default: $GANBLOCKS_DATA/best_artworks, else drawn pictures)")
    add("--artists", type=Path, help="table of painters (default: artists.csv in or beside --data)")
    add("--out", type=Path, default=Path("runs/artists_overview"), help="run directory (default: %(default)s)")
    add("--fresh", action="store_true", help="start anew in a new directory, OUT-2 and so on")
    add("--top", type=int, nargs="+", default=[5, 10], help="painters with most pictures to select (default: 5 10)")
    add("--sheet-side", type=int, default=64, help="pixels of a picture on a contact sheet (default: %(default)s)")
    add("--sheet-pictures", type=int, default=40, help="pictures on a contact sheet (default: %(default)s)")
    add("--keep-aliases", action="store_true", help="each folder is a painter of its own, however it is spelt")
    add("--allow-unknown", action="store_true", help="take folders without a row in --artists (default: an error)")
    add("--on-error", choices=("raise", "skip"), default="raise", help="for unreadable files (default: %(default)s)")
    add("--seed", type=int, default=0)
    add("--workers", type=int, default=max(1, min(4, os.cpu_count() or 1)), help="threads that read pictures")
    add("--smoke", action="store_true", help="a trial of some seconds: drawn pictures")
    options = parser.parse_args(arguments)
    for name, least in (("top", 1), ("sheet_side", 4), ("sheet_pictures", 1), ("seed", 0), ("workers", 1)):
        value = getattr(options, name)
        for number in value if isinstance(value, list) else [value]:
            if number < least:
                parser.error(f"--{name.replace('_', '-')} is {number}, but must be at least {least}")
    if options.smoke and (options.data or options.artists):
        parser.error("--smoke is given with --data or --artists, but a trial has drawn pictures")
    root = os.environ.get("GANBLOCKS_DATA")
    if options.data is None and not options.smoke and root and (Path(root) / "best_artworks").exists():
        options.data = Path(root) / "best_artworks"
    return options


def draw_pictures(folder: Path) -> None:
    """Make a small collection of files with a table, where the user has none."""
    table = "name,years,genre,nationality,paintings\r\n"
    for (name, genre), count in zip(DRAWN.items(), DRAWN_COUNTS, strict=True):
        table += f'{name},1900 - 1980,"{genre}",drawn,{count}\r\n'
    if not (folder / "artists.csv").exists():
        with written_atomically(folder / "artists.csv", sole_writer=True) as file:
            file.write(table.encode())
    shapes = Shapes(len(DRAWN) * max(DRAWN_COUNTS))
    for label, (name, count) in enumerate(zip(DRAWN, DRAWN_COUNTS, strict=True)):
        painter = name.replace(" ", "_")
        for number in range(count):
            path = folder / painter / f"{painter}_{number + 1}.png"
            if not path.exists():
                pixels = shapes.read(label + len(DRAWN) * number, 80).transpose(1, 2, 0)
                with written_atomically(path, sole_writer=True) as file:
                    Image.fromarray(pixels).resize((80, 60 + 10 * (number % 3))).save(file, "PNG")


def open_data(options: argparse.Namespace, out: Path) -> Paintings:
    """The pictures with their painters; of several zips in a folder, the one with the most pictures."""
    data: Path = options.data
    if data is None:
        data = out / "drawn_images"
        print(f"No files: using {sum(DRAWN_COUNTS)} drawn pictures.")
        draw_pictures(data)
    elif data.is_dir() and out.resolve().is_relative_to(data.resolve()):
        raise DataError(f"--out {out} lies within --data {data}: a second run would take its figures for paintings")
    try:
        source = ImageFolder(data)
    except EmptyDatasetError:
        archives = [ImageFolder(path) for path in sorted(data.glob("*.zip"))]
        if not archives:
            raise
        source = max(archives, key=len)
        print(f"{len(archives)} archives in {data}: using {source.source.name}")
    beside = [folder / "artists.csv" for folder in (data, data.parent)]
    table = options.artists or next((path for path in beside if path.is_file()), None)
    if table is None:
        raise DataError(f"there is no artists.csv in or beside {data}: name the table of painters with --artists")
    return Paintings(source, table, merge_aliases=not options.keep_aliases, strict=not options.allow_unknown)


# --- numbers


def markdown(head: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """A table; numbers with commas."""

    def line(cells: Sequence[object]) -> str:
        texts = (f"{cell:,}" if isinstance(cell, int) else str(cell).replace("|", "\\|") for cell in cells)
        return f"| {' | '.join(texts)} |\n"

    return line(head) + line(["---"] * len(head)) + "".join(map(line, rows))


def painters_table(collection: Collection) -> str:
    """How many there are of each painter, beside the table's number."""
    paintings = collection.paintings
    counts = sorted(paintings.counts(), key=lambda count: (-count.found, count.painter))
    artist_of = {artist.name: artist for artist in paintings.artists}
    artist_of |= {name: own for name, own in zip(paintings.classes, paintings.painters, strict=True) if own}
    movements = {name: ", ".join(artist.movements) for name, artist in artist_of.items()}
    rows = []
    for count in counts:
        folders = ", ".join(count.folders) if len(count.folders) > 1 else ""
        expected = "-" if count.expected is None else count.expected
        rows.append([count.painter, count.found, expected, movements.get(count.painter, "-"), folders])
    found, expected_sum = sum(count.found for count in counts), sum(count.expected or 0 for count in counts)
    rows.append(["all", found, expected_sum, f"{len(paintings.movements)} movements of those found", ""])
    return markdown(["painter", "found", "in the table", "movements", "folders, if several"], rows)


def pictures_table(report: DatasetReport) -> str:
    """Sizes and kinds of the pictures."""
    sizes = np.array(
        [[int(side) for side in size.split("x")] for size in report.sizes for _ in range(report.sizes[size])]
    )
    width, height = sizes.T
    rows: list[list[object]] = []
    for name, values, form in (
        ("width", width, "{:.0f}"),
        ("height", height, "{:.0f}"),
        ("width / height", width / height, "{:.2f}"),
    ):
        cuts = [form.format(value) for value in np.quantile(values, [0, 0.25, 0.5, 0.75, 1])]
        rows.append([name, *cuts])
    text = markdown(["pixels", "least", "lower quarter", "median", "upper quarter", "most"], rows)
    common = ", ".join(f"{size} ({count:,})" for size, count in list(report.sizes.items())[:5])
    text += f"\n{len(report.sizes):,} sizes, the commonest: {common}.\n"
    for name, values in (("Modes", report.modes), ("Formats", report.formats)):
        text += f"{name}: {', '.join(f'{kind} ({count:,})' for kind, count in values.items())}.\n"
    copies = sum(len(group) - 1 for group in (*report.duplicates, *report.same_pixels))
    return text + f"Pictures that another one equals, by bytes or by pixels: {copies:,}.\n"


def table_selections(paintings: Paintings, sizes: Sequence[int]) -> str:
    """Which painters would be selected if all pictures of the table were there."""
    artists = sorted(paintings.artists, key=lambda artist: (-artist.paintings, artist.name))
    text = ""
    for k in sorted({k for k in sizes if k < len(artists)}):
        numbers = [artist.paintings for artist in artists[:k]]
        listed = ", ".join(f"{artist.name} {artist.paintings:,}" for artist in artists[:k])
        share = f"{100 * numbers[0] / max(1, sum(numbers)):.1f} %"
        text += (
            f"\nBy the table's numbers, the {k} would be {sum(numbers):,} pictures, majority rate {share}: {listed}.\n"
        )
    return text


def selections(paintings: Paintings, sizes: Sequence[int]) -> Iterator[tuple[str, Paintings]]:
    """The painters with most pictures, by number, then all."""
    for k in sorted({k for k in sizes if k < len(paintings.classes)}):
        yield str(k), paintings.top(k)
    yield "all", paintings


def write_split(collection: Collection, name: str, selected: Paintings, path: Path) -> list[object]:
    """Divide a selection, write who is in which part, and return its row of the table."""
    rows = collection.rows(selected)
    labels = selected.labels[rows]
    parts = stratified_split(labels, tuple(PARTS.values()), seed=collection.seed)
    part_of = {int(rows[index]): part for part, members in zip(PARTS, parts, strict=True) for index in members}
    names = selected.names
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\r\n")
    writer.writerow(["image", "painter", "label", "part"])
    for row, label in zip(rows.tolist(), labels.tolist(), strict=True):
        writer.writerow([names[row], selected.classes[label], label, part_of[row]])
    with written_atomically(path, sole_writer=True) as file:
        file.write(text.getvalue().encode("utf-8", "surrogateescape"))
    counts = np.bincount(labels, minlength=len(selected.classes))
    largest = int(counts.argmax())
    test = labels[parts[-1]]
    without = len(selected.classes) - min(len(np.unique(labels[members])) for members in parts)
    return [
        name,
        len(rows),
        f"{selected.classes[largest]} ({counts[largest]:,})",
        f"{100 * counts[largest] / len(rows):.1f} %",
        f"{counts.max() / max(1, counts.min()):.1f}",
        " / ".join(f"{len(members):,}" for members in parts),
        f"{100 * np.mean(test == largest):.1f} %",
        without,
    ]


# --- figures


def file_name(painter: str) -> str:
    """The painter, as the name of a file."""
    return re.sub(r"[/\\:\0\s]+|^\.", "_", painter)


def draw_counts(collection: Collection, name: str, selected: Paintings, folder: Path) -> None:
    """Bars of how many pictures there are of each painter of a selection."""
    counts = [count for count in selected.counts() if count.found]
    count_bars(
        [count.painter for count in counts],
        [count.found for count in counts],
        expected=[count.expected for count in counts],
        title=f"Pictures of {'all' if name == 'all' else 'the first'} {len(counts)} painters",
        path=folder / f"counts_{name}.png",
    )


def draw_pictures_by_chance(collection: Collection, folder: Path) -> None:
    """Twenty-five with their painters, and one as it is."""
    paintings = collection.paintings
    rows = collection.some(PANEL)
    sample_panel(
        collection.images(rows, 168),
        torch.from_numpy(paintings.labels[rows]),
        classes=paintings.classes,
        title="Pictures by chance",
        path=folder / "panel.png",
    )
    (row,) = collection.some(1, stream=1)
    position = paintings.source.names.index(paintings.names[row])
    picture = paintings.source.load(position).convert("RGB")
    width, height = picture.size
    scale = min(MOST_ENLARGED, SHOWN_SIDE / max(width, height))
    shown = max(1, round(width * scale)), max(1, round(height * scale))
    title = f"{paintings.classes[paintings.labels[row]]}, {width} x {height} pixels"
    canvas = Canvas(shown[0] + 40, shown[1] + 40, title=title)
    canvas.place(np.asarray(picture), 20, 20, *shown)
    finished(canvas.figure, folder / "random_picture.png")


def draw_sheets(collection: Collection, side: int, pictures: int, out: Path, shown: Sequence[str]) -> None:
    """A contact sheet for each painter; those of the painters ``shown`` are figures of the report, too."""
    for label, painter in enumerate(collection.paintings.classes):
        rows = sorted(collection.some(pictures, painter=label, stream=2))
        path = out / "contact_sheets" / f"{file_name(painter)}.png"
        if rows:
            save_image_grid(collection.images(rows, side), path, columns=8)
            if painter in shown:
                shutil.copy(path, out / "figures" / f"sheet_{path.name}")


def write_links(paintings: Paintings, out: Path) -> str:
    """Draw and write the graph of the table's painters, and tell of it in a sentence."""
    names = [artist.name for artist in paintings.artists]
    movements = [artist.movements for artist in paintings.artists]
    draw_movements(names, movements, title="Painters who share a movement", path=out / "figures" / "movements.png")
    graph = movement_graph(names, movements)
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\r\n")
    writer.writerow(["painter", "other", "movements"])
    writer.writerows([first, second, ", ".join(own)] for first, second, own in graph.edges(data="movements"))
    with written_atomically(out / "movements.csv", sole_writer=True) as file:
        file.write(text.getvalue().encode())
    alone = sorted(name for name, degree in graph.degree() if degree == 0)
    told = f"; {len(alone)} share none: {', '.join(alone)}" if alone else ""
    return f"{len(names)} painters of the table, {graph.number_of_edges()} pairs share a movement{told}.\n"


# --- the command


def overview(options: argparse.Namespace) -> int:
    """Look at every picture, then draw and write."""
    out: Path = new_run_directory(options.out) if options.fresh else options.out
    paintings = open_data(options, out)
    settings: dict[str, Any] = {
        "data": paintings.fingerprint,
        **{name: getattr(options, name) for name in ("top", "sheet_side", "sheet_pictures", "seed", "keep_aliases")},
    }
    require_own_run_directory(out, settings)
    with RunLock(out):
        report = check_images(paintings.source.source, crop="center", cache=out / "check.json", workers=options.workers)
        collection = Collection(paintings, report, options.seed)
        if collection.bad and options.on_error == "raise":
            name, reason = next(iter(collection.bad.items()))
            raise ImageDecodeError(
                f"{len(collection.bad)} pictures cannot be read, such as {name!r}: {reason}; --on-error skip leaves "
                "them out"
            )
        if not len(collection.readable):
            raise EmptyDatasetError(f"none of the {len(paintings)} pictures of {paintings.source.source} can be read")
        claim_run_directory(out, settings)
        log = RunLog(out / "log.jsonl")
        log.append({"event": "start", "images_seen": 0, "pictures": len(paintings), "seed": options.seed})
        write_all(collection, options, out, log)
    return 0


def write_all(collection: Collection, options: argparse.Namespace, out: Path, log: RunLog) -> None:
    """Tables, splits, figures and the page."""
    paintings = collection.paintings
    figures = out / "figures"
    figures.mkdir(parents=True, exist_ok=True)
    rows = []
    chosen = list(selections(paintings, options.top))
    for name, selected in chosen:
        draw_counts(collection, name, selected, figures)
        rows.append(write_split(collection, name, selected, out / f"split_{name}.csv"))
        log.append(
            {"event": "selection", "images_seen": 0, "painters": list(selected.classes), "pictures": rows[-1][1]}
        )
    draw_pictures_by_chance(collection, figures)
    links = write_links(paintings, out)
    draw_sheets(collection, options.sheet_side, options.sheet_pictures, out, chosen[0][1].classes[:10])

    head = ["painters", "pictures", "largest", "majority rate", "largest / smallest", " / ".join(PARTS)]
    text = f"# {len(paintings):,} pictures of {len(paintings.classes)} painters\n\n## Painters\n\n"
    text += painters_table(collection) + f"\n{links}\n## Pictures\n\n" + pictures_table(collection.report)
    if paintings.copies:
        text += f"Copies in two folders of one painter, left out: {len(paintings.copies):,}.\n"
    for name, reason in collection.bad.items():
        text += f"\n- {name}, left out of all but the numbers found: {reason}\n"
    text += f"\n## Selections, and their parts by seed {options.seed}\n\n"
    text += markdown([*head, "majority rate of the test part", "painters that a part lacks"], rows)
    text += "\nThe majority rate is what always naming the largest painter gets right.\n"
    for name, selected in chosen[:-1]:
        counts = {count.painter: count.found for count in selected.counts()}
        listed = ", ".join(
            f"{painter} {counts[painter]:,}" for painter in sorted(counts, key=lambda p: (-counts[p], p))
        )
        text += f"\nThe {name}: {listed}.\n"
    text += table_selections(paintings, options.top)
    with written_atomically(out / "overview.md", sole_writer=True) as file:
        file.write(text.encode("utf-8", "backslashreplace"))
    log.append({"event": "end", "images_seen": len(paintings)})
    write_report(out, title=f"{len(paintings):,} pictures of {len(paintings.classes)} painters")
    print(text.encode("utf-8", "backslashreplace").decode())
    print(f"See {out}")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the example; returns the exit code."""
    options = parse(arguments)
    warnings.simplefilter("default")
    try:
        return overview(options)
    except (GanblocksError, ValueError, OSError, ImportError) as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
