# shellcheck shell=bash
# JUWELS Booster (JSC): SLURM with ParaStation, InfiniBand; nodes with four NVIDIA A100.
# Written in November 2026 from the pages named below and from job scripts that others use there; it
# has NOT been run there. Replace project123.
# Not verified on a page of the site: all names of modules and partitions, limits of the partitions,
# that pmix is among `srun --mpi=list` (the site's default is ParaStation's own), devices of UCX.

# https://apps.fz-juelich.de/jsc/hps/juwels/software-modules.html; names as in
# https://github.com/interTwin-eu/itwinai/blob/main/src/itwinai/slurm/system-base-scripts/juwels.sh
load_modules Stages/2025 GCC OpenMPI CUDA/12 cuDNN NCCL MPI-settings/CUDA Python HDF5 || return
export HPC_DEEPFAKE_ENV=${HPC_DEEPFAKE_ENV:-${PROJECT:-$HOME}/hpc_deepfake_env}

# https://apps.fz-juelich.de/jsc/hps/juwels/quickintro.html: booster up to 256 nodes, largebooster
# above, develbooster for tests. The nodes of the Cluster have other processors and modules, so CPU
# jobs run on the Booster, too.
export HPC_DEEPFAKE_SCHEDULER=slurm
export HPC_DEEPFAKE_ACCOUNT=${HPC_DEEPFAKE_ACCOUNT:-project123}
export HPC_DEEPFAKE_PARTITION=${HPC_DEEPFAKE_PARTITION:-booster:256 largebooster}
export HPC_DEEPFAKE_SMALL_PARTITION=develbooster
# https://apps.fz-juelich.de/jsc/hps/juwels/batchsystem.html
export HPC_DEEPFAKE_GPU_REQUEST='--gres=gpu:{gpus}'
export HPC_DEEPFAKE_OPTIONS=--threads-per-core=1 # 48 cores with two hardware threads each
export HPC_DEEPFAKE_GPUS=4
export HPC_DEEPFAKE_GPU_CPUS=12

export HPC_DEEPFAKE_LAUNCHER=srun
export HPC_DEEPFAKE_SRUN_MPI=pmix

# InfiniBand: the module MPI-settings/CUDA sets UCX_TLS and others.
export UCX_NET_DEVICES=${UCX_NET_DEVICES:-mlx5_0:1,mlx5_1:1,mlx5_4:1,mlx5_5:1}
export NCCL_IB_HCA=${NCCL_IB_HCA:-mlx5}
export HPC_DEEPFAKE_INTERFACE=ib0

export HPC_DEEPFAKE_LOCAL=${TMPDIR:-/tmp}
