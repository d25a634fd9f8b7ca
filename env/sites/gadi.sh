# shellcheck shell=bash
# Gadi (NCI): PBS Pro with requests that have no select; GPU nodes with four NVIDIA V100 (gpuvolta).
# Written from documentation in November 2026; it has NOT been run there. Replace project123, which
# stands for the project's code, such as ab12.
# Not verified: names of the modules, name of the network interface, whether jobs may call qsub.

load_modules gcc openmpi hdf5 python3 cuda || return
export HPC_DEEPFAKE_ENV=${HPC_DEEPFAKE_ENV:-/scratch/${PROJECT:-project123}/$USER/hpc_deepfake_env}

# https://opus.nci.org.au/display/Help/PBS+Directives+Explained: the project is named with -P, and
# jobs must name the storage that they use, joined by +. jobfs is disk space on the nodes.
export HPC_DEEPFAKE_SCHEDULER=pbs
export HPC_DEEPFAKE_OPTIONS=${HPC_DEEPFAKE_OPTIONS:--P project123 -l storage=scratch/project123+gdata/project123 -l jobfs=10GB}
export HPC_DEEPFAKE_CPU_PARTITION=normal
export HPC_DEEPFAKE_GPU_PARTITION=gpuvolta

# The whole request, over all nodes. https://opus.nci.org.au/spaces/Help/pages/236880942/Job+Costs...:
# ncpus is 12 times ngpus; nodes have 48 cores, and 192 GB (normal) or 382 GB (gpuvolta) of memory.
export HPC_DEEPFAKE_RESOURCES='-l ncpus={total_cpus} -l mem={total_mem}'
export HPC_DEEPFAKE_GPU_RESOURCES='-l ncpus={total_cpus} -l ngpus={total_gpus} -l mem={total_mem}'
export HPC_DEEPFAKE_GPUS=4
export HPC_DEEPFAKE_GPU_CPUS=12 HPC_DEEPFAKE_GPU_MEM=370G
# Jobs on several nodes must ask for whole ones, so CPU jobs do: 12 ranks of 4 cores.
export HPC_DEEPFAKE_CPU_RANKS=12 HPC_DEEPFAKE_CPU_CPUS=4 HPC_DEEPFAKE_CPU_MEM=180G
export HPC_DEEPFAKE_SMALL_MEM=16G

export HPC_DEEPFAKE_LAUNCHER=mpirun
export HPC_DEEPFAKE_INTERFACE=ib0
# https://climate-cms.org/posts/2022-11-10-jobfs.html: $TMPDIR is the job's folder on the node's disk.
export HPC_DEEPFAKE_LOCAL=${TMPDIR:-/tmp}
