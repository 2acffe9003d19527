"""`fer-hf train`: which recipe it runs, with which flags, behind which launcher."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from fer_hf.cli.commands.train import command


RECIPES = Path(__file__).parent.parent / "recipes"
TRAIN = "fer_hf.recipes.train"
TORCHRUN = ["torch.distributed.run", "--standalone", "--nproc_per_node", "2", "-m", TRAIN]
ACCELERATE = ["accelerate.commands.accelerate_cli", "launch"]
MULTI_GPU = [*ACCELERATE, "--config_file", str(RECIPES / "accelerate" / "multi_gpu.yaml")]


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("", [TRAIN]),
        ("--max_steps 5 --use_cpu", [TRAIN, "--max_steps", "5", "--use_cpu"]),
        ("demo_cnn --max_steps 5", [TRAIN, "--config", "demo_cnn.yaml", "--max_steps", "5"]),
        ("--config demo_cnn.yaml", [TRAIN, "--config", "demo_cnn.yaml"]),
        ("mae_fer2013_compact", ["fer_hf.recipes.mae_pretrain", "--config", "mae_fer2013_compact.yaml"]),
        ("demo_lr_search", ["fer_hf.recipes.lr_search", "--config", "demo_lr_search.yaml"]),
        ("fer2013_vit_mae", ["fer_hf.recipes.vit_gradual_unfreeze", "--config", "fer2013_vit_mae.yaml"]),
        ("mine.yaml --seed 1", ["fer_hf.recipes.mae_pretrain", "--config", "mine.yaml", "--seed", "1"]),
        ("nowhere/mine.yaml", [TRAIN, "--config", "nowhere/mine.yaml"]),  # the recipe says that there is none
        ("demo_cnn --num_processes 1", [TRAIN, "--num_processes", "1", "--config", "demo_cnn.yaml"]),
        ("--num_processes 2 --use_cpu", [*TORCHRUN, "--use_cpu"]),
        ("--accelerate_config multi_gpu --seed 1", [*MULTI_GPU, "-m", TRAIN, "--seed", "1"]),
        (
            "--accelerate_config mine.yaml --num_processes 4",
            [*ACCELERATE, "--config_file", "mine.yaml", "--num_processes", "4", "-m", TRAIN],
        ),
    ],
)  # fmt: skip
def test_a_command_is_a_recipe_its_flags_and_what_launches_it(words, expected, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("mine.yaml").write_text(
        "# Mine, after\n#   accelerate launch recipes/mae_pretrain.py --config ...\nseed: 0\n"
    )
    assert command(words.split()) == expected


@pytest.mark.slow
def test_two_processes_train_one_model(tmp_path):
    options = json.dumps({"train": 14, "validation": 7, "test": 7})
    words = ["demo_cnn", "--num_processes", "2", "--use_cpu", "--max_steps", "1", "--dataset_options", options]
    train = [sys.executable, "-m", "fer_hf", "train", *words, "--output_dir", "run"]
    done = subprocess.run(train, cwd=tmp_path, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    record = json.loads((tmp_path / "run" / "run_record.json").read_text())
    assert record["hardware"]["processes"] == 2
    assert "-m fer_hf.recipes.train --config demo_cnn.yaml" in record["command"]
