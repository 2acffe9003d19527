"""Losses: values by hand, and the Trainer's way of counting."""

import math

import pytest
import torch
from torch.nn.functional import cross_entropy
from transformers.utils import ModelOutput

from fer_hf.errors import BadInputError
from fer_hf.losses import soft_cross_entropy


def test_the_loss_of_two_faces_is_what_it_is_by_hand():
    logits = torch.log(torch.tensor([[0.5, 0.25, 0.25], [0.1, 0.1, 0.8]]))
    labels = torch.tensor([[0.5, 0.5, 0.0], [0.0, 0.0, 1.0]])
    by_hand = (0.5 * math.log(2) + 0.5 * math.log(4) + math.log(1 / 0.8)) / 2
    assert soft_cross_entropy(ModelOutput(logits=logits), labels).item() == pytest.approx(by_hand, rel=1e-6)


@pytest.mark.parametrize("cut", [1, 2, 3])
def test_a_batch_may_be_accumulated_in_pieces(cut):
    logits, labels = torch.randn(4, 7), torch.rand(4, 7).softmax(dim=-1)
    for given in (labels, labels.argmax(dim=-1)):
        whole = soft_cross_entropy(ModelOutput(logits=logits), given)
        for count in (given.numel(), torch.tensor(given.numel())):
            pieces = sum(
                soft_cross_entropy(ModelOutput(logits=logits[part]), given[part], num_items_in_batch=count)
                for part in (slice(cut), slice(cut, None))
            )
            torch.testing.assert_close(pieces, whole)


def test_the_gradient_is_the_softmax_less_the_labels():
    logits, labels = torch.randn(4, 7, requires_grad=True), torch.rand(4, 7).softmax(dim=-1)
    soft_cross_entropy(ModelOutput(logits=logits), labels).backward()
    torch.testing.assert_close(logits.grad, (logits.detach().softmax(dim=-1) - labels) / 4)


def test_it_agrees_with_torch_and_takes_class_ids_as_certain():
    # As many faces as classes: a row of ids would otherwise pass for a row of probabilities.
    logits, ids, soft = torch.randn(7, 7), torch.arange(7), torch.rand(7, 7).softmax(dim=-1)
    torch.testing.assert_close(soft_cross_entropy(ModelOutput(logits=logits), soft), cross_entropy(logits, soft))
    torch.testing.assert_close(soft_cross_entropy(ModelOutput(logits=logits), ids), cross_entropy(logits, ids))


def test_half_precision_logits_lose_nothing_on_the_way():
    logits, labels = torch.randn(4, 7).bfloat16(), torch.rand(4, 7).softmax(dim=-1)
    loss = soft_cross_entropy(ModelOutput(logits=logits), labels)
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss, cross_entropy(logits.float(), labels))


@pytest.mark.parametrize("labels", [torch.rand(7), torch.rand(7, 1), torch.rand(7, 8)])
def test_labels_of_another_shape_are_refused(labels):
    with pytest.raises(BadInputError, match="labels"):
        soft_cross_entropy(ModelOutput(logits=torch.randn(7, 7)), labels)
