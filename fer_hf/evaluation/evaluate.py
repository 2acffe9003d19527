"""Score any classifier of expressions on any split of any data set: `fer-hf evaluate`."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from datasets import Dataset, DatasetDict, concatenate_datasets
from transformers import BaseImageProcessor, PreTrainedModel

from fer_hf.data import content_fingerprint
from fer_hf.data.copies import pixel_hashes
from fer_hf.data.published import comparable_with
from fer_hf.errors import BadInputError
from fer_hf.evaluation.calibration import calibration, calibration_text
from fer_hf.evaluation.predictions import Predictions
from fer_hf.evaluation.report import expression_report, report_text
from fer_hf.evaluation.robustness import robustness, robustness_text
from fer_hf.evaluation.scoring import match_labels, score_faces
from fer_hf.evaluation.subgroups import check_subgroups, subgroups, subgroups_text
from fer_hf.evaluation.tta import TTA
from fer_hf.metrics import ExpressionMetrics, fit_temperature
from fer_hf.models.loading import TEMPERATURE_KEY, load_trained_classifier
from fer_hf.provenance import environment, own_name


def evaluate(
    model: str,
    dataset: str,
    faces: DatasetDict,
    split: str = "test",
    tta: str = "none",
    batch_size: int = 64,
    columns: Sequence[str] = (),
    robust: bool = False,
    calibrate: bool = False,
    device: str | None = None,
    command: str | None = None,
    **kwargs,
) -> dict:
    """
    Score a classifier on a split. Labels are matched by name, so that a model may have another order, other names for
    the same expressions, or others besides: the expressions that both sides have are scored.

    Nothing is written; see [`save_evaluation`].

    Args:
        model (`str`): A folder, a Hub id, or the name of a checkpoint that ships with the package.
        dataset (`str`): The data set's name, for the record.
        faces (`DatasetDict`): As [`fer_hf.data.load_dataset`] returns it.
        split (`str`, defaults to `"test"`):
            A split, or several joined by `+`, which are then scored apart and together.
        tta (`str`, defaults to `"none"`): One of [`~fer_hf.evaluation.tta.TTA`].
        batch_size (`int`, defaults to 64): Faces at a time.
        columns (`Sequence[str]`): Of the table, such as `"gender"`, by whose values to score apart.
        robust (`bool`): Score damaged faces too ([`~fer_hf.evaluation.robustness.robustness`]): 25 times the work.
        calibrate (`bool`): Fit a temperature on `validation`.
        device (`str`, *optional*): Such as `"cuda:1"`. Default: a GPU if there is one.
        command (`str`, *optional*): What the user typed, for the record.
        kwargs: For [`~fer_hf.models.loading.load_trained_classifier`].

    Returns:
        `dict`: `model`, `dataset`, `split`, `fingerprint` (of the faces' content), `tta`; `labels`: those `scored`,
        `only_in_model`, `only_in_dataset` and `faces_left_out`; `report`
        ([`~fer_hf.evaluation.report.expression_report`]); of several splits `parts`, for each of them `fingerprint`
        and `report`; `comparable_with`, published figures on the same faces, by split; as far as asked for or known,
        `subgroups`, `robustness` and `calibration`; and how it came about.

    Raises:
        BadInputError: If split, columns, labels or model are not what they should be.
    """
    splits = split.split("+")
    _check(faces, splits, tta, batch_size, columns, calibrate)
    place = _device(device)
    classifier, processor = load_trained_classifier(model, **kwargs)
    classifier.to(place)
    part = {name: faces[name] for name in splits}
    table = concatenate_datasets(list(part.values())) if len(part) > 1 else part[split]
    scorer = _Scorer(classifier, processor, table.features["label"].names, tta, batch_size)

    scored, stay = scorer.score(table, f"scoring {split}")
    names = scorer.match.names
    # Nothing to compare with where train is not at hand, or is itself scored.
    has_train = "train" in faces and "train" not in splits
    copies = np.isin(pixel_hashes(table), pixel_hashes(faces["train"])) if has_train else None
    whole = expression_report(*scored, names, None if copies is None else copies[stay])
    result = {
        "model": own_name(model),
        "dataset": dataset,
        "split": split,
        "fingerprint": content_fingerprint(table),
        "tta": tta,
        "labels": {
            "scored": names,
            "only_in_model": scorer.match.only_in_model,
            "only_in_dataset": scorer.match.only_in_dataset,
            "faces_left_out": int((~stay).sum()),
        },
        "report": whole,
        "comparable_with": {
            name: text for name in dict.fromkeys([*splits, split]) if (text := comparable_with(dataset, name, faces))
        },
    }
    if len(splits) > 1:
        result["parts"] = _parts(part, scored, stay, copies, names)
    if columns:
        result["subgroups"] = {column: subgroups(table, column, scored, stay) for column in columns}
    if robust:
        result["robustness"] = robustness(lambda change, what: _scores(scorer.score(table, what, change)[0]), whole)
    temperature = getattr(classifier.config, TEMPERATURE_KEY, None)
    if calibrate:
        temperature = fit_temperature(*scorer.score(faces["validation"], "scoring validation")[0])
    if temperature is not None and tta == "none":
        result["calibration"] = calibration(scored, temperature)
        if calibrate:
            fitted_on = {"split": "validation", "fingerprint": content_fingerprint(faces["validation"])}
            result["calibration"]["fitted_on"] = fitted_on
    return {**result, "command": command, "batch_size": batch_size, **environment(1, classifier.device.type)}


def _scores(scored: Predictions) -> dict:
    return ExpressionMetrics().compute(predictions=scored.logits.argmax(axis=1), references=scored.labels)


class _Scorer:
    """A classifier on the faces of one data set, over the expressions that both have."""

    def __init__(self, model: PreTrainedModel, processor: BaseImageProcessor, names, tta: str, batch_size: int):
        self.model, self.processor, self.tta, self.batch_size = model, processor, tta, batch_size
        self.match = match_labels([model.config.id2label[i] for i in range(model.config.num_labels)], names)

    def score(self, table: Dataset, what: str, change=None) -> tuple[Predictions, np.ndarray]:
        predictions = score_faces(self.model, self.processor, table, self.tta, self.batch_size, change, what)
        scored, stay = self.match.apply(predictions)
        if not stay.any():
            raise BadInputError(f"{what}: every face is one of {', '.join(self.match.only_in_dataset)}.")
        return scored, stay


def _check(
    faces: DatasetDict, splits: list[str], tta: str, batch_size: int, columns: Sequence[str], calibrate: bool
) -> None:
    """All that can be refused before a model is loaded."""
    for split in splits:
        if split not in faces or splits.count(split) > 1:
            known = ", ".join(faces)
            raise BadInputError(f"`split` must be one of {known}, or several joined by +, got {'+'.join(splits)!r}.")
    if tta not in TTA:
        raise BadInputError(f"`tta` must be one of {', '.join(TTA)}, got {tta!r}.")
    if batch_size < 1:
        raise BadInputError(f"`batch_size` must be at least 1, got {batch_size}.")
    for split in splits:
        check_subgroups(faces[split], split, columns)
    if calibrate and "validation" not in faces:
        raise BadInputError("`calibrate` needs a split called validation, and this data set has none.")
    if calibrate and tta != "none":
        raise BadInputError(f"`calibrate` fits one forward pass, as pipelines do it, and goes without `tta` {tta!r}.")


def _device(device: str | None) -> torch.device:
    try:
        return torch.empty(0, device=device or ("cuda" if torch.cuda.is_available() else "cpu")).device
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        reason = str(error).strip().splitlines()[0]
        raise BadInputError(f"`device` {device!r} cannot be used: {reason}") from error


def _parts(part: dict[str, Dataset], scored: Predictions, stay: np.ndarray, copies, names: list[str]) -> dict:
    parts = {}
    origin = np.repeat(np.arange(len(part)), [len(table) for table in part.values()])
    for number, (split, table) in enumerate(part.items()):
        mine = origin[stay] == number
        mine_copies = None if copies is None else copies[stay][mine]
        report = expression_report(scored.logits[mine], scored.labels[mine], names, mine_copies)
        parts[split] = {"fingerprint": content_fingerprint(table), "report": report}
    return parts


def evaluation_text(result: dict, path: Path | None = None, earlier: Sequence[dict] = ()) -> str:
    """What [`evaluate`] found and [`save_evaluation`] gave back, for the terminal."""
    labels, blocks = result["labels"], []
    views = "" if result["tta"] == "none" else f", mean over {result['tta']}"
    for split, part in result.get("parts", {}).items():
        blocks.append(report_text(part["report"], f"{result['dataset']}, {split}{views}"))
    blocks.append(report_text(result["report"], f"{result['dataset']}, {result['split']}{views}"))
    for side, missing in (("model", labels["only_in_dataset"]), ("data set", labels["only_in_model"])):
        if missing:
            left_out = f": {labels['faces_left_out']:,} faces left out" if side == "model" else ""
            blocks.append(
                f"scored over {', '.join(labels['scored'])}; the {side} has no {', '.join(missing)}{left_out}"
            )
    for column, groups in result.get("subgroups", {}).items():
        blocks.append(subgroups_text(column, groups))
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
