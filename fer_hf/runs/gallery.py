"""A folder of model cards: one for each published checkpoint, with its pictures, and an index of the classifiers."""

import re
import shutil
from pathlib import Path
from urllib.parse import quote

from huggingface_hub import ModelCard

from fer_hf.escape import markdown
from fer_hf.files import write_text
from fer_hf.runs.card import render_model_card
from fer_hf.runs.pictures import PICTURES
from fer_hf.runs.record import RunDirectoryError
from fer_hf.runs.run import Run, as_run
from fer_hf.runs.upload_files import check_text
from fer_hf.runs.usage import ships


_BEGIN, _END = "<!-- cards: written by push_to_hub.py -->", "<!-- end of cards -->"
_NOT_CARDS = ("README.md", "template.md")


def add_to_gallery(
    run: str | Path | Run, folder: str | Path, repo_id: str | None = None, license: str | None = None
) -> Path:
    """
    Write the card of a run to `folder/<name>.md`, its pictures (none with faces) to `folder/<name>/`, and the table
    of all classifiers into `folder/README.md`.

    Args:
        run (`str`, `Path` or [`Run`]):
            The output directory of a run.
        folder (`str` or `Path`):
            Where the cards lie; made if it is missing.
        repo_id, license:
            As for [`render_model_card`]. The card is called as the repository, or as a model that ships with the
            package, which needs none.

    Returns:
        `Path`: The card.

    Raises:
        RunDirectoryError: As [`render_model_card`], and if the card holds a token or an absolute path.
    """
    run, folder = as_run(run), Path(folder)
    if repo_id is None and not ships(run):
        raise RunDirectoryError("`repo_id` is missing: a card that lies apart from its model must say where that is.")
    name = (repo_id or run.name).split("/")[-1]
    path = folder / f"{name}.md"
    if path.name in _NOT_CARDS:
        raise RunDirectoryError(f"{path} is no card's place: name the run or the repository otherwise.")
    card = str(render_model_card(run, repo_id, license, picture_folder=f"{name}/"))
    check_text(path, card)
    for picture in PICTURES:
        (folder / name / picture).unlink(missing_ok=True)
    for picture in run.pictures:
        (folder / name).mkdir(parents=True, exist_ok=True)
        shutil.copy(run.folder / picture, folder / name / picture)
    write_text(path, card)
    _write_index(folder)
    return path


def _write_index(folder: Path) -> None:
    """Fill the table between the two marks of `README.md`, which gets them at its end if it has none."""
    index = folder / "README.md"
    text = index.read_text(encoding="utf-8") if index.is_file() else "# Model cards\n"
    if _BEGIN not in text:
        text = f"{text.rstrip()}\n\n{_BEGIN}\n{_END}\n"
    cards = [path for path in folder.glob("*.md") if path.name not in _NOT_CARDS]
    rows = [_index_row(path) for path in cards if ModelCard.load(path).data.eval_results]  # a backbone's has none
    head = ["| model | data | faces of | accuracy | macro F1 | balanced accuracy |"]
    head += ["|---|---|---|---:|---:|---:|"]
    table = "\n".join(["", *head, *sorted(rows), ""])
    block = re.compile(f"({re.escape(_BEGIN)}\n).*?({re.escape(_END)})", re.DOTALL)
    write_text(index, block.sub(lambda marks: f"{marks[1]}{table}\n{marks[2]}", text))


def _index_row(path: Path) -> str:
    results = ModelCard.load(path).data.eval_results
    split = "test" if any(result.dataset_split == "test" for result in results) else results[0].dataset_split
    scores = {result.metric_name: result.metric_value for result in results if result.dataset_split == split}
    wanted = [scores.get(name) for name in ("Accuracy", "Macro F1", "Balanced accuracy")]
    cells = ["-" if score is None else f"{score:.4f}" for score in wanted]
    name, dataset = markdown(path.stem), markdown(results[0].dataset_name)
    return f"| [{name}]({quote(path.name)}) | {dataset} | {split} | {' | '.join(cells)} |"
