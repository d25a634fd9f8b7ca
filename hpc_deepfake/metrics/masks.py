"""Where a picture was changed: figures of maps against masks, as the field defines them.

Maps have 256 levels: probabilities are rounded to steps of 1/255 first, and every figure is
computed from the number of changed and unchanged pixels of each level. On the same rounded maps
scikit-learn gives the same numbers. A pixel is called changed from the threshold on, a level from 0
to 255.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from hpc_deepfake.metrics.intervals import RESAMPLES, ends

LEVELS = 256
HALF = 128  # lowest level of a probability of one half or more
FIGURES = ("auc", "ap", "f1", "f1_best", "iou", "iou_best", "mcc", "mcc_best")
PERMUTED = tuple(f"{name}_permuted" for name in FIGURES)
_CHUNK = 50  # resamples at a time, to bound the memory


def histograms(maps: np.ndarray, masks: np.ndarray) -> np.ndarray:
    """Pixels of each picture by what the mask says and by the level of the map.

    Args:
        maps: uint8 (n, S, S), 255 for a pixel that was surely changed.
        masks: uint8 (n, S, S), 0 unchanged, 1 changed; other pixels are unknown, and left out.

    Returns:
        int32 (n, 2, 256): unchanged and changed pixels of each level.
    """
    counts = np.zeros((len(maps), 2, LEVELS), np.int32)
    for own, levels, mask in zip(counts, maps, masks, strict=True):
        keys = np.minimum(mask, 2).astype(np.uint16) << 8 | levels
        own[:] = np.bincount(keys.ravel(), minlength=3 * LEVELS)[:2 * LEVELS].reshape(2, LEVELS)
    return counts


def figures(histograms: np.ndarray, labels: np.ndarray | None = None,
            threshold: int = HALF) -> dict[str, Any]:
    """All figures of maps.

    Each of ``FIGURES`` is there per picture (the mean over tampered pictures whose mask has changed
    and unchanged pixels) and pooled (over all known pixels of all pictures, authentic ones
    included):

    - ``auc``: area under the ROC curve over pixels, as ``metrics.auc``.
    - ``ap``: average precision, the sum over thresholds of precision times the recall gained (the
      mAP of Huh et al. 2018, "Fighting fake news", is its mean over pictures).
    - ``f1``: 2·TP / (2·TP + FP + FN) at the threshold (at a fixed one: Chen et al. 2021, MVSS-Net;
      Ma et al. 2024, IMDL-BenCo).
    - ``iou``: TP / (TP + FP + FN) at the threshold (Jaccard 1912).
    - ``mcc``: (TP·TN - FP·FN) / √((TP + FP)(TP + FN)(TN + FP)(TN + FN)) at the threshold (Matthews
      1975), 0 where all pixels or none are called changed.
    - ``f1_best``, ``iou_best``, ``mcc_best``: at the threshold that is best, of each picture for
      itself, or pooled of all (Salloum et al. 2018; Guillaro et al. 2023, TruFor, "best
      threshold"). They need the mask, so no program reaches them on pictures without one.
    - ``…_permuted``: the better of the map and its inverse, of each picture for itself, or pooled
      of all (Huh et al. 2018; Kwon et al. 2022, CAT-Net; also TruFor's programs). For methods that
      tell two regions apart, but not which of them was changed; too high for all others.

    Args:
        histograms: as of ``histograms``; a picture without a mask has no pixels.
        labels: 0 authentic, 1 tampered (n); None: pictures without a changed pixel are authentic.
        threshold: lowest level of a pixel that is called changed.

    Returns:
        ``threshold``; ``pictures``, the number of tampered pictures with both kinds of pixels;
        ``without``, of those without, which count pooled only; ``authentic``, the number of
        authentic ones; ``per_picture`` and ``pooled``, with ``FIGURES`` and ``PERMUTED``, None
        where they aren't defined; ``threshold_best``, the best of ``f1`` pooled;
        ``false_alarm_area``, the mean share of pixels called changed on authentic pictures, None
        without any.
    """
    tampered, authentic = _kinds(histograms, labels)
    chosen = tampered & _both(histograms)
    every = _measures(histograms[chosen], threshold)
    pooled = _measures(_sum(histograms)[None], threshold)
    area = _area(histograms[authentic], threshold)
    defined = bool(_both(_sum(histograms)[None])[0])
    return {
        "threshold": threshold, "pictures": int(chosen.sum()),
        "without": int((tampered & ~chosen & (histograms.sum((1, 2)) > 0)).sum()),
        "authentic": len(area),
        "per_picture": {name: float(values.mean()) if len(values) else None
                        for name, values in every.items()},
        "pooled": {name: float(values[0]) if defined else None for name, values in pooled.items()},
        "threshold_best": best_threshold(histograms),
        "false_alarm_area": float(area.mean()) if len(area) else None}


def best_threshold(histograms: np.ndarray) -> int:
    """The threshold, 1 to 255, with the best F1 over all pixels of the pictures. Of equally good
    ones the one nearest to ``HALF``, the lower one of two; ``HALF`` without changed pixels.

    Args:
        histograms: as of ``histograms``.
    """
    tp, fp, positives, _ = _counts(_sum(histograms)[None])
    f1 = _ratio(2 * tp, tp + fp + positives)[0, 1:]
    best = 1 + np.flatnonzero(f1 == f1.max())
    return int(best[np.argmin(np.abs(best - HALF))])


def bootstrap(histograms: np.ndarray, groups: np.ndarray, labels: np.ndarray | None = None,
              threshold: int = HALF, resamples: int = RESAMPLES,
              seed: int = 0) -> dict[str, dict[str, tuple[float, float] | None]]:
    """95% percentile intervals of the figures, by draws of whole groups as ``intervals.bootstrap``.

    Per picture, the draws weigh each picture's figure; pooled, its pixels.

    Args:
        histograms: as of ``histograms``.
        groups: group of each picture, int (n).
        labels: as in ``figures``.
        threshold: as in ``figures``.
        resamples: number of bootstrap samples.
        seed: of the samples.

    Returns:
        Lower and upper end of each figure ``per_picture`` and ``pooled``, and of
        ``false_alarm_area`` under ``authentic``; None with fewer than two groups, or where it is
        not defined in more than half of the samples.
    """
    tampered, authentic = _kinds(histograms, labels)
    _, group = np.unique(groups, return_inverse=True)
    count = int(group.max()) + 1 if len(group) else 0
    chosen = tampered & _both(histograms)
    every = _measures(histograms[chosen], threshold)
    parts = [("per_picture", group[chosen], every),
             ("authentic", group[authentic],
              {"false_alarm_area": _area(histograms[authentic], threshold)})]
    pixels = np.zeros((count, 2 * LEVELS))
    np.add.at(pixels, group, histograms.reshape(-1, 2 * LEVELS))
    samples: dict[str, dict[str, list[np.ndarray]]] = {
        "per_picture": {name: [] for name in every}, "authentic": {"false_alarm_area": []},
        "pooled": {name: [] for name in every}}
    random = np.random.default_rng(seed)
    for begin in range(0, resamples if count > 1 else 0, _CHUNK):
        drawn = random.multinomial(count, np.full(count, 1 / count),
                                   min(_CHUNK, resamples - begin)).astype(np.float64)
        for part, which, values in parts:
            sizes = drawn @ np.bincount(which, minlength=count)
            for name, own in values.items():
                # summed by NumPy: BLAS may add in another order on another number of threads
                sums = (drawn * np.bincount(which, own, count)).sum(1)
                with np.errstate(invalid="ignore"):
                    samples[part][name].append(sums / sizes)
        whole = (drawn @ pixels).reshape(-1, 2, LEVELS)  # integers: exact in any order
        defined = _both(whole)
        for name, own in _measures(whole, threshold).items():
            samples["pooled"][name].append(np.where(defined, own, np.nan))
    return {part: {name: ends(np.concatenate(values)) if values else None
                   for name, values in own.items()} for part, own in samples.items()}


def roc(histograms: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The ROC curve over all pixels of the pictures: false and true positive rate, each float64
    (257), from (0, 0) to (1, 1). The rate of a kind without pixels is NaN."""
    tp, fp, positives, negatives = (values[0] for values in _counts(_sum(histograms)[None]))
    with np.errstate(invalid="ignore"):
        return (np.append(0.0, fp[::-1]) / negatives, np.append(0.0, tp[::-1]) / positives)


def precision_recall(histograms: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Recall and precision over all pixels of the pictures, float64, by falling threshold, for
    those levels from which on there are pixels. Recall is NaN without changed pixels."""
    tp, fp, positives, _ = (values[0] for values in _counts(_sum(histograms)[None]))
    there = (tp + fp > 0)[::-1]
    tp, fp = tp[::-1][there], fp[::-1][there]
    with np.errstate(invalid="ignore"):
        return tp / positives, tp / (tp + fp)


def _kinds(histograms: np.ndarray, labels: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
    """Which pictures are tampered and which authentic, bool (n) each; those without a known pixel
    are never authentic."""
    pixels = histograms.sum(2, dtype=np.int64)
    known = pixels.sum(1) > 0
    tampered = pixels[:, 1] > 0 if labels is None else np.asarray(labels).astype(bool)
    return tampered, known & ~tampered


def _both(histograms: np.ndarray) -> np.ndarray:
    """Which pictures have changed and unchanged pixels, bool (n)."""
    return np.asarray((histograms.sum(2) > 0).all(1))


def _sum(histograms: np.ndarray) -> np.ndarray:
    """That of all pictures together, int64 (2, 256)."""
    return np.asarray(histograms.sum(0, dtype=np.int64))


def _area(histograms: np.ndarray, threshold: int) -> np.ndarray:
    """Share of each picture's known pixels that are called changed, float64 (n)."""
    return np.asarray(histograms[..., threshold:].sum((1, 2)) / histograms.sum((1, 2)))


def _counts(histograms: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """True and false positives at each threshold, float64 (n, 256), and all changed and unchanged
    pixels, float64 (n, 1)."""
    above = np.cumsum(histograms[..., ::-1], -1, np.float64)[..., ::-1]
    return above[:, 1], above[:, 0], above[:, 1, :1], above[:, 0, :1]


def _measures(histograms: np.ndarray, threshold: int) -> dict[str, np.ndarray]:
    """``FIGURES`` and ``PERMUTED`` of each picture with both kinds of pixels, float64 (n)."""
    tp, fp, positives, negatives = _counts(histograms)
    upright = _at_thresholds(tp, fp, positives, negatives)
    # inverted, a pixel is changed below the threshold: where the map's says it isn't
    inverse = _at_thresholds(positives - tp, negatives - fp, positives, negatives)
    auc = _auc(histograms, positives, negatives)
    ap, ap_inverse = (_average_precision(counts) for counts in (histograms, histograms[..., ::-1]))
    found = {"auc": auc, "ap": ap}
    permuted = {"auc": np.maximum(auc, 1 - auc), "ap": np.maximum(ap, ap_inverse)}
    for name, values in upright.items():
        other = inverse[name]
        found[name], found[f"{name}_best"] = values[:, threshold], values.max(1)
        permuted[name] = np.maximum(values, other)[:, threshold]
        permuted[f"{name}_best"] = np.maximum(values, other).max(1)
    return {name: found[name] for name in FIGURES} | {
        f"{name}_permuted": permuted[name] for name in FIGURES}


def _at_thresholds(tp: np.ndarray, fp: np.ndarray, positives: np.ndarray,
                   negatives: np.ndarray) -> dict[str, np.ndarray]:
    """F1, IoU and MCC at each threshold, float64 (n, 256)."""
    called = tp + fp
    # √ of each factor: the product of four numbers of pixels has too many digits
    spread = np.sqrt(called) * np.sqrt(positives) * np.sqrt(negatives) \
        * np.sqrt(positives + negatives - called)
    return {"f1": _ratio(2 * tp, called + positives), "iou": _ratio(tp, positives + fp),
            "mcc": _ratio(tp * negatives - fp * positives, spread)}


def _ratio(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    return np.divide(part, whole, out=np.zeros(np.broadcast(part, whole).shape), where=whole != 0)


def _auc(histograms: np.ndarray, positives: np.ndarray, negatives: np.ndarray) -> np.ndarray:
    """As ``metrics.auc`` of each picture: pairs in the right order, and half of the ties."""
    unchanged = histograms[:, 0].astype(np.float64)
    below = np.cumsum(unchanged, 1) - unchanged / 2
    return _ratio((histograms[:, 1] * below).sum(1), (positives * negatives)[:, 0])


def _average_precision(histograms: np.ndarray) -> np.ndarray:
    tp, fp, positives, _ = _counts(histograms)
    return _ratio((histograms[:, 1] * _ratio(tp, tp + fp)).sum(1), positives[:, 0])
