"""A run's own files: its jobs, how the last one ended, and what the run measured itself."""

from __future__ import annotations

import glob
import json
from pathlib import Path
from typing import Any

from hpc_deepfake.core.json_data import dictionary
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
    ranks, usage = environment.get("ranks", []), summary.get("usage", [])
    threads = [rank.get("threads") or 1 for rank in ranks] or [1] * len(usage)
    wall = max((rank["wall_s"] for rank in usage), default=summary.get("seconds"))
    cpu = sum(rank["cpu_s"] for rank in usage) if usage else None
    allocated = sum(rank["wall_s"] * count for rank, count in zip(usage, threads))
    stages: dict[str, float] = {}
    for epoch in epochs:
        for stage, seconds in epoch.get("seconds", {}).items():
            stages[stage] = stages.get(stage, 0) + seconds
    rates = sorted(epoch["images_per_s"] for epoch in epochs if "images_per_s" in epoch)
    gpus = len({(rank.get("host"), rank["device"]) for rank in ranks  # ranks may share one
                if str(rank.get("device")).startswith("GPU")})
    return {"folder": str(run), "started": environment.get("started"),
            "ranks": len(ranks) or summary.get("ranks"), "threads": sum(threads),
            "hosts": sorted({rank["host"] for rank in ranks if "host" in rank}),
            "devices": sorted({f"{str(rank.get('device')).partition(':')[0]} ({rank.get('name')})"
                               for rank in ranks}),
            "wall_s": wall, "cpu_s": cpu, "cpu_efficiency": ratio(cpu, allocated),
            "memory_bytes": sum(rank["max_rss_mb"] for rank in usage) * 2**20 if usage else None,
            "gpu_hours": gpus * wall / 3600 if wall else None, "epochs": len(epochs),
            "images_per_s": rates[len(rates) // 2] if rates else None, "seconds": stages,
            "files": {"ranks": "environment.json", "wall": "summary.json",
                      "epochs": "metrics.jsonl"}}


def _preprocessing(file: Path) -> dict[str, Any] | None:
    """Figures of preprocessing, from the JSON file beside the data file: seconds of each stage, as
    the mean over the ranks."""
    facts = _json(file)
    if "seconds" not in facts:
        return None
    wall, by_rank = facts["seconds"]["wall"], facts["seconds"].get("by_rank", [])
    stages = {stage: sum(rank[stage] for rank in by_rank) / len(by_rank)
              for stage in (by_rank[0] if by_rank else ())}
    return {"folder": str(file), "ranks": facts.get("ranks"),
            "hosts": [facts["host"]] if "host" in facts else [], "wall_s": wall,
            "images_per_s": facts["images"] / wall if wall else None, "seconds": stages,
            "files": dict.fromkeys(("ranks", "wall", "epochs"), file.name)}


def _json(path: Path) -> dict[str, Any]:
    """The file's JSON object; empty if it is missing, cut off or another value."""
    try:
        return dictionary(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError):
        return {}


def _lines(path: Path) -> list[dict[str, Any]]:
    """The file's JSON objects, one per line; lines that are cut off are left out."""
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return []
    records = []
    for line in text.split("\n"):
        try:
            records.append(json.loads(line))
        except ValueError:  # the empty text at the end, or half a line of a killed run
            continue
    return records
