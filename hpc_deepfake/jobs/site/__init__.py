"""Site files: reading ``env/sites/NAME.sh`` and applying it to job scripts."""

from hpc_deepfake.jobs.site.applying import chosen, for_site, kind_of, sited, users_keys
from hpc_deepfake.jobs.site.reading import Site, names, read, read_file
from hpc_deepfake.jobs.site.words import PREFIX, WORDS, Word

__all__ = ["PREFIX", "WORDS", "Site", "Word", "chosen", "for_site", "kind_of", "names", "read",
           "read_file", "sited", "users_keys"]
