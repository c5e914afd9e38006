"""Laws of the likelihoods of grey and colour pixels: they integrate or sum to one, and more."""

import math

import pytest
import torch

from dvae.likelihoods import (
    LIKELIHOODS,
    Bernoulli,
    DiscretizedLogisticMixture,
    Gaussian,
    Laplace,
    LearnedGaussian,
    LogitLaplace,
    OptimalGaussian,
)

DENSITIES = [Gaussian(0.07), LearnedGaussian(0.2), OptimalGaussian(0.3), Laplace(0.05)]
DENSITIES += [LogitLaplace(), LogitLaplace(0.01)]
MASSES = [DiscretizedLogisticMixture(1), DiscretizedLogisticMixture(4)]
KNOWN = {Bernoulli, *map(type, DENSITIES), *map(type, MASSES)}
for added in LIKELIHOODS.values():
    if added not in KNOWN and added.pixels:
        (DENSITIES if added.density else MASSES).append(added())


def name(likelihood):
    return repr(likelihood).splitlines()[0].removesuffix("(")


def params_of(likelihood, channels=1, size=1, scale=1.0):
    generator = torch.Generator().manual_seed(3)
    shape = (likelihood.params_per_channel * channels, size, size)
    return torch.randn(shape, generator=generator, dtype=torch.float64) * scale


@pytest.mark.parametrize("likelihood", DENSITIES, ids=name)
def test_a_density_integrates_to_one(likelihood):
    likelihood = likelihood.double().eval()
    low, high = -6.0, 7.0
    if isinstance(likelihood, LogitLaplace):  # the interval that its map covers
        margin = likelihood.eps / (1 - 2 * likelihood.eps)
        low, high = -margin, 1 + margin
    edges = torch.linspace(low, high, 2_000_001, dtype=torch.float64)
    x = ((edges[1:] + edges[:-1]) / 2).view(-1, 1, 1, 1)
    density = likelihood.log_prob(params_of(likelihood), x).exp()
    total = density.sum() * (high - low) / len(x)
    assert total.item() == pytest.approx(1, abs=2e-4)


@pytest.mark.parametrize("likelihood", MASSES, ids=name)
@pytest.mark.parametrize("scale", [0.3, 3.0, 10.0])
def test_a_mass_over_two_channels_sums_to_one(likelihood, scale):
    grey = torch.arange(256, dtype=torch.float64) / 255
    x = torch.cartesian_prod(grey, grey).view(-1, 2, 1, 1)
    total = likelihood.log_prob(params_of(likelihood, 2, scale=scale), x).logsumexp(0)
    assert total.item() == pytest.approx(0, abs=1e-9)


@pytest.mark.parametrize("likelihood", [*DENSITIES, *MASSES], ids=name)
@pytest.mark.parametrize("extreme", [-1e4, 0.0, 1e4])
@pytest.mark.parametrize("pixel", [0.0, 0.5, 1.0])
def test_extremes_stay_finite(likelihood, extreme, pixel):
    likelihood = likelihood.float().eval()
    shape = (2, 3 * likelihood.params_per_channel, 2, 2)
    params = torch.full(shape, extreme, requires_grad=True)
    log_px = likelihood.log_prob(params, torch.full((2, 3, 2, 2), pixel))
    log_px.sum().backward()
    assert log_px.shape == (2,)
    assert log_px.isfinite().all() and params.grad.isfinite().all()
    image = likelihood.mean(params)
    assert image.shape == (2, 3, 2, 2)
    assert ((image >= 0) & (image <= 1)).all()


@pytest.mark.parametrize("likelihood", [*DENSITIES, *MASSES], ids=name)
def test_pairs_equal_the_loop_and_leading_axes_broadcast(likelihood):
    likelihood = likelihood.double().eval()
    params = torch.stack([params_of(likelihood, 3, 4, s) for s in (0.1, 0.5, 1.0)])
    image = torch.randint(256, (5, 3, 4, 4), dtype=torch.float64) / 255
    pairs = likelihood.pairwise_log_prob(params, image)
    for s, b in [(0, 0), (2, 4), (1, 3)]:
        torch.testing.assert_close(pairs[s, b], likelihood.log_prob(params[s], image[b]))


@pytest.mark.parametrize("half", [torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("likelihood", [*DENSITIES, *MASSES, Bernoulli()], ids=name)
def test_half_precision_ends_where_nats_begin(likelihood, half):
    likelihood = likelihood.float().eval()
    params = torch.stack([params_of(likelihood, 3, 8, s) for s in (0.1, 0.5, 3.0)]).to(half)
    image = torch.randint(256, (5, 3, 8, 8)).float() / 255
    expected = likelihood.pairwise_log_prob(params.double(), image.double())
    with torch.autocast("cpu", dtype=half):
        pairs = likelihood.pairwise_log_prob(params, image)
        singles = [likelihood.log_prob(params[s], image[s]) for s in range(3)]
        means = likelihood.mean(params)
    assert pairs.dtype == singles[0].dtype == means.dtype == torch.float32
    torch.testing.assert_close(pairs.double(), expected, rtol=2e-6, atol=2e-4)
    torch.testing.assert_close(torch.stack(singles), pairs.diagonal()[:3])
    torch.testing.assert_close(means, likelihood.mean(params.float()))


@pytest.mark.parametrize("likelihood", [*DENSITIES, *MASSES], ids=name)
def test_gradients_are_those_of_finite_differences(likelihood):
    likelihood = likelihood.double().eval()
    params = params_of(likelihood, 2, 2, 0.2).requires_grad_()
    image = torch.tensor([0.0, 0.4, 0.8, 1.0], dtype=torch.float64).view(1, 2, 2).repeat(2, 1, 1)
    assert torch.autograd.gradcheck(lambda p: likelihood.log_prob(p, image), params)


def test_the_mass_of_a_level_is_the_integral_over_it():
    mixture, params = DiscretizedLogisticMixture(1), torch.zeros(3, 1, 1, dtype=torch.float64)
    params[1] = 0.13
    params[2] = -3.0
    x = torch.full((1, 1, 1), 100 / 255, dtype=torch.float64)
    upper, lower = (torch.sigmoid((x + d - 0.63) * math.exp(3)) for d in (1 / 510, -1 / 510))
    expected = (upper - lower).log().item()
    assert mixture.log_prob(params, x).item() == pytest.approx(expected, rel=1e-9)


def test_dequantized_pixels_stay_in_their_level_and_bound_the_mass():
    likelihood = LearnedGaussian(0.05)
    x = torch.arange(256).float() / 255
    spread = likelihood.dequantize(x, torch.Generator().manual_seed(0))
    assert torch.equal((spread * 256).floor(), torch.arange(256).float())
    assert MASSES[0].dequantize(x) is x
    # Jensen: the mean log-density over a level, less log 256, is below its log-mass.
    u = (torch.arange(2000, dtype=torch.float64) + 0.5) / 2000
    likelihood = Gaussian(0.01)
    log_density = likelihood.log_prob(
        torch.full((1, 1, 1), 0.4, dtype=torch.float64), ((100 + u) / 256).view(-1, 1, 1, 1)
    )
    bound = log_density.mean() - math.log(256)
    mass = (log_density.exp().mean() / 256).log()
    assert mass - 1 < bound < mass


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32, torch.float64])
def test_two_halves_of_pixel_noise_are_the_whole(dtype):
    x = (torch.arange(7 * 3 * 5 * 7) % 256 / 255).to(dtype).view(7, 3, 5, 7)
    one, other = (torch.Generator().manual_seed(1) for _ in range(2))
    whole = DENSITIES[0].dequantize(x, one)
    parts = [DENSITIES[0].dequantize(part, other) for part in x.split((1, 4, 0, 2))]
    assert torch.equal(whole, torch.cat(parts))
    # Half precision has too few digits for the noise.
    assert whole.dtype == torch.promote_types(dtype, torch.float32)


@pytest.mark.parametrize("likelihood", DENSITIES, ids=name)
def test_the_image_of_a_level_is_its_stored_pixel(likelihood):
    # Whose decoder gives the mean of the noisy pixels, its image is the one without the noise.
    x = torch.arange(256, dtype=torch.float64).view(1, 16, 16) / 255
    params = (x * 255 + 0.5) / 256
    if isinstance(likelihood, LogitLaplace):
        params = likelihood.eps + (1 - 2 * likelihood.eps) * params
        params = torch.cat([params.logit(), torch.zeros_like(params)])
    torch.testing.assert_close(likelihood.double().mean(params), x)


def test_the_optimal_variance_is_the_mean_squared_error():
    likelihood = OptimalGaussian(decay=0.9)
    generator = torch.Generator().manual_seed(0)
    image = torch.rand(64, 3, 8, 8, generator=generator)
    params = (image + 0.2 * torch.randn(image.shape, generator=generator)).requires_grad_()
    error = (params - image).square().mean()
    value = likelihood.log_prob(params, image).sum()
    torch.testing.assert_close(likelihood.variance, error.detach())
    # No other fixed variance does better, and the gradient is that of -(N D / 2) log(error).
    for factor in (0.8, 1.2):
        other = Gaussian((factor * error).sqrt().item()).log_prob(params, image).sum()
        assert other < value
    (gradient,) = torch.autograd.grad(value, params)
    (expected,) = torch.autograd.grad(-0.5 * image.numel() * error.log(), params)
    torch.testing.assert_close(gradient, expected)


def test_the_optimal_variance_of_accumulated_batches_is_that_of_the_large_one():
    whole, parts = OptimalGaussian(decay=0.5).double(), OptimalGaussian(decay=0.5).double()
    params, x = torch.randn(4, 12, 1, 2, 2).double(), torch.rand(4, 12, 1, 2, 2).double()
    for step in range(4):
        before = parts.variance.clone()
        whole.log_prob(params[step], x[step])
        with parts.accumulating():
            for p, t in zip(params[step].split(5), x[step].split(5), strict=True):
                parts.log_prob(p, t)
            if step == 2:  # left out, and taken again
                parts.skip_step()
                assert parts.variance == before and parts.updates == 2
                parts.log_prob(params[step], x[step])
        parts.step()
        torch.testing.assert_close(parts.variance, whole.variance)
        assert parts.updates == whole.updates == step + 1


def test_the_optimal_variance_rests_in_evaluation_and_travels_in_checkpoints():
    likelihood = OptimalGaussian()
    likelihood.log_prob(torch.zeros(4, 1, 2, 2), torch.ones(4, 1, 2, 2))
    other = OptimalGaussian().eval()
    other.load_state_dict(likelihood.state_dict())
    other.log_prob(torch.zeros(4, 1, 2, 2), torch.zeros(4, 1, 2, 2))
    assert other.variance == likelihood.variance == 1.0


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Gaussian(0.0), "Gaussian.sigma must be a number > 0; got 0.0"),
        (lambda: LearnedGaussian(-1.0), "LearnedGaussian.sigma must be a number > 0"),
        (lambda: OptimalGaussian(decay=1.0), r"decay must be in \[0, 1\); got 1"),
        (lambda: Laplace(0.0), "Laplace.scale must be a number > 0"),
        (lambda: LogitLaplace(0.5), r"eps must be in \(0, 0.5\); got 0.5"),
        (lambda: DiscretizedLogisticMixture(0), "components must be an integer >= 1; got 0"),
    ],
)
def test_wrong_values_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize("likelihood", [m for m in [*MASSES, Bernoulli()] if m.levels], ids=name)
@pytest.mark.parametrize("scale", [0.3, 1.0])
def test_levels_one_channel_after_another_have_the_mass_of_the_image(likelihood, scale):
    generator = torch.Generator().manual_seed(5)
    shape = (2, likelihood.params_per_channel * 3, 4, 5)
    params = torch.randn(shape, generator=generator, dtype=torch.float64) * scale
    level = torch.randint(likelihood.levels, (2, 3, 4, 5), generator=generator)
    x, total = level.double() / (likelihood.levels - 1), 0
    for channel in range(3):
        p = likelihood.level_probs(params, x[:, :channel])
        assert p.shape == (2, 4, 5, likelihood.levels) and p.min() >= 0
        torch.testing.assert_close(p.sum(-1), torch.ones(2, 4, 5).double())
        total = total + p.gather(-1, level[:, channel, ..., None]).log().sum((1, 2, 3))
    torch.testing.assert_close(total, likelihood.log_prob(params, x))
