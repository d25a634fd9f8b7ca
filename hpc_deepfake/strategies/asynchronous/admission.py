"""Which gradients a parameter server may apply, and who may begin, within a bound on staleness."""

from __future__ import annotations


class Admission:
    """Keeps every gradient's staleness within a bound, whatever the workers' speeds.

    Staleness of a gradient is the number of updates between the weights that it was computed from
    and those that it changes (Zhang et al. 2016). A job that began at version *v* has to be applied
    at version *v + bound* at the latest, and each application makes the next version: a schedule
    of unit jobs with deadlines. What would make it impossible to meet all of them in the order of
    the deadlines waits (earliest deadline first finds a schedule if there is one: Jackson 1955).
    Fast workers so wait for slow ones, as under stale-synchronous parallel clocks (Ho et al. 2013).

    Attributes:
        version: number of updates so far. begun: version at which each running job began.
    """

    def __init__(self, bound: int | None) -> None:
        """``bound``: the largest staleness, or None for any."""
        self.bound = bound
        self.version = 0
        self.begun: dict[int, int] = {}

    def may_begin(self) -> bool:
        """Whether one more job could still be applied in time after those that run."""
        return self.bound is None or len(self.begun) <= self.bound

    def begin(self, job: int) -> None:
        self.begun[job] = self.version

    def may_apply(self, job: int) -> bool:
        """Whether all other running jobs can be applied in time after this one."""
        if self.bound is None:
            return True
        others = sorted(version for one, version in self.begun.items() if one != job)
        return all(self.version + 1 + place <= version + self.bound
                   for place, version in enumerate(others))

    def apply(self, job: int) -> int:
        """Count it as applied; its staleness."""
        staleness = self.version - self.begun.pop(job)
        self.version += 1
        return staleness
