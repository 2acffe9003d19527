"""The model card of a run, filled from the run's own files."""

import os
from pathlib import Path
from typing import Any

import jinja2
from huggingface_hub import EvalResult, ModelCard, ModelCardData

from fer_hf.metrics import time_to_accuracy
from fer_hf.models.loading import TEMPERATURE_KEY, asset, asset_names
from fer_hf.runs.facts import MODEL_PAPERS, dataset_facts, hub_dataset_id
from fer_hf.runs.files import (
    PICTURES,
    RECONSTRUCTIONS,
    RunDirectoryError,
    evaluations,
    face_pictures,
    read_json,
    run_directory,
    uses_remote_code,
)


_ASSETS = Path(__file__).parent.parent / "assets"
TEMPLATE, BACKBONE_TEMPLATE = _ASSETS / "model_card_template.md", _ASSETS / "backbone_card_template.md"

# Metric of a report -> its id, arguments and name in the model-index.
_METRICS = {
    "accuracy": ("accuracy", None, "Accuracy"),
    "macro_f1": ("f1", {"average": "macro"}, "Macro F1"),
    "mean_class_accuracy": ("recall", {"average": "macro"}, "Mean per-class accuracy"),
}
_APACHE = {"license": "apache-2.0"}


def render_model_card(
    run_dir: str | Path,
    repo_id: str | None = None,
    license: str | None = None,
    include_faces: bool = False,
    picture_folder: str = "",
) -> ModelCard:
    """
    The model card of a run, which made a classifier or pretrained a backbone. Every number in it comes from the run's
    files: `run_record.json`, `config.json` and, for a classifier, `preprocessor_config.json` and `evaluation/*.json`.

    Args:
        run_dir (`str` or `Path`):
            The output directory of a run.
        repo_id (`str`, *optional*):
            Where the model will live, for the usage snippet. If `None`, the name of `run_dir` is shown.
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
        `RunDirectoryError`: `run_dir` lacks one of the files, or a value that the card needs.
    """
    run_dir = run_directory(run_dir)
    record, config = read_json(run_dir / "run_record.json"), read_json(run_dir / "config.json")
    if not record.get("results"):
        raise RunDirectoryError(f"{run_dir / 'run_record.json'} holds no results: evaluate the run before publishing.")
    name = (repo_id or run_dir.resolve().name).split("/")[-1]
    try:
        facts = dataset_facts(record["dataset"]["name"])
        terms = {"license": license} if license else facts.get("license", _APACHE)
        faces = face_pictures(run_dir)
        shared = {
            "record": record,
            "facts": facts,
            "license": terms.get("license_name", terms["license"]),
            "name": name,
            "repo_id": repo_id,
            "faces": [path.name for path in faces] if include_faces else [],
            "counts": record["dataset"]["counts"],
            "made": _made(record),
            "hyperparameters": {
                key: str(value).replace("|", "\\|")
                for key, value in record["training"].items()
                if value not in (None, [], {})
            },
        }
        if "mask_ratio" in record["model"]:
            shown = not picture_folder and (include_faces or run_dir / RECONSTRUCTIONS not in faces)
            template, values = BACKBONE_TEMPLATE, _backbone_values(run_dir, record, config, terms, name, shown)
        else:
            template, values = TEMPLATE, _classifier_values(run_dir, record, config, facts, terms, name)
            values["picture_folder"] = picture_folder
        # Not `ModelCard.from_template`, which renders a missing value as nothing instead of refusing it.
        text = template.read_text(encoding="utf-8")
        content = jinja2.Template(text, undefined=jinja2.StrictUndefined).render(**shared, **values)
    except (AttributeError, KeyError, TypeError, jinja2.UndefinedError) as error:
        message = f"no {error}" if isinstance(error, KeyError) else str(error)
        raise RunDirectoryError(f"{run_dir}: the run's record and config cannot fill a card: {message}.") from error
    return ModelCard(content)


def _classifier_values(run_dir: Path, record: dict, config: dict, facts: dict, terms: dict, name: str) -> dict:
    """What the card of a classifier needs beside what all cards do."""
    scored_later = [{**entry, "title": dataset_facts(entry["dataset"])["title"]} for entry in evaluations(run_dir)]
    return {
        "card_data": _card_data(record, facts, terms, name, config["model_type"]).to_yaml(),
        "labels": [label for _, label in sorted((int(key), label) for key, label in config["id2label"].items())],
        "has_code": uses_remote_code(run_dir),
        "processor": _preprocessing(read_json(run_dir / "preprocessor_config.json")),
        "rows": _rows(record["results"]),
        "test": record["results"].get("test"),
        "last_split": _last_split(record),
        "last": record["results"][_last_split(record)],
        "evaluations": scored_later,
        "comparable": {
            (entry["title"], split): text
            for entry in scored_later
            for split, text in entry.get("comparable_with", {}).items()
        },
        "temperature": config.get(TEMPERATURE_KEY),
        "pictures": [(section, alt, name) for name, (section, alt) in PICTURES.items() if (run_dir / name).is_file()],
        "reached": time_to_accuracy(record.get("validations", [])),
        "citations": [*facts["citations"], *_model_papers(config)],
    }


def _backbone_values(run_dir: Path, record: dict, config: dict, terms: dict, name: str, shown: bool) -> dict:
    """What the card of a pretrained backbone, which tells no expression, needs beside what all cards do."""
    data = ModelCardData(
        **terms,
        library_name="transformers",
        pipeline_tag="image-feature-extraction",
        datasets=_dataset_ids(record),
        tags=["fer_hf", "vit", "mae"],
        model_name=name,
    )
    return {
        "card_data": data.to_yaml(),
        "config": config,
        "shipped": run_dir.resolve() in [Path(asset(shipped)).resolve() for shipped in asset_names()],
        "picture": RECONSTRUCTIONS if shown and (run_dir / RECONSTRUCTIONS).is_file() else None,
    }


def write_model_card(
    run_dir: str | Path, repo_id: str | None = None, license: str | None = None, include_faces: bool = False
) -> Path:
    """
    Renders the card of `run_dir` into its `README.md`, over whatever stood there; a reader never sees half a file.

    Returns:
        `Path`: The card's file.
    """
    return save_card(render_model_card(run_dir, repo_id, license, include_faces), Path(run_dir, "README.md"))


def save_card(card: ModelCard, path: Path) -> Path:
    """Write a card whole or not at all."""
    unfinished = path.with_name(f".{path.name}.unfinished")
    card.save(unfinished)
    os.replace(unfinished, path)
    return path


def _card_data(record: dict, facts: dict, terms: dict, name: str, model_type: str) -> ModelCardData:
    dataset = record["dataset"]["name"]
    dataset_id = hub_dataset_id(dataset) or dataset
    # Folders and shipped checkpoints are no Hub ids, whatever they look like.
    base_model = record["model"]["name_or_path"] if record["model"]["source"] == "hub" else None
    results = []
    for split, report in record["results"].items():
        # Validation chose the checkpoint, so it is listed by accuracy alone; the test split is the result.
        for metric in _METRICS if split == "test" else ("accuracy",):
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
        eval_results=results,
    )


def _dataset_ids(record: dict) -> list[str] | None:
    dataset = record["dataset"]["name"]
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


def _rows(results: dict[str, dict]) -> list[tuple[str, dict]]:
    """Lines of the table of results: every split, and below it its faces that have no copy in train."""
    rows = []
    for split, report in results.items():
        rows.append((split, report))
        if "without_copies" in report:
            rows.append((f"{split}, without copies", report["without_copies"]))
    return rows


def _last_split(record: dict) -> str:
    return "test" if "test" in record["results"] else next(iter(record["results"]))


def _preprocessing(processor: dict) -> dict[str, Any]:
    """What the image processor does to a picture, of its file's many fields."""
    steps = {"size": "resize", "crop_size": "center_crop", "image_mean": "normalize", "image_std": "normalize"}
    kept = {name: processor[name] for name, step in steps.items() if processor.get(f"do_{step}") and name in processor}
    return kept | {name: processor[name] for name in ("face_margin",) if name in processor}


def _made(record: dict) -> str:
    """With what, when and on what a run was made."""
    runtime, resumed = record["runtime"], ""
    if "resumed_at_step" in runtime:
        commits = runtime.get("commits", ())  # older records have the last one only
        parts = ", ".join(f"`{part['commit'] or 'unknown'}` from step {part['from_step']:,}" for part in commits)
        which = f"; its commits: {parts}" if parts else ", at this commit from there on"
        resumed = f" (last resumed at step {runtime['resumed_at_step']:,}{which})"
    commit = f"commit `{record['commit']}`" if record["commit"] else "no commit was recorded"
    hardware = ", ".join(f"{key} {value}" for key, value in record["hardware"].items())
    return (
        f"Seed {record['seed']}; {commit};\nfer_hf {record['fer_hf_version']}; finished {record['date']}; "
        f"{_duration(runtime['train_seconds'])} of training{resumed} on\n{hardware}."
    )


def _duration(seconds: float) -> str:
    return f"{seconds / 60:.1f} minutes" if seconds >= 60 else f"{seconds:.0f} seconds"


def _model_papers(config: dict) -> list[str]:
    paper = MODEL_PAPERS.get(config.get("backbone_config", config)["model_type"])
    return [paper] if paper else []
