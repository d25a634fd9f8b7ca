#!/bin/bash -l
# All that a node with GPUs can tell of this project, in one job of about ten minutes: the build, the
# doctor, equality with one GPU, the step against Keras and PyTorch, determinism, TF32 and bfloat16,
# NCCL, 1 to 4 GPUs, train and predict.
#
#   sbatch benchmarks/gpu.sh           SLURM
#   qsub benchmarks/gpu.sh             PBS
#   bash benchmarks/gpu.sh             this machine
#
# It writes a report (report.md) and its figures (report.json). A part that fails or takes too long is
# reported, and the rest goes on. Fewer GPUs: sbatch --gpus-per-node=1 --ntasks-per-node=1 …
#SBATCH --job-name=hd-gpu
#SBATCH --nodes=1
#SBATCH --ntasks-per-node=4
#SBATCH --cpus-per-task=8
#SBATCH --gpus-per-node=4
#SBATCH --time=00:30:00
#SBATCH --output=%x-%j.log
#PBS -N hd-gpu
#PBS -l select=1:ncpus=32:mpiprocs=4:ompthreads=8:ngpus=4
#PBS -l walltime=00:30:00
#PBS -j oe
set -euo pipefail

# What to change: set these when submitting, as by DEVICE=cpu PARTS='facts reduce' bash benchmarks/gpu.sh
DEVICE=${DEVICE:-gpu}       # cpu: without GPUs, to see that the script works
RANKS=${RANKS:-}            # most ranks (default: those of the job, otherwise the GPUs, at most 4)
OUT=${OUT:-}                # folder to write (default: gpu-report-JOB or gpu-report-TIME)
PARTS=${PARTS:-}            # of facts doctor operations equal step speed reduce programs (default: all)
SLOWER=${SLOWER:-1}         # times the time limits of the parts
QUICK=${QUICK:-}            # 1: as short as possible, to see that the script works
TORCH_PYTHON=${TORCH_PYTHON:-} # a Python with PyTorch for CUDA (default: the environment's own)
SITE=${SITE:-}              # site file env/sites/SITE.sh

# The scheduler runs a copy of this file: find the clone that it came from.
clone=$(scontrol show job "${SLURM_JOB_ID:--}" 2>/dev/null | sed -n 's|^ *Command=\(.*\)/benchmarks/gpu\.sh.*|\1|p' | sed -n 1p) || true
for clone in "$clone" "${BASH_SOURCE[0]%/*}/.." "${HPC_DEEPFAKE_HOME:-}" "${SLURM_SUBMIT_DIR:-${PBS_O_WORKDIR:-.}}"{,/..} ""; do
    [[ ! -f $clone/jobs/lib/job.sh ]] || break
done
[[ -n $clone ]] || { echo "error: found no clone of hpc_deepfake: submit inside one, or set HPC_DEEPFAKE_HOME" >&2 && exit 2; }
scheduler=slurm
[[ -z ${PBS_JOBID:-} ]] || scheduler=pbs
if [[ -z ${SLURM_JOB_ID:-}${PBS_JOBID:-} ]]; then
    export HPC_DEEPFAKE_LAUNCHER=${HPC_DEEPFAKE_LAUNCHER:-mpirun}
fi
# shellcheck source=jobs/lib/job.sh
source "$clone/jobs/lib/job.sh" "$scheduler" "$@"

[[ $DEVICE == @(gpu|cpu) ]] || die "DEVICE=$DEVICE: give gpu or cpu"
[[ $RANKS =~ ^[0-9]*$ && $SLOWER =~ ^[1-9][0-9]*$ ]] || die "RANKS and SLOWER are whole numbers"
known=' facts doctor operations equal step speed reduce programs '
read -ra chosen <<<"$PARTS"
for part in "${chosen[@]}"; do
    [[ $known == *" $part "* || $part == none ]] || die "PARTS has no $part: give some of$known"
done
if [[ -z $RANKS && -n $job_id ]]; then
    RANKS=$job_ranks
elif [[ -z $RANKS ]]; then
    RANKS=$({ nvidia-smi -L 2>/dev/null || true; } | grep -c '^GPU' || true)
    RANKS=$((RANKS < 1 ? 1 : RANKS > 4 ? 4 : RANKS))
    [[ $DEVICE == gpu ]] || RANKS=2
fi
if [[ -z $job_id ]]; then # what a job says to launch
    job_ranks=$RANKS
    job_cpus=$(($(nproc) > RANKS ? $(nproc) / RANKS : 1))
    export OMP_NUM_THREADS=$job_cpus HPC_DEEPFAKE_RANK_CPUS=$job_cpus
fi
OUT=${OUT:-gpu-report-${job_id:-$(date +%Y-%m-%dT%H-%M-%S)}}
mkdir -p "$OUT"
OUT=$(cd "$OUT" && pwd)
[[ -z $(ls -A "$OUT") ]] || die "OUT=$OUT is not empty: name another folder"
export PYTHONPATH=$HPC_DEEPFAKE_HOME/benchmarks${PYTHONPATH:+:$PYTHONPATH} TORCH_PYTHON
benchmarks=$HPC_DEEPFAKE_HOME/benchmarks

wanted() { [[ -z $PARTS || " $PARTS " == *" $1 "* ]]; } # PART

# part NAME SECONDS RANKS COMMAND…: runs a program, on 0 ranks without a launcher; its output goes to
# NAME.log, and how it ended to parts.tsv
part() {
    local name=$1 limit=$(($2 * SLOWER)) ranks=$3 code=0 began=$SECONDS
    shift 3
    job_step=$name
    if ((ranks)); then
        launch --ranks "$ranks" timeout -k 10 "$limit" "$@" >"$OUT/$name.log" 2>&1 || code=$?
    else
        timeout -k 10 "$limit" "$@" >"$OUT/$name.log" 2>&1 || code=$?
    fi
    printf '%s\t%s\t%s\t%s\n' "$name" "$code" $((SECONDS - began)) "$limit" >>"$OUT/parts.tsv"
    ((code == 0)) || say "$name failed ($code), see $OUT/$name.log"
    say "$name: $((SECONDS - began)) s"
}

# needs FILE PART WHY: whether FILE is there; if not, PART is left out, which the report says
needs() {
    [[ ! -e $1 ]] || return 0
    say "$2: left out, $3" | tee "$OUT/$2.log"
    printf '%s\t-\t0\t0\n' "$2" >>"$OUT/parts.tsv"
    return 1
}

measured() { # NAME SECONDS RANKS SCRIPT ARGUMENTS…: a benchmark, with NAME.json
    local name=$1 limit=$2 ranks=$3 script=$4
    shift 4
    part "$name" "$limit" "$ranks" "${python[@]}" "$benchmarks/$script" "$@" --device "$DEVICE" --json "$OUT/$name.json"
}

short=() # options of the benchmarks
[[ -z $QUICK ]] || short=(--seconds 0.05)
cases=()
[[ -z $QUICK ]] || cases=(--rounds 1 --steps 2 --cases 'ours;ours, tf32;pytorch')
batches=(32 256) small=()
[[ -z $QUICK ]] || batches=(4) small=(--size 32 --batch 4)
counts=(1)
for ((count = 2; count < RANKS; count *= 2)); do counts+=("$count"); done
((RANKS == 1)) || counts+=("$RANKS")

say "on up to $RANKS ranks, device $DEVICE, into $OUT"
! wanted facts || part facts 90 0 "${python[@]}" "$benchmarks/gpu_report.py" facts "$OUT/facts.json"
! wanted doctor || part doctor 120 "$RANKS" "${python[@]}" -m hpc_deepfake.cli doctor --device "$DEVICE" --dir "$OUT" --json "$OUT/doctor.json"
if wanted operations && [[ $DEVICE == gpu && -f $benchmarks/gpu_operations.py ]]; then
    part operations 120 0 "${python[@]}" "$benchmarks/gpu_operations.py"
fi
if wanted equal && ((RANKS > 1)); then
    for strategy in sync hybrid; do
        measured "equal-$strategy" 120 "$RANKS" gpu_ranks.py equal --strategy "$strategy" ${QUICK:+--size 32}
    done
fi
if wanted step; then
    for batch in "${batches[@]}"; do
        measured "step-$batch" 300 0 gpu_step.py --batch "$batch" "${cases[@]}"
    done
fi
if wanted speed; then
    for count in "${counts[@]}"; do
        for strategy in sync hybrid; do
            ((count > 1)) || [[ $strategy == sync ]] || continue
            name=$strategy
            ((count > 1)) || name=sequential
            measured "speed-$name-$count" 60 "$count" gpu_ranks.py speed --strategy "$name" "${short[@]}" "${small[@]}"
        done
    done
    if [[ $DEVICE == gpu ]]; then
        for precision in tf32 bfloat16; do
            measured "speed-auto-$RANKS-$precision" 60 "$RANKS" gpu_ranks.py speed --precision "$precision" --no-deterministic "${short[@]}"
        done
    fi
fi
if wanted reduce && ((RANKS > 1)); then
    measured reduce 90 "$RANKS" gpu_ranks.py reduce ${QUICK:+--most 65536}
fi
if wanted programs; then
    pictures=400
    [[ -z $QUICK ]] || pictures=40
    part sample 60 0 "${python[@]}" -m hpc_deepfake.cli sample --out "$OUT/work/sample" --count "$pictures"
    part preprocess 90 "$RANKS" "${python[@]}" -m preprocessing --data "$OUT/work/sample" --out "$OUT/work/features.h5"
    for name in train again; do # the same bits twice
        needs "$OUT/work/features.h5" "$name" 'since preprocess wrote no data file' || continue
        part "$name" 120 "$RANKS" "${python[@]}" -m hpc_deepfake.train --data "$OUT/work/features.h5" --run "$OUT/work/$name" \
            --device "$DEVICE" --epochs 2 --no-report ${QUICK:+--batch-size 4}
    done
    for name in predict predict-ranks; do
        needs "$OUT/work/train/model.keras" "$name" 'since train wrote no model' || continue
        ranks=0
        [[ $name == predict ]] || ranks=$RANKS
        part "$name" 90 "$ranks" "${python[@]}" -m hpc_deepfake.cli predict \
            --model "$OUT/work/train" --device "$DEVICE" --format csv "$OUT/work/sample"
    done
fi
"${python[@]}" "$benchmarks/gpu_report.py" report "$OUT"
