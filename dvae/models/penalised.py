"""The ELBO less penalties of the reconstruction: no bound, and better to look at."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from dvae.bottlenecks.posterior import Posterior
from dvae.likelihoods import Likelihood
from dvae.models.objectives import ELBO, ObjectiveOutput
from dvae.penalties import Penalty
from dvae.priors.base import Prior

__all__ = ["Decoding", "PenalisedELBO"]


@dataclass(frozen=True)
class Decoding:
    """log p(x | z) of a batch as a function of z, and what penalties need beside it.

    Attributes:
        log_px: Codes ``(S, B, *z)`` and ``target`` to nats per example ``(S, B)``.
        decoder: Codes ``(S * B, *z)`` to the parameters of the likelihood.
        likelihood: Distribution of the image given them.
        image: Images as they are stored, pixels in [0, 1], ``(B, C, H, W)``.
        target: The same as the likelihood's `dequantize` gives them.
    """

    log_px: Callable[[Tensor, Tensor], Tensor]
    decoder: Callable[[Tensor], Tensor]
    likelihood: Likelihood
    image: Tensor
    target: Tensor

    def __call__(self, z: Tensor) -> Tensor:
        """Return log p(x | z), nats per example ``(S, B)``."""
        return self.log_px(z, self.target)

    def params(self, z: Tensor) -> Tensor:
        """Return the likelihood's parameters ``(S, B, P * C, H, W)``, in float32 or wider."""
        params: Tensor = self.decoder(z.flatten(0, 1)).unflatten(0, z.shape[:2])
        return params.to(torch.promote_types(params.dtype, torch.float32))


class PenalisedELBO(ELBO):
    r"""The ELBO less weighted penalties: :math:`E_q[\log p(x|z) - \sum_i w_i c_i(\hat x(z), x)]`.

    Here :math:`\hat x(z)` is the expected image of a code. The penalties are inside the
    expectation, so that every estimator trains them. It is no bound on log p(x): ``train/elbo`` is
    not logged, and what validation and test report as ``elbo`` is that of the likelihood alone.
    Each penalty before its weight is ``train/perceptual`` and so on, the loss of parameters of its
    own ``train/discriminator``. ``best.ckpt`` goes by the bound all the same, unless
    ``checkpoints.monitor`` names another metric. With weights of 0 it trains as the `ELBO` does, to
    the bit.

    Args:
        penalties: Terms beside the likelihood, of different classes.
        beta: Weight of the KL; see `ELBO`.
        samples: Estimates for each example; see `ELBO`.

    Raises:
        ValueError: Two penalties are of one class, or a value is out of its range; on a call, the
            function of codes is not the model's `Decoding`.
    """

    def __init__(self, penalties: Sequence[Penalty], beta: float = 1.0, samples: int = 1) -> None:
        super().__init__(beta, samples)
        names = [type(penalty).__name__.lower() for penalty in penalties]
        if len(set(names)) < len(names):
            raise ValueError(f"PenalisedELBO.penalties must be of different classes; got {names}")
        self.terms = nn.ModuleDict(dict(zip(names, penalties, strict=True)))

    def prepare(self, event_shape: tuple[int, ...]) -> None:
        """Let the penalties look at what they are to be trained with; see `Penalty.prepare`."""
        if len(event_shape) != 3:
            raise ValueError(f"penalties are of images; got events of shape {event_shape}")
        channels, height, width = event_shape
        for penalty in self._penalties().values():
            penalty.prepare((channels, height, width))

    def forward(
        self, log_px: Callable[[Tensor], Tensor], posterior: Posterior, prior: Prior
    ) -> ObjectiveOutput:
        """Evaluate the loss; see `Objective.forward`."""
        if not isinstance(log_px, Decoding):
            raise ValueError("PenalisedELBO needs the images too: call it with a Decoding")
        penalties = self._penalties()
        if all(penalty.is_idle for penalty in penalties.values()):
            out = super().forward(log_px, posterior, prior)
            return replace(out, bound=None, loss=out.loss + self._idle_loss())
        found = _Penalised(log_px, penalties)
        out = super().forward(found, posterior, prior)
        return ObjectiveOutput(
            out.loss + found.own_loss + self._idle_loss(), None, found.log_px, out.kl, found.logged
        )

    def _idle_loss(self) -> Tensor | float:
        return sum(p.idle_loss() for p in self._penalties().values() if p.is_idle)

    def _penalties(self) -> dict[str, Penalty]:
        return dict(self.terms.items())  # type: ignore[arg-type]


class _Penalised:
    """log p(x | z) less the penalties as a function of z, and what its first call found."""

    def __init__(self, decoding: Decoding, penalties: dict[str, Penalty]) -> None:
        self._decoding = decoding
        self._penalties = {name: p for name, p in penalties.items() if not p.is_idle}
        self.own_loss: Tensor | float = 0.0
        self.logged: dict[str, Tensor] = {}

    def __call__(self, z: Tensor) -> Tensor:
        decoding, first = self._decoding, not self.logged
        params = decoding.params(z)
        log_px = total = decoding.likelihood.log_prob(params, decoding.target)
        pictures = decoding.likelihood.mean(params)
        images = decoding.image.to(pictures.dtype).expand_as(pictures).flatten(0, 1)
        pictures = pictures.flatten(0, 1)
        values = {n: p(pictures, images).view_as(log_px) for n, p in self._penalties.items()}
        weighted = {n: p.weight * values[n] for n, p in self._penalties.items()}
        for name, penalty in self._penalties.items():
            value = values[name]
            rest = log_px - sum(part for other, part in weighted.items() if other != name)
            total = total - penalty.balance(rest, value, params) * weighted[name]
            if first:
                self.logged[name] = value.detach().mean()
                self._add_own(penalty, pictures.detach(), images)
        if first:
            self.log_px = log_px.detach().mean(0)
        return total

    def _add_own(self, penalty: Penalty, pictures: Tensor, images: Tensor) -> None:
        own = penalty.own_loss(pictures, images)
        if own is not None:
            # On a device the weight is not looked at, and may be 0.
            self.own_loss = self.own_loss + own * (penalty.weight > 0)
            self.logged["discriminator"] = own.detach()
