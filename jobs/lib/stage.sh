# shellcheck shell=bash
# shellcheck disable=SC2034,SC2154 # variables shared with job.sh
# Node-local copies of the environment; the data file is copied by the program (train --stage).

# local_folder VALUE: prints a folder on each node's own disk; "local" means the site's
local_folder() {
    if [[ $1 == local ]]; then
        printf '%s' "${HPC_DEEPFAKE_LOCAL:-${TMPDIR:-/tmp}}"
    else
        printf '%s' "$1"
    fi
}

# With STAGE_ENV, each node gets a copy of the environment, which its ranks use (rank.sh); a node
# without room for it uses the shared one.
stage_environment() {
    local tar folder start=$SECONDS
    copied=1
    [[ -n $STAGE_ENV && -z ${HPC_DEEPFAKE_IMAGE:-} && ${HPC_DEEPFAKE_PYTHON:-} != site ]] || return 0
    folder=$(local_folder "$STAGE_ENV")
    if ! tar=$(bash "$HPC_DEEPFAKE_HOME/env/stage.sh" pack); then
        say "using the shared environment"
        return 0
    fi
    # A node without room, for which stage.sh says why, must not end the others' copying.
    # shellcheck disable=SC2016
    launch --per-node bash -c '"$@" || echo "note: $(uname -n) uses the shared environment"' bash \
        bash "$HPC_DEEPFAKE_HOME/env/stage.sh" unpack "$tar" "$folder" ||
        say "the environment was not copied to all nodes"
    HPC_DEEPFAKE_STAGED=$(bash "$HPC_DEEPFAKE_HOME/env/stage.sh" where "$tar" "$folder")
    export HPC_DEEPFAKE_STAGED
    say "copies of the environment on the nodes' own disks took $((SECONDS - start)) s"
}

# At the job's end, also after a failure or a signal: copies of the environment and the data file
# that take memory are removed. Those on disks stay for the next job.
copied='' # whether this job may have made copies
remove_copies() {
    local value folder folders=() clean=(bash "$HPC_DEEPFAKE_HOME/env/stage.sh" clean)
    [[ -n $copied ]] || return 0
    copied=''
    for value in "$STAGE_ENV" "$STAGE"; do
        [[ -n $value ]] || continue
        folder=$(local_folder "$value")
        [[ ! $(stat -f -c %T "$folder" 2>/dev/null) =~ ^(tmpfs|ramfs)$ ]] || folders+=("$folder")
    done
    ((${#folders[@]})) || return 0
    unset HPC_DEEPFAKE_STAGED HPC_DEEPFAKE_RANK_LOGS
    job_step=cleaning
    # A job that is being cancelled may start nothing any more: then its own node is left.
    (
        launcher "$job_nodes" 1
        timeout 60 "${launcher[@]}" bash "$job_lib/rank.sh" "${clean[@]}" "${folders[@]}"
    ) 2>/dev/null || "${clean[@]}" "${folders[@]}" || true
}
