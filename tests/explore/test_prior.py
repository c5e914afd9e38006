"""What the prior draws in the explorer: the model's own samples, and a region given the rest."""

import math

import pytest
import torch

from dvae.explore import Explorer, Gallery, Snapshot
from dvae.explore.prior import COUNT, Asked, can_redraw, in_raster_order, redraw, region, samples
from dvae.models.samples import sample_name
from dvae.priors import UniformPrior
from tests.explore.conftest import PRIORS, built

IMAGE = torch.rand(1, 28, 28, generator=torch.Generator().manual_seed(3))


def explorer_of(model):
    gallery = Gallery("one", 1, lambda number: (IMAGE, "an image"), lambda path: IMAGE)
    return Explorer([Snapshot("a.ckpt", 0, {}, model)], gallery)


@pytest.fixture(params=PRIORS)
def model(request):
    return built(PRIORS[request.param])


def test_what_is_drawn_are_the_models_samples(model):
    explorer = explorer_of(model)
    classes = model.prior.num_classes > 0
    for asked, how in (
        ((1.0,), {}),
        ((0.7, -1, 2.0), {"temperature": 0.7}),  # guidance needs a class
        *[((0.7, 2, 1.5), {"temperature": 0.7, "label": 2, "guidance": 1.5})] * classes,
    ):
        torch.manual_seed(1)
        found = explorer.draw(explorer.start(), *asked)
        torch.manual_seed(1)
        assert torch.equal(found, model.sample(COUNT, **how))
    assert not torch.equal(samples(model, Asked()), samples(model, Asked()))


def test_a_region_is_redrawn_as_changes_that_can_be_taken_back(model):
    explorer = explorer_of(model)
    start = explorer.pick_position(explorer.start(), 1)
    torch.manual_seed(1)
    size = math.prod(model.index_shape)
    last = size // 2
    changed = explorer.redraw(start, last, 1.5)
    where = region(model, 1, last).view(-1)
    assert changed.edits and all(where[place] for place in changed.edits)
    assert torch.equal(
        explorer.look(changed).changed.view(-1)[~where], explorer.look(start).code.view(-1)[~where]
    )
    # A second one is drawn given the first, which stays where it is not redrawn.
    fresh = explorer.redraw(explorer.pick_position(changed, size - 1), size - 1, 1.5)
    kept = region(model, size - 1, size - 1).view(-1)
    assert {p: c for p, c in fresh.edits.items() if not kept[p]} == {
        p: c for p, c in changed.edits.items() if not kept[p]
    }
    assert explorer.take_back(fresh).edits == {}


def test_a_redrawn_code_is_what_the_model_completes(model):
    code = model.encode(IMAGE[None])[0]
    torch.manual_seed(2)
    found = redraw(model, code, 1, 3, Asked(0.8))
    torch.manual_seed(2)
    expected = model.complete(IMAGE[None], region(model, 1, 3), temperature=0.8)[0]
    torch.testing.assert_close(model.decode(found[None])[0], expected)


def test_a_region_is_the_box_between_two_corners_or_all_from_one_on(model):
    shape = model.index_shape
    size = math.prod(shape)
    for first, last in ((0, 0), (1, size - 1), (size - 2, 2)):
        mask = region(model, first, last)
        places = torch.cartesian_prod(*map(torch.arange, shape)).view(size, -1)
        ends = places[[first, last]]
        low, high = ends.amin(0), ends.amax(0)
        box = ((places >= low) & (places <= high)).all(1)
        expected = torch.arange(size) >= first if in_raster_order(model) else box
        assert torch.equal(mask.view(-1), expected)
    with pytest.raises(ValueError, match=rf"position must be in \[0, {size}\); got {size}"):
        region(model, 0, size)


def test_a_prior_that_cannot_fill_in_is_not_asked_to():
    class Blind(UniformPrior):
        complete = UniformPrior.__mro__[2].complete

    model = built(PRIORS["uniform"])
    assert can_redraw(model)
    model.prior.__class__ = Blind
    assert not can_redraw(model)


def test_independent_codes_of_a_grid_are_called_so():
    names = {name: sample_name(built(config)) for name, config in PRIORS.items()}
    independent = {name for name, title in names.items() if title == "independent uniform codes"}
    assert independent == {"uniform", "levels"}
