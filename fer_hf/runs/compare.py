"""Two runs on the same faces: which is better, at which expressions, and whether that could be chance."""

from pathlib import Path

import numpy as np
from scipy.stats import binomtest

from fer_hf.errors import BadInputError
from fer_hf.evaluation.predictions import Predictions
from fer_hf.metrics.bootstrap import draw_counts, interval
from fer_hf.provenance import own_name
from fer_hf.runs.run import Run, as_run
from fer_hf.words import plural


def compare_runs(run_a: str | Path | Run, run_b: str | Path | Run, split: str | None = None, seed: int = 0) -> dict:
    """
    Compare two runs face by face, from what they left: no model is loaded.

    Args:
        run_a, run_b (`str`, `Path` or [`Run`]): Output directories of finished runs that scored the same faces.
        split (`str`, *optional*): The split. By default `test`, or `validation` if neither run was tested.
        seed (`int`, defaults to 0): Of the bootstrap.

    Returns:
        `dict`: `runs` (two names), `split`, `fingerprint`, and what [`compare`] finds.

    Raises:
        BadInputError: If a folder holds no finished run, or the two scored other faces or expressions.
    """
    runs = [as_run(run_a), as_run(run_b)]
    split = split or ("test" if any(run.record.tested for run in runs) else "validation")
    (a, names, fingerprint), (b, other_names, other_fingerprint) = (_scored(run, split) for run in runs)
    if fingerprint != other_fingerprint or names != other_names:
        what = "expressions" if fingerprint == other_fingerprint else f"faces ({len(a[1]):,} and {len(b[1]):,})"
        raise BadInputError(
            f"{run_a} and {run_b} scored other {what} as {split}: there is nothing to compare by pairs."
        )
    found = compare(a.class_ids, a.logits.argmax(axis=1), b.logits.argmax(axis=1), names, seed)
    limits = {name: value for name, value in runs[0].record.results[split].items() if name == "max_eval_samples"}
    about = {"runs": [own_name(str(run)) for run in runs], "split": split, "fingerprint": fingerprint, **limits}
    return {**about, **found}


def _scored(run: Run, split: str) -> tuple[Predictions, list[str], str]:
    """What a run said of a split, the expressions in label order, and the fingerprint of the faces."""
    results = run.record.results
    scored = [name for name in run.predictions if name in results]
    if split not in scored:
        raise BadInputError(f"`split` must be one of {', '.join(scored)}, which {run} scored; got {split!r}.")
    return run.predictions[split], list(results[split]["per_class"]), run.record.dataset["fingerprints"][split]


def compare(labels: np.ndarray, a: np.ndarray, b: np.ndarray, names: list[str], seed: int = 0) -> dict:
    """
    Paired differences, b minus a. Intervals are 95 % percentile intervals over the faces, which are drawn together
    with what both models say of them; an expression is `better` for one run if its interval leaves out 0.

    Args:
        labels, a, b (`np.ndarray` of shape `(num_faces,)`): Class ids: the truth, and what each model says.
        names (`list[str]`): The expressions, in label order.
        seed (`int`, defaults to 0): Of the bootstrap.

    Returns:
        `dict`: `num_faces`; `accuracy`, with `a`, `b`, `difference`, `interval` and `better` (`"a"`, `"b"` or
        `None`); `mcnemar`, with `only_a` and `only_b`, the faces that one run alone has right, and `p_value`, the
        exact two-sided chance of so uneven a split if both were equally good (McNemar, 1947); and `per_class`, for
        every name that has faces the same of its recall, with `support`.
    """
    right_a, right_b = a == labels, b == labels
    # Four kinds of faces for each expression: wrong in both, right in a alone, in b alone, in both.
    kinds = np.bincount(4 * labels + 2 * right_b + right_a, minlength=4 * len(names))
    drawn = draw_counts(kinds, seed=seed).reshape(-1, len(names), 4)
    counts = kinds.reshape(len(names), 4)
    only_a, only_b = int(counts[:, 1].sum()), int(counts[:, 2].sum())
    total = only_a + only_b
    return {
        "num_faces": len(labels),
        "accuracy": _difference(counts.sum(axis=0), drawn.sum(axis=1)),
        "mcnemar": {
            "only_a": only_a,
            "only_b": only_b,
            "p_value": float(binomtest(only_b, total).pvalue) if total else 1.0,
        },
        "per_class": {
            name: {"support": int(counts[i].sum()), **_difference(counts[i], drawn[:, i])}
            for i, name in enumerate(names)
            if counts[i].any()
        },
    }


def _difference(counts: np.ndarray, drawn: np.ndarray) -> dict:
    """Shares of right faces in both runs and their difference, from counts of the four kinds, last dimension."""
    total = counts.sum()
    a, b = float((counts[1] + counts[3]) / total), float((counts[2] + counts[3]) / total)
    totals = drawn.sum(axis=1)
    seen = totals > 0  # a rare expression may be in no face of a draw
    low, high = interval((drawn[seen, 2] - drawn[seen, 1]) / totals[seen])
    better = "b" if low > 0 else "a" if high < 0 else None
    return {
        "a": a,
        "b": b,
        "difference": float((counts[2] - counts[1]) / total),
        "interval": [low, high],
        "better": better,
    }


def comparison_text(result: dict) -> str:
    """What [`compare_runs`] found, as a table for the terminal."""
    width = max(len("accuracy"), *map(len, result["per_class"]))
    lines = [
        f"A: {result['runs'][0]}",
        f"B: {result['runs'][1]}",
        f"{result['split']}: {plural(result['num_faces'], 'face')}"
        + ", a sample of the split" * ("max_eval_samples" in result),
        "",
    ]
    lines.append(f"{'recall':<{width}}    faces       A       B    B - A  (95 % interval)    better")
    rows = {**result["per_class"], "accuracy": {**result["accuracy"], "support": result["num_faces"]}}
    for name, row in rows.items():
        low, high = row["interval"]
        better = (row["better"] or "-").upper()
        difference = f"{row['difference']:>+7.3f}  ({low:+.3f} to {high:+.3f})"
        lines.append(
            f"{name:<{width}}  {row['support']:>7,}  {row['a']:.4f}  {row['b']:.4f}  {difference}  {better:>6}"
        )
    found = result["mcnemar"]
    alone = f"right in A alone {found['only_a']:,}, in B alone {found['only_b']:,}"
    lines += ["", f"{alone}: McNemar's exact p = {found['p_value']:.3g}"]
    return "\n".join(lines)
