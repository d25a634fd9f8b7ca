"""Networks by name, by a function of the user's, or from a ``.keras`` file."""

from __future__ import annotations

import argparse
import importlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from hpc_deepfake.core.errors import InputError
from hpc_deepfake.core.surroundings import check_keras

if TYPE_CHECKING:
    import keras


class Entry(NamedTuple):
    """A network in the box.

    Attributes:
        module: of ``zoo``; it has a function with the network's name.
        source: the paper.
        smallest: size of the smallest pictures that it takes, pixels.
        multiple: of which their size must be a multiple.
        stacked: whether it takes several features as channels.
        where: whether it has a map.
    """

    module: str
    source: str
    smallest: int = 64
    multiple: int = 1
    stacked: bool = True
    where: bool = False


TABLE = "this project's default"
ZOO = {
    "meso4": Entry("meso", "Afchar et al. 2018, MesoNet"),
    "mesoinception4": Entry("meso", "Afchar et al. 2018, MesoNet"),
    "bayar": Entry("bayar", "Bayar & Stamm 2016, 2018"),
    "srm": Entry("srm", "Fridrich & Kodovský 2012 (its filters)", stacked=False),
    "resnet50": Entry("applications", "He et al. 2016", stacked=False),
    "efficientnetv2b0": Entry("applications", "Tan & Le 2021"),
    "xception": Entry("applications", "Chollet 2017", 71),
    "mobilenetv3": Entry("applications", "Howard et al. 2019 (large)"),
    "unet": Entry("unet", "Ronneberger et al. 2015; says where", multiple=8, where=True),
}
DEFAULT = "table"
NAMES = (DEFAULT, *ZOO)
OTHERS = "FILE.py:FUNCTION or FILE.keras"


def build(spec: str, size: int, precision: str = "float32", channels: int = 3) -> keras.Model:
    """A network: values 0…255 (n, size, size, channels) → probabilities (n, 2) of authentic and
    tampered; it may have a map (``maps.has``). Weights are drawn from Keras' global seed, those of
    a file are read.

    Args:
        spec: one of ``NAMES``, ``FILE.py:FUNCTION`` (a function that takes the input's shape
            (size, size, channels) and returns a Keras model), or ``FILE.keras``.
        size: of the pictures, pixels.
        channels: of the pictures: red, green, blue of each feature.
        precision: ``float32``, ``bfloat16`` (Keras' ``mixed_bfloat16``, with weights in float32)
            or ``float64``.

    Raises:
        InputError: there is no such network, or it can't be trained here; on this process alone.
    """
    check_keras()
    check_channels(spec, channels)
    # layers without a name are named alike in each process, whatever it has built before: random
    # numbers of a layer follow its name
    from keras.src.utils.naming import reset_uids

    with policy(precision):
        if spec == DEFAULT:
            from hpc_deepfake.network import table

            return table.build("float64" if precision == "float64" else "float32", size)
        reset_uids()
        if spec not in ZOO:
            from hpc_deepfake.network import own

            return own.build(*split(spec), size, precision, channels)
        entry = ZOO[spec]
        if size < entry.smallest:
            raise InputError(f"--network {spec} takes pictures of {entry.smallest} × "
                             f"{entry.smallest} pixels or more, not {size} × {size}: choose "
                             "another network, or preprocess with a larger --size")
        if size % entry.multiple:
            raise InputError(f"--network {spec} takes pictures whose size is a multiple of "
                             f"{entry.multiple} pixels, not {size} × {size}: choose another "
                             "network, or preprocess with another --size")
        module = importlib.import_module(f"hpc_deepfake.network.zoo.{entry.module}")
        return getattr(module, spec)((size, size, channels))


def check_channels(spec: str, channels: int) -> None:
    """Raise InputError if a network in the box doesn't take so many."""
    if channels != 3 and (spec == DEFAULT or (spec in ZOO and not ZOO[spec].stacked)):
        raise InputError(f"--network {spec} takes one feature of three channels, not "
                         f"{channels // 3} stacked ones: give one --feature, or another network, "
                         "such as unet")


@contextmanager
def policy(precision: str) -> Iterator[None]:
    """Keras' global dtype policy inside the block."""
    import keras

    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy("mixed_bfloat16" if precision == "bfloat16" else precision)
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)


def split(spec: str) -> tuple[Path, str | None]:
    """The file that a spec names, and the function in it.

    Raises:
        InputError: it is neither a file nor one of ``NAMES``.
    """
    file, colon, function = spec.rpartition(":")
    if colon and file.endswith(".py") and function.isidentifier():
        return Path(file), function
    if spec.endswith(".keras"):
        return Path(spec), None
    if (python := spec.removesuffix(":")).endswith(".py"):
        raise InputError(f"'{spec}' lacks the function that builds the network: {python}:FUNCTION")
    if os.path.isfile(os.path.join(spec, "model.keras")):
        raise InputError(f"'{spec}' is a folder: take {os.path.join(spec, 'model.keras')} to train "
                         f"its network on, or --init {spec} for its weights in another network")
    if colon and function.isidentifier():
        raise InputError(f"there is no network '{spec}', as '{file}' is no Python file: a network "
                         f"of your own is {file or 'FILE'}.py:{function}")
    raise InputError(f"there is no network '{spec}'; give one of {', '.join(NAMES)}, or {OTHERS}")


def checked(text: str) -> str:
    """Argument type: a spec as ``build`` takes it, with the whole path of a file, so that a run can
    be resumed from another folder. The file need not be there."""
    if text in NAMES:
        return text
    try:
        file, function = split(text)
    except InputError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
    return ":".join([os.path.abspath(file), *filter(None, [function])])


def title(spec: str) -> str:
    """A spec without the folder: ``meso4``, ``mine.py:build``, ``mine.keras``."""
    return spec if spec in NAMES else spec.rpartition("/")[2]


def says_where(spec: str) -> bool:
    """Whether a network in the box has a map; of others only the model tells (``maps.has``)."""
    return spec in ZOO and ZOO[spec].where


def source(spec: str) -> str:
    """Where a network comes from, in a few words."""
    return ZOO[spec].source if spec in ZOO else TABLE if spec == DEFAULT else "your own"
