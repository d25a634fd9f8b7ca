# shellcheck shell=bash
# Programs in a container: the words before a command that runs in the image, or the options that
# srun needs for it; and which folders the image sees. Also read by env/bin/hpc-deepfake.

# Variables that a program reads, for tools that pass none on. Not those for libraries' folders: the
# image has its own.
readonly CONTAINER_VARIABLES=(CUDA_VISIBLE_DEVICES OMP_NUM_THREADS PYTHONPATH PYTHONUNBUFFERED SITE TMPDIR 'FI_*'
    'HDF5_*' 'HOROVOD_*' 'HPC_DEEPFAKE_*' 'MPICH_*' 'NCCL_*' 'OMPI_*' 'PALS_*' 'PMI*' 'PRTE_*' 'SLURM_*' 'TF_*' 'UCX_*')

contained=()    # words before a command that runs in the image
srun_options=() # of srun, of the site and for its container

# fill TEMPLATE NAME=VALUE…: sets $filled, the words of TEMPLATE with each {NAME} replaced. Words are
# what stands between spaces: quotes have no meaning, and a value stays within its word.
fill() {
    local pair mark rest word i
    read -ra filled <<<"$1"
    for pair in "${@:2}"; do
        mark="{${pair%%=*}}"
        for i in "${!filled[@]}"; do
            word='' rest=${filled[i]}
            while [[ $rest == *"$mark"* ]]; do
                word+=${rest%%"$mark"*}${pair#*=}
                rest=${rest#*"$mark"}
            done
            filled[i]=$word$rest
        done
    done
}

host_python() { python3 -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; }

# Whether programs run in a container, and whether srun starts it
in_container() { [[ -n ${HPC_DEEPFAKE_IMAGE:-} ]] || container_by_srun; }
container_by_srun() {
    [[ ${HPC_DEEPFAKE_CONTAINER:-} == pyxis || ${HPC_DEEPFAKE_SRUN_OPTIONS:-} == *--@(environment|container-image)* ]]
}

# container DEVICE WORD…: sets $contained, the words before a command, and $srun_options. The image
# sees the folders of all words that are paths, of files and of what doesn't exist yet, too.
container() {
    local device=$1 image=${HPC_DEEPFAKE_IMAGE:-} kind=${HPC_DEEPFAKE_CONTAINER:-apptainer}
    local folders=() pairs=() filled=() name mounts
    shift
    contained=() srun_options=()
    if [[ -n $image ]]; then
        [[ $kind != shifter ]] || set -- # a site that has Shifter decides which folders an image sees
        visible "$@" || return
        pairs=("${folders[@]/%/:}")
        for name in "${!folders[@]}"; do pairs[name]+=${folders[name]}; done
        mounts=$(IFS=, && printf '%s' "${pairs[*]-}")
        case $kind in
            apptainer | singularity | apptainer-rocm | singularity-rocm)
                contained=("${kind%-rocm}" exec)
                case $device:$kind in
                    cpu:*) ;;
                    *-rocm) contained+=(--rocm) ;;
                    *) contained+=(--nv) ;;
                esac
                for name in "${folders[@]}"; do contained+=(--bind "$name"); done
                contained+=("$image")
                ;;
            shifter)
                contained=(shifter "--image=$image")
                [[ $device == cpu ]] || contained+=('--module=mpich,gpu')
                [[ -z $mounts ]] || contained+=("--volume=${mounts//,/;}")
                ;;
            podman-hpc)
                contained=(podman-hpc run --rm --mpi)
                [[ $device == cpu ]] || contained+=(--gpu)
                for name in "${pairs[@]}"; do contained+=(--volume "$name"); done
                for name in "${CONTAINER_VARIABLES[@]}"; do contained+=(--env "$name"); done
                contained+=(--workdir "$PWD" "$image")
                ;;
            pyxis)
                srun_options=("--container-image=$image" "--container-mounts=$mounts" "--container-workdir=$PWD")
                ;;
            *'{image}'*)
                fill "$kind" "image=$image" "binds=$mounts"
                contained=("${filled[@]}")
                ;;
            *)
                echo "error: HPC_DEEPFAKE_CONTAINER=$kind: give apptainer, apptainer-rocm, singularity, singularity-rocm," \
                    "shifter, podman-hpc or pyxis, or the words of a command with {image} and {binds}" >&2
                return 2
                ;;
        esac
    fi
    fill "${HPC_DEEPFAKE_SRUN_OPTIONS:-}" "image=$image" "binds=${mounts:-}"
    srun_options+=("${filled[@]}")
}

# visible WORD…: sets $folders, those that an image must see for the paths among these words (a word
# may be an option with its value) and the site's BIND: by the name that was given and by the real
# one, without those that lie in another one
visible() {
    local path target steps found=() bind=() folder other
    IFS=: read -ra bind <<<"${HPC_DEEPFAKE_BIND:-}"
    for path in "$@" "${bind[@]}"; do
        [[ $path != -*=* ]] || path=${path#*=}
        [[ -n $path && $path != -* ]] || continue
        steps=0
        while ((steps++ < 20)); do # along a chain of links
            [[ $path == /* ]] || path=$PWD/$path
            target=$(readlink -- "$path") || target=''
            [[ -n $target && $target != /* ]] && target=${path%/*}/$target
            folder=$path
            while [[ ! -d $folder ]]; do folder=${folder%/*} folder=${folder:-/}; done
            found+=("$(CDPATH='' cd -- "$folder" && pwd -L)" "$(CDPATH='' cd -- "$folder" && pwd -P)")
            [[ -n $target ]] || break
            path=$target
        done
        # Folders of pictures often are links themselves.
        for folder in "${path%/}"/*/; do
            [[ ! -L ${folder%/} ]] || found+=("$(CDPATH='' cd -- "$folder" 2>/dev/null && pwd -P)")
        done
    done
    folders=()
    while IFS= read -r folder; do
        [[ -n $folder && $folder != / ]] || continue
        if [[ $folder == *[,:]* ]]; then
            echo "error: a container can't see $folder, whose name has a comma or colon: rename it" >&2
            return 2
        fi
        for other in "${folders[@]}"; do
            [[ $folder/ != "$other"/* ]] || continue 2
        done
        folders+=("$folder")
    done < <(printf '%s\n' "${found[@]}" | LC_ALL=C sort -u)
}
