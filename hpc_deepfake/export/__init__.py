"""``hpc-deepfake export``: a trained model for TensorFlow, TensorFlow Lite or ONNX Runtime."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from hpc_deepfake.core.errors import InputError
from hpc_deepfake.core.files import new_folder
from hpc_deepfake.core.log import log
from hpc_deepfake.core.options import Parser, add_calibration
from hpc_deepfake.core.streams import work_matters

if TYPE_CHECKING:
    from hpc_deepfake.network.card import Card

TARGETS = ("savedmodel", "tflite", "onnx")
_EXAMPLES = """examples:
  hpc-deepfake export --model runs/first --to onnx
  hpc-deepfake export --model runs/first --to tflite --out app/assets/detector
  hpc-deepfake export --model runs/first --to savedmodel --calibration off
  python runs/first/exported/onnx/predict.py photo.jpg

exit codes: 0 done; 2 invalid options or input, a package is missing, or the exported model computes
            other probabilities; nothing is written then"""


def parser() -> Parser:
    """The command line."""
    cli = Parser(prog="hpc-deepfake export", epilog=_EXAMPLES, description=(
        "Write a trained model for another runtime, with everything needed to use it there: the\n"
        "preparation of pictures step by step, thresholds and caveats, and a program to copy from\n"
        "that needs nothing of hpc_deepfake. The written model is run and compared with the\n"
        "original."))
    cli.add_argument("--model", type=Path, metavar="RUN",
                     help="run directory of the trained model, the folder of an ensemble, or a "
                          ".keras file (required)")
    cli.add_argument("--to", choices=TARGETS,
                     help="savedmodel: TensorFlow and TensorFlow Serving; tflite: TensorFlow Lite, "
                          "now LiteRT, for phones and small devices; onnx: ONNX Runtime and "
                          "everything else that reads ONNX (required)")
    cli.add_argument("--out", type=Path, metavar="DIR",
                     help="folder to make (default: exported/RUNTIME beside the model)")
    add_calibration(cli)
    return cli


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command. Returns the exit code."""
    work_matters()
    options = parser().parse(argv)
    card, out = _check(options)

    from hpc_deepfake.export import folder
    from hpc_deepfake.network import device, model

    device.start("cpu")
    network = model.load(options.model)
    with new_folder(out) as place:
        made = folder.write(place, options.to, network, card, model.find(options.model))
    for line in made.lines(out):
        print(line)
    for caveat in made.caveats:
        log.warning("note: %s", caveat)
    return 0


def _check(options: Namespace) -> tuple[Card, Path]:
    """The card in use and the folder to make, before TensorFlow is loaded."""
    from hpc_deepfake.export.runtimes import RUNTIMES
    from hpc_deepfake.network import decision, ensemble, model

    if options.model is None:
        raise InputError("name the model: --model RUN, a run directory or a .keras file")
    if options.to is None:
        raise InputError(f"name the runtime: --to {', '.join(TARGETS)}")
    file = model.find(options.model)
    ensemble.check_calibration(options.model, options.calibration)
    card = decision.in_use(model.card_for_pictures(options.model), None, options.calibration)
    if card.parameters.crop is not None:
        raise InputError(f"{options.model} was trained on {card.parameters.crop} cut out of "
                         "pictures (--crop), which the exported program could not find: use "
                         "hpc-deepfake predict or hpc_deepfake.load instead")
    RUNTIMES[options.to].require_writers()
    out = options.out or file.parent / "exported" / options.to
    if out.exists() and not (out.is_dir() and not any(out.iterdir())):
        raise InputError(f"{out} is there already, and isn't overwritten: delete it, or choose "
                         "another place with --out")
    return card, out
