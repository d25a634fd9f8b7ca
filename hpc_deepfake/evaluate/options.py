"""The command line of ``hpc-deepfake evaluate``, and where its pictures and output are."""

from __future__ import annotations

import os
from argparse import Namespace
from collections.abc import Callable
from pathlib import Path

from hpc_deepfake.core.errors import InputError
from hpc_deepfake.core.options import (
    Parser,
    add_calibration,
    add_deterministic,
    default_data,
)
from hpc_deepfake.core.outputs import check_file
from hpc_deepfake.evaluate import thresholds
from hpc_deepfake.network import ensemble, model
from preprocessing import perturb
from preprocessing.listing import options as listing

_EXAMPLES = """examples:
  hpc-deepfake evaluate --model runs/first --data casia2.h5 --part test
  hpc-deepfake evaluate --model runs/first --data casia2.h5 --threshold auto --plots plots
  hpc-deepfake evaluate --model runs/first --data other/pictures --json result.json
  hpc-deepfake evaluate --model runs/first --authentic archive/ --threshold fpr=0.05
  hpc-deepfake evaluate --model runs/first --manifest other/list.csv --part test
  hpc-deepfake evaluate --model runs/first --data casia2.h5 --threshold fnr=0.05,fpr=0.05 \\
      --save-threshold
  hpc-deepfake evaluate --model runs/first --data casia2.h5 --part test --plots plots \\
      --perturb jpeg=95,90,75,50 resize=0.5,0.75,1.5 blur=1,2 noise=3 crop=0.8 screenshot \\
      resize=0.5+jpeg=80
  mpirun -np 4 hpc-deepfake evaluate --model runs/first --data casia2.h5 --part test

exit codes: 0 done; 2 invalid options or input, or some pictures could not be read (the figures are
            those of all others)"""


def parser() -> Parser:
    """The command line."""
    cli = Parser(prog="hpc-deepfake evaluate", epilog=_EXAMPLES, description=(
        "Evaluate a trained model on a part of a data file, on a folder of pictures in two\n"
        "classes, or on authentic pictures alone: accuracy and other metrics beside baselines,\n"
        "false alarms, thresholds, calibration, and breakdowns by file format and kind of\n"
        "tampering. Under mpirun the ranks share the work."))
    cli.add_argument("--model", type=Path, metavar="RUN",
                     help="run directory of the trained model, the folder of an ensemble, or a "
                          ".keras file (required)")
    cli.add_argument("--data", type=Path, metavar="PATH",
                     help="data file, or a folder of pictures laid out as for preprocessing "
                          "(default: features.h5 in $HPC_DEEPFAKE_DATA, or in data/ if unset)")
    cli.add_argument("--authentic", type=Path, metavar="DIR",
                     help="folder of authentic pictures, instead of --data; alone, it tells how "
                          "many of them are called tampered at which threshold")
    cli.add_argument("--tampered", type=Path, metavar="DIR",
                     help="folder of tampered pictures, with --authentic or alone")
    listing.add(cli)
    cli.add_argument("--part", choices=("validation", "test", "train", "all"),
                     help="part to evaluate (default: of a data file validation, or test where a "
                          "threshold is chosen; of a folder all; its author's split has parts too)")
    cli.add_argument("--threshold", type=thresholds.parse, metavar="RULE[,RULE]",
                     help="probability from which a picture is predicted tampered: a number from 0 "
                          "to 1; or auto (best balanced accuracy), fpr=RATE or fnr=RATE (at most "
                          "this rate of false positives or negatives), chosen on the validation "
                          "part and evaluated on the test part, or on two halves of a folder. Two, "
                          "LOW,HIGH: pictures in between are undecided (default: the model's)")
    cli.add_argument("--save-threshold", action="store_true",
                     help="store the thresholds with the model, for predict and evaluate")
    add_calibration(cli)
    cli.add_argument("--perturb", nargs="+", type=perturb.parse, metavar="NAME[=LEVEL,…]",
                     help="also evaluate the pictures after each of these operations, to see what "
                          "the model still tells: jpeg=QUALITY (saved again), resize=FACTOR, "
                          "blur=DEVIATION and noise=DEVIATION (Gaussian), crop=SHARE of each side, "
                          "screenshot; joined by + they are done one after another")
    cli.add_argument("--pictures", type=Path, metavar="DIR",
                     help="folder of the data file's pictures, for --perturb (default: the one "
                          "that preprocessing read, recorded beside the data file)")
    cli.add_argument("--no-container", action="store_true",
                     help="skip the container baseline, which reads the headers of the picture "
                          "files")
    cli.add_argument("--json", type=Path, metavar="FILE",
                     help="also write all figures to FILE")
    cli.add_argument("--plots", type=Path, metavar="DIR",
                     help="write DIR/PART.png with ROC curve, precision over recall and "
                          "reliability diagram; of a model that says where pictures were changed "
                          "also DIR/PART-where.png, with --perturb DIR/PART-perturbed.png")
    cli.add_argument("--device", choices=("auto", "cpu", "gpu"), default="auto",
                     help="device to run the network on; auto takes a GPU if there is one")
    add_deterministic(cli)
    return cli


def data_of(options: Namespace) -> Path:
    """The data file or folder; with ``--authentic`` or ``--tampered`` it isn't used."""
    path: Path = options.data or default_data() / "features.h5"
    return path


def is_folder(options: Namespace) -> bool:
    """Whether pictures are evaluated, rather than a data file."""
    return bool(options.authentic or options.tampered or options.manifest) \
        or os.path.isdir(data_of(options))


def folder_name(options: Namespace) -> str:
    """The folder or folders of pictures, for messages."""
    names = [f"{getattr(options, label)} ({label})" for label in ("authentic", "tampered")
             if getattr(options, label)]
    return " and ".join(names) or str(options.manifest or data_of(options))


def check(options: Namespace) -> None:
    """Check what can be checked before anything is computed, and create the folder of the plots.

    Raises:
        InputError: options contradict each other, or an output can't be written.
    """
    if options.model is None:
        raise InputError("name the model: --model RUN, a run directory or a .keras file")
    if options.data and (options.authentic or options.tampered):
        raise InputError("give either --data, or --authentic and --tampered, not both")
    if options.pictures and not options.perturb:
        raise InputError("--pictures names the pictures that --perturb changes: add --perturb, "
                         "such as --perturb jpeg=95,90,75, or omit --pictures")
    if options.pictures and is_folder(options):
        raise InputError("--pictures names the pictures of a data file, and pictures are named "
                         "already: omit it")
    if options.pictures and not options.pictures.is_dir():
        raise InputError(f"there is no folder --pictures {options.pictures}: name the one that "
                         "preprocessing read")
    network = model.find(options.model)
    ensemble.check_calibration(options.model, options.calibration)
    if options.save_threshold:
        if options.threshold is None:
            raise InputError("--save-threshold needs a threshold: add --threshold auto, fpr=0.05, "
                             "a number, or two of them")
        thresholds.check_card(options.model)
    check_file("--json", options.json, "JSON", (
        network, *(network.with_name(name) for name in ("model.json", "config.json",
                                                        "summary.json", "environment.json")),
        data_of(options), Path(f"{data_of(options)}.json")))
    if options.plots is not None:
        write("--plots", options.plots, lambda: options.plots.mkdir(parents=True, exist_ok=True))


def write(option: str, path: Path, action: Callable[[], None]) -> None:
    """Call ``action``, which writes ``path``; its OSError becomes an InputError."""
    try:
        action()
    except OSError as error:
        raise InputError(f"cannot write {option} {path}: {error.strerror}; choose another place"
                         ) from None
