"""``mpirun -np N python -m hpc_deepfake.predict``."""

from hpc_deepfake.predict import main
from preprocessing import mpi

mpi.run(main)
