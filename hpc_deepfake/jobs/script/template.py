"""Words of a command line in which ``{names}`` stand for numbers of the job."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from hpc_deepfake.core.errors import InputError

_PLACE = re.compile(r"\{([a-z_]+)\}")


@dataclass(frozen=True)
class Template:
    """A text such as ``--gres=gpu:{gpus}``.

    Attributes:
        text: with places as {name}.
        where: what the text is and where it comes from: the beginning of messages.
    """

    text: str
    where: str

    def fill(self, values: Mapping[str, object]) -> str:
        """The text with values in its places.

        Raises:
            InputError: a place has no value; the message lists the valid names.
        """
        for name in places(self.text):
            if name not in values:
                raise InputError(f"{self.where}: unknown {{{name}}} in '{self.text}'; valid are "
                                 f"{braced(values)}")
            if values[name] is None:
                raise InputError(f"{self.where}: the job does not say what {{{name}}} is; "
                                 f"{_ADVICE.get(name, 'write a number instead')}")
        return _PLACE.sub(lambda match: str(values[match[1]]), self.text)


_ADVICE = dict.fromkeys(("mem", "total_mem"),
                        "give HPC_DEEPFAKE_MEM in the site file, or --mem SIZE")


def places(text: str) -> list[str]:
    """The names in braces."""
    return _PLACE.findall(text)


def braced(names: Iterable[str]) -> str:
    """Names as they stand in a template, for a message."""
    return " ".join(f"{{{name}}}" for name in names)


def split(text: str, where: str) -> list[str]:
    """Words of a command line, as a shell would split them.

    Raises:
        InputError: a quote is not closed.
    """
    try:
        return shlex.split(text)
    except ValueError as error:
        raise InputError(f"{where}: {str(error).lower()}: {text}") from None
