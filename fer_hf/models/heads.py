"""Which modules of an image classifier are its head."""

from torch import nn
from transformers import PreTrainedModel

from fer_hf.errors import ModelError


# The heads of the report on CNNs and pre-trained ViTs for FER-2013; `linear` is one linear layer.
HEADS = {
    "linear": {"head_hidden_sizes": []},
    "mlp3": {"head_hidden_sizes": [512, 256]},
    "mlp5": {"head_hidden_sizes": [512, 256, 128, 64]},
    "mlp5_bn": {"head_hidden_sizes": [512, 256, 128, 64], "head_batch_norm": True},
}


def head_modules(model: PreTrainedModel) -> list[str]:
    """
    Names of the modules that make up the classification head: everything beside the backbone.

    Args:
        model (`PreTrainedModel`):
            Any image classifier of Transformers. Where the backbone is no attribute of its own (timm wrappers,
            SigLIP), the head is the last linear layer with `num_labels` outputs.

    Returns:
        `list[str]`: Such as `["classifier"]`.

    Raises:
        ModelError: If no head can be told from the backbone.
    """
    prefix = model.base_model_prefix
    if model.base_model is not model:
        # Also what holds no parameter but other state, such as DACL's centers.
        beside = [name for name, child in model.named_children() if name != prefix and child.state_dict()]
        if beside:
            return beside
    for name, module in reversed(list(model.named_modules())):
        if isinstance(module, nn.Linear) and module.out_features == model.config.num_labels:
            return [name]
    raise ModelError(
        f"Cannot tell the head of {type(model).__name__} from its backbone: no module beside "
        f"`{prefix or 'the backbone'}`, and no linear layer with {model.config.num_labels} outputs."
    )


def is_under(name: str, roots: list[str]) -> bool:
    """Whether a module or parameter is one of `roots`, or lies inside one."""
    return any(name == root or name.startswith(f"{root}.") for root in roots)
