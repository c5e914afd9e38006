"""What would end a training in its first steps, found before a file of the run is written."""

import logging
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from torch import nn
from torch.optim import Optimizer

from dvae.callbacks import Anneal, Freeze, GradientProbe, StartAtMean
from dvae.callbacks.weight_average import check_average
from dvae.cli.arguments import ANNEALED
from dvae.data import ImageDataModule
from dvae.data.order import EndlessOrder
from dvae.models import DiscreteVAE
from dvae.models.parts import check_rates
from dvae.models.penalised import Decoding
from dvae.models.precision import say_other_precision
from dvae.runs.checkpoints import ADDING_UP, Checkpoint

__all__ = [
    "check_callbacks",
    "check_fit",
    "check_resumable",
    "check_schedules",
    "training_batches",
    "training_steps",
]


log = logging.getLogger("dvae")

# What fine-tuning and schedules add to the settings of an optimizer's group.
_OURS = {"params", "name", "lr_scale", "initial_lr"}


def check_fit(
    model: DiscreteVAE, data: ImageDataModule, trainer: pl.Trainer, resumed: Checkpoint | None
) -> None:
    """Refuse what would end a training in its first steps.

    Args:
        model: Model of the run.
        data: Data set of the run, its images loaded.
        trainer: Trainer of the fit to come.
        resumed: Checkpoint that it goes on from.

    Raises:
        ValueError: The training cannot be done; the message is one line.
    """
    check_callbacks(model, trainer)
    check_rates(model, model.lr_scale)
    optimizer = check_optimizer(model)
    check_schedules(model, trainer, check_batches(model, data, trainer))
    check_objective(model)
    if resumed is not None:
        scheduled = model.lr_schedule is not None
        check_resumable(resumed.path, resumed.content, optimizer, scheduled)
        check_average(resumed.path, resumed.content, trainer.callbacks)  # type: ignore[attr-defined]
        say_other_precision(resumed.path, resumed.content, trainer.precision)


def check_optimizer(model: DiscreteVAE) -> Optimizer:
    """Make the optimizer once, which refuses a learning rate or a weight decay that cannot be.

    Args:
        model: Model with its frozen parts frozen.

    Returns:
        The optimizer, of no use but to look at.

    Raises:
        ValueError: It cannot be made.
    """
    try:
        return model.make_optimizer()
    except (ValueError, TypeError, RuntimeError) as error:
        raise ValueError(f"model.optimizer cannot be made: {error}") from error


def check_batches(model: DiscreteVAE, data: ImageDataModule, trainer: pl.Trainer) -> int:
    """Compare the batches that there are with those that are asked for.

    Args:
        model: Model with its frozen parts frozen.
        data: Its images loaded.
        trainer: Trainer of the fit to come.

    Returns:
        Training batches in an epoch of one process.

    Raises:
        ValueError: A limit leaves no batch, a validation is to come after more batches than there
            are, or a batch of one image is to be normalised by its own variance.
    """
    processes = trainer.world_size
    batches = training_batches(data, trainer)
    evaluated = {"limit_val_batches": "val", "limit_test_batches": "test"}
    for key, part in evaluated.items():
        images = math.ceil(data.count(part) / processes)  # type: ignore[arg-type]
        _limited(trainer, key, math.ceil(images / data.eval_batch_size))
    interval = getattr(trainer, "val_check_interval", None)  # there is none where it is a time
    validates = trainer.limit_val_batches and trainer.check_val_every_n_epoch is not None
    if isinstance(interval, int) and interval > batches and validates:
        raise ValueError(
            f"trainer.val_check_interval must be at most the {batches} training batches of an "
            f"epoch; got {interval} (trainer.check_val_every_n_epoch null counts on across epochs)"
        )
    of_a_process = data.count("train") // processes
    if min(data.batch_size, of_a_process) == 1 and _normalises(model):
        raise ValueError(
            "one image has no variance to normalise by: data.batch_size and the training images "
            "of a process must be >= 2 with batch norm; got 1 (model.network.norm none does "
            "without)"
        )
    return batches


def training_batches(data: ImageDataModule, trainer: pl.Trainer) -> int:
    """Count the training batches in an epoch of one process.

    Args:
        data: Data set of the run, which is loaded where it is not yet.
        trainer: Trainer of the fit to come.

    Raises:
        ValueError: A limit leaves no batch.
    """
    order = EndlessOrder(data.count("train"), data.batch_size, data.seed, 0, trainer.world_size)
    return _limited(trainer, "limit_train_batches", len(order))


def check_callbacks(model: DiscreteVAE, trainer: pl.Trainer) -> None:
    """Set up what looks at the model: a schedule may leave the range of its scalar, say.

    Args:
        model: Model of the run.
        trainer: Trainer of the fit to come.

    Raises:
        ValueError: A callback refuses the model.
    """
    # A frozen encoder has no gradient to probe.
    for kind in (Anneal, Freeze, GradientProbe, StartAtMean):
        for callback in trainer.callbacks:  # type: ignore[attr-defined]
            if isinstance(callback, kind):
                try:
                    callback.setup(trainer, model, "fit")
                except ValueError as error:
                    if not isinstance(callback, Anneal):
                        raise
                    hint = "without its Anneal in trainer.callbacks it is left alone"
                    if callback.target in ANNEALED:
                        hint = f"--anneal.{callback.target} null leaves it alone"
                    raise ValueError(f"{error} ({hint})") from error


def check_objective(model: DiscreteVAE) -> None:
    """Evaluate the loss of two events of zeros, which finds an estimator that does not fit.

    Evaluation mode and a fork of the random state leave the model and the run as they are.

    Args:
        model: Model on the CPU.

    Raises:
        ValueError: The estimator was built for other codes, cannot visit so many, or cannot
            estimate the objective.
    """
    image = model.images_of(torch.zeros(2, *model.event_shape, dtype=torch.uint8), check=False)
    with torch.random.fork_rng(devices=[]), model._evaluating():
        q = model.bottleneck(model.encoder(image), model.prior)
        target = model.likelihood.dequantize(image)
        decoding = Decoding(model.log_px, model.decoder, model.likelihood, image, target)
        model.objective(decoding, q, model.prior)


def check_schedules(model: DiscreteVAE, trainer: pl.Trainer, batches: int) -> None:
    """Have every schedule look at the length of the run.

    Args:
        model: Model with its schedule of the learning rate.
        trainer: Trainer with the callbacks that anneal.
        batches: Training batches in an epoch.

    Raises:
        ValueError: A schedule follows the length of a run that has none, or a learning rate would
            be negative.
    """
    steps = training_steps(trainer, batches)
    for callback in trainer.callbacks:  # type: ignore[attr-defined]
        if isinstance(callback, Anneal):
            callback.schedule.check_run(steps)
    if model.lr_schedule is not None:
        model.lr_schedule.check_run(steps)
        low, _ = model.lr_schedule.bounds()
        if low < 0:
            raise ValueError(f"model.lr_schedule must stay >= 0; it goes down to {low:g}")


def check_resumable(
    path: str | Path, content: Mapping[str, Any], optimizer: Optimizer, scheduled: bool
) -> None:
    """Refuse a checkpoint whose training another optimizer cannot go on with.

    One from which training does not go on exactly is said in a line.

    Args:
        path: Path of the checkpoint.
        content: Content of the checkpoint.
        optimizer: Optimizer of the run, newly made.
        scheduled: Whether the run has a schedule of the learning rate.

    Raises:
        ValueError: It has no state of an optimizer, or one of another class, of other parameters,
            or with a schedule where there is none now.
    """
    problem = _optimizer_problem(content, optimizer) or _schedule_problem(content, scheduled)
    if problem:
        raise ValueError(
            f"{path} cannot be resumed: {problem} (--init_from takes over its weights and starts "
            "the optimizer afresh)"
        )
    if content.get(ADDING_UP):
        log.warning(
            "%s was saved between the batches of a step: the gradients of those before are lost",
            path,
        )


def _limited(trainer: pl.Trainer, key: str, batches: int) -> int:
    limit = getattr(trainer, key)
    if isinstance(limit, int):
        return min(limit, batches)
    found = int(limit * batches)
    if batches and limit and not found:
        raise ValueError(
            f"trainer.{key} must be an integer, or a fraction of at least 1 / {batches}, that of "
            f"one batch; got {limit}"
        )
    return found


def training_steps(trainer: pl.Trainer, batches: int) -> int | None:
    """Count the optimizer steps of a run; None where it has no end that is known before.

    Args:
        trainer: Trainer of the fit to come.
        batches: Training batches in an epoch of one process.
    """
    steps, epochs = trainer.max_steps, trainer.max_epochs
    per_epoch = math.ceil(batches / trainer.accumulate_grad_batches)
    ends = [steps] if steps != -1 else []
    if epochs is not None and epochs != -1:
        ends.append(epochs * per_epoch)
    return min(ends, default=None)


def _normalises(model: nn.Module) -> bool:
    """Tell whether a batch norm over vectors is trained; one that is frozen needs no variance."""
    norms = [module for module in model.modules() if isinstance(module, nn.BatchNorm1d)]
    return any(not norm.affine or any(p.requires_grad for p in norm.parameters()) for norm in norms)


def _optimizer_problem(content: Mapping[str, Any], optimizer: Optimizer) -> str | None:
    states = content.get("optimizer_states") or []
    if not states or "loops" not in content:
        return "it holds weights without the state of the optimizer and the training"
    mine, saved = optimizer.param_groups, states[0]["param_groups"]
    name = type(optimizer).__name__
    trained_with = _class_of_optimizer(content)
    if trained_with is None:
        # Of a model made in Python: the settings tell most classes apart, and this one Adam's.
        differ = {key for a, b in zip(mine, saved, strict=False) for key in a.keys() ^ b.keys()}
        coupled = [groups[0].get("decoupled_weight_decay") for groups in (mine, saved)]
        trained_with = "another optimizer" if differ - _OURS or coupled[0] != coupled[1] else name
    if trained_with != name:
        return f"it was trained with {trained_with} and this run has {name}"
    sizes = [[len(group["params"]) for group in groups] for groups in (mine, saved)]
    if sizes[0] != sizes[1]:
        return (
            f"its {name} trained {sum(sizes[1])} parameters in {len(saved)} group(s) and this "
            f"run's trains {sum(sizes[0])} in {len(mine)}, which finetune.freeze and "
            "finetune.lr_scale say"
        )
    return None


def _class_of_optimizer(content: Mapping[str, Any]) -> str | None:
    settings = content.get("hyper_parameters") or {}
    if "optimizer" not in settings:
        return None
    chosen = settings["optimizer"]
    if chosen is None:
        return "AdamW"  # the default of DiscreteVAE
    return str(chosen["class_path"]).rpartition(".")[2] if isinstance(chosen, Mapping) else None


def _schedule_problem(content: Mapping[str, Any], scheduled: bool) -> str | None:
    if bool(content.get("lr_schedulers")) == scheduled:
        return None
    with_one, without = ("this run", "it") if scheduled else ("it", "this run")
    return f"{with_one} has a model.lr_schedule and {without} has none"
