"""What the benchmarks share: interleaved timing, a table, and a JSON file of the results."""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import time
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Any

PACKAGES = ("tensorflow-cpu", "keras", "horovod", "mpi4py", "h5py", "numpy", "pillow",
            "opencv-python-headless")


def arguments(description: str, **defaults: float) -> argparse.Namespace:
    """``--json FILE`` and an option for each default, a number of its type."""
    cli = argparse.ArgumentParser(description=description,
                                  formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    cli.add_argument("--json", type=Path, metavar="FILE", help="write the results there too")
    for name, value in defaults.items():
        cli.add_argument(f"--{name}", type=type(value), default=value, help=" ")
    return cli.parse_args()


def interleave(variants: dict[str, Callable[[], Any]], rounds: int) -> dict[str, list[float]]:
    """Seconds of each variant in each round, in turn, so that a slow spell of the machine hits
    all; the first round isn't counted."""
    seconds: dict[str, list[float]] = {name: [] for name in variants}
    for number in range(rounds + 1):
        for name, function in variants.items():
            start = time.perf_counter()
            function()
            if number:
                seconds[name].append(time.perf_counter() - start)
    return seconds


def ratio(rates: dict[str, list[float]], ours: str, other: str) -> float:
    """Median over the rounds of our rate over the other's, round by round."""
    return statistics.median(a / b for a, b in zip(rates[ours], rates[other], strict=True))


def table(rates: dict[str, list[float]], unit: str) -> None:
    """Median, lowest and highest rate of each variant."""
    width = max(map(len, rates))
    print(f"{'':<{width}}  {unit:>12}  {'lowest':>8}  {'highest':>8}")
    for name, values in rates.items():
        print(f"{name:<{width}}  {statistics.median(values):>12,.0f}  {min(values):>8,.0f}  "
              f"{max(values):>8,.0f}")


def finish(options: argparse.Namespace, rows: dict[str, Any],
           ratios: dict[str, float], wanted: dict[str, str]) -> None:
    """Print the ratios beside what was aimed at, and write the JSON file if asked for."""
    print()
    for name, value in ratios.items():
        print(f"{name:<44} {value:6.2f}   aim: {wanted.get(name, '–')}")
    if options.json is not None:
        versions = {}
        for package in PACKAGES:
            try:
                versions[package] = metadata.version(package)
            except metadata.PackageNotFoundError:
                continue
        options.json.write_text(json.dumps({
            "machine": {"platform": platform.platform(), "cores": os.cpu_count(),
                        "processor": _processor()},
            "versions": {"python": platform.python_version(), **versions},
            "rows": rows, "ratios": ratios}, indent=2) + "\n", encoding="utf-8")


def _processor() -> str:
    from hpc_deepfake.network.device import cpu_name

    return cpu_name()
