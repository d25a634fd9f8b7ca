# shellcheck shell=bash
# shellcheck disable=SC2034,SC2154 # variables shared with job.sh
# Submitting jobs from a job, or from a script on a login node.

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
