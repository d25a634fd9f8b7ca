"""Pictures of one class only, such as an archive: how many are called tampered, at which
threshold."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from hpc_deepfake.core.text import percent, probability
from hpc_deepfake.metrics import curves, proportions
from preprocessing.catalogue import LABELS

# shares of authentic pictures accused, and of tampered ones missed
_RATES = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5)


def figures(probabilities: np.ndarray, groups: np.ndarray, label: int,
            threshold: float) -> dict[str, Any]:
    """The share that is predicted tampered, at the threshold and at others.

    Args:
        probabilities: of tampered, calibrated, float (n).
        groups: group of common source of each picture, int (n).
        label: of all pictures.
        threshold: the one in use.

    Returns:
        ``label`` (its name) and, at the threshold and for each of ``thresholds``, ``threshold``,
        ``predicted`` (number of pictures predicted tampered), ``share`` and ``interval`` (95%;
        None with one group). The thresholds are those at which a round share of authentic pictures
        is accused, or of tampered ones missed. That they are chosen on the same pictures hardly
        matters: for a quantile the exact interval is a binomial one, too (Wilks 1941).
    """
    choose: Callable[[np.ndarray, float], float | None] = (
        curves.for_false_negatives if label else curves.for_false_positives)

    def at(chosen: float) -> dict[str, Any]:
        hits = probabilities >= chosen
        return {"threshold": chosen, "predicted": int(hits.sum()), "share": float(hits.mean()),
                "interval": proportions.interval(hits, groups)}

    rates = [rate for rate in _RATES if rate * len(probabilities) >= 1]
    others = {value: at(value) for rate in rates
              if (value := choose(probabilities, rate)) is not None}
    return {"label": LABELS[label], **at(threshold), "thresholds": list(others.values())}


def lines(shown: dict[str, Any], count: int) -> list[str]:
    """Those figures as lines to read.

    Args:
        shown: of ``figures``.
        count: number of pictures.
    """
    what = "false positives" if shown["label"] == LABELS[0] else "recall"
    text = [f"{what:<18} {percent(shown['share']):>7}   {shown['predicted']:,} of {count:,} "
            f"{shown['label']} images predicted tampered{between(shown['interval'])}"]
    if shown["thresholds"]:
        text.append("at other thresholds" if shown["label"] == LABELS[0] else
                    "at other thresholds (of tampered images)")
        text += [f"  at {probability(other['threshold']):<12} {percent(other['share']):>9}   "
                 f"{other['predicted']:,} of {count:,}{between(other['interval'])}"
                 for other in shown["thresholds"]]
    if shown["interval"] is not None:
        text.append("(95% intervals: Wilson 1927; pictures of one source count for fewer, Rao & "
                    "Scott 1992)")
    return text


def between(interval: tuple[float, float] | None) -> str:
    """A share's interval as the end of a line; empty if there is none."""
    return "" if interval is None else f"; 95%: {interval[0]:.1%} to {interval[1]:.1%}"
