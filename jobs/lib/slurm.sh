# shellcheck shell=bash
# shellcheck disable=SC2034,SC2154 # variables shared with job.sh
# SLURM's side of job.sh.

job_workdir=${SLURM_SUBMIT_DIR:-$PWD}
job_element=${SLURM_ARRAY_TASK_ID:-}
job_id=${SLURM_ARRAY_JOB_ID:+${SLURM_ARRAY_JOB_ID}_$job_element}
job_id=${job_id:-${SLURM_JOB_ID:-}}
job_nodes=${SLURM_JOB_NUM_NODES:-1}
job_ranks=${SLURM_NTASKS:-$((job_nodes * ${SLURM_NTASKS_PER_NODE:-1}))}
job_cpus=${SLURM_CPUS_PER_TASK:-1}
job_gpus=${SLURM_GPUS_ON_NODE:-${SLURM_GPUS_PER_NODE:-0}} # may be a100:4
job_gpus=${job_gpus##*:}
job_restarts=${SLURM_RESTART_COUNT:-0}

job_fact() { # NAME: this field of scontrol's record of the job
    { scontrol show job "$job_id" 2>/dev/null || true; } | sed -n "s/.*\\<$1=//p" | sed -n '1p'
}

[[ -z $job_id ]] || job_log=$(job_fact StdOut)

# `#SBATCH --signal=B:USR1@300` signals this shell before the time limit: nothing to do here.
watch_limit() { :; }

# resume_later FOLDER: after a stop, has SLURM run this job again
resume_later() {
    local state
    state=$(job_fact JobState)
    if [[ -n ${HPC_DEEPFAKE_CHAIN:-} ]]; then
        say "stopped; the next job of the chain resumes"
    elif [[ -z $state || $state == COMPLETING* || $state == CANCELLED* ]]; then
        # A user, or SLURM, is ending it for good. (While a signal is being delivered, the state is
        # SIGNALING instead of RUNNING.)
        say "stopped while being cancelled or ended (${state%% *}): submit it again to resume"
    elif ((job_restarts >= MAX_RESTARTS)); then
        say "stopped after $((job_restarts + 1)) run(s) (MAX_RESTARTS=$MAX_RESTARTS): submit it again to resume"
    else
        say "stopped and queued again: run $((job_restarts + 2)) resumes from here"
        # SLURM ends this shell during the call.
        scontrol requeue "$job_id" ||
            say "SLURM refused to requeue the job: submit it again to resume"
    fi
}

# queue SCRIPT [OPTIONS…]: submits a script, prints the job's id
queue() (
    script=$1
    shift
    # Variables of the job that submits are not for the submitted one.
    for name in $(compgen -e SLURM_) $(compgen -e SRUN_) OMP_NUM_THREADS \
        HPC_DEEPFAKE_{STAGED,RANK_LOGS,ERROR_FILE,OUTCOME_FILE}; do
        [[ $name == SLURM_CONF ]] || unset "$name"
    done
    submitting sbatch --parsable "$@" "$script"
)

after() { # HOW JOB: option to start after another job; HOW: ok, any
    printf -- '--dependency=after%s:%s' "$1" "$2"
}
only_if_possible=--kill-on-invalid-dep=yes # so that a job that can never start doesn't wait forever
after_work=ok # a job that is stopped and queued again keeps its id

submit_again() { return 1; } # so no job has to follow another id

cancel() { scancel "$@"; } # JOB…

# queued_or_running JOB: 0 if it is, 1 if it isn't, 2 if SLURM doesn't say; what it says instead is in
# $unknown
queued_or_running() {
    local answer
    # without a user's own selection of jobs
    if answer=$(unset "${!SQUEUE_@}" && timeout 60 squeue --noheader --format=%i --jobs="$1" --states=PENDING,RUNNING,SUSPENDED,CONFIGURING,COMPLETING 2>&1); then
        [[ $'\n'${answer// /} == *$'\n'"$1"* ]] # without warnings
        return
    fi
    [[ ! ${answer,,} == *'invalid job id'* ]] || return 1
    unknown=${answer:-squeue gives no answer}
    return 2
}
