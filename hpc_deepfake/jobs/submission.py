"""Submitting a job, or a chain of jobs of which each resumes the previous one's work."""

from __future__ import annotations

import os
import shlex
import time
from argparse import Namespace
from collections.abc import Iterable, Sequence
from dataclasses import replace

from hpc_deepfake.core.errors import InputError
from hpc_deepfake.core.log import log
from hpc_deepfake.jobs import cost, inputs
from hpc_deepfake.jobs.queue import journal
from hpc_deepfake.jobs.scheduler import after, environment, log_file, queue
from hpc_deepfake.jobs.script import SLURM, render
from hpc_deepfake.jobs.script.dialect import Dialect
from hpc_deepfake.jobs.script.request import Request
from hpc_deepfake.jobs.script.text import directives, variables, work, written
from hpc_deepfake.jobs.site import chosen, for_site, placeholders, users_keys

# functions of jobs/lib/work.sh that can resume
CHAINED = ("train", "compare", "crosseval", "preprocess")


def submit(options: Namespace, dialect: Dialect, name: str, text: str,
           request: Request) -> list[str]:
    """Submit a script with changes, and print what was submitted.

    Args:
        options: of the command line: ``chain``, ``after`` and ``dry_run``.
        dialect: of the scheduler.
        name: of the script.
        text: of the script.
        request: the changes.

    Returns:
        The ids of the jobs; none in a dry run.

    Raises:
        InputError: the changes are not possible, the job would fail at its start, or the scheduler
            refuses it.
    """
    requests, run = [request], None
    if options.chain:
        requests, run = _chain(options.chain, request, name, text)
    elif work(text) == "evaluate":
        _needs_run(request, dialect, name, text)
    site = chosen(request)
    changes = [for_site(site, text, dialect, changed) for changed in requests]
    scripts = [render(text, dialect, changed) for changed in changes]
    current = directives(scripts[0], dialect)
    inputs.check(text, dialect, changes[0], current, follows=bool(options.after))
    environ = environment(dialect, users_keys(text, dialect, request))
    command = list(dialect.command)
    bill = f"cost: {cost.total(cost.of(script, dialect, environ) for script in scripts)}"
    left = placeholders(site, current)
    if options.dry_run:
        if left:
            log.warning("note: %s", "; ".join(left))
        _dry_run(options, dialect, scripts, command)
        print(f"# {bill}")
        return []
    if left:
        raise InputError("\n".join(left))
    if run:
        print(f"run: {run}")
    print(bill)
    before = options.after or []
    ids: list[str] = []
    for number, script in enumerate(scripts, 1):
        job = queue([*command, *after(dialect, before)], script, environ, ids)
        journal.note(job, current.get(dialect.keys["name"], name), work(text), dialect.name, script,
                     after=before, resumes=ids[-1] if ids else "",
                     log_file=log_file(dialect, current, job), request=requests[number - 1],
                     array=dialect.keys["array"] in current)
        ids.append(job)
        print(f"submitted: job {job}{f' ({number} of {options.chain})' if options.chain else ''}, "
              f"{current.get(dialect.keys['name'], name)}"
              f"{', after ' + ', '.join(previous for _, previous in before) if before else ''}; "
              f"log: {log_file(dialect, current, job)}", flush=True)
        before = [("any", job)]
    subject = shlex.quote(run or ids[0])
    print(f"meanwhile: hpc-deepfake job status {subject}")
    print(f"afterwards: hpc-deepfake job report {subject}")
    return ids


def _chain(length: int, request: Request, name: str, text: str) -> tuple[list[Request], str | None]:
    """The requests for the jobs of a chain, and the run directory that they share, if any. The
    first job starts the work; each other one acts on the outcome of the previous one
    (jobs/lib/job.sh)."""
    if work(text) not in CHAINED:
        raise InputError(f"--chain: {name} can't resume where it was stopped, so a second job "
                         "would repeat the first; chains are for train_cpu, train_4gpu, "
                         "train_multinode, compare, crosseval and preprocess")
    values, run = dict(request.variables), None
    if "RUN" in variables(text) and not _has(request.arguments, "--run"):
        new = f"runs/{time.strftime('%Y-%m-%dT%H-%M-%S')}-{name}"
        run = values.setdefault("RUN", os.environ.get("RUN") or new)
    places = ["first", *["next"] * (length - 1)]
    return [replace(request, variables=values,
                    inserted={**request.inserted, "HPC_DEEPFAKE_CHAIN": place})
            for place in places], run


def _needs_run(request: Request, dialect: Dialect, name: str, text: str) -> None:
    """Raise InputError unless the run to evaluate is named."""
    assigned = {**written(text), **request.variables}
    named = {"RUN", "ARGS", "CONFIG"} & set(assigned) or _has(request.arguments, "--model")
    if not named and not (dialect is SLURM and os.environ.get("RUN")):
        raise InputError("missing run to evaluate: name it, like\n  hpc-deepfake job submit "
                         f"{dialect.name} {name} --var RUN=runs/first --var DATA=casia2.h5")


def _has(arguments: Iterable[str], option: str) -> bool:
    return any(word == option or word.startswith(f"{option}=") for word in arguments)


def _dry_run(options: Namespace, dialect: Dialect, scripts: Sequence[str],
             command: Sequence[str]) -> None:
    """Print the first script, and the commands that would submit it and the others."""
    print(scripts[0], end="")
    before, introduction = options.after or [], "would be submitted by:"
    for number in range(1, len(scripts) + 1):
        print(f"# {introduction} {shlex.join([*command, *after(dialect, before)])}")
        before = [("any", f"ID_OF_JOB_{number}")]
        introduction = "then, with HPC_DEEPFAKE_CHAIN=next, by:"
