"""
FER+ (Barsoum et al., 2016, https://huggingface.co/papers/1608.01041): ten annotators' votes on each face of FER-2013.

The labels are `fer2013new.csv` from https://github.com/microsoft/FERPlus; the faces are those of your own copy of
FER-2013. Both files have the same rows in the same order, and are joined by it. The numbers in the column `Image name`
are of no use: from about row 60 on, they run ahead of the rows.
"""

import hashlib
import os
from pathlib import Path

import datasets
import numpy as np

from fer_hf.data.contents import separator_hint
from fer_hf.data.fer2013 import LAYOUTS
from fer_hf.data.fer2013_csv import check_usage, choose_rows, index_rows, read_faces, short, split_fields
from fer_hf.data.fer2013_faces import SPLITS
from fer_hf.data.images import read_bytes
from fer_hf.data.layouts import find_layout, near_hint, present
from fer_hf.data.source import Source, face_features
from fer_hf.errors import DataError
from fer_hf.labels import EXPRESSIONS_WITH_CONTEMPT, SOURCE_CODES, canonical_name
from fer_hf.words import plural


# Part of every fingerprint: raise it when the same files are to give other tables, and old caches are left alone.
FORMAT_VERSION = 1

TARGETS = ("majority", "argmax", "distribution")
LABEL_FILE = "fer2013new.csv"

# The vote columns in the file's order, which decides ties, and what label the largest of them gives: none for the last
# two, nor for the index -1.
_VOTES = (*SOURCE_CODES["ferplus"].values(), "unknown", "NF")
_NUM_EXPRESSIONS = len(EXPRESSIONS_WITH_CONTEMPT)
_LABELS = np.array([EXPRESSIONS_WITH_CONTEMPT.index(name) for name in _VOTES[:-2]] + [-1, -1, -1])
_NO_MAJORITY = -1

_CSV_LAYOUTS = ("csv", "icml")


def source(data_dir: str | os.PathLike, target: str = "majority", layout: str | None = None) -> Source:
    """
    FER-2013's faces with FER+'s labels: eight expressions, in the order of
    [`~fer_hf.labels.EXPRESSIONS_WITH_CONTEMPT`], in the official splits of FER-2013.

    Args:
        data_dir (`str` or `os.PathLike`):
            The folder that holds `fer2013new.csv`, and `fer2013.csv` or `icml_face_data.csv`. No other layout of
            FER-2013 keeps the order of the rows, which is all that joins labels to faces.
        target (`str`, *optional*, defaults to `"majority"`):
            What becomes of a face's votes for the eight expressions, for "unknown" and for "not a face":

            - `"majority"`, the published protocol: single votes are dropped as outliers; the label is what more than
              half of the remaining votes agree on. Faces without such a majority, and those where it says unknown or
              not a face, are left out.
            - `"argmax"`: the label is the largest of the ten counts. Ties go to the first in the file's order:
              neutral, happiness, surprise, sadness, anger, disgust, fear, contempt, unknown, not a face. Faces with
              unknown or not a face as the largest are left out.
            - `"distribution"`: the faces and labels of `"argmax"`, and a column `soft_label` with the votes for the
              eight expressions divided by their sum, `float32` of length 8.
        layout (`str`, *optional*):
            `"csv"` or `"icml"`. Needed only where `data_dir` holds both.

    Returns:
        `Source`: Its description counts the faces that were left out; its fingerprint covers every byte of both files.

    Raises:
        `DataError`: If a file is missing, the two have not the same rows, or a vote is no number. Pixels are looked
            into later, when the source is read.
    """
    if target not in TARGETS:
        raise DataError(f"`target` must be one of {sorted(TARGETS)}, got {target!r}.")
    folder = Path(data_dir).expanduser().absolute()
    path = folder / LAYOUTS[_find_csv_layout(folder, layout)][0]
    if not (folder / LABEL_FILE).is_file():
        raise DataError(
            f"{folder} has no {LABEL_FILE}, the labels of FER+. Put the file from github.com/microsoft/FERPlus there."
            f"{near_hint(folder, [LABEL_FILE])}"
        )
    digest = hashlib.sha256(f"ferplus {target} {FORMAT_VERSION}\n".encode())
    usages, votes = _read_votes(folder / LABEL_FILE, digest)
    winners = majority(votes) if target == "majority" else votes.argmax(axis=1)
    labels = _LABELS[winners]
    soft_labels = _soft_labels(votes) if target == "distribution" else None
    description = f"target {target!r}: {_count(usages, winners, folder / LABEL_FILE)}"

    blocks, _, usages_there = index_rows(path, ("pixels", "Usage"), digest)
    _check_same_rows(path, usages_there, folder / LABEL_FILE, usages)
    shards = {}
    for usage, split in SPLITS.items():
        rows = np.flatnonzero((usages == usage) & (labels >= 0))
        shards[split] = choose_rows(blocks, rows, labels, soft_labels)
    extra = {} if soft_labels is None else {"soft_label": datasets.List(datasets.Value("float32"), _NUM_EXPRESSIONS)}
    features = face_features(EXPRESSIONS_WITH_CONTEMPT, **extra)
    return Source("ferplus", digest.hexdigest(), features, shards, read_faces, description)


def majority(votes: np.ndarray) -> np.ndarray:
    """
    What more than half of the votes agree on, after single votes are dropped.

    Args:
        votes (`np.ndarray` of shape `(num_faces, num_columns)`):
            Counts, at least 0.

    Returns:
        `np.ndarray` of shape `(num_faces,)`: The column, or -1 where there is no such majority.
    """
    votes = np.where(votes == 1, 0, votes)
    return np.where(votes.max(axis=1) * 2 > votes.sum(axis=1), votes.argmax(axis=1), _NO_MAJORITY)


def _soft_labels(votes: np.ndarray) -> np.ndarray:
    """Shares of the eight expressions in canonical order, `float32` of shape `(num_faces, 8)`; zeros without votes."""
    counts = np.empty((len(votes), _NUM_EXPRESSIONS), dtype=np.float64)
    counts[:, _LABELS[:_NUM_EXPRESSIONS]] = votes[:, :_NUM_EXPRESSIONS]
    return (counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)).astype(np.float32)


def _find_csv_layout(folder: Path, layout: str | None) -> str:
    others = [name for name in LAYOUTS if name not in _CSV_LAYOUTS]
    here = present(folder, LAYOUTS)
    if layout in others or (layout is None and here and not set(here) & set(_CSV_LAYOUTS)):
        raise DataError(
            f"FER+ needs fer2013.csv or icml_face_data.csv in {folder}, but the layout is {layout or here[0]!r}: its "
            "labels belong to the rows of these files, in their order, and nothing else tells which face is meant."
        )
    return find_layout(folder, layout, {name: LAYOUTS[name] for name in _CSV_LAYOUTS}, "FER-2013")


def _read_votes(path: Path, digest) -> tuple[np.ndarray, np.ndarray]:
    """Usage of every row, and its votes in the order of `_VOTES`, int64 of shape `(num_rows, 10)`."""
    content = read_bytes(path)
    digest.update(content)
    header, *rows = content.removeprefix(b"\xef\xbb\xbf").rstrip().split(b"\n")
    names = [name.decode(errors="replace") for name in split_fields(header)]
    names = [canonical_name(name) or name for name in names]
    missing = [name for name in ("Usage", *_VOTES) if name not in names]
    if missing or not rows:
        what = f"no column {' and '.join(map(repr, missing))} in {short(header)}" if missing else "no row follows"
        remedy = separator_hint(header) or " Fetch the file from github.com/microsoft/FERPlus again."
        raise DataError(f"{path}, line 1: {what}.{remedy}")
    usage_at, votes_at = names.index("Usage"), [names.index(name) for name in _VOTES]
    usages, votes = [], []
    for line, row in enumerate(rows, start=2):
        where = f"{path}, line {line}"
        fields = split_fields(row)
        if len(fields) != len(names):
            raise DataError(
                f"{where}: columns found: {len(fields)}, in the header: {len(names)}. It reads {short(row)}. "
                "Correct the line, or fetch the file again."
            )
        usages.append(check_usage(fields[usage_at], where))
        votes.append([fields[at] for at in votes_at])
    return np.array(usages), _parse_votes(path, np.array(votes))


def _parse_votes(path: Path, fields: np.ndarray) -> np.ndarray:
    is_number = np.char.isdigit(fields) & (np.char.str_len(fields) <= 4)
    for row, column in np.argwhere(~is_number):
        raise DataError(
            f"{path}, line {row + 2}: the votes for {_VOTES[column]!r} are {short(fields[row, column])}, but must be "
            "a whole number from 0 on. Correct the line, or fetch the file again."
        )
    votes = fields.astype(np.int64)
    for row in np.flatnonzero(votes.sum(axis=1) == 0):
        raise DataError(f"{path}, line {row + 2}: not a single vote. Correct the line, or fetch the file again.")
    return votes


def _count(usages: np.ndarray, winners: np.ndarray, path: Path) -> str:
    """How many faces are kept in each split, and why the others are not, in one sentence."""
    kept = []
    for usage, split in SPLITS.items():
        of_split = winners[usages == usage]
        num_kept = int((_LABELS[of_split] >= 0).sum())
        if not num_kept:
            raise DataError(
                f"{path}: of {len(of_split)} rows with Usage {usage}, none is left for the {split} split. Use the "
                "complete file."
            )
        kept.append(f"{split} keeps {num_kept:,} of {plural(len(of_split), 'face')}")
    reasons = {_NO_MAJORITY: "no majority", _VOTES.index("unknown"): "unknown", _VOTES.index("NF"): "not a face"}
    counts = {reason: int((winners == winner).sum()) for winner, reason in reasons.items()}
    left_out = [f"{count:,} {reason}" for reason, count in counts.items() if count] or ["none"]
    return f"{', '.join(kept)}; left out: {', '.join(left_out)}."


def _check_same_rows(path: Path, there: np.ndarray, label_file: Path, usages: np.ndarray) -> None:
    """Both files have as many rows, and those in the same place the same usage."""
    if len(there) != len(usages):
        raise DataError(
            f"{label_file} has {len(usages):,} rows, but {path} has {len(there):,}. They are joined row by row: use "
            "both files complete and in their published order."
        )
    for row in np.flatnonzero(there != usages):
        raise DataError(
            f"{label_file}, line {row + 2}: Usage {usages[row]}, but {there[row]} in the same row of {path}. The "
            "files are joined row by row: use both in their published order."
        )
