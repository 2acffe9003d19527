"""Loading checkpoints of every kind, with nothing but the head new."""

import logging

import numpy as np
import pytest
import torch
from conftest import tiny_vit_config
from helpers import with_config
from PIL import Image
from safetensors.torch import load_file, save_file
from transformers import (
    BitImageProcessor,
    ConvNextConfig,
    ConvNextForImageClassification,
    ConvNextImageProcessor,
    DeiTConfig,
    DeiTForImageClassification,
    DeiTForImageClassificationWithTeacher,
    DeiTImageProcessor,
    Dinov2Config,
    Dinov2ForImageClassification,
    Dinov2WithRegistersConfig,
    Dinov2WithRegistersForImageClassification,
    DINOv3ViTConfig,
    DINOv3ViTImageProcessor,
    DINOv3ViTModel,
    MobileNetV2Config,
    MobileNetV2ForImageClassification,
    MobileNetV2ImageProcessor,
    ResNetConfig,
    ResNetForImageClassification,
    Siglip2Config,
    Siglip2ForImageClassification,
    Siglip2ImageProcessor,
    SiglipConfig,
    SiglipForImageClassification,
    SiglipImageProcessor,
    SiglipModel,
    SwinConfig,
    SwinForImageClassification,
    TimmWrapperConfig,
    TimmWrapperForImageClassification,
    ViTConfig,
    ViTForImageClassification,
    ViTImageProcessor,
    ViTModel,
    pipeline,
)

from fer_hf import HEADS, MLPHeadForImageClassification, build, load_image_classifier
from fer_hf.data.collator import FaceCollator
from fer_hf.data.training_set import training_faces
from fer_hf.errors import ModelError
from fer_hf.models import load_trained_classifier
from fer_hf.models.heads import head_modules
from fer_hf.training import FerTrainer, FerTrainingArguments, GradualUnfreezing


SHAPE = {
    "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64, "image_size": 48,
    "patch_size": 16,
}  # fmt: skip
TEXT = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 64}
SIZE = {"height": 48, "width": 48}
SHORTEST = {"shortest_edge": 48}
SWIN = {"image_size": 48, "patch_size": 4, "embed_dim": 16, "depths": [1, 1], "num_heads": [1, 2], "window_size": 3}
SIGLIP = {"vision_config": SHAPE, "text_config": TEXT}
SIGLIP2 = {"vision_config": {**SHAPE, "num_patches": 9}, "text_config": TEXT}
RESNET = {"embedding_size": 8, "hidden_sizes": [8, 8, 16], "depths": [1, 1, 2], "layer_type": "basic"}

# A tiny model of each kind with its own processor; timm's processor is written in its model's config.
CLASSIFIERS = {
    "vit": lambda: (ViTForImageClassification(ViTConfig(**SHAPE)), ViTImageProcessor(size=SIZE)),
    "deit": lambda: (DeiTForImageClassification(DeiTConfig(**SHAPE)), DeiTImageProcessor(size=SIZE, crop_size=SIZE)),
    "swin": lambda: (SwinForImageClassification(SwinConfig(**SWIN)), ViTImageProcessor(size=SIZE)),
    "convnext": lambda: (
        ConvNextForImageClassification(ConvNextConfig(hidden_sizes=[8, 8, 16], depths=[1, 1, 1], num_stages=3)),
        ConvNextImageProcessor(size=SHORTEST),
    ),
    "resnet": lambda: (ResNetForImageClassification(ResNetConfig(**RESNET)), ConvNextImageProcessor(size=SHORTEST)),
    "dinov2": lambda: (
        Dinov2ForImageClassification(Dinov2Config(**SHAPE)),
        BitImageProcessor(size=SHORTEST, crop_size=SIZE),
    ),
    "dinov2 with registers": lambda: (
        Dinov2WithRegistersForImageClassification(Dinov2WithRegistersConfig(**SHAPE)),
        BitImageProcessor(size=SHORTEST, crop_size=SIZE),
    ),
    "dinov3": lambda: (DINOv3ViTModel(DINOv3ViTConfig(**SHAPE)), DINOv3ViTImageProcessor(size=SIZE)),
    "siglip": lambda: (SiglipForImageClassification(SiglipConfig(**SIGLIP)), SiglipImageProcessor(size=SIZE)),
    "siglip 2": lambda: (
        Siglip2ForImageClassification(Siglip2Config(**SIGLIP2)),
        Siglip2ImageProcessor(patch_size=16, max_num_patches=9),
    ),
    "mobilenet": lambda: (
        MobileNetV2ForImageClassification(MobileNetV2Config(image_size=48, depth_multiplier=0.25)),
        MobileNetV2ImageProcessor(size=SHORTEST, crop_size=SIZE),
    ),
    "timm vit": lambda: (timm_model("test_vit", [3, 160, 160]), None),
    "timm resnet": lambda: (timm_model("resnet10t", [3, 64, 64]), None),
    "ours": lambda: (build("resnet50", network="resnet18", image_size=48), ViTImageProcessor(size=SIZE)),
}
MULTI_LAYER = ("vit", "deit", "swin", "dinov2", "dinov2 with registers", "dinov3", "siglip")


def timm_model(architecture, input_size, **pretrained_cfg):
    pytest.importorskip("timm")
    cfg = {"input_size": input_size, "mean": [0.4] * 3, "std": [0.3] * 3, "interpolation": "bicubic", **pretrained_cfg}
    return TimmWrapperForImageClassification(TimmWrapperConfig(architecture=architecture, pretrained_cfg=cfg))


def save(kind, folder):
    model, processor = CLASSIFIERS[kind]()
    model.save_pretrained(folder)
    if processor is not None:
        processor.save_pretrained(folder)
    return model


def picture(mode):
    pixels = np.random.default_rng(0).integers(0, 256, (60, 50, 3), dtype=np.uint8)
    return Image.fromarray(pixels).convert(mode)


def kept(model, saved):
    """The backbone tensors of a loaded model that are bitwise those of the saved one, and all of them."""
    head = tuple(head_modules(model))
    ours = {key: value for key, value in model.state_dict().items() if not key.startswith(head)}
    theirs = {key.partition(".")[2]: value for key, value in saved.state_dict().items()} | saved.state_dict()
    short = {key.partition(".")[2]: key for key in ours}
    found = {full for part, full in short.items() for name in (part, full) if name in theirs
             and torch.equal(theirs[name], ours[full])}  # fmt: skip
    return found, set(ours)


@pytest.mark.numeric
@pytest.mark.parametrize("kind", list(CLASSIFIERS))
def test_any_image_classifier_loads_and_trains(kind, tmp_path, names, drawn_faces):
    saved = save(kind, tmp_path / "start")
    model, processor = load_image_classifier(str(tmp_path / "start"), names)
    found, backbone = kept(model, saved)
    assert found == backbone
    assert model.config.num_labels == 7
    assert model.config.problem_type == "single_label_classification"

    # Every mode of image gives what its RGB form gives.
    for mode in ("L", "RGB", "RGBA", "P"):
        inputs = processor(picture(mode), return_tensors="pt")
        expected = processor(picture(mode).convert("RGB"), return_tensors="pt")
        assert torch.equal(inputs["pixel_values"], expected["pixel_values"])
        assert model(**inputs).logits.shape == (1, 7)

    unfreezing = GradualUnfreezing(model, every=1)
    of_head = {n for n, _ in model.named_parameters() if n.startswith(tuple(unfreezing.head))}
    groups = [name for group in unfreezing.order for name in group]
    covered = [n for n, _ in model.named_parameters() for root in groups if n == root or n.startswith(f"{root}.")]
    assert sorted([*covered, *of_head]) == sorted(n for n, _ in model.named_parameters())
    assert len(unfreezing.order) > 2

    before = {name: value.clone() for name, value in model.state_dict().items()}
    trainer = FerTrainer(
        model=model,
        args=FerTrainingArguments(
            output_dir=str(tmp_path / "run"), max_steps=2, per_device_train_batch_size=8, use_cpu=True, seed=0,
            eval_strategy="no", save_strategy="no", load_best_model_at_end=False, disable_tqdm=True,
        ),
        train_dataset=training_faces(drawn_faces["train"], processor),
        eval_dataset=drawn_faces["validation"],
        data_collator=FaceCollator(processor),
        processing_class=processor,
        callbacks=[unfreezing],
    )  # fmt: skip
    trainer.train()
    moved = {name for name, value in model.state_dict().items() if not torch.equal(value, before[name])}
    assert moved
    assert moved <= of_head

    # What is saved answers as what was trained, in a pipeline too.
    trainer.save_model()
    again = type(model).from_pretrained(tmp_path / "run")
    assert all(torch.equal(value, model.state_dict()[name]) for name, value in again.state_dict().items())
    classifier = pipeline("image-classification", model=str(tmp_path / "run"), top_k=7, device="cpu")
    scores = {entry["label"]: entry["score"] for entry in classifier(picture("L"))}
    logits = model.eval()(**processor(picture("L"), return_tensors="pt")).logits
    assert scores == pytest.approx(dict(zip(names, logits.softmax(dim=-1)[0].tolist(), strict=True)), abs=1e-4)


@pytest.mark.parametrize("kind", MULTI_LAYER)
def test_a_multi_layer_head_goes_on_any_vision_transformer(kind, tmp_path, names, caplog):
    saved = save(kind, tmp_path)
    with caplog.at_level(logging.INFO, "fer_hf"):
        model, _ = load_image_classifier(str(tmp_path), names, "mlp5_bn")
    assert type(model) is MLPHeadForImageClassification
    found, backbone = kept(model, saved)
    assert found == backbone
    new = next(record.message for record in caplog.records if "new weights" in record.message)
    assert "classifier.1.running_mean" in new
    assert "backbone." not in new
    assert not model.training
    assert model.config.id2label == model.config.backbone_config.id2label == dict(enumerate(names))


@pytest.fixture
def in21k(tmp_path, processor):
    """A small checkpoint in the form of google/vit-base-patch16-224-in21k: old names, a pooler, no classifier."""
    backbone = ViTModel(tiny_vit_config(id2label=None, label2id=None, problem_type=None), add_pooling_layer=True)
    backbone.save_pretrained(tmp_path / "in21k")
    processor.do_convert_rgb = None
    processor.save_pretrained(tmp_path / "in21k")
    keys = load_file(tmp_path / "in21k" / "model.safetensors").keys()
    assert "encoder.layer.2.attention.attention.query.weight" in keys
    assert "pooler.dense.weight" in keys
    return str(tmp_path / "in21k"), backbone


@pytest.mark.parametrize("prefix", ["", "vit."])
@pytest.mark.parametrize("head", [None, *HEADS])
def test_a_checkpoint_in_the_published_form_loads_with_only_the_head_new(in21k, names, head, prefix, caplog):
    path, backbone = in21k
    file = f"{path}/model.safetensors"
    save_file({prefix + key: value for key, value in load_file(file).items()}, file, {"format": "pt"})
    with caplog.at_level(logging.INFO, "fer_hf"):
        model, processor = load_image_classifier(path, names, head)
    new = next(record.message for record in caplog.records if "new weights" in record.message)
    assert "classifier" in new
    assert "layers" not in new
    assert "left aside: " in caplog.text
    assert "pooler.dense.bias" in caplog.text
    loaded = model.base_model.state_dict()
    expected = {key: value for key, value in backbone.state_dict().items() if not key.startswith("pooler")}
    assert loaded.keys() == expected.keys()
    assert all(torch.equal(loaded[key], expected[key]) for key in expected)
    assert model.config.id2label == dict(enumerate(names))
    assert processor.do_convert_rgb is True


def test_a_thousand_class_head_is_dropped(tmp_path, names, processor):
    ViTForImageClassification(tiny_vit_config(num_labels=1000, id2label=None, label2id=None)).save_pretrained(tmp_path)
    processor.save_pretrained(tmp_path)
    model, _ = load_image_classifier(str(tmp_path), names)
    assert model.classifier.weight.shape == (7, 32)


def test_a_trained_head_of_the_same_form_is_kept(tmp_path, names, processor, tiny_vit):
    tiny_vit.save_pretrained(tmp_path)
    processor.save_pretrained(tmp_path)
    model, _ = load_image_classifier(str(tmp_path), names)
    assert torch.equal(model.classifier.weight, tiny_vit.classifier.weight)


@pytest.mark.parametrize("asked", [None, "mlp3"])
def test_a_trained_multi_layer_head_is_kept_whole(tmp_path, names, processor, tiny_vit, asked, caplog):
    tiny_vit.save_pretrained(tmp_path / "vit")
    processor.save_pretrained(tmp_path / "vit")
    first, _ = load_image_classifier(str(tmp_path / "vit"), names, "mlp3")
    first.save_pretrained(tmp_path / "mlp")
    processor.save_pretrained(tmp_path / "mlp")
    with caplog.at_level(logging.INFO, "fer_hf"):
        again, _ = load_image_classifier(str(tmp_path / "mlp"), names, asked)
    assert "mlp: new weights: none" in caplog.text
    assert all(torch.equal(value, first.state_dict()[key]) for key, value in again.state_dict().items())


@pytest.mark.parametrize("asked", ["linear", "mlp5_bn"])
def test_another_head_on_a_multi_layer_checkpoint_is_wholly_new(tmp_path, names, processor, tiny_vit, asked, caplog):
    tiny_vit.save_pretrained(tmp_path / "vit")
    processor.save_pretrained(tmp_path / "vit")
    first, _ = load_image_classifier(str(tmp_path / "vit"), names, "mlp5")
    first.save_pretrained(tmp_path / "mlp")
    processor.save_pretrained(tmp_path / "mlp")
    with caplog.at_level(logging.INFO, "fer_hf"):
        again, _ = load_image_classifier(str(tmp_path / "mlp"), names, asked)
    assert not torch.equal(again.classifier[0].weight, first.classifier[0].weight)
    assert len([m for m in again.classifier if isinstance(m, torch.nn.Linear)]) == {"linear": 1, "mlp5_bn": 5}[asked]
    loaded, before = again.backbone.state_dict(), first.backbone.state_dict()
    assert all(torch.equal(loaded[key], before[key]) for key in before)
    assert "classifier.12.weight" in caplog.text.split("left aside")[1]


def kept_features(model):
    """Share of the features before the last layer that a training forward keeps."""
    side = 160 if model.config.model_type == "timm_wrapper" else 48
    pixels, seen = torch.randn(32, 3, side, side), []
    head = model.get_submodule(head_modules(model)[-1])
    last = [module for module in head.modules() if isinstance(module, torch.nn.Linear)][-1]
    hook = last.register_forward_pre_hook(lambda module, args: seen.append((args[0] != 0).sum().item()))
    with torch.no_grad():
        model.eval()(pixels)
        for module in model.train().modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                module.eval()  # the same features as before
        model(pixels)
    hook.remove()
    return seen[1] / seen[0]


@pytest.mark.parametrize(
    ("kind", "head"),
    [
        ("vit", None), ("swin", "linear"), ("dinov3", None), ("mobilenet", None), ("timm vit", None),
        ("timm resnet", "linear"),
    ],
)  # fmt: skip
def test_head_dropout_goes_before_the_last_layer_and_is_saved(kind, head, tmp_path, names):
    save(kind, tmp_path / "checkpoint")
    model, processor = load_image_classifier(str(tmp_path / "checkpoint"), names, head, 0.75)
    assert kept_features(model) == pytest.approx(0.25, abs=0.1)  # of 512 features or more, so 5 deviations
    model.save_pretrained(tmp_path / "trained")
    processor.save_pretrained(tmp_path / "trained")
    again, _ = load_trained_classifier(str(tmp_path / "trained"))
    assert kept_features(again) == pytest.approx(0.25, abs=0.1)
    state = model.state_dict()
    assert all(torch.equal(state[key], value) for key, value in again.state_dict().items())
    off, _ = load_image_classifier(str(tmp_path / "trained"), names, head_dropout=0.0)
    assert kept_features(off) == 1
    assert all(torch.equal(state[key], value) for key, value in off.state_dict().items())


@pytest.mark.parametrize("head", [name for name in HEADS if name != "linear"])
def test_head_dropout_is_that_of_every_hidden_layer_of_a_multi_layer_head(head, tmp_path, names, processor, tiny_vit):
    tiny_vit.save_pretrained(tmp_path)
    processor.save_pretrained(tmp_path)
    model, _ = load_image_classifier(str(tmp_path), names, head, 0.2)
    rates = [module.p for module in model.classifier if isinstance(module, torch.nn.Dropout)]
    assert rates == [0.2] * len(HEADS[head]["head_hidden_sizes"])
    assert model.config.input_dropout == 0
    model.save_pretrained(tmp_path)
    again, _ = load_image_classifier(str(tmp_path), names, head_dropout=0.3)  # the trained head, under another rate
    assert all(torch.equal(value, model.state_dict()[key]) for key, value in again.state_dict().items())
    assert {module.p for module in again.classifier if isinstance(module, torch.nn.Dropout)} == {0.3}


@pytest.mark.parametrize("name", ["cnn-v1", "prelu-cnn", "compact-cnn"])
def test_head_dropout_of_our_own_networks_is_a_field_of_theirs(name, tmp_path, names):
    model = build(name, names)
    model.save_pretrained(tmp_path)
    ViTImageProcessor(size=SIZE).save_pretrained(tmp_path)
    again, _ = load_image_classifier(str(tmp_path), names, head_dropout=0.15)
    rates = {module.p for part in head_modules(again) for module in again.get_submodule(part).modules()
             if isinstance(module, torch.nn.Dropout)}  # fmt: skip
    rates |= {module.p for module in again.children() if isinstance(module, torch.nn.Dropout)}
    assert rates == {0.15}
    assert all(torch.equal(value, model.state_dict()[key]) for key, value in again.state_dict().items())


def test_head_dropout_of_a_network_without_hidden_layers_is_that_of_its_last_stage(tmp_path, names):
    model = build("cnn-v2", names)
    model.save_pretrained(tmp_path)
    ViTImageProcessor(size=SIZE).save_pretrained(tmp_path)
    again, _ = load_image_classifier(str(tmp_path), names, head_dropout=0.15)
    assert [module.p for module in again.modules() if isinstance(module, torch.nn.Dropout)] == [0.0, 0.5, 0.0, 0.15]
    assert all(torch.equal(value, model.state_dict()[key]) for key, value in again.state_dict().items())


def test_a_distilled_deit_loads_as_one_that_takes_labels(tmp_path, names, caplog):
    DeiTForImageClassificationWithTeacher(DeiTConfig(**SHAPE)).save_pretrained(tmp_path)
    DeiTImageProcessor(size=SIZE, crop_size=SIZE).save_pretrained(tmp_path)
    with caplog.at_level(logging.INFO, "fer_hf"):
        model, _ = load_image_classifier(str(tmp_path), names)
    assert type(model) is DeiTForImageClassification
    assert "left aside: cls_classifier.bias, cls_classifier.weight, distillation_classifier" in caplog.text


def test_many_weights_left_aside_are_summed_up(tmp_path, names, caplog):
    SiglipModel(SiglipConfig(**SIGLIP)).save_pretrained(tmp_path)
    SiglipImageProcessor(size=SIZE).save_pretrained(tmp_path)
    with caplog.at_level(logging.INFO, "fer_hf"):
        load_image_classifier(str(tmp_path), names)
    assert caplog.text.strip().endswith("weights left aside: logit_bias, logit_scale, text_model.* (22)")


@pytest.mark.numeric
@pytest.mark.parametrize("crop", [{"crop_pct": 0.875}, {"crop_pct": 0.9, "crop_mode": "squash"}])
def test_the_processor_for_timm_does_what_timms_transform_does(tmp_path, names, crop):
    model = timm_model("test_vit", [3, 160, 160], **crop)
    model.save_pretrained(tmp_path)
    _, processor = load_image_classifier(str(tmp_path), names)
    import timm

    config = timm.data.resolve_data_config(model.config.pretrained_cfg, model=None)
    face = Image.fromarray(np.tile(np.arange(200, dtype=np.uint8)[:, None, None], (1, 180, 3)))
    expected = timm.data.create_transform(**config, is_training=False)(face)
    ours = processor(face, return_tensors="pt")["pixel_values"][0]
    assert ours.shape == expected.shape
    torch.testing.assert_close(ours, expected, atol=1.01 / 255 / 0.3, rtol=0)  # one grey level of 256
    processor.save_pretrained(tmp_path)
    assert (tmp_path / "preprocessor_config.json").is_file()


def test_bad_heads_and_checkpoints_are_refused_in_one_line(tmp_path, names):
    def refused(message, *args):
        with pytest.raises(ModelError, match=message) as error:
            load_image_classifier(args[0], names, *args[1:])
        assert "\n" not in str(error.value)

    refused("`head` must be one of linear, mlp3, mlp5, mlp5_bn, got 'mlp4'", "x", "mlp4")
    (tmp_path / "config.json").write_text("{}")
    refused(f"The model '{tmp_path}' could not be loaded: Unrecognized model", str(tmp_path))
    save("convnext", tmp_path / "convnext")
    message = "`head_dropout` needs a head of ours, on one of vit, .* or one of timm_wrapper, .* is a convnext"
    refused(message, str(tmp_path / "convnext"), None, 0.5)
    refused(message, str(tmp_path / "convnext"), "linear", 0.5)
    refused(r"`head_dropout` must be in \[0, 1\), got 1", "x", None, 1.0)
    refused("`head` 'mlp3' needs a backbone of one of vit, .* is a convnext", str(tmp_path / "convnext"), "mlp3")


@pytest.mark.parametrize("head", [None, "mlp3"])
def test_a_checkpoint_that_lacks_backbone_weights_is_refused(in21k, names, head):
    path, _ = in21k
    deeper = ViTConfig.from_pretrained(path)
    deeper.num_hidden_layers = 4
    deeper.save_pretrained(path)
    with pytest.raises(ModelError, match=r"16 of 70 backbone tensors are missing"):
        load_image_classifier(path, names, head)


@pytest.mark.parametrize("kind", ["siglip", "timm vit"])
def test_missing_weights_are_seen_where_the_backbone_has_no_name_of_its_own(kind, tmp_path, names):
    save(kind, tmp_path)
    weights = load_file(tmp_path / "model.safetensors")
    gone = next(key for key in weights if "patch_embed" in key)
    save_file({key: value for key, value in weights.items() if key != gone}, tmp_path / "model.safetensors",
              {"format": "pt"})  # fmt: skip
    with pytest.raises(
        ModelError, match=r"1 of \d+ backbone tensors are missing or of another shape, such as .*patch"
    ):
        load_image_classifier(str(tmp_path), names)


LOADERS = [lambda path: load_image_classifier(path, ("happy", "sad")), load_trained_classifier]


@pytest.mark.parametrize("load", LOADERS, ids=["for training", "as trained"])
def test_damaged_weights_are_named_in_one_line(load, tmp_path, tiny_vit, processor):
    tiny_vit.save_pretrained(tmp_path)
    processor.save_pretrained(tmp_path)
    weights = tmp_path / "model.safetensors"
    whole = weights.read_bytes()
    pointer = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 343237176\n"
    for content, message in (
        (pointer, "model.safetensors is a Git LFS pointer, not the weights: `git lfs pull`"),
        (whole[:-1], "model.safetensors is cut off or no safetensors file"),
        (whole[:100], "model.safetensors is cut off or no safetensors file"),
        (b"", "model.safetensors is cut off or no safetensors file"),
    ):
        weights.write_bytes(content)
        with pytest.raises(ModelError, match=message) as error:
            load(str(tmp_path))
        assert "\n" not in str(error.value)


@pytest.mark.parametrize("load", LOADERS, ids=["for training", "as trained"])
@pytest.mark.parametrize(
    "name", ["/nowhere/at/all", "./run", "../run", "~/no-such-run", "runs/typo", "typo", "a/b/c", ""]
)
def test_a_folder_that_is_not_there_is_never_looked_up_on_the_hub(load, name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs").mkdir()
    monkeypatch.setattr("fer_hf.models.loading.AutoConfig", None)
    with pytest.raises(
        ModelError, match=f"`model_name_or_path` {name}: .*A model is a folder, an `owner/name` on the Hub"
    ) as error:
        load(name)
    assert "\n" not in str(error.value)


def test_a_trained_classifier_keeps_its_own_labels_and_loads_from_anywhere(tmp_path, monkeypatch, tiny_vit, processor):
    tiny_vit.save_pretrained(tmp_path / "run")
    processor.save_pretrained(tmp_path / "run")
    monkeypatch.setenv("HOME", str(tmp_path))
    model, own = load_trained_classifier("~/run")
    assert model.config.id2label == tiny_vit.config.id2label
    assert not model.training
    assert own.do_convert_rgb
    assert all(torch.equal(value, tiny_vit.state_dict()[key]) for key, value in model.state_dict().items())


def test_a_classifier_without_its_head_is_no_trained_one(in21k):
    with pytest.raises(ModelError, match=r"is no trained classifier: it has no weights classifier\.bias"):
        load_trained_classifier(in21k[0])


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"id2label": {}}, "{}/config.json: `id2label` must name the labels from 0 on, got {{}}."),
        ({"num_labels": -1, "id2label": None}, "{}/config.json: `id2label` must name the labels from 0 on, got {{}}."),
        ({"id2label": dict.fromkeys(range(7))}, "{}/config.json: `id2label` must name the labels from 0 on, got"),
        ({"id2label": dict(enumerate("abcdefg", 1))}, "{}/config.json: `id2label` must name the labels from 0 on"),
        ({"id2label": ["angry", "happy"]}, "The model {!r} could not be loaded: "),
        ({"image_size": [48]}, "The model {!r} could not be loaded: "),
    ],
)
def test_a_configuration_that_is_none_is_refused_in_one_line(classifier_folder, tmp_path, changes, complaint):
    folder = with_config(classifier_folder, tmp_path, **changes)
    with pytest.raises(ModelError) as refused:
        load_trained_classifier(folder)
    assert str(refused.value).startswith(complaint.format(folder))
    assert "\n" not in str(refused.value)
