"""Cost of ``train --tensorboard``: processor time of rank 0 per step and per epoch.

    python benchmarks/board.py DATA.h5

DATA.h5 is a data file with the features ela and raw. All that is written is removed.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from hpc_deepfake import metrics
from hpc_deepfake.data.rows import open_data
from hpc_deepfake.network import device
from hpc_deepfake.strategies.base import Done
from hpc_deepfake.train.loop import State


def cost(times: int, work: Callable[[int], None]) -> float:
    """Processor seconds of each of ``times`` calls."""
    began = time.process_time()
    for number in range(times):
        work(number)
    return (time.process_time() - began) / times


def main(path: Path) -> None:
    device.start("cpu", threads=1)
    from hpc_deepfake.network.schedule import Schedule
    from hpc_deepfake.train.tensorboard import Board

    data = open_data(path, "ela")
    labels = data.labels[data.rows("validation")]
    probabilities = np.random.default_rng(0).random(len(labels))
    figures = {f"val_{name}": value
               for name, value in metrics.evaluate(probabilities, labels).items()}
    line = {"loss": 1.0, "accuracy": 0.5, "images_per_s": 1.0, "wall_images_per_s": 1.0,
            "seconds": {"compute": 1.0}, **figures}
    with tempfile.TemporaryDirectory() as folder:
        board = Board(Path(folder), State(), Schedule(1e-4), {}, data, 0)

        def epoch(number: int, best: bool) -> None:
            board.epoch({**line, "step": 5000 + number, "epoch": number, "best": best},
                        probabilities, labels)

        step = cost(5000, lambda number: board.steps(number + 1, Done(1, 64, 1.0, 2.0)))
        print(f"step               {step * 1e3:7.3f} ms")
        print(f"epoch              {cost(20, lambda number: epoch(number, False)) * 1e3:7.3f} ms, "
              f"{len(labels):,} validation pictures")
        print(f"epoch, best so far {cost(20, lambda number: epoch(number, True)) * 1e3:7.3f} ms")
        board.close()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
