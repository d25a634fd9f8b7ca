"""A job script as text: reading its directives and variables, and writing changes into it."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping, Sequence
from contextlib import suppress

from hpc_deepfake.core.errors import InputError
from hpc_deepfake.jobs.script.dialect import Changes, Dialect, Directives
from hpc_deepfake.jobs.script.values import checked

STRICT = "set -euo pipefail"  # the line after the directives
MARK = "# What to change"  # begins the comment above the variables; also in jobs/lib/submit.sh
_VARIABLE = re.compile(r"([A-Z_][A-Z0-9_]*)=\$\{\1:-(.*?)\}(?:\s+#.*)?")


def directives(text: str, dialect: Dialect) -> Directives:
    """The script's directives in their order; if a key occurs twice, the last one.

    Raises:
        InputError: a line isn't a single directive in the form that jobs/ uses.
    """
    values: Directives = {}
    for number, line in enumerate(_head(text), 1):
        directive = dialect.read(line, f"line {number} of the script")
        if directive is not None:
            values[directive[0]] = directive[1]
    return values


def variables(text: str) -> dict[str, str]:
    """Names of the script's variables, with their defaults as written."""
    matches = (_VARIABLE.fullmatch(line) for line in text.split("\n"))
    return {match[1]: match[2] for match in matches if match}


def written(text: str) -> dict[str, str]:
    """Values of variables that ``assign``, or ``write_script`` of jobs/lib/submit.sh, has written
    into a script; they take precedence over the environment."""
    values = {}
    for line in text.partition(f"\n{MARK}")[0].split("\n"):
        name, equals, value = line.partition("=")
        if equals and re.fullmatch("[A-Z_][A-Z0-9_]*", name):
            with suppress(ValueError):
                values[name] = "".join(shlex.split(value)[:1])
    return values


def work(text: str) -> str:
    """The function of jobs/lib/work.sh that does the script's work: its last line."""
    return text.rstrip().rpartition("\n")[2].strip()


def edit(text: str, dialect: Dialect, changed: Changes) -> str:
    """The script with directives changed in place, removed, or added after the last one."""
    head, last = _head(text), 1
    lines: list[str] = []
    done: set[str] = set()
    for line in head:
        directive = dialect.read(line, line)
        if directive and directive[0] in changed:
            key, value = directive[0], changed[directive[0]]
            if value is None or key in done:
                continue
            line = dialect.write(key, value)
            done.add(key)
        lines.append(line)
        if directive:
            last = len(lines)
    lines[last:last] = [dialect.write(key, value) for key, value in changed.items()
                        if value is not None and key not in done]
    return "\n".join([*lines, *text.split("\n")[len(head):]])


def default(text: str, values: Mapping[str, str]) -> str:
    """The script with other defaults of its variables; those that it doesn't have are left out."""
    lines = text.split("\n")
    for at, line in enumerate(lines):
        match = _VARIABLE.fullmatch(line)
        if match and match[1] in values:
            value = checked(match[1], values[match[1]])
            if not re.fullmatch(r"[\w./:@%+,=-]*", value):
                raise InputError(f"{match[1]}: {value!r} is not possible as a default: use letters "
                                 "and digits only")
            rest = re.sub(r" +#", " #", line[match.end(2):], count=1)
            column = len(line.partition(" # ")[0])
            assignment, _, comment = f"{line[:match.start(2)]}{value}{rest}".partition(" #")
            lines[at] = f"{assignment:<{column}} #{comment}" if comment else assignment
    return "\n".join(lines)


def assign(text: str, values: Mapping[str, str], arguments: Sequence[str]) -> str:
    """The script with values of variables, and arguments, written above its own assignments. They
    take precedence over the environment, as do those that ``write_script`` of jobs/lib/submit.sh
    writes there.

    Raises:
        InputError: a value doesn't fit on one line, or the script hasn't the form of those in
            jobs/.
    """
    new = [f"{name}={shlex.quote(checked(name, value))}" for name, value in values.items()]
    if arguments:
        words = shlex.join(checked("an argument", word) for word in arguments)
        new.append(f'set -- {words} "$@"')
    lines = text.split("\n")
    if STRICT not in lines:
        raise InputError(f"the script has no line '{STRICT}' after its directives: start from a "
                         "copy of one in jobs/")
    after = lines.index(STRICT) + 1
    marks = (number for number in range(after, len(lines)) if lines[number].startswith(MARK))
    at = next(marks, after)
    return "\n".join([*lines[:at], *new, *lines[at:]])


def _head(text: str) -> list[str]:
    """The lines in which a scheduler reads directives: those before the first command."""
    lines = text.split("\n")  # not splitlines, which also splits where sbatch doesn't
    command = (number for number, line in enumerate(lines)
               if line.strip() and not line.startswith("#"))
    return lines[:next(command, len(lines))]
