"""What is declared to be above 0 may be as small as float32 can divide by, and no smaller."""

import numpy as np
import pytest
import torch

from dvae.bottlenecks import DistanceCodebook
from dvae.callbacks import Anneal
from dvae.estimators import (
    REBAR,
    RELAX,
    DecoupledGumbelSoftmax,
    GappedStraightThrough,
    GumbelRao,
    GumbelSoftmax,
    ReinMaxRao,
    StraightThrough,
)
from dvae.kernels import gumbel_codebook, reinmax_codebook, straight_through_codebook
from dvae.likelihoods import Gaussian, Laplace, LearnedGaussian, OptimalGaussian
from dvae.scalars import LEAST, annealable_scalars, check_count, register_scalar
from dvae.schedules import Exponential, Linear
from tests.toy import toy_data, toy_model, toy_trainer

ESTIMATORS = {
    "gumbel": GumbelSoftmax,
    "hard": lambda tau: GumbelSoftmax(tau, hard=True),
    "straight_through": StraightThrough,
    "rao": GumbelRao,
    "reinmax_rao": ReinMaxRao,
    "gapped": GappedStraightThrough,
    "forward": lambda tau: DecoupledGumbelSoftmax(tau, 1.3),
    "backward": lambda tau: DecoupledGumbelSoftmax(1.0, tau),
    "rebar": REBAR,
    "relax": lambda tau: RELAX(3, 5, tau=tau),
}
LIKELIHOODS = {
    "gaussian": Gaussian,
    "learned": LearnedGaussian,
    "optimal": OptimalGaussian,
    "floor": lambda sigma: OptimalGaussian(floor=sigma),
    "laplace": Laplace,
}
KERNELS = [gumbel_codebook, straight_through_codebook, reinmax_codebook]
LIMIT = ">= 1e-15, below which float32 cannot divide by it; got"


@pytest.mark.parametrize("scale", [1.0, 30.0])
@pytest.mark.parametrize("make", ESTIMATORS.values(), ids=ESTIMATORS)
def test_the_coldest_temperature_has_finite_gradients(make, scale):
    torch.manual_seed(0)
    estimator = make(LEAST).train()
    logits = (scale * torch.randn(2000, 3, 5)).requires_grad_()
    slope = torch.randn(5)
    value = estimator.expectation(lambda z: (z * slope).flatten(2).sum(2).tanh(), logits)
    value.sum().backward()
    assert value.isfinite().all() and logits.grad.isfinite().all()
    assert all(p.grad is None or p.grad.isfinite().all() for p in estimator.parameters())


@pytest.mark.parametrize("make", LIKELIHOODS.values(), ids=LIKELIHOODS)
def test_the_narrowest_pixels_have_finite_densities(make):
    likelihood = make(LEAST)
    params = torch.linspace(0, 1, 48).view(1, 3, 4, 4).requires_grad_()
    for mode in (False, True):
        log_px = likelihood.train(mode).log_prob(params, params.detach().flip(0))
        log_px = log_px + likelihood.log_prob(params, torch.zeros(2, 3, 4, 4))
        log_px.sum().backward()
        assert log_px.isfinite().all() and params.grad.isfinite().all()


@pytest.mark.parametrize("function", KERNELS)
@pytest.mark.parametrize("backend", ["reference", "blocked"])
def test_the_coldest_kernel_is_finite_and_a_colder_one_refused(function, backend):
    torch.manual_seed(0)
    inputs = [torch.randn(n, m, requires_grad=True) for n, m in ((50, 4), (9, 4), (9, 3))]
    h, weight, codebook = inputs
    for tau in (LEAST, torch.tensor(LEAST)):
        found = function(h, weight, None, codebook, tau=tau, seed=1, backend=backend)
        gradients = torch.autograd.grad(found[0].square().sum() + found[2].sum(), inputs)
        assert all(x.isfinite().all() for x in (found[0], *gradients))
    with pytest.raises(ValueError, match=f"tau must be {LIMIT} 9e-16"):
        function(h, weight, None, codebook, tau=9e-16, seed=1, backend=backend)


@pytest.mark.parametrize(
    "make", [*ESTIMATORS.values(), *LIKELIHOODS.values(), lambda v: DistanceCodebook(variance=v)]
)
@pytest.mark.parametrize("value", [9e-16, 1e-40, 1e-300])
def test_what_float32_cannot_divide_by_is_refused(make, value):
    with pytest.raises(ValueError, match=f"{LIMIT} {value:g}"):
        make(value)


def test_a_declared_scalar_may_be_as_small_as_its_buffer_is():
    layer = GumbelSoftmax(LEAST)
    (tau,) = annealable_scalars(layer).values()
    # What is read off the buffer, in float32, is a value that may be declared again.
    register_scalar(layer, "tau", float(tau.buffer), tau.range)


@pytest.mark.parametrize("schedule", [Linear(1.0, 1e-20), Exponential(1.0, 1e-20)])
def test_annealing_to_a_colder_one_is_refused_before_training(schedule, tmp_path):
    trainer = toy_trainer(tmp_path, max_steps=1, callbacks=[Anneal("tau", schedule)])
    with pytest.raises(ValueError, match=f"anneal.tau must be {LIMIT} 1e-20"):
        trainer.fit(toy_model(), datamodule=toy_data())


def test_rebar_stays_above_0_whatever_the_optimizer_does():
    estimator = REBAR(0.5)
    with torch.no_grad():
        estimator.log_tau.fill_(-1000.0)
    logits = torch.randn(20, 3, 5, requires_grad=True)
    estimator.expectation(lambda z: z[..., 0].square().sum(-1), logits).sum().backward()
    assert estimator.tau > 0 and logits.grad.isfinite().all()
    assert all(p.grad.isfinite().all() for p in estimator.parameters())


def test_a_count_is_an_integer_of_python_or_numpy():
    for value in (2, np.int64(2)):
        check_count("n", value, 2)
    for value in (1, np.int64(1), 2.0, True, "2", None):
        with pytest.raises(ValueError, match="n must be an integer >= 2; got"):
            check_count("n", value, 2)
    with pytest.raises(ValueError, match="n must be below 2\\^63"):
        check_count("n", 2**63, 2)
