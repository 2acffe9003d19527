"""The logits of any image classifier for the images of any of our tables."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np
import torch
from datasets import Dataset
from datasets.utils import tqdm
from PIL import Image
from transformers import BaseImageProcessor, PreTrainedModel

from fer_hf.data.collator import FaceCollator
from fer_hf.data.training_set import own_sizes
from fer_hf.errors import BadInputError
from fer_hf.evaluation.predictions import Predictions
from fer_hf.evaluation.tta import TestTimeAugmentation
from fer_hf.models.processors import check_fit


# What is done to an image before it is scored, from the image and its row in the table.
Change = Callable[[Image.Image, int], Image.Image]


@contextmanager
def whole_float32() -> Iterator[None]:
    """
    float32 as a CPU has it, on GPUs, too: by default they round what goes into a convolution to 10 bits (TF32), which
    moved the accuracy of three CNNs by 3, 1 and 0 of 3,589 faces.
    """
    backends = (torch.backends.cudnn.conv, torch.backends.cuda.matmul)
    before = [backend.fp32_precision for backend in backends]
    try:
        for backend in backends:
            backend.fp32_precision = "ieee"
        yield
    finally:
        for backend, precision in zip(backends, before, strict=True):
            backend.fp32_precision = precision


@torch.no_grad()
@whole_float32()
def score_faces(
    model: PreTrainedModel,
    processor: BaseImageProcessor,
    table: Dataset,
    tta: str = "none",
    batch_size: int = 64,
    change: Change | None = None,
    description: str = "scoring",
) -> Predictions:
    """
    A model's logits for every image of a table, the same as `pipeline("image-classification")` computes.

    Progress bars are those of `datasets` (`datasets.disable_progress_bars()` silences them).

    Args:
        model (`PreTrainedModel`): An image classifier, in eval mode.
        processor (`BaseImageProcessor`): Its image processor.
        table (`datasets.Dataset`): With `image` and `label`.
        tta (`str`, defaults to `"none"`): Test-time augmentation, one of [`~fer_hf.evaluation.tta.TTA`].
        batch_size (`int`, defaults to 64): Images at a time.
        change (`Callable`, *optional*): What to do to each image first, from the image and its row in the table.
        description (`str`): Of the progress bar.

    Returns:
        `Predictions`: Logits in the model's order and class ids in the table's.

    Raises:
        BadInputError: If the table has no rows or some without a label, or the model or its images cannot be
            augmented so.
        ModelError: If the images come out of the processor at sizes that the model does not take.
    """
    labels = np.array(table["label"][:], dtype=np.int64)
    unlabelled = int((labels < 0).sum())
    if unlabelled or not len(labels):
        raise BadInputError(f"{description}: {unlabelled:,} of {len(labels):,} faces have no label, and all need one.")
    check_fit(model, processor, own_sizes(processor, table))
    augmentation = TestTimeAugmentation(tta, processor)
    collate = FaceCollator(processor, **augmentation.processor_options)
    column = table.select_columns(["image"]).with_format(None)
    # In one piece from the start: small arrays that stay between a batch's large ones make the heap grow.
    logits = np.empty((len(labels), model.config.num_labels), np.float32)
    with tqdm(total=len(labels), desc=description, unit="face") as bar:
        for start in range(0, len(labels), batch_size):
            images = column[start : start + batch_size]["image"]
            if change is not None:
                images = [change(image, start + place) for place, image in enumerate(images)]
            augmentation.check(images)
            inputs = collate([{"image": image, "label": 0} for image in images])
            del inputs["labels"]
            inputs = {name: value.to(model.device) for name, value in inputs.items()}
            logits[start : start + len(images)] = augmentation.logits(model, inputs).cpu().numpy()
            bar.update(len(images))
    if not np.isfinite(logits).all():
        raise BadInputError(
            f"{description}: {model.name_or_path} answers with what are no numbers: its weights are damaged."
        )
    return Predictions(logits, labels)
