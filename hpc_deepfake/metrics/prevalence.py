"""Precision where another share of the pictures is tampered than in those that were evaluated."""

from __future__ import annotations

from hpc_deepfake.metrics.proportions import Z_BOTH, wilson


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
             share: float) -> tuple[float, float] | None:
    """95% interval of that precision, on the cautious side: both rates are within their 97.5%
    intervals (Wilson 1927) in at least 95% of all cases (Bonferroni), and these are the precisions
    at their ends. It holds too where no authentic picture is accused, and the precision seems to be
    100%.

    Args:
        recall: as in ``precision``.
        tampered: number of independent tampered pictures, as of ``proportions.effective``.
        false_positive_rate: as in ``precision``.
        authentic: number of independent authentic pictures.
        share: as in ``precision``.

    Returns:
        Lower and upper end; None with fewer than two independent pictures of a class.
    """
    if min(tampered, authentic) <= 1:
        return None
    least, most = wilson(recall, tampered, Z_BOTH)
    few, many = wilson(false_positive_rate, authentic, Z_BOTH)
    low, high = precision(least, many, share), precision(most, few, share)
    assert low is not None and high is not None  # `many` and `most` are above 0
    return low, high
