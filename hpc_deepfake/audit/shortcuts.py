"""How well facts unrelated to tampering predict the label."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from hpc_deepfake import metrics
from preprocessing.split import by_group

FOLDS = 5
ALL = "all together"
_FEW = 20  # up to this number of distinct values a number isn't binned
_BINS = 10  # quantile bins otherwise
_PRIOR = 4.0  # pseudo-observations at the overall rate, added to each value's own pictures
_COMMON = 5  # pictures that a value needs for a weight of its own in the regression
_VALUES = 64  # maximum number of weights of a fact
_PENALTY, _STEPS = 1.0, 200  # of the regression


class Coded(NamedTuple):
    """A fact as whole numbers.

    Attributes:
        codes: int64 (N), indices into ``names``.
        names: the values as text.
    """

    codes: np.ndarray
    names: list[str]


class Finding(NamedTuple):
    """How well a fact predicts labels that it wasn't fitted on; None where undefined.

    Attributes:
        fact: its name, or ``ALL``.
        auc: area under the ROC curve, mean over the folds.
        accuracy: over all folds.
        majority: accuracy of always predicting the more frequent class.
        values: number of distinct values; for ``ALL``, number of facts.
    """

    fact: str
    auc: float | None
    accuracy: float | None
    majority: float | None
    values: int


def code(values: np.ndarray) -> Coded:
    """Encode the values of a fact, text or float (N).

    Each text and, if there are few, each number has a code of its own; other numbers are binned by
    quantiles. Labels play no part, so this may be done over all pictures at once.
    """
    if values.dtype.kind != "f":
        texts, codes = np.unique(values, return_inverse=True)
        return Coded(codes, texts.tolist())
    present = values[~np.isnan(values)]
    edges = np.unique(present)
    if len(edges) <= _FEW:
        names = [_number(edge) for edge in edges]
    else:
        edges = np.unique(np.quantile(present, np.linspace(0, 1, _BINS + 1), method="lower"))[1:]
        names = [f"up to {_number(edges[0])}"] + [
            f"{_number(low)} to {_number(high)}" for low, high in pairwise(edges)]
    codes = np.searchsorted(edges, values)  # NaN comes after the last
    return Coded(codes, [*names, "none"])


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def folds(labels: np.ndarray, groups: np.ndarray, seed: int) -> np.ndarray:
    """Fold of each picture, uint8 (N): groups stay together, both classes are spread evenly."""
    _, numbers = np.unique(groups, return_inverse=True)
    count = min(FOLDS, len(np.unique(numbers)))
    return by_group(labels, numbers, (1 / count,) * count, seed)


def chance(labels: np.ndarray) -> float | None:
    """Two standard errors of the AUC of an uninformative fact (Hanley & McNeil 1982); None with
    one class only."""
    tampered, authentic = int((labels == 1).sum()), int((labels == 0).sum())
    pairs = tampered * authentic
    return 2 * float(np.sqrt((len(labels) + 1) / (12 * pairs))) if pairs else None


def telling(fact: Coded, labels: np.ndarray, most: int = 3) -> list[tuple[str, int, float]]:
    """The most informative values of a fact: each with its number of pictures and the share
    tampered.

    At most ``most``, and none with less than a tenth of the first one's weight.
    """
    seen = np.bincount(fact.codes, minlength=len(fact.names))
    hits = np.bincount(fact.codes, labels, len(fact.names))
    weight = np.abs(hits - labels.mean() * seen)
    chosen = [value for value in np.argsort(-weight, kind="stable")[:most]
              if weight[value] > weight.max() / 10]
    return [(fact.names[value], int(seen[value]), float(hits[value] / seen[value]))
            for value in chosen]


def measure(facts: Mapping[str, Coded], labels: np.ndarray, groups: np.ndarray,
            seed: int = 0) -> list[Finding]:
    """Cross-validate each fact, and all facts together, over whole groups.

    The AUC is the mean of the folds' (over all folds at once an uninformative fact would come
    out below 0.5: where a class is rarer in a fold, it is more frequent in the others).

    Args:
        facts: by name, of the same N pictures.
        labels: uint8 (N).
        groups: int (N).
        seed: of the folds.
    """
    fold = folds(labels, groups, seed)
    sets = {name: [fact] for name, fact in facts.items()}
    if len(facts) > 1:
        sets[ALL] = list(facts.values())
    return [_cross_validate(name, members, labels, fold) for name, members in sets.items()]


def _cross_validate(name: str, facts: Sequence[Coded], labels: np.ndarray,
                    fold: np.ndarray) -> Finding:
    probabilities = np.full(len(labels), np.nan)
    aucs, weights = [], []
    kinds = _kinds(facts)
    for number in np.unique(fold):
        test = fold == number
        if set(labels[~test].tolist()) != {0, 1}:
            continue
        probabilities[test] = _predict(kinds, labels, ~test)[test]
        auc = metrics.auc(probabilities[test], labels[test])
        if auc is not None:
            aucs.append(auc)
            weights.append(float((labels[test] == 0).sum()) * float((labels[test] == 1).sum()))
    predicted = ~np.isnan(probabilities)
    figures = metrics.evaluate(probabilities[predicted], labels[predicted])
    return Finding(name, float(np.average(aucs, weights=weights)) if aucs else None,
                   figures["accuracy"], figures["majority"],
                   len(np.unique(facts[0].codes)) if len(facts) == 1 else len(facts))


def predict(facts: Sequence[Coded], labels: np.ndarray, fitted: np.ndarray) -> np.ndarray:
    """Probability of "tampered" of all N pictures, fitted on some of them.

    One fact: the smoothed rate of tampered pictures with the same value. Several: logistic
    regression over all their values.

    Args:
        facts: at least one.
        labels: uint8 (N).
        fitted: which labels to use, bool (N).

    Returns:
        float64 (N).
    """
    return _predict(_kinds(facts), labels, fitted)


class _Kinds(NamedTuple):
    """Pictures by what their facts are together: of a million there are far fewer kinds.

    Attributes:
        facts: of each of K kinds.
        of: kind of each picture, int64 (N).
    """

    facts: list[Coded]
    of: np.ndarray


def _kinds(facts: Sequence[Coded]) -> _Kinds:
    first, of = np.unique(facts[0].codes, return_index=True, return_inverse=True)[1:]
    for fact in facts[1:]:
        first, of = np.unique(of * len(fact.names) + fact.codes, return_index=True,
                              return_inverse=True)[1:]
    return _Kinds([Coded(fact.codes[first], fact.names) for fact in facts], of)


def _predict(kinds: _Kinds, labels: np.ndarray, fitted: np.ndarray) -> np.ndarray:
    """``predict`` for pictures by kind."""
    count, of_fitted = len(kinds.facts[0].codes), kinds.of[fitted]
    seen = np.bincount(of_fitted, minlength=count).astype(np.float64)
    hits = np.bincount(of_fitted, labels[fitted], count)
    if len(kinds.facts) == 1:
        rate = (hits + _PRIOR * hits.sum() / seen.sum()) / (seen + _PRIOR)
    else:
        rate = _logistic(_indicators(kinds.facts, seen), seen, hits)
    return np.asarray(rate[kinds.of])


def _indicators(facts: Sequence[Coded], seen: np.ndarray) -> np.ndarray:
    """A column of zeros and ones for each frequent value, float64 (K, D); the first is all ones.
    ``seen``: pictures of each kind, float64 (K)."""
    parts = [np.ones((len(seen), 1))]
    for fact in facts:
        of_value = np.bincount(fact.codes, seen, len(fact.names))
        frequent = np.argsort(-of_value, kind="stable")[:_VALUES]
        parts.append((fact.codes[:, None] == frequent[of_value[frequent] >= _COMMON]) * 1.0)
    return np.concatenate(parts, 1)


def _logistic(inputs: np.ndarray, seen: np.ndarray, hits: np.ndarray) -> np.ndarray:
    """Logistic regression with a quadratic penalty: the rate of tampered pictures of each kind,
    float64 (K), from the pictures and the tampered ones of each, float64 (K).

    Newton steps with the curvature's upper bound XᵀX/4 in place of the curvature never overshoot
    (Böhning & Lindsay, "Monotonicity of quadratic-approximation algorithms", 1988).
    """
    fitted = seen > 0
    x, hits, seen = inputs[fitted], hits[fitted], seen[fitted]
    penalty = np.full(x.shape[1], _PENALTY)
    penalty[0] = 1e-6  # of the intercept: as good as none, but the matrix must be invertible
    step = np.linalg.inv(x.T * seen @ x / 4 + np.diag(penalty))
    weights = np.zeros(x.shape[1])
    for _ in range(_STEPS):
        weights += step @ (x.T @ (hits - seen * _sigmoid(x @ weights)) - penalty * weights)
    return _sigmoid(inputs @ weights)


def _sigmoid(values: np.ndarray) -> np.ndarray:
    return 0.5 * (1 + np.tanh(values / 2))
