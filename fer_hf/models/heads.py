"""Which modules of an image classifier are its head."""

from torch import nn
from transformers import PreTrainedConfig, PreTrainedModel

from fer_hf.errors import ModelError


# The heads of the report on CNNs and pre-trained ViTs for FER-2013; `linear` is one linear layer.
HEADS = {
    "linear": {"head_hidden_sizes": []},
    "mlp3": {"head_hidden_sizes": [512, 256]},
    "mlp5": {"head_hidden_sizes": [512, 256, 128, 64]},
    "mlp5_bn": {"head_hidden_sizes": [512, 256, 128, 64], "head_batch_norm": True},
}

# Where configurations keep the dropout of their head, by `model_type`; timm's models take it as an argument.
_DROPOUT_FIELDS = {
    "mlp_head": "head_dropout",
    "plain_cnn": "head_dropout",
    "prelu_cnn": "dropout",
    "compact_cnn": "dropout",
    "efficientnet": "dropout_rate",
    "mobilenet_v1": "classifier_dropout_prob",
    "mobilenet_v2": "classifier_dropout_prob",
    "mobilevit": "classifier_dropout_prob",
}
HAVE_HEAD_DROPOUT = ("timm_wrapper", *_DROPOUT_FIELDS)


def set_head_dropout(config: PreTrainedConfig, dropout: float) -> None:
    """
    Set the dropout of the head in the configuration of a classifier, with which it is saved.

    Args:
        config (`PreTrainedConfig`): Of one of `HAVE_HEAD_DROPOUT`.
        dropout (`float`): In [0, 1).
    """
    if config.model_type == "timm_wrapper":
        config.model_args = {**(config.model_args or {}), "drop_rate": dropout}
    elif config.model_type == "mlp_head" and not config.head_hidden_sizes:
        config.input_dropout = dropout
    elif config.model_type == "plain_cnn" and not config.head_hidden_sizes:  # what the last stage gives, as in CNN V2
        others = list(config.stage_dropout or [0.0] * len(config.stage_widths))[:-1]
        config.stage_dropout = [*others, dropout]
    else:
        setattr(config, _DROPOUT_FIELDS[config.model_type], dropout)


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
