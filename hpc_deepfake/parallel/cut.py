"""Where a pipeline is cut: stages of about the same cost, or as the user says.

    python -m hpc_deepfake.parallel.cut      measure the blocks' costs here, and the cuts they give
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import combinations, pairwise

from hpc_deepfake.parallel.shards import BLOCKS, CHANNELS, OUTPUTS, PIXELS, UNITS
from preprocessing.errors import InputError


def operations() -> dict[str, float]:
    """Estimated cost of each block for one picture, forward and backward, in million operations.

    Convolutions and dense layers: multiplications and additions, once forward and twice backward
    (conv1 once: nobody needs the picture's gradient). Normalisation does little arithmetic, but
    reads and writes its whole input several times; it counts 150 operations for each number, which
    makes the estimate agree with measurements on a CPU (see ``measure``).
    """
    def product(outputs: int, inputs: int, passes: int) -> float:
        return 2e-6 * outputs * inputs * passes

    pixels = {block: OUTPUTS[block][0] * OUTPUTS[block][1] for block in CHANNELS}
    return {"conv1": product(pixels["conv1"] * 32, 27, 2),
            "bn1": 150e-6 * pixels["conv1"] * 32,
            "conv2": product(pixels["conv2"] * 64, 9 * 32, 3),
            "bn2": 150e-6 * pixels["conv2"] * 64,
            "dense1": product(UNITS, PIXELS * 64, 3),
            "dense2": product(2, UNITS, 3)}


def balanced(stages: int, costs: Mapping[str, float] | None = None) -> list[tuple[str, ...]]:
    """The blocks of each stage, so that the costliest stage costs least; of equal ones, those
    that send least."""
    costs = costs or operations()

    def worth(cuts: tuple[int, ...]) -> tuple[float, int]:
        sent = sum(_numbers(BLOCKS[cut - 1]) for cut in cuts)
        return max(sum(costs[block] for block in stage) for stage in _split(cuts)), sent

    return _split(min(combinations(range(1, len(BLOCKS)), stages - 1), key=worth))


def cut(stages: int, begins: str | None = None) -> list[tuple[str, ...]]:
    """The blocks of each stage; ``begins`` names the first block of each stage but the first
    (``conv2,dense1`` for three stages), None balances them.

    Raises:
        InputError: so many stages can't be had, or the names don't fit.
    """
    if stages > len(BLOCKS):
        raise InputError(f"--mesh: pipeline={stages} is more than the {len(BLOCKS)} blocks that "
                         f"the network can be cut into ({', '.join(BLOCKS)}); take at most "
                         f"--mesh pipeline={len(BLOCKS)}", everywhere=True)
    if not begins:
        return balanced(stages)
    names = [name.strip() for name in begins.split(",")]
    example = ",".join(stage[0] for stage in balanced(stages)[1:])
    hint = f"for example --stages {example}" if example else "leave --stages out"
    if any(name not in BLOCKS[1:] for name in names):
        raise InputError(f"--stages {begins}: name the first block of each stage but the first, "
                         f"out of {', '.join(BLOCKS[1:])}; {hint}", everywhere=True)
    places = tuple(BLOCKS.index(name) for name in names)
    if list(places) != sorted(set(places)):
        raise InputError(f"--stages {begins}: blocks must come in the network's order, each once: "
                         f"{', '.join(BLOCKS)}; {hint}", everywhere=True)
    if len(places) != stages - 1:
        raise InputError(f"--stages {begins} makes {len(places) + 1} stages, --mesh asks for "
                         f"pipeline={stages}: name {stages - 1} blocks, {hint}", everywhere=True)
    return _split(places)


def _split(cuts: tuple[int, ...]) -> list[tuple[str, ...]]:
    edges = (0, *cuts, len(BLOCKS))
    return [BLOCKS[start:stop] for start, stop in pairwise(edges)]


def _numbers(block: str) -> int:
    count = 1
    for length in OUTPUTS[block]:
        count *= length
    return count
