"""A causal transformer over the integers of a code."""

from collections.abc import Sequence

import torch
from torch import Tensor

from dvae.priors.sequential import NextLogits, SequentialPrior
from dvae.priors.transformer import TransformerPrior

__all__ = ["AutoregressivePrior"]


class AutoregressivePrior(SequentialPrior, TransformerPrior):
    r"""A transformer :math:`p(z) = \prod_t p(z_t \mid z_{<t})` in raster order (latents in order).

    It starts uniform, and can be told of classes: the first token is that of the image's class, or
    one that stands for none, which some of the images get in training, so that p without the class
    is learned too. Samples keep the keys and values of what is drawn already.

    Args:
        width: Features of a token, at least 1, a multiple of ``heads``.
        depth: Layers of attention and perceptron, at least 1.
        heads: Heads of each layer, at least 1.
        num_classes: Classes of the data, where the prior is to know them; 0 for none.
        label_dropout: Fraction of the labels that training leaves out, in [0, 1].

    Raises:
        ValueError: A value outside its range.

    References:
        A. van den Oord, O. Vinyals, K. Kavukcuoglu, 2017, arXiv 1711.00937, section 3.3 (a prior
        over codes); A. Vaswani et al., 2017, arXiv 1706.03762, section 3 (transformer); J. Ho,
        T. Salimans, 2022, arXiv 2207.12598, algorithm 1 (labels left out).

    Example:
        >>> prior = AutoregressivePrior(width=8, depth=1, heads=2)
        >>> prior.build((4,), (4, 10))
        >>> prior.log_prob(prior.sample(2)).shape
        torch.Size([2])
    """

    def build(self, index_shape: Sequence[int], counts_shape: Sequence[int]) -> None:
        """Fit the prior to a code; see `Prior.build`."""
        self._counts_shape = counts_shape
        super().build(index_shape, counts_shape)

    def _make(self) -> None:
        self.net = self._transformer(self._counts_shape, causal=True)

    def logits(self, code: Tensor, label: Tensor | None = None) -> Tensor:
        """Compute all logits in one pass; see `SequentialPrior.logits`."""
        net = self.net
        tokens = torch.cat([net.first(label, code.shape[0]), net.tokens(code)[:, :-1]], 1)
        return net.logits(net.layers(tokens + net.places()))

    def steps(self, label: Tensor | None = None) -> NextLogits:
        """Keep the keys and values of the tokens before; see `SequentialPrior.steps`."""
        net = self.net
        layers, places = net.cached(), net.places()

        def step(code: Tensor, t: int) -> Tensor:
            last = slice(t - 1, t)
            token = net.tokens(code[:, last], t - 1) if t else net.first(label, len(code))
            return net.logits(layers(token + places[t]), t)[:, 0]

        return step
