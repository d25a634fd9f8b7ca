"""The folder of a matrix: the data sets and the threads of its first call."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from hpc_deepfake.compare import begun
from hpc_deepfake.core import holder
from hpc_deepfake.core.errors import InputError
from hpc_deepfake.core.files import write_json
from hpc_deepfake.core.json_data import dictionary
from hpc_deepfake.crosseval.datasets import DataSet

BEGUN = "begun.json"


def check_same_data(out: Path, data: Sequence[DataSet]) -> None:
    """Check that names of data sets stand for what they did in earlier calls.

    Raises:
        InputError: one that is trained on is another file now, or another state of it.
    """
    before = dictionary(begun(out).get("files"))
    for each in data:
        if each.trained and before.get(each.slug, each.digest) != each.digest:
            raise InputError(f"the trainings on '{each.name}' in {out} used another data file than "
                             f"{each.path}, or another state of it: give the same one, another "
                             f"name (NAME={each.path}), or choose another --out")


def begin(out: Path, data: Sequence[DataSet], threads: int) -> None:
    """Hold the folder, and record what its trainings are about; create it if needed.

    Args:
        out: the folder.
        data: the data sets; others may have been there before.
        threads: CPU threads per rank.

    Raises:
        InputError: it can't be created, or another process holds it.
    """
    try:
        out.mkdir(parents=True, exist_ok=True)
        holder.hold(out, "a matrix of trainings and tests", "--out")
        before = begun(out)
        files = dictionary(before.get("files")) | {
            each.slug: each.digest for each in data if each.trained}
        write_json(out / BEGUN, {"files": files, "threads": before.get("threads", threads)})
    except OSError as error:
        raise InputError(f"cannot create the folder {out}: {error.strerror}; choose another place "
                         "with --out") from None
