"""The logits of any image classifier for the faces of any of our tables, with its labels matched to theirs by name."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from datasets import Dataset
from datasets.utils import tqdm
from PIL import Image
from transformers import BaseImageProcessor, PreTrainedModel

from fer_hf.data.collator import FaceCollator
from fer_hf.errors import BadInputError
from fer_hf.evaluation.predictions import Predictions
from fer_hf.evaluation.tta import averaged_logits
from fer_hf.labels import canonical_name


@dataclass(frozen=True)
class LabelMatch:
    """
    Which expressions a model and a data set share, in the data set's order.

    Args:
        names (`list[str]`): The data set's names of the shared expressions.
        model_ids, dataset_ids (`list[int]`): Where each of them stands on either side.
        only_in_model, only_in_dataset (`list[str]`): What the other side lacks.
    """

    names: list[str]
    model_ids: list[int]
    dataset_ids: list[int]
    only_in_model: list[str]
    only_in_dataset: list[str]

    def apply(self, predictions: Predictions) -> tuple[Predictions, np.ndarray]:
        """
        The predictions over the shared expressions alone: other logits are dropped, and faces of other expressions.

        Args:
            predictions (`Predictions`): Logits in the model's order, class ids in the data set's.

        Returns:
            `tuple`: Predictions in the order of `names`, and which faces stayed, a boolean array.
        """
        new_ids = np.full(len(self.names) + len(self.only_in_dataset), -1)
        new_ids[self.dataset_ids] = np.arange(len(self.names))
        labels = new_ids[predictions.labels]
        stay = labels >= 0
        return Predictions(predictions.logits[stay][:, self.model_ids], labels[stay]), stay


def match_labels(model_names: Sequence[str], dataset_names: Sequence[str]) -> LabelMatch:
    """
    Match expressions by name, whatever their order, case or known synonym ([`fer_hf.labels.SYNONYMS`]).

    Args:
        model_names, dataset_names (`Sequence[str]`): By class id.

    Raises:
        BadInputError: If fewer than two expressions are shared, or a side has one twice.
    """
    sides = []
    for what, names in (("model", model_names), ("data set", dataset_names)):
        keys = [canonical_name(name) or name.strip().lower() for name in names]
        if len(set(keys)) < len(keys):
            raise BadInputError(f"The {what} has an expression twice among its labels: {', '.join(names)}.")
        sides.append({key: index for index, key in enumerate(keys)})
    model, dataset = sides
    shared = [key for key in dataset if key in model]
    if len(shared) < 2:
        raise BadInputError(
            f"The model's labels are {', '.join(model_names)}, the data set's {', '.join(dataset_names)}: fewer than "
            "two are the same expression. Name them in `id2label` of the model's config.json."
        )
    return LabelMatch(
        names=[dataset_names[dataset[key]] for key in shared],
        model_ids=[model[key] for key in shared],
        dataset_ids=[dataset[key] for key in shared],
        only_in_model=[model_names[model[key]] for key in model if key not in dataset],
        only_in_dataset=[dataset_names[dataset[key]] for key in dataset if key not in model],
    )


@torch.no_grad()
def score_faces(
    model: PreTrainedModel,
    processor: BaseImageProcessor,
    table: Dataset,
    tta: str = "none",
    batch_size: int = 64,
    change: Callable[[Image.Image, int], Image.Image] | None = None,
    description: str = "scoring",
) -> Predictions:
    """
    What a model says of every face, as `pipeline("image-classification")` would have it.

    Progress bars are those of `datasets` (`datasets.disable_progress_bars()` silences them).

    Args:
        model (`PreTrainedModel`): An image classifier, in eval mode.
        processor (`BaseImageProcessor`): Its image processor.
        table (`datasets.Dataset`): With `image` and `label`.
        tta (`str`, defaults to `"none"`): One of [`~fer_hf.evaluation.tta.TTA`]. See [`ten_crop_options`].
        batch_size (`int`, defaults to 64): Faces at a time.
        change (`Callable`, *optional*): What to do to each image first, from the image and its place in the table.
        description (`str`): Of the progress bar.

    Returns:
        `Predictions`: Logits in the model's order and class ids in the table's.

    Raises:
        BadInputError: If the table has no faces or some without a label, or the model cannot be averaged over views.
    """
    labels = np.array(table["label"][:], dtype=np.int64)
    if not len(labels) or (labels < 0).any():
        raise BadInputError(f"{description}: these {len(labels):,} faces cannot be scored, for want of labels.")
    options, crop = ten_crop_options(processor) if tta == "ten_crop" else ({}, None)
    collate, images = FaceCollator(processor, **options), table.select_columns(["image"]).with_format(None)
    logits = []
    with tqdm(total=len(labels), desc=description, unit="face") as bar:
        for start in range(0, len(labels), batch_size):
            found = images[start : start + batch_size]["image"]
            if change is not None:
                found = [change(image, start + place) for place, image in enumerate(found)]
            if crop is not None and getattr(processor.size, "shortest_edge", None):
                _check_square(found)
            inputs = collate([{"image": image, "label": 0} for image in found])
            del inputs["labels"]
            inputs = {name: value.to(model.device) for name, value in inputs.items()}
            logits.append(_logits(model, inputs, tta, crop).cpu().numpy())
            bar.update(len(found))
    return Predictions(np.concatenate(logits), labels)


def ten_crop_options(processor: BaseImageProcessor) -> tuple[dict[str, Any], int | None]:
    """
    How ten crops are taken: where the image processor crops about the middle (48 pixels to 40), from what it would
    have cropped, at its own size; else from the whole face, and enlarged to it.

    Returns:
        `tuple`: Options for the processor, and the side of a crop in pixels, `None` where crops are a share of the
        face ([`~fer_hf.evaluation.tta.CROP`]).
    """
    if not getattr(processor, "do_center_crop", None):
        return {}, None
    return {"do_center_crop": False}, processor.crop_size["height"]


def _check_square(images: list[Image.Image]) -> None:
    for image in images:
        if image.width != image.height:
            raise BadInputError(
                f"`tta` 'ten_crop' takes crops of square faces, and one has {image.width}x{image.height}."
            )


def _logits(model: PreTrainedModel, inputs: dict[str, torch.Tensor], tta: str, crop: int | None) -> torch.Tensor:
    if tta == "none":
        return model(**inputs).logits.float()
    pixel_values = inputs.get("pixel_values")
    if len(inputs) > 1 or pixel_values is None or pixel_values.ndim != 4:
        raise BadInputError(f"`tta` {tta!r} needs faces as plain pixels, and a {model.config.model_type} takes more.")
    if crop is None:
        return averaged_logits(model, pixel_values, tta)
    height, width = pixel_values.shape[-2:]
    if height != width or crop > height:
        raise BadInputError(
            f"`tta` 'ten_crop' takes {crop}-pixel crops of square faces, and one has {width}x{height}."
        )
    return averaged_logits(model, pixel_values, tta, crop / height, enlarge=False)
