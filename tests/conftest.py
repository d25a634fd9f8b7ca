"""What all tests share: programs started as a user would, and small data sets."""

from __future__ import annotations

import ctypes
import gzip
import json
import logging
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from functools import cache
from itertools import count, takewhile
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import psutil
import pytest
from played_pbs import PlayedPbs
from speed import limit
from worlds import Worlds

from hpc_deepfake.core import holder
from preprocessing.sample import generate

if TYPE_CHECKING:
    from mpi4py.MPI import Comm

ROOT = Path(__file__).resolve().parent.parent
# Ranks on this machine must not talk by the test cluster's network, which comes and goes.
LOCAL = {"OMPI_MCA_btl_tcp_if_include": "lo", "OMPI_MCA_oob_tcp_if_include": "lo"}
os.environ.update(LOCAL)


def run_program(*command: str | os.PathLike, ranks: int = 0, cwd: Path, timeout: float = 240,
                env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    """Run ``python -m …`` (``command`` begins with the module), under mpirun if ranks are given.

    ``timeout``: seconds on a usual machine, see ``speed.limit``."""
    return subprocess.run(command_line(command, ranks), cwd=cwd, text=True, timeout=limit(timeout),
                          capture_output=True, stdin=subprocess.DEVNULL,
                          env={**os.environ, **(env or {})})


def start_program(*command: str | os.PathLike, ranks: int = 0, cwd: Path,
                  env: dict[str, str] | None = None) -> subprocess.Popen[str]:
    """As ``run_program``, without waiting; a process group of its own."""
    return subprocess.Popen(command_line(command, ranks), cwd=cwd, text=True,
                            stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                            stdin=subprocess.DEVNULL, env={**os.environ, **(env or {})},
                            start_new_session=True)


def command_line(command: Sequence[str | os.PathLike], ranks: int) -> list[str]:
    """The argument list of ``run_program``."""
    launcher = ["mpirun", "-np", str(ranks)] if ranks else []
    return [*launcher, sys.executable, "-m", *map(os.fspath, command)]


def read_lines(path: Path) -> list[dict]:
    """Records of a JSON-lines file, such as ``metrics.jsonl``."""
    return [json.loads(line) for line in path.read_text().splitlines()]


def alone() -> Comm:
    """MPI's world of this one process, started here.

    Its start leaves variables in the environment behind ``os.environ``'s back, with which a later
    mpirun fails without a word: they are taken out again."""
    from mpi4py import MPI

    environ = ctypes.POINTER(ctypes.c_char_p).in_dll(ctypes.CDLL(None), "environ")
    names = [line.partition(b"=")[0] for line in takewhile(bool, map(environ.__getitem__, count()))]
    for name in names:
        if name not in os.environb:
            os.unsetenv(name)
    return MPI.COMM_SELF


_TESTS = ROOT / "tests"
_SHARED = re.compile(r"worlds: Worlds|found: Callable")  # tests in worlds of ranks
_POLLING = ("test_asynchronous.py", "test_mesh.py", "test_mesh_runs.py", "test_parts.py")


@cache
def _group(file: Path) -> int:
    """Where a file of tests comes: first what takes longest, and shares what takes long to start.
    """
    folder = file.relative_to(_TESTS).parts[0]
    if folder == "mpi" and _SHARED.search(file.read_text()):
        # worlds with other settings of MPI: so each of the two kinds of worlds starts once
        return int(file.name not in _POLLING)
    return 2 if folder == "schedulers" else 3 if folder == "mpi" else 4


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest first: with several workers the others then fill up the time."""
    items.sort(key=lambda item: _group(item.path))


def pytest_xdist_make_scheduler(config: pytest.Config, log: object) -> object:
    """Several workers: tests stay together that share what takes long to start, which are the
    worlds of ranks, the cluster, and a file's fixtures."""
    from xdist.scheduler import LoadScopeScheduling

    class ByStart(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            file = Path(config.rootpath, nodeid.partition("::")[0])
            return {0: "worlds", 1: "worlds", 2: "cluster"}.get(_group(file), str(file))

    return ByStart(config, log)


@pytest.fixture(autouse=True)
def fresh_log() -> Iterator[None]:
    """A program run in this process starts the log; the next test finds it as it was."""
    log = logging.getLogger("hpc_deepfake")
    before = log.handlers[:], log.propagate, log.level
    yield
    log.handlers[:], log.propagate = before[:2]
    log.setLevel(before[2])


@pytest.fixture(autouse=True)
def own_signals() -> Iterator[None]:
    """A program run in this process may handle signals; the next test finds them as they were."""
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGHUP)
    before = [signal.getsignal(number) for number in numbers]
    yield
    for number, handler in zip(numbers, before, strict=True):
        if handler is not None and signal.getsignal(number) is not handler:
            signal.signal(number, handler)


@pytest.fixture(autouse=True)
def nothing_held() -> Iterator[None]:
    """What a test held in this process is free for the programs of the next one."""
    yield
    holder.release()


@pytest.fixture
def pbs(tmp_path: Path) -> Iterator[PlayedPbs]:
    """A played PBS server."""
    server = PlayedPbs(tmp_path / "pbs")
    yield server
    server.close()


@pytest.fixture(scope="session")
def worlds(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Worlds]:
    """Ranks that were started once for all tests of what they compute."""
    worlds = Worlds(tmp_path_factory.mktemp("worlds"))
    yield worlds
    worlds.close()


@pytest.fixture(scope="session")
def found(worlds: Worlds,
          tmp_path_factory: pytest.TempPathFactory) -> Callable[..., dict[str, np.ndarray]]:
    """The arrays that a program of tests/mpi computes on a number of ranks, by name.

    The program is given a file to write them into, and the other arguments. The same is run once
    for all tests; on more ranks than the worlds have it is started by itself."""
    @cache
    def run(program: str, ranks: int, *arguments: object) -> dict[str, np.ndarray]:
        out = tmp_path_factory.mktemp("arrays") / "arrays.npz"
        if ranks <= 4:
            answer = worlds.run(ranks, program, out, *arguments, cwd=out.parent)
            assert answer.code == 0, answer.output
        else:
            done = subprocess.run(
                ["mpirun", "-np", str(ranks), sys.executable, ROOT / "tests" / "mpi" / program, out,
                 *map(str, arguments)], capture_output=True, text=True, timeout=limit(600))
            assert done.returncode == 0, done.stderr[-3000:]
        with np.load(out) as stored:
            return dict(stored)

    return run


@pytest.fixture(scope="session")
def casia_names() -> dict[str, list[str]]:
    """All file names of ``casia1_Au``, ``casia1_Sp``, ``casia2_Au`` and ``casia2_Tp``."""
    folder = ROOT / "tests" / "data" / "casia-names"
    return {file.name.removesuffix(".txt.gz"): gzip.decompress(file.read_bytes()).decode().split()
            for file in sorted(folder.glob("*.txt.gz"))}


@pytest.fixture(scope="session")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of 60 sample pictures in CASIA 2's layout; not to be changed."""
    folder = tmp_path_factory.mktemp("pictures")
    generate(folder, 60, 0)
    return folder


@pytest.fixture(scope="session")
def data_file(pictures: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The data file of ``pictures``, with a test part; not to be changed."""
    out = tmp_path_factory.mktemp("data") / "features.h5"
    done = run_program("preprocessing", "--data", pictures, "--out", out, "--split", "60/20/20",
                       cwd=out.parent)
    assert done.returncode == 0, done.stderr
    return out


@pytest.fixture(scope="session")
def small_file(pictures: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """As ``data_file``, in 32 × 32 pixels, fewer than users may choose: the network for them takes
    a twentieth of the time. Not to be changed."""
    out = tmp_path_factory.mktemp("small") / "features.h5"
    subprocess.run(
        [sys.executable, "-c", "import runpy; from preprocessing import ela; ela.SIZES = 32, 128; "
         "runpy.run_module('preprocessing', run_name='__main__', alter_sys=True)", "--data",
         pictures, "--out", out, "--split", "60/20/20", "--size", "32"], check=True,
        capture_output=True, timeout=limit(120), cwd=out.parent)
    return out


@pytest.fixture
def kill() -> Callable[[subprocess.Popen], None]:
    """Kill a started program and all its ranks at once; returns when they are gone."""
    def all_of_it(process: subprocess.Popen) -> None:
        # mpirun puts each rank into a process group of its own
        ranks = psutil.Process(process.pid).children(recursive=True)
        for one in (process.pid, *(rank.pid for rank in ranks)):
            with suppress(ProcessLookupError):
                os.kill(one, signal.SIGKILL)
        process.wait(limit(30))
        psutil.wait_procs(ranks, timeout=limit(30))

    return all_of_it
