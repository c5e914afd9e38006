"""The laws of the explorer: an edit is the decoder's own, and taking it back leaves nothing."""

import itertools
import math

import pytest
import torch

from dvae.explore import change, look, place_name, read_table, table_of
from tests.explore.conftest import CATEGORICAL, LEVELS, built


@pytest.fixture
def image():
    return torch.rand(1, 28, 28, generator=torch.Generator().manual_seed(3))


def other(model, code, position):
    return (int(code.view(-1)[position]) + 1) % model.num_codes


def test_without_changes_both_are_the_models_reconstruction(model, image):
    seen = look(model, image, {})
    assert torch.equal(seen.code, model.encode(image[None])[0])
    assert torch.equal(seen.changed, seen.code)
    torch.testing.assert_close(seen.reconstruction, model.reconstruct(image[None])[0])
    torch.testing.assert_close(seen.decoded, seen.reconstruction)
    assert seen.log_px[0] == pytest.approx(seen.log_px[1])
    assert (seen.log_q is not None) == model.bottleneck.has_posterior


def test_each_position_of_the_table_is_that_position_of_the_code(model, image):
    size = math.prod(model.index_shape)
    code = look(model, image, {}).code
    assert [c for row in table_of(code) for c in row] == code.view(-1).tolist()
    for position in {0, 1, size // 2, size - 1}:
        edits = change(model, code, {}, position, other(model, code, position))
        seen = look(model, image, edits)
        differs = (seen.changed != code).view(-1).nonzero().view(-1).tolist()
        assert differs == [position]
        torch.testing.assert_close(seen.decoded, model.decode(seen.changed[None])[0])
        assert read_table(model, code, table_of(seen.changed)) == edits


def test_a_changed_picture_is_another_and_taken_back_it_is_the_first(model, image):
    code = look(model, image, {}).code
    category = other(model, code, 0)
    edits = change(model, code, {}, 0, category)
    assert not torch.equal(look(model, image, edits).decoded, look(model, image, {}).decoded)
    assert change(model, code, edits, 0, int(code.view(-1)[0])) == {}
    assert change(model, code, edits, 1, other(model, code, 1)).keys() == {0, 1}
    assert edits == {0: category}  # what is given is not touched


def test_the_posterior_of_all_codes_sums_to_one_and_the_unchanged_is_the_most_probable(image):
    model = built(CATEGORICAL, seed=1)
    code = look(model, image, {}).code
    total, best = 0.0, -math.inf
    for values in itertools.product(range(5), repeat=4):
        edits = read_table(model, code, [values])
        log_q = look(model, image, edits).log_q[1]
        total, best = total + math.exp(log_q), max(best, log_q)
    assert total == pytest.approx(1, abs=1e-4)
    assert best == pytest.approx(look(model, image, {}).log_q[0], abs=1e-5)


def test_likelihood_is_that_of_the_decoded_picture(image):
    model = built(CATEGORICAL)
    seen = look(model, image, {0: 1, 2: 3})
    pixels = seen.decoded.double()
    expected = (image * pixels.log() + (1 - image) * (-pixels).log1p()).sum()
    assert seen.log_px[1] == pytest.approx(expected.item(), rel=1e-5)


@pytest.mark.parametrize(
    ("position", "category", "message"),
    [(4, 0, r"position must be in \[0, 4\); got 4"), (-1, 0, "got -1"), (0, 5, r"\[0, 5\); got 5")],
)
def test_what_the_code_does_not_have_is_refused(image, position, category, message):
    model = built(CATEGORICAL)
    code = look(model, image, {}).code
    for act in (
        lambda: change(model, code, {}, position, category),
        lambda: look(model, image, {position: category}),
    ):
        with pytest.raises(ValueError, match=message):
            act()


@pytest.mark.parametrize("cell", ["x", "", None, 1.5, "2.5", math.nan, math.inf, 5, -1])
def test_a_cell_that_is_no_category_is_named(image, cell):
    model = built(CATEGORICAL)
    code = look(model, image, {}).code
    table = table_of(code)
    table[0][2] = cell
    with pytest.raises(ValueError, match="latent 2: the category must be"):
        read_table(model, code, table)
    with pytest.raises(ValueError, match="1 rows of 4"):
        read_table(model, code, [table[0][:3]])


def test_places_have_names():
    assert place_name(built(CATEGORICAL), 3) == "latent 3"
    model = built(LEVELS)  # 7 by 7, two levels
    assert place_name(model, 1) == "row 0, column 0, level 1"
    assert place_name(model, 14) == "row 1, column 0, level 0"
