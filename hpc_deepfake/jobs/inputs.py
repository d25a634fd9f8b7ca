"""What a job would refuse at its start, found before it is submitted: wrong values of variables,
wrong arguments of its program, and input that doesn't exist.

Each program's own parser judges its arguments. It is loaded by its name, like the programs of
``hpc_deepfake/cli.py``, and left out where the packages that it needs aren't installed, as on the
login node of a site whose jobs run in a container.
"""

from __future__ import annotations

import importlib
import os
from argparse import Namespace
from collections.abc import Mapping, Sequence
from pathlib import Path

from hpc_deepfake.core.errors import InputError
from hpc_deepfake.core.log import log
from hpc_deepfake.core.options import Parser
from hpc_deepfake.jobs.scheduler import log_file
from hpc_deepfake.jobs.script import SLURM
from hpc_deepfake.jobs.script.dialect import Dialect, Directives
from hpc_deepfake.jobs.script.request import Request
from hpc_deepfake.jobs.script.text import variables, work, written
from hpc_deepfake.jobs.site import CLONE

_DEVICES = ("cpu", "gpu", "auto")
# Program: module with its parser, and its options that jobs/lib/job.sh makes of variables.
_PROGRAMS = {
    "train": ("hpc_deepfake.train.options", ("config", "data", "device")),
    "preprocess": ("preprocessing.__main__", ("config", "data=PICTURES")),
    "evaluate": ("hpc_deepfake.evaluate", ("config", "data", "device", "model=RUN")),
    "compare": ("hpc_deepfake.compare", ("config", "data", "methods", "features", "epochs",
                                         "repeats")),
    "crosseval": ("hpc_deepfake.crosseval", (
        "config", "train=TRAIN_DATA", "test=TEST_DATA", "models", "networks", "features", "epochs",
        "repeats", "device"))}
_LISTS = ("train", "test", "models")  # options with several values
_OF_JOB_SH = ("--dry-run", "--stage-env")  # arguments that don't reach the program


def check(text: str, dialect: Dialect, request: Request, directives: Directives, *,
          follows: bool = False) -> None:
    """Refuse a job that would fail at its start. Wrong arguments end the program, as in the job.

    Args:
        text: of the script.
        dialect: of the scheduler.
        request: the changes, with those for the site.
        directives: of the script with these changes.
        follows: whether it starts after another job, which may make its input.

    Raises:
        InputError: what is wrong, and what to give instead.
    """
    values, kind = _values(text, dialect, request), work(text)
    folder = Path(directives.get("chdir") or os.getcwd())
    _check_log(Path(log_file(dialect, directives, "0")).parent)
    _check_values(values, dialect, folder)
    arguments = [word for word in (*values.get("ARGS", "").split(), *request.arguments)
                 if word not in _OF_JOB_SH]
    if kind == "sweep":
        _check_sweep(values, folder, arguments, follows)
    elif kind in ("pipeline", "scaling_study"):
        # each program of a study with preprocessing takes the same arguments
        if "preprocess" not in values.get("KINDS", "").split():
            _given("train", {**values, "DATA": ""}, arguments, folder)
        program, name = ("preprocess", "PICTURES") if kind == "pipeline" else ("train", "DATA")
        used = kind == "pipeline" or "real" in values.get("INPUTS", "").split()
        if not follows and used and values.get(name):
            _check_input(values, Namespace(data=Path(values[name])), program, folder)
    elif kind in _PROGRAMS:
        end = len(arguments)
        # the others are for each training
        if kind in ("compare", "crosseval") and "--" in arguments:
            end = arguments.index("--")
            _given("train", {}, arguments[end + 1:], folder)
        given = _given(kind, values, arguments[:end], folder)
        if kind == "crosseval":
            _check_matrix(given, folder, follows)
        elif not follows:
            _check_input(values, given, kind, folder)


def training_jobs(scheduler: str) -> list[str]:
    """Names of the job scripts that train."""
    return sorted(file.stem for file in (CLONE / "jobs" / scheduler).glob("*.sh")
                  if work(file.read_text(encoding="utf-8")) == "train")


def _values(text: str, dialect: Dialect, request: Request) -> dict[str, str]:
    """The values that the script's variables will have in the job: sbatch, unlike qsub, passes the
    environment on."""
    found, own = {}, {**written(text), **request.variables}
    for name, default in variables(text).items():
        default = request.defaults.get(name) or default
        outside = os.environ.get(name, "") if dialect is SLURM else ""
        found[name] = own.get(name, outside) or default
    return found


def _check_log(folder: Path) -> None:
    if folder.is_dir() and not os.access(folder, os.W_OK | os.X_OK):
        raise InputError(f"the job's log goes to {folder}, where you cannot write, so the job "
                         "would fail without a word: submit from another folder, such as one in "
                         "your scratch space")


def _check_values(values: Mapping[str, str], dialect: Dialect, folder: Path) -> None:
    """Those of variables that every job, or jobs of several kinds, have."""
    config = values.get("CONFIG")
    if config and not os.access(folder / config, os.R_OK):
        raise InputError(f"cannot read CONFIG={config} in {folder}: name a TOML file there, or "
                         "give its whole path")
    for name in ("DEVICE", "EVALUATE_DEVICE"):
        if values.get(name) and values[name] not in _DEVICES:
            raise InputError(f"{name}={values[name]}: give {', '.join(_DEVICES[:-1])} or "
                             f"{_DEVICES[-1]}")
    restarts = values.get("MAX_RESTARTS", "0")
    if not (restarts.isascii() and restarts.isdigit()):
        raise InputError(f"MAX_RESTARTS={restarts}: give a number")
    if "TRAIN" in values and values["TRAIN"] not in (names := training_jobs(dialect.name)):
        raise InputError(f"TRAIN={values['TRAIN']}: give one of {', '.join(names)}")
    if values.get("ONE_JOB", "") not in ("", "1"):
        raise InputError(f"ONE_JOB={values['ONE_JOB']}: give 1, or leave it out")


def _check_sweep(values: Mapping[str, str], folder: Path, arguments: Sequence[str],
                 follows: bool) -> None:
    run = values.get("RUN")
    if not run:
        raise InputError("name the folder of the sweep, like --var RUN=runs/sweep")
    if arguments:
        raise InputError("the plan has the options of all trials (hpc-deepfake sweep plan --help): "
                         f"leave out {' '.join(arguments)}")
    # `sweep submit`, which has the plan, names the trials.
    if not follows and not values.get("TRIALS") and not (folder / run / "sweep.json").is_file():
        raise InputError(f"RUN={run}: that folder holds no sweep. Plan one (hpc-deepfake sweep "
                         "plan --help), or name another folder")


def _check_matrix(given: Namespace, folder: Path, follows: bool) -> None:
    """Data files to train on, or runs; each is there, unless a job before this one makes it."""
    lists = {name: [each for each in value if isinstance(each, tuple)]
             if isinstance(value := getattr(given, name, None), list) else [] for name in _LISTS}
    if not any(getattr(given, name, None) for name in ("train", "models")):
        raise InputError("name data files to train on, like --var TRAIN_DATA='a.h5 b.h5', or "
                         "finished runs, --var MODELS='runs/a runs/b'")
    for name, entries in {} if follows else lists.items():
        for _, path in entries:
            if not (folder / path).exists():
                raise InputError(
                    f"--{name} {path}: there is no such "
                    f"{'run' if name == 'models' else 'data file'}"
                    f"{'' if path.is_absolute() else f' in {folder}'}. Name another one, or submit "
                    "after the job that makes it: --after ID")


def _given(program: str, values: Mapping[str, str], arguments: Sequence[str],
           folder: Path) -> Namespace:
    """The options of a program in its job, as far as they are known here."""
    module, options = _PROGRAMS[program]
    words, named = [], Namespace()
    for option, _, name in (text.partition("=") for text in options):
        value = values.get(name or option.upper())
        if value:
            value = str(folder / value) if option == "config" else value
            several = value.split() if option in _LISTS else []
            words += [f"--{option}", *several] if several else [f"--{option}={value}"]
            setattr(named, option, Path(value))
    try:
        cli: Parser = importlib.import_module(module).parser()
    except ImportError as error:
        log.debug("the arguments are not checked: %s", error)
        return named
    cli.prog = f"hpc-deepfake {program}"
    return cli.parse([*words, *arguments])


def _check_input(values: Mapping[str, str], given: Namespace, program: str,
                 folder: Path) -> None:
    """Raise InputError if a file or a folder that a program reads is not there."""
    pictures = program == "preprocess"
    manifest: Path | None = getattr(given, "manifest", None)
    if manifest is not None and not (folder / manifest).is_file():
        raise InputError(f"--manifest {manifest}: there is no such list of files"
                         f"{'' if manifest.is_absolute() else f' in {folder}'}. Name another one")
    for option in ("data", "authentic", "tampered") if pictures else ("data", "model"):
        path: Path | None = getattr(given, option, None)
        if path is None or ((folder / path).is_dir() if pictures else (folder / path).exists()):
            continue
        variable = {"model": "RUN", "data": "PICTURES" if pictures else "DATA"}.get(option, "")
        source = f"{variable}={path}" if values.get(variable) == str(path) else f"--{option} {path}"
        what = "folder of pictures" if pictures else "run" if option == "model" else "data file"
        raise InputError(f"{source}: there is no such {what}"
                         f"{'' if path.is_absolute() else f' in {folder}'}. Name another one"
                         + ("" if pictures else
                            ", or submit after the job that makes it: --after ID"))
