"""What a job used, and the report on a run or job."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Any

from hpc_deepfake.core.text import plural
from hpc_deepfake.jobs.accounting.values import ratio


@dataclass
class Usage:
    """One run of a job, or a step of it; None where a figure is unknown.

    Attributes:
        id: as the scheduler spells it.
        name: of the job or step.
        state: as the scheduler spells it, such as COMPLETED.
        source: command that printed the figures.
        exit: exit code, as the scheduler spells it.
        waited: seconds from submission to start.
        held: seconds of ``waited`` before the job was eligible to start.
        elapsed: seconds from start to end.
        cpu: CPU time in seconds.
        cpus: number of allocated CPUs.
        gpus: number of allocated GPUs.
        nodes: number of allocated nodes.
        memory: largest memory in use, in bytes.
        memory_asked: requested memory, in bytes.
        cpu_allocated: CPU seconds available to the job: elapsed × cpus.
        gpu_hours: GPU hours available to the job: elapsed × gpus.
        energy: consumed by its nodes, in joules.
        gpu_use: share of the time in which a GPU computed, mean of the tasks.
        gpu_use_max: the same of the task with the largest share.
        gpu_memory: largest GPU memory of a task, in bytes.
        notes: remarks for a reader.
        steps: of a job.
    """

    id: str
    name: str
    state: str
    source: str
    exit: str = ""
    waited: float | None = None
    held: float | None = None
    elapsed: float | None = None
    cpu: float | None = None
    cpus: int | None = None
    gpus: int | None = None
    nodes: int | None = None
    memory: float | None = None
    memory_asked: float | None = None
    cpu_allocated: float | None = None
    gpu_hours: float | None = None
    energy: float | None = None
    gpu_use: float | None = None
    gpu_use_max: float | None = None
    gpu_memory: float | None = None
    notes: list[str] = field(default_factory=list)
    steps: list[Usage] = field(default_factory=list)

    def __post_init__(self) -> None:
        elapsed = self.elapsed or 0
        if self.cpu_allocated is None:
            self.cpu_allocated = elapsed * (self.cpus or 0)
        if self.gpu_hours is None:
            self.gpu_hours = elapsed * (self.gpus or 0) / 3600

    @property
    def cpu_efficiency(self) -> float | None:
        """CPU time / allocated CPU time."""
        return ratio(self.cpu, self.cpu_allocated)

    @property
    def memory_efficiency(self) -> float | None:
        """Memory in use / requested memory."""
        return ratio(self.memory, self.memory_asked)

    def wait(self, submitted: float | None, eligible: float | None, started: float | None,
             *, still: bool) -> None:
        """Set ``waited`` and ``held`` from these times, in seconds since the epoch.

        Args:
            submitted: when the job was submitted.
            eligible: when it became eligible to start.
            started: when it started.
            still: whether it is still waiting: the figures then count up to now.
        """
        if still:
            started = time.time()
            self.notes.append("still waiting: the figure is the time so far")
        if submitted and started:
            self.waited = max(0, started - submitted)
            self.held = min(max(0, eligible - submitted), self.waited) if eligible else None

    def as_dict(self) -> dict[str, Any]:
        """For JSON, with units in the names."""
        return {"id": self.id, "name": self.name, "state": self.state, "exit": self.exit,
                "source": self.source, "waited_s": self.waited, "held_s": self.held,
                "elapsed_s": self.elapsed, "nodes": self.nodes, "cpus": self.cpus,
                "gpus": self.gpus, "cpu_s": self.cpu, "cpu_efficiency": self.cpu_efficiency,
                "memory_bytes": self.memory, "memory_asked_bytes": self.memory_asked,
                "memory_efficiency": self.memory_efficiency, "gpu_hours": self.gpu_hours,
                "cpu_allocated_s": self.cpu_allocated, "energy_j": self.energy,
                "gpu_use": self.gpu_use, "gpu_use_max": self.gpu_use_max,
                "gpu_memory_bytes": self.gpu_memory,
                "notes": self.notes, "steps": [step.as_dict() for step in self.steps]}


@dataclass
class Report:
    """What is known of a job, or of a run's jobs.

    Attributes:
        subject: the run directory, data file or job id, as given by the user.
        jobs: each run of each job.
        unknown: reason by id, of jobs without figures.
        measured: figures that runs measured themselves.
        outcome: exit code of the last job; empty if none has ended.
    """

    subject: str
    jobs: list[Usage] = field(default_factory=list)
    unknown: dict[str, str] = field(default_factory=dict)
    measured: list[dict[str, Any]] = field(default_factory=list)
    outcome: str = ""

    @property
    def total(self) -> Usage:
        """Sums over all runs of all jobs; memory is that of the run with the highest efficiency."""
        cpu = [(job.cpu, job.cpu_allocated or 0) for job in self.jobs if job.cpu is not None]
        energy = [job.energy for job in self.jobs if job.energy is not None]
        highest = max(self.jobs, key=lambda job: job.memory_efficiency or 0)
        return Usage("total of", plural(len(self.jobs), "run"), "", "",
                     waited=sum(job.waited or 0 for job in self.jobs),
                     elapsed=sum(job.elapsed or 0 for job in self.jobs),
                     cpu=sum(used for used, _ in cpu) if cpu else None,
                     cpu_allocated=sum(allocated for _, allocated in cpu),
                     gpu_hours=sum(job.gpu_hours or 0 for job in self.jobs),
                     energy=sum(energy) if energy else None,
                     memory=highest.memory, memory_asked=highest.memory_asked)

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {"subject": self.subject, "jobs": [job.as_dict() for job in self.jobs],
                "total": self.total.as_dict() if self.jobs else None, "unknown": self.unknown,
                "measured": self.measured, "outcome": self.outcome}
