"""What speeds a model up must not change what it says: bfloat16, channels_last, torch.compile."""

import copy

import pytest
import torch
from conftest import tiny_vit_config
from helpers import tensor_trainer
from torch import nn
from torch.optim.swa_utils import update_bn
from transformers import ViTForImageClassification

from fer_hf.cli.parsing import parse_arguments
from fer_hf.errors import BadInputError
from fer_hf.models import ARCHITECTURES, build
from fer_hf.training import FerTrainingArguments
from fer_hf.training.arguments import training_summary
from fer_hf.training.checkpoints import resume_point, write_manifest


# One row of the zoo for each family, made small where it is large.
FAMILIES = {
    "cnn_transformer": (
        "cnn-transformer",
        {"image_size": 48, "stem_widths": (8, 16, 32), "num_hidden_layers": 2, "intermediate_size": 64},
    ),
    "compact_cnn": ("compact-cnn", {"widths": (8, 8, 16), "depths": (1, 1)}),
    "dacl": ("dacl-48", {"attention_hidden_sizes": (32, 16, 8)}),
    "mlp_head": (
        "vit-mlp5-bn",
        {
            "backbone_config": {
                "model_type": "vit", "image_size": 48, "hidden_size": 32, "num_hidden_layers": 2,
                "num_attention_heads": 2, "intermediate_size": 64,
            }
        },
    ),
    "plain_cnn": ("vgg-fer-48", {"stage_widths": (8, 16, 32), "head_hidden_sizes": (64,)}),
    "prelu_cnn": ("prelu-cnn", {}),
    "reduced_dacl": ("dacl-reduced", {"image_size": 64}),
    "reduced_transfer": (
        "transfer-reduced",
        {
            "image_size": 64, "stem_blocks": (1, 1, 1, 1), "stem_widths": (8, 16, 24, 32), "hidden_size": 32,
            "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4,
        },
    ),
    "torchvision_cnn": ("resnet18", {"image_size": 48}),
    "transfer": (
        "transfer",
        {
            "image_size": 48, "stem_units": (1, 1, 2), "stem_widths": (16, 24, 32), "hidden_size": 32,
            "num_hidden_layers": 2, "num_attention_heads": 4,
        },
    ),
    "vit": ("compact-vit", {"num_hidden_layers": 2}),
}  # fmt: skip


def settled(family: str) -> tuple[nn.Module, torch.Tensor]:
    """A small model whose logits depend on the faces as a trained one's do, in eval mode, and 8 faces."""
    name, changes = FAMILIES[family]
    model = build(name, **changes)
    size = model.config.image_size
    faces = torch.randn(8, 3, size, size)
    for parameter in model.parameters():
        if parameter.dim() > 1 and not parameter.any():
            nn.init.normal_(parameter, std=0.1)
    update_bn([faces], model)  # fresh statistics let a deep network's maps fade to nothing
    return model.eval(), faces


def in_float64(family: str) -> tuple[nn.Module, torch.Tensor]:
    """The same where results should differ by rounding alone: no activation is near enough to 0 to change its side."""
    model, faces = settled(family)
    return model.double(), faces.double()


def spread(logits: torch.Tensor) -> torch.Tensor:
    """How much logits differ between faces: what a change in precision has to be small against."""
    return (logits - logits.mean(dim=0)).pow(2).mean().sqrt()


def test_every_family_of_the_zoo_is_tried_here():
    assert {row.config_class.model_type for row in ARCHITECTURES.values()} <= FAMILIES.keys()


@pytest.mark.numeric
@pytest.mark.parametrize("family", FAMILIES)
def test_bfloat16_gives_finite_steps_and_nearly_the_same_logits(family):
    model, faces = settled(family)
    with torch.no_grad():
        exact = model(faces).logits
        with torch.autocast("cpu", torch.bfloat16):
            rounded = model(faces).logits.float()
    error = (rounded - exact).pow(2).mean().sqrt()
    # bfloat16 keeps 8 bits: a rounding is off by up to 1/512, and dozens of them in a row by about 1 % of the logits,
    # whose part that all faces share is several times their spread. Measured: 1 to 9 % of the spread.
    assert 0 < error < 0.2 * spread(exact)

    model.train()
    faces = faces[:2]  # a step of convolutions takes seconds on CPUs without bfloat16
    with torch.autocast("cpu", torch.bfloat16):
        loss = model(faces, labels=torch.tensor([2, 5])).loss
    assert loss.dtype == torch.float32
    assert loss.isfinite()
    loss.backward()
    assert all(p.grad.isfinite().all() for p in model.parameters() if p.grad is not None)


@pytest.mark.numeric
@pytest.mark.parametrize("family", FAMILIES)
def test_channels_last_gives_the_same_logits(family):
    model, faces = in_float64(family)
    with torch.no_grad():
        expected = model(faces).logits
        model.to(memory_format=torch.channels_last)
        logits = model(faces.contiguous(memory_format=torch.channels_last)).logits
    torch.testing.assert_close(logits, expected, atol=1e-9 * expected.abs().max().item(), rtol=0)


@pytest.mark.numeric
@pytest.mark.parametrize("family", ["compact_cnn", "vit"])  # small ones: a compiler takes seconds for each layer
def test_a_compiled_model_gives_the_same_logits(family, tmp_path, monkeypatch):
    one_block = {"compact_cnn": {"widths": (8, 8), "depths": (1,)}, "vit": {"num_hidden_layers": 1}}
    monkeypatch.setitem(FAMILIES, family, (FAMILIES[family][0], one_block[family]))
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path))
    model, faces = in_float64(family)
    compiled = torch.compile(copy.deepcopy(model))
    with torch.no_grad():
        expected, logits = model(faces).logits, compiled(faces).logits
    torch.testing.assert_close(logits, expected, atol=1e-9 * expected.abs().max().item(), rtol=0)


WITH, WITHOUT = {"avx512_bf16": True, "amx_bf16": False}, {"avx512_bf16": False, "avx512_f": True}


@pytest.mark.parametrize(
    ("given", "capabilities", "resolved"),
    [
        ("auto", WITH, True), ("auto", {"amx_bf16": True}, True), ("auto", WITHOUT, False), ("auto", {}, False),
        ("true", WITHOUT, True), (True, WITHOUT, True), ("false", WITH, False), (False, WITH, False),
    ],
)  # fmt: skip
def test_bf16_is_what_was_said_and_auto_is_what_the_processor_has(
    tmp_path, monkeypatch, given, capabilities, resolved
):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities)
    args = FerTrainingArguments(output_dir=str(tmp_path), use_cpu=True, bf16=given)
    assert args.bf16 is training_summary(args)["bf16"] is resolved


@pytest.mark.parametrize(
    ("text", "words", "resolved"),
    [
        ("", [], False), ("", ["--bf16"], True), ("", ["--bf16", "true"], True), ("", ["--bf16", "auto"], True),
        ("bf16: auto", [], True), ("bf16: true", [], True), ("bf16: auto", ["--bf16", "False"], False),
    ],
)  # fmt: skip
def test_bf16_on_the_command_line_and_in_a_config(tmp_path, monkeypatch, text, words, resolved):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: WITH)
    config = tmp_path / "config.yaml"
    config.write_text(f"num_train_epochs: 1\n{text}\n")
    args, _ = parse_arguments((FerTrainingArguments,), "recipe", config, ["--use_cpu", *words])
    assert args.bf16 is resolved


@pytest.mark.parametrize(
    ("launched", "flags", "resolved"),
    [("bf16", {}, True), ("bf16", {"bf16": "true"}, True), ("no", {}, False), ("no", {"bf16": "true"}, True)],
)
def test_the_record_says_what_the_launcher_turned_on(tmp_path, monkeypatch, launched, flags, resolved):
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", launched)  # as `accelerate launch --mixed_precision` does
    trainer = tensor_trainer(ViTForImageClassification(tiny_vit_config()), tmp_path, **flags)
    assert (trainer.accelerator.mixed_precision == "bf16") is resolved
    assert training_summary(trainer.args)["bf16"] is resolved


@pytest.mark.parametrize(
    ("launched", "flags", "message"),
    [
        ("fp8", {}, "The launcher's `mixed_precision` must be bf16, fp16 or no, got fp8"),
        ("fp16", {}, "`fp16`, a flag's or the launcher's `mixed_precision`, needs a GPU"),
        ("no", {"fp16": True}, "`fp16`, a flag's or the launcher's `mixed_precision`, needs a GPU"),
        ("no", {"bf16_full_eval": True}, "`bf16_full_eval` would score other weights than the run saves"),
        ("no", {"fp16_full_eval": True}, "`fp16_full_eval` would score other weights than the run saves"),
    ],
)
def test_a_precision_that_a_run_cannot_train_or_score_in_is_refused(tmp_path, monkeypatch, launched, flags, message):
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", launched)
    with pytest.raises(BadInputError, match=message):
        FerTrainingArguments(output_dir=str(tmp_path), use_cpu=True, **flags)


def test_bf16_needs_no_use_cpu_and_other_words_are_refused(tmp_path):
    args = FerTrainingArguments(output_dir=str(tmp_path), bf16="true")
    assert (args.bf16, args.use_cpu) == (True, False)
    with pytest.raises(BadInputError, match="`bf16` must be true, false or auto, got 'yes'"):
        FerTrainingArguments(output_dir=str(tmp_path), bf16="yes")


def test_steps_and_evaluations_are_in_bfloat16_and_weights_are_not(tmp_path):
    seen = []
    model = ViTForImageClassification(tiny_vit_config())
    model.vit.register_forward_hook(lambda module, args, output: seen.append(output.last_hidden_state.dtype))
    model.vit.layers[0].register_forward_pre_hook(lambda module, args: seen.append(torch.is_autocast_enabled("cpu")))
    trainer = tensor_trainer(model, tmp_path, bf16="true", max_steps=1, eval_strategy="steps", save_strategy="no",
                             load_best_model_at_end=False)  # fmt: skip
    trainer.train()
    assert set(seen) == {True, torch.float32}  # the last layer norm is kept in float32
    assert {p.dtype for p in model.parameters()} == {torch.float32}


def test_a_run_goes_on_in_the_precision_it_began_in_or_not_at_all(tmp_path, monkeypatch):
    def args(**flags):
        return FerTrainingArguments(output_dir=str(tmp_path), use_cpu=True, **flags)

    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: WITH)
    (tmp_path / "checkpoint-1").mkdir()
    (tmp_path / "checkpoint-1" / "trainer_state.json").write_text("{}")
    write_manifest(tmp_path / "checkpoint-1", args(bf16="auto"))
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: WITHOUT)
    with pytest.raises(BadInputError, match="other flags: `bf16` True, now False"):
        resume_point(args(bf16="auto"), True)
    assert resume_point(args(bf16="true"), True) == tmp_path / "checkpoint-1"
