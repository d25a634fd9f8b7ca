"""The run directory of a training, new or resumed, and the checkpoint to resume from."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hpc_deepfake.core import mpi
from hpc_deepfake.core.errors import InputError
from hpc_deepfake.core.json_data import dictionary
from hpc_deepfake.core.log import log
from hpc_deepfake.network.settings import Settings
from hpc_deepfake.train import checkpoint, divergence
from hpc_deepfake.train.rundir import RunDir, default_run

if TYPE_CHECKING:
    from mpi4py.MPI import Comm

    from hpc_deepfake.data.rows import DataFile


def run_directory(comm: Comm, options: Namespace, settings: Settings,
                  data: DataFile) -> tuple[RunDir | None, checkpoint.Loaded | None]:
    """Create or reopen the run directory; collective.

    Returns:
        On rank 0 the run directory, and the checkpoint to resume from if there is one; None on
        other ranks.

    Raises:
        InputError: the directory can't be used, or its run can't be resumed with these options.
    """
    run: RunDir | None = None
    loaded: checkpoint.Loaded | None = None

    def make() -> None:
        nonlocal run, loaded
        if options.resume and options.run is None and not default_run().exists():
            raise InputError("--resume: name the run directory to resume with --run DIR")
        run = RunDir(options.run or default_run(), options.resume)
        folder = run.path / "checkpoints"
        if options.resume:
            try:
                newest = checkpoint.load_newest(folder)
            except ValueError as error:
                model = run.path / "model.keras"
                left = f"; {model}, the model of its best epoch, stays" * model.exists()
                raise InputError(f"no checkpoint of {run.path} can be used: {error}. Start a new "
                                 f"run with another --run{left}") from None
            if newest is not None:
                arrays, meta, problems = newest
                if not _is_complete(meta, len(arrays)):
                    raise InputError(f"the newest checkpoint of {run.path} doesn't say which run "
                                     "it belongs to. Start a new run with another --run")
                _check_same(run.path, meta, settings, data)
                for path, problem in zip(checkpoint.found(folder), problems, strict=False):
                    aside = checkpoint.set_aside(path)
                    log.warning(f"warning: {problem}; using the checkpoint before it, and keeping "
                                f"this one as {aside.name}")
                loaded = arrays, meta
            if loaded is None:
                run.forget_from(1)
                print(f"no checkpoint in {run.path}: starting from the beginning", flush=True)
            else:
                state = loaded[1]["state"]
                run.forget_from(state["epoch"])
                print(f"resuming {run.path} {_place(state, options.epochs)}", flush=True)
            diverged = divergence.recorded(run.path)
            if diverged is not None:
                log.warning("warning: this run diverged at step "
                            f"{diverged[0]:,}; with the same options it may do so again")
                run.remove(divergence.RECORD)

    mpi.on_root(comm, make)
    return run, loaded


def _place(state: dict[str, Any], epochs: int) -> str:
    """Where a run continues, in words."""
    if state["epoch"] > epochs:
        return f"after its last epoch, {epochs}"
    return f"in epoch {state['epoch']} after step {state['step']}"


def _is_complete(meta: object, arrays: int) -> bool:
    """Whether the meta data of a checkpoint have what a run is resumed from."""
    known = dictionary(meta)
    state = dictionary(known.get("state"))
    return (all(isinstance(known.get(name), dict) for name in ("settings", "data"))
            and type(known.get("tensors")) is int and 0 <= known["tensors"] <= arrays
            and all(type(state.get(name)) is int and state[name] >= 0
                    for name in ("epoch", "step", "rows_done", "best_epoch")))


def _option(name: str, value: object) -> str:
    """How a run was started, in words."""
    flag = f"--{name.replace('_', '-')}"
    if value is None or value is False:
        return f"without {flag}"
    return f"with {flag}" if value is True else f"with {flag} {value}"


def _check_same(path: Path, meta: dict[str, Any], settings: Settings, data: DataFile) -> None:
    """Raise InputError unless settings and data are those of the checkpoint."""
    # settings that an earlier version didn't have are at their defaults, which do what it did
    begun = {**Settings().as_dict(), **meta["settings"]}
    own = settings.as_dict()
    differing = {name: _option(name, value) for name, value in begun.items()
                 if own.get(name) != value}
    if own["network"] != begun["network"] and all(
            each["dropout"] == (Settings.dropout if each["network"] == "table" else None)
            for each in (begun, own)):
        differing.pop("dropout", None)  # nobody gave it
    if "rate_epochs" in differing and begun["rate_schedule"] == own["rate_schedule"] == "cosine":
        differing["rate_epochs"] += " (where its cosine schedule ends: --epochs, unless given)"
    if differing:
        raise InputError(f"--resume: the run in {path} was started "
                         f"{' and '.join(differing.values())}; give the same options, or choose "
                         "another --run")
    size = dictionary(dictionary(meta["data"]).get("ela")).get("size", data.size)
    if size != data.size:
        what, give = (data.header.path, "that run's data file with --data") if data.header.path \
            else ("--synthetic", f"--size {size}")
        raise InputError(f"--resume: the run in {path} trains a network for pictures of {size} × "
                         f"{size} pixels, and those of {what} have {data.size} × {data.size}: give "
                         f"{give}, or choose another --run")
    if meta["data"] != data.header.attributes:
        raise InputError(f"--resume: the run in {path} was trained on another data file than "
                         f"{data.header.path or 'these random pictures'}: give that file with "
                         "--data, or choose another --run")
