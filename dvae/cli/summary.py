"""What a run says at its end: the bounds of its test, and where everything is."""

from collections.abc import Mapping

import pytorch_lightning as pl

from dvae.cli.loggers import sync_command
from dvae.data import ImageDataModule
from dvae.models import DiscreteVAE
from dvae.runs.layout import run_folder

__all__ = ["summary", "table"]


def summary(
    trainer: pl.Trainer,
    model: DiscreteVAE,
    data: ImageDataModule,
    results: Mapping[str, float],
    checkpoint: str | None,
    seconds: float,
    chosen_by: str = "",
) -> str:
    """Write the summary of a fit.

    Args:
        trainer: Trainer of the run.
        model: Model that was trained.
        data: Data that it was trained on.
        results: Metrics of the test.
        checkpoint: Path of what was tested; ``None`` for the last weights.
        seconds: Seconds that the training took.
        chosen_by: Metric that chose the checkpoint, and its value; empty where none did.
    """
    run = run_folder(trainer)
    lines = {name: f"{value:.4g}" for name, value in sorted(results.items())}
    if "test/elbo" in results:
        lines["test/elbo"] = f"{results['test/elbo']:.2f} nats per example, hard codes"
    if "test/iwae" in results:
        samples = model.evaluation.iwae_samples
        lines["test/iwae"] = f"{results['test/iwae']:.2f} nats per example, {samples} samples"
    lines["training"] = f"{seconds:.0f} seconds"
    lines["data"] = data.protocol
    lines["checkpoint"] = checkpoint or "none"
    if chosen_by:
        lines["chosen by"] = chosen_by
    if run.media.is_dir():
        lines["pictures"] = f"{run.media} (open the PNGs in any viewer)"
        lines["curves"] = str(run.curves)
    if run.metrics.is_file():
        lines["metrics"] = str(run.metrics)
    sync = sync_command(run.path)
    if sync:
        lines["wandb"] = f"offline; upload it with: {sync}"
    return table(lines)


def table(lines: Mapping[str, str]) -> str:
    """Write names and values in two columns, after an empty line.

    Args:
        lines: Values by name, at least one.
    """
    width = max(len(name) for name in lines)
    return "\n" + "\n".join(f"{name:<{width}}  {value}" for name, value in lines.items())
