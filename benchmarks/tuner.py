"""Does a measured temperature beat a chosen one? ReinMax's networks on MNIST, a row for each run.

    python -m benchmarks.tuner --sizes 8x4 --estimators STGS --ways 0.5 tuned --seeds 0 1

Ways are constant temperatures, the shipped cosine, a linear anneal and `Tuned`. Runs of one seed
have the same weights, batches and noise. Runs that have a row are not done again, so the command
goes on where it was stopped; each new row is written at once. `--together` makes the ways of a
size, an estimator and a seed one batched model, for a GPU: then the noise is not shared.
"""

import argparse
import logging
import statistics
import time
import warnings
from collections.abc import Callable, Sequence
from itertools import product
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback
from torch import Tensor

from benchmarks.measure import RESULTS, conditions, machine, mean_of, read_csv, write_csv
from benchmarks.tables.together import SideBySide, Together
from dvae.bottlenecks import CategoricalBottleneck
from dvae.callbacks import Anneal, StartAtMean
from dvae.data import MNIST, Batch
from dvae.estimators import Estimator, GumbelSoftmax, ReinMax
from dvae.models import CategoricalVAE, Evaluation
from dvae.models.overhead import prepare_cpu
from dvae.networks import MLP
from dvae.plotting import in_style, new_figure, save_figure
from dvae.schedules import Constant, Cosine, Linear, Mover, Sequential, Tuned

__all__ = ["main", "tuner"]

# Codes and latents, as the paper names them (L. Liu et al., 2023, arXiv 2304.08612).
SIZES = {"8x4": (8, 4), "8x16": (8, 16), "10x30": (10, 30)}
ESTIMATORS: dict[str, Callable[[], Estimator]] = {
    "STGS": lambda: GumbelSoftmax(hard=True),
    "ReinMax": lambda: ReinMax(1.2),  # where `Tuned` begins
}
CONSTANT = {"STGS": (0.25, 0.35, 0.5, 0.7, 1.0), "ReinMax": (1.0, 1.1, 1.2, 1.35, 1.5)}
# The cosine of configs/mnist_categorical.yaml; ReinMax has none, and no temperature below 1.
ANNEALED = {
    "STGS": {"cosine": Cosine(1.0, 0.1), "linear": Linear(1.0, 0.3)},
    "ReinMax": {"cosine": Cosine(1.5, 1.0), "linear": Linear(1.5, 1.0)},
}
WAYS = {
    name: {f"{tau:g}": Constant(tau) for tau in taus} | ANNEALED[name] | {"tuned": Tuned()}
    for name, taus in CONSTANT.items()
}
KEY = ("size", "estimator", "way", "batch_size", "rate", "steps", "seed")
_TESTED = 10
# Panels of the picture beside each other: the two estimators of a size.
_PANELS = 2

Cell = dict[str, Any]


class Tail(Callback):
    """Mean of the loss over the last tenth of the steps, nats per example; one for each model."""

    def __init__(self, steps: int) -> None:
        self.first, self.losses = steps - max(1, steps // 10), list[Tensor]()

    def on_train_batch_end(self, trainer: pl.Trainer, module: Any, outputs: Any, *_: Any) -> None:
        """Keep the loss of a step that counts."""
        if trainer.global_step > self.first:
            self.losses.append(outputs.get("each", outputs["loss"]).detach().reshape(-1))

    @property
    def means(self) -> list[float]:
        """The means."""
        return torch.stack(self.losses).double().mean(0).tolist()  # type: ignore[no-any-return]


class OneOf(Callback):
    """A callback of one of several models that are trained as one, which sees its images.

    Args:
        number: Which model.
        model: The model.
        own: Its callback.
    """

    def __init__(self, number: int, model: CategoricalVAE, own: Callback) -> None:
        self.number, self.model, self.own = number, model, own

    def on_train_start(self, trainer: pl.Trainer, *_: Any) -> None:
        """Begin."""
        self.own.setup(trainer, self.model, "fit")
        self.own.on_train_start(trainer, self.model)

    def on_train_batch_start(
        self, trainer: pl.Trainer, module: Any, images: Tensor, batch_idx: int
    ) -> None:
        """Let it see its images."""
        batch = Batch(images[self.number], None)
        self.own.on_train_batch_start(trainer, self.model, batch, batch_idx)


def model_of(cell: Cell) -> CategoricalVAE:
    """Build a model, from the global generator; the recipe is that of the table `tuned`."""
    codes, latents = SIZES[cell["size"]]
    estimator = ESTIMATORS[cell["estimator"]]()
    return CategoricalVAE(
        network=MLP(hidden=(512, 256), norm="none", negative_slope=0.0),
        bottleneck=CategoricalBottleneck(latents, codes, estimator),
        optimizer=lambda parameters: torch.optim.Adam(parameters, 2e-3 * cell["rate"], fused=True),
        lr_schedule=Sequential([Linear(0.0, 1.0, 0.05), Cosine(1.0, 0.0)]),
        evaluation=Evaluation(iwae_samples=_TESTED, max_states=0),
    )


def train(cells: Sequence[Cell]) -> list[dict[str, Any]]:
    """Train and test a model, or several as one; return the row of each."""
    made, steps = [], cells[0]["steps"]
    for cell in cells:
        pl.seed_everything(cell["seed"], verbose=False)
        vae = model_of(cell)
        way: Mover = WAYS[cell["estimator"]][cell["way"]]
        data = MNIST(batch_size=cell["batch_size"], val_size=0, seed=cell["seed"])
        made.append((vae, Anneal("tau", way), data))
    tail = Tail(steps)
    own: list[Callback] = [
        OneOf(number, vae, part) if len(made) > 1 else part
        for number, (vae, anneal, _) in enumerate(made)
        for part in (StartAtMean(), anneal)
    ]
    trainer = _trainer([tail, *own], steps)
    start = time.perf_counter()
    if len(made) > 1:
        trainer.fit(Together([vae for vae, *_ in made]), SideBySide([data for *_, data in made]))
    else:
        trainer.fit(made[0][0], made[0][2])
    seconds = (time.perf_counter() - start) / len(made)
    rows = []
    for cell, loss, (vae, anneal, data) in zip(cells, tail.means, made, strict=True):
        (test,) = _trainer([]).test(vae, data, verbose=False)
        tuner = anneal.tuner
        figures = {
            "train_negative_elbo": round(loss, 4),
            "test_negative_elbo": round(-test["test/elbo"], 4),
            "usage": round(test["test/usage"], 4),
            "tau": round(float(vae.bottleneck.estimator.tau), 4),
            "seconds": round(seconds, 2),
            "tuner_seconds": round(tuner.seconds, 2) if tuner else 0.0,
            "together": len(made),
        }
        rows.append(cell | figures | machine())
    return rows


def _trainer(callbacks: list[Callback], steps: int = 1) -> pl.Trainer:
    return pl.Trainer(
        max_steps=steps,
        max_epochs=-1,
        devices=1,
        default_root_dir="runs/tuner",  # for the last picture
        logger=False,
        callbacks=callbacks,
        enable_checkpointing=False,
        enable_model_summary=False,
        enable_progress_bar=False,
        limit_val_batches=0,
        log_every_n_steps=steps + 1,
    )


def summary(rows: Sequence[dict[str, Any]]) -> dict[tuple[str, ...], dict[str, list[float]]]:
    """Collect train -ELBO over seeds: by all that a panel has in common, then by way."""
    found: dict[tuple[str, ...], dict[str, list[float]]] = {}
    for row in rows:
        panel = tuple(str(row[key]) for key in KEY if key not in ("way", "seed"))
        ways = found.setdefault(panel, {})
        ways.setdefault(row["way"], []).append(float(row["train_negative_elbo"]))
    return found


def tuner() -> str:
    """Make the page's table: train -ELBO by the best constant, by schedules and by `Tuned`."""
    rows = read_csv("tuner")
    lines = [
        "| size | estimator | best constant | cosine | linear | `Tuned` | seeds |",
        "|---|---|---|---|---|---|---|",
    ]
    for panel, ways in summary(rows).items():
        if len(ways) < len(WAYS[panel[1]]):
            continue  # not all has been run yet
        constant = {way: v for way, v in ways.items() if way[0].isdigit()}
        best = min(constant, key=lambda way: statistics.mean(constant[way]))
        shown = [f"{mean_of(constant[best])} (at {best})"]
        shown += [mean_of(ways.get(way, [])) for way in ("cosine", "linear", "tuned")]
        seeds = sorted({len(values) for values in ways.values()})
        lines.append(f"| {' | '.join([*panel[:2], *shown])} | {' to '.join(map(str, seeds))} |")
    lines += ["", f"`python -m benchmarks.tuner` ({conditions(rows[0])}).", ""]
    lines += ["| size | estimator | time by `Tuned` / at a constant temperature |", "|---|---|---|"]
    times = read_csv("tuner_time")
    for row in times:
        spread = f"{row['ratio']} ({row['ratio_p20']} to {row['ratio_p80']})"
        lines.append(f"| {row['size']} | {row['estimator']} | {spread} |")
    return "\n".join([*lines, "", f"`python -m benchmarks.tuner_time` ({conditions(times[0])})."])


@in_style
def draw(panels: dict[tuple[str, ...], dict[str, list[float]]]) -> Any:
    """Draw the mean and the standard deviation of each way, a panel for each setting."""
    rows = -(-len(panels) // _PANELS)
    width, height = 3.2 * min(len(panels), _PANELS), 3.2 * rows
    figure = new_figure(width, height, "train -ELBO, nats: mean and deviation over seeds")
    axes = figure.subplots(rows, min(len(panels), _PANELS), squeeze=False).flat
    for part in axes[len(panels) :]:
        part.set_visible(False)
    for part, (panel, ways) in zip(axes, panels.items(), strict=False):
        size, estimator, *others = panel
        names = [way for way in WAYS[estimator] if way in ways]
        for at, way in enumerate(names):
            values = ways[way]
            spread = statistics.stdev(values) if len(values) > 1 else 0.0
            colour = "#d55e00" if way == "tuned" else "#0072b2"
            part.errorbar(at, statistics.mean(values), spread, marker="o", color=colour)
        part.set_xticks(range(len(names)), names, rotation=45)
        part.set_title(f"{size} {estimator}\nbatch {others[0]}, rate {others[1]}")
    return figure


def main() -> None:
    """Run what is missing; write the CSV and the picture; print means and deviations."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--sizes", nargs="+", choices=SIZES, default=list(SIZES))
    parser.add_argument("--estimators", nargs="+", choices=ESTIMATORS, default=list(ESTIMATORS))
    parser.add_argument("--ways", nargs="+", help="temperatures, cosine, linear, tuned; or all")
    parser.add_argument("--seeds", nargs="+", type=int, default=list(range(5)))
    parser.add_argument("--steps", type=int, default=10_000)
    parser.add_argument("--batch_size", type=int, default=100)
    parser.add_argument("--rate", type=float, default=1.0, help="factor on the learning rate")
    parser.add_argument("--together", action="store_true")
    args = parser.parse_args()
    warnings.filterwarnings("ignore")
    logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)
    prepare_cpu()
    rows: list[dict[str, Any]] = [*read_csv("tuner")]
    done = {tuple(str(row[key]) for key in KEY) for row in rows}
    # Seed by seed, so that a command cut short leaves whole comparisons.
    for seed, size, estimator in product(args.seeds, args.sizes, args.estimators):
        ways = [way for way in WAYS[estimator] if not args.ways or way in args.ways]
        settings = (args.batch_size, args.rate, args.steps, seed)
        cells = [dict(zip(KEY, (size, estimator, way, *settings), strict=True)) for way in ways]
        cells = [c for c in cells if tuple(str(value) for value in c.values()) not in done]
        for group in [cells] if args.together and cells else [[cell] for cell in cells]:
            new = train(group)
            rows += new
            write_csv("tuner", rows)
            for row in new:
                print(*(row[key] for key in KEY), row["train_negative_elbo"], row["seconds"])
    panels = summary(rows)
    for panel, ways_of in panels.items():
        for way, values in ways_of.items():
            print(*panel, way, f"{mean_of(values)} ({len(values)} seeds)")
    compared = {panel: ways for panel, ways in panels.items() if len(ways) > 1}
    if compared:
        save_figure(draw(compared), RESULTS / "tuner.png")


if __name__ == "__main__":
    main()
