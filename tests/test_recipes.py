"""Every file under `recipes/configs`: two steps of it on drawn faces, and what its header and the README say of it."""

import json
import re
import runpy
import sys
from pathlib import Path

import pytest
import torch
import yaml
from conftest import tiny_vit_config
from transformers import ViTImageProcessor, ViTModel

from fer_hf.cli.course import Flags
from fer_hf.cli.launch import run
from fer_hf.runs import finish


ROOT = Path(__file__).parent.parent
RECIPES = ROOT / "recipes"
CONFIGS = {path.stem: path for path in sorted((RECIPES / "configs").glob("*.yaml"))}
FINE_TUNING = {path.stem: path for path in RECIPES.glob("*.py") if "fine_tune(" in path.read_text()}

# What makes a run small enough for a test, beside drawn faces: the faces' size, the widths, and nothing else.
RUN_OVERRIDES = {
    "max_steps": 2,
    "cpu_threads": 1,
    "dataset_name": "synthetic",
    "dataset_options": '{"train": 8, "validation": 7, "test": 7}',
    "per_device_train_batch_size": 4,
    "per_device_eval_batch_size": 7,
}
NO_CHECKPOINTS = {"save_strategy": "no", "load_best_model_at_end": False}  # tests of the trainer write them
MODEL_OVERRIDES = {
    "alexnet": {"image_size": 64, "network": "resnet18"},  # AlexNet's 57 M parameters lie behind its pooling
    "cnn-transformer": {"image_size": 16, "stem_widths": [8, 16], "intermediate_size": 32, "num_hidden_layers": 2},
    "dacl": {"image_size": 32, "attention_hidden_sizes": [32, 16, 8]},
    "dacl-200": {"image_size": 32, "attention_hidden_sizes": [32, 16, 8]},
    "dacl-48": {"image_size": 32, "attention_hidden_sizes": [32, 16, 8]},
    "dacl-reduced": {"image_size": 32},
    "resnet50": {"image_size": 32, "network": "resnet18"},
    "transfer": {
        "image_size": 16, "stem_units": [1, 1], "stem_widths": [8, 16], "hidden_size": 32, "num_hidden_layers": 2,
        "num_attention_heads": 2,
    },
    "transfer-reduced": {
        "image_size": 32, "stem_blocks": [1, 1, 1, 1], "stem_widths": [8, 8, 16, 16], "hidden_size": 16,
        "intermediate_size": 16, "num_hidden_layers": 2,
    },
    "vgg-fer": {"image_size": 32, "stage_widths": [8, 8, 16, 16], "head_hidden_sizes": [32, 32]},
    "vit-scratch": {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64},
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


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    """A folder that stands for ViT-B/16: its twelve layers, which schedules name, and no head for expressions."""
    folder = tmp_path_factory.mktemp("vit")
    torch.manual_seed(0)
    config = tiny_vit_config(num_hidden_layers=12, image_size=32)
    ViTModel(config).save_pretrained(folder)
    ViTImageProcessor(size={"height": 32, "width": 32}).save_pretrained(folder)
    return folder


@pytest.mark.parametrize("name", CONFIGS)
def test_every_config_runs_two_steps_on_drawn_faces(name, published, tmp_path, monkeypatch):
    values = yaml.safe_load(CONFIGS[name].read_text())
    overrides = {**RUN_OVERRIDES, **(NO_CHECKPOINTS if recipe_of(CONFIGS[name]).stem in FINE_TUNING else {})}
    if values.get("model_name_or_path", "").startswith("google/"):
        overrides["model_name_or_path"] = published
    if values.get("architecture") in MODEL_OVERRIDES:
        model = {**(values.get("config_overrides") or {}), **MODEL_OVERRIDES[values["architecture"]]}
        overrides["config_overrides"] = json.dumps(model)
    words = [word for flag, value in overrides.items() for word in (f"--{flag}", str(value))]
    words += ["--config", str(CONFIGS[name]), "--output_dir", str(tmp_path / "run"), "--use_cpu"]
    words += ["--disable_tqdm", "True"]
    for picture in [name for name in vars(finish) if name.startswith("plot_")]:
        monkeypatch.setattr(finish, picture, lambda *args: None)  # half a second each, and tested elsewhere
    monkeypatch.setattr(sys, "argv", [str(recipe_of(CONFIGS[name])), *words])
    run(runpy.run_path(sys.argv[0])["main"])
    if recipe_of(CONFIGS[name]).stem == "lr_search":
        assert len(json.loads((tmp_path / "run" / "search.json").read_text())["results"]) > 1
        return
    assert (tmp_path / "run" / "model.safetensors").is_file()
    state = json.loads((tmp_path / "run" / "trainer_state.json").read_text())
    assert state["global_step"] == 2
    losses = [entry["train_loss"] for entry in state["log_history"] if "train_loss" in entry]
    assert len(losses) == 1
    assert torch.tensor(losses).isfinite().all()


@pytest.mark.parametrize("name", CONFIGS)
def test_every_header_gives_its_own_command(name):
    recipe = recipe_of(CONFIGS[name])
    assert recipe.is_file()
    if name == f"demo_{recipe.stem}":  # what the recipe runs without arguments
        return
    command = f"accelerate launch recipes/{recipe.name} --config recipes/configs/{name}.yaml"
    assert f"{command} " in header(CONFIGS[name]) + " "


@pytest.mark.parametrize("name", CONFIGS)
def test_every_flag_of_a_header_and_every_key_is_known(name):
    config = CONFIGS[name]
    if recipe_of(config).stem not in FINE_TUNING:
        pytest.skip("has flags of its own, which the run above checks")
    known = {field for flags in Flags.__annotations__.values() for field in flags.__dataclass_fields__}
    assert set(yaml.safe_load(config.read_text())) <= known
    assert set(re.findall(r"--(\w+)", header(config))) <= known | {"config", "fp16"}


@pytest.mark.parametrize("name", [name for name in CONFIGS if recipe_of(CONFIGS[name]).stem in FINE_TUNING])
def test_a_published_row_says_what_was_published_on_which_images(name):
    text = header(CONFIGS[name])
    values = yaml.safe_load(CONFIGS[name].read_text())
    if values["dataset_name"] == "synthetic":
        assert "faces that the package draws" in text
        return
    published = re.search(r"Published.*", text)
    measured = re.search(r"Measured \d{4}-\d\d-\d\d at [0-9a-f]{7}", text)
    assert published or measured or "Not measured yet." in text
    if published and re.search(r"\d[\d.]+ %|0\.\d+", published[0]):
        assert re.search(r"[\d,]+ images|PublicTest", published[0])


@pytest.mark.parametrize("recipe", FINE_TUNING)
def test_every_fine_tuning_recipe_has_a_demo_that_needs_no_download(recipe):
    values = yaml.safe_load(CONFIGS[f"demo_{recipe}"].read_text())
    assert values["dataset_name"] == "synthetic"
    assert values.get("model_name_or_path", "fer-compact-vit-mae") == "fer-compact-vit-mae"
    example = re.search(r'example="(\w+\.yaml)"', FINE_TUNING[recipe].read_text())[1]
    assert recipe_of(RECIPES / "configs" / example).stem == recipe


def test_the_readme_lists_every_config_once():
    listed = re.findall(r"^\| `([\w.-]+\.yaml)`", (RECIPES / "README.md").read_text(), flags=re.MULTILINE)
    assert sorted(listed) == [f"{name}.yaml" for name in CONFIGS]


def test_paths_named_in_recipes_exist():
    for recipe in [*RECIPES.glob("*.py"), RECIPES / "README.md"]:
        for path in re.findall(r"recipes/configs/[\w.-]+\.yaml", recipe.read_text()):
            assert (ROOT / path).is_file(), f"{recipe.name} names {path}"
