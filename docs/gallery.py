"""The page of the gallery: every program in examples/, with what it says of itself. mkdocs builds it (``hooks``).

What an example does, how it is called and what it leaves stand in its docstring and are taken from there; the rest in
:mod:`gallery_entries`. Times and pictures of trials are those that ``python docs/gallery_runs.py`` has left.
"""

import ast
import html
import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gallery_entries import DRAWN, ENTRIES, SECTIONS, Entry
from notebooks import NOTEBOOKS, notebook_text
from PIL import Image

if TYPE_CHECKING:
    from mkdocs.config.defaults import MkDocsConfig
    from mkdocs.structure.files import Files

__all__ = ["About", "about", "duration", "on_files", "page", "read_runs", "trial_command"]

DOCS = Path(__file__).resolve().parent
EXAMPLES = DOCS.parent / "examples"
RUNS = DOCS / "gallery_runs.json"
NOTEBOOKS_FOLDER = "notebooks"  # on the site

INTRODUCTION = """# Gallery

Every program of `examples/`: what it does, what it leaves, and a picture that it made. Each runs without any data set:
its *trial* is a command that does, with the time that it took one core of a CPU ({machine}). Where a trial says
`--data {folder}`, that is a folder with {count:,} faces that [Faces](api:ganblocks.data.Faces) draws. Pictures
of trials show what a program gives and not how good it can be: seconds of training teach little.

No picture here is a photograph, a scan, a painting or an image of a data set: all are drawn, generated or figures.
"""


class About:
    """What an example's docstring says.

    Attributes:
        summary: Its first paragraph.
        usage: The lines of its commands.
        needs: The paragraph on what must be installed, and how long it takes where it says so.
        leaves: The lines on the run directory.
    """

    def __init__(self, text: str) -> None:
        blocks = re.split(r"\n\s*\n", text)
        self.summary = " ".join(blocks[0].split())
        self.usage = _dedented(next((block for block in blocks if block.startswith("    python ")), ""))
        self.needs = " ".join(next((block for block in blocks if block.startswith("Needs:")), "").split())
        found = re.search(r"run\s+directory\s+\(--out[\s\S]*?\n((?: {4}.*\n?)+)", text)
        self.leaves = _dedented(found[1]) if found else ""


def _dedented(block: str) -> str:
    return "\n".join(line[4:].rstrip() for line in block.splitlines())


def about(path: Path) -> About:
    """Read the docstring of an example.

    Raises:
        ValueError: It lacks a part that the gallery shows; names it.
    """
    found = About(ast.get_docstring(ast.parse(path.read_text("utf-8"))) or "")
    lacking = [name for name, value in vars(found).items() if not value]
    if lacking:
        raise ValueError(f"{path.name}: its docstring has no {', no '.join(lacking)}")
    return found


def read_runs() -> dict[str, Any]:
    """What gallery_runs.py has left: machine, drawn pictures, and the seconds of each trial with its arguments."""
    runs: dict[str, Any] = json.loads(RUNS.read_text("utf-8"))
    return runs


def trial_command(entry: Entry) -> str:
    """The command line of a trial, as one types it."""
    return f"python examples/{entry.stem}.py {entry.trial}".rstrip()


def duration(seconds: float) -> str:
    """A time as one says it.

    >>> duration(3.6), duration(47), duration(170)
    ('4 seconds', '50 seconds', '3 minutes')
    """
    if seconds < 10:
        return f"{max(1, round(seconds))} seconds" if seconds >= 1.5 else "a second"
    if seconds < 90:
        return f"{round(seconds, -1):g} seconds"
    return f"{round(seconds / 60)} minutes"


def shown_width(entry: Entry) -> int:
    """How wide a picture is shown, so that high ones do not fill the page: pixels of its own, or fewer."""
    with Image.open(DOCS / "images" / entry.image) as picture:
        return min(picture.width, 420 if picture.height > 0.7 * picture.width else 640)


def section(entry: Entry, said: About, seconds: float, notebook: bool) -> str:
    """One example, in Markdown."""
    caption = entry.caption or "From the trial."
    links = [f"[guide]({entry.guide})"] if entry.guide else []
    links += [f"[notebook]({NOTEBOOKS_FOLDER}/{entry.stem}.ipynb)"] if notebook else []
    needs = re.sub(r'(pip install "[^"]*")', r"`\1`", said.needs)
    return "\n".join(
        [
            f"### {entry.title}",
            "",
            f"`{entry.stem}.py`: {said.summary} {needs}" + (f" See: {', '.join(links)}." if links else ""),
            "",
            f"![{entry.alt}](images/{entry.image}){{ width={shown_width(entry)} loading=lazy }}",
            "",
            f"*{caption}*",
            "",
            f"Trial, {duration(seconds)}:",
            "",
            f"```bash\n{trial_command(entry)}\n```",
            "",
            # raw HTML, so that no extension is needed for it
            "<details><summary>All commands, and what the run directory ends up with</summary>",
            f"<pre>{html.escape(said.usage)}</pre>",
            f"<pre>{html.escape(said.leaves)}</pre>",
            "</details>",
        ]
    )


def page(runs: dict[str, Any], notebooks: set[str]) -> str:
    """The whole page.

    Args:
        runs: From `read_runs`.
        notebooks: Stems of the examples that there are notebooks of.

    Raises:
        ValueError: An example has no entry, or an entry no example.
    """
    stems = [entry.stem for entry in ENTRIES]
    if odd := sorted({path.stem for path in EXAMPLES.glob("*.py")} ^ set(stems)):
        raise ValueError(f"either in examples/ or in gallery_entries.py, but not in both: {', '.join(odd)}")
    parts = [INTRODUCTION.format(machine=runs["machine"], folder=DRAWN, count=runs["drawn"])]
    for name in SECTIONS:
        parts.append(f"## {name}\n")
        for entry in ENTRIES:
            if entry.section == name:
                seconds = runs["trials"][entry.stem]["seconds"]
                said = about(EXAMPLES / f"{entry.stem}.py")
                parts.append(section(entry, said, seconds, entry.stem in notebooks) + "\n")
    return "\n".join(parts)


# --- what mkdocs calls ---


def on_files(files: "Files", config: "MkDocsConfig", **_: Any) -> "Files":
    """Add the page, and the notebooks that it links to."""
    from mkdocs.structure.files import File

    files.append(File.generated(config, "gallery.md", content=page(read_runs(), set(NOTEBOOKS))))
    for stem in NOTEBOOKS:
        path = f"{NOTEBOOKS_FOLDER}/{stem}.ipynb"
        files.append(File.generated(config, path, content=notebook_text(stem)))
    return files
