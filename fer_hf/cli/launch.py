"""How a recipe starts: threads, logging, the line that says what it runs on, and exit codes."""

import logging
import os
import sys
from collections.abc import Callable, Iterable
from contextlib import suppress
from functools import partialmethod
from pathlib import Path

import torch
from datasets import disable_progress_bars as disable_datasets_bars
from datasets.utils import tqdm as datasets_tqdm
from huggingface_hub.utils import enable_progress_bars as enable_download_bars
from tqdm import tqdm
from transformers.utils import logging as transformers_logging

from fer_hf.bars import QUICK
from fer_hf.cli.ending import run_to_end
from fer_hf.errors import BadInputError, nearest
from fer_hf.files import check_output
from fer_hf.metrics import METRICS
from fer_hf.provenance import command_line, commit, local_processes
from fer_hf.runs.record import RECORD
from fer_hf.scores import larger_is_better
from fer_hf.training.arguments import FerTrainingArguments, global_batch_size
from fer_hf.training.checkpoints import checkpoints, resume_point, resume_run
from fer_hf.words import plural


logger = logging.getLogger(__name__)

# What a run writes first and last beside its record: a folder that holds one of them is not a new run's.
_WRITTEN = ("config.json", "model.safetensors", "README.md")

# The bars of `datasets` have no setting for this: work of fewer seconds shows none.
datasets_tqdm.__init__ = partialmethod(datasets_tqdm.__init__, delay=QUICK)

# What `accelerate launch` takes anyway, and would name in five lines of warning if it were not given.
ACCELERATE_DEFAULTS = ("--num_machines", "1", "--mixed_precision", "no", "--dynamo_backend", "no")

# The flags of the run that has been started, and its folders that were not there before, innermost first.
_started: list[tuple[FerTrainingArguments, list[Path]]] = []


def run(main: Callable[[], None]) -> None:
    """Call a recipe's `main`; what stops it ends it in one line, as in [`~fer_hf.cli.ending.run_to_end`]."""
    _started.clear()
    if code := run_to_end(main, _resume_command):
        _remove_empty_folders()
        sys.exit(code)


def _remove_empty_folders() -> None:
    """The Trainer makes its folder before anything is checked."""
    with suppress(OSError):  # one that holds something, as those above it do
        for folder in _started[-1][1] if _started else []:
            folder.rmdir()


def _resume_command() -> str:
    """The command that goes on with the run; before there is one, the same again."""
    if not _started:
        return command_line(1, sys.argv)
    args, _ = _started[-1]
    flags = [] if args.output_dir_given else ["--output_dir", args.output_dir]
    if checkpoints(args.output_dir) and not any(word.startswith("--resume_from_checkpoint") for word in sys.argv):
        flags += ["--resume_from_checkpoint", "true"]
    return command_line(args.world_size, [*sys.argv, *flags])


def start(args: FerTrainingArguments, what: str, metrics: Iterable[str] = METRICS) -> None:
    """
    Set threads and logging, say what runs on what, and refuse another number of processes than was asked for, or a
    folder that holds another run.

    Resuming: `args.resume_from_checkpoint` becomes the last whole checkpoint, or `None` if there is none yet.

    Threads on a CPU: `--cpu_threads`, or else the cores divided by the processes on this machine (`accelerate launch`
    alone would give each process one).

    Args:
        args (`FerTrainingArguments`): The run's flags.
        what (`str`): What runs, in a line or a few.
        metrics (iterable of `str`, defaults to those of [`~fer_hf.metrics.classification_metrics`]):
            What validation gives beside losses.

    Raises:
        BadInputError: If the launcher has not started the processes that were asked for, or each would train alone;
            if `output_dir` cannot be written, or holds a run that is not to be resumed; if validation has no
            `metric_for_best_model`, or its worst would be selected; as
            [`~fer_hf.training.checkpoints.resume_point`].
        SystemExit: With code 0, if the run that is to be resumed is finished.
    """
    _set_up_logging(args)
    if args.device.type == "cpu":
        torch.set_num_threads(args.cpu_threads or max(1, available_cores() // local_processes()))
    _check_processes(args)
    _check_metric(args.metric_for_best_model, args.greater_is_better, [*metrics, "loss"])
    _find_run(args)
    folder = Path(args.output_dir)
    _started.append((args, [path for path in (folder, *folder.parents) if not path.exists()]))
    commit()  # noted now: the working tree may move on while the run lasts
    logger.info(what)
    logger.info(
        f"{plural(args.world_size, 'process', 'es')} on {args.device.type}, "
        f"{plural(torch.get_num_threads(), 'CPU thread')} each, "
        f"global batch {global_batch_size(args)}; output in {args.output_dir}"
    )


def _set_up_logging(args: FerTrainingArguments) -> None:
    level, shown = args.get_process_log_level(), logging.WARNING if args.disable_tqdm else logging.INFO
    logging.basicConfig(format="%(message)s", level=logging.WARNING, handlers=[_AboveTheBar()])
    logging.getLogger("fer_hf").setLevel(min(level, shown) if args.process_index == 0 else logging.ERROR)
    transformers_logging.set_verbosity(max(level, logging.WARNING))
    # Bars for work of milliseconds (loading, saving) only hide the lines that matter; downloads keep theirs.
    transformers_logging.disable_progress_bar()
    if args.disable_tqdm:
        disable_datasets_bars()
    else:
        enable_download_bars()


class _AboveTheBar(logging.Handler):
    """Writes on stderr, where a progress bar may be."""

    def emit(self, record: logging.LogRecord) -> None:
        tqdm.write(self.format(record), file=sys.stderr)


def _check_processes(args: FerTrainingArguments) -> None:
    """Launchers that start another number of processes than was asked for say nothing about it."""
    started = int(os.environ.get("WORLD_SIZE", 1))
    if args.world_size == 1 and started > 1:
        raise BadInputError(
            f"The launcher started {started} processes, and without a GPU each would train alone: {_command(started)}"
        )
    # What `accelerate launch` sets when it was asked for several processes and, without GPUs, starts one. Where the
    # variables come from elsewhere, `--num_processes 1` says so.
    several = {"ACCELERATE_MIXED_PRECISION", "MASTER_PORT"} <= os.environ.keys() and "WORLD_SIZE" not in os.environ
    if args.num_processes is None and args.world_size == 1 and several:
        raise BadInputError(
            f"`accelerate launch` was asked for several processes and started one: {_command('N')} "
            "(or, if one is meant, give the recipe `--num_processes 1`)"
        )
    if args.num_processes not in (None, args.world_size):
        raise BadInputError(
            f"`num_processes` is {args.num_processes}, and the launcher started {args.world_size}: "
            f"{_command(args.num_processes)}"
        )


def _check_metric(name: str, greater: bool, known: list[str]) -> None:
    name = name.removeprefix("eval_")
    if name not in known and not name.endswith("_loss"):  # a part of the loss
        raise BadInputError(f"`metric_for_best_model` {name!r} is unknown: {nearest(name, known)}")
    if greater is not larger_is_better(name) and (name in METRICS or name.endswith("loss")):
        raise BadInputError(f"`greater_is_better` {greater} selects the worst {name}: leave it out.")


def _command(processes: int | str) -> str:
    """How to start so many processes on what this machine has."""
    script = os.path.relpath(sys.argv[0])
    if processes == 1:
        return f"python {script} ..."
    if torch.cuda.is_available():
        return f"accelerate launch --multi_gpu --num_processes {processes} {script} ..."
    return f"torchrun --nproc_per_node {processes} {script} --use_cpu ..."


def _find_run(args: FerTrainingArguments) -> None:
    """Point `args` at the checkpoint to go on from, and refuse a folder that holds another run."""
    folder, resumed = Path(args.output_dir), resume_run(args.resume_from_checkpoint, args.output_dir)
    if (folder / RECORD).exists():
        if resumed != folder:
            raise BadInputError(f"`output_dir` {folder} holds a finished run; choose another or delete it.")
        if args.process_index == 0:
            print(f"{folder} holds a finished run: nothing is left to do")
        sys.exit(0)
    if resumed is None and checkpoints(folder):
        raise BadInputError(
            f"`output_dir` {folder} holds checkpoints of a run that did not finish: go on with it by "
            "`--resume_from_checkpoint true`, choose another folder or delete it."
        )
    if resumed is None and (taken := [name for name in _WRITTEN if (folder / name).exists()]):
        raise BadInputError(
            f"`output_dir` {folder} holds {taken[0]}, which a run would replace; choose another folder."
        )
    check_output("output_dir", folder, folder=True)
    point = resume_point(args, args.resume_from_checkpoint)
    args.resume_from_checkpoint = None if point is None else str(point)
    if point is not None:
        logger.info(f"goes on from {point}")


def available_cores() -> int:
    """Cores this process may use, which a container may limit."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
