# shellcheck shell=bash
# Polaris (ALCF): PBS, HPE Apollo with Slingshot; nodes with four NVIDIA A100.
# Written from documentation in November 2026; it has NOT been run there. Replace project123.
# Not verified: that the conda module has h5py with parallel HDF5 (the doctor says; without it, one
# rank writes for all), and whether compute nodes may call qsub.

# https://docs.alcf.anl.gov/polaris/data-science/python/: Python with TensorFlow and Horovod, used
# instead of what env/setup.sh builds
module use /soft/modulefiles
load_modules conda || return
conda activate base
export HPC_DEEPFAKE_PYTHON=site

# https://docs.alcf.anl.gov/polaris/running-jobs/: prod takes jobs from 10 nodes on and routes them by
# size (up to 24 nodes: 3 hours). Smaller jobs: preemptable, up to 72 hours, whose jobs may be killed
# and are run again (#PBS -r y). debug-scaling takes up to 10 nodes for an hour, but only one job of
# each user at a time: no pipelines or studies there.
export HPC_DEEPFAKE_SCHEDULER=pbs
export HPC_DEEPFAKE_ACCOUNT=${HPC_DEEPFAKE_ACCOUNT:-project123}
export HPC_DEEPFAKE_PARTITION=${HPC_DEEPFAKE_PARTITION:-preemptable:9 prod}
export HPC_DEEPFAKE_SMALL_PARTITION=debug # up to 2 nodes and an hour
# Jobs must name the file systems that they use.
export HPC_DEEPFAKE_OPTIONS='-l filesystems=home:eagle'
# https://docs.alcf.anl.gov/running-jobs/example-job-scripts/: whole nodes
export HPC_DEEPFAKE_RESOURCES='-l select={nodes}:system=polaris -l place=scatter'

# The same pages: PALS starts the ranks; 64 hardware threads, so 16 for each of four ranks
export HPC_DEEPFAKE_LAUNCHER='mpiexec -n {ranks} --ppn {per_node} --depth {cpus} --cpu-bind depth'
export HPC_DEEPFAKE_GPUS=4
export HPC_DEEPFAKE_GPU_CPUS=16
export MPICH_GPU_SUPPORT_ENABLED=0 # the programs reduce by NCCL; 1 needs the GTL library

# https://docs.alcf.anl.gov/polaris/applications-and-libraries/libraries/nccl/: NCCL over Slingshot
export NCCL_NET=${NCCL_NET:-AWS Libfabric}
export NCCL_NET_GDR_LEVEL=PHB NCCL_CROSS_NIC=1 NCCL_COLLNET_ENABLE=1
export LD_LIBRARY_PATH=/soft/libraries/hwloc/lib:/soft/libraries/aws-ofi-nccl/v1.9.1-aws/lib:${LD_LIBRARY_PATH:-}
export FI_CXI_DISABLE_HOST_REGISTER=1 FI_MR_CACHE_MONITOR=userfaultfd FI_CXI_DEFAULT_CQ_SIZE=131072

# https://docs.alcf.anl.gov/polaris/getting-started/#proxy: for downloads
export http_proxy=http://proxy.alcf.anl.gov:3128 https_proxy=http://proxy.alcf.anl.gov:3128

# https://docs.alcf.anl.gov/polaris/containers/containers/ names this folder on each node's disk.
export HPC_DEEPFAKE_LOCAL=/local/scratch
