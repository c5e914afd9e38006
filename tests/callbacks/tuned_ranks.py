"""Train with a tuner by as many processes as were started; see test_tuner_ranks.py."""

import os
import sys
from pathlib import Path

import pytorch_lightning as pl
import torch

from dvae.callbacks import Anneal, StartAtMean
from dvae.estimators import StraightThrough
from dvae.schedules import Tuned
from tests.toy import toy_data, toy_model, toy_trainer

if __name__ == "__main__":
    folder, world = Path(sys.argv[1]), int(os.environ["WORLD_SIZE"])
    pl.seed_everything(3, verbose=False)
    anneal, model = Anneal("tau", Tuned(every=2)), toy_model(StraightThrough(0.9))
    own = {"callbacks": [StartAtMean(), anneal], "devices": world, "strategy": "ddp"}
    trainer = toy_trainer(folder, max_steps=8, **own)
    trainer.fit(model, datamodule=toy_data())
    assert anneal.tuner is not None
    history = torch.tensor(anneal.tuner.history)
    weights = dict(model.named_parameters())
    torch.save({"history": history, "weights": weights}, folder / f"{trainer.global_rank}.pt")
