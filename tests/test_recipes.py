"""Every file under `recipes/configs`: what its header says, what it builds, and two steps of those that differ."""

import json
import os
import re
import runpy
import tomllib
from pathlib import Path

import pytest
import torch
import yaml
from conftest import tiny_vit_config
from helpers import call_recipe, draw_no_pictures
from transformers import BitImageProcessor, Dinov2Config, Dinov2Model, ViTImageProcessor, ViTModel

from fer_hf.cli.fine_tuning import FLAGS, Flags
from fer_hf.cli.parsing import parse_arguments
from fer_hf.cli.search import SearchArguments
from fer_hf.data.training_set import training_faces
from fer_hf.recipes import mae_pretrain, vit_gradual_unfreeze
from fer_hf.training import GradualUnfreezing


ROOT = Path(__file__).parent.parent
RECIPES = ROOT / "recipes"
CONFIGS = {path.stem: path for path in sorted((RECIPES / "configs").glob("*.yaml"))}
# The flags of each recipe that configs are for.
KINDS = {
    "vit_gradual_unfreeze": FLAGS,
    "train": FLAGS,
    "lr_search": (SearchArguments, *FLAGS),
    "mae_pretrain": (mae_pretrain.MaskingArguments, *(FLAGS[i] for i in (1, 3))),
}
PRELU = ("prelu_cnn", "template")
# Those that take different paths: together they set every flag that any config sets.
RUN = (
    "cnn_vit_cnn_v2_1",
    "cnn_vit_vit_v1_3",
    "cnn_vit_vit_v1_6_6",
    "dacl_paper_rafdb",
    "fer2013_compact_cnn",
    "fer2013_dinov2",
    "fer2013_vit_mae",
    "gvit21k_vit_rafdb",
    "prelu_report_prelu_cnn",
    "transfer_paper_rafdb",
)

# What makes a run small enough for a test, beside drawn faces: the faces' size, the widths, and nothing else.
RUN_OVERRIDES = {
    "max_steps": 2,
    "cpu_threads": 1,
    "dataset_name": "synthetic",
    "dataset_options": '{"train": 8, "validation": 7, "test": 7}',
    "per_device_train_batch_size": 4,
    "per_device_eval_batch_size": 7,
    # Tests of the trainer write checkpoints.
    "save_strategy": "no",
    "load_best_model_at_end": False,
    "score_last_epoch": True,
}
MODEL_OVERRIDES = {
    "dacl": {"image_size": 32, "attention_hidden_sizes": [32, 16, 8]},
    "transfer": {
        "image_size": 16, "stem_units": [1, 1], "stem_widths": [8, 16], "hidden_size": 32, "num_hidden_layers": 2,
        "num_attention_heads": 2,
    },
}  # fmt: skip


def header(config):
    """The comment at the top of a file, as one line."""
    lines = []
    for line in config.read_text(encoding="utf-8").splitlines():
        if not line.startswith("#"):
            break
        lines.append(line.removeprefix("#").strip().removesuffix("\\").strip())
    return " ".join(lines)


def recipe_of(config):
    """The recipe that the header's command runs."""
    return ROOT / re.search(r"accelerate launch (recipes/\w+\.py)", header(config))[1]


FINE_TUNING = [name for name in CONFIGS if KINDS[recipe_of(CONFIGS[name]).stem] is FLAGS]


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    """
    Folders that stand for checkpoints from elsewhere, by how their names begin: with twelve layers, which schedules
    name, and no head for expressions.
    """
    vit, dinov2 = tmp_path_factory.mktemp("vit"), tmp_path_factory.mktemp("dinov2")
    torch.manual_seed(0)
    config = tiny_vit_config(num_hidden_layers=12, image_size=32)
    ViTModel(config).save_pretrained(vit)
    ViTImageProcessor(size={"height": 32, "width": 32}).save_pretrained(vit)
    config = Dinov2Config(hidden_size=8, num_attention_heads=2, patch_size=16, image_size=32)
    Dinov2Model(config).save_pretrained(dinov2)
    size = {"height": 32, "width": 32}
    BitImageProcessor(size=size, do_center_crop=False).save_pretrained(dinov2)
    return {"google/": vit, "dinov2-": dinov2}


def stand_in(values, published):
    """The folder that stands for the checkpoint that a config names; `None` for one of ours, or an architecture."""
    name = values.get("model_name_or_path", "")
    return next((folder for start, folder in published.items() if name.startswith(start)), None)


@pytest.mark.parametrize("name", RUN)
def test_a_config_runs_two_steps_on_drawn_faces(name, published, tmp_path, monkeypatch):
    values = yaml.safe_load(CONFIGS[name].read_text())
    overrides = dict(RUN_OVERRIDES)
    if folder := stand_in(values, published):
        overrides["model_name_or_path"] = folder
    if values.get("architecture") in MODEL_OVERRIDES:
        model = {**(values.get("config_overrides") or {}), **MODEL_OVERRIDES[values["architecture"]]}
        overrides["config_overrides"] = json.dumps(model)
    words = [word for flag, value in overrides.items() for word in (f"--{flag}", str(value))]
    words += ["--config", str(CONFIGS[name]), "--output_dir", str(tmp_path / "run")]
    draw_no_pictures(monkeypatch)
    call_recipe(monkeypatch, recipe_of(CONFIGS[name]), *words)
    assert (tmp_path / "run" / "model.safetensors").is_file()
    state = json.loads((tmp_path / "run" / "trainer_state.json").read_text())
    assert state["global_step"] == 2
    losses = [entry["train_loss"] for entry in state["log_history"] if "train_loss" in entry]
    assert len(losses) == 1
    assert torch.tensor(losses).isfinite().all()


def test_the_configs_that_are_run_set_every_flag_that_any_config_sets():
    flags = {name: set(yaml.safe_load(CONFIGS[name].read_text())) for name in FINE_TUNING}
    run_with = set(RUN_OVERRIDES).union({"config_overrides"}, *(flags[name] for name in RUN))
    assert run_with >= set().union(*flags.values())


def parse(name, *words):
    recipe = recipe_of(CONFIGS[name]).stem
    return parse_arguments(
        KINDS[recipe], recipe, Path("no demo"), ["--config", str(CONFIGS[name]), "--use_cpu", *words]
    )


@pytest.mark.parametrize("name", FINE_TUNING)
def test_what_a_config_names_goes_together(name, published, drawn_faces):
    values = yaml.safe_load(CONFIGS[name].read_text())
    folder = stand_in(values, published)
    *parsed, _ = parse(name, *(["--model", str(folder)] if folder else []))
    flags = Flags(*parsed[-4:])
    train = drawn_faces["train"]
    # An architecture without its weights; a checkpoint is small enough as it is.
    with torch.device("meta" if flags.model.architecture else "cpu"):
        model, processor = flags.model.load(train.features["label"].names, flags.loss)
        size = processor.crop_size if processor.do_center_crop else processor.size
        outputs = model(torch.zeros(2, 3, size["height"], size["width"]), labels=torch.tensor([0, 6]))
    assert outputs.logits.shape == (2, 7)
    unfreezing = GradualUnfreezing.from_arguments(model, flags.training)
    assert (unfreezing is not None) == any(key.startswith("unfreeze_") for key in values)
    flags.loss.function(train, flags.training, flags.data.sampler)
    column = flags.loss.undistilled_column  # teachers are asked in the test above
    faces = training_faces(train, processor, flags.data.augmentation, flags.data.data_path, 0, column)
    assert len(faces) == len(train)


@pytest.mark.parametrize("name", sorted(set(CONFIGS) - set(FINE_TUNING)))
def test_the_other_configs_are_read(name):
    first, *_ = parse(name)
    if recipe_of(CONFIGS[name]).stem == "lr_search":
        assert len(first.rates()) > 1
    else:
        assert first.encoder().model_type == "vit"


@pytest.mark.parametrize("name", CONFIGS)
def test_every_header_gives_its_own_command(name):
    recipe = recipe_of(CONFIGS[name])
    assert recipe.is_file()
    if name == f"demo_{recipe.stem}":  # what the recipe runs without arguments
        assert name in recipe.read_text()
        return
    command = f"accelerate launch recipes/{recipe.name} --config recipes/configs/{name}.yaml"
    assert f"{command} " in header(CONFIGS[name]) + " "


@pytest.mark.parametrize("name", CONFIGS)
def test_every_flag_of_a_header_is_known(name):
    kind = {*KINDS[recipe_of(CONFIGS[name]).stem], *FLAGS}  # a header may say what comes after: fine-tuning
    known = {field for flags in kind for field in flags.__dataclass_fields__}
    assert set(re.findall(r"--(\w+)", header(CONFIGS[name]))) <= known | {"config", "fp16"}


@pytest.mark.parametrize("name", FINE_TUNING)
def test_a_published_row_says_what_was_published_on_which_images(name):
    text = header(CONFIGS[name])
    values = yaml.safe_load(CONFIGS[name].read_text())
    if values["dataset_name"] == "synthetic":
        assert "faces that the package draws" in text
        return
    published = re.search(r"Published.*", text)
    measured = re.search(r"Measured (?:in float32, )?\d{4}-\d\d-\d\d at [0-9a-f]{7}", text)
    assert published or measured or "Not measured yet." in text
    if published and re.search(r"\d[\d.]+ %|0\.\d+", published[0]):
        assert re.search(r"[\d,]+ images|PublicTest", published[0])


@pytest.mark.parametrize("name", FINE_TUNING)
def test_a_published_row_with_weight_decay_has_it_on_all_parameters(name):
    # Plain torch optimizers, and Paddle's, decay whatever they are given.
    values = yaml.safe_load(CONFIGS[name].read_text())
    decays = "Published" in header(CONFIGS[name]) and "weight_decay" in values
    assert values.get("decay_all_parameters", False) == decays
    assert ("eight decay on all parameters" in header(CONFIGS[name])) == decays


def test_the_sgd_runs_of_the_cnn_comparison_have_the_momentum_of_its_slides():
    names = [name for name in CONFIGS if name.startswith("cnn_comparison_") and "_sgd" in name]
    assert len(names) == 8
    for name in names:
        assert yaml.safe_load(CONFIGS[name].read_text())["optim_args"] == "momentum=0.9"
        assert "Momentum 0.9, rate and epochs are those of the slides" in header(CONFIGS[name])


def test_the_prelu_report_has_its_epochs():
    epochs = {n: yaml.safe_load(CONFIGS[f"prelu_report_{n}"].read_text())["num_train_epochs"] for n in PRELU}
    assert epochs == {"prelu_cnn": 30, "template": 20}


@pytest.mark.skipif("FER2013_DIR" not in os.environ, reason="FER2013_DIR is not set to a folder with train.csv")
@pytest.mark.parametrize("name", PRELU)
def test_the_prelu_report_has_its_split_of_train_csv_and_its_disgusted_faces(name):
    *parsed, _ = parse(f"prelu_report_{name}", "--data_dir", os.environ["FER2013_DIR"])
    tables = Flags(*parsed[-4:]).data.load()
    disgust = tables["train"].features["label"].str2int("disgust")
    faces = {"prelu_cnn": (24_014, 1_396), "template": (22_967, 349)}[name]
    assert (len(tables["train"]), tables["train"]["label"][:].count(disgust)) == faces
    assert len(tables["validation"]) == 5_742
    assert "test" not in tables


def test_cnn_v2_and_v2_1_differ_in_the_resampling_alone():
    v2, v2_1 = (yaml.safe_load(CONFIGS[f"cnn_vit_cnn_{name}"].read_text()) for name in ("v2", "v2_1"))
    assert v2["num_train_epochs"] == 20
    assert v2_1 == {**v2, "sampler": "inverse_frequency"}
    assert "sampler" not in v2


def test_the_rafdb_reports_plateau_and_early_stopping_watch_the_validation_loss(published):
    args = Flags(*parse("gvit21k_vit_rafdb", "--model", str(published))[-5:-1]).training
    assert (args.metric_for_best_model, args.greater_is_better) == ("loss", False)
    assert args.early_stopping_patience == 5
    assert (args.optim, args.lr_scheduler_type) == ("adam", "reduce_lr_on_plateau")
    assert args.lr_scheduler_kwargs == {"mode": "min", "factor": 0.9, "patience": 2}


def test_the_demo_needs_no_download():
    values = yaml.safe_load(vit_gradual_unfreeze.DEMO.read_text())
    assert values["dataset_name"] == "synthetic"
    assert values["model_name_or_path"] == "fer-compact-vit-mae"


def test_train_is_the_same_recipe_under_its_own_name(monkeypatch):
    names = []
    monkeypatch.setattr(vit_gradual_unfreeze, "main", lambda recipe: names.append(recipe))
    runpy.run_path(str(RECIPES / "train.py"))["main"]()
    assert names == ["train"]


def test_the_readme_lists_every_config_once():
    listed = re.findall(r"^\| `([\w.-]+\.yaml)`", (RECIPES / "README.md").read_text(), flags=re.MULTILINE)
    assert sorted(listed) == [f"{name}.yaml" for name in CONFIGS]


def test_paths_named_in_recipes_exist():
    for recipe in [*RECIPES.glob("*.py"), RECIPES / "README.md"]:
        for path in re.findall(r"recipes/configs/[\w.-]+\.yaml", recipe.read_text()):
            assert (ROOT / path).is_file(), f"{recipe.name} names {path}"


def test_every_package_is_listed_for_setuptools_and_the_recipes_are_one():
    listed = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
    folders = [path.parent.relative_to(ROOT) for path in (ROOT / "fer_hf").rglob("__init__.py")]
    assert sorted(listed["packages"]) == sorted([*(".".join(folder.parts) for folder in folders), "fer_hf.recipes"])
    patterns = listed["package-data"]["fer_hf.recipes"]
    assert {"configs/*.yaml", "leaderboard/*.yaml"} <= set(patterns)
