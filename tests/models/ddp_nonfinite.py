"""A loss that breaks in one process, by as many as were started; see test_nonfinite.py."""

import math
import os
import sys
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch

from dvae.bottlenecks import VQ, Upkeep
from dvae.callbacks import NonFinite, NonFiniteError
from dvae.models import CodebookVAE
from dvae.networks import ResNet
from tests.toy import toy_data, toy_trainer

STEPS, BREAKS = 4, 2


class Biased(CodebookVAE):
    """Adds a constant to the log-likelihood: with NaN the loss breaks, and no gradient does."""

    bias = 0.0

    def log_px(self, code: torch.Tensor, image: torch.Tensor) -> torch.Tensor:
        """Add the constant."""
        return super().log_px(code, image) + self.bias


class BreakLast(pl.Callback):
    """Break the loss of the last process in one step, and perhaps a buffer of its model."""

    def __init__(self, for_good: bool) -> None:
        self.for_good = for_good

    def on_train_batch_start(self, trainer: Any, model: Any, batch: Any, batch_idx: int) -> None:
        """Break the loss, or have it whole again."""
        due = trainer.global_step == BREAKS and trainer.global_rank == trainer.world_size - 1
        model.bias = math.nan if due else 0.0

    def on_before_backward(self, trainer: Any, model: Any, loss: Any) -> None:
        """Break the buffer, after it was given to all by the first process."""
        if self.for_good and math.isnan(model.bias):
            model.likelihood.variance.fill_(math.nan)


def train(world: int, for_good: bool) -> dict[str, torch.Tensor] | str:
    """Return the weights at the end, or the report of what broke."""
    pl.seed_everything(3, verbose=False)
    model = Biased(
        ResNet((1, 6, 6), width=8, halvings=1, blocks=1), VQ(8, 4, upkeep=Upkeep(kmeans=2))
    )
    trainer = toy_trainer(
        None,
        max_steps=STEPS,
        limit_val_batches=0,
        devices=world,
        strategy="ddp" if world > 1 else "auto",
        callbacks=[BreakLast(for_good), NonFinite("skip")],
    )
    try:
        trainer.fit(model, datamodule=toy_data())
    except NonFiniteError as error:
        return str(error)
    return model.state_dict()


if __name__ == "__main__":
    folder = Path(sys.argv[1])
    os.chdir(folder)  # where the batches go that broke
    found = [train(int(os.environ["WORLD_SIZE"]), for_good) for for_good in (False, True)]
    torch.save(found, folder / f"{os.environ['RANK']}.pt")
