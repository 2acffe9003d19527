"""`fer-hf predict`: the expressions in many photos, as a table, printed, in a file, and in annotated pictures."""

import logging
import os
import sys
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import datasets
import numpy as np
import pyarrow as pa
from PIL import Image
from tqdm import tqdm

from fer_hf.bars import Bar
from fer_hf.data.images import HEIF_SUFFIXES
from fer_hf.errors import BadInputError
from fer_hf.escape import one_line
from fer_hf.files import check_output, whole
from fer_hf.inference.photos import Photo, load_photo, photos_below
from fer_hf.inference.pipeline import TASK, FacialExpressionPipeline
from fer_hf.inference.results import Results, check_results, face_rows, face_schema
from fer_hf.models.loading import load_trained_classifier
from fer_hf.plots import draw_faces, plot_predictions, plot_probabilities
from fer_hf.words import plural


logger = logging.getLogger(__name__)

# The shipped checkpoint, used if no model is named.
DEFAULT_MODEL = "fer-compact-cnn"
# A sheet shows the first so many faces, and of one photo so many have bars.
MAX_SHEET, MAX_BARS = 70, 10


class Entry(NamedTuple):
    """
    A photo to predict.

    Args:
        name (`str`): For the user: a path, a URL, or data set, split and row.
        photo: As for [`~fer_hf.inference.photos.load_photo`], or a function that gives it.
        picture (`Path`): Of its annotated picture, relative to the folder of pictures.
    """

    name: str
    photo: Photo | Callable[[], Photo]
    picture: Path


@dataclass(frozen=True)
class Places:
    """
    Where the answers go.

    Args:
        output (`Path`, *optional*): A file for all faces, as for [`~fer_hf.inference.results.Results`].
        annotate (`Path`, *optional*): Folder for a PNG of each photo with its faces marked.
        plot (`Path`, *optional*): A PNG: of one photo, the probabilities of its faces as bars; of several, a sheet of
            the first faces with the expression of each.
        resume (`bool`): Go on with an `output` that was interrupted: no photo in it is done again, and `plot` shows
            the others.
        overwrite (`bool`): Replace older files. A photo is never replaced.
    """

    output: Path | None = None
    annotate: Path | None = None
    plot: Path | None = None
    resume: bool = False
    overwrite: bool = False

    def check(self, entries: Sequence[Entry]) -> bool:
        """
        Refuse, before a model is loaded, what cannot or must not be written.

        Returns:
            `bool`: Whether there is something to do.

        Raises:
            BadInputError: If a place has another suffix, cannot be written, or holds something.
        """
        photos = {os.path.realpath(entry.photo): entry.name for entry in entries if isinstance(entry.photo, str)}
        if self.plot is not None:
            if self.plot.suffix != ".png":
                raise BadInputError(f"`plot` must end in .png, got {self.plot}.")
            check_output("plot", self.plot, self.overwrite, photos)
        if self.annotate is not None:
            if self.annotate.suffix in (".mp4", ".png"):
                raise BadInputError(f"`annotate` is a folder for photos, and a file for a video, got {self.annotate}.")
            check_output("annotate", self.annotate, folder=True)
            for picture in (self.annotate / entry.picture for entry in entries):
                if photo := photos.get(os.path.realpath(picture)):
                    raise BadInputError(f"`annotate` would overwrite the photo {photo}. Name another folder.")
                if picture.exists() and not (self.resume or self.overwrite):
                    raise BadInputError(
                        f"`annotate`: {picture} exists. Name another folder, or replace pictures with --overwrite."
                    )
        return check_results(self.output, self.resume, self.overwrite, photos)

    def say_written(self, with_plot: bool) -> None:
        """Print what was written. Without a face there is no `plot`, and without a photo no `annotate`."""
        for place in filter(None, (self.output, self.annotate, self.plot)):
            written = with_plot if place == self.plot else place.exists()
            print(f"written: {place}" if written else f"not written: {place} (nothing to show)")


def predict(
    photos: Photo | Sequence[Photo],
    model: str | None = None,
    detector: str | Callable = "auto",
    batch_size: int = 16,
    **options,
) -> datasets.Dataset:
    """
    Find the faces in photos, and say what they show.

    ```python
    >>> import fer_hf

    >>> fer_hf.predict(["photo.jpg", "more/photos"]).to_pandas()[["image", "expression", "score"]]
    ```

    Args:
        photos: A photo as for [`~fer_hf.inference.photos.load_photo`], or several; a folder stands for the images in
            it, at any depth.
        model (`str`, *optional*): A folder, a Hub id, or the name of a checkpoint that ships; one that ships by
            default.
        detector (defaults to `"auto"`): See [`~fer_hf.inference.get_detector`].
        batch_size (`int`, defaults to 16): Photos at a time.
        options: Others of [`FacialExpressionPipeline`].

    Returns:
        `datasets.Dataset`: A row for each face, and one for each photo without faces, with the columns of
        [`~fer_hf.inference.results.face_schema`]. `image` is the path or URL, or a number for one in memory. Of
        several, those that cannot be read are left out, and named in warnings.

    Raises:
        BadInputError: If there is no such model or detector, or the only photo cannot be read.
    """
    if isinstance(photos, datasets.Dataset):
        raise BadInputError("`photos` of a table are a column of it, such as `table['image']`.")
    if batch_size < 1:
        raise BadInputError(f"`batch_size` must be at least 1, got {batch_size}.")
    several = isinstance(photos, Sequence) and not isinstance(photos, str)
    entries, _ = find_entries(photos if several else [photos])
    classifier = load_pipeline(model, detector=detector, **options)
    labels, rows = list(classifier.model.config.id2label.values()), []
    for entry, image, faces in _answers(classifier, entries, batch_size):
        if image is not None:
            rows += face_rows({"image": entry.name}, faces, labels)
        elif len(entries) == 1:
            raise faces
        else:
            logger.warning(f"unreadable: {faces}")
    return datasets.Dataset(pa.Table.from_pylist(rows, face_schema(labels)))


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


def find_entries(photos: Iterable[Photo]) -> tuple[list[Entry], Counter[str]]:
    """
    All photos: files as they are named, URLs, pictures in memory, and the images in folders at any depth. One that is
    named twice is there once.

    Returns:
        `tuple`: The photos, each with a picture of its own; and what else lies in the folders, counted by kind.

    Raises:
        BadInputError: If a folder holds no image.
    """
    entries, left_out = {}, Counter()
    for number, photo in enumerate(photos):
        if not isinstance(photo, str | os.PathLike):
            entries.setdefault(str(number), Entry(str(number), photo, Path(str(number))))
        elif not os.path.isdir(photo):
            photo = os.fspath(photo)
            entries.setdefault(photo, Entry(photo, photo, Path(Path(photo).name or "photo")))
        else:
            here = Counter()
            images = photos_below(photo, here)
            if not images:
                others = f" ({left_out_text(here)})" if here else ""
                raise BadInputError(f"{os.fspath(photo)}: no images in this folder{others}.")
            left_out += here
            for image in images:
                entries.setdefault(image, Entry(image, image, Path(os.path.relpath(image, photo))))
    return _with_own_pictures(entries.values()), left_out


def _with_own_pictures(entries: Iterable[Entry]) -> list[Entry]:
    """The entries with a PNG each, which no other has, on file systems that take `A` for `a`, too."""
    taken, named = set(), []
    for entry in entries:
        picture, number = entry.picture.with_suffix(".png"), 1
        while (key := unicodedata.normalize("NFC", str(picture)).casefold()) in taken:
            number += 1
            picture = picture.with_name(f"{entry.picture.stem}-{number}.png")
        taken.add(key)
        named.append(entry._replace(picture=picture))
    return named


def left_out_text(left_out: Counter[str]) -> str:
    """What lies in the folders and was not read, and how phones' photos can be."""
    text = "not read: " + ", ".join(f"{one_line(kind)} {count:,}" for kind, count in left_out.most_common())
    return text + ("; pip install pillow-heif for .heic" if HEIF_SUFFIXES & left_out.keys() else "")


def entries_of_table(table: datasets.Dataset, name: str) -> list[Entry]:
    """The images of a table, in its order, each named `name/row`; they are decoded when they are asked for."""
    images = table.select_columns(["image"])
    return [
        Entry(f"{name}/{row}", partial(_image, images, index), Path(name, f"{row}.png"))
        for index, row in enumerate(table["row"])
    ]


def _image(table: datasets.Dataset, index: int) -> Image.Image:
    return table[index]["image"]


def _answers(
    classifier: FacialExpressionPipeline, entries: Iterable[Entry], batch_size: int
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
    entries: Sequence[Entry],
    places: Places = Places(),
    settings: dict | None = None,
    batch_size: int = 16,
    disable_tqdm: bool = False,
) -> None:
    """
    Print a line for every photo, and write faces and pictures where asked.

    Args:
        classifier (`FacialExpressionPipeline`): From [`load_pipeline`].
        entries (`Sequence[Entry]`): The photos.
        places (`Places`): Where to write; [`Places.check`] has passed them.
        settings (`dict`, *optional*): What shapes the answers, which must not change when `places.output` is resumed.
        batch_size (`int`, defaults to 16): Photos at a time.
        disable_tqdm (`bool`, defaults to `False`): Show no progress bar.

    Raises:
        BadInputError: At the end, if photos could not be read.
    """
    shown: list[tuple[Image.Image, dict]] = []
    labels = list(classifier.model.config.id2label.values())
    with Results(places.output, labels, settings or {}, places.resume) as results:
        waiting = [entry for entry in entries if entry.name not in results.done]
        bar = Bar(
            total=len(entries),
            initial=len(entries) - len(waiting),
            desc="photos",
            unit="photo",
            disable=disable_tqdm,
        )
        with bar:
            for entry, image, faces in _answers(classifier, waiting, batch_size):
                bar.update()
                if image is None:
                    tqdm.write(one_line(f"unreadable: {faces}"), file=sys.stderr)
                    continue
                tqdm.write(_line(entry.name, faces), file=sys.stdout)
                if places.annotate is not None:
                    _save_picture(draw_faces(image, faces), places.annotate / entry.picture)
                if places.plot is not None:
                    shown += [(cut_face(image, face), face) for face in faces[: MAX_SHEET - len(shown)]]
                results.add(entry.name, faces)
    if shown:
        _plot_faces(shown, labels, places.plot, len(entries), results.expressions.total())
    head = f"{plural(len(results.done), 'photo')}, {plural(results.expressions.total(), 'face')}"
    print(summary(head, results.expressions))
    places.say_written(with_plot=bool(shown))
    if unreadable := len(entries) - len(results.done):
        raise BadInputError(f"{unreadable:,} of {plural(len(entries), 'photo')} could not be read; named above.")


def _read(photo: Photo | Callable[[], Photo]) -> Image.Image | BadInputError:
    try:
        return load_photo(photo() if callable(photo) else photo)
    except BadInputError as error:
        return error


def _line(name: str, faces: list[dict]) -> str:
    shown = ", ".join(f"{face['expression']} {face['score']:.2f}" for face in faces)
    return one_line(f"{name:<40}  {len(faces):>2} {'face ' if len(faces) == 1 else 'faces'}  {shown}".rstrip())


def summary(head: str, expressions: Counter[str]) -> str:
    """`3 photos, 4 faces: happy 3, sad 1`"""
    each = ", ".join(f"{one_line(name)} {count:,}" for name, count in expressions.most_common())
    return f"{head}: {each}" if each else head


def cut_face(image: Image.Image, face: dict) -> Image.Image:
    """The face's box out of the photo, of one pixel at least."""
    left, top, right, bottom = (int(face["box"][edge]) for edge in ("xmin", "ymin", "xmax", "ymax"))
    return image.crop((left, top, max(right, left + 1), max(bottom, top + 1)))


def _plot_faces(
    shown: list[tuple[Image.Image, dict]], labels: list[str], path: Path, num_photos: int, num_faces: int
) -> None:
    """The picture that `plot` asks for."""
    path.parent.mkdir(parents=True, exist_ok=True)
    shown = shown[:MAX_BARS] if num_photos == 1 else shown
    images, faces = zip(*shown, strict=True)
    scores = np.array([[face["scores"][label] for label in labels] for face in faces])
    of_all = f" of {plural(num_faces, 'face')}" if num_faces > len(shown) else " face" if len(shown) == 1 else " faces"
    if num_photos == 1:
        plot_probabilities(images, scores, labels, path, f"{len(shown)}{of_all}")
    else:
        plot_predictions(images, scores, None, labels, path, f"{len(shown)}{of_all}: the model's answers")


def _save_picture(picture: Image.Image, path: Path) -> None:
    with whole(path) as partial:
        picture.save(partial, "PNG")
