"""Why a job waits, in plain words: SLURM's reasons and PBS's comments.

SLURM's: https://slurm.schedmd.com/job_reason_codes.html and
https://slurm.schedmd.com/resource_limits.html; PBS's as its scheduler writes them.
"""

from __future__ import annotations

import re

from hpc_deepfake.core.text import printable

_SLURM = {
    "Priority": "jobs with a higher priority come first",
    "Resources": "for nodes to become free",
    "Dependency": "for another job",
    "DependencyNeverSatisfied": "for a job that can't succeed any more: it never starts; cancel it",
    "BeginTime": "for its begin time (a requeued job is delayed by two minutes)",
    "JobHeldUser": "held by its owner; scontrol release lets it go",
    "JobHeldAdmin": "held by an administrator",
    "JobArrayTaskLimit": "for other elements of the array (its limit of jobs at once)",
    "Cleaning": "for its previous run to be cleaned up",
    "Prolog": "for the site's prolog to finish",
    "NodeDown": "for a node that is down",
    "ReqNodeNotAvail": "for nodes that are down, reserved or drained (maintenance?)",
    "Reservation": "for its reservation to begin",
    "Reserved for maintenance": "for a maintenance to end",
    "Licenses": "for a license",
    "BadConstraints": "no node has what it asks for (constraint): it never starts; cancel it",
    "InvalidAccount": "its account is not valid: give another with --account",
    "InvalidQOS": "its quality of service is not valid: give another with --qos",
    "PartitionDown": "its partition accepts no jobs now",
    "PartitionInactive": "its partition starts no jobs now",
    "PartitionNodeLimit": "it asks for more nodes than the partition has available",
    "PartitionTimeLimit": "its time limit exceeds the partition's: shorten it with --time",
    "PartitionConfig": "the partition doesn't allow its request",
    "AccountNotAllowed": "the partition doesn't allow its account",
    "QOSNotAllowed": "the partition doesn't allow its quality of service",
    "JobLaunchFailure": "it could not be launched; SLURM holds it",
    "launch failed requeued held": "it could not be launched and is held; scontrol release",
    "job requeued in held state": "requeued and held; scontrol release lets it go",
    "SystemFailure": "a failure of SLURM, a file system or the network",
    "NonZeroExitCode": "", "None": "", "WaitingForScheduling": "", "": "",
}
_LIMITED = re.compile(r"(Assoc|QOS)(Grp|Max|Min)?(\w*?)(Limit|PerJob\w*|PerUser\w*|PerNode\w*|"
                      r"PerAccount\w*)?")
_WHOM = {"Assoc": "account", "QOS": "quality of service"}
_WHAT = {"CPU": "CPUs", "CPUs": "CPUs", "GRES": "GPUs or other resources", "Node": "nodes",
         "Nodes": "nodes", "Mem": "memory", "Memory": "memory", "Jobs": "jobs at once",
         "Job": "jobs at once", "SubmitJobs": "submitted jobs", "WallDuration": "time limit",
         "Wall": "time", "CPUMinutes": "CPU time", "CPURunMinutes": "CPU time of running jobs",
         "GRESMinutes": "GPU time", "Billing": "billing", "BillingMinutes": "budget",
         "BillingRunMinutes": "budget of running jobs"}


def slurm(reason: str, dependency: str = "") -> str:
    """Why a waiting job of SLURM waits.

    Args:
        reason: ``%r`` of ``squeue``.
        dependency: ``%E`` of ``squeue``, such as ``afterok:12(unfulfilled)``.
    """
    code, _, detail = reason.partition(",")
    code = code.strip().removeprefix("(").removesuffix(")")
    if code == "Dependency" and (words := dependencies(dependency)):
        return words
    if code in _SLURM:
        return _SLURM[code] + (f" ({printable(detail.strip())})" if detail else "")
    limited = _LIMITED.fullmatch(code)
    if limited and (limited[2] or limited[4]):
        what = _WHAT.get(limited[3], limited[3])
        return (f"limit of the {_WHOM[limited[1]]}{f' on {what}' if what else ''} reached "
                f"({printable(code)})")
    return printable(reason.strip())


def pbs(comment: str, depend: str = "") -> str:
    """Why a waiting job of PBS waits.

    Args:
        comment: of ``qstat -f``, such as ``Not Running: Insufficient amount of resource: ncpus
            (R: 4 A: 0 T: 4)``.
        depend: of ``qstat -f``, such as ``afterok:12.pbs@pbs``.
    """
    if depend and (words := dependencies(depend)):
        return words
    text = printable(comment.strip()).removeprefix("Not Running: ")
    never = "it never starts: " if text.startswith("Can Never Run: ") else ""
    text = text.removeprefix("Can Never Run: ")
    lacking = re.search(r"Insufficient amount of (?:\w+ )?resource:? (\S+)"
                        r"(?: \(R: (\S+) A: (\S+) T: (\S+)\))?", text)
    if lacking:
        name, requested, free, total = lacking.groups()
        figures = f": it asks for {requested}, {free} of {total} are free" if total else ""
        return f"{never or 'for '}{name}{figures}"
    return never + _PBS.get(text.rstrip("."), text)


_PBS = {"Job would conflict with reservation or top job": "jobs with a higher priority come first",
        "Queue not started": "its queue starts no jobs now",
        "Not enough free nodes available": "for nodes to become free",
        "Not enough total nodes available": "it asks for more nodes than there are"}


def dependencies(text: str) -> str:
    """A dependency of SLURM or PBS in words; empty if the text holds none. ``after job 12 has
    succeeded`` of ``afterok:12(unfulfilled)``."""
    how = {"ok": "has succeeded", "any": "has ended", "notok": "has failed", "corr":
           "'s element has succeeded", "": "has started"}
    parts = []
    for kind, ids in re.findall(r"\bafter(ok|any|notok|corr|):([^,?]+)", text):
        jobs = job_ids(ids)
        if jobs:
            several = len(jobs) > 1
            verb = how[kind].replace("has ", "have ") if several else how[kind]
            parts.append(f"job{'s' * several} {', '.join(jobs)} {verb}")
    return f"after {' and '.join(parts)}" if parts else ""


def job_ids(text: str) -> list[str]:
    """The ids in a dependency, without states and server names: 12 and 13 of
    ``12(unfulfilled):13.pbs@pbs``."""
    return [printable(job) for job in re.findall(r"(?:^|:)(\d+(?:_[\d*]+|\[\d*\])?)", text)]


def awaited(text: str) -> list[str]:
    """Ids of all jobs that a dependency of SLURM or PBS names."""
    return [job for ids in re.findall(r"\bafter(?:ok|any|notok|corr|):([^,?]+)", text)
            for job in job_ids(ids)]
