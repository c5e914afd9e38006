"""The first step whose loss is not finite, kept on the device until the host looks."""

from collections.abc import Mapping
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


@dataclass(frozen=True)
class _Kept:
    """Tensors of the latest step, or of the first broken one.

    Attributes:
        broken: Whether there was a broken one, a boolean ``()``.
        tensors: Tensors by name.
        values: Names of what the tensor ``values`` holds.
        terms: Names of what the tensor ``terms`` holds.
    """

    broken: Tensor
    tensors: dict[str, Tensor]
    values: tuple[str, ...]
    terms: tuple[str, ...]

    def fits(self, tensors: Mapping[str, Tensor]) -> bool:
        """Tell whether tensors have the names and shapes of these."""
        kept = self.tensors
        return kept.keys() == tensors.keys() and all(
            kept[name].shape == tensor.shape for name, tensor in tensors.items()
        )

    def moment(self) -> Moment:
        """Read what was kept."""
        batch = dict(self.tensors)
        step = int(batch.pop("step"))
        values = dict(zip(self.values, batch.pop("values", ()), strict=True))
        terms = dict(zip(self.terms, batch.pop("terms", ()), strict=True))
        return Moment(step, values, batch, terms)


class FirstBroken:
    """Remembers the step in which a loss was first not finite, and waits for nothing.

    Looking at each loss would mean waiting for the device in each step. Instead the tensors of a
    step replace those of the step before it, on the device, as long as no loss has been broken.
    """

    def __init__(self) -> None:
        # The latest comes last; those before it had tensors of other shapes.
        self._kept: list[_Kept] = []

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
        tensors = {"step": step, **moment.batch}
        # Together, which starts fewer kernels than one by one.
        for name, parts in (("values", moment.values), ("terms", moment.terms)):
            if parts:
                tensors[name] = torch.stack(list(parts.values()))
        if self._kept and self._kept[-1].fits(tensors):
            before = self._kept.pop()
            tensors = {
                name: torch.where(before.broken, before.tensors[name], new)
                for name, new in tensors.items()
            }
            broken = before.broken | broken
        self._kept.append(_Kept(broken, tensors, tuple(moment.values), tuple(moment.terms)))

    def take(self) -> Moment | None:
        """Return the first broken step and start anew; this waits for the device.

        Returns:
            The first step since the last call whose loss is not finite; ``None`` where all were.
        """
        kept, self._kept = self._kept, []
        return next((one.moment() for one in kept if bool(one.broken)), None)
