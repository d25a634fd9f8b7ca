"""``hpc-deepfake job``: prints or submits job scripts of ``jobs/`` with changes, and reports what
jobs used."""

from __future__ import annotations

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
from hpc_deepfake.jobs import accounting, options
from hpc_deepfake.jobs.script import DIALECTS, render
from hpc_deepfake.jobs.script.dialect import Dialect
from hpc_deepfake.jobs.script.request import Portable, Request
from hpc_deepfake.jobs.script.template import split
from hpc_deepfake.jobs.script.text import variables
from hpc_deepfake.jobs.site import chosen, for_site
from hpc_deepfake.jobs.submission import submit

CLONE = Path(__file__).resolve().parents[2]


def main(argv: Sequence[str]) -> int:
    """The command. Returns the exit code."""
    subcommand, *rest = argv or [""]
    if subcommand == "report":
        return accounting.main(rest)
    if subcommand in ("render", "submit"):
        return _script(subcommand, rest)
    cli = options.overview()
    cli.parse(argv)
    cli.error("put the subcommand before its options")


def _script(subcommand: str, argv: list[str]) -> int:
    """``render`` or ``submit``. Returns the exit code."""
    at = argv.index("--") if "--" in argv else len(argv)
    arguments = options.parser(subcommand).parse(argv[:at])
    dialect = _dialect(arguments.scheduler, subcommand)
    name, text = _read(arguments, dialect, subcommand)
    request = _request(arguments, argv[at + 1:], dialect)
    if subcommand == "render":
        sys.stdout.write(render(text, dialect, for_site(chosen(request), text, dialect, request)))
    else:
        work_matters()
        submit(arguments, dialect, name, text, request)
    _hint(text, request)
    return 0


def _dialect(scheduler: str | None, subcommand: str) -> Dialect:
    """The dialect of a scheduler; ``auto`` means the one whose command is in PATH."""
    if scheduler == "auto":
        for dialect in DIALECTS.values():
            if shutil.which(dialect.command[0]):
                return dialect
        raise InputError("neither sbatch nor qsub is in PATH: name the scheduler, slurm or pbs")
    if scheduler is None or scheduler not in DIALECTS:
        problem = f"unknown scheduler {scheduler!r}" if scheduler else "missing scheduler"
        raise InputError(f"{problem}: give slurm, pbs or auto, like\n  hpc-deepfake job "
                         f"{subcommand} slurm train_cpu --nodes 2 --time 2:00:00")
    return DIALECTS[scheduler]


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
    options = dialect.parse(words, "--options")
    settings = [*(arguments.set or ()), *((key, value or None) for key, value in options.items())]
    return Request(portable, settings, arguments.unset or (), values, tuple(program_arguments),
                   {"HPC_DEEPFAKE_HOME": str(CLONE)})


def _hint(text: str, request: Request) -> None:
    """Warn if the requested GPUs and the device to compute on don't fit together."""
    gpus = request.portable.gpus_per_node
    device = request.variables.get("DEVICE") or variables(text).get("DEVICE")
    if gpus is not None and device == ("cpu" if gpus else "gpu"):
        fitting = "gpu" if gpus else "cpu"
        log.warning("note: DEVICE stays %s; to compute on %ss add --var DEVICE=%s", device,
                    fitting.upper(), fitting)
