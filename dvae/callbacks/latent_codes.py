"""The codes of some images and what a latent tells about them, summed in chunks."""

from dataclasses import dataclass

import torch
from torch import Tensor

from dvae.models.base import DiscreteVAE

__all__ = ["Codes", "Posterior", "read_codes"]

# Images encoded at once: few, since a grid of positions has many logits each, and fewer of large
# ones.
_CHUNK = 250
_PIXELS = 500 * 32 * 32


@dataclass(frozen=True)
class Posterior:
    """What q says on average, for each latent or position.

    Attributes:
        entropy: Mean over the images of the entropy of q(z_l | x), nats, ``(*positions)``.
        information: Entropy of the mean of q over the images less `entropy`: what the latent
            tells about which of the images it is, nats, ``(*positions)``.
    """

    entropy: Tensor
    information: Tensor


@dataclass(frozen=True)
class Codes:
    """The most probable codes of N images, on the CPU.

    Attributes:
        index: Integers ``(N, *positions)``.
        counts: Images (and positions) that use each code, of the bottleneck's ``counts_shape``.
        posterior: ``None`` for a bottleneck without one.
    """

    index: Tensor
    counts: Tensor
    posterior: Posterior | None


@torch.no_grad()
def read_codes(model: DiscreteVAE, image: Tensor) -> Codes:
    """Encode images.

    Args:
        model: Its encoder and bottleneck are used in evaluation mode.
        image: Pixels in [0, 1] or bytes, ``(N, C, H, W)``, N at least 1; on any device.
    """
    chunk = min(_CHUNK, max(1, _PIXELS // image[0, 0].numel()))
    bottleneck = model.bottleneck
    indices, entropy, mean = [], 0.0 * torch.zeros(()), 0.0 * torch.zeros(())
    with model._evaluating():
        for part in image.split(chunk):
            posterior = bottleneck(model.encoder(model.images_of(part, check=False)))
            indices.append(posterior.mode())
            if not bottleneck.has_posterior:
                continue
            q = posterior.logits.float().softmax(-1)
            entropy = entropy.to(q.device) + torch.special.entr(q).sum(-1).sum(0)
            mean = mean.to(q.device) + q.sum(0)
    index = torch.cat(indices)
    counts = bottleneck.count(index).cpu()
    if not bottleneck.has_posterior:
        return Codes(index.cpu(), counts, None)
    entropy = (entropy / len(image)).cpu()
    total = torch.special.entr(mean / len(image)).sum(-1).cpu()
    return Codes(index.cpu(), counts, Posterior(entropy, (total - entropy).clamp_min(0)))
