"""Train with noise, stop and go on, by as many processes as were started; see test_ddp_noise.py."""

import os
import sys
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch

from dvae.bottlenecks import ProjectedCodebook, ResidualVQ, Upkeep
from dvae.callbacks import RandomState
from dvae.models import CodebookVAE
from dvae.models.base import DiscreteVAE
from dvae.networks import ResNet
from tests.toy import toy_data, toy_model, toy_trainer

STOP, STEPS = 3, 8
KINDS = ("categorical", "projected", "residual")


def model(kind: str) -> DiscreteVAE:
    """Build a model that draws, and whose code book starts and is revived at random."""
    upkeep = Upkeep(kmeans=3, revive_after=2)
    if kind == "categorical":
        return toy_model()
    bottleneck = {
        "projected": lambda: ProjectedCodebook(40, 4, 4, upkeep=upkeep),
        "residual": lambda: ResidualVQ(40, 4, depth=2, upkeep=upkeep),
    }[kind]()
    return CodebookVAE(ResNet((1, 6, 6), width=8, halvings=1, blocks=1), bottleneck)


class Witness(pl.Callback):
    """Note what each step draws next, and the images that it sees."""

    def __init__(self) -> None:
        self.noise: list[torch.Tensor] = []
        self.images: list[torch.Tensor] = []

    def on_train_batch_start(self, trainer: Any, model: Any, batch: Any, batch_idx: int) -> None:
        """Look ahead, on a copy of the generator."""
        ahead = torch.Generator()
        ahead.set_state(torch.get_rng_state())
        self.noise.append(torch.rand(4, generator=ahead))
        self.images.append(batch.image.flatten(1).sum(1))


def train(
    kind: str, processes: int, folder: Path, steps: int = STEPS, start: Path | None = None
) -> dict[str, Any]:
    """Train, and save at the end.

    Args:
        kind: Of `KINDS`.
        processes: How many share the work.
        folder: For ``<steps>.ckpt``.
        steps: How many in all.
        start: Checkpoint to go on from.

    Returns:
        Noise and images of each step, and the weights.
    """
    pl.seed_everything(3, verbose=False)
    witness, built = Witness(), model(kind)
    trainer = toy_trainer(
        folder,
        max_steps=steps,
        callbacks=[RandomState(), witness],
        devices=processes,
        strategy="ddp" if processes > 1 else "auto",
    )
    if start:
        torch.manual_seed(12345)  # what came before must not matter
    trainer.fit(built, datamodule=toy_data(), ckpt_path=start)
    trainer.save_checkpoint(folder / f"{steps}.ckpt")
    weights = {name: value.clone() for name, value in built.state_dict().items()}
    return {
        "noise": torch.stack(witness.noise),
        "images": torch.stack(witness.images),
        "weights": weights,
    }


def work(world: int, folder: Path) -> dict[str, Any]:
    """Do all runs: whole, stopped and resumed, and resumed from what one process has saved."""
    found: dict[str, Any] = {}
    for kind in KINDS:
        place = folder / kind
        found[kind] = {
            "whole": train(kind, world, place),
            "begun": train(kind, world, place, STOP),
            "resumed": train(kind, world, place, start=place / f"{STOP}.ckpt"),
        }
    start = folder / "alone" / f"{STOP}.ckpt"
    found["from alone"] = train("categorical", world, folder / "more", start=start)
    return found


if __name__ == "__main__":
    results = work(int(os.environ["WORLD_SIZE"]), Path(sys.argv[1]))
    torch.save(results, Path(sys.argv[1]) / f"{os.environ['RANK']}.pt")
