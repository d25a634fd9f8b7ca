"""``hpc-deepfake job check``: tries a site file without a cluster."""

from __future__ import annotations

from collections.abc import Sequence

from hpc_deepfake.core.errors import InputError


def main(argv: Sequence[str]) -> int:
    """The command. Returns the exit code."""
    raise InputError("job check is being written")
