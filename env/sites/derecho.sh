# shellcheck shell=bash
# Derecho (NSF NCAR): PBS Pro, HPE Cray EX with Slingshot; GPU nodes with four NVIDIA A100.
# Written from documentation in November 2026; it has NOT been run there. Replace project123.
# Not verified: that these modules go together and which Python to load, the path of the scratch
# folder, whether compute nodes may call qsub.

# https://ncar-hpc-docs.readthedocs.io/en/latest/compute-systems/derecho/derecho-modules-list/
load_modules ncarenv gcc craype cray-mpich hdf5-mpi cuda || return
export HPC_DEEPFAKE_ENV=${HPC_DEEPFAKE_ENV:-/glade/work/$USER/hpc_deepfake_env}

# https://ncar-hpc-docs.readthedocs.io/en/latest/pbs/charging/: main gives whole nodes, for up to 12
# hours; develop parts of them.
export HPC_DEEPFAKE_SCHEDULER=pbs
export HPC_DEEPFAKE_ACCOUNT=${HPC_DEEPFAKE_ACCOUNT:-project123}
export HPC_DEEPFAKE_PARTITION=${HPC_DEEPFAKE_PARTITION:-main}
export HPC_DEEPFAKE_SMALL_PARTITION=develop
# https://ncar-hpc-docs.readthedocs.io/en/latest/pbs/job-scripts/derecho-job-script-examples/:
# select=N:ncpus=64:mpiprocs=4:ngpus=4 on GPU nodes; CPU nodes have 128 cores, here 32 ranks of 4
export HPC_DEEPFAKE_GPUS=4
export HPC_DEEPFAKE_GPU_CPUS=16
export HPC_DEEPFAKE_CPU_RANKS=32 HPC_DEEPFAKE_CPU_CPUS=4

# The same page. Its set_gpu_rank, before the program, is not needed: each rank takes the GPU of its
# number on the node by itself. It would also set MPICH_GPU_SUPPORT_ENABLED=1, which stops programs
# that are not linked with the GTL library.
export HPC_DEEPFAKE_LAUNCHER='mpiexec -n {ranks} -ppn {per_node} --depth {cpus} --cpu-bind depth'
export MPICH_GPU_SUPPORT_ENABLED=0

# https://negin513.github.io/distributed-pytorch-hpc/guide/nccl_tuning (a guide, not the site's own):
# NCCL's settings for Slingshot. Without the plug-in aws-ofi-nccl it uses TCP over these interfaces.
export NCCL_SOCKET_IFNAME=${NCCL_SOCKET_IFNAME:-hsn}
export NCCL_IB_DISABLE=1 NCCL_CROSS_NIC=1 NCCL_NCHANNELS_PER_NET_PEER=4
export FI_CXI_DISABLE_HOST_REGISTER=1 FI_CXI_DEFAULT_CQ_SIZE=131072 FI_MR_CACHE_MONITOR=userfaultfd

export HPC_DEEPFAKE_LOCAL=${TMPDIR:-/tmp}
