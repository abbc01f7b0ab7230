"""Pictures of what networks make and of how training went."""

from ganblocks.visualization.animation import save_animation
from ganblocks.visualization.curves import save_curves
from ganblocks.visualization.grid import image_grid, save_image_grid
from ganblocks.visualization.report import write_report

__all__ = ["image_grid", "save_animation", "save_curves", "save_image_grid", "write_report"]
