# shellcheck shell=bash
# shellcheck disable=SC2034,SC2154 # variables shared with job.sh
# OpenPBS's and PBS Pro's side of job.sh.

# Some servers pass the script to a shell on standard input: then it can't be read here.
[[ -f $job_script && -r $job_script ]] || job_script=/dev/null
job_workdir=${PBS_O_WORKDIR:-$PWD} # PBS starts in the home directory
job_element=${PBS_ARRAY_INDEX:-$job_element}
job_id=${PBS_JOBID:-}

# --- what was asked for -------------------------------------------------------------------

# What the server knows of this job, by attribute; nothing where this node may not ask it.
declare -A job_facts=()
read_facts() {
    local line
    while IFS= read -r line; do
        [[ ! $line =~ ^' '+([A-Za-z_.]+)' = '(.*) ]] || job_facts[${BASH_REMATCH[1]}]=${BASH_REMATCH[2]}
    done < <(about "$job_id")
    # An element of an array doesn't know how the array was submitted.
    [[ $job_id != *\[* ]] ||
        job_facts[Submit_arguments]=$(about "${job_id/\[*\]/[]}" | sed -n 's/^ *Submit_arguments = //p')
}
about() { { qstat -f -w "$1" || qstat -f "$1"; } 2>/dev/null || true; } # JOB
[[ -z $job_id ]] || read_facts

directive() { # RESOURCE: its value in the script
    sed -n "s/^#PBS -l $1=\\([^ ]*\\).*/\\1/p" "$job_script" | sed -n '1p'
}

# The server's value, unless the node may not ask: then the script's own.
job_select=${job_facts[Resource_List.select]:-$(directive select)}
job_limit=${job_facts[Resource_List.walltime]:-$(directive walltime)}

chunk() { sed -n "s/.*[:=]$1=\\([0-9]*\\).*/\\1/p" <<<"${job_select%%+*}"; } # NAME: its number in the first chunk

# Variables given by qsub -v or -V, with their values at the start: a successor needs them, too.
declare -A job_given=()
read_given() {
    local name names=() own
    own="^($(sed -n 's/^\([A-Z_]*\)=${\1:-.*/\1/p' "$job_script" | tr '\n' '|')\
(PBS|XDG|SSH)_.*|HPC_DEEPFAKE_(HOME|STAGED|RANK_LOGS|ERROR_FILE|OUTCOME_FILE|FIRST_GPUS|RERUNS|SBATCH|SITE_WORDS)\
|HOME|USER|LOGNAME|SHELL|PWD|OLDPWD|SHLVL|TERM|DISPLAY|HOSTNAME|TMPDIR|NCPUS|OMP_NUM_THREADS|CUDA_VISIBLE_DEVICES|_)\$"
    if [[ -n ${job_facts[Variable_List]:-} ]]; then
        mapfile -t names < <(sed 's/\\,//g; s/,/\n/g' <<<"${job_facts[Variable_List]}" | sed 's/=.*//')
    else # those that influence a run
        mapfile -t names < <(compgen -e | grep -E '^(HPC_DEEPFAKE|OMPI_MCA|PRTE_MCA|PMIX_MCA|UCX|NCCL|FI|HOROVOD|TF|HDF5)_')
    fi
    for name in "${names[@]}"; do
        [[ ! $name =~ ^[A-Za-z_][A-Za-z0-9_]*$ || $name =~ $own || -z ${!name+set} ]] || job_given[$name]=${!name}
    done
}
[[ -z $job_id ]] || read_given

# --- its ranks ----------------------------------------------------------------------------

if [[ -s ${PBS_NODEFILE:-} ]]; then # one line per rank
    job_nodes=$(sort -u "$PBS_NODEFILE" | wc -l)
    job_ranks=$(wc -l <"$PBS_NODEFILE")
fi
job_cpus=$(chunk ompthreads) # of a rank; NCPUS is the same then
if [[ -z $job_cpus ]]; then
    job_cpus=${NCPUS:-$(chunk ncpus)} # of a chunk, whose ranks share them
    job_cpus=$((${job_cpus:-1} * job_nodes / job_ranks))
fi
((job_cpus > 0)) || job_cpus=1
# A site without select has a node file that doesn't tell the ranks: they are in the script.
if [[ -n ${job_layout:-} ]]; then
    read -r job_nodes job_ranks job_cpus <<<"$job_layout"
    job_ranks=$((job_nodes * job_ranks))
fi
job_gpus=$(chunk ngpus)
if [[ -z $job_gpus ]]; then # without select, those of all nodes
    job_gpus=$(directive ngpus)
    job_gpus=$((${job_gpus:-0} / job_nodes))
fi
# PBS itself ran it again, after the failure of a node (hpc_deepfake/core/holder.py).
job_reruns=$((${job_facts[run_count]:-1} - 1))
export HPC_DEEPFAKE_RERUNS=$job_reruns

if [[ -n $job_id ]]; then # NAME.o123; for element 123[4] of an array NAME.o123.4
    job_log=${job_facts[Output_Path]:-}
    job_log=${job_log#*:}
    if [[ -z $job_log || $job_log == *'^'* || -d $job_log ]]; then
        job_log=${job_id%%.*}
        job_log=$job_workdir/${PBS_JOBNAME:-job}.o${job_log%%\[*}${PBS_ARRAY_INDEX:+.$PBS_ARRAY_INDEX}
    fi
fi

# --- its limit ----------------------------------------------------------------------------

seconds_of() { # [[HH:]MM:]SS
    local total=0 part parts
    IFS=: read -ra parts <<<"$1"
    for part in "${parts[@]}"; do total=$((total * 60 + 10#$part)); done
    echo "$total"
}

# OpenPBS sends no signal before the time limit, so a timer does. The limit comes from the server if
# this node may query it, otherwise from the script.
job_seconds='' # the limit
watch_limit() {
    local margin=${HPC_DEEPFAKE_STOP_MARGIN:-300} left
    [[ -n $job_id && $job_limit =~ ^[0-9:]+$ ]] || return 0
    job_seconds=$(seconds_of "$job_limit")
    if ((2 * margin > job_seconds)); then # a short job gets somewhere, too
        say "stop signal $((job_seconds / 2)) s before the limit of $job_limit, instead of $margin s (HPC_DEEPFAKE_STOP_MARGIN)"
        margin=$((job_seconds / 2))
    fi
    left=$((job_seconds - SECONDS - margin))
    ((left > 0)) || left=1
    (
        sleep "$left" &
        trap 'kill "$!" 2>/dev/null; exit 0' TERM EXIT
        wait "$!" && kill -USR1 $$
    ) &
    timer=$!
}

# --- other jobs ---------------------------------------------------------------------------

# queue SCRIPT [OPTIONS…]: submits a script, prints the job's id. The site's account and queue are in
# rendered scripts, and those of successors; options would take precedence over them.
queue() {
    local script=$1 own
    shift
    own=$(sed -n 's/^#PBS -\([Aq]\).*/\1/p' "$script")
    [[ $own == *A* || -z ${HPC_DEEPFAKE_ACCOUNT:-} ]] || set -- -A "$HPC_DEEPFAKE_ACCOUNT" "$@"
    [[ $own == *q* || ${HPC_DEEPFAKE_PARTITION:-' '} == *[\ :]* ]] || set -- -q "$HPC_DEEPFAKE_PARTITION" "$@"
    submitting qsub "$@" "$script"
}

after() { # HOW JOB: option to start after another job; HOW: ok, any
    printf -- '-Wdepend=after%s:%s' "$1" "$2"
}
only_if_possible='' # PBS deletes such a job itself
# A stopped job is followed by another one, with another id: what waits for it starts, sees that
# (follow), and waits for the other one.
after_work=any

cancel() { qdel "$@"; } # JOB…

# queued_or_running JOB: 0 if it is, 1 if it isn't, 2 if PBS doesn't say; what it says instead is in
# $unknown. qstat lists no finished one without -x.
queued_or_running() {
    local answer attempt
    for attempt in 1 2 3; do
        ! answer=$(timeout 60 qstat "$1" 2>&1) || return 0
        [[ ! ${answer,,} == *@(unknown job|has finished|illegally formed)* ]] || return 1
        [[ $answer == *@(connect|ommunication|imed out)* ]] || break # else the server is busy
        ((attempt == 3)) || sleep 10
    done
    unknown=${answer:-qstat gives no answer}
    return 2
}

# shellcheck source=jobs/lib/pbs_successor.sh
source "$job_lib/pbs_successor.sh"
