"""An evaluation as lines for a person."""

from __future__ import annotations

from typing import Any

from hpc_deepfake import metrics
from hpc_deepfake.evaluate.breakdown import FEW
from hpc_deepfake.metrics.intervals import RESAMPLES

_TITLES = {"format": "by file format", "origin": "by where the tampered region is from",
           "operation": "by operation (letters of CASIA's names)",
           "group size": "by pictures of the same source"}
_LINES = 8  # of one breakdown; the rest is in --json
_ROW = "{:<40.40} {:>9} {:>9} {:>9} {:>9} {:>7} {:>7}".format


def lines(found: dict[str, Any]) -> str:
    """All figures: accuracy beside its baselines, calibration, breakdowns."""
    text = [_threshold(found), metrics.table(found, found["intervals"])]
    if found["container"]:
        text.append(_container(found["container"]))
    calibration = found["calibration"]
    text.append(f"calibration error  {_number(calibration['error']):>7}   over "
                f"{len(calibration['reliability'])} bins, 0 is perfect; Brier score "
                f"{_number(calibration['brier'])}, 0.25 for always saying one half")
    if any(found["intervals"].values()):
        text.append(f"(95% intervals: {RESAMPLES:,} bootstrap draws of whole groups, of which "
                    f"there are {found['groups']:,})")
    text.append(_breakdowns(found["by"]))
    return "\n".join(text)


def _threshold(found: dict[str, Any]) -> str:
    why = "tampered from this probability on"
    if found["chosen_on"]:
        why = (f"chosen on the validation part ({found['chosen_on']['rows']:,} images, balanced "
               f"accuracy {found['chosen_on']['balanced_accuracy']:.1%} there)")
    return f"threshold          {found['threshold']:>7.3f}   {why}"


def _container(one: dict[str, Any]) -> str:
    return (f"container alone    {_percent(one['accuracy']):>7}   of the validation part's "
            f"{one['rows']:,} images (majority {_percent(one['majority'])}), from the files' "
            f"{one['fact']}, no pixels")


def _breakdowns(by: dict[str, dict[str, Any]]) -> str:
    text, few = [], False
    for title, parts in by.items():
        text.append(_ROW(_TITLES[title], "authentic", "tampered", "accuracy", "majority", "found",
                         "AUC"))
        for name, one in list(parts.items())[:_LINES]:
            mark, few = " *" * one["few"], few or one["few"]
            text.append(_ROW(f"  {name}{mark}", f"{one['rows'] - one['tampered']:,}",
                             f"{one['tampered']:,}", _percent(one["accuracy"]),
                             _percent(one["majority"]), _percent(one["recall"]),
                             _number(one["auc"])))
        if len(parts) > _LINES:
            text.append(f"  and {len(parts) - _LINES} rarer ones (--json has all)")
    text.append("found: share of the tampered ones that were called so")
    if few:
        text.append(f"* a class of fewer than {FEW} pictures: mostly chance")
    return "\n".join(text)


def _percent(value: float | None) -> str:
    return "–" if value is None else f"{value:.1%}"


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"
