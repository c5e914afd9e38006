import pytest
import torch

from dvae.networks import MLP, DALLENet, ResNet, VQVAENet

SMALL = [
    lambda shape: VQVAENet(shape, width=8),
    lambda shape: DALLENet(shape, width=8, halvings=2, blocks=1, init_width=4),
    lambda shape: ResNet(shape, width=8, blocks=1),
]


@pytest.mark.parametrize("make", SMALL)
@pytest.mark.parametrize("shape", [(1, 28, 28), (3, 32, 32), (3, 256, 256), (3, 12, 20)])
def test_the_grid_is_what_the_encoder_gives_and_the_decoder_takes(make, shape):
    network = make(shape)
    features = network.encoder(5)(torch.rand(1, *shape))
    assert features.shape == (1, 5, *network.grid)
    assert network.grid == (shape[1] // 4, shape[2] // 4)
    params = network.decoder(7, 2)(torch.rand(1, 7, *network.grid))
    assert params.shape == (1, 2 * shape[0], *shape[1:])


@pytest.mark.parametrize("make", SMALL)
def test_an_image_does_not_see_its_neighbours_in_the_batch(make):
    torch.manual_seed(0)
    network = make((1, 28, 28))
    encoder = network.encoder(5)
    image = torch.rand(4, 1, 28, 28)
    torch.testing.assert_close(encoder(image)[:1], encoder(image[:1]), rtol=1e-4, atol=1e-5)


def test_dalle_has_the_published_number_of_parameters():
    # dall_e's own encoder and decoder with 8,192 codes: 53,786,240 and 43,829,766.
    network = DALLENet()
    with torch.device("meta"):
        pair = network.encoder(8192), network.decoder(8192, 2)
    assert network.grid == (32, 32)
    assert [sum(p.numel() for p in module.parameters()) for module in pair] == [
        53_786_240,
        43_829_766,
    ]


def test_a_vector_has_no_grid():
    assert MLP().grid == ()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: ResNet((1, 30, 28)), r"multiples of 4 \(near by: 28, 32\); got 30x28"),
        (lambda: ResNet((1, 28, 28), halvings=3), r"3 times.*multiples of 8 \(near by: 24, 32\)"),
        (lambda: VQVAENet((3, 2, 2)), r"multiples of 4 \(near by: 4\); got 2x2"),
        (lambda: DALLENet((3, 100, 64)), "multiples of 8"),
        (lambda: ResNet((3, 32, 32), width=12), "width must be a multiple of 8; got 12"),
        (lambda: DALLENet(width=6), "width must be a multiple of 4; got 6"),
        (lambda: ResNet(halvings=0), "halvings must be >= 1; got 0"),
        (lambda: VQVAENet(width=0), "width must be >= 1; got 0"),
        (lambda: VQVAENet((0, 32, 32)), r"image_shape must be .*; got \[0, 32, 32\]"),
    ],
)
def test_wrong_values_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()
