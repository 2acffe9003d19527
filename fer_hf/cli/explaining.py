"""`fer-hf explain`: a picture for each face, of where the classifier looks and what it answers."""

import os
import sys
from collections.abc import Sequence
from pathlib import Path

import torch
from PIL import Image
from tqdm import tqdm

from fer_hf.bars import Bar
from fer_hf.errors import BadInputError, ModelError
from fer_hf.escape import one_line
from fer_hf.evaluation.attention import attention, maps_over_faces
from fer_hf.files import check_output, whole
from fer_hf.inference.detectors import FaceDetector
from fer_hf.inference.pipeline import FacialExpressionPipeline
from fer_hf.inference.predict import Entry
from fer_hf.plots import plot_explanation
from fer_hf.words import plural


def check_place(folder: Path, entries: Sequence[Entry], overwrite: bool) -> None:
    """
    Refuse, before a model is loaded, a folder that pictures cannot or must not go to.

    Raises:
        BadInputError: If it is a file, cannot be written, has one of the photos in it or, without `overwrite`,
            pictures of them.
    """
    check_output("output_dir", folder, folder=True)
    for entry in (entry for entry in entries if isinstance(entry.photo, str)):
        photo = Path(os.path.realpath(entry.photo))
        if photo.exists() and photo.is_relative_to(folder.resolve()):
            raise BadInputError(f"`output_dir` {folder} holds the photo {entry.name}. Name another folder.")
    explained = {path.with_name(path.stem.rpartition("_face")[0]): path for path in folder.rglob("*_face*.png")}
    found = [explained.get((folder / entry.picture).with_suffix("")) for entry in entries]
    if not overwrite and any(found):
        taken = next(filter(None, found))
        raise BadInputError(
            f"`output_dir`: {taken} exists. Name another folder, or replace pictures with --overwrite."
        )


def explain_to(
    classifier: FacialExpressionPipeline,
    detector: FaceDetector,
    entries: Sequence[Entry],
    folder: Path,
    disable_tqdm: bool = False,
) -> None:
    """
    Write `<photo>_face<number>.png` for every face, and print a line for each.

    Args:
        classifier (`FacialExpressionPipeline`): With the model.
        detector (`FaceDetector`): Finds the faces.
        entries (`Sequence[Entry]`): The photos.
        folder (`Path`): Where the pictures go; [`check_place`] has passed it.
        disable_tqdm (`bool`, defaults to `False`): Show no progress bar.

    Raises:
        ModelError: At the first face, if the model tells nothing of where it looks.
        BadInputError: At the end, if photos could not be read.
    """
    num_faces = unreadable = 0
    for entry in Bar(entries, "photos", unit="photo", disable=disable_tqdm):
        try:
            photo = entry.photo() if callable(entry.photo) else entry.photo
            crops = classifier.preprocess(photo, detector).crops
        except BadInputError as error:
            tqdm.write(one_line(f"unreadable: {error}"), file=sys.stderr)
            unreadable += 1
            continue
        for number, crop in enumerate(crops, start=1):
            place = folder / entry.picture.with_name(f"{entry.picture.stem}_face{number}.png")
            name = entry.name if callable(entry.photo) else Path(entry.name).name
            answer = _explain(classifier, crop, f"{name}, face {number}", place)
            tqdm.write(one_line(f"{place}  {answer}"), file=sys.stdout)
        num_faces += len(crops)
    if unreadable < len(entries):
        print(f"{plural(len(entries) - unreadable, 'photo')}, {plural(num_faces, 'face')}")
    if unreadable:
        raise BadInputError(f"{unreadable:,} of {plural(len(entries), 'photo')} could not be read; named above.")


def _explain(classifier: FacialExpressionPipeline, crop: Image.Image, what: str, place: Path) -> str:
    """Draw one face; returns the answer."""
    model = classifier.model
    with torch.no_grad(), classifier.fitting([crop]):
        pixel_values = classifier.image_processor(crop, return_tensors="pt")["pixel_values"].to(model.device)
        shares = model(pixel_values=pixel_values).logits[0].softmax(dim=-1).tolist()
    scores = dict(zip(model.config.id2label.values(), shares, strict=True))
    found = attention(model, pixel_values)
    maps = {name: over[0] for name, over in maps_over_faces(model, pixel_values, found).items()}
    if not maps:
        raise ModelError(
            f"{model.name_or_path} does not tell where it looks: that takes convolutions, or attention over the whole "
            "face."
        )
    best = max(scores, key=scores.get)
    answer, features = f"{best} {scores[best]:.0%}", found["features"][0] if "features" in found else None
    with whole(place) as partial, open(partial, "wb") as file:
        plot_explanation(pixel_values[0].cpu().numpy(), maps, scores, file, f"{what}: {answer}", features)
    return answer
