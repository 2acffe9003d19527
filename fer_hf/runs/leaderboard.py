"""Many runs in one table: what was published, what we measured, and what it took, all from run records."""

import json
import statistics
from pathlib import Path

from fer_hf.errors import BadInputError
from fer_hf.files import write_json, write_text
from fer_hf.plots import plot_leaderboard
from fer_hf.runs.record import RunRecord
from fer_hf.runs.run import Run, as_run
from fer_hf.words import plural


SCORES = ("accuracy", "macro_f1", "balanced_accuracy")


def summarise(name: str, published: str, runs: list[str | Path | Run]) -> dict:
    """
    One row, from the finished runs of one configuration.

    Args:
        name (`str`): Of the row.
        published (`str`): What the source reports, and on which images; empty if it reports nothing.
        runs (`list` of `str`, `Path` or [`Run`]): Output directories of the runs.

    Returns:
        `dict`: `name`, `published`, `architecture`, `parameters`, `seeds`, `split` (`test`, or `validation` if nothing
        was tested) and its `num_faces`; for `accuracy`, `macro_f1` and `balanced_accuracy` there, and
        `accuracy_without_copies` where the runs know it, the mean and the sample standard deviation over seeds (`None`
        for one); `interval`, the 95 % interval of accuracy, the mean over seeds; mean `train_minutes` and
        `faces_seen`; `hardware`, `commits` and `commands`.

    Raises:
        BadInputError: If the runs are of different models, data or flags, or a record cannot be read.
    """
    records = [as_run(run).record for run in runs]
    _check_alike(name, records)
    tests = [record.results[record.last_split] for record in records]
    row = {
        "name": name,
        "published": published,
        "architecture": records[0].model["architecture"],
        "parameters": records[0].model["parameters"],
        "seeds": [record.seed for record in records],
        "split": records[0].last_split,
        "num_faces": tests[0]["num_faces"],
        **{score: _mean_and_sd([test[score] for test in tests]) for score in SCORES},
        "interval": [statistics.mean(ends) for ends in zip(*(t["intervals"]["accuracy"] for t in tests), strict=True)],
    }
    if all("without_copies" in test for test in tests):
        row["accuracy_without_copies"] = _mean_and_sd([test["without_copies"]["accuracy"] for test in tests])
    return {
        **row,
        "train_minutes": statistics.mean(record.runtime["train_seconds"] for record in records) / 60,
        "faces_seen": round(statistics.mean(_faces_seen(record) for record in records)),
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


def _faces_seen(record: RunRecord) -> int:
    return record.runtime["steps"] * record.training["global_batch_size"]


def _commits(record: RunRecord) -> list[str | None]:
    """Of the run, and of its parts if it was resumed."""
    return [record.commit, *(part["commit"] for part in record.runtime.get("commits", ()))]


def _mean_and_sd(values: list[float]) -> dict[str, float | None]:
    return {"mean": statistics.mean(values), "sd": statistics.stdev(values) if len(values) > 1 else None}


PROTOCOL = (
    "Protocol: trained on the training split alone; whatever is selected is selected on validation; test is scored "
    "once for each run, on all faces and on those of which train holds no copy. Mean and sample standard deviation "
    "over seeds, or of one seed its figure. 95 % intervals by bootstrap over the test faces (their mean over seeds). "
    "Balanced accuracy is the mean of the classes' recalls; multiply-adds are of one face at the model's own size. "
    "Published figures stand beside ours with what they were measured on, and are not ours to compare where that "
    "differs."
)


def write_leaderboard(folder: Path, budget: str, plan: dict, rows: list[dict]) -> None:
    """
    Write the table as `leaderboard.json`, `leaderboard.md` and `leaderboard.png`.

    Args:
        folder (`Path`): Where to.
        budget (`str`): The plan's name.
        plan (`dict`): With `title` and `about`.
        rows (`list[dict]`): From [`summarise`].
    """
    write_json(folder / "leaderboard.json", {"budget": budget, "plan": plan, "rows": rows})
    write_text(folder / "leaderboard.md", leaderboard_page(plan["title"], plan["about"], rows))
    draw_leaderboard(rows, folder / "leaderboard.png", plan["title"])


def leaderboard_page(title: str, about: str, rows: list[dict]) -> str:
    """
    The table as a Markdown page, with protocol and budget above it, and below it how each row came to be.

    Args:
        title (`str`): The heading.
        about (`str`): What all rows have in common.
        rows (`list[dict]`): From [`summarise`], with `multiply_adds` where they are known.
    """
    made = []
    for row in _ranked(rows):
        where = "; ".join(", ".join(f"{key} {value}" for key, value in machine.items()) for machine in row["hardware"])
        made += [f"**{row['name']}**: {where}; commit {', '.join(row['commits'])}", ""]
        made += ["```bash", *row["commands"], "```", ""]
    return "\n".join([f"# {title}", "", about.strip(), "", PROTOCOL, "", leaderboard_table(rows), "", *made])


def leaderboard_table(rows: list[dict]) -> str:
    """The rows as a Markdown table, best accuracy first."""
    lines = [
        "| model | parameters | multiply-adds | faces seen | accuracy | 95 % interval | without copies | macro F1 "
        "| balanced accuracy | seeds | minutes | published |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | --- |",
    ]
    for row in _ranked(rows):
        cells = [
            row["name"] + ("" if row.get("split", "test") == "test" else " (validation; nothing was tested)"),
            f"{row['parameters']:,}",
            _millions(row.get("multiply_adds")),
            f"{row['faces_seen']:,}",
            _score(row["accuracy"]),
            f"{row['interval'][0]:.4f} to {row['interval'][1]:.4f}",
            *(_score(row.get(score)) for score in ("accuracy_without_copies", *SCORES[1:])),
            str(len(row["seeds"])),
            f"{row['train_minutes']:.1f}",
            row["published"] or "-",
        ]
        lines.append(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |")
    return "\n".join(lines)


def _ranked(rows: list[dict]) -> list[dict]:
    return sorted(rows, key=lambda row: -row["accuracy"]["mean"])


def _millions(multiply_adds: int | None) -> str:
    return "-" if multiply_adds is None else f"{multiply_adds / 1e6:,.1f} M"


def _score(value: dict | None) -> str:
    if value is None:
        return "-"
    return f"{value['mean']:.4f}" + ("" if value["sd"] is None else f" ± {value['sd']:.4f}")


def draw_leaderboard(rows: list[dict], path: str | Path, title: str) -> None:
    """
    Write test accuracy and balanced accuracy of every row, best accuracy at the top.

    Args:
        rows (`list[dict]`): From [`summarise`].
        path (`str` or `Path`): PNG file.
        title (`str`): What was measured on what.
    """
    scores = [
        (row["name"], row["accuracy"]["mean"], row["accuracy"]["sd"] or 0.0, row["balanced_accuracy"]["mean"])
        for row in _ranked(rows)
    ]
    seen = dict.fromkeys(f"{row.get('split', 'test')}, {plural(row['num_faces'], 'face')}" for row in rows)
    plot_leaderboard(scores, path, title, " or ".join(seen))
