import pytest

from fer_hf.cli.main import main


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


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--dataset", "nothing"], "error: `name` must be one of"),
        (["--dataset_options", "{"], "error: `dataset_options` must be a map of options, got '{', which is no JSON"),
        (["--dataset", "fer2013", "--data_dir", "/nowhere"], "error: /nowhere does not exist"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(words, message, capsys):
    assert main(["faces", *words]) == 2
    complaint = capsys.readouterr().err
    assert complaint.startswith(message)
    assert complaint.count("\n") == 1
