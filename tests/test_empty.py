"""Nothing in, nothing out: a batch of no examples has a gradient of 0 and moves no statistics."""

import copy

import pytest
import torch

from dvae import functional
from dvae.bottlenecks import (
    FSQ,
    LFQ,
    VQ,
    CategoricalBottleneck,
    DistanceCodebook,
    DiVeQ,
    ProjectedCodebook,
    ResidualCodebook,
    ResidualVQ,
    RotationVQ,
    SimVQ,
    Upkeep,
)
from dvae.data import Batch
from dvae.estimators import VIMCO, PathwiseEstimator
from dvae.kernels import (
    gumbel_codebook,
    gumbel_noise,
    reinmax_codebook,
    straight_through_codebook,
)
from dvae.likelihoods import (
    Bernoulli,
    DiscretizedLogisticMixture,
    Gaussian,
    Laplace,
    LearnedGaussian,
    LogitLaplace,
    OptimalGaussian,
)
from dvae.models import ELBO, IWAE, CategoricalVAE, CodebookVAE
from dvae.models.evaluation import exact_log_px
from dvae.networks import MLP, ResNet
from dvae.priors import CategoricalPrior
from tests.estimators.catalogue import everything, name, pathwise
from tests.posteriors import bounds_of, expectation, objective_of, priced, uniform
from tests.toy import toy_trainer

SMALL = {"num_codes": 6, "code_dim": 4}
BUSY = Upkeep(kmeans=2, revive_after=1)
BOTTLENECKS = {
    "categorical": lambda: CategoricalBottleneck(3, 4),
    "plain": lambda: ProjectedCodebook(**SMALL, in_features=4, kernel="plain"),
    "blocked": lambda: ProjectedCodebook(**SMALL, in_features=4, kernel="blocked", upkeep=BUSY),
    "distance": lambda: DistanceCodebook(**SMALL, upkeep=BUSY),
    "residual code": lambda: ResidualCodebook(**SMALL, upkeep=BUSY),
    "vq": lambda: VQ(**SMALL, upkeep=BUSY),
    "rotation": lambda: RotationVQ(**SMALL),
    "diveq": lambda: DiVeQ(**SMALL, upkeep=BUSY),
    "simvq": lambda: SimVQ(**SMALL),
    "fsq": lambda: FSQ([3, 3], 4),
    "lfq": lambda: LFQ(8, 4),
    "residual": lambda: ResidualVQ(**SMALL, depth=2, upkeep=BUSY),
}
LIKELIHOODS = [
    Bernoulli,
    Gaussian,
    LearnedGaussian,
    OptimalGaussian,
    Laplace,
    LogitLaplace,
    lambda: DiscretizedLogisticMixture(2),
]
KERNELS = [gumbel_codebook, straight_through_codebook, reinmax_codebook]

of_bottlenecks = pytest.mark.parametrize("make", BOTTLENECKS.values(), ids=BOTTLENECKS)
in_both_modes = pytest.mark.parametrize("training", [True, False], ids=["training", "evaluation"])


def total(code):
    return code.flatten(2).sum(2)


def assert_no_gradient(*tensors):
    assert all(x.grad is None or not x.grad.any() for x in tensors)


@pytest.mark.parametrize("estimator", [*everything(3, 4), *everything(3, 2)], ids=name)
def test_estimators(estimator):
    codes = getattr(estimator, "num_codes", 2 if type(estimator).__name__ in "DisARM ARMS" else 4)
    before = copy.deepcopy(estimator.state_dict())
    logits = torch.zeros(0, 3, codes, requires_grad=True)
    value = estimator.train().expectation(total, logits)
    value.sum().backward()
    assert value.shape == (0,) and logits.grad.shape == logits.shape
    assert_no_gradient(*estimator.parameters())
    torch.testing.assert_close(estimator.state_dict(), before)
    if isinstance(estimator, (PathwiseEstimator, VIMCO)):
        assert estimator.bound(total, logits, 3).shape == (0,)


@in_both_modes
@pytest.mark.parametrize("shape", [(0, 4), (0, 3, 4), (3, 0, 4)])
@pytest.mark.parametrize("layer", pathwise(), ids=name)
def test_layers(layer, shape, training):
    logits = torch.zeros(shape, requires_grad=True)
    draw = layer.train(training)(logits)
    assert draw.code.shape == shape and draw.index.shape == shape[:-1]
    assert layer.train(training)(logits.movedim(-1, 0), dim=0).code.shape == (4, *shape[:-1])
    if training:
        draw.code.sum().backward()


def make_features(bottleneck, count):
    grid = () if isinstance(bottleneck, CategoricalBottleneck) else (3, 3)
    if grid:
        bottleneck.grid = grid
    return torch.randn(count, bottleneck.in_features, *grid, requires_grad=True)


@in_both_modes
@of_bottlenecks
def test_bottlenecks(make, training):
    bottleneck = make().train(training)
    features = make_features(bottleneck, 0)
    q, drawn = bottleneck(features), bottleneck(features).draw()
    for prior in (uniform(bottleneck), priced(CategoricalPrior(), bottleneck)):
        found = expectation(bottleneck, total, features, prior=prior)
        for value in (q.entropy(), found.value, found.kl, found.loss):
            assert value.shape == (0,)
        parts = (drawn.z, q.entropy(), found.value, found.kl, found.loss)
        sum(part.sum() for part in parts).backward(retain_graph=True)
        assert_no_gradient(*bottleneck.parameters(), *prior.parameters())
        assert prior.log_prob(q.mode()).shape == q.kl(prior).shape == (0,)
        assert len(prior.sample(0)) == 0
    assert q.bound(lambda z, _: total(z), 3).shape == (0,)
    index, mode = q.sample(2), q.mode()
    assert index.shape == (2, *mode.shape) and len(mode) == 0
    assert q.log_prob(index).shape == (2, 0)
    assert bottleneck.embed(mode).shape == drawn.z.shape
    assert bottleneck.embed(index).shape == (2, *drawn.z.shape)
    assert bottleneck.count(mode).sum() == 0


@of_bottlenecks
def test_an_empty_batch_before_the_first_and_in_between_leaves_the_code_book(make):
    torch.manual_seed(0)
    with_empty = make().train()
    without = copy.deepcopy(with_empty)
    none, some = make_features(with_empty, 0).detach(), make_features(without, 40).detach()
    for bottleneck, batches in ((with_empty, (none, some, none)), (without, (some,))):
        torch.manual_seed(1)
        for batch in batches:
            expectation(bottleneck, total, batch)
    found, expected = with_empty.state_dict(), without.state_dict()
    for key in found.keys() - {"idle.next_look", "idle.0.next_look", "idle.1.next_look"}:
        assert torch.equal(found[key], expected[key]), key


@in_both_modes
@pytest.mark.parametrize("make", LIKELIHOODS)
def test_likelihoods(make, training):
    likelihood = make().train(training)
    before = copy.deepcopy(likelihood.state_dict())
    params = torch.zeros(2, 0, likelihood.params_per_channel * 3, 4, 4, requires_grad=True)
    image = likelihood.dequantize(torch.zeros(0, 3, 4, 4))
    log_px = likelihood.log_prob(params, image)
    log_px.sum().backward()
    assert log_px.shape == (2, 0) and likelihood.mean(params[0]).shape == (0, 3, 4, 4)
    assert_no_gradient(*likelihood.parameters())
    torch.testing.assert_close(likelihood.state_dict(), before)
    likelihood.eval()
    for outputs, images in ((0, 5), (5, 0), (0, 0)):
        some = params.new_zeros(outputs, *params.shape[2:]), image.new_zeros(images, 3, 4, 4)
        assert likelihood.pairwise_log_prob(*some).shape == (outputs, images)


@pytest.mark.parametrize("backend", ["reference", "blocked"])
@pytest.mark.parametrize("function", KERNELS)
def test_kernels(function, backend):
    shapes = ((0, 4), (9, 4), (9,), (9, 3))
    inputs = [torch.randn(shape, requires_grad=True) for shape in shapes]
    prior = torch.zeros(9).log_softmax(0).requires_grad_()
    code, index, kl = function(*inputs, tau=0.5, seed=1, log_prior=prior, backend=backend)
    assert code.shape == (0, 3) and index.shape == kl.shape == (0,)
    (code.sum() + kl.sum()).backward()
    assert_no_gradient(*inputs, prior)
    assert gumbel_noise(1, 0, 5).shape == (0, 5)


def test_functional():
    logits, index = torch.zeros(0, 3, 4), torch.zeros(0, 3, dtype=torch.int64)
    assert functional.categorical_kl(logits, torch.zeros(4).log_softmax(0)).shape == (0, 3)
    assert functional.categorical_entropy(logits).shape == (0, 3)
    assert functional.categorical_log_prob(logits, index).shape == (0, 3)
    assert functional.squared_distance(logits, torch.zeros(5, 4)).shape == (0, 3, 5)
    assert functional.iwae_bound(torch.zeros(5, 0)).shape == (0,)
    assert functional.leave_one_out_advantage(torch.zeros(3, 0)).shape == (3, 0)
    assert functional.vimco_advantage(torch.zeros(3, 0)).shape == (3, 0)
    assert functional.count_categories(index, 4).tolist() == [0] * 4
    assert functional.batch_mean(torch.zeros(0)) == 0
    assert functional.batch_mean(torch.tensor([1.0, 3.0])) == 2


def make_model(make, objective=None):
    bottleneck = make()
    if isinstance(bottleneck, CategoricalBottleneck):
        return CategoricalVAE(MLP((1, 6, 6), hidden=(5,)), bottleneck, objective=objective)
    network = ResNet((1, 6, 6), width=8, halvings=1, blocks=1)
    return CodebookVAE(network, bottleneck, objective=objective)


@in_both_modes
@of_bottlenecks
def test_images_to_codes_and_back(make, training):
    model, image = make_model(make).train(training), torch.zeros(0, 1, 6, 6)
    index = model.encode(image)
    assert index.shape == (0, *model.index_shape)
    for found in (
        model.decode(index),
        model.reconstruct(image),
        model.reconstruct_relaxed(image),
        model.sample(0),
    ):
        assert found.shape == image.shape
    place = (0,) * len(model.index_shape)
    assert model.traverse(image, place).shape == (0, model.num_codes, 1, 6, 6)
    with torch.no_grad():
        features = model.encoder(image)
        found = bounds_of(model, image, features, 3, 10)
        assert found.elbo.shape == found.iwae.shape == (0,)
        if model.bottleneck.num_states <= 64:
            assert exact_log_px(image, model, 10).shape == (0,)


@pytest.mark.parametrize("objective", [ELBO(), ELBO(samples=3), IWAE(2)], ids=str)
def test_objectives(objective):
    model, image = make_model(BOTTLENECKS["categorical"], objective), torch.zeros(0, 1, 6, 6)
    out = objective_of(model, image)
    out.loss.backward()
    assert out.loss == 0 and out.bound.shape == out.kl.shape == out.log_px.shape == (0,)
    assert_no_gradient(*model.parameters())


class Batches:
    """Batches of the same images, cut at given sizes."""

    def __init__(self, *sizes):
        generator = torch.Generator().manual_seed(0)
        images = torch.randint(256, (sum(sizes), 1, 6, 6), generator=generator) / 255
        self.batches = [Batch(x, torch.zeros(len(x)).long()) for x in images.split(sizes)]

    def __iter__(self):
        return iter(self.batches)

    def __len__(self):
        return len(self.batches)


@pytest.mark.parametrize("stage", ["validate", "test"])
@of_bottlenecks
def test_no_metric_changes_with_batches_of_nothing(make, stage, tmp_path):
    torch.manual_seed(0)
    model = make_model(make).eval()
    results = [
        getattr(toy_trainer(tmp_path), stage)(model, Batches(*sizes), verbose=False)[0]
        for sizes in ((5, 7), (0, 5, 0, 7, 0))
    ]
    assert results[1] == pytest.approx(results[0], rel=1e-5, abs=1e-5)
