# shellcheck shell=bash
# Example: a small SLURM cluster with Lmod, InfiniBand, a partition for CPUs and one for GPUs. Not a
# real machine: replace the names; template.sh explains each line.
# Lmod's documentation: https://lmod.readthedocs.io; sbatch's: https://slurm.schedmd.com/sbatch.html

# Batch shells of some clusters have no module command: it is read from here, then.
export HPC_DEEPFAKE_PROFILE=/etc/profile.d/lmod.sh
# Lmod completes versions: gcc/13 loads gcc/13.2.0.
load_modules gcc/13 cuda/12 openmpi/5 hdf5/1.14 python/3.12 || return
export HPC_DEEPFAKE_ENV=${HPC_DEEPFAKE_ENV:-${WORK:-$HOME}/hpc_deepfake_env}

export HPC_DEEPFAKE_SCHEDULER=slurm
export HPC_DEEPFAKE_ACCOUNT=${HPC_DEEPFAKE_ACCOUNT:-project123}
export HPC_DEEPFAKE_CPU_PARTITION=cpu
export HPC_DEEPFAKE_GPU_PARTITION=gpu
export HPC_DEEPFAKE_GPU_REQUEST='--gres=gpu:a100:{gpus}' # GPUs of one type
export HPC_DEEPFAKE_GPUS=2                              # two in each node, so two ranks
export HPC_DEEPFAKE_MEM=64G                             # the default of many clusters is small

export HPC_DEEPFAKE_SRUN_MPI=pmix
export HPC_DEEPFAKE_INTERFACE=ib0
export UCX_NET_DEVICES=${UCX_NET_DEVICES:-mlx5_0:1}
export NCCL_IB_HCA=${NCCL_IB_HCA:-mlx5}

export HPC_DEEPFAKE_LOCAL=${TMPDIR:-/tmp}
