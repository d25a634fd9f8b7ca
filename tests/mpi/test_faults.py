"""Faults of benchmarks/faults.py: a seeded selection happens here, and mistakes are detected."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
from conftest import ROOT, read_lines
from speed import limit

sys.path.insert(0, str(ROOT / "benchmarks"))

from campaign import chains, kinds, table
from campaign.digests import Broken
from campaign.plan import Fault, plan
from campaign.programs import PROGRAMS, Place, Program

pytestmark = pytest.mark.mpi


@pytest.fixture(scope="module")
def material(pictures: Path, data_file: Path, tmp_path_factory) -> Path:
    """A folder for a campaign with the tests' pictures and data file."""
    folder = tmp_path_factory.mktemp("campaign")
    for name in ("sample", "few"):
        (folder / name).symlink_to(pictures)
    (folder / "features.h5").symlink_to(data_file)
    return folder


@pytest.mark.parametrize(("options", "count"), [
    (("--programs", "preprocessing", "--seed", "4"), 11),
    (("--programs", "toy", "--seed", "3"), 7),
    (("--programs", "sequential", "--only", "kill -9 of a rank"), 1)],
    ids=["preprocessing", "toy", "sequential"])
def test_a_selection_of_faults(material: Path, tmp_path: Path, options: tuple[str, ...],
                               count: int) -> None:
    """Whatever was done, it ends as promised, and with the bytes of an undisturbed run."""
    for link in material.iterdir():
        (tmp_path / link.name).symlink_to(link.resolve())
    done = subprocess.run(
        [sys.executable, ROOT / "benchmarks" / "faults.py", "--folder", tmp_path, "--count",
         str(count), *options], capture_output=True, text=True, timeout=limit(240), cwd=ROOT)
    assert done.returncode == 0, done.stdout + done.stderr
    records = read_lines(tmp_path / "faults.jsonl")
    assert [record["fault"] for record in records] == list(range(count))
    assert sum(bool(record.get("missed")) for record in records) <= count // 4, done.stdout


@dataclass(frozen=True)
class Script(Program):
    """A program of one line that can be disturbed; what it finishes is a file."""

    text: str = ""

    group = "training"
    events = ("start", "records")

    def _arguments(self, place: Place) -> list[str]:
        begin = f"out = {str(place.out)!r}; import os, sys, time, signal; "
        return ["-c", begin + self.text]

    def _files(self, event: str, place: Place) -> list[Path]:
        return [place.out]

    def _printed(self, event: str, job: object) -> bool:
        return False

    def progress(self, place: Place) -> int:
        if place.out.exists() and b"torn" in place.out.read_bytes():
            raise Broken("torn")
        return int(place.out.exists())

    def claimed(self, output: str, place: Place) -> int | None:
        return 1 if "kept" in output else None

    def result(self, place: Place) -> dict[str, str]:
        if not place.out.exists():
            raise Broken("no output")
        return {"bytes": place.out.read_text()}


WRITE = "open(out, 'w').write('right')"
ASKED = ("os.path.exists(out) and os._exit(0); asked = []; "
         "signal.signal(signal.SIGTERM, lambda *_: asked.append(1)); {write}; "
         "[time.sleep(0.01) for _ in range(1000) if not asked]; {end}")


@pytest.mark.parametrize(("text", "kind", "categories"), [
    (ASKED.format(write=WRITE, end="print('stopped by SIGTERM, kept'); sys.exit(75)"),
     "SIGTERM to a rank", set()),
    (ASKED.format(write=WRITE, end="sys.exit(75)"), "SIGTERM to a rank", {"silent", "lost"}),
    (ASKED.format(write=WRITE, end="print('stopped by SIGTERM, kept'); sys.exit(3)"),
     "SIGTERM to a rank", {"wrong"}),
    (ASKED.format(write=WRITE, end="os.unlink(out); print('stopped by, kept'); sys.exit(75)"),
     "SIGTERM to a rank", {"lost", "hung"}),
    (ASKED.format(write=WRITE, end="open(out, 'w').write('torn'); sys.exit(1)"),
     "SIGTERM to a rank", {"lost", "wrong"}),
    (ASKED.format(write=WRITE, end="time.sleep(1000)"), "SIGTERM to a rank", {"hung"}),
    (ASKED.format(write=WRITE, end="os.fork() or time.sleep(1000); "
                                   "print('stopped by SIGTERM, kept'); sys.exit(75)"),
     "SIGTERM to a rank", {"hung"}),
    (ASKED.format(write=WRITE, end="open(out, 'w').write('other')"), "SIGTERM to a rank",
     {"lost"}),
    ("time.sleep(1000)", "SIGTERM to a rank", {"hung"})],
    ids=["right", "silent", "wrong code", "progress lost", "torn", "hung", "left", "other bytes",
         "hung before it"])
def test_mistakes_are_detected(tmp_path: Path, monkeypatch, text: str, kind: str,
                               categories: set[str]) -> None:
    """What a program does wrong after a fault is found, in its category."""
    monkeypatch.setattr(chains, "_PATIENCE", limit(1.5))
    monkeypatch.setattr(chains, "_LEAVE", limit(0.3))
    (tmp_path / "pictures").mkdir()
    (tmp_path / "data.h5").touch()
    stage = chains.Stage(tmp_path, tmp_path / "pictures", tmp_path / "data.h5", 0,
                         f"test-{tmp_path.name[:40]}")
    try:
        program = Script("script", 1, text=text)
        chosen = next(one for one in kinds.KINDS if one.name == kind)
        reference = chains.Reference({"bytes": "right"}, {"records": 0.1}, 0.1)
        record, = stage.play([Fault(0, program, chosen, "records", 0.5)], reference)
    finally:
        stage.close()
    assert table.problems(record) == categories


def test_a_plan_depends_on_the_seed_alone_and_covers_everything() -> None:
    def drawn(seed: int) -> list[tuple[str, str, str]]:
        faults = [fault for chain, _ in zip(plan(seed, PROGRAMS, kinds.KINDS, True),
                                            range(300)) for fault in chain]
        assert [fault.number for fault in faults] == list(range(len(faults)))
        return [(str(fault.program), fault.kind.name, fault.event) for fault in faults]

    first = drawn(0)
    assert first == drawn(0) != drawn(1)
    assert {name for name, *_ in first} == {str(program) for program in PROGRAMS}
    assert {kind for _, kind, _ in first} == {kind.name for kind in kinds.KINDS}


def test_records_survive_the_death_of_their_writer(tmp_path: Path) -> None:
    """An incomplete line is dropped; the table counts kinds and problems."""
    record = {"fault": 0, "kind": "disk full", "program": "sync on 2", "problems": []}
    ledger = table.Ledger(tmp_path / "faults.jsonl")
    ledger.add([record, {**record, "fault": 1, "problems": [["lost", "all"]]}])
    with open(ledger.path, "a") as file:
        file.write('{"fault": 2, "ki')
    read = table.Ledger(ledger.path)
    assert [one["fault"] for one in read.records] == [0, 1]
    assert json.loads(ledger.path.read_text().splitlines()[-1])["fault"] == 1
    assert table.rows(read.records) == [
        ["kind", "sync", "all", "lost", "hung", "silent", "wrong"],
        ["disk full", "2", "2", "1", "0", "0", "0"], ["all", "2", "2", "1", "0", "0", "0"]]
    assert table.markdown(table.rows(read.records)).splitlines()[1] == (
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: |")
