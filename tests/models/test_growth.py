"""A grown model computes what the small one did, at the same KL."""

import math

import pytest
import torch

from dvae.bottlenecks import (
    FSQ,
    CategoricalBottleneck,
    DistanceCodebook,
    ProductCodebook,
    ProjectedCodebook,
)
from dvae.likelihoods import Gaussian
from dvae.models import CategoricalVAE, CodebookVAE
from dvae.models.growth import grow
from dvae.networks import MLP, ResNet
from dvae.priors import (
    AutoregressivePrior,
    CategoricalPrior,
    MADEPrior,
    MaskedPrior,
    UniformPrior,
)
from tests.toy import toy_data, toy_trainer

PRIORS = [None, (0.5, 0.3, 0.2), "learned"]


def categorical(latents=3, codes=3, prior=None):
    return CategoricalVAE(
        network=MLP(image_shape=(1, 6, 6), hidden=(16,)),
        bottleneck=CategoricalBottleneck(latents, codes),
        prior=None if prior is None else CategoricalPrior(None if prior == "learned" else prior),
    )


def codebook(kind, codes):
    channels = {"in_features": 5} if kind is ProjectedCodebook else {}
    return CodebookVAE(
        network=ResNet((1, 8, 8), width=8, halvings=1, blocks=1),
        bottleneck=kind(codes, 4, **channels),
        prior=CategoricalPrior(),
        likelihood=Gaussian(0.3),
    )


def grown(small, large, jitter=0.0):
    large.load_state_dict(grow(small.state_dict(), large, jitter))
    return large.eval()


def shaken(model):
    """Make no weight special."""
    torch.manual_seed(0)
    for parameter in model.parameters():
        parameter.data.add_(0.3 * torch.randn_like(parameter))
    return model.eval()


def check(small, large, images, parents):
    """Compare posterior over parents, KL, prior and decoder output."""
    before, after = small.encoder(images), large.encoder(images)
    posteriors = small.bottleneck(before), large.bottleneck(after)
    torch.testing.assert_close(posteriors[0].kl(small.prior), posteriors[1].kl(large.prior))
    q, grown_q = (posterior.logits.softmax(-1) for posterior in posteriors)
    halves = grown_q.unflatten(-1, (q.shape[-1], parents))
    torch.testing.assert_close(halves.sum(-1), q)
    torch.testing.assert_close(halves, (q / parents).unsqueeze(-1).expand_as(halves))
    index = torch.randint(q.shape[-1], (50, *small.encode(images).shape[1:]))
    child = index * parents + torch.randint(parents, index.shape)
    torch.testing.assert_close(large.decode(child), small.decode(index))
    prior = small.prior.log_prob(index) - index[0].numel() * math.log(parents)
    torch.testing.assert_close(large.prior.log_prob(child), prior)


@pytest.mark.parametrize("prior", PRIORS)
@pytest.mark.parametrize("times", [2, 4])
@torch.no_grad()
def test_split_categories(prior, times):
    small = shaken(categorical(prior=prior))
    halves = (
        prior if prior in (None, "learned") else [p / times for p in prior for _ in range(times)]
    )
    large = grown(small, categorical(codes=3 * times, prior=halves))
    check(small, large, torch.rand(9, 1, 6, 6), times)


@pytest.mark.parametrize("kind", [ProjectedCodebook, DistanceCodebook])
@torch.no_grad()
def test_split_code_book(kind):
    small = shaken(codebook(kind, 6))
    large = grown(small, codebook(kind, 12))
    check(small, large, torch.rand(9, 1, 8, 8), 2)


@pytest.mark.parametrize("kind", [ProjectedCodebook, DistanceCodebook])
def test_the_halves_part_in_opposite_directions(kind):
    small = codebook(kind, 6)
    book = small.bottleneck.codebook.data
    halves = grown(small, codebook(kind, 12), 0.01).bottleneck.codebook.data.unflatten(0, (6, 2))
    torch.testing.assert_close(halves.mean(1), book)
    apart = halves.diff(dim=1).std() / 2
    assert apart.item() == pytest.approx(0.01 * book.std().item(), rel=0.5)


@pytest.mark.parametrize("prior", PRIORS)
@torch.no_grad()
def test_new_latents_cost_and_change_nothing(prior):
    small = shaken(categorical(prior=prior))
    large = grown(small, categorical(latents=5, prior=prior))
    images = torch.rand(9, 1, 6, 6)
    kl, same = (m.bottleneck(m.encoder(images)).kl(m.prior) for m in (small, large))
    torch.testing.assert_close(same, kl)
    index = torch.randint(3, (50, 5))
    torch.testing.assert_close(large.decode(index), small.decode(index[:, :3]))
    assert torch.equal(large.encode(images)[:, :3], small.encode(images))


def test_what_has_grown_learns(tmp_path):
    large = grown(shaken(categorical()), categorical(latents=4, codes=6), 0.01)
    start = large.encoder[-1].weight.detach().clone().unflatten(0, (4, 6))
    toy_trainer(tmp_path, max_steps=20).fit(large.train(), datamodule=toy_data())
    end = large.encoder[-1].weight.detach().unflatten(0, (4, 6))
    assert (end[3] != start[3]).all(0).any()  # the new latent hears the image
    twins = end[:3].unflatten(1, (3, 2))
    assert (twins[:, :, 0] != twins[:, :, 1]).any(-1).all()  # every pair has parted


def test_growing_leaves_the_small_model_and_an_equal_one_as_they_are():
    small = categorical()
    state = {name: tensor.clone() for name, tensor in small.state_dict().items()}
    for large in (categorical(4, 6), categorical()):
        new = grow(small.state_dict(), large)
    for name, tensor in state.items():
        assert torch.equal(small.state_dict()[name], tensor) and torch.equal(new[name], tensor)


@pytest.mark.parametrize(
    ("small", "large", "message"),
    [
        (categorical, lambda: categorical(2), "it does not shrink"),
        (categorical, lambda: categorical(codes=9), "num_codes must be 3, 6, 12"),
        (categorical, lambda: categorical(codes=2), "num_codes must be 3, 6, 12"),
        (
            categorical,
            lambda: CodebookVAE(ResNet((1, 8, 8), width=8, halvings=1), FSQ([3, 3], 4)),
            "got FSQ",
        ),
        (categorical, lambda: codebook(ProductCodebook, 6), "got ProductCodebook"),
        (categorical, lambda: codebook(ProjectedCodebook, 6), "it has no bottleneck.codebook"),
    ],
)
def test_what_cannot_grow(small, large, message):
    with pytest.raises(ValueError, match=message):
        grow(small().state_dict(), large())


SMALL = {"width": 8, "depth": 1, "heads": 2}


def with_prior(model, prior):
    """Put another prior into a model."""
    prior.build(model.bottleneck.index_shape, model.bottleneck.counts_shape)
    model.prior = prior
    return model


@pytest.mark.parametrize("kind", [AutoregressivePrior, MaskedPrior])
@torch.no_grad()
def test_a_prior_that_does_not_factorise_is_dropped_where_the_larger_one_is_uniform(kind):
    book = lambda codes, prior: with_prior(codebook(DistanceCodebook, codes), prior)  # noqa: E731
    for small, large, parents in (
        (with_prior(categorical(), kind(**SMALL)), categorical(codes=6), 2),
        (book(6, kind(**SMALL)), book(12, UniformPrior()), 2),
    ):
        found = grown(shaken(small), large)
        images = torch.rand(9, *small.image_shape)
        code = found.encode(images) // parents
        assert torch.equal(code, small.encode(images))
        torch.testing.assert_close(found.decode(parents * code), small.decode(code))
        length = -math.log(found.num_codes) * code[0].numel()
        torch.testing.assert_close(found.prior.log_prob(parents * code), torch.full((9,), length))


@pytest.mark.parametrize(
    ("prior", "new", "message"),
    [
        (
            AutoregressivePrior(**SMALL),
            AutoregressivePrior(**SMALL),
            "grow without it, --model.prior UniformPrior, and train one of the larger code after",
        ),
        (MADEPrior(4), UniformPrior(), "MADEPrior does not say how many codes there are"),
    ],
)
def test_a_prior_that_cannot_grow_is_said_with_what_to_do(prior, new, message):
    small, large = with_prior(categorical(), prior), with_prior(categorical(codes=6), new)
    with pytest.raises(ValueError, match=message) as error:
        grow(small.state_dict(), large)
    assert "\n" not in str(error.value)
