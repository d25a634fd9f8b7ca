"""predict and what the model knows of its training pictures: no verdict on others, and notes."""

from __future__ import annotations

import csv
import io
import json
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from mean_network import MeanNetwork
from PIL import Image
from test_predict import clip, network, run  # noqa: F401, a fixture

from hpc_deepfake.core.errors import InputError
from hpc_deepfake.network import model
from hpc_deepfake.network.card import SAMPLE, Card
from hpc_deepfake.network.guard import NO_LIST
from hpc_deepfake.network.likeness import Profile
from hpc_deepfake.network.pictures import Pictures
from preprocessing import facts
from preprocessing.ela import Parameters, features_of_file
from preprocessing.sample import generate
from preprocessing.split import TRAIN, VALIDATION

PROFILE = Profile(60, {"JPEG": 60}, (100, 400), (90, 98))
CARD = Card("raw", Parameters(), trained_on={"likeness": PROFILE.as_dict()})


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A picture like the training pictures, and three that aren't; all are called tampered."""
    pixels = np.random.default_rng(0).integers(200, 255, (200, 300, 3), np.uint8)
    folder = tmp_path / "pictures"
    folder.mkdir()
    own = Image.fromarray(pixels)
    own.save(folder / "a.jpg", quality=95)
    own.save(folder / "b.png")
    own.resize((20, 20)).save(folder / "c.jpg", quality=95)
    Image.new("RGB", (300, 200), "white").save(folder / "d.jpg", quality=95)
    return folder


@pytest.fixture
def card(network: MeanNetwork, monkeypatch: pytest.MonkeyPatch):  # noqa: F811
    """A function that gives the command's model this card."""
    none = np.zeros((0, 128, 128, 3), np.uint8)
    listed = Pictures.of(none, None, None, np.zeros(0, np.uint8))

    def use(card: Card) -> None:
        monkeypatch.setattr(model, "read_card", lambda _: card)
    use(CARD)
    monkeypatch.setattr(Pictures, "read", lambda _: listed)
    return use


def test_a_model_without_its_list_of_pictures_says_so(card, folder, monkeypatch, capsys) -> None:
    """As where only model.keras and model.json were copied."""
    assert run(folder / "a.jpg") == 0
    assert not capsys.readouterr().out.startswith("model:")
    monkeypatch.setattr(Pictures, "read", lambda _: None)
    assert run(folder / "a.jpg") == 0
    assert capsys.readouterr().out.splitlines()[0] == f"model: {NO_LIST}"
    card(replace(CARD, trained_on=None))  # an earlier version
    assert run(folder / "a.jpg") == 0
    first, second, *_ = capsys.readouterr().out.splitlines()
    assert first.endswith("or among them, aren't recognised") and second.startswith("tampered")


def test_no_verdict_on_other_pictures(card, folder, capsys) -> None:
    """The table shows no percentage that looks like one; CSV and JSON keep the number. All say
    why, and the last line how many."""
    assert run("--format", "json", folder) == 0
    out, err = capsys.readouterr()
    rows = [json.loads(line) for line in out.splitlines()]
    assert [row["verdict"] for row in rows] == ["tampered", *["unlike training"] * 3]
    assert all(row["probability"] > 0.8 for row in rows)
    reasons = [row["unlike"] for row in rows]
    assert reasons[0] == [] and reasons[1] == ["the file is PNG, all training pictures are JPEG"]
    assert reasons[2] == ["20×20 pixels are few: training pictures have at least 100 a side"]
    assert reasons[3][0].startswith("nothing to see")
    assert err.splitlines()[1] == ("unlike the pictures that the model was trained on, so without "
                                   "a verdict: 3 of 4")
    assert run("--format", "csv", folder) == 0
    listed = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    assert [row["verdict"] for row in listed] == [row["verdict"] for row in rows]
    assert [row["notes"] for row in listed] == ["; ".join(unlike) for unlike in reasons]
    assert all(float(row["probability"]) > 0.8 for row in listed)
    assert run(folder) == 0
    table = capsys.readouterr().out.splitlines()
    assert table[0].split() == ["tampered", "verdict", "picture"]
    assert table[1].split()[:2] != ["–", "unlike"] and "%" in table[1]
    assert [line.strip() for line in table[3::2]] == [f"- {unlike[0]}" for unlike in reasons[1:]]
    assert not any("%" in line for line in table[2:])


def test_what_a_model_of_drawn_pictures_is_not_for(card, folder, tmp_path, capsys) -> None:
    """Before the verdicts, and in every row; only its own kind of file gets a verdict."""
    card(replace(CARD, trained_on={"sample": True}))
    generate(tmp_path / "drawn", 2, 3)
    for form in ("table", "csv", "json"):
        assert run("--format", form, folder / "a.jpg", tmp_path / "drawn") == 0
        out = capsys.readouterr().out
        if form == "table":
            first, _, photograph, why, *drawn = out.splitlines()
            assert first == f"model: {SAMPLE}"
        elif form == "csv":
            _, photograph, *drawn = out.splitlines()
            why = photograph
            assert all(SAMPLE in row for row in (photograph, *drawn))
        else:
            photograph, *drawn = out.splitlines()
            why = photograph
            assert all(json.loads(row)["caveats"] == [SAMPLE] for row in (photograph, *drawn))
        assert "unlike training" in photograph and "not drawn by hpc-deepfake sample" in why
        assert len(drawn) == 2 and not any("unlike" in row.replace('"unlike": []', "")
                                           for row in drawn)


def test_pictures_that_were_trained_on_are_named(card, folder, tmp_path, monkeypatch, capsys):
    """In a folder, under another name, and in another file with the same pixels."""
    row, = features_of_file(os.fspath(folder / "a.jpg"), ("raw",), Parameters())
    other, = features_of_file(os.fspath(folder / "c.jpg"), ("raw",), Parameters())
    known = Pictures.of(np.stack([row, other]), np.stack([row, other]), np.stack([
        np.frombuffer(facts.digest((folder / name).read_bytes()), np.uint8)
        for name in ("a.jpg", "c.jpg")]), np.array([TRAIN, VALIDATION], np.uint8))
    monkeypatch.setattr(Pictures, "read", lambda _: known)
    (folder / "a.jpg").rename(folder / "z.jpg")
    Image.open(folder / "z.jpg").save(folder / "z.tif")
    assert run("--format", "json", folder) == 0
    out, err = capsys.readouterr()
    notes = {os.path.basename(row["path"]): row["notes"]
             for row in map(json.loads, out.splitlines())}
    assert notes == {"b.png": notes["b.png"], "c.jpg": ["it was used for validation"], "d.jpg": [],
                     "z.jpg": ["it was trained on"], "z.tif": ["it was trained on"]}
    assert f"those that were: {4 if notes['b.png'] else 3} of 5; " in err.splitlines()[-1]
    assert run(folder / "z.jpg") == 0
    assert capsys.readouterr().out.splitlines()[-1].strip() == "- it was trained on"


def test_frames_of_a_video_and_the_video(card, tmp_path, capsys) -> None:
    """A model of pictures gets no verdict on it, frame by frame and as a whole; one that knows
    videos does. A video has one reason for all its frames."""
    path = clip(tmp_path / "clip.avi", [220] * 10)
    for formats, verdict in (({"JPEG": 60}, "unlike training"), ({"AVI": 60}, "tampered")):
        card(replace(CARD, trained_on={"likeness": replace(
            PROFILE, formats=formats, sides=(48, 64)).as_dict()}))
        assert run("--frames", "3", "--format", "json", path) == 0
        rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
        assert [row["verdict"] for row in rows] == [verdict] * 4
        assert rows[-1]["unlike"] == [
            "3 of 3 frames unlike the training pictures, the first: the file is AVI, all training "
            "pictures are JPEG"] * bool(rows[0]["unlike"])
    assert run("--frames", "3", path) == 0


def test_a_damaged_card_is_refused(card, folder) -> None:
    card(replace(CARD, trained_on={"likeness": {"pictures": 3}}))
    with pytest.raises(InputError, match=r"model run: its statistics .* are damaged"):
        run(folder)
