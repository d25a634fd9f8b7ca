"""Which operations of a training step would wait for a GPU, or keep it waiting; needs no GPU.

    pip install --no-deps --target DIR tensorflow==2.21.0     # the package with kernels for GPUs
    python benchmarks/gpu_operations.py --tensorflow DIR [--write]

TensorFlow's GPU package registers its kernels on any machine. They tell for each operation and type
whether there is one for GPUs, and which arguments and results it has in the host's memory. Here
every strategy traces its graphs on four ranks, with the table network, one with the general
training pass and one that says where; nested functions and gradients are walked through as well.
It is an error (exit code 1) if an operation

- has no GPU kernel: then it runs on the host, and all it needs is waited for;
- takes an argument in the host's memory that the GPU computes: that is waited for;
- takes an argument in the GPU's memory that the host computes: TensorFlow's copies to a GPU wait
  for all work that it was given before.

Constants and shapes are known on the host and cost nothing. The only copies allowed are in ALLOWED.
With --write the kernels of the operations that are used go to gpu_kernels.json, by which
tests/unit/strategies/test_gpu_operations.py does the same in TensorFlow's CPU package.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import re
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple
from unittest import mock

ROOT = Path(__file__).resolve().parent.parent
KERNELS = Path(__file__).with_name("gpu_kernels.json")
RANKS, SIZE = 4, 64
NETWORKS = ("table", "meso4", "unet")
HOST, DEVICE, CONSTANT = "host", "device", "constant"

# Horovod's, from horovod/tensorflow/mpi_ops.cc (0.28.1): all have kernels for GPUs when built with
# HOROVOD_GPU_OPERATIONS=NCCL; splits are shapes
HOROVOD = {"HorovodAllreduce": [], "HorovodAllgather": [],
           "HorovodAlltoall": ["splits", "received_splits"]}
# names of operations, and networks where they are allowed
ALLOWED = [
    # the sums of the step before, which the host reads while the GPU computes this step
    (r".*\bto_host(_\d+)?", ""),
    # seeds of a step, at most 24 bytes each: copied first of all, while the step before is computed
    (r".*\bstateless_random_uniform/(Cast|StatelessRandomUniformV2)(_\d+)?", ""),
    # shapes in the gradients of sums and maxima over pixels
    (r"(.*/)?gradient_tape/.*", "unet"),
]
_CALLS = {"PartitionedCall": "f", "StatefulPartitionedCall": "f"}
_HANDLES = {"resource", "variant"}


class Finding(NamedTuple):
    """An operation that makes host and GPU wait for each other.

    Attributes:
        operation: type and types of its arguments.
        problem: what it does.
        name: in its graph.
    """

    operation: str
    problem: str
    name: str


def key(operation: Any) -> str:
    """Type of an operation of a graph, and its types by attribute, as in ``KERNELS``."""
    types = [f"{attr.name}={operation.get_attr(attr.name).name}" for attr in operation.op_def.attr
             if attr.type == "type"]
    return " ".join([operation.type, *types])


class Walk:
    """Follows what is where through a graph and the functions that it calls.

    Attributes:
        used: how often each operation occurs, by ``key``.
        findings: what is wrong.
        hosts: operations with arguments that the host knows, as ``key: arguments``.
        unknown: operations that the kernels don't tell about.
    """

    def __init__(self, kernels: dict[str, list[str] | None], network: str = "") -> None:
        """
        Args:
            kernels: by ``key`` the arguments and results in the host's memory; None: there is no
                kernel for GPUs.
            network: whose step it is, for ``ALLOWED``.
        """
        self._kernels, self._network = kernels, network
        self.used: Counter[str] = Counter()
        self.findings: list[Finding] = []
        self.hosts: set[str] = set()
        self.unknown: set[str] = set()

    def graph(self, graph: Any, given: Sequence[str] = ()) -> list[str]:
        """Where the outputs of a ``FuncGraph`` are.

        Args:
            graph: to walk through.
            given: where its inputs are; empty: int32 on the host, the others on the GPU, which is
                where TensorFlow puts arguments of a function.
        """
        place: dict[Any, str] = {}
        for number, value in enumerate(graph.inputs):
            place[value.ref()] = given[number] if given else \
                HOST if value.dtype.name in ("int32", "string") else DEVICE
        for operation in graph.get_operations():
            if operation.type != "Placeholder":
                self._operation(graph, operation, place)
        return [place.get(value.ref(), DEVICE) for value in graph.outputs]

    def _operation(self, graph: Any, operation: Any, place: dict[Any, str]) -> None:
        inputs = [place.get(value.ref(), DEVICE) for value in operation.inputs]
        if operation.type in _CALLS:
            body = graph._get_function(operation.get_attr("f").name)
            outputs = self.graph(_graph_of(body), inputs)
        elif operation.type == "Const" or (
                operation.type == "Shape" and operation.inputs[0].shape.is_fully_defined()):
            outputs = [CONSTANT]
        elif inputs and set(inputs) == {CONSTANT} and not operation.op_def.is_stateful:
            outputs = [CONSTANT] * len(operation.outputs)  # computed once, by Grappler
        else:
            outputs = self._kernel(operation, inputs)
        place.update(zip((value.ref() for value in operation.outputs), outputs, strict=True))

    def _kernel(self, operation: Any, inputs: list[str]) -> list[str]:
        """Check the arguments of an operation; where its results are."""
        name = key(operation)
        self.used[name] += 1
        on_cpu = "CPU" in operation.device
        known = HOROVOD.get(operation.type, self._kernels.get(name, False))
        if known is False and not on_cpu:
            self.unknown.add(name)
            known = []
        if known is None and not on_cpu and operation.type != "NoOp":
            self.findings.append(Finding(name, "has no GPU kernel", operation.name))
            on_cpu = True
        host = set(known or ())
        for argument, value, where in zip(_names(operation, "input_arg"), operation.inputs, inputs,
                                          strict=True):
            if where == CONSTANT or value.dtype.name in _HANDLES:
                continue
            wanted = HOST if on_cpu or argument in host else DEVICE
            if where == wanted == HOST and not on_cpu:
                self.hosts.add(f"{name}: {argument}")
            if where != wanted and not any(
                    re.fullmatch(pattern, operation.name) and network in ("", self._network)
                    for pattern, network in ALLOWED):
                self.findings.append(Finding(name, (
                    f"waits for the GPU: {argument}" if wanted == HOST
                    else f"copies from the host: {argument}"), operation.name))
        return [HOST if on_cpu or result in host else DEVICE
                for result in _names(operation, "output_arg")]


def _graph_of(function: Any) -> Any:
    """The ``FuncGraph`` of a function that a graph knows."""
    return getattr(function, "graph", None) or function._func_graph


def _names(operation: Any, which: str) -> Iterator[str]:
    """The name of each argument (``input_arg``) or result (``output_arg``) of an operation."""
    for argument in getattr(operation.op_def, which):
        count = 1
        if argument.number_attr:
            count = operation.get_attr(argument.number_attr)
        elif argument.type_list_attr:
            count = len(operation.get_attr(argument.type_list_attr))
        yield from [argument.name] * count


def functions(*holders: object) -> Iterator[tuple[str, Any]]:
    """Names and graphs of all ``tf.function`` of some objects that were traced, gradients that are
    computed outside of them included."""
    for holder in holders:
        names = {*dir(type(holder)), *vars(holder)}
        for name in sorted(names):
            function = getattr(holder, name, None)
            if not getattr(function, "experimental_get_tracing_count", int)():
                continue
            for traced in function._list_all_concrete_functions():
                yield f"{type(holder).__name__}.{name}", traced.graph
                for tape in getattr(traced, "_tape_functions_cache", {}).values():
                    backward = getattr(tape, "_backward", None)
                    if backward is not None:
                        yield f"{type(holder).__name__}.{name}, backward", backward.graph


@contextlib.contextmanager
def on_gpu() -> Iterator[None]:
    """Within it graphs are traced as for a GPU: without clocks and operations for CPUs."""
    from hpc_deepfake.network import blocks
    from hpc_deepfake.strategies import meter

    with mock.patch.object(meter, "on_cpu", lambda _: False), \
            mock.patch.object(blocks, "usable", lambda _: False):
        yield


def registered(package: Path | None, names: list[str]) -> dict[str, list[str] | None]:
    """The kernels for GPUs of operations with types, by ``key``, as ``Walk`` takes them."""
    environment = dict(os.environ, TF_CPP_MIN_LOG_LEVEL="3", CUDA_VISIBLE_DEVICES="-1")
    if package is not None:
        environment["PYTHONPATH"] = str(package.resolve())
    done = subprocess.run([sys.executable, "-c", _REGISTRY], input=json.dumps(names), text=True,
                          stdout=subprocess.PIPE, env=environment)
    if done.returncode:
        sys.exit(f"error: no kernels for GPUs in {package or 'the installed TensorFlow'}: name a "
                 "folder with the GPU package by --tensorflow DIR (see --help)")
    found: dict[str, list[str] | None] = json.loads(done.stdout.splitlines()[-1])
    return found


_REGISTRY = """
import json, sys
import tensorflow as tf
from tensorflow.python.framework.kernels import get_registered_kernels_for_op
if not tf.test.is_built_with_cuda():
    sys.exit(1)
found = {}
for key in json.load(sys.stdin):
    name, *types = key.split()
    types = {attr: tf.dtypes.as_dtype(kind).as_datatype_enum
             for attr, kind in (one.split("=") for one in types)}
    fits = [kernel for kernel in get_registered_kernels_for_op(name).kernel
            if kernel.device_type in ("GPU", "DEFAULT") and not kernel.label and all(
                types.get(each.name) in each.allowed_values.list.type
                for each in kernel.constraint if each.name in types)]
    # a kernel for all devices is taken where there is none for GPUs
    fits.sort(key=lambda kernel: (kernel.device_type == "GPU", kernel.priority))
    found[key] = sorted(fits[-1].host_memory_arg) if fits else None
print(json.dumps(found))
"""


def trace(comm: Any) -> dict[str, list[tuple[str, Any]]]:
    """The graphs of all strategies on these ranks, by strategy and network."""
    import numpy as np
    import tensorflow as tf
    from mpi4py import MPI

    from hpc_deepfake import strategies
    from hpc_deepfake.network import registry, table
    from hpc_deepfake.network.settings import Settings
    from hpc_deepfake.strategies import collectives
    from hpc_deepfake.strategies.base import Batch
    from hpc_deepfake.strategies.layout import Layout, groups, peers
    from hpc_deepfake.strategies.mesh.shape import parse

    meshes = ("pipeline=2,tensor=2", "data=2,tensor=2")
    sets = [*groups(RANKS, 2), *peers(RANKS, 2)]
    for shape in meshes:
        sets += parse(shape, RANKS).groups()
    collectives.start(comm, False, 0, 0, sets)
    cases: list[tuple[str, Layout, dict[str, Any], Sequence[str]]] = [
        ("sequential", Layout(), {"clip_norm": 1.0, "ema": 0.9, "rate_schedule": "cosine"},
         NETWORKS),
        ("sync", Layout(), {"accumulate": 2, "sync_bn": True}, NETWORKS[:2]),
        ("sync", Layout(), {"compression": "fp16", "precision": "bfloat16"}, NETWORKS[:1]),
        ("local-sgd", Layout(sync_every=1), {"optimizer": "lamb"}, NETWORKS[:1]),
        ("hybrid", Layout(shard_group=2), {"compression": "bf16"}, NETWORKS[:1]),
        ("async", Layout(), {}, NETWORKS[:1]),
        *(("mesh", Layout(mesh=shape), {}, NETWORKS[:1]) for shape in meshes)]
    found: dict[str, list[tuple[str, Any]]] = {}
    rng = np.random.default_rng(0)
    for name, layout, more, networks in cases:
        for network in networks:
            if name == "sequential" and comm.rank:
                continue
            settings = Settings(network=network, **more)
            build = table.build("float32", SIZE) if network == "table" \
                else registry.build(network, SIZE)
            with on_gpu():
                strategy: Any = strategies.get(name)(
                    build, settings, MPI.COMM_SELF if name == "sequential" else comm, layout)
                strategy.load(None)
                masks = np.zeros((2, SIZE, SIZE), np.uint8) if strategy.locates else None
                batch = Batch(rng.integers(0, 256, (2, SIZE, SIZE, 3), np.uint8),
                              np.array([0, 1], np.uint8), np.zeros(2, np.int32), masks)
                holders = [strategy, getattr(strategy, "stage", strategy)]
                if name == "async":  # its messages are no part of the graphs
                    strategy._gradient.get_concrete_function()
                    if strategy._server is not None:
                        holders = [strategy, strategy._server]
                        server = strategy._server
                        server._apply.get_concrete_function(
                            [tf.TensorSpec(v.shape, v.dtype) for v in server.weights],
                            tf.TensorSpec((sum(v.shape[0] for v in strategy.weights.moving),),
                                          tf.float32),
                            tf.TensorSpec((), tf.int64), tf.TensorSpec((), tf.float64))
                else:
                    strategy.step([batch] * settings.accumulate, 8, 0, 0)
                    strategy.judged(batch.pictures, strategy.locates)()
            title = f"{name} {layout.mesh or ''}".strip() + f", {network}"
            found.setdefault(title, []).extend(
                {id(graph): (where, graph) for where, graph in functions(*holders)}.values())
    return found


def _on_ranks(out: Path, package: Path | None) -> None:
    """Rank 0 writes the kernels of the operations that are used, and what all ranks found."""
    from mpi4py import MPI

    from hpc_deepfake.network import device

    comm = MPI.COMM_WORLD
    device.start("cpu", threads=1)
    graphs = trace(comm)

    def walked(kernels: dict[str, list[str] | None]) -> dict[str, dict[str, Any]]:
        walks = {}
        for title, traced in graphs.items():
            walk = Walk(kernels, title.rsplit(", ", 1)[1])
            for _, graph in traced:
                walk.graph(graph)
            walks[title] = {"used": walk.used, "findings": sorted(set(walk.findings)),
                            "hosts": sorted(walk.hosts), "unknown": sorted(walk.unknown)}
        return walks

    used = comm.gather({name for walk in walked({}).values() for name in walk["used"]})
    kernels = comm.bcast(None if used is None else registered(package, sorted(
        name for name in set().union(*used) if not name.startswith("Horovod"))))
    found = comm.gather(walked(kernels))
    if found is not None:
        out.write_text(json.dumps({"kernels": kernels, "found": found}))
    comm.Barrier()


def main() -> int:
    cli = argparse.ArgumentParser(description=__doc__,
                                  formatter_class=argparse.RawDescriptionHelpFormatter)
    cli.add_argument("--tensorflow", type=Path, metavar="DIR",
                     help="folder with TensorFlow's GPU package (default: the installed one)")
    cli.add_argument("--write", action="store_true", help=f"write {KERNELS.name}")
    cli.add_argument("--rank", type=Path, help=argparse.SUPPRESS)
    options = cli.parse_args()
    if options.rank:
        _on_ranks(options.rank, options.tensorflow)
        return 0
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "found.json"
        done = subprocess.run(
            ["mpirun", "--bind-to", "none", "--oversubscribe", "-np", str(RANKS), sys.executable,
             __file__, "--rank", out, *(("--tensorflow", options.tensorflow.resolve())
                                        if options.tensorflow else ())],
            cwd=ROOT, capture_output=True, text=True)
        if done.returncode:
            sys.exit(f"error: the ranks failed:\n{done.stderr[-3000:]}")
        kernels, found = json.loads(out.read_text()).values()
    if options.write:
        KERNELS.write_text(json.dumps({
            "about": f"python benchmarks/{Path(__file__).name} --tensorflow DIR --write",
            "kernels": kernels}, indent=0) + "\n")
    wrong = 0
    for title in found[0]:
        walks = [rank[title] for rank in found if title in rank]
        findings = sorted({tuple(each) for walk in walks for each in walk["findings"]})
        count = max(sum(walk["used"].values()) for walk in walks)
        print(f"{title}: {count:,} operations, {len(findings)} that wait")
        for operation, problem, name in findings:
            print(f"  {problem:32} {operation}  ({name})")
        wrong += len(findings)
    hosts = sorted({each for rank in found for walk in rank.values() for each in walk["hosts"]})
    print(f"\narguments that the host knows, since it computes shapes ({len(hosts)}):")
    for each in hosts:
        print(f"  {each}")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
