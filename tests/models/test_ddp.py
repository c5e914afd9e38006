"""Two and four processes are one with the large batch: gradients, and the metrics of a test."""

import pytest
import torch

from tests.models.ddp import measure, models
from tests.models.launch import ranks_of

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def alone():
    return {name: measure(model, 1) for name, model in models().items()}


@pytest.fixture(scope="module", params=[2, 4])
def ranks(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp("ranks")
    return ranks_of("tests.models.ddp", folder, request.param)


@pytest.mark.parametrize("model", ["categorical", "codebook", "prior", "prior alone", "penalised"])
def test_they_are_one_process_with_the_large_batch(model, ranks, alone):
    for what, expected in alone[model].items():
        for found in ranks:
            assert found[model][what].keys() == expected.keys()
            for name, value in expected.items():
                torch.testing.assert_close(
                    found[model][what][name],
                    value,
                    rtol=1e-3,
                    atol=1e-5 * float(value.abs().max() + 1e-3),
                    msg=lambda text, n=name: f"{n}: {text}",
                )


@pytest.mark.parametrize("model", ["categorical", "codebook", "penalised"])
def test_the_comparison_is_of_something(model, alone):
    metrics = alone[model]["metrics"]
    assert {"test/elbo", "test/kl", "test/usage", "test/perplexity"} <= metrics.keys()
    assert all(value.isfinite() for value in metrics.values())
    for part in ("encoder", "bottleneck", "decoder"):
        gradients = alone[model]["gradients"].items()
        found = [value.abs().max() > 0 for name, value in gradients if name.startswith(part)]
        # The categorical bottleneck has no parameters.
        assert any(found) or (model, part) == ("categorical", "bottleneck")


@pytest.mark.parametrize("model", ["prior", "prior alone"])
def test_the_prior_is_trained_and_measured(model, alone):
    metrics = alone[model]["metrics"]
    assert {"test/prior_bits", "test/prior_bits_per_token"} <= metrics.keys()
    assert all(value.isfinite() for value in metrics.values())
    found = {name.split(".")[0] for name, g in alone[model]["gradients"].items() if g.any()}
    assert found == ({"prior"} if model == "prior alone" else {"encoder", "decoder", "prior"})


def test_the_discriminator_is_trained(alone):
    gradients = alone["penalised"]["gradients"].items()
    assert sum(bool(g.any()) for name, g in gradients if name.startswith("objective.")) > 3
