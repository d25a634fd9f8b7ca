"""What a site's words change in a job script: they add to a request what a user has not asked for.

An option of the user takes precedence over the site's, and the site's over the script's own.
"""

from __future__ import annotations

import os
from dataclasses import fields, replace

from hpc_deepfake.core.errors import InputError
from hpc_deepfake.core.text import whole_number
from hpc_deepfake.jobs.script import changes, requested
from hpc_deepfake.jobs.script.dialect import Dialect, Directives
from hpc_deepfake.jobs.script.request import Portable, Request
from hpc_deepfake.jobs.script.template import Template, split
from hpc_deepfake.jobs.script.text import directives, edit, variables, work
from hpc_deepfake.jobs.script.values import read_memory
from hpc_deepfake.jobs.site.reading import Site, of_environment, read
from hpc_deepfake.jobs.site.words import DIRECTIVES, PLACEHOLDER, partitions

SMALL = ("evaluate", "pipeline", "scaling_study")  # functions of jobs/lib/work.sh


def chosen(request: Request) -> Site:
    """The site that a request names, else that of ``$SITE``, else the words of the environment.

    Raises:
        InputError: as of ``reading.read``.
    """
    name = request.variables.get("SITE", os.environ.get("SITE", ""))
    return read(name) if name else of_environment()


def kind_of(text: str, gpus: int | None) -> str:
    """The kind of a job: ``gpu`` if it requests GPUs, else ``small`` or ``cpu``."""
    return "gpu" if gpus else "small" if work(text) in SMALL else "cpu"


def for_site(site: Site, text: str, dialect: Dialect, request: Request) -> Request:
    """A request with what the site adds to it.

    Args:
        site: its words.
        text: of the script.
        dialect: of the scheduler.
        request: what the user asks for.

    Raises:
        InputError: a word doesn't fit the scheduler, or no partition takes so many nodes.
    """
    current = directives(text, dialect)
    request = _lifted(request, dialect, current)
    dropped = {dialect.key(word, f"--unset {word}"): word for word in request.dropped}
    asked = requested(text, dialect, _feasible(request, dialect, current))
    taken = users_keys(text, dialect, request)
    for group in dialect.alternatives:
        taken |= set(group) if taken & set(group) else set()
    given = {dialect.key(word, ""): value for word, value in request.settings}
    own_gpus = bool(dialect.gpu_keys(given))

    gpus = None if own_gpus or not asked.gpus_per_node else _number(site, "GPUS")
    if request.portable.gpus_per_node is not None:
        gpus = None
    kind = request.kind or kind_of(text, asked.gpus_per_node if gpus is None else gpus)
    portable = request.portable
    if "l:select" not in given:
        portable = _filled(portable, _layout(site, kind, gpus, portable, asked))
    if "mem" in taken:
        portable = replace(portable, mem=request.portable.mem)
    free = {dialect.keys[name]: site.words.get(site.word(name.upper(), kind), "")
            for name in ("account", "qos")}
    if dialect.keys["partition"] not in taken:
        free[dialect.keys["partition"]] = _partition(site, kind, asked.nodes)
    free = {key: value for key, value in free.items() if value} | _options(site, kind, dialect)
    return replace(
        request, portable=portable,
        settings=[*request.settings, *((key, value or None) for key, value in free.items()
                                       if key not in taken)],
        dropped=[word for key, word in dropped.items() if key in current or key not in free],
        variables=({"SITE": site.name} if site.name else {}) | dict(request.variables),
        defaults=_device(site, text),
        gpu_request=None if own_gpus else _template(site, "GPU_REQUEST"),
        resources=_template(site, site.word("RESOURCES", kind)))


def sited(text: str, dialect: Dialect) -> str:
    """A script with the sizes and directives of the site ``$SITE``, but in the script's own form of
    asking for nodes, ranks, CPUs and GPUs.

    Raises:
        InputError: as of ``reading.read`` and ``for_site``.
    """
    request = for_site(chosen(Request()), text, dialect, Request())
    return edit(text, dialect, changes(text, dialect, replace(request, gpu_request=None,
                                                              resources=None)))


def placeholders(site: Site, now: Directives | None = None) -> list[str]:
    """Words of a site file that still hold the placeholder of the examples, as messages.

    Args:
        site: its words.
        now: directives of a job script: of the words that are written into it, only those count
            that it has got; None: all count.
    """
    written = [value for value in (now or {}).values() if value and PLACEHOLDER in value]
    return [f"{site.place(name)}: replace {PLACEHOLDER} in '{text}'"
            for name, text in site.words.items() if PLACEHOLDER in text
            and (now is None or name not in DIRECTIVES or any(value in text for value in written))]


def users_keys(text: str, dialect: Dialect, request: Request) -> set[str]:
    """Keys of the directives that a user sets or removes."""
    dropped = {dialect.key(word, f"--unset {word}") for word in request.dropped}
    feasible = _feasible(request, dialect, directives(text, dialect))
    return dropped | set(changes(text, dialect, feasible))


def _feasible(request: Request, dialect: Dialect, current: Directives) -> Request:
    """The request without removals of directives that only the site adds."""
    return replace(request, dropped=[word for word in request.dropped
                                     if dialect.key(word, "") in current])


def _lifted(request: Request, dialect: Dialect, current: Directives) -> Request:
    """The request with nodes, ranks, CPUs and GPUs that are set by their directives as portable
    options."""
    values = {dialect.key(word, f"--set {word}"): value for word, value in request.settings}
    if len(values) < len(request.settings):
        return request  # a key is set twice, which is refused later
    lifted, left = dialect.lift({key: value or "" for key, value in values.items()})
    own = request.portable
    if any(getattr(own, name) is not None and value is not None
           for name, value in vars(lifted).items()):
        return request  # set twice
    if lifted.gpus_per_node is not None and own.ranks_per_node is None \
            and lifted.ranks_per_node is None:  # the ranks don't follow a directive
        lifted = replace(lifted, ranks_per_node=dialect.portable(current).ranks_per_node)
    return replace(request, portable=_filled(own, lifted), settings=[
        (word, value) for word, value in request.settings if dialect.key(word, "") in left])


def _filled(portable: Portable, more: Portable) -> Portable:
    """``portable``, and values of ``more`` where it has none."""
    return Portable(**{field.name: getattr(more, field.name)
                       if getattr(portable, field.name) is None else getattr(portable, field.name)
                       for field in fields(Portable)})


def _layout(site: Site, kind: str, gpus: int | None, own: Portable, asked: Portable) -> Portable:
    """The site's ranks, CPUs, GPUs and memory of a job on each node."""
    ranks, memory = _number(site, f"{kind.upper()}_RANKS"), site.words.get(site.word("MEM", kind))
    if own.gpus_per_node and own.gpus_per_node == asked.ranks_per_node:
        ranks = None  # they have followed the GPUs that the user asked for
    return Portable(ranks_per_node=ranks, cpus_per_rank=_number(site, f"{kind.upper()}_CPUS"),
                    gpus_per_node=gpus, mem=read_memory(memory) if memory else None)


def _number(site: Site, name: str) -> int | None:
    return whole_number(site.words.get(name, ""))


def _partition(site: Site, kind: str, nodes: int | None) -> str:
    """The first partition in the site's list that takes so many nodes; empty without a list.

    Raises:
        InputError: there is none.
    """
    word = site.word("PARTITION", kind)
    listed = partitions(site.words.get(word, ""))
    for name, most in listed:
        if most is None or (nodes is not None and nodes <= most):
            return name
    if listed:
        raise InputError(f"{site.place(word)}: none of {site.words[word]} takes {nodes or 'any'} "
                         "nodes: request fewer (--nodes), or name one with --partition")
    return ""


def _options(site: Site, kind: str, dialect: Dialect) -> Directives:
    """The site's free options: the general ones, and those of the kind."""
    found: Directives = {}
    for word in dict.fromkeys(("OPTIONS", site.word("OPTIONS", kind))):
        where = site.place(word)
        found |= dialect.parse(split(site.words.get(word, ""), where), where)
    return found


def _device(site: Site, text: str) -> dict[str, str]:
    """The site's device, for scripts that compute on GPUs."""
    device = site.words.get("DEVICE")
    return {"DEVICE": device} if device and variables(text).get("DEVICE") == "gpu" else {}


def _template(site: Site, word: str) -> Template | None:
    return Template(site.words[word], site.place(word)) if site.words.get(word) else None
