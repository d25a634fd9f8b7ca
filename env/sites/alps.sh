# shellcheck shell=bash
# Daint on Alps (CSCS): SLURM, Slingshot; nodes with four NVIDIA GH200 (aarch64).
# Written from documentation in November 2026; it has NOT been run there. Replace project123.
# There are no wheels of TensorFlow with CUDA for aarch64, so env/setup.sh can't build for these
# GPUs: the programs run in a container that srun gives them, with the clone's code.
# Not verified: an image that has TensorFlow, Horovod with NCCL, mpi4py and h5py for aarch64.

# https://docs.cscs.ch/running/slurm/ and https://docs.cscs.ch/clusters/daint/: debug has up to 2
# nodes for 30 minutes. All nodes have GPUs, so CPU jobs run there, too.
export HPC_DEEPFAKE_SCHEDULER=slurm
export HPC_DEEPFAKE_ACCOUNT=${HPC_DEEPFAKE_ACCOUNT:-project123}
export HPC_DEEPFAKE_PARTITION=${HPC_DEEPFAKE_PARTITION:-normal}
export HPC_DEEPFAKE_SMALL_PARTITION=debug
# https://docs.cscs.ch/running/slurm/#one-rank-per-gpu: 72 cores and a GPU for each rank
export HPC_DEEPFAKE_GPUS=4
export HPC_DEEPFAKE_GPU_REQUEST=--gpus-per-task=1
export HPC_DEEPFAKE_GPU_CPUS=72

# https://docs.cscs.ch/software/container-engine/run/: the environment is a file in TOML; as a
# directive of sbatch it would be experimental. Such as $HOME/.edf/hpc_deepfake.toml:
#   image = "${SCRATCH}/hpc_deepfake.sqsh"
#   mounts = ["${SCRATCH}:${SCRATCH}", "${HOME}:${HOME}"]
#   [env]
#   PMIX_MCA_psec = "^munge"
#   [annotations]
#   com.hooks.aws_ofi_nccl.enabled = "true"
#   com.hooks.aws_ofi_nccl.variant = "cuda-dl"
export HPC_DEEPFAKE_PYTHON=site
export HPC_DEEPFAKE_LAUNCHER=srun
export HPC_DEEPFAKE_SRUN_OPTIONS=--environment=$HOME/.edf/hpc_deepfake.toml
# https://docs.cscs.ch/software/communication/nccl/: Open MPI in the container starts with PMIx. The
# hook above sets NCCL's variables; NCCL and GPU-aware MPI together can deadlock.
export HPC_DEEPFAKE_SRUN_MPI=pmix
export MPICH_GPU_SUPPORT_ENABLED=0

export HPC_DEEPFAKE_LOCAL=/dev/shm # nodes without disks (not verified)
