"""How the ranks were started: as one MPI world, over the right nodes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path

from hpc_deepfake.core import launcher
from hpc_deepfake.core.text import plural
from hpc_deepfake.doctor.place import Place
from hpc_deepfake.doctor.report import FAIL, INFO, WARN, Record

# Variables in which launchers give the number of ranks that they started. SLURM's number for the
# whole job is used last: mpirun in a job may start fewer.
_SIZES = ("OMPI_COMM_WORLD_SIZE", "MV2_COMM_WORLD_SIZE", "PMI_SIZE", "SLURM_STEP_NUM_TASKS")
_JOB_SIZE = "SLURM_NTASKS"
_THREAD_LEVELS = ("SINGLE", "FUNNELED", "SERIALIZED", "MULTIPLE")


def started(size: int, environ: Mapping[str, str]) -> Record | None:
    """A failure if the launcher started another number of processes than MPI has ranks."""
    names = [*_SIZES, *([_JOB_SIZE] if size == 1 else [])]
    name = next((name for name in names if environ.get(name, "").isdigit()), None)
    if name is None or int(environ[name]) == size:
        return None
    ranks = int(environ[name])
    return Record(
        "start", f"MPI sees {plural(size, 'rank')}, but {name} is {ranks}: " + (
            "each process is alone" if size == 1 else "the processes are not one MPI world"), FAIL,
        "without a common world, each process would do the whole job by itself. Start all as ranks "
        "of the MPI that mpi4py uses:\n"
        + (f"  srun --mpi=pmix -n {ranks} hpc-deepfake doctor\n"
           "'srun --mpi=list' shows what this SLURM supports. Or:\n"
           if any(key.startswith("SLURM_") for key in environ) else "")
        + f"  mpirun -np {ranks} hpc-deepfake doctor\n"
        "with the mpirun of the same MPI; this shows which one mpi4py uses:\n"
        "  python -c 'from mpi4py import MPI; print(MPI.Get_library_version())'")


def number(environ: Mapping[str, str]) -> int:
    """Number of this process according to its launcher, where MPI may call each one rank 0."""
    return launcher.rank(environ)


def world(place: Place) -> Record:
    """The MPI library and its ranks per node."""
    return describe(library(), place.hosts, place.nodes)


def library() -> str:
    """Name and version of the MPI library."""
    from mpi4py import MPI

    first = MPI.Get_library_version().strip("\0 \n").split("\n")[0].split(",")[0]
    return " ".join(first.split())


def describe(mpi: str, hosts: tuple[str, ...], nodes: tuple[int, ...]) -> Record:
    """The MPI library, and a warning if the nodes have different numbers of ranks.

    Args:
        mpi: name of the library.
        hosts: host name of each rank.
        nodes: number of each rank's node.
    """
    ranks_on = Counter(nodes)
    text = f"{mpi}, {plural(len(nodes), 'rank')} on {plural(len(ranks_on), 'node')}"
    if len(ranks_on) == 1:
        return Record("MPI", f"{text}, {hosts[0]}")
    if len(set(ranks_on.values())) == 1:
        return Record("MPI", f"{text}, {ranks_on[0]} on each")
    each = ", ".join(f"{ranks} on {hosts[node]}" for node, ranks in list(ranks_on.items())[:6])
    most = max(ranks_on.values())
    return Record("MPI", f"{text}: {each}" + ", …" * (len(ranks_on) > 6), WARN,
                  "in each step, all ranks wait for those of the fullest node. Start the same "
                  "number on each:\n"
                  f"  #SBATCH --ntasks-per-node={most}\n"
                  f"  mpirun --map-by ppr:{most}:node …")


def thread_level() -> Record:
    """MPI's support for threads."""
    from mpi4py import MPI

    return judge_level(MPI.Query_thread())


def judge_level(level: int) -> Record:
    """The verdict on a level of support in MPI's numbering, 0 to 3."""
    name = f"MPI_THREAD_{_THREAD_LEVELS[level]}"
    if level == len(_THREAD_LEVELS) - 1:
        return Record("MPI threads", name)
    return Record("MPI threads", f"{name}, not MULTIPLE", WARN,
                  "Horovod's thread and the program both call MPI, and a stalled rank is noticed "
                  "only while rank 0 waits for it. Unless MPI4PY_RC_THREAD_LEVEL is set, the MPI "
                  "was built without full thread support; Open MPI shows it with:\n"
                  "  ompi_info | grep -i thread")


def scheduler(size: int, environ: Mapping[str, str]) -> list[Record]:
    """The job, and a warning if PBS assigned another number of slots than there are ranks."""
    job = environ.get("SLURM_JOB_ID") or environ.get("PBS_JOBID")
    if not job:
        return [Record("scheduler", "none", INFO)]
    name = "SLURM" if "SLURM_JOB_ID" in environ else "PBS"
    restarts = environ.get("SLURM_RESTART_COUNT", "0")
    again = f", restarted {restarts} times" if restarts not in ("", "0") else ""
    records = [Record("scheduler", f"{name} job {job}{again}", INFO)]
    slots = _lines(environ.get("PBS_NODEFILE"))
    if slots is not None and slots != size:
        records.append(Record(
            "places of the job", f"{plural(slots, 'line')} in PBS_NODEFILE for "
            f"{plural(size, 'rank')}", WARN,
            "unless this is intended, cores are idle or shared by ranks. mpiprocs gives one line "
            "per rank:\n"
            "  #PBS -l select=2:ncpus=8:mpiprocs=4\n"
            '  mpirun -np "$(wc -l < "$PBS_NODEFILE")" --hostfile "$PBS_NODEFILE" …', scope="all"))
    return records


def _lines(path: str | None) -> int | None:
    """Number of lines of a file; None if it can't be read."""
    try:
        return len(Path(path).read_text(encoding="utf-8").split()) if path else None
    except OSError:
        return None
