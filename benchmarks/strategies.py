"""Strategies on 2 and 4 ranks of this machine, and on paper on 8 to 1,024 ranks.

    python benchmarks/strategies.py [--rounds N] [--json FILE] [--bandwidth GB/S] …

Each rank has 32 rows per step, float32 and one thread. "Independent" are processes of this project
that don't communicate: the upper limit for this number of ranks. Pipelines have 8 micro-batches per
step. Everything is started again in each round, in turn. With fewer cores than ranks, ranks also
wait for cores: then only the bytes are meaningful. On paper, a step takes the time of one process
alone plus that of sending its bytes at --bandwidth and its messages at --latency, with nothing
hidden behind the computation.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

from common import arguments, finish, ratio
from contestants import BATCH

from hpc_deepfake import strategies
from hpc_deepfake.strategies import traffic

RANK = Path(__file__).with_name("one_strategy.py")
ROOT = RANK.parent.parent
MESH = {"tensor": (), "pipeline": ("--micro-batches", "8")}
TARGET = {"hybrid over independent, 2 ranks": "at least 0.95"}


def variants(ranks: int) -> dict[str, list[str]]:
    """Arguments of one_strategy.py by name."""
    commands = {"independent": ["independent"], "sync": ["sync"], "hybrid": ["hybrid"],
                "hybrid, bf16": ["hybrid", "--compression", "bf16"]}
    if "mesh" in strategies.NAMES:
        commands |= {f"mesh {axis}={ranks}": ["mesh", "--layout", f"mesh={axis}={ranks}", *more]
                     for axis, more in MESH.items()}
    return commands


def run(ranks: int, steps: int, command: list[str]) -> dict[str, Any]:
    """The JSON that one_strategy.py prints."""
    name, *more = command
    done = subprocess.run(
        ["mpirun", "-np", str(ranks), sys.executable, RANK, name, str(steps), *more],
        capture_output=True, text=True, timeout=600, cwd=ROOT)
    if done.returncode:
        sys.exit(f"error: {' '.join(command)} on {ranks} ranks failed:\n{done.stderr[-2000:]}")
    return json.loads(done.stdout.splitlines()[-1])


def measured(options: argparse.Namespace) -> tuple[dict[str, list[float]], dict[str, float]]:
    """Images/s of all ranks by variant, in each round; bytes per step and rank by variant."""
    rates: dict[str, list[float]] = {}
    sent: dict[str, float] = {}
    for number in range(options.rounds):
        for ranks in (count for count in (2, 4) if count <= options.most):
            for name, command in variants(ranks).items():
                result = run(ranks, options.steps, command)
                rate = sum(BATCH / seconds for seconds in result["seconds"])
                key = f"{name}, {ranks} ranks"
                print(f"round {number + 1}: {key}: {rate:,.0f} images/s", file=sys.stderr,
                      flush=True)
                rates.setdefault(key, []).append(rate)
                sent[key] = sum(result["bytes"].values())
    return rates, sent


def paper(ranks: int, group: int, options: argparse.Namespace,
          seconds: float) -> tuple[float, float]:
    """(MB that a rank sends per step, seconds of a step); group 0 is ``sync``."""
    if not group:
        sent, messages = traffic.sync(ranks), 2 * 2 * (ranks - 1)
    else:
        sent = traffic.hybrid(ranks, group, BATCH)
        # three all-to-alls, an all-gather; rings over all, and over the groups
        messages = 4 * (group - 1) + 2 * (ranks - 1) + 2 * (ranks // group - 1)
    size = sum(sent.values())
    return size / 1e6, seconds + messages * options.latency * 1e-6 + size / options.bandwidth / 1e9


def best_group(ranks: int, options: argparse.Namespace, seconds: float) -> int:
    """The size of group with the shortest step."""
    return min((1 << power for power in range(ranks.bit_length())),
               key=lambda group: paper(ranks, group, options, seconds)[1])


def on_paper(options: argparse.Namespace, seconds: float) -> dict[str, dict[str, Any]]:
    """Print and return the table for many ranks; ``seconds`` of computing a step."""
    print(f"\nOn paper: {seconds:.3f} s to compute a step, {options.latency:g} µs per message, "
          f"{options.bandwidth:g} GB/s per rank (a model, not measured)")
    print("MB: sent by a rank per step; ms: time of sending; one group: of all ranks; best group: "
          "the size with the\nshortest step; tensor=2, pipeline=2: combined with data parallelism")
    print(f"{'':>5}  {'sync':^13}  {'one group':^13}  {'best group':^19}  {'sync over':>9}  "
          f"tensor=2  pipeline=2")
    print(f"ranks  {'MB':>5}  {'ms':>6}  {'MB':>5}  {'ms':>6}  {'ranks':>5}  {'MB':>4}  {'ms':>6}  "
          f"{'best':>9}  {'MB':>8}  {'MB':>10}")
    table: dict[str, dict[str, Any]] = {}
    for ranks in (8, 16, 32, 64, 128, 256, 512, 1024):
        size = best_group(ranks, options, seconds)
        sync, single, best = (paper(ranks, group, options, seconds) for group in (0, ranks, size))
        comm = [1000 * (total - seconds) for _, total in (sync, single, best)]
        meshes = [sum(moved(ranks, 2, BATCH).values()) / 1e6
                  for moved in (traffic.tensor, traffic.pipeline)]
        print(f"{ranks:>5}  {sync[0]:>5.1f}  {comm[0]:>6.2f}  {single[0]:>5.1f}  {comm[1]:>6.2f}  "
              f"{size:>5}  {best[0]:>4.1f}  {comm[2]:>6.2f}  {sync[1] / best[1]:>9.3f}  "
              f"{meshes[0]:>8.1f}  {meshes[1]:>10.1f}")
        table[str(ranks)] = {"sync": sync, "one group": single, "best": best, "group": size,
                             "tensor=2": meshes[0], "pipeline=2": meshes[1]}
    print(f"one group over all ranks sends as much as sync at {traffic.crossover(BATCH):,.0f} "
          "ranks")
    return table


def main() -> None:
    options = arguments(__doc__, rounds=5, steps=15, most=4, latency=2.0,
                        bandwidth=12.5, compute=0.0)
    rates, sent = measured(options)
    width = max(map(len, rates))
    print(f"{'':<{width}}  images/s  lowest  highest  ms a step  MB sent per step and rank")
    for name, values in rates.items():
        middle = statistics.median(values)
        ranks = int(name.split()[-2])
        print(f"{name:<{width}}  {middle:>8,.0f}  {min(values):>6,.0f}  {max(values):>7,.0f}  "
              f"{1000 * BATCH * ranks / middle:>9,.0f}  {sent[name] / 1e6:>8.2f}")
    if "mesh" not in strategies.NAMES:
        print("(skipped: tensor and pipeline, there is no strategy mesh)")
    alone = 2 * BATCH / statistics.median(rates["independent, 2 ranks"])
    table = on_paper(options, options.compute or alone)
    ratios = {f"{name.partition(',')[0]} over independent, 2 ranks":
              ratio(rates, name, "independent, 2 ranks")
              for name in ("sync, 2 ranks", "hybrid, 2 ranks")}
    ratios["hybrid over sync, 2 ranks"] = ratio(rates, "hybrid, 2 ranks", "sync, 2 ranks")
    ratios["bytes of hybrid over sync, 2 ranks"] = sent["hybrid, 2 ranks"] / sent["sync, 2 ranks"]
    finish(options, {"images/s": rates, "bytes": sent, "paper": table}, ratios,
           {**TARGET, "bytes of hybrid over sync, 2 ranks": "0.25"})


if __name__ == "__main__":
    main()
