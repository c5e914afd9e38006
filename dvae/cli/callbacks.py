"""The callbacks that every training has beside the user's."""

import logging
from collections.abc import Iterator, Sequence

from jsonargparse import Namespace
from pytorch_lightning.callbacks import Callback, WeightAveraging
from pytorch_lightning.callbacks import ProgressBar as AnyProgressBar

from dvae.callbacks import (
    Anneal,
    Checkpoints,
    Curves,
    Freeze,
    NonFinite,
    ProgressBar,
    ProgressLines,
    RandomState,
    RunId,
    ShortRun,
    StopOnSignal,
    StopUnsaved,
    Stopwatch,
    Symptoms,
    WeightAverage,
)
from dvae.cli.arguments import ANNEALED
from dvae.cli.finetuning import temperature_schedule
from dvae.models import DiscreteVAE
from dvae.models.finetune import Carry
from dvae.scalars import annealable_scalars
from dvae.schedules import Tuned

__all__ = ["own_callbacks"]

log = logging.getLogger("dvae")


def own_callbacks(
    settings: Namespace, model: DiscreteVAE, given: Sequence[Callback], run_id: str
) -> list[Callback]:
    """Make the callbacks of a fit, those that save coming last.

    Args:
        settings: Settings of the command, with the objects that were built of them.
        model: Model of the run.
        given: Callbacks of the user.
        run_id: Id of the run at wandb.

    Raises:
        ValueError: Settings of the checkpoints, of the temperature or of the average contradict
            each other.
    """
    trainer = settings.trainer
    own: list[Callback] = [*_anneals(settings, model), RandomState(), Curves(), Stopwatch()]
    if trainer.log_every_n_steps is None:
        own.append(ShortRun())
    if settings.finetune.freeze:
        own.append(Freeze(settings.finetune.freeze))
    if settings.ema is not None:
        if any(isinstance(callback, WeightAveraging) for callback in given):
            raise ValueError("ema must be null beside a WeightAveraging in trainer.callbacks")
        own.append(WeightAverage(settings.ema))
    own += [RunId(run_id), NonFinite(settings.nonfinite), Symptoms()]
    bars = any(isinstance(callback, AnyProgressBar) for callback in given)
    if trainer.enable_progress_bar is not False and not bars:
        own += [ProgressBar(), ProgressLines()]
    if trainer.enable_checkpointing is not False:
        return [*own, Checkpoints(**settings.checkpoints), StopOnSignal()]
    idle = Checkpoints()
    for key, value in settings.checkpoints.items():
        if value != getattr(idle, key):
            raise ValueError(
                f"checkpoints.{key} needs trainer.enable_checkpointing; got {value} and false"
            )
    return [*own, StopUnsaved()]


def _anneals(settings: Namespace, model: DiscreteVAE) -> Iterator[Anneal]:
    scalars = {path.rsplit(".", 1)[-1] for path in annealable_scalars(model)}
    for name in ANNEALED:
        schedule = settings.get(f"anneal.{name}")
        carry: Carry = settings.finetune.temperature if name == "tau" else "restart"
        if name == "tau":
            schedule = temperature_schedule(settings.finetune, schedule)
        if schedule is not None and name in scalars:
            yield Anneal(name, schedule, carry)
        elif isinstance(schedule, Tuned):
            part = getattr(model.bottleneck, "estimator", model.bottleneck)
            several = " and ".join(sorted(n for n in scalars if n.startswith("tau_")))
            hint = f"has {several}: an Anneal in trainer.callbacks can tune each"
            log.warning(
                "anneal.%s: Tuned measures the gradient of an estimator with a temperature, and %s "
                "%s; nothing is tuned here (use --anneal.%s null).",
                *(name, type(part).__name__, hint if several else "has none", name),
            )
        elif schedule is not None:
            # So that an estimator without a temperature is a change of one key.
            log.warning("anneal.%s is not used: this model has no %s.", name, name)
