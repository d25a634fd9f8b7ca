"""Conditions in which the runs of a comparison differ, apart from what is compared."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from hpc_deepfake.compare.results import Result
from hpc_deepfake.core.json_data import dictionary

_CONDITIONS: dict[str, Callable[[Result], Any]] = {
    "epochs": lambda result: result.records.summary.get("epochs"),
    "hardware": lambda result: result.hosts,
    "CPU threads": lambda result: result.threads,
    "training pictures": lambda result: result.records.summary.get("train_rows"),
    "data file": lambda result: result.records.config.get("data"),
    "software": lambda result: ", ".join(
        f"{package} {version}" for package, version in
        dictionary(result.records.environment.get("versions")).items()),
    "MPI": lambda result: result.records.environment.get("mpi"),
    "source revision": lambda result: result.records.environment.get("git"),
    "platform": lambda result: result.records.environment.get("platform"),
}


@dataclass(frozen=True)
class Difference:
    """A condition that is not the same in all runs.

    Attributes:
        condition: its name, such as ``hardware``.
        values: each value as text, with the names of its runs; the reference's value first.
    """

    condition: str
    values: dict[str, list[str]]

    def __str__(self) -> str:
        (reference, _), *rest = self.values.items()
        others = "; ".join(f"{', '.join(names)}: {value}" for value, names in rest)
        return f"Not the same {self.condition} in all runs: {reference}, but {others}"

    @property
    def others(self) -> set[str]:
        """Names of the runs that differ from the reference."""
        _, *rest = self.values.values()
        return {name for names in rest for name in names}


def differences(results: Sequence[Result]) -> list[Difference]:
    """Differences among these runs; the first run is the reference."""
    differing = []
    for condition, read in _CONDITIONS.items():
        values: dict[str, list[str]] = {}
        for result in results:
            value = read(result)
            values.setdefault("unknown" if value is None else str(value), []).append(
                result.training.name)
        if len(values) > 1:
            differing.append(Difference(condition, values))
    return differing


def deviations(names: Sequence[str], differing: Sequence[Difference]) -> str:
    """How any of the named runs differs from the reference, such as ``other hardware``; empty if
    none does."""
    return ", ".join(f"other {difference.condition}" for difference in differing
                     if difference.others & set(names))
