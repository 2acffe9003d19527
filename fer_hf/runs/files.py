"""Which files of a run may be published, and which must not. An allow-list: whatever it does not name stays."""

import json
import re
from fnmatch import fnmatch
from pathlib import Path

from transformers.dynamic_module_utils import get_relative_import_files

from fer_hf.errors import BadInputError


# Pictures without faces, by the section of the card that shows them: file -> (section, what it shows).
PICTURES = {
    "confusion_matrix.png": ("results", "Confusion matrix"),
    "reliability.png": ("calibration", "Reliability diagram, without a temperature"),
    "learning_curves.png": ("training", "Learning curves"),
    "phases.png": ("training", "Phases of unfreezing"),
    "class_balance.png": ("data", "Faces by expression and split"),
}
# Pictures in which faces can be seen say so in their names, and an HTML report in its head.
_FACE_SHEETS = "*_faces.png"
RECONSTRUCTIONS = "reconstructed_faces.png"
_REPORT = "report.html"
_FACE_MARK = re.compile(r'<meta\s+name="fer_hf:faces"\s+content="([^"]*)"')
# Beside weights and code, what an upload consists of. Not the predictions: they hold the data set's labels in its
# order, which not every set's terms allow to pass on, and the weights give them again.
_REQUIRED = ("config.json", "preprocessor_config.json", "run_record.json")
_OPTIONAL = ("README.md", "all_results.json", "*_report.json", "evaluation/*.json", *PICTURES)
_WEIGHTS = ("model.safetensors", "model-*-of-*.safetensors", "model.safetensors.index.json")
_CODE = ("configuration_*.py", "modeling_*.py", "image_processing_*.py")

# An absolute path of POSIX or Windows, not the inside of a URL or of a relative path. JSON writes a line break as \n.
_MACHINE_PATH = re.compile(
    r"(?:(?<![\w.~/-])|(?<=\\[nrt]))(?:/(?:home|root|Users|tmp)/|/[\w.-]+/[\w.-]+)[\w./-]*|file:///[\w./-]*"
    r"|(?<![A-Za-z0-9])[A-Za-z]:\\[\w.\\-]*"
)
_TOKEN = re.compile(r"\bhf_[A-Za-z0-9]{20,}")
_EMBEDDED = re.compile(r"base64,[A-Za-z0-9+/=\s]+")
_TEXT = (".json", ".md", ".py", ".html")


class RunDirectoryError(BadInputError):
    """A run directory lacks a file, or holds something that must not be published. The message names the file."""


def read_json(path: Path) -> dict:
    """The content of a JSON file of a run; raises `RunDirectoryError` if it is missing or broken."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise RunDirectoryError(f"{path.parent} holds no {path.name}: is it the output directory of a run?") from None
    except ValueError as error:
        raise RunDirectoryError(f"{path} is not valid JSON: {error}.") from error


def run_directory(run_dir: str | Path) -> Path:
    """`run_dir` as a path; raises `RunDirectoryError` if it is no directory."""
    run_dir = Path(run_dir)
    if not run_dir.is_dir():
        raise RunDirectoryError(f"{run_dir} is not a directory.")
    return run_dir


def evaluations(run_dir: str | Path) -> list[dict]:
    """The evaluations in `evaluation/*.json`, by file name; what else lies there has no `report`."""
    found = [read_json(path) for path in sorted(Path(run_dir).glob("evaluation/*.json"))]
    return [entry for entry in found if "report" in entry]


def uses_remote_code(run_dir: str | Path) -> bool:
    """Whether loading the model runs Python files that lie beside it, or in another repository."""
    return bool(_auto_classes(Path(run_dir)))


def files_to_upload(run_dir: str | Path, include_faces: bool = False) -> list[Path]:
    """
    The files of a run that may be published: weights, configs, processor, card, records, evaluations, pictures, the
    HTML report, and the model's code if a config has an `auto_map`. Pickles, optimizer states, checkpoints, caches
    and predictions are not among them.

    Args:
        run_dir (`str` or `Path`):
            The output directory of a run.
        include_faces (`bool`, *optional*, defaults to `False`):
            Also what [`face_pictures`] names.

    Returns:
        `list[Path]`: Existing files in `run_dir` or its `evaluation` folder.

    Raises:
        `RunDirectoryError`: a file that loading the model needs is missing.
    """
    run_dir = run_directory(run_dir)
    names = [*_REQUIRED, *_weights(run_dir), *_code(run_dir)]
    if missing := [name for name in names if not (run_dir / name).is_file()]:
        raise RunDirectoryError(f"{run_dir} lacks {', '.join(missing)}: is it the output directory of a finished run?")
    faces = face_pictures(run_dir)
    found = [run_dir / name for name in names]
    for pattern in (*_OPTIONAL, _REPORT, _FACE_SHEETS, f"evaluation/{_FACE_SHEETS}"):
        found += [path for path in sorted(run_dir.glob(pattern)) if path.is_file()]
    return [path for path in dict.fromkeys(found) if include_faces or path not in faces]


def face_pictures(run_dir: str | Path) -> list[Path]:
    """
    Files that show faces of people, which most data sets' terms forbid to pass on: sheets called `*_faces.png`, and
    an HTML report whose head says that it holds faces. Drawn faces are free.
    """
    run_dir = run_directory(run_dir)
    record = read_json(run_dir / "run_record.json")
    seen = {record["dataset"]["name"], *(entry.get("dataset") for entry in evaluations(run_dir))}
    found = []
    if seen != {"synthetic"}:
        found = [*sorted(run_dir.glob(_FACE_SHEETS)), *sorted(run_dir.glob(f"evaluation/{_FACE_SHEETS}"))]
    if (report := run_dir / _REPORT).is_file():
        mark = _FACE_MARK.search(report.read_text(encoding="utf-8"))
        found += [report] if mark and mark[1] not in ("synthetic", "none") else []
    return found


def files_left_out(run_dir: str | Path, files: list[Path]) -> list[str]:
    """What lies in `run_dir` and is not among `files`: names, of folders with a slash."""
    entries = sorted(run_directory(run_dir).iterdir())
    used = {*files, *(path.parent for path in files)}
    return [f"{path.name}/" if path.is_dir() else path.name for path in entries if path not in used]


def stale(there: list[str], names: set[str]) -> list[str]:
    """
    Which files of a repository an earlier upload of ours left there and this one does not replace. Weights of another
    layout would be loaded instead of the new ones, and old figures would be read as the new model's.
    """
    patterns = (*_WEIGHTS, *_CODE, *_OPTIONAL, _REPORT, _FACE_SHEETS)
    return sorted(name for name in there if name not in names and any(fnmatch(name, p) for p in patterns))


def check_publishable(files: list[Path]) -> None:
    """
    Refuses text files that tell where on a machine things lay, or that hold an access token.

    Raises:
        `RunDirectoryError`: Names the file and the string found (of a token, its first characters).
    """
    for path in files:
        if path.suffix in _TEXT:
            check_text(path, path.read_text(encoding="utf-8"))


def check_text(path: Path, text: str) -> None:
    """[`check_publishable`] for a text that is, or will be, the content of `path`."""
    text = _EMBEDDED.sub("", text)  # pictures inside a report may spell anything
    if found := _TOKEN.search(text):
        raise RunDirectoryError(f"{path} holds an access token ({found[0][:6]}...): remove it, and revoke it.")
    if found := _MACHINE_PATH.search(text):
        raise RunDirectoryError(
            f"{path} holds the absolute path {found[0]!r} of a machine, which must not be published: "
            "write it relative, or as DIR."
        )


def _weights(run_dir: Path) -> list[str]:
    index = "model.safetensors.index.json"
    if (run_dir / "model.safetensors").is_file() or not (run_dir / index).is_file():
        return ["model.safetensors"]
    return [index, *sorted(set(read_json(run_dir / index)["weight_map"].values()))]


def _auto_classes(run_dir: Path) -> list[str]:
    """`module.Class` of every class of its own that the model or its image processor asks for."""
    found = []
    for name in ("config.json", "preprocessor_config.json"):
        if (run_dir / name).is_file():
            for value in read_json(run_dir / name).get("auto_map", {}).values():
                found += value if isinstance(value, list) else [value]
    return [entry for entry in found if entry]


def _code(run_dir: Path) -> list[str]:
    """The modules of these classes, but for those in other repositories, and what they import of their siblings."""
    modules = [f"{entry.split('.')[0]}.py" for entry in _auto_classes(run_dir) if "--" not in entry]
    try:
        imported = [Path(file).name for module in modules for file in get_relative_import_files(run_dir / module)]
    except FileNotFoundError as error:
        raise RunDirectoryError(
            f"{run_dir} lacks {Path(error.filename).name}, a part of the model's code: save the model again."
        ) from None
    return list(dict.fromkeys(modules + imported))
