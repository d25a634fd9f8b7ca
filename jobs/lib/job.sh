# shellcheck shell=bash
# What all jobs share, whatever the scheduler. A script in jobs/slurm or jobs/pbs sets its
# variables, finds the clone, and sources this file:
#     source "$clone/jobs/lib/job.sh" slurm|pbs "$@"
# After that, the job is in its working directory with the environment active, $job_args holds the
# arguments of the program, and one of the functions in work.sh does the work.
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
: "${TRAIN_DATA:=}" "${TEST_DATA:=}" "${MODELS:=}" "${NETWORKS:=}"
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
    local listed
    python=(python)
    if ! in_container; then
        [[ ${HPC_DEEPFAKE_PYTHON:-} != site ]] || python=(python3) # its python may be another one
        return
    fi
    read -ra listed <<<"$TRAIN_DATA $TEST_DATA $MODELS"
    container "$DEVICE" "$PWD" "$HPC_DEEPFAKE_HOME" "$PICTURES" "$DATA" "${listed[@]#*=}" "$RUN" "$CONFIG" "${HPC_DEEPFAKE_DATA:-}" \
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
# shellcheck source=jobs/lib/submit.sh
source "$job_lib/submit.sh"
# shellcheck source=jobs/lib/work.sh
source "$job_lib/work.sh"
# shellcheck source=jobs/lib/sweep.sh
source "$job_lib/sweep.sh"
# shellcheck source=jobs/lib/study.sh
source "$job_lib/study.sh"
begin
trap job_ends EXIT
[[ -z $job_id ]] || watch_limit
