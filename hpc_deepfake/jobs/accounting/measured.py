"""A run's own files: its jobs, how the last one ended, and what the run measured itself."""

from __future__ import annotations

import glob
from itertools import chain
from pathlib import Path
from typing import Any

from hpc_deepfake.core import json_data
from hpc_deepfake.core.json_data import dictionary, finite, items
from hpc_deepfake.jobs.accounting.values import ratio


def job_ids(run: Path) -> list[str]:
    """Ids of the jobs whose records a run directory or data file has, the oldest first."""
    files = [file for folder in _record_folders(run) for file in folder.glob("*.env")]
    files += run.glob("*/jobs/*.env")  # of a comparison or a scaling study
    ids = (file.stem for file in sorted(files, key=lambda file: file.stat().st_mtime))
    return list(dict.fromkeys(job for job in ids if job[:1].isdigit()))


def outcome(run: Path) -> str:
    """Exit code of the run's last job; empty if none has ended."""
    for folder in _record_folders(run):
        if (folder / "outcome").is_file():
            return (folder / "outcome").read_text(encoding="utf-8", errors="replace").strip()
    return ""


def run_of(job: str) -> Path | None:
    """The run directory below runs/ that holds the records of a job."""
    name = glob.escape(job)
    for pattern in (f"jobs/{name}.env", f"jobs/{name}.*.env"):
        for depth in ("*", "*/*"):
            for file in Path("runs").glob(f"{depth}/{pattern}"):
                return file.parent.parent
    return Path("runs", job) if Path("runs", job).is_dir() else None


def _record_folders(run: Path) -> tuple[Path, ...]:
    """Where job records may be: in a run directory, beside a data file, or in ``run`` itself."""
    return run / "jobs", Path(f"{run}.jobs"), run


def find(run: Path) -> list[dict[str, Any]]:
    """What the run, or each run in this folder, measured; of a data file, its preprocessing."""
    if run.is_file() or run.name.endswith(".jobs"):
        figures = _preprocessing(Path(f"{str(run).removesuffix('.jobs')}.json"))
        return [figures] if figures else []
    folders = [run, *sorted(folder for folder in run.iterdir() if folder.is_dir())]
    return [figures for folder in folders if (figures := _training(folder))]


def _training(run: Path) -> dict[str, Any] | None:
    """Figures of a training: ranks and threads, seconds of each stage over all epochs, and, once it
    has finished, what its ranks used since their last start."""
    environment, summary = (_json(run / name) for name in ("environment.json", "summary.json"))
    epochs = _lines(run / "metrics.jsonl")
    if not environment and not summary and not epochs:
        return None
    ranks, usage = _rows(environment, "ranks"), _rows(summary, "usage")
    threads = [_whole(rank.get("threads")) or 1 for rank in ranks] or [1] * len(usage)
    wall = max(_numbers(usage, "wall_s"), default=finite(summary.get("seconds")))
    cpu = sum(_numbers(usage, "cpu_s")) if usage else None
    allocated = sum((finite(rank.get("wall_s")) or 0.0) * count
                    for rank, count in zip(usage, threads))
    stages = _stages([dictionary(epoch.get("seconds")) for epoch in epochs])
    rates = sorted(_numbers(epochs, "images_per_s"))
    gpus = len({(str(rank.get("host")), str(rank["device"])) for rank in ranks  # may be shared
                if str(rank.get("device")).startswith("GPU")})
    return {"folder": str(run), "started": environment.get("started"),
            "ranks": len(ranks) or _whole(summary.get("ranks")), "threads": sum(threads),
            "hosts": sorted({str(rank["host"]) for rank in ranks if "host" in rank}),
            "devices": sorted({f"{str(rank.get('device')).partition(':')[0]} ({rank.get('name')})"
                               for rank in ranks}),
            "wall_s": wall, "cpu_s": cpu, "cpu_efficiency": ratio(cpu, allocated),
            "memory_bytes": sum(_numbers(usage, "max_rss_mb")) * 2**20 if usage else None,
            "gpu_memory_bytes": max((mb * 2**20 for mb in _numbers(usage, "max_gpu_mb")),
                                    default=None),
            "gpu_hours": gpus * wall / 3600 if wall else None, "epochs": len(epochs),
            "images_per_s": rates[len(rates) // 2] if rates else None, "seconds": stages,
            "files": {"ranks": "environment.json", "wall": "summary.json",
                      "epochs": "metrics.jsonl"}}


def _preprocessing(file: Path) -> dict[str, Any] | None:
    """Figures of preprocessing, from the JSON file beside the data file: seconds of each stage, as
    the mean over the ranks."""
    facts = _json(file)
    seconds = dictionary(facts.get("seconds"))
    if not seconds:
        return None
    wall, by_rank = finite(seconds.get("wall")), _rows(seconds, "by_rank")
    return {"folder": str(file), "ranks": _whole(facts.get("ranks")),
            "hosts": [str(host) for host in items(facts.get("hosts"))]
                     or [str(facts[name]) for name in ("host",) if name in facts], "wall_s": wall,
            "images_per_s": ratio(finite(facts.get("images")), wall),
            "seconds": {stage: total / len(by_rank) for stage, total in _stages(by_rank).items()},
            "files": dict.fromkeys(("ranks", "wall", "epochs"), file.name)}


def _json(path: Path) -> dict[str, Any]:
    """The file's JSON object; empty if it is missing, cut off or another value."""
    try:
        return dictionary(json_data.read(path))
    except (OSError, ValueError):
        return {}


def _lines(path: Path) -> list[dict[str, Any]]:
    """The file's JSON objects, one per line; empty if it is missing."""
    try:
        return json_data.read_lines(path)
    except OSError:
        return []


def _rows(record: dict[str, Any], name: str) -> list[dict[str, Any]]:
    """The dictionaries of a list, one for each rank."""
    return [dictionary(row) for row in items(record.get(name))]


def _whole(value: object) -> int | None:
    number = finite(value)
    return None if number is None else round(number)


def _numbers(rows: list[dict[str, Any]], name: str) -> list[float]:
    """The values of that name that are numbers."""
    values = (finite(row.get(name)) for row in rows)
    return [value for value in values if value is not None]


def _stages(rows: list[dict[str, Any]]) -> dict[str, float]:
    """Seconds by stage, added up over rows."""
    return {stage: sum(_numbers(rows, stage)) for stage in dict.fromkeys(chain(*rows))}
