"""Metrics against values computed by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest

from hpc_deepfake import metrics

# three tampered rows, of which two are predicted so, and five authentic, of which one is
LABELS = np.array([1, 0, 0, 1, 0, 0, 1, 0], np.uint8)
SCORES = np.array([0.9, 0.1, 0.8, 0.5, 0.2, 0.3, 0.4, 0.4], np.float32)


def test_every_figure_by_hand():
    figures = metrics.evaluate(SCORES, LABELS)
    assert {name: figures[name] for name in ("tp", "fp", "tn", "fn", "rows")} == {
        "tp": 2, "fp": 1, "tn": 4, "fn": 1, "rows": 8}
    own = [0.9, 0.9, 0.2, 0.5, 0.8, 0.7, 0.4, 0.6]  # probability of the row's own class
    # pairs (tampered, authentic) in the right order: 0.9 beats 5, 0.5 beats 4, 0.4 beats 3 and
    # ties with one
    expected = {"loss": -sum(math.log(p) for p in own) / 8, "accuracy": 6 / 8,
            "balanced_accuracy": (2 / 3 + 4 / 5) / 2, "precision": 2 / 3, "recall": 2 / 3,
            "f1": 2 / 3, "auc": (5 + 4 + 3.5) / 15, "majority": 5 / 8}
    for name, value in expected.items():
        assert figures[name] == pytest.approx(value, rel=1e-6), name
    assert set(figures) == {*expected, "tp", "fp", "tn", "fn", "rows"}


def test_precision_recall_and_f1_differ():
    """Two of two tampered pictures detected, with three false alarms among four."""
    figures = metrics.evaluate(np.array([0.9, 0.8, 0.7, 0.7, 0.6, 0.1]),
                               np.array([1, 1, 0, 0, 0, 0]))
    assert (figures["recall"], figures["precision"]) == (1.0, 2 / 5)
    assert figures["f1"] == pytest.approx(2 * 0.4 / 1.4)
    assert figures["balanced_accuracy"] == (1 + 1 / 4) / 2
    assert figures["majority"] == 4 / 6


def test_threshold():
    """At the threshold or above, a picture is predicted tampered."""
    figures = metrics.evaluate(SCORES, LABELS, 0.4)
    assert (figures["tp"], figures["fp"], figures["tn"], figures["fn"]) == (3, 2, 3, 0)
    assert metrics.evaluate(SCORES, LABELS, 1.1)["tp"] == 0
    assert metrics.evaluate(SCORES, LABELS, 0.4)["auc"] == metrics.evaluate(SCORES, LABELS)["auc"]


@pytest.mark.parametrize("values", [2, 5, 1000])
def test_auc_with_ties_is_the_count_of_pairs(values):
    """Against every pair of a positive and a negative, half for a tie; many ties and none."""
    random = np.random.default_rng(values)
    labels = random.integers(0, 2, 120)
    scores = random.integers(0, values, 120) / values
    positives, negatives = scores[labels == 1], scores[labels == 0]
    wins = sum((p > n) + (p == n) / 2 for p in positives for n in negatives)
    expected = wins / (len(positives) * len(negatives))
    assert 0.3 < expected < 0.7
    assert metrics.auc(scores, labels) == pytest.approx(expected, rel=1e-12)
    assert metrics.auc(-scores, labels) == pytest.approx(1 - expected, rel=1e-12)


def test_auc_at_its_ends():
    labels = np.array([0, 0, 1, 1], np.uint8)
    assert metrics.auc(np.array([0.1, 0.2, 0.3, 0.4]), labels) == 1.0
    assert metrics.auc(np.array([0.4, 0.3, 0.2, 0.1]), labels) == 0.0
    assert metrics.auc(np.full(4, 0.5), labels) == 0.5


@pytest.mark.parametrize("label", [0, 1])
def test_one_class_only(label):
    """No AUC and no balanced accuracy; accuracy, loss and majority stay."""
    figures = metrics.evaluate(np.array([0.25, 0.75]), np.full(2, label, np.uint8))
    assert figures["auc"] is None and figures["balanced_accuracy"] is None
    assert (figures["accuracy"], figures["majority"], figures["rows"]) == (0.5, 1.0, 2)
    assert figures["loss"] == pytest.approx(-(math.log(0.25) + math.log(0.75)) / 2)
    assert figures["recall"] == (0.5 if label else None)


def test_no_rows():
    """Every figure None, every count 0, and the table can still be printed."""
    figures = metrics.evaluate(np.empty(0), np.empty(0, np.uint8))
    assert {name for name, value in figures.items() if value is None} == {
        "loss", "accuracy", "balanced_accuracy", "precision", "recall", "f1", "auc", "majority"}
    assert {figures[name] for name in ("tp", "fp", "tn", "fn", "rows")} == {0}
    assert "–" in metrics.table(figures)


def test_nothing_predicted_tampered():
    """Precision isn't defined; recall and F1 are 0."""
    figures = metrics.evaluate(np.array([0.1, 0.2]), np.array([0, 1]))
    assert (figures["precision"], figures["recall"], figures["f1"]) == (None, 0.0, 0.0)


def test_loss_is_finite_where_the_network_is_certain_and_wrong():
    """Probabilities are clipped at 1e-7, as Keras does; certain and correct has no loss."""
    assert metrics.evaluate(np.array([1.0, 0.0]), np.array([0, 1]))["loss"] == \
        pytest.approx(-math.log(1e-7))
    assert metrics.evaluate(np.array([1.0, 0.0]), np.array([1, 0]))["loss"] == 0
    assert metrics.evaluate(np.float32([1e-8]), np.array([1]))["loss"] == \
        pytest.approx(-math.log(1e-7))


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_a_probability_that_is_not_finite_leaves_nothing_defined(bad):
    """One of a diverged network is enough: sorted last, NaN could even give an AUC of 1. What does
    not depend on the probabilities stays, and the table can still be printed."""
    scores, labels = np.array([0.2, 0.3, bad]), np.array([0, 0, 1])
    figures = metrics.evaluate(scores, labels)
    assert list(figures) == list(metrics.evaluate(SCORES, LABELS))
    assert {name: value for name, value in figures.items() if value is not None} == {
        "rows": 3, "majority": 2 / 3}
    assert metrics.auc(scores, labels) is None
    assert metrics.table(figures).count("–") == 11


def test_figures_are_plain_numbers():
    """JSON can hold them."""
    assert {type(value) for value in metrics.evaluate(SCORES, LABELS).values()} == {float, int}


def test_table_shows_accuracy_beside_the_majority():
    text = metrics.table(metrics.evaluate(SCORES, LABELS))
    first = text.splitlines()[0]
    assert "75.0%" in first and "majority class 62.5%" in first
    assert "0.833" in text  # AUC
    assert text.splitlines()[-2].split()[-2:] == ["4", "1"]  # authentic rows
    assert text.splitlines()[-1].split()[-2:] == ["1", "2"]


def test_table_shows_intervals_where_they_are_given():
    """Of accuracy and AUC; an undefined one is left out."""
    figures = metrics.evaluate(SCORES, LABELS)
    text = metrics.table(figures, {"accuracy": (0.5, 0.875), "auc": None})
    first, *_, auc = text.splitlines()[:4]
    assert "95%: 50.0% to 87.5%; majority class 62.5%" in first
    assert "95%" not in auc and "0.5 is chance" in auc


def test_undecided_pictures_by_hand():
    """From 0.3 to below 0.6: neither right nor wrong; loss and AUC are of all pictures."""
    p, y = [0.1, 0.4, 0.7, 0.3, 0.6, 0.9], [0, 0, 0, 1, 1, 1]
    figures = metrics.evaluate(p, y, 0.6, 0.3)
    assert [figures[name] for name in ("tn", "fp", "fn", "tp", "rows")] == [1, 1, 0, 2, 6]
    assert (figures["accuracy"], figures["recall"], figures["majority"]) == (0.75, 1, 0.5)
    whole = metrics.evaluate(p, y, 0.6)
    assert all(figures[name] == whole[name] for name in ("loss", "auc"))
    assert metrics.evaluate(p, y, 1, 0)["accuracy"] is None
