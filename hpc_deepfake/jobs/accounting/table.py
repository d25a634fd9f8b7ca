"""The report as text, 100 columns wide."""

from __future__ import annotations

import math
from typing import Any

from hpc_deepfake.core.text import percent
from hpc_deepfake.jobs.accounting.usage import Report, Usage
from hpc_deepfake.jobs.accounting.values import ratio

_OUTCOMES = {"0": "finished", "2": "options or input rejected",
             "3": "the training diverged", "75": "stopped, can be resumed",
             "137": "killed, often because memory ran out"}
_ROW = "{:<21.21} {:<13.13} {:>5.5} {:>8} {:>8} {:>5} {:>7} {:>8} {:>7} {:>9}".format


def text(report: Report) -> str:
    """The whole report."""
    lines = []
    if report.jobs:
        sources = " and ".join(dict.fromkeys(job.source for job in report.jobs))
        lines += [f"{report.subject}, from {sources}:",
                  _ROW("job, step", "state", "exit", "waited", "elapsed", "CPUs", "CPU eff",
                       "memory", "mem eff", "GPU hours")]
        for job in report.jobs:
            lines += _job_lines(job)
        if len(report.jobs) > 1:
            lines.append(_usage_line(f"{report.total.id} {report.total.name}", report.total))
        lines += _energy_lines(report)
    for why in dict.fromkeys(report.unknown.values()):
        jobs = [job for job, reason in report.unknown.items() if reason == why]
        lines.append(f"job{'s' * (len(jobs) > 1)} {', '.join(jobs)}: {why}")
    for measured in report.measured:
        lines += [*([""] if lines else []), *_measured_lines(measured)]
    if report.outcome:
        meaning = _OUTCOMES.get(report.outcome, "failed")
        lines.append(f"outcome of the last job: {report.outcome} ({meaning})")
    return "\n".join(lines)


def _job_lines(job: Usage) -> list[str]:
    lines = [_usage_line(f"{job.id} {job.name}", job)]
    lines += [_usage_line(f"  {step.id} {step.name if step.name != step.id else ''}", step)
              for step in job.steps]
    if job.held and job.held >= 10:
        lines.append(f"  {_hms(job.held)} of the waiting time before it was eligible to start "
                     "(dependency, begin time, requeue)")
    return lines + [f"  {note}" for note in job.notes]


def _usage_line(title: str, usage: Usage) -> str:
    return _ROW(title, usage.state, usage.exit, _hms(usage.waited), _hms(usage.elapsed),
                usage.cpus if usage.cpus is not None else "", _percent(usage.cpu_efficiency),
                _bytes(usage.memory), _percent(usage.memory_efficiency),
                f"{usage.gpu_hours:.2f}" if usage.gpu_hours else "").rstrip()


def _energy_lines(report: Report) -> list[str]:
    """Energy and use of GPUs of jobs and steps, in the columns in which there is any."""
    rows = [(f"{indent}{usage.id} {usage.name if usage.name != usage.id else ''}".rstrip(), usage)
            for job in report.jobs
            for indent, usage in (("", job), *(("  ", step) for step in job.steps))]
    if len(report.jobs) > 1:
        rows.append((f"{report.total.id} {report.total.name}", report.total))
    titles = ("energy", "mean power", "GPU use", "busiest", "GPU memory")
    table = [(name, _energy(usage.energy), _power(ratio(usage.energy, usage.elapsed)),
              _percent(usage.gpu_use), _percent(usage.gpu_use_max), _bytes(usage.gpu_memory))
             for name, usage in rows]
    shown = [column for column in range(1, len(titles) + 1) if any(row[column] for row in table)]
    lines = [("energy and GPUs", *titles), *(row for row in table if any(row[1:]))]
    return [f"{line[0]:<21.21}" + "".join(f" {line[column]:>10}" for column in shown)
            for line in lines] if shown else []


def _energy(joules: float | None) -> str:
    if joules is None:
        return ""
    return f"{joules / 3.6e6:,.2f} kWh" if joules >= 3.6e5 else f"{joules / 3600:,.2f} Wh"


def _power(watts: float | None) -> str:
    if watts is None:
        return ""
    return f"{watts / 1000:,.2f} kW" if watts >= 1000 else f"{watts:,.0f} W"


def _measured_lines(figures: dict[str, Any]) -> list[str]:
    """A line for each figure, with the file that it comes from."""
    row = "  {:<15} {:>9}  {:<48} {}".format
    files, lines = figures["files"], [f"measured by the run itself, {figures['folder']}:"]
    hosts = ", ".join(figures["hosts"]) or "?"
    devices = "".join(f", {device}" for device in figures.get("devices", []))
    lines.append(row("ranks", figures["ranks"] or "–", f"on {hosts}{devices}", files["ranks"]))
    if figures["wall_s"] is not None:
        lines.append(row("wall clock", _hms(figures["wall_s"]), "since the last start",
                         files["wall"]))
    if figures.get("cpu_s") is not None:
        share = _percent(figures["cpu_efficiency"])
        lines += [row("CPU time", _hms(figures["cpu_s"]),
                      f"{share} of {figures['threads']} threads over the wall clock",
                      files["wall"]),
                  row("memory", _bytes(figures["memory_bytes"]),
                      "largest resident sets of all ranks, summed", files["wall"])]
    if figures.get("gpu_hours"):
        lines.append(row("GPU hours", f"{figures['gpu_hours']:.2f}", "of the GPUs that it used",
                         files["ranks"]))
    if figures.get("gpu_memory_bytes"):
        lines.append(row("GPU memory", _bytes(figures["gpu_memory_bytes"]),
                         "most that TensorFlow held, of any rank", files["wall"]))
    if figures["images_per_s"] is not None:
        count = f"median of {figures['epochs']} epochs" if "epochs" in figures else ""
        lines.append(row("images/s", f"{figures['images_per_s']:,.0f}", count, files["epochs"]))
    all_stages = sum(figures["seconds"].values())
    lines += [row(f"  {stage}", f"{seconds:,.1f} s", _percent(ratio(seconds, all_stages)),
                  files["epochs"]) for stage, seconds in figures["seconds"].items()]
    return lines


def _hms(seconds: float | None) -> str:
    if seconds is None or not math.isfinite(seconds):
        return ""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours >= 24:  # days-hours:minutes, as SLURM writes it, fits the column
        return f"{hours // 24}-{hours % 24:02}:{minutes:02}"
    return f"{hours}:{minutes:02}:{rest:02}"


def _percent(value: float | None) -> str:
    return "" if value is None else percent(value)


def _bytes(value: float | None) -> str:
    if value is None:
        return ""
    return f"{value / 2**30:,.1f} GB" if value >= 2**30 else f"{value / 2**20:,.0f} MB"
