"""What to measure at: a function of the code, or the first batch of a VAE."""

from dataclasses import dataclass

import torch
from torch import Tensor

from dvae.bottlenecks import CategoricalBottleneck
from dvae.data import MNIST
from dvae.estimators.base import Integrand
from dvae.lab.exact import MAX_STATES
from dvae.lab.functions import FunctionName, LogitsName, make_function, make_logits
from dvae.models import CategoricalVAE, DiscreteVAE
from dvae.scalars import check_count

__all__ = ["Problem", "first_images", "fresh_vae", "function_problem", "vae_problem"]


@dataclass(frozen=True, eq=False)
class Problem:
    """An expectation whose gradient is wanted.

    Attributes:
        title: What it is, for people.
        f: Takes codes ``(S, B, L, K)``, returns nats ``(S, B)``.
        logits: ``(B, L, K)``, without a gradient.
    """

    title: str
    f: Integrand
    logits: Tensor


def function_problem(
    function: FunctionName, logits: LogitsName, latents: int, codes: int, seed: int = 0
) -> Problem:
    """Take a test function at logits of one example.

    Args:
        function: See `make_function`.
        logits: See `make_logits`.
        latents: L, at least 1.
        codes: K, at least 2.
        seed: Seed of the function and the logits.

    Raises:
        ValueError: A value outside its range, or more codes than can be visited.
    """
    _check_size(latents, codes)
    return Problem(
        f"{function} f, {logits} logits, {latents} latents of {codes} categories",
        make_function(function, latents, codes, seed),
        make_logits(logits, latents, codes, seed + 1),
    )


def fresh_vae(latents: int, codes: int, seed: int = 0) -> CategoricalVAE:
    """Build the default model with a small code and untrained weights.

    Args:
        latents: L, at least 1.
        codes: K, at least 2.
        seed: Seed of the weights.

    Raises:
        ValueError: A value outside its range, or more codes than can be visited.
    """
    _check_size(latents, codes)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return CategoricalVAE(bottleneck=CategoricalBottleneck(latents, codes))


def vae_problem(model: DiscreteVAE, images: Tensor, title: str) -> Problem:
    r"""Take the reconstruction term :math:`E_q[\log p(x|z)]` of images, in evaluation mode.

    In training mode batch normalisation would couple the draws of a batch, and there would be no
    gradient of an example by itself.

    Args:
        model: Its encoder gives the logits, its decoder and likelihood f.
        images: Pixels in [0, 1], ``(B, C, H, W)``.
        title: For people.

    Raises:
        ValueError: The bottleneck is not categorical, or the images are of another shape.
    """
    bottleneck = model.bottleneck
    if not isinstance(bottleneck, CategoricalBottleneck):
        raise ValueError(f"the lab needs categorical latents; got {type(bottleneck).__name__}")
    model.check_image_shape(tuple(images.shape[1:]))
    model.eval()
    with torch.no_grad():
        logits = bottleneck(model.encoder(images)).logits
    target = model.likelihood.dequantize(images, model.evaluation.noise("pixels"))
    return Problem(
        f"{title}, {bottleneck.num_latents} latents of {bottleneck.num_codes} categories, "
        f"{len(images)} images",
        lambda codes: model.log_px(codes.flatten(2), target),
        logits,
    )


def first_images(count: int) -> Tensor:
    """Return the first training batch of the bundled MNIST, ``(count, 1, 28, 28)`` in [0, 1].

    Args:
        count: Images in the batch, at least 1.
    """
    data = MNIST(batch_size=count)
    return data.on_after_batch_transfer(next(iter(data.train_dataloader())), 0).image


def _check_size(latents: int, codes: int) -> None:
    check_count("latents", latents, 1)
    check_count("codes", codes, 2)
    # Compared as logarithms would be inexact, as powers of huge numbers slow: codes >= 2.
    if latents > 64 or codes**latents > MAX_STATES:
        raise ValueError(
            f"the exact gradient visits every code: {codes}^{latents} of them are above the limit "
            f"of {MAX_STATES}; take a model with fewer latents or categories"
        )
