"""``hpc-deepfake job``: render, submit and account for the job scripts in ``jobs/``."""

from __future__ import annotations

import shutil
import sys
from argparse import Namespace
from collections.abc import Sequence
from dataclasses import fields
from difflib import get_close_matches
from pathlib import Path

from hpc_deepfake.core.errors import InputError
from hpc_deepfake.jobs import accounting, options
from hpc_deepfake.jobs.script import DIALECTS, render
from hpc_deepfake.jobs.script.dialect import Dialect
from hpc_deepfake.jobs.script.request import Portable, Request
from hpc_deepfake.jobs.script.text import variables
from hpc_deepfake.jobs.submission import submit

CLONE = Path(__file__).resolve().parents[2]


def main(argv: Sequence[str]) -> int:
    """Returns the exit code."""
    word, *words = argv or [""]
    if word == "report":
        return accounting.main(words)
    if word in ("render", "submit"):
        return _script(word, words)
    cli = options.overview()
    cli.parse(argv)
    cli.error("the word comes first, then its options")


def _script(word: str, argv: list[str]) -> int:
    """Render, and submit if that is the word."""
    at = argv.index("--") if "--" in argv else len(argv)
    given = options.parser(word).parse(argv[:at])
    dialect = _dialect(given.scheduler, word)
    name, text = _read(given, dialect, word)
    request = _request(given, argv[at + 1:])
    if word == "render":
        sys.stdout.write(render(text, dialect, request))
    else:
        submit(given, dialect, name, text, request)
    _hint(text, request)
    return 0


def _dialect(word: str | None, action: str) -> Dialect:
    if word == "auto":
        found = (dialect for dialect in DIALECTS.values() if shutil.which(dialect.command[0]))
        dialect = next(found, None)
        if dialect is None:
            raise InputError("neither sbatch nor qsub is in PATH here: name the scheduler, slurm "
                             "or pbs")
        return dialect
    if word not in DIALECTS:
        raise InputError(f"{f'no scheduler {word!r}' if word else 'the scheduler is missing'}: "
                         f"slurm, pbs or auto, like\n  hpc-deepfake job {action} slurm train_cpu "
                         "--nodes 2 --time 2:00:00")
    return DIALECTS[word]


def _read(given: Namespace, dialect: Dialect, action: str) -> tuple[str, str]:
    """Name and text of the script to be edited."""
    folder = CLONE / "jobs" / dialect.name
    if not folder.is_dir():
        raise InputError(f"no {folder}: the job scripts are no part of an installed package; use "
                         "the hpc-deepfake of a clone (git clone, env/setup.sh)")
    path = given.script
    if path is None:
        known = sorted(file.stem for file in folder.glob("*.sh"))
        name = given.job
        if name not in known:
            close = get_close_matches(name or "", known, n=1) or known[-1:]
            raise InputError(f"{f'no job {name!r}' if name else 'the job is missing'}; there are "
                             f"{', '.join(known)}; like\n  hpc-deepfake job {action} "
                             f"{dialect.name} {''.join(close)}")
        path = folder / f"{name}.sh"
    elif given.job is not None:
        raise InputError(f"'{given.job}' and --script are two scripts: leave one out")
    try:
        return path.stem, path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"cannot read the script {path}: {error}") from None


def _request(given: Namespace, arguments: Sequence[str]) -> Request:
    values: dict[str, str] = {}
    sites = sorted(file.stem for file in (CLONE / "env" / "sites").glob("*.sh"))
    if given.site is not None and given.site not in sites:
        raise InputError(f"--site {given.site}: no such file in {CLONE / 'env' / 'sites'}; there "
                         f"are {', '.join(sites)}")
    for name, value in [*(given.var or ()), *([("SITE", given.site)] if given.site else ())]:
        if name in values:
            raise InputError(f"variable {name} is given twice: leave one out")
        values[name] = value
    portable = Portable(**{one.name: getattr(given, one.name) for one in fields(Portable)})
    return Request(portable, given.set or (), given.unset or (), values, tuple(arguments),
                   {"HPC_DEEPFAKE_HOME": str(CLONE)})


def _hint(text: str, request: Request) -> None:
    """Say it where the GPUs asked for and the device to compute on don't fit together."""
    gpus = request.portable.gpus_per_node
    device = request.variables.get("DEVICE") or variables(text).get("DEVICE")
    if gpus is not None and device == ("cpu" if gpus else "gpu"):
        fitting = "gpu" if gpus else "cpu"
        print(f"note: DEVICE stays {device}; to compute on {fitting.upper()}s add "
              f"--var DEVICE={fitting}", file=sys.stderr)
