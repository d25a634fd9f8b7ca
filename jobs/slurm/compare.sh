#!/bin/bash -l
# Training methods side by side, and features: same data, epochs, seeds and machines.
#
#   DATA=casia2.h5 METHODS=sequential,sync EPOCHS=10 sbatch jobs/slurm/compare.sh
#
# Arguments go to hpc-deepfake compare, and what stands behind -- to each training; the report is
# compare.html, .md, .csv and .json in the run directory.
#SBATCH --job-name=hd-compare
#SBATCH --nodes=1
#SBATCH --ntasks-per-node=4
#SBATCH --cpus-per-task=4
#SBATCH --time=12:00:00
#SBATCH --signal=B:USR1@300
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --output=%x-%j.log
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
clone=$(scontrol show job "${SLURM_JOB_ID:--}" 2>/dev/null | sed -n 's|^ *Command=\(.*\)/jobs/slurm/[a-z0-9_]*\.sh.*|\1|p' | sed -n 1p) || true
for clone in "$clone" "${BASH_SOURCE[0]%/*}/../.." "${HPC_DEEPFAKE_HOME:-}" "${SLURM_SUBMIT_DIR:-.}"{,/..,/../..} ""; do
    [[ ! -f $clone/jobs/lib/job.sh ]] || break
done
[[ -n $clone ]] || { echo "error: no clone of hpc_deepfake here: submit inside it, or set HPC_DEEPFAKE_HOME" >&2; exit 2; }
# shellcheck source=jobs/lib/job.sh
source "$clone/jobs/lib/job.sh" slurm "$@"

compare
