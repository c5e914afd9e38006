"""A loss that is NaN or infinite stops the run at once, and says where it came from."""

import logging
import math
from collections.abc import Mapping
from itertools import chain
from pathlib import Path
from typing import Any, Literal

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback
from torch import Tensor
from torch.optim import Optimizer

from dvae.callbacks.first_broken import FirstBroken, Moment
from dvae.devices import is_waited_for
from dvae.models.base import DiscreteVAE
from dvae.models.codec import evaluating
from dvae.models.gradients import loss_scaler
from dvae.models.logging import is_logged
from dvae.runs.layout import run_folder

__all__ = ["NonFinite", "NonFiniteError"]

log = logging.getLogger("dvae")

# A scaled loss is halved for each gradient that overflows. Below this scale even a gradient of 1
# loses digits in float16, and one that still overflows would be above 1e9.
_LEAST_SCALE = torch.finfo(torch.float16).tiny
_FOR_GOOD = "a gradient, although the scale of the loss cannot fall further,"


class NonFiniteError(ArithmeticError):
    """Training met a loss or a gradient that is not finite; the message says where."""


class NonFinite(Callback):
    """Stop, or leave out the step, where a loss or a gradient is not finite.

    The report names the step, the annealed values, and what broke first: a weight, the features of
    the encoder, the KL, the reconstruction, the bound, or the gradient of a weight. The batch is in
    ``nonfinite_step_<n>.pt`` in the run's folder, and with several processes in
    ``nonfinite_step_<n>_rank_<r>.pt``: plain tensors ``image`` and ``label``.

    On a CPU the loss is looked at before its backward pass, at every step, and the gradients at the
    steps that are logged: the weights are still good, and the last checkpoint is too. On an
    accelerator looking means waiting, so there ``stop`` has the first broken step kept on the
    device, and looks at the steps that are logged (which are read anyway) and before a checkpoint
    is written: step, values and batch are those of the step that broke, of what broke first it
    knows images and terms, and no broken weights are ever saved. ``skip`` has to know before each
    update and waits at every step, for the loss and all gradients; of several processes all leave a
    step out, or none does.

    Where float16 has the loss scaled (``16-mixed``), gradients that overflow are how the scale is
    found: the scaler leaves the step out and halves it, and nothing is said. With a scale that has
    become so small that it cannot fall further, both actions stop.

    Args:
        action: ``stop``, or ``skip`` to leave out the update and go on. Where a weight, a statistic
            that a layer keeps (batch norm, moving averages) or the logits themselves have broken,
            ``skip`` stops too: leaving out the update does not mend them. The moving averages of a
            code book leave the step out as well.

    Raises:
        ValueError: Another action.
    """

    def __init__(self, action: Literal["stop", "skip"] = "stop") -> None:
        if action not in ("stop", "skip"):
            raise ValueError(f"nonfinite must be stop or skip; got {action!r}")
        self.action = action
        self._batch: Any = None
        self._first = FirstBroken()
        self._loss: Tensor | None = None

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Keep the batch at hand."""
        self._batch = batch

    def on_before_backward(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, loss: Tensor
    ) -> None:
        """Look at the loss, or note on the device that somebody will have to."""
        self._loss = loss.detach()
        if self.action == "skip":
            return
        if not is_waited_for(loss):
            # Read and looked at outside of torch, whose three calls take ten times as long.
            if not math.isfinite(self._loss.item()):
                self._stop(trainer, pl_module, "the loss")
            return
        self._first.note(self._loss, Moment.now(trainer, pl_module, self._batch))
        if is_logged(trainer):
            self._look_back(trainer, pl_module)

    def on_before_optimizer_step(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, optimizer: Optimizer
    ) -> None:
        """Look at the gradients, and take them away where the step is to be left out."""
        if self.action == "stop" and not is_logged(trainer):
            return
        what = self._broken(trainer, pl_module)
        if self.action == "stop":
            if what:
                self._stop(trainer, pl_module, what)
            return
        # The gradients are those of all processes, but the loss is each one's own. All come here in
        # each step, and to the second question together.
        anywhere = trainer.strategy.reduce_boolean_decision
        if not anywhere(bool(what), all=False):
            return
        what = what or "the loss of another process"
        state = chain(pl_module.named_parameters(), pl_module.named_buffers())
        if anywhere(what == _FOR_GOOD or bool(_first_broken(state)), all=False):
            self._stop(trainer, pl_module, what)
        log.warning("%s; the step is left out", self._report(trainer, pl_module, what))
        for parameter in pl_module.parameters():
            parameter.grad = None
        if isinstance(pl_module, DiscreteVAE):
            pl_module.bottleneck.skip_step()
            pl_module.likelihood.skip_step()

    def on_save_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Refuse to save what comes after a broken step."""
        self._look_back(trainer, pl_module)

    def on_exception(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException
    ) -> None:
        """Tell of a draw that was refused because the logits broke before there was a loss."""
        if self._batch is None or not isinstance(exception, (ValueError, RuntimeError, IndexError)):
            return
        try:
            broken = self._where(pl_module, Moment.now(trainer, pl_module, self._batch))
        except RuntimeError:  # the device itself has stopped, and nothing runs on it now
            return
        if broken:
            report = self._report(trainer, pl_module, f"a draw ({exception})")
            exception.args = (report,)
            exception.__cause__ = NonFiniteError(report)  # what it is of, for whoever catches it

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Let go of the batch."""
        self._look_back(trainer, pl_module)
        self._batch = self._loss = None

    def _look_back(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        found = self._first.take()
        if found is not None:
            self._stop(trainer, pl_module, "the loss", found)

    def _broken(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> str:
        """Name what is not finite before a step, unless the loss's scaler leaves that step out."""
        assert self._loss is not None
        gradients = [p.grad for p in pl_module.parameters() if p.grad is not None]
        total = torch.nn.utils.get_total_norm(gradients)
        if bool((total + self._loss).isfinite().all()):
            return ""
        if not bool(self._loss.isfinite().all()):
            return "the loss"
        scaler = loss_scaler(trainer)
        if scaler is None:
            return "a gradient"
        return _FOR_GOOD if scaler.get_scale() < _LEAST_SCALE else ""

    def _stop(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        what: str,
        at: Moment | None = None,
    ) -> None:
        report = self._report(trainer, pl_module, what, at)
        self._batch = None  # said once
        hint = " (--nonfinite skip leaves such steps out)"
        raise NonFiniteError(report + (hint if self.action == "stop" and what != _FOR_GOOD else ""))

    def _report(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        what: str,
        at: Moment | None = None,
    ) -> str:
        at = Moment.now(trainer, pl_module, self._batch) if at is None else at
        values = ", ".join(
            f"{path.rsplit('.', 1)[-1]} {value.item():.4g}" for path, value in at.values.items()
        )
        if at.step == trainer.global_step:
            where = self._where(pl_module, at) or "no weight, feature or term on its own"
        else:  # the weights have taken steps since
            where = f"{_broken_then(at)} (seen at step {trainer.global_step})"
        rank = f"_rank_{trainer.global_rank}" if trainer.world_size > 1 else ""
        path = run_folder(trainer).path / f"nonfinite_step_{at.step}{rank}.pt"
        saved = _save_batch(at.batch, path)
        return f"step {at.step} ({values}): {what} is not finite; broke first: {where}; {saved}"

    @torch.no_grad()
    def _where(self, pl_module: pl.LightningModule, at: Moment) -> str:
        if weight := _first_broken(pl_module.named_parameters()):
            return f"the weight {weight}"
        if buffer := _first_broken(pl_module.named_buffers()):
            return f"the buffer {buffer}"
        if _first_broken(at.batch.items()):
            return "the images of the batch"
        encoder: Any = getattr(pl_module, "encoder", None)
        if encoder is not None and "image" in at.batch:
            with evaluating(encoder):  # where no statistic moves
                features = encoder(at.batch["image"])
            if _first_broken([("features", features)]):
                return "the logits (the features of the encoder)"
        if term := _first_broken(at.terms.items()):
            return f"the {term}"
        gradients = ((n, p.grad) for n, p in pl_module.named_parameters() if p.grad is not None)
        gradient = _first_broken(gradients)
        return f"the gradient of {gradient}" if gradient else ""


def _first_broken(tensors: Any) -> str:
    for name, tensor in tensors:
        if tensor.is_floating_point() and not bool(tensor.isfinite().all()):
            return str(name)
    return ""


def _broken_then(at: Moment) -> str:
    if _first_broken(at.batch.items()):
        return "the images of the batch"
    broken = [f"the {name}" for name, term in at.terms.items() if _first_broken([(name, term)])]
    return " and ".join(broken) or "no term on its own"


def _save_batch(batch: Mapping[str, Tensor], path: Path) -> str:
    tensors = {name: tensor.detach().cpu() for name, tensor in batch.items()}
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        torch.save(tensors, path)
    except (OSError, RuntimeError) as error:
        return f"the batch could not be saved ({error})"
    return f"the batch is in {path}"
