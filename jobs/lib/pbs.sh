# shellcheck shell=bash
# shellcheck disable=SC2034,SC2154 # variables shared with job.sh
# What job.sh needs to know of OpenPBS and PBS Pro.

# Some servers hand the script to a shell on standard input: then it can't be looked at.
[[ -f $job_script && -r $job_script ]] || job_script=/dev/null
job_workdir=${PBS_O_WORKDIR:-$PWD} # PBS starts in the home directory
job_element=${PBS_ARRAY_INDEX:-$job_element}
job_id=${PBS_JOBID:-}
if [[ -s ${PBS_NODEFILE:-} ]]; then # a line for each rank
    job_nodes=$(sort -u "$PBS_NODEFILE" | wc -l)
    job_ranks=$(wc -l <"$PBS_NODEFILE")
fi

# chunk NAME: a resource of the script's own select statement
chunk() { sed -n "s/^#PBS -l select=.*[:=]$1=\\([0-9]*\\).*/\\1/p" "$job_script" | sed -n '1p'; }

# NCPUS is what this chunk has; ranks share it.
job_cpus=${NCPUS:-$(chunk ncpus)}
job_cpus=$((${job_cpus:-1} * job_nodes / job_ranks))
((job_cpus > 0)) || job_cpus=1

if [[ -n $job_id ]]; then # NAME.o123, of an array's element 123[4] NAME.o123.4
    job_log=${job_id%%.*}
    job_log=$job_workdir/${PBS_JOBNAME:-job}.o${job_log%%\[*}${job_element:+.$job_element}
fi

seconds_of() { # [[HH:]MM:]SS
    local total=0 part
    IFS=: read -ra parts <<<"$1"
    for part in "${parts[@]}"; do total=$((total * 60 + 10#$part)); done
    echo "$total"
}

# OpenPBS gives no signal before the limit: a timer does. The limit is what the server says where
# this node may ask it, else what stands in the script.
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
    trap 'kill "$timer" 2>/dev/null || true' EXIT
}

# go_on FOLDER: after a stop, submit the job that goes on; PBS lets no user rerun one
go_on() {
    local folder=$1 next
    if [[ $stop_asked == TERM ]]; then # qdel, or the limit itself: the timer sends USR1
        say "stopped while it was being ended: submit it again to go on"
    elif [[ -n ${HPC_DEEPFAKE_CHAIN:-} ]]; then
        say "stopped; the next job of the chain goes on"
    elif ((job_restarts >= MAX_RESTARTS)); then
        say "stopped, and run $((job_restarts + 1)) times already (MAX_RESTARTS=$MAX_RESTARTS): submit it again to go on"
    elif [[ ${HPC_DEEPFAKE_RESUBMIT:-auto} != no ]] && next=$(submit_again "$job_id"); then
        echo "$next" >"$folder/next"
        say "stopped; job $next goes on from here"
    elif ! successor "$folder"; then
        say "stopped: submit it again${job_run:+ with RUN=$job_run} to go on"
    else
        say "stopped, and this node may not submit jobs. To go on, on a login node:" \
            "  cd $(printf %q "$PWD") && qsub $(printf %q "$folder/successor.sh")"
    fi
}

successor() { # FOLDER: the script of the job that goes on, FOLDER/successor.sh
    local names=() name
    [[ $job_script != /dev/null ]] || return 1
    mapfile -t names < <(sed -n 's/^\([A-Z_]*\)=${\1:-.*/\1/p' "$job_script" | sort -u)
    for name in "${!names[@]}"; do names[name]+="=${!names[name]}"; done
    write_script "$job_script" "HPC_DEEPFAKE_HOME=$HPC_DEEPFAKE_HOME" "${names[@]}" \
        "job_restarts=$((job_restarts + 1))" "job_element=$job_element" "job_run=$job_run" \
        >"$1/successor.sh"
}

submit_again() { # AFTER: this very job once more, after another one; prints its id
    local facts=()
    command -v qsub >/dev/null && successor "$job_records" || return 1
    # What was asked for when submitting wins over the script's own directives.
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

after() { # HOW JOB: option for a job that starts after another, HOW: ok, any
    printf -- '-Wdepend=after%s:%s' "$1" "$2"
}
only_if_possible='' # PBS drops such a job by itself
after_training=any # a job that was stopped is followed by another one, with another id

queued_or_running() { qstat "$1" >/dev/null 2>&1; } # JOB; one that has ended is no longer shown
