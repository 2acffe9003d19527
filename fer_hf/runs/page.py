"""A run as one HTML page with everything in it: scores, pictures, how it was made."""

import base64
import io
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import jinja2
import numpy as np
import torch
from datasets import Dataset, DatasetDict
from transformers import PreTrainedModel

import fer_hf.plots as plots
from fer_hf.bars import Bar
from fer_hf.data import content_fingerprint
from fer_hf.data.collator import FaceCollator
from fer_hf.data.select import sample_faces
from fer_hf.errors import BadInputError
from fer_hf.evaluation.attention import attention, class_means, maps_over_faces
from fer_hf.evaluation.predictions import Predictions, first_right, sure_and_wrong
from fer_hf.evaluation.report import score_rows_of, with_averages
from fer_hf.files import check_output, write_text
from fer_hf.metrics import calibrated_probabilities
from fer_hf.models.loading import load_trained_classifier
from fer_hf.runs.pictures import pictures_of
from fer_hf.runs.record import RECORD
from fer_hf.runs.run import Run, as_run


TEMPLATE = Path(__file__).parents[1] / "assets" / "report.html"
# Sheets of right and of wrong faces have this many rows; attention is shown and averaged over this many faces a class.
ROWS, STRIPS, AVERAGED = 3, 4, 32


def write_report(
    run: str | Path | Run,
    data: DatasetDict | None = None,
    output: str | Path | None = None,
    show_faces: bool = False,
    disable_tqdm: bool = False,
    overwrite: bool = False,
) -> Path:
    """
    Write the report of a run. Every number in it comes from the run's files.

    Args:
        run (`str`, `Path` or [`Run`]):
            Output directory of a finished run, with `run_record.json`, and as far as there are such files,
            `trainer_state.json`, `predictions.safetensors` and `evaluation/*.json`.
        data (`DatasetDict`, *optional*):
            The run's own data. With it the page shows what the model attends to, if it tells.
        output (`str` or `Path`, *optional*):
            The page. Default: `report.html` in the run's directory.
        show_faces (`bool`, defaults to `False`):
            Show faces of the data too. **If these are people, the page must not be published**; it says so at its top
            and in a `<meta name="fer_hf:faces">`.
        disable_tqdm (`bool`, defaults to `False`):
            Show no progress bar.
        overwrite (`bool`, defaults to `False`):
            Replace a file at `output`; never one in the run's directory.

    Returns:
        `Path`: The page. It needs no other file and no network.

    Raises:
        BadInputError: If a file is missing or cannot be read, the data is not the run's, or as
            [`~fer_hf.files.check_output`].
    """
    run = as_run(run)
    output = _place(run, output, overwrite)
    record = run.record
    if show_faces and data is None:
        raise BadInputError("`faces` needs the run's data: give `dataset`, `data_dir` and `dataset_options`.")
    split = record.last_split
    table = None if data is None else _same_faces(data, run, split)
    predictions = run.predictions.get(split) if show_faces or run.has_predictions else None
    pictures, attention_texts, sheets = _pictures(run, predictions), {}, {}
    if table is not None:
        shown, attention_texts = _attention(run, table, predictions if show_faces else None, disable_tqdm)
        pictures |= shown
    if show_faces:
        shown, sheets = _sheets(table, predictions, split)
        pictures |= shown
    people = show_faces and record.dataset["name"] != "synthetic"
    page = _page(run, split, pictures, attention_texts, sheets, record.dataset["name"] if people else None)
    write_text(output, page)
    return output


def _place(run: Run, output: str | Path | None, overwrite: bool) -> Path:
    """Where the page goes: over an earlier report in the run's directory, or to `output`."""
    if output is None:
        check_output("output", page := run.folder / "report.html", overwrite=True)
        return page
    check_output("output", output, overwrite, [run.folder])
    return Path(output)


def _page(
    run: Run, split: str, pictures: dict, attention_texts: dict, sheets: dict, shows_faces_of: str | None
) -> str:
    """The HTML, filled in."""
    record, evaluations = run.record, [{**item, "title": _title(item)} for item in run.evaluations]
    score_rows, evaluation_rows = (
        score_rows_of(reports, "faces without a copy in train") for reports in (record.results, _reports(evaluations))
    )
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined)
    try:
        return environment.from_string(TEMPLATE.read_text(encoding="utf-8")).render(
            name=run.name,
            record=record,
            split=split,
            report=record.results[split],
            class_rows=with_averages(record.results[split]["per_class"]),
            score_rows=score_rows,
            has_intervals=any("intervals" in report for _, report in score_rows + evaluation_rows),
            evaluations=evaluations,
            evaluation_rows=evaluation_rows,
            pictures=pictures,
            attention=attention_texts,
            sheets=sheets,
            shows_faces_of=shows_faces_of,
        )
    except jinja2.UndefinedError as error:
        raise BadInputError(f"{run.folder / RECORD} lacks a value that the page needs: {error}.") from error


def _title(item: dict) -> str:
    """What an evaluation scored, in words."""
    views = "" if item["tta"] == "none" else f", mean over {item['tta']}"
    return f"{item['dataset']}, {item['split']}{views}"


def _reports(evaluations: list[dict]) -> dict[str, dict]:
    """Reports by title: of every evaluation and, where it is of several splits together, of each of them."""
    reports = {}
    for item in evaluations:
        reports[item["title"]] = item["report"]
        for part, scored in item.get("parts", {}).items():
            reports[f"{item['title']}: {part} alone"] = scored["report"]
    return reports


def _picture(plot: Callable, *args, **options) -> str:
    """What a function of [`fer_hf.plots`] draws, as a data URI."""
    file = io.BytesIO()
    plot(*args, path=file, **options)
    return "data:image/png;base64," + base64.b64encode(file.getvalue()).decode()


def _pictures(run: Run, predictions: Predictions | None) -> dict[str, str]:
    """Pictures that show no faces, by their name in the template."""
    found = {file: _picture(draw) for file, draw in pictures_of(run.record, run.log_history, predictions).items()}
    for item in run.evaluations:
        if damaged := item.get("robustness"):
            rows = damaged["corruptions"].items()
            curves = {kind: [damaged["clean"], *(row["accuracy"] for row in part)] for kind, part in rows}
            title = _title(item)
            found[f"robustness {title}"] = _picture(plots.plot_robustness, curves, title=title)
    return found


def _same_faces(data: DatasetDict, run: Run, split: str) -> Dataset:
    """The faces that the run was scored on: with `max_eval_samples`, a sample of the split."""
    expected, num_faces = run.record.dataset["fingerprints"][split], run.record.results[split]["num_faces"]
    found = "no such split"
    if split in data:
        table = sample_faces(data[split], num_faces)
        if (found := content_fingerprint(table)) == expected:
            return table
        first = data[split].select(range(len(table)))  # what older runs took for a sample
        if content_fingerprint(first) == expected:
            return first
    raise BadInputError(
        f"The {split} faces given are not those that {run} was scored on (fingerprint {found[:16]}, not "
        f"{expected[:16]}): give the run's own `dataset`, `data_dir` and `dataset_options`."
    )


def _sheets(table: Dataset, predictions: Predictions, split: str) -> tuple[dict[str, str], dict[str, str]]:
    """Pictures of faces with what the model says of them, and what to write below each."""
    logits, labels = predictions.logits, predictions.class_ids
    names = table.features["label"].names
    probabilities = calibrated_probabilities(logits)
    right = first_right(logits, labels, ROWS)
    wrong = sure_and_wrong(logits, labels, ROWS * len(names))
    pictures, texts = {}, {}
    for key, rows, title in (("right", right, "the first faces it gets right"), ("wrong", wrong, "its surest errors")):
        if len(rows):
            sheet = {"title": f"{split}: {title}", "columns": len(names)}
            images = [table[int(row)]["image"] for row in rows]
            shown = (images, probabilities[rows], labels[rows], names)
            pictures[key] = _picture(plots.plot_predictions, *shown, **sheet)
    texts["right"] = f"The first faces of the {split} split that it gets right, and how sure it is."
    texts["wrong"] = "The errors of which it is surest, with the true expression and its probability."
    doubtful = int(probabilities.max(axis=1).argmin())
    title = f"{split} face {doubtful}, which is {names[labels[doubtful]]}"
    image = table[doubtful]["image"]
    pictures["doubt"] = _picture(plots.plot_probabilities, [image], probabilities[[doubtful]], names, title=title)
    texts["doubt"] = "The face of which it is least sure."
    return pictures, texts


def _attention(
    run: Run, table: Dataset, predictions: Predictions | None, disable_tqdm: bool
) -> tuple[dict[str, str], dict[str, str]]:
    """
    Pictures of attention, as far as the model tells of it, and what to write below each. With `predictions`, faces
    are shown.
    """
    names = table.features["label"].names
    model, processor = load_trained_classifier(str(run))
    collate = FaceCollator(processor)

    def look(rows: np.ndarray) -> tuple[torch.Tensor, dict[str, np.ndarray]]:
        pixel_values = collate([table[int(row)] for row in rows])["pixel_values"]
        return pixel_values, attention(model, pixel_values)

    labels = np.array(table["label"][:])
    of_class = [np.flatnonzero(labels == i)[:AVERAGED] for i in range(len(names))]
    first = np.concatenate([rows[:1] for rows in of_class])
    pictures, texts = {}, {}
    if "features" in look(first)[1]:
        rows = np.concatenate(of_class)
        parts = [rows[i : i + AVERAGED] for i in range(0, len(rows), AVERAGED)]
        bar = Bar(parts, "attention", disable=disable_tqdm)
        weights = np.concatenate([look(part)[1]["features"] for part in bar])
        pictures, texts = _feature_attention(weights, labels[rows], names)
    if predictions is None:
        return pictures, texts
    wrong, answers = sure_and_wrong(predictions.logits, labels, len(names)), predictions.logits.argmax(axis=1)
    titles = [names[i] for i in labels[first]]
    errors = [f"{names[answers[i]]}\n(is {names[labels[i]]})" for i in wrong]
    shown = (("maps", first, titles, "in a face of each kind"), ("errors", wrong, errors, "in its surest errors"))
    for key, rows, above, where in shown:
        if len(rows) and (drawn := _over_faces(model, *look(rows), above)):
            pictures[key], texts[key] = drawn[0], f"Where it looks {where}, {drawn[1]}"
    return pictures, texts


def _over_faces(
    model: PreTrainedModel, pixel_values: torch.Tensor, found: dict[str, np.ndarray], titles: list[str]
) -> tuple[str, str] | None:
    """A picture of maps over faces, and what they are; `None` if there are none."""
    if not {"local", "rollout"} & found.keys() and find_spec("captum") is None:  # class activation is the extra's
        return None
    maps = maps_over_faces(model, pixel_values, found)
    kinds = {
        "branch 1": " Branches: TransFER's local attention.",
        "rollout": " Rollout: what reaches the class token through all layers.",
        "class activation": " Class activation: what in the last feature map speaks for the answer.",
    }
    about = "".join(text for kind, text in kinds.items() if kind in maps)
    if not maps:
        return None
    picture = _picture(plots.plot_attention_maps, pixel_values.numpy(), maps, titles)
    return picture, f"from dark (least) to bright (most) within each face.{about}"


def _feature_attention(
    weights: np.ndarray, labels: np.ndarray, names: list[str]
) -> tuple[dict[str, str], dict[str, str]]:
    """DACL's attention weights of the features, and how alike they are for the expressions."""
    strips = np.concatenate([np.flatnonzero(labels == i)[:STRIPS] for i in range(len(names))])
    titles = [names[i] for i in labels[strips]]
    title = "weight of each feature, one strip a face"
    # Pearson's correlation over features: of weights that are all positive, the cosine would always be near 1.
    alike = np.corrcoef(class_means(weights, labels, len(names)))
    pictures = {
        "strips": _picture(plots.plot_attention_strips, weights[strips], titles, title=title),
        "similarity": _picture(plots.plot_similarity, alike, names, title="correlation of mean attention"),
    }
    texts = {
        "strips": f"Attention weights of the features, one strip a face, {STRIPS} faces of each expression.",
        "similarity": f"How alike the expressions' attention weights are: correlation over features of the mean over "
        f"up to {AVERAGED} faces each. (DACL attends to different features for different expressions, if it works.)",
    }
    return pictures, texts
