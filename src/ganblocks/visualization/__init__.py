"""Pictures of what networks make and of how training went."""

from ganblocks.visualization.animation import save_animation
from ganblocks.visualization.arms import arms_curve, arms_figure
from ganblocks.visualization.classification import class_bars
from ganblocks.visualization.confusion import confusion_matrix
from ganblocks.visualization.curves import save_curves
from ganblocks.visualization.grid import image_grid, save_image_grid
from ganblocks.visualization.history import history_figure
from ganblocks.visualization.latent import decoder_grid, latent_scatter, pca_scatter
from ganblocks.visualization.movements import count_bars, draw_movements, movement_graph
from ganblocks.visualization.neighbors import neighbor_rows
from ganblocks.visualization.panel import sample_panel
from ganblocks.visualization.reconstruction import reconstruction_rows
from ganblocks.visualization.report import write_report
from ganblocks.visualization.summary import model_summary

__all__ = [
    "arms_curve",
    "arms_figure",
    "class_bars",
    "confusion_matrix",
    "count_bars",
    "decoder_grid",
    "draw_movements",
    "history_figure",
    "image_grid",
    "latent_scatter",
    "model_summary",
    "movement_graph",
    "neighbor_rows",
    "pca_scatter",
    "reconstruction_rows",
    "sample_panel",
    "save_animation",
    "save_curves",
    "save_image_grid",
    "write_report",
]
