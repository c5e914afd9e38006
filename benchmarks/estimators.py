"""What each estimator costs: a training step with it beside one with `GumbelSoftmax`.

Forward and backward pass of the ELBO of the default `CategoricalVAE` on a batch of 200, without the
optimizer, which is the same for all. In each round every estimator takes one step, and what is
reported is the median of the ratios to `GumbelSoftmax` in the same round, with their 20th and 80th
percentile. Estimators for two categories, and the enumeration, are compared at a size of their own.

    python -m benchmarks.estimators --threads 1
"""

import argparse
import time
from collections.abc import Callable, Sequence
from contextlib import suppress

import torch
from torch import Tensor

from benchmarks.measure import machine, milliseconds, ratio, write_csv
from dvae.bottlenecks import CategoricalBottleneck
from dvae.estimators import ESTIMATORS, Estimator, GumbelSoftmax
from dvae.estimators.about import trials
from dvae.models import CategoricalVAE

__all__ = ["main"]

BATCH = 200
WARM_UP = 5

Step = Callable[[], None]

SIZES = ((20, 10), (64, 2), (4, 4))
"""Latents and codes."""


def compared() -> dict[tuple[int, int], list[Estimator]]:
    """Put each estimator at the first size that it takes, with the defaults, after the usual."""
    found = {size: list(trials(GumbelSoftmax, *size).values()) for size in SIZES}
    for cls in ESTIMATORS.values():
        for size in SIZES if cls is not GumbelSoftmax else ():
            with suppress(ValueError):
                found[size] += trials(cls, *size).values()
                break
    return found


def make_step(model: CategoricalVAE, image: Tensor) -> Step:
    """Build one forward and backward pass of the training objective."""

    def step() -> None:
        model.zero_grad()
        features = model.encoder(image)
        q = model.bottleneck(features, model.prior)
        out = model.objective(lambda z: model.log_px(z, image), q, model.prior)
        out.loss.backward()

    return step


def seconds(step: Step, device: torch.device) -> float:
    """Time one step, to the end of what it started on the device."""
    if device.type == "cuda":
        torch.cuda.synchronize()
    start = time.perf_counter()
    step()
    if device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - start


def decoded(model: CategoricalVAE, step: Step) -> int:
    """Count the codes that the decoder sees for each image."""
    seen: list[int] = []
    hook = model.decoder.register_forward_hook(lambda _, args, __: seen.append(len(args[0])))
    step()
    hook.remove()
    return sum(seen) // BATCH


def compare(
    latents: int,
    codes: int,
    estimators: Sequence[Estimator],
    rounds: int,
    device: torch.device,
) -> list[dict[str, object]]:
    """Time estimators of one size in turn, and divide by the first."""
    image = torch.rand(BATCH, 1, 28, 28, device=device)
    models, steps = [], []
    for estimator in estimators:
        torch.manual_seed(0)
        model = CategoricalVAE(bottleneck=CategoricalBottleneck(latents, codes, estimator))
        models.append(model.to(device))
        steps.append(make_step(models[-1], image))
    for step in steps * WARM_UP:
        step()
    times = [[seconds(step, device) for step in steps] for _ in range(rounds)]
    rows: list[dict[str, object]] = []
    columns = [list(column) for column in zip(*times, strict=True)]
    for model, step, column in zip(models, steps, columns, strict=True):
        median, low, high = ratio(column, columns[0])
        rows.append(
            {
                "latents": latents,
                "codes": codes,
                "estimator": type(model.bottleneck.estimator).__name__,
                "settings": model.bottleneck.estimator.extra_repr(),
                "decoded_per_image": decoded(model, step),
                **milliseconds(column),
                "cost_median": round(median, 2),
                "cost_p20": round(low, 2),
                "cost_p80": round(high, 2),
                "rounds": rounds,
            }
        )
    return rows


def main() -> None:
    """Run the comparison, print it and write it down."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, default=1, help="threads of torch on CPU")
    parser.add_argument("--rounds", type=int, default=60, help="timed steps of each estimator")
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    rows = []
    for (latents, codes), estimators in compared().items():
        # A step of the enumeration takes seconds, and its ratio is far from 1 in every round.
        rounds = max(5, args.rounds // 5) if (latents, codes) == (4, 4) else args.rounds
        rows += compare(latents, codes, estimators, rounds, torch.device(args.device))
    print(f"{'size':>6} {'estimator':24} {'decoded':>7} {'ms':>8}  cost (p20 to p80)")
    for row in rows:
        size = f"{row['latents']}x{row['codes']}"
        hard = " hard" if "hard=True" in str(row["settings"]) else ""
        print(
            f"{size:>6} {row['estimator']}{hard:<{24 - len(str(row['estimator']))}} "
            f"{row['decoded_per_image']:>7} {row['ms']:>8}  "
            f"{row['cost_median']:.2f} ({row['cost_p20']:.2f} to {row['cost_p80']:.2f})"
        )
    print(f"wrote {write_csv('estimators', rows, where=machine(args.device))}")


if __name__ == "__main__":
    main()
