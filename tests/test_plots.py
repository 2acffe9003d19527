"""Pictures: what is in the figures, and where labels stand on photos."""

import io

import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image

from fer_hf.plots import (
    BLUE,
    draw_faces,
    plot_attention_maps,
    plot_attention_strips,
    plot_class_balance,
    plot_conflicts,
    plot_confusion_matrix,
    plot_explanation,
    plot_faces,
    plot_leaderboard,
    plot_learning_curves,
    plot_predictions,
    plot_probabilities,
    plot_reliability,
    plot_robustness,
    plot_similarity,
    plot_timeline,
)


def found(box, expression="happy", score=0.5, landmarks=None):
    """A face as the pipeline tells of it."""
    edges = dict(zip(("xmin", "ymin", "xmax", "ymax"), box, strict=True))
    return {"box": edges, "expression": expression, "score": score, "landmarks": landmarks}


def blue(image):
    """Where a picture has the colour of boxes and labels."""
    return (np.asarray(image) == [int(BLUE[i : i + 2], 16) for i in (1, 3, 5)]).all(axis=-1)


def test_a_box_is_drawn_on_its_edges_and_leaves_the_face_as_it_is():
    photo = Image.new("RGB", (600, 500), "gray")
    drawn = draw_faces(photo, [found((200, 200, 400, 400), landmarks=[[250, 260], [350, 260]])])
    assert drawn.size == photo.size
    assert blue(drawn)[200, 200:401].all()
    assert blue(drawn)[200:401, 400].all()
    assert blue(drawn)[260, 250] and blue(drawn)[260, 350]  # noqa: PT018
    assert np.array_equal(np.asarray(drawn)[280:390, 210:390], np.asarray(photo)[280:390, 210:390])
    assert blue(drawn)[170:199, 200:260].sum() > 500  # the label, above
    assert not blue(photo).any()


def test_a_small_face_is_enlarged_until_its_label_can_be_read():
    drawn = draw_faces(Image.new("L", (48, 60)), [found((0, 0, 48, 60))])
    assert drawn.size == (240, 300)
    assert drawn.mode == "RGB"


@pytest.mark.parametrize("box", [(-20, -20, 90, 90), (250, 250, 400, 400), (0, 0, 300, 300)])
def test_a_label_stays_inside_of_the_photo(box):
    photo = Image.new("RGB", (300, 300), "black")
    with_label = blue(draw_faces(photo, [found(box, "surprise", 1.0)])).sum()
    without = blue(draw_faces(photo, [found(box, "", 1.0)])).sum()
    assert with_label - without > 500


def test_labels_of_neighbours_do_not_hide_each_other():
    photo = Image.new("RGB", (900, 600), "black")
    boxes = [(300, 300, 360, 360), (340, 300, 400, 360), (380, 300, 440, 360)]
    alone = [blue(draw_faces(photo, [found(box, "neutral")])).sum() for box in boxes]
    frames = [blue(draw_faces(photo, [found(box, "")])).sum() for box in boxes]
    labels = sum(alone) - sum(frames)
    together = blue(draw_faces(photo, [found(box, "neutral") for box in boxes])).sum()
    assert together > 0.9 * (labels + blue(draw_faces(photo, [found(box, "") for box in boxes])).sum())


def test_a_face_with_a_number_says_it():
    photo, box = Image.new("RGB", (300, 300)), (100, 100, 200, 200)
    numbered = draw_faces(photo, [{"face": 3, **found(box)}])
    assert numbered.tobytes() == draw_faces(photo, [found(box, "3: happy")]).tobytes()


def test_no_face_leaves_the_photo_as_it_is():
    photo = Image.new("RGB", (300, 300), "teal")
    assert np.array_equal(np.asarray(draw_faces(photo, [])), np.asarray(photo))


@pytest.fixture
def drawn(monkeypatch):
    """The figure that is about to be written, instead of a file."""
    figures = []
    monkeypatch.setattr(Figure, "savefig", lambda figure, path, **options: figures.append(figure))
    return figures


def texts(axes):
    return [text.get_text() for text in axes.texts]


def test_a_reliability_diagram_shows_accuracies_counts_and_error(drawn):
    counts, nan = np.array([0, 0, 3, 0, 2]), np.nan
    confidence, accuracy = np.array([nan, nan, 0.55, nan, 0.9]), np.array([nan, nan, 2 / 3, nan, 0.5])
    plot_reliability(counts, confidence, accuracy, 0.123, "x.png", "faces")
    upper, lower = drawn[0].axes
    assert [bar.get_height() for bar in upper.patches][2::2] == pytest.approx([2 / 3, 1 / 2])
    assert [bar.get_x() for bar in upper.patches] == pytest.approx([0, 0.2, 0.4, 0.6, 0.8])
    assert [bar.get_height() for bar in lower.patches] == [0, 0, 3, 0, 2]
    assert texts(lower) == ["", "", "3", "", "2"]
    assert "error 0.123 (5 bins)" in upper.get_title()
    assert upper.lines[1].get_xydata() == pytest.approx(np.array([[0.55, 2 / 3], [0.9, 0.5]]))


def test_a_robustness_curve_goes_through_every_accuracy(drawn):
    plot_robustness({"blur": [0.8, 0.7, 0.5], "low_light": [0.8, 0.6, 0.1]}, "x.png", "faces")
    axes = drawn[0].axes[0]
    assert [line.get_label() for line in axes.lines] == ["blur", "low light"]
    assert axes.lines[1].get_xydata().tolist() == [[0, 0.8], [1, 0.6], [2, 0.1]]


def test_class_balance_shows_shares_with_counts(drawn):
    counts = {"train": {"a": 30, "b": 10}, "test": {"a": 1, "b": 1}, "empty": {"a": 0, "b": 0}}
    plot_class_balance(counts, "x.png", "faces")
    axes = drawn[0].axes[0]
    assert [bar.get_width() for bar in axes.patches] == pytest.approx([0.75, 0.25, 0.5, 0.5])
    assert texts(axes) == ["30", "10", "1", "1"]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["a", "b"]


def test_a_confusion_matrix_shows_counts_and_shares_of_the_true_class(drawn):
    plot_confusion_matrix([[3, 1], [0, 0]], ["a", "b"], "x.png", "faces")
    axes = drawn[0].axes[0]
    assert texts(axes) == ["3\n75%", "1\n25%", "0\n0%", "0\n0%"]
    assert "accuracy 75.0% of 4 faces" in axes.get_title()


def test_learning_curves_mark_unfreezing_and_the_selected_epoch(drawn):
    history = [{"epoch": 1.0, "loss": 2.0}, {"epoch": 1.0, "eval_accuracy": 0.5}, {"epoch": 2.0, "loss": 1.0}]
    table = [{"epoch": 0, "trainable_parameters": 5}, {"epoch": 1, "trainable_parameters": 50}]
    plot_learning_curves(history, "x.png", table, best_epoch=2.0)
    loss, _, size = drawn[0].axes
    assert loss.lines[0].get_xydata().tolist() == [[1, 2], [2, 1]]
    assert size.patches[0].get_data().values.tolist() == [5, 50]
    assert size.patches[0].get_data().edges.tolist() == [0, 1, 2]
    marks = {line.get_label(): line.get_xdata()[0] for line in loss.lines}
    assert (marks["unfreezing"], marks["selected"]) == (1, 2)


def test_a_sheet_of_faces_has_a_column_for_each_expression(drawn):
    gray = [Image.new("L", (4, 4), level) for level in (10, 20, 30)]
    plot_faces({"a": gray[:2], "b": gray[2:], "c": []}, "x.png")
    shown = [[int(image.get_array()[0, 0]) for image in axes.images] for axes in drawn[0].axes]
    assert shown == [[10], [30], [], [20], [], []]
    assert [axes.get_title() for axes in drawn[0].axes] == ["a", "b", "c", "", "", ""]


def test_conflicts_are_a_row_for_each_group_with_a_text_above_each_face(drawn):
    face = Image.new("L", (4, 4), 9)
    plot_conflicts([[(face, "a"), (face, "b"), (face, "a")], [(face, "b"), (face, "c")]], "x.png", "2 groups")
    assert [axes.get_title() for axes in drawn[0].axes] == ["a", "b", "a", "b", "c", ""]
    assert [len(axes.images) for axes in drawn[0].axes] == [1, 1, 1, 1, 1, 0]
    assert drawn[0].get_suptitle() == "2 groups"


def test_a_leaderboard_has_its_first_row_on_top(drawn):
    plot_leaderboard([("best", 0.75, 0.5, 0.25), ("other", 0.5, 0, 0.125)], "x.png", "board", "test, 4 faces")
    axes = drawn[0].axes[0]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["other", "best"]
    assert [bar.get_width() for bar in axes.patches] == [0.5, 0.75]
    assert [text.get_text() for text in axes.texts] == [" 0.500", " 0.750"]
    assert [line.get_xdata().tolist() for line in axes.lines if line.get_marker() == "o"] == [[0.125, 0.25]]


def test_a_sheet_says_answer_truth_and_their_probabilities_in_the_order_asked_for(drawn, names):
    images = [Image.new("L", (4, 4), level) for level in (10, 20)]
    probabilities = np.full((2, 7), 0.02) + 0.86 * np.eye(7)[[3, 3]]
    plot_predictions(images, probabilities, [0, 3], names, "x.png", "sheet", columns=2)
    titles = [axes.get_title() for axes in drawn[0].axes]
    assert titles == ["happy 88%\n(is angry: 2%)", "happy 88%"]
    plot_predictions(images, probabilities, None, names, "x.png", "sheet without labels", columns=2)
    assert [axes.get_title() for axes in drawn[1].axes] == ["happy 88%", "happy 88%"]
    for axes, image in zip(drawn[0].axes, images, strict=True):
        assert np.array_equal(axes.images[0].get_array(), np.asarray(image))


def test_probability_bars_are_as_long_as_the_probabilities(drawn):
    shares = [[0.125, 0.75, 0.125], [0.5, 0.25, 0.25]]
    plot_probabilities([Image.new("L", (4, 4))] * 2, shares, ["a", "b", "c"], "x.png", "two faces")
    face, chart, _, other = drawn[0].axes
    assert texts(other) == ["50.0%", "25.0%", "25.0%"]
    assert [bar.get_width() for bar in chart.patches] == [0.125, 0.75, 0.125]
    assert texts(chart) == ["12.5%", "75.0%", "12.5%"]
    colours = [bar.get_facecolor() for bar in chart.patches]
    assert colours[0] == colours[2] != colours[1]
    assert face.images[0].get_array().shape == (4, 4)


def test_a_timeline_underlines_the_answer_of_each_step_in_which_the_face_is_seen(drawn):
    nothing = float("nan")
    shares = np.array([[[0.75, 0.25, nothing], [0.25, 0.75, nothing]]])  # (faces, labels, steps)
    plot_timeline({"face 3": Image.new("L", (4, 4))}, shares, [0, 60, 120, 240], ["$a", "b"], "x.png", "1 face")
    face, chart = drawn[0].axes
    colours, answers = chart.collections
    assert np.ma.getmaskarray(colours.get_array()).tolist() == [[False, False, True]] * 2
    assert [line.tolist() for line in answers.get_segments()] == [[[0, 0.95], [1, 0.95]], [[1, 1.95], [2, 1.95]]]
    assert (chart.get_xlabel(), chart.get_xlim()) == ("minutes", (0.0, 4.0))
    assert face.get_title() == "face 3"


def test_attention_pictures_show_the_arrays_that_they_are_given(drawn):
    weights = np.linspace(0, 1, 12).reshape(3, 4)
    plot_attention_strips(weights, ["a", "a", "b"], "x.png", "strips")
    axes = drawn[-1].axes[0]
    assert np.array_equal(axes.images[0].get_array(), weights)
    assert [label.get_text() for label in axes.get_yticklabels()] == ["a", "b"]
    assert axes.get_yticks().tolist() == [0.5, 2]

    plot_similarity(np.array([[1, -0.25], [-0.25, 1]]), ["a", "b"], "x.png", "alike")
    assert texts(drawn[-1].axes[0]) == ["1.00", "-0.25", "-0.25", "1.00"]

    maps = {"rollout": np.arange(8.0).reshape(2, 2, 2)}
    plot_attention_maps(np.random.default_rng(0).random((2, 3, 6, 6)), maps, ["a", "b"], "x.png")
    figure = drawn[-1]
    assert np.array_equal(figure.axes[3].images[1].get_array(), maps["rollout"][1])
    assert figure.axes[3].images[1].get_extent() == figure.axes[3].images[0].get_extent()


def test_an_explanation_shows_face_maps_and_scores_and_weights_of_features_if_there_are_any(drawn):
    maps, scores = {"rollout": np.arange(4.0).reshape(2, 2)}, {"happy": 0.75, "sad": 0.25}
    for features in (None, np.array([0.0, 0.5, 1.0])):
        plot_explanation(np.random.default_rng(0).random((1, 6, 6)), maps, scores, "x.png", "a face", features)
        face, over, chart, *strip = drawn[-1].axes
        assert [axes.get_title() for axes in (face, over)] == ["face", "rollout"]
        assert [len(axes.images) for axes in (face, over)] == [1, 2]
        assert np.array_equal(over.images[1].get_array(), maps["rollout"])
        assert over.images[1].get_extent() == face.images[0].get_extent()
        assert [bar.get_width() for bar in chart.patches] == [0.75, 0.25]
        assert [axes.images[0].get_array().tolist() for axes in strip] == ([] if features is None else [[[0, 0.5, 1]]])


def test_pictures_go_into_files_that_are_open_or_named(tmp_path):
    file, path = io.BytesIO(), tmp_path / "x.png"
    for place in (file, path):
        plot_robustness({"blur": [1.0, 0.5]}, place, "faces")
    for written in (file.getvalue(), path.read_bytes()):
        assert written.startswith(b"\x89PNG")
