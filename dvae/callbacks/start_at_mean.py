"""A decoder that begins at the mean image, so that no code has to say it."""

import math
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback
from torch import Tensor, nn

from dvae.bottlenecks.processes import sum_over_processes
from dvae.models import DiscreteVAE

__all__ = ["StartAtMean", "bias_of", "start_at_mean"]

_LAYERS = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.ConvTranspose2d)


class StartAtMean(Callback):
    """Set the bias of the decoder's last layer to the mean image of the first batch.

    Else the first thing that training learns is the mean image, and the gradient of every code
    asks for whatever is nearest to it: the same category for all images. With few latents and no
    normalisation the posteriors close upon that one code in the first hundreds of steps, and their
    gradients vanish with it. A bias that the network has for every pixel takes the mean of that
    pixel, one for every channel the mean of the channel.

    It acts once, before the first step of a training, and leaves a decoder alone that would do
    worse with it, such as one that was trained before.

    Raises:
        ValueError: When training is set up: the likelihood's parameters are not those of a mean
            image, or the decoder does not end with a bias for each pixel or channel.

    References:
        Y. Burda, R. Grosse, R. Salakhutdinov, 2016, arXiv 1509.00519, whose code begins there;
        A. Mnih, K. Gregor, 2014, arXiv 1402.0030, for the input.
    """

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """See whether the model has such a bias."""
        if stage == "fit":
            bias_of(pl_module)

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Set the bias before the first step."""
        if trainer.global_step or batch_idx:
            return
        bias = bias_of(pl_module)
        assert isinstance(pl_module, DiscreteVAE)
        if bias.requires_grad and not pl_module.objective.prior_alone:
            start_at_mean(pl_module, pl_module.images_of(batch, check=False), bias)


@torch.no_grad()
def start_at_mean(model: DiscreteVAE, image: Tensor, bias: Tensor) -> None:
    """Set a bias to the mean image, if the decoder is nearer to the images with it.

    Args:
        model: The model.
        image: Images of the first batch, of this process, ``(B, C, H, W)`` in [0, 1].
        bias: Bias of the decoder's last layer, ``(C * H * W,)`` or ``(C,)``; written to.
    """
    likelihood = model.likelihood
    wide = image.to(torch.promote_types(image.dtype, torch.float32))
    found = torch.cat([wide.sum(0).flatten(), wide.new_tensor([len(wide)])])
    sum_over_processes(found)
    # With half an image of grey, so that no pixel is taken to be certain.
    mean = ((found[:-1] + 0.25) / (found[-1] + 0.5)).view(image.shape[1:])
    if len(bias) < mean.numel():
        mean = mean.mean(tuple(range(1, mean.dim())))
    with model._evaluating():
        target = likelihood.dequantize(wide, torch.Generator(image.device).manual_seed(0))
        code = model.bottleneck(model.encoder(image), model.prior).mode()
        z, before = model.bottleneck.embed(code).unsqueeze(0), bias.clone()
        tried = [model.log_px(z, target).sum()]
        bias.copy_(likelihood.params_of(mean).flatten())
        tried.append(model.log_px(z, target).sum())
    values = torch.stack(tried)
    sum_over_processes(values)
    if not values[1] > values[0]:
        bias.copy_(before)


def bias_of(model: Any) -> Tensor:
    """Return the bias of the decoder's last layer.

    Args:
        model: The model.

    Raises:
        ValueError: See `StartAtMean`.
    """
    shape = model.likelihood.event_shape
    try:
        model.likelihood.params_of(torch.full(shape, 0.5))
    except NotImplementedError:
        raise ValueError(
            "StartAtMean needs a likelihood whose parameters are a mean image, such as Bernoulli; "
            f"got {type(model.likelihood).__name__}"
        ) from None
    layers = [layer for layer in model.decoder.modules() if isinstance(layer, _LAYERS)]
    bias = layers[-1].bias if layers else None
    if bias is None or len(bias) not in (shape[0], math.prod(shape)):
        raise ValueError(
            "StartAtMean needs a decoder whose last layer has a bias for each pixel or channel, as "
            "that of MLP has"
        )
    return bias
