# shellcheck shell=bash
# Perlmutter (NERSC): SLURM, HPE Cray EX with Slingshot 11; GPU nodes with four NVIDIA A100.
# Written from documentation in November 2026; it has NOT been run there. Replace project123.
# Not verified on a page of the site: names of the modules, ending _g of the accounts, $PSCRATCH, the
# QOS "shared", /tmp in memory. Others' job scripts for Perlmutter use the first three.

# Compilers, MPI, HDF5 and Python are HPE's; cudatoolkit and nccl the site's (not verified).
load_modules PrgEnv-gnu cray-mpich cray-hdf5-parallel cray-python cudatoolkit nccl || return
export HPC_DEEPFAKE_ENV=${HPC_DEEPFAKE_ENV:-${PSCRATCH:-$HOME}/hpc_deepfake_env}
# env/setup.sh reads HDF5_DIR; the module cray-hdf5-parallel sets HDF5_ROOT.
export HDF5_DIR=${HDF5_DIR:-${HDF5_ROOT:-}}

# https://docs.nersc.gov/jobs/policy/: without a QOS, jobs go to "debug"; production is "regular".
# Jobs on GPU nodes are charged to an account of their own, and the kind of node is a constraint:
# https://docs.nersc.gov/systems/perlmutter/running-jobs/
export HPC_DEEPFAKE_SCHEDULER=slurm
export HPC_DEEPFAKE_CPU_ACCOUNT=${HPC_DEEPFAKE_CPU_ACCOUNT:-project123}
export HPC_DEEPFAKE_GPU_ACCOUNT=${HPC_DEEPFAKE_GPU_ACCOUNT:-${HPC_DEEPFAKE_CPU_ACCOUNT}_g}
export HPC_DEEPFAKE_CPU_OPTIONS='--constraint=cpu'
export HPC_DEEPFAKE_GPU_OPTIONS='--constraint=gpu'
export HPC_DEEPFAKE_QOS=${HPC_DEEPFAKE_QOS:-regular}
export HPC_DEEPFAKE_SMALL_QOS=shared # part of a node instead of a whole one

# https://docs.nersc.gov/systems/perlmutter/running-jobs/#1-node-4-tasks-4-gpus-1-gpu-visible-to-each-task
# SLURM's CPUs are hardware threads here: 128 on a GPU node (64 cores), 256 on a CPU node.
export HPC_DEEPFAKE_GPUS=4
export HPC_DEEPFAKE_GPU_CPUS=32

export HPC_DEEPFAKE_LAUNCHER=srun
export HPC_DEEPFAKE_SRUN_MPI=cray_shasta

# The programs reduce by NCCL, and MPI sees only CPU memory. With 1, Cray MPICH stops every rank that
# is not linked with its GTL library.
export MPICH_GPU_SUPPORT_ENABLED=0
# https://github.com/NERSC/nccl-ofi-plugin (env_nccl.sh): NCCL over Slingshot instead of TCP. The
# module nccl brings the plug-in.
export NCCL_NET=${NCCL_NET:-AWS Libfabric}
export NCCL_NET_GDR_LEVEL=PHB NCCL_CROSS_NIC=1 NCCL_SOCKET_IFNAME=${NCCL_SOCKET_IFNAME:-hsn}
export FI_CXI_DISABLE_HOST_REGISTER=1

export HPC_DEEPFAKE_LOCAL=/tmp # nodes without disks: this is their memory

# Instead of the modules and an environment, an image in shifter or podman-hpc, by name
# (https://docs.nersc.gov/development/containers/):
#export HPC_DEEPFAKE_IMAGE=docker:me/hpc_deepfake:1 HPC_DEEPFAKE_CONTAINER=shifter
#export HPC_DEEPFAKE_IMAGE=me/hpc_deepfake:1 HPC_DEEPFAKE_CONTAINER=podman-hpc
