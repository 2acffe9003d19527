"""What is published about the data sets, and the signs by which processed copies are recognised."""

import numpy as np
from datasets import DatasetDict

from fer_hf.labels import EXPRESSIONS, canonical_name


def _by_expression(*counts: int) -> dict[str, int]:
    return dict(zip(EXPRESSIONS, counts, strict=True))


# What a complete, unchanged copy holds. `mean`, `std` and `sharpness` are of train, as `pixel_statistics` gives them.
PUBLISHED = {
    "fer2013": {
        # Counted and measured in the challenge's own fer2013.csv.
        "source": "Goodfellow et al., 2013, https://huggingface.co/papers/1307.0414",
        "counts": {
            "train": _by_expression(3995, 436, 4097, 7215, 4830, 3171, 4965),
            "validation": _by_expression(467, 56, 496, 895, 653, 415, 607),
            "test": _by_expression(491, 55, 528, 879, 594, 416, 626),
        },
        "size": "48x48",
        "pixels": {"mean": 0.5077, "std": 0.2550, "sharpness": 0.697},
    },
    # No validation split: a loader carves one from train.
    "rafdb": {
        "source": "EmoLabel/list_patition_label.txt, http://www.whdeng.cn/raf/model1.html",
        "counts": {
            "train": _by_expression(705, 717, 281, 4772, 1982, 1290, 2524),
            "test": _by_expression(162, 160, 74, 1185, 478, 329, 680),
        },
    },
}

FLAT = 1.0  # gray levels; below this standard deviation a face shows nothing
_MEAN_TOLERANCE = 0.002  # the official validation and test splits differ from train by up to 0.0019


def pixel_statistics(look: dict[str, np.ndarray]) -> dict:
    """
    Gray levels of many faces, as `pixels` in [`fer_hf.data.audit.audit`].

    Args:
        look (`dict[str, np.ndarray]`): By face `mean`, `std`, `lowest` and `highest` of its pixels, and `small`, the
            face in gray, `(num_faces, side, side)`.
    """
    mean = look["mean"].mean()
    std = np.sqrt((look["std"] ** 2 + look["mean"] ** 2).mean() - mean**2)
    ramp = np.linspace(0, 255, look["small"][0].size, dtype=np.float32)
    sharpness, unevenness, full_range = [], [], []
    for start in range(0, len(look["small"]), 1024):
        block = look["small"][start : start + 1024].astype(np.float32)
        block = block[block.std(axis=(1, 2)) >= FLAT]
        laplacian = 4 * block[:, 1:-1, 1:-1] - block[:, :-2, 1:-1] - block[:, 2:, 1:-1]
        laplacian -= block[:, 1:-1, :-2] + block[:, 1:-1, 2:]
        sharpness.append(laplacian.var(axis=(1, 2)) / block.var(axis=(1, 2)))
        levels = np.sort(block.reshape(len(block), len(ramp)), axis=1)
        unevenness.append(np.abs(levels - ramp).mean(axis=1) / 255)
        full_range.append((levels[:, 0] <= 3) & (levels[:, -1] >= 252))
    sharpness, unevenness, full_range = map(np.concatenate, (sharpness, unevenness, full_range))
    some = len(sharpness) > 0
    return {
        "mean": round(float(mean) / 255, 4),
        "std": round(float(std) / 255, 4),
        "lowest": int(look["lowest"].min()),
        "highest": int(look["highest"].max()),
        "sharpness": round(float(np.median(sharpness)), 3) if some else None,
        "unevenness": round(float(np.median(unevenness)), 3) if some else None,
        "full_range": round(float(full_range.mean()), 3) if some else None,
    }


def mirror_signs(pixels: dict, images: dict, counts_agree: bool, name: str) -> list[str]:
    """
    Signs that a data set is a processed copy of the published one; none are known without published values.

    Args:
        pixels (`dict`): From [`pixel_statistics`].
        images (`dict`): `sizes` with their counts, the most frequent first, and `num_colour`.
        counts_agree (`bool`): Whether the data set has the published counts.
        name (`str`): A name in [`PUBLISHED`], or another.

    Returns:
        `list[str]`: Each fits behind "this copy seems".
    """
    # Measured on the original FER-2013: sharpness 0.70, unevenness 0.125, full range 0.23. On copies made with Pillow:
    # sharpness 0.33 or less after blurs from radius 0.5 up and after enlargement, but 0.51 as JPEG of quality 30;
    # unevenness 0.003 equalised; full range 0.999 stretched.
    published, signs = PUBLISHED.get(name, {}), []
    size = next(iter(images["sizes"]))
    if size != published.get("size", size):
        signs.append(f"resized from {published['size']} to {size}")
    if "pixels" not in published or pixels["sharpness"] is None:
        return signs
    expected = published["pixels"]
    if images["num_colour"] > sum(images["sizes"].values()) / 2:
        signs.append("coloured")
    if pixels["unevenness"] < 0.02:
        signs.append("histogram-equalised")
    elif pixels["full_range"] > 0.9:
        signs.append("contrast stretched face by face")
    # Some levels are left to blur and JPEG, which move the outermost ones; 16..235 is the range of video.
    if pixels["lowest"] > 8 or not 247 <= pixels["highest"] <= 255:
        signs.append(f"rescaled to {pixels['lowest']}..{pixels['highest']}")
    if pixels["sharpness"] < 0.6 * expected["sharpness"]:
        signs.append("blurred, or enlarged from a smaller copy")
    moved = any(abs(pixels[key] - expected[key]) > _MEAN_TOLERANCE for key in ("mean", "std"))
    if signs or not moved:
        return signs
    return ["changed in a way that leaves no known sign" if counts_agree else "made of other faces, see the counts"]


# By data set and by what was scored. Only where the split is the official one, to the face count of every class.
_COMPARABLE = {
    ("fer2013", "validation"): (
        "PublicTest, 3,589 faces: Khaireddin and Chen's VGGNet (73.28 %, which chose its checkpoint on PrivateTest); "
        "WuJie1010's VGG19 and ResNet-18 (71.50 and 71.19 %, best epoch on PublicTest itself). Here it selects."
    ),
    ("fer2013", "test"): (
        "PrivateTest, 3,589 faces: the 2013 challenge's final ranking (Tang, 71.16 %), the Residual Masking Network "
        "(74.14 %, one network, ImageNet weights, ten crops); WuJie1010's VGG19 and ResNet-18 (73.11 and 72.97 %) "
        "chose the best epoch on PrivateTest itself."
    ),
    ("fer2013", "validation+test"): (
        "PublicTest and PrivateTest together, 7,178 faces, the test folder of the image mirrors and torchvision's "
        "`test`: the CNN comparison on FER-2013 (its slides say 3,589) and the report on CNNs and pre-trained ViTs, "
        "which also selected on them."
    ),
    ("rafdb", "test"): (
        "RAF-DB's test part, 3,068 faces: all published figures for it, of which many chose their epoch on it, since "
        "RAF-DB has no validation part."
    ),
}


def comparable_with(dataset: str, split: str, tables: DatasetDict) -> str | None:
    """
    Which published figures were measured on the same faces.

    Args:
        dataset (`str`): The data set's name.
        split (`str`): One split, or several joined by `+`.
        tables (`DatasetDict`): The data, to see whether these are the official splits.

    Returns:
        `str` or `None`: `None` if nothing is known, or the split is not the official one.
    """
    parts = split.split("+")
    text = _COMPARABLE.get((dataset, "+".join(sorted(parts, reverse=True))))
    return text if text and all(_is_official(dataset, part, tables) for part in parts) else None


def _is_official(dataset: str, split: str, tables: DatasetDict) -> bool:
    names, labels = tables[split].features["label"].names, tables[split]["label"][:]
    counts = {canonical_name(name): labels.count(index) for index, name in enumerate(names)}
    return counts == PUBLISHED[dataset]["counts"].get(split)
