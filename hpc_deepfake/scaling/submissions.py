"""The jobs that a study still needs, as jobs/*/scaling_study.sh submits them."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from hpc_deepfake.core.errors import InputError, reason
from hpc_deepfake.core.log import log
from hpc_deepfake.core.text import plural
from hpc_deepfake.jobs import DIALECTS, Cost, cost_of, ranks_per_node, sited, sized
from hpc_deepfake.scaling import study as studies
from hpc_deepfake.scaling.study import Plan, Run


@dataclass(frozen=True)
class Jobs:
    """What all jobs of a study have in common.

    Attributes:
        scripts: folder of the job scripts, named after its scheduler.
        data: data file of trainings on real input, or empty.
        config: TOML file with options of the program, or empty.
        config_of_preprocessing: whether ``config`` holds options of preprocessing, not of training.
        device: value of the scripts' variable DEVICE.
        doctor: value of DOCTOR.
        pictures: folder of pictures for preprocessing, or empty.
        train_options: the user's options of sbatch or qsub for training jobs and micro-benchmarks.
        preprocess_options: the same for preprocessing jobs.
    """

    scripts: Path
    data: str = ""
    config: str = ""
    config_of_preprocessing: bool = False
    device: str = "cpu"
    doctor: str = "on"
    pictures: str = ""
    train_options: str = ""
    preprocess_options: str = ""

    def text(self, job: str) -> str:
        """The job script of this name, with the sizes of the site ``$SITE``.

        Raises:
            InputError: it, or the site file, can't be read.
        """
        try:
            text = (self.scripts / f"{job}.sh").read_text(encoding="utf-8")
            return sited(text, DIALECTS[self.scripts.name])
        except FileNotFoundError:
            raise InputError(f"no job {job} in {self.scripts}") from None
        except (OSError, UnicodeDecodeError) as error:
            raise InputError(f"cannot read the job script {job} in {self.scripts}: "
                             f"{reason(error)}") from None

    def ranks_per_node(self, job: str) -> int:
        """Ranks that the job script starts on each node.

        Raises:
            InputError: the script is missing, or doesn't say.
        """
        ranks = ranks_per_node(DIALECTS[self.scripts.name], self.text(job))
        if not ranks:
            raise InputError(f"{self.scripts / job}.sh doesn't say how many ranks a node has: give "
                             "--ranks-per-node N (RANKS_PER_NODE)")
        return ranks


def lines(study: Path, plan: Plan, jobs: Jobs) -> Iterator[str]:
    """A line of shell words for each run that isn't done: its name; the id of the job that it was
    submitted as before, or an empty word; then what ``submit`` of jobs/lib/job.sh takes: job
    script, options of the scheduler, variables as NAME=VALUE, ``--`` and arguments.

    Raises:
        InputError: a job script is missing, or a word has a line break.
    """
    pending = [run for run in plan.runs if studies.state(study, run)[0] != studies.DONE]
    if len(pending) < len(plan.runs):
        log.info("%s already done", plural(len(plan.runs) - len(pending), "run"))
    for run in pending:
        words = [run.name, _previous_job(study, run), run.job, _options(run, plan.limit, jobs),
                 *(f"{name}={value}" for name, value in _variables(study, run, jobs).items()), "--",
                 *run.arguments]
        for word in words:
            if "\n" in word:
                raise InputError(f"a job script can't be given {word!r}: a line break in it")
        yield shlex.join(words)


def cost(study: Path, plan: Plan, jobs: Jobs) -> Cost:
    """What the runs that aren't done may cost at most, and the job for the report.

    Raises:
        InputError: a job script is missing, or the user's options have mistakes.
    """
    dialect = DIALECTS[jobs.scripts.name]
    bounds = [cost_of(jobs.text(run.job), dialect,
                      options=shlex.split(_options(run, plan.limit, jobs)))
              for run in plan.runs if studies.state(study, run)[0] != studies.DONE]
    return sum(bounds, cost_of(jobs.text("scaling_study"), dialect))


def _previous_job(study: Path, run: Run) -> str:
    """The job's id, as job.sh left it when it submitted the run."""
    try:
        return (study / "jobs" / f"{run.name}.id").read_text(encoding="utf-8").strip()
    except OSError:
        return ""


def _options(run: Run, limit: int, jobs: Jobs) -> str:
    """Options of sbatch or qsub, the user's own first."""
    own = jobs.preprocess_options if run.kind == "preprocess" else jobs.train_options
    size = sized(DIALECTS[jobs.scripts.name], jobs.text(run.job), run.nodes, run.ranks_per_node,
                 limit)
    return " ".join([*own.split(), *size])


def _variables(study: Path, run: Run, jobs: Jobs) -> dict[str, str]:
    """Values of the job script's variables."""
    folder = study / run.name
    values = {"DATA": "" if "--synthetic" in run.arguments else jobs.data, "CONFIG": jobs.config,
              "DEVICE": jobs.device, "DOCTOR": jobs.doctor, "RUN": str(folder)}
    if run.kind == "preprocess":
        values |= {"DATA": str(folder / "features.h5"), "PICTURES": jobs.pictures,
                   "CONFIG": jobs.config if jobs.config_of_preprocessing else ""}
    elif run.kind == "microbench":
        values["HPC_DEEPFAKE_REPORT"] = "microbench"
    return values
