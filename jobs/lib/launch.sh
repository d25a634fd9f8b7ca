# shellcheck shell=bash
# shellcheck disable=SC2034,SC2154 # variables shared with job.sh
# Launching ranks: the only file that calls srun or mpirun.

# Variables to pass to ranks on other nodes, for launchers that don't pass them all. Never those that
# choose GPUs, such as CUDA_VISIBLE_DEVICES: each node has its own.
readonly PASSED_ON='^(PATH|LD_LIBRARY_PATH|VIRTUAL_ENV|OMP_NUM_THREADS|SITE|TMPDIR|PYTHONUNBUFFERED|(HPC_DEEPFAKE|OMPI_MCA|PRTE_MCA|PMIX_MCA|UCX|NCCL|FI|HOROVOD|TF|HDF5)_.*)$'
# For launchers that pass them all: rank.sh drops the first host's GPUs on other hosts.
export HPC_DEEPFAKE_FIRST_GPUS=$HOSTNAME@${CUDA_VISIBLE_DEVICES:-}

# A job submitted with --export=NONE would start its ranks, and mpirun its daemons, without an
# environment.
[[ -z ${SLURM_EXPORT_ENV:-} ]] || export SLURM_EXPORT_ENV=ALL

# launcher RANKS RANKS_PER_NODE: sets $launcher, the words before a command
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
            # The first rank that fails ends all others; all exported variables reach all ranks.
            launcher=(srun "--mpi=$pmi" "--job-name=${job_step:-staging}" --kill-on-bad-exit=1 --export=ALL "--ntasks=$ranks"
                "--ntasks-per-node=$per_node" "--cpus-per-task=$job_cpus")
            ((ranks >= job_nodes)) || launcher+=("--nodes=$ranks")
            ;;
        mpirun)
            # In SLURM 22.05 to 23.02 it would give mpirun's daemon, one on each node, the CPUs of one rank.
            unset SRUN_CPUS_PER_TASK
            name=$(command -v mpirun || command -v mpiexec) || die "no mpirun in PATH: load the MPI module in env/sites/$SITE.sh"
            if "$name" --version 2>&1 | grep -qi 'open *mpi\|openrte\|prrte'; then
                # Called by its absolute path, it finds its daemon on other nodes, too. Binding is left
                # to the scheduler's allocation.
                launcher=("$name" -np "$ranks" --map-by "ppr:$per_node:node" --bind-to none)
                [[ $job_scheduler != pbs ]] || launcher+=(--hostfile "$PBS_NODEFILE")
                for name in $(compgen -e); do
                    [[ ! $name =~ $PASSED_ON ]] || launcher+=(-x "$name")
                done
            else # MPICH and its derivatives pass the environment on
                launcher=("$name" -n "$ranks" -ppn "$per_node")
                [[ $job_scheduler != pbs ]] || launcher+=(-f "$PBS_NODEFILE")
            fi
            ;;
        *) # a site's own launcher, such as: mpiexec -n {ranks} --ppn {per_node} --depth {cpus}
            kind=${kind//'{ranks}'/$ranks} kind=${kind//'{per_node}'/$per_node}
            read -ra launcher <<<"${kind//'{cpus}'/$job_cpus}"
            ;;
    esac
}

# Between PBS hosts, an Open MPI built without PBS support uses PBS's own remote shell, else ssh.
if [[ -n ${PBS_NODEFILE:-} ]] && command -v pbs_tmrsh >/dev/null; then
    export OMPI_MCA_plm_rsh_agent=${OMPI_MCA_plm_rsh_agent:-$job_lib/pbs_rsh.sh}
    export PRTE_MCA_plm_ssh_agent=${PRTE_MCA_plm_ssh_agent:-$job_lib/pbs_rsh.sh}
    # It works from the job's first host only.
    export OMPI_MCA_plm_rsh_no_tree_spawn=1 PRTE_MCA_plm_ssh_no_tree_spawn=1
fi

# A signal before the time limit, a preemption, or a user's request to stop the job. It is passed to
# the ranks as USR1, upon which they save everything and stop; mpirun would answer TERM by killing
# them.
stop_asked='' launched='' signalled=''
on_signal() { # NAME
    stop_asked=$1 signalled=1
    [[ -z $launched ]] || kill -USR1 "$launched" 2>/dev/null || true
}
trap 'on_signal USR1' USR1
trap 'on_signal TERM' TERM

# launch [--ranks N | --per-node] COMMAND…: runs a command on all ranks of the job, on N of them, or
# once on each node. Returns the launcher's exit code, or EXIT_STOPPED if a signal came before.
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
        [[ -n $signalled ]] || break # otherwise the signal ended wait, not the program
    done
    launched=''
    return "$code"
}

# run_program [--ranks N] COMMAND…: runs one of this project's programs. Returns the exit code that
# the program wrote to a file (hpc_deepfake/core/mpi.py), because launchers mix up the ranks' codes.
run_program() {
    local code=0
    rm -f "$HPC_DEEPFAKE_OUTCOME_FILE" "$HPC_DEEPFAKE_ERROR_FILE"
    launch "$@" || code=$?
    if [[ -s $HPC_DEEPFAKE_OUTCOME_FILE ]]; then
        code=$(<"$HPC_DEEPFAKE_OUTCOME_FILE")
    elif [[ $code == 0 ]]; then
        echo "error: the launcher reported success, but the program did not finish" \
            >"$HPC_DEEPFAKE_ERROR_FILE"
        code=1
    elif [[ -n $stop_asked && $code -gt 128 && ! -s $HPC_DEEPFAKE_ERROR_FILE ]]; then
        code=$EXIT_STOPPED # the signal came before the program could handle it
    fi
    return "$code"
}
