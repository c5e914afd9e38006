"""Gradients as an optimizer's step finds them: without the scale of the loss, and clipped."""

import warnings
from collections.abc import Callable
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.core.optimizer import LightningOptimizer
from torch.amp.grad_scaler import GradScaler
from torch.optim import Optimizer

from dvae.estimators import Estimator
from dvae.penalties import Penalty

__all__ = ["Gradients", "loss_scaler"]


def loss_scaler(trainer: pl.Trainer) -> GradScaler | None:
    """Return what multiplies the loss of a trainer, so that float16 holds its gradients.

    Args:
        trainer: Trainer with or without a scaler.
    """
    scaler = getattr(trainer.precision_plugin, "scaler", None)
    return scaler if isinstance(scaler, GradScaler) and scaler.is_enabled() else None


class Gradients(pl.LightningModule):
    """What a model does with gradients between the backward pass and the optimizer's step."""

    def optimizer_step(
        self,
        epoch: int,
        batch_idx: int,
        optimizer: Optimizer | LightningOptimizer,
        optimizer_closure: Callable[[], Any] | None = None,
    ) -> None:
        """Take a step, with gradients divided by the loss's scale as soon as they are complete.

        Lightning sees to that for every optimizer but a fused one, which divides in the kernel of
        its step: there, whoever looks at gradients or clips them would find them some thousand
        times too large. The kernel knows when it has been done, and still leaves the step out, on
        the device, where a gradient has overflowed.
        """
        scaler = loss_scaler(self.trainer)
        bare = optimizer.optimizer if isinstance(optimizer, LightningOptimizer) else optimizer
        compute = optimizer_closure
        if scaler is None or compute is None or not bare.defaults.get("fused"):
            super().optimizer_step(epoch, batch_idx, optimizer, compute)
            return

        def unscaled() -> Any:
            loss = compute()
            if loss is not None:
                scaler.unscale_(bare)
            return loss

        super().optimizer_step(epoch, batch_idx, optimizer, unscaled)

    def lr_scheduler_step(self, scheduler: Any, metric: Any) -> None:
        """Go on to the next learning rate, also where the scaler left the first step out.

        Schedules count the run's steps, and torch would warn of an order that is as it should be.
        """
        with warnings.catch_warnings():
            if loss_scaler(self.trainer) is not None:
                warnings.filterwarnings(
                    "ignore", r"Detected call of `lr_scheduler.step\(\)` before"
                )
            super().lr_scheduler_step(scheduler, metric)

    def configure_gradient_clipping(
        self,
        optimizer: Optimizer,
        gradient_clip_val: float | None = None,
        gradient_clip_algorithm: str | None = None,
    ) -> None:
        """Clip gradients, those of a fused optimizer too; by norm, a part's own by theirs.

        What an estimator learns by is the gradient of a variance, whose unit is the square of the
        loss's, and a discriminator has a loss of its own: in one norm with them, next to nothing
        would be left of the model's, or it would depend on another's.
        """
        most = gradient_clip_val
        if most is None or most <= 0:
            return
        parameters = [p for group in optimizer.param_groups for p in group["params"]]
        if gradient_clip_algorithm == "value":
            torch.nn.utils.clip_grad_value_(parameters, most)
            return
        kinds = {
            id(p): kind
            for kind in (Estimator, Penalty)
            for module in self.modules()
            if isinstance(module, kind)
            for p in module.parameters()
        }
        for kind in (None, Estimator, Penalty):
            found = [p for p in parameters if kinds.get(id(p)) is kind]
            torch.nn.utils.clip_grad_norm_(found, most)
