"""What each phase of training costs: seconds per step, images per second, waiting for data, and peak memory."""

import json
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path

import torch
from torch import nn
from transformers import TrainerControl, TrainerState, TrainingArguments
from transformers.trainer_pt_utils import find_batch_size

from fer_hf.training.tricks import Trick


PHASES_FILE = "phases.json"


@dataclass
class _Phase:
    first_step: int
    trainable_parameters: int
    step_seconds: list[float] = field(default_factory=list)
    wait_seconds: float = 0.0
    images: int = 0
    peak_bytes: int | None = None


class PhaseCallback(Trick):
    """
    Measures training by phase; a phase lasts as long as the same parameters train, as gradual unfreezing has it.

    A step lasts from the moment its faces are asked for until the optimizer has moved: evaluation, logs and
    checkpoints are outside. Nothing waits for the device that did not wait before. Peak memory is, on a GPU, what
    PyTorch has allocated there at most (`torch.cuda.max_memory_allocated`); on a CPU under Linux, by how much the
    process's resident memory has peaked above what it was when training began (`VmHWM`); elsewhere it is not measured.
    Each of several processes measures its own steps. A resumed run goes on from the main one's up to its checkpoint.

    Attributes:
        memory (`str`, *optional*): How it is measured, `"cuda"` or `"rss"`.
        clock (`Callable`): Gives seconds.
    """

    def __init__(self):
        self.memory: str | None = None
        self.clock: Callable[[], float] = time.perf_counter
        self._phases: list[_Phase] = []
        self._trainable: list[bool] | None = None  # of the last phase, by parameter
        self._is_training = False
        self._loaded: dict | None = None

    def table(self) -> list[dict]:
        """
        Returns:
            `list[dict]`: For each phase `first_step` (0-based), `steps`, `trainable_parameters`, `seconds_per_step`
            (median), `images_per_second` (over all its steps and processes), `data_wait_share` (of its time, in
            [0, 1]) and `peak_memory_mb` (10^6 bytes, or `None`).
        """
        return [{"first_step": p.first_step, **self._measured([p])} for p in self._phases if p.step_seconds]

    def metrics(self) -> dict[str, float]:
        """The same over the whole of training, for `all_results.json`: names start with `train_`."""
        phases = [phase for phase in self._phases if phase.step_seconds]
        if not phases:
            return {}
        measured = self._measured(phases)
        kept = ("seconds_per_step", "images_per_second", "data_wait_share", "peak_memory_mb")
        return {f"train_{name}": measured[name] for name in kept if measured[name] is not None}

    def _measured(self, phases: list[_Phase]) -> dict:
        seconds = [second for phase in phases for second in phase.step_seconds]
        peaks = [phase.peak_bytes for phase in phases if phase.peak_bytes is not None]
        return {
            "steps": len(seconds),
            "trainable_parameters": phases[-1].trainable_parameters,
            "seconds_per_step": statistics.median(seconds),
            "images_per_second": sum(phase.images for phase in phases) / sum(seconds),
            "data_wait_share": sum(phase.wait_seconds for phase in phases) / sum(seconds),
            "peak_memory_mb": max(peaks) / 1e6 if peaks else None,
        }

    def save(self, folder: Path) -> None:
        """Into a checkpoint only: a finished run's are in its record."""
        if self._is_training:
            content = {"trainable": self._trainable, "phases": [asdict(phase) for phase in self._phases]}
            (folder / PHASES_FILE).write_text(json.dumps(content) + "\n", encoding="utf-8")

    def load(self, checkpoint: Path, model: nn.Module) -> None:
        """Go on from the phases of a checkpoint; from none, if it was written before checkpoints had them."""
        path = checkpoint / PHASES_FILE
        self._loaded = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None

    def on_train_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs):
        """Starts from nothing, unless a checkpoint's phases have been loaded."""
        loaded, self._loaded = self._loaded or {"trainable": None, "phases": []}, None
        self._trainable, self._phases = loaded["trainable"], [_Phase(**phase) for phase in loaded["phases"]]
        self._is_training, self._measuring = True, False
        self._processes, self._device = args.world_size, args.device
        self.memory = _way_to_measure(args.device)
        self._base = _status("VmRSS") if self.memory == "rss" else 0

    def on_epoch_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs):
        """Parameters are unfrozen at the start of epochs; this callback comes after the one that does it."""
        parameters: list[nn.Parameter] = list(kwargs["model"].parameters())
        trainable = [parameter.requires_grad for parameter in parameters]
        if trainable != self._trainable:
            self._trainable = trainable
            self._phases.append(_Phase(state.global_step, sum(p.numel() for p in parameters if p.requires_grad)))

    @contextmanager
    def fetching(self) -> Iterator[list]:
        """Around the asking for the batches of a step, which are to be put into the list."""
        if not self._measuring:
            _reset_peak(self.memory, self._device)
            self._measuring = True
        self._start, batches = self.clock(), []
        yield batches
        self._phases[-1].wait_seconds += self.clock() - self._start
        self._phases[-1].images += sum(find_batch_size(batch) or 0 for batch in batches) * self._processes

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs):
        self._phases[-1].step_seconds.append(self.clock() - self._start)
        if control.should_evaluate or control.should_save or state.global_step >= state.max_steps:
            self._note_peak()

    def on_epoch_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs):
        """Before the evaluation at the end of an epoch, whose memory is not training's."""
        self._note_peak()

    def on_train_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs):
        self._is_training = False

    def _note_peak(self) -> None:
        if self._measuring and self.memory is not None:
            now = _peak(self.memory, self._device) - self._base
            self._phases[-1].peak_bytes = max(now, self._phases[-1].peak_bytes or 0)
        self._measuring = False


def _way_to_measure(device: torch.device) -> str | None:
    if device.type == "cuda":
        return "cuda"
    try:
        _reset_peak("rss", device)
        return "rss" if device.type == "cpu" and _status("VmHWM") else None
    except OSError:  # no Linux, or a container that forbids it
        return None


def _reset_peak(way: str | None, device: torch.device) -> None:
    if way == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    elif way == "rss":
        Path("/proc/self/clear_refs").write_text("5")  # sets VmHWM to VmRSS: proc_pid_clear_refs(5)


def _peak(way: str, device: torch.device) -> int:
    return torch.cuda.max_memory_allocated(device) if way == "cuda" else _status("VmHWM")


def _status(name: str) -> int:
    """Bytes that the kernel gives under a name in `/proc/self/status`; 0 if it gives none."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1]) * 1024
    return 0
