"""Thresholds chosen on some pictures and evaluated on others, stored with the model, and used."""

from __future__ import annotations

import argparse
import json
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from mean_network import BrightnessNetwork, probabilities

from hpc_deepfake import evaluate, metrics
from hpc_deepfake.core import log
from hpc_deepfake.core.errors import InputError
from hpc_deepfake.evaluate import figures, one_class, options, text, thresholds
from hpc_deepfake.evaluate.material import Material
from hpc_deepfake.evaluate.thresholds import Rule
from hpc_deepfake.metrics import curves, proportions, temperature
from hpc_deepfake.network import device, model
from preprocessing.ela import Parameters
from preprocessing.split import PARTS
from preprocessing.store import open_header

CARD = model.Card("ela", Parameters())


def material(labels: np.ndarray, p: np.ndarray, groups: np.ndarray | None = None) -> Material:
    groups = np.arange(len(labels)) if groups is None else groups
    return Material([b"%d.jpg" % row for row in range(len(labels))], labels.astype(np.uint8),
                    groups, np.bincount(groups)[groups], p.astype(np.float32))


def drawn(count: int, seed: int = 0) -> Material:
    """As many pictures of each class, in groups of two; tampered ones have higher probabilities."""
    random = np.random.default_rng(seed)
    labels = np.arange(2 * count) % 2
    odds = random.normal(3 * labels - 1.5, 2)
    return material(labels, 1 / (1 + np.exp(-odds)), np.arange(2 * count) // 2)


@pytest.mark.parametrize(("words", "rules"), [
    ("0.3", (None, Rule("given", 0.3))), ("auto", (None, Rule("youden"))),
    ("fpr=0.05", (None, Rule("fpr", 0.05))), ("0.2,0.9", (Rule("given", 0.2), Rule("given", 0.9))),
    ("fnr=0.1,fpr=0.05", (Rule("fnr", 0.1), Rule("fpr", 0.05))),
    ("0.2,auto", (Rule("given", 0.2), Rule("youden")))])
def test_rules(words, rules):
    assert thresholds.parse(words) == rules


@pytest.mark.parametrize("words", ["", "best", "1.1", "nan", "fpr", "fpr=", "fpr=0", "fpr=1",
                                   "tpr=0.5", "0.9,0.2", "0.1,0.2,0.3", "auto=1", "fpr=x"])
def test_other_words_are_no_rules(words):
    with pytest.raises(argparse.ArgumentTypeError, match="auto, fpr=RATE"):
        thresholds.parse(words)


def test_halves_share_no_source_and_are_alike():
    """The same ones each time; each class is divided evenly, also where there is only one."""
    whole = drawn(101)
    first, second = thresholds.halves(whole)
    assert not set(first.groups) & set(second.groups)
    assert len(first) + len(second) == 202 and abs(len(first) - len(second)) <= 4
    assert abs(int(first.labels.sum()) - int(second.labels.sum())) <= 2
    assert thresholds.halves(whole)[0].paths == first.paths
    only = whole.take(whole.labels == 0)
    assert abs(len(thresholds.halves(only)[0]) - 50.5) < 2
    with pytest.raises(InputError, match="of one source"):
        thresholds.halves(replace(whole, groups=np.zeros(202, int)))


def test_rates_are_kept_on_the_pictures_that_chose_them():
    """And all pictures between the thresholds are undecided."""
    whole = drawn(200)
    card = thresholds.choose(thresholds.parse("fnr=0.05,fpr=0.1"), whole, CARD, "x")
    p, tampered = whole.probabilities, whole.labels == 1
    assert np.mean(p[~tampered] >= card.threshold) == 0.1 and np.mean(p[tampered] < card.lower) \
        == 0.05
    assert card.threshold_chosen == {
        "rule": "fpr", "value": 0.1, "lower": {"rule": "fnr", "value": 0.05}, "on": "x",
        "pictures": 400, "authentic": 200, "tampered": 200}
    shown = figures.of(whole, card)
    between = (p >= card.lower) & (p < card.threshold)
    assert shown["undecided"] == {"authentic": int(between[~tampered].sum()),
                                  "tampered": int(between[tampered].sum())}
    assert shown["rates"]["false_positive"]["value"] == 0.1
    assert shown["tp"] + shown["fp"] + shown["tn"] + shown["fn"] == 400 - between.sum()
    for subset in shown["by"]["format"].values():
        assert subset["accuracy"] == shown["accuracy"]
    low, high = shown["intervals"]["accuracy"]
    assert low < shown["accuracy"] < high
    # rates that one threshold keeps need no zone
    card = thresholds.choose(thresholds.parse("fnr=0.4,fpr=0.4"), whole, CARD, "x")
    assert card.lower is None and np.mean(p[~tampered] >= card.threshold) <= 0.4


@pytest.mark.parametrize(("words", "label", "message"), [
    ("fpr=0.05", 1, "0 authentic pictures are too few"), ("fnr=0.05", 0, "0 tampered pictures"),
    ("auto", 0, "fpr=0.05, which needs authentic pictures only")])
def test_pictures_of_the_other_class_only(words, label, message):
    only = drawn(30).take(drawn(30).labels == label)
    with pytest.raises(InputError, match=message):
        thresholds.choose(thresholds.parse(words), only, CARD, "x")


def test_too_few_pictures_for_a_rate():
    with pytest.raises(InputError, match=r"19 authentic pictures are too few .* needs 20"):
        thresholds.choose(thresholds.parse("fpr=0.05"), drawn(19), CARD, "x")
    assert thresholds.choose(thresholds.parse("fpr=0.05"), drawn(20), CARD, "x")
    sure = material(np.zeros(40), np.ones(40))
    with pytest.raises(InputError, match="have the highest probability"):
        thresholds.choose(thresholds.parse("fpr=0.05"), sure, CARD, "x")


def test_thresholds_are_chosen_on_pictures_that_have_a_verdict():
    whole = drawn(50)
    with pytest.raises(InputError, match=r"all 100 pictures .* no verdict on them"):
        thresholds.with_verdict(replace(whole, marked=np.ones(100, bool)))
    marked = whole.labels == 0  # and so too few authentic ones are left
    marked[0] = False
    rest = thresholds.with_verdict(replace(whole, marked=marked))
    assert len(rest) == 51 and not rest.unlike.any()
    assert len(thresholds.with_verdict(whole)) == 100, "it wasn't asked"
    shown = {**figures.of(whole, CARD), "threshold_chosen": {"rule": "fpr", "value": 0.1},
             "container": None, "chosen_on": {
                 **thresholds.figures_there(rest, CARD, "the other half"), "unlike": 49}}
    assert "chosen on the other half (51 images, without 49 unlike training, " in text.lines(shown)


def test_precision_at_other_balances_and_false_positives():
    shown = figures.of(drawn(200), CARD)
    false, recall = shown["fp"] / 200, shown["tp"] / 200
    expected = 0.1 * recall / (0.1 * recall + 0.9 * false)
    tenth, hundredth = shown["precision_at"]
    assert (tenth["tampered"], tenth["precision"]) == (0.1, pytest.approx(expected))
    assert hundredth["precision"] < tenth["precision"] < shown["precision"]
    for other in shown["precision_at"]:
        low, high = other["interval"]
        assert low < other["precision"] < high
    lines = text.lines({**shown, "chosen_on": None, "container": None})
    assert f"precision at 10%     {expected:.1%}   where 10% are tampered; 95%: " in lines
    assert f"precision            {shown['precision']:.1%}   where 50.0% are tampered; recall " \
        in lines
    assert f"false positives      {false:.1%}   of authentic images predicted tampered; 95%:" \
        in lines


def test_the_temperature_stands_beside_raw_figures():
    """Figures from before are those of raw probabilities; verdicts at 0.5 are the same."""
    whole = drawn(300)
    raw = figures.of(whole, CARD)
    scaled = figures.of(whole, replace(CARD, temperature=2.5))
    p = temperature.apply(whole.probabilities, 2.5)
    assert raw["calibration"]["temperature"] is None
    stored = scaled["calibration"].pop("temperature")
    assert stored["loss"] == metrics.evaluate(p, whole.labels)["loss"] != raw["loss"]
    del raw["calibration"]["temperature"]
    assert all(scaled[name] == raw[name] for name in ("loss", "auc", "tp", "fp", "calibration"))
    scaled["calibration"]["temperature"] = {**stored, "fitted": "fitted somewhere"}
    assert (f"Brier score {stored['brier']:.3f}, loss {stored['loss']:.3f}, with log-odds divided "
            "by 2.5; fitted somewhere") in text.lines(
                {**scaled, "chosen_on": None, "container": None})


def test_exchanged_labels_get_a_hint():
    """Clearly below chance only, and not of a few pictures."""
    whole = drawn(100)
    exchanged = replace(whole, labels=1 - whole.labels)
    assert "Are the classes the wrong way round" in figures.of(exchanged, CARD)["hint"]
    assert "hint: ROC-AUC 0." in text.lines({**figures.of(exchanged, CARD), "chosen_on": None,
                                             "container": None})
    assert figures.of(whole, CARD)["hint"] is None
    chance = material(np.arange(200) % 2, np.random.default_rng(4).random(200))
    assert figures.of(chance, CARD)["hint"] is None
    assert figures.of(exchanged.take(np.arange(200) < 8), CARD)["hint"] is None


def test_an_archive_by_hand():
    """Of 100 authentic pictures with probabilities 0.005, 0.015, …: at 0.95, 5% are accused."""
    p = (np.arange(100) + 0.5) / 100
    shown = one_class.figures(p, np.arange(100), 0, 0.7)
    assert (shown["predicted"], shown["share"]) == (30, 0.3)
    assert shown["interval"] == proportions.wilson(0.3, 100)
    assert [(round(at["threshold"], 9), at["predicted"]) for at in shown["thresholds"]] == [
        (0.99, 1), (0.98, 2), (0.95, 5), (0.9, 10), (0.8, 20), (0.5, 50)]
    lines = one_class.lines(shown, 100)
    assert "  at 0.950             5.0%   5 of 100; 95%: 2.2% to 11.2%" in lines
    assert lines[0].startswith("false positives      30.0%   30 of 100 authentic images")
    few = one_class.figures(p[:20], np.arange(20), 1, 0.7)
    assert [at["share"] for at in few["thresholds"]] == [0.95, 0.9, 0.8, 0.5], "of tampered ones"


# ---- the command ---------------------------------------------------------------------------------

@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A run directory with a card of temperature 2, whose model is this network."""
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / "model.keras").touch()
    (folder / "model.json").write_text(json.dumps(
        replace(CARD, temperature=2.0).as_dict() | {"later": "kept"}))
    monkeypatch.setattr(model, "load", lambda _: BrightnessNetwork())
    monkeypatch.setattr(device, "start", lambda *_, **__: None)
    monkeypatch.setattr(log.log, "propagate", log.log.propagate)
    log.start()
    return folder


def evaluated(run: Path, *words: str | os.PathLike) -> dict:
    file = run.parent / "figures.json"
    assert evaluate.main(["--model", str(run), "--json", str(file), "--no-container",
                          *map(os.fspath, words)]) == 0
    return json.loads(file.read_text())


def of_part(data_file: Path, part: str) -> tuple[np.ndarray, np.ndarray]:
    header = open_header(data_file)
    rows = np.array(header.array("split")) == PARTS.index(part)
    return probabilities(np.array(header.array("ela"))[rows]), np.array(header.array("label"))[rows]


def test_a_rate_chosen_on_validation_is_stored_and_used(run, data_file, capsys):
    """The threshold of 2/6 false positives on the validation part, of calibrated probabilities."""
    written = evaluated(run, "--data", data_file, "--threshold", "fpr=0.34", "--save-threshold")
    p, y = of_part(data_file, "validation")
    expected = curves.for_false_positives(temperature.apply(p[y == 0], 2), 0.34)
    assert written["threshold"] == pytest.approx(expected, abs=1e-6)
    card = json.loads((run / "model.json").read_text())
    assert card["threshold"] == written["threshold"] and card["later"] == "kept"
    assert card["threshold_chosen"]["on"] == f"the validation part of {data_file}"
    assert card["threshold_chosen"]["tested"]["on"] == f"the test part of {data_file}"
    assert card["threshold_chosen"]["tested"]["pictures"] == written["rows"]
    out, err = capsys.readouterr()
    assert f"chosen on the validation part ({len(y)} images, " in out
    assert "with log-odds divided by 2; fitted on the validation part of its training" in out
    assert f"stored in {run / 'model.json'}" in err
    again = evaluated(run, "--data", data_file, "--part", "test")
    assert all(again[name] == written[name] for name in ("threshold", "tp", "fp", "rows"))
    assert "the model's, chosen for a false positive rate up to 34% on the validation part" \
        in capsys.readouterr().out
    off = evaluated(run, "--data", data_file, "--part", "test", "--calibration", "off")
    assert off["threshold"] != again["threshold"], "of raw probabilities"
    assert all(off[name] == again[name] for name in ("tp", "fp", "loss"))
    assert "log-odds" not in capsys.readouterr().out


def test_a_threshold_of_raw_probabilities_is_stored_calibrated(run, data_file):
    evaluated(run, "--data", data_file, "--calibration", "off", "--threshold", "0.2,0.8",
              "--save-threshold")
    card = model.read_card(run)
    assert card.threshold == pytest.approx(2 / 3) and card.lower == pytest.approx(1 / 3)


def test_a_folder_is_divided_into_halves(run, pictures, data_file, capsys):
    """The threshold is the best one of the first half, and the figures are those of the second."""
    written = evaluated(run, "--data", pictures, "--threshold", "auto", "--save-threshold")
    header = open_header(data_file)
    first, second = thresholds.halves(material(
        np.array(header.array("label")), probabilities(np.array(header.array("ela"))),
        np.array(header.array("group"))))
    best = curves.youden(temperature.apply(first.probabilities, 2), first.labels)
    assert written["threshold"] == pytest.approx(best, abs=1e-6)
    figures_there = metrics.evaluate(temperature.apply(second.probabilities, 2), second.labels,
                                     best)
    assert all(written[name] == figures_there[name] for name in ("rows", "tp", "fp", "tn", "fn"))
    assert written["chosen_on"]["rows"] == len(first)
    assert f"on one half of {pictures}, {written['rows']} images" in capsys.readouterr().out
    assert model.read_card(run).threshold_chosen["on"] == f"the other half of {pictures}"
    evaluated(run, "--data", pictures)
    assert "(the threshold was chosen on half of these pictures: " in capsys.readouterr().out
    evaluated(run, "--data", pictures, "--threshold", "0.5")
    assert "the threshold was chosen" not in capsys.readouterr().out


def test_an_archive_without_class_folders(run, pictures, tmp_path, capsys):
    """Named by --authentic, or a folder of one class by --data; a rule chooses on one half."""
    (tmp_path / "one").mkdir()
    (tmp_path / "one" / "Au").symlink_to(pictures / "Au")
    named = evaluated(run, "--authentic", pictures / "Au")
    assert named["one_class"]["label"] == "authentic" and named["rows"] == 30
    assert f"on all of {pictures / 'Au'} (authentic), 30 authentic images" in \
        capsys.readouterr().out
    assert evaluated(run, "--data", tmp_path / "one")["one_class"] == named["one_class"]
    assert evaluated(run, "--tampered", pictures / "Tp")["one_class"]["label"] == "tampered"
    both = evaluated(run, "--authentic", pictures / "Au", "--tampered", pictures / "Tp")
    assert both["one_class"] is None and both["rows"] == 60
    chosen = evaluated(run, "--authentic", pictures / "Au", "--threshold", "fpr=0.2")
    assert chosen["chosen_on"]["false_positive_rate"] <= 0.2 and chosen["rows"] == 15


@pytest.mark.parametrize(("words", "message"), [
    (["--save-threshold"], "--save-threshold needs a threshold"),
    (["--data", "x", "--authentic", "y"], "either --data, or --authentic"),
    (["--authentic", "nowhere"], "no folder of authentic pictures 'nowhere'")])
def test_options_that_contradict(run, words, message):
    with pytest.raises(InputError, match=message):
        evaluate.main(["--model", str(run), *words])


def test_a_folder_that_cannot_be_written_to_is_refused_first(run, data_file, monkeypatch):
    monkeypatch.setattr(options.thresholds.os, "access", lambda *_: False)
    with pytest.raises(InputError, match="cannot write --save-threshold"):
        evaluate.main(["--model", str(run), "--data", str(data_file), "--threshold", "auto",
                       "--save-threshold"])
