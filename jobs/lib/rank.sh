#!/usr/bin/env bash
# Prepares a rank and starts its program: rank.sh COMMAND…
set -euo pipefail

if [[ -n ${HPC_DEEPFAKE_STAGED:-} && -x $HPC_DEEPFAKE_STAGED/bin/python ]]; then # environment on this node's own disk
    export VIRTUAL_ENV=$HPC_DEEPFAKE_STAGED
    export PATH=$HPC_DEEPFAKE_STAGED/bin:$PATH
    [[ ! -d $HPC_DEEPFAKE_STAGED/python/lib ]] ||
        export LD_LIBRARY_PATH=$HPC_DEEPFAKE_STAGED/python/lib${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}
    # In use, as long as this rank runs: stage.sh removes what nobody uses from memory.
    touch -c "$HPC_DEEPFAKE_STAGED" || true
    exec {copy}<"$HPC_DEEPFAKE_STAGED"
    flock -ns "$copy" || true
fi
# Some launchers pass the first host's GPUs on to all ranks. Their names are unique: on another host,
# there are no such GPUs.
if [[ ${HPC_DEEPFAKE_FIRST_GPUS:-} == *@?* && ${CUDA_VISIBLE_DEVICES:-} == @(GPU|MIG)-* &&
    $CUDA_VISIBLE_DEVICES == "${HPC_DEEPFAKE_FIRST_GPUS#*@}" &&
    $(uname -n) != "${HPC_DEEPFAKE_FIRST_GPUS%%@*}" ]]; then
    unset CUDA_VISIBLE_DEVICES
fi
if [[ -n ${HPC_DEEPFAKE_RANK_LOGS:-} ]]; then
    rank=${OMPI_COMM_WORLD_RANK:-${PMIX_RANK:-${PMI_RANK:-${SLURM_PROCID:-0}}}}
    # tee must survive signals that are meant for the program.
    exec > >(trap '' TERM USR1 INT && exec tee -a "$HPC_DEEPFAKE_RANK_LOGS/rank-$(printf %04d "$rank").log") 2>&1
fi
exec "$@"
