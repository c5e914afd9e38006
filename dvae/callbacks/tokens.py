"""Writing the codes of a data set while Lightning predicts them."""

import hashlib
import logging
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import BasePredictionWriter
from torch import Tensor

from dvae.data import ImageDataModule, Images, Part, Rows
from dvae.data.reading import ImageReader
from dvae.data.token_files import Shard, TokenSet, find_shards, read_set, write_shard
from dvae.estimators.base import check_count
from dvae.extras import require
from dvae.models import DiscreteVAE
from dvae.runs.layout import RunFolder

__all__ = ["TokenWriter"]

log = logging.getLogger("dvae")


class TokenWriter(BasePredictionWriter):
    """Write the codes of a split as Parquet shards, each complete or not there.

    A prediction that was stopped goes on where complete shards end, in batches cut as before, so
    that the files are those of an undisturbed one. Read them with `dvae.data.Tokens`.

    Args:
        folder: Where the shards go; by default ``tokens/<checkpoint>-<split>`` in the folder of the
            checkpoint's run.
        split: Which images: ``train``, ``val`` or ``test``, in the order of the data set.
        rows_per_shard: Images in each shard but the last, at least 1.

    Attributes:
        checkpoint: Where the weights are from, which the command line says; for people, and for
            the default folder.

    Raises:
        ValueError: ``rows_per_shard`` is below 1.
    """

    def __init__(
        self, folder: str | None = None, split: Part = "test", rows_per_shard: int = 10_000
    ) -> None:
        super().__init__("batch")
        check_count("tokens.rows_per_shard", rows_per_shard, 1)
        self.given = folder
        self.checkpoint: str | None = None
        self.split = split
        self.rows_per_shard = rows_per_shard
        self.written = 0
        self._open: dict[int, tuple[Tensor, int]] = {}

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Choose the split, and have the batches of complete shards left out.

        Once the weights are loaded, a folder of other tokens is a ValueError too.

        Raises:
            MissingExtra: pyarrow is not installed.
            ValueError: There are several processes, or model or data are not of this package.
        """
        super().setup(trainer, pl_module, stage)
        if stage != "predict":
            return
        require("pyarrow", "tokens")
        # Lightning asks a DataLoader's sampler for them; here the order is that of the data.
        warnings.filterwarnings("ignore", "Couldn't infer the batch indices")
        # Nothing is left to do where all shards are complete.
        warnings.filterwarnings(
            "ignore", "Total length of `(Resident|File)Loader` across ranks is zero"
        )
        data = getattr(trainer, "datamodule", None)
        if not isinstance(data, ImageDataModule) or not isinstance(pl_module, DiscreteVAE):
            raise ValueError("tokens are written of an ImageDataModule by a DiscreteVAE")
        if trainer.world_size > 1:
            raise ValueError(
                f"tokens are written by one process, in order; got {trainer.world_size}: set "
                "trainer.devices to 1"
            )
        data.predict_split = self.split
        # Not before the checkpoint's weights are in the model, which is after this hook.
        data.predict_batches = lambda: self._begin(trainer, pl_module, data)

    def _begin(
        self, trainer: pl.Trainer, model: DiscreteVAE, data: ImageDataModule
    ) -> Sequence[int]:
        """Compare the folder with what is to be written; return the batches that are missing."""
        self._rows, self._batch = data.rows(self.split), data.eval_batch_size
        self._labelled = data.labelled
        state = model.state_dict()
        self.folder = self._folder(trainer)
        self.about = TokenSet(
            checkpoint=Path(self.checkpoint).name if self.checkpoint else "",
            weights=_digest([state[name] for name in sorted(state)]),
            data=data.protocol,
            images=_digest([_content(self._rows)]),
            split=self.split,
            precision=str(trainer.precision),
            rows=len(self._rows.index),
            rows_per_shard=self.rows_per_shard,
            num_codes=model.num_codes,
            shape=model.index_shape,
        )
        self.complete = self._complete()
        self.written = 0
        self._open = {}
        self.folder.mkdir(parents=True, exist_ok=True)
        # A shard need not begin with a batch.
        self._numbers = sorted(
            {
                row // self._batch
                for shard in range(self.about.shards)
                if shard not in self.complete
                for row in self.about.span(shard)
            }
        )
        return self._numbers

    def write_on_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        prediction: Any,
        batch_indices: Sequence[int] | None,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int,
    ) -> None:
        """Put the codes of a batch into their shards, and write those that are full."""
        codes = prediction.to("cpu", torch.int32)
        start = self._numbers[batch_idx] * self._batch
        stop = start + len(codes)
        for shard in range(start // self.rows_per_shard, (stop - 1) // self.rows_per_shard + 1):
            if shard in self.complete:
                continue
            span = self.about.span(shard)
            low, high = max(start, span.start), min(stop, span.stop)
            rows, filled = self._open.get(shard) or (
                codes.new_empty(len(span), *codes.shape[1:]),
                0,
            )
            rows[low - span.start : high - span.start] = codes[low - start : high - start]
            self._open[shard] = rows, filled + high - low
            if filled + high - low == len(span):
                self._write(shard, span, rows)

    def summary(self) -> dict[str, str]:
        """Say what was written where, for people."""
        about, found = self.about, len(self.complete) + self.written
        lines = {
            "tokens": f"{self.folder}",
            "shards": f"{found} of {about.shards}, {len(self.complete)} of them from before",
            "codes": f"{about.rows} images ({about.split}), {'x'.join(map(str, about.shape))} "
            f"integers of {about.num_codes} each",
        }
        if found < about.shards:
            lines["incomplete"] = "the same command goes on"
        return lines

    def _write(self, shard: int, span: range, rows: Tensor) -> None:
        cut = slice(span.start, span.stop)
        labels, files = self._rows.images.labels, self._rows.files
        content = Shard(
            index=self._rows.index[cut],
            code=rows,
            label=labels[cut] if self._labelled else None,
            file=None if files is None else files[cut],
        )
        write_shard(self.folder / self.about.name(shard), self.about, content)
        del self._open[shard]
        self.written += 1

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

    def _folder(self, trainer: pl.Trainer) -> Path:
        if self.given is not None:
            return Path(self.given).expanduser()
        if not self.checkpoint:
            return Path(trainer.default_root_dir) / "tokens" / self.split
        path = Path(self.checkpoint)
        return RunFolder.of_checkpoint(path).tokens(path.stem, self.split)


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


def _digest(tensors: Sequence[Tensor]) -> str:
    digest = hashlib.sha256()
    for tensor in tensors:
        flat = tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8)
        digest.update(str(tuple(tensor.shape)).encode())
        digest.update(memoryview(flat.numpy()))  # type: ignore[arg-type]
    return digest.hexdigest()
