"""``hpc-deepfake evaluate``: how good a trained model is on a part of a data file."""

from __future__ import annotations

import json
from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from hpc_deepfake import metrics, model
from hpc_deepfake.data import DataFile, open_data
from preprocessing.cli import Parser, default_data
from preprocessing.errors import InputError

_EXAMPLES = """examples:
  hpc-deepfake evaluate --model runs/first --data casia2.h5
  hpc-deepfake evaluate --model runs/first --data casia1.h5 --part all --json result.json"""
BATCH = 64


def parser() -> Parser:
    """The command line."""
    cli = Parser(prog="hpc-deepfake evaluate", epilog=_EXAMPLES,
                 description="Evaluate a trained model on a part of a data file.")
    cli.add_argument("--model", type=Path, metavar="RUN", help="run directory or .keras file")
    cli.add_argument("--data", type=Path, metavar="FILE",
                     help="data file (default: features.h5 in $HPC_DEEPFAKE_DATA or data)")
    cli.add_argument("--part", choices=("validation", "test", "train", "all"),
                     default="validation", help="which part of the file")
    cli.add_argument("--json", type=Path, metavar="FILE", help="write the figures there too")
    cli.add_argument("--device", choices=("auto", "cpu", "gpu"), default="auto", help="as in train")
    return cli


def main(argv: Sequence[str] | None = None) -> int:
    """Returns the exit code."""
    options = parser().parse(argv)
    if options.model is None:
        raise InputError("name the model: --model RUN, a run directory or a .keras file")
    card = model.read_card(options.model)
    data = open_data(options.data or default_data() / "features.h5", card.feature)
    rows = _check(options, card, data)

    from hpc_deepfake.device import start

    start(options.device)
    network = model.load(options.model)
    found = metrics.evaluate(probabilities(network, data, rows), data.labels[rows],
                             card.threshold)
    print(f"{model.find(options.model)} on the {options.part} part of {data.header.path}, "
          f"{len(rows):,} images, {card.feature}:")
    print(metrics.table(found))
    if options.json is not None:
        try:
            options.json.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
        except OSError as error:
            raise InputError(f"cannot write --json {options.json}: {error.strerror}") from None
    return 0


def _check(options: Namespace, card: model.Card, data: DataFile) -> np.ndarray:
    if card.parameters != data.header.parameters:
        raise InputError(f"the model was trained with ELA parameters {card.parameters.as_dict()}, "
                         f"{data.header.path} has {data.header.parameters.as_dict()}")
    rows = data.rows(options.part)
    if not len(rows):
        raise InputError(f"{data.header.path} has no {options.part} part: it was split "
                         f"{data.header.attributes['split']}; take another --part")
    return rows


def probabilities(network: object, data: DataFile, rows: np.ndarray) -> np.ndarray:
    """Of "tampered" for rows of a data file, float32 (n)."""
    scores = [network.predict_on_batch(data.batch(rows[start:start + BATCH])[0])[:, 1]
              for start in range(0, len(rows), BATCH)]
    return np.concatenate(scores)
