"""How job scripts spell directives: the interface of all schedulers, and what they share."""

from __future__ import annotations

import re
import shlex
import textwrap
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from difflib import get_close_matches
from typing import ClassVar

from hpc_deepfake.core.errors import InputError
from hpc_deepfake.jobs.script.request import Portable, Request
from hpc_deepfake.jobs.script.values import clock

Directives = dict[str, str]  # by key; "" for a flag
Changes = dict[str, "str | None"]  # by key; None drops the directive


class Dialect(ABC):
    """How a scheduler spells directives.

    Attributes:
        name: of the folder in jobs/.
        prefix: beginning of a directive's line.
        command: submits a script given on standard input, and prints the job's id.
        keys: key of each portable option that is one directive.
        flags: keys without a value.
        optional: keys that may have a value.
        alternatives: groups of keys of which one replaces the others.
    """

    name: ClassVar[str]
    prefix: ClassVar[str]
    command: ClassVar[Sequence[str]]
    keys: ClassVar[Mapping[str, str]]
    flags: ClassVar[frozenset[str]]
    optional: ClassVar[frozenset[str]] = frozenset()
    alternatives: ClassVar[Sequence[Sequence[str]]] = ()

    @abstractmethod
    def key(self, word: str, where: str) -> str:
        """The key of a directive as a user wrote it.

        Args:
            word: as written by the user.
            where: beginning of the message.

        Raises:
            InputError: there is no such key; the message lists all.
        """

    @abstractmethod
    def write(self, key: str, value: str) -> str:
        """The line of a directive in a script."""

    @abstractmethod
    def option(self, key: str, value: str) -> list[str]:
        """The directive as words for the command."""

    @abstractmethod
    def portable(self, current: Directives) -> Portable:
        """The resources that a script requests."""

    @abstractmethod
    def layout(self, requested: Portable, current: Directives) -> Changes:
        """Changes for nodes, ranks, CPUs, GPUs and memory."""

    @abstractmethod
    def lift(self, directives: Directives) -> tuple[Portable, Directives]:
        """The nodes, ranks, CPUs, GPUs and memory among directives, and the other directives."""

    @abstractmethod
    def reshape(self, request: Request, current: Directives) -> Changes:
        """Changes of a script's directives into the form in which a site wants nodes, ranks, CPUs
        and GPUs."""

    @abstractmethod
    def gpu_keys(self, directives: Mapping[str, str | None]) -> set[str]:
        """Keys of the directives that ask for GPUs."""

    @abstractmethod
    def _word(self, word: str, where: str) -> tuple[str, str | None]:
        """Key and value of a word that begins with a dash; None if the value is not part of it."""

    @abstractmethod
    def _split(self, words: list[str], where: str) -> tuple[str, str]:
        """Key and value of a directive, from the words after its prefix."""

    def read(self, line: str, where: str) -> tuple[str, str] | None:
        """Key and value of a directive's line; None for any other line.

        Raises:
            InputError: the line isn't a single directive in the form that jobs/ uses.
        """
        if not re.match(rf"{self.prefix}\s", line):
            return None
        try:
            words = shlex.split(line[len(self.prefix):], comments=True)
        except ValueError as error:
            raise InputError(f"{where}: {error}: {line}") from None
        return self._split(words, f"{where}: {line}")

    def parse(self, words: Sequence[str], where: str) -> Directives:
        """Directives from words of the scheduler's command line. If a key occurs twice, the last
        one counts.

        Raises:
            InputError: not an option, or a wrong value.
        """
        parsed: Directives = {}
        remaining = iter(words)
        for word in remaining:
            if not re.match("-[-A-Za-z]", word):
                raise InputError(f"{where}: '{word}' is not an option of {self.command[0]}")
            key, value = self._word(word, f"{where}: {word}")
            if value is None and key not in self.flags | self.optional:
                value = next(remaining, None)
            parsed |= self._resolve(key, value, where)
        return parsed

    def _resolve(self, key: str, value: str | None, where: str) -> Directives:
        """The directives that an option of the command line stands for."""
        return {key: self.value(key, value, where)}

    def value(self, key: str, value: str | None, where: str) -> str:
        """The value to write for a key, from the user's; empty for a flag.

        Raises:
            InputError: a flag has a value, or another directive has none.
        """
        if key in self.flags and value is not None:
            raise InputError(f"{where}: this directive takes no value: --set {key}")
        if key not in self.flags | self.optional and value is None:
            raise InputError(f"{where}: this directive needs a value: --set {key}=VALUE")
        if value == "":
            raise InputError(f"{where}: the value is empty; to remove the directive: "
                             f"--unset {key}")
        return value or ""

    def changes(self, requested: Portable, current: Directives) -> Changes:
        """Changes for the portable options. The ranks follow the GPUs where the script has one rank
        per GPU."""
        script = self.portable(current)
        if (requested.gpus_per_node and requested.ranks_per_node is None
                and script.gpus_per_node == script.ranks_per_node):
            requested = replace(requested, ranks_per_node=requested.gpus_per_node)
        changed = self.layout(requested, current)
        for option, key in self.keys.items():
            value = getattr(requested, option)
            if value == "":
                raise InputError(f"--{option}: the value is empty")
            if value is not None:
                changed[key] = self.limit(value) if option == "time" else value
        return changed

    def replaced(self, changed: Changes, current: Directives) -> set[str]:
        """Keys of the script's directives for which others are set."""
        return {key for group in self.alternatives
                if any(changed.get(other) is not None for other in group)
                for key in group if key in current and key not in changed}

    def limit(self, seconds: int) -> str:
        """A time limit in this scheduler's form."""
        return clock(seconds)


def words(text: str) -> frozenset[str]:
    """The words of a text."""
    return frozenset(text.split())


def suggestion(word: str, valid: Iterable[str]) -> str:
    """Valid words that are similar, as part of a message; empty if there are none."""
    close = get_close_matches(word, list(valid), n=3)
    return f" (did you mean {' or '.join(close)}?)" if close else ""


def listed(keys: Iterable[str], title: str = "") -> str:
    """All keys, as wrapped lines of a message."""
    text = title + ", ".join(sorted(keys, key=lambda key: (key.lower(), key)))
    return textwrap.fill(text, 98, initial_indent="  ", break_on_hyphens=False,
                         subsequent_indent="    " if title else "  ")
