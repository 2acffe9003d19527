"""
The CSV files of FER-2013, read in blocks and row by row: `emotion`, `pixels` and `Usage` in any order. Lines without
quotes, which are all of the published ones, are only split at their commas; the others go through a CSV parser.
"""

import csv
import io
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import BinaryIO, NamedTuple

import numpy as np
import pyarrow as pa

from fer_hf.data.contents import check_file, check_kind, separator_hint
from fer_hf.data.fer2013_faces import SIDE, SPLITS, encode_png
from fer_hf.data.source import face_tables
from fer_hf.errors import DataError
from fer_hf.labels import EXPRESSIONS, SOURCE_CODES


_USAGES = {usage.encode() for usage in SPLITS}
_LABELS = {str(code).encode(): EXPRESSIONS.index(name) for code, name in SOURCE_CODES["fer2013"].items()}
_BLOCK = 1 << 23  # bytes of a CSV in one shard, about 1,000 faces


class Block(NamedTuple):
    """Whole rows of a file: the bytes `start` to `end`, which hold the rows from `first_row` (0-based) on."""

    path: str
    columns: dict[str, int]  # where the columns stand that are read
    num_columns: int
    start: int
    end: int
    first_row: int
    first_line: int  # of the file, counted from 1
    is_quoted: bool  # whether there is a quote in it; without, a row is a line, and every comma ends a field


def blocks(path: Path, names: tuple[str, ...], digest) -> Iterator[Block]:
    """
    Goes through a file once.

    Args:
        path (`Path`):
            The file.
        names (`tuple[str, ...]`):
            The columns that its header must have.
        digest (`hashlib` object):
            Fed every byte of the file.

    Yields:
        `Block`: Whole rows, the header not among them.

    Raises:
        `DataError`: If the file cannot be read or is no CSV, or a column is missing.
    """
    check_file(path)
    with open(path, "rb") as file:
        check_kind(path, file.peek(64))
        header = file.readline(_BLOCK)
        digest.update(header)
        columns, num_columns = _find_columns(path, names, header)
        start, row, line = file.tell(), 0, 2
        while content := file.read(_BLOCK) + file.readline(_BLOCK):
            if is_quoted := b'"' in content:
                content += _rest_of_row(file, content, f"{path}, after line {line}")
            digest.update(content)
            num_lines, end = content.count(b"\n"), start + len(content)
            rows = content.rstrip()  # blank lines may end a file
            num_rows = sum(1 for _ in _rows(io.BytesIO(rows))) if is_quoted else rows.count(b"\n") + bool(rows)
            yield Block(str(path), columns, num_columns, start, end, row, line, is_quoted)
            start, row, line = end, row + num_rows, line + num_lines


def _find_columns(path: Path, wanted: tuple[str, ...], header: bytes) -> tuple[dict[str, int], int]:
    """Where the wanted columns stand, and the number of all columns."""
    names = [name.decode(errors="replace") for name in split_fields(header.removeprefix(b"\xef\xbb\xbf"))]
    missing = [name for name in wanted if name not in names]
    if missing:
        raise DataError(
            f"{path}, line 1: no column {' and '.join(map(repr, missing))} in {short(header)}. "
            f"The header must name {', '.join(wanted)}, in any order and separated by commas.{separator_hint(header)}"
        )
    return {name: names.index(name) for name in wanted}, len(names)


def _rest_of_row(file: BinaryIO, content: bytes, where: str) -> bytes:
    """The lines on which a quoted field goes on that `content` begins."""
    rest, is_open = b"", content.count(b'"') % 2
    while is_open:
        line = file.readline(_BLOCK)
        if not line or len(rest) > _BLOCK:
            raise DataError(f'{where}: a quote (") that is not closed. Correct the line, or fetch the file again.')
        rest, is_open = rest + line, (is_open + line.count(b'"')) % 2
    return rest


def _rows(file: BinaryIO) -> Iterator[bytes]:
    """The lines of a file, those joined over which a quoted field goes on."""
    for row in file:
        while row.count(b'"') % 2 and (line := file.readline()):
            row += line
        yield row


def split_fields(row: bytes) -> list[bytes]:
    """The fields of a row, without blanks and quotes around them."""
    if b'"' in row:
        # Latin-1 gives every byte back, whatever the other columns are written in.
        text = row.decode("latin-1").rstrip()
        try:
            fields = next(csv.reader([text], skipinitialspace=True))
        except (
            csv.Error
        ):  # such as a line end of old Macs in a field: its quotes stay, and are refused where it is read
            fields = text.split(",")
        return [field.strip().encode("latin-1") for field in fields]
    return [field.strip() for field in row.split(b",")]


def lines(block: Block) -> Iterator[tuple[int, str, dict[str, bytes]]]:
    """
    The rows of a block.

    Yields:
        `tuple[int, str, dict[str, bytes]]`: The row, "file, line number" for error messages, and the content
        of each of the block's columns, without blanks and quotes around it.

    Raises:
        `DataError`: If a row has not as many columns as the header.
    """
    path, columns, num_columns, position, end, first_row, number, is_quoted = block
    with open(path, "rb", buffering=1 << 20) as file:
        file.seek(position)
        for row, line in enumerate(_rows(file) if is_quoted else file, start=first_row):
            if position >= end:
                break
            position += len(line)
            where = f"{path}, line {number}"
            number += line.count(b"\n") if is_quoted else 1
            if not line.strip():
                if not file.read(_BLOCK).strip():
                    break  # blank lines at the end of the file
                raise DataError(f"{where}: an empty line. Correct the line, or fetch the file again.")
            fields = split_fields(line) if is_quoted else line.split(b",")
            if len(fields) != num_columns:
                raise DataError(
                    f"{where}: columns found: {len(fields)}, in the header: {num_columns}. It reads {short(line)}. "
                    "Correct the line, or fetch the file again."
                )
            yield row, where, {name: fields[at].strip() for name, at in columns.items()}


def index_rows(path: Path, names: tuple[str, ...], digest) -> tuple[list[Block], np.ndarray | None, np.ndarray | None]:
    """
    Goes through all rows of a file.

    Args:
        path (`Path`):
            The file.
        names (`tuple[str, ...]`):
            The columns that its header must have: `pixels`, and `emotion` and `Usage` if they are read.
        digest (`hashlib` object):
            Fed every byte of the file.

    Returns:
        `tuple`: The blocks, and of every row its class id, int64, and its usage; -1 and "" of columns that are not
        read. (-1 is what `datasets.ClassLabel` accepts for a label that is not known.)

    Raises:
        `DataError`: If a column or all rows are missing, or an emotion or a usage is not known.
    """
    found, labels, usages = [], [], []
    for block in blocks(path, names, digest):
        found.append(block)
        for _, where, fields in lines(block):
            labels.append(parse_emotion(fields["emotion"], where) if "emotion" in names else -1)
            usages.append(check_usage(fields["Usage"], where) if "Usage" in names else "")
    if not labels:
        raise DataError(f"{path} has a header but no rows. Fetch the file again.")
    return found, np.array(labels), np.array(usages)


def choose_rows(
    found: list[Block], rows: np.ndarray, labels: np.ndarray, soft_labels: np.ndarray | None = None
) -> list[tuple]:
    """
    The blocks in which some of the `rows` (sorted) stand, each with these and their labels: shards for [`read_faces`].
    Labels are those of all rows of the file.
    """
    shards = []
    starts = np.searchsorted(rows, [block.first_row for block in found])
    for block, chosen in zip(found, np.split(rows, starts[1:]), strict=True):
        if len(chosen):
            shards.append((block, chosen, labels[chosen], None if soft_labels is None else soft_labels[chosen]))
    return shards


def read_faces(shard: tuple) -> Iterator[pa.Table]:
    """The chosen rows of a block with their labels, as tables."""
    soft_labels = shard[-1]
    extra = {} if soft_labels is None else {"soft_label": pa.list_(pa.float32(), soft_labels.shape[1])}
    yield from face_tables(_chosen_faces(*shard), **extra)


def _chosen_faces(
    block: Block, rows: np.ndarray, labels: np.ndarray, soft_labels: np.ndarray | None
) -> Iterable[dict]:
    places = {row: place for place, row in enumerate(rows.tolist())}
    for row, where, fields in lines(block):
        if row in places:
            place, image = places[row], encode_png(parse_pixels(fields["pixels"], where))
            soft = {} if soft_labels is None else {"soft_label": soft_labels[place]}
            yield {"image": image, "label": labels[place], "row": row, **soft}


def check_usage(field: bytes, where: str) -> str:
    """The usage itself; raises `DataError` if it is not known."""
    if field not in _USAGES:
        raise DataError(
            f"{where}: unknown Usage {short(field)}. It must be one of {', '.join(SPLITS)}; correct the line."
        )
    return field.decode()


def parse_emotion(field: bytes, where: str) -> int:
    """The class id of an emotion code; raises `DataError` if it is not known."""
    if field not in _LABELS:
        raise DataError(
            f"{where}: the emotion is {short(field)}, but must be a whole number from 0 (angry) to "
            "6 (neutral). Correct the line, or fetch the file again."
        )
    return _LABELS[field]


def parse_pixels(field: bytes, where: str) -> np.ndarray:
    """2,304 numbers from 0 to 255, separated by blanks, as `uint8` of shape `(48, 48)`; else raises `DataError`."""
    # fromstring is the fastest parser by far, but stops at what is no number and takes signs: those go first.
    if field and not field.translate(None, b"0123456789 \t"):
        values = np.fromstring(field, dtype=np.int64, sep=" ")
        if values.size == SIDE**2 and values.min() >= 0 and values.max() <= 255:
            return values.astype(np.uint8).reshape(SIDE, SIDE)
    pixels = field.split()
    for number, pixel in enumerate(pixels, start=1):
        if not pixel.isdigit() or len(pixel) > 18 or int(pixel) > 255:
            raise DataError(
                f"{where}: pixel {number} is {short(pixel)}, but must be a whole number from 0 to 255. "
                "Correct the line, or fetch the file again."
            )
    raise DataError(
        f"{where}: {len(pixels)} pixels, but a face has {SIDE} x {SIDE} = {SIDE**2}. "
        "Correct the line, or fetch the file again."
    )


def short(value: bytes) -> str:
    """What a complaint quotes of a field or line: at most 40 characters."""
    text = value.strip().decode(errors="replace")
    return repr(text if len(text) <= 40 else text[:37] + "...")
