"""``hpc-deepfake evaluate``: metrics of a trained model on a data file or a folder."""

from __future__ import annotations

import os
from argparse import Namespace
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

from hpc_deepfake.core import mpi, watchdog
from hpc_deepfake.core.errors import EXIT_USAGE, InputError
from hpc_deepfake.core.files import write_json
from hpc_deepfake.core.log import log
from hpc_deepfake.core.streams import work_matters
from hpc_deepfake.core.text import printable
from hpc_deepfake.evaluate import (
    common,
    figures,
    located,
    members,
    plots,
    robustness,
    text,
    thresholds,
    unlike,
)
from hpc_deepfake.evaluate import options as cli
from hpc_deepfake.evaluate.figures import of as figures_of
from hpc_deepfake.evaluate.material import (
    Material,
    of_rows,
    open_file,
    probabilities,
    trained_on,
)
from hpc_deepfake.evaluate.options import parser
from hpc_deepfake.evaluate.pixels import ERRORS, MODEL
from hpc_deepfake.evaluate.subject import Model, Subject, of_file, of_pictures
from hpc_deepfake.evaluate.thresholds import Rules, choose
from hpc_deepfake.evaluate.thresholds import parse as rules
from hpc_deepfake.network import decision, ensemble, model
from preprocessing import faces, protocol
from preprocessing.catalogue import Catalogue
from preprocessing.ela import FEATURES, computable
from preprocessing.listing import options as listing
from preprocessing.split import PARTS

if TYPE_CHECKING:
    from mpi4py.MPI import Comm

__all__ = ["ERRORS", "MODEL", "Material", "Rules", "choose", "figures_of", "main", "of_rows",
           "open_file", "parser", "probabilities", "rules"]

_NAMED = 10  # pictures that could not be read, that are named


def main(argv: Sequence[str] | None = None, comm: Comm | None = None) -> int:
    """Run the command; with ``comm`` collective. Returns the exit code."""
    options = parser().parse(argv)
    if options.json or options.plots or options.save_threshold:
        work_matters()
    known, catalogue = mpi.on_root(comm, partial(_prepare, options))
    subject = of_file(options, known, comm) if catalogue is None else \
        of_pictures(options, known, catalogue, comm)
    perturbed = robustness.computed(options, known.card, subject, comm)
    watchdog.enter("computing the figures")
    return mpi.on_root(comm, partial(_finish, options, known, subject, perturbed))


def _prepare(options: Namespace) -> tuple[Model, Catalogue | None]:
    """The model's card and, of a folder, its pictures; all options are checked. Rank 0 only."""
    cli.check(options)
    stored = model.read_card(options.model)
    card = decision.in_use(stored, calibration=options.calibration)
    if options.threshold is not None and not thresholds.are_chosen(options.threshold):
        card = thresholds.given(options.threshold, card)
    if options.perturb and not computable(card.feature):
        raise InputError(f"--perturb changes pictures, and the feature of {options.model}, "
                         f"'{card.feature}', can't be computed from pictures: omit --perturb, or "
                         f"name a model of {', '.join(FEATURES)}")
    if card.parameters.crop is not None and (options.perturb or cli.is_folder(options)):
        faces.require()
    if cli.is_folder(options):
        return Model(stored, card, None), _catalogue(options, card)
    return Model(stored, card, trained_on(options.model, cli.data_of(options))), None


def _catalogue(options: Namespace, card: model.Card) -> Catalogue:
    """The pictures of a folder; prints notes about them."""
    if not computable(card.feature):
        raise InputError(f"{options.model} was trained on the feature '{card.feature}', and "
                         f"only {', '.join(FEATURES)} can be computed from pictures: name a data "
                         "file with that feature, or another --model")
    catalogue = listing.catalogue_of(options, cli.data_of(options), one_class=True)
    for note in catalogue.notes:
        print(f"note: {note}", flush=True)
    return catalogue if options.part in (None, "all") else \
        catalogue.only(PARTS.index(options.part))


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
    left = int(others.unlike.sum())
    others = thresholds.with_verdict(others)
    card = thresholds.choose(options.threshold, others, card, record)
    return card, subject, {**thresholds.figures_there(others, card, place), "unlike": left}


def _finish(options: Namespace, known: Model, subject: Subject,
            perturbed: Sequence[robustness.Perturbed]) -> int:
    """Choose thresholds where requested; print and write all figures. Returns the exit code."""
    card, tested, chosen_on = _chosen(options, known.card, subject)
    material, where = tested.material, tested.where
    evaluation = {**figures.of(material, card), "part": subject.part, "chosen_on": chosen_on,
                  "container": subject.container, "unlike": unlike.figures(material, card),
                  "common": common.figures(material, card),
                  "members": members.figures(material, [
                      path.name for path in ensemble.members(options.model) or ()],
                      card.threshold),
                  "where": located.figures(material, card),
                  "perturbed": robustness.figures(perturbed, material, card, subject.container)}
    if evaluation["calibration"]["temperature"]:
        evaluation["calibration"]["temperature"]["fitted"] = subject.fitted
    only = evaluation["one_class"]
    headline = (f"{model.find(options.model)} on {where}, {len(material):,} "
                f"{only['label'] + ' ' if only else ''}images, {card.feature}:")
    print(headline)
    for line in (subject.note, thresholds.note(card, where),
                 protocol.warning(material.paths, material.labels.tolist()),
                 *(f"caveat: {caveat}" for caveat in evaluation["caveats"]),
                 unlike.line(evaluation["unlike"], len(material)),
                 common.line(evaluation["common"], len(material))):
        if line:
            print(line)
    print("\n".join([text.lines(evaluation), *members.lines(evaluation),
                     *located.lines(evaluation["where"]),
                     *robustness.lines(evaluation["perturbed"])]), flush=True)
    if options.json is not None:
        cli.write("--json", options.json, lambda: write_json(options.json, evaluation))
    if options.plots is not None:
        path = options.plots / f"{subject.part}.png"
        cli.write("--plots", path, lambda: plots.save(path, material, card,
                                                      headline.rstrip(":")))
        if evaluation["where"] and evaluation["where"][MODEL]["pictures"]:
            pixels = options.plots / f"{subject.part}-where.png"
            cli.write("--plots", pixels, lambda: plots.save_located(
                pixels, material, evaluation["where"], headline.rstrip(":")))
        if perturbed:
            curves = options.plots / f"{subject.part}-perturbed.png"
            cli.write("--plots", curves, lambda: plots.save_perturbed(
                curves, evaluation["perturbed"], headline.rstrip(":")))
    if options.save_threshold:
        file = thresholds.save(options.model, card, known.stored, where, evaluation)
        log.info("stored in %s, for predict and evaluate: %s", file, decision.described(card))
    for name, reason in subject.rejected[:_NAMED]:
        log.warning("not read: %s: %s", printable(os.fsdecode(name)), reason)
    if len(subject.rejected) > _NAMED:
        log.warning("and %d more", len(subject.rejected) - _NAMED)
    if subject.rejected:
        count = len(subject.rejected)
        log.warning("%d of %d pictures could not be read", count, count + len(subject.material))
    return EXIT_USAGE if subject.rejected else 0
