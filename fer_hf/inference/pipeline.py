"""`pipeline("facial-expression")`: faces in photos, and their expressions."""

import logging
import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from PIL import Image
from safetensors import SafetensorError
from torch.utils.data import DataLoader, Dataset
from transformers import AutoModelForImageClassification, Pipeline, PreTrainedModel
from transformers.pipelines import PIPELINE_REGISTRY
from transformers.pipelines.pt_utils import PipelineDataset, PipelineIterator

from fer_hf.errors import ModelError
from fer_hf.inference.alignment import FACE_MARGIN, crop_face
from fer_hf.inference.detectors import Detection, FaceDetector, find_faces, get_detector, whole_image
from fer_hf.inference.photos import Photo, load_photo
from fer_hf.models.loading import TEMPERATURE_KEY, check_config, locate
from fer_hf.models.processors import check_fit, check_processor


logger = logging.getLogger(__name__)

TASK = "facial-expression"
# At most so many faces go through the model at once, so that a crowd fits into memory.
MAX_FACES = 256
# Photos of a column that are decoded at once.
READ_AHEAD = 8


class FacialExpressionPipeline(Pipeline):
    """
    Finds the faces in photos, and classifies the expression of each.

    ```python
    >>> import fer_hf
    >>> from transformers import pipeline

    >>> faces = pipeline("facial-expression", model="RUN_DIR")
    >>> faces("photo.jpg")
    [{'box': {'xmin': 178.0, 'ymin': 63.0, 'xmax': 267.0, 'ymax': 175.0}, 'landmarks': [[200.0, 101.0], ...],
      'expression': 'happy', 'score': 0.93, 'scores': {'angry': 0.01, ...}}]
    ```

    The model can be any image classifier of Transformers. Faces are turned until the eyes are level, if the detector
    gives landmarks, and cut out with a margin: `face_margin` in `preprocessor_config.json` of the model, or 0 (see
    [`~fer_hf.inference.alignment.face_square`]). All faces of a batch of photos go through the model together.

    Args:
        detector (`str` or [`~fer_hf.inference.FaceDetector`], defaults to `"auto"`):
            See [`~fer_hf.inference.get_detector`]. `"none"` takes every image for a face.
        detector_path (`str` or `os.PathLike`, *optional*):
            For the detector `"yunet"`: its file, or a Hub id.
        face_margin (`float`, *optional*):
            Overrides the image processor's.
        calibrated (`bool`, defaults to `False`):
            Divide the logits by the `calibration_temperature` that `fer-hf evaluate --calibrate` left in the model's
            configuration (1 if there is none).
        timeout (`float`, *optional*):
            Seconds to wait for a URL.
        kwargs:
            As for every pipeline: `model`, `image_processor`, `device`, `dtype`, `batch_size` (photos), `num_workers`.

    Raises:
        BadInputError: If there is no such detector, or a photo cannot be read.
        ModelError: If the checkpoint lacks weights of the model, its labels or temperature are none, or its image
            processor has settings that do not work or give sizes that the model does not take.
        SafetensorError: If a folder's weights are cut off, or a Git LFS pointer; the message says which.
    """

    _load_processor = False
    _load_image_processor = True
    _load_feature_extractor = False
    _load_tokenizer = False

    def __init__(
        self,
        *args,
        detector: str | FaceDetector = "auto",
        detector_path: str | os.PathLike | None = None,
        **kwargs,
    ):
        super().__init__(*args, detector=detector, detector_path=detector_path, **kwargs)
        if missing := getattr(self.model, "missing_weights", ()):
            name = self.model.name_or_path
            raise ModelError(f"{name} is no trained classifier: it has no weights {', '.join(missing[:5])}.")
        check_config(self.model.config, self.model.name_or_path)
        check_processor(self.image_processor, self.model.name_or_path)
        check_fit(self.model, self.image_processor)
        labels = self.model.config.id2label.values()
        if any(re.fullmatch(r"LABEL_\d+", label) for label in labels):
            logger.warning(
                f"{self.model.name_or_path}: nobody named the labels {', '.join(labels)}. Name them in `id2label` of "
                "the model's config.json."
            )

    def _sanitize_parameters(
        self, detector=None, detector_path=None, face_margin=None, calibrated=None, timeout=None
    ) -> tuple[dict, dict, dict]:
        preprocess = {"face_margin": face_margin, "timeout": timeout}
        if detector is not None or detector_path is not None:
            preprocess["detector"] = get_detector(detector or "yunet", detector_path)
        given = {name: value for name, value in preprocess.items() if value is not None}
        return given, {}, {} if calibrated is None else {"calibrated": calibrated}

    def __call__(self, inputs: Photo | Sequence[Photo] | Dataset, **kwargs: Any) -> list:
        """
        Args:
            inputs: A photo as for [`~fer_hf.inference.photos.load_photo`], several of them in a list, a tuple or a
                column of a `datasets` table (`table["image"]`); or a `KeyDataset` or generator of them.
            kwargs: Any argument of the class, for this call only.

        Returns:
            `list[dict]`: The faces of one photo, in the detector's order; empty if there are none. For several
            photos a list of these, and for a `KeyDataset` or generator an iterator over them. A face has

            - `box` (`dict`): `xmin`, `ymin`, `xmax`, `ymax`, in pixels of the upright photo, and within it,
            - `landmarks` (`list` of 5 points `[x, y]`, or `None`): both eyes, nose, both corners of the mouth,
            - `expression` (`str`) and `score` (`float`): the most probable, and its probability,
            - `scores` (`dict[str, float]`): the probability of every expression, in label order.
        """
        if isinstance(inputs, Sequence) and not isinstance(inputs, str):  # `datasets.Column` is one, and no list
            return list(super().__call__(_Column(inputs), **kwargs)) if len(inputs) else []
        return super().__call__(inputs, **kwargs)

    def preprocess(
        self,
        photo: Photo,
        detector: FaceDetector = whole_image,
        face_margin: float | None = None,
        timeout: float | None = None,
    ) -> "CutPhoto":
        image = load_photo(photo, timeout)
        found = find_faces(detector, np.asarray(image))
        if detector is whole_image:
            return CutPhoto(image.size, found, [image])
        margin = getattr(self.image_processor, "face_margin", FACE_MARGIN) if face_margin is None else face_margin
        return CutPhoto(image.size, found, [crop_face(image, face, margin) for face in found])

    def get_iterator(
        self,
        inputs: Any,
        num_workers: int,
        batch_size: int,
        preprocess_params: dict,
        forward_params: dict,
        postprocess_params: dict,
    ) -> "_Results":
        # The base class's batches have one row of tensors for each photo, and a photo has any number of faces.
        if hasattr(inputs, "__len__"):
            photos = PipelineDataset(inputs, self.preprocess, preprocess_params)
        else:
            photos, num_workers = PipelineIterator(inputs, self.preprocess, preprocess_params), min(num_workers, 1)
        loader = DataLoader(photos, batch_size=batch_size, num_workers=num_workers, collate_fn=list)
        return _Results(self, loader, len(inputs) if hasattr(inputs, "__len__") else None, postprocess_params)

    def run_single(self, inputs, preprocess_params, forward_params, postprocess_params) -> list[dict]:
        photo = self.preprocess(inputs, **preprocess_params)
        return self.postprocess(self.forward([photo])[0], **postprocess_params)

    def _forward(self, photos: list["CutPhoto"]) -> list["CutPhoto"]:
        crops = [crop for photo in photos for crop in photo.crops]
        logits = torch.cat([self._logits(part) for part in _parts(crops)]).cpu() if crops else torch.empty(0, 0)
        if not logits.isfinite().all():
            raise ModelError(f"{self.model.name_or_path} answers with what are no numbers: its weights are damaged.")
        counts = [len(photo.crops) for photo in photos]
        return [replace(photo, logits=own) for photo, own in zip(photos, logits.split(counts), strict=True)]

    def _logits(self, crops: list[Image.Image]) -> torch.Tensor:
        with self.fitting(crops):
            # Here and not with each photo: the image processor takes equal sizes together.
            inputs = self.image_processor(crops, return_tensors="pt").to(self.device, self.dtype)
            return self.model(**inputs).logits.float()

    @contextmanager
    def fitting(self, crops: Sequence[Image.Image]) -> Iterator[None]:
        """Faces go through image processor and model: a `ModelError` says so if it is their sizes that stop them."""
        try:
            yield
        except (ValueError, RuntimeError):
            check_fit(self.model, self.image_processor, {crop.size for crop in crops})
            raise

    def get_inference_context(self):
        # The base class's `no_grad` still counts versions of tensors, which is measurable for a single small face.
        return torch.inference_mode

    def postprocess(self, photo: "CutPhoto", calibrated: bool = False) -> list[dict]:
        config = self.model.config
        temperature = getattr(config, TEMPERATURE_KEY, 1.0) if calibrated else 1.0
        scores = (photo.logits / temperature).softmax(dim=-1).tolist()
        names = list(config.id2label.values())
        return [
            _face(face, photo.size, dict(zip(names, row, strict=True)))
            for face, row in zip(photo.faces, scores, strict=True)
        ]


@dataclass
class CutPhoto:
    """
    What is known of a photo on its way through the pipeline. No dictionary: of those the base class copies each item,
    and all within it, on its search for tensors to move.

    Args:
        size (`tuple[int, int]`): Width and height.
        faces (`list[Detection]`): In the photo.
        crops (`list[PIL.Image.Image]`): One of each face.
        logits (`torch.FloatTensor` of shape `(num_faces, num_labels)`, *optional*): Once the model has answered.
    """

    size: tuple[int, int]
    faces: list[Detection]
    crops: list[Image.Image]
    logits: torch.Tensor | None = None


class _Column(Dataset):
    """
    A sequence as the base class takes it: item by item, so that images are decoded as they are needed. A few are read
    ahead, which a table does quicker than one by one.
    """

    def __init__(self, items: Sequence):
        self.items, self.ahead = items, {}

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, index: int) -> Any:
        if index not in self.ahead:
            self.ahead = dict(enumerate(self.items[index : index + READ_AHEAD], start=index))
        return self.ahead.pop(index)


class _Results:
    """The faces of each photo, batch by batch; with a length where that is known, for progress bars."""

    def __init__(self, pipeline: FacialExpressionPipeline, loader: DataLoader, length: int | None, params: dict):
        self.pipeline, self.loader, self.length, self.params = pipeline, loader, length, params

    def __len__(self) -> int:
        if self.length is None:
            raise TypeError("a generator has no length")
        return self.length

    def __iter__(self) -> Iterator[list[dict]]:
        for photos in self.loader:
            for photo in self.pipeline.forward(photos):
                yield self.pipeline.postprocess(photo, **self.params)


def _parts(crops: list[Image.Image]) -> list[list[Image.Image]]:
    return [crops[start : start + MAX_FACES] for start in range(0, len(crops), MAX_FACES)]


def _face(face: Detection, size: tuple[int, int], scores: dict[str, float]) -> dict:
    left, top, right, bottom = face.box
    width, height = size
    expression = max(scores, key=scores.get)
    return {
        "box": {
            "xmin": float(min(max(left, 0), width)),
            "ymin": float(min(max(top, 0), height)),
            "xmax": float(min(max(right, 0), width)),
            "ymax": float(min(max(bottom, 0), height)),
        },
        "landmarks": None if face.landmarks is None else [[float(x), float(y)] for x, y in face.landmarks],
        "expression": expression,
        "score": scores[expression],
        "scores": scores,
    }


class _TrainedClassifier(AutoModelForImageClassification):
    """
    The Auto class, noting on the model what its checkpoint lacks. It raises nothing itself: the library would take the
    complaint for a wrong class, and load random weights with another.
    """

    @classmethod
    def from_pretrained(cls, name_or_path: str, *args, **kwargs) -> PreTrainedModel:
        try:
            model, info = super().from_pretrained(name_or_path, *args, output_loading_info=True, **kwargs)
        except SafetensorError as error:  # the library takes this kind alone for no wrong class
            try:
                locate(name_or_path)
            except ModelError as complaint:
                raise SafetensorError(str(complaint)) from error
            raise
        model.missing_weights = sorted(info["missing_keys"])
        return model


# A saved pipeline names this class, and whoever loads it looks the name up in Transformers.
_TrainedClassifier.__name__ = AutoModelForImageClassification.__name__


# `transformers.pipeline("facial-expression")` is this one. `import fer_hf` sees to it that this module is imported.
if TASK not in PIPELINE_REGISTRY.supported_tasks:
    PIPELINE_REGISTRY.register_pipeline(TASK, FacialExpressionPipeline, pt_model=_TrainedClassifier, type="image")
