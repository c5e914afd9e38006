"""The training core of every discrete VAE: its five parts and one loss."""

import io
import math
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Self

import torch
from pytorch_lightning import Trainer
from pytorch_lightning.cli import OptimizerCallable
from torch import Tensor
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

from dvae.bottlenecks.base import Bottleneck
from dvae.bottlenecks.grid import GridBottleneck
from dvae.data.batch import CodeBatch, as_batch
from dvae.devices import is_waited_for
from dvae.likelihoods import Likelihood
from dvae.metrics import CodebookUsage, EventQuality
from dvae.models.captured import CapturedStep, capture_update, is_steady
from dvae.models.codec import evaluating
from dvae.models.compiled import Compile, NetworkCalls, check_compile, compile_calls
from dvae.models.evaluation import Evaluation
from dvae.models.given_codes import check_prior_alone, output_of_codes
from dvae.models.gradients import Gradients
from dvae.models.logging import StepMeans, is_logged, training_values
from dvae.models.measured import Measured
from dvae.models.moments import forget_moments
from dvae.models.objectives import ELBO, Objective, ObjectiveOutput
from dvae.models.overhead import drop_idle_profiler
from dvae.models.parts import parameter_groups
from dvae.models.penalised import Decoding
from dvae.models.precision import check_precision, prepare_precision
from dvae.models.random_streams import separate_stream
from dvae.networks.base import Network
from dvae.priors.base import Prior
from dvae.priors.uniform import UniformPrior
from dvae.runs.checkpoints import read_checkpoint
from dvae.runs.former import modern_state, modern_states
from dvae.runs.trust import refuse_foreign_classes
from dvae.schedules import Schedule

__all__ = ["DiscreteVAE"]


class DiscreteVAE(Gradients, Measured):
    """A VAE with a discrete code, trained through a pluggable estimator of the gradient.

    Everything is in nats per example, summed over pixels and positions and averaged over the
    batch last. What validation and test report as ``elbo`` is the expectation under codes drawn
    exactly from q, from a seeded generator of their own.

    Args:
        network: Recipe of encoder and decoder.
        bottleneck: Makes the discrete posterior.
        likelihood: Distribution of the image, or another event, given the decoder's output.
        objective: What training maximises; the ELBO by default.
        optimizer: Makes the optimizer from the parameters; AdamW (learning rate 2e-3) by default.
        lr_schedule: Factor on the optimizer's learning rate for each step; constant by default.
        evaluation: How much work the test puts into its bounds.
        compile: Whether training compiles the encoder, and the decoder with its likelihood.
            ``cuda-graphs`` has a GPU launch the whole step at once, uncompiled, where it is the
            same each time (see `dvae.models.captured.is_steady`); else it captures those two.
        prior: Distribution of the codes; uniform by default.
    """

    def __init__(
        self,
        network: Network,
        bottleneck: Bottleneck,
        likelihood: Likelihood,
        objective: Objective | None = None,
        optimizer: OptimizerCallable | None = None,
        lr_schedule: Schedule | None = None,
        evaluation: Evaluation | None = None,
        compile: Compile = False,
        prior: Prior | None = None,
    ) -> None:
        super().__init__()
        self.event_shape = network.event_shape
        self.encoder = network.encoder(bottleneck.in_features)
        self.bottleneck = bottleneck
        if isinstance(bottleneck, GridBottleneck):
            bottleneck.grid = network.grid
        self.prior = UniformPrior() if prior is None else prior
        self.prior.build(bottleneck.index_shape, bottleneck.counts_shape)
        self.decoder = network.decoder(bottleneck.code_features, likelihood.params_per_channel)
        self.likelihood = likelihood
        likelihood.build(network.event_shape)
        if not likelihood.pixels:
            self.image_quality = EventQuality()
        self.objective = ELBO() if objective is None else objective
        self.evaluation = Evaluation() if evaluation is None else evaluation
        self.code_usage = CodebookUsage(bottleneck.counts_shape)
        # Factors on the learning rate by the name of a part; fine-tuning sets it.
        self.lr_scale: Mapping[str, float] = {}
        self.last_terms: dict[str, Tensor] = {}
        self._step_means = StepMeans()
        self._make_optimizer = optimizer
        self.lr_schedule = lr_schedule
        self._compiles = compile
        self._calls: NetworkCalls | None = None
        self._captured: CapturedStep | None = None

    @classmethod
    def load_from_checkpoint(  # type: ignore[override]
        cls, checkpoint_path: str | Path, *args: Any, trusted: Sequence[str] = (), **kwargs: Any
    ) -> Self:
        """Load a model as Lightning does, and execute no code of the checkpoint's choice.

        Args:
            checkpoint_path: The file.
            args: Arguments of Lightning's method.
            trusted: Packages beside dvae whose classes the checkpoint may name.
            kwargs: Arguments of Lightning's method, and parts that replace those of the checkpoint.

        Raises:
            FileNotFoundError: There is no such file.
            ValueError: It is damaged, or names a class from elsewhere.
        """
        content = read_checkpoint(checkpoint_path)
        refuse_foreign_classes(content, trusted, kwargs)
        kwargs["weights_only"] = True
        if not content.pop("translated"):
            return super().load_from_checkpoint(checkpoint_path, *args, **kwargs)
        translated = io.BytesIO()
        torch.save(content, translated)
        translated.seek(0)
        return super().load_from_checkpoint(translated, *args, **kwargs)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Name what a former version wrote as today's does, where it was not read so."""
        state = checkpoint["state_dict"] = modern_state(checkpoint["state_dict"])
        trained = [name for name, p in self.named_parameters() if p.requires_grad]
        written = [name for name in state if name in set(trained)]
        modern_states(checkpoint.get("optimizer_states", []), written, trained)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep the precision, of which a run that goes on elsewhere may have another."""
        checkpoint["precision"] = str(self.trainer.precision)

    # Training

    def on_fit_start(self) -> None:
        """Have the networks compiled where that was asked for, and each process draw its own noise.

        Compiling happens in the first step. The weights are drawn by now, and the same everywhere.
        """
        separate_stream(self.global_rank)
        drop_idle_profiler(self.trainer)
        for part in (self.bottleneck, self.likelihood):
            part.skip_step()  # of a run that was interrupted within one
        self._step_means.clear()
        self.check_trainer(self.trainer)
        prepare_precision(self.trainer, math.prod(self.event_shape))
        how, self._captured, self._calls = self._compiles, None, None
        if how == "cuda-graphs" and is_steady(self.trainer, self.bottleneck, self.likelihood):
            self._captured = CapturedStep(partial(self._output, check=False), self.parameters())
        elif how:
            self._calls = compile_calls(self.encoder, self.log_px, how)

    def on_fit_end(self) -> None:
        """Let go of what was captured, and its memory."""
        self._captured = None

    def check_trainer(self, trainer: Trainer) -> None:
        """Refuse what a trainer cannot train as it is set.

        Args:
            trainer: Trainer of the fit to come.

        Raises:
            ValueError: See `dvae.models.compiled` and the objective.
        """
        self.objective.prepare(self.event_shape)
        accumulates = trainer.accumulate_grad_batches > 1
        check_compile(self._compiles, trainer.strategy.root_device, accumulates)

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        """Return the loss of a batch, nats per example."""
        out = None
        if isinstance(batch, CodeBatch):
            out = output_of_codes(self, batch)
        elif self._captured is not None:
            batch = as_batch(batch, self.event_shape)
            if batch_idx == 0:
                self.likelihood.check_values(batch.image)
            out = self._captured(batch)
        out = self._output(batch, check=batch_idx == 0) if out is None else out
        # For whoever shows the bound, or has to say which of them broke.
        parts = {"kl": out.kl, "reconstruction": out.log_px, "bound": out.bound}
        self.last_terms = {n: part.detach() for n, part in parts.items() if part is not None}
        self._log_training(out)
        return out.loss  # type: ignore[no-any-return]

    def backward(self, loss: Tensor, *args: Any, **kwargs: Any) -> None:
        """Compute the gradients, or take those that were captured with the loss."""
        if self._captured is None or not self._captured.give_gradients():
            super().backward(loss, *args, **kwargs)

    def _output(self, batch: Any, check: bool) -> ObjectiveOutput:
        image = self.images_of(batch, check=check)
        target = self.likelihood.dequantize(image)
        encode, log_px = self._calls or (self.encoder, self.log_px)
        with self.bottleneck.accumulating(), self.likelihood.accumulating():
            if self.objective.prior_alone:
                with torch.no_grad(), evaluating(self.encoder, self.bottleneck):
                    q = self.bottleneck(self.encoder(image), self.prior)
            else:
                q = self.bottleneck(encode(image), self.prior)
            prior = self.prior_of(batch)
            decoding = Decoding(log_px, self.decoder, self.likelihood, image, target)
            return self.objective(decoding, q, prior)  # type: ignore[no-any-return]

    def on_before_optimizer_step(self, optimizer: Optimizer) -> None:
        """Let what the optimizer does not move take its step; forget gradients of revived codes.

        They would undo it.
        """
        self._step_means.clear()
        self.bottleneck.step()
        self.likelihood.step()
        forget_moments(optimizer, self.bottleneck.take_moved())

    def make_optimizer(self) -> Optimizer:
        """Make the optimizer of the parameters that are trained."""
        parameters: Any = [p for p in self.parameters() if p.requires_grad]
        if self.lr_scale:
            parameters = parameter_groups(self, self.lr_scale)
        if self._make_optimizer is None:
            optimizer: Optimizer = torch.optim.AdamW(parameters, lr=2e-3, fused=True)
        else:
            optimizer = self._make_optimizer(parameters)
        for group in optimizer.param_groups:
            group["lr"] *= group.get("lr_scale", 1.0)
        return optimizer

    def configure_optimizers(self) -> Any:
        """Make the optimizer and the schedule of its learning rate."""
        optimizer = self.make_optimizer()
        if self.lr_schedule is None:
            return optimizer
        schedule, run_steps = self.lr_schedule, self.run_steps
        schedule.check_run(run_steps)  # before training, and not where its turn has come

        def factor(step: int) -> float:
            return schedule(step, run_steps)

        scheduler = LambdaLR(optimizer, factor)
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": scheduler, "interval": "step"},
        }

    def on_train_start(self) -> None:
        """Take the first step's learning rate from the schedule as it is now.

        The optimizer of a resumed run brings that of the length which the run had then.
        """
        scheduler = self.lr_schedulers()
        if isinstance(scheduler, LambdaLR):
            groups = zip(scheduler.optimizer.param_groups, scheduler.base_lrs, strict=True)
            for (group, base), factor in zip(groups, scheduler.lr_lambdas, strict=True):
                group["lr"] = base * factor(scheduler.last_epoch)
        if self._captured is not None:
            capture_update(self.trainer.optimizers[0], self._captured)

    @property
    def run_steps(self) -> int | None:
        """Length of the run in optimizer steps, or ``None`` where it has no end."""
        steps = self.trainer.estimated_stepping_batches
        return int(steps) if math.isfinite(steps) and steps > 0 else None

    def setup(self, stage: str) -> None:
        """Refuse images of another shape, and weights in half precision."""
        check_precision(self.trainer.precision)
        shape = getattr(getattr(self.trainer, "datamodule", None), "image_shape", None)
        if shape is not None:
            self.check_image_shape(shape)
        self.check_classes(getattr(self.trainer, "datamodule", None))
        if stage == "fit":
            check_prior_alone(self, self.trainer)

    # Details

    def _log_training(self, out: ObjectiveOutput) -> None:
        if not is_logged(self.trainer):
            return
        with torch.no_grad():
            shown, values = training_values(out, self.objective, self.index_shape)
            means = self._step_means.add(values)
            value = means.pop(shown)
            self.log_dict(means)
            # What Lightning has for a bar it reads in every step, also where there is none.
            self.log(shown, value, prog_bar=not is_waited_for(value))
        # That of the step about to be taken, beside the temperature it is taken at.
        self.log("anneal/lr", self.trainer.optimizers[0].param_groups[0]["lr"])
