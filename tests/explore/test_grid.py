"""Grids: swatches, clicks, alternatives, painting and interpolation are the decoder's own."""

import itertools
import math

import pytest
import torch

from dvae.explore.alternatives import alternatives, window
from dvae.explore.canvas import brushed, draw_code, place_at
from dvae.explore.codes import encode
from dvae.explore.difference import difference
from dvae.explore.interpolation import between
from dvae.explore.palette import LARGEST, make_palette
from dvae.explore.swatches import Swatches
from dvae.plotting import MARKED
from tests.explore.conftest import CATEGORICAL, GRID, LEVELS, built, with_bottleneck

IMAGE = torch.rand(1, 28, 28, generator=torch.Generator().manual_seed(3))
LARGE = torch.rand(1, 40, 56, generator=torch.Generator().manual_seed(4))


@pytest.fixture(params=[GRID, LEVELS], ids=["grid", "levels"])
def grid(request):
    return built(request.param)


def test_a_swatch_is_the_middle_of_a_grid_full_of_its_code(grid):
    code = encode(grid, LARGE).code
    assert code.shape[:2] == (10, 14)
    mosaic = Swatches(grid).mosaic(code)
    assert mosaic.shape == LARGE.shape
    for row, column in ((0, 0), (9, 3), (4, 13)):
        full = code[row, column].expand(1, *grid.index_shape)
        expected = grid.decode(full)[0, :, 12:16, 12:16]
        found = mosaic[:, 4 * row : 4 * row + 4, 4 * column : 4 * column + 4]
        torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("image", [IMAGE, LARGE], ids=["own", "large"])
def test_a_click_means_the_place_whose_frame_it_hits(grid, image):
    code = encode(grid, image).code
    mosaic, depth = Swatches(grid).mosaic(code), math.prod(code.shape[2:])
    for row, column in ((0, 0), (code.shape[0] - 1, code.shape[1] - 1), (2, 5)):
        position = (row * code.shape[1] + column) * depth
        drawn = draw_code(image, mosaic, code, 0.5, {position: 0}, position)
        side = drawn.width / code.shape[1]
        framed = [
            (x, y)
            for x in range(int(side) // 4, drawn.width, int(side) // 4)
            for y in range(3, drawn.height, 8)
            if drawn.getpixel((x, y)) == tuple(bytes.fromhex(MARKED[1:]))
        ]
        x, y = int((column + 0.5) * side), int((row + 0.5) * side)
        assert place_at(x, y, image, code) == (row, column)
        assert framed and all(
            abs(a - x) <= side / 2 + 1 and abs(b - y) <= side / 2 + 1 for a, b in framed
        )
    assert place_at(-5, 1e6, image, code) == (code.shape[0] - 1, 0)


def test_the_code_covers_the_image_from_nothing_to_all():
    model = built(GRID)
    code = encode(model, IMAGE).code
    mosaic = Swatches(model).mosaic(code)
    for opacity, pixels in ((0.0, IMAGE), (1.0, mosaic)):
        drawn = draw_code(IMAGE, mosaic, code, opacity, {}, 0)
        zoom = drawn.width // 28
        # The last row of pixels of a place has neither number nor border.
        at = (5 * 4 + 3, 3 * 4 + 3)
        x, y = (int((n + 0.5) * zoom) for n in at)
        assert drawn.getpixel((x, y))[0] == pytest.approx(pixels[0, at[1], at[0]] * 255, abs=1)


def test_the_alternatives_are_the_posteriors_own_and_decoded_in_place():
    model = built(GRID, seed=1)
    encoded = encode(model, IMAGE)
    position = 2 * 7 + 3
    found = alternatives(model, encoded, encoded.code, position, 6)
    assert found.categories[0] == int(encoded.code[2, 3])
    assert sum(found.probabilities) == pytest.approx(1, abs=1e-5)
    q = model.bottleneck(encoded.features)
    for category, probability, image in zip(
        found.categories, found.probabilities, found.images, strict=True
    ):
        code = encoded.code.clone()
        code[2, 3] = category
        torch.testing.assert_close(image, model.decode(code[None])[0])
        gap = q.log_prob(code[None, None]) - q.log_prob(encoded.code[None, None])
        assert math.log(probability / found.probabilities[0]) == pytest.approx(gap.item(), abs=1e-3)
    assert found.box == (12, 8, 16, 12)


@pytest.mark.parametrize("depth", [1, 2])
def test_the_alternatives_at_a_level_are_given_what_stands_before_it(depth):
    config = with_bottleneck(GRID, "ResidualCodebook", num_codes=6, code_dim=4, depth=depth)
    model, last = built(config, seed=1), depth - 1
    encoded = encode(model, IMAGE)
    q, changed = model.bottleneck(encoded.features), encoded.code.clone()
    changed[2, 3, 0] = (changed[2, 3, 0] + 1) % 6
    for code in (encoded.code, changed):
        found = alternatives(model, encoded, code, depth * (2 * 7 + 3) + last, 6)
        codes = code.expand(6, 1, *code.shape).clone()
        codes[:, 0, 2, 3, last] = torch.tensor(found.categories)
        expected = q.log_prob(codes)[:, 0].softmax(0)
        torch.testing.assert_close(torch.tensor(found.probabilities), expected)


def test_of_a_large_image_the_alternatives_are_shown_round_the_place(grid):
    encoded = encode(grid, LARGE)
    rest = encoded.code.shape[2:]
    for row, column in ((0, 0), (5, 7), (9, 13)):
        position = (row * 14 + column) * math.prod(rest)
        found = alternatives(grid, encoded, encoded.code, position, 4)
        left, top, right, bottom = found.box
        rows, columns = window((10, 14, *rest), (row, column, *[0] * len(rest)), grid.index_shape)
        assert found.images.shape[1:] == (1, 28, 28) and right - left == bottom - top == 4
        assert (rows.start + top // 4, columns.start + left // 4) == (row, column)
        part = encoded.code[rows, columns].clone()
        part[(top // 4, left // 4, *[0] * len(rest))] = found.categories[1]
        torch.testing.assert_close(found.images[1], grid.decode(part[None])[0])


def test_without_a_posterior_the_nearest_come_first():
    model = built(LEVELS)
    encoded = encode(model, IMAGE)
    found = alternatives(model, encoded, encoded.code, 1, 6)  # of the second level
    assert found.probabilities is None and found.categories[0] == int(encoded.code[0, 0, 1])
    book = model.bottleneck.vectors()[1]
    distances = [(book[k] - book[found.categories[0]]).norm().item() for k in found.categories]
    assert distances == sorted(distances) and len(set(found.categories)) == 6


def test_the_alternatives_of_a_latent_are_its_categories():
    model = built(CATEGORICAL)
    encoded = encode(model, IMAGE)
    found = alternatives(model, encoded, encoded.code, 2, 12)
    assert sorted(found.categories) == list(range(5)) and found.box is None
    expected = model.traverse(IMAGE[None], 2, found.categories)[0]
    torch.testing.assert_close(found.images, expected)


def test_a_brush_is_a_square_that_ends_at_the_border_and_keeps_its_level():
    assert brushed((4, 5), 7, 1) == [7]
    assert brushed((4, 5), 7, 3) == [1, 2, 3, 6, 7, 8, 11, 12, 13]
    assert brushed((4, 5), 0, 3) == [0, 1, 5, 6]
    assert brushed((2, 3, 2), 11, 3) == [3, 5, 9, 11]


def test_a_palette_has_each_code_once_where_it_is_clicked(grid):
    code = encode(grid, IMAGE).code
    level = code[0, 0].numel() - 1
    palette = make_palette(Swatches(grid), code[0, 0], level, 6)
    assert sorted(palette.categories) == list(range(6))
    bright = palette.swatches.flatten(1).mean(1)
    assert torch.equal(bright, bright.sort().values)
    for category, swatch in zip(palette.categories, palette.swatches, strict=True):
        stands = code[0, 0].clone().view(-1)
        stands[level] = category  # the others at that place stay
        assert torch.allclose(Swatches(grid)(stands[None])[0], swatch, atol=1e-6)
    for n, category in enumerate(palette.categories):
        sheet = palette.draw(category)
        assert sheet.getpixel((48 * n + 2, 2)) == tuple(bytes.fromhex(MARKED[1:]))
        assert palette.at(48 * n + 24, 24) == category
    with pytest.raises(ValueError, match="no code at this place"):
        palette.at(48 * 6 + 1, 24)
    with pytest.raises(ValueError, match=f"room for {LARGEST} codes and the model has 5000"):
        make_palette(Swatches(grid), code[0, 0], 0, 5000)


def test_an_interpolation_goes_from_end_to_end_and_each_place_passes_once():
    noise = torch.Generator().manual_seed(0)
    first, last = torch.randint(9, (2, 6, 5), generator=noise)
    steps = between(first, last, 9)
    assert torch.equal(steps[0], first) and torch.equal(steps[-1], last)
    passed = (steps != first).flatten(1).sum(1).tolist()
    differ = int((first != last).sum())
    assert passed == [round(n * differ / 8) for n in range(9)]
    assert ((steps == first) | (steps == last)).all()
    for before, after in itertools.pairwise(steps):
        assert ((before != last) | (after == last)).all()
    with pytest.raises(ValueError, match="both codes must have one shape; got 6x5 and 5x6"):
        between(first, last.T, 9)


def test_a_difference_is_white_where_there_is_none_and_tells_brighter_from_darker():
    before = torch.full((3, 2, 2), 0.5)
    after = before.clone()
    assert torch.equal(difference(before, after).picture, torch.ones(3, 2, 2))
    after[:, 0, 0], after[:, 1, 1] = 0.9, 0.3
    found = difference(before, after)
    assert (found.largest, found.share) == (pytest.approx(0.4), 0.5)
    red, _, blue = found.picture
    assert red[0, 0] > blue[0, 0] and red[1, 1] < blue[1, 1]
    assert torch.equal(found.picture[:, 0, 1], torch.ones(3))
