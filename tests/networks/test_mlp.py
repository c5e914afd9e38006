"""The perceptron: widths, activations, and a pair that mirrors each other."""

import pytest
import torch
from torch import nn

from dvae.networks import MLP


def kinds(network):
    return [type(layer) for layer in network if not isinstance(layer, nn.Flatten | nn.Unflatten)]


def test_the_decoder_mirrors_the_encoder():
    network = MLP(image_shape=(3, 4, 5), hidden=(7, 6))
    images = torch.rand(2, 3, 4, 5)
    code = network.encoder(8)(images)
    assert code.shape == (2, 8)
    assert network.decoder(8, 2)(code).shape == (2, 6, 4, 5)
    hidden = [nn.Linear, nn.BatchNorm1d, nn.GELU]
    assert kinds(network.encoder(8)) == [*hidden, *hidden, nn.Linear]
    assert kinds(network.decoder(8, 2)) == [*hidden, *hidden, nn.Linear]


@pytest.mark.parametrize("slope", [0.0, 0.2])
def test_a_slope_makes_the_network_piecewise_linear(slope):
    network = MLP(image_shape=(1, 1, 2), hidden=(4,), norm="none", negative_slope=slope)
    encoder = network.encoder(3)
    for layer in encoder:
        if isinstance(layer, nn.Linear):
            nn.init.zeros_(layer.bias)
    x = torch.randn(5, 1, 1, 2)
    # Homogeneous of degree one; and f(x) + f(-x) is (1 - slope) of the layers with absolute values.
    torch.testing.assert_close(encoder(3 * x), 3 * encoder(x))
    first, last = encoder[1], encoder[3]
    absolute = last(first(x.flatten(1)).abs())
    torch.testing.assert_close(encoder(x) + encoder(-x), (1 - slope) * absolute)


def test_an_encoder_that_centers_sees_images_less_the_mean_of_all_training_batches():
    encoder = MLP(image_shape=(2, 3, 4), hidden=(5,), norm="none", center=True).encoder(8)
    plain = encoder[1:]
    batches = [torch.rand(6, 2, 3, 4) + number for number in range(3)]
    for batch in batches:
        encoder(batch)
    image = torch.rand(2, 2, 3, 4)
    centered = image - torch.cat(batches).mean(0)
    torch.testing.assert_close(encoder.eval()(image), plain(centered))
    encoder(image)
    torch.testing.assert_close(encoder(image), plain(centered))  # evaluation changes nothing


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"negative_slope": 1.0}, "negative_slope"),
        ({"negative_slope": -0.1}, "negative_slope"),
        ({"hidden": (3, 0)}, "hidden"),
        ({"decoder_hidden": (0,)}, "decoder_hidden"),
        ({"norm": "layer"}, "norm"),
    ],
)
def test_a_wrong_value_is_named(settings, message):
    with pytest.raises(ValueError, match=message):
        MLP(**settings)
