"""``hpc_deepfake.load``, with a network whose predictions are known in advance."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
from conftest import ROOT
from mean_network import MeanNetwork
from PIL import Image
from speed import limit

import hpc_deepfake
from hpc_deepfake import predict
from hpc_deepfake.core.errors import InputError
from hpc_deepfake.network import device, model
from hpc_deepfake.network.scoring import Scores
from hpc_deepfake.predict import scoring
from hpc_deepfake.predict.library import Model
from preprocessing.ela import Parameters

LEVEL = 100  # of the plain pictures; the network's probability is the mean brightness


@pytest.fixture
def loaded(monkeypatch, tmp_path) -> Model:
    """A model of this network."""
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "model.keras").touch()
    monkeypatch.setattr(model, "read_card", lambda _: model.Card("raw", Parameters()))
    monkeypatch.setattr(model, "load", lambda _: MeanNetwork())
    monkeypatch.setattr(device, "start", lambda *_, **__: None)
    return hpc_deepfake.load(tmp_path / "run")


def test_a_model_of_another_size(loaded, monkeypatch):
    """Pictures are prepared for the size that its card says; large ones in smaller batches."""
    picture = np.full((40, 60, 3), LEVEL, np.uint8)
    for size, batch in ((64, 32), (512, 4)):
        network = MeanNetwork(size=size)
        monkeypatch.setattr(model, "read_card",
                            lambda _, size=size: model.Card("raw", Parameters(size=size)))
        monkeypatch.setattr(model, "load", lambda _, network=network: network)
        other = hpc_deepfake.load(loaded.path)
        found = [row.probability for row in other.predict([picture] * 40)]
        assert found == pytest.approx([LEVEL / 255] * 40) and network.most == batch


@pytest.fixture
def folder(tmp_path) -> Path:
    """Pictures, one of them unreadable, and a video."""
    path = tmp_path / "pictures"
    path.mkdir()
    random = np.random.default_rng(0)
    for name in ("a.png", "c.png", "d.png"):
        Image.fromarray(random.integers(0, 200, (40, 60, 3), dtype=np.uint8)).save(path / name)
    (path / "b.jpg").write_bytes(b"\xff\xd8 no picture")
    (path / "notes.txt").write_text("beside them")
    video = cv2.VideoWriter(str(path / "c.avi"), cv2.VideoWriter_fourcc(*"MJPG"), 10, (64, 48))
    for _ in range(5):
        video.write(random.integers(0, 255, (48, 64, 3), dtype=np.uint8))
    video.release()
    return path


def test_the_results_are_those_of_the_command(loaded, folder, capsys):
    """All rows in the same order, with everything that the command says."""
    code = predict.main(["--model", os.fspath(loaded.path), "--format", "json", "--frames", "3",
                         os.fspath(folder)])
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    predictions = list(loaded.predict(folder, frames=3))
    assert code == 2 and len(rows) == len(predictions) == 3 + 1 + 3 + 1
    for row, prediction in zip(rows, predictions, strict=True):
        name = prediction.path if prediction.seconds is None \
            else f"{prediction.path}#{prediction.seconds:.2f}"
        assert (row["path"], row["probability"], row["verdict"]) == (
            name, prediction.probability, prediction.verdict)
        assert (row["unlike"], row["notes"]) == (list(prediction.unlike), list(prediction.notes))
    assert [prediction.kind for prediction in predictions] == [
        "picture", "picture", *["frame"] * 3, "video", "picture", "picture"]
    assert predictions[1].probability is None and predictions[1].verdict.startswith("not read: ")


def test_every_form_of_a_picture(loaded, folder):
    """A path, a file's contents, pixels and an image of Pillow are the same picture."""
    file = folder / "a.png"
    image = Image.open(file)
    forms = [file, str(file), file.read_bytes(), image, np.asarray(image), image.convert("RGBA")]
    predictions = list(loaded.predict(forms))
    assert len({prediction.probability for prediction in predictions}) == 1
    assert [prediction.path for prediction in predictions] == [str(file)] * 2 + [None] * 4
    (alone,) = loaded.predict(np.asarray(image))
    assert alone == predictions[4]
    grey = np.full((2, 30, 50, 3), LEVEL, np.uint8)
    for pictures, count in ((grey, 2), (iter(grey), 2), (grey[0, ..., 0], 1),
                            (Image.new("L", (9, 9), LEVEL), 1)):
        probabilities = [prediction.probability for prediction in loaded.predict(pictures)]
        assert probabilities == pytest.approx([LEVEL / 255] * count)


def test_red_green_blue(loaded, monkeypatch):
    """The order of an array's channels is that of a file's."""
    pixels = np.zeros((128, 128, 3), np.uint8)
    pixels[..., 0] = 200
    content = io.BytesIO()
    Image.fromarray(pixels).save(content, "PNG")
    seen: list[np.ndarray] = []
    monkeypatch.setattr(scoring, "scores_of", lambda _, features: (
        seen.extend(features) or Scores.of(np.full((len(features), 2), 0.5))))
    list(loaded.predict([pixels, content.getvalue()]))
    assert np.array_equal(*seen) and seen[0][0, 0].tolist() == [200, 0, 0]


def test_pictures_are_taken_as_they_are_asked_for(loaded):
    """A camera that never ends, with one buffer for all its pictures: at most two batches are read
    ahead, and each picture is what the buffer held then."""
    taken = 0

    def camera() -> Iterator[np.ndarray]:
        nonlocal taken
        buffer = np.zeros((16, 16, 3), np.uint8)
        while True:
            taken += 1
            assert taken < 1000, "read to the end"
            buffer[:] = taken % 200
            yield buffer

    results = loaded.predict(camera())
    assert taken == 0
    first = [next(results).probability for _ in range(3)]
    assert first == [pytest.approx(level / 255) for level in (1, 2, 3)]
    assert taken <= 2 * scoring.BATCH + 1
    results.close()


def test_a_damaged_image_and_one_without_a_range_are_results(loaded, folder):
    """As for files: the others are predicted."""
    png = (folder / "a.png").read_bytes()
    broken = Image.open(io.BytesIO(png[:len(png) // 2]))
    verdicts = [prediction.verdict for prediction in loaded.predict(
        [broken, Image.new("F", (9, 9)), Image.new("RGB", (0, 5)), folder / "gone.jpg", png])]
    assert all(verdict.startswith("not read: ") for verdict in verdicts[:4])
    assert "No such file" in verdicts[3] and verdicts[4] in ("authentic", "tampered")


@pytest.mark.parametrize(("picture", "words"), [
    (np.zeros((9, 9, 3)), "float64"), (np.zeros((9, 9, 4), np.uint8), "(9, 9, 4)"),
    (np.zeros(9, np.uint8), "(9,)"), (np.zeros((0, 9, 3), np.uint8), "no pixels"),
    (7, "int is no picture"), ([None], "NoneType is no picture")])
def test_what_is_no_picture_is_a_mistake(loaded, picture, words):
    with pytest.raises(TypeError) as error:
        list(loaded.predict(picture))
    assert words in str(error.value)


def test_thresholds_and_wrong_arguments(loaded, tmp_path):
    run = tmp_path / "run"
    picture = np.random.default_rng(0).integers(0, 2 * LEVEL, (128, 128, 3), dtype=np.uint8)
    verdicts = [next(hpc_deepfake.load(run, threshold=threshold).predict(picture)).verdict
                for threshold in (0.3, 0.5, (0.3, 0.5))]
    assert verdicts == ["tampered", "authentic", "undecided"]
    for threshold in (1.5, (0.5, 0.3), (-1, 0.3)):
        with pytest.raises(ValueError, match="from 0 to 1"):
            hpc_deepfake.load(run, threshold=threshold)
    for threshold in ("auto", (0.1, 0.2, 0.3), [0.5]):
        with pytest.raises(ValueError, match="from 0 to 1"):
            hpc_deepfake.load(tmp_path / "run", threshold=threshold)
    with pytest.raises(TypeError, match="path of a run directory"):
        hpc_deepfake.load(None)
    for options in ({"frames": 0}, {"frames": 2.5}, {"frame_rate": -1}, {"frame_rate": "5"}):
        with pytest.raises(ValueError, match=next(iter(options))):
            loaded.predict(tmp_path, **options)
    with pytest.raises(ValueError, match="auto, cpu, gpu"):
        hpc_deepfake.load(run, device="tpu")
    with pytest.raises(InputError, match="there is no trained model"):
        hpc_deepfake.load(tmp_path / "nowhere")


def test_tensorflow_at_work_already_keeps_its_settings(loaded, monkeypatch, folder):
    """It refuses others, such as a number of threads, once it has computed something."""
    def refuses(*_: object) -> None:
        raise RuntimeError("Intra op parallelism cannot be modified after initialization.")

    monkeypatch.setattr(device, "start", refuses)
    assert next(hpc_deepfake.load(loaded.path).predict(folder)).probability is not None


def test_what_must_be_said_is_part_of_the_model(loaded):
    assert loaded.caveats and all(caveat in repr(loaded) for caveat in loaded.caveats)


PROGRAM = """
import sys
before = set(sys.modules)
import hpc_deepfake
print(*{name.partition(".")[0] for name in set(sys.modules) - before})
import cv2
from PIL import Image
Image.MAX_IMAGE_PIXELS = 12345
cv2.setNumThreads(3)
try:
    hpc_deepfake.load("nowhere")
except hpc_deepfake.core.errors.InputError:
    print(Image.MAX_IMAGE_PIXELS, cv2.getNumThreads(), "tensorflow" in sys.modules)
"""


def test_the_import_is_light_and_the_callers_settings_stay(tmp_path):
    """It loads nothing but Python's own modules; a wrong path is said before TensorFlow starts."""
    done = subprocess.run([sys.executable, "-c", PROGRAM], cwd=tmp_path, capture_output=True,
                          text=True, timeout=limit(60), env={**os.environ, "PYTHONPATH": str(ROOT)})
    imported, settings = done.stdout.splitlines()
    assert set(imported.split()) - sys.stdlib_module_names == {"hpc_deepfake"}, done.stderr
    assert settings == "12345 3 False"
