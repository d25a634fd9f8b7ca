"""The network, layer by layer, and the files of a trained model."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
import zipfile
from dataclasses import replace
from pathlib import Path

import keras
import numpy as np
import pytest
from data_files import make_data
from speed import limit

from hpc_deepfake.core.errors import InputError
from hpc_deepfake.network import model, table
from hpc_deepfake.network.model import Card
from preprocessing.ela import Parameters

pytestmark = pytest.mark.slow  # TensorFlow starts, and traces graphs
CARD = Card("raw", Parameters(quality=85), 0.375)

# name, class, output shape, parameters, those that are not trained
LAYERS = [
    ("rescaling", "Rescaling", (128, 128, 3), 0, 0),
    ("conv1", "Conv2D", (126, 126, 32), 896, 0),
    ("bn1", "BatchNormalization", (126, 126, 32), 128, 64),
    ("pool1", "MaxPooling2D", (63, 63, 32), 0, 0),
    ("conv2", "Conv2D", (61, 61, 64), 18_496, 0),
    ("bn2", "BatchNormalization", (61, 61, 64), 256, 128),
    ("pool2", "MaxPooling2D", (30, 30, 64), 0, 0),
    ("flatten", "Flatten", (57_600,), 0, 0),
    ("dense1", "Dense", (128,), 7_372_928, 0),
    ("dropout", "Dropout", (128,), 0, 0),
    ("dense2", "Dense", (2,), 258, 0),
]


@pytest.fixture(scope="module")
def network() -> keras.Model:
    """A network whose weights all matter, including the moving statistics."""
    keras.utils.set_random_seed(1)
    model = table.build()
    random = np.random.default_rng(1)
    for variable in (v for v in model.weights if "kernel" not in v.path):
        variable.assign(random.uniform(0.1, 1.0, variable.shape))
    return model


@pytest.fixture(scope="module")
def saved(network: keras.Model, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run directory with the network, as training writes it; not to be changed."""
    folder = tmp_path_factory.mktemp("run")
    model.save(network, CARD, folder / "model.keras")
    return folder


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_model_of_a_diverged_training_is_refused(network: keras.Model, tmp_path: Path,
                                                   bad: float) -> None:
    """As earlier versions may have written one."""
    bias = network.get_layer("dense2").bias
    before = bias.numpy()
    bias.assign([0.0, bad])
    model.save(network, CARD, tmp_path / "model.keras")
    bias.assign(before)
    with pytest.raises(InputError, match=r"weights that are not finite.*its training diverged"):
        model.load(tmp_path)


@pytest.fixture(scope="module")
def pictures() -> np.ndarray:
    return np.random.default_rng(2).integers(0, 256, (5, 128, 128, 3)).astype(np.uint8)


def copy(saved: Path, to: Path, content: bytes | None = None) -> Path:
    """The model's two files in ``to``, the ``.keras`` file with other contents."""
    to.mkdir(exist_ok=True)
    (to / "model.json").write_bytes((saved / "model.json").read_bytes())
    (to / "model.keras").write_bytes(content or (saved / "model.keras").read_bytes())
    return to


def test_a_card_of_another_model_is_refused(network: keras.Model, saved: Path,
                                            tmp_path: Path) -> None:
    """Until now its thresholds were used. A card of an earlier version names no model."""
    bias = network.get_layer("dense2").bias
    before = bias.numpy()
    bias.assign([0.0, 1.0])
    model.save(network, CARD, tmp_path / "model.keras")
    bias.assign(before)
    other = json.loads((tmp_path / "model.json").read_text())
    run = copy(saved, tmp_path / "run")
    (run / "model.json").write_text(json.dumps(other))
    with pytest.raises(InputError, match=r"of two trainings.*Copy both files"):
        model.load(run)
    del other["weights"]
    (run / "model.json").write_text(json.dumps(other))
    assert model.load(run)


def test_killed_between_model_and_card(network: keras.Model, saved: Path, tmp_path: Path,
                                       monkeypatch: pytest.MonkeyPatch) -> None:
    """At whichever write of a file: the card belongs to what is there."""
    run = copy(saved, tmp_path / "run")
    bias = network.get_layer("dense2").bias
    before = bias.numpy()
    for kill in range(4):
        bias.assign([0.0, float(kill)])
        moves = iter(range(9))

        def move(old: str, new: str, real=os.replace, kill=kill, moves=moves) -> None:
            if next(moves) == kill:
                raise KeyboardInterrupt
            real(old, new)

        with monkeypatch.context() as patch, contextlib.suppress(KeyboardInterrupt):
            patch.setattr(os, "replace", move)
            model.save(network, CARD, run / "model.keras")
        assert model.load(run)
        assert next(moves) > min(kill, 2), "it was killed there"
    assert len(model.read_card(run).weights) == 1
    bias.assign(before)


def test_a_card_with_another_size_is_refused(saved: Path, tmp_path: Path) -> None:
    run = copy(saved, tmp_path / "run")
    card = json.loads((run / "model.json").read_text())
    card["parameters"]["size"] = 64
    (run / "model.json").write_text(json.dumps(card))
    with pytest.raises(InputError, match="takes 64 × 64 pixels, and it takes 128 × 128"):
        model.load(run)


def test_networks_of_other_sizes_are_saved_and_loaded(tmp_path: Path) -> None:
    """Their input is what the card says, and square."""
    def of(*shape: int) -> keras.Model:
        return keras.Sequential([keras.Input(shape), keras.layers.GlobalAveragePooling2D(),
                                 keras.layers.Dense(2, "softmax")])

    small = of(32, 32, 3)
    model.save(small, Card("raw", Parameters(size=32)), tmp_path / "model.keras")
    assert model.read_card(tmp_path).parameters.size == 32
    loaded = model.load(tmp_path)
    assert loaded.input_shape == (None, 32, 32, 3)
    assert all(np.array_equal(*pair) for pair in zip(small.get_weights(), loaded.get_weights()))
    model.save(of(32, 48, 3), Card("raw", Parameters(size=32)), tmp_path / "model.keras")
    with pytest.raises(InputError, match=r"unexpected shapes: input \(None, 32, 48, 3\)"):
        model.load(tmp_path)


def test_every_layer(network):
    """Kind, output shape and number of parameters of each layer, in order; all are stock Keras."""
    layers = [(layer.name, type(layer).__name__, tuple(layer.output.shape[1:]),
              layer.count_params(), sum(v.numpy().size for v in layer.non_trainable_variables
                                        if "seed" not in v.path))
             for layer in network.layers]
    assert layers == LAYERS
    assert all(type(layer) is getattr(keras.layers, type(layer).__name__)
               for layer in network.layers)
    assert network.input_shape == (None, 128, 128, 3)


def test_the_number_of_parameters(network):
    """7,392,962, of which 192 (the moving statistics) are not trained."""
    def count(variables):
        return sum(int(np.prod(v.shape)) for v in variables)

    assert network.count_params() == table.PARAMETERS == 7_392_962
    assert count(network.trainable_variables) == 7_392_770
    assert [v.path.partition("/")[2] for v in network.weights if not v.trainable] == [
        "bn1/moving_mean", "bn1/moving_variance", "bn2/moving_mean", "bn2/moving_variance"]


def test_activations_windows_and_rates(network):
    """ReLU after convolutions and the first dense layer, softmax last; 3×3 and 2×2 windows without
    padding; Keras' momentum and epsilon; dropout 0.5; input divided by 255."""
    def of(name):
        return network.get_layer(name).get_config()

    for name, activation in (("conv1", "relu"), ("conv2", "relu"), ("dense1", "relu"),
                             ("dense2", "softmax")):
        assert of(name)["activation"] == activation
        assert of(name)["use_bias"] is True
        assert of(name)["kernel_initializer"]["class_name"] == "GlorotUniform"
    for name in ("conv1", "conv2"):
        assert (of(name)["kernel_size"], of(name)["strides"], of(name)["padding"],
                of(name)["dilation_rate"], of(name)["groups"]) == ((3, 3), (1, 1), "valid",
                                                                   (1, 1), 1)
    for name in ("pool1", "pool2"):
        assert (of(name)["pool_size"], of(name)["strides"], of(name)["padding"]) == (
            (2, 2), (2, 2), "valid")
    for name in ("bn1", "bn2"):
        assert (of(name)["momentum"], of(name)["epsilon"], of(name)["axis"], of(name)["center"],
                of(name)["scale"]) == (0.99, 1e-3, -1, True, True)
    assert of("dropout")["rate"] == 0.5
    assert (of("rescaling")["scale"], of("rescaling")["offset"]) == (1 / 255, 0.0)


def test_weights_come_from_the_global_seed():
    """Same seed, same weights; another seed, other weights; biases start at 0."""
    def kernel(seed):
        keras.utils.set_random_seed(seed)
        return table.build().get_layer("conv2").get_weights()

    first, same, other = kernel(3), kernel(3), kernel(4)
    assert np.array_equal(first[0], same[0]) and not np.array_equal(first[0], other[0])
    assert not first[1].any()


def test_float64_network_is_float64_throughout_and_the_next_one_is_not():
    """The precision of one network doesn't stay for the next."""
    assert {v.dtype for v in table.build("float64").weights} == {"float64"}
    assert {v.dtype for v in table.build().weights} == {"float32"}


def test_the_order_of_channels_is_not_the_setting_of_others(network):
    """Of a program that uses this one as a library, and has loaded Keras with other settings."""
    keras.config.set_image_data_format("channels_first")
    try:
        other = table.build()
    finally:
        keras.config.set_image_data_format("channels_last")
    assert other.get_config() == network.get_config()


def test_another_backend_of_keras_is_an_input_error(saved, monkeypatch):
    monkeypatch.setattr(keras.config, "backend", lambda: "torch")
    for use in (table.build, lambda: model.load(saved)):
        with pytest.raises(InputError, match="set KERAS_BACKEND=tensorflow"):
            use()


def test_loads_without_this_package(network, saved, pictures, tmp_path):
    """In a separate Python, isolated from this clone, in safe mode, the saved file gives the same
    probabilities to 1e-5."""
    np.save(tmp_path / "in.npy", pictures)
    program = """
import sys
import keras, numpy
model = keras.saving.load_model(sys.argv[1], safe_mode=True)
numpy.save(sys.argv[3], model.predict_on_batch(numpy.load(sys.argv[2])))
own = [name for name in sys.modules if name.split('.')[0] in ('hpc_deepfake', 'preprocessing')]
assert not own, own
"""
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    done = subprocess.run(
        [sys.executable, "-I", "-c", program, saved / "model.keras", tmp_path / "in.npy",
         tmp_path / "out.npy"], cwd=tmp_path, env=environment, capture_output=True, text=True,
        timeout=limit(120))
    assert done.returncode == 0, done.stderr
    actual, expected = np.load(tmp_path / "out.npy"), network.predict_on_batch(pictures)
    assert expected.std(0).min() > 1e-3, "the probabilities of the pictures must differ"
    np.testing.assert_allclose(actual, expected, rtol=0, atol=1e-5)


def test_load_gives_the_same_network(network, saved, pictures):
    """By run directory and by file: the same weights and probabilities."""
    for path in (saved, saved / "model.keras"):
        loaded = model.load(path)
        for original, copied in zip(network.weights, loaded.weights, strict=True):
            assert np.array_equal(original.numpy(), copied.numpy())
    np.testing.assert_allclose(loaded.predict_on_batch(pictures),
                               network.predict_on_batch(pictures), atol=1e-5)


def test_saving_leaves_two_files(saved):
    """No temporary file is left."""
    assert sorted(path.name for path in saved.iterdir()) == ["model.json", "model.keras"]


def test_a_failed_save_leaves_the_old_model(network, saved, tmp_path, monkeypatch):
    """``model.keras`` is replaced only when the new one is complete."""
    folder = copy(saved, tmp_path / "run")
    before = (folder / "model.keras").read_bytes()

    def full(self, path, *_, **__):
        Path(path).write_bytes(b"half of")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(keras.Model, "save", full)
    with pytest.raises(OSError, match="No space"):
        model.save(network, CARD, folder / "model.keras")
    assert (folder / "model.keras").read_bytes() == before
    assert len(list(folder.iterdir())) == 2, "no temporary file is left"


def test_no_code_from_a_file_is_run(tmp_path):
    """A model that contains a Python function is rejected, and the function is not called."""
    mark = tmp_path / "called"
    # the path inside the code: a closure would not get through the file
    function = eval(f"lambda x: (__import__('os').makedirs({str(mark)!r}, exist_ok=True), x)[1]")
    harmful = keras.Sequential([
        keras.Input((128, 128, 3)), keras.layers.Lambda(function, output_shape=(128, 128, 3)),
        keras.layers.Flatten(), keras.layers.Dense(2)])
    harmful.save(tmp_path / "model.keras")
    shutil.rmtree(mark, ignore_errors=True)
    keras.saving.load_model(tmp_path / "model.keras", safe_mode=False)(np.zeros((1, 128, 128, 3)))
    assert mark.exists(), "without safe mode it is called"
    mark.rmdir()
    with pytest.raises(InputError, match="not a model that Keras can load"):
        model.load(tmp_path)
    assert not mark.exists()


def test_a_file_that_would_fill_the_memory_is_not_unpacked(saved, tmp_path, monkeypatch):
    """Unlike a large one of a large network, whose file is as large."""
    monkeypatch.setattr(model, "MOST_BYTES", 10**6)
    assert model.load(saved)
    with zipfile.ZipFile(tmp_path / "model.keras", "w", zipfile.ZIP_DEFLATED) as bomb:
        bomb.writestr("model.weights.h5", bytes(20 * 10**6))
    with pytest.raises(InputError, match=r"can load: unpacked it has 0\.0 GB"):
        model.load(tmp_path)


@pytest.mark.parametrize("damage", ["cut", "text", "weight", "configuration"])
def test_a_damaged_file_is_an_input_error(saved, tmp_path, damage):
    """Also one with a single wrong byte in a weight, which HDF5 reads without an error."""
    whole = bytearray((saved / "model.keras").read_bytes())
    if damage == "cut":
        whole = whole[:len(whole) // 2]
    elif damage == "text":
        whole = bytearray(b"PK not quite a zip")
    elif damage == "weight":
        whole[len(whole) // 2] ^= 0x40
    else:
        whole[whole.index(b'"class_name"') + 2] ^= 1
    folder = copy(saved, tmp_path / "run", bytes(whole))
    with pytest.raises(InputError, match=r"model\.keras"):
        model.load(folder)


@pytest.mark.filterwarnings("ignore:You are saving a model that has not yet been built")
@pytest.mark.parametrize(("shape", "classes"), [
    ((64, 32, 3), 2), ((128, 128, 3), 3), (None, 2)], ids=["input", "output", "unbuilt"])
def test_a_network_of_other_shapes_is_an_input_error(tmp_path, shape, classes):
    first = [keras.Input(shape)] if shape else []
    keras.Sequential([*first, keras.layers.Flatten(), keras.layers.Dense(classes)]).save(
        tmp_path / "model.keras")
    with pytest.raises(InputError, match="unexpected shapes"):
        model.load(tmp_path)


def test_a_missing_model_is_an_input_error_with_the_command_to_train_one(tmp_path):
    for path in (tmp_path, tmp_path / "model.keras", tmp_path / "nowhere"):
        for function in (model.find, model.load, model.read_card):
            with pytest.raises(InputError, match=r"(?s)no trained model.*hpc_deepfake\.train"):
                function(path)


def test_a_data_file_is_no_model(tmp_path):
    data = make_data(tmp_path / "sample.h5")
    for function in (model.find, model.load, model.read_card):
        with pytest.raises(InputError, match=r"sample\.h5 is a data file, not a trained model"):
            function(data)


def test_the_card_is_read_back(saved):
    """By run directory and by file; numbers as numbers."""
    card = model.read_card(saved)
    assert card == model.read_card(saved / "model.keras")
    assert replace(card, weights=()) == CARD and len(card.weights) == 1
    stored = json.loads((saved / "model.json").read_text())
    assert (stored["feature"], stored["threshold"]) == ("raw", 0.375)
    assert stored["parameters"] == {"quality": 85, "subsampling": "4:2:0", "size": 128}


@pytest.mark.parametrize("text", [
    None, "", "{", "[]", "3", "{}", '{"feature": "ela", "threshold": 0.5}',
    '{"feature": "ela", "parameters": {"quality": 90, "flavour": 1}, "threshold": 0.5}',
    '{"feature": "ela", "parameters": {}, "threshold": "much"}',
    '{"feature": "ela", "parameters": null, "threshold": 0.5}', b"\xff\xfe"])
def test_a_missing_or_damaged_card_is_an_input_error(saved, tmp_path, text):
    folder = copy(saved, tmp_path / "run")
    (folder / "model.json").unlink()
    if text is not None:
        (folder / "model.json").write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(InputError, match=r"card .*model\.json can't be read"):
        model.read_card(folder)
