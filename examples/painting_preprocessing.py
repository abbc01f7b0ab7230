"""From a folder of paintings to arrays: resize, augment, normalise, and a one-hot table of painters. Trains nothing.

    python examples/painting_preprocessing.py --data paintings/       # a folder or a zip, a sub-folder for each painter
    python examples/painting_preprocessing.py --data paintings.zip --limit-per-class 1    # a first look
    python examples/painting_preprocessing.py --data paintings.zip --policy keras --workers 8 --on-error skip
    python examples/painting_preprocessing.py                         # drawn pictures: no data needed
    python examples/painting_preprocessing.py --smoke                 # the same in little

Needs: pip install "ganblocks[train,vision]". No GPU. Each picture becomes 11 files, of which the arrays are large: 5 of
1 MiB at 300 px in float32, so 8,446 pictures need 46 GB; --no-arrays leaves them out.

The painters are the folders, under the names of --artists where there is a table of them (artists.csv beside the
pictures is found); folders that spell one painter in two ways are one painter, unless --keep-aliases.

The run directory (--out) ends up with
    resized_images/PAINTER/STEM resized.jpg            300x300 whatever the shape was, JPEG quality 90
    generated_images/PAINTER/STEM resized I generated.jpg              I = 0: the same; 1 to 4: changed at random
    normalized_images/PAINTER/STEM resized I generated normalized.npy  [300, 300, 3] from 0 to 1, float32
    one_hot.csv              every file of --data with its painter and its list of zeros and a one
    normalized_one_hot.csv   the same for every array
    figures/variants.png     a painting and its four variants, by both policies
    summary.md               numbers per painter, and what was odd, unreadable or renamed
    preprocessing.log        what happened when; config.json has the settings, log.jsonl the command and the versions

The same pictures come out whatever --workers and --limit-per-class are: what is random hangs on --seed, the painter and
the file's name alone. Stopping (Ctrl-C, SIGTERM, a crash) loses nothing: the same command goes on, and makes only what
is missing or not whole. --policy pil and keras are not the same: see ganblocks.data.painting_augmentation.
"""

import argparse
import dataclasses
import functools
import hashlib
import io
import json
import multiprocessing
import os
import re
import shutil
import signal
import sys
import threading
import time
import unicodedata
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path, PurePosixPath
from typing import IO, Any, get_args

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from tqdm import tqdm

from ganblocks._files import written_atomically
from ganblocks.data import ImageFolder, PaintingPolicy, Paintings, Shapes, painting_augmentation, write_label_table
from ganblocks.data.decode import image_header
from ganblocks.data.items import kept_generators
from ganblocks.data.unreadable import ErrorPolicy, LeftOut
from ganblocks.errors import DataError, EmptyDatasetError, GanblocksError, WorkerDiedError
from ganblocks.training import RunLog, new_run_directory
from ganblocks.training.interrupt import GracefulStop
from ganblocks.training.run_directory import RunLock, claim_run_directory, require_own_run_directory
from ganblocks.visualization.panel import sample_panel

VARIANTS = 4  # of each picture, beside itself
QUALITY = 90
SUFFIXES = {"JPEG": (".jpg", ".jpeg", ".jfif"), "PNG": (".png",), "GIF": (".gif",), "BMP": (".bmp",)}
SUFFIXES |= {"TIFF": (".tif", ".tiff"), "WEBP": (".webp",), "PPM": (".pbm", ".pgm", ".pnm", ".ppm")}
DRAWN = {
    "Doris Disc": "Roundism",
    "Ringo Ring": "Roundism,Hollowism",
    "Sara Square": "Edgism",
    "Zoë Triangle": "Edgism",
}
DRAWN_EACH, DRAWN_SIZE = 3, (320, 240)


@dataclasses.dataclass(frozen=True)
class Task:
    """A picture: its number in the source, and PAINTER/STEM of what it becomes."""

    row: int
    place: str


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What became of a picture: how many files were written, what is odd about it, and why there are none."""

    task: Task
    written: int = 0
    odd: tuple[str, ...] = ()
    unreadable: str | None = None


@dataclasses.dataclass(frozen=True)
class Plan:
    """What every picture becomes, a pure function of its file; the same in all processes.

    Attributes:
        source: The pictures.
        out: The run directory.
        size: Side of the results.
        policy: Of the variants.
        seed: Of the variants.
        array_type: "float32" or "float64"; None writes no arrays.
        on_error: "raise" or "skip", for a file that cannot be read.
    """

    source: ImageFolder
    out: Path
    size: int
    policy: PaintingPolicy
    seed: int
    array_type: str | None
    on_error: Any

    def resized(self, task: Task) -> Path:
        """Where the picture lies in its new size."""
        return self.out / "resized_images" / f"{task.place} resized.jpg"

    def generated(self, task: Task, number: int) -> Path:
        """Where a variant lies, 0 for the picture itself."""
        return self.out / "generated_images" / f"{task.place} resized {number} generated.jpg"

    def normalized(self, task: Task, number: int) -> Path:
        """Where a variant lies as an array."""
        return self.out / "normalized_images" / f"{task.place} resized {number} generated normalized.npy"

    def process(self, task: Task) -> Outcome:
        """Make what is missing of a picture.

        Raises:
            DataError: The file cannot be read, and is not to be skipped.
            OSError: A result could not be written.
        """
        made = ErrorPolicy(self.on_error, None).attempt(self.source, task.row, lambda: self._process(task))
        return Outcome(task, unreadable=made.reason) if isinstance(made, LeftOut) else made

    def _process(self, task: Task) -> Outcome:
        name = self.source.names[task.row]
        encoded = self.source.encoded(task.row)
        header = image_header(io.BytesIO(encoded), name, max_pixels=self.source.max_pixels)
        odd = [f"mode {header.mode}"] if header.mode != "RGB" else []
        if PurePosixPath(name).suffix.lower() not in SUFFIXES.get(header.format, ()):
            odd.append(f"{header.format} inside")
        written = 0
        resized = self.resized(task)
        if not is_whole_jpeg(resized, self.size):
            write_jpeg(resized, self.source.load(task.row).resize((self.size, self.size)))  # by Pillow's own filter
            written += 1
        pixels: Tensor | None = None  # of `resized`
        for number in range(VARIANTS + 1):
            path, array_path = self.generated(task, number), self.normalized(task, number)
            if not is_whole_jpeg(path, self.size):
                if number == 0:  # unmodified, to the byte
                    with written_atomically(path, sole_writer=True) as file:
                        file.write(resized.read_bytes())
                else:
                    pixels = read_pixels(resized) if pixels is None else pixels
                    changed = variant(self.policy, pixels, self.seed, task.place, number)
                    write_jpeg(path, Image.fromarray(changed.permute(1, 2, 0).numpy()))
                written += 1
            if self.array_type and not is_whole_array(array_path, self.size, self.array_type):
                array = read_pixels(path).permute(1, 2, 0).numpy() / 255.0
                with written_atomically(array_path, sole_writer=True) as file:
                    np.save(file, np.ascontiguousarray(array, dtype=self.array_type))
                written += 1
        return Outcome(task, written, tuple(odd))


def variant(policy: PaintingPolicy, pixels: Tensor, seed: int, place: str, number: int) -> Tensor:
    """Change an image [3, H, W] at random, by what it is called and nothing else."""
    digest = hashlib.sha256(json.dumps([seed, policy, place, number]).encode()).digest()
    with kept_generators():
        torch.default_generator.manual_seed(int.from_bytes(digest[:8], "little") >> 1)
        return painting_augmentation(policy)(pixels)


def write_jpeg(path: Path, picture: Image.Image) -> None:
    """Write it whole or not at all."""
    with written_atomically(path, sole_writer=True) as file:
        picture.save(file, "JPEG", quality=QUALITY)


def read_pixels(path: Path) -> Tensor:
    """uint8 [3, H, W] of one of our own files."""
    try:
        with Image.open(path) as picture:
            return torch.from_numpy(np.array(picture.convert("RGB"))).permute(2, 0, 1)
    except OSError as error:
        raise OSError(f"{path} is damaged ({error}); remove it, and the same command makes it again") from error


def is_whole_jpeg(path: Path, size: int) -> bool:
    """Whether a JPEG of this side is there to its last byte: the mark of its end occurs nowhere before it."""
    try:
        with path.open("rb") as file, Image.open(file) as picture:
            fits = picture.format == "JPEG" and picture.size == (size, size)
            file.seek(-2, os.SEEK_END)
            return fits and file.read() == b"\xff\xd9"
    except OSError:  # not there, no picture
        return False


@functools.cache
def array_header(size: int, array_type: str) -> bytes:
    """What the file of an array begins with."""
    file = io.BytesIO()
    form = {"descr": np.dtype(array_type).str, "fortran_order": False, "shape": (size, size, 3)}
    np.lib.format.write_array_header_1_0(file, form)
    return file.getvalue()


def is_whole_array(path: Path, size: int, array_type: str) -> bool:
    """Whether an array of this form is there to its last byte."""
    header = array_header(size, array_type)
    try:
        with path.open("rb") as file:
            length = os.fstat(file.fileno()).st_size
            return file.read(len(header)) == header and length == len(header) + array_bytes(size, array_type)
    except OSError:
        return False


def array_bytes(size: int, array_type: str) -> int:
    """Of the numbers alone."""
    return size * size * 3 * np.dtype(array_type).itemsize


# --- processes

_plan: Plan | None = None  # of this process


def begin(plan: Plan) -> None:
    """Prepare a process: it leaves Ctrl-C and SIGTERM to the main one, and ends with it."""
    global _plan
    _plan = plan
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    torch.set_num_threads(1)

    def end_with_parent() -> None:
        parent = multiprocessing.parent_process()
        if parent is not None:
            parent.join()
            os._exit(1)

    threading.Thread(target=end_with_parent, daemon=True).start()


def process(task: Task) -> Outcome:
    """`Plan.process` of this process's plan."""
    assert _plan is not None
    return _plan.process(task)


def outcomes(plan: Plan, tasks: Sequence[Task], workers: int, stop: GracefulStop) -> Iterator[Outcome]:
    """Process all pictures, until a stop is asked for; in any order where there are several processes."""
    if workers == 1:
        for single in tasks:
            if stop.requested:
                return
            yield plan.process(single)
        return
    kind = "forkserver" if "forkserver" in multiprocessing.get_all_start_methods() else "spawn"
    context = multiprocessing.get_context(kind)
    if kind == "forkserver":  # what it imports need not be imported in each process
        context.set_forkserver_preload(
            ["ganblocks.data.fork_server", "ganblocks.training", "torchvision.transforms.v2.functional"]
        )
    waiting: set[Future[Outcome]] = set()
    task: Task | None
    remaining = iter(tasks)
    with ProcessPoolExecutor(workers, mp_context=context, initializer=begin, initargs=(plan,)) as pool:
        try:
            while True:
                while len(waiting) < 2 * workers and not stop.requested and (task := next(remaining, None)):
                    waiting.add(pool.submit(process, task))
                if not waiting:
                    return
                done, waiting = wait(waiting, return_when=FIRST_COMPLETED)
                for future in done:
                    yield future.result()
        except (BrokenProcessPool, ConnectionError, EOFError) as error:
            if stop.requested:  # what stops us may have reached a process before it was told to ignore that
                return
            raise WorkerDiedError(
                "a process has died; the system ends some when memory is short. The same command goes on from here; "
                "--workers 1 shows an error in place"
            ) from error
        finally:
            for future in waiting:
                future.cancel()


# --- the command


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line and fill in what depends on other choices."""
    parser = argparse.ArgumentParser(
        description="Resize, augment and normalise paintings, and write a one-hot table of their painters.",
        epilog="The same command again goes on where it was stopped.",
    )
    add = parser.add_argument
    add("--data", type=Path, help="folder or zip (default: $GANBLOCKS_DATA/best_artworks, else drawn pictures)")
    add("--artists", type=Path, help="table of painters (default: artists.csv in or beside --data, if it is there)")
    add("--out", type=Path, default=Path("runs/painting_preprocessing"), help="run directory (default: %(default)s)")
    add("--fresh", action="store_true", help="start anew in a new directory, OUT-2 and so on")
    add("--policy", choices=get_args(PaintingPolicy), default="pil", help="of the variants (default: %(default)s)")
    add("--size", type=int, default=300, help="side of the results (default: %(default)s)")
    add("--float64", action="store_true", help="arrays in float64 (default: float32)")
    add("--no-arrays", action="store_true", help="write no arrays")
    add("--limit-per-class", type=int, help="only the first pictures of each painter (default: all)")
    add("--document-names", action="store_true", help="file names without folder in one_hot.csv (default: paths)")
    add("--keep-aliases", action="store_true", help="each folder is a painter of its own, however it is spelt")
    add("--allow-unknown", action="store_true", help="take folders without a row in --artists (default: an error)")
    add("--on-error", choices=("raise", "skip"), default="raise", help="for unreadable files (default: %(default)s)")
    add("--seed", type=int, default=0)
    add("--workers", type=int, default=max(1, min(8, os.cpu_count() or 1)), help="processes (default: one a core)")
    add("--smoke", action="store_true", help="a trial of some seconds: drawn pictures, one of each painter")
    options = parser.parse_args(arguments)
    for name, least in (("size", 8), ("limit_per_class", 1), ("seed", 0), ("workers", 1)):
        value = getattr(options, name)
        if value is not None and value < least:
            parser.error(f"--{name.replace('_', '-')} is {value}, but must be at least {least}")
    if options.smoke and (options.data or options.artists):
        parser.error("--smoke is given with --data or --artists, but a trial has drawn pictures")
    if options.smoke:
        options.limit_per_class, options.workers = options.limit_per_class or 1, 1
    root = os.environ.get("GANBLOCKS_DATA")
    if options.data is None and not options.smoke and root and (Path(root) / "best_artworks").exists():
        options.data = Path(root) / "best_artworks"
    return options


def draw_pictures(folder: Path) -> None:
    """Make a small collection of files with a table, where the user has none."""
    table = "name,years,genre,nationality,paintings\r\n"
    table += "".join(f'{name},1900 - 1980,"{genre}",drawn,{DRAWN_EACH}\r\n' for name, genre in DRAWN.items())
    if not (folder / "artists.csv").exists():
        with written_atomically(folder / "artists.csv", sole_writer=True) as file:
            file.write(table.encode())
    shapes = Shapes(DRAWN_EACH * len(DRAWN))
    for index, label in enumerate(np.arange(len(shapes)) % len(DRAWN)):
        painter = list(DRAWN)[label].replace(" ", "_")
        path = folder / painter / f"{painter}_{index // len(DRAWN) + 1}.jpg"
        if not path.exists():
            picture = Image.fromarray(shapes.read(index, max(DRAWN_SIZE)).transpose(1, 2, 0))
            write_jpeg(path, picture.resize(DRAWN_SIZE))


def open_data(options: argparse.Namespace, out: Path) -> Paintings:
    """The pictures with their painters; of several zips in a folder, the one with the largest pictures."""
    data: Path = options.data
    if data is None:
        data = out / "drawn_images"
        print(f"No files: using {DRAWN_EACH * len(DRAWN)} drawn pictures.")
        draw_pictures(data)
    elif data.is_dir() and out.resolve().is_relative_to(data.resolve()):
        raise DataError(f"--out {out} lies within --data {data}: a second run would take its results for paintings")
    try:
        source = ImageFolder(data)
    except EmptyDatasetError:
        archives = [ImageFolder(path) for path in sorted(data.glob("*.zip"))]
        if not archives:
            raise
        source = max(archives, key=lambda archive: archive.size(0))
        print(f"{len(archives)} archives in {data}: using {source.source.name}")
    beside = [folder / "artists.csv" for folder in (data, data.parent)]
    table = options.artists or next((path for path in beside if path.is_file()), None)
    if table is None:
        print("No table of painters: they are called like their folders.")
    strict = table is not None and not options.allow_unknown
    return Paintings(source, table or (), merge_aliases=not options.keep_aliases, strict=strict)


def places(paintings: Paintings) -> tuple[list[str], list[str]]:
    """PAINTER/STEM for each picture, no two alike even where upper case does not count, and which had to be renamed."""
    folders = []
    for name, artist in zip(paintings.classes, paintings.painters, strict=True):
        own = len([other for other in paintings.painters if other is artist]) == 1  # not one of several aliases
        folder = artist.folder if artist is not None and own else name.replace(" ", "_")
        folders.append(re.sub(r"[/\\:\0]|^\.", "_", folder))
    result, renamed, taken = [], [], set()
    for name, label in zip(paintings.names, paintings.labels.tolist(), strict=True):
        stem = f"{folders[label]}/{PurePosixPath(name).stem}"
        place, number = stem, 1
        while (key := unicodedata.normalize("NFC", place).casefold()) in taken:
            number += 1
            place = f"{stem} {number}"
        taken.add(key)
        result.append(place)
        if place != stem:
            renamed.append(f"{name}: {place}")
    return result, renamed


def chosen_tasks(paintings: Paintings, limit: int | None) -> tuple[list[Task], list[int], list[str]]:
    """The pictures to process, their labels, and which names had to be changed."""
    row_of = {name: row for row, name in enumerate(paintings.source.names)}
    where, renamed = places(paintings)
    seen: Counter[int] = Counter()
    tasks, labels = [], []
    for name, place, label in zip(paintings.names, where, paintings.labels.tolist(), strict=True):
        seen[label] += 1
        if limit is None or seen[label] <= limit:
            tasks.append(Task(row_of[name], place))
            labels.append(label)
    return tasks, labels, renamed


def require_room(plan: Plan, tasks: Sequence[Task]) -> None:
    """Refuse to fill the disk.

    Raises:
        OSError: The arrays that are missing need more than there is.
    """
    if plan.array_type is None:
        return
    paths = [plan.normalized(task, number) for task in tasks for number in range(VARIANTS + 1)]
    needed = sum(not path.exists() for path in paths) * array_bytes(plan.size, plan.array_type)
    free = shutil.disk_usage(plan.out).free
    if needed > free:
        raise OSError(
            f"the arrays need {needed / 1e9:.1f} GB, but {plan.out} has {free / 1e9:.1f} GB left; --no-arrays leaves "
            "them out, --limit-per-class takes fewer pictures"
        )


def draw_variants(plan: Plan, tasks: Sequence[Task], path: Path) -> None:
    """Draw the first picture that can be read, with its variants by both policies."""
    for task in tasks:
        try:
            picture = plan.source.load(task.row).resize((plan.size, plan.size))
        except DataError:  # told where it is processed
            continue
        pixels = torch.from_numpy(np.array(picture)).permute(2, 0, 1)
        images, names = [], []
        for policy in get_args(PaintingPolicy):
            images += [pixels, *(variant(policy, pixels, plan.seed, task.place, n + 1) for n in range(VARIANTS))]
            names += [f"{policy} {number}" if number else "unmodified" for number in range(VARIANTS + 1)]
        sample_panel(
            torch.stack(images), torch.arange(len(images)), classes=names, rows=2, title=task.place, path=path
        )  # fmt: skip
        return


def write_tables(plan: Plan, paintings: Paintings, kept: Sequence[tuple[Task, int]], document_names: bool) -> None:
    """The one-hot tables: of every file there is, and of every array."""
    names = [PurePosixPath(name).name if document_names else name for name in paintings.names]
    write_label_table(plan.out / "one_hot.csv", names, paintings.labels, paintings.classes)
    if plan.array_type is not None:
        rows = [(plan.normalized(task, n), label) for task, label in kept for n in range(VARIANTS + 1)]
        arrays = [path.relative_to(plan.out).as_posix() for path, _ in rows]
        labels = np.array([label for _, label in rows], dtype=np.int64)
        write_label_table(plan.out / "normalized_one_hot.csv", arrays, labels, paintings.classes)


def summary(plan: Plan, paintings: Paintings, found: Sequence[tuple[Outcome, int]], renamed: Sequence[str]) -> str:
    """What was done, as Markdown; the same however often it was stopped."""
    good = Counter(label for outcome, label in found if outcome.unreadable is None)
    bad = Counter(label for outcome, label in found if outcome.unreadable is not None)
    text = (
        f"# {sum(good.values()):,} paintings of {len(good)} painters, {plan.size}x{plan.size}, policy {plan.policy}\n"
    )
    text += "\n| painter | files | in the table | processed | unreadable |\n|---|---|---|---|---|\n"
    number_of = {name: number for number, name in enumerate(paintings.classes)}
    for count in paintings.counts():
        number = number_of.get(count.painter, -1)
        expected = "-" if count.expected is None else f"{count.expected:,}"
        text += f"| {count.painter} | {count.found:,} | {expected} | {good[number]:,} | {bad[number]:,} |\n"
    source = plan.source.names
    odd = [f"{source[outcome.task.row]}: {', '.join(outcome.odd)}" for outcome, _ in found if outcome.odd]
    unreadable = [str(outcome.unreadable) for outcome, _ in found if outcome.unreadable is not None]
    aliases = [f"{c.painter}: {', '.join(c.folders)}" for c in paintings.counts() if len(c.folders) > 1]
    for title, lines in (
        ("Odd files, taken by the rules of ganblocks.data.decode", odd),
        ("Unreadable files, left out", unreadable),
        ("Copies in another folder of the same painter, left out", paintings.copies),
        ("Folders that are one painter", aliases),
        ("Names that were taken, and what is used instead", renamed),
    ):
        if lines:
            text += f"\n## {title}: {len(lines):,}\n\n" + "".join(f"- {line}\n" for line in lines)
    return text


def preprocess(options: argparse.Namespace) -> int:
    """All steps, from where they were stopped."""
    torch.set_num_threads(1)
    out: Path = new_run_directory(options.out) if options.fresh else options.out
    paintings = open_data(options, out)
    plan = Plan(
        source=paintings.source,
        out=out,
        size=options.size,
        policy=options.policy,
        seed=options.seed,
        array_type=None if options.no_arrays else "float64" if options.float64 else "float32",
        on_error=options.on_error,
    )
    settings = {
        "data": paintings.fingerprint,
        **{name: getattr(options, name) for name in ("policy", "size", "seed", "float64", "keep_aliases")},
    }
    tasks, labels, renamed = chosen_tasks(paintings, options.limit_per_class)
    if options.document_names:
        common = Counter(PurePosixPath(name).name for name in paintings.names)
        if twice := [name for name, count in common.items() if count > 1]:
            raise DataError(f"--document-names, but several files are called {', '.join(twice[:5])}")
    require_own_run_directory(out, settings)
    with RunLock(out), (out / "preprocessing.log").open("a", encoding="utf-8", errors="backslashreplace") as file:
        require_room(plan, tasks)
        claim_run_directory(out, settings)
        log = functools.partial(write_line, file)
        RunLog(out / "log.jsonl").append({"event": "start", "images_seen": 0, **settings, "pictures": len(tasks)})
        log(f"start: {len(tasks)} of {len(paintings)} pictures of {len(paintings.classes)} painters; {settings}")
        try:
            return run(options, plan, paintings, tasks, labels, renamed, log)
        except Exception as error:
            log(f"{type(error).__name__}: {error}")
            raise


def write_line(file: IO[str], text: str) -> None:
    """A line of the log, with the time."""
    file.write(f"{time.strftime('%Y-%m-%d %H:%M:%S')} {text}\n")
    file.flush()


def run(
    options: argparse.Namespace,
    plan: Plan,
    paintings: Paintings,
    tasks: Sequence[Task],
    labels: Sequence[int],
    renamed: Sequence[str],
    log: Callable[[str], None],
) -> int:
    """Process the pictures, then write what tells of them all."""
    figure = plan.out / "figures" / "variants.png"
    if not figure.exists():  # before the long work: it asks for what may not be installed
        draw_variants(plan, tasks, figure)
    found: dict[Task, Outcome] = {}
    with GracefulStop() as stop:
        for outcome in tqdm(
            outcomes(plan, tasks, options.workers, stop), total=len(tasks), unit=" pictures", disable=None
        ):
            found[outcome.task] = outcome
            told = outcome.unreadable or f"{outcome.written} files written"
            log(f"{plan.source.names[outcome.task.row]}: {'; '.join([told, *outcome.odd])}")
    if len(found) < len(tasks):
        log(f"stopped after {len(found)} of {len(tasks)} pictures")
        print(f"Stopped; the same command goes on from here. See {plan.out}")
        return stop.exit_code
    pairs = [(found[task], label) for task, label in zip(tasks, labels, strict=True)]
    kept = [(outcome.task, label) for outcome, label in pairs if outcome.unreadable is None]
    if not kept:
        raise EmptyDatasetError(f"none of the {len(tasks)} pictures could be read, such as {pairs[0][0].unreadable}")
    write_tables(plan, paintings, kept, options.document_names)
    text = summary(plan, paintings, pairs, renamed)
    with written_atomically(plan.out / "summary.md", sole_writer=True) as file:
        file.write(text.encode("utf-8", "backslashreplace"))
    written = sum(outcome.written for outcome, _ in pairs)
    log(f"end: {len(kept)} pictures, {len(pairs) - len(kept)} unreadable, {written} files written")
    print(text.encode("utf-8", "backslashreplace").decode())
    print(f"{written:,} files written, all others were there. See {plan.out}")
    return 0


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the example; returns the exit code."""
    options = parse(arguments)
    warnings.simplefilter("default")
    try:
        return preprocess(options)
    except (GanblocksError, ValueError, OSError, ImportError) as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
