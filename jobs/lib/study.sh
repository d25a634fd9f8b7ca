# shellcheck shell=bash
# shellcheck disable=SC2034,SC2154 # variables shared with job.sh
# A scaling study in one allocation: its runs are steps of growing size, one after another, on the
# first nodes of a job that has as many as the largest run needs.

# study FOLDER: runs what has no result, then writes the report. A run that fails doesn't keep the
# others from running.
study() {
    local lines line run=() failed=0
    record "$1/jobs"
    stage_environment
    check train "$1"
    lines=$("${python[@]}" -m hpc_deepfake.cli scaling steps "$1") || fail "$?" "cannot read the plan of the study"
    [[ -z $lines ]] || mapfile -t lines <<<"$lines"
    for line in "${lines[@]}"; do
        [[ -n $line ]] || continue
        eval "run=($line)" # quoted for the shell: name, nodes, ranks, kind, arguments
        study_step "$1/${run[0]}"
    done
    job_records=$1/jobs
    outcome "$failed"
    "${python[@]}" -m hpc_deepfake.cli scaling report "$1"
    exit "$failed"
}

# study_step RUN: the step of $run, in this run directory
study_step() {
    local own=$1 name=${run[0]} nodes=${run[1]} ranks=${run[2]} arguments=("${run[@]:4}") records=$1/jobs code=0 words
    case ${run[3]} in
        preprocess)
            records=$own/features.h5.jobs
            words=(-m preprocessing ${CONFIG:+--config "$CONFIG"} ${PICTURES:+--data "$PICTURES"} "${arguments[@]}" --out "$own/features.h5")
            ;;
        microbench) words=(-m hpc_deepfake.cli scaling microbench --dir "$own" --json "$own/microbench.json") ;;
        *)
            words=(-m hpc_deepfake.train ${CONFIG:+--config "$CONFIG"} --device "$DEVICE")
            [[ -z $DATA || " ${arguments[*]} " == *' --synthetic '* ]] || words+=(--data "$DATA")
            words+=("${arguments[@]}" --run "$own" --resume)
            ;;
    esac
    record "$records"
    say "$name starts on $nodes node(s), $ranks rank(s); $(date '+%F %T')"
    job_step=$name
    run_program --nodes "$nodes" --ranks "$ranks" "${python[@]}" "${words[@]}" || code=$?
    [[ $code != "$EXIT_STOPPED" ]] || stopped
    outcome "$code"
    if ((code)); then
        say "$name failed: exit code $code"
        ((failed)) || failed=$code
    else
        say "$name is done; $(date '+%F %T')"
    fi
}
