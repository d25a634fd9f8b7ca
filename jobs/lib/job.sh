# shellcheck shell=bash
# What all jobs share, whatever the scheduler. A script in jobs/slurm or jobs/pbs sets its
# variables, finds the clone, and sources this file:
#     source "$clone/jobs/lib/job.sh" slurm|pbs "$@"
# After that, the job is in its working directory with the environment active, $job_args holds the
# arguments of the program, and one of the functions at the end does the work.
set -euo pipefail
# Before 4.4, bash takes an empty array for an unset variable.
((BASH_VERSINFO[0] * 100 + BASH_VERSINFO[1] >= 404)) || set +u

# The script is a login shell (for the module command), whose end runs ~/.bash_logout: under set -e, a
# command that fails there would change the job's exit code.
exit() {
    local code=${1:-$?}
    set +eu
    builtin exit "$code"
}

job_scheduler=$1
job_lib=$(CDPATH='' cd -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd -P)
HPC_DEEPFAKE_HOME=$(dirname "$(dirname "$job_lib")")
export HPC_DEEPFAKE_HOME
readonly EXIT_STOPPED=75 # stopped by a signal with everything saved: can be resumed

# Set by the scheduler's own file, slurm.sh or pbs.sh.
job_id=''           # empty outside of a job
job_nodes=1
job_ranks=1         # over all nodes
job_cpus=1          # of each rank
job_gpus=0          # of each node
job_script=$0       # the scheduler's copy of the script
job_log=''
job_workdir=$PWD    # folder in which it was submitted
job_step=''         # name of the step being launched, for the accounting
job_records=''      # folder of this job's script, variables, first error and outcome
job_guest=''        # name of a job that leaves outcome and next there to the job that did the work
job_reruns=0        # how often the scheduler itself has run it again
unknown=''          # what the scheduler said instead of whether a job is queued or running
# Written into the script of a job that resumes an earlier one.
job_restarts=${job_restarts:-0} # how often it was resumed after a stop
job_element=${job_element:-}    # number within an array, or empty
job_run=${job_run:-}            # run directory
job_study=${job_study:-}        # folder of a scaling study that this job runs instead, in one allocation
only_if_possible='' # option: drop a job that can never start
after_work=ok       # dependency of a job on one that may be stopped and resumed

asked_device=${DEVICE:-} # of a pipeline's or a study's trainings; empty: their script's own
# Empty or default values for variables that a script doesn't have.
: "${PICTURES:=}" "${DATA:=}" "${RUN:=}" "${DEVICE:=cpu}" "${STAGE:=}" "${STAGE_ENV:=}" "${RANK_LOGS:=}"
: "${DOCTOR:=on}" "${MAX_RESTARTS:=0}" "${TRAIN:=train_cpu}" "${MAX_NODES:=1}"
: "${METHODS:=}" "${FEATURES:=}" "${EPOCHS:=}" "${TRIALS:=}" "${CONFIG:=}" "${ARGS:=}"
: "${KINDS:=}" "${STRATEGIES:=}" "${INPUTS:=}" "${REPEATS:=}" "${RANKS_PER_NODE:=}" "${LIMIT:=}" "${ONE_JOB:=}"
: "${GLOBAL_BATCH:=}" "${BATCH_SIZE:=}" "${ROWS_PER_RANK:=}"
: "${PREPROCESS_OPTIONS:=}" "${TRAIN_OPTIONS:=}" "${EVALUATE_OPTIONS:=}" "${EVALUATE_DEVICE:=}"

say() { printf '%s\n' "$@"; } # LINE…
die() { # MESSAGE: options or input are wrong
    printf 'error: %s\n' "$*" >&2
    exit 2
}

# --- arguments ----------------------------------------------------------------------------

# option NAME: value of the last --NAME among the arguments, or nothing
option() {
    local i value=
    for ((i = 0; i < ${#job_args[@]}; i++)); do
        case ${job_args[i]} in
            "--$1") value=${job_args[i + 1]-} ;;
            "--$1="*) value=${job_args[i]#*=} ;;
        esac
    done
    printf '%s' "$value"
}

# chosen NAME VARIABLE DEFAULT: value of the program's option NAME: from the arguments, else the
# script's variable, else the TOML file, as the program would see it
chosen() {
    local value
    value=$(option "$1")
    value=${value:-${!2}}
    if [[ -z $value && -n $CONFIG ]]; then
        value=$(sed -n "s/^ *$1 *= *[\"']\\(.*\\)[\"'] *\\(#.*\\)\\{0,1\\}\$/\\1/p" "$CONFIG" | tail -n 1)
    fi
    printf '%s' "${value:-$3}"
}

read_arguments() {
    local words=() word
    [[ -z $ARGS ]] || read -ra words <<<"$ARGS"
    job_args=()
    for word in "${words[@]}" "$@"; do
        case $word in
            --stage-env) STAGE_ENV=${STAGE_ENV:-local} ;;
            *) job_args+=("$word") ;;
        esac
    done
}

# --- around the work ----------------------------------------------------------------------

begin() {
    cd "$job_workdir"
    [[ -z $CONFIG || -r $CONFIG ]] || die "cannot read CONFIG=$CONFIG in $PWD"
    [[ $MAX_RESTARTS =~ ^[0-9]+$ ]] || die "MAX_RESTARTS=$MAX_RESTARTS: give a number"
    # Unbuffered, so that the log is live.
    export PYTHONUNBUFFERED=1 SITE
    # shellcheck source=env/activate.sh
    source "$HPC_DEEPFAKE_HOME/env/activate.sh"
    # MPI and PBS may have set this for the whole node; each rank computes on its share of the cores.
    export OMP_NUM_THREADS=$job_cpus HPC_DEEPFAKE_RANK_CPUS=$job_cpus
    choose_device
    choose_python
    [[ -n $job_id ]] || return 0 # not in a job
    say "job $job_id: $job_nodes node(s), $job_ranks rank(s) of $job_cpus CPU(s), run $((job_restarts + job_reruns + 1)); $(date '+%F %T')" \
        "clone $HPC_DEEPFAKE_HOME, environment ${HPC_DEEPFAKE_IMAGE:-${VIRTUAL_ENV:-of the site $SITE}}, working in $PWD"
}

# choose_device: the site's DEVICE takes the place of the scripts' gpu, unless the user, or the job
# that submitted this one, has chosen
choose_device() {
    [[ -n ${HPC_DEEPFAKE_DEVICE:-} && $DEVICE == gpu ]] || return 0
    [[ ! $(declare -p DEVICE) =~ ^declare\ -[a-z]*x ]] || return 0 # from the environment
    ! grep -q '^DEVICE=[a-z]' "$job_script" || return 0           # written into the script
    DEVICE=$HPC_DEEPFAKE_DEVICE
}

# choose_python: sets $python, the words that start a Python with this project, in the site's
# container if it has one. The image sees the folders of all files that the job works on.
choose_python() {
    python=(python)
    if ! in_container; then
        [[ ${HPC_DEEPFAKE_PYTHON:-} != site ]] || python=(python3) # its python may be another one
        return
    fi
    container "$DEVICE" "$PWD" "$HPC_DEEPFAKE_HOME" "$PICTURES" "$DATA" "$RUN" "$CONFIG" "${HPC_DEEPFAKE_DATA:-}" \
        "$(chosen data DATA '')" "$(chosen out DATA '')" "$(chosen run RUN '')" "$(chosen model RUN '')" \
        "${STAGE:+$(local_folder "$STAGE")}" "${job_args[@]}" || exit
    python=("${contained[@]}" python)
    if container_by_srun; then
        # Ranks are in it already. This shell's own commands get there by a step of one process; on
        # a login node, where there is none, by that machine's Python.
        python() {
            if [[ -n $job_id ]]; then
                srun --nodes=1 --ntasks=1 "--cpus-per-task=$job_cpus" --mpi=none --export=ALL "${srun_options[@]}" python "$@"
            else
                host_python || die "outside of jobs there is no container here, so this needs Python 3.11 or newer in PATH"
                python3 "$@"
            fi
        }
    fi
}

in_a_job() { [[ -n $job_id ]] || die "this is a job script: submit it, like ${job_example}"; }

# record FOLDER: this script, its variables and its logs, as FOLDER/JOB.*
record() {
    in_a_job
    job_records=$1
    local name=$job_records/$job_id
    mkdir -p "$job_records"
    [[ $job_script == /dev/null ]] || cp "$job_script" "$name.sh"
    { # variables that influence a run; no tokens or keys, no names of people
        env | grep -E '^(SLURM|PBS|OMPI|PRTE|PMIX|UCX|NCCL|FI|HOROVOD|TF|CUDA|OMP|HDF5|HPC_DEEPFAKE|PYTHON|MPICH|PALS|RCCL|MIOPEN|ROCR|HIP)_|^(PATH|PYTHONPATH|LD_LIBRARY_PATH|LOADEDMODULES|SITE|HOSTNAME)=' |
            grep -viE '^[^=]*(jwt|token|secret|passw|cookie|_key)|^HPC_DEEPFAKE_(SBATCH|SITE_WORDS)=' |
            grep -vE '^(SLURM|PBS)_[A-Z_]*(USER|LOGNAME|MAIL|HOME|UID|GID)' | sort
    } >"$name.env"
    say "records: $name.{sh,env}"
    if [[ -n $job_log ]]; then
        ln -sfn "$job_log" "$name.log"
        say "log: $job_log"
    fi
    if [[ -n $RANK_LOGS ]]; then
        export HPC_DEEPFAKE_RANK_LOGS=$name.ranks
        mkdir -p "$HPC_DEEPFAKE_RANK_LOGS"
        say "log of each rank: $HPC_DEEPFAKE_RANK_LOGS/rank-*.log"
    fi
    # Files for the error of the first rank that fails, and for the program's exit code.
    export HPC_DEEPFAKE_ERROR_FILE=$name.error HPC_DEEPFAKE_OUTCOME_FILE=$name.outcome
    [[ -n $job_guest ]] || rm -f "$job_records/outcome" # of an earlier job
}

# outcome CODE: records how the work has ended. The job that resumes it is in the file next; this
# one's own id stays there until that is known, so that nobody takes the work for given up.
outcome() {
    [[ -z $job_guest ]] || return 0
    echo "$1" >"$job_records/outcome"
    [[ $1 == "$EXIT_STOPPED" ]] || rm -f "$job_records/next"
}

followed=''
followed_by() { # JOB: resumes the work of this one
    followed=$1
    [[ -n $job_guest ]] || echo "$1" >"$job_records/next"
}

# follow FOLDER WHAT: a job that needs what another one makes, whose records are in FOLDER, acts on
# how that has ended. Where another job resumes it, this one is submitted again, to run after that.
follow() {
    local next='' seen='' code='' again trouble
    # While the scheduler is being asked, that job may end and name the next one.
    while next=$(cat "$1/next" 2>/dev/null) && [[ $next != "$seen" && $next != "$job_id" ]]; do
        queued_or_running "$next" || { seen=$next && continue; }
        if ! again=$(submit_again "$next"); then
            fail 2 "$2 resumes in job $next, and this node may not submit jobs: submit this one again, to run after that"
        fi
        say "$2 resumes in job $next: this job runs after it, as job $again"
        [[ -z $job_guest ]] || exit 0
        outcome "$EXIT_STOPPED"
        followed_by "$again"
        exit "$EXIT_STOPPED"
    done
    # A job of a pipeline, at its first start; who submits one by hand knows what there is.
    [[ -n ${HPC_DEEPFAKE_AFTER:-} && $job_restarts == 0 ]] || return 0
    [[ ! -s $1/outcome ]] || code=$(<"$1/outcome")
    case $code in
        0) return 0 ;;
        "$EXIT_STOPPED") trouble="$2 was stopped, and no job resumes it. Resume it, then submit this job again" ;;
        '') trouble="$2 ended without a word, so it was killed, as at its time limit or for its memory. Submit it and this job again" ;;
        *) trouble="$2 failed (exit code $code)" ;;
    esac
    fail 2 "$trouble; what happened is in $1"
}

# fail CODE MESSAGE: ends the job; the error of the first rank that failed comes last in the log
fail() {
    outcome "$1"
    {
        echo "----- job $job_id failed: $2"
        [[ ! -s $HPC_DEEPFAKE_ERROR_FILE ]] || cat "$HPC_DEEPFAKE_ERROR_FILE"
    } >&2
    exit "$1"
}

# check PURPOSE FOLDER: the preflight check, so that no program starts where it would fail
check() {
    local code=0
    [[ $DOCTOR != off ]] || return 0
    job_step=doctor
    run_program "${python[@]}" -m hpc_deepfake.cli doctor --for "$1" --dir "$2" --device "$DEVICE" || code=$?
    case $code in
        0) ;;
        "$EXIT_STOPPED") stopped ;;
        *)
            [[ -n $reported ]] || fail "$code" "the launcher ended with exit code $code before the preflight check said \
anything: it started no ranks, or they died at once. Its messages are above; launchers: HPC_DEEPFAKE_LAUNCHER in env/sites/template.sh"
            fail "$code" "preflight check failed (DOCTOR=off skips it)"
            ;;
    esac
}

# work NAME [--ranks N] COMMAND…: runs a program on all ranks. Ends the job if it fails or is stopped;
# a stopped job is arranged to be resumed.
work() {
    local name=$1 code=0
    shift
    say "$name starts; $(date '+%F %T')"
    job_step=$name
    run_program "$@" || code=$?
    case $code in
        0) say "$name is done; $(date '+%F %T')" ;;
        "$EXIT_STOPPED") stopped ;;
        2) fail 2 "$name rejected its options or input; nothing already computed is lost" ;;
        3) fail 3 "$name diverged, so starting it again as it is would not help: change its options" ;;
        137) fail 137 "$name: a rank was killed, often because memory ran out (exit code 137)" ;;
        *) fail "$code" "$name ended with exit code $code" ;;
    esac
}

stopped() { # everything is saved: arranges for the job to be resumed
    outcome "$EXIT_STOPPED"
    remove_copies # SLURM may end this shell when it queues the job again
    if grep -qxF "$job_id" "$job_records/cancelled" 2>/dev/null; then
        say "stopped by hpc-deepfake job cancel: submit it again to resume"
    else
        resume_later "$job_records"
    fi
    [[ -n $followed$job_guest ]] || rm -f "$job_records/next"
    exit "$EXIT_STOPPED"
}

finished() { outcome 0; }

job_ends() { # however this shell ends
    [[ -z ${timer:-} ]] || kill "$timer" 2>/dev/null || true # of watch_limit
    remove_copies
}

# chained FOLDER: a job of a chain (hpc-deepfake job submit --chain) acts on the previous one's outcome
chained() {
    local code
    [[ ${HPC_DEEPFAKE_CHAIN:-} == next && -s $1/outcome ]] || return 0
    code=$(<"$1/outcome")
    case $code in
        0)
            say "the previous job has finished: nothing left to do"
            exit 0
            ;;
        "$EXIT_STOPPED") say "resuming where the previous job was stopped" ;;
        *) die "the previous job failed (exit code $code): see $1" ;;
    esac
}

# write_script SCRIPT NAME=VALUE… [-- ARGUMENTS…]: the script with these values of its variables
# and these arguments written into it. They win over the environment.
write_script() {
    local script=$1
    shift
    { # above the script's own assignments, below what was written there earlier
        sed '/^# What to change/,$d' "$script"
        while (($#)) && [[ $1 != -- ]]; do
            printf '%s=%q\n' "${1%%=*}" "${1#*=}"
            shift
        done
        (($# < 2)) || printf 'set --%s\n' "$(printf ' %q' "${@:2}")"
        sed -n '/^# What to change/,$p' "$script"
    }
}

# submit SCRIPT OPTIONS WORD… [-- ARGUMENTS…]: submits a job script and prints the job's id. OPTIONS:
# options of sbatch or qsub, in one string. A WORD is NAME=VALUE, of the script's variables, or
# --OPTION=VALUE of hpc-deepfake job render. The directives of the site for this kind of job are
# written into the script, unless OPTIONS say otherwise. It is kept in $job_records.
submit() {
    local script=$1 name wanted=$2 options=() words=() request=() id site_options=''
    shift 2
    while (($#)) && [[ $1 != -- ]]; do
        case $1 in
            --*) request+=("$1") ;;
            *) words+=("$1") ;;
        esac
        shift
    done
    name=$job_records/$(basename "$script" .sh)-$(date +%s%N).sh
    if [[ -n $SITE || -n ${HPC_DEEPFAKE_SITE_WORDS:-} || ${#request[@]} -gt 0 ]] && can_render; then
        apart "$wanted"
        "${python[@]}" -m hpc_deepfake.cli job render "$job_scheduler" --script "$script" ${SITE:+--site "$SITE"} \
            "${request[@]}" "--options=$wanted" </dev/null >"$name.site" || return
        script=$name.site site_options=written
    else
        ((${#request[@]} == 0)) || die "${request[*]} need Python 3.11 or newer on this machine"
        [[ -z $wanted ]] || read -ra options <<<"$wanted"
    fi
    write_script "$script" "HPC_DEEPFAKE_HOME=$HPC_DEEPFAKE_HOME" "SITE=$SITE" "${words[@]}" "$@" >"$name"
    rm -f "$name.site"
    id=$([[ -z $site_options ]] || drop_site_options && queue "$name" "${options[@]}") || return
    note_job "$id" "$name" "${options[*]}" "${words[@]}" "$@"
    printf '%s\n' "$id"
}

# submitting COMMAND…: runs a command of the scheduler that submits a job, and prints the job's id: the
# last one in an answer to which a site's wrapper may add anything
submitting() {
    local answer id look='squeue --me' hint code=0
    [[ $job_scheduler == slurm ]] || look="qstat -u \$USER"
    (
        trap 'kill "${!:-}" 2>/dev/null; exit 0' TERM
        sleep 10 2>/dev/null &
        wait "$!"
        say "waiting for $1, which has not answered for 10 s; after Ctrl-C the job may be queued nevertheless: look in $look" >&2
    ) </dev/null >/dev/null &
    hint=$!
    answer=$("$@") || code=$?
    kill "$hint" 2>/dev/null || true
    ((code == 0)) || return "$code"
    id=$(sed -n 's/^ *Submitted batch job  *//; s/ on cluster .*//; s/;.*//; s/^ *\([0-9][][A-Za-z0-9_.+-]*\) *$/\1/p' <<<"$answer" | tail -n 1)
    [[ -n $id ]] || {
        say "$1 ended well but gave no job id: look in $look${answer:+. It printed: $answer}" >&2
        return 2
    }
    printf '%s\n' "$id"
}

# Whether scripts can be rendered: not where only jobs have a container
can_render() {
    [[ -n $job_id ]] || ! container_by_srun || host_python || {
        say "note: no Python 3.11 on this machine, so jobs are submitted without the directives of site $SITE, except those in SBATCH_ variables" >&2
        return 1
    }
}

# apart OPTIONS: sets $options, those that aren't part of a script (dependencies), and $wanted, the others
apart() {
    local words=() word
    read -ra words <<<"$1"
    wanted='' options=()
    set -- "${words[@]}"
    while (($#)); do
        word=$1
        shift
        case $word in
            --dependency=* | --kill-on-invalid-dep=* | -Wdepend=*) options+=("$word") ;;
            -W)
                case ${1:-} in
                    depend=*) options+=(-W "$1") ;;
                    *) wanted+=" -W ${1:-}" ;;
                esac
                (($# == 0)) || shift
                ;;
            *) wanted+=" $word" ;;
        esac
    done
    wanted=${wanted# }
}

# drop_site_options: what env/activate.sh has set for sbatch by hand, as long as it is unchanged: it
# would take precedence over the directives of a script
drop_site_options() {
    local line
    while IFS= read -r -d $'\x1f' line; do
        [[ ! $line =~ ^(SBATCH_[A-Z0-9_]+)=(.*)$ || ${!BASH_REMATCH[1]-} != "${BASH_REMATCH[2]}" ]] || unset "${BASH_REMATCH[1]}"
    done <<<"${HPC_DEEPFAKE_SBATCH:-}"
}

# submit_together …: as submit, for jobs of which one makes no sense without the others: the id is in
# $id, and if the scheduler refuses a job, those submitted before are cancelled
submitted=()
submit_together() {
    local refused="a job could not be submitted; the reason is above"
    if id=$(submit "$@"); then
        submitted+=("$id")
        return
    fi
    ((${#submitted[@]} == 0)) || {
        cancel "${submitted[@]}" || true
        refused+=". Cancelled, as they are of no use without it: ${submitted[*]}"
    }
    [[ -z $job_id ]] || refused+=". Where compute nodes may not submit jobs, run this on a login node:
  $(on_login_node)"
    die "$refused"
}

on_login_node() { # the command that does there what this job does
    local name default words=()
    while read -r name default; do
        [[ -z ${!name} || ${!name} == "$default" || $name == ARGS ]] || words+=("$name=$(printf %q "${!name}")")
    done < <(sed -n 's/^\([A-Z_]*\)=${\1:-\([^}]*\)}.*/\1 \2/p' "$job_script")
    printf 'cd %q && %s bash %q' "$PWD" "${words[*]}" "$HPC_DEEPFAKE_HOME/jobs/$job_scheduler/${FUNCNAME[-2]}.sh"
    ((${#job_args[@]} == 0)) || printf ' %q' "${job_args[@]}"
}

# note_job ID SCRIPT OPTIONS NAME=VALUE…: a line in $job_records/submitted.jsonl about a job that was
# submitted, for hpc-deepfake job status (hpc_deepfake/jobs/queue/journal.py)
note_job() {
    local after='' resumes='' records=$job_records kind word
    [[ ! $3 =~ after[a-z]*:[^\ ,]+ ]] || after=${BASH_REMATCH[0]}
    kind=$(tail -n 1 "$2")
    for word in "${@:4}"; do
        case $kind:$word in
            *:--) break ;; # what follows is for the program
            preprocess:DATA=?*) records=${word#*=}.jobs ;;
            preprocess:RUN=*) ;;
            *:RUN=?*) records=${word#*=}/jobs ;;
            *:resumes=*) resumes=${word#*=} ;;
        esac
    done
    [[ $records == /* ]] || records=$PWD/$records
    {
        printf '{"id": %s, "name": %s, "kind": %s, "scheduler": %s' "$(json "$1")" \
            "$(json "$(sed -n 's/^#SBATCH --job-name=//p; s/^#PBS -N //p' "$2")")" "$(json "$kind")" "$(json "$job_scheduler")"
        printf ', "after": %s, "resumes": %s, "time": %s, "script": %s, "records": %s}\n' "$(json "$after")" \
            "$(json "$resumes")" "$(date +%s)" "$(json "$2")" "$(json "$records")"
    } >>"$job_records/submitted.jsonl" || say "note: job $1 is not recorded in $job_records" >&2
}

json() { # TEXT: as a JSON string
    local text=${1//\\/\\\\}
    text=${text//\"/\\\"}
    printf '"%s"' "${text//[[:cntrl:]]/ }"
}

# --- what jobs do -------------------------------------------------------------------------

preprocess() {
    local pictures out
    pictures=$(chosen data PICTURES "${HPC_DEEPFAKE_DATA:-data}")
    out=$(chosen out DATA "$pictures/features.h5")
    chained "$out.jobs"
    record "$out.jobs"
    stage_environment
    check preprocess "$(dirname "$out")"
    work preprocessing "${python[@]}" -m preprocessing ${CONFIG:+--config "$CONFIG"} \
        ${PICTURES:+--data "$PICTURES"} "${job_args[@]}" --out "$out"
    finished
}

train() {
    local more=()
    [[ -z $job_study ]] || study "$job_study"
    choose_run
    chained "$job_run/jobs"
    record "$job_run/jobs"
    [[ -z ${HPC_DEEPFAKE_AFTER:-} ]] || follow "$HPC_DEEPFAKE_AFTER" preprocessing
    stage_environment
    check train "$job_run"
    # Elements of an array differ by their seed, unless the arguments set one.
    [[ -z $job_element ]] || more+=(--seed "$job_element")
    [[ -z $STAGE ]] || more+=(--stage "$(local_folder "$STAGE")")
    work training "${python[@]}" -m hpc_deepfake.train ${CONFIG:+--config "$CONFIG"} \
        ${DATA:+--data "$DATA"} --device "$DEVICE" "${more[@]}" "${job_args[@]}" \
        --run "$job_run" --resume
    finished
}

# choose_run: sets $job_run, the run directory; each element of an array has its own
choose_run() {
    [[ -z $job_run ]] || return 0
    job_run=$(chosen run RUN '')
    if [[ -n $job_run && -n $job_element ]]; then
        job_run+=/$job_element
    fi
    job_run=${job_run:-runs/$job_id}
}

evaluate() {
    local run part
    run=$(chosen model RUN '')
    [[ -n $run ]] || die "name the run to evaluate: RUN=runs/… or --model runs/…"
    job_guest=evaluate
    record "$run/jobs"
    follow "$run/jobs" training
    [[ $DEVICE != gpu ]] || has_gpu || fail 2 "DEVICE=gpu, but this job was given no GPU. Evaluate on the CPU (DEVICE=cpu, the default), or request one:
  hpc-deepfake job submit $job_scheduler evaluate --gpus-per-node 1 --ranks-per-node 1 --cpus-per-rank 8 --var DEVICE=gpu --var RUN=$(printf %q "$run")${DATA:+ --var DATA=$(printf %q "$DATA")}"
    stage_environment
    part=$(option part)
    [[ $(option threshold) != auto ]] || part='test' # a chosen threshold is evaluated on that part only
    work evaluation "${python[@]}" -m hpc_deepfake.cli evaluate ${CONFIG:+--config "$CONFIG"} \
        ${DATA:+--data "$DATA"} --device "$DEVICE" \
        --json "$run/evaluation-${part:-validation}.json" "${job_args[@]}" --model "$run"
    "${python[@]}" -m hpc_deepfake.cli summary "$run"
}

# Whether this job was given a GPU, as far as the scheduler's variables and this node's devices say
has_gpu() {
    local name
    for name in SLURM_GPUS_ON_NODE SLURM_JOB_GPUS {CUDA,ROCR,HIP}_VISIBLE_DEVICES; do
        [[ -z ${!name:-} ]] || return 0
    done
    [[ -e /dev/kfd ]] || compgen -G '/dev/nvidia[0-9]*' >/dev/null
}

# Every method on ELA and every feature with sync, one training after another on the same machines.
compare() {
    local given=("${job_args[@]}") before=() after=() next words comparison
    [[ -n $job_run || -z $(option out) ]] || RUN=$(option out)
    choose_run
    chained "$job_run/jobs"
    record "$job_run/jobs"
    stage_environment
    check train "$job_run"
    # Arguments after -- go to each training.
    while ((${#given[@]})) && [[ ${given[0]} != -- ]]; do
        before+=("${given[0]}")
        given=("${given[@]:1}")
    done
    after=(-- --device "$DEVICE" "${given[@]:1}")
    comparison=("${python[@]}" -m hpc_deepfake.cli compare ${CONFIG:+--config "$CONFIG"} ${DATA:+--data "$DATA"}
        ${METHODS:+--methods "$METHODS"} ${FEATURES:+--features "$FEATURES"} ${EPOCHS:+--epochs "$EPOCHS"}
        ${REPEATS:+--repeats "$REPEATS"} --ranks "$job_ranks" --threads "$job_cpus" --nodes "$job_nodes"
        --servers-within "${before[@]}" --out "$job_run")
    while true; do
        next=$("${comparison[@]}" --next "${after[@]}") || fail "$?" "cannot determine the next training"
        [[ -n $next ]] || break
        mapfile -t words <<<"$next" # name, ranks, arguments
        local job_args=("${words[@]:2}") job_cpus
        job_cpus=$(option threads) # sequential uses the cores of all ranks of a node
        work "${words[0]}" --ranks "${words[1]}" "${python[@]}" -m hpc_deepfake.train "${job_args[@]}"
    done
    "${comparison[@]}" --report-only "${after[@]}" || fail "$?" "writing the report failed"
    finished
}

# A scaling study: a job for each run that is still to be done, and a last one, after all of them,
# for the report. The report and micro-benchmarks are jobs of this script, too.
scaling_study() {
    local folder dry='' words=() options=() ids=() plan=() queued=() known lines line run=() name id at
    folder=$(chosen run RUN "runs/scaling-${job_id:-$(date +%Y-%m-%dT%H-%M-%S)}")
    case ${HPC_DEEPFAKE_REPORT:-} in
        microbench)
            record "$folder/jobs"
            work microbench "${python[@]}" -m hpc_deepfake.cli scaling microbench --dir "$folder" \
                --json "$folder/microbench.json"
            finished
            return
            ;;
        ?*)
            scaling_report "$folder"
            return
            ;;
    esac
    training_job
    [[ -z $ONE_JOB || $ONE_JOB == 1 ]] || die "ONE_JOB=$ONE_JOB: give 1, or leave it out"
    for ((at = 0; at < ${#job_args[@]}; at++)); do
        case ${job_args[at]} in
            --dry-run) dry=1 ;;
            --run) ((at += 1)) ;; # in $folder already
            --run=*) ;;
            *) words+=("${job_args[at]}") ;;
        esac
    done
    for name in KINDS STRATEGIES INPUTS REPEATS; do
        read -ra run <<<"${!name}"
        ((${#run[@]} == 0)) || options+=("--${name,,}" "${run[@]}")
    done
    for name in RANKS_PER_NODE GLOBAL_BATCH BATCH_SIZE ROWS_PER_RANK DATA DOCTOR PICTURES LIMIT \
        TRAIN_OPTIONS PREPROCESS_OPTIONS; do
        line=--${name,,}
        [[ -z ${!name} ]] || options+=("${line//_/-}=${!name}")
    done
    [[ -z $asked_device ]] || options+=(--device "$asked_device")
    for name in $(compgen -v TRAIN_OPTIONS_); do # TRAIN_OPTIONS_8: from 8 nodes on
        options+=(--options-from "${name##*_}:${!name}")
    done
    [[ -z $ONE_JOB ]] || options+=(--one-job)
    plan=("${python[@]}" -m hpc_deepfake.cli
        scaling plan "$folder" --nodes "$MAX_NODES" --job "$TRAIN" --scripts "$HPC_DEEPFAKE_HOME/jobs/$job_scheduler"
        ${CONFIG:+--train-config "$CONFIG"} "${options[@]}")
    if [[ -n $dry ]]; then
        "${plan[@]}" -- "${words[@]}"
        return
    fi
    job_records=$folder/jobs
    mkdir -p "$job_records"
    # Until all are submitted, or this shell ends, nobody else submits the study.
    lines=$("${plan[@]}" --lines --holder $$ -- "${words[@]}")
    if [[ -z $lines ]]; then
        rm -f "$folder/in-use.json"
        scaling_report "$folder"
        return
    fi
    mapfile -t words <<<"$lines"
    for line in "${words[@]}"; do # before anything is submitted
        eval "run=($line)" # quoted for the shell: name, id of its previous job, words for submit
        known=0
        { [[ -n ${run[1]} ]] && queued_or_running "${run[1]}"; } || known=$?
        ((known < 2)) || {
            rm -f "$folder/in-use.json"
            die "nothing was submitted: it is not known what is queued or running (asked for job ${run[1]}): $unknown
Once more when it answers; if it never will, and no job of this study is left, delete the files $job_records/*.id"
        }
        queued+=("$known")
    done
    for at in "${!words[@]}"; do
        eval "run=(${words[at]})"
        name=${run[0]} id=${run[1]}
        if ((queued[at] == 0)); then
            say "$name: already in job $id"
        else
            submit_together "$(job_file "${run[2]}")" "${run[@]:3}"
            echo "$id" >"$job_records/$name.id"
            say "$name: job $id"
        fi
        ids+=("$id")
        touch -c "$folder/in-use.json" # a sign of life for other machines
    done
    if [[ -n $ONE_JOB ]]; then
        rm -f "$folder/in-use.json"
        say "it writes the report at its end, into $folder/report.html"
        return
    fi
    id=$(IFS=: && echo "${ids[*]}")
    submit_together "$(job_file scaling_study)" "$(after any "$id")" "RUN=$folder" DEVICE=cpu HPC_DEEPFAKE_REPORT=1
    rm -f "$folder/in-use.json"
    say "report: job $id, into $folder/report.html"
}

# scaling_report FOLDER: writes the report, or submits itself again after runs that resume in other jobs
scaling_report() {
    local next
    for next in "$1"/*/jobs "$1"/*/features.h5.jobs; do
        [[ -n $job_id && -s $next/next ]] || continue
        job_guest=report
        [[ -n $job_records ]] || record "$1/jobs"
        follow "$next" "run $(basename "${next%/*}")"
    done
    "${python[@]}" -m hpc_deepfake.cli scaling report "$1"
}

# Preprocess, train, evaluate: three jobs, each after the previous one.
pipeline() {
    local run data id dry='' words=() word
    for word in "${job_args[@]}"; do
        if [[ $word == --dry-run ]]; then dry=1; else words+=("$word"); fi
    done
    job_args=("${words[@]}")
    training_job
    run=$(chosen run RUN "runs/pipeline-${job_id:-$(date +%Y-%m-%dT%H-%M-%S)}")
    data=${DATA:-${PICTURES:-${HPC_DEEPFAKE_DATA:-data}}/features.h5}
    local common=("DATA=$data" "DOCTOR=$DOCTOR" "STAGE=$STAGE" "STAGE_ENV=$STAGE_ENV"
        "RANK_LOGS=$RANK_LOGS" "MAX_RESTARTS=$MAX_RESTARTS" "ARGS=") evaluation=("DEVICE=${EVALUATE_DEVICE:-cpu}")
    if [[ $EVALUATE_OPTIONS == *gpu* ]]; then # the user requests GPUs
        evaluation=("DEVICE=${EVALUATE_DEVICE:-${asked_device:-auto}}")
    elif [[ $EVALUATE_DEVICE == gpu ]]; then
        evaluation+=(--gpus-per-node=1 --ranks-per-node=1 --cpus-per-rank=8)
    fi
    if can_render; then # nothing is submitted if one of the jobs would be refused
        "${python[@]}" -m hpc_deepfake.cli job cost "$job_scheduler" preprocess --check "--options=$PREPROCESS_OPTIONS" \
            "--var=MAX_RESTARTS=$MAX_RESTARTS" "--var=PICTURES=$PICTURES" --var=CONFIG= --var=ARGS= \
            + "$TRAIN" --check "--options=$TRAIN_OPTIONS" "--var=MAX_RESTARTS=$MAX_RESTARTS" "--var=CONFIG=$CONFIG" \
            "--var=DATA=$data" ${asked_device:+"--var=DEVICE=$asked_device"} --var=ARGS= -- "${job_args[@]}" \
            + evaluate --check "${evaluation[@]:1}" "--options=$EVALUATE_OPTIONS" "--var=MAX_RESTARTS=$MAX_RESTARTS" \
            "--var=${evaluation[0]}" "--var=RUN=$run" --var=CONFIG= --var=ARGS= </dev/null || exit
    fi
    if [[ -n $dry ]]; then
        word=${evaluation[*]:1}
        word=${word:+ $word}${EVALUATE_OPTIONS:+ $EVALUATE_OPTIONS}
        say "to be submitted, each after the previous one:" "  preprocess${PREPROCESS_OPTIONS:+ $PREPROCESS_OPTIONS}: $data" \
            "  $TRAIN${TRAIN_OPTIONS:+ $TRAIN_OPTIONS}: $run" "  evaluate$word: ${evaluation[0]}"
        return
    fi
    job_records=$run/jobs
    mkdir -p "$job_records"
    submit_together "$(job_file preprocess)" "$PREPROCESS_OPTIONS" "${common[@]}" DEVICE=cpu CONFIG= "PICTURES=$PICTURES"
    say "preprocessing: job $id, into $data"
    submit_together "$(job_file "$TRAIN")" "$(after "$after_work" "$id") $only_if_possible $TRAIN_OPTIONS" \
        "${common[@]}" ${asked_device:+"DEVICE=$asked_device"} "CONFIG=$CONFIG" "RUN=$run" "HPC_DEEPFAKE_AFTER=$data.jobs" \
        -- "${job_args[@]}"
    say "training: job $id after it, in $run"
    submit_together "$(job_file evaluate)" "$(after "$after_work" "$id") $only_if_possible $EVALUATE_OPTIONS" \
        "${common[@]}" "${evaluation[@]}" CONFIG= "RUN=$run" "HPC_DEEPFAKE_AFTER=$run/jobs"
    say "evaluation: job $id after that one, into $run/evaluation-validation.json"
}

training_job() { # refuses a $TRAIN that doesn't train
    local file=$HPC_DEEPFAKE_HOME/jobs/$job_scheduler/$TRAIN.sh
    [[ -f $file && $(tail -n 1 "$file") == train ]] || die "TRAIN=$TRAIN: give train_cpu, train_4gpu or train_multinode"
}

job_file() { # NAME: path of this scheduler's job script
    local file=$HPC_DEEPFAKE_HOME/jobs/$job_scheduler/$1.sh
    [[ -f $file ]] || die "no job $1 in $(dirname "$file")"
    printf '%s' "$file"
}

job_example="\`$([[ $1 == pbs ]] && echo qsub || echo sbatch) jobs/$1/$(basename "$0")\`"
read_arguments "${@:2}"
if [[ " ${job_args[*]} " == *' --help '* || " ${job_args[*]} " == *' -h '* ]]; then
    # what stands at the top of the script, and its variables
    sed -n -e '2,/^#[SP]B/ { /^#[SP]B/!s/^# \{0,1\}//p }' -e '/^# What to change/,/^$/p' "$0"
    exit 0
fi
# shellcheck source=/dev/null
source "$job_lib/$1.sh"
# shellcheck source=jobs/lib/container.sh
source "$job_lib/container.sh"
# shellcheck source=jobs/lib/launch.sh
source "$job_lib/launch.sh"
# shellcheck source=jobs/lib/stage.sh
source "$job_lib/stage.sh"
# shellcheck source=jobs/lib/sweep.sh
source "$job_lib/sweep.sh"
# shellcheck source=jobs/lib/study.sh
source "$job_lib/study.sh"
begin
trap job_ends EXIT
[[ -z $job_id ]] || watch_limit
