"""Any folder of images, held in memory where it fits and read by workers where it does not."""

import logging
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

import psutil
import torch
from torch import Tensor, nn

from dvae.data.base import ImageDataModule
from dvae.data.batch import Batch
from dvae.data.folder_layout import FoundImages, find_images
from dvae.data.images import ImageFiles, Images, Part
from dvae.data.reading import ImageReader, Pixels, common_bits, look_at, look_at_all
from dvae.scalars import check_count

__all__ = ["ImageFolder"]

log = logging.getLogger("dvae")

# Of the memory that is free; the training needs some, and swapping would be slower than reading.
_SHARE_OF_MEMORY = 0.5
_NAMED = 5


class ImageFolder(ImageDataModule):
    """The images below a folder, in colour, resized and cropped to a square.

    Folders named `train`, `val` and `test`, or in another of the usual ways, are the splits; a
    class is a folder directly below a split. Where there are none, every tenth file, in order of
    the names, is for the test: see `dvae.data.folder_layout`. Links are followed, hidden files left
    out, and what is left out is counted in a line of the log. The shorter side is resized to
    `image_size`, and the middle of the longer one kept: see `dvae.data.reading`. All images become
    one tensor of bytes where that takes at most half of the free memory; otherwise worker processes
    read them again in each epoch. The log says which.

    Args:
        data_dir: The folder.
        image_size: Height and width that the images are brought to, at least 1.
        batch_size: Training images in a batch of one process, at least 1.
        val_size: Images that validation takes out of the training split, where the folder has no
            validation split of its own; by default one in ten, at most 500. 0 does not validate.
        seed: Order of the training images. No part in what is evaluated.
        pixels: Background of transparent images, bits of 16-bit files, and what becomes of files
            that cannot be read.
        augment: Transforms of each training image; see `ImageDataModule`. By default half of the
            images are mirrored left to right, drawn at every visit.

    Raises:
        ValueError: If a value is out of range.
    """

    name = "image folder"

    def __init__(
        self,
        data_dir: str,
        image_size: int = 64,
        batch_size: int = 64,
        val_size: int | None = None,
        seed: int = 0,
        pixels: Pixels | None = None,
        augment: Sequence[nn.Module] | None = None,
    ) -> None:
        """Check the values; nothing is read before `setup`."""
        super().__init__(batch_size, val_size, seed=seed, data_dir=data_dir, augment=augment or ())
        check_count("image_size", image_size, 1)
        self.image_size = image_size
        self.mirrors = augment is None
        self.pixels = Pixels() if pixels is None else pixels
        self.folder = Path(data_dir).expanduser()
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
        """Number of classes, at least 1."""
        return max(1, len(self._found.class_names))

    @property
    def labelled(self) -> bool:  # type: ignore[override]
        """Whether there are folders directly below a split."""
        return bool(self._found.class_names)

    @property
    def class_names(self) -> list[str] | None:  # type: ignore[override]
        """Names of the folders directly below the splits."""
        return self._found.class_names or None

    def load_own_validation(self) -> Images | ImageFiles | None:
        """Read the folder's validation split, if there is one."""
        return self.load("val") if "val" in self._found.own else None

    @cached_property
    def reader(self) -> ImageReader:
        """What reads the folder's files; where they have 16 bits, all are looked at for it once."""
        bits = None
        if self.pixels.bits is None:
            bits = common_bits(self._found.files)
        if bits not in (None, 16):
            log.info(
                "Data: the 16-bit files of %s use %d bits of them (data.pixels.bits sets others).",
                self.folder,
                bits,
            )
        return ImageReader(self.image_shape, self.pixels, bits)

    def load(self, split: Part) -> Images | ImageFiles:
        """Read the images of a split, in order of their names, or find them.

        Args:
            split: `train`, `test`, or `val` where the folder has it.

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
        # To hold images, or to skip broken files, all have to be read now; to refuse these, those
        # that show it in their heads are found now, and the others as training comes to them.
        look = self._why_not if self.pixels.skip_unreadable else look_at
        found = look_at_all(self.reader.attempt if resident else look, paths)
        pairs = list(zip(paths, found, strict=True))
        self._complain([(path, reason) for path, reason in pairs if isinstance(reason, str)])
        paths = [path for path, reason in pairs if not isinstance(reason, str)]
        if not paths:
            raise ValueError(f"none of the images of {root} ({split}) can be read")
        labels = torch.tensor(self._found.labels(split, paths))
        names = [path.relative_to(self.folder).as_posix() for path in paths]
        if resident:
            return Images(torch.stack([x for x in found if isinstance(x, Tensor)]), labels, names)
        return ImageFiles(paths, labels, self.reader, names)

    def on_after_batch_transfer(self, batch: Batch, dataloader_idx: int) -> Batch:
        """Turn bytes into what a model sees; in training, augmented.

        Args:
            batch: Images uint8 in 0..255; floating-point images are left as they are.
            dataloader_idx: Which loader the batch comes from; unused.
        """
        image, label = super().on_after_batch_transfer(batch, dataloader_idx)
        if self.mirrors and self.trainer is not None and self.trainer.training:
            mirrored = torch.rand(len(image), 1, 1, 1, device=image.device) < 0.5
            image = torch.where(mirrored, image.flip(-1), image)
        return Batch(image, label)

    @cached_property
    def _found(self) -> FoundImages:
        found = find_images(self.folder)
        if found.left_out:
            log.info("Data: left out of %s: %s.", self.folder, found.left_out)
        if found.own and "test" not in found.own and "val" in found.own:
            log.info("Data: %s has no test split; its validation images are tested.", self.folder)
        return found

    def _files(self, part: Part) -> tuple[Path, list[Path]]:
        found = self._found
        paths = found.paths.get(part, [])
        if not paths and found.paths["train"]:
            raise FileNotFoundError(
                f"{self.folder} has no images for the {part} split; it takes at least two, one to "
                "train on and one to test"
            )
        if not paths:
            left_out = f"; it has {found.left_out}" if found.left_out else ""
            raise FileNotFoundError(
                f"{self.folder} has no images for the {part} split that can be read{left_out}"
            )
        return found.roots[part], paths

    def _why_not(self, path: Path) -> str | None:
        found = self.reader.attempt(path)
        return found if isinstance(found, str) else None

    def _complain(self, unreadable: list[tuple[Path, str]]) -> None:
        if not unreadable:
            return
        named = unreadable[:_NAMED]
        more = f" and {len(unreadable) - _NAMED} more" if len(unreadable) > _NAMED else ""
        if self.pixels.skip_unreadable:
            names = ", ".join(f"{path} cannot be read ({reason})" for path, reason in named)
            log.warning("Data: left out %d files: %s%s.", len(unreadable), names, more)
            return
        names = ", ".join(f"{path} ({reason})" for path, reason in named)
        raise ValueError(
            f"cannot read {names}{more}: replace or delete them, or set pixels.skip_unreadable to "
            "true."
        )


def _free_memory() -> int:
    return int(psutil.virtual_memory().available)
