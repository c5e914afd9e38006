"""Several runs of a table as one batched model: a run alone fills a hundredth of a GPU.

Each keeps its weights, its estimator and its place in its own stream of batches; the layers of all
networks are one batched matrix product each, and one optimizer takes the steps of all.
"""

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from itertools import chain
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor, nn
from torch.func import functional_call, vmap
from torch.optim.lr_scheduler import LambdaLR

from dvae.callbacks import Anneal
from dvae.data import MNIST, Batch
from dvae.models import CategoricalVAE
from dvae.scalars import annealable_scalars

__all__ = ["SideBySide", "Together", "together"]


class Together(pl.LightningModule):
    """Models of the same layers, of which each sees its own batch.

    The loss is the sum of theirs, so that each gets the gradient that it would get alone.

    Args:
        models: At least one. The networks are `dvae.networks.MLP` without normalisation, the
            estimators layers, the optimizers of one kind; rates and temperatures may differ.
    """

    def __init__(self, models: Sequence[CategoricalVAE]) -> None:
        super().__init__()
        self.models = nn.ModuleList(models)
        self._models = list(models)

    def training_step(self, images: Tensor, batch_idx: int) -> dict[str, Tensor]:
        """Return the sum of the losses, and each, ``(M,)``.

        Args:
            images: Pixels in [0, 1], ``(M, B, C, H, W)``.
            batch_idx: Number of the step in its epoch; unused.
        """
        features = _batched([model.encoder for model in self._models], images)
        samples = self._models[0].objective.samples
        features, images = features.repeat(1, samples, 1), images.repeat(1, samples, 1, 1, 1)
        pairs = zip(self._models, features, strict=True)
        posteriors = [model.bottleneck(own, model.prior) for model, own in pairs]
        codes = torch.stack([q.draw().z for q in posteriors])
        params = _batched([model.decoder for model in self._models], codes)
        log_px = self._models[0].likelihood.log_prob(params, images)
        kls = [m.prior.closed_kl(q) for m, q in zip(self._models, posteriors, strict=True)]
        cost = [m.objective.beta * kl for m, kl in zip(self._models, kls, strict=True)]
        each = (torch.stack(cost) - log_px).mean(1)
        return {"loss": each.sum(), "each": each.detach()}

    def configure_optimizers(self) -> Any:
        """Join the optimizers: a group of parameters for each model."""
        first, *others = (model.make_optimizer() for model in self._models)
        for group in chain.from_iterable(other.param_groups for other in others):
            first.add_param_group(group)
        schedule = self._models[0].lr_schedule
        if schedule is None:
            return first
        steps = int(self.trainer.estimated_stepping_batches)
        factor = LambdaLR(first, lambda step: schedule(step, steps))
        return {"optimizer": first, "lr_scheduler": {"scheduler": factor, "interval": "step"}}


class SideBySide(pl.LightningDataModule):
    """The batches of several data modules at a time.

    Args:
        parts: Parts of the same number of batches.
    """

    def __init__(self, parts: Sequence[MNIST]) -> None:
        super().__init__()
        self.parts = list(parts)

    def train_dataloader(self) -> "_Streams":
        """Make the loader; its batches are lists."""
        for part in self.parts:
            part.trainer = self.trainer
        return _Streams([part.train_dataloader() for part in self.parts])

    def transfer_batch_to_device(
        self, batch: list[Batch], device: torch.device, dataloader_idx: int
    ) -> list[Batch]:
        """Leave them where they are if that is the right place."""
        return [
            part.transfer_batch_to_device(own, device, dataloader_idx)
            for part, own in zip(self.parts, batch, strict=True)
        ]

    def on_after_batch_transfer(self, batch: list[Batch], dataloader_idx: int) -> Tensor:
        """Return the pixels that the models see, ``(M, B, C, H, W)``."""
        seen = (
            part.on_after_batch_transfer(own, dataloader_idx).image
            for part, own in zip(self.parts, batch, strict=True)
        )
        return torch.stack(list(seen))


class _Streams:
    # One loader with one place, which is what `dvae.callbacks.RandomState` restores.
    def __init__(self, loaders: Sequence[Any]) -> None:
        self.loaders = loaders

    def __len__(self) -> int:
        return len(self.loaders[0])

    def __iter__(self) -> Iterator[list[Batch]]:
        return map(list, zip(*self.loaders, strict=True))

    def state_dict(self) -> dict[str, Any]:
        return {"loaders": [loader.state_dict() for loader in self.loaders]}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        for loader, state in zip(self.loaders, state_dict["loaders"], strict=True):
            loader.load_state_dict(state)


def together(number: int, model: CategoricalVAE, anneals: Sequence[Anneal]) -> list[Anneal]:
    """Point the callbacks of a model at it among several.

    Args:
        number: Which of the models it is.
        model: The model.
        anneals: Its own callbacks.
    """
    paths = annealable_scalars(model)
    return [
        Anneal(f"models.{number}.{path}", anneal.schedule)
        for anneal in anneals
        for path in paths
        if path == anneal.target or path.endswith(f".{anneal.target}")
    ]


def _batched(networks: Sequence[nn.Module], inputs: Tensor) -> Tensor:
    names = [name for name, _ in networks[0].named_parameters()]
    stacked = {name: torch.stack([n.get_parameter(name) for n in networks]) for name in names}
    return vmap(partial(_call, networks[0]))(stacked, inputs)


def _call(network: nn.Module, parameters: dict[str, Tensor], inputs: Tensor) -> Tensor:
    result: Tensor = functional_call(network, parameters, (inputs,))
    return result
