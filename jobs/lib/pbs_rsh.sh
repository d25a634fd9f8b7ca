#!/usr/bin/env bash
# Remote shell for mpirun between the hosts of a PBS job: pbs_rsh.sh [OPTIONS] HOST COMMAND…
# pbs_tmrsh starts programs, not shell commands, and accepts none of ssh's options.
set -euo pipefail
while [[ ${1:-} == -* ]]; do
    case $1 in
        -l | -p | -o | -i) shift ;; # with a value
    esac
    shift
done
host=$1
shift
# Open MPI's daemon looks for this very file, by its name, on its host, too.
here=$(CDPATH='' cd -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd -P)
exec pbs_tmrsh "$host" /bin/bash -c "PATH=\$PATH:$(printf %q "$here"); $*"
