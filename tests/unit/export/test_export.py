"""Exported models: the same probabilities in each runtime, and pictures prepared as by predict."""

from __future__ import annotations

import ast
import json
import runpy
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
import pytest

from hpc_deepfake import export
from hpc_deepfake.core.errors import InputError, OutputError
from hpc_deepfake.export import recipe, runtimes
from hpc_deepfake.export.runtimes import RUNTIMES
from hpc_deepfake.metrics import temperature
from hpc_deepfake.network.card import Card
from hpc_deepfake.network.scoring import Scores
from preprocessing.ela import Parameters, features_of_file

if TYPE_CHECKING:
    import keras

# what the converters of the pinned versions say about NumPy and about themselves
pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]
SIZE = 160  # other than the usual one, and more than one batch of pictures
CARD = Card("ela", Parameters(size=SIZE), threshold=0.6, lower=0.3, temperature=1.7, trained_on={
    "data": [{"name": "drawn.h5"}], "sample": True, "train": 80, "likeness": {"secret": 1}})


def network(dtype: str = "float32") -> keras.Model:
    """A small network of the layers that the default one has; its weights are random."""
    import keras
    from keras import layers

    keras.utils.set_random_seed(3)
    return keras.Sequential([
        keras.Input((SIZE, SIZE, 3), name="picture"),
        layers.Rescaling(1 / 255, dtype=dtype),
        layers.Conv2D(4, 3, strides=4, activation="relu", dtype=dtype),
        layers.BatchNormalization(dtype=dtype), layers.MaxPooling2D(4, dtype=dtype),
        layers.Flatten(dtype=dtype), layers.Dropout(0.5, dtype=dtype),
        layers.Dense(2, "softmax", dtype=dtype,
                     kernel_initializer=keras.initializers.RandomNormal(stddev=1.5))])


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run directory with that network."""
    from hpc_deepfake.network.model import save

    folder = tmp_path_factory.mktemp("run")
    save(network(), CARD, folder / "model.keras")
    return folder


@pytest.fixture(autouse=True, scope="module")
def started() -> Iterator[None]:
    """TensorFlow computes in this process already."""
    from hpc_deepfake.network import device

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(device, "start", lambda *_, **__: None)
        yield


@pytest.fixture(scope="module")
def folder(run: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The folder of the network exported for a runtime; not to be changed."""
    @cache
    def make(target: str) -> Path:
        out = tmp_path_factory.mktemp(target) / "out"
        exported(run, target, out)
        return out

    return make


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Pictures of several sizes and formats."""
    folder = tmp_path_factory.mktemp("pictures")
    rng = np.random.default_rng(0)
    paths = [folder / name for name in ("a.jpg", "b.png", "c.jpg", "d.bmp")]
    for path, size in zip(paths, ((256, 384), (90, 200), (301, 257), (60, 70))):
        smooth = cv2.resize(rng.integers(0, 256, (9, 9, 3), np.uint8), size[::-1])
        cv2.imwrite(str(path), cv2.add(smooth, rng.integers(0, 20, smooth.shape, np.uint8)))
    return paths


def exported(run: Path, target: str, out: Path, *options: str) -> dict[str, Any]:
    """Export, and return ``card.json``."""
    assert export.main(["--model", str(run), "--to", target, "--out", str(out), *options]) == 0
    return json.loads((out / "card.json").read_text())


@pytest.mark.parametrize("target", RUNTIMES)
def test_example_in_each_runtime_gives_the_probabilities_of_predict(
        target: str, run: Path, pictures: list[Path], folder: Callable[[str], Path]) -> None:
    from hpc_deepfake.network import model

    out = folder(target)
    card = json.loads((out / "card.json").read_text())
    example = runpy.run_path(str(out / "predict.py"))
    rows = np.stack([features_of_file(str(path), ("ela",), CARD.parameters)[0]
                     for path in pictures])
    assert rows.shape[1:] == (SIZE, SIZE, 3)
    expected = temperature.apply(model.load(run).predict_on_batch(rows)[:, 1], CARD.temperature)
    assert np.ptp(expected) > 0.1, "pictures that the network tells apart"
    for path, row, probability in zip(pictures, rows, expected):
        prepared = example["feature"](example["decode"](path))
        assert np.array_equal(prepared, row)
        assert example["run"](prepared[np.newaxis]) == pytest.approx([probability], abs=1e-5)
    assert example["run"](rows) == pytest.approx(expected, abs=1e-5), "several at once"
    assert card["comparison"]["largest_difference"] <= 1e-5
    low, high = card["comparison"]["probabilities"]
    assert high - low > 0.1
    # the picture to check other programs with
    check = out / "check.jpg"
    prepared = example["feature"](example["decode"](check))
    stored = cv2.imread(str(check.with_name("check-feature.png")))[..., ::-1]
    assert np.array_equal(prepared, stored)
    assert example["run"](prepared[np.newaxis])[0] == pytest.approx(
        card["check"]["probability"], abs=1e-5)


def test_description_says_how_to_use_the_model(folder: Callable[[str], Path]) -> None:
    card = json.loads((folder("savedmodel") / "card.json").read_text())
    left = {path.name for path in folder("savedmodel").glob("__*")}  # by the converter
    assert left <= {"__pycache__"}  # of the example, which another test imports
    assert (card["threshold"], card["undecided_from"]) == (0.6, 0.3)
    assert card["temperature"] == {"value": 1.7, "inside": True}
    assert [step["step"] for step in card["input"]["preprocessing"]] == [
        "decode", "compress", "subtract", "scale", "resize", "arrange"]
    assert "trained on drawn sample pictures; not for photographs" in card["caveats"]
    assert card["trained_on"]["train"] == 80 and "likeness" not in card["trained_on"]
    page = (folder("savedmodel") / "README.md").read_text()
    for words in ("not for photographs", "From 0.600 on", "from 0.300 to below", "temperature 1.7",
                  "quality 90", "80 pictures of drawn.h5", f"{card['check']['probability']:.6f}"):
        assert words in page, words


def test_calibration_off_leaves_the_temperature_out(
        run: Path, folder: Callable[[str], Path], tmp_path: Path) -> None:
    stored = json.loads((folder("savedmodel") / "card.json").read_text())
    off = exported(run, "savedmodel", tmp_path / "off", "--calibration", "off")
    assert off["temperature"]["value"] == 1
    assert temperature.apply(off["check"]["probability"], 1.7) == pytest.approx(
        stored["check"]["probability"])
    assert temperature.apply(off["threshold"], 1.7) == pytest.approx(0.6)


WHERE = replace(CARD, feature="ela+raw", parameters=Parameters(size=64), mask_threshold=100,
                trained_on=None)


@pytest.fixture(scope="module")
def says_where(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run whose network says where, of two stacked features."""
    import keras
    from keras import layers

    from hpc_deepfake.network import maps
    from hpc_deepfake.network.model import save

    keras.utils.set_random_seed(4)
    picture = keras.Input((64, 64, 6), name="picture")
    x = layers.Rescaling(1 / 255)(picture)
    x = layers.UpSampling2D(2, interpolation="bilinear")(layers.MaxPooling2D(2)(
        layers.Conv2D(4, 3, padding="same", activation="relu")(x)))
    found = maps.with_verdict(picture, layers.Conv2D(1, 1, name=maps.LOG_ODDS)(x), "small")
    verdict = found.get_layer("verdict")  # which begins undecided
    verdict.set_weights([np.linspace(-1, 1, weight.size, dtype="f4").reshape(weight.shape) * 3
                         for weight in verdict.get_weights()])
    folder = tmp_path_factory.mktemp("where")
    save(found, WHERE, folder / "model.keras")
    return folder


@pytest.mark.parametrize("target", RUNTIMES)
def test_the_map_is_a_second_output_in_each_runtime(target: str, says_where: Path,
                                                    tmp_path: Path) -> None:
    from hpc_deepfake.export.folder import computed_by_keras
    from hpc_deepfake.export.portable import portable
    from hpc_deepfake.network import model

    network, runtime = model.load(says_where), RUNTIMES[target]
    runtime.write(portable(network, 1.7, says_where=True), tmp_path / runtime.file)
    rows = np.random.default_rng(0).integers(0, 256, (3, 64, 64, 6), np.uint8)
    expected = computed_by_keras(network, WHERE, rows)
    computed = runtime.run(tmp_path / runtime.file, rows)
    assert computed.keys() == expected.keys() == {"tampered", "changed"}
    assert expected["changed"].shape == (3, 64, 64) and np.ptp(expected["changed"]) > 0.01
    for name, values in expected.items():
        assert computed[name] == pytest.approx(values, abs=1e-5), name


def test_an_ensemble_has_the_mean_of_its_maps(says_where: Path) -> None:
    from hpc_deepfake.export.portable import portable
    from hpc_deepfake.network import ensemble, maps, model

    first, second = model.load(says_where), model.load(says_where)
    logits = second.get_layer(maps.LOG_ODDS)
    logits.set_weights([weight + 0.5 for weight in logits.get_weights()])
    rows = np.random.default_rng(0).integers(0, 256, (3, 64, 64, 6), np.uint8)
    each = [portable(one, 1, says_where=True).predict_on_batch(rows) for one in (first, second)]
    assert np.abs(each[0]["changed"] - each[1]["changed"]).max() > 0.05
    joined = portable(ensemble.joined([first, second], [1.0, 1.0]), 1, says_where=True)
    computed = joined.predict_on_batch(rows)
    for name in ("tampered", "changed"):
        assert computed[name] == pytest.approx((each[0][name] + each[1][name]) / 2, abs=1e-6)


def test_folder_of_a_network_that_says_where(
        says_where: Path, pictures: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
        capsys: pytest.CaptureFixture[str]) -> None:
    """Its example gives the map that predict has, at the picture's own size."""
    import hpc_deepfake

    card = exported(says_where, "savedmodel", tmp_path / "out")
    assert card["map"]["threshold_level"] == 100 and card["map"]["shape"] == ["n", 64, 64]
    assert card["input"]["shape"] == ["n", 64, 64, 6]
    assert card["comparison"]["largest_difference_of_map"] <= 1e-5
    page = (tmp_path / "out" / "README.md").read_text()
    assert "`changed`: float32 (n, 64, 64)" in page and "From 100/255 on" in page
    example = runpy.run_path(str(tmp_path / "out" / "predict.py"))
    for path, prediction in zip(pictures, hpc_deepfake.load(says_where).predict(pictures),
                                strict=True):
        pixels = example["decode"](path)
        found = example["outputs"](example["feature"](pixels)[np.newaxis])
        own = example["mask"](found["changed"][0], *pixels.shape[:2])
        assert prediction.where is not None
        difference = np.abs(own.astype(int) - prediction.where.at_own_size())
        assert own.shape == pixels.shape[:2] and difference.max() <= 2
    stored = cv2.imread(str(tmp_path / "out" / "check-feature.png"))
    assert stored.shape == (64, 128, 3)
    monkeypatch.setattr(sys, "argv", ["predict.py", str(pictures[0])])
    capsys.readouterr()
    with pytest.raises(SystemExit, match="0"):
        runpy.run_path(str(tmp_path / "out" / "predict.py"), run_name="__main__")
    assert "% changed  " in capsys.readouterr().out


def test_a_runtime_that_computes_another_map_is_refused() -> None:
    from hpc_deepfake.export.folder import compare

    expected = {"tampered": np.full(2, 0.5), "changed": np.full((2, 8, 8), 0.25)}
    computed = dict(expected)
    runtime = replace(RUNTIMES["savedmodel"], load=lambda _: lambda rows: computed)
    rows = np.zeros((2, 8, 8, 6), np.uint8)
    assert compare(runtime, Path(), rows, expected)["largest_difference_of_map"] == 0
    right = expected["changed"]
    for wrong in (right + 2e-5, right[:, :4], right * np.nan):
        computed["changed"] = wrong
        with pytest.raises(InputError, match="other probabilities of the map in TensorFlow"):
            compare(runtime, Path(), rows, expected)
    del computed["changed"]
    with pytest.raises(InputError, match="of the map"):
        compare(runtime, Path(), rows, expected)


def test_a_model_of_faces_is_refused(run: Path, tmp_path: Path) -> None:
    """The example could not find them."""
    (tmp_path / "model.keras").write_bytes((run / "model.keras").read_bytes())
    card = replace(CARD, parameters=Parameters(size=SIZE, crop="faces", margin=1.3))
    (tmp_path / "model.json").write_text(json.dumps(card.as_dict()))
    with pytest.raises(InputError, match="trained on faces"):
        exported(tmp_path, "savedmodel", tmp_path / "out")


@pytest.mark.parametrize(("feature", "reencode"), [
    ("ela", None), ("ela", 75), ("raw", None), ("raw", 80), ("gray_bits", None), ("ela+raw", None),
    ("ela+gray_bits+raw", 80)])
def test_example_prepares_each_feature(feature: str, reencode: int | None, pictures: list[Path],
                                       tmp_path: Path) -> None:
    card = replace(CARD, feature=feature, parameters=Parameters(quality=85, reencode=reencode))
    text = recipe.script(replace(RUNTIMES["onnx"], use=""), card)
    (tmp_path / "predict.py").write_text(text)
    imported = {name.name.split(".")[0] for node in ast.walk(ast.parse(text))
                if isinstance(node, ast.Import) for name in node.names}
    assert imported == {"cv2", "numpy", "os", "sys"}
    example = runpy.run_path(str(tmp_path / "predict.py"))
    for path in pictures:
        assert np.array_equal(example["feature"](example["decode"](path)), features_of_file(
            str(path), (feature,), card.parameters)[0])
    assert example["verdict"](0.6) == "tampered" and example["verdict"](0.5) == "undecided"
    assert example["verdict"](0.1) == "authentic"


@pytest.mark.parametrize("value", [0.4, 1.7, 5.0])
def test_temperature_inside_equals_that_of_predict_for_sure_answers_too(value: float) -> None:
    """float32 has few numbers next to 1: the graph must not lose them by clipping."""
    import keras
    from keras import layers

    from hpc_deepfake.export.portable import portable

    sure = keras.Sequential([
        keras.Input((128, 128, 3)), layers.Rescaling(1 / 255), layers.GlobalAveragePooling2D(),
        layers.Dense(2, activation="softmax")])
    sure.set_weights([np.repeat([[0.0, 20.0]], 3, axis=0), np.array([0.0, -30.0])])
    levels = np.arange(0, 256, 2, np.uint8)  # log-odds -30 to 30
    rows = np.broadcast_to(levels[:, None, None, None], (len(levels), 128, 128, 3))
    raw = sure.predict_on_batch(rows)
    assert raw[:, 1].min() < 1e-12 and raw[:, 1].max() == 1, "beyond float32"
    computed = portable(sure, value).predict_on_batch(rows)["tampered"]
    assert computed == pytest.approx(temperature.of_odds(Scores.of(raw).odds, value), abs=1e-5)
    if value == 5:
        assert (np.diff(computed) > 0).all(), "no two of them get the same"


def test_network_in_float64_is_exported_in_float32() -> None:
    """With a model among its layers, and an operation between them, too."""
    import keras

    from hpc_deepfake.export.portable import portable

    rows = np.random.default_rng(0).integers(0, 256, (4, SIZE, SIZE, 3), np.uint8)
    inner, picture = network(dtype="float64"), keras.Input((SIZE, SIZE, 3), dtype="float64")
    for double in (inner, keras.Model(picture, (inner(picture) + inner(255 - picture)) / 2)):
        copy = portable(double, 1)
        assert {weight.dtype for weight in copy.weights} == {"float32"}
        assert copy.predict_on_batch(rows)["tampered"] == pytest.approx(
            double.predict_on_batch(rows)[:, 1], abs=1e-5)


def altered(monkeypatch: pytest.MonkeyPatch, **changes: Any) -> None:
    """Change the SavedModel runtime, the fastest."""
    monkeypatch.setitem(RUNTIMES, "savedmodel", replace(RUNTIMES["savedmodel"], **changes))


def test_model_with_other_probabilities_is_not_written(
        run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    load = RUNTIMES["savedmodel"].load

    def wrong(path: Path) -> runtimes.Run:
        right = load(path)
        return lambda rows: {name: value + np.float32(2e-5) for name, value in right(rows).items()}

    altered(monkeypatch, load=wrong)
    with pytest.raises(InputError, match="computes other probabilities in TensorFlow"):
        exported(run, "savedmodel", tmp_path / "out")
    assert not list(tmp_path.iterdir())


def test_network_that_a_converter_does_not_know_is_refused(
        run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise ValueError("Tensorflow op [x: RFFT2D] is not supported")

    altered(monkeypatch, convert=fail)
    with pytest.raises(InputError, match=r"can't be converted .*RFFT2D.*--to"):
        exported(run, "savedmodel", tmp_path / "out")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("text", "why"), [
    ("see ops_selectNode number 0 (FlexTensorListReserve) failed to prepare.",
     "it lacks TensorFlow's operation TensorListReserve"), ("no such kernel", "no such kernel")])
def test_network_that_the_runtime_cannot_compute_is_refused(
        text: str, why: str, run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where the converter took it."""
    def load(path: Path) -> runtimes.Run:
        raise RuntimeError(text)

    altered(monkeypatch, load=load)
    with pytest.raises(InputError, match=f"can't be run by TensorFlow: {why}"):
        exported(run, "savedmodel", tmp_path / "out")
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize("text", ["No space left on device", "File too large"])
def test_full_disk_is_told_and_leaves_nothing(
        run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    import tensorflow as tf

    def fill(_: object, path: Path) -> None:
        path.mkdir()
        assert Path(tempfile.mkdtemp()).parent == path.parent, "as large as the model"
        raise tf.errors.UnknownError(None, None, f"tempstate42; {text} [Op:SaveV2]")

    altered(monkeypatch, convert=fill)
    with pytest.raises(OutputError, match=f"write {tmp_path / 'out'}: {text}; make room"):
        exported(run, "savedmodel", tmp_path / "out")
    assert not list(tmp_path.iterdir())


def test_missing_packages_are_named_with_the_command(
        run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
        capsys: pytest.CaptureFixture[str]) -> None:
    absent = {"tf2onnx", "onnxruntime"}
    find = runtimes.importlib.util.find_spec
    monkeypatch.setattr(runtimes.importlib.util, "find_spec",
                        lambda name: None if name in absent else find(name))
    with pytest.raises(InputError, match="pip install tf2onnx onnxruntime"):
        exported(run, "onnx", tmp_path / "out")
    absent.add("tensorflow")  # as if it were another runtime's package
    card = exported(run, "savedmodel", tmp_path / "out")
    assert card["comparison"] is None
    assert "not compared with the original: pip install tensorflow" in capsys.readouterr().out


def test_what_is_there_is_not_overwritten(run: Path, tmp_path: Path) -> None:
    for name in ("file", "folder"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "mine").write_text("kept")
    for out in (tmp_path / "folder", tmp_path / "file" / "mine"):
        with pytest.raises(InputError, match="is there already"):
            exported(run, "savedmodel", out)
    assert (tmp_path / "file" / "mine").read_text() == "kept"


@pytest.mark.parametrize(("arguments", "message"), [
    (["--to", "onnx"], "name the model"), (["--model", "{run}"], "name the runtime"),
    (["--model", "nowhere", "--to", "onnx"], "no trained model")])
def test_what_is_missing_is_named(arguments: list[str], message: str, run: Path) -> None:
    with pytest.raises(InputError, match=message):
        export.main([word.format(run=run) for word in arguments])


def test_example_goes_on_after_an_unreadable_picture(tmp_path: Path, pictures: list[Path]) -> None:
    """All others are computed; a page with nothing on it is told."""
    use = "def outputs(features):\n    return {'tampered': features.mean((1, 2, 3)) / 255}\n"
    (tmp_path / "predict.py").write_text(recipe.script(replace(RUNTIMES["onnx"], use=use), CARD))
    cv2.imwrite(str(tmp_path / "blank.png"), np.full((50, 50, 3), 255, np.uint8))
    (tmp_path / "bad.jpg").write_bytes(b"nothing")
    done = subprocess.run([sys.executable, tmp_path / "predict.py", tmp_path / "bad.jpg",
                           pictures[0], tmp_path / "blank.png"], capture_output=True, text=True,
                          check=False)
    first, second = done.stdout.splitlines()
    assert done.returncode == 1 and "bad.jpg: not read: " in done.stderr
    assert first.endswith(str(pictures[0]))
    assert second.endswith("(nothing to see: this says nothing)")
