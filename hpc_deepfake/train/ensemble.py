"""An ensemble (``--seeds``): trainings that differ in their seed alone, in one folder, and what the
mean of their probabilities reaches."""

from __future__ import annotations

import os
from argparse import Namespace
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from hpc_deepfake import metrics
from hpc_deepfake.core import files, json_data
from hpc_deepfake.core.errors import InputError
from hpc_deepfake.core.json_data import dictionary, finite, items
from hpc_deepfake.core.text import number, percent, plural
from hpc_deepfake.metrics import temperature
from hpc_deepfake.network import ensemble, model
from hpc_deepfake.network.ensemble import NAME
from hpc_deepfake.train import planned, predictions, provenance, rundir

if TYPE_CHECKING:
    from hpc_deepfake.data.rows import DataFile
    from hpc_deepfake.network.card import Card

_SHOWN = ("accuracy", "auc", "loss")


@dataclass(frozen=True)
class Member:
    """One training of an ensemble.

    Attributes:
        number: from 0.
        seed: its seed.
        path: its run directory.
        finished: whether it has its results, by the same options.
    """

    number: int
    seed: int
    path: Path
    finished: bool = False

    def options(self, options: Namespace) -> Namespace:
        """Those of this training alone, as if it had been started by itself."""
        own = {"seed": self.seed, "run": self.path, "seeds": 1, "member": None}
        if options.tensorboard not in (None, Path()):
            own["tensorboard"] = options.tensorboard / self.path.name
        return Namespace(**{**vars(options), **own})


@dataclass(frozen=True)
class Plan:
    """An ensemble.

    Attributes:
        folder: with the members' run directories.
        members: all of them.
        due: those that this program trains.
    """

    folder: Path
    members: list[Member]
    due: list[Member]


def plan(options: Namespace) -> Plan:
    """The trainings of an ensemble; nothing is written. Rank 0 only.

    Raises:
        InputError: the folder can't be used.
    """
    if options.resume and options.run is None:
        raise InputError("--resume: name the folder of the ensemble to resume with --run DIR")
    folder: Path = options.run or rundir.default_run()
    rundir.check(folder, options.resume, of_ensemble=True)
    if any((folder / name).exists() for name in ("metrics.jsonl", "checkpoints")):
        raise InputError(f"--run {folder} holds a single run: give --seeds another folder")
    known = ensemble.members(folder) or []
    if known and not options.resume:
        raise InputError(f"{folder} already holds an ensemble: continue it with --resume, or "
                         "choose another --run")
    seeds = range(options.seed, options.seed + options.seeds)
    members = [Member(place, seed, folder / f"seed-{seed}") for place, seed in enumerate(seeds)]
    if [member.path for member in members][:len(known)] != known:
        raise InputError(f"--resume: the ensemble in {folder} was started with the members "
                         f"{', '.join(path.name for path in known)}: give the same --seed, and as "
                         "many --seeds or more")
    members = [replace(member, finished=options.resume and _finished(member, options))
               for member in members]
    chosen = members if options.member is None else [members[options.member]]
    return Plan(folder, members, chosen)


def _finished(member: Member, options: Namespace) -> bool:
    """Whether a member needs no training any more."""
    with suppress(InputError):
        config = planned.config(member.path)
        if config is None or not planned.finished(member.path):
            return False
        wanted = planned.settings(member.options(options))
        return not planned.changed_options(wanted, config, {*planned.IRRELEVANT, "size"}) \
            and os.path.realpath(str(config.get("data"))) == os.path.realpath(options.data)
    return False


def begin(made: Plan, values: dict[str, Any]) -> None:
    """Write the list of the members, and the options as ``config.json``; the same for each program
    that trains some of them. Rank 0 only."""
    with files.writing(made.folder):
        made.folder.mkdir(parents=True, exist_ok=True)
    listed = {"members": [member.path.name for member in made.members],
              "seeds": [member.seed for member in made.members]}
    with suppress(OSError, ValueError):
        before = dictionary(json_data.read(made.folder / NAME))
        if before.get("members") == listed["members"]:
            return
    files.write_json(made.folder / NAME, listed)
    files.write_json(made.folder / "config.json", {**values, "member": None})


def _environment(made: Plan) -> dict[str, Any]:
    """What the last member ran on."""
    with suppress(OSError, ValueError):
        return dictionary(json_data.read(made.members[-1].path / "environment.json"))
    return {}


def complete(made: Plan, data: DataFile) -> str:
    """Write what the members reach together, once all have finished: card, figures, predictions.
    Rank 0 only; the result is the same whichever program does it.

    Returns:
        The figures, as lines to read; or which members are missing.

    Raises:
        InputError: the members don't belong together, or a file can't be written.
    """
    folder, paths = made.folder, [member.path for member in made.members]
    missing = [path.name for path in paths if not planned.finished(path)]
    if missing:
        return (f"{len(paths) - len(missing)} of {plural(len(paths), 'member')} of the ensemble "
                f"have finished; missing: {', '.join(missing)}")
    cards = [model.read_card(path) for path in paths]
    parts = _probabilities(paths, cards)
    means = {part: np.mean(values, 0) for part, (values, _) in parts.items()}
    figures = {part: {"members": [metrics.evaluate(own, labels) for own in values],
                      "ensemble": metrics.evaluate(means[part], labels)}
               for part, (values, labels) in parts.items()}
    predictions.write(folder, data, means)
    files.write_json(folder / "model.json", _card(folder, cards, data, means).as_dict())
    summaries = [dictionary(json_data.read(path / "summary.json")) for path in paths]
    files.write_json(folder / "summary.json", _summary(summaries, figures))
    files.write_json(folder / "environment.json", _environment(made))
    files.write_json(folder / NAME, {
        "members": [path.name for path in paths], "seeds": [member.seed for member in made.members],
        "figures": figures})
    return table(folder, [path.name for path in paths], figures)


def _probabilities(paths: list[Path], cards: list[Card]
                   ) -> dict[str, tuple[list[np.ndarray], np.ndarray]]:
    """The members' calibrated probabilities of the rows of each part, with the labels."""
    read = [predictions.read(path) for path in paths]
    parts: dict[str, tuple[list[np.ndarray], np.ndarray]] = {}
    for part, first in read[0].items():
        values = []
        for path, card, own in zip(paths, cards, read, strict=True):
            if part not in own or not np.array_equal(own[part].rows, first.rows) \
                    or not np.array_equal(own[part].labels, first.labels):
                raise InputError(f"{path} has other {part} pictures than {paths[0]}: an ensemble's "
                                 "members are trained on one data file; train it again")
            values.append(temperature.apply(own[part].probabilities, card.temperature))
        parts[part] = values, first.labels
    return parts


def _card(folder: Path, cards: list[Card], data: DataFile, means: dict[str, np.ndarray]) -> Card:
    """The ensemble's card; thresholds that were stored for these very members stay."""
    card = ensemble.card(folder, cards)
    if "validation" in means:
        figures = provenance.card(data, data.rows("validation"), means["validation"], 0,
                                  None).validation
        card = replace(card, validation={name: value for name, value in (figures or {}).items()
                                         if name != "epoch"})
    with suppress(OSError, ValueError):
        before = model.Card.of(json_data.read(folder / "model.json"))
        if before.weights == card.weights:
            card = replace(card, threshold=before.threshold, lower=before.lower,
                           threshold_chosen=before.threshold_chosen)
    return card


def _summary(summaries: list[dict[str, Any]], figures: dict[str, Any]) -> dict[str, Any]:
    """As the summary of a run: its figures are the ensemble's."""
    def over(name: str) -> list[float]:
        return [value for summary in summaries if (value := finite(summary.get(name))) is not None]

    first = summaries[0]
    same = ("strategy", "ranks", "feature", "monitor", "train_rows", "allreduce", "init")
    return {**{name: first[name] for name in same if name in first}, "members": len(summaries),
            "epochs": int(sum(over("epochs"))), "seconds": sum(over("seconds")),
            **{name: float(np.median(over(name) or [np.nan]))
               for name in ("images_per_s", "wall_images_per_s")},
            **{part: found["ensemble"] for part, found in figures.items()}}


def table(folder: Path, names: list[str], figures: dict[str, Any]) -> str:
    """Figures of the members, their mean and the ensemble's, as lines to read."""
    lines = [f"ensemble of {plural(len(names), 'member')}: {folder}"]
    for part, found in figures.items():
        of = [dictionary(own) for own in items(found.get("members"))]
        rows = [*zip(names, of, strict=False), ("mean of the members", mean(of)),
                ("ensemble", dictionary(found.get("ensemble")))]
        lines.append(f"{part:<22}{'accuracy':>9}{'AUC':>8}{'loss':>8}")
        lines += [f"  {name:<20}{percent(own.get('accuracy')):>9}{number(own.get('auc')):>8}"
                  f"{number(own.get('loss')):>8}" for name, own in rows]
    return "\n".join(lines)


def mean(figures: list[dict[str, Any]]) -> dict[str, float | None]:
    """Mean of each figure over the members; None where one lacks it."""
    columns = {name: [finite(own.get(name)) for own in figures] for name in _SHOWN}
    return {name: None if None in column else float(np.mean(np.array(column, float)))
            for name, column in columns.items()}
