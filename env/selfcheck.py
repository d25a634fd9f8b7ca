"""Tests the environment: mpirun -np 2 python env/selfcheck.py [FOLDER]

Imports all packages, compares installed with pinned versions, reduces over the ranks with Horovod,
and writes one HDF5 file from all ranks (in FOLDER, which must be shared if the ranks are on several
nodes). Exit code 0 only if everything worked on every rank. env/setup.sh runs it at its end.
"""

import contextlib
import importlib
import importlib.metadata
import os
import re
import sys
import tempfile
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
os.environ.setdefault("HDF5_USE_FILE_LOCKING", "FALSE")
with contextlib.suppress(ImportError):  # else the imports below report it
    from hpc_deepfake.core.surroundings import settle

    settle()

import numpy as np
from mpi4py import MPI

HERE = Path(__file__).resolve().parent
MODULES = ("tensorflow", "keras", "horovod.tensorflow", "h5py", "numpy", "PIL", "cv2", "matplotlib")
PACKAGES = ("preprocessing", "hpc_deepfake")
ROWS = 1000  # per rank

world = MPI.COMM_WORLD


def canonical(name):
    """A package's name in PyPI's normal form."""
    return re.sub(r"[-_.]+", "-", name).lower()


def pins():
    """The versions of versions.txt as {canonical name: version}."""
    lines = re.findall(r"^([\w.-]+)==(\S+)", (HERE / "versions.txt").read_text(), re.MULTILINE)
    return {canonical(name): version for name, version in lines}


def imports():
    for name in (*MODULES, *PACKAGES):
        importlib.import_module(name)
    import tensorflow as tf

    return f"TensorFlow {tf.__version__} and {len(MODULES) + len(PACKAGES) - 1} others"


def versions():
    installed = {canonical(package.metadata["Name"]): package.version
                 for package in importlib.metadata.distributions()}
    pinned = pins()
    wrong = [
        f"{name} {version} (pinned {pinned[name]})"
        for name, version in sorted(installed.items())
        if pinned.get(name, version) != version
    ]
    if wrong:
        raise RuntimeError("not the pinned versions: " + ", ".join(wrong))
    return f"{len(pinned.keys() & installed.keys())} packages as pinned"


def mpi():
    total = world.allreduce(world.rank + 1)
    if total != world.size * (world.size + 1) // 2:
        raise RuntimeError(f"sum of the ranks is {total}")
    return f"{world.size} ranks, {MPI.Get_library_version().split(',')[0].splitlines()[0]}"


def horovod():
    import horovod.tensorflow as hvd
    import tensorflow as tf

    hvd.init()
    if hvd.size() != world.size:
        raise RuntimeError(f"Horovod sees {hvd.size()} ranks, MPI {world.size}")
    with tf.device("CPU:0"):
        value = tf.range(1000, dtype=tf.float32) * (hvd.rank() + 1)
        mean = hvd.allreduce(value, op=hvd.Average).numpy()
    np.testing.assert_allclose(mean, np.arange(1000) * (world.size + 1) / 2, rtol=1e-6)
    gpu = bool(hvd.nccl_built())
    if gpu != bool(tf.test.is_built_with_cuda()):
        raise RuntimeError(f"TensorFlow and Horovod differ: NCCL in Horovod is {gpu}")
    gpus = len(tf.config.list_physical_devices("GPU"))
    nccl = f"; NCCL, {gpus} GPUs visible" if gpu else ""
    return f"allreduce over {hvd.size()} ranks correct{nccl}"


def hdf5():
    import h5py

    parallel = h5py.get_config().mpi
    parent = sys.argv[1] if len(sys.argv) > 1 else None
    with contextlib.ExitStack() as stack:
        folder = None
        if world.rank == 0:
            folder = stack.enter_context(tempfile.TemporaryDirectory(dir=parent))
        path = Path(world.bcast(folder), "check.h5")
        data = np.full((ROWS, 16), world.rank + 1, np.uint8)
        if parallel:
            with h5py.File(path, "w", driver="mpio", comm=world) as file:
                rows = file.create_dataset("rows", (world.size * ROWS, 16), "u1")
                rows[world.rank * ROWS : (world.rank + 1) * ROWS] = data
        else:
            start = world.bcast(create(h5py, path) if world.rank == 0 else None)
            file = MPI.File.Open(world, str(path), MPI.MODE_WRONLY)
            file.Write_at_all(start + world.rank * data.nbytes, data)
            file.Close()
        world.Barrier()
        with h5py.File(path) as file:  # each rank reads what the others wrote
            seen = file["rows"][()].reshape(world.size, -1)
        if not (seen == np.arange(1, world.size + 1)[:, None]).all():
            raise RuntimeError("the file's content differs from what was written")
        world.Barrier()
    route = "parallel HDF5" if parallel else "MPI.File (this h5py has no MPI)"
    return f"{world.size} ranks wrote one file by {route}"


def create(h5py, path):
    """Create a file with space for all rows; returns their offset in the file."""
    layout = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    layout.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)
    space = h5py.h5s.create_simple((world.size * ROWS, 16))
    with h5py.File(path, "w") as file:
        return h5py.h5d.create(file.id, b"rows", h5py.h5t.NATIVE_UINT8, space, layout).get_offset()


def main():
    for check in (imports, versions, mpi, horovod, hdf5):
        try:
            result = check()
        except Exception as error:
            print(f"FAILED   {check.__name__} on rank {world.rank}: {error}", flush=True)
            world.Abort(1)  # other ranks may be waiting in a collective call
        world.Barrier()
        if world.rank == 0:
            print(f"ok       {check.__name__:9}{result}", flush=True)
    if world.rank == 0:
        print("verdict  the environment works", flush=True)


if __name__ == "__main__":
    main()
