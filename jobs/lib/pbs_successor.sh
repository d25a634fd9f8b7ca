# shellcheck shell=bash
# shellcheck disable=SC2034,SC2154 # variables shared with job.sh
# PBS lets no user run a job again: what is stopped, or has to wait for another job, submits its
# successor, with all that it was submitted with itself.

# resume_later FOLDER: after a stop, submits a successor
resume_later() {
    local folder=$1 next
    if [[ $stop_asked == TERM ]] && ! limit_reached; then # the timer sends USR1: this is qdel
        say "stopped while being deleted or ended: submit it again to resume"
    elif [[ -n ${HPC_DEEPFAKE_CHAIN:-} ]]; then
        say "stopped; the next job of the chain resumes"
    elif ((job_restarts >= MAX_RESTARTS)); then
        say "stopped after $((job_restarts + job_reruns + 1)) run(s) (MAX_RESTARTS=$MAX_RESTARTS): submit it again to resume"
    elif ((job_restarts += 1)) && next=$(submit_again "$job_id"); then
        followed_by "$next"
        say "stopped; job $next resumes from here"
    elif ! successor; then
        say "stopped: submit it again${job_run:+ with RUN=$job_run} to resume"
    else
        say "stopped, and this node may not submit jobs. To resume, on a login node:"
        by_hand
    fi
}

limit_reached() { [[ -n $job_seconds ]] && ((SECONDS + 5 >= job_seconds)); }

submit_again() { # AFTER: submits this job again, to start after another one; prints its id
    local options=() id
    [[ ${HPC_DEEPFAKE_RESUBMIT:-auto} != no ]] && command -v qsub >/dev/null && successor || return 1
    options_again
    # No job can depend on an element of an array, which is at its end here anyway.
    [[ $1 == *\[[0-9]* ]] || options+=(-W "depend=afterany:$1")
    id=$(queue "$successor" "${options[@]}") || return
    note_job "$id" "$successor" "depend=afterany:$1" "resumes=$job_id"
    printf '%s\n' "$id"
}

by_hand() { # says the command that submits the successor
    local options=()
    options_again
    ((${#job_facts[@]})) || say "  # with the options of qsub that this job had: the server did not tell them"
    say "  cd $(printf %q "$PWD") && qsub$(printf ' %q' "${options[@]}" "$successor")"
}

# successor: writes the script $successor of the job that resumes or follows this one; fails where
# this one's script can't be read
successor() {
    local values=() name
    successor=$job_records/successor${job_guest:+-$job_guest}.sh
    [[ $job_script != /dev/null ]] || return 1
    mapfile -t values < <(sed -n 's/^\([A-Z_]*\)=${\1:-.*/\1/p' "$job_script" | sort -u)
    for name in "${!values[@]}"; do values[name]+="=${!values[name]}"; done
    for name in "${!job_given[@]}"; do
        is_secret "$name" || values+=("export $name=${job_given[$name]}")
    done
    write_script "$job_script" "HPC_DEEPFAKE_HOME=$HPC_DEEPFAKE_HOME" "${values[@]}" \
        "job_restarts=$job_restarts" "job_element=$job_element" "job_run=$job_run" |
        # It is no array, and waits for nothing that this one has waited for.
        sed '/^#PBS -J/d; /^#PBS -W *depend=/d' >"$successor"
}

is_secret() { [[ ${1,,} =~ (jwt|token|secret|passw|cookie|_key) ]]; } # NAME of a variable

# options_again: sets $options of qsub to those that this job was submitted with, besides the
# directives that its script has anyway; values are the server's
options_again() {
    local words name letter value secrets=() known=(
        A:Account_Name P:project N:Job_Name m:Mail_Points M:Mail_Users p:Priority S:Shell_Path_List
        j:Join_Path k:Keep_Files o:Output_Path e:Error_Path W:group_list W:umask W:sandbox)
    words=" ${job_facts[Submit_arguments]:-}"
    # The queue that was asked for, not the one to which the job was routed.
    name=${PBS_O_QUEUE:-${job_facts[queue]:-}}
    options=(${name:+-q "$name"})
    for name in "${known[@]}"; do
        letter=${name%%:*} name=${name#*:} value=${job_facts[${name#*:}]:-}
        [[ -n $value && $words == *" -$letter"* ]] || continue
        case $letter in
            W) [[ $words != *"$name="* ]] || options+=(-W "$name=$value") ;;
            # a file without the number of this job
            o | e) [[ $value =~ \.[oe][0-9]+(\.|$) ]] || options+=("-$letter" "$value") ;;
            *) options+=("-$letter" "$value") ;;
        esac
    done
    while IFS= read -r name; do
        value=$(directive "$name")
        [[ ! $words =~ (-l' '*|,)"$name=" && ${value:-${job_facts[Resource_List.$name]}} == "${job_facts[Resource_List.$name]}" ]] ||
            options+=(-l "$name=${job_facts[Resource_List.$name]}")
    done < <(printf '%s\n' "${!job_facts[@]}" | sed -n 's/^Resource_List\.//p' | sort)
    for name in "${!job_given[@]}"; do ! is_secret "$name" || secrets+=("$name"); done
    # Their values are qsub's own variables, and in no file.
    ((${#secrets[@]} == 0)) || options+=(-v "$(IFS=, && echo "${secrets[*]}")")
}
