"""Precision where another share of the pictures is tampered than in those that were evaluated."""

from __future__ import annotations

import math

from hpc_deepfake.metrics.proportions import Z


def precision(recall: float, false_positive_rate: float, share: float) -> float | None:
    """Share of tampered pictures among those predicted tampered, by Bayes' rule (Altman & Bland
    1994, "Diagnostic tests 2: predictive values").

    Args:
        recall: share of the tampered pictures that are predicted tampered.
        false_positive_rate: share of the authentic pictures that are predicted tampered.
        share: of tampered pictures among all.

    Returns:
        The precision; None if nothing is predicted tampered.
    """
    true, false = share * recall, (1 - share) * false_positive_rate
    return true / (true + false) if true + false else None


def interval(recall: float, tampered: float, false_positive_rate: float, authentic: float,
             share: float) -> tuple[float, float]:
    """95% interval of that precision: the adjusted logit interval of Mercaldo, Lau & Zhou (2007,
    "Confidence intervals for predictive values with an emphasis to case-control studies"), whose
    adjustment (Agresti & Coull 1998) keeps it honest where no authentic picture is accused.

    Args:
        recall: as in ``precision``.
        tampered: number of independent tampered pictures.
        false_positive_rate: as in ``precision``.
        authentic: number of independent authentic pictures.
        share: as in ``precision``.
    """
    n1, n0 = tampered + Z**2, authentic + Z**2
    hit = (recall * tampered + Z**2 / 2) / n1
    false = (false_positive_rate * authentic + Z**2 / 2) / n0
    middle = math.log(share * hit / ((1 - share) * false))
    half = Z * math.sqrt((1 - hit) / (hit * n1) + (1 - false) / (false * n0))
    low, high = (1 / (1 + math.exp(-end)) for end in (middle - half, middle + half))
    return low, high
