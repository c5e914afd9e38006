"""When the bottleneck's block-by-block path is faster than its matrices of logits, on a CPU.

python -m benchmarks.bottleneck --crossover      # for the constant in dvae/bottlenecks/fused.py
"""

import torch

from benchmarks.layer import Step, seconds
from benchmarks.measure import spread
from dvae.bottlenecks import ProjectedCodebook, Upkeep
from dvae.estimators import GumbelSoftmax
from dvae.priors import UniformPrior

__all__ = ["crossover"]


def crossover(rounds: int, tau: float) -> None:
    """Compare both paths of the bottleneck around the size where it changes over, on a CPU."""
    for features, dim in ((64, 64), (256, 128)):
        for power in range(19, 25):
            for codes in (128, 512, 2048, 8192):
                rows = 2**power // codes // 64 * 64
                if not rows:
                    continue
                steps = [
                    bottleneck_step(k, rows, codes, features, dim, tau)
                    for k in ("plain", "blocked")
                ]
                for step in steps * 2:
                    step()
                device = torch.device("cpu")
                times = [[seconds(step, device) for step in steps] for _ in range(rounds)]
                median, low, high = spread([a / b for a, b in times])
                print(
                    f"C={features:4} D={dim:4} N={rows:6} K={codes:5} N*K=2^{power}: "
                    f"plain / blocked {median:.2f} ({low:.2f} to {high:.2f})",
                    flush=True,
                )


def bottleneck_step(
    kernel: str, rows: int, codes: int, features: int, dim: int, tau: float
) -> Step:
    """Build a training step of the bottleneck on a grid of 8x8, its usage counts with it."""
    bottleneck = ProjectedCodebook(
        codes,
        dim,
        features,
        GumbelSoftmax(tau),
        upkeep=Upkeep(kmeans=0),
        kernel=kernel,  # type: ignore[arg-type]
    ).train()
    grid = torch.randn(rows // 64, features, 8, 8, requires_grad=True)
    prior = UniformPrior()
    prior.build((8, 8), (codes,))

    def step() -> None:
        q = bottleneck(grid, prior)
        value = q.expectation(lambda z, _: z.flatten(2).square().sum(-1))
        (value - prior.closed_kl(q)).mean().backward()

    return step
