"""Fine-tuning on Fashion-MNIST against training from nothing, at equal numbers of steps.

python -m benchmarks.finetune

Both ways have the recipe of ``configs/finetune_fashion.yaml``, whole within each number of steps,
and the same seeds. With several rates (``--rates``) each
way is reported at its best, since what suits the one need not suit the other. The weights are of a
model of MNIST, which is trained first unless ``--checkpoint`` names one.
"""

import argparse
import logging
import statistics
import tempfile
import warnings
from collections.abc import Sequence
from pathlib import Path

import pytorch_lightning as pl
import torch

from benchmarks.measure import RESULTS, write_csv
from dvae.bottlenecks import CategoricalBottleneck
from dvae.callbacks import Anneal
from dvae.data import MNIST, FashionMNIST, ImageDataModule
from dvae.estimators import GumbelSoftmax
from dvae.models import CategoricalVAE
from dvae.models.overhead import prepare_cpu
from dvae.models.weights import load_weights
from dvae.plotting import COLOURS, in_style, new_figure, save_figure
from dvae.schedules import Cosine, Linear, Sequential

STEPS = (250, 500, 1000)
RATES = (1.5e-2,)
SEEDS = (0, 1)
PRETRAINING = 3000
WAYS = ("from nothing", "fine-tuned")

Row = dict[str, object]


def train(data: ImageDataModule, steps: int, rate: float, init: Path | None = None) -> pl.Trainer:
    """Train a model by the recipe of the fine-tuning config.

    Args:
        data: The images.
        steps: Length of the run, and of its schedules.
        rate: The learning rate.
        init: Checkpoint to take the weights from.

    Returns:
        The trainer with the trained model.
    """
    model = CategoricalVAE(
        bottleneck=CategoricalBottleneck(20, 10, GumbelSoftmax(0.7)),
        optimizer=lambda p: torch.optim.AdamW(p, lr=rate, weight_decay=1e-4, fused=True),
        lr_schedule=Sequential([Linear(0.1, 1.0, 0.05), Cosine(1.0, 0.001)]),
    )
    if init is not None:
        load_weights(model, init)
    trainer = pl.Trainer(
        max_steps=steps,
        accelerator="cpu",
        logger=False,
        callbacks=[Anneal("tau", Cosine(0.7, 0.4))],
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        check_val_every_n_epoch=10**6,
    )
    trainer.fit(model, datamodule=data)
    return trainer


def measure(checkpoint: Path, args: argparse.Namespace) -> list[Row]:
    """Measure both ways at each number of steps; write the CSV and the picture.

    Args:
        checkpoint: The model of MNIST.
        args: The command line's.

    Returns:
        A row for each run.
    """
    rows: list[Row] = []
    for steps in args.steps:
        for seed in args.seeds:
            for rate in args.rates:
                for way, init in zip(WAYS, (None, checkpoint), strict=True):
                    pl.seed_everything(seed, verbose=False)
                    images = FashionMNIST(seed=seed, data_dir=args.data_dir)
                    trainer = train(images, steps, rate, init)
                    (result,) = trainer.validate(trainer.model, images, verbose=False)
                    elbo = round(result["val/elbo"], 2)
                    row = {"way": way, "steps": steps, "learning_rate": rate, "seed": seed}
                    rows.append({**row, "val_elbo": elbo})
                    print(*rows[-1].values(), flush=True)
        # After each number of steps, so that a run cut short leaves what it has measured.
        draw(rows, RESULTS / "finetune.png")
        print(write_csv("finetune", rows), flush=True)
    return rows


def best(rows: Sequence[Row]) -> dict[tuple[str, int], tuple[float, list[float]]]:
    """Choose each way's learning rate at each number of steps by the mean over the seeds.

    Args:
        rows: Rows of `measure`, or as read from the CSV.

    Returns:
        The learning rate and the validation ELBO of each seed, by way and number of steps.
    """
    runs: dict[tuple[str, int], dict[float, list[float]]] = {}
    for row in rows:
        key = (str(row["way"]), int(str(row["steps"])))
        rates = runs.setdefault(key, {})
        rates.setdefault(float(str(row["learning_rate"])), []).append(float(str(row["val_elbo"])))
    return {
        key: max(rates.items(), key=lambda item: statistics.fmean(item[1]))
        for key, rates in runs.items()
    }


@in_style
def draw(rows: Sequence[Row], path: Path) -> None:
    """Draw the two curves, with a mark for each seed.

    Args:
        rows: Rows of `measure`.
        path: The picture.
    """
    figure = new_figure(6.0, 3.6)
    axes = figure.subplots()
    found = best(rows)
    for way, colour in zip(WAYS, COLOURS, strict=False):
        steps = [count for name, count in found if name == way]
        seeds = [found[way, count][1] for count in steps]
        axes.plot(steps, [statistics.fmean(values) for values in seeds], color=colour, label=way)
        for count, values in zip(steps, seeds, strict=True):
            axes.plot([count] * len(values), values, "o", color=colour, markersize=3)
    axes.set_xscale("log", base=2)
    axes.set_xticks(steps, [str(count) for count in steps])
    axes.set(xlabel="steps on Fashion-MNIST", ylabel="val/elbo (nats)")
    axes.legend()
    save_figure(figure, path)


def main(argv: Sequence[str] | None = None) -> None:
    """Measure, after training the model of MNIST if none is given."""
    parser = argparse.ArgumentParser(description="Fine-tuning against training from nothing.")
    parser.add_argument("--checkpoint", type=Path, help="of a model of mnist_categorical.yaml")
    parser.add_argument("--data_dir", help="folder of Fashion-MNIST")
    for name, values in (("steps", STEPS), ("rates", RATES), ("seeds", SEEDS)):
        parser.add_argument(f"--{name}", type=type(values[0]), nargs="+", default=values)
    parser.add_argument("--pretraining", type=int, default=PRETRAINING, help="steps on MNIST")
    args = parser.parse_args(argv)
    logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", module="pytorch_lightning|lightning_fabric")
    prepare_cpu()
    with tempfile.TemporaryDirectory() as folder:
        checkpoint = args.checkpoint
        if checkpoint is None:
            pl.seed_everything(0, verbose=False)
            checkpoint = Path(folder) / "mnist.ckpt"
            train(MNIST(), args.pretraining, max(args.rates)).save_checkpoint(checkpoint)
        measure(checkpoint, args)


if __name__ == "__main__":
    main()
