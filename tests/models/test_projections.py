"""A batch is projected onto the code book once, in training, validation and test alike."""

import pytest
import torch

from dvae.bottlenecks import DistanceCodebook, ProjectedCodebook, Upkeep, fused, fused_posterior
from dvae.estimators import GumbelSoftmax, Reinforce, ReinMax
from dvae.likelihoods import Gaussian
from dvae.models import CodebookVAE, Evaluation
from dvae.networks import ResNet
from dvae.priors import CategoricalPrior, MADEPrior, UniformPrior
from tests.toy import toy_data, toy_trainer

ASLEEP = Upkeep(kmeans=0, revive_after=0)
KINDS = {
    "plain": lambda e: ProjectedCodebook(6, 4, 4, e, upkeep=ASLEEP, kernel="plain"),
    "blocked": lambda e: ProjectedCodebook(6, 4, 4, e, upkeep=ASLEEP, kernel="blocked"),
    "distance": lambda e: DistanceCodebook(6, 4, e, upkeep=ASLEEP),
}
PRIORS = {"uniform": UniformPrior, "learned": CategoricalPrior, "MADE": lambda: MADEPrior(4)}


@pytest.mark.parametrize("prior", PRIORS)
@pytest.mark.parametrize("estimator", [GumbelSoftmax, ReinMax, Reinforce])
@pytest.mark.parametrize("kind", KINDS)
def test_each_batch_is_projected_once(tmp_path, monkeypatch, kind, estimator, prior):
    if kind == "blocked" and estimator is Reinforce:
        pytest.skip("it has no such kernel")
    torch.manual_seed(0)
    bottleneck = KINDS[kind](estimator())
    model = CodebookVAE(
        ResNet((1, 6, 6), width=8, halvings=1, blocks=1),
        bottleneck,
        Gaussian(0.2),
        evaluation=Evaluation(iwae_samples=1, max_states=0),
        prior=PRIORS[prior](),
    )
    seen = []
    for owner, name in ((fused, "sweep"), (fused_posterior, "sweep"), (bottleneck, "_logits")):
        monkeypatch.setattr(owner, name, counted(getattr(owner, name), seen))
    found = {}
    for stage in ("fit", "validate", "test"):
        seen.clear()
        trainer = toy_trainer(tmp_path, max_steps=3, limit_val_batches=2 * (stage != "fit"))
        data, batches = toy_data(), []
        data.eval_batch_size = 10
        hook = model.encoder.register_forward_hook(lambda *_, b=batches: b.append(1))
        if stage == "fit":
            trainer.fit(model, datamodule=data)
        else:
            getattr(trainer, stage)(model, datamodule=data, verbose=False)
        hook.remove()
        found[stage] = len(seen), len(batches)
    assert found["fit"] == (3, 3) and found["validate"] == (2, 2)
    assert found["test"][0] == found["test"][1] > 1


def counted(function, seen):
    def call(*args, **kwargs):
        seen.append(1)
        return function(*args, **kwargs)

    return call
