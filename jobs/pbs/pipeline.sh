#!/bin/bash -l
# Preprocess, train, evaluate: three jobs, each after the one before.
#
#   qsub -v PICTURES=/scratch/CASIA2,ARGS='--epochs 10' jobs/pbs/pipeline.sh
#
# Where compute nodes may not submit jobs, and just as well elsewhere, on the login node:
#   PICTURES=/scratch/CASIA2 bash jobs/pbs/pipeline.sh --epochs 10
# ARGS go to python -m hpc_deepfake.train.
#PBS -N hd-pipeline
#PBS -l select=1:ncpus=1:mpiprocs=1
#PBS -l place=scatter
#PBS -l walltime=00:10:00
#PBS -r n
#PBS -k oed
#PBS -j oe
set -euo pipefail

# What to change: here, or when submitting, as above.
PICTURES=${PICTURES:-}              # folder of pictures (default: $HPC_DEEPFAKE_DATA, else data)
DATA=${DATA:-}                      # data file, HDF5 (default: features.h5 in the folder of pictures)
RUN=${RUN:-}                        # run directory (default: runs/pipeline-JOB_ID)
CONFIG=${CONFIG:-}                  # TOML file with options of the program
ARGS=${ARGS:-}                      # more options of the program, in one text
SITE=${SITE:-}                      # site file env/sites/SITE.sh: modules, launcher, network
DEVICE=${DEVICE:-gpu}               # cpu, gpu or auto; gpu stops at once where there is none
STAGE=${STAGE:-}                    # copy the data file to this folder of each node; local: the site's
STAGE_ENV=${STAGE_ENV:-}            # copy the Python environment to this folder of each node; local: the site's
RANK_LOGS=${RANK_LOGS:-}            # 1: a log for each rank besides the job's
DOCTOR=${DOCTOR:-on}                # off: don't check nodes and environment first
MAX_RESTARTS=${MAX_RESTARTS:-20}    # how often a job that was stopped goes on by itself
TRAIN=${TRAIN:-train_multinode}     # the training job: train_cpu, train_4gpu, train_multinode
PREPROCESS_OPTIONS=${PREPROCESS_OPTIONS:-} # words for qsub: of the first job,
TRAIN_OPTIONS=${TRAIN_OPTIONS:-}    # of the training job,
EVALUATE_OPTIONS=${EVALUATE_OPTIONS:-} # of the last

# The scheduler runs a copy of this file: find the clone that it came from.
clone=$(qstat -f -w "${PBS_JOBID:--}" 2>/dev/null | sed -n 's|^ *Submit_arguments = \(.* \)\{0,1\}\(/.*\)/jobs/pbs/[a-z0-9_]*\.sh.*|\2|p') || true
for clone in "$clone" "${BASH_SOURCE[0]%/*}/../.." "${HPC_DEEPFAKE_HOME:-}" "${PBS_O_WORKDIR:-.}"{,/..,/../..} ""; do
    [[ ! -f $clone/jobs/lib/job.sh ]] || break
done
[[ -n $clone ]] || { echo "error: no clone of hpc_deepfake here: submit inside it, or set HPC_DEEPFAKE_HOME" >&2; exit 2; }
# shellcheck source=jobs/lib/job.sh
source "$clone/jobs/lib/job.sh" pbs "$@"

pipeline
