"""Which trainings a comparison consists of, with how many ranks and threads each, and their
command lines."""

from __future__ import annotations

import os
import shlex
import sys
from argparse import Namespace
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hpc_deepfake import strategies
from hpc_deepfake.core.errors import InputError
from hpc_deepfake.train.options import parser as train_parser

# Options of train that the comparison decides itself, and what to do instead of giving them.
_OURS = {"data": "--data", "run": "--out", "feature": "--features", "epochs": "--epochs",
         "seed": "--seed", "strategy": "--methods", "threads": "--threads",
         "servers": "--servers", "batch_size": "--batch-size",
         "patience": "nothing: all methods train the same epochs",
         "resume": "nothing: a comparison always goes on", "no_report": "nothing"}
# Options of train that only some methods take; given after --, they go to those alone.
_ONLY = {**dict.fromkeys(("mesh", "stages", "schedule", "tensor_layout", "trace"), ("mesh",)),
         **dict.fromkeys(("max_staleness", "staleness_rate"), ("async",)),
         "sync_every": ("local-sgd",), "shard_group": ("hybrid",),
         "compression": ("sync", "async", "hybrid")}
# Options of train that change neither the course of a run nor its speed on purpose.
_FREE = {"config", "data", "run", "resume", "no_report", "checkpoint_minutes", "keep", "stage",
         "stall_warning", "stall_limit"}


@dataclass(frozen=True)
class Layout:
    """The ranks of one method.

    Attributes:
        processes: all of them. computing: those that train. servers: the others.
        threads: CPU threads of each process. batch: ``--batch-size`` of each. rows: of one update
            of the weights, without ``--accumulate``; None where only the strategy knows.
    """

    processes: int
    computing: int
    servers: int
    threads: int
    batch: int
    rows: int | None

    def words(self) -> str:
        """Such as ``2 + 1 server``."""
        if not self.servers:
            return str(self.processes)
        return f"{self.computing} + {self.servers} server{'s' * (self.servers > 1)}"


def layout(method: str, ranks: int, threads: int, batch: int, *, nodes: int = 1, servers: int = 1,
           within: bool = False, same_batch: bool = False) -> Layout:
    """How ``method`` uses what ``ranks`` ranks of ``threads`` threads have.

    Args:
        batch: rows per rank. nodes: over which the ranks are spread. servers, within: of methods
            with servers; whether these are among the ranks. same_batch: each update of the weights
            sees ``batch * ranks`` rows.

    Raises:
        InputError: no rank would be left to compute.
    """
    whole = batch * ranks
    if method == "sequential":  # alone on the same hardware: all threads of a node
        one = whole if same_batch else batch
        return Layout(1, 1, 0, threads * -(-ranks // nodes), one, one)
    if method == "async":
        workers = ranks - servers if within else ranks
        if workers < 1:
            raise InputError(f"--servers-within: of {ranks} ranks {servers} would serve for async, "
                             "and none compute; raise --ranks or leave async out of --methods")
        one = whole if same_batch else batch  # each worker's batch is an update of its own
        return Layout(workers + servers, workers, servers, threads, one, one)
    if method == "local-sgd":  # each rank takes steps of its own
        return Layout(ranks, ranks, 0, threads, batch, batch)
    return Layout(ranks, ranks, 0, threads, batch, None if method == "mesh" else whole)


@dataclass(frozen=True)
class Training:
    """One run of the comparison.

    Attributes:
        repeat: from 1. path: run directory. arguments: of ``python -m hpc_deepfake.train``.
        settings: all options of train that these arguments mean.
    """

    method: str
    feature: str
    repeat: int
    seed: int
    layout: Layout
    path: Path
    arguments: tuple[str, ...]
    settings: dict[str, Any]

    @property
    def name(self) -> str:
        return self.path.name

    def command(self, launcher: str, python: Sequence[str] = (sys.executable,)) -> list[str]:
        """To start it: under the launcher where it has several processes."""
        words = [] if self.layout.processes == 1 else [
            word.replace("{ranks}", str(self.layout.processes)) for word in shlex.split(launcher)]
        return [*words, *python, "-m", "hpc_deepfake.train", *self.arguments]


def differing(training: Training, config: dict[str, Any]) -> list[str]:
    """Options in which a run's ``config.json`` isn't what is planned, as it has them. What an
    older version did not know is taken as the default."""
    defaults = vars(train_parser().parse([]))
    wanted = training.settings
    return [f"--{key.replace('_', '-')} {config.get(key, defaults[key])}" for key in wanted
            if key not in _FREE and config.get(key, _plain(defaults[key])) != wanted[key]]


def trainings(options: Namespace, out: Path, threads: int) -> list[Training]:
    """All of them, in the order in which they run: repeats outermost, so that a machine that
    becomes slower or faster meanwhile does so to all methods alike.

    Raises:
        InputError: no such method, options that can't be passed on, or too few ranks.
    """
    methods, features = options.methods, options.features
    _check_methods(methods)
    extra = _extra(options.train)
    # job scripts have a device of their own: it is always given
    told = any(word.partition("=")[0] == "--device" for word in options.train)
    cells = [(method, features[0]) for method in methods]
    cells += [(lead(methods), feature) for feature in features[1:]]
    found = []
    for repeat in range(1, options.repeats + 1):
        for method, feature in cells:
            one = layout(method, options.ranks, threads, options.batch_size,
                         nodes=options.nodes, servers=options.servers,
                         within=options.servers_within, same_batch=options.same_batch)
            if one.rows is not None:
                one = Layout(**{**vars(one), "rows": one.rows * extra.accumulate})
            path, seed = out / f"{method}-{feature}-r{repeat}", options.seed + repeat - 1
            arguments = ["--strategy", method, "--feature", feature, "--data", str(options.data),
                         "--epochs", str(options.epochs), "--patience", "0", "--seed", str(seed),
                         "--batch-size", str(one.batch), "--threads", str(one.threads),
                         *([] if told else ["--device", extra.device]),
                         *_for_method(method, options.train)]
            if one.servers and _known("servers"):
                arguments += ["--servers", str(one.servers)]
            arguments += ["--run", str(path), "--resume", "--no-report"]
            settings = {key: _plain(value) for key, value in
                        vars(train_parser().parse(arguments)).items()}
            found.append(Training(method, feature, repeat, seed, one, path, tuple(arguments),
                                  settings))
    return found


def lead(methods: Sequence[str]) -> str:
    """The method that trains on every feature."""
    return "sync" if "sync" in methods else methods[0]


def base_first(features: Sequence[str]) -> list[str]:
    """With the feature first on which all methods are compared: ELA where it is there."""
    return sorted(features, key=lambda one: one != "ela")


def own_threads(ranks: int) -> int:
    """Threads of each of the ranks, if this machine's cores are shared among them."""
    return max(1, len(os.sched_getaffinity(0)) // ranks)


def default_methods() -> list[str]:
    """All that need nothing but ranks."""
    return [name for name in strategies.NAMES if name != "mesh"]


def _check_methods(methods: Sequence[str]) -> None:
    for name in methods:
        if name not in strategies.NAMES:
            raise InputError(f"--methods: there is no method '{name}'; there are "
                             f"{', '.join(strategies.NAMES)}")


def _known(option: str) -> bool:
    """Whether train has this option."""
    return any(action.dest == option for action in train_parser()._actions)


def _extra(words: Sequence[str]) -> Namespace:
    """The options after ``--``, as train understands them.

    Raises:
        InputError: one that the comparison decides itself.
    """
    for word in words:
        key = word.removeprefix("--").partition("=")[0].replace("-", "_")
        if word.startswith("--") and key in _OURS:
            raise InputError(f"{word.partition('=')[0]} after -- is for the comparison to decide; "
                             f"give, before the --: {_OURS[key]}")
    return train_parser().parse(list(words))


def _for_method(method: str, words: Sequence[str]) -> list[str]:
    """The options after ``--`` without those of other methods."""
    kept, words = [], list(words)
    while words:
        word = words.pop(0)
        key = word.removeprefix("--").partition("=")[0].replace("-", "_")
        other = word.startswith("--") and method not in _ONLY.get(key, (method,))
        if not other:
            kept.append(word)
        elif "=" not in word and words and not words[0].startswith("--"):
            words.pop(0)  # its value
    return kept


def _plain(value: object) -> object:
    """As config.json has it."""
    return str(value) if isinstance(value, Path) else value
