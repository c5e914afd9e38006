"""The codes of a data set, written by a trained model."""

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor

from dvae.data import Batch, ImageDataModule, Images, Part, Rows
from dvae.data.loading import Loader, make_loader
from dvae.data.reading import ImageReader
from dvae.data.token_files import Shard, TokenSet, find_shards, read_set, write_shard
from dvae.doing import doing
from dvae.extras import require
from dvae.models.base import DiscreteVAE
from dvae.models.weights import digest
from dvae.runs.layout import RunFolder
from dvae.scalars import check_count

__all__ = ["Written", "write_tokens"]

log = logging.getLogger("dvae")


@dataclass(frozen=True)
class Written:
    """What became of the shards of a data set.

    Attributes:
        folder: Folder of the shards.
        about: What they have in common.
        before: Shards that were complete before.
        written: Shards that were written now.
    """

    folder: Path
    about: TokenSet
    before: int
    written: int

    def summary(self) -> dict[str, str]:
        """Say what was written where, for people."""
        about, found = self.about, self.before + self.written
        lines = {
            "tokens": f"{self.folder}",
            "shards": f"{found} of {about.shards}, {self.before} of them from before",
            "codes": f"{about.rows} images ({about.split}), {'x'.join(map(str, about.shape))} "
            f"integers of {about.num_codes} each",
        }
        if found < about.shards:
            lines["incomplete"] = "the same command goes on"
        return lines


@doing("looking at the images to be encoded")
def write_tokens(
    model: DiscreteVAE,
    data: ImageDataModule,
    folder: str | Path | None = None,
    split: Part = "test",
    rows_per_shard: int = 10_000,
    checkpoint: str | Path = "",
    trainer: pl.Trainer | None = None,
) -> Written:
    """Write the codes of a split as Parquet shards, each complete or not there.

    What was stopped goes on where complete shards end, in batches cut as before, so that the files
    are those of an undisturbed call. Read them with `dvae.data.Tokens`.

    Args:
        model: Trained model.
        data: Data set.
        folder: Folder of the shards; ``tokens/<checkpoint>-<split>`` in the folder of the
            checkpoint's run by default.
        split: Part of the data set: ``train``, ``val`` or ``test``, in its published order.
        rows_per_shard: Images in each shard but the last, at least 1.
        checkpoint: File that the weights are from, for people and for the default folder.
        trainer: Trainer whose device and precision the model is run in, by one process; that of
            the machine by default.

    Raises:
        MissingExtra: pyarrow is not installed.
        OSError: A shard cannot be written.
        ValueError: The folder has other tokens, there is no such split, a value is out of range, or
            the trainer has several processes.
    """
    check_count("tokens.rows_per_shard", rows_per_shard, 1)
    require("pyarrow", "tokens")
    if trainer is None:
        trainer = pl.Trainer(devices=1, logger=False, enable_checkpointing=False)
    if trainer.world_size > 1:
        raise ValueError(
            f"tokens are written by one process, in order; got {trainer.world_size}: set "
            "trainer.devices to 1"
        )
    if not (folder or checkpoint):
        raise ValueError("write_tokens needs a folder, or the checkpoint in whose run to make one")
    model.check_image_shape(data.image_shape)
    path, rows, batch_size = Path(checkpoint), data.rows(split), data.eval_batch_size
    place = folder or RunFolder.of_checkpoint(path).tokens(path.stem, split)
    state = trainer.precision_plugin.convert_module(model).state_dict()
    about = TokenSet(
        checkpoint=path.name,
        weights=digest([state[name] for name in sorted(state)]),
        data=data.protocol,
        images=digest([_content(rows)]),
        split=split,
        precision=str(trainer.precision),
        rows=len(rows.index),
        rows_per_shard=rows_per_shard,
        num_codes=model.num_codes,
        shape=model.index_shape,
    )
    writer = _Writer(Path(place).expanduser(), about, rows, batch_size, data.labelled)
    before = about.shards - len(writer.missing)
    writer.folder.mkdir(parents=True, exist_ok=True)
    if writer.missing:
        loader = make_loader(rows.images, batch_size, shuffle=False, seed=0, trainer=trainer)
        batches = _Batches(data, loader.only(writer.batches), trainer.strategy.root_device)
        trainer.callbacks.append(writer)  # type: ignore[attr-defined]
        try:
            trainer.predict(model, batches, return_predictions=False)
        finally:
            trainer.callbacks.remove(writer)  # type: ignore[attr-defined]
    return Written(writer.folder, about, before, about.shards - before - len(writer.missing))


class _Batches:
    """Batches as the data set hands them to a model.

    Args:
        data: Data set.
        loader: Loader of its stored images.
        device: Device of the model.
    """

    def __init__(self, data: ImageDataModule, loader: Loader, device: torch.device) -> None:
        self._data, self._loader, self._device = data, loader, device

    def __len__(self) -> int:
        return len(self._loader)

    def __iter__(self) -> Iterator[Batch]:
        for batch in self._loader:
            there = self._data.transfer_batch_to_device(batch, self._device, 0)
            yield self._data.on_after_batch_transfer(there, 0)


@dataclass(eq=False)
class _Writer(pl.Callback):
    """Put the codes of a prediction into shards, and write those that are full.

    Attributes:
        folder: Folder of the shards.
        about: What they have in common.
        rows: Images of the split.
        batch_size: Images in a batch.
        labelled: Whether the labels mean anything.
        missing: Shards that are to be written.
        batches: Numbers of the batches that they need.
    """

    folder: Path
    about: TokenSet
    rows: Rows
    batch_size: int
    labelled: bool

    def __post_init__(self) -> None:
        self._open: dict[int, tuple[Tensor, int]] = {}
        self.missing = set(range(self.about.shards)) - self._complete()
        spans = [self.about.span(shard) for shard in self.missing]
        # A shard need not begin with a batch.
        self.batches = sorted({row // self.batch_size for span in spans for row in span})

    def on_predict_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        codes, per_shard = outputs.to("cpu", torch.int32), self.about.rows_per_shard
        start = self.batches[batch_idx] * self.batch_size
        stop = start + len(codes)
        for shard in range(start // per_shard, (stop - 1) // per_shard + 1):
            if shard not in self.missing:
                continue
            span = self.about.span(shard)
            low, high = max(start, span.start), min(stop, span.stop)
            fresh = codes.new_empty(len(span), *codes.shape[1:]), 0
            rows, filled = self._open.get(shard, fresh)
            rows[low - span.start : high - span.start] = codes[low - start : high - start]
            self._open[shard] = rows, filled + high - low
            if filled + high - low == len(span):
                self._write(shard, span, rows)

    def _write(self, shard: int, span: range, rows: Tensor) -> None:
        cut = slice(span.start, span.stop)
        labels, files = self.rows.images.labels, self.rows.files
        content = Shard(
            index=self.rows.index[cut],
            code=rows,
            label=labels[cut] if self.labelled else None,
            file=None if files is None else files[cut],
        )
        write_shard(self.folder / self.about.name(shard), self.about, content)
        del self._open[shard]
        self.missing.remove(shard)

    def _complete(self) -> set[int]:
        names = {self.about.name(shard): shard for shard in range(self.about.shards)}
        complete = set()
        for path in find_shards(self.folder):
            try:
                found = read_set(path)
            except ValueError as error:
                if path.name not in names:
                    raise
                log.warning("%s.", error)
                continue
            if found != self.about:
                raise ValueError(
                    f"{self.folder} has other tokens: {self.about.difference(found)}; choose "
                    "another --tokens.folder"
                )
            complete.add(names[path.name])
        return complete


def _content(rows: Rows) -> Tensor:
    """Return what tells sets of images apart: their pixels, or names and sizes of their files."""
    if isinstance(rows.images, Images):
        return rows.images.images
    sizes = [path.stat().st_size for path in rows.images.paths]
    lines = [f"{n} {size}" for n, size in zip(rows.files or [], sizes, strict=True)]
    if isinstance(rows.images.read, ImageReader):
        lines.append(repr(rows.images.read))  # the same files, read otherwise, are other images
    text = "\n".join(lines)
    return torch.tensor(list(text.encode()), dtype=torch.uint8)
