"""What a classifier attends to, as arrays; [`fer_hf.plots`] draws them."""

from collections.abc import Sequence

import numpy as np
import torch
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
