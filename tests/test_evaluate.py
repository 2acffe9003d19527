"""Scoring any classifier on any split: the run's own numbers to the digit, labels by name, test noted each time."""

import json
from types import SimpleNamespace

import datasets
import numpy as np
import pytest
import torch
from conftest import tiny_vit_config
from datasets import ClassLabel, Dataset, DatasetDict
from PIL import Image
from rafdb_trees import TEST, attributes, write_official
from torchvision.transforms.v2 import functional as tvF
from transformers import ViTForImageClassification, ViTImageProcessor, pipeline
from transformers.utils import ModelOutput

from fer_hf.cli.main import main
from fer_hf.data import content_fingerprint, load_dataset
from fer_hf.data.collator import FaceCollator
from fer_hf.data.published import PUBLISHED, comparable_with
from fer_hf.errors import BadInputError
from fer_hf.evaluation.evaluate import EvaluationOptions, evaluate, evaluation_text
from fer_hf.evaluation.label_matching import match_labels
from fer_hf.evaluation.predictions import Predictions, load_predictions
from fer_hf.evaluation.report import expression_report, headline, report_text
from fer_hf.evaluation.scoring import score_faces
from fer_hf.labels import EXPRESSIONS, EXPRESSIONS_WITH_CONTEMPT, id2label, label2id
from fer_hf.metrics import classification_metrics
from fer_hf.runs.evaluations import save_evaluation
from fer_hf.runs.finish import finish_run
from fer_hf.training import FerTrainer, FerTrainingArguments


OPTIONS = ["--dataset_options", '{"train": 56, "validation": 28, "test": 28}', "--disable_tqdm"]


def save(folder, processor, names=EXPRESSIONS, rows=None):
    """A small ViT under labels of these names; `rows` of the seven-expression head become theirs."""
    torch.manual_seed(0)
    model = ViTForImageClassification(tiny_vit_config())
    if rows is not None:
        head, old = torch.nn.Linear(32, len(rows)), model.classifier
        with torch.no_grad():
            head.weight.copy_(old.weight[rows])
            head.bias.copy_(old.bias[rows])
        model.classifier = head
    model.config.update({"id2label": id2label(names), "label2id": label2id(names)})
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    return str(folder)


PRECISIONS = set()  # of the convolutions of GPUs, as they were while the run below was scored


@pytest.fixture(scope="module")
def finished(tmp_path_factory, drawn_faces):
    """A run of two steps, as recipes end it, and a test split of which two faces stand in train as well."""
    folder = tmp_path_factory.mktemp("run")
    test = datasets.concatenate_datasets([drawn_faces["test"], drawn_faces["train"].select([3, 5])])
    tables = DatasetDict({**drawn_faces, "test": test})
    torch.manual_seed(0)
    processor = ViTImageProcessor(size={"height": 48, "width": 48}, do_convert_rgb=True)
    args = FerTrainingArguments(
        str(folder), max_steps=2, learning_rate=1e-2, per_device_train_batch_size=28, per_device_eval_batch_size=16,
        save_strategy="no", eval_strategy="no", use_cpu=True, disable_tqdm=True, report_to="none",
    )  # fmt: skip
    trainer = FerTrainer(
        model=ViTForImageClassification(tiny_vit_config()),
        args=args,
        train_dataset=tables["train"],
        eval_dataset=tables["validation"],
        data_collator=FaceCollator(processor),
        compute_metrics=classification_metrics,
        processing_class=processor,
    )
    trainer.train()
    hook = trainer.model.register_forward_hook(lambda *_: PRECISIONS.add(torch.backends.cudnn.conv.fp32_precision))
    record = finish_run(trainer, tables, "synthetic", {}, {})
    hook.remove()
    return folder, tables, record


@pytest.fixture
def run_folder(finished, tmp_path):
    """A copy of the finished run that a test may write into."""
    for file in finished[0].iterdir():
        if file.is_file():
            (tmp_path / file.name).write_bytes(file.read_bytes())
    return tmp_path


@pytest.mark.numeric
@pytest.mark.parametrize("split", ["validation", "test"])
def test_a_runs_own_report_comes_out_again_to_the_digit(finished, split):
    folder, tables, record = finished
    report = evaluate(str(folder), "synthetic", tables, EvaluationOptions(split, batch_size=16))["report"]
    own = record.results[split]
    # Means over float32 logits; all else comes from counts.
    for name in ("loss", "expected_calibration_error"):
        assert report.pop(name) == pytest.approx(own[name], abs=1e-6)
    assert {**own, **report} == own
    assert len(report) == len(own) - 2
    assert own == json.loads((folder / "classification_report.json").read_text())[split]


def test_a_run_and_its_report_are_scored_in_whole_float32_on_gpus_too(finished, monkeypatch):
    assert {"ieee"} == PRECISIONS
    seen, forward = set(), ViTForImageClassification.forward

    def noting(self, pixel_values, **kwargs):
        if len(pixel_values) > 1:  # not the one face that tries whether sizes fit
            seen.add(torch.backends.cudnn.conv.fp32_precision)
        return forward(self, pixel_values, **kwargs)

    monkeypatch.setattr(ViTForImageClassification, "forward", noting)
    evaluate(str(finished[0]), "synthetic", finished[1], EvaluationOptions(batch_size=16))
    assert seen == {"ieee"}
    assert torch.backends.cudnn.conv.fp32_precision == "tf32"  # PyTorch's default, which trains


@pytest.mark.numeric
def test_the_scores_are_those_of_the_plain_pipeline(finished):
    folder, tables, _ = finished
    report = evaluate(str(folder), "synthetic", tables, EvaluationOptions(batch_size=7))["report"]
    classify = pipeline("image-classification", model=str(folder), top_k=7)
    matrix, loss = np.zeros((7, 7), dtype=int), []
    for face in tables["test"]:
        scores = {row["label"]: row["score"] for row in classify(face["image"])}
        true = EXPRESSIONS[face["label"]]
        matrix[face["label"], EXPRESSIONS.index(max(scores, key=scores.get))] += 1
        loss.append(-np.log(scores[true]))
    assert report["confusion_matrix"] == matrix.tolist()
    assert report["loss"] == pytest.approx(np.mean(loss), abs=1e-5)


def test_a_run_says_how_it_does_without_the_faces_that_train_holds(finished):
    record = finished[2]
    test, rest = record.results["test"], record.results["test"]["without_copies"]
    assert (test["num_faces"], rest["num_faces"]) == (30, 28)
    assert "without_copies" not in record.results["validation"]
    logits, labels = load_predictions(finished[0])["test"]
    whole = expression_report(logits, labels, list(EXPRESSIONS))
    expected = headline(logits[:28].argmax(axis=1), labels[:28])
    assert rest == expected
    assert whole == {name: value for name, value in test.items() if name != "without_copies"}
    text = report_text(test, "test").splitlines()
    assert "without the 2 that train holds as well: 28 faces" in text
    assert f"accuracy             {rest['accuracy']:.4f}  " in "\n".join(text[6:])


def test_older_reports_without_intervals_are_still_shown(finished):
    report = dict(finished[2].results["test"])
    for name in ("intervals", "expected_calibration_error", "without_copies"):
        del report[name]
    lines = report_text(report, "test").splitlines()
    assert lines[1] == f"accuracy             {report['accuracy']:.4f}"
    assert len(lines) == 6 + 7 + 2


def test_soft_labels_count_as_their_largest_share():
    logits = np.array([[2.0, 1.0, 0.0], [0.0, 1.0, 2.0]])
    soft = np.array([[0.6, 0.3, 0.1], [0.1, 0.5, 0.4]])
    assert expression_report(logits, soft, list("abc")) == expression_report(logits, np.array([0, 1]), list("abc"))


# Labels


@pytest.mark.numeric
def test_labels_are_matched_by_name_whatever_their_order_and_case(tmp_path, processor, drawn_faces):
    own = evaluate(save(tmp_path / "own", processor), "synthetic", drawn_faces)
    names = ["Happiness", "neutral ", "ANGER", "Surprised", "sadness", "fearful", "Disgust"]
    rows = [3, 6, 0, 5, 4, 2, 1]
    other = evaluate(save(tmp_path / "other", processor, names, rows), "synthetic", drawn_faces)
    assert other["labels"] == own["labels"]
    assert own["labels"]["scored"] == list(EXPRESSIONS)
    # The head's product may be summed in another order: the loss agrees to rounding, all counts exactly.
    assert other["report"]["confusion_matrix"] == own["report"]["confusion_matrix"]
    assert other["report"]["loss"] == pytest.approx(own["report"]["loss"], abs=1e-6)


def test_what_a_data_set_lacks_is_dropped_from_the_model_and_said(tmp_path, processor, drawn_faces):
    model = save(tmp_path, processor, EXPRESSIONS_WITH_CONTEMPT, [0, 1, 2, 3, 4, 5, 6, 3])
    result = evaluate(model, "synthetic", drawn_faces)
    assert result["labels"] == {
        "scored": list(EXPRESSIONS), "only_in_model": ["contempt"], "only_in_dataset": [], "faces_left_out": 0,
    }  # fmt: skip
    own = evaluate(save(tmp_path / "own", processor), "synthetic", drawn_faces)
    assert result["report"]["confusion_matrix"] == own["report"]["confusion_matrix"]
    assert result["report"]["loss"] == pytest.approx(own["report"]["loss"], abs=1e-6)
    assert "the data set has no contempt" in evaluation_text(result)


def test_faces_of_what_a_model_lacks_are_left_out_and_counted(tmp_path, processor, drawn_faces):
    names, rows = ["sad", "angry", "happy"], [4, 0, 3]
    result = evaluate(save(tmp_path, processor, names, rows), "synthetic", drawn_faces)
    assert result["labels"]["scored"] == ["angry", "happy", "sad"]
    assert result["labels"]["only_in_dataset"] == ["disgust", "fear", "surprise", "neutral"]
    assert (result["labels"]["faces_left_out"], result["report"]["num_faces"]) == (16, 12)
    assert [row["support"] for row in result["report"]["per_class"].values()] == [4, 4, 4]
    assert "the model has no disgust, fear, surprise, neutral: 16 faces left out" in evaluation_text(result)


def test_matched_logits_and_labels_are_those_worked_out_by_hand():
    match = match_labels(["joy", "anger", "other"], ["angry", "fear", "happy"])
    assert (match.names, match.model_ids, match.dataset_ids) == (["angry", "happy"], [1, 0], [0, 2])
    assert (match.only_in_model, match.only_in_dataset) == (["other"], ["fear"])
    logits = np.arange(12.0).reshape(4, 3)
    scored, stay = match.apply(Predictions(logits, np.array([2, 1, 0, 2])))
    assert stay.tolist() == [True, False, True, True]
    assert scored.labels.tolist() == [1, 0, 1]
    assert scored.logits.tolist() == [[1, 0], [7, 6], [10, 9]]


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ([f"LABEL_{i}" for i in range(7)], "fewer than two are the same expression"),
        (["anger", "angry", "happy"], "The model has two labels for one expression"),
    ],
)
def test_labels_without_meaning_are_refused(names, message):
    with pytest.raises(BadInputError, match=message):
        match_labels(names, EXPRESSIONS)


# Views


class Probe(torch.nn.Module):
    """Logits that name pixels of what it is shown, and a note of the sizes."""

    device, config = torch.device("cpu"), SimpleNamespace(num_labels=3)

    def __init__(self):
        super().__init__()
        self.sizes = set()

    def forward(self, pixel_values):
        self.sizes.add(tuple(pixel_values.shape[-2:]))
        flat = pixel_values[:, 0].flatten(1)
        return ModelOutput(logits=torch.stack([flat[:, 0], flat[:, -1], flat.max(dim=1).values], dim=1))


def plain_pixels(size, **options):
    return ViTImageProcessor(
        do_convert_rgb=True, size={"height": size, "width": size}, do_normalize=False, do_rescale=True, **options
    )


@pytest.mark.numeric
def test_ten_crops_come_from_the_face_before_the_processor_crops_it(drawn_faces):
    table, probe = drawn_faces["test"].select(range(5)), Probe()
    processor = plain_pixels(48, do_center_crop=True, crop_size={"height": 40, "width": 40})
    found = score_faces(probe, processor, table, "ten_crop", batch_size=2)
    assert probe.sizes == {(40, 40)}
    for row, logits in zip(table, found.logits, strict=True):
        face = tvF.to_dtype(tvF.pil_to_tensor(row["image"].convert("RGB")), torch.float32, scale=True)
        views = torch.stack(tvF.ten_crop(face, [40, 40]))
        np.testing.assert_allclose(logits, probe(views).logits.mean(dim=0), rtol=1e-5)
    # And the other two presets see what the pipeline sees.
    for preset in ("none", "flip"):
        middle = score_faces(probe, processor, table, preset).logits
        cropped = torch.stack(
            [tvF.center_crop(tvF.pil_to_tensor(row["image"].convert("RGB")), [40, 40]) / 255 for row in table]
        )
        views = [cropped] if preset == "none" else [cropped, cropped.flip(-1)]
        np.testing.assert_allclose(middle, sum(probe(view).logits for view in views) / len(views), rtol=1e-5)


def test_without_a_crop_of_its_own_ten_crops_are_enlarged_to_the_models_size(drawn_faces):
    probe = Probe()
    score_faces(probe, plain_pixels(48), drawn_faces["test"].select(range(2)), "ten_crop")
    assert probe.sizes == {(48, 48)}


@pytest.mark.parametrize("size", [{"height": 48, "width": 60}, {"shortest_edge": 48}])
def test_faces_that_are_not_square_have_no_ten_crops_of_one_size(size):
    images = [Image.new("L", (48, 48)), Image.new("L", (60, 48))]
    wide = Dataset.from_dict({"image": images, "label": [0, 0]}).cast_column("image", datasets.Image())
    processor = ViTImageProcessor(
        do_convert_rgb=True, size=size, do_center_crop=True, crop_size={"height": 40, "width": 40}
    )
    with pytest.raises(BadInputError, match="crops of square faces, and one has 60x48"):
        score_faces(Probe(), processor, wide, "ten_crop")


# Splits


@pytest.mark.numeric
def test_several_splits_are_scored_apart_and_together(finished):
    folder, tables, _ = finished
    result = evaluate(str(folder), "synthetic", tables, EvaluationOptions("validation+test"))
    for split in ("validation", "test"):
        alone = evaluate(str(folder), "synthetic", tables, EvaluationOptions(split))
        assert result["parts"][split]["fingerprint"] == alone["fingerprint"] == content_fingerprint(tables[split])
        assert result["parts"][split]["report"].keys() == alone["report"].keys()
        assert result["parts"][split]["report"]["confusion_matrix"] == alone["report"]["confusion_matrix"]
    together = np.add(*(part["report"]["confusion_matrix"] for part in result["parts"].values()))
    assert result["report"]["confusion_matrix"] == together.tolist()
    assert result["report"]["without_copies"]["num_faces"] == 28 + 28
    titles = [line for line in evaluation_text(result).splitlines() if line.startswith("synthetic")]
    assert titles == [
        "synthetic, validation: 28 faces", "synthetic, test: 30 faces", "synthetic, validation+test: 58 faces",
    ]  # fmt: skip


def test_only_the_official_splits_stand_beside_published_figures():
    def table(counts):
        labels = [label for label, count in enumerate(counts.values()) for _ in range(count)]
        return Dataset.from_dict({"label": labels}).cast_column("label", ClassLabel(names=list(counts)))

    tables = DatasetDict({split: table(counts) for split, counts in PUBLISHED["fer2013"]["counts"].items()})
    assert comparable_with("fer2013", "validation", tables).startswith("PublicTest, 3,589 faces")
    assert comparable_with("fer2013", "test", tables).startswith("PrivateTest, 3,589 faces")
    for both in ("validation+test", "test+validation"):
        assert comparable_with("fer2013", both, tables).startswith("PublicTest and PrivateTest together, 7,178 faces")
    assert comparable_with("fer2013", "train", tables) is None
    assert comparable_with("ferplus", "test", tables) is None
    carved = DatasetDict({**tables, "test": tables["test"].select(range(3588))})
    assert comparable_with("fer2013", "test", carved) is None
    assert comparable_with("fer2013", "validation+test", carved) is None


# Subgroups


def test_subgroups_have_counts_scores_and_intervals(tmp_path, processor):
    folder = write_official(tmp_path / "rafdb")
    tables = load_dataset("rafdb", folder, cache_dir=tmp_path / "cache", validation_fraction=0)
    result = evaluate(
        save(tmp_path / "model", processor), "rafdb", tables, EvaluationOptions(subgroups=["gender", "age_group"])
    )
    groups = result["subgroups"]["gender"]
    expected = [attributes(number)[0] for number in tables["test"]["row"][:]]
    assert {name: group["num_faces"] for name, group in groups.items()} == {
        name: expected.count(code) for code, name in enumerate(("male", "female", "unsure"))
    }
    right = sum(group["num_faces"] * group["accuracy"] for group in groups.values())
    assert right == pytest.approx(result["report"]["accuracy"] * TEST)
    for group in groups.values():
        low, high = group["intervals"]["accuracy"]
        assert low <= group["accuracy"] <= high
    assert list(result["subgroups"]["age_group"]) == ["0-3", "4-19", "20-39", "40-69", "70+"]
    assert "gender" in evaluation_text(result)
    assert any(line.startswith("female ") for line in evaluation_text(result).splitlines())
    for column in ("landmarks", "row", "label", "height"):
        with pytest.raises(BadInputError, match="of which there are gender, race, age_group"):
            evaluate(str(tmp_path / "model"), "rafdb", tables, EvaluationOptions(subgroups=[column]))


def test_faces_without_a_value_are_a_group_of_their_own(tmp_path, processor, drawn_faces):
    test = drawn_faces["test"].add_column("camera", ["b"] * 10 + [None] * 8 + ["a"] * 10)
    tables = DatasetDict({"test": test})
    groups = evaluate(save(tmp_path, processor), "synthetic", tables, EvaluationOptions(subgroups=["camera"]))[
        "subgroups"
    ]["camera"]
    assert [(name, group["num_faces"]) for name, group in groups.items()] == [("a", 10), ("b", 10), ("not given", 8)]


# What is written


def test_a_run_notes_that_test_was_scored(finished):
    folder, tables, record = finished
    (entry,) = json.loads((folder / "run_record.json").read_text())["test_scored"]
    assert entry == record.test_scored[0]
    assert entry["fingerprint"] == content_fingerprint(tables["test"])
    assert {name: entry[name] for name in ("dataset", "split", "tta")} == {
        "dataset": "synthetic", "split": "test", "tta": "none",
    }  # fmt: skip


def test_each_scoring_of_test_is_noted_and_a_second_one_is_said(run_folder, finished, drawn_faces):
    tables, model = finished[1], str(run_folder)
    before = json.loads((run_folder / "run_record.json").read_text())
    path, earlier = save_evaluation(evaluate(model, "synthetic", tables, EvaluationOptions("validation")), model)
    assert path == run_folder / "evaluation" / "synthetic-validation.json"
    assert earlier == []
    assert json.loads((run_folder / "run_record.json").read_text()) == before

    result = evaluate(model, "synthetic", tables, EvaluationOptions(tta="flip"))
    path, earlier = save_evaluation(result, model)
    assert path.name == "synthetic-test-flip.json"
    assert json.loads(path.read_text()) == json.loads(json.dumps(result))
    assert earlier == before["test_scored"]
    assert "scored on these test faces once before" in evaluation_text(result, path, earlier)
    entries = json.loads((run_folder / "run_record.json").read_text())["test_scored"]
    assert [entry["tta"] for entry in entries] == ["none", "flip"]

    # Together with validation it is the same test; other tables are another test.
    both = evaluate(model, "synthetic", tables, EvaluationOptions("validation+test"))
    path, earlier = save_evaluation(both, model)
    assert path.name == "synthetic-validation+test.json"
    assert len(earlier) == 2
    assert "2 times before" in evaluation_text(both, path, earlier)
    _, earlier = save_evaluation(evaluate(model, "synthetic", drawn_faces), model)
    assert earlier == []
    record = json.loads((run_folder / "run_record.json").read_text())
    assert len({entry["fingerprint"] for entry in record["test_scored"]}) == 2
    assert {name: value for name, value in record.items() if name != "test_scored"} == {
        name: value for name, value in before.items() if name != "test_scored"
    }


def test_a_run_from_before_there_were_notes_has_scored_test_once(run_folder, finished):
    path = run_folder / "run_record.json"
    record = json.loads(path.read_text())
    old = record.pop("test_scored")
    path.write_text(json.dumps(record))
    _, earlier = save_evaluation(evaluate(str(run_folder), "synthetic", finished[1]), str(run_folder))
    assert earlier == [{**old[0], "date": record["date"]}]


def test_the_command_writes_beside_a_run_and_elsewhere_only_when_asked(tmp_path, processor, run_folder, capsys):
    model = save(tmp_path / "model", processor)
    files = set((tmp_path / "model").iterdir())
    assert main(["evaluate", "--model", model, *OPTIONS]) == 0
    assert set((tmp_path / "model").iterdir()) == files
    assert "written" not in capsys.readouterr().out
    assert main(["evaluate", "--model", model, "--output", str(tmp_path / "new" / "r.json"), *OPTIONS]) == 0
    result = json.loads((tmp_path / "new" / "r.json").read_text())
    assert result["command"].startswith("fer-hf evaluate --model DIR --output DIR --dataset_options '{")
    assert (result["model"], result["versions"]["fer_hf"]) == ("model", result["fer_hf_version"])
    assert str(tmp_path) not in json.dumps(result)
    first = ["--split", "validation", "--max_eval_samples", "7"]
    assert main(["evaluate", "--model", str(run_folder), *first, *OPTIONS]) == 0
    assert "synthetic, validation: 7 faces, a sample of the split (max_eval_samples)" in capsys.readouterr().out
    sample = json.loads((run_folder / "evaluation" / "synthetic-validation-sample.json").read_text())
    assert sample["report"]["max_eval_samples"] == 7
    assert main(["evaluate", "--model", str(run_folder), "--split", "validation", *OPTIONS]) == 0
    assert (run_folder / "evaluation" / "synthetic-validation.json").is_file()


def test_damaged_faces_are_scored_in_every_severity(tmp_path, processor, drawn_faces):
    tables = DatasetDict({"test": drawn_faces["test"].select(range(7))})
    result = evaluate(save(tmp_path, processor), "synthetic", tables, EvaluationOptions(robustness=True))
    table = result["robustness"]
    assert table["clean"] == result["report"]["accuracy"]
    assert {kind: len(rows) for kind, rows in table["corruptions"].items()} == dict.fromkeys(
        ("blur", "noise", "low_light", "rotation", "jpeg"), 5
    )
    assert json.loads(json.dumps(table)) == table
    assert "accuracy at severity" in evaluation_text(result)


def test_faces_without_labels_cannot_be_scored(tmp_path, processor, drawn_faces):
    unlabelled = drawn_faces["test"].map(lambda face: {"label": -1}, features=drawn_faces["test"].features)
    with pytest.raises(BadInputError, match="28 of 28 faces have no label"):
        evaluate(save(tmp_path, processor), "synthetic", DatasetDict({"test": unlabelled}))
