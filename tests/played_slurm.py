"""SLURM's commands, played: ``squeue``, ``sacct``, ``scontrol``, ``scancel`` and ``sbatch`` in a
folder for PATH. They answer from a list of jobs that a test writes, in the formats of SLURM 22.05
and 24.x: github.com/SchedMD/slurm, src/squeue/print.c and src/sacct/print.c.

``squeue`` fills in whatever ``--format`` asks for, so that a wrong letter is seen. Nothing runs.
"""

from __future__ import annotations

import json
import os
import re
import sys
from pathlib import Path

_COMMAND = '''#!/bin/sh
exec {python} -IS {program} "${{0##*/}}" "$@"
'''
COMMANDS = ("squeue", "sacct", "scontrol", "scancel", "sbatch")
# A waiting job by the letters of squeue's format.
DEFAULTS = {"T": "PENDING", "r": "Priority", "S": "N/A", "V": "1795645818", "M": "0:00",
            "l": "8:00:00", "D": "1", "P": "cpu", "E": "(null)", "j": "hd-train-cpu", "Z": "/work"}


class PlayedSlurm:
    """The cluster.

    Args:
        folder: for all that it keeps; its ``bin`` goes into PATH.
    """

    def __init__(self, folder: Path) -> None:
        self.folder, self.bin = folder, folder / "bin"
        self.bin.mkdir(parents=True)
        for name in COMMANDS:
            (self.bin / name).write_text(_COMMAND.format(python=sys.executable, program=__file__))
            (self.bin / name).chmod(0o755)

    @property
    def jobs(self) -> dict[str, dict[str, str]]:
        """All jobs by id, each by letters of squeue's format."""
        file = self.folder / "jobs.json"
        return json.loads(file.read_text()) if file.exists() else {}

    def job(self, number: str, **fields: str) -> None:
        """Add or change a job; ``fields`` by letters of squeue's format. ``U`` is the user's number
        (default: this user), ``log`` the file of its output."""
        own = {**DEFAULTS, "U": str(os.getuid()), "u": "me", "i": number}
        self._write({**self.jobs, number: {**own, **self.jobs.get(number, {}), **fields}})

    def forget(self, number: str) -> None:
        """An ended job leaves the queue."""
        self._write({name: job for name, job in self.jobs.items() if name != number})

    def _write(self, jobs: dict[str, dict[str, str]]) -> None:
        (self.folder / "jobs.json").write_text(json.dumps(jobs))

    def accounting(self, *lines: str) -> None:
        """What sacct knows, in its format."""
        (self.folder / "sacct").write_text("".join(f"{line}\n" for line in lines))

    def hang(self) -> None:
        """From now on nothing is answered."""
        (self.folder / "hangs").touch()

    def then(self, command: str) -> None:
        """A shell command that the next scancel runs, such as one that submits a job."""
        (self.folder / "then").write_text(command)

    @property
    def calls(self) -> list[list[str]]:
        """The commands that were called, with their arguments."""
        file = self.folder / "calls"
        return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []


def _main(name: str, words: list[str]) -> int:
    folder = Path(os.environ["PLAYED_SLURM"])
    with open(folder / "calls", "a") as calls:
        print(json.dumps([name, *words]), file=calls)
    if (folder / "hangs").exists():
        import time
        time.sleep(600)
    file = folder / "jobs.json"
    jobs = json.loads(file.read_text()) if file.exists() else {}
    values = dict(word.split("=", 1) for word in words if "=" in word)
    if name == "squeue":
        return _squeue(jobs, values)
    if name == "sacct":
        text = (folder / "sacct").read_text() if (folder / "sacct").exists() else ""
        asked = set(words[words.index("-j") + 1].split(","))
        for line in text.splitlines():
            if line.split("|")[0].split(".")[0] in asked:
                print(line)
        return 0
    if name == "scontrol":
        job = jobs.get(words[-1])
        if job is None:
            print("slurm_load_jobs error: Invalid job id specified", file=sys.stderr)
            return 1
        print(f"JobId={words[-1]} JobName={job['j']}\n   JobState={job['T']} Reason={job['r']}\n"
              f"   StdErr={job.get('log', '')}\n   StdIn=/dev/null\n   StdOut={job.get('log', '')}")
        return 0
    if name == "scancel":
        limited = {re.sub(r"%\d+", "", number): number for number in jobs}  # 14_[2-9%2]
        for word in (limited.get(word, word) for word in words):
            if word not in jobs:
                print(f"scancel: error: Kill job error on job id {word}: Invalid job id specified",
                      file=sys.stderr)
                return 1
            if jobs[word]["U"] != str(os.getuid()):
                print(f"scancel: error: Kill job error on job id {word}: Access/permission denied",
                      file=sys.stderr)
                return 1
            jobs[word]["T"] = "COMPLETING" if jobs[word]["T"] == "RUNNING" else "CANCELLED"
        file.write_text(json.dumps(jobs))
        if (folder / "then").exists():
            command = (folder / "then").read_text()
            (folder / "then").unlink()
            os.system(command)
        return 0
    number = str(101 + sum(json.loads(line)[0] == "sbatch"
                           for line in (folder / "calls").read_text().splitlines()[:-1]))
    after = values.get("--dependency", "(null)")
    script = Path(words[-1]).read_text() if words and words[-1].endswith(".sh") else ""
    title = [line.partition("--job-name=")[2] for line in script.splitlines()
             if "--job-name=" in line]
    jobs[number] = {**DEFAULTS, "U": str(os.getuid()), "u": "me", "i": number,
                    "r": "Priority" if after == "(null)" else "Dependency", "Z": os.getcwd(),
                    "j": title[0] if title else "sbatch",
                    "E": after if after == "(null)" else f"{after}(unfulfilled)"}
    file.write_text(json.dumps(jobs))
    print(number)
    return 0


def _squeue(jobs: dict[str, dict[str, str]], values: dict[str, str]) -> int:
    asked = values.get("--jobs", "").split(",")
    if len(asked) == 1 and asked[0] and asked[0] not in jobs:
        print("slurm_load_jobs error: Invalid job id specified", file=sys.stderr)
        return 1
    form = values["--format"].split("%")[1:]
    for number, job in jobs.items():
        if values.get("--user") not in (None, job["U"]) or (asked[0] and number not in asked):
            continue
        print("".join(job[part[0]] + part[1:] for part in form))
    return 0


if __name__ == "__main__":
    sys.exit(_main(sys.argv[1], sys.argv[2:]))
