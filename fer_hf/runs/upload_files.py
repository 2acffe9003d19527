"""Which files of a run may be published, and which must not. An allow-list: whatever it does not name stays."""

import json
import re
from fnmatch import fnmatch
from pathlib import Path

from safetensors import SafetensorError, safe_open
from transformers import CONFIG_MAPPING
from transformers.dynamic_module_utils import get_relative_import_files

from fer_hf.runs.pictures import PICTURES
from fer_hf.runs.record import RECORD, RunDirectoryError, read_json
from fer_hf.runs.run import Run, as_run
from fer_hf.runs.shapes import WeightsIndex, check_shape


# Pictures in which faces can be seen say so in their names, and an HTML report in its head.
_FACE_SHEETS = "*_faces.png"
RECONSTRUCTIONS = "reconstructed_faces.png"
_REPORT = "report.html"
_FACE_MARK = re.compile(r'<meta\s+name="fer_hf:faces"\s+content="([^"]*)"')
# Beside weights and code, what an upload consists of. Not the predictions: they hold the data set's labels in its
# order, which not every set's terms allow to pass on, and the weights give them again.
_REQUIRED = ("config.json", "preprocessor_config.json", RECORD)
_OPTIONAL = ("README.md", "all_results.json", "*_report.json", "evaluation/*.json", *PICTURES)
_WEIGHTS = ("model.safetensors", "model-*-of-*.safetensors", "model.safetensors.index.json")
_CODE = ("configuration_*.py", "modeling_*.py", "image_processing_*.py")

# A path of one machine. JSON writes a line break as \n, and a backslash as two.
_MACHINE_PATH = re.compile(
    r"(?:(?<![\w.~/<-])(?<!&lt;)|(?<=\\[nrt]))/(?:[A-Za-z_]|[\w.-]+/[\w.-])[\w./-]*"  # absolute; no URL, no </tag>
    r"|file:///[\w./-]*"
    r"|(?:(?<![\w./\\])|\.\.[/\\])\.\.[/\\][\w./\\-]*"  # relative, out of the folder
    r"|(?<![A-Za-z0-9])[A-Za-z]:[/\\](?!/)[\w.\\-]*"  # on a drive of Windows
    r"|(?<![\w\\])\\\\+[\w.-]+\\+[\w.$-]+|(?<![\w:/.])//[\w.-]+/[\w.$-]+"  # on another machine (UNC)
)
# What gives access to accounts: the shapes that their makers document for secret scanners.
_TOKEN = re.compile(
    r"\bhf_[A-Za-z0-9]{20,}"  # Hugging Face
    r"|\bgh[opsur]_[A-Za-z0-9]{36,}|\bgithub_pat_\w{22,}|\bglpat-[\w-]{20,}"  # GitHub, GitLab
    r"|\b(?:AKIA|ASIA)[A-Z0-9]{16}\b|\bAIza[\w-]{35}"  # Amazon, Google
    r"|\bsk-[\w-]{20,}|\b[rs]k_live_\w{16,}"  # OpenAI, Anthropic; Stripe
    r"|\bxox[abeoprs]-[\w-]{10,}|\bnpm_[A-Za-z0-9]{36}|\bpypi-[\w-]{32,}|\bwandb_v\d_\w{20,}"
    r"|-----BEGIN [A-Z ]*PRIVATE KEY-----|\beyJ[\w-]{10,}\.eyJ[\w-]{10,}\.[\w-]+"  # keys; JSON web tokens
    r"|(?<=://)[^\s/:@\"']+:[^\s/:@\"']+(?=@)"  # a password in a URL
)
_EMBEDDED = re.compile(r"data:[\w/+.-]+;base64,[A-Za-z0-9+/=]+")
_TEXT = (".json", ".md", ".py", ".html")


def uses_remote_code(run: str | Path | Run) -> bool:
    """Whether loading the model runs Python files that lie beside it, or in another repository."""
    return bool(_auto_classes(as_run(run)))


def files_to_upload(run: str | Path | Run, include_faces: bool = False) -> list[Path]:
    """
    The files of a run that may be published: weights, configs, processor, card, records, evaluations, pictures, the
    HTML report, and the model's code if a config has an `auto_map`. Pickles, optimizer states, checkpoints, caches
    and predictions are not among them.

    Args:
        run (`str`, `Path` or [`Run`]):
            The output directory of a run.
        include_faces (`bool`, *optional*, defaults to `False`):
            Also what [`face_pictures`] names.

    Returns:
        `list[Path]`: Existing files in the directory or its `evaluation` folder.

    Raises:
        RunDirectoryError: If a file that loading the model needs is missing, or one of them is a symbolic link.
    """
    run = as_run(run)
    if _is_ours(run) and not uses_remote_code(run):
        raise RunDirectoryError(
            f"{run} lacks the code of its network, without which nobody could load it: load it with fer_hf, and "
            "`save_pretrained` adds the code."
        )
    names = [*_REQUIRED, *_weights(run.folder), *_code(run)]
    if strange := [name for name in names if name != Path(name).name]:
        raise RunDirectoryError(f"{run} asks for {strange[0]}, which lies elsewhere: put the file into the folder.")
    if missing := [name for name in names if not (run.folder / name).is_file()]:
        raise RunDirectoryError(f"{run} lacks {', '.join(missing)}: is it the output directory of a finished run?")
    found = [run.folder / name for name in names]
    for pattern in (*_OPTIONAL, _REPORT, _FACE_SHEETS, f"evaluation/{_FACE_SHEETS}"):
        found += [path for path in sorted(run.folder.glob(pattern)) if path.is_file()]
    hidden = [] if include_faces else face_pictures(run)
    files = [path for path in dict.fromkeys(found) if path not in hidden]
    # What a link leads to was never looked at, and may be anything.
    if links := [path for path in files if path.resolve() != run.folder.resolve() / path.relative_to(run.folder)]:
        raise RunDirectoryError(f"{links[0]} is or lies behind a symbolic link: put the file itself there.")
    return files


def face_pictures(run: str | Path | Run) -> list[Path]:
    """
    Files that show faces of people, which most data sets' terms forbid to pass on: sheets called `*_faces.png`, and
    an HTML report whose head says that it holds faces. Drawn faces are free.
    """
    run = as_run(run)
    seen = {run.record.dataset["name"], *(entry["dataset"] for entry in run.evaluations)}
    found = []
    if seen != {"synthetic"}:
        found = [*sorted(run.folder.glob(_FACE_SHEETS)), *sorted(run.folder.glob(f"evaluation/{_FACE_SHEETS}"))]
    if (report := run.folder / _REPORT).is_file():
        mark = _FACE_MARK.search(report.read_text(encoding="utf-8"))
        found += [report] if mark and mark[1] not in ("synthetic", "none") else []
    return found


def files_left_out(run: str | Path | Run, files: list[Path]) -> list[str]:
    """What lies in the directory and is not among `files`: names, of folders with a slash."""
    entries = sorted(as_run(run).folder.iterdir())
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
    Refuse files whose text (of weights, what their head says beside tensors) tells where on a machine things lay, or
    holds an access token.

    Raises:
        RunDirectoryError: Names the file and the string found (of a token, its first characters).
    """
    for path in files:
        if path.suffix in _TEXT:
            check_text(path, path.read_text(encoding="utf-8", errors="replace"))
        elif path.suffix == ".safetensors":
            check_text(path, json.dumps(_metadata(path)))


def _metadata(path: Path) -> dict[str, str]:
    try:
        with safe_open(path, "np") as file:
            return file.metadata() or {}
    except (SafetensorError, OSError) as error:
        raise RunDirectoryError(f"{path} is no safetensors file: {error}.") from error


def check_text(path: Path, text: str) -> None:
    """[`check_publishable`] for a text that is, or will be, the content of `path`."""
    text = _EMBEDDED.sub("", text)  # pictures inside a report may spell anything
    if found := _TOKEN.search(text):
        raise RunDirectoryError(f"{path} holds an access token ({found[0][:6]}...): remove it, and revoke it.")
    if found := _MACHINE_PATH.search(text):
        raise RunDirectoryError(
            f"{path} holds {found[0]!r}, a path of one machine, which must not be published: write it relative to the "
            "folder, or as DIR."
        )


def _weights(folder: Path) -> list[str]:
    index = "model.safetensors.index.json"
    if (folder / "model.safetensors").is_file() or not (folder / index).is_file():
        return ["model.safetensors"]
    content = read_json(folder / index)
    check_shape(content, WeightsIndex, folder / index)
    return [index, *sorted(set(content.get("weight_map", {}).values()))]


def _auto_classes(run: Run) -> list[str]:
    """`module.Class` of every class of its own that the model or its image processor asks for."""
    found = []
    for config in (run.config, run.processor):
        for value in config.get("auto_map", {}).values():
            found += value if isinstance(value, list) else [value]
    return [entry for entry in found if entry]


def _is_ours(run: Run) -> bool:
    """Whether the network is one that Transformers knows through us alone."""
    kind = run.config.get("model_type")
    return kind in CONFIG_MAPPING and CONFIG_MAPPING[kind].__module__.startswith("fer_hf.")


def _code(run: Run) -> list[str]:
    """The modules of these classes, but for those in other repositories, and what they import of their siblings."""
    modules = [f"{entry.split('.')[0]}.py" for entry in _auto_classes(run) if "--" not in entry]
    try:
        imported = [Path(file).name for module in modules for file in get_relative_import_files(run.folder / module)]
    except FileNotFoundError as error:
        raise RunDirectoryError(
            f"{run} lacks {Path(error.filename).name}, a part of the model's code: save the model again."
        ) from None
    return list(dict.fromkeys(modules + imported))
