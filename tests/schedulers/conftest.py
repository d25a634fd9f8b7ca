"""A real SLURM for the tests: started once, with the clone where its ordinary user can read it."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import speed
from conftest import LOCAL

HERE = Path(__file__).parent
FOLDER = Path("/var/tmp/hpc-deepfake-lab")
OVER = ("COMPLETED", "FAILED", "CANCELLED", "TIMEOUT", "NODE_FAIL", "PREEMPTED", "OUT_OF_MEMORY",
        "DEADLINE", "BOOT_FAIL")
# Jobs that train the toy (tests/toy) instead of the network, with steps of that many seconds.
TOY = f"PYTHONPATH={shlex.quote(f'{FOLDER}/copy/my clone/tests/toy')} TOY_STEP_SECONDS="
# two ranks on two nodes, a core each
SMALL = "--nodes=2 --ntasks-per-node=1 --cpus-per-task=1"


@dataclass
class Job:
    """A finished job: id, state, exit code, number of restarts and log."""

    number: str
    state: str
    code: int
    restarts: int
    log: str

    @property
    def last_words(self) -> str:
        """The end of a failed job's log."""
        return self.log[self.log.rindex("----- job"):] if "----- job" in self.log else self.log


class Lab:
    """The cluster, seen from its login node as the user ``hpc``."""

    clone = FOLDER / "copy" / "my clone"
    plain = FOLDER / "copy" / "clone"  # a link to it, without a space in its path

    def run(self, command: str, cwd: Path | None = None, timeout: float = 60,
            check: bool = True) -> str:
        """Output of a shell command, standard error included."""
        prefix = (f"export HPC_DEEPFAKE_ENV={FOLDER}/copy/env; "
                  f"cd {shlex.quote(str(cwd or FOLDER))}; ")
        environ = {name: value for name, value in os.environ.items() if name not in LOCAL}
        done = subprocess.run([HERE / "lab.sh", "run", prefix + command], text=True, check=False,
                              env=environ,
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                              timeout=speed.limit(timeout),
                              stdin=subprocess.DEVNULL)
        assert not check or done.returncode == 0, f"{command}: {done.stdout}"
        return done.stdout

    def administrate(self, *command: str) -> None:
        """As root, who is also SLURM's administrator."""
        subprocess.run([HERE / "lab.sh", "admin", *command], check=True, timeout=speed.limit(60))

    def wait_for_node(self, node: str, timeout: float = 60) -> None:
        """Wait until a node accepts jobs again."""
        deadline = time.monotonic() + speed.limit(timeout)
        while self.run(f"sinfo -h -n {node} -p main -o %T").strip() != "idle":
            assert time.monotonic() < deadline, f"{node} does not come back"
            time.sleep(0.5)

    def folder(self, name: str) -> Path:
        """A new folder of the user, shared by all nodes."""
        path = FOLDER / "work" / name
        path.mkdir(parents=True)
        shutil.chown(path, "hpc")
        return path

    def take(self, source: Path, target: Path) -> None:
        """Copy a file or folder for the user, who can't read files of root's tests."""
        shutil.copytree(source, target) if source.is_dir() else shutil.copy(source, target)
        subprocess.run(["chmod", "-R", "a+rX", target], check=True)
        subprocess.run(["chown", "-R", "hpc:", target], check=True)

    def submit(self, script: str, arguments: str = "", *, cwd: Path, options: str = "",
               env: str = "") -> str:
        """Submit ``jobs/slurm/SCRIPT.sh`` by its absolute path; returns the job's id."""
        path = shlex.quote(f"{self.clone}/jobs/slurm/{script}.sh")
        return self.run(f"{env} sbatch --parsable {options} {path} {arguments}", cwd).strip()

    def facts(self, number: str) -> dict[str, str]:
        text = self.run(f"scontrol show job {number}")
        return dict(re.findall(r"(\w+(?:/\w+)?)=(.*?)(?=\s+\S+?=|\s*\n|$)", text))

    def wait(self, number: str, timeout: float = 240, limit: int = 0) -> Job:
        """Wait until a job has ended, even if it is queued again, without the two minutes by which
        SLURM would delay it. ``limit``: its time limit in minutes, once it is queued again."""
        timeout = speed.limit(timeout)
        deadline = time.monotonic() + timeout
        queued = None  # since when it is queued again; its nodes take a moment to end the first run
        while (facts := self.facts(number))["JobState"] not in OVER:
            if facts["JobState"] == "PENDING" and facts["Reason"] == "BeginTime":
                queued = queued or time.monotonic()
                if time.monotonic() - queued > 8:
                    if limit:
                        self.administrate("scontrol", "update", f"JobId={number}",
                                          f"TimeLimit={limit}")
                    self.run(f"scontrol update JobId={number} StartTime=now", check=False)
                    queued = None
            if time.monotonic() > deadline:
                self.run(f"scancel {number}")
                pytest.fail(f"job {number} takes longer than {timeout} s: {facts}\n"
                            + self.log(facts))
            time.sleep(0.5)
        return Job(number, facts["JobState"], int(facts["ExitCode"].split(":")[0]),
                   int(facts["Restarts"]), self.log(facts))

    def wait_for_state(self, number: str, state: str, timeout: float = 60) -> None:
        """Wait until a job that isn't over is in a state."""
        deadline = time.monotonic() + speed.limit(timeout)
        while (facts := self.facts(number))["JobState"] != state:
            assert facts["JobState"] not in OVER and time.monotonic() < deadline, \
                f"job {number} is not {state}: {facts}\n{self.log(facts)}"
            time.sleep(0.2)

    def wait_until(self, number: str, path: Path, timeout: float = 120) -> None:
        """Wait until a running job has written a file."""
        deadline = time.monotonic() + speed.limit(timeout)
        while not path.exists():
            facts = self.facts(number)
            assert facts["JobState"] not in OVER and time.monotonic() < deadline, \
                f"{path} did not appear: {facts}\n{self.log(facts)}"
            time.sleep(0.2)

    def log(self, facts: dict[str, str]) -> str:
        files = [Path(name) for name in dict.fromkeys((facts["StdOut"], facts["StdErr"]))]
        return "".join(file.read_text(errors="replace") for file in files if file.is_file())


@pytest.fixture(scope="session")
def lab(request: pytest.FixtureRequest) -> Iterator[Lab]:
    """The running cluster; skips only on a machine without root or namespaces."""
    for step in ("install", "up"):
        done = subprocess.run([HERE / "lab.sh", step], text=True,
                              env={name: value for name, value in os.environ.items()
                                   if name not in LOCAL}, stdin=subprocess.DEVNULL,
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                              timeout=speed.limit(400))
        if done.returncode == 3 and not os.environ.get("REQUIRE_SLURM"):
            pytest.skip(done.stdout.strip().splitlines()[-1])
        assert done.returncode == 0, done.stdout
    try:
        shutil.rmtree(FOLDER / "work")
        (FOLDER / "work").mkdir()
        (FOLDER / "work").chmod(0o1777)
        subprocess.run([HERE / "install.sh", FOLDER / "copy"], check=True, timeout=speed.limit(300))
        Lab.plain.unlink(missing_ok=True)
        Lab.plain.symlink_to(Lab.clone)
        yield Lab()
    finally:
        subprocess.run([HERE / "lab.sh", "down"], check=True, timeout=speed.limit(120))


@pytest.fixture(scope="session")
def shared_data(lab: Lab, small_file: Path) -> Path:
    """A small data file, in a folder shared by the nodes."""
    path = lab.folder("data") / "features.h5"
    lab.take(small_file, path)
    return path


@pytest.fixture
def work(lab: Lab, request: pytest.FixtureRequest) -> Path:
    """A folder of the user for one test, with a space in its name."""
    return lab.folder(f"my {request.node.originalname or request.node.name}")
