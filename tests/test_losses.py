"""Losses: values by hand, and the Trainer's way of counting."""

import math

import pytest
import torch
from torch.nn.functional import cross_entropy
from transformers.utils import ModelOutput

from fer_hf.errors import BadInputError
from fer_hf.losses import ExpressionLoss


pytestmark = pytest.mark.numeric


def test_the_loss_of_two_faces_is_what_it_is_by_hand():
    logits = torch.log(torch.tensor([[0.5, 0.25, 0.25], [0.1, 0.1, 0.8]]))
    labels = torch.tensor([[0.5, 0.5, 0.0], [0.0, 0.0, 1.0]])
    by_hand = (0.5 * math.log(2) + 0.5 * math.log(4) + math.log(1 / 0.8)) / 2
    assert ExpressionLoss()(ModelOutput(logits=logits), labels).item() == pytest.approx(by_hand, rel=1e-6)


def test_the_gradient_is_the_softmax_less_the_labels():
    logits, labels = torch.randn(4, 7, requires_grad=True), torch.rand(4, 7).softmax(dim=-1)
    ExpressionLoss()(ModelOutput(logits=logits), labels).backward()
    torch.testing.assert_close(logits.grad, (logits.detach().softmax(dim=-1) - labels) / 4)


def test_it_agrees_with_torch_and_takes_class_ids_as_certain():
    # As many faces as classes: a row of ids would otherwise pass for a row of probabilities.
    logits, ids, soft = torch.randn(7, 7), torch.arange(7), torch.rand(7, 7).softmax(dim=-1)
    torch.testing.assert_close(ExpressionLoss()(ModelOutput(logits=logits), soft), cross_entropy(logits, soft))
    torch.testing.assert_close(ExpressionLoss()(ModelOutput(logits=logits), ids), cross_entropy(logits, ids))


def test_half_precision_logits_lose_nothing_on_the_way():
    logits, labels = torch.randn(4, 7).bfloat16(), torch.rand(4, 7).softmax(dim=-1)
    loss = ExpressionLoss()(ModelOutput(logits=logits), labels)
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss, cross_entropy(logits.float(), labels))


@pytest.mark.parametrize("labels", [torch.rand(7), torch.rand(7, 1), torch.rand(7, 8)])
def test_labels_of_another_shape_are_refused(labels):
    with pytest.raises(BadInputError, match="labels"):
        ExpressionLoss()(ModelOutput(logits=torch.randn(7, 7)), labels)


WEIGHTS = torch.tensor([0.5, 2.0, 1.0, 1.5, 0.7, 3.0, 0.1])


def test_the_focal_loss_of_two_faces_is_what_it_is_by_hand():
    # Lin et al., 2017: -(1 - p)^gamma * log(p) of the true class.
    logits = torch.log(torch.tensor([[0.5, 0.25, 0.25], [0.1, 0.1, 0.8]]))
    labels = torch.tensor([1, 2])
    by_hand = (0.75**2 * math.log(4) + 0.2**2 * math.log(1 / 0.8)) / 2
    assert ExpressionLoss(2.0)(ModelOutput(logits=logits), labels).item() == pytest.approx(by_hand, rel=1e-6)
    weighted = (2 * 0.75**2 * math.log(4) + 0.5 * 0.2**2 * math.log(1 / 0.8)) / 2
    loss = ExpressionLoss(2.0, torch.tensor([1.0, 2.0, 0.5]))(ModelOutput(logits=logits), labels)
    assert loss.item() == pytest.approx(weighted, rel=1e-6)


@pytest.mark.parametrize("weights", [None, WEIGHTS])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("soft", [False, True])
def test_weights_and_smoothing_are_torchs_and_so_is_a_vanishing_focus(weights, smoothing, soft):
    logits = torch.randn(5, 7)
    labels = torch.rand(5, 7).softmax(dim=-1) if soft else torch.tensor([0, 6, 5, 5, 2])
    expected = cross_entropy(logits, labels, weight=weights, label_smoothing=smoothing, reduction="sum") / 5
    for gamma in (0.0, 1e-9):  # the second takes the focal loss's own way
        loss = ExpressionLoss(gamma, weights, smoothing)(ModelOutput(logits=logits), labels)
        torch.testing.assert_close(loss, expected)


def test_weights_of_mean_one_make_torchs_weighted_mean_of_the_whole_set():
    # torch divides by the sum of the weights, which over the whole set is then the number of faces.
    logits, labels = torch.randn(50, 7), torch.arange(50) % 7
    weights = WEIGHTS / WEIGHTS[labels].mean()
    loss = ExpressionLoss(0.0, weights)(ModelOutput(logits=logits), labels)
    torch.testing.assert_close(loss, cross_entropy(logits, labels, weight=WEIGHTS))


LOSSES = {
    "plain": ExpressionLoss(),
    "smoothed and weighted": ExpressionLoss(0.0, WEIGHTS, 0.1),
    "focal": ExpressionLoss(2.0),
    "all": ExpressionLoss(1.5, WEIGHTS, 0.2),
}


@pytest.mark.parametrize("loss", LOSSES.values(), ids=LOSSES)
def test_every_loss_adds_up_over_pieces(loss):
    logits, soft = torch.randn(6, 7), torch.rand(6, 7).softmax(dim=-1)
    for labels in (soft, soft.argmax(dim=-1)):
        whole = loss(ModelOutput(logits=logits), labels)
        for count in (labels.numel(), torch.tensor(labels.numel())):
            pieces = [
                loss(ModelOutput(logits=logits[part]), labels[part], num_items_in_batch=count)
                for part in (slice(1), slice(1, 4), slice(4, 6))
            ]
            torch.testing.assert_close(sum(pieces), whole)


@pytest.mark.parametrize("loss", LOSSES.values(), ids=LOSSES)
def test_a_distribution_costs_what_a_label_drawn_from_it_costs_on_average(loss):
    logits, shares = torch.randn(1, 7), torch.rand(1, 7).softmax(dim=-1)
    drawn = [loss(ModelOutput(logits=logits), torch.tensor([label])) for label in range(7)]
    average = sum(share * cost for share, cost in zip(shares[0], drawn, strict=True))
    torch.testing.assert_close(loss(ModelOutput(logits=logits), shares), average)


@pytest.mark.parametrize("gamma", [0.5, 1.0, 2.0])
def test_the_gradient_of_the_focal_loss_is_finite_for_certain_faces(gamma):
    logits = torch.tensor([[200.0, 0.0, 0.0], [0.0, 200.0, 0.0]], requires_grad=True)
    loss = ExpressionLoss(gamma)(ModelOutput(logits=logits), torch.tensor([0, 0]))
    assert loss.item() == pytest.approx(100.0)  # log(p) of the wrong face is -200
    loss.backward()
    torch.testing.assert_close(logits.grad, torch.tensor([[0.0, 0.0, 0.0], [-0.5, 0.5, 0.0]]))


def test_numbers_out_of_range_are_refused():
    with pytest.raises(BadInputError, match="`focal_gamma` must be at least 0, got -1"):
        ExpressionLoss(-1)
    with pytest.raises(BadInputError, match=r"`label_smoothing` must be in \[0, 1\), got 1"):
        ExpressionLoss(label_smoothing=1)
