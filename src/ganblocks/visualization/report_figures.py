"""The section of a run's page with what was drawn into ``figures/``: reconstructions, latent planes, confusions."""

import base64
from pathlib import Path

from ganblocks.visualization import markup
from ganblocks.visualization.run_reader import find_figures

__all__ = ["figures_section"]

_MOST_FIGURES, _MOST_FIGURE_BYTES = 40, 32 * 2**20  # a page beyond that is slow to open


def figures_section(root: Path) -> str:
    """All figures in the order of their names, which are untrusted text, as far as there is room; nothing without one.

    Args:
        root: Directory of the run, resolved.
    """
    found, refused = find_figures(root)
    shown, room = [], _MOST_FIGURE_BYTES
    for picture in found[:_MOST_FIGURES]:
        if picture.bytes <= room:
            shown.append(picture)
            room -= picture.bytes
    notes = [f"{len(shown)} of {len(found):,} figures are shown."] if len(shown) < len(found) else []
    if refused:
        notes.append(f"Passed over: {refused:,} not whole, too large, or linked from outside the run.")
    figures = []
    for picture in shown:
        name = markup.readable(picture.name)
        data = base64.b64encode(picture.path.read_bytes()).decode()
        figures.append(
            f'<figure class="picture"><img width="{picture.width}" height="{picture.height}" alt="{name}" '
            f'src="data:image/png;base64,{data}"><figcaption>{name}</figcaption></figure>'
        )
    return markup.section("Figures", markup.note(" ".join(notes)) + "\n".join(figures)) if found or refused else ""
