"""Pictures. Made of `Figure` objects, so that no window system and no global state is touched."""

from fer_hf.plots.annotate import draw_faces
from fer_hf.plots.attention import plot_attention_maps, plot_attention_strips, plot_similarity
from fer_hf.plots.faces import (
    first_right,
    plot_faces,
    plot_predictions,
    plot_probabilities,
    plot_reconstructions,
    sure_and_wrong,
)
from fer_hf.plots.runs import plot_confusion_matrix, plot_learning_curves, plot_phases, plot_search
from fer_hf.plots.scores import (
    CalibrationBins,
    calibration_bins,
    plot_class_balance,
    plot_reliability,
    plot_robustness,
)
from fer_hf.plots.style import BLUE, GRAY, GREEN, ORANGE


__all__ = [
    "BLUE",
    "GRAY",
    "GREEN",
    "ORANGE",
    "CalibrationBins",
    "calibration_bins",
    "draw_faces",
    "first_right",
    "plot_attention_maps",
    "plot_attention_strips",
    "plot_class_balance",
    "plot_confusion_matrix",
    "plot_faces",
    "plot_learning_curves",
    "plot_phases",
    "plot_predictions",
    "plot_probabilities",
    "plot_reconstructions",
    "plot_reliability",
    "plot_robustness",
    "plot_search",
    "plot_similarity",
    "sure_and_wrong",
]
