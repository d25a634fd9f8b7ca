"""The data sets of a matrix: data files with names, and the pictures of them that are evaluated."""

from __future__ import annotations

import argparse
import os
import shlex
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import numpy as np

from hpc_deepfake.audit import stored_roots
from hpc_deepfake.compare import slug
from hpc_deepfake.core.errors import InputError
from hpc_deepfake.core.text import printable
from preprocessing import ela
from preprocessing.ela import Parameters
from preprocessing.integrity import unfinished
from preprocessing.split import PARTS
from preprocessing.store import DONE, Header, open_header


class Named(NamedTuple):
    """A file or folder with its name in the report."""

    name: str
    path: Path


def named(text: str) -> Named:
    """Argument type: ``NAME=PATH``, or a path, which is called like its file."""
    name, equals, path = text.partition("=")
    if path and "/" in name and not os.path.exists(text) and os.path.exists(path):
        raise argparse.ArgumentTypeError(f"there is no {text!r}, and the NAME of NAME=PATH can't "
                                         "have a /")
    if not equals or not path or "/" in name or os.path.exists(text):
        name, path = Path(os.path.abspath(text)).stem, text
    if not name or name != printable(name):
        raise argparse.ArgumentTypeError(f"give a printable name: NAME={path!r}")
    return Named(name, Path(path))


@dataclass(frozen=True)
class DataSet:
    """A data file of the matrix.

    Attributes:
        name: in the report.
        header: of the file.
        trained: whether models of the matrix are trained on it.
        part: that is evaluated.
    """

    name: str
    header: Header
    trained: bool
    part: str

    @property
    def path(self) -> Path:
        return self.header.path

    @property
    def slug(self) -> str:
        """Its name as a part of a file's."""
        return slug(self.name)

    @cached_property
    def digest(self) -> str:
        """As of the header."""
        return self.header.digest()

    def rows(self, part: str) -> np.ndarray:
        """Usable rows of a part or of ``all``, int64, sorted."""
        usable = np.array(self.header.array("status")) == DONE
        if part != "all":
            usable &= np.array(self.header.array("split")) == PARTS.index(part)
        return np.flatnonzero(usable)

    @cached_property
    def tested(self) -> np.ndarray:
        """Rows of the part that is evaluated, int64, sorted."""
        return self.rows(self.part)

    @property
    def described(self) -> str:
        """Such as ``the test part of casia2``."""
        return f"all of {self.name}" if self.part == "all" else f"the {self.part} part of " \
                                                                f"{self.name}"


def open_all(train: Sequence[Named], test: Sequence[Named], part: str | None) -> list[DataSet]:
    """All data sets, those that are trained on first; a file that is named twice is one.

    Args:
        train: those that models are trained on.
        test: the others.
        part: of the others; None: the test part if there is one, else all.

    Raises:
        InputError: not a finished data file, one without pictures to evaluate, or two files with
            the same name.
    """
    found: list[DataSet] = []
    places: set[str] = set()
    for each, trained in [*((each, True) for each in train), *((each, False) for each in test)]:
        place = os.path.realpath(each.path)
        if place in places:
            continue
        places.add(place)
        for other in found:
            if other.slug == slug(each.name):
                raise InputError(f"{other.path} and {each.path} are both called '{each.name}': "
                                 f"give one another name, like other={each.path}")
        found.append(_opened(each, trained, part))
    return found


def _opened(each: Named, trained: bool, part: str | None) -> DataSet:
    header = open_header(each.path)
    if pending := len(unfinished(header)):
        raise InputError(f"{each.path} isn't finished: {pending:,} of {header.rows:,} pictures are "
                         "pending; run the same preprocessing command again to complete it")
    data = DataSet(each.name, header, trained, "test")
    if not len(data.tested):
        data = DataSet(each.name, header, trained, "validation" if trained else "all")
    if part is not None and not trained:
        data = DataSet(each.name, header, trained, part)
    if not len(data.tested):
        raise InputError(f"{each.path} has no {data.part} part: it was split "
                         f"{header.attributes['split']}; choose another --part"
                         if data.part != "all" else f"{each.path} has no usable pictures; see "
                                                    f"{each.path}.rejects.csv")
    return data


def check_fits(data: DataSet, feature: str, parameters: Parameters, like: str) -> None:
    """Check that a model can read a data file.

    Args:
        data: the data file.
        feature: that the model was or will be trained on.
        parameters: of that feature.
        like: what the model was or will be trained on, for messages.

    Raises:
        InputError: the file lacks the feature, or has it with other parameters; with the command
            that makes one that fits.
    """
    header, made = data.header, data.header.parameters
    missing = header.lacks(feature)
    if missing is None and made == parameters:
        return
    if missing is not None and not ela.computable(feature):
        raise InputError(f"{data.path} has no feature '{missing}', only "
                         f"{', '.join(header.features)}: name others with --features")
    what = f"has no feature '{missing}', only {', '.join(header.features)}" \
        if missing is not None else \
        f"was made with ELA parameters {made.as_dict()}, and {like} with {parameters.as_dict()}"
    raise InputError(f"{data.path} {what}. Make another file of its pictures:\n  "
                     + fitting(header, feature, parameters))


def fitting(header: Header, feature: str, parameters: Parameters) -> str:
    """The command that makes a data file of the same pictures which fits."""
    roots = stored_roots(header.path) or {"": Path("DIR")}
    words = ["mpirun", "-np", "2", "hpc-deepfake", "preprocess"]
    for name, folder in roots.items():
        words += [f"--{name or 'data'}", str(folder)]
    words += ["--out", str(header.path.with_name(f"{header.path.stem}-fitting.h5")),
              "--features", *ela.parts(feature)]
    for name, value in asdict(parameters).items():
        if value != getattr(Parameters(), name):
            words += [f"--{name}", str(value)]
    split = str(header.attributes["split"])
    return shlex.join([*words, *(["--split", split] if split[:1].isdigit() else [])])
