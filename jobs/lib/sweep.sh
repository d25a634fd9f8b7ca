# shellcheck shell=bash
# shellcheck disable=SC2034,SC2154 # variables shared with job.sh
# The trials of a sweep (hpc-deepfake sweep): jobs/slurm/sweep.sh and jobs/pbs/sweep.sh.

# sweep: element N of an array runs the N-th of $TRIALS (counted from 0), or trial N where there are
# none. A job that is no array runs all trials that are missing, one after another.
sweep() {
    local folder=$RUN numbers=() number='' trial=() failed=0
    [[ -n $folder ]] || die "name the folder of the sweep: RUN=runs/sweep"
    ((${#job_args[@]} == 0)) || die "the plan has the options of all trials (hpc-deepfake sweep plan --help): leave out ${job_args[*]}"
    if [[ $TRIALS == report ]]; then
        sweep_report "$folder"
        return
    fi
    in_a_job
    read -ra numbers <<<"$TRIALS"
    if [[ -z $job_element ]]; then
        ((${#numbers[@]} != 1)) || number=${numbers[0]}
    elif ((${#numbers[@]})); then
        number=${numbers[job_element]:-}
        [[ -n $number ]] || die "element $job_element of the array has no trial: TRIALS names ${#numbers[@]}, counted from 0"
    else
        number=$job_element
    fi
    stage_environment
    if [[ -n $number ]]; then
        next_trial "$folder" "$number"
        if ((${#trial[@]})); then
            run_trial
            ((failed == 0)) || fail "$failed" "trial $number ended with exit code $failed"
        else
            say "trial $number has its result already: nothing left to do"
        fi
        return
    fi
    next_trial "$folder"
    while ((${#trial[@]})); do
        run_trial
        next_trial "$folder" --after "${trial[0]}"
    done
    sweep_report "$folder"
    exit "$failed"
}

# next_trial FOLDER [NUMBER | --after NUMBER]: sets $trial to number, run directory, number of ranks
# and arguments of train, of a trial without a result; to nothing if there is none
next_trial() {
    local text
    text=$("${python[@]}" -m hpc_deepfake.cli sweep next "$@") || exit
    trial=()
    [[ -z $text ]] || mapfile -t trial <<<"$text"
}

# run_trial: runs $trial. One that fails doesn't keep others from running: the first such exit code
# is in $failed. That a trial diverges is a result, not a failure.
run_trial() {
    local code=0 more=()
    record "${trial[1]}/jobs"
    ((checked)) || check train "${trial[1]}"
    checked=1
    [[ -z $STAGE ]] || more+=(--stage "$(local_folder "$STAGE")")
    say "trial ${trial[0]} starts; $(date '+%F %T')"
    job_step=training
    run_program --ranks "${trial[2]}" "${python[@]}" -m hpc_deepfake.train "${trial[@]:3}" \
        --device "$DEVICE" "${more[@]}" || code=$?
    [[ $code != "$EXIT_STOPPED" ]] || stopped
    outcome "$code"
    case $code in
        0) say "trial ${trial[0]} is done; $(date '+%F %T')" ;;
        3) say "trial ${trial[0]} diverged: that is its result; $(date '+%F %T')" ;;
        *)
            say "trial ${trial[0]} failed: exit code $code"
            ((failed)) || failed=$code
            ;;
    esac
}
checked=0 # whether the preflight check has been done

# sweep_report FOLDER: writes the report, or submits itself again after trials that resume in other jobs
sweep_report() {
    local next
    for next in "$1"/trials/*/jobs; do
        [[ -n $job_id && -s $next/next ]] || continue
        job_guest=report
        record "$1/jobs"
        follow "$next" "trial $(basename "${next%/*}")"
    done
    "${python[@]}" -m hpc_deepfake.cli sweep report "$1"
}
