# shellcheck shell=bash
# Example: PBS Pro or OpenPBS with Environment Modules and an Open MPI without PBS support. Not a
# real machine: replace the names; template.sh explains each line.
load_modules gcc openmpi hdf5-parallel python || return
export HPC_DEEPFAKE_ENV=${HPC_DEEPFAKE_ENV:-$HOME/hpc_deepfake_env}

export HPC_DEEPFAKE_SCHEDULER=pbs
export HPC_DEEPFAKE_ACCOUNT=${HPC_DEEPFAKE_ACCOUNT:-project123}
export HPC_DEEPFAKE_PARTITION=${HPC_DEEPFAKE_PARTITION:-workq}

export HPC_DEEPFAKE_LAUNCHER=mpirun
export HPC_DEEPFAKE_INTERFACE=eth0
export HPC_DEEPFAKE_LOCAL=${TMPDIR:-/tmp}

# Compute nodes may not call qsub: stopped jobs print the command that resumes them. Use a chain of
# jobs, submitted on the login node: hpc-deepfake job submit pbs train_multinode --chain 3
export HPC_DEEPFAKE_RESUBMIT=no
export HPC_DEEPFAKE_STOP_MARGIN=300
