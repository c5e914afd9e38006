"""What training maximises: the ELBO with a weighted KL, or the m-sample bound."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor, nn

from dvae.bottlenecks.base import Bottleneck
from dvae.estimators.base import check_count
from dvae.functional import batch_mean
from dvae.scalars import Range, register_scalar

__all__ = ["ELBO", "IWAE", "Objective", "ObjectiveOutput"]


@dataclass(frozen=True)
class ObjectiveOutput:
    """The loss of a batch and its parts.

    Attributes:
        loss: What is minimised, nats per example averaged over the batch, ``()``.
        bound: The bound being trained at the codes of training, KL unweighted, ``(B,)``.
        log_px: log p(x | z) at the codes of training, ``(B,)``.
        kl: Exact KL to the prior, ``(B,)``.
    """

    loss: Tensor
    bound: Tensor
    log_px: Tensor
    kl: Tensor


class Objective(nn.Module, ABC):
    """A function of a batch that training minimises."""

    @abstractmethod
    def forward(
        self, log_px: Callable[[Tensor], Tensor], features: Tensor, bottleneck: Bottleneck
    ) -> ObjectiveOutput:
        """Evaluate the loss.

        Args:
            log_px: Takes decoder inputs ``(S, B, *code)``, returns nats per example ``(S, B)``.
            features: Encoder output of the batch.
            bottleneck: The posterior and prior, with the estimator of the gradient.
        """


class ELBO(Objective):
    r"""The evidence lower bound :math:`E_q[\log p(x|z)] - \beta\,\mathrm{KL}(q \| p)`.

    Args:
        beta: Weight of the KL, at least 0 (1 is the bound itself); a buffer that `Anneal` may
            move.
        samples: Estimates for each example whose mean is taken, each with draws of its own, at
            least 1. Neither the bound nor the bias of its gradient changes; the variance that
            comes from the draws falls as one over their number, and the decoder's work grows with
            it. The encoder is run once.

    Raises:
        ValueError: ``beta`` is negative, or ``samples`` below 1.

    References:
        D. Kingma, M. Welling, 2014, arXiv 1312.6114, eq. 3 and 7; I. Higgins et al., 2017 (beta).
    """

    beta: Tensor

    def __init__(self, beta: float = 1.0, samples: int = 1) -> None:
        super().__init__()
        register_scalar(self, "beta", beta, Range(0.0))
        check_count("ELBO.samples", samples, 1)
        self.samples = samples

    def forward(
        self, log_px: Callable[[Tensor], Tensor], features: Tensor, bottleneck: Bottleneck
    ) -> ObjectiveOutput:
        """Evaluate the loss; see `Objective.forward`."""
        if self.samples == 1:  # without the views of several, which are a hundredth of a step
            out = bottleneck.expectation(log_px, features)
            return self._output(out.value, out.kl, out.loss)
        copies = features.expand(self.samples, *features.shape).flatten(0, 1)

        def of_copies(code: Tensor) -> Tensor:
            # (S, m B) to (S m, B), so that each code meets its own example.
            pairs = (len(code) * self.samples, len(features))
            return log_px(code.reshape(*pairs, *code.shape[2:])).view(code.shape[:2])

        out = bottleneck.expectation(of_copies, copies)
        parts = (out.value, out.kl, out.loss)
        return self._output(*(x.view(self.samples, len(features)).mean(0) for x in parts))

    def _output(self, value: Tensor, kl: Tensor, extra: Tensor) -> ObjectiveOutput:
        loss = batch_mean(extra) - batch_mean(value - self.beta * kl)
        return ObjectiveOutput(loss, value - kl, value, kl)

    def extra_repr(self) -> str:
        """Name the settings."""
        return f"beta={self.beta.item():g}, samples={self.samples}"


class IWAE(Objective):
    r"""The bound :math:`E[\log \frac1m \sum_s p(x, z_s) / q(z_s | x)]` of m draws.

    With a relaxed code z, log q and log p are taken linear in z: between those of the categories
    it mixes. Pathwise estimators and `VIMCO` can optimise it. A bottleneck with an auxiliary loss
    (commitment, entropy) is refused: the bound has no place for it, and without it the code book
    would not be trained as its paper says.

    Args:
        samples: Draws m for each example, at least 1.

    Raises:
        ValueError: ``samples`` is below 1, or, on a call, the bottleneck has an auxiliary loss.

    References:
        Y. Burda, R. Grosse, R. Salakhutdinov, 2016, arXiv 1509.00519, eq. 8.
    """

    def __init__(self, samples: int = 5) -> None:
        super().__init__()
        check_count("IWAE.samples", samples, 1)
        self.samples = samples

    def forward(
        self, log_px: Callable[[Tensor], Tensor], features: Tensor, bottleneck: Bottleneck
    ) -> ObjectiveOutput:
        """Evaluate the loss; see `Objective.forward`."""
        if bottleneck.has_loss:
            raise ValueError(
                f"IWAE has no place for the auxiliary loss of {type(bottleneck).__name__}: train "
                "with ELBO, or take a bottleneck without one (its weight at 0 where it has one)"
            )
        seen: list[Tensor] = []

        def remembered(code: Tensor) -> Tensor:
            values = log_px(code)
            seen.append(values.detach())
            return values

        bound = bottleneck.bound(remembered, features, self.samples)
        kl = bottleneck.kl(features)
        return ObjectiveOutput(-batch_mean(bound), bound, seen[0].mean(0), kl)

    def extra_repr(self) -> str:
        """Name the settings."""
        return f"samples={self.samples}"
