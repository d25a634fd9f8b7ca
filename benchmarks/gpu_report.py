"""The report of gpu.sh.

    python benchmarks/gpu_report.py facts FILE     what this node and its environment are
    python benchmarks/gpu_report.py report FOLDER  writes FOLDER/report.md and FOLDER/report.json
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import statistics
import subprocess
from collections.abc import Iterable, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

from common import PACKAGES

from hpc_deepfake.core.files import write_json, write_text

_RAISED = re.compile(r"[\w.]*(Error|Exception|Interrupt)\b.*:")  # the last line of a traceback
_VARIABLES = ("CUDA_VISIBLE_DEVICES", "NVIDIA_TF32_OVERRIDE", "OMP_NUM_THREADS", "SITE")


# --- facts ----------------------------------------------------------------------------------------

def facts() -> dict[str, Any]:
    """Machine, versions, GPUs, and what Horovod was built with."""
    versions = {"python": platform.python_version()}
    for package in ("tensorflow", "nvidia-nccl-cu12", *PACKAGES):
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    from hpc_deepfake.network.device import cpu_name
    from hpc_deepfake.network.gpus import cards, visible

    return {"machine": {"host": platform.node(), "platform": platform.platform(),
                        "processor": cpu_name(), "cores": len(os.sched_getaffinity(0))},
            "versions": versions, "gpus": [vars(card) for card in cards()],
            "seen": [vars(gpu) for gpu in visible()], "topology": _output("nvidia-smi", "topo",
                                                                        "-m"),
            "variables": {name: value for name, value in sorted(os.environ.items())
                          if name in _VARIABLES or name.startswith(("NCCL_", "HOROVOD_"))},
            **_built()}


def _output(*command: str) -> str | None:
    """What a program prints; None if it can't be run."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout if done.returncode == 0 else None


def _built() -> dict[str, Any]:
    """What TensorFlow and Horovod were built with, or why they can't be loaded."""
    try:
        import horovod.tensorflow as hvd
        import tensorflow as tf
    except Exception as error:  # such as an undefined symbol
        return {"broken": f"{type(error).__name__}: {error}"}
    return {"nccl_built": int(hvd.nccl_built()), "mpi_built": bool(hvd.mpi_built()),
            "cuda": tf.sysconfig.get_build_info().get("cuda_version"),
            "tensorflow_sees": [device.name for device in tf.config.list_physical_devices("GPU")]}


# --- the report -----------------------------------------------------------------------------------

def report(folder: Path) -> str:
    """Write the report of a folder; returns the text of it."""
    parts = read_parts(folder)
    found = {path.stem: json.loads(path.read_text(encoding="utf-8"))
             for path in sorted(folder.glob("*.json")) if path.stem != "report"}
    same = repeated(folder / "work")
    lines = ["# What this node's GPUs do", ""]
    if any(one.get("device") == "cpu" for name, one in found.items() if name.startswith("step-")):
        lines += ["**Tried on CPUs (`DEVICE=cpu`): this shows that the script works, and no figure "
                  "says anything about GPUs.**", ""]
    lines += _short(found, parts, same)
    lines += _machine(found.get("facts", {})) + _parts(parts, folder)
    lines += _doctor(found.get("doctor", {})) + _equal(found) + _steps(found)
    lines += _speeds(found) + _reduce(found.get("reduce", {})) + _programs(folder, parts, same)
    text = "\n".join(lines).rstrip() + "\n"
    write_text(folder / "report.md", text)
    write_json(folder / "report.json", {"parts": parts, "repeated": same, **found})
    return text


def read_parts(folder: Path) -> list[dict[str, Any]]:
    """How each part of gpu.sh ended."""
    file = folder / "parts.tsv"
    rows = [line.split("\t") for line in file.read_text(encoding="utf-8").splitlines()] \
        if file.exists() else []
    return [{"name": name, "code": None if code == "-" else int(code), "seconds": int(seconds),
             "limit": int(limit)} for name, code, seconds, limit in rows]


def _short(found: dict[str, Any], parts: list[dict[str, Any]], same: bool | None) -> list[str]:
    """An answer to each question, before all figures; a part that didn't run has none."""
    rows: list[list[str]] = []

    def answer(question: str, good: bool, text: str) -> None:
        rows.append([question, f"{'yes' if good else '**no**'}{text}"])

    if bad := [part["name"] for part in parts if part["code"] != 0]:
        answer("Did all parts run?", False, f": {', '.join(bad)}, see [Parts](#parts)")
    elif parts:
        answer("Did all parts run?", True, "")
    if facts := found.get("facts"):
        answer("Is the build one for GPUs?", bool(facts.get("nccl_built") and facts.get(
            "tensorflow_sees")), f": NCCL {facts.get('nccl_built') or 'is not in Horovod'}, "
            f"TensorFlow sees {len(facts.get('tensorflow_sees', []))} GPUs")
    if doctor := found.get("doctor"):
        verdicts = [record["verdict"] for record in doctor.get("records", [])]
        answer("Is the doctor content?", not {"warn", "FAIL"} & {*verdicts},
               f": {verdicts.count('FAIL')} FAIL, {verdicts.count('warn')} warn")
    for name, one in found.items():
        if name.startswith("equal-"):
            answer(f"Does `{one['strategy']}` on {one['ranks']} ranks equal one?", one["equal"], "")
    for name, one in found.items():
        if name.startswith("step-"):
            rows += [[f"{ratio}, batch {one['batch']}", f"{value:.2f}"]
                     for ratio, value in one["ratios"].items() if " over ours" not in ratio]
    for strategy, ranks, _, _, _, _, share in _speed_rows(found):
        if ranks > 1 and share != "–":
            rows.append([f"`{strategy}` on {ranks} ranks, of {ranks} single ones", share])
    if same is not None:
        answer("Does the same training give the same bits?", same, "")
    return ["## In short", "", *table(["question", "answer"], rows)] if rows else []


def table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> list[str]:
    """A table of Markdown, and an empty line."""
    body = [[str(cell).replace("|", "\\|") for cell in row] for row in rows]
    return [f"| {' | '.join(row)} |" for row in (head, ["---"] * len(head), *body)] + [""]


def _machine(facts: dict[str, Any]) -> list[str]:
    rows = [[name, value] for name, value in facts.get("machine", {}).items()]
    rows += [[f"GPU {card['index']}", f"{card['name']}, {card['memory']:,} MiB, driver "
              f"{card['driver']}, {card['bus']}"] for card in facts.get("gpus", [])]
    rows += [[name, facts[name]] for name in ("cuda", "nccl_built", "mpi_built", "tensorflow_sees",
                                              "broken") if name in facts]
    rows += [["versions", ", ".join(f"{name} {version}" for name, version in
                                    facts.get("versions", {}).items())]] if facts else []
    rows += [[name, value] for name, value in facts.get("variables", {}).items()]
    lines = table(["machine", ""], rows) if rows else []
    if facts.get("topology"):
        lines += ["```", facts["topology"].rstrip(), "```", ""]
    return lines


def _parts(parts: list[dict[str, Any]], folder: Path) -> list[str]:
    def ended(part: dict[str, Any]) -> str:
        if part["code"] == 0:
            return "done"
        if part["code"] is None:
            return last_line(folder / (part["name"] + ".log"))
        why = f"took longer than {part['limit']} s" if part["code"] in (124, 137) else \
            f"failed ({part['code']})"
        return f"**{why}**: {last_line(folder / (part['name'] + '.log'))}"

    return ["## Parts", "", *table(["part", "seconds", "ended"], (
        [part["name"], part["seconds"], ended(part)] for part in parts))] if parts else []


def last_line(log: Path) -> str:
    """What a log says of the reason: the program's own error, else the last exception, else the
    last line; of what mpirun says between lines of dashes, nothing."""
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines() if log.exists() else []
    said, banner = [], False
    for line in lines:
        if line.startswith("-----"):
            banner = not banner
        elif line.strip(" -") and not banner:
            said.append(line.strip())
    errors = [number for number, line in enumerate(said) if line.startswith(("error", "doctor:"))]
    if errors:  # whose second line is what to type
        number = errors[-1]
        return " ".join(said[number:number + 1 + said[number].endswith(":")])[:300]
    raised = [line for line in said if _RAISED.match(line)]
    return (raised[-1:] or said[-1:] or ["no output"])[0][:300]


def _doctor(doctor: dict[str, Any]) -> list[str]:
    urgent = [record for record in doctor.get("records", []) if record["verdict"] in
              ("warn", "FAIL")]
    if not doctor:
        return []
    return ["## Doctor", "", *(table(["", "check", "finding"], (
        [record["verdict"], record["what"], record["value"]] for record in urgent))
        if urgent else ["No warnings.", ""])]


def _equal(found: dict[str, Any]) -> list[str]:
    runs = {name: one for name, one in found.items() if name.startswith("equal-")}
    return ["## Equal to one GPU", "", "Float32: relative errors of the first gradients, of the "
            "dense layers (at most 1e-5) and of the worst tensor (at most 5e-4), and of the losses "
            "of 20 steps of Adam (at most 1e-3).", "",
            *table(["strategy", "ranks", "dense", "worst", "losses", ""], (
                [one["strategy"], one["ranks"], f"{one['dense']:.1e}", f"{one['worst']:.1e}",
                 f"{one['losses']:.1e}", "equal" if one["equal"] else f"**{one['why']}**"]
                for one in runs.values()))] if runs else []


def _steps(found: dict[str, Any]) -> list[str]:
    lines = []
    for name, one in found.items():
        if name.startswith("step-"):
            rows = [[case, f"{statistics.median(rates):,.0f}", f"{min(rates):,.0f}",
                     f"{max(rates):,.0f}"] for case, rates in one["images/s"].items()]
            rows += [[case, f"left out: {why}", "", ""] for case, why in one["missing"].items()]
            where = "CPU" if one.get("device") == "cpu" else "GPU"
            lines += [f"## One step on one {where}, batch {one['batch']}", "",
                      *table(["", "images/s", "lowest", "highest"], rows)]
            if one["ratios"]:
                lines += table(["ratio, median of the rounds", ""], (
                    [ratio, f"{value:.2f}"] for ratio, value in one["ratios"].items()))
    return lines


def _speeds(found: dict[str, Any]) -> list[str]:
    rows = _speed_rows(found)
    return ["## Several ranks, one for each GPU", "", *table(
        ["strategy", "ranks", "precision", "deterministic", "batch per rank", "images/s",
         "of as many single ones"], rows)] if rows else []


def _speed_rows(found: dict[str, Any]) -> list[tuple[Any, ...]]:
    """A row of that table for each run; its share is that of a run on one rank that differs in
    nothing else."""
    runs = [one for name, one in found.items() if name.startswith("speed-")]

    def kind(one: dict[str, Any]) -> tuple[Any, ...]:
        return one["precision"], one["deterministic"], one["batch"]

    alone = {kind(one): one["images/s"] for one in runs if one["ranks"] == 1}
    return [(one["strategy"], one["ranks"], one["precision"],
             "yes" if one["deterministic"] else "no", one["batch"], f"{one['images/s']:,.0f}",
             f"{one['images/s'] / one['ranks'] / alone[kind(one)]:.2f}"
             if kind(one) in alone else "–")
            for one in sorted(runs, key=lambda one: (one["precision"], one["ranks"]))]


def _reduce(reduce: dict[str, Any]) -> list[str]:
    return [f"## Allreduce by {reduce['by']}, {reduce['ranks']} ranks", "", *table(
        ["bytes", "ms", "GB/s of a ring"], (
            [f"{int(size):,}", f"{row['ms']:.3f}", f"{row['GB/s']:.2f}"]
            for size, row in reduce["sizes"].items()))] if reduce else []


def repeated(work: Path) -> bool | None:
    """Whether the same training twice gave the same predictions, bit for bit; None: unknown."""
    files = [work / run / "predictions.csv" for run in ("train", "again")]
    if not all(file.exists() for file in files):
        return None
    return files[0].read_bytes() == files[1].read_bytes()


def _programs(folder: Path, parts: list[dict[str, Any]], same: bool | None) -> list[str]:
    ran = {part["name"] for part in parts if part["code"] == 0} & {
        "sample", "preprocess", "train", "again", "predict", "predict-ranks"}
    lines = ["## Programs", ""] if ran & {"train", "predict", "predict-ranks"} else []
    for name in ("train", "predict", "predict-ranks"):
        if name in ran:
            log = (folder / f"{name}.log").read_text(encoding="utf-8", errors="replace")
            said = [line for line in log.splitlines() if "images/s" in line or "pictures/s" in line]
            lines += [f"- {name}: {said[-1].strip()}" if said else f"- {name}: done"]
    if same is not None:
        lines += [f"- the same training twice: {'the same bits' if same else '**other bits**'}"]
    return [*lines, ""]


def main() -> None:
    cli = argparse.ArgumentParser(description=__doc__,
                                  formatter_class=argparse.RawDescriptionHelpFormatter)
    cli.add_argument("what", choices=("facts", "report"))
    cli.add_argument("path", type=Path, metavar="PATH")
    options = cli.parse_args()
    if options.what == "facts":
        write_json(options.path, facts())
    else:
        print(report(options.path), flush=True)


if __name__ == "__main__":
    main()
