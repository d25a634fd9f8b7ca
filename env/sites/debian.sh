# shellcheck shell=bash
# Debian and Ubuntu: Open MPI and parallel HDF5 come from apt, nothing to load.
# Debian's Open MPI starts under SLURM by PMIx; its other PMI plug-ins fail.
export HPC_DEEPFAKE_SRUN_MPI=${HPC_DEEPFAKE_SRUN_MPI:-pmix}
