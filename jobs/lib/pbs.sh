# shellcheck shell=bash
# shellcheck disable=SC2034,SC2154 # variables shared with job.sh
# OpenPBS's and PBS Pro's side of job.sh.

# Some servers pass the script to a shell on standard input: then it can't be read here.
[[ -f $job_script && -r $job_script ]] || job_script=/dev/null
job_workdir=${PBS_O_WORKDIR:-$PWD} # PBS starts in the home directory
job_element=${PBS_ARRAY_INDEX:-$job_element}
job_id=${PBS_JOBID:-}
if [[ -s ${PBS_NODEFILE:-} ]]; then # one line per rank
    job_nodes=$(sort -u "$PBS_NODEFILE" | wc -l)
    job_ranks=$(wc -l <"$PBS_NODEFILE")
fi

# chunk NAME: a resource of the script's own select statement
chunk() { sed -n "s/^#PBS -l select=.*[:=]$1=\\([0-9]*\\).*/\\1/p" "$job_script" | sed -n '1p'; }

# NCPUS counts the chunk's CPUs, which its ranks share.
job_cpus=${NCPUS:-$(chunk ncpus)}
job_cpus=$((${job_cpus:-1} * job_nodes / job_ranks))
((job_cpus > 0)) || job_cpus=1

if [[ -n $job_id ]]; then # NAME.o123; for element 123[4] of an array NAME.o123.4
    job_log=${job_id%%.*}
    job_log=$job_workdir/${PBS_JOBNAME:-job}.o${job_log%%\[*}${job_element:+.$job_element}
fi

seconds_of() { # [[HH:]MM:]SS
    local total=0 part
    IFS=: read -ra parts <<<"$1"
    for part in "${parts[@]}"; do total=$((total * 60 + 10#$part)); done
    echo "$total"
}

# OpenPBS sends no signal before the time limit, so a timer does. The limit comes from the server if
# this node may query it, otherwise from the script.
watch_limit() {
    local limit='' margin=${HPC_DEEPFAKE_STOP_MARGIN:-300} left
    [[ -n $job_id ]] || return 0
    limit=$(qstat -f "$job_id" 2>/dev/null | sed -n 's/^ *Resource_List.walltime = //p') || true
    limit=${limit:-$(sed -n 's/^#PBS -l walltime=\([0-9:]*\).*/\1/p' "$job_script")}
    [[ -n $limit ]] || return 0
    left=$(($(seconds_of "$limit") - SECONDS - margin))
    ((left > 0)) || left=1
    (
        sleep "$left" &
        trap 'kill "$!" 2>/dev/null; exit 0' TERM EXIT
        wait "$!" && kill -USR1 $$
    ) &
    timer=$!
}

# resume_later FOLDER: after a stop, submits a successor, since PBS lets no user rerun a job
resume_later() {
    local folder=$1 next
    if [[ $stop_asked == TERM ]]; then # qdel, or the limit itself: the timer sends USR1
        say "stopped while being deleted or ended: submit it again to resume"
    elif [[ -n ${HPC_DEEPFAKE_CHAIN:-} ]]; then
        say "stopped; the next job of the chain resumes"
    elif ((job_restarts >= MAX_RESTARTS)); then
        say "stopped after $((job_restarts + 1)) run(s) (MAX_RESTARTS=$MAX_RESTARTS): submit it again to resume"
    elif [[ ${HPC_DEEPFAKE_RESUBMIT:-auto} != no ]] && next=$(submit_again "$job_id"); then
        echo "$next" >"$folder/next"
        say "stopped; job $next resumes from here"
    elif ! successor "$folder"; then
        say "stopped: submit it again${job_run:+ with RUN=$job_run} to resume"
    else
        say "stopped, and this node may not submit jobs. To resume, on a login node:" \
            "  cd $(printf %q "$PWD") && qsub $(printf %q "$folder/successor.sh")"
    fi
}

successor() { # FOLDER: writes FOLDER/successor.sh, the script of the job that resumes this one
    local names=() name
    [[ $job_script != /dev/null ]] || return 1
    mapfile -t names < <(sed -n 's/^\([A-Z_]*\)=${\1:-.*/\1/p' "$job_script" | sort -u)
    for name in "${!names[@]}"; do names[name]+="=${!names[name]}"; done
    write_script "$job_script" "HPC_DEEPFAKE_HOME=$HPC_DEEPFAKE_HOME" "${names[@]}" \
        "job_restarts=$((job_restarts + 1))" "job_element=$job_element" "job_run=$job_run" \
        >"$1/successor.sh"
}

submit_again() { # AFTER: submits this job again, to start after another one; prints its id
    local facts=()
    command -v qsub >/dev/null && successor "$job_records" || return 1
    # Options given when submitting take precedence over the script's own directives.
    mapfile -t facts < <(qstat -f -w "$job_id" 2>/dev/null |
        sed -n 's/^ *Resource_List\.\(select\|walltime\|place\) = /-l \1=/p; s/^ *queue = /-q /p; s/^ *Account_Name = /-A /p')
    local options=() fact
    for fact in "${facts[@]}"; do options+=("${fact%% *}" "${fact#* }"); done
    queue "$job_records/successor.sh" "${options[@]}" -W "depend=afterany:$1"
}

# queue SCRIPT [OPTIONS…]: submits a script, prints the job's id
queue() {
    local script=$1
    shift
    qsub ${HPC_DEEPFAKE_ACCOUNT:+-A "$HPC_DEEPFAKE_ACCOUNT"} \
        ${HPC_DEEPFAKE_PARTITION:+-q "$HPC_DEEPFAKE_PARTITION"} "$@" "$script"
}

after() { # HOW JOB: option to start after another job; HOW: ok, any
    printf -- '-Wdepend=after%s:%s' "$1" "$2"
}
only_if_possible='' # PBS deletes such a job itself
after_training=any # a stopped job is followed by another one, with another id

queued_or_running() { qstat "$1" >/dev/null 2>&1; } # JOB; qstat no longer lists a finished one
