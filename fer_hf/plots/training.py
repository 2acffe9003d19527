"""Pictures of training: learning curves, the phases of unfreezing, a search."""

from pathlib import Path
from typing import BinaryIO

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from fer_hf.plots.style import BLUE, GRAY, GREEN, ORANGE
from fer_hf.scores import larger_is_better


def plot_learning_curves(
    history: list[dict], path: str | Path | BinaryIO, unfreezing: list[dict] = (), best_epoch: float | None = None
) -> None:
    """
    Write loss, validation scores and trainable parameters by epoch; unfreezing and the selected epoch are marked.

    Args:
        history (`list[dict]`):
            Each entry with `epoch` and some of `loss`, `accuracy`, `eval_loss`, `eval_accuracy`, `eval_macro_f1`,
            `trainable_parameters` and `elapsed_seconds`.
        path (`str`, `Path` or binary file): PNG.
        unfreezing (`list[dict]`): The stages, each with the `epoch` at which it starts and `trainable_parameters`.
        best_epoch (`float`, *optional*): End of the epoch whose weights were selected.
    """
    figure = Figure(figsize=(8, 8), layout="constrained")
    loss, score, size = figure.subplots(3, 1, sharex=True, height_ratios=[3, 3, 2])
    _curve(loss, history, "loss", "training", BLUE)
    _curve(loss, history, "eval_loss", "validation", ORANGE)
    loss.set_ylabel("loss (nats)")
    _curve(score, history, "accuracy", "training accuracy", BLUE)
    _curve(score, history, "eval_accuracy", "validation accuracy", ORANGE)
    _curve(score, history, "eval_macro_f1", "validation macro F1", GREEN)
    score.set_ylabel("score")
    _trainable(size, history, unfreezing)
    size.set_xlabel("epochs")
    for axes in (loss, score, size):
        for number, stage in enumerate(unfreezing[1:]):
            label = "unfreezing" if number == 0 else None
            axes.axvline(stage["epoch"], color=GRAY, linestyle=":", linewidth=1, label=label)
        if best_epoch is not None:
            axes.axvline(best_epoch, color="black", linestyle="--", linewidth=1, label="selected")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.grid(alpha=0.3)
    for axes in (loss, score):
        if axes.get_legend_handles_labels()[0]:
            axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), fontsize=9)
    _minutes_above(loss, history)
    figure.savefig(path, dpi=150)


def _trainable(axes: Axes, history: list[dict], unfreezing: list[dict]) -> None:
    """How many parameters train: a step for each stage of unfreezing, else as the log has it."""
    if unfreezing:
        starts = [stage["epoch"] for stage in unfreezing]
        end = max((entry["epoch"] for entry in history), default=0)
        counts = [stage["trainable_parameters"] for stage in unfreezing]
        axes.stairs(counts, [*starts, max(end, starts[-1] + 1e-6)], baseline=None, color=BLUE, linewidth=2)
    else:
        _curve(axes, history, "trainable_parameters", "trainable", BLUE)
    axes.set_ylim(bottom=0)
    axes.set_ylabel("trainable parameters")
    axes.yaxis.set_major_formatter(lambda value, _: f"{value / 1e6:.2f} M" if value >= 1e4 else f"{value:,.0f}")


def _minutes_above(axes: Axes, history: list[dict]) -> None:
    """A second scale at the top, where the log knows the time: epochs need not take equally long."""
    known = {entry["epoch"]: entry["elapsed_seconds"] / 60 for entry in history if "elapsed_seconds" in entry}
    if len(known) < 2:
        return
    epochs, minutes = np.array([(0.0, 0.0), *sorted(known.items())]).T

    def label(epoch: float, _: int) -> str:
        return f"{np.interp(epoch, epochs, minutes):.3g}" if 0 <= epoch <= epochs[-1] else ""

    above = axes.secondary_xaxis("top")
    above.xaxis.set_major_locator(MaxNLocator(integer=True))  # at the epochs below: round minutes may lie too near
    above.xaxis.set_major_formatter(label)
    above.set_xlabel("minutes")


_MEMORY = {"cuda": "allocated on the GPU", "rss": "resident, above the start of training"}


def plot_phases(phases: list[dict], memory: str | None, path: str | Path | BinaryIO) -> None:
    """
    Write seconds per step and peak memory over the phases of training, and how much trains in each.

    Args:
        phases (`list[dict]`): Each with `trainable_parameters`, `seconds_per_step` and `peak_memory_mb`.
        memory (`str`, *optional*): How memory was measured: `cuda`, `rss`, or `None` if it was not.
        path (`str`, `Path` or binary file): PNG.
    """
    figure = Figure(figsize=(8, 6), layout="constrained")
    speed, peak = figure.subplots(2, 1, sharex=True)
    labels = [f"{phase['trainable_parameters']:,}" for phase in phases]
    _steps(speed, [1e3 * phase["seconds_per_step"] for phase in phases], BLUE)
    speed.set_ylabel("milliseconds per step (median)")
    if memory is not None:
        _steps(peak, [phase["peak_memory_mb"] for phase in phases], ORANGE)
    peak.set_ylabel("peak memory (MB)")
    peak.set_title(f"memory {_MEMORY.get(memory, 'was not measured here')}", fontsize=10)
    peak.set_xticks(range(len(phases)), labels, rotation=30, ha="right")
    peak.set_xlabel("trainable parameters, phase by phase")
    figure.savefig(path, dpi=150)


def _steps(axes: Axes, values: list[float], colour: str) -> None:
    axes.plot(range(len(values)), values, color=colour, marker="o", linewidth=2)
    axes.set_ylim(0, 1.1 * max(values))  # a mark at the top is whole
    axes.grid(alpha=0.3)


def _curve(axes: Axes, history: list[dict], key: str, label: str, colour: str) -> None:
    points = [(entry["epoch"], entry[key]) for entry in history if key in entry]
    if points:
        axes.plot(*zip(*points, strict=True), label=label, color=colour, marker="o", markersize=3)


def plot_search(results: list[dict], metric: str, path: str | Path | BinaryIO) -> None:
    """
    Write what a search found: best validation, and the epoch at which it was reached, over the learning rate.

    Args:
        results (`list[dict]`): With `learning_rate`, `value` and `epoch`, and of trials `optim`.
        metric (`str`): What `value` is.
        path (`str`, `Path` or binary file): PNG.
    """
    figure = Figure(figsize=(7, 6), layout="constrained")
    value, epoch = figure.subplots(2, 1, sharex=True, height_ratios=[3, 2])
    groups = sorted({row.get("optim", "") for row in results})
    for number, group in enumerate(groups):
        rows = sorted((row for row in results if row.get("optim", "") == group), key=lambda row: row["learning_rate"])
        rates = [row["learning_rate"] for row in rows]
        style = {"color": f"C{number}" if group else BLUE, "marker": "o", "linestyle": "none" if group else "-"}
        value.plot(rates, [row["value"] for row in rows], label=group, **style)
        epoch.plot(rates, [row["epoch"] for row in rows], **style)
    best = (max if larger_is_better(metric) else min)(results, key=lambda row: row["value"])
    for axes, name in ((value, "value"), (epoch, "epoch")):
        axes.axvline(best["learning_rate"], color=GRAY, linestyle=":")
        axes.plot(best["learning_rate"], best[name], "o", markersize=14, markerfacecolor="none", color=ORANGE)
        axes.grid(alpha=0.3, which="both")
    value.set_xscale("log")
    value.set_title(f"best: learning rate {best['learning_rate']:.3g}, {metric} {best['value']:.4f}", fontsize=11)
    value.set_ylabel(f"best validation {metric}")
    if groups != [""]:
        value.legend(fontsize=9)
    epoch.set_ylim(bottom=0)
    epoch.set_ylabel("reached at epoch")
    epoch.set_xlabel("learning rate")
    figure.savefig(path, dpi=150)


_LEGEND_ROWS = 12  # more runs than these are told apart by a scale of colours


def plot_search_losses(results: list[dict], path: str | Path | BinaryIO) -> None:
    """
    Write the loss curves of a search's runs, the learning rate as colour: training solid, validation dashed.

    Args:
        results (`list[dict]`):
            With `learning_rate` and `curve`, a list of `epoch` with `loss` or `eval_loss`. Runs without one, of older
            searches, are left out. Of runs that diverge, the curve leaves the picture.
        path (`str`, `Path` or binary file): PNG.
    """
    runs = sorted((row for row in results if row.get("curve")), key=lambda row: row["learning_rate"])
    figure = Figure(figsize=(8, 5), layout="constrained")
    axes = figure.subplots()
    rates = [row["learning_rate"] for row in runs] or [1.0]
    span = max(rates) / min(rates)
    # The scale goes on beyond the largest rate, to where the colours are too light to be seen.
    scale = ScalarMappable(LogNorm(min(rates), max(rates) * max(span, 1.01) ** 0.25), "viridis")
    for row in runs:
        colour = scale.to_rgba(row["learning_rate"])
        _curve(axes, row["curve"], "loss", f"{row['learning_rate']:g}", colour)
        validated = [(entry["epoch"], entry["eval_loss"]) for entry in row["curve"] if "eval_loss" in entry]
        if validated:
            axes.plot(*zip(*validated, strict=True), color=colour, linestyle="--", linewidth=1)
    losses = [[entry.get("loss", entry.get("eval_loss")) for entry in row["curve"]] for row in runs]
    highest = max((max(values) for values in losses if values[-1] <= values[0]), default=np.inf)
    if any(value > 2 * highest for values in losses for value in values):
        axes.set_ylim(0, 1.5 * highest)
    if len(runs) > _LEGEND_ROWS:
        figure.colorbar(scale, ax=axes, label="learning rate")
    elif axes.get_legend_handles_labels()[0]:
        axes.legend(title="learning rate", loc="center left", bbox_to_anchor=(1.0, 0.5), fontsize=9)
    axes.set_title("loss of each run: training solid, validation dashed", fontsize=11)
    axes.set_ylabel("loss (nats)")
    axes.set_xlabel("epochs")
    axes.grid(alpha=0.3)
    figure.savefig(path, dpi=150)
