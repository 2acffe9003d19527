import re
import runpy
import shlex
import sys
from dataclasses import fields
from importlib.machinery import ModuleSpec
from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from transformers import TrainingArguments

from fer_hf import build
from fer_hf.cli import parser, parsing
from fer_hf.cli.arguments import DataArguments, ModelArguments
from fer_hf.cli.parsing import RecipeParser, parse_arguments
from fer_hf.errors import BadInputError, is_hub_id, nearest, no_such_path
from fer_hf.provenance import command_line
from fer_hf.training import FerTrainingArguments
from fer_hf.training.arguments import training_summary


FLAGS = (ModelArguments, DataArguments, FerTrainingArguments)
STOCK = {field.name for field in fields(TrainingArguments)}
RECIPES = Path(__file__).parent.parent / "recipes"


@pytest.fixture
def demo(tmp_path):
    path = tmp_path / "demo.yaml"
    path.write_text(
        "model_name_or_path: m\ndataset_name: synthetic\nlearning_rate: 1e-3\nunfreeze_schedule: {2: vit.layers.11}\n"
    )
    return path


def parse(demo, *args):
    return parse_arguments(FLAGS, "recipe", demo, ["--use_cpu", *args])


def test_without_a_config_or_a_data_set_the_demo_is_read(demo, tmp_path):
    model_args, data_args, args, config = parse(demo)
    assert config == demo
    assert (model_args.model_name_or_path, data_args.dataset_name) == ("m", "synthetic")
    assert args.learning_rate == 1e-3  # YAML reads 1e-3 as text
    assert args.unfreeze_schedule == {2: "vit.layers.11"}
    assert args.output_dir.startswith("runs/recipe-")
    *_, config = parse(demo, "--dataset_name", "fer2013", "--model_name_or_path", "x")
    assert config is None


def test_model_and_dataset_are_short_for_the_long_names(demo):
    model_args, data_args, _, config = parse(demo, "--dataset", "fer2013", "--model=x")
    assert (model_args.model_name_or_path, data_args.dataset_name, config) == ("x", "fer2013", None)
    demo.write_text("architecture: resnet50\ndataset: synthetic\n")
    model_args, data_args, *_ = parse(demo, "--model", "x")  # it replaces the file's architecture
    assert (model_args.start_point, model_args.architecture, data_args.dataset_name) == ("x", None, "synthetic")


def test_other_data_than_the_files_has_options_of_its_own(demo):
    demo.write_text(demo.read_text() + "dataset_options: {train: 7}\n")
    assert parse(demo)[1].dataset_options == {"train": 7}
    assert parse(demo, "--config", str(demo), "--dataset", "synthetic")[1].dataset_options == {"train": 7}
    assert parse(demo, "--config", str(demo), "--dataset", "fer2013")[1].dataset_options is None


def test_a_bare_name_finds_the_configs_that_come_with_the_recipes(demo, tmp_path, monkeypatch):
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    *_, config = parse(demo, "--config", demo.name)
    assert config == demo
    Path(demo.name).write_text(demo.read_text())  # a file of one's own comes first
    *_, config = parse(demo, "--config", demo.name)
    assert config == Path(demo.name)


def test_no_argument_at_all_is_the_demo(demo):
    *_, config = parse_arguments(FLAGS, "recipe", demo, [])
    assert config == demo


def test_the_command_line_wins_over_the_file(demo):
    _, _, args, _ = parse(demo, "--config", str(demo), "--learning_rate", "0.5", "--output_dir", "out")
    assert (args.learning_rate, args.output_dir) == (0.5, "out")
    _, _, args, _ = parse(demo, f"--config={demo}", "--unfreeze_schedule", '{"1": "vit"}')
    assert args.unfreeze_schedule == '{"1": "vit"}'


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("learning_rat: 1", "unknown flag 'learning_rat': did you mean learning_rate"),
        ("- a\n- b", "expected a flat map of flag names to values, got list"),
        ("a: [1", "no YAML"),
        ("head: mlp4", "`head` must be one of linear, mlp3, mlp5, mlp5_bn, got 'mlp4'"),
        ("save_strategy: no", 'quote it: `save_strategy: "no"`'),
    ],
)
def test_a_bad_file_is_one_clear_line(tmp_path, text, message):
    path = tmp_path / "bad.yaml"
    path.write_text(text)
    with pytest.raises(BadInputError) as error:
        parse(path)
    assert message in str(error.value)
    assert str(path) in str(error.value)
    assert "\n" not in str(error.value)


def test_a_start_point_on_the_command_line_wins_over_the_files(demo, tmp_path):
    demo.write_text(demo.read_text() + "head: mlp3\n")
    model_args, *_ = parse(demo, "--architecture", "resnet50", "--config_overrides", '{"image_size": 64}')
    assert (model_args.architecture, model_args.model_name_or_path, model_args.head) == ("resnet50", None, None)
    assert model_args.config_overrides == {"image_size": 64}
    model_args, *_ = parse(demo, "--model_name_or_path", "other")
    assert (model_args.start_point, model_args.head) == ("other", "mlp3")
    path = tmp_path / "scratch.yaml"
    path.write_text(
        "architecture: resnet50\nconfig_overrides: {stem: small}\npixel_range: signed\ndataset_name: synthetic\n"
    )
    model_args, *_ = parse(demo, "--config", str(path))
    assert (model_args.start_point, model_args.config_overrides) == ("resnet50", {"stem": "small"})
    model_args, *_ = parse(demo, "--config", str(path), "--model_name_or_path", "m")
    assert (model_args.architecture, model_args.start_point, model_args.config_overrides) == (None, "m", {})
    assert model_args.pixel_range is None


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ([], "Give one of `model_name_or_path` and `architecture`, got neither."),
        (["--model_name_or_path", "m", "--architecture", "a"], "got both"),
        (["--architecture", "alexnet", "--head", "mlp3"], "`head` goes with `model_name_or_path`"),
        (["--architecture", "alexnet", "--head_dropout", "0.5"], "`head_dropout` goes with `model_name_or_path`"),
        (["--model_name_or_path", "m", "--pixel_range", "unit"], "`pixel_range` goes with `architecture`"),
        (["--model_name_or_path", "m", "--config_overrides", "{}"], "`config_overrides` goes with `architecture`"),
        (
            ["--architecture", "alexnet", "--config_overrides", "{"],
            "of options, got '{', which is no JSON",
        ),
        (["--architecture", "alexnet", "--config_overrides", "[1]"], "`config_overrides` must be a map of options"),
    ],
)
def test_a_start_point_must_be_one_and_clear(demo, flags, message):
    with pytest.raises(BadInputError) as error:
        parse(demo, "--dataset_name", "synthetic", *flags)
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_an_architecture_comes_with_its_processor_and_weights_from_elsewhere(tmp_path, names):
    source = build("resnet50", names, network="resnet18", num_channels=3)
    save_file(
        {f"module.{key}": value for key, value in source.backbone.state_dict().items()}, tmp_path / "w.safetensors"
    )
    overrides = {"network": "resnet18", "image_size": 40}
    weights = str(tmp_path / "w.safetensors")
    model, processor = ModelArguments(
        architecture="resnet50", config_overrides=overrides, backbone_weights=weights
    ).load(names)
    assert model.config.id2label == dict(enumerate(names))
    assert torch.equal(model.backbone.bn1.weight, source.backbone.bn1.weight)
    torch.testing.assert_close(model.backbone.conv1.weight, source.backbone.conv1.weight.sum(dim=1, keepdim=True))
    face = Image.new("L", (48, 48))
    flags = ModelArguments(architecture="prelu-cnn", pixel_range="unit")
    assert flags.load(names)[1](face, return_tensors="pt")["pixel_values"].max() == 0
    assert flags.record()["pixel_range"] == "unit"
    with pytest.raises(BadInputError, match="`pixel_range` must be one of unit, signed, got 'half'"):
        ModelArguments(architecture="prelu-cnn", pixel_range="half")
    assert processor(face, return_tensors="pt")["pixel_values"].shape == (1, 3, 40, 40)
    with pytest.raises(BadInputError, match="`architecture` 'resnet51' is unknown: did you mean resnet50"):
        ModelArguments(architecture="resnet51").load(names)
    with pytest.raises(BadInputError, match="no configuration field 'image_siz': did you mean image_size"):
        ModelArguments(architecture="resnet50", config_overrides={"image_siz": 3}).load(names)
    with pytest.raises(BadInputError, match=r"of the backbone that the file lacks.*another shape"):
        ModelArguments(architecture="resnet50", backbone_weights=weights).load(names)
    loaded, _ = ModelArguments(
        architecture="resnet50", backbone_weights=weights, allow_unmatched_backbone_weights=True
    ).load(names)
    torch.testing.assert_close(loaded.backbone.conv1.weight, model.backbone.conv1.weight)


def test_flags_that_do_not_go_together_are_bad_input(demo):
    with pytest.raises(BadInputError, match="requires the save and eval strategy to match"):
        parse(demo, "--eval_strategy", "steps")
    with pytest.raises(BadInputError, match="`remove_unused_columns` must be False"):
        parse(demo, "--remove_unused_columns", "True")


def test_without_validation_the_last_weights_stay_and_what_waits_for_a_score_is_refused(demo):
    *_, args, _ = parse(demo, "--eval_strategy", "no")
    assert not args.load_best_model_at_end
    for flag, value in (("early_stopping_patience", "3"), ("unfreeze_on_plateau", "2"), ("save_strategy", "best")):
        with pytest.raises(BadInputError, match=f"`{flag}` {value} needs `eval_strategy` steps or epoch, got no"):
            parse(demo, "--eval_strategy", "no", f"--{flag}", value)


def test_data_options_may_be_json_on_the_command_line(demo):
    _, data_args, _, _ = parse(demo, "--dataset_options", '{"train": 7')
    with pytest.raises(BadInputError, match=r"`dataset_options` must be a map of options, got .*which is no JSON"):
        data_args.load()


def test_the_summary_holds_what_shapes_the_result_and_no_paths(demo):
    _, _, args, _ = parse(demo, "--per_device_train_batch_size", "16", "--gradient_accumulation_steps", "2")
    summary = training_summary(args)
    assert summary["global_batch_size"] == 32
    assert summary["gradient_accumulation_steps"] == 2
    assert summary["learning_rate"] == 1e-3
    assert summary["unfreeze_schedule"] == {2: "vit.layers.11"}
    assert not any("dir" in key or "token" in key for key in summary)


def test_the_recorded_command_holds_no_folder_of_the_machine(monkeypatch, tmp_path):
    monkeypatch.delenv("ACCELERATE_MIXED_PRECISION", raising=False)
    monkeypatch.delenv("TORCHELASTIC_RUN_ID", raising=False)
    monkeypatch.chdir(tmp_path)
    words = ["recipes/r.py", "--data_dir", "/data/faces", f"--output_dir={tmp_path}/runs/a", "--seed", "1"]
    monkeypatch.setattr("sys.argv", words)
    assert command_line(1) == "python recipes/r.py --data_dir DIR --output_dir=runs/a --seed 1"
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", "no")
    assert command_line(1).startswith("accelerate launch recipes/r.py")


def test_the_recorded_command_can_be_pasted_into_a_shell(monkeypatch):
    words = ["recipes/r.py", "--config_overrides", '{"mode": "softmax"}', "--output_dir", "runs/two words"]
    monkeypatch.setattr("sys.argv", words)
    for variable, launcher in (("ACCELERATE_MIXED_PRECISION", "accelerate launch"), (None, "python")):
        monkeypatch.delenv("TORCHELASTIC_RUN_ID", raising=False)
        monkeypatch.delenv("ACCELERATE_MIXED_PRECISION", raising=False)
        if variable:
            monkeypatch.setenv(variable, "no")
        assert shlex.split(command_line(1)) == [*launcher.split(), *words]


def test_a_recipe_that_runs_as_a_module_is_recorded_as_one(monkeypatch):
    for variable in ("ACCELERATE_MIXED_PRECISION", "TORCHELASTIC_RUN_ID"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setattr("sys.argv", ["/usr/lib/python3/fer_hf/recipes/train.py", "--seed", "1"])
    monkeypatch.setattr(sys.modules["__main__"], "__spec__", ModuleSpec("fer_hf.recipes.train", None))
    assert command_line(1) == "python -m fer_hf.recipes.train --seed 1"


def test_publishing_while_training_is_refused_with_the_way_that_leaves_pickles_at_home(demo):
    with pytest.raises(
        BadInputError, match=r"training_args\.bin.*python push_to_hub\.py RUN_DIR --repo_id owner/name"
    ):
        parse(demo, "--push_to_hub")
    parse(demo, "--push_to_hub", "False")


def test_the_old_name_of_balanced_accuracy_is_for_runs_that_began_under_it(demo, tmp_path):
    old = ("--metric_for_best_model", "mean_class_accuracy")
    with pytest.raises(BadInputError, match="is now balanced_accuracy"):
        parse(demo, *old)
    *_, args, _ = parse(demo, *old, "--output_dir", str(tmp_path), "--resume_from_checkpoint", "true")
    assert args.metric_for_best_model == "balanced_accuracy"


@pytest.mark.parametrize("recipe", ["vit_gradual_unfreeze", "lr_search", "mae_pretrain"])
def test_help_is_a_page_and_help_all_has_every_flag(recipe, monkeypatch, capsys):
    for page in ("--help", "--help_all"):
        monkeypatch.setattr(sys, "argv", [f"{recipe}.py", page])
        with pytest.raises(SystemExit, match="0"):
            runpy.run_path(str(RECIPES / f"{recipe}.py"), run_name="__main__")
    short, long = capsys.readouterr().out.split("usage: ")[1:]
    lines = short.splitlines()
    assert len(lines) <= 80
    assert lines[1].startswith("  --config ")
    assert sum(line.split()[0][2:] in STOCK for line in lines[1:] if line[:4] == "  --") >= 20
    ours = {field.name for field in fields(FerTrainingArguments)} - STOCK - parsing._OF_THE_MACHINE
    assert all(f"--{name} " in short for name in ours)
    assert all(f"--{field.name}" in long for field in fields(FerTrainingArguments))


def test_flags_that_are_gone_are_gone_and_what_takes_their_place_is_there():
    known = RecipeParser(FLAGS, "r").flags
    for old, new in parser._GONE.items():
        assert old not in known
        named = re.findall(r"`(\w+)`", new)
        assert named or new.startswith(("nothing: ", "the environment variable ", "`fer-hf push`")), old
        assert set(named) <= set(known), old


def test_a_complaint_about_a_name_ends_with_what_is_near_or_with_all():
    assert nearest("FER2031", ["rafdb", "fer2013"]) == "did you mean fer2013?"
    assert nearest("out", ["input_dir", "output_dir"]) == "did you mean output_dir?"
    assert nearest("x", ["train", "test"]) == "it can be train, test."
    assert nearest("x", []) == "there are none."
    assert nearest("xq9", [f"name{i}" for i in range(9, 40)]) == "did you mean name9?"


def test_a_complaint_about_a_path_names_the_nearest_one(tmp_path):
    (tmp_path / "faces" / "train").mkdir(parents=True)
    typo = tmp_path / "face" / "train" / "happy"
    assert no_such_path(typo) == f"{typo} does not exist: did you mean {tmp_path / 'faces'}?"
    assert no_such_path("/nowhere/at/all") == "/nowhere/at/all does not exist."


@pytest.mark.parametrize(
    ("name", "may_be"),
    [("owner/name", True), ("runs/name", False), ("here/name", False), ("./name", False), ("name", False)],
)
def test_a_path_is_no_name_on_the_hub(name, may_be, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("here").mkdir()
    assert is_hub_id(name) == may_be


@pytest.mark.parametrize("flag", ["learning_rate", "weight_decay", "max_grad_norm", "dataloader_num_workers"])
def test_numbers_below_0_are_refused(demo, flag):
    with pytest.raises(BadInputError, match=f"`{flag}` must be at least 0, got -1"):
        parse(demo, f"--{flag}", "-1")
