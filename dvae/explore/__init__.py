"""The latent explorer: change a code by hand and see what the decoder makes of it."""

from dvae.explore.checkpoints import Snapshot, load_snapshots
from dvae.explore.codes import Look, change, look, place_name, read_table, table_of
from dvae.explore.images import Gallery, load_gallery, read_image
from dvae.explore.view import Explorer, View

__all__ = [
    "Explorer",
    "Gallery",
    "Look",
    "Snapshot",
    "View",
    "change",
    "load_gallery",
    "load_snapshots",
    "look",
    "place_name",
    "read_image",
    "read_table",
    "table_of",
]
