"""The text files of RAF-DB: labels, annotations and votes, read line by line."""

import csv
import math
import re
from pathlib import Path

from fer_hf.data.contents import separator_hint
from fer_hf.data.images import read_bytes
from fer_hf.errors import DataError
from fer_hf.labels import EXPRESSIONS, SOURCE_CODES


# Lines 6 to 8 of Annotation/manual/*_manu_attri.txt; a name's position is its code.
ATTRIBUTES = {
    "gender": ("male", "female", "unsure"),
    "race": ("Caucasian", "African-American", "Asian"),
    "age_group": ("0-3", "4-19", "20-39", "40-69", "70+"),
}
LANDMARKS, AUTO_LANDMARKS = 5, 37

# RAF-DB's codes, as they are written in files and folder names, to canonical class ids.
CLASS_IDS = {str(code): EXPRESSIONS.index(name) for code, name in SOURCE_CODES["rafdb"].items()}
CODES_IN_WORDS = ", ".join(f"{code} ({name})" for code, name in SOURCE_CODES["rafdb"].items())

# The compound expressions by code, from 1, as the label lists in use have them. The web site speaks of twelve; which
# code the twelfth, fearfully disgusted, has is not documented.
COMPOUND = (
    "happily surprised", "happily disgusted", "sadly fearful", "sadly angry", "sadly surprised", "sadly disgusted",
    "fearfully angry", "fearfully surprised", "angrily surprised", "angrily disgusted", "disgustedly surprised",
)  # fmt: skip
COMPOUND_IDS = {str(code): code - 1 for code in range(1, len(COMPOUND) + 1)}

_NAME = re.compile(r"(train|test)_([0-9]{1,9})(_aligned)?(\.\w{3,4})?")

# A face is known by its part and number: ("train", 1) is train_00001.jpg and train_00001_aligned.jpg.
Key = tuple[str, int]


def face_key(name: str, where: str) -> Key:
    """The face that a file name means; `where` begins the `DataError` if it means none."""
    match = _NAME.fullmatch(name)
    if match is None:
        raise DataError(
            f"{where}: {_short(name)} is not named as RAF-DB's faces are, such as train_00001.jpg. "
            "Restore the published name, or remove it."
        )
    return match[1], int(match[2])


def read_labels(path: Path, class_ids: dict[str, int] = CLASS_IDS) -> dict[Key, tuple[str, str, int]]:
    """
    `EmoLabel/list_patition_label.txt`: lines such as `train_00001.jpg 5`.

    Args:
        path (`Path`):
            The file. A byte order mark, Windows line ends and blank lines at its end are accepted.
        class_ids (`dict[str, int]`, *optional*, defaults to [`CLASS_IDS`]):
            Class id of each code.

    Returns:
        `dict`: For every face where it stands, its name without suffix, and its class id.

    Raises:
        `DataError`: On a line that says something else, or a second one for the same face.
    """
    faces = {}
    for where, fields in _lines(path):
        if len(fields) != 2:
            raise DataError(f"{where}: expected a name and a label, got {_short(' '.join(fields))}. Correct the line.")
        _add(faces, where, *fields, class_ids)
    return faces


def read_label_table(path: Path) -> dict[Key, tuple[str, str, int]]:
    """
    `train_labels.csv` and its like: a header, a column `label`, and a column of file names, which is the one called
    `image` or else the first other one (its name is not documented). Returns and raises as [`read_labels`] does.
    """
    try:
        rows = list(csv.reader(_text(path).rstrip().splitlines()))
    except csv.Error as error:
        raise DataError(f"{path}: not a readable CSV ({error}). Fetch the file again, or move it away.") from error
    header = [name.strip() for name in rows[0]] if rows else []
    if "label" not in header or len(header) < 2:
        raise DataError(
            f"{path}, line 1: expected a column 'label' and one of file names, got {_short(','.join(header))}. "
            "Restore the header, or move the file away: the folders have the labels, too."
            f"{separator_hint(rows[0][0].encode() if rows and rows[0] else b'')}"
        )
    label_at = header.index("label")
    name_at = header.index("image") if "image" in header else int(label_at == 0)
    faces = {}
    for number, row in enumerate(rows[1:], start=2):
        where = f"{path}, line {number}"
        if len(row) != len(header):
            raise DataError(f"{where}: columns found: {len(row)}, in the header: {len(header)}. Correct the line.")
        _add(faces, where, Path(row[name_at].strip()).name, row[label_at].strip(), CLASS_IDS)
    return faces


def _add(faces: dict, where: str, name: str, code: str, class_ids: dict[str, int]):
    key = face_key(name, where)
    if code not in class_ids:
        raise DataError(f"{where}: the label is {_short(code)}, but must be {_expected(code, class_ids)}")
    _refuse_second(faces, key, where, name)
    faces[key] = where, Path(name).stem, class_ids[code]


def _expected(code: str, class_ids: dict[str, int]) -> str:
    if class_ids is CLASS_IDS:
        hint = " This may be the list of compound expressions: subset='compound'." if code in COMPOUND_IDS else ""
        return f"one of {CODES_IN_WORDS}. Correct it.{hint}"
    if code == "12":
        return "1 to 11: what the codes of a list with twelve compound expressions mean is not documented."
    return f"1 to {len(COMPOUND)} ({COMPOUND[0]} to {COMPOUND[-1]}). Correct it."


def _refuse_second(faces: dict, key: Key, where: str, name: str):
    if key in faces:
        raise DataError(f"{where}: {name} is already in {faces[key][0].rpartition(', ')[2]}. Remove one of the two.")


def read_votes(path: Path) -> dict[Key, tuple[str, list[float]]]:
    """
    A file of vote distributions: lines `name p1 p2 p3 p4 p5 p6 p7`, where p1 is surprise and p7 neutral.

    Args:
        path (`Path`):
            The file. Its form is an assumption: the description of RAF-DB does not say it.

    Returns:
        `dict`: For every face where it stands, and its votes in canonical order, divided by their sum.

    Raises:
        `DataError`: If votes are neither counts nor shares that add up to 1 (within 0.02, for rounded ones).
    """
    faces = {}
    for where, fields in _lines(path):
        key = face_key(fields[0] if fields else "", where)
        _refuse_second(faces, key, where, fields[0])
        votes = _numbers(where, fields[1:], len(CLASS_IDS))
        total = sum(votes)
        are_counts = total > 0 and all(vote.is_integer() for vote in votes)
        if min(votes) < 0 or not (are_counts or abs(total - 1) <= 0.02):
            raise DataError(
                f"{where}: votes must be counts, or shares that add up to 1, got {_short(' '.join(fields[1:]))}. "
                "Correct the line, or move the file away to do without votes."
            )
        by_class = {CLASS_IDS[str(code)]: vote / total for code, vote in enumerate(votes, start=1)}
        faces[key] = where, [by_class[label] for label in range(len(EXPRESSIONS))]
    return faces


def read_attributes(path: str | Path) -> dict:
    """
    `Annotation/manual/<name>_manu_attri.txt`: five lines with x and y of a landmark, then the codes of [`ATTRIBUTES`].

    Returns:
        `dict`: `landmarks`, 10 numbers, and the code of each attribute.

    Raises:
        `DataError`: If a line is missing or says something else.
    """
    lines = _lines(path)
    if len(lines) != LANDMARKS + len(ATTRIBUTES):
        raise DataError(
            f"{path}: lines found: {len(lines)}, but an annotation has {LANDMARKS} landmarks and then a line each for "
            f"{', '.join(ATTRIBUTES)}. Fetch the file again, or remove it."
        )
    found = {"landmarks": [number for where, fields in lines[:LANDMARKS] for number in _numbers(where, fields, 2)]}
    for (name, values), (where, fields) in zip(ATTRIBUTES.items(), lines[LANDMARKS:], strict=True):
        if len(fields) != 1 or fields[0] not in map(str, range(len(values))):
            codes = ", ".join(f"{code} ({value})" for code, value in enumerate(values))
            raise DataError(f"{where}: {name} is {_short(' '.join(fields))}, but must be one of {codes}. Correct it.")
        found[name] = int(fields[0])
    return found


def read_auto_landmarks(path: str | Path) -> dict:
    """
    `Annotation/auto/<name>_auto_attri.txt`: 37 lines with x and y of a landmark, as the manual file has five. That
    each stands in a line of its own is an assumption.

    Returns:
        `dict`: `auto_landmarks`, 74 numbers.

    Raises:
        `DataError`: If a line is missing or says something else.
    """
    lines = _lines(path)
    if len(lines) != AUTO_LANDMARKS:
        raise DataError(
            f"{path}: lines found: {len(lines)}, but {AUTO_LANDMARKS} are expected, one for each landmark. Fetch the "
            "file again, or remove it."
        )
    return {"auto_landmarks": [number for where, fields in lines for number in _numbers(where, fields, 2)]}


def read_box(path: str | Path) -> dict:
    """
    `Annotation/boundingbox/<name>_boundingbox.txt`: left, top, right and bottom of the face.

    Returns:
        `dict`: `bounding_box`, 4 numbers.

    Raises:
        `DataError`: If there are not four, or the box is empty.
    """
    left, top, right, bottom = _numbers(str(path), [field for _, fields in _lines(path) for field in fields], 4)
    if left >= right or top >= bottom:
        raise DataError(f"{path}: the box {left:g} {top:g} {right:g} {bottom:g} is empty. Correct or remove the file.")
    return {"bounding_box": [left, top, right, bottom]}


def _text(path: str | Path) -> str:
    return read_bytes(path).decode("utf-8-sig", errors="replace")


def _lines(path: str | Path) -> list[tuple[str, list[str]]]:
    """Every line as where it stands and its words; blank lines at the end are none."""
    lines = _text(path).rstrip().splitlines()
    return [(f"{path}, line {number}", line.split()) for number, line in enumerate(lines, start=1)]


def _numbers(where: str, fields: list[str], count: int) -> list[float]:
    try:
        numbers = [float(field) for field in fields]
    except ValueError:
        numbers = []
    if len(numbers) != count or not all(map(math.isfinite, numbers)):
        raise DataError(f"{where}: expected {count} numbers, got {_short(' '.join(fields))}. Correct the line.")
    return numbers


def _short(text: str) -> str:
    return repr(text if len(text) <= 40 else text[:37] + "...")
