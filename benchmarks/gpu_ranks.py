"""What several GPUs do together: equality with one GPU, steps per second, reductions.

    mpirun -np N python benchmarks/gpu_ranks.py equal [--strategy NAME] [--device gpu] [--json FILE]
    mpirun -np N python benchmarks/gpu_ranks.py speed [--strategy NAME] [--precision NAME]
    mpirun -np N python benchmarks/gpu_ranks.py reduce

equal: the first gradients of a global batch and the losses of 20 steps of Adam, float32, against
the strategy sequential on rank 0's device, with the tolerances of tests/mpi/test_equivalence.py;
exit code 1 if they are missed. speed: images/s, 32 rows per rank or --batch. reduce: Horovod's
allreduce of arrays on the devices, as the bytes per second of a ring, 2 (N - 1) / N times the
array's. With --device cpu it shows that the script works.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from hpc_deepfake.core import mpi

if TYPE_CHECKING:
    from mpi4py.MPI import Comm

    from hpc_deepfake.network.device import Device
    from hpc_deepfake.network.settings import Settings
    from hpc_deepfake.strategies.base import Batch, Strategy

ROOT = Path(__file__).resolve().parent.parent
STEPS, LOSSES = 20, 1e-3  # of Adam, and how far their losses may be apart


def arguments() -> argparse.Namespace:
    cli = argparse.ArgumentParser(description=__doc__,
                                  formatter_class=argparse.RawDescriptionHelpFormatter)
    cli.add_argument("what", choices=("equal", "speed", "reduce"))
    cli.add_argument("--device", choices=("gpu", "cpu"), default="gpu")
    cli.add_argument("--strategy", default="auto", help="as for train")
    cli.add_argument("--precision", default="float32", help="of speed, as for train")
    cli.add_argument("--no-deterministic", action="store_true", help="of speed, as for train")
    cli.add_argument("--batch", type=int, default=32, metavar="N", help="rows per rank")
    cli.add_argument("--size", type=int, default=128, metavar="S", help="of the pictures")
    cli.add_argument("--seconds", type=float, default=2.0, metavar="S", help="of measuring, about")
    cli.add_argument("--most", type=int, default=256 << 20, metavar="BYTES",
                     help="largest array of reduce")
    cli.add_argument("--json", type=Path, metavar="FILE", help="rank 0 also writes the results")
    return cli.parse_args()


def main(comm: Comm) -> int:
    """Collective; returns the exit code."""
    from hpc_deepfake import strategies
    from hpc_deepfake.core.files import write_json
    from hpc_deepfake.network import device as devices
    from hpc_deepfake.network import placement

    options = arguments()
    place = devices.local_ranks(comm)
    exact = options.what == "equal"
    device = mpi.together(comm, lambda: devices.start(
        options.device, *place, precision="float32" if exact else options.precision,
        deterministic=exact or not options.no_deterministic))
    placement.check(comm, device, options.device)
    name = strategies.choose(options.strategy, comm.size)
    strategies.prepare("sync" if options.what == "reduce" else name, comm, device.gpu)
    found = {"ranks": comm.size, "device": device.name, "strategy": name,
             **WHAT[options.what](comm, device, name, options)}
    if comm.rank == 0:
        print("\n".join(f"{key}: {value}" for key, value in found.items()), flush=True)
        if options.json is not None:
            write_json(options.json, found)
    return int(comm.bcast(not found.get("equal", True)))


def make(name: str, settings: Settings, comm: Comm | None, size: int) -> Strategy:
    """A strategy with the same weights whenever it is made."""
    import keras

    from hpc_deepfake import strategies
    from hpc_deepfake.network import table

    keras.utils.set_random_seed(0)
    strategy = strategies.get(name)(table.build("float32", size), settings, comm)
    strategy.load(None)
    return strategy


def share_of(rows: int, size: int, seed: int, rank: int, ranks: int) -> Batch:
    """A rank's rows of a random global batch."""
    from hpc_deepfake.data.rows import share
    from hpc_deepfake.strategies.base import Batch

    random = np.random.default_rng(seed)
    labels = random.integers(0, 2, rows).astype(np.uint8)
    pictures = random.integers(0, 256, (rows, size, size, 3)).astype(np.uint8)
    own = share(np.arange(rows), rank, ranks)
    return Batch(pictures[own], labels[own], np.zeros(2, np.int32))


def equal(comm: Comm, device: Device, name: str, options: argparse.Namespace) -> dict[str, Any]:
    """Gradients and losses of the strategy beside those of ``sequential``."""
    from hpc_deepfake.network.settings import Settings

    # with it sequential normalises by the same sums, not by TensorFlow's fused operation
    settings = Settings(dropout=0.0, sync_bn=True)
    rows = 8 * comm.size + 2  # unequal shares

    def course(strategy: Strategy, rank: int, ranks: int) -> tuple[list[np.ndarray], list[float]]:
        gradients = strategy.gradients(  # type: ignore[attr-defined] # of Sequential and below
            share_of(rows, options.size, 100, rank, ranks), rows)
        losses = []
        for step in range(STEPS):
            done = strategy.step([share_of(rows, options.size, step, rank, ranks)], rows, step, 0)
            rest, _ = strategy.settle({})
            losses.append((done.loss + rest.loss) / rows)
        return gradients, losses

    got, losses = course(make(name, settings, comm, options.size), comm.rank, comm.size)
    if comm.rank:
        return {}
    wanted, reference = course(make("sequential", settings, None, options.size), 0, 1)
    return {**compare(got, wanted), "losses": float(np.abs(
        np.divide(losses, reference) - 1).max())} | judge(got, wanted, losses, reference)


def compare(got: list[np.ndarray], wanted: list[np.ndarray]) -> dict[str, float]:
    """How far gradients are apart: of the dense layers together, and of the worst tensor."""
    gradients = _tolerances()
    arrays = [{f"g/{place}": value for place, value in enumerate(values)}
              for values in (got, wanted)]
    return {"dense": gradients.gradient_error(*arrays, "g", places=gradients.PLACES[8:]),
            "worst": max(gradients.gradient_error(*arrays, "g", places=[place])
                         for place in gradients.PLACES)}


def judge(got: list[np.ndarray], wanted: list[np.ndarray], losses: list[float],
          reference: list[float]) -> dict[str, Any]:
    """Whether that is within the tests' tolerances, and if not, why."""
    arrays = [{f"g/{place}": value for place, value in enumerate(values)}
              for values in (got, wanted)]
    try:
        _tolerances().check_float32(*arrays, "g")
        np.testing.assert_allclose(losses, reference, rtol=LOSSES)
    except AssertionError as error:
        return {"equal": False, "why": " ".join(str(error).split())[:300]
                or "the gradients are too far apart"}
    return {"equal": True}


def _tolerances() -> Any:
    """The module with which the tests compare gradients."""
    sys.path.insert(0, str(ROOT / "tests" / "mpi"))
    import gradients

    return gradients


def speed(comm: Comm, device: Device, name: str, options: argparse.Namespace) -> dict[str, Any]:
    """Images/s of all ranks; the slowest rank's."""
    from hpc_deepfake.data.augment import Rows
    from hpc_deepfake.data.rows import AHEAD, prefetch
    from hpc_deepfake.network.settings import Settings

    strategy = make(name, Settings(precision=options.precision), comm, options.size)
    rows = options.batch * comm.size
    own = [share_of(rows, options.size, seed, *strategy.share) for seed in range(4)]
    step = 0

    def run(count: int) -> float:
        nonlocal step
        mpi.wait(comm.Ibarrier())
        start = time.perf_counter()
        order = [own[number % len(own)] for number in range(count)]
        for batch, placed in zip(order, prefetch(lambda batch: strategy.placed(
                Rows(batch.pictures, batch.labels)), order, ahead=AHEAD), strict=True):
            strategy.launch([batch._replace(pictures=placed.pictures, labels=placed.labels)], rows,
                            step, 0)
            step += 1
        strategy.landed()
        strategy.settle({})
        return max(comm.allgather(time.perf_counter() - start))

    run(3)
    count = max(2, round(options.seconds / 3 * 5 / run(5)))
    rates = [rows * count / run(count) for _ in range(3)]
    return {"precision": options.precision, "deterministic": device.deterministic,
            "batch": options.batch, "images/s": statistics.median(rates), "rounds": rates}


def reduce(comm: Comm, device: Device, name: str, options: argparse.Namespace) -> dict[str, Any]:
    """Milliseconds and GB/s of a ring by size of the array."""
    import horovod.tensorflow as hvd
    import tensorflow as tf

    rows = {}
    size = 1 << 12
    while size <= options.most:
        with tf.device("GPU:0" if device.gpu else "CPU:0"):
            value = tf.ones(size // 4)

            def once(value: tf.Tensor = value, key: str = f"reduce{size}") -> None:
                # reading one element waits for the device, and takes as long for each size
                float(hvd.allreduce(value, name=key, op=hvd.Sum)[0])

            once()
            took = [_seconds(once) for _ in range(5)]
        seconds = max(comm.allgather(statistics.median(took)))
        rows[str(size)] = {"ms": seconds * 1e3,
                           "GB/s": 2 * (comm.size - 1) / comm.size * size / seconds / 1e9}
        size *= 16 if size < 1 << 20 else 4
    return {"by": "NCCL" if device.gpu and hvd.nccl_built() else "MPI", "sizes": rows}


def _seconds(function: Callable[[], None]) -> float:
    start = time.perf_counter()
    function()
    return time.perf_counter() - start


WHAT = {"equal": equal, "speed": speed, "reduce": reduce}


if __name__ == "__main__":
    mpi.run(main)
