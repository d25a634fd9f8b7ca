"""What job scripts of all schedulers have in common, and what a scheduler must be known for."""

from __future__ import annotations

import re
import shlex
import textwrap
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from difflib import get_close_matches

from hpc_deepfake.core.errors import InputError
from hpc_deepfake.jobs.script.request import Portable
from hpc_deepfake.jobs.script.values import clock

Directives = dict[str, str]  # by key; "" for a flag
Changes = dict[str, "str | None"]  # by key; None drops the directive


class Dialect(ABC):
    """How a scheduler spells directives.

    Attributes:
        name: as in jobs/NAME. prefix: what a directive's line begins with. command: submits a
        script on standard input, and prints the job's id.
        keys: of portable options that are one directive each. flags: keys without a value;
        optional: keys that may have one. alternatives: keys of which one replaces the others.
    """

    name: str
    prefix: str
    command: Sequence[str]
    keys: Mapping[str, str]
    flags: frozenset[str]
    optional: frozenset[str] = frozenset()
    alternatives: Sequence[Sequence[str]] = ()

    @abstractmethod
    def key(self, word: str, where: str) -> str:
        """The key that a user means; ``where`` begins the message.

        Raises:
            InputError: there is none; the message lists all.
        """

    @abstractmethod
    def write(self, key: str, value: str) -> str:
        """The line of a directive."""

    @abstractmethod
    def option(self, key: str, value: str) -> list[str]:
        """The directive as words for the command."""

    @abstractmethod
    def portable(self, now: Directives) -> Portable:
        """What a script asks for."""

    @abstractmethod
    def layout(self, wanted: Portable, now: Directives) -> Changes:
        """Changes for nodes, ranks, CPUs, GPUs and memory."""

    @abstractmethod
    def _split(self, words: list[str], where: str) -> tuple[str, str]:
        """Key and value of a directive's words."""

    def read(self, line: str, where: str) -> tuple[str, str] | None:
        """Key and value of a line; None if it is no directive.

        Raises:
            InputError: it isn't one directive in the form of jobs/.
        """
        if not re.match(rf"{self.prefix}\s", line):
            return None
        try:
            words = shlex.split(line[len(self.prefix):], comments=True)
        except ValueError as error:
            raise InputError(f"{where}: {error}: {line}") from None
        return self._split(words, f"{where}: {line}")

    def value(self, key: str, given: str | None, where: str) -> str:
        """``given``, as a key of this kind has it."""
        if key in self.flags and given is not None:
            raise InputError(f"{where}: this directive has no value: --set {key}")
        if key not in self.flags | self.optional and given is None:
            raise InputError(f"{where}: this directive has a value: --set {key}=VALUE")
        if given == "":
            raise InputError(f"{where}: the value is empty; to leave the directive out: "
                             f"--unset {key}")
        return given or ""

    def changes(self, wanted: Portable, now: Directives) -> Changes:
        """Changes for the portable options. Ranks follow the GPUs where the script has one each."""
        has = self.portable(now)
        if (wanted.gpus_per_node and wanted.ranks_per_node is None
                and has.gpus_per_node == has.ranks_per_node):
            wanted = replace(wanted, ranks_per_node=wanted.gpus_per_node)
        changed = self.layout(wanted, now)
        for option, key in self.keys.items():
            value = getattr(wanted, option)
            if value == "":
                raise InputError(f"--{option}: the value is empty")
            if value is not None:
                changed[key] = self.limit(value) if option == "time" else value
        return changed

    def limit(self, seconds: int) -> str:
        """A time limit in this scheduler's form."""
        return clock(seconds)


def words(text: str) -> frozenset[str]:
    """Those of a text."""
    return frozenset(text.split())


def meant(word: str, known: Iterable[str]) -> str:
    """Words of ``known`` that look like this one, as part of a message; empty if there are none."""
    close = get_close_matches(word, list(known), n=3)
    return f" (did you mean {' or '.join(close)}?)" if close else ""


def listed(keys: Iterable[str], title: str = "") -> str:
    """All keys in lines of a message."""
    text = title + ", ".join(sorted(keys, key=lambda key: (key.lower(), key)))
    return textwrap.fill(text, 98, initial_indent="  ", break_on_hyphens=False,
                         subsequent_indent="    " if title else "  ")
