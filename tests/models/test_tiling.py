"""Images of any size: what is cut and put together is the whole, and no tile is too large."""

import pytest
import torch

from dvae.bottlenecks import VQ, ResidualVQ
from dvae.likelihoods import Bernoulli
from dvae.models import CodebookVAE, tiling
from dvae.models.tiling import Tiling
from dvae.networks import ResNet, VQVAENet


def model_of(network, **kwargs):
    torch.manual_seed(0)
    model = CodebookVAE(network, VQ(16, 4), Bernoulli(), **kwargs)
    model.bottleneck.quantizer.initted = torch.tensor([1.0])
    return model.eval()


def local():
    """Build a model that sees no farther than a few pixels, as one without norms and attention."""
    return model_of(VQVAENet((3, 32, 32), width=8))


@pytest.fixture
def small(monkeypatch):
    monkeypatch.setattr(tiling, "_TILE", 128)
    monkeypatch.setattr(tiling, "_MARGIN", 48)


@pytest.mark.parametrize("size", [(256, 384), (32, 32), (128, 132), (160, 20), (4, 516)])
def test_tiles_are_the_whole(size, small):
    model, image = local(), torch.rand(2, 3, *size)
    with torch.no_grad():
        code = model.bottleneck(model.encoder(image)).mode()
        whole = model.likelihood.mean(model.decoder(model.bottleneck.embed(code)))
    assert torch.equal(model.encode(image), code)
    assert code.shape == (2, size[0] // 4, size[1] // 4)
    torch.testing.assert_close(model.decode(code), whole, rtol=1e-4, atol=1e-5)


def test_no_tile_is_larger_than_it_is_said_to_be(small):
    model, seen = local(), []
    model.encoder.register_forward_pre_hook(lambda m, x: seen.append(x[0].shape[-2:]))
    model.decoder.register_forward_pre_hook(
        lambda m, x: seen.append([4 * n for n in x[0].shape[-2:]])
    )
    assert model.reconstruct(torch.rand(1, 3, 256, 1024)).shape == (1, 3, 256, 1024)
    assert len(seen) > 20 and all(max(size) <= 128 for size in seen)


def test_every_pixel_is_in_a_tile_and_the_weights_leave_none_out():
    for size in range(1, 200):
        cut = Tiling(stride=2, tile=20, margin=4)
        windows = list(cut._windows(size))
        kept = [range(size)[cut._kept(w, size)] for w in windows]
        assert set().union(*kept) == set(range(size))
        total = torch.zeros(2 * size)
        for start, stop in windows:
            assert 0 < stop - start <= 20 and stop <= size
            total[2 * start : 2 * stop] += cut._ramp((start, stop), size)
        assert (total > 0.4).all()


def test_a_model_with_norms_and_several_integers_a_position_takes_any_size_too():
    network = ResNet((3, 64, 64), width=8, halvings=3, blocks=1)
    model = CodebookVAE(network, ResidualVQ(8, 4, depth=2)).eval()
    code = model.encode(torch.randint(256, (1, 3, 256, 384), dtype=torch.uint8))
    assert code.shape == (1, 32, 48, 2)
    pixels = model.decode(code)
    assert pixels.shape == (1, 3, 256, 384) and pixels.isfinite().all()


@pytest.mark.parametrize("shape", [(1, 3, 30, 32), (1, 1, 32, 32), (3, 32, 32), (1, 3, 0, 32)])
def test_what_the_network_does_not_divide_is_refused_in_one_line(shape):
    message = r"images must be \(B, C, H, W\) with H and W multiples of 4; got \("
    with pytest.raises(ValueError, match=message) as found:
        local().encode(torch.zeros(shape))
    assert "\n" not in str(found.value)


def test_images_of_other_channels_are_told_which():
    with pytest.raises(ValueError, match=r"got \(1, 1, 32, 32\): C must be 3$"):
        local().encode(torch.zeros(1, 1, 32, 32))


def test_what_is_trained_and_weighed_has_the_size_of_the_network():
    with pytest.raises(ValueError, match=r"images must be \(B, 3, 32, 32\)"):
        local().images_of(torch.zeros(1, 3, 64, 64))
