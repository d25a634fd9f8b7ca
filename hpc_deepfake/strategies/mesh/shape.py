"""The mesh of ranks: which rank has which stage, shard and share of the data."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from hpc_deepfake.core.errors import InputError
from hpc_deepfake.core.text import plural, whole_number

AXES = ("data", "tensor", "pipeline")


class Place(NamedTuple):
    """Index of a rank on each axis."""

    data: int
    stage: int
    tensor: int


class Shape(NamedTuple):
    """Number of ranks on each axis.

    Data is the outermost axis and tensor the innermost, so that the ranks that exchange most are
    neighbours: rank = (data index · pipeline + stage) · tensor + tensor index.
    """

    data: int = 1
    tensor: int = 1
    pipeline: int = 1

    @property
    def ranks(self) -> int:
        """Number of ranks of the mesh."""
        return self.data * self.tensor * self.pipeline

    def __str__(self) -> str:
        axes = zip(AXES, self, strict=True)
        return ",".join(f"{axis}={size}" for axis, size in axes if size > 1) or "data=1"

    def place(self, rank: int) -> Place:
        """Where a rank is."""
        rest, tensor = divmod(rank, self.tensor)
        return Place(*divmod(rest, self.pipeline), tensor)

    def rank(self, place: Place) -> int:
        """The rank at a place."""
        return (place.data * self.pipeline + place.stage) * self.tensor + place.tensor

    def tensor_group(self, place: Place) -> tuple[int, ...]:
        """The ranks that hold the shards of one stage, in the order of the shards."""
        return tuple(self.rank(place._replace(tensor=t)) for t in range(self.tensor))

    def data_group(self, place: Place) -> tuple[int, ...]:
        """The ranks that hold the same weights."""
        return tuple(self.rank(place._replace(data=d)) for d in range(self.data))

    def groups(self) -> list[tuple[int, ...]]:
        """All tensor and data groups of more than one rank."""
        places = [self.place(rank) for rank in range(self.ranks)]
        groups = {group(place) for group in (self.tensor_group, self.data_group)
                  for place in places}
        return sorted(group for group in groups if len(group) > 1)


def parse(text: str | None, ranks: int) -> Shape:
    """The shape that ``data=D,tensor=T,pipeline=P`` gives; an axis that is left out is 1.

    Raises:
        InputError: ``text`` is of another form, or for another number of ranks.
    """
    example = f"for {plural(ranks, 'rank')} for example --mesh {_example(ranks)}"
    if not text:
        raise InputError(f"--strategy mesh: say how the ranks share the work, {example}",
                         everywhere=True)
    shape = Shape(**_axes(text, example))
    if shape.ranks != ranks:
        raise InputError(f"--mesh {text} needs {' · '.join(map(str, shape))} = "
                         f"{plural(shape.ranks, 'rank')}, but there are {ranks}: start it with "
                         f"mpirun -np {shape.ranks}, or change --mesh; {example}", everywhere=True)
    return shape


def grow(text: str, ranks: int) -> Shape:
    """The mesh of the axes in ``text``, with as many data shares as fit the number of ranks.

    Raises:
        InputError: ``text`` is of another form or has a data axis, or ``ranks`` is not a multiple
            of its ranks.
    """
    axes = _axes(text, "for example tensor=2,pipeline=2")
    if "data" in axes:
        raise InputError(f"mesh {text}: leave data out, it follows from the number of ranks",
                         everywhere=True)
    single = Shape(**axes)
    if ranks % single.ranks:
        raise InputError(f"{plural(ranks, 'rank')} can't be divided into meshes {text} of "
                         f"{plural(single.ranks, 'rank')}", everywhere=True)
    return single._replace(data=ranks // single.ranks)


def _axes(text: str, example: str) -> dict[str, int]:
    """Sizes of the axes in ``text``."""
    sizes: dict[str, int] = {}
    for part in text.split(","):
        axis, equals, number = (piece.strip() for piece in part.partition("="))
        if axis not in AXES or axis in sizes or not equals or not number.isascii() \
                or not whole_number(number):
            raise InputError(f"--mesh {text}: '{part}' should be {', '.join(AXES[:-1])} or "
                             f"{AXES[-1]}, each at most once, with a number of at least 1; "
                             f"{example}", everywhere=True)
        sizes[axis] = int(number)
    return sizes


def _example(ranks: int) -> str:
    """A mesh of this number of ranks."""
    for tensor, pipeline in ((2, 2), (2, 1)):
        if ranks % (tensor * pipeline) == 0:
            return str(Shape(ranks // (tensor * pipeline), tensor, pipeline))
    return str(Shape(data=ranks))


def bounds(index: int, parts: int, whole: int) -> tuple[int, int]:
    """Begin and end of shard ``index`` of ``parts``; sizes differ by at most one."""
    small, larger = divmod(whole, parts)
    return index * small + min(index, larger), (index + 1) * small + min(index + 1, larger)


def sizes(parts: int, whole: int) -> Sequence[int]:
    """Sizes of the shards."""
    return [stop - start for start, stop in (bounds(i, parts, whole) for i in range(parts))]
