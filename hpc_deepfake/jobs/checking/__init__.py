"""``hpc-deepfake job check``: tries a site file without a cluster."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

from hpc_deepfake.core.errors import EXIT_USAGE, InputError
from hpc_deepfake.core.options import Parser
from hpc_deepfake.core.text import plural
from hpc_deepfake.jobs.checking import judging
from hpc_deepfake.jobs.checking.launching import Started, commands
from hpc_deepfake.jobs.checking.rendering import Job, complaints, jobs
from hpc_deepfake.jobs.script import DIALECTS
from hpc_deepfake.jobs.site import CLONE, PREFIX, Site, read, read_file

_ABOUT = """Render all jobs of jobs/ for a site, check the scripts with bash and shellcheck, and say
what the site file lacks. Nothing is submitted, and no modules are loaded: the site file is sourced
with a module command that only records their names."""
_EXAMPLES = """examples:
  hpc-deepfake job check perlmutter
  hpc-deepfake job check env/sites/mine.sh
  hpc-deepfake job render slurm train_4gpu --site perlmutter     one whole script

exit codes: 0 nothing is wrong; 2 something is, or the file can't be read"""
_ROW = "{:<16} {:<6} {:<15} {:<15} {:>5} {:>5} {:>4} {:>4}".format


def main(argv: Sequence[str]) -> int:
    """The command. Returns the exit code."""
    cli = Parser(prog="hpc-deepfake job check", config=False, description=_ABOUT, epilog=_EXAMPLES)
    cli.add_argument("site", metavar="SITE", help="name of a file in env/sites/, or a path")
    cli.add_argument("--scheduler", choices=sorted(DIALECTS),
                     help=f"default: {PREFIX}SCHEDULER of the file, else the one in PATH")
    options = cli.parse(argv)
    site = _site(options.site)
    scheduler, why = _scheduler(site, options.scheduler)
    rendered, refused = jobs(site, DIALECTS[scheduler])
    problems = [f"{_named(refused, reason, rendered)}: {reason}"
                for reason in dict.fromkeys(refused.values())]
    problems += judging.problems(site, scheduler)
    problems += complaints({job.name: job.text for job in rendered})
    try:
        started = _started(site, scheduler, rendered)
    except InputError as error:
        started = {}
        problems.append(f"{site.where}: {error}")
    print(_table(site, scheduler, rendered, started))
    notes = [why] if why else []
    if not all(job.account for job in rendered):
        notes.append("jobs name no account to charge: right where the scheduler needs none")
    notes += judging.notes(site, scheduler)
    if not shutil.which("shellcheck"):
        notes.append("shellcheck is not installed here: the scripts were checked by bash -n only")
    print("", *(f"note: {note}" for note in notes), *(f"problem: {text}" for text in problems),
          f"{site.where}: {plural(len(problems), 'problem')}, {plural(len(notes), 'note')}; "
          f"{plural(len(rendered), 'job')} rendered", sep="\n")
    return EXIT_USAGE if problems else 0


def _site(name: str) -> Site:
    """The site of a name or a path."""
    path = Path(name)
    if "/" in name or (name.endswith(".sh") and path.exists()):
        if path.resolve().parent == CLONE / "env" / "sites":
            return read(path.stem)
        return read_file(path)
    return read(name)


def _named(refused: Mapping[str, str], reason: str, rendered: Sequence[Job]) -> str:
    """The jobs that were refused for a reason."""
    names = [name for name in refused if refused[name] == reason]
    return ", ".join(names) if rendered or len(names) < len(refused) else "all jobs"


def _scheduler(site: Site, given: str | None) -> tuple[str, str]:
    """The scheduler to check for, and a note where the site file doesn't say it."""
    named = given or site.words.get("SCHEDULER")
    if named:
        return named, ""
    here = next((name for name, dialect in DIALECTS.items() if shutil.which(dialect.command[0])),
                "slurm")
    return here, f"the file names no scheduler; checked for {here}: set {PREFIX}SCHEDULER"


def _started(site: Site, scheduler: str, rendered: Sequence[Job]) -> dict[str, Started]:
    """How the ranks of each job are started."""
    ranked = [job for job in rendered if job.starts_ranks]
    found = commands(site, scheduler, [(job.asked, job.device) for job in ranked])
    return dict(zip((job.name for job in ranked), found, strict=True))


def _table(site: Site, scheduler: str, rendered: Sequence[Job],
           started: dict[str, Started]) -> str:
    """The jobs with their requests, then the commands that start their ranks."""
    lines = [f"{site.where}: {scheduler}, modules {' '.join(site.modules) or 'none'}", "",
             _ROW("job", "kind", "account", "partition", "nodes", "ranks", "CPUs", "GPUs")]
    for job in rendered:
        asked = job.asked
        lines.append(_ROW(job.name, job.kind, job.account or "–", asked.partition or "–",
                          *("–" if number is None else number for number in (
                              asked.nodes, asked.ranks_per_node, asked.cpus_per_rank)),
                          asked.gpus_per_node or "").rstrip())
    lines += ["(ranks and GPUs of each node, CPUs of each rank)"]
    for words in dict.fromkeys((line.launcher, line.container) for line in started.values()):
        names = [name for name, line in started.items() if (line.launcher, line.container) == words]
        lines += ["", f"{', '.join(names)}:", *(f"  {command}" for command in words if command)]
    return "\n".join(lines)
