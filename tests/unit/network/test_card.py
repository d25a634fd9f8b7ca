"""The card of a model: cards of earlier versions, and what it says of the model."""

from __future__ import annotations

import json
from typing import Any

import pytest

from hpc_deepfake.network.card import FORGED, PARTLY_SAMPLE, RANDOM, SAMPLE, UNKNOWN, Card
from preprocessing.ela import Parameters

OLD = {"feature": "ela", "threshold": 0.5, "parameters": Parameters().as_dict()}
KNOWN = {"data": [{"name": "CASIA2", "pictures": 900, "authentic": 500, "tampered": 400}],
         "sample": False, "train": 720, "validation": 180, "width": [240, 384, 900],
         "height": [160, 256, 600], "formats": {"JPEG": 600, "TIFF": 300},
         "qualities": {"min": 70, "median": 90, "max": 100}, "likeness": None}


def test_a_card_of_an_earlier_version_says_that_it_knows_nothing() -> None:
    card = Card.of(OLD)
    assert card == Card("ela", Parameters())
    assert card.caveats == [UNKNOWN] and card.source == "unknown pictures"


def test_a_card_is_read_back() -> None:
    card = Card("raw", Parameters(quality=85), 0.75, 0.25, {"rule": "fpr", "value": 0.05}, 1.5,
                KNOWN, {"auc": 0.9, "intervals": {"auc": [0.8, 0.95]}})
    assert Card.of(json.loads(json.dumps(card.as_dict()))) == card
    assert card.caveats == []
    assert card.source == ("720 pictures of CASIA2 (JPEG, TIFF; JPEG quality 70 to 100; "
                           "240 to 900 pixels wide; 160 to 600 pixels high)")


@pytest.mark.parametrize("trained_on, validation, said", [
    ({"sample": True}, None, [SAMPLE]),
    ({"sample": True, "data": [{"name": "drawn"}]}, None, [SAMPLE]),
    ({"sample": True, "data": [{"name": "drawn"}, {"name": "CASIA2"}]}, None, [PARTLY_SAMPLE]),
    ({"sample": False, "forged": True, "data": [{"name": "own"}]}, None, [FORGED]),
    ({"forged": True, "data": [{"name": "own"}, {"name": "CASIA2"}]}, None, []),
    ({"random": True}, None, [RANDOM]),
    ({}, {"auc": 0.51}, []),
    ({}, {"auc": 0.5}, ["hardly better than chance: ROC-AUC 0.500 on its"]),
    ({}, {"auc": 0.6, "intervals": {"auc": [0.51, 0.7]}}, []),
    ({"sample": True}, {"auc": 0.6, "intervals": {"auc": [0.45, 0.7]}},
     [SAMPLE, "hardly better than chance: ROC-AUC 0.600 (95%: 0.450 to 0.700) on its"]),
    ({}, {"auc": None, "intervals": {"auc": None}}, [])])
def test_the_caveats(trained_on: dict[str, Any], validation: dict[str, Any] | None,
                     said: list[str]) -> None:
    caveats = Card("ela", Parameters(), trained_on=trained_on, validation=validation).caveats
    assert len(caveats) == len(said)
    assert all(caveat.startswith(begin) for caveat, begin in zip(caveats, said, strict=True))


@pytest.mark.parametrize("wrong", [
    {"temperature": 0}, {"temperature": "hot"}, {"lower": 0.75}, {"lower": "low"}, {"lower": -1},
    {"trained_on": [1]}, {"validation": 3}, {"threshold_chosen": "youden"},
    {"trained_on": {"sample": "yes"}}, {"trained_on": {"random": 1}}, {"validation": {"auc": 7}},
    {"network": 5}])
def test_impossible_values_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        Card.of({**OLD, **wrong})


def test_a_threshold_changed_by_hand_is_not_called_chosen() -> None:
    chosen = {"rule": "fpr", "value": 0.05, "thresholds": [None, 0.7]}
    assert Card.of({**OLD, "threshold": 0.7, "threshold_chosen": chosen}).threshold_chosen == chosen
    assert Card.of({**OLD, "threshold": 0, "threshold_chosen": chosen}).threshold_chosen == {
        "rule": "given"}
    assert Card.of({**OLD, "threshold": 0.7, "lower": 0.1,
                    "threshold_chosen": chosen}).threshold_chosen == {"rule": "given"}


def test_names_in_a_card_are_printable_and_odd_facts_are_left_out() -> None:
    card = Card.of({**OLD, "trained_on": {
        "data": [{"name": "\x1b[31mred"}, 3], "train": "many", "width": [1, 2], "height": "tall",
        "formats": ["JPEG"], "qualities": {"min": 80}}})
    assert card.source == r"pictures of \x1b[31mred, None"
