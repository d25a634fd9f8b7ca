"""``mpirun -np N python -m hpc_deepfake.predict``."""

from hpc_deepfake.core import mpi, surroundings
from hpc_deepfake.predict import main

surroundings.settle()
mpi.run(lambda comm: main(comm=comm))
