"""What a job used, and all that is known of a subject."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Any

from hpc_deepfake.jobs.accounting.values import ratio


@dataclass
class Usage:
    """One run of a job, or a step of it; None where a figure isn't known.

    Attributes:
        id, name, state, exit: as the scheduler spells them. source: of the figures.
        waited: seconds from submission to start; held: those of them before it was eligible.
        elapsed, cpu: seconds. cpus, gpus, nodes: allocated. memory, memory_asked: bytes.
        cpu_allocated: CPU seconds that were there to be used, elapsed × cpus. gpu_hours: likewise.
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
        return ratio(self.cpu, self.cpu_allocated)

    @property
    def memory_efficiency(self) -> float | None:
        return ratio(self.memory, self.memory_asked)

    def wait(self, submitted: float | None, eligible: float | None, started: float | None,
             *, still: bool) -> None:
        """Note how long it waited, from these times, or has been waiting so far."""
        if still:
            started = time.time()
            self.notes.append("it still waits: that long so far")
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
                "cpu_allocated_s": self.cpu_allocated,
                "notes": self.notes, "steps": [step.as_dict() for step in self.steps]}


@dataclass
class Report:
    """All that is known of a job, or of a run's jobs.

    Attributes:
        subject: as it was asked for. jobs: each run of each job. unknown: by job, why nothing is
        known of it. measured: what runs measured themselves. outcome: exit code of the last job.
    """

    subject: str
    jobs: list[Usage] = field(default_factory=list)
    unknown: dict[str, str] = field(default_factory=dict)
    measured: list[dict[str, Any]] = field(default_factory=list)
    outcome: str = ""

    @property
    def total(self) -> Usage:
        """Over all runs of all jobs; memory is that of the run that used most of what it had."""
        ended = [job for job in self.jobs if job.cpu is not None]
        most = max(self.jobs, key=lambda job: job.memory_efficiency or 0)
        return Usage("total of", f"{len(self.jobs)} runs", "", "",
                     waited=sum(job.waited or 0 for job in self.jobs),
                     elapsed=sum(job.elapsed or 0 for job in self.jobs),
                     cpu=sum(job.cpu for job in ended) if ended else None,
                     cpu_allocated=sum(job.cpu_allocated for job in ended),
                     gpu_hours=sum(job.gpu_hours for job in self.jobs),
                     memory=most.memory, memory_asked=most.memory_asked)

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {"subject": self.subject, "jobs": [job.as_dict() for job in self.jobs],
                "total": self.total.as_dict() if self.jobs else None, "unknown": self.unknown,
                "measured": self.measured, "outcome": self.outcome}
