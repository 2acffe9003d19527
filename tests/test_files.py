"""Files are written whole or not at all."""

import json

import pytest

from fer_hf.files import whole, write_json, write_text


def test_a_file_has_its_name_only_once_it_is_whole(tmp_path):
    path = tmp_path / "new" / "folder" / "weights.bin"
    with whole(path) as partial:
        partial.write_bytes(b"first")
        assert not path.exists()
    assert path.read_bytes() == b"first"
    assert list(path.parent.iterdir()) == [path]


def test_what_fails_half_way_leaves_what_was_there(tmp_path):
    path = tmp_path / "report.html"
    write_text(path, "old")

    def stop_half_way():
        with whole(path) as partial:
            partial.write_text("half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        stop_half_way()
    with pytest.raises(TypeError):
        write_json(path, {"no": object()})
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_file_of_the_users_that_is_called_partial_stays(tmp_path):
    (tmp_path / "a.md.partial").write_text("mine")
    write_text(tmp_path / "a.md", "new")
    assert (tmp_path / "a.md.partial").read_text() == "mine"


def test_text_is_utf_8_and_json_ends_with_a_line_break(tmp_path):
    write_text(tmp_path / "a.md", "± 0.5\n")
    write_json(tmp_path / "b.json", {"a": [1]})
    assert (tmp_path / "a.md").read_bytes() == "± 0.5\n".encode()
    text = (tmp_path / "b.json").read_text()
    assert text.endswith("}\n")
    assert json.loads(text) == {"a": [1]}
