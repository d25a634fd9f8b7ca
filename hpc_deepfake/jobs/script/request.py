"""What a user requests: changes of a job script."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from hpc_deepfake.jobs.script.template import Template


@dataclass(frozen=True)
class Portable:
    """Options that both schedulers have; None: unchanged, or unknown.

    Attributes:
        nodes: number of nodes.
        ranks_per_node: MPI ranks on each node.
        cpus_per_rank: CPU cores for each rank.
        gpus_per_node: GPUs on each node.
        mem: memory on each node, in MB.
        time: limit in seconds.
        name: of the job.
        account: account to charge.
        partition: partition or queue.
        qos: quality of service.
        array: indices, like 1-3.
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
    """All changes of a script.

    Attributes:
        portable: options that both schedulers have.
        settings: directives and values, by the scheduler's own names; the value of a flag is None.
        dropped: directives to remove.
        variables: values of the script's variables.
        arguments: of the program.
        inserted: values of variables that the script doesn't list.
        defaults: new defaults of the script's variables, over which the environment still wins.
        gpu_request: how this site asks for GPUs; None: as the script does.
        resources: how this site asks for nodes, ranks, CPUs and GPUs together; None: as the script
            does.
        kind: of the job, for the site file: cpu, gpu or small; None: derived from the script.
    """

    portable: Portable = Portable()
    settings: Sequence[tuple[str, str | None]] = ()
    dropped: Sequence[str] = ()
    variables: Mapping[str, str] = field(default_factory=dict)
    arguments: Sequence[str] = ()
    inserted: Mapping[str, str] = field(default_factory=dict)
    defaults: Mapping[str, str] = field(default_factory=dict)
    gpu_request: Template | None = None
    resources: Template | None = None
    kind: str | None = None
