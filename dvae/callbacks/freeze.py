"""Parts of a model that training leaves as they are, to the last bit."""

from collections.abc import Sequence
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import Callback
from torch import nn

from dvae.models.parts import tensors_of

__all__ = ["Freeze"]


class Freeze(Callback):
    """Keep parts of the model from being trained.

    A frozen parameter has no gradient and no state in the optimizer. The modules that own a frozen
    tensor are kept in evaluation mode, so that batch-norm statistics, moving averages, a k-means
    start and the revival of dead codes leave it alone too. What is annealed (a temperature) goes on
    moving: it is a setting.

    Args:
        names: Submodules (``encoder``, ``bottleneck``, ``decoder``, ``encoder.1``) or single
            tensors (``bottleneck.codebook``).

    Raises:
        ValueError: When training is set up: a name that the model does not have (the message lists
            what there is), or nothing is left to train.
    """

    def __init__(self, names: Sequence[str]) -> None:
        self.names = tuple(names)
        self._modules: list[nn.Module] = []

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Find the parts, before the optimizer is made."""
        frozen = {key for name in self.names for key in tensors_of(pl_module, name)}
        owners = {key.rpartition(".")[0] for key in frozen}
        self._modules = [
            module
            for path, module in pl_module.named_modules()
            if path in owners or any(path == n or path.startswith(f"{n}.") for n in self.names)
        ]
        for name, parameter in pl_module.named_parameters():
            if name in frozen:
                parameter.requires_grad_(False)
        if not any(parameter.requires_grad for parameter in pl_module.parameters()):
            raise ValueError(f"nothing is left to train with {', '.join(self.names)} frozen")

    def on_train_batch_start(self, *_: Any) -> None:
        """Return the modules to evaluation mode, whoever has changed it."""
        for module in self._modules:
            module.training = False
