"""What a prior costs that is trained with the model: a training step beside one with a uniform one.

    python -m benchmarks.prior_steps

The model and the priors are those of `benchmarks.priors`, on a batch of 200 and one thread, forward
and backward pass, without the optimizer. In each round every model takes one step; reported are
the median of the ratios to the uniform prior's step, with their 20th and 80th percentile, and the
weights of the prior, masked ones not counted.
"""

import torch
from torch import nn

from benchmarks.estimators import BATCH, WARM_UP, make_step, seconds
from benchmarks.measure import machine, milliseconds, ratio, write_csv
from benchmarks.priors import PRIORS
from dvae import priors
from dvae.bottlenecks import CategoricalBottleneck
from dvae.estimators import GumbelSoftmax
from dvae.models import CategoricalVAE
from dvae.priors.made import MaskedLinear

__all__ = ["main"]

ROUNDS = 60


def weights(module: nn.Module) -> int:
    """Count the weights of a prior that take part."""
    masked = [part for part in module.modules() if isinstance(part, MaskedLinear)]
    left_out = sum(int((part.mask == 0).sum()) * part.takes for part in masked)
    return sum(p.numel() for p in module.parameters()) - left_out


def main() -> None:
    """Run the comparison, print it and write it down."""
    torch.set_num_threads(1)
    device = torch.device("cpu")
    image = torch.rand(BATCH, 1, 28, 28)
    models = []
    for kind, settings in {"UniformPrior": {}, **PRIORS}.items():
        torch.manual_seed(0)
        layer = CategoricalBottleneck(20, 10, GumbelSoftmax(0.67))
        models.append(CategoricalVAE(bottleneck=layer, prior=getattr(priors, kind)(**settings)))
    steps = [make_step(model, image) for model in models]
    for step in steps * WARM_UP:
        step()
    times = [[seconds(step, device) for step in steps] for _ in range(ROUNDS)]
    columns = [list(column) for column in zip(*times, strict=True)]
    rows: list[dict[str, object]] = []
    for model, column in zip(models, columns, strict=True):
        median, low, high = (round(x, 2) for x in ratio(column, columns[0]))
        row = {"prior": type(model.prior).__name__, "weights": weights(model.prior)}
        cost = {"cost_median": median, "cost_p20": low, "cost_p80": high, "rounds": ROUNDS}
        rows.append({**row, **milliseconds(column), **cost, **machine()})
        print(*rows[-1].values())
    write_csv("prior_steps", rows)


if __name__ == "__main__":
    main()
