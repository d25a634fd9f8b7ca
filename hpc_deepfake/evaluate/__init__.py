"""``hpc-deepfake evaluate``: metrics of a trained model on a data file or a folder."""

from __future__ import annotations

import argparse
import os
from argparse import Namespace
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hpc_deepfake import metrics
from hpc_deepfake.core import mpi, watchdog
from hpc_deepfake.core.errors import EXIT_USAGE, InputError
from hpc_deepfake.core.files import write_json
from hpc_deepfake.core.log import log
from hpc_deepfake.core.options import Parser, between, default_data
from hpc_deepfake.core.outputs import check_file
from hpc_deepfake.core.streams import work_matters
from hpc_deepfake.core.text import printable
from hpc_deepfake.data.rows import DataFile
from hpc_deepfake.evaluate import breakdown, plots, text
from hpc_deepfake.evaluate.material import (
    Material,
    of_folder,
    of_rows,
    open_file,
    probabilities,
    rows_of,
    trained_on,
)
from hpc_deepfake.metrics import calibration, curves, intervals
from hpc_deepfake.network import model
from preprocessing import protocol
from preprocessing.catalogue import Catalogue, scan
from preprocessing.ela import FEATURES

if TYPE_CHECKING:
    import numpy as np
    from mpi4py.MPI import Comm

__all__ = ["main", "open_file", "parser", "probabilities"]

_EXAMPLES = """examples:
  hpc-deepfake evaluate --model runs/first --data casia2.h5 --part test
  hpc-deepfake evaluate --model runs/first --data casia2.h5 --threshold auto --plots plots
  hpc-deepfake evaluate --model runs/first --data other/pictures --json result.json
  mpirun -np 4 hpc-deepfake evaluate --model runs/first --data casia2.h5 --part test

exit codes: 0 done; 2 invalid options or input, or some pictures could not be read (the figures are
            those of all others)"""
_AUTO = "auto"


def parser() -> Parser:
    """The command line."""
    cli = Parser(prog="hpc-deepfake evaluate", epilog=_EXAMPLES, description=(
        "Evaluate a trained model on a part of a data file, or on a folder of pictures in two\n"
        "classes: accuracy and other metrics beside baselines, calibration, and breakdowns by\n"
        "file format and kind of tampering. Under mpirun the ranks share the work."))
    cli.add_argument("--model", type=Path, metavar="RUN",
                     help="run directory of the trained model, or its .keras file (required)")
    cli.add_argument("--data", type=Path, metavar="PATH",
                     help="data file, or a folder of pictures laid out as for preprocessing "
                          "(default: features.h5 in $HPC_DEEPFAKE_DATA, or in data/ if unset)")
    cli.add_argument("--part", choices=("validation", "test", "train", "all"),
                     help="part of the data file to evaluate (default: validation; test with "
                          "--threshold auto)")
    cli.add_argument("--threshold", type=_threshold, metavar="P",
                     help="probability from which a picture is predicted tampered, 0 to 1; or "
                          "auto: choose the best one on the validation part and evaluate it on "
                          "the test part (default: the model's, 0.5)")
    cli.add_argument("--no-container", action="store_true",
                     help="skip the container baseline, which reads the headers of the picture "
                          "files")
    cli.add_argument("--json", type=Path, metavar="FILE",
                     help="also write all figures to FILE")
    cli.add_argument("--plots", type=Path, metavar="DIR",
                     help="write DIR/PART.png with ROC curve, precision over recall and "
                          "reliability diagram")
    cli.add_argument("--device", choices=("auto", "cpu", "gpu"), default="auto",
                     help="device to run the network on; auto takes a GPU if there is one")
    return cli


def _threshold(text: str) -> float | str:
    if text == _AUTO:
        return text
    try:
        return between(0, 1)(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"must be auto or a number from 0 to 1, not {text}"
                                         ) from None


def main(argv: Sequence[str] | None = None, comm: Comm | None = None) -> int:
    """Run the command; with ``comm`` collective. Returns the exit code."""
    options = parser().parse(argv)
    if options.json or options.plots:
        work_matters()
    card, catalogue = mpi.on_root(comm, partial(_prepare, options))
    if catalogue is None:
        return _file(options, card, comm)
    return _folder(options, card, catalogue, comm)


def _prepare(options: Namespace) -> tuple[model.Card, Catalogue | None]:
    """The model's card and, of a folder, its pictures; all options are checked. Rank 0 only."""
    if options.model is None:
        raise InputError("name the model: --model RUN, a run directory or a .keras file")
    card = model.read_card(options.model)
    _check_outputs(options)
    return card, _catalogue(options, card) if _data(options).is_dir() else None


def _data(options: Namespace) -> Path:
    path: Path = options.data or default_data() / "features.h5"
    return path


def _file(options: Namespace, card: model.Card, comm: Comm | None) -> int:
    path, auto = _data(options), options.threshold == _AUTO
    part = options.part or ("test" if auto else "validation")

    def opened() -> tuple[DataFile, np.ndarray, np.ndarray | None]:
        data = open_file(path, card)
        if auto:
            _check_auto(part, data)
        return data, rows_of(data, part), rows_of(data, "validation") if auto else None

    watchdog.enter("opening the data")
    data, rows, validation = mpi.together(comm, opened)
    network = _network(options, comm)
    threshold, chosen_on = options.threshold, None
    if validation is not None:
        threshold, chosen_on = mpi.on_root(
            comm, partial(_choose, of_rows(network, data, validation, comm)))
    material = of_rows(network, data, rows, comm)
    container = None if options.no_container else _container(path, comm)

    def finish() -> int:
        headline = (f"{model.find(options.model)} on the {part} part of {data.header.path}, "
                    f"{len(rows):,} images, {card.feature}:")
        note = _overlap(part, trained_on(options.model, path))
        return _finish(options, headline, note, material,
                       card.threshold if threshold is None else threshold, part, chosen_on,
                       container)

    watchdog.enter("computing the figures")
    return mpi.on_root(comm, finish)


def _catalogue(options: Namespace, card: model.Card) -> Catalogue:
    """The pictures of a folder; prints notes about them."""
    data = _data(options)
    if options.threshold == _AUTO:
        raise InputError(f"--threshold auto needs a validation and a test part, but {data} "
                         "is a folder: run preprocessing on it with --split 70/10/20, and name "
                         "its output with --data")
    if options.part not in (None, "all"):
        raise InputError(f"{data} is a folder and has no {options.part} part: omit "
                         "--part, or run preprocessing on it and name its output with --data")
    if card.feature not in FEATURES:
        raise InputError(f"{options.model} was trained on the feature '{card.feature}', and "
                         f"only {', '.join(FEATURES)} can be computed from pictures: name a data "
                         "file with that feature, or another --model")
    catalogue = scan(data)
    for note in catalogue.notes:
        print(f"note: {note}", flush=True)
    return catalogue


def _folder(options: Namespace, card: model.Card, catalogue: Catalogue, comm: Comm | None) -> int:
    data = _data(options)

    def visible() -> None:
        if not data.is_dir():
            raise InputError(f"there is no folder {data} on every node: put the pictures on a file "
                             "system that all nodes see, or evaluate on one node")

    mpi.together(comm, visible)
    material, rejected = of_folder(_network(options, comm), card, catalogue, comm)

    def finish() -> int:
        headline = (f"{model.find(options.model)} on all of {data}, {len(material):,} images, "
                    f"{card.feature}:")
        threshold = card.threshold if options.threshold is None else options.threshold
        _finish(options, headline, None, material, threshold, "all", None, None)
        for path, reason in rejected[:3]:
            log.warning("not read: %s: %s", printable(os.fsdecode(path)), reason)
        if rejected:
            log.warning("%d of %d pictures could not be read", len(rejected), len(catalogue))
        return EXIT_USAGE if rejected else 0

    watchdog.enter("computing the figures")
    return mpi.on_root(comm, finish)


def _network(options: Namespace, comm: Comm | None) -> Any:
    """The trained network, on this rank's device; collective."""
    from hpc_deepfake.network import device

    watchdog.enter("loading the model")
    place = (0, 1) if comm is None else device.local_ranks(comm)
    mpi.together(comm, lambda: device.start(options.device, *place))
    return mpi.together(comm, lambda: model.load(options.model))


def _check_auto(part: str, data: DataFile) -> None:
    """Check that a threshold is evaluated on other pictures than those that choose it."""
    if part != "test":
        raise InputError("--threshold auto chooses on the validation part and evaluates on the "
                         f"test part only, not on --part {part}: omit --part")
    if not len(data.rows("test")):
        raise InputError(f"{data.header.path} has no test part to evaluate a threshold on: it was "
                         f"split {data.header.attributes['split']}. Run preprocessing with --split "
                         "70/10/20 and another --out, train on that file, and evaluate there")


def _choose(validation: Material) -> tuple[float, dict[str, Any]]:
    """The best threshold of the validation part, and its figures there."""
    threshold = curves.youden(validation.probabilities, validation.labels)
    if threshold is None:
        raise InputError("--threshold auto: the validation part has pictures of one class only, "
                         "so no threshold is better than another: give a number instead")
    return threshold, metrics.evaluate(validation.probabilities, validation.labels, threshold)


def _container(path: Path, comm: Comm | None) -> dict[str, Any] | None:
    from hpc_deepfake.audit import container_baseline

    watchdog.enter("reading the pictures' headers")
    return container_baseline(path, comm=comm)


def _overlap(part: str, same_file: bool | None) -> str | None:
    """A note if the model was trained, or may have been trained, with the help of this part."""
    overlap = {
        "validation": "this part also selected the epoch: figures of a fresh test part would be "
                      "slightly lower",
        "train": "the network was trained on these pictures: the figures don't show how it does on "
                 "others",
        "all": "the network was trained on most of these pictures: use --part test"}.get(part)
    if overlap is None or same_file is False:
        return None
    return f"({overlap})" if same_file else f"(if the model was trained on this file: {overlap})"


def _finish(options: Namespace, headline: str, note: str | None, material: Material,
            threshold: float, part: str, chosen_on: dict[str, Any] | None,
            container: dict[str, Any] | None) -> int:
    """Print and write all figures. Returns the exit code."""
    p, y = material.probabilities, material.labels
    evaluation = {**metrics.evaluate(p, y, threshold), "part": part, "threshold": threshold,
                  "chosen_on": chosen_on, "container": container,
                  "groups": len(set(material.groups.tolist())),
                  "intervals": intervals.bootstrap(p, y, material.groups, threshold),
                  "calibration": {"error": calibration.expected_calibration_error(p, y),
                                  "brier": calibration.brier(p, y),
                                  "reliability": calibration.reliability(p, y)},
                  "by": breakdown.all_of(material, threshold)}
    print(headline)
    for line in (note, protocol.warning(material.paths, y.tolist())):
        if line:
            print(line)
    print(text.lines(evaluation), flush=True)
    if options.json is not None:
        _write("--json", options.json, lambda: write_json(options.json, evaluation))
    if options.plots is not None:
        path = options.plots / f"{part}.png"
        _write("--plots", path, lambda: plots.save(path, p, y, threshold, headline.rstrip(":")))
    return 0


def _check_outputs(options: Namespace) -> None:
    """Check the file of the figures and create the folder of the plots, before anything is
    computed."""
    network = model.find(options.model)
    check_file("--json", options.json, "JSON", (
        network, *(network.with_name(name) for name in ("model.json", "config.json",
                                                        "summary.json", "environment.json")),
        _data(options), Path(f"{_data(options)}.json")))
    if options.plots is not None:
        _write("--plots", options.plots, lambda: options.plots.mkdir(parents=True, exist_ok=True))


def _write(option: str, path: Path, write: Callable[[], None]) -> None:
    try:
        write()
    except OSError as error:
        raise InputError(f"cannot write {option} {path}: {error.strerror}; choose another place"
                         ) from None
