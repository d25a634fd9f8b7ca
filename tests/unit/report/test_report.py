"""The page about a run: every figure in it, whatever its files hold, and nothing from outside."""

from __future__ import annotations

import base64
import json
import math
import os
import re
import shlex
import shutil
from collections.abc import Callable, Iterator
from html import unescape
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
from conftest import run_program
from pages import Page, check_alone

import hpc_deepfake.audit
from hpc_deepfake import report as command
from hpc_deepfake.core.errors import InputError
from hpc_deepfake.data.rows import open_data
from hpc_deepfake.metrics.intervals import bootstrap
from hpc_deepfake.report import collect, pictures, repeat
from hpc_deepfake.report.results import wilson
from hpc_deepfake.train import predictions
from hpc_deepfake.web.svg import ticks
from preprocessing import store
from preprocessing.catalogue import Catalogue
from preprocessing.ela import Parameters

# of each picture: part, label, probability, path; the figures below follow from these
ROWS = [*[("train", row % 2, None, b"Au/train%d.jpg" % row) for row in range(4)],
        ("validation", 0, 0.1, b"Au/a.jpg"), ("validation", 1, 0.9, b"Tp/b.jpg"),
        ("validation", 0, 0.6, b"Au/c.jpg"), ("validation", 1, 0.4, b"Tp/d.jpg"),
        ("test", 1, 0.95, b"Tp/e.jpg"), ("test", 1, 0.8, b"Tp/f.jpg"),
        ("test", 1, 0.7, b"Tp/g.jpg"), ("test", 1, 0.3, b"Tp/h.jpg"),
        ("test", 0, 0.2, b"Au/i.jpg"), ("test", 0, 0.4, b"Au/j.jpg")]
SUMMARY = {"strategy": "sync", "ranks": 3, "feature": "ela", "epochs": 2, "steps": 8,
           "stopped_early": False, "best_epoch": 2, "monitor": "val_auc", "train_rows": 4,
           "images_per_s": 123.45, "seconds": 6.78, "allreduce": "MPI, ring (forced)",
           "usage": [{"cpu_s": 10.4, "max_rss_mb": 900.2, "wall_s": 9},
                     {"cpu_s": 20.2, "max_rss_mb": 1000.9, "wall_s": 9},
                     {"cpu_s": 5, "max_rss_mb": 700, "wall_s": 9}],
           "validation": {"accuracy": 0.5, "majority": 0.5, "auc": 0.75, "rows": 4,
                          "tp": 1, "fp": 1, "tn": 1, "fn": 1, "loss": 0.7}}
EPOCHS = [{"epoch": 1, "step": 4, "loss": 1.2345, "accuracy": 0.31, "images_per_s": 100.0,
           "seconds": {"input": 0.25, "compute": 1.5, "communication": 0.5, "evaluate": 0.75,
                       "checkpoint": 0.0},
           "val_loss": 0.8765, "val_accuracy": 0.27, "val_auc": 0.654, "val_majority": 0.5,
           "best": True},
          {"epoch": 2, "step": 8, "loss": 0.4321, "accuracy": 0.82, "images_per_s": 146.9,
           "seconds": {"input": 0.25, "compute": 0.5, "communication": 0.25, "evaluate": 0.5,
                       "checkpoint": 0.5},
           "val_loss": 0.5678, "val_accuracy": 0.5, "val_auc": 0.75, "val_majority": 0.5,
           "best": True}]
ENVIRONMENT = {"versions": {"hpc_deepfake": "9.8.7", "keras": "3.2.1"}, "mpi": "Open MPI v4.1.4",
               "platform": "Linux-6", "git": "0123456789abcdef", "started": "2026-11-25T20:00:00",
               "command": ["/somewhere/train.py", "--data", "old.h5", "--run=first", "--epochs",
                           "2", "--resume", "--learning-rate", "0.001"],
               "ranks": [{"host": host, "device": "CPU", "name": "Xeon", "threads": 4,
                          "input": "mmap"} for host in ("node1", "node1", "node2")],
               "variables": {"HOROVOD_CYCLE_TIME": "2"}}
CONTAINER = {"accuracy": 0.6125, "auc": 0.63, "majority": 0.5, "fact": "subsampling", "rows": 4}


def colour(row: int) -> tuple[int, int, int]:
    """Of a row's picture, red, green, blue; its error levels have a tenth of it."""
    return 40 + 14 * row, 250 - 15 * row, 90 + 5 * row


@pytest.fixture
def build(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Path]:
    """A finished run of its data file; ``paths`` are names of some rows."""
    monkeypatch.setattr(hpc_deepfake.audit, "container_baseline", lambda path: CONTAINER)

    def make(name: str = "first", features: tuple[str, ...] = ("ela", "raw"),
             paths: dict[int, bytes] | None = None, reencode: int | None = None) -> Path:
        data, run = tmp_path / "features.h5", tmp_path / name
        names = [(paths or {}).get(row, one[3]) for row, one in enumerate(ROWS)]
        labels = np.array([one[1] for one in ROWS], "u1")
        parts = np.array([("train", "validation", "test").index(one[0]) for one in ROWS], "u1")
        catalogue = Catalogue({"": Path("/pictures")}, names, labels,
                              np.arange(len(ROWS), dtype=np.int32) // 2)
        store.create(data, catalogue, parts, store.Recipe(
            features, Parameters(size=16, reencode=reencode), "30/30/40", "group", 5, "abc",
            len(ROWS)))
        header = store.open_header(data)
        header.array("status", "r+")[:] = store.DONE
        for feature in features:
            for row, picture in enumerate(header.array(feature, "r+")):
                picture[:] = np.array(colour(row)) // (10 if feature == "ela" else 1)
        (tmp_path / "features.h5.json").write_text(
            json.dumps({"ranks": 2, "roots": {"": "/my pictures"}}))
        run.mkdir()
        config = {"data": str(data), "run": str(run), "feature": "ela", "epochs": 2,
                  "learning_rate": 0.001, "sync_bn": True, "stage": None}
        for file, content in (("config", config), ("environment", ENVIRONMENT),
                              ("summary", SUMMARY),
                              ("model", {"feature": "ela", "threshold": 0.5, "parameters": {}})):
            (run / f"{file}.json").write_text(json.dumps(content))
        (run / "metrics.jsonl").write_text("".join(f"{json.dumps(one)}\n" for one in EPOCHS))
        opened = open_data(data, features[0])
        predictions.write(run, opened, {part: np.array(
            [one[2] for one in ROWS if one[0] == part], np.float32)
            for part in ("validation", "test")})
        return run

    return make


def page(run: Path, part: str = "both", **how: object) -> Page:
    """The parsed page of a run, after the checks that every page must stand."""
    command.write(run, run / "report.html", part, **how)
    html = (run / "report.html").read_text(encoding="utf-8")
    found = Page(html)
    check_alone(found, html)
    return found


def cells(found: Page, first: str) -> list[list[str]]:
    """Cells after the first of each table row that begins with it."""
    return [row[1:] for row in found.cells if row and row[0] == first]


def test_the_answer_stands_beside_both_baselines(build):
    """Of the test part, which chose nothing: 5 of 6 right, 4 of 6 are tampered."""
    run = build()
    found = page(run)
    html = (run / "report.html").read_text()
    head = html[html.index("<header>"):html.index("</header>")]
    words = " ".join(unescape(re.sub(r"<[^>]+>", " ", head)).split())
    test = [one for one in ROWS if one[0] == "test"]
    low, high = bootstrap([one[2] for one in test], [one[1] for one in test],
                          [0, 0, 1, 1, 2, 2])["accuracy"]
    assert (low, high) == (0.5, 1)
    for one in ("Run first", "sync on 3 ranks", "Of 6 test pictures the model judged 83.3% rightly",
                "(95% interval 50.0% to 100.0%)", "Always saying “tampered” is right in 66.7%",
                "container alone, without a look at any pixel, in 61.3% of the validation part",
                "don't show that the model beats", "ROC-AUC is 0.875",
                "The test part chose nothing", "container alone, by subsampling, validation part"):
        assert one in words, one
    assert "note" not in [given.get("class") for _, given in found.elements]
    assert "also chose the epoch" in found.text("validation-part")


def test_the_interval_draws_groups_of_common_source(build, monkeypatch):
    """Of the rows judged, not of the file's first ones."""
    given = []
    monkeypatch.setattr(collect, "bootstrap",
                        lambda p, y, groups, threshold: given.append(
                            (p.tolist(), groups.tolist(), threshold)) or {"accuracy": (0.1, 0.2)})
    run = build()
    page(run, "test")
    assert np.allclose(given[0][0], [0.95, 0.8, 0.7, 0.3, 0.2, 0.4])
    assert given[0][1:] == ([4, 4, 5, 5, 6, 6], 0.5)
    assert "(95% interval 10.0% to 20.0%)" in (run / "report.html").read_text()


def test_every_accuracy_has_its_baselines_beside_it(build):
    """In the same table row, caption or legend."""
    found = page(build())
    wanted = {"83.3%": ("66.7%", "61.3%"), "50.0%": ("50.0%", "61.3%")}
    rows = cells(found, "accuracy")
    assert [row[0] for row in rows] == list(wanted)  # test, then validation
    for value, beside in rows:
        assert all(one in beside for one in wanted[value])
    for section in ("test-part", "validation-part"):
        assert re.search(r"Accuracy (\S+); majority class \S+; container alone 61.3%",
                         found.text(section))
    assert "majority class 50.0% container alone 61.3%" in found.text("learning-curves")
    assert "Beside the accuracies: majority class 50.0%; container alone 61.3%" \
        in found.text("learning-curves")


def test_figures_of_both_parts_are_those_of_the_predictions(build):
    found = page(build())
    assert [row[0] for row in cells(found, "ROC-AUC")] == ["0.875", "0.750"]
    assert [row[0] for row in cells(found, "balanced accuracy")] == ["87.5%", "50.0%"]
    assert [row[0] for row in cells(found, "precision")] == ["100.0%", "50.0%"]
    assert [row[0] for row in cells(found, "recall")] == ["75.0%", "50.0%"]
    assert [row[0] for row in cells(found, "F1")] == ["85.7%", "50.0%"]
    # mean of .05², .2², .3², .7², .2², .4²; of .1², .1², .6², .6²
    assert [row[0] for row in cells(found, "Brier score")] == ["0.137", "0.185"]
    loss = -sum(map(math.log, (0.95, 0.8, 0.7, 0.3, 0.8, 0.6))) / 6
    assert cells(found, "cross-entropy")[0][0] == f"{loss:.3f}"
    assert [[cell.split() for cell in row] for row in cells(found, "is authentic")] == \
        [[["2", "100.0%"], ["0", "0.0%"]], [["1", "50.0%"], ["1", "50.0%"]]]
    assert [[cell.split() for cell in row] for row in cells(found, "is tampered")] == \
        [[["1", "25.0%"], ["3", "75.0%"]], [["1", "50.0%"], ["1", "50.0%"]]]
    # the reliability diagram's counts: tenths from 0.2, 0.3, 0.4, 0.7, 0.8 and 0.9
    head = next(at for at, row in enumerate(found.cells) if row[:1] == ["mean given"])
    assert found.cells[head + 1:head + 7] == [
        ["20.0%", "0.0%", "1"], ["30.0%", "100.0%", "1"], ["40.0%", "0.0%", "1"],
        ["70.0%", "100.0%", "1"], ["80.0%", "100.0%", "1"], ["95.0%", "100.0%", "1"]]


def test_curves_are_drawn_where_their_figures_lie(build):
    """The operating point of the ROC curve at (0 of 2 accused, 3 of 4 found), the validation loss
    as a line through its two values."""
    run = build()
    page(run)
    html = (run / "report.html").read_text()

    def chart(label: str) -> str:
        start = html.index(f'aria-label="{label}')
        return html[start:html.index("</svg>", start)]

    def ends(drawn: str, style: str) -> list[list[float]]:
        path = re.search(rf'class="line s-{style}" d="M([^"]+)"', drawn).group(1)
        return [[float(one) for one in point.split()] for point in path.split("L")]

    roc = chart("ROC curve; the area below it is 0.875")
    (left, bottom), (right, top) = ends(roc, "grey dashed thin")
    dot = re.search(r'class="f-orange" cx="([\d.]+)" cy="([\d.]+)"', roc)
    assert float(dot.group(1)) == left
    assert float(dot.group(2)) == pytest.approx(bottom + 0.75 * (top - bottom), abs=0.1)

    def shares(drawn: str) -> list[list[float]]:
        return [[(x - left) / (right - left), (bottom - y) / (bottom - top)]
                for x, y in ends(drawn, "blue")]

    # by falling probability: tampered three times, authentic, tampered, authentic
    assert np.allclose(shares(roc), [[0, 0], [0, 0.75], [0.5, 0.75], [0.5, 1], [1, 1]], atol=1e-3)
    assert np.allclose(shares(chart("precision over recall")), [
        [0.25, 1], [0.75, 1], [0.75, 0.75], [1, 0.8], [1, 2 / 3]], atol=1e-3)

    loss = chart("cross-entropy over the epochs")
    (x1, train1), (x2, train2) = ends(loss, "blue")
    (_, val1), (_, val2) = ends(loss, "orange")
    per_unit = (train2 - train1) / (1.2345 - 0.4321)  # y grows downwards
    assert x1 < x2 and per_unit > 0
    assert val1 - train1 == pytest.approx((1.2345 - 0.8765) * per_unit, abs=0.2)
    assert val2 - train1 == pytest.approx((1.2345 - 0.5678) * per_unit, abs=0.2)
    assert ends(loss, "grey dotted thin")[0][0] == x2  # the best epoch, by the summary


def test_epochs_and_time_are_those_of_the_records(build):
    found = page(build())
    assert cells(found, "1")[0] == ["1.2345", "31.0%", "0.8765", "27.0%", "50.0%", "0.654", "100.0",
                                    "best"]
    assert cells(found, "2")[0] == ["0.4321", "82.0%", "0.5678", "50.0%", "50.0%", "0.750", "146.9",
                                    "best"]
    assert "marks epoch 2, the best by val_auc" in found.text("learning-curves")
    stages = {row[0].partition(":")[0]: row[1:] for row in found.cells if ": " in row[0]}
    assert stages == {"input": ["0.50", "0.250", "10.0%"], "compute": ["2.00", "1.000", "40.0%"],
                      "communication": ["0.75", "0.375", "15.0%"],
                      "evaluate": ["1.25", "0.625", "25.0%"],
                      "checkpoint": ["0.50", "0.250", "10.0%"]}
    time = found.text("time")
    assert "2 epochs of 4 pictures in 6.8 s since the last start; 123.5 images/s" in time
    assert cells(found, "node1") == [["2", "CPU (Xeon)", "4", "mmap", "31", "1,001 MB"]]
    assert cells(found, "node2") == [["1", "CPU (Xeon)", "4", "mmap", "5", "700 MB"]]


def test_settings_environment_and_files(build):
    run = build()
    found = page(run)
    settings, environment = found.text("settings"), found.text("environment")
    assert "--learning-rate 0.001" in settings and "--sync-bn yes" in settings
    assert "--stage" not in settings  # wasn't given
    for one in ("hpc_deepfake 9.8.7", "keras 3.2.1", "MPI Open MPI v4.1.4", "0123456789abcdef",
                "gradients reduced by MPI, ring (forced)", "HOROVOD_CYCLE_TIME 2"):
        assert one in environment
    links = [link for link in found.attributes("a", "href") if not link.startswith("#")]
    assert set(links) == {"predictions.csv", "metrics.jsonl", "summary.json", "config.json",
                          "environment.json", "model.json"}


def test_commands_repeat_the_run(build, tmp_path):
    """With the same options and ranks, into a directory that holds no run yet."""
    run, data = build("my run"), str(tmp_path / "features.h5")
    _, *lines = page(run).sections["repeat-it"]
    commands = [shlex.split(line) for line in "".join(lines).splitlines()
                if line.startswith(("mpirun", "python", "hpc-deepfake", "git"))]
    again = f"{run}-again"
    assert commands == [
        ["git", "checkout", "0123456789abcdef"],
        ["mpirun", "-np", "2", "python", "-m", "preprocessing", "--data", "/my pictures", "--out",
         data, "--features", "ela", "raw", "--quality", "90", "--split", "30/30/40", "--split-by",
         "group", "--seed", "5"],
        ["mpirun", "-np", "3", "python", "-m", "hpc_deepfake.train", "--data", data, "--run", again,
         "--epochs", "2", "--learning-rate", "0.001"],
        ["hpc-deepfake", "evaluate", "--model", again, "--data", data, "--part", "test"],
        ["hpc-deepfake", "evaluate", "--model", again, "--data", data, "--part", "validation"],
        ["hpc-deepfake", "report", again]]
    from hpc_deepfake.train.options import parser as train
    from preprocessing.__main__ import parser as preprocess

    preprocess().parse(commands[1][6:])  # the programs take them
    assert train().parse(commands[2][6:]).learning_rate == 0.001


def test_the_data_file_is_made_again_with_its_reencoding(build):
    assert "--quality 90 --reencode 75 --split" in page(build(reencode=75)).text("repeat-it")


@pytest.mark.parametrize(("command", "words"), [
    (["bin/hpc-deepfake", "train", "--epochs", "3"], ["--epochs", "3"]),
    (["train.py", "--epochs", "3"], ["--epochs", "3"]), ([], [])])
def test_arguments_of_both_ways_to_start_training(command, words):
    assert repeat.arguments(command) == words


def test_examples_show_the_files_own_pictures(build):
    """Surest first, in four kinds; pixels are those of the row, error levels all brightened by
    the same factor."""
    run = build()
    found = page(run)
    words = found.text("examples")
    order = [words.index(one) for one in (
        "Tampered, and found: 3", "Tp/e.jpg", "Tp/f.jpg", "Tp/g.jpg",
        "Authentic, and left alone: 2", "Au/i.jpg", "Au/j.jpg", "Tampered, but missed: 1",
        "Tp/h.jpg", "Authentic, but accused: none")]
    assert order == sorted(order)
    images = [given for tag, given in found.elements if tag == "img"]
    assert [given["alt"] for given in images][:2] == ["the picture: Tp/e.jpg",
                                                      "its error levels: Tp/e.jpg"]
    pixels = [cv2.imdecode(np.frombuffer(base64.b64decode(given["src"].partition(",")[2]), "u1"),
                           cv2.IMREAD_COLOR)[..., ::-1].mean((0, 1)) for given in images]
    shown = [8, 9, 10, 12, 13, 11]  # rows of ROWS
    levels = np.array([np.array(colour(row)) // 10 for row in shown])
    gain = 255 / np.percentile(np.repeat(levels.ravel(), 256), 99.5)
    for at, row in enumerate(shown):
        assert pixels[2 * at] == pytest.approx(colour(row), abs=3)
        assert pixels[2 * at + 1] == pytest.approx(np.minimum(levels[at] * gain, 255), abs=4)
    assert f"brightened {gain:.1f} times" in words


def test_no_more_than_so_many_examples_of_a_kind():
    many = predictions.Predictions(np.arange(50), [f"{n}.jpg" for n in range(50)],
                                   np.ones(50, "u1"), np.linspace(0, 1, 50))
    found, cleared, missed, accused = pictures.kinds(many, 0.5)
    assert (found.all, missed.all, cleared.all, accused.all) == (25, 25, 0, 0)
    assert found.of == list(range(49, 49 - pictures.AT_MOST, -1))
    assert missed.of == list(range(pictures.AT_MOST))


def test_one_part_alone(build):
    run = build()
    found = page(run, "validation")
    assert "test-part" not in found.sections and "validation-part" in found.sections
    assert "Of the validation part" in found.text("examples")
    assert "Of 4 validation pictures" in (run / "report.html").read_text()
    assert "validation-part" not in page(run, "test").sections


def test_no_test_part(build):
    """Then the validation part is the answer, and the page says what that is worth."""
    run = build()
    file = run / "predictions.csv"
    file.write_text("".join(line for line in file.read_text().splitlines(True)
                            if ",test," not in line))
    found = page(run)
    assert "test-part" not in found.sections
    html = (run / "report.html").read_text()
    assert "a fresh test part would score a little lower" in html
    with pytest.raises(InputError, match="no figures of a test part"):
        command.write(run, run / "x.html", "test")


EVIL = ['<script>alert(1)</script>', '"><img src=x onerror=alert(1)>', "'><svg onload=x>",
        "\u202egpj.exe", "a\nb\x1b[31m", "&amp;", "\udcff", "\ud800", "http&#58;//x"]


def test_evil_names_are_shown_not_followed(build):
    """Markup is text, and what can't be seen or turns the writing around is shown as its code."""
    names = dict(zip(range(4, 14), [os.fsencode(f"Tp/{one}.jpg") for one in EVIL[:7]],
                     strict=False))
    run = build('<b onclick="x">&', paths=names)
    found = page(run)
    words = found.text("examples")
    assert "Tp/<script>alert(1)</script>.jpg" not in words  # a validation row
    assert "Tp/\\u202egpj.exe" not in words and "\u202e" not in words
    words = page(run, "validation").text("examples")
    assert "Tp/<script>alert(1)</script>.jpg" in words
    assert 'Tp/"><img src=x onerror=alert(1)>.jpg' in words
    assert "Tp/\\u202egpj.exe.jpg" in words
    assert not any(one in (run / "report.html").read_text() for one in ("\u202e", "\x1b"))
    words = page(run, "test").text("examples")
    assert "Tp/a\\nb\\x1b[31m.jpg" in words
    assert "Tp/&amp;.jpg" in words
    assert "Tp/\\xff.jpg" in words


@pytest.mark.parametrize("evil", EVIL)
def test_evil_records_are_text(build, evil):
    """In every text of every JSON file, and as a further key of everything that has keys."""
    def poisoned(value: object) -> object:
        if isinstance(value, dict):
            return {**{key: poisoned(inner) for key, inner in value.items()}, evil: evil}
        return [poisoned(one) for one in value] if isinstance(value, list) else \
            evil if isinstance(value, str) else value

    run = build()
    for file in ("config.json", "environment.json", "summary.json"):
        (run / file).write_text(json.dumps(poisoned(json.loads((run / file).read_text()))))
    found = page(run, model=False)
    assert cells(found, "2")  # the page is whole


@pytest.mark.parametrize("odd", [None, [], [{}], {"a": [1]}, "x", True, -1, 10**400, 1e308,
                                 math.nan], ids=lambda odd: str(odd)[:9])
def test_records_of_another_shape_never_break_the_page(build, odd):
    """Any value of any record may be of another kind than training writes."""
    run = build()
    (run / "predictions.csv").unlink()
    contents = {file: json.loads((run / file).read_text())
                for file in ("config.json", "environment.json", "summary.json", "model.json")}
    for file, content in contents.items():
        for changed in changes(content, odd):
            (run / file).write_text(json.dumps(changed))
            page(run, model=False)
        (run / file).write_text(json.dumps(content))
    for changed in changes(EPOCHS[1], odd):
        (run / "metrics.jsonl").write_text(f"{json.dumps(EPOCHS[0])}\n{json.dumps(changed)}\n[]\n"
                                           '{"epoch": 3, "lo')
        page(run, model=False)


def changes(value: object, odd: object) -> Iterator[object]:
    """Copies of a JSON value, each with one value in it replaced; of lists the first one."""
    if isinstance(value, dict):
        for key, inner in value.items():
            for changed in (odd, *changes(inner, odd)):
                yield {**value, key: changed}
    elif isinstance(value, list) and value:
        for changed in (odd, *changes(value[0], odd)):
            yield [changed, *value[1:]]


def test_figures_that_are_none(build):
    """An epoch whose loss diverged, a part of one class: dashes, and lines that are interrupted."""
    run = build()
    lines = [{**EPOCHS[0], "loss": None, "val_loss": None, "val_auc": None}, EPOCHS[1]]
    (run / "metrics.jsonl").write_text("".join(f"{json.dumps(one)}\n" for one in lines))
    (run / "predictions.csv").write_text("row,part,path,label,probability\n"
                                         "4,validation,Au/a.jpg,0,0.1\n6,validation,Au/c.jpg,0,nan\n")
    found = page(run)
    assert cells(found, "1")[0][:4] == ["–", "31.0%", "–", "27.0%"]
    assert cells(found, "ROC-AUC")[0][0] == "–"
    html = (run / "report.html").read_text()
    assert "no number as probability" in html
    assert ">nan<" not in html.lower() and "nan" not in found.text("validation-part").split()
    assert not re.search(r'(d|x|y|cx|cy|width|height)="[^"]*(nan|inf)', html)


@pytest.mark.parametrize("empty", ["", "row,part,path,label,probability\n"])
def test_no_predictions_no_model(build, empty):
    """Figures are the summary's; what is missing is said."""
    run = build()
    (run / "predictions.csv").unlink()
    if empty:
        (run / "predictions.csv").write_text(empty)
    found = page(run)
    assert [row[0] for row in cells(found, "accuracy")] == ["50.0%"]
    assert "examples" not in found.sections and "test-part" not in found.sections
    assert "its curves are missing" in found.text("validation-part")
    html = (run / "report.html").read_text()
    assert "its model can&#x27;t compute them now: there is no trained model" in html


def test_the_data_file_is_gone(build, tmp_path):
    run = build()
    (tmp_path / "features.h5").unlink()
    found = page(run)
    assert "there is no data file" in (run / "report.html").read_text()
    assert not found.attributes("img", "src")
    assert "Only names are shown" in found.text("examples")
    assert "Tp/e.jpg" in found.text("examples")
    assert "container alone not known (the data file can't be opened)" in found.text("test-part")
    assert "-m preprocessing" not in found.text("repeat-it")


def test_the_data_file_was_made_anew(build, tmp_path):
    """Other pictures are not shown under the old names."""
    run = build()
    shutil.rmtree(run)
    os.rename(tmp_path / "features.h5", tmp_path / "old.h5")
    run = build(paths={8: b"Tp/another.jpg"})
    file = run / "predictions.csv"
    file.write_text(file.read_text().replace("another", "e"))
    found = page(run)
    assert not found.attributes("img", "src")
    assert "The data file has other pictures in these rows by now" in found.text("examples")


def test_no_raw_feature(build):
    found = page(build(features=("ela",)))
    assert "has no feature “raw”" in found.text("examples")
    assert len(found.attributes("img", "src")) == 6


def test_a_third_feature_is_shown_too(build):
    run = build(features=("ela", "gray_bits", "raw"))
    (run / "summary.json").write_text(json.dumps({**SUMMARY, "feature": "gray_bits"}))
    found = page(run)
    assert len(found.attributes("img", "src")) == 18
    assert "pair of-3" in found.attributes("div", "class")


def test_the_mixed_protocol_is_named(build):
    """Authentic pictures of CASIA 1 against tampered ones of CASIA 2."""
    kinds = b"Au/Au_ani_%04d.jpg", b"Tp/Tp_D_CRN_S_N_cha00063_art00014_%05d.jpg"
    names = {row: kinds[one[1]] % row for row, one in enumerate(ROWS)}
    run = build(paths=names)
    page(run)
    assert "authentic pictures are casia 1" in (run / "report.html").read_text().lower()


def test_the_baseline_is_not_known(build, monkeypatch):
    """The original files have gone: said wherever the figure would stand."""
    run = build()
    monkeypatch.setattr(hpc_deepfake.audit, "container_baseline", lambda path: None)
    found = page(run)
    for row in cells(found, "accuracy"):
        assert "container alone not known (the original files weren't found" in row[1]
    html = (run / "report.html").read_text()
    assert "container alone: not known" in html and "61.3%" not in html


def test_the_baseline_is_left_out_of_large_sets_at_the_end(build, monkeypatch):
    """Reading all headers of a large set would hold up the end of a job."""
    run = build()
    monkeypatch.setattr(command, "MOST_ROWS", len(ROWS) - 1)
    assert command.write_at_the_end(run) == f"report: {run / 'report.html'}"
    assert "too many files to read at the end of training: 14; hpc-deepfake report does" in \
        (run / "report.html").read_text()
    monkeypatch.setattr(command, "MOST_ROWS", len(ROWS))
    assert "95% interval" not in (run / "report.html").read_text().partition("<main>")[0]
    command.write_at_the_end(run)
    assert "61.3%" in (run / "report.html").read_text()
    assert "95% interval" in (run / "report.html").read_text().partition("<main>")[0]


def test_an_unfinished_run_says_so(build):
    run = build()
    (run / "summary.json").unlink()
    page(run)
    assert "not finished when this page was written" in (run / "report.html").read_text()
    (run / "predictions.csv").unlink()
    found = page(run)
    assert "no figures of a validation or test part yet" in (run / "report.html").read_text()
    assert cells(found, "2")[0][0] == "0.4321"


def test_no_run_at_all(tmp_path):
    with pytest.raises(InputError, match="holds no run"):
        command.main([str(tmp_path)])


@pytest.mark.parametrize("content", [
    "row,part,path,label,probability\n1,test,a,2,0.5\n",
    "row,part,path,label,probability\n1,test,a,1,1.5\n",
    "row,part,path,label,probability\n1,test,a,1\n",
    "row,part\n1,test\n", "row,part,path,label,probability\nx,test,a,1,0.5\n",
    "row,part,path,label,probability\n\0,test,a,1,0.5\n"])
def test_damaged_predictions_are_an_input_error(build, content):
    run = build()
    (run / "predictions.csv").write_text(content)
    with pytest.raises(InputError, match=r"predictions\.csv is damaged.*Move it away"):
        command.write(run, run / "report.html")


def test_a_damaged_json_file_is_an_input_error(build):
    run = build()
    (run / "config.json").write_text('{"data": ')
    with pytest.raises(InputError, match=r"config\.json can't be read.*Move it away"):
        command.write(run, run / "report.html")


def test_predictions_come_back_as_they_were_written(build):
    """Odd names and every float32 exactly."""
    names = {4: "Au/é,\"\n.jpg".encode(), 5: b"Tp/\xff.jpg"}
    run = build(paths=names)
    found = predictions.read(run)
    assert found["validation"].paths[:2] == ['Au/é,"\n.jpg', "Tp/\\xff.jpg"]
    assert found["validation"].rows.tolist() == [4, 5, 6, 7]
    assert found["test"].labels.tolist() == [1, 1, 1, 1, 0, 0]
    values = np.random.default_rng(0).random(1000, np.float32)
    data = SimpleNamespace(rows=lambda part: np.arange(1000), labels=np.zeros(1000, int),
                           header=SimpleNamespace(array=lambda name: np.full(1000, b"x")))
    predictions.write(run, data, {"test": values})
    assert np.array_equal(predictions.read(run)["test"].probabilities.astype(np.float32), values)


def test_out_elsewhere_links_back_to_the_run(build, tmp_path, capsys):
    run = build("a:b c")
    (tmp_path / "pages").mkdir()
    assert command.main([str(run), "--out", str(tmp_path / "pages")]) == 0
    assert capsys.readouterr().out == f"report: {tmp_path / 'pages' / 'report.html'}\n"
    html = (tmp_path / "pages" / "report.html").read_text()
    assert "../a%3Ab%20c/metrics.jsonl" in Page(html).attributes("a", "href")
    assert not (run / "report.html").exists()
    with pytest.raises(InputError, match=r"cannot write the report .*--out"):
        command.main([str(run), "--out", str(tmp_path / "nowhere" / "x.html")])


def test_the_same_run_gives_the_same_page(build):
    run = build()
    page(run)
    before = (run / "report.html").read_bytes()
    page(run)
    assert (run / "report.html").read_bytes() == before


def test_a_report_that_fails_is_one_line_and_no_failure(build, monkeypatch):
    """Training has written its files by then."""
    run = build()
    monkeypatch.setattr(hpc_deepfake.audit, "container_baseline", lambda path: 1 / 0)
    said = command.write_at_the_end(run)
    assert said.startswith("note: report.html could not be written (ZeroDivisionError: ")
    assert f"hpc-deepfake report {run} tries again" in said and "\n" not in said
    assert not (run / "report.html").exists()


@pytest.mark.parametrize(("share", "rows", "low", "high"), [
    (0.5, 10, 0.2366, 0.7634), (0, 10, 0, 0.2775), (1, 10, 0.7225, 1), (0.1, 1000, 0.0829, 0.1202)])
def test_wilson_interval(share, rows, low, high):
    """Known values, as R's binom::binom.wilson gives them."""
    assert wilson(share, rows) == pytest.approx((low, high), abs=1e-4)


@pytest.mark.parametrize(("low", "high", "found"), [
    (0, 1, [0, 0.2, 0.4, 0.6, 0.8, 1]), (0, 7, [0, 2, 4, 6]), (1, 12, [5, 10]),
    (0.4, 1, [0.4, 0.6, 0.8, 1]), (3, 3, [3])])
def test_ticks_are_round_and_inside(low, high, found):
    assert ticks(low, high) == pytest.approx(found)


@pytest.mark.slow
def test_training_writes_both_files_and_an_old_run_is_computed_again(data_file, tmp_path):
    """On two ranks; figures of all three ways agree, and ``--no-report`` leaves the page out."""
    train = ["hpc_deepfake.train", "--data", data_file, "--epochs", "1", "--batch-size", "8",
             "--device", "cpu", "--run", "run"]
    done = run_program(*train, ranks=2, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "report: run/report.html" in done.stdout
    run = tmp_path / "run"
    found = Page((run / "report.html").read_text())
    check_alone(found, (run / "report.html").read_text())
    summary = json.loads((run / "summary.json").read_text())
    for at, part in enumerate(("test", "validation")):
        assert cells(found, "accuracy")[at][0] == f"{summary[part]['accuracy']:.1%}"
        assert cells(found, "ROC-AUC")[at][0] == f"{summary[part]['auc']:.3f}"
        noted = predictions.read(run)[part]
        assert len(noted) == summary[part]["rows"]
        assert ((noted.probabilities >= 0.5) == noted.labels).mean() == \
            pytest.approx(summary[part]["accuracy"])
    (run / "predictions.csv").unlink()
    done = run_program("hpc_deepfake.cli", "report", "run", "--out", "again.html", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    again = Page((tmp_path / "again.html").read_text())
    assert [row[0] for row in cells(again, "ROC-AUC")] == \
        [row[0] for row in cells(found, "ROC-AUC")]
    assert "again.html" in done.stdout
    done = run_program(*train[:-1], "quiet", "--no-report", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "quiet" / "predictions.csv").exists()
    assert not (tmp_path / "quiet" / "report.html").exists() and "report" not in done.stdout
