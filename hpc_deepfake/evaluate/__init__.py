"""``hpc-deepfake evaluate``: metrics of a trained model on a data file or a folder."""

from __future__ import annotations

import os
from argparse import Namespace
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hpc_deepfake.core import mpi, watchdog
from hpc_deepfake.core.errors import EXIT_USAGE, InputError
from hpc_deepfake.core.files import write_json
from hpc_deepfake.core.log import log
from hpc_deepfake.core.streams import work_matters
from hpc_deepfake.core.text import printable
from hpc_deepfake.data.rows import DataFile
from hpc_deepfake.evaluate import common, figures, plots, text, thresholds, unlike
from hpc_deepfake.evaluate import options as cli
from hpc_deepfake.evaluate.material import (
    Material,
    of_folder,
    of_rows,
    open_file,
    probabilities,
    rows_of,
    trained_on,
)
from hpc_deepfake.evaluate.options import parser
from hpc_deepfake.evaluate.thresholds import Plan
from hpc_deepfake.network import decision, model
from hpc_deepfake.network.guard import Guard
from preprocessing import protocol
from preprocessing.catalogue import Catalogue, with_copies
from preprocessing.ela import FEATURES
from preprocessing.listing import options as listing
from preprocessing.split import PARTS

if TYPE_CHECKING:
    import numpy as np
    from mpi4py.MPI import Comm

__all__ = ["main", "open_file", "parser", "probabilities"]


@dataclass(frozen=True)
class Model:
    """What is known of the model before it is loaded.

    Attributes:
        stored: its card.
        card: the card with the temperature and, where they are given, the thresholds in use.
        trained: whether it was trained on the data file; None: unknown, or no data file.
    """

    stored: model.Card
    card: model.Card
    trained: bool | None


@dataclass(frozen=True)
class Subject:
    """What is evaluated, once its probabilities are there.

    Attributes:
        where: its name for the headline and the records, such as ``the test part of x.h5``.
        material: its pictures.
        part: of the data file; ``all`` of a folder.
        choosing: the pictures to choose thresholds on, with their name; None: they are given, or
            the same pictures are to be divided into halves.
        note: on how far the network has seen these pictures; None: it has not.
        container: the container baseline.
        fitted: where the temperature was fitted.
    """

    where: str
    material: Material
    part: str
    choosing: tuple[str, Material] | None = None
    note: str | None = None
    container: dict[str, Any] | None = None
    fitted: str = "fitted on the validation part of its training data"


def main(argv: Sequence[str] | None = None, comm: Comm | None = None) -> int:
    """Run the command; with ``comm`` collective. Returns the exit code."""
    options = parser().parse(argv)
    if options.json or options.plots or options.save_threshold:
        work_matters()
    known, catalogue = mpi.on_root(comm, partial(_prepare, options))
    if catalogue is None:
        return _file(options, known, comm)
    return _folder(options, known, catalogue, comm)


def _prepare(options: Namespace) -> tuple[Model, Catalogue | None]:
    """The model's card and, of a folder, its pictures; all options are checked. Rank 0 only."""
    cli.check(options)
    stored = model.read_card(options.model)
    card = decision.in_use(stored, calibration=options.calibration)
    if options.threshold is not None and not thresholds.are_chosen(options.threshold):
        card = thresholds.given(options.threshold, card)
    if cli.is_folder(options):
        return Model(stored, card, None), _catalogue(options, card)
    return Model(stored, card, trained_on(options.model, cli.data_of(options))), None


def _file(options: Namespace, known: Model, comm: Comm | None) -> int:
    path, card = cli.data_of(options), known.card

    def opened() -> tuple[DataFile, Plan, np.ndarray, np.ndarray | None]:
        data = open_file(path, card)
        plan = thresholds.plan(options.part, options.threshold, data, known.trained)
        apart = plan.chosen_on not in (None, plan.part)
        return (data, plan, rows_of(data, plan.part),
                rows_of(data, str(plan.chosen_on)) if apart else None)

    watchdog.enter("opening the data")
    data, plan, rows, others = mpi.together(comm, opened)
    network = _network(options, comm)
    choosing = None
    if others is not None:
        choosing = f"the {plan.chosen_on} part", of_rows(network, data, others, comm)
    told = bool(known.trained) and plan.part != "test"  # by the note on this part
    guard = mpi.together(comm, lambda: Guard.of(card, options.model, pictures=not told))
    material = of_rows(network, data, rows, comm, guard)
    container = None if options.no_container else _container(path, comm)
    subject = Subject(f"the {plan.part} part of {data.header.path}", material, plan.part, choosing,
                      _overlap(plan.part, known.trained), container,
                      _fitted(plan.part, known.trained))
    watchdog.enter("computing the figures")
    return mpi.on_root(comm, lambda: _finish(options, known, subject))


def _catalogue(options: Namespace, card: model.Card) -> Catalogue:
    """The pictures of a folder; prints notes about them."""
    if card.feature not in FEATURES:
        raise InputError(f"{options.model} was trained on the feature '{card.feature}', and "
                         f"only {', '.join(FEATURES)} can be computed from pictures: name a data "
                         "file with that feature, or another --model")
    catalogue = listing.catalogue_of(options, cli.data_of(options), one_class=True)
    for note in catalogue.notes:
        print(f"note: {note}", flush=True)
    return catalogue if options.part in (None, "all") else \
        catalogue.only(PARTS.index(options.part))


def _folder(options: Namespace, known: Model, catalogue: Catalogue, comm: Comm | None) -> int:
    def visible() -> None:
        for root in catalogue.roots.values():
            if not root.is_dir():
                raise InputError(f"there is no folder {root} on every node: put the pictures on a "
                                 "file system that all nodes see, or evaluate on one node")

    mpi.together(comm, visible)
    part = options.part or "all"
    if options.group_by == "auto":
        catalogue = with_copies(catalogue, comm) or catalogue
    guard = mpi.together(comm, lambda: Guard.of(known.card, options.model))
    material, rejected = of_folder(_network(options, comm), known.card, catalogue, comm, guard)

    def finish() -> int:
        what = "all" if part == "all" else f"the {part} part"
        _finish(options, known, Subject(f"{what} of {cli.folder_name(options)}", material, part))
        for path, reason in rejected[:3]:
            log.warning("not read: %s: %s", printable(os.fsdecode(path)), reason)
        if rejected:
            log.warning("%d of %d pictures could not be read", len(rejected), len(catalogue))
        return EXIT_USAGE if rejected else 0

    watchdog.enter("computing the figures")
    return mpi.on_root(comm, finish)


def _network(options: Namespace, comm: Comm | None) -> Any:
    """The trained network, on this rank's device; collective."""
    from hpc_deepfake.network import device

    watchdog.enter("loading the model")
    place = (0, 1) if comm is None else device.local_ranks(comm)
    mpi.together(comm, lambda: device.start(options.device, *place))
    return mpi.together(comm, lambda: model.load(options.model))


def _container(path: Path, comm: Comm | None) -> dict[str, Any] | None:
    from hpc_deepfake.audit import container_baseline

    watchdog.enter("reading the pictures' headers")
    return container_baseline(path, comm=comm)


def _overlap(part: str, same_file: bool | None) -> str | None:
    """A note if the model was trained, or may have been trained, with the help of this part."""
    overlap = {
        "validation": "this part also selected the epoch: figures of a fresh test part would be "
                      "slightly lower",
        "train": "the network was trained on these pictures: the figures don't show how it does on "
                 "others",
        "all": "the network was trained on most of these pictures: use --part test"}.get(part)
    if overlap is None or same_file is False:
        return None
    return f"({overlap})" if same_file else f"(if the model was trained on this file: {overlap})"


def _fitted(part: str, same_file: bool | None) -> str:
    """Where the temperature was fitted, as seen from this part of the data file."""
    if part not in ("validation", "all") or same_file is False:
        return Subject.fitted
    where = "these pictures" if part == "validation" else "some of these pictures"
    when = "" if same_file else "if this is its data file, "
    return f"{when}fitted on {where}: on others it gains less"


def _chosen(options: Namespace, card: model.Card, subject: Subject
            ) -> tuple[model.Card, Subject, dict[str, Any] | None]:
    """The card with thresholds that the options' rules choose, what is left to evaluate them on,
    and their figures on the pictures that chose them."""
    if not thresholds.are_chosen(options.threshold):
        return card, subject, None
    if subject.choosing is not None:
        place, others = subject.choosing
        record = f"{place} of {cli.data_of(options)}"
    else:
        others, tested = thresholds.halves(subject.material)
        whole = subject.where.removeprefix("all of ")
        place, record = "the other half", thresholds.OTHER_HALF + whole
        subject = replace(subject, where=f"one half of {whole}", material=tested)
    card = thresholds.choose(options.threshold, others, card, record)
    return card, subject, thresholds.figures_there(others, card, place)


def _finish(options: Namespace, known: Model, subject: Subject) -> int:
    """Choose thresholds where requested; print and write all figures. Returns the exit code."""
    card, subject, chosen_on = _chosen(options, known.card, subject)
    material, where = subject.material, subject.where
    evaluation = {**figures.of(material, card), "part": subject.part, "chosen_on": chosen_on,
                  "container": subject.container, "unlike": unlike.figures(material, card),
                  "common": common.figures(material, card)}
    if evaluation["calibration"]["temperature"]:
        evaluation["calibration"]["temperature"]["fitted"] = subject.fitted
    only = evaluation["one_class"]
    headline = (f"{model.find(options.model)} on {where}, {len(material):,} "
                f"{only['label'] + ' ' if only else ''}images, {card.feature}:")
    print(headline)
    for line in (subject.note, thresholds.note(card, where),
                 protocol.warning(material.paths, material.labels.tolist()),
                 *(f"caveat: {caveat}" for caveat in evaluation["caveats"])):
        if line:
            print(line)
    for line in (text.lines(evaluation), unlike.line(evaluation["unlike"], len(material)),
                 common.line(evaluation["common"], len(material))):
        if line:
            print(line, flush=True)
    if options.json is not None:
        cli.write("--json", options.json, lambda: write_json(options.json, evaluation))
    if options.plots is not None:
        path = options.plots / f"{subject.part}.png"
        cli.write("--plots", path, lambda: plots.save(path, material, card,
                                                      headline.rstrip(":")))
    if options.save_threshold:
        file = thresholds.save(options.model, card, known.stored, where, evaluation)
        log.info("stored in %s, for predict and evaluate: %s", file, decision.described(card))
    return 0
