"""``hpc-deepfake evaluate``: how good a trained model is on a data file or a folder."""

from __future__ import annotations

import argparse
import json
import os
import sys
from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hpc_deepfake import metrics
from hpc_deepfake.core.errors import EXIT_USAGE, InputError
from hpc_deepfake.core.options import Parser, between, default_data
from hpc_deepfake.core.text import printable
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
from preprocessing.catalogue import scan
from preprocessing.ela import FEATURES

__all__ = ["main", "parser", "probabilities"]

_EXAMPLES = """examples:
  hpc-deepfake evaluate --model runs/first --data casia2.h5 --part test
  hpc-deepfake evaluate --model runs/first --data casia2.h5 --threshold auto --plots plots
  hpc-deepfake evaluate --model runs/first --data other/pictures --json result.json

exit codes: 0 done; 2 wrong usage or input, or pictures that could not be read (all others count)"""
_AUTO = "auto"


def parser() -> Parser:
    """The command line."""
    cli = Parser(prog="hpc-deepfake evaluate", epilog=_EXAMPLES, description=(
        "Evaluate a trained model on a part of a data file, or on a folder of pictures in two "
        "classes."))
    cli.add_argument("--model", type=Path, metavar="RUN", help="run directory or .keras file")
    cli.add_argument("--data", type=Path, metavar="PATH",
                     help="data file, or folder as in preprocessing (default: features.h5 in "
                          "$HPC_DEEPFAKE_DATA or data)")
    cli.add_argument("--part", choices=("validation", "test", "train", "all"),
                     help="which part of the file (default: validation; test with --threshold "
                          "auto)")
    cli.add_argument("--threshold", type=_threshold, metavar="P",
                     help="probability from which a picture is called tampered, or auto: the best "
                          "one on the validation part, tried on the test part (default: the "
                          "model's, 0.5)")
    cli.add_argument("--no-container", action="store_true",
                     help="don't read the picture files' headers for the baseline that they give")
    cli.add_argument("--json", type=Path, metavar="FILE", help="write the figures there too")
    cli.add_argument("--plots", type=Path, metavar="DIR",
                     help="draw ROC, precision over recall and reliability there")
    cli.add_argument("--device", choices=("auto", "cpu", "gpu"), default="auto", help="as in train")
    return cli


def _threshold(text: str) -> float | str:
    if text == _AUTO:
        return text
    try:
        return between(0, 1)(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"must be auto or a number from 0 to 1, not {text}"
                                         ) from None


def main(argv: Sequence[str] | None = None) -> int:
    """Returns the exit code."""
    options = parser().parse(argv)
    if options.model is None:
        raise InputError("name the model: --model RUN, a run directory or a .keras file")
    card = model.read_card(options.model)
    options.data = options.data or default_data() / "features.h5"
    _check_outputs(options)
    return (_folder if options.data.is_dir() else _file)(options, card)


def _file(options: Namespace, card: model.Card) -> int:
    auto = options.threshold == _AUTO
    part = options.part or ("test" if auto else "validation")
    data = open_file(options.data, card)
    if auto:
        _check_auto(part, data)
    rows = rows_of(data, part)
    network = _network(options)
    threshold, chosen_on = options.threshold, None
    if auto:
        threshold, chosen_on = _choose(of_rows(network, data, rows_of(data, "validation")))
    material = of_rows(network, data, rows)
    container = None if options.no_container else _container(options.data)
    headline = (f"{model.find(options.model)} on the {part} part of {data.header.path}, "
                f"{len(rows):,} images, {card.feature}:")
    note = _seen(part, trained_on(options.model, options.data))
    return _finish(options, headline, note, material,
                   card.threshold if threshold is None else threshold, part, chosen_on, container)


def _folder(options: Namespace, card: model.Card) -> int:
    if options.threshold == _AUTO:
        raise InputError(f"--threshold auto needs a validation and a test part, and {options.data} "
                         "is a folder: run preprocessing on it with --split 70/10/20, and give "
                         "its file with --data")
    if options.part not in (None, "all"):
        raise InputError(f"{options.data} is a folder and has no {options.part} part: leave out "
                         "--part, or run preprocessing on it and give its file with --data")
    if card.feature not in FEATURES:
        raise InputError(f"{options.model} was trained on the feature '{card.feature}', and "
                         f"pictures can be turned into {', '.join(FEATURES)} only")
    catalogue = scan(options.data)
    for note in catalogue.notes:
        print(f"note: {note}", flush=True)
    material, bad = of_folder(_network(options), card, catalogue)
    headline = (f"{model.find(options.model)} on all of {options.data}, {len(material):,} images, "
                f"{card.feature}:")
    threshold = card.threshold if options.threshold is None else options.threshold
    _finish(options, headline, None, material, threshold, "all", None, None)
    for path, reason in bad[:3]:
        print(f"not read: {printable(os.fsdecode(path))}: {reason}", file=sys.stderr)
    if bad:
        print(f"{len(bad)} of {len(catalogue)} pictures could not be read", file=sys.stderr)
    return EXIT_USAGE if bad else 0


def _network(options: Namespace) -> Any:
    from hpc_deepfake.network.device import start

    start(options.device)
    return model.load(options.model)


def _check_auto(part: str, data: Any) -> None:
    """A threshold is tried on pictures that did not choose it, or not at all."""
    if part != "test":
        raise InputError(f"--threshold auto is chosen on the validation part and tried on the test "
                         f"part only, not on --part {part}: leave out --part")
    if not len(data.rows("test")):
        raise InputError(f"{data.header.path} has no test part to try a threshold on: it was split "
                         f"{data.header.attributes['split']}. Run preprocessing with --split "
                         "70/10/20 and another --out, train on that file, and evaluate there")


def _choose(validation: Material) -> tuple[float, dict[str, Any]]:
    """The best threshold of the validation part, and its figures there."""
    threshold = curves.youden(validation.probabilities, validation.labels)
    if threshold is None:
        raise InputError("--threshold auto: the validation part has pictures of one class only, "
                         "so no threshold is better than another; give a number")
    return threshold, metrics.evaluate(validation.probabilities, validation.labels, threshold)


def _container(path: Path) -> dict[str, Any] | None:
    from hpc_deepfake.audit import container_baseline

    return container_baseline(path)


def _seen(part: str, same: bool | None) -> str | None:
    """What the model had to do with these pictures before."""
    what = {"validation": "this part also chose the epoch: a fresh test part would score a little "
                          "lower",
            "train": "the network was trained on these very pictures: figures of this part are no "
                     "measure of how it does on others",
            "all": "the network was trained on most of these pictures: take --part test"}.get(part)
    if what is None or same is False:
        return None
    return f"({what})" if same else f"(if the model was trained on this file: {what})"


def _finish(options: Namespace, headline: str, note: str | None, material: Material,
            threshold: float, part: str, chosen_on: dict[str, Any] | None,
            container: dict[str, Any] | None) -> int:
    """Print and write all figures."""
    p, y = material.probabilities, material.labels
    found = {**metrics.evaluate(p, y, threshold), "part": part, "threshold": threshold,
             "chosen_on": chosen_on, "container": container,
             "groups": len(set(material.groups.tolist())),
             "intervals": intervals.bootstrap(p, y, material.groups, threshold),
             "calibration": {"error": calibration.expected_calibration_error(p, y),
                             "brier": calibration.brier(p, y),
                             "reliability": calibration.reliability(p, y)},
             "by": breakdown.all_of(material, threshold)}
    print(headline)
    for line in (note, protocol.warning(material.paths, y)):
        if line:
            print(line)
    print(text.lines(found), flush=True)
    if options.json is not None:
        _write("--json", options.json, lambda: options.json.write_text(
            json.dumps(found, indent=2) + "\n", encoding="utf-8"))
    if options.plots is not None:
        path = options.plots / f"{part}.png"
        _write("--plots", path, lambda: plots.save(path, p, y, threshold, headline.rstrip(":")))
    return 0


def _check_outputs(options: Namespace) -> None:
    """Before anything is computed."""
    if options.plots is not None:
        _write("--plots", options.plots, lambda: options.plots.mkdir(parents=True, exist_ok=True))


def _write(option: str, path: Path, write: Any) -> None:
    try:
        write()
    except OSError as error:
        raise InputError(f"cannot write {option} {path}: {error.strerror}") from None
