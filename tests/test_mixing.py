"""Mixed batches: torchvision's definitions, soft labels, and the same again after a restart."""

import pytest
import torch
from conftest import tiny_vit_config
from torch.utils.data import DataLoader
from torchvision.transforms import v2
from transformers import ViTForImageClassification

from fer_hf.data.collator import FaceCollator
from fer_hf.data.mixing import MixingCollator, cutmix, distributions, mixup
from fer_hf.data.training_set import training_faces
from fer_hf.errors import BadInputError
from fer_hf.losses import ExpressionLoss
from fer_hf.metrics import classification_metrics
from fer_hf.training import FerTrainer, FerTrainingArguments


pytestmark = pytest.mark.numeric


class Given:
    """Stands in for torchvision's Beta distribution."""

    def __init__(self, share):
        self.share = share

    def sample(self, shape):
        return torch.tensor(self.share)


def a_batch(count=4, height=10, width=12):
    return torch.rand(count, 3, height, width), torch.tensor([0, 3, 6, 3])[:count]


def drawn_batch(rows, epoch=0, side=12):
    """As from the fast path; every face is flat, at ten times its row."""
    rows = torch.tensor(rows)
    return {
        "pixel_values": (10 * rows % 256).to(torch.uint8)[:, None, None, None].repeat(1, 1, side, side),
        "labels": rows % 7,
        "drawn": torch.stack([torch.full_like(rows, epoch), rows], dim=1),
    }


def same(one, other):
    return one.keys() == other.keys() and all(torch.equal(one[key], other[key]) for key in one)


@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_mixup_is_torchvisions(share):
    faces, labels = a_batch()
    reference = v2.MixUp(num_classes=7)
    reference._dist = Given(share)
    ours = mixup(faces, distributions(labels, 7), share)
    for mine, theirs in zip(ours, reference(faces, labels), strict=True):
        torch.testing.assert_close(mine, theirs)


@pytest.mark.parametrize("share", [0.0, 0.3, 0.97, 1.0])
@pytest.mark.parametrize("center", [(0, 0), (5, 6), (9, 11), (2, 10)])
def test_cutmix_is_torchvisions(monkeypatch, share, center):
    faces, labels = a_batch()
    reference = v2.CutMix(num_classes=7)
    reference._dist = Given(share)
    monkeypatch.setattr(torch, "randint", lambda side, size: torch.tensor([{10: center[0], 12: center[1]}[side]]))
    ours = cutmix(faces, distributions(labels, 7), share, center)
    for mine, theirs in zip(ours, reference(faces, labels), strict=True):
        torch.testing.assert_close(mine, theirs)


def test_a_box_is_what_it_is_by_hand():
    # Half of sqrt(1 - 0.75) of 12 pixels is 3 either way; at the corner a quarter of the box remains: 9 of 144 pixels.
    faces = torch.tensor([0.0, 1.0])[:, None, None, None].repeat(1, 1, 12, 12)
    labels = torch.eye(2)
    for center, rows, area in (((6, 6), slice(3, 9), 36), ((0, 0), slice(0, 3), 9)):
        pasted, soft = cutmix(faces, labels, 0.75, center)
        assert pasted[0].sum() == pasted[0, 0, rows, rows].sum() == area
        torch.testing.assert_close(soft, torch.tensor([[144 - area, area], [area, 144 - area]]) / 144)


def test_bytes_are_blended_like_numbers_and_rounded():
    faces = torch.tensor([0, 101, 255], dtype=torch.uint8)[:, None, None, None]
    blended, soft = mixup(faces, torch.eye(3), 0.75)
    # 0 with 255, 101 with 0, 255 with 101: 63.75, 75.75, 216.5 (to even).
    assert blended.dtype == torch.uint8
    assert blended.flatten().tolist() == [64, 76, 216]
    assert soft.tolist() == [[0.75, 0, 0.25], [0.25, 0.75, 0], [0, 0.25, 0.75]]


def test_class_ids_and_votes_become_distributions():
    assert distributions(torch.tensor([1, 0]), 3).tolist() == [[0, 1, 0], [1, 0, 0]]
    votes = torch.tensor([[0.5, 0.25, 0.25]])
    assert torch.equal(distributions(votes, 3), votes)


ALPHAS = {
    "neither": {},
    "mixup": {"mixup_alpha": 0.2},
    "CutMix": {"cutmix_alpha": 1.0},
    "both": {"mixup_alpha": 0.4, "cutmix_alpha": 0.5},
}


@pytest.mark.parametrize("kind", ALPHAS)
def test_rows_of_labels_sum_to_one(kind):
    collate = MixingCollator(FaceCollator(None), 7, **ALPHAS[kind])
    for epoch in range(20):
        batch = collate(drawn_batch([3, 1, 4, 1, 5, 9, 2, 6], epoch))
        assert batch.keys() == {"pixel_values", "labels"}
        assert batch["pixel_values"].dtype == torch.uint8
        assert batch["labels"].shape == (8, 7)
        assert batch["labels"].dtype == torch.float32
        assert (batch["labels"] >= 0).all()
        torch.testing.assert_close(batch["labels"].sum(dim=1), torch.ones(8))


@pytest.mark.parametrize("kind", ["mixup", "CutMix", "both"])
def test_labels_tell_how_much_of_each_face_is_in_the_mixture(kind):
    rows = [1, 6]
    levels = torch.tensor([10.0, 60.0])
    collate = MixingCollator(FaceCollator(None), 7, **ALPHAS[kind])
    for epoch in range(20):
        batch = collate(drawn_batch(rows, epoch))
        expected = batch["labels"][:, rows] @ levels
        torch.testing.assert_close(batch["pixel_values"].float().mean(dim=(1, 2, 3)), expected, atol=0.5, rtol=0)


def test_with_both_about_every_other_batch_is_blended():
    collate = MixingCollator(FaceCollator(None), 7, mixup_alpha=1.0, cutmix_alpha=1.0)
    # A pasted face has no gray levels but those of the two; a blended one hardly ever.
    blended = [
        not torch.isin(collate(drawn_batch([0, 25], epoch))["pixel_values"], torch.tensor([0, 250])).all()
        for epoch in range(200)
    ]
    assert 75 < sum(blended) < 125


def test_shares_follow_the_beta_distribution():
    for alpha in (0.2, 5.0):
        collate = MixingCollator(FaceCollator(None), 7, mixup_alpha=alpha)
        shares = torch.stack([collate(drawn_batch([0, 1], epoch))["labels"][0, 0] for epoch in range(500)])
        assert shares.mean().item() == pytest.approx(0.5, abs=0.06)
        assert shares.var().item() == pytest.approx(1 / (4 * (2 * alpha + 1)), rel=0.2)


def test_what_is_drawn_depends_on_seed_epoch_and_rows_alone():
    def mixed(rows, epoch=0, seed=0):
        torch.manual_seed(torch.seed())  # what the surroundings draw must not matter
        collate = MixingCollator(FaceCollator(None), 7, mixup_alpha=1.0, seed=seed)
        return collate(drawn_batch(rows, epoch))

    first = mixed([0, 1, 2])
    assert same(first, mixed([0, 1, 2]))
    others = (mixed([0, 1, 2], epoch=1), mixed([0, 1, 2], seed=1), mixed([0, 1, 2], seed=-1), mixed([0, 1, 2 + 70]))
    for other in others:  # 72 is another face of the same class as 2
        assert not torch.equal(first["labels"], other["labels"])


@pytest.mark.parametrize("path", ["fast", "plain"])
def test_workers_mix_as_one_process_does_and_epochs_differ(drawn_faces, processor, path):
    faces = training_faces(drawn_faces["train"], processor, "fer48", path)
    collate = MixingCollator(FaceCollator(processor), 7, mixup_alpha=0.4, cutmix_alpha=1.0, seed=3)

    def epoch(number, workers):
        faces.set_epoch(number)
        return list(DataLoader(faces, batch_size=16, collate_fn=collate, num_workers=workers))

    alone, helped, later = epoch(1, 0), epoch(1, 1), epoch(2, 0)
    assert [tuple(batch["labels"].shape) for batch in alone] == [(16, 7)] * 3 + [(8, 7)]
    assert all(same(one, other) for one, other in zip(alone, helped, strict=True))
    assert not any(same(one, other) for one, other in zip(alone, later, strict=True))


def test_other_batches_are_passed_on_as_they_are(drawn_faces, processor):
    inner = FaceCollator(processor)
    collate = MixingCollator(inner, 7, mixup_alpha=1.0)
    examples = [drawn_faces["validation"][row] for row in range(4)]
    assert same(collate(examples), inner(examples))


def test_numbers_out_of_range_are_refused():
    wrong = [
        {"mixup_alpha": -1},
        {"cutmix_alpha": float("inf")},
        {"mixup_alpha": float("nan")},
    ]
    for options in wrong:
        with pytest.raises(BadInputError, match=next(iter(options))):
            MixingCollator(FaceCollator(None), 7, **options)
    for labels in (torch.rand(4), torch.rand(4, 5)):
        with pytest.raises(BadInputError, match="labels"):
            distributions(labels, 7)


def trained(drawn_faces, processor, folder, collator, resume=None, **flags):
    """Weights after two epochs of 7 steps, and the trainer."""
    torch.manual_seed(0)
    flags = {"num_train_epochs": 2, "learning_rate": 1e-2, "disable_tqdm": True, "use_cpu": True, **flags}
    trainer = FerTrainer(
        model=ViTForImageClassification(tiny_vit_config()),
        args=FerTrainingArguments(output_dir=str(folder), optim="sgd", load_best_model_at_end=False, **flags),
        train_dataset=training_faces(drawn_faces["train"], processor, "flip", "fast"),
        eval_dataset=drawn_faces["validation"],
        data_collator=collator,
        compute_loss_func=ExpressionLoss(),
        compute_metrics=classification_metrics,
        processing_class=processor,
    )
    trainer.train(resume_from_checkpoint=resume)
    return {name: value.clone() for name, value in trainer.model.state_dict().items()}, trainer


def test_a_resumed_run_mixes_as_an_uninterrupted_one(drawn_faces, processor, tmp_path):
    collate = MixingCollator(FaceCollator(processor), 7, mixup_alpha=0.4, cutmix_alpha=1.0)
    flags = {"per_device_train_batch_size": 8, "save_steps": 10}
    flags |= {"save_strategy": "steps", "save_total_limit": None}
    whole, _ = trained(drawn_faces, processor, tmp_path / "a", collate, **flags)
    resume = str(tmp_path / "a" / "checkpoint-10")
    again, trainer = trained(drawn_faces, processor, tmp_path / "b", collate, resume, **flags)
    assert trainer.state.global_step == 14
    assert all(torch.equal(whole[name], again[name]) for name in whole)
    logged = {key: value for entry in trainer.state.log_history for key, value in entry.items()}
    assert 1.5 < logged["loss"] < 2.5  # nats per face, near log 7
    assert 1.5 < logged["eval_loss"] < 2.5  # of whole faces: evaluation mixes nothing
    assert 0 <= logged["eval_accuracy"] <= 1
