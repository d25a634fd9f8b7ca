"""Networks of a user's: the model that a function of a Python file returns, or of a ``.keras``
file, checked and fitted to the pictures."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import re
import sys
import traceback
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import keras
import numpy as np

from hpc_deepfake.core.errors import InputError
from hpc_deepfake.core.json_data import dictionary, parse
from hpc_deepfake.core.log import log
from hpc_deepfake.core.text import plural, printable
from hpc_deepfake.network import graph, maps, probabilities
from hpc_deepfake.network.zoo import layers as _registered  # noqa: F401, with Keras

MOST_BYTES = 4 << 30  # of a .keras file when unpacked
_OURS = "hpc_deepfake>"  # registered names of this project's layers


def build(file: Path, function: str | None, size: int, precision: str,
          channels: int = 3) -> keras.Model:
    """As ``registry.build``, under the dtype policy of ``precision``.

    Args:
        file: Python file with ``function``, or a ``.keras`` file.
        function: takes the input's shape (size, size, channels) and returns a Keras model.
    """
    name = printable(f"{file}:{function}" if function else str(file))
    if not file.is_file():
        raise InputError(f"--network {name}: there is no file {printable(str(file))}")
    if function:
        model = _called(file, function, (size, size, channels), name)
        _check_layers(model, name)
    else:
        model = _loaded(file, name, precision)
    _check_names(model, name)
    model = _fitted(_unwrapped(model), (size, size, channels), name)
    own = "float64" if precision == "float64" else "float32"
    for weight in model.weights:
        kind = keras.backend.standardize_dtype(weight.dtype)
        if kind not in (own, "uint32", "int32", "int64"):  # state of random layers
            raise InputError(f"--network {name}: {weight.path} is {kind}, and with --precision "
                             f"{precision} all weights are {own}: leave the layer's dtype out")
    model = _with_probabilities(model, name)
    _check_training(model, name)
    return model


def _called(file: Path, function: str, shape: tuple[int, int, int], name: str) -> keras.Model:
    """What the function returns."""
    module_name = f"network_{hashlib.sha256(str(file.resolve()).encode()).hexdigest()[:16]}"
    place = importlib.util.spec_from_file_location(module_name, file)
    assert place is not None and place.loader is not None
    module = importlib.util.module_from_spec(place)
    sys.modules[module_name] = module  # dataclasses look there
    with _errors(file, name), _neighbours(file):
        place.loader.exec_module(module)
        call = getattr(module, function, None)
        if not callable(call):
            raise InputError(f"--network {name}: the file has no function '{function}'")
        model = call(shape)
    if not isinstance(model, keras.Model):
        raise InputError(f"--network {name} returned {type(model).__name__}, not a Keras model: "
                         "return a keras.Model or keras.Sequential of Keras 3")
    return model


def _loaded(file: Path, name: str, precision: str) -> keras.Model:
    """The model of a file in the types of ``precision``, loaded in safe mode."""
    try:
        with zipfile.ZipFile(file) as archive:
            size = sum(member.file_size for member in archive.infolist())
            if size > MOST_BYTES:
                raise InputError(f"--network {name}: unpacked it has {size / 1e9:,.1f} GB, more "
                                 f"than {MOST_BYTES / 1e9:,.1f} GB")
            config = dictionary(parse(archive.read("config.json")))
            config.pop("compile_config", None)  # a loss and an optimizer, of no use here
    except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
        raise InputError(f"--network {name} is not a file that Keras 3 saved ({error}): write it "
                         "with model.save('FILE.keras')") from None
    _refuse_code(config, name)
    with _only_ours():
        try:
            model = keras.saving.load_model(file, compile=False, safe_mode=True)
            if not isinstance(model, keras.Model):
                raise TypeError(f"it holds a {type(model).__name__}")
            weights = model.get_weights()
            if _set_types(config, keras.config.dtype_policy().name):
                model = keras.saving.deserialize_keras_object(config, safe_mode=True)
                model.set_weights(weights)
        except Exception as error:  # zip, HDF5, JSON and Keras errors alike
            raise InputError(f"--network {name} is not a model that Keras can load: "
                             f"{_first(error)}") from None
    if not all(np.isfinite(weight).all() for weight in weights):
        raise InputError(f"--network {name} has weights that are not finite (NaN or infinity)")
    return model


def _check_layers(model: keras.Model, name: str) -> None:
    """Whether a ``.keras`` file can hold the model: it is built anew from its description, without
    classes of the user's."""
    try:
        config = json.loads(json.dumps(keras.saving.serialize_keras_object(model)))
    except Exception as error:  # anything, of a user's get_config
        raise InputError(f"--network {name}: the model can't be stored: {_first(error)}") from None
    _refuse_code(config, name)
    with _only_ours():
        try:
            other = keras.saving.deserialize_keras_object(config, safe_mode=True)
        except Exception as error:
            raise InputError(f"--network {name}: the model can't be built again from its "
                             f"description: {_first(error)}. Build it of Keras' own layers "
                             "only") from None
    if [tuple(weight.shape) for weight in other.weights] != \
            [tuple(weight.shape) for weight in model.weights]:
        raise InputError(f"--network {name}: built again from its description it has other weights:"
                         " build it of Keras' own layers, with keras.Sequential or "
                         "keras.Model(inputs, outputs)")


def _refuse_code(config: Any, name: str) -> None:
    """Refuse what needs code that is not in Keras."""
    if found := sorted(set(_foreign(config))):
        raise InputError(f"--network {name} has {', '.join(map(printable, found))}: a .keras file "
                         "is loaded in Keras' safe mode, which runs no code but Keras' own. Build "
                         "it of Keras' own layers only (Rescaling, Normalization and operations "
                         "of keras.ops in place of a Lambda), with keras.Sequential or "
                         "keras.Model(inputs, outputs)")


def _foreign(config: Any) -> Iterator[str]:
    """Classes and functions in a description that aren't Keras' or this project's."""
    if isinstance(config, list):
        for item in config:
            yield from _foreign(item)
    if not isinstance(config, dict):
        return
    kind, module = config.get("class_name"), config.get("module")
    registered = str(config.get("registered_name") or "")
    foreign = isinstance(module, str) and module.partition(".")[0] not in ("keras", "builtins")
    if kind in ("Lambda", "__lambda__"):
        yield "a Lambda"
    elif kind == "function":  # Keras' own are names only
        yield f"the function {config.get('config')}"
    elif kind and (foreign or ">" in registered) and not registered.startswith(_OURS):
        yield f"the class {kind}"
    for item in config.values():
        yield from _foreign(item)


def _set_types(config: Any, policy: str) -> bool:
    """Change the dtype policies of a description in place; whether there were others."""
    if isinstance(config, list):
        return any([_set_types(item, policy) for item in config])
    if not isinstance(config, dict):
        return False
    changed = False
    if config.get("class_name") == "DTypePolicy" and isinstance(config.get("config"), dict):
        changed = config["config"].get("name") != policy
        config["config"]["name"] = policy
    return any([changed, *(_set_types(item, policy) for item in config.values())])


def _fitted(model: keras.Model, shape: tuple[int, int, int], name: str) -> keras.Model:
    """The model with an input of exactly ``shape``, if it takes it, and two outputs, or one for
    each pixel."""
    wanted = (None, *shape)
    advice = "take input of the shape that the function is given"
    if not model.built or not getattr(model, "inputs", None):
        raise InputError(f"--network {name} is a model without a known input: begin with "
                         f"keras.Input(shape), and {advice}")
    if len(model.inputs) != 1 or len(model.outputs) != 1:
        raise InputError(f"--network {name} has {plural(len(model.inputs), 'input')} and "
                         f"{plural(len(model.outputs), 'output')}{_named(model)}, not one of each: "
                         "give keras.Model one tensor for the picture, and one for authentic and "
                         "tampered")
    given = tuple(model.inputs[0].shape)
    if len(given) != 4 or any(a not in (b, None) for a, b in zip(given, wanted)):
        sizes = f"; it takes rows of preprocess --size {given[1]}" if len(given) == 4 and \
            given[0] is None and given[1] == given[2] and given[3] == shape[2] else f": {advice}"
        raise InputError(f"--network {name} has input {given}, and the pictures are {wanted}"
                         f"{sizes}")
    if given != wanted:  # any size: the weights hold for this one
        weights = model.get_weights()
        model = keras.models.clone_model(model, input_tensors=keras.Input(wanted[1:],
                                                                          name="picture"))
        model.set_weights(weights)
    if tuple(model.outputs[0].shape) not in ((None, 2), (None, *shape[:2], 1)):
        raise InputError(f"--network {name} has output {tuple(model.outputs[0].shape)}, not "
                         "(None, 2): end with keras.layers.Dense(2, activation='softmax'), for "
                         "authentic and tampered; or, to say where, with keras.layers.Conv2D(1, 1, "
                         f"activation='sigmoid') of (None, {shape[0]}, {shape[1]}, 1)")
    if not model.trainable_weights:
        raise InputError(f"--network {name} has no weights that training could change")
    return model


def _unwrapped(model: keras.Model) -> keras.Model:
    """The model with a tensor in place of a list or dict of one input or output, as all programs
    call it."""
    whole = graph.of(model)
    if whole is None or len(whole.inputs) != 1 or len(whole.outputs) != 1 or not any(
            isinstance(value, (list, tuple, dict))
            for value in (whole._inputs_struct, whole._outputs_struct)):
        return model
    return keras.Model(whole.inputs[0], whole.outputs[0], name=model.name)


def _named(model: keras.Model) -> str:
    """The form of several outputs, in brackets, where it is not plain."""
    form = getattr(graph.of(model), "_outputs_struct", None)
    if isinstance(form, dict):
        return f" (a dict: {', '.join(printable(str(key)) for key in form)})"
    return f" (a {type(form).__name__})" if isinstance(form, (list, tuple)) else ""


def _check_names(model: keras.Model, name: str) -> None:
    """Whether all names can be scopes in TensorFlow's graph, in which training computes."""
    for layer in (model, *model._flatten_layers(include_self=False)):
        # as TensorFlow's own patterns; the model's name is the outermost scope
        first = r"[A-Za-z0-9.]" if layer is model else r"[\w.\\>-]"
        if isinstance(layer, keras.layers.InputLayer) or re.fullmatch(
                rf"{first}[\w.\\>-]*", layer.name, re.ASCII):
            continue
        what = "the model's name" if layer is model else "the layer name"
        raise InputError(f"--network {name}: {what} '{printable(layer.name)}' can't be used: "
                         "take the letters A to Z and a to z, digits and _ . - only, and begin "
                         "with a letter or digit")


def _check_training(model: keras.Model, name: str) -> None:
    """Whether a training pass can be computed: it is traced."""
    import tensorflow as tf

    from hpc_deepfake.network.base import Pass
    from hpc_deepfake.network.general import General

    def step(pictures: tf.Tensor) -> tf.Tensor:
        own = tf.as_dtype(model.trainable_weights[0].dtype)
        how = Pass(own, None, False, tf.ones((), own), lambda value, _: value)
        return General(model).forward(pictures, tf.zeros(2, tf.int32), how).logits

    try:
        tf.function(step, autograph=False).get_concrete_function(
            tf.TensorSpec((2, *model.input_shape[1:]), tf.uint8))
    except Exception as error:  # such as of a layer that can't compute with training=True
        reason = str(error) if isinstance(error, InputError) else \
            f"a training pass failed: {_first(error)}"
        layers = [layer.name for layer in model._flatten_layers(include_self=False)
                  if re.search(rf"(?<![\w.\\>-]){re.escape(layer.name)}/", reason)]
        where = f", layer {layers[-1]}" if layers else ""  # the innermost
        raise InputError(f"--network {name}{where}: {reason}") from None


def _with_probabilities(model: keras.Model, name: str) -> keras.Model:
    """The model with a softmax behind it, unless its outputs are probabilities; behind a map, with
    a verdict."""
    noise = np.random.default_rng(0).integers(0, 256, (2, *model.input_shape[1:]), dtype=np.uint8)
    try:
        given = np.asarray(model(noise, training=False), np.float64)
    except Exception as error:  # such as a shape that only shows in the computation
        raise InputError(f"--network {name} failed on pictures of noise: {_first(error)}") from None
    if not np.isfinite(given).all():
        raise InputError(f"--network {name} gives numbers that are not finite for pictures of "
                         "noise, values 0…255: scale them in its first layer, "
                         "keras.layers.Rescaling(1 / 255)")
    if given.ndim == 4:
        return _judging(model, name)
    if probabilities.gives(model, noise, given):
        return model
    log.info("%s: its outputs are not probabilities: a softmax is put behind them", name)
    if isinstance(model, keras.Sequential):
        model.add(keras.layers.Softmax(name="probabilities"))
        return model
    outputs = keras.layers.Softmax(name="probabilities")(model.outputs[0])
    return keras.Model(model.inputs[0], outputs, name=model.name)


def _judging(model: keras.Model, name: str) -> keras.Model:
    """A network that says where, with a verdict on the picture behind its map."""
    taken = {maps.LAYER, *maps.EXACT, *maps.HEAD} & {layer.name for layer in model.layers}
    if taken:
        raise InputError(f"--network {name} has a layer named {min(taken)}, a name of the verdict "
                         "that is put behind its map: rename it")
    from keras import ops

    given = model.outputs[0]
    if not probabilities.ends_in_sigmoid(model):
        log.info("%s: its map has no sigmoid: it is taken for log-odds", name)
        return maps.with_verdict(model.inputs[0], given, model.name)
    likely = ops.clip(given, maps.LEAST, 1 - maps.LEAST)
    return maps.with_verdict(model.inputs[0], ops.log(likely) - ops.log(1 - likely), model.name,
                             given)


@contextmanager
def _only_ours() -> Iterator[None]:
    """Without classes that the user's code has registered: a file must load without it."""
    registered = keras.saving.get_custom_objects()
    before = dict(registered)
    for key in before:
        if not key.startswith(_OURS):
            del registered[key]
    try:
        yield
    finally:
        registered.clear()
        registered.update(before)


@contextmanager
def _errors(file: Path, name: str) -> Iterator[None]:
    """Errors of the user's code as one message with their place."""
    try:
        yield
    except InputError:
        raise
    except (Exception, SystemExit) as error:
        places = [frame.lineno for frame in traceback.extract_tb(error.__traceback__)
                  if frame.filename == str(file)]
        where = f", line {places[-1]}" if places else ""
        text = "".join(traceback.format_exception_only(error)).strip()
        if isinstance(error, SyntaxError):
            where, text = f", line {error.lineno}", f"SyntaxError: {error.msg}"
        raise InputError(f"--network {name} failed{where}: {printable(' '.join(text.split()))}; "
                         "correct it there") from None


@contextmanager
def _neighbours(file: Path) -> Iterator[None]:
    """Modules beside the file can be imported, after all others."""
    folder = str(file.resolve().parent)
    sys.path.append(folder)
    try:
        yield
    finally:
        for place in reversed(range(len(sys.path))):
            if sys.path[place] == folder:
                del sys.path[place]
                break


def _first(error: Exception) -> str:
    """The first line of an error's message, which may go on with a whole description."""
    lines = str(error).strip().splitlines() or [""]
    return printable(f"{type(error).__name__}: {lines[0][:300]}")
