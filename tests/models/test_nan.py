"""NaN among the logits gets through a step where nobody looks at a draw, and into the loss."""

import math

import pytest
import torch

from dvae.models import ELBO, IWAE
from tests.estimators.catalogue import everything, name
from tests.models.test_host_waits import (
    BOTTLENECKS,
    CODES,
    LATENTS,
    SHAPE,
    bounded,
    categorical,
    grid,
)
from tests.posteriors import objective_of

BROKEN = [math.nan, math.inf]


@pytest.fixture(autouse=True)
def accelerator(monkeypatch):
    """Let draws be looked at as little as where a look is waited for.

    A place out of bounds is an error on a CPU all the same, where a GPU would end all work.
    """
    for module in ("estimators.base", "kernels.loops"):
        monkeypatch.setattr(f"dvae.{module}.is_waited_for", lambda tensor: True)


def loss_of(model, value, count=1):
    """Take a step with so many features broken of the first image."""
    image = torch.rand(2, *SHAPE)
    features = model.encoder(image).detach()
    features[0, :count] = value
    features.requires_grad_()
    with model.bottleneck.accumulating():
        out = objective_of(model, image, features)
    out.loss.backward()
    model.bottleneck.step()
    return out.loss


@pytest.mark.parametrize("value", BROKEN)
def test_of_all_estimators(value):
    for codes in (2, CODES):
        for estimator in everything(LATENTS, codes):
            for objective in [ELBO(), ELBO(samples=3), *([IWAE(3)] if bounded(estimator) else [])]:
                model = categorical(estimator, objective=objective, codes=codes)
                assert not loss_of(model, value).isfinite(), name(estimator)


def test_of_all_estimators_where_every_category_is_masked():
    for estimator in everything(LATENTS, CODES):
        model = categorical(estimator)
        assert not loss_of(model, -math.inf, CODES).isfinite(), name(estimator)


@pytest.mark.parametrize("value", BROKEN)
@pytest.mark.parametrize("bottleneck", BOTTLENECKS)
def test_of_all_bottlenecks(bottleneck, value):
    made = BOTTLENECKS[bottleneck]()
    # FSQ has a bound for whatever is infinite.
    fine = bottleneck == "FSQ" and value == math.inf
    assert loss_of(grid(made), value).isfinite() == fine
    # Evaluation gets through as well, and says NaN.
    features = torch.full((2, made.in_features, 3, 3), value)
    made.eval()
    q = made(features)
    index = q.mode()
    assert index.min() >= 0 and index.max() < made.num_codes
    made.count(index), made.embed(index), q.sample(2), q.log_prob(index.unsqueeze(0)), q.entropy()
