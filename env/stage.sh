#!/usr/bin/env bash
# Copies the environment to each node's own disk: hundreds of ranks that import TensorFlow from a
# network file system would wait for minutes.
#
#   env/stage.sh pack               makes a tar of the environment, inside it; prints its path
#   env/stage.sh unpack TAR FOLDER  unpacks it below FOLDER, on each node; prints the path
#   env/stage.sh where TAR FOLDER   prints that path without unpacking
#
# What is done already is not repeated. The copy includes the Python interpreter unless that is in
# /usr, which every node has. Job scripts pack and unpack with STAGE_ENV=FOLDER.
# Exit codes: 0 done; 2 wrong arguments; 3 no space or no permission, with no files left behind.
set -euo pipefail

here=$(CDPATH='' cd -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd -P)

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

pack() {
    local env=${HPC_DEEPFAKE_ENV:-$(dirname "$here")/.venv} python base tar name
    env=$(cd "$env" && pwd)
    [[ -s $env/stamps/selfcheck ]] || give_up "$env is not a finished environment: run env/setup.sh"
    tar=$env/stage-$(cut -c1-12 "$env/stamps/selfcheck").tar
    if [[ ! -s $tar ]]; then
        [[ -w $env ]] || give_up "$env is not writable: let its owner run env/stage.sh pack once"
        python=$(realpath "$env/bin/python")
        base=$(dirname "$(dirname "$python")")
        name=$(basename "$python")
        local what=(--directory "$env" --exclude=./wheels --exclude='./stage-*' --exclude=./lock
            --exclude=./setup.log --exclude='./lib/python*/site-packages/tensorflow/include' .)
        if [[ $base != /usr* ]]; then
            what+=(--directory "$base" --exclude='*/site-packages' --exclude='*/test'
                --transform='s,^\(bin\|lib\)/,python/\1/,' "bin/$name" "lib/$name")
            mapfile -t -O "${#what[@]}" what < <(cd "$base" && compgen -G 'lib/libpython*.so*')
        fi
        require_space "$(du -sm --exclude=wheels --exclude='stage-*' "$env" | cut -f1)" "$env"
        tar -cf "$tar.$$" "${what[@]}"
        mv "$tar.$$" "$tar"
        # keep only the tar of the current environment
        find "$env" -maxdepth 1 -name 'stage-*' ! -path "$tar" -delete
    fi
    echo "$tar"
}

where() { # TAR FOLDER
    echo "$2/hpc_deepfake-$EUID-$(basename "$1" .tar)"
}

unpack() { # TAR FOLDER
    local tar=$1 target new python file
    [[ -s $tar ]] || give_up "$tar doesn't exist: make it with env/stage.sh pack"
    mkdir -p "$2" 2>/dev/null && [[ -w $2 ]] || give_up "cannot write in $2"
    target=$(where "$1" "$2")
    if [[ ! -d $target ]]; then
        require_space $(($(stat -c %s "$tar") / 1000000)) "$2"
        new=$(mktemp -d "$target.XXXXXX")
        trap 'rm -rf "$new"' EXIT
        tar -xf "$tar" -C "$new" --no-same-owner
        chmod 755 "$new"
        # Replace paths of the original environment.
        if [[ -d $new/python ]]; then
            python=$(compgen -G "$new/python/bin/python3*")
            sed -i "s|^home = .*|home = $target/python/bin|" "$new/pyvenv.cfg"
            for file in "$new"/bin/python*; do
                ln -sfn "$target/python/bin/$(basename "$python")" "$file"
            done
        fi
        for file in "$new"/bin/*; do
            if [[ -f $file && ! -L $file ]] && head -c 512 "$file" | grep -qs '^#!.*/bin/python'; then
                sed -i "1s|^#!.*/bin/python[0-9.]*|#!$target/bin/python|" "$file"
            fi
        done
        mv -T "$new" "$target"
        trap - EXIT
    fi
    # In a world-writable folder, another user may have created it.
    [[ -O $target ]] || give_up "$target belongs to another user"
    echo "$target"
}

case ${1:-}:$# in
    pack:1) pack ;;
    unpack:3 | where:3)
        [[ $3 == /* ]] || give_up "FOLDER must be an absolute path, not $3"
        "$@"
        ;;
    -h:1 | --help:1) usage ;;
    *)
        usage >&2
        exit 2
        ;;
esac
