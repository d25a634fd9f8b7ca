# shellcheck shell=bash
# Sourced by bash in a shell, a job script or CI, from any folder:
#     source env/activate.sh              the environment of $HPC_DEEPFAKE_ENV, else .venv/
#     SITE=name source env/activate.sh    env/sites/name.sh first (modules, network, paths)
# It only sets variables, and leaves alone what you have set. Without an environment it
# returns 2. Written to work under `set -euo pipefail` too.

_hd_activate() {
    local clone env
    clone=$(CDPATH='' cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." && pwd -P) || return 2
    export HPC_DEEPFAKE_HOME=$clone # jobs find it wherever they are submitted from

    if [[ -n ${SITE:-} ]]; then
        if [[ ! -f $clone/env/sites/$SITE.sh ]]; then
            echo "activate.sh: no site file $clone/env/sites/$SITE.sh" >&2
            return 2
        fi
        # shellcheck source=/dev/null
        source "$clone/env/sites/$SITE.sh" || return 2
        _hd_site
    fi

    env=${HPC_DEEPFAKE_ENV:-$clone/.venv}
    if [[ -n ${HPC_DEEPFAKE_IMAGE:-} && ! -x $env/bin/python ]]; then
        if [[ ! -r $HPC_DEEPFAKE_IMAGE ]]; then
            echo "activate.sh: no container image $HPC_DEEPFAKE_IMAGE (of site $SITE)" >&2
            return 2
        fi
    elif [[ ! -x $env/bin/python ]]; then
        echo "activate.sh: no environment in $env; build it with: $clone/env/setup.sh" >&2
        return 2
    else
        env=$(CDPATH='' cd -- "$env" && pwd) || return 2 # absolute, for jobs that start elsewhere
        export VIRTUAL_ENV=$env
        PATH=:$PATH:
        PATH=${PATH//":$env/bin:"/:} # once only, however often this file is sourced
        PATH=${PATH#:}
        export PATH=$env/bin:${PATH%:}
        # one that carries its own Python (stage.sh)
        if [[ -d $env/python/lib && :${LD_LIBRARY_PATH:-}: != *":$env/python/lib:"* ]]; then
            export LD_LIBRARY_PATH=$env/python/lib${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}
        fi
    fi
    unset PYTHONHOME

    export TF_CPP_MIN_LOG_LEVEL=${TF_CPP_MIN_LOG_LEVEL:-2}
    # TensorFlow leaves oneDNN off where AVX-512 VNNI is missing (AMD before Zen 4): half as fast.
    export TF_ENABLE_ONEDNN_OPTS=${TF_ENABLE_ONEDNN_OPTS:-1}
    # Locks fail on many network file systems, and one writer per row needs none.
    export HDF5_USE_FILE_LOCKING=${HDF5_USE_FILE_LOCKING:-FALSE}

    # Under a scheduler its own placement of the ranks holds.
    if [[ -z ${SLURM_JOB_ID:-}${PBS_JOBID:-} ]]; then
        # More ranks than cores, none bound to one core (Horovod's thread would share it),
        # and ranks that wait give the core away: Open MPI 4, then 5.
        export OMPI_MCA_rmaps_base_oversubscribe=${OMPI_MCA_rmaps_base_oversubscribe:-1}
        export OMPI_MCA_hwloc_base_binding_policy=${OMPI_MCA_hwloc_base_binding_policy:-none}
        export PRTE_MCA_rmaps_default_mapping_policy=${PRTE_MCA_rmaps_default_mapping_policy:-:oversubscribe}
        export PRTE_MCA_hwloc_default_binding_policy=${PRTE_MCA_hwloc_default_binding_policy:-none}
        export OMPI_MCA_mpi_yield_when_idle=${OMPI_MCA_mpi_yield_when_idle:-1}
        # Containers forbid reading another process's memory: no warning per rank.
        export OMPI_MCA_btl_vader_single_copy_mechanism=${OMPI_MCA_btl_vader_single_copy_mechanism:-none}
        export OMPI_MCA_smsc=${OMPI_MCA_smsc:-^cma}
        if [[ $EUID -eq 0 ]]; then
            export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1
            export PRTE_ALLOW_RUN_AS_ROOT=1 PRTE_ALLOW_RUN_AS_ROOT_CONFIRM=1
        fi
    fi
}

# For site files: load_modules NAME… loads each and stops at the first that can't be loaded. The
# module command itself may fail and say success all the same.
# shellcheck disable=SC2329 # called by site files
load_modules() {
    local name
    if ! command -v module >/dev/null; then
        echo "activate.sh: no module command in this shell: start job scripts with #!/bin/bash -l," \
            "or source the module system's profile script in env/sites/$SITE.sh" >&2
        return 2
    fi
    for name; do
        if ! module load "$name" || [[ :${LOADEDMODULES:-}: != *:"$name"[:/]* ]]; then
            echo "activate.sh: module $name of env/sites/$SITE.sh can't be loaded; see: module avail ${name%%/*}" >&2
            return 2
        fi
    done
}

# What a site file says, as the schedulers and the networks' libraries want to be told.
_hd_site() {
    local key name set network=${HPC_DEEPFAKE_INTERFACE:-}
    for key in ACCOUNT PARTITION QOS; do
        name=HPC_DEEPFAKE_$key set=SBATCH_$key
        [[ -z ${!name:-} || -n ${!set:-} ]] || export "$set=${!name}"
    done
    if [[ -n $network ]]; then
        export OMPI_MCA_btl_tcp_if_include=${OMPI_MCA_btl_tcp_if_include:-$network}
        export OMPI_MCA_oob_tcp_if_include=${OMPI_MCA_oob_tcp_if_include:-$network}
        export PRTE_MCA_prte_if_include=${PRTE_MCA_prte_if_include:-$network}
        export NCCL_SOCKET_IFNAME=${NCCL_SOCKET_IFNAME:-$network}
    fi
}

if _hd_activate; then
    unset -f _hd_activate _hd_site load_modules
else
    unset -f _hd_activate _hd_site load_modules
    # shellcheck disable=SC2317 # run instead of sourced: exit
    return 2 2>/dev/null || exit 2
fi
