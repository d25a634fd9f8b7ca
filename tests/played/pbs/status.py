"""The played ``qstat``, ``qselect`` and ``pbsnodes``."""

from __future__ import annotations

import json
import os
import sys
import time
from getopt import gnu_getopt

from records import Job, Refused, Server, finished

TIMES = {"ctime", "mtime", "qtime", "etime", "stime", "obittime"}
HEADER = """\
Job id            Name             User              Time Use S Queue
----------------  ---------------- ----------------  -------- - -----"""


def qstat(server: Server, arguments: list[str]) -> int:
    """Prints what was asked for; returns the exit code."""
    server.may_ask()
    options, names = gnu_getopt(arguments, "afF:HJnpQqrstu:wx")
    flags = {name for name, _ in options}
    values = dict(options)
    server.read()
    if "-Q" in flags:
        print("Queue              Max   Tot Ena Str   Que   Run   Hld   Wat   Trn   Ext Type\n"
              "---------------- ----- ----- --- --- ----- ----- ----- ----- ----- ----- ----")
        for name, queue in server.config["queues"].items():
            print(f"{name:<16}     0     0 yes yes     0     0     0     0     0     0 "
                  f"{'Rout' if 'route' in queue else 'Exec'}")
        return 0
    history, code, chosen = bool({"-x", "-H"} & flags), 0, {}
    if history and not server.config["history"]:
        raise Refused("PBS is not configured to maintain job history", 15156)
    for name in names or list(server.jobs):
        try:
            full, job = server.find(name)
        except Refused as error:
            if names:
                print(f"qstat: {error}", file=sys.stderr)
                code = error.code
            continue
        if finished(job) and not history:
            if names:
                print(f"qstat: {full} Job has finished, use -x or -H to obtain historical job "
                      "information", file=sys.stderr)
                code = 15139 & 255
            continue
        if not names and "_array" in job:
            continue  # shown with -t only, after its array
        chosen[full] = job
        if "-t" in flags and job.get("array") == "True":
            chosen |= server.elements(full)
    if "-t" in flags and not names:
        chosen |= {name: job for name, job in server.jobs.items() if "_array" in job
                   and (history or not finished(job))}
    if "-u" in values:
        chosen = {name: job for name, job in chosen.items()
                  if job["Job_Owner"].split("@")[0] in values["-u"].split(",")}
    if values.get("-F") == "json":
        print(json.dumps({"timestamp": int(time.time()), "pbs_version": "23.06.06",
                          "pbs_server": "server", "Jobs": {
                              name: _nested(job) for name, job in chosen.items()}}, indent=4))
    elif "-f" in flags:
        for name, job in chosen.items():
            print(f"Job Id: {name}")
            for key, value in _shown(job).items():
                print(_line(key, value, "-w" in flags))
            print()
    elif chosen:
        print(HEADER)
        for name, job in chosen.items():
            used = job.get("resources_used.cput", "0")
            print(f"{name:<17.17} {job['Job_Name']:<16.15} "
                  f"{job['Job_Owner'].split('@')[0]:<16.16}  {used:>8} {job['job_state']} "
                  f"{job['queue']}")
    return code


def qselect(server: Server, arguments: list[str]) -> int:
    """Prints the ids of a user's jobs that have not ended."""
    options, _ = gnu_getopt(arguments, "u:")
    users = dict(options).get("-u", "").split(",")
    server.read()
    for name, job in server.jobs.items():
        if not finished(job) and "_array" not in job and job["Job_Owner"].split("@")[0] in users:
            print(name)
    return 0


def pbsnodes(server: Server, arguments: list[str]) -> int:
    """Prints the hosts, whatever the options."""
    for host in server.config["hosts"]:
        print(f"{host}\n     Mom = {host}\n     ntype = PBS\n     state = free\n"
              f"     resources_available.host = {host}\n"
              f"     resources_available.ncpus = {os.cpu_count()}\n")
    return 0


def _shown(job: Job) -> dict[str, str]:
    """Attributes as printed, without the server's own."""
    return {key: time.ctime(value) if key in TIMES else str(value) for key, value in job.items()
            if not key.startswith("_")}


def _nested(job: Job) -> dict[str, object]:
    """With a dictionary for each of Resource_List, resources_used and Variable_List."""
    found: dict[str, object] = {}
    for key, value in _shown(job).items():
        group, _, name = key.partition(".")
        if name:
            found.setdefault(group, {})[name] = int(value) if value.isdigit() else value
        else:
            found[key] = value
    return found


def _line(key: str, value: str, wide: bool) -> str:
    """Longer ones than 79 characters go on in lines that begin with a tab: after a comma where
    there is one, else anywhere."""
    line = f"    {key} = "
    if wide:
        return line + value
    lines, words = [], value.split(",")
    for number, word in enumerate(words):
        word += "," * (number < len(words) - 1)
        if number and len(line) + len(word) > 78:
            lines.append(line)
            line = "\t"
        line += word
        while len(line) > 78:
            lines.append(line[:78])
            line = f"\t{line[78:]}"
    return "\n".join([*lines, line])
