"""Names of scores: what they were called before, and which way is better. Imports nothing of ours."""

_RENAMED = {"mean_class_accuracy": "balanced_accuracy"}


def name_of_today(name: str) -> str:
    """A score's name today, by its name in the files of any run, with or without `eval_` before it; others stay."""
    score = name.removeprefix("eval_")
    return name.replace(score, _RENAMED[score]) if score in _RENAMED else name


def larger_is_better(name: str) -> bool:
    """Which way is better: a loss is to be small, and any other score large."""
    return not name.endswith("loss")
