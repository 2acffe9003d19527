import subprocess
import sys
from importlib.metadata import version

import pytest

from fer_hf.cli.commands.faces import counts_line
from fer_hf.cli.main import COMMANDS, main
from fer_hf.data.published import PUBLISHED
from fer_hf.labels import EXPRESSIONS


def test_env_prints_the_versions_that_bug_reports_need(capsys):
    assert main(["env"]) == 0
    printed = dict(line.split(maxsplit=1) for line in capsys.readouterr().out.splitlines())
    assert {"python", "fer_hf", "torch", "transformers", "datasets", "platform", "cuda", "gpu"} <= printed.keys()
    assert printed["yuface"] == "not installed" or printed["yuface"][0].isdigit()


def test_faces_counts_and_draws_a_sheet(tmp_path, capsys):
    options = '{"train": 14, "validation": 7, "test": 7}'
    assert main(["faces", "--dataset_options", options, "--output", str(tmp_path / "sheet.png")]) == 0
    first = capsys.readouterr().out.splitlines()[0]
    assert first.split()[:4] == ["train", "14", "angry", "2"]
    assert (tmp_path / "sheet.png").read_bytes().startswith(b"\x89PNG")


def test_faces_marks_the_classes_below_the_mean_of_a_class():
    counts = PUBLISHED["fer2013"]["counts"]["train"]
    line = counts_line("train", counts)
    # The bars below the line in the PReLU report's picture of train.csv.
    below = [name for name in EXPRESSIONS if f"{name} {counts[name]:,}*" in line]
    assert below == ["angry", "disgust", "fear", "surprise"]
    assert line.count("*") == 5
    assert line.endswith("(mean 4,101.3 a class, *: below it)")


def test_help_versions_and_mistyped_commands_load_nothing_heavy():
    # In one fresh process: this one has loaded everything. The flags of `train` are those of Transformers.
    code = """
import sys
from fer_hf.cli.main import COMMANDS, main

pages = [[command, "--help"] for command in COMMANDS if command != "train"]
for words in (["--help"], ["--version"], ["evaluat"], *pages):
    try:
        main(words)
    except SystemExit as stop:
        assert stop.code == 0, words
heavy = {"torch", "transformers", "datasets", "numpy", "matplotlib", "PIL"} & set(sys.modules)
assert not heavy, heavy
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert f"fer_hf {version('fer_hf')}\n" in done.stdout
    assert done.stderr == "error: `COMMAND`: there is no 'evaluat': did you mean evaluate? (fer-hf --help)\n"


def test_the_package_runs_as_a_module():
    words = [sys.executable, "-m", "fer_hf", "--version"]
    assert subprocess.run(words, capture_output=True, text=True).stdout == f"fer_hf {version('fer_hf')}\n"


@pytest.mark.parametrize("name", sorted(COMMANDS.keys() - {"train"}))
def test_flags_have_the_recipes_names_and_output_is_a_file_everywhere(name, capsys):
    with pytest.raises(SystemExit):
        main([name, "--help"])
    text = " ".join(capsys.readouterr().out.split())
    for short, long in (("--dataset", "--dataset_name"), ("--model", "--model_name_or_path")):
        assert (f" {short} " in text) == (f"{long} " in text)
    if "--output " in text:
        assert "--output FILE" in text
    if "--output_dir " in text:
        assert "--output_dir DIR" in text


def test_completion_is_printed_by_shtab(capsys):
    pytest.importorskip("shtab")
    with pytest.raises(SystemExit, match="0"):
        main(["--print-completion", "bash"])
    printed = capsys.readouterr().out
    assert "evaluate" in printed
    assert "--model_name_or_path" in printed
