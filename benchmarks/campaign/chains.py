"""Chains of faults: a program is disturbed again and again, resumed each time, and in the end
compared with an undisturbed run.
"""

from __future__ import annotations

import random
import re
import shutil
import signal
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from hpc_deepfake.core.errors import InputError

from .acts import STOPPED, Expected, Scene, was_after_the_end
from .digests import Broken
from .disk import Disk
from .jobs import Job
from .kinds import BEFORE
from .plan import Fault
from .programs import Place, Program

# all ranks are on this machine, whatever its networks do
_LOCAL = {"OMPI_MCA_btl_tcp_if_include": "lo", "OMPI_MCA_oob_tcp_if_include": "lo"}
_TRIES = 4  # to do a fault before the program ends
_PATIENCE = 40.0  # seconds for a program to end, besides the time that it needs by itself
_UNFINISHED = "report.html could not be written"  # says training, and a resumed run writes it
_LEAVE = 10.0  # seconds for its processes to vanish after it has ended


@dataclass(frozen=True)
class Reference:
    """An undisturbed run.

    Attributes:
        result: of the program.
        spans: seconds from each event to the next.
        seconds: of the whole run.
    """

    result: dict[str, str]
    spans: dict[str, float]
    seconds: float


class Stage:
    """Where chains are played: the folders, the disk, and the undisturbed runs.

    Args:
        folder: of the campaign; what is in ``disk/`` and ``logs/`` is replaced.
        pictures: folder of pictures.
        data: data file of these pictures.
        seed: of the campaign.
        mark: what the marks of all jobs begin with.
    """

    def __init__(self, folder: Path, pictures: Path, data: Path, seed: int, mark: str) -> None:
        self.disk = Disk(folder / "disk")
        self.logs, self.seed, self.mark = folder / "logs", seed, mark
        self.logs.mkdir(exist_ok=True)
        self.sources = pictures.resolve(), data.resolve()
        self.place = Place(self.disk.path / "target", self.disk.path / "pictures",
                           self.disk.path / "data.h5")
        self.temporary = Path(f"/tmp/{mark}")  # short: holds names of sockets
        self.temporary.mkdir(exist_ok=True)

    def close(self) -> None:
        self.disk.close()
        shutil.rmtree(self.temporary, ignore_errors=True)

    def reset(self) -> None:
        """An empty place."""
        self.disk.mend()
        for path in self.disk.path.iterdir():
            shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
        self.place.folder.mkdir()
        self.place.pictures.symlink_to(self.sources[0])
        self.place.data.symlink_to(self.sources[1])

    def start(self, program: Program, name: str, *more: str) -> Job:
        environment = {**_LOCAL, "TMPDIR": str(self.temporary),
                       "OMPI_MCA_btl_vader_backing_directory": str(self.temporary),
                       **program.environment()}
        return Job(program.command(self.place, *more), self.logs / f"{name}.log",
                   f"{self.mark}-{name}", environment)

    def reference(self, program: Program) -> Reference:
        """Run a program undisturbed, and measure its moments.

        Raises:
            RuntimeError: it failed.
        """
        self.reset()
        job = self.start(program, "reference")
        times = {}
        for event in program.events:
            if job.wait(600, partial(program.happened, event, self.place, job)):
                times[event] = time.time() - job.began
        job.wait(600)
        seconds = time.time() - job.began
        if job.code != 0:
            job.kill()
            raise RuntimeError(f"{program} failed undisturbed:\n{job.output()[-3000:]}")
        ends = [*times.values(), seconds][1:]
        spans = {event: max(end - begin, seconds / 20)
                 for (event, begin), end in zip(times.items(), ends)}
        return Reference(program.result(self.place), spans, seconds)

    def play(self, chain: list[Fault], reference: Reference) -> list[dict[str, Any]]:
        """Do the faults of a chain one after another. Returns a record of each."""
        self.reset()
        records: list[dict[str, Any]] = []
        since = 0  # first record since the place was empty

        def compare(excused: frozenset[str]) -> None:
            """The program has ended with 0: what is there must be right."""
            nonlocal since
            problem = self._differences(chain[0].program, reference, excused)
            for record in records[since:]:
                if problem:
                    record["problems"].append(["lost", problem])
            since = len(records)
            self.reset()

        for fault in chain:
            for attempt in range(_TRIES):
                record, expected = self._fault(fault, reference, attempt)
                if expected is not None:
                    records.append(record)
                    if expected.again:
                        since = len(records)
                        self.reset()
                elif record["problems"] or record["code"] != 0:
                    if not record["problems"]:
                        record["problems"].append(["wrong", "failed before the fault happened"])
                    records.append(record)
                    since = len(records)
                    self.reset()
                if record["code"] == 0 and not record["unfinished"]:
                    compare(expected.excused if expected else frozenset())
                if expected is not None or record["problems"]:
                    break
            else:
                records.append({**record, "missed": True})
            show(records[-1])
        if since < len(records):
            job = self.start(chain[0].program, "end")
            job.wait(_PATIENCE + 4 * reference.seconds)
            if job.code != 0:
                records[-1]["problems"].append(
                    ["hung" if job.code is None else "lost", f"the last run ended with {job.code}: "
                     f"{job.output()[-1500:]}"])
            job.kill()
            if job.code == 0:
                compare(frozenset())
        return records

    def _fault(self, fault: Fault, reference: Reference,
               attempt: int) -> tuple[dict[str, Any], Expected | None]:
        """Start the program, disturb it, wait for its end, and judge. Returns a record, and None
        if the program ended before."""
        program, kind = fault.program, fault.kind
        name = f"{fault.number}" + f"-{attempt}" * bool(attempt)
        scene = Scene(program, self.place, self.disk, random.Random(f"{self.seed}/{name}"),
                      lambda: self.start(program, f"{name}-second"))
        if fault.event == BEFORE and kind.completes and not program.progress(self.place):
            self._some_progress(program, reference)
        floor = program.progress(self.place)
        wait = fault.fraction * reference.spans.get(fault.event, 0) / (1 + attempt) ** 2
        expected = None
        if fault.event == BEFORE:
            expected = kind.act(scene)
            floor = min(floor, self._floor(program))
        before = self.place.temporaries()
        job = scene.job = self.start(program, name, *kind.options)
        limit = _PATIENCE + 4 * reference.seconds
        if fault.event != BEFORE and job.wait(
                limit, lambda: program.happened(fault.event, self.place, job)):
            job.wait(wait)
            expected = kind.act(scene)
        happened = time.time()
        if not job.wait(limit + (expected.more if expected else 0)) and job.code is None:
            expected = was_after_the_end(scene) or expected
        record: dict[str, Any] = {
            "fault": fault.number, "program": str(program), "group": program.group,
            "kind": kind.name, "moment": f"{fault.event} + {wait:.2f} s", "notes": scene.notes,
            "unfinished": _UNFINISHED in job.output(),
            "code": job.code, "seconds": round(time.time() - happened, 2), "problems": []}
        problems = scene.problems
        if job.code is None:
            problems.append(("hung", f"not ended after {limit:.0f} s:\n{job.stacks()}"))
        elif left := job.left(_LEAVE):
            problems.append(("hung", f"processes {left} are left:\n{job.stacks()}"))
        job.kill()
        self.disk.mend()
        for mend in scene.mend:
            mend()
        if expected is not None and record["code"] is not None:
            problems += _judge(program, self.place, expected, job, floor, before)
        if problems or (expected is None and job.code):
            record["output"] = job.output()[-6000:]
        record["problems"] = [list(problem) for problem in problems]
        return record, expected

    def _some_progress(self, program: Program, reference: Reference) -> None:
        """Run the program for a while: something to damage."""
        job, event = self.start(program, "some"), program.events[2]
        if job.wait(_PATIENCE + reference.seconds,
                    lambda: program.happened(event, self.place, job)):
            job.wait(reference.spans[event] / 3)
            with suppress(ProcessLookupError):
                job.process.send_signal(signal.SIGUSR1)
        job.wait(_PATIENCE + reference.seconds)
        job.kill()

    def _floor(self, program: Program) -> int:
        """Progress that must not be lost, after something was damaged on purpose."""
        try:
            return program.progress(self.place)
        except (Broken, InputError):
            return 0

    def _differences(self, program: Program, reference: Reference, excused: frozenset[str]) -> str:
        """What differs from the undisturbed run, of a program that ended with 0."""
        try:
            result = program.result(self.place)
        except Broken as error:
            return str(error)
        wrong = [name for name, digest in reference.result.items()
                 if result.get(name) != digest and name not in excused]
        left = [path.name for path in self.place.temporaries()]
        return "; ".join([f"{', '.join(wrong)} differ from an undisturbed run"] * bool(wrong)
                         + [f"left behind: {', '.join(left)}"] * bool(left))


def _judge(program: Program, place: Place, expected: Expected, job: Job,
           floor: int, before: Sequence[Path]) -> list[tuple[str, str]]:
    """What was not as promised, by category; ``before`` are files that others had left."""
    problems = []
    assert job.code is not None
    over = job.code == 0 and expected.done  # then everything is compared
    if not over and not expected.allows(job.code):
        problems.append(("wrong", f"exit code {job.code}"))
    elif not over and not re.search(expected.says, job.output()):
        problems.append(("silent", f"no message like {expected.says!r}"))
    left = [path.name for path in place.temporaries() if path not in before]
    if job.code in (2, STOPPED) and left and not expected.litter:
        problems.append(("lost", f"left behind: {', '.join(left)}"))
    if job.code == 0 or expected.again:
        return problems
    try:
        progress, claimed = program.progress(place), program.claimed(job.output(), place)
        if progress < floor:
            problems.append(("lost", f"{progress} of {floor} finished before"))
        if job.code == STOPPED and claimed != progress:
            problems.append(("lost", f"said that {claimed} were kept, and {progress} were"))
    except (Broken, InputError) as error:
        problems.append(("lost", str(error)))
    return problems


def show(record: dict[str, Any]) -> None:
    """Print the line of a fault."""
    outcome = ", ".join(category for category, _ in record["problems"]) or (
        "missed" if record.get("missed") else "as promised")
    print(f"{record['fault']:>5}  {record['program']:<18} {record['kind']:<24} "
          f"{record['moment']:<20} {record['code']!s:>5} {record['seconds']:>6.1f} s  {outcome}",
          flush=True)
    for _, text in record["problems"]:
        print(f"       {text}", flush=True)
