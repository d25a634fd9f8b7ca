"""Editing job scripts: golden scripts, both schedulers side by side, and malicious values."""

from __future__ import annotations

import os
import re
import shutil
import subprocess

import pytest
from conftest import ROOT
from speed import limit

from hpc_deepfake.core.errors import InputError
from hpc_deepfake.jobs.script import DIALECTS, PBS, SLURM, render
from hpc_deepfake.jobs.script.request import Portable, Request
from hpc_deepfake.jobs.script.text import STRICT, directives, variables, work
from hpc_deepfake.jobs.script.values import read_memory, read_time

TAIL = """set -euo pipefail

# What to change: here, or when submitting.
DATA=${DATA:-}                      # data file (default: features.h5)
RUN=${RUN:-runs/${SLURM_JOB_ID}}    # run directory
DEVICE=${DEVICE:-gpu}               # cpu, gpu or auto
LAST=${LAST:-}
#SBATCH --nodes=77
#PBS -N not-a-directive

clone=$PWD
train
"""
SLURM_SCRIPT = """#!/bin/bash -l
# Train.
#   sbatch --nodes=8 train.sh
#SBATCH --job-name=hd-train
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=4
#SBATCH --cpus-per-task=8
#SBATCH --gpus-per-node=4
#SBATCH --time=04:00:00
#SBATCH --requeue
##SBATCH --exclusive
#SBATCH --output=%x-%j.log
""" + TAIL
PBS_SCRIPT = """#!/bin/bash -l
# Train.
#PBS -N hd-train
#PBS -l select=2:ncpus=32:mpiprocs=4:ngpus=4
#PBS -l place=scatter
#PBS -l walltime=04:00:00
#PBS -r y
#PBS -k oed
#PBS -j oe
""" + TAIL
SCRIPTS = {"slurm": SLURM_SCRIPT, "pbs": PBS_SCRIPT}
both = pytest.mark.parametrize("dialect", DIALECTS.values(), ids=list(DIALECTS))
JOBS = sorted(path.stem for path in (ROOT / "jobs" / "slurm").glob("*.sh"))


def edited(dialect, **changes) -> dict[str, str]:
    """Directives of this scheduler's script above after some changes."""
    return directives(render(SCRIPTS[dialect.name], dialect, Request(**changes)), dialect)


def lines_of(text: str) -> set[str]:
    """The lines that look like directives, before the first command."""
    return {line for line in text.partition(STRICT)[0].split("\n")
            if re.match("#(SBATCH|PBS) ", line)}


# --- whole scripts


def test_a_slurm_script_with_every_kind_of_change():
    request = Request(
        Portable(nodes=4, gpus_per_node=8, mem=65536, time=93600, partition="gpu"),
        settings=[("comment", "two words"), ("exclusive", None)], dropped=["requeue"],
        variables={"DATA": "my data.h5", "LAST": "x"}, arguments=["--epochs", "10", "a b"],
        inserted={"HPC_DEEPFAKE_HOME": "/home/me/clone", "HPC_DEEPFAKE_CHAIN": "first"})
    assert render(SLURM_SCRIPT, SLURM, request) == """#!/bin/bash -l
# Train.
#   sbatch --nodes=8 train.sh
#SBATCH --job-name=hd-train
#SBATCH --nodes=4
#SBATCH --ntasks-per-node=8
#SBATCH --cpus-per-task=8
#SBATCH --gpus-per-node=8
#SBATCH --time=1-02:00:00
##SBATCH --exclusive
#SBATCH --output=%x-%j.log
#SBATCH --mem=64G
#SBATCH --partition=gpu
#SBATCH --comment="two words"
#SBATCH --exclusive
set -euo pipefail

HPC_DEEPFAKE_HOME=/home/me/clone
HPC_DEEPFAKE_CHAIN=first
DATA='my data.h5'
LAST=x
set -- --epochs 10 'a b' "$@"
# What to change: here, or when submitting.
DATA=${DATA:-}                      # data file (default: features.h5)
RUN=${RUN:-runs/${SLURM_JOB_ID}}    # run directory
DEVICE=${DEVICE:-gpu}               # cpu, gpu or auto
LAST=${LAST:-}
#SBATCH --nodes=77
#PBS -N not-a-directive

clone=$PWD
train
"""


def test_a_pbs_script_with_every_kind_of_change():
    request = Request(
        Portable(nodes=4, gpus_per_node=8, mem=65536, time=93600, partition="gpu"),
        settings=[("W umask", "022"), ("l:scratch", "10gb"), ("h", None),
                  ("place", "scatter:excl")],
        dropped=["k"], variables={"DATA": "my data.h5"}, arguments=["--epochs", "10"],
        inserted={"HPC_DEEPFAKE_HOME": "/home/me/clone"})
    assert render(PBS_SCRIPT, PBS, request) == """#!/bin/bash -l
# Train.
#PBS -N hd-train
#PBS -l select=4:ncpus=64:mpiprocs=8:ngpus=8:mem=64gb
#PBS -l place=scatter:excl
#PBS -l walltime=26:00:00
#PBS -r y
#PBS -j oe
#PBS -q gpu
#PBS -W umask=022
#PBS -l scratch=10gb
#PBS -h
set -euo pipefail

HPC_DEEPFAKE_HOME=/home/me/clone
DATA='my data.h5'
set -- --epochs 10 "$@"
# What to change: here, or when submitting.
DATA=${DATA:-}                      # data file (default: features.h5)
RUN=${RUN:-runs/${SLURM_JOB_ID}}    # run directory
DEVICE=${DEVICE:-gpu}               # cpu, gpu or auto
LAST=${LAST:-}
#SBATCH --nodes=77
#PBS -N not-a-directive

clone=$PWD
train
"""


@both
@pytest.mark.parametrize("job", JOBS)
def test_without_changes_every_script_of_jobs_stays_as_it_is(dialect, job):
    text = (ROOT / "jobs" / dialect.name / f"{job}.sh").read_text(encoding="utf-8")
    assert render(text, dialect, Request()) == text
    assert variables(text) and re.fullmatch("[a-z_]+", work(text))


# --- both schedulers


@pytest.mark.parametrize("job", JOBS)
@pytest.mark.parametrize("requested", [
    Portable(),
    Portable(nodes=3, gpus_per_node=2, time=5400),
    Portable(ranks_per_node=6, cpus_per_rank=3, mem=4000),
    Portable(gpus_per_node=0, cpus_per_rank=2, mem=2048, time=200000),
    Portable(account="a1", partition="small", qos="fast", name="short", array="1-4"),
], ids=["as they are", "gpus", "cpus", "no gpus", "names"])
def test_both_schedulers_get_the_same_request(job, requested):
    """The same job of both, after the same changes, in portable terms; names may be cut for PBS."""
    asked = []
    for dialect in DIALECTS.values():
        text = (ROOT / "jobs" / dialect.name / f"{job}.sh").read_text(encoding="utf-8")
        now = directives(render(text, dialect, Request(requested)), dialect)
        asked.append({**vars(dialect.portable(now)), "name": requested.name})
        for option, value in vars(requested).items():
            assert value is None or asked[-1][option] == value, (dialect.name, option)
    assert asked[0] == asked[1]


@pytest.mark.parametrize(("requested", "slurm", "pbs"), [
    (Portable(nodes=5), {"nodes=2": "nodes=5"},
     {"l select=2:ncpus=32:mpiprocs=4:ngpus=4": "l select=5:ncpus=32:mpiprocs=4:ngpus=4"}),
    (Portable(gpus_per_node=2),
     {"gpus-per-node=4": "gpus-per-node=2", "ntasks-per-node=4": "ntasks-per-node=2"},
     {"l select=2:ncpus=32:mpiprocs=4:ngpus=4": "l select=2:ncpus=16:mpiprocs=2:ngpus=2"}),
    (Portable(gpus_per_node=2, ranks_per_node=4), {"gpus-per-node=4": "gpus-per-node=2"},
     {"l select=2:ncpus=32:mpiprocs=4:ngpus=4": "l select=2:ncpus=32:mpiprocs=4:ngpus=2"}),
    (Portable(gpus_per_node=0), {"gpus-per-node=4": None},
     {"l select=2:ncpus=32:mpiprocs=4:ngpus=4": "l select=2:ncpus=32:mpiprocs=4"}),
    (Portable(cpus_per_rank=2), {"cpus-per-task=8": "cpus-per-task=2"},
     {"l select=2:ncpus=32:mpiprocs=4:ngpus=4": "l select=2:ncpus=8:mpiprocs=4:ngpus=4"}),
    (Portable(time=60), {"time=04:00:00": "time=00:01:00"},
     {"l walltime=04:00:00": "l walltime=00:01:00"}),
    (Portable(name="new", account="acc"), {"job-name=hd-train": "job-name=new", "": "account=acc"},
     {"N hd-train": "N new", "": "A acc"}),
])
def test_a_change_touches_these_directives_and_no_others(requested, slurm, pbs):
    """Ranks follow the GPUs where there is one rank per GPU, unless they are set."""
    for dialect, expected in ((SLURM, slurm), (PBS, pbs)):
        before = lines_of(SCRIPTS[dialect.name])
        after = lines_of(render(SCRIPTS[dialect.name], dialect, Request(requested)))
        line = "#SBATCH --{}" if dialect is SLURM else "#PBS -{}"
        assert before - after == {line.format(one) for one in expected if one}
        assert after - before == {line.format(one) for one in expected.values() if one}


def test_ranks_stay_where_there_is_not_one_per_gpu():
    for dialect in DIALECTS.values():
        text = render(SCRIPTS[dialect.name], dialect, Request(Portable(ranks_per_node=2)))
        now = directives(render(text, dialect, Request(Portable(gpus_per_node=8))), dialect)
        assert dialect.portable(now).ranks_per_node == 2


def test_the_type_of_gpu_is_kept():
    text = SLURM_SCRIPT.replace("gpus-per-node=4", "gpus-per-node=a100:4")
    now = directives(render(text, SLURM, Request(Portable(gpus_per_node=2))), SLURM)
    assert (now["gpus-per-node"], now["ntasks-per-node"]) == ("a100:2", "2")


# --- keys


@pytest.mark.parametrize(("dialect", "word", "close", "some"), [
    (SLURM, "partion", "did you mean partition", ["account", "gpus-per-node", "exclusive"]),
    (SLURM, "p", "", ["partition"]),
    (SLURM, "walltime", "", ["time"]),
    (SLURM, "wrap", "", ["time"]),
    (PBS, "waltime", "did you mean walltime", ["walltime", "place", "umask", "l:NAME", "q"]),
    (PBS, "W umsk", "did you mean umask", ["umask"]),
    (PBS, "partition", "", ["q"]),
    (PBS, "I", "", ["q"]),
    (PBS, "l:", "", ["l:NAME"]),
])
def test_an_unknown_key_is_refused_and_all_valid_ones_are_named(dialect, word, close, some):
    for request in (Request(settings=[(word, "x")]), Request(dropped=[word])):
        with pytest.raises(InputError) as refused:
            render(SCRIPTS[dialect.name], dialect, request)
        message = str(refused.value)
        assert f"set {word}: " in message and close in message
        listed = set(re.split(r"[\s,:()]+", message.partition("valid keys:")[2]))
        assert set(" ".join(some).replace(":", " ").split()) <= listed
        known = SLURM.known if dialect is SLURM else PBS.options | PBS.resources | PBS.attributes
        assert known <= listed
        assert max(map(len, message.partition("\n")[2].split("\n"))) < 100


@pytest.mark.parametrize(("word", "option"), [
    ("ncpus", "--cpus-per-rank"), ("ngpus", "--gpus-per-node"), ("mem", "--mem")])
def test_parts_of_select_are_refused_with_the_option_for_them(word, option):
    with pytest.raises(InputError, match=f"part of select: give {option}"):
        edited(PBS, settings=[(word, "4")])


@pytest.mark.parametrize(("words", "key"), [
    (["walltime", "l walltime", "l:walltime", "-l walltime"], "l:walltime"),
    (["umask", "W umask", "W:umask"], "W:umask"),
    (["l:ssd", "l ssd"], "l:ssd"),
    (["q", "-q"], "q"),
])
def test_pbs_keys_may_be_written_in_several_ways(words, key):
    for word in words:
        assert edited(PBS, settings=[(word, "1:00")])[key] == "1:00"


@pytest.mark.parametrize(("settings", "message"), [
    ([("requeue", "yes")], "takes no value: --set requeue"),
    ([("partition", None)], "needs a value: --set partition=VALUE"),
    ([("partition", "")], "empty; to remove the directive: --unset partition"),
])
def test_flags_have_no_value_and_others_have_one(settings, message):
    with pytest.raises(InputError, match=message):
        edited(SLURM, settings=settings)


def test_a_flag_that_may_have_a_value():
    assert edited(SLURM, settings=[("exclusive", None)])["exclusive"] == ""
    assert edited(SLURM, settings=[("exclusive", "user")])["exclusive"] == "user"


@pytest.mark.parametrize(("dialect", "request_"), [
    (SLURM, Request(Portable(nodes=2), [("nodes", "3")])),
    (SLURM, Request(settings=[("nodes", "3"), ("nodes", "4")])),
    (SLURM, Request(Portable(time=60), dropped=["time"])),
    (PBS, Request(Portable(nodes=2), [("select", "1:ncpus=1")])),
    (PBS, Request(settings=[("umask", "1"), ("W umask", "2")])),
])
def test_a_key_that_is_set_twice_is_refused(dialect, request_):
    with pytest.raises(InputError, match="is set twice"):
        render(SCRIPTS[dialect.name], dialect, request_)


def test_removing_a_missing_directive_is_refused_and_those_present_are_named():
    with pytest.raises(InputError, match=r"--unset gres: the script has no such.*job-name, nodes"):
        edited(SLURM, dropped=["gres"])
    assert "W:umask" not in edited(PBS, dropped=["j"]) and "j" not in edited(PBS, dropped=["j"])


def test_directives_that_exclude_each_other_replace_each_other():
    """sbatch refuses --mem beside --mem-per-cpu."""
    text = render(SLURM_SCRIPT, SLURM, Request(settings=[("mem-per-cpu", "2G")]))
    now = directives(render(text, SLURM, Request(Portable(mem=1024))), SLURM)
    assert now["mem"] == "1G" and "mem-per-cpu" not in now
    now = edited(SLURM, settings=[("no-requeue", None)])
    assert "no-requeue" in now and "requeue" not in now


def test_a_directive_that_occurs_twice_is_written_once():
    text = SLURM_SCRIPT.replace("#SBATCH --requeue", "#SBATCH --nodes=3\n#SBATCH --requeue")
    assert directives(text, SLURM)["nodes"] == "3"
    rendered = render(text, SLURM, Request(Portable(nodes=9)))
    assert rendered.partition("set -euo")[0].count("#SBATCH --nodes=") == 1
    assert directives(rendered, SLURM)["nodes"] == "9"


def test_all_long_options_of_this_machines_sbatch_are_known(tmp_path):
    if shutil.which("sbatch") is None:
        pytest.skip("no sbatch in PATH")
    conf = tmp_path / "slurm.conf"  # it reads one even to print its help
    conf.write_text("ClusterName=none\nSlurmctldHost=nowhere(127.0.0.1)\n")
    done = subprocess.run(["sbatch", "--help"], capture_output=True, text=True, timeout=limit(20),
                          env={"PATH": os.environ["PATH"], "SLURM_CONF": str(conf)})
    options = set(re.findall(r"^ +(?:-\w,? +)?--([a-z][a-z-]+)", done.stdout, re.MULTILINE))
    assert len(options) > 50, done.stderr
    assert options - SLURM.known == {"help", "usage", "version", "wrap", "parsable"}


# --- values


@pytest.mark.parametrize(("text", "seconds", "slurm", "pbs"), [
    ("90", 5400, "01:30:00", "01:30:00"), ("5:30", 330, "00:05:30", "00:05:30"),
    ("2:00:00", 7200, "02:00:00", "02:00:00"), ("48:00:00", 172800, "2-00:00:00", "48:00:00"),
    ("1-2", 93600, "1-02:00:00", "26:00:00"), ("1-02:30", 95400, "1-02:30:00", "26:30:00"),
    ("10-00:00:01", 864001, "10-00:00:01", "240:00:01"),
])
def test_a_time_limit_in_each_schedulers_form(text, seconds, slurm, pbs):
    assert read_time(text) == seconds
    assert edited(SLURM, portable=Portable(time=seconds))["time"] == slurm
    assert edited(PBS, portable=Portable(time=seconds))["l:walltime"] == pbs
    for dialect in DIALECTS.values():
        assert dialect.portable(edited(dialect, portable=Portable(time=seconds))).time == seconds


@pytest.mark.parametrize("text", ["", "0", "0:00", "2h", "1:2:3:4", "-1", "1-", "1.5", "infinite"])
def test_other_texts_are_no_time_limit(text):
    with pytest.raises(InputError, match="give minutes, H:MM:SS or D-HH:MM:SS"):
        read_time(text)


@pytest.mark.parametrize(("text", "megabytes", "slurm", "pbs"), [
    ("64G", 65536, "64G", "64gb"), ("4000", 4000, "4000M", "4000mb"),
    ("512mb", 512, "512M", "512mb"), ("1T", 1048576, "1024G", "1024gb")])
def test_memory_in_each_schedulers_form(text, megabytes, slurm, pbs):
    assert read_memory(text) == megabytes
    assert edited(SLURM, portable=Portable(mem=megabytes))["mem"] == slurm
    assert edited(PBS, portable=Portable(mem=megabytes))["l:select"].endswith(f":mem={pbs}")


@pytest.mark.parametrize("text", ["", "0", "G", "1.5G", "64X", "-1", "64 G"])
def test_other_texts_are_no_amount_of_memory(text):
    with pytest.raises(InputError, match="like --mem 64G"):
        read_memory(text)


@pytest.mark.parametrize(("requested", "message"), [
    (Portable(name="hd-train-multinode"), "15 characters.*like --name hd-train-multin"),
    (Portable(name="a b"), "not a valid job name for PBS"),
    (Portable(array="1,3"), "PBS accepts FIRST-LAST"),
    (Portable(account=""), "--account: the value is empty"),
])
def test_values_that_pbs_does_not_accept(requested, message):
    with pytest.raises(InputError, match=message):
        edited(PBS, portable=requested)
    with pytest.raises(InputError, match="15 characters"):
        edited(PBS, settings=[("N", "n" * 16)])
    assert edited(PBS, settings=[("N", "n" * 15)])["N"] == "n" * 15


@pytest.mark.parametrize("select", ["1:ncpus=2+2:ncpus=4", "4", "host=a", ""])
def test_a_select_of_different_chunks_can_only_be_replaced_as_a_whole(select):
    text = PBS_SCRIPT.replace("2:ncpus=32:mpiprocs=4:ngpus=4", select)
    with pytest.raises(InputError, match=r"give all of it, like --set select=|CPUs a rank"):
        render(text, PBS, Request(Portable(nodes=2, ranks_per_node=2)))
    given = render(text, PBS, Request(settings=[("select", "2:ncpus=1")]))
    assert "#PBS -l select=2:ncpus=1\n" in given


@pytest.mark.parametrize("value", ["two words", "it's", 'say "x"', "back\\slash", "# no comment",
                                   "$HOME `id` $(id)", "é…", "a=b,c:d"])
def test_a_slurm_value_is_quoted_as_sbatch_reads_it(value):
    """Real sbatch 22.05 showed each of these, unchanged, as the job's comment."""
    assert edited(SLURM, settings=[("comment", value)])["comment"] == value
    line = SLURM.write("comment", value)
    unquoted = line.removeprefix("#SBATCH --comment=")
    assert unquoted == value or unquoted[0] == unquoted[-1] == '"'


@pytest.mark.parametrize("value", ["two words", "it's", 'say "x"', "# no comment", "$(id)", "é…"])
def test_a_pbs_value_is_quoted_as_qsub_reads_it(value):
    assert edited(PBS, settings=[("v", value)])["v"] == value
    assert edited(PBS, settings=[("l:note", value)])["l:note"] == value


@pytest.mark.parametrize("value", ["back\\slash", "it's \"both\""])
def test_what_qsub_cannot_read_is_refused(value):
    with pytest.raises(InputError, match="qsub can't read a backslash, or both kinds of quotes"):
        edited(PBS, settings=[("v", value)])


HARMFUL = ["$(touch harm)", "`touch harm`", "'; touch harm; '", '"; touch harm; "',
           "a}; touch harm", "}'$(touch harm)'{", "${HOME}", "\\", "a\\'b", "*", "~", "-n",
           "two  spaces ", "é…", "!!", "", "a}  # b", "#x"]


@pytest.mark.parametrize("value", HARMFUL)
def test_nothing_of_a_value_reaches_the_shell_unquoted(value, tmp_path):
    """bash, running the rendered script, sees variables, arguments and the clone's path unchanged,
    and runs no command in them."""
    text = render(SLURM_SCRIPT, SLURM, Request(
        variables={"DATA": value, "LAST": value}, arguments=["--note", value],
        inserted={"HPC_DEEPFAKE_HOME": value}))
    show = 'printf "%s\\0" "$DATA" "$LAST" "$HPC_DEEPFAKE_HOME" "$@"'
    script = text.replace("clone=$PWD\ntrain\n", f"{show}\n").replace("${SLURM_JOB_ID}", "1")
    done = subprocess.run(["bash", "-s", "given later"], input=script.encode(), cwd=tmp_path,
                          capture_output=True, timeout=limit(20), env={"PATH": "/usr/bin:/bin"})
    assert done.returncode == 0, done.stderr
    assert done.stdout.decode().split("\0")[:-1] == [value] * 3 + ["--note", value, "given later"]
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("mark", ["# What to change", "# Variables"])
def test_rendered_values_take_precedence_over_the_environment(mark):
    """Also without the comment above the variables; an empty value means the script's default."""
    text = render(SLURM_SCRIPT.replace("# What to change", mark), SLURM, Request(
        variables={"DATA": "written", "DEVICE": ""}, inserted={"HPC_DEEPFAKE_HOME": "here"}))
    show = 'echo "$DATA $DEVICE $LAST $HPC_DEEPFAKE_HOME"'
    script = text.replace("clone=$PWD\ntrain\n", f"{show}\n").replace("${SLURM_JOB_ID}", "1")
    theirs = dict.fromkeys(("DATA", "DEVICE", "LAST", "HPC_DEEPFAKE_HOME"), "theirs")
    done = subprocess.run(["bash", "-s"], input=script, capture_output=True, text=True,
                          timeout=limit(20), env={"PATH": "/usr/bin:/bin", **theirs})
    assert done.stdout == "written gpu theirs here\n"


def test_rendering_and_write_script_of_jobs_lib_agree(tmp_path):
    """The same lines in the same place; later ones take precedence."""
    library = (ROOT / "jobs" / "lib" / "submit.sh").read_text(encoding="utf-8")
    function = re.search(r"^write_script\(\) \{\n.*?^\}\n", library, re.MULTILINE | re.DOTALL)[0]
    script = tmp_path / "job.sh"

    def written(text: str) -> str:
        script.write_text(text)
        return subprocess.run(
            ["bash", "-c", f'{function} write_script "$@"', "bash", script, "DATA=a.h5", "RUN=r"],
            capture_output=True, text=True, check=True, timeout=limit(20)).stdout

    def rendered(text: str) -> str:
        return render(text, SLURM, Request(variables={"DATA": "a.h5", "RUN": "r"}))

    assert written(SLURM_SCRIPT) == rendered(SLURM_SCRIPT)
    both = written(render(SLURM_SCRIPT, SLURM, Request(variables={"DATA": "before.h5"})))
    assert "\nDATA=before.h5\nDATA=a.h5\nRUN=r\n# What to change" in both


def test_the_mark_in_a_comment_among_the_directives_is_ignored():
    """Directives after a command would not be read."""
    text = SLURM_SCRIPT.replace("# Train.", "# What to change: all.")
    now = edited(SLURM)
    assert directives(render(text, SLURM, Request(variables={"DATA": "x"})), SLURM) == now


@both
@pytest.mark.parametrize("bad", ["a\nb", "a\rb", "a\0b", "\x1b[31m", "tab\t", "\x7f"])
def test_line_breaks_and_control_characters_are_refused_everywhere(dialect, bad):
    key = {"slurm": "comment", "pbs": "v"}[dialect.name]
    for request in (Request(settings=[(key, bad)]), Request(variables={"DATA": bad}),
                    Request(arguments=[bad]), Request(inserted={"HPC_DEEPFAKE_HOME": bad}),
                    Request(Portable(account=bad))):
        with pytest.raises(InputError, match="line break or another control character"):
            render(SCRIPTS[dialect.name], dialect, request)


def test_text_that_is_not_utf_8_is_refused():
    with pytest.raises(InputError, match="not UTF-8"):
        edited(SLURM, variables={"DATA": "a\udcff"})


def test_characters_at_which_python_splits_lines_and_a_shell_does_not():
    """U+2028, a form feed in a script's own comment: still one line."""
    text = SLURM_SCRIPT.replace("# Train.", "# Train.\u2028#SBATCH --nodes=99\x0c#SBATCH --x")
    assert directives(text, SLURM)["nodes"] == "2"
    assert edited(SLURM, settings=[("comment", "a\u2028b")])["comment"] == "a\u2028b"


# --- scripts of another form


def test_an_unknown_variable_is_refused_and_the_valid_ones_are_named():
    with pytest.raises(InputError, match=r"variable DTA \(did you mean DATA\?\); it has DATA, R"):
        edited(SLURM, variables={"DTA": "x"})


@pytest.mark.parametrize(("dialect", "line"), [
    (SLURM, "#SBATCH -N 2"), (SLURM, "#SBATCH --nodes 2 --ntasks 4"), (SLURM, "#SBATCH nodes=2"),
    (SLURM, "#SBATCH --comment='open"), (PBS, "#PBS select=2"), (PBS, "#PBS -N a b"),
    (PBS, "#PBS -l select=1:ncpus=1,walltime=1:00")])
def test_a_directive_in_another_form_is_refused_with_its_line(dialect, line):
    text = SCRIPTS[dialect.name].replace("# Train.", line)
    with pytest.raises(InputError, match=re.escape("line 2 of the script: ")) as refused:
        render(text, dialect, Request())
    assert line in str(refused.value)


@pytest.mark.parametrize(("dialect", "line", "key", "value"), [
    (SLURM, "#SBATCH --nodes 3", "nodes", "3"), (SLURM, "#SBATCH --nodes=3 # three", "nodes", "3"),
    (PBS, "#PBS -lplace=pack", "l:place", "pack"), (PBS, "#PBS  -q  small", "q", "small"),
    (PBS, "#PBS -W depend=afterok:1,afterany:2", "W:depend", "afterok:1,afterany:2")])
def test_other_ways_to_write_a_directive(dialect, line, key, value):
    assert directives(f"#!/bin/bash\n{line}\ntrue\n", dialect) == {key: value}


def test_a_script_without_directives_gets_them_after_its_first_line():
    text = render("#!/bin/bash\nset -euo pipefail\ntrue\n", SLURM, Request(Portable(nodes=1)))
    assert text == "#!/bin/bash\n#SBATCH --nodes=1\nset -euo pipefail\ntrue\n"


def test_a_script_without_strict_mode_is_of_another_form():
    with pytest.raises(InputError, match="no line 'set -euo pipefail'"):
        render("#!/bin/bash\ntrue\n", SLURM, Request())
