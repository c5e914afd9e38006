"""What one visitor looks at, and each thing that can be done to it."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from dvae.explore.alternatives import Alternatives, alternatives
from dvae.explore.canvas import brushed, place_at
from dvae.explore.checkpoints import Snapshot
from dvae.explore.codes import (
    Edits,
    Encoded,
    Look,
    change,
    changed,
    check_category,
    check_position,
    encode,
    look,
    read_table,
    table_of,
    whole,
)
from dvae.explore.images import Gallery, image_size
from dvae.explore.interpolation import between
from dvae.explore.palette import Palette, make_palette
from dvae.explore.prior import Asked, redraw, samples
from dvae.explore.swatches import Swatches
from dvae.explore.uploads import LONGEST, fitting_size
from dvae.models import DiscreteVAE

__all__ = ["ALTERNATIVES", "STEPS", "Explorer", "View"]

ALTERNATIVES = 12
"""Categories of a place that are shown as pictures."""
STEPS = 9
"""Pictures from one image's code to another's."""


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
        before: The changes before each of the last ones.
        brush: Category that is painted with.
        palette: Whether the palette is open.
        kept: Code that an interpolation ends with; ``None`` for none yet.
        file: The file that was uploaded, if the image is one.
        own_size: Whether an upload keeps its size, as far as it can be.
        opacity: How much of the code covers the image, from 0 to 1.
    """

    image: Tensor
    title: str
    row: int
    number: int
    position: int = 0
    edits: Edits = field(default_factory=dict)
    before: tuple[Edits, ...] = ()
    brush: int = 0
    palette: bool = False
    kept: Tensor | None = None
    file: Path | None = None
    own_size: bool = True
    opacity: float = 0.5


class Explorer:
    """Turns one view into another; what cannot be done raises ValueError and changes nothing.

    Args:
        snapshots: Snapshots of one run, at least one.
        gallery: Images to choose from.
    """

    def __init__(self, snapshots: Sequence[Snapshot], gallery: Gallery) -> None:
        self.snapshots = snapshots
        self.gallery = gallery
        self._swatches = [Swatches(snapshot.model) for snapshot in snapshots]
        # By the tensor itself and not by its values: the image that is worked on stays the same.
        self._encode = lru_cache(maxsize=4)(encode)

    def start(self) -> View:
        """Show the first image at the last checkpoint; of a grid the middle is chosen."""
        image, title = self.gallery[0]
        view = View(image, title, row=0, number=len(self.snapshots) - 1)
        code = self._code(view)
        middle = tuple(n // 2 for n in code.shape[:2]) + (0,) * (code.dim() - 2)
        at = int(np.ravel_multi_index(middle, code.shape)) if self.grid else 0
        return self._picked(view, at)

    def model(self, view: View) -> DiscreteVAE:
        """Return the model of the checkpoint that is shown."""
        return self.snapshots[view.number].model

    @property
    def grid(self) -> bool:
        """Whether the code is a grid, so that images of other sizes have one too."""
        return self.snapshots[0].model.tiling is not None

    def encoded(self, view: View) -> Encoded:
        """Return the image with its code."""
        return self._encode(self.model(view), view.image)

    def look(self, view: View) -> Look:
        """Encode the image, change the code and decode both."""
        return look(self.model(view), self.encoded(view), view.edits)

    def changed(self, view: View) -> Tensor:
        """Return the code with its changes."""
        return changed(self.model(view), self.encoded(view).code, view.edits)

    def mosaic(self, view: View, code: Tensor) -> Tensor:
        """Put the swatch of each code of a grid at its place, pixels ``(C, H, W)``."""
        return self._swatches[view.number].mosaic(code)

    def alternatives(self, view: View) -> Alternatives:
        """Decode what else could stand at the chosen place."""
        model, encoded = self.model(view), self.encoded(view)
        return alternatives(model, encoded, self.changed(view), view.position, ALTERNATIVES)

    def palette(self, view: View) -> Palette:
        """Return the swatches of all codes, as they look at the chosen place of a grid."""
        code = self.encoded(view).code
        row, column, *level = np.unravel_index(view.position, code.shape)
        swatches, num_codes = self._swatches[view.number], self.model(view).num_codes
        return make_palette(swatches, code[row, column], int(level[0]) if level else 0, num_codes)

    # Images

    def pick_image(self, view: View, number: Any) -> View:
        """Show an image of the gallery, as it is: changes belong to an image."""
        row = whole("the image", number)
        image, title = self.gallery[row]
        return self._shown(view, image, title, row=row, file=None)

    def upload(self, view: View, path: str | Path) -> View:
        """Show an image file, as it is.

        Where the code is a grid it keeps its size up to `LONGEST`, but for what is no whole place;
        else it is brought to the model's.
        """
        path, model = Path(path), self.model(view)
        channels, height, width = model.image_shape
        size = image_size(path)
        if self.grid and view.own_size:
            assert model.tiling is not None
            try:
                target = fitting_size(size, model.tiling.stride, max(LONGEST, height, width))
            except ValueError as error:
                raise ValueError(f"{path.name}: {error}") from error
        else:
            target = height, width
        image = self.gallery.open(path, (channels, *target))
        title = f"uploaded {path.name}, {size[1]} x {size[0]} pixels"
        if target != size:
            title += f", scaled and cut to {target[1]} x {target[0]}"
        return self._shown(view, image, title, file=path)

    def set_own_size(self, view: View, own_size: bool) -> View:
        """Choose whether uploads keep their size; the one that is shown is read anew."""
        chosen = replace(view, own_size=own_size)
        return chosen if view.file is None else self.upload(chosen, view.file)

    def pick_checkpoint(self, view: View, number: int) -> View:
        """Show the same image at another checkpoint; the changes are made to its code there."""
        return replace(view, number=number)

    def set_opacity(self, view: View, opacity: float) -> View:
        """Choose how much of the code covers the image, from 0 to 1."""
        return replace(view, opacity=opacity)

    # Places and what stands there

    def pick_position(self, view: View, position: Any) -> View:
        """Choose a place of the code, counted from 0 row by row, and take up what stands there."""
        place = whole("the position", position)
        check_position(self._code(view).shape, place)
        return self._picked(view, place)

    def pick_cell(self, view: View, row: int, column: int) -> View:
        """Choose a place of the code by its cell in the table."""
        return self.pick_position(view, row * len(table_of(self._code(view))[0]) + column)

    def click(self, view: View, x: float, y: float, width: int | None = None) -> View:
        """Choose a place of a grid by a pixel of its picture, or paint there.

        Args:
            view: What is looked at.
            x: Pixels from the left, in the picture of `dvae.explore.canvas.draw_code`.
            y: Pixels from the top.
            width: Width of the brush in places; ``None`` to choose.
        """
        code = self._code(view)
        row, column = place_at(x, y, view.image, code)
        # Of several integers at a place the one that was chosen at the last.
        level = np.unravel_index(view.position, code.shape)[2:]
        place = int(np.ravel_multi_index((row, column, *level), code.shape))
        if width is None:
            return self._picked(view, place)
        edits, model = view.edits, self.model(view)
        for position in brushed(code.shape, place, width):
            edits = change(model, code, edits, position, view.brush)
        return replace(self._edited(view, edits), position=place)

    def set_category(self, view: View, category: Any) -> View:
        """Put a category at the chosen place, and take it up."""
        value = whole("the category", category)
        edits = change(self.model(view), self._code(view), view.edits, view.position, value)
        return replace(self._edited(view, edits), brush=value)

    def put_alternative(self, view: View, number: int) -> View:
        """Put one of `alternatives` at the chosen place, by its number among them."""
        found = self.alternatives(view)
        return self.set_category(view, found.categories[number])

    def edit_table(self, view: View, table: Sequence[Sequence[Any]]) -> View:
        """Take over the changes in an edited table."""
        return self._edited(view, read_table(self.model(view), self._code(view), table))

    def undo(self, view: View) -> View:
        """Take the last change back."""
        if not view.before:
            raise ValueError("there is no change to undo")
        *before, edits = view.before
        return replace(view, edits=edits, before=tuple(before))

    def take_back(self, view: View) -> View:
        """Take all changes back."""
        return self._edited(view, {})

    # The brush

    def open_palette(self, view: View) -> View:
        """Show the palette from now on."""
        return replace(view, palette=True)

    def set_brush(self, view: View, category: Any) -> View:
        """Take up a category to paint with."""
        value = whole("the brush", category)
        check_category(self.model(view), "the brush", value)
        return replace(view, brush=value)

    def pick_from_palette(self, view: View, x: float, y: float) -> View:
        """Take up the code under a pixel of the palette."""
        return self.set_brush(view, self.palette(view).at(x, y))

    # Other images

    def keep(self, view: View) -> View:
        """Keep the code with its changes as the end of an interpolation."""
        return replace(view, kept=self.changed(view))

    def between(self, view: View) -> Tensor:
        """Decode the steps from the code that is shown to the kept one, ``(STEPS, C, H, W)``."""
        return self.model(view).decode(self._steps(view))

    def pick_step(self, view: View, number: int) -> View:
        """Take over one of the steps of `between` as changes."""
        edits = read_table(self.model(view), self._code(view), table_of(self._steps(view)[number]))
        return self._edited(view, edits)

    def draw(self, view: View, *asked: Any) -> Tensor:
        """Draw images from the prior, by the values of an `Asked`."""
        return samples(self.model(view), Asked(*asked))

    def redraw(self, view: View, last: Any, *asked: Any) -> View:
        """Draw the region from the chosen place to another anew, given the rest of the code.

        What is drawn are changes, as those made by hand.
        """
        model, place = self.model(view), whole("the place", last)
        drawn = redraw(model, self.changed(view), view.position, place, Asked(*asked))
        return self._edited(view, read_table(model, self._code(view), table_of(drawn)))

    def _code(self, view: View) -> Tensor:
        return self.encoded(view).code

    def _steps(self, view: View) -> Tensor:
        if view.kept is None:
            raise ValueError("keep an image first: it is where the interpolation ends")
        return between(self.changed(view), view.kept, STEPS)

    def _shown(self, view: View, image: Tensor, title: str, **others: Any) -> View:
        shown = replace(view, image=image, title=title, edits={}, before=(), **others)
        size = self._code(shown).numel()
        return self._picked(shown, view.position if view.position < size else 0)

    def _picked(self, view: View, position: int) -> View:
        there = view.edits.get(position, int(self._code(view).view(-1)[position]))
        return replace(view, position=position, brush=there)

    def _edited(self, view: View, edits: Edits) -> View:
        if edits == view.edits:
            return view
        return replace(view, edits=edits, before=(*view.before, view.edits))
