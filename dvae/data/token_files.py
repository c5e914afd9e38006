"""The files in which the codes of a data set lie: Parquet shards that describe themselves."""

import json
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from dvae.extras import require
from dvae.runs.files import whole_file

__all__ = ["Shard", "TokenSet", "find_shards", "read_set", "read_shard", "write_shard"]

_KEY = b"dvae.tokens"
_COLUMNS = ("index", "code", "label", "file")


@dataclass(frozen=True)
class TokenSet:
    """What all shards of a folder have in common; it stands in the schema of each.

    Attributes:
        checkpoint: Name of the checkpoint's file.
        weights: SHA-256 of its weights.
        data: The data set and how its pixels are treated.
        images: SHA-256 of the images.
        split: ``train``, ``val`` or ``test``.
        precision: Lightning's name for the numbers that the encoder computed with.
        rows: Images in the split.
        rows_per_shard: Images in each shard but the last.
        num_codes: K.
        shape: Shape of the integers of one image.
    """

    checkpoint: str
    weights: str
    data: str
    images: str
    split: str
    precision: str
    rows: int
    rows_per_shard: int
    num_codes: int
    shape: tuple[int, ...]

    @property
    def shards(self) -> int:
        """Number of shards of the complete set."""
        return -(-self.rows // self.rows_per_shard)

    def name(self, shard: int) -> str:
        """Return the file name of a shard, counted from 0."""
        return f"part-{shard:05d}-of-{self.shards:05d}.parquet"

    def span(self, shard: int) -> range:
        """Return which rows of the split a shard has."""
        start = shard * self.rows_per_shard
        return range(start, min(start + self.rows_per_shard, self.rows))

    def difference(self, other: "TokenSet") -> str:
        """Say what differs first: ``split is 'val' there and 'test' here``."""
        for field in fields(self):
            there, here = getattr(other, field.name), getattr(self, field.name)
            if there != here:
                return f"{field.name} is {_short(there)} there and {_short(here)} here"
        return "nothing differs"


@dataclass(frozen=True)
class Shard:
    """The rows of one shard.

    Attributes:
        index: Positions in the published split, ``(N,)``, int64.
        code: The integers, ``(N, *shape)``, int32.
        label: Classes, ``(N,)``, int64; ``None`` where the data set has none.
        file: Names of the images' files; ``None`` where the data set has none.
    """

    index: Tensor
    code: Tensor
    label: Tensor | None
    file: list[str] | None


def write_shard(path: Path, about: TokenSet, shard: Shard) -> None:
    """Write a shard beside its place and rename it, so that what has the name is complete.

    Args:
        path: Where it goes.
        about: What stands in its schema.
        shard: The rows.

    Raises:
        MissingExtra: pyarrow is not installed.
        OSError: It cannot be written; nothing is left behind.
    """
    pa, pq = require("pyarrow", "tokens"), require("pyarrow.parquet", "tokens")
    count = len(shard.index)
    flat = pa.array(shard.code.reshape(-1).numpy(), pa.int32())
    width = shard.code[0].numel()
    columns = [
        pa.array(shard.index.numpy(), pa.int64()),
        pa.FixedSizeListArray.from_arrays(flat, width),
        pa.nulls(count, pa.int64()) if shard.label is None else pa.array(shard.label.numpy()),
        pa.nulls(count, pa.string()) if shard.file is None else pa.array(shard.file, pa.string()),
    ]
    table = pa.table(dict(zip(_COLUMNS, columns, strict=True)))
    table = table.replace_schema_metadata({_KEY: json.dumps(asdict(about))})
    with whole_file(path) as beside:
        pq.write_table(table, beside, compression="zstd", write_page_checksum=True)


def read_set(path: Path) -> TokenSet:
    """Read what a shard says about the set it belongs to.

    Args:
        path: The shard.

    Raises:
        MissingExtra: pyarrow is not installed.
        ValueError: It is cut short, or no shard of tokens.
    """
    pq = require("pyarrow.parquet", "tokens")
    try:
        schema, rows = pq.read_schema(path), pq.read_metadata(path).num_rows
    except _errors() as error:
        raise _damaged(path) from error
    try:
        content = json.loads((schema.metadata or {})[_KEY])
        about = TokenSet(**(content | {"shape": tuple(content["shape"])}))
        number = int(path.name.split("-")[1])
    except (KeyError, IndexError, TypeError, ValueError) as error:
        raise ValueError(f"{path} is no shard of tokens: `train.py predict` writes them") from error
    if path.name != about.name(number) or rows != len(about.span(number)):
        raise _damaged(path)
    return about


def read_shard(path: Path, about: TokenSet) -> Shard:
    """Read a shard, its checksums too.

    Args:
        path: The shard.
        about: The set it must belong to.

    Raises:
        MissingExtra: pyarrow is not installed.
        ValueError: It is cut short or damaged, or belongs to another set.
    """
    found = read_set(path)
    if found != about:
        raise ValueError(f"{path} is not of the others' set: {about.difference(found)}")
    pq = require("pyarrow.parquet", "tokens")
    try:
        table = pq.read_table(path, page_checksum_verification=True)
        index, code, label, file = (table[name].combine_chunks() for name in _COLUMNS)
        rows = torch.tensor(code.flatten().to_numpy()).view(-1, *about.shape)
        shard = Shard(
            index=torch.tensor(index.to_numpy()),
            code=rows,
            label=None if label.null_count else torch.tensor(label.to_numpy()),
            file=None if file.null_count else file.to_pylist(),
        )
    except _errors() as error:
        raise _damaged(path) from error
    if rows.numel() and not 0 <= int(rows.min()) <= int(rows.max()) < about.num_codes:
        raise _damaged(path)
    return shard


def find_shards(folder: Path) -> list[Path]:
    """List the shards of a folder by name; none where there is no folder."""
    return sorted(folder.glob("part-*.parquet"))


def _damaged(path: Path) -> ValueError:
    return ValueError(
        f"{path} is cut short or damaged: the same prediction, started again, writes it anew"
    )


def _errors() -> tuple[type[Exception], ...]:
    # Arrow's own, and what reading rows of another kind than expected ends in.
    arrow: type[Exception] = require("pyarrow", "tokens").ArrowException
    return arrow, OSError, KeyError, RuntimeError, AttributeError


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:12]}...{text[-4:]}"
