"""Any folder of images, read once into one tensor of bytes."""

import logging
import os
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor

from dvae.data.base import ImageDataModule, Images, Split
from dvae.data.batch import Batch

__all__ = ["ImageFolder"]

log = logging.getLogger("dvae")

_SUFFIXES = frozenset({".bmp", ".gif", ".jpeg", ".jpg", ".png", ".ppm", ".tif", ".tiff", ".webp"})
# Of a folder without splits of its own, one file in ten is for the test.
_TEST_EVERY = 10
# All pixels are held in memory; beyond this a machine would rather swap than train.
_LIMIT = 16 * 2**30
_NAMED = 5


class ImageFolder(ImageDataModule):
    """The images below a folder, in colour, resized and cropped to a square.

    Where the folder has `train` and `test` below it, these are the splits; otherwise every tenth
    file, in order of the names, is for the test. A class is a folder directly below a split; files
    in no such folder are class 0. The shorter side is resized to `image_size`, and the middle of
    the longer one kept. 16-bit grey is scaled to 8 bits, palettes and CMYK become RGB, transparency
    is dropped, and of an animation the first frame is read. All images become one tensor, whose
    size is logged.

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

    def load(self, split: Split) -> Images:
        """Read the images of a split, in order of their names.

        Args:
            split: `train` or `test`.

        Returns:
            The images with their classes.

        Raises:
            FileNotFoundError: If there is no such folder, or no image in it.
            ValueError: If a file cannot be read, or all of them together are too large for memory.
        """
        root, paths = self._files(split)
        size = 3 * self.image_size**2 * len(paths)
        if size > _LIMIT:
            raise ValueError(
                f"{len(paths)} images of {self.image_size}x{self.image_size} are "
                f"{size / 2**30:.0f} GiB, above the {_LIMIT / 2**30:.0f} GiB that are held in "
                "memory: choose a smaller image_size, or a part of the folder."
            )
        log.info("Data: %d files of %s (%s), %.2f GiB.", len(paths), root, split, size / 2**30)
        with ThreadPoolExecutor(min(16, os.cpu_count() or 1)) as pool:
            pixels = list(pool.map(self._read, paths))
        pairs = list(zip(paths, pixels, strict=True))
        self._complain([(path, x) for path, x in pairs if isinstance(x, str)])
        classes = {name: number for number, name in enumerate(self._classes())}
        labels = [
            classes.get(path.relative_to(root).parts[0], 0)
            for path, x in pairs
            if isinstance(x, Tensor)
        ]
        images = [x for x in pixels if isinstance(x, Tensor)]
        if not images:
            raise ValueError(f"none of the {len(paths)} images of {root} ({split}) can be read")
        return Images(torch.stack(images), torch.tensor(labels))

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

    def _read(self, path: Path) -> Tensor | str:
        try:
            with warnings.catch_warnings(), Image.open(path) as file:
                warnings.simplefilter("ignore")  # large, but not too large, is no matter
                square = (self.image_size, self.image_size)
                image = ImageOps.fit(_colour(file), square, Image.Resampling.BICUBIC)
        except UnidentifiedImageError:
            return "not an image"
        except Exception as error:  # decoders raise all sorts of things at damaged files
            return " ".join(str(error).split())[:100] or type(error).__name__
        return torch.from_numpy(np.array(image)).permute(2, 0, 1).contiguous()

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


def _colour(file: Image.Image) -> Image.Image:
    # The first frame of an animation is the one that is open.
    if file.mode.startswith("I"):
        # 16 bits of grey: Pillow itself would cut off all above 255.
        pixels = np.asarray(file, dtype=np.int64)
        if pixels.min() < 0 or pixels.max() > 65535:
            raise ValueError("pixels of more than 16 bits")
        return Image.fromarray(((pixels + 128) // 257).astype(np.uint8)).convert("RGB")
    if file.mode == "F":
        raise ValueError("floating-point pixels, whose range is not known")
    if file.mode == "P" and "transparency" in file.info:
        return file.convert("RGBA").convert("RGB")
    return file.convert("RGB")
