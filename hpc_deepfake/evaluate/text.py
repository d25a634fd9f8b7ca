"""An evaluation as lines to read."""

from __future__ import annotations

from typing import Any

from hpc_deepfake import metrics
from hpc_deepfake.core.json_data import dictionary
from hpc_deepfake.core.text import number, percent, probability
from hpc_deepfake.evaluate import one_class
from hpc_deepfake.evaluate.breakdown import FEW
from hpc_deepfake.metrics.intervals import RESAMPLES
from hpc_deepfake.network import decision

_TITLES = {"format": "by file format", "origin": "by origin of the tampered region",
           "operation": "by operation (letters of CASIA's names)",
           "group size": "by size of the group of common source"}
_LINES = 8  # of one breakdown; all of it is in --json
_ROW = "{:<40.40} {:>9} {:>9} {:>9} {:>9} {:>7} {:>7}".format


def lines(evaluation: dict[str, Any]) -> str:
    """All figures: accuracy beside its baselines, rates, calibration, breakdowns.

    Args:
        evaluation: content of the ``--json`` file.
    """
    text = [_threshold(evaluation)]
    if evaluation["undecided"] is not None:
        text.append(_undecided(evaluation))
    if evaluation["one_class"]:
        text += one_class.lines(evaluation["one_class"], evaluation["rows"])
        text.append(_breakdown_of_one_class(evaluation["by"]["format"]))
        return "\n".join(text)
    text.append(metrics.table(evaluation, evaluation["intervals"], evaluation["undecided"]))
    if evaluation["hint"]:
        text.append(f"hint: {evaluation['hint']}")
    text += _rates(evaluation)
    if evaluation["container"]:
        text.append(_container(evaluation["container"]))
    text += _calibration(evaluation["calibration"])
    if any(evaluation["intervals"].values()):
        text.append(f"(95% intervals: {RESAMPLES:,} bootstrap samples of the "
                    f"{evaluation['groups']:,} groups of common source; of false positives and "
                    "precision: Wilson 1927)")
    text.append(_breakdowns(evaluation["by"]))
    return "\n".join(text)


def _threshold(evaluation: dict[str, Any]) -> str:
    why = "pictures from this probability on are predicted tampered"
    chosen, record = evaluation["chosen_on"], evaluation["threshold_chosen"] or {}
    if chosen:
        rules = {record["rule"], dictionary(record.get("lower")).get("rule")}
        there = [f"{name} {percent(chosen[figure])}" if rule == "youden" else
                 f"{percent(chosen[figure])} {name}" for rule, figure, name in _SHOWN
                 if rule in rules]
        left = f", without {chosen['unlike']:,} unlike training" * bool(chosen.get("unlike"))
        why = (f"chosen on {chosen['on']} ({chosen['rows']:,} images{left}, {', '.join(there)} "
               "there)")
    elif record.get("on") and decision.how(record):
        why = f"the model's, chosen {decision.how(record)}"
    return f"threshold          {probability(evaluation['threshold']):>7}   {why}"


_SHOWN = (("youden", "balanced_accuracy", "balanced accuracy"),
          ("fpr", "false_positive_rate", "false positives"),
          ("fnr", "false_negative_rate", "false negatives"))


def _undecided(evaluation: dict[str, Any]) -> str:
    count, rows = sum(evaluation["undecided"].values()), evaluation["rows"]
    others = "" if evaluation["one_class"] else "; accuracy, precision, recall, F1: of the others"
    return (f"undecided          {percent(count / rows):>7}   {count:,} of {rows:,} images, from "
            f"{probability(evaluation['lower'])} on{others}")


def _rates(evaluation: dict[str, Any]) -> list[str]:
    false = evaluation["rates"]["false_positive"]
    text = [f"false positives    {percent(false['value']):>7}   of authentic images predicted "
            f"tampered{one_class.between(false['interval'])}"]
    for other in evaluation["precision_at"]:
        share = f"{other['tampered']:.0%}"
        text.append(f"{f'precision at {share}':<18} {percent(other['precision']):>7}   where "
                    f"{share} are tampered{one_class.between(other['interval'])}")
    return text


def _container(baseline: dict[str, Any]) -> str:
    return (f"container alone    {percent(baseline['accuracy']):>7}   of the validation part's "
            f"{baseline['rows']:,} images (majority {percent(baseline['majority'])}), from the "
            f"files' {baseline['fact']}, no pixels")


def _calibration(figures: dict[str, Any]) -> list[str]:
    text = [f"calibration error  {number(figures['error']):>7}   over "
            f"{len(figures['reliability'])} bins, 0 is perfect; Brier score "
            f"{number(figures['brier'])}, 0.25 for always predicting one half"]
    scaled = figures["temperature"]
    if scaled:
        text.append(f"with temperature   {number(scaled['error']):>7}   Brier score "
                    f"{number(scaled['brier'])}, loss {number(scaled['loss'])}, with log-odds "
                    f"divided by {scaled['value']:.3g}; {scaled['fitted']}")
    return text


def _breakdown_of_one_class(formats: dict[str, Any]) -> str:
    text = [f"{'by file format':<40} {'images':>9} {'predicted tampered':>19}"]
    for name, figures in list(formats.items())[:_LINES]:
        text.append(f"  {name:<38.38} {figures['rows']:>9,} "
                    f"{percent((figures['tp'] + figures['fp']) / figures['rows']):>19}")
    if len(formats) > _LINES:
        text.append(f"  and {len(formats) - _LINES} less frequent (--json FILE has all)")
    return "\n".join(text)


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
