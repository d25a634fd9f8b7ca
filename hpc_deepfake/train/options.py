"""The command line of training."""

from __future__ import annotations

from pathlib import Path

from hpc_deepfake import strategies
from hpc_deepfake.core.options import Parser, at_least, between
from hpc_deepfake.network.settings import PRECISIONS, SCALINGS
from hpc_deepfake.strategies.mesh.schedule import SCHEDULES
from hpc_deepfake.strategies.mesh.shards import BLOCKS, LAYOUTS

_EXAMPLES = """examples:
  python -m hpc_deepfake.train --data casia2.h5
  mpirun -np 8 python -m hpc_deepfake.train --data casia2.h5 --run runs/first
  mpirun -np 8 python -m hpc_deepfake.train --data casia2.h5 --run runs/first --resume
  mpirun -np 4 python -m hpc_deepfake.train --data casia2.h5 --feature raw --device gpu
  mpirun -np 9 python -m hpc_deepfake.train --data casia2.h5 --strategy async --servers 1
  mpirun -np 8 python -m hpc_deepfake.train --data casia2.h5 --strategy local-sgd --sync-every 16
  mpirun -np 8 python -m hpc_deepfake.train --data casia2.h5 --strategy hybrid --shard-group 4
  mpirun -np 8 python -m hpc_deepfake.train --data /lustre/casia2.h5 --stage /tmp
  mpirun -np 4 python -m hpc_deepfake.train --data casia2.h5 --mesh tensor=2,pipeline=2 \
    --batch-size 16 --micro-batches 8
  mpirun -np 2 python -m hpc_deepfake.train --config run.toml --epochs 5

SIGTERM or SIGUSR1 to any rank: all stop after the same step, with a checkpoint.
exit codes: 0 done; 2 wrong usage or input; 75 stopped by a signal, go on with --resume;
anything else a fault"""


IN_RUN = Path()  # the value of --timeline without a file


def parser() -> Parser:
    """The command line."""
    cli = Parser(prog="python -m hpc_deepfake.train", epilog=_EXAMPLES, description=(
        "Train the network. Under mpirun the ranks train one model together (Horovod "
        "ring-allreduce); alone, one process does."))
    cli.add_argument("--data", type=Path, metavar="FILE",
                     help="data file (default: features.h5 in $HPC_DEEPFAKE_DATA or data)")
    cli.add_argument("--synthetic", type=at_least(0), default=0, metavar="N",
                     help="N random training pictures in memory, and 64 for validation, instead of "
                          "--data, which is not read: computing without input, for studies")
    cli.add_argument("--run", type=Path, metavar="DIR",
                     help="run directory (default: runs/JOB_ID under a scheduler, or runs/TIME)")
    cli.add_argument("--resume", action="store_true",
                     help="go on from the run directory's newest checkpoint, if there is one")

    course = cli.add_argument_group("what is learned")
    course.add_argument("--feature", default="ela", help="feature of the data file to train on")
    course.add_argument("--epochs", type=at_least(1), default=30, help="at most so many")
    course.add_argument("--patience", type=at_least(0), default=5,
                        help="stop after so many epochs without a better one; 0: never")
    course.add_argument("--monitor", choices=("val_loss", "val_auc", "val_accuracy"),
                        default="val_loss", help="what a better epoch is")
    course.add_argument("--batch-size", type=at_least(1), default=32,
                        help="rows per rank and micro-batch")
    course.add_argument("--accumulate", "--micro-batches", type=at_least(1), default=1,
                        metavar="M", help="micro-batches per optimizer step; with a pipeline, take "
                        "several for each stage")
    course.add_argument("--optimizer", choices=("adam", "sgd"), default="adam", help=" ")
    course.add_argument("--learning-rate", type=between(0, 10), default=1e-4, metavar="LR",
                        help="step t (from 0) uses LR / (1 + decay·t)")
    course.add_argument("--decay", type=between(0, 1), default=1e-6, help="of the learning rate")
    course.add_argument("--scale-rate", choices=SCALINGS, default="none",
                        help="learning rate times the number of ranks, or its square root")
    course.add_argument("--warmup-steps", type=at_least(0), default=0, metavar="N",
                        help="raise the learning rate linearly over the first N steps")
    course.add_argument("--dropout", type=between(0, 0.99), default=0.5,
                        help="before the last layer")
    course.add_argument("--sync-bn", action="store_true",
                        help="normalise over the micro-batch of all ranks, not each rank's own")
    course.add_argument("--seed", type=at_least(0), default=0,
                        help="of weights, order and dropout")
    course.add_argument("--rows", type=at_least(0), default=0, metavar="N",
                        help="train on N of the training rows, chosen by the seed; 0: on all")

    how = cli.add_argument_group("how it is computed")
    how.add_argument("--strategy", choices=("auto", *strategies.NAMES), default="auto",
                     help="auto: sequential on one rank, sync on several, mesh if --mesh is given; "
                          "async: with parameter servers; local-sgd: weights averaged now and "
                          "then; hybrid: the large dense layer dealt to the ranks")
    how.add_argument("--servers", type=at_least(1), default=1, metavar="S",
                     help="async: the first S ranks are parameter servers")
    how.add_argument("--max-staleness", type=at_least(0), metavar="N",
                     help="async: no gradient older than N updates is applied, fast workers wait "
                          "(default: any age)")
    how.add_argument("--staleness-rate", action="store_true",
                     help="async: divide the learning rate by a gradient's age in updates")
    how.add_argument("--sync-every", type=at_least(1), default=8, metavar="K",
                     help="local-sgd: average the ranks' weights after K steps of each")
    how.add_argument("--slow-rank", type=at_least(0), default=0, metavar="R",
                     help="for studies: the rank that --slow-factor slows down")
    how.add_argument("--slow-factor", type=between(1, 1000), default=1.0, metavar="F",
                     help="for studies: that rank takes F times as long to compute")
    how.add_argument("--mesh", metavar="data=D,tensor=T,pipeline=P",
                     help="model parallel: D·T·P ranks, the layers in P stages, their weights in T "
                          "shards, the batches in D shares; an axis left out is 1")
    how.add_argument("--stages", metavar="BLOCKS",
                     help="first block of each stage but the first, out of "
                          f"{', '.join(BLOCKS[1:])}; default: stages of about equal cost")
    how.add_argument("--schedule", choices=tuple(SCHEDULES), default="1f1b",
                     help="of the stages: gpipe holds all micro-batches' activations, 1f1b no more "
                          "than there are stages")
    how.add_argument("--tensor-layout", choices=LAYOUTS, default="row",
                     help="how the large dense kernel is cut with tensor=T")
    how.add_argument("--trace", type=Path, metavar="FILE",
                     help="write what each rank of a mesh did when, for ui.perfetto.dev")
    how.add_argument("--device", choices=("auto", "cpu", "gpu"), default="auto",
                     help="gpu fails before the first step where there is none")
    how.add_argument("--threads", type=at_least(0), default=0,
                     help="CPU threads per rank; 0: $OMP_NUM_THREADS, or the node's cores over its "
                          "ranks")
    how.add_argument("--precision", choices=PRECISIONS, default="float32",
                     help="bfloat16: of convolutions and the large product, weights and "
                          "reduction stay float32; float64: of everything, for comparisons")
    how.add_argument("--allreduce", choices=("ring", "auto"), default="auto",
                     help="force Open MPI's ring on CPU ranks, or leave MPI its choice; "
                          "NCCL chooses on GPUs")
    how.add_argument("--compression", choices=("none", "fp16", "bf16"), default="none",
                     help="fp16: halve the bytes of sync's large reduction; bf16: of the "
                          "activations that hybrid exchanges")
    how.add_argument("--shard-group", type=at_least(0), default=0, metavar="S",
                     help="hybrid: ranks that hold the large kernel together; 0: those of a node")
    how.add_argument("--stage", type=Path, metavar="DIR",
                     help="copy the data file to this folder, of each node's own disk, and read "
                          "it there")
    how.add_argument("--input", choices=("auto", "mmap", "read", "memory"), default="auto",
                     help="map the file, read rows, or hold all; auto: by its file system")

    keep = cli.add_argument_group("checkpoints and faults")
    keep.add_argument("--checkpoint-minutes", type=between(0, 1e6), default=10.0, metavar="M",
                      help="between checkpoints within an epoch (each ends with one); 0: none")
    keep.add_argument("--keep", type=at_least(1), default=2, help="checkpoints to keep")
    keep.add_argument("--stall-warning", type=between(0, 1e6), default=60.0, metavar="S",
                      help="name a rank that others wait for after S seconds; 0: never")
    keep.add_argument("--stall-limit", type=between(0, 1e6), default=600.0, metavar="S",
                      help="end the job when they waited S seconds; 0: never")
    keep.add_argument("--timeline", type=Path, nargs="?", const=IN_RUN, metavar="FILE",
                      help="record what each rank did when, and Horovod's timeline, as one trace "
                           "for https://ui.perfetto.dev; without FILE timeline.json in the run "
                           "directory")
    keep.add_argument("--no-report", action="store_true", help="don't write report.html")
    return cli
