"""What a classifier attends to, as arrays; [`fer_hf.plots`] draws them."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import nn
from transformers import PreTrainedModel

from fer_hf.errors import BadInputError


@torch.no_grad()
def attention(model: PreTrainedModel, pixel_values: torch.Tensor) -> dict[str, np.ndarray]:
    """
    A model's attention to each image, as far as the model gives it: one forward pass in eval mode.

    Args:
        model (`PreTrainedModel`): An image classifier. Its mode and its settings are restored.
        pixel_values (`torch.FloatTensor` of shape `(batch_size, channels, height, width)`): From its processor.

    Returns:
        `dict[str, np.ndarray]`: Those of the following that the model has, none for a plain CNN.

        - `features` `(batch_size, num_features)`: DACL's weights of features in the center loss, in (0, 1),
        - `local` `(batch_size, num_branches, rows, columns)`: TransFER's local attention maps, in (0, 1),
        - `rollout` `(batch_size, rows, columns)`: [`rollout_map`] of a Transformer over the whole image.
    """
    if model.config.model_type == "timm_wrapper":  # which refuses to be asked
        return {}
    training, implementation = model.training, model.config._attn_implementation
    # Fused kernels give no probabilities. (TransFER, which cannot be switched, avoids them by itself when asked.)
    switch = implementation != "eager" and model._can_set_attn_implementation()
    model.eval()
    try:
        if switch:
            model.set_attn_implementation("eager")
        outputs = model(pixel_values=pixel_values.to(model.device), output_attentions=True)
    finally:
        model.train(training)
        if switch:
            model.set_attn_implementation(implementation)
    found = {"features": outputs.get("attention_weights"), "local": outputs.get("local_attentions")}
    found = {name: values.float().cpu().numpy() for name, values in found.items() if values is not None}
    layers = outputs.get("attentions") or ()
    grid = found["local"].shape[-2:] if "local" in found else _grid(model, pixel_values)
    if grid is not None and layers and all(_over_all(layer, len(pixel_values), grid) for layer in layers):
        found["rollout"] = rollout_map(np.stack([layer.float().cpu().numpy() for layer in layers]), grid)
    return found


def class_activation(
    model: PreTrainedModel, pixel_values: torch.Tensor, class_ids: Sequence[int] | None = None
) -> np.ndarray | None:
    """
    Grad-CAM (Selvaraju et al., 2017, https://huggingface.co/papers/1610.02391): where the last feature map of a
    convolutional network speaks for a class. Its channels are weighted by the mean gradient of the class's logit, and
    summed; what speaks against the class is left out.

    By Captum, the extra `explain`: PyTorch's own, and a wheel that needs nothing which is not here already. (The
    package `grad-cam` brings OpenCV, and has no wheel.)

    Args:
        model (`PreTrainedModel`): An image classifier. Its mode is restored.
        pixel_values (`torch.FloatTensor` of shape `(batch_size, channels, height, width)`): From its processor.
        class_ids (`Sequence[int]`, *optional*): The class that is asked about, for each image; by default its answer.

    Returns:
        `np.ndarray` of shape `(batch_size, rows, columns)`: At least 0, and 0 everywhere where nothing speaks for the
        class; `None` for a network that is not convolutional.
    """
    from captum.attr import LayerGradCam

    training, pixel_values = model.training, pixel_values.to(model.device)
    model.eval()
    try:
        layer, answers = _last_feature_map(model, pixel_values)
        if layer is None:
            return None
        targets = answers if class_ids is None else torch.as_tensor(class_ids, device=answers.device)
        maps = LayerGradCam(lambda images: model(pixel_values=images).logits, layer).attribute(
            pixel_values, targets, relu_attributions=True
        )  # (batch_size, 1, rows, columns)
    finally:
        model.train(training)
    return maps[:, 0].detach().float().cpu().numpy()


@torch.no_grad()
def _last_feature_map(model: PreTrainedModel, pixel_values: torch.Tensor) -> tuple[nn.Module | None, torch.Tensor]:
    """
    The last module that gives a map as fine as that of the last convolution, and so neither a part of a block nor a
    pooling layer (of parallel branches, the last); `None` where the only convolution cuts an image into patches. And
    the model's answers.
    """
    convolutions, found = [], []

    def note(module: nn.Module, inputs: tuple, output: torch.Tensor) -> None:
        if torch.is_tensor(output) and output.ndim == 4 and output.shape[2:].numel() > 1:
            found.append((module, output.shape[2:]))
            if isinstance(module, nn.Conv2d):
                convolutions.append(output.shape[2:])

    hooks = [module.register_forward_hook(note) for module in model.modules()]
    try:
        answers = model(pixel_values=pixel_values).logits.argmax(dim=-1)
    finally:
        for hook in hooks:
            hook.remove()
    if len(convolutions) < 2:
        return None, answers
    return [module for module, grid in found if grid == convolutions[-1]][-1], answers


def maps_over_faces(
    model: PreTrainedModel, pixel_values: torch.Tensor, found: dict[str, np.ndarray]
) -> dict[str, np.ndarray]:
    """
    What there is to draw over each face: attention maps, or where a network has none, the class activation.

    Args:
        model (`PreTrainedModel`): An image classifier.
        pixel_values (`torch.FloatTensor` of shape `(batch_size, channels, height, width)`): From its processor.
        found (`dict[str, np.ndarray]`): What [`attention`] gives for them.

    Returns:
        `dict[str, np.ndarray]`: Each `(batch_size, rows, columns)`: `branch 1` and so on of TransFER, `rollout`; else
        `class activation`, of the answer ([`class_activation`]). Empty for a network that tells nothing.
    """
    branches = np.moveaxis(found["local"], 1, 0) if "local" in found else ()
    maps = {f"branch {number}": branch for number, branch in enumerate(branches, start=1)}
    maps |= {"rollout": found["rollout"]} if "rollout" in found else {}
    if maps:
        return maps
    activation = class_activation(model, pixel_values)
    return {} if activation is None else {"class activation": activation}


def rollout(layers: np.ndarray) -> np.ndarray:
    """
    Attention rollout (Abnar and Zuidema, 2020, https://huggingface.co/papers/2005.00928): how much of each input
    token is in each token of the last layer. It assumes that information moves by attention alone, and that each
    layer's output is half attention (mean over heads) and half its input (the residual connection).

    Args:
        layers (`np.ndarray` of shape `(num_layers, batch_size, num_heads, tokens, tokens)`): Attention
            probabilities, first layer first; rows are queries and sum to 1.

    Returns:
        `np.ndarray` of shape `(batch_size, tokens, tokens)`: Rows sum to 1.
    """
    identity = np.eye(layers.shape[-1])
    result = identity
    for layer in layers:
        result = (0.5 * layer.mean(axis=1) + 0.5 * identity) @ result
    return result


def rollout_map(layers: np.ndarray, grid: tuple[int, int]) -> np.ndarray:
    """
    The row of the rollout that is classified, over the patches: that of the class token, which is the first one; where
    all tokens are patches, the mean of all rows.

    Args:
        layers (`np.ndarray`): As for [`rollout`]. The patches are the last tokens, row by row.
        grid (`tuple[int, int]`): Rows and columns of patches.

    Returns:
        `np.ndarray` of shape `(batch_size, *grid)`: Sums to at most 1; the class token and registers keep the rest.

    Raises:
        BadInputError: If there are fewer tokens than patches.
    """
    others = layers.shape[-1] - grid[0] * grid[1]
    if others < 0:
        raise BadInputError(f"{layers.shape[-1]} tokens cannot be a grid of {grid[0]} x {grid[1]} patches.")
    shares = rollout(layers)
    shares = shares[:, 0] if others else shares.mean(axis=1)
    return shares[:, others:].reshape(-1, *grid)


def class_means(weights: np.ndarray, labels: Sequence[int], num_labels: int) -> np.ndarray:
    """
    The mean attention vector of every expression.

    Args:
        weights (`np.ndarray` of shape `(num_faces, num_features)`): `features` of [`attention`].
        labels (`Sequence[int]`): True class ids.
        num_labels (`int`): Number of expressions.

    Returns:
        `np.ndarray` of shape `(num_labels, num_features)`: nan for an expression without faces.
    """
    labels = np.asarray(labels)
    rows = [weights[labels == i].mean(axis=0) if (labels == i).any() else None for i in range(num_labels)]
    return np.stack([np.full(weights.shape[1], np.nan) if row is None else row for row in rows])


def _over_all(layer: torch.Tensor | None, batch_size: int, grid: tuple[int, int]) -> bool:
    """Whether these are probabilities over the whole image: not in windows (Swin), nor over fewer keys (PVT)."""
    if not torch.is_tensor(layer) or layer.ndim != 4:
        return False
    return len(layer) == batch_size and layer.shape[2] == layer.shape[3] >= grid[0] * grid[1]


def _grid(model: PreTrainedModel, pixel_values: torch.Tensor) -> tuple[int, int] | None:
    """Rows and columns of a Vision Transformer's patches; `None` for other networks."""
    nested = ("backbone_config", "vision_config")
    config = next((getattr(model.config, name) for name in nested if hasattr(model.config, name)), model.config)
    patch = getattr(config, "patch_size", None)
    if patch is None:
        return None
    height, width = (patch, patch) if isinstance(patch, int) else patch
    return pixel_values.shape[-2] // height, pixel_values.shape[-1] // width
