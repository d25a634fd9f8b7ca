"""What is asked for: the changes that a script shall get."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Portable:
    """What both schedulers understand; None: as the script has it, or unknown.

    Attributes:
        nodes: number of them. ranks_per_node, gpus_per_node: of each; cpus_per_rank: of each rank.
        mem: MB of each node. time: limit in seconds. array: indices, like 1-3.
        name, account, partition, qos: as the scheduler spells them.
    """

    nodes: int | None = None
    ranks_per_node: int | None = None
    cpus_per_rank: int | None = None
    gpus_per_node: int | None = None
    mem: int | None = None
    time: int | None = None
    name: str | None = None
    account: str | None = None
    partition: str | None = None
    qos: str | None = None
    array: str | None = None


@dataclass(frozen=True)
class Request:
    """All that is to be changed in a script.

    Attributes:
        settings: directives by the scheduler's own names; None as value of a flag.
        dropped: directives to leave out. variables: of the script, by name.
        arguments: for the program. inserted: variables that the script doesn't name itself.
    """

    portable: Portable = Portable()
    settings: Sequence[tuple[str, str | None]] = ()
    dropped: Sequence[str] = ()
    variables: Mapping[str, str] = field(default_factory=dict)
    arguments: Sequence[str] = ()
    inserted: Mapping[str, str] = field(default_factory=dict)
