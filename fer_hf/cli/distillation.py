"""Distillation: what teachers say of the training faces, mixed with their labels."""

import hashlib
import json
import logging
from pathlib import Path

import datasets
import numpy as np
import torch
from datasets import Dataset
from transformers import BaseImageProcessor, PreTrainedModel

from fer_hf.cli.arguments import DataArguments, LossArguments, ModelArguments
from fer_hf.data import load_dataset
from fer_hf.data.builder import content_fingerprint
from fer_hf.data.mixing import distributions
from fer_hf.errors import BadInputError, parse_map
from fer_hf.evaluation.label_matching import match_labels
from fer_hf.evaluation.scoring import score_faces
from fer_hf.files import whole
from fer_hf.losses import distilled
from fer_hf.models.loading import load_trained_classifier
from fer_hf.training import FerTrainingArguments


logger = logging.getLogger(__name__)

FERPLUS = "ferplus"  # the teacher that is no model: the votes of FER+
_FORMAT = 1  # of the scores that are kept: raise it when the same teacher is to give others


def with_teachers(
    table: Dataset, loss: LossArguments, data: DataArguments, model: ModelArguments, args: FerTrainingArguments
) -> Dataset:
    """
    The training faces, their labels mixed with what `loss.teacher` says of them.

    A model is asked once, and of each face and its mirror image; the mean of the two is kept. An expression does not
    change in a mirror, and not every augmentation can tell whether it has mirrored a face.

    Args:
        table (`Dataset`): The training faces.
        loss (`LossArguments`): With `teacher`, `distill_alpha` and `distill_temperature`.
        data (`DataArguments`): Where the faces come from.
        model (`ModelArguments`): How checkpoints are loaded: `cache_dir` and `trust_remote_code`.
        args (`FerTrainingArguments`): The device, the batch size, and which process asks the teachers.

    Returns:
        `Dataset`: With the column that [`LossArguments.label_column`] names.

    Raises:
        BadInputError: If a teacher does not know the expressions of the faces, FER+ does not know the faces, or they
            have no votes and `loss.loss` needs them.
        ModelError: As [`~fer_hf.models.loading.load_trained_classifier`].
    """
    loss.check_votes(table)
    scores = []
    for teacher in loss.teacher:
        if teacher == FERPLUS:
            scores.append(_votes(table, data))
            continue
        # Random numbers that loading draws must not change the student.
        with args.main_process_first(desc=f"asking {teacher}"), torch.random.fork_rng():
            scores.append(_scores_of(teacher, table, model, args))
    names = table.features["label"].names
    labels = distributions(torch.tensor(table[loss.undistilled_column][:]), len(names))
    mixed = distilled(labels, torch.from_numpy(np.stack(scores)), loss.distill_alpha, loss.distill_temperature)
    feature = datasets.List(datasets.Value("float32"), len(names))
    return table.add_column(loss.label_column, list(mixed.numpy()), feature=feature)


def _scores_of(teacher: str, table: Dataset, flags: ModelArguments, args: FerTrainingArguments) -> np.ndarray:
    """Logits `(num_faces, num_labels)` of the table's expressions, asked for or kept from before."""
    model, processor = load_trained_classifier(
        teacher, cache_dir=flags.cache_dir, trust_remote_code=flags.trust_remote_code
    )
    names = table.features["label"].names
    match = match_labels([model.config.id2label[i] for i in range(model.config.num_labels)], names)
    if match.only_in_dataset:
        raise BadInputError(
            f"`teacher` {teacher} knows nothing of {', '.join(match.only_in_dataset)}, which the training faces show: "
            "take another, or leave these out by `dataset_options` '{\"exclude\": [...]}'."
        )
    kept = Path(datasets.config.HF_DATASETS_CACHE, "fer_hf_teachers", f"{_fingerprint(model, processor, table)}.npy")
    logits = _read(kept, (len(table), model.config.num_labels))
    if logits is None:
        model.to(args.device)
        logits = score_faces(
            model, processor, table, "flip", args.per_device_eval_batch_size, description=f"asking {teacher}"
        ).logits
        with whole(kept) as partial, open(partial, "wb") as file:
            np.save(file, logits)
    return logits[:, match.model_ids]


def _fingerprint(model: PreTrainedModel, processor: BaseImageProcessor, table: Dataset) -> str:
    """Of all that decides a teacher's scores, wherever it lies."""
    where = ("_name_or_path", "transformers_version")
    config = {key: value for key, value in model.config.to_dict().items() if key not in where}
    facts = [_FORMAT, config, processor.to_json_string(), content_fingerprint(table)]
    digest = hashlib.sha256(json.dumps(facts, sort_keys=True, default=str).encode())
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(name.encode())
        digest.update(tensor.contiguous().numpy().tobytes())
    return digest.hexdigest()


def _read(path: Path, shape: tuple[int, int]) -> np.ndarray | None:
    """What was kept; `None` if there is nothing, or nothing whole."""
    try:
        logits = np.load(path)
    except (OSError, ValueError, EOFError):
        return None
    return logits if logits.shape == shape else None


def _votes(table: Dataset, data: DataArguments) -> np.ndarray:
    """
    Logarithms of the shares of FER+'s votes, `(num_faces, num_labels)`, -inf for no vote; NaN for faces that FER+
    leaves out. Joined by the row in FER-2013's CSV file.
    """
    if data.dataset_name != "fer2013":
        raise BadInputError(f"`teacher` {FERPLUS} knows the faces of `dataset_name` fer2013, got {data.dataset_name}.")
    layout = parse_map("dataset_options", data.dataset_options).get("layout")
    votes = load_dataset(FERPLUS, data_dir=data.data_dir, target="distribution", layout=layout)["train"]
    match = match_labels(votes.features["label"].names, table.features["label"].names)
    shares = np.array(votes["soft_label"][:], dtype=np.float32)[:, match.model_ids]
    places = {row: place for place, row in enumerate(votes["row"][:])}
    scores = np.full((len(table), len(match.names)), np.nan, dtype=np.float32)
    found = [(i, places[row]) for i, row in enumerate(table["row"][:]) if row in places]
    mine, theirs = np.array(found, dtype=int).reshape(-1, 2).T
    with np.errstate(divide="ignore"):
        scores[mine] = np.log(shares[theirs])
    logger.info(
        f"{FERPLUS} has votes on {len(found):,} of {len(table):,} training faces; the others keep their labels"
    )
    return scores
