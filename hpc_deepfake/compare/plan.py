"""The trainings of a comparison: their ranks, threads and command lines."""

from __future__ import annotations

import os
import re
import sys
from argparse import Namespace
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hpc_deepfake import strategies
from hpc_deepfake.core.child import launched
from hpc_deepfake.core.errors import InputError
from hpc_deepfake.core.text import plural
from hpc_deepfake.network import registry
from hpc_deepfake.train import planned
from hpc_deepfake.train.options import check
from hpc_deepfake.train.options import parser as train_parser
from hpc_deepfake.train.planned import settings

# Options of train that the comparison sets itself, and what to use instead.
_SET_BY_COMPARE = {"data": "use --data", "run": "use --out", "feature": "use --features",
                   "network": "use --networks",
                   "epochs": "use --epochs", "seed": "use --seed", "strategy": "use --methods",
                   "threads": "use --threads", "servers": "use --servers",
                   "batch_size": "use --batch-size",
                   "patience": "leave it out, all methods train the same epochs",
                   "resume": "leave it out, a comparison always resumes",
                   "seeds": "use --repeats", "member": "use --repeats",
                   "no_report": "leave it out"}
# Options of train that only these methods support; given after --, they are passed to those alone.
_METHODS_WITH = {
    **dict.fromkeys(("mesh", "stages", "schedule", "tensor_layout", "trace"), ("mesh",)),
    **dict.fromkeys(("max_staleness", "staleness_rate"), ("async",)),
    "scale_rate": tuple(name for name in strategies.NAMES if name != "async"),
    "sync_every": ("local-sgd",), "shard_group": ("hybrid",),
    "compression": ("sync", "async", "hybrid")}


@dataclass(frozen=True)
class Layout:
    """The ranks of one method.

    Attributes:
        processes: number of all ranks.
        computing: number of ranks that train.
        servers: number of parameter servers.
        threads: CPU threads of each process.
        batch: ``--batch-size`` of each rank.
        rows: rows of one weight update, without ``--accumulate``; None where only the strategy
            knows.
    """

    processes: int
    computing: int
    servers: int
    threads: int
    batch: int
    rows: int | None

    def description(self) -> str:
        """The number of processes, such as ``2 + 1 server``."""
        if not self.servers:
            return str(self.processes)
        return f"{self.computing} + {plural(self.servers, 'server')}"


def layout(method: str, ranks: int, threads: int, batch: int, *, nodes: int = 1, servers: int = 1,
           within: bool = False, same_batch: bool = False) -> Layout:
    """How ``method`` uses the resources of ``ranks`` ranks with ``threads`` threads each.

    Args:
        method: name of a strategy.
        ranks: number of ranks.
        threads: CPU threads of each rank.
        batch: rows per rank and step.
        nodes: number of nodes that the ranks run on.
        servers: number of servers, for methods with parameter servers.
        within: whether the servers are taken from the ranks.
        same_batch: each weight update sees ``batch * ranks`` rows.

    Raises:
        InputError: no rank would be left to compute.
    """
    global_batch = batch * ranks
    if method == "sequential":  # alone on the same hardware: all threads of a node
        own_batch = global_batch if same_batch else batch
        return Layout(1, 1, 0, threads * -(-ranks // nodes), own_batch, own_batch)
    if method == "async":
        workers = ranks - servers if within else ranks
        if workers < 1:
            raise InputError(f"--servers-within: with {plural(ranks, 'rank')} and "
                             f"{plural(servers, 'server')}, async has no rank left to compute; "
                             "raise --ranks or leave async out of --methods")
        own_batch = global_batch if same_batch else batch  # each worker's batch is an update
        return Layout(workers + servers, workers, servers, threads, own_batch, own_batch)
    if method == "local-sgd":  # each rank takes its own steps
        return Layout(ranks, ranks, 0, threads, batch, batch)
    return Layout(ranks, ranks, 0, threads, batch, None if method == "mesh" else global_batch)


@dataclass(frozen=True)
class Training:
    """One run of the comparison.

    Attributes:
        method: name of the strategy.
        feature: feature of the data file.
        network: as of ``--network``.
        repeat: number of the repeat, from 1.
        seed: its seed.
        layout: its ranks.
        path: run directory.
        arguments: arguments of ``python -m hpc_deepfake.train``.
        settings: values of all options of train that result from the arguments.
    """

    method: str
    feature: str
    network: str
    repeat: int
    seed: int
    layout: Layout
    path: Path
    arguments: tuple[str, ...]
    settings: dict[str, Any]

    result = "summary.json"

    @property
    def name(self) -> str:
        return self.path.name

    @property
    def processes(self) -> int:
        return self.layout.processes

    def state(self) -> str:
        """``planned.DONE``, ``STARTED`` or ``TO_DO``.

        Raises:
            InputError: the run directory holds a run with other settings.
        """
        return planned.state(self.path, self.settings)

    def command(self, launcher: str, python: Sequence[str] = (sys.executable,)) -> list[str]:
        """The command that starts it, with the launcher if it has several processes."""
        return [*launched(launcher, self.layout.processes), *python, "-m", "hpc_deepfake.train",
                *self.arguments]


def trainings(options: Namespace, out: Path, threads: int) -> list[Training]:
    """All trainings, in the order in which they run.

    Repeats are outermost, so that a machine that becomes slower or faster meanwhile does so for
    all methods alike.

    Raises:
        InputError: an unknown method, options that can't be passed on, or too few ranks.
    """
    methods, features, networks = options.methods, options.features, options.networks
    _check_methods(methods)
    train_options = _train_options(options.train)
    # always given explicitly: job scripts have a default device of their own
    has_device = any(word.partition("=")[0] == "--device" for word in options.train)
    cells = [(method, features[0], networks[0]) for method in methods]
    cells += [(feature_method(methods), feature, network) for feature in features
              for network in networks if (feature, network) != (features[0], networks[0])]
    plan = []
    for repeat in range(1, options.repeats + 1):
        for method, feature, network in cells:
            ranks = layout(method, options.ranks, threads, options.batch_size,
                           nodes=options.nodes, servers=options.servers,
                           within=options.servers_within, same_batch=options.same_batch)
            if ranks.rows is not None:
                ranks = Layout(**{**vars(ranks), "rows": ranks.rows * train_options.accumulate})
            own = "" if network == registry.DEFAULT else f"-{slug(network)}"
            path, seed = out / f"{method}-{feature}{own}-r{repeat}", options.seed + repeat - 1
            arguments = ["--strategy", method, "--feature", feature, "--data", str(options.data),
                         "--epochs", str(options.epochs), "--patience", "0", "--seed", str(seed),
                         "--batch-size", str(ranks.batch), "--threads", str(ranks.threads),
                         *(["--network", network] if own else []),
                         *([] if has_device else ["--device", train_options.device]),
                         *_for_method(method, options.train)]
            if ranks.servers and _train_has("servers"):
                arguments += ["--servers", str(ranks.servers)]
            arguments += ["--run", str(path), "--resume", "--no-report"]
            train = train_parser().parse(arguments)
            try:
                check(train, ranks.processes)
            except InputError as error:
                raise InputError(f"--methods: {method} on {plural(ranks.processes, 'rank')}: "
                                 f"{error} (give options of train after --)") from None
            plan.append(Training(method, feature, network, repeat, seed, ranks, path,
                                 tuple(arguments), settings(train)))
    return plan


def feature_method(methods: Sequence[str]) -> str:
    """The method that trains on every feature, and every network."""
    return "sync" if "sync" in methods else methods[0]


def base_first(names: Sequence[str], base: str) -> list[str]:
    """Features or networks with the one that all methods train first: ``base`` if included."""
    return sorted(names, key=lambda name: name != base)


def slug(network: str) -> str:
    """A network's name as a part of a folder's."""
    return re.sub(r"[^\w.]+", "-", registry.title(network))


def own_threads(ranks: int) -> int:
    """Threads of each rank if the cores of this machine are divided among them."""
    return max(1, len(os.sched_getaffinity(0)) // ranks)


def default_methods() -> list[str]:
    """All methods that need no options of their own."""
    return [name for name in strategies.NAMES if name != "mesh"]


def _check_methods(methods: Sequence[str]) -> None:
    for name in methods:
        if name not in strategies.NAMES:
            raise InputError(f"--methods: unknown method '{name}'; choose from "
                             f"{', '.join(strategies.NAMES)}")


def _train_has(option: str) -> bool:
    """Whether train has this option."""
    return any(action.dest == option for action in train_parser()._actions)


def _train_options(words: Sequence[str]) -> Namespace:
    """Values of the options after ``--``.

    Raises:
        InputError: an option that the comparison sets itself.
    """
    for word in words:
        key = word.removeprefix("--").partition("=")[0].replace("-", "_")
        if word.startswith("--") and key in _SET_BY_COMPARE:
            raise InputError(f"{word.partition('=')[0]} after -- is set by compare itself: "
                             f"{_SET_BY_COMPARE[key]}"
                             + (" before the --" if _SET_BY_COMPARE[key].startswith("use") else ""))
    return train_parser().parse(list(words))


def _for_method(method: str, words: Sequence[str]) -> list[str]:
    """The options after ``--`` without those that only other methods support."""
    kept, words = [], list(words)
    while words:
        word = words.pop(0)
        key = word.removeprefix("--").partition("=")[0].replace("-", "_")
        unsupported = word.startswith("--") and method not in _METHODS_WITH.get(key, (method,))
        if not unsupported:
            kept.append(word)
        elif "=" not in word and words and not words[0].startswith("--"):
            words.pop(0)  # its value
    return kept
