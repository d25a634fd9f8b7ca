"""Jobs and steps in SLURM's accounting, read by ``sacct``."""

from __future__ import annotations

import re

from hpc_deepfake.core.text import whole_number
from hpc_deepfake.jobs.accounting.usage import Usage
from hpc_deepfake.jobs.accounting.values import (
    answer,
    read_duration,
    read_size,
    read_time,
)

FIELDS = ("JobID", "State", "ExitCode", "Submit", "Eligible", "Start", "ElapsedRaw", "AllocCPUS",
          "NNodes", "NTasks", "TotalCPU", "MaxRSS", "ReqMem", "AllocTRES",
          "JobName")  # last: it may contain the separator


def ask_sacct(*jobs: str, patience: float | None = None) -> tuple[list[Usage], str]:
    """All runs of these jobs in SLURM's accounting; and, if there are none, why.
    ``patience``: as of ``answer``."""
    jobs = tuple(job for job in jobs if re.fullmatch(r"\d+([_+]\d+)?", job))
    if not jobs:
        return [], "sacct: not the id of a SLURM job"
    text, problem = answer("sacct", "-j", ",".join(jobs), "--duplicates", "--parsable2",
                           "--noheader", "--units=K", f"--format={','.join(FIELDS)}",
                           patience=patience)
    return parse_sacct(text), f"sacct: {problem or 'no such job'}"


def parse_sacct(text: str) -> list[Usage]:
    """Jobs in the output of ``sacct --parsable2`` with ``FIELDS``, each with its steps."""
    jobs: list[Usage] = []
    for line in text.split("\n"):
        values = line.split("|", len(FIELDS) - 1)
        if len(values) < len(FIELDS):
            continue
        row = dict(zip(FIELDS, values))
        job, _, step = row["JobID"].partition(".")
        if not step:
            jobs.append(_job(row, job))
            continue
        owner = next((usage for usage in reversed(jobs) if usage.id == job), None)
        if owner is not None:  # steps of each run of a requeued job come right after that run
            owner.steps.append(_step(row, step))
    for usage in jobs:
        largest = max(usage.steps, key=lambda step: step.memory or 0, default=None)
        usage.memory = largest.memory if largest else None
    return jobs


def _job(row: dict[str, str], name: str) -> Usage:
    usage = _usage(row, name)
    usage.memory_asked = _memory_asked(row["ReqMem"], usage) or usage.memory_asked
    usage.wait(*(read_time(row[key]) for key in ("Submit", "Eligible", "Start")),
               still=usage.state == "PENDING")
    if _running(usage.state) and usage.state != "PENDING":
        usage.notes.append("CPU time and memory are only known once a step has ended")
    return usage


def _step(row: dict[str, str], name: str) -> Usage:
    usage, resident = _usage(row, name), read_size(row["MaxRSS"])
    usage.memory = resident and resident * (whole_number(row["NTasks"]) or 1)
    return usage


def _usage(row: dict[str, str], name: str) -> Usage:
    """The figures that jobs and steps have in common."""
    state = (row["State"].split() or [""])[0]  # without "by 1001"
    tres = dict(item.split("=", 1) for item in row["AllocTRES"].split(",") if "=" in item)
    return Usage(name, row["JobName"], state, "sacct", row["ExitCode"],
                 elapsed=whole_number(row["ElapsedRaw"]), cpus=whole_number(row["AllocCPUS"]),
                 gpus=_gpus(tres), nodes=whole_number(row["NNodes"]),
                 cpu=None if _running(state) else read_duration(row["TotalCPU"]),
                 memory_asked=read_size(tres.get("mem", "")))


def _running(state: str) -> bool:
    """Whether a job in this state hasn't ended."""
    return state in ("PENDING", "RUNNING", "SUSPENDED", "COMPLETING", "CONFIGURING")


def _gpus(tres: dict[str, str]) -> int:
    """Number of GPUs: ``gres/gpu``, or the sum of all ``gres/gpu:TYPE``."""
    if "gres/gpu" in tres:
        return whole_number(tres["gres/gpu"]) or 0
    return sum(whole_number(value) or 0 for key, value in tres.items()
               if key.startswith("gres/gpu:"))


def _memory_asked(text: str, job: Usage) -> float | None:
    """Bytes of ReqMem: of the whole job or, before SLURM 21.08, of each CPU (suffix c) or node
    (n)."""
    units = {"c": job.cpus, "n": job.nodes}.get(text[-1:], 1)
    size = read_size(text.rstrip("cn"))
    return size * units if size and units else None
