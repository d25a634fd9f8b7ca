"""Damaged inputs for everything that parses: any error but the documented ones is a failure, and so
are a hang, memory above the bound, and the death of the process.

    python benchmarks/fuzz.py [--count 200000] [--only WORD] [--seed N] [--json FILE]

The targets are those of tests/fuzz, which ./run test gives a small and always equal selection of
inputs. Each target runs in a process of its own. An input that fails is kept in --keep, with its
traceback; the same --seed repeats the same inputs.
"""

from __future__ import annotations

import argparse
import faulthandler
import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
import traceback
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / "tests" / "fuzz"), str(ROOT / "tests")]
BATCH = 250  # inputs between two lines of progress
MOST_KINDS = 40  # of failures of a target, after which it is given up


def options() -> argparse.Namespace:
    cli = argparse.ArgumentParser(description=__doc__,
                                  formatter_class=argparse.RawDescriptionHelpFormatter)
    cli.add_argument("--count", type=int, default=200_000, metavar="N",
                     help="number of inputs of all targets together (default: 200000)")
    cli.add_argument("--only", default="", metavar="WORD",
                     help="only the targets with this word in their names")
    cli.add_argument("--jobs", type=int, default=os.cpu_count() or 1, metavar="N",
                     help="number of targets at a time (default: one per core)")
    cli.add_argument("--seed", type=int, default=0, metavar="N", help="seed of the inputs")
    cli.add_argument("--keep", type=Path, default=Path("runs/fuzz"), metavar="DIR",
                     help="folder for inputs that fail (default: runs/fuzz)")
    cli.add_argument("--json", type=Path, metavar="FILE", help="also write the table to FILE")
    cli.add_argument("--worker", metavar="TARGET", help=argparse.SUPPRESS)
    cli.add_argument("--start", type=int, default=0, help=argparse.SUPPRESS)
    cli.add_argument("--pipe", type=int, help=argparse.SUPPRESS)
    return cli.parse_args()


def work(name: str, start: int, count: int, seed: int, scratch: Path, pipe: int) -> None:
    """Feed a target, in this process; prints a line of JSON for each batch and each new failure."""
    from mutations import Rolled
    from speed import slowness
    from targets import WAITING, all_targets

    faulthandler.enable()
    target = all_targets()[name]
    slow = slowness()
    target.check(target.inputs(Rolled("first")), scratch, slow)  # what is only made once
    known: set[str] = set()
    base, began = _memory(), time.perf_counter()
    for first in range(start, start + count, BATCH):
        numbers = range(first, min(first + BATCH, start + count))
        for number in numbers:
            value = target.inputs(Rolled(f"{seed} {name} {number}"))
            # hangs in C, where Python handles no signal
            faulthandler.dump_traceback_later(2 * WAITING * target.seconds * slow, exit=True)
            try:
                target.check(value, scratch, slow)
            except KeyboardInterrupt:
                raise
            except BaseException as error:
                place = _place(error)
                if place not in known:
                    known.add(place)
                    _say(pipe, failure=place, input=repr(value)[:100_000],
                         traceback="".join(traceback.format_exception(error))[-4000:])
                _say(pipe, failed=1)
            faulthandler.cancel_dump_traceback_later()
        _say(pipe, inputs=len(numbers), seconds=time.perf_counter() - began,
             mib=(_memory() - base) >> 10)
        began = time.perf_counter()


def _memory() -> int:
    """Largest resident set so far, in KiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def _place(error: BaseException) -> str:
    """The error's kind, and the line of this project that raised it."""
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if "/hpc_deepfake/" in frame.filename
           or "/preprocessing/" in frame.filename] or frames
    file = Path(own[-1].filename)
    return f"{type(error).__name__} in {file.parent.name}/{file.name}:{own[-1].lineno}"


def _say(pipe: int, **facts: Any) -> None:
    os.write(pipe, (json.dumps(facts) + "\n").encode())


def feed(name: str, count: int, seed: int, keep: Path) -> dict[str, Any]:
    """Feed a target, in a process of its own; in another one after each that died, from the next
    batch of inputs on."""
    row: dict[str, Any] = {"inputs": 0, "failed": 0, "seconds": 0.0, "mib": 0, "kinds": []}
    start = 0
    while start < count and len(row["kinds"]) < MOST_KINDS:
        with tempfile.TemporaryDirectory() as scratch, tempfile.TemporaryFile("w+") as errors:
            reader, writer = os.pipe()
            child = subprocess.Popen(
                [sys.executable, __file__, "--worker", name, "--count", str(count - start),
                 "--seed", str(seed), "--start", str(start), "--keep", scratch,
                 "--pipe", str(writer)],
                pass_fds=[writer], stdout=subprocess.DEVNULL, stderr=errors)
            os.close(writer)
            with open(reader, encoding="utf-8") as lines:
                for line in lines:
                    facts = json.loads(line)
                    if "failure" in facts:
                        _keep(keep, name, row["kinds"], facts)
                    for key in ("inputs", "failed", "seconds"):
                        row[key] += facts.get(key, 0)
                    row["mib"] = max(row["mib"], facts.get("mib", 0))
                    start += facts.get("inputs", 0)
            if child.wait():
                start += BATCH
                row["failed"] += 1
                errors.seek(0)
                folder = _keep(keep, name, row["kinds"], {
                    "failure": f"its process ended with {child.returncode} before input {start}",
                    "traceback": errors.read()[-4000:]})
                shutil.copytree(scratch, folder, symlinks=True, ignore_dangling_symlinks=True)
    return row


def _keep(keep: Path, name: str, kinds: list[str], facts: dict[str, Any]) -> Path:
    """Add to the kinds of failures of a target, and keep the input; returns a path for more."""
    kinds.append(facts["failure"])
    keep.mkdir(parents=True, exist_ok=True)
    path = keep / f"{name.replace(' ', '-')}-{len(kinds)}"
    path.with_suffix(".txt").write_text(
        "\n\n".join(str(facts[key]) for key in ("failure", "traceback", "input") if key in facts),
        encoding="utf-8", errors="backslashreplace")
    return path


def main() -> int:
    chosen = options()
    if chosen.worker:
        work(chosen.worker, chosen.start, chosen.count, chosen.seed, chosen.keep, chosen.pipe)
        return 0
    from targets import all_targets

    targets = {name: target for name, target in all_targets().items() if chosen.only in name}
    shares = sum(target.share for target in targets.values())
    rows, began = {}, time.perf_counter()
    print(f"{'':<32} {'inputs':>8} {'failed':>7} {'kinds':>6} {'per s':>7} {'more MiB':>9}")
    with ThreadPoolExecutor(chosen.jobs) as pool:
        names = {pool.submit(feed, name, round(chosen.count * target.share / shares), chosen.seed,
                             chosen.keep): name for name, target in targets.items()}
        for future in as_completed(names):
            rows[names[future]] = row = future.result()
            print(f"{names[future]:<32} {row['inputs']:>8,} {row['failed']:>7,} "
                  f"{len(row['kinds']):>6} {row['inputs'] / max(row['seconds'], 1e-9):>7,.0f} "
                  f"{row['mib']:>9,}", *row["kinds"], sep="\n    ", flush=True)
    total = {key: sum(row[key] for row in rows.values()) for key in ("inputs", "failed")}
    print(f"{'all':<32} {total['inputs']:>8,} {total['failed']:>7,} in "
          f"{time.perf_counter() - began:,.0f} s")
    if chosen.json is not None:
        from hpc_deepfake.core.files import write_json

        write_json(chosen.json, {"seed": chosen.seed, "targets": rows, "total": total})
    return int(total["failed"] > 0)


if __name__ == "__main__":
    sys.exit(main())
