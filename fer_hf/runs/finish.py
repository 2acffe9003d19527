"""The end of every training run: score the selected weights, and leave report, pictures and record beside them."""

from pathlib import Path

import numpy as np
from datasets import Dataset, DatasetDict
from safetensors.torch import load_model
from transformers.utils import SAFE_WEIGHTS_NAME

from fer_hf.data.copies import leaked_rows
from fer_hf.escape import printable
from fer_hf.evaluation.predictions import Predictions, save_predictions
from fer_hf.evaluation.report import expression_report, of_sample, per_class_line, summary_text
from fer_hf.evaluation.scoring import whole_float32
from fer_hf.files import write_json
from fer_hf.provenance import command_line, environment
from fer_hf.runs.pictures import pictures_of
from fer_hf.runs.record import RECORD, RunRecord, describe_dataset, scoring
from fer_hf.runs.run import Run
from fer_hf.training.arguments import training_summary
from fer_hf.training.reporting import report_pictures
from fer_hf.training.trainer import FerTrainer
from fer_hf.training.unfreezing import GradualUnfreezing, count_parameters


def finish_run(
    trainer: FerTrainer,
    tables: DatasetDict,
    dataset: str,
    model: dict,
    flags: dict,
    unfreezing: GradualUnfreezing | None = None,
) -> RunRecord | None:
    """
    Save the selected model, score it on validation and, once, on test, as far as there are these splits, and write
    what the run leaves. With `score_last_epoch`, the weights after the last epoch are scored there, too. All in
    float32, as whoever loads the model scores it, also after a training in mixed precision.

    In `trainer.args.output_dir`: the model and its image processor, `all_results.json`, `trainer_state.json`,
    `classification_report.json`, `predictions.safetensors`, `confusion_matrix.png` (of test, and of validation as
    `validation_confusion_matrix.png`; without test, of validation), `reliability.png`, `class_balance.png`,
    `learning_curves.png`, `phases.png` (if layers were unfrozen) and `run_record.json`. The record is written last: a
    folder without one holds no finished run. The pictures also go to the trackers that the trainer reports to.

    Args:
        trainer (`FerTrainer`): After `train()`, holding the selected weights.
        tables (`DatasetDict`): With `train`, and `validation`, `test` or both.
        dataset (`str`): The data set's name.
        model (`dict`): What the record says of the model's start, such as `architecture` and `source`.
        flags (`dict`): What the record says of training beside `trainer.args`: loss, sampler, augmentation.
        unfreezing (`GradualUnfreezing`, *optional*): The callback that was used.

    Returns:
        `RunRecord`: The run's record, on the main process; `None` on others.
    """
    trainer.save_model()
    trainer.save_state()
    _leave_mixed_precision(trainer)
    prefixes = {"validation": "eval", "test": "test"}
    with whole_float32():
        scored = {split: _score(trainer, tables[split], prefixes[split]) for split in prefixes if split in tables}
        last = _score_last_epoch(trainer, tables, scored) if trainer.args.score_last_epoch else None
    if not trainer.is_world_process_zero():
        return None
    folder, names = Path(trainer.args.output_dir), tables["train"].features["label"].names
    save_predictions(folder, scored)
    copies = leaked_rows(tables)
    reports = {}
    for split, predictions in scored.items():
        report = expression_report(*predictions, names, copies[split])
        reports[split] = of_sample(report, report["num_faces"], flags.get("max_eval_samples"))
    write_json(folder / "classification_report.json", reports)
    rates = {"learning_rates": rates} if (rates := trainer.learning_rates()) else {}
    flags = {**flags, **rates, "data_path": getattr(trainer.train_dataset, "path", "plain")}
    record = _record(trainer, tables, dataset, {"architecture": type(trainer.model).__name__, **model}, flags, reports)
    record.unfreezing = unfreezing.table(trainer.model, trainer.args, trainer.state) if unfreezing else []
    if last is not None:
        report = expression_report(*last, names)
        record.last_epoch = {"epoch": trainer.state.epoch, "splits": list(scored), "report": report}
    if record.tested:
        record.test_scored = [scoring(dataset, "test", record.dataset["fingerprints"]["test"], "none")]
    for file, draw in pictures_of(record, trainer.state.log_history, scored[record.last_split]).items():
        draw(path=folder / file)
    record.write(folder / RECORD)
    report_pictures(trainer, {Path(name).stem: folder / name for name in Run(folder).pictures})
    _print_reports(record)
    return record


def finish_pretraining(
    trainer: FerTrainer, tables: DatasetDict, dataset: str, model: dict, flags: dict
) -> RunRecord | None:
    """
    The same for a model without expressions: score the selected weights on validation, in float32, and write the
    record. Whatever is to be kept of the model is saved before.

    Args:
        trainer (`FerTrainer`): After `train()`, holding the selected weights.
        tables (`DatasetDict`): The splits that were seen.
        dataset (`str`): The data set's name.
        model (`dict`): What the record says of it, with `architecture`.
        flags (`dict`): What the record says of training beside `trainer.args`, such as `augmentation`.

    Returns:
        `RunRecord`: The run's record, on the main process; `None` on others.
    """
    trainer.save_state()
    _leave_mixed_precision(trainer)
    with whole_float32():
        metrics = trainer.evaluate()
    trainer.save_metrics("eval", metrics)
    if not trainer.is_world_process_zero():
        return None
    best = _best(trainer)
    epoch = best["epoch"] if best else trainer.state.epoch
    results = {"validation": {"loss": metrics["eval_loss"], "epoch": epoch}}
    record = _record(trainer, tables, dataset, model, flags, results)
    record.write(Path(trainer.args.output_dir, RECORD))
    return record


def _record(
    trainer: FerTrainer, tables: DatasetDict, dataset: str, model: dict, flags: dict, results: dict
) -> RunRecord:
    """What the records of all runs say."""
    args = trainer.args
    return RunRecord(
        **environment(args.world_size, args.device.type),
        command=command_line(args.world_size),
        seed=args.seed,
        dataset=describe_dataset(dataset, tables),
        model={**model, "parameters": count_parameters(trainer.model)[1]},
        training={**training_summary(args), **flags},
        runtime=_runtime(trainer),
        results=results,
        phases=trainer.phases.table(),
        validations=_validations(trainer),
        best=_best(trainer),
        test_scored=[],
    )


def _print_reports(record: RunRecord) -> None:
    """Every split's figures on the terminal, in a line or two; cards and pages have the tables."""
    print()
    about = {"validation": "validation (selects)" if record.best else "validation", "test": "test (scored once)"}
    for split, report in record.results.items():
        print(printable(summary_text(report, about[split])))
    print(printable(per_class_line(record.results[record.last_split])))
    if last := record.last_epoch:
        title = f"{' and '.join(last['splits'])} together, after the last epoch"
        print(printable(summary_text(last["report"], title)))
    if not record.tested:
        print(f"{record.dataset['name']} has no test split: the run tested nothing.")


def _leave_mixed_precision(trainer: FerTrainer) -> None:
    """Score in float32 from here on: mixed precision is wrapped around the forward of the model (not by FSDP)."""
    trainer.accelerator.unwrap_model(trainer.model, keep_fp32_wrapper=False)


def _score(trainer: FerTrainer, split: Dataset, prefix: str, save: bool = True) -> Predictions:
    output = trainer.predict(split, metric_key_prefix=prefix)
    if save:
        trainer.save_metrics(prefix, output.metrics)
    # Some models give more than logits, which come first.
    logits = output.predictions[0] if isinstance(output.predictions, tuple) else output.predictions
    return Predictions(logits, output.label_ids)


def _score_last_epoch(trainer: FerTrainer, tables: DatasetDict, scored: dict[str, Predictions]) -> Predictions:
    """All faces of the splits in `scored` together, by the weights after the last epoch; the model stays as it was."""
    args, state, model = trainer.args, trainer.state, trainer.accelerator.unwrap_model(trainer.model)
    if args.load_best_model_at_end and state.best_global_step not in (None, state.global_step):
        load_model(model, Path(args.output_dir, f"checkpoint-{state.global_step}", SAFE_WEIGHTS_NAME))
        scored = {split: _score(trainer, tables[split], "last", save=False) for split in scored}
        load_model(model, Path(args.output_dir, SAFE_WEIGHTS_NAME))
    return Predictions(*map(np.concatenate, zip(*scored.values(), strict=True)))


def _runtime(trainer: FerTrainer) -> dict:
    """How long and how many steps the run has trained; if resumed, where it last was, and the commits of its parts."""
    history = trainer.state.log_history
    seconds = max((entry.get("elapsed_seconds", 0.0) for entry in history), default=0.0)
    runtime = {"train_seconds": seconds, "steps": trainer.state.global_step}
    if len(trainer.commits) > 1:
        runtime |= {"resumed_at_step": trainer.commits[-1]["from_step"], "commits": trainer.commits}
    return runtime


def _validations(trainer: FerTrainer) -> list[dict]:
    """Each validation during training: its scores, and when."""
    kept = ("epoch", "elapsed_seconds", "eval_accuracy", "eval_loss")
    return [
        {name.removeprefix("eval_"): entry[name] for name in kept if name in entry}
        for entry in trainer.state.log_history
        if "eval_loss" in entry and "elapsed_seconds" in entry
    ]


def _best(trainer: FerTrainer) -> dict | None:
    """The selected weights: by which metric, its value, and when; `None` if nothing was selected."""
    state = trainer.state
    if not state.best_global_step:
        return None
    epoch = next(e["epoch"] for e in state.log_history if e["step"] == state.best_global_step and "eval_loss" in e)
    metric = f"eval_{trainer.args.metric_for_best_model.removeprefix('eval_')}"
    return {"metric": metric, "value": state.best_metric, "epoch": epoch, "step": state.best_global_step}
