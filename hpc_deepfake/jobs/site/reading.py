"""Reading a site file: bash sources it, with a module command that only records."""

from __future__ import annotations

import os
import re
import shlex
import signal
import subprocess
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path

from hpc_deepfake.core.errors import InputError, reason
from hpc_deepfake.core.text import printable
from hpc_deepfake.jobs.script.dialect import listed
from hpc_deepfake.jobs.site.words import OTHERS, PREFIX, WORDS

CLONE = Path(__file__).resolve().parents[3]
SECONDS = 20  # after which reading a file is given up

# Prints records that end with a null byte: M a module, C a command that this machine lacks, E a
# variable of the environment, L line and name of a command that names no module, and an empty one
# as the last.
_READ = r"""
exec 3>&1 1>&2
record() { printf '%s\0' "$@" >&3; }
command_not_found_handle() { record "C$1"; }
loads() { # COMMAND NAME…
    local command=$1 name at
    shift
    for name in "${@:-}"; do
        [[ -z $name ]] || continue
        for ((at = ${#BASH_SOURCE[@]} - 1; at > 1; at--)); do # the site file, of all callers
            [[ ${BASH_SOURCE[at]} != "$_site_file" ]] || break
        done
        record "L${BASH_LINENO[at - 1]}: $command"
        return
    done
    record "${@/#/M}"
}
load_modules() { loads load_modules "$@"; }
module() {
    case ${1:-} in
        load | add | try-load | try-add) loads "module $1" "${@:2}" ;;
        swap | switch)
            (($# < 3)) || shift
            loads 'module swap' "${@:2}"
            ;;
    esac
}
ml() {
    case ${1-list} in
        load | add) loads "ml $1" "${@:2}" ;;
        purge | reset | restore | use | unload | list | avail | -*) ;;
        *) loads ml "$@" ;;
    esac
}
_site_file=$1
source "$_site_file" || exit
for name in $(compgen -v HPC_DEEPFAKE_); do export "$name"; done
for name in $(compgen -e); do record "E$name=${!name}"; done
record ''
"""
# What a shell, a scheduler or an activated site left in the environment is not for the file to see.
_HIDDEN = re.compile(r"BASH_ENV|ENV|BASH_FUNC_.*|SHELLOPTS|BASHOPTS|IFS|(?:SBATCH|SLURM|PBS)_.*")


@dataclass(frozen=True)
class Site:
    """What a site file says.

    Attributes:
        name: of the site; empty for the words that the environment holds without a site file.
        where: the file as messages call it.
        words: values of the words, without their prefix.
        modules: names in the order in which they are loaded.
        environment: other variables that the file sets.
        missing: commands that the file calls and this machine lacks.
        lines: number of the line on which a word is set.
        failed: lines of the file that bash complained about, with what it said.
    """

    name: str
    where: str
    words: Mapping[str, str]
    modules: tuple[str, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict)
    missing: tuple[str, ...] = ()
    lines: Mapping[str, int] = field(default_factory=dict)
    failed: tuple[str, ...] = ()

    def place(self, word: str) -> str:
        """Where a word is set, and its name: the beginning of messages."""
        line = f" line {self.lines[word]}" if word in self.lines else ""
        return f"{self.where}{line}: {PREFIX}{word}"

    def word(self, name: str, kind: str) -> str:
        """The word that counts for a kind of jobs: GPU_X for X; small jobs are like those on CPUs
        unless the file says otherwise. The general name where none is set."""
        names = [f"{kind.upper()}_{name}", *([f"CPU_{name}"] if kind == "small" else [])]
        return next((word for word in names if self.words.get(word)), name)


def names() -> list[str]:
    """Names of all site files."""
    return sorted(file.stem for file in (CLONE / "env" / "sites").glob("*.sh"))


def read(name: str) -> Site:
    """What the file env/sites/NAME.sh says.

    Raises:
        InputError: there is no such file, it can't be read, or it has unknown words or impossible
            values.
    """
    if not names():
        raise InputError(f"no site files in {CLONE / 'env' / 'sites'}: they are not part of an "
                         "installed package; use hpc-deepfake in a clone of the repository (git "
                         "clone, env/setup.sh)")
    if name not in names():
        stem = Path(name).stem
        close = [stem] if stem in names() else get_close_matches(name, names(), n=1)
        hint = f" (did you mean {close[0]}?)" if close else ""
        if "/" in name:
            hint += " (jobs read their site file there: give its name, not a path)"
        raise InputError(f"site {printable(name)}: no such file in {CLONE / 'env' / 'sites'}{hint};"
                         f" there are {', '.join(names())}. To add one, copy "
                         "env/sites/template.sh")
    return read_file(CLONE / "env" / "sites" / f"{name}.sh", f"env/sites/{name}.sh")


def read_file(path: Path, where: str | None = None) -> Site:
    """What a site file says.

    Args:
        path: of the file.
        where: the file as messages call it; None: the path.

    Raises:
        InputError: as of ``read``.
    """
    where = where or str(path)
    try:
        text = path.read_bytes().decode()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"cannot read the site file {where}: {reason(error)}") from None
    if "\r\n" in text:
        raise InputError(f"{where} has Windows line ends: remove them with: sed -i 's/\\r$//' "
                         f"{shlex.quote(where)}")
    another = set_by_activation("SITE_WORDS")
    before = {key: value for key, value in os.environ.items()
              if not _HIDDEN.fullmatch(key) and key not in another}
    before |= {"SITE": path.stem, f"{PREFIX}HOME": str(CLONE)}
    modules, missing, failed, after = _source(path, where, before)
    lines = {match[1]: number for number, line in enumerate(text.split("\n"), 1)
             if (match := re.match(rf"[^#]*\b{PREFIX}(\w+)=", line))}
    new = {key: value for key, value in after.items() if before.get(key) != value}
    words = {key.removeprefix(PREFIX): value for key, value in after.items()
             if key.startswith(PREFIX) and value}
    set_here = {key.removeprefix(PREFIX) for key in new if key.startswith(PREFIX)}
    site = Site(path.stem, where, {key: value for key, value in words.items() if key in WORDS},
                modules, {key: value for key, value in new.items() if not key.startswith(PREFIX)
                          and key not in ("_", "PWD", "OLDPWD", "SHLVL")}, missing, lines, failed)
    _check(site, set_here)
    return site


def of_environment() -> Site:
    """The words that the environment holds, where no site file is named."""
    site = Site("", "environment", {
        name: os.environ[PREFIX + name] for name in WORDS if os.environ.get(PREFIX + name)})
    _check(site, set())
    return site


def set_by_activation(record: str) -> set[str]:
    """Variables that ``env/activate.sh`` has set, by its record of NAME=value (each with a unit
    separator at its end), and that still have that value.

    Args:
        record: ``SITE_WORDS`` (words of a site file) or ``SBATCH`` (what sbatch reads).
    """
    entries = os.environ.get(PREFIX + record, "").split("\x1f")
    pairs = (entry.partition("=") for entry in entries)
    return {name for name, _, value in pairs if name and os.environ.get(name) == value}


def _check(site: Site, set_here: set[str]) -> None:
    """Raise InputError on unknown words, or impossible values, that a file sets."""
    for name in sorted(set_here - set(WORDS) - OTHERS):
        close = get_close_matches(name, WORDS, n=1)
        hint = "".join(f" (did you mean {PREFIX}{word}: {WORDS[word].meaning}?)" for word in close)
        raise InputError(f"{site.place(name)} is unknown{hint}; after {PREFIX}, valid are:\n"
                         f"{listed(WORDS)}")
    for name, value in site.words.items():
        try:
            WORDS[name].check(value)
        except InputError as error:
            raise InputError(f"{site.place(name)}: {error}") from None


def _source(path: Path, where: str, variables: Mapping[str, str]) -> tuple[
        tuple[str, ...], tuple[str, ...], tuple[str, ...], dict[str, str]]:
    """Modules, missing commands, failed lines and environment after bash has sourced a file.

    Raises:
        InputError: it fails, ends the shell, takes too long, or loads modules without names.
    """
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as errors:
        try:
            shell = subprocess.Popen(["bash", "-c", _READ, "bash", path.resolve()],
                                     stdin=subprocess.DEVNULL, stdout=out, stderr=errors,
                                     env=dict(variables), start_new_session=True)
        except OSError as error:
            raise InputError(f"cannot start bash to read {where}: {reason(error)}") from None
        try:
            code = shell.wait(SECONDS)
        except subprocess.TimeoutExpired:
            os.killpg(shell.pid, signal.SIGKILL)
            shell.wait()
            raise InputError(f"{where}: bash was still reading it after {SECONDS} s: a site file "
                             "only loads modules and sets variables") from None
        out.seek(0)
        errors.seek(0)
        records = out.read().decode("utf-8", "surrogateescape").split("\0")
        said = errors.read(10_000).decode("utf-8", "backslashreplace").strip()
    for record in records:
        if record.startswith("L"):
            line, _, command = record[1:].partition(": ")
            raise InputError(f"{where} line {line}: {command} names no module")
    if records[-2:] != ["", ""]:
        why = f"it returns {code}" if code else "it ends the shell (exit)"
        raise InputError(f"{where}: {why}; a site file must end with 0"
                         + f": {said}" * bool(said))
    found: dict[str, list[str]] = {"M": [], "C": [], "E": []}
    for record in records[:-2]:
        found[record[0]].append(record[1:])
    pairs = (record.partition("=") for record in found["E"])
    failed = re.findall(rf"(?m)^{re.escape(str(path.resolve()))}: \w+ (\d+): (.+)$", said)
    return (tuple(found["M"]), tuple(dict.fromkeys(found["C"])),
            tuple(f"{where} line {line}: {why}" for line, why in failed),
            {name: value for name, _, value in pairs})
