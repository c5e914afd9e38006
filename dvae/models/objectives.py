"""What training maximises: the ELBO with a weighted KL, the m-sample bound, or the prior alone."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import Generator, Tensor, nn

from dvae.bottlenecks.posterior import Posterior
from dvae.described import Described
from dvae.functional import batch_mean
from dvae.priors.base import FactorisedPrior, Prior
from dvae.scalars import Range, check_count, register_scalar, settings_of

__all__ = [
    "ELBO",
    "IWAE",
    "ELBOTerms",
    "Objective",
    "ObjectiveOutput",
    "PriorLikelihood",
    "elbo_terms",
]


@dataclass(frozen=True)
class ObjectiveOutput:
    """The loss of a batch and its parts.

    Attributes:
        loss: What is minimised, nats per example averaged over the batch, ``()``.
        bound: The bound being trained at the codes of training, KL unweighted, ``(B,)``; ``None``
            of what is not a bound.
        log_px: log p(x | z) at the codes of training, ``(B,)``; ``None`` where nothing is decoded.
        kl: KL to the prior, exact or at the codes of training, ``(B,)``.
        terms: What else is logged, by name, each ``()``, without a gradient.
    """

    loss: Tensor
    bound: Tensor | None
    log_px: Tensor | None
    kl: Tensor
    terms: Mapping[str, Tensor] = field(default_factory=dict)


class Objective(Described, nn.Module, ABC):
    """A function of a batch that training minimises.

    Attributes:
        prior_alone: Whether nothing but the prior is trained; encoder and bottleneck are then as in
            evaluation, whatever they follow in training.
        suffix: What names of metrics end in that are of the codes trained on: ``_mode`` of arg-max
            codes.
    """

    prior_alone: bool = False
    suffix: str = ""

    def __init__(self) -> None:
        super().__init__()
        self.register_forward_pre_hook(_refuse_features)

    def extra_repr(self) -> str:
        """Name the settings."""
        return settings_of(self)

    def prepare(self, event_shape: tuple[int, ...]) -> None:
        """Refuse what cannot be trained with, before training starts.

        Args:
            event_shape: Channels, height and width of images; the shape of other events.
        """

    @abstractmethod
    def forward(
        self, log_px: Callable[[Tensor], Tensor], posterior: Posterior, prior: Prior
    ) -> ObjectiveOutput:
        """Evaluate the loss.

        Args:
            log_px: Takes decoder inputs ``(S, B, *z)``, returns nats per example ``(S, B)``.
            posterior: q of the batch, with the estimator of the gradient.
            prior: p of the codes.
        """


@dataclass(frozen=True)
class ELBOTerms:
    r"""The bound :math:`E_q[\log p(x|z) + \beta \log p(z)] + \beta H(q)` term by term.

    Attributes:
        value: Estimate of the expectation, ``(B,)``, with the estimator's gradient; without the
            prior where the KL has a closed form.
        closed_kl: What of the KL is not in the value: all of it, or minus the entropy, ``(B,)``.
        log_px: log p(x | z) at the draws, ``(B,)``.
        kl: KL to the prior, exact or at the draws, ``(B,)``.
    """

    value: Tensor
    closed_kl: Tensor
    log_px: Tensor
    kl: Tensor


def elbo_terms(
    log_px: Callable[[Tensor], Tensor],
    posterior: Posterior,
    prior: Prior,
    beta: Tensor | float = 1.0,
    generator: Generator | None = None,
) -> ELBOTerms:
    """Estimate the terms of the bound, the prior inside the expectation where it has to be.

    Args:
        log_px: Takes decoder inputs ``(S, B, *z)``, returns nats per example ``(S, B)``.
        posterior: q of a batch.
        prior: p of the codes.
        beta: Weight of the KL.
        generator: Source of the noise; the global one by default.
    """
    if isinstance(prior, FactorisedPrior):
        value = posterior.expectation(lambda z, _: log_px(z), generator)
        kl = prior.closed_kl(posterior)
        return ELBOTerms(value, kl, value, kl)
    likelihood, log_p = _FirstValues(log_px), _FirstValues(prior.log_prob)
    value = posterior.expectation(lambda z, code: likelihood(z) + beta * log_p(code), generator)
    closed = prior.closed_kl(posterior)
    return ELBOTerms(value, closed, likelihood.mean, closed - log_p.mean)


class _FirstValues:
    """A function whose first values are remembered, without their gradient."""

    def __init__(self, f: Callable[[Tensor], Tensor]) -> None:
        self._f = f
        self._first: Tensor | None = None

    def __call__(self, x: Tensor) -> Tensor:
        values = self._f(x)
        self._first = values.detach() if self._first is None else self._first
        return values

    @property
    def mean(self) -> Tensor:
        """Mean over the draws of the first call, ``(B,)``."""
        assert self._first is not None
        return self._first.mean(0)


def _refuse_features(module: nn.Module, args: tuple[Any, ...]) -> None:
    # What it took before 2026-11-27.
    if len(args) > 1 and isinstance(args[1], Tensor):
        raise ValueError(
            f"{type(module).__name__} takes a posterior and a prior: q = model.bottleneck("
            "features, model.prior), then objective(log_px, q, model.prior)"
        )


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
        self, log_px: Callable[[Tensor], Tensor], posterior: Posterior, prior: Prior
    ) -> ObjectiveOutput:
        """Evaluate the loss; see `Objective.forward`."""
        if self.samples == 1:  # without the views of several, which are a hundredth of a step
            return self._output(elbo_terms(log_px, posterior, prior, self.beta), posterior.loss)
        copies = posterior.copies(self.samples)

        def of_copies(z: Tensor) -> Tensor:
            # (S, m B) to (S m, B), so that each code meets its own example.
            pairs = (z.shape[0] * self.samples, z.shape[1] // self.samples)
            return log_px(z.reshape(*pairs, *z.shape[2:])).view(z.shape[:2])

        found = elbo_terms(of_copies, copies, prior, self.beta)
        means = [getattr(found, name) for name in ("value", "closed_kl", "log_px", "kl")]
        means = [x.view(self.samples, -1).mean(0) for x in means]
        return self._output(ELBOTerms(*means), posterior.loss)

    def _output(self, found: ELBOTerms, extra: Tensor | None) -> ObjectiveOutput:
        loss = -batch_mean(found.value - self.beta * found.closed_kl)
        loss = loss if extra is None else batch_mean(extra) + loss
        return ObjectiveOutput(loss, found.log_px - found.kl, found.log_px, found.kl)


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
        self, log_px: Callable[[Tensor], Tensor], posterior: Posterior, prior: Prior
    ) -> ObjectiveOutput:
        """Evaluate the loss; see `Objective.forward`."""
        if posterior.loss is not None:
            raise ValueError(
                "IWAE has no place for the bottleneck's auxiliary loss: train with ELBO, or take a "
                "bottleneck without one (its weight at 0 where it has one)"
            )
        likelihood, log_p = _FirstValues(log_px), _FirstValues(prior.log_prob)
        bound = posterior.bound(lambda z, code: likelihood(z) + log_p(code), self.samples)
        kl = prior.closed_kl(posterior)
        if not isinstance(prior, FactorisedPrior):
            kl = kl - log_p.mean
        # The mean of exp of an estimate is above exp of what is estimated.
        shown = None if prior.estimates else bound
        return ObjectiveOutput(-batch_mean(bound), shown, likelihood.mean, kl)


class PriorLikelihood(Objective):
    r"""Only :math:`E_q[\log p(z)]`, for a prior that is trained after the model; decodes nothing.

    It is the prior's part of the ELBO, and not a bound on log p(x). The model stays as it is.

    Args:
        codes: ``draws`` from q, or its ``mode``: the arg-max codes, whose distribution is another
            one, for those who use nothing but `encode`.

    Raises:
        ValueError: ``codes`` is neither, or, on a call, the prior has nothing to learn.
    """

    prior_alone = True

    def __init__(self, codes: Literal["draws", "mode"] = "draws") -> None:
        super().__init__()
        if codes not in ("draws", "mode"):
            raise ValueError(f"PriorLikelihood.codes must be draws or mode; got {codes!r}")
        self.codes = codes
        self.suffix = "_mode" if codes == "mode" else ""

    def forward(
        self, log_px: Callable[[Tensor], Tensor], posterior: Posterior, prior: Prior
    ) -> ObjectiveOutput:
        """Evaluate the loss; see `Objective.forward`."""
        with torch.no_grad():
            index = posterior.sample(1)[0] if self.codes == "draws" else posterior.mode()
        log_p = prior.log_prob(index)
        # Asked of what it says: a prior given labels has the weights of another.
        if torch.is_grad_enabled() and not log_p.requires_grad:
            raise ValueError(
                f"PriorLikelihood trains model.prior, and {type(prior).__name__} has nothing to "
                "learn: take CategoricalPrior without probs, MADEPrior, AutoregressivePrior or "
                "MaskedPrior, and do not freeze it"
            )
        kl = -posterior.entropy().detach() - log_p
        return ObjectiveOutput(-batch_mean(log_p), None, None, kl)
