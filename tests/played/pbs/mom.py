"""What runs a job on its first host, and the commands of the job that reach other hosts."""

from __future__ import annotations

import ctypes
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from records import Job, Server, seconds

_SUBREAPER = 36  # PR_SET_CHILD_SUBREAPER: what loses its parent becomes a child of this process
_DEATH_SIGNAL = 1  # PR_SET_PDEATHSIG: where the tests are killed
_POLL = 0.05


def serve(server: Server) -> int:
    """Starts the jobs that may start, until this process is ended; then they end, too."""
    with _ends_with_its_parent():
        while True:
            for wish in sorted((server.folder / "start").iterdir()):
                wish.unlink()
                with open(server.folder / "mom.log", "a") as log:
                    subprocess.Popen([sys.executable, "-IS", sys.argv[0], "mom", wish.name],
                                     start_new_session=True, stdin=subprocess.DEVNULL, stdout=log,
                                     stderr=log)
            with suppress(ChildProcessError):
                os.waitpid(-1, os.WNOHANG)
            time.sleep(_POLL)


@contextmanager
def _ends_with_its_parent() -> Iterator[None]:
    """Whatever ends the tests, nothing of a job is left."""
    libc = ctypes.CDLL(None)
    libc.prctl(_SUBREAPER, 1, 0, 0, 0)
    libc.prctl(_DEATH_SIGNAL, signal.SIGTERM, 0, 0, 0)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    try:
        yield
    finally:
        end_all(os.getpid())


def mom(server: Server, name: str) -> int:
    """Run a job to its end."""
    with _ends_with_its_parent():
        return _run(server, name)


def _run(server: Server, name: str) -> int:
    with server.changed():
        job = server.jobs[name]
        script = server.jobs[job.get("_array", name)]["_script"]
        job["session_id"] = str(os.getpid())
    environment = _environment(server, name, job)
    os.umask(int(job.get("umask", "077"), 8))
    place = server.folder / "aux" / name
    spool = server.folder / "spool" / f"{name}.SC"
    spool.write_text(script)
    place.with_suffix(".env").write_text(json.dumps(environment))
    output = Path(job["Output_Path"].split(":", 1)[1])
    direct = "d" in job["Keep_Files"]  # otherwise it comes at the end
    file = output if direct else place.with_suffix(".OU")
    began = time.monotonic()
    with open(file, "ab") as out:
        process = subprocess.Popen(["/bin/bash", spool], env=environment,
                                   cwd=environment["HOME"], stdin=subprocess.DEVNULL, stdout=out,
                                   stderr=subprocess.STDOUT, start_new_session=True)
        asked = _watch(server, process, place.with_suffix(".kill"), began + seconds(
            job.get("Resource_List.walltime", "999:00:00")), out)
    end_all(os.getpid())
    if not direct:
        output.write_bytes(file.read_bytes())
    code = process.returncode
    used = time.monotonic() - began
    with server.changed():
        job = server.jobs[name]
        if asked == "RERUN":
            place.with_suffix(".kill").unlink()
            job |= {"job_state": "Q", "substate": "10"}
            return 0
        status = 256 - code if code < 0 else code
        substate = 91 if asked == "DELETE" else 93 if status else 92
        server.end(name, substate, Exit_status=str(status), **{
            f"resources_used.{key}": value for key, value in ({
                "cpupercent": "0", "cput": "00:00:00", "mem": "0kb",
                "ncpus": job["Resource_List.ncpus"], "vmem": "0kb",
                "walltime": time.strftime("%H:%M:%S", time.gmtime(used)),
                **server.config["sampled"]}).items()})
    return 0


def _watch(server: Server, process: subprocess.Popen, wish: Path, limit: float,
           out: object) -> str:
    """Wait for the job's end, and see to it at its limit or where somebody asks for it; returns
    who did: DELETE, RERUN, LIMIT or nothing."""
    asked, kill_at = "", float("inf")
    while process.poll() is None:
        now = time.monotonic()
        if not asked and (wish.exists() or now > limit):
            asked = wish.read_text() if wish.exists() else "LIMIT"
            if asked == "LIMIT":
                os.write(out.fileno(), b"=>> PBS: job killed: walltime exceeded limit\n")
            if asked != "RERUN":
                _send(signal.SIGTERM, os.getpid())
            kill_at = now + (0 if asked == "RERUN" else server.config["kill_delay"])
        if now > kill_at:
            _send(signal.SIGKILL, os.getpid())
        time.sleep(_POLL)
    return asked


def _environment(server: Server, name: str, job: Job) -> dict[str, str]:
    """What PBS gives to a job, and what this server's commands need."""
    home = server.folder / "home"
    nodefile, folder = server.folder / "aux" / name, server.folder / "tmp" / f"pbs.{name}"
    for needed in (home, folder, nodefile.parent, server.folder / "spool"):
        needed.mkdir(exist_ok=True, parents=True)
    nodefile.write_text("".join(f"{host}\n" for host in job["_nodefile"]))
    element = {"PBS_ARRAY_INDEX": job["array_index"], "PBS_ARRAY_ID": job["_array"]} \
        if "_array" in job else {}
    account = {"PBS_ACCOUNT": job["Account_Name"]} if "Account_Name" in job else {}
    bin_path = Path(__file__).parent / "bin"
    return {"PATH": f"{bin_path}:/usr/local/bin:/usr/bin:/bin", **job["_variables"],
            "PLAYED_PBS": str(server.folder), "HOME": str(home),
            "LOGNAME": job["Job_Owner"].split("@")[0], "USER": job["Job_Owner"].split("@")[0],
            "SHELL": "/bin/bash", "PBS_ENVIRONMENT": "PBS_BATCH", "PBS_JOBID": name,
            "PBS_JOBNAME": job["Job_Name"], "PBS_QUEUE": job["queue"], "PBS_NODENUM": "0",
            "PBS_TASKNUM": "1", "PBS_MOMPORT": "15003", "PBS_JOBCOOKIE": "0",
            "PBS_NODEFILE": str(nodefile), "PBS_JOBDIR": str(home), "TMPDIR": str(folder),
            "NCPUS": job["_threads"], "OMP_NUM_THREADS": job["_threads"], **element, **account}


def pbs_tmrsh(server: Server, arguments: list[str]) -> int:
    """Starts a program on a host of the job, with the job's environment and nothing of this one's.
    What it leaves behind is killed when it ends: the race of a daemon that leaves the session is
    always lost here."""
    host = ""
    while arguments:
        word = arguments.pop(0)
        if word == "-n":
            continue
        if word == "-l":
            arguments.pop(0)
        elif word.startswith("-"):
            print("usage: pbs_tmrsh [-n][-l username] host [-n][-l username] command",
                  file=sys.stderr)
            return 255
        elif not host:
            host = word
        else:
            arguments.insert(0, word)
            break
    job = os.environ.get("PBS_JOBID", "")
    if "PBS_ENVIRONMENT" not in os.environ or not arguments:
        print("pbs_tmrsh: not executing under PBS", file=sys.stderr)
        return 255
    if host not in Path(os.environ["PBS_NODEFILE"]).read_text().split():
        print(f'pbs_tmrsh: host "{host}" is not a node in job <{job}>', file=sys.stderr)
        return 255
    with open(server.folder / "remote", "a") as remote:
        print(job, host, file=remote)
    ctypes.CDLL(None).prctl(_SUBREAPER, 1, 0, 0, 0)
    environment = json.loads((server.folder / "aux" / job).with_suffix(".env").read_text())
    try:
        task = subprocess.Popen(arguments, env=environment, cwd=environment["HOME"],
                                stdin=subprocess.DEVNULL, start_new_session=True)
    except OSError as error:
        print(f"pbs_tmrsh: tm_spawn: host \"{host}\" {error}", file=sys.stderr)
        return 255
    code = task.wait()
    end_all(os.getpid())
    return 256 - code if code < 0 else code


def descendants(root: int) -> list[int]:
    """All processes below this one, but for the commands of the server."""
    children: dict[int, list[int]] = {}
    for entry in os.scandir("/proc"):
        if entry.name.isdigit():
            with suppress(OSError):
                stat = Path(entry.path, "stat").read_text()
                children.setdefault(int(stat.rpartition(")")[2].split()[1]), []).append(
                    int(entry.name))
    found, new = [], children.get(root, [])
    while new:
        found += new
        new = [child for pid in new for child in children.get(pid, [])]
    return found


def _send(number: int, root: int) -> list[int]:
    """A signal to all processes below this one; returns them."""
    below = descendants(root)
    for pid in below:
        with suppress(ProcessLookupError):
            os.kill(pid, number)
    return below


def end_all(root: int) -> None:
    """Kill what is left below this process, whose own children have been waited for."""
    while _send(signal.SIGKILL, root):
        with suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        time.sleep(0.01)
