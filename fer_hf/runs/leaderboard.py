"""Many runs in one table: what was published, what we measured, and what it took, all from run records."""

import json
import statistics
from pathlib import Path
from typing import Any

import numpy as np

from fer_hf.errors import BadInputError
from fer_hf.evaluation.report import with_averages
from fer_hf.files import write_json, write_text
from fer_hf.metrics.bootstrap import confusion_scores
from fer_hf.plots import plot_leaderboard
from fer_hf.runs.record import RunRecord
from fer_hf.runs.run import Run, as_run
from fer_hf.words import plural


# Of a plan that names none: titles, and where in a row or in its runs the values stand.
COLUMNS = {
    "model": "name",
    "parameters": "parameters",
    "multiply-adds": "multiply_adds",
    "faces seen": "faces_seen",
    "accuracy": "final.accuracy",
    "95 % interval": "final.intervals.accuracy",
    "without copies": "final.without_copies.accuracy",
    "macro F1": "final.macro_f1",
    "balanced accuracy": "final.balanced_accuracy",
    "seeds": "seeds",
    "minutes": "minutes",
    "published": "published",
}
# Of a row, what `leaderboard.json` has beside the values at a table's places.
_KEPT = ("name", "published", "printed", "multiply_adds", "notes", "seeds", "hardware", "commits", "commands")
SCORE = ".4f"
# How the means of what is no score are written, by the last word of where they stand.
_FORMATS = {"parameters": ",.0f", "faces_seen": ",.0f", "minutes": ".1f", "epoch": "g"}


def summarise(name: str, row: dict, runs: list[str | Path | Run]) -> dict:
    """
    One row, from the finished runs of one configuration.

    Args:
        name (`str`): Of the row.
        row (`dict`): From [`~fer_hf.runs.leaderboard_plan.planned_row`], or of its keys as many as are known.
        runs (`list` of `str`, `Path` or [`Run`]): Output directories of the runs; none if it was not run.

    Returns:
        `dict`: `name`, `published`, `printed`, `multiply_adds` and `notes` of the plan; `runs`, for each of which
        `parameters`, `faces_seen`, `minutes`, `best`, and the reports `validation` and `test`, `both`, these faces
        together (accuracy, macro F1 and balanced accuracy), `last_epoch`, the report of the last weights, and `final`,
        of test, or of validation if nothing was tested; `seeds`, their number; `hardware`, `commits` and `commands`.

    Raises:
        BadInputError: If the runs are of different models, data or flags, or a record cannot be read.
    """
    records = [as_run(run).record for run in runs]
    _check_alike(name, records)
    tested = all(record.tested for record in records)
    return {
        "name": name + ("" if tested else " (validation; nothing was tested)"),
        **{"published": "", "printed": {}, "multiply_adds": None, "notes": [], **row},
        "seeds": len(records),
        "runs": [_facts(record) for record in records],
        "hardware": list({json.dumps(record.hardware): record.hardware for record in records}.values()),
        "commits": sorted({commit or "unknown" for record in records for commit in _commits(record)}),
        "commands": [record.command for record in records],
    }


def _check_alike(name: str, records: list[RunRecord]) -> None:
    """Raise [`BadInputError`] if the runs of a row differ in more than the seed."""
    for what, parts in {
        "models": [record.model for record in records],
        "data": [record.dataset["fingerprints"] for record in records],
        "flags": [{**record.training, "seed": None} for record in records],
    }.items():
        if any(part != parts[0] for part in parts):
            raise BadInputError(f"the runs of row {name} are of different {what}: delete what does not belong there")


def _facts(record: RunRecord) -> dict:
    """What a table can show of a run."""
    reports = {**record.results, "last_epoch": record.last_epoch and record.last_epoch["report"]}
    if record.results.keys() == {"validation", "test"}:
        reports["both"] = _together(*record.results.values())
    final = record.results[record.last_split]
    return {
        **reports,
        "final": {**final, "per_class": with_averages(final["per_class"])},
        "parameters": record.model["parameters"],
        "faces_seen": record.runtime["steps"] * record.training["global_batch_size"],
        "minutes": record.runtime["train_seconds"] / 60,
        "best": record.best,
        "last_validation": record.validations[-1] if record.validations else None,
    }


def _together(*reports: dict) -> dict:
    """The scores of several splits' faces as one."""
    counts = np.sum([report["confusion_matrix"] for report in reports], axis=0)
    scores = {name: float(value[0]) for name, value in confusion_scores(counts[None]).items()}
    return {"num_faces": int(counts.sum()), **scores, "confusion_matrix": counts.tolist()}


def _commits(record: RunRecord) -> list[str | None]:
    """Of the run, and of its parts if it was resumed."""
    return [record.commit, *(part["commit"] for part in record.runtime.get("commits", ()))]


def _at(place: str, facts: dict) -> Any:
    """The value at a dotted place in nested maps; `None` if there is none."""
    for key in place.split("."):
        facts = facts.get(key) if isinstance(facts, dict) else None
    return facts


def row_value(row: dict, place: str) -> Any:
    """
    What a row has at a place of a plan's `columns`.

    Args:
        row (`dict`): From [`summarise`].
        place (`str`): Keys of the row or, if it has none such, of its runs, with dots between: `final.accuracy`.

    Returns:
        Of the row what stands there. Of its runs the `mean` and sample standard deviation `sd` (`None` for one) of a
        number, the means of an interval's ends, or `None`, if a run has nothing there or there are no runs.
    """
    if place.split(".")[0] in row:
        return _at(place, row)
    values = [_at(place, run) for run in row["runs"]]
    if not values or None in values:
        return None
    if isinstance(values[0], list):
        return [statistics.mean(ends) for ends in zip(*values, strict=True)]
    return {"mean": statistics.mean(values), "sd": statistics.stdev(values) if len(values) > 1 else None}


def _cell(row: dict, places: str | list[str]) -> str:
    """The text of one cell; of several places what stands there, one after the other."""
    if isinstance(places, list):
        return " / ".join(_cell(row, place) for place in places)
    value, form = row_value(row, places), _FORMATS.get(places.split(".")[-1], SCORE)
    if value is None or value == "":
        return "-" if row["runs"] or places.split(".")[0] in row else "not run"
    if places == "multiply_adds":
        return f"{value / 1e6:,.1f} M"
    if isinstance(value, dict):
        spread = "" if value["sd"] is None or form != SCORE else f" ± {value['sd']:{SCORE}}"
        return f"{value['mean']:{form}}{spread}"
    if isinstance(value, list):
        return " to ".join(f"{end:{form}}" for end in value)
    return str(value).replace("|", "\\|")


PROTOCOL = (
    "Protocol: trained on the training split alone; whatever is selected is selected on validation; test is scored "
    "once for each run, on all faces and on those of which train holds no copy. Mean and sample standard deviation "
    "over seeds, or of one seed its figure. 95 % intervals by bootstrap over the test faces (their mean over seeds). "
    "Balanced accuracy is the mean of the classes' recalls; multiply-adds are of one face at the model's own size. "
    "Published figures stand beside ours with what they were measured on, and are not ours to compare where that "
    "differs."
)


def write_leaderboard(folder: Path, plan: dict, rows: list[dict]) -> None:
    """
    Write the table as `leaderboard.json`, `leaderboard.png`, and `leaderboard.md`: above the table what its plan says
    and the protocol, below it how each row came to be.

    Args:
        folder (`Path`): Where to.
        plan (`dict`): With `title` and `about`. A source's table has `columns` (others [`COLUMNS`]), and all its rows
            in its own order; `measured` is the place of the score that ranks, `compared` that of the published one.
        rows (`list[dict]`): From [`summarise`].
    """
    table, rows = leaderboard_table(plan, rows), _ranked(plan, rows)
    columns = plan.get("columns", COLUMNS).values()
    places = [place for entry in columns for place in (entry if isinstance(entry, list) else [entry])]
    flat = [
        {key: row[key] for key in _KEPT} | {"values": {place: row_value(row, place) for place in places}}
        for row in rows
    ]
    write_json(folder / "leaderboard.json", {"plan": plan, "rows": flat})
    lines = [f"# {plan['title']}", "", plan["about"].strip(), "", PROTOCOL, "", table, ""]
    for row in filter(lambda row: row["runs"], rows):
        where = "; ".join(", ".join(f"{key} {value}" for key, value in m.items()) for m in row["hardware"])
        lines += [f"**{row['name']}**: {where}; commit {', '.join(row['commits'])}", ""]
        lines += ["```bash", *row["commands"], "```", ""]
    write_text(folder / "leaderboard.md", "\n".join(lines))
    _draw(plan, rows, folder / "leaderboard.png")


def leaderboard_table(plan: dict, rows: list[dict]) -> str:
    """The rows as a Markdown table: a source's in its own order, others best first. A single one stands upright."""
    columns = plan.get("columns", COLUMNS)
    lines = [list(columns), *([_cell(row, places) for places in columns.values()] for row in _ranked(plan, rows))]
    words = ("name", "published", "note", "printed")
    rule = ["---" if str(places).split(".")[0] in words else "---:" for places in columns.values()]
    if len(plan["rows"]) == 1:
        lines, rule = list(zip(*lines, strict=True)), ["---", "---"]
    lines.insert(1, rule)
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _ranked(plan: dict, rows: list[dict]) -> list[dict]:
    """
    The rows best first, or of a source's table in its own order; these with their `rank` there, their
    `measured_rank`, and a `note`.
    """
    measured = plan.get("measured", "final.accuracy")
    rows = rows if "columns" in plan else [row for row in rows if row["runs"]]
    scores = {row["name"]: score["mean"] for row in rows if (score := row_value(row, measured))}
    best_first = sorted(scores, key=scores.get, reverse=True)
    if "columns" not in plan:
        return sorted(rows, key=lambda row: best_first.index(row["name"]))
    places = {name: place for place, name in enumerate(best_first, start=1)}
    return [
        {
            **row,
            "rank": place,
            "measured_rank": places.get(row["name"]),
            "note": "; ".join([*row["notes"], *_without_improvement(row["runs"], measured.split(".")[0])]),
        }
        for place, row in enumerate(rows, start=1)
    ]


def _without_improvement(runs: list[dict], scored: str) -> list[str]:
    """A note for the runs that give every face one class."""
    found = []
    for run in filter(lambda run: run.get(scored), runs):
        called = np.flatnonzero(np.sum(run[scored]["confusion_matrix"], axis=0))
        found += [list(run["final"]["per_class"])[called[0]]] if len(called) == 1 else []
    of = "" if len(runs) == 1 else f" in {len(found)} of {len(runs)} runs"
    return [f"no improvement: every face is called {' or '.join(dict.fromkeys(found))}{of}"] if found else []


def _draw(plan: dict, rows: list[dict], path: Path) -> None:
    """What was measured of every row, beside what was published or its balanced accuracy."""
    measured, compared = plan.get("measured", "final.accuracy"), plan.get("compared", "final.balanced_accuracy")
    bars = []
    for row in rows:
        score, other = row_value(row, measured) or {"mean": None, "sd": None}, row_value(row, compared)
        other = other["mean"] if isinstance(other, dict) else other
        bars.append((row["name"], score["mean"], score["sd"] or 0.0, other if other is None else float(other)))
    scored, score = measured.split(".")
    reports = [run[scored] for row in rows for run in row["runs"] if run.get(scored)]
    faces = dict.fromkeys(plural(report["num_faces"], "face") for report in reports)
    scored_on = ", ".join([plan.get("scored_on", "test"), " or ".join(faces) or "not run"])
    dots = "published" if "compared" in plan else "balanced accuracy"
    plot_leaderboard(bars, path, plan["title"], scored_on, (score.replace("_", " "), dots))
