"""An evaluation as lines to read."""

from __future__ import annotations

from typing import Any

from hpc_deepfake import metrics
from hpc_deepfake.core.text import number, percent
from hpc_deepfake.evaluate.breakdown import FEW
from hpc_deepfake.metrics.intervals import RESAMPLES

_TITLES = {"format": "by file format", "origin": "by origin of the tampered region",
           "operation": "by operation (letters of CASIA's names)",
           "group size": "by size of the group of common source"}
_LINES = 8  # of one breakdown; all of it is in --json
_ROW = "{:<40.40} {:>9} {:>9} {:>9} {:>9} {:>7} {:>7}".format


def lines(evaluation: dict[str, Any]) -> str:
    """All figures: accuracy beside its baselines, calibration, breakdowns.

    Args:
        evaluation: content of the ``--json`` file.
    """
    text = [_threshold(evaluation), metrics.table(evaluation, evaluation["intervals"])]
    if evaluation["container"]:
        text.append(_container(evaluation["container"]))
    calibration = evaluation["calibration"]
    text.append(f"calibration error  {number(calibration['error']):>7}   over "
                f"{len(calibration['reliability'])} bins, 0 is perfect; Brier score "
                f"{number(calibration['brier'])}, 0.25 for always predicting one half")
    if any(evaluation["intervals"].values()):
        text.append(f"(95% intervals: {RESAMPLES:,} bootstrap samples of the "
                    f"{evaluation['groups']:,} groups of common source)")
    text.append(_breakdowns(evaluation["by"]))
    return "\n".join(text)


def _threshold(evaluation: dict[str, Any]) -> str:
    why = "pictures from this probability on are predicted tampered"
    chosen_on = evaluation["chosen_on"]
    if chosen_on:
        why = (f"chosen on the validation part ({chosen_on['rows']:,} images, balanced "
               f"accuracy {chosen_on['balanced_accuracy']:.1%} there)")
    return f"threshold          {evaluation['threshold']:>7.3f}   {why}"


def _container(baseline: dict[str, Any]) -> str:
    return (f"container alone    {percent(baseline['accuracy']):>7}   of the validation part's "
            f"{baseline['rows']:,} images (majority {percent(baseline['majority'])}), from the "
            f"files' {baseline['fact']}, no pixels")


def _breakdowns(by: dict[str, dict[str, Any]]) -> str:
    text, few = [], False
    for title, parts in by.items():
        text.append(_ROW(_TITLES[title], "authentic", "tampered", "accuracy", "majority", "recall",
                         "AUC"))
        for name, figures in list(parts.items())[:_LINES]:
            mark, few = " *" * figures["few"], few or figures["few"]
            text.append(_ROW(f"  {name}{mark}", f"{figures['rows'] - figures['tampered']:,}",
                             f"{figures['tampered']:,}", percent(figures["accuracy"]),
                             percent(figures["majority"]), percent(figures["recall"]),
                             number(figures["auc"])))
        if len(parts) > _LINES:
            text.append(f"  and {len(parts) - _LINES} less frequent (--json FILE has all)")
    if few:
        text.append(f"* fewer than {FEW} pictures of a class: mostly chance")
    return "\n".join(text)
