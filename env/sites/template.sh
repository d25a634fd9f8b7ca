# shellcheck shell=bash
# All settings of one machine: copy this file to env/sites/NAME.sh, fill in what you need and delete
# the rest. `SITE=NAME source env/activate.sh` reads it, on the login node and in every job that is
# submitted with SITE=NAME. A line with ${…:-…} keeps a value that your shell has set already.

# Modules: the MPI with which Horovod is built, parallel HDF5, Python; for GPUs, CUDA and NCCL. They
# must be the same for env/setup.sh and in every job. A module that can't be loaded is an error.
#load_modules gcc/13 openmpi/4.1 hdf5/1.14-parallel || return

# Folder in which env/setup.sh builds the environment; all compute nodes must see it.
#export HPC_DEEPFAKE_ENV=${HPC_DEEPFAKE_ENV:-$WORK/hpc_deepfake_env}

# Or use a container image instead (env/apptainer.def); then nothing is built.
#export HPC_DEEPFAKE_IMAGE=$WORK/hpc_deepfake.sif

# Account to charge, partition or queue, and quality of service. SLURM gets them as SBATCH_ACCOUNT,
# SBATCH_PARTITION and SBATCH_QOS if this is sourced on the login node; PBS as qsub -A and -q by
# `hpc-deepfake job submit`.
#export HPC_DEEPFAKE_ACCOUNT=${HPC_DEEPFAKE_ACCOUNT:-project123}
#export HPC_DEEPFAKE_PARTITION=${HPC_DEEPFAKE_PARTITION:-gpu}
#export HPC_DEEPFAKE_QOS=${HPC_DEEPFAKE_QOS:-normal}

# How ranks are started. auto: srun if SLURM supports the PMI below, else mpirun. Otherwise srun,
# mpirun, or a command of your own: mpiexec -n {ranks} --ppn {per_node} --depth {cpus} --cpu-bind depth
#export HPC_DEEPFAKE_LAUNCHER=auto
#export HPC_DEEPFAKE_SRUN_MPI=pmix          # Open MPI: pmix; MPICH and Intel MPI: pmi2; Cray: cray_shasta

# Network for MPI and NCCL between nodes (`ip -br addr`, `ibstat`, `ucx_info -d`).
#export HPC_DEEPFAKE_INTERFACE=ib0          # for TCP
#export UCX_NET_DEVICES=mlx5_0:1     # InfiniBand device and port for MPI
#export NCCL_IB_HCA=mlx5             # for NCCL
#export NCCL_NET_GDR_LEVEL=PHB       # GPU-direct RDMA: maximum distance of network card and GPU
#export OMPI_MCA_mpi_yield_when_idle=1   # waiting ranks yield shared cores

# Folders: of pictures, and (LOCAL) on each node's own disk, for STAGE=local and STAGE_ENV=local.
#export HPC_DEEPFAKE_DATA=${HPC_DEEPFAKE_DATA:-$SCRATCH/CASIA}
#export HPC_DEEPFAKE_LOCAL=${TMPDIR:-/tmp}

# PBS only. RESUBMIT=no if compute nodes may not call qsub: a stopped job then prints the command
# that resumes it. STOP_MARGIN: seconds from the stop signal to the end of the walltime.
#export HPC_DEEPFAKE_RESUBMIT=no
#export HPC_DEEPFAKE_STOP_MARGIN=300
