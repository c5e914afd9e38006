"""What would end a training in its first steps, found before a file of the run is written."""

import math

import pytorch_lightning as pl
import torch
from torch import nn
from torch.optim import Optimizer

from dvae.callbacks import Anneal
from dvae.data import ImageDataModule
from dvae.data.order import EndlessOrder
from dvae.models import DiscreteVAE

__all__ = ["check_batches", "check_objective", "check_optimizer", "check_schedules"]


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
    order = EndlessOrder(data.count("train"), data.batch_size, data.seed, 0, processes)
    batches = _limited(trainer, "limit_train_batches", len(order))
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
    if len(order.batch(0)) == 1 and _normalises(model):
        raise ValueError(
            "one image has no variance to normalise by: data.batch_size and the training images "
            "of a process must be >= 2 with batch norm; got 1 (model.network.norm none does "
            "without)"
        )
    return batches


def check_objective(model: DiscreteVAE) -> None:
    """Evaluate the loss of two blank images, which finds an estimator that does not fit.

    Evaluation mode and a fork of the random state leave the model and the run as they are.

    Args:
        model: Model on the CPU.

    Raises:
        ValueError: The estimator was built for other codes, cannot visit so many, or cannot
            estimate the objective.
    """
    modes = [(module, module.training) for module in model.modules()]
    like = next(model.parameters())
    image = torch.zeros(2, *model.image_shape, dtype=like.dtype, device=like.device)
    model.eval()
    try:
        with torch.random.fork_rng(devices=[]):
            features = model.encoder(image)
            target = model.likelihood.dequantize(image)
            model.objective(lambda code: model.log_px(code, target), features, model.bottleneck)
    finally:
        for module, training in modes:
            module.training = training


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
    steps = _run_steps(trainer, batches)
    for callback in trainer.callbacks:  # type: ignore[attr-defined]
        if isinstance(callback, Anneal):
            callback.schedule.check_run(steps)
    if model.lr_schedule is not None:
        model.lr_schedule.check_run(steps)
        low, _ = model.lr_schedule.bounds()
        if low < 0:
            raise ValueError(f"model.lr_schedule must stay >= 0; it goes down to {low:g}")


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


def _run_steps(trainer: pl.Trainer, batches: int) -> int | None:
    steps, epochs = trainer.max_steps, trainer.max_epochs
    per_epoch = math.ceil(batches / trainer.accumulate_grad_batches)
    ends = [steps] if steps != -1 else []
    if epochs is not None and epochs != -1:
        ends.append(epochs * per_epoch)
    return min(ends, default=None)


def _normalises(model: nn.Module) -> bool:
    """Tell whether a batch norm over vectors is trained; one that is frozen needs no variance."""
    for module in model.modules():
        if isinstance(module, nn.BatchNorm1d):
            parameters = list(module.parameters())
            if not parameters or any(parameter.requires_grad for parameter in parameters):
                return True
    return False
