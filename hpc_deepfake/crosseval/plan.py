"""The models of a matrix, and the programs that train and evaluate them."""

from __future__ import annotations

import os
import sys
from argparse import Namespace
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

from hpc_deepfake.compare import slug
from hpc_deepfake.core.child import launched
from hpc_deepfake.core.errors import InputError
from hpc_deepfake.core.text import plural
from hpc_deepfake.crosseval import scoring
from hpc_deepfake.crosseval.datasets import DataSet, Named, check_fits
from hpc_deepfake.network import ensemble, model, registry
from hpc_deepfake.network.card import Card
from hpc_deepfake.train import planned, predictions, records
from hpc_deepfake.train.options import check
from hpc_deepfake.train.options import parser as train_parser
from preprocessing import ela

# Options of train that the matrix sets itself, and what to use instead.
_SET_HERE = {"data": "use --train", "run": "use --out", "feature": "use --features",
             "network": "use --networks", "epochs": "use --epochs", "seed": "use --seed",
             "threads": "use --threads", "device": "use --device", "seeds": "use --repeats",
             "member": "use --repeats",
             "resume": "leave it out, a matrix always resumes", "no_report": "leave it out"}


@dataclass(frozen=True)
class Training:
    """A network that is trained here.

    Attributes:
        path: run directory.
        processes: number of ranks.
        arguments: of ``python -m hpc_deepfake.train``.
        settings: values of all its options that result from them.
    """

    path: Path
    processes: int
    arguments: tuple[str, ...]
    settings: dict[str, Any]

    result = "summary.json"

    @property
    def name(self) -> str:
        return self.path.name

    @property
    def words(self) -> tuple[str, ...]:
        """For Python."""
        return ("-m", "hpc_deepfake.train", *self.arguments)

    def state(self) -> str:
        """``planned.DONE``, ``STARTED`` or ``TO_DO``.

        Raises:
            InputError: the run directory holds a run with other settings.
        """
        return planned.state(self.path, self.settings)

    def command(self, launcher: str, python: Sequence[str] = (sys.executable,)) -> list[str]:
        """The command that starts it, with the launcher if it has several processes."""
        return [*launched(launcher, self.processes), *python, *self.words]


@dataclass(frozen=True)
class Model:
    """A model of the matrix.

    Attributes:
        run: its run directory, the folder of an ensemble, or a model file.
        data: what it is trained on.
        network: title of the network.
        feature: that it reads.
        repeat: number of the repeat, from 1.
        seed: of its training; None: unknown.
        given: its name, if it is given; empty: it is trained here.
        training: None if it is given.
    """

    run: Path
    data: DataSet
    network: str
    feature: str
    repeat: int
    seed: int | None
    given: str
    training: Training | None

    @property
    def name(self) -> str:
        return self.given or self.run.name

    @property
    def kind(self) -> tuple[str, str, str, str]:
        """What repeats have in common."""
        return self.data.name, self.network, self.feature, self.given


@dataclass(frozen=True)
class Evaluation:
    """The scores of a model on all data sets.

    Attributes:
        of: the model.
        files: of scores, by data set.
        parts: whose rows they have, by data set.
        processes: number of ranks.
        device: of the evaluation.
    """

    of: Model
    files: list[tuple[DataSet, Path, tuple[str, ...]]]
    processes: int
    device: str

    result = "file of scores"

    @property
    def name(self) -> str:
        return f"{self.of.name} on {plural(len(self.files), 'data set')}"

    @property
    def path(self) -> Path:
        return self.files[0][1].parent

    @property
    def words(self) -> tuple[str, ...]:
        """For Python."""
        words = ["-m", "hpc_deepfake.cli", "crosseval", scoring.SUBCOMMAND, "--model",
                 str(self.of.run), "--device", self.device]
        for data, file, parts in self.files:
            words += ["--file", str(data.path), ",".join(parts), str(file)]
        return tuple(words)

    def state(self) -> str:
        """``planned.DONE``, ``STARTED`` or ``TO_DO``."""
        if self.of.training is not None and self.of.training.state() != planned.DONE:
            return planned.TO_DO
        done = [scoring.read(file, self.of.run, data, parts) is not None
                for data, file, parts in self.files]
        return planned.DONE if all(done) else planned.STARTED if any(done) else planned.TO_DO

    def command(self, launcher: str, python: Sequence[str] = (sys.executable,)) -> list[str]:
        """The command that starts it, with the launcher if it has several processes."""
        return [*launched(launcher, self.processes), *python, *self.words]


def trainings(options: Namespace, data: Sequence[DataSet], out: Path, threads: int) -> list[Model]:
    """The models to train, in the order in which they are: repeats are outermost.

    Args:
        options: of the command line.
        data: to train on.
        out: folder of the matrix.
        threads: CPU threads of each rank.

    Raises:
        InputError: options that can't be passed on, or that these networks don't take.
    """
    _check_words(options.words)
    kinds = [(network, feature) for network in options.networks for feature in options.features
             if network != registry.DEFAULT or ela.channels(feature) == 3]
    if data and not kinds:
        raise InputError(f"{registry.DEFAULT} reads one feature, not several at a time: give "
                         "others with --features, or another network, such as unet")
    for network, each in product(options.networks, data):
        if registry.says_where(network) and not each.header.has_masks:
            raise InputError(f"{network} learns from masks, and {each.path} has none: leave one of "
                             "the two out, or preprocess pictures that have ground-truth masks")
    found = []
    for repeat in range(1, options.repeats + 1):
        for each in data:
            for network, feature in kinds:
                own = "" if network == registry.DEFAULT else f"-{slug(network)}"
                run = out / f"{each.slug}-{feature}{own}-r{repeat}"
                seed = options.seed + repeat - 1
                arguments = [
                    "--data", str(each.path), "--feature", feature, "--epochs",
                    str(options.epochs), "--seed", str(seed), "--threads", str(threads),
                    *(["--network", network] if own else []), "--device", options.device,
                    *options.words, "--run", str(run), "--resume", "--no-report"]
                train = train_parser().parse(arguments)
                try:
                    strategy = check(train, options.ranks)
                except InputError as error:
                    raise InputError(f"{network} on {feature}, {plural(options.ranks, 'rank')}: "
                                     f"{error} (give options of train after --)") from None
                settings = planned.settings(train) | {"strategy": strategy}
                found.append(Model(
                    run, each, registry.title(network), feature, repeat, seed, "",
                    Training(run, options.ranks, tuple(arguments), settings)))
    return found


def given_models(models: Sequence[Named], data: Sequence[DataSet]) -> list[Model]:
    """Finished runs, each with the data set that it was trained on.

    Raises:
        InputError: one isn't a finished run, or was trained on none of the data sets.
    """
    found = []
    for name, run in models:
        card = model.read_card(run)
        own = next((each for each in data if each.trained and _same(each.path, trained_on(run))),
                   None)
        if own is None:
            raise InputError(f"--models: {run} was trained on none of the files of --train")
        _check_trained_on(run, own)
        seed = records.read(run).config.get("seed") if (run / "metrics.jsonl").is_file() else None
        found.append(Model(run, own, card.network or registry.DEFAULT, card.feature, 1,
                           seed if isinstance(seed, int) else None, name, None))
    return found


def trained_on(run: Path) -> Path:
    """The data file that a run was trained on.

    Raises:
        InputError: it doesn't say so, or the file isn't there.
    """
    members = ensemble.members(run)
    from_config = planned.config(model.find(members[0] if members else run).parent) or {}
    path = from_config.get("data")
    if not isinstance(path, str) or from_config.get("synthetic"):
        raise InputError(f"--models: {run} doesn't say which data file it was trained on (no data "
                         "in config.json): give the run directory of a training on a data file")
    if not os.path.isfile(path):
        raise InputError(f"--models: the file that {run} was trained on isn't there: {path}. Its "
                         "validation part is needed to choose the threshold, and its pictures to "
                         "find those that other files share with it: put it back")
    return Path(path)


def _check_trained_on(run: Path, data: DataSet) -> None:
    """Raise InputError if the data file has been written again since."""
    for part in predictions.read(run).values():
        if not part.of_file(data.header):
            raise InputError(f"--models: {run} was trained on other pictures than those of "
                             f"{data.path}, which was written again since: train again")


def _same(first: Path, second: Path) -> bool:
    return os.path.realpath(first) == os.path.realpath(second)


def check_all_fit(models: Sequence[Model], data: Sequence[DataSet]) -> None:
    """Check that each model can read each data set.

    Raises:
        InputError: one can't, with the command that makes a file that fits.
    """
    for each in models:
        card: Card | None = None if each.training else model.read_card(each.run)
        parameters = each.data.header.parameters if card is None else card.parameters
        for other in data:
            check_fits(other, each.feature, parameters,
                       f"the model {each.run}" if card else str(each.data.path))


def evaluations(models: Sequence[Model], data: Sequence[DataSet], out: Path, ranks: int,
                device: str) -> list[Evaluation]:
    """The evaluation of each model on all data sets; on its own also the validation part, on which
    its threshold is chosen."""
    found = []
    for each in models:
        files = []
        for other in data:
            parts = [other.part]
            if other is each.data and other.part != "validation":
                parts.insert(0, "validation")
            files.append((other, out / "scores" / slug(each.name) / f"{other.slug}.npz",
                          tuple(parts)))
        found.append(Evaluation(each, files, ranks, device))
    return found


def _check_words(words: Sequence[str]) -> None:
    """Raise InputError if the options after ``--`` have one that the matrix sets itself."""
    for word in words:
        key = word.removeprefix("--").partition("=")[0].replace("-", "_")
        if word.startswith("--") and key in _SET_HERE:
            raise InputError(f"{word.partition('=')[0]} after -- is set by crosseval itself: "
                             f"{_SET_HERE[key]}"
                             + (" before the --" if _SET_HERE[key].startswith("use") else ""))
