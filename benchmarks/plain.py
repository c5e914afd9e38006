"""A second implementation of two cells of reinmax2023, 8x4 GST-1.0 and ST, in plain PyTorch.

python -m benchmarks.plain GST-1.0 --seeds 0 1
python -m benchmarks.plain ST --seeds 0 1 2 3 4 5 6 7 8 9 --epochs 2

Where ours is far from a published figure, this says whether the package is the cause. The images,
the settings of the cell and `prepare_cpu` are shared; network, draw, estimator, loss and loop are
written down here a second time from the papers, with nothing of `dvae` in them.
"""

import argparse
import math
import time

import torch
from rich.progress import track
from torch import Tensor, nn
from torch.nn import functional as F

from benchmarks.measure import RESULTS, machine, read_csv, write_csv
from benchmarks.tables.spec import Cell, load
from dvae.data import MNIST
from dvae.models.overhead import prepare_cpu

__all__ = ["ROW", "TABLE", "divergence", "soft_part", "train"]

TABLE = "reinmax2023"
ROW = "8x4"


def soft_part(column: str, theta: Tensor, code: Tensor, tau: float) -> Tensor:
    """Return what the gradient goes through.

    Args:
        column: ``ST`` or ``GST-1.0``.
        theta: Logits, ``(B, L, K)``.
        code: One-hot draws of the same shape.
        tau: Temperature.

    Returns:
        Probabilities of the same shape.
    """
    if column == "ST":
        return (theta / tau).softmax(-1)
    # Fan et al. 2022, arXiv 2206.07235, algorithm 1, with a gap of one.
    fixed = theta.detach()
    highest = fixed.max(-1, keepdim=True).values
    raise_drawn = (highest - fixed) * code
    lower_others = (fixed - highest + 1.0).clamp(min=0.0) * (1 - code)
    return ((theta + raise_drawn - lower_others) / tau).softmax(-1)


def divergence(theta: Tensor) -> Tensor:
    """Return the KL of the code to a uniform prior.

    Args:
        theta: Logits, ``(B, L, K)``.

    Returns:
        Nats per example, ``(B,)``.
    """
    _, latents, codes = theta.shape
    entropy = -(theta.softmax(-1) * theta.log_softmax(-1)).sum((1, 2))
    return latents * math.log(codes) - entropy


def train(column: str, cell: Cell, pixels: Tensor, seed: int, epochs: int) -> list[float]:
    """Train by the protocol of the table.

    Args:
        column: ``ST`` or ``GST-1.0``.
        cell: Gives sizes, temperature and learning rate.
        pixels: ``(N, 784)``, in [0, 1].
        seed: Seed of weights, noise and data order.
        epochs: How many.

    Returns:
        The running mean of -ELBO over each epoch, nats per example.
    """
    assert cell.estimator is not None
    torch.manual_seed(seed)
    width, tau = cell.latents * cell.codes, cell.estimator["tau"]
    encoder = nn.Sequential(
        *(nn.Linear(784, 512), nn.ReLU(), nn.Linear(512, 256), nn.ReLU(), nn.Linear(256, width))
    )
    decoder = nn.Sequential(
        *(nn.Linear(width, 256), nn.ReLU(), nn.Linear(256, 512), nn.ReLU(), nn.Linear(512, 784))
    )
    weights = [*encoder.parameters(), *decoder.parameters()]
    optimizer = torch.optim.Adam(weights, lr=cell.optimizer["lr"], fused=True)
    means = []
    for _ in track(range(epochs), f"{column} {cell.row} seed {seed}"):
        total = 0.0
        for chosen in torch.randperm(len(pixels)).split(100):
            x = pixels[chosen]
            theta = encoder(x).view(-1, cell.latents, cell.codes)
            index = torch.distributions.Categorical(probs=theta.detach().softmax(-1)).sample()
            code = F.one_hot(index, cell.codes).to(theta.dtype)
            soft = soft_part(column, theta, code, tau)
            logits = decoder((code + soft - soft.detach()).flatten(1))
            error = F.binary_cross_entropy_with_logits(logits, x, reduction="sum") / len(x)
            loss = error + divergence(theta).mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            total += loss.item() * len(x)
        means.append(total / len(pixels))
    return means


def main() -> None:
    """Train seed after seed and write each into the CSV."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("column", choices=["GST-1.0", "ST"])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--epochs", type=int, default=160)
    args = parser.parse_args()
    torch.set_num_threads(1)  # as in the runs of the tables
    prepare_cpu()
    cell = load(TABLE).cells[f"{ROW} {args.column}"]
    pixels = MNIST().load("train").images.float().div(255).flatten(1)
    for seed in args.seeds:
        started = time.perf_counter()
        means = train(args.column, cell, pixels, seed, args.epochs)
        run = {"column": args.column, "seed": str(seed), "epochs": str(args.epochs)}
        others = [row for row in read_csv("plain") if any(row[key] != run[key] for key in run)]
        measured = {
            "train_negative_elbo": round(means[-1], 4),
            "seconds": round(time.perf_counter() - started, 1),
        }
        write_csv("plain", [*others, {**run, **measured}], where=machine("cpu"))
        print(f"{args.column} {ROW} seed {seed}: train -ELBO {means[-1]:.2f}", flush=True)
    print(RESULTS / "plain.csv")


if __name__ == "__main__":
    main()
