"""evaluate: figures against those computed by hand, with a network whose predictions are known."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from data_files import seal
from mean_network import BrightnessNetwork, probabilities
from PIL import Image

from hpc_deepfake import audit, evaluate, metrics
from hpc_deepfake.core import log
from hpc_deepfake.core.errors import InputError
from hpc_deepfake.evaluate.material import trained_on
from hpc_deepfake.metrics import curves
from hpc_deepfake.network import device, model
from preprocessing import protocol
from preprocessing.ela import Parameters
from preprocessing.split import PARTS
from preprocessing.store import open_header


@pytest.fixture
def network(monkeypatch, tmp_path) -> Path:
    """A run directory whose model is this network; messages go to standard error."""
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "model.keras").touch()
    monkeypatch.setattr(model, "read_card", lambda _: model.Card("ela", Parameters()))
    monkeypatch.setattr(model, "load", lambda _: BrightnessNetwork())
    monkeypatch.setattr(device, "start", lambda *_, **__: None)
    monkeypatch.setattr(log.log, "propagate", log.log.propagate)  # as before after the test
    log.start()
    return tmp_path / "run"


def run(network: Path, data: Path, *words: str | os.PathLike) -> int:
    return evaluate.main(["--model", str(network), "--data", str(data), *map(os.fspath, words)])


def part_of(data_file: Path, part: str) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities and labels of a part, straight from the file."""
    header = open_header(data_file)
    rows = np.array(header.array("split")) == PARTS.index(part)
    return probabilities(np.array(header.array("ela"))[rows]), np.array(header.array("label"))[rows]


@pytest.mark.parametrize("part", ["validation", "test", "train"])
def test_figures_of_a_part(network, data_file, tmp_path, capsys, part):
    """Equal to those of ``metrics``, beside the baselines; all of them in the JSON file."""
    assert run(network, data_file, "--part", part, "--json", tmp_path / "x.json") == 0
    written = json.loads((tmp_path / "x.json").read_text())
    expected = metrics.evaluate(*part_of(data_file, part))
    assert {name: written[name] for name in expected} == pytest.approx(expected, rel=1e-6)
    assert (written["part"], written["threshold"], written["chosen_on"]) == (part, 0.5, None)
    for name in ("accuracy", "auc"):
        low, high = written["intervals"][name]
        assert low < written[name] < high
    assert sum(count for *_, count in written["calibration"]["reliability"]) == expected["rows"]
    assert written["by"]["format"][".jpg"]["rows"] == expected["rows"]
    assert written["container"] == audit.container_baseline(data_file)
    out = capsys.readouterr().out
    assert f"majority class {expected['majority']:.1%}" in out and "container alone" in out
    assert f"on the {part} part of {data_file}, {expected['rows']} images, ela:" in out


def test_threshold_auto_is_evaluated_on_the_test_part(network, data_file, tmp_path, capsys):
    """It is chosen on the validation part, and the figures are those of the test part."""
    assert run(network, data_file, "--threshold", "auto", "--json", tmp_path / "x.json") == 0
    written = json.loads((tmp_path / "x.json").read_text())
    threshold = curves.youden(*part_of(data_file, "validation"))
    assert written["part"] == "test" and written["threshold"] == pytest.approx(threshold, rel=1e-6)
    figures = metrics.evaluate(*part_of(data_file, "test"), threshold)
    assert written["accuracy"] == figures["accuracy"] and written["rows"] == figures["rows"]
    assert written["chosen_on"]["rows"] == len(part_of(data_file, "validation")[1])
    assert "chosen on the validation part" in capsys.readouterr().out


@pytest.mark.parametrize("part", ["train", "all"])
def test_no_threshold_is_chosen_on_what_the_network_was_trained_on(network, data_file, part):
    """Or may have been; a file that it was not trained on is divided as a folder is."""
    with pytest.raises(InputError, match=f"was not trained on, not on --part {part}: omit --part"):
        run(network, data_file, "--threshold", "auto", "--part", part)
    (network / "config.json").write_text(json.dumps({"data": "other.h5"}))
    assert run(network, data_file, "--threshold", "auto", "--part", part) == 0


def test_no_test_part(network, data_file, tmp_path, capsys):
    """A threshold is chosen on one half of the validation part and evaluated on the other."""
    copy = Path(shutil.copy(data_file, tmp_path / "x.h5"))
    parts = open_header(copy).array("split", "r+")
    parts[np.array(parts) == 2] = 1
    parts.flush()
    assert run(network, copy, "--threshold", "auto", "--json", tmp_path / "x.json") == 0
    written = json.loads((tmp_path / "x.json").read_text())
    rows = int((np.array(parts) == 1).sum())
    assert written["rows"] + written["chosen_on"]["rows"] == rows
    assert abs(written["rows"] - rows / 2) <= 4
    out = capsys.readouterr().out
    assert "on one half of the validation part of" in out and "chosen on the other half" in out
    with pytest.raises(InputError, match="has no test part"):
        run(network, copy, "--part", "test")


def test_a_validation_part_of_one_class_chooses_nothing(network, data_file, tmp_path):
    copy = Path(shutil.copy(data_file, tmp_path / "x.h5"))
    labels = open_header(copy).array("label", "r+")
    labels[np.array(open_header(copy).array("split")) == 1] = 1
    labels.flush()
    seal(copy)
    with pytest.raises(InputError, match="one class only"):
        run(network, copy, "--threshold", "auto")


def test_damaged_rows_are_not_evaluated(network, data_file, tmp_path):
    """Those of another part are no reason to stop."""
    copy = Path(shutil.copy(data_file, tmp_path / "x.h5"))
    header = open_header(copy)
    parts = np.array(header.array("split"))
    header.array("raw", "r+")[np.flatnonzero(parts == PARTS.index("validation"))[0], 5, 5] ^= 1
    with pytest.raises(InputError, match=r"1 of 12 rows of .* is damaged.*\(Au/"):
        run(network, copy)
    assert run(network, copy, "--part", "test", "--no-container") == 0


@pytest.mark.parametrize("value", ["1.5", "-0.1", "best", ""])
def test_an_invalid_threshold(network, data_file, capsys, value):
    with pytest.raises(SystemExit) as leave:
        run(network, data_file, f"--threshold={value}")
    assert leave.value.code == 2 and "--threshold" in capsys.readouterr().err


def test_a_given_threshold(network, data_file, tmp_path):
    assert run(network, data_file, "--threshold", "0.3", "--json", tmp_path / "x.json") == 0
    expected = metrics.evaluate(*part_of(data_file, "validation"), 0.3)
    assert json.loads((tmp_path / "x.json").read_text())["tp"] == expected["tp"]


def test_a_folder_has_the_figures_of_its_data_file(network, data_file, pictures, tmp_path, capsys):
    """The same pictures, prepared during the evaluation."""
    assert run(network, pictures, "--json", tmp_path / "folder.json") == 0
    assert run(network, data_file, "--part", "all", "--json", tmp_path / "file.json") == 0
    folder, file = (json.loads((tmp_path / f"{name}.json").read_text())
                    for name in ("folder", "file"))
    assert folder.pop("container") is None and file.pop("container")
    assert folder == file
    assert f"on all of {pictures}, 60 images, ela:" in capsys.readouterr().out


def test_a_folder_with_bad_files(network, pictures, tmp_path, capsys):
    """The figures are those of all others; code 2 and the first reasons."""
    folder = tmp_path / "pictures"
    for name in ("Au", "Tp"):
        (folder / name).mkdir(parents=True)
        for file in sorted((pictures / name).iterdir())[:5]:
            shutil.copy(file, folder / name)
    (folder / "Au" / "bad\n.jpg").write_text("no picture")
    assert run(network, folder) == 2
    out, err = capsys.readouterr()
    assert "10 images" in out
    assert err.splitlines()[0].startswith(r"not read: Au/bad\n.jpg: ")
    assert err.splitlines()[1] == "1 of 11 pictures could not be read"
    for file in (*(folder / "Au").iterdir(), *(folder / "Tp").iterdir()):
        file.write_bytes(b"")
    with pytest.raises(InputError, match="none of the 11 pictures can be used"):
        run(network, folder)


def test_a_folder_has_no_parts(network, pictures):
    with pytest.raises(InputError, match="is a folder and has no test part"):
        run(network, pictures, "--part", "test")


def test_a_part_of_an_authors_split_and_a_list_of_files(network, pictures, tmp_path, capsys):
    """Without a data file: the author's test pictures only, and those that a list names."""
    folder = tmp_path / "folder"
    for label, name in (("real", "Au"), ("fake", "Tp")):
        for at, file in enumerate(sorted((pictures / name).iterdir())[:6]):
            place = folder / ("test" if at % 3 else "train") / label
            place.mkdir(parents=True, exist_ok=True)
            shutil.copy(file, place)
    shutil.copy(file, place / "renamed.jpg")
    assert run(network, folder, "--part", "test") == 0
    out = capsys.readouterr().out
    assert f"on the test part of {folder}, 9 images" in out
    assert "note: 2 files in 1 set of the same bytes" in out
    file = tmp_path / "list.jsonl"
    file.write_text("".join(json.dumps({"path": os.fspath(path), "label": label}) + "\n"
                            for label in ("real", "fake")
                            for path in sorted((folder / "test" / label).iterdir())[:3]))
    assert run(network, folder, "--manifest", file, "--group-by", "name") == 0
    out = capsys.readouterr().out
    assert f"on all of {file}, 6 images" in out and "same bytes" not in out


def test_plots(network, data_file, tmp_path, capsys):
    """One PNG; a folder that can't be created is an error before anything is computed."""
    assert run(network, data_file, "--plots", tmp_path / "a" / "b") == 0
    assert [path.name for path in (tmp_path / "a" / "b").iterdir()] == ["validation.png"]
    with Image.open(tmp_path / "a" / "b" / "validation.png") as plot:
        assert plot.size[0] > 1000
    capsys.readouterr()
    with pytest.raises(InputError, match="cannot write --plots"):
        run(network, data_file, "--plots", data_file / "x")
    assert not capsys.readouterr().out


@pytest.mark.parametrize(("trained", "part", "note"), [
    ("this", "validation", "(this part also selected the epoch"),
    ("this", "train", "(the network was trained on these pictures"),
    ("this", "all", "(the network was trained on most of these pictures"),
    ("this", "test", None), ("other", "validation", None),
    ("unknown", "validation", "(if the model was trained on this file: this part also selected"),
    ("unknown", "test", None)])
def test_the_overlap_with_training_is_noted(network, data_file, capsys, trained, part, note):
    if trained != "unknown":
        (network / "config.json").write_text(json.dumps(
            {"data": str(data_file if trained == "this" else data_file.parent / "other.h5")}))
    assert trained_on(network, data_file) == {"this": True, "other": False}.get(trained)
    assert run(network, data_file, "--part", part, "--no-container") == 0
    second = capsys.readouterr().out.splitlines()[1]
    assert second.startswith(note or "caveat: does not say what it was trained on")


def test_container_baseline_can_be_skipped(network, data_file, monkeypatch, capsys):
    def fail(_):
        raise AssertionError("read the files")

    monkeypatch.setattr(audit, "container_baseline", fail)
    assert run(network, data_file, "--no-container") == 0
    assert "container alone" not in capsys.readouterr().out


def test_a_model_without_finite_probabilities(network, data_file, pictures, monkeypatch):
    """No figures of a diverged model."""
    monkeypatch.setattr(BrightnessNetwork, "predict_on_batch",
                        lambda _, x: np.full((len(x), 2), np.nan))
    for data in (data_file, pictures):
        with pytest.raises(InputError, match="are not finite numbers"):
            run(network, data)


def test_evaluate_and_train_warn_of_the_mixed_protocol(network, data_file, tmp_path, capsys):
    """For a data file with names of both CASIA sets."""
    copy = Path(shutil.copy(data_file, tmp_path / "x.h5"))
    header = open_header(copy)
    paths, labels = header.array("path", "r+"), np.array(header.array("label"))
    for row in range(len(paths)):
        paths[row] = b"Tp/Tp_D_CRN_S_N_ani00001_art00014_11818.tif" if labels[row] \
            else b"Au/Au_ani_0001.jpg"
    paths.flush()
    seal(copy)
    assert run(network, copy, "--no-container") == 0
    assert "the authentic pictures are CASIA 1's" in capsys.readouterr().out
    protocol.warn(open_header(copy).array("path"), labels)
    assert "the tampered ones CASIA 2's" in "".join(capsys.readouterr())
    protocol.warn(open_header(data_file).array("path"), labels)
    assert not any(capsys.readouterr())
