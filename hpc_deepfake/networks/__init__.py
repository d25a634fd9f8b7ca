"""``hpc-deepfake networks``: the networks that ``train`` knows, and what they cost."""

from __future__ import annotations

import gc
import json
from argparse import Namespace
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from hpc_deepfake.core.errors import InputError
from hpc_deepfake.core.log import log
from hpc_deepfake.core.options import MOST_THREADS, Parser, at_least
from hpc_deepfake.core.quiet import quiet_stderr
from hpc_deepfake.core.text import count, number, plural
from hpc_deepfake.network import registry
from preprocessing.ela import SIZE, SIZES

if TYPE_CHECKING:
    from hpc_deepfake.network.device import Device

_EXAMPLES = """examples:
  hpc-deepfake networks
  hpc-deepfake networks --size 256 meso4 resnet50
  hpc-deepfake networks --measure --batch-size 16 --threads 1 table resnet50
  hpc-deepfake networks mine.py:build trained.keras
  hpc-deepfake networks --json > networks.json

exit codes: 0 done; 2 wrong usage, or a network that can't be trained; the message says why"""
_ROW = "{:<20} {:>11} {:>8} {:>9} {:>9}".format
_SPEEDS = " {:>9} {:>9}".format


def parser() -> Parser:
    """The command line."""
    cli = Parser(prog="hpc-deepfake networks", epilog=_EXAMPLES, description=(
        "List the networks that train --network knows, with what they cost, or check networks of\n"
        "your own. A function gets the shape of its input (size, size, 3), values 0 to 255, and\n"
        "returns a Keras model with two outputs: authentic, tampered."))
    cli.add_argument("networks", nargs="*", type=registry.checked, metavar="NETWORK",
                     help=f"{', '.join(registry.NAMES)}, FILE.py:FUNCTION or FILE.keras (default: "
                          "all names)")
    cli.add_argument("--size", type=at_least(*SIZES), default=SIZE, metavar="S",
                     help="width and height of the pictures, as of preprocess --size")
    cli.add_argument("--batch-size", type=at_least(1), default=32, metavar="N",
                     help="pictures of a training step, for memory and speed")
    cli.add_argument("--measure", action="store_true",
                     help="measure the pictures per second of training and of prediction on this "
                          "machine, with one process; takes some seconds to a minute each")
    cli.add_argument("--device", choices=("auto", "cpu", "gpu"), default="auto",
                     help="where to measure; auto: a GPU if there is one")
    cli.add_argument("--threads", type=at_least(0, MOST_THREADS), default=0, metavar="N",
                     help="CPU threads to measure with; 0: all cores")
    cli.add_argument("--json", action="store_true", help="print JSON")
    return cli


def main(argv: Sequence[str] | None = None) -> int:
    """Returns the exit code."""
    options = parser().parse(argv)

    from hpc_deepfake.network import device as devices

    with quiet_stderr():
        device = devices.start(options.device if options.measure else "cpu",
                               threads=options.threads)
    rows = _rows(options, device)
    if options.json:
        print(json.dumps(list(rows), indent=2))
        return 0
    print(_ROW("network", "parameters", "GFLOP", "weights", "memory")
          + (_SPEEDS("train/s", "predict/s") if options.measure else "") + "  source", flush=True)
    for row in rows:
        print(_line(row, options.measure), flush=True)
    print(_legend(options, device))
    return 0


def _rows(options: Namespace, device: Device) -> Iterator[dict[str, Any]]:
    """The networks one by one, as in the JSON."""
    from hpc_deepfake.networks.cost import cost
    from hpc_deepfake.networks.speed import images_per_s

    for spec in options.networks or registry.NAMES:
        row: dict[str, Any] = {"network": registry.title(spec), "source": registry.source(spec),
                               "size": options.size}
        try:
            model = registry.build(spec, options.size)
        except InputError as error:
            if options.networks:
                raise
            log.warning("%s", error)  # one of all names, which needs larger pictures
            continue
        figures = cost(model)
        yield row | {
            **figures._asdict(), "batch_size": options.batch_size,
            "training_bytes": figures.training_bytes(options.batch_size),
            "images_per_s": {**images_per_s(spec, model, options.batch_size),
                             "device": device.name, "threads": device.threads}
            if options.measure else None}
        del model
        gc.collect()  # its memory, which the next one's may need


def _line(row: dict[str, Any], measured: bool) -> str:
    """A network as a line of the table."""
    figures = _ROW(row["network"], count(row["parameters"]), number(row["flop"] / 1e9),
                   _megabytes(row["weights_bytes"]), _megabytes(row["training_bytes"]))
    speed = row["images_per_s"] or {}
    return figures + (_SPEEDS(*(number(speed[name], ",.1f") for name in ("train", "predict")))
                      if measured else "") + f"  {row['source']}"


def _megabytes(size: int) -> str:
    return number(size / 1e6, ",.2f" if size < 1e6 else ",.1f" if size < 1e8 else ",.0f") + " MB"


def _legend(options: Namespace, device: Device) -> str:
    """What the columns mean."""
    batch = plural(options.batch_size, "picture")
    lines = [f"GFLOP: 10⁹ operations of the forward pass of one picture of {options.size} × "
             f"{options.size} pixels; a training",
             "  step takes about three times as many. Weights in float32. Memory of a step of "
             "training",
             f"  with Adam and {batch}, estimated."]
    if options.measure:
        lines.append(f"Pictures per second of train and predict: batches of {batch}, "
                     f"{plural(device.threads, 'thread')}, {device.name}.")
    return "\n".join(lines)
