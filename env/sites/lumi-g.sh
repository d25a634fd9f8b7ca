# shellcheck shell=bash
# LUMI (CSC): SLURM, HPE Cray EX with Slingshot 11; LUMI-G nodes with four AMD MI250X, which are eight
# GPUs. At the end: what differs on Frontier (OLCF), which has the same nodes.
# Written from documentation in November 2026 (the stored copy of LUMI's is of October 2024); it has
# NOT been run there, nor has anything on an AMD GPU. Replace project123 and the image.
#
# ROCm: env/setup.sh builds for CUDA only, so the environment must be a container image that has
# TensorFlow for ROCm, Horovod with RCCL, mpi4py and parallel h5py; the code is the clone's. Training
# and evaluation ask TensorFlow for its GPUs, which finds AMD's, and RCCL reads NCCL's variables. The
# doctor knows GPUs by nvidia-smi: of AMD's it checks neither driver, memory nor links.

# https://docs.lumi-supercomputer.eu/runjobs/scheduled-jobs/partitions/: standard-g and standard give
# whole nodes, small gives parts of them.
export HPC_DEEPFAKE_SCHEDULER=slurm
export HPC_DEEPFAKE_ACCOUNT=${HPC_DEEPFAKE_ACCOUNT:-project123} # project_465…
export HPC_DEEPFAKE_GPU_PARTITION=standard-g
export HPC_DEEPFAKE_CPU_PARTITION=standard
export HPC_DEEPFAKE_SMALL_PARTITION=small

# https://docs.lumi-supercomputer.eu/runjobs/scheduled-jobs/lumig-job/: 56 of the 64 cores are for
# jobs; those that ask for 64 never run.
export HPC_DEEPFAKE_GPUS=8
export HPC_DEEPFAKE_GPU_RANKS=8
export HPC_DEEPFAKE_GPU_CPUS=7

export HPC_DEEPFAKE_LAUNCHER=srun
export HPC_DEEPFAKE_SRUN_MPI=cray_shasta # not verified

# https://docs.lumi-supercomputer.eu/runjobs/scheduled-jobs/container-jobs/: singularity needs no
# module; /scratch and /project are links, so project folders are bound by their full path. --rocm
# comes with the word: https://docs.sylabs.io/guides/latest/user-guide/gpu.html
export HPC_DEEPFAKE_IMAGE=${HPC_DEEPFAKE_IMAGE:-/scratch/project123/hpc_deepfake_rocm.sif}
export HPC_DEEPFAKE_CONTAINER=singularity-rocm
export HPC_DEEPFAKE_BIND=/scratch/project123:/projappl/project123

# https://docs.lumi-supercomputer.eu/software/packages/pytorch/: RCCL over Slingshot. The image needs
# the plug-in aws-ofi-rccl in its LD_LIBRARY_PATH.
export NCCL_SOCKET_IFNAME=${NCCL_SOCKET_IFNAME:-hsn}
export NCCL_NET_GDR_LEVEL=3
export CXI_FORK_SAFE=1 CXI_FORK_SAFE_HP=1 FI_CXI_DISABLE_CQ_HUGETLB=1
export MIOPEN_USER_DB_PATH=/tmp/$USER-miopen MIOPEN_CUSTOM_CACHE_DIR=/tmp/$USER-miopen
export MPICH_GPU_SUPPORT_ENABLED=0 # the programs reduce by RCCL

export HPC_DEEPFAKE_LOCAL=/tmp # nodes without disks: this is their memory (not verified)

# On Frontier (https://docs.olcf.ornl.gov/systems/frontier_user_guide.html and
# https://docs.olcf.ornl.gov/software/analytics/pytorch_frontier.html): one partition of GPU nodes
# with 56 cores for jobs, too; Apptainer (not verified); RCCL's settings in a module. Instead of the
# lines above:
#load_modules rccl-net-plugin || return
#export HPC_DEEPFAKE_PARTITION=batch HPC_DEEPFAKE_CONTAINER=apptainer-rocm
#export HPC_DEEPFAKE_OPTIONS=--network=disable_rdzv_get HPC_DEEPFAKE_SRUN_OPTIONS=--gpu-bind=closest
#export HPC_DEEPFAKE_GPU_REQUEST=--gpus-per-task=1
#export NCCL_SOCKET_IFNAME=hsn0,hsn1,hsn2,hsn3 # if it hangs: hsn0
