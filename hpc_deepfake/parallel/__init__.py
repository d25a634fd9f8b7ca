"""Model parallelism: layers cut into stages (pipeline), and tensors cut into shards (tensor)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from preprocessing.errors import InputError

if TYPE_CHECKING:
    from hpc_deepfake.settings import Layout


def check(layout: Layout | None, ranks: int) -> None:
    """That the mesh fits the ranks and the network.

    Raises:
        InputError: it doesn't.
    """
    from hpc_deepfake.parallel.cut import cut
    from hpc_deepfake.parallel.shape import parse
    from hpc_deepfake.parallel.shards import MOST_SHARDS

    shape = parse(layout and layout.mesh, ranks)
    cut(shape.pipeline, layout.stages)
    if shape.tensor > MOST_SHARDS:
        raise InputError(f"--mesh: tensor={shape.tensor} is more than the {MOST_SHARDS} channels "
                         "of the first convolution, one for each rank; take at most --mesh "
                         f"tensor={MOST_SHARDS}", everywhere=True)
