"""The mesh of ranks: which one holds which stage and shard, for which part of the data."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from hpc_deepfake.core.errors import InputError

AXES = ("data", "tensor", "pipeline")


class Place(NamedTuple):
    """Of one rank: index on each axis."""

    data: int
    stage: int
    tensor: int


class Shape(NamedTuple):
    """Number of ranks on each axis. Data is outermost and tensor innermost, so that ranks that
    talk most are neighbours: rank = (data index · pipeline + stage) · tensor + tensor index."""

    data: int = 1
    tensor: int = 1
    pipeline: int = 1

    @property
    def ranks(self) -> int:
        return self.data * self.tensor * self.pipeline

    def __str__(self) -> str:
        return ",".join(f"{axis}={n}" for axis, n in zip(AXES, self, strict=True) if n > 1) \
            or "data=1"

    def place(self, rank: int) -> Place:
        rest, tensor = divmod(rank, self.tensor)
        return Place(*divmod(rest, self.pipeline), tensor)

    def rank(self, place: Place) -> int:
        return (place.data * self.pipeline + place.stage) * self.tensor + place.tensor

    def tensor_group(self, place: Place) -> tuple[int, ...]:
        """Ranks that hold the shards of one stage, in the order of the shards."""
        return tuple(self.rank(place._replace(tensor=t)) for t in range(self.tensor))

    def data_group(self, place: Place) -> tuple[int, ...]:
        """Ranks that hold the same weights."""
        return tuple(self.rank(place._replace(data=d)) for d in range(self.data))

    def groups(self) -> list[tuple[int, ...]]:
        """All tensor and data groups of more than one rank."""
        places = [self.place(rank) for rank in range(self.ranks)]
        every = {group(place) for group in (self.tensor_group, self.data_group)
                 for place in places}
        return sorted(group for group in every if len(group) > 1)


def parse(text: str | None, ranks: int) -> Shape:
    """``data=D,tensor=T,pipeline=P``; an axis that isn't named is 1.

    Raises:
        InputError: not of this form, or for another number of ranks.
    """
    example = f"for {ranks} rank{'s' * (ranks > 1)} for example --mesh {_example(ranks)}"
    if not text:
        raise InputError(f"--strategy mesh: say how the ranks share the work, {example}",
                         everywhere=True)
    shape = Shape(**_axes(text, example))
    if shape.ranks != ranks:
        raise InputError(f"--mesh {text} needs {' · '.join(map(str, shape))} = {shape.ranks} "
                         f"ranks, and there are {ranks}: start so many with mpirun -np "
                         f"{shape.ranks}; {example}", everywhere=True)
    return shape


def grow(text: str, ranks: int) -> Shape:
    """The mesh of these axes with as many data shares as so many ranks make.

    Raises:
        InputError: not of this form, with a data axis of its own, or no multiple of its ranks.
    """
    axes = _axes(text, "for example tensor=2,pipeline=2")
    if "data" in axes:
        raise InputError(f"mesh {text}: leave data out, it grows with the ranks", everywhere=True)
    one = Shape(**axes)
    if ranks % one.ranks:
        raise InputError(f"{ranks} ranks are no multiple of the {one.ranks} of mesh {text}",
                         everywhere=True)
    return one._replace(data=ranks // one.ranks)


def _axes(text: str, example: str) -> dict[str, int]:
    """Sizes of the axes that are named."""
    sizes: dict[str, int] = {}
    for part in text.split(","):
        axis, equals, number = (piece.strip() for piece in part.partition("="))
        if axis not in AXES or axis in sizes or not equals or not number.isascii() \
                or not number.isdigit() or int(number) < 1:
            raise InputError(f"--mesh {text}: '{part}' should be {', '.join(AXES[:-1])} or "
                             f"{AXES[-1]}, each at most once, with a number of at least 1; "
                             f"{example}", everywhere=True)
        sizes[axis] = int(number)
    return sizes


def _example(ranks: int) -> str:
    for tensor, pipeline in ((2, 2), (2, 1)):
        if ranks % (tensor * pipeline) == 0:
            return str(Shape(ranks // (tensor * pipeline), tensor, pipeline))
    return str(Shape(data=ranks))


def bounds(index: int, parts: int, whole: int) -> tuple[int, int]:
    """Where shard ``index`` of ``parts`` begins and ends; sizes differ by one at most."""
    small, larger = divmod(whole, parts)
    return index * small + min(index, larger), (index + 1) * small + min(index + 1, larger)


def sizes(parts: int, whole: int) -> Sequence[int]:
    """Of the shards."""
    return [stop - start for start, stop in (bounds(i, parts, whole) for i in range(parts))]
