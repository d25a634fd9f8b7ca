"""evaluate: figures against those computed by hand, with a network whose answers are known."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from hpc_deepfake import audit, evaluate, metrics
from hpc_deepfake.core.errors import InputError
from hpc_deepfake.evaluate import breakdown, text
from hpc_deepfake.evaluate.material import Material, trained_on
from hpc_deepfake.metrics import curves, intervals
from hpc_deepfake.network import device, model
from preprocessing import protocol
from preprocessing.ela import Parameters
from preprocessing.split import PARTS
from preprocessing.store import open_header


class Network:
    """Says that a picture is tampered with a probability that grows with its mean."""

    def predict_on_batch(self, pictures: np.ndarray) -> np.ndarray:
        p = answers(pictures)
        return np.stack([1 - p, p], axis=1)


def answers(pictures: np.ndarray) -> np.ndarray:
    means = pictures.mean(axis=(1, 2, 3), dtype=np.float64)
    return 1 / (1 + np.exp(-(means - 20) / 10))


@pytest.fixture
def network(monkeypatch, tmp_path) -> Path:
    """A run directory whose model is this network."""
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "model.keras").touch()
    monkeypatch.setattr(model, "read_card", lambda _: model.Card("ela", Parameters()))
    monkeypatch.setattr(model, "load", lambda _: Network())
    monkeypatch.setattr(device, "start", lambda *_: None)
    return tmp_path / "run"


def run(network: Path, data: Path, *words: str | os.PathLike) -> int:
    return evaluate.main(["--model", str(network), "--data", str(data), *map(os.fspath, words)])


def part_of(data_file: Path, part: str) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities and labels of a part, straight from the file."""
    header = open_header(data_file)
    rows = np.array(header.array("split")) == PARTS.index(part)
    return answers(np.array(header.array("ela"))[rows]), np.array(header.array("label"))[rows]


@pytest.mark.parametrize("part", ["validation", "test", "train"])
def test_figures_of_a_part(network, data_file, tmp_path, capsys, part):
    """As metrics finds them, with the baselines beside them; all of it in the JSON."""
    assert run(network, data_file, "--part", part, "--json", tmp_path / "x.json") == 0
    found = json.loads((tmp_path / "x.json").read_text())
    want = metrics.evaluate(*part_of(data_file, part))
    assert {name: found[name] for name in want} == pytest.approx(want, rel=1e-6)
    assert (found["part"], found["threshold"], found["chosen_on"]) == (part, 0.5, None)
    for name in ("accuracy", "auc"):
        low, high = found["intervals"][name]
        assert low < found[name] < high
    assert sum(count for *_, count in found["calibration"]["reliability"]) == want["rows"]
    assert found["by"]["format"][".jpg"]["rows"] == want["rows"]
    assert found["container"] == audit.container_baseline(data_file)
    out = capsys.readouterr().out
    assert f"majority class {want['majority']:.1%}" in out and "container alone" in out
    assert f"on the {part} part of {data_file}, {want['rows']} images, ela:" in out


def test_the_best_threshold_of_validation_is_tried_on_the_test_part(network, data_file, tmp_path,
                                                                    capsys):
    """The figures are the test part's, which the threshold has never seen."""
    assert run(network, data_file, "--threshold", "auto", "--json", tmp_path / "x.json") == 0
    found = json.loads((tmp_path / "x.json").read_text())
    want = curves.youden(*part_of(data_file, "validation"))
    assert found["part"] == "test" and found["threshold"] == pytest.approx(want, rel=1e-6)
    figures = metrics.evaluate(*part_of(data_file, "test"), want)
    assert found["accuracy"] == figures["accuracy"] and found["rows"] == figures["rows"]
    assert found["chosen_on"]["rows"] == len(part_of(data_file, "validation")[1])
    assert "chosen on the validation part" in capsys.readouterr().out


@pytest.mark.parametrize("part", ["validation", "train", "all"])
def test_a_chosen_threshold_has_no_figures_elsewhere(network, data_file, part):
    with pytest.raises(InputError, match=f"test part only, not on --part {part}"):
        run(network, data_file, "--threshold", "auto", "--part", part)


def test_no_test_part(network, data_file, tmp_path):
    """What to do instead is said; also where only the test part is asked for."""
    copy = Path(shutil.copy(data_file, tmp_path / "x.h5"))
    parts = open_header(copy).array("split", "r+")
    parts[np.array(parts) == 2] = 0
    parts.flush()
    with pytest.raises(InputError, match=r"no test part to try a .* --split 70/10/20"):
        run(network, copy, "--threshold", "auto")
    with pytest.raises(InputError, match="has no test part"):
        run(network, copy, "--part", "test")


def test_a_validation_part_of_one_class_chooses_nothing(network, data_file, tmp_path):
    copy = Path(shutil.copy(data_file, tmp_path / "x.h5"))
    labels = open_header(copy).array("label", "r+")
    labels[np.array(open_header(copy).array("split")) == 1] = 1
    labels.flush()
    with pytest.raises(InputError, match="one class only"):
        run(network, copy, "--threshold", "auto")


@pytest.mark.parametrize("value", ["1.5", "-0.1", "best", ""])
def test_a_threshold_that_is_none(network, data_file, capsys, value):
    with pytest.raises(SystemExit) as leave:
        run(network, data_file, f"--threshold={value}")
    assert leave.value.code == 2 and "--threshold" in capsys.readouterr().err


def test_a_given_threshold(network, data_file, tmp_path):
    assert run(network, data_file, "--threshold", "0.3", "--json", tmp_path / "x.json") == 0
    want = metrics.evaluate(*part_of(data_file, "validation"), 0.3)
    assert json.loads((tmp_path / "x.json").read_text())["tp"] == want["tp"]


def test_a_folder_has_the_figures_of_its_data_file(network, data_file, pictures, tmp_path, capsys):
    """The same pictures, prepared on the fly."""
    assert run(network, pictures, "--json", tmp_path / "folder.json") == 0
    assert run(network, data_file, "--part", "all", "--json", tmp_path / "file.json") == 0
    folder, file = (json.loads((tmp_path / f"{name}.json").read_text())
                    for name in ("folder", "file"))
    assert folder.pop("container") is None and file.pop("container")
    assert folder == file
    assert f"on all of {pictures}, 60 images, ela:" in capsys.readouterr().out


def test_a_folder_with_bad_files(network, pictures, tmp_path, capsys):
    """All others count; code 2 and the first reasons."""
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


@pytest.mark.parametrize(("words", "message"), [
    (["--part", "test"], "is a folder and has no test part"),
    (["--threshold", "auto"], "--threshold auto needs a validation and a test part")])
def test_a_folder_has_no_parts(network, pictures, words, message):
    with pytest.raises(InputError, match=message):
        run(network, pictures, *words)


def test_plots(network, data_file, tmp_path, capsys):
    """One picture; a folder that can't be made is an error before anything is computed."""
    assert run(network, data_file, "--plots", tmp_path / "a" / "b") == 0
    assert [path.name for path in (tmp_path / "a" / "b").iterdir()] == ["validation.png"]
    assert Image.open(tmp_path / "a" / "b" / "validation.png").size[0] > 1000
    capsys.readouterr()
    with pytest.raises(InputError, match="cannot write --plots"):
        run(network, data_file, "--plots", data_file / "x")
    assert not capsys.readouterr().out


@pytest.mark.parametrize(("trained", "part", "said"), [
    ("this", "validation", "(this part also chose the epoch"),
    ("this", "train", "(the network was trained on these very pictures"),
    ("this", "all", "(the network was trained on most of these pictures"),
    ("this", "test", None), ("other", "validation", None),
    ("unknown", "validation", "(if the model was trained on this file: this part also chose"),
    ("unknown", "test", None)])
def test_what_the_model_has_seen_is_said(network, data_file, capsys, trained, part, said):
    if trained != "unknown":
        (network / "config.json").write_text(json.dumps(
            {"data": str(data_file if trained == "this" else data_file.parent / "other.h5")}))
    assert trained_on(network, data_file) == {"this": True, "other": False}.get(trained)
    assert run(network, data_file, "--part", part, "--no-container") == 0
    second = capsys.readouterr().out.splitlines()[1]
    assert second.startswith(said or "threshold")


def test_container_baseline_can_be_left_out(network, data_file, monkeypatch, capsys):
    def fail(_):
        raise AssertionError("read the files")

    monkeypatch.setattr(audit, "container_baseline", fail)
    assert run(network, data_file, "--no-container") == 0
    assert "container alone" not in capsys.readouterr().out


def test_a_model_that_gives_no_numbers(network, data_file, pictures, monkeypatch):
    """No figures of a diverged one."""
    monkeypatch.setattr(Network, "predict_on_batch", lambda _, x: np.full((len(x), 2), np.nan))
    for data in (data_file, pictures):
        with pytest.raises(InputError, match="are not finite numbers"):
            run(network, data)


# --- intervals ---------------------------------------------------------------------------------


def bootstrap_by_hand(p, y, groups, resamples, seed):
    """Group by group, with repeated rows, and metrics' own AUC."""
    random = np.random.default_rng(seed)
    _, group = np.unique(groups, return_inverse=True)
    count = group.max() + 1
    found = []
    for _ in range(resamples):
        times = random.multinomial(count, np.full(count, 1 / count))
        rows = np.repeat(np.arange(len(p)), times[group])
        one = metrics.evaluate(p[rows], y[rows])
        found.append([np.nan if one[name] is None else one[name]
                      for name in ("accuracy", "auc", "balanced_accuracy")])
    return np.nanpercentile(np.array(found), (2.5, 97.5), axis=0)


@pytest.mark.parametrize("ties", [False, True])
def test_bootstrap_is_that_of_repeated_rows(ties):
    """The quick way with weights gives what drawing the rows themselves gives."""
    random = np.random.default_rng(1)
    groups = random.integers(0, 12, 90)
    y = random.integers(0, 2, 90)
    p = np.clip(random.normal(0.35 + 0.3 * y, 0.25), 0, 1)
    p = np.round(p, 1) if ties else p
    found = intervals.bootstrap(p, y, groups, resamples=50, seed=4)
    want = bootstrap_by_hand(p, y, groups, 50, 4)
    assert found["accuracy"] == pytest.approx(want[:, 0])
    assert found["auc"] == pytest.approx(want[:, 1])
    assert found["balanced_accuracy"] == pytest.approx(want[:, 2])


def test_groups_widen_the_interval():
    """A hundred pictures in ten groups that stand or fall together say what ten would."""
    right = np.repeat([1, 1, 1, 0, 1, 1, 0, 1, 1, 1], 10)
    y = np.tile([0, 1], 50)
    p = np.where(right == 1, y, 1 - y).astype(float)
    wide, narrow = (intervals.bootstrap(p, y, groups)["accuracy"]
                    for groups in (np.repeat(np.arange(10), 10), np.arange(100)))
    # standard errors: sqrt(.8 · .2 / n)
    assert wide[1] - wide[0] == pytest.approx(3.92 * 0.126, rel=0.2)
    assert narrow[1] - narrow[0] == pytest.approx(3.92 * 0.04, rel=0.2)


def test_intervals_repeat_and_may_be_missing():
    """The same seed, the same ends; one group tells nothing, one class has no AUC."""
    p, y, groups = np.array([0.2, 0.9, 0.4, 0.7]), np.array([0, 1, 1, 0]), np.arange(4)
    assert intervals.bootstrap(p, y, groups) == intervals.bootstrap(p, y, groups)
    nothing = {"accuracy": None, "balanced_accuracy": None, "auc": None}
    assert intervals.bootstrap(p, y, np.zeros(4, int)) == nothing
    found = intervals.bootstrap(p, np.ones(4), groups)
    assert found["auc"] is found["balanced_accuracy"] is None and found["accuracy"] is not None
    assert intervals.bootstrap([], [], []) == nothing


# --- breakdowns --------------------------------------------------------------------------------


def material(*rows: tuple[str, int, float, int]) -> Material:
    """From (path, label, probability, group)."""
    paths, labels, p, groups = zip(*rows, strict=True)
    groups = np.array(groups)
    return Material([os.fsencode(path) for path in paths], np.array(labels, np.uint8), groups,
                    np.bincount(groups)[groups], np.array(p))


MIXED = material(
    ("Au/Au_ani_00001.jpg", 0, 0.1, 0), ("Au/Au_ani_00002.JPEG", 0, 0.7, 1),
    ("Au/Au_ani_00003.bmp", 0, 0.2, 2),
    ("Tp/Tp_D_CRN_S_N_ani00001_art00014_11818.tif", 1, 0.9, 0),
    ("Tp/Tp_D_NNN_S_N_ani00003_art00014_11819.tiff", 1, 0.3, 2),
    ("Tp/Tp_S_CRN_M_N_ani00002_ani00002_11820.jpg", 1, 0.8, 1),
    ("Tp/strange.tif", 1, 0.6, 3))


def test_formats_by_hand():
    """Endings whatever their case and spelling; a format of one class has no AUC, and a majority
    of 100%."""
    found = breakdown.all_of(MIXED, 0.5)["format"]
    assert {name: one["rows"] for name, one in found.items()} == {".jpg": 3, ".tif": 3, ".bmp": 1}
    assert (found[".jpg"]["accuracy"], found[".jpg"]["majority"]) == (2 / 3, 2 / 3)
    assert found[".tif"]["majority"] == 1 and found[".tif"]["auc"] is None
    assert found[".tif"]["recall"] == 2 / 3


def test_kinds_of_tampering_by_hand():
    """Each against all authentic pictures; a name that isn't CASIA's has no kind."""
    found = breakdown.all_of(MIXED, 0.5)
    assert {name: one["tampered"] for name, one in found["origin"].items()} == {
        "from another picture": 2, "from the same picture": 1}
    other = found["origin"]["from another picture"]
    assert (other["rows"], other["recall"], other["auc"]) == (5, 0.5, 5 / 6)
    assert {name: (one["tampered"], one["recall"]) for name, one in found["operation"].items()} == {
        "CRN": (2, 1), "NNN": (1, 0)}


def test_group_sizes_by_hand():
    found = breakdown.all_of(MIXED, 0.5)["group size"]
    assert {name: one["rows"] for name, one in found.items()} == {
        "alone": 1, "2 to 9 pictures": 6}


def test_small_parts_are_marked():
    """Fewer than 30 pictures of a class that is there."""
    many = material(*((f"a{i}.jpg", i % 2, 0.5, i) for i in range(60)))
    assert not breakdown.all_of(many, 0.5)["format"][".jpg"]["few"]
    fewer = material(*((f"a{i}.jpg", i % 2, 0.5, i) for i in range(59)))
    assert breakdown.all_of(fewer, 0.5)["format"][".jpg"]["few"]
    one_class = material(*((f"a{i}.jpg", 1, 0.5, i) for i in range(30)))
    assert not breakdown.all_of(one_class, 0.5)["format"][".jpg"]["few"]
    shown = text._breakdowns(breakdown.all_of(fewer, 0.5))
    assert ".jpg *" in shown and "fewer than 30 pictures: mostly chance" in shown


def test_frames_of_videos_have_the_videos_format():
    found = breakdown.all_of(material(("real/a.mp4#frame=1of2", 0, 0.1, 0),
                                      ("fake/b.mp4#frame=2of2", 1, 0.9, 1)), 0.5)
    assert list(found["format"]) == [".mp4"] and "origin" not in found


# --- the mixed protocol ------------------------------------------------------------------------


def labelled(casia_names: dict[str, list[str]], authentic: list[str],
             tampered: list[str]) -> tuple[list[bytes], list[int]]:
    first = [name for which in authentic for name in casia_names[which]]
    second = [name for which in tampered for name in casia_names[which]]
    return ([f"authentic/Au/{name}".encode() for name in first]
            + [f"tampered/Tp/{name}".encode() for name in second],
            [0] * len(first) + [1] * len(second))


def test_the_mixed_protocol_is_warned_of(casia_names):
    """CASIA 1 authentic, CASIA 2 tampered, and the other way round."""
    said = protocol.warning(*labelled(casia_names, ["casia1_Au"], ["casia2_Tp"]))
    assert "CASIA 1's" in said and "CASIA 2's" in said and "86.5%" in said
    assert "CASIA 2's" in protocol.warning(*labelled(casia_names, ["casia2_Au"], ["casia1_Sp"]))


@pytest.mark.parametrize(("authentic", "tampered"), [
    (["casia1_Au"], ["casia1_Sp"]), (["casia2_Au"], ["casia2_Tp"]),
    (["casia1_Au", "casia2_Au"], ["casia1_Sp", "casia2_Tp"])])
def test_whole_sets_are_not_warned_of(casia_names, authentic, tampered):
    assert protocol.warning(*labelled(casia_names, authentic, tampered)) is None


def test_other_pictures_are_not_warned_of():
    assert protocol.warning([b"real/0001.png", b"fake/00001.png"], [0, 1]) is None
    assert protocol.warning([b"Au/Au_ani_0001.jpg", b"fake/x.png"], [0, 1]) is None
    assert protocol.warning([], []) is None


def test_every_casia_name_belongs_to_its_set(casia_names):
    for which, names in casia_names.items():
        found = {protocol.casia_set(os.path.splitext(name)[0]) for name in names}
        assert found == {int(which[5])}


def test_evaluate_and_train_warn(network, data_file, tmp_path, capsys):
    """Of a data file whose names say so."""
    copy = Path(shutil.copy(data_file, tmp_path / "x.h5"))
    header = open_header(copy)
    paths, labels = header.array("path", "r+"), np.array(header.array("label"))
    for row in range(len(paths)):
        paths[row] = b"Tp/Tp_D_CRN_S_N_ani00001_art00014_11818.tif" if labels[row] \
            else b"Au/Au_ani_0001.jpg"
    paths.flush()
    assert run(network, copy, "--no-container") == 0
    assert "the authentic pictures are CASIA 1's" in capsys.readouterr().out
    protocol.warn(open_header(copy).array("path"), labels)
    assert "the tampered ones CASIA 2's" in capsys.readouterr().out
    protocol.warn(open_header(data_file).array("path"), labels)
    assert not capsys.readouterr().out
