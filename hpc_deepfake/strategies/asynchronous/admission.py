"""Which gradients a parameter server may apply, and which jobs may begin, to bound staleness."""

from __future__ import annotations


class Admission:
    """Keeps the staleness of every gradient within a bound, whatever the workers' speeds.

    The staleness of a gradient is the number of updates between the weights that it was computed
    from and those that it changes (Zhang et al. 2016). A job that began at version *v* must be
    applied at version *v + bound* at the latest, and each application makes the next version: this
    is a schedule of unit jobs with deadlines. A job that would make it impossible to meet all
    deadlines has to wait; if a schedule exists, the order of the deadlines is one (earliest
    deadline first, Jackson 1955). So fast workers wait for slow ones, as with stale-synchronous
    parallel clocks (Ho et al. 2013).

    Attributes:
        bound: the maximum staleness; None: unlimited.
        version: number of updates so far.
        begun: version at which each running job began.
    """

    def __init__(self, bound: int | None) -> None:
        self.bound = bound
        self.version = 0
        self.begun: dict[int, int] = {}

    def may_begin(self) -> bool:
        """Whether one more job could still be applied in time after the running ones."""
        return self.bound is None or len(self.begun) <= self.bound

    def begin(self, job: int) -> None:
        """Count ``job`` as running."""
        self.begun[job] = self.version

    def may_apply(self, job: int) -> bool:
        """Whether all other running jobs can still be applied in time after this one."""
        if self.bound is None:
            return True
        others = sorted(version for other, version in self.begun.items() if other != job)
        return all(self.version + 1 + place <= version + self.bound
                   for place, version in enumerate(others))

    def apply(self, job: int) -> int:
        """Count ``job`` as applied, and return its staleness."""
        staleness = self.version - self.begun.pop(job)
        self.version += 1
        return staleness
