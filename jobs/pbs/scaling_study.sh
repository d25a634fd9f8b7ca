#!/bin/bash -l
# The same training on 1, 2, 4 and so on nodes, a job each, and a last job for the table.
#
#   qsub -v DATA=casia2.h5,MAX_NODES=8,ARGS='--epochs 3' jobs/pbs/scaling_study.sh
#
# Where compute nodes may not submit jobs, and just as well elsewhere, on the login node:
#   DATA=casia2.h5 MAX_NODES=8 bash jobs/pbs/scaling_study.sh --epochs 3
# ARGS go to python -m hpc_deepfake.train; the table is summary.txt in the run directory.
#PBS -N hd-scaling
#PBS -l select=1:ncpus=1:mpiprocs=1
#PBS -l place=scatter
#PBS -l walltime=00:10:00
#PBS -r n
#PBS -k oed
#PBS -j oe
set -euo pipefail

# What to change: here, or when submitting, as above.
DATA=${DATA:-}                      # data file, HDF5 (default: features.h5 in the folder of pictures)
RUN=${RUN:-}                        # folder of the runs (default: runs/scaling-JOB_ID)
CONFIG=${CONFIG:-}                  # TOML file with options of the program
ARGS=${ARGS:-}                      # more options of the program, in one text
SITE=${SITE:-}                      # site file env/sites/SITE.sh: modules, launcher, network
DEVICE=${DEVICE:-gpu}               # cpu, gpu or auto; gpu stops at once where there is none
DOCTOR=${DOCTOR:-on}                # off: don't check nodes and environment first
TRAIN=${TRAIN:-train_multinode}     # the training job: train_cpu, train_4gpu, train_multinode
MAX_NODES=${MAX_NODES:-4}           # 1, 2, 4 and so on nodes, up to this
TRAIN_OPTIONS=${TRAIN_OPTIONS:-}    # words for qsub, of the training jobs

# The scheduler runs a copy of this file: find the clone that it came from.
clone=$(qstat -f -w "${PBS_JOBID:--}" 2>/dev/null | sed -n 's|^ *Submit_arguments = \(.* \)\{0,1\}\(/.*\)/jobs/pbs/[a-z0-9_]*\.sh.*|\2|p') || true
for clone in "$clone" "${BASH_SOURCE[0]%/*}/../.." "${HPC_DEEPFAKE_HOME:-}" "${PBS_O_WORKDIR:-.}"{,/..,/../..} ""; do
    [[ ! -f $clone/jobs/lib/job.sh ]] || break
done
[[ -n $clone ]] || { echo "error: no clone of hpc_deepfake here: submit inside it, or set HPC_DEEPFAKE_HOME" >&2; exit 2; }
# shellcheck source=jobs/lib/job.sh
source "$clone/jobs/lib/job.sh" pbs "$@"

scaling_study
