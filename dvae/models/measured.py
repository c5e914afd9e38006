"""What validation and test measure of a model, at codes drawn exactly from q."""

import math
from collections.abc import Mapping
from functools import partial
from typing import Any

import torch
from torch import Generator, Tensor

from dvae.bottlenecks.posterior import Posterior
from dvae.data.batch import CodeBatch, as_batch
from dvae.devices import is_waited_for
from dvae.functional import batch_mean
from dvae.likelihoods import LEVELS
from dvae.metrics import CodebookUsage, EventQuality, ImageQuality
from dvae.models.codec import Codec
from dvae.models.evaluation import Evaluation, bounds, exact_log_px
from dvae.models.objectives import Objective, elbo_terms
from dvae.priors.base import Prior, refuse_label
from dvae.priors.uniform import UniformPrior

__all__ = ["Measured"]


class Measured(Codec):
    """The steps of validation and test.

    Attributes:
        evaluation: How much work the test puts into its bounds.
        objective: What training maximises.
        code_usage: Counts of the codes in use.
        image_quality: What else is measured of reconstructions; a model whose likelihood says
            little to the eye sets it.
    """

    evaluation: Evaluation
    objective: Objective
    code_usage: CodebookUsage
    image_quality: ImageQuality | EventQuality | None

    def __init__(self) -> None:
        super().__init__()
        self.image_quality = None
        # Made anew at the start of each evaluation, so that evaluating twice agrees.
        self._exact_noise = self._relaxed_noise = self._pixel_noise = Generator()

    def prior_of(self, batch: Any) -> Prior:
        """Return the prior of a batch's codes, given its labels where the prior knows classes.

        Args:
            batch: See `dvae.data.batch.as_batch`.

        Raises:
            ValueError: The prior knows classes and the batch has no labels, or (on a CPU) others.
        """
        if not self.prior.num_classes:
            return self.prior
        codes = isinstance(batch, CodeBatch)
        label = batch.label if codes else as_batch(batch, self.event_shape).label
        if label is None:
            raise ValueError(
                f"{type(self.prior).__name__} knows {self.prior.num_classes} classes and the batch "
                "has no labels: leave num_classes out, or choose other data"
            )
        label = label.long()
        if not is_waited_for(label):
            refuse_label(self.prior, label)
        return self.prior.given(label.to(self.device))

    def check_classes(self, data: Any) -> None:
        """Compare the classes of the data with those that the prior knows, if it knows any.

        Args:
            data: The data module, if there is one.

        Raises:
            ValueError: The data has none, or more.
        """
        known, name = self.prior.num_classes, type(self.prior).__name__
        if not known or data is None:
            return
        if not getattr(data, "labelled", True):
            raise ValueError(
                f"{name} knows {known} classes and the data has none: leave num_classes out"
            )
        count = getattr(data, "num_classes", None)
        if count is not None and count > known:
            raise ValueError(f"the data has {count} classes and {name}.num_classes is {known}")

    def log_px(self, code: Tensor, image: Tensor) -> Tensor:
        """Log-likelihood of images given codes.

        Args:
            code: Decoder inputs ``(S, B, *z)``.
            image: Pixels in [0, 1] as the likelihood's `dequantize` gives them, ``(B, C, H, W)``.

        Returns:
            Nats per example, ``(S, B)``.
        """
        params = self.decoder(code.flatten(0, 1)).unflatten(0, code.shape[:2])
        return self.likelihood.log_prob(params, image)  # where mixed precision ends

    def on_validation_epoch_start(self) -> None:
        """Seed the noise and clear the counts."""
        noise = partial(self.evaluation.noise, device=self.device, rank=self.global_rank)
        self._exact_noise, self._relaxed_noise = noise("codes"), noise("codes")
        self._pixel_noise = noise("pixels")
        self.code_usage.reset()
        if self.image_quality is not None:
            self.image_quality.reset()

    on_test_epoch_start = on_validation_epoch_start

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        """Measure the bound at exact draws and, beside it, the relaxed objective."""
        image = self.images_of(batch, check=batch_idx == 0)
        q = self.bottleneck(self.encoder(image), self.prior)
        target = self.likelihood.dequantize(image, self._pixel_noise)
        index = q.sample(1, self._exact_noise)
        log_px = self.log_px(self.bottleneck.embed(index), target).squeeze(0)
        # The same noise as the exact draws: an estimator whose code is hard has a gap of 0.
        relaxed = elbo_terms(
            lambda z: self.log_px(z, target), q, self.prior, generator=self._relaxed_noise
        )
        open_kl = self.prior.open_kl(index)
        kl = relaxed.closed_kl + open_kl
        elbo, elbo_relaxed = log_px - kl, relaxed.value - relaxed.closed_kl
        self._measure_mode(q, image)
        self._measure_prior("val", batch, q, index, log_px, open_kl)
        self._log_means(
            {
                "val/elbo": elbo,
                "val/kl": kl,
                "val/reconstruction": -log_px,
                "val/elbo_relaxed": elbo_relaxed,
                "val/relaxation_gap": elbo_relaxed - elbo,
            },
            progress_bar="val/elbo",
        )

    def on_validation_epoch_end(self) -> None:
        """Reduce the counts of the whole epoch."""
        self._log_usage("val")

    def test_step(self, batch: Any, batch_idx: int) -> None:
        """Measure the bounds at many exact draws and, where it can be counted, log p(x)."""
        image = self.images_of(batch, check=batch_idx == 0)
        q = self.bottleneck(self.encoder(image), self.prior)
        target = self.likelihood.dequantize(image, self._pixel_noise)
        ev = self.evaluation
        index = q.sample(ev.iwae_samples, self._exact_noise)
        b = bounds(target, q, index, self, ev.chunk)
        self._measure_mode(q, image)
        self._measure_prior("test", batch, q, index[:1], b.log_px, -b.log_p)
        values = {
            "test/elbo": b.elbo,
            "test/iwae": b.iwae,
            "test/kl": b.kl,
            "test/reconstruction": -b.log_px,
            "test/bits_per_dim": self._bits_per_dim(b.elbo),
        }
        states = self.bottleneck.num_states
        if states is not None and states <= ev.max_states:
            values["test/log_px"] = exact_log_px(target, self, ev.chunk)
        self._log_means(values)

    def on_test_epoch_end(self) -> None:
        """Reduce the counts of the whole epoch."""
        self._log_usage("test")

    def _log_means(self, values: Mapping[str, Tensor], progress_bar: str = "") -> None:
        for name, value in values.items():
            self.log(
                name,
                batch_mean(value),
                batch_size=len(value),
                on_step=False,
                on_epoch=True,
                sync_dist=True,
                prog_bar=name == progress_bar,
            )

    def _bits_per_dim(self, elbo: Tensor) -> Tensor:
        # A density of pixels counts a level's width, 1/256, as one: see `Likelihood`.
        levels = LEVELS if self.likelihood.density and self.likelihood.pixels else 1
        nats = -elbo / math.prod(self.event_shape) + math.log(levels)
        return nats / math.log(2)

    def _log_usage(self, stage: str) -> None:
        counts = self.code_usage.compute()
        self.log(f"{stage}/perplexity", CodebookUsage.perplexity(counts).float())
        self.log(f"{stage}/usage", CodebookUsage.usage(counts).float())
        self.log(f"{stage}/dead_codes", CodebookUsage.dead(counts).float())
        self.code_usage.reset()
        if self.image_quality is not None:
            quality = self.image_quality.compute().items()
            self.log_dict({f"{stage}/{name}": value for name, value in quality})
            self.image_quality.reset()

    def _measure_prior(
        self,
        stage: str,
        batch: Any,
        posterior: Posterior,
        index: Tensor,
        log_px: Tensor,
        nats: Tensor,
    ) -> None:
        """Log the code length under a prior that is more than uniform, and the bound by class.

        In ``nats``, a number alone where it was not measured yet.
        """
        if isinstance(self.prior, UniformPrior):
            return
        bits = (nats if nats.dim() else -self.prior.log_prob(index).mean(0)) / math.log(2)
        tokens = index[0, 0].numel() if index.numel() else 1
        uniform = torch.full_like(bits, math.log2(self.num_codes))
        values = {
            f"{stage}/prior_bits": bits,
            f"{stage}/prior_bits_per_token": bits / tokens,
            f"{stage}/uniform_bits_per_token": uniform,
        }
        if self.objective.suffix:  # of what it is trained on
            bits = -self.prior.log_prob(posterior.mode()) / math.log(2)
            values[f"{stage}/prior_bits_per_token{self.objective.suffix}"] = bits / tokens
        if self.prior.num_classes:
            given = self.prior_of(batch)
            kl = given.closed_kl(posterior) + given.open_kl(index)
            values[f"{stage}/elbo_given_label"] = log_px - kl
        self._log_means(values)

    def _measure_mode(self, posterior: Posterior, image: Tensor) -> None:
        index = posterior.mode()
        self.code_usage.update(self.bottleneck.count(index))
        if self.image_quality is not None:
            params = self.decoder(self.bottleneck.embed(index))
            self.image_quality.update(self.likelihood.mean(params), image)
