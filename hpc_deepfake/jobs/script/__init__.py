"""Job scripts of ``jobs/`` with changes: other directives, values of variables, arguments.

Such a script consists of a shebang line, comments and directives, ``set -euo pipefail``, variables
as ``NAME=${NAME:-default}   # meaning``, and, on its last line, the name of the function that does
the work.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from hpc_deepfake.core.errors import InputError
from hpc_deepfake.jobs.script.dialect import Changes, Dialect, suggestion
from hpc_deepfake.jobs.script.pbs import Pbs
from hpc_deepfake.jobs.script.request import Portable, Request
from hpc_deepfake.jobs.script.slurm import Slurm
from hpc_deepfake.jobs.script.text import assign, default, directives, edit, variables
from hpc_deepfake.jobs.script.values import checked

SLURM, PBS = Slurm(), Pbs()
DIALECTS: Mapping[str, Dialect] = {"slurm": SLURM, "pbs": PBS}


def render(text: str, dialect: Dialect, request: Request) -> str:
    """The script with these changes.

    Raises:
        InputError: an unknown key or variable, or an impossible value.
    """
    names = variables(text)
    for name in request.variables:
        if name not in names:
            raise InputError(f"the script has no variable {name}{suggestion(name, names)}; it has "
                             f"{', '.join(names)}")
    changed = changes(text, dialect, request)
    new = default(edit(text, dialect, changed), request.defaults)
    inserted = {**request.inserted, **_layout(request, requested(text, dialect, request))}
    return assign(new, {**inserted, **request.variables}, request.arguments)


def requested(text: str, dialect: Dialect, request: Request) -> Portable:
    """What a script asks for after these changes.

    Raises:
        InputError: as of ``changes``.
    """
    plain = replace(request, gpu_request=None, resources=None)
    changed = {**directives(text, dialect), **changes(text, dialect, plain)}
    return dialect.portable({key: value for key, value in changed.items() if value is not None})


def _layout(request: Request, asked: Portable) -> dict[str, str]:
    """The layout of the ranks, for jobs whose scheduler doesn't know it."""
    if request.resources is None:
        return {}
    return {"job_layout": f"{asked.nodes} {asked.ranks_per_node} {asked.cpus_per_rank}"}


def changes(text: str, dialect: Dialect, request: Request) -> Changes:
    """The directives that a request changes, with their new values.

    Raises:
        InputError: an unknown key, an impossible value, or a key that is set twice.
    """
    current = directives(text, dialect)
    changed = dialect.changes(request.portable, current)
    for word, value in request.settings:
        key = dialect.key(word, f"--set {word}")
        _refuse_twice(key, changed)
        changed[key] = dialect.value(key, value, f"--set {word}")
    for word in request.dropped:
        key = dialect.key(word, f"--unset {word}")
        _refuse_twice(key, changed)
        if key not in current:
            raise InputError(f"--unset {word}: the script has no such directive; it has "
                             f"{', '.join(current)}")
        changed[key] = None
    changed |= dict.fromkeys(dialect.replaced(changed, current))
    after = {key: value for key, value in {**current, **changed}.items() if value is not None}
    changed |= dialect.reshape(request, after)
    for key, new in changed.items():
        if new is not None:
            checked(key, new)
    return changed


def ranks_per_node(dialect: Dialect, text: str) -> int | None:
    """Number of ranks that a script starts on each node; None if it has no such directive.

    Raises:
        InputError: a directive in another form than that of jobs/.
    """
    return dialect.portable(directives(text, dialect)).ranks_per_node


def sized(dialect: Dialect, text: str, nodes: int, ranks_per_node: int,
          seconds: int) -> list[str]:
    """Options of sbatch or qsub that give a script's job this size and time limit. CPUs and GPUs
    follow the ranks, where the script has any.

    Raises:
        InputError: a directive in another form than that of jobs/.
    """
    current = directives(text, dialect)
    portable, gpus = dialect.portable(current), None
    if portable.gpus_per_node:
        gpus = max(1, portable.gpus_per_node * ranks_per_node
                   // (portable.ranks_per_node or portable.gpus_per_node))
    changed = dialect.changes(Portable(nodes, ranks_per_node, gpus_per_node=gpus, time=seconds),
                              current)
    return [word for key, value in changed.items() if value is not None
            for word in dialect.option(key, value)]


def _refuse_twice(key: str, changed: Changes) -> None:
    """Raise InputError if a key has been set already."""
    if key in changed:
        raise InputError(f"'{key}' is set twice: remove one of the options")
