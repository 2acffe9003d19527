import numpy as np
import pytest
from matplotlib.figure import Figure
from sklearn.metrics import classification_report

from fer_hf.evaluation.report import expression_report, report_text, with_averages
from fer_hf.metrics import ExpressionMetrics
from fer_hf.plots import plot_learning_curves


NAMES = ["a", "b", "c"]
LABELS = np.array([0, 0, 0, 1, 1, 2])
# Predictions 0 0 1 1 2 2: recalls 2/3, 1/2, 1.
LOGITS = np.array([[2, 0, 0], [3, 1, 0], [0, 1, 0], [0, 2, 0], [0, 0, 1], [0, 0, 4]], dtype=float)


def test_a_report_holds_the_numbers_worked_out_by_hand():
    report = expression_report(LOGITS, LABELS, NAMES)
    assert report["num_faces"] == 6
    assert report["accuracy"] == pytest.approx(4 / 6)
    assert report["balanced_accuracy"] == pytest.approx((2 / 3 + 1 / 2 + 1) / 3)
    assert report["confusion_matrix"] == [[2, 1, 0], [0, 1, 1], [0, 0, 1]]
    assert report["per_class"]["a"] == {
        "precision": pytest.approx(1), "recall": pytest.approx(2 / 3), "f1": pytest.approx(0.8), "support": 3,
    }  # fmt: skip
    assert report["macro_f1"] == pytest.approx((0.8 + 0.5 + 2 / 3) / 3)
    odds = np.exp(LOGITS) / np.exp(LOGITS).sum(axis=1, keepdims=True)
    assert report["loss"] == pytest.approx(-np.log(odds[np.arange(6), LABELS]).mean())


def test_a_class_without_faces_does_not_lower_the_balanced_accuracy():
    scores = ExpressionMetrics().compute(predictions=[0, 0, 1], references=[0, 0, 1])
    assert scores["balanced_accuracy"] == 1.0
    report = expression_report(LOGITS[:3], LABELS[:3], NAMES)
    assert report["per_class"]["c"] == {"precision": 0.0, "recall": 0.0, "f1": 0.0, "support": 0}


def test_the_text_shows_every_class_and_the_headline_figures():
    text = report_text(expression_report(LOGITS, LABELS, NAMES), "test")
    assert "test: 6 faces" in text
    assert "accuracy             0.6667" in text
    assert [line.split()[0] for line in text.splitlines()[-5:]] == [*NAMES, "macro", "weighted"]
    assert text.splitlines()[-2].split() == ["macro", "avg", "0.667", "0.722", "0.656", "6"]


def test_the_rows_below_the_classes_are_scikit_learns():
    rng = np.random.default_rng(0)
    labels, logits = rng.choice(3, size=50, p=[0.7, 0.2, 0.1]), rng.normal(size=(50, 3))
    ours = with_averages(expression_report(logits, labels, NAMES)["per_class"])
    theirs = classification_report(labels, logits.argmax(1), target_names=NAMES, output_dict=True)
    for title in ("macro avg", "weighted avg"):
        scores = {name.replace("-score", ""): value for name, value in theirs[title].items()}
        assert ours[title] == pytest.approx(scores)


@pytest.mark.parametrize("every", [0.1, 1.0, 20.0])
def test_the_minutes_above_the_curves_are_those_of_their_epochs(tmp_path, monkeypatch, every):
    figures = []
    monkeypatch.setattr(Figure, "savefig", lambda figure, *args, **kwargs: figures.append(figure))
    # Epochs of two minutes up to the 40th, of four from there on.
    epochs = np.arange(every, 60 + every / 2, every).tolist()
    history = [{"epoch": e, "loss": 1.0, "elapsed_seconds": 60 * (2 * e + 2 * max(0, e - 40))} for e in epochs]
    plot_learning_curves(history, tmp_path / "curves.png")
    (scale,) = figures[0].axes[0].child_axes
    figures[0].draw_without_rendering()
    labels = {tick: label.get_text() for tick, label in zip(scale.get_xticks(), scale.get_xticklabels(), strict=True)}
    inside = {epoch: label for epoch, label in labels.items() if 0 <= epoch <= 60}
    assert inside == {epoch: f"{2 * epoch + 2 * max(0, epoch - 40):.3g}" for epoch in inside}
    assert len(inside) > 3
    assert set(labels.values()) == {*inside.values(), *([""] if labels.keys() - inside else [])}
