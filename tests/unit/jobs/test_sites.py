"""Site files: reading their words, refusing wrong ones, and what they change in job scripts."""

from __future__ import annotations

import os
import re
import time
from pathlib import Path

import pytest
from conftest import ROOT
from speed import limit

from hpc_deepfake.core.errors import InputError
from hpc_deepfake.jobs import command as job
from hpc_deepfake.jobs import submission
from hpc_deepfake.jobs.scheduler import environment
from hpc_deepfake.jobs.script import DIALECTS, PBS, SLURM, render, requested
from hpc_deepfake.jobs.script.request import Portable, Request
from hpc_deepfake.jobs.script.text import directives, variables
from hpc_deepfake.jobs.site import PREFIX, WORDS, Site, for_site, reading, sited

OURS = ("SBATCH_", "SLURM_", "PBS_", PREFIX, "SITE", "NCCL_")


@pytest.fixture(autouse=True)
def no_site(monkeypatch) -> None:
    for name in [name for name in os.environ if name.startswith(OURS)]:
        monkeypatch.delenv(name)


@pytest.fixture
def sites(tmp_path, monkeypatch) -> Path:
    """A clone's folder of site files, to write some into."""
    folder = tmp_path / "clone" / "env" / "sites"
    folder.mkdir(parents=True)
    monkeypatch.setattr(reading, "CLONE", tmp_path / "clone")
    return folder


def written(folder: Path, text: str) -> Site:
    (folder / "mine.sh").write_text(text, encoding="utf-8")
    return reading.read("mine")


def site(**words: str) -> Site:
    return Site("mine", "env/sites/mine.sh", words)


def script(scheduler: str, name: str) -> str:
    return (ROOT / "jobs" / scheduler / f"{name}.sh").read_text(encoding="utf-8")


def rendered(scheduler: str, name: str, words: Site, request: Request | None = None) -> str:
    text, dialect = script(scheduler, name), DIALECTS[scheduler]
    return render(text, dialect, for_site(words, text, dialect, request or Request()))


def changed(scheduler: str, name: str, words: Site, **request) -> dict[str, str | None]:
    """Directives that differ from those of the script; None for those that are gone."""
    dialect = DIALECTS[scheduler]
    before = directives(script(scheduler, name), dialect)
    after = directives(rendered(scheduler, name, words, Request(**request)), dialect)
    return {key: after.get(key) for key in {**before, **after} if before.get(key) != after.get(key)}


# --- reading


def test_a_file_is_read_without_loading_its_modules(sites, monkeypatch):
    """The words, also those that are not exported; modules and commands that are not here."""
    monkeypatch.setenv("MY_SCRATCH", "/scratch/me")
    read = written(sites, """
load_modules gcc/13 openmpi || return
module use /soft; module load cuda; module swap PrgEnv-cray PrgEnv-gnu
ml nccl; ml purge
conda activate base
HPC_DEEPFAKE_ACCOUNT=p1
export HPC_DEEPFAKE_ENV=$MY_SCRATCH/env NCCL_NET="AWS Libfabric"
echo printed by the file
""")
    assert read.modules == ("gcc/13", "openmpi", "cuda", "PrgEnv-gnu", "nccl")
    assert read.missing == ("conda",)
    assert read.words == {"ACCOUNT": "p1", "ENV": "/scratch/me/env"}
    assert read.environment == {"NCCL_NET": "AWS Libfabric"}
    assert read.place("ACCOUNT") == "env/sites/mine.sh line 6: HPC_DEEPFAKE_ACCOUNT"


def test_a_users_value_is_kept_and_that_of_another_site_is_not(sites, monkeypatch):
    monkeypatch.setenv("HPC_DEEPFAKE_ACCOUNT", "mine")
    monkeypatch.setenv("HPC_DEEPFAKE_PARTITION", "of another site")
    monkeypatch.setenv("HPC_DEEPFAKE_QOS", "changed-since")
    monkeypatch.setenv("HPC_DEEPFAKE_SITE_WORDS", "HPC_DEEPFAKE_PARTITION=of another site\x1f"
                                                  "HPC_DEEPFAKE_QOS=of another site\x1f")
    read = written(sites, "".join(
        f"export HPC_DEEPFAKE_{name}=${{HPC_DEEPFAKE_{name}:-site}}\n"
        for name in ("ACCOUNT", "PARTITION", "QOS")))
    assert read.words == {"ACCOUNT": "mine", "PARTITION": "site", "QOS": "changed-since"}


def test_lines_that_fail_in_the_middle_of_a_file_are_named(sites):
    read = written(sites, "\nsource /no/such/profile.sh\nexport HPC_DEEPFAKE_QOS=q\n")
    assert read.failed == (
        "env/sites/mine.sh line 2: /no/such/profile.sh: No such file or directory",)


def test_a_file_that_hangs_is_given_up(sites, monkeypatch):
    monkeypatch.setattr(reading, "SECONDS", 0.5)
    began = time.monotonic()
    with pytest.raises(InputError, match="still reading it after"):
        written(sites, "sleep 600 & wait\n")
    assert time.monotonic() - began < limit(10)


def test_what_a_file_leaves_running_is_not_waited_for(sites):
    began = time.monotonic()
    assert written(sites, "sleep 100 &\nexport HPC_DEEPFAKE_QOS=q\n").words == {"QOS": "q"}
    assert time.monotonic() - began < limit(20)


@pytest.mark.parametrize(("text", "message"), [
    ("export HPC_DEEPFAKE_ACOUNT=x", r"line 1: HPC_DEEPFAKE_ACOUNT is unknown \(did you mean "
                                     r"HPC_DEEPFAKE_ACCOUNT.*valid are:\n(.|\n)*GPU_REQUEST"),
    ("\nexport HPC_DEEPFAKE_GPUS=four", "line 2: HPC_DEEPFAKE_GPUS: 'four' is not a whole number"),
    ("export HPC_DEEPFAKE_SCHEDULER=lsf", "'lsf' is not one of slurm, pbs"),
    ("export HPC_DEEPFAKE_DEVICE=tpu", "'tpu' is not one of cpu, gpu, auto"),
    ("export HPC_DEEPFAKE_GPU_CPUS=0", "not a whole number of at least 1"),
    ("export HPC_DEEPFAKE_MEM=much", "not an amount of memory"),
    ("export HPC_DEEPFAKE_PARTITION='prod debug:2'", "'debug:2' is never used, because prod"),
    ("export HPC_DEEPFAKE_PARTITION='debug:x'", "'debug:x' is not a partition"),
    ("export HPC_DEEPFAKE_OPTIONS='constraint=gpu'", "'constraint=gpu' is not an option"),
    ("export HPC_DEEPFAKE_OPTIONS=\"--comment='x\"", "no closing quotation"),
    ("export HPC_DEEPFAKE_LAUNCHER='mpiexec -n {rank}'", r"unknown {rank} .*valid are {nodes} {r"),
    ("export HPC_DEEPFAKE_LAUNCHER=Mpirum", "neither one of auto, srun, mpirun nor a command"),
    ("export HPC_DEEPFAKE_LAUNCHER=\"mpiexec -n {ranks} '-x y'\"", "quotes and backslashes"),
    ("export HPC_DEEPFAKE_CONTAINER=aptainer", "neither one of apptainer, "),
    ("\nload_modules\n", "sh line 2: load_modules names no module"),
    ('load_modules "$NOT_SET" || return', "line 1: load_modules names no module"),
    ('f() { load_modules gcc ""; }\nf; false', "line 2: load_modules names no module"),
    ("ml list; ml; module load $NOT_SET", "line 1: module load names no module"),
    ("module swap", "line 1: module swap names no module"),
    ("export HPC_DEEPFAKE_QOS=q\r", r"sh has Windows line ends: remove them .* 's/\\r\$//'"),
    ("export HPC_DEEPFAKE_ACCOUNT='my acc; rm -rf x'", "ACCOUNT: 'my acc; rm -rf x' is not a name"),
    ("export HPC_DEEPFAKE_CPU_QOS='$(x)'", r"CPU_QOS: '\$\(x\)' is not a name"),
    ("return 3", "it returns 3; a site file must end with 0"),
    ("echo no >&2; false", "it returns 1; a site file must end with 0: no"),
    ("exit 0", r"it ends the shell \(exit\)"),
    ("export HPC_DEEPFAKE_QOS=$'a\\nb'", "line break"),
])
def test_a_wrong_file_is_refused_with_its_line(sites, text, message):
    with pytest.raises(InputError, match=message) as refused:
        written(sites, text + "\n")
    assert str(refused.value).startswith("env/sites/mine.sh")


def test_an_unknown_site_names_those_that_there_are(sites):
    written(sites, "")
    with pytest.raises(InputError, match=r"no such file .*did you mean mine\?\); there are mine"):
        reading.read("mien")
    with pytest.raises(InputError, match=r"no such file .*did you mean mine\?\) \(jobs read their "
                                         "site file there: give its name, not a path"):
        reading.read("../sites/mine")
    with pytest.raises(InputError, match=r"no such file .*did you mean mine\?\);"):
        reading.read("mine.sh")


def test_the_template_explains_each_word_and_no_other():
    text = (ROOT / "env" / "sites" / "template.sh").read_text(encoding="utf-8")
    named = set(re.findall(rf"^#export {PREFIX}(\w+)=", text, re.MULTILINE))
    general = {re.sub("^(CPU|GPU|SMALL)_(?!REQUEST)", "", name) for name in WORDS}
    assert named <= set(WORDS)
    assert {re.sub("^(CPU|GPU|SMALL)_(?!REQUEST)", "", name) for name in named} == general
    assert set(re.findall(rf"{PREFIX}([A-Z_]+)", text)) - set(WORDS) == {"KIND"}


def test_the_guide_lists_each_word():
    text = (ROOT / "docs" / "sites.md").read_text(encoding="utf-8")
    table = text.partition("| word | value |")[2].partition("\n\n")[0]
    listed = {name for cell in re.findall(r"^\| (.*?) \|", table, re.MULTILINE)
              for name in re.findall("`(\\w+)`", cell)}
    by_kind = "^(CPU|GPU|SMALL)_(?=ACCOUNT|PARTITION|QOS|OPTIONS|MEM|RESOURCES)"
    assert listed == {re.sub(by_kind, "", name) for name in WORDS}


def test_the_values_of_the_template_are_possible(sites):
    text = (ROOT / "env" / "sites" / "template.sh").read_text(encoding="utf-8")
    read = written(sites, re.sub("^#(?=export |load_modules )", "", text, flags=re.MULTILINE))
    assert read.words["GPU_REQUEST"] == "--gres=gpu:a100:{gpus}"
    assert read.modules == ("gcc/13", "openmpi/4.1", "hdf5/1.14-parallel")


@pytest.mark.parametrize("name", reading.names())
def test_the_examples_have_only_known_words(name):
    reading.read(name)


# --- kinds of jobs and precedence

BY_KIND = site(ACCOUNT="a", GPU_ACCOUNT="a_g", CPU_PARTITION="c", GPU_PARTITION="g", QOS="q",
               SMALL_QOS="s", OPTIONS="--exclusive -L lic", GPU_OPTIONS="-C gpu",
               CPU_OPTIONS="-Ccpu --licenses lic2")


@pytest.mark.parametrize(("name", "expected"), [
    ("train_4gpu", {"account": "a_g", "partition": "g", "qos": "q", "exclusive": "",
                    "licenses": "lic", "constraint": "gpu"}),
    ("preprocess", {"account": "a", "partition": "c", "qos": "q", "exclusive": "",
                    "licenses": "lic2", "constraint": "cpu"}),
    ("evaluate", {"account": "a", "partition": "c", "qos": "s", "exclusive": "",
                  "licenses": "lic2", "constraint": "cpu"}),
])
def test_each_kind_of_job_has_its_words(name, expected):
    assert changed("slurm", name, BY_KIND) == expected


def test_the_kind_follows_the_gpus_that_are_requested_or_is_given():
    words = site(CPU_PARTITION="c", GPU_PARTITION="g", SMALL_PARTITION="s")
    for request, partition in ((Request(Portable(gpus_per_node=1)), "g"),
                               (Request(settings=[("gres", "gpu:2")]), "g"),
                               (Request(), "s"), (Request(kind="cpu"), "c")):
        text = rendered("slurm", "evaluate", words, request)
        assert directives(text, SLURM)["partition"] == partition


def test_a_users_option_takes_precedence_and_can_remove_the_sites():
    new = changed("slurm", "train_4gpu", BY_KIND, portable=Portable(account="mine"),
                  settings=[("constraint", "a100")], dropped=["qos", "exclusive"])
    assert new == {"account": "mine", "partition": "g", "licenses": "lic", "constraint": "a100"}


def test_a_site_has_no_part_in_what_neither_it_nor_the_script_sets():
    with pytest.raises(InputError, match="--unset qos: the script has no such directive"):
        changed("slurm", "train_cpu", site(ACCOUNT="a"), dropped=["qos"])


def test_alternatives_that_exclude_each_other():
    """A user's --mem-per-cpu leaves the site's memory out."""
    words = site(MEM="64G", OPTIONS="--requeue")
    assert changed("slurm", "train_cpu", words) == {"mem": "64G"}
    assert changed("slurm", "train_cpu", words, settings=[("mem-per-cpu", "2G")]) == {
        "mem-per-cpu": "2G"}


@pytest.mark.parametrize(("nodes", "partition"), [(1, "debug"), (10, "debug"), (11, "prod")])
def test_the_partition_follows_the_number_of_nodes(nodes, partition):
    words = site(PARTITION="debug:10 prod")
    for scheduler, key in (("slurm", "partition"), ("pbs", "q")):
        new = changed(scheduler, "train_multinode", words, portable=Portable(nodes=nodes))
        assert new[key] == partition


def test_a_list_of_partitions_that_takes_no_job_of_this_size():
    with pytest.raises(InputError, match=r"mine.sh: HPC_DEEPFAKE_PARTITION: none of debug:1 takes"):
        changed("slurm", "train_multinode", site(PARTITION="debug:1"))
    new = changed("slurm", "train_multinode", site(PARTITION="debug:1"),
                  portable=Portable(partition="prod"))
    assert new["partition"] == "prod"


# --- ranks, CPUs and GPUs


def test_ranks_follow_the_gpus_of_the_site():
    words = site(GPUS="8", GPU_CPUS="7", CPU_CPUS="2", CPU_RANKS="28")
    assert changed("slurm", "train_4gpu", words) == {
        "ntasks-per-node": "8", "gpus-per-node": "8", "cpus-per-task": "7"}
    assert changed("pbs", "train_4gpu", words) == {
        "l:select": "1:ncpus=56:mpiprocs=8:ngpus=8"}
    assert changed("slurm", "preprocess", words) == {"ntasks-per-node": "28", "cpus-per-task": "2"}
    both = site(GPUS="8", GPU_RANKS="16")
    assert changed("slurm", "train_4gpu", both) == {"ntasks-per-node": "16", "gpus-per-node": "8"}


def test_a_users_gpus_take_their_ranks_with_them():
    words = site(GPUS="8", GPU_RANKS="8")
    assert changed("slurm", "train_4gpu", words, portable=Portable(gpus_per_node=2)) == {
        "ntasks-per-node": "2", "gpus-per-node": "2"}
    assert changed("slurm", "train_4gpu", words, portable=Portable(ranks_per_node=3)) == {
        "ntasks-per-node": "3", "gpus-per-node": "8"}


def test_a_directive_of_gpus_leaves_the_ranks():
    """As for sbatch; the site's form is kept."""
    words = site(GPU_REQUEST="--gres=gpu:v100:{gpus}")
    assert changed("slurm", "train_4gpu", words, settings=[("gpus-per-node", "2")]) == {
        "gpus-per-node": None, "gres": "gpu:v100:2"}


def test_a_site_without_gpus():
    words = site(GPUS="0", DEVICE="cpu", CPU_PARTITION="c", GPU_PARTITION="g")
    for scheduler, gone in (("slurm", {"gpus-per-node": None, "partition": "c"}),
                            ("pbs", {"l:select": "1:ncpus=32:mpiprocs=4", "q": "c"})):
        assert changed(scheduler, "train_4gpu", words) == gone
        assert variables(rendered(scheduler, "train_4gpu", words))["DEVICE"] == "cpu"


def test_the_device_of_the_site_is_a_default():
    """It replaces gpu in the script's own line, over which a user still wins."""
    words = site(DEVICE="auto")
    text = rendered("slurm", "train_4gpu", words)
    assert "\nDEVICE=${DEVICE:-auto}              # cpu" in text
    assert variables(rendered("slurm", "train_cpu", words))["DEVICE"] == "cpu"


@pytest.mark.parametrize(("template", "expected"), [
    ("--gres=gpu:{gpus}", {"gres": "gpu:4"}),
    ("--gres=gpu:a100:{gpus} -C a100", {"gres": "gpu:a100:4", "constraint": "a100"}),
    ("--gpus-per-task=1", {"gpus-per-task": "1"}),
    ("--gpus-per-node=h100:{gpus}", {"gpus-per-node": "h100:4"}),
])
def test_how_gpus_are_requested(template, expected):
    words = site(GPU_REQUEST=template)
    text = rendered("slurm", "train_multinode", words)
    new = changed("slurm", "train_multinode", words)
    assert {key: value for key, value in new.items() if value} == expected
    # What was rendered is understood, and changed in its own form.
    assert SLURM.portable(directives(text, SLURM)).gpus_per_node == 4
    again = render(text, SLURM, Request(Portable(gpus_per_node=2)))
    assert SLURM.portable(directives(again, SLURM)).gpus_per_node == 2
    assert not changed("slurm", "train_cpu", words)


def test_a_users_own_form_of_asking_for_gpus_replaces_all_others():
    for words in (site(), site(GPU_REQUEST="--gpus-per-task=1", GPUS="8")):
        assert changed("slurm", "train_4gpu", words, settings=[("gres", "gpu:a40:2")]) == {
            "gpus-per-node": None, "gres": "gpu:a40:2"}
    assert changed("slurm", "train_4gpu", site(), settings=[("gres", "nvme:1")]) == {
        "gres": "nvme:1"}


def test_other_generic_resources_stay():
    words = site(GPU_REQUEST="--gres=gpu:{gpus}", OPTIONS="--gres=nvme:1")
    assert changed("slurm", "train_4gpu", words)["gres"] == "gpu:4,nvme:1"
    assert changed("slurm", "train_cpu", words)["gres"] == "nvme:1"


def test_a_part_of_the_chunk_asks_for_gpus_in_pbs():
    words = site(GPU_REQUEST="ngpus={gpus}:gpu_type=a100")
    assert changed("pbs", "train_4gpu", words) == {
        "l:select": "1:ncpus=32:mpiprocs=4:ngpus=4:gpu_type=a100"}


@pytest.mark.parametrize("template", ["--gres=gpu:a100:{gpus}", "ngpus={gpus}:a100", "ngpus=4 "])
def test_what_is_no_part_of_a_chunk(template):
    with pytest.raises(InputError, match=r"GPU_REQUEST: '.*' is not a part of a chunk: give NAME="):
        changed("pbs", "train_4gpu", site(GPU_REQUEST=template))


def test_a_request_without_select():
    words = site(RESOURCES="-l ncpus={total_cpus} -l mem={total_mem}", MEM="100G", GPUS="4",
                 GPU_RESOURCES="-l ncpus={total_cpus},ngpus={total_gpus} -lmem={total_mem} -l wd",
                 GPU_CPUS="12", OPTIONS="-P ab12 -l storage=scratch/a+gdata/b -l own")
    common = {"l:select": None, "l:place": None, "P": "ab12", "l:storage": "scratch/a+gdata/b",
              "l:own": ""}
    text = rendered("pbs", "train_multinode", words)
    assert changed("pbs", "train_multinode", words) == {
        **common, "l:ncpus": "96", "l:ngpus": "8", "l:mem": "204800mb", "l:wd": ""}
    assert "\n#PBS -l wd\n" in text and "\njob_layout='2 4 12'\n" in text
    assert changed("pbs", "train_cpu", words, portable=Portable(nodes=2, mem=1024)) == {
        **common, "l:ncpus": "32", "l:mem": "2048mb"}
    # also by the scheduler's own words, as a study gives them
    assert changed("pbs", "train_4gpu", words, settings=[
        ("select", "3:ncpus=24:mpiprocs=2:ngpus=2")])["l:ngpus"] == "6"
    with pytest.raises(InputError, match=r"RESOURCES: the job does not say what {total_mem} is; "
                                         "give HPC_DEEPFAKE_MEM"):
        changed("pbs", "train_cpu", site(RESOURCES="-l mem={total_mem}"))


@pytest.mark.parametrize(("scheduler", "options", "message"), [
    ("slurm", "-l filesystems=home", "-l: sbatch has no such option"),
    ("slurm", "--constrain=gpu", "--constrain=gpu: sbatch has no such.*did you mean.* constraint"),
    ("slurm", "--constraint", "needs a value"), ("pbs", "-l walltime", "-l needs NAME=VALUE"),
    ("pbs", "-N", "needs a value"), ("pbs", "-l", "-l needs NAME=VALUE"),
    ("pbs", "--constraint=gpu", "--constraint=gpu: qsub has no such option"),
    ("slurm", "gpu", "not an option of"),
])
def test_options_of_the_other_scheduler_are_refused(scheduler, options, message):
    with pytest.raises(InputError, match=f"mine.sh: HPC_DEEPFAKE_OPTIONS: .*{message}"):
        changed(scheduler, "train_cpu", site(OPTIONS=options))


@pytest.mark.parametrize(("words", "expected"), [
    (["-W", "group_list=g,umask=022", "-h", "-Pp"], {"W:group_list": "g", "W:umask": "022", "h": "",
                                                      "P": "p"}),
    (["-l", "a=1", "-lb=x+y", "-l", "select=2:ncpus=4:mpiprocs=2,walltime=1:00"],
     {"l:a": "1", "l:b": "x+y", "l:select": "2:ncpus=4:mpiprocs=2", "l:walltime": "1:00"}),
])
def test_words_of_qsub(words, expected):
    assert PBS.parse(words, "here") == expected


def test_sizes_of_a_study_come_from_the_site(monkeypatch):
    """In the scripts' own form: the site's form is written when the job is submitted."""
    for name, value in {"GPUS": "8", "GPU_CPUS": "7", "GPU_REQUEST": "--gres=gpu:{gpus}"}.items():
        monkeypatch.setenv(f"HPC_DEEPFAKE_{name}", value)
    now = directives(sited(script("slurm", "train_multinode"), SLURM), SLURM)
    assert (now["ntasks-per-node"], now["gpus-per-node"], now["cpus-per-task"]) == ("8", "8", "7")


def test_what_a_job_asks_for_at_its_site():
    words = site(GPUS="4", GPU_CPUS="12", RESOURCES="-l ncpus={total_cpus}")
    text = script("pbs", "train_multinode")
    asked = requested(text, PBS, for_site(words, text, PBS, Request()))
    assert (asked.nodes, asked.ranks_per_node, asked.cpus_per_rank, asked.gpus_per_node) == (
        2, 4, 12, 4)


# --- the command


def test_site_of_the_environment_and_of_the_option(sites, monkeypatch, capsys):
    written(sites, "export HPC_DEEPFAKE_ACCOUNT=a\n")
    (sites / "other.sh").write_text("export HPC_DEEPFAKE_ACCOUNT=b HPC_DEEPFAKE_SCHEDULER=pbs\n")
    monkeypatch.setenv("SITE", "mine")
    assert job.main(["render", "slurm", "train_cpu"]) == 0
    text = capsys.readouterr().out
    assert directives(text, SLURM)["account"] == "a" and "\nSITE=mine\n" in text
    words = ["auto", "train_cpu", "--site", "other", "--options=-P p -l x=1"]
    assert job.main(["render", *words]) == 0
    text = capsys.readouterr().out
    now = directives(text, PBS)
    assert (now["A"], now["P"], now["l:x"]) == ("b", "p", "1") and "\nSITE=other\n" in text


def test_what_activation_has_set_for_sbatch_gives_way(monkeypatch):
    """What the user has set stays, also where it differs from what was set before."""
    for name, value in {"ACCOUNT": "site's", "PARTITION": "mine", "QOS": "mine"}.items():
        monkeypatch.setenv(f"SBATCH_{name}", value)
    before = "SBATCH_ACCOUNT=site's\x1fSBATCH_PARTITION=site's\x1f"
    monkeypatch.setenv("HPC_DEEPFAKE_SBATCH", before)
    left = {name for name in environment(SLURM, []) if "SBATCH" in name}
    assert left == {"SBATCH_PARTITION", "SBATCH_QOS"}


def test_placeholders_are_not_submitted(sites, monkeypatch, capsys, caplog):
    """Those that the job would use; a script is rendered nevertheless, with a note."""
    written(sites, """
export HPC_DEEPFAKE_GPU_ACCOUNT=project123_g
export HPC_DEEPFAKE_CPU_ACCOUNT=p1 HPC_DEEPFAKE_SCHEDULER=slurm""")
    submitted = []
    monkeypatch.setattr(submission, "queue", lambda *words: submitted.append(words) or "1")
    monkeypatch.setattr(submission.journal, "note", lambda *words, **more: None)
    words = ["slurm", "train_4gpu", "--site", "mine"]
    message = "env/sites/mine.sh line 2: HPC_DEEPFAKE_GPU_ACCOUNT: replace project123 in 'project"
    after = ["--after", "7"]
    with pytest.raises(InputError, match=f"^{message}"):
        job.main(["submit", *words, *after])
    assert not submitted
    for command in (["render", *words], ["submit", *words, *after, "--dry-run"]):
        caplog.clear()
        assert job.main(command) == 0
        assert f"note: {message}" in caplog.text
    caplog.clear()
    assert job.main(["submit", *words, *after, "--account", "p1"]) == 0
    assert job.main(["submit", "slurm", "train_cpu", *words[2:], *after]) == 0
    assert len(submitted) == 2 and not caplog.text
    written(sites, "export HPC_DEEPFAKE_ENV=/scratch/project123/env")
    with pytest.raises(InputError, match="HPC_DEEPFAKE_ENV: replace project123"):
        job.main(["submit", *words, *after])
