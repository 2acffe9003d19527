"""Distillation: labels mixed with what teachers say, by hand and by law; who is asked, what is kept, and refusals."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import tiny_vit_config
from helpers import arguments, call_recipe, draw_no_pictures
from test_ferplus import write
from transformers import ViTForImageClassification, ViTImageProcessor
from transformers.utils import ModelOutput

from fer_hf.cli import distillation
from fer_hf.cli.arguments import DataArguments, LossArguments, ModelArguments
from fer_hf.cli.distillation import with_teachers
from fer_hf.data import load_dataset
from fer_hf.errors import BadInputError
from fer_hf.evaluation.scoring import score_faces
from fer_hf.labels import EXPRESSIONS
from fer_hf.losses import ExpressionLoss, distilled
from fer_hf.models.loading import load_trained_classifier


TRAIN = Path(__file__).parent.parent / "recipes" / "train.py"
LN3 = math.log(3)


def test_a_label_and_its_loss_worked_out_by_hand():
    labels, scores = torch.eye(2), torch.tensor([[[0.0, LN3], [5.0, 5.0]]])  # shares 1/4 and 3/4, then halves
    mixed = distilled(labels, scores, alpha=0.4, temperature=1)
    torch.testing.assert_close(mixed, torch.tensor([[0.7, 0.3], [0.2, 0.8]]))
    logits = torch.tensor([[math.log(4), 0.0], [0.0, 0.0]])  # the student: 4/5 and 1/5, then halves
    loss = ExpressionLoss()(ModelOutput(logits=logits), mixed)
    assert loss.item() == pytest.approx((-0.7 * math.log(0.8) - 0.3 * math.log(0.2) + math.log(2)) / 2)
    # What Hinton et al. write: the cross-entropy against labels and that against the teacher, weighed.
    parts = [ExpressionLoss()(ModelOutput(logits=logits), target) for target in (labels, scores[0].softmax(dim=-1))]
    torch.testing.assert_close(loss, 0.6 * parts[0] + 0.4 * parts[1])


def test_the_law_of_temperature():
    labels, scores = torch.eye(3), torch.randn(2, 3, 3)

    def at(temperature, scores=scores):
        return distilled(labels, scores, alpha=1, temperature=temperature)

    torch.testing.assert_close(at(2, 2 * scores), at(1))  # it is the unit of the scores
    torch.testing.assert_close(distilled(labels, torch.tensor([[[0.0, LN3, LN3]] * 3]), 1, 0.5)[0],
                               torch.tensor([1.0, 9.0, 9.0]) / 19)  # fmt: skip
    torch.testing.assert_close(at(1e6), torch.full((3, 3), 1 / 3), atol=1e-5, rtol=0)  # hot teachers know nothing
    winners = torch.nn.functional.one_hot(scores.argmax(dim=-1), 3).float().mean(dim=0)
    torch.testing.assert_close(at(1e-6), winners)  # cold ones vote


def test_teachers_count_alike_and_who_says_nothing_counts_for_nothing():
    labels = torch.eye(2)[[0, 0, 0]]
    nothing = [math.nan, math.nan]
    one, two = [[0.0, LN3], nothing, nothing], [[0.0, 0.0], [-math.inf, 0.0], nothing]
    mixed = distilled(labels, torch.tensor([one, two]), alpha=0.5, temperature=1)
    expected = [[0.5 + 0.5 * (1 / 4 + 1 / 2) / 2, 0.5 * (3 / 4 + 1 / 2) / 2], [0.5, 0.5], [1.0, 0.0]]
    torch.testing.assert_close(mixed, torch.tensor(expected))


def ask(table, folder, data=None, loss=None, **flags):
    data = data or DataArguments(dataset_name="synthetic")
    loss = LossArguments(loss=loss, distill_alpha=1.0, **flags)
    table = with_teachers(table, loss, data, ModelArguments(architecture="compact-cnn"), arguments(folder))
    return torch.tensor(table[loss.label_column][:])


def test_a_model_is_asked_once_of_each_face_and_its_mirror_image(
    drawn_faces, classifier_folder, tmp_path, monkeypatch
):
    table, state = drawn_faces["train"], torch.get_rng_state()
    cache = Path(distillation.datasets.config.HF_DATASETS_CACHE, "fer_hf_teachers")
    before = set(cache.glob("*"))  # of other tests
    labels = ask(table, tmp_path, teacher=[classifier_folder], distill_temperature=2.0)
    assert torch.equal(torch.get_rng_state(), state)
    model, processor = load_trained_classifier(classifier_folder)
    expected = score_faces(model, processor, table, tta="flip").logits
    torch.testing.assert_close(labels, torch.from_numpy(expected / 2).softmax(dim=-1))

    (kept,) = set(cache.iterdir()) - before
    content = kept.read_bytes()
    kept.write_bytes(content[:-40])  # as another program may leave it
    assert torch.equal(ask(table, tmp_path, teacher=[classifier_folder], distill_temperature=2.0), labels)
    assert kept.read_bytes() == content
    asked = []
    monkeypatch.setattr(distillation, "score_faces", lambda *args, **kwargs: asked.append(args) or score_faces(*args))
    assert torch.equal(ask(table, tmp_path, teacher=[classifier_folder], distill_temperature=2.0), labels)
    assert not asked
    ask(table.select(range(9)), tmp_path, teacher=[classifier_folder])  # other faces
    assert len(asked) == 1


def teacher(folder, *names):
    torch.manual_seed(3)
    config = tiny_vit_config(id2label=dict(enumerate(names)), label2id={name: i for i, name in enumerate(names)})
    model = ViTForImageClassification(config)
    torch.nn.init.normal_(model.classifier.weight, std=1.0)
    model.save_pretrained(folder)
    ViTImageProcessor(size={"height": 48, "width": 48}, do_convert_rgb=True).save_pretrained(folder)
    return str(folder)


def test_labels_are_matched_by_name_and_what_the_faces_lack_is_left_out(drawn_faces, tmp_path):
    table = drawn_faces["train"].select(range(9))
    given = ("Contempt", "neutral", "surprised", "SAD", "happiness", "fear", "disgust", "anger")
    labels = ask(table, tmp_path, teacher=[teacher(tmp_path / "teacher", *given)])
    logits = score_faces(*load_trained_classifier(str(tmp_path / "teacher")), table, tta="flip").logits
    torch.testing.assert_close(
        labels, torch.from_numpy(logits[:, 1:][:, ::-1][:, [0, 1, 2, 3, 4, 5, 6]].copy()).softmax(-1)
    )


def test_a_teacher_that_lacks_an_expression_is_refused(drawn_faces, tmp_path):
    path = teacher(tmp_path / "teacher", *EXPRESSIONS[:5], "contempt")
    with pytest.raises(BadInputError, match=r"`teacher` .*teacher knows nothing of surprise, neutral, which the"):
        ask(drawn_faces["train"], tmp_path, teacher=[path])


def test_votes_of_ferplus_are_joined_by_row_and_faces_without_any_keep_their_label(tmp_path):
    folder = write(tmp_path / "data")
    table = load_dataset("fer2013", folder, cache_dir=tmp_path, layout="csv")["train"]
    table = table.select([3, 1, 0])
    labels = ask(table, tmp_path, DataArguments(dataset_name="fer2013", data_dir=str(folder)), teacher=["ferplus"])
    # Row 3 is unknown to FER+, and is labelled angry; of row 1's ten votes one is for contempt; row 0 has 6 and 4.
    expected = np.array([[1, 0, 0, 0, 0, 0, 0], [3 / 9, 1 / 9, 0, 0, 1 / 9, 0, 4 / 9], [0.4, 0, 0, 0, 0, 0, 0.6]])
    np.testing.assert_allclose(labels, expected, rtol=1e-6)
    with pytest.raises(BadInputError, match="`teacher` ferplus knows the faces of `dataset_name` fer2013, got synth"):
        ask(table, tmp_path, teacher=["ferplus"])


def test_votes_may_be_the_labels_that_a_teacher_is_mixed_with(tmp_path, classifier_folder):
    folder = write(tmp_path / "data")
    options = {"target": "distribution", "exclude": ["contempt"]}
    table = load_dataset("ferplus", folder, cache_dir=tmp_path, **options)["train"]
    loss = LossArguments(loss="soft_cross_entropy", teacher=classifier_folder, distill_alpha=0.25)
    flags = DataArguments(dataset_name="ferplus"), ModelArguments(architecture="vgg"), arguments(tmp_path)
    mixed = np.array(with_teachers(table, loss, *flags)["distilled_label"][:])
    said = ask(table, tmp_path, teacher=[classifier_folder]).numpy()
    np.testing.assert_allclose(mixed, 0.75 * np.array(table["soft_label"][:]) + 0.25 * said, atol=1e-6)


def test_faces_without_votes_are_refused_before_a_teacher_is_asked(drawn_faces, tmp_path):
    with pytest.raises(BadInputError, match="`loss` soft_cross_entropy needs faces with annotators' votes"):
        ask(drawn_faces["train"], tmp_path, loss="soft_cross_entropy", teacher=["nowhere"])


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ({"teacher": ["m"], "distill_alpha": 1.5}, r"`distill_alpha` must be in \[0, 1\], got 1.5"),
        ({"teacher": ["m"], "distill_temperature": 0.0}, "`distill_temperature` must be above 0, got 0"),
        ({"distill_alpha": 0.3}, "`distill_alpha` 0.3 goes with `teacher`"),
        ({"distill_temperature": 2.0}, "`distill_temperature` 2 goes with `teacher`"),
    ],
)
def test_flags_that_make_no_sense_are_refused(flags, message):
    with pytest.raises(BadInputError, match=message):
        LossArguments(**flags)


def test_a_share_of_0_is_plain_training_to_the_bit_and_another_is_in_record_and_card(
    tmp_path, classifier_folder, monkeypatch
):
    draw_no_pictures(monkeypatch)
    common = (
        "--architecture", "compact-cnn", "--config_overrides",
        '{"image_size": 24, "widths": [8, 8, 16], "depths": [1, 1]}', "--dataset", "synthetic", "--dataset_options",
        '{"train": 21, "validation": 7, "test": 7}', "--num_train_epochs", 1, "--augmentation", "flip",
    )  # fmt: skip
    runs = {
        "plain": (),
        "none": ("--teacher", classifier_folder, "--distill_alpha", 0),
        "half": ("--teacher", classifier_folder),
        "again": ("--teacher", classifier_folder, "--mixup_alpha", 0.2),
    }
    weights, records = {}, {}
    for name, flags in runs.items():
        call_recipe(monkeypatch, TRAIN, *common, *flags, "--output_dir", tmp_path / name)
        weights[name] = (tmp_path / name / "model.safetensors").read_bytes()
        records[name] = json.loads((tmp_path / name / "run_record.json").read_text())
    assert weights["none"] == weights["plain"] != weights["half"] != weights["again"]
    assert not [key for key in records["none"]["training"] if "teacher" in key or "distill" in key]
    training = records["half"]["training"]
    folder = Path(classifier_folder).name
    assert (training["teacher"], training["distill_alpha"], training["distill_temperature"]) == ([folder], 0.5, 1.0)
    card = (tmp_path / "half" / "README.md").read_text()
    assert f"not trained on the labels of the data set alone: 0.5 of each is what {folder}" in card
    assert classifier_folder not in card
    assert "data set alone" not in (tmp_path / "none" / "README.md").read_text()
