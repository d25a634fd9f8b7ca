"""Processes that try to hold the same folders at the same moments; see ``test_holder.py``.

    python tests/contenders.py FOLDER…

Each of eight processes tries to hold each folder, all at once. Prints a line for each folder: how
many of them hold it.
"""

from __future__ import annotations

import multiprocessing
import sys
from multiprocessing.synchronize import Barrier
from pathlib import Path

from hpc_deepfake.core import holder, log
from hpc_deepfake.core.errors import InputError

PROCESSES = 8


def contend(folders: list[Path], start: Barrier, holding: multiprocessing.SimpleQueue) -> None:
    holder.GRACE, holder._POLL = 0.0, 0.001
    for folder in folders:
        start.wait()
        try:
            holder.hold(folder, "a contender", "--run")
            holding.put(folder)
        except InputError as error:
            assert "is in use by a contender" in str(error), error
        start.wait()
        holder.release()


def main(folders: list[Path]) -> None:
    log.start()
    context = multiprocessing.get_context("fork")
    start, holding = context.Barrier(PROCESSES), context.SimpleQueue()
    processes = [context.Process(target=contend, args=(folders, start, holding))
                 for _ in range(PROCESSES)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
        assert process.exitcode == 0
    counts = dict.fromkeys(folders, 0)
    while not holding.empty():
        counts[holding.get()] += 1
    for count in counts.values():
        print(count)


if __name__ == "__main__":
    main([Path(name) for name in sys.argv[1:]])
