"""No command writes over what it reads, over a file of the user's, or into the installed package."""

import json
import os
from pathlib import Path

import pytest
from helpers import arguments
from run_records import run_record

import fer_hf
from fer_hf.cli import launch
from fer_hf.cli.main import main
from fer_hf.errors import BadInputError
from fer_hf.files import check_output, expand_home


SMALL = ["--dataset_options", '{"train": 14, "validation": 7, "test": 7}']
# The words of every command that writes a file, but for the place.
COMMANDS = {
    "evaluate": ["evaluate", "--model", "RUN", *SMALL, "--output"],
    "compare": ["compare", "--run", "RUN", "RUN", "--output"],
    "report": ["report", "--run", "RUN", "--output"],
    "export": ["export", "--model", "RUN", *SMALL, "--output"],
    "faces": ["faces", *SMALL, "--output"],
}


@pytest.fixture
def run_folder(tmp_path):
    """As much of a finished run as is looked at before anything is written."""
    folder = tmp_path / "run"
    folder.mkdir()
    report = {"accuracy": 0.5, "num_faces": 7, "per_class": {}}
    (folder / "run_record.json").write_text(json.dumps(run_record(results={"test": report})))
    (folder / "config.json").write_text("{}")
    return folder


def complaint_of(words, capsys) -> str:
    """The one line with which a command ends."""
    assert main(list(map(str, words))) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.count("\n") == 1
    return printed.err


def words_of(command, run_folder):
    return [str(run_folder) if word == "RUN" else word for word in COMMANDS[command]]


@pytest.mark.parametrize("command", COMMANDS)
def test_a_file_of_the_users_stays_unless_it_may_be_overwritten(command, run_folder, tmp_path, capsys):
    place = tmp_path / "mine.png"
    place.write_text("mine")
    complaint = complaint_of([*words_of(command, run_folder), place], capsys)
    assert f"`output` {place} exists. Name another place, or replace it with --overwrite." in complaint
    assert place.read_text() == "mine"


@pytest.mark.parametrize("command", ["evaluate", "compare", "report", "export"])
@pytest.mark.parametrize("file", ["config.json", "run_record.json"])
def test_what_a_command_reads_is_never_overwritten(command, file, run_folder, capsys):
    before = (run_folder / file).read_bytes()
    complaint = complaint_of([*words_of(command, run_folder), run_folder / file, "--overwrite"], capsys)
    assert f"{file} would replace what is read from" in complaint
    assert (run_folder / file).read_bytes() == before


def test_an_audit_leaves_the_pictures_that_are_there(tmp_path, capsys):
    (tmp_path / "samples.png").write_text("mine")
    words = ["audit", *SMALL, "--output_dir", tmp_path, "--disable_tqdm"]
    assert "samples.png exists" in complaint_of(words, capsys)
    assert [path.name for path in tmp_path.iterdir()] == ["samples.png"]
    assert main([*map(str, words), "--overwrite"]) == 0
    assert (tmp_path / "samples.png").read_bytes().startswith(b"\x89PNG")


def test_nothing_is_written_beside_a_checkpoint_that_ships(capsys):
    shipped = fer_hf.asset("fer-compact-cnn")
    before = {path: path.stat().st_mtime_ns for path in Path(shipped).rglob("*")}
    assert "lies in the installed fer_hf" in complaint_of(["report", "--run", shipped], capsys)
    assert "is none of yours" in complaint_of(["evaluate", "--model", shipped, "--calibrate", *SMALL], capsys)
    assert main(["evaluate", "--model", shipped, *SMALL]) == 0
    assert "written" not in capsys.readouterr().out
    assert {path: path.stat().st_mtime_ns for path in Path(shipped).rglob("*")} == before


@pytest.mark.parametrize(
    ("place", "message"),
    [
        (".", "must be a file"),
        ("file/below.json", "cannot be written (Not a directory)"),
        ("/proc/nothing/x.json", "cannot be written"),
    ],
)
def test_a_place_that_cannot_be_written_is_refused_at_once(place, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("file").write_text("")
    with pytest.raises(BadInputError, match=r"`output` ") as refused:
        check_output("output", place)
    assert message in str(refused.value)
    assert os.listdir(".") == ["file"]


@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "README.md"])
def test_a_run_is_not_written_into_a_folder_that_holds_another_model_or_a_text(name, tmp_path):
    (tmp_path / name).write_text("mine")
    with pytest.raises(BadInputError, match=rf"holds {name}, which a run would replace; choose another folder"):
        launch.start(arguments(tmp_path), "a run")
    assert (tmp_path / name).read_text() == "mine"


def test_links_do_not_hide_what_is_read(run_folder, tmp_path):
    (tmp_path / "link.json").symlink_to(run_folder / "config.json")
    with pytest.raises(BadInputError, match="would replace what is read from"):
        check_output("output", tmp_path / "link.json", overwrite=True, reads=[run_folder])


def test_home_is_found_after_an_equals_sign_too(monkeypatch):
    monkeypatch.setenv("HOME", "/home/me")
    words = ["report", "--run=~/run", "~/x", "--output", "~/page.html", "--flag=a~b", "--command=x=~/y"]
    found = ["report", "--run=/home/me/run", "/home/me/x", "--output", "/home/me/page.html", "--flag=a~b"]
    assert expand_home(words) == [*found, "--command=x=~/y"]
