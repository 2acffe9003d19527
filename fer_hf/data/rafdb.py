"""
RAF-DB (Li, Deng and Du, CVPR 2017, http://www.whdeng.cn/raf/model1.html), in two layouts:

- `official`: the authors' tree. `EmoLabel/list_patition_label.txt` has lines such as `train_00001.jpg 5`, faces lie in
  `Image/aligned` (100x100, `train_00001_aligned.jpg`), uncropped photographs in `Image/original`, and there may be
  `Annotation/manual/train_00001_manu_attri.txt` and `Annotation/boundingbox/train_00001_boundingbox.txt`. This tree is
  `basic` for the seven expressions, and `compound`, laid out likewise (an assumption), for the compound ones.
- `kaggle`: the aligned faces in `DATASET/train/1` to `7` and `DATASET/test/1` to `7`, and label files beside them. The
  folder of the test faces may also be called `valid`; their names tell that they are those of the test list.
"""

import json
import logging
import os
import re
from collections.abc import Callable, Iterable
from pathlib import Path

import datasets

from fer_hf.data.folders import entries, find_images, fingerprint, images_by_label, make_shards, read
from fer_hf.data.layouts import find_layout
from fer_hf.data.rafdb_files import (
    ATTRIBUTES,
    AUTO_LANDMARKS,
    CLASS_IDS,
    CODES_IN_WORDS,
    COMPOUND,
    COMPOUND_IDS,
    LANDMARKS,
    Key,
    face_key,
    read_attributes,
    read_auto_landmarks,
    read_box,
    read_label_table,
    read_labels,
    read_votes,
)
from fer_hf.data.source import Source, face_features
from fer_hf.data.splits import LeftOut, carve_validation, nothing
from fer_hf.errors import DataError
from fer_hf.labels import EXPRESSIONS


logger = logging.getLogger(__name__)

# Part of every fingerprint: raise it when the same files are to give other tables, and old caches are left alone.
FORMAT_VERSION = 1

# A layout is present where one of these folders stands; the first is the usual way in.
LAYOUTS = {"official": ("basic", "EmoLabel"), "kaggle": ("DATASET", "train")}
LABEL_FILE = "EmoLabel/list_patition_label.txt"  # its authors' spelling
KAGGLE_LABEL_FILES = {
    "train": ("train_labels.csv", "train.csv"),
    "test": ("test_labels.csv", "test.csv", "tes.csv", "valid_labels.csv", "valid.csv"),
}
ALIGNED_SIZE = (100, 100)


def source(
    data_dir: str | os.PathLike,
    layout: str | None = None,
    image: str = "aligned",
    validation_fraction: float = 0.1,
    split_seed: int = 42,
    subset: str = "basic",
    annotations: bool = False,
    left_out: LeftOut = nothing,
) -> Source:
    """
    RAF-DB as it lies in a folder: splits `train`, `validation`, `test`. RAF-DB has no validation faces, so they are
    taken out of its training faces, stratified by expression. The published data has 12,271 training and 3,068 test
    faces; a part of them is read as it is.

    `image` is RGB and, where it is aligned, 100x100; plain files keep their own bytes, others are handled as
    [`fer_hf.data.images`] says. `label` is the expression in canonical order and `row` the number in the file name,
    which begins at 1 in training and in test. The official layout adds, where their files are there (and null for a
    face without its file):

    - `gender`, `race`, `age_group` (`ClassLabel`): the names in [`ATTRIBUTES`],
    - with `annotations`, in pixels and as the files have them: `landmarks` (10 `float32`), x and y of five points;
      `auto_landmarks` (74 `float32`), the same of the 37 that were found automatically; `bounding_box` (4 `float32`),
      left, top, right, bottom,
    - `soft_label` (7 `float32`): the share of annotators for each expression, in canonical order. The form of this
      file is an assumption: one file `EmoLabel/*distribution*.txt` with a line per face, its name and seven shares or
      counts of votes in RAF-DB's own order, surprise to neutral. Each row is divided by its sum. Not for compound
      expressions.

    Args:
        data_dir (`str` or `os.PathLike`):
            The folder that holds `basic` or `DATASET`, or one of these folders itself.
        layout (`str`, *optional*):
            `"official"` or `"kaggle"`. Needed only where `data_dir` holds both.
        image (`str`, *optional*, defaults to `"aligned"`):
            `"aligned"`, or `"original"` for the whole photographs of the official layout.
        validation_fraction (`float`, *optional*, defaults to 0.1):
            Share of the training faces that become `validation`; 0 for no such split.
        split_seed (`int`, *optional*, defaults to 42):
            Decides which.
        subset (`str`, *optional*, defaults to `"basic"`):
            `"basic"`, or `"compound"` for the faces with two expressions (official layout). Their 11 classes are those
            of the label lists in use, in their order ([`COMPOUND`]). A list with a twelfth code is refused: what its
            codes mean is not documented.
        annotations (`bool`, *optional*, defaults to `False`):
            Whether landmarks and bounding boxes become columns (official layout).
        left_out ([`~fer_hf.data.splits.LeftOut`], *optional*):
            What [`~fer_hf.data.load_dataset`] leaves out afterwards: validation is carved as if it were not there.

    Returns:
        `Source`: Its fingerprint covers every byte of the files that are read.

    Raises:
        `DataError`: If the layout is not clear, labels, annotations and images do not fit together, or a file is not
            what it should be. Pixels are looked into later, when the source is read.
    """
    folder = Path(data_dir).expanduser().absolute()
    if image not in ("aligned", "original"):
        raise DataError(f"`image` must be 'aligned' or 'original', got {image!r}.")
    if subset not in ("basic", "compound"):
        raise DataError(f"`subset` must be 'basic' or 'compound', got {subset!r}.")
    if subset == "basic":
        layout = find_layout(folder, layout, LAYOUTS, "RAF-DB")
        root = _inner(folder, LAYOUTS[layout][0])
    else:
        layout, root = "official", _find_compound(folder, layout)
    if layout == "official":
        faces, extra, files = _index_official(root, image, subset, annotations)
    elif annotations:
        raise DataError(f"{folder}: this layout has no annotations. annotations=True needs the official layout.")
    elif image == "aligned":
        faces, extra, files = _index_kaggle(folder, root)
    else:
        raise DataError(f"{folder}: this layout has aligned faces only. image='original' needs the official layout.")

    parts = {part: [face for key, face in sorted(faces.items()) if key[0] == part] for part in ("train", "test")}
    for part, found in parts.items():
        if not found:
            raise DataError(f"{root}: no {part} face. Use the complete data set, with training and test faces.")
    names = EXPRESSIONS if subset == "basic" else COMPOUND
    splits, ids = parts, []
    if validation_fraction != 0:
        train, test, ids = parts["train"], parts["test"], left_out(names)
        labels = [face["label"] for face in train]
        kept, carved = carve_validation(labels, validation_fraction, split_seed, "rafdb", ids)
        splits = {"train": [train[i] for i in kept], "validation": [train[i] for i in carved], "test": test}

    size = ALIGNED_SIZE if image == "aligned" else None
    features = face_features(names, **extra)
    described = ["rafdb", FORMAT_VERSION, layout, image, validation_fraction, split_seed, sorted(extra)]
    described += [] if subset == "basic" else [subset]
    described = json.dumps([*described, ids] if ids else described)
    return Source(
        name="rafdb",
        fingerprint=fingerprint(described, root, [*files, *(face["image"] for face in faces.values())]),
        features=features,
        shards={split: make_shards(found, features, mode="RGB", size=size) for split, found in splits.items()},
        read=read,
    )


def _find_compound(folder: Path, layout: str | None) -> Path:
    if layout not in (None, "official"):
        raise DataError(f"subset='compound' needs the official layout, got layout={layout!r}.")
    root = _inner(folder, "compound")
    if not (root / "EmoLabel").is_dir():
        raise DataError(f"{folder} holds no compound/EmoLabel, as subset='compound' needs. Check `data_dir`.")
    return root


def _inner(folder: Path, name: str) -> Path:
    """The folder of that name in it, or itself."""
    return folder / name if (folder / name).is_dir() else folder


def _images(folder: Path) -> list[str]:
    images, others = find_images(folder)
    if not images:
        raise DataError(f"{folder}: no image in this folder. Unpack the data set again.")
    if others:
        raise DataError(f"{others[0]}: not an image, where only images should be ({len(others)} such). Remove it.")
    return images


def _by_face(paths: Iterable[str]) -> dict[Key, str]:
    found = {}
    for path in paths:
        key = face_key(Path(path).name, path)
        if key in found:
            raise DataError(f"{path}: the same face as {found[key]}. Remove one of the two files.")
        found[key] = path
    return found


def _check_same(listed: dict[Key, tuple], images: dict[Key, str], list_path: Path):
    """Neither a line of the file nor an image may be without the other."""
    if missing := sorted(listed.keys() - images.keys()):
        raise DataError(
            f"{listed[missing[0]][0]}: no image for this line (lines without image: {len(missing)}). "
            "Unpack the data set again, or remove such lines."
        )
    if missing := sorted(images.keys() - listed.keys()):
        raise DataError(
            f"{images[missing[0]]}: is not listed in {list_path} (images that do not: {len(missing)}). "
            "Unpack the data set again, or remove such images."
        )


# Official layout


def _index_official(
    root: Path, image: str, subset: str = "basic", annotations: bool = False
) -> tuple[dict[Key, dict], dict, list[str]]:
    """The faces, the columns besides image, label and row, and the files that are read besides the images."""
    folder = root / "Image" / image
    if not folder.is_dir():
        raise DataError(f"{folder} is missing. Unpack the {image} images there, or choose others with `image`.")
    list_path = root / LABEL_FILE
    listed = read_labels(list_path, CLASS_IDS if subset == "basic" else COMPOUND_IDS)
    images = _by_face(_images(folder))
    _check_same(listed, images, list_path)
    faces = {key: {"image": images[key], "label": label, "row": key[1]} for key, (_, _, label) in listed.items()}
    names = {key: name for key, (_, name, _) in listed.items()}

    attributes = {name: datasets.ClassLabel(names=list(values)) for name, values in ATTRIBUTES.items()}
    kinds = [("manual", "_manu_attri.txt", attributes, read_attributes)]
    if annotations:
        kinds[0][2]["landmarks"] = _floats(2 * LANDMARKS)
        kinds += [
            ("auto", "_auto_attri.txt", {"auto_landmarks": _floats(2 * AUTO_LANDMARKS)}, read_auto_landmarks),
            ("boundingbox", "_boundingbox.txt", {"bounding_box": _floats(4)}, read_box),
        ]
    extra, files = {}, [str(list_path)]
    for subfolder, suffix, columns, read_file in kinds:
        if (place := root / "Annotation" / subfolder).is_dir():
            extra |= columns
            files += _annotate(faces, names, place, suffix, columns, read_file)
    if subset == "basic" and (votes_path := _find_votes(list_path.parent)):
        votes = read_votes(votes_path)
        _check_same(votes, images, votes_path)
        for key, (_, shares) in votes.items():
            faces[key]["soft_label"] = shares
        extra["soft_label"] = _floats(len(EXPRESSIONS))
        files.append(str(votes_path))
    return faces, extra, files


def _annotate(
    faces: dict[Key, dict], names: dict[Key, str], folder: Path, suffix: str, columns: dict, read_file: Callable
) -> list[str]:
    """Adds to every face what its annotation file says, or nulls, and returns the files."""
    unused = {entry.name: entry.path for entry in entries(folder) if entry.name.endswith(suffix)}
    files = []
    for key, face in faces.items():
        path = unused.pop(names[key] + suffix, None)
        if path is None:
            face |= dict.fromkeys(columns)
        else:
            found = read_file(path)
            face |= {column: found[column] for column in columns}
            files.append(path)
    if unused:
        raise DataError(
            f"{min(unused.values())}: an annotation of a face that is not listed (such files: {len(unused)}). "
            "Unpack the data set again, or remove them."
        )
    if len(files) < len(faces):
        logger.warning(
            f"{folder}: {len(faces) - len(files):,} of {len(faces):,} faces have no annotation; they get null"
        )
    return files


def _find_votes(folder: Path) -> Path | None:
    found = [Path(entry.path) for entry in entries(folder) if re.search("distribution.*[.]txt$", entry.name)]
    if len(found) > 1:
        raise DataError(f"{found[1]}: a second file of vote distributions beside {found[0]}. Move one of them away.")
    return found[0] if found else None


def _floats(count: int) -> datasets.List:
    return datasets.List(datasets.Value("float32"), length=count)


# Kaggle layout


def _index_kaggle(folder: Path, root: Path) -> tuple[dict[Key, dict], dict, list[str]]:
    """As `_index_official`; label files lie in either of the two folders."""
    faces, files = {}, []
    for part, file_names in KAGGLE_LABEL_FILES.items():
        labels = _labelled_images(root, _part_folder(root, part))
        images = _by_face(labels)
        for key, path in images.items():
            if key[0] != part:
                raise DataError(f"{path}: an image of {key[0]} among those of {part}. Move it to {key[0]}.")
            faces[key] = {"image": path, "label": labels[path], "row": key[1]}
        candidates = [place / name for place in dict.fromkeys((folder, root)) for name in file_names]
        found = [path for path in candidates if path.is_file()]
        if len(found) > 1:
            raise DataError(f"{found[1]}: a second label file beside {found[0]}. Move one of them away.")
        for path in found:
            listed = read_label_table(path)
            _check_same(listed, images, path)
            for key, (where, _, label) in listed.items():
                if label != faces[key]["label"]:
                    raise DataError(
                        f"{where}: the label means {EXPRESSIONS[label]}, but the image lies in "
                        f"{os.path.dirname(images[key])}. Unpack the data set again, or correct one of them."
                    )
            files.append(str(path))
    return faces, {}, files


def _part_folder(root: Path, part: str) -> str:
    """`valid` where the test faces are called so, as in the README of DACL's authors."""
    return "valid" if part == "test" and not (root / "test").is_dir() and (root / "valid").is_dir() else part


def _labelled_images(root: Path, part: str) -> dict[str, int]:
    """Paths of all images of a folder of the tree, and their class ids."""
    if not (root / part).is_dir():
        raise DataError(f"{root / part} is missing: the layout needs train and test, each with the folders 1 to 7.")
    labels = {}
    for name, paths in images_by_label(root / part, above=(root,)).items():
        if name not in CLASS_IDS:
            raise DataError(f"{root / part / name}: folders must be named {CODES_IN_WORDS}. Rename or remove it.")
        if not paths:
            raise DataError(f"{root / part / name}: no image in this folder. Unpack the data set again.")
        labels |= dict.fromkeys(paths, CLASS_IDS[name])
    return labels
