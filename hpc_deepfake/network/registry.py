"""Networks by name, by a function of the user's, or from a ``.keras`` file."""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hpc_deepfake.core.errors import InputError
from hpc_deepfake.core.surroundings import check_keras

if TYPE_CHECKING:
    import keras

# name: module of ``zoo`` with a function of that name
_ZOO = {"meso4": "meso", "mesoinception4": "meso", "resnet50": "applications",
        "efficientnetv2b0": "applications", "xception": "applications",
        "mobilenetv3": "applications"}
NAMES = ("table", *_ZOO)
_POLICIES = {"bfloat16": "mixed_bfloat16"}  # weights stay float32


def build(spec: str, size: int, precision: str = "float32") -> keras.Model:
    """A network: values 0…255 in RGB (n, size, size, 3) → probabilities (n, 2) of authentic and
    tampered. Kernels are drawn from Keras' global seed, except those of a file.

    Args:
        spec: one of ``NAMES``, ``FILE.py:FUNCTION`` (a function that takes the input's shape
            (size, size, 3) and returns a Keras model), or ``FILE.keras``.
        size: of the pictures, pixels.
        precision: ``float32``, ``bfloat16`` (Keras' ``mixed_bfloat16``) or ``float64``.

    Raises:
        InputError: there is no such network, or it can't be trained here.
    """
    import keras

    check_keras()
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(_POLICIES.get(precision, precision))
    try:
        if spec == "table":
            from hpc_deepfake.network import table

            return table.build(precision)
        if spec in _ZOO:
            module = importlib.import_module(f"hpc_deepfake.network.zoo.{_ZOO[spec]}")
            return getattr(module, spec)((size, size, 3))
        return _own(spec, size)
    finally:
        keras.config.set_dtype_policy(before)


def _own(spec: str, size: int) -> keras.Model:
    """A network of the user's."""
    import keras

    file, colon, function = spec.rpartition(":")
    if colon and file.endswith(".py"):
        model = _call(Path(file), function, (size, size, 3))
    elif spec.endswith(".keras"):
        if not Path(spec).is_file():
            raise InputError(f"--network: there is no file {spec}")
        model = keras.saving.load_model(spec, compile=False, safe_mode=True)
    else:
        raise InputError(f"--network: there is no network '{spec}'; give one of "
                         f"{', '.join(NAMES)}, or FILE.py:FUNCTION, or FILE.keras")
    shapes = getattr(model, "input_shape", None), getattr(model, "output_shape", None)
    if shapes != ((None, size, size, 3), (None, 2)):
        raise InputError(f"--network {spec} has input {shapes[0]} and output {shapes[1]}, not "
                         f"(None, {size}, {size}, 3) and (None, 2)")
    return model


def _call(file: Path, function: str, shape: tuple[int, int, int]) -> Any:
    """What a function of a Python file returns for the input's shape."""
    if not file.is_file():
        raise InputError(f"--network: there is no file {file}")
    name = f"network_of_user_{hashlib.sha256(str(file.resolve()).encode()).hexdigest()[:16]}"
    specification = importlib.util.spec_from_file_location(name, file)
    assert specification is not None and specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    sys.modules[name] = module  # as dataclasses need it
    with _errors(file), _neighbours(file):
        specification.loader.exec_module(module)
        call: Callable[[tuple[int, int, int]], Any] | None = getattr(module, function, None)
        if not callable(call):
            raise InputError(f"--network: {file} has no function '{function}'")
        return call(shape)


@contextmanager
def _errors(file: Path) -> Iterator[None]:
    """Errors of the user's code as one message with their place."""
    try:
        yield
    except InputError:
        raise
    except Exception as error:
        places = [frame.lineno for frame in traceback.extract_tb(error.__traceback__)
                  if frame.filename == str(file)]
        where = f"line {places[-1]}: " if places else ""
        text = traceback.format_exception_only(error)[-1].strip()
        raise InputError(f"--network: {file} failed: {where}{text}; correct it there") from None


@contextmanager
def _neighbours(file: Path) -> Iterator[None]:
    """Modules beside the file can be imported, after all others."""
    folder = str(file.resolve().parent)
    sys.path.append(folder)
    try:
        yield
    finally:
        if folder in sys.path:
            sys.path.reverse()
            sys.path.remove(folder)
            sys.path.reverse()
