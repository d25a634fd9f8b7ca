"""A sweep as data: its trials, what decides their content, and the state of each."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Collection, Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from hpc_deepfake.core import json_data
from hpc_deepfake.core.errors import InputError, reason
from hpc_deepfake.core.files import write_json
from hpc_deepfake.core.json_data import dictionary, items
from hpc_deepfake.core.options import Parser
from hpc_deepfake.core.text import plural
from hpc_deepfake.sweep.search import Combination
from hpc_deepfake.train import planned
from hpc_deepfake.train.options import check
from hpc_deepfake.train.options import parser as train_parser

NAME = "sweep.json"
TRIALS = "trials"  # folder of the run directories
DONE, DIVERGED, STOPPED, FAILED, STARTED, MISSING = (
    "done", "diverged", "stopped", "failed", "started", "missing")
ENDED = (DONE, DIVERGED)  # states that are results
# Options that the sweep, its trials or their jobs set, or that others' values stand for.
_OWN = ("data", "run", "resume", "no_report", "device", "recipe")
_OF_PLACE = {"device", "timeline", "trace"}  # decide where a trial computes or what it records
_MOST = 10_000  # trials


@dataclass(frozen=True)
class Trial:
    """One training of a sweep.

    Attributes:
        number: from 1.
        varied: values of the options that the sweep varied when the trial was planned.
        repeat: number of the repeat, from 1.
        seed: its seed.
        arguments: of train, besides those of the data file, the run directory and the device.
    """

    number: int
    varied: Combination
    repeat: int
    seed: int
    arguments: tuple[str, ...]

    @property
    def name(self) -> str:
        return f"{self.number:03}"

    @cached_property
    def settings(self) -> dict[str, Any]:
        """Values of all options of train, as ``config.json`` has them."""
        return planned.settings(train_parser().parse(self.arguments))


@dataclass(frozen=True)
class Sweep:
    """A sweep: all that decides the content of its trials.

    Attributes:
        data: path of the data file; empty if all trials train on synthetic pictures.
        digest: of the data file.
        ranks: of each trial.
        nodes: that these are spread over.
        device: value of train's ``--device``.
        options: of train, the same in all trials.
        trials: in the order in which they run.
    """

    data: str
    digest: str
    ranks: int
    nodes: int
    device: str
    options: tuple[str, ...]
    trials: tuple[Trial, ...] = ()

    @property
    def varied(self) -> list[str]:
        """Names of the options that trials vary, in the order of the plan."""
        return list(dict.fromkeys(name for trial in self.trials for name in trial.varied))

    @property
    def monitor(self) -> str:
        """The metric that selects epochs, and ranks trials."""
        return str(self.trials[0].settings["monitor"])

    def arguments(self, folder: Path, trial: Trial) -> list[str]:
        """All arguments of train but the device."""
        return [*trial.arguments, *(["--data", self.data] if self.data else []), "--run",
                str(path(folder, trial)), "--resume", "--no-report"]

    def trial(self, number: int) -> Trial:
        """The trial with this number.

        Raises:
            InputError: there is none.
        """
        if not 1 <= number <= len(self.trials):
            raise InputError(f"there is no trial {number}: the sweep has "
                             f"{plural(len(self.trials), 'trial')}, counted from 1")
        return self.trials[number - 1]


def make(data: str, digest: str, ranks: int, nodes: int, options: Sequence[str],
         combinations: Iterable[Combination], repeats: int, seed: int) -> Sweep:
    """A sweep, checked as train would check each trial.

    Repeats are outermost, so that every combination has a first result early.

    Args:
        data: see ``Sweep``.
        digest: see ``Sweep``.
        ranks: see ``Sweep``.
        nodes: see ``Sweep``.
        options: of train, the same in all trials.
        combinations: values of the options to vary.
        repeats: trials of each combination.
        seed: of the first repeat.

    Raises:
        InputError: options that the sweep sets itself, or an impossible trial.
    """
    cli, base, combined = train_parser(), _base(options), list(combinations)
    _refuse_twice(options, {name for combination in combined for name in combination})
    if len(combined) * repeats > _MOST:
        raise InputError(f"this sweep would have {len(combined) * repeats:,} trials, and at most "
                         f"{_MOST:,} are possible: give fewer values, or draw some with --random "
                         "and --trials")
    trials: list[Trial] = []
    for repeat in range(1, repeats + 1):
        for combination in combined:
            # parsed with all others, whose values may depend on them
            own = cli.parse([*options, *_words({**combination, "seed": seed + repeat - 1})])
            try:
                own.strategy = check(own, ranks)
            except InputError as error:
                raise InputError(f"{shown(combination)} on {plural(ranks, 'rank')}: "
                                 f"{error}") from None
            values = planned.settings(Namespace(**combination))
            trials.append(Trial(len(trials) + 1, values, repeat, own.seed,
                                tuple(cli.words(own, _OWN))))
    return Sweep(data, digest, ranks, nodes, base.device,
                 tuple(cli.words(base, (*_OWN, "seed"))), tuple(trials))


def _base(options: Sequence[str]) -> Namespace:
    base = train_parser().parse(list(options))
    instead = {"data": "give --data before the --", "run": "each trial has its own",
               "resume": "a sweep always resumes", "no_report": "the sweep has a report",
               "seed": "give --seed before the --",
               "seeds": "give --repeats before the --", "member": "leave it out"}
    default = vars(train_parser().parse([]))
    for name, advice in instead.items():
        if getattr(base, name) != default[name]:
            raise InputError(f"--{name.replace('_', '-')} after -- (or in its --config) is set by "
                             f"the sweep itself: {advice}")
    return base


def _words(values: Combination) -> list[str]:
    """A command line for values of options; a switch is true or false."""
    return [word for name, value in values.items() if value is not False
            for word in (f"--{name.replace('_', '-')}", str(value))[:1 if value is True else 2]]


def _refuse_twice(options: Sequence[str], varied: Collection[str]) -> None:
    """Raise InputError if the words for all trials set an option that the sweep varies. Those of
    their ``--config`` file don't: they are defaults."""
    unset = Namespace(**dict.fromkeys(varied))  # argparse keeps what a namespace has already
    for name, value in vars(train_parser().parse_args(list(options), unset)).items():
        if name in varied and value is not None:
            option = f"--{name.replace('_', '-')}"
            raise InputError(f"the sweep varies {option}, and {option} {value_text(value)} after "
                             "-- sets it for all trials: leave it out after --, or in --grid and "
                             "--random")


def shown(varied: Combination) -> str:
    """Values of options in words, such as ``learning-rate 0.001, sync-bn true``."""
    return ", ".join(f"{name.replace('_', '-')} {value_text(value)}"
                     for name, value in varied.items())


def value_text(value: object) -> str:
    """A value as a table shows it."""
    return str(value).lower() if isinstance(value, bool) else str(value)


def added(old: Sweep, new: Sweep, folder: Path) -> Sweep:
    """The old sweep with those trials of the new one that it doesn't have, at its end.

    Raises:
        InputError: they differ in what all trials share.
    """
    for name, option in (("data", "--data"), ("digest", "--data"), ("ranks", "--ranks"),
                         ("nodes", "--nodes"), ("device", "-- --device"), ("options", "--")):
        was, now = getattr(old, name), getattr(new, name)
        if was != now and not (name == "options" and _meaning(train_parser(), was)
                               == _meaning(train_parser(), now)):
            value = " ".join(was) if name == "options" else was
            text = f"with {option} {value}" if value else \
                f"without {'options after --' if name == 'options' else option}"
            if name == "digest":
                text = f"with another state of {old.data}"
            raise InputError(f"the sweep in {folder} was planned {text}: all of its trials "
                             "must have the same. Give the same, or choose another folder")
    cli = train_parser()
    present = {_meaning(cli, trial.arguments) for trial in old.trials}
    more = [trial for trial in new.trials if _meaning(cli, trial.arguments) not in present]
    first = len(old.trials) + 1
    return replace(old, trials=(*old.trials, *(
        replace(trial, number=number) for number, trial in enumerate(more, first))))


def _meaning(cli: Parser, words: Sequence[str]) -> frozenset[tuple[str, Any]]:
    """What a command line says, whose words an earlier version may have in another order."""
    return frozenset(vars(cli.parse(list(words))).items())


def path(folder: Path, trial: Trial) -> Path:
    """The trial's run directory."""
    return folder / TRIALS / trial.name


def write(folder: Path, sweep: Sweep) -> None:
    """Write ``sweep.json`` whole.

    Raises:
        InputError: it can't be written.
    """
    write_json(folder / NAME, asdict(sweep))


def read(folder: Path) -> Sweep:
    """The sweep that a folder holds.

    Raises:
        InputError: none, or its plan is damaged.
    """
    try:
        stored = dictionary(json_data.read(folder / NAME))
        trials = tuple(Trial(**{**dictionary(trial), "arguments": tuple(items(trial["arguments"]))})
                       for trial in items(stored["trials"]))
        sweep = Sweep(**{**stored, "options": tuple(items(stored["options"])), "trials": trials})
        _check(sweep)
        return sweep
    except FileNotFoundError:
        raise InputError(f"{folder} holds no sweep: there is no {NAME}. Plan one, like\n  "
                         f"hpc-deepfake sweep plan {folder} --data casia2.h5 --grid "
                         "learning-rate=1e-4,3e-4") from None
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(f"cannot read {folder / NAME}: {reason(error)}. Move it away and plan the "
                         "sweep again with the same options: finished trials are kept") from None


def _check(sweep: Sweep) -> None:
    """Raise ValueError or TypeError if a sweep can't be one that ``write`` wrote."""
    texts = (sweep.data, sweep.digest, sweep.device, *sweep.options,
             *(word for trial in sweep.trials for word in trial.arguments))
    numbers = (sweep.ranks, sweep.nodes, *(trial.repeat for trial in sweep.trials))
    if not (sweep.trials and all(isinstance(text, str) for text in texts)
            and all(type(number) is int and 1 <= number < 1 << 31 for number in numbers)
            and [trial.number for trial in sweep.trials] == list(range(1, len(sweep.trials) + 1))
            and all(isinstance(trial.varied, dict) and type(trial.seed) is int
                    for trial in sweep.trials)):
        raise ValueError("an impossible trial, or none")


def state(folder: Path, trial: Trial) -> tuple[str, str]:
    """``done``, ``diverged``, ``stopped`` (can be resumed), ``failed``, ``started`` or ``missing``,
    and the reason.

    Raises:
        InputError: the run directory holds a run with other options.
    """
    run = path(folder, trial)
    config = planned.config(run)
    if config is not None:
        changed = planned.changed_options(trial.settings, config,
                                          planned.IRRELEVANT | _OF_PLACE)
        if changed:
            raise InputError(f"{run} holds a run with {' '.join(changed)}, unlike trial "
                             f"{trial.number} of the sweep: move it away, and the trial is "
                             "repeated")
        if planned.finished(run):
            return DONE, ""
    diverged = planned.divergence(run)
    if diverged:
        return DIVERGED, diverged
    code = planned.outcome(run / "jobs")
    if code == "75":
        return STOPPED, "stopped by a signal, with a checkpoint"
    if code not in ("", "0"):
        error = planned.first_error(run / "jobs")
        return FAILED, f"exit code {code}" + (f": {error}" if error else "")
    if config is not None or any((run / "jobs").glob("*.env")):
        return STARTED, "started, but not ended: running, or killed"
    return MISSING, "not run"


def states(folder: Path, sweep: Sweep) -> list[tuple[str, str]]:
    """The state of each trial."""
    return [state(folder, trial) for trial in sweep.trials]
