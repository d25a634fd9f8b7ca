"""Which GPU each rank is on, and placements that are refused, with recorded texts and a played
library of CUDA."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from uuid import UUID

import pytest

from hpc_deepfake.core.errors import InputError
from hpc_deepfake.doctor.gpu import judge_places
from hpc_deepfake.doctor.report import FAIL, OK, WARN
from hpc_deepfake.network import cycle, device, gpus, placement
from hpc_deepfake.network.gpus import Card, Gpu
from hpc_deepfake.network.placement import Seat

SMI = """\
0, GPU-1f3a7c52-0000, 00000000:07:00.0, NVIDIA A100-SXM4-80GB, 535.104.05, 81920, 3
1, GPU-2b9d0e11-0000, 00000000:0F:00.0, NVIDIA A100-SXM4-80GB, 535.104.05, 81920, 20480
2, GPU-2b9d77aa-0000, 00000000:47:00.0, NVIDIA A100-SXM4-80GB, 535.104.05, 81920, [N/A]
"""
CARDS = gpus.parse(SMI)
FOUR = tuple(Gpu(f"GPU-{number}", f"0000:0{number}:00.0") for number in range(4))


# --- which GPUs there are -----------------------------------------------------------------------

def test_nvidia_smi_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert gpus.cards() == []
    program = tmp_path / "nvidia-smi"
    program.write_text(f"#!/bin/sh\n[ $2 = --format=csv,noheader,nounits ] && "
                       f"echo '{SMI.splitlines()[1]}'\n")
    program.chmod(0o700)
    assert gpus.cards() == [Card(1, "GPU-2b9d0e11-0000", "00000000:0F:00.0",
                                 "NVIDIA A100-SXM4-80GB", "535.104.05", 81920, 20480)]
    assert gpus.visible(SimpleNamespace()) == [Gpu("GPU-2b9d0e11-0000", "0000:0f:00.0")]
    program.write_text("#!/bin/sh\necho 'NVIDIA-SMI has failed'; exit 9\n")
    assert gpus.cards() == gpus.visible(SimpleNamespace()) == []
    assert [card.used for card in CARDS] == [3, 20480, 0]
    assert gpus.parse("No devices were found\n") == []


@pytest.mark.parametrize(("setting", "numbers"), [
    (None, [0, 1, 2]), ("", []), ("2,0", [2, 0]), ("GPU-1f3a7c52", [0]), ("1,9,0", [1]),
    ("-1", []), ("GPU-2b9d", []), ("2, GPU-2b9d0e11-0000", [2, 1])])
def test_visible_gpus_as_cuda_numbers_them(setting: str | None, numbers: list[int]) -> None:
    """The list ends at an entry that matches no GPU, or two."""
    assert gpus.by_setting(CARDS, setting) == [CARDS[number].uuid for number in numbers]


def test_parts_of_a_gpu_have_their_own_names() -> None:
    assert gpus.by_setting(CARDS, "MIG-aa,MIG-bb") == ["MIG-aa", "MIG-bb"]


class Driver:
    """CUDA's driver API, with two GPUs. Those of ``failing`` return an error."""

    IDS = (UUID(int=1), UUID(int=2))

    def __init__(self, failing: str = "") -> None:
        self._failing = failing

    def __getattr__(self, name: str) -> object:
        def call(*arguments: object) -> int:
            if name == self._failing:
                return 100
            getattr(self, f"_{name}")(*(getattr(one, "_obj", one) for one in arguments))
            return 0

        if name.startswith("_"):
            raise AttributeError(name)
        return call

    def _cuInit(self, flags: int) -> None: ...

    def _cuDeviceGetCount(self, count: ctypes.c_int) -> None:
        count.value = 2

    def _cuDeviceGet(self, found: ctypes.c_int, number: int) -> None:
        found.value = number

    def _cuDeviceGetUuid_v2(self, raw: ctypes.Array, one: ctypes.c_int) -> None:
        raw[:] = self.IDS[one.value].bytes

    def _cuDeviceGetPCIBusId(self, text: ctypes.Array, size: int,
                             one: ctypes.c_int) -> None:
        text.value = f"0000:{one.value + 7:02X}:00.0".encode()


def test_cudas_driver_names_the_gpus_of_this_process(tmp_path: Path,
                                                     monkeypatch: pytest.MonkeyPatch) -> None:
    """As CUDA numbers them, whatever nvidia-smi lists; a part of a GPU under its own name."""
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    first = "00000000-0000-0000-0000-000000000001"
    assert gpus.visible(Driver())[0] == Gpu(f"GPU-{first}", "0000:07:00.0")
    assert [gpu.bus for gpu in gpus.visible(Driver())] == ["0000:07:00.0", "0000:08:00.0"]
    assert gpus.by_driver(Driver(), f"MIG-{first}")[0].uuid == f"MIG-{first}"
    monkeypatch.setenv("PATH", str(tmp_path))  # no nvidia-smi either
    assert gpus.visible(Driver("cuInit")) == []


# --- where the ranks are ------------------------------------------------------------------------

def ranks(*numbers: int | None, host: str = "n01", first: int = 0, name: str = "A100",
          seen: Sequence[Gpu] = FOUR) -> list[Seat]:
    """A node's ranks on GPUs of these numbers; None: on a CPU."""
    return [Seat(host, first, "CPU", "EPYC", why="no driver") if number is None else
            Seat(host, first, f"GPU:{number}", name, FOUR[number], tuple(seen))
            for number in numbers]


def elsewhere(node: list[Seat], host: str, first: int, **changed: object) -> list[Seat]:
    """The same on another node."""
    def moved(gpu: Gpu | None) -> Gpu | None:
        return gpu and Gpu(gpu.uuid + host, gpu.bus)

    return [seat._replace(host=host, node=first, own=moved(seat.own),
                          seen=tuple(map(moved, seat.seen)), **changed) for seat in node]


def test_each_rank_has_a_gpu_of_its_own() -> None:
    """On two nodes with GPUs at the same addresses, and one GPU per rank called GPU:0 by all."""
    node = [seat._replace(kind="GPU:0", setting=str(number), seen=(seat.own,))
            for number, seat in enumerate(ranks(0, 1, 2, 3))]
    both = node + elsewhere(node, "n02", 4)
    assert placement.judge(both) == []
    record, = judge_places(both)
    assert (record.verdict, record.value) == (OK, "each rank has its own")
    assert placement.judge(ranks(None, None)) == []


def test_more_ranks_than_gpus_are_refused() -> None:
    seats = elsewhere(ranks(0, 1), "n01", 0) + elsewhere(ranks(0, 1, 2, 3, 0, 1), "n02", 2)
    fault, = placement.judge(seats)
    assert fault.refused and fault.text == (
        "n02 has 6 ranks and 4 GPUs: ranks 2, 6 on GPU-0n02 at 0000:00:00.0; ranks 3, 7 on "
        "GPU-1n02 at 0000:01:00.0. They would take turns, and NCCL refuses it")
    assert "--ntasks-per-node=4" in fault.todo and "ppr:4:node" in fault.todo
    assert [record.verdict for record in judge_places(seats)] == [FAIL]


def test_gpus_by_number_only_are_compared_where_the_numbers_mean_the_same() -> None:
    """Without a driver's or nvidia-smi's names, those of another CUDA_VISIBLE_DEVICES may be
    others."""
    blind = [Seat("n01", 0, "GPU:0", "A100", setting=setting) for setting in ("0", "1", "0")]
    fault, = placement.judge(blind)
    assert "n01 has 3 ranks and 2 GPUs: ranks 0, 2 on GPU:0" in fault.text
    assert placement.judge(blind[:2]) == []


def test_ranks_that_see_too_few_of_enough_gpus_are_told_so() -> None:
    fault, = placement.judge(ranks(0, 0, seen=FOUR[:1]) + ranks(1, 2, seen=FOUR[1:3]))
    assert "4 ranks and 3 GPUs" in fault.text and "--ntasks-per-node=3" in fault.todo
    fault, = placement.judge(ranks(0, 0, seen=FOUR[:2]) + ranks(2, seen=FOUR[2:]))
    assert "3 ranks and 4 GPUs" in fault.text and "--gpu-bind=none" in fault.todo


def test_parts_of_one_gpu_are_refused_unless_nccl_is_told_to_accept_them() -> None:
    seats = [seat._replace(own=Gpu(f"MIG-{number}", "0000:07:00.0"))
             for number, seat in enumerate(ranks(0, 0))]
    fault, = placement.judge(seats)
    assert fault.refused and "ranks 0-1 on n01" in fault.text and "MIG" in fault.text
    assert placement.judge([seat._replace(sharing=True) for seat in seats]) == []
    whole, = placement.judge([seat._replace(sharing=True) for seat in ranks(0, 0)])
    assert not whole.refused
    assert placement.judge(elsewhere(seats[:1], "n01", 0) + elsewhere(seats[:1], "n02", 1)) == []


def test_cpus_and_gpus_are_not_mixed_and_different_gpus_are_a_warning() -> None:
    seats = ranks(0, 1) + elsewhere(ranks(None, 1), "n02", 2, name="V100")
    mixed, models = placement.judge(seats)
    assert mixed.refused and mixed.text == (
        "computing on CPUs: rank 2 on n02 (no driver); on GPUs: n01, rank 3 on n02; such ranks "
        "can't reduce together")
    assert not models.refused and "A100: n01; V100: rank 3 on n02" in models.text
    assert [record.verdict for record in judge_places(seats)] == [FAIL, WARN, OK]


class Ranks:
    """A communicator of which this is rank 0, and another rank has the same device."""

    rank, size = 0, 2

    def Split_type(self, *_: object) -> Ranks:
        return self

    def bcast(self, value: int) -> int:
        return value

    def Free(self) -> None: ...

    def Ibarrier(self) -> SimpleNamespace:
        return SimpleNamespace(Test=lambda: True)

    def allgather(self, value: object) -> list[object]:
        return [value, value]


def test_training_is_refused_before_it_begins(caplog: pytest.LogCaptureFixture) -> None:
    """On all ranks alike; ranks that exchange messages from the host's memory may share a GPU."""
    own = device.Device("GPU:0", "A100", 1, seen=FOUR[:1])
    with pytest.raises(InputError, match="2 ranks and 1 GPU: ranks 0-1 on GPU-0") as refusal:
        placement.check(Ranks(), own, "gpu")
    assert refusal.value.everywhere and refusal.value.code == 2
    with caplog.at_level("WARNING", "hpc_deepfake"):
        placement.check(Ranks(), own, "gpu", reducing=False)
    assert "take turns" in caplog.text
    placement.check(Ranks(), device.Device("CPU", "EPYC", 1), "auto")


# --- precision, and Horovod's thread -----------------------------------------------------------

@pytest.mark.parametrize(("precision", "arguments", "message"), [
    ("tf32", (), "float32 or bfloat16, or --device gpu"), ("tf32", ("V100", (7, 0)), "V100"),
    ("float64", ("A100", (8, 0)), "--device cpu")])
def test_devices_refuse_precisions_that_they_do_not_have(precision: str, arguments: tuple,
                                                         message: str) -> None:
    with pytest.raises(InputError, match=message):
        device.check_precision(precision, *arguments)


def test_other_precisions_are_accepted(monkeypatch: pytest.MonkeyPatch) -> None:
    for precision, arguments in (("float64", ()), ("bfloat16", ()), ("tf32", ("A100", (8, 0))),
                                 ("tf32", ("H100", None)), ("float32", ("V100", (7, 0)))):
        device.check_precision(precision, *arguments)
    monkeypatch.setenv("NVIDIA_TF32_OVERRIDE", "0")
    with pytest.raises(InputError, match="unset it"):
        device.check_precision("tf32", "A100", (8, 0))


@pytest.mark.parametrize(("nccl", "given", "words", "value"), [
    (False, None, "2 ms, for CPU ranks", "2"), (True, None, "1 ms, Horovod's own", None),
    (True, "7", "7 ms, by $HOROVOD_CYCLE_TIME", "7"), (False, "7", "7 ms", "7")])
def test_horovods_thread_wakes_up_as_the_device_asks(
        monkeypatch: pytest.MonkeyPatch, nccl: bool, given: str | None, words: str,
        value: str | None) -> None:
    monkeypatch.delenv(cycle.NAME, raising=False)
    monkeypatch.setattr(cycle.os, "environ", {} if given is None else {cycle.NAME: given})
    assert cycle.choose(nccl).startswith(words)
    assert cycle.os.environ.get(cycle.NAME) == value
