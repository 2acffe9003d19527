"""Names of scores: what they were called before, and which way is better. Imports nothing of ours."""

from typing import Any


_RENAMED = {"mean_class_accuracy": "balanced_accuracy"}


def with_new_names(value: Any) -> Any:
    """
    A copy of what an older run left, in which scores have their names of today, with or without `eval_` before them:
    a name itself, and in lists and maps all keys and values that name one.
    """
    if isinstance(value, dict):
        return {with_new_names(key): with_new_names(entry) for key, entry in value.items()}
    if isinstance(value, list):
        return [with_new_names(entry) for entry in value]
    score = value.removeprefix("eval_") if isinstance(value, str) else None
    return value.replace(score, _RENAMED[score]) if score in _RENAMED else value


def larger_is_better(name: str, given: bool | None = None) -> bool:
    """Which way is better: as `given`, if it is; else a loss is to be small, and any other score large."""
    return not name.endswith("loss") if given is None else given
