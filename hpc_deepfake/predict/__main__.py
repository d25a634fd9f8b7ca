"""``mpirun -np N python -m hpc_deepfake.predict``."""

from hpc_deepfake.core import mpi
from hpc_deepfake.predict import main

mpi.run(main)
