"""The parser of every command line: what is wrong with one ends in one line, and mistyped flags name the nearest."""

import re
from argparse import Action, ArgumentError, ArgumentParser, ArgumentTypeError, Namespace
from collections.abc import Iterable, Sequence
from typing import Any, NoReturn

from fer_hf.errors import BadInputError, nearest


# Flags of older versions of Transformers, and what to use today.
_GONE = {
    "adafactor": "`optim` adafactor",
    "dispatch_batches": "`accelerator_config`",
    "evaluate_during_training": "`eval_strategy` steps",
    "evaluation_strategy": "`eval_strategy`",
    "fp16_backend": "`fp16`",
    "fp16_opt_level": "`fp16`",
    "fsdp_min_num_params": "`fsdp_config`",
    "fsdp_transformer_layer_cls_to_wrap": "`fsdp_config`",
    "group_by_length": "`train_sampling_strategy` group_by_length",
    "half_precision_backend": "`fp16` or `bf16`",
    "include_inputs_for_metrics": "`include_for_metrics` inputs",
    "include_tokens_per_second": "`include_num_input_tokens_seen`",
    "jit_mode_eval": "`torch_compile`",
    "logging_dir": "the environment variable TENSORBOARD_LOGGING_DIR",
    "mp_parameters": "`parallelism_config`",
    "no_cuda": "`use_cpu`",
    "overwrite_output_dir": "another `output_dir`, or `resume_from_checkpoint` true to go on with the run in it",
    "per_gpu_eval_batch_size": "`per_device_eval_batch_size`",
    "per_gpu_train_batch_size": "`per_device_train_batch_size`",
    "push_to_hub_model_id": "`fer-hf push` after the run",
    "push_to_hub_organization": "`fer-hf push` after the run",
    "push_to_hub_token": "`fer-hf push` after the run",
    "save_safetensors": "nothing: weights are always saved as safetensors",
    "split_batches": "`accelerator_config`",
    "tokenizer": "nothing: the model's image processor is used",
    "torchdynamo": "`torch_compile`",
    "tpu_metrics_debug": "`debug` tpu_metrics_debug",
    "tpu_num_cores": "nothing: the launcher counts them",
    "use_ipex": "nothing: it is part of PyTorch",
    "use_mps_device": "nothing: it is used where there is one",
    "warmup_ratio": "`warmup_steps`, a share of all steps where it is below 1",
}


def unknown_flag(flag: str, known: Iterable[str]) -> str:
    """
    What to say about a flag that nobody knows: what took its place in Transformers, or which ones are near.

    Args:
        flag (`str`): As it was given, on a command line or in a file, without its dashes.
        known (iterable of `str`): All flags there are.
    """
    flag = flag.replace("-", "_")
    if flag in _GONE:
        return f"`{flag}` is gone in Transformers 5; use {_GONE[flag]}."
    return f"unknown flag {flag!r}: {nearest(flag, known)}"


class OneLineParser(ArgumentParser):
    """
    An `ArgumentParser` that says what is wrong in one line, as a [`~fer_hf.errors.BadInputError`], and takes no
    abbreviated flags: what they mean would change with every new one.

    Args:
        others (`bool`, defaults to `False`): Whether unknown flags are left to another parser.
    """

    def __init__(self, *args, others: bool = False, **kwargs):
        super().__init__(*args, allow_abbrev=False, **kwargs)
        self.others = others

    @property
    def flags(self) -> list[str]:
        """All flags, without their dashes; those with dashes inside are second names."""
        flags = [flag.removeprefix("--") for flag in self._option_string_actions if flag.startswith("--")]
        return [flag for flag in flags if "-" not in flag]

    def parse_known_args(
        self, args: Sequence[str] | None = None, namespace: Namespace | None = None
    ) -> tuple[Namespace, list[str]]:
        """The stock method, after a look at the flags: one that is mistyped is not also missing."""
        if self._subparsers is None and not self.others:
            self._refuse_unknown(args or [])
        return super().parse_known_args(args, namespace)

    def _refuse_unknown(self, words: Sequence[str]) -> None:
        for word in words:
            if word == "--":
                return
            flag = word.partition("=")[0]
            if flag.startswith("--") and flag not in self._option_string_actions:
                self.error(unknown_flag(flag.removeprefix("--"), self.flags))

    def _check_value(self, action: Action, value: Any) -> None:
        """The stock method names all choices, and not the nearest."""
        if action.choices is not None and value not in action.choices:
            raise ArgumentError(action, f"there is no {value!r}: {nearest(value, map(str, action.choices))}")

    def error(self, message: str) -> NoReturn:
        """The stock method prints how the command is called, in many lines."""
        message = re.sub(r"^argument ([^/:]+)[^:]*: ", r"`\1`: ", message)
        raise BadInputError(f"{message.removesuffix('.')} ({self.prog} --help)")


def count(text: str) -> int:
    """The type of a flag that is a number of things, 1 at least."""
    number = int(text)
    if number < 1:
        raise ArgumentTypeError(f"must be at least 1, got {number}")
    return number


def seconds(text: str) -> float:
    """The type of a flag that is a span of time."""
    number = float(text)
    if not 0 < number < float("inf"):
        raise ArgumentTypeError(f"must be greater than 0, got {text}")
    return number
