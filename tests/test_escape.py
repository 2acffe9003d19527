"""What stands in names from outside has no effect where it is shown."""

import pytest
from run_records import HOSTILE

from fer_hf.cli.main import main
from fer_hf.escape import markdown, markdown_names, one_line, printable


def test_a_name_stays_one_line_and_moves_no_cursor():
    assert one_line("a\n\x1b[2Jb\u202e\udcff é 日") == r"a\n\x1b[2Jb\u202e\udcff é 日"
    assert printable("ours\nand\x07 that") == "ours\nand\\x07 that"


@pytest.mark.parametrize("text", ["happy", "FER-2013", "fer_hf drawn faces", "très heureux", "a/b (c), d: e!"])
def test_plain_names_stay_as_they_are(text):
    assert markdown(text) == one_line(text) == text


def test_all_texts_of_a_tree_are_escaped():
    assert markdown_names({"a|b": [{"c": "<d>"}, 1.5, None]}) == {r"a\|b": [{"c": "&lt;d&gt;"}, 1.5, None]}


def test_labels_have_no_effect_on_a_terminal(monkeypatch, capsys):
    from fer_hf.data import load_dataset

    def loaded(*args, **options):
        tables = load_dataset("synthetic", train=14, validation=7, test=7)
        named = tables["train"].features.copy()
        named["label"].names[0] = HOSTILE
        return tables.cast(named)

    monkeypatch.setattr("fer_hf.cli.commands.faces.load_tables", loaded)
    assert main(["faces"]) == 0
    printed = capsys.readouterr().out
    assert "\x1b" not in printed
    assert r"\x1b[31m" in printed
    assert main(["report", "--run", HOSTILE]) == 2
    complaint = capsys.readouterr().err
    assert complaint.count("\n") == 1
    assert "\x1b" not in complaint
