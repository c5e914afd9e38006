"""What an estimator is: it owns the gradient across one categorical draw."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Generator, Tensor, nn

from dvae.described import Described
from dvae.devices import is_waited_for
from dvae.estimators.about import About
from dvae.estimators.noise import exponential_noise, gumbel_noise_like, uniform_noise
from dvae.functional import iwae_bound, one_hot_like
from dvae.scalars import Range, check_count, settings_of

__all__ = [
    "TEMPERATURE",
    "About",
    "Draw",
    "Estimator",
    "Integrand",
    "PathwiseEstimator",
    "check_draw",
    "check_logits",
    "check_top",
    "draw_index",
    "exponential_noise",
    "gumbel_noise_like",
    "refuse_as_layer",
    "uniform_noise",
]

TEMPERATURE = Range(0.0, low_allowed=False)

Integrand = Callable[[Tensor], Tensor]
"""The f of an expectation: codes ``(S, B, ..., K)`` to values ``(S, B)``."""


@dataclass(frozen=True)
class Draw:
    """A categorical draw; to `torch.func` and `torch.export` a pair of tensors.

    Attributes:
        code: What goes on forward, with the gradient, ``(..., K)``; the axis of the categories
            is where the caller has it.
        index: The category drawn, integers ``(...)``.
    """

    code: Tensor
    index: Tensor


torch.export.register_dataclass(Draw)


def check_logits(logits: Tensor) -> Tensor:
    """Refuse logits that no categorical has, and lift half precision to float32.

    Args:
        logits: ``(..., K)``.

    Returns:
        The logits in float32 or float64.

    Raises:
        ValueError: They are not floating-point, or K < 2.
    """
    if logits.dim() == 0 or logits.shape[-1] < 2:
        got = "a scalar" if logits.dim() == 0 else logits.shape[-1]
        raise ValueError(f"a categorical needs at least 2 categories (K >= 2); got {got}")
    if not logits.is_floating_point():
        raise ValueError(f"logits must be floating-point; got {logits.dtype}")
    return logits if logits.dtype in (torch.float32, torch.float64) else logits.float()


def check_draw(scores: Tensor, index: Tensor) -> None:
    """Refuse a draw whose winning score is not finite: all categories masked, NaN or +inf.

    It costs a look at one score for each draw. On an accelerator a look would wait for the
    device, and an assertion there would end everything on it: the draw goes on with a valid
    index, the NaN reaches KL and loss, and `NonFinite` reports it. Inside `torch.compile` the
    check is left out.

    Args:
        scores: What the index is the arg-max of, ``(..., K)``.
        index: ``(...)``.

    Raises:
        ValueError: On CPU.
    """
    check_top(scores.detach().gather(-1, index.unsqueeze(-1)))


def check_top(top: Tensor) -> None:
    """Refuse draws as `check_draw` does, given their winning scores.

    Args:
        top: The largest score of each draw, any shape.

    Raises:
        ValueError: On CPU.
    """
    if torch.compiler.is_compiling() or is_waited_for(top):
        return
    try:
        finite = bool(top.detach().isfinite().all())
    except RuntimeError:
        # Under `torch.func.vmap` a tensor has no one truth.
        _Look.apply(top.detach())
        return
    if not finite:
        raise _no_maximum()


def _no_maximum() -> ValueError:
    return ValueError(
        "logits must have a finite maximum in every row; got a row with NaN, +inf, or every "
        "category masked (-inf)"
    )


class _Look(torch.autograd.Function):
    """Look at scores where they have numbers, beneath the transforms of `torch.func`."""

    @staticmethod
    def forward(top: Tensor) -> Tensor:
        if not top.isfinite().all():
            raise _no_maximum()
        return top.new_empty(0)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        pass

    @staticmethod
    def vmap(info: Any, in_dims: Any, top: Tensor) -> tuple[Tensor, None]:
        return _Look.apply(top), None


def draw_index(theta: Tensor, generator: Generator | None = None) -> Tensor:
    """Draw a category from checked logits by Gumbel-max; see `check_draw` for what it refuses.

    Args:
        theta: Logits ``(..., K)`` in float32 or float64, from `check_logits`.
        generator: Source of the noise; the global generator by default.

    Returns:
        Integers ``(...)``.
    """
    top, index = gumbel_noise_like(theta, generator).add_(theta.detach()).max(-1)
    check_top(top)
    return index


class Estimator(Described, nn.Module, ABC):
    """An estimate of the gradient of an expectation under categoricals.

    Attributes:
        about: What tables, benchmarks and the gradient lab need to know of the class.
    """

    about: ClassVar[About] = About()

    def extra_repr(self) -> str:
        """Name the settings."""
        return settings_of(self)

    @abstractmethod
    def expectation(
        self, f: Integrand, logits: Tensor, generator: Generator | None = None
    ) -> Tensor:
        """Estimate the expectation of f under independent categoricals.

        It always draws, in training and in evaluation mode.

        Args:
            f: Takes codes with a leading sample axis ``(S, B, ..., K)``, returns ``(S, B)``.
            logits: Unnormalised log-probabilities ``(B, ..., K)``; ``-inf`` forbids a category.
            generator: Source of the noise; the global generator by default.

        Returns:
            The estimate for each example, ``(B,)``. Its gradient in the logits is the
            estimator's, that in f's own parameters the plain one.
        """

    def bound(
        self, f: Integrand, logits: Tensor, samples: int, generator: Generator | None = None
    ) -> Tensor:
        r"""Estimate the m-sample bound :math:`\log \frac1m \sum_s \exp f(z_s)`.

        Args:
            f: Takes codes ``(S, B, ..., K)``, returns log-weights ``(S, B)`` in nats. It may
                depend on the logits through log q: that gradient is kept.
            logits: Unnormalised log-probabilities ``(B, ..., K)``; ``-inf`` forbids a category.
            samples: Draws m for each example.
            generator: Source of the noise; the global generator by default.

        Returns:
            Nats per example, ``(B,)``, with the estimator's gradient in the logits.

        Raises:
            ValueError: The estimator is one of single-sample expectations only.

        References:
            Y. Burda, R. Grosse, R. Salakhutdinov, 2016, arXiv 1509.00519, eq. 8.
        """
        raise ValueError(
            f"{type(self).__name__} estimates single-sample expectations only; for a bound of "
            f"samples={samples} draws use VIMCO or a pathwise estimator such as GumbelSoftmax"
        )


class PathwiseEstimator(Estimator):
    """An estimator that needs no f: a layer that draws a code and passes a gradient through it.

    It is one under the transforms of `torch.func` and in `torch.export` too, with first
    derivatives; `vmap` wants ``randomness="different"`` for a layer in training.
    """

    @abstractmethod
    def sample(self, logits: Tensor, generator: Generator | None = None) -> Draw:
        """Draw a code, in training and in evaluation mode alike.

        Args:
            logits: Unnormalised log-probabilities ``(..., K)``; ``-inf`` forbids a category.
            generator: Source of the noise; the global generator by default.

        Returns:
            The draw, its code in the dtype of the logits.

        Raises:
            ValueError: K < 2, or a row without a finite maximum.
        """

    def forward(self, logits: Tensor, dim: int = -1) -> Draw:
        """Draw in training mode; in evaluation mode take the arg-max, one-hot, without noise.

        Args:
            logits: Unnormalised log-probabilities of any shape; ``-inf`` forbids a category.
            dim: The axis of the categories.

        Returns:
            The draw; its code has the shape and the dtype of the logits. In evaluation mode it
            carries no gradient.

        Raises:
            ValueError: K < 2, or a row without a finite maximum.
        """
        last = logits.movedim(dim, -1) if logits.dim() else logits
        draw = self.sample(last) if self.training else _mode(last)
        return draw if last is logits else Draw(draw.code.movedim(-1, dim), draw.index)

    def expectation(
        self, f: Integrand, logits: Tensor, generator: Generator | None = None
    ) -> Tensor:
        """Evaluate f at one draw; see `Estimator.expectation`."""
        return f(self.sample(logits, generator).code.unsqueeze(0)).squeeze(0)

    def bound(
        self, f: Integrand, logits: Tensor, samples: int, generator: Generator | None = None
    ) -> Tensor:
        """Evaluate f at all draws in one call; see `Estimator.bound`."""
        check_count("samples", samples, 1)
        copies = logits.unsqueeze(0).expand(samples, *logits.shape)
        return iwae_bound(f(self.sample(copies, generator).code))


def _mode(logits: Tensor) -> Draw:
    check_logits(logits)
    index = logits.argmax(-1)
    check_draw(logits, index)
    return Draw(one_hot_like(logits, index), index)


def refuse_as_layer(estimator: Estimator, x: Tensor) -> None:
    """Refuse a draw as of a layer where that needs the gradient of an estimator without one.

    Args:
        estimator: An estimator that is not pathwise.
        x: What the draw depends on.

    Raises:
        TypeError: See above.
    """
    if torch.is_grad_enabled() and x.requires_grad:
        raise TypeError(
            f"{type(estimator).__name__} gives a gradient only through expectation(f, ...), not as "
            "a layer"
        )
