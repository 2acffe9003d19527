"""The model card of a run, filled from the run's own files."""

from pathlib import Path
from typing import Any

import jinja2
from huggingface_hub import EvalResult, ModelCard, ModelCardData

from fer_hf.data.published import PUBLISHED
from fer_hf.escape import markdown, markdown_code, markdown_names
from fer_hf.evaluation.report import score_rows_of, with_averages
from fer_hf.files import write_text
from fer_hf.metrics import time_to_accuracy
from fer_hf.models.loading import TEMPERATURE_KEY
from fer_hf.runs.facts import DATASETS, MODEL_PAPERS, dataset_facts, hub_dataset_id, license_terms
from fer_hf.runs.pictures import PICTURES
from fer_hf.runs.record import RunDirectoryError, RunRecord
from fer_hf.runs.run import Run, as_run
from fer_hf.runs.upload_files import RECONSTRUCTIONS, face_pictures
from fer_hf.runs.usage import photo_usage, ships, usage


_ASSETS = Path(__file__).parent.parent / "assets"
TEMPLATE, BACKBONE_TEMPLATE = _ASSETS / "model_card_template.md", _ASSETS / "backbone_card_template.md"

# Metric of a report -> its id, arguments and name in the model-index.
_METRICS = {
    "accuracy": ("accuracy", None, "Accuracy"),
    "macro_f1": ("f1", {"average": "macro"}, "Macro F1"),
    "balanced_accuracy": ("recall", {"average": "macro"}, "Balanced accuracy"),
}


def render_model_card(
    run: str | Path | Run,
    repo_id: str | None = None,
    license: str | None = None,
    include_faces: bool = False,
    picture_folder: str = "",
) -> ModelCard:
    """
    The model card of a run, which made a classifier or pretrained a backbone. Every number in it comes from the run's
    files: `run_record.json`, `config.json` and, for a classifier, `preprocessor_config.json` and `evaluation/*.json`.

    Args:
        run (`str`, `Path` or [`Run`]):
            The output directory of a run.
        repo_id (`str`, *optional*):
            Where the model will live, for the code that loads it. If `None`, that is the card's own folder, or the
            package, if the model ships with it.
        license (`str`, *optional*):
            The Hub's id of a licence, such as `mit`. If `None`, what the data set's terms allow: Apache-2.0, or for
            RAF-DB its own.
        include_faces (`bool`, *optional*, defaults to `False`):
            Whether pictures of the data's faces lie beside the card: it says so, and a backbone's shows its own.
        picture_folder (`str`, *optional*, defaults to `""`):
            Where the pictures lie, seen from the card; with a slash at its end. None of them shows faces.

    Returns:
        `huggingface_hub.ModelCard`: The card; a classifier's with a `model-index` in its metadata.

    Raises:
        RunDirectoryError: If the run lacks one of the files, or a value that the card needs.
    """
    run = as_run(run)
    name = (repo_id or run.name).split("/")[-1]
    place = repo_id or (None if ships(run) else ".")
    try:
        facts = dataset_facts(run.record.dataset["name"])
        if "splits" in facts and _has_own_splits(run.record):
            facts = {**facts, "splits": "The splits are not the published ones."}
        terms = license_terms(run.record.dataset["name"], license)
        if "mask_ratio" in run.record.model:
            shown = not picture_folder and (include_faces or run.folder / RECONSTRUCTIONS not in face_pictures(run))
            template, values = BACKBONE_TEMPLATE, _backbone_values(run, terms, name, shown)
        else:
            template, values = TEMPLATE, _classifier_values(run, facts, terms, name)
            values |= {"picture_folder": picture_folder, "photo_usage": photo_usage(run, place)}
        faces = [path.name for path in face_pictures(run)] if include_faces else []
        is_ours = run.record.dataset["name"] in DATASETS
        shown = facts if is_ours else {**facts, "title": markdown(facts["title"])}
        values |= {**_shared_values(run.record), "facts": shown, "name": name, "faces": faces}
        values |= {"place": place, "usage": usage(run, place)}
        values["license"] = terms.get("license_name", terms["license"])
        # Not `ModelCard.from_template`, which renders a missing value as nothing instead of refusing it.
        text = template.read_text(encoding="utf-8")
        content = jinja2.Template(text, undefined=jinja2.StrictUndefined).render(values)
    except (AttributeError, KeyError, TypeError, jinja2.UndefinedError) as error:
        message = f"no {error}" if isinstance(error, KeyError) else str(error)
        raise RunDirectoryError(f"{run}: the run's record and config cannot fill a card: {message}.") from error
    return ModelCard(content)


def _has_own_splits(record: RunRecord) -> bool:
    """Whether validation or test cannot be the published ones: a run tested nothing, or on more faces than those."""
    counts, published = record.dataset["counts"], PUBLISHED.get(record.dataset["name"], {}).get("counts", {})
    larger = [
        split
        for split in ("validation", "test")
        if split in counts and split in published and sum(counts[split].values()) > sum(published[split].values())
    ]
    return bool(larger) or not (record.tested or "mask_ratio" in record.model)


def _shared_values(record: RunRecord) -> dict:
    """What all cards say of a run."""
    hyperparameters = {
        name: _shown(value).replace("|", "\\|")
        for name, value in record.training.items()
        if value not in (None, [], {})
    }
    return {
        "record": record,
        "counts": markdown_names(record.dataset["counts"]),
        "text": markdown,
        "code": markdown_code,
        "made": _made(record),
        "hyperparameters": hyperparameters,
    }


def _shown(value: Any) -> str:
    """A hyperparameter as a table has it: rates by four digits, lists and maps in words."""
    if isinstance(value, dict):
        return "; ".join(f"{name}: {_shown(part)}" for name, part in value.items())
    if isinstance(value, list):
        return ", ".join(map(_shown, value))
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _classifier_values(run: Run, facts: dict, terms: dict, name: str) -> dict:
    """What the card of a classifier needs beside what all cards do."""
    record, config = run.record, run.config
    scored_later = [{**entry, "title": dataset_facts(entry["dataset"])["title"]} for entry in run.evaluations]
    scored_later, results = markdown_names(scored_later), markdown_names(record.results)
    last = results[markdown(record.last_split)]
    return {
        "card_data": _card_data(record, facts, terms, name, config["model_type"]).to_yaml(),
        "labels": [
            markdown(label) for _, label in sorted((int(key), label) for key, label in config["id2label"].items())
        ],
        "processor": _preprocessing(run.processor),
        "rows": score_rows_of(results, "without copies"),
        "test": results.get("test"),
        "last_split": markdown(record.last_split),
        "last": last,
        "class_rows": with_averages(last["per_class"]),
        "evaluations": scored_later,
        "comparable": {
            (entry["title"], split): text
            for entry in scored_later
            for split, text in entry.get("comparable_with", {}).items()
        },
        "temperature": config.get(TEMPERATURE_KEY),
        "pictures": [(*PICTURES[picture], picture) for picture in run.pictures],
        "reached": time_to_accuracy(record.validations),
        "citations": [*facts["citations"], *_model_papers(config)],
    }


def _backbone_values(run: Run, terms: dict, name: str, shown: bool) -> dict:
    """What the card of a pretrained backbone, which tells no expression, needs beside what all cards do."""
    data = ModelCardData(
        **terms,
        library_name="transformers",
        pipeline_tag="image-feature-extraction",
        datasets=_dataset_ids(run.record),
        tags=["fer_hf", "vit", "mae"],
        model_name=name,
    )
    return {
        "card_data": data.to_yaml(),
        "config": run.config,
        "picture": RECONSTRUCTIONS if shown and (run.folder / RECONSTRUCTIONS).is_file() else None,
    }


def write_model_card(
    run: str | Path | Run, repo_id: str | None = None, license: str | None = None, include_faces: bool = False
) -> Path:
    """
    Write the card of a run into its `README.md`, over whatever stood there. Arguments and errors are those of
    [`render_model_card`].

    Returns:
        `Path`: The card's file.
    """
    run = as_run(run)
    path = run.folder / "README.md"
    write_text(path, str(render_model_card(run, repo_id, license, include_faces)))
    return path


def _card_data(record: RunRecord, facts: dict, terms: dict, name: str, model_type: str) -> ModelCardData:
    dataset = record.dataset["name"]
    dataset_id = hub_dataset_id(dataset) or dataset
    # Folders and shipped checkpoints are no Hub ids, whatever they look like.
    base_model = record.model["name_or_path"] if record.model["source"] == "hub" else None
    results = []
    for split, report in record.results.items():
        if "max_eval_samples" in report:  # no result of the split
            continue
        # Validation chose the checkpoint, so beside a test split, which is the result, it is listed by accuracy alone.
        for metric in _METRICS if split == record.last_split else ("accuracy",):
            results.append(_eval_result(dataset_id, facts["title"], split, metric, report[metric]))
        if "without_copies" in report:
            value = report["without_copies"]["accuracy"]
            results.append(_eval_result(dataset_id, facts["title"], split, "accuracy", value, " without copies"))
    return ModelCardData(
        **terms,
        library_name="transformers",
        pipeline_tag="image-classification",
        base_model=base_model,
        datasets=_dataset_ids(record),
        tags=["facial-expression-recognition", "emotion-recognition", "fer_hf", model_type],
        metrics=["accuracy", "f1", "recall"],
        model_name=name,
        eval_results=results or None,
    )


def _dataset_ids(record: RunRecord) -> list[str] | None:
    dataset = record.dataset["name"]
    return None if dataset == "imagefolder" else [hub_dataset_id(dataset) or dataset]


def _eval_result(dataset_id: str, title: str, split: str, metric: str, value: float, which: str = "") -> EvalResult:
    metric_type, metric_args, metric_name = _METRICS[metric]
    return EvalResult(
        task_type="image-classification",
        task_name="Facial expression recognition",
        dataset_type=dataset_id,
        dataset_name=title,
        dataset_split=split,
        metric_type=metric_type,
        metric_name=metric_name + which,
        metric_args=metric_args,
        metric_value=value,
    )


def _preprocessing(processor: dict) -> dict[str, Any]:
    """What the image processor does to a picture, of its file's many fields."""
    steps = {"size": "resize", "crop_size": "center_crop", "image_mean": "normalize", "image_std": "normalize"}
    kept = {name: processor[name] for name, step in steps.items() if processor.get(f"do_{step}") and name in processor}
    return kept | {name: processor[name] for name in ("face_margin",) if name in processor}


def _made(record: RunRecord) -> str:
    """With what, when and on what a run was made."""
    runtime, resumed = record.runtime, ""
    if "resumed_at_step" in runtime:
        commits = runtime.get("commits", ())  # older records have the last one only
        parts = ", ".join(f"`{part['commit'] or 'unknown'}` from step {part['from_step']:,}" for part in commits)
        which = f"; its commits: {parts}" if parts else ", at this commit from there on"
        if len({part["commit"] for part in commits}) == 1:
            which = ", all at this commit"
        resumed = f" (last resumed at step {runtime['resumed_at_step']:,}{which})"
    commit = f"commit `{record.commit}`" if record.commit else "no commit was recorded"
    hardware = ", ".join(f"{key} {value}" for key, value in record.hardware.items())
    return (
        f"Seed {record.seed}; {commit};\nfer_hf {record.fer_hf_version}; finished {record.date}; "
        f"{_duration(runtime['train_seconds'])} of training{resumed} on\n{hardware}."
    )


def _duration(seconds: float) -> str:
    return f"{seconds / 60:.1f} minutes" if seconds >= 60 else f"{seconds:.0f} seconds"


def _model_papers(config: dict) -> list[str]:
    paper = MODEL_PAPERS.get(config.get("backbone_config", config)["model_type"])
    return [paper] if paper else []
