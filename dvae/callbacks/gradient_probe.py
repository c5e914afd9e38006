"""The gradient's variance and bias as curves, measured without a trace in the training."""

import logging
from collections.abc import Mapping
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import Callback
from pytorch_lightning.utilities.seed import isolate_rng
from torch import Tensor

from dvae.callbacks.examples import validation_examples
from dvae.callbacks.gradient_quality import RLOO_GROUP, gradient_quality
from dvae.doing import doing
from dvae.estimators import Estimator
from dvae.models.base import DiscreteVAE
from dvae.models.objectives import ELBO
from dvae.scalars import check_count

__all__ = ["GradientProbe"]

log = logging.getLogger("dvae")


class GradientProbe(Callback):
    r"""Measure the estimator's gradient on held-out images every so many steps, and log it.

    For the same images the gradient of the reconstruction term :math:`E_q[\log p(x|z)]` in the
    encoder's parameters is drawn again and again: its variance, and its bias against
    `ExactEnumeration` where the :math:`K^L` codes can be visited, against `RLOO` with many draws
    where not. The names of the metrics say which: ``probe/variance``,
    ``probe/bias_vs_enumeration`` or ``probe/bias_vs_rloo``, and ``probe/relative_bias_vs_...``
    and ``probe/cosine_vs_...``; see `GradientQuality`. The KL adds nothing to either, its gradient
    being exact, but where the prior looks at the whole code :math:`\beta \log p(z)` is in the
    expectation too.

    Only the draws are random, not the images, and they are independent between images: in a
    training batch of B the variance is about ``batch / B`` times that of the probe. Norms run on
    their running statistics, and all is computed without autocast.

    The weights are those after the step, the temperature that of the step. The training does not
    change by a bit: the noise comes from a generator that starts anew with each probe, no
    ``.grad``, buffer or random state is touched.

    Args:
        every_n_steps: Optimizer steps between probes, at least 1.
        batch: Validation images, spread over the classes, at least 1.
        draws: Gradients of which the variance is taken, at least 2.
        max_states: Enumerate where an image has at most so many codes; 0 for never.
        reference_draws: Draws of the RLOO reference for each image, at least 128; rounded down to
            a multiple of 64.

    Attributes:
        measured: Step and metrics of the last probe; None before the first.

    Raises:
        ValueError: A value outside its range; when training is set up, a model whose bottleneck
            has no estimator, or whose encoder is frozen.
    """

    def __init__(
        self,
        every_n_steps: int = 500,
        batch: int = 16,
        draws: int = 64,
        max_states: int = 2**12,
        reference_draws: int = 2048,
    ) -> None:
        check_count("GradientProbe.every_n_steps", every_n_steps, 1)
        check_count("GradientProbe.batch", batch, 1)
        check_count("GradientProbe.draws", draws, 2)
        check_count("GradientProbe.max_states", max_states, 0)
        check_count("GradientProbe.reference_draws", reference_draws, 2 * RLOO_GROUP)
        self.every_n_steps = every_n_steps
        self.batch = batch
        self.draws = draws
        self.max_states = max_states
        self.reference_draws = reference_draws
        self.measured: tuple[int, Mapping[str, float]] | None = None
        self._image: Tensor | None = None
        self._last_step = 0

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Refuse a model without such a gradient."""
        bottleneck = getattr(pl_module, "bottleneck", None)
        estimator = getattr(bottleneck, "estimator", None)
        if not isinstance(pl_module, DiscreteVAE) or not isinstance(estimator, Estimator):
            raise ValueError(
                "GradientProbe needs a DiscreteVAE whose bottleneck has an estimator; got "
                f"{type(pl_module).__name__} with {type(bottleneck).__name__}"
            )
        if not any(parameter.requires_grad for parameter in pl_module.encoder.parameters()):
            raise ValueError(
                "GradientProbe measures the gradient in the encoder's parameters; all are frozen"
            )

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Take the images to measure on; say so where training uses the gradient differently."""
        if isinstance(pl_module, DiscreteVAE) and type(pl_module.objective) is not ELBO:
            log.info(
                "GradientProbe: measures the estimator on the reconstruction term of the ELBO; "
                "the objective trained here is %s.",
                type(pl_module.objective).__name__,
            )
        self._last_step = trainer.global_step
        found = validation_examples(trainer, self.batch)
        self._image = None if found is None else found.image
        if self._image is None:
            log.warning("GradientProbe: there are no validation images, so nothing is measured.")

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, *batch: Any
    ) -> None:
        """Measure after every so many optimizer steps."""
        step = trainer.global_step
        # Under gradient accumulation several batches end at the same step.
        if step == self._last_step or step % self.every_n_steps:
            return
        self._last_step = step
        if self._image is None or not trainer.is_global_zero:
            return
        assert isinstance(pl_module, DiscreteVAE)  # setup has seen to it
        with isolate_rng(), doing(f"measuring the gradient after step {step}"):
            image = pl_module.images_of(self._image, check=False)
            metrics = gradient_quality(
                pl_module, image, self.draws, self.max_states, self.reference_draws
            ).metrics()
        self.measured = step, metrics
        pl_module.log_dict(metrics, logger=False, rank_zero_only=True)
        # Not by Lightning, which would keep only the steps that log_every_n_steps divides. It
        # counts the first step as 0.
        for logger in trainer.loggers:
            logger.log_metrics(metrics, step=step - 1)
