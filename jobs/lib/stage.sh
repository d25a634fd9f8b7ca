# shellcheck shell=bash
# shellcheck disable=SC2034,SC2154 # variables shared with job.sh
# Node-local copies of the environment; the program itself copies the data file (train --stage).

# local_folder VALUE: a folder on each node's own disk; "local" is the site's
local_folder() {
    if [[ $1 == local ]]; then
        printf '%s' "${HPC_DEEPFAKE_LOCAL:-${TMPDIR:-/tmp}}"
    else
        printf '%s' "$1"
    fi
}

# Where STAGE_ENV asks for it, each node gets a copy of the environment, and its ranks use that
# (rank.sh); a node without room goes on with the shared one.
stage_environment() {
    local tar folder start=$SECONDS
    [[ -n $STAGE_ENV && -z ${HPC_DEEPFAKE_IMAGE:-} ]] || return 0
    folder=$(local_folder "$STAGE_ENV")
    if ! tar=$("$HPC_DEEPFAKE_HOME/env/stage.sh" pack); then
        say "the environment stays where it is"
        return 0
    fi
    # One node without room must not end the others' copying: it has said so itself.
    # shellcheck disable=SC2016
    launch --per-node bash -c '"$@" || true' bash "$HPC_DEEPFAKE_HOME/env/stage.sh" unpack "$tar" "$folder" ||
        say "the environment could not be copied to all nodes"
    HPC_DEEPFAKE_STAGED=$("$HPC_DEEPFAKE_HOME/env/stage.sh" where "$tar" "$folder")
    export HPC_DEEPFAKE_STAGED
    say "environment on each node's own disk after $((SECONDS - start)) s"
}
