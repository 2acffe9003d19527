"""What trackers get besides curves: a run's pictures, in the run of its curves."""

from collections.abc import Mapping
from importlib import import_module
from pathlib import Path

import numpy as np
from transformers import Trainer, TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from transformers.integrations import TensorBoardCallback

from fer_hf.data.images import open_image


class OneTrackioRun(TrainerCallback):
    """
    What is logged after training goes to the run in Trackio that training opened. The library's own callback closes
    that run, and opens another one unless the flags name it.
    """

    def on_train_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs):
        """After the library's own callback."""
        if "trackio" in args.report_to and state.is_world_process_zero:
            args.run_name = import_module("trackio").context_vars.current_run.get().name


def report_pictures(trainer: Trainer, pictures: Mapping[str, Path]) -> None:
    """
    Show pictures beside the curves in TensorBoard, Weights & Biases and Trackio, where the trainer reports to them.
    Other trackers have curves only.

    Args:
        trainer (`Trainer`): After `train()` and `predict()`, on the main process.
        pictures (`Mapping[str, Path]`): PNG files by name.
    """
    for callback in trainer.callback_handler.callbacks:
        if isinstance(callback, TensorBoardCallback):
            _to_tensorboard(callback.logging_dir, pictures, trainer.state.global_step)
    for name in ("trackio", "wandb"):
        if name in trainer.args.report_to:
            library = import_module(name)  # the one takes what the other takes, for the run that is open
            library.log({picture: library.Image(str(path)) for picture, path in pictures.items()})


def _to_tensorboard(folder: str, pictures: Mapping[str, Path], step: int) -> None:
    from torch.utils.tensorboard import SummaryWriter

    # The callback has closed its own writer at the end of training; files in one folder are one run.
    with SummaryWriter(folder) as writer:
        for name, path in pictures.items():
            pixels = np.asarray(open_image(path.read_bytes(), str(path)).convert("RGB"))  # (height, width, 3)
            writer.add_image(name, pixels, step, dataformats="HWC")
