"""Any folder of images, held in memory where it fits and read by workers where it does not."""

import logging
import os
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import psutil
import torch
from torch import Tensor

from dvae.data.base import ImageDataModule
from dvae.data.batch import Batch
from dvae.data.files import ImageFiles
from dvae.data.images import Images, Split
from dvae.data.reading import look_at, read_square, try_to_read

__all__ = ["ImageFolder"]

log = logging.getLogger("dvae")

_SUFFIXES = frozenset({".bmp", ".gif", ".jpeg", ".jpg", ".png", ".ppm", ".tif", ".tiff", ".webp"})
# Of a folder without splits of its own, one file in ten is for the test.
_TEST_EVERY = 10
# Of the memory that is free; the training needs some, and swapping would be slower than reading.
_SHARE_OF_MEMORY = 0.5
_NAMED = 5


class ImageFolder(ImageDataModule):
    """The images below a folder, in colour, resized and cropped to a square.

    Where the folder has `train` and `test` below it, these are the splits; otherwise every tenth
    file, in order of the names, is for the test. A class is a folder directly below a split; files
    in no such folder are class 0. The shorter side is resized to `image_size`, and the middle of
    the longer one kept; see `dvae.data.reading` for what becomes of other modes. All images become
    one tensor of bytes where that takes at most half of the free memory; otherwise worker processes
    read them again in each epoch. The log says which.

    Args:
        data_dir: The folder.
        image_size: Height and width that the images are brought to, at least 1.
        batch_size: Training images in a batch of one process, at least 1.
        val_size: Images that validation takes out of the training split, at least 0.
        flip: Whether half of the training images are mirrored left to right, drawn at every visit.
        skip_unreadable: Whether to leave out, by name in the log, files that cannot be read; they
            are an error otherwise.
        seed: Order of the training images. No part in what is evaluated.

    Raises:
        ValueError: If a value is out of range.
    """

    name = "image folder"

    def __init__(
        self,
        data_dir: str,
        image_size: int = 64,
        batch_size: int = 64,
        val_size: int = 500,
        flip: bool = True,
        skip_unreadable: bool = False,
        seed: int = 0,
    ) -> None:
        """Check the values; nothing is read before `setup`."""
        super().__init__(batch_size=batch_size, val_size=val_size, seed=seed, data_dir=data_dir)
        if image_size < 1:
            raise ValueError(f"image_size must be at least 1, got {image_size}.")
        self.image_size = image_size
        self.flip = flip
        self.skip_unreadable = skip_unreadable
        self.folder = Path(data_dir).expanduser()
        self._names: dict[Split, list[str]] = {}
        self.name = f"image folder {self.folder.name}"
        # As many pixels in a batch of evaluation as 500 images of 32 by 32 have, or one image.
        per_batch = 500 * 32 * 32 // image_size**2
        self.eval_batch_size = min(500, max(1, per_batch))  # type: ignore[misc]

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """Three channels, and the size asked for."""
        return 3, self.image_size, self.image_size

    @property
    def num_classes(self) -> int:
        """Number of folders directly below the training split, at least 1."""
        return max(1, len(self._classes()))

    @property
    def labelled(self) -> bool:  # type: ignore[override]
        """Whether there are folders directly below the training split."""
        return bool(self._classes())

    def file_names(self, split: Split) -> list[str] | None:
        """Name the files of a loaded split, relative to the folder."""
        return self._names[split]

    def load(self, split: Split) -> Images | ImageFiles:
        """Read the images of a split, in order of their names, or find them.

        Args:
            split: `train` or `test`.

        Returns:
            The images with their classes, or their files where they are too large for memory. Of
            those only the heads are looked at here, unless broken ones are to be skipped.

        Raises:
            FileNotFoundError: If there is no such folder, or no image in it.
            ValueError: If a file cannot be read.
        """
        root, paths = self._files(split)
        size, free = 3 * self.image_size**2 * len(paths), _free_memory()
        resident = size <= _SHARE_OF_MEMORY * free
        log.info(
            "Data: %d files of %s (%s) are %.2f GiB of pixels, with %.1f GiB of memory free: %s.",
            len(paths),
            root,
            split,
            size / 2**30,
            free / 2**30,
            "held in memory" if resident else "read by worker processes",
        )
        if not resident:
            paths = self._readable(paths)
            labels = self._describe(root, paths, split)
            return ImageFiles(paths, labels, partial(read_square, size=self.image_size))
        with ThreadPoolExecutor(min(16, os.cpu_count() or 1)) as pool:
            pixels = list(pool.map(self._read, paths))
        pairs = list(zip(paths, pixels, strict=True))
        self._complain([(path, x) for path, x in pairs if isinstance(x, str)])
        labels = self._describe(root, [p for p, x in pairs if isinstance(x, Tensor)], split)
        return Images(torch.stack([x for x in pixels if isinstance(x, Tensor)]), labels)

    def on_after_batch_transfer(self, batch: Batch, dataloader_idx: int) -> Batch:
        """Turn bytes into what a model sees; in training, mirror half of the images.

        Args:
            batch: Images uint8 in 0..255; floating-point images are left as they are.
            dataloader_idx: Which loader the batch comes from; unused.
        """
        image, label = super().on_after_batch_transfer(batch, dataloader_idx)
        if self.flip and self.trainer is not None and self.trainer.training:
            mirrored = torch.rand(len(image), 1, 1, 1, device=image.device) < 0.5
            image = torch.where(mirrored, image.flip(-1), image)
        return Batch(image, label)

    def _root(self, split: Split) -> Path:
        own = all((self.folder / name).is_dir() for name in ("train", "test"))
        return self.folder / split if own else self.folder

    def _classes(self) -> list[str]:
        root = self._root("train")
        return sorted(path.name for path in root.iterdir() if path.is_dir())

    def _files(self, split: Split) -> tuple[Path, list[Path]]:
        if not self.folder.is_dir():
            raise FileNotFoundError(f"there is no folder {self.folder}")
        root = self._root(split)
        paths = sorted(path for path in root.rglob("*") if path.suffix.lower() in _SUFFIXES)
        if root == self.folder:
            test = set(paths[_TEST_EVERY - 1 :: _TEST_EVERY])
            paths = [path for path in paths if (path in test) == (split == "test")]
        if not paths:
            raise FileNotFoundError(
                f"{root} has no images for the {split} split; looked for files that end in "
                f"{', '.join(sorted(_SUFFIXES))}"
            )
        return root, paths

    def _describe(self, root: Path, paths: list[Path], split: Split) -> Tensor:
        """Note the names of the files that can be read, and return their classes."""
        if not paths:
            raise ValueError(f"none of the images of {root} ({split}) can be read")
        self._names[split] = [path.relative_to(self.folder).as_posix() for path in paths]
        classes = {name: number for number, name in enumerate(self._classes())}
        return torch.tensor([classes.get(path.relative_to(root).parts[0], 0) for path in paths])

    def _readable(self, paths: list[Path]) -> list[Path]:
        with ThreadPoolExecutor(min(16, os.cpu_count() or 1)) as pool:
            # Who wants broken files skipped pays for one look into all of them.
            look = self._read if self.skip_unreadable else look_at
            found = list(zip(paths, pool.map(look, paths), strict=True))
        self._complain([(path, reason) for path, reason in found if isinstance(reason, str)])
        return [path for path, reason in found if not isinstance(reason, str)]

    def _read(self, path: Path) -> Tensor | str:
        return try_to_read(path, self.image_size)

    def _complain(self, unreadable: list[tuple[Path, str]]) -> None:
        if not unreadable:
            return
        if self.skip_unreadable:
            for path, reason in unreadable:
                log.warning("Data: %s cannot be read and is left out (%s).", path, reason)
            return
        names = ", ".join(f"{path} ({reason})" for path, reason in unreadable[:_NAMED])
        more = f" and {len(unreadable) - _NAMED} more" if len(unreadable) > _NAMED else ""
        raise ValueError(
            f"cannot read {names}{more}: replace or delete them, or set skip_unreadable to true."
        )


def _free_memory() -> int:
    return int(psutil.virtual_memory().available)
