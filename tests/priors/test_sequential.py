"""Laws of the priors that draw the integers of a code one after another."""

import itertools
import math

import pytest
import torch

from dvae.priors import PRIORS, MADEPrior, Sampling, UniformPrior
from dvae.priors.sequential import SequentialPrior
from tests.laws import assert_chi_square

# Positions and table of latents and of a grid: with 3 categories 27 and 81 codes.
CODES = {"latents": ((3,), (3, 3)), "grid": ((2, 2), (3,))}
SMALL = {
    "AutoregressivePrior": {"width": 8, "depth": 1, "heads": 1},
    "MADEPrior": {"width": 4},
}
MAKERS = {n: (lambda c=c, n=n: c(**SMALL[n])) for n, c in PRIORS.items() if n in SMALL}
every = pytest.mark.parametrize("kind", MAKERS)
codes = pytest.mark.parametrize("code", CODES)


def built(kind, code="grid"):
    torch.manual_seed(3)
    prior = MAKERS[kind]()
    prior.build(*CODES[code])
    for parameter in prior.parameters():
        parameter.data.normal_(0, 0.3)
    return prior.eval()


def states(code):
    shape, counts = CODES[code]
    found = list(itertools.product(range(counts[-1]), repeat=math.prod(shape)))
    return torch.tensor(found).view(-1, *shape)


def one_hot(index):
    return torch.nn.functional.one_hot(index, 3).float()


def test_every_sequential_prior_is_here():
    assert set(MAKERS) == {n for n, c in PRIORS.items() if issubclass(c, SequentialPrior)}


@every
@codes
def test_p_sums_to_one_and_one_hot_codes_have_the_probability_of_their_integers(kind, code):
    prior, index = built(kind, code), states(code)
    with torch.no_grad():
        log_p = prior.log_prob(index)
        assert log_p.dtype == torch.float32
        assert log_p.exp().sum().item() == pytest.approx(1, abs=1e-5)
        torch.testing.assert_close(prior.log_prob(one_hot(index)), log_p)
        torch.testing.assert_close(prior.log_prob(index.expand(2, *index.shape))[1], log_p)


@every
def test_it_starts_uniform(kind):
    prior = MAKERS[kind]()
    prior.build((2, 2), (3,))
    uniform = UniformPrior()
    uniform.build((2, 2), (3,))
    torch.testing.assert_close(prior.log_prob(states("grid")), uniform.log_prob(states("grid")))


@every
@codes
def test_what_comes_later_does_not_change_what_is_said_of_a_position(kind, code):
    prior = built(kind, code)
    index = states(code)[:9].flatten(1)
    x = one_hot(index).requires_grad_()
    logits = prior.logits(x)
    for t in range(index.shape[1]):
        (gradient,) = torch.autograd.grad(logits[:, t].sum(), x, retain_graph=True)
        assert (gradient[:, t:] == 0).all()
        assert t == 0 or (gradient[:, :t] != 0).any()


@every
@codes
def test_samples_have_their_probabilities(kind, code):
    prior, index = built(kind, code), states(code)
    with torch.no_grad():
        probs = prior.log_prob(index).exp()
    drawn = prior.sample(20_000, torch.Generator().manual_seed(1))
    assert drawn.shape == (20_000, *CODES[code][0])
    flat = drawn.flatten(1)
    number = flat @ 3 ** torch.arange(flat.shape[1] - 1, -1, -1)
    assert_chi_square(number.bincount(minlength=len(index)), probs)
    again = prior.sample(20_000, torch.Generator().manual_seed(1))
    assert torch.equal(drawn, again)


@every
def test_a_relaxed_code_sends_its_gradient_through_what_is_given_and_what_is_predicted(kind):
    prior = built(kind)
    x = torch.rand(2, 2, 2, 3).softmax(-1).requires_grad_()
    (gradient,) = torch.autograd.grad(prior.log_prob(x).sum(), x)
    # The last position conditions nothing: its gradient is the log-probabilities alone.
    log_p = prior.logits(x.flatten(1, 2)).log_softmax(-1)
    torch.testing.assert_close(gradient[:, 1, 1], log_p[:, 3])
    assert (gradient[:, 0, 0] - log_p[:, 0]).abs().max() > 1e-3


@every
def test_half_precision_is_left_where_log_p_is_computed(kind):
    prior, index = built(kind), states("grid")
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        log_p = prior.log_prob(index)
    assert log_p.dtype == torch.float32
    assert log_p.exp().sum().item() == pytest.approx(1, abs=1e-5)


@every
def test_a_temperature_near_0_draws_the_most_probable_and_a_cut_forbids(kind):
    prior = built(kind)
    drawn = prior.sample(50, torch.Generator().manual_seed(2), Sampling(temperature=1e-4))
    assert len(drawn.unique(dim=0)) == 1
    assert torch.equal(drawn, prior.sample(50, torch.Generator().manual_seed(3), Sampling(top_k=1)))
    assert torch.equal(drawn[:5], prior.sample(5, how=Sampling(top_p=1e-6)))


@every
def test_classes_of_a_prior_that_knows_none_are_refused(kind):
    with pytest.raises(ValueError, match="knows no classes"):
        built(kind).sample(2, label=torch.zeros(2, dtype=torch.int64))


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"temperature": 0.0}, "temperature must be a number > 0; got 0.0"),
        ({"top_k": -1}, "top_k must be an integer >= 0; got -1"),
        ({"top_p": 0.0}, "top_p must be a number > 0 and <= 1; got 0.0"),
        ({"guidance": -1.0}, "guidance must be a number >= 0; got -1.0"),
        ({"temperature": "0.9"}, "temperature must be a number > 0; got '0.9'"),
        ({"top_p": None}, "top_p must be a number > 0 and <= 1; got None"),
    ],
)
def test_wrong_ways_of_sampling_are_refused(given, message):
    with pytest.raises(ValueError, match=message):
        Sampling(**given)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: MADEPrior(0), "MADEPrior.width must be an integer >= 1; got 0"),
        (lambda: MADEPrior(depth=-1), "MADEPrior.depth must be an integer >= 0; got -1"),
    ],
)
def test_wrong_sizes_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()
