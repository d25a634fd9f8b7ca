"""How jobs start their ranks: the words of each launcher, of each kind of container, and of each
example site, with programs that only print what they were called with."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT
from job_scripts import JOBS, command, run_script
from speed import limit

SIZES = {"nodes": "2", "ranks": "8", "cpus": "7", "gpus": "4", "scheduler": "slurm"}


def words(folder: Path, *arguments: str, version: str = "", sizes: dict[str, str] | None = None,
          **variables: str) -> list[str]:
    """The launcher's words for ``launch ARGUMENTS… program`` in a job of these sizes, until the
    program."""
    for name in ("srun", "mpirun", "mpiexec", "jsrun", "flux", "aprun"):
        command(folder, name, f"""
            [[ "$*" != --version ]] || {{ echo '{version}'; exit; }}
            [[ "$*" != --mpi=list ]] || {{ echo 'pmix pmix_v4 pmi2 cray_shasta'; exit; }}
            printf '%s\\n' {name} "$@" >launched""")
    given = "".join(f"job_{name}={value}\n" for name, value in {**SIZES, **(sizes or {})}.items())
    script = f"""set -euo pipefail
        SITE=here EXIT_STOPPED=75 job_id=7 job_step=training job_lib={JOBS}/lib job_records=.
        {given}
        die() {{ echo "error: $*"; exit 2; }}
        source {JOBS}/lib/container.sh; source {JOBS}/lib/launch.sh
        container gpu
        launch {' '.join(arguments)} program"""
    done = subprocess.run(["bash", "-c", script], cwd=folder, capture_output=True, text=True,
                          timeout=limit(60), env={"PATH": f"{folder}:/usr/bin:/bin", **variables})
    if done.returncode == 2:
        return [done.stdout.strip()]
    assert done.returncode == 0, done.stderr
    called = (folder / "launched").read_text().splitlines()
    assert called[-3:] == ["bash", f"{JOBS}/lib/rank.sh", "program"]
    return without_variables(called[:-3])


def without_variables(call: list[str]) -> list[str]:
    """A call without the names of variables that mpirun passes on."""
    return [word for before, word in zip(["", *call], call, strict=False)
            if "-x" not in (before, word)]


# --- launchers

SRUN = ("srun --mpi={} --job-name=training --kill-on-bad-exit=1 --export=ALL --ntasks=8 "
        "--ntasks-per-node=4 --cpus-per-task=7")


@pytest.mark.parametrize(("launcher", "expected"), [
    ("auto", SRUN.format("pmix")),
    ("mpirun", "mpirun -np 8 --map-by ppr:4:node --bind-to none"),
    ("jsrun -n {nodes} -r 1 -a {per_node} -c ALL_CPUS -g {gpus} -b packed:{cpus}",
     "jsrun -n 2 -r 1 -a 4 -c ALL_CPUS -g 4 -b packed:7"),
    ("flux run -N {nodes} -n {ranks} -c {cpus} -g 1", "flux run -N 2 -n 8 -c 7 -g 1"),
    ("mpiexec -n {ranks} --ppn {per_node} --depth {cpus} --cpu-bind depth",
     "mpiexec -n 8 --ppn 4 --depth 7 --cpu-bind depth"),
    ("aprun -n {ranks} -N {per_node} -d {cpus} -cc depth", "aprun -n 8 -N 4 -d 7 -cc depth")])
def test_launchers_of_sites(tmp_path: Path, launcher: str, expected: str) -> None:
    found = words(tmp_path, version="mpirun (Open MPI) 4.1.4", HPC_DEEPFAKE_LAUNCHER=launcher)
    assert found == expected.split()


@pytest.mark.parametrize(("launcher", "expected"), [
    ("srun", "srun --mpi=pmix --job-name=training --kill-on-bad-exit=1 --export=ALL --ntasks=2 "
             "--ntasks-per-node=1 --cpus-per-task=7"),
    ("mpirun", "mpirun -np 2 --map-by ppr:1:node --bind-to none"),
    ("flux run -N {nodes} -n {ranks} -c {cpus}", "flux run -N 2 -n 2 -c 7"),
    ("jsrun -n {nodes} -a {per_node}", "jsrun -n 2 -a 1"),
    ("mpiexec -n {ranks} --ppn {per_node}", "mpiexec -n 2 --ppn 1"),
    ("aprun -n {ranks} -N {per_node}", "aprun -n 2 -N 1")])
def test_a_command_once_on_each_node(tmp_path: Path, launcher: str, expected: str) -> None:
    found = words(tmp_path, "--per-node", version="Open MPI", HPC_DEEPFAKE_LAUNCHER=launcher)
    assert found == expected.split()


@pytest.mark.parametrize(("ranks", "expected"), [("1", "flux -N 1 -n 1"), ("6", "flux -N 2 -n 6")])
def test_fewer_ranks_than_the_job_has(tmp_path: Path, ranks: str, expected: str) -> None:
    found = words(tmp_path, "--ranks", ranks, HPC_DEEPFAKE_LAUNCHER="flux -N {nodes} -n {ranks}")
    assert found == expected.split()


@pytest.mark.parametrize(("version", "more", "expected"), [
    ("HYDRA build details: with-x=/opt/openmpi", {}, "-n 8 -ppn 4"),
    ("Intel(R) MPI Library for Linux* OS, Version 2021.9", {}, "-n 8 -ppn 4"),
    ("HYDRA build details:", {"scheduler": "pbs"}, "-n 8 -ppn 4 -f nodes"),
    ("mpiexec version 1.4.0", {"scheduler": "pbs"}, "-n 8 --ppn 4 --depth 7 --cpu-bind depth"),
    ("mpirun (PRRTE) 3.0", {"scheduler": "pbs"},
     "-np 8 --map-by ppr:4:node --bind-to none --hostfile nodes")])
def test_mpirun_of_other_mpis(tmp_path: Path, version: str, more: dict[str, str],
                              expected: str) -> None:
    """MPICH's and PALS's own options; the node file for those that don't ask PBS."""
    (tmp_path / "nodes").write_text("n1\n" * 4 + "n2\n" * 4)
    pbs = {"PBS_NODEFILE": "nodes"} if more else {}
    found = words(tmp_path, version=version, sizes=more, HPC_DEEPFAKE_LAUNCHER="mpirun", **pbs)
    assert " ".join(found[1:]) == expected


def test_an_unknown_mpi_is_refused_with_the_line_that_is_missing(tmp_path: Path) -> None:
    found = words(tmp_path, version="MPT 2.26", HPC_DEEPFAKE_LAUNCHER="mpirun")
    assert "of no known MPI" in found[0] and "HPC_DEEPFAKE_LAUNCHER='mpiexec -n {ranks}" in found[0]


def test_cray_mpich_is_started_by_its_own_interface(tmp_path: Path) -> None:
    assert words(tmp_path, CRAY_MPICH_VERSION="8.1.30") == SRUN.format("cray_shasta").split()
    assert words(tmp_path, CRAY_MPICH_VERSION="8.1.30", HPC_DEEPFAKE_SRUN_MPI="pmi2") == (
        SRUN.format("pmi2").split())


@pytest.mark.parametrize(("launcher", "expected"), [
    ("srun", SRUN.format("pmix").replace("=8", "=10").replace(" --ntasks-per-node=4", "")),
    ("mpirun", "mpirun -np 10 --map-by slot --bind-to none"),
    ("flux run -N {nodes} -n {ranks} --ppn {per_node}", "flux run -N 3 -n 10 --ppn 4")])
@pytest.mark.parametrize("scheduler", ["slurm", "pbs"])
def test_nodes_with_different_numbers_of_ranks(tmp_path: Path, launcher: str, expected: str,
                                               scheduler: str) -> None:
    """Each node gets what the scheduler gave it; a site's own launcher is told the largest."""
    (tmp_path / "nodes").write_text("n1\n" * 4 + "n3\n" * 2 + "n2\n" * 4)
    uneven = {"SLURM_TASKS_PER_NODE": "4(x2),2"} if scheduler == "slurm" else {
        "PBS_NODEFILE": "nodes"}
    if scheduler == "pbs" and launcher == "mpirun":
        expected += " --hostfile nodes"
    found = words(tmp_path, version="Open MPI", HPC_DEEPFAKE_LAUNCHER=launcher, **uneven,
                  sizes={"nodes": "3", "ranks": "10", "scheduler": scheduler})
    assert found == expected.split()
    even = words(tmp_path, SLURM_TASKS_PER_NODE="4(x2)")
    assert even == SRUN.format("pmix").split()


def test_a_value_stays_within_its_word(tmp_path: Path) -> None:
    """Also with spaces, quotes, ampersands and braces: no part of it is a word or a command."""
    image = "/scratch/it's & $(touch oops) {ranks}.sif"
    found = words(tmp_path, HPC_DEEPFAKE_IMAGE=image, HPC_DEEPFAKE_CONTAINER="pyxis",
                  HPC_DEEPFAKE_SRUN_OPTIONS="--x={image},{image} -l")
    assert [word for word in found if "image" in word or "=/scratch" in word] == [
        f"--container-image={image}", f"--x={image},{image}"]
    assert not (tmp_path / "oops").exists()


def test_a_container_of_srun_needs_srun(tmp_path: Path) -> None:
    found = words(tmp_path, HPC_DEEPFAKE_SRUN_OPTIONS="--environment=/x.toml",
                  HPC_DEEPFAKE_LAUNCHER="mpirun")
    assert found[0].startswith("error: srun starts this site's container, but the launcher is mpi")


# --- containers


def contained(folder: Path, kind: str, *paths: str | Path, device: str = "cpu", bind: str = "",
              image: str = "/images/it.sif") -> str:
    """The words before a command in a container, and after + those for srun."""
    script = f"""set -euo pipefail
        source {JOBS}/lib/container.sh
        container {device} "$@"; printf '%s|' "${{contained[@]}}" + "${{srun_options[@]}}" """
    done = subprocess.run(["bash", "-c", script, "bash", *map(str, paths)], cwd=folder,
                          capture_output=True, text=True, timeout=limit(60), env={
                              "PATH": "/usr/bin:/bin", "HPC_DEEPFAKE_IMAGE": image,
                              "HPC_DEEPFAKE_CONTAINER": kind, "HPC_DEEPFAKE_BIND": bind})
    assert done.returncode == 0 or "error: " in done.stderr
    return done.stdout.rstrip("|") if done.returncode == 0 else done.stderr.strip()


@pytest.mark.parametrize(("kind", "gpu", "binds"), [
    ("apptainer", "apptainer|exec|--nv", "--bind|/etc|--bind|/usr/lib|{}|+"),
    ("apptainer-rocm", "apptainer|exec|--rocm", "--bind|/etc|--bind|/usr/lib|{}|+"),
    ("singularity", "singularity|exec|--nv", "--bind|/etc|--bind|/usr/lib|{}|+"),
    ("singularity-rocm", "singularity|exec|--rocm", "--bind|/etc|--bind|/usr/lib|{}|+"),
    ("shifter", "shifter|--image={}|--module=mpich,gpu", "--volume=/usr/lib:/usr/lib|+"),
    ("nvc run --image={image} -m {binds} --", "nvc|run|--image={}",
     "-m|/etc:/etc,/usr/lib:/usr/lib|--|+"),
    ("pyxis", "", "+|--container-image={}|--container-mounts=/etc:/etc,/usr/lib:/usr/lib|"
                  "--container-workdir={cwd}")])
def test_kinds_of_containers(tmp_path: Path, kind: str, gpu: str, binds: str) -> None:
    """The GPUs are asked for only where the job computes on one."""
    image = "lab/my image:2"
    for device in ("cpu", "gpu", "auto"):
        found = contained(tmp_path, kind, "/etc/passwd", device=device, bind="/usr/lib:/usr/lib/x",
                          image=image)
        parts = [part for part in gpu.split("|") if device != "cpu" or part not in (
            "--nv", "--rocm", "--module=mpich,gpu")]
        expected = [*parts, *binds.split("|")] if gpu else binds.split("|")
        assert found == "|".join(expected).format(image, cwd=tmp_path)


def test_podman_gets_variables_and_folders(tmp_path: Path) -> None:
    found = contained(tmp_path, "podman-hpc", tmp_path, device="gpu", image="lab/it")
    volume = f"{tmp_path}:{tmp_path}"
    assert found.startswith(f"podman-hpc|run|--rm|--mpi|--gpu|--volume|{volume}|--env|")
    assert found.endswith(f"|--workdir|{tmp_path}|lab/it|+")
    assert "|--env|HPC_DEEPFAKE_*|" in found and "|--env|PYTHONPATH|" in found
    assert "|LD_LIBRARY_PATH|" not in found and "|PATH|" not in found
    assert "--gpu" not in contained(tmp_path, "podman-hpc", tmp_path, image="lab/it")


def test_an_image_sees_the_folders_of_all_files_through_links(tmp_path: Path) -> None:
    """By the name given and by the real one, along chains of links; new folders by the existing
    one above; what lies in another one, not again; options of the program with their value."""
    for name in ("home", "disk1/data", "disk2", "disk3/Au", "pictures"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "disk2" / "real.h5").touch()
    (tmp_path / "disk1" / "data" / "next.h5").symlink_to("../../disk2/real.h5")
    (tmp_path / "home" / "first.h5").symlink_to(tmp_path / "disk1" / "data" / "next.h5")
    (tmp_path / "pictures" / "Au").symlink_to(tmp_path / "disk3" / "Au")
    (tmp_path / "scratch").symlink_to("disk1")
    found = contained(tmp_path / "home", "apptainer", "first.h5", "--run=../scratch/new/run", "-x",
                      f"--data={tmp_path}/pictures", "--epochs", "3", "")
    folders = [word for word in found.split("|") if word.startswith(str(tmp_path))]
    assert folders == [str(tmp_path / name) for name in (
        "disk1", "disk2", "disk3/Au", "home", "pictures", "scratch")]


@pytest.mark.parametrize(("kind", "path", "message"), [
    ("docker", "/etc", "error: HPC_DEEPFAKE_CONTAINER=docker: give apptainer, apptainer-rocm"),
    ("apptainer", "a,b", "error: a container can't see {}/a,b, whose name has a comma or colon")])
def test_what_no_container_can_do(tmp_path: Path, kind: str, path: str, message: str) -> None:
    (tmp_path / "a,b").mkdir()
    assert contained(tmp_path, kind, path).startswith(message.format(tmp_path))


# --- sites: the example files, in jobs as they are submitted

# Of a module system, which job shells find by MODULESHOME.
MODULES = """module() { case $1 in
    load) export LOADEDMODULES=$LOADEDMODULES:$2.0.1 ;;
    is-loaded) false ;; esac; }
conda() { : $NOT_SET; }
"""
EACH = SRUN.partition(" --cpus")[0] + " --cpus-per-task={} … python"


def start(site: str, tmp_path: Path, *, script: str = "train_multinode", scheduler: str = "slurm",
          cpus: int = 16, **variables: str) -> tuple[list[list[str]], str]:
    """Runs a job script of two nodes with four ranks and GPUs each at a site. Returns the words of
    each launch, and the log."""
    folder = tmp_path / "bin"
    folder.mkdir(exist_ok=True)
    for name in ("srun", "mpirun", "mpiexec"):
        command(folder, name, f"""
            [[ "$*" != --version ]] || {{ echo 'Open MPI'; exit; }}
            [[ "$*" != --mpi=list ]] || {{ echo 'pmix cray_shasta'; exit; }}
            printf '%s\\n' {name} "$@" . >>{tmp_path}/launched
            [[ "$*" != *rank.sh* ]] || echo 0 >"$HPC_DEEPFAKE_OUTCOME_FILE" """)
    command(folder, "qstat", "exit 1")
    command(folder, "scontrol", "exit 1")
    (tmp_path / "modules" / "init").mkdir(parents=True)
    (tmp_path / "modules" / "init" / "bash").write_text(MODULES)
    (tmp_path / "nodes").write_text("n1\n" * 4 + "n2\n" * 4)
    job = {"slurm": {"SLURM_JOB_ID": "7", "SLURM_JOB_NUM_NODES": "2", "SLURM_NTASKS": "8",
                     "SLURM_CPUS_PER_TASK": str(cpus), "SLURM_GPUS_ON_NODE": "4",
                     "SLURM_SUBMIT_DIR": str(tmp_path)},
           "pbs": {"PBS_JOBID": "7.server", "PBS_NODEFILE": str(tmp_path / "nodes"),
                   "NCPUS": str(4 * cpus), "PBS_O_WORKDIR": str(tmp_path)}}[scheduler]
    done = run_script(JOBS / scheduler / f"{script}.sh", bin_path=folder, cwd=tmp_path, SITE=site,
                      DOCTOR="off", RUN="run", DATA="x.h5", USER="me",
                      MODULESHOME=str(tmp_path / "modules"), **job, **variables)
    assert done.returncode == 0, done.stderr + done.stdout
    calls = (tmp_path / "launched").read_text().split("\n.\n")
    return [call.split("\n") for call in calls[:-1]], done.stdout


def before_program(call: list[str]) -> str:
    """The launcher's words as one line, and then what runs Python."""
    call = without_variables(call)
    at = call.index("bash")
    return " ".join([*call[:at], "…", *call[at + 2:call.index("hpc_deepfake.train") - 1]])


@pytest.mark.parametrize(("site", "scheduler", "cpus", "expected"), [
    ("perlmutter", "slurm", 32, EACH.format("cray_shasta", 32)),
    ("juwels-booster", "slurm", 12, EACH.format("pmix", 12)),
    ("example-slurm-lmod", "slurm", 8, EACH.format("pmix", 8)),
    ("alps", "slurm", 72, EACH.format("pmix", 72).replace(
        "…", "--environment={home}/.edf/hpc_deepfake.toml …")),
    ("lumi-g", "slurm", 7, EACH.format("cray_shasta", 7).replace(
        "…", "… singularity exec --rocm --bind {home} --bind {clone} {image}")),
    ("polaris", "pbs", 16, "mpiexec -n 8 --ppn 4 --depth 16 --cpu-bind depth … python3"),
    ("derecho", "pbs", 16, "mpiexec -n 8 -ppn 4 --depth 16 --cpu-bind depth … python"),
    ("gadi", "pbs", 12, "mpirun -np 8 --map-by ppr:4:node --bind-to none --hostfile {home}/nodes … "
                        "python")])
def test_the_command_line_of_each_example_site(tmp_path: Path, site: str, scheduler: str, cpus: int,
                                               expected: str) -> None:
    image = tmp_path / "it.sif"
    image.touch()
    more = {"HPC_DEEPFAKE_IMAGE": str(image), "HPC_DEEPFAKE_BIND": ""} if site == "lumi-g" else {}
    calls, log = start(site, tmp_path, scheduler=scheduler, cpus=cpus, **more)
    first, second = sorted([tmp_path, ROOT])  # folders are bound in their order
    if site == "lumi-g":
        expected = expected.replace("{home}", str(first)).replace("{clone}", str(second))
    assert before_program(calls[0]) == expected.format(home=tmp_path, image=image)
    assert "training is done" in log


def test_own_commands_of_a_job_run_in_the_container_that_srun_starts(tmp_path: Path) -> None:
    """A summary after an evaluation: one process, without MPI, in a step of its own."""
    calls, _ = start("alps", tmp_path, script="evaluate", HPC_DEEPFAKE_ENV="/none")
    assert [call[0] for call in calls] == ["srun", "srun"]
    alone = calls[1]
    assert alone[:5] == ["srun", "--nodes=1", "--ntasks=1", "--cpus-per-task=16", "--mpi=none"]
    assert alone[6:] == [f"--environment={tmp_path}/.edf/hpc_deepfake.toml", "python", "-m",
                         "hpc_deepfake.cli", "summary", "run"]


@pytest.mark.parametrize(("script", "given", "expected"), [
    ("train_multinode", {}, "cpu"), ("train_multinode", {"DEVICE": "gpu"}, "gpu"),
    ("train_cpu", {}, "cpu")])
def test_the_device_of_a_site_takes_the_place_of_the_scripts(
        tmp_path: Path, script: str, given: dict[str, str], expected: str) -> None:
    """Not of a user's own choice; and the GPU of a site isn't for CPU jobs."""
    word = "cpu" if script == "train_multinode" else "gpu"
    calls, _ = start("debian", tmp_path, script=script, HPC_DEEPFAKE_DEVICE=word, **given)
    assert calls[0][calls[0].index("--device") + 1] == expected


def test_a_logout_script_that_fails_does_not_change_the_exit_code(tmp_path: Path) -> None:
    """Job scripts are login shells, which run it at their end, like Debian's."""
    (tmp_path / ".bash_logout").write_text('echo "$NOT_SET"; false\n')
    done = subprocess.run(
        ["bash", "-l", JOBS / "slurm" / "train_cpu.sh"], cwd=tmp_path, capture_output=True,
        text=True, timeout=limit(60), env={"PATH": os.environ["PATH"], "HOME": str(tmp_path),
                                    "HPC_DEEPFAKE_ENV": sys.prefix, "SLURM_JOB_ID": "7",
                                    "SLURM_SUBMIT_DIR": str(tmp_path), "MAX_RESTARTS": "x"})
    assert done.returncode == 2 and "MAX_RESTARTS=x: give a number" in done.stderr


# --- a step on the first nodes of a job (scaling studies in one allocation)


@pytest.mark.parametrize(("launcher", "expected"), [
    ("srun", "srun --mpi=pmix --job-name=training --kill-on-bad-exit=1 --export=ALL --ntasks=4 "
             "--ntasks-per-node=2 --cpus-per-task=7 --nodes=2"),
    ("mpirun", "mpirun -np 4 --map-by ppr:2:node --bind-to none"),
    ("flux run -N {nodes} -n {ranks} -c {cpus}", "flux run -N 2 -n 4 -c 7")])
def test_a_step_on_some_nodes(tmp_path: Path, launcher: str, expected: str) -> None:
    found = words(tmp_path, "--nodes", "2", "--ranks", "4", version="Open MPI",
                  sizes={"nodes": "4"}, HPC_DEEPFAKE_LAUNCHER=launcher)
    assert found == expected.split()


@pytest.mark.parametrize(("version", "option"), [
    ("mpirun (Open MPI) 4.1.4", "--hostfile"), ("HYDRA build details", "-f")])
def test_under_pbs_a_step_has_a_node_file_of_its_own(tmp_path: Path, version: str,
                                                     option: str) -> None:
    """The first two of four hosts, whatever the order of the lines."""
    (tmp_path / "hosts").write_text("".join(f"n{host}\n" for host in (3, 1, 2, 4)) * 2)
    found = words(tmp_path, "--nodes", "2", "--ranks", "4", version=version,
                  sizes={"nodes": "4", "scheduler": "pbs"}, HPC_DEEPFAKE_LAUNCHER="mpirun",
                  PBS_NODEFILE=str(tmp_path / "hosts"))
    file = found[found.index(option) + 1]
    assert (tmp_path / file).read_text().split() == ["n3", "n1"] * 2
