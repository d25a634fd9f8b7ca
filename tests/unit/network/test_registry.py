"""Networks of a user's: what is taken, what is refused and why."""

from __future__ import annotations

import argparse
import json
import logging
import zipfile
from pathlib import Path

import keras
import numpy as np
import pytest

from hpc_deepfake.core.errors import InputError
from hpc_deepfake.network import own, registry

pytestmark = pytest.mark.slow  # TensorFlow starts
SIZE = 32
FILE = '''
import beside
import keras
from keras import layers


def small(shape, *end, start=(), **options):
    """With two outputs, as they are."""
    return keras.Sequential([keras.Input(shape), *start, layers.Rescaling(1 / 255),
                             layers.Conv2D(4, 3), layers.GlobalAveragePooling2D(),
                             *(end or [layers.Dense(2, **options)])])


def softmax(shape):
    return small(shape, activation="softmax")


def branches(shape):
    start = keras.Input(shape)
    x = keras.ops.mean(start[..., ::-1] / 255, (1, 2))
    return keras.Model(start, layers.Dense(2)(x))


def any_size(shape):
    return small((None, None, 3), activation="softmax")


class Own(layers.Layer):
    def call(self, x):
        return x


@keras.saving.register_keras_serializable()
class Registered(Own):
    pass


class Subclass(keras.Model):
    def __init__(self):
        super().__init__()
        self.mean, self.dense = layers.GlobalAveragePooling2D(), layers.Dense(2)

    def call(self, x):
        return self.dense(self.mean(x))


def subclass(shape):
    model = Subclass()
    model(keras.ops.zeros((1, *shape)))
    return model


def activation(x):
    return x


def own(shape): return small(shape, start=[Own()])
def registered(shape): return small(shape, start=[Registered()])
def function(shape): return small(shape, activation=activation)
def scaled(shape): return small(shape, start=[layers.Lambda(lambda x: x / 255)])
def one(shape): return small(shape, layers.Dense(1))
def unbuilt(shape): return keras.Sequential([layers.GlobalAveragePooling2D(), layers.Dense(2)])
def nothing(shape): return None
def other_size(shape): return small((64, 64, 3))
def flat(shape): return keras.Sequential([keras.Input((5,)), layers.Dense(2)])
def half(shape): return small(shape, dtype="float16")
def frozen(shape):
    model = small(shape)
    model.trainable = False
    return model
def infinite(shape): return small(shape, start=[layers.Rescaling(1e38), layers.Rescaling(1e38)])
def leaves(shape): raise SystemExit(3)
def two(shape):
    start = keras.Input(shape)
    x = layers.GlobalAveragePooling2D()(start)
    return keras.Model(start, [layers.Dense(2)(x), layers.Dense(2)(x)])


def by_name(shape):
    model = two(shape)
    return keras.Model(model.inputs[0], dict(zip(("real", "fake"), model.outputs)))


def wrapped(shape):
    model = small(shape, activation="softmax")
    return keras.Model({"picture": model.inputs[0]}, [model.outputs[0]])


def zero_kernel(shape): return small(shape, kernel_initializer="zeros", activation="softmax")
def zero_sigmoid(shape): return small(shape, kernel_initializer="zeros", activation="sigmoid")
def zero_linear(shape):
    return small(shape, kernel_initializer="zeros",
                 bias_initializer=keras.initializers.Constant(0.5))


def by_operation(shape):
    model = small(shape, kernel_initializer="zeros")
    return keras.Model(model.inputs[0], keras.ops.softmax(model.outputs[0]))


def average(shape):
    start = keras.Input(shape)
    return keras.Model(start, layers.Average()([
        small(shape, activation="softmax")(start) for _ in range(2)]))


def letters(shape): return small(shape, start=[layers.ReLU(name="größe")])
def space(shape): return small(shape, keras.Sequential([layers.Dense(2, name="my dense")]))
def model_name(shape): return keras.Sequential(softmax(shape).layers, name="_net")
def fine_names(shape):
    return small(shape, layers.Dense(2, activation="softmax", name="_a-b.1>c"))


def spectral(shape):
    return small(shape, start=[layers.SpectralNormalization(layers.Conv2D(3, 3), name="power")])


def wrong(shape):
    return {}["conv"]


count = 5
'''


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file of a user's, which imports one beside it."""
    folder = tmp_path_factory.mktemp("networks of a user's")
    (folder / "beside.py").write_text("")
    (folder / "mine.py").write_text(FILE)
    (folder / "broken.py").write_text("import keras\n\ndef build(shape:\n")
    (folder / "lacks.py").write_text("import keras\nimport no_such_package\n")
    return folder / "mine.py"


@pytest.mark.parametrize(("function", "words"), [
    ("own", "the class Own"), ("registered", "the class Registered"),
    ("subclass", "the class Subclass"), ("function", "the function activation"),
    ("scaled", "Lambda"), ("one", r"output \(None, 1\)"), ("unbuilt", "without a known input"),
    ("nothing", "returned NoneType"), ("other_size", "rows of preprocess --size 64"),
    ("flat", r"input \(None, 5\)"), ("half", "is float16"), ("frozen", "no weights that training"),
    ("infinite", "not finite"), ("leaves", "SystemExit: 3"),
    ("two", r"1 input and 2 outputs \(a list\)"),
    ("by_name", r"2 outputs \(a dict: real, fake\)"),
    ("letters", "the layer name 'größe'"), ("space", "the layer name 'my dense'"),
    ("model_name", "the model's name '_net'"),
    ("spectral", "layer power: the network's weight .*/power/.* changes with each batch"),
    ("wrong", r"line \d+: KeyError: 'conv'"), ("count", "no function 'count'"),
    ("absent", "no function 'absent'")])
def test_what_can_not_be_trained_is_refused(file: Path, function: str, words: str) -> None:
    with pytest.raises(InputError, match=words) as refused:
        registry.build(f"{file}:{function}", SIZE)
    message = str(refused.value)
    assert message.startswith(f"--network {file}:{function}") and "\n" not in message
    assert keras.config.dtype_policy().name == "float32"


@pytest.mark.parametrize(("name", "words"), [
    ("broken.py:build", "failed, line 3: SyntaxError"),
    ("lacks.py:build", "failed, line 2: ModuleNotFoundError: No module named 'no_such_package'"),
    ("gone.py:build", "there is no file"), ("gone.keras", "there is no file")])
def test_files_that_can_not_be_used(file: Path, name: str, words: str) -> None:
    with pytest.raises(InputError, match=words):
        registry.build(str(file.parent / name), SIZE)


def test_the_line_of_an_error_is_that_of_the_users_file(file: Path) -> None:
    line = next(number for number, text in enumerate(FILE.split("\n"), 1) if '{}["conv"]' in text)
    with pytest.raises(InputError, match=f"line {line}:"):
        registry.build(f"{file}:wrong", SIZE)


def test_outputs_that_are_no_probabilities_get_a_softmax(
        file: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "hpc_deepfake"):
        logits = registry.build(f"{file}:small", SIZE)
        branches = registry.build(f"{file}:branches", SIZE)
    assert [record.getMessage().count("a softmax is put behind") for record in caplog.records] \
        == [1, 1]
    noise = np.random.default_rng(1).integers(0, 256, (3, SIZE, SIZE, 3), np.uint8)
    for model in (logits, branches):
        np.testing.assert_allclose(np.asarray(model(noise)).sum(1), 1, rtol=1e-6)
    assert isinstance(logits, keras.Sequential)  # which a mesh can cut
    assert isinstance(registry.build(f"{file}:softmax", SIZE).layers[-1], keras.layers.Dense)


@pytest.mark.parametrize(("function", "added"), [
    ("zero_kernel", False), ("by_operation", False), ("average", False), ("zero_sigmoid", True),
    ("zero_linear", True)])
def test_kernels_that_begin_at_zero_give_a_half_by_chance(file: Path, function: str,
                                                          added: bool) -> None:
    model = registry.build(f"{file}:{function}", SIZE)
    assert (model.layers[-1].name == "probabilities") is added
    if function.startswith("zero"):  # the trial has put the weights back
        assert not np.any(next(layer for layer in model.layers
                               if isinstance(layer, keras.layers.Dense)).kernel)


def test_one_input_and_output_in_a_list_or_dict_are_taken_out(
        file: Path, recwarn: pytest.WarningsRecorder) -> None:
    model = registry.build(f"{file}:wrapped", SIZE)
    recwarn.clear()  # of the user's own model
    assert np.asarray(model(np.zeros((3, SIZE, SIZE, 3), np.uint8))).shape == (3, 2)
    assert not recwarn.list


def test_names_that_tensorflow_takes(file: Path) -> None:
    registry.build(f"{file}:fine_names", SIZE)


def test_a_network_of_any_size_is_fitted_to_the_pictures(file: Path) -> None:
    keras.utils.set_random_seed(3)
    fitted = registry.build(f"{file}:any_size", SIZE)
    keras.utils.set_random_seed(3)
    exact = registry.build(f"{file}:softmax", SIZE)
    assert fitted.input_shape == (None, SIZE, SIZE, 3)
    for one, other in zip(fitted.get_weights(), exact.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("precision", ["float32", "float64", "bfloat16"])
def test_precision(file: Path, precision: str) -> None:
    """Of a function's network and of a file's, which was stored in float32."""
    stored = file.parent / "trained.keras"
    if not stored.exists():
        registry.build(f"{file}:softmax", SIZE).save(stored)
    weights = keras.saving.load_model(stored).get_weights()
    own_type, compute = ("float64",) * 2 if precision == "float64" else ("float32", precision)
    read = registry.build(str(stored), SIZE, precision)
    for model in (read, registry.build(f"{file}:softmax", SIZE, precision)):
        assert {weight.dtype for weight in model.weights} == {own_type}
        assert model.layers[1].compute_dtype == compute
    for one, other in zip(read.get_weights(), weights, strict=True):
        np.testing.assert_array_equal(one, other)
    assert keras.config.dtype_policy().name == "float32"


def rewritten(source: Path, target: Path, change) -> Path:
    """A ``.keras`` file with another description."""
    with zipfile.ZipFile(source) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    config = json.loads(members["config.json"])
    members["config.json"] = json.dumps(change(config) or config).encode()
    with zipfile.ZipFile(target, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return target


def test_files_with_code_are_refused(file: Path, tmp_path: Path,
                                     monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where the code's class is registered in this process."""
    stored = tmp_path / "stored.keras"
    registry.build(f"{file}:softmax", SIZE).save(stored)

    def with_class(config: dict) -> None:
        config["config"]["layers"][1] |= {"module": None, "registered_name": "Custom>Registered",
                                          "class_name": "Registered"}

    with pytest.raises(InputError, match="the class Registered"):
        registry.build(str(rewritten(stored, tmp_path / "class.keras", with_class)), SIZE)

    def with_lambda(config: dict) -> None:
        config["config"]["layers"][1]["class_name"] = "Lambda"

    with pytest.raises(InputError, match="a Lambda"):
        registry.build(str(rewritten(stored, tmp_path / "lambda.keras", with_lambda)), SIZE)
    for damaged in (lambda config: [1], lambda config: {"class_name": "Nothing"}):
        with pytest.raises(InputError, match="Keras"):
            registry.build(str(rewritten(stored, tmp_path / "bad.keras", damaged)), SIZE)
    (tmp_path / "text.keras").write_text("no archive")
    with pytest.raises(InputError, match="not a file that Keras 3 saved"):
        registry.build(str(tmp_path / "text.keras"), SIZE)
    monkeypatch.setattr(own, "MOST_BYTES", 1000)
    with pytest.raises(InputError, match="unpacked it has"):
        registry.build(str(stored), SIZE)


def test_a_loss_of_the_users_is_of_no_use(file: Path, tmp_path: Path) -> None:
    """A compiled model may name one that this process doesn't know."""
    stored = tmp_path / "compiled.keras"
    registry.build(f"{file}:softmax", SIZE).save(stored)

    def compiled(config: dict) -> None:
        config["compile_config"] = {"loss": {"class_name": "Mine", "module": "mine",
                                             "registered_name": "Mine", "config": {}}}

    registry.build(str(rewritten(stored, tmp_path / "loss.keras", compiled)), SIZE)


def test_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run that is resumed from another folder finds the file."""
    monkeypatch.chdir(tmp_path)
    assert registry.checked("meso4") == "meso4"
    assert registry.checked("mine.py:build") == f"{tmp_path}/mine.py:build"
    assert registry.checked("c/../a/b.keras") == f"{tmp_path}/a/b.keras"
    assert registry.title(registry.checked("mine.py:build")) == "mine.py:build"
    assert registry.title("srm") == "srm"
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "model.keras").touch()
    for text, words in (("mine.py:", "lacks the function.*: mine.py:FUNCTION"),
                        ("mine:build", "no Python file.*mine.py:build"),
                        ("run", "take run/model.keras .*--init run"),
                        ("vgg", "give one of table, meso4"), ("mine.py", "mine.py:FUNCTION"),
                        ("mine.py:not a name", "there is no network"), ("", "there is no")):
        with pytest.raises(argparse.ArgumentTypeError, match=words):
            registry.checked(text)
    with pytest.raises(InputError, match="xception takes pictures of 71 × 71"):
        registry.build("xception", 64)
