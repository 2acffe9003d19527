"""What the JSON files of a run hold, as types, and the check that a file holds it."""

import math
import types
import typing
from pathlib import Path
from typing import Any, TypedDict

from fer_hf.errors import BadInputError


class RunDirectoryError(BadInputError):
    """A run directory lacks a file, or holds something that must not be published. The message names the file."""


class ClassScores(TypedDict, total=False):
    precision: float
    recall: float
    f1: float
    support: int


class Report(TypedDict, total=False):
    """[`~fer_hf.evaluation.report.expression_report`], or a part of it; of a backbone `loss` and `epoch`."""

    num_faces: int
    accuracy: float
    macro_f1: float
    weighted_f1: float
    balanced_accuracy: float
    loss: float
    epoch: float
    expected_calibration_error: float
    intervals: dict[str, list[float]]
    without_copies: "Report"
    per_class: dict[str, ClassScores]
    confusion_matrix: list[list[int]]


class DatasetFacts(TypedDict, total=False):
    name: str
    fingerprints: dict[str, str]
    counts: dict[str, dict[str, int]]


class ModelFacts(TypedDict, total=False):
    architecture: str
    parameters: int
    source: str
    name_or_path: str | None
    head: str | None


class Runtime(TypedDict, total=False):
    train_seconds: float
    steps: int
    resumed_at_step: int
    commits: list[dict]


class Unfreezing(TypedDict, total=False):
    epoch: float
    thawed: list[str]
    trainable_parameters: int


class Best(TypedDict, total=False):
    metric: str
    value: float
    epoch: float
    step: int


class Scoring(TypedDict, total=False):
    dataset: str
    split: str
    fingerprint: str
    date: str
    tta: str


class Part(TypedDict, total=False):
    fingerprint: str
    report: Report


class Robustness(TypedDict, total=False):
    clean: float
    mean_accuracy: float
    corruptions: dict[str, list[Report]]


class Calibration(TypedDict, total=False):
    temperature: float
    before: dict[str, float]
    after: dict[str, float]


class Evaluation(TypedDict, total=False):
    """[`~fer_hf.evaluation.evaluate.evaluate`], as far as cards and pages show it."""

    dataset: str
    split: str
    tta: str
    report: Report
    parts: dict[str, Part]
    labels: dict
    subgroups: dict[str, dict[str, Report]]
    robustness: Robustness
    calibration: Calibration
    comparable_with: dict[str, str]


class Config(TypedDict, total=False):
    model_type: str
    id2label: dict[str, str]
    auto_map: dict


class TrainerState(TypedDict, total=False):
    log_history: list[dict]


class WeightsIndex(TypedDict, total=False):
    weight_map: dict[str, str]


_WORDS = {str: "a text", int: "a whole number", float: "a finite number"}


def check_shape(value: Any, kind: Any, path: str | Path, key: str = "") -> None:
    """
    Check that a value has a type, all the way down. A key that is missing is no matter here.

    Args:
        value: From a JSON file.
        kind: `str`, `int`, `float`, `dict`, `list`, a `TypedDict`, or made of them by `dict[str, ...]`, `list[...]`
            and `| None`.
        path (`str` or `Path`): The file, for the message.
        key (`str`): Where in the file the value stands, for the message.

    Raises:
        RunDirectoryError: Names the file, the first key that is wrong, and what it should be.
    """
    origin, inner = typing.get_origin(kind) or kind, typing.get_args(kind)
    if origin in (types.UnionType, typing.Union):  # something or nothing
        if value is not None:
            check_shape(value, next(one for one in inner if one is not type(None)), path, key)
        return
    is_map = origin is dict or typing.is_typeddict(origin)
    if not _is(value, dict if is_map else origin):
        wanted = "a map" if is_map else _WORDS.get(origin, "a list")
        raise RunDirectoryError(f"{path}: `{key}` must be {wanted}, got {value!r:.60}.")
    below = f"{key}." if key else ""
    if typing.is_typeddict(origin):
        for name, own in typing.get_type_hints(origin).items():
            if name in value:
                check_shape(value[name], own, path, f"{below}{name}")
    elif is_map and inner:
        for name, entry in value.items():
            check_shape(entry, inner[1], path, f"{below}{name}")
    elif origin is list and inner:
        for number, entry in enumerate(value):
            check_shape(entry, inner[0], path, f"{below}{number}")


def _is(value: Any, kind: Any) -> bool:
    if kind is float:
        return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    return isinstance(value, kind) and not (kind is int and isinstance(value, bool))
