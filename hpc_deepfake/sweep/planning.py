"""The plan that a command line stands for, joined with the one in the folder."""

from __future__ import annotations

import statistics
from argparse import Namespace
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from hpc_deepfake.core import holder
from hpc_deepfake.core.errors import InputError
from hpc_deepfake.core.json_data import finite
from hpc_deepfake.core.options import default_data
from hpc_deepfake.core.text import plural
from hpc_deepfake.sweep import plan as plans
from hpc_deepfake.sweep import search
from hpc_deepfake.sweep.plan import DONE, ENDED, Sweep, Trial
from hpc_deepfake.train import records
from preprocessing.store import Header, open_header

_OPTIONS = ("data", "grid", "random", "trials", "repeats", "seed", "ranks", "nodes")
_DRAWS = 20


def planned(options: Namespace, words: Sequence[str]) -> Sweep:
    """The sweep that options and a folder's ``sweep.json`` stand for. Writes nothing.

    Args:
        options: of ``options.parser``.
        words: options of train, the same in all trials.

    Raises:
        InputError: no sweep, an impossible one, or another than that of the folder.
    """
    given = [name for name in _OPTIONS if getattr(options, name) is not None]
    if not given and not words:
        return plans.read(options.folder)
    exists = (options.folder / plans.NAME).exists()
    if not options.grid and not options.random:
        option = f"--{given[0]}" if given else "--"
        raise InputError(f"{option} belongs to the plan of a sweep: give it together with --grid "
                         "or --random" + (f", or leave it out: {options.folder} has its plan "
                                          "already" if exists else ""))
    if options.trials and not options.random:
        raise InputError("--trials is the number of draws of --random: leave it out, or add "
                         "--random")
    new = _new(options, words)
    return plans.added(plans.read(options.folder), new, options.folder) if exists else new


def _new(options: Namespace, words: Sequence[str]) -> Sweep:
    ranks, nodes, seed = options.ranks or 1, options.nodes or 1, options.seed or 0
    if ranks % nodes:
        raise InputError(f"--nodes {nodes}: {plural(ranks, 'rank')} can't be divided evenly among "
                         f"{plural(nodes, 'node')}")
    combinations = search.combinations(
        search.read_grid(options.grid or ()), search.read_random(options.random or ()),
        options.trials or _DRAWS, seed)
    path = options.data or default_data() / "features.h5"
    sweep = plans.make(str(path.absolute()), "", ranks, nodes, words, combinations,
                       options.repeats or 1, seed)
    reading = [trial for trial in sweep.trials if not trial.settings["synthetic"]]
    if not reading:
        if options.data:
            raise InputError("--data and --synthetic: all trials train on synthetic pictures; "
                             "leave --data out")
        return replace(sweep, data="")
    header = open_header(path)
    for trial in reading:
        if (missing := header.lacks(trial.settings["feature"])) is not None:
            raise InputError(f"{path} has no feature '{missing}'; it has "
                             f"{', '.join(header.features)}: choose one of them, or make another "
                             "file with preprocessing --features")
    return replace(sweep, digest=header.digest())


def data_file(sweep: Sweep) -> Header | None:
    """The header of the sweep's data file; None if it has none.

    Raises:
        InputError: it can't be opened, or has changed since the sweep was planned.
    """
    if not sweep.data:
        return None
    header = open_header(Path(sweep.data))
    if header.digest() != sweep.digest:
        raise InputError(f"{sweep.data} has changed since the sweep was planned: figures on other "
                         "data can't be compared. Restore it, or plan another sweep")
    return header


def keep(folder: Path, sweep: Sweep, program: str) -> None:
    """Hold the folder, and write the plan there; both end with this program.

    Raises:
        InputError: it can't be written, or another process holds it.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"cannot create the folder {folder}: {error.strerror}; choose another "
                         "one") from None
    holder.hold(folder, program, "folder")
    if not (folder / plans.NAME).exists() or plans.read(folder) != sweep:
        plans.write(folder, sweep)


def missing(folder: Path, sweep: Sweep) -> list[Trial]:
    """The trials without a result, in their order."""
    return [trial for trial, (state, _) in zip(sweep.trials, plans.states(folder, sweep),
                                               strict=True) if state not in ENDED]


def table(folder: Path, sweep: Sweep) -> str:
    """The trials for a person, a line for each, and how long they take."""
    states = plans.states(folder, sweep)
    lines = [f"{trial.name}  {state:<8}  seed {trial.seed}  {plans.shown(trial.varied)}".rstrip()
             for trial, (state, _) in zip(sweep.trials, states, strict=True)]
    names = [state for state, _ in states]
    left = len(names) - sum(name in ENDED for name in names)
    lines.append(f"{plural(len(names), 'trial')} on {plural(sweep.ranks, 'rank')}: "
                 + ", ".join(f"{names.count(name)} {name}" for name in dict.fromkeys(names)))
    seconds = _seconds(folder, sweep, names)
    if seconds and left:
        took = statistics.median(seconds)
        lines.append(f"finished trials took {took:,.1f} s (median); {left} left: about "
                     f"{took * left / 3600:.2f} hours one after another, "
                     f"{took * left * sweep.nodes / 3600:.2f} node hours")
    return "\n".join(lines)


def _seconds(folder: Path, sweep: Sweep, names: Sequence[str]) -> list[float]:
    """How long each finished trial took."""
    seconds = []
    for trial, name in zip(sweep.trials, names, strict=True):
        if name == DONE:
            took = finite(records.read(plans.path(folder, trial)).summary.get("seconds"))
            seconds += [] if took is None else [took]
    return seconds
