"""What a run measured itself, from the files that it left."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from hpc_deepfake.jobs.accounting.values import ratio


def find(run: Path) -> list[dict[str, Any]]:
    """What the run, or each run in this folder, measured; or the making of a data file."""
    if run.is_file() or run.name.endswith(".jobs"):
        made = _preprocessing(Path(f"{str(run).removesuffix('.jobs')}.json"))
        return [made] if made else []
    folders = [run, *sorted(folder for folder in run.iterdir() if folder.is_dir())]
    return [found for folder in folders if (found := _training(folder))]


def _training(run: Path) -> dict[str, Any] | None:
    """Of a training: ranks and threads, seconds by stage of all epochs, and, once it has finished,
    what its ranks used since their last start."""
    environment, summary = (_json(run / name) for name in ("environment.json", "summary.json"))
    epochs = _lines(run / "metrics.jsonl")
    if not environment and not summary and not epochs:
        return None
    ranks, usage = environment.get("ranks", []), summary.get("usage", [])
    threads = [rank.get("threads") or 1 for rank in ranks] or [1] * len(usage)
    wall = max((one["wall_s"] for one in usage), default=summary.get("seconds"))
    cpu = sum(one["cpu_s"] for one in usage) if usage else None
    allocated = sum(one["wall_s"] * count for one, count in zip(usage, threads))
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
            "memory_bytes": sum(one["max_rss_mb"] for one in usage) * 2**20 if usage else None,
            "gpu_hours": gpus * wall / 3600 if wall else None, "epochs": len(epochs),
            "images_per_s": rates[len(rates) // 2] if rates else None, "seconds": stages,
            "files": {"ranks": "environment.json", "wall": "summary.json",
                      "epochs": "metrics.jsonl"}}


def _preprocessing(file: Path) -> dict[str, Any] | None:
    """Of the making of a data file, from the table beside it: seconds by stage of a mean rank."""
    made = _json(file)
    if "seconds" not in made:
        return None
    wall, by_rank = made["seconds"]["wall"], made["seconds"].get("by_rank", [])
    stages = {stage: sum(rank[stage] for rank in by_rank) / len(by_rank)
              for stage in (by_rank[0] if by_rank else ())}
    return {"folder": str(file), "ranks": made.get("ranks"),
            "hosts": [made["host"]] if "host" in made else [], "wall_s": wall,
            "images_per_s": made["images"] / wall if wall else None, "seconds": stages,
            "files": dict.fromkeys(("ranks", "wall", "epochs"), file.name)}


def _json(path: Path) -> dict[str, Any]:
    """The file's table; empty where there is none, or half of one."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _lines(path: Path) -> list[dict[str, Any]]:
    """The file's tables, one a line."""
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return []
    found = []
    for line in text.split("\n"):
        try:
            found.append(json.loads(line))
        except ValueError:  # the end, or half a line of a killed run
            continue
    return found
