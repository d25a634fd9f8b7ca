"""Directives of ``sbatch``: ``#SBATCH --key=value``."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import ClassVar

from hpc_deepfake.core.errors import InputError
from hpc_deepfake.jobs.script.dialect import Changes, Dialect, Directives, listed, suggestion, words
from hpc_deepfake.jobs.script.request import Portable, Request
from hpc_deepfake.jobs.script.template import split
from hpc_deepfake.jobs.script.values import clock, number, read_memory, read_time, size, understood

# Long options of SLURM 22.05, and some of newer versions.
_FLAGS = words("""contiguous hold ignore-pbs no-requeue overcommit oversubscribe quiet reboot
    requeue spread-job stepmgr use-min-nodes verbose wait""")
_OPTIONAL = words("exclusive get-user-env nice no-kill propagate resv-ports")
_VALUED = words("""account acctg-freq array batch bb bbf begin chdir cluster-constraint clusters
    comment constraint container container-id core-spec cores-per-socket cpu-freq cpus-per-gpu
    cpus-per-task deadline delay-boot dependency distribution error exclude export export-file extra
    extra-node-info gid gpu-bind gpu-freq gpus gpus-per-node gpus-per-socket gpus-per-task gres
    gres-flags hint input job-name kill-on-invalid-dep licenses mail-type mail-user mcs-label mem
    mem-bind mem-per-cpu mem-per-gpu mincpus network nodefile nodelist nodes ntasks ntasks-per-core
    ntasks-per-gpu ntasks-per-node ntasks-per-socket oom-kill-step open-mode output partition power
    prefer priority profile qos reservation segment signal sockets-per-node switches thread-spec
    threads-per-core time time-min tmp tres-bind tres-per-task uid wait-all-nodes wckey""")
_LETTERS = {"A": "account", "a": "array", "b": "begin", "C": "constraint", "c": "cpus-per-task",
            "D": "chdir", "d": "dependency", "e": "error", "F": "nodefile", "G": "gpus",
            "H": "hold", "i": "input", "J": "job-name", "k": "no-kill", "L": "licenses",
            "M": "clusters", "m": "distribution", "N": "nodes", "n": "ntasks", "O": "overcommit",
            "o": "output", "p": "partition", "Q": "quiet", "q": "qos", "S": "core-spec",
            "s": "oversubscribe", "t": "time", "v": "verbose", "W": "wait", "w": "nodelist",
            "x": "exclude"}
_GPU = re.compile(r"(?:^|,)(?:gres[:/])?gpu(?::[A-Za-z][\w.-]*)?(?:[:=](\d+))?(?=,|\(|$)")


class Slurm(Dialect):
    """Keys are long options of sbatch, without dashes."""

    name, prefix, command = "slurm", "#SBATCH", ("sbatch", "--parsable")
    keys: ClassVar = {"time": "time", "name": "job-name", "account": "account",
                      "partition": "partition", "qos": "qos", "array": "array"}
    flags, optional = _FLAGS, _OPTIONAL
    known: ClassVar = _FLAGS | _OPTIONAL | _VALUED
    alternatives = (("mem", "mem-per-cpu", "mem-per-gpu"), ("requeue", "no-requeue"))

    def key(self, word: str, where: str) -> str:
        key = word.lstrip("-")
        if key in self.known:
            return key
        raise InputError(f"{where}: sbatch has no such long option{suggestion(key, self.known)}; "
                         f"valid keys:\n{listed(self.known)}")

    def write(self, key: str, value: str) -> str:
        if re.search(r"[\s\"'\\#]", value):  # sbatch reads backslashes within quotes
            value = '"' + re.sub(r'(["\\])', r"\\\1", value) + '"'
        return f"#SBATCH --{key}={value}" if value else f"#SBATCH --{key}"

    def option(self, key: str, value: str) -> list[str]:
        return [f"--{key}={value}"]

    def _split(self, words: list[str], where: str) -> tuple[str, str]:
        if len(words) > 2 or not words or not words[0].startswith("--"):
            raise InputError(f"{where}: write one directive per line, as #SBATCH --key=value")
        key, equals, value = words[0][2:].partition("=")
        if len(words) == 2 and equals:
            raise InputError(f"{where}: quote a value with spaces")
        return key, words[1] if len(words) == 2 else value

    def portable(self, current: Directives) -> Portable:
        return Portable(
            number(current.get("nodes")), number(current.get("ntasks-per-node")),
            number(current.get("cpus-per-task", "1")), _gpus_per_node(current),
            understood(read_memory, current.get("mem")), understood(read_time, current.get("time")),
            current.get("job-name"), current.get("account"), current.get("partition"),
            current.get("qos"), current.get("array"))

    def layout(self, requested: Portable, current: Directives) -> Changes:
        numbers = {"nodes": requested.nodes, "ntasks-per-node": requested.ranks_per_node,
                   "cpus-per-task": requested.cpus_per_rank}
        changed: Changes = {key: str(value) for key, value in numbers.items() if value is not None}
        if requested.gpus_per_node is not None:
            changed |= self._gpus(requested.gpus_per_node, current)
        if requested.mem is not None:
            changed["mem"] = size(requested.mem)
        return changed

    def _gpus(self, gpus: int, current: Directives) -> Changes:
        """Changes for another number of GPUs on each node, in the form in which the script asks."""
        changed: Changes = dict.fromkeys(self.gpu_keys(current))
        if gpus and "gres" in changed:
            changed["gres"] = _GPU.sub(lambda match: match[0].removesuffix(f":{match[1]}")
                                       + f":{gpus}", current["gres"])
        elif gpus:
            gpu_type = "".join(current.get("gpus-per-node", "").rpartition(":")[:2])
            changed["gpus-per-node"] = f"{gpu_type}{gpus}"
        return changed

    def replaced(self, changed: Changes, current: Directives) -> set[str]:
        keys = super().replaced(changed, current)
        if self.gpu_keys({key: value for key, value in changed.items() if value is not None}):
            keys |= self.gpu_keys(current) - set(changed)
        return keys

    def gpu_keys(self, directives: Mapping[str, str | None]) -> set[str]:
        return {key for key, value in directives.items()
                if key in ("gpus", "gpus-per-node", "gpus-per-task", "gpus-per-socket")
                or (key in ("gres", "tres-per-task") and value and _GPU.search(value))}

    def lift(self, directives: Directives) -> tuple[Portable, Directives]:
        keys = ("nodes", "ntasks-per-node", "cpus-per-task", "gpus-per-node")
        nodes, ranks, cpus, gpus = (number(directives.get(key)) for key in keys)
        return Portable(nodes, ranks, cpus, gpus), {
            key: value for key, value in directives.items()
            if key not in keys or number(value) is None}

    def reshape(self, request: Request, current: Directives) -> Changes:
        asked = self.portable(current)
        if request.gpu_request is None or not asked.gpus_per_node:
            return {}
        words = request.gpu_request.fill({"gpus": asked.gpus_per_node,
                                          "ranks": asked.ranks_per_node or 1})
        form = self.parse(split(words, request.gpu_request.where), request.gpu_request.where)
        old = self.gpu_keys(current)
        if "gres" in form and "gres" in set(current) - old:  # other resources, such as disks
            form["gres"] = f"{form['gres']},{current['gres']}"
        return {**dict.fromkeys(old), **form}

    def _word(self, word: str, where: str) -> tuple[str, str | None]:
        if word.startswith("--"):
            name, equals, value = word[2:].partition("=")
            return self.key(name, where), value if equals else None
        if word[1] not in _LETTERS:
            raise InputError(f"{where}: sbatch has no such option")
        return _LETTERS[word[1]], word[2:] or None

    def limit(self, seconds: int) -> str:
        days = seconds // 86400
        return f"{days}-{clock(seconds % 86400)}" if days else clock(seconds)

    @staticmethod
    def variable(key: str) -> str:
        """The environment variable that takes precedence over a directive."""
        irregular = {"array": "array-inx", "mem": "mem-per-node", "switches": "req-switch",
                 "time": "timelimit", "verbose": "debug"}
        return "SBATCH_" + irregular.get(key, key).upper().replace("-", "_")


def _gpus_per_node(current: Directives) -> int | None:
    """Number of GPUs of each node, in any of the forms that sbatch accepts; None: unknown."""
    if "gpus-per-node" in current:
        return number(current["gpus-per-node"].rpartition(":")[2])  # may be a100:4
    if match := _GPU.search(current.get("gres", "")):
        return int(match[1] or 1)
    each = number(current.get("gpus-per-task", "").rpartition(":")[2])
    if each is not None:
        per_node = number(current.get("ntasks-per-node"))
        return each * per_node if per_node else None
    if "gpus" in current:
        total, nodes = number(current["gpus"].rpartition(":")[2]), number(current.get("nodes"))
        return total // nodes if total and nodes else None
    return 0
