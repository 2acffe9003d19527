"""Two runs side by side: differences by hand, intervals by drawing faces, and refusals."""

import json

import numpy as np
import pytest
from run_records import run_record

from fer_hf.cli.main import main
from fer_hf.errors import BadInputError
from fer_hf.evaluation.predictions import Predictions, save_predictions
from fer_hf.evaluation.report import expression_report
from fer_hf.files import write_json
from fer_hf.runs.compare import compare, compare_runs


NAMES = ["angry", "happy", "sad"]


def write_run(folder, predicted, labels, fingerprint="f1", names=NAMES):
    folder.mkdir()
    logits = np.eye(len(names))[predicted]
    save_predictions(folder, {"test": Predictions(logits, labels)})
    report = expression_report(logits, labels, names)
    dataset = {"name": "drawn", "fingerprints": {"test": fingerprint}, "counts": {}}
    write_json(folder / "run_record.json", run_record(dataset=dataset, results={"test": report}))
    return folder


def random_runs(num_faces=400, seed=0):
    rng = np.random.default_rng(seed)
    labels = rng.choice(3, size=num_faces, p=[0.6, 0.3, 0.1])
    a = np.where(rng.random(num_faces) < 0.6, labels, (labels + 1) % 3)
    b = np.where(rng.random(num_faces) < 0.75, labels, a)
    return labels, a, b


def test_differences_are_those_worked_out_by_hand():
    labels = np.array([0] * 5 + [1] * 5)
    a = np.array([0, 0, 0, 1, 1, 1, 1, 0, 0, 0])
    b = np.array([0, 0, 0, 0, 0, 0, 1, 1, 1, 1])
    found = compare(labels, a, b, NAMES)
    assert found["accuracy"] | {"interval": None} == {
        "a": 0.5, "b": 0.9, "difference": pytest.approx(0.4), "interval": None, "better": None,
    }  # fmt: skip
    assert found["per_class"]["angry"]["difference"] == pytest.approx(2 / 5)
    assert found["per_class"]["happy"]["difference"] == pytest.approx(2 / 5)
    assert "sad" not in found["per_class"]  # has no face
    # Six faces on which one alone is right, five of them b: 2 (C(6,0) + C(6,1)) / 2^6.
    assert found["mcnemar"] == {"only_a": 1, "only_b": 5, "p_value": pytest.approx(14 / 64)}


def test_intervals_are_those_of_pairs_drawn_one_by_one():
    labels, a, b = random_runs()
    found = compare(labels, a, b, NAMES)
    draws = np.random.default_rng(1).integers(0, len(labels), (3000, len(labels)))
    gain = (b == labels).astype(float) - (a == labels)
    expected = np.quantile(gain[draws].mean(axis=1), [0.025, 0.975])
    assert found["accuracy"]["interval"] == pytest.approx(expected, abs=0.01)
    for index, name in enumerate(NAMES):
        mine = labels[draws] == index
        expected = np.quantile((gain[draws] * mine).sum(axis=1) / mine.sum(axis=1), [0.025, 0.975])
        assert found["per_class"][name]["interval"] == pytest.approx(expected, abs=0.04)


def test_the_better_run_is_named_and_the_other_order_turns_everything_round():
    labels, a, b = random_runs()
    found, turned = compare(labels, a, b, NAMES), compare(labels, b, a, NAMES)
    assert found["accuracy"]["better"] == "b"
    assert turned["accuracy"]["better"] == "a"
    assert turned["accuracy"]["difference"] == -found["accuracy"]["difference"]
    assert turned["mcnemar"]["p_value"] == found["mcnemar"]["p_value"] < 0.001


def test_a_run_is_no_better_than_itself():
    labels, a, _ = random_runs()
    found = compare(labels, a, a, NAMES)
    assert found["mcnemar"] == {"only_a": 0, "only_b": 0, "p_value": 1.0}
    for row in (found["accuracy"], *found["per_class"].values()):
        assert (row["difference"], row["interval"], row["better"]) == (0, [0, 0], None)


def test_an_expression_of_one_face_has_an_interval_though_some_draws_lack_it():
    labels = np.array([0] * 20 + [2])
    found = compare(labels, np.zeros(21, dtype=int), labels, NAMES)
    assert found["per_class"]["sad"]["interval"] == [1, 1]
    assert found["per_class"]["sad"]["support"] == 1


def test_runs_are_compared_from_their_folders(tmp_path, capsys):
    labels, a, b = random_runs()
    folders = [str(write_run(tmp_path / name, said, labels)) for name, said in (("one", a), ("two", b))]
    output = tmp_path / "results" / "comparison.json"
    assert main(["compare", "--run", *folders, "--output", str(output)]) == 0
    written = json.loads(output.read_text())
    assert written == compare_runs(*folders)
    assert written["runs"] == ["one", "two"]
    assert {name: written[name] for name in ("num_faces", "accuracy")} == {
        "num_faces": 400, "accuracy": compare(labels, a, b, NAMES)["accuracy"],
    }  # fmt: skip
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "A: one"
    assert [line.split()[0] for line in lines[5:9]] == [*NAMES, "accuracy"]
    assert lines[8].split()[1:4] == ["400", f"{(a == labels).mean():.4f}", f"{(b == labels).mean():.4f}"]
    assert lines[8].endswith(" B")


def test_runs_on_other_faces_are_refused_in_one_line(tmp_path, capsys):
    labels, a, b = random_runs()
    one = write_run(tmp_path / "one", a, labels)
    others = {
        "other faces (400 and 400)": write_run(tmp_path / "two", b, labels, fingerprint="f2"),
        "other expressions": write_run(tmp_path / "three", b, labels, names=["angry", "happy", "fear"]),
    }
    for what, other in others.items():
        assert main(["compare", "--run", str(one), str(other)]) == 2
        complaint = capsys.readouterr().err
        assert f"scored {what} as test" in complaint
        assert complaint.count("\n") == 1
    with pytest.raises(BadInputError, match=r"`split` must be one of test"):
        compare_runs(one, one, split="validation")
    for file in ("predictions.safetensors", "run_record.json"):
        (one / file).unlink()
        with pytest.raises(BadInputError, match=rf"holds no {file}"):
            compare_runs(one, one)
