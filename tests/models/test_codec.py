import pytest
import torch

from dvae.bottlenecks import VQ
from dvae.models import CodebookVAE
from dvae.networks import ResNet
from tests.toy import toy_model


def grid_model():
    torch.manual_seed(0)
    return CodebookVAE(ResNet((1, 8, 8), width=8, blocks=1))


def test_a_traversal_is_the_reconstruction_where_the_code_is_as_it_was_and_elsewhere_not():
    torch.manual_seed(0)
    model = toy_model()
    image = torch.rand(4, 1, 6, 6)
    index = model.encode(image)
    pictures = model.traverse(image, 1)
    assert pictures.shape == (4, 3, 1, 6, 6)
    for b, k in ((b, k) for b in range(4) for k in range(3)):
        changed = index[b].clone()
        changed[1] = k
        torch.testing.assert_close(pictures[b, k], model.decode(changed[None])[0])
        same = torch.allclose(pictures[b, k], model.reconstruct(image)[b])
        assert same == (k == index[b, 1])
    assert torch.equal(model.encode(image), index)


def test_a_traversal_of_a_grid_changes_the_one_position():
    model = grid_model()
    image = torch.rand(2, 1, 8, 8)
    assert model.index_shape == (2, 2)
    index = model.encode(image)
    pictures = model.traverse(image, (1, 0), [5, 500, 5])
    assert pictures.shape == (2, 3, 1, 8, 8)
    torch.testing.assert_close(pictures[:, 0], pictures[:, 2])
    index[:, 1, 0] = 500
    torch.testing.assert_close(pictures[:, 1], model.decode(index))


def test_a_quantizer_is_traversed_too():
    model = CodebookVAE(ResNet((1, 8, 8), width=8, blocks=1), VQ(6, 4))
    assert model.traverse(torch.rand(2, 1, 8, 8), (0, 1)).shape == (2, 6, 1, 8, 8)


@pytest.mark.parametrize(
    ("latent", "categories", "message"),
    [
        (3, None, r"place in a code of shape \(3,\).*got 3"),
        (-1, None, r"place in a code.*got -1"),
        ((0, 1), None, r"place in a code.*got \(0, 1\)"),
        (0, [0, 3], r"categories must be integers in \[0, 3\); got \[0, 3\]"),
        (0, [-1], r"in \[0, 3\); got \[-1\]"),
        (0, [], r"in \[0, 3\); got \[\]"),
    ],
)
def test_what_is_not_there_cannot_be_traversed(latent, categories, message):
    with pytest.raises(ValueError, match=message):
        toy_model().traverse(torch.rand(1, 1, 6, 6), latent, categories)
