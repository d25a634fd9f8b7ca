"""The list of pictures: path, label and group of every row, in a fixed order.

The parts are in ``preprocessing.listing``.
"""

from preprocessing.listing.catalogue import LABELS, Catalogue
from preprocessing.listing.groups import components
from preprocessing.listing.item import locate
from preprocessing.listing.joining import with_copies
from preprocessing.listing.scan import SAMPLE_MARK, Moments, scan, scan_manifest, scan_pair

__all__ = ["LABELS", "SAMPLE_MARK", "Catalogue", "Moments", "components", "locate", "scan",
           "scan_manifest", "scan_pair", "with_copies"]
