"""Model parallelism: layers in stages (pipeline), and the weights of a layer in shards (tensor)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hpc_deepfake.core.errors import InputError

if TYPE_CHECKING:
    from hpc_deepfake.strategies.layout import Layout


def check(layout: Layout, ranks: int, network: str = "table") -> None:
    """Check that the mesh fits the ranks and, as far as can be known without building it, the
    network.

    Raises:
        InputError: it does not.
    """
    from hpc_deepfake.strategies.mesh.cut import cut
    from hpc_deepfake.strategies.mesh.shape import parse
    from hpc_deepfake.strategies.mesh.shards import MOST_SHARDS

    shape = parse(layout.mesh, ranks)
    if network != "table":
        if shape.tensor > 1:
            raise InputError(f"--mesh: tensor={shape.tensor} cuts weights, and only those of the "
                             f"network table can be cut, not of {network}: leave tensor out, and "
                             f"use for example --mesh pipeline={ranks}", everywhere=True)
        return
    cut(shape.pipeline, layout.stages)
    if shape.tensor > MOST_SHARDS:
        raise InputError(f"--mesh: tensor={shape.tensor} is more than the {MOST_SHARDS} channels "
                         "of the first convolution, of which each rank needs one; use at most "
                         f"--mesh tensor={MOST_SHARDS}", everywhere=True)
