# shellcheck shell=bash
# shellcheck disable=SC2034,SC2154 # variables shared with job.sh
# Launching ranks: the one place that knows srun and mpirun.

# Variables that reach the ranks on other nodes, where a launcher doesn't take all along.
readonly PASSED_ON='^(PATH|LD_LIBRARY_PATH|VIRTUAL_ENV|OMP_NUM_THREADS|SITE|TMPDIR|PYTHONUNBUFFERED|CUDA_VISIBLE_DEVICES|(HPC_DEEPFAKE|OMPI_MCA|PRTE_MCA|PMIX_MCA|UCX|NCCL|FI|HOROVOD|TF|HDF5)_.*)$'

# A job submitted with --export=NONE would start its ranks, and mpirun its daemons, without an
# environment.
[[ -z ${SLURM_EXPORT_ENV:-} ]] || export SLURM_EXPORT_ENV=ALL

# launcher RANKS RANKS_PER_NODE: the words before a command, in $launcher
launcher() {
    local ranks=$1 per_node=$2 kind=${HPC_DEEPFAKE_LAUNCHER:-auto} pmi=${HPC_DEEPFAKE_SRUN_MPI:-pmix} name
    if [[ $kind == auto ]]; then
        kind=mpirun
        if [[ $job_scheduler == slurm ]] && srun --mpi=list 2>&1 | grep -qw "$pmi"; then
            kind=srun
        fi
    fi
    case $kind in
        srun)
            # The first rank that fails ends all; everything exported reaches all.
            launcher=(srun "--mpi=$pmi" "--job-name=${job_step:-staging}" --kill-on-bad-exit=1 --export=ALL "--ntasks=$ranks"
                "--ntasks-per-node=$per_node" "--cpus-per-task=$job_cpus")
            ((ranks >= job_nodes)) || launcher+=("--nodes=$ranks")
            ;;
        mpirun)
            name=$(command -v mpirun || command -v mpiexec) || die "no mpirun in PATH: load the MPI module in env/sites/$SITE.sh"
            if "$name" --version 2>&1 | grep -qi 'open *mpi\|openrte\|prrte'; then
                # By its whole path it finds its daemon on other nodes too. Binding is left to
                # what the scheduler allotted.
                launcher=("$name" -np "$ranks" --map-by "ppr:$per_node:node" --bind-to none)
                [[ $job_scheduler != pbs ]] || launcher+=(--hostfile "$PBS_NODEFILE")
                for name in $(compgen -e); do
                    [[ ! $name =~ $PASSED_ON ]] || launcher+=(-x "$name")
                done
            else # MPICH and its kin take the environment along
                launcher=("$name" -n "$ranks" -ppn "$per_node")
                [[ $job_scheduler != pbs ]] || launcher+=(-f "$PBS_NODEFILE")
            fi
            ;;
        *) # a site's own, like: mpiexec -n {ranks} --ppn {per_node} --depth {cpus}
            kind=${kind//'{ranks}'/$ranks} kind=${kind//'{per_node}'/$per_node}
            read -ra launcher <<<"${kind//'{cpus}'/$job_cpus}"
            ;;
    esac
}

# Between PBS hosts, an Open MPI that knows nothing of PBS takes PBS's own remote shell, or ssh.
if [[ -n ${PBS_NODEFILE:-} ]] && command -v pbs_tmrsh >/dev/null; then
    export OMPI_MCA_plm_rsh_agent=${OMPI_MCA_plm_rsh_agent:-$job_lib/pbs_rsh.sh}
    export PRTE_MCA_plm_ssh_agent=${PRTE_MCA_plm_ssh_agent:-$job_lib/pbs_rsh.sh}
    # It works from the job's first host only.
    export OMPI_MCA_plm_rsh_no_tree_spawn=1 PRTE_MCA_plm_ssh_no_tree_spawn=1
fi

# A signal before the limit, a preemption, or somebody who wants this job to end in order. It
# reaches the ranks as USR1, which tells them to stop with everything saved; mpirun would answer TERM
# by killing them.
stop_asked='' launched='' signalled=''
on_signal() { # NAME
    stop_asked=$1 signalled=1
    [[ -z $launched ]] || kill -USR1 "$launched" 2>/dev/null || true
}
trap 'on_signal USR1' USR1
trap 'on_signal TERM' TERM

# launch [--ranks N | --per-node] COMMAND…: on all ranks of the job, on N of them, or once on each
# node. Returns the launcher's exit code, EXIT_STOPPED where a signal came before.
launch() {
    local ranks=$job_ranks per_node=$(((job_ranks + job_nodes - 1) / job_nodes)) launcher=() code
    case $1 in
        --ranks)
            ranks=$2
            ((ranks >= per_node)) || per_node=$ranks
            shift 2
            ;;
        --per-node)
            ranks=$job_nodes per_node=1
            shift
            ;;
    esac
    [[ -z $stop_asked ]] || return "$EXIT_STOPPED"
    launcher "$ranks" "$per_node"
    "${launcher[@]}" "$job_lib/rank.sh" "$@" &
    launched=$!
    while true; do
        signalled='' code=0
        wait "$launched" || code=$?
        [[ -n $signalled ]] || break # else the signal ended the waiting, not the program
    done
    launched=''
    return "$code"
}

# run_program [--ranks N] COMMAND…: one of this project's programs. Returns its exit code: what it
# wrote down itself (hpc_deepfake/core/mpi.py), for launchers mix up the ranks' codes.
run_program() {
    local code=0
    rm -f "$HPC_DEEPFAKE_OUTCOME_FILE" "$HPC_DEEPFAKE_ERROR_FILE"
    launch "$@" || code=$?
    if [[ -s $HPC_DEEPFAKE_OUTCOME_FILE ]]; then
        code=$(<"$HPC_DEEPFAKE_OUTCOME_FILE")
    elif [[ $code == 0 ]]; then
        echo "error: the launcher says success, but the program has not come to its end" \
            >"$HPC_DEEPFAKE_ERROR_FILE"
        code=1
    elif [[ -n $stop_asked && $code -gt 128 && ! -s $HPC_DEEPFAKE_ERROR_FILE ]]; then
        code=$EXIT_STOPPED # the signal came before the program could take note of it
    fi
    return "$code"
}
