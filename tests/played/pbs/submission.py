"""The played ``qsub``: options, directives, refusals."""

from __future__ import annotations

import getpass
import os
import re
import shlex
import sys
import time
from getopt import GetoptError, gnu_getopt
from pathlib import Path

from records import SERVER, Job, Refused, Server, chunks, seconds

OPTIONS = "a:A:c:C:e:fhIj:J:k:l:m:M:N:o:p:P:q:r:R:S:u:v:VW:Xz"
RESOURCES = {"ncpus", "mpiprocs", "mem", "vmem", "ompthreads", "walltime", "place", "select",
             "cput", "nodes", "host", "arch", "file", "nice", "pmem", "pvmem", "software", "site"}
USAGE = """\
usage: qsub [-a date_time] [-A account_string] [-c interval]
\t[-C directive_prefix] [-e path] [-f ] [-h ] [-I [-X]] [-j oe|eo] [-J X-Y[:Z]]
\t[-k keep] [-l resource_list] [-m mail_options] [-M user_list]
\t[-N jobname] [-o path] [-p priority] [-P project] [-q queue] [-r y|n]
\t[-R o|e|oe] [-S path] [-u user_list] [-W otherattributes=value...]
\t[-v variable_list] [-V ] [-z] [script | -- command [arg1 ...]]"""


def qsub(server: Server, arguments: list[str]) -> str:
    server.may_ask()
    try:
        given, rest = gnu_getopt(arguments, f"+{OPTIONS}")
    except GetoptError as error:
        raise Refused(f"qsub: {error}\n{USAGE}", 2) from None
    if len(rest) > 1:
        raise Refused(USAGE, 2)
    script = Path(rest[0]).read_text() if rest else sys.stdin.read()
    options = [*_directives(script), *given]  # the command line wins
    name = _last(options, "-N") or (Path(rest[0]).name if rest else "STDIN")
    if len(name) > 230:
        raise Refused("qsub: illegal -N value", 2)
    resources = _resources(server, options)
    queue, asked = _queue(server, _last(options, "-q") or server.config["default_queue"])
    if any(name.startswith(start) for start in server.config["refuse"]):
        raise Refused("qsub: would exceed queue generic's per-user limit", 15046)
    array = _last(options, "-J")
    more = _attributes(options)
    with server.changed():
        number = server.new_number()
        job_id = f"{number}{'[]' if array else ''}.{SERVER}"
        after = _dependencies(server, more.pop("depend", ""), job_id)
        output = _last(options, "-o") or f"{name[:15]}.o{number}"
        variables = _variables(options)
        now = time.time()
        job: Job = {
            "Job_Name": name, "Job_Owner": f"{getpass.getuser()}@{os.uname().nodename}",
            "job_state": "Q", "queue": queue, "server": SERVER, "Checkpoint": "u", "ctime": now,
            "Error_Path": f"{os.uname().nodename}:{os.getcwd()}/{name[:15]}.e{number}",
            "Hold_Types": "u" if any(flag == "-h" for flag, _ in options) else
            "s" if after else "n",
            "Join_Path": _last(options, "-j") or "n", "Keep_Files": _last(options, "-k") or "n",
            "Mail_Points": _last(options, "-m") or "a", "mtime": now,
            "Output_Path": f"{os.uname().nodename}:{os.path.join(os.getcwd(), output)}",
            "Priority": _last(options, "-p") or "0", "qtime": now,
            "Rerunable": "False" if _last(options, "-r") == "n" else "True", **resources,
            "substate": "10", "Variable_List": ",".join(
                f"{key}={_escaped(value)}" for key, value in (
                    {**_of_submission(asked), **variables}).items()),
            "etime": now, "project": _last(options, "-P") or "_pbs_project_default",
            "Submit_arguments": " ".join(arguments), "_script": script, "_after": after,
            "_variables": variables | _of_submission(asked), "_workdir": os.getcwd(), **more}
        if job["Hold_Types"] != "n":
            job |= {"job_state": "H", "substate": "22"}
            del job["etime"]
        for flag, attribute in (("-A", "Account_Name"), ("-M", "Mail_Users"),
                                ("-S", "Shell_Path_List")):
            if _last(options, flag):
                job[attribute] = _last(options, flag)
        if after:
            job["depend"] = ",".join(f"{how}:{other}@{SERVER}" for how, other in after)
        _place(server, job)
        server.jobs[job_id] = job
        if array:
            _elements(server, job_id, number, array)
    return job_id


def _directives(script: str) -> list[tuple[str, str]]:
    """Options in the lines that begin with #PBS, up to the first command."""
    found = []
    for line in script.splitlines():
        if line.startswith("#PBS"):
            found += gnu_getopt(shlex.split(line.removeprefix("#PBS")), f"+{OPTIONS}")[0]
        elif line.strip() and not line.lstrip().startswith("#"):
            break
    return found


def _last(options: list[tuple[str, str]], flag: str) -> str:
    return next((value for name, value in reversed(options) if name == flag), "")


def _resources(server: Server, options: list[tuple[str, str]]) -> dict[str, str]:
    """Resource_List, with the sums over all chunks."""
    asked: dict[str, str] = {}
    for flag, value in options:
        if flag == "-l":
            asked |= dict(part.split("=", 1) for part in re.split(r",(?=\w+=)", value))
    known = RESOURCES | set(server.config["resources"])
    host_level = {"ncpus", "mem", "ngpus", "mpiprocs", "ompthreads"} & set(asked)
    if "select" in asked and host_level:
        raise Refused(f"qsub: Resource spec. conflict: -lselect cannot be combined with "
                      f"job-wide host-level -l{min(host_level)}", 15098)
    for chunk in [asked, *chunks(asked.get("select", "1"))]:
        for name in chunk:
            if name not in known:
                raise Refused(f"qsub: Unknown resource: {name}", 15035)
    asked.setdefault("select", ":".join(["1", *(f"{name}={asked[name]}" for name in (
        "ncpus", "mem", "ngpus", "mpiprocs") if name in asked)]))
    asked.setdefault("place", "free")
    if "walltime" in asked:
        minutes, rest = divmod(seconds(asked["walltime"]), 60)
        asked["walltime"] = f"{minutes // 60:02}:{minutes % 60:02}:{rest:02}"
    parts = [part if "ncpus=" in part else f"{part}:ncpus=1" for part in asked["select"].split("+")]
    asked["select"] = "+".join(parts)
    all_chunks = chunks(asked["select"])
    for name in ("ncpus", "mpiprocs", "ngpus"):
        if any(name in chunk for chunk in all_chunks):
            asked[name] = str(sum(int(chunk.get(name, 0)) for chunk in all_chunks))
    asked["nodect"] = str(len(all_chunks))
    return {f"Resource_List.{name}": asked[name] for name in sorted(asked)} | {
        "schedselect": asked["select"]}


def _queue(server: Server, asked: str) -> tuple[str, str]:
    """The execution queue, and the one that was asked for."""
    queues = server.config["queues"]
    if asked not in queues:
        raise Refused("qsub: Unknown queue", 15018)
    if queues[asked].get("from_route_only"):
        raise Refused("qsub: Access to queue is denied", 15022)
    return queues[asked].get("route", asked), asked


def _attributes(options: list[tuple[str, str]]) -> dict[str, str]:
    """Those of -W."""
    found: dict[str, str] = {}
    for flag, value in options:
        if flag == "-W":
            if "=" not in value:
                raise Refused(f"qsub: illegal -W value\n{USAGE}", 2)
            found |= dict(part.split("=", 1) for part in re.split(r",(?=\w+=)", value))
    return found


def _dependencies(server: Server, text: str, job_id: str) -> list[tuple[str, str]]:
    found = []
    for part in filter(None, text.split(",")):
        how, *others = part.split(":")
        for other in others:
            name = other.split("@")[0]
            name = name if "." in name else f"{name}.{SERVER}"
            if re.search(r"\[[^\]]", name):
                raise Refused("cannot have dependancy on subjob or range\n"
                              f"qsub: illegal -W value\n{USAGE}", 2)
            found.append((how, name))
    return found


def _variables(options: list[tuple[str, str]]) -> dict[str, str]:
    """Those of -v and -V."""
    found = dict(os.environ) if any(flag == "-V" for flag, _ in options) else {}
    for flag, value in options:
        if flag != "-v":
            continue
        for part in re.findall(r"(?:[^,\\\"']|\\.|\"[^\"]*\"|'[^']*')+", value):
            name, given, text = part.partition("=")
            if not given and name not in os.environ:
                raise Refused("qsub: cannot send environment with the job", 1)
            text = re.sub(r"\\(.)", r"\1", text).strip("\"'") if given else os.environ[name]
            found[name] = text
    return found


def _of_submission(queue: str) -> dict[str, str]:
    """PBS_O_…"""
    environ = os.environ
    return {"PBS_O_HOME": environ.get("HOME", "/"), "PBS_O_LOGNAME": getpass.getuser(),
            "PBS_O_PATH": environ.get("PATH", ""), "PBS_O_SHELL": "/bin/bash",
            "PBS_O_WORKDIR": os.getcwd(), "PBS_O_SYSTEM": "Linux", "PBS_O_QUEUE": queue,
            "PBS_O_HOST": os.uname().nodename}


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace(",", "\\,")


def _place(server: Server, job: Job) -> None:
    """Hosts for each chunk."""
    hosts, scattered = server.config["hosts"], "scatter" in job.get("Resource_List.place", "")
    placed = [(hosts[number % len(hosts)] if scattered else hosts[0], chunk)
              for number, chunk in enumerate(chunks(job["Resource_List.select"]))]
    job["_hosts"] = "+".join(f"{host}/0*{chunk['ncpus']}" for host, chunk in placed)
    job["_vnodes"] = "+".join(f"({host}:ncpus={chunk['ncpus']})" for host, chunk in placed)
    job["_nodefile"] = [host for host, chunk in placed for _ in range(
        int(chunk.get("mpiprocs", 1)))]
    # MOM sets both variables to the first chunk's threads, which are its CPUs unless it says so
    job["_threads"] = placed[0][1].get("ompthreads", placed[0][1]["ncpus"])


def _elements(server: Server, array: str, number: int, indices: str) -> None:
    parent = server.jobs[array]
    first, last, step = re.fullmatch(r"(\d+)-(\d+)(?::(\d+))?(?:%\d+)?", indices).groups()
    wanted = range(int(first), int(last) + 1, int(step or 1))
    for index in wanted:
        output = parent["Output_Path"]
        element = {key: value for key, value in parent.items() if key not in (
            "Submit_arguments", "depend", "_script")}
        server.jobs[f"{number}[{index}].{SERVER}"] = {
            **element, "_array": array, "array_id": array, "array_index": str(index),
            "Output_Path": f"{output}.{index}", "_after": []}
    parent |= {"array": "True", "array_indices_submitted": indices,
               "array_state_count": f"Queued:{len(wanted)} Running:0 Exiting:0 Expired:0 "}
