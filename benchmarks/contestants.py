"""The same network and training step in this project, in stock Keras and in PyTorch.

    [mpirun -np N] python benchmarks/contestants.py NAME [WARM-UP STEPS]

A worker for step.py, ranks.py and networks.py. It prints ``ready``; then, for each line ``N`` on
standard input, which rank 0 reads, it runs N training steps with 32 rows per rank and prints the
seconds that they took. It computes with one thread. STRATEGY=NAME is how ranks of this project
work together. Of this project and of Keras another network is
trained by NETWORK=NAME in the environment, with pictures of SIZE pixels and BATCH rows per rank.
With PRECISION=bfloat16 this project and PyTorch compute in that type, with COMPILED=0 this project
uses TensorFlow's operations only. For ``N traced`` this project
writes what its steps spent to the file RECORD, for ``0 machine`` the rates of the machine.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial

import numpy as np

from hpc_deepfake.core.streams import whole_lines

BATCH = int(os.environ.get("BATCH", "32"))
NETWORK = os.environ.get("NETWORK", "table")
SIZE = int(os.environ.get("SIZE", "128"))
PRECISION = os.environ.get("PRECISION", "float32")
ROWS = 512

Steps = Callable[[int], None]


def data() -> tuple[np.ndarray, np.ndarray]:
    """Random pictures uint8 (ROWS, SIZE, SIZE, 3) and labels uint8 (ROWS)."""
    random = np.random.default_rng(0)
    return (random.integers(0, 256, (ROWS, SIZE, SIZE, 3)).astype(np.uint8),
            random.integers(0, 2, ROWS).astype(np.uint8))


def batches(count: int) -> list[np.ndarray]:
    """Row numbers of ``count`` random batches."""
    random = np.random.default_rng(1)
    return [random.permutation(ROWS)[:BATCH] for _ in range(count)]


def ours(ranks: int) -> Steps:
    """This project, with one rank or ``ranks`` ranks under mpirun."""
    from hpc_deepfake import strategies
    from hpc_deepfake.data.rows import prefetch
    from hpc_deepfake.network import device, registry
    from hpc_deepfake.network.blocks import library
    from hpc_deepfake.network.settings import Settings
    from hpc_deepfake.strategies.base import Batch

    device.start("cpu", threads=1)
    if os.environ.get("COMPILED") == "0":
        library.switch_off("COMPILED=0")
    name, comm = strategies.choose(os.environ.get("STRATEGY", "auto"), ranks), None
    if ranks > 1:
        from mpi4py import MPI

        comm = MPI.COMM_WORLD
        strategies.prepare(name, comm, False)
    strategy = strategies.get(name)(registry.build(NETWORK, SIZE),
                                    Settings(network=NETWORK, precision=PRECISION), comm)
    strategy.load(None)
    pictures, labels = data()
    done = 0

    def steps(count: int) -> None:
        nonlocal done
        for images, marks in prefetch(lambda rows: (pictures[rows], labels[rows]),
                                      batches(count)):
            masks = np.zeros(images.shape[:-1], np.uint8) if strategy.locates else None
            batch = Batch(images, marks, np.array([0, done], np.int32), masks)
            strategy.step([batch], BATCH * ranks, done)
            done += 1

    return steps


def traced(steps: Steps, count: int) -> None:
    """Record the seconds of each operation in a step."""
    import limit

    with tempfile.TemporaryDirectory() as folder:
        spent = limit.traced(lambda: steps(count), folder)
    record({name: seconds / count for name, seconds in spent.items()})


def machine(steps: Steps, count: int) -> None:
    """Take no steps, and record the machine's rates."""
    import limit

    record(limit.measure(("float32", "bfloat16"))._asdict())


def record(result: dict) -> None:
    """Append a line to the file of RECORD."""
    with open(os.environ["RECORD"], "a", encoding="utf-8") as file:
        print(json.dumps(result), file=file)


def keras_fit(ranks: int, jit: bool | str = "auto") -> Steps:
    """Keras 3 as its users run it: compile and fit."""
    import keras
    import tensorflow as tf

    from hpc_deepfake.network import registry

    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.threading.set_inter_op_parallelism_threads(2)
    network = registry.build(NETWORK, SIZE)
    network.compile(keras.optimizers.Adam(1e-4), "categorical_crossentropy", jit_compile=jit)
    pictures, labels = data()
    targets = np.eye(2, dtype=np.float32)[labels]

    def steps(count: int) -> None:
        rows = np.concatenate(batches(count))
        network.fit(pictures[rows], targets[rows], batch_size=BATCH, epochs=1, verbose=0)

    return steps


def mirrored(ranks: int) -> Steps:
    """tf.distribute.MultiWorkerMirroredStrategy, which needs Keras 2 (tf_keras)."""
    rank = int(os.environ["WORKER"])
    ports = json.loads(os.environ["PORTS"])
    os.environ["TF_CONFIG"] = json.dumps({
        "cluster": {"worker": [f"127.0.0.1:{port}" for port in ports]},
        "task": {"type": "worker", "index": rank}})
    import tensorflow as tf
    import tf_keras as keras

    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.threading.set_inter_op_parallelism_threads(8)  # its reductions wait in them
    layers = keras.layers
    with tf.distribute.MultiWorkerMirroredStrategy().scope():
        network = keras.Sequential([
            keras.Input((128, 128, 3)), layers.Rescaling(1 / 255),
            layers.Conv2D(32, 3, activation="relu"), layers.BatchNormalization(),
            layers.MaxPooling2D(2), layers.Conv2D(64, 3, activation="relu"),
            layers.BatchNormalization(), layers.MaxPooling2D(2), layers.Flatten(),
            layers.Dense(128, activation="relu"), layers.Dropout(0.5),
            layers.Dense(2, activation="softmax")])
        network.compile(keras.optimizers.Adam(1e-4), "categorical_crossentropy")
    pictures, labels = data()
    targets = np.eye(2, dtype=np.float32)[labels]

    def steps(count: int) -> None:
        rows = np.concatenate([rows for rows in batches(count) for _ in range(ranks)])
        network.fit(pictures[rows], targets[rows], batch_size=BATCH * ranks, epochs=1, verbose=0)

    return steps


def pytorch(ranks: int) -> Steps:
    """PyTorch, channels-last; with two workers DistributedDataParallel over gloo."""
    import torch
    from torch import nn

    torch.set_num_threads(1)
    network = nn.Sequential(
        nn.Conv2d(3, 32, 3), nn.ReLU(), nn.BatchNorm2d(32, 1e-3, 0.01), nn.MaxPool2d(2),
        nn.Conv2d(32, 64, 3), nn.ReLU(), nn.BatchNorm2d(64, 1e-3, 0.01), nn.MaxPool2d(2),
        nn.Flatten(), nn.Linear(57600, 128), nn.ReLU(), nn.Dropout(0.5), nn.Linear(128, 2),
    ).to(memory_format=torch.channels_last)
    if ranks > 1:
        torch.distributed.init_process_group(
            "gloo", init_method=f"tcp://127.0.0.1:{json.loads(os.environ['PORTS'])[0]}",
            rank=int(os.environ["WORKER"]), world_size=ranks)
        network = nn.parallel.DistributedDataParallel(network)
    optimizer = torch.optim.Adam(network.parameters(), 1e-4, fused=True)
    loss = nn.CrossEntropyLoss()
    pictures, labels = data()

    def steps(count: int) -> None:
        for rows in batches(count):
            images = torch.from_numpy(pictures[rows]).permute(0, 3, 1, 2).float() / 255
            optimizer.zero_grad()
            with torch.autocast("cpu", torch.bfloat16, PRECISION == "bfloat16"):
                value = loss(network(images), torch.from_numpy(labels[rows]).long())
            value.backward()
            optimizer.step()

    return steps


CONTESTANTS = {"ours": ours, "keras": keras_fit,
               "keras_without_xla": partial(keras_fit, jit=False),
               "mirrored": mirrored, "pytorch": pytorch}
INSTEAD = {"traced": traced, "machine": machine}


def following(ranks: int) -> str:
    """The next line of standard input, which rank 0 under mpirun reads for all; "" at the end."""
    if ranks == 1 or "WORKERS" in os.environ:
        return sys.stdin.readline()
    from mpi4py import MPI

    from hpc_deepfake.core import mpi

    world = MPI.COMM_WORLD
    line = np.zeros(80, np.uint8)
    if world.rank == 0:
        read = sys.stdin.readline().encode()
        line[:len(read)] = np.frombuffer(read, np.uint8)
    mpi.wait(world.Ibcast(line))  # by polling: others compute meanwhile
    return line.tobytes().rstrip(b"\0").decode()


def main() -> None:
    whole_lines()
    name, warm_up = sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else 3
    ranks = int(os.environ.get("OMPI_COMM_WORLD_SIZE") or os.environ.get("WORKERS") or 1)
    steps = CONTESTANTS[name](ranks)
    steps(warm_up)
    print("ready", flush=True)
    while line := following(ranks):
        count, *how = line.split()
        run = partial(INSTEAD[how[0]], steps) if how else steps
        start = time.perf_counter()
        run(int(count))
        print(time.perf_counter() - start, flush=True)


if __name__ == "__main__":
    main()
