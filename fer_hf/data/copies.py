"""Identical faces: a hash of every face's pixels, and which faces of validation and test are also in train."""

import hashlib
from collections.abc import Iterator

import numpy as np
from datasets import Dataset, DatasetDict
from datasets import Image as Undecoded
from datasets.utils import tqdm
from PIL import Image

from fer_hf.data.images import open_image, read_bytes


def pixel_hashes(dataset: Dataset) -> np.ndarray:
    """
    One hash per face over its pixels, not its file: a PNG and a BMP of the same pixels agree, and so do a gray face
    and the same face with three equal channels. Sizes are part of the hash. Alpha is ignored.

    Progress bars are those of `datasets` (`datasets.disable_progress_bars()` silences them).

    Args:
        dataset (`datasets.Dataset`): With `image`; after `.select` or `.shuffle`, the selected rows in their order.

    Returns:
        `np.ndarray` of shape `(num_rows,)`: 32 hexadecimal digits each (`"<U32"`).
    """
    return np.array([pixel_hash(pixels) for pixels, _ in decoded_faces(dataset, "hashing faces")], dtype="<U32")


def leaked_rows(tables: DatasetDict) -> dict[str, np.ndarray]:
    """
    Which faces of validation and test are also in train: the same pixels, under any label.

    Args:
        tables (`datasets.DatasetDict`): With `train`, and `validation`, `test` or both.

    Returns:
        `dict[str, np.ndarray]`: For `validation` and `test`, as far as they exist, a boolean mask of shape
        `(num_rows,)` that is true where train holds an identical face.
    """
    train = pixel_hashes(tables["train"])
    return {split: np.isin(pixel_hashes(tables[split]), train) for split in ("validation", "test") if split in tables}


def decoded_faces(dataset: Dataset, what: str, name: str = "the table") -> Iterator[tuple[np.ndarray, Image.Image]]:
    """
    Pixels of every face, `(height, width)` if gray and else `(height, width, 3)`, and the face as it was stored.

    Args:
        dataset (`datasets.Dataset`): With `image`.
        what (`str`): Stands beside the progress bar.
        name (`str`): The split; with the row, it begins the `DataError` about a damaged image.
    """
    rows = dataset["row"][:] if "row" in dataset.column_names else range(len(dataset))
    images = dataset.select_columns(["image"]).with_format(None).cast_column("image", Undecoded(decode=False))
    for row, example in zip(rows, tqdm(images, desc=what, unit="face", leave=False), strict=True):
        stored = example["image"]
        content = read_bytes(stored["path"]) if stored["bytes"] is None else stored["bytes"]
        image = open_image(content, f"{name}, row {row}", min_side=1)
        yield _pixels(image), image


def _pixels(image: Image.Image) -> np.ndarray:
    if image.mode == "L" or image.mode[0] in "IF":  # I;16 and its like hold more than 8 bits and have no RGB
        return np.asarray(image)
    pixels = np.asarray(image.convert("RGB"))
    is_gray = (pixels == pixels[..., :1]).all()
    return np.ascontiguousarray(pixels[..., 0]) if is_gray else pixels


def pixel_hash(pixels: np.ndarray) -> str:
    digest = hashlib.blake2b(f"{pixels.shape} {pixels.dtype}".encode(), digest_size=16)
    digest.update(np.ascontiguousarray(pixels))
    return digest.hexdigest()
