"""Directives of ``sbatch``: ``#SBATCH --key=value``."""

from __future__ import annotations

import re
from typing import ClassVar

from hpc_deepfake.core.errors import InputError
from hpc_deepfake.jobs.script.dialect import Changes, Dialect, Directives, listed, suggestion, words
from hpc_deepfake.jobs.script.request import Portable
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
        gpus = current.get("gpus-per-node", "0").rpartition(":")[2]  # may be a100:4
        return Portable(
            number(current.get("nodes")), number(current.get("ntasks-per-node")),
            number(current.get("cpus-per-task", "1")), number(gpus),
            understood(read_memory, current.get("mem")), understood(read_time, current.get("time")),
            current.get("job-name"), current.get("account"), current.get("partition"),
            current.get("qos"), current.get("array"))

    def layout(self, requested: Portable, current: Directives) -> Changes:
        numbers = {"nodes": requested.nodes, "ntasks-per-node": requested.ranks_per_node,
                   "cpus-per-task": requested.cpus_per_rank}
        changed: Changes = {key: str(value) for key, value in numbers.items() if value is not None}
        if requested.gpus_per_node:
            gpu_type = "".join(current.get("gpus-per-node", "").rpartition(":")[:2])
            changed["gpus-per-node"] = f"{gpu_type}{requested.gpus_per_node}"
        elif requested.gpus_per_node == 0 and "gpus-per-node" in current:
            changed["gpus-per-node"] = None
        if requested.mem is not None:
            changed["mem"] = size(requested.mem)
        return changed

    def limit(self, seconds: int) -> str:
        days = seconds // 86400
        return f"{days}-{clock(seconds % 86400)}" if days else clock(seconds)

    @staticmethod
    def variable(key: str) -> str:
        """The environment variable that takes precedence over a directive."""
        irregular = {"array": "array-inx", "mem": "mem-per-node", "switches": "req-switch",
                 "time": "timelimit", "verbose": "debug"}
        return "SBATCH_" + irregular.get(key, key).upper().replace("-", "_")
