"""evaluate --perturb: the figures of changed pictures, and which pictures are changed."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from mean_network import BrightnessNetwork, probabilities

from hpc_deepfake import evaluate, metrics
from hpc_deepfake.core.errors import InputError
from hpc_deepfake.evaluate import robustness
from hpc_deepfake.evaluate.material import Material
from hpc_deepfake.evaluate.originals import MaskRows
from hpc_deepfake.evaluate.pictures import Asked, brightest, prepared
from hpc_deepfake.metrics import masks
from hpc_deepfake.network import device, model
from preprocessing import perturb
from preprocessing.catalogue import Catalogue
from preprocessing.ela import Parameters, features_of_pixels
from preprocessing.perturb import Perturbation
from preprocessing.picture import decode
from preprocessing.store import open_header

CARD = model.Card("ela", Parameters())


@pytest.fixture
def network(monkeypatch, tmp_path) -> Path:
    """A run directory whose model is this network."""
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "model.keras").touch()
    monkeypatch.setattr(model, "read_card", lambda _: CARD)
    monkeypatch.setattr(model, "load", lambda _: BrightnessNetwork())
    monkeypatch.setattr(device, "start", lambda *_, **__: None)
    return tmp_path / "run"


def run(network: Path, data: Path, *words: str | os.PathLike) -> list[dict]:
    """The figures under perturbations."""
    out = network.parent / "x.json"
    assert evaluate.main(["--model", str(network), "--data", str(data), "--json", str(out),
                          *map(os.fspath, words)]) == 0
    return json.loads(out.read_text())["perturbed"]


def expected(files: list[Path], labels: list[int], word: str) -> dict:
    """Figures of changed pictures, computed one by one."""
    change, = perturb.parse(word)
    rows = np.stack([features_of_pixels(change.of_pixels(decode(file.read_bytes())), ("ela",),
                                        CARD.parameters)[0] for file in files])
    return {**metrics.evaluate(probabilities(rows), np.array(labels)),
            "plain": metrics.auc(np.array([brightest(row) for row in rows]), np.array(labels))}


@pytest.mark.slow
def test_figures_are_those_of_the_changed_pictures(network, data_file, pictures, tmp_path, capsys):
    """Of a part of a data file and of a folder: the first line is of the pictures as they are, and
    says what the evaluation itself says; in the table, the JSON file and the picture."""
    found = run(network, data_file, "--perturb", "jpeg=60,90", "crop=0.8", "jpeg=90",
                "--plots", tmp_path / "plots")
    assert [own["perturbation"] for own in found] == ["none", "jpeg=60", "jpeg=90", "crop=0.8"]
    header = open_header(data_file)
    rows = np.flatnonzero(np.array(header.array("split")) == 1)
    files = [pictures / header.array("path")[row].decode() for row in rows]
    labels = np.array(header.array("label"))[rows].tolist()
    stored = metrics.evaluate(probabilities(np.array(header.array("ela"))[rows]), np.array(labels))
    assert {name: found[0][name] for name in stored} == pytest.approx(stored)
    for own in (found[1], found[3]):
        figures = expected(files, labels, own["perturbation"])
        assert own["plain"]["auc"] == pytest.approx(figures.pop("plain"))
        assert {name: own[name] for name in figures} == pytest.approx(figures)
        assert own["false_positives"]["value"] == figures["fp"] / (figures["fp"] + figures["tn"])
    assert found[0]["container"] is not None and found[0]["container"] != 0.5
    assert {own["container"] for own in found[1:]} == {0.5}, "files saved alike"
    line = next(line for line in capsys.readouterr().out.splitlines() if "  jpeg=60 " in line)
    assert f" {found[1]['auc']:.3f} " in line and line.endswith(" 0.500")
    assert (tmp_path / "plots" / "validation-perturbed.png").read_bytes().startswith(b"\x89PNG")
    of_folder = run(network, pictures, "--perturb", "jpeg=60")
    of_all = run(network, data_file, "--part", "all", "--perturb", "jpeg=60", "--no-container")
    assert of_folder == of_all


@pytest.mark.slow
def test_only_pictures_that_did_not_choose_the_threshold_count(network, pictures):
    """Halves of a folder; without perturbations nothing is said of them."""
    found = run(network, pictures, "--threshold", "auto", "--perturb", "noise=3")
    assert 20 <= found[0]["rows"] == found[1]["rows"] <= 40
    assert run(network, pictures) == []


def test_of_authentic_pictures_alone_the_false_positives_remain(network, pictures, tmp_path,
                                                                capsys):
    out = tmp_path / "x.json"
    assert evaluate.main(["--model", str(network), "--authentic", str(pictures / "Au"),
                          "--perturb", "noise=3", "--json", str(out)]) == 0
    found = json.loads(out.read_text())["perturbed"][1]
    assert found["auc"] is found["plain"]["auc"] is found["balanced_accuracy"] is None
    assert found["false_positives"]["value"] == pytest.approx(found["fp"] / 30)
    line = next(line for line in capsys.readouterr().out.splitlines() if "  noise=3 " in line)
    assert line.split()[1] == "–" and f"{found['false_positives']['value']:.1%}" in line


def test_pictures_of_a_data_file_are_found_and_the_same(network, data_file, pictures, tmp_path):
    """Where they were, or where the user says; moved, missing or changed ones are told once."""
    moved, away = tmp_path / "moved", tmp_path / "features.h5"
    shutil.copytree(pictures, moved)
    shutil.copy(data_file, away)
    with pytest.raises(InputError, match=r"features.h5.json doesn't say.*--pictures DIR"):
        run(network, away, "--perturb", "noise=3")
    before = run(network, data_file, "--perturb", "noise=3", "--no-container")
    assert run(network, away, "--perturb", "noise=3", "--pictures", moved,
               "--no-container") == before
    files = sorted(moved.glob("*/*.jpg"))
    for file in files[1::2]:
        file.write_bytes(file.read_bytes() + b"more")
    with pytest.raises(InputError, match=r"\d of 12 have changed since.*--pictures"):
        run(network, away, "--perturb", "noise=3", "--pictures", moved)
    shutil.rmtree(moved / "Au")
    with pytest.raises(InputError, match=rf"\d of 12 aren't there, such as Au/Au_.* in {moved}"):
        run(network, away, "--perturb", "noise=3", "--pictures", moved)


@pytest.mark.parametrize(("words", "message"), [
    (["--pictures", "x"], "add --perturb"),
    (["--pictures", "x", "--perturb", "noise=3"], "no folder --pictures x")])
def test_options_that_make_no_sense_are_refused(network, data_file, words, message):
    with pytest.raises(InputError, match=message):
        run(network, data_file, *words)


def test_pictures_of_a_folder_are_named_once(network, pictures):
    with pytest.raises(InputError, match="named already: omit it"):
        run(network, pictures, "--perturb", "noise=3", "--pictures", pictures)


def test_perturbations_in_a_configuration(network, pictures, tmp_path, capsys):
    """As a list of words; an impossible one is refused like on the command line."""
    config = tmp_path / "c.toml"
    config.write_text('perturb = ["jpeg=95,90", "screenshot"]\n')
    options = evaluate.parser().parse(["--config", str(config)])
    assert [str(change) for changes in options.perturb for change in changes] == [
        "jpeg=95", "jpeg=90", "screenshot"]
    config.write_text('perturb = ["jpeg=95", "sharpen=2"]\n')
    with pytest.raises(SystemExit):
        evaluate.parser().parse(["--config", str(config)])
    assert "'sharpen' is no perturbation; possible are jpeg," in capsys.readouterr().err


def test_masks_follow_a_crop(pictures):
    """Those of the rows of a data file, at their own resolution; a resave leaves them."""
    class Data:
        masks = np.zeros((5, 128, 128), np.uint8)

    Data.masks[3, 32:64, 32:64] = 1
    paths = [b"Au/" + os.fsencode(file.name) for file in sorted((pictures / "Au").iterdir())[:2]]
    catalogue = Catalogue({"": pictures}, paths, np.ones(2, np.uint8), np.zeros(2, np.int32))
    rows = MaskRows(Data(), np.array([1, 3]))  # type: ignore[arg-type]

    def mask(word: str) -> np.ndarray:
        change, = perturb.parse(word)
        found = list(prepared(CARD, None, catalogue, np.arange(2), Asked(True, True), change, rows))
        assert not found[0].mask.any()
        return found[1].mask

    assert np.array_equal(mask("jpeg=60"), Data.masks[3])
    cut = np.zeros((128, 128), np.uint8)
    cut[:64, :64] = 1
    assert np.array_equal(mask("crop=0.5"), cut)


def test_pixel_figures_are_those_of_the_map():
    """Beside those of plain error levels, at the model's threshold for pixels."""
    random = np.random.default_rng(1)
    known = (random.random((6, 32, 32)) < 0.3).astype(np.uint8)
    known[:2] = 0
    levels = random.integers(0, 200, known.shape, np.uint8) + known * np.uint8(50)
    labels = np.array([0, 0, 1, 1, 1, 1], np.uint8)
    counts = masks.histograms(levels, known)
    material = Material([b"%d" % row for row in range(6)], labels, np.arange(6), np.ones(6),
                        random.random(6), plain=random.random(6),
                        counted={"model": counts, "error levels": counts[..., ::-1]})
    card = model.Card("ela", Parameters(), mask_threshold=120)
    found, = robustness.figures([robustness.Perturbed(Perturbation(()), material)], material, card,
                                None)
    expected = masks.figures(counts, labels, 120)
    own = dict(found["pixels"]["model"])
    assert own.pop("intervals")["per_picture"]["auc"][0] < expected["per_picture"]["auc"]
    assert own == expected
    table = robustness.lines([found])
    assert table[0].endswith("  pixel AUC pixel F1 ELA's AUC")
    assert table[1].split()[-3:] == [f"{value:.3f}" for value in (
        expected["per_picture"]["auc"], expected["per_picture"]["f1"],
        found["pixels"]["error levels"]["per_picture"]["auc"])]
    assert found["container"] is None
