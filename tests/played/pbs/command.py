"""A command of the played PBS server: ``command.py NAME ARGUMENTS…``, see tests/played_pbs.py."""

from __future__ import annotations

import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))  # python -I leaves it out

from mom import mom, pbs_tmrsh, serve
from records import Refused, Server, finished
from status import pbsnodes, qselect, qstat
from submission import qsub


def qdel(server: Server, arguments: list[str]) -> int:
    """A waiting job is deleted; one that runs gets TERM and, later, KILL."""
    server.may_ask()
    code = 0
    with server.changed():
        for word in arguments:
            if word.startswith("-"):
                continue
            try:
                name, job = server.find(word)
                if finished(job):
                    raise Refused(f"Job has finished {name}", 15139)
            except Refused as error:
                print(f"qdel: {error}", file=sys.stderr)
                code = error.code
                continue
            for each in (server.elements(name) or [name]):
                if server.jobs[each]["job_state"] == "R":
                    (server.folder / "aux" / each).with_suffix(".kill").write_text("DELETE")
                elif not finished(server.jobs[each]):
                    server.end(each, 91)
    return code


def qrls(server: Server, arguments: list[str]) -> int:
    with server.changed():
        for word in arguments:
            _, job = server.find(word)
            job["Hold_Types"] = "s" if job["_after"] else "n"
    return 0


def qrerun(server: Server, arguments: list[str]) -> int:
    """For the system only: a user may not. After the failure of a node, jobs run again so."""
    with server.changed():
        for word in arguments:
            name, _ = server.find(word)
            if "PLAYED_PBS_ROOT" not in os.environ:
                raise Refused(f"qrerun: Unauthorized Request  {name}", 15007)
            (server.folder / "aux" / name).with_suffix(".kill").write_text("RERUN")
    return 0


def main(name: str, arguments: list[str]) -> int:
    server = Server()
    try:
        if name == "qsub":
            print(qsub(server, arguments))
            return 0
        if name == "mom":
            return mom(server, arguments[0])
        if name == "serve":
            return serve(server)
        return {"qstat": qstat, "qselect": qselect, "qdel": qdel, "qrls": qrls, "qrerun": qrerun,
                "pbsnodes": pbsnodes, "pbs_tmrsh": pbs_tmrsh}[name](server, arguments)
    except Refused as error:
        print(error, file=sys.stderr)
        return error.code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2:]))
