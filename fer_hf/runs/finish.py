"""The end of every training run: score the selected weights, and leave report, pictures and record beside them."""

from pathlib import Path

from datasets import Dataset, DatasetDict

from fer_hf.models.loading import asset_names
from fer_hf.data.copies import leaked_rows
from fer_hf.metrics import calibrated_probabilities, calibration_bins
from fer_hf.plots import plot_class_balance, plot_confusion_matrix, plot_learning_curves, plot_phases, plot_reliability
from fer_hf.evaluation.predictions import Predictions, save_predictions
from fer_hf.runs.record import describe_dataset, scoring
from fer_hf.provenance import environment, own_name
from fer_hf.files import write_json
from fer_hf.evaluation.report import expression_report, report_text
from fer_hf.training.arguments import training_summary
from fer_hf.provenance import command_line
from fer_hf.training.trainer import FerTrainer
from fer_hf.training.unfreezing import GradualUnfreezing, count_parameters


def finish_run(
    trainer: FerTrainer,
    faces: DatasetDict,
    dataset: str,
    model: dict,
    flags: dict,
    unfreezing: GradualUnfreezing | None = None,
) -> dict:
    """
    Save the selected model, score it on validation and, once, on test, and write what the run leaves.

    In `trainer.args.output_dir`: the model and its image processor, `all_results.json`, `trainer_state.json`,
    `classification_report.json`, `predictions.safetensors`, `confusion_matrix.png`, `reliability.png`,
    `class_balance.png`, `learning_curves.png`, `phases.png` (if layers thawed) and `run_record.json`. The record is
    written last: a folder without one holds no finished run.

    Args:
        trainer (`FerTrainer`): After `train()`, holding the selected weights.
        faces (`DatasetDict`): With `train`, `validation` and `test`.
        dataset (`str`): The data set's name.
        model (`dict`): What the record says of the model's start, such as `architecture` and `source`.
        flags (`dict`): What the record says of training beside `trainer.args`: loss, sampler, augmentation.
        unfreezing (`GradualUnfreezing`, *optional*): The callback that was used.

    Returns:
        `dict`: The run record.
    """
    args, state = trainer.args, trainer.state
    trainer.save_model()
    trainer.save_state()
    scored = {
        "validation": _score(trainer, faces["validation"], "eval"),
        "test": _score(trainer, faces["test"], "test"),
    }
    if not trainer.is_world_process_zero():
        return {}
    folder, names = Path(args.output_dir), faces["test"].features["label"].names
    save_predictions(folder, scored)
    copies = leaked_rows(faces)
    reports = {split: expression_report(*predictions, names, copies[split]) for split, predictions in scored.items()}
    write_json(folder / "classification_report.json", reports)
    table = unfreezing.table(trainer.model, args, state) if unfreezing else []
    best = _best(trainer)
    phases = trainer.phases.table()
    if len(phases) > 1:
        plot_phases(phases, trainer.phases.memory, folder / "phases.png")
    name, dataset = dataset, describe_dataset(dataset, faces)
    what = f"{name}, test"
    plot_confusion_matrix(reports["test"]["confusion_matrix"], names, folder / "confusion_matrix.png", what)
    bins = calibration_bins(calibrated_probabilities(scored["test"].logits), scored["test"].class_ids)
    plot_reliability(*bins, folder / "reliability.png", what)
    plot_class_balance(dataset["counts"], folder / "class_balance.png", name)
    plot_learning_curves(state.log_history, folder / "learning_curves.png", table, best and best["epoch"])
    record = {
        **environment(args.world_size, args.device.type),
        "command": command_line(args.world_size),
        "seed": args.seed,
        "dataset": dataset,
        "model": {
            "architecture": type(trainer.model).__name__,
            **model,
            "parameters": count_parameters(trainer.model)[1],
        },
        "training": {
            **training_summary(args),
            **flags,
            **({"learning_rates": rates} if (rates := trainer.learning_rates()) else {}),
            "data_path": getattr(trainer.train_dataset, "path", "plain"),
        },
        "unfreezing": table,
        "phases": phases,
        "validations": _validations(trainer),
        "best": best,
        "runtime": _runtime(trainer),
        "results": reports,
        "test_scored": [scoring(dataset["name"], "test", dataset["fingerprints"]["test"], "none")],
    }
    write_json(folder / "run_record.json", record)
    print(f"\n{report_text(reports['validation'], 'validation (selects)')}")
    print(f"\n{report_text(reports['test'], 'test (scored once)')}")
    return record


def finish_pretraining(trainer: FerTrainer, faces: DatasetDict, dataset: str, model: dict, flags: dict) -> dict:
    """
    The same for a model without expressions: score the selected weights on validation, and write the record.
    Whatever is to be kept of the model is saved before.

    Args:
        trainer (`FerTrainer`): After `train()`, holding the selected weights.
        faces (`DatasetDict`): What was seen.
        dataset (`str`): The data set's name.
        model (`dict`): What the record says of it.
        flags (`dict`): What the record says of training beside `trainer.args`, such as `augmentation`.

    Returns:
        `dict`: The run record, empty but on the main process.
    """
    args, state = trainer.args, trainer.state
    trainer.save_state()
    metrics = trainer.evaluate()
    trainer.save_metrics("eval", metrics)
    if not trainer.is_world_process_zero():
        return {}
    folder, best, phases = Path(args.output_dir), _best(trainer), trainer.phases.table()
    epoch = best["epoch"] if best else state.epoch
    record = {
        **environment(args.world_size, args.device.type),
        "command": command_line(args.world_size),
        "seed": args.seed,
        "dataset": describe_dataset(dataset, faces),
        "model": {**model, "parameters": count_parameters(trainer.model)[1]},
        "training": {**training_summary(args), **flags},
        "phases": phases,
        "validations": _validations(trainer),
        "best": best,
        "runtime": _runtime(trainer),
        "results": {"validation": {"loss": metrics["eval_loss"], "epoch": epoch}},
    }
    write_json(folder / "run_record.json", record)
    return record


def _score(trainer: FerTrainer, split: Dataset, prefix: str) -> Predictions:
    output = trainer.predict(split, metric_key_prefix=prefix)
    trainer.save_metrics(prefix, output.metrics)
    # Some models give more than logits, which come first.
    logits = output.predictions[0] if isinstance(output.predictions, tuple) else output.predictions
    return Predictions(logits, output.label_ids)


def _runtime(trainer: FerTrainer) -> dict:
    """How long and how many steps the run has trained; if resumed, where it last was, and the commits of its parts."""
    history = trainer.state.log_history
    seconds = max((entry.get("elapsed_seconds", 0.0) for entry in history), default=0.0)
    runtime = {"train_seconds": seconds, "steps": trainer.state.global_step}
    if len(trainer.commits) > 1:
        runtime |= {"resumed_at_step": trainer.commits[-1]["from_step"], "commits": trainer.commits}
    return runtime


def _validations(trainer: FerTrainer) -> list[dict]:
    """What validation said in the course of training, and when."""
    kept = ("epoch", "elapsed_seconds", "eval_accuracy", "eval_loss")
    return [
        {name.removeprefix("eval_"): entry[name] for name in kept if name in entry}
        for entry in trainer.state.log_history
        if "eval_loss" in entry and "elapsed_seconds" in entry
    ]


def _best(trainer: FerTrainer) -> dict | None:
    state = trainer.state
    if not state.best_global_step:  # nothing was selected: no checkpoint was to be written
        return None
    epoch = next(e["epoch"] for e in state.log_history if e["step"] == state.best_global_step and "eval_loss" in e)
    metric = f"eval_{trainer.args.metric_for_best_model.removeprefix('eval_')}"
    return {"metric": metric, "value": state.best_metric, "epoch": epoch, "step": state.best_global_step}
