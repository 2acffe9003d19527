"""Which published figures a score may stand beside: many mix the two halves of FER-2013's held-out faces."""

from datasets import DatasetDict

from fer_hf.data.mirrors import PUBLISHED
from fer_hf.labels import canonical_name


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


def comparable_with(dataset: str, split: str, faces: DatasetDict) -> str | None:
    """
    Which published figures were measured on the same faces.

    Args:
        dataset (`str`): The data set's name.
        split (`str`): One split, or several joined by `+`.
        faces (`DatasetDict`): The tables, to see whether these are the official splits.

    Returns:
        `str` or `None`: `None` if nothing is known, or the split is not the official one.
    """
    parts = split.split("+")
    text = _COMPARABLE.get((dataset, "+".join(sorted(parts, reverse=True))))
    return text if text and all(_is_official(dataset, part, faces) for part in parts) else None


def _is_official(dataset: str, split: str, faces: DatasetDict) -> bool:
    names, labels = faces[split].features["label"].names, faces[split]["label"][:]
    counts = {canonical_name(name): labels.count(index) for index, name in enumerate(names)}
    return counts == PUBLISHED[dataset]["counts"].get(split)
