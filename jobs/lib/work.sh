# shellcheck shell=bash
# shellcheck disable=SC2034,SC2154 # variables shared with job.sh
# What jobs do: the functions that job scripts call on their last line.

preprocess() {
    local pictures out
    pictures=$(chosen data PICTURES "${HPC_DEEPFAKE_DATA:-data}")
    out=$(chosen out DATA "$pictures/features.h5")
    chained "$out.jobs"
    record "$out.jobs"
    stage_environment
    check preprocess "$(dirname "$out")"
    work preprocessing "${python[@]}" -m preprocessing ${CONFIG:+--config "$CONFIG"} \
        ${PICTURES:+--data "$PICTURES"} "${job_args[@]}" --out "$out"
    finished
}

train() {
    local more=() run
    [[ -z $job_study ]] || study "$job_study"
    choose_run
    run=$job_run
    chained "$job_run/jobs"
    record "$job_run/jobs"
    [[ -z ${HPC_DEEPFAKE_AFTER:-} ]] || follow "$HPC_DEEPFAKE_AFTER" preprocessing
    stage_environment
    check train "$job_run"
    if [[ -n $job_element && -n $(option seeds) ]]; then # members of one ensemble
        more+=(--member "$job_element")
        run=${job_run%/*}
    elif [[ -n $job_element ]]; then # others differ by their seed, unless the arguments set one
        more+=(--seed "$job_element")
    fi
    [[ -z $STAGE ]] || more+=(--stage "$(local_folder "$STAGE")")
    work training "${python[@]}" -m hpc_deepfake.train ${CONFIG:+--config "$CONFIG"} \
        ${DATA:+--data "$DATA"} --device "$DEVICE" "${more[@]}" "${job_args[@]}" \
        --run "$run" --resume
    finished
}

# choose_run: sets $job_run, the run directory; each element of an array has its own
choose_run() {
    local seed
    [[ -z $job_run ]] || return 0
    job_run=$(chosen run RUN '')
    if [[ -n $job_element && -n $(option seeds) ]]; then
        [[ -n $job_run ]] || die "name the folder of the ensemble, the same for all of the array: RUN=runs/…"
        seed=$(option seed)
        job_run+=/seed-$((${seed:-0} + job_element))
    elif [[ -n $job_run && -n $job_element ]]; then
        job_run+=/$job_element
    fi
    job_run=${job_run:-runs/$job_id}
}

evaluate() {
    local run part
    run=$(chosen model RUN '')
    [[ -n $run ]] || die "name the run to evaluate: RUN=runs/… or --model runs/…"
    job_guest=evaluate
    record "$run/jobs"
    follow "$run/jobs" training
    [[ $DEVICE != gpu ]] || has_gpu || fail 2 "DEVICE=gpu, but this job was given no GPU. Evaluate on the CPU (DEVICE=cpu, the default), or request one:
  hpc-deepfake job submit $job_scheduler evaluate --gpus-per-node 1 --ranks-per-node 1 --cpus-per-rank 8 --var DEVICE=gpu --var RUN=$(printf %q "$run")${DATA:+ --var DATA=$(printf %q "$DATA")}"
    stage_environment
    part=$(option part)
    case $(option threshold) in
        *auto* | *fpr=* | *fnr=*) part=${part:-threshold} ;; # of the test part, or of a half
    esac
    [[ -z $(option authentic)$(option tampered) ]] || part=${part:-all}
    work evaluation "${python[@]}" -m hpc_deepfake.cli evaluate ${CONFIG:+--config "$CONFIG"} \
        ${DATA:+--data "$DATA"} --device "$DEVICE" \
        --json "$run/evaluation-${part:-validation}.json" "${job_args[@]}" --model "$run"
    "${python[@]}" -m hpc_deepfake.cli summary "$run"
}

# Whether this job was given a GPU, as far as the scheduler's variables and this node's devices say
has_gpu() {
    local name
    for name in SLURM_GPUS_ON_NODE SLURM_JOB_GPUS {CUDA,ROCR,HIP}_VISIBLE_DEVICES; do
        [[ -z ${!name:-} ]] || return 0
    done
    [[ -e /dev/kfd ]] || compgen -G '/dev/nvidia[0-9]*' >/dev/null
}

# Every method on ELA and every feature with sync, one training after another on the same machines.
compare() {
    local given=("${job_args[@]}") before=() after=() next words comparison
    [[ -n $job_run || -z $(option out) ]] || RUN=$(option out)
    choose_run
    chained "$job_run/jobs"
    record "$job_run/jobs"
    stage_environment
    check train "$job_run"
    # Arguments after -- go to each training.
    while ((${#given[@]})) && [[ ${given[0]} != -- ]]; do
        before+=("${given[0]}")
        given=("${given[@]:1}")
    done
    after=(-- --device "$DEVICE" "${given[@]:1}")
    comparison=("${python[@]}" -m hpc_deepfake.cli compare ${CONFIG:+--config "$CONFIG"} ${DATA:+--data "$DATA"}
        ${METHODS:+--methods "$METHODS"} ${FEATURES:+--features "$FEATURES"} ${EPOCHS:+--epochs "$EPOCHS"}
        ${REPEATS:+--repeats "$REPEATS"} --ranks "$job_ranks" --threads "$job_cpus" --nodes "$job_nodes"
        --servers-within "${before[@]}" --out "$job_run")
    while true; do
        next=$("${comparison[@]}" --next "${after[@]}") || fail "$?" "cannot determine the next training"
        [[ -n $next ]] || break
        mapfile -t words <<<"$next" # name, ranks, arguments
        local job_args=("${words[@]:2}") job_cpus
        job_cpus=$(option threads) # sequential uses the cores of all ranks of a node
        work "${words[0]}" --ranks "${words[1]}" "${python[@]}" -m hpc_deepfake.train "${job_args[@]}"
    done
    "${comparison[@]}" --report-only "${after[@]}" || fail "$?" "writing the report failed"
    finished
}

# Trainings on some data sets, then each model's evaluation on all of them, one after another.
crosseval() {
    local given=("${job_args[@]}") before=() next words matrix list
    [[ -n $job_run || -z $(option out) ]] || RUN=$(option out)
    choose_run
    chained "$job_run/jobs"
    record "$job_run/jobs"
    stage_environment
    check train "$job_run"
    # Arguments after -- go to each training.
    while ((${#given[@]})) && [[ ${given[0]} != -- ]]; do
        before+=("${given[0]}")
        given=("${given[@]:1}")
    done
    matrix=("${python[@]}" -m hpc_deepfake.cli crosseval ${CONFIG:+--config "$CONFIG"})
    for list in "--train $TRAIN_DATA" "--test $TEST_DATA" "--models $MODELS"; do
        read -ra words <<<"$list"
        ((${#words[@]} == 1)) || matrix+=("${words[@]}")
    done
    matrix+=(${NETWORKS:+--networks "$NETWORKS"} ${FEATURES:+--features "$FEATURES"} ${EPOCHS:+--epochs "$EPOCHS"}
        ${REPEATS:+--repeats "$REPEATS"} --ranks "$job_ranks" --threads "$job_cpus" --device "$DEVICE"
        "${before[@]}" --out "$job_run")
    while true; do
        next=$("${matrix[@]}" --next "${given[@]}") || fail "$?" "cannot determine the next program"
        [[ -n $next ]] || break
        mapfile -t words <<<"$next" # name, ranks, words for Python
        work "${words[0]}" --ranks "${words[1]}" "${python[@]}" "${words[@]:2}"
    done
    "${matrix[@]}" --report-only "${given[@]}" || fail "$?" "writing the report failed"
    finished
}

# A scaling study: a job for each run that is still to be done, and a last one, after all of them,
# for the report. The report and micro-benchmarks are jobs of this script, too.
scaling_study() {
    local folder dry='' words=() options=() ids=() plan=() queued=() known lines line run=() name id at
    folder=$(chosen run RUN "runs/scaling-${job_id:-$(date +%Y-%m-%dT%H-%M-%S)}")
    case ${HPC_DEEPFAKE_REPORT:-} in
        microbench)
            record "$folder/jobs"
            work microbench "${python[@]}" -m hpc_deepfake.cli scaling microbench --dir "$folder" \
                --json "$folder/microbench.json"
            finished
            return
            ;;
        ?*)
            scaling_report "$folder"
            return
            ;;
    esac
    training_job
    [[ -z $ONE_JOB || $ONE_JOB == 1 ]] || die "ONE_JOB=$ONE_JOB: give 1, or leave it out"
    for ((at = 0; at < ${#job_args[@]}; at++)); do
        case ${job_args[at]} in
            --dry-run) dry=1 ;;
            --run) ((at += 1)) ;; # in $folder already
            --run=*) ;;
            *) words+=("${job_args[at]}") ;;
        esac
    done
    for name in KINDS STRATEGIES INPUTS REPEATS; do
        read -ra run <<<"${!name}"
        ((${#run[@]} == 0)) || options+=("--${name,,}" "${run[@]}")
    done
    for name in RANKS_PER_NODE GLOBAL_BATCH BATCH_SIZE ROWS_PER_RANK DATA DOCTOR PICTURES LIMIT \
        TRAIN_OPTIONS PREPROCESS_OPTIONS; do
        line=--${name,,}
        [[ -z ${!name} ]] || options+=("${line//_/-}=${!name}")
    done
    [[ -z $asked_device ]] || options+=(--device "$asked_device")
    for name in $(compgen -v TRAIN_OPTIONS_); do # TRAIN_OPTIONS_8: from 8 nodes on
        options+=(--options-from "${name##*_}:${!name}")
    done
    [[ -z $ONE_JOB ]] || options+=(--one-job)
    plan=("${python[@]}" -m hpc_deepfake.cli
        scaling plan "$folder" --nodes "$MAX_NODES" --job "$TRAIN" --scripts "$HPC_DEEPFAKE_HOME/jobs/$job_scheduler"
        ${CONFIG:+--train-config "$CONFIG"} "${options[@]}")
    if [[ -n $dry ]]; then
        "${plan[@]}" -- "${words[@]}"
        return
    fi
    job_records=$folder/jobs
    mkdir -p "$job_records"
    # Until all are submitted, or this shell ends, nobody else submits the study.
    lines=$("${plan[@]}" --lines --holder $$ -- "${words[@]}")
    if [[ -z $lines ]]; then
        rm -f "$folder/in-use.json"
        scaling_report "$folder"
        return
    fi
    mapfile -t words <<<"$lines"
    for line in "${words[@]}"; do # before anything is submitted
        eval "run=($line)" # quoted for the shell: name, id of its previous job, words for submit
        known=0
        { [[ -n ${run[1]} ]] && queued_or_running "${run[1]}"; } || known=$?
        ((known < 2)) || {
            rm -f "$folder/in-use.json"
            die "nothing was submitted: it is not known what is queued or running (asked for job ${run[1]}): $unknown
Once more when it answers; if it never will, and no job of this study is left, delete the files $job_records/*.id"
        }
        queued+=("$known")
    done
    for at in "${!words[@]}"; do
        eval "run=(${words[at]})"
        name=${run[0]} id=${run[1]}
        if ((queued[at] == 0)); then
            say "$name: already in job $id"
        else
            submit_together "$(job_file "${run[2]}")" "${run[@]:3}"
            echo "$id" >"$job_records/$name.id"
            say "$name: job $id"
        fi
        ids+=("$id")
        touch -c "$folder/in-use.json" # a sign of life for other machines
    done
    if [[ -n $ONE_JOB ]]; then
        rm -f "$folder/in-use.json"
        say "it writes the report at its end, into $folder/report.html"
        return
    fi
    id=$(IFS=: && echo "${ids[*]}")
    submit_together "$(job_file scaling_study)" "$(after any "$id")" "RUN=$folder" DEVICE=cpu HPC_DEEPFAKE_REPORT=1
    rm -f "$folder/in-use.json"
    say "report: job $id, into $folder/report.html"
}

# scaling_report FOLDER: writes the report, or submits itself again after runs that resume in other jobs
scaling_report() {
    local next
    for next in "$1"/*/jobs "$1"/*/features.h5.jobs; do
        [[ -n $job_id && -s $next/next ]] || continue
        job_guest=report
        [[ -n $job_records ]] || record "$1/jobs"
        follow "$next" "run $(basename "${next%/*}")"
    done
    "${python[@]}" -m hpc_deepfake.cli scaling report "$1"
}

# Preprocess, train, evaluate: three jobs, each after the previous one.
pipeline() {
    local run data id dry='' words=() word
    for word in "${job_args[@]}"; do
        if [[ $word == --dry-run ]]; then dry=1; else words+=("$word"); fi
    done
    job_args=("${words[@]}")
    training_job
    run=$(chosen run RUN "runs/pipeline-${job_id:-$(date +%Y-%m-%dT%H-%M-%S)}")
    data=${DATA:-${PICTURES:-${HPC_DEEPFAKE_DATA:-data}}/features.h5}
    local common=("DATA=$data" "DOCTOR=$DOCTOR" "STAGE=$STAGE" "STAGE_ENV=$STAGE_ENV"
        "RANK_LOGS=$RANK_LOGS" "MAX_RESTARTS=$MAX_RESTARTS" "ARGS=") evaluation=("DEVICE=${EVALUATE_DEVICE:-cpu}")
    if [[ $EVALUATE_OPTIONS == *gpu* ]]; then # the user requests GPUs
        evaluation=("DEVICE=${EVALUATE_DEVICE:-${asked_device:-auto}}")
    elif [[ $EVALUATE_DEVICE == gpu ]]; then
        evaluation+=(--gpus-per-node=1 --ranks-per-node=1 --cpus-per-rank=8)
    fi
    if can_render; then # nothing is submitted if one of the jobs would be refused
        "${python[@]}" -m hpc_deepfake.cli job cost "$job_scheduler" preprocess --check "--options=$PREPROCESS_OPTIONS" \
            "--var=MAX_RESTARTS=$MAX_RESTARTS" "--var=PICTURES=$PICTURES" --var=CONFIG= --var=ARGS= \
            + "$TRAIN" --check "--options=$TRAIN_OPTIONS" "--var=MAX_RESTARTS=$MAX_RESTARTS" "--var=CONFIG=$CONFIG" \
            "--var=DATA=$data" ${asked_device:+"--var=DEVICE=$asked_device"} --var=ARGS= -- "${job_args[@]}" \
            + evaluate --check "${evaluation[@]:1}" "--options=$EVALUATE_OPTIONS" "--var=MAX_RESTARTS=$MAX_RESTARTS" \
            "--var=${evaluation[0]}" "--var=RUN=$run" --var=CONFIG= --var=ARGS= </dev/null || exit
    fi
    if [[ -n $dry ]]; then
        word=${evaluation[*]:1}
        word=${word:+ $word}${EVALUATE_OPTIONS:+ $EVALUATE_OPTIONS}
        say "to be submitted, each after the previous one:" "  preprocess${PREPROCESS_OPTIONS:+ $PREPROCESS_OPTIONS}: $data" \
            "  $TRAIN${TRAIN_OPTIONS:+ $TRAIN_OPTIONS}: $run" "  evaluate$word: ${evaluation[0]}"
        return
    fi
    job_records=$run/jobs
    mkdir -p "$job_records"
    submit_together "$(job_file preprocess)" "$PREPROCESS_OPTIONS" "${common[@]}" DEVICE=cpu CONFIG= "PICTURES=$PICTURES"
    say "preprocessing: job $id, into $data"
    submit_together "$(job_file "$TRAIN")" "$(after "$after_work" "$id") $only_if_possible $TRAIN_OPTIONS" \
        "${common[@]}" ${asked_device:+"DEVICE=$asked_device"} "CONFIG=$CONFIG" "RUN=$run" "HPC_DEEPFAKE_AFTER=$data.jobs" \
        -- "${job_args[@]}"
    say "training: job $id after it, in $run"
    submit_together "$(job_file evaluate)" "$(after "$after_work" "$id") $only_if_possible $EVALUATE_OPTIONS" \
        "${common[@]}" "${evaluation[@]}" CONFIG= "RUN=$run" "HPC_DEEPFAKE_AFTER=$run/jobs"
    say "evaluation: job $id after that one, into $run/evaluation-validation.json"
}

training_job() { # refuses a $TRAIN that doesn't train
    local file=$HPC_DEEPFAKE_HOME/jobs/$job_scheduler/$TRAIN.sh
    [[ -f $file && $(tail -n 1 "$file") == train ]] || die "TRAIN=$TRAIN: give train_cpu, train_4gpu or train_multinode"
}

job_file() { # NAME: path of this scheduler's job script
    local file=$HPC_DEEPFAKE_HOME/jobs/$job_scheduler/$1.sh
    [[ -f $file ]] || die "no job $1 in $(dirname "$file")"
    printf '%s' "$file"
}
