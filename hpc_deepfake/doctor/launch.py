"""How the ranks were started: one MPI world over the right nodes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path

from hpc_deepfake.core.mpi import launched_rank
from hpc_deepfake.doctor.place import Place, count
from hpc_deepfake.doctor.report import FAIL, INFO, WARN, Record

# Where launchers say how many ranks they started. SLURM's job-wide number comes last: mpirun
# within a job may start fewer.
_SIZES = ("OMPI_COMM_WORLD_SIZE", "MV2_COMM_WORLD_SIZE", "PMI_SIZE", "SLURM_STEP_NUM_TASKS")
_JOB_SIZE = "SLURM_NTASKS"
_THREAD_LEVELS = ("SINGLE", "FUNNELED", "SERIALIZED", "MULTIPLE")


def started(size: int, environ: Mapping[str, str]) -> Record | None:
    """A failure if the launcher started more processes than MPI sees ranks."""
    names = [*_SIZES, *([_JOB_SIZE] if size == 1 else [])]
    name = next((name for name in names if environ.get(name, "").isdigit()), None)
    if name is None or int(environ[name]) == size:
        return None
    ranks = int(environ[name])
    return Record(
        "start", f"MPI sees {count(size, 'rank')}, but {name} is {ranks}: " + (
            "each process is alone" if size == 1 else "the processes are no one MPI world"), FAIL,
        "without a common world each process would do the whole job for itself. Start all as ranks "
        "of the MPI that mpi4py uses:\n"
        + (f"  srun --mpi=pmix -n {ranks} hpc-deepfake doctor\n"
           "'srun --mpi=list' shows what this SLURM offers. Or:\n"
           if any(key.startswith("SLURM_") for key in environ) else "")
        + f"  mpirun -np {ranks} hpc-deepfake doctor\n"
        "with the mpirun of that same MPI; which one mpi4py uses:\n"
        "  python -c 'from mpi4py import MPI; print(MPI.Get_library_version())'")


def number(environ: Mapping[str, str]) -> int:
    """Number of this process as its launcher says, where MPI may call each of them rank 0."""
    return launched_rank() or int("SLURM_STEP_NUM_TASKS" in environ
                                  and environ.get("SLURM_PROCID", "0"))


def world(place: Place) -> Record:
    """The MPI and its ranks per node."""
    return describe(library(), place.hosts, place.nodes)


def library() -> str:
    """Name and version of the MPI library."""
    from mpi4py import MPI

    first = MPI.Get_library_version().strip("\0 \n").split("\n")[0].split(",")[0]
    return " ".join(first.split())


def describe(mpi: str, hosts: tuple[str, ...], nodes: tuple[int, ...]) -> Record:
    """Uneven ranks per node: the crowded node's ranks hold up all others."""
    on = Counter(nodes)
    text = f"{mpi}, {count(len(nodes), 'rank')} on {count(len(on), 'node')}"
    if len(on) == 1:
        return Record("MPI", f"{text}, {hosts[0]}")
    if len(set(on.values())) == 1:
        return Record("MPI", f"{text}, {on[0]} on each")
    each = ", ".join(f"{ranks} on {hosts[node]}" for node, ranks in list(on.items())[:6])
    most = max(on.values())
    return Record("MPI", f"{text}: {each}" + ", …" * (len(on) > 6), WARN,
                  "in each step all wait for the ranks of the fullest node; the same number on "
                  "each:\n"
                  f"  #SBATCH --ntasks-per-node={most}\n"
                  f"  mpirun --map-by ppr:{most}:node …")


def thread_level() -> Record:
    """What MPI allows threads to do."""
    from mpi4py import MPI

    return judge_level(MPI.Query_thread())


def judge_level(level: int) -> Record:
    """``level`` as MPI numbers them, 0 to 3."""
    name = f"MPI_THREAD_{_THREAD_LEVELS[level]}"
    if level == len(_THREAD_LEVELS) - 1:
        return Record("MPI threads", name)
    return Record("MPI threads", f"{name}, not MULTIPLE", WARN,
                  "Horovod's thread and the program both call MPI, and the watchdog that names "
                  "stalled ranks stays off. Unless MPI4PY_RC_THREAD_LEVEL is set, the MPI was "
                  "built without thread support; for Open MPI this shows it:\n"
                  "  ompi_info | grep -i thread")


def scheduler(size: int, environ: Mapping[str, str]) -> list[Record]:
    """The job, and whether PBS gave as many places as there are ranks."""
    job = environ.get("SLURM_JOB_ID") or environ.get("PBS_JOBID")
    if not job:
        return [Record("scheduler", "none", INFO)]
    name = "SLURM" if "SLURM_JOB_ID" in environ else "PBS"
    restarts = environ.get("SLURM_RESTART_COUNT", "0")
    again = f", restarted {restarts} times" if restarts not in ("", "0") else ""
    records = [Record("scheduler", f"{name} job {job}{again}", INFO)]
    places = _lines(environ.get("PBS_NODEFILE"))
    if places is not None and places != size:
        records.append(Record(
            "places of the job", f"{count(places, 'line')} in PBS_NODEFILE for "
            f"{count(size, 'rank')}", WARN,
            "cores lie idle or ranks share them, unless it is meant so. One line per rank comes "
            "from mpiprocs:\n"
            "  #PBS -l select=2:ncpus=8:mpiprocs=4\n"
            '  mpirun -np "$(wc -l < "$PBS_NODEFILE")" --hostfile "$PBS_NODEFILE" …', scope="all"))
    return records


def _lines(path: str | None) -> int | None:
    try:
        return len(Path(path).read_text(encoding="utf-8").split()) if path else None
    except OSError:
        return None
