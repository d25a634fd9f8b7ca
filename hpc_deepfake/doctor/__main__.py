"""``mpirun -np N python -m hpc_deepfake.doctor``."""

from hpc_deepfake.core import mpi, surroundings
from hpc_deepfake.doctor import main

if __name__ == "__main__":
    surroundings.settle()
    mpi.run(main)
