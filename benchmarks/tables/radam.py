"""RAdam by the fused kernel of Adam: torch has none of its own."""

import math
from collections.abc import Callable
from typing import Any

import torch

__all__ = ["RAdam"]

# Beside it no root of a mean square counts, so that Adam's step is one of momentum.
_MUCH = 1e6


class RAdam(torch.optim.Adam):
    """`torch.optim.RAdam` in one pass over the weights, the same but for rounding.

    Its step is Adam's with another rate and epsilon; in the first five, where it does not divide by
    the root of the mean square, with an epsilon next to which that root is nothing.

    Args:
        params: Parameters or groups of them.
        lr: The learning rate.
        weight_decay: Added to the gradient, in parts of the weights.

    References:
        L. Liu et al., 2020, arXiv 1908.03265, algorithm 2.
    """

    def __init__(self, params: Any, lr: float = 1e-3, weight_decay: float = 0.0) -> None:
        super().__init__(params, lr=lr, weight_decay=weight_decay, fused=True)

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:  # type: ignore[override]
        """Take a step, after the closure where there is one, whose loss is returned."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        own = [(group["lr"], group["eps"]) for group in self.param_groups]
        for group in self.param_groups:
            done = [self.state[p]["step"] for p in group["params"] if p in self.state]
            scale, group["eps"] = _rectified(int(done[0]) + 1 if done else 1, group)
            group["lr"] *= scale
        super().step()
        for group, (lr, eps) in zip(self.param_groups, own, strict=True):
            group.update(lr=lr, eps=eps)
        return loss


def _rectified(step: int, group: dict[str, Any]) -> tuple[float, float]:
    """Return the factor on the rate, and the epsilon, of Adam's step that is RAdam's."""
    beta = group["betas"][1]
    longest = 2 / (1 - beta) - 1
    correction = 1 - beta**step
    length = longest - 2 * step * beta**step / correction
    if length <= 5:
        return _MUCH, _MUCH
    rectified = (length - 4) * (length - 2) * longest / ((longest - 4) * (longest - 2) * length)
    return math.sqrt(rectified), group["eps"] / math.sqrt(correction)
