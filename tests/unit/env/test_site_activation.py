"""What ``env/activate.sh`` does with a site file: modules, the shell's options, and the variables
that sbatch reads."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT
from speed import limit

from hpc_deepfake.jobs.site.words import OTHERS, WORDS

# A module command in the style of Lmod: it reads variables that are not set, takes parts of
# versions and other names, swaps what excludes each other, and returns 1 for what it doesn't find.
LMOD = r"""
module() {
    [[ $LMOD_TRACING_OFF != yes ]] || set -x
    local full
    case $2 in
        gcc | gcc/13 | gcc/13.2.0 | gcc/latest) full=gcc/13.2.0 ;;
        openmpi/4.1 | mpi) full=openmpi/4.1.5-gcc13 ;;
        PrgEnv-gnu) full=PrgEnv-gnu/8.5.0 ;;
        *) full= ;;
    esac
    case $1 in
        load)
            if [[ -z $full ]]; then
                echo "Lmod has detected the following error: unknown module \"$2\"" >&2
                return 1
            fi
            LOADEDMODULES=${LOADEDMODULES/PrgEnv-cray\/8.5.0/}
            [[ :$LOADEDMODULES: == *":$full:"* ]] || export LOADEDMODULES=$LOADEDMODULES:$full
            ;;
        is-loaded) [[ -n $full && :$LOADEDMODULES: == *":$full:"* ]] ;;
    esac
}
"""
# Version 3 of Environment Modules reports success always.
OLD = LMOD.replace("return 1", "return 0").replace(
    "is-loaded)", "is-loaded) echo 'ModuleCmd: unrecognized subcommand' >&2 ;; none)")


@pytest.fixture
def activate(tmp_path):
    """Sources a clone's activate.sh in bash between other commands, with these site files."""
    clone = tmp_path / "my clone"
    shutil.copytree(ROOT / "env", clone / "env")
    (clone / ".venv" / "bin").mkdir(parents=True)
    (clone / ".venv" / "bin" / "python").symlink_to(sys.executable)

    def run(site, before="", after="", sites=(), **variables):
        for name, text in {"here": site, **dict(sites)}.items():
            (clone / "env" / "sites" / f"{name}.sh").write_text(text)
        script = f'{before}\nsource "{clone}/env/activate.sh" || echo "code $?"\n{after}'
        return subprocess.run(
            ["bash", "-c", script], capture_output=True, text=True, timeout=limit(60), cwd=tmp_path,
            env={"PATH": os.environ["PATH"], "HOME": str(tmp_path), "SITE": "here", **variables})

    return run


# --- modules


@pytest.mark.parametrize("modules", [LMOD, OLD])
@pytest.mark.parametrize(("asked", "loaded"), [
    ("gcc", "gcc/13.2.0"), ("gcc/13", "gcc/13.2.0"), ("gcc/13.2.0", "gcc/13.2.0"),
    ("openmpi/4.1", "openmpi/4.1.5-gcc13"), ("gcc/latest", "gcc/13.2.0"),
    ("PrgEnv-gnu", "PrgEnv-gnu/8.5.0")])
def test_modules_may_be_loaded_under_longer_names(activate, modules, asked, loaded):
    """In a strict shell, and again in a job, which inherits what the login node has loaded."""
    again = "" if (modules, asked) == (OLD, "gcc/latest") else f"load_modules {asked} || return\n"
    done = activate(f"load_modules {asked} || return\n{again}", f"set -euo pipefail\n{modules}",
                    'echo "$LOADEDMODULES"; declare -F', LOADEDMODULES="PrgEnv-cray/8.5.0")
    names, *functions = done.stdout.splitlines()
    assert loaded in names.split(":"), done.stderr
    assert functions == ["declare -f module"] and "activate.sh" not in done.stderr


def test_a_name_that_is_an_alias_of_another_module(activate):
    done = activate("load_modules mpi mpi || return\n", f"set -euo pipefail\n{LMOD}",
                    'echo "$LOADEDMODULES"')
    assert done.stdout.strip(":\n") == "openmpi/4.1.5-gcc13", done.stderr


@pytest.mark.parametrize("modules", [LMOD, OLD])
@pytest.mark.parametrize("asked", ["nosuch/1.0", "gcc/1", "gc"])
def test_a_module_that_was_not_loaded_is_an_error_after_others_were(activate, modules, asked):
    """Also where a module of a similar name is loaded; the shell goes on."""
    done = activate(f"load_modules gcc/13 openmpi/4.1 {asked} PrgEnv-gnu || return\n",
                    f"set -euo pipefail\n{modules}", 'echo "$LOADEDMODULES $-"')
    code, rest = done.stdout.splitlines()
    assert code == "code 2" and "PrgEnv" not in rest and {"e", "u"} <= set(rest.split()[1])
    assert [line for line in done.stderr.splitlines() if line.startswith("activate.sh")] == [
        f"activate.sh: module {asked} of env/sites/here.sh can't be loaded; see: module avail "
        f"{asked.split('/')[0]}"]


@pytest.mark.parametrize("word", ["HPC_DEEPFAKE_PROFILE={}/init/bash\n",
                                  "module use /more || return\n"])
def test_job_shells_without_a_module_command_get_it_from_a_profile_script(activate, tmp_path, word):
    """The one that the site file names, or that of the module system of the login node. Such
    scripts use unset variables, and commands that fail."""
    home = tmp_path / "lmod"
    (home / "init").mkdir(parents=True)
    (home / "init" / "bash").write_text(f'[ -z "$NOT_SET" ] && false\n{LMOD}')
    inherited = {"MODULESHOME": str(home)} if "use" in word else {}
    done = activate(f"{word.format(home)}load_modules gcc || return\n", "set -euo pipefail",
                    'echo "$LOADEDMODULES"', **inherited)
    assert done.stdout == ":gcc/13.2.0\n", done.stderr
    done = activate("load_modules gcc || return\n", "set -eu")
    assert done.stdout == "code 2\n"
    assert "export HPC_DEEPFAKE_PROFILE=/etc/profile.d/lmod.sh" in done.stderr


@pytest.mark.parametrize("names", ["", '""', "$NOT_SET", 'gcc "$NOT_SET"'])
def test_load_modules_without_names(activate, names):
    """Also where the site file goes on after it."""
    done = activate(f"\nload_modules {names}\nexport HPC_DEEPFAKE_QOS=q\n",
                    f"set -euo pipefail\n{LMOD}")
    assert done.stdout == "code 2\n"
    assert done.stderr == "activate.sh: env/sites/here.sh line 2: load_modules names no module\n"


@pytest.mark.skipif(shutil.which("modulecmd") is None, reason="no Environment Modules here")
def test_real_environment_modules(activate, tmp_path):
    files = tmp_path / "modulefiles"
    for name in ("gcc/12.3.0", "gcc/13.2.0", "openmpi/4.1.5-gcc13"):
        (files / name).parent.mkdir(parents=True, exist_ok=True)
        (files / name).write_text("#%Module\nsetenv LOADED yes\n")
    (files / "gcc" / ".modulerc").write_text("#%Module\nmodule-version gcc/13.2.0 latest\n")
    shell = f"set -euo pipefail; eval \"$(modulecmd bash autoinit)\"; module use '{files}'"
    for asked in ("gcc/13", "gcc/latest gcc/latest gcc@13", "gcc/12 openmpi/4.1"):
        done = activate(f"load_modules {asked} || return\n", shell, 'echo "$LOADEDMODULES"')
        assert "code" not in done.stdout and "gcc/1" in done.stdout, (asked, done.stderr)
    done = activate("load_modules gcc/13 gcc/1 || return\n", shell)
    assert done.stdout == "code 2\n" and "module gcc/1 of" in done.stderr


# --- the shell

STATE = 'printf "%s|" "$SHELLOPTS" "$BASHOPTS" "$IFS" "$(trap -p)"; echo'


def test_a_sites_scripts_run_in_a_plain_shell_and_leave_the_users_as_it_was(activate, tmp_path):
    """Its unset variables, failing commands, split words, patterns and overwritten files are no
    errors; options, traps and IFS that it changes are the user's again."""
    (tmp_path / "there").touch()
    site = r"""
        echo "unset: $NOT_SET"; false; false | true
        words="a b"; set -- $words; [ $# = 2 ] || echo not split
        [ "$(echo /no-such-*)" = "/no-such-*" ] || echo no pattern
        [ "$(echo /et[c])" = /etc ] || echo no glob
        echo >there || echo not overwritten
        IFS=:; set -o noglob; shopt -s extglob nullglob; shopt -u sourcepath
        trap 'echo theirs' EXIT USR1 USR2; trap 'echo error' ERR; trap 'x=$?' DEBUG
        export HPC_DEEPFAKE_QOS=long
        cd . ; [[ -d /no/such ]] && echo never
        true"""
    before = f"""set -eEfuC -o pipefail; shopt -s nullglob failglob; IFS=$',\n'
        trap 'echo mine' EXIT; trap 'echo "line
        two" $x' USR1; trap 'exit 9' ERR; {STATE}"""
    done = activate(site, before, f"{STATE}; trap - EXIT; echo $SBATCH_QOS")
    first, second = done.stdout.split("unset: \n")
    assert second == first + "long\n", done.stderr
    assert done.returncode == 0 and not done.stderr


def test_an_err_trap_without_errtrace_is_kept_too(activate):
    done = activate("trap 'echo theirs' ERR\n", "trap 'echo mine' ERR", "false; trap -p ERR")
    assert done.stdout == "mine\ntrap -- 'echo mine' ERR\n", done.stderr


@pytest.mark.parametrize("end", ["return 3", "source /no/such/file", "(exit 3)"])
def test_a_site_file_that_fails_is_reported(activate, end):
    done = activate(f"set -e\nfalse\n{end}\n", "set -euo pipefail", 'echo "still here $-"')
    code, rest = done.stdout.splitlines()
    assert code == "code 2" and rest.startswith("still here ") and {"e", "u"} <= set(rest[11:])
    *_, last = done.stderr.splitlines()
    status = "1" if "source" in end else "3"
    assert last == (f"activate.sh: env/sites/here.sh failed (status {status}); if its last command "
                    "may fail, end the file with: return 0")


def test_conda_like_activation_in_a_site_file(activate, tmp_path):
    """A function that reads PS1 and CONDA_SHLVL, which are not set in a job, and exports paths."""
    (tmp_path / "conda.sh").write_text(r"""
        conda() { local old=$PS1; export CONDA_SHLVL=$((CONDA_SHLVL + 1)) CONDA_PREFIX=$2
            PATH=$2/bin:$PATH; PS1="($2) $old"; }""")
    done = activate(f"source '{tmp_path}/conda.sh'\nconda activate /opt/stack\n",
                    "set -euo pipefail", 'echo "$CONDA_SHLVL $PATH"')
    level, path = done.stdout.split(" ", 1)
    assert level == "1" and path.split(":")[1] == "/opt/stack/bin", done.stderr


# --- words

SBATCH = 'for name in $(compgen -e SBATCH_ | sort); do echo "$name=${!name}"; done'
KINDS = """export HPC_DEEPFAKE_GPU_ACCOUNT=p_g HPC_DEEPFAKE_CPU_ACCOUNT=p HPC_DEEPFAKE_QOS=regular
    export HPC_DEEPFAKE_GPU_OPTIONS='-C gpu&hbm80g --gres gpu:4' HPC_DEEPFAKE_SMALL_QOS=shared
    export HPC_DEEPFAKE_CPU_OPTIONS='--constraint="cpu" -t30 --exclusive --mem=0 --no-kill'
    export HPC_DEEPFAKE_SMALL_OPTIONS=-Ccpu HPC_DEEPFAKE_PARTITION='debug:2 prod'
"""


@pytest.mark.parametrize(("kind", "expected"), [
    ("", "ACCOUNT=p_g CONSTRAINT=gpu&hbm80g GRES=gpu:4 QOS=regular"),
    ("gpu", "ACCOUNT=p_g CONSTRAINT=gpu&hbm80g GRES=gpu:4 QOS=regular"),
    ("cpu", "ACCOUNT=p CONSTRAINT=cpu EXCLUSIVE= MEM_PER_NODE=0 NO_KILL= QOS=regular TIMELIMIT=30"),
    ("small", "ACCOUNT=p CONSTRAINT=cpu QOS=shared")])
def test_sbatch_by_hand_gets_the_options_for_a_kind_of_jobs(activate, kind, expected):
    """As variables that sbatch reads. A partition that depends on the nodes is none of them."""
    done = activate(KINDS, "set -euo pipefail", SBATCH, HPC_DEEPFAKE_KIND=kind)
    assert done.stdout.splitlines() == [f"SBATCH_{word}" for word in expected.split()], done.stderr


def test_general_options_are_those_of_all_kinds_and_the_kinds_own_win(activate):
    site = """export HPC_DEEPFAKE_OPTIONS='--hint=nomultithread -C any' HPC_DEEPFAKE_ACCOUNT=p
        export HPC_DEEPFAKE_GPU_OPTIONS=--constraint=gpu\n"""
    done = activate(site, "", SBATCH, HPC_DEEPFAKE_KIND="gpu", SBATCH_ACCOUNT="mine")
    assert done.stdout.split() == ["SBATCH_ACCOUNT=mine", "SBATCH_CONSTRAINT=gpu",
                                   "SBATCH_HINT=nomultithread"]


def test_another_kind_or_site_takes_the_place_of_the_one_before(activate):
    """What the user has set, before or since, stays."""
    again = """export HPC_DEEPFAKE_KIND=cpu SBATCH_QOS=mine SITE=there
        source "my clone/env/activate.sh"
        export HPC_DEEPFAKE_LOCAL=/mine SITE=here; source "my clone/env/activate.sh"
        echo "$SBATCH_ACCOUNT $SBATCH_QOS ${SBATCH_GRES-none} $HPC_DEEPFAKE_LOCAL"
        SITE=there; source "my clone/env/activate.sh"; """
    shown = 'echo "${HPC_DEEPFAKE_QOS-none} $SBATCH_QOS ${SBATCH_ACCOUNT-none} $HPC_DEEPFAKE_LOCAL"'
    done = activate(KINDS, "set -eu", again + shown, sites={
        "there": "export HPC_DEEPFAKE_LOCAL=${HPC_DEEPFAKE_LOCAL:-/theirs}\n"}.items())
    assert done.stdout.splitlines() == ["p mine none /mine", "none mine none /mine"], done.stderr


def test_words_need_no_export_and_are_listed(activate):
    site = "HPC_DEEPFAKE_LAUNCHER=srun\nHPC_DEEPFAKE_ENV=${HPC_DEEPFAKE_ENV:-/x}\n"
    done = activate(site, "set -eu", "env | grep LAUNCHER; echo $HPC_DEEPFAKE_SITE_WORDS",
                    HPC_DEEPFAKE_ENV=sys.prefix)
    word = "HPC_DEEPFAKE_LAUNCHER=srun"
    listed = f"{word}\x1f"
    assert set(done.stdout.splitlines()) == {word, f"HPC_DEEPFAKE_SITE_WORDS={listed}", listed}


def test_options_for_which_sbatch_reads_no_variable_are_named(activate, tmp_path):
    (tmp_path / "sbatch").write_text("#!/bin/sh\n")
    (tmp_path / "sbatch").chmod(0o755)
    site = "export HPC_DEEPFAKE_OPTIONS='--licenses=scratch --mail-type END -C gpu'\n"
    path = f"{tmp_path}:{os.environ['PATH']}"
    done = activate(site, "", SBATCH, PATH=path)
    assert done.stdout == "SBATCH_CONSTRAINT=gpu\n"
    assert "doesn't get --licenses=scratch --mail-type=END of site here" in done.stderr
    assert not activate(site, "", "", PATH=path, SLURM_JOB_ID="7").stderr


def test_qsubs_options_are_not_sbatchs(activate):
    site = "export HPC_DEEPFAKE_SCHEDULER=pbs HPC_DEEPFAKE_ACCOUNT=p HPC_DEEPFAKE_OPTIONS='-P x'\n"
    done = activate(site, "", SBATCH)
    assert (done.stdout, done.stderr) == ("", "")


@pytest.mark.parametrize(("word", "message"), [
    ("PYTHON=mine", "HPC_DEEPFAKE_PYTHON=mine: its only value is site"),
    ("KIND=big", "HPC_DEEPFAKE_KIND=big: give gpu, cpu or small"),
    ("SCHEDULER=lsf", "HPC_DEEPFAKE_SCHEDULER=lsf: give slurm or pbs"),
    ("DEVICE=tpu", "HPC_DEEPFAKE_DEVICE=tpu: give cpu, gpu or auto"),
    ("RESUBMIT=never", "HPC_DEEPFAKE_RESUBMIT=never: give auto, yes or no"),
    ("IMAGE=/no/it.sif", "no container image /no/it.sif (HPC_DEEPFAKE_IMAGE of site here)")])
def test_impossible_values(activate, word, message):
    done = activate(f"export HPC_DEEPFAKE_{word}\n", "set -euo pipefail", "echo here")
    assert done.stdout == "code 2\nhere\n"
    assert done.stderr == f"activate.sh: {message}\n"


def test_a_word_that_the_site_file_made_up(activate):
    """What the user's shell holds is not the site file's."""
    done = activate("# x\nexport HPC_DEEPFAKE_QOS=q HPC_DEEPFAKE_ACOUNT=p\n", "set -euo pipefail",
                    "echo here", HPC_DEEPFAKE_MINE="1")
    assert done.stdout == "code 2\nhere\n"
    assert done.stderr.startswith("activate.sh: env/sites/here.sh line 2: HPC_DEEPFAKE_ACOUNT is "
                                  "unknown; the words are in env/sites/template.sh")
    assert activate("", HPC_DEEPFAKE_MINE="1").stdout == ""


def test_bash_and_python_know_the_same_words():
    text = (ROOT / "env" / "activate.sh").read_text(encoding="utf-8")
    known = re.search(r"local name line known='\n([^']*)'", text)
    assert known is not None and set(known[1].split()) == set(WORDS) | OTHERS


def test_a_file_with_windows_line_ends(activate):
    done = activate("export HPC_DEEPFAKE_ACCOUNT=p\r\n", "set -euo pipefail")
    assert done.stdout == "code 2\n"
    assert done.stderr == ("activate.sh: env/sites/here.sh has Windows line ends: remove them "
                           "with: sed -i 's/\\r$//' env/sites/here.sh\n")


@pytest.mark.parametrize("container", ["shifter", "podman-hpc", "pyxis"])
def test_images_of_other_tools_are_names(activate, container):
    site = f"export HPC_DEEPFAKE_IMAGE=lab/it:1 HPC_DEEPFAKE_CONTAINER={container}\n"
    done = activate(site, "set -eu", "echo $PYTHONPATH")  # the image runs the clone's code
    assert done.stdout.rstrip().endswith("/my clone"), done.stderr


# --- a site's own Python


def test_the_python_of_a_site_runs_the_clones_code(activate, tmp_path):
    """Without an environment; the command hpc-deepfake is there nevertheless. The environment of an
    earlier activation is gone."""
    Path(tmp_path / "my clone" / "hpc_deepfake").symlink_to(ROOT / "hpc_deepfake")
    Path(tmp_path / "my clone" / "jobs").symlink_to(ROOT / "jobs")
    after = 'echo "${VIRTUAL_ENV-none} $PYTHONPATH|$PATH"; hpc-deepfake --version'
    path = f"{Path(sys.executable).parent}:/usr/bin:/bin"
    before = 'set -euo pipefail\nSITE="" . "my clone/env/activate.sh"'
    done = activate("export HPC_DEEPFAKE_PYTHON=site\n", before, after, PATH=path,
                    PYTHONPATH="/their")
    first, version = done.stdout.splitlines()
    clone = tmp_path / "my clone"
    assert first.startswith(f"none {clone}:/their|{clone}/env/bin:"), done.stderr
    assert f"{clone}/.venv/bin" not in first and version.startswith("hpc-deepfake ")


def test_a_site_with_an_old_python_is_refused(activate, tmp_path):
    old = tmp_path / "python3"
    old.write_text("#!/bin/sh\n[ $1 = -c ] && exit 1; echo Python 3.6.8\n")
    old.chmod(0o755)
    path = {"PATH": f"{tmp_path}:{os.environ['PATH']}"}
    done = activate("export HPC_DEEPFAKE_PYTHON=site\n", "set -euo pipefail", "", **path)
    assert done.stdout == "code 2\n"
    assert "python3 is Python 3.6.8, not 3.11 or newer" in done.stderr
    # A container that srun starts has its own.
    site = "export HPC_DEEPFAKE_PYTHON=site HPC_DEEPFAKE_SRUN_OPTIONS=--environment=/x.toml\n"
    assert activate(site, "set -euo pipefail", "", **path).stdout == ""


# --- the environment


@pytest.fixture
def of_another_clone(tmp_path):
    """The environment of the clone, built from the clone `theirs` by the stamp of setup.sh."""
    stamps = tmp_path / "my clone" / ".venv" / "stamps"

    def build(clone):
        stamps.mkdir(exist_ok=True)
        (stamps / "project").write_text(f"{clone} 0123456789abcdef python 3.11 fedcba9876543210\n")

    return build


def test_an_environment_of_another_clone_runs_this_ones_code(activate, tmp_path, of_another_clone):
    """And again that of the other clone, when that one is activated in the same shell."""
    mine, theirs = tmp_path / "my clone", tmp_path / "their clone"
    shutil.copytree(ROOT / "env", theirs / "env")
    of_another_clone(theirs)
    shown = 'echo "${PYTHONPATH-}|$PATH"'
    after = f"""{shown}; export SITE= HPC_DEEPFAKE_ENV="{mine}/.venv"
        source "{theirs}/env/activate.sh"; {shown}"""
    done = activate("", "set -euo pipefail", after, PYTHONPATH="/more")
    first, second = done.stdout.splitlines()
    assert first.startswith(f"{mine}:/more|{mine}/env/bin:{mine}/.venv/bin:"), done.stderr
    assert second.startswith(f"/more|{mine}/.venv/bin:") and f"{mine}/env/bin" not in second
    assert done.stderr == (f"activate.sh: note: the environment {mine}/.venv was built from the "
                           f"clone {theirs}; the code that runs is that of {mine}\n")


def test_an_environment_of_this_clone_is_as_it_is(activate, tmp_path, of_another_clone):
    (tmp_path / "link").symlink_to(tmp_path / "my clone")
    for clone in ("link", "my clone"):
        of_another_clone(tmp_path / clone)
        done = activate("", "set -euo pipefail", 'echo "${PYTHONPATH-none}"')
        assert (done.stdout, done.stderr) == ("none\n", "")


@pytest.mark.parametrize("python", [None, "#!/no/such/interpreter\n", "#!/bin/false\n"])
def test_an_environment_whose_python_this_node_cannot_run(activate, tmp_path, python):
    """Its Python belongs to a module, to another architecture, or to another machine."""
    target = tmp_path / "python3"
    if python:
        target.write_text(python)
        target.chmod(0o755)
    link = tmp_path / "my clone" / ".venv" / "bin" / "python"
    link.unlink()
    link.symlink_to(target)
    done = activate("", "set -euo pipefail")
    assert done.stdout == "code 2\n"
    assert f"{link} leads to {target}, which this node can't run: load the Python" in done.stderr


@pytest.mark.parametrize("command", ["bash {}", "bash --posix {}", "sh {}", "sh -c '. {}'"])
def test_executed_or_in_another_shell_it_says_how_to_use_it(command):
    if command.startswith("sh -c") and Path("/bin/sh").resolve().name == "bash":
        pytest.skip("sh is bash, which may source it")
    done = subprocess.run(["bash", "-c", command.format(ROOT / "env" / "activate.sh")],
                          capture_output=True, text=True, timeout=limit(60))
    assert done.returncode == 2
    assert done.stderr == "activate.sh: source it, in bash: source env/activate.sh\n"
