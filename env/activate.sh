# shellcheck shell=bash
# Activates the environment in bash: in a shell, a job script or CI, from any folder.
#     source env/activate.sh              the environment in $HPC_DEEPFAKE_ENV, else .venv/
#     SITE=name source env/activate.sh    reads env/sites/name.sh first (modules, network, paths)
# It only sets variables, and keeps the values of those that are already set. It returns 2 if there
# is no environment. It also works under `set -euo pipefail`: what belongs to a site runs without
# these options, and the shell's options, traps and IFS are the same afterwards.

# In the words of any shell: executed, it would set variables for nobody.
if [ -z "${BASH_VERSION:-}" ] || [ "${BASH_SOURCE[0]}" = "$0" ]; then
    echo "activate.sh: source it, in bash: source env/activate.sh" >&2
    # shellcheck disable=SC2317 # executed: exit
    return 2 2>/dev/null || exit 2
fi

_hd_main() {
    local IFS=$' \t\n' _hd_end=$'\x1f' status=0
    _hd_activate || status=2
    # shellcheck disable=SC2046 # names
    unset -f $(compgen -A function _hd_) load_modules
    return "$status"
}

_hd_activate() {
    # Site files see these names, so they begin with _hd_.
    local _hd_clone _hd_env
    _hd_clone=$(CDPATH='' cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." && pwd -P) || return 2
    if [[ -n ${HPC_DEEPFAKE_HOME:-} && $HPC_DEEPFAKE_HOME != "$_hd_clone" ]]; then # another's activation
        _hd_drop PATH "$HPC_DEEPFAKE_HOME/env/bin"
        _hd_drop PYTHONPATH "$HPC_DEEPFAKE_HOME"
    fi
    export HPC_DEEPFAKE_HOME=$_hd_clone # for jobs, which may be submitted from any folder

    if [[ -n ${SITE:-} ]]; then
        _hd_read_site || return 2
    fi
    _hd_check_words || return 2
    [[ -z ${SITE:-} ]] || _hd_site

    _hd_env=${HPC_DEEPFAKE_ENV:-$_hd_clone/.venv}
    if [[ ${HPC_DEEPFAKE_PYTHON:-} == site ]]; then
        _hd_without_environment
        if ! _hd_container && ! _hd_python; then
            echo "activate.sh: HPC_DEEPFAKE_PYTHON=site, but python3 is $(python3 --version 2>&1 |
                sed -n 1p), not 3.11 or newer: load the site's Python module in env/sites/${SITE:-NAME}.sh" >&2
            return 2
        fi
    elif _hd_container && [[ ! -x $_hd_env/bin/python ]]; then
        _hd_without_environment
    elif _hd_noexec "$_hd_env"; then
        echo "activate.sh: no program can be started from $_hd_env: its file system is mounted noexec" \
            "there, or it is not yours; build it elsewhere: HPC_DEEPFAKE_ENV=FOLDER $_hd_clone/env/setup.sh" >&2
        return 2
    elif [[ ! -x $_hd_env/bin/python && ! -L $_hd_env/bin/python ]]; then
        echo "activate.sh: no environment in $_hd_env; build it with: $_hd_clone/env/setup.sh" >&2
        return 2
    else
        _hd_env=$(CDPATH='' cd -- "$_hd_env" && pwd) || return 2 # absolute, for jobs elsewhere
        export VIRTUAL_ENV=$_hd_env
        _hd_first_in_path "$_hd_env/bin"
        # an environment with its own Python (stage.sh)
        if [[ -d $_hd_env/python/lib && :${LD_LIBRARY_PATH:-}: != *":$_hd_env/python/lib:"* ]]; then
            export LD_LIBRARY_PATH=$_hd_env/python/lib${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}
        fi
        unset PYTHONHOME
        if _hd_container; then
            _hd_clones_code
        elif ! "$_hd_env/bin/python" -SEc '' 2>/dev/null; then
            echo "activate.sh: $_hd_env/bin/python leads to $(readlink -m "$_hd_env/bin/python"), which this node can't" \
                "run: load the Python module that the environment was built with, in the site file, or build it with" \
                "a Python that all nodes have: PYTHON=FILE $_hd_clone/env/setup.sh" >&2
            return 2
        elif _hd_of_another_clone; then
            _hd_first_in_path "$_hd_clone/env/bin"
            _hd_clones_code
        fi
    fi

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

_hd_first_in_path() { # FOLDER: only once, however often this file is sourced
    _hd_drop PATH "$1"
    export PATH=$1${PATH:+:$PATH}
}

_hd_drop() { # VARIABLE ENTRY: out of a list with colons
    local list=:${!1:-}:
    [[ $list == *":$2:"* ]] || return 0
    list=${list//":$2:"/:}
    list=${list#:}
    printf -v "$1" %s "${list%:}"
}

# Whether programs run in a container: of an image, or given by the site to srun
_hd_container() {
    [[ -n ${HPC_DEEPFAKE_IMAGE:-} || ${HPC_DEEPFAKE_SRUN_OPTIONS:-} == *--@(environment|container-image)* ]]
}

_hd_noexec() { # ENVIRONMENT: whether its programs are there, but can't be started
    local name
    for name in python hpc-deepfake; do
        [[ ! -e $1/bin/$name || -x $1/bin/$name ]] || return 0
    done
    return 1
}

_hd_python() { python3 -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; }

# Whether the environment runs the code of another clone, from which env/setup.sh has built it
_hd_of_another_clone() {
    local stamp=$_hd_env/stamps/project
    [[ -r $stamp && $(<"$stamp") =~ ^(.+)\ [0-9a-f]{16}\  ]] || return 1
    [[ ! ${BASH_REMATCH[1]} -ef $_hd_clone ]] || return 1
    echo "activate.sh: note: the environment $_hd_env was built from the clone ${BASH_REMATCH[1]}; the code that runs is that of $_hd_clone" >&2
}

_hd_clones_code() { # also for the Python of a site, or of an image
    if [[ :${PYTHONPATH:-}: != *":$_hd_clone:"* ]]; then
        export PYTHONPATH=$_hd_clone${PYTHONPATH:+:$PYTHONPATH}
    fi
}

_hd_without_environment() {
    if [[ ${VIRTUAL_ENV:-} -ef $_hd_env ]]; then # of an earlier activation
        _hd_drop PATH "$VIRTUAL_ENV/bin"
        unset VIRTUAL_ENV
    fi
    _hd_first_in_path "$_hd_clone/env/bin" # the command hpc-deepfake
    _hd_clones_code
}

# --- the site file --------------------------------------------------------------------------

# Sources the site file. Profile scripts, modules and conda use unset variables and commands that
# fail, and split words as usual: the shell's options, traps and IFS don't hold for them.
_hd_read_site() {
    local IFS=$' \t\n' _hd_options=$SHELLOPTS _hd_shopts=$BASHOPTS _hd_traps _hd_words _hd_said='' _hd_status
    local _hd_file=$_hd_clone/env/sites/$SITE.sh
    if [[ ! -f $_hd_file ]]; then
        echo "activate.sh: no site file $_hd_file" >&2
        return 2
    fi
    if grep -q $'\r''$' "$_hd_file"; then
        printf "activate.sh: env/sites/%s.sh has Windows line ends: remove them with: sed -i 's/%s$//' %s\n" \
            "$SITE" '\r' "env/sites/$SITE.sh" >&2
        return 2
    fi
    _hd_forget HPC_DEEPFAKE_SITE_WORDS
    _hd_words=$(_hd_list_words)
    _hd_traps=$(trap -p)
    trap - ERR DEBUG RETURN
    set +euCfET
    set +o pipefail
    shopt -u failglob nullglob
    _hd_module_command || true # for files that don't begin with load_modules
    # shellcheck source=/dev/null
    source "$_hd_file"
    _hd_status=$?
    trap - ERR DEBUG RETURN # which functions don't see
    IFS=$' \t\n'
    _hd_restore
    export HPC_DEEPFAKE_SITE_WORDS='' # not those of the user
    while IFS= read -r _hd_words; do
        export "${_hd_words?}"
        HPC_DEEPFAKE_SITE_WORDS+=$_hd_words$_hd_end
    done < <(_hd_list_words | grep -vxF -e "$_hd_words")
    if ((_hd_status)) || [[ $_hd_said == nameless ]]; then
        [[ -n $_hd_said ]] ||
            echo "activate.sh: env/sites/$SITE.sh failed (status $_hd_status); if its last command may fail, end the file with: return 0" >&2
        return 2
    fi
    _hd_check_names
}

# Refuses names that the site file has set and that are no words: those of
# hpc_deepfake/jobs/site/words.py (a test compares them), which needs a Python.
_hd_check_names() {
    local name line known='
        ACCOUNT BIND CHAIN CONTAINER CPU_ACCOUNT CPU_CPUS CPU_MEM CPU_OPTIONS CPU_PARTITION CPU_QOS
        CPU_RANKS CPU_RESOURCES DATA DEVICE ENV ERROR_FILE GPUS GPU_ACCOUNT GPU_CPUS GPU_MEM
        GPU_OPTIONS GPU_PARTITION GPU_QOS GPU_RANKS GPU_REQUEST GPU_RESOURCES HOME IMAGE INTERFACE
        KIND LAUNCHER LOCAL LOG MEM OPTIONS OUTCOME_FILE PARTITION PROFILE PYTHON QOS RANK_LOGS
        REPORT RESOURCES RESUBMIT SBATCH SCHEDULER SITE_WORDS SMALL_ACCOUNT SMALL_CPUS SMALL_MEM
        SMALL_OPTIONS SMALL_PARTITION SMALL_QOS SMALL_RANKS SMALL_RESOURCES SRUN_MPI SRUN_OPTIONS
        STAGED STOP_MARGIN'
    known=" ${known//$'\n'/ } "
    for name in $(compgen -v HPC_DEEPFAKE_); do
        [[ $_hd_end$HPC_DEEPFAKE_SITE_WORDS == *"$_hd_end$name="* && $known != *" ${name#HPC_DEEPFAKE_} "* ]] || continue
        line=$(sed -n "/\b$name=/{=;q}" "$_hd_file")
        echo "activate.sh: env/sites/$SITE.sh${line:+ line $line}: $name is unknown; the words are in env/sites/template.sh, and hpc-deepfake job check $SITE names the nearest" >&2
        return 2
    done
}

_hd_list_words() { # NAME=value of each word, one per line
    local name
    for name in $(compgen -v HPC_DEEPFAKE_); do
        [[ $name == HPC_DEEPFAKE_@(SITE_WORDS|SBATCH) ]] || printf '%s=%s\n' "$name" "${!name-}"
    done
}

# LIST: unsets what an earlier activation, maybe for another site, had set and nobody has changed. A
# list holds NAME=value, each with a character at its end that is in no value and begins no line.
_hd_forget() {
    local line name
    while IFS= read -r -d "$_hd_end" line; do
        name=${line%%=*}
        if [[ $name =~ ^(HPC_DEEPFAKE|SBATCH)_[A-Z0-9_]+$ && ${!name-} == "${line#*=}" ]]; then
            unset "$name"
        fi
    done <<<"${!1-}"
    unset "$1"
}

# Options and traps as they were before the site file
_hd_restore() {
    local name now
    for name in ${_hd_options//:/ }; do
        [[ :$SHELLOPTS: == *":$name:"* ]] || set -o "$name"
    done
    for name in ${SHELLOPTS//:/ }; do
        [[ :$_hd_options: == *":$name:"* ]] || set +o "$name"
    done
    for name in ${_hd_shopts//:/ }; do
        [[ :$BASHOPTS: == *":$name:"* ]] || shopt -s "$name"
    done
    for name in ${BASHOPTS//:/ }; do
        [[ :$_hd_shopts: == *":$name:"* ]] || shopt -u "$name"
    done
    now=$(trap -p)
    if [[ $now != "$_hd_traps" ]]; then
        for name in $(compgen -A signal); do
            if [[ $now$'\n' == *"' $name"$'\n'* && $_hd_traps$'\n' != *"' $name"$'\n'* ]]; then
                trap - "$name"
            fi
        done
        eval "$_hd_traps" # as bash has printed them
    fi
}

# For site files: load_modules NAME… loads modules and stops at the first that can't be loaded.
# shellcheck disable=SC2329 # called by site files
load_modules() {
    local _hd_module _hd_before _hd_at
    for _hd_module in "${@:-}"; do
        [[ -z $_hd_module ]] || continue
        for ((_hd_at = ${#BASH_SOURCE[@]} - 1; _hd_at > 1; _hd_at--)); do # the site file, of all callers
            [[ ${BASH_SOURCE[_hd_at]} != "$_hd_file" ]] || break
        done
        echo "activate.sh: env/sites/$SITE.sh line ${BASH_LINENO[_hd_at - 1]}: load_modules names no module" >&2
        _hd_said=nameless
        return 2
    done
    if ! _hd_module_command; then
        echo "activate.sh: no module command in this shell: start job scripts with #!/bin/bash -l, or" \
            "name the module system's profile script above load_modules in env/sites/$SITE.sh:" \
            "export HPC_DEEPFAKE_PROFILE=/etc/profile.d/lmod.sh" >&2
        _hd_said=1
        return 2
    fi
    for _hd_module; do
        _hd_before=${LOADEDMODULES:-}
        if ! module load "$_hd_module" || ! _hd_loaded; then
            echo "activate.sh: module $_hd_module of env/sites/$SITE.sh can't be loaded; see: module avail ${_hd_module%%[/@]*}" >&2
            _hd_said=1
            return 2
        fi
    done
}

_hd_module_command() {
    local _hd_profile
    for _hd_profile in '' "${HPC_DEEPFAKE_PROFILE:-}" "${MODULESHOME:+$MODULESHOME/init/bash}"; do
        # shellcheck source=/dev/null
        [[ ! -r $_hd_profile ]] || source "$_hd_profile"
        ! command -v module >/dev/null || return 0
    done
    return 1
}

# Whether $_hd_module is loaded, after `module load` has reported success: Lmod and Environment
# Modules do so only then, version 3 always does.
_hd_loaded() {
    local now=:${LOADEDMODULES:-}: name=$_hd_module
    case $name in
        */*) [[ $now != *:"$name"[:/._-]* ]] || return 0 ;; # gcc/13 → gcc/13.2.0
        *) [[ $now != *:"$name"[:/]* ]] || return 0 ;;      # gcc → gcc/13.2.0
    esac
    # Another name, such as gcc/latest or gcc@13: new under its first part …
    [[ $now == ":$_hd_before:" || $now != *:"${name%%[/@]*}"[:/]* ]] || return 0
    # … or an alias. A command that knows what is loaded also knows what isn't.
    ! module is-loaded hpc-deepfake/none >/dev/null 2>&1
}

# Refuses impossible values of the words that are used here.
_hd_check_words() {
    local image=${HPC_DEEPFAKE_IMAGE:-} name possible advice
    while read -r name possible advice; do
        name=HPC_DEEPFAKE_$name
        # shellcheck disable=SC2053 # a pattern
        [[ -z ${!name:-} || ${!name} == $possible ]] || {
            echo "activate.sh: $name=${!name}: $advice" >&2
            return 2
        }
    done <<'EOF'
PYTHON @(site) its only value is site
KIND @(gpu|cpu|small) give gpu, cpu or small
SCHEDULER @(slurm|pbs) give slurm or pbs
DEVICE @(cpu|gpu|auto) give cpu, gpu or auto
RESUBMIT @(auto|yes|no) give auto, yes or no
EOF
    # Other tools have names of images instead of files.
    if [[ -n $image && ${HPC_DEEPFAKE_CONTAINER:-apptainer} == @(apptainer|singularity)* &&
        $image != *://* && ! -r $image ]]; then
        echo "activate.sh: no container image $image (HPC_DEEPFAKE_IMAGE${SITE:+ of site $SITE})" >&2
        return 2
    fi
}

# Passes a site file's settings on to SLURM, for sbatch by hand, and to the network libraries.
_hd_site() {
    local name value network=${HPC_DEEPFAKE_INTERFACE:-}
    _hd_forget HPC_DEEPFAKE_SBATCH
    export HPC_DEEPFAKE_SBATCH=''
    if [[ ${HPC_DEEPFAKE_SCHEDULER:-slurm} == slurm ]]; then
        for name in ACCOUNT PARTITION QOS; do
            value=$(_hd_of_kind "$name")
            [[ -z $value ]] || _hd_sbatch "$name" "$value"
        done
        _hd_sbatch_options
    fi
    if [[ -n $network ]]; then
        export OMPI_MCA_btl_tcp_if_include=${OMPI_MCA_btl_tcp_if_include:-$network}
        export OMPI_MCA_oob_tcp_if_include=${OMPI_MCA_oob_tcp_if_include:-$network}
        export PRTE_MCA_prte_if_include=${PRTE_MCA_prte_if_include:-$network}
        export NCCL_SOCKET_IFNAME=${NCCL_SOCKET_IFNAME:-$network}
    fi
}

# WORD: the site's word for jobs of the kind $HPC_DEEPFAKE_KIND; without one, the general word,
# else that of GPU jobs
_hd_of_kind() {
    local kinds name
    case ${HPC_DEEPFAKE_KIND:-} in
        gpu) kinds='GPU_ -' ;;
        cpu) kinds='CPU_ -' ;;
        small) kinds='SMALL_ CPU_ -' ;;
        *) kinds='- GPU_' ;;
    esac
    for name in $kinds; do
        name=HPC_DEEPFAKE_${name#-}$1
        if [[ -n ${!name:-} ]]; then
            printf '%s' "${!name}"
            return
        fi
    done
}

# NAME VALUE: exports SBATCH_NAME, unless the user has; HPC_DEEPFAKE_SBATCH lists what was set here.
# Flags have an empty value.
_hd_sbatch() {
    local name=SBATCH_$1
    [[ -z ${!name+set} ]] || return 0
    # Which partition of several it is depends on the nodes: `hpc-deepfake job submit` knows.
    [[ $1 != PARTITION || $2 != *[\ :]* ]] || return 0
    export "$name=$2"
    HPC_DEEPFAKE_SBATCH+=$name=$2$_hd_end
}

# The words of sbatch's command line in OPTIONS, as the variables that sbatch reads. Some have none.
_hd_sbatch_options() {
    local words=() word key value left='' general=${HPC_DEEPFAKE_OPTIONS:-} own
    own=$(_hd_of_kind OPTIONS)
    [[ -n ${HPC_DEEPFAKE_KIND:-} && $own != "$general" ]] || general=''
    read -ra words <<<"$own $general" # the first of two counts
    set -- "${words[@]+"${words[@]//[\"\']/}"}"
    while (($#)); do
        word=$1 value=''
        shift
        case $word in
            -[A-Z]?* | -[a-z]?*) value=${word:2} word=${word:0:2} ;;
            --*=*) value=${word#*=} word=${word%%=*} ;;
        esac
        if [[ -z $value && $# -gt 0 && $1 != -* ]]; then
            value=$1
            shift
        fi
        case $word in
            -A | --account) key=ACCOUNT ;;
            -C | --constraint) key=CONSTRAINT ;;
            -G | --gpus) key=GPUS ;;
            -M | --clusters) key=CLUSTERS ;;
            -m | --distribution) key=DISTRIBUTION ;;
            -p | --partition) key=PARTITION ;;
            -q | --qos) key=QOS ;;
            -S | --core-spec) key=CORE_SPEC ;;
            -t | --time) key=TIMELIMIT ;;
            --mem) key=MEM_PER_NODE ;;
            --switches) key=REQ_SWITCH ;;
            --acctg-freq | --batch | --container | --cpus-per-gpu | --delay-boot | --exclusive | \
                --get-user-env | --gpu-bind | --gpu-freq | --gpus-per-node | --gpus-per-task | --gres | \
                --gres-flags | --hint | --mem-bind | --mem-per-cpu | --mem-per-gpu | --network | \
                --no-kill | --overcommit | --power | --profile | --reservation | --signal | --spread-job | \
                --thread-spec | --threads-per-core | --use-min-nodes | --wait-all-nodes | --wckey)
                key=${word#--} key=${key//-/_} key=${key^^}
                ;;
            *)
                left+=" $word${value:+=$value}"
                continue
                ;;
        esac
        _hd_sbatch "$key" "$value"
    done
    if [[ -n $left && -z ${SLURM_JOB_ID:-} ]] && command -v sbatch >/dev/null; then
        echo "activate.sh: note: sbatch by hand doesn't get$left of site $SITE, for which it reads no variable; hpc-deepfake job submit adds them" >&2
    fi
}

_hd_main || return 2
