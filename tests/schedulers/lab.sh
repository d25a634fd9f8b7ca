#!/usr/bin/env bash
# A real SLURM with several nodes on this one machine, for the tests of jobs/.
#
#   lab.sh install          packages, by apt
#   lab.sh up               4 GPU nodes (n01 … n04) of 32 claimed CPUs and 4 GPU devices each, and
#                           2 CPU nodes (n05, n06) with the CPUs that this machine really has
#   lab.sh run COMMAND      as the ordinary user "hpc" on the login node ("head"), by bash
#   lab.sh admin COMMAND…   as root there, who is SLURM's administrator
#   lab.sh down             stops what it started
#
# A node is a network, host name and mount namespace with its own slurmd and /tmp; a bridge connects
# them. The GPUs are device files without a device: SLURM allocates them, but nothing can compute on
# them. sacct works (slurmdbd with its own MariaDB). Needs root and namespaces.
#
#   partition  nodes                   account        may be submitted to from
#   main, low  n01 … n04               lab or lab_g   anywhere
#   gpu        n01 … n04               lab_g          the login node
#   cpu        n05, n06                lab            the login node
#
# On n05 and n06, a rank is bound to its CPUs (task/affinity, and task/cgroup if this machine's
# control groups are version 1 and can be written); on the others, which claim more CPUs than there
# are, only their GPU devices can be constrained. "binding" in the lab's folder says what holds.
# Lmod with a few modules: source lmod.sh there. noexec/ is a shared folder mounted noexec. Mails of
# SLURM go to the file log/mail.
# Exit codes: 0 done; 3 not possible on this machine (the last line says why); else a fault.
set -euo pipefail
export PATH=/usr/sbin:/usr/bin:/sbin:/bin

lab=${SLURM_LAB:-/var/tmp/hpc-deepfake-lab} # /tmp is private to each node
conf=$lab/slurm.conf
lmod=$lab/lmod
subnet=10.77.0
gpu_nodes=4 cpu_nodes=2
cpus=32 gpus=4 # of a GPU node
packages=(slurmctld slurmd slurmdbd slurm-client slurm-wlm-torque munge mariadb-server
    openmpi-bin environment-modules iproute2 passwd
    lua5.3 lua-filesystem lua-json lua-posix lua-term tcl) # the last ones for Lmod

cannot() { echo "$*" && exit 3; }

install() {
    [[ $EUID -eq 0 ]] || cannot "a test cluster needs root"
    local missing=() package
    for package in "${packages[@]}"; do
        [[ $(dpkg-query -Wf '${Status}' "$package" 2>/dev/null) == *" installed" ]] ||
            missing+=("$package")
    done
    [[ ${#missing[@]} == 0 && -e $lmod/etc/profile.d/lmod.sh ]] && return
    export DEBIAN_FRONTEND=noninteractive
    apt-get update -qq
    # Packages must not start daemons: the lab starts its own, with its own configuration.
    local policy=/usr/sbin/policy-rc.d
    if [[ ! -e $policy ]]; then
        printf '#!/bin/sh\nexit 101\n' >$policy && chmod 755 $policy
        trap 'rm -f /usr/sbin/policy-rc.d' EXIT
    fi
    ((${#missing[@]} == 0)) || apt-get install -y -qq --no-install-recommends "${missing[@]}"
    install_lmod
}

# Debian's Lmod and Environment Modules exclude each other: Lmod goes into a folder of the lab.
install_lmod() {
    local download
    download=$(mktemp -d) && chmod 755 "$download"
    (cd "$download" && apt-get download -qq lmod) 2>&1 | sed '/unsandboxed/d'
    rm -rf "$lmod" && mkdir -p "$lmod"
    dpkg -x "$download"/lmod_*.deb "$lmod"
    rm -r "$download"
    grep -rlIE '/usr/share/lmod|/etc/lmod' "$lmod/etc" "$lmod/usr/share/lmod" |
        xargs sed -i "s|/usr/share/lmod|$lmod/usr/share/lmod|g; s|/etc/lmod|$lmod/etc/lmod|g"
}

# --- machines -----------------------------------------------------------------------------

# shellcheck disable=SC2016 # for the shell inside
on_head() { # COMMAND…: runs it with the head's host name and list of hosts
    unshare --uts --mount --propagation private sh -c '
        hostname head
        mount --bind "$0/munge/head" /run/munge
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
        mount --bind "$lab/munge/$node" /run/munge
        mount -t tmpfs -o mode=1777 shm /dev/shm
        mount --bind "$lab/tmp/$node" /tmp
        exec "$@"' "$lab" "$node" "$@"
}

start_machines() {
    local i node
    unshare --uts --mount --net true 2>/dev/null || cannot "this machine allows no namespaces"
    {
        echo "127.0.0.1 localhost"
        echo "$subnet.1 head"
        for i in $(seq "$nodes"); do printf '%s.%d n%02d\n' "$subnet" $((10 + i)) "$i"; done
    } >"$lab/hosts"
    sed 's/^hosts:.*/hosts: files/' /etc/nsswitch.conf >"$lab/nsswitch.conf" # so that nothing waits for DNS
    ip link add hd-bridge type bridge 2>/dev/null || cannot "this machine allows no network bridge"
    ip addr replace "$subnet.1/24" dev hd-bridge
    ip link set hd-bridge up
    for i in $(seq "$nodes"); do
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
        mknod -m 666 "/dev/hd-gpu$i" c 195 "$i" # NVIDIA's numbers; nothing answers here
    done
    mkdir -p "$lab/noexec"
    mount -t tmpfs -o noexec,nosuid,mode=1777 noexec "$lab/noexec"
}

stop_machines() {
    local name
    for name in $(ip netns list 2>/dev/null | awk '/^hd-n/ { print $1 }'); do
        ip netns del "$name"
        ip link del "$name" 2>/dev/null || true # disappears with its peer, sometimes a moment later
    done
    ip link del hd-bridge 2>/dev/null || true
    rm -f /dev/hd-gpu*
    while mountpoint -q "$lab/noexec"; do umount -l "$lab/noexec"; done
    find /sys/fs/cgroup/*/slurm_n0? -depth -type d -exec rmdir {} + 2>/dev/null || true
}

# --- daemons ------------------------------------------------------------------------------

# What this machine allows. Sets $real (CPUs of a CPU node), $affinity and $cgroups (yes or no).
look_at_machine() {
    local name
    real=$(sed -n 's/^Cpus_allowed_list:[^0-9]*0-\([0-9]*\).*/\1/p' /proc/self/status)
    affinity=yes cgroups=yes
    [[ -n $real ]] || affinity=no real=1 # one CPU, or not the first ones: SLURM would bind to others
    real=$((real < 15 ? real + 1 : 16))
    for name in cpuset devices; do # there in version 1 only
        { mkdir "/sys/fs/cgroup/$name/hd-lab" && rmdir "/sys/fs/cgroup/$name/hd-lab"; } 2>/dev/null || cgroups=no
    done
    printf 'affinity=%s\ncgroups=%s\ncpus=%s\n' "$affinity" "$cgroups" "$real" >"$lab/binding"
}

write_configuration() {
    local of_gpu=n[01-0$gpu_nodes] of_cpu=n[0$((gpu_nodes + 1))-0$nodes] affinity cgroups real kind
    look_at_machine
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
MailProg=$lab/mail.sh
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
GresTypes=gpu
JobAcctGatherType=jobacct_gather/linux
JobAcctGatherFrequency=2
AccountingStorageType=accounting_storage/slurmdbd
AccountingStorageHost=$subnet.1
AccountingStorageTRES=gres/gpu
AccountingStorageEnforce=associations,limits
NodeName=$of_gpu CPUs=$cpus Boards=1 SocketsPerBoard=1 CoresPerSocket=$cpus ThreadsPerCore=1 RealMemory=16000 Gres=gpu:$gpus State=UNKNOWN
NodeName=$of_cpu CPUs=$real Boards=1 SocketsPerBoard=1 CoresPerSocket=$real ThreadsPerCore=1 RealMemory=16000 State=UNKNOWN
PartitionName=main Nodes=$of_gpu Default=YES MaxTime=1-0 DefaultTime=10 PriorityTier=10 PreemptMode=off State=UP
PartitionName=low Nodes=$of_gpu MaxTime=1-0 DefaultTime=10 PriorityTier=1 PreemptMode=requeue GraceTime=30 State=UP
PartitionName=gpu Nodes=$of_gpu AllowAccounts=lab_g AllocNodes=head MaxTime=1-0 DefaultTime=10 PriorityTier=10 PreemptMode=off State=UP
PartitionName=cpu Nodes=$of_cpu AllowAccounts=lab AllocNodes=head MaxTime=1-0 DefaultTime=10 PriorityTier=10 PreemptMode=off State=UP
CONF
    echo "NodeName=$of_gpu Name=gpu File=/dev/hd-gpu[0-$((gpus - 1))]" >"$lab/gres.conf"
    # Each kind of node has a configuration of its own, which differs in how tasks are constrained.
    for kind in gpu cpu; do
        local plugins=()
        [[ $kind == gpu || $affinity == no ]] || plugins+=(task/affinity)
        [[ $cgroups == no ]] || plugins+=(task/cgroup)
        ((${#plugins[@]})) || plugins=(task/none)
        rm -rf "${lab:?}/$kind" && mkdir "$lab/$kind"
        sed "s|^TaskPlugin=.*|TaskPlugin=$(IFS=, && echo "${plugins[*]}")|" "$conf" >"$lab/$kind/slurm.conf"
        ln -sf ../gres.conf ../plugstack.conf "$lab/$kind"
        [[ $cgroups == yes ]] || continue
        cat >"$lab/$kind/cgroup.conf" <<CONF
CgroupMountpoint=/sys/fs/cgroup
CgroupPlugin=cgroup/v1
ConstrainCores=$([[ $kind == cpu ]] && echo "$affinity" || echo no)
ConstrainDevices=$([[ $kind == gpu ]] && echo yes || echo no)
CONF
    done
    # Debian's qsub for SLURM: PBS_* variables by a plugin, PBS_NODEFILE by a task prolog.
    echo "required spank_pbs.so" >"$lab/plugstack.conf"
    cat >"$lab/taskprolog.sh" <<'PROLOG'
#!/bin/bash
if [[ ${SLURM_PROCID:-0} == 0 ]] && file=$(/usr/bin/generate_pbs_nodefile 2>/dev/null); then
    echo "export PBS_NODEFILE=$file"
fi
PROLOG
    printf '#!/bin/bash\necho "$*" >>"%s/log/mail"\n' "$lab" >"$lab/mail.sh" # no mail leaves the lab
    chmod 755 "$lab/taskprolog.sh" "$lab/mail.sh"
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
    {
        on_head sacctmgr -i add cluster lab
        on_head sacctmgr -i add account lab,lab_g cluster=lab
        on_head sacctmgr -i add user hpc account=lab,lab_g defaultaccount=lab
    } >"$lab/log/sacctmgr.log"
}

# Lmod with versions as sites have them: modules that need another one, and a profile script that
# doesn't work under `set -u`.
write_modules() {
    local folder=$lab/modulefiles
    mkdir -p "$folder"/{gcc,openmpi}
    echo 'setenv("LAB_GCC", "12.1.0")' >"$folder/gcc/12.1.0.lua"
    echo 'setenv("LAB_GCC", "13.2.0")' >"$folder/gcc/13.2.0.lua"
    printf '%s\n' 'prereq("gcc")' 'setenv("LAB_OPENMPI", "4.1.4")' >"$folder/openmpi/4.1.4.lua"
    cat >"$lab/lmod.sh" <<PROFILE
# shellcheck shell=bash disable=all
[ "\$LAB_PROFILE_READ" = 1 ] || source "$lmod/etc/profile.d/lmod.sh"
LAB_PROFILE_READ=1
export MODULEPATH=$folder
PROFILE
}

idle_nodes() { [[ $(on_head sinfo -h -N -t idle -o %N | sort -u | wc -l) == "$1" ]]; }

up() {
    local nodes=$((gpu_nodes + cpu_nodes)) i node kind
    [[ $EUID -eq 0 ]] || cannot "a test cluster needs root"
    down
    mkdir -p "$lab"/{state,spool,run,log,work}
    chmod 1777 "$lab/work"
    id hpc >/dev/null 2>&1 || useradd --create-home --shell /bin/bash hpc
    start_machines
    write_configuration
    write_modules
    [[ -s /etc/munge/munge.key ]] || mungekey --create # missing if installed without starting it
    chown munge /etc/munge/munge.key
    command install -d -o munge -g munge -m 755 /run/munge
    start_munge head "$subnet.1"
    export SLURM_CONF=$conf
    start_database
    on_head slurmctld -f "$conf"
    for i in $(seq "$nodes"); do
        node=$(printf 'n%02d' "$i") kind=$( ((i > gpu_nodes)) && echo cpu || echo gpu)
        mkdir -p "$lab/spool/$node"
        start_munge "$node" "$subnet.$((10 + i))"
        on_node "$node" slurmd -N "$node" -f "$lab/$kind/slurm.conf"
    done
    wait_for 30 idle_nodes "$nodes"
}

# A daemon for each machine, so that SLURM knows from which one a job is submitted.
start_munge() { # NODE ADDRESS
    command install -d -o munge -g munge -m 755 "$lab/munge" "$lab/munge/$1"
    runuser -u munge -- munged --socket="$lab/munge/$1/munge.socket.2" --origin="$2" \
        --pid-file="$lab/munge/$1/munged.pid" --seed-file="$lab/munge/$1/seed" \
        --log-file="$lab/munge/$1/log"
}

# shellcheck disable=SC2016
run() { # COMMAND
    export SLURM_CONF=$conf
    on_head setpriv --reuid=hpc --regid=hpc --init-groups env -i SLURM_CONF="$conf" HOME=/home/hpc \
        USER=hpc LANG=C.UTF-8 PATH=/usr/local/bin:/usr/bin:/bin \
        bash -c 'cd "$0" && eval "$1"' "$lab/work" "$1"
}

admin() { # COMMAND…
    export SLURM_CONF=$conf
    on_head "$@"
}

down() {
    local file pid node
    if [[ -s $lab/run/slurmctld.pid && -f $conf ]]; then
        admin scancel -u hpc 2>/dev/null || true
    fi
    for file in "$lab"/run/{slurmd-*,slurmctld,slurmdbd,mariadbd}.pid "$lab"/munge/*/munged.pid; do
        [[ -s $file ]] || continue
        pid=$(<"$file")
        kill -KILL "$pid" 2>/dev/null || true # nothing is kept, so there is no need to wait
    done
    for node in $(ip netns list 2>/dev/null | awk '/^hd-n/ { print $1 }'); do
        ip netns pids "$node" | xargs -r kill -KILL 2>/dev/null || true
    done
    stop_machines
    rm -rf "${lab:?}"/{state,spool,run,log,tmp,database,munge}
}

case ${1:-} in
    install | up | run | admin | down) "$@" ;;
    *)
        sed -n '2,/^set/{/^#/s/^# \{0,1\}//p}' "$0" >&2
        exit 2
        ;;
esac
