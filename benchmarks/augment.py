"""Rows per second of the loading thread: plain, and with each augmentation.

    python benchmarks/augment.py data/features.h5 [--json FILE]

Batches of 32 rows out of the page cache, on one core. The time is that of the thread's processor,
so that a busy machine changes little.
"""

from __future__ import annotations

import argparse
import itertools
import statistics
import time
from pathlib import Path

import cv2

from hpc_deepfake.core.files import write_json
from hpc_deepfake.data.augment import OPERATIONS, Augmentation, canonical
from hpc_deepfake.data.rows import open_data

BATCH, ROUNDS = 32, 15
TEXTS = ("none", *OPERATIONS, "rotate=10", "flip,rotate", ",".join(OPERATIONS))


def main() -> None:
    cli = argparse.ArgumentParser(description=__doc__,
                                  formatter_class=argparse.RawDescriptionHelpFormatter)
    cli.add_argument("data", type=Path, help="data file with the feature raw")
    cli.add_argument("--json", type=Path, metavar="FILE", help="also write the results to FILE")
    options = cli.parse_args()
    cv2.setNumThreads(1)
    data = open_data(options.data, "raw", "mmap")
    rows = data.rows("train")
    changes = {canonical(text): Augmentation(canonical(text), 0, rows) for text in TEXTS}
    times: dict[str, list[float]] = {text: [] for text in changes}
    for number, (text, change) in itertools.product(range(ROUNDS), changes.items()):
        start = number * BATCH % (len(rows) - BATCH)
        batch = rows[start:start + BATCH]
        data.batch(batch)  # for all alike, whatever ran before
        began = time.thread_time()
        change.batch(data, batch, number)
        if number:  # the first round warms up
            times[text].append((time.thread_time() - began) / BATCH)
    rates = {text: 1 / statistics.median(values) for text, values in times.items()}
    print("| augmentation | rows/s | µs per row |\n|---|---|---|")
    for text, rate in rates.items():
        print(f"| `{text}` | {rate:,.0f} | {1e6 / rate:,.0f} |")
    if options.json:
        write_json(options.json, {"rows_per_s": rates})


if __name__ == "__main__":
    main()
