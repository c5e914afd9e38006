"""Codes of images, from which the model's reconstruction is decoded."""

from torch import Tensor

from dvae.coding.ans import Stack
from dvae.coding.blocks import BlockCoder, exact
from dvae.coding.codes import pop_codes, push_codes
from dvae.models import DiscreteVAE

__all__ = ["LossyCoder"]


class LossyCoder(BlockCoder):
    """Most probable codes under the prior; the images are what the model decodes them to.

    Args:
        model: Trained model.

    Raises:
        ValueError: The model has too many categories.
    """

    initial = 1

    def __init__(self, model: DiscreteVAE) -> None:
        super().__init__(model)
        (self._prior,) = exact((model.prior,))

    def blocks(self, count: int) -> list[slice]:
        """Cut into full blocks and one with the rest; see `BlockCoder.blocks`."""
        starts = range(0, count, self.rows)
        return [slice(start, min(start + self.rows, count)) for start in starts]

    def push(self, stack: Stack, image: Tensor) -> Tensor:
        """Push the most probable codes; see `BlockCoder.push`."""
        index = self._model.encode(self._model.images_of(image)).cpu()
        push_codes(stack, self._prior, index, self.rows)
        return index

    def pop(self, stack: Stack, count: int) -> tuple[Tensor, Tensor]:
        """Pop codes and decode them; see `BlockCoder.pop`."""
        index = pop_codes(stack, self._prior, count, self.rows)
        return index, self._model.decode(index.to(self._model.device)).cpu()
