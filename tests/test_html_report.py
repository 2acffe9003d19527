import base64
import io
import json
from functools import partial
from html.parser import HTMLParser

import numpy as np
import pytest
from conftest import tiny_vit_config
from datasets import DatasetDict, concatenate_datasets
from PIL import Image
from run_records import HOSTILE, change_record, run_record
from transformers import ViTForImageClassification, ViTImageProcessor

from fer_hf.cli.main import main
from fer_hf.evaluation.predictions import Predictions, first_right, load_predictions, save_predictions, sure_and_wrong
from fer_hf.evaluation.report import expression_report
from fer_hf.files import write_json
from fer_hf.models.zoo import build, image_processor
from fer_hf.runs import page
from fer_hf.runs.page import write_report
from fer_hf.runs.record import describe_dataset


OPTIONS = {"train": 56, "validation": 28, "test": 28}


class Page(HTMLParser):
    """What a page holds: resources, tables by row, text, meta tags."""

    def __init__(self, text):
        super().__init__()
        self.resources, self.rows, self.meta, self.tags, self.alts, self.text = [], [], {}, [], [], ""
        self.cell = False
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        attributes = dict(attributes)
        self.tags.append(tag)
        self.resources += [attributes[key] for key in ("src", "href", "srcset", "data", "poster") if key in attributes]
        if tag == "img":
            self.alts.append(attributes["alt"])
        if tag == "meta" and "name" in attributes:
            self.meta[attributes["name"]] = attributes["content"]
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")
            self.cell = True

    def handle_endtag(self, tag):
        self.cell = self.cell and tag not in ("td", "th")

    def handle_data(self, data):
        self.text += data
        if self.cell:
            self.rows[-1][-1] += data

    def row(self, first):
        """Cells of the one row that starts so, blanks made one."""
        (found,) = [row for row in self.rows if row and row[0] == first]
        return [" ".join(cell.split()) for cell in found]


def percent(value):
    return f"{100 * value:.1f} %"


def page_of(path):
    return Page(path.read_text(encoding="utf-8"))


def make_run(folder, faces, names, dataset="synthetic", **changes):
    """The files of a run whose logits are random, from before reports had intervals."""
    folder.mkdir()
    logits = np.random.default_rng(0).normal(size=(28, 7)).astype(np.float32) * 2
    scored = {split: Predictions(logits, np.array(faces[split]["label"][:])) for split in ("validation", "test")}
    save_predictions(folder, scored)
    reports = {split: expression_report(*predictions, names) for split, predictions in scored.items()}
    for report in reports.values():
        del report["intervals"], report["expected_calibration_error"]
    phase = {
        "first_step": 0, "steps": 5, "trainable_parameters": 231, "seconds_per_step": 0.0125,
        "images_per_second": 80.0, "data_wait_share": 0.25, "peak_memory_mb": None,
    }  # fmt: skip
    record = {
        "dataset": describe_dataset(dataset, faces),
        "model": {"architecture": "tiny-vit", "source": "scratch", "parameters": 34567},
        "unfreezing": [
            {"epoch": 0, "thawed": ["classifier"], "trainable_parameters": 231},
            {"epoch": 2, "thawed": ["vit.layers.2", "vit.layernorm"], "trainable_parameters": 12345},
        ],
        "phases": [phase, {**phase, "first_step": 5, "trainable_parameters": 12345}],
        "best": {"metric": "eval_accuracy", "value": 0.625, "epoch": 2.0, "step": 10},
        "runtime": {"train_seconds": 90.0},
        "results": reports,
    }
    write_json(folder / "run_record.json", run_record(**{**record, **changes}))
    history = [{"epoch": 1.0, "loss": 2.0}, {"epoch": 2.0, "eval_accuracy": 0.625, "eval_loss": 1.5}]
    write_json(folder / "trainer_state.json", {"log_history": history})
    return folder


def give_vit(run):
    """Let the run be that of a tiny ViT."""
    ViTForImageClassification(tiny_vit_config()).save_pretrained(run)
    ViTImageProcessor(size={"height": 48, "width": 48}, do_convert_rgb=True).save_pretrained(run)
    return run


@pytest.fixture
def no_pictures(monkeypatch):
    """Pictures are tested elsewhere; a page is made in a moment without them. Holds what would be drawn."""
    asked = {}

    def note(plot, *args, **options):
        drawn = partial(plot, *args, **options)
        asked.setdefault(drawn.func.__name__, []).append((drawn.args, drawn.keywords))
        return "data:image/png;base64,AAAA"

    monkeypatch.setattr(page, "_picture", note)
    return asked


def test_a_page_names_the_commits_of_a_resumed_run(tmp_path, drawn_faces, names, no_pictures):
    parts = [{"from_step": 0, "commit": None}, {"from_step": 6, "commit": "abc1234"}]
    runtime = {"train_seconds": 90.0, "resumed_at_step": 6, "commits": parts}
    page = page_of(write_report(make_run(tmp_path / "run", drawn_faces, names, runtime=runtime)))
    told = "1.5 minutes (last resumed at step 6, unknown commit from step 0, abc1234 from step 6)."
    assert told in " ".join(page.text.split())


def test_a_page_with_faces_of_people_needs_nothing_else_and_says_what_it_shows(tmp_path, drawn_faces, names):
    run = give_vit(make_run(tmp_path / "run", drawn_faces, names, dataset="rafdb"))
    written = write_report(run, drawn_faces, show_faces=True, disable_tqdm=True)
    assert written == run / "report.html"
    page = page_of(written)
    assert not {"script", "link", "iframe", "object"} & set(page.tags)
    assert len(page.resources) == page.tags.count("img")
    for resource in page.resources:
        kind, _, content = resource.partition(",")
        assert kind == "data:image/png;base64"
        Image.open(io.BytesIO(base64.b64decode(content, validate=True))).load()
    assert "url(" not in written.read_text()
    assert "@import" not in written.read_text()
    assert page.meta["fer_hf:faces"] == "rafdb"
    assert page.meta["viewport"] == "width=device-width, initial-scale=1"
    assert "contains face images of the data set rafdb: do not publish" in page.text.split("tiny-vit")[0]
    assert sum("looks" in alt for alt in page.alts) == 2
    assert sum("surest" in alt for alt in page.alts) == 2
    assert all(page.alts)


def test_every_number_of_the_page_is_the_records(tmp_path, drawn_faces, names, no_pictures):
    run = make_run(tmp_path / "run", drawn_faces, names)
    record = json.loads((run / "run_record.json").read_text())
    test = record["results"]["test"]
    page = page_of(write_report(run))
    scores = [row for row in page.rows if row and row[0] == "test" and row[1] == "28"]
    assert [" ".join(cell.split()) for cell in scores[0]][:6] == [
        "test", "28", *(percent(test[name]) for name in ("accuracy", "macro_f1", "balanced_accuracy")),
        f"{test['loss']:.3f}",
    ]  # fmt: skip
    for name in names:
        row = test["per_class"][name]
        assert page.row(name) == [name, *(percent(row[k]) for k in ("precision", "recall", "f1")), str(row["support"])]
    assert page.row("2") == ["2", "12,345", "vit.layers.2, vit.layernorm"]
    assert page.row("5") == ["5", "5", "12,345", "12", "80", "25.0 %", "not measured"]
    assert "epoch 2, eval_accuracy 0.6250. Training took 1.5 minutes" in " ".join(page.text.split())
    for value in (record["command"], record["commit"] or "unknown", record["dataset"]["fingerprints"]["train"]):
        assert value in page.text
    assert "34,567 parameters" in page.text
    assert no_pictures["plot_confusion_matrix"][1] == (
        (test["confusion_matrix"], names), {"title": "synthetic, test"}
    )  # fmt: skip
    assert no_pictures["plot_confusion_matrix"][0][1] == {"title": "synthetic, validation"}
    (counts,), _ = no_pictures["plot_class_balance"][0]
    assert counts == record["dataset"]["counts"]
    assert no_pictures["plot_learning_curves"][0][1] == {"unfreezing": record["unfreezing"], "best_epoch": 2.0}
    assert no_pictures["plot_phases"][0][0] == (record["phases"], None)
    (counts, *_), _ = no_pictures["plot_reliability"][0]
    assert counts.sum() == 28


def test_intervals_copies_and_earlier_scorings_are_told_where_they_are_known(
    tmp_path, drawn_faces, names, no_pictures
):
    run = make_run(tmp_path / "run", drawn_faces, names)
    plain = page_of(write_report(run)).text
    assert "interval" not in plain
    assert "calibration error" not in plain
    record = json.loads((run / "run_record.json").read_text())
    test = record["results"]["test"]
    test["expected_calibration_error"] = 0.0625
    test["intervals"] = {"accuracy": [0.111, 0.222]}
    test["without_copies"] = {"num_faces": 21, "accuracy": 0.345, "macro_f1": 0.3, "balanced_accuracy": 0.2}
    mark = record["dataset"]["fingerprints"]["test"]
    scoring = {"dataset": "synthetic", "split": "test", "fingerprint": mark, "date": "2026-01-02T03", "tta": "none"}
    record["test_scored"] = [scoring, {**scoring, "date": "2026-02-03T04", "tta": "flip"}]
    write_json(run / "run_record.json", record)
    page = page_of(write_report(run))
    text = " ".join(page.text.split())
    assert text.count("(11.1 % to 22.2 %)") == 2  # headline and table
    assert "95 % intervals" in text
    assert page.row("test, faces without a copy in train")[1:5] == ["21", "34.5 %", "30.0 %", "20.0 %"]
    assert "synthetic on 2026-01-02; synthetic on 2026-02-03, mean over flip." in text
    assert "after the first look" in text
    assert [" ".join(row[-1].split()) for row in page.rows if row[:2] == ["test", "28"]] == ["0.062"]
    record["test_scored"] = [scoring, {**scoring, "fingerprint": "of other faces"}]
    write_json(run / "run_record.json", record)
    assert "after the first look" not in page_of(write_report(run)).text


def test_evaluations_beside_the_run_are_part_of_the_page(tmp_path, drawn_faces, names, no_pictures):
    run = make_run(tmp_path / "run", drawn_faces, names)
    report = json.loads((run / "run_record.json").read_text())["results"]["test"]
    part = {"num_faces": 9, "accuracy": 0.5, "macro_f1": 0.4, "balanced_accuracy": 0.3}
    group = {**part, "intervals": {"accuracy": [0.25, 0.75], "balanced_accuracy": [0.1, 0.9]}}
    damage = {
        "clean": 0.5,
        "corruptions": {"blur": [{"severity": 1, "accuracy": 0.4}, {"severity": 2, "accuracy": 0.3}]},
    }
    whole = {
        "dataset": "fer2013", "split": "validation+test", "tta": "flip", "report": report,
        "parts": {"test": {"report": part}}, "subgroups": {"gender": {"female": group}}, "robustness": damage,
        "calibration": {"temperature": 1.5, "before": {"expected_calibration_error": 0.2},
                        "after": {"expected_calibration_error": 0.05}},
        "comparable_with": {"test": "the ranking of 2013"},
        "labels": {"faces_left_out": 1234, "only_in_dataset": ["contempt"]},
    }  # fmt: skip
    (run / "evaluation").mkdir()
    write_json(run / "evaluation" / "fer2013-validation+test-flip.json", whole)
    page = page_of(write_report(run))
    text = " ".join(page.text.split())
    title = "fer2013, validation+test, mean over flip"
    assert page.row(title)[1] == "28"
    assert page.row(f"{title}: test alone")[1:5] == ["9", "50.0 %", "40.0 %", "30.0 %"]
    assert page.row("female") == ["female", "9", "50.0 % (25.0 % to 75.0 %)", "30.0 % (10.0 % to 90.0 %)"]
    assert "temperature of 1.500 takes the calibration error from 0.200 to 0.050" in text
    assert "fer2013, test is comparable with the ranking of 2013" in text
    assert "1,234 faces of expressions that the model does not know are left out (contempt)" in text
    assert no_pictures["plot_robustness"] == [(({"blur": [0.5, 0.4, 0.3]},), {"title": title})]


def test_names_are_escaped(tmp_path, drawn_faces, names, no_pictures):
    bad = "<script>alert('x')</script>&\""
    run = make_run(tmp_path / "run", drawn_faces, names, command=bad)
    record = json.loads((run / "run_record.json").read_text())
    record["dataset"]["name"] = bad
    record["results"]["test"]["per_class"][bad] = record["results"]["test"]["per_class"].pop("angry")
    write_json(run / "run_record.json", record)
    give_vit(run)
    page = page_of(write_report(run, drawn_faces, show_faces=True, disable_tqdm=True))
    assert "script" not in page.tags
    assert page.meta["fer_hf:faces"] == bad
    assert page.row(bad)[0] == bad
    assert bad in page.text.split("How it was made")[1]


def test_drawn_faces_may_be_published_and_without_the_flag_no_face_is_shown(tmp_path, drawn_faces, names, no_pictures):
    run = give_vit(make_run(tmp_path / "run", drawn_faces, names))
    page = page_of(write_report(run, drawn_faces, show_faces=True, disable_tqdm=True))
    assert "fer_hf:faces" not in page.meta
    assert "do not publish" not in page.text
    sheets = {"plot_predictions", "plot_probabilities", "plot_attention_maps"}
    assert sheets <= set(no_pictures)
    for name in sheets:
        del no_pictures[name]
    real = give_vit(make_run(tmp_path / "real", drawn_faces, names, dataset="fer2013"))
    for data in (None, drawn_faces):
        page = page_of(write_report(real, data, disable_tqdm=True))
        assert "fer_hf:faces" not in page.meta
        assert not sheets & set(no_pictures)


def test_sheets_and_maps_show_the_faces_that_they_speak_of(tmp_path, drawn_faces, names, no_pictures):
    run = give_vit(make_run(tmp_path / "run", drawn_faces, names))
    write_report(run, drawn_faces, show_faces=True, disable_tqdm=True)
    faces, logits = drawn_faces["test"], load_predictions(run)["test"].logits
    (right, right_odds, labels, _), _ = no_pictures["plot_predictions"][0]
    assert len(right) == len(labels)
    assert (right_odds.argmax(1) == labels).all()
    (_, wrong_odds, labels, _), _ = no_pictures["plot_predictions"][1]
    assert (wrong_odds.argmax(1) != labels).all()
    ([image], [probabilities], _), options = no_pictures["plot_probabilities"][0]
    doubtful = int(options["title"].split()[2].rstrip(","))
    assert np.array_equal(np.asarray(image), np.asarray(faces[doubtful]["image"]))
    odds = np.exp(logits.astype(float)) / np.exp(logits.astype(float)).sum(1, keepdims=True)
    assert odds.max(1).argmin() == doubtful
    assert probabilities == pytest.approx(odds[doubtful])
    (pixel_values, maps, titles), _ = no_pictures["plot_attention_maps"][0]
    assert titles == names
    assert pixel_values.shape == (7, 3, 48, 48)
    assert {name: found.shape for name, found in maps.items()} == {"rollout": (7, 3, 3)}
    wrong = sure_and_wrong(logits, np.array(faces["label"]), 7)
    (_, maps, titles), _ = no_pictures["plot_attention_maps"][1]
    assert titles == [f"{names[logits[i].argmax()]}\n(is {names[faces[int(i)]['label']]})" for i in wrong]
    assert maps["rollout"].shape == (len(wrong), 3, 3)


def test_of_a_convolutional_network_class_activation_is_shown_if_the_extra_is_there(
    tmp_path, drawn_faces, names, no_pictures, monkeypatch
):
    run = make_run(tmp_path / "run", drawn_faces, names)
    model = build("cnn-v1")
    model.save_pretrained(run)
    image_processor("cnn-v1", model.config).save_pretrained(run)
    about = "Class activation: what in the last feature map speaks for the answer."
    assert page_of(write_report(run, drawn_faces, show_faces=True, disable_tqdm=True)).text.count(about) == 2
    for (_, maps, titles), _ in no_pictures.pop("plot_attention_maps"):
        assert {name: found.shape for name, found in maps.items()} == {"class activation": (len(titles), 24, 24)}
    monkeypatch.setattr(page, "find_spec", lambda name: None)
    assert about not in page_of(write_report(run, drawn_faces, show_faces=True, disable_tqdm=True)).text


def test_of_dacl_strips_and_similarity_are_drawn_without_faces(tmp_path, drawn_faces, names, no_pictures):
    run = make_run(tmp_path / "run", drawn_faces, names, dataset="fer2013")
    model = build("dacl-48", attention_hidden_sizes=[16, 8])
    model.save_pretrained(run)
    image_processor("dacl-48", model.config).save_pretrained(run)
    page = page_of(write_report(run, drawn_faces, disable_tqdm=True))
    assert "fer_hf:faces" not in page.meta
    (weights, labels), _ = no_pictures["plot_attention_strips"][0]
    assert weights.shape == (28, 512)
    assert labels == [name for name in names for _ in range(4)]
    (matrix, _), _ = no_pictures["plot_similarity"][0]
    # All 28 test faces, four of each expression, are in the means.
    assert matrix == pytest.approx(np.corrcoef(weights.reshape(7, 4, 512).mean(axis=1)))
    assert "plot_attention_maps" not in no_pictures


def test_a_run_on_the_first_faces_of_a_split_knows_them_in_the_whole_one(tmp_path, drawn_faces, names, no_pictures):
    run = give_vit(make_run(tmp_path / "run", drawn_faces, names))
    whole = concatenate_datasets([drawn_faces["test"], drawn_faces["train"]])
    write_report(run, DatasetDict({**drawn_faces, "test": whole}), show_faces=True, disable_tqdm=True)
    (images, *_), _ = no_pictures["plot_predictions"][0]
    first = first_right(*load_predictions(run)["test"], page.ROWS)
    assert images[0] == drawn_faces["test"][int(first[0])]["image"]


def test_data_of_another_kind_is_refused_and_nothing_is_written(tmp_path, drawn_faces, names, capsys):
    run = make_run(tmp_path / "run", drawn_faces, names)
    data = ["--dataset", "synthetic", "--dataset_options", json.dumps({**OPTIONS, "seed": 1})]
    assert main(["report", "--run", str(run), "--faces", "--disable_tqdm", *data]) == 2
    complaint = capsys.readouterr().err
    assert complaint.startswith("error: The test faces given are not those")
    assert complaint.count("\n") == 1
    assert not (run / "report.html").exists()


def test_names_have_no_effect_on_a_page(tmp_path, drawn_faces, names):
    run = make_run(tmp_path / "run", drawn_faces, names)
    record = run / "run_record.json"
    record.write_text(record.read_text().replace('"angry"', json.dumps(HOSTILE)))
    change_record(run, lambda record: record["dataset"].update(name=HOSTILE))
    page = page_of(write_report(run))
    assert "script" not in page.tags
    assert HOSTILE in [row[0] for row in page.rows]


def test_an_older_run_without_logits_has_a_page_without_reliability(tmp_path, drawn_faces, names, no_pictures, capsys):
    run = make_run(tmp_path / "run", drawn_faces, names)
    (run / "predictions.safetensors").unlink()
    (run / "trainer_state.json").unlink()
    page = tmp_path / "pages" / "run.html"
    assert main(["report", "--run", str(run), "--output", str(page)]) == 0
    assert str(page) in capsys.readouterr().out
    assert "plot_reliability" not in no_pictures
    assert "probabilities" not in page_of(page).text
