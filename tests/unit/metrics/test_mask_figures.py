"""Figures of maps against masks: against scikit-learn on the same maps, picture by picture."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

from hpc_deepfake import metrics
from hpc_deepfake.metrics import masks

APART = Path(sys.prefix) / "share" / "hpc_deepfake"  # where env/setup.sh puts it
with pytest.MonkeyPatch.context() as patched:
    patched.setattr(sys, "path", [*sys.path, str(APART)])
    sklearn = pytest.importorskip("sklearn.metrics")

UNKNOWN = 255
SIZE = 12
STEP = 20  # between levels
AT = 100  # the threshold


@pytest.fixture(scope="module")
def pictures() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Maps, masks and labels: tampered ones of all kinds of maps, authentic ones, and one without
    a mask."""
    random = np.random.default_rng(3)
    truth = (random.random((9, SIZE, SIZE)) < 0.3).astype(np.uint8)
    maps = np.clip(random.normal(90 + 60 * truth, 60), 0, 255).astype(np.uint8)
    maps = maps // STEP * STEP  # fewer thresholds to try
    maps[1] = 240 - maps[1]  # worse than chance
    maps[3] = 255  # everything is called changed
    maps[4] = 0  # nothing
    truth[5][:4] = UNKNOWN
    truth[6:8] = 0
    truth[8] = UNKNOWN
    return maps, truth, np.array([1] * 6 + [0, 0, 1])


def by_sklearn(levels: np.ndarray, mask: np.ndarray) -> dict[str, float]:
    """Each figure from the pixels themselves; best ones by trying all thresholds."""
    known = mask != UNKNOWN
    y, level = mask[known], levels[known].astype(int)
    scores = {"f1": lambda called: sklearn.f1_score(y, called, zero_division=0),
              "iou": lambda called: sklearn.jaccard_score(y, called, zero_division=0),
              "mcc": lambda called: sklearn.matthews_corrcoef(y, called)}
    auc, ap = sklearn.roc_auc_score(y, level), sklearn.average_precision_score(y, level)
    found = {"auc": auc, "ap": ap, "auc_permuted": max(auc, sklearn.roc_auc_score(y, 255 - level)),
             "ap_permuted": max(ap, sklearn.average_precision_score(y, 255 - level))}
    for name, score in scores.items():
        each = [(score(level >= at), score(level < at)) for at in (*range(0, 256, STEP), 255, AT)]
        found[name], found[f"{name}_permuted"] = each[-1][0], max(each[-1])
        found[f"{name}_best"] = max(upright for upright, _ in each)
        found[f"{name}_best_permuted"] = max(map(max, each))
    return found


def test_figures_per_picture_and_pooled_are_those_of_scikit_learn(pictures):
    maps, truth, labels = pictures
    found = masks.figures(masks.histograms(maps, truth), labels, AT)
    every = [by_sklearn(maps[i], truth[i]) for i in range(6)]
    assert found["per_picture"] == pytest.approx(
        {name: np.mean([own[name] for own in every]) for name in every[0]}, abs=1e-12)
    assert found["pooled"] == pytest.approx(by_sklearn(maps, truth), abs=1e-12)
    assert (found["pictures"], found["without"], found["authentic"]) == (6, 0, 2)
    assert masks.figures(masks.histograms(maps, truth), None, AT) == found  # the last: unknown
    assert found["false_alarm_area"] == pytest.approx((maps[6:8] >= AT).mean())


def test_histograms_count_known_pixels_only(pictures):
    maps, truth, _ = pictures
    counts = masks.histograms(maps, truth)
    assert counts.dtype == np.int32 and counts.shape == (9, 2, 256)
    assert counts[5].sum() == 8 * SIZE and not counts[8].any()
    for value in (0, 1):
        assert (counts[5, value] == np.bincount(maps[5][truth[5] == value], minlength=256)).all()


def test_the_auc_is_that_of_the_metrics_of_pictures(pictures):
    """With all levels there are, and the last bins of a histogram."""
    truth = pictures[1][:1]
    maps = np.random.default_rng(0).integers(0, 256, truth.shape, np.uint8)
    maps[0, 0] = 255
    figures = masks.figures(masks.histograms(maps, truth))
    assert figures["per_picture"]["auc"] == pytest.approx(
        metrics.auc(maps.ravel(), truth.ravel()), abs=1e-12)


def test_best_threshold_has_the_best_pooled_f1(pictures):
    maps, truth, _ = pictures
    counts = masks.histograms(maps[[0, 5]], truth[[0, 5]])
    best = masks.figures(counts)["threshold_best"]
    found = masks.figures(counts, threshold=best)["pooled"]
    assert found["f1"] == found["f1_best"] > masks.figures(counts, threshold=220)["pooled"]["f1"]
    ramp = np.array([[[40, 40, 200, 200]]], np.uint8)
    mask = np.array([[[0, 0, 1, 1]]], np.uint8)
    assert masks.best_threshold(masks.histograms(ramp, mask)) == masks.HALF  # of 41 to 200
    assert masks.best_threshold(masks.histograms(ramp // 2, mask)) == 100  # of 21 to 100
    assert masks.best_threshold(masks.histograms(ramp, mask * 0)) == masks.HALF


def test_pictures_of_one_kind_of_pixels_count_pooled_only(pictures):
    """A mask that covers all of a tampered picture has no AUC; an empty one of a tampered picture
    is no authentic picture."""
    maps, truth, _ = pictures
    counts = masks.histograms(maps[:3], np.stack([truth[0], truth[0] | 1, truth[0] * 0]))
    found = masks.figures(counts, np.array([1, 1, 1]), AT)
    assert (found["pictures"], found["without"], found["authentic"]) == (1, 2, 0)
    assert found["per_picture"] == masks.figures(counts[:1], None, AT)["per_picture"]
    assert found["pooled"]["f1"] != masks.figures(counts[:1], None, AT)["pooled"]["f1"]
    assert found["false_alarm_area"] is None


def test_figures_without_changed_pixels_are_undefined(pictures):
    maps, truth, labels = pictures
    for rows in (slice(6, 8), slice(8, 9), slice(0, 0)):
        counts = masks.histograms(maps[rows], truth[rows])
        found = masks.figures(counts, labels[rows])
        assert set(found["per_picture"].values()) == set(found["pooled"].values()) == {None}
        ends = masks.bootstrap(counts, np.arange(len(counts)), labels[rows])
        assert set(ends["per_picture"].values()) == set(ends["pooled"].values()) == {None}


@pytest.mark.parametrize("part", ["per_picture", "pooled"])
def test_intervals_are_those_of_repeated_pictures(pictures, part):
    """Weights give the same intervals as drawing the pictures themselves, group by group."""
    maps, truth, labels = pictures
    counts, groups = masks.histograms(maps, truth), np.array([4, 4, 7, 7, 1, 0, 0, 9, 9])
    found = masks.bootstrap(counts, groups, labels, AT, resamples=30, seed=5)
    _, group = np.unique(groups, return_inverse=True)
    random, samples, areas = np.random.default_rng(5), [], []
    for _ in range(30):
        rows = np.repeat(np.arange(9), random.multinomial(5, np.full(5, 0.2))[group])
        own = masks.figures(counts[rows], labels[rows], AT)
        samples.append(own[part])
        areas.append(np.nan if own["false_alarm_area"] is None else own["false_alarm_area"])
    for name, ends in found[part].items():
        values = np.array([np.nan if own[name] is None else own[name] for own in samples])
        assert ends == pytest.approx(tuple(np.nanpercentile(values, (2.5, 97.5)))), name
    assert found["authentic"]["false_alarm_area"] == pytest.approx(
        tuple(np.nanpercentile(areas, (2.5, 97.5))))


def test_curves_meet_scikit_learns(pictures):
    maps, truth, _ = pictures
    known = truth != UNKNOWN
    counts = masks.histograms(maps, truth)
    false, true = masks.roc(counts)
    others = sklearn.roc_curve(truth[known], maps[known], drop_intermediate=False)
    assert {*zip(others[0], others[1], strict=True)} == {*zip(false, true, strict=True)}
    recall, precision = masks.precision_recall(counts)
    expected = sklearn.precision_recall_curve(truth[known], maps[known])
    assert {*zip(recall, precision, strict=True)} == {*zip(expected[1][:-1], expected[0][:-1],
                                                           strict=True)}
