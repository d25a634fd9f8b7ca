"""What is evaluated: a part of a data file, or pictures of a folder, with their probabilities."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hpc_deepfake.core import mpi, watchdog
from hpc_deepfake.core.errors import InputError
from hpc_deepfake.data.rows import DataFile
from hpc_deepfake.evaluate import options as cli
from hpc_deepfake.evaluate import originals, pixels, thresholds
from hpc_deepfake.evaluate.material import Material, of_folder, of_rows, open_file, rows_of
from hpc_deepfake.evaluate.thresholds import Plan
from hpc_deepfake.network import ensemble, maps, model
from hpc_deepfake.network.guard import NO_LIST, Guard
from preprocessing.catalogue import Catalogue, with_copies

if TYPE_CHECKING:
    import numpy as np
    from mpi4py.MPI import Comm


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
        rejected: pictures that can't be used, each with the reason.
        fitted: where the temperature was fitted.
        network: the model.
        pictures: the files, where ``--perturb`` needs them, of which the material may lack some.
        masks: those of a data file's rows; None: those of the files.
    """

    where: str
    material: Material
    part: str
    choosing: tuple[str, Material] | None = None
    note: str | None = None
    container: dict[str, Any] | None = None
    rejected: Sequence[tuple[bytes, str]] = ()
    fitted: str = "fitted on the validation part of its training data"
    network: Any = None
    pictures: Catalogue | None = None
    masks: originals.MaskRows | None = None


def of_file(options: Namespace, known: Model, comm: Comm | None = None) -> Subject:
    """A part of a data file; with ``comm`` collective."""
    path, card = cli.data_of(options), known.card

    def opened() -> tuple[DataFile, Plan, np.ndarray, np.ndarray | None]:
        data = open_file(path, card)
        plan = thresholds.plan(options.part, options.threshold, data, known.trained)
        apart = plan.chosen_on not in (None, plan.part)
        return (data, plan, rows_of(data, plan.part),
                rows_of(data, str(plan.chosen_on)) if apart else None)

    watchdog.enter("opening the data")
    data, plan, rows, others = mpi.together(comm, opened)
    files = originals.catalogue(data, rows, options.pictures, comm) if options.perturb else None
    network = _network(options, comm)
    choosing = None
    if others is not None:
        unlike = None if known.trained else mpi.together(
            comm, lambda: Guard.of(card, options.model, pictures=False))
        choosing = (f"the {plan.chosen_on} part",
                    of_rows(network, data, others, comm, unlike, where=False))
    told = bool(known.trained) and plan.part != "test"  # by the note on this part
    guard = mpi.together(comm, lambda: Guard.of(card, options.model, pictures=not told))
    material = of_rows(network, data, rows, comm, guard)
    container = None if options.no_container else _container(path, comm)
    return Subject(f"the {plan.part} part of {data.header.path}", material, plan.part, choosing,
                   _overlap(plan.part, known.trained) or _unlisted(guard, known.trained),
                   container, (),
                   _fitted(plan.part, known.trained), network, files,
                   None if data.masks is None else originals.MaskRows(data, rows))


def of_pictures(options: Namespace, known: Model, catalogue: Catalogue,
                comm: Comm | None = None) -> Subject:
    """A folder, or pictures that the options name; with ``comm`` collective."""
    def visible() -> None:
        for root in catalogue.roots.values():
            if not root.is_dir():
                raise InputError(f"there is no folder {root} on every node: put the pictures on a "
                                 "file system that all nodes see, or evaluate on one node")

    mpi.together(comm, visible)
    part = options.part or "all"
    if options.group_by == "auto":
        listed, catalogue = catalogue, with_copies(catalogue, comm) or catalogue
        for note in catalogue.notes[len(listed.notes):]:  # rank 0 has some
            print(f"note: {note}", flush=True)
    guard = mpi.together(comm, lambda: Guard.of(known.card, options.model))
    network = _network(options, comm)
    material, rejected = of_folder(network, known.card, catalogue, comm, guard,
                                   mean=_mean_mask(network, options, known.card, comm))
    what = "all" if part == "all" else f"the {part} part"
    return Subject(f"{what} of {cli.folder_name(options)}", material, part, note=_unlisted(guard),
                   rejected=rejected, network=network, pictures=catalogue)


def _mean_mask(network: Any, options: Namespace, card: model.Card,
               comm: Comm | None) -> np.ndarray | None:
    """Of the pictures that the network was trained on, uint8 (S, S); None: unknown, or it has no
    map to compare with. Collective."""
    def read() -> np.ndarray | None:
        data = pixels.training_file(options.model, card)
        return None if data is None else pixels.mean_mask(data)

    return mpi.on_root(comm, read) if maps.has(network) else None


def _network(options: Namespace, comm: Comm | None) -> Any:
    """The trained network, on this rank's device, of an ensemble with its members; collective."""
    from hpc_deepfake.network import device

    watchdog.enter("loading the model")
    place = (0, 1) if comm is None else device.local_ranks(comm)
    mpi.together(comm, lambda: device.start(
        options.device, *place, deterministic=options.deterministic))
    return mpi.together(comm, lambda: ensemble.with_members(model.load(options.model)))


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


def _unlisted(guard: Guard, same_file: bool | None = None) -> str | None:
    """A note if it can't be told whether the network has seen these pictures."""
    return None if same_file or not guard.caveats else f"(the model {NO_LIST})"


def _fitted(part: str, same_file: bool | None) -> str:
    """Where the temperature was fitted, as seen from this part of the data file."""
    if part not in ("validation", "all") or same_file is False:
        return Subject.fitted
    where = "these pictures" if part == "validation" else "some of these pictures"
    when = "" if same_file else "if this is its data file, "
    return f"{when}fitted on {where}: on others it gains less"
