"""``mpirun -np N python -m hpc_deepfake.doctor``."""

from hpc_deepfake.core import mpi
from hpc_deepfake.doctor import main

if __name__ == "__main__":
    mpi.run(main)
