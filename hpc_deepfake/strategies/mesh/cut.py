"""Where a pipeline is cut: stages of about the same cost, or as the user says.

    python -m hpc_deepfake.strategies.mesh.cut

measures the blocks' costs on this machine and prints the cuts that they give.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from itertools import combinations, pairwise

from hpc_deepfake.core.errors import InputError
from hpc_deepfake.strategies.mesh.shards import BLOCKS, CHANNELS, OUTPUTS, PIXELS, UNITS


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
        sent = sum(numbers(BLOCKS[cut - 1]) for cut in cuts)
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


def measure(rows: int = 16, repeats: int = 5) -> dict[str, float]:
    """Milliseconds of each block here for so many pictures, forward and backward, the median of
    some; on what TensorFlow was started on."""
    import numpy as np
    import tensorflow as tf

    from hpc_deepfake.network.batchnorm import fused
    from hpc_deepfake.strategies.mesh import layers, shards
    from hpc_deepfake.strategies.mesh.regions import Group

    weights = {one.name: tf.Variable(tf.random.normal(one.shape, stddev=0.05))
               for one in shards.parameters()}
    how = layers.Pass(Group(), "row", tf.float32, tf.float32,
                      lambda x, gamma, beta, _: fused(x, gamma, beta))
    found = {}
    for place, block in enumerate(BLOCKS):
        own = [value for name, value in weights.items() if name.startswith(f"{block}/")]
        x = tf.random.normal((rows, *OUTPUTS[BLOCKS[place - 1]])) if place else \
            tf.cast(tf.random.uniform((rows, 128, 128, 3), 0, 256, tf.int32), tf.uint8)

        @tf.function(autograph=False)
        def both(x: tf.Tensor, block: str = block, own: list[tf.Variable] = own,
                 place: int = place) -> list[tf.Tensor]:
            with tf.GradientTape() as tape:
                tape.watch(x)
                y, _ = layers.stage((block,), x, weights, how)
            return [one for one in tape.gradient(y, [*own, *[x] * bool(place)])
                    if one is not None]

        seconds = []
        for _ in range(repeats + 1):
            began = time.perf_counter()
            both(x)[0].numpy()
            seconds.append(time.perf_counter() - began)
        found[block] = float(np.median(seconds[1:])) * 1e3
    return found


def _split(cuts: tuple[int, ...]) -> list[tuple[str, ...]]:
    edges = (0, *cuts, len(BLOCKS))
    return [BLOCKS[start:stop] for start, stop in pairwise(edges)]


def numbers(block: str) -> int:
    """That a block gives for a picture."""
    count = 1
    for length in OUTPUTS[block]:
        count *= length
    return count


def main() -> None:
    """The table: what blocks cost here, beside the estimate, and the cuts that follow."""
    measured, estimated = measure(), operations()
    whole, all_of_it = sum(measured.values()), sum(estimated.values())
    print(f"{'block':8} {'ms':>8} {'share':>7} {'estimated':>10}")
    for block in BLOCKS:
        print(f"{block:8} {measured[block]:8.1f} {measured[block] / whole:7.1%} "
              f"{estimated[block] / all_of_it:10.1%}")
    for stages in range(2, len(BLOCKS) + 1):
        begins = ",".join(stage[0] for stage in balanced(stages, measured)[1:])
        same = "" if balanced(stages) == balanced(stages, measured) else "   (not the default)"
        print(f"pipeline={stages}: --stages {begins}{same}")


if __name__ == "__main__":
    main()
