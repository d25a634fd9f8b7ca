"""evaluate says how many pictures the model was trained on, and what it is without them."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from mean_network import BrightnessNetwork
from PIL import Image
from test_evaluate import network as network_of  # noqa: F401, a fixture
from test_evaluate import part_of, run

from hpc_deepfake import metrics
from hpc_deepfake.evaluate import common
from hpc_deepfake.evaluate.material import of_rows, open_file, rows_of
from hpc_deepfake.network import model
from hpc_deepfake.network.card import Card
from hpc_deepfake.network.guard import NO_LIST, Guard
from hpc_deepfake.network.likeness import Profile
from hpc_deepfake.network.pictures import RELATIONS, Pictures
from preprocessing import facts
from preprocessing.ela import Parameters, features_of_file
from preprocessing.split import TRAIN, VALIDATION

CARD = Card("ela", Parameters())


def test_some_rows_of_a_data_file_were_trained_on(data_file: Path) -> None:
    """By digest, by feature, and by looks; each in the order of the rows."""
    data = open_file(data_file, CARD)
    rows = rows_of(data, "validation")
    header, features = data.header, data.batch(rows)[0].copy()
    raw, digests = (np.array(header.array(name)[rows]) for name in ("raw", "digest"))
    parts = np.full(3, TRAIN, np.uint8)
    parts[1] = VALIDATION
    digests[1:3], features[[0, 2]] = 0, 255
    again = cv2.imdecode(cv2.imencode(".jpg", raw[2], (cv2.IMWRITE_JPEG_QUALITY, 60))[1],
                         cv2.IMREAD_COLOR)
    raw[:2], raw[2] = 0, again
    known = Pictures.of(features[:3], raw[:3], digests[:3], parts)
    material = of_rows(BrightnessNetwork(), data, rows, guard=Guard(Profile(0), pictures=known))
    assert material.seen is not None
    assert [RELATIONS[number] for number in material.seen[:3].tolist()] == [
        "trained on", "used for validation", "looks like a picture trained on"]
    chosen = material.seen > 0
    found = common.figures(material, CARD)
    p, y = part_of(data_file, "validation")
    assert found is not None and found["rows"] == chosen.sum()
    left = metrics.evaluate(p[~chosen], y[~chosen])
    assert found["without"]["loss"] == pytest.approx(left.pop("loss"))
    assert {name: found["without"][name] for name in left} == left
    line = common.line(found, len(rows))
    assert line.startswith("known to the model")
    assert f"{chosen.sum()} of {len(rows)} images, " in line
    assert "2 trained on (1 of them saved again), 1 used for validation" in line
    assert "; without them accuracy " in line
    none = of_rows(BrightnessNetwork(), data, rows, guard=Guard(Profile(0)))
    assert none.seen is None and common.figures(none, CARD) is None
    assert common.line(None, len(rows)) == ""


def test_a_folder_with_pictures_that_were_trained_on(network_of, tmp_path, monkeypatch,  # noqa: F811
                                                         capsys):
    """Under other names; one file can't be read."""
    random = np.random.default_rng(0)
    for folder in ("Au", "Tp"):
        (tmp_path / "data" / folder).mkdir(parents=True)
        for name in ("a", "b"):
            small = random.integers(0, 256, (7, 7, 3), np.uint8)
            Image.fromarray(cv2.resize(small, (200, 150), interpolation=cv2.INTER_CUBIC)).save(
                tmp_path / "data" / folder / f"{name}.jpg", quality=95)
    (tmp_path / "data" / "Au" / "0.jpg").write_bytes(b"nothing")
    trained = tmp_path / "data" / "Tp" / "b.jpg"
    raw, = features_of_file(trained, ("raw",), Parameters())
    pictures = Pictures.of(np.zeros_like(raw)[None], raw[None], np.frombuffer(
        facts.digest(trained.read_bytes()), np.uint8)[None], np.array([TRAIN], np.uint8))
    card = Card("ela", Parameters(), trained_on={"train": 1})
    monkeypatch.setattr(model, "read_card", lambda _: card)
    assert run(network_of, tmp_path / "data") == 2
    assert f"(the model {NO_LIST})" in capsys.readouterr().out
    pictures.write(network_of / "model.keras")
    assert run(network_of, tmp_path / "data", "--json", tmp_path / "x.json") == 2
    found = json.loads((tmp_path / "x.json").read_text())["common"]
    assert (found["rows"], found["relations"]) == (1, {"trained on": 1})
    assert found["without"]["rows"] == 3
    out = capsys.readouterr().out
    assert "1 of 4 images, 1 trained on; without them" in out and NO_LIST not in out
