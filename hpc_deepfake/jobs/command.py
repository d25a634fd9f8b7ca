"""``hpc-deepfake job``: prints or submits job scripts of ``jobs/`` with changes, and reports what
jobs used."""

from __future__ import annotations

import os
import shutil
import sys
from argparse import Namespace
from collections.abc import Sequence
from dataclasses import fields
from difflib import get_close_matches
from pathlib import Path

from hpc_deepfake.core.errors import InputError, reason
from hpc_deepfake.core.log import log
from hpc_deepfake.core.streams import work_matters
from hpc_deepfake.jobs import accounting, checking, cost, inputs, options, queue
from hpc_deepfake.jobs.scheduler import environment
from hpc_deepfake.jobs.script import DIALECTS, render
from hpc_deepfake.jobs.script.dialect import Dialect
from hpc_deepfake.jobs.script.request import Portable, Request
from hpc_deepfake.jobs.script.template import split
from hpc_deepfake.jobs.script.text import directives, variables, work
from hpc_deepfake.jobs.site import CLONE, chosen, for_site, placeholders, read, users_keys
from hpc_deepfake.jobs.submission import submit


def main(argv: Sequence[str]) -> int:
    """The command. Returns the exit code."""
    subcommand, *rest = argv or [""]
    if subcommand == "report":
        return accounting.main(rest)
    if subcommand in queue.COMMANDS:
        return queue.COMMANDS[subcommand](rest)
    if subcommand == "check":
        return checking.main(rest)
    if subcommand == "cost":
        return _cost(rest)
    if subcommand == "render":
        return _render(rest)
    if subcommand == "submit":
        submit_job(rest)
        return 0
    cli = options.overview()
    cli.parse(argv)
    cli.error("put the subcommand before its options")


def _render(argv: Sequence[str]) -> int:
    """``job render``. Returns the exit code."""
    _, dialect, _, text, request = _parse("render", argv)
    site = chosen(request)
    request = for_site(site, text, dialect, request)
    script = render(text, dialect, request)
    cost.of(script, dialect)  # refuses what can't be counted, such as an array without indices
    sys.stdout.write(script)
    _hint(text, request)
    for left in placeholders(site, directives(script, dialect)):
        log.warning("note: %s", left)
    return 0


def _cost(argv: Sequence[str]) -> int:
    """``job cost``, of one job or of several, with + between them. Returns the exit code."""
    words, bound, first = list(argv), cost.Cost(), True
    while True:
        end = words.index("+") if "+" in words else len(words)
        try:
            bound += _cost_of_one(words[:end], follows=not first)
        except InputError as error:
            of_one = f"{words[1]}: " if "+" in argv and end > 1 else ""
            raise InputError(f"{of_one}{error}") from None
        if end == len(words):
            break
        words, first = [*argv[:1], *words[end + 1:]], False
    print(f"cost: {bound}")
    return 0


def _cost_of_one(words: Sequence[str], *, follows: bool) -> cost.Cost:
    arguments, dialect, _, text, request = _parse("cost", words)
    changed = for_site(chosen(request), text, dialect, request)
    script = render(text, dialect, changed)
    if arguments.check:
        inputs.check(text, dialect, changed, directives(script, dialect), follows=follows)
    return cost.of(script, dialect, environment(dialect, users_keys(text, dialect, request)))


def submit_job(argv: Sequence[str]) -> list[str]:
    """Submit as ``job submit`` does with these words of its command line.

    Returns:
        The ids of the jobs; none with ``--dry-run``.

    Raises:
        InputError: wrong input, or the scheduler refuses.
    """
    arguments, dialect, name, text, request = _parse("submit", argv)
    work_matters()
    ids = submit(arguments, dialect, name, text, request)
    _hint(text, for_site(chosen(request), text, dialect, request))
    return ids


def _parse(subcommand: str, argv: Sequence[str]) -> tuple[Namespace, Dialect, str, str, Request]:
    """The options, the scheduler, name and text of the script, and the changes that a command line
    stands for."""
    at = argv.index("--") if "--" in argv else len(argv)
    arguments = options.parser(subcommand).parse(argv[:at])
    dialect = _dialect(arguments.scheduler, subcommand, arguments.site or os.environ.get("SITE"))
    name, text = _read(arguments, dialect, subcommand)
    words = argv[at + 1:]
    if arguments.seeds is not None:
        words = _ensemble(arguments, name, text, words)
    return arguments, dialect, name, text, _request(arguments, words, dialect)


def _ensemble(arguments: Namespace, name: str, text: str, words: Sequence[str]) -> list[str]:
    """The program's arguments with ``--seeds``; also makes the job an array of its members.

    Raises:
        InputError: it is no training, or not told where the ensemble belongs.
    """
    if work(text) != "train":
        raise InputError(f"--seeds: {name} doesn't train; ensembles are for train_cpu, train_4gpu "
                         "and train_multinode")
    if arguments.array is not None:
        raise InputError(f"--array {arguments.array}: --seeds {arguments.seeds} makes an array of "
                         "its own; leave one of the two out")
    if "RUN" not in dict(arguments.var or ()):
        raise InputError(f"--seeds {arguments.seeds}: name the folder of the ensemble, which its "
                         "jobs share, like --var RUN=runs/ensemble")
    arguments.array = f"0-{arguments.seeds - 1}"
    return ["--seeds", str(arguments.seeds), *words]


def _dialect(scheduler: str | None, subcommand: str, site: str | None) -> Dialect:
    """The dialect of a scheduler; ``auto`` means the one that the site file names, else the one
    whose command is in PATH."""
    if scheduler == "auto":
        if site and (named := read(site).words.get("SCHEDULER")):
            return DIALECTS[named]
        for dialect in DIALECTS.values():
            if shutil.which(dialect.command[0]):
                return dialect
        raise InputError("neither sbatch nor qsub is in PATH: name the scheduler, slurm or pbs")
    if scheduler is None or scheduler not in DIALECTS:
        problem = f"unknown scheduler {scheduler!r}" if scheduler else "missing scheduler"
        raise InputError(f"{problem}: give slurm, pbs or auto, like\n  hpc-deepfake job "
                         f"{subcommand} slurm train_cpu --nodes 2 --time 2:00:00")
    return DIALECTS[scheduler]


def scheduler_here(scheduler: str, site: str | None = None) -> str:
    """``slurm`` or ``pbs``, where ``scheduler`` may also be ``auto``, as for ``submit_job``.

    Raises:
        InputError: no such scheduler, or none is here.
    """
    return _dialect(scheduler, "submit", site or os.environ.get("SITE")).name


def _read(arguments: Namespace, dialect: Dialect, subcommand: str) -> tuple[str, str]:
    """Name and text of the job script."""
    folder = CLONE / "jobs" / dialect.name
    if not folder.is_dir():
        raise InputError(f"no folder {folder}: job scripts are not part of an installed package; "
                         "use hpc-deepfake in a clone of the repository (git clone, env/setup.sh)")
    path: Path | None = arguments.script
    if path is None:
        names = sorted(file.stem for file in folder.glob("*.sh"))
        name = arguments.job
        if name not in names:
            close = get_close_matches(name or "", names, n=1) or names[-1:]
            raise InputError(f"{f'unknown job {name!r}' if name else 'missing job'}: give one of "
                             f"{', '.join(names)}, like\n  hpc-deepfake job {subcommand} "
                             f"{dialect.name} {''.join(close)}")
        path = folder / f"{name}.sh"
    elif arguments.job is not None:
        raise InputError(f"the job '{arguments.job}' and --script are two scripts: give only one")
    try:
        return path.stem, path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"cannot read the script {path}: {reason(error)}") from None


def _request(arguments: Namespace, program_arguments: Sequence[str], dialect: Dialect) -> Request:
    """The changes that the options stand for."""
    values: dict[str, str] = {}
    site = arguments.site
    for name, value in [*(arguments.var or ()), *([("SITE", site)] if site else ())]:
        if name in values:
            raise InputError(f"variable {name} is given twice: remove one")
        values[name] = value
    portable = Portable(**{field.name: getattr(arguments, field.name)
                           for field in fields(Portable)})
    words = [word for text in arguments.options or () for word in split(text, "--options")]
    settings = [*(arguments.set or ()), *((key, value or None) for key, value
                                          in dialect.parse(words, "--options").items())]
    return Request(portable, settings, arguments.unset or (), values, tuple(program_arguments),
                   {"HPC_DEEPFAKE_HOME": str(CLONE)}, kind=arguments.kind)


def _hint(text: str, request: Request) -> None:
    """Warn if the requested GPUs and the script's own device to compute on don't fit together,
    unless the user or the site file has chosen the device."""
    gpus = request.portable.gpus_per_node
    device = variables(text).get("DEVICE")
    if request.variables.get("DEVICE") or request.defaults.get("DEVICE"):
        return
    if gpus is not None and device == ("cpu" if gpus else "gpu"):
        fitting = "gpu" if gpus else "cpu"
        log.warning("note: DEVICE stays %s; to compute on %ss add --var DEVICE=%s", device,
                    fitting.upper(), fitting)
