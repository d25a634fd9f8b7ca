"""The report of a sweep: ranked by validation, with the test part of the best combination only."""

from __future__ import annotations

import csv
import json
import math
from pathlib import Path

import numpy as np
import pytest
from data_files import LABELS, make_data
from pages import Page, check_alone
from sweep_records import RIGHT, certain, ended, finish

from hpc_deepfake import sweep
from hpc_deepfake.sweep import plan as plans

FOLDER = Path("s")
HALF = np.where(np.arange(len(LABELS)) < 4, RIGHT, 1 - RIGHT)  # four of eight pictures right
WRONG = 1 - RIGHT


@pytest.fixture(autouse=True)
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return make_data(tmp_path / "features.h5")


def plan(*words: str, grid: tuple[str, ...] = ("learning-rate=1e-4,1e-3,1e-2",)) -> plans.Sweep:
    at = words.index("--") if "--" in words else len(words)
    assert sweep.main(["plan", "s", "--data", "features.h5", "--grid", *grid, *words[:at],
                       *words[at:]]) == 0
    return plans.read(FOLDER)


def report() -> tuple[dict, Page, str]:
    """JSON, checked page and Markdown."""
    assert sweep.main(["report", "s"]) == 0
    html = (FOLDER / "report.html").read_text()
    page = Page(html)
    check_alone(page, html)
    return (json.loads((FOLDER / "report.json").read_text()), page,
            (FOLDER / "report.md").read_text())


def test_the_best_by_validation_is_chosen_and_only_its_test_figures_are_shown(capsys):
    """The second is best on the validation part, the first on the test part."""
    plan()
    finish(FOLDER, 1, certain(0.6), RIGHT)
    finish(FOLDER, 2, certain(0.9), HALF)
    finish(FOLDER, 3, certain(0.8), WRONG)
    figures, page, markdown = report()
    assert figures["best"]["values"] == {"learning_rate": 1e-3}
    assert figures["best"]["trials"] == ["002"]
    assert figures["best"]["test"]["accuracy"]["median"] == 0.5
    assert figures["best"]["test"]["rows"] == 8 and figures["best"]["test"]["majority"] == 0.5
    assert figures["best"]["score"]["median"] == pytest.approx(-math.log(0.9), abs=1e-6)
    assert [row["values"]["learning_rate"] for row in figures["combinations"]] == [1e-3, 1e-2, 1e-4]
    # the other trials' test figures, 100% and 0%, are nowhere
    test_row = next(row for row in page.cells if row[0] == "trial 002")
    assert test_row[1] == "50.0" and len([row for row in page.cells if "100.0" in row]) == 3
    assert [row[0] for row in page.cells if row[0].startswith("trial ")] == ["trial 002"]
    table = list(csv.DictReader((FOLDER / "report.csv").read_text().splitlines()))
    assert not any(name.startswith("test") for name in table[0])
    assert [line["rank"] for line in table] == ["3", "1", "2"]
    assert not any("test" in key for line in figures["trials"] for key in line)
    out = capsys.readouterr().out
    assert "By val_loss, the best of 3 combinations: learning-rate 0.001; val_loss 0.1054 " \
        "(trial 002)." in out
    assert "On the test part, which selected nothing, it classified 50.0% of 8 pictures " \
        "correctly (95%: " in out
    assert "; always predicting the more frequent class is correct for 50.0%." in out
    assert "Only the combination chosen by validation is shown." in markdown
    assert "| majority class |" in markdown
    assert "val\\_loss by learning-rate" not in markdown and "val_loss by learning-rate" in str(
        (FOLDER / "report.html").read_text())


@pytest.mark.parametrize(("monitor", "best"), [("val_loss", "001"), ("val_accuracy", "002"),
                                               ("val_auc", "003")])
def test_the_monitor_of_the_trials_ranks_them(monitor, best):
    """One has the lowest loss; one more pictures right; one the better order."""
    plan("--", "--monitor", monitor)
    finish(FOLDER, 1, np.array([0.501, 0.501]))  # loss 0.693, half right, AUC 0.5
    finish(FOLDER, 2, np.array([0.4999, 0.5]) if monitor == "val_accuracy"
           else np.array([0.999, 0.001]))
    finish(FOLDER, 3, np.array([0.9, 0.99]) if monitor == "val_auc" else np.array([0.99, 0.01]))
    figures, _, _ = report()
    assert figures["monitor"] == monitor and figures["best"]["trials"] == [best]


def test_figures_of_maps_rank_trials():
    """Only the summary has them; the table shows the one that ranks."""
    plan("--", "--monitor", "val_pixel_auc")
    for number, auc in ((1, 0.7), (2, 0.9), (3, 0.8)):
        summary = finish(FOLDER, number, certain(0.6)) / "summary.json"
        known = json.loads(summary.read_text())
        summary.write_text(json.dumps(known | {"validation": {"pixel_auc": auc}}))
    figures, _, markdown = report()
    assert figures["monitor"] == "val_pixel_auc" and figures["best"]["trials"] == ["002"]
    assert figures["best"]["score"]["median"] == 0.9
    assert "Ranked by val\\_pixel\\_auc: higher is better." in markdown
    assert [line.split(" | ")[-3] for line in markdown.splitlines()
            if "1 of 1" in line] == ["0.900", "0.800", "0.700"]


def test_a_combination_is_ranked_by_the_median_of_its_repeats_of_which_a_diverged_one_is_worst():
    """By hand: losses of -log p. The first has the best single repeat, and one that diverged."""
    plan("--repeats", "3")
    for number, p in ((1, 0.99), (2, 0.8), (3, 0.7), (4, 0.6), (5, 0.81), (6, 0.71), (8, 0.82),
                      (9, 0.72)):
        finish(FOLDER, number, certain(p))
    ended(FOLDER, 7, 3, "error: the training diverged")
    figures, _, markdown = report()
    assert [row["trials"] for row in figures["combinations"]] == [
        ["002", "005", "008"], ["003", "006", "009"], ["001", "004", "007"]]
    best = figures["best"]["score"]
    assert best["median"] == pytest.approx(-math.log(0.81), abs=1e-6)
    assert best["lowest"] == pytest.approx(-math.log(0.82), abs=1e-6)
    assert "3 of 3, 1 diverged" in markdown and "trials 002, 005, 008" in markdown
    assert "1 trial diverged (007), which is a result" in markdown
    assert "## Trials" in markdown and "error: the training diverged" in markdown


def test_an_unfinished_sweep_is_reported_with_what_is_missing(capsys):
    plan("--repeats", "2")
    finish(FOLDER, 1, certain(0.6))
    finish(FOLDER, 4, certain(0.7))
    finish(FOLDER, 2, certain(0.9))  # its second repeat is missing
    ended(FOLDER, 3, 2, "error: no GPU")
    figures, _, markdown = report()
    assert figures["best"]["trials"] == ["001", "004"]
    assert "3 of 6 trials have no result: 003, 005, 006. The ranking may still change" in markdown
    assert "Trial 003 failed: exit code 2: error: no GPU" in markdown
    states = [line["state"] for line in figures["trials"]]
    assert states == ["done", "done", "failed", "done", "missing", "missing"]


def test_without_any_result_there_is_no_best_one(capsys):
    plan()
    ended(FOLDER, 1, 3)
    figures, _, _ = report()
    assert figures["best"] is None
    assert "No trial has a figure to rank it by yet." in capsys.readouterr().out


def test_the_best_value_at_the_end_of_what_was_tried_is_noted():
    plan()
    for number, p in ((1, 0.6), (2, 0.7), (3, 0.8)):
        finish(FOLDER, number, certain(p))
    assert "The best learning-rate, 0.01, is the highest one that was tried: a better one may " \
        "lie beyond it" in report()[2]
    finish(FOLDER, 2, certain(0.9))
    assert "that was tried" not in report()[2]


def test_trials_on_other_ranks_are_marked_and_a_lost_data_file_costs_the_intervals(data):
    plan()
    run = finish(FOLDER, 1, certain(0.6))
    summary = json.loads((run / "summary.json").read_text())
    (run / "summary.json").write_text(json.dumps({**summary, "ranks": 4}))
    finish(FOLDER, 2, certain(0.7))
    data.unlink()
    figures, _, markdown = report()
    assert "Not all trials ran on 1 rank: trial 001 on 4" in markdown
    assert "No 95% intervals:" in markdown
    assert figures["best"]["test"]["intervals"]["accuracy"] is None
    assert figures["best"]["test"]["accuracy"]["median"] == 1.0


def test_a_damaged_run_does_not_hide_the_others():
    plan()
    finish(FOLDER, 1, certain(0.6))
    finish(FOLDER, 2, certain(0.7))
    (FOLDER / "trials" / "002" / "predictions.csv").write_text("row\n1\n")
    figures, _, markdown = report()
    assert figures["best"]["trials"] == ["001"]
    assert "Trial 002 failed: its records can't be used:" in markdown


def test_values_that_are_no_numbers_have_a_chart_too():
    plan(grid=("optimizer=adam,sgd", "sync-bn=true,false"))
    for number in range(1, 5):
        finish(FOLDER, number, certain(0.5 + number / 10))
    _, _, markdown = report()
    html = (FOLDER / "report.html").read_text()
    assert "val_loss by optimizer" in html and ">sgd</text>" in html and ">true</text>" in html
    assert "| 1 | sgd | false | 1 of 1 |" in markdown
