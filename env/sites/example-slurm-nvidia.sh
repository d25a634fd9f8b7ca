# shellcheck shell=bash
# Example: SLURM, four NVIDIA GPUs per node, InfiniBand, Lmod modules. Not a real machine: replace
# the names; template.sh explains each line.
load_modules gcc/13.2 cuda/13.0 openmpi/5.0 hdf5/1.14-parallel python/3.12 || return
export HPC_DEEPFAKE_ENV=${HPC_DEEPFAKE_ENV:-$WORK/hpc_deepfake_env}

export HPC_DEEPFAKE_ACCOUNT=${HPC_DEEPFAKE_ACCOUNT:-project123}
export HPC_DEEPFAKE_PARTITION=${HPC_DEEPFAKE_PARTITION:-gpu}

export HPC_DEEPFAKE_SRUN_MPI=pmix
export HPC_DEEPFAKE_INTERFACE=ib0
export UCX_NET_DEVICES=${UCX_NET_DEVICES:-mlx5_0:1,mlx5_1:1}
export NCCL_IB_HCA=${NCCL_IB_HCA:-mlx5}

export HPC_DEEPFAKE_LOCAL=${TMPDIR:-/tmp}
