"""Pictures from plain numbers and arrays. Made of `Figure` objects: no window system, no global state."""

from fer_hf.plots.annotate import draw_faces
from fer_hf.plots.attention import plot_attention_maps, plot_attention_strips, plot_explanation, plot_similarity
from fer_hf.plots.faces import (
    plot_conflicts,
    plot_faces,
    plot_predictions,
    plot_probabilities,
    plot_reconstructions,
    plot_timeline,
)
from fer_hf.plots.scores import (
    plot_class_balance,
    plot_confusion_matrix,
    plot_leaderboard,
    plot_reliability,
    plot_robustness,
)
from fer_hf.plots.style import BLUE, GRAY, GREEN, ORANGE
from fer_hf.plots.training import plot_learning_curves, plot_phases, plot_search, plot_search_losses


__all__ = [
    "BLUE",
    "GRAY",
    "GREEN",
    "ORANGE",
    "draw_faces",
    "plot_attention_maps",
    "plot_attention_strips",
    "plot_class_balance",
    "plot_conflicts",
    "plot_confusion_matrix",
    "plot_explanation",
    "plot_faces",
    "plot_leaderboard",
    "plot_learning_curves",
    "plot_phases",
    "plot_predictions",
    "plot_probabilities",
    "plot_reconstructions",
    "plot_reliability",
    "plot_robustness",
    "plot_search",
    "plot_search_losses",
    "plot_similarity",
    "plot_timeline",
]
