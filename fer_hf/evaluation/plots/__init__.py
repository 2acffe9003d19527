"""Pictures. Made of `Figure` objects, so that no window system and no global state is touched."""

from fer_hf.evaluation.plots.annotate import draw_faces
from fer_hf.evaluation.plots.faces import plot_faces, plot_reconstructions
from fer_hf.evaluation.plots.runs import plot_confusion_matrix, plot_learning_curves, plot_phases, plot_search
from fer_hf.evaluation.plots.style import BLUE, GRAY, GREEN, ORANGE


__all__ = [
    "BLUE",
    "GRAY",
    "GREEN",
    "ORANGE",
    "draw_faces",
    "plot_confusion_matrix",
    "plot_faces",
    "plot_learning_curves",
    "plot_phases",
    "plot_reconstructions",
    "plot_search",
]
