#!/usr/bin/env bash
# A real SLURM with several nodes on this one machine, for the tests of jobs/.
#
#   lab.sh install          packages, by apt
#   lab.sh up [NODES]       4 nodes (n01 … n04) of 32 claimed CPUs and 4 GPU devices each
#   lab.sh run COMMAND      as the ordinary user "hpc" on the login node ("head"), by bash
#   lab.sh down             stops what it started
#
# A node is a network, host name and mount namespace with its own slurmd and /tmp; a bridge connects
# them. The GPUs are fake device files that work like /dev/null: SLURM allocates them, but nothing
# can compute on them. sacct works (slurmdbd with its own MariaDB). Needs root and namespaces.
# Exit codes: 0 done; 3 not possible on this machine (the last line says why); else a fault.
set -euo pipefail
export PATH=/usr/sbin:/usr/bin:/sbin:/bin

lab=${SLURM_LAB:-/var/tmp/hpc-deepfake-lab} # /tmp is private to each node
conf=$lab/slurm.conf
subnet=10.77.0
cpus=32 gpus=4
packages=(slurmctld slurmd slurmdbd slurm-client slurm-wlm-torque munge mariadb-server
    openmpi-bin environment-modules iproute2 passwd)

cannot() { echo "$*" && exit 3; }

install() {
    [[ $EUID -eq 0 ]] || cannot "a test cluster needs root"
    local missing=() package
    for package in "${packages[@]}"; do
        [[ $(dpkg-query -Wf '${Status}' "$package" 2>/dev/null) == *" installed" ]] ||
            missing+=("$package")
    done
    ((${#missing[@]})) || return 0
    export DEBIAN_FRONTEND=noninteractive
    apt-get update -qq
    # Packages must not start daemons: the lab starts its own, with its own configuration.
    local policy=/usr/sbin/policy-rc.d
    if [[ ! -e $policy ]]; then
        printf '#!/bin/sh\nexit 101\n' >$policy && chmod 755 $policy
        trap 'rm -f /usr/sbin/policy-rc.d' EXIT
    fi
    apt-get install -y -qq --no-install-recommends "${missing[@]}"
}

# --- machines -----------------------------------------------------------------------------

# shellcheck disable=SC2016 # for the shell inside
on_head() { # COMMAND…: runs it with the head's host name and list of hosts
    unshare --uts --mount --propagation private sh -c '
        hostname head
        mount --bind "$0/hosts" /etc/hosts && mount --bind "$0/nsswitch.conf" /etc/nsswitch.conf
        exec "$@"' "$lab" "$@"
}

# shellcheck disable=SC2016
on_node() { # NODE COMMAND…
    local node=$1
    shift
    mkdir -p "$lab/tmp/$node" && chmod 1777 "$lab/tmp/$node"
    nsenter --net="/run/netns/hd-$node" unshare --uts --mount --propagation private sh -c '
        lab=$0 node=$1 && shift
        hostname "$node"
        mount --bind "$lab/hosts" /etc/hosts && mount --bind "$lab/nsswitch.conf" /etc/nsswitch.conf
        mount -t tmpfs -o mode=1777 shm /dev/shm
        mount --bind "$lab/tmp/$node" /tmp
        exec "$@"' "$lab" "$node" "$@"
}

start_machines() { # NODES
    local i node
    unshare --uts --mount --net true 2>/dev/null || cannot "this machine allows no namespaces"
    {
        echo "127.0.0.1 localhost"
        echo "$subnet.1 head"
        for i in $(seq 1 "$1"); do printf '%s.%d n%02d\n' "$subnet" $((10 + i)) "$i"; done
    } >"$lab/hosts"
    sed 's/^hosts:.*/hosts: files/' /etc/nsswitch.conf >"$lab/nsswitch.conf" # so that nothing waits for DNS
    ip link add hd-bridge type bridge 2>/dev/null || cannot "this machine allows no network bridge"
    ip addr replace "$subnet.1/24" dev hd-bridge
    ip link set hd-bridge up
    for i in $(seq 1 "$1"); do
        node=$(printf 'n%02d' "$i")
        ip netns add "hd-$node"
        ip link add "hd-$node" type veth peer name eth0 netns "hd-$node"
        ip link set "hd-$node" master hd-bridge up
        ip -n "hd-$node" addr add "$subnet.$((10 + i))/24" dev eth0
        ip -n "hd-$node" link set lo up
        ip -n "hd-$node" link set eth0 up
        ip -n "hd-$node" route add default via "$subnet.1"
    done
    for i in $(seq 0 $((gpus - 1))); do
        [[ -e /dev/hd-gpu$i ]] || mknod -m 666 "/dev/hd-gpu$i" c 1 3
    done
}

stop_machines() {
    local name
    for name in $(ip netns list 2>/dev/null | awk '/^hd-n/ { print $1 }'); do
        ip netns del "$name"
        ip link del "$name" 2>/dev/null || true # disappears with its peer, sometimes a moment later
    done
    ip link del hd-bridge 2>/dev/null || true
    rm -f /dev/hd-gpu*
}

# --- daemons ------------------------------------------------------------------------------

write_configuration() { # NODES
    local nodes
    nodes=n[01-$(printf %02d "$1")]
    cat >"$conf" <<CONF
ClusterName=lab
SlurmctldHost=head($subnet.1)
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
StateSaveLocation=$lab/state
SlurmdSpoolDir=$lab/spool/%n
SlurmctldPidFile=$lab/run/slurmctld.pid
SlurmdPidFile=$lab/run/slurmd-%n.pid
SlurmctldLogFile=$lab/log/slurmctld.log
SlurmdLogFile=$lab/log/slurmd-%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
TaskProlog=$lab/taskprolog.sh
SlurmdParameters=config_overrides
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
DefMemPerCPU=400
SchedulerType=sched/backfill
SchedulerParameters=batch_sched_delay=0,sched_interval=2,bf_interval=2,sched_min_interval=0
MpiDefault=none
SwitchType=switch/none
ReturnToService=2
JobRequeue=1
KillWait=5
InactiveLimit=0
MinJobAge=3600
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
GresTypes=gpu
JobAcctGatherType=jobacct_gather/linux
JobAcctGatherFrequency=2
AccountingStorageType=accounting_storage/slurmdbd
AccountingStorageHost=$subnet.1
AccountingStorageTRES=gres/gpu
NodeName=$nodes CPUs=$cpus Boards=1 SocketsPerBoard=1 CoresPerSocket=$cpus ThreadsPerCore=1 RealMemory=16000 Gres=gpu:$gpus State=UNKNOWN
PartitionName=main Nodes=ALL Default=YES MaxTime=1-0 DefaultTime=10 PriorityTier=10 PreemptMode=off State=UP
PartitionName=low Nodes=ALL MaxTime=1-0 DefaultTime=10 PriorityTier=1 PreemptMode=requeue GraceTime=30 State=UP
CONF
    echo "NodeName=$nodes Name=gpu File=/dev/hd-gpu[0-$((gpus - 1))]" >"$lab/gres.conf"
    # Debian's qsub for SLURM: PBS_* variables by a plugin, PBS_NODEFILE by a task prolog.
    echo "required spank_pbs.so" >"$lab/plugstack.conf"
    cat >"$lab/taskprolog.sh" <<'PROLOG'
#!/bin/bash
if [[ ${SLURM_PROCID:-0} == 0 ]] && file=$(/usr/bin/generate_pbs_nodefile 2>/dev/null); then
    echo "export PBS_NODEFILE=$file"
fi
PROLOG
    chmod 755 "$lab/taskprolog.sh"
    cat >"$lab/slurmdbd.conf" <<CONF
AuthType=auth/munge
DbdHost=head
DbdAddr=$subnet.1
SlurmUser=root
LogFile=$lab/log/slurmdbd.log
PidFile=$lab/run/slurmdbd.pid
StorageType=accounting_storage/mysql
StorageHost=127.0.0.1
StoragePort=13306
StorageUser=slurm
StoragePass=lab
StorageLoc=slurm_acct_db
CONF
    chmod 600 "$lab/slurmdbd.conf"
}

wait_for() { # SECONDS COMMAND…
    local end=$((SECONDS + $1))
    shift
    until "$@" >/dev/null 2>&1; do
        ((SECONDS < end)) || { echo "lab.sh: timed out waiting for: $*" >&2 && return 1; }
        sleep 0.1
    done
}

start_database() {
    local data=$lab/database socket=$lab/run/mariadb.sock
    mkdir -p "$data" && chown mysql "$data"
    mariadb-install-db --no-defaults --user=mysql --datadir="$data/data" --skip-test-db \
        --auth-root-authentication-method=socket >"$lab/log/mariadb-install.log" 2>&1
    chmod 777 "$lab/run"
    # Fast rather than durable.
    setsid mariadbd --no-defaults --user=mysql --datadir="$data/data" --socket="$socket" \
        --pid-file="$lab/run/mariadbd.pid" --bind-address=127.0.0.1 --port=13306 \
        --innodb-buffer-pool-size=64M --innodb-lock-wait-timeout=900 \
        --innodb-flush-log-at-trx-commit=0 >"$lab/log/mariadbd.log" 2>&1 </dev/null &
    wait_for 30 mariadb-admin --no-defaults --socket="$socket" ping
    mariadb --no-defaults --socket="$socket" <<'SQL'
create database slurm_acct_db;
create user 'slurm'@'localhost' identified by 'lab';
create user 'slurm'@'127.0.0.1' identified by 'lab';
grant all on slurm_acct_db.* to 'slurm'@'localhost';
grant all on slurm_acct_db.* to 'slurm'@'127.0.0.1';
SQL
    on_head slurmdbd
    wait_for 30 bash -c "exec 3<>/dev/tcp/$subnet.1/6819"
}

idle_nodes() { [[ $(on_head sinfo -h -p main -t idle -o %D) == "$1" ]]; }

up() { # [NODES]
    local nodes=${1:-4} i node
    [[ $EUID -eq 0 ]] || cannot "a test cluster needs root"
    down
    mkdir -p "$lab"/{state,spool,run,log,work}
    chmod 1777 "$lab/work"
    id hpc >/dev/null 2>&1 || useradd --create-home --shell /bin/bash hpc
    start_machines "$nodes"
    write_configuration "$nodes"
    if ! munge -n >/dev/null 2>&1; then
        install_munge_key
        command install -d -o munge -g munge -m 755 /run/munge
        runuser -u munge -- munged --pid-file=/run/munge/munged.pid
        touch "$lab/run/munge-is-ours"
    fi
    export SLURM_CONF=$conf
    start_database
    on_head slurmctld -f "$conf"
    for i in $(seq 1 "$nodes"); do
        node=$(printf 'n%02d' "$i")
        mkdir -p "$lab/spool/$node"
        on_node "$node" slurmd -N "$node" -f "$conf"
    done
    wait_for 30 idle_nodes "$nodes"
}

install_munge_key() { # missing if the package was installed without its start-up script
    [[ -s /etc/munge/munge.key ]] || mungekey --create
    chown munge /etc/munge/munge.key
}

# shellcheck disable=SC2016
run() { # COMMAND
    export SLURM_CONF=$conf
    on_head setpriv --reuid=hpc --regid=hpc --init-groups env -i SLURM_CONF="$conf" HOME=/home/hpc \
        USER=hpc LANG=C.UTF-8 PATH=/usr/local/bin:/usr/bin:/bin \
        bash -c 'cd "$0" && eval "$1"' "$lab/work" "$1"
}

down() {
    local file pid node
    if [[ -s $lab/run/slurmctld.pid && -f $conf ]]; then
        export SLURM_CONF=$conf
        on_head scancel -u hpc 2>/dev/null || true
    fi
    for file in "$lab"/run/{slurmd-*,slurmctld,slurmdbd,mariadbd}.pid; do
        [[ -s $file ]] || continue
        pid=$(<"$file")
        kill -KILL "$pid" 2>/dev/null || true # nothing is kept, so there is no need to wait
    done
    for node in $(ip netns list 2>/dev/null | awk '/^hd-n/ { print $1 }'); do
        ip netns pids "$node" | xargs -r kill -KILL 2>/dev/null || true
    done
    if [[ -e $lab/run/munge-is-ours && -s /run/munge/munged.pid ]]; then
        kill "$(</run/munge/munged.pid)" 2>/dev/null || true
    fi
    stop_machines
    rm -rf "${lab:?}"/{state,spool,run,log,tmp,database}
}

case ${1:-} in
    install | up | run | down) "$@" ;;
    *)
        sed -n '2,/^set/{/^#/s/^# \{0,1\}//p}' "$0" >&2
        exit 2
        ;;
esac
