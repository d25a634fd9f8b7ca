# shellcheck shell=bash
# Debian and Ubuntu: Open MPI and parallel HDF5 come from apt; there are no modules to load.
# Under SLURM, Debian's Open MPI starts with PMIx only.
export HPC_DEEPFAKE_SRUN_MPI=${HPC_DEEPFAKE_SRUN_MPI:-pmix}
