"""Damaged inputs for everything that parses: the documented errors, in time and within memory.

A small selection of inputs that is the same each time; ``HYPOTHESIS_PROFILE=long`` takes many new
ones, and ``benchmarks/fuzz.py`` 200,000 with a table. What they found is in ``FINDINGS``.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import file_targets
import pytest
import record_targets
import text_targets
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from mutations import Drawn
from speed import slowness
from targets import Hang, Target, all_targets

pytestmark = pytest.mark.slow

TARGETS = all_targets()
LONG = os.environ.get("HYPOTHESIS_PROFILE") == "long"
settings.register_profile("short", max_examples=20, derandomize=True, database=None, deadline=None,
                          phases=[Phase.generate, Phase.shrink],
                          suppress_health_check=list(HealthCheck))
settings.register_profile("long", parent=settings.get_profile("short"), max_examples=2000,
                          derandomize=False, print_blob=True)


def changed(name: str, **values: Any) -> dict[str, bytes | None]:
    """The files of a run, one of them with other values."""
    files: dict[str, bytes | None] = {each: record_targets.content(each)
                                      for each in record_targets.RUN}
    record = record_targets.RUN[name]
    record = record[0] if isinstance(record, list) else record
    files[name] = json.dumps({**record, **values}).encode()
    return files


DEEP = b"[" * 50_000
DIGITS = "9" * 5000  # more than Python converts to a number
RUN = {name: record_targets.content(name) for name in record_targets.RUN}
SACCT, QSTAT, TOML = text_targets.SACCT, text_targets.QSTAT, text_targets.TOML[0]
FINDINGS = [
    ("names and lists of paths", b"a.mp4#frame=1of0"),
    ("names and lists of paths", b"a.mp4#frame=%bof3" % DIGITS.encode()),
    ("numbers on the command line", (3, f"{DIGITS}G")),
    ("numbers on the command line", (6, f"data={DIGITS}")),
    ("numbers on the command line", (6, "data=²")),
    ("TOML files of options", ("train", b"epochs = " + DEEP)),
    ("TOML files of options", ("train", f"epochs = {DIGITS}".encode())),
    ("sacct", SACCT.replace("|17|", f"|{DIGITS}|")),
    ("sacct", SACCT.replace("1795645818", "9" * 400)),
    ("qstat", QSTAT.replace("ncpus = 64", f"ncpus = {DIGITS}")),
    ("timelines", "[" * 50_000),
    ("timelines", '[{"pid": 1}, {"pid": 1, "ph": "B"}, {"pid": "x", "ph": "E", "ts": 0}]'),
    ("timelines", '[{"pid": 1, "ph": "M", "name": "process_name", "args": null}]'),
    ("nvidia-smi, lfs, NCCL", text_targets.NVIDIA_SMI.replace("0,", f"{DIGITS},", 1)),
    ("nvidia-smi, lfs, NCCL", text_targets.NVIDIA_SMI.replace("81920", "²")),
    ("nvidia-smi, lfs, NCCL", text_targets.STRIPES.replace("1048576", DIGITS)),
    ("nvidia-smi, lfs, NCCL", text_targets.STRIPES.replace("-1 ", DIGITS)),
    ("job scripts and options", ("slurm", text_targets.SCRIPTS["slurm"][0].replace(
        "set -euo", f"#SBATCH --nodes={DIGITS}\nset -euo", 1), ())),
    ("job scripts and options", ("pbs", text_targets.SCRIPTS["pbs"][0].replace(
        "set -euo", f"#PBS -l select={DIGITS}:ncpus=1\nset -euo", 1), ())),
    ("job scripts and options", ("pbs", text_targets.SCRIPTS["pbs"][0],
                                 ("--unset", "{0.__class__}{"))),
    ("a model's card", {**RUN, "model.json": DEEP}),
    ("a model's card", changed("model.json", threshold=float("nan"))),
    ("a model's card", changed("model.json", parameters={"quality": "90", "size": 10**9})),
    ("a run in the summary", changed("summary.json", images_per_s=None)),
    ("a run in the summary", changed("summary.json", validation=[])),
    ("a run in the summary", {**RUN, "features.h5.json": b"{}"}),
    ("a run in the summary", {**RUN, "features.h5.json": b"\xff"}),
    ("a run in job report", changed("environment.json", ranks=[None])),
    ("a run in job report", changed("summary.json", usage=[{"cpu_s": "x"}])),
    ("a run in job report", changed("metrics.jsonl", seconds={"input": None})),
    ("a run in job report", changed("features.h5.json", seconds={"by_rank": [{"read": "x"}]})),
    ("a run being resumed", {"metrics.jsonl": DEEP}),
    ("a scaling study", (DEEP, {})),
    ("a scaling study", (json.dumps({"runs": [{**vars(record_targets.PLAN.runs[0]), "ranks": 0}],
                                     "ranks_per_node": 1, "limit": 1, "skipped": []}).encode(),
                         {})),
    ("a scaling study", (None, changed("config.json", servers=float("inf"), strategy="async"))),
    ("a scaling study", (None, changed("config.json", batch_size=0))),
    ("a scaling study", (None, changed("config.json", shard_group=[]))),
    ("a scaling study", (None, changed("metrics.jsonl", images_per_s=10**400))),
    ("a scaling study", (None, changed("metrics.jsonl", wall_images_per_s=1e300))),
    ("micro-benchmarks", json.dumps({**record_targets.MICROBENCH, "ranks": 0}).encode()),
    ("micro-benchmarks", json.dumps({**record_targets.MICROBENCH, "ranks": 10**308}).encode()),
    ("layout of data files", (file_targets.ATTRIBUTES, [("more", "external bytes")])),
    ("layout of data files", ({**file_targets.ATTRIBUTES, "features": [None, "raw"]}, [])),
    ("layout of data files", ({**file_targets.ATTRIBUTES, "ela": {"newer": 1}}, [])),
    ("meta data of checkpoints", json.dumps({**file_targets.META, "settings": None}).encode()),
    ("meta data of checkpoints", b"[]"),
]


@pytest.fixture(scope="module")
def scratch(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder for all inputs."""
    before = os.getcwd()
    folder = tmp_path_factory.mktemp("scratch")
    os.chdir(folder)
    yield folder
    os.chdir(before)


@pytest.mark.parametrize("name", [name for name, target in TARGETS.items()
                                  if LONG or name != "model files"])  # TensorFlow takes seconds
def test_damaged_inputs(name, scratch):
    """Are errors that the documentation names, or are read."""
    target = TARGETS[name]
    folder = scratch / name.replace(" ", "-")
    folder.mkdir()

    @settings(settings.get_profile("long" if LONG else "short"))
    @given(st.composite(lambda draw: target.inputs(Drawn(draw)))())
    def check(value: Any) -> None:
        target.check(value, folder, slowness())

    check()


@pytest.mark.parametrize(("name", "value"), FINDINGS,
                         ids=[f"{number}-{name}" for number, (name, _) in enumerate(FINDINGS)])
def test_what_was_found(name, value, tmp_path):
    TARGETS[name].check(value, tmp_path, slowness())


@pytest.mark.parametrize(("parse", "error"), [
    (lambda value, folder: {}["x"], KeyError),
    (lambda value, folder: iter(int, 1).__next__() or [0 for _ in iter(int, 1)], Hang),
    (lambda value, folder: bytearray(1 << 30), MemoryError)])
def test_a_mistake_is_noticed(parse, error, tmp_path):
    """A traceback, a loop without end, and memory beyond the bound."""
    with pytest.raises(error):
        Target("mistaken", None, parse, seconds=0.2).check(0, tmp_path)
