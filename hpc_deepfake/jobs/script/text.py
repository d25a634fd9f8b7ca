"""A job script as text: what stands in it, and putting changes into it."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping, Sequence

from hpc_deepfake.core.errors import InputError
from hpc_deepfake.jobs.script.dialect import Changes, Dialect, Directives
from hpc_deepfake.jobs.script.values import checked

STRICT = "set -euo pipefail"  # the line after the directives
MARK = "# What to change"  # how the comment above the variables begins, for jobs/lib/job.sh too
_VARIABLE = re.compile(r"([A-Z_][A-Z0-9_]*)=\$\{\1:-(.*?)\}(?:\s+#.*)?")


def directives(text: str, dialect: Dialect) -> Directives:
    """The script's directives in their order; of a key that comes twice, the last.

    Raises:
        InputError: a line that isn't one directive in the form of jobs/.
    """
    found: Directives = {}
    for number, line in enumerate(_head(text), 1):
        directive = dialect.read(line, f"line {number} of the script")
        if directive is not None:
            found[directive[0]] = directive[1]
    return found


def variables(text: str) -> dict[str, str]:
    """Names of the script's variables, with their defaults as written."""
    found = (_VARIABLE.fullmatch(line) for line in text.split("\n"))
    return {match[1]: match[2] for match in found if match}


def work(text: str) -> str:
    """What the script does: the function of jobs/lib/job.sh on its last line."""
    return text.rstrip().rpartition("\n")[2].strip()


def edit(text: str, dialect: Dialect, changed: Changes) -> str:
    """The script with some directives changed in place, dropped, or added after the last one."""
    head, lines, done, last = _head(text), [], set(), 1
    for line in head:
        directive = dialect.read(line, line)
        key = directive and directive[0]
        if key in changed:
            if changed[key] is None or key in done:
                continue
            line = dialect.write(key, changed[key])
            done.add(key)
        lines.append(line)
        if directive:
            last = len(lines)
    lines[last:last] = [dialect.write(key, value) for key, value in changed.items()
                        if value is not None and key not in done]
    return "\n".join([*lines, *text.split("\n")[len(head):]])


def assign(text: str, values: Mapping[str, str], arguments: Sequence[str]) -> str:
    """The script with values of variables, and arguments, written before it looks at its
    variables: they win over the environment, as do those that ``write_script`` of jobs/lib/job.sh
    writes there.

    Raises:
        InputError: a value that can't stand on a line, or a script that isn't of the form of jobs/.
    """
    new = [f"{name}={shlex.quote(checked(name, value))}" for name, value in values.items()]
    if arguments:
        words = shlex.join(checked("an argument", word) for word in arguments)
        new.append(f'set -- {words} "$@"')
    lines = text.split("\n")
    if STRICT not in lines:
        raise InputError(f"the script has no line '{STRICT}' after its directives: begin with a "
                         "copy of one in jobs/")
    after = lines.index(STRICT) + 1
    marks = (number for number in range(after, len(lines)) if lines[number].startswith(MARK))
    at = next(marks, after)
    return "\n".join([*lines[:at], *new, *lines[at:]])


def _head(text: str) -> list[str]:
    """The lines in which a scheduler looks for directives: those before the first command."""
    lines = text.split("\n")  # not splitlines: that breaks at characters that sbatch doesn't
    command = (number for number, line in enumerate(lines)
               if line.strip() and not line.startswith("#"))
    return lines[:next(command, len(lines))]
