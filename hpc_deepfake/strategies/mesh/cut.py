"""Where a pipeline is cut: into stages of about equal cost, or as the user says.

    python -m hpc_deepfake.strategies.mesh.cut

measures the cost of each block on this machine and prints the cuts that follow from it.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from itertools import combinations, pairwise

from hpc_deepfake.core.errors import InputError
from hpc_deepfake.core.text import plural
from hpc_deepfake.network.shapes import CHANNELS, OUTPUTS, PIXELS, UNITS
from hpc_deepfake.strategies.mesh.shards import BLOCKS


def operations() -> dict[str, float]:
    """Estimated cost of each block for one picture, forward and backward, in million operations.

    Convolutions and dense layers: multiplications and additions, once forward and twice backward
    (for conv1 once, since the gradient of the picture is not needed). Normalisation has little
    arithmetic, but reads and writes its whole input several times: it counts as 150 operations per
    number, which makes the estimate agree with measurements on a CPU (see ``measure``).
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
    """The blocks of each stage, cut so that the most expensive stage is as cheap as possible, and
    among equal cuts so that the least is sent.

    Args:
        stages: number of stages.
        costs: of each block; None: those of ``operations``.
    """
    costs = costs or operations()

    def worth(cuts: tuple[int, ...]) -> tuple[float, int]:
        sent = sum(numbers(BLOCKS[cut - 1]) for cut in cuts)
        return max(sum(costs[block] for block in stage) for stage in _split(cuts)), sent

    return _split(min(combinations(range(1, len(BLOCKS)), stages - 1), key=worth))


def cut(stages: int, begins: str | None = None) -> list[tuple[str, ...]]:
    """The blocks of each stage.

    Args:
        stages: number of stages.
        begins: first block of each stage after the first, such as ``conv2,dense1`` for three
            stages; None: balanced stages.

    Raises:
        InputError: there are fewer blocks than stages, or ``begins`` is wrong.
    """
    if stages > len(BLOCKS):
        raise InputError(f"--mesh: pipeline={stages} is more than the {len(BLOCKS)} blocks that "
                         f"the network can be cut into ({', '.join(BLOCKS)}); use at most "
                         f"--mesh pipeline={len(BLOCKS)}", everywhere=True)
    if not begins:
        return balanced(stages)
    names = [name.strip() for name in begins.split(",")]
    example = ",".join(stage[0] for stage in balanced(stages)[1:])
    hint = f"for example --stages {example}" if example else "leave --stages out"
    if any(name not in BLOCKS[1:] for name in names):
        raise InputError(f"--stages {begins}: name the first block of each stage after the first, "
                         f"out of {', '.join(BLOCKS[1:])}; {hint}", everywhere=True)
    places = tuple(BLOCKS.index(name) for name in names)
    if list(places) != sorted(set(places)):
        raise InputError(f"--stages {begins}: name each block once, in the order of the network, "
                         f"{', '.join(BLOCKS)}; {hint}", everywhere=True)
    if len(places) != stages - 1:
        raise InputError(f"--stages {begins} makes {plural(len(places) + 1, 'stage')}, but --mesh "
                         f"asks for pipeline={stages}: name {plural(stages - 1, 'block')}, {hint}",
                         everywhere=True)
    return _split(places)


def measure(rows: int = 16, repeats: int = 5) -> dict[str, float]:
    """Measured milliseconds of each block, forward and backward, on TensorFlow's current device.

    Args:
        rows: number of pictures.
        repeats: number of runs, of which the median is taken.
    """
    import numpy as np
    import tensorflow as tf

    from hpc_deepfake.network.batchnorm import fused
    from hpc_deepfake.strategies.mesh import layers, shards
    from hpc_deepfake.strategies.mesh.regions import Group

    weights = {parameter.name: tf.Variable(tf.random.normal(parameter.shape, stddev=0.05))
               for parameter in shards.parameters()}
    how = layers.Pass(Group(), "row", tf.float32, tf.float32,
                      lambda x, gamma, beta, _: fused(x, gamma, beta))
    milliseconds = {}
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
            return [gradient for gradient in tape.gradient(y, [*own, *[x] * bool(place)])
                    if gradient is not None]

        seconds = []
        for _ in range(repeats + 1):
            began = time.perf_counter()
            both(x)[0].numpy()
            seconds.append(time.perf_counter() - began)
        milliseconds[block] = float(np.median(seconds[1:])) * 1e3
    return milliseconds


def _split(cuts: tuple[int, ...]) -> list[tuple[str, ...]]:
    edges = (0, *cuts, len(BLOCKS))
    return [BLOCKS[start:stop] for start, stop in pairwise(edges)]


def numbers(block: str) -> int:
    """How many numbers a block outputs for one picture."""
    return math.prod(OUTPUTS[block])


def main() -> None:
    """Print the measured and estimated costs of the blocks, and the cuts that follow."""
    measured, estimated = measure(), operations()
    measured_total, estimated_total = sum(measured.values()), sum(estimated.values())
    print(f"{'block':8} {'ms':>8} {'share':>7} {'estimated':>10}")
    for block in BLOCKS:
        print(f"{block:8} {measured[block]:8.1f} {measured[block] / measured_total:7.1%} "
              f"{estimated[block] / estimated_total:10.1%}")
    for stages in range(2, len(BLOCKS) + 1):
        begins = ",".join(stage[0] for stage in balanced(stages, measured)[1:])
        same = "" if balanced(stages) == balanced(stages, measured) else "   (the default differs)"
        print(f"pipeline={stages}: --stages {begins}{same}")


if __name__ == "__main__":
    main()
