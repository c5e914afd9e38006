r"""REINFORCE: the score function times f, with or without a running mean as baseline."""

from typing import Literal

import torch
from torch import Generator, Tensor

from dvae.estimators.base import About, Estimator, Integrand
from dvae.estimators.score_function import draw_codes, evaluate, score_gradient
from dvae.functional import attach_gradient
from dvae.scalars import Range

__all__ = ["Reinforce"]


class Reinforce(Estimator):
    r"""The gradient :math:`(f(D) - b)(D - \pi)` of one draw. Unbiased; f need not be smooth.

    The baseline b is a running mean of f over earlier batches, kept in the checkpoint and
    corrected for its start at 0. It moves in training mode while gradients are on, after it was
    used, so that it does not depend on the draw that it is a baseline of.

    Args:
        baseline: ``"mean"``, or ``"none"`` for b = 0.
        decay: Weight of the past in the running mean, within [0, 1].

    Raises:
        ValueError: A value outside its range.

    References:
        R. Williams, 1992, *Simple statistical gradient-following algorithms for connectionist
        reinforcement learning*.
    """

    about = About(1992, "Williams", "unbiased", variants={"": {"baseline": "none"}, "mean": {}})

    running_sum: Tensor
    running_weight: Tensor

    def __init__(self, baseline: Literal["none", "mean"] = "mean", decay: float = 0.9) -> None:
        super().__init__()
        if baseline not in ("none", "mean"):
            raise ValueError(f"Reinforce.baseline must be 'none' or 'mean'; got {baseline!r}")
        Range(0.0, high=1.0).check("Reinforce.decay", decay)
        self.baseline = baseline
        self.decay = decay
        self.register_buffer("running_sum", torch.zeros(()))
        self.register_buffer("running_weight", torch.zeros(()))

    def expectation(
        self, f: Integrand, logits: Tensor, generator: Generator | None = None
    ) -> Tensor:
        """Evaluate f at one draw; see `Estimator.expectation`."""
        codes = draw_codes(logits, 1, generator)
        values = evaluate(f, codes.one_hot)
        with torch.no_grad():
            # 0 over a tiny number before the first batch.
            tiny = torch.finfo(self.running_weight.dtype).tiny
            mean = self.running_sum / self.running_weight.clamp_min(tiny)
            gradient = score_gradient(codes, values.to(codes.probs.dtype) - mean)
        if self.baseline == "mean" and self.training and torch.is_grad_enabled():
            self._update(values.detach())
        return attach_gradient(values.squeeze(0), logits, gradient)

    def _update(self, values: Tensor) -> None:
        if values.numel() == 0:
            return
        self.running_sum.lerp_(values.mean(dtype=self.running_sum.dtype), 1 - self.decay)
        self.running_weight.lerp_(torch.ones_like(self.running_weight), 1 - self.decay)
