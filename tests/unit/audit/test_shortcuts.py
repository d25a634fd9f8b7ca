"""How well facts predict labels, on data for which the answer is known."""

from __future__ import annotations

import numpy as np
import pytest

from hpc_deepfake.audit import findings, shortcuts


def measured(facts: dict[str, np.ndarray], labels: np.ndarray,
             groups: np.ndarray | None = None) -> dict[str, shortcuts.Finding]:
    groups = np.arange(len(labels)) if groups is None else groups
    coded = {name: shortcuts.code(values) for name, values in facts.items()}
    return {finding.fact: finding
            for finding in shortcuts.measure(coded, labels.astype(np.uint8), groups)}


def test_a_fact_equal_to_the_label_predicts_it():
    labels = np.arange(200) % 2
    finding = measured({"format": np.where(labels, "TIFF", "JPEG")}, labels)["format"]
    assert (finding.auc, finding.accuracy, finding.majority, finding.values) == (1, 1, 0.5, 2)


def test_uninformative_facts_stay_at_one_half():
    random = np.random.default_rng(1)
    labels = random.integers(0, 2, 3000)
    results = measured({"text": random.choice(["a", "b", "c"], 3000), "number": random.random(3000),
                      "many": np.array([str(number) for number in range(3000)])}, labels)
    assert results["many"].auc == 0.5, "values that occur once say nothing about others"
    for finding in results.values():
        assert abs(finding.auc - 0.5) < 1.5 * shortcuts.chance(labels), finding


def test_uninformative_facts_do_not_exceed_the_majority_by_chance():
    labels = (np.random.default_rng(2).random(1000) < 0.865).astype(int)
    finding = measured({"f": np.random.default_rng(3).choice(["a", "b"], 1000)}, labels)["f"]
    assert finding.accuracy == finding.majority == max(labels.mean(), 1 - labels.mean())


def test_a_fact_of_the_group_does_not_predict_the_label():
    """All pictures of a group have the same label and dimensions: across groups, no information."""
    groups = np.repeat(np.arange(100), 10)
    labels = groups % 2
    names = {"dimensions": np.char.add("size ", groups.astype(str))}
    assert measured(names, labels, groups)["dimensions"].auc == 0.5
    assert measured(names, labels)["dimensions"].auc > 0.99, "folds that divide groups would leak"


def test_a_number_may_rise_and_fall_with_the_label():
    random = np.random.default_rng(4)
    labels = np.arange(1000) % 2
    middle = np.where(labels, random.normal(0, 1, 1000), random.choice([-5, 5], 1000))
    middle[:100] = np.nan
    finding = measured({"size": middle}, labels)["size"]
    assert finding.auc > 0.9, "no threshold separates the middle from both ends"


def test_missing_numbers_are_a_value_of_their_own():
    labels = np.arange(100) % 2
    assert measured({"quality": np.where(labels, np.nan, 90.0)}, labels)["quality"].auc == 1


def test_facts_add_up():
    random = np.random.default_rng(5)
    labels = random.integers(0, 2, 4000)
    hints = {f"hint {number}": np.where(random.random(4000) < 0.65, labels, 1 - labels).astype(str)
             for number in range(5)}
    results = measured(hints, labels)
    together = results.pop(shortcuts.ALL)
    assert together.auc > 0.80 > 0.68 > max(finding.auc for finding in results.values())
    # five independent hints, each right in 65%: their majority is right in 76.5% (binomial)
    assert together.accuracy == pytest.approx(0.765, abs=0.03)


def test_regression_over_kinds_of_pictures_is_that_over_pictures():
    """A million pictures cost as much as the few kinds that their facts make."""
    random = np.random.default_rng(7)
    y = random.integers(0, 2, 400).astype(np.uint8)
    facts = [shortcuts.code((random.integers(0, 3, 400) + y).astype(float)) for _ in range(2)]
    fitted = random.random(400) < 0.8
    assert len(shortcuts._kinds(facts).facts[1].codes) <= 16
    inputs = shortcuts._indicators(facts, fitted.astype(float))  # each picture a kind of its own
    alone = shortcuts._logistic(inputs, fitted.astype(float), (fitted & (y == 1)).astype(float))
    assert shortcuts.predict(facts, y, fitted) == pytest.approx(alone, abs=1e-12)


def test_logistic_regression_reaches_the_penalised_maximum():
    random = np.random.default_rng(6)
    x = np.concatenate([np.ones((300, 1)), random.integers(0, 2, (300, 4))], 1)
    y = (random.random(300) < 1 / (1 + np.exp(-x @ [0.5, 1, -2, 0, 1]))).astype(np.uint8)
    p = shortcuts._logistic(x, np.ones(300), y.astype(float))
    logit = np.linalg.lstsq(x, np.log(p / (1 - p)), rcond=None)[0]
    gradient = x.T @ (y - p) - np.array([0, 1, 1, 1, 1]) * logit  # zero at the maximum
    assert np.abs(gradient).max() < 1e-3


def test_too_few_groups_are_not_an_error():
    labels = np.array([0, 1, 0, 1], np.uint8)
    finding = measured({"f": np.array(list("abab"))}, labels, np.zeros(4, int))["f"]
    assert finding.auc is None
    records = findings.facts([finding], {"f": shortcuts.code(np.array(list("abab")))}, labels)
    assert "at least two groups" in records[0].value


@pytest.mark.parametrize("auc, verdict", [(0.4, "ok"), (0.6, "ok"), (0.61, "warn"), (0.75, "warn"),
                                          (0.76, "FAIL")])
def test_verdicts(auc, verdict):
    labels = np.array([0, 1])
    finding = shortcuts.Finding("format", auc, 0.7, 0.5, 2)
    record = findings.facts([finding], {"format": shortcuts.code(np.array(["a", "b"]))}, labels)[0]
    assert record.verdict == verdict and bool(record.todo) == (verdict != "ok")
    assert ("gives the label away" in record.value) == (verdict == "FAIL")
