"""Where codes are too many to visit the reference is sampled: without bias, its noise known."""

import csv
import math

import pytest
import torch

import dvae.lab.__main__
from dvae.estimators import StraightThrough
from dvae.lab import exact_gradient, make_function, make_logits, measure, reference_gradient
from dvae.lab.problem import vae_problem
from dvae.lab.reference import sampled_gradient
from dvae.models import CategoricalVAE
from tests.laws import assert_mean
from tests.toy import toy_model


def problems():
    for function, kind in (("network", "random"), ("cubic", "peaked")):
        logits = torch.cat([make_logits(kind, 3, 4, seed) for seed in (1, 2)]).double()
        yield make_function(function, 3, 4), logits
    problem = vae_problem(toy_model().eval(), torch.rand(3, 1, 6, 6), "toy")
    yield problem.f, problem.logits


@pytest.mark.parametrize("number", range(3))
def test_the_sampled_reference_is_the_exact_gradient_within_its_own_noise(number):
    f, logits = list(problems())[number]
    exact = exact_gradient(f, logits).double()
    assert_mean(sampled_gradient(f, logits, 32 * 40).blocks, exact)
    found = [sampled_gradient(f, logits, 64) for _ in range(100)]
    distance = torch.stack([(one.gradient - exact).square().sum() for one in found])
    assert_mean(distance - torch.tensor([one.noise for one in found]), 0.0)
    assert distance.mean() > 0


def test_it_is_exact_where_all_codes_can_be_visited_and_says_which_it_is():
    f, logits = next(problems())
    visited, drawn = reference_gradient(f, logits), reference_gradient(f, logits, 64, max_states=63)
    assert str(visited) == "exact, every code visited" and visited.noise == 0
    assert torch.equal(visited.gradient, exact_gradient(f, logits).double())
    assert "local expectation gradients of 64 draws" in str(drawn) and drawn.noise > 0
    one = f, logits[:, :1]  # the others of an only latent are none: nothing is left to draw
    f_one = make_function("network", 1, 4)
    found = sampled_gradient(f_one, one[1], 64)
    torch.testing.assert_close(found.gradient, exact_gradient(f_one, one[1]))


def test_bias_is_the_same_against_either_reference_and_its_error_is_known():
    f, logits = next(problems())
    expected = measure(StraightThrough(), f, logits, 200_000).bias_squared
    found = [
        measure(StraightThrough(), f, logits, 320, exact=sampled_gradient(f, logits, 64))
        for _ in range(60)
    ]
    squares = torch.tensor([one.bias_squared for one in found])
    assert_mean(squares, expected)
    stated = torch.tensor([one.bias_squared_error for one in found]).square().mean().sqrt()
    assert 0.7 < stated / squares.std() < 1.7
    # The reference is noisy enough that whoever forgot it would see a bias that is not there.
    assert found[0].reference_noise > 0
    norm = exact_gradient(f, logits).square().sum(dtype=torch.float64) / len(logits)
    assert_mean(torch.tensor([one.exact_norm**2 for one in found]), norm)


@pytest.mark.usefixtures("quick")
def test_the_default_model_is_measured(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(dvae.lab.__main__, "load", lambda path: CategoricalVAE())
    args = ["--ckpt", "best.ckpt", "--images", "2", "--draws", "3", "--taus", "0.7"]
    args += ["--reference_draws", "64", "--out", str(tmp_path)]
    assert dvae.lab.__main__.main(args) == 0
    reference = "local expectation gradients of 64 draws"
    assert reference in capsys.readouterr().out
    assert reference in (tmp_path / "results.md").read_text()
    with (tmp_path / "results.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    names = {row["estimator"] for row in rows}
    assert {"GumbelSoftmax", "RLOO", "StraightThrough"} <= names
    for row in rows:
        assert row["reference"].startswith(reference) and math.isfinite(float(row["variance"]))


def test_too_few_draws_of_the_reference_are_refused(capsys):
    assert dvae.lab.__main__.main(["--ckpt", "no.ckpt", "--reference_draws", "63"]) == 2
    assert "--reference_draws must be an integer >= 64; got 63" in capsys.readouterr().err
