"""Weights from elsewhere (MS-Celeb, ImageNet) for the backbone of a model, from a safetensors file."""

import logging
import shlex
from collections import Counter
from pathlib import Path

import torch
from huggingface_hub import hf_hub_download
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OfflineModeIsEnabled
from safetensors.torch import load_file
from transformers import PreTrainedModel

from fer_hf.errors import ModelError, is_hub_id, no_such_path
from fer_hf.models.heads import head_modules, is_under
from fer_hf.models.loading import check_safetensors


logger = logging.getLogger(__name__)

_PICKLES = (".pth", ".pt", ".bin", ".ckpt", ".tar", ".pkl")
_CONVERT = (
    'python -c "import sys, torch; from safetensors.torch import save_file; '
    "state = torch.load(sys.argv[1], map_location='cpu', weights_only=True); state = state.get('state_dict', state); "
    'save_file({k: v.contiguous().clone() for k, v in state.items() if torch.is_tensor(v)}, sys.argv[2])"'
)


def load_backbone_weights(
    model: PreTrainedModel,
    source: str,
    allow_unmatched: bool = False,
    revision: str | None = None,
    cache_dir: str | None = None,
) -> dict[str, str]:
    """
    Load weights into a model's backbone, in place; the head stays as it is.

    Keys of the file and of the backbone are compared by what is left of them after a prefix (`module.`, `backbone.`,
    `model.encoder.`), the same one for all; the pair of prefixes that matches most tensors is taken. A convolution of
    RGB images fits a gray network by the sum over its channels: it then sees what it would see in a gray image as RGB.

    Args:
        model (`PreTrainedModel`):
            An image classifier.
        source (`str`):
            A safetensors file, a folder with `model.safetensors`, or a Hub id.
        allow_unmatched (`bool`, defaults to `False`):
            Leave aside what does not fit, on either side, instead of refusing it.
        revision, cache_dir (`str`, *optional*):
            For a Hub id.

    Returns:
        `dict[str, str]`: Key in the file -> key in the model, of what was loaded. It is logged too.

    Raises:
        ModelError: If there is no such file, it is a pickle, nothing in it fits, or (without `allow_unmatched`)
            something does not.
    """
    given = load_file(find_backbone_weights(source, revision, cache_dir))
    head = head_modules(model)
    wanted = {key: value for key, value in model.state_dict().items() if not is_under(key, head)}
    mapping = _match_names(given, wanted, source)
    fitted = {theirs: _fitted(given[theirs], wanted[ours]) for theirs, ours in mapping.items()}
    complaints = _complaints(given, wanted, mapping, fitted)
    if complaints and not allow_unmatched:
        raise ModelError(
            f"`backbone_weights` {source}: {'; '.join(complaints)}. `--allow_unmatched_backbone_weights` leaves them "
            "aside."
        )
    mapping = {theirs: ours for theirs, ours in mapping.items() if fitted[theirs] is not None}
    if not mapping:
        raise ModelError(f"`backbone_weights` {source}: nothing in it fits: {'; '.join(complaints)}.")
    model.load_state_dict({ours: fitted[theirs] for theirs, ours in mapping.items()}, strict=False)
    theirs, ours = next(iter(mapping.items()))
    logger.info(f"{source}: {len(mapping)} of {len(wanted)} backbone tensors loaded, such as {theirs} -> {ours}")
    for theirs, ours in mapping.items():
        logger.debug(f"{source}: {theirs} -> {ours}")
        if given[theirs].shape != wanted[ours].shape:
            logger.info(f"{source}: {theirs} is summed over its 3 input channels, for gray faces")
    for complaint in complaints:
        logger.info(f"{source}: left aside: {complaint}")
    return mapping


def find_backbone_weights(source: str, revision: str | None = None, cache_dir: str | None = None) -> Path:
    """
    The safetensors file that is meant; arguments and errors as for [`load_backbone_weights`].

    Raises:
        ModelError: If there is no such file, or it is a pickle, cut off or a Git LFS pointer.
    """
    file = _find(source, revision, cache_dir)
    check_safetensors(file)
    return file


def _find(source: str, revision: str | None, cache_dir: str | None) -> Path:
    path = Path(source).expanduser()
    if path.is_dir():
        path = path / "model.safetensors"
    if path.suffix in _PICKLES:
        target = path.with_suffix(".safetensors").name
        raise ModelError(
            f"`backbone_weights` {source} is a pickle, which may run any code when it is read. Convert it first:\n"
            + " ".join([_CONVERT, shlex.quote(source), shlex.quote(target)])
        )
    if path.is_file():
        return path
    if source.endswith(".safetensors") or not is_hub_id(source):
        raise ModelError(f"`backbone_weights` {source}: {no_such_path(path)}")
    try:
        return Path(hf_hub_download(source, "model.safetensors", revision=revision, cache_dir=cache_dir))
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OfflineModeIsEnabled, OSError) as error:
        reason = str(error).strip().splitlines()[0]
        raise ModelError(f"`backbone_weights` {source} is no file, and the Hub does not give it: {reason}") from error


def _match_names(given: dict[str, torch.Tensor], wanted: dict[str, torch.Tensor], source: str) -> dict[str, str]:
    """Key in the file -> key in the model, behind the best pair of prefixes."""
    file_prefix, model_prefix = _prefixes(given, wanted)
    pairs = {key: model_prefix + key.removeprefix(file_prefix) for key in given if key.startswith(file_prefix)}
    mapping = {theirs: ours for theirs, ours in pairs.items() if ours in wanted}
    if not mapping:
        raise ModelError(
            f"`backbone_weights` {source}: none of its {len(given)} tensors, such as {min(given)}, has the name of "
            f"one of the backbone's {len(wanted)}, such as {min(wanted)}."
        )
    return mapping


def _complaints(
    given: dict[str, torch.Tensor],
    wanted: dict[str, torch.Tensor],
    mapping: dict[str, str],
    fitted: dict[str, torch.Tensor | None],
) -> list[str]:
    """What does not fit, on either side: a phrase for each kind."""
    # PyTorch before 0.4.1 did not count batches, and with a momentum the count is never read.
    missing = [key for key in set(wanted) - set(mapping.values()) if not key.endswith("num_batches_tracked")]
    shapes = [
        f"{theirs} {tuple(given[theirs].shape)} for {ours} {tuple(wanted[ours].shape)}"
        for theirs, ours in mapping.items()
        if fitted[theirs] is None
    ]
    kinds = {
        "of the file without a place in the backbone": set(given) - set(mapping),
        "of the backbone that the file lacks": missing,
        "of another shape": shapes,
    }
    return [f"{len(keys)} tensor(s) {what}: {_listed(sorted(keys))}" for what, keys in kinds.items() if keys]


def _prefixes(given: dict[str, torch.Tensor], wanted: dict[str, torch.Tensor]) -> tuple[str, str]:
    """The prefix of the file and the prefix of the model behind which most tensors have the same name, then shape."""

    def matches(pair: tuple[str, str]) -> tuple[int, int, int]:
        theirs, ours = pair
        found = [
            (value.shape, wanted[ours + key.removeprefix(theirs)].shape)
            for key, value in given.items()
            if key.startswith(theirs) and ours + key.removeprefix(theirs) in wanted
        ]
        return len(found), sum(a == b for a, b in found), -len(theirs) - len(ours)

    return max(((theirs, ours) for theirs in _starts(given) for ours in _starts(wanted)), key=matches)


def _starts(keys: dict[str, torch.Tensor]) -> list[str]:
    """The prefixes that a fifth of the keys share, and the empty one."""
    counts = Counter(key[: i + 1] for key in keys for i, letter in enumerate(key) if letter == ".")
    return ["", *(start for start, count in counts.items() if count >= len(keys) / 5)]


def _fitted(value: torch.Tensor, target: torch.Tensor) -> torch.Tensor | None:
    if value.shape == target.shape:
        return value
    if value.dim() == 4 and value.shape[1] == 3 and target.shape[1:2] == (1,):
        value = value.sum(dim=1, keepdim=True)  # (out_channels, 1, height, width)
    return value if value.shape == target.shape else None


def _listed(keys: list[str]) -> str:
    return ", ".join(keys[:8]) + (f" and {len(keys) - 8} more" if len(keys) > 8 else "")
