"""The page of a run: its figures, robustness against any records, and nothing from outside."""

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
from conftest import ROOT, run_program
from data_files import seal
from mean_network import MapNetwork
from pages import Page, check_alone

import hpc_deepfake.audit
from hpc_deepfake import report as command
from hpc_deepfake.core.errors import InputError
from hpc_deepfake.data.rows import open_data
from hpc_deepfake.metrics import temperature
from hpc_deepfake.metrics.intervals import bootstrap
from hpc_deepfake.network import device, maps
from hpc_deepfake.network import model as network_model
from hpc_deepfake.report import collect, pictures, repeat, summary, where
from hpc_deepfake.report.results import wilson
from hpc_deepfake.train import predictions
from preprocessing import store
from preprocessing.catalogue import Catalogue
from preprocessing.ela import Parameters

# part, label, probability and path of each picture; the figures below follow from these
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
    """Colour of a row's picture, red-green-blue; its error levels have a tenth of it."""
    return 40 + 14 * row, 250 - 15 * row, 90 + 5 * row


@pytest.fixture
def build(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Path]:
    """Makes a finished run and its data file; ``paths`` replaces the paths of rows."""
    monkeypatch.setattr(hpc_deepfake.audit, "container_baseline", lambda path: CONTAINER)

    def make(name: str = "first", features: tuple[str, ...] = ("ela", "raw"),
             paths: dict[int, bytes] | None = None, reencode: int | None = None,
             margin: float | None = None,
             split: tuple[str, str] = ("30/30/40", "group"), masks: bool = False,
             **made: str) -> Path:
        data, run = tmp_path / "features.h5", tmp_path / name
        names = [(paths or {}).get(row, picture[3]) for row, picture in enumerate(ROWS)]
        labels = np.array([row[1] for row in ROWS], "u1")
        parts = np.array([("train", "validation", "test").index(row[0]) for row in ROWS], "u1")
        catalogue = Catalogue({"": Path("/pictures")}, names, labels,
                              np.arange(len(ROWS), dtype=np.int32) // 2)
        parameters = Parameters(size=16, reencode=reencode, crop=margin and "faces", margin=margin)
        store.create(data, catalogue, parts, store.Recipe(
            features, parameters, *split, 5, "abc", len(ROWS),
            group_by="name" if made else "auto", masks="digest" * masks))
        header = store.open_header(data)
        header.array("status", "r+")[:] = store.DONE
        for feature in features:
            for row, picture in enumerate(header.array(feature, "r+")):
                picture[:] = np.array(colour(row)) // (10 if feature == "ela" else 1)
                if masks and feature == "ela":  # brightest where the mask is, the less the later
                    picture[:] = 20
                    picture[:8, :8] = 200 - 15 * row if ROWS[row][1] else 12 * row
        if masks:
            header.array("mask", "r+")[:, :8, :8] = (labels == 1)[:, None, None]
        seal(data)
        (tmp_path / "features.h5.json").write_text(
            json.dumps({"ranks": 2, "roots": {"": "/my pictures"}, **made}))
        run.mkdir()
        config = {"data": str(data), "run": str(run), "feature": "ela", "epochs": 2,
                  "learning_rate": 0.001, "sync_bn": True, "stage": None}
        for file, content in (("config", config), ("environment", ENVIRONMENT),
                              ("summary", SUMMARY),
                              ("model", {"feature": "ela", "threshold": 0.5, "parameters": {}})):
            (run / f"{file}.json").write_text(json.dumps(content))
        (run / "metrics.jsonl").write_text("".join(f"{json.dumps(epoch)}\n" for epoch in EPOCHS))
        opened = open_data(data, features[0])
        predictions.write(run, opened, {part: np.array(
            [row[2] for row in ROWS if row[0] == part], np.float32)
            for part in ("validation", "test")})
        return run

    return make


def page(run: Path, part: str = "both", **options: object) -> Page:
    """The parsed page of a run, after the checks that every page must pass."""
    command.write(run, run / "report.html", part, **options)
    html = (run / "report.html").read_text(encoding="utf-8")
    parsed = Page(html)
    check_alone(parsed, html)
    return parsed


def cells(page: Page, first: str) -> list[list[str]]:
    """The other cells of each table row whose first cell is ``first``."""
    return [row[1:] for row in page.cells if row and row[0] == first]


CARD = {"feature": "ela", "threshold": 0.5, "parameters": {}, "temperature": 1.25, "trained_on": {
    "data": [{"name": "<CASIA2>", "pictures": 11, "authentic": 5, "tampered": 6}], "sample": True,
    "train": 7, "validation": 4, "width": [240, 384, 900], "height": None, "formats": {"JPEG": 7},
    "qualities": {"min": 80, "median": 80, "max": 80}}, "validation": {
        "epoch": 2, "accuracy": 0.5, "auc": 0.75, "intervals": {"auc": [0.5, 1.0]}}}


@pytest.fixture
def says_where(build, monkeypatch):
    """Makes a run whose model says that what is bright was changed, and its data file with masks.
    """
    def make(**options: object) -> Path:
        run = build(masks=True, **options)
        (run / "model.keras").touch()
        (run / "model.json").write_text(json.dumps({**CARD, "mask_threshold": 100}))
        (run / "summary.json").write_text(json.dumps({**SUMMARY, "test": {
            "pixel_auc": 0.8127, "pixel_f1": 0.4376, "pixel_iou": 0.28}}))
        monkeypatch.setattr(network_model, "load", lambda _: MapNetwork(size=16))
        monkeypatch.setattr(maps, "has", lambda _: True)
        monkeypatch.setattr(maps, "both", lambda network: network)
        monkeypatch.setattr(device, "start", lambda *_, **__: None)
        monkeypatch.setattr(where, "EACH", 1)
        return run

    return make


def test_masks_stand_beside_the_maps_of_a_model(says_where, capsys):
    """Those located best, worst and in between, and the authentic picture of which it calls most
    changed, with their figures; and those of all pictures, from the summary."""
    run = says_where()
    parsed = page(run)
    text = parsed.text("where-they-were-changed")
    assert "4 tampered pictures with a mask" in text and "2 authentic ones" in text
    shown = re.findall(r"(ROC-AUC [\d.]+, F1 [\d.]+%; )?([\d.]+%) called changed(, [\d.]+%)?.*?"
                       r"((?:Tp|Au)/.\.jpg)", text, re.DOTALL)
    # rows 8 to 11 have 80, 65, 50 and 35 in their masks: none reaches 100, all are ordered alike
    assert [found[3] for found in shown] == ["Tp/e.jpg", "Tp/f.jpg", "Tp/h.jpg", "Au/j.jpg"]
    assert shown[0][:3] == ("ROC-AUC 1.000, F1 0.0%; ", "0.0%", ", 25.0%")
    assert shown[3][:3] == ("", "25.0%", "")  # row 13 has 156 there
    assert cells(parsed, "ROC-AUC of pixels")[0][0] == "0.813"
    assert cells(parsed, "F1 of pixels")[0][0] == "43.8%"
    assert cells(parsed, "called changed")[0][0].startswith("a place from 39.2% of the map")
    summary.main([str(run)])
    head, _, tested, *_ = capsys.readouterr().out.splitlines()
    assert head.split()[:4] == ["accuracy", "AUC", "pixel", "AUC"] and "  0.813  test" in tested
    html = (run / "report.html").read_text()
    mask, level = (cv2.imdecode(np.frombuffer(base64.b64decode(data), np.uint8), -1)
                   for data in re.findall('alt="(?:its mask|the model’s map): Tp/e.jpg" '
                                          'src="data:image/png;base64,([^"]*)"', html))
    assert (mask[:8, :8] == 255).all() and mask.sum() == 255 * 64
    assert (level[:8, :8] == 80).all() and level[9, 9] == 20


@pytest.mark.parametrize("what", ["mask_threshold", "masks", "rows", "damaged", "model"])
def test_without_masks_or_a_map_the_page_has_no_such_section(says_where, build, monkeypatch, what):
    """Also where the data file was damaged or replaced since, or the model can't be loaded."""
    run = says_where()
    data = Path(json.loads((run / "config.json").read_text())["data"])
    if what == "mask_threshold":
        (run / "model.json").write_text(json.dumps(CARD))
    elif what == "masks":
        data.unlink()
        shutil.rmtree(run)
        build()
        (run / "model.json").write_text(json.dumps({**CARD, "mask_threshold": 100}))
        (run / "model.keras").touch()
    elif what == "rows":
        (run / "predictions.csv").write_text((run / "predictions.csv").read_text().replace(
            "Tp/e", "Tp/z"))
    elif what == "damaged":
        store.open_header(data).array("mask", "r+")[8, 0, 0] = 0
    else:
        monkeypatch.setattr(network_model, "load", lambda _: (_ for _ in ()).throw(
            InputError("no weights")))
    parsed = page(run)
    assert "where-they-were-changed" not in (run / "report.html").read_text()
    if what == "model":
        assert "Maps of the model are missing here: no weights" in page_text(run)
    assert cells(parsed, "accuracy")


@pytest.mark.parametrize(("card", "said", "rows"), [
    (CARD, ["trained on drawn sample pictures; not for photographs", "hardly better than chance"],
     {"<CASIA2>": ["11", "5", "6"], "formats": ["JPEG 7"], "JPEG quality": ["80"],
      "width": ["240 to 900 pixels, median 384"], "height": ["unknown"],
      "drawn by this project": ["yes"],
      "validation, epoch 2": ["accuracy 50.0%, ROC-AUC 0.750 (95%: 0.500 to 1.000)"]}),
    ({**CARD, "trained_on": {"sample": True, "data": [{"name": "drawn"}, {"name": "CASIA2"}]}},
     ["trained partly on drawn sample pictures", "hardly"], {"drawn by this project": ["in part"]}),
    ({**CARD, "trained_on": None}, ["does not say what it was trained on"], {}),
    ({**CARD, "trained_on": {"random": True}}, ["trained on random pixels", "hardly"], {}),
    ({**CARD, "trained_on": {"sample": None, "data": 3, "width": "wide", "formats": [1]},
      "validation": {"intervals": [1]}, "threshold_chosen": {"rule": 3}}, [],
     {"formats": ["unknown"], "drawn by this project": ["unknown"]})])
def test_what_the_model_was_trained_on(build, capsys, card, said, rows):
    """On the page and in the summary, whatever the card holds."""
    run = build()
    (run / "model.keras").write_bytes(b"")
    (run / "model.json").write_text(json.dumps(card))
    parsed = page(run)
    words = " ".join(unescape(re.sub(r"<[^>]+>", " ", (run / "report.html").read_text())).split())
    head = words[:words.index("What the model was trained on")]
    summary.main([str(run)])
    printed = capsys.readouterr().out
    assert head.count("Model: ") == len(said) and "trained on" in printed
    for caveat in said:
        assert f"Model: {caveat}" in head and f"\n  {caveat}" in printed
    for first, expected in rows.items():
        assert cells(parsed, first) == [expected], first


def test_examples_have_the_probabilities_of_predict_and_a_damaged_card_is_told(build):
    """The curves and predictions.csv have the network's own, and the page says so."""
    run = build()
    (run / "model.keras").write_bytes(b"")
    plain = page_text(run)
    (run / "model.json").write_text(json.dumps({**CARD, "temperature": 4.0}))
    calibrated = page_text(run)
    said = "predict divides their log-odds by the model’s temperature, 4."
    assert said in calibrated and said not in plain
    shown = re.findall(r"([\d.]+)% tampered; is", plain)
    expected = temperature.apply([float(value) / 100 for value in shown], 4)
    assert [float(value) for value in re.findall(r"([\d.]+)% tampered; is", calibrated)] == \
        pytest.approx((100 * expected).tolist(), abs=0.1)
    (run / "model.json").write_text(json.dumps({**CARD, "trained_on": {"sample": "yes"}}))
    assert "The model's card" in page_text(run) and "neither true nor false" in page_text(run)


def page_text(run: Path) -> str:
    page(run)
    return " ".join(unescape(re.sub(r"<[^>]+>", " ", (run / "report.html").read_text())).split())


def test_the_result_stands_beside_both_baselines(build):
    """Of the test part, on which nothing was chosen: 5 of 6 are correct, 4 of 6 tampered."""
    run = build()
    parsed = page(run)
    html = (run / "report.html").read_text()
    head = html[html.index("<header>"):html.index("</header>")]
    words = " ".join(unescape(re.sub(r"<[^>]+>", " ", head)).split())
    test = [row for row in ROWS if row[0] == "test"]
    low, high = bootstrap([row[2] for row in test], [row[1] for row in test],
                          [0, 0, 1, 1, 2, 2])["accuracy"]
    assert (low, high) == (0.5, 1)
    for text in ("Run first", "sync on 3 ranks",
                 "The model classified 83.3% of 6 test pictures correctly",
                 "(95% interval 50.0% to 100.0%)",
                 "Always predicting “tampered” is correct for 66.7%",
                 "container alone, without any pixel, for 61.3% of the validation part",
                 "don't show that the model is better", "ROC-AUC is 0.875",
                 "Nothing in this run was chosen on the test part",
                 "container alone, by subsampling, validation part"):
        assert text in words, text
    assert "note" not in [attributes.get("class") for _, attributes in parsed.elements]
    assert "also selected the epoch" in parsed.text("validation-part")


def test_the_interval_samples_groups_of_common_source(build, monkeypatch):
    """The groups are those of the part's rows, not those of the first rows of the file."""
    calls = []
    monkeypatch.setattr(collect, "bootstrap",
                        lambda p, y, groups, threshold: calls.append(
                            (p.tolist(), groups.tolist(), threshold)) or {"accuracy": (0.1, 0.2)})
    run = build()
    page(run, "test")
    assert np.allclose(calls[0][0], [0.95, 0.8, 0.7, 0.3, 0.2, 0.4])
    assert calls[0][1:] == ([4, 4, 5, 5, 6, 6], 0.5)
    assert "(95% interval 10.0% to 20.0%)" in (run / "report.html").read_text()


def test_every_accuracy_has_its_baselines_beside_it(build):
    """In the same table row, caption or legend."""
    parsed = page(build())
    expected = {"83.3%": ("66.7%", "61.3%"), "50.0%": ("50.0%", "61.3%")}
    rows = cells(parsed, "accuracy")
    assert [row[0] for row in rows] == list(expected)  # test, then validation
    for value, beside in rows:
        assert all(baseline in beside for baseline in expected[value])
    for section in ("test-part", "validation-part"):
        assert re.search(r"Accuracy (\S+); majority class \S+; container alone 61.3%",
                         parsed.text(section))
    assert "majority class 50.0% container alone 61.3%" in parsed.text("learning-curves")
    assert "Beside the accuracies: majority class 50.0%; container alone 61.3%" \
        in parsed.text("learning-curves")


def test_figures_of_both_parts_follow_from_the_predictions(build):
    parsed = page(build())
    assert [row[0] for row in cells(parsed, "ROC-AUC")] == ["0.875", "0.750"]
    assert [row[0] for row in cells(parsed, "balanced accuracy")] == ["87.5%", "50.0%"]
    assert [row[0] for row in cells(parsed, "precision")] == ["100.0%", "50.0%"]
    assert [row[0] for row in cells(parsed, "recall")] == ["75.0%", "50.0%"]
    assert [row[0] for row in cells(parsed, "F1")] == ["85.7%", "50.0%"]
    # mean of .05², .2², .3², .7², .2², .4²; of .1², .1², .6², .6²
    assert [row[0] for row in cells(parsed, "Brier score")] == ["0.137", "0.185"]
    loss = -sum(map(math.log, (0.95, 0.8, 0.7, 0.3, 0.8, 0.6))) / 6
    assert cells(parsed, "cross-entropy")[0][0] == f"{loss:.3f}"
    assert [[cell.split() for cell in row] for row in cells(parsed, "is authentic")] == \
        [[["2", "100.0%"], ["0", "0.0%"]], [["1", "50.0%"], ["1", "50.0%"]]]
    assert [[cell.split() for cell in row] for row in cells(parsed, "is tampered")] == \
        [[["1", "25.0%"], ["3", "75.0%"]], [["1", "50.0%"], ["1", "50.0%"]]]
    # the reliability diagram's counts: tenths from 0.2, 0.3, 0.4, 0.7, 0.8 and 0.9
    head = next(at for at, row in enumerate(parsed.cells) if row[:1] == ["mean probability"])
    assert parsed.cells[head + 1:head + 7] == [
        ["20.0%", "0.0%", "1"], ["30.0%", "100.0%", "1"], ["40.0%", "0.0%", "1"],
        ["70.0%", "100.0%", "1"], ["80.0%", "100.0%", "1"], ["95.0%", "100.0%", "1"]]


def test_curves_are_drawn_at_their_values(build):
    """The operating point of the ROC curve at (0 of 2 false positives, 3 of 4 true positives), the
    validation loss as a line through its two values."""
    run = build()
    page(run)
    html = (run / "report.html").read_text()

    def chart(label: str) -> str:
        start = html.index(f'aria-label="{label}')
        return html[start:html.index("</svg>", start)]

    def ends(drawn: str, style: str) -> list[list[float]]:
        path = re.search(rf'class="line s-{style}" d="M([^"]+)"', drawn).group(1)
        return [[float(number) for number in point.split()] for point in path.split("L")]

    roc = chart("ROC curve; the area below it is 0.875")
    (left, bottom), (right, top) = ends(roc, "grey dashed thin")
    dot = re.search(r'class="f-orange" cx="([\d.]+)" cy="([\d.]+)"', roc)
    assert float(dot.group(1)) == left
    assert float(dot.group(2)) == pytest.approx(bottom + 0.75 * (top - bottom), abs=0.1)

    def shares(drawn: str) -> list[list[float]]:
        return [[(x - left) / (right - left), (bottom - y) / (bottom - top)]
                for x, y in ends(drawn, "blue")]

    # in order of falling probability: tampered three times, authentic, tampered, authentic
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


def test_epochs_and_times_equal_the_records(build):
    parsed = page(build())
    assert cells(parsed, "1")[0] == [
        "1.2345", "31.0%", "0.8765", "27.0%", "50.0%", "0.654", "100.0", "75.0", "best"]
    assert cells(parsed, "2")[0] == [
        "0.4321", "82.0%", "0.5678", "50.0%", "50.0%", "0.750", "146.9", "73.5", "best"]
    assert "marks epoch 2, the best by val_auc" in parsed.text("learning-curves")
    stages = {row[0].partition(":")[0]: row[1:] for row in parsed.cells if ": " in row[0]}
    assert stages == {"input": ["0.50", "0.250", "10.0%"], "compute": ["2.00", "1.000", "40.0%"],
                      "communication": ["0.75", "0.375", "15.0%"],
                      "evaluate": ["1.25", "0.625", "25.0%"],
                      "checkpoint": ["0.50", "0.250", "10.0%"]}
    time = parsed.text("time")
    assert "2 epochs of 4 pictures in 6.8 s since the last start; 123.5 images/s in training, " \
        "74.2 by the wall clock, with validation and saving" in time
    assert cells(parsed, "node1") == [["2", "CPU (Xeon)", "4", "mmap", "31", "1,001 MB"]]
    assert cells(parsed, "node2") == [["1", "CPU (Xeon)", "4", "mmap", "5", "700 MB"]]


def test_settings_environment_and_files(build):
    run = build()
    parsed = page(run)
    settings, environment = parsed.text("settings"), parsed.text("environment")
    assert "--learning-rate 0.001" in settings and "--sync-bn yes" in settings
    assert "--stage" not in settings  # an option without a value
    for text in ("hpc_deepfake 9.8.7", "keras 3.2.1", "MPI Open MPI v4.1.4", "0123456789abcdef",
                 "gradients reduced by MPI, ring (forced)", "HOROVOD_CYCLE_TIME 2"):
        assert text in environment
    links = [link for link in parsed.attributes("a", "href") if not link.startswith("#")]
    assert set(links) == {"predictions.csv", "metrics.jsonl", "summary.json", "config.json",
                          "environment.json", "model.json"}


def test_commands_repeat_the_run(build, tmp_path):
    """With the same options and ranks, in a new run directory."""
    run, data = build("my run"), str(tmp_path / "features.h5")
    _, *lines = page(run).sections["repeat-the-run"]
    commands = [shlex.split(line) for line in "".join(lines).splitlines()
                if line.startswith(("mpirun", "python", "hpc-deepfake", "git"))]
    again = f"{run}-again"
    assert commands == [
        ["git", "checkout", "0123456789abcdef"],
        ["mpirun", "-np", "2", "python", "-m", "preprocessing", "--data", "/my pictures", "--out",
         data, "--features", "ela", "raw", "--quality", "90", "--size", "16", "--split", "30/30/40",
         "--split-by", "group", "--seed", "5"],
        ["mpirun", "-np", "3", "python", "-m", "hpc_deepfake.train", "--data", data, "--run", again,
         "--epochs", "2", "--learning-rate", "0.001"],
        ["hpc-deepfake", "evaluate", "--model", again, "--data", data, "--part", "test"],
        ["hpc-deepfake", "evaluate", "--model", again, "--data", data, "--part", "validation"],
        ["hpc-deepfake", "report", again]]
    from hpc_deepfake.train.options import parser as train
    from preprocessing.__main__ import parser as preprocess

    # the programs accept them, except the size of these tests
    preprocess().parse(["64" if word == "16" else word for word in commands[1][6:]])
    assert train().parse(commands[2][6:]).learning_rate == 0.001


def test_the_data_file_is_made_again_with_its_reencoding(build):
    text = page(build(reencode=75)).text("repeat-the-run")
    assert "--quality 90 --reencode 75 --size 16 --split" in text


def test_the_data_file_is_made_again_with_its_faces(build):
    assert "--size 16 --crop faces --margin 1.6 --split" in page(
        build(margin=1.6)).text("repeat-the-run")


def test_the_data_file_is_made_again_from_its_list_with_its_authors_split(build):
    run = build(split=("author's train/test, rest 80/20", "manifest"), manifest="/lists/a.csv")
    text = page(run).text("repeat-the-run")
    assert "--data '/my pictures' --manifest /lists/a.csv --out" in text
    assert "--quality 90 --size 16 --group-by name --seed 5" in text and "--split" not in text


@pytest.mark.parametrize(("command", "words"), [
    (["bin/hpc-deepfake", "train", "--epochs", "3"], ["--epochs", "3"]),
    (["train.py", "--epochs", "3"], ["--epochs", "3"]), ([], [])])
def test_arguments_of_both_ways_to_start_training(command, words):
    assert repeat.arguments(command) == words


def test_examples_show_the_files_own_pictures(build):
    """Most confident first, in four kinds; pixels are those of the row, all error levels are
    brightened by the same factor."""
    run = build()
    parsed = page(run)
    words = parsed.text("examples")
    order = [words.index(text) for text in (
        "Tampered, detected: 3", "Tp/e.jpg", "Tp/f.jpg", "Tp/g.jpg", "Authentic, accepted: 2",
        "Au/i.jpg", "Au/j.jpg", "Tampered, missed: 1", "Tp/h.jpg",
        "Authentic, false alarms: none")]
    assert order == sorted(order)
    images = [attributes for tag, attributes in parsed.elements if tag == "img"]
    assert [image["alt"] for image in images][:2] == ["the picture: Tp/e.jpg",
                                                      "its error levels: Tp/e.jpg"]
    pixels = [cv2.imdecode(np.frombuffer(base64.b64decode(image["src"].partition(",")[2]), "u1"),
                           cv2.IMREAD_COLOR)[..., ::-1].mean((0, 1)) for image in images]
    shown = [8, 9, 10, 12, 13, 11]  # rows of ROWS
    levels = np.array([np.array(colour(row)) // 10 for row in shown])
    gain = 255 / np.percentile(np.repeat(levels.ravel(), 256), 99.5)
    for at, row in enumerate(shown):
        assert pixels[2 * at] == pytest.approx(colour(row), abs=3)
        assert pixels[2 * at + 1] == pytest.approx(np.minimum(levels[at] * gain, 255), abs=4)
    assert f"brightened {gain:.1f} times" in words


def test_number_of_examples_of_a_kind_is_limited():
    many = predictions.Predictions(np.arange(50), [f"{n}.jpg" for n in range(50)],
                                   np.ones(50, "u1"), np.linspace(0, 1, 50))
    detected, accepted, missed, alarms = pictures.kinds(many, 0.5)
    assert (detected.all, missed.all, accepted.all, alarms.all) == (25, 25, 0, 0)
    assert detected.of == list(range(49, 49 - pictures.AT_MOST, -1))
    assert missed.of == list(range(pictures.AT_MOST))


def test_one_part_alone(build):
    run = build()
    parsed = page(run, "validation")
    assert "test-part" not in parsed.sections and "validation-part" in parsed.sections
    assert "Of the validation part" in parsed.text("examples")
    assert "of 4 validation pictures" in (run / "report.html").read_text()
    assert "validation-part" not in page(run, "test").sections


def test_no_test_part(build):
    """The page then leads with the validation part and says what its figures are worth."""
    run = build()
    file = run / "predictions.csv"
    file.write_text("".join(line for line in file.read_text().splitlines(True)
                            if ",test," not in line))
    parsed = page(run)
    assert "test-part" not in parsed.sections
    html = (run / "report.html").read_text()
    assert "figures of a fresh test part would be slightly lower" in html
    with pytest.raises(InputError, match="no figures of a test part"):
        command.write(run, run / "x.html", "test")


EVIL = ['<script>alert(1)</script>', '"><img src=x onerror=alert(1)>', "'><svg onload=x>",
        "\u202egpj.exe", "a\nb\x1b[31m", "&amp;", "\udcff", "\ud800", "http&#58;//x"]


def test_malicious_names_are_shown_as_text(build):
    """Markup is text; invisible characters and changes of writing direction are shown as codes."""
    names = dict(zip(range(4, 14), [os.fsencode(f"Tp/{name}.jpg") for name in EVIL[:7]],
                     strict=False))
    run = build('<b onclick="x">&', paths=names)
    parsed = page(run)
    words = parsed.text("examples")
    assert "Tp/<script>alert(1)</script>.jpg" not in words  # a validation row
    assert "Tp/\\u202egpj.exe" not in words and "\u202e" not in words
    words = page(run, "validation").text("examples")
    assert "Tp/<script>alert(1)</script>.jpg" in words
    assert 'Tp/"><img src=x onerror=alert(1)>.jpg' in words
    assert "Tp/\\u202egpj.exe.jpg" in words
    assert not any(code in (run / "report.html").read_text() for code in ("\u202e", "\x1b"))
    words = page(run, "test").text("examples")
    assert "Tp/a\\nb\\x1b[31m.jpg" in words
    assert "Tp/&amp;.jpg" in words
    assert "Tp/\\xff.jpg" in words


@pytest.mark.parametrize("evil", EVIL)
def test_malicious_records_are_shown_as_text(build, evil):
    """In place of every text in every JSON file, and as an additional key of every object."""
    def poisoned(value: object) -> object:
        if isinstance(value, dict):
            return {**{key: poisoned(inner) for key, inner in value.items()}, evil: evil}
        return [poisoned(inner) for inner in value] if isinstance(value, list) else \
            evil if isinstance(value, str) else value

    run = build()
    for file in ("config.json", "environment.json", "summary.json"):
        (run / file).write_text(json.dumps(poisoned(json.loads((run / file).read_text()))))
    parsed = page(run, model=False)
    assert cells(parsed, "2")  # the page is complete


@pytest.mark.parametrize("odd", [None, [], [{}], {"a": [1]}, "x", True, -1, 10**400, 1e308,
                                 math.nan], ids=lambda odd: str(odd)[:9])
def test_malformed_records_never_break_the_page(build, odd):
    """Any value of any record may have another type than training writes."""
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
    """Copies of a JSON value, each with a single value replaced; in a list, the first."""
    if isinstance(value, dict):
        for key, inner in value.items():
            for changed in (odd, *changes(inner, odd)):
                yield {**value, key: changed}
    elif isinstance(value, list) and value:
        for changed in (odd, *changes(value[0], odd)):
            yield [changed, *value[1:]]


def test_undefined_figures(build):
    """An epoch with a diverged loss, a part with one class: dashes, and interrupted lines."""
    run = build()
    lines = [{**EPOCHS[0], "loss": None, "val_loss": None, "val_auc": None}, EPOCHS[1]]
    (run / "metrics.jsonl").write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    (run / "predictions.csv").write_text("row,part,path,label,probability\n"
                                         "4,validation,Au/a.jpg,0,0.1\n6,validation,Au/c.jpg,0,nan\n")
    parsed = page(run)
    assert cells(parsed, "1")[0][:4] == ["–", "31.0%", "–", "27.0%"]
    assert cells(parsed, "ROC-AUC")[0][0] == "–"
    html = (run / "report.html").read_text()
    assert "probability is not a number for some pictures" in html
    assert ">nan<" not in html.lower() and "nan" not in parsed.text("validation-part").split()
    assert not re.search(r'(d|x|y|cx|cy|width|height)="[^"]*(nan|inf)', html)


@pytest.mark.parametrize("empty", ["", "row,part,path,label,probability\n"])
def test_no_predictions_no_model(build, empty):
    """The figures are those of the summary; the page says what is missing."""
    run = build()
    (run / "predictions.csv").unlink()
    if empty:
        (run / "predictions.csv").write_text(empty)
    parsed = page(run)
    assert [row[0] for row in cells(parsed, "accuracy")] == ["50.0%"]
    assert "examples" not in parsed.sections and "test-part" not in parsed.sections
    assert "its curves are missing" in parsed.text("validation-part")
    html = (run / "report.html").read_text()
    assert "its model can&#x27;t compute the probabilities now: there is no trained model" in html


def test_damaged_examples_are_not_shown(build, tmp_path):
    """With the reason; rows of the training part don't matter."""
    run = build()
    pixels = store.open_header(tmp_path / "features.h5").array("raw", "r+")
    pixels[next(number for number, row in enumerate(ROWS) if row[0] == "train")] ^= 1
    assert page(run).attributes("img", "src")
    pixels[next(number for number, row in enumerate(ROWS) if row[0] == "validation")] ^= 1
    parsed = page(run, "validation")
    assert not parsed.attributes("img", "src")
    assert "are damaged: see hpc-deepfake verify" in parsed.text("examples")


def test_the_data_file_is_missing(build, tmp_path):
    run = build()
    (tmp_path / "features.h5").unlink()
    parsed = page(run)
    assert "there is no data file" in (run / "report.html").read_text()
    assert not parsed.attributes("img", "src")
    assert "Only names are shown" in parsed.text("examples")
    assert "Tp/e.jpg" in parsed.text("examples")
    assert "container alone unknown (the data file can't be opened)" in parsed.text("test-part")
    assert "-m preprocessing" not in parsed.text("repeat-the-run")


def test_the_data_file_was_replaced(build, tmp_path):
    """Its pictures are not shown under the names of the old ones."""
    run = build()
    shutil.rmtree(run)
    os.rename(tmp_path / "features.h5", tmp_path / "old.h5")
    run = build(paths={8: b"Tp/another.jpg"})
    file = run / "predictions.csv"
    file.write_text(file.read_text().replace("another", "e"))
    parsed = page(run)
    assert not parsed.attributes("img", "src")
    assert "these rows of the data file now hold other pictures" in parsed.text("examples")


def test_no_raw_feature(build):
    parsed = page(build(features=("ela",)))
    assert "has no feature “raw”" in parsed.text("examples")
    assert len(parsed.attributes("img", "src")) == 6


def test_a_third_feature_is_shown_too(build):
    run = build(features=("ela", "gray_bits", "raw"))
    (run / "summary.json").write_text(json.dumps({**SUMMARY, "feature": "gray_bits"}))
    parsed = page(run)
    assert len(parsed.attributes("img", "src")) == 18
    assert "pair of-3" in parsed.attributes("div", "class")


def test_the_page_warns_of_the_mixed_protocol(build):
    """Authentic pictures of CASIA 1 and tampered ones of CASIA 2."""
    kinds = b"Au/Au_ani_%04d.jpg", b"Tp/Tp_D_CRN_S_N_cha00063_art00014_%05d.jpg"
    names = {row: kinds[picture[1]] % row for row, picture in enumerate(ROWS)}
    run = build(paths=names)
    page(run)
    assert "authentic pictures are casia 1" in (run / "report.html").read_text().lower()


def test_the_container_baseline_is_unknown(build, monkeypatch):
    """The original files are missing: noted wherever the figure would stand."""
    run = build()
    monkeypatch.setattr(hpc_deepfake.audit, "container_baseline", lambda path: None)
    parsed = page(run)
    for row in cells(parsed, "accuracy"):
        assert "container alone unknown (the original files, or a class in a part, are missing)" \
            in row[1]
    html = (run / "report.html").read_text()
    assert "container alone: unknown" in html and "61.3%" not in html


def test_large_sets_skip_the_baseline_at_the_end_of_training(build, monkeypatch):
    """Reading all headers of a large set would delay the end of a job."""
    run = build()
    monkeypatch.setattr(command, "MOST_ROWS", len(ROWS) - 1)
    assert command.write_at_the_end(run) == f"report: {run / 'report.html'}"
    assert "too many files to read at the end of training: 14; hpc-deepfake report reads them" in \
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
    parsed = page(run)
    assert "no figures of a validation or test part yet" in (run / "report.html").read_text()
    assert cells(parsed, "2")[0][0] == "0.4321"


def test_a_diverged_run_says_so(build):
    run = build()
    (run / "summary.json").unlink()
    (run / "diverged.json").write_text('{"step": 9, "message": "the training diverged: since 9"}')
    page(run)
    assert "The training diverged: since 9" in (run / "report.html").read_text()


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


def test_predictions_survive_writing_and_reading(build):
    """Unusual names, and every float32 exactly."""
    names = {4: "Au/é,\"\n.jpg".encode(), 5: b"Tp/\xff.jpg"}
    run = build(paths=names)
    read = predictions.read(run)
    assert read["validation"].paths[:2] == ['Au/é,"\n.jpg', "Tp/\\xff.jpg"]
    assert read["validation"].rows.tolist() == [4, 5, 6, 7]
    assert read["test"].labels.tolist() == [1, 1, 1, 1, 0, 0]
    values = np.random.default_rng(0).random(1000, np.float32)
    data = SimpleNamespace(rows=lambda part: np.arange(1000), labels=np.zeros(1000, int),
                           paths=np.full(1000, b"x"))
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
    with pytest.raises(InputError, match=r"cannot write --out .*no folder"):
        command.main([str(run), "--out", str(tmp_path / "nowhere" / "x.html")])


def test_the_same_run_gives_the_same_page(build):
    run = build()
    page(run)
    before = (run / "report.html").read_bytes()
    page(run)
    assert (run / "report.html").read_bytes() == before


def test_a_failing_report_is_a_note_and_no_error(build, monkeypatch):
    """Training has written its files before."""
    run = build()
    monkeypatch.setattr(hpc_deepfake.audit, "container_baseline", lambda path: 1 / 0)
    note = command.write_at_the_end(run)
    assert note.startswith("note: report.html could not be written (ZeroDivisionError: ")
    assert f"try again with hpc-deepfake report {run}" in note and "\n" not in note
    assert not (run / "report.html").exists()


@pytest.mark.parametrize(("share", "rows", "low", "high"), [
    (0.5, 10, 0.2366, 0.7634), (0, 10, 0, 0.2775), (1, 10, 0.7225, 1), (0.1, 1000, 0.0829, 0.1202)])
def test_wilson_interval(share, rows, low, high):
    """Reference values from R's binom::binom.wilson."""
    assert wilson(share, rows) == pytest.approx((low, high), abs=1e-4)


@pytest.mark.slow
def test_training_writes_predictions_and_page(small_file, tmp_path):
    """On two ranks. The summary, the page and a page computed with the model have the same figures;
    ``--no-report`` writes no page."""
    train = ["hpc_deepfake.train", "--data", small_file, "--epochs", "1", "--batch-size", "8",
             "--device", "cpu", "--run", "run"]
    done = run_program(*train, ranks=2, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "report: run/report.html" in done.stdout
    run = tmp_path / "run"
    parsed = Page((run / "report.html").read_text())
    check_alone(parsed, (run / "report.html").read_text())
    summary = json.loads((run / "summary.json").read_text())
    for at, part in enumerate(("test", "validation")):
        assert cells(parsed, "accuracy")[at][0] == f"{summary[part]['accuracy']:.1%}"
        assert cells(parsed, "ROC-AUC")[at][0] == f"{summary[part]['auc']:.3f}"
        stored = predictions.read(run)[part]
        assert len(stored) == summary[part]["rows"]
        assert ((stored.probabilities >= 0.5) == stored.labels).mean() == \
            pytest.approx(summary[part]["accuracy"])
    (run / "predictions.csv").unlink()
    done = run_program("hpc_deepfake.cli", "report", "run", "--out", "again.html", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    again = Page((tmp_path / "again.html").read_text())
    assert [row[0] for row in cells(again, "ROC-AUC")] == \
        [row[0] for row in cells(parsed, "ROC-AUC")]
    assert "again.html" in done.stdout
    done = run_program(*train[:-1], "quiet", "--no-report", cwd=tmp_path,
                       env={"PYTHONPATH": str(ROOT / "tests" / "toy")})
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "quiet" / "predictions.csv").exists()
    assert not (tmp_path / "quiet" / "report.html").exists() and "report" not in done.stdout
