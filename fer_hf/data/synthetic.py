"""The data set that needs no download: faces drawn from a seed, whose expressions follow facial action units."""

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path

import datasets
import numpy as np
import pyarrow as pa

from fer_hf.data.drawing import DRAWING_VERSION, draw_face
from fer_hf.data.drawing_rig import LANDMARKS, UNIT_NAMES
from fer_hf.data.images import png
from fer_hf.data.source import Source, face_features, face_tables
from fer_hf.errors import DataError
from fer_hf.labels import EXPRESSIONS


# The action units of each expression, in the numbering of Ekman and Friesen's Facial Action Coding System (1978), as
# its guide to the emotions, EMFACS (Friesen and Ekman, 1983), combines them.
ACTION_UNITS = {
    "angry": (4, 5, 7, 23),
    "disgust": (9, 15, 16),
    "fear": (1, 2, 4, 5, 7, 20, 26),
    "happy": (6, 12),
    "sad": (1, 4, 15),
    "surprise": (1, 2, 5, 26),
    "neutral": (),
}

# Units that stay below the full intensity of their expression: fear opens the jaw less than surprise does and raises
# the outer brow less than the inner, sadness frowns less than anger. Units not listed go up to 1.
_RELATIVE = {
    ("angry", 5): 0.5, ("angry", 7): 0.8, ("disgust", 15): 0.6, ("disgust", 16): 0.8, ("fear", 2): 0.6,
    ("fear", 4): 0.8, ("fear", 7): 0.5, ("fear", 26): 0.4, ("sad", 4): 0.6, ("surprise", 5): 0.8,
}  # fmt: skip

_WEAK, _AMBIGUOUS = 0.06, 0.06  # shares of the faces

# Faces of each class in FER-2013's Training split, label order (Goodfellow et al., 2013,
# https://huggingface.co/papers/1307.0414).
_SHARES = {
    "none": (1, 1, 1, 1, 1, 1, 1),
    "fer2013": (3995, 436, 4097, 7215, 4830, 3171, 4965),
}

# Values in a row of the columns that a table has on request.
_EXTRA_LENGTHS = {"landmarks": 2 * len(LANDMARKS), "action_units": len(UNIT_NAMES)}

_SPLITS = ("train", "validation", "test")
_SHARD = 500  # faces in a shard: a second or two of drawing
_BLOCK = len(EXPRESSIONS)  # labels are shuffled within blocks of this many faces


def sample_units(rng: np.random.Generator, expression: str) -> dict[int, float]:
    """
    Draws how strongly a face shows `expression`: mostly clearly, for one face in eight weakly or mixed with a second
    expression, always with a little idle activity elsewhere, so that no classifier reaches 100 %.

    Args:
        rng (`np.random.Generator`):
            Source of the numbers.
        expression (`str`):
            A key of [`ACTION_UNITS`].

    Returns:
        `dict[int, float]`: Intensity in [0, 1] of each action unit that is not at rest.
    """
    idle = rng.choice(list(UNIT_NAMES), size=2, replace=False).tolist()
    units = dict(zip(idle, rng.uniform(0.0, 0.16, size=2).tolist(), strict=True))
    kind, strength = rng.random(), rng.uniform(0.35, 1.0)
    if kind < _WEAK:
        strength = rng.uniform(0.1, 0.3)
    elif kind < _WEAK + _AMBIGUOUS:
        strength = rng.uniform(0.35, 0.6)
        others = [name for name in EXPRESSIONS if name not in (expression, "neutral")]
        _add(units, rng, others[rng.integers(len(others))], rng.uniform(0.2, 0.5))
    _add(units, rng, expression, strength)
    return units


def _add(units: dict[int, float], rng: np.random.Generator, expression: str, strength: float):
    for number in ACTION_UNITS[expression]:
        intensity = strength * rng.uniform(0.75, 1.2) * _RELATIVE.get((expression, number), 1.0)
        units[number] = min(1.0, max(units.get(number, 0.0), intensity))


def source(
    data_dir: str | Path | None = None,
    train: int = 2800,
    validation: int = 700,
    test: int = 700,
    image_size: int = 48,
    seed: int = 0,
    imbalance: str = "none",
    landmarks: bool = False,
    action_units: bool = False,
) -> Source:
    """
    Faces drawn by the package itself. Face `row` of a split depends on `seed`, the split and `row` (and on the options
    that change the picture) alone: a longer split starts with the faces of a shorter one, and no two splits share one.

    Args:
        data_dir (`str` or `Path`, *optional*):
            Must be left out: drawn faces have no directory.
        train, validation, test (`int`, *optional*, default to 2800, 700 and 700):
            Number of faces in each split, at least 1.
        image_size (`int`, *optional*, defaults to 48):
            Side of the pictures in pixels, from 32 to 512.
        seed (`int`, *optional*, defaults to 0):
            From 0 to 2**32 - 1. Another seed gives other people.
        imbalance (`str`, *optional*, defaults to `"none"`):
            `"none"` for equally many faces of each expression, `"fer2013"` for FER-2013's shares (Training split).
        landmarks (`bool`, *optional*, defaults to `False`):
            Whether to add the column `landmarks`: 48 `float32` in [0, 1], x and y of each of
            [`~fer_hf.data.drawing_rig.LANDMARKS`] in turn.
        action_units (`bool`, *optional*, defaults to `False`):
            Whether to add the column `action_units`: a `float32` in [0, 1] for each of
            [`~fer_hf.data.drawing_rig.UNIT_NAMES`] in turn, the intensity with which it was drawn.

    Returns:
        [`Source`]: Described without drawing anything; `image` holds gray PNG files.

    Raises:
        `DataError`: On a `data_dir` or an option out of range.
    """
    if data_dir is not None:
        raise DataError(
            f"`data_dir` must be left out for drawn faces, which lie in no directory; got {str(data_dir)!r}."
        )
    sizes = {"train": train, "validation": validation, "test": test}
    for name, count in sizes.items():
        _check_integer(name, count, 1, 10**8)
    _check_integer("image_size", image_size, 32, 512)
    _check_integer("seed", seed, 0, 2**32 - 1)
    if imbalance not in _SHARES:
        raise DataError(f"`imbalance` must be one of {sorted(_SHARES)}, got {imbalance!r}.")
    wanted = {"landmarks": landmarks, "action_units": action_units}
    for name, value in wanted.items():
        if not isinstance(value, bool):
            raise DataError(f"`{name}` must be true or false, got {value!r}.")

    extra = {
        name: datasets.List(datasets.Value("float32"), length=length)
        for name, length in _EXTRA_LENGTHS.items()
        if wanted[name]
    }
    options = {"image_size": image_size, "seed": seed, "imbalance": imbalance, **wanted}
    described = json.dumps([DRAWING_VERSION, sizes, options], sort_keys=True)
    return Source(
        name="synthetic",
        fingerprint=hashlib.sha256(described.encode()).hexdigest(),
        features=face_features(**extra),
        shards={
            split: [(split, start, min(start + _SHARD, count), options) for start in range(0, count, _SHARD)]
            for split, count in sizes.items()
        },
        read=read,
    )


def _check_integer(name: str, value: int, low: int, high: int):
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        raise DataError(f"`{name}` must be a whole number from {low} to {high}, got {value!r}.")


def read(shard: tuple[str, int, int, dict]) -> Iterator[pa.Table]:
    """
    Draws the faces `start` to `stop` of a split.

    Args:
        shard (`tuple[str, int, int, dict]`):
            Split, start, stop and options, as [`source`] lists them.

    Yields:
        `pa.Table`: One table with the columns of the source's features.
    """
    extra = {name: pa.list_(pa.float32(), size) for name, size in _EXTRA_LENGTHS.items() if shard[-1][name]}
    yield from face_tables(_drawn_faces(*shard), **extra)


def _drawn_faces(split: str, start: int, stop: int, options: dict) -> Iterator[dict]:
    labels = _labels(split, start, stop, options["seed"], options["imbalance"])
    for row, label in zip(range(start, stop), labels, strict=True):
        rng = np.random.default_rng([options["seed"], _SPLITS.index(split), row])
        units = sample_units(rng, EXPRESSIONS[label])
        pixels, points = draw_face(rng, units, options["image_size"])
        intensities = [units.get(number, 0.0) for number in UNIT_NAMES]
        yield {
            "image": png(pixels), "label": label, "row": row, "landmarks": points.ravel(), "action_units": intensities
        }  # fmt: skip


def _labels(split: str, start: int, stop: int, seed: int, imbalance: str) -> list[int]:
    """Labels of the faces `start` to `stop`: each depends on the split, the seed and its own position alone."""
    end = -(-stop // _BLOCK) * _BLOCK  # whole blocks
    shares = np.array(_SHARES[imbalance]) / sum(_SHARES[imbalance])
    # The k-th face of a class is due when its share of the faces so far reaches k + 1/2, so that every beginning of
    # the sequence holds the shares as closely as whole faces can (Webster's rule for seats in a parliament).
    due = [(np.arange(int(share * end) + 2) + 0.5) / share for share in shares]
    classes = np.repeat(np.arange(len(shares)), [len(times) for times in due])
    classes = classes[np.argsort(np.concatenate(due), kind="stable")]
    labels = []
    for block in range(start // _BLOCK, end // _BLOCK):
        # The fourth number keeps this generator apart from those of the faces.
        rng = np.random.default_rng([seed, _SPLITS.index(split), block, 1])
        labels += rng.permutation(classes[block * _BLOCK : (block + 1) * _BLOCK]).tolist()
    skip = start - start // _BLOCK * _BLOCK
    return labels[skip : skip + stop - start]
