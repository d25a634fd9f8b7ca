"""Runs tasks on an emulated cluster: starts its ranks with mpirun, and gives them tasks."""

from __future__ import annotations

import json
import os
import socket
import statistics
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

from hpc_deepfake.core import json_data
from hpc_deepfake.core.errors import InputError
from hpc_deepfake.core.log import log
from hpc_deepfake.core.text import plural, printable
from hpc_deepfake.scaling.emulation import namespaces
from hpc_deepfake.scaling.emulation.namespaces import SWITCH, Cluster
from hpc_deepfake.scaling.emulation.pauses import Pauses
from hpc_deepfake.scaling.emulation.plan import Task, load
from hpc_deepfake.strategies.traffic import TABLE

_PATIENCE = 2.0  # seconds of starting for each rank, and 60 more
_SILENCE = 600.0  # seconds for an answer
# MPI looks for messages without a pause, and between two looks it yields. Many ranks on few
# processors would take them from each other, and from other programs, only to look.
_PATIENT = """#include <time.h>
int sched_yield(void) { struct timespec pause = {0, 200000}; return nanosleep(&pause, 0); }
"""
_TRIES = 25  # to measure a row while the machine doesn't stand still
_WORKER = "hpc_deepfake.scaling.emulation.worker"
# bytes of the micro-benchmark's messages; a link's token bucket lets those between pass at any rate
_MESSAGES = (64, 1 << 10), (1 << 20, 1 << 21)
_LIMITED = 0.8  # share of what the processors move from which on they, and not the link, limit


@dataclass(frozen=True)
class Result:
    """What a task measured, with times as without slow motion.

    Attributes:
        task: the task.
        steps: seconds of each step; of async, between two updates; of local-sgd, of a mean step
            of each period.
        waited: seconds of a step that a computing rank waited for messages.
        load: share of what this machine's processors can move that the links asked for.
    """

    task: Task
    steps: tuple[float, ...]
    waited: float
    load: float

    @property
    def step(self) -> float:
        """Seconds of a step, median; of async, the mean between two updates."""
        return statistics.mean(self.steps) if self.task.strategy == "async" \
            else statistics.median(self.steps)

    @property
    def rate(self) -> float:
        """Images/s of all ranks."""
        together = 1 if self.task.strategy == "async" else self.task.ranks
        return self.task.batch * together / self.step

    @property
    def efficiency(self) -> float:
        """Over what one rank computes alone; servers count as ranks."""
        return self.rate / (self.task.ranks * self.task.batch / self.task.compute.total)

    @property
    def share(self) -> float:
        """Share of a step in which a computing rank waits: for messages, and of a pipeline for
        stages that are still computing."""
        own = self.step * (self.task.workers if self.task.strategy == "async" else 1)
        return max(1 - statistics.mean(self.task.computing) / own, 0.0)

    @property
    def limited(self) -> bool:
        """Whether this machine's processors limited it, and not the links."""
        return self.load > _LIMITED


class Ranks:
    """The running ranks."""

    def __init__(self, nodes: Cluster, controls: Sequence[TextIO],
                 process: subprocess.Popen[str], log: Path) -> None:
        self._nodes, self._controls, self._process, self._log = nodes, controls, process, log

    def capacity(self, ranks: int) -> float:
        """Bytes per second that the machine moves between so many ranks without limits."""
        self._nodes.shape(None)
        answers = self._do(ranks, {"what": "capacity", "numbers": TABLE.kernel})
        return 2 * (ranks - 1) * 4 * TABLE.kernel / max(answer["seconds"] for answer in answers)

    def microbench(self, ranks: int, link: float, slow: float) -> dict[str, Any]:
        """What ``scaling microbench`` writes, measured on links of this rate, as without slow
        motion."""
        self._nodes.shape(link / slow)
        made = {str(self._nodes.folder / f"microbench{low}.json"): (low, high)
                for low, high in _MESSAGES}
        self._do(ranks, {"what": "microbench", "files": made})
        bench, *others = [json_data.read(Path(file)) for file in made]
        bench["rows"] += [row for other in others for row in other["rows"]]
        for row in bench["rows"]:
            row["latency_us"] = {name: value / slow for name, value in row["latency_us"].items()}
            for name in ("mb_per_s", "window_mb_per_s"):
                if name in row:
                    row[name] *= slow
        return bench

    def run(self, task: Task, capacity: float) -> Result:
        """Run a task; ``capacity`` as of ``capacity`` for its ranks."""
        self._nodes.shape(task.link / task.slow)
        # averages and updates are measured by whole periods; of others a step may be left out
        single = task.strategy not in ("local-sgd", "async")
        answers = self._do(task.ranks, {"what": "emulate", "task": task.as_json()},
                           lambda answers: single and bool(_clean(answers[0])))
        seconds = [value / task.slow for value in
                   (_clean(answers[0]) if single else answers[0]["seconds"])]
        if task.strategy == "local-sgd":
            seconds = [statistics.mean(seconds[at:at + task.every])
                       for at in range(0, len(seconds), task.every)]
        computing = answers[task.ranks - task.workers:]
        waited = statistics.mean(answer["waited"] for answer in computing)
        return Result(task, tuple(seconds), waited / task.slow / task.steps, load(task, capacity))

    def _do(self, ranks: int, order: dict[str, Any],
            enough: Callable[[list[dict[str, Any]]], bool] = lambda answers: False,
            ) -> list[dict[str, Any]]:
        """The answers of the first ``ranks`` ranks to an order.

        Where the machine stood still meanwhile, they are asked again, unless the answers are
        ``enough`` nevertheless.

        Raises:
            InputError: it stands still again and again.
        """
        for _ in range(_TRIES):
            with Pauses() as pauses:
                answers = self._ask(ranks, order)
            if not pauses.seconds or enough(answers):
                return answers
            log.info("note: this machine stood still for %.0f s, so this is measured again",
                     pauses.seconds)
        raise InputError("this machine stands still again and again (suspended, or frozen by "
                         "another program), so nothing can be measured: try again later")

    def _ask(self, ranks: int, order: dict[str, Any]) -> list[dict[str, Any]]:
        for control in self._controls[:ranks]:
            print(json.dumps({"ranks": ranks, **order}), file=control, flush=True)
        try:
            answers = [control.readline() for control in self._controls[:ranks]]
        except TimeoutError:
            raise self._failure("gave no answer") from None
        if not all(answers):
            raise self._failure("ended")
        return [json.loads(answer) for answer in answers]

    def _failure(self, what: str) -> RuntimeError:
        return RuntimeError(f"emulated ranks {what}:\n{_tail(self._log)}")


def _clean(answer: dict[str, Any]) -> list[float]:
    """Seconds of the steps during which the machine didn't stand still."""
    return [seconds for seconds, paused in zip(answer["seconds"], answer["paused"], strict=True)
            if not paused]


@contextmanager
def started(count: int) -> Iterator[Ranks]:
    """A cluster of ``count`` nodes with a rank on each; all is ended and removed at the end.

    Raises:
        InputError: this machine can't have it, or MPI doesn't start.
    """
    check_mpi()
    with ExitStack() as stack:
        nodes = stack.enter_context(namespaces.cluster(count))
        listener = stack.enter_context(socket.socket(socket.AF_UNIX))
        address = nodes.folder / "control"
        listener.bind(os.fspath(address))
        listener.listen(count)
        log = nodes.folder / "log"
        process = stack.enter_context(_mpirun(nodes, address, log))
        listener.settimeout(1)
        controls: dict[int, TextIO] = {}
        left = 60 + _PATIENCE * count
        while len(controls) < count:
            try:
                connection, _ = listener.accept()
            except TimeoutError:
                left -= 1
                if process.poll() is not None or left < 0:
                    raise InputError("Open MPI doesn't start ranks in the network namespaces:\n"
                                     + _tail(log)) from None
                continue
            stack.callback(connection.close)
            connection.settimeout(_SILENCE)
            control = connection.makefile("rw", encoding="utf-8")
            stack.callback(control.close)
            controls[json.loads(control.readline())["rank"]] = control
        yield Ranks(nodes, [controls[rank] for rank in range(count)], process, log)
        for stream in controls.values():
            stream.close()


def check_mpi() -> None:
    """Raise InputError unless ``mpirun`` is Open MPI's."""
    try:
        version = subprocess.run(["mpirun", "--version"], capture_output=True, text=True).stdout
    except OSError:
        version = ""
    if "Open MPI" not in version and "OpenRTE" not in version:
        raise InputError("scaling emulate starts its ranks with Open MPI's mpirun, and "
                         + ("there is none" if not version else
                            f"this is {printable(version.splitlines()[0])}")
                         + ": source env/activate.sh, or install openmpi-bin")


@contextmanager
def _mpirun(nodes: Cluster, address: Path, log: Path) -> Iterator[subprocess.Popen[str]]:
    """The running mpirun, in the switch's namespace; it ends with this process, and its ranks with
    it."""
    count = len(nodes.nodes)
    only = {"btl": "tcp,self", "btl_tcp_if_include": namespaces.NETWORK, "pml": "ob1",
            "oob_tcp_if_include": namespaces.NETWORK, "plm_rsh_agent": nodes.agent,
            "plm_rsh_no_tree_spawn": "1", "plm_rsh_num_concurrent": str(count),
            "orte_tmpdir_base": str(nodes.folder), "mpi_yield_when_idle": "1"}
    later = {"plm_ssh_agent": nodes.agent, "plm_ssh_no_tree_spawn": "1",
             "plm_ssh_num_concurrent": str(count), "oob_tcp_if_include": namespaces.NETWORK,
             "prte_tmpdir_base": str(nodes.folder)}
    environment = {name: value for name, value in os.environ.items()
                   if not name.startswith(("SLURM_", "PBS_", "PMI", "PMIX_", "OMPI_COMM_"))}
    environment |= {f"OMPI_MCA_{name}": value for name, value in only.items()}
    environment |= {f"PRTE_MCA_{name}": value for name, value in later.items()}
    environment |= {"OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1",
                    "PRTE_ALLOW_RUN_AS_ROOT": "1", "PRTE_ALLOW_RUN_AS_ROOT_CONFIRM": "1",
                    **_patient(nodes.folder), "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1",
                    "PYTHONPATH": os.pathsep.join(filter(None, (
                        str(Path(__file__).parents[3]), os.environ.get("PYTHONPATH"))))}
    command = ["setpriv", "--pdeathsig", "TERM", "mpirun", "-np", str(count), "--hostfile",
               str(nodes.hosts), "--map-by", "node", sys.executable, "-m", "mpi4py", "-m", _WORKER,
               str(address)]  # -m mpi4py: a rank that fails ends the others
    with open(log, "w", encoding="utf-8") as output, subprocess.Popen(
            nodes.inside(SWITCH, command), env=environment, stdin=subprocess.DEVNULL,
            stdout=output, stderr=output, text=True, start_new_session=True) as process:
        try:
            yield process
            with suppress(subprocess.TimeoutExpired):  # on slow links the end takes long, too
                process.wait(30)
        finally:
            if process.poll() is None:
                process.terminate()
                with suppress(subprocess.TimeoutExpired):
                    process.wait(3)
                process.kill()


def _patient(folder: Path) -> dict[str, str]:
    """Environment in which ranks that wait inside MPI sleep, if this machine has a compiler."""
    source, library = folder / "patient.c", folder / "patient.so"
    source.write_text(_PATIENT)
    try:
        done = subprocess.run(["cc", "-O2", "-shared", "-fPIC", "-o", str(library), str(source)],
                              capture_output=True, text=True)
    except OSError:
        done = None
    if done is None or done.returncode:
        log.warning("note: without a C compiler (cc) the waiting ranks keep the processors busy, "
                    "and all takes longer")
        return {}
    before = os.environ.get("LD_PRELOAD")
    return {"LD_PRELOAD": f"{library}:{before}" if before else str(library)}


def _tail(log: Path) -> str:
    """The last lines of a file."""
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
    return "\n".join(map(printable, lines[-12:])) or f"({plural(0, 'line')} of output)"
