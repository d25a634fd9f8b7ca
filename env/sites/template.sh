# shellcheck shell=bash
# All settings of one machine: copy this file to env/sites/NAME.sh, fill in what you need and delete
# the rest. `SITE=NAME source env/activate.sh` reads it, on the login node and in every job that is
# submitted with SITE=NAME; `hpc-deepfake job check NAME` tries it without a cluster. A line with
# ${…:-…} keeps a value that your shell has set already. More: docs/sites.md.

# Scheduler: slurm or pbs. Taken by `job check` and `job submit auto`.
#export HPC_DEEPFAKE_SCHEDULER=slurm

# --- programs -------------------------------------------------------------------------------

# A script to source where batch shells have no module command.
#export HPC_DEEPFAKE_PROFILE=/etc/profile.d/lmod.sh

# Modules: the MPI with which Horovod is built, parallel HDF5, Python; for GPUs, CUDA and NCCL. They
# must be the same for env/setup.sh and in every job. A module that can't be loaded is an error.
#load_modules gcc/13 openmpi/4.1 hdf5/1.14-parallel || return

# Folder in which env/setup.sh builds the environment; all compute nodes must see it.
#export HPC_DEEPFAKE_ENV=${HPC_DEEPFAKE_ENV:-$HOME/hpc_deepfake_env}

# Or the Python of the modules, if it has TensorFlow, Horovod, mpi4py and h5py; then nothing is
# built, and the doctor checks what is there.
#export HPC_DEEPFAKE_PYTHON=site

# Or a container image (env/apptainer.def); then nothing is built, either. CONTAINER is apptainer
# (default), singularity, apptainer-rocm, singularity-rocm (AMD GPUs), shifter, podman-hpc, pyxis,
# or a command of your own with {image} and {binds}. The folders of pictures, data and runs are bound;
# BIND names further ones, with colons between.
#export HPC_DEEPFAKE_IMAGE=$HOME/hpc_deepfake.sif
#export HPC_DEEPFAKE_CONTAINER=apptainer
#export HPC_DEEPFAKE_BIND=/scratch:/projects

# --- what a job asks the scheduler for --------------------------------------------------------

# Written into each job script by `hpc-deepfake job render` and `job submit`, and by all jobs that
# submit others. Options of the user take precedence over these, and these over the script's own.
# For `sbatch` by hand, env/activate.sh exports the first four as SBATCH_… variables, of the kind
# $HPC_DEEPFAKE_KIND.

# Account to charge, partition or queue, quality of service. A list of partitions is by size: here,
# debug for jobs of up to 2 nodes, prod for larger ones.
#export HPC_DEEPFAKE_ACCOUNT=${HPC_DEEPFAKE_ACCOUNT:-project123}
#export HPC_DEEPFAKE_PARTITION=${HPC_DEEPFAKE_PARTITION:-debug:2 prod}
#export HPC_DEEPFAKE_QOS=${HPC_DEEPFAKE_QOS:-normal}

# Further options, as on the command line of sbatch or qsub: --constraint=gpu, -l filesystems=home,
# -P project, -W group_list=staff.
#export HPC_DEEPFAKE_OPTIONS='--constraint=infiniband --exclusive'

# Memory of each node, where the scheduler's default is too small.
#export HPC_DEEPFAKE_MEM=64G

# Each of these for one kind of job, in place of the general one (options: in addition to it): GPU_
# for jobs that request GPUs, SMALL_ for evaluate, pipeline and scaling_study (else like CPU_), CPU_
# for all others.
#export HPC_DEEPFAKE_GPU_ACCOUNT=${HPC_DEEPFAKE_GPU_ACCOUNT:-project123_g}
#export HPC_DEEPFAKE_CPU_PARTITION=cpu
#export HPC_DEEPFAKE_SMALL_QOS=shared
#export HPC_DEEPFAKE_GPU_OPTIONS=--constraint=gpu
#export HPC_DEEPFAKE_SMALL_MEM=16G

# GPUs of each node, and how they are requested: a template with {gpus} and {ranks}, both of a node.
# Default: --gpus-per-node={gpus}; in PBS a part of the chunk, ngpus={gpus}. Where a script has one
# rank per GPU, the ranks follow GPUS. GPUS=0: none are requested, and DEVICE must be cpu.
#export HPC_DEEPFAKE_GPUS=4
#export HPC_DEEPFAKE_GPU_REQUEST='--gres=gpu:a100:{gpus}'

# Device of the jobs that compute on GPUs: cpu on a site that has none.
#export HPC_DEEPFAKE_DEVICE=cpu

# Ranks on each node and CPU cores of each rank, by kind of job. Nodes with 64 cores may give jobs 56.
#export HPC_DEEPFAKE_GPU_CPUS=7
#export HPC_DEEPFAKE_CPU_RANKS=28
#export HPC_DEEPFAKE_CPU_CPUS=2

# PBS: the whole request where it is not select=N:ncpus=C:mpiprocs=R:ngpus=G; also by kind. Template
# with {nodes}, {per_node} (ranks on a node), {ranks} (on all nodes), {cpus} (of a rank), {node_cpus},
# {total_cpus}, {gpus} (of a node), {total_gpus}, {mem} (of a node), {total_mem}.
#export HPC_DEEPFAKE_RESOURCES='-l ncpus={total_cpus} -l mem={total_mem}'
#export HPC_DEEPFAKE_GPU_RESOURCES='-l ncpus={total_cpus} -l ngpus={total_gpus} -l mem={total_mem}'

# --- how ranks are started ----------------------------------------------------------------------

# auto: srun if SLURM supports the PMI below, else mpirun. Otherwise srun, mpirun, or a command of
# your own with {nodes}, {ranks}, {per_node}, {gpus}, {cpus}, such as
#   mpiexec -n {ranks} --ppn {per_node} --depth {cpus} --cpu-bind depth            (PALS)
#   jsrun -n {ranks} -r {per_node} -c {cpus} -g 1        flux run -N {nodes} -n {ranks} -c {cpus}
#export HPC_DEEPFAKE_LAUNCHER=auto
#export HPC_DEEPFAKE_SRUN_MPI=pmix          # Open MPI: pmix; MPICH and Intel MPI: pmi2; Cray: cray_shasta
# Further options of srun, such as a container; {image} is IMAGE.
#export HPC_DEEPFAKE_SRUN_OPTIONS=--environment=$HOME/.edf/hpc_deepfake.toml

# --- network and folders ------------------------------------------------------------------------

# Network for MPI and NCCL between nodes (`ip -br addr`, `ibstat`, `ucx_info -d`).
#export HPC_DEEPFAKE_INTERFACE=ib0          # for TCP
#export UCX_NET_DEVICES=mlx5_0:1     # InfiniBand device and port for MPI
#export NCCL_IB_HCA=mlx5             # for NCCL
#export NCCL_NET_GDR_LEVEL=PHB       # GPU-direct RDMA: maximum distance of network card and GPU
#export OMPI_MCA_mpi_yield_when_idle=1   # waiting ranks yield shared cores
#export MPICH_GPU_SUPPORT_ENABLED=0  # HPE Cray: the programs reduce by NCCL, not by MPI on GPUs

# Folders: of pictures, and (LOCAL) on each node's own disk, for STAGE=local and STAGE_ENV=local.
#export HPC_DEEPFAKE_DATA=${HPC_DEEPFAKE_DATA:-$HOME/CASIA}
#export HPC_DEEPFAKE_LOCAL=${TMPDIR:-/tmp}

# PBS only. RESUBMIT=no if compute nodes may not call qsub: a stopped job then prints the command
# that resumes it. STOP_MARGIN: seconds from the stop signal to the end of the walltime.
#export HPC_DEEPFAKE_RESUBMIT=no
#export HPC_DEEPFAKE_STOP_MARGIN=300
