"""How commands end when something outside goes wrong: which line they leave, and which exit code."""

import errno
import os
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from helpers import call_recipe, draw_no_pictures, make_trainer
from huggingface_hub.errors import HTTPError  # of the library that it reaches the Hub with

from fer_hf.cli.ending import run_commands, run_to_end
from fer_hf.cli.main import main
from fer_hf.errors import BadInputError
from fer_hf.training.callbacks import EpochCallback
from fer_hf.training.checks import DivergedError


RECIPE = Path(__file__).parent.parent / "recipes" / "train.py"


def raising(error, cause=None):
    def work(*args):
        raise error from cause

    return work


def import_nothing():
    import nothing_of_this_name  # noqa: F401


FULL = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "weights.bin")
ENDS = [
    (raising(BadInputError("`x` must be 1, got 2.")), "error: `x` must be 1, got 2."),
    (raising(FULL), "error: weights.bin: the disk is full; free some space"),
    (raising(RuntimeError("while generating"), FULL), "error: weights.bin: the disk is full"),
    (raising(RuntimeError("I/O error: No space left on device (os error 28)")), "error: the disk is full"),
    (raising(PermissionError(errno.EACCES, "no", "/root/x")), "error: /root/x: not allowed (Permission denied)"),
    (raising(OSError(errno.EROFS, "no", "/mnt/x")), "error: /mnt/x: not allowed (Read-only file system)"),
    (lambda: Path("nowhere/x").read_text(), "error: [Errno 2] No such file or directory: 'nowhere/x'"),
    (import_nothing, "error: No module named 'nothing_of_this_name'; install it: pip install nothing_of_this_name"),
    (raising(ConnectionResetError("reset")), "error: the network gave no answer (reset); try again, or set"),
    (raising(HTTPError("no route")), "error: the network gave no answer (no route); try again"),
]


@pytest.mark.parametrize(("work", "line"), ENDS)
def test_what_goes_wrong_outside_is_one_line_and_exit_code_2(work, line, capsys):
    assert run_to_end(work) == 2
    said = capsys.readouterr().err
    assert said.startswith(line)
    assert said.count("\n") == 1


def test_a_fault_of_the_code_is_raised_and_a_variable_shows_where_others_come_from(capsys, monkeypatch):
    with pytest.raises(ZeroDivisionError):
        run_to_end(lambda: 1 / 0)
    with pytest.raises(ModuleNotFoundError):
        run_to_end(raising(ModuleNotFoundError("no", name="fer_hf.nothing")))
    monkeypatch.setenv("FER_HF_DEBUG", "1")
    assert run_to_end(raising(FULL)) == 2
    said = capsys.readouterr().err.splitlines()
    assert said[0] == "Traceback (most recent call last):"
    assert said[-1].startswith("error: weights.bin")


def test_of_the_processes_of_a_training_one_speaks_of_what_all_meet(capsys, monkeypatch):
    monkeypatch.setenv("LOCAL_RANK", "1")
    assert run_to_end(raising(BadInputError("wrong"))) == 2
    assert capsys.readouterr().err == ""
    assert run_to_end(raising(FULL)) == 2  # this one may have met it alone
    assert "the disk is full" in capsys.readouterr().err


def test_an_interrupted_command_says_how_to_go_on(capsys, monkeypatch):
    monkeypatch.setattr("fer_hf.cli.commands.predict.run", raising(KeyboardInterrupt()))
    assert main(["predict", "my photo.png", "--output", "x.csv"]) == 130
    said = "interrupted; to go on: fer-hf predict 'my photo.png' --output x.csv --resume\n"
    assert capsys.readouterr().err == said


def test_an_interruption_while_imports_go_on_is_one_line():
    code = "import fer_hf.cli; raise KeyboardInterrupt"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (-signal.SIGINT, "interrupted\n")  # 130, in a shell


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="Linux has a file that is always full")
def test_a_full_disk_and_a_closed_pipe_at_the_end_of_the_output():
    code = "import sys; from fer_hf.cli.ending import run_to_end; sys.exit(run_to_end(lambda: print('face')))"
    words = [sys.executable, "-c", code]
    with open("/dev/full", "w") as full:
        done = subprocess.run(words, stdout=full, stderr=subprocess.PIPE, text=True)
    assert done.returncode == 2
    assert done.stderr == "error: the disk is full; free some space, and run the same command again.\n"
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run(words, stdout=writer, stderr=subprocess.PIPE, text=True)
    os.close(writer)
    assert (done.returncode, done.stderr) == (141, "")


def test_an_interrupted_run_names_the_command_that_goes_on(classifier_folder, monkeypatch, tmp_path, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("ACCELERATE_MIXED_PRECISION", raising=False)
    options = '{"train": 14, "validation": 7, "test": 7}'
    words = ("--dataset", "synthetic", "--dataset_options", options, "--model", classifier_folder)
    with monkeypatch.context() as patch:
        patch.setattr(EpochCallback, "on_epoch_begin", stop_at_the_second_epoch)
        with pytest.raises(SystemExit) as stop:
            call_recipe(patch, RECIPE, *words, "--num_train_epochs", 2)
    assert stop.value.code == 130
    said = capsys.readouterr().err.splitlines()[-1]
    (run,) = Path("runs").iterdir()
    line = "interrupted; to go on: python "
    assert said.startswith(line)
    script, *again = shlex.split(said.removeprefix(line))
    assert again[-4:] == ["--output_dir", str(run), "--resume_from_checkpoint", "true"]
    draw_no_pictures(monkeypatch)
    call_recipe(monkeypatch, Path(script), *again)
    assert (run / "run_record.json").is_file()


@pytest.mark.skipif(os.name != "posix", reason="signals to groups of processes are of POSIX")
def test_an_interruption_reaches_what_a_launcher_has_started(tmp_path):
    child = f"import pathlib, time; pathlib.Path({str(tmp_path / 'begun')!r}).touch(); time.sleep(600)"
    launcher = f"import subprocess, sys; subprocess.Popen([sys.executable, '-c', {child!r}]).wait()"
    command = f"(pathlib.Path('run'), [sys.executable, '-c', {launcher!r}])"
    code = f"import pathlib, sys; from fer_hf.cli.ending import run_commands; list(run_commands([{command}]))"
    # Processes in the background of a shell ignore SIGINT, and so would this one.
    started = subprocess.Popen(
        [sys.executable, "-c", code],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    while not (tmp_path / "begun").exists():
        assert started.poll() is None
        time.sleep(0.05)
    started.send_signal(signal.SIGINT)  # to this one alone, as `kill` does
    started.communicate(timeout=60)  # until the last that holds the pipe has ended
    assert started.returncode != 0


@pytest.mark.skipif(os.name != "posix", reason="signals to groups of processes are of POSIX")
def test_commands_run_side_by_side_and_none_outlives_the_wait(tmp_path):
    def command(name, code):
        return tmp_path / name, [sys.executable, "-c", f"import pathlib, signal, time; {code}"]

    begun = f"pathlib.Path({str(tmp_path / 'begun')!r})"
    listen = "signal.signal(signal.SIGINT, signal.default_int_handler)"  # which the background of a shell takes away
    # The first ends once the second has begun: one after the other they would never end.
    first = command("first", f"print('waits', flush=True)\nwhile not {begun}.exists(): time.sleep(0.01)")
    second = command("second", f"{listen}; {begun}.touch()\nwhile True: time.sleep(0.01)")
    running = run_commands([first, second, command("third", "print('third')")], jobs=2, logs=True)
    assert [next(running).name, next(running).name] == ["first", "third"]
    running.close()
    assert (tmp_path / "first.log").read_text() == "waits\n"
    assert "KeyboardInterrupt" in (tmp_path / "second.log").read_text()
    assert list(run_commands([second], seconds=0)) == []


def stop_at_the_second_epoch(self, args, state, control, **kwargs):
    if state.epoch == 1:  # have passed
        raise KeyboardInterrupt


def test_a_loss_that_is_no_number_stops_the_run_at_its_step(drawn_faces, processor, tmp_path):
    trainer = make_trainer(drawn_faces, processor, tmp_path, learning_rate=1e38, max_grad_norm=0.0)
    with pytest.raises(DivergedError, match=r"not a number from step [23] on, and the run stopped: try a lower"):
        trainer.train()
    assert trainer.state.global_step <= 3
    assert not list(tmp_path.glob("checkpoint-*"))
