"""How good the gradient of a model's estimator is: its variance, and its bias against the truth."""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Generator, Tensor, nn

from dvae.estimators import RLOO, Estimator, ExactEnumeration
from dvae.models.base import DiscreteVAE
from dvae.priors import FactorisedPrior

__all__ = ["RLOO_GROUP", "GradientQuality", "gradient_quality"]

RLOO_GROUP = 64
"""Draws of one RLOO estimate: the reference is the mean of several, so that its noise is known."""

# Codes that the decoder sees at once: bounds the memory, however many are drawn or enumerated.
_CODES = 4096


@dataclass(frozen=True)
class GradientQuality:
    """How far one draw's gradient in the encoder's parameters is from the true one.

    The gradient is that of E_q[log p(x|z)], nats per example, averaged over the images probed; with
    a prior whose KL has no closed form, that of E_q[log p(x|z) + beta log p(z)].

    Attributes:
        reference: What stands for the truth: ``enumeration``, or ``rloo`` with many draws.
        variance: Trace of the covariance over draws, squared unit of the gradient, at least 0.
        bias: Norm of the mean's distance to the reference, in the unit of the gradient. The
            noise of both means is taken off its square, which is therefore unbiased and may fall
            below 0: then the bias is minus the root of its magnitude, and cannot be told from 0.
        relative_bias: ``bias`` over the norm of the reference.
        cosine: Cosine between one draw's gradient and the reference, averaged over draws; a noisy
            reference lowers it.
    """

    reference: Literal["enumeration", "rloo"]
    variance: float
    bias: float
    relative_bias: float
    cosine: float

    def metrics(self) -> dict[str, float]:
        """Return the values under the names they are logged by; what is relative names to what."""
        return {
            "probe/variance": self.variance,
            f"probe/bias_vs_{self.reference}": self.bias,
            f"probe/relative_bias_vs_{self.reference}": self.relative_bias,
            f"probe/cosine_vs_{self.reference}": self.cosine,
        }


def gradient_quality(
    model: DiscreteVAE,
    image: Tensor,
    draws: int = 64,
    max_states: int = 2**12,
    reference_draws: int = 2048,
) -> GradientQuality:
    """Compare repeated draws of the encoder's gradient with the truth; change nothing in the model.

    Norms run on their running statistics, so that the images do not mix. The noise is that of the
    model's evaluation, and the noise of the pixels, where they have some, the same in all draws.

    Args:
        model: Some of its encoder's parameters are trained.
        image: Pixels in [0, 1], ``(B, C, H, W)``.
        draws: Gradients of which the variance is taken, at least 2.
        max_states: Enumerate where an image has at most so many codes; 0 for never.
        reference_draws: Draws of the RLOO reference for each image, at least twice `RLOO_GROUP`
            and rounded down to a multiple of it.
    """
    generator = model.evaluation.noise("codes", image.device)
    target = model.likelihood.dequantize(image, model.evaluation.noise("pixels", image.device))
    parameters = [p for p in model.encoder.parameters() if p.requires_grad]
    states = model.bottleneck.num_states
    exact = states is not None and states <= max_states
    drawn, reference, cosines = _Moments(), _Moments(), []
    with model._evaluating(), torch.enable_grad():
        features = model.encoder(image)

        def in_parameters(gradient: Tensor) -> Tensor:
            return _pull_back(features, parameters, gradient / len(image))

        if states is not None and exact:
            enumeration = ExactEnumeration(max(states, 2))
            truth = _estimates(model, target, features, enumeration, states, 1, generator)
        else:
            rloo, repeats = RLOO(RLOO_GROUP), reference_draws // RLOO_GROUP
            truth = _estimates(model, target, features, rloo, RLOO_GROUP, repeats, generator)
        for gradient in truth:
            reference.add(in_parameters(gradient))
        for gradient in _repeated(model, target, features, draws, generator):
            flat = in_parameters(gradient)
            drawn.add(flat)
            cosines.append(F.cosine_similarity(flat, reference.mean, dim=0))
    distance = (drawn.mean - reference.mean).square().sum()
    square = float(distance - drawn.noise - reference.noise)
    bias = math.copysign(math.sqrt(abs(square)), square)
    return GradientQuality(
        reference="enumeration" if exact else "rloo",
        variance=float(drawn.variance),
        bias=bias,
        relative_bias=bias / max(float(reference.mean.norm()), torch.finfo().tiny),
        cosine=float(torch.stack(cosines).mean()),
    )


class _Moments:
    """Mean and total variance of vectors, without keeping them (Welford's recurrence)."""

    def __init__(self) -> None:
        self.count = 0
        self.mean = torch.zeros(())
        self._squares = torch.zeros(())

    def add(self, vector: Tensor) -> None:
        """Take in one more."""
        self.count += 1
        before = vector - self.mean
        self.mean = self.mean + before / self.count
        self._squares = self._squares + before.dot(vector - self.mean)

    @property
    def variance(self) -> Tensor:
        """Trace of the covariance, unbiased; 0 of a single vector, which is taken to be exact."""
        return self._squares / max(self.count - 1, 1)

    @property
    def noise(self) -> Tensor:
        """Expected squared distance of the mean to what it estimates."""
        return self.variance / self.count


def _gradient(
    model: DiscreteVAE,
    f: Callable[[Tensor], Tensor],
    features: Tensor,
    generator: Generator,
    estimator: Estimator | None = None,
) -> Tensor:
    """Draw the gradient of each example's E_q[f + beta log p(z)] in its features.

    Without log p(z) where the KL has a closed form: the gradient of that is exact.
    """
    leaf = features.detach().requires_grad_()
    q, prior = model.bottleneck(leaf), model.prior
    beta = getattr(model.objective, "beta", 1.0)

    def joint(z: Tensor, code: Tensor) -> Tensor:
        if isinstance(prior, FactorisedPrior):
            return f(z)
        with torch.set_grad_enabled(estimator is None):  # see `_estimates`
            return f(z) + beta * prior.log_prob(code)

    value = q.expectation(joint, generator, estimator)
    (gradient,) = torch.autograd.grad(value.sum(), leaf)
    return gradient


def _repeated(
    model: DiscreteVAE, image: Tensor, features: Tensor, count: int, generator: Generator
) -> Iterator[Tensor]:
    """Draw gradients as the model's own estimator does, ``count`` of the shape of the features."""
    at_once = 1
    while count:
        copies = min(at_once, count)
        images = image.repeat(copies, *[1] * (image.dim() - 1))
        decoded = 0

        def f(code: Tensor, images: Tensor = images) -> Tensor:
            nonlocal decoded
            decoded += code.shape[0] * code.shape[1]
            return model.log_px(code, images)

        leaves = features.detach().repeat(copies, *[1] * (features.dim() - 1))
        yield from _gradient(model, f, leaves, generator).unflatten(0, (copies, -1))
        count -= copies
        # How often an estimator evaluates f is its own affair: see it once, then fill the memory.
        at_once = max(1, _CODES * copies // max(decoded, 1))


def _estimates(
    model: DiscreteVAE,
    image: Tensor,
    features: Tensor,
    estimator: Estimator,
    codes: int,
    repeats: int,
    generator: Generator,
) -> Iterator[Tensor]:
    """Estimate the true gradient by an unbiased estimator that does not differentiate f."""
    rows = max(1, _CODES // codes)
    parts = list(zip(image.split(rows), features.detach().split(rows), strict=True))
    for _ in range(repeats):
        gradients = []
        for x, h in parts:
            f = torch.no_grad()(lambda z, x=x: model.log_px(z, x))
            gradients.append(_gradient(model, f, h, generator, estimator))
        yield torch.cat(gradients)


def _pull_back(features: Tensor, parameters: list[nn.Parameter], gradient: Tensor) -> Tensor:
    """Turn a gradient in the features into one in the parameters, flat, without any ``.grad``."""
    gradients = torch.autograd.grad(
        features, parameters, gradient, retain_graph=True, materialize_grads=True
    )
    return torch.cat([g.flatten().float() for g in gradients])
