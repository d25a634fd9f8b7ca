"""Site files: reading ``env/sites/NAME.sh`` and applying it to job scripts."""

from hpc_deepfake.jobs.site.applying import (
    chosen,
    for_site,
    kind_of,
    placeholders,
    sited,
    users_keys,
)
from hpc_deepfake.jobs.site.reading import CLONE, Site, names, read, read_file, set_by_activation
from hpc_deepfake.jobs.site.words import KINDS, PREFIX, WORDS, Word

__all__ = ["CLONE", "KINDS", "PREFIX", "WORDS", "Site", "Word", "chosen", "for_site", "kind_of",
           "names", "placeholders", "read", "read_file", "set_by_activation", "sited", "users_keys"]
