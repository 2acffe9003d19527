"""What a user gets wrong ends every command in one line that says so, and exit code 2, and leaves nothing behind."""

import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from fer_hf import asset
from fer_hf.cli.main import main
from fer_hf.labels import EXPRESSIONS


FEW = '--dataset synthetic --dataset_options \'{"train": 15, "validation": 7, "test": 7}\''
EMPTY_DATA = "--dataset imagefolder --data_dir EMPTY"
TRAIN = f"train {FEW} --use_cpu --disable_tqdm --model TINY"
EVALUATE = f"evaluate {FEW} --model TINY"
EXPORT = f"export {FEW} --output new.onnx"
PREDICT = "predict face.png --detector none"

# What is typed, with names of the places below in capitals, and a part of the answer.
CALLS = [
    # The words themselves
    ("", "the following arguments are required: COMMAND (fer-hf --help)"),
    ("evaluat", "`COMMAND`: there is no 'evaluat': did you mean evaluate?"),
    ("faces --datset fer2013", "unknown flag 'datset': did you mean dataset"),
    ("faces --dataset", "`--dataset_name`: expected one argument"),
    ("faces one", "unrecognized arguments: one"),
    ("evaluate", "the following arguments are required: --model_name_or_path/--model (fer-hf evaluate --help)"),
    ("evaluate --model TINY --batch_size 0", "`--batch_size`: must be at least 1, got 0"),
    ("evaluate --model TINY --batch_size many", "`--batch_size`: invalid count value: 'many'"),
    ("evaluate --model TINY --max_eval_samples 0", "`--max_eval_samples`: must be at least 1, got 0"),
    ("predict face.png --batch_size -3", "`--batch_size`: must be at least 1, got -3"),
    ("export --model TINY", "the following arguments are required: --output"),
    ("export --model TINY --output x.onnx --max_drop half", "`--max_drop`: invalid float value: 'half'"),
    ("convert", "the following arguments are required: --output_dir"),
    ("compare --run TINY", "`--run`: expected 2 arguments"),
    ("report", "the following arguments are required: --run"),
    ("push", "the following arguments are required: RUN"),
    # Data sets
    ("faces --dataset fer2031", "There is no data set 'fer2031': did you mean fer2013?"),
    ("faces --dataset nothing", "There is no data set 'nothing': it can be fer2013, ferplus"),
    ("faces --dataset_options {", "`dataset_options` must be a map of options, got '{', which is no JSON"),
    ("faces --dataset_options [1]", "`dataset_options` must be a map of options, got '[1]'"),
    ("faces --dataset_options '{\"trian\": 7}'", "'synthetic' has no option 'trian': did you mean train?"),
    (
        "faces --dataset hub:a/b --dataset_options '{\"revison\": 1}'",
        "has no option 'revison': did you mean revision?",
    ),
    ("faces --dataset_options '{\"train\": -1}'", "train"),
    ("faces --dataset_options '{\"streaming\": true}'", "`dataset_options` cannot set 'streaming'"),
    ('convert --output_dir new --dataset_options \'{"data_dir": "x"}\'', "`dataset_options` cannot set 'data_dir'"),
    ('faces --dataset_options \'{"exclude": ["hapy"]}\'', "`exclude` must name expressions of angry"),
    ('faces --dataset_options \'{"classes": ["happy"]}\'', "`classes` must leave two expressions or more"),
    ('faces --dataset_options \'{"deduplicate": "test"}\'', "`deduplicate` must be 'train'"),
    ("faces --dataset fer2013", "'fer2013' needs `data_dir`"),
    ("faces --dataset fer2013 --data_dir FOLDERS/one_clas", "one_clas does not exist: did you mean"),
    ("audit --dataset rafdb --data_dir FILE", "is a file. `data_dir` must be the folder that holds"),
    ("audit --dataset imagefolder --data_dir EMPTY", "EMPTY"),
    ("audit --dataset hub:./nowhere", "`hub:` takes a folder or a name on the Hub"),
    ("convert --output_dir new --dataset hub:runs/nowhere", "`hub:` takes a folder or a name on the Hub"),
    (f"{EVALUATE} --split tset", "`split` must be one of train, validation, test"),
    (f"{EVALUATE} --split test+test", "`split` must be one of"),
    (f"{EVALUATE} --subgroups gender", "`subgroups` must name columns of test"),
    (f"faces {FEW} --split tset --output new.png", "`split` must be one of"),
    (f"{EXPORT} --model TINY --split tset", "`split` must be one of"),
    # Models
    (f"evaluate {FEW} --model fer-compact-cn", "did you mean fer-compact-cnn or fer-compact-vit"),
    (f"evaluate {FEW} --model runs/typo", "runs/typo does not exist. A model is a folder"),
    (f"{PREDICT} --model ./typo", "`model_name_or_path` ./typo: typo does not exist"),
    (f"{EXPORT} --model EMPTY/typo", "EMPTY/typo does not exist"),
    (f"evaluate {FEW} --model CUT", "model.safetensors is cut off or no safetensors file"),
    (f"{PREDICT} --model CUT", "model.safetensors is cut off or no safetensors file"),
    (f"{EXPORT} --model CUT", "model.safetensors is cut off or no safetensors file"),
    (f"evaluate {FEW} --model POINTER", "is a Git LFS pointer, not the weights"),
    (f"{PREDICT} --model POINTER", "is a Git LFS pointer, not the weights"),
    (f"{EXPORT} --model POINTER", "is a Git LFS pointer, not the weights"),
    # before data is read
    (f"evaluate {EMPTY_DATA} --model POINTER", "is a Git LFS pointer, not the weights"),
    (f"predict {EMPTY_DATA} --model POINTER", "is a Git LFS pointer, not the weights"),
    (f"export {EMPTY_DATA} --output new.onnx --model BACKBONE", "is no trained classifier"),
    (f"report {EMPTY_DATA} --run FOLDERS/none", "No run: FOLDERS/none does not exist"),
    (f"train {EMPTY_DATA} --use_cpu --model POINTER", "is a Git LFS pointer, not the weights"),
    (f"train {EMPTY_DATA} --use_cpu --model TINY --teacher CUT", "model.safetensors is cut off"),
    (f"train {EMPTY_DATA} --use_cpu --model TINY --backbone_weights none.safetensors", "does not exist"),
    (f"train {EMPTY_DATA} --use_cpu --architecture resnet51", "did you mean resnet50"),
    (f"train demo_mae_pretrain {EMPTY_DATA} --use_cpu --architecture resnet50", "'resnet50' is no plain ViT"),
    (f"evaluate {FEW} --model BACKBONE", "is no trained classifier: it has no weights classifier"),
    (f"{PREDICT} --model BACKBONE", "is no trained classifier: it has no weights classifier"),
    (f"{EXPORT} --model BACKBONE", "is no trained classifier: it has no weights classifier"),
    (f"evaluate {FEW} --model EMPTY", "could not be loaded"),
    # Options
    (f"{EVALUATE} --tta five_crop", "`tta` must be one of none, flip, ten_crop"),
    (f"{EVALUATE} --device cuda:99", "`device` 'cuda:99' cannot be used"),
    (f"{EVALUATE} --calibrate --tta flip", "leave out `tta` 'flip'"),
    (f"evaluate {FEW} --model SHIPPED --calibrate", "`calibrate` keeps the temperature in the model's folder"),
    ("predict", "Give either photos (files, folders, URLs) or `dataset_name`."),
    ("predict face.png --dataset synthetic", "Give either photos (files, folders, URLs) or `dataset_name`."),
    (f"predict {FEW} --model TINY --split dev", "`split` must be one of train, validation, test"),
    ("predict face.png --detector yunett", "`detector` 'yunett' is unknown: did you mean yunet"),
    ("explain face.png", "the following arguments are required: --output_dir"),
    ("explain face.png --output new", "unknown flag 'output': did you mean output_dir?"),
    ("explain face.png --out new", "unknown flag 'out': did you mean output_dir?"),
    ("explain --output_dir new", "Give either photos (files, folders, URLs) or `dataset_name`."),
    ("predict face.png --output_dir new", "unknown flag 'output_dir': did you mean output?"),
    ("page --output_dir new", "unknown flag 'output_dir': it can be help, model_name_or_path, model, export"),
    ("explain face.png --detector none --output_dir FILE", "`output_dir` must be a folder"),
    ("explain face.png --detector none --output_dir .", "`output_dir` . holds the photo face.png"),
    ("explain face.png --detector none --output_dir new --model BACKBONE", "is no trained classifier"),
    (f"{PREDICT} --detector_path x", "`detector_path` is for the detector yunet only"),
    ("predict EMPTY", "no images in this folder"),
    (f"{EXPORT} --model TINY --format int4", "`format` must be one of onnx, int8, got 'int4'"),
    # Outputs
    ("faces --output EMPTY", "`output` must be a file"),
    (f"{EVALUATE} --output EMPTY", "`output` must be a file"),
    ("report --run SHIPPED --output EMPTY", "`output` must be a file"),
    ("faces --output FILE/new.png", "cannot be written"),
    ("faces --output FILE", "exists. Name another place, or replace it with --overwrite"),
    ("audit --output_dir FILE", "`output_dir` must be a folder"),
    ("predict face.png --output new.xls", "must end in"),
    ("predict face.png --plot new.txt", "`plot` must end in .png"),
    # Runs
    ("compare --run EMPTY EMPTY", "run_record.json"),
    ("report --run FOLDERS/one_clas", "No run: FOLDERS/one_clas does not exist: did you mean"),
    ("report --run EMPTY --data_dir EMPTY", "needs `dataset_name`"),
    ("report --run EMPTY", "holds no run_record.json"),
    ("report --run SHIPPED --faces --output new.html", "`faces` needs the run's data"),
    ("push EMPTY", "`repo_id` is missing"),
    ("push FILE --repo_id a/b", "is not a directory"),
    # Training
    ("train demo_vit_gradual_unfreez", "did you mean demo_vit_gradual_unfreeze?"),
    ("train --config FOLDERS/none.yaml", "`config`: FOLDERS/none.yaml does not exist"),
    ("train --config FILE", "expected a flat map of flag names to values, got str"),
    ("train --accelerate_config nowhere", "`accelerate_config`: nowhere.yaml does not exist"),
    ("train --num_processes 0", "`--num_processes`: must be at least 1, got 0"),
    (f"{TRAIN} --learning_rat 1", "unknown flag 'learning_rat': did you mean learning_rate"),
    (f"{TRAIN} --learning_rate fast", "`--learning_rate`: invalid float value: 'fast'"),
    (f"{TRAIN} --evaluation_strategy no", "`evaluation_strategy` is gone in Transformers 5; use `eval_strategy`"),
    (f"{TRAIN} --overwrite_output_dir", "`overwrite_output_dir` is gone in Transformers 5; use another `output_dir`"),
    (f"{TRAIN} --warmup-ratio 0.1", "`warmup_ratio` is gone in Transformers 5; use `warmup_steps`"),
    (f"{TRAIN} --sampler class_balance", "`--sampler`: there is no 'class_balance': did you mean class_balanced"),
    (f"{TRAIN} --architecture resnet50", "Give one of `model_name_or_path` and `architecture`, got both"),
    (f"train {FEW} --use_cpu --architecture resnet51", "`architecture` 'resnet51' is unknown: did you mean resnet50"),
    (f"{TRAIN} --per_device_train_batch_size 0", "`per_device_train_batch_size` must be at least 1, got 0"),
    (f"{TRAIN} --gradient_accumulation_steps 0", "`gradient_accumulation_steps` must be at least 1, got 0"),
    (f"{TRAIN} --num_train_epochs 0", "`num_train_epochs` must be above 0, got 0"),
    (f"{TRAIN} --num_train_epochs nan", "`num_train_epochs` must be above 0, got nan"),
    (f"{TRAIN} --max_steps 0", "`max_steps` must be at least 1"),
    (f"{TRAIN} --max_train_samples 0", "`max_train_samples` must be at least 1, got 0"),
    (f"{TRAIN} --max_train_samples 1", "Every training face is "),
    (f"{TRAIN} --max_train_samples 6", "No training face is "),
    (f"{TRAIN} --seed -1", "`seed` must be from 0 to 4294967295, got -1"),
    (f"{TRAIN} --report_to neptune", "`report_to` neptune needs its package: pip install neptune"),
    (f"{TRAIN} --report_to tensorbord", "`report_to` 'tensorbord' is unknown: did you mean tensorboard?"),
    (
        f"{TRAIN} --metric_for_best_model loss --greater_is_better true",
        "`greater_is_better` True selects the worst loss: leave it out",
    ),
    (
        f"{TRAIN} --metric_for_best_model acuracy",
        "`metric_for_best_model` 'acuracy' is unknown: did you mean accuracy",
    ),
    (f"{TRAIN} --optim adamm", "`--optim`: there is no 'adamm': did you mean adam"),
    (
        f"{TRAIN} --lr_scheduler_type one_cycle --lr_scheduler_kwargs '{{\"pct_start\": 0.1}}' --max_steps 10",
        "`lr_scheduler_type` one_cycle has no step to warm up in",
    ),
    (f'{TRAIN} --unfreeze_schedule \'{{"1": "vit.layer.2"}}\'', "`unfreeze_schedule` names 'vit.layer.2'"),
    (f"{TRAIN} --output_dir FILE", "`output_dir` must be a folder"),
    (f"{TRAIN} --resume_from_checkpoint FOLDERS/none", "there is no folder FOLDERS/none"),
    (f"{TRAIN} --backbone_weights none.safetensors", "none.safetensors does not exist"),
    (
        "train --use_cpu --model TINY --dataset imagefolder --data_dir FOLDERS/one_class",
        "Every training face is happy: there is nothing to tell apart",
    ),
    (
        "train --use_cpu --model TINY --dataset imagefolder --data_dir FOLDERS/two_classes",
        "No training face is angry, disgust, fear, surprise, neutral: add some, or",
    ),
    (f"{TRAIN} --head mlp5_bn --per_device_train_batch_size 7", "The last of the batches has one face, of 15 by 7"),
    (f"{TRAIN} --dataloader_drop_last --per_device_train_batch_size 16", "15 training faces fill no batch of 16"),
]


@pytest.fixture(scope="session")
def places(tmp_path_factory, classifier_folder, backbone_folder) -> dict[str, str]:
    """What the names in capitals stand for."""
    root = tmp_path_factory.mktemp("places")
    for name in ("cut", "pointer"):
        shutil.copytree(classifier_folder, root / name)
    weights = (root / "cut" / "model.safetensors").read_bytes()
    (root / "cut" / "model.safetensors").write_bytes(weights[: len(weights) // 2])
    (root / "pointer" / "model.safetensors").write_bytes(b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n")
    for kind, names in (("one_class", EXPRESSIONS[3:4]), ("two_classes", EXPRESSIONS[3:5])):
        for split, name, number in ((s, n, i) for s in ("train", "val") for n in names for i in range(8)):
            folder = root / "folders" / kind / split / name
            folder.mkdir(parents=True, exist_ok=True)
            Image.effect_noise((48, 48), 50 + number).save(folder / f"{number}.png")
    (root / "empty").mkdir()
    (root / "file").write_text("nothing")
    own = {name.upper(): str(root / name) for name in ("cut", "pointer", "folders", "empty", "file")}
    return {**own, "TINY": classifier_folder, "BACKBONE": backbone_folder, "SHIPPED": asset("fer-compact-cnn")}


@pytest.fixture
def here(tmp_path, monkeypatch) -> Path:
    """A working directory with one picture."""
    monkeypatch.chdir(tmp_path)
    Image.new("RGB", (50, 40)).save("face.png")
    return tmp_path


def in_place(text: str, places: dict[str, str]) -> str:
    for name, place in places.items():
        text = text.replace(name, place)
    return text


def call(words: list[str]) -> int:
    """In this process: the recipe, which `train` runs as a module, exits by itself."""
    try:
        return main(words)
    except SystemExit as stop:
        return stop.code


def files(*folders: str | Path) -> list[Path]:
    return sorted(path for folder in folders for path in Path(folder).rglob("*"))


@pytest.mark.parametrize(("words", "complaint"), CALLS, ids=[words or "no word" for words, _ in CALLS])
def test_a_bad_call_ends_in_one_line(words, complaint, places, here, monkeypatch, capfd):
    monkeypatch.setattr(sys, "argv", ["fer-hf"])
    before = files(here, *places.values())
    assert call(shlex.split(in_place(words, places))) == 2
    printed = capfd.readouterr()
    assert printed.out in ("", "0 photos, 0 faces\n")  # of photos none of which can be read
    said = [line for line in printed.err.splitlines() if "error" in line or "Traceback" in line]
    assert len(said) == 1
    assert said[0].startswith("error: ")
    assert in_place(complaint, places) in said[0]
    assert files(here, *places.values()) == before


def test_a_process_says_the_same(places, here):
    rows = dict(CALLS)
    chosen = ["", "faces --datset fer2013", "report", "push", "faces --dataset fer2013", f"{TRAIN} --seed -1"]
    started = [
        subprocess.Popen(
            [sys.executable, "-m", "fer_hf", *shlex.split(in_place(words, places))],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=here,
        )
        for words in chosen
    ]  # fmt: skip
    for process, words in zip(started, chosen, strict=True):
        _, err = process.communicate(timeout=300)
        assert process.returncode == 2
        assert rows[words] in err.splitlines()[-1]
        assert "Traceback" not in err
    assert [path.name for path in here.iterdir()] == ["face.png"]
