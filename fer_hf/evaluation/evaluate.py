"""Score any classifier of expressions on any split of any data set: `fer-hf evaluate`."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from datasets import Dataset, DatasetDict, concatenate_datasets
from transformers import BaseImageProcessor, PreTrainedModel

from fer_hf.data import content_fingerprint
from fer_hf.data.copies import pixel_hashes
from fer_hf.data.published import comparable_with
from fer_hf.errors import BadInputError
from fer_hf.evaluation.label_matching import match_labels
from fer_hf.evaluation.predictions import Predictions
from fer_hf.evaluation.report import calibration, calibration_text, expression_report, of_sample, report_text
from fer_hf.evaluation.robustness import robustness, robustness_text
from fer_hf.evaluation.scoring import Change, score_faces
from fer_hf.evaluation.subgroups import check_subgroups, subgroups, subgroups_text
from fer_hf.evaluation.tta import TTA
from fer_hf.metrics import ExpressionMetrics, fit_temperature
from fer_hf.models.loading import TEMPERATURE_KEY, load_trained_classifier
from fer_hf.provenance import environment, own_name
from fer_hf.words import plural


@dataclass(frozen=True)
class EvaluationOptions:
    """
    How a classifier is scored.

    Args:
        split (`str`, defaults to `"test"`):
            A split, or several joined by `+`, which are then scored apart and together.
        tta (`str`, defaults to `"none"`): Test-time augmentation, one of [`~fer_hf.evaluation.tta.TTA`].
        batch_size (`int`, defaults to 64): Images at a time.
        subgroups (`Sequence[str]`): Columns of the table, such as `"gender"`, by whose values to score apart.
        robustness (`bool`): Score damaged images too ([`~fer_hf.evaluation.robustness`]): 25 times the work.
        calibrate (`bool`): Fit a temperature on `validation`.
        device (`str`, *optional*): Such as `"cuda:1"`. Default: a GPU if there is one.
        max_eval_samples (`int`, *optional*): The tables hold samples of so many faces of each split, and the reports
            say so.
    """

    split: str = "test"
    tta: str = "none"
    batch_size: int = 64
    subgroups: Sequence[str] = ()
    robustness: bool = False
    calibrate: bool = False
    device: str | None = None
    max_eval_samples: int | None = None

    @property
    def splits(self) -> list[str]:
        """The names in `split`."""
        return self.split.split("+")

    def check(self, tables: DatasetDict) -> None:
        """
        Refuse what cannot be done, before a model is loaded.

        Raises:
            BadInputError: If an option is out of range, or the data set lacks what it needs.
        """
        for split in self.splits:
            if split not in tables or self.splits.count(split) > 1:
                known = ", ".join(tables)
                raise BadInputError(f"`split` must be one of {known}, or several joined by +, got {self.split!r}.")
            check_subgroups(tables[split], split, self.subgroups)
        if self.tta not in TTA:
            raise BadInputError(f"`tta` must be one of {', '.join(TTA)}, got {self.tta!r}.")
        if self.batch_size < 1:
            raise BadInputError(f"`batch_size` must be at least 1, got {self.batch_size}.")
        if self.calibrate and "validation" not in tables:
            raise BadInputError("`calibrate` needs a split called validation, and this data set has none.")
        if self.calibrate and self.tta != "none":
            raise BadInputError(
                f"`calibrate` fits the temperature of single views, which pipelines see: leave out `tta` {self.tta!r}."
            )


def evaluate(
    model: str,
    dataset: str,
    tables: DatasetDict,
    options: EvaluationOptions | None = None,
    command: str | None = None,
    **kwargs,
) -> dict:
    """
    Score a classifier on a split. Labels are matched by name: the model may have another order, other names for the
    same expressions, or more of them. The expressions that both sides have are scored.

    Nothing is written.

    Args:
        model (`str`): A folder, a Hub id, or the name of a checkpoint that ships with the package.
        dataset (`str`): The data set's name, for the result.
        tables (`DatasetDict`): As [`fer_hf.data.load_dataset`] returns it.
        options (`EvaluationOptions`, *optional*): How to score. Default: `test`, and nothing besides.
        command (`str`, *optional*): What the user typed, for the result.
        kwargs: For [`~fer_hf.models.loading.load_trained_classifier`].

    Returns:
        `dict`: `model`, `dataset`, `split`, `tta`, `fingerprint` (of the images and labels); `labels`: those `scored`,
        `only_in_model`, `only_in_dataset` and `faces_left_out`; `report`
        ([`~fer_hf.evaluation.report.expression_report`]); of several splits `parts`, for each of them `fingerprint`
        and `report`; `comparable_with`, published figures on the same images, by split; as far as asked for or known,
        `subgroups`, `robustness` and `calibration`; and `command`, `batch_size`, versions and hardware.

    Raises:
        BadInputError: If an option cannot be met, or model and data set do not fit each other.
        ModelError: If the model cannot be loaded.
    """
    options = options or EvaluationOptions()
    options.check(tables)
    device = _device(options.device)
    classifier, processor = load_trained_classifier(model, **kwargs)
    parts = {split: tables[split] for split in options.splits}
    table = concatenate_datasets(list(parts.values())) if len(parts) > 1 else parts[options.split]
    scorer = _Scorer(classifier.to(device), processor, table.features["label"].names, options)
    scored, kept = scorer.score(table, f"scoring {options.split}")
    # Copies in train are not counted where train is not at hand, or is itself scored.
    train = None if "train" in parts else tables.get("train")
    result = {
        "model": own_name(model),
        "dataset": dataset,
        "split": options.split,
        "tta": options.tta,
        "labels": {
            "scored": scorer.match.names,
            "only_in_model": scorer.match.only_in_model,
            "only_in_dataset": scorer.match.only_in_dataset,
            "faces_left_out": int((~kept).sum()),
        },
        **_reports(parts, table, train, scored, kept, scorer.match.names, options.max_eval_samples),
        "comparable_with": _published(dataset, tables, options),
    }
    if options.subgroups:
        result["subgroups"] = {column: subgroups(table, column, scored, kept) for column in options.subgroups}
    if options.robustness:
        result["robustness"] = robustness(lambda change, what: scorer.scores(table, what, change), result["report"])
    if found := _calibration(scorer, tables, scored):
        result["calibration"] = found
    return {**result, "command": command, "batch_size": options.batch_size, **environment(1, device.type)}


class _Scorer:
    """A classifier on the tables of one data set, over the expressions that both have."""

    def __init__(
        self, model: PreTrainedModel, processor: BaseImageProcessor, names: list[str], options: EvaluationOptions
    ):
        self.model, self.processor, self.options = model, processor, options
        self.match = match_labels([model.config.id2label[i] for i in range(model.config.num_labels)], names)

    def score(self, table: Dataset, what: str, change: Change | None = None) -> tuple[Predictions, np.ndarray]:
        """Predictions over the shared expressions, and which rows they are of, a boolean array."""
        tta, batch_size = self.options.tta, self.options.batch_size
        predictions = score_faces(self.model, self.processor, table, tta, batch_size, change, what)
        scored, kept = self.match.apply(predictions)
        if not kept.any():
            missing = ", ".join(self.match.only_in_dataset)
            raise BadInputError(f"{what}: every face shows what the model does not know: {missing}.")
        return scored, kept

    def scores(self, table: Dataset, what: str, change: Change) -> dict:
        """Accuracy and the like of changed images."""
        scored, _ = self.score(table, what, change)
        return ExpressionMetrics().compute(predictions=scored.logits.argmax(axis=1), references=scored.labels)


def _device(device: str | None) -> torch.device:
    try:
        return torch.empty(0, device=device or ("cuda" if torch.cuda.is_available() else "cpu")).device
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        reason = str(error).strip().splitlines()[0]
        raise BadInputError(f"`device` {device!r} cannot be used: {reason}") from error


def _reports(
    parts: dict[str, Dataset],
    table: Dataset,
    train: Dataset | None,
    scored: Predictions,
    kept: np.ndarray,
    names: list[str],
    limit: int | None,
) -> dict:
    """`fingerprint` and `report` of the whole table and, where it is made of several splits, of each in `parts`."""
    copies = None if train is None else np.isin(pixel_hashes(table), pixel_hashes(train))[kept]

    def report(part: Dataset, rows: np.ndarray | slice) -> dict:
        own_copies = None if copies is None else copies[rows]
        found = expression_report(scored.logits[rows], scored.labels[rows], names, own_copies)
        sampled = max(len(one) for one in (parts.values() if part is table else [part]))
        return {"fingerprint": content_fingerprint(part), "report": of_sample(found, sampled, limit)}

    result = report(table, slice(None))
    if len(parts) > 1:
        origin = np.repeat(list(parts), [len(part) for part in parts.values()])[kept]
        result["parts"] = {split: report(part, origin == split) for split, part in parts.items()}
    return result


def _published(dataset: str, tables: DatasetDict, options: EvaluationOptions) -> dict[str, str]:
    """Published figures on the same images, by split."""
    found = {split: comparable_with(dataset, split, tables) for split in [*options.splits, options.split]}
    return {split: text for split, text in found.items() if text}


def _calibration(scorer: _Scorer, tables: DatasetDict, scored: Predictions) -> dict | None:
    """What the model's own temperature, or one fitted now, does to the probabilities; `None` if there is none."""
    temperature = getattr(scorer.model.config, TEMPERATURE_KEY, None)
    if scorer.options.calibrate:
        temperature = fit_temperature(*scorer.score(tables["validation"], "scoring validation")[0])
    if temperature is None or scorer.options.tta != "none":
        return None
    result = calibration(*scored, temperature)
    if scorer.options.calibrate:
        result["fitted_on"] = {"split": "validation", "fingerprint": content_fingerprint(tables["validation"])}
    return result


def evaluation_text(result: dict, path: Path | None = None, earlier: Sequence[dict] = ()) -> str:
    """
    An evaluation for the terminal.

    Args:
        result (`dict`): From [`evaluate`].
        path (`Path`, *optional*): Where it was written.
        earlier (`Sequence[dict]`): Earlier scorings of the same test images by this checkpoint, oldest first.
    """
    views = "" if result["tta"] == "none" else f", mean over {result['tta']}"
    reports = {split: part["report"] for split, part in result.get("parts", {}).items()}
    reports[result["split"]] = result["report"]
    blocks = [report_text(report, f"{result['dataset']}, {split}{views}") for split, report in reports.items()]
    blocks += _label_lines(result["labels"])
    blocks += [subgroups_text(column, groups) for column, groups in result.get("subgroups", {}).items()]
    if "robustness" in result:
        blocks.append(robustness_text(result["robustness"]))
    if "calibration" in result:
        blocks.append(calibration_text(result["calibration"]))
    lines = [f"{split} is comparable with {text}" for split, text in result["comparable_with"].items()]
    if earlier:
        times = "once" if len(earlier) == 1 else f"{len(earlier)} times"
        lines.append(
            f"note: this checkpoint was scored on these test faces {times} before, first on "
            f"{earlier[0]['date'][:10]}; whatever is chosen after looking is chosen on test"
        )
    if path is not None:
        lines.append(f"written: {path}")
    return "\n".join(["\n\n".join(blocks), *([""] if lines else []), *lines])


def _label_lines(labels: dict) -> list[str]:
    """What one side lacks of the other's expressions."""
    lines = []
    for side, missing in (("model", labels["only_in_dataset"]), ("data set", labels["only_in_model"])):
        if missing:
            left_out = f": {plural(labels['faces_left_out'], 'face')} left out" if side == "model" else ""
            lines.append(
                f"scored over {', '.join(labels['scored'])}; the {side} has no {', '.join(missing)}{left_out}"
            )
    return lines
