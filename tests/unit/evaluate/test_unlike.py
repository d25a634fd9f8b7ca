"""evaluate says how many pictures are unlike the training pictures, and what it is without them."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from mean_network import BrightnessNetwork
from PIL import Image
from test_evaluate import network as network_of  # noqa: F401, a fixture
from test_evaluate import part_of, run

from hpc_deepfake import metrics
from hpc_deepfake.evaluate import unlike
from hpc_deepfake.evaluate.material import of_rows, open_file, rows_of
from hpc_deepfake.network import model
from hpc_deepfake.network.card import Card
from hpc_deepfake.network.guard import Guard
from hpc_deepfake.network.likeness import Profile
from preprocessing import facts
from preprocessing.ela import Parameters
from preprocessing.facts import Facts

JPEG = Profile(60, {"JPEG": 60}, (128, 480), (94, 98))


def card(profile: Profile, sample: bool = False) -> Card:
    return Card("ela", Parameters(), trained_on={"likeness": profile.as_dict(), "sample": sample})


def evaluated(capsys, tmp_path: Path) -> tuple[dict, list[str]]:
    """The figures of the JSON file, and the line."""
    lines = capsys.readouterr().out.splitlines()
    found = json.loads((tmp_path / "x.json").read_text())["unlike"]
    return found, [line for line in lines if line.startswith("unlike training")]


@pytest.mark.parametrize("sample", [True, False])
def test_all_of_a_data_file_or_none(network_of, data_file, tmp_path, monkeypatch, capsys,  # noqa: F811
                                    sample):
    """None of the drawn pictures, of which nothing else is known, is unlike for a model of such;
    all are for a model of PNG files, and nothing is left."""
    known = card(JPEG if sample else replace(JPEG, formats={"PNG": 60}), sample)
    monkeypatch.setattr(model, "read_card", lambda _: known)
    assert run(network_of, data_file, "--no-container", "--json", tmp_path / "x.json") == 0
    found, lines = evaluated(capsys, tmp_path)
    assert found["without"] is None
    if sample:
        assert (found["rows"], lines) == (0, [])
    else:
        count = len(part_of(data_file, "validation")[1])
        assert found["rows"] == count
        assert lines == [f"unlike training     100.0%   {count} of {count} images; predict gives "
                         "no verdict on them: what is below is of their bare probabilities"]


def test_some_rows_of_a_data_file(data_file, monkeypatch):
    """By size, in the order of the rows; the figures are those of the others."""
    data = open_file(data_file, card(JPEG))
    rows = rows_of(data, "validation")
    real = facts.stored
    chosen = np.arange(len(rows)) % 3 == 1
    monkeypatch.setattr(facts, "stored", lambda header, asked: [
        Facts(20, 20, "JPEG", 95) if small else fact
        for small, fact in zip(chosen, real(header, asked), strict=True)])
    material = of_rows(BrightnessNetwork(), data, rows, guard=Guard(JPEG))
    assert material.unlike.tolist() == chosen.tolist()
    found = unlike.figures(material, card(JPEG))
    p, y = part_of(data_file, "validation")
    left = {**metrics.evaluate(p[~chosen], y[~chosen]),
            "false_positive_rate": (p[~chosen][y[~chosen] == 0] >= 0.5).mean()}
    assert found["rows"] == chosen.sum() and found["authentic"] == (y[chosen] == 0).sum()
    assert found["without"] == pytest.approx(left, rel=1e-6)
    line = unlike.line(found, len(rows))
    assert f"{chosen.sum()} of {len(rows)} images; predict gives no verdict on them, but they " \
        "count below; without them accuracy " in line
    assert line.endswith(f"false positives {left['false_positive_rate']:.1%}")


def test_a_folder(network_of, tmp_path, monkeypatch, capsys):  # noqa: F811
    """Of four pictures a PNG and a tiny one are unlike; one that can't be read stands between."""
    pixels = np.random.default_rng(0).integers(0, 255, (200, 300, 3), np.uint8)
    for folder in ("Au", "Tp"):
        (tmp_path / "data" / folder).mkdir(parents=True)
        Image.fromarray(pixels).save(tmp_path / "data" / folder / "b.jpg", quality=95)
    (tmp_path / "data" / "Au" / "a.jpg").write_bytes(b"nothing")
    Image.fromarray(pixels).save(tmp_path / "data" / "Au" / "c.png")
    Image.fromarray(pixels[:20, :20]).save(tmp_path / "data" / "Tp" / "d.jpg", quality=95)
    monkeypatch.setattr(model, "read_card", lambda _: card(JPEG))
    assert run(network_of, tmp_path / "data", "--json", tmp_path / "x.json") == 2
    found, lines = evaluated(capsys, tmp_path)
    assert (found["rows"], found["authentic"], found["without"]["rows"]) == (2, 1, 2)
    assert lines[0].startswith("unlike training      50.0%   2 of 4 images; predict gives no ")
    monkeypatch.setattr(model, "read_card", lambda _: card(JPEG, sample=True))
    assert run(network_of, tmp_path / "data", "--json", tmp_path / "x.json") == 2
    assert evaluated(capsys, tmp_path)[0]["rows"] == 4  # none was drawn
