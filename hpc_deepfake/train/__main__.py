"""``mpirun -np N python -m hpc_deepfake.train``: train the network on a data file.

``main`` is the whole job from top to bottom. TensorFlow is imported only after the device is
chosen, and Horovod only by the strategies that use it.
"""

from __future__ import annotations

if __name__ == "__main__":  # before other packages are imported
    from hpc_deepfake.core.surroundings import settle

    settle()

import gc
import os
import resource
import sys
import time
from argparse import Namespace
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import psutil

from hpc_deepfake import strategies
from hpc_deepfake.core import holder, mpi, watchdog
from hpc_deepfake.core.errors import InputError
from hpc_deepfake.core.log import log
from hpc_deepfake.core.options import default_data
from hpc_deepfake.core.outputs import check_file
from hpc_deepfake.core.quiet import quiet_stderr
from hpc_deepfake.core.stop import EXIT_STOPPED, StopFlag
from hpc_deepfake.core.streams import work_matters
from hpc_deepfake.network import blocks, maps, placement, registry
from hpc_deepfake.network import device as devices
from hpc_deepfake.network.settings import Settings
from hpc_deepfake.strategies.layout import Layout
from hpc_deepfake.train import described, ensemble, messages, room, start
from hpc_deepfake.train.options import IN_RUN, check, parser
from hpc_deepfake.train.resume import run_directory
from preprocessing import protocol
from preprocessing.ela import SIZE

if TYPE_CHECKING:
    from mpi4py.MPI import Comm

    from hpc_deepfake.data.rows import DataFile
    from hpc_deepfake.network.device import Device
    from hpc_deepfake.network.freezing import Frozen
    from hpc_deepfake.network.initial import Weights
    from hpc_deepfake.strategies.base import Strategy, StrategyClass
    from hpc_deepfake.train.ensemble import Plan
    from hpc_deepfake.train.loop import Trainer
    from hpc_deepfake.train.rundir import RunDir
    from hpc_deepfake.train.timeline import Timeline


def before_mpi(argv: Sequence[str] | None = None) -> None:
    """Set what MPI and the watchdog read when they start.

    Raises:
        RuntimeError: MPI has started already.
    """
    if "mpi4py.MPI" in sys.modules:
        raise RuntimeError("MPI has started already: it would ignore these settings")
    options = parser().parse(argv)
    watchdog.start_limits(options.stall_warning, options.stall_limit)
    if options.strategy in strategies.POLLING or options.mesh:
        # Each call of Open MPI moves three fragments of a message: with fragments of 32 KiB in
        # shared memory, 30 MB took 0.8 s between ranks that call it every 2 ms
        for transport in ("vader", "sm"):
            os.environ.setdefault(f"OMPI_MCA_btl_{transport}_max_send_size", str(1 << 20))
    if options.allreduce == "ring":
        os.environ.update(OMPI_MCA_coll_tuned_use_dynamic_rules="1",
                          OMPI_MCA_coll_tuned_allreduce_algorithm="4")  # ring


@holder.releases
def main(comm: Comm, argv: Sequence[str] | None = None) -> int:
    """The whole job; collective. Returns the exit code."""
    work_matters()
    stop = StopFlag()
    options = parser().parse(argv)
    options.data = None if options.synthetic else \
        options.data or default_data() / "features.h5"
    options.strategy = check(options, comm.size)
    if not 0 <= options.slow_rank < comm.size:
        raise InputError(f"--slow-rank {options.slow_rank}: the ranks are 0 to {comm.size - 1}",
                         everywhere=True)

    watchdog.start_limits(options.stall_warning, options.stall_limit)
    watchdog.enter("opening the data")
    made = mpi.on_root(comm, partial(ensemble.plan, options)) if options.seeds > 1 else None
    options.run = made.folder if made else options.run
    local_rank, ranks_on_node = devices.local_ranks(comm)
    data = _open(comm, options)
    log.debug("%s: pictures are read by %s", options.data or "synthetic data", data.input)
    watchdog.enter("starting TensorFlow")
    device = mpi.together(comm, partial(devices.start, options.device, local_rank, ranks_on_node,
                                        options.threads, options.precision,
                                        options.deterministic))
    placement.check(comm, device, options.device, reducing=options.strategy != "async")
    blocks.agree(comm, options.compiled)
    once = partial(_train, comm, data=data, device=device, local_rank=local_rank, stop=stop)
    if made is None:
        return once(options=options, resuming=partial(messages.resuming, argv, comm.size))
    return _train_all(comm, options, made, data, partial(
        once, resuming=lambda _: messages.resuming(argv, comm.size, made.folder)))


def _train_all(comm: Comm, options: Namespace, made: Plan, data: DataFile,
               once: Callable[..., int]) -> int:
    """Train an ensemble's members one after the other, by ``once``, and join them; collective.
    Returns the exit code."""
    import keras

    mpi.on_root(comm, lambda: ensemble.begin(made, _values(options, data)))
    for member in made.due:
        if comm.rank == 0:
            print(f"--- member {member.number + 1} of {options.seeds}: seed {member.seed}, "
                  f"{member.path}{', finished before' * member.finished}", flush=True)
        if not member.finished:
            if code := once(options=member.options(options)):
                return code
            keras.utils.clear_session()  # names of layers count from the start again
            gc.collect()

    def finish() -> None:
        print(ensemble.complete(made, data), flush=True)
        if not options.no_report and (made.folder / "summary.json").is_file():
            from hpc_deepfake.report import write_at_the_end

            print(write_at_the_end(made.folder), flush=True)

    watchdog.enter("joining the ensemble")
    mpi.on_root(comm, finish)
    return 0


def _train(comm: Comm, options: Namespace, data: DataFile, device: Device, local_rank: int,
           stop: StopFlag, resuming: Callable[[Path], str]) -> int:
    """One training; collective. Returns the exit code.

    Args:
        comm: all ranks.
        options: of this training.
        data: to train on.
        device: of this rank.
        local_rank: of this rank.
        stop: true once this rank has received a signal to stop.
        resuming: gives the command that resumes the run in a run directory.
    """
    settings, layout = Settings.of(options), Layout.of(options)
    watchdog.enter("opening the run directory")
    run, loaded = run_directory(comm, options, settings, data)
    weights = _initial(comm, options, run, loaded is not None)
    timeline = _timeline(comm, options, run)
    _check_tensorboard(comm, options, run)
    watchdog.enter("starting the strategy", shared=True)
    with quiet_stderr():
        strategies.prepare(options.strategy, comm, device.gpu, layout, options.stall_warning,
                           options.stall_limit)
        from hpc_deepfake.train.loop import Limits, Trainer

        strategy_class = strategies.get(options.strategy)
    if timeline is not None and "horovod.tensorflow" in sys.modules:
        timeline.follow_horovod()
    watchdog.enter("recording the surroundings")
    _write_records(comm, options, run, data, device, local_rank)
    trained_on = _provenance(comm, options, settings, run, data)
    watchdog.enter("building the network")
    strategy = _strategy(strategy_class, comm, options, settings, layout, run, data, weights,
                         loaded is not None)
    del weights
    if run is not None:
        print(messages.headline(comm.size, strategy.share[1], options, settings, data, device),
              flush=True)
    limits = Limits(options.epochs, options.patience, options.checkpoint_minutes * 60,
                    options.keep)
    slow = options.slow_factor if comm.rank == options.slow_rank else 1.0
    trainer = Trainer(comm, strategy, data, settings, limits, run, stop, slow, timeline,
                      trained_on)
    trainer.restore(loaded)
    del loaded
    mpi.on_root(comm, lambda: _show_course(options, run, trainer))
    started = time.perf_counter()
    summary = trainer.train()
    mpi.meet(comm, "gathering what the ranks used")
    usage = comm.gather(resource_usage(device))
    watchdog.enter("writing the results")
    traced = timeline.write() if timeline is not None else None
    if run is not None and summary is not None:
        if traced:
            summary["timeline"] = {**traced, "file": os.path.abspath(options.timeline)}
        summary |= {"seconds": time.perf_counter() - started, "usage": usage,
                    "allreduce": _allreduce(options, device), "precision": options.precision,
                    "deterministic": device.deterministic,
                    "compiled": blocks.vectors(settings, options.strategy)}
        if known := start.summary(run.path):
            summary["init"] = known
        if summary["epochs_before"] == summary["epochs"]:  # what computed them stays
            summary |= run.computed()

    def finish() -> None:
        if run is not None and summary is not None:
            _finish(options, run, data, trainer, summary)

    mpi.on_root(comm, finish)
    if summary is None and run is not None:
        print(messages.stopped(stop.name, trainer.state.epoch, trainer.state.step,
                               resuming(run.path)), flush=True)
    return EXIT_STOPPED if summary is None else 0


def _strategy(strategy_class: StrategyClass, comm: Comm, options: Namespace, settings: Settings,
              layout: Layout, run: RunDir | None, data: DataFile, weights: Weights | None,
              resumed: bool) -> Strategy:
    """The strategy, with a model on the ranks that need one, for which the run directory has room;
    it starts from ``weights``, if rank 0 has some. Collective."""
    import keras

    from hpc_deepfake.network.freezing import freeze

    # bfloat16 is for training passes only: validation and files compute in float32
    precision = "float64" if options.precision == "float64" else "float32"
    keras.utils.set_random_seed(options.seed)
    model = mpi.together(comm, lambda: registry.build(
        settings.network, data.size, precision, data.channels)
        if strategy_class.wants_model(comm.rank) else None)
    described.check(comm, settings.network, model, run, resumed)

    def adjust() -> Frozen | None:
        if model is None:
            return None
        described.refuse_idle(settings, model)
        described.check_map(options.strategy, settings, model, data)
        return freeze(model, settings.freeze)

    frozen = mpi.together(comm, adjust)

    def prepare() -> None:
        if run is None:
            return
        room.check(run.path, model, settings, options.keep)
        if frozen:
            print(frozen, flush=True)
        note = described.check_masks(settings, data) if model and maps.has(model) else None
        if note:
            log.info(note)
        if weights is not None and model is not None:
            start.take(model, weights, run)

    mpi.on_root(comm, prepare)
    return strategy_class(model, settings, comm, layout)


def _initial(comm: Comm, options: Namespace, run: RunDir | None, resumed: bool) -> Weights | None:
    """The weights of ``--init`` on rank 0, for a run that begins; collective."""
    found: Weights | None = None

    def read() -> None:
        nonlocal found
        if run is not None:
            found = start.weights(options, run, resumed)

    mpi.on_root(comm, read)
    return found


def _provenance(comm: Comm, options: Namespace, settings: Settings, run: RunDir | None,
                data: DataFile) -> Callable[[], dict[str, Any] | None]:
    """Write the list of the pictures that the run is trained on; collective. Returns what gives
    ``Card.trained_on``, on rank 0; a resumed run has both already."""
    from hpc_deepfake.data.rows import first_rows
    from hpc_deepfake.network import model
    from hpc_deepfake.network.pictures import Pictures
    from hpc_deepfake.train import provenance
    from hpc_deepfake.train.saving import Later

    rows = first_rows(data.rows("train"), settings.rows, settings.seed), data.rows("validation")
    known: dict[str, Any] | None = None

    def missing() -> bool:
        nonlocal known
        if run is None or not options.resume:
            return True
        listed = None
        with suppress(InputError):  # none yet, damaged, or of an earlier version
            listed = Pictures.read(run.path)
        with suppress(InputError):
            known = model.read_card(run.path).trained_on
        return listed is None

    if not options.synthetic and mpi.on_root(comm, missing):
        listed = provenance.pictures(comm, data, *rows)

        def write() -> None:
            if run is not None and listed is not None:
                listed.write(run.path / "model.keras")

        mpi.on_root(comm, write)
    if run is None or known is not None:
        return lambda: known
    return Later(partial(provenance.trained_on, data, options.data, *rows))


def _finish(options: Namespace, run: RunDir, data: DataFile, trainer: Trainer,
            summary: dict[str, Any]) -> None:
    """Write and print the results of a finished run, on rank 0."""
    from hpc_deepfake.report import write_at_the_end
    from hpc_deepfake.train import predictions
    from hpc_deepfake.train import timeline as trace

    run.write("summary.json", summary)
    predictions.write(run.path, data, trainer.probabilities)
    if "timeline" in summary:
        print(f"{trace.text(summary['timeline'])}\n  open {options.timeline} in "
              "https://ui.perfetto.dev")
    print(messages.result(summary, run.path), flush=True)
    protocol.warn(data.paths, data.labels.tolist())
    for line in messages.same_answer(summary):
        log.warning(line)
    if not options.no_report:
        print(write_at_the_end(run.path), flush=True)


def _timeline(comm: Comm, options: Namespace, run: RunDir | None) -> Timeline | None:
    """The timeline of ``--timeline``, whose file and that of ``--trace`` are checked; collective.
    """
    mpi.on_root(comm, lambda: check_file("--trace", options.trace, "JSON"))
    if options.timeline is None:
        return None
    from hpc_deepfake.train.timeline import Timeline

    def writable() -> Path:
        path: Path = options.timeline
        if run is not None and path == IN_RUN:
            path = run.path / "timeline.json"
        if not os.access(path.parent, os.W_OK):
            raise InputError(f"--timeline {path}: the folder {path.parent} does not exist or can't "
                             "be written to; give another path")
        check_file("--timeline", path, "JSON", [options.data] if options.data else [])
        return path

    options.timeline = mpi.on_root(comm, writable)
    Timeline.prepare()
    return Timeline(comm, options.timeline)


def _check_tensorboard(comm: Comm, options: Namespace, run: RunDir | None) -> None:
    """Check the folder of ``--tensorboard``; collective."""
    def check() -> None:
        if run is not None and options.tensorboard is not None:
            from hpc_deepfake.train import tensorboard

            if options.tensorboard == IN_RUN:
                options.tensorboard = run.path / "tensorboard"
            tensorboard.check(options.tensorboard, options.resume)

    mpi.on_root(comm, check)


def _show_course(options: Namespace, run: RunDir | None, trainer: Trainer) -> None:
    """Have a trainer show its course in TensorBoard, on rank 0, from where it is."""
    if run is not None and options.tensorboard is not None:
        from hpc_deepfake.network.schedule import schedule_of
        from hpc_deepfake.train.tensorboard import Board

        trainer.board = Board(
            options.tensorboard, trainer.state,
            schedule_of(trainer.settings, trainer.strategy.share[1]), vars(options), trainer.data,
            trainer.settings.seed)


def resource_usage(device: Device) -> dict[str, float]:
    """Of this process: CPU seconds, largest resident set and, with a GPU, most memory there in MB,
    wall-clock seconds."""
    used, on_gpu = resource.getrusage(resource.RUSAGE_SELF), devices.gpu_memory(device)
    return {"cpu_s": used.ru_utime + used.ru_stime, "max_rss_mb": used.ru_maxrss / 1024,
            **({} if on_gpu is None else {"max_gpu_mb": on_gpu / 2**20}),
            "wall_s": time.time() - psutil.Process().create_time()}


def _open(comm: Comm, options: Namespace) -> DataFile:
    """Open the data on every rank, after they have been checked; collective."""
    from hpc_deepfake.data.rows import check_trainable, first_rows, open_data
    from hpc_deepfake.data.synthetic import synthetic
    from hpc_deepfake.train.rundir import check as check_run
    from hpc_deepfake.train.rundir import default_run
    from preprocessing.integrity import require_intact
    from preprocessing.store import open_header

    def drawn() -> DataFile:
        return synthetic(options.synthetic, options.feature, options.seed, options.size or SIZE)

    def check() -> np.ndarray:
        """The rows that the run will use."""
        data = drawn() if options.synthetic else open_data(options.data, options.feature, "mmap")
        if options.size not in (None, data.size):
            raise InputError(f"--size {options.size}: {options.data} has pictures of {data.size} × "
                             f"{data.size}. Leave it out, or preprocess them again with --size "
                             f"{options.size} and another --out")
        check_trainable(data)
        # the members of an ensemble have different ones
        trained = first_rows(data.rows("train"), options.rows if options.seeds == 1 else 0,
                             options.seed)
        return np.sort(np.concatenate([trained, data.rows("validation"), data.rows("test")]))

    mpi.on_root(comm, lambda: check_run(options.run or default_run(), options.resume,
                                           of_ensemble=options.seeds > 1))
    rows = mpi.on_root(comm, check)
    if options.synthetic:
        return drawn()
    path = options.data
    require_intact(mpi.together(comm, partial(open_header, path)), rows, comm)
    if options.stage is not None:
        from hpc_deepfake.data.stage import stage

        path = stage(comm, path, options.stage)
    return open_data(path, options.feature, options.input, comm,
                     masks=registry.says_where(options.network))


def _write_records(comm: Comm, options: Namespace, run: RunDir | None, data: DataFile,
                   device: Device, local_rank: int) -> None:
    """Write ``config.json`` and ``environment.json``; collective. Call after ``prepare``, which
    sets variables of Horovod."""
    from mpi4py import MPI

    from hpc_deepfake.train.rundir import environment

    settings = Settings.of(options)
    compiled = blocks.vectors(settings, options.strategy)
    ranks = comm.gather({"host": MPI.Get_processor_name(), "local_rank": local_rank,
                         "python": sys.executable,
                         "device": device.kind, "name": device.name, "threads": device.threads,
                         "gpu": asdict(own) if (own := device.own) else None,
                         "deterministic": device.deterministic, "compiled": compiled,
                         "input": data.input})

    def write() -> None:
        if run is not None and ranks is not None:
            if note := messages.determinism(run.recorded("config.json"), options, device):
                log.info(note)
            if note := messages.compiled(run.recorded("environment.json"), options, settings,
                                         device, compiled):
                log.info(note)
            run.write("config.json", _values(options, data))
            run.write("environment.json", environment(ranks))

    mpi.on_root(comm, write)


def _values(options: Namespace, data: DataFile) -> dict[str, Any]:
    """The options as ``config.json`` has them."""
    values = {name: str(value) if isinstance(value, Path) else value
              for name, value in vars(options).items() if name != "config"}
    if options.data is not None:
        values["data"] = os.path.abspath(options.data)
    return values


def _allreduce(options: Namespace, device: Device) -> str | None:
    """Name of what sums the gradients, for the summary."""
    from mpi4py import MPI

    if options.strategy in ("sequential", "async"):
        return None
    if device.gpu:
        return "NCCL"
    if options.allreduce == "ring" and "Open MPI" in MPI.Get_library_version():
        return "MPI, ring (forced)"
    return "MPI, the library's choice"


if __name__ == "__main__":
    mpi.run(main, before_mpi)
