# shellcheck shell=bash
# Example: HPE Cray EX with SLURM, Slingshot network, Cray MPICH. Not a real machine, and not yet
# tested on one; template.sh explains each line. On a Cray with PBS, the launcher is PALS:
#   HPC_DEEPFAKE_LAUNCHER='mpiexec -n {ranks} --ppn {per_node} --depth {cpus} --cpu-bind depth'
load_modules PrgEnv-gnu cray-mpich cray-hdf5-parallel cray-python || return
export HPC_DEEPFAKE_ENV=${HPC_DEEPFAKE_ENV:-$SCRATCH/hpc_deepfake_env}
# env/setup.sh reads HDF5_DIR; the module cray-hdf5-parallel sets HDF5_ROOT.
export HDF5_DIR=${HDF5_DIR:-${HDF5_ROOT:-}}

export HPC_DEEPFAKE_ACCOUNT=${HPC_DEEPFAKE_ACCOUNT:-project123}
export HPC_DEEPFAKE_QOS=${HPC_DEEPFAKE_QOS:-regular}

export HPC_DEEPFAKE_LAUNCHER=srun
export HPC_DEEPFAKE_SRUN_MPI=cray_shasta
# MPI from GPU memory, and NCCL over Slingshot (needs a module with the aws-ofi-nccl plug-in).
export MPICH_GPU_SUPPORT_ENABLED=${MPICH_GPU_SUPPORT_ENABLED:-1}
export FI_CXI_DISABLE_HOST_REGISTER=${FI_CXI_DISABLE_HOST_REGISTER:-1}
export NCCL_SOCKET_IFNAME=${NCCL_SOCKET_IFNAME:-hsn}

export HPC_DEEPFAKE_LOCAL=/dev/shm # nodes without disks
