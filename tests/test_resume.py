"""
Runs that are killed and resumed end as the run that never was: bit by bit, wherever the kill falls.

Run as a script, this file does the work: each run is a process of its own, forked from one that has imported all.
"""

import json
import os
import re
import runpy
import shutil
import signal
import subprocess
import sys
import traceback
from pathlib import Path

import pytest
import torch
from conftest import tiny_vit_config
from helpers import as_written_before, make_trainer
from transformers import (
    EarlyStoppingCallback,
    TrainerCallback,
    TrainerState,
    ViTForImageClassification,
    ViTImageProcessor,
    set_seed,
)

from fer_hf.cli.launch import run
from fer_hf.data import load_dataset
from fer_hf.data.collator import FaceCollator
from fer_hf.data.training_set import training_faces
from fer_hf.errors import BadInputError
from fer_hf.metrics import classification_metrics
from fer_hf.training import FerTrainer, FerTrainingArguments, GradualUnfreezing, resuming
from fer_hf.training.checkpoints import checkpoints, flaw, resume_point, write_manifest


RECIPE = Path(__file__).parent.parent / "recipes" / "vit_gradual_unfreeze.py"
SCHEDULE = '{"1": "vit.layers.2", "2": "vit.layers.1"}'
# Six steps an epoch, three epochs. In `steps`, early stopping ends the run by count at the fifth evaluation, step 15,
# and the 6th and 12th steps end an epoch; logs fall between the checkpoints.
STEPS = {
    "sampler": "inverse_frequency", "lr_scheduler_type": "reduce_lr_on_plateau", "early_stopping": 4,
    "lr_scheduler_kwargs": {"patience": 0, "factor": 0.5}, "logging_strategy": "steps", "logging_steps": 4,
    "eval_strategy": "steps", "eval_steps": 3, "save_strategy": "steps", "save_steps": 3,
}  # fmt: skip
EPOCHS = {"sampler": "class_balanced", "lr_scheduler_type": "cosine", "save_strategy": "steps", "save_steps": 2,
          "eval_strategy": "steps", "eval_steps": 2, "gradient_accumulation_steps": 2,
          "per_device_train_batch_size": 4, "dataloader_num_workers": 1}  # fmt: skip
KILLS = {  # run: where and at which step
    "steps": [
        ("step", 2), ("weights", 9), ("optimizer", 9), ("manifest", 9), ("state", 9), ("rotation", 9),
        ("deleting", 9), ("saved", 6), ("step", 14), ("saved", 15),
    ],
    "epochs": [("saved", 6), ("step", 11)],
}  # fmt: skip
CASES = [(name, where, step) for name, kills in KILLS.items() for where, step in kills]


class Snapshots(TrainerCallback):
    """
    Copies the directory of a run as a kill would leave it: at a step, inside a checkpoint, or between what is done
    around one. So one run is killed in many places.
    """

    def __init__(self, run: Path, kills: list[tuple[str, int]]):
        self.run, self.left = run, list(kills)
        around = {  # after what, and which file is cut in half
            "weights": (FerTrainer, "save_model", "model.safetensors"),
            "optimizer": (FerTrainer, "_save_optimizer_and_scheduler", ""),
            "manifest": (resuming, "write_manifest", "manifest.json"),
            "state": (TrainerState, "save_to_json", "trainer_state.json"),
        }
        for where, (owner, name, half) in around.items():
            setattr(owner, name, partial_method(self, where, getattr(owner, name), half))
        self.rotate, resuming.rotate_checkpoints = resuming.rotate_checkpoints, self.rotate_checkpoints
        self.rotate.__globals__["shutil"] = self

    def take(self, where: str, at: int | None = None, half: str = "") -> Path | None:
        """The copy, if a kill here and now is among those asked for."""
        for kill in self.left:
            checkpoint = f"checkpoint-{kill[1]}"
            there = where == "step" or (self.run / checkpoint / half).exists()
            if kill[0] == where and at in (None, kill[1]) and there:
                self.left.remove(kill)
                copy = shutil.copytree(self.run, copy_of(self.run, *kill))
                if half:
                    file = copy / checkpoint / half
                    os.truncate(file, file.stat().st_size // 2)
                return copy
        return None

    def rotate_checkpoints(self, *args, **kwargs):
        """In the place of the library's."""
        self.take("rotation")
        self.rotate(*args, **kwargs)

    def rmtree(self, folder, ignore_errors):
        """In the place of `shutil`'s, with one file deleted in the copy."""
        if copy := self.take("deleting"):
            (copy / Path(folder).name / "optimizer.pt").unlink()
        shutil.rmtree(folder, ignore_errors=ignore_errors)

    def on_step_end(self, args, state, control, **kwargs):
        self.take("step", state.global_step)

    def on_save(self, args, state, control, **kwargs):
        self.take("saved", state.global_step)


def partial_method(snapshots, where, method, half):
    def followed(*args, **kwargs):
        result = method(*args, **kwargs)
        snapshots.take(where, half=half)
        return result

    return followed


def copy_of(run, where, step):
    return run.parent / f"{run.name}-{where}-{step}"


def arguments(folder, early_stopping=None, sampler=None, **flags):
    common = {
        "num_train_epochs": 3, "per_device_train_batch_size": 8, "learning_rate": 3e-3, "weight_decay": 0.1,
        "metric_for_best_model": "loss", "greater_is_better": False, "disable_tqdm": True, "use_cpu": True,
        "ema_decay": 0.9,
    }  # fmt: skip
    return FerTrainingArguments(output_dir=str(folder), **{**common, **flags})


def train(faces, folder, flags, resume=None, kills=(), out=None):
    """A run with everything that holds a state; what it ends with goes to `out`."""
    set_seed(1)
    model = ViTForImageClassification(tiny_vit_config(hidden_size=16, hidden_dropout_prob=0.2))
    processor = ViTImageProcessor(size={"height": 48, "width": 48}, do_convert_rgb=True)
    callbacks = [GradualUnfreezing(model, schedule=SCHEDULE)]
    if "early_stopping" in flags:
        # No gain is large enough, so the count alone decides when to stop.
        callbacks.append(EarlyStoppingCallback(flags["early_stopping"], early_stopping_threshold=100.0))
    if kills:
        callbacks.append(Snapshots(folder, kills))
    trainer = FerTrainer(
        model=model,
        args=arguments(folder, **flags),
        train_dataset=training_faces(faces["train"], processor, "fer48", "fast", 1),
        eval_dataset=faces["validation"],
        data_collator=FaceCollator(processor),
        compute_metrics=classification_metrics,
        callbacks=callbacks,
        sampler=flags["sampler"],
    )
    if resume and any(flaw(checkpoint) is None for checkpoint in checkpoints(folder)):
        torch.rand(5)  # what the surroundings draw before a resume must not matter
    result = trainer.train(resume_from_checkpoint=resume)
    log = [{k: v for k, v in entry.items() if not timed(k)} for entry in trainer.state.log_history]
    end = {
        "weights": model.state_dict(),
        "optimizer": trainer.optimizer.state_dict()["state"],
        "scheduler": trainer.lr_scheduler.state_dict(),
        "log": log,
        "metrics": {k: v for k, v in result.metrics.items() if not timed(k)},
        "best": [trainer.state.best_metric, trainer.state.best_global_step],
        "phases": [
            [p[key] for key in ("first_step", "steps", "trainable_parameters")] for p in trainer.phases.table()
        ],
    }
    torch.save(end, out)


def timed(key):
    return key.endswith(("_runtime", "_seconds", "_per_second", "_time", "_per_step", "_share", "_memory_mb"))


def recipe(folder, *flags, step=None):
    sys.argv = [str(RECIPE), *map(str, flags), "--use_cpu"]
    if step:
        resuming._Moments.on_step_end = lambda _, args, state, control, **kwargs: die_at(step, state.global_step)
    run(runpy.run_path(str(RECIPE))["main"])


def die_at(step, now):
    if now == step:
        os.kill(os.getpid(), signal.SIGKILL)


def forked(log, work, *args, **kwargs):
    """Exit status of a process that does the work; what it says goes to the file `log`."""
    if (child := os.fork()) == 0:
        try:
            stream = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
            os.dup2(stream, 1)
            os.dup2(stream, 2)
            work(*args, **kwargs)
            status = 0
        except SystemExit as stop:
            status = stop.code or 0
        except BaseException:
            traceback.print_exc()
            status = 1
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def kill_and_resume(folder: Path) -> None:
    torch.set_num_threads(1)
    faces = load_dataset("synthetic", train=44, validation=7, test=7, cache_dir=folder / "cache")
    status = {}
    for name, flags in {"steps": STEPS, "epochs": EPOCHS}.items():
        run, keep = folder / name, {**flags, "save_total_limit": None} if name == "epochs" else flags
        status[name] = forked(f"{run}.log", train, faces, run, keep, kills=KILLS[name], out=f"{run}.pt")
        for kill in KILLS[name]:
            copy = copy_of(run, *kill)
            assert copy.is_dir(), (copy, Path(f"{run}.log").read_text())
            status[copy.name] = forked(f"{copy}.log", train, faces, copy, flags, resume=True, out=f"{copy}.pt")

    options = {"train": 44, "validation": 7, "test": 7}
    (folder / "start").mkdir()
    torch.manual_seed(0)
    ViTForImageClassification(tiny_vit_config(hidden_size=16, hidden_dropout_prob=0.2)).save_pretrained(
        folder / "start"
    )
    ViTImageProcessor(size={"height": 48, "width": 48}, do_convert_rgb=True).save_pretrained(folder / "start")
    flags = [
        "--model_name_or_path", folder / "start", "--dataset_name", "synthetic", "--dataset_options",
        json.dumps(options), "--unfreeze_schedule", SCHEDULE, "--num_train_epochs", 3, "--sampler", "class_balanced",
        "--augmentation", "fer48", "--early_stopping_patience", 3, "--learning_rate", "1e-3",
    ]  # fmt: skip
    to, again = ["--output_dir", folder / "killed"], ["--resume_from_checkpoint", folder / "killed"]
    for case, words, step in (
        ("whole", [*flags, "--output_dir", folder / "whole"], None),
        ("killed", [*flags, *to], 9),
        ("unfinished", [*flags, *to], None),
        ("other_seed", [*flags, *again, "--seed", 7], None),
        ("other_faces", [*flags, *to, *again, "--augmentation", "none"], None),
        ("resumed", [*flags, *again], None),
        ("finished", [*flags, *again], None),
    ):
        status[f"recipe-{case}"] = forked(folder / f"recipe-{case}.log", recipe, folder, *words, step=step)
    (folder / "status.json").write_text(json.dumps(status))


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    root = str(RECIPE.parent.parent)
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": root}
    words = [sys.executable, __file__, str(folder)]
    done = subprocess.run(words, env=environment, capture_output=True, text=True, timeout=1800, cwd=root)
    assert done.returncode == 0, done.stderr
    return folder


def status_of(runs, case):
    return json.loads((runs / "status.json").read_text())[case]


@pytest.mark.parametrize(("name", "where", "step"), CASES)
def test_a_killed_and_resumed_run_ends_as_if_it_had_not_been_killed(runs, name, where, step):
    case = f"{name}-{where}-{step}"
    assert status_of(runs, name) == 0, (runs / f"{name}.log").read_text()
    assert status_of(runs, case) == 0, (runs / f"{case}.log").read_text()
    whole, resumed = torch.load(runs / f"{name}.pt"), torch.load(runs / f"{case}.pt")
    for part in ("weights", "optimizer"):
        torch.testing.assert_close(resumed[part], whole[part], rtol=0, atol=0)
    for part in ("scheduler", "log", "metrics", "best", "phases"):
        assert resumed[part] == whole[part]


def test_the_uninterrupted_runs_are_what_the_kills_are_meant_for(runs):
    steps, epochs = (torch.load(runs / f"{name}.pt") for name in ("steps", "epochs"))
    assert [e["step"] for e in steps["log"] if "loss" in e] == [4, 8, 12]
    assert [e["step"] for e in steps["log"] if "eval_loss" in e] == [3, 6, 9, 12, 15]  # stopped by count
    assert len({e["learning_rate"] for e in steps["log"] if "loss" in e}) > 1  # the plateau scheduler acted
    assert [e["step"] for e in epochs["log"] if "loss" in e] == [6, 12, 18]
    assert [phase[:2] for phase in epochs["phases"]] == [[0, 6], [6, 6], [12, 6]]
    # The mean over all 18 steps is the mean of the three epochs' means over 6 each.
    means = [e["loss"] for e in epochs["log"] if "loss" in e]
    assert epochs["metrics"]["train_loss"] == pytest.approx(sum(means) / 3, rel=1e-6)


def test_the_record_counts_the_time_of_a_resumed_run_from_its_beginning(runs):
    whole, resumed = (json.loads((runs / case / "run_record.json").read_text()) for case in ("whole", "killed"))
    assert not {"resumed_at_step", "commits"} & whole["runtime"].keys()
    step = resumed["runtime"]["resumed_at_step"]
    assert 0 < step <= 9
    assert resumed["runtime"]["commits"] == [
        {"from_step": 0, "commit": whole["commit"]}, {"from_step": step, "commit": resumed["commit"]}
    ]  # fmt: skip
    for record in (whole, resumed):
        seconds = [entry["elapsed_seconds"] for entry in record["validations"]]
        assert seconds == sorted(set(seconds))
        assert record["runtime"]["train_seconds"] >= seconds[-1] > 0
    scores = [[(e["epoch"], e["accuracy"]) for e in record["validations"]] for record in (whole, resumed)]
    assert scores[0] == scores[1]


@pytest.mark.parametrize("where", ["weights", "optimizer", "manifest", "state"])
def test_a_half_written_checkpoint_is_skipped_and_the_log_says_so(runs, where):
    log = (runs / f"steps-{where}-9.log").read_text()
    assert "checkpoint-9 is skipped, it is not whole: " in log


def test_a_run_killed_before_its_first_checkpoint_starts_from_the_beginning_and_says_so(runs):
    assert "holds no whole checkpoint: training starts from the beginning" in (runs / "steps-step-2.log").read_text()


def test_every_byte_of_a_checkpoint_counts(runs, tmp_path, caplog):
    shutil.copytree(runs / "epochs", tmp_path / "run")
    args = arguments(tmp_path / "run", **EPOCHS)
    last = checkpoints(tmp_path / "run")[-1]
    files = {path.name: path.read_bytes() for path in last.iterdir()}
    assert {"model.safetensors", "optimizer.pt", "scheduler.pt", "rng_state.pth", "trainer_state.json"} <= set(files)
    assert flaw(last) is None
    for name, content in files.items():
        flipped = bytes([content[0], content[1] ^ 1]) + content[2:]
        for damage in (None, content[: len(content) // 2], flipped):
            (last / name).unlink()
            if damage is not None:
                (last / name).write_bytes(damage)
            caplog.clear()
            assert resume_point(args, True).name == resume_point(args, str(last)).name == "checkpoint-16"
            assert re.search(f"checkpoint-18 is skipped, it is not whole: .*{name}", caplog.text)
            (last / name).write_bytes(content)
    assert resume_point(args, str(last)) == last


def fake_run(folder, *steps):
    """A run directory with whole checkpoints, as far as anyone can see who does not read the weights."""
    for step in steps:
        checkpoint = folder / f"checkpoint-{step}"
        checkpoint.mkdir(parents=True)
        (checkpoint / "model.safetensors").write_bytes(b"weights")
        (checkpoint / "trainer_state.json").write_text("{}")
        write_manifest(checkpoint, arguments(folder))
    return folder


def test_a_manifest_of_before_checksums_is_read(tmp_path):
    checkpoint = fake_run(tmp_path, 18) / "checkpoint-18"
    as_written_before(checkpoint)
    assert flaw(checkpoint) is None
    (checkpoint / "manifest.json").write_text("[]")
    assert flaw(checkpoint) == "manifest.json names no files and flags"
    (checkpoint / "trainer_state.json").write_text("{")
    assert flaw(checkpoint) == "trainer_state.json is cut short"


def test_a_run_a_checkpoint_or_true_may_be_named(tmp_path):
    args = arguments(fake_run(tmp_path / "run", 5, 10, 15))
    assert resume_point(args, None) is resume_point(args, "false") is None
    for named in (True, "true", str(tmp_path / "run"), f"{tmp_path}/./run", str(tmp_path / "run" / "checkpoint-15")):
        assert resume_point(args, named) == tmp_path / "run" / "checkpoint-15"
    elsewhere = arguments(tmp_path / "other")
    assert resume_point(elsewhere, str(tmp_path / "run" / "checkpoint-10")).name == "checkpoint-10"


@pytest.mark.parametrize(
    ("resume", "output_dir", "message"),
    [
        ("run/checkpoint-7", "run", "there is none; .*run holds checkpoint-5, checkpoint-10"),
        ("run/checkpoint-5", "run", "which holds checkpoint-10, would mix two runs"),
        ("run", "taken", "which holds checkpoint-1, would mix two runs"),
        ("nowhere", "run", "nowhere: there is no folder .*nowhere"),
        ("nowhere", "nowhere", "nowhere: there is no folder .*nowhere"),
        ("nowhere/checkpoint-5", "nowhere", "there is no folder .*nowhere"),
        ("empty", "run", "empty holds no whole checkpoint to go on from"),
    ],
)
def test_what_cannot_be_resumed_is_refused(tmp_path, resume, output_dir, message):
    fake_run(tmp_path / "run", 5, 10)
    fake_run(tmp_path / "taken", 1)
    (tmp_path / "empty").mkdir()
    with pytest.raises(BadInputError, match=message):
        resume_point(arguments(tmp_path / output_dir), str(tmp_path / resume))


def test_other_flags_are_refused_by_name_and_harmless_ones_are_not(tmp_path):
    fake_run(tmp_path / "run", 5)
    resume_point(arguments(tmp_path / "run", dataloader_num_workers=2, save_total_limit=3, run_name="again"), True)
    with pytest.raises(BadInputError, match=r"other flags: `learning_rate` 0.003, now 0.1; `seed` 42, now 3\. Resume"):
        resume_point(arguments(tmp_path / "run", learning_rate=0.1, seed=3), True)
    manifest = tmp_path / "run" / "checkpoint-5" / "manifest.json"
    content = json.loads(manifest.read_text())
    content["flags"]["greater_is_better"] = None  # as it was where nothing was selected
    manifest.write_text(json.dumps(content))
    assert resume_point(arguments(tmp_path / "run"), True) == manifest.parent


def test_other_training_faces_are_refused(drawn_faces, processor, tmp_path, caplog):
    def train(rows):
        table = drawn_faces["train"].select(rows)
        faces = training_faces(table, processor, "flip", "auto", 0)
        trainer = make_trainer(drawn_faces, processor, tmp_path, train=faces, num_train_epochs=1)
        trainer.train(resume_from_checkpoint=True)

    train(range(16))
    train(range(16))
    with pytest.raises(BadInputError, match="checkpoint-2 was trained on other faces than are there now"):
        train(range(1, 17))
    manifest = tmp_path / "checkpoint-2" / "manifest.json"
    content = json.loads(manifest.read_text())
    del content["train_faces"]
    content["flags"]["max_train_samples"] = 16
    manifest.write_text(json.dumps(content))
    train(range(1, 17))
    assert "checkpoint-2 does not say which faces it was trained on" in caplog.text


def test_a_killed_recipe_goes_on_from_its_directory_and_leaves_what_it_would_have_left(runs):
    codes = {case: status_of(runs, f"recipe-{case}") for case in ("whole", "killed", "resumed")}
    assert codes == {"whole": 0, "killed": -signal.SIGKILL, "resumed": 0}, (runs / "recipe-resumed.log").read_text()
    for file in ("model.safetensors", "classification_report.json"):
        assert (runs / "killed" / file).read_bytes() == (runs / "whole" / file).read_bytes()
    whole, resumed = (
        json.loads((runs / name / "trainer_state.json").read_text())["log_history"] for name in ("whole", "killed")
    )
    assert [{k: v for k, v in e.items() if not timed(k)} for e in resumed] == [
        {k: v for k, v in e.items() if not timed(k)} for e in whole
    ]
    assert "goes on from" in (runs / "recipe-resumed.log").read_text()


@pytest.mark.parametrize(
    ("case", "code", "message"),
    [
        (
            "unfinished",
            2,
            "holds checkpoints of a run that did not finish: go on with it by `--resume_from_checkpoint",
        ),
        ("other_seed", 2, "was written with other flags: `seed` 42, now 7"),
        ("other_faces", 2, "was written with other flags: `augmentation` 'fer48', now 'none'"),
        ("finished", 0, "holds a finished run: nothing is left to do"),
    ],
)
def test_a_recipe_says_why_it_does_not_train(runs, case, code, message):
    assert status_of(runs, f"recipe-{case}") == code
    assert message in (runs / f"recipe-{case}.log").read_text()


if __name__ == "__main__":
    kill_and_resume(Path(sys.argv[1]))
