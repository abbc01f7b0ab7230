"""The kinds of things in :mod:`results_table`: experiments, their runs, figures and pictures."""

from dataclasses import dataclass
from typing import Literal

__all__ = ["SOURCES", "Experiment", "Figure", "Picture", "Run", "may_be_shown"]

SOURCES = {
    "D0": "preparing paintings and a network for 49 painters",
    "D1": "autoencoders, DCGAN and style transfer",
    "D2": "stacked autoencoders and a variational one",
    "D3": "DCGAN, WGAN-GP, ProGAN, and a classifier with generated scans",
    "D4": "naming painters with six networks",
}

Kind = Literal["curves", "generated"]
NEVER_SHOWN = ("faces", "scans", "photographs")
FILES: dict[Kind, tuple[str, ...]] = {  # of run directories; whatever is not here may hold images of a data set
    "curves": (
        "curves.png", "figures/curves.png", "figures/accuracy.png", "figures/arms.png", "figures/precision.png",
        "figures/confusion_percent.png", "**/classifier/figures/confusion_percent.png", "figures/counts_all.png",
        "figures/movements.png", "figures/codes_after.png",
    ),
    "generated": ("samples/*.png", "figures/decoder_grid.png"),
}  # fmt: skip


@dataclass(frozen=True)
class Figure:
    """A number of a run.

    Attributes:
        key: Its name in the records.
        label: What it is.
        source: Where it stands in a run directory; see :func:`results_runs.values`.
        form: Format specification of Python; "" for text.
        document: What the source printed; empty = nothing.
        place: Where: report and section.
    """

    key: str
    label: str
    source: str
    form: str = ".4f"
    document: str = ""
    place: str = ""


@dataclass(frozen=True)
class Picture:
    """A picture of a run that the page shows.

    Attributes:
        path: Its file in the run directory; of a pattern the last one by name.
        kind: ``"curves"`` of numbers, or ``"generated"`` images.
        alt: What it shows.
    """

    path: str
    kind: Kind
    alt: str


@dataclass(frozen=True)
class Run:
    """One of the ways in which an experiment is run.

    Attributes:
        name: Of this way: the source's settings are ``"document"``.
        command: Program and arguments for the full length, as typed in the root of the repository.
        marks: Options that a run must have, or lack, as the command does; all others may differ, and the page says so.
        subject: What its images show; ``generated`` pictures of faces and scans are never shown.
        data: How the data argument of a run must begin; empty = in any way.
        pictures: For the page.
        figures: Instead of the experiment's, where there are any.
        leaves: A file, or a pattern, that only a finished run leaves, where neither log nor figures tell.
    """

    name: str
    command: str
    marks: tuple[str, ...] = ()
    subject: str = "digits"
    data: str = ""
    pictures: tuple[Picture, ...] = ()
    figures: tuple[Figure, ...] = ()
    leaves: str = ""


@dataclass(frozen=True)
class Experiment:
    """One experiment of the sources.

    Attributes:
        name: ``"E01"`` and so on.
        title: What it is.
        place: Report and section.
        data: The source's data.
        finding: What the source says came out.
        runs: At least one.
        figures: Of each run that has none of its own.
    """

    name: str
    title: str
    place: str
    data: str
    finding: str
    runs: tuple[Run, ...]
    figures: tuple[Figure, ...] = ()

    def run(self, name: str | None = None) -> Run:
        """The run of this name, the first one if there is none.

        Raises:
            ValueError: There is no such run.
        """
        for run in self.runs:
            if name in (None, run.name):
                return run
        raise ValueError(f"{self.name} has no run {name!r}, but: {', '.join(run.name for run in self.runs)}")

    def figures_of(self, run: Run) -> tuple[Figure, ...]:
        """The figures of one of its runs."""
        return run.figures or self.figures


def may_be_shown(picture: Picture, subject: str) -> bool:
    """Whether a picture may go on the page: curves of anything, generated images unless of faces, scans, photographs.

    Files that are not known to be free of images of a data set never may, whatever they are said to be.
    """
    return picture.path in FILES[picture.kind] and (picture.kind == "curves" or subject not in NEVER_SHOWN)
