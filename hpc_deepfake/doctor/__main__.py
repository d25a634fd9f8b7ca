"""``mpirun -np N python -m hpc_deepfake.doctor``."""

from hpc_deepfake.doctor import main
from preprocessing import mpi

if __name__ == "__main__":
    mpi.run(main)
