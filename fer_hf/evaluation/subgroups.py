"""Scores of subgroups, by any column of the table: RAF-DB's gender, race, age_group."""

import numpy as np
from datasets import ClassLabel, Dataset, Value

from fer_hf.errors import BadInputError
from fer_hf.evaluation.predictions import Predictions
from fer_hf.evaluation.report import headline


MAX_GROUPS = 50  # different values that a column may have
NOT_GIVEN = "not given"


def check_subgroups(table: Dataset, split: str, columns: list[str]) -> None:
    """
    Check that columns tell subgroups apart.

    Raises:
        BadInputError: If a column of the split is missing, holds neither names nor whole numbers, or has more than 50
            values.
    """
    usable = [name for name, feature in table.features.items() if _makes_groups(name, feature)]
    for column in columns:
        if column not in usable:
            raise BadInputError(
                f"`subgroups` must name columns of {split} with names or whole numbers, of which there are "
                f"{', '.join(usable) or 'none'}; got {column!r}."
            )
        count = len(table.unique(column))
        if count > MAX_GROUPS:
            raise BadInputError(
                f"`subgroups` {column!r} has {count} values in {split}; at most {MAX_GROUPS} can be scored apart."
            )


def _makes_groups(name: str, feature) -> bool:
    whole = isinstance(feature, Value) and not feature.dtype.startswith(("float", "double", "binary"))
    return name not in ("label", "row") and (whole or isinstance(feature, ClassLabel))


def subgroups(table: Dataset, column: str, scored: Predictions, kept: np.ndarray) -> dict:
    """
    Scores by the values of a column.

    Args:
        table (`datasets.Dataset`): What was scored, all of its rows.
        column (`str`): One that passes [`check_subgroups`].
        scored (`Predictions`): Of the rows that were kept.
        kept (`np.ndarray` of shape `(num_rows,)`): Which rows these are, a boolean array.

    Returns:
        `dict`: [`~fer_hf.evaluation.report.headline`] by value, sorted; rows without a value come last, as
        `"not given"`. Few faces say little: look at the intervals.
    """
    feature, values = table.features[column], np.array(table[column][:], dtype=object)[kept]
    is_class = isinstance(feature, ClassLabel)
    given = np.array([value is not None and not (is_class and value < 0) for value in values], dtype=bool)
    predicted = scored.logits.argmax(axis=1)
    groups = {
        (feature.int2str(int(value)) if is_class else str(value)): given & (values == value)
        for value in sorted(set(values[given]))
    }
    if not given.all():
        groups[NOT_GIVEN] = ~given
    return {name: headline(predicted[mine], scored.labels[mine]) for name, mine in groups.items()}


def subgroups_text(column: str, groups: dict) -> str:
    """The scores of [`subgroups`] as a table for the terminal."""
    width = max(len(column), *map(len, groups))
    lines = [f"{column:<{width}}    faces  accuracy (95 % interval)    balanced accuracy (95 % interval)"]
    for value, scores in groups.items():
        cells = []
        for name in ("accuracy", "balanced_accuracy"):
            low, high = scores["intervals"][name]
            cells.append(f"{scores[name]:.4f} ({low:.4f} to {high:.4f})")
        lines.append(f"{value:<{width}}  {scores['num_faces']:>7,}  {'  '.join(cells)}")
    lines.append("intervals of few faces, and of scores at 0 or 1, are too narrow")
    return "\n".join(lines)
