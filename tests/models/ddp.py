"""One step of training and a test, by as many processes as were started; see test_ddp.py."""

import os
import sys
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch

from dvae.bottlenecks import CategoricalBottleneck, ProjectedCodebook, Upkeep
from dvae.data import MNIST
from dvae.estimators import ExactEnumeration, MeanField
from dvae.likelihoods import Bernoulli
from dvae.models import CategoricalVAE, CodebookVAE, Evaluation, PenalisedELBO, PriorLikelihood
from dvae.models.base import DiscreteVAE
from dvae.networks import MLP, ResNet
from dvae.penalties import Adversarial
from dvae.priors import AutoregressivePrior, MADEPrior

# Of all processes together.
BATCH = 48
# Wide posteriors for the gradient, none at all for the test: its draws are then the arg-max.
SHARP = 1e5


def models() -> dict[str, DiscreteVAE]:
    """Build models whose gradient has no noise, and whose layers see one image at a time."""
    torch.manual_seed(0)
    common: dict[str, Any] = {
        "optimizer": lambda parameters: torch.optim.SGD(parameters, lr=1e-4),
        "evaluation": Evaluation(iwae_samples=1),
    }
    asleep = Upkeep(kmeans=0, revive_after=0)
    found: dict[str, DiscreteVAE] = {
        "categorical": CategoricalVAE(
            MLP(hidden=(16,), norm="none"),
            CategoricalBottleneck(2, 3, ExactEnumeration()),
            **common,
        ),
        "codebook": CodebookVAE(
            ResNet((1, 28, 28), width=8, blocks=1),
            ProjectedCodebook(8, 4, estimator=MeanField(), upkeep=asleep),
            likelihood=Bernoulli(),  # a density draws noise for its pixels
            **common,
        ),
        # A prior that looks at the whole code, trained with the model and after it.
        "prior": CategoricalVAE(
            MLP(hidden=(16,), norm="none"),
            CategoricalBottleneck(2, 3, ExactEnumeration()),
            prior=MADEPrior(4),
            **common,
        ),
        "prior alone": CodebookVAE(
            ResNet((1, 28, 28), width=8, blocks=1),
            ProjectedCodebook(8, 4, estimator=MeanField(), upkeep=asleep),
            likelihood=Bernoulli(),
            objective=PriorLikelihood("mode"),
            prior=AutoregressivePrior(width=8, depth=1, heads=2),
            **common,
        ),
    }
    # A discriminator of its own, which is trained with the model.
    found["penalised"] = CodebookVAE(
        ResNet((1, 28, 28), width=8, blocks=1),
        ProjectedCodebook(8, 4, estimator=MeanField(), upkeep=asleep),
        likelihood=Bernoulli(),
        objective=PenalisedELBO([Adversarial(0.5, adaptive=False, width=8, channels=1)]),
        **common,
    )
    for part in ("encoder", "bottleneck", "decoder"):  # as finetune.freeze does
        getattr(found["prior alone"], part).requires_grad_(False)
    for name in ("prior", "prior alone"):
        for parameter in found[name].prior.parameters():
            parameter.data.add_(0.3 * torch.randn_like(parameter))
    return found


class Gradients(pl.Callback):
    """Keep the gradients of the step, reduced over the processes."""

    def on_before_optimizer_step(self, trainer: Any, model: Any, optimizer: Any) -> None:
        """Copy them."""
        self.found = {
            name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None
        }


def measure(model: DiscreteVAE, processes: int) -> dict[str, dict[str, torch.Tensor]]:
    """Take one step, then test.

    Args:
        model: Of `models`.
        processes: How many share the work.

    Returns:
        The gradients, and the metrics.
    """
    gradients = Gradients()
    trainer = pl.Trainer(
        max_steps=1,
        accelerator="cpu",
        devices=processes,
        strategy="ddp" if processes > 1 else "auto",
        logger=False,
        callbacks=[gradients],
        enable_checkpointing=False,
        enable_model_summary=False,
        enable_progress_bar=False,
        limit_val_batches=0,
    )
    data = MNIST(batch_size=BATCH // processes)
    trainer.fit(model, datamodule=data)
    with torch.no_grad():
        last = [m for m in model.encoder.modules() if getattr(m, "weight", None) is not None][-1]
        sharpened = getattr(model.bottleneck, "projection", last)
        sharpened.weight.mul_(SHARP)
    (metrics,) = trainer.test(model, datamodule=data, verbose=False)
    return {
        "gradients": gradients.found,
        "metrics": {name: torch.tensor(value) for name, value in metrics.items()},
    }


if __name__ == "__main__":
    world = int(os.environ["WORLD_SIZE"])
    found = {name: measure(model, world) for name, model in models().items()}
    torch.save(found, Path(sys.argv[1]) / f"{os.environ['RANK']}.pt")
