"""A catalogue whose files of the same bytes share a group."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from hpc_deepfake.core import watchdog
from hpc_deepfake.core.text import plural
from preprocessing.listing import copies, groups
from preprocessing.listing.catalogue import Catalogue
from preprocessing.listing.item import locate, some
from preprocessing.listing.keys import BYTES, NAME
from preprocessing.names import parse_path

if TYPE_CHECKING:
    from mpi4py.MPI import Comm


def with_copies(catalogue: Catalogue | None, comm: Comm | None = None) -> Catalogue | None:
    """The catalogue with files of the same bytes in one group; with ``comm`` collective.

    Args:
        catalogue: on rank 0; not used on other ranks.
        comm: all ranks, which share the reading.

    Returns:
        It on rank 0; on other ranks what was given.
    """
    watchdog.enter("comparing files of equal size")
    first: dict[bytes, int] = {}  # row of each file
    for row, path in enumerate(catalogue.paths if catalogue else ()):
        first.setdefault(parse_path(path)[0], row)
    files = list(first)
    found = copies.identical([locate(catalogue.roots, path) for path in files]
                             if catalogue else [], comm)
    if catalogue is None or not found:
        return catalogue
    sets = [[files[number] for number in members] for members in found]
    keys = defaultdict(list, {group: [f"group {group}"] for group in catalogue.groups.tolist()})
    for number, members in enumerate(sets):
        for path in members:
            keys[int(catalogue.groups[first[path]])].append(f"copy {number}")
    joined = groups.components(tuple(keys[group]) for group in catalogue.groups.tolist())
    same = {path for members in sets for path in members}
    rules = [BYTES if rule == NAME and parse_path(path)[0] in same else rule
             for rule, path in zip(catalogue.rules, catalogue.paths)]
    notes = [f"{plural(len(same), 'file')} in {plural(len(sets), 'set')} of the same bytes, each "
             f"set in one group: {_shown(sets)}"]
    both = [members for members in sets
            if len({int(catalogue.labels[first[path]]) for path in members}) > 1]
    if both:
        notes.append(f"{plural(len(both), 'set')} of the same bytes in both classes, so one label "
                     f"is wrong: {_shown(both)}")
    return replace(catalogue, groups=joined, rules=rules, notes=[*catalogue.notes, *notes])


def _shown(sets: Sequence[Sequence[bytes]]) -> str:
    return some([b" = ".join(members[:2]) for members in sets], 2)
