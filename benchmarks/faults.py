"""Faults injected into running programs, and whether everything holds that the guides promise.

    python benchmarks/faults.py [--count 500] [--seed N] [--only WORD] [--programs NAME …]
    python benchmarks/faults.py --table runs/faults       # the table of docs/reliability.md

Preprocessing and training with every strategy, on 1 to 4 ranks, are killed, signalled, stopped,
denied their disk and their files, given damaged ones, or started twice. After each fault: is the
exit code right, is there a message, is no process left, did nobody wait too long, is everything
whole that was finished? A program is disturbed several times in a row, each time resumed, and in
the end it must have the same bytes as an undisturbed run (async: the same number of updates).

The campaign may be stopped at any time and started again with the same options: it continues.
Filling up a disk and making it read-only need root; otherwise these kinds are left out.
Exit code 1: something was lost, hung, silent, or ended with a wrong exit code.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

from campaign.chains import Reference, Stage
from campaign.jobs import kill_marked
from campaign.kinds import KINDS
from campaign.plan import plan
from campaign.programs import PROGRAMS, Program
from campaign.table import Ledger, markdown, problems, rows, text

from hpc_deepfake.core.files import write_json

_NAMES = list(dict.fromkeys(program.name for program in PROGRAMS))


def options() -> argparse.Namespace:
    cli = argparse.ArgumentParser(description=__doc__,
                                  formatter_class=argparse.RawDescriptionHelpFormatter)
    cli.add_argument("--count", type=int, default=500, metavar="N",
                     help="number of faults (default: 500)")
    cli.add_argument("--seed", type=int, default=0, metavar="N",
                     help="decides which fault comes when (default: 0)")
    cli.add_argument("--programs", nargs="+", choices=_NAMES, metavar="NAME",
                     default=[name for name in _NAMES if name != "toy"],
                     help=f"programs to disturb, of {', '.join(_NAMES)} (default: all but toy, "
                          "which stands in for training in tests)")
    cli.add_argument("--only", default="", metavar="WORD",
                     help="only the kinds of faults with this word in their names")
    cli.add_argument("--folder", type=Path, default=Path("runs/faults"), metavar="DIR",
                     help="records, logs and everything that the programs write (default: "
                          "runs/faults)")
    cli.add_argument("--pictures", type=int, default=400, metavar="N",
                     help="number of generated pictures (default: 400)")
    cli.add_argument("--list", action="store_true", help="only print the planned faults")
    cli.add_argument("--json", type=Path, metavar="FILE", help="also write the table to FILE")
    cli.add_argument("--table", type=Path, nargs="+", metavar="DIR",
                     help="only print the table of the campaigns in these folders, as Markdown")
    return cli.parse_args()


def main() -> int:
    chosen = options()
    if chosen.table:
        print(markdown(rows(record for folder in chosen.table
                            for record in Ledger(folder / "faults.jsonl").records)))
        return 0
    programs = [program for program in PROGRAMS if program.name in chosen.programs]
    kinds = [kind for kind in KINDS if chosen.only in kind.name]
    if chosen.list:
        for chain in plan(chosen.seed, programs, kinds, os.geteuid() == 0):
            for fault in chain:
                if fault.number >= chosen.count:
                    return 0
                print(f"{fault.number:>5}  {fault.program!s:<18} {fault.kind.name:<24} "
                      f"{fault.event} + {fault.fraction:.2f}")
    chosen.folder.mkdir(parents=True, exist_ok=True)
    folder = chosen.folder.resolve()
    _same_campaign(folder, chosen)
    mark = f"faults-{hashlib.sha256(str(folder).encode()).hexdigest()[:8]}"
    kill_marked(mark)  # of a campaign in this folder that was killed
    ledger = Ledger(folder / "faults.jsonl")
    stage = Stage(folder, *_data(folder, chosen.pictures), chosen.seed, mark)
    try:
        finished = {record["fault"] for record in ledger.records}
        for chain in plan(chosen.seed, programs, kinds, stage.disk.real):
            if chain[0].number >= chosen.count:
                break
            chain = [fault for fault in chain if fault.number < chosen.count]
            if chain[-1].number not in finished:
                ledger.add(stage.play(chain, _reference(stage, folder, chain[0].program)))
    finally:
        kill_marked(mark)
        stage.close()
    table = rows(ledger.records)
    print(f"\n{text(table)}")
    missed = sum(bool(record.get("missed")) for record in ledger.records)
    print(f"{missed} planned faults came too late to happen")
    if chosen.json is not None:
        write_json(chosen.json, {"seed": chosen.seed, "table": table, "missed": missed})
    return int(any(map(problems, ledger.records)))


def _same_campaign(folder: Path, chosen: argparse.Namespace) -> None:
    """Refuse to continue another campaign."""
    this = {"seed": chosen.seed, "programs": chosen.programs, "only": chosen.only,
            "pictures": chosen.pictures}
    file = folder / "campaign.json"
    if file.exists() and json.loads(file.read_text()) != this:
        sys.exit(f"error: {folder} holds a campaign with other options: {file.read_text()}choose "
                 "another --folder")
    write_json(file, this)


def _data(folder: Path, count: int) -> tuple[Path, Path]:
    """Pictures to preprocess, and a data file of a third as many to train on, for short epochs."""
    pictures, few, data = folder / "sample", folder / "few", folder / "features.h5"
    for made, command in (
            (pictures, ["hpc_deepfake.cli", "sample", "--out", pictures, "--count", count]),
            (few, ["hpc_deepfake.cli", "sample", "--out", few, "--count", count // 3]),
            (data, ["preprocessing", "--data", few, "--out", data, "--split", "70/15/15"])):
        if not made.exists():
            subprocess.run([sys.executable, "-m", *map(str, command)], check=True,
                           stdout=subprocess.DEVNULL)
    return pictures, data


def _reference(stage: Stage, folder: Path, program: Program) -> Reference:
    """The undisturbed run of a program, taken once for a campaign."""
    file = folder / "references.json"
    known = json.loads(file.read_text()) if file.exists() else {}
    name = " ".join([str(program), *program.options])
    if name not in known:
        known[name] = asdict(stage.reference(program))
        write_json(file, known)
    return Reference(**known[name])


if __name__ == "__main__":
    sys.exit(main())
