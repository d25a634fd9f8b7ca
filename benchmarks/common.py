"""Shared by the benchmarks: interleaved timing, a table, and a JSON file with the results."""

from __future__ import annotations

import argparse
import os
import platform
import statistics
import time
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Any

from hpc_deepfake.core.files import write_json

PACKAGES = ("tensorflow-cpu", "keras", "horovod", "mpi4py", "h5py", "numpy", "pillow",
            "opencv-python-headless")


HELP = {"rounds": "number of rounds, each with all variants in turn",
        "steps": "training steps of each measurement",
        "pictures": "number of pictures",
        "model": "run directory of a trained model",
        "folder": "folder of photographs",
        "networks": "names of networks, separated by commas",
        "size": "width and height of the pictures, pixels",
        "batch": "rows of a step on each rank",
        "copies": "how often a data set for whole programs repeats the pictures",
        "most": "largest number of ranks to measure",
        "latency": "on paper: microseconds per message",
        "bandwidth": "on paper: GB/s of a rank",
        "compute": "on paper: seconds of computing a step; 0: as measured"}


def arguments(documentation: str, **defaults: float | str) -> argparse.Namespace:
    """The command line: ``--json FILE`` and an option of ``HELP`` for each default value.

    Args:
        documentation: the benchmark's docstring.
        defaults: values by option, each of the option's type.
    """
    cli = argparse.ArgumentParser(description=documentation,
                                  formatter_class=argparse.RawDescriptionHelpFormatter)
    cli.add_argument("--json", type=Path, metavar="FILE", help="also write the results to FILE")
    for name, value in defaults.items():
        cli.add_argument(f"--{name}", type=type(value), default=value, metavar="N",
                         help=f"{HELP[name]} (default: {value})")
    return cli.parse_args()


def interleave(variants: dict[str, Callable[[], Any]], rounds: int) -> dict[str, list[float]]:
    """Seconds of each variant in each round; variants run in turn, so that a slow period of the
    machine affects all of them. The first round is not counted."""
    seconds: dict[str, list[float]] = {name: [] for name in variants}
    for number in range(rounds + 1):
        for name, function in variants.items():
            start = time.perf_counter()
            function()
            if number:
                seconds[name].append(time.perf_counter() - start)
    return seconds


def ratio(rates: dict[str, list[float]], first: str, second: str) -> float:
    """Rate of the first variant over that of the second, median of the rounds."""
    return statistics.median(a / b for a, b in zip(rates[first], rates[second], strict=True))


def table(rates: dict[str, list[float]], unit: str) -> None:
    """Print the median, lowest and highest rate of each variant."""
    width = max(map(len, rates))
    print(f"{'':<{width}}  {unit:>12}  {'lowest':>8}  {'highest':>8}")
    for name, values in rates.items():
        print(f"{name:<{width}}  {statistics.median(values):>12,.0f}  {min(values):>8,.0f}  "
              f"{max(values):>8,.0f}")


def finish(options: argparse.Namespace, rows: dict[str, Any],
           ratios: dict[str, float], targets: dict[str, str]) -> None:
    """Print the ratios with their targets, and write the JSON file of ``--json``.

    Args:
        options: the command line.
        rows: measurements by variant.
        ratios: results by name.
        targets: text of the intended values by name of the ratio.
    """
    print()
    for name, value in ratios.items():
        print(f"{name:<44} {value:6.2f}   target: {targets.get(name, '–')}")
    if options.json is not None:
        versions = {}
        for package in PACKAGES:
            try:
                versions[package] = metadata.version(package)
            except metadata.PackageNotFoundError:
                continue
        write_json(options.json, {
            "machine": {"platform": platform.platform(), "cores": os.cpu_count(),
                        "processor": _processor()},
            "versions": {"python": platform.python_version(), **versions},
            "rows": rows, "ratios": ratios})


def _processor() -> str:
    from hpc_deepfake.network.device import cpu_name

    return cpu_name()
