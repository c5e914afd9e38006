import pytest
import torch

from dvae.networks import MLP, DALLENet, ResNet, VQVAENet
from dvae.networks.conv import Attention

SMALL = [
    lambda shape: VQVAENet(shape, width=8),
    lambda shape: DALLENet(shape, width=8, halvings=2, blocks=1, init_width=4),
    lambda shape: ResNet(shape, width=8, blocks=1),
    lambda shape: ResNet(shape, width=8, blocks=1, attention=True, checkpointing=True),
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


def gradients(checkpointing, attention=True):
    torch.manual_seed(0)
    network = ResNet((3, 16, 16), 16, blocks=2, attention=attention, checkpointing=checkpointing)
    encoder, decoder = network.encoder(5), network.decoder(5, 1)
    for parameter in (*encoder.parameters(), *decoder.parameters()):
        parameter.data += 0.02 * torch.randn_like(parameter)  # some layers begin with 0
    torch.manual_seed(1)
    kept = []
    with torch.autograd.graph.saved_tensors_hooks(
        lambda x: kept.append(x.numel()) or x, lambda x: x
    ):
        out = decoder(encoder(torch.rand(2, 3, 16, 16)))
    out.square().sum().backward()
    return [p.grad for p in (*encoder.parameters(), *decoder.parameters())], sum(kept), encoder


def test_computed_again_gradients_are_the_same_to_the_bit_and_less_is_kept():
    ours, kept, encoder = gradients(True)
    plain, kept_by_all, other = gradients(False)
    assert all(map(torch.equal, ours, plain)) and all(g.any() for g in ours)
    assert kept < 0.5 * kept_by_all
    assert encoder.state_dict().keys() == other.state_dict().keys()


def test_attention_sees_the_whole_grid_and_begins_as_nothing():
    torch.manual_seed(0)
    x = torch.randn(2, 16, 5, 7)
    layer = Attention(16, 2)
    assert not layer(x).any()
    torch.nn.init.normal_(layer.outward.weight)
    torch.nn.init.normal_(layer.outward.bias)
    # Against the formula, position by position.
    q, k, v = layer.inward(x).view(2, 3, 2, 8, 35).unbind(1)
    weights = torch.einsum("bhci,bhcj->bhij", q, k).div(8**0.5).softmax(-1)
    found = torch.einsum("bhij,bhcj->bhci", weights, v).reshape(2, 16, 5, 7)
    torch.testing.assert_close(layer(x), layer.outward(found), rtol=1e-4, atol=1e-5)


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
