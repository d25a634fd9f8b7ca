#!/bin/bash -l
# Training methods side by side, and features: same data, epochs, seeds and machines.
#
#   qsub -v DATA=casia2.h5,METHODS='sequential sync',EPOCHS=10 jobs/pbs/compare.sh
#
# ARGS go to hpc-deepfake compare, and what stands behind -- to each training; the report is
# compare.html, .md, .csv and .json in the run directory.
#PBS -N hd-compare
#PBS -l select=1:ncpus=16:mpiprocs=4
#PBS -l place=scatter
#PBS -l walltime=12:00:00
#PBS -r y
#PBS -k oed
#PBS -j oe
set -euo pipefail

# What to change: here, or when submitting, as above.
DATA=${DATA:-}                      # data file, HDF5 (default: features.h5 in the folder of pictures)
RUN=${RUN:-}                        # run directory (default: runs/JOB_ID)
METHODS=${METHODS:-}                # strategies of training, with commas or spaces between (default: all)
FEATURES=${FEATURES:-}              # features of the data file (default: ela and raw)
EPOCHS=${EPOCHS:-}                  # of each training (default: 30)
REPEATS=${REPEATS:-}                # trainings of each kind, with seeds that count up (default: 1)
CONFIG=${CONFIG:-}                  # TOML file with options of the program
ARGS=${ARGS:-}                      # more options of the program, in one text
SITE=${SITE:-}                      # site file env/sites/SITE.sh: modules, launcher, network
DEVICE=${DEVICE:-cpu}               # cpu, gpu or auto; gpu stops at once where there is none
STAGE_ENV=${STAGE_ENV:-}            # copy the Python environment to this folder of each node; local: the site's
RANK_LOGS=${RANK_LOGS:-}            # 1: a log for each rank besides the job's
DOCTOR=${DOCTOR:-on}                # off: don't check nodes and environment first
MAX_RESTARTS=${MAX_RESTARTS:-20}    # how often a job that was stopped goes on by itself

# The scheduler runs a copy of this file: find the clone that it came from.
clone=$(qstat -f -w "${PBS_JOBID:--}" 2>/dev/null | sed -n 's|^ *Submit_arguments = \(.* \)\{0,1\}\(/.*\)/jobs/pbs/[a-z0-9_]*\.sh.*|\2|p') || true
for clone in "$clone" "${BASH_SOURCE[0]%/*}/../.." "${HPC_DEEPFAKE_HOME:-}" "${PBS_O_WORKDIR:-.}"{,/..,/../..} ""; do
    [[ ! -f $clone/jobs/lib/job.sh ]] || break
done
[[ -n $clone ]] || { echo "error: no clone of hpc_deepfake here: submit inside it, or set HPC_DEEPFAKE_HOME" >&2; exit 2; }
# shellcheck source=jobs/lib/job.sh
source "$clone/jobs/lib/job.sh" pbs "$@"

compare
