"""In what the runs of a comparison differ besides what is compared."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from hpc_deepfake.compare.results import Result
from hpc_deepfake.core.json_data import dictionary

_FACTS: dict[str, Callable[[Result], Any]] = {
    "epochs": lambda one: one.records.summary.get("epochs"),
    "hardware": lambda one: one.hosts,
    "CPU threads": lambda one: one.threads,
    "training pictures": lambda one: one.records.summary.get("train_rows"),
    "data file": lambda one: one.records.config.get("data"),
    "software": lambda one: ", ".join(
        f"{name} {version}" for name, version in
        dictionary(one.records.environment.get("versions")).items()),
    "MPI": lambda one: one.records.environment.get("mpi"),
    "source revision": lambda one: one.records.environment.get("git"),
    "platform": lambda one: one.records.environment.get("platform"),
}
SERIOUS = ("epochs", "hardware", "CPU threads", "training pictures", "data file")


@dataclass(frozen=True)
class Difference:
    """A fact that isn't the same in all runs.

    Attributes:
        values: in words, each with the names of its runs; the reference's value first.
    """

    fact: str
    values: dict[str, list[str]]

    def __str__(self) -> str:
        (first, _), *rest = self.values.items()
        others = "; ".join(f"{', '.join(names)}: {value}" for value, names in rest)
        return f"Not the same {self.fact} in all runs: {first}, but {others}"

    @property
    def others(self) -> set[str]:
        """Names of the runs that aren't like the reference."""
        _, *rest = self.values.values()
        return {name for names in rest for name in names}


def differences(results: Sequence[Result]) -> list[Difference]:
    """Of runs among which the first is what the others are held against."""
    found = []
    for fact, read in _FACTS.items():
        values: dict[str, list[str]] = {}
        for one in results:
            value = read(one)
            values.setdefault("unknown" if value is None else str(value), []).append(
                one.training.name)
        if len(values) > 1:
            found.append(Difference(fact, values))
    return found


def unlike(names: Sequence[str], found: Sequence[Difference]) -> str:
    """In what any of these runs isn't like the reference; empty if in nothing."""
    return ", ".join(f"other {one.fact}" for one in found if one.others & set(names))
