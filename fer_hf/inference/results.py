"""Faces as rows of a table: in memory, and in a file that an interrupted prediction can go on with."""

import csv
import json
from collections import Counter
from collections.abc import Iterable, Iterator
from itertools import chain, islice
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from fer_hf.errors import BadInputError
from fer_hf.files import check_output, whole


_EDGES = ("xmin", "ymin", "xmax", "ymax")
_POINTS = tuple(f"{axis}{number}" for number in range(1, 6) for axis in "xy")
# What says where a face is: in which photo, or when in a video.
PHOTO = {"image": pa.string()}
FRAME = {"frame": pa.int64(), "seconds": pa.float64()}
_COLUMNS = ("face", *_EDGES, *_POINTS, "expression", "score")
_ROWS = 1000  # of a Parquet file, in one row group


def face_rows(place: dict, faces: list[dict], labels: list[str]) -> Iterator[dict]:
    """
    A row for each face of a picture, and one for a picture without faces. Coordinates have two decimals, and
    probabilities six: more is noise.

    Args:
        place (`dict`): The columns of [`PHOTO`] or [`FRAME`].
        faces (`list[dict]`): As the pipeline gives them; in a video with a number, `face`, that each keeps.
        labels (`list[str]`): The expressions, in label order.

    Yields:
        `dict`: By the names of [`face_schema`].
    """
    if "image" in place:  # what is no text in any encoding, such as bytes in a file's name, is written as Python does
        place = {"image": place["image"].encode("utf-8", "backslashreplace").decode()}
    names = score_columns(labels)
    for number, face in enumerate(faces):
        points = chain(*face["landmarks"]) if face["landmarks"] else [None] * len(_POINTS)
        yield {
            **place,
            "face": face.get("face", number),
            **{edge: round(face["box"][edge], 2) for edge in _EDGES},
            **{axis: point and round(point, 2) for axis, point in zip(_POINTS, points, strict=True)},
            "expression": face["expression"],
            "score": round(face["score"], 6),
            **{names[label]: round(face["scores"][label], 6) for label in labels},
        }
    if not faces:
        yield place


def score_columns(labels: list[str]) -> dict[str, str]:
    """The column of each expression's probability: its own name, or where a row has that already, `p_<name>`."""
    taken = {*PHOTO, *FRAME, *_COLUMNS}
    return {label: f"p_{label}" if label in taken else label for label in labels}


def face_schema(labels: list[str], place: dict[str, pa.DataType] = PHOTO) -> pa.Schema:
    """
    The columns of [`face_rows`]: those of `place`, `face` (its number), the box, five landmarks (`x1` and `y1` are the
    left eye; right eye, nose, corners of the mouth), `expression`, `score`, and each expression's probability.
    """
    kinds = {**place, "face": pa.int64(), "expression": pa.string()}
    names = (*place, *_COLUMNS, *score_columns(labels).values())
    return pa.schema([(name, kinds.get(name, pa.float64())) for name in names])


def write_faces(
    path: Path, found: Iterable[tuple[dict, list[dict]]], labels: list[str], place: dict[str, pa.DataType] = PHOTO
) -> None:
    """
    Write a file of faces, picture by picture as they come. It is there whole, or not at all.

    Args:
        path (`Path`): `.csv` or `.parquet` with [`face_rows`], or `.jsonl` with a line for each picture.
        found (iterable of pairs): Where each picture is, as `place` says, and its faces.
        labels (`list[str]`): The expressions, in label order.
        place (`dict`, defaults to [`PHOTO`]): [`PHOTO`] or [`FRAME`].
    """
    with whole(path) as partial:
        if path.suffix == ".jsonl":
            with open(partial, "w", encoding="utf-8", errors="backslashreplace") as file:
                file.writelines(_line({**where, "faces": faces}) for where, faces in found)
        else:
            rows = chain.from_iterable(face_rows(where, faces, labels) for where, faces in found)
            _TABLES[path.suffix](partial, rows, face_schema(labels, place))


def _line(content: dict) -> str:
    return json.dumps(content, ensure_ascii=False) + "\n"


class Results:
    """
    The faces found so far: counted and, with `output`, written. Until all photos are done they are JSON lines in
    `<output>.unfinished`, which an interruption leaves: the next start can go on with it.

        with Results(Path("faces.csv"), labels, settings) as results:
            results.add("photo.jpg", faces)

    Args:
        output (`Path`, *optional*): A file for [`write_faces`].
        labels (`list[str]`): The expressions, in label order.
        settings (`dict`): What shapes the answers, such as the model's name; all parts of a file have the same.
        resume (`bool`, defaults to `False`): Go on with what an interruption left.

    Raises:
        BadInputError: If the unfinished file was begun with other settings.
    """

    def __init__(self, output: Path | None, labels: list[str], settings: dict, resume: bool = False):
        self.output, self.labels = output, labels
        self.done: set[str] = set()
        self.expressions: Counter[str] = Counter()
        self.file = None
        if output is None:
            return
        path = unfinished(output)
        resumed = resume and path.is_file()
        if resumed:
            try:
                self._read(path, settings)
            except (AttributeError, KeyError, TypeError, ValueError) as error:
                if isinstance(error, BadInputError):
                    raise
                raise BadInputError(f"{path} is damaged: begin anew with --overwrite.") from error
        path.parent.mkdir(parents=True, exist_ok=True)
        self.file = open(path, "a" if resumed else "w", encoding="utf-8", errors="backslashreplace")  # noqa: SIM115
        if not resumed:
            self._write(settings)

    def _read(self, path: Path, settings: dict) -> None:
        """Note what is done, and cut off a line that was not written whole."""
        size = 0
        with open(path, "rb") as file:
            for line in file:
                if not line.endswith(b"\n"):
                    break
                content = json.loads(line)
                if size == 0 and content != settings:
                    changed = [name for name in settings if content.get(name) != settings[name]]
                    raise BadInputError(
                        f"{path} was begun with another {', '.join(changed)}: give the same, or begin anew with "
                        "--overwrite."
                    )
                if size:
                    self._count(content["image"], content["faces"])
                size += len(line)
        with open(path, "r+b") as file:
            file.truncate(size)

    def _count(self, name: str, faces: list[dict]) -> None:
        self.done.add(name)
        self.expressions.update(face["expression"] for face in faces)

    def add(self, name: str, faces: list[dict]) -> None:
        """Note the faces of a photo."""
        self._count(name, faces)
        if self.file is not None:
            self._write({"image": name, "faces": faces})

    def _write(self, content: dict) -> None:
        self.file.write(_line(content))
        self.file.flush()  # a photo whose line has left this process is not done again

    def __enter__(self) -> "Results":
        return self

    def __exit__(self, kind: type | None, *_) -> None:
        if self.file is None:
            return
        self.file.close()
        if kind is None:
            write_faces(self.output, _photos(unfinished(self.output)), self.labels)
            unfinished(self.output).unlink()


def unfinished(output: Path) -> Path:
    """Where the results are until all are there."""
    return output.with_name(f"{output.name}.unfinished")


def check_results(output: Path | None, resume: bool, overwrite: bool, reads: Iterable[str]) -> bool:
    """
    Refuse a place for results, before any work.

    Args:
        output, resume: As for [`Results`].
        overwrite (`bool`): Whether an older file, or an unfinished one, may be replaced.
        reads (iterable of `str`): The photos.

    Returns:
        `bool`: Whether there is something to do: no, if results that are to be resumed are finished.

    Raises:
        BadInputError: If it has another suffix or holds something, or there is nothing to resume.
    """
    if output is None:
        if resume:
            raise BadInputError("`resume` goes on with a file that was begun: give its `output`.")
        return True
    if output.suffix not in _SUFFIXES:
        raise BadInputError(f"`output` must end in {', '.join(_SUFFIXES)}, got {output}.")
    begun = unfinished(output)
    if resume and output.is_file() and not begun.exists():
        return False
    check_output("output", output, overwrite, reads)
    if begun.exists() and not (resume or overwrite):
        raise BadInputError(
            f"{begun} is of a start that was interrupted: go on with --resume, or anew with --overwrite."
        )
    return True


def _photos(path: Path) -> Iterator[tuple[dict, list[dict]]]:
    """Name and faces of each photo in a file of JSON lines, whose first line holds the settings."""
    with open(path, encoding="utf-8") as file:
        for line in islice(file, 1, None):
            content = json.loads(line)
            yield {"image": content["image"]}, content["faces"]


def _write_csv(path: Path, rows: Iterator[dict], schema: pa.Schema) -> None:
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, schema.names)
        writer.writeheader()
        writer.writerows(rows)


def _write_parquet(path: Path, rows: Iterator[dict], schema: pa.Schema) -> None:
    with pq.ParquetWriter(path, schema) as writer:
        while part := list(islice(rows, _ROWS)):
            writer.write_table(pa.Table.from_pylist(part, schema))


_TABLES = {".csv": _write_csv, ".parquet": _write_parquet}
_SUFFIXES = (".csv", ".jsonl", ".parquet")
