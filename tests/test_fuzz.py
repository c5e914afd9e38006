"""Any input gives a finite result of the right shape or one clear line."""

import random

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.fuzz import config_case, fuzz
from benchmarks.fuzz.calls import call_of_functional
from dvae.estimators import ESTIMATORS, PathwiseEstimator
from dvae.functional import categorical_entropy, categorical_kl, gumbel_from_uniform, gumbel_softmax

PATHWISE = [cls for cls in ESTIMATORS.values() if issubclass(cls, PathwiseEstimator)]
quick = settings(derandomize=True, deadline=None, max_examples=20, database=None)


@st.composite
def logits(draw):
    shape = draw(st.lists(st.integers(0, 4), min_size=0, max_size=3))
    k = draw(st.integers(1, 40))
    dtype = draw(st.sampled_from([torch.float32, torch.float64, torch.bfloat16, torch.float16]))
    scale = draw(st.sampled_from([0.0, 1e-30, 1.0, 80.0, 3e4]))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**31)))
    values = torch.randn(*shape, k, generator=generator, dtype=torch.float64) * scale
    values = values.clamp(-6e4, 6e4)  # half precision ends at 65504
    if draw(st.booleans()) and k > 1:
        values[..., draw(st.integers(0, k - 1))] = -torch.inf
    return values.to(dtype).requires_grad_()


@pytest.mark.parametrize("cls", PATHWISE)
@quick
@given(theta=logits(), training=st.booleans(), seed=st.integers(0, 2**31))
def test_a_layer_gives_a_finite_code_and_gradient_or_says_why_not(cls, theta, training, seed):
    torch.manual_seed(seed)
    layer = cls().train(training)
    if theta.shape[-1] < 2:
        with pytest.raises(ValueError, match="at least 2 categories"):
            layer(theta)
        return
    draw = layer(theta)
    assert draw.code.shape == theta.shape and draw.code.dtype == theta.dtype
    assert draw.index.shape == theta.shape[:-1]
    assert draw.code.isfinite().all()
    if training:
        weight = torch.randn(theta.shape)
        (grad,) = torch.autograd.grad((draw.code.float() * weight).sum(), theta)
        assert grad.isfinite().all()


@quick
@given(theta=logits(), tau=st.floats(1e-3, 1e3), seed=st.integers(0, 2**31))
def test_the_maths_stays_finite(theta, tau, seed):
    generator = torch.Generator().manual_seed(seed)
    noise = gumbel_from_uniform(torch.rand(theta.shape, generator=generator))
    wide = theta.double()
    uniform = torch.zeros_like(wide).log_softmax(-1)
    values = [gumbel_softmax(wide, noise, tau)]
    if theta.numel():
        values += [categorical_kl(wide, uniform), categorical_entropy(wide)]
    if theta.shape[-1] == 1:  # one category that is forbidden or certain
        values = values[:1]
    for value in values:
        assert value.isfinite().all()
        (grad,) = torch.autograd.grad(value.sum(), theta, retain_graph=True)
        assert grad.isfinite().all()


@pytest.mark.filterwarnings("ignore")
def test_random_calls_of_everything_public():
    counts = fuzz(1000, seed=12345)
    assert counts["failure"] == 0
    assert counts["result"] > 250 and counts["clear error"] > 250


def test_every_case_of_a_function_is_a_call_of_it():
    # None of them ends in a ValueError, which would be counted as a clear one.
    for seed in range(200):
        torch.manual_seed(seed)
        call_of_functional(random.Random(seed), [])


@pytest.mark.filterwarnings("ignore")
def test_broken_configs_are_one_line(tmp_path):
    results = [config_case(seed, tmp_path) for seed in range(500, 508)]
    assert "clear error" in results
