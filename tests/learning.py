"""Drawn faces as tensors, and how small networks learn them by heart."""

import math

import numpy as np
import torch
from datasets import DatasetDict
from torch import nn

from fer_hf.labels import EXPRESSIONS


# Loss, in nats, of a network that gives every face the shares of the labels of `happy_quarter`.
ENTROPY = 6 / 8 * math.log(8) + 1 / 4 * math.log(4)


def drawn_batch(tables: DatasetDict, num_faces: int = 64) -> tuple[torch.Tensor, torch.Tensor]:
    """Gray 48-pixel faces in [-1, 1] and their labels, about as many of each kind."""
    return _batch([row for split in ("train", "validation") for row in tables[split]][:num_faces])


def happy_quarter(tables: DatasetDict) -> tuple[torch.Tensor, torch.Tensor]:
    """64 faces as above: a quarter is happy, as in FER-2013, and 8 are of each other kind."""
    rows = [row for split in ("train", "validation", "test") for row in tables[split]]
    kinds = [[row for row in rows if row["label"] == label] for label in range(len(EXPRESSIONS))]
    return _batch([r for label, kind in enumerate(kinds) for r in kind[: 16 if EXPRESSIONS[label] == "happy" else 8]])


def _batch(rows: list[dict]) -> tuple[torch.Tensor, torch.Tensor]:
    pixels = np.stack([np.asarray(row["image"].convert("L")) for row in rows])
    return torch.tensor(pixels)[:, None] / 127.5 - 1, torch.tensor([row["label"] for row in rows])


def train(model, optimizer, images, labels, steps, warmup_steps=0) -> tuple[list[float], torch.Tensor]:
    """Whole-batch steps; returns the loss before each, and the logits in eval mode after the last."""
    warmup = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: min(1, (step + 1) / max(1, warmup_steps)))
    model.train()
    losses = []
    for _ in range(steps):
        optimizer.zero_grad()
        loss = model(images, labels=labels).loss
        loss.backward()
        optimizer.step()
        warmup.step()
        losses.append(loss.item())
    settle_batch_norm(model, images)
    with torch.no_grad():
        return losses, model.eval()(images).logits


def settle_batch_norm(model: nn.Module, images: torch.Tensor) -> None:
    """The statistics of these faces, not a running mean over the weights of the last steps."""
    norms = [module for module in model.modules() if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d)]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None
    if norms:
        with torch.no_grad():
            model.train()(images)


def accuracy(logits: torch.Tensor, labels: torch.Tensor) -> float:
    """Share of right answers."""
    return (logits.argmax(dim=-1) == labels).float().mean().item()
