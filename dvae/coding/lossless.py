"""All pixels of images, by bits back."""

from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor

from dvae.bottlenecks import Posterior
from dvae.coding.ans import Stack, Table, quantized
from dvae.coding.blocks import BlockCoder, exact
from dvae.coding.codes import pop_codes, push_codes
from dvae.models import DiscreteVAE

__all__ = ["LosslessCoder"]


class LosslessCoder(BlockCoder):
    """Pixels under the likelihood given codes that are drawn with the bits of the stack.

    Networks run on batches of one size, which shorter blocks are filled up to: products of matrices
    of another size may be rounded otherwise.

    Args:
        model: Trained model.

    Raises:
        ValueError: The model has too many categories, or no probability for each value of a pixel.

    References:
        J. Townsend, T. Bird, D. Barber, 2019, arXiv 1901.04866, section 2.
    """

    initial = 2

    def __init__(self, model: DiscreteVAE) -> None:
        super().__init__(model)
        if not model.likelihood.levels:
            raise ValueError(
                "lossless files need a likelihood that is a mass over the values of a pixel, such "
                "as Bernoulli or DiscretizedLogisticMixture; "
                f"got {type(model.likelihood).__name__}"
            )
        parts = model.encoder, model.bottleneck, model.prior, model.decoder, model.likelihood
        self._encoder, self._bottleneck, self._prior, self._decoder, self._likelihood = exact(parts)

    def blocks(self, count: int) -> list[slice]:
        """Cut into blocks that double from the end; see `BlockCoder.blocks`."""
        # They double from 1, which is pushed first: few bits are needed to begin with.
        ends, size = [count], 1
        while ends[-1]:
            ends.append(max(0, ends[-1] - size))
            size = min(2 * size, self.rows)
        return [slice(start, end) for start, end in pairwise(reversed(ends))]

    def push(self, stack: Stack, image: Tensor) -> Tensor:
        """Draw codes, push pixels and codes; see `BlockCoder.push`."""
        levels = self._levels(image)
        q, count = self._posterior(levels), len(levels)

        def draw(logits: Tensor) -> Tensor:
            found = stack.draw(quantized(logits[:count].softmax(-1)))
            return self._filled(found.view(count, *logits.shape[1:-1]))

        index = (q.chosen(draw) if self._bottleneck.has_posterior else q.mode())[:count]
        params = self._params(index)
        channels = range(levels.shape[1])
        masses = [self._masses(params, levels[:, :channel]) for channel in channels]
        for channel in reversed(channels):
            stack.push(levels[:, channel], masses[channel])
        push_codes(stack, self._prior, index, self.rows)
        return levels

    def pop(self, stack: Stack, count: int) -> tuple[Tensor, Tensor]:
        """Pop codes and pixels, give the bits of the draw back; see `BlockCoder.pop`."""
        index = pop_codes(stack, self._prior, count, self.rows)
        params = self._params(index)
        channels, height, width = self._model.image_shape
        levels = torch.zeros(count, 0, height, width, dtype=torch.int64)
        for _ in range(channels):
            found = stack.pop(self._masses(params, levels)).view(count, 1, height, width)
            levels = torch.cat([levels, found], 1)
        if self._bottleneck.has_posterior:
            self._give_back(stack, index, self._posterior(levels))
        return levels, levels.float() / (self._likelihood.levels - 1)

    def _posterior(self, levels: Tensor) -> Posterior:
        q: Posterior = self._bottleneck(self._encoder(self._filled(self._pixels(levels))))
        return q

    def _give_back(self, stack: Stack, index: Tensor, q: Posterior) -> None:
        """Push what was drawn, the last level of a residual code first."""
        for part, logits in reversed(q.choices(self._filled(index))):
            stack.push(part[: len(index)], quantized(logits[: len(index)].softmax(-1)))

    def _params(self, index: Tensor) -> Tensor:
        params: Tensor = self._decoder(self._bottleneck.embed(self._filled(index)))
        return params[: len(index)]

    def _masses(self, params: Tensor, known: Tensor) -> Table:
        """Weigh the values of the channel after those that are known, a row for each pixel."""
        return quantized(self._likelihood.level_probs(params, self._pixels(known)))

    def _pixels(self, levels: Tensor) -> Tensor:
        return levels.double() / (self._likelihood.levels - 1)

    def _levels(self, image: Tensor) -> Tensor:
        image, most = image.cpu().double(), self._likelihood.levels - 1
        levels = (image * most).round()
        wrong = (image * most - levels).abs() > 1e-3
        if wrong.any():
            raise ValueError(
                f"the likelihood weighs pixels that are multiples of 1/{most}; got "
                f"{float(image[wrong][0]):.4g}: binarize or round them first"
            )
        return levels.long()

    def _filled(self, x: Tensor) -> Tensor:
        return F.pad(x, (0, 0) * (x.dim() - 1) + (0, self.rows - len(x)))
