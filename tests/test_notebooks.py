"""The notebooks run from top to bottom, here on fewer faces; what is committed in them is small, and of such a run."""

import json
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient


FOLDER = Path(__file__).parent.parent / "recipes" / "notebooks"
# By notebook: what stands in it, and what is run instead.
SMALLER = {
    "first_steps": {
        "train=1120, validation=280, test=280": "train=56, validation=14, test=14",
        "num_train_epochs=4": "num_train_epochs=1",
    },
    "own_folders": {
        "train=420, validation=7, test=28": "train=56, validation=7, test=7",
        "num_train_epochs=3": "num_train_epochs=1",
    },
}
LARGEST = 250_000  # bytes


def read(name):
    return nbformat.read(FOLDER / f"{name}.ipynb", as_version=4)


def test_every_notebook_is_tested():
    assert {path.stem for path in FOLDER.glob("*.ipynb")} == SMALLER.keys()


@pytest.mark.parametrize("name", SMALLER)
def test_a_notebook_runs_from_top_to_bottom(name, tmp_path):
    notebook = read(name)
    for text, smaller in SMALLER[name].items():
        (cell,) = [cell for cell in notebook.cells if text in cell.source]
        cell.source = cell.source.replace(text, smaller)
    NotebookClient(notebook, timeout=600, resources={"metadata": {"path": tmp_path}}).execute()
    assert (tmp_path / "runs" / name / "model.safetensors").is_file()


@pytest.mark.parametrize("name", SMALLER)
def test_what_is_committed_is_of_one_run_without_complaints_and_small(name):
    cells = [cell for cell in read(name).cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    outputs = [output for cell in cells for output in cell.outputs]
    assert {output.output_type for output in outputs} <= {"stream", "display_data", "execute_result"}
    assert all(output.name == "stdout" for output in outputs if output.output_type == "stream")
    assert (FOLDER / f"{name}.ipynb").stat().st_size < LARGEST
    assert "/root/" not in json.dumps(outputs)
    assert "/home/" not in json.dumps(outputs)
