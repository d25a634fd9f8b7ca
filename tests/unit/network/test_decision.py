"""From probabilities to verdicts: thresholds, undecided pictures, and calibration on and off."""

from __future__ import annotations

import argparse
from dataclasses import replace

import numpy as np
import pytest

from hpc_deepfake.core import options
from hpc_deepfake.network import decision
from hpc_deepfake.network.card import Card
from preprocessing.ela import Parameters

CARD = Card("ela", Parameters())
STORED = replace(CARD, threshold=0.9, lower=0.25, temperature=2.0, threshold_chosen={
    "rule": "fpr", "value": 0.05, "lower": {"rule": "fnr", "value": 0.1}, "on": "x.h5"})


def verdicts(card: Card, probabilities: list[float]) -> list[str]:
    return [decision.verdict(card, p) for p in decision.calibrated(card, np.array(probabilities))]


def test_verdicts_at_and_between_the_thresholds():
    """A threshold belongs to what is above it."""
    card = replace(CARD, lower=0.3, threshold=0.7)
    assert [decision.verdict(card, p) for p in (0.29, 0.3, 0.69, 0.7)] == [
        "authentic", "undecided", "undecided", "tampered"]
    assert [decision.verdict(CARD, p) for p in (0.49, 0.5)] == ["authentic", "tampered"]
    assert decision.verdict(replace(CARD, lower=0.5), 0.5) == "tampered"


def test_calibration_changes_no_verdict():
    """Stored thresholds are converted where it is off: 0.9 of odds divided by 2 is 0.988."""
    probabilities = np.linspace(0.001, 0.999, 400).tolist()
    off = decision.in_use(STORED, calibration="off")
    assert off.temperature == 1 and off.threshold == pytest.approx(81 / 82)
    assert verdicts(STORED, probabilities) == verdicts(off, probabilities)
    assert set(verdicts(off, probabilities)) == {"authentic", "undecided", "tampered"}
    assert decision.in_use(CARD, calibration="off") == CARD


def test_given_thresholds_belong_to_the_probabilities_that_are_shown():
    assert verdicts(decision.in_use(STORED, (None, 0.8)), [0.85, 0.95]) == ["authentic", "tampered"]
    off = decision.in_use(STORED, (None, 0.8), "off")
    assert verdicts(off, [0.85, 0.95]) == ["tampered", "tampered"] and off.lower is None


@pytest.mark.parametrize(("text", "value"), [
    ("0.5", (None, 0.5)), ("0.2,0.9", (0.2, 0.9)), ("0,1", (0, 1)), ("0.4,0.4", (0.4, 0.4))])
def test_thresholds_as_words(text, value):
    assert options.thresholds(text) == value


@pytest.mark.parametrize("text", ["", "high", "nan", "1.2", "-0.1", "0.9,0.2", "0.1,0.2,0.3",
                                  "0.1,", "0.2,nan"])
def test_other_words_are_no_thresholds(text):
    with pytest.raises(argparse.ArgumentTypeError, match="LOW,HIGH"):
        options.thresholds(text)


def test_the_thresholds_in_words():
    assert decision.described(CARD) == ""
    assert decision.described(STORED) == (
        "tampered from 0.900 on, undecided from 0.250; chosen for a false positive rate up to 5% "
        "and for a false negative rate up to 10% on x.h5")
    assert decision.described(decision.in_use(CARD, (0.2, 0.5))) == \
        "tampered from 0.500 on, undecided from 0.200"
    odd = replace(CARD, threshold_chosen={"rule": ["x"], "lower": 3})  # of another version
    assert decision.described(odd) == "tampered from 0.500 on"
