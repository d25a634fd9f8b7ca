"""Directives of ``qsub``: ``#PBS -N name``, ``#PBS -l resource=value``, ``#PBS -W attribute=…``."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping
from typing import ClassVar

from hpc_deepfake.core.errors import InputError
from hpc_deepfake.core.text import whole_number
from hpc_deepfake.jobs.script.dialect import Changes, Dialect, Directives, listed, suggestion, words
from hpc_deepfake.jobs.script.request import Portable, Request
from hpc_deepfake.jobs.script.template import Template, split
from hpc_deepfake.jobs.script.values import number, read_memory, size, understood


class Pbs(Dialect):
    """Keys are N, l:walltime, W:umask and so on; users may also write walltime or "W umask"."""

    name, prefix, command = "pbs", "#PBS", ("qsub",)
    keys: ClassVar = {"time": "l:walltime", "name": "N", "account": "A", "partition": "q",
                      "qos": "l:qos", "array": "J"}
    flags = frozenset("hV")
    options: ClassVar = frozenset("AJMNPRSacejkmopqruv") | flags
    attributes: ClassVar = words("""block depend group_list max_run_subjobs
        release_nodes_on_stageout run_count sandbox stagein stageout tolerate_node_failures
        umask""")
    resources: ClassVar = words("""cput file max_walltime min_walltime nice pcput place pmem
        preempt_targets pvmem select site soft_walltime software walltime""")
    chunk_options: ClassVar = {"ncpus": "--cpus-per-rank", "mpiprocs": "--ranks-per-node",
                               "ngpus": "--gpus-per-node", "mem": "--mem", "nodes": "--nodes"}

    def key(self, word: str, where: str) -> str:
        kind, _, rest = re.sub(r"^-?([lW])[ :]", r"\1:", word).partition(":")
        if kind == "l" and re.fullmatch(r"[A-Za-z][\w.-]*", rest):
            return f"l:{rest}"  # sites define their own
        if kind == "W" and rest in self.attributes:
            return f"W:{rest}"
        name = word.lstrip("-")
        if name in self.options:
            return name
        if name in self.resources:
            return f"l:{name}"
        if name in self.attributes:
            return f"W:{name}"
        if name in self.chunk_options:
            raise InputError(f"{where}: this is part of select: give {self.chunk_options[name]}, "
                             "or all of select by --set select=…")
        valid = "\n".join((listed(self.options, "options: "), listed(self.resources, "resources: "),
                           listed(self.attributes, "attributes (-W): ")))
        similar = suggestion(rest or name, self.resources | self.attributes)
        raise InputError(f"{where}: qsub has no such directive{similar}; valid keys:\n"
                         f"{valid}\n  another resource of this site: l:NAME")

    def value(self, key: str, value: str | None, where: str) -> str:
        if value is None and key.startswith("l:") and key[2:] not in self.resources:
            return ""  # a flag of the site, such as -l wd
        checked = super().value(key, value, where)
        if key == "N":
            _check_name(checked)
        return checked

    def write(self, key: str, value: str) -> str:
        option, _, name = key.partition(":")
        word = f"{name}={value}" if name and value else name or value
        if re.search(r"[\s\"'\\#]", word):
            quote = next((quote for quote in "\"'" if quote not in word), None)
            if quote is None or "\\" in word:
                raise InputError(f"{key}: qsub can't read a backslash, or both kinds of quotes, "
                                 f"in {value!r}")
            word = f"{quote}{word}{quote}"
        return f"#PBS -{option} {word}".rstrip()

    def option(self, key: str, value: str) -> list[str]:
        option, _, name = key.partition(":")
        return [f"-{option}", f"{name}={value}" if name else value]

    def _split(self, words: list[str], where: str) -> tuple[str, str]:
        if not words or not re.match(r"-[A-Za-z]", words[0]):
            raise InputError(f"{where}: write it as #PBS -N name or #PBS -l resource=value")
        option, rest = words[0][1], [words[0][2:], *words[1:]]
        if sum(map(bool, rest)) > 1:
            raise InputError(f"{where}: write one directive per line")
        value = "".join(rest)
        if option not in "lW":
            return option, value
        name, _, value = value.partition("=")
        if option == "l" and re.search(rf",({'|'.join(self.resources)})=", value):
            raise InputError(f"{where}: write one resource per line")
        return f"{option}:{name}", value

    def portable(self, current: Directives) -> Portable:
        nodes, chunk = _chunk(current.get("l:select", ""))
        ranks, cpus = number(chunk.get("mpiprocs")), number(chunk.get("ncpus"))
        return Portable(
            nodes, ranks, cpus // ranks if ranks and cpus and cpus % ranks == 0 else None,
            number(chunk.get("ngpus", "0")), understood(read_memory, chunk.get("mem")),
            understood(_seconds, current.get("l:walltime")), current.get("N"), current.get("A"),
            current.get("q"), current.get("l:qos"), current.get("J"))

    def layout(self, requested: Portable, current: Directives) -> Changes:
        if all(value is None for value in (
                requested.nodes, requested.ranks_per_node, requested.cpus_per_rank,
                requested.gpus_per_node, requested.mem)):
            return {}
        select, script = current.get("l:select", ""), self.portable(current)
        nodes, chunk = _chunk(select)
        if nodes is None:
            raise InputError(f"select={select} isn't a number of equal chunks: give all of it, "
                             "like --set select=2:ncpus=32:mpiprocs=4:ngpus=4")
        if requested.ranks_per_node or requested.cpus_per_rank:
            ranks = requested.ranks_per_node or script.ranks_per_node or 1
            cpus = requested.cpus_per_rank or script.cpus_per_rank
            if cpus is None:
                raise InputError(f"select={select} doesn't say how many CPUs a rank has: add "
                                 "--cpus-per-rank N")
            chunk |= {"ncpus": str(ranks * cpus), "mpiprocs": str(ranks)}
        if requested.gpus_per_node:
            chunk["ngpus"] = str(requested.gpus_per_node)
        elif requested.gpus_per_node == 0:
            chunk.pop("ngpus", None)
        if requested.mem is not None:
            chunk["mem"] = f"{size(requested.mem)}b".lower()
        parts = [str(requested.nodes or nodes), *(f"{key}={value}" for key, value in chunk.items())]
        return {"l:select": ":".join(parts)}

    def lift(self, directives: Directives) -> tuple[Portable, Directives]:
        nodes, chunk = _chunk(directives.get("l:select", ""))
        asked = self.portable(directives)
        if nodes is None or not set(chunk) <= set(self.chunk_options) or (
                "ncpus" in chunk and asked.cpus_per_rank is None):
            return Portable(), directives
        left = {key: value for key, value in directives.items() if key != "l:select"}
        gpus = asked.gpus_per_node if "ngpus" in chunk else None
        return Portable(nodes, asked.ranks_per_node, asked.cpus_per_rank, gpus, asked.mem), left

    def gpu_keys(self, directives: Mapping[str, str | None]) -> set[str]:
        return {key for key, value in directives.items()
                if key == "l:ngpus" or (key == "l:select" and value and "gpu" in value)}

    def reshape(self, request: Request, current: Directives) -> Changes:
        asked, select = self.portable(current), current.get("l:select", "")
        if request.resources is not None:
            return self._whole(request.resources, asked, current)
        if request.gpu_request is None or not asked.gpus_per_node:
            return {}
        form = request.gpu_request.fill({"gpus": asked.gpus_per_node,
                                         "ranks": asked.ranks_per_node or 1})
        for part in form.split(":"):
            if not re.fullmatch(r"[\w.-]+=[^\s=+]+", part):
                raise InputError(f"{request.gpu_request.where}: '{part}' is not a part of a chunk: "
                                 "give NAME=VALUE, like ngpus={gpus}:gpu_type=a100")
        return {"l:select": re.sub(r"(?<=:)ngpus=\d+", lambda _: form, select)}

    def _whole(self, resources: Template, asked: Portable, current: Directives) -> Changes:
        """Changes for a site's own way to ask for nodes, ranks, CPUs, GPUs and memory together."""
        nodes, per_node, cpus = asked.nodes, asked.ranks_per_node, asked.cpus_per_rank
        if nodes is None or per_node is None or cpus is None:
            raise InputError(f"{resources.where}: select={current.get('l:select', '')} doesn't say "
                             "nodes, ranks and CPUs: give --nodes, --ranks-per-node and "
                             "--cpus-per-rank")
        gpus = asked.gpus_per_node or 0
        numbers = {"nodes": nodes, "ranks": nodes * per_node, "per_node": per_node, "cpus": cpus,
                   "node_cpus": per_node * cpus, "total_cpus": nodes * per_node * cpus,
                   "gpus": gpus, "total_gpus": nodes * gpus,
                   "mem": asked.mem and f"{asked.mem}mb",
                   "total_mem": asked.mem and f"{nodes * asked.mem}mb"}
        form = self.parse(split(resources.fill(numbers), resources.where), resources.where)
        form = {key: value for key, value in form.items() if key != "l:ngpus" or value != "0"}
        return {**dict.fromkeys({"l:select", "l:place"} & set(current)), **form}

    def _word(self, word: str, where: str) -> tuple[str, str | None]:
        letter = word[1]
        if letter not in self.options | {"l", "W"}:
            raise InputError(f"{where}: qsub has no such option")
        return letter, word[2:] or None

    def _resolve(self, key: str, value: str | None, where: str) -> Directives:
        if key not in ("l", "W"):
            return super()._resolve(key, value, where)
        parsed: Directives = {}
        for part in re.split(r",(?=[A-Za-z][\w.-]*=)", value or ""):
            name, equals, content = part.partition("=")
            own = key == "l" and name not in self.resources  # may be a flag of the site, like wd
            if not name or (equals and not content) or not (equals or own):
                raise InputError(f"{where}: -{key} needs NAME=VALUE, not '{part}'")
            parsed[self.key(f"{key}:{name}", where)] = content
        return parsed

    def changes(self, requested: Portable, current: Directives) -> Changes:
        if requested.name:
            _check_name(requested.name)
        if requested.array and not re.fullmatch(r"\d+-\d+(:\d+)?(%\d+)?", requested.array):
            raise InputError(f"--array {requested.array}: PBS accepts FIRST-LAST or "
                             "FIRST-LAST:STEP")
        return super().changes(requested, current)


def _check_name(name: str) -> None:
    if len(name) > 15:
        raise InputError(f"PBS cuts job names at 15 characters, and '{name}' has {len(name)}: "
                         f"take a shorter one, like --name {shlex.quote(name[:15])}")
    if not re.fullmatch(r"[A-Za-z0-9]\S*", name):
        raise InputError(f"'{name}' is not a valid job name for PBS: begin with a letter or digit, "
                         "and use no spaces")


def _chunk(select: str) -> tuple[int | None, dict[str, str]]:
    """Number and resources of the chunks, if all are equal: ``2:ncpus=32:mpiprocs=4``."""
    count, *parts = select.split(":")
    chunks = whole_number(count)
    if chunks is None or "+" in select or not all("=" in part for part in parts):
        return None, {}
    return chunks, dict(part.split("=", 1) for part in parts)


def _seconds(text: str) -> int | None:
    """Seconds of [[HH:]MM:]SS; None for anything else."""
    parts = [whole_number(part) for part in text.split(":")]
    if len(parts) > 3:
        return None
    total = 0
    for part in parts:
        if part is None:
            return None
        total = total * 60 + part
    return total
