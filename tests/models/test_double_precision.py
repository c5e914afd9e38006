"""Float64 stays float64: no part falls back to fewer digits, and what is reported agrees."""

from copy import deepcopy

import pytest
import torch
from torch.testing import assert_close

from dvae.functional import minimum_variance
from dvae.kernels import gumbel_codebook, reinmax_codebook, straight_through_codebook
from tests.models.test_mixed_precision import MODELS
from tests.posteriors import bounds_of, objective_of


@pytest.mark.parametrize("name", MODELS)
def test_every_part_trains_and_is_evaluated_in_double_precision(name):
    torch.manual_seed(0)
    single = MODELS[name]()
    image = torch.randint(256, (8, 1, 6, 6)).double() / 255
    model = deepcopy(single).double().train()
    for _ in range(2):  # the second finds what the first has left behind
        features = model.encoder(image)
        out = objective_of(model, image, features)
        out.loss.backward()
    assert {out.loss.dtype, out.bound.dtype, out.log_px.dtype, out.kl.dtype} == {torch.float64}
    trained = [p.grad for p in model.parameters() if p.grad is not None]
    assert trained and all(g.dtype == torch.float64 and g.isfinite().all() for g in trained)

    model, single = model.eval(), deepcopy(model).float().eval()
    with torch.no_grad():
        features = model.encoder(image)
        found = bounds_of(model, image, features, 2, 64)
        index = model.bottleneck(features).sample(3)
        values = []
        for m, x in ((model, image), (single, image.float())):
            q = m.bottleneck(m.encoder(x))
            # A residual code's KL is taken at draws, whose noise has the digits of the dtype.
            of_q = q.log_prob(index) if name == "residual code" else q.kl(m.prior)
            values.append((of_q, m.log_px(m.bottleneck.embed(index), x)))
        assert model.reconstruct(image).dtype == torch.float64
    assert {found.elbo.dtype, found.iwae.dtype, values[0][0].dtype} == {torch.float64}
    for double, rounded in zip(*values, strict=True):
        assert_close(rounded.double(), double, rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("backend", ["reference", "blocked"])
@pytest.mark.parametrize("layer", [gumbel_codebook, straight_through_codebook, reinmax_codebook])
def test_a_temperature_given_as_a_number_has_all_its_digits(layer, backend):
    torch.manual_seed(0)
    weight, codebook = torch.randn(9, 3).double(), torch.randn(9, 4).double()
    found = []
    for tau in (0.3, torch.tensor(0.3, dtype=torch.float64)):
        h = torch.randn(5, 3, generator=torch.Generator().manual_seed(1)).double().requires_grad_()
        code, _, kl = layer(h, weight, None, codebook, tau, seed=1, backend=backend)
        found.append(torch.autograd.grad((code.square().sum() + kl.sum()), h)[0])
    assert torch.equal(*found)


def test_a_weight_of_minimum_variance_given_as_a_number_has_all_its_digits():
    logits = torch.randn(5, 4, dtype=torch.float64, requires_grad=True)
    index, upstream = torch.randint(4, (5,)), torch.randn(5, 4).double()
    code = torch.nn.functional.one_hot(index, 4).double()
    gradients = [
        torch.autograd.grad(
            (minimum_variance(logits, code, index, logits.softmax(-1), t) * upstream).sum(), logits
        )[0]
        for t in (0.1, torch.tensor(0.1, dtype=torch.float64))
    ]
    assert torch.equal(*gradients)
