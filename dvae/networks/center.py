"""Images less their mean: a layer before the first one of an encoder."""

import torch
from torch import Tensor, nn

__all__ = ["Center"]


class Center(nn.Module):
    """Subtracts the mean image of all training batches so far, in training and evaluation alike.

    What a linear layer can represent stays the same, and it learns sooner: the mean of inputs that
    are never negative is a direction in which its gradients are many times as large as in others.
    The mean is part of every checkpoint; of several processes it is the first one's.

    Args:
        shape: Shape of an image.

    References:
        Y. LeCun, L. Bottou, G. Orr, K. Müller, 1998, *Efficient BackProp*, section 4.3; for
        discrete latents A. Mnih, K. Gregor, 2014, arXiv 1402.0030.
    """

    mean: Tensor
    batches: Tensor

    def __init__(self, *shape: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(shape))
        self.register_buffer("batches", torch.tensor(0.0))

    def forward(self, image: Tensor) -> Tensor:
        """Return ``(B, C, H, W)`` in the dtype of the images."""
        if self.training:
            with torch.no_grad():
                self.batches += 1
                self.mean += (image.mean(0) - self.mean) / self.batches
        return image - self.mean.to(image.dtype)
