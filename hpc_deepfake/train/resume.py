"""The run directory of a training, new or resumed, and the checkpoint to resume from."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hpc_deepfake.core import mpi
from hpc_deepfake.core.errors import InputError
from hpc_deepfake.network.settings import Settings
from hpc_deepfake.train import checkpoint
from hpc_deepfake.train.rundir import RunDir, default_run

if TYPE_CHECKING:
    from mpi4py.MPI import Comm

    from hpc_deepfake.data.rows import DataFile


def run_directory(comm: Comm, options: Namespace, settings: Settings,
                   data: DataFile) -> tuple[RunDir | None, Any]:
    """The run directory and the checkpoint to go on from; both on rank 0 only."""
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


def _check_same(path: Path, meta: dict[str, Any], settings: Settings, data: DataFile) -> None:
    differing = [f"--{name.replace('_', '-')} {value}" for name, value in meta["settings"].items()
                 if settings.as_dict().get(name) != value]
    if differing:
        raise InputError(f"--resume: the run in {path} was started with {' '.join(differing)}; "
                         "give the same, or choose another --run")
    if meta["data"] != data.header.attributes:
        raise InputError(f"--resume: the run in {path} was trained on another data file than "
                         f"{data.header.path or 'these random pictures'}")
