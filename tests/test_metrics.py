"""Metrics against scikit-learn and hand calculation, and intervals against what they promise."""

import numpy as np
import pytest
import torch
from sklearn.metrics import accuracy_score, confusion_matrix, f1_score, log_loss, recall_score

from fer_hf.metrics import (
    ExpressionMetrics,
    bootstrap_intervals,
    expected_calibration_error,
    negative_log_likelihood,
    time_to_accuracy,
)
from fer_hf.metrics.bootstrap import confusion_scores, draw_counts


def random_faces(seed=0, num_faces=300, num_labels=7):
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, num_labels, num_faces)
    return np.where(rng.random(num_faces) < 0.6, labels, rng.integers(0, num_labels, num_faces)), labels


CASES = {
    "random": random_faces(),
    "a class without faces": (np.array([0, 1, 2, 2, 0]), np.array([0, 1, 1, 1, 0])),
    "a class never predicted": (np.array([0, 0, 1, 1]), np.array([0, 2, 1, 2])),
    "all wrong": (np.array([1, 2, 0, 0]), np.array([0, 1, 2, 1])),
    "all right": (np.array([0, 1, 2]), np.array([0, 1, 2])),
    "ties, which the first class wins": (np.zeros((6, 3)).argmax(axis=1), np.array([0, 1, 2, 0, 1, 2])),
    "one face": (np.array([3]), np.array([5])),
}


@pytest.mark.parametrize("case", CASES)
def test_scores_equal_scikit_learns(case):
    predicted, labels = CASES[case]
    expected = {
        "accuracy": accuracy_score(labels, predicted),
        "macro_f1": f1_score(labels, predicted, average="macro", zero_division=0),
        "balanced_accuracy": recall_score(
            labels, predicted, average="macro", labels=np.unique(labels), zero_division=0
        ),
    }
    weighted = f1_score(labels, predicted, average="weighted", zero_division=0)
    assert ExpressionMetrics().compute(predictions=predicted, references=labels) == pytest.approx(
        {**expected, "weighted_f1": weighted}
    )
    # Over many confusion matrices at once too, among them classes that no face has anything to do with.
    matrix = confusion_matrix(labels, predicted, labels=range(8))
    found = confusion_scores(np.stack([matrix, matrix]))
    for name, value in expected.items():
        assert found[name] == pytest.approx([value, value])


def test_the_calibration_error_is_that_of_bins_taken_one_by_one():
    rng = np.random.default_rng(0)
    probabilities = rng.dirichlet(np.full(7, 0.4), 500)
    # As often right as they claim: some bins are above and some below, and which face is in which bin matters.
    labels = (rng.random(500)[:, None] > probabilities.cumsum(axis=1)).sum(axis=1)
    confidence, right = probabilities.max(axis=1), probabilities.argmax(axis=1) == labels
    expected = 0
    for low, high in zip(np.linspace(0, 1, 16)[:-1], np.linspace(0, 1, 16)[1:], strict=True):
        mine = (confidence > low) & (confidence <= high)
        if mine.any():
            expected += mine.mean() * abs(right[mine].mean() - confidence[mine].mean())
    assert expected_calibration_error(probabilities, labels) == pytest.approx(expected)


def test_certainty_that_is_right_has_no_calibration_error_and_certainty_that_is_wrong_the_largest():
    certain = np.eye(3)
    assert expected_calibration_error(certain, np.array([0, 1, 2])) == 0
    assert expected_calibration_error(certain, np.array([1, 2, 0])) == 1


def test_the_negative_log_likelihood_is_torchs_cross_entropy_and_scikit_learns_log_loss():
    rng = np.random.default_rng(0)
    logits, labels = rng.normal(size=(50, 7)), rng.integers(0, 6, 50)  # the last class has no face
    probabilities = torch.from_numpy(logits).softmax(dim=1).numpy()
    found = negative_log_likelihood(logits, labels)
    assert found == pytest.approx(log_loss(labels, probabilities, labels=range(7)))
    entropy = torch.nn.functional.cross_entropy(torch.from_numpy(logits), torch.from_numpy(labels))
    assert found == pytest.approx(entropy.item())


def test_intervals_are_those_of_faces_drawn_one_by_one():
    predicted, labels = random_faces(num_faces=200)
    rng = np.random.default_rng(1)
    draws = rng.integers(0, 200, (2000, 200))
    matrices = np.zeros((2000, 7, 7), dtype=int)
    np.add.at(matrices, (np.arange(2000)[:, None], labels[draws], predicted[draws]), 1)
    found = bootstrap_intervals(predicted, labels)
    for name, values in confusion_scores(matrices).items():
        # Both sides are estimates from 2,000 draws.
        assert found[name] == pytest.approx(np.quantile(values, [0.025, 0.975]), abs=0.012)


def test_intervals_repeat_themselves_and_follow_seed_and_level():
    predicted, labels = random_faces()
    found = bootstrap_intervals(predicted, labels)
    assert found == bootstrap_intervals(predicted, labels)
    assert found != bootstrap_intervals(predicted, labels, seed=1)
    narrow = bootstrap_intervals(predicted, labels, level=0.5)
    scores = ExpressionMetrics().compute(predictions=predicted, references=labels)
    for name, (low, high) in found.items():
        assert low < narrow[name][0] < scores[name] < narrow[name][1] < high
    # Ids mean nothing to them: the same faces under other numbers.
    assert found == bootstrap_intervals(predicted * 10 + 3, labels * 10 + 3)


@pytest.mark.parametrize("right", [True, False])
def test_of_a_score_at_its_end_the_interval_is_a_point(right):
    labels = np.array([0, 1, 2, 1])
    found = bootstrap_intervals(labels if right else (labels + 1) % 3, labels)
    assert found == dict.fromkeys(("accuracy", "macro_f1", "balanced_accuracy"), [float(right)] * 2)


def test_drawn_counts_keep_their_sum_and_their_mean():
    counts = np.array([5, 0, 40, 55])
    drawn = draw_counts(counts, num_draws=4000)
    assert (drawn.sum(axis=1) == 100).all()
    assert (drawn[:, 1] == 0).all()
    assert drawn.mean(axis=0) == pytest.approx(counts, abs=0.4)  # 5 standard errors
    with pytest.raises(ValueError, match="one face at least"):
        draw_counts(np.zeros(4, dtype=int))


def test_intervals_cover_the_true_scores():
    # Classes as unequal as FER-2013's; what a model says of a face of class i is drawn from row i.
    rng = np.random.default_rng(0)
    shares = np.array([0.6, 0.3, 0.1])
    says = np.array([[0.8, 0.1, 0.1], [0.2, 0.7, 0.1], [0.3, 0.3, 0.4]])
    truth = {"accuracy": shares @ np.diag(says), "balanced_accuracy": np.diag(says).mean()}
    covered = dict.fromkeys(truth, 0)
    for seed in range(300):
        labels = rng.choice(3, size=300, p=shares)
        predicted = (rng.random(300)[:, None] > says[labels].cumsum(axis=1)).sum(axis=1)
        found = bootstrap_intervals(predicted, labels, num_draws=500, seed=seed)
        for name, value in truth.items():
            covered[name] += found[name][0] <= value <= found[name][1]
    # 95 % of 300 is 285, with a standard deviation of 3.8.
    for name, count in covered.items():
        assert 270 <= count <= 298, (name, count)


def test_time_to_accuracy_is_when_each_level_was_first_reached():
    seen = [(10.0, 0.2), (20.0, 0.61), (30.0, 0.55), (40.0, 0.66)]
    validations = [{"elapsed_seconds": seconds, "accuracy": accuracy} for seconds, accuracy in seen]
    assert time_to_accuracy(validations) == {0.5: 20.0, 0.6: 20.0, 0.63: 40.0, 0.65: 40.0}
    assert time_to_accuracy(validations, levels=(0.66, 0.661)) == {0.66: 40.0}
    assert time_to_accuracy([{"elapsed_seconds": 5.0, "loss": 0.1}]) == {}
