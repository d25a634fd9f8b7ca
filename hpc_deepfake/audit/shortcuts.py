"""How well facts that have nothing to do with tampering predict the label."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from hpc_deepfake import metrics
from preprocessing.split import by_group

FOLDS = 5
ALL = "all together"
_FEW, _BINS = 20, 10  # values of a number that stay apart; else bins of about as many pictures
_PRIOR = 4.0  # pictures at the overall rate that each value is taken to have besides its own
_COMMON, _VALUES = 5, 64  # pictures a value needs for a weight of its own; weights of a fact
_PENALTY, _STEPS = 1.0, 200


class Coded(NamedTuple):
    """A fact as whole numbers: ``codes`` int64 (N), of which each stands for one of ``names``."""

    codes: np.ndarray
    names: list[str]


class Finding(NamedTuple):
    """How well a fact predicts labels it wasn't fitted on; None where that isn't defined.

    ``accuracy`` stands beside ``majority``, that of always saying the more frequent class.
    """

    fact: str
    auc: float | None
    accuracy: float | None
    majority: float | None
    values: int


def code(values: np.ndarray) -> Coded:
    """Values of a fact, text or float (N), as codes: texts by value, numbers too where there are
    few, else by tenth.

    Labels play no part, so it may be done over all pictures at once.
    """
    if values.dtype.kind != "f":
        names, codes = np.unique(values, return_inverse=True)
        return Coded(codes, names.tolist())
    known = values[~np.isnan(values)]
    edges = np.unique(known)
    if len(edges) <= _FEW:
        names = [_number(edge) for edge in edges]
    else:
        edges = np.unique(np.quantile(known, np.linspace(0, 1, _BINS + 1), method="lower"))[1:]
        names = [f"up to {_number(edges[0])}"] + [
            f"{_number(low)} to {_number(high)}" for low, high in pairwise(edges)]
    codes = np.searchsorted(edges, values)  # NaN goes behind the last
    return Coded(codes, [*names, "none"])


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def folds(labels: np.ndarray, groups: np.ndarray, seed: int) -> np.ndarray:
    """Fold of each picture, uint8 (N): whole groups, each fold with its share of both classes."""
    _, numbers = np.unique(groups, return_inverse=True)
    count = min(FOLDS, len(np.unique(numbers)))
    return by_group(labels, numbers, (1 / count,) * count, seed)


def chance(labels: np.ndarray) -> float | None:
    """Two standard errors of the AUC of a fact that says nothing (Hanley & McNeil 1982); None
    with one class only."""
    tampered, authentic = int((labels == 1).sum()), int((labels == 0).sum())
    pairs = tampered * authentic
    return 2 * float(np.sqrt((len(labels) + 1) / (12 * pairs))) if pairs else None


def telling(fact: Coded, labels: np.ndarray, most: int = 3) -> list[tuple[str, int, float]]:
    """The values that tell most about the label: each with its pictures and the share tampered.

    At most ``most``, and none that tells less than a tenth of what the first does.
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
    """Each fact, and all together, cross-validated over whole groups.

    The AUC is the mean of the folds' (over all folds at once a fact that says nothing would come
    out below 0.5: where a class is rarer in a fold, it is more frequent in the others).

    Args:
        facts: by name, of the same N pictures. labels: uint8 (N). groups: int (N).
    """
    fold = folds(labels, groups, seed)
    sets = {name: [one] for name, one in facts.items()}
    if len(facts) > 1:
        sets[ALL] = list(facts.values())
    return [_cross_validate(name, some, labels, fold) for name, some in sets.items()]


def _cross_validate(name: str, facts: Sequence[Coded], labels: np.ndarray,
                    fold: np.ndarray) -> Finding:
    said = np.full(len(labels), np.nan)
    aucs, weights = [], []
    for number in np.unique(fold):
        test = fold == number
        if set(labels[~test].tolist()) != {0, 1}:
            continue
        said[test] = predict(facts, labels, ~test)[test]
        found = metrics.auc(said[test], labels[test])
        if found is not None:
            aucs.append(found)
            weights.append(float((labels[test] == 0).sum()) * float((labels[test] == 1).sum()))
    seen = ~np.isnan(said)
    figures = metrics.evaluate(said[seen], labels[seen])
    return Finding(name, float(np.average(aucs, weights=weights)) if aucs else None,
                   figures["accuracy"], figures["majority"],
                   len(np.unique(facts[0].codes)) if len(facts) == 1 else len(facts))


def predict(facts: Sequence[Coded], labels: np.ndarray, fitted: np.ndarray) -> np.ndarray:
    """Probability of "tampered" of all pictures, from the labels of those ``fitted`` (bool (N)).

    One fact: the smoothed rate of tampered pictures with the same value. Several: logistic
    regression over all their values.

    Returns:
        float64 (N).
    """
    if len(facts) == 1:
        return rates(facts[0], labels, fitted)[facts[0].codes]
    return _logistic(_indicators(facts, fitted), labels, fitted)


def rates(fact: Coded, labels: np.ndarray, fitted: np.ndarray) -> np.ndarray:
    """Smoothed rate of tampered pictures for each value, float64 (number of values)."""
    codes, tampered = fact.codes[fitted], labels[fitted]
    seen = np.bincount(codes, minlength=len(fact.names))
    hits = np.bincount(codes, tampered, len(fact.names))
    return (hits + _PRIOR * tampered.mean()) / (seen + _PRIOR)


def _indicators(facts: Sequence[Coded], fitted: np.ndarray) -> np.ndarray:
    """A column of zeros and ones for each frequent value, float64 (N, D); the first all ones."""
    parts = [np.ones((len(fitted), 1))]
    for fact in facts:
        seen = np.bincount(fact.codes[fitted], minlength=len(fact.names))
        frequent = np.argsort(-seen, kind="stable")[:_VALUES]
        parts.append((fact.codes[:, None] == frequent[seen[frequent] >= _COMMON]) * 1.0)
    return np.concatenate(parts, 1)


def _logistic(inputs: np.ndarray, labels: np.ndarray, fitted: np.ndarray) -> np.ndarray:
    """Logistic regression with a quadratic penalty, float64 (N).

    Newton's steps with the curvature's upper bound XᵀX/4 in place of the curvature never overshoot
    (Böhning & Lindsay, "Monotonicity of quadratic-approximation algorithms", 1988).
    """
    x, y = inputs[fitted], labels[fitted].astype(np.float64)
    penalty = np.full(x.shape[1], _PENALTY)
    penalty[0] = 1e-6  # of the overall rate: none, but it must be solvable
    step = np.linalg.inv(x.T @ x / 4 + np.diag(penalty))
    weights = np.zeros(x.shape[1])
    for _ in range(_STEPS):
        weights += step @ (x.T @ (y - _sigmoid(x @ weights)) - penalty * weights)
    return _sigmoid(inputs @ weights)


def _sigmoid(values: np.ndarray) -> np.ndarray:
    return 0.5 * (1 + np.tanh(values / 2))
