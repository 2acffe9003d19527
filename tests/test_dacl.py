"""DACL: its network to the digit, its loss, and centers that move by the paper's rule, once per optimizer step."""

import pytest
import torch
from huggingface_hub.errors import StrictDataclassClassValidationError
from learning import accuracy, drawn_batch, train
from torch import nn
from torch.multiprocessing import start_processes
from torch.nn.functional import cross_entropy, one_hot
from torchvision import models
from transformers import (
    AutoModelForImageClassification,
    ViTImageProcessor,
)

from fer_hf.data.collator import FaceCollator
from fer_hf.labels import id2label, label2id
from fer_hf.metrics import classification_metrics
from fer_hf.models import build
from fer_hf.models.networks.configuration_dacl import DACLConfig
from fer_hf.models.networks.modeling_dacl import DACLForImageClassification, DACLModel, SparseCenterLoss
from fer_hf.models.zoo import ARCHITECTURES, architecture_config, image_processor
from fer_hf.training import FerTrainer, FerTrainingArguments


def small(**changes) -> DACLForImageClassification:
    """32-pixel faces, so that the last map has one position, and a narrow attention network."""
    fields = {
        "image_size": 32,
        "num_channels": 1,
        "attention_hidden_sizes": (32, 16, 8),
        "id2label": id2label(),
        "label2id": label2id(),
    }
    return DACLForImageClassification(DACLConfig(**{**fields, **changes}))


def rest_batch_norms(model):
    """Train mode without batch statistics, so that a batch is the sum of its pieces."""
    for module in model.train().modules():
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
            module.eval()
    return model


@pytest.fixture(scope="module")
def faces():
    generator = torch.Generator().manual_seed(1)
    return torch.randn(8, 1, 32, 32, generator=generator), torch.tensor([0, 3, 3, 6, 0, 3, 1, 2])


# The network


@pytest.mark.parametrize(
    ("fields", "parameters"),
    [
        ({}, 103_042_311),
        ({"image_size": 200}, 103_042_311),
        ({"image_size": 112}, 42_487_047),
        ({"image_size": 64}, 20_466_951),
        ({"image_size": 48}, 20_466_951),
        ({"mode": "center"}, 11_176_512 + 3_591),
        ({"mode": "softmax"}, 11_176_512 + 3_591),
    ],
)
def test_parameters_are_the_papers_to_the_digit_and_centers_are_none_of_them(fields, parameters):
    with torch.device("meta"):
        model = build("dacl", **fields)
    assert model.num_parameters() == parameters
    assert dict(model.named_buffers()).get("center_loss.centers") is not None or fields.get("mode") == "softmax"


@pytest.mark.parametrize(
    ("size", "side", "millions"), [(48, 6, 79.18), (44, 6, 79.18), (40, 5, 58.99), (64, 8, 130.56)]
)
def test_the_first_attention_layer_follows_the_map_of_the_small_stem(size, side, millions):
    with torch.device("meta"):
        model = build("dacl", image_size=size, stem="small", num_channels=1)
        outputs = model.eval()(torch.empty(1, 1, size, size), output_hidden_states=True)
    assert model.attention.layers[0].in_features == 512 * side**2
    assert outputs.hidden_states[-1].shape[-2:] == (side, side)
    assert round(model.num_parameters() / 1e6, 2) == millions
    assert model.backbone.num_parameters() == 11_167_680


@pytest.mark.parametrize(("network", "features"), [("resnet34", 512), ("resnet50", 2048)])
def test_deeper_networks_have_an_attention_weight_for_each_feature(network, features):
    with torch.device("meta"):
        outputs = build("dacl-48", network=network).eval()(torch.empty(2, 3, 48, 48))
    assert outputs.features.shape == outputs.attention_weights.shape == (2, features)


def test_the_224_pixel_network_has_the_papers_shape_at_every_stage():
    with torch.device("meta"):
        model = build("dacl").eval()
    shapes = []
    for layer in (*model.attention.layers, model.attention.heads):
        layer.register_forward_hook(lambda _, inputs, output: shapes.append((*inputs[0].shape, output.shape[-1])))
    outputs = model(torch.empty(2, 3, 224, 224, device="meta"), output_hidden_states=True)
    assert [tuple(maps.shape[1:]) for maps in outputs.hidden_states] == [
        (64, 56, 56), (64, 56, 56), (128, 28, 28), (256, 14, 14), (512, 7, 7),
    ]  # fmt: skip
    widths = [(25_088, 3584), (3584, 3584), (3584, 3584), (3584, 512), (512, 512), (512, 512), (512, 64), (64, 64)]
    assert shapes == [(2, *pair) for pair in (*widths, (64, 64), (64, 1024))]
    kinds = [
        nn.Linear,
        nn.BatchNorm1d,
        nn.ReLU,
        nn.Linear,
        nn.BatchNorm1d,
        nn.ReLU,
        nn.Linear,
        nn.BatchNorm1d,
        nn.Tanh,
    ]
    assert [type(layer) for layer in model.attention.layers] == kinds
    assert outputs.logits.shape == (2, 7)
    assert outputs.features.shape == outputs.attention_weights.shape == (2, 512)


@pytest.mark.numeric
def test_attention_is_the_second_of_each_pair_of_softmax_scores_of_the_flattened_map():
    model = small(image_size=64).double().eval()
    outputs = model(torch.randn(3, 1, 64, 64, dtype=torch.float64), output_hidden_states=True)
    last = outputs.hidden_states[-1]
    flat = torch.stack([last[:, c, h, w] for c in range(512) for h in range(2) for w in range(2)], dim=1)
    hidden = flat
    for linear, activation in ((0, torch.relu), (3, torch.relu), (6, torch.tanh)):
        hidden = activation(model.attention.layers[linear + 1](model.attention.layers[linear](hidden)))
    scores = model.attention.heads(hidden)
    expected = torch.stack([scores[:, 2 * j : 2 * j + 2].softmax(-1)[:, 1] for j in range(512)], dim=1)
    torch.testing.assert_close(outputs.attention_weights, expected)
    assert last.min() >= 0  # after the final ReLU
    torch.testing.assert_close(outputs.features, last.mean(dim=(2, 3)))
    torch.testing.assert_close(outputs.logits, model.classifier(outputs.features))


@pytest.mark.numeric
def test_the_backbone_is_torchvisions_resnet_under_its_names():
    model = DACLModel(DACLConfig(image_size=48)).eval()
    reference = models.resnet18()
    reference.fc = nn.Identity()
    reference.load_state_dict(model.state_dict())
    images = torch.randn(2, 3, 48, 48)
    torch.testing.assert_close(model(images).pooler_output, reference.eval()(images))


def test_weights_start_by_the_official_codes_rules():
    model = small(image_size=64)
    first = model.attention.layers[0]
    assert first.weight.std().item() == pytest.approx((2 / 2048) ** 0.5, rel=0.02)
    assert model.attention.heads.weight.std().item() == pytest.approx((2 / 8) ** 0.5, rel=0.02)
    assert not first.bias.any()
    assert not model.attention.heads.bias.any()
    assert model.backbone.layer4[1].conv2.weight.std().item() == pytest.approx((2 / (512 * 9)) ** 0.5, rel=0.02)
    assert 0.95 * 512**-0.5 < model.classifier.weight.abs().max() <= 512**-0.5
    assert model.classifier.bias.any()
    assert model.center_loss.centers.std().item() == pytest.approx((2 / 7) ** 0.5, rel=0.03)
    assert abs(model.center_loss.centers.mean().item()) < 0.03


def test_faces_of_another_size_are_refused_where_attention_needs_one():
    with pytest.raises(ValueError, match=r"are 48 x 64 pixels, and .* takes `image_size` 32 x 32"):
        small().eval()(torch.randn(2, 1, 48, 64))
    assert small(mode="center").eval()(torch.randn(2, 1, 48, 64)).logits.shape == (2, 7)


# The loss


def centers(values, rate=0.5):
    loss = SparseCenterLoss(len(values), len(values[0]), rate)
    loss.centers.copy_(torch.tensor(values))
    return loss


# Three classes in two dimensions: class 0 has two faces, class 1 one, class 2 none.
CENTERS = [[0.0, 0.0], [1.0, -1.0], [5.0, 5.0]]
FEATURES = torch.tensor([[2.0, 0.0], [4.0, 2.0], [1.0, 1.0]])
ATTENTION = torch.tensor([[0.5, 0.25], [0.25, 1.0], [0.5, 0.5]])
LABELS = torch.tensor([0, 0, 1])


def test_the_sparse_center_loss_is_the_hand_calculation():
    # Class 0: .5 * 4 + .25 * 0 and .25 * 16 + 1 * 4; class 1: .5 * 0 + .5 * 4. Their sum is 12, of which half.
    assert centers(CENTERS)(FEATURES, ATTENTION, LABELS).item() == 6.0


@pytest.mark.numeric
def test_its_gradients_are_the_papers():
    features, attention = FEATURES.clone().requires_grad_(), ATTENTION.clone().requires_grad_()
    g, m = 0.01, len(LABELS)
    loss = centers(CENTERS)
    (g * loss(features, attention, LABELS) / m).backward()
    away = FEATURES - torch.tensor(CENTERS)[LABELS]
    torch.testing.assert_close(features.grad, g * ATTENTION * away / m)
    torch.testing.assert_close(attention.grad, g * away**2 / (2 * m))
    assert not loss.centers.requires_grad


@pytest.mark.numeric
def test_centers_move_by_the_papers_rule():
    loss = centers(CENTERS)
    loss.update(FEATURES, ATTENTION, LABELS)
    # Class 0: half of (.5*2 + .25*4, .25*0 + 1*2) / (1 + 2). Class 1: half of (0, .5*2) / (1 + 1). Class 2 rests.
    torch.testing.assert_close(loss.centers, torch.tensor([[1 / 3, 1 / 3], [1.0, -0.75], [5.0, 5.0]]))


@pytest.mark.numeric
def test_a_soft_label_is_a_face_of_each_class_as_much_as_it_says():
    hard, sure, mixed = centers(CENTERS), centers(CENTERS), centers(CENTERS)
    probabilities = one_hot(LABELS, 3).float()
    assert torch.equal(hard(FEATURES, ATTENTION, LABELS), sure(FEATURES, ATTENTION, probabilities))
    hard.update(FEATURES, ATTENTION, LABELS)
    sure.update(FEATURES, ATTENTION, probabilities)
    assert torch.equal(hard.centers, sure.centers)

    face, weight, shares = FEATURES[:1], ATTENTION[:1], torch.tensor([[0.75, 0.25, 0.0]])
    # (2, 0) is (2, 0) from center 0 and (1, 1) from center 1: half of .75 * (.5 * 4) + .25 * (.5 + .25).
    assert mixed(face, weight, shares).item() == pytest.approx(0.84375)
    mixed.update(face, weight, shares)
    # Half of .75 * (.5 * 2, 0) / 1.75, and half of .25 * (.5 * 1, .25 * 1) / 1.25.
    expected = torch.tensor([[0.375 / 1.75, 0.0], [1 + 0.0625 / 1.25, -1 + 0.03125 / 1.25], [5.0, 5.0]])
    torch.testing.assert_close(mixed.centers, expected)


@pytest.mark.numeric
def test_the_loss_is_cross_entropy_plus_lambda_times_the_center_loss_with_the_centers_from_before(faces):
    images, labels = faces
    model = rest_batch_norms(small(center_loss_weight=0.2))
    before = model.center_loss.centers.clone()
    outputs = model(images, labels=labels)
    away = outputs.features - before[labels]
    center_loss = (outputs.attention_weights * away**2).sum() / (2 * len(labels))
    torch.testing.assert_close(outputs.softmax_loss, cross_entropy(outputs.logits, labels).detach())
    torch.testing.assert_close(outputs.sparse_center_loss, center_loss.detach())
    torch.testing.assert_close(outputs.loss, outputs.softmax_loss + 0.2 * center_loss)
    # The step of the centers knows neither lambda nor 1 / m.
    expected = before.clone()
    for k in range(7):
        mine = labels == k
        pull = (outputs.attention_weights * away)[mine].sum(dim=0)
        expected[k] += 0.5 * pull.detach() / (1 + mine.sum())
    torch.testing.assert_close(model.center_loss.centers, expected)
    assert not torch.equal(before, expected)


def test_the_center_loss_reaches_the_network_through_features_and_attention(faces):
    images, labels = faces
    model = rest_batch_norms(small())
    outputs = model(images, labels=labels)
    paths = torch.autograd.grad(outputs.loss, (outputs.features, outputs.attention_weights), retain_graph=True)
    assert all(path.abs().max() > 0 for path in paths)
    from_attention = torch.autograd.grad(outputs.attention_weights.sum(), model.backbone.conv1.weight)[0]
    assert from_attention.abs().max() > 0


@pytest.mark.numeric
def test_the_baselines_are_attention_one_and_lambda_zero(faces):
    images, labels = faces
    whole = small()
    center, softmax = small(mode="center"), small(mode="softmax")
    center.load_state_dict(whole.state_dict(), strict=False)
    softmax.load_state_dict(whole.state_dict(), strict=False)
    with torch.no_grad():  # scores so far apart that attention is exactly 1
        whole.attention.heads.weight.zero_()
        whole.attention.heads.bias.copy_(torch.tensor([-100.0, 100.0]).repeat(512))
    outputs = [rest_batch_norms(model)(images, labels=labels) for model in (whole, center, softmax)]
    assert outputs[0].attention_weights.min() == 1
    assert torch.equal(outputs[0].loss, outputs[1].loss)
    assert torch.equal(whole.center_loss.centers, center.center_loss.centers)
    assert torch.equal(outputs[2].loss, outputs[0].softmax_loss)
    assert outputs[1].attention_weights is outputs[2].attention_weights is outputs[2].sparse_center_loss is None
    assert not any(name.startswith(("attention", "center_loss")) for name in softmax.state_dict())
    assert not any(name.startswith("attention") for name in center.state_dict())


@pytest.mark.numeric
@pytest.mark.parametrize("mode", ["dacl", "center", "softmax"])
def test_every_parameter_gets_a_gradient(mode, faces):
    images, labels = faces
    model = small(mode=mode).train()
    model(images, labels=labels).loss.backward()
    missing = [name for name, p in model.named_parameters() if p.grad is None or not p.grad.any()]
    # BatchNorm takes the mean out, so the biases right before it have no effect.
    assert set(missing) <= {f"attention.layers.{i}.bias" for i in (0, 3, 6)}
    assert all(p.grad is not None for p in model.parameters())


@pytest.mark.numeric
def test_hard_and_one_hot_labels_give_the_same_loss_and_centers(faces):
    images, labels = faces
    models_ = [rest_batch_norms(small()), rest_batch_norms(small())]
    models_[1].load_state_dict(models_[0].state_dict())
    losses = [m(images, labels=y).loss for m, y in zip(models_, (labels, one_hot(labels, 7).float()), strict=True)]
    torch.testing.assert_close(*losses)
    assert torch.equal(models_[0].center_loss.centers, models_[1].center_loss.centers)


# One step of the centers per step of the optimizer


@pytest.mark.numeric
@pytest.mark.parametrize("soft", [False, True])
@pytest.mark.parametrize("cuts", [[4, 4], [3, 3, 2]])
def test_accumulated_batches_give_the_loss_the_gradient_and_the_centers_of_the_whole(faces, cuts, soft):
    images, labels = faces
    images = images.double()
    if soft:
        labels = torch.rand(8, 7).softmax(dim=-1)
    whole, pieces = rest_batch_norms(small().double()), rest_batch_norms(small().double())
    pieces.load_state_dict(whole.state_dict())
    for _ in range(2):  # also the step after it
        whole.zero_grad()
        pieces.zero_grad()
        loss = whole(images, labels=labels).loss
        loss.backward()
        before, total = pieces.center_loss.centers.clone(), 0
        for x, y in zip(images.split(cuts), labels.split(cuts), strict=True):
            assert torch.equal(pieces.center_loss.centers, before)
            piece = pieces(x, labels=y, num_items_in_batch=torch.tensor(labels.numel())).loss
            piece.backward()
            total += piece.detach()
        torch.testing.assert_close(total, loss.detach())
        torch.testing.assert_close(pieces.center_loss.centers, whole.center_loss.centers)
        assert not torch.equal(pieces.center_loss.centers, before)
        torch.testing.assert_close(
            pieces.backbone.conv1.weight.grad, whole.backbone.conv1.weight.grad, rtol=1e-4, atol=1e-4
        )


@pytest.mark.numeric
@pytest.mark.parametrize(
    "next_step",
    [
        [slice(1, 2), slice(2, 3)],  # another number of faces
        [slice(0, 3)],  # the same number, but with the one before they would be one too many
    ],
)
def test_a_step_left_unfinished_does_not_leak_into_the_next(next_step):
    loss, expected = centers(CENTERS), centers(CENTERS)
    loss.update(FEATURES[:1], ATTENTION[:1], LABELS[:1], num_faces=3)
    assert torch.equal(loss.centers, expected.centers)
    whole = slice(next_step[0].start, next_step[-1].stop)
    for part in next_step:
        loss.update(FEATURES[part], ATTENTION[part], LABELS[part], num_faces=whole.stop - whole.start)
    expected.update(FEATURES[whole], ATTENTION[whole], LABELS[whole])
    assert torch.equal(loss.centers, expected.centers)


@pytest.mark.numeric
def test_eval_mode_drops_a_step_left_unfinished():
    loss, expected = centers(CENTERS), centers(CENTERS)
    loss.update(FEATURES[:1], ATTENTION[:1], LABELS[:1], num_faces=3)
    loss.eval()
    loss.train()
    loss.update(FEATURES[1:2], ATTENTION[1:2], LABELS[1:2], num_faces=3)
    loss.update(FEATURES[1:], ATTENTION[1:], LABELS[1:], num_faces=3)
    twice = [1, 1, 2]
    expected.update(FEATURES[twice], ATTENTION[twice], LABELS[twice])
    torch.testing.assert_close(loss.centers, expected.centers)


def test_centers_rest_without_a_training_step(faces):
    images, labels = faces
    model = small()
    before = model.center_loss.centers.clone()
    model.eval()(images, labels=labels)
    model.train()(images)
    with torch.no_grad():
        model(images, labels=labels)
    model.requires_grad_(False)(images, labels=labels)
    assert torch.equal(model.center_loss.centers, before)
    model.requires_grad_(True)(images, labels=labels)
    assert not torch.equal(model.center_loss.centers, before)


@pytest.mark.numeric
def test_sums_are_kept_in_float32_under_autocast():
    loss, half = centers(CENTERS), centers(CENTERS)
    loss.update(FEATURES / 3, ATTENTION, LABELS)
    with torch.autocast("cpu", torch.bfloat16):
        half.update(FEATURES / 3, ATTENTION, LABELS)
        assert half(FEATURES / 3, ATTENTION, LABELS).dtype == torch.float32
    assert torch.equal(half.centers, loss.centers)


@pytest.mark.numeric
def test_loss_and_centers_compile_into_one_graph_and_take_batches_of_a_step_as_usual():
    usual, other = centers(CENTERS), centers(CENTERS)

    def step(loss, part, count):
        value = loss(FEATURES[part], ATTENTION[part], LABELS[part])
        loss.update(FEATURES[part], ATTENTION[part], LABELS[part], count)
        return value

    compiled = torch.compile(step, backend="aot_eager", fullgraph=True)
    for part in (slice(2), slice(2, 3), slice(2), slice(2, 3)):
        with torch.autocast("cpu", torch.bfloat16):
            assert torch.equal(compiled(other, part, torch.tensor(3)), step(usual, part, torch.tensor(3)))
        torch.testing.assert_close(other.centers, usual.centers)
    assert other.centers[0, 0].item() == pytest.approx(1 / 3 + (0.5 * 5 / 3 + 0.25 * 11 / 3) / 6)


def train_on_a_share(rank, folder, state, images, labels):
    """One optimizer step of two batches per process, as accelerate and the Trainer run it."""
    torch.distributed.init_process_group("gloo", init_method=f"file://{folder}/rendezvous", rank=rank, world_size=2)
    model = rest_batch_norms(small().double())
    model.load_state_dict(state)
    parallel = nn.parallel.DistributedDataParallel(model)
    x, y = images[4 * rank : 4 * rank + 4].split([1, 3]), labels[4 * rank : 4 * rank + 4].split([1, 3])
    with parallel.no_sync():
        loss = parallel(x[0], labels=y[0], num_items_in_batch=torch.tensor(8)).loss
        (2 * loss).backward()  # the Trainer's factor, because DDP divides gradients by the number of processes
    rested = torch.equal(model.center_loss.centers, state["center_loss.centers"])
    last = parallel(x[1], labels=y[1], num_items_in_batch=torch.tensor(8)).loss
    (2 * last).backward()
    found = {
        "loss": (loss + last).detach(),
        "rested": rested,
        "centers": model.center_loss.centers,
        "gradient": model.classifier.weight.grad,
    }
    torch.save(found, f"{folder}/{rank}.pt")
    torch.distributed.destroy_process_group()


@pytest.mark.numeric
def test_two_processes_give_the_loss_the_gradient_and_the_centers_of_one(faces, tmp_path, monkeypatch):
    images, labels = faces[0].double(), faces[1]
    model = rest_batch_norms(small().double())
    monkeypatch.setenv("GLOO_SOCKET_IFNAME", "lo")
    arguments = (tmp_path, model.state_dict(), images, labels)
    start_processes(train_on_a_share, arguments, nprocs=2, start_method="fork")
    ranks = [torch.load(tmp_path / f"{rank}.pt") for rank in (0, 1)]
    loss = model(images, labels=labels).loss
    loss.backward()
    assert [rank["rested"] for rank in ranks] == [True, True]
    assert torch.equal(ranks[0]["centers"], ranks[1]["centers"])
    torch.testing.assert_close(ranks[0]["centers"], model.center_loss.centers, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(ranks[0]["loss"] + ranks[1]["loss"], loss.detach())
    torch.testing.assert_close(ranks[0]["gradient"], model.classifier.weight.grad, rtol=1e-4, atol=1e-4)


# In the library


def test_a_baseline_checkpoint_starts_the_whole_model_and_draws_the_rest_new(tmp_path):
    small(mode="softmax").save_pretrained(tmp_path)
    config = DACLConfig.from_pretrained(tmp_path, mode="dacl")
    model, info = DACLForImageClassification.from_pretrained(tmp_path, config=config, output_loading_info=True)
    assert {key.split(".")[0] for key in info["missing_keys"]} == {"attention", "center_loss"}
    assert model.center_loss.centers.std().item() == pytest.approx((2 / 7) ** 0.5, rel=0.05)
    assert model.attention.layers[0].weight.std().item() == pytest.approx((2 / 512) ** 0.5, rel=0.05)


def test_the_trainer_moves_the_centers_once_per_step_and_a_checkpoint_keeps_them(drawn_faces, tmp_path):
    model = small(image_size=48, num_channels=3)
    processor = ViTImageProcessor(size={"height": 48, "width": 48}, do_convert_rgb=True)
    moves, before = [], model.center_loss.centers.clone()

    def note(*_):
        if not torch.equal(before, model.center_loss.centers):
            moves.append(model.center_loss.centers.clone())
            before.copy_(model.center_loss.centers)

    model.register_forward_hook(note)
    trainer = FerTrainer(
        model=model,
        args=FerTrainingArguments(
            output_dir=str(tmp_path), max_steps=2, per_device_train_batch_size=4, gradient_accumulation_steps=3,
            learning_rate=1e-3, disable_tqdm=True, use_cpu=True, save_strategy="steps", save_steps=2,
            eval_strategy="no", load_best_model_at_end=False,
        ),
        train_dataset=drawn_faces["train"],
        eval_dataset=drawn_faces["validation"],
        data_collator=FaceCollator(processor),
        compute_metrics=classification_metrics,
        processing_class=processor,
    )  # fmt: skip
    start = before.clone()
    trainer.train()
    assert len(moves) == 2
    assert not torch.equal(start, moves[0])
    # Validation is told in the parts of the loss, too.
    metrics = trainer.evaluate()
    whole = metrics["eval_softmax_loss"] + model.config.center_loss_weight * metrics["eval_sparse_center_loss"]
    assert metrics["eval_loss"] == pytest.approx(whole, rel=1e-5)
    assert metrics["eval_sparse_center_loss"] > 0
    # Features and attention are left aside: the predictions are the logits alone.
    predictions = trainer.predict(drawn_faces["validation"])
    assert predictions.predictions.shape == (28, 7)
    assert 0 <= predictions.metrics["test_accuracy"] <= 1
    assert torch.equal(model.center_loss.centers, moves[1])
    again = AutoModelForImageClassification.from_pretrained(tmp_path / "checkpoint-2")
    assert torch.equal(again.center_loss.centers, moves[1])


@pytest.mark.numeric
def test_a_small_configuration_learns_the_drawn_faces_and_centers_find_their_classes(drawn_faces):
    images, labels = drawn_batch(drawn_faces, 56)
    images = nn.functional.interpolate(images, size=32, mode="area")
    model = small()
    start = model.center_loss.centers.clone()
    losses, logits = train(model, torch.optim.SGD(model.parameters(), lr=0.02, momentum=0.9), images, labels, steps=9)
    assert losses[-1] < losses[0] / 2
    assert accuracy(logits, labels) > 0.5
    with torch.no_grad():
        features = model.train()(images).features
    means = torch.stack([features[labels == k].mean(dim=0) for k in range(7)])
    away = [torch.linalg.vector_norm(centers - means, dim=1) for centers in (start, model.center_loss.centers)]
    assert (away[1] < away[0]).all()


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"network": "vgg16"}, "`network` must be one of resnet18, resnet34, resnet50, got 'vgg16'"),
        ({"stem": "tiny"}, "`stem` must be imagenet or small, got 'tiny'"),
        ({"num_channels": 2}, "`num_channels` must be 1 or 3, got 2"),
        ({"image_size": 0}, "`image_size` must be >= 1, got 0"),
        ({"mode": "arcface"}, "`mode` must be softmax, center or dacl, got 'arcface'"),
        ({"attention_hidden_sizes": ()}, "`attention_hidden_sizes` must be one or more widths >= 1"),
        ({"attention_hidden_sizes": (8, 0)}, "`attention_hidden_sizes` must be one or more widths >= 1"),
        ({"center_loss_weight": -0.1}, "`center_loss_weight` must be >= 0, got -0.1"),
        ({"center_rate": 1.5}, r"`center_rate` must be in \[0, 1\], got 1.5"),
    ],
)
def test_bad_configurations_are_refused(fields, message):
    with pytest.raises(StrictDataclassClassValidationError, match=message):
        DACLConfig(**fields)


def test_the_rows_of_the_zoo_are_the_papers():
    for name, size in {"dacl": 224, "dacl-200": 200, "dacl-112": 112, "dacl-64": 64, "dacl-48": 48}.items():
        config = architecture_config(name)
        assert (config.image_size, config.stem, config.num_channels) == (size, "imagenet", 3)
        assert (config.mode, config.center_loss_weight, config.center_rate) == ("dacl", 0.01, 0.5)
        assert tuple(image_processor(name, config).image_mean) == (0.5752, 0.4495, 0.4012)
        assert tuple(image_processor(name, config).image_std) == (0.2086, 0.1911, 0.1827)
        assert ARCHITECTURES[name].source
