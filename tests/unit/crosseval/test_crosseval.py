"""Train here, test there: figures against those computed by hand, from scores of a network whose
predictions are known; what is shared, kept, computed again and refused."""

from __future__ import annotations

import argparse
import csv
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from data_files import seal
from mean_network import MeanNetwork
from pages import Page, check_alone

from hpc_deepfake import crosseval, metrics
from hpc_deepfake.core.errors import InputError
from hpc_deepfake.crosseval import command, datasets, scoring
from hpc_deepfake.metrics import curves, masks
from hpc_deepfake.network import device, model
from hpc_deepfake.network.card import Card
from hpc_deepfake.train import planned
from preprocessing import store
from preprocessing.catalogue import Catalogue
from preprocessing.ela import Parameters
from preprocessing.split import TEST, TRAIN, VALIDATION

SIZE = 16
PARAMETERS = Parameters(size=SIZE)
ROWS = 48
PARTS = np.repeat([TRAIN, VALIDATION, TEST], ROWS // 3).astype(np.uint8)


def pictures(seed: int, count: int) -> np.ndarray:
    """Patterns that look like no other, uint8 (count, S, S, 3)."""
    small = np.random.default_rng(seed).integers(0, 256, (count, 5, 5, 3), np.uint8)
    return np.stack([cv2.resize(each, (SIZE, SIZE), interpolation=cv2.INTER_CUBIC)
                     for each in small])


def make(path: Path, seed: int, raw: np.ndarray, parts: np.ndarray = PARTS,
         labels: np.ndarray | None = None, groups: np.ndarray | None = None,
         size: int = SIZE) -> Path:
    """A data file in which ELA is brighter on tampered pictures, mostly; rows in pairs of one
    group; digests that no other seed gives."""
    count = len(raw)
    random = np.random.default_rng(seed)
    own = np.arange(count) % 2 if labels is None else labels
    catalogue = Catalogue({"": Path("/pictures")}, [b"%d-%d.jpg" % (seed, row)
                                                    for row in range(count)], own.astype(np.uint8),
                          (np.arange(count) // 2 if groups is None else groups).astype(np.int32))
    store.create(path, catalogue, parts.astype(np.uint8), store.Recipe(
        ("ela", "raw"), Parameters(size=size), "33/33/34", "group", seed, "abc", count))
    header = store.open_header(path)
    header.array("raw", "r+")[:] = raw
    bright = np.clip(90 + 50 * own + random.normal(0, 40, count), 0, 255)
    header.array("ela", "r+")[:] = np.broadcast_to(
        bright[:, None, None, None], header.shapes["ela"]).astype(np.uint8)
    header.array("digest", "r+")[:] = random.integers(0, 256, header.shapes["digest"], np.uint8)
    header.array("status", "r+")[:] = store.DONE
    return seal(path)


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Data files ``a`` and ``b``, a run that was trained on ``a``, and its network."""
    monkeypatch.chdir(tmp_path)
    make(tmp_path / "a.h5", 1, pictures(1, ROWS))
    make(tmp_path / "b.h5", 2, pictures(2, ROWS))
    run = tmp_path / "run"
    run.mkdir()
    (run / "model.keras").touch()
    (run / "config.json").write_text(json.dumps({"data": str(tmp_path / "a.h5"), "seed": 4}))
    (run / "model.json").write_text(json.dumps(
        Card("ela", PARAMETERS, weights=("digest",), mask_threshold=100).as_dict()))
    network = MeanNetwork(size=SIZE)
    monkeypatch.setattr(model, "load", lambda _: network)
    monkeypatch.setattr(device, "start", lambda *_, **__: None)
    monkeypatch.setattr(scoring, "COUNTED", network, raising=False)
    return tmp_path


def arguments(*more: str) -> list[str]:
    return ["--models", "run", "--test", "b.h5", "--out", "out", "--ranks", "1", *more]


def work(capsys: pytest.CaptureFixture[str], *more: str) -> list[str]:
    """Run what is next, in this process, until nothing is; returns the names."""
    names = []
    while True:
        capsys.readouterr()
        assert crosseval.main(arguments("--next", *more)) == 0
        lines = capsys.readouterr().out.splitlines()
        if not lines:
            return names
        names.append(lines[0])
        assert lines[1:5] == ["1", "-m", "hpc_deepfake.cli", "crosseval"]
        assert crosseval.main(lines[5:]) == 0


def report(*more: str) -> dict[str, dict[str, Any]]:
    """The cells of the report, by data set."""
    assert crosseval.main(arguments("--report-only", *more)) == 0
    return {cell["tested_on"]: cell
            for cell in json.loads(Path("out/crosseval.json").read_text())["cells"]}


def by_hand(path: str, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities and labels, straight from the file."""
    header = store.open_header(Path(path))
    return (header.array("ela")[rows].mean(axis=(1, 2, 3)) / 255,
            np.array(header.array("label"))[rows])


def rows_of(part: int) -> np.ndarray:
    return np.flatnonzero(part == PARTS)


def test_the_threshold_is_that_of_the_training_and_kept_everywhere(here, capsys):
    """Chosen on the validation part of a, for the test part of a and for that of b alike."""
    assert work(capsys) == ["run on 2 data sets"]
    cells = report()
    threshold = curves.youden(*by_hand("a.h5", rows_of(VALIDATION)))
    for name in ("a", "b"):
        p, y = by_hand(f"{name}.h5", rows_of(TEST))
        expected = metrics.evaluate(p, y, threshold)
        cell = cells[name]
        assert cell["threshold"] == pytest.approx(threshold)
        assert {figure: cell[figure] for figure in ("auc", "accuracy", "balanced_accuracy",
                                                    "recall", "majority")} == pytest.approx(
            {figure: expected[figure] for figure in ("auc", "accuracy", "balanced_accuracy",
                                                     "recall", "majority")})
        assert cell["false_positive_rate"] == pytest.approx((p[y == 0] >= threshold).mean())
        assert cell["auc_low"] <= cell["auc"] <= cell["auc_high"]
        assert (cell["part"], cell["own"], cell["shared"]) == ("test", name == "a", 0)
    assert cells["b"]["threshold_chosen"]["on"] == f"the validation part of {here / 'a.h5'}"
    given = report("--threshold", "fpr=0.2")
    p, y = by_hand("a.h5", rows_of(VALIDATION))
    assert (p[y == 0] >= given["b"]["threshold"]).mean() <= 0.2
    assert given["b"]["auc"] == cells["b"]["auc"]


def test_what_both_have_is_counted_and_taken_out(here, capsys):
    """The same bytes, saved again, and the rest of their groups; pictures of a's test part are no
    reason. Without them the figures are those of the others."""
    raw = pictures(3, 16)
    trained = store.open_header(here / "a.h5")
    raw[0], raw[2] = pictures(1, ROWS)[0], pictures(1, ROWS)[1]  # its training part
    raw[4] = pictures(1, ROWS)[20]  # its validation part
    raw[6] = pictures(1, ROWS)[40]  # its test part
    raw[2] = raw[2] // 2 * 2  # a little different
    make(here / "c.h5", 3, raw, np.zeros(16))
    own = store.open_header(here / "c.h5").array("digest", "r+")
    own[0], own[8] = trained.array("digest")[0], trained.array("digest")[3]
    more = ("--test", "b.h5", "c.h5")
    work(capsys, *more)
    cell = report(*more)["c"]
    assert cell["shared_by_way"] == {"same bytes": 2, "saved again": 2, "same scene or source": 0,
                                     "same group": 4}
    left = np.array([6, 7, *range(10, 16)])
    p, y = by_hand("c.h5", left)
    assert (cell["part"], cell["tampered"], cell["authentic"]) == ("all", 4, 4)
    assert cell["auc"] == pytest.approx(metrics.auc(p, y))
    every = metrics.auc(*by_hand("c.h5", np.arange(16)))
    assert cell["auc_with_shared"] == pytest.approx(every) != pytest.approx(cell["auc"])
    kept = report(*more, "--shared", "in")["c"]
    assert (kept["auc"], kept["shared"]) == (pytest.approx(every), 8)
    assert "Pictures that a training knows are in the figures" in \
        Path("out/crosseval.md").read_text()


def test_a_split_by_image_shares_groups_within_one_file(here, capsys):
    """Each group has a picture in the training part and one in the test part: nothing is left."""
    parts = np.where(np.arange(ROWS) % 2, TRAIN, TEST)
    parts[:6] = VALIDATION
    (here / "a.h5").unlink()
    make(here / "a.h5", 1, pictures(1, ROWS), parts, labels=np.arange(ROWS) // 2 % 2)
    work(capsys)
    cells = report()
    assert cells["a"]["shared_by_way"]["same group"] == ROWS // 2 - 3
    assert cells["a"]["auc"] is None and cells["a"]["auc_with_shared"] is not None
    assert "Nothing is left of a" in Path("out/crosseval.md").read_text()
    assert cells["b"]["shared"] == 0 and cells["b"]["auc"] is not None


def test_only_what_is_missing_is_computed(here, capsys):
    """With another file; after a file, or the model, has changed; and where scores are damaged."""
    network = scoring.COUNTED
    work(capsys)
    first = network.predictions
    assert first == ROWS // 3 * 3  # validation and test part of a, test part of b
    assert work(capsys) == [] and network.predictions == first
    make(here / "d.h5", 4, pictures(4, 8), np.zeros(8))
    more = ("--test", "b.h5", "d.h5")
    assert work(capsys, *more) == ["run on 3 data sets"] and network.predictions == first + 8
    store.open_header(here / "b.h5").array("ela", "r+")[:] = 7
    seal(here / "b.h5")
    work(capsys, *more)
    assert network.predictions == first + 8 + ROWS // 3
    assert report(*more)["b"]["auc"] == 0.5
    for content in (b"", b"PK\x03\x04", Path("out/scores/run/b.npz").read_bytes()[:-40]):
        Path("out/scores/run/d.npz").write_bytes(content)
        before = network.predictions
        work(capsys, *more)
        assert network.predictions == before + 8
    card = replace(Card("ela", PARAMETERS), weights=("other",))
    (here / "run" / "model.json").write_text(json.dumps(card.as_dict()))
    before = network.predictions
    work(capsys, *more)
    assert network.predictions == before + first + 8


def test_pixels_against_masks(here, capsys):
    """At the model's own threshold; plain ELA beside it."""
    work(capsys)
    random = np.random.default_rng(0)
    file = Path("out/scores/run/b.npz")
    stored = dict(np.load(file))
    count = len(stored["rows"])
    known = (random.random((count, 8, 8)) < 0.3) * (stored["rows"] % 2)[:, None, None]
    maps = random.integers(0, 200, known.shape) + 50 * known
    counts = {name: masks.histograms(levels.astype(np.uint8), known.astype(np.uint8))
              for name, levels in (("pixels", maps), ("errors", 255 - maps))}
    np.savez(file, **stored, **counts)
    cells = report()
    expected = masks.figures(counts["pixels"], threshold=100)["per_picture"]
    assert cells["b"]["pixel_auc"] == pytest.approx(expected["auc"])
    assert cells["b"]["pixel_f1"] == pytest.approx(expected["f1"])
    assert cells["b"]["plain_ela_pixel_auc"] == pytest.approx(1 - expected["auc"], abs=0.02)
    assert cells["a"]["pixel_auc"] is None
    assert "**Pixel F1**" in Path("out/crosseval.md").read_text()


def test_authentic_pictures_alone_tell_false_positives(here, capsys):
    make(here / "e.h5", 5, pictures(5, 12), np.zeros(12), labels=np.zeros(12, int))
    more = ("--test", "e.h5")
    work(capsys, *more)
    cell = report(*more)["e"]
    p, _ = by_hand("e.h5", np.arange(12))
    assert (cell["auc"], cell["recall"]) == (None, None)
    assert cell["false_positive_rate"] == pytest.approx((p >= cell["threshold"]).mean())


def test_the_report_in_all_its_forms(here, capsys):
    work(capsys)
    capsys.readouterr()
    report()
    out = capsys.readouterr().out.splitlines()
    html = Path("out/crosseval.html").read_text()
    page = Page(html)
    check_alone(page, html)
    lines = list(csv.DictReader(Path("out/crosseval.csv").read_text().splitlines()))
    aucs = [f"{float(line['auc']):.3f}" for line in lines]
    assert [line["tested_on"] for line in lines] == ["a", "b"]
    assert out[0].split() == ["ROC-AUC", "a", "b"]
    assert out[1].split() == ["run", "(a)", f"{aucs[0]}*", f"{aucs[1]}?"]  # few pictures
    assert "fewer than 10 pictures of a class" in out[2]
    assert any("own" in (kind or "").split() for kind in page.attributes("td", "class"))
    text = Path("out/crosseval.md").read_text()
    assert f"| run (a) | {aucs[0]} " in text and aucs[1] in page.text("matrix")
    assert "hpc-deepfake crosseval --models run --test b.h5 --out out --ranks 1" in text
    assert crosseval.main(arguments("--test", "mine=a.h5", "--plan")) == 0
    assert "/scores/run/mine.npz" in capsys.readouterr().out


def test_trainings_of_the_plan(here, capsys):
    """One of each kind, repeats outermost; table is left out of stacked features."""
    assert crosseval.main(["--train", "a.h5", "x=b.h5", "--networks", "table,meso4", "--features",
                           "ela,ela+raw", "--repeats", "2", "--out", "out", "--plan", "--",
                           "--patience", "2"]) == 0
    lines = capsys.readouterr().out.splitlines()
    kinds = ["ela", "ela-meso4", "ela+raw-meso4"]
    names = [f"{data}-{kind}-r{repeat}" for repeat in (1, 2) for data in "ax" for kind in kinds]
    assert [line.split()[2] for line in lines[:-1]] == names * 2
    assert "--seed 1 " in lines[6] and "--patience 2 --run out/a-ela-r2 " in lines[6]
    assert f"--file {Path('b.h5')} test out/scores/a-ela-raw-meso4-r1/x.npz" in lines[14]
    with pytest.raises(InputError, match=r"unet learns from masks, and .*a\.h5 has none"):
        crosseval.main(["--train", "a.h5", "--networks", "unet", "--out", "out", "--plan"])
    assert lines[-1] == "24 programs, 0 of them done" and not Path("out").exists()


def test_a_training_that_has_begun_with_other_data_is_refused(here, capsys):
    words = ["--train", "a.h5", "--out", "out", "--next"]
    assert crosseval.main(words) == 0
    assert capsys.readouterr().out.splitlines()[:2] == ["a-ela-r1", "2"]
    with pytest.raises(InputError, match="trainings on 'a' in out used another data file than b"):
        crosseval.main(["--train", "a=b.h5", "--out", "out", "--next"])
    assert crosseval.main(["--train", "a.h5", "b.h5", "--out", "out", "--next"]) == 0
    run = Path("out/a-ela-r1")
    run.mkdir()
    options = command.parse([*words, "--epochs", "3"])
    found = crosseval.plan.trainings(options, datasets.open_all(options.train, [], None),
                                     options.out, 1)
    (run / "config.json").write_text(json.dumps(found[0].training.settings))
    with pytest.raises(InputError, match="out/a-ela-r1 holds a run with --epochs 3"):
        crosseval.main(words)
    assert found[0].training.state() == planned.STARTED


@pytest.mark.parametrize(("words", "message"), [
    (["--test", "b.h5"], "name data files to train on"),
    (["--train", "a.h5", "--test", "x/z.h5"], "no data file 'x/z.h5'"),
    (["--train", "a.h5", "a=b.h5"], "both called 'a': give one another name, like other=b.h5"),
    (["--train", "a.h5", "--test", "small.h5"],
     r"small.h5 was made with ELA parameters .* and a.h5 with .*\n  mpirun -np 2 hpc-deepfake "
     "preprocess --data DIR --out small-fitting.h5 --features ela --size 16 --split 33/33/34"),
    (["--models", "run", "--test", "small.h5"], "and the model run with"),
    (["--train", "a.h5", "--features", "gray_bits"],
     r"a.h5 has no feature 'gray_bits', only ela, raw. Make another file of its pictures:\n.* "
     "--features gray_bits "),
    (["--train", "a.h5", "--features", "hsv"], "no feature 'hsv', only ela, raw: name others"),
    (["--train", "a.h5", "--features", "ela+raw"], "table reads one feature, not several"),
    (["--train", "a.h5", "--networks", "meso4,meso4"], "--networks: meso4 is given twice"),
    (["--models", "run", "run"], "--models: run is given twice, or two runs have the same name"),
    (["--models", "gone"], "run was trained on isn't there"),
    (["--models", "run"], "run was trained on other pictures than those of"),
    (["--train", "b.h5", "--part", "test", "--test", "one.h5"], "one.h5 has no test part"),
    (["--train", "a.h5", "--launcher", "mpirun"], "--launcher mpirun: give a command"),
    (["--train", "a.h5", "--report-only"], "no evaluation of this matrix is finished"),
    (["--train", "a.h5", "--", "--seed", "3"], "--seed after -- is set by crosseval itself"),
    (["--models", "run", "--test", "b.h5", "--", "--patience", "3"], "there is no --train")])
def test_what_is_refused(here, words, message):
    if "small.h5" in words:
        make(here / "small.h5", 6, np.zeros((8, 8, 8, 3)), np.zeros(8), size=8)
    if "one.h5" in words:
        make(here / "one.h5", 7, pictures(7, 8), np.zeros(8))
    if "gone" in words:
        words = ["--models", "run"]
        (here / "a.h5").unlink()
    elif words == ["--models", "run"]:
        (here / "run" / "predictions.csv").write_text(
            "row,part,path,label,probability\n40,test,other.jpg,0,0.5\n")
    with pytest.raises(InputError, match=message):
        crosseval.main(["--out", "out", *words])
    assert not Path("out").exists()


@pytest.mark.parametrize(("text", "name", "path"), [
    ("x/casia.v2.h5", "casia.v2", "x/casia.v2.h5"), ("c=x/a.h5", "c", "x/a.h5"),
    ("x/b=c.h5", "b=c", "x/b=c.h5"), ("runs/first/", "first", "runs/first")])
def test_names_of_files(text, name, path):
    assert datasets.named(text) == (name, Path(path))


def test_a_name_has_no_slash(here):
    with pytest.raises(argparse.ArgumentTypeError, match="can't have a /"):
        datasets.named("x/y=a.h5")
    assert datasets.named("x/y=gone.h5").path == Path("x/y=gone.h5")
