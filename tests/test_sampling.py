"""How faces are drawn: by seed and epoch alone, by class, and the same over several processes."""

import io

import datasets
import numpy as np
import pytest
import torch
from accelerate.data_loader import BatchSamplerShard
from PIL import Image
from torch.utils.data import BatchSampler

from fer_hf.cli.arguments import DataArguments
from fer_hf.data.sampling import (
    SAMPLERS,
    ClassBalancedSampler,
    EpochSampler,
    effective_number_weights,
    epoch_sampler,
    inverse_frequency_weights,
    oversample,
)
from fer_hf.data.training_set import training_faces
from fer_hf.errors import BadInputError
from fer_hf.losses import class_weights


def test_an_epochs_order_depends_on_seed_and_epoch_alone():
    sampler = EpochSampler(50, seed=3)
    first = list(sampler)
    assert sorted(first) == list(range(50))
    torch.rand(7)
    assert list(sampler) == first
    sampler.set_epoch(1)
    assert list(sampler) != first
    assert list(EpochSampler(50, seed=4)) != first


def test_inverse_frequency_weights_draw_every_class_equally_often():
    labels = torch.tensor([0] * 90 + [1] * 9 + [2])
    weights = inverse_frequency_weights(labels)
    assert weights[0] == pytest.approx(1 / 90)
    many = torch.cat([labels[list(_at(EpochSampler(100, 0, weights), epoch))] for epoch in range(60)])
    assert torch.bincount(many) / len(many) == pytest.approx([1 / 3] * 3, abs=0.02)


def _at(sampler, epoch):
    sampler.set_epoch(epoch)
    return sampler


def test_an_unknown_sampler_is_refused(drawn_faces):
    with pytest.raises(BadInputError, match=r"`sampler` must be one of none, .* got 'balanced'"):
        epoch_sampler("balanced", drawn_faces["train"], 0)


def test_effective_numbers_are_those_of_the_paper():
    labels = torch.tensor([0] * 90 + [1] * 9 + [2])
    weights = effective_number_weights(labels, beta=0.9)
    # E_n = (1 - 0.9^n) / 0.1 for n = 90, 9, 1
    assert weights[0] == pytest.approx(1 / (10 * (1 - 0.9**90)))
    assert weights[95] == pytest.approx(1 / 6.12579511)
    assert weights[99] == pytest.approx(1.0)
    assert torch.equal(effective_number_weights(labels, beta=0.0), torch.ones(100).double())
    near = effective_number_weights(labels, beta=1 - 1e-9)
    assert near / near[99] == pytest.approx((inverse_frequency_weights(labels)).numpy(), rel=1e-5)
    with pytest.raises(BadInputError, match=r"`beta` must be in \[0, 1\), got 1"):
        effective_number_weights(labels, beta=1)


def test_class_balanced_gives_every_class_its_share_in_every_epoch():
    labels = torch.tensor([0] * 90 + [1] * 9 + [2])
    sampler = ClassBalancedSampler(labels, seed=0)
    for epoch in range(5):
        drawn = torch.tensor(list(_at(sampler, epoch)))
        assert len(drawn) == 100
        assert sorted(torch.bincount(labels[drawn]).tolist()) == [33, 33, 34]
        each = torch.bincount(drawn, minlength=100)
        assert each[:90].max() == 1
        assert each[90:99].min() >= 3
        assert each[90:99].max() <= 4


def test_a_face_drawn_again_is_numbered():
    labels = torch.tensor([0] * 8 + [1] * 2)
    numbered = list(EpochSampler(10, 0, inverse_frequency_weights(labels), number_repeats=True))
    plain = list(EpochSampler(10, 0, inverse_frequency_weights(labels)))
    assert [draw % 10 for draw in numbered] == plain
    assert len(set(numbered)) == 10
    for row in set(plain):
        assert [draw // 10 for draw in numbered if draw % 10 == row] == list(range(plain.count(row)))


@pytest.mark.parametrize("sampler", SAMPLERS)
@pytest.mark.parametrize("processes", [2, 3])
@pytest.mark.parametrize("numbered", [False, True])
def test_processes_together_draw_what_one_would(drawn_faces, processor, sampler, processes, numbered):
    # Each process builds its own sampler; accelerate then deals out the batches.
    dataset = training_faces(drawn_faces["train"], processor) if numbered else drawn_faces["train"]

    def batches():
        order = epoch_sampler(sampler, dataset, seed=3)
        torch.rand(int(torch.randint(9, ())))
        return BatchSampler(_at(order, 2), batch_size=4, drop_last=False)

    one = list(batches())
    shards = [list(BatchSamplerShard(batches(), processes, index)) for index in range(processes)]
    dealt = [shard[step] for step in range(len(shards[0])) for shard in shards]
    assert dealt[: len(one)] == one
    # 14 batches do not divide by 3: accelerate fills up from the beginning.
    assert len(dealt) - len(one) == -len(one) % processes


def test_class_weights():
    labels = torch.tensor([0] * 6 + [1] * 3 + [2])
    names = ["angry", "disgust", "fear"]
    assert class_weights("none", labels, names) is None
    auto = class_weights("auto", labels, names)
    assert auto.tolist() == pytest.approx([10 / 18, 10 / 9, 10 / 3])
    assert auto[labels].mean() == pytest.approx(1.0)
    assert class_weights({"fear": 2}, labels, names).tolist() == [1, 1, 2]
    assert class_weights('{"fear": 0.5, "angry": 0}', labels, names).tolist() == [0, 1, 0.5]


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ("balanced", "must be auto, none or a map"),
        ("[1, 2]", "must be auto, none or a map"),
        ({"sad": 1}, "names 'sad'; the expressions are angry, disgust, fear"),
        ({"fear": -1}, "of fear must be a number of at least 0, got -1"),
        ({"fear": "2"}, "of fear must be a number"),
        ({"fear": float("nan")}, "of fear must be a number"),
    ],
)
def test_bad_class_weights_are_one_clear_line(weights, message):
    with pytest.raises(BadInputError, match=message):
        class_weights(weights, torch.tensor([0, 1, 2]), ["angry", "disgust", "fear"])


def test_automatic_class_weights_need_a_face_of_every_class():
    with pytest.raises(BadInputError, match="have none of fear"):
        class_weights("auto", torch.tensor([0, 1]), ["angry", "disgust", "fear"])


def test_oversampling_mirrors_then_rotates_one_class(drawn_faces):
    faces = drawn_faces["train"]
    count = faces["label"][:].count(1)
    larger = oversample(faces, "disgust")
    assert len(larger) == len(faces) + 3 * count
    assert larger["made"][:] == [False] * len(faces) + [True] * (3 * count)
    assert set(larger["label"][len(faces) :]) == {1}
    assert larger["row"][: len(faces)] == faces["row"][:]
    rows = [row for row, label in enumerate(faces["label"][:]) if label == 1]
    assert larger["row"][len(faces) :] == [faces["row"][row] for row in rows] * 3
    first = np.asarray(faces[rows[0]]["image"])
    assert np.array_equal(np.asarray(larger[len(faces)]["image"]), first[:, ::-1])
    turned = np.asarray(larger[len(faces) + count]["image"]).astype(int)
    assert turned.shape == first.shape
    assert 0 < np.abs(turned - first)[12:-12, 12:-12].mean() < 40
    again = oversample(faces, "disgust")
    assert all(np.array_equal(a, b) for a, b in zip(larger["image"], again["image"], strict=True))


def test_oversampling_gives_the_counts_of_the_report_and_its_log_says_so(drawn_faces, caplog):
    caplog.set_level("INFO", "fer_hf.data")
    # 80 % of FER-2013's train.csv: 349 disgusted faces of 22,967 become 1,396 of 24,014.
    features = drawn_faces["train"].features
    black = io.BytesIO()
    Image.new("L", (2, 2)).save(black, "PNG")
    labels = [1] * 349 + [3] * (22_967 - 349)
    columns = {"image": [{"bytes": black.getvalue(), "path": None}] * 22_967, "label": labels, "row": range(22_967)}
    larger = oversample(datasets.Dataset.from_dict(columns, features=features), "disgust")
    assert (len(larger), larger["label"][:].count(1), sum(larger["made"][:])) == (24_014, 1_396, 1_047)
    assert "disgust: 349 -> 1,396 faces; training faces: 22,967 -> 24,014" in caplog.text


def test_oversampling_is_a_flag(tmp_path):
    options = {"train": 28, "validation": 7, "test": 7, "cache_dir": str(tmp_path)}
    arguments = DataArguments("synthetic", dataset_options=options, oversample="disgust")
    faces = arguments.load()
    assert faces["train"]["label"][:].count(1) == 16
    assert (len(faces["train"]), len(faces["test"])) == (40, 7)
    arguments.oversample = "disgusted"
    with pytest.raises(BadInputError, match="`oversample` needs an expression of the training faces, got 'disgusted'"):
        arguments.load()
