"""What one visitor looks at, and each thing that can be done to it."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from torch import Tensor

from dvae.explore.checkpoints import Snapshot
from dvae.explore.codes import (
    Edits,
    Look,
    change,
    check_position,
    look,
    read_table,
    table_of,
    whole,
)
from dvae.explore.images import Gallery
from dvae.explore.prior import Asked, redraw, samples
from dvae.models import DiscreteVAE

__all__ = ["Explorer", "View"]


@dataclass(frozen=True)
class View:
    """What one visitor looks at.

    Attributes:
        image: Pixels in [0, 1], ``(C, H, W)``.
        title: What the image is called.
        row: Its number in the gallery, or that of the one before where it was uploaded.
        number: Which checkpoint.
        position: Which place of the code is chosen, counted from 0 row by row.
        edits: What was changed in the code.
    """

    image: Tensor
    title: str
    row: int
    number: int
    position: int = 0
    edits: Edits = field(default_factory=dict)


class Explorer:
    """Turns one view into another; what cannot be done raises ValueError and changes nothing.

    Args:
        snapshots: Snapshots of one run, at least one.
        gallery: Images to choose from.
    """

    def __init__(self, snapshots: Sequence[Snapshot], gallery: Gallery) -> None:
        self.snapshots = snapshots
        self.gallery = gallery

    def start(self) -> View:
        """Show the first image at the last checkpoint."""
        image, title = self.gallery[0]
        return View(image, title, row=0, number=len(self.snapshots) - 1)

    def model(self, view: View) -> DiscreteVAE:
        """Return the model of the checkpoint that is shown."""
        return self.snapshots[view.number].model

    def look(self, view: View) -> Look:
        """Encode the image, change the code and decode both."""
        return look(self.model(view), view.image, view.edits)

    def pick_image(self, view: View, number: Any) -> View:
        """Show an image of the gallery, as it is: changes belong to an image."""
        row = whole("the image", number)
        image, title = self.gallery[row]
        return replace(view, image=image, title=title, row=row, edits={})

    def upload(self, view: View, path: str | Path) -> View:
        """Show an image file, as it is."""
        image = self.gallery.open(Path(path))
        return replace(view, image=image, title=f"uploaded {Path(path).name}", edits={})

    def pick_checkpoint(self, view: View, number: int) -> View:
        """Show the same image at another checkpoint; the changes are made to its code there."""
        return replace(view, number=number)

    def pick_position(self, view: View, position: Any) -> View:
        """Choose a place of the code, counted from 0 row by row."""
        place = whole("the position", position)
        check_position(self.model(view), place)
        return replace(view, position=place)

    def pick_cell(self, view: View, row: int, column: int) -> View:
        """Choose a place of the code by its cell in the table."""
        return self.pick_position(view, row * len(table_of(self._code(view))[0]) + column)

    def set_category(self, view: View, category: Any) -> View:
        """Put a category at the chosen place."""
        value = whole("the category", category)
        code = self._code(view)
        edits = change(self.model(view), code, view.edits, view.position, value)
        return replace(view, edits=edits)

    def edit_table(self, view: View, table: Sequence[Sequence[Any]]) -> View:
        """Take over the changes in an edited table."""
        return replace(view, edits=read_table(self.model(view), self._code(view), table))

    def take_back(self, view: View) -> View:
        """Take all changes back."""
        return replace(view, edits={})

    def draw(self, view: View, *asked: Any) -> Tensor:
        """Draw images from the prior, by the values of an `Asked`."""
        return samples(self.model(view), Asked(*asked))

    def redraw(self, view: View, last: Any, *asked: Any) -> View:
        """Draw the region from the chosen place to another anew, given the rest of the code.

        What is drawn are changes, as those made by hand.
        """
        model, seen = self.model(view), self.look(view)
        place = whole("the place", last)
        drawn = redraw(model, seen.changed, view.position, place, Asked(*asked))
        return replace(view, edits=read_table(model, seen.code, table_of(drawn)))

    def _code(self, view: View) -> Tensor:
        return self.model(view).encode(view.image[None])[0]
