"""What is reported: hard codes, bounds in their order, the same in every precision."""

import math
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback
from torch import Generator, Tensor, nn

from benchmarks.fuzz.laws import Broken
from dvae.bottlenecks import CategoricalBottleneck, GridBottleneck
from dvae.bottlenecks.base import Bottleneck
from dvae.models import DiscreteVAE
from dvae.models.evaluation import bounds, exact_log_px

__all__ = ["Judge"]

_DRAWS, _STATES, _CHUNK = 32, 100, 256
# Draws of which the KL is judged at once.
_EACH = 8
# E[exp(bound - log p)] = 1 for each image, so by Markov's inequality the sum over images is above
# by t with a chance of at most exp(-t): one in 50,000, as for all stochastic tests.
_MARKOV = math.log(50_000)
# Standard errors; as seldom.
_DEVIATIONS = 5.0
# Probability, of all images together, that so many draws of each miss as seldom; it adds no more to
# the KL than if all other integers shared it.
_UNSEEN = _MARKOV / (_DRAWS * _EACH)
# Of the sums of float32 over hundreds of pixels.
_ROUNDING = 1e-5
# Of half precision's networks at the same codes, relative to the bound; see `_check_precision`.
_HALF = 0.02


class Judge(Callback):
    """Look at a test from outside.

    Attributes:
        broken: The first law that did not hold.
        batches: Batches that were looked at.
    """

    def __init__(self) -> None:
        self.broken: Broken | None = None
        self.batches = 0
        self._codes: list[Tensor] = []
        self._hook: Any = None

    def on_test_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Note what the decoder is given."""
        assert isinstance(pl_module, DiscreteVAE)

        def note(module: nn.Module, args: tuple[Tensor, ...]) -> None:
            self._codes.append(args[0].detach())

        self._hook = pl_module.decoder.register_forward_pre_hook(note)

    def on_test_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Judge a batch, in the precision of the test."""
        assert isinstance(pl_module, DiscreteVAE)
        self.batches += 1
        codes, self._codes = self._codes, []
        try:
            with trainer.precision_plugin.forward_context():
                _check_hard(pl_module.bottleneck, codes)
                _check_bounds(pl_module, batch.image)
            _check_precision(trainer, pl_module, batch.image)
        except Broken as broken:
            self.broken = self.broken or broken
        self._codes = []

    def on_test_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Look no longer, and judge what is reported."""
        self._hook.remove()
        found = {name: float(value) for name, value in trainer.callback_metrics.items()}
        bad = [name for name, value in found.items() if not math.isfinite(value)]
        if bad:
            self.broken = self.broken or Broken("finite", f"{bad[0]} is {found[bad[0]]}")


def _check_hard(bottleneck: Bottleneck, codes: list[Tensor]) -> None:
    if not codes:
        raise Broken("hard codes", "the test decoded nothing")
    if isinstance(bottleneck, CategoricalBottleneck):
        for code in codes:
            split = code.unflatten(-1, bottleneck.counts_shape)
            if not ((split == 0) | (split == 1)).all() or not (split.sum(-1) == 1).all():
                raise Broken("hard codes", "the test decoded a code that is not one-hot")
        return
    assert isinstance(bottleneck, GridBottleneck)
    table = _vectors(bottleneck)
    for code in codes:
        rows = code.movedim(1, -1).flatten(0, -2).float()
        # Not by products, of which far from 0 the rounding is left.
        exact = "donot_use_mm_for_euclid_dist"
        distance = torch.cdist(rows, table.float(), compute_mode=exact)
        if distance.numel() and float(distance.amin(-1).max()) > 1e-3:
            raise Broken("hard codes", "the test decoded a vector that no code has")


def _vectors(bottleneck: GridBottleneck) -> Tensor:
    """Return all vectors that a position may have, ``(N, D)``: of a residual code, all sums."""
    depth = bottleneck.index_shape[2:]
    place = torch.arange(bottleneck.num_codes)
    index = torch.cartesian_prod(*[place] * depth[0]) if depth else place
    return bottleneck.embed(index.view(-1, 1, 1, *depth)).flatten(1)


def _check_bounds(model: DiscreteVAE, image: Tensor) -> None:
    bottleneck, likelihood = model.bottleneck, model.likelihood
    q = bottleneck(model.encoder(image), model.prior)
    target = likelihood.dequantize(image, Generator().manual_seed(1))
    found = bounds(target, q, q.sample(_DRAWS, Generator().manual_seed(2)), model, _CHUNK)
    for name in ("log_px", "elbo", "iwae"):
        value = getattr(found, name)
        if value.dtype not in (torch.float32, torch.float64) or not value.isfinite().all():
            raise Broken("bounds", f"the {name} of the test is {value.dtype} {value}")
    ratios, kls, noise = list[Tensor](), list[Tensor](), Generator().manual_seed(3)
    for _ in range(_DRAWS):
        # A few at a time: the KL of a residual code, and of a prior without a closed one, is drawn
        # too, at the same draws. Their difference may vary more than either.
        index = q.sample(_EACH, noise)
        ratios.append((q.log_prob(index) - model.prior.log_prob(index)).double().mean(0))
        kls.append((model.prior.closed_kl(q) + model.prior.open_kl(index)).double())
    ratio, kl = torch.stack(ratios), torch.stack(kls)
    error = ((ratio - kl).var(0) / _DRAWS).sum().sqrt()
    scale = _ROUNDING * float(found.log_px.abs().sum() + kl.mean(0).sum())
    others = index[0].numel() * (bottleneck.num_codes - 1)
    unseen = _UNSEEN * (1 + math.log(max(others, 1) / _UNSEEN))
    slack = _DEVIATIONS * float(error) + scale + unseen
    if float((ratio - kl).mean(0).sum().abs()) > slack:
        raise Broken(
            "bounds", f"the KL {kl.mean():.4f} is not that of the draws {ratio.mean():.4f}"
        )
    # log E w >= E log w; the ELBO has the exact KL where the other has that of its draws.
    excess = float((found.elbo - found.iwae).double().sum())
    if excess > slack:
        raise Broken(
            "bounds", f"the ELBO is {excess / len(image):.4f} above the bound of its draws"
        )
    states = bottleneck.num_states
    if states is not None and states <= _STATES:
        _check_exact(model, target, found.iwae, scale)


def _check_exact(model: DiscreteVAE, target: Tensor, iwae: Tensor, scale: float) -> None:
    bottleneck = model.bottleneck
    count = bottleneck.num_states or 0
    exact = exact_log_px(target, model, _CHUNK).double()
    index = bottleneck.states(0, count)
    code = bottleneck.embed(index).unsqueeze(1).expand(-1, len(target), *[-1] * _axes(bottleneck))
    joint = model.log_px(code, target).double() + model.prior.log_prob(index).double().unsqueeze(1)
    counted = joint.logsumexp(0)
    apart = float((exact - counted).abs().sum())
    if apart > scale:
        raise Broken("exact likelihood", f"{apart / len(target):.4f} nats from the sum over codes")
    excess = float((iwae.double() - counted).sum())
    if excess > _MARKOV + scale:
        raise Broken("bounds", f"the bound of draws is {excess:.2f} nats above log p(x) in all")


def _axes(bottleneck: Bottleneck) -> int:
    return 1 if isinstance(bottleneck, CategoricalBottleneck) else 3


def _check_precision(trainer: pl.Trainer, model: DiscreteVAE, image: Tensor) -> None:
    """Compare with float32 at the same codes: half precision rounds what the networks give."""
    if not trainer.precision.endswith("mixed"):
        return
    q = model.bottleneck(model.encoder(image), model.prior)
    index = q.sample(1, Generator().manual_seed(4))
    code = model.bottleneck.embed(index)
    target = model.likelihood.dequantize(image, Generator().manual_seed(1))
    plain = model.log_px(code, target).squeeze(0)
    kl = model.prior.closed_kl(q) + model.prior.open_kl(index)
    with trainer.precision_plugin.forward_context():
        mixed = model.log_px(code, target).squeeze(0)
        mixed_q = model.bottleneck(model.encoder(image), model.prior)
        mixed_kl = model.prior.closed_kl(mixed_q) + model.prior.open_kl(index)
    apart = float((mixed - mixed_kl - plain + kl).mean().abs())
    allowed = _HALF * float((plain - kl).mean().abs()) + 0.5
    if apart > allowed:
        raise Broken(
            "precision", f"the bound is {apart:.3f} nats from float32's, at most {allowed:.3f}"
        )
