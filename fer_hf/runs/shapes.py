"""What the JSON files of a run hold, as types, and the check that a file holds it."""

import dataclasses
import math
import types
import typing
from pathlib import Path
from typing import Any, Required, TypedDict

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


class DatasetFacts(TypedDict):
    name: str
    fingerprints: dict[str, str]
    counts: dict[str, dict[str, int]]


class ModelFacts(TypedDict, total=False):
    architecture: Required[str]
    parameters: Required[int]
    source: str
    name_or_path: str | None
    head: str | None


class Runtime(TypedDict, total=False):
    train_seconds: Required[float]
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

    dataset: Required[str]
    split: Required[str]
    tta: str
    report: Required[Report]
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
    calibration_temperature: float


class TrainerState(TypedDict):
    log_history: list[dict]


class WeightsIndex(TypedDict, total=False):
    weight_map: dict[str, str]


_WORDS = {str: "a text", int: "a whole number", float: "a finite number"}


def check_shape(value: Any, kind: Any, path: str | Path, key: str = "") -> None:
    """
    Check that a value has a type, all the way down. Keys that are not known are no matter.

    Args:
        value: From a JSON file.
        kind: `str`, `int`, `float`, `dict`, `list`, a `TypedDict`, a dataclass for a map of its fields, or made of
            them by `dict[str, ...]`, `list[...]` and `| None`.
        path (`str` or `Path`): The file, for the message.
        key (`str`): Where in the file the value stands, for the message.

    Raises:
        RunDirectoryError: Names the file and the keys that are missing, or the first that is wrong.
    """
    origin, inner = typing.get_origin(kind) or kind, typing.get_args(kind)
    if origin in (types.UnionType, typing.Union):  # something or nothing
        if value is not None:
            check_shape(value, next(one for one in inner if one is not type(None)), path, key)
        return
    has_fields = typing.is_typeddict(origin) or dataclasses.is_dataclass(origin)
    is_map = origin is dict or has_fields
    if not _is(value, dict if is_map else origin):
        wanted = "a map" if is_map else _WORDS.get(origin, "a list")
        raise RunDirectoryError(f"{path}: `{key}` must be {wanted}, got {value!r:.60}.")
    below = f"{key}." if key else ""
    if has_fields:
        fields = typing.get_type_hints(origin)
        if missing := [below + name for name in fields if name in _required(origin) and name not in value]:
            raise RunDirectoryError(f"{path} lacks {', '.join(missing)}: is it the file of a finished run?")
        for name, own in fields.items():
            if name in value:
                check_shape(value[name], own, path, f"{below}{name}")
    elif is_map and inner:
        for name, entry in value.items():
            check_shape(entry, inner[1], path, f"{below}{name}")
    elif origin is list and inner:
        for number, entry in enumerate(value):
            check_shape(entry, inner[0], path, f"{below}{number}")


def _required(kind: type) -> frozenset[str]:
    if typing.is_typeddict(kind):
        return kind.__required_keys__
    missing = dataclasses.MISSING
    return frozenset(f.name for f in dataclasses.fields(kind) if f.default is missing is f.default_factory)


def _is(value: Any, kind: Any) -> bool:
    if kind is float:
        return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    return isinstance(value, kind) and not (kind is int and isinstance(value, bool))
