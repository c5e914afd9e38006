"""The exact gradient is that of the enumerated expectation, and of its finite differences."""

import pytest
import torch

from dvae.lab import exact_gradient, make_function, make_logits
from tests import laws

FUNCTIONS = ["linear", "quadratic", "cubic", "network"]


@pytest.mark.parametrize("function", FUNCTIONS)
@pytest.mark.parametrize("kind", ["uniform", "random", "peaked"])
@pytest.mark.parametrize(("latents", "codes"), [(1, 2), (2, 3), (3, 4)])
def test_it_is_autograd_of_the_enumerated_expectation(function, kind, latents, codes):
    f = make_function(function, latents, codes)
    logits = make_logits(kind, latents, codes).double()
    expected = laws.exact_gradient(f, logits[0])
    torch.testing.assert_close(exact_gradient(f, logits)[0], expected)


@pytest.mark.parametrize("function", FUNCTIONS)
def test_it_is_the_limit_of_finite_differences(function):
    f, logits = make_function(function, 2, 3), make_logits("random", 2, 3).double()
    step = 1e-5
    for number, slope in enumerate(exact_gradient(f, logits).flatten()):
        shift = torch.zeros(2, 3, dtype=torch.float64)
        shift.view(-1)[number] = step
        up, down = laws.exact_value(f, logits[0] + shift), laws.exact_value(f, logits[0] - shift)
        torch.testing.assert_close((up - down) / (2 * step), slope, rtol=1e-6, atol=1e-9)


def test_examples_and_chunks_do_not_mix(monkeypatch):
    f, logits = make_function("network", 2, 3), torch.randn(4, 2, 3).double()
    one_by_one = torch.cat([exact_gradient(f, row) for row in logits.split(1)])
    torch.testing.assert_close(exact_gradient(f, logits), one_by_one)
    monkeypatch.setattr("dvae.lab.exact.CHUNK", 5)
    torch.testing.assert_close(exact_gradient(f, logits), one_by_one)


def test_too_many_codes_are_refused_with_their_number():
    with pytest.raises(ValueError, match=r"4\^3 = 64 states, above max_states=63"):
        exact_gradient(make_function("linear", 3, 4), torch.zeros(1, 3, 4), max_states=63)


@pytest.mark.parametrize("kind", ["uniform", "random", "peaked"])
def test_logits_have_the_peaks_that_they_say(kind):
    top = make_logits(kind, 50, 4).softmax(-1).amax(-1).mean()
    low, high = {"uniform": (0.249, 0.251), "random": (0.4, 0.6), "peaked": (0.8, 0.95)}[kind]
    assert low < top < high


def test_a_seed_gives_the_same_function_and_another_seed_another():
    code = torch.rand(1, 1, 2, 3)
    values = [make_function("cubic", 2, 3, seed)(code) for seed in (0, 0, 1)]
    assert values[0] == values[1] != values[2]


@pytest.mark.parametrize("make", [make_function, make_logits])
def test_an_unknown_name_lists_those_there_are(make):
    with pytest.raises(ValueError, match=r"must be one of \w+, .*got 'flat'"):
        make("flat", 2, 3)
