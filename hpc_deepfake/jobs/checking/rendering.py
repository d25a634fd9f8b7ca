"""All jobs of ``jobs/`` as a site gets them, and what bash and shellcheck say of the scripts."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from hpc_deepfake.core.errors import InputError
from hpc_deepfake.jobs.script import render, requested
from hpc_deepfake.jobs.script.dialect import Dialect
from hpc_deepfake.jobs.script.request import Portable, Request
from hpc_deepfake.jobs.script.text import directives, variables, work
from hpc_deepfake.jobs.site import CLONE, Site, for_site, kind_of

_STARTS_NO_RANKS = ("pipeline", "scaling_study")


@dataclass(frozen=True)
class Job:
    """A job script for a site.

    Attributes:
        name: of the script.
        text: of the script.
        kind: cpu, gpu or small.
        asked: what it requests.
        account: the account or project that it names, if any.
        device: on which it computes.
        starts_ranks: whether it starts ranks itself, not only other jobs.
    """

    name: str
    text: str
    kind: str
    asked: Portable
    account: str
    device: str
    starts_ranks: bool


def jobs(site: Site, dialect: Dialect) -> tuple[list[Job], dict[str, str]]:
    """All jobs of a scheduler for a site, and why some can't be rendered, by their names."""
    rendered, refused = [], {}
    folder = CLONE / "jobs" / dialect.name
    for path in sorted(folder.glob("*.sh")):
        text = path.read_text(encoding="utf-8")
        request = Request(inserted={"HPC_DEEPFAKE_HOME": str(CLONE)})
        try:
            request = for_site(site, text, dialect, request)
            new, asked = render(text, dialect, request), requested(text, dialect, request)
        except InputError as error:
            refused[path.stem] = str(error)
            continue
        now = directives(new, dialect)
        account = now.get(dialect.keys["account"]) or now.get("P") or now.get("W:group_list") or ""
        rendered.append(Job(path.stem, new, kind_of(text, asked.gpus_per_node), asked, account,
                            variables(new).get("DEVICE", "cpu"),
                            work(text) not in _STARTS_NO_RANKS))
    if not rendered and not refused:
        raise InputError(f"no job scripts in {folder}: use hpc-deepfake in a clone of the "
                         "repository (git clone, env/setup.sh)")
    return rendered, refused


def complaints(scripts: Mapping[str, str]) -> Iterator[str]:
    """What ``bash -n`` and, where it is installed, shellcheck say of scripts."""
    with tempfile.TemporaryDirectory() as folder:
        files = {name: Path(folder) / f"{name}.sh" for name in scripts}
        for name, file in files.items():
            file.write_text(scripts[name], encoding="utf-8")
            yield from _says(["bash", "-n", str(file)], folder)
        if files and shutil.which("shellcheck"):
            # Without jobs/lib, which uses the variables: reading it for each script takes minutes.
            yield from _says(["shellcheck", "--exclude=SC1091,SC2034", "--format=gcc",
                              *map(str, files.values())], folder)


def _says(command: list[str], folder: str) -> Iterator[str]:
    done = subprocess.run(command, capture_output=True, encoding="utf-8", errors="backslashreplace",
                          stdin=subprocess.DEVNULL)
    if done.returncode:
        lines = (done.stdout + done.stderr).strip().splitlines()
        yield from (line.replace(f"{folder}/", "") for line in lines)
