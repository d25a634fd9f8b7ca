"""``hpc-deepfake predict``: which of these pictures were tampered with?"""

from __future__ import annotations

import csv
import json
import os
import sys
from argparse import Namespace
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, TextIO

import numpy as np

from hpc_deepfake import model
from preprocessing.catalogue import EXTENSIONS, LABELS
from preprocessing.cli import Parser
from preprocessing.ela import FEATURES, features_of_file
from preprocessing.errors import EXIT_USAGE, InputError
from preprocessing.picture import Rejected

_EXAMPLES = """examples:
  hpc-deepfake predict --model runs/first photo.jpg
  hpc-deepfake predict --model runs/first --format csv folder/ > verdicts.csv

exit codes: 0 done; 2 wrong usage, or a picture could not be read"""
BATCH = 32


def parser() -> Parser:
    """The command line."""
    cli = Parser(prog="hpc-deepfake predict", epilog=_EXAMPLES, description=(
        "Give each picture's probability of having been tampered with. The picture is prepared "
        "as the model's training data were."))
    cli.add_argument("pictures", nargs="+", metavar="PATH", help="picture files, or folders")
    cli.add_argument("--model", type=Path, metavar="RUN", help="run directory or .keras file")
    cli.add_argument("--format", choices=("table", "csv", "json"), default="table",
                     help="of the output; json is one object a line")
    cli.add_argument("--device", choices=("auto", "cpu", "gpu"), default="auto", help="as in train")
    return cli


def main(argv: Sequence[str] | None = None) -> int:
    """Returns the exit code."""
    options = parser().parse(argv)
    if options.model is None:
        raise InputError("name the model: --model RUN, a run directory or a .keras file")
    card = model.read_card(options.model)
    if card.feature not in FEATURES:
        raise InputError(f"{options.model} was trained on the feature '{card.feature}', and "
                         f"pictures can be turned into {', '.join(FEATURES)} only")
    paths = list(find(options.pictures))
    if not paths:
        raise InputError("no pictures in " + ", ".join(options.pictures))

    from hpc_deepfake.device import start

    start(options.device)
    network = model.load(options.model)
    return _predict(options, card, network, paths)


def _predict(options: Namespace, card: model.Card, network: Any, paths: list[bytes]) -> int:
    write = _WRITERS[options.format](sys.stdout)
    rejected = 0
    for begin in range(0, len(paths), BATCH):
        results = probabilities(network, card, paths[begin:begin + BATCH])
        for path, result in zip(paths[begin:begin + BATCH], results, strict=True):
            name = os.fsdecode(path).encode(errors="backslashreplace").decode()
            if isinstance(result, Rejected):
                rejected += 1
                write(name, None, f"not read: {result}")
            else:
                write(name, result, LABELS[int(result >= card.threshold)])
    sys.stdout.flush()
    if rejected:
        print(f"{rejected} of {len(paths)} pictures could not be read", file=sys.stderr)
    return EXIT_USAGE if rejected else 0


def find(paths: Sequence[str]) -> Iterator[bytes]:
    """Files as given; of folders all pictures below them, sorted.

    Raises:
        InputError: there is no such file or folder.
    """
    for path in paths:
        if os.path.isdir(path):
            for here, folders, files in os.walk(os.fsencode(path)):
                folders.sort()
                for name in sorted(files):
                    if not name.startswith(b".") and name.lower().endswith(EXTENSIONS):
                        yield os.path.join(here, name)
        elif os.path.exists(path):
            yield os.fsencode(path)
        else:
            raise InputError(f"there is no picture or folder '{path}'")


def probabilities(network: Any, card: model.Card,
                  paths: Sequence[bytes | str]) -> list[float | Rejected]:
    """Probability of "tampered" of each file, or why it can't be used."""
    results: list[float | Rejected] = []
    pictures = []
    for path in paths:
        try:
            pictures += features_of_file(path, (card.feature,), card.parameters)
            results.append(0.0)
        except Rejected as reason:
            results.append(reason)
    if pictures:
        scores = iter(network.predict_on_batch(np.stack(pictures))[:, 1].tolist())
        results = [one if isinstance(one, Rejected) else next(scores) for one in results]
    return results


def _table(out: TextIO) -> Any:
    print("tampered  verdict    picture", file=out)

    def write(name: str, probability: float | None, verdict: str) -> None:
        score = "–" if probability is None else f"{probability:.1%}"
        # a name may hold line ends and the terminal's own commands
        shown = "".join(one if one.isprintable() else one.encode("unicode_escape").decode()
                        for one in name)
        print(f"{score:>8}  {verdict:<9}  {shown}", file=out)

    return write


def _csv(out: TextIO) -> Any:
    writer = csv.writer(out)
    writer.writerow(("path", "probability", "verdict"))

    def write(name: str, probability: float | None, verdict: str) -> None:
        writer.writerow((name, "" if probability is None else f"{probability:.6f}", verdict))

    return write


def _json(out: TextIO) -> Any:
    def write(name: str, probability: float | None, verdict: str) -> None:
        print(json.dumps({"path": name, "probability": probability, "verdict": verdict}),
              file=out)

    return write


_WRITERS = {"table": _table, "csv": _csv, "json": _json}
