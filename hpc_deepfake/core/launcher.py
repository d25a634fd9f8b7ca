"""What launchers, such as mpirun and srun, tell a process in its environment before MPI starts."""

from __future__ import annotations

from collections.abc import Mapping

# rank and number of ranks; SLURM's own last: mpirun starts its ranks inside a step of SLURM's
_WORLDS = (("OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE"),
           ("MV2_COMM_WORLD_RANK", "MV2_COMM_WORLD_SIZE"), ("PMI_RANK", "PMI_SIZE"),
           ("SLURM_PROCID", "SLURM_STEP_NUM_TASKS"))
_PMIX = ("PMIX_RANK", "PMIX_NAMESPACE")


def rank(environ: Mapping[str, str]) -> int:
    """Rank of this process; 0 without a launcher. A variable that is left over from other work,
    without the number of ranks, doesn't count."""
    for name, size in _WORLDS:
        number, ranks = _number(environ, name), _number(environ, size)
        if number is not None and ranks is not None and number < ranks:
            return number
    return (_number(environ, _PMIX[0]) or 0) if _PMIX[1] in environ else 0


def launched(environ: Mapping[str, str]) -> bool:
    """Whether variables of a launcher of MPI's processes are set."""
    return _PMIX[1] in environ or any(
        size in environ for _, size in _WORLDS if not size.startswith("SLURM_"))


def by_slurm(environ: Mapping[str, str]) -> bool:
    """Whether srun started this process, and others with it."""
    return not launched(environ) and (_number(environ, "SLURM_STEP_NUM_TASKS") or 1) > 1


def alone_in_slurm(environ: Mapping[str, str]) -> bool:
    """Whether this is a process of its own inside a SLURM job: in the job script, or in the only
    task of a step that starts no MPI, such as an interactive shell."""
    return ("SLURM_NODELIST" in environ and not launched(environ)
            and environ.get("SLURM_STEP_NUM_TASKS", "1") == "1")


def _number(environ: Mapping[str, str], name: str) -> int | None:
    text = environ.get(name, "")
    return int(text) if text.isascii() and text.isdigit() else None
