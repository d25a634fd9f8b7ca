"""Where pictures were changed: counted from maps and masks, of a data file and of a folder."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from hpc_deepfake import evaluate
from hpc_deepfake.data.rows import DataFile, open_data
from hpc_deepfake.evaluate import located, pixels
from hpc_deepfake.evaluate.material import Material, of_folder, of_rows
from hpc_deepfake.evaluate.pixels import ERRORS, MEAN, MODEL
from hpc_deepfake.metrics import masks
from hpc_deepfake.network import device, ensemble, maps, model
from hpc_deepfake.network.card import Card
from preprocessing.catalogue import Catalogue
from preprocessing.mask import CHANGED, SAME, UNKNOWN


def of_channel(channel: int) -> Any:
    """A network whose map is this channel of its feature."""
    import keras

    picture = keras.Input((32, 32, 3), name="picture")
    found = keras.layers.Rescaling(1 / 255)(picture)[..., channel:channel + 1]
    return maps.with_verdict(picture, found, f"channel{channel}", found=found)


@pytest.fixture(scope="module")
def network() -> Any:
    return of_channel(0)


@pytest.fixture(scope="module")
def data(small_file: Path) -> DataFile:
    return open_data(small_file, "ela", "read")


@pytest.fixture(scope="module")
def material(network, data: DataFile) -> Material:
    return of_rows(network, data, data.rows("all"))


def stored_masks(data: DataFile) -> np.ndarray:
    return np.asarray(data.masks[data.rows("all")])


def test_pixels_of_maps_and_baselines_by_their_masks(network, data, material) -> None:
    """Those of the map itself, of blurred error levels, and of the mean mask."""
    rows, known = data.rows("all"), stored_masks(data)
    features = data.batch(rows)[0]
    mean = pixels.mean_mask(data)
    expected = {MODEL: features[..., 0], ERRORS: pixels.blurred(features),
                MEAN: np.broadcast_to(mean, known.shape)}
    assert material.counted.keys() == expected.keys()
    for name, levels in expected.items():
        counts = masks.histograms(levels, known)
        assert (material.counted[name] == counts).all(), name
    assert material.pixels is material.counted[MODEL]
    chosen = np.arange(len(rows)) % 3 == 0
    assert (material.take(chosen).pixels == material.pixels[chosen]).all()


def test_maps_change_nothing_else(network, data, material) -> None:
    without = of_rows(network, data, data.rows("all"), where=False)
    assert without.counted == {} and without.pixels is None
    assert (without.probabilities == material.probabilities).all()
    assert (without.odds == material.odds).all()


def test_an_ensemble_has_the_mean_of_its_maps(data) -> None:
    """Beside the members' probabilities, which an evaluation shows."""
    rows = data.rows("test")
    features = data.batch(rows)[0]
    whole = ensemble.with_members(ensemble.joined([of_channel(0), of_channel(2)], [1.0, 1.5]))
    found = of_rows(whole, data, rows)
    assert found.members.shape == (len(rows), 2)
    levels = (features[..., 0].astype(int) + features[..., 2]) // 2  # halves may be rounded up
    known = np.asarray(data.masks[rows])
    least, most = (masks.histograms((levels + up).astype(np.uint8), known).cumsum(2)
                   for up in ((features[..., 0] ^ features[..., 2]) & 1, 0))
    assert ((least <= found.pixels.cumsum(2)) & (found.pixels.cumsum(2) <= most)).all()


def test_the_mean_mask_is_that_of_tampered_training_pictures(data) -> None:
    rows = data.rows("train")
    tampered = np.asarray(data.masks[rows[data.labels[rows] == 1]])
    assert (tampered == CHANGED).any()
    assert (pixels.mean_mask(data) == np.rint(255 * (tampered == CHANGED).mean(0))).all()


def test_error_levels_are_blurred_and_stretched() -> None:
    """One bright channel of one pixel becomes a hill with its top there."""
    errors = np.zeros((2, 32, 32, 3), np.uint8)
    errors[0, 20, 9, 1] = 60
    hill, flat = pixels.blurred(errors)
    assert np.unravel_index(hill.argmax(), hill.shape) == (20, 9) and hill.max() == 255
    assert 0 < hill[20, 12] < hill[20, 11] < 255 and hill[0, 31] == 0
    assert not flat.any()
    stacked = np.dstack([errors[0], errors[0] + 1])
    assert (pixels.own_errors(stacked, "ela+raw") == errors[0]).all()
    assert pixels.own_errors(errors, "raw") is None


def catalogue(folder: Path, data: DataFile, with_masks: bool = True) -> Catalogue:
    """The pictures of the data file in its order, with the masks beside them."""
    paths = data.paths[data.rows("all")].tolist()
    found = {path: b"Gt/" + path[3:-4] + b"_gt.png" for path in paths if path.startswith(b"Tp/")}
    rows = data.rows("all")
    return Catalogue({"": folder}, paths, data.labels[rows],
                     np.array(data.header.array("group"))[rows], masks=found if with_masks else {})


def test_a_folder_counts_as_its_data_file(network, data, material, pictures) -> None:
    """The masks are read and shrunk as preprocessing does; without some, authentic pictures are
    known to be unchanged all the same."""
    card = Card("ela", data.header.parameters)
    found, rejected = of_folder(network, card, catalogue(pictures, data), mean=pixels.mean_mask(
        data))
    assert not rejected and (found.probabilities == material.probabilities).all()
    for name, counts in material.counted.items():
        assert (found.counted[name] == counts).all(), name
    bare, _ = of_folder(network, card, catalogue(pictures, data, with_masks=False))
    authentic = material.labels == 0
    assert (bare.pixels[authentic] == material.pixels[authentic]).all()
    assert not bare.pixels[~authentic].any() and bare.counted.keys() == {MODEL, ERRORS}


def test_masks_that_cannot_be_used_are_unknown(network, data, pictures, tmp_path) -> None:
    for name in ("Au", "Tp"):
        (tmp_path / name).symlink_to(pictures / name)
    listed = catalogue(tmp_path, data)
    (tmp_path / "Gt").mkdir()
    for number, mask in enumerate(sorted(listed.masks.values())):
        target = tmp_path / mask.decode()
        if number == 0:
            target.write_text("no picture")
        elif number == 1:
            Image.new("L", (10, 300), 255).save(target)
        else:
            target.symlink_to(pictures / mask.decode())
    found, rejected = of_folder(network, Card("ela", data.header.parameters), listed)
    assert not rejected
    unknown = [path for path, counts in zip(found.paths, found.pixels, strict=True)
               if not counts.any()]
    assert unknown == sorted(listed.masks)[:2]
    figures = located.figures(found, Card("ela", data.header.parameters))
    assert figures is not None and figures["unknown"] == 2
    assert figures[MODEL]["pictures"] == len(listed.masks) - 2
    assert "2 tampered images without a mask left out" in "\n".join(located.lines(figures))


def test_figures_stand_beside_baselines(material, data) -> None:
    """Everything, nothing, the mean mask and error levels, each at its own threshold."""
    found = located.figures(material, Card("ela", data.header.parameters, mask_threshold=40))
    assert found is not None
    labels = material.labels
    assert found[MODEL]["threshold"] == 40 and found["unknown"] == 0
    for name in (MODEL, ERRORS, MEAN):
        own = masks.figures(material.counted[name], labels, found[name]["threshold"])
        assert own.items() <= found[name].items()
        if name != MODEL:
            assert own["threshold"] == own["threshold_best"]
    share = (stored_masks(data)[labels == 1] == CHANGED).mean((1, 2))
    everything, nothing = found[located.EVERYTHING], found[located.NOTHING]
    assert everything["per_picture"]["f1"] == pytest.approx((2 * share / (1 + share)).mean())
    assert everything["false_alarm_area"] == 1 and everything["per_picture"]["auc"] == 0.5
    assert nothing["per_picture"]["f1"] == nothing["false_alarm_area"] == 0
    low, high = found[MODEL]["intervals"]["per_picture"]["auc"]
    assert low < found[MODEL]["per_picture"]["auc"] < high
    lines = located.lines(found)
    names = [line.split("  ")[1] for line in lines if line.startswith("  ")]
    assert names == ["per picture", MODEL, ERRORS, MEAN, located.EVERYTHING, located.NOTHING]
    assert f"from {40 / 255:.2f} on" in lines[-2] and "of 30 authentic images" in lines[-1]
    assert located.figures(material.take(labels > 1), Card("ela", data.header.parameters)) is None


def test_authentic_pictures_alone_have_an_area(material, data) -> None:
    chosen = located.figures(material.take(material.labels == 0),
                             Card("ela", data.header.parameters))
    assert chosen is not None
    line, = located.lines(chosen)
    assert line.startswith("false-alarm area") and "; error levels" in line
    assert f"{chosen[MODEL]['false_alarm_area']:.1%}" in line


def test_masks_of_labels_alone() -> None:
    known = pixels.of_labels(np.array([0, 1]), 4)
    assert (known[0] == SAME).all() and (known[1] == UNKNOWN).all()


def test_the_command_prints_where_and_draws_it(network, small_file, tmp_path, monkeypatch,
                                               capsys) -> None:
    """Only of a model that says where."""
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "model.keras").touch()
    parameters = open_data(small_file, "ela", "read").header.parameters
    monkeypatch.setattr(model, "read_card", lambda _: Card("ela", parameters, mask_threshold=40))
    monkeypatch.setattr(model, "load", lambda _: network)
    monkeypatch.setattr(device, "start", lambda *_, **__: None)
    words = ["--model", str(tmp_path / "run"), "--data", str(small_file), "--part", "test",
             "--no-container", "--json", str(tmp_path / "x.json")]
    assert evaluate.main([*words, "--plots", str(tmp_path)]) == 0
    written = json.loads((tmp_path / "x.json").read_text())["where"]
    assert written[MODEL]["threshold"] == 40 and written[MODEL]["pictures"] > 0
    out = capsys.readouterr().out
    assert "where changed" in out and "false-alarm area" in out
    with Image.open(tmp_path / "test-where.png") as drawn:
        assert drawn.size > (800, 400)
    with monkeypatch.context() as without:
        without.setattr(maps, "has", lambda _: False)
        assert evaluate.main(words) == 0
    assert json.loads((tmp_path / "x.json").read_text())["where"] is None
    assert "where changed" not in capsys.readouterr().out
