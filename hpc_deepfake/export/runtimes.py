"""The runtimes: how a model is written for each, and what its own interpreter computes."""

from __future__ import annotations

import errno
import importlib
import importlib.metadata
import importlib.util
import os
import re
import tempfile
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from hpc_deepfake.core.errors import InputError, reason
from hpc_deepfake.export.portable import INPUT, MAP, OUTPUT
from hpc_deepfake.network.scoring import BATCH
from preprocessing.ela import at_once

if TYPE_CHECKING:
    import keras

Outputs = dict[str, np.ndarray]  # by their names in ``portable``
Run = Callable[[np.ndarray], Outputs]
_FLEX = re.compile(r"\bFlex(\w+)")
_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EROFS, errno.EACCES)


@dataclass(frozen=True)
class Runtime:
    """A place where an exported model runs.

    Attributes:
        title: as its makers call it.
        file: name of the model in its folder; a folder itself for ``savedmodel``.
        convert: writes a Keras model as a file.
        writers: packages, besides TensorFlow, that write the format.
        readers: packages of which one runs it, the first that is installed.
        load: the file → features uint8 (n, S, S, channels) → outputs, float32.
        use: Python lines of the example that define ``outputs(features)`` for the file ``MODEL``.
    """

    title: str
    file: str
    convert: Callable[[keras.Model, Path], None]
    writers: tuple[str, ...]
    readers: tuple[str, ...]
    load: Callable[[Path], Run]
    use: str

    @property
    def reader(self) -> str | None:
        """The package that runs the model here; None if none is installed."""
        return next((name for name in self.readers if importlib.util.find_spec(name)), None)

    @property
    def package(self) -> str:
        """What to install to run the model."""
        return self.readers[0].replace("_", "-")

    def require_writers(self) -> None:
        """Raise InputError if a package is missing that writes the format."""
        missing = [name for name in self.writers if importlib.util.find_spec(name) is None]
        if missing:
            raise InputError(f"to write a model for {self.title}, the package "
                             f"{' and '.join(missing)} is missing: pip install "
                             f"{' '.join((*missing, self.package))}")

    def run(self, path: Path, features: np.ndarray) -> Outputs:
        """Outputs of features as of ``load``, in batches as of ``network.scoring``.

        Raises:
            InputError: the runtime can't compute the network.
        """
        most = at_once(BATCH, features.shape[1])
        try:
            compute = self.load(path)
            parts = [compute(features[start:start + most])
                     for start in range(0, len(features), most)]
            return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
        except (OSError, MemoryError):
            raise
        except Exception as error:  # those of ONNX Runtime have no other class in common
            lacking = _FLEX.search(str(error))  # the converter takes what the interpreter lacks
            why = f"it lacks TensorFlow's operation {lacking[1]}, one of those that LSTM and GRU " \
                "consist of" if lacking and "TensorList" in lacking[1] else \
                f"it lacks TensorFlow's operation {lacking[1]}" if lacking else reason(error)
            raise InputError(f"this network can't be run by {self.title}: {why}; choose another "
                             "runtime with --to") from error

    def write(self, model: keras.Model, path: Path) -> None:
        """Write the model as ``path``.

        Raises:
            InputError: the converter doesn't know an operation of the model.
            OSError: as of any file.
        """
        with warnings.catch_warnings(), _temporary_files(path.parent):
            warnings.simplefilter("ignore")  # of the converters, about NumPy and themselves
            try:
                self.convert(model, path)
            except OSError:
                raise
            except Exception as error:
                text = str(error).strip() or type(error).__name__
                for number in _DISK:  # TensorFlow's errors have the system's text
                    if os.strerror(number) in text:
                        raise OSError(number, os.strerror(number)) from error
                raise InputError(f"this network can't be converted for {self.title}: {text}; "
                                 "choose another runtime with --to") from error


def version(package: str) -> str | None:
    """The installed version of a package, whatever its distribution is called."""
    for name in importlib.metadata.packages_distributions().get(package, [package]):
        with suppress(importlib.metadata.PackageNotFoundError):
            return importlib.metadata.version(name)
    return None


def _save_model(model: keras.Model, path: Path) -> None:
    import tensorflow as tf

    # Keras' own export of the same stores each weight twice
    served = tf.Module()
    served.weights = [variable.value for variable in model.weights]
    served.serve = tf.function(model, input_signature=[
        tf.TensorSpec(tensor.shape, tensor.dtype, tensor.name) for tensor in model.inputs])
    tf.saved_model.save(served, path, {"serving_default": served.serve})


def _keras_export(form: str) -> Callable[[keras.Model, Path], None]:
    def write(model: keras.Model, path: Path) -> None:
        import keras

        signature = [keras.InputSpec(tensor.dtype, tensor.shape, name=tensor.name)
                     for tensor in model.inputs]
        model.export(path, format=form, verbose=False, input_signature=signature)

    return write


def _load_saved_model(path: Path) -> Run:
    import tensorflow as tf

    model = tf.saved_model.load(str(path))  # which its functions don't keep
    return lambda features: {name: value.numpy() for name, value in model.signatures[
        "serving_default"](**{INPUT: tf.constant(features)}).items()}


def _load_tflite(path: Path) -> Run:
    with warnings.catch_warnings():  # TensorFlow says that ai-edge-litert replaces its own one
        warnings.simplefilter("ignore")
        interpreter = _interpreter()(model_path=str(path))
    (given,), computed = interpreter.get_input_details(), interpreter.get_output_details()

    def run(features: np.ndarray) -> Outputs:
        interpreter.resize_tensor_input(given["index"], features.shape)
        interpreter.allocate_tensors()
        interpreter.set_tensor(given["index"], features)
        interpreter.invoke()
        tensors = [np.asarray(interpreter.get_tensor(one["index"])) for one in computed]
        # the format keeps no names
        return {OUTPUT if tensor.ndim == 1 else MAP: tensor for tensor in tensors}

    return run


def _interpreter() -> Any:
    """The class of ai-edge-litert, or the older one of TensorFlow."""
    try:
        return importlib.import_module("ai_edge_litert.interpreter").Interpreter
    except ImportError:
        import tensorflow as tf

        return tf.lite.Interpreter


def _load_onnx(path: Path) -> Run:
    session = importlib.import_module("onnxruntime").InferenceSession(
        path, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return lambda features: dict(zip(
        names, map(np.asarray, session.run(names, {INPUT: features})), strict=True))


@contextmanager
def _temporary_files(folder: Path) -> Iterator[None]:
    """Have converters write theirs, as large as the model, where the model will be."""
    before, tempfile.tempdir = tempfile.tempdir, os.path.abspath(folder)
    try:
        yield
    finally:
        tempfile.tempdir = before
        for left in folder.glob("__autograph_generated_file*"):  # kept until the program ends
            left.unlink()


_USE_SAVED_MODEL = """\
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # no remarks on its start
import tensorflow as tf

model = tf.saved_model.load(MODEL)


def outputs(features):
    found = model.signatures["serving_default"](picture=tf.constant(features))
    return {name: value.numpy() for name, value in found.items()}
"""
_USE_TFLITE = """\
import warnings

try:
    from ai_edge_litert.interpreter import Interpreter
except ImportError:
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # no remarks on its start
    from tensorflow.lite.python.interpreter import Interpreter

with warnings.catch_warnings():  # TensorFlow's copy says that it will be gone one day
    warnings.simplefilter("ignore")
    interpreter = Interpreter(model_path=MODEL)


def outputs(features):
    given = interpreter.get_input_details()[0]["index"]
    interpreter.resize_tensor_input(given, features.shape)
    interpreter.allocate_tensors()
    interpreter.set_tensor(given, features)
    interpreter.invoke()
    found = [interpreter.get_tensor(one["index"]) for one in interpreter.get_output_details()]
    return {"tampered" if one.ndim == 1 else "changed": one for one in found}
"""
_USE_ONNX = """\
import onnxruntime

session = onnxruntime.InferenceSession(MODEL, providers=["CPUExecutionProvider"])


def outputs(features):
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(names, {"picture": features})))
"""

RUNTIMES = {
    "savedmodel": Runtime(
        "TensorFlow", "model", _save_model, (), ("tensorflow",), _load_saved_model,
        _USE_SAVED_MODEL),
    "tflite": Runtime(
        "TensorFlow Lite (LiteRT)", "model.tflite", _keras_export("litert"), (),
        ("ai_edge_litert", "tensorflow"), _load_tflite, _USE_TFLITE),
    "onnx": Runtime(
        "ONNX Runtime", "model.onnx", _keras_export("onnx"), ("tf2onnx",), ("onnxruntime",),
        _load_onnx, _USE_ONNX),
}
