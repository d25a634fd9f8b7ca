"""Names, numbers, options, job scripts, and what schedulers and other programs print."""

from __future__ import annotations

import io
import json
import os
import shutil
from collections.abc import Callable, Sequence
from functools import cache, partial
from importlib import import_module
from pathlib import Path
from urllib.parse import unquote_to_bytes

from conftest import ROOT
from mutations import Choices, damaged_bytes, damaged_text
from targets import Target

from hpc_deepfake.compare import command as compare_command
from hpc_deepfake.core.errors import InputError
from hpc_deepfake.core.files import write_json
from hpc_deepfake.core.options import Parser, at_least, between
from hpc_deepfake.data import augment
from hpc_deepfake.doctor import fabric, nccl, quota, storage
from hpc_deepfake.jobs import cost
from hpc_deepfake.jobs import options as job_options
from hpc_deepfake.jobs.accounting import energy, table
from hpc_deepfake.jobs.accounting.pbs import parse_qstat
from hpc_deepfake.jobs.accounting.slurm import parse_sacct
from hpc_deepfake.jobs.accounting.usage import Report, Usage
from hpc_deepfake.jobs.command import _request
from hpc_deepfake.jobs.script import DIALECTS, ranks_per_node, render, sized
from hpc_deepfake.jobs.script.request import Portable, Request
from hpc_deepfake.jobs.script.text import directives
from hpc_deepfake.jobs.script.values import read_memory, read_time
from hpc_deepfake.jobs.site import WORDS, Site, for_site
from hpc_deepfake.network import gpus
from hpc_deepfake.predict import inputs
from hpc_deepfake.strategies.mesh import cut, shape
from hpc_deepfake.train.timeline import horovod_events, summary
from hpc_deepfake.train.timeline import text as timeline_text
from preprocessing import names, perturb
from preprocessing.__main__ import allowed_rejects
from preprocessing.catalogue import scan, scan_manifest
from preprocessing.listing.ids import of_video
from preprocessing.split import parse_fractions

SACCT = """\
11|COMPLETED|0:0|1795645818|1795645818|1795645819|17|8|2||00:21.243||4194304K|billing=8,cpu=8,\
gres/gpu=4,mem=4194304K,node=2|steps
11.0|COMPLETED|0:0|1795645819|1795645819|1795645819|12|8|2|4|00:21.130|66788K||cpu=8,gres/gpu:a100\
=4,mem=4194304K,node=2|burn
16|CANCELLED by 1001|0:0|1795645818|Unknown|1795645818|0|1|1||1-00:00:00||409600Mc||held
34|PENDING|0:0|1795646507|Unknown|Unknown|0|1|1||00:00:00||409600K||wait
"""
ENERGY = """\
11||billing=8,energy=5040000,gres/gpu=4,node=2||
11.0|5000000|cpu=8|gres/gpumem=40370176K,gres/gpuutil=87|gres/gpumem=40894464K,gres/gpuutil=98
"""
QSTAT = """\
Job Id: 4711.pbs
    Job_Name = train-4gpu
    resources_used.cput = 26:40:00
    resources_used.mem = 50331648kb
    resources_used.walltime = 01:00:00
    job_state = F
    ctime = Wed Nov 25 08:00:00 2026
    exec_vnode = (gpu01:ncpus=32:ngpus=4:mem=100663296kb)+(gpu02:ncpus=32:ngpu
\ts=4:mem=100663296kb)
    Resource_List.mem = 192gb
    Resource_List.ncpus = 64
    Resource_List.ngpus = 8
    Resource_List.nodect = 2
    stime = Wed Nov 25 08:30:00 2026
    etime = Wed Nov 25 08:20:00 2026
    run_count = 1
    Exit_status = 0

Job Id: 9[].pbs
    array = True
    job_state = Q
    qtime = 1795645818
"""
HOROVOD = """[
{"name": "process_name", "ph": "M", "pid": 0, "args": {"start_time_since_epoch_in_micros":5000000}},
{"name": "process_name", "ph": "M", "pid": 1, "args": {"name": "dense_kernel"}},
{"ph": "B", "name": "NEGOTIATE_ALLREDUCE", "ts": 1000100, "pid": 1},
{"ph": "X", "name": "1", "ts": 1000150, "pid": 1, "dur": 0},{"ph": "E", "ts": 1000200, "pid": 1},
{"ph": "B", "name": "ALLREDUCE", "ts": 1000300, "pid": 1},{"ph": "E", "ts": 1000600, "pid": 1,
 "args": {"dtype": "float32"}},
"""
QUOTAS = """\
/scratch 1000* 0 3000 6d 45000 0 50000 -
/fred [1041408] 5242880 6291456 - [0] 0 0 -
"""
NCCL = """\
n01:71:90 [0] NCCL INFO NET/IB : Using [0]mlx5_0:1/IB [1]mlx5_1:1/IB [RO]; OOB ib0:10.1.1.1<0>
n01:71:90 [0] NCCL INFO NET/OFI Selected Provider is cxi (found 2 nics)
n01:71:90 [0] NCCL INFO Using network AWS Libfabric
"""
NVIDIA_SMI = "0, GPU-7c, 00000000:01:00.0, NVIDIA A100-SXM4-80GB, 580.65.06, 81920, 4\n"
STRIPES = "lmm_stripe_count:  4\nstripe_count:  -1 stripe_size:   1048576 stripe_offset: -1\n"
NAMES = [b"Au/Au_ani_00001.jpg", b"Tp/Tp_D_CRN_S_N_cha00063_art00014_11818.tif",
         b"Sp_D_NNN_A_ani0099_ani0100.0288.jpg", b"fake/000_003.mp4", b"a/clip.mp4#frame=3of10",
         b"clip.webm#frame=12.500s", b"b#frame=1of2.avi#frame=2of2"]
FRAMES = [b"#frame=", b"of", b"0", b"s", b".", b"9" * 30, b"9" * 5000, b"/", b"_", b".mp4"]
SCRIPTS = {name: [path.read_text() for path in sorted((ROOT / "jobs" / name).glob("*.sh"))]
           for name in DIALECTS}
DIRECTIVES = ["\n#SBATCH --nodes=2", "\n#PBS -l select=2:ncpus=4:mpiprocs=2", "\n#PBS -l walltime=",
              "\n#SBATCH --time=1-2", "set -euo pipefail", "${", ":-", "}", "=", "$(date)"]
PARSERS = {  # programs whose options a TOML file may hold
    **{name: import_module(f"{module}").parser for name, module in {
        "preprocess": "preprocessing.__main__", "sample": "preprocessing.make_sample",
        "train": "hpc_deepfake.train.options", "evaluate": "hpc_deepfake.evaluate",
        "predict": "hpc_deepfake.predict", "compare": "hpc_deepfake.compare",
        "crosseval": "hpc_deepfake.crosseval",
        "plan": "hpc_deepfake.scaling.planning", "doctor": "hpc_deepfake.doctor"}.items()},
    "render": lambda: job_options.parser("render"), "submit": lambda: job_options.parser("submit")}
TOML = [path.read_text() for path in sorted((ROOT / "configs").glob("*.toml"))] + [
    'out = "a.h5"\nfeatures = ["ela", "raw"]\nquality = 90\nsplit = "70/10/20"\n',
    'nodes = 2\nmem = "64G"\nset = ["exclusive", "hint=nomultithread"]\nvar = ["DATA=a.h5"]\n']
TOML_WORDS = ["[", "]", "{", "}", "[a]\n", "[[a]]\n", "'''", '"""', "= true\n", "= []\n", "= {}\n",
              "= 1979-05-27T07:32:00Z\n", "= 0x1F\n", "= inf\n", "= -nan\n", "a.b = 1\n",
              "[" * 5000,               "epochs = ", "data = ", "features = "]


LISTS = {
    "list.csv": ["path,label,mask,group,part\na/1.jpg,real,m/1.png,x,train\na/2.jpg,1,,x,test\n",
                 "path;label\n\"a/1.jpg\";0\n./a/2.jpg;FAKE\n"],
    "list.jsonl": ['{"path": "a/1.jpg", "label": 0, "group": 3}\n\n{"path": "a/2.jpg", '
                   '"label": true}\n'],
    "metadata.json": ['{"1.mp4": {"label": "REAL", "original": null}, "2.mp4": {"label": "FAKE", '
                      '"original": "1.mp4"}}'],
    "reference/splice/x-ref.csv": ["ProbeFileName|ProbeMaskFileName|BaseFileName|IsTarget\n"
                                   "a/1.jpg|||N\na/2.jpg|m/1.png|a/1.jpg|Y\n"],
    "List_of_testing_videos.txt": ["1 real/1.mp4\n0 fake/2.mp4\n"],
    "train.json": ['[["000", "003"], ["004", "871"]]']}
LIST_TOKENS = [",", '"', "\n", "|", ";", "\0", "\ud800", "../", "path", "label", "real", "[" * 5000,
               "1e999", "\ufeff", "/", "part,", "'"]


def list_of_files(choose: Choices) -> tuple[str, str]:
    """Name and damaged text of a list that says something about pictures."""
    name = choose.one_of(sorted(LISTS))
    return name, damaged_text(choose, LISTS[name], LIST_TOKENS)


def read_list_of_files(value: tuple[str, str], folder: Path) -> None:
    name, text = value
    top = folder / "listed"
    shutil.rmtree(top, ignore_errors=True)
    for path in (name, "a/1.jpg", "a/2.jpg", "m/1.png", "1.mp4", "2.mp4", "real/1.mp4",
                 "fake/2.mp4", "original/000.mp4", "deepfakes/000_003.mp4"):
        if path == name or path[0] in "am" or name in ("List_of_testing_videos.txt", "train.json",
                                                       "metadata.json"):
            (top / path).parent.mkdir(parents=True, exist_ok=True)
            (top / path).touch()
    (top / name).write_text(text, encoding="utf-8", errors="surrogatepass", newline="")
    listed = scan_manifest(top / name) if name.startswith("list.") else scan(top)
    assert len(listed) == len(listed.groups) == len(listed.labels)
    assert listed.parts is None or len(listed.parts) == len(listed)
    assert all((top / os.fsdecode(names.parse_path(path)[0])).is_file() for path in listed.paths)


def parse_names(path: bytes, folder: Path) -> None:
    file, moment = names.parse_path(path)
    stem = os.fsdecode(file)
    names.parse(stem), names.like_casia(stem), of_video(stem)
    if moment is not None:
        assert names.parse_path(names.frame_path(file, moment)) == (file, moment)
        if isinstance(moment, names.Nth):
            assert 1 <= moment.number <= moment.parts
    names.parse_path(unquote_to_bytes(path))
    inputs.listed(io.BytesIO(path))


def account(parse: Callable[[str], list[Usage]]) -> Callable[[str, Path], None]:
    """A reader of a scheduler's answer, and the report made of it."""
    def read(text: str, folder: Path) -> None:
        text = text.encode("utf-8", "replace").decode()
        report = Report("17", parse(text))
        energy.parse(text, report.jobs)
        table.text(report)
        write_json(folder / "report.json", report.as_dict())
        json.loads((folder / "report.json").read_text())

    return read


def read_timeline(text: str, folder: Path) -> None:
    events = horovod_events(text.encode("utf-8", "replace").decode(), 6.0)
    timeline_text(summary(events))
    write_json(folder / "trace.json", events)


def read_script(case: tuple[str, str, tuple[str, ...]], folder: Path) -> None:
    name, text, words = case
    dialect = DIALECTS[name]
    for read in (lambda: ranks_per_node(dialect, text), lambda: sized(dialect, text, 4, 2, 3600),
                 lambda: str(cost.of(text, dialect))):
        try:
            read()
        except InputError:
            continue
    render(text, dialect, Request(Portable(nodes=3, ranks_per_node=4, time=90_000)))
    options = job_options.parser("render").parse([name, "train_cpu", *words])
    render(text, dialect, _request(options, words, dialect))


JOB_OPTIONS = ["--nodes", "2", "--gpus-per-node", "4", "--mem", "64G", "--time", "2:00:00",
               "--name", "x", "--array", "1-4", "--set", "exclusive", "--unset", "requeue", "--var",
               "DATA=a.h5", "--queue", "gpu"]


def job_script(choose: Choices) -> tuple[str, str, tuple[str, ...]]:
    """A dialect, a damaged script and options, of which some are damaged too."""
    name = choose.one_of(sorted(SCRIPTS))
    text = damaged_text(choose, SCRIPTS[name], DIRECTIVES) if choose.integer(0, 1) \
        else choose.one_of(SCRIPTS[name])
    first = 2 * choose.integer(0, len(JOB_OPTIONS) // 2 - 1)
    words = JOB_OPTIONS[first:first + 2 * choose.integer(1, 2)]
    words = [damaged_text(choose, [word], JOB_OPTIONS) if choose.integer(0, 1) else word
             for word in words]
    return name, text, tuple(words)


def toml_file(choose: Choices) -> tuple[str, bytes]:
    """The name of a program, and a damaged file of its options."""
    text = damaged_text(choose, TOML, TOML_WORDS).encode("utf-8", "surrogatepass")
    if choose.integer(0, 7) == 0:
        text = damaged_bytes(choose, [text])
    return choose.one_of(sorted(PARSERS)), text


def read_toml(case: tuple[str, bytes], folder: Path) -> None:
    program, text = case
    (folder / "options.toml").write_bytes(text)
    PARSERS[program]().parse(["--config", str(folder / "options.toml")])


SITE_WORDS = ["PARTITION=debug:2 prod", "GPU_PARTITION=gpu", "ACCOUNT=p1", "MEM=64G", "GPUS=8",
              "OPTIONS=-C gpu --exclusive", "OPTIONS=-l storage=a+b -P p", "GPU_RANKS=8",
              "GPU_REQUEST=--gres=gpu:a100:{gpus}", "GPU_REQUEST=ngpus={gpus}", "DEVICE=cpu",
              "RESOURCES=-l ncpus={total_cpus} -l mem={total_mem}", "GPU_CPUS=7",
              "LAUNCHER=mpiexec -n {ranks} --ppn {per_node}", "CONTAINER=x {image} {binds}"]


def site_words(choose: Choices) -> tuple[str, str]:
    """A dialect, and lines of words, some of which are damaged."""
    lines = [choose.one_of(SITE_WORDS) for _ in range(choose.integer(1, 4))]
    return choose.one_of(sorted(SCRIPTS)), damaged_text(choose, ["\n".join(lines)], SITE_WORDS)


def read_site(case: tuple[str, str], folder: Path) -> None:
    """As a site file's words are checked and written into a script."""
    name, text = case
    words = dict(line.partition("=")[::2] for line in text.split("\n"))
    site = Site("mine", "mine.sh", {key: value for key, value in words.items() if key in WORDS})
    for key, value in site.words.items():
        WORDS[key].check(value)
    dialect, script = DIALECTS[name], SCRIPTS[name][0]
    new = render(script, dialect, for_site(site, script, dialect, Request()))
    directives(new, dialect)  # what was written can be read


READERS: Sequence[Callable[[str], object]] = [
    at_least(0), between(0, 1e6), read_time, read_memory, parse_fractions,
    lambda text: allowed_rejects(text, 400), lambda text: shape.parse(text, 8),
    lambda text: shape.grow(text, 8), lambda text: cut.cut(2, text), job_options._dependency,
    job_options._setting, job_options._variable, compare_command._names, perturb.parse,
    augment.canonical]
NUMBERS = ["12", "0.25", "1e-4", "2:00:00", "1-02:30", "64G", "70/10/20", "1%", "data=2,tensor=4",
           "tensor=2,pipeline=2", "block3", "1234:any", "key=value", "ela,raw",
           "jpeg=95,90", "resize=0.5+jpeg=80", "crop=0.8-1,blur"]


@cache
def parser_of(reader: int) -> Parser:
    """A command line with an argument of this kind."""
    cli = Parser(prog="x")
    cli.add_argument("--number", type=READERS[reader])
    return cli


def number(choose: Choices) -> tuple[int, str]:
    """The number of a reader, and a damaged argument."""
    return choose.integer(0, len(READERS) - 1), damaged_text(choose, NUMBERS)


def read_number(case: tuple[int, str], folder: Path) -> None:
    parser_of(case[0]).parse([f"--number={case[1]}"])


def read_programs(text: str, folder: Path) -> None:
    """What other programs print on a node."""
    text = text.encode("utf-8", "replace").decode()
    gpus.parse(text)
    storage.judge_striping(text, folder)
    nccl.judge(nccl.read(text), fabric.Fabric(), "1 GB/s", {})
    for line in text.splitlines():
        quota.judge([left] if (left := quota.parse("user", line)) else [], folder)


TARGETS = [
    Target("names and lists of paths", partial(damaged_bytes, seeds=NAMES, tokens=FRAMES),
           parse_names, share=2),
    Target("lists of files and labels", list_of_files, read_list_of_files, share=0.6),
    Target("numbers on the command line", number, read_number, (InputError, SystemExit)),
    Target("TOML files of options", toml_file, read_toml, (InputError, SystemExit), share=0.3),
    Target("job scripts and options", job_script, read_script, (InputError, SystemExit), share=0.6),
    Target("words of site files", site_words, read_site, share=0.6),
    Target("sacct", partial(damaged_text, seeds=[SACCT, SACCT + ENERGY], tokens=[
        "|", "K", "c", "n", "1-", ":", "gres/gpu=", "energy=", "9" * 30]),
           account(parse_sacct), (), share=2),
    Target("qstat", partial(damaged_text, seeds=[QSTAT], tokens=[
        "Job Id: ", " = ", "\n\t", "kb", "\n    "]),
           account(parse_qstat), (), share=2),
    Target("timelines", partial(damaged_text, seeds=[HOROVOD + "]", HOROVOD], tokens=[
        '"ts": null', '"pid": "x"', '"args": 1', '"ph": 2', "[" * 5000, "1e999", "{", "}", ","]),
           read_timeline, (), share=2),
    Target("nvidia-smi, lfs, NCCL", partial(
        damaged_text, seeds=[NVIDIA_SMI, STRIPES, QUOTAS, NCCL], tokens=[
            ",", "[N/A]", "*", "[7]", " - ", "NET/IB : Using ", "NCCL INFO Using network "]),
           read_programs, ()),
]
