"""The doctor's verdicts on networks and quotas, from prepared trees, NCCL's logs and commands."""

from __future__ import annotations

import os
from pathlib import Path
from types import SimpleNamespace

import pytest
from job_scripts import command

from hpc_deepfake.doctor import fabric, nccl, quota
from hpc_deepfake.doctor.fabric import Fabric
from hpc_deepfake.doctor.quota import Quota
from hpc_deepfake.doctor.report import FAIL, INFO, OK, WARN

INFINIBAND = Fabric(infiniband=("mlx5_0 200 Gb/sec (4X HDR) ACTIVE",))
SLINGSHOT = Fabric(slingshot=("cxi0 200 Gb/s", "cxi1 200 Gb/s"))
DOWN = Fabric(infiniband=("mlx5_0 10 Gb/sec (4X SDR) DOWN",))


def tree(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


def test_devices_of_a_node(tmp_path: Path) -> None:
    root = tree(tmp_path, {
        "infiniband/mlx5_0/ports/1/rate": "100 Gb/sec (4X EDR)\n",
        "infiniband/mlx5_0/ports/1/state": "4: ACTIVE\n", "infiniband/odd/x": "",
        "cxi/cxi0/x": "", "cxi/cxi1/x": "", "net/hsn0/speed": "200000\n", "net/eth0/speed": "1000"})
    found = fabric.find(root)
    assert found == Fabric(("mlx5_0 100 Gb/sec (4X EDR) ACTIVE", "odd"), ("cxi0 200 Gb/s", "cxi1"))
    assert str(found).startswith("Slingshot: cxi0 200 Gb/s, cxi1; InfiniBand or similar: mlx5_0")
    assert fabric.find(tmp_path / "none") == Fabric() and not str(Fabric())
    assert SLINGSHOT.usable and INFINIBAND.usable and not DOWN.usable and not Fabric().usable


@pytest.mark.parametrize(("devices", "library", "verdict", "words"), [
    (Fabric(), "libmpi.so.40", INFO, "no InfiniBand or Slingshot"),
    (SLINGSHOT, "libcxi.so.1.5.0", INFO, "Slingshot: cxi0"),
    (SLINGSHOT, "libfabric.so.1", WARN, "has not loaded libcxi, and seems to use TCP"),
    (INFINIBAND, "libibverbs.so.1.14", INFO, "mlx5_0 200 Gb/sec"),
    (INFINIBAND, "libuct_ib.so.0", INFO, "mlx5_0"), (INFINIBAND, "libpsm2.so.2", INFO, "mlx5_0"),
    (INFINIBAND, "libucp.so.0", WARN, "seems to use TCP"),
    (DOWN, "libibverbs.so.1", WARN, "active")])
def test_whether_mpi_has_loaded_the_networks_libraries(devices: Fabric, library: str,
                                                       verdict: str, words: str) -> None:
    record = fabric.judge(devices, f"7f1-7f2 r-xp 00 08:01 1   /usr/lib64/{library}\n")
    assert record.verdict == verdict and words in record.value
    assert verdict != WARN or "\n  " in record.todo


def test_the_network_matters_between_nodes() -> None:
    assert fabric.network(SimpleNamespace(first=True, leaders=[0]), SLINGSHOT) is None
    assert fabric.network(SimpleNamespace(first=False, leaders=[0, 4]), SLINGSHOT) is None
    record = fabric.network(SimpleNamespace(first=True, leaders=[0, 4]), SLINGSHOT)
    assert record is not None and record.what == "network" and "Slingshot" in record.value


# --- NCCL

SOCKET = """\
n01:71:71 [0] NCCL INFO Bootstrap : Using hsn0:10.1.1.1<0>
n01:71:71 [0] NCCL INFO NET/Plugin: Could not find: libnccl-net.so.
n01:71:90 [0] NCCL INFO NET/IB : No device found.
n01:71:90 [0] NCCL INFO NET/Socket : Using [0]hsn0:10.1.1.1<0> [1]hsn1:10.1.1.2<0>
n01:71:90 [0] NCCL INFO Initialized NET plugin Socket
n01:71:90 [0] NCCL INFO Assigned NET plugin Socket to comm
n01:71:90 [0] NCCL INFO Using network Socket
n01:71:93 [0] NCCL INFO Channel 00/0 : 3[3] -> 0[0] [receive] via NET/Socket/0
"""
IB = """\
n01:71:90 [0] NCCL INFO NET/Socket : Using [0]ib0:10.1.1.1<0>
n01:71:90 [0] NCCL INFO NET/IB : Using [0]mlx5_0:1/IB [1]mlx5_1:1/IB [RO]; OOB ib0:10.1.1.1<0>
n01:71:90 [0] NCCL INFO Using network IB
n01:71:93 [0] NCCL INFO Channel 00/0 : 3[3] -> 0[0] [receive] via NET/IB/0/GDRDMA
"""
OFI = """\
n01:71:71 [0] NCCL INFO NET/Plugin: Loaded net plugin AWS Libfabric (v6)
n01:71:90 [0] NCCL INFO NET/OFI Selected Provider is {} (found 2 nics)
n01:71:90 [0] NCCL INFO Using network AWS Libfabric
n01:71:93 [0] NCCL INFO Channel 00/0 : 3[3] -> 0[0] [receive] via NET/AWS Libfabric/0{}
"""
OLD = "n01:71:71 [0] NCCL INFO Using network IB\nNCCL version 2.8.3+cuda11.0\n"


@pytest.mark.parametrize(("log", "text", "tcp", "direct"), [
    (SOCKET, "TCP on hsn0, hsn1", True, False), (IB, "IB on mlx5_0, mlx5_1", False, True),
    (OFI.format("cxi", "/GDRDMA"), "AWS Libfabric (cxi)", False, True),
    (OFI.format("tcp;ofi_rxm", ""), "TCP through libfabric (tcp;ofi_rxm)", True, False),
    (IB.replace("network IB", "network IBext_v8"), "IBext_v8 on mlx5_0, mlx5_1", False, True),
    (OLD, "IB", False, False), (SOCKET + IB, "IB on mlx5_0, mlx5_1", False, True)])
def test_the_network_in_a_log_of_nccl(log: str, text: str, tcp: bool, direct: bool) -> None:
    network = nccl.read(log)
    assert network is not None
    assert (str(network), network.tcp, network.direct) == (text, tcp, direct)


@pytest.mark.parametrize("log", ["", "NCCL version 2.32.3+cuda12.9\n", "Using network Socket\n"])
def test_a_log_without_the_network(log: str) -> None:
    assert nccl.read(log) is None
    assert nccl.judge(None, SLINGSHOT, "1 GB/s", {}).verdict == INFO


@pytest.mark.parametrize(("devices", "environ", "words"), [
    (SLINGSHOT, {}, ("although there is Slingshot: cxi0", "aws-ofi-nccl", "not in LD_LIBRARY_PATH",
                     "export NCCL_NET='AWS Libfabric'")),
    (SLINGSHOT, {"LD_LIBRARY_PATH": "{plugin}"},
     ("libnccl-net.so was found but not used", "fi_info")),
    (SLINGSHOT, {"NCCL_NET": "Socket"}, ("NCCL_NET=Socket asks for it", "unset NCCL_NET")),
    (INFINIBAND, {"NCCL_IB_DISABLE": "1"},
     ("although there is InfiniBand", "unset NCCL_IB_DISABLE")),
    (INFINIBAND, {}, ("/dev/infiniband", "export NCCL_NET=IB")),
    (Fabric(), {}, ("no InfiniBand or Slingshot is visible", "NCCL_SOCKET_IFNAME"))])
def test_nccl_over_tcp_is_a_warning_with_the_way_out(
        tmp_path: Path, devices: Fabric, environ: dict[str, str], words: tuple[str, ...]) -> None:
    tree(tmp_path, {"libnccl-net.so": ""})
    environ = {name: value.format(plugin=f"/none:{tmp_path}") for name, value in environ.items()}
    record = nccl.judge(nccl.read(SOCKET), devices, "0.3 GB/s", environ)
    assert record.verdict == WARN and record.value.startswith("TCP on hsn0, hsn1, 0.3 GB/s")
    for word in words:
        assert word in f"{record.value} {record.todo}", record


def test_nccl_over_the_fast_network_passes() -> None:
    record = nccl.judge(nccl.read(IB), INFINIBAND, "20 GB/s", {})
    assert (record.verdict, record.value) == (OK, "IB on mlx5_0, mlx5_1, with GPU-direct RDMA")
    assert nccl.judge(nccl.read(OFI.format("cxi", "")), SLINGSHOT, "", {}).verdict == OK


def test_the_log_of_nccl_is_a_file_of_this_process(monkeypatch: pytest.MonkeyPatch,
                                                   tmp_path: Path) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    for name in ("NCCL_DEBUG", "NCCL_DEBUG_SUBSYS", "NCCL_DEBUG_FILE"):
        monkeypatch.setenv(name, "WARN" if name == "NCCL_DEBUG" else "")
    log = nccl.Log()
    log.start()
    assert os.environ["NCCL_DEBUG"] == "INFO"
    Path(os.environ["NCCL_DEBUG_FILE"]).write_text(SOCKET)
    assert log.end() == SOCKET and log.end() == "" and not list(tmp_path.iterdir())
    monkeypatch.setenv("NCCL_DEBUG", "INFO")  # the user reads it
    monkeypatch.delenv("NCCL_DEBUG_FILE")
    log.start()
    assert "NCCL_DEBUG_FILE" not in os.environ and log.end() == ""


# --- quotas

@pytest.mark.parametrize(("text", "left"), [
    ("/scratch 1000 0 3000 - 45000 0 50000 -", (2000 * 1024, 5000)),
    ("/scratch\n      4000* 2000 3000 6d - 60000* 50000 0 -".replace("6d -", "6d"),
     (-1000 * 1024, -10000)),
    ("/fred [1041408]  5242880 6291456       -     [0]       0       0       -",
     ((6291456 - 1041408) * 1024, None)),
    ("/dev/sda1 12 0 0 0 95000 100000 0 0", (None, 5000)),
    ("/scratch 1 0 0 - 1 0 0 -", (None, None))])
def test_a_line_of_a_quota(text: str, left: tuple[int | None, int | None]) -> None:
    found = quota.parse("user", text)
    assert found is not None and (found.bytes_left, found.files_left) == left


@pytest.mark.parametrize("text", ["", "lfs: error", "a b c d e f g h i", "/x 1k 0 0 - 1 0 0 -"])
def test_other_lines_are_no_quota(text: str) -> None:
    assert quota.parse("user", text) is None


@pytest.mark.parametrize(("quotas", "verdict", "text"), [
    ([Quota("user", None, None)], None, ""), ([], None, ""),
    ([Quota("user", 10**12, 10**6)], OK, "left: 1,000.0 GB and 1,000,000 files (user)"),
    ([Quota("user", None, 5000)], WARN, "5,000 files"),
    ([Quota("user", None, -3)], FAIL, "0 files"),
    ([Quota("user", 10**12, None), Quota("project 7", 10**8, None)], FAIL, "0.1 GB (project 7)")])
def test_little_left_of_a_quota(quotas: list[Quota], verdict: str | None, text: str) -> None:
    record = quota.judge(quotas, Path("/a b"))
    assert (record and record.verdict) == verdict
    if record:
        assert text in record.value and "'/a b'" in record.todo


def test_quotas_are_asked_for_as_the_file_system_does(tmp_path: Path,
                                                      monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    command(tmp_path, "lfs", """
        case "$1 $3" in
            "project "*) echo "  1234 P $3"; exit ;;
            "quota -u") files=1 ;;
            "quota -g") files=2 ;;
            "quota -p") [[ $4 == 1234 ]] && files=3 ;;
        esac
        echo "$5 1 0 0 - $files 0 10 -" """)
    found = quota.of(tmp_path, "lustre")
    assert [one.files_left for one in found] == [9, 8, 7] and found[2].whose == "project 1234"
    command(tmp_path, "df", "echo head; echo '/dev/sdb 1 1 1 1% /home'")
    command(tmp_path, "quota", "echo Disk; echo '/dev/sda 1 0 9 0 1 0 9 0'; "
                               "echo '/dev/sdb 1 0 0 0 4 0 9 0'")
    assert quota.of(tmp_path, "ext4") == [Quota("user", None, 5)]
    command(tmp_path, "quota", "exit 1")
    assert quota.of(tmp_path, "ext4") == []
