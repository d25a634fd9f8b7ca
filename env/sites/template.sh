# shellcheck shell=bash
# One file for all that is particular to a machine: copy this to env/sites/NAME.sh, fill in what
# you need, leave out the rest. It is read by `SITE=NAME source env/activate.sh`, on the login node
# and in every job that is submitted with SITE=NAME. What is set already in your shell wins where
# the line says ${…:-…}.

# Modules: the MPI that Horovod is built with, parallel HDF5, Python; with GPUs the CUDA toolkit and
# NCCL. The same when env/setup.sh is run and in every job. Stops where one can't be loaded.
#load_modules gcc/13 openmpi/4.1 hdf5/1.14-parallel || return

# Where env/setup.sh builds the environment: a folder that all compute nodes see.
#export HPC_DEEPFAKE_ENV=${HPC_DEEPFAKE_ENV:-$WORK/hpc_deepfake_env}

# Or a container image instead (env/apptainer.def); nothing is built then.
#export HPC_DEEPFAKE_IMAGE=$WORK/hpc_deepfake.sif

# Who pays, and where jobs go: reach SLURM as SBATCH_ACCOUNT, SBATCH_PARTITION and SBATCH_QOS when
# this is sourced on the login node; PBS as qsub -A and -q by `hpc-deepfake job submit`.
#export HPC_DEEPFAKE_ACCOUNT=${HPC_DEEPFAKE_ACCOUNT:-project123}
#export HPC_DEEPFAKE_PARTITION=${HPC_DEEPFAKE_PARTITION:-gpu}
#export HPC_DEEPFAKE_QOS=${HPC_DEEPFAKE_QOS:-normal}

# How ranks are started. auto: srun where SLURM has the PMI below, else mpirun. srun, mpirun, or
# words of your own: mpiexec -n {ranks} --ppn {per_node} --depth {cpus} --cpu-bind depth
#export HPC_DEEPFAKE_LAUNCHER=auto
#export HPC_DEEPFAKE_SRUN_MPI=pmix          # Open MPI: pmix; MPICH and Intel MPI: pmi2; Cray: cray_shasta

# Network of MPI and NCCL between nodes (`ip -br addr`, `ibstat`, `ucx_info -d`).
#export HPC_DEEPFAKE_INTERFACE=ib0          # for what goes over TCP
#export UCX_NET_DEVICES=mlx5_0:1     # InfiniBand device and port of MPI
#export NCCL_IB_HCA=mlx5             # of NCCL
#export NCCL_NET_GDR_LEVEL=PHB       # GPU-direct RDMA: how far card and GPU may be apart
#export OMPI_MCA_mpi_yield_when_idle=1   # ranks that share cores give them away while they wait

# Folders. LOCAL: each node's own disk, for STAGE=local and STAGE_ENV=local.
#export HPC_DEEPFAKE_DATA=${HPC_DEEPFAKE_DATA:-$SCRATCH/CASIA}
#export HPC_DEEPFAKE_LOCAL=${TMPDIR:-/tmp}

# PBS only. May compute nodes call qsub? no: the command to go on is printed instead. Seconds from
# the stop signal to the end of the walltime.
#export HPC_DEEPFAKE_RESUBMIT=no
#export HPC_DEEPFAKE_STOP_MARGIN=300
