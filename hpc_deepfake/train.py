"""``mpirun -np N python -m hpc_deepfake.train``: train the network on a data file."""

from __future__ import annotations

import os
from argparse import Namespace
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hpc_deepfake import strategies
from preprocessing import mpi
from preprocessing.cli import Parser, at_least, between, default_data
from preprocessing.errors import InputError

if TYPE_CHECKING:
    from mpi4py.MPI import Comm

    from hpc_deepfake.data import DataFile
    from hpc_deepfake.device import Device

_EXAMPLES = """examples:
  python -m hpc_deepfake.train --data casia2.h5
  mpirun -np 8 python -m hpc_deepfake.train --data casia2.h5 --run runs/first
  mpirun -np 4 python -m hpc_deepfake.train --data casia2.h5 --feature raw --device gpu
  mpirun -np 2 python -m hpc_deepfake.train --config run.toml --epochs 5

exit codes: 0 done; 2 wrong usage or input; anything else a fault"""


def parser() -> Parser:
    """The command line."""
    cli = Parser(prog="python -m hpc_deepfake.train", epilog=_EXAMPLES, description=(
        "Train the network. Under mpirun the ranks train one model together (Horovod "
        "ring-allreduce); alone, one process does."))
    cli.add_argument("--data", type=Path, metavar="FILE",
                     help="data file (default: features.h5 in $HPC_DEEPFAKE_DATA or data)")
    cli.add_argument("--run", type=Path, metavar="DIR",
                     help="run directory (default: runs/JOB_ID under a scheduler, or runs/TIME)")
    cli.add_argument("--feature", default="ela", help="feature of the data file to train on")
    cli.add_argument("--strategy", choices=("auto", *strategies.NAMES), default="auto",
                     help="auto: sequential on one rank, sync on several")
    cli.add_argument("--epochs", type=at_least(1), default=30, help="at most so many")
    cli.add_argument("--batch-size", type=at_least(1), default=32, help="rows per rank and step")
    cli.add_argument("--learning-rate", type=between(0, 10), default=1e-4, help="of Adam")
    cli.add_argument("--decay", type=between(0, 1), default=1e-6,
                     help="step t (from 0) uses learning rate / (1 + decay·t)")
    cli.add_argument("--dropout", type=between(0, 0.99), default=0.5,
                     help="before the last layer")
    cli.add_argument("--patience", type=at_least(0), default=5,
                     help="stop after so many epochs without a better one; 0: never")
    cli.add_argument("--monitor", choices=("val_loss", "val_auc", "val_accuracy"),
                     default="val_loss", help="what a better epoch is")
    cli.add_argument("--seed", type=at_least(0), default=0,
                     help="of weights, order and dropout")
    cli.add_argument("--device", choices=("auto", "cpu", "gpu"), default="auto",
                     help="gpu fails before the first step where there is none")
    cli.add_argument("--threads", type=at_least(0), default=0,
                     help="CPU threads per rank; 0: the node's cores over its ranks")
    return cli


def main(comm: Comm, argv: Sequence[str] | None = None) -> int:
    """The whole job; collective. Returns the exit code."""
    options = parser().parse(argv)
    options.data = options.data or default_data() / "features.h5"
    options.strategy = strategies.choose(options.strategy, comm.size)
    data = _open(comm, options)

    from hpc_deepfake import device as devices

    local_rank, ranks_on_node = devices.local_ranks(comm)
    device = _start(comm, partial(devices.start, options.device, local_rank, ranks_on_node,
                                  options.threads))
    with devices.quiet_stderr():
        strategies.prepare(options.strategy, comm, device.gpu)
        import keras

        from hpc_deepfake import loop, metrics, model

        strategy_class = strategies.get(options.strategy)
    run = _run_directory(comm, options, device, local_rank)
    keras.utils.set_random_seed(options.seed)
    strategy = strategy_class(model.build(), options.learning_rate, options.decay,
                              options.dropout)
    strategy.broadcast()
    if run is not None:
        print(_headline(comm.size, options, data, device), flush=True)
    summary = loop.train(comm, strategy, data, options, run)
    strategy.close()
    if run is not None:
        run.write("summary.json", summary)
        print(_report(summary, run.path, metrics.table))
    return 0


def _open(comm: Comm, options: Namespace) -> DataFile:
    """Every rank maps the file itself, after rank 0 found it in order."""
    from hpc_deepfake.data import check_trainable, open_data

    def check() -> None:
        check_trainable(open_data(options.data, options.feature))

    mpi.on_root(comm, check)
    return open_data(options.data, options.feature)


def _start(comm: Comm, start: Any) -> Device:
    """Start the device on all ranks; what fails on some ranks ends all, with their names."""
    try:
        device, problem = start(), None
    except InputError as error:
        device, problem = None, str(error)
    problems = {rank: text for rank, text in enumerate(comm.allgather(problem)) if text}
    if problems:
        rank, text = next(iter(problems.items()))
        where = "" if len(problems) == comm.size else f" (rank {rank} of {len(problems)} such)"
        raise InputError(text + where, everywhere=True)
    return device


def _run_directory(comm: Comm, options: Namespace, device: Device, local_rank: int) -> Any:
    from mpi4py import MPI

    from hpc_deepfake.rundir import RunDir, default_run, environment

    ranks = comm.gather({"host": MPI.Get_processor_name(), "local_rank": local_rank,
                         "device": device.kind, "name": device.name, "threads": device.threads})
    kept: RunDir | None = None

    def make() -> None:
        nonlocal kept
        kept = RunDir(options.run or default_run())
        settings = {name: str(value) if isinstance(value, Path) else value
                    for name, value in vars(options).items() if name != "config"}
        kept.write("config.json", {**settings, "data": os.path.abspath(options.data)})
        kept.write("environment.json", environment(ranks))

    mpi.on_root(comm, make)
    return kept


def _headline(ranks: int, options: Namespace, data: DataFile, device: Device) -> str:
    counts = [len(data.rows(part)) for part in ("train", "validation", "test")]
    rows = f"{counts[0]:,} train + {counts[1]:,} validation" \
           + (f" + {counts[2]:,} test" if counts[2] else "")
    return (f"{options.feature} of {options.data}: {rows} images; {options.strategy} on {ranks} "
            f"rank{'s' * (ranks > 1)}, {device.kind} ({device.name}), {device.threads} "
            f"thread{'s' * (device.threads > 1)} each; global batch "
            f"{options.batch_size * ranks}")


def _report(summary: dict[str, Any], path: Path, table: Any) -> str:
    lines = [f"{summary['epochs']} epochs in {summary['seconds']:.1f} s, "
             f"{summary['images_per_s']:,.0f} images/s; best: epoch {summary['best_epoch']} "
             f"by {summary['monitor']}" + (", stopped early" * summary["stopped_early"])]
    for part in ("validation", "test"):
        if part in summary:
            note = "" if part == "test" else \
                " (it also chose the epoch: a fresh test part would score a little lower)"
            lines += [f"{part} part, {summary[part]['rows']:,} images{note}:",
                      table(summary[part])]
    return "\n".join([*lines, f"model: {path / 'model.keras'}"])


if __name__ == "__main__":
    mpi.run(main)
