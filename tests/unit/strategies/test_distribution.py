"""How weights get from one rank to all others: what rank 0 sends, and what servers copy."""

from __future__ import annotations

from collections import defaultdict, deque
from types import SimpleNamespace

import numpy as np
import pytest

from hpc_deepfake.strategies.mesh import weights
from hpc_deepfake.strategies.mesh.shape import Shape
from hpc_deepfake.strategies.mesh.shards import Parameter

TABLE = [Parameter("a/kernel", (6, 10), (6, 10), 1), Parameter("a/bias", (10,), (10,), 0),
         Parameter("b/kernel", (24, 5), (6, 4, 5), 1), Parameter("b/bias", (5,), (5,), None),
         Parameter("a/mean", (10,), (10,), 0, False)]
STAGES = {"a": 0, "b": 1}
SIZE = 8 * sum(one.size for one in TABLE)


class Done:
    def Test(self) -> bool:
        return True


class Network:
    """What ranks have sent, in a simulation that runs one rank after the other."""

    def __init__(self) -> None:
        self.messages: dict[tuple[int, int], deque[np.ndarray]] = defaultdict(deque)
        self.broadcasts: dict[int, list[np.ndarray]] = defaultdict(list)
        self.sent: dict[int, int] = defaultdict(int)  # bytes by rank
        self.largest = 0

    def count(self, rank: int, buffer: np.ndarray) -> np.ndarray:
        self.sent[rank] += buffer.nbytes
        self.largest = max(self.largest, buffer.nbytes)
        return buffer.copy()


class Comm:
    """A rank's communicator in a ``Network``; weights flow from lower to higher ranks only."""

    def __init__(self, network: Network, rank: int) -> None:
        self.network, self.rank = network, rank

    def Dup(self) -> Comm:
        return self

    def Split(self, color: int, key: int) -> Comm:
        group = Comm(self.network, self.rank)
        group.color, group.key = color, key
        group.heard = 0
        return group

    def Isend(self, buffer: np.ndarray, target: int, tag: int) -> Done:
        self.network.messages[target, tag].append(self.network.count(self.rank, buffer))
        return Done()

    def Irecv(self, buffer: np.ndarray, source: int, tag: int) -> Done:
        assert source == 0
        buffer[:] = self.network.messages[self.rank, tag].popleft()
        return Done()

    def Ibcast(self, buffer: np.ndarray, root: int) -> Done:
        if self.key == root:
            self.network.broadcasts[self.color].append(self.network.count(self.rank, buffer))
        else:
            buffer[:] = self.network.broadcasts[self.color][self.heard]
            self.heard += 1
        return Done()


def deal(shape: Shape, ranks: list[int], network: Network) -> dict[int, list[np.ndarray]]:
    """The parts that some ranks get of whole arrays with all different numbers."""
    whole = [np.arange(one.size, dtype=np.float64).reshape(one.shape) + 1000 * number
             for number, one in enumerate(TABLE)]
    return {rank: weights.Exchange(Comm(network, rank), shape, STAGES.__getitem__).deal(
        TABLE, whole if rank == 0 else None, np.dtype(np.float64)) for rank in ranks}


@pytest.mark.parametrize("shape", [Shape(3, 2, 2), Shape(4, 3, 2), Shape(1, 1, 2), Shape(2, 2, 2)])
def test_all_ranks_get_their_shards(shape, monkeypatch):
    """Bit for bit, also where an array takes many messages."""
    monkeypatch.setattr(weights, "_LARGEST", 48)
    network = Network()
    found = deal(shape, list(range(shape.ranks)), network)
    for rank, parts in found.items():
        place = shape.place(rank)
        expected = [one.take(np.arange(one.size, dtype=np.float64).reshape(one.shape)
                             + 1000 * number, place.tensor, shape.tensor)
                    for number, one in enumerate(TABLE) if STAGES[one.block] == place.stage]
        assert all(np.array_equal(part, value)
                   for part, value in zip(parts, expected, strict=True)), rank
    assert network.largest <= 48
    assert not any(network.messages.values())


@pytest.mark.parametrize("data", [1, 1000])
def test_what_rank_0_sends_does_not_grow_with_the_data_shares(data):
    """Each shard once, and its own once more to its data group; before, 1,000 times as much."""
    network, shape = Network(), Shape(data, 2, 2)
    own = sum(part.nbytes for part in deal(shape, [0], network)[0])
    copies = 8 * 5  # b/bias is on both tensor ranks
    assert network.sent[0] == SIZE + copies - own + own
    assert {target for target, _ in network.messages} == {1, 2, 3}


def test_a_server_sends_a_version_without_copying_it():
    """The same memory to all workers; an update leaves what is under way as it was."""
    tf = pytest.importorskip("tensorflow")
    from hpc_deepfake.network.settings import Settings
    from hpc_deepfake.strategies.asynchronous.server import Server
    from hpc_deepfake.strategies.asynchronous.wire import Wire
    from hpc_deepfake.strategies.layout import Layout

    class Recorder:
        rank, size = 0, 4

        def __init__(self) -> None:
            self.sent: list[np.ndarray] = []

        def Isend(self, values: np.ndarray, rank: int, tag: int) -> Recorder:
            self.sent.append(values)
            return self

        def Test(self) -> bool:  # never complete: all are under way
            return False

    comm = Recorder()
    wire = Wire([tf.Variable(tf.zeros((50, 4))), tf.Variable(tf.zeros(3))], 1, "none")
    network = SimpleNamespace(moving=[tf.Variable(tf.zeros(2)), tf.Variable(tf.ones(2))],
                              momenta=[0.99, 0.99])
    server = Server(comm, wire, Settings(), Layout(servers=1), network)
    for worker in (1, 2, 3):
        server._send(worker)
    kernels, rests = comm.sent[::2], comm.sent[1::2]
    assert len({kernel.ctypes.data for kernel in kernels}) == 1
    assert len({rest.ctypes.data for rest in rests}) == 1
    server._update([tf.ones(200), tf.ones(3)], tf.zeros(4), 0, 0)
    server._send(1)
    assert not kernels[0].any() and not rests[0].any(), "the version under way has changed"
    assert comm.sent[-2].all() and comm.sent[-1].all(), "the old version was sent again"
