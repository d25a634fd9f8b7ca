"""``hpc-deepfake scaling emulate``: more ranks and slower links than this machine has."""

from __future__ import annotations

import argparse
import os
import platform
import signal
import time
from argparse import Namespace
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

from hpc_deepfake.core.errors import InputError
from hpc_deepfake.core.options import Parser, above, at_least
from hpc_deepfake.scaling.emulation import namespaces, plan
from hpc_deepfake.scaling.emulation.plan import DATA_PARALLEL, STRATEGIES, Compute, Task
from hpc_deepfake.strategies import traffic
from preprocessing.ela import SIZE

if TYPE_CHECKING:
    from hpc_deepfake.scaling.emulation.running import Result

_EXAMPLES = """examples:
  hpc-deepfake scaling emulate --out runs/emulation
  hpc-deepfake scaling emulate --ranks 2 4 8 --links 1G --strategies sync hybrid
  hpc-deepfake scaling emulate --links 25G --compute 0.02 --out runs/emulated-gpus
  hpc-deepfake scaling predict runs/emulation/links-1000M --fit-ranks 1 2 4

Each rank waits as long as it would compute and really sends all its messages, by Open MPI, between
network namespaces of this machine whose links are shaped (tc tbf). Where this machine's processors
can't move the bytes fast enough, all runs in slow motion: computing takes longer and links are
slower by the same factor, and times are divided by it.

Needs root (network namespaces), Open MPI and iproute2; leaves nothing behind. Writes
emulation.html, .md, .csv and .json, and for each link a study that scaling report and scaling
predict read.
exit codes: 0 done; 2 wrong usage, or a machine that can't do it; 130, 143 stopped by a signal:
what was measured until then is written"""


class _Rate(float):
    """Bits per second, shown as they are given."""

    def __str__(self) -> str:
        return f"{self / 1e6:g}M" if self < 1e9 else f"{self / 1e9:g}G"


# of a step on one core with AVX-512; apart: on an AMD EPYC
SHARES = Compute(0.32, 0.025, 0.0, 0.535, 0.07, 1.12)


def parser() -> Parser:
    """The command line."""
    cli = Parser(prog="hpc-deepfake scaling emulate", epilog=_EXAMPLES, description=(
        "Measure how strategies scale over more ranks and on slower links than this machine has:\n"
        "computing is replaced by waiting, messages are really sent."))
    cli.add_argument("--strategies", nargs="+", metavar="NAME", default=list(STRATEGIES),
                     help=f"of {', '.join(DATA_PARALLEL)}, or a mesh by its axes except data, "
                          "which grows with the ranks (default: all, and mesh:tensor=2, "
                          "mesh:pipeline=2, mesh:tensor=2,pipeline=2); hybrid shards over all ranks"
                     )
    cli.add_argument("--ranks", type=at_least(2, namespaces.MOST_NODES), nargs="+", metavar="N",
                     default=[2, 4, 8, 16, 32], help="numbers of ranks, each on its own node")
    cli.add_argument("--links", type=_link, nargs="+", metavar="RATE",
                     default=[_Rate(1e8), _Rate(1e9), _Rate(1e10)],
                     help="bits per second of a node's link in each direction, like 100M or 2.5G")
    cli.add_argument("--batch-size", type=at_least(1), default=32, metavar="ROWS",
                     help="rows of a rank and step")
    cli.add_argument("--compute", type=above(0, 1000), metavar="SECONDS",
                     help="seconds in which a rank computes a step (default: measured here, on one "
                          "core)")
    cli.add_argument("--sync-every", type=at_least(1), default=8, metavar="STEPS",
                     help="local-sgd: steps between two averages")
    cli.add_argument("--micro-batches", type=at_least(1), default=4, metavar="M",
                     help="meshes with a pipeline: parts of a step, as for train")
    cli.add_argument("--allreduce", choices=("auto", "ring"), default="auto",
                     help="as for train")
    cli.add_argument("--slow-motion", type=above(0, 10_000), metavar="F",
                     help="run all F times slower, or faster below 1 (default: as this machine "
                          "needs and allows it, row by row)")
    cli.add_argument("--seconds", type=above(0, 3600), default=4.0, metavar="S",
                     help="approximate time for the measured steps of each row")
    cli.add_argument("--out", type=Path, metavar="DIR", default=Path("runs/emulation"),
                     help="folder for the results")
    return cli


def main(argv: Sequence[str]) -> int:
    """Run the command.

    Args:
        argv: its arguments, without the program's name.

    Returns:
        The exit code.

    Raises:
        InputError: impossible options, a machine that can't do it, or no place for the results.
    """
    options = parser().parse(argv)
    plan.check(options.strategies, options.batch_size, options.micro_batches)
    if not _rows(options):
        raise InputError(f"--strategies {' '.join(options.strategies)}: none of these meshes fits "
                         f"--ranks {' '.join(map(str, options.ranks))}; give a multiple of the "
                         "ranks of one")
    namespaces.check()
    try:
        options.out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"cannot write in {options.out}: {error.strerror}; choose another place "
                         "with --out") from None
    if options.allreduce == "ring":  # as train sets it
        os.environ.update(OMPI_MCA_coll_tuned_use_dynamic_rules="1",
                          OMPI_MCA_coll_tuned_allreduce_algorithm="4")
    compute = _compute(options)
    print(f"computing a step of {options.batch_size} rows: {compute.total * 1e3:.1f} ms, "
          f"{options.batch_size / compute.total:,.0f} images/s on one rank", flush=True)
    with _ended_by_signals():
        return _measure(options, compute)


def _measure(options: Namespace, compute: Compute) -> int:
    from hpc_deepfake.scaling.emulation import results, running

    measured: list[Result] = []
    benches: dict[float, Any] = {}
    capacities: dict[int, float] = {}
    planned = _rows(options)
    numbers = sorted({count for _, count, _ in planned})
    few = min(4, numbers[-1])
    with running.started(numbers[-1]) as ranks:
        try:
            for count in sorted({few, *numbers}):
                capacities[count] = ranks.capacity(count)
                print(f"this machine moves {capacities[count] / 1e6:,.0f} MB/s between {count} "
                      "ranks", flush=True)
            for link, count, strategy in planned:
                if link not in benches:
                    benches[link] = ranks.microbench(few, link, _slow(options, few, link,
                                                                      capacities[few]))
                task = _task(options, compute, strategy, count, link, capacities[count])
                measured.append(ranks.run(task, capacities[count]))
                print(results.line(measured[-1]), flush=True)
        finally:
            if measured:  # also of a run that is stopped
                _write(options, compute, measured, benches, capacities)
    return 0


def _write(options: Namespace, compute: Compute, measured: list[Result],
           benches: Mapping[float, Any], capacities: dict[int, float]) -> None:
    """Write the results, and say what they are."""
    from hpc_deepfake.scaling.emulation import results

    print("\n".join(results.write(options.out, measured, len(_rows(options)), {
        "machine": platform.processor() or platform.machine(),
        "processors": len(os.sched_getaffinity(0)), "allreduce": options.allreduce,
        "measured": time.strftime("%Y-%m-%dT%H:%M:%S%z"), "batch_size": options.batch_size,
        "compute": asdict(compute), "sync_every": options.sync_every,
        "capacity_bytes_per_s": capacities})))
    for folder in results.write_studies(options.out, measured, benches):
        print(f"study: {folder}")
    print(f"results: {options.out / 'emulation.html'}", flush=True)


def _rows(options: Namespace) -> list[tuple[float, int, str]]:
    """Link, number of ranks and strategy of each row; without those that are impossible."""
    return [(link, count, strategy) for link in dict.fromkeys(options.links)
            for count in sorted(set(options.ranks))
            for strategy in dict.fromkeys(options.strategies) if plan.possible(strategy, count)]


def _slow(options: Namespace, ends: int, link: float, capacity: float) -> float:
    return float(options.slow_motion or plan.slow_motion(ends, link, capacity))


def _task(options: Namespace, compute: Compute, strategy: str, count: int, link: float,
          capacity: float) -> Task:
    slow = _slow(options, plan.busy(strategy, count), link, capacity)
    task = Task(strategy, count, link, slow, 1, options.batch_size, compute, traffic.table(SIZE),
                options.sync_every, micro=plan.micro_batches(strategy, options.micro_batches))
    # updates come in bursts where workers wait for each other
    period = {"local-sgd": options.sync_every, "async": 8}.get(strategy, 1)
    return replace(task, steps=plan.steps(plan.expected(task), slow, options.seconds, period))


def _compute(options: Namespace) -> Compute:
    """Seconds of a rank's step, as given or measured."""
    if options.compute is not None:
        return SHARES.scaled(options.compute)
    from hpc_deepfake.scaling.emulation import computing

    return computing.measure(options.batch_size, SIZE)


@contextmanager
def _ended_by_signals() -> Iterator[None]:
    """SIGTERM and SIGHUP end the block like Ctrl-C, so that all is removed."""
    def end(number: int, frame: FrameType | None) -> None:
        raise SystemExit(128 + number)

    before = {number: signal.signal(number, end) for number in (signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _link(text: str) -> float:
    try:
        return plan.parse_speed(text)
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"give bits per second from 1M to 1000G, like 100M or 2.5G, not {text!r}") from None
