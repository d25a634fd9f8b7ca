# shellcheck shell=bash
# shellcheck disable=SC2034,SC2154 # variables shared with job.sh
# What job.sh needs to know of SLURM.

job_workdir=${SLURM_SUBMIT_DIR:-$PWD}
job_element=${SLURM_ARRAY_TASK_ID:-}
job_id=${SLURM_ARRAY_JOB_ID:+${SLURM_ARRAY_JOB_ID}_$job_element}
job_id=${job_id:-${SLURM_JOB_ID:-}}
job_nodes=${SLURM_JOB_NUM_NODES:-1}
job_ranks=${SLURM_NTASKS:-$((job_nodes * ${SLURM_NTASKS_PER_NODE:-1}))}
job_cpus=${SLURM_CPUS_PER_TASK:-1}
job_restarts=${SLURM_RESTART_COUNT:-0}
export SRUN_CPUS_PER_TASK=$job_cpus # srun forgets --cpus-per-task since 22.05

job_fact() { # NAME: of this job, as scontrol knows it
    { scontrol show job "$job_id" 2>/dev/null || true; } | sed -n "s/.*\\<$1=//p" | sed -n '1p'
}

[[ -z $job_id ]] || job_log=$(job_fact StdOut)

# `#SBATCH --signal=B:USR1@300` wakes this shell before the limit: nothing to be done here.
watch_limit() { :; }

# go_on FOLDER: after a stop, have SLURM run this job again
go_on() {
    local state
    state=$(job_fact JobState)
    if [[ -n ${HPC_DEEPFAKE_CHAIN:-} ]]; then
        say "stopped; the next job of the chain goes on"
    elif [[ -z $state || $state == COMPLETING* || $state == CANCELLED* ]]; then
        # Somebody, or SLURM, is ending it for good. (Where a signal is under way, the state is
        # SIGNALING instead of RUNNING.)
        say "stopped while it was being ended (${state%% *}): submit it again to go on"
    elif ((job_restarts >= MAX_RESTARTS)); then
        say "stopped, and run $((job_restarts + 1)) times already (MAX_RESTARTS=$MAX_RESTARTS): submit it again to go on"
    else
        say "stopped; queued again, run $((job_restarts + 2)) goes on from here"
        # SLURM ends this shell meanwhile.
        scontrol requeue "$job_id" ||
            say "requeueing was refused: submit it again to go on"
    fi
}

# queue SCRIPT [OPTIONS…]: submits a script, prints the job's id
queue() (
    script=$1
    shift
    # What the job around this one was given is not for the new one.
    for name in $(compgen -e SLURM_) $(compgen -e SRUN_) OMP_NUM_THREADS \
        HPC_DEEPFAKE_{STAGED,RANK_LOGS,ERROR_FILE,OUTCOME_FILE}; do
        [[ $name == SLURM_CONF ]] || unset "$name"
    done
    sbatch --parsable "$@" "$script" | sed 's/;.*//'
)

after() { # HOW JOB: option for a job that starts after another, HOW: ok, any
    printf -- '--dependency=after%s:%s' "$1" "$2"
}
only_if_possible=--kill-on-invalid-dep=yes # a job that can never start shall not wait for ever
after_training=ok # a job that was stopped and queued again keeps its id

queued_or_running() { # JOB
    [[ -n $(squeue --noheader --jobs="$1" --states=PENDING,RUNNING,SUSPENDED,CONFIGURING,COMPLETING 2>/dev/null) ]]
}
