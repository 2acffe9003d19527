"""What is wrong with a data set: published counts, copies, leaks, conflicting labels, flat faces, bad mirrors."""

from collections import Counter
from collections.abc import Callable, Iterator

import numpy as np
from datasets import Dataset, DatasetDict
from PIL import Image

from fer_hf.data.copies import decoded_faces, pixel_hash
from fer_hf.data.correlation import best_correlations
from fer_hf.data.images import plain_image
from fer_hf.data.published import FLAT, PUBLISHED, mirror_signs, pixel_statistics
from fer_hf.errors import DataError
from fer_hf.labels import EXPRESSIONS


NEAR = (0.99, 0.95, 0.90)  # correlations from which a face is called a near copy
_COMPARED = ("hash", "label", "spread", "size", "mode", "colour", "highest")  # over all splits
_SIDE = 48  # pixels; faces are compared at this size


def audit(tables: DatasetDict, name: str) -> dict:
    """
    Check a data set for everything that is known to go wrong with sets of faces. Nothing is changed.

    Args:
        tables (`datasets.DatasetDict`):
            As [`fer_hf.data.load_dataset`] returns it: `train` with `image` and `label` (a `ClassLabel`), other
            splits with `image` at least; -1 is no label. FER-2013 takes a quarter of a minute on one core, and
            300 MB.
        name (`str`):
            The data set's name; what is published of it is in [`PUBLISHED`].

    Returns:
        `dict`: Ready for JSON. A face is named by `split`, `index` (its place in the split), `row` and `label`.

        - `dataset`, `num_faces`, `num_distinct`, `num_rows` (by split), `counts` (by split and class);
        - `findings`: one sentence for every check, with `ok`;
        - `published`: `source`, `agrees` and the `differences`, or `None` if nothing is known;
        - `duplicates`: groups of faces with identical pixels in all splits; `num_redundant` faces could go;
        - `leaks`: for a pair of splits such as `test_in_train`, how many faces of the first have an identical copy in
          the second, how many of those share the label of some copy, and by class;
        - `conflicts`: groups of identical faces with different labels, the worst (most labels, then most faces) first
          and flat ones last;
        - `near_copies`: faces of validation and test whose correlation with some face of train, both gray and at
          48x48 pixels, reaches a threshold, identical ones included;
        - `flat`: faces with a standard deviation below 1 gray level, and how many of these are constant;
        - `empty_classes`: by split, those that no face shows;
        - `images`: sizes, modes, how many faces have colour, how many have 16 bits and how many of these values above
          255, and those whose size or mode is not that of most (named: the first 100);
        - `pixels`: of train, `mean` and `std` (/ 255, every face counts alike), `lowest` and `highest` gray level,
          and medians or shares over the faces, gray and at 48x48 pixels and flat ones aside: `sharpness` (variance of
          the Laplacian / variance of the face), `unevenness` (mean distance / 255 of the sorted gray levels from an
          even ramp: 0 for an equalised histogram) and `full_range` (share of faces that reach both ends of the
          scale, up to 3 levels). `mirror` lists the signs of a processed copy, where published values are known.

    Raises:
        `DataError`: If there is no face in train, a split has no `image`, or train no `ClassLabel`.
    """
    _check(tables)
    looks = {split: _look(table, split) for split, table in tables.items()}
    # All splits, one after the other; the place in these arrays is a face's number.
    everywhere = {key: np.concatenate([look[key] for look in looks.values()]) for key in _COMPARED}
    names = tables["train"].features["label"].names
    counts = {split: _by_class(look["label"], names) for split, look in looks.items()}
    place = _places(tables, looks, names)
    distinct, groups = np.unique(everywhere["hash"], return_inverse=True)
    result = {
        "dataset": name,
        "num_faces": len(groups),
        "num_distinct": len(distinct),
        "num_rows": {split: len(table) for split, table in tables.items()},
        "findings": [],
        "counts": counts,
        "empty_classes": _empty_classes(counts),
        "published": _compare_counts(counts, name),
        "duplicates": _duplicates(groups, looks),
        "leaks": _leaks(looks, names),
        "conflicts": _conflicts(groups, everywhere["label"], everywhere["spread"], place),
        "near_copies": _near_copies(looks),
        "flat": _flat(everywhere["spread"], place),
        "images": _images(everywhere, place),
        "pixels": pixel_statistics(looks["train"]),
    }
    counts_agree = result["published"] is not None and result["published"]["agrees"]
    result["pixels"]["mirror"] = mirror_signs(result["pixels"], result["images"], counts_agree, name)
    result["findings"] = [{"check": check, "ok": bool(ok), "text": text} for check, ok, text in _findings(result)]
    return result


def _check(tables: DatasetDict) -> None:
    if "train" not in tables or not len(tables["train"]):
        raise DataError(f"An audit needs faces in a split called 'train', found {', '.join(tables) or 'no split'}.")
    for split, table in tables.items():
        if "image" not in table.column_names:
            raise DataError(f"{split!r} has no column 'image', only {', '.join(table.column_names)}.")
    if not hasattr(tables["train"].features.get("label"), "names"):
        raise DataError("The column 'label' of 'train' must be a ClassLabel, so that classes have names.")


def _labels(table: Dataset) -> np.ndarray:
    labels = table["label"][:] if "label" in table.column_names else [None] * len(table)
    return np.array([-1 if label is None else label for label in labels], dtype=np.int64)


def _look(table: Dataset, split: str) -> dict[str, np.ndarray]:
    """All that is needed of every face of a split, from decoding it once."""
    small = np.empty((len(table), _SIDE, _SIDE), dtype=np.uint8)
    look = {key: [] for key in ("hash", "size", "mode", "colour", "mean", "std", "spread", "lowest", "highest")}
    for index, (pixels, image) in enumerate(decoded_faces(table, f"looking at {split}", split)):
        gray = plain_image(image, "L")
        small[index] = gray if gray.size == (_SIDE, _SIDE) else gray.resize((_SIDE, _SIDE), Image.Resampling.BOX)
        look["hash"].append(pixel_hash(pixels))
        look["size"].append(f"{image.width}x{image.height}")
        look["mode"].append(image.mode)
        look["colour"].append(pixels.ndim == 3)
        look["mean"].append(pixels.mean())
        look["std"].append(pixels.std())
        # A face of one colour is blank, too, though its channels differ.
        look["spread"].append(pixels.std(axis=(0, 1)).max() if pixels.ndim == 3 else look["std"][-1])
        look["lowest"].append(pixels.min())
        look["highest"].append(pixels.max())
    return {"small": small, "label": _labels(table), **{key: np.array(values) for key, values in look.items()}}


def _places(tables: DatasetDict, looks: dict[str, dict[str, np.ndarray]], names: list[str]) -> Callable[[int], dict]:
    """A function that tells, for the number of a face, where it is in the data set."""
    places = [(split, index) for split, table in tables.items() for index in range(len(table))]
    rows = {split: t["row"][:] if "row" in t.column_names else range(len(t)) for split, t in tables.items()}

    def place(number: int) -> dict:
        split, index = places[number]
        label = looks[split]["label"][index]
        name = names[label] if label >= 0 else None
        return {"split": split, "index": index, "row": rows[split][index], "label": name}

    return place


def _by_class(labels: np.ndarray, names: list[str]) -> dict[str, int]:
    return {name: int((labels == label).sum()) for label, name in enumerate(names)}


def _empty_classes(counts: dict[str, dict[str, int]]) -> dict[str, list[str]]:
    """By split, the classes without a face; splits that have them all, or no labels, are not there."""
    labelled = {split: found for split, found in counts.items() if any(found.values())}
    empty = {split: [name for name, count in found.items() if not count] for split, found in labelled.items()}
    return {split: names for split, names in empty.items() if names}


def _compare_counts(counts: dict, name: str) -> dict | None:
    if name not in PUBLISHED or not set(counts["train"]) & set(EXPRESSIONS):  # of compound classes nothing is known
        return None
    published = PUBLISHED[name]
    found = {split: dict(classes) for split, classes in counts.items()}
    if "validation" in found and "validation" not in published["counts"]:
        for expression, count in found.pop("validation").items():  # was carved from train
            found["train"][expression] += count
    differences = [
        {"split": split, "class": expression, "found": number, "published": expected.get(expression, 0)}
        for split, expected in published["counts"].items()
        for expression in dict.fromkeys([*expected, *found.get(split, {})])
        if (number := found.get(split, {}).get(expression, 0)) != expected.get(expression, 0)
    ]
    return {"source": published["source"], "agrees": not differences, "differences": differences}


def _duplicates(groups: np.ndarray, looks: dict[str, dict[str, np.ndarray]]) -> dict:
    sizes = np.bincount(groups)
    return {
        "num_groups": int((sizes > 1).sum()),
        "num_redundant": int(len(groups) - len(sizes)),
        "largest_group": int(sizes.max()),
        "redundant_within": {split: len(look["hash"]) - len(np.unique(look["hash"])) for split, look in looks.items()},
    }


def _leaks(looks: dict[str, dict[str, np.ndarray]], names: list[str]) -> dict:
    leaks = {}
    for split, other in (("validation", "train"), ("test", "train"), ("test", "validation")):
        if split not in looks or other not in looks:
            continue
        (hashes, labels), (theirs, their_labels) = ((looks[s]["hash"], looks[s]["label"]) for s in (split, other))
        leaked = np.isin(hashes, theirs)
        labelled = set(zip(theirs.tolist(), their_labels.tolist(), strict=True))
        pairs = zip(hashes[leaked].tolist(), labels[leaked].tolist(), strict=True)
        leaks[f"{split}_in_{other}"] = {
            "num_faces": int(leaked.sum()),
            "same_label": sum(pair in labelled for pair in pairs),
            "by_class": _by_class(labels[leaked], names),
        }
    return leaks


def _conflicts(groups: np.ndarray, labels: np.ndarray, spreads: np.ndarray, place: Callable[[int], dict]) -> dict:
    labelled = np.flatnonzero(labels >= 0)
    members = {}
    # Only groups with two labels are worth a Python list.
    num_labels = np.bincount(np.unique(np.stack([groups, labels])[:, labelled], axis=1)[0], minlength=groups.max() + 1)
    for number in labelled[num_labels[groups[labelled]] > 1]:
        members.setdefault(groups[number], []).append(number)
    worst_first = sorted(
        members.items(), key=lambda item: (spreads[item[1][0]] < FLAT, -num_labels[item[0]], -len(item[1]))
    )
    return {
        "num_groups": len(members),
        "num_faces": sum(map(len, members.values())),
        "groups": [[place(number) for number in found] for _, found in worst_first],
    }


def _near_copies(looks: dict[str, dict[str, np.ndarray]]) -> dict:
    near = {}
    for split in ("validation", "test"):
        if split in looks:
            best = best_correlations(looks[split]["small"], looks["train"]["small"], min(NEAR))
            best[np.isin(looks[split]["hash"], looks["train"]["hash"])] = 1  # constant faces have no correlation
            near[f"{split}_in_train"] = {f"{least:.2f}": int((best >= least).sum()) for least in NEAR}
    return near


def _flat(spreads: np.ndarray, place: Callable[[int], dict]) -> dict:
    flat = np.flatnonzero(spreads < FLAT)
    return {
        "num_faces": len(flat),
        "num_constant": int((spreads == 0).sum()),
        "faces": [place(number) for number in flat],
    }


def _images(everywhere: dict[str, np.ndarray], place: Callable[[int], dict]) -> dict:
    sizes, modes = everywhere["size"], everywhere["mode"]
    usual_size, usual_mode = (Counter(values.tolist()).most_common(1)[0][0] for values in (sizes, modes))
    outliers = np.flatnonzero((sizes != usual_size) | (modes != usual_mode))
    return {
        "sizes": dict(Counter(sizes.tolist()).most_common()),
        "modes": dict(Counter(modes.tolist()).most_common()),
        "num_colour": int(everywhere["colour"].sum()),
        "num_16_bit": int(np.char.startswith(modes, "I;16").sum()),
        "num_above_255": int((everywhere["highest"] > 255).sum()),
        "num_outliers": len(outliers),
        "outliers": [{**place(n), "size": str(sizes[n]), "mode": str(modes[n])} for n in outliers[:100]],
    }


def _findings(result: dict) -> Iterator[tuple[str, bool, str]]:
    """Every check in a sentence: its name, whether all is well, and the sentence."""
    yield _about_counts(result["published"], result["dataset"])
    empty = [f"{split} {name}" for split, names in result["empty_classes"].items() for name in names]
    yield "classes", not empty, f"without a face: {_first_five(empty) or 'none'}"
    for pair, leak in result["leaks"].items():
        split, other = pair.split("_in_")
        total = result["num_rows"][split]
        text = f"{leak['num_faces']:,} of {total:,} faces of {split} are also in {other}, pixel for pixel"
        text += f" ({leak['num_faces'] / max(total, 1):.1%}; {leak['same_label']:,} with the same label)"
        yield "leaks", not leak["num_faces"], text
    for pair, near in result["near_copies"].items():
        listed = ", ".join(f"{count:,} at {least}" for least, count in near.items())
        worse = near[f"{min(NEAR):.2f}"] > result["leaks"][pair]["num_faces"]
        yield "near copies", not worse, f"{pair.replace('_', ' ')}, by correlation: {listed}"
    found = result["duplicates"]
    text = f"{found['num_redundant']:,} redundant copies in {found['num_groups']:,} groups, the largest of"
    yield "copies", not found["num_redundant"], f"{text} {found['largest_group']:,}"
    found = result["conflicts"]
    text = f"{found['num_groups']:,} groups of identical faces ({found['num_faces']:,} faces) have different labels"
    yield "conflicts", not found["num_groups"], text
    found = result["flat"]
    text = f"{found['num_faces']:,} faces are blank, {found['num_constant']:,} of them of a single gray level"
    yield "flat", not found["num_faces"], text
    found = result["images"]
    kinds = ", ".join([*list(found["sizes"])[:3], *list(found["modes"])[:3]])
    text = f"{found['num_outliers']:,} faces unlike most in size or mode ({kinds})"
    if found["num_16_bit"]:
        text += f"; {found['num_16_bit']:,} have 16 bits, {found['num_above_255']:,} of them values above 255"
    yield "images", not (found["num_outliers"] or found["num_16_bit"]), text
    yield _about_pixels(result["pixels"], PUBLISHED.get(result["dataset"], {}).get("pixels"))


def _about_counts(published: dict | None, name: str) -> tuple[str, bool, str]:
    if published is None:
        return "counts", True, f"nothing published is known of {name!r}"
    if published["agrees"]:
        return "counts", True, f"as published ({published['source']})"
    listed = [f"{d['split']} {d['class']} {d['found']:,}, not {d['published']:,}" for d in published["differences"]]
    return "counts", False, f"not as published: {_first_five(listed)} ({published['source']})"


def _first_five(listed: list[str]) -> str:
    return "; ".join(listed[:5]) + (f" and {len(listed) - 5} more" if len(listed) > 5 else "")


def _about_pixels(found: dict, published: dict | None) -> tuple[str, bool, str]:
    text = f"train has mean {found['mean']:.4f} and spread {found['std']:.4f}"
    if published:
        text += f", the original {published['mean']:.4f} and {published['std']:.4f}"
    if found["mirror"]:
        text += f": this copy seems {', '.join(found['mirror'])}"
    return "pixels", not found["mirror"], text
