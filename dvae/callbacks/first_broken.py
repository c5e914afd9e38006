"""The first step whose loss is not finite, kept on the device until the host looks."""

from dataclasses import dataclass
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor

from dvae.scalars import annealable_scalars

__all__ = ["FirstBroken", "Moment"]


@dataclass(frozen=True)
class Moment:
    """What is told of a step, beside the state of the model.

    Attributes:
        step: Number of the optimizer step.
        values: The scalars that may be annealed, by path.
        batch: Image and label, where there are such.
        terms: Those of the bound by name, ``(B,)`` each.
    """

    step: int
    values: dict[str, Tensor]
    batch: dict[str, Tensor]
    terms: dict[str, Tensor]

    @classmethod
    def now(cls, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any) -> "Moment":
        """Describe the step at hand."""
        scalars = annealable_scalars(pl_module)
        fields = {name: getattr(batch, name, None) for name in ("image", "label")}
        return cls(
            trainer.global_step,
            {path: scalar.buffer for path, scalar in scalars.items()},
            {name: field for name, field in fields.items() if isinstance(field, Tensor)},
            getattr(pl_module, "last_terms", {}),
        )


class FirstBroken:
    """Remembers the step in which a loss was first not finite, and waits for nothing.

    Looking at each loss would mean waiting for the device in each step. Instead the tensors of a
    step replace those of the step before it, on the device, as long as no loss has been broken.
    """

    def __init__(self) -> None:
        # Whether a step was broken, ``()``, and its moment as tensors. The latest comes last; those
        # before it had tensors of other shapes.
        self._kept: list[tuple[Tensor, list[dict[str, Tensor]]]] = []

    @torch.no_grad()
    def note(self, loss: Tensor, moment: Moment) -> None:
        """Keep a step, unless a broken one is kept already.

        Args:
            loss: A scalar on an accelerator, ``()``.
            moment: The step; its images, labels and terms are not written to afterwards.
        """
        # Of NaN and infinity it is NaN, which is not 0 either.
        broken = (loss - loss) != 0
        step = torch.full((), moment.step, device=loss.device)
        now = [{"step": step}, moment.values, moment.batch, moment.terms]
        fits = self._kept and _shapes(self._kept[-1][1]) == _shapes(now)
        # With itself where there is none: a copy, for the values will be written to.
        before, then = self._kept.pop() if fits else (broken, now)
        kept = [
            {name: torch.where(before, old[name], new[name]) for name in new}
            for old, new in zip(then, now, strict=True)
        ]
        self._kept.append((before | broken, kept))

    def take(self) -> Moment | None:
        """Return the first broken step and start anew; this waits for the device.

        Returns:
            The first step since the last call whose loss is not finite; ``None`` where all were.
        """
        kept, self._kept = self._kept, []
        for broken, (step, *parts) in kept:
            if bool(broken):
                return Moment(int(step["step"]), *parts)
        return None


def _shapes(parts: list[dict[str, Tensor]]) -> list[dict[str, torch.Size]]:
    return [{name: tensor.shape for name, tensor in part.items()} for part in parts]
