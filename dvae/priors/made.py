"""A masked perceptron over the integers of a code."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dvae.priors.sequential import SequentialPrior
from dvae.scalars import check_count

__all__ = ["MADEPrior"]


class MADEPrior(SequentialPrior):
    r"""A perceptron whose weights are masked so that an integer is given those before it alone.

    Each position has ``width`` hidden units, which see the one-hot codes of the positions before it
    and the hidden units of those up to it: one pass for all positions. It starts uniform. The
    number of weights grows with the square of the positions: for up to some hundred of them.

    Args:
        width: Hidden units of each position, at least 1.
        depth: Residual blocks of two layers, at least 0.

    Raises:
        ValueError: A value outside its range.

    References:
        M. Germain, K. Gregor, I. Murray, H. Larochelle, 2015, arXiv 1502.03509, section 4.

    Example:
        >>> import torch
        >>> prior = MADEPrior(width=8)
        >>> prior.build((4,), (4, 10))
        >>> prior.log_prob(prior.sample(2)).shape
        torch.Size([2])
    """

    def __init__(self, width: int = 16, depth: int = 1) -> None:
        super().__init__()
        check_count("MADEPrior.width", width, 1)
        check_count("MADEPrior.depth", depth, 0)
        self.width, self.depth = width, depth

    def _make(self) -> None:
        t, k, width = self.positions, self.num_codes, self.width
        self.enter = MaskedLinear(t, k, width, strict=True, one_hot=True)
        self.blocks = nn.ModuleList(_Block(t, width) for _ in range(self.depth))
        self.leave = MaskedLinear(t, width, k)
        self.skip = MaskedLinear(t, k, k, strict=True, one_hot=True)
        for layer in (self.leave, self.skip):
            nn.init.zeros_(layer.weight)

    def logits(self, code: Tensor, label: Tensor | None = None) -> Tensor:
        """Compute all logits in one pass; see `SequentialPrior.logits`."""
        if not code.is_floating_point():
            code = F.one_hot(code, self.num_codes).to(self.enter.weight.dtype)
        x = code.flatten(1)
        hidden = self.enter(x)
        for block in self.blocks:
            hidden = hidden + block(hidden)
        logits: Tensor = (self.leave(F.silu(hidden)) + self.skip(x)).unflatten(1, code.shape[1:])
        return logits if logits.dtype == torch.float64 else logits.float()


class _Block(nn.Sequential):
    """What is added to hidden units, at first nothing."""

    def __init__(self, positions: int, width: int) -> None:
        first, second = (MaskedLinear(positions, width, width) for _ in range(2))
        nn.init.zeros_(second.weight)
        super().__init__(nn.SiLU(), first, nn.SiLU(), second)


class MaskedLinear(nn.Module):
    """A linear layer from blocks of numbers to blocks, each of which sees those up to it.

    Args:
        positions: Blocks T.
        takes: Numbers of a block that comes in.
        gives: Numbers of a block that goes out.
        strict: Whether a block sees those before it only.
        one_hot: Whether one number of a block is 1 and the others 0, for the size of the weights.
    """

    mask: Tensor

    def __init__(
        self, positions: int, takes: int, gives: int, strict: bool = False, one_hot: bool = False
    ) -> None:
        super().__init__()
        seen = torch.ones(positions, positions).tril(-1 if strict else 0)
        self.register_buffer("mask", seen.repeat_interleave(gives, 0), persistent=False)
        self.takes = takes
        inputs = seen.sum(1).clamp_min(1) * (1 if one_hot else takes)
        scale = (1 / inputs.sqrt()).repeat_interleave(gives).unsqueeze(1)
        self.weight = nn.Parameter(scale * torch.randn(positions * gives, positions * takes))
        self.bias = nn.Parameter(torch.zeros(positions * gives))

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(N, T * takes)`` to ``(N, T * gives)``."""
        shape = (*self.mask.shape, self.takes)
        weight = (self.weight.view(shape) * self.mask.unsqueeze(-1)).flatten(1)
        return F.linear(x, weight, self.bias)
