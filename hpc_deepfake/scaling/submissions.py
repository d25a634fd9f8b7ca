"""The jobs that a study still needs, as jobs/*/scaling_study.sh submits them."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from hpc_deepfake.core.errors import InputError, reason
from hpc_deepfake.core.log import log
from hpc_deepfake.core.text import plural
from hpc_deepfake.jobs import DIALECTS, Cost, cost_of, ranks_per_node, sited, sized
from hpc_deepfake.scaling import study as studies
from hpc_deepfake.scaling.study import Plan, Run

ONE = "all"  # name of the one job that runs a whole study


@dataclass(frozen=True)
class Jobs:
    """What all jobs of a study have in common.

    Attributes:
        scripts: folder of the job scripts, named after its scheduler.
        data: data file of trainings on real input, or empty.
        config: TOML file with options of the program, or empty.
        config_of_preprocessing: whether ``config`` holds options of preprocessing, not of training.
        device: value of the trainings' variable DEVICE; empty: that of their script.
        doctor: value of DOCTOR.
        pictures: folder of pictures for preprocessing, or empty.
        train_options: the user's options of sbatch or qsub for training jobs and micro-benchmarks.
        preprocess_options: the same for preprocessing jobs.
        larger: further ones for training jobs, by the number of nodes from which on they hold.
        one: name of the job script of the one job that runs all of them; empty: each has its own.
    """

    scripts: Path
    data: str = ""
    config: str = ""
    config_of_preprocessing: bool = False
    device: str = ""
    doctor: str = "on"
    pictures: str = ""
    train_options: str = ""
    preprocess_options: str = ""
    larger: Mapping[int, str] = field(default_factory=dict)
    one: str = ""

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

    def larger_options(self, nodes: int) -> str:
        """The further options of a training job with this many nodes."""
        return self.larger[max(own)] if (own := [
            number for number in self.larger if number <= nodes]) else ""

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
    submitted as before, or an empty word; then what ``submit`` of jobs/lib/submit.sh takes: job
    script, options of the scheduler, variables as NAME=VALUE, ``--`` and arguments.

    Raises:
        InputError: a job script is missing, or a word has a line break.
    """
    pending = [run for run in plan.runs if studies.state(study, run)[0] != studies.DONE]
    if len(pending) < len(plan.runs):
        log.info("%s already done", plural(len(plan.runs) - len(pending), "run"))
    if jobs.one:
        if pending:
            yield _one_line(study, plan, jobs)
        return
    for run in pending:
        words = [run.name, _previous_job(study, run.name), run.job,
                 _options(run, plan.limit, jobs),
                 *(f"{name}={value}" for name, value in _variables(study, run, jobs).items()), "--",
                 *run.arguments]
        yield _line(words)


def steps(study: Path, plan: Plan) -> Iterator[str]:
    """A line of shell words for each run that isn't done, for the job that runs all of them: name,
    nodes, ranks, kind and arguments of the program. The smallest come first.

    Raises:
        InputError: a word has a line break.
    """
    for run in sorted(plan.runs, key=lambda run: (run.ranks, run.repeat)):
        if studies.state(study, run)[0] != studies.DONE:
            yield _line([run.name, str(run.nodes), str(run.ranks), run.kind, *run.arguments])


def cost(study: Path, plan: Plan, jobs: Jobs) -> Cost:
    """What the runs that aren't done may cost at most, and the job for the report; or the one job
    that runs all and writes the report.

    Raises:
        InputError: a job script is missing, or the user's options have mistakes.
    """
    dialect = DIALECTS[jobs.scripts.name]
    pending = [run for run in plan.runs if studies.state(study, run)[0] != studies.DONE]
    if jobs.one and pending:
        return cost_of(jobs.text(jobs.one), dialect, options=shlex.split(_one_options(plan, jobs)))
    bounds = [cost_of(jobs.text(run.job), dialect,
                      options=shlex.split(_options(run, plan.limit, jobs))) for run in pending]
    return sum(bounds, cost_of(jobs.text("scaling_study"), dialect))


def _one_line(study: Path, plan: Plan, jobs: Jobs) -> str:
    """As of ``lines``, for the one job; it has as many nodes as the largest run needs."""
    values = {"RUN": str(study), "job_study": str(study), "DATA": jobs.data,
              "CONFIG": jobs.config, "DOCTOR": jobs.doctor, "PICTURES": jobs.pictures,
              **_device(jobs.device)}
    return _line([ONE, _previous_job(study, ONE), jobs.one, _one_options(plan, jobs),
                  *(f"{name}={value}" for name, value in values.items())])


def _line(words: Sequence[str]) -> str:
    for word in words:
        if "\n" in word:
            raise InputError(f"a job script can't be given {word!r}: a line break in it")
    return shlex.join(words)


def _previous_job(study: Path, name: str) -> str:
    """The job's id, as job.sh left it when it submitted the run."""
    try:
        return (study / "jobs" / f"{name}.id").read_text(encoding="utf-8").strip()
    except OSError:
        return ""


def _options(run: Run, limit: int, jobs: Jobs) -> str:
    """Options of sbatch or qsub, the user's own first."""
    if run.kind == "preprocess":
        return _sized(jobs.preprocess_options, run.job, run.nodes, run.ranks_per_node, limit, jobs)
    own = f"{jobs.train_options} {jobs.larger_options(run.nodes)}"
    return _sized(own, run.job, run.nodes, run.ranks_per_node, limit, jobs)


def _one_options(plan: Plan, jobs: Jobs) -> str:
    """The same for the one job."""
    own = f"{jobs.train_options} {jobs.larger_options(plan.nodes)}"
    return _sized(own, jobs.one, plan.nodes, plan.ranks_per_node, plan.limit, jobs)


def _sized(own: str, job: str, nodes: int, ranks_per_node: int, limit: int, jobs: Jobs) -> str:
    size = sized(DIALECTS[jobs.scripts.name], jobs.text(job), nodes, ranks_per_node, limit)
    return " ".join([*own.split(), *size])


def _variables(study: Path, run: Run, jobs: Jobs) -> dict[str, str]:
    """Values of the job script's variables."""
    folder = study / run.name
    values = {"DATA": "" if "--synthetic" in run.arguments else jobs.data, "CONFIG": jobs.config,
              **_device(jobs.device if run.kind in ("strong", "weak") else "cpu"),
              "DOCTOR": jobs.doctor, "RUN": str(folder)}
    if run.kind == "preprocess":
        values |= {"DATA": str(folder / "features.h5"), "PICTURES": jobs.pictures,
                   "CONFIG": jobs.config if jobs.config_of_preprocessing else ""}
    elif run.kind == "microbench":
        values["HPC_DEEPFAKE_REPORT"] = "microbench"
    return values


def _device(device: str) -> dict[str, str]:
    return {"DEVICE": device} if device else {}
