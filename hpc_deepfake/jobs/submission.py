"""Submitting a job, or a chain of jobs that go on with one another's work."""

from __future__ import annotations

import os
import shlex
import time
from argparse import Namespace
from collections.abc import Iterable, Sequence
from dataclasses import replace

from hpc_deepfake.core.errors import InputError
from hpc_deepfake.jobs.scheduler import after, environment, log_file, queue, site_words
from hpc_deepfake.jobs.script import SLURM, changes, render
from hpc_deepfake.jobs.script.dialect import Dialect
from hpc_deepfake.jobs.script.request import Request
from hpc_deepfake.jobs.script.text import directives, variables, work

CHAINED = ("train", "compare", "preprocess")  # what goes on where it was stopped


def submit(given: Namespace, dialect: Dialect, name: str, text: str, request: Request) -> None:
    """Submit the script ``text`` with these changes, and say what was submitted.

    Raises:
        InputError: the script can't be so changed, or the scheduler refuses it.
    """
    requests, run = [request], None
    if given.chain:
        requests, run = _chain(given.chain, request, name, text)
    elif work(text) == "evaluate":
        _needs_run(request, dialect, name)
    scripts = [render(text, dialect, one) for one in requests]
    asked = directives(scripts[0], dialect)
    environ = environment(dialect, changes(text, dialect, request))
    command = [*dialect.command, *site_words(dialect, asked, environ)]
    if given.dry_run:
        _dry_run(given, dialect, scripts, command)
        return
    if run:
        print(f"run: {run}")
    before, ids = given.after or [], []
    for number, script in enumerate(scripts, 1):
        job = queue([*command, *after(dialect, before)], script, environ, ids)
        ids.append(job)
        print(f"submitted: job {job}{f' ({number} of {given.chain})' if given.chain else ''}, "
              f"{asked.get(dialect.keys['name'], name)}"
              f"{', after ' + ', '.join(one for _, one in before) if before else ''}; "
              f"log: {log_file(dialect, asked, job)}", flush=True)
        before = [("any", job)]
    print(f"afterwards: hpc-deepfake job report {shlex.quote(run or ids[0])}")


def _chain(length: int, request: Request, name: str, text: str) -> tuple[list[Request], str | None]:
    """The requests for the jobs of a chain, and the run directory that they share, if any. The
    first begins anew; the others go by the outcome of the one before (jobs/lib/job.sh)."""
    if work(text) not in CHAINED:
        raise InputError(f"--chain: {name} doesn't go on where it was stopped, so a second job "
                         "would do the same again; chains are for train_cpu, train_4gpu, "
                         "train_multinode, compare and preprocess")
    values, run = dict(request.variables), None
    if "RUN" in variables(text) and not _has(request.arguments, "--run"):
        made = f"runs/{time.strftime('%Y-%m-%dT%H-%M-%S')}-{name}"
        run = values.setdefault("RUN", os.environ.get("RUN") or made)
    places = ["first", *["next"] * (length - 1)]
    return [replace(request, variables=values,
                    inserted={**request.inserted, "HPC_DEEPFAKE_CHAIN": place})
            for place in places], run


def _needs_run(request: Request, dialect: Dialect, name: str) -> None:
    named = {"RUN", "ARGS", "CONFIG"} & set(request.variables) or _has(request.arguments, "--model")
    if not named and not (dialect is SLURM and os.environ.get("RUN")):
        raise InputError("which run is to be evaluated? Name it, like\n  hpc-deepfake job submit "
                         f"{dialect.name} {name} --var RUN=runs/first --var DATA=casia2.h5")


def _has(arguments: Iterable[str], option: str) -> bool:
    return any(word == option or word.startswith(f"{option}=") for word in arguments)


def _dry_run(given: Namespace, dialect: Dialect, scripts: Sequence[str],
             command: Sequence[str]) -> None:
    print(scripts[0], end="")
    before, how = given.after or [], "would be submitted by:"
    for number in range(1, len(scripts) + 1):
        print(f"# {how} {shlex.join([*command, *after(dialect, before)])}")
        before, how = [("any", f"ID_OF_JOB_{number}")], "then, with HPC_DEEPFAKE_CHAIN=next, by:"
