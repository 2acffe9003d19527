"""An exponential moving average of the weights, kept beside the model in training and scored in its place."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from accelerate.utils import broadcast, extract_model_from_parallel
from safetensors.torch import load_file, save_file
from torch import nn
from torch.optim.swa_utils import get_ema_multi_avg_fn
from transformers import TrainerControl, TrainerState, TrainingArguments

from fer_hf.errors import BadInputError
from fer_hf.training.tricks import Trick


EMA_FILE = "ema.safetensors"


class WeightAverage(Trick):
    """
    The mean of the weights after each optimizer step so far, those of `k` steps ago at `decay ** k` of the latest.

    It looks back over about `1 / (1 - decay)` steps. The weights from before training are not in it, or early
    validations would score little else (the bias correction of Adam, https://huggingface.co/papers/1412.6980, section
    3). All parameters are averaged, frozen ones too (which changes nothing until they are unfrozen), and so are the
    running means and variances of BatchNorm, which belong to the weights they were measured with. Other buffers, such
    as DACL's centers, have their own rules: the model's are used.

    Every evaluation scores the average, and training ends with it. A checkpoint's `model.safetensors` holds the raw
    weights, from which a run resumes, and `ema.safetensors` the average, from which the best checkpoint is restored.

    Args:
        decay (`float`): In (0, 1).
    """

    def __init__(self, decay: float):
        self.decay = decay
        self.average: dict[str, torch.Tensor] | None = None  # only while the model trains
        self._model: nn.Module | None = None
        self._loaded: dict[str, torch.Tensor] | None = None

    def on_train_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs):
        """Starts from the model, unless a checkpoint's average has been loaded."""
        self._model = extract_model_from_parallel(kwargs["model"], keep_torch_compile=False)
        start = self._loaded or averaged_tensors(self._model)
        self.average = {
            name: start[name].to(tensor.device, torch.float32, copy=True)
            for name, tensor in averaged_tensors(self._model).items()
        }
        self._loaded = None

    @torch.no_grad()
    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs):
        """Takes the optimizer step that has just been made into the average."""
        now = averaged_tensors(self._model)
        # What remains of the average up to now: `decay`, but for the missing past at the start.
        step = state.global_step
        kept = self.decay * (1 - self.decay ** (step - 1)) / (1 - self.decay**step)
        get_ema_multi_avg_fn(kept)(list(self.average.values()), [now[name].float() for name in self.average], None)

    def on_train_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs):
        """The average becomes the model; the best checkpoint's, where the Trainer has just restored its weights."""
        if args.load_best_model_at_end and state.best_model_checkpoint is not None:
            self.average = _read(state.best_model_checkpoint, self._model)
        self._put(self.average)
        self.average = None

    @contextmanager
    def evaluation(self) -> Iterator[None]:
        """The average in the model's place; outside training the model is what is evaluated."""
        if self.average is None:
            yield
            return
        raw = {name: tensor.clone() for name, tensor in averaged_tensors(self._model).items()}
        self._put(self.average)
        try:
            yield
        finally:
            self._put(raw)

    def save(self, folder: Path) -> None:
        """Does nothing outside training."""
        if self.average is not None:
            tensors = {name: tensor.contiguous() for name, tensor in self.average.items()}
            save_file(tensors, folder / EMA_FILE, metadata={"format": "pt"})

    def load(self, checkpoint: Path, model: nn.Module) -> None:
        """
        Take over the average of a checkpoint of `model`.

        Raises:
            BadInputError: If it holds none, or another model's.
        """
        self._loaded = _read(checkpoint, model)

    @torch.no_grad()
    def _put(self, tensors: dict[str, torch.Tensor]) -> None:
        buffers = dict(self._model.named_buffers())
        for name, tensor in averaged_tensors(self._model).items():
            tensor.copy_(tensors[name])
            if tensors is self.average and name in buffers:
                # BatchNorm sees other faces on each process; what is scored and saved is the main one's.
                tensor.copy_(broadcast(tensor.clone()))


def _read(checkpoint: str | Path, model: nn.Module) -> dict[str, torch.Tensor]:
    path = Path(checkpoint, EMA_FILE)
    if not path.is_file():
        raise BadInputError(f"{checkpoint} holds no {EMA_FILE}: it was written without `ema_decay`; drop the flag.")
    average = load_file(path)
    if average.keys() != averaged_tensors(model).keys():
        raise BadInputError(f"{path} is the average of another model.")
    return average


def averaged_tensors(model: nn.Module) -> dict[str, torch.Tensor]:
    """The parameters of `model` and its BatchNorm statistics, by name."""
    tensors = {name: parameter.detach() for name, parameter in model.named_parameters()}
    for name, module in model.named_modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm) and module.track_running_stats:
            prefix = f"{name}." if name else ""
            tensors[f"{prefix}running_mean"] = module.running_mean
            tensors[f"{prefix}running_var"] = module.running_var
    return tensors
