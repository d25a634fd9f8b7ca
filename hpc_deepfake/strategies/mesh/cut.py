"""Where a pipeline is cut: into stages of about equal cost, or as the user says.

    python -m hpc_deepfake.strategies.mesh.cut [--network NAME]

measures the cost of each block on this machine and prints the cuts that follow from it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from itertools import accumulate, pairwise
from typing import NamedTuple

from hpc_deepfake.core import mpi
from hpc_deepfake.core.errors import InputError
from hpc_deepfake.core.options import Parser, at_least
from hpc_deepfake.core.text import plural
from hpc_deepfake.network.shapes import CHANNELS, UNITS, Shapes
from hpc_deepfake.strategies.mesh.shards import BLOCKS
from preprocessing.ela import MAX_SIZE, SIZE

_EXAMPLES = """\
examples:
  python -m hpc_deepfake.strategies.mesh.cut
  python -m hpc_deepfake.strategies.mesh.cut --network resnet50 --size 256 --rows 4"""
_EQUAL = 1.02  # costs of stages that differ by less count as equal: then the least is sent
_NAMED = 40  # blocks in a message


class Line(NamedTuple):
    """What a pipeline is cut into: blocks, each of which reads only what the one before outputs.

    Attributes:
        names: of the blocks.
        costs: of each for one picture, forward and backward, in any unit.
        sent: how many numbers each outputs for one picture.
        message: cost of sending or receiving a number.
        inner: block of each layer that can't begin a stage, since it is within the block.
    """

    names: tuple[str, ...]
    costs: tuple[float, ...]
    sent: tuple[int, ...]
    message: float = 0.0
    inner: Mapping[str, str] = {}

    @property
    def stage_cost(self) -> Callable[[int, int], float]:
        """Cost of a stage with the blocks from the first number to before the second."""
        sums = [0.0, *accumulate(self.costs)]
        edges = [0, *(self.message * numbers for numbers in self.sent[:-1]), 0]
        return lambda first, after: sums[after] - sums[first] + edges[first] + edges[after]


def of_table(shapes: Shapes | None = None) -> Line:
    """The blocks of the network ``table`` for pictures of a size."""
    shapes = shapes or Shapes()
    costs = operations(shapes)
    return Line(BLOCKS, tuple(costs[block] for block in BLOCKS),
                tuple(numbers(block, shapes) for block in BLOCKS))


def operations(shapes: Shapes | None = None) -> dict[str, float]:
    """Estimated cost of each block of ``table`` for one picture, forward and backward, in million
    operations.

    Convolutions and dense layers: multiplications and additions, once forward and twice backward
    (for conv1 once, since the gradient of the picture is not needed). Normalisation has little
    arithmetic, but reads and writes its whole input several times: it counts as 150 operations per
    number, which makes the estimate agree with measurements on a CPU (see ``measure``).
    """
    shapes = shapes or Shapes()

    def product(outputs: int, inputs: int, passes: int) -> float:
        return 2e-6 * outputs * inputs * passes

    pixels = {block: shapes.outputs[block][0] * shapes.outputs[block][1] for block in CHANNELS}
    return {"conv1": product(pixels["conv1"] * 32, 27, 2),
            "bn1": 150e-6 * pixels["conv1"] * 32,
            "conv2": product(pixels["conv2"] * 64, 9 * 32, 3),
            "bn2": 150e-6 * pixels["conv2"] * 64,
            "dense1": product(UNITS, shapes.pixels * 64, 3),
            "dense2": product(2, UNITS, 3)}


def numbers(block: str, shapes: Shapes | None = None) -> int:
    """How many numbers a block of ``table`` outputs for one picture."""
    return math.prod((shapes or Shapes()).outputs[block])


def balanced(stages: int, line: Line | None = None) -> list[tuple[str, ...]]:
    """The blocks of each stage, cut so that the most expensive stage is as cheap as possible, and
    among about equal cuts so that the least is sent.

    Args:
        stages: number of stages, at most that of the blocks.
        line: the blocks; None: those of ``table``.
    """
    line = line or of_table()
    cost, count = line.stage_cost, len(line.names)
    bound = _EQUAL * _cheapest(stages, count, cost)
    # by number of blocks in the stages so far: numbers sent, and where the stages begin
    best: dict[int, tuple[int, tuple[int, ...]]] = {0: (0, ())}
    for _ in range(stages):
        before, best = best, {}
        for first, (sent, begins) in before.items():
            for after in range(first + 1, count + 1):
                if cost(first, after) <= bound:
                    more = sent + line.sent[after - 1], (*begins, first)
                    best[after] = min(best.get(after, more), more)
    return _split(best[count][1][1:], line)


def _cheapest(stages: int, count: int, cost: Callable[[int, int], float]) -> float:
    """Cost of the most expensive stage where ``count`` blocks are cut best."""
    worst = [math.inf, *(cost(0, after) for after in range(1, count + 1))]  # of the first blocks
    for stage in range(2, stages + 1):
        worst = [math.inf] * stage + [
            min(max(worst[first], cost(first, after)) for first in range(stage - 1, after))
            for after in range(stage, count + 1)]
    return worst[-1]


def cut(stages: int, begins: str | None = None, line: Line | None = None) -> list[tuple[str, ...]]:
    """The blocks of each stage.

    Args:
        stages: number of stages.
        begins: first block of each stage after the first, such as ``conv2,dense1`` for three
            stages; None: balanced stages.
        line: the blocks; None: those of ``table``.

    Raises:
        InputError: there are fewer blocks than stages, or ``begins`` is wrong.
    """
    line = line or of_table()
    every = line.names
    if stages > len(every):
        why = ": only there a single tensor passes, and branches or layers that are used several " \
              "times aren't cut" if line.inner else ""
        raise InputError(f"--mesh: pipeline={stages} is more than the {plural(len(every), 'block')}"
                         f" that the network can be cut into ({_some(every)}){why}; use at most "
                         f"--mesh pipeline={len(every)}", everywhere=True)
    if not begins:
        return balanced(stages, line)
    names = [name.strip() for name in begins.split(",")]
    example = ",".join(stage[0] for stage in balanced(stages, line)[1:])
    hint = f"for example --stages {example}" if example else "leave --stages out"
    for name in names:
        if name in line.inner:
            raise InputError(f"--stages {begins}: no stage can begin with {name}, which is one of "
                             f"several layers side by side, or between two uses of a layer: name "
                             f"{line.inner[name]}, the first one of them, or another block; {hint}",
                             everywhere=True)
    if any(name not in every[1:] for name in names):
        raise InputError(f"--stages {begins}: name the first block of each stage after the first, "
                         f"out of {_some(every[1:])}; {hint}", everywhere=True)
    places = tuple(every.index(name) for name in names)
    if list(places) != sorted(set(places)):
        raise InputError(f"--stages {begins}: name each block once, in the order of the network, "
                         f"{_some(every)}; {hint}", everywhere=True)
    if len(places) != stages - 1:
        raise InputError(f"--stages {begins} makes {plural(len(places) + 1, 'stage')}, but --mesh "
                         f"asks for pipeline={stages}: name {plural(stages - 1, 'block')}, {hint}",
                         everywhere=True)
    return _split(places, line)


def _split(cuts: Sequence[int], line: Line) -> list[tuple[str, ...]]:
    edges = (0, *cuts, len(line.names))
    return [line.names[start:stop] for start, stop in pairwise(edges)]


def _some(names: Sequence[str]) -> str:
    """Names for a message."""
    return ", ".join(names) if len(names) <= _NAMED else f"{', '.join(names[:_NAMED])}, …"


def main(argv: Sequence[str] | None = None) -> int:
    """Print the measured and estimated costs of the blocks, and the cuts that follow. Returns the
    exit code."""
    from hpc_deepfake.strategies.mesh import measured

    options = _parser().parse(argv)
    line, milliseconds = measured.costs(options.network, options.size, options.rows)
    total, estimated = sum(milliseconds), sum(line.costs)
    own = line._replace(costs=milliseconds, message=line.message * total / estimated)
    width = max(map(len, ("block", *line.names)))
    print(f"{'block':{width}} {'ms':>8} {'share':>7} {'estimated':>10} {'sent':>10}")
    for name, cost, estimate, sent in zip(line.names, own.costs, line.costs, line.sent,
                                          strict=True):
        print(f"{name:{width}} {cost:8.1f} {cost / total:7.1%} {estimate / estimated:10.1%} "
              f"{sent:10,}")
    for stages in range(2, min(len(line.names), options.stages) + 1):
        begins = ",".join(stage[0] for stage in balanced(stages, own)[1:])
        same = "" if balanced(stages, line) == balanced(stages, own) else \
            "   (the default differs)"
        print(f"pipeline={stages}: --stages {begins}{same}")
    return 0


def _parser() -> Parser:
    cli = Parser(prog="python -m hpc_deepfake.strategies.mesh.cut", epilog=_EXAMPLES, description=(
        "Measure what each block of a network costs on this machine, and print where a pipeline\n"
        "should be cut."))
    cli.add_argument("--network", default="table", metavar="NAME",
                     help="network, as for train")
    cli.add_argument("--size", type=at_least(1, MAX_SIZE), default=SIZE, metavar="N",
                     help="width and height of the pictures in pixels")
    cli.add_argument("--rows", type=at_least(1), default=16, metavar="N",
                     help="pictures of a micro-batch")
    cli.add_argument("--stages", type=at_least(2), default=6, metavar="P",
                     help="largest number of stages to print")
    return cli


if __name__ == "__main__":
    mpi.run(lambda _: main())
