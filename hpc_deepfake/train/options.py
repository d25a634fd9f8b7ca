"""The command line of training."""

from __future__ import annotations

import argparse
from argparse import Namespace
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from hpc_deepfake import strategies
from hpc_deepfake.core.errors import InputError
from hpc_deepfake.core.options import (
    MOST_THREADS,
    Parser,
    above,
    add_deterministic,
    add_stall_limits,
    at_least,
    between,
    seed,
)
from hpc_deepfake.data import augment
from hpc_deepfake.network import freezing, registry
from hpc_deepfake.network.ensemble import MOST
from hpc_deepfake.network.settings import (
    CLASS_WEIGHTS,
    MONITORS,
    OPTIMIZERS,
    PRECISIONS,
    RATE_SCHEDULES,
    SCALINGS,
    Settings,
)
from hpc_deepfake.strategies.layout import Layout
from hpc_deepfake.strategies.mesh.schedule import SCHEDULES
from hpc_deepfake.strategies.mesh.shards import BLOCKS, LAYOUTS
from hpc_deepfake.train.recipes import RECIPES
from preprocessing import ela
from preprocessing.ela import SIZE, SIZES

_DESCRIPTION = """\
Train the network on a data file made by preprocessing. Started by itself, one process trains;
started by mpirun or srun, all ranks train one model together."""

_EXAMPLES = """\
examples:
  python -m hpc_deepfake.train --data casia2.h5
  mpirun -np 8 python -m hpc_deepfake.train --data casia2.h5 --run runs/first
  mpirun -np 8 python -m hpc_deepfake.train --data casia2.h5 --run runs/first --resume
  mpirun -np 4 python -m hpc_deepfake.train --data casia2.h5 --feature raw --device gpu
  mpirun -np 8 python -m hpc_deepfake.train --data casia2.h5 --run runs/first --tensorboard
  mpirun -np 8 python -m hpc_deepfake.train --data casia2.h5 --augment flip,rotate --patience 15
  mpirun -np 8 python -m hpc_deepfake.train --data casia2.h5 --recipe best --class-weight balanced
  mpirun -np 8 python -m hpc_deepfake.train --data casia2.h5 --optimizer adamw \\
      --rate-schedule cosine --warmup-steps 200 --ema 0.99
  mpirun -np 8 python -m hpc_deepfake.train --data /lustre/casia2.h5 --stage /tmp
  mpirun -np 8 python -m hpc_deepfake.train --data mine.h5 --init runs/casia2 --freeze 'conv*,bn*'
  mpirun -np 8 python -m hpc_deepfake.train --data casia2.h5 --seeds 5 --run runs/five
  mpirun -np 2 python -m hpc_deepfake.train --config run.toml --epochs 5
  mpirun -np 9 python -m hpc_deepfake.train --data casia2.h5 --strategy async --servers 1
  mpirun -np 8 python -m hpc_deepfake.train --data casia2.h5 --strategy local-sgd --sync-every 16
  mpirun -np 8 python -m hpc_deepfake.train --data casia2.h5 --strategy hybrid --shard-group 4
  mpirun -np 4 python -m hpc_deepfake.train --data casia2.h5 --mesh tensor=2,pipeline=2 \\
      --batch-size 16 --micro-batches 8

To stop a training early, send SIGTERM or SIGUSR1 to any rank: all ranks stop after the same step
and write a checkpoint.

exit codes: 0 done; 2 wrong usage or input; 3 diverged, needs other options; 75 stopped by a
signal, continue with --resume; any other code: a fault"""

_SCHEDULE = "1f1b"
_OF_ONE = ("timeline", "trace", "synthetic")  # options that one training can have
IN_RUN = Path()  # the value of --timeline and --tensorboard without a place


def check(options: Namespace, ranks: int) -> str:
    """The strategy's name, also where the options leave it to ``auto``.

    Raises:
        InputError: it can't train with these options on ``ranks`` ranks.
    """
    augment.check(options.augment, options.feature)
    if options.member is not None and not 0 <= options.member < options.seeds:
        raise InputError(f"--member {options.member}: the members are 0 to {options.seeds - 1}, by "
                         f"--seeds {options.seeds}; give one of them", everywhere=True)
    for name in _OF_ONE if options.seeds > 1 else ():
        if getattr(options, name):
            raise InputError(f"--{name} is for one training, and --seeds {options.seeds} makes "
                             "several: leave one of the two out", everywhere=True)
    settings = Settings.of(options)
    settings.check(options.epochs, options.patience)
    return strategies.choose(options.strategy, ranks, settings, Layout.of(options))


class _Training(Parser):
    """The command line, on which one option may stand for others: what is parsed has the values of
    these; ``recipe`` only says where they come from."""

    def parse(self, argv: Sequence[str] | None = None) -> Namespace:
        options = super().parse(argv)
        if options.recipe is not None:
            with self.defaults(RECIPES[options.recipe]):
                options = super().parse(argv)  # again: its file and the command line win
        if options.network == "table" and options.dropout is None:
            options.dropout = Settings.dropout
        if options.schedule in RATE_SCHEDULES:
            if options.rate_schedule not in (options.schedule, self.get_default("rate_schedule")):
                self.error(f"--schedule {options.schedule} and --rate-schedule "
                           f"{options.rate_schedule} contradict each other: leave one of them out")
            options.rate_schedule, options.schedule = options.schedule, _SCHEDULE
        return options


def parser() -> Parser:
    """The command line."""
    cli = _Training(prog="python -m hpc_deepfake.train", description=_DESCRIPTION, epilog=_EXAMPLES)
    _add_files(cli)
    _add_network(cli)
    _add_training(cli)
    _add_optimizer(cli)
    _add_parallelism(cli)
    _add_device(cli)
    _add_checkpoints(cli)
    _add_studies(cli)
    return cli


def _add_files(cli: Parser) -> None:
    files = cli.add_argument_group("input and output")
    files.add_argument("--data", type=Path, metavar="FILE",
                       help="data file (default: features.h5 in $HPC_DEEPFAKE_DATA, or in data)")
    files.add_argument("--feature", type=ela.feature, default="ela", metavar="NAME",
                       help="feature of the data file to train on; several are stacked, as "
                            "channels, by ela+raw")
    files.add_argument("--rows", type=at_least(0), default=0, metavar="N",
                       help="train on only N of the training rows, chosen by --seed; 0: on all")
    files.add_argument("--input", choices=("auto", "mmap", "read", "memory"), default="auto",
                       help="how to read the data file: map it, read rows as needed, or load it "
                            "into memory; auto: depends on its file system")
    files.add_argument("--stage", type=Path, metavar="DIR",
                       help="copy the data file to this folder on each node's local disk first, "
                            "and read the copy; one in memory (/dev/shm) is removed at the end")
    files.add_argument("--run", type=Path, metavar="DIR",
                       help="run directory: checkpoints, metrics, model, report (default: "
                            "runs/JOB_ID under a scheduler, otherwise runs/TIME)")
    files.add_argument("--resume", action="store_true",
                       help="continue from the newest checkpoint in the run directory; without "
                            "one, start from the beginning")
    files.add_argument("--no-report", action="store_true", help="do not write report.html")


def _add_network(cli: Parser) -> None:
    network = cli.add_argument_group("network")
    network.add_argument("--network", type=registry.checked, default="table", metavar="NAME|FILE",
                         help="the network: a name that hpc-deepfake networks lists, "
                              "FILE.py:FUNCTION (a function that returns a Keras model), or "
                              "FILE.keras")
    network.add_argument("--init", type=Path, metavar="RUN|FILE",
                         help="start from the weights of a run, a .keras file or Keras' HDF5 "
                              "weights: of layers with the same name and shapes; which is said")
    network.add_argument("--freeze", type=freezing.canonical, default="", metavar="PATTERNS",
                         help="don't train the layers with names like these, such as conv*,bn1")


def _add_training(cli: Parser) -> None:
    training = cli.add_argument_group("training")
    training.add_argument("--recipe", choices=tuple(RECIPES),
                          help="values for options that aren't given: original: the defaults; "
                               f"best: {_words(RECIPES['best'])}, which docs/augment.md compares; "
                               f"where: {_words(RECIPES['where'])}, for data with masks "
                               "(docs/where.md)")
    training.add_argument("--epochs", type=at_least(1), default=30, metavar="N",
                          help="maximum number of epochs")
    training.add_argument("--patience", type=at_least(0), default=5, metavar="N",
                          help="early stopping: epochs without improvement; 0: no early stopping")
    training.add_argument("--monitor", choices=MONITORS,
                          default="val_loss", help="metric that selects the best epoch; "
                               "val_pixel_… is of where pictures were changed")
    training.add_argument("--batch-size", type=at_least(1), default=32, metavar="N",
                          help="rows per rank and micro-batch; the global batch is N × ranks (of "
                               "a mesh: data shares) × micro-batches")
    training.add_argument("--accumulate", "--micro-batches", type=at_least(1, 1 << 16), default=1,
                          metavar="M",
                          help="micro-batches per optimizer step, whose gradients are added up; "
                               "with a pipeline, use several per stage")
    training.add_argument("--dropout", type=between(0, 0.99), metavar="P",
                          help="rate of the network's dropout layers; 0: none (default: as the "
                               "network has them; table: 0.5)")
    training.add_argument("--label-smoothing", type=between(0, 0.99), default=0.0, metavar="A",
                          help="share of each row's target that is spread evenly over the classes")
    training.add_argument("--class-weight", choices=CLASS_WEIGHTS, default="none",
                          help="balanced: rows count by the inverse of the number of training rows "
                               "of their class")
    training.add_argument("--ema", type=between(0, 0.999999), default=0.0, metavar="D",
                          help="evaluate and keep weights averaged over the steps, in which each "
                               "step counts D times the next one, such as 0.99; 0: the weights as "
                               "they are")
    training.add_argument("--sync-bn", action="store_true",
                          help="batch normalisation over the micro-batch of all ranks instead of "
                               "each rank's own")
    training.add_argument("--augment", type=augment.canonical, default=augment.NONE,
                          metavar="CHANGES",
                          help="change training rows at random, differently in each epoch: "
                               f"{', '.join(augment.OPERATIONS)}, separated by commas and each "
                               "with =PARAMETER if need be, such as flip,shift=4")
    training.add_argument("--seed", type=seed(), default=0, metavar="N",
                          help="seed of initial weights, order of rows, dropout, and augmentation")
    training.add_argument("--seeds", type=at_least(1, MOST), default=1, metavar="N",
                          help="an ensemble: N trainings with consecutive seeds from --seed on, "
                               "one after the other, in RUN/seed-…; predict and evaluate average "
                               "their probabilities")
    training.add_argument("--member", type=at_least(0), metavar="K",
                          help="train only the Kth member of the ensemble, counted from 0, as "
                               "elements of a job array do (default: all)")


def _words(values: Mapping[str, Any]) -> str:
    """Values of options as a command line."""
    return " ".join(f"--{name.replace('_', '-')} {value}" for name, value in values.items())


def _add_optimizer(cli: Parser) -> None:
    optimizer = cli.add_argument_group("optimizer and learning rate")
    optimizer.add_argument("--optimizer", choices=OPTIMIZERS, default="adam",
                           help="Adam; Adam with decoupled weight decay; gradient descent, with "
                                "--momentum or plain; LAMB, for large batches, not with async")
    optimizer.add_argument("--momentum", type=between(0, 0.9999), default=0.0, metavar="M",
                           help="momentum of sgd; 0: plain gradient descent")
    optimizer.add_argument("--nesterov", action="store_true",
                           help="Nesterov's form of --momentum")
    optimizer.add_argument("--weight-decay", type=between(0, 1), metavar="W",
                           help="in each step kernels, but not biases and normalisations, lose W "
                                "times the learning rate of their value (default: adamw and lamb "
                                "0.01, others 0)")
    optimizer.add_argument("--learning-rate", type=above(0, 10), default=1e-4, metavar="LR",
                           help="initial learning rate, or maximum with --warmup-steps")
    optimizer.add_argument("--rate-schedule", choices=RATE_SCHEDULES, default="inverse-time",
                           help="inverse-time: step t, counted from 0, uses LR / (1 + DECAY·t); "
                                "cosine: LR falls to 0 over --rate-epochs along half a cosine; "
                                "step: LR times --rate-factor every --rate-epochs; plateau: LR "
                                "times --rate-factor after --rate-epochs without improvement of "
                                "--monitor")
    optimizer.add_argument("--rate-epochs", type=at_least(1), metavar="N",
                           help="of --rate-schedule (default: cosine: --epochs, step: 10, plateau: "
                                "2)")
    optimizer.add_argument("--rate-factor", type=above(0, 1), default=0.1, metavar="F",
                           help="of --rate-schedule step and plateau")
    optimizer.add_argument("--decay", type=between(0, 1), default=1e-6,
                           help="decay of the learning rate per step, of --rate-schedule "
                                "inverse-time")
    optimizer.add_argument("--scale-rate", choices=SCALINGS, default="none",
                           help="multiply the learning rate by the number of ranks, or by its "
                                "square root; not with async")
    optimizer.add_argument("--warmup-steps", type=at_least(0), default=0, metavar="N",
                           help="raise the learning rate linearly over the first N steps, from "
                                "LR where --scale-rate raises it, otherwise from LR / N")
    optimizer.add_argument("--clip-norm", type=between(0, 1e9), default=0.0, metavar="X",
                           help="scale gradients down to a global norm of at most X; 0: don't")


def _add_parallelism(cli: Parser) -> None:
    parallelism = cli.add_argument_group("parallelism")
    parallelism.add_argument(
        "--strategy", choices=("auto", *strategies.NAMES), default="auto",
        help="sequential: one rank; sync: gradients summed by Horovod in each step; async: "
             "parameter servers; local-sgd: weights averaged every K steps; hybrid: the large "
             "dense layer sharded over the ranks; mesh: tensor and pipeline parallel; auto: mesh "
             "with --mesh, otherwise sequential on one rank and sync on several")
    parallelism.add_argument(
        "--compression", choices=("none", "fp16", "bf16"), default="none",
        help="exchange 16-bit numbers; fp16: the large gradient of sync and async; bf16: the "
             "activations of hybrid")
    parallelism.add_argument(
        "--allreduce", choices=("ring", "auto"), default="auto",
        help="algorithm on CPU ranks; ring: force Open MPI's; auto: MPI's choice (on GPUs NCCL "
             "chooses)")
    parallelism.add_argument(
        "--servers", type=at_least(1), default=1, metavar="S",
        help="async: the first S ranks are parameter servers")
    parallelism.add_argument(
        "--max-staleness", type=at_least(0), metavar="N",
        help="async: maximum age of a gradient in updates, enforced by making fast workers wait "
             "(default: unlimited)")
    parallelism.add_argument(
        "--staleness-rate", action="store_true",
        help="async: divide the learning rate by the gradient's age in updates")
    parallelism.add_argument(
        "--sync-every", type=at_least(1), default=8, metavar="K",
        help="local-sgd: average the ranks' weights after every K steps")
    parallelism.add_argument(
        "--shard-group", type=at_least(0), default=0, metavar="S",
        help="hybrid: number of ranks that hold the largest dense kernel together; 0: all ranks "
             "of a node")
    parallelism.add_argument(
        "--mesh", metavar="data=D,tensor=T,pipeline=P",
        help="mesh: D·T·P ranks, with the batch in D shares, each layer's weights in T shards "
             "(of the network table only), and the layers in P stages; an axis left out is 1")
    parallelism.add_argument(
        "--stages", metavar="LAYERS",
        help="mesh: first layer of each stage after the first, separated by commas; of the "
             f"network table out of {', '.join(BLOCKS[1:])} (default: stages of about equal cost)")
    parallelism.add_argument(
        "--schedule", choices=(*SCHEDULES, *RATE_SCHEDULES), default=_SCHEDULE,
        metavar="|".join(SCHEDULES),
        help="mesh: order of the micro-batches in the pipeline; gpipe keeps the activations of "
             "all of them, 1f1b of at most as many as there are stages (a value of "
             "--rate-schedule is taken for that option)")
    parallelism.add_argument(
        "--tensor-layout", choices=LAYOUTS, default="row",
        help="mesh: how tensor=T cuts the kernel of the large dense layer")


def _add_device(cli: Parser) -> None:
    device = cli.add_argument_group("device and precision")
    device.add_argument("--device", choices=("auto", "cpu", "gpu"), default="auto",
                        help="gpu: fail at the start if there is none; auto: use a GPU if there "
                             "is one")
    device.add_argument("--threads", type=at_least(0, MOST_THREADS), default=0, metavar="N",
                        help="CPU threads per rank; 0: $OMP_NUM_THREADS, or the node's cores "
                             "divided by its ranks")
    device.add_argument("--precision", choices=PRECISIONS, default="float32",
                        help="bfloat16: for convolutions and the large product, while weights and "
                             "reductions stay float32; tf32: the same on a GPU (A100 and newer), "
                             "whose tensor cores then round float32 to 10 bits; float64: for "
                             "everything, to compare strategies on CPUs")
    add_deterministic(device)
    device.add_argument("--compiled", action=argparse.BooleanOptionalAction, default=True,
                        help="on CPUs, compute the table network's convolutions with the project's "
                             "own operations, if they were built; --no-compiled: with TensorFlow's")


def _add_checkpoints(cli: Parser) -> None:
    checkpoints = cli.add_argument_group("checkpoints and stalls")
    checkpoints.add_argument("--checkpoint-minutes", type=between(0, 1e6), default=10.0,
                             metavar="M",
                             help="minutes between checkpoints; 0: one at the end of each "
                                  "epoch")
    checkpoints.add_argument("--keep", type=at_least(1), default=2, metavar="N",
                             help="number of checkpoints to keep")
    add_stall_limits(checkpoints)


def _add_studies(cli: Parser) -> None:
    studies = cli.add_argument_group("curves, traces and performance studies")
    studies.add_argument("--tensorboard", type=Path, nargs="?", const=IN_RUN, metavar="DIR",
                         help="write curves and pictures for TensorBoard (without DIR: "
                              "tensorboard in the run directory)")
    studies.add_argument("--timeline", type=Path, nargs="?", const=IN_RUN, metavar="FILE",
                         help="trace the phases of every rank and Horovod's operations, for "
                              "https://ui.perfetto.dev (without FILE: timeline.json in the run "
                              "directory)")
    studies.add_argument("--trace", type=Path, metavar="FILE",
                         help="mesh: trace the work and the messages of every rank, for "
                              "https://ui.perfetto.dev")
    studies.add_argument("--synthetic", type=at_least(0, 100_000_000), default=0, metavar="N",
                         help="train on N random pictures in memory instead of --data, with 64 "
                              "more for validation: the time without input; 0: off")
    studies.add_argument("--size", type=at_least(*SIZES), metavar="S",
                         help="width and height of --synthetic pictures; those of a data file were "
                              f"chosen in preprocessing (default: {SIZE})")
    studies.add_argument("--slow-rank", type=at_least(0), default=0, metavar="R",
                         help="the rank that --slow-factor slows down")
    studies.add_argument("--slow-factor", type=between(1, 1000), default=1.0, metavar="F",
                         help="make that rank compute F times as long, by sleeping")
