# shellcheck shell=bash
# Activates the environment in bash: in a shell, a job script or CI, from any folder.
#     source env/activate.sh              the environment in $HPC_DEEPFAKE_ENV, else .venv/
#     SITE=name source env/activate.sh    reads env/sites/name.sh first (modules, network, paths)
# It only sets variables, and keeps the values of those that are already set. It returns 2 if there
# is no environment. It also works under `set -euo pipefail`.

_hd_activate() {
    local clone env
    clone=$(CDPATH='' cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." && pwd -P) || return 2
    export HPC_DEEPFAKE_HOME=$clone # for jobs, which may be submitted from any folder

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
        env=$(CDPATH='' cd -- "$env" && pwd) || return 2 # absolute, for jobs elsewhere
        export VIRTUAL_ENV=$env
        PATH=:$PATH:
        PATH=${PATH//":$env/bin:"/:} # only once, however often this file is sourced
        PATH=${PATH#:}
        export PATH=$env/bin:${PATH%:}
        # an environment with its own Python (stage.sh)
        if [[ -d $env/python/lib && :${LD_LIBRARY_PATH:-}: != *":$env/python/lib:"* ]]; then
            export LD_LIBRARY_PATH=$env/python/lib${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}
        fi
    fi
    unset PYTHONHOME

    export TF_CPP_MIN_LOG_LEVEL=${TF_CPP_MIN_LOG_LEVEL:-2}
    # Without AVX-512 VNNI (AMD before Zen 4), TensorFlow turns oneDNN off, at half the speed.
    export TF_ENABLE_ONEDNN_OPTS=${TF_ENABLE_ONEDNN_OPTS:-1}
    # Locks fail on many network file systems, and aren't needed: each row has one writer.
    export HDF5_USE_FILE_LOCKING=${HDF5_USE_FILE_LOCKING:-FALSE}

    # In a job, the scheduler places the ranks.
    if [[ -z ${SLURM_JOB_ID:-}${PBS_JOBID:-} ]]; then
        # More ranks than cores are allowed, ranks aren't bound to single cores (Horovod's thread
        # would share them), and waiting ranks yield their core: for Open MPI 4, then 5.
        export OMPI_MCA_rmaps_base_oversubscribe=${OMPI_MCA_rmaps_base_oversubscribe:-1}
        export OMPI_MCA_hwloc_base_binding_policy=${OMPI_MCA_hwloc_base_binding_policy:-none}
        export PRTE_MCA_rmaps_default_mapping_policy=${PRTE_MCA_rmaps_default_mapping_policy:-:oversubscribe}
        export PRTE_MCA_hwloc_default_binding_policy=${PRTE_MCA_hwloc_default_binding_policy:-none}
        export OMPI_MCA_mpi_yield_when_idle=${OMPI_MCA_mpi_yield_when_idle:-1}
        # Containers forbid reading another process's memory: avoids a warning per rank.
        export OMPI_MCA_btl_vader_single_copy_mechanism=${OMPI_MCA_btl_vader_single_copy_mechanism:-none}
        export OMPI_MCA_smsc=${OMPI_MCA_smsc:-^cma}
        if [[ $EUID -eq 0 ]]; then
            export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1
            export PRTE_ALLOW_RUN_AS_ROOT=1 PRTE_ALLOW_RUN_AS_ROOT_CONFIRM=1
        fi
    fi
}

# For site files: load_modules NAME… loads modules and stops at the first that can't be loaded. The
# module command may report success even if it failed.
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

# Passes a site file's settings on to the schedulers and the network libraries.
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
