# shellcheck shell=bash
# shellcheck disable=SC2034,SC2154 # variables shared with job.sh
# Launching ranks: the only file that calls srun or mpirun.

# Variables to pass to ranks on other nodes, for launchers that don't pass them all. Never those that
# choose GPUs, such as CUDA_VISIBLE_DEVICES: each node has its own.
readonly PASSED_ON='^(PATH|LD_LIBRARY_PATH|VIRTUAL_ENV|OMP_NUM_THREADS|SITE|TMPDIR|PYTHONPATH|PYTHONUNBUFFERED|(HPC_DEEPFAKE|OMPI_MCA|PRTE_MCA|PMIX_MCA|MPICH|UCX|NCCL|RCCL|MIOPEN|FI|HOROVOD|TF|HDF5)_.*)$'
# For launchers that pass them all: rank.sh drops the first host's GPUs on other hosts.
# (Where HOSTNAME is exported, it is that of the first host everywhere.)
HPC_DEEPFAKE_FIRST_GPUS=$(uname -n)@${CUDA_VISIBLE_DEVICES:-}
export HPC_DEEPFAKE_FIRST_GPUS

# A job submitted with --export=NONE would start its ranks, and mpirun its daemons, without an
# environment.
[[ -z ${SLURM_EXPORT_ENV:-} ]] || export SLURM_EXPORT_ENV=ALL

# Ranks on each node, where the scheduler chose nodes of different kinds; else nothing
uneven_ranks() {
    local counts=''
    if [[ -s ${PBS_NODEFILE:-} && -z ${job_layout:-} ]]; then
        counts=$(sort "$PBS_NODEFILE" | uniq -c | awk '{ print $1 }' | sort -nu)
    elif [[ ${SLURM_TASKS_PER_NODE:-} == *,* ]]; then # such as 4(x2),2
        counts=$(tr ',' '\n' <<<"$SLURM_TASKS_PER_NODE" | sed 's/(.*//' | sort -nu)
    fi
    [[ $counts != *$'\n'* ]] || printf '%s\n' "$counts"
}

# launcher RANKS RANKS_PER_NODE: sets $launcher, the words before a command. Where RANKS_PER_NODE is
# empty, each node has as many ranks as the scheduler gave it, which differ.
launcher() {
    local ranks=$1 per_node=$2 kind=${HPC_DEEPFAKE_LAUNCHER:-auto} pmi=${HPC_DEEPFAKE_SRUN_MPI:-} name version nodes filled map=slot most
    most=$(uneven_ranks | tail -n 1)
    if [[ -z $pmi ]]; then
        pmi=pmix
        [[ -z ${CRAY_MPICH_VERSION:-} ]] || pmi=cray_shasta
    fi
    if [[ $kind == auto ]]; then
        kind=mpirun
        if [[ $job_scheduler == slurm ]] && srun --mpi=list 2>&1 | grep -qw "$pmi"; then
            kind=srun
        fi
    fi
    if [[ $kind != srun ]] && container_by_srun; then
        die "srun starts this site's container, but the launcher is $kind: set HPC_DEEPFAKE_LAUNCHER=srun and HPC_DEEPFAKE_SRUN_MPI (see srun --mpi=list) in env/sites/$SITE.sh"
    fi
    case $kind in
        srun)
            # The first rank that fails ends all others; all exported variables reach all ranks.
            launcher=(srun "--mpi=$pmi" "--job-name=${job_step:-staging}" --kill-on-bad-exit=1 --export=ALL "--ntasks=$ranks"
                ${per_node:+"--ntasks-per-node=$per_node"} "--cpus-per-task=$job_cpus" "${srun_options[@]}")
            if [[ -n ${step_nodes:-} ]]; then
                launcher+=("--nodes=$step_nodes")
            elif ((ranks < job_nodes)); then
                launcher+=("--nodes=$ranks")
            fi
            ;;
        mpirun)
            # In SLURM 22.05 to 23.02 it would give mpirun's daemon, one on each node, the CPUs of one rank.
            unset SRUN_CPUS_PER_TASK
            name=$(command -v mpirun || command -v mpiexec) || die "no mpirun in PATH: load the MPI module in env/sites/$SITE.sh"
            version=$("$name" --version 2>&1 || true)
            case ${version,,} in
                *hydra* | *'intel(r) mpi'*) # MPICH and its derivatives pass the environment on
                    launcher=("$name" -n "$ranks" ${per_node:+-ppn "$per_node"})
                    [[ $job_scheduler != pbs ]] || launcher+=(-f "$PBS_NODEFILE")
                    ;;
                *'open mpi'* | *openmpi* | *openrte* | *prrte*)
                    # Called by its absolute path, it finds its daemon on other nodes, too. Binding is
                    # left to the scheduler's allocation.
                    [[ -z $per_node ]] || map=ppr:$per_node:node
                    launcher=("$name" -np "$ranks" --map-by "$map" --bind-to none)
                    [[ $job_scheduler != pbs ]] || launcher+=(--hostfile "$PBS_NODEFILE" "${attached[@]}")
                    for name in $(compgen -e); do
                        [[ ! $name =~ $PASSED_ON ]] || launcher+=(-x "$name")
                    done
                    ;;
                mpiexec\ version*) # PALS, on HPE Cray machines
                    launcher=("$name" -n "$ranks" --ppn "${per_node:-$most}" --depth "$job_cpus" --cpu-bind depth)
                    ;;
                *) die "$name is of no known MPI: say how ranks are started in env/sites/$SITE.sh, like HPC_DEEPFAKE_LAUNCHER='mpiexec -n {ranks} -ppn {per_node}'" ;;
            esac
            ;;
        *) # a site's own launcher, such as: mpiexec -n {ranks} --ppn {per_node} --depth {cpus}
            per_node=${per_node:-$most}
            nodes=$(((ranks + per_node - 1) / per_node))
            ((nodes <= job_nodes)) || nodes=$job_nodes
            fill "$kind" "nodes=$nodes" "ranks=$ranks" "per_node=$per_node" "gpus=$job_gpus" "cpus=$job_cpus"
            launcher=("${filled[@]}")
            ;;
    esac
}

attached=() # options of Open MPI's mpirun
# Between PBS hosts, an Open MPI built without PBS support uses PBS's own remote shell, else ssh.
if [[ -n ${PBS_NODEFILE:-} ]] && command -v pbs_tmrsh >/dev/null; then
    # By its name: a path with a space would be taken for two words.
    PATH=$PATH:$job_lib
    export OMPI_MCA_plm_rsh_agent=${OMPI_MCA_plm_rsh_agent:-pbs_rsh.sh}
    export PRTE_MCA_plm_ssh_agent=${PRTE_MCA_plm_ssh_agent:-pbs_rsh.sh}
    # It works from the job's first host only.
    export OMPI_MCA_plm_rsh_no_tree_spawn=1 PRTE_MCA_plm_ssh_no_tree_spawn=1
    # PBS ends what is left of a task when its first process ends: daemons must stay in the foreground,
    # each with its remote shell. Open MPI wants to be allowed as many of them as there are nodes.
    # (Version 5 has this as an option only; the variable is for version 4 in a launcher of the site's.)
    attached=(--leave-session-attached)
    export OMPI_MCA_orte_leave_session_attached=1
    export OMPI_MCA_plm_rsh_num_concurrent=$((job_nodes > 128 ? job_nodes : 128))
    export PRTE_MCA_plm_ssh_num_concurrent=$OMPI_MCA_plm_rsh_num_concurrent
fi
# Host names with domains must stay what they are in the node file, for that is where PBS knows them.
if [[ -n ${PBS_NODEFILE:-} ]] && grep -q '[a-zA-Z][^.]*\.' "$PBS_NODEFILE" 2>/dev/null; then
    export OMPI_MCA_orte_keep_fqdn_hostnames=1 PRTE_MCA_prte_keep_fqdn_hostnames=1
fi

# A signal before the time limit, a preemption, or a user's request to stop the job. It is passed to
# the ranks as USR1, upon which they save everything and stop; mpirun would answer TERM by killing
# them.
stop_asked='' launched='' signalled=''
on_signal() { # NAME
    stop_asked=$1 signalled=1
    # TERM comes before KILL: what follows may not be reached any more.
    [[ $1 != TERM || -z $launched || -z $job_records ]] || outcome "$EXIT_STOPPED"
    [[ -z $launched ]] || kill -USR1 "$launched" 2>/dev/null || true
}
trap 'on_signal USR1' USR1
trap 'on_signal TERM' TERM

first_hosts() { # N: a file like PBS_NODEFILE with the first N hosts only; prints its path
    local file=$job_records/nodes-$1
    awk -v most="$1" '!($1 in host) && hosts < most { host[$1]; hosts++ } $1 in host' "$PBS_NODEFILE" >"$file"
    printf '%s' "$file"
}

# launch [[--nodes N] --ranks N | --per-node] COMMAND…: runs a command on all ranks of the job, on N
# ranks (of its first nodes), or once on each node. Returns the launcher's exit code, or EXIT_STOPPED
# if a signal came before.
launch() {
    local ranks=$job_ranks per_node=$(((job_ranks + job_nodes - 1) / job_nodes)) launcher=() code
    [[ -z $(uneven_ranks) ]] || per_node=''
    if [[ $1 == --nodes ]]; then
        local step_nodes=$2 job_nodes=$2 hosts
        per_node=$((($4 + job_nodes - 1) / job_nodes))
        if [[ -n ${PBS_NODEFILE:-} ]]; then # for launchers that start on all nodes of the file
            hosts=$(first_hosts "$2")
            local -x PBS_NODEFILE=$hosts
        fi
        shift 2
    fi
    case $1 in
        --ranks)
            ranks=$2
            [[ -z $per_node ]] || ((ranks >= per_node)) || per_node=$ranks
            shift 2
            ;;
        --per-node)
            ranks=$job_nodes per_node=1
            shift
            ;;
    esac
    [[ -z $stop_asked ]] || return "$EXIT_STOPPED"
    launcher "$ranks" "$per_node"
    # By bash, since a clone may lie on a file system from which nothing may be executed
    "${launcher[@]}" bash "$job_lib/rank.sh" "$@" &
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
    # Otherwise it may not have been started at all.
    reported=$(cat "$HPC_DEEPFAKE_OUTCOME_FILE" "$HPC_DEEPFAKE_ERROR_FILE" 2>/dev/null) || true
    if [[ -s $HPC_DEEPFAKE_OUTCOME_FILE ]]; then
        code=$(<"$HPC_DEEPFAKE_OUTCOME_FILE")
    elif [[ $code == 0 ]]; then
        echo "error: the launcher reported success, but the program did not finish" \
            >"$HPC_DEEPFAKE_ERROR_FILE"
        code=1
    elif [[ $stop_asked == TERM || ( -n $stop_asked && $code -gt 128 && ! -s $HPC_DEEPFAKE_ERROR_FILE ) ]]; then
        code=$EXIT_STOPPED # the program, or its launcher, ended before it could handle the signal
    fi
    return "$code"
}
