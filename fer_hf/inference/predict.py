"""`fer-hf predict`: the expressions in many photos, printed, in a file, and in annotated pictures."""

import csv
import json
import os
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from itertools import chain, islice
from pathlib import Path
from typing import NamedTuple

import datasets
import numpy as np
from PIL import Image
from tqdm import tqdm

from fer_hf.data.folders import find_images
from fer_hf.errors import BadInputError
from fer_hf.files import whole
from fer_hf.inference.photos import Photo, load_photo
from fer_hf.inference.pipeline import TASK, FacialExpressionPipeline
from fer_hf.models.loading import load_trained_classifier
from fer_hf.plots import draw_faces, plot_predictions, plot_probabilities


# The shipped checkpoint, used if no model is named.
DEFAULT_MODEL = "fer-compact-cnn"
# A sheet shows the first so many faces, and of one photo so many have bars.
MAX_SHEET, MAX_BARS = 70, 10


class Entry(NamedTuple):
    """
    A photo to predict.

    Args:
        name (`str`): For the user: a path, a URL, or data set, split and row.
        photo: As for [`~fer_hf.inference.photos.load_photo`].
        picture (`Path`): Of its annotated picture, relative to the folder of pictures.
    """

    name: str
    photo: Photo
    picture: Path


def load_pipeline(model: str | None, **options) -> FacialExpressionPipeline:
    """
    The pipeline with the model in a run's folder, on the Hub, or shipped with the package.

    Args:
        model (`str`, *optional*): [`DEFAULT_MODEL`] by default.
        options: Of [`FacialExpressionPipeline`].

    Raises:
        BadInputError: If there is no such model or detector, or the model's checkpoint lacks weights.
    """
    classifier, processor = load_trained_classifier(model or DEFAULT_MODEL, trust_remote_code=False)
    return FacialExpressionPipeline(model=classifier, image_processor=processor, task=TASK, **options)


def entries_of_paths(paths: Iterable[str | os.PathLike]) -> list[Entry]:
    """
    All photos at paths: files as they are named, URLs, and the images in folders at any depth.

    Raises:
        BadInputError: If a folder holds no image, or cannot be listed.
    """
    entries = []
    for path in map(str, paths):
        if not os.path.isdir(path):
            entries.append(Entry(path, path, Path(Path(path).name)))
            continue
        images, _ = find_images(path)
        if not images:
            raise BadInputError(f"{path}: no images in this folder.")
        entries += [Entry(image, image, Path(os.path.relpath(image, path))) for image in images]
    taken = Counter()
    for number, entry in enumerate(entries):
        picture = entry.picture.with_suffix(".png")
        taken[picture] += 1
        if taken[picture] > 1:
            picture = picture.with_name(f"{picture.stem}-{taken[picture]}.png")
        entries[number] = entry._replace(picture=picture)
    return entries


def entries_of_table(table: datasets.Dataset, name: str) -> Iterator[Entry]:
    """The images of a table, in its order, each named `name/row`."""
    for example in table:
        yield Entry(f"{name}/{example['row']}", example["image"], Path(name, f"{example['row']}.png"))


def predict(
    classifier: FacialExpressionPipeline, entries: Iterable[Entry], batch_size: int = 16
) -> Iterator[tuple[Entry, Image.Image | None, list[dict] | BadInputError]]:
    """
    Classify photos batch by batch, in order.

    Yields:
        `tuple`: The entry, the photo in RGB, and its faces as the pipeline gives them; for a photo that cannot be
        read, the entry, `None` and the error.
    """
    entries = iter(entries)
    while batch := list(islice(entries, batch_size)):
        read = [_read(entry.photo) for entry in batch]
        images = [image for image in read if isinstance(image, Image.Image)]
        found = iter(classifier(images, batch_size=batch_size))
        for entry, image in zip(batch, read, strict=True):
            if isinstance(image, Image.Image):
                yield entry, image, next(found)
            else:
                yield entry, None, image


def predict_to(
    classifier: FacialExpressionPipeline,
    entries: Iterable[Entry],
    total: int,
    output: Path | None = None,
    annotate: Path | None = None,
    batch_size: int = 16,
    disable_tqdm: bool = False,
    plot: Path | None = None,
) -> None:
    """
    Print a line for every photo, and write faces and pictures where asked.

    Args:
        classifier (`FacialExpressionPipeline`): From [`load_pipeline`].
        entries (iterable of [`Entry`]): The photos.
        total (`int`): Number of photos.
        output (`Path`, *optional*): A `.jsonl` file with a line for each photo, or a `.csv` file with a line for each
            face, and one for each photo without faces. It is written whole, at the end.
        annotate (`Path`, *optional*): Folder for a PNG of each photo with its faces marked.
        batch_size (`int`, defaults to 16): Photos at a time.
        disable_tqdm (`bool`, defaults to `False`): Show no progress bar.
        plot (`Path`, *optional*): A PNG: of one photo, the probabilities of its faces as bars; of several, a sheet of
            the first faces with the expression of each.

    Raises:
        BadInputError: If `output` or `plot` has another suffix; and at the end, if photos could not be read.
    """
    if batch_size < 1:
        raise BadInputError(f"`--batch_size` must be at least 1, got {batch_size}.")
    if plot is not None and plot.suffix != ".png":
        raise BadInputError(f"`--plot` must end in .png, got {plot}.")
    shown: list[tuple[Image.Image, dict]] = []
    counts, unreadable = Counter(), 0
    labels = list(classifier.model.config.id2label.values())
    bar = tqdm(total=total, unit="photo", disable=disable_tqdm, file=sys.stderr)
    with bar, _written(output, labels) as write:
        for entry, image, faces in predict(classifier, entries, batch_size):
            bar.update()
            if image is None:
                unreadable += 1
                tqdm.write(f"unreadable: {faces}", file=sys.stderr)
                continue
            counts.update(face["expression"] for face in faces)
            tqdm.write(_line(entry.name, faces), file=sys.stdout)
            write(entry.name, faces)
            if annotate is not None:
                _save_picture(draw_faces(image, faces), annotate / entry.picture, entry)
            if plot is not None:
                shown += [(_cut(image, face), face) for face in faces[: MAX_SHEET - len(shown)]]
    if plot is not None:
        _plot_faces(shown, labels, plot, total, counts.total())
    print(f"{total - unreadable:,} photos, {counts.total():,} faces" + "".join(_counted(counts)))
    for place in filter(None, (output, annotate, plot if shown else None)):
        print(f"written: {place}")
    if unreadable:
        raise BadInputError(f"{unreadable:,} of {total:,} photos could not be read; they are named above.")


def _read(photo: Photo) -> Image.Image | BadInputError:
    try:
        return load_photo(photo)
    except BadInputError as error:
        return error


def _line(name: str, faces: list[dict]) -> str:
    shown = ", ".join(f"{face['expression']} {face['score']:.2f}" for face in faces)
    return f"{name:<40}  {len(faces):>2} {'face ' if len(faces) == 1 else 'faces'}  {shown}".rstrip()


def _counted(counts: Counter) -> Iterator[str]:
    for number, (expression, count) in enumerate(counts.most_common()):
        yield f"{', ' if number else ': '}{expression} {count:,}"


def _cut(image: Image.Image, face: dict) -> Image.Image:
    """The face's box out of the photo, of one pixel at least."""
    left, top, right, bottom = (int(face["box"][edge]) for edge in ("xmin", "ymin", "xmax", "ymax"))
    return image.crop((left, top, max(right, left + 1), max(bottom, top + 1)))


def _plot_faces(
    shown: list[tuple[Image.Image, dict]], labels: list[str], path: Path, num_photos: int, num_faces: int
) -> None:
    """The picture that `plot` asks for; none if there is no face."""
    if not shown:
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    shown = shown[:MAX_BARS] if num_photos == 1 else shown
    images, faces = zip(*shown, strict=True)
    scores = np.array([[face["scores"][label] for label in labels] for face in faces])
    of_all = f" of {num_faces:,} faces" if num_faces > len(shown) else " face" if len(shown) == 1 else " faces"
    if num_photos == 1:
        plot_probabilities(images, scores, labels, path, f"{len(shown)}{of_all}")
    else:
        plot_predictions(images, scores, None, labels, path, f"{len(shown)}{of_all}: the model's answers")


def _save_picture(picture: Image.Image, path: Path, entry: Entry) -> None:
    if isinstance(entry.photo, str) and path.exists() and path.samefile(entry.photo):
        raise BadInputError(f"`--annotate` would overwrite the photo {entry.photo}. Name another folder.")
    path.parent.mkdir(parents=True, exist_ok=True)
    picture.save(path)


@contextmanager
def _written(path: Path | None, labels: list[str]) -> Iterator[Callable[[str, list[dict]], None]]:
    """What writes the faces of a photo; the file has its name only once it is whole."""
    if path is None:
        yield lambda name, faces: None
        return
    if path.suffix not in (".jsonl", ".csv"):
        raise BadInputError(f"`--output` must end in .jsonl or .csv, got {path}.")
    with whole(path) as partial, open(partial, "w", newline="", encoding="utf-8") as file:
        yield _json_lines(file) if path.suffix == ".jsonl" else _csv_lines(file, labels)


def _json_lines(file) -> Callable[[str, list[dict]], None]:
    def write(name: str, faces: list[dict]) -> None:
        file.write(json.dumps({"image": name, "faces": faces}, ensure_ascii=False) + "\n")

    return write


def _csv_lines(file, labels: list[str]) -> Callable[[str, list[dict]], None]:
    edges = ["xmin", "ymin", "xmax", "ymax"]
    points = [f"{axis}{number}" for number in range(1, 6) for axis in "xy"]
    writer = csv.writer(file)
    writer.writerow(["image", "face", *edges, *points, "expression", "score", *labels])

    def write(name: str, faces: list[dict]) -> None:
        for number, face in enumerate(faces):
            box = [face["box"][edge] for edge in edges]
            landmarks = list(chain(*face["landmarks"])) if face["landmarks"] else [""] * 10
            scores = [face["scores"][label] for label in labels]
            writer.writerow([name, number, *box, *landmarks, face["expression"], face["score"], *scores])
        if not faces:
            writer.writerow([name, *[""] * (17 + len(labels))])

    return write
