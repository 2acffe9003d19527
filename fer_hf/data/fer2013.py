"""
FER-2013 (Goodfellow et al., 2013, https://huggingface.co/papers/1307.0414) in the layouts in which it circulates.

- `csv`: `fer2013.csv` with the columns `emotion`, `pixels`, `Usage`.
- `icml`: `icml_face_data.csv`, the same with blanks before the column names and another column order.
- `folders`: `train/<label>/` and `test/<label>/` with images named `Training_<number>`, `PublicTest_<number>` or
  `PrivateTest_<number>`, from which the official splits are recovered.
"""

import hashlib
import io
import itertools
import os
import re
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
from PIL import Image, UnidentifiedImageError

from fer_hf.data.source import Source, face_features
from fer_hf.errors import DataError
from fer_hf.labels import EXPRESSIONS, SOURCE_CODES, canonical_name


# Part of every fingerprint: raise it when the same files are to give other tables, and old caches are left alone.
FORMAT_VERSION = 1

# The official splits by the name that they have in the `Usage` column and in file names.
SPLITS = {"Training": "train", "PublicTest": "validation", "PrivateTest": "test"}
SIDE = 48  # pixels

# A layout is present where one of these stands.
LAYOUTS = {"csv": ("fer2013.csv",), "icml": ("icml_face_data.csv",), "folders": ("train", "test")}

_COLUMNS = ("emotion", "pixels", "Usage")
_LABELS = {str(code).encode(): EXPRESSIONS.index(name) for code, name in SOURCE_CODES["fer2013"].items()}
_USAGES = {usage.encode(): split for usage, split in SPLITS.items()}
_BLOCK = 1 << 23  # bytes of a CSV in one shard, about 1,000 faces
_ROWS = 500  # rows in one Arrow table

_FILE_NAME = re.compile(f"({'|'.join(SPLITS)})_([0-9]{{1,18}})")
_IMAGE_SUFFIXES = {".png", ".jpg", ".jpeg", ".bmp", ".gif", ".pgm", ".tif", ".tiff", ".webp"}
_EIGHT_BIT_MODES = {"1", "L", "LA", "P", "PA", "RGB", "RGBA", "RGBX", "CMYK", "YCbCr"}


def source(data_dir: str | os.PathLike, layout: str | None = None) -> Source:
    """
    FER-2013 as it lies in a folder: splits `train`, `validation`, `test` = Training, PublicTest, PrivateTest.

    `image` is a 48x48 grayscale PNG, `label` the expression in canonical order, `row` the row of the CSV (0-based, the
    header not counted) or the number in the file name; folders are sorted by it. Colour images are converted to gray,
    files that are no images are passed over, and nothing else is repaired.

    Args:
        data_dir (`str` or `os.PathLike`):
            The folder that holds `fer2013.csv`, `icml_face_data.csv`, or the folders `train` and `test`.
        layout (`str`, *optional*):
            `"csv"`, `"icml"` or `"folders"`. Needed only where `data_dir` holds several of them.

    Returns:
        `Source`: Its fingerprint covers every byte of the files that are read.

    Raises:
        `DataError`: If the layout is not clear, a split is missing, or a file is not what it should be. Rows and
            images are looked into later, when the source is read.
    """
    folder = Path(data_dir).expanduser().absolute()
    layout = _find_layout(folder, layout)
    if layout == "folders":
        where, read = folder, _read_images
        fingerprint, shards = _index_folders(folder)
    else:
        where, read = folder / LAYOUTS[layout][0], _read_csv
        fingerprint, shards = _index_csv(where, layout)
    for usage, split in SPLITS.items():
        if not shards[split]:
            raise DataError(
                f"{where}: no face of the kind {usage}, so the {split} split would be empty. "
                "Use the complete data set, with Training, PublicTest and PrivateTest."
            )
    return Source("fer2013", fingerprint, face_features(), shards, read)


def _find_layout(folder: Path, layout: str | None) -> str:
    wanted = "fer2013.csv, icml_face_data.csv, or the folders train and test"
    if layout is not None and layout not in LAYOUTS:
        raise DataError(f"`layout` must be one of {sorted(LAYOUTS)}, got {layout!r}.")
    if not folder.is_dir():
        state = "is a file" if folder.exists() else "does not exist"
        raise DataError(f"{folder} {state}. `data_dir` must be the folder that holds {wanted}.")
    found = [name for name, entries in LAYOUTS.items() if any((folder / entry).exists() for entry in entries)]
    if layout is None and len(found) > 1:
        raise DataError(
            f"{folder} holds FER-2013 in several layouts: {', '.join(found)}. Say which: layout={found[0]!r}."
        )
    if not found:
        raise DataError(f"{folder} holds no known layout of FER-2013: looked for {wanted}. Check `data_dir`.")
    if layout is not None and layout not in found:
        missing = " or ".join(LAYOUTS[layout])
        raise DataError(f"{folder} has no {missing}, as layout={layout!r} needs. Found here: {', '.join(found)}.")
    return layout or found[0]


def _table(images: list[bytes], labels: list[int], rows: list[int]) -> pa.Table:
    bytes_and_path = [pa.array(images, pa.binary()), pa.nulls(len(images), pa.string())]
    image = pa.StructArray.from_arrays(bytes_and_path, names=["bytes", "path"])
    return pa.table({"image": image, "label": pa.array(labels, pa.int64()), "row": pa.array(rows, pa.int64())})


def _png_chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


_PNG_START = b"\x89PNG\r\n\x1a\n" + _png_chunk(b"IHDR", struct.pack(">IIBBBBB", SIDE, SIDE, 8, 0, 0, 0, 0))
_PNG_END = _png_chunk(b"IEND", b"")


def _encode_png(face: np.ndarray) -> bytes:
    """
    A face, `uint8` of shape `(48, 48)`, as a PNG (https://www.w3.org/TR/png-3/) whose data is stored, not compressed.

    Faces this small hardly compress (2.4 kB become 1.7 kB), and stored ones are written many times and read nearly
    twice as fast. Also, their bytes do not depend on the version of a compressor, so fingerprints agree everywhere.
    """
    lines = np.zeros((SIDE, SIDE + 1), dtype=np.uint8)  # the first byte of a line names its filter: none
    lines[:, 1:] = face
    raw = lines.tobytes()
    stored = struct.pack("<BBBHH", 0x78, 0x01, 1, len(raw), len(raw) ^ 0xFFFF)  # zlib header, one last block
    return _PNG_START + _png_chunk(b"IDAT", stored + raw + struct.pack(">I", zlib.adler32(raw))) + _PNG_END


# CSV


def _index_csv(path: Path, layout: str) -> tuple[str, dict[str, list]]:
    """The fingerprint, and for every split the blocks of the file in which it has rows."""
    digest = hashlib.sha256(f"fer2013 {layout} {FORMAT_VERSION}\n".encode())
    shards = {split: [] for split in SPLITS.values()}
    with open(path, "rb") as file:
        header = file.readline(_BLOCK)
        digest.update(header)
        columns = _find_columns(path, header)
        start, row = file.tell(), 0
        while block := file.read(_BLOCK) + file.readline(_BLOCK):
            digest.update(block)
            end = start + len(block)
            counts = {usage: block.count(usage) for usage in _USAGES}
            for usage in filter(counts.get, counts):
                shards[_USAGES[usage]].append((str(path), columns, usage, start, end, row))
            # Told now, not when the rows are read: who has another Usage would else hear of a missing split.
            if sum(counts.values()) < block.count(b"\n"):
                for _ in _read_csv((str(path), columns, None, start, end, row)):
                    pass
            start, row = end, row + block.count(b"\n")
    if not any(shards.values()):
        raise DataError(f"{path} has a header but no rows. Fetch the file again.")
    return digest.hexdigest(), shards


def _find_columns(path: Path, header: bytes) -> tuple[int, int, int, int]:
    """Where emotion, pixels and Usage stand, and the number of columns."""
    names = [_unquoted(name).decode(errors="replace") for name in header.removeprefix(b"\xef\xbb\xbf").split(b",")]
    missing = [name for name in _COLUMNS if name not in names]
    if missing:
        raise DataError(
            f"{path}, line 1: no column {' and '.join(map(repr, missing))} in {_short(header)}. "
            f"The header must name {', '.join(_COLUMNS)}, in any order and separated by commas."
        )
    return *(names.index(name) for name in _COLUMNS), len(names)


def _read_csv(shard: tuple) -> Iterator[pa.Table]:
    """The rows of one usage in one block of the file; with `None` as usage, only looks for rows of unknown usage."""
    path, (emotion_at, pixels_at, usage_at, num_columns), wanted, position, end, first_row = shard
    images, labels, rows = [], [], []
    with open(path, "rb", buffering=1 << 20) as file:
        file.seek(position)
        for row, line in enumerate(file, start=first_row):
            if position >= end:
                break
            position += len(line)
            where = f"{path}, line {row + 2}"  # lines are counted from 1, and line 1 is the header
            fields = line.split(b",")
            if len(fields) != num_columns:
                if not line.strip() and not file.read(_BLOCK).strip():
                    break  # blank lines at the end of the file
                raise DataError(
                    f"{where}: columns found: {len(fields)}, in the header: {num_columns}. It reads {_short(line)}. "
                    "Correct the line, or fetch the file again."
                )
            usage = _unquoted(fields[usage_at])
            if usage not in _USAGES:
                raise DataError(
                    f"{where}: unknown Usage {_short(usage)}. It must be one of {', '.join(SPLITS)}; correct the line."
                )
            if usage != wanted:
                continue
            emotion = _unquoted(fields[emotion_at])
            if emotion not in _LABELS:
                raise DataError(
                    f"{where}: the emotion is {_short(emotion)}, but must be a whole number from 0 (angry) to "
                    "6 (neutral). Correct the line, or fetch the file again."
                )
            images.append(_encode_png(_parse_pixels(_unquoted(fields[pixels_at]), where)))
            labels.append(_LABELS[emotion])
            rows.append(row)
            if len(rows) == _ROWS:
                yield _table(images, labels, rows)
                images, labels, rows = [], [], []
    if rows:
        yield _table(images, labels, rows)


def _parse_pixels(field: bytes, where: str) -> np.ndarray:
    """2,304 numbers from 0 to 255, separated by blanks, as `uint8` of shape `(48, 48)`."""
    # fromstring is the fastest parser by far, but stops at what is no number and takes signs: those go first.
    if field and not field.translate(None, b"0123456789 \t"):
        values = np.fromstring(field, dtype=np.int64, sep=" ")
        if values.size == SIDE**2 and values.min() >= 0 and values.max() <= 255:
            return values.astype(np.uint8).reshape(SIDE, SIDE)
    pixels = field.split()
    for number, pixel in enumerate(pixels, start=1):
        if not pixel.isdigit() or len(pixel) > 18 or int(pixel) > 255:
            raise DataError(
                f"{where}: pixel {number} is {_short(pixel)}, but must be a whole number from 0 to 255. "
                "Correct the line, or fetch the file again."
            )
    raise DataError(
        f"{where}: {len(pixels)} pixels, but a face has {SIDE} x {SIDE} = {SIDE**2}. "
        "Correct the line, or fetch the file again."
    )


def _unquoted(field: bytes) -> bytes:
    return field.strip().strip(b'"').strip()


def _short(value: bytes) -> str:
    text = value.strip().decode(errors="replace")
    return repr(text if len(text) <= 40 else text[:37] + "...")


# Folders


def _index_folders(folder: Path) -> tuple[str, dict[str, list]]:
    """The fingerprint, and for every split its images, sorted by number, in shards of one table each."""
    faces = {usage: [] for usage in SPLITS}
    for part in ("train", "test"):
        for label, path in _labelled_images(folder, part):
            match = _FILE_NAME.fullmatch(Path(path).stem)
            if match is None or (match[1] == "Training") != (part == "train"):
                expected = "Training_<number>" if part == "train" else "PublicTest_<number> or PrivateTest_<number>"
                raise DataError(
                    f"{path}: an image in {part} must be named {expected}, because the official splits are recovered "
                    "from the names. Restore the published name, or use fer2013.csv."
                )
            faces[match[1]].append((int(match[2]), label, path))

    digest = hashlib.sha256(f"fer2013 folders {FORMAT_VERSION}\n".encode())
    for path in sorted(path for found in faces.values() for _, _, path in found):
        content = _read_bytes(path)
        digest.update(os.fsencode(os.path.relpath(path, folder)) + b"\0" + str(len(content)).encode() + b"\0")
        digest.update(content)

    shards = {}
    for usage, found in faces.items():
        found.sort()
        for first, second in itertools.pairwise(found):
            if first[:2] == second[:2]:
                raise DataError(f"{second[2]}: same number and label as {first[2]}. Remove one of the two files.")
        shards[SPLITS[usage]] = [found[start : start + _ROWS] for start in range(0, len(found), _ROWS)]
    return digest.hexdigest(), shards


def _labelled_images(folder: Path, part: str) -> Iterator[tuple[int, str]]:
    root = folder / part
    if not root.is_dir():
        raise DataError(f"{root} is missing: the layout needs both train and test, each with a folder per expression.")
    for entry in _entries(root):
        if not entry.is_dir():
            if _is_image(entry):
                raise DataError(f"{entry.path}: an image outside of the label folders. Move it into train/<label>.")
            continue
        name = canonical_name(entry.name)
        if name not in EXPRESSIONS:
            raise DataError(
                f"{entry.path}: {entry.name!r} is not an expression of FER-2013. Rename the folder to one of "
                f"{', '.join(EXPRESSIONS)}, or take it out of {part}."
            )
        label, is_empty = EXPRESSIONS.index(name), True
        for path in _images(entry.path, above=(_identity(folder), _identity(root))):
            yield label, path
            is_empty = False
        if is_empty:
            raise DataError(f"{entry.path}: no image in this folder. Unpack the data set again, or remove the folder.")


def _images(folder: str, above: tuple) -> Iterator[str]:
    """Paths of all images below a folder. Links are followed, unless they lead back to one of the folders `above`."""
    if _identity(folder) in above:
        raise DataError(f"{folder}: a symbolic link that leads back to a folder above it. Remove the link.")
    for entry in _entries(folder):
        if entry.is_dir():
            yield from _images(entry.path, (*above, _identity(folder)))
        elif _is_image(entry):
            yield entry.path


def _entries(folder: str | Path) -> list[os.DirEntry]:
    with os.scandir(folder) as entries:
        entries = [entry for entry in entries if not entry.name.startswith(".") and entry.name != "__MACOSX"]
    entries.sort(key=lambda entry: entry.name)  # the same complaint comes first on every machine
    for entry in entries:
        if entry.is_symlink() and not os.path.exists(entry.path):
            raise DataError(f"{entry.path}: a symbolic link that leads nowhere or to itself. Remove the link.")
    return entries


def _is_image(entry: os.DirEntry) -> bool:
    return Path(entry.name).suffix.lower() in _IMAGE_SUFFIXES


def _identity(folder: str | Path) -> tuple[int, int]:
    status = os.stat(folder)
    return status.st_dev, status.st_ino


def _read_bytes(path: str) -> bytes:
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}). Check the file and its permissions.") from error


def _read_images(shard: list[tuple[int, int, str]]) -> Iterator[pa.Table]:
    images = [_encode_png(_decode(path)) for _, _, path in shard]
    yield _table(images, [label for _, label, _ in shard], [number for number, _, _ in shard])


def _decode(path: str) -> np.ndarray:
    """An image file as gray `uint8` of shape `(48, 48)`."""
    content = _read_bytes(path)
    try:
        with Image.open(io.BytesIO(content)) as image:
            size, mode = image.size, image.mode
            # Known before the pixels are: a huge or 16-bit image is refused without being decoded.
            face = np.asarray(image.convert("L")) if size == (SIDE, SIDE) and mode in _EIGHT_BIT_MODES else None
    except Exception as error:  # Pillow's decoders raise whatever they like on damaged files
        reason = "of no known format" if isinstance(error, UnidentifiedImageError) else error
        raise DataError(f"{path}: not a readable image ({reason}). Unpack or fetch the data set again.") from error
    if size != (SIDE, SIDE):
        raise DataError(
            f"{path}: {size[0]}x{size[1]} pixels, but FER-2013 is {SIDE}x{SIDE}. Use the published images as they are."
        )
    if face is None:
        raise DataError(f"{path}: pixels of type {mode!r}, but FER-2013 is 8-bit. Use the published images.")
    return face
