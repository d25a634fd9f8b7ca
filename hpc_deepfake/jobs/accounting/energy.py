"""Energy and use of GPUs in SLURM's accounting, where a site has set them up.

Energy needs a plugin that measures it (``AcctGatherEnergyType``), the use of GPUs one that asks the
GPUs' driver (``AutoDetect``) and ``AccountingStorageTRES=gres/gpuutil,gres/gpumem``. Without them
sacct prints 0, or nothing.
"""

from __future__ import annotations

from hpc_deepfake.core.text import whole_number
from hpc_deepfake.jobs.accounting.usage import Usage
from hpc_deepfake.jobs.accounting.values import answer, read_size

FIELDS = ("JobID", "ConsumedEnergyRaw", "AllocTRES", "TRESUsageInAve", "TRESUsageInMax")
_MOST = 1 << 53  # joules; SLURM's unknown value is near 2⁶⁴


def add(job: str, runs: list[Usage]) -> None:
    """Add energy and use of GPUs to the runs of a job, and their steps, as far as sacct has them;
    the same call of it gave ``runs``."""
    text, _ = answer("sacct", "-j", job, "--duplicates", "--parsable2", "--noheader", "--units=K",
                     f"--format={','.join(FIELDS)}")
    parse(text, runs)


def parse(text: str, runs: list[Usage]) -> None:
    """Add what ``sacct --parsable2`` printed for ``FIELDS``; lines of a requeued job come in the
    order of its runs."""
    places = [place for run in runs for place in (
        (run.id, run), *((f"{run.id}.{step.id}", step) for step in run.steps))]
    for line in text.split("\n"):
        values = line.split("|")
        if len(values) != len(FIELDS):
            continue
        row = dict(zip(FIELDS, values))
        at = next((at for at, (name, _) in enumerate(places) if name == row["JobID"]), None)
        if at is not None:
            _fill(places.pop(at)[1], row)
    for run in runs:
        _summarise(run)


def _fill(usage: Usage, row: dict[str, str]) -> None:
    allocated, average, most = (_tres(row[name]) for name in FIELDS[2:])
    usage.energy = _joules(row["ConsumedEnergyRaw"]) or _joules(allocated.get("energy", ""))
    usage.gpu_use, usage.gpu_use_max = (_share(tres.get("gres/gpuutil", ""))
                                        for tres in (average, most))
    usage.gpu_memory = read_size(most.get("gres/gpumem", ""))


def _summarise(run: Usage) -> None:
    """Figures of a job that sacct gives for its steps only. The step ``extern`` spans all of the
    job; other steps follow one another; the batch script's is that of the first node."""
    energies = {step.id: step.energy for step in run.steps if step.energy}
    if run.energy is None:
        numbered = sum(energy for name, energy in energies.items() if name.isdigit())
        run.energy = energies.get("extern") or numbered or energies.get("batch")
    busiest = max(run.steps, key=lambda step: step.gpu_use or 0, default=None)
    if run.gpu_use is None and busiest is not None:
        run.gpu_use, run.gpu_use_max = busiest.gpu_use, busiest.gpu_use_max
    memory = [step.gpu_memory for step in run.steps if step.gpu_memory is not None]
    run.gpu_memory = run.gpu_memory or max(memory, default=None)


def _tres(text: str) -> dict[str, str]:
    return dict(item.split("=", 1) for item in text.split(",") if "=" in item)


def _joules(text: str) -> float | None:
    value = whole_number(text)
    return float(value) if value and value < _MOST else None


def _share(text: str) -> float | None:
    """A percentage as a fraction."""
    value = whole_number(text.removesuffix("%"))
    return value / 100 if value and value < _MOST else None
