"""The words of a site file: variables ``HPC_DEEPFAKE_NAME``, their meaning and possible values.

This table is the truth; ``env/sites/template.sh`` and docs/sites.md explain each word, and tests
compare them.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches

from hpc_deepfake.core.errors import InputError
from hpc_deepfake.core.text import whole_number
from hpc_deepfake.jobs.script.dialect import words
from hpc_deepfake.jobs.script.template import braced, places, split
from hpc_deepfake.jobs.script.values import checked, read_memory

PREFIX = "HPC_DEEPFAKE_"
PLACEHOLDER = "project123"  # of an account, in the template and the examples
KINDS = ("gpu", "cpu", "small")  # of jobs

_GPU_PLACES = ("gpus", "ranks")
_RESOURCE_PLACES = ("nodes", "ranks", "per_node", "cpus", "node_cpus", "total_cpus", "gpus",
                    "total_gpus", "mem", "total_mem")
_LAUNCHER_PLACES = ("nodes", "ranks", "per_node", "gpus", "cpus")
_CONTAINERS = ("apptainer", "apptainer-rocm", "singularity", "singularity-rocm", "shifter",
               "podman-hpc", "pyxis")


@dataclass(frozen=True)
class Word:
    """A word of site files.

    Attributes:
        meaning: in a few words.
        check: raises InputError, with the end of a message, if a value is impossible.
    """

    meaning: str
    check: Callable[[str], object]


def _text(value: str) -> str:
    return checked("the value", value)


def _choice(*choices: str) -> Callable[[str], str]:
    def check(value: str) -> str:
        if value not in choices:
            raise InputError(f"'{value}' is not one of {', '.join(choices)}")
        return value
    return check


def _number(least: int) -> Callable[[str], int]:
    def check(value: str) -> int:
        number = whole_number(value)
        if number is None or not least <= number < 10**6:
            raise InputError(f"'{value}' is not a whole number of at least {least}")
        return number
    return check


def _command(*allowed: str, choices: tuple[str, ...] = (),
             quotes: bool = False) -> Callable[[str], str]:
    """Words of a command line with the allowed places, or one of the choices. Where bash reads
    them, quotes have no meaning."""
    def check(value: str) -> str:
        split(_text(value), "the value")
        if not quotes and re.search(r"[\"'\\]", value):
            raise InputError(f"quotes and backslashes have no meaning in {value}: words are what "
                             "stands between spaces")
        for name in places(value):
            if name not in allowed:
                raise InputError(f"unknown {{{name}}} in '{value}'; valid are {braced(allowed)}")
        if value not in choices and get_close_matches(value.lower(), choices, cutoff=0.75):
            raise InputError(f"'{value}' is neither one of {', '.join(choices)} nor a command with "
                             f"{braced(allowed)}")
        return value
    return check


def _name(value: str) -> str:
    if not re.fullmatch(r"[\w.,:@+/-]+", _text(value)):
        raise InputError(f"'{value}' is not a name: only letters, digits and _ . , : @ + / - can "
                         "be in one")
    return value


def _options(value: str) -> list[str]:
    options = split(_text(value), "the value")
    if options and not options[0].startswith("-"):
        raise InputError(f"'{options[0]}' is not an option: give them as on the command line of "
                         "sbatch or qsub, like --constraint=gpu or -l filesystems=home")
    return options


def partitions(value: str) -> list[tuple[str, int | None]]:
    """Names of partitions with the largest number of nodes of each; None: any number.

    Raises:
        InputError: a name in another form, or one that can never be taken.
    """
    found: list[tuple[str, int | None]] = []
    for word in _text(value).split():
        name, colon, most = word.partition(":")
        nodes = whole_number(most)
        if not re.fullmatch(r"[\w.,@+-]+", name) or (colon and not nodes):
            raise InputError(f"'{word}' is not a partition: give NAME, or NAME:NODES for jobs of "
                             "up to that many nodes, like debug:2 prod")
        if found and found[-1][1] is None:
            raise InputError(f"'{word}' is never used, because {found[-1][0]} before it takes jobs "
                             f"of any size: write {found[-1][0]}:NODES")
        found.append((name, nodes))
    return found


_BY_KIND = {
    "ACCOUNT": Word("account to charge", _name),
    "PARTITION": Word("partition or queue; by size: NAME:NODES … NAME", partitions),
    "QOS": Word("quality of service", _name),
    "OPTIONS": Word("further options of sbatch or qsub", _options),
    "MEM": Word("memory to request on each node, like 64G", read_memory),
    "RESOURCES": Word("PBS: the whole request, in place of select",
                      _command(*_RESOURCE_PLACES, quotes=True)),
}
_OF_KIND = {
    "RANKS": Word("ranks on each node", _number(1)),
    "CPUS": Word("CPU cores of each rank", _number(1)),
}

WORDS: Mapping[str, Word] = {
    "SCHEDULER": Word("slurm or pbs", _choice("slurm", "pbs")),
    "PROFILE": Word("file to source where job shells have no module command", _text),
    "ENV": Word("folder of the environment that env/setup.sh builds", _text),
    "PYTHON": Word("site: the Python of the modules instead of that environment",
                   _choice("site")),
    "IMAGE": Word("container image instead of an environment", _text),
    "CONTAINER": Word("how a command runs in the image",
                      _command("image", "binds", choices=_CONTAINERS)),
    "BIND": Word("further folders to bind in the container, colon-separated", _text),
    **_BY_KIND,
    **{f"{kind.upper()}_{name}": word for kind in KINDS
       for name, word in {**_BY_KIND, **_OF_KIND}.items()},
    "GPUS": Word("GPUs on each node; 0: the site has none", _number(0)),
    "GPU_REQUEST": Word("how GPUs are requested", _command(*_GPU_PLACES, quotes=True)),
    "DEVICE": Word("device on which the jobs compute", _choice("cpu", "gpu", "auto")),
    "LAUNCHER": Word("how ranks are started",
                     _command(*_LAUNCHER_PLACES, choices=("auto", "srun", "mpirun"))),
    "SRUN_MPI": Word("interface between srun and MPI", _text),
    "SRUN_OPTIONS": Word("further options of srun", _command("image", "binds")),
    "INTERFACE": Word("network interface", _text),
    "DATA": Word("folder of pictures", _text),
    "LOCAL": Word("folder on each node's own disk", _text),
    "RESUBMIT": Word("PBS: whether jobs may submit jobs", _choice("auto", "yes", "no")),
    "STOP_MARGIN": Word("PBS: seconds from the stop signal to the end of the walltime",
                        _number(1)),
}
# Those that are written into job scripts
DIRECTIVES = {name for name in WORDS if name.removeprefix("GPU_").removeprefix("CPU_").removeprefix(
    "SMALL_") in _BY_KIND}
# Other variables with this prefix, which are not for site files to set.
OTHERS = words("""HOME KIND SBATCH SITE_WORDS CHAIN STAGED RANK_LOGS ERROR_FILE OUTCOME_FILE REPORT
    LOG""")
