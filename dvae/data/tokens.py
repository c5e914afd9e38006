"""The codes of a data set as a data set: what a prior over codes is trained on."""

from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor
from torch.utils.data import Dataset

from dvae.data.token_files import find_shards, read_set, read_shard

__all__ = ["Token", "Tokens"]


# A NamedTuple, so that torch's DataLoader collates it.
class Token(NamedTuple):
    """The code of one image.

    Attributes:
        code: The integers in their grid, int64.
        label: Class of the image; -1 where the data set has none.
        index: Position of the image in the published split.
    """

    code: Tensor
    label: int
    index: int  # type: ignore[assignment]


class Tokens(Dataset[Token]):
    """The shards that ``train.py predict`` wrote, all of them in memory.

    Args:
        folder: Where they are.

    Attributes:
        about: Checkpoint, data set, split, K and shape.
        codes: All integers, ``(N, *about.shape)``, int32.
        labels: Classes, ``(N,)``, int64; -1 where the data set has none.
        index: Positions in the published split, ``(N,)``, int64.
        files: Names of the images' files, or ``None`` where the data set has none.

    Raises:
        MissingExtra: pyarrow is not installed.
        FileNotFoundError: There are no shards, or some are missing.
        ValueError: A shard is cut short or damaged, or belongs to another set.
    """

    def __init__(self, folder: str | Path) -> None:
        """Read all shards."""
        root = Path(folder)
        found = find_shards(root)
        if not found:
            raise FileNotFoundError(f"{root} has no tokens: `train.py predict` writes them")
        self.about = read_set(found[0])
        names = [self.about.name(shard) for shard in range(self.about.shards)]
        missing = [name for name in names if not (root / name).is_file()]
        if missing:
            more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
            raise FileNotFoundError(
                f"{root / missing[0]}{more} is missing: the same prediction, started again, "
                "writes what is missing"
            )
        # What does not belong there is refused, not overlooked.
        shards = [read_shard(path, self.about) for path in found]
        self.codes = torch.cat([shard.code for shard in shards])
        self.index = torch.cat([shard.index for shard in shards])
        labels = [shard.label for shard in shards]
        self.labels = torch.cat(
            [
                torch.full_like(shard.index, -1) if label is None else label
                for shard, label in zip(shards, labels, strict=True)
            ]
        )
        files = [shard.file for shard in shards]
        self.files = None if None in files else [name for names in files for name in names or ()]

    def __len__(self) -> int:
        """Count the images."""
        return len(self.codes)

    def __getitem__(self, position: int) -> Token:
        """Return the code of one image."""
        return Token(
            self.codes[position].long(), int(self.labels[position]), int(self.index[position])
        )
