"""``mpirun -np N python -m hpc_deepfake.train``: train the network on a data file."""

from __future__ import annotations

import os
import resource
import sys
import time
from argparse import Namespace
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil

from hpc_deepfake import strategies
from hpc_deepfake.parallel.schedule import SCHEDULES
from hpc_deepfake.parallel.shards import BLOCKS, LAYOUTS
from hpc_deepfake.settings import PRECISIONS, SCALINGS, Layout, Settings
from preprocessing import mpi, protocol
from preprocessing.cli import Parser, at_least, between, default_data
from preprocessing.errors import InputError

if TYPE_CHECKING:
    from mpi4py.MPI import Comm

    from hpc_deepfake.data import DataFile
    from hpc_deepfake.device import Device
    from hpc_deepfake.rundir import RunDir
    from hpc_deepfake.timeline import Timeline

_EXAMPLES = """examples:
  python -m hpc_deepfake.train --data casia2.h5
  mpirun -np 8 python -m hpc_deepfake.train --data casia2.h5 --run runs/first
  mpirun -np 8 python -m hpc_deepfake.train --data casia2.h5 --run runs/first --resume
  mpirun -np 4 python -m hpc_deepfake.train --data casia2.h5 --feature raw --device gpu
  mpirun -np 9 python -m hpc_deepfake.train --data casia2.h5 --strategy async --servers 1
  mpirun -np 8 python -m hpc_deepfake.train --data casia2.h5 --strategy local-sgd --sync-every 16
  mpirun -np 8 python -m hpc_deepfake.train --data casia2.h5 --strategy hybrid --shard-group 4
  mpirun -np 8 python -m hpc_deepfake.train --data /lustre/casia2.h5 --stage /tmp
  mpirun -np 4 python -m hpc_deepfake.train --data casia2.h5 --mesh tensor=2,pipeline=2 \
    --batch-size 16 --micro-batches 8
  mpirun -np 2 python -m hpc_deepfake.train --config run.toml --epochs 5

SIGTERM or SIGUSR1 to any rank: all stop after the same step, with a checkpoint.
exit codes: 0 done; 2 wrong usage or input; 75 stopped by a signal, go on with --resume;
anything else a fault"""


_IN_RUN = Path()  # --timeline without a file


def parser() -> Parser:
    """The command line."""
    cli = Parser(prog="python -m hpc_deepfake.train", epilog=_EXAMPLES, description=(
        "Train the network. Under mpirun the ranks train one model together (Horovod "
        "ring-allreduce); alone, one process does."))
    cli.add_argument("--data", type=Path, metavar="FILE",
                     help="data file (default: features.h5 in $HPC_DEEPFAKE_DATA or data)")
    cli.add_argument("--synthetic", type=at_least(0), default=0, metavar="N",
                     help="N random training pictures in memory, and 64 for validation, instead of "
                          "--data, which is not read: computing without input, for studies")
    cli.add_argument("--run", type=Path, metavar="DIR",
                     help="run directory (default: runs/JOB_ID under a scheduler, or runs/TIME)")
    cli.add_argument("--resume", action="store_true",
                     help="go on from the run directory's newest checkpoint, if there is one")

    course = cli.add_argument_group("what is learned")
    course.add_argument("--feature", default="ela", help="feature of the data file to train on")
    course.add_argument("--epochs", type=at_least(1), default=30, help="at most so many")
    course.add_argument("--patience", type=at_least(0), default=5,
                        help="stop after so many epochs without a better one; 0: never")
    course.add_argument("--monitor", choices=("val_loss", "val_auc", "val_accuracy"),
                        default="val_loss", help="what a better epoch is")
    course.add_argument("--batch-size", type=at_least(1), default=32,
                        help="rows per rank and micro-batch")
    course.add_argument("--accumulate", "--micro-batches", type=at_least(1), default=1,
                        metavar="M", help="micro-batches per optimizer step; with a pipeline, take "
                        "several for each stage")
    course.add_argument("--optimizer", choices=("adam", "sgd"), default="adam", help=" ")
    course.add_argument("--learning-rate", type=between(0, 10), default=1e-4, metavar="LR",
                        help="step t (from 0) uses LR / (1 + decay·t)")
    course.add_argument("--decay", type=between(0, 1), default=1e-6, help="of the learning rate")
    course.add_argument("--scale-rate", choices=SCALINGS, default="none",
                        help="learning rate times the number of ranks, or its square root")
    course.add_argument("--warmup-steps", type=at_least(0), default=0, metavar="N",
                        help="raise the learning rate linearly over the first N steps")
    course.add_argument("--dropout", type=between(0, 0.99), default=0.5,
                        help="before the last layer")
    course.add_argument("--sync-bn", action="store_true",
                        help="normalise over the micro-batch of all ranks, not each rank's own")
    course.add_argument("--seed", type=at_least(0), default=0,
                        help="of weights, order and dropout")
    course.add_argument("--rows", type=at_least(0), default=0, metavar="N",
                        help="train on N of the training rows, chosen by the seed; 0: on all")

    how = cli.add_argument_group("how it is computed")
    how.add_argument("--strategy", choices=("auto", *strategies.NAMES), default="auto",
                     help="auto: sequential on one rank, sync on several, mesh if --mesh is given; "
                          "async: with parameter servers; local-sgd: weights averaged now and "
                          "then; hybrid: the large dense layer dealt to the ranks")
    how.add_argument("--servers", type=at_least(1), default=1, metavar="S",
                     help="async: the first S ranks are parameter servers")
    how.add_argument("--max-staleness", type=at_least(0), metavar="N",
                     help="async: no gradient older than N updates is applied, fast workers wait "
                          "(default: any age)")
    how.add_argument("--staleness-rate", action="store_true",
                     help="async: divide the learning rate by a gradient's age in updates")
    how.add_argument("--sync-every", type=at_least(1), default=8, metavar="K",
                     help="local-sgd: average the ranks' weights after K steps of each")
    how.add_argument("--slow-rank", type=at_least(0), default=0, metavar="R",
                     help="for studies: the rank that --slow-factor slows down")
    how.add_argument("--slow-factor", type=between(1, 1000), default=1.0, metavar="F",
                     help="for studies: that rank takes F times as long to compute")
    how.add_argument("--mesh", metavar="data=D,tensor=T,pipeline=P",
                     help="model parallel: D·T·P ranks, the layers in P stages, their weights in T "
                          "shards, the batches in D shares; an axis left out is 1")
    how.add_argument("--stages", metavar="BLOCKS",
                     help="first block of each stage but the first, out of "
                          f"{', '.join(BLOCKS[1:])}; default: stages of about equal cost")
    how.add_argument("--schedule", choices=tuple(SCHEDULES), default="1f1b",
                     help="of the stages: gpipe holds all micro-batches' activations, 1f1b no more "
                          "than there are stages")
    how.add_argument("--tensor-layout", choices=LAYOUTS, default="row",
                     help="how the large dense kernel is cut with tensor=T")
    how.add_argument("--trace", type=Path, metavar="FILE",
                     help="write what each rank of a mesh did when, for ui.perfetto.dev")
    how.add_argument("--device", choices=("auto", "cpu", "gpu"), default="auto",
                     help="gpu fails before the first step where there is none")
    how.add_argument("--threads", type=at_least(0), default=0,
                     help="CPU threads per rank; 0: $OMP_NUM_THREADS, or the node's cores over its "
                          "ranks")
    how.add_argument("--precision", choices=PRECISIONS, default="float32",
                     help="bfloat16: of convolutions and the large product, weights and "
                          "reduction stay float32; float64: of everything, for comparisons")
    how.add_argument("--allreduce", choices=("ring", "auto"), default="auto",
                     help="force Open MPI's ring on CPU ranks, or leave MPI its choice; "
                          "NCCL chooses on GPUs")
    how.add_argument("--compression", choices=("none", "fp16", "bf16"), default="none",
                     help="fp16: halve the bytes of sync's large reduction; bf16: of the "
                          "activations that hybrid exchanges")
    how.add_argument("--shard-group", type=at_least(0), default=0, metavar="S",
                     help="hybrid: ranks that hold the large kernel together; 0: those of a node")
    how.add_argument("--stage", type=Path, metavar="DIR",
                     help="copy the data file to this folder, of each node's own disk, and read "
                          "it there")
    how.add_argument("--input", choices=("auto", "mmap", "read", "memory"), default="auto",
                     help="map the file, read rows, or hold all; auto: by its file system")

    keep = cli.add_argument_group("checkpoints and faults")
    keep.add_argument("--checkpoint-minutes", type=between(0, 1e6), default=10.0, metavar="M",
                      help="between checkpoints within an epoch (each ends with one); 0: none")
    keep.add_argument("--keep", type=at_least(1), default=2, help="checkpoints to keep")
    keep.add_argument("--stall-warning", type=between(0, 1e6), default=60.0, metavar="S",
                      help="name a rank that others wait for after S seconds; 0: never")
    keep.add_argument("--stall-limit", type=between(0, 1e6), default=600.0, metavar="S",
                      help="end the job when they waited S seconds; 0: never")
    keep.add_argument("--timeline", type=Path, nargs="?", const=_IN_RUN, metavar="FILE",
                      help="record what each rank did when, and Horovod's timeline, as one trace "
                           "for https://ui.perfetto.dev; without FILE timeline.json in the run "
                           "directory")
    keep.add_argument("--no-report", action="store_true", help="don't write report.html")
    return cli


def before_mpi(argv: Sequence[str] | None = None) -> None:
    """Settings that MPI reads when it starts.

    Raises:
        RuntimeError: it has started.
    """
    if "mpi4py.MPI" in sys.modules:
        raise RuntimeError("MPI has started: its settings come too late")
    options = parser().parse(argv)
    if options.strategy in strategies.POLLING or options.mesh:
        # Open MPI moves three fragments of a message each time that it is called: with fragments
        # of 32 KiB in shared memory, 30 MB took 0.8 s between ranks that look every 2 ms
        for transport in ("vader", "sm"):
            os.environ.setdefault(f"OMPI_MCA_btl_{transport}_max_send_size", str(1 << 20))
    if options.allreduce == "ring":
        os.environ.update(OMPI_MCA_coll_tuned_use_dynamic_rules="1",
                          OMPI_MCA_coll_tuned_allreduce_algorithm="4")  # ring


def main(comm: Comm, argv: Sequence[str] | None = None) -> int:
    """The whole job; collective. Returns the exit code."""
    from preprocessing.stop import EXIT_STOPPED, StopFlag

    stop = StopFlag()
    options = parser().parse(argv)
    options.data = None if options.synthetic else \
        options.data or default_data() / "features.h5"
    settings, layout = Settings.of(options), Layout.of(options)
    options.strategy = strategies.choose(options.strategy, comm.size, settings, layout)
    if not 0 <= options.slow_rank < comm.size:
        raise InputError(f"--slow-rank {options.slow_rank}: the ranks are 0 to {comm.size - 1}",
                         everywhere=True)

    from hpc_deepfake import device as devices

    local_rank, ranks_on_node = devices.local_ranks(comm)
    data = _open(comm, options, ranks_on_node)
    device = mpi.together(comm, partial(devices.start, options.device, local_rank, ranks_on_node,
                                  options.threads))
    run, loaded = _run_directory(comm, options, settings, data)
    timeline = _timeline(comm, options, run)
    with devices.quiet_stderr():
        strategies.prepare(options.strategy, comm, device.gpu, layout, options.stall_warning,
                           options.stall_limit)
        import keras

        from hpc_deepfake import metrics, model
        from hpc_deepfake.loop import Limits, Trainer
        from hpc_deepfake.report import predictions
        from hpc_deepfake.report.command import write_at_the_end
        from hpc_deepfake.watchdog import Watchdog

        strategy_class = strategies.get(options.strategy)
    if timeline is not None and "horovod.tensorflow" in sys.modules:
        timeline.follow_horovod()
    _record(comm, options, run, data, device, local_rank)
    keras.utils.set_random_seed(options.seed)
    network = model.build("float64" if options.precision == "float64" else "float32") \
        if strategy_class.wants_model(comm.rank) else None
    strategy = strategy_class(network, settings, comm, layout)
    del network  # a strategy may need it no more
    if run is not None:
        print(_headline(comm.size, strategy.share[1], options, settings, data, device),
              flush=True)
    watchdog = Watchdog(comm, options.stall_warning, options.stall_limit)
    limits = Limits(options.epochs, options.patience, options.checkpoint_minutes * 60,
                    options.keep)
    trainer = Trainer(comm, strategy, data, settings, limits, run, stop, watchdog,
                      options.slow_factor if comm.rank == options.slow_rank else 1.0, timeline)
    trainer.restore(loaded)
    del loaded
    started = time.perf_counter()
    summary = trainer.train()
    watchdog.close()
    usage = comm.gather(resource_usage())
    went = timeline and timeline.write()
    if run is not None and summary is not None:
        if went:
            from hpc_deepfake import timeline as trace

            summary["timeline"] = {**went, "file": os.path.abspath(options.timeline)}
            print(f"{trace.text(went)}\n  open {options.timeline} in https://ui.perfetto.dev")
        summary["seconds"] = time.perf_counter() - started
        summary["usage"] = usage
        run.write("summary.json", {**summary, "allreduce": _allreduce(options, device)})
        predictions.write(run.path, data, trainer.probabilities)
        print(_report(summary, run.path, metrics.table), flush=True)
        protocol.warn(data.header.array("path"), data.labels)
        if not options.no_report:
            print(write_at_the_end(run.path), flush=True)
    elif run is not None:
        print(f"stopped by {stop.name or 'a signal to another rank'} in epoch "
              f"{trainer.state.epoch} after step {trainer.state.step}; a checkpoint is written: "
              f"go on with --run {run.path} --resume", flush=True)
    return EXIT_STOPPED if summary is None else 0


def _timeline(comm: Comm, options: Namespace, run: RunDir | None) -> Timeline | None:
    """What records the run, if it is wanted; collective."""
    if options.timeline is None:
        return None
    from hpc_deepfake.timeline import Timeline

    def writable() -> Path:
        path = run.path / "timeline.json" if options.timeline == _IN_RUN else options.timeline
        if not os.access(path.parent, os.W_OK):
            raise InputError(f"--timeline {path}: there is no folder to write to; choose another "
                             "place")
        return path

    options.timeline = mpi.on_root(comm, writable)
    Timeline.prepare()
    return Timeline(comm, options.timeline)


def resource_usage() -> dict[str, float]:
    """This rank since its start: CPU seconds, largest resident set in MB, wall-clock seconds."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    return {"cpu_s": used.ru_utime + used.ru_stime, "max_rss_mb": used.ru_maxrss / 1024,
            "wall_s": time.time() - psutil.Process().create_time()}


def _open(comm: Comm, options: Namespace, ranks_on_node: int) -> DataFile:
    """Every rank opens the file itself, after rank 0 found it in order."""
    from hpc_deepfake.data import check_trainable, first_rows, open_data
    from hpc_deepfake.synthetic import synthetic

    def check() -> None:
        if options.precision == "float64" and options.device == "gpu":
            raise InputError("--precision float64 is for comparisons on CPU ranks")
        if options.synthetic:
            data = synthetic(options.synthetic, options.feature, options.seed)
        else:
            data = open_data(options.data, options.feature, "mmap")
        check_trainable(data)
        first_rows(data.rows("train"), options.rows, options.seed)

    mpi.on_root(comm, check)
    if options.synthetic:
        return synthetic(options.synthetic, options.feature, options.seed)
    path = options.data
    if options.stage is not None:
        from hpc_deepfake.stage import stage

        path = stage(comm, path, options.stage)
    return open_data(path, options.feature, options.input, ranks_on_node)


def _run_directory(comm: Comm, options: Namespace, settings: Settings,
                   data: DataFile) -> tuple[RunDir | None, Any]:
    """The run directory and the checkpoint to go on from; both on rank 0 only."""
    from hpc_deepfake import checkpoint
    from hpc_deepfake.rundir import RunDir, default_run

    run, loaded = None, None

    def make() -> None:
        nonlocal run, loaded
        if options.resume and options.run is None and not default_run().exists():
            raise InputError("--resume: name the run directory to go on with: --run DIR")
        run = RunDir(options.run or default_run(), options.resume)
        if options.resume:
            try:
                newest = checkpoint.load_newest(run.path / "checkpoints")
            except ValueError as error:
                raise InputError(f"no checkpoint of {run.path} can be read: {error}. Start anew "
                                 "in another --run") from None
            if newest is not None:
                arrays, meta, problems = newest
                for problem in problems:
                    print(f"warning: {problem}; going on from the one before", flush=True)
                _check_same(run.path, meta, settings, data)
                loaded = arrays, meta
            run.forget_from(loaded[1]["state"]["epoch"] if loaded else 1)
            print(f"going on with {run.path} in epoch {loaded[1]['state']['epoch']} after step "
                  f"{loaded[1]['state']['step']}" if loaded
                  else f"no checkpoint in {run.path}: starting at the beginning", flush=True)

    mpi.on_root(comm, make)
    return run, loaded


def _record(comm: Comm, options: Namespace, run: RunDir | None, data: DataFile, device: Device,
            local_rank: int) -> None:
    """Write the settings and the environment, once Horovod's are set; collective."""
    from mpi4py import MPI

    from hpc_deepfake.rundir import environment

    ranks = comm.gather({"host": MPI.Get_processor_name(), "local_rank": local_rank,
                         "python": sys.executable,
                         "device": device.kind, "name": device.name, "threads": device.threads,
                         "input": data.input})
    if run is not None:
        values = {name: str(value) if isinstance(value, Path) else value
                  for name, value in vars(options).items() if name != "config"}
        if options.data is not None:
            values["data"] = os.path.abspath(options.data)
        run.write("config.json", values)
        run.write("environment.json", environment(ranks))


def _check_same(path: Path, meta: dict[str, Any], settings: Settings, data: DataFile) -> None:
    differing = [f"--{name.replace('_', '-')} {value}" for name, value in meta["settings"].items()
                 if settings.as_dict().get(name) != value]
    if differing:
        raise InputError(f"--resume: the run in {path} was started with {' '.join(differing)}; "
                         "give the same, or choose another --run")
    if meta["data"] != data.header.attributes:
        raise InputError(f"--resume: the run in {path} was trained on another data file than "
                         f"{data.header.path or 'these random pictures'}")


def _allreduce(options: Namespace, device: Device) -> str | None:
    """What reduces the gradients, as recorded."""
    from mpi4py import MPI

    if options.strategy in ("sequential", "async"):
        return None
    if device.gpu:
        return "NCCL"
    if options.allreduce == "ring" and "Open MPI" in MPI.Get_library_version():
        return "MPI, ring (forced)"
    return "MPI, the library's choice"


def _headline(ranks: int, shares: int, options: Namespace, settings: Settings, data: DataFile,
              device: Device) -> str:
    counts = [len(data.rows(part)) for part in ("train", "validation", "test")]
    counts[0] = settings.rows or counts[0]
    rows = f"{counts[0]:,} train + {counts[1]:,} validation" \
           + (f" + {counts[2]:,} test" if counts[2] else "")
    share = data.labels[data.rows("validation")].mean()
    who = f"{f'{options.mesh}: ' * bool(options.mesh)}{ranks} rank{'s' * (ranks > 1)}"
    if options.strategy == "async":
        workers = ranks - options.servers
        who = f"{workers} worker{'s' * (workers > 1)} with {options.servers} " \
              f"server{'s' * (options.servers > 1)}"
    batch = "batch of an update" if options.strategy == "async" else "global batch"
    source = options.data or "random pictures"
    return (f"{options.feature} of {source}: {rows} images (majority class "
            f"{max(share, 1 - share):.1%}); {options.strategy} on {who}, "
            f"{device.kind} ({device.name}), {device.threads} "
            f"thread{'s' * (device.threads > 1)} each; {batch} "
            f"{options.batch_size * shares * options.accumulate}")


def _report(summary: dict[str, Any], path: Path,
            table: Callable[[dict[str, Any]], str]) -> str:
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
    mpi.run(main, before_mpi)
