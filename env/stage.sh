#!/usr/bin/env bash
# Copies the environment to each node's own disk: hundreds of ranks that import TensorFlow from a
# network file system would wait for minutes.
#
#   env/stage.sh pack               makes a tar of the environment, inside it; prints its path
#   env/stage.sh unpack TAR FOLDER  unpacks it below FOLDER, on each node; prints the path
#   env/stage.sh where TAR FOLDER   prints that path without unpacking
#   env/stage.sh clean FOLDER…      removes what this job left in folders that are in memory
#
# What is done already is not repeated. The copy includes the Python interpreter unless that is in
# /usr, which every node has. Job scripts pack and unpack with STAGE_ENV=FOLDER. A copy on a disk is
# kept for the next job, until none has used it for a week; one in memory (/dev/shm) is the job's own,
# and removed at its end.
# Exit codes: 0 done; 2 wrong arguments; 3 no space, no permission or mounted noexec, with no files
# left behind.
set -euo pipefail

here=$(CDPATH='' cd -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd -P)
unfinished='' # what this process is writing
lock=''       # tells others that it does
trap 'rm -rf ${unfinished:+"$unfinished"} ${lock:+"$lock"}' EXIT

usage() { sed -n '2,/^set/{/^#/s/^# \{0,1\}//p}' "${BASH_SOURCE[0]}"; }
give_up() { # MESSAGE
    echo "stage.sh: $*" >&2
    exit 3
}
require_space() { # MEGABYTES FOLDER: gives up without that much space
    local free
    free=$(df -Pm "$2" | awk 'NR == 2 { print $4 }')
    ((free > $1)) || give_up "not enough space in $2: $free MB are free, $1 are needed"
}
in_memory() { # FOLDER: whether its files take memory
    [[ $(stat -f -c %T "$1" 2>/dev/null) =~ ^(tmpfs|ramfs)$ ]]
}
can_execute() { # FOLDER: whether programs can be started there
    local try code=0
    try=$(mktemp "$1/.hpc-deepfake-XXXXXX")
    printf '#!/bin/sh\n' >"$try"
    chmod 700 "$try"
    "$try" 2>/dev/null || code=$?
    rm -f "$try"
    return "$code"
}

# --- pack ---------------------------------------------------------------------------------

pack() {
    local env=${HPC_DEEPFAKE_ENV:-$(dirname "$here")/.venv} tar
    env=$(cd "$env" && pwd)
    [[ -s $env/stamps/selfcheck ]] || give_up "$env is not a finished environment: run env/setup.sh"
    tar=$env/stage-$(cut -c1-12 "$env/stamps/selfcheck").tar
    until [[ -s $tar ]]; do
        [[ -w $env ]] || give_up "$env is not writable: let its owner run env/stage.sh pack once"
        if (set -o noclobber && : >"$tar.packing") 2>/dev/null; then
            lock=$tar.packing
            write_tar "$env" "$tar"
        else
            wait_for_packer "$tar"
        fi
    done
    touch -c "$tar" 2>/dev/null || true # in use: another job's cleaning leaves it alone
    # Those of earlier environments, unless a job may be about to unpack or write one.
    find "$env" -maxdepth 1 -name 'stage-*' ! -path "$tar*" -mmin +60 -delete 2>/dev/null || true
    echo "$tar"
}

# Whoever packs at the same time writes another file: the same content, put in place in one step.
write_tar() { # ENVIRONMENT TAR
    local env=$1 python base name what
    python=$(realpath "$env/bin/python")
    base=$(dirname "$(dirname "$python")")
    name=$(basename "$python")
    what=(--directory "$env" --exclude=./wheels --exclude='./stage-*' --exclude=./lock
        --exclude=./setup.log --exclude='./lib/python*/site-packages/tensorflow/include' .)
    if [[ $base != /usr* ]]; then
        what+=(--directory "$base" --exclude='*/site-packages' --exclude='*/test'
            --transform='s,^\(bin\|lib\)/,python/\1/,' "bin/$name" "lib/$name")
        mapfile -t -O "${#what[@]}" what < <(cd "$base" && compgen -G 'lib/libpython*.so*')
    fi
    unfinished=$(mktemp "$2.XXXXXX")
    require_space "$(du -sm --exclude=wheels --exclude='stage-*' "$env" | cut -f1)" "$env"
    tar -cf "$unfinished" "${what[@]}" || give_up "cannot pack $env into $unfinished"
    chmod --reference="$env/stamps/selfcheck" "$unfinished"
    mv "$unfinished" "$2"
    unfinished=''
}

# Returns once the tar is there, or its packer is gone: then nothing has grown for two minutes, by
# no clock but this node's.
wait_for_packer() { # TAR
    local state last='' same=0
    while [[ -e $1.packing && ! -s $1 ]]; do
        state=$(stat -c %n:%s "$1".* 2>/dev/null || true)
        if [[ $state == "$last" ]]; then
            same=$((same + 1))
        else
            last=$state same=0
        fi
        if ((same >= ${STAGE_PATIENCE:-120})); then
            rm -f "$1.packing"
            return
        fi
        sleep 1
    done
}

# --- unpack -------------------------------------------------------------------------------

where() { # TAR FOLDER
    local job=${SLURM_JOB_ID:-${PBS_JOBID:-}} own=''
    # Several jobs of a node share a copy on its disk, and have one each in memory.
    if in_memory "$2" && [[ -n $job ]]; then
        own=-job-${job//[^A-Za-z0-9.]/_}
    fi
    echo "$2/hpc_deepfake-$EUID-$(basename "$1" .tar)$own"
}

unpack() { # TAR FOLDER
    local tar=$1 target python file
    [[ -s $tar ]] || give_up "$tar doesn't exist: make it with env/stage.sh pack"
    mkdir -p "$2" 2>/dev/null && [[ -w $2 ]] || give_up "cannot write in $2"
    target=$(where "$1" "$2")
    if in_memory "$2"; then
        remove_unused "$2" "$target" 60 # of jobs that were killed
    else
        remove_unused "$2" "$target" $((7 * 24 * 60)) # of environments that are no more
    fi
    if [[ ! -d $target ]]; then
        can_execute "$2" || give_up "no program can be started in $2, which is mounted noexec: name" \
            "another folder on the nodes' own disks with STAGE_ENV=FOLDER"
        require_space $(($(stat -c %s "$tar") / 1000000)) "$2"
        unfinished=$(mktemp -d "$target.XXXXXX")
        tar -xf "$tar" -C "$unfinished" --no-same-owner || give_up "cannot unpack $tar in $2"
        chmod 755 "$unfinished"
        # Replace paths of the original environment.
        if [[ -d $unfinished/python ]]; then
            python=$(compgen -G "$unfinished/python/bin/python3*")
            sed -i "s|^home = .*|home = $target/python/bin|" "$unfinished/pyvenv.cfg"
            for file in "$unfinished"/bin/python*; do
                ln -sfn "$target/python/bin/$(basename "$python")" "$file"
            done
        fi
        for file in "$unfinished"/bin/*; do
            if [[ -f $file && ! -L $file ]] && head -c 512 "$file" | grep -qs '^#!.*/bin/python'; then
                sed -i "1s|^#!.*/bin/python[0-9.]*|#!$target/bin/python|" "$file"
            fi
        done
        # Another job of this node may have been faster.
        mv -T "$unfinished" "$target" 2>/dev/null || [[ -d $target ]] || give_up "cannot make $target"
    fi
    # In a world-writable folder, another user may have created it.
    [[ -O $target ]] || give_up "$target belongs to another user"
    echo "$target"
}

# --- clean --------------------------------------------------------------------------------

# Other copies than TARGET whose jobs have ended, unless a rank holds them (rank.sh)
remove_unused() { # FOLDER TARGET MINUTES
    local copy
    for copy in "$1/hpc_deepfake-$EUID-stage-"*; do
        if [[ $copy != "$2" && -O $copy && ! -L $copy ]] && ended "$copy" "$3"; then
            ! flock -nx "$copy" true 2>/dev/null || discard "$copy"
        fi
    done
}

ended() { # COPY MINUTES: whether SLURM has forgotten its job, or no rank has started for so long
    local job=${1##*-job-} state
    if [[ -n ${SLURM_JOB_ID:-} && $job =~ ^[0-9]+$ ]]; then
        if state=$(squeue --noheader --jobs="$job" --format=%T 2>&1); then
            [[ -n $state ]] || return 0
        elif [[ $state == *'Invalid job id'* ]]; then
            return 0
        fi
    fi
    [[ -n $(find "$1" -maxdepth 0 -mmin "+$2" 2>/dev/null) ]]
}

discard() { # COPY: half of it is never taken for a copy
    local gone=$1.gone.$$
    mv -T "$1" "$gone" && rm -rf "$gone"
}

clean() { # FOLDER…
    local folder job=${SLURM_JOB_ID:-${PBS_JOBID:-}} file
    for folder; do
        in_memory "$folder" || continue
        for file in "$folder/hpc_deepfake-$EUID-stage-"*"-job-${job//[^A-Za-z0-9.]/_}"{,.??????}; do
            [[ ! -d $file ]] || discard "$file"
        done
        # Data files of train --stage, which its processes lock as long as they run.
        for file in "$folder"/{,.}*-"$EUID"-????????.*; do
            [[ ! -f $file || ! -O $file || -L $file ]] || flock -nx "$file" rm -f "$file" || true
        done
    done
}

case ${1:-}:$# in
    pack:1) pack ;;
    unpack:3 | where:3)
        [[ $3 == /* ]] || give_up "FOLDER must be an absolute path, not $3"
        "$@"
        ;;
    clean:[1-9]*) "$@" ;;
    -h:1 | --help:1) usage ;;
    *)
        usage >&2
        exit 2
        ;;
esac
