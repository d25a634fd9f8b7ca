#!/bin/bash -l
# How training scales: a job for each size, strong and weak, and a last one for the report.
#
#   qsub -v DATA=casia2.h5,MAX_NODES=8,ARGS='--epochs 3' jobs/pbs/scaling_study.sh
#
# Where compute nodes may not submit jobs, and just as well elsewhere, on the login node; the first
# line only prints the jobs and what they cost:
#   DATA=casia2.h5 MAX_NODES=8 bash jobs/pbs/scaling_study.sh --dry-run --epochs 3
#   DATA=casia2.h5 MAX_NODES=8 RUN=runs/scaling bash jobs/pbs/scaling_study.sh --epochs 3
# The same again, with the same RUN, submits what is missing. ARGS go to
# python -m hpc_deepfake.train; the report is report.html in the folder of runs.
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
KINDS=${KINDS:-strong weak}         # of: strong weak preprocess microbench
STRATEGIES=${STRATEGIES:-sync}      # as for train --strategy; mesh:tensor=2,pipeline=2
INPUTS=${INPUTS:-real}              # of: real synthetic
REPEATS=${REPEATS:-1}               # of each run
MAX_NODES=${MAX_NODES:-4}           # 1, 2, 4 and so on nodes, up to this
RANKS_PER_NODE=${RANKS_PER_NODE:-}  # of a full node (default: the training job's own)
GLOBAL_BATCH=${GLOBAL_BATCH:-}      # strong: rows of a step over all ranks (default: 256)
BATCH_SIZE=${BATCH_SIZE:-}          # weak: rows of a step of each rank (default: 32)
ROWS_PER_RANK=${ROWS_PER_RANK:-}    # weak: rows of an epoch of each rank (default: 512)
LIMIT=${LIMIT:-00:30:00}            # time limit of each job
PICTURES=${PICTURES:-}              # preprocess: folder of pictures
TRAIN_OPTIONS=${TRAIN_OPTIONS:-}    # words for qsub, of the training jobs
PREPROCESS_OPTIONS=${PREPROCESS_OPTIONS:-} # words for qsub, of the preprocessing jobs

# The scheduler runs a copy of this file: find the clone that it came from.
clone=$(qstat -f -w "${PBS_JOBID:--}" 2>/dev/null | sed -n 's|^ *Submit_arguments = \(.* \)\{0,1\}\(/.*\)/jobs/pbs/[a-z0-9_]*\.sh.*|\2|p') || true
for clone in "$clone" "${BASH_SOURCE[0]%/*}/../.." "${HPC_DEEPFAKE_HOME:-}" "${PBS_O_WORKDIR:-.}"{,/..,/../..} ""; do
    [[ ! -f $clone/jobs/lib/job.sh ]] || break
done
[[ -n $clone ]] || { echo "error: no clone of hpc_deepfake here: submit inside it, or set HPC_DEEPFAKE_HOME" >&2; exit 2; }
# shellcheck source=jobs/lib/job.sh
source "$clone/jobs/lib/job.sh" pbs "$@"

scaling_study
